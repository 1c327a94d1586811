"""Quantiles of the two-part Gamma mixtures that stand for a rate's posterior."""

from __future__ import annotations

import numpy as np

SMALLEST = 1e-12  # quantiles below this share of the larger mean count as zero
LARGEST = 1e3  # and none lies above this multiple of it
PRECISION = 2e-12  # of the logs of quantiles
SHORT_SERIES = 1e-6  # of rate times quantile, below which two terms of a law's series will do
SMALLEST_SPREAD = 1e-12  # variance over squared mean; a part that does not vary is a Gamma law too


def gamma_with_moments(
    mean: np.ndarray, square: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Shape and rate of the Gamma law with the moments of a part of the draws."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, square = mean / share, square / share
        rate = mean / np.maximum(square - mean**2, SMALLEST_SPREAD * mean**2)
    usable = np.isfinite(rate) & (rate > 0.0) & (share > 0.0)
    return np.where(usable, mean * rate, 1.0), np.where(usable, rate, np.inf)


def mixture_quantile(
    q: float,
    prob: np.ndarray,
    hit: tuple[np.ndarray, np.ndarray],
    rest: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Quantile of prob * Gamma(*hit) + (1 - prob) * Gamma(*rest), sought in logs.

    Values below ``SMALLEST`` times the larger mean count as zero.
    """
    largest = np.maximum(hit[0] / hit[1], rest[0] / rest[1])
    found = np.zeros(prob.size)
    # a Gamma law of so small a shape that q is reached below SMALLEST needs no search
    shape = np.maximum(rest[0], np.finfo(float).tiny)
    flat = (prob == 0.0) & (shape < 1.0) & (shape * -np.log(SMALLEST * shape) < -np.log(q))
    positive = np.flatnonzero((largest > 0.0) & ~flat)
    floor = SMALLEST * largest[positive]
    active = positive[_below(floor, positive, prob, hit, rest) < q]
    alone = active[prob[active] == 0.0]
    near = _near_zero(q, rest[0][alone])
    found[alone] = near / rest[1][alone]
    active = np.concatenate((active[prob[active] != 0.0], alone[near == 0.0]))
    if active.size:
        from scipy.optimize.elementwise import find_root

        bracket = np.log(SMALLEST * largest[active]), np.log(LARGEST * largest[active])
        root = find_root(
            lambda log_x, rows: _below(np.exp(log_x), rows, prob, hit, rest) - q,
            bracket,
            args=(active,),
            tolerances={"xatol": PRECISION, "xrtol": 0.0},
        )
        # at its lower end a bracket may have no sign left to change, rounded to logs and back
        found[active] = np.exp(np.where(root.success, root.x, bracket[0]))
    return found


def _near_zero(q: float, shape: np.ndarray) -> np.ndarray:
    """Quantile of Gamma(shape, 1) by the start of its series; 0 where that does not suffice.

    P(x) = x^s / Gamma(s + 1) (1 - s x / (s + 1) + ...), to ``PRECISION`` below ``SHORT_SERIES``.
    """
    from scipy.special import gammaln

    with np.errstate(over="ignore"):
        first = np.exp((np.log(q) + gammaln(shape + 1.0)) / shape)
    first[first >= SHORT_SERIES] = 0.0
    return first * np.exp(first / (shape + 1.0))


def mixture_below(
    x: np.ndarray,
    prob: np.ndarray,
    hit: tuple[np.ndarray, np.ndarray],
    rest: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Probability that prob * Gamma(*hit) + (1 - prob) * Gamma(*rest) is at most x."""
    return _below(x, np.arange(prob.size), prob, hit, rest)


def _below(
    x: np.ndarray,
    rows: np.ndarray,
    prob: np.ndarray,
    hit: tuple[np.ndarray, np.ndarray],
    rest: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Distribution function of the mixtures in ``rows``; a rate of inf is mass at zero."""
    from scipy.special import gammainc

    value = np.zeros(rows.size)
    for (shape, rate), share in ((hit, prob[rows]), (rest, 1.0 - prob[rows])):
        point = ~np.isfinite(rate[rows])
        argument = np.where(point, 0.0, rate[rows]) * x
        value += share * np.where(point, 1.0, gammainc(shape[rows], argument))
    return value
