"""Survival log-likelihood of point estimates of rates for cascades that were not fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cascadenet.delays import Delay, get_delay

if TYPE_CHECKING:
    import scipy.sparse

    from cascadenet.cascades import Cascades

__all__ = ["HeldOut", "Rates", "held_out_likelihood"]

Rates = dict[str, np.ndarray]

SHARES = np.concatenate((np.logspace(-6.0, -1.0, 51), np.linspace(0.12, 1.0, 45)))


@dataclass(frozen=True)
class HeldOut:
    """Held-out score.

    Attributes
    ----------
    per_infection : float
        Log-likelihood per infection that is not the first of its cascade, nats; densities are per
        unit of the user's time.
    standard_error : float
        Of the above, over cascades.
    uniform_share : float
        Share of the one rate for all pairs in the mixture, mean of both halves.
    """

    per_infection: float
    standard_error: float
    uniform_share: float


@dataclass(frozen=True)
class _Cascade:
    """What one cascade needs of two sets of rates.

    Attributes
    ----------
    hazard, uniform_hazard : float64 arrays, shape (infections with an earlier one,)
        Hazard at each infection.
    dose, uniform_dose : float
        Rates times exposures, summed over all pairs.
    """

    hazard: np.ndarray
    uniform_hazard: np.ndarray
    dose: float
    uniform_dose: float

    def log_likelihood(self, share: np.ndarray) -> np.ndarray:
        """For each share of the uniform rates, shape like ``share``."""
        share = np.atleast_1d(share)[:, None]
        hazard = (1.0 - share) * self.hazard + share * self.uniform_hazard
        dose = (1.0 - share[:, 0]) * self.dose + share[:, 0] * self.uniform_dose
        return np.log(hazard).sum(axis=1) - dose


def held_out_likelihood(
    rates: Rates, train: Cascades, test: Cascades, delay: str | Delay
) -> HeldOut:
    """Score rates by cascades they were not fitted to.

    Parameters
    ----------
    rates : dict of arrays, shape (rows,)
        ``source``, ``target``, node indices, each pair once, and ``rate``, user's unit, not
        negative; other pairs have rate zero. Empty for the uniform rate alone.
    train, test : Cascades
        Over the same nodes; ``test`` with at least two cascades.
    delay : str or Delay
        Delay model, with the parameters it starts from, which are in the user's unit here.

    Returns
    -------
    HeldOut

    Notes
    -----
    A point estimate: what a posterior knows beyond its mean rates is not in the score. As a rate of
    zero cannot explain an infection, the rates scored are (1 - share) rate_uv + share r, with r the
    best rate for all pairs alike on the training cascades. The share is the best of a grid for one
    half of the test cascades, those at even positions, and used for the other half, and the other
    way round.

    The standard error is that of a ratio of sums over independent cascades.
    """
    import scipy.sparse

    model = get_delay(delay)
    n_nodes = test.n_nodes
    entries = (np.empty(0), (np.empty(0, int), np.empty(0, int)))
    if rates:
        entries = (rates["rate"], (rates["source"], rates["target"]))
    matrix = scipy.sparse.csr_array(entries, shape=(n_nodes, n_nodes))
    uniform = _uniform_rate(train, model)
    parts = [_part(test, c, matrix, uniform, model) for c in range(test.n_cascades)]
    if not rates:
        value = np.array([part.log_likelihood(np.ones(1))[0] for part in parts])
        return HeldOut(*_ratio(value, parts), uniform_share=1.0)
    value, shares = np.empty(len(parts)), []
    for half in (0, 1):
        chosen_on = sum(part.log_likelihood(SHARES) for part in parts[1 - half :: 2])
        share = SHARES[int(np.argmax(chosen_on))]
        value[half::2] = [part.log_likelihood(share)[0] for part in parts[half::2]]
        shares.append(share)
    return HeldOut(*_ratio(value, parts), uniform_share=float(np.mean(shares)))


def _ratio(value: np.ndarray, parts: list[_Cascade]) -> tuple[float, float]:
    """Sum of values over number of infections, and its standard error over cascades."""
    count = np.array([part.hazard.size for part in parts], np.float64)
    total = count.sum()
    if total == 0.0:
        return math.nan, math.nan
    mean = value.sum() / total
    spread = np.sum((value - mean * count) ** 2) * count.size / (count.size - 1)
    return float(mean), float(math.sqrt(spread) / total)


def _part(
    cascades: Cascades, c: int, rate: scipy.sparse.csr_array, uniform: float, delay: Delay
) -> _Cascade:
    """Hazards and doses of one cascade. O(infections^2)."""
    inside = slice(cascades.offset[c], cascades.offset[c + 1])
    node, when = cascades.node[inside], cascades.time[inside]
    theta = delay.default()
    out = rate[node]
    among = out[:, node].toarray()
    full = delay.cumulative(cascades.horizon[c] - when, theta)
    wait = when[None, :] - when[:, None]  # from row to column
    earlier = wait > 0.0
    watched = np.zeros(wait.shape)
    watched[earlier] = delay.cumulative(wait[earlier], theta)
    act = np.zeros(wait.shape)
    act[earlier] = np.exp(delay.log_hazard(wait[earlier], theta))
    # a node infected in the cascade is exposed up to its infection, all others to the end
    later = earlier.any(axis=0)
    return _Cascade(
        hazard=(among * act).sum(axis=0)[later],
        uniform_hazard=uniform * act.sum(axis=0)[later],
        dose=float(
            full @ np.asarray(out.sum(axis=1)).ravel()
            - full @ among.sum(axis=1)
            + (among * watched).sum()
        ),
        uniform_dose=float(uniform * (full.sum() * (cascades.n_nodes - node.size) + watched.sum())),
    )


def _uniform_rate(cascades: Cascades, delay: Delay) -> float:
    """The rate for all pairs alike that makes the cascades most likely."""
    import scipy.sparse

    none = scipy.sparse.csr_array((cascades.n_nodes, cascades.n_nodes))
    parts = [_part(cascades, c, none, 1.0, delay) for c in range(cascades.n_cascades)]
    infections = sum(part.hazard.size for part in parts)
    exposure = sum(part.uniform_dose for part in parts)
    return infections / exposure if infections else 0.0
