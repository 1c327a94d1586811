"""What `NextInfection` has counted so far, and how old counts lose weight."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.inference.nexts import _kernels

if TYPE_CHECKING:
    from cascadenet.cascades import Cascades

STEP = 512  # half-lives after which all counts are divided by 2**STEP, exactly
REINDEX = 1.25  # pairs are indexed anew once there are so many times those that are


class Discount:
    """Weights 2^(-age / half-life) of cascades, age being that of their first infection.

    Counts are kept relative to the first cascade ever seen: an older count then keeps its bytes
    when younger ones come, and one factor turns all of them into discounted ones.

    Parameters
    ----------
    half_life : float
        In the unit of the times; infinite for no discount.
    """

    def __init__(self, half_life: float) -> None:
        self.half_life = half_life
        self.origin = np.nan  # start of the first cascade
        self.latest = -np.inf  # latest start so far, relative to it, in half-lives
        self.base = 0.0  # counts are to be multiplied by 2**base

    def runs(self, start: np.ndarray) -> Iterator[tuple[slice, np.ndarray, float]]:
        """Cascades in runs, the weights of each, and a factor for all counts before it.

        Parameters
        ----------
        start : float64 array, shape (C,)
            First infection of each cascade.

        Yields
        ------
        slice, float64 array, float
            The factor is a power of two.
        """
        if np.isinf(self.half_life):
            yield slice(0, start.size), np.ones(start.size), 1.0
            return
        if np.isnan(self.origin):
            self.origin = float(start[0])
        age = (start - self.origin) / self.half_life
        latest = np.maximum.accumulate(np.maximum(age, self.latest))
        bases = np.maximum(np.floor(latest / STEP) * STEP, self.base)
        cuts = np.concatenate([[0], np.flatnonzero(np.diff(bases)) + 1, [start.size]])
        for low, high in itertools.pairwise(cuts):
            shift = self.base - bases[low]
            self.base, self.latest = float(bases[low]), float(latest[high - 1])
            yield slice(low, high), np.exp2(age[low:high] - self.base), float(np.exp2(shift))

    def factor(self) -> float:
        """What turns counts into counts discounted to the latest start."""
        if np.isinf(self.half_life) or np.isinf(self.latest):
            return 1.0
        return float(np.exp2(self.base - self.latest))

    def weights(self, start: np.ndarray) -> np.ndarray:
        """Weights of cascades that have been counted, to add to counts as they are now."""
        if np.isinf(self.half_life):
            return np.ones(start.size)
        return np.exp2((start - self.origin) / self.half_life - self.base)

    def state(self) -> list[float]:
        """Origin, latest and base, to be saved."""
        return [self.origin, self.latest, self.base]


class PairCounts:
    """Evidence of pairs, exposure of nodes and lengths of cascades, added cascade by cascade.

    Parameters
    ----------
    n_nodes : int
        Number of nodes N.
    lag : float64 array, shape (W,)
        Weight of a follower one to W places behind.
    crowding : float
        Power by which an infection counts less when it follows many.
    half_life, recent_half_life : float
        Of the evidence and exposure, and of ``recent``.
    attributed : bool
        Whether infections are shared out among those they follow.

    Attributes
    ----------
    n_pairs : int
        Pairs that met.
    pair_node : int32 array, shape (capacity, 2)
        Their nodes, the smaller first.
    evidence, carried : float64 arrays, shape (capacity, 2)
        Of the first on the second, and the reverse; ``carried`` has no rows unless attributed.
    exposure, count, recent : float64 arrays, shape (N,)
        Cascades with each node: discounted, plain, discounted by the other half-life.
    length : int64 array
        Number of cascades of each length.
    """

    def __init__(
        self,
        n_nodes: int,
        lag: np.ndarray,
        crowding: float,
        half_life: float,
        recent_half_life: float,
        attributed: bool = False,
    ) -> None:
        self.attributed = attributed
        self.lag = lag
        self.share = np.concatenate([[1.0], np.cumsum(lag)]) ** -crowding
        self.discount, self.recency = Discount(half_life), Discount(recent_half_life)
        self.exposure, self.count, self.recent = (np.zeros(n_nodes) for _ in range(3))
        self.length = np.zeros(2, np.int64)
        self.n_pairs = self.n_indexed = 0
        self.pair_node = np.zeros((0, 2), np.int32)
        self.evidence = np.zeros((0, 2))
        self.carried = np.zeros((0, 2))
        self.slot = np.full(2, -1, np.int64)
        self.head = np.full(n_nodes, -1, np.int64)
        self.link = np.full((0, 2), -1, np.int64)
        self.row_ptr = np.zeros(n_nodes + 1, np.int64)
        self.row_entry = np.zeros(0, np.int64)

    def add(self, cascades: Cascades, node: np.ndarray) -> None:
        """Count cascades, in their order.

        Parameters
        ----------
        cascades : Cascades
            The data.
        node : int64 array, shape (I,)
            Index of each infection's node among those counted here.
        """
        for run, weight, factor in self.discount.runs(cascades.start):
            if factor != 1.0:
                for counts in (self.evidence, self.carried, self.exposure):
                    counts *= factor
            offset = cascades.offset[run.start : run.stop + 1]
            self._add_pairs(offset, node, weight)
            _kernels.add_exposure(offset, node, weight, self.exposure, self.count)
        unused = np.zeros_like(self.count)
        for run, weight, factor in self.recency.runs(cascades.start):
            self.recent *= factor
            offset = cascades.offset[run.start : run.stop + 1]
            _kernels.add_exposure(offset, node, weight, self.recent, unused)
        lengths = np.bincount(np.diff(cascades.offset), minlength=self.length.size)
        lengths[: self.length.size] += self.length
        self.length = lengths
        if self.n_pairs > REINDEX * self.n_indexed + 1000:
            self.index()

    def _add_pairs(self, offset: np.ndarray, node: np.ndarray, weight: np.ndarray) -> None:
        done = 0
        while True:
            done, self.n_pairs = _kernels.add_cascades(
                *(done, offset, node, weight, self.lag, self.share, self.n_pairs),
                *(self.slot, self.pair_node, self.evidence, self.head, self.link),
            )
            if done == offset.size - 1:
                return
            length, window = int(offset[done + 1] - offset[done]), self.lag.size
            short = min(length, window)
            most = short * (short - 1) // 2 + (length - short) * window
            self.reserve(max(2 * self.n_pairs, self.n_pairs + most))

    def reserve(self, capacity: int) -> None:
        """Make room for so many pairs."""
        grown = {"pair_node": 0, "evidence": 0, "link": -1}
        if self.attributed:
            grown["carried"] = 0
        for name, empty in grown.items():
            old = getattr(self, name)
            new = np.full((capacity, 2), empty, old.dtype)
            new[: self.n_pairs] = old[: self.n_pairs]
            setattr(self, name, new)
        self.slot = np.full(1 << (2 * capacity).bit_length(), -1, np.int64)
        _kernels.fill_slots(self.n_pairs, self.pair_node, self.slot)

    def index(self) -> None:
        """List the pairs of each node without gaps: a matter of speed, not of results."""
        self.row_entry = np.zeros(2 * self.n_pairs, np.int64)
        cursor = np.zeros_like(self.head)
        _kernels.fill_rows(self.n_pairs, self.pair_node, self.row_ptr, cursor, self.row_entry)
        self.head[:] = -1
        self.n_indexed = self.n_pairs

    def end_probability(self, length: int) -> float:
        """Probability that a cascade which has reached a length ends there.

        The share among the observed cascades of about this length, with five observations at the
        mean rate added.
        """
        size = self.length.size
        at_risk = self.length[::-1].cumsum()[::-1]  # at each length: cascades at least as long
        overall = self.length.sum() / max(at_risk[1:].sum(), 1)
        low, high = int(np.ceil(0.85 * length)), int(np.floor(1.15 * length))
        near = slice(min(low, size), min(high, size - 1) + 1)
        return float((self.length[near].sum() + 5.0 * overall) / (at_risk[near].sum() + 5.0))

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that has to be saved."""
        pairs = ("pair_node", "evidence", "carried")
        arrays: dict[str, Any] = {name: getattr(self, name)[: self.n_pairs] for name in pairs}
        arrays |= {n: getattr(self, n) for n in ("exposure", "count", "recent", "length")}
        return arrays | {
            "discount": np.array([self.discount.state(), self.recency.state()]),
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over saved arrays, whose shapes have been checked."""
        n_pairs = len(arrays["pair_node"])
        self.n_pairs = 0
        self.reserve(max(n_pairs, 1))
        self.n_pairs = n_pairs
        for name in ("pair_node", "evidence", *(["carried"] if self.attributed else [])):
            getattr(self, name)[:n_pairs] = arrays[name]
        for name in ("exposure", "count", "recent", "length"):
            setattr(self, name, arrays[name].copy())
        for discount, state in zip(
            (self.discount, self.recency), arrays["discount"].tolist(), strict=True
        ):
            discount.origin, discount.latest, discount.base = state
        _kernels.fill_slots(n_pairs, self.pair_node, self.slot)
        self.index()
