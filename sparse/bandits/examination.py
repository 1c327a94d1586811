"""How often each slot is looked at, estimated from clicks; refuses logs that cannot tell."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.bandits import _check
from cascadenet.sparse.bandits.contextfree import checked_counts

METHODS = ("ctr", "em", "poisson", "harvest", "probit")
EDGE = 1e-9  # attraction predicted from features stays this far inside (0, 1)
NEWTON_STEPS = 100
STEP = 1e-10  # of the largest weight at which Newton's iteration stops


class IdentifiabilityError(ValueError):
    """The log does not determine the examination probabilities, however long it is."""


@dataclass(frozen=True)
class Examination:
    """Estimated examination probabilities.

    Attributes
    ----------
    examination : numpy.ndarray of float64 (L,)
        Relative to the slot that is looked at most, which has 1.
    attraction : numpy.ndarray of float64 (K,) or None
        Attraction of the items in that slot, where the method estimates it.
    method : str
    iterations : int
        Sweeps that were made; 0 for closed forms.
    converged : bool
    log_likelihood : float
        Binomial for EM and probit, Poisson up to a constant; nan for closed forms.
    raw : numpy.ndarray of float64 (L,)
        The estimate before it was divided by its largest entry.
    """

    examination: np.ndarray
    attraction: np.ndarray | None
    method: str
    iterations: int
    converged: bool
    log_likelihood: float
    raw: np.ndarray = field(repr=False)


def count_lists(
    rankings: ArrayLike, clicks: ArrayLike, n_items: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Impressions and clicks by item and slot.

    Parameters
    ----------
    rankings : array-like of int (T, L)
        Item in each slot; -1 where a slot was empty.
    clicks : array-like of float (T, L)
    n_items : int, optional
        One more than the largest index by default.

    Returns
    -------
    impressions, clicks : numpy.ndarray of float64 (n_items, L)

    Raises
    ------
    ValueError, TypeError
        Shapes differ, an item is outside the range or twice in a list, clicks in empty slots.
    """
    lists = np.asarray(rankings)
    if lists.ndim != 2 or lists.size == 0:
        raise ValueError(f"rankings must have shape (T, L); got {lists.shape}")
    flat = _check.integers("rankings", lists.reshape(-1), -1, n_items, None)
    lists = flat.reshape(lists.shape)
    values = _check.usable("clicks", _check.floats("clicks", clicks, 2))
    if values.shape != lists.shape:
        raise ValueError(f"clicks {values.shape} must have the shape of rankings {lists.shape}")
    ordered = np.sort(lists, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        raise ValueError(f"items must be distinct within a list; row {np.argwhere(twice)[0][0]}")
    empty = lists < 0
    if (values[empty] != 0).any():
        raise ValueError("clicks must be 0 in empty slots: no item was shown there")
    size = int(lists.max()) + 1 if n_items is None else _check.whole("n_items", n_items, 1)
    shape = (size, lists.shape[1])
    cell = (lists * shape[1] + np.arange(shape[1]))[~empty]
    shown = np.bincount(cell, minlength=size * shape[1]).astype(np.float64)
    clicked = np.bincount(cell, values[~empty], minlength=size * shape[1])
    return shown.reshape(shape), clicked.reshape(shape)


def check_identified(impressions: np.ndarray, clicks: np.ndarray) -> None:
    """Raise unless slots are compared with each other by items that are clicked at all.

    Items and slots are the two sides of a graph, with an edge where an item was shown in a slot.
    Examination is known up to one factor per connected component; items without clicks compare
    nothing.

    Parameters
    ----------
    impressions, clicks : numpy.ndarray of float64 (K, L)

    Raises
    ------
    IdentifiabilityError
    """
    n_slots = impressions.shape[1]
    silent = np.flatnonzero(clicks.sum(axis=0) == 0)
    if silent.size:
        raise IdentifiabilityError(
            f"slot {silent[0]} has no clicks: its examination cannot be told from 0"
        )
    edges = impressions[clicks.sum(axis=1) > 0] > 0
    reached = np.zeros(n_slots, bool)
    reached[0] = True
    while True:
        items = edges[:, reached].any(axis=1)
        wider = reached | edges[items].any(axis=0)
        if (wider == reached).all():
            break
        reached = wider
    if not reached.all():
        inside, outside = np.flatnonzero(reached), np.flatnonzero(~reached)
        raise IdentifiabilityError(
            f"slots {inside.tolist()} and {outside.tolist()} have no clicked item in common, so "
            "good slots cannot be told from good items; log some lists in random order"
        )


def fit_examination(
    impressions: ArrayLike,
    clicks: ArrayLike,
    method: str = "em",
    *,
    features: ArrayLike | None = None,
    start: tuple[ArrayLike, ArrayLike] | None = None,
    iterations: int = 20_000,
    tolerance: float = 1e-12,
    prior_sd: float = 2.0,
) -> Examination:
    """Estimate examination probabilities from counts.

    Parameters
    ----------
    impressions, clicks : array-like of float (K, L)
        Counts by item and slot; from lists by `count_lists`.
    method : {"em", "poisson", "harvest", "ctr", "probit"}
        "em": maximum likelihood by expectation-maximisation. "poisson": rank-one maximum
        likelihood, cheaper and as accurate while clicks are rare. "harvest": click rates of items
        shown in adjacent slots, which needs no model of the items. "ctr": ratio of click rates,
        right when lists were in random order. "probit": Bayesian probit regression on slot and
        item, a smoothed ratio.
    features : array-like of float (K, d), optional
        For "em": attraction linear in these features instead of one number an item.
    start : (examination (L,), attraction (K,)), optional
        Where EM starts.
    iterations : int
        Largest number of sweeps.
    tolerance : float
        Largest change in a sweep at which EM and Poisson stop.
    prior_sd : float
        Standard deviation of the probit weights.

    Returns
    -------
    Examination

    Raises
    ------
    IdentifiabilityError
        The log cannot tell slots from items: see `check_identified`. "harvest" needs common items
        in every pair of adjacent slots.
    ValueError, TypeError
        Counts that are negative, not finite, or more clicks than impressions.

    References
    ----------
    Agarwal, Zaitsev, Wang, Li, Najork & Joachims, "Estimating Position Bias without Intrusive
    Interventions", WSDM 2019, for harvesting; Chuklin, Markov & de Rijke, "Click Models for Web
    Search", 2015, for EM.
    """
    method = _check.chosen("method", method, METHODS)
    shown, clicked = checked_counts(impressions, clicks)
    if features is not None and method != "em":
        raise ValueError(f"features are used by method 'em' only; got method {method!r}")
    iterations = _check.whole("iterations", iterations, 0)
    tolerance = _check.real("tolerance", tolerance, 0.0)
    check_identified(shown, clicked)
    if method == "ctr":
        return _normalised(clicked.sum(axis=0) / shown.sum(axis=0), None, method)
    if method == "harvest":
        return _harvest(shown, clicked)
    if method == "poisson":
        return _poisson(shown, clicked, iterations, tolerance)
    if method == "probit":
        return _probit(shown, clicked, _check.real("prior_sd", prior_sd, 0.0, open_low=True))
    return _em(shown, clicked, features, start, iterations, tolerance)


def _normalised(
    raw: np.ndarray,
    attraction: np.ndarray | None,
    method: str,
    iterations: int = 0,
    converged: bool = True,
    log_likelihood: float = float("nan"),
) -> Examination:
    scale = raw.max()
    scaled = None if attraction is None else attraction * scale
    return Examination(
        raw / scale, scaled, method, iterations, converged, float(log_likelihood), raw
    )


def _harvest(shown: np.ndarray, clicked: np.ndarray) -> Examination:
    """Chain of ratios of adjacent slots, items weighted by the harmonic mean of impressions."""
    q = np.ones(shown.shape[1])
    for slot in range(1, q.size):
        here, before = shown[:, slot], shown[:, slot - 1]
        both = (here > 0) & (before > 0)
        weight = here[both] * before[both] / (here[both] + before[both])
        above = (weight * clicked[both, slot - 1] / before[both]).sum()
        below = (weight * clicked[both, slot] / here[both]).sum()
        if above == 0 or below == 0:
            raise IdentifiabilityError(
                f"slots {slot - 1} and {slot} have no items in common that were clicked in both"
            )
        q[slot] = q[slot - 1] * below / above
    return _normalised(q, None, "harvest")


def _poisson(
    shown: np.ndarray, clicked: np.ndarray, iterations: int, tolerance: float
) -> Examination:
    """Alternate the closed-form maxima over items and slots of a Poisson rank-one model."""
    of_item, of_slot = clicked.sum(axis=1), clicked.sum(axis=0)
    q = of_slot / shown.sum(axis=0)
    q = q / q.max()
    attraction, change, sweep = np.zeros(of_item.size), np.inf, 0
    while change > tolerance and sweep < iterations:
        exposure = (shown * q).sum(axis=1)
        attraction = np.divide(of_item, exposure, out=np.zeros_like(exposure), where=exposure > 0)
        new = of_slot / (shown * attraction[:, None]).sum(axis=0)
        new /= new.max()
        change, q, sweep = np.abs(new - q).max(), new, sweep + 1
    mean = attraction[:, None] * q
    seen = (shown > 0) & (mean > 0)
    value = (clicked[seen] * np.log(mean[seen]) - shown[seen] * mean[seen]).sum()
    return _normalised(q, attraction, "poisson", sweep, bool(change <= tolerance), value)


def _em(
    shown: np.ndarray,
    clicked: np.ndarray,
    features: ArrayLike | None,
    start: tuple[ArrayLike, ArrayLike] | None,
    iterations: int,
    tolerance: float,
) -> Examination:
    """Expectation-maximisation of the binomial likelihood."""
    missed = shown - clicked
    of_item, of_slot = shown.sum(axis=1), shown.sum(axis=0)
    regression = None if features is None else _Regression(features, of_item)
    q, attraction = _em_start(shown, clicked, start)
    change, sweep = np.inf, 0
    while change > tolerance and sweep < iterations:
        silent = np.maximum(1.0 - attraction[:, None] * q, 1e-300)
        looked = missed * (q * (1.0 - attraction[:, None]) / silent)
        liked = missed * (attraction[:, None] * (1.0 - q) / silent)
        new_q = (clicked + looked).sum(axis=0) / of_slot
        total = (clicked + liked).sum(axis=1)
        new = np.divide(total, of_item, out=np.zeros_like(total), where=of_item > 0)
        if regression is not None:
            new = regression.fit(new)
        change = max(np.abs(new_q - q).max(), np.abs(new - attraction).max())
        q, attraction, sweep = new_q, new, sweep + 1
    value = log_likelihood(shown, clicked, q, attraction)
    return _normalised(q, attraction, "em", sweep, bool(change <= tolerance), value)


def _em_start(
    shown: np.ndarray, clicked: np.ndarray, start: tuple[ArrayLike, ArrayLike] | None
) -> tuple[np.ndarray, np.ndarray]:
    if start is not None:
        q = _check.examination(start[0], shown.shape[1])
        attraction = _check.floats("start", start[1], 1).copy()
        if attraction.size != len(shown) or not ((attraction > 0) & (attraction < 1)).all():
            raise ValueError(f"start must hold {len(shown)} attractions in (0, 1)")
        return q, attraction
    rate = clicked.sum(axis=0) / shown.sum(axis=0)
    q = 0.9 * rate / rate.max()
    total = shown.sum(axis=1)
    of_item = np.divide(clicked.sum(axis=1), total, out=np.zeros_like(total), where=total > 0)
    return q, np.clip(of_item, 1e-6, 0.99)


class _Regression:
    """Attraction linear in features, least squares weighted by impressions."""

    def __init__(self, features: ArrayLike, weight: np.ndarray) -> None:
        self.features = _check.usable("features", _check.floats("features", features, 2))
        if len(self.features) != weight.size:
            raise ValueError(f"features must have {weight.size} rows; got {len(self.features)}")
        self.root = np.sqrt(weight)
        self.inverse = np.linalg.pinv(self.root[:, None] * self.features)

    def fit(self, target: np.ndarray) -> np.ndarray:
        """Fitted attraction (K,) inside (0, 1)."""
        theta = self.inverse @ (self.root * target)
        return np.clip(self.features @ theta, EDGE, 1.0 - EDGE)


def log_likelihood(
    impressions: np.ndarray, clicks: np.ndarray, examination: np.ndarray, attraction: np.ndarray
) -> float:
    """Binomial log-likelihood of counts (K, L), without binomial coefficients."""
    chance = attraction[:, None] * examination
    missed = impressions - clicks
    with np.errstate(divide="ignore", invalid="ignore"):
        won = np.where(clicks > 0, clicks * np.log(chance), 0.0)
        lost = np.where(missed > 0, missed * np.log1p(-chance), 0.0)
    return float((won + lost).sum())


def _probit(shown: np.ndarray, clicked: np.ndarray, prior_sd: float) -> Examination:
    """Laplace posterior of P(click) = Phi(slot + item); q from averaged predictions.

    Predictions of a slot are averaged over all items, each with its own weight of impressions, so
    that slots are compared on the same items.
    """
    from scipy.special import log_ndtr, ndtr

    n_items, n_slots = shown.shape
    rows = np.argwhere(shown > 0)
    design = np.zeros((len(rows), n_slots + n_items))
    design[np.arange(len(rows)), rows[:, 1]] = 1.0
    design[np.arange(len(rows)), n_slots + rows[:, 0]] = 1.0
    won = clicked[shown > 0]
    lost = shown[shown > 0] - won
    weight = np.zeros(n_slots + n_items)
    precision = 1.0 / prior_sd**2
    move, step = np.full(weight.size, np.inf), 0
    while np.abs(move).max() >= STEP and step < NEWTON_STEPS:
        step += 1
        z = design @ weight
        density = -0.5 * z * z - 0.5 * np.log(2.0 * np.pi)
        up, down = np.exp(density - log_ndtr(z)), np.exp(density - log_ndtr(-z))
        slope = design.T @ (won * up - lost * down) - precision * weight
        bend = won * up * (up + z) + lost * down * (down - z)
        curvature = (design.T * bend) @ design + precision * np.eye(weight.size)
        move = np.linalg.solve(curvature, slope)
        weight += move
    value = float((won * log_ndtr(design @ weight) + lost * log_ndtr(-(design @ weight))).sum())
    covariance = np.linalg.inv(curvature)
    variance = np.diag(covariance)
    spread = variance[:n_slots] + variance[n_slots:, None]
    spread = spread + 2.0 * covariance[n_slots:, :n_slots]
    mean = (weight[:n_slots] + weight[n_slots:, None]) / np.sqrt(1.0 + spread)
    predicted = ndtr(mean)
    share = shown.sum(axis=1) / shown.sum()
    raw = (share[:, None] * predicted).sum(axis=0)
    best = int(raw.argmax())
    done = bool(np.abs(move).max() < STEP)
    found = _normalised(raw, None, "probit", step, done, value)
    attraction = predicted[:, best]
    return Examination(found.examination, attraction, "probit", step, done, value, raw)
