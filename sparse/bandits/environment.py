"""A world of position-based clicks with known truth, and replay of logged lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.bandits import _check
from cascadenet.sparse.bandits.contextfree import checked_list

if TYPE_CHECKING:
    import pandas as pd

Draw = Callable[[np.random.Generator], np.ndarray]


class Ranker(Protocol):
    """What environments and experiments ask of a ranker."""

    def rank(self, X: Any = None) -> np.ndarray:
        """Item of each slot."""

    def update(self, shown: Any, clicks: Any, *, items: Any = None) -> None:
        """Learn from the clicks on a list."""


class PBMEnvironment:
    """Users who look at slot l with probability q_l and like item k with probability mu_k.

    A round is `observe`, then `click`. Attraction is a constant of every item, or linear in
    features that are constant or drawn anew every round.

    Parameters
    ----------
    examination : array-like of float (L,)
        In (0, 1].
    attraction : array-like of float (K,) or list of such, optional
        In [0, 1]. With a list, every round is one of these queries, uniformly at random.
    features : array-like of float (K, d) or list of such, optional
        Of the items, of each query where ``attraction`` is a list.
    theta : array-like of float (d,), optional
        Attraction is ``features @ theta``; instead of ``attraction``.
    draw : callable, optional
        Draws the features (K, d) of a round from a numpy Generator; with ``theta``.
    seed : int or numpy Generator

    Attributes
    ----------
    attraction : numpy.ndarray of float64 (K,)
        Of this round's items.

    Notes
    -----
    Every round takes the same random numbers whatever is shown, so that rankers in worlds of one
    seed meet the same users.
    """

    def __init__(
        self,
        examination: ArrayLike,
        attraction: ArrayLike | list[ArrayLike] | None = None,
        *,
        features: ArrayLike | list[ArrayLike] | None = None,
        theta: ArrayLike | None = None,
        draw: Draw | None = None,
        seed: int | np.random.Generator,
    ) -> None:
        self.examination = _check.examination(examination)
        self.n_slots = self.examination.size
        self._rng = _check.generator(seed)
        self._best = np.sort(self.examination)[::-1].copy()
        self._draw = draw
        self._theta = None
        if theta is not None:
            self._theta = _check.usable("theta", _check.floats("theta", theta, 1))
        if (attraction is None) == (theta is None):
            raise ValueError("attraction or theta must be given, not both")
        if draw is not None and (theta is None or features is not None):
            raise ValueError("draw must come with theta and without features")
        if draw is None:
            self._set_queries(attraction, features)
            self._use(0)
        else:
            self.observe()  # so that rankers can be made to measure

    def _set_queries(self, attraction: Any, features: Any) -> None:
        several = isinstance(attraction, list) and len(attraction) > 0 and np.ndim(attraction[0])
        if self._theta is not None:
            if features is None:
                raise ValueError("features or draw must be given with theta")
            table = _check.usable("features", _check.floats("features", features, 2))
            self._queries = [(table, self._attraction_of(table))]
            return
        values = attraction if several else [attraction]
        if features is None:
            tables: list[Any] = [None] * len(values)
        else:
            tables = list(features) if several else [features]
        if len(tables) != len(values):
            raise ValueError(f"features must have {len(values)} entries; got {len(tables)}")
        self._queries = []
        for table, value in zip(tables, values, strict=True):
            mu = self._checked(_check.floats("attraction", value, 1))
            if table is not None:
                table = _check.usable("features", _check.floats("features", table, 2))
                if len(table) != mu.size:
                    raise ValueError(f"features must have {mu.size} rows; got {len(table)}")
            self._queries.append((table, mu))

    def _attraction_of(self, features: np.ndarray) -> np.ndarray:
        if features.ndim != 2 or features.shape[1] != self._theta.size:
            raise ValueError(
                f"features must have {self._theta.size} columns; got shape {features.shape}"
            )
        return self._checked(features @ self._theta)

    def _checked(self, attraction: np.ndarray) -> np.ndarray:
        if attraction.size < self.n_slots:
            raise ValueError(f"attraction must have at least {self.n_slots} entries")
        if not ((attraction >= 0) & (attraction <= 1)).all():
            raise ValueError(
                f"attraction must be in [0, 1]; got {attraction.min()} to {attraction.max()}"
            )
        return attraction

    def _use(self, query: int) -> None:
        self._features, self.attraction = self._queries[query]
        self._ideal = np.sort(self.attraction)[::-1][: self.n_slots]

    @property
    def n_items(self) -> int:
        """Number of this round's items."""
        return self.attraction.size

    @property
    def features(self) -> np.ndarray | None:
        """Features of this round's items, (K, d)."""
        return self._features

    def observe(self) -> np.ndarray | None:
        """Begin a round; its features (K, d), or None where items have none."""
        if self._draw is not None:
            self._features = np.asarray(self._draw(self._rng), dtype=np.float64)
            self.attraction = self._attraction_of(self._features)
            self._ideal = np.sort(self.attraction)[::-1][: self.n_slots]
        elif len(self._queries) > 1:
            self._use(int(self._rng.random() * len(self._queries)))
        return self._features

    def click(self, ranking: np.ndarray) -> np.ndarray:
        """Clicks float64 (L,) of one user on a list (L,)."""
        chance = self.examination * self.attraction[ranking]
        return (self._rng.random(self.n_slots) < chance).astype(np.float64)

    def value(self, ranking: np.ndarray) -> float:
        """Expected clicks on a list (L,)."""
        return float((self.examination * self.attraction[ranking]).sum())

    def optimal_value(self) -> float:
        """Expected clicks on the best list: the best item where one looks most, and so on."""
        return float((self._best * self._ideal).sum())

    def regret(self, ranking: np.ndarray) -> float:
        """Expected clicks lost by a list (L,)."""
        return self.optimal_value() - self.value(ranking)


