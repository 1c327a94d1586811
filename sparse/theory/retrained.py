"""Risk after pruning and refitting the kept coefficients on the same data.

The mask is a function of the data it is refitted on. Treating it as independent is wrong by
factors near ``s = n``; the exact limit follows from two chained approximate message passing
recursions, the second of which sees the first one's pseudo-data through the mask.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.theory import effective
from cascadenet.sparse.theory._check import METHODS, Points, chosen, points, shaped
from cascadenet.sparse.theory.dense import Dense, dense_limit
from cascadenet.sparse.theory.laws import Law
from cascadenet.sparse.theory.pruned import Block, Known, known_masks, stage_one


class Stage(NamedTuple):
    """Second fit: effective ridge, ``ridge/eta``, denominator (K,); shrinkage (K, m)."""

    eta: np.ndarray
    share: np.ndarray
    denominator: np.ndarray
    zeta: np.ndarray
    delta: np.ndarray


class Coupling(NamedTuple):
    """How the second fit's noise follows the first one's: regression q and shift a, each (K,)."""

    q: np.ndarray
    a: np.ndarray


def second_stage(law: Law, problems: Points, keep: np.ndarray, mass: np.ndarray) -> Stage:
    """Effective ridge of the refit on features kept with probability ``keep`` (K, m).

    ``mass`` (K,) is their total, given apart so that ``kappa * mass = 1`` is met exactly.
    """
    spectrum = law.spectrum
    kappa, ridge = problems.kappa, problems.retrain_ridge
    weight = spectrum.weight * keep
    gap = effective.signed_gap(kappa, mass)
    eta = effective.solve(spectrum.eigenvalue, weight, kappa * mass, gap, ridge)
    total = spectrum.eigenvalue + eta[:, None]
    zeta, delta = spectrum.eigenvalue / total, eta[:, None] / total
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(eta == 0, np.maximum(-gap, 0.0), ridge / eta)
    both = np.einsum("ij,ij,ij->i", weight, zeta, delta)
    return Stage(eta, share, np.where(eta == 0, share, share + kappa * both), zeta, delta)


def coupling(law: Law, problems: Points, dense: Dense, block: Block, stage: Stage) -> Coupling:
    """Solve the two linear equations for q and a.

    Notes
    -----
    The first equates the covariance of the two stages' noises with its state-evolution value;
    the second cancels the Onsager term that the mask's discontinuity adds. Least squares in
    stage one has delta = 0, and then a = 0.
    """
    spectrum, kept, mask = law.spectrum, block.kept, block.mask
    rows = block.rows
    zeta, delta, weight = block.zeta, block.delta, stage.zeta * spectrum.weight
    kappa, gamma = problems.kappa[rows], dense.gamma[rows]
    tilt = np.abs(spectrum.mean) * mask.d1 / mask.spread
    fitted = zeta * (kept.cross + kept.noise) - delta * (kept.inside + kept.cross)

    def mean(values: np.ndarray) -> np.ndarray:
        return effective.row_sums(values, weight)

    base = dense.noise[rows] + block.delta @ (spectrum.weight * spectrum.energy)
    base = base + mean(zeta * kept.cross - delta * kept.inside)
    lead = gamma - mean(zeta * kept.noise - delta * kept.cross)
    side = mean(delta * fitted)
    jump = kappa * mean(mask.doubt * mask.d2)
    free = kappa * mean(tilt + mask.trust * mask.d2)
    hold = stage.share + kappa * mean(delta * (mask.keep + tilt + mask.d2))
    plain = dense.eta[rows] == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        determinant = lead * hold + side * jump
        q = np.where(plain, base / lead, (base * hold - side * free) / determinant)
        a = np.where(plain, 0.0, (-lead * free - base * jump) / determinant)
    return Coupling(q, a)


def refit_risk(law: Law, problems: Points, dense: Dense, block: Block) -> np.ndarray:
    """Risk of the refit for one block of data-dependent masks, (K,)."""
    rows, kept, mask = block.rows, block.kept, block.mask
    part = problems.take(rows)
    mass = np.minimum(part.kept, law.spectrum.mass)
    stage = second_stage(law, part, mask.keep, mass)
    q, a = (column[:, None] for column in coupling(law, problems, dense, block, stage))
    # the estimate is zeta2 ((1 + a delta) Theta + (q + a delta) N1) plus independent noise
    lean = a * block.delta
    signal = stage.delta - stage.zeta * lean
    error = stage.zeta * (q + lean)
    loss = kept.outside + signal**2 * kept.inside - 2.0 * signal * error * kept.cross
    # E[N1² M] less the share of q that the independent noise does not have
    square = (q + lean) ** 2 * mask.doubt * mask.d2 + lean * (2.0 * q + lean) * mask.keep
    loss += stage.zeta**2 * dense.tau2[rows, None] * square
    risk = _over(dense.noise[rows] + loss @ law.spectrum.weight, stage.denominator)
    return np.maximum(risk, dense.noise[rows])  # rounding could take a tiny excess below 0


def known_refit_risk(law: Law, problems: Points, known: Known) -> np.ndarray:
    """Risk of a fit on features chosen without looking at its noise, (K,).

    The dropped features become noise: the small model of the same size.
    """
    part = problems.take(known.rows)
    stage = second_stage(law, part, known.keep, known.mass)
    loss = (known.outside + stage.delta**2 * known.inside) @ law.spectrum.weight
    return _over(part.noise + loss, stage.denominator)


def _over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """``top / bottom`` with inf at bottom 0, and 0 where there is nothing to amplify."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(top == 0, 0.0, top / bottom)


def retrained_limit(law: Law, problems: Points, dense: Dense, method: str) -> np.ndarray:
    """Retrained risk of every problem, (K,); the arguments are trusted."""
    out = np.empty(problems.kappa.size)
    if method != "oracle":
        for block in stage_one(law, problems, dense, method):
            out[block.rows] = refit_risk(law, problems, dense, block)
    for known in known_masks(law, problems, dense, method):
        out[known.rows] = known_refit_risk(law, problems, known)
    return out


def retrained_risk(
    law: Law,
    kappa: ArrayLike,
    noise_variance: ArrayLike,
    kept_fraction: ArrayLike,
    *,
    method: str = "magnitude",
    ridge: ArrayLike = 0.0,
    retrain_ridge: ArrayLike = 0.0,
) -> float | np.ndarray:
    """Total test risk after pruning and refitting the kept coefficients on the same data.

    Parameters
    ----------
    law, kappa, noise_variance, kept_fraction, ridge
        As for `pruned_risk`.
    method : {"magnitude", "hessian", "oracle"}
        Score of the pruner. "oracle" knows the most informative features beforehand: the small
        model trained on them alone.
    retrain_ridge : array_like
        Penalty of the second fit, at least 0; 0 is least squares or the minimum-norm refit.

    Returns
    -------
    float or ndarray
        Risk, noise included; inf when as many features are kept as there are samples and
        ``retrain_ridge`` is 0. At ``kappa = 1`` the dense risk is infinite but this one is its
        finite limit: the mask is then independent of the signal.

    Raises
    ------
    ValueError
        An argument out of range, named.

    Notes
    -----
    Exact in the sense of state evolution, by an argument without a written proof; it agrees with
    simulation to the latter's precision. The oracle's formula is rigorous.
    """
    chosen("method", method, METHODS)
    problems, shape = points(kappa, noise_variance, kept_fraction, ridge, retrain_ridge)
    dense = dense_limit(law, problems)
    return shaped(retrained_limit(law, problems, dense, method), shape)
