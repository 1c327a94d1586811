"""Position-based bandits without features: PBM-UCB, PBM-TS and PBM-PIE."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.bandits import _check, _kernels

BISECTIONS = 60  # halvings of an interval of length 1: below the spacing of floats there
QUADRATURE = 256
CELLS = 128  # of the grid a posterior is sampled from
REACH = 8.0  # half-width of that grid in standard deviations
_NO_KEY = np.empty(0)


class CountingRanker:
    """Impressions and clicks of every item in every slot, and what all such rankers share.

    Parameters
    ----------
    n_items, n_slots : int
    examination : array-like of float (n_slots,)
        Probabilities in (0, 1] that a slot is looked at.

    Attributes
    ----------
    impressions, clicks : numpy.ndarray of float64 (n_items, n_slots)
    n_rounds : int
    """

    def __init__(self, n_items: int, n_slots: int, examination: ArrayLike) -> None:
        self.n_slots = _check.whole("n_slots", n_slots, 1)
        self.n_items = _check.whole("n_items", n_items, 1)
        if self.n_items < self.n_slots:
            raise ValueError(f"n_items must be at least n_slots = {n_slots}; got {n_items}")
        self.examination = _check.examination(examination, self.n_slots)
        self._slot_order = np.argsort(-self.examination, kind="stable")
        self.impressions = np.zeros((self.n_items, self.n_slots))
        self.clicks = np.zeros((self.n_items, self.n_slots))
        self.n_rounds = 0

    def scores(self, X: ArrayLike | None = None) -> np.ndarray:
        """What the items are ranked by, float64 (n_items,)."""
        raise NotImplementedError

    def rank(self, X: ArrayLike | None = None) -> np.ndarray:
        """Items of the next list, slot by slot, int64 (n_slots,); features are not looked at."""
        return _kernels.top_items(self.scores(), _NO_KEY, self._slot_order)

    def update(self, shown: ArrayLike | None, clicks: ArrayLike, *, items: ArrayLike) -> None:
        """Learn from a list.

        Parameters
        ----------
        shown
            Features; not looked at.
        clicks : array-like of float (n_slots,)
            0 or 1.
        items : array-like of int (n_slots,)
            What was shown.

        Raises
        ------
        ValueError, TypeError
            Wrong shapes, other clicks, an item twice. The ranker is left as it was.
        """
        which, values = checked_list(items, clicks, self.n_items, self.n_slots)
        slots = np.arange(self.n_slots)
        self.impressions[which, slots] += 1.0
        self.clicks[which, slots] += values
        self.n_rounds += 1
        self._learned(which, values)

    def _learned(self, which: np.ndarray, clicks: np.ndarray) -> None:
        """What a ranker keeps besides the counts."""

    def set_counts(self, impressions: ArrayLike, clicks: ArrayLike) -> None:
        """Start from counts of a log, both (n_items, n_slots)."""
        shown, clicked = checked_counts(impressions, clicks)
        if shown.shape != self.impressions.shape:
            raise ValueError(
                f"impressions must have shape {self.impressions.shape}; got {shown.shape}"
            )
        self.impressions, self.clicks = shown, clicked
        self.n_rounds = int(shown.sum(axis=0).max())

    def weighted_impressions(self) -> np.ndarray:
        """Impressions weighted by examination, float64 (n_items,)."""
        return (self.impressions * self.examination).sum(axis=1)

    def estimates(self) -> np.ndarray:
        """Clicks over weighted impressions, float64 (n_items,); 0 where never shown."""
        weighted = self.weighted_impressions()
        clicked = self.clicks.sum(axis=1)
        return np.divide(clicked, weighted, out=np.zeros(self.n_items), where=weighted > 0)

    def maximum_likelihood(self) -> np.ndarray:
        """Likeliest attraction in [0, 1] of every item, float64 (n_items,); 0 where never shown."""
        low, high = np.zeros(self.n_items), np.ones(self.n_items)
        clicked = self.clicks.sum(axis=1)
        missed = self.impressions - self.clicks
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            chance = middle[:, None] * self.examination
            lost = (missed * self.examination / np.maximum(1.0 - chance, 1e-300)).sum(axis=1)
            rising = clicked > middle * lost
            low, high = np.where(rising, middle, low), np.where(rising, high, middle)
        return 0.5 * (low + high)


class PBMUCBRanker(CountingRanker):
    """Upper confidence bounds on attraction from clicks over weighted impressions.

    Parameters
    ----------
    n_items, n_slots, examination
        As for `CountingRanker`.
    epsilon : float
        Excess of the confidence ``(1 + epsilon) log t``.

    Notes
    -----
    ``S/M + sqrt(N/M) sqrt(delta / (2 M))`` with S clicks, N impressions and M weighted ones.

    References
    ----------
    Lagrée, Vernade & Cappé, "Multiple-Play Bandits in the Position-Based Model", NIPS 2016.
    """

    def __init__(
        self, n_items: int, n_slots: int, examination: ArrayLike, *, epsilon: float = 0.0
    ) -> None:
        super().__init__(n_items, n_slots, examination)
        self.epsilon = _check.real("epsilon", epsilon, 0.0)

    def index(self, delta: float) -> np.ndarray:
        """Bounds at confidence ``delta``, float64 (n_items,); infinite for items never shown."""
        weighted = self.weighted_impressions()
        seen = weighted > 0
        safe = np.where(seen, weighted, 1.0)
        shown = self.impressions.sum(axis=1)
        bonus = np.sqrt(shown / safe) * np.sqrt(delta / (2.0 * safe))
        return np.where(seen, self.clicks.sum(axis=1) / safe + bonus, np.inf)

    def scores(self, X: ArrayLike | None = None) -> np.ndarray:
        """Bounds at the confidence of this round."""
        return self.index((1.0 + self.epsilon) * np.log(self.n_rounds + 1.0))


class PBMPIERanker(CountingRanker):
    """Shows the leaders and explores in the last slot only.

    Items outside the leaders whose bound reaches the last leader's estimate take the slot that is
    looked at least in every second round, on average.

    Parameters
    ----------
    n_items, n_slots, examination
        As for `CountingRanker`.
    epsilon : float
        Excess of the confidence ``(1 + epsilon) log t``.
    seed : int or numpy Generator
        Of the coin and of the choice among the explored.

    References
    ----------
    As for `PBMUCBRanker`.
    """

    def __init__(
        self,
        n_items: int,
        n_slots: int,
        examination: ArrayLike,
        *,
        epsilon: float = 0.0,
        seed: int | np.random.Generator,
    ) -> None:
        super().__init__(n_items, n_slots, examination)
        self.epsilon = _check.real("epsilon", epsilon, 0.0)
        self._rng = _check.generator(seed)

    def index(self, delta: float) -> np.ndarray:
        """Largest attraction within Kullback-Leibler distance ``delta``, float64 (n_items,)."""
        low, high = self.maximum_likelihood(), np.ones(self.n_items)
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            inside = self._divergence(middle) <= delta
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        return np.where(self._divergence(np.ones(self.n_items)) <= delta, 1.0, low)

    def _divergence(self, attraction: np.ndarray) -> np.ndarray:
        """sum_l N_l kl(S_l / N_l, q_l u) for every item."""
        shown, clicked = self.impressions, self.clicks
        missed = shown - clicked
        chance = attraction[:, None] * self.examination
        with np.errstate(divide="ignore", invalid="ignore"):
            won = np.where(clicked > 0, clicked * np.log(clicked / (shown * chance)), 0.0)
            lost = np.where(missed > 0, missed * np.log(missed / (shown * (1.0 - chance))), 0.0)
        return (won + lost).sum(axis=1)

    def scores(self, X: ArrayLike | None = None) -> np.ndarray:
        """Clicks over weighted impressions; infinite for items never shown."""
        return np.where(self.impressions.sum(axis=1) > 0, self.estimates(), np.inf)

    def rank(self, X: ArrayLike | None = None) -> np.ndarray:
        """Leaders slot by slot, the last perhaps replaced by an item worth exploring."""
        score = self.scores()
        ranking = _kernels.top_items(score, _NO_KEY, self._slot_order)
        last = self._slot_order[-1]
        if not np.isfinite(score[ranking[last]]) or self._rng.random() >= 0.5:
            return ranking
        bound = self.index((1.0 + self.epsilon) * np.log(self.n_rounds + 1.0))
        worth = bound >= score[ranking[last]]
        worth[ranking] = False
        explored = np.flatnonzero(worth)
        if explored.size:
            ranking[last] = explored[int(self._rng.random() * explored.size)]
        return ranking


class PBMTSRanker(CountingRanker):
    """Thompson sampling of attraction with a Beta prior and the exact position-based likelihood.

    Parameters
    ----------
    n_items, n_slots, examination
        As for `CountingRanker`.
    prior : (float, float)
        Of the Beta distribution of attraction.
    seed : int or numpy Generator

    Notes
    -----
    The density is ``t^(a-1+S) (1-t)^(b-1) prod_l (1 - q_l t)^(N_l - S_l)``. It is sampled by
    inverting its distribution function on a grid around its mean, linearly within a cell.

    References
    ----------
    As for `PBMUCBRanker`.
    """

    def __init__(
        self,
        n_items: int,
        n_slots: int,
        examination: ArrayLike,
        *,
        prior: tuple[float, float] = (1.0, 1.0),
        seed: int | np.random.Generator,
    ) -> None:
        super().__init__(n_items, n_slots, examination)
        self.prior = tuple(_check.real("prior", value, 0.0, open_low=True) for value in prior)
        if len(self.prior) != 2:
            raise ValueError(f"prior must be two numbers; got {prior}")
        self._rng = _check.generator(seed)

    def _log_density(self, attraction: np.ndarray) -> np.ndarray:
        """Unnormalised log posterior on a grid (n_items, m) of its own for every item."""
        first = self.prior[0] - 1.0 + self.clicks.sum(axis=1)
        total = first[:, None] * np.log(attraction)
        total += (self.prior[1] - 1.0) * np.log1p(-attraction)
        missed = self.impressions - self.clicks
        for slot, q in enumerate(self.examination):
            total += missed[:, slot, None] * np.log1p(-q * attraction)
        return total

    def _ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """Interval of [0, 1] that holds each posterior up to a negligible rest."""
        weighted = self.weighted_impressions() + sum(self.prior)
        mean = np.minimum((self.clicks.sum(axis=1) + self.prior[0]) / weighted, 1.0)
        spread = REACH * (np.sqrt(mean / weighted) + 1.0 / weighted)
        return np.maximum(mean - spread, 0.0), np.minimum(mean + spread, 1.0)

    def posterior_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and standard deviation of attraction, each float64 (n_items,)."""
        node, weight = np.polynomial.legendre.leggauss(QUADRATURE)
        low, high = self._ranges()
        attraction = low[:, None] + (high - low)[:, None] * (0.5 * (node + 1.0))
        density = self._log_density(attraction)
        density = weight * np.exp(density - density.max(axis=1, keepdims=True))
        density /= density.sum(axis=1, keepdims=True)
        mean = (density * attraction).sum(axis=1)
        variance = (density * (attraction - mean[:, None]) ** 2).sum(axis=1)
        return mean, np.sqrt(variance)

    def scores(self, X: ArrayLike | None = None) -> np.ndarray:
        """A draw of every item's attraction."""
        low, high = self._ranges()
        width = (high - low) / CELLS
        attraction = low[:, None] + width[:, None] * (np.arange(CELLS) + 0.5)
        density = self._log_density(attraction)
        mass = np.exp(density - density.max(axis=1, keepdims=True)).cumsum(axis=1)
        level = self._rng.random(self.n_items) * mass[:, -1]
        cell = np.minimum((mass <= level[:, None]).sum(axis=1), CELLS - 1)
        rows = np.arange(self.n_items)
        before = np.where(cell > 0, mass[rows, cell - 1], 0.0)
        inside = (level - before) / (mass[rows, cell] - before)
        return low + width * (cell + inside)