def relevance_attraction(grades: ArrayLike, highest: float = 0.5) -> np.ndarray:
    """Attraction ``highest (2^g - 1) / 15`` of relevance grades 0 to 4, float64."""
    grade = _check.usable("grades", _check.floats("grades", grades, 1))
    if not ((grade >= 0) & (grade <= 4)).all():
        raise ValueError(f"grades must be in [0, 4]; got {grade.min()} to {grade.max()}")
    return _check.real("highest", highest, 0.0, 1.0) * (2.0**grade - 1.0) / 15.0


def replay(
    ranker: Ranker,
    rankings: ArrayLike,
    clicks: ArrayLike,
    *,
    features: ArrayLike | None = None,
    match: str = "list",
    name_items: bool = True,
) -> pd.DataFrame:
    """Play a ranker against logged lists: only rounds in which it agrees with the log count.

    Parameters
    ----------
    ranker : Ranker
        Anything with ``rank`` and ``update``; it learns from the rounds that count.
    rankings : array-like of int (T, L)
    clicks : array-like of float (T, L)
    features : array-like of float (K, d) or (T, K, d), optional
        What ``rank`` gets.
    match : {"list", "first"}
        Whether the whole list must agree, or only its first slot, whose click then counts and
        from whose row alone the ranker learns.
    name_items : bool
        Whether ``update`` gets ``items``.

    Returns
    -------
    pandas.DataFrame
        Columns round and clicks, a row per round that counts; click rates are unbiased when the
        logged lists were uniformly random.

    References
    ----------
    Li, Chu, Langford & Wang, "Unbiased Offline Evaluation of Contextual-Bandit-Based News Article
    Recommendation Algorithms", WSDM 2011.
    """
    import pandas as pd

    match = _check.chosen("match", match, ("list", "first"))
    lists = np.asarray(rankings)
    values = _check.usable("clicks", _check.floats("clicks", clicks, 2))
    if lists.ndim != 2 or lists.shape != values.shape:
        raise ValueError(f"rankings {lists.shape} and clicks {values.shape} must be (T, L) alike")
    table = None if features is None else np.asarray(features, dtype=np.float64)
    if table is not None and table.ndim == 3 and len(table) != len(lists):
        raise ValueError(f"features must have {len(lists)} rounds; got {len(table)}")
    n_items = int(lists.max()) + 1 if table is None else table.shape[-2]
    rounds, earned = [], []
    for t in range(len(lists)):
        which, clicked = checked_list(lists[t], values[t], n_items, lists.shape[1])
        X = table[t] if table is not None and table.ndim == 3 else table
        chosen = ranker.rank(X)
        agreed = np.array_equal(chosen, which) if match == "list" else chosen[0] == which[0]
        if not agreed:
            continue
        end = None if match == "list" else 1
        extra: dict[str, Any] = {"items": which[:end]} if name_items else {}
        if end is not None:
            extra["slots"] = [0]
        ranker.update(None if X is None else X[which[:end]], clicked[:end], **extra)
        rounds.append(t)
        earned.append(clicked[:end].sum())
    return pd.DataFrame({"round": rounds, "clicks": np.array(earned, dtype=np.float64)})
