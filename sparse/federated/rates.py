"""How much of the model a worker should keep, learned from its update times.

The update time phi of a worker is an unknown increasing function of its retention gamma, the share
of all parameters that it trains. Its inverse is interpolated through the pairs seen so far, and
read at the time of the reference: the fastest worker that has the full model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.federated import _check

POINTS = 3  # noise makes polynomials of higher degree explode
RULES = ("newton", "proportional")

Pair = tuple[float, float]  # retention, update time in seconds


@dataclass(frozen=True)
class RateRule:
    """How a pruning event turns update times into retentions.

    Parameters
    ----------
    rule : {"newton", "proportional"}
        Interpolation through past pairs, or in proportion to the time alone.
    alpha : float
        In (0, 1], of the proportional rule, which also serves a worker's first event: the part of
        the way to go. Below 1 models stay larger for longer.
    rho_max : float
        Largest share of its parameters that a worker loses in one event.
    rho_min : float
        Events that would remove less are skipped.
    gamma_min : float
        No worker keeps less: the floor under the accuracy, and the bound of the speed-up.
    tolerance : float
        Dead-band. A worker within ``1 + tolerance`` of the reference is left alone; take two or
        three times the relative noise of the update times.
    regrow : bool
        Whether a worker that is faster than the reference by more than half the dead-band gets
        units back: noise has taken too many, or its machine has become faster.
    """

    rule: str = "newton"
    alpha: float = 1.0
    rho_max: float = 0.5
    rho_min: float = 0.02
    gamma_min: float = 0.1
    tolerance: float = 0.08
    regrow: bool = True

    def __post_init__(self) -> None:
        _check.chosen("rule", self.rule, RULES)
        _check.real("alpha", self.alpha, 0.0, 1.0, open_low=True)
        _check.real("rho_max", self.rho_max, 0.0, 1.0, open_low=True, open_high=True)
        _check.real("rho_min", self.rho_min, 0.0, self.rho_max)
        _check.real("gamma_min", self.gamma_min, 0.0, 1.0, open_low=True)
        _check.real("tolerance", self.tolerance, 0.0)
        _check.flag("regrow", self.regrow)


def divided_differences(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """Coefficients of Newton's form of the polynomial through points.

    Parameters
    ----------
    x, y : array-like of float, shape (m,)
        ``x`` distinct.

    Returns
    -------
    numpy.ndarray of float64, shape (m,)
        ``f[x_0], f[x_0, x_1], ..., f[x_0..x_{m-1}]``.
    """
    x, out = np.asarray(x, np.float64), np.array(y, np.float64)
    for order in range(1, out.size):
        out[order:] = (out[order:] - out[order - 1 : -1]) / (x[order:] - x[:-order])
    return out


def newton_value(x: ArrayLike, coefficients: ArrayLike, at: float) -> tuple[float, float]:
    """Value and slope at a point of a polynomial in Newton's form.

    Parameters
    ----------
    x : array-like of float, shape (m,)
    coefficients : array-like of float, shape (m,)
        From `divided_differences`.
    at : float
    """
    value = slope = 0.0
    for node, coefficient in zip(reversed(list(x)), reversed(list(coefficients)), strict=True):
        slope = slope * (at - node) + value
        value = value * (at - node) + coefficient
    return float(value), float(slope)


def wanted_retention(history: Sequence[Pair], target: float, rule: RateRule) -> tuple[float, str]:
    """Retention at which a worker is expected to need ``target``; no bounds are applied.

    Parameters
    ----------
    history : sequence of (retention, seconds)
        By time; the last is how things are now.
    target : float
        Seconds.
    rule : RateRule

    Returns
    -------
    retention : float
    how : str
        "newton 3", "newton 2" or "proportional".

    Notes
    -----
    Interpolates through at most three pairs whose times differ by more than the dead-band, for
    closer ones tell noise. A polynomial counts only if it increases from the target to now: else
    the one through a pair less is tried, and in the end time taken as proportional to retention.
    """
    gamma, phi = history[-1]
    if rule.rule == "newton":
        chosen = _apart(history, math.log1p(rule.tolerance))
        for m in range(len(chosen), 1, -1):
            value = _inverse(sorted(chosen[:m]), phi, target)
            if value is not None and value > 0:
                return value, f"newton {m}"
    return gamma * (1 - rule.alpha * (1 - target / phi)), "proportional"


def _apart(history: Sequence[Pair], gap: float) -> list[Pair]:
    """The latest pair, and the latest before it whose times differ by more than noise."""
    chosen = [history[-1]]
    for pair in reversed(history[:-1]):
        if all(abs(math.log(pair[1] / other[1])) > gap for other in chosen):
            chosen.append(pair)
        if len(chosen) == POINTS:
            break
    return chosen


def _inverse(pairs: Sequence[Pair], now: float, target: float) -> float | None:
    """Retention at ``target`` by interpolation, or None where it cannot be trusted."""
    gamma, phi = zip(*pairs, strict=True)
    if np.any(np.diff(gamma) <= 0) or np.any(np.diff(phi) <= 0):
        return None
    coefficients = divided_differences(phi, gamma)
    value, slope = newton_value(phi, coefficients, target)
    # the slope is linear for three points, so its ends tell its sign in between
    if slope <= 0 or newton_value(phi, coefficients, now)[1] <= 0:
        return None
    return value


def next_retention(history: Sequence[Pair], target: float, rule: RateRule) -> tuple[float, str]:
    """Retention after a pruning event, within all bounds.

    Parameters
    ----------
    history, target, rule
        As for `wanted_retention`.

    Returns
    -------
    retention : float
        That of now where nothing is to be done.
    how : str
        As for `wanted_retention`, or "dead-band", "too little" or "floor".
    """
    gamma, phi = history[-1]
    slow = phi > target * (1 + rule.tolerance)
    fast = rule.regrow and gamma < 1 and phi < target * (1 - rule.tolerance / 2)
    if not slow and not fast:
        return gamma, "dead-band"
    if slow and gamma <= rule.gamma_min:
        return gamma, "floor"
    wanted, how = wanted_retention(history, target, rule)
    if slow:
        bounded = max(min(wanted, gamma), gamma * (1 - rule.rho_max), rule.gamma_min)
    else:
        bounded = min(max(wanted, gamma), gamma * (1 + rule.rho_max), 1.0)
    if abs(1 - bounded / gamma) < rule.rho_min:
        return gamma, "too little"
    return bounded, how