def checked_list(
    items: ArrayLike, clicks: ArrayLike, n_items: int, n_slots: int
) -> tuple[np.ndarray, np.ndarray]:
    """A full list of distinct items and its 0/1 clicks, validated."""
    which = _check.integers("items", items, 0, n_items, n_slots)
    values = _check.floats("clicks", clicks, 1)
    if values.size != n_slots:
        raise ValueError(f"clicks must have {n_slots} entries, one a slot; got {values.size}")
    if not np.isin(values, (0.0, 1.0)).all():
        raise ValueError(f"clicks must be 0 or 1; got {values.tolist()}")
    if np.unique(which).size != n_slots:
        raise ValueError(f"items must be distinct within a list; got {which.tolist()}")
    return which, values


def checked_counts(impressions: ArrayLike, clicks: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Counts by item and slot, validated: clicks only where there were impressions."""
    shown = _check.usable("impressions", _check.floats("impressions", impressions, 2)).copy()
    clicked = _check.usable("clicks", _check.floats("clicks", clicks, 2)).copy()
    if shown.shape != clicked.shape:
        raise ValueError(f"impressions {shown.shape} and clicks {clicked.shape} must match")
    if shown.size == 0:
        raise ValueError(f"impressions must have items and slots; got shape {shown.shape}")
    if (shown < 0).any() or (clicked < 0).any():
        raise ValueError("impressions and clicks must not be negative")
    over = np.argwhere(clicked > shown)
    if over.size:
        item, slot = over[0]
        raise ValueError(
            f"clicks must not exceed impressions; item {item} in slot {slot} has "
            f"{clicked[item, slot]:g} clicks and {shown[item, slot]:g} impressions"
        )
    return shown, clicked
