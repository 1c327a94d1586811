"""What the position-based rankers are compared with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.bandits import _check, _kernels
from cascadenet.sparse.bandits.contextfree import checked_list
from cascadenet.sparse.bandits.rankers import LinUCBRanker

# 4 sqrt(2 / pi) / erf(sqrt 2), the constant of the confidence sequence in TopRank
TOPRANK_CONSTANT = 4.0 * math.sqrt(2.0 / math.pi) / math.erf(math.sqrt(2.0))


class RandomRanker:
    """Lists in uniformly random order.

    Parameters
    ----------
    n_slots : int
    n_items : int, optional
        Needed when `rank` gets no features to count.
    seed : int or numpy Generator
    """

    def __init__(
        self, n_slots: int, n_items: int | None = None, *, seed: int | np.random.Generator
    ) -> None:
        self.n_slots = _check.whole("n_slots", n_slots, 1)
        self.n_items = None if n_items is None else _check.whole("n_items", n_items, self.n_slots)
        self._rng = _check.generator(seed)

    def rank(self, X: ArrayLike | None = None) -> np.ndarray:
        """Items slot by slot, int64 (n_slots,)."""
        n_items = self.n_items
        if n_items is None:
            if X is None:
                raise ValueError("X must be given when n_items is not")
            n_items = len(X)
        if n_items < self.n_slots:
            raise ValueError(f"X must have at least n_slots = {self.n_slots} rows; got {n_items}")
        return np.argsort(self._rng.random(n_items), kind="stable")[: self.n_slots]

    def update(
        self, shown: ArrayLike | None, clicks: ArrayLike, *, items: ArrayLike | None = None
    ) -> None:
        """Learn nothing."""


class GreedyRanker(LinUCBRanker):
    """`LinUCBRanker` without a bonus: the items that look best."""

    _own = ()

    def __init__(
        self, n_features: int, n_slots: int, examination: ArrayLike, **settings: Any
    ) -> None:
        super().__init__(n_features, n_slots, examination, alpha=0.0, **settings)


class CascadeLinUCBRanker(LinUCBRanker):
    """LinUCB under the cascade model: users read down to their first click.

    Rows up to the first click are examined, all when there is none; later clicks are not used.

    Parameters
    ----------
    n_features, n_slots : int
    alpha : float
    **settings
        Other settings of `LinUCBRanker`.

    References
    ----------
    Zong, Ni, Sung, Ke, Wen & Kveton, "Cascading Bandits for Large-Scale Recommendation Problems",
    UAI 2016.
    """

    def __init__(
        self, n_features: int, n_slots: int, *, alpha: float = 1.0, **settings: Any
    ) -> None:
        # a stored ranker names both; nothing else may
        weighting = settings.pop("weighting", "naive")
        seen = settings.pop("examination", 1.0)
        if weighting != "naive" or (np.asarray(seen) != 1.0).any():
            raise ValueError("weighting and examination have no place in the cascade model")
        super().__init__(
            n_features, n_slots, np.ones(n_slots), alpha=alpha, weighting="naive", **settings
        )

    def _round(self, shown: Any, clicks: Any, slots: Any, examination: Any, items: Any) -> Any:
        full = super()._round(shown, clicks, slots, examination, items)
        hits = np.flatnonzero(full.response)
        read = (hits[0] if hits.size else full.which.size) + 1
        which = np.where(np.arange(full.which.size) < read, full.which, -1)
        return full._replace(which=which)


class RankedBandits:
    """An independent bandit for every slot.

    Slot by slot, a UCB1 bandit picks an item. One that is already shown above is replaced by a
    random other item, and the bandit that picked it gets nothing.

    Parameters
    ----------
    n_items, n_slots : int
    confidence : float
        Factor on the bonus ``sqrt(2 log t / N)`` of UCB1.
    seed : int or numpy Generator
        Of the replacements.

    References
    ----------
    Radlinski, Kleinberg & Joachims, "Learning Diverse Rankings with Multi-Armed Bandits", ICML
    2008.
    """

    def __init__(
        self,
        n_items: int,
        n_slots: int,
        *,
        confidence: float = 1.0,
        seed: int | np.random.Generator,
    ) -> None:
        self.n_slots = _check.whole("n_slots", n_slots, 1)
        self.n_items = _check.whole("n_items", n_items, self.n_slots)
        self.confidence = _check.real("confidence", confidence, 0.0)
        self._rng = _check.generator(seed)
        self.pulls = np.zeros((self.n_slots, self.n_items))
        self.rewards = np.zeros((self.n_slots, self.n_items))
        self.n_rounds = 0
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def rank(self, X: ArrayLike | None = None) -> np.ndarray:
        """Items slot by slot, int64 (n_slots,); features are not looked at."""
        bonus = self.confidence * math.sqrt(2.0 * math.log(self.n_rounds + 1.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            score = self.rewards / self.pulls + bonus / np.sqrt(self.pulls)
        score = np.where(self.pulls > 0, score, np.inf)
        chosen = score.argmax(axis=1)
        shown = np.empty(self.n_slots, np.int64)
        free = np.ones(self.n_items, bool)
        for slot, item in enumerate(chosen):
            if not free[item]:
                others = np.flatnonzero(free)
                item = others[int(self._rng.random() * others.size)]
            shown[slot] = item
            free[item] = False
        self._last = chosen, shown
        return shown.copy()

    def update(self, shown: ArrayLike | None, clicks: ArrayLike, *, items: ArrayLike) -> None:
        """Learn from the clicks (n_slots,) on the list that `rank` gave last.

        Raises
        ------
        ValueError
            Another list: what each slot's bandit had picked would not be known.
        """
        which, values = checked_list(items, clicks, self.n_items, self.n_slots)
        if self._last is None or not np.array_equal(which, self._last[1]):
            raise ValueError(f"items must be the last list ranked; got {which.tolist()}")
        slots = np.arange(self.n_slots)
        chosen = self._last[0]
        self.pulls[slots, chosen] += 1.0
        self.rewards[slots, chosen] += values * (chosen == which)
        self.n_rounds += 1
        self._last = None


class TopRankRanker:
    """Sorts items into ordered blocks by pairwise click differences.

    Parameters
    ----------
    n_items, n_slots : int
    delta : float
        Chance of a wrong comparison, in (0, 1).
    examination : array-like of float (n_slots,), optional
        Only the order of the slots is used; as they come by default.
    seed : int or numpy Generator
        Of the order within a block.

    References
    ----------
    Lattimore, Kveton, Li & Szepesvári, "TopRank: A Practical Algorithm for Online Stochastic
    Ranking", NeurIPS 2018.
    """

    def __init__(
        self,
        n_items: int,
        n_slots: int,
        *,
        delta: float = 1e-4,
        examination: ArrayLike | None = None,
        seed: int | np.random.Generator,
    ) -> None:
        self.n_slots = _check.whole("n_slots", n_slots, 1)
        self.n_items = _check.whole("n_items", n_items, self.n_slots)
        self.delta = _check.real("delta", delta, 0.0, 1.0, open_low=True)
        q = np.ones(self.n_slots) if examination is None else examination
        self._slot_order = np.argsort(-_check.examination(q, self.n_slots), kind="stable")
        self._rng = _check.generator(seed)
        self.differences = np.zeros((self.n_items, self.n_items))
        self.comparisons = np.zeros((self.n_items, self.n_items))
        self._blocks = np.zeros(self.n_items, np.int64)

    @property
    def blocks(self) -> np.ndarray:
        """Block of every item, int64 (n_items,); 0 is the best."""
        return self._blocks.copy()

    def rank(self, X: ArrayLike | None = None) -> np.ndarray:
        """Items slot by slot, int64 (n_slots,); features are not looked at."""
        key = self._rng.random(self.n_items)
        score = -self._blocks.astype(np.float64)
        return _kernels.top_items(score, key, self._slot_order)

    def update(self, shown: ArrayLike | None, clicks: ArrayLike, *, items: ArrayLike) -> None:
        """Learn from the clicks (n_slots,) on the items (n_slots,) of a list."""
        which, values = checked_list(items, clicks, self.n_items, self.n_slots)
        clicked = np.zeros(self.n_items)
        clicked[which] = values
        for item in which[values > 0]:
            same = np.flatnonzero(self._blocks == self._blocks[item])
            other = same[clicked[same] == 0.0]
            self.differences[item, other] += 1.0
            self.differences[other, item] -= 1.0
            self.comparisons[item, other] += 1.0
            self.comparisons[other, item] += 1.0
        if values.any():
            self._partition()

    def worse(self) -> np.ndarray:
        """Whether column j is known to be worse than row i, bool (n_items, n_items)."""
        count = np.maximum(self.comparisons, 1.0)
        limit = np.sqrt(2.0 * count * np.log(TOPRANK_CONSTANT * np.sqrt(count) / self.delta))
        return (self.comparisons > 0) & (self.differences >= limit)

    def _partition(self) -> None:
        """Blocks by repeatedly taking all items that nothing left over beats."""
        worse = self.worse()
        left = np.ones(self.n_items, bool)
        block = 0
        while left.any():
            best = left & ~worse[left].any(axis=0)
            if not best.any():  # a cycle of comparisons: has probability at most delta
                best = left.copy()
            self._blocks[best] = block
            left &= ~best
            block += 1
