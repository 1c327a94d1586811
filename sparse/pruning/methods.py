"""Pruning methods as what happens before and after the gradient of every step.

`train` calls ``start`` once, then ``before``, the passes and ``after`` for every step, and
``settle`` where the network must be as it predicts: after an epoch, and at the end.
"""

from __future__ import annotations

import numpy as np

from cascadenet.sparse.pruning.masks import Prunable
from cascadenet.sparse.pruning.network import Network
from cascadenet.sparse.pruning.optimisers import Optimiser
from cascadenet.sparse.pruning.schedules import cubic_sparsity

# inputs, targets and sample weights, as `train` has them
Data = tuple[np.ndarray, np.ndarray, np.ndarray | None]
RAMP_UPDATES = 20  # a short training re-allocates more often, so that its ramp has so many steps


class Method:
    """Dense training: no weight is ever removed. The base of the pruning methods.

    Attributes
    ----------
    mask : numpy.ndarray of bool, shape (d,), or None
        Over all parameters; None where nothing is masked yet.
    optimiser : Optimiser or None
        Of the training; `train` sets it.
    """

    name = "dense"

    def __init__(self) -> None:
        self.mask: np.ndarray | None = None
        self.network: Network | None = None
        self.optimiser: Optimiser | None = None
        self.total = 0

    def start(
        self,
        network: Network,
        total: int,
        data: Data,
        rng: np.random.Generator,
    ) -> None:
        """Begin a training.

        Parameters
        ----------
        network : Network
        total : int
            Steps that are planned.
        data : (x, y, weight)
            Training data, for methods that look at them first.
        rng : numpy.random.Generator
        """
        self.network, self.total = network, total

    def before(self, step: int) -> None:
        """Choose what the network computes with."""

    def after(self, step: int) -> None:
        """Change the gradient that has just been written."""

    def settle(self, *, last: bool = False) -> None:
        """Make the network compute as it predicts.

        Parameters
        ----------
        last : bool
            Training is over: the final sparsity is due.
        """

    def complete(self, step: int) -> bool:
        """Whether the sparsity is the final one."""
        return True

    def tuning(self) -> Method:
        """The method of a further training under the mask as it is."""
        return Fixed(self.mask)

    def snapshot(self) -> dict[str, np.ndarray]:
        """Arrays that `restore` needs to predict as now."""
        return {} if self.mask is None else {"mask": self.mask.copy()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go back to a snapshot; the network's parameters are back already."""
        if "mask" in arrays:
            self.mask = arrays["mask"].copy()
            self.settle()

    @property
    def sparsity(self) -> float:
        """Share of all weights that is removed now."""
        if self.mask is None or self.network is None:
            return 0.0
        n = self.network.n_weights
        return 1 - int(np.count_nonzero(self.mask[:n])) / n

    def final(self) -> tuple[np.ndarray, np.ndarray]:
        """Values (d,) and mask (d,) of the trained network."""
        values = self.network.parameters
        mask = np.ones(values.size, bool) if self.mask is None else self.mask
        return np.where(mask, values, 0), mask


class Fixed(Method):
    """Training under a mask that stays: removed weights are 0 and get no gradient.

    Parameters
    ----------
    mask : numpy.ndarray of bool, shape (d,)
    """

    name = "fixed"

    def __init__(self, mask: np.ndarray | None) -> None:
        super().__init__()
        self.mask = mask

    def start(self, network: Network, total: int, data: Data, rng: np.random.Generator) -> None:
        super().start(network, total, data, rng)
        if self.mask is not None:
            self._apply(self.mask)

    def after(self, step: int) -> None:
        if self.mask is not None:
            self.network.gradient *= self._factor

    def _apply(self, mask: np.ndarray) -> None:
        self.mask = mask
        self._factor = mask.astype(self.network.dtype)
        self.network.parameters *= self._factor
        for buffer in self.optimiser.state.values() if self.optimiser else ():
            if buffer.shape == mask.shape:  # or momentum would carry removed weights on
                buffer *= self._factor
        self.network.use(self.network.parameters)

    def settle(self, *, last: bool = False) -> None:
        if self.mask is not None:
            self._apply(self.mask)


class Finished(Fixed):
    """A mask and weights that cannot be trained on: quantised ones, without what they came from.

    Parameters
    ----------
    mask : numpy.ndarray of bool, shape (d,)
    """

    name = "finished"

    def tuning(self) -> Method:
        raise ValueError("a quantised model that was loaded cannot be trained on; fit a new one")


class Magnitude(Fixed):
    """Pruning of trained weights at once; meant to be followed by a `Fixed` training.

    Parameters
    ----------
    sparsity : float
    **options
        Of `Prunable`.
    """

    name = "one-shot"

    def __init__(self, sparsity: float, **options: object) -> None:
        super().__init__(None)
        self.target, self.options = sparsity, options

    def start(self, network: Network, total: int, data: Data, rng: np.random.Generator) -> None:
        super().start(network, total, data, rng)
        self.prunable = Prunable(network, **self.options)

    def settle(self, *, last: bool = False) -> None:
        if last:
            score = np.abs(self.network.parameters)
            self._apply(self.prunable.mask(score, self.target))

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Nothing to go back to before the end."""


class Gradual(Fixed):
    """Gradual magnitude pruning: what is removed stays removed.

    Parameters
    ----------
    sparsity : float
    period : int
        Steps between removals.
    ramp : (float, float)
        Shares of the training at which removal begins and ends; cubic in between.
    **options
        Of `Prunable`.

    References
    ----------
    Zhu & Gupta, "To prune, or not to prune", 2017.
    """

    name = "gradual"

    def __init__(
        self,
        sparsity: float,
        *,
        period: int = 16,
        ramp: tuple[float, float] = (0.0, 0.6),
        **options: object,
    ) -> None:
        super().__init__(None)
        self.target, self.period, self.ramp, self.options = sparsity, period, ramp, options

    def start(self, network: Network, total: int, data: Data, rng: np.random.Generator) -> None:
        super().start(network, total, data, rng)
        self.prunable = Prunable(network, **self.options)
        self.begin, self.end, self.period = ramp_steps(self.ramp, self.period, total)
        self.initial = 0.0 if self.mask is None else self.prunable.sparsity(self.mask)

    def before(self, step: int) -> None:
        if step % self.period == 0 and step < self.end + self.period:
            self._remove(cubic_sparsity(step, self.begin, self.end, self.target, self.initial))

    def _remove(self, sparsity: float) -> None:
        score = np.abs(self.network.parameters)
        if self.mask is not None:
            score[~self.mask] = -1
            if self.prunable.structure == "unit":
                score[score < 0] = 0
        self._apply(self.prunable.mask(score, max(sparsity, self.initial)))

    def settle(self, *, last: bool = False) -> None:
        if last:
            self._remove(self.target)

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go back to a snapshot."""
        self._apply(arrays["mask"].copy())

    def complete(self, step: int) -> bool:
        return step >= self.end + self.period


class Saliency(Fixed):
    """Pruning at initialisation by what the loss would change: |gradient times weight|.

    Parameters
    ----------
    sparsity : float
    samples : int
        Training samples the gradient is taken on.
    **options
        Of `Prunable`.

    References
    ----------
    Lee, Ajanthan & Torr, "SNIP: single-shot network pruning", ICLR 2019.
    """

    name = "snip"

    def __init__(self, sparsity: float, *, samples: int = 1280, **options: object) -> None:
        super().__init__(None)
        self.target, self.samples, self.options = sparsity, samples, options

    def start(self, network: Network, total: int, data: Data, rng: np.random.Generator) -> None:
        super().start(network, total, data, rng)
        x, y, weight = data
        rows = np.arange(x.shape[0])
        if rows.size > self.samples:
            rows = np.sort(rng.permutation(rows)[: self.samples])
        statistics = network.statistics.copy()
        network.use(network.parameters)
        network.loss_and_gradient(x[rows], y[rows], None if weight is None else weight[rows])
        network.statistics[:] = statistics
        score = np.abs(network.gradient * network.parameters)
        self._apply(Prunable(network, **self.options).mask(score, self.target))


class Random(Fixed):
    """A random mask from the start: what any other method must beat.

    Parameters
    ----------
    sparsity : float
    **options
        Of `Prunable`; layer-wise unless told otherwise.
    """

    name = "random"

    def __init__(self, sparsity: float, **options: object) -> None:
        super().__init__(None)
        self.target, self.options = sparsity, {"scope": "layerwise", **options}

    def start(self, network: Network, total: int, data: Data, rng: np.random.Generator) -> None:
        super().start(network, total, data, rng)
        score = rng.random(network.parameters.size)
        self._apply(Prunable(network, **self.options).mask(score, self.target))


def ramp_steps(ramp: tuple[float, float], period: int, total: int) -> tuple[float, float, int]:
    """Steps at which a ramp begins and ends, and the steps between its updates."""
    begin, end = ramp[0] * total, max(ramp[1] * total, 1.0)
    return begin, end, max(1, min(period, int((end - begin) // RAMP_UPDATES)))
