"""Distributions over ranked lists, with the probabilities that off-policy estimators need."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.bandits import _check

MOST_LISTS = 1_000_000
ROUNDING = 1e-9  # of probabilities that must sum to one


class ListPolicy:
    """A distribution over lists, given list by list.

    Parameters
    ----------
    lists : array-like of int (M, L)
        Distinct items in each.
    probabilities : array-like of float (M,)
        Nonnegative, of sum 1.
    n_items : int
    """

    def __init__(self, lists: ArrayLike, probabilities: ArrayLike, n_items: int) -> None:
        self.n_items = _check.whole("n_items", n_items, 1)
        array = np.asarray(lists)
        if array.ndim != 2 or array.size == 0:
            raise ValueError(f"lists must have shape (M, L); got {array.shape}")
        flat = _check.integers("lists", array.reshape(-1), 0, self.n_items, None)
        self.lists = flat.reshape(array.shape)
        ordered = np.sort(self.lists, axis=1)
        if (ordered[:, 1:] == ordered[:, :-1]).any():
            raise ValueError("lists must hold distinct items")
        self.probabilities = _check.floats("probabilities", probabilities, 1).copy()
        if self.probabilities.shape != (len(self.lists),):
            raise ValueError(f"probabilities must have {len(self.lists)} entries")
        total = self.probabilities.sum()
        if not (self.probabilities >= 0).all() or not abs(total - 1.0) <= ROUNDING:
            raise ValueError(f"probabilities must be at least 0 and sum to 1; got sum {total}")
        self.n_slots = self.lists.shape[1]
        self._prefixes = [self._tabulate(length) for length in range(self.n_slots + 1)]

    def _tabulate(self, length: int) -> dict[bytes, float]:
        table: dict[bytes, float] = {}
        prefixes = np.ascontiguousarray(self.lists[:, :length])
        for prefix, chance in zip(prefixes, self.probabilities, strict=True):
            key = prefix.tobytes()
            table[key] = table.get(key, 0.0) + float(chance)
        return table

    def list_probability(self, rankings: np.ndarray) -> np.ndarray:
        """Probability of each of the lists (T, L), float64 (T,)."""
        return self.prefix_probability(rankings)[:, -1]

    def prefix_probability(self, rankings: np.ndarray) -> np.ndarray:
        """Probability that a list begins with the first l + 1 items, float64 (T, L)."""
        out = np.empty(rankings.shape)
        for length in range(1, self.n_slots + 1):
            table = self._prefixes[length]
            keys = np.ascontiguousarray(rankings[:, :length])
            out[:, length - 1] = [table.get(key.tobytes(), 0.0) for key in keys]
        return out

    def marginals(self) -> np.ndarray:
        """Probability of each item in each slot, float64 (K, L)."""
        out = np.zeros((self.n_items, self.n_slots))
        for slot in range(self.n_slots):
            np.add.at(out[:, slot], self.lists[:, slot], self.probabilities)
        return out

    def pairs(self) -> np.ndarray:
        """E[1_a 1_a'] over (item, slot) pairs, float64 (K L, K L), index item * L + slot."""
        size = self.n_items * self.n_slots
        cell = self.lists * self.n_slots + np.arange(self.n_slots)
        out = np.zeros((size, size))
        for first in range(self.n_slots):
            for second in range(self.n_slots):
                np.add.at(out, (cell[:, first], cell[:, second]), self.probabilities)
        return out

    def expected_next(self, rankings: np.ndarray, reward: np.ndarray) -> np.ndarray:
        """E[reward_l(a_l) | a_1 .. a_(l-1)] along lists (T, L), float64 (T, L).

        ``reward`` (K, L) or (T, K, L). Prefixes of probability 0 give 0.
        """
        out = np.zeros(rankings.shape)
        for slot in range(self.n_slots):
            table = self._next_items(slot)
            for t, prefix in enumerate(np.ascontiguousarray(rankings[:, :slot])):
                chance = table.get(prefix.tobytes())
                if chance is not None:
                    values = reward[t, :, slot] if reward.ndim == 3 else reward[:, slot]
                    out[t, slot] = chance @ values
        return out

    def _next_items(self, slot: int) -> dict[bytes, np.ndarray]:
        """Distribution of the item in a slot given each prefix."""
        table: dict[bytes, np.ndarray] = {}
        for items, chance in zip(self.lists, self.probabilities, strict=True):
            key = items[:slot].tobytes()
            if chance > 0:
                table.setdefault(key, np.zeros(self.n_items))[items[slot]] += chance
        return {key: chance / chance.sum() for key, chance in table.items()}

    def sample(self, n_rounds: int, seed: int | np.random.Generator) -> np.ndarray:
        """Lists drawn from the policy, int64 (n_rounds, L)."""
        draw = _check.generator(seed).random(_check.whole("n_rounds", n_rounds, 1))
        edges = np.cumsum(self.probabilities)
        chosen = np.searchsorted(edges, draw * edges[-1], side="right")
        return self.lists[np.minimum(chosen, len(self.lists) - 1)]


def plackett_luce(weights: ArrayLike, n_slots: int) -> ListPolicy:
    """Lists filled slot by slot with chances proportional to the weights of the items left.

    Parameters
    ----------
    weights : array-like of float (K,)
        Positive; equal weights give uniformly random lists.
    n_slots : int

    Returns
    -------
    ListPolicy

    Raises
    ------
    ValueError
        Weights that are not positive, or more than a million lists.
    """
    value = _check.usable("weights", _check.floats("weights", weights, 1))
    n_slots = _check.whole("n_slots", n_slots, 1)
    if not (value > 0).all():
        raise ValueError(f"weights must be positive; got {value.min()}")
    if value.size < n_slots:
        raise ValueError(f"weights must have at least n_slots = {n_slots} entries")
    if math.perm(value.size, n_slots) > MOST_LISTS:
        raise ValueError(
            f"{value.size} items in {n_slots} slots make more than {MOST_LISTS} lists; "
            "give the estimators arrays of probabilities instead"
        )
    lists = np.array(list(itertools.permutations(range(value.size), n_slots)), np.int64)
    chance, left = np.ones(len(lists)), np.full(len(lists), value.sum())
    for slot in range(n_slots):
        chance *= value[lists[:, slot]] / left
        left = left - value[lists[:, slot]]
    return ListPolicy(lists, chance / chance.sum(), value.size)


def deterministic(ranking: ArrayLike, n_items: int) -> ListPolicy:
    """The policy that always shows ``ranking`` (L,)."""
    return ListPolicy([np.asarray(ranking)], [1.0], n_items)
