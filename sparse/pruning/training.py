"""The training loop that all methods share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cascadenet.sparse.pruning.methods import Data, Method
from cascadenet.sparse.pruning.network import Network
from cascadenet.sparse.pruning.optimisers import Optimiser
from cascadenet.sparse.pruning.schedules import learning_rate as rate_at

FORGOTTEN = 0.98  # of the loss of a constant: a network that learned and is back here has diverged
LEARNED = 0.6
LOST_EPOCHS, LOST_STEPS = 3, 200  # both, before a training is given up


class DivergenceError(ArithmeticError):
    """Training has lost what it had learned, or its numbers are no longer finite."""


class Epoch(NamedTuple):
    """One pass over the data.

    Attributes
    ----------
    loss : float
        Mean training loss over the epoch.
    sparsity : float
        Share of all weights removed at its end.
    learning_rate : float
        Of the last step.
    validation_loss : float
        nan without validation data.
    """

    epoch: int
    loss: float
    sparsity: float
    learning_rate: float
    validation_loss: float


def train(
    network: Network,
    x: np.ndarray,
    y: np.ndarray,
    *,
    optimiser: Optimiser,
    epochs: int,
    learning_rate: float,
    schedule: str = "cosine",
    batch_size: int = 128,
    method: Method | None = None,
    sample_weight: np.ndarray | None = None,
    validation: Data | None = None,
    patience: int | None = None,
    clip_norm: float | None = None,
    warmup: float = 0.0,
    milestones: Sequence[float] = (0.5, 0.75),
    factor: float = 0.1,
    seed: int | np.random.Generator = 0,
    first_step: int = 0,
    total_steps: int | None = None,
    verbose: bool = False,
) -> list[Epoch]:
    """Train a network in place.

    Parameters
    ----------
    network : Network
    x : numpy.ndarray, shape (n, features)
        Of the network's dtype.
    y : numpy.ndarray
        int64 (n,) classes, or targets (n, n_out) of the network's dtype.
    optimiser : SGD or Adam
        Its state is used and left, so that training can go on.
    epochs : int
        Passes over the data, each in an order of its own, in batches of almost equal sizes.
    learning_rate, schedule, warmup, milestones, factor
        See `cascadenet.sparse.pruning.schedules.learning_rate`.
    method : Method, optional
        How to prune; dense by default. It must be started where ``first_step`` is not 0.
    sample_weight : numpy.ndarray, shape (n,), optional
        With a mean of 1, of the network's dtype.
    validation : (x, y, weight or None), optional
        Judged after every epoch.
    patience : int, optional
        Stop after so many epochs without a better validation loss, not counting those before the
        final sparsity, and go back to the best.
    clip_norm : float, optional
        Longest gradient; longer ones are scaled down.
    seed : int or numpy.random.Generator
        Of the order of the samples, and of the method.
    first_step, total_steps : int
        Where this training stands in a longer one.
    verbose : bool
        Whether to show a progress bar with loss and sparsity.

    Returns
    -------
    list of Epoch

    Raises
    ------
    DivergenceError
    """
    order_rng, method_rng = np.random.default_rng(seed).spawn(2)
    bounds = batch_bounds(x.shape[0], batch_size)
    total = total_steps or epochs * (len(bounds) - 1)
    method, data = method or Method(), (x, y, sample_weight)
    method.optimiser = optimiser
    network.use(network.parameters)  # it may have predicted with others in between
    if first_step == 0:
        method.start(network, total, data, method_rng)
    else:
        method.settle()
    watch = _Watch(network, method, y, sample_weight, validation, patience, learning_rate)

    def rate(step: int) -> float:
        return rate_at(
            schedule, learning_rate, step, total,
            warmup=warmup, milestones=milestones, factor=factor,
        )  # fmt: skip

    loop = _Loop(network, method, optimiser, watch, data, bounds, rate, clip_norm)
    # a diverging training is told by its loss, not by warnings on the way
    quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")
    with _Progress(epochs, verbose) as bar, quiet:
        return loop.run(epochs, first_step, total, order_rng, bar)


@dataclass
class _Loop:
    """A training that is all set up."""

    network: Network
    method: Method
    optimiser: Optimiser
    watch: _Watch
    data: Data
    bounds: np.ndarray
    rate: Callable[[int], float]
    clip_norm: float | None

    def run(
        self, epochs: int, step: int, total: int, rng: np.random.Generator, bar: _Progress
    ) -> list[Epoch]:
        """Passes over the data, from ``step`` of ``total`` on."""
        history: list[Epoch] = []
        for epoch in range(epochs):
            loss = self._pass(step, rng) / self.data[0].shape[0]
            step += len(self.bounds) - 1
            self.method.settle()
            held_out = self.watch.validation_loss()
            rate = self.rate(step - 1)
            history.append(Epoch(epoch, loss, self.method.sparsity, rate, held_out))
            bar.update(history[-1])
            self.watch.remembers(loss, step, last=epoch == epochs - 1)
            if self.watch.enough(held_out, step):
                break
        self.watch.back_to_best()
        self.method.settle(last=step >= total or self.watch.stopped)
        return history

    def _pass(self, step: int, rng: np.random.Generator) -> float:
        """One pass over the data; the sum of the losses of all samples."""
        network, total = self.network, 0.0
        for batch in _batches(self.data, self.bounds, rng):
            self.method.before(step)
            loss = network.loss_and_gradient(*batch)
            self.watch.finite(loss, step)
            self.method.after(step)
            if self.clip_norm is not None:
                _clip(network.gradient, self.clip_norm)
            self.optimiser.step(
                network.parameters, network.gradient, self.rate(step), network.n_weights
            )
            total += loss * batch[0].shape[0]
            step += 1
        return total


def batch_bounds(n: int, batch_size: int) -> np.ndarray:
    """Bounds of the fewest batches of at most ``batch_size`` rows, sizes equal up to one."""
    count = max(math.ceil(n / batch_size), 1)
    return np.linspace(0, n, count + 1).round().astype(np.int64)


def _batches(data: Data, bounds: np.ndarray, rng: np.random.Generator) -> Iterator[Data]:
    x, y, weight = data
    order = rng.permutation(x.shape[0])
    held = np.empty((int(np.diff(bounds).max()), x.shape[1]), x.dtype)
    for start, stop in itertools.pairwise(bounds):
        rows = order[start:stop]
        batch = np.take(x, rows, axis=0, out=held[: rows.size], mode="clip")
        yield batch, y[rows], None if weight is None else weight[rows]


def _clip(gradient: np.ndarray, longest: float) -> None:
    length = math.sqrt(float(gradient @ gradient))
    if length > longest:
        gradient *= longest / length


class _Watch:
    """Looks after a training: divergence, and the best epoch so far."""

    def __init__(self, network, method, y, weight, validation, patience, rate) -> None:
        self.network, self.method = network, method
        self.validation, self.patience, self.rate = validation, patience, rate
        self.constant = constant_loss(network.loss, y, weight)
        self.least, self.best, self.waited = math.inf, math.inf, 0
        self.good, self.bad = 0, 0
        self.kept: tuple[dict, dict] | None = None
        self.stopped = False

    def finite(self, loss: float, step: int) -> None:
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss}", step)

    def remembers(self, loss: float, step: int, *, last: bool) -> None:
        """Note an epoch's loss; one bad epoch may be a passing oscillation, many are not."""
        self.least = min(self.least, loss)
        if (
            self.constant == 0
            or self.least > LEARNED * self.constant
            or loss < FORGOTTEN * self.constant
        ):
            self.good, self.bad = step, 0
            return
        self.bad += 1
        if last or (self.bad >= LOST_EPOCHS and step - self.good >= LOST_STEPS):
            text = f"the loss was {self.least:.3g} and is {loss:.3g}, that of a constant"
            raise self._diverged(text, step)

    def _diverged(self, what: str, step: int) -> DivergenceError:
        return DivergenceError(
            f"training diverged at step {step}: {what}. Lower learning_rate (now {self.rate:g}), "
            "let the sparsity rise over a longer ramp, lower feedback if it is 1, or set clip_norm"
        )

    def validation_loss(self) -> float:
        return math.nan if self.validation is None else self.network.mean_loss(*self.validation)

    def enough(self, loss: float, step: int) -> bool:
        if self.patience is None or not self.method.complete(step):
            return False
        if loss < self.best:
            self.best, self.waited = loss, 0
            self.kept = (self.network.state(), self.method.snapshot())
            return False
        self.waited += 1
        self.stopped = self.waited >= self.patience
        return self.stopped

    def back_to_best(self) -> None:
        if self.kept is not None:
            self.network.set_state(self.kept[0])
            self.method.restore(self.kept[1])


def constant_loss(loss: str, y: np.ndarray, weight: np.ndarray | None) -> float:
    """Loss of the best constant prediction."""
    weight = np.ones(y.shape[0]) if weight is None else weight.astype(np.float64)
    if loss == "squared":
        centre = np.average(y, axis=0, weights=weight)
        return float(weight @ (0.5 * np.square(y - centre).sum(axis=1)) / y.shape[0])
    share = np.bincount(y, weights=weight) / weight.sum()
    share = share[share > 0]
    return float(-(share @ np.log(share)))


class _Progress:
    """A bar over epochs, where one is wanted."""

    def __init__(self, epochs: int, verbose: bool) -> None:
        self._bar = None
        if verbose:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=epochs, desc="training", unit="epoch")

    def __enter__(self) -> _Progress:
        return self

    def update(self, epoch: Epoch) -> None:
        if self._bar is not None:
            shown = {"loss": f"{epoch.loss:.4f}", "sparsity": f"{epoch.sparsity:.1%}"}
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
