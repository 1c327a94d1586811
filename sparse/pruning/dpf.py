"""Dynamic pruning with feedback: the dense weights learn from gradients at the pruned ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cascadenet.sparse.pruning.masks import Prunable
from cascadenet.sparse.pruning.methods import Data, Method, ramp_steps
from cascadenet.sparse.pruning.network import Network
from cascadenet.sparse.pruning.schedules import cubic_sparsity


class Reallocation(NamedTuple):
    """What one choice of the mask did.

    Attributes
    ----------
    step : int
    target, sparsity : float
        Asked for, and reached, of the prunable weights.
    flips, revived : int
        Weights whose mask changed, and those of them that came back.
    pruning_error : float
        ``||w - w̃||²`` over the prunable weights, w̃ the pruned ones.
    delta : float
        The same over ``||w||²``.
    densities : tuple of float
        Of every layer.
    """

    step: int
    target: float
    sparsity: float
    flips: int
    revived: int
    pruning_error: float
    delta: float
    densities: tuple[float, ...]


class Feedback(Method):
    """Dynamic pruning with feedback (DPF).

    Parameters
    ----------
    sparsity : float
    period : int
        Steps between re-allocations of the mask.
    ramp : (float, float)
        Shares of the training at which the sparsity begins and ends to rise; cubic in between.
    reallocate_after_ramp : bool
        Whether the mask still changes once the sparsity is reached.
    freeze_at : float
        Share of the training from which the mask is fixed.
    feedback : float
        Share of the gradient that removed weights receive; 1 is the published method, 0 lets
        them only decay.
    **options
        Of `Prunable`.

    Attributes
    ----------
    history : list of Reallocation
    flips : numpy.ndarray of int64, shape (d,)
        How often the mask of each parameter has changed.

    Notes
    -----
    With dense weights w, mask m and the gradient g at ``m w``, a step is ``w -= lr g``: the pruning
    error ``w - m w`` is kept rather than thrown away, so that a removed weight may come back.

    References
    ----------
    Lin, Stich, Barba, Dmitriev & Jaggi, "Dynamic Model Pruning with Feedback", ICLR 2020
    (arXiv 2006.07253), algorithm 1.
    """

    name = "dpf"

    def __init__(
        self,
        sparsity: float,
        *,
        period: int = 16,
        ramp: tuple[float, float] = (0.0, 0.7),
        reallocate_after_ramp: bool = True,
        freeze_at: float = 1.0,
        feedback: float = 1.0,
        **options: object,
    ) -> None:
        super().__init__()
        self.target, self.period, self.ramp = sparsity, period, ramp
        self.reallocate_after_ramp, self.freeze_at = reallocate_after_ramp, freeze_at
        self.feedback, self.options = feedback, options
        self.history: list[Reallocation] = []

    def start(self, network: Network, total: int, data: Data, rng: np.random.Generator) -> None:
        """Begin a training: see `Method.start`."""
        super().start(network, total, data, rng)
        self.prunable = Prunable(network, **self.options)
        self.begin, self.end, self.period = ramp_steps(self.ramp, self.period, total)
        self.flips = np.zeros(network.parameters.size, np.int64)
        first = np.ones(network.parameters.size, bool) if self.mask is None else self.mask
        self.initial = self.prunable.sparsity(first)
        self._masked = np.empty_like(network.parameters)
        self._set(first)

    def before(self, step: int) -> None:
        """Choose the mask, and compute under it."""
        if step % self.period == 0 and self._may_change(step):
            self._reallocate(step, self._planned(step))
        np.multiply(self.network.parameters, self._factor, out=self._masked)
        self.network.use(self._masked)

    def after(self, step: int) -> None:
        """Change the gradient that has just been written."""
        if self.feedback != 1:
            self.network.gradient *= self._received

    def settle(self, *, last: bool = False) -> None:
        """See `Method.settle`."""
        if last and not self.complete(self.total):
            self._reallocate(self.total, self.target)
        np.multiply(self.network.parameters, self._factor, out=self._masked)
        self.network.use(self._masked)

    def complete(self, step: int) -> bool:
        """See `Method.complete`."""
        done = self.history and self.history[-1].target >= self.target
        return bool(done) and step >= self.end

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """See `Method.restore`."""
        self._set(arrays["mask"].copy())
        self.settle()

    def _planned(self, step: int) -> float:
        return cubic_sparsity(step, self.begin, self.end, self.target, self.initial)

    def _may_change(self, step: int) -> bool:
        if self.history and self.history[-1].target >= self.target:
            return self.reallocate_after_ramp and step < self.freeze_at * self.total
        return True

    def _set(self, mask: np.ndarray) -> None:
        self.mask = mask
        self._factor = mask.astype(self.network.dtype)
        if self.feedback != 1:
            self._received = np.where(mask, 1, self.feedback).astype(self.network.dtype)

    def _reallocate(self, step: int, target: float) -> None:
        w = self.network.parameters
        mask = self.prunable.mask(np.abs(w), target)
        changed = mask != self.mask
        self.flips += changed
        size = self.prunable.size
        squares = np.square(w[:size], dtype=np.float64)
        total = float(squares.sum())
        error = float(squares[~mask[:size]].sum())
        self.history.append(
            Reallocation(
                step=step,
                target=target,
                sparsity=self.prunable.sparsity(mask),
                flips=int(np.count_nonzero(changed[:size])),
                revived=int(np.count_nonzero(changed[:size] & mask[:size])),
                pruning_error=error,
                delta=error / total if total > 0 else 0.0,
                densities=tuple(self.prunable.densities(mask).tolist()),
            )
        )
        self._set(mask)
