"""Risk after pruning without refitting: magnitude, Hessian-weighted and oracle masks.

Source: Chang et al., AAAI 2021 (arXiv 2012.08749), for least squares and minimum-norm
interpolation; the ridge only changes zeta and tau.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.theory import effective, masks
from cascadenet.sparse.theory._check import METHODS, Points, chosen, points, shaped
from cascadenet.sparse.theory.dense import Dense, dense_limit
from cascadenet.sparse.theory.laws import Law

NODES_PER_UNIT = 8  # Chebyshev nodes per unit of log|kappa - 1|; 48 on [1.02, 10]
MOST_NODES = 96


class Block(NamedTuple):
    """Stage one of the problems in ``rows``: what pruning and retraining both need."""

    rows: np.ndarray
    delta: np.ndarray  # (K, m); zeta = 1 - delta
    zeta: np.ndarray
    mask: masks.Mask
    kept: masks.Kept
    threshold: np.ndarray  # (K,)


class Known(NamedTuple):
    """Problems whose mask does not depend on the noise of the fit."""

    rows: np.ndarray
    threshold: np.ndarray  # (K,)
    keep: np.ndarray  # (K, m) over the positive eigenvalues, as the energies
    inside: np.ndarray
    outside: np.ndarray
    mass: np.ndarray  # (K,) kept probability among positive eigenvalues
    rest: np.ndarray  # (K,) keep probability of a zero eigenvalue


class Pruned(NamedTuple):
    """Risk and threshold (K,), and keep probability by component of the law (K, components)."""

    risk: np.ndarray
    threshold: np.ndarray
    keep: np.ndarray


# Stage one, block by block


def noisy_rows(dense: Dense) -> np.ndarray:
    """Positions of the problems whose pseudo-data have a finite, positive noise."""
    return np.flatnonzero((dense.tau2 > 0) & np.isfinite(dense.tau2))


def stage_one(law: Law, problems: Points, dense: Dense, method: str) -> Iterator[Block]:
    """Masks of the problems in `noisy_rows`, in blocks that stay in cache."""
    spectrum = law.spectrum
    rows = noisy_rows(dense)
    seeds = _seed_thresholds(law, problems.take(rows), dense.take(rows), method)
    for part in effective.blocks(rows.size, spectrum.eigenvalue.size):
        some = rows[part]
        eta, tau2, kept = dense.eta[some], dense.tau2[some], problems.kept[some]
        scale = masks.score_scale(spectrum.eigenvalue, eta, method)
        mask, threshold = masks.settle(scale, spectrum, tau2, kept, seeds[part])
        total = spectrum.eigenvalue + eta[:, None]
        delta, zeta = eta[:, None] / total, spectrum.eigenvalue / total
        yield Block(some, delta, zeta, mask, masks.energies(mask, spectrum, tau2), threshold)


def known_masks(law: Law, problems: Points, dense: Dense, method: str) -> Iterator[Known]:
    """Masks of the other problems: all of them for the oracle, else those with no noise or inf.

    Without noise the estimate equals the truth and the mask picks the truly largest scores. As
    tau → inf the scores are noise alone.
    """
    if method == "oracle":
        everything = np.arange(problems.kappa.size)
        if everything.size:
            yield _selected(law, problems, everything, method)
        return
    silent = np.flatnonzero(dense.tau2 == 0)
    if silent.size:
        yield _selected(law, problems, silent, method)
    drowned = np.flatnonzero(np.isinf(dense.tau2))
    if drowned.size:
        yield _drowned(law, problems, drowned, method)


def _selected(law: Law, problems: Points, rows: np.ndarray, method: str) -> Known:
    """Mask of the largest true scores: |B| for magnitude, |Theta| for the others."""
    spectrum = law.spectrum
    scale = np.ones(spectrum.mean.size)
    if method == "magnitude":
        scale = np.sqrt(spectrum.eigenvalue)
    rest, mass = rest_probability(law, problems.kept[rows])
    target = np.where(problems.kept[rows] >= spectrum.mass, np.inf, mass)
    true = masks.select(scale, spectrum.mean, spectrum.variance, spectrum.weight, target)
    return Known(rows, true.threshold, true.keep, true.inside, true.outside, mass, rest)


def _drowned(law: Law, problems: Points, rows: np.ndarray, method: str) -> Known:
    """Mask at infinite noise: independent of the signal, only the scales of the scores count."""
    spectrum = law.spectrum
    nothing = np.zeros_like(spectrum.mean)
    quiet = spectrum._replace(mean=nothing, variance=nothing, energy=nothing)
    kept, one = problems.kept[rows], np.ones(rows.size)
    scale = masks.score_scale(spectrum.eigenvalue, np.zeros(rows.size), method)
    mask, t = masks.settle(scale, quiet, one, kept, np.full(rows.size, np.nan))
    rest, mass = rest_probability(law, kept)
    return Known(
        rows,
        np.where(t == 0, 0.0, np.inf),
        mask.keep,
        spectrum.energy * mask.keep,
        spectrum.energy * mask.drop,
        mass,
        rest,
    )


def rest_probability(law: Law, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep probability of the zero eigenvalues, scored 0, and kept mass of the others; (K,)."""
    mass = np.minimum(kept, law.spectrum.mass)
    empty = 1.0 - law.spectrum.mass
    return (np.zeros(kept.size) if empty == 0 else (kept - mass) / empty), mass


# Seeds for long curves


def _seed_thresholds(law: Law, problems: Points, dense: Dense, method: str) -> np.ndarray:
    """Thresholds by Chebyshev interpolation in ``log|kappa - 1|``, nan where there is none.

    The threshold is analytic in kappa on either side of 1. An interpolated one is only a start:
    `masks.settle` measures its residual and improves or replaces it.
    """
    seeds = np.full(problems.kappa.size, np.nan)
    if seeds.size < effective.LONG:
        return seeds
    constant = [problems.noise, problems.ridge]
    fixed_fraction = np.ptp(problems.kept) == 0
    product = problems.kept * problems.kappa
    if any(np.ptp(column) != 0 for column in constant):
        return seeds
    if not fixed_fraction and np.ptp(product) > 1e-12 * product.max():
        return seeds
    partial = problems.kept < law.spectrum.mass
    for side in (dense.gap > 0, dense.gap < 0):
        rows = np.flatnonzero(side & partial)
        if rows.size >= effective.LONG:
            part = problems.take(rows)
            seeds[rows] = _interpolate(law, part, dense.gap[rows], method, fixed_fraction)
    return seeds


def _interpolate(
    law: Law, problems: Points, gap: np.ndarray, method: str, fixed_fraction: bool
) -> np.ndarray:
    """Thresholds (K,) of problems on one side of the peak, from Chebyshev nodes."""
    mass = law.spectrum.mass
    below = gap[0] < 0
    x = np.log((1.0 + gap) / -gap if below else gap)
    centre, half = 0.5 * (x.max() + x.min()), 0.5 * np.ptp(x)
    count = int(min(MOST_NODES, 16 + np.ceil(2.0 * NODES_PER_UNIT * half)))
    if half == 0 or 2 * count > x.size:
        return np.full(x.size, np.nan)
    angle = np.pi * np.arange(count + 1) / count
    grid = np.exp(centre + half * np.cos(angle))
    kappa = (grid / (1.0 + grid) if below else 1.0 + grid) / mass
    kept = problems.kept[0] if fixed_fraction else problems.kept[0] * problems.kappa[0] / kappa
    kept = np.broadcast_to(np.minimum(kept, mass), kappa.shape)
    noise, ridge = (np.full(kappa.size, column[0]) for column in (problems.noise, problems.ridge))
    nodes = Points(kappa, noise, kept, ridge, np.zeros(kappa.size))
    dense = dense_limit(law, nodes)
    scale = masks.score_scale(law.spectrum.eigenvalue, dense.eta, method)
    t = masks.thresholds(scale, law.spectrum, dense.tau2, kept)
    if not (t > 0).all():
        return np.full(x.size, np.nan)
    return np.exp(barycentric(np.log(t), (x - centre) / half))


def barycentric(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Polynomial through ``values`` (N+1,) at ``cos(pi j/N)``, at ``x`` (K,) in [-1, 1]."""
    count = values.size - 1
    nodes = np.cos(np.pi * np.arange(count + 1) / count)
    weight = (-1.0) ** np.arange(count + 1)
    weight[[0, -1]] *= 0.5
    gap = x[:, None] - nodes
    hit = gap == 0
    ratio = weight / np.where(hit, 1.0, gap)
    out = (ratio @ values) / ratio.sum(axis=1)
    row, column = np.nonzero(hit)
    out[row] = values[column]
    return out


# Risks


def pruned_limit(law: Law, problems: Points, dense: Dense, method: str) -> Pruned:
    """Risk, threshold and keep probabilities of every problem; the arguments are trusted."""
    count = problems.kappa.size
    out = Pruned(np.empty(count), np.empty(count), np.zeros((count, law.n_components)))
    if method != "oracle":
        for block in stage_one(law, problems, dense, method):
            out.risk[block.rows] = block_risk(law, problems, dense, block)
            out.threshold[block.rows] = block.threshold
            fill_keep(law, out.keep, block.rows, block.mask.keep, problems.kept)
    for known in known_masks(law, problems, dense, method):
        out.risk[known.rows] = known_risk(law, dense, known)
        out.threshold[known.rows] = known.threshold
        out.keep[known.rows[:, None], law.spectrum.index] = known.keep
        out.keep[np.ix_(known.rows, law.eigenvalue == 0)] = known.rest[:, None]
    return out


def fill_keep(
    law: Law, keep: np.ndarray, rows: np.ndarray, values: np.ndarray, kept: np.ndarray
) -> None:
    """Write the keep probabilities of ``rows`` into ``keep`` (K, components)."""
    keep[rows[:, None], law.spectrum.index] = values
    rest, _ = rest_probability(law, kept[rows])
    keep[np.ix_(rows, law.eigenvalue == 0)] = rest[:, None]


def block_risk(law: Law, problems: Points, dense: Dense, block: Block) -> np.ndarray:
    """``noise + E[Λ (B - X M)²]`` of one block, (K,)."""
    kept, delta, zeta = block.kept, block.delta, block.zeta
    loss = kept.outside + delta**2 * kept.inside
    loss += zeta * (zeta * kept.noise - 2.0 * delta * kept.cross)
    risk = dense.noise[block.rows] + loss @ law.spectrum.weight
    everything = problems.kept[block.rows] >= law.spectrum.mass
    return np.where(everything, dense.gamma[block.rows], risk)


def known_risk(law: Law, dense: Dense, known: Known) -> np.ndarray:
    """The same for masks independent of the fit's noise, (K,)."""
    spectrum = law.spectrum
    eta, tau2 = dense.eta[known.rows], dense.tau2[known.rows]
    total = spectrum.eigenvalue + eta[:, None]
    delta, zeta = eta[:, None] / total, spectrum.eigenvalue / total
    fixed = (known.outside + delta**2 * known.inside) @ spectrum.weight
    spread = (zeta**2 * known.keep) @ spectrum.weight
    with np.errstate(invalid="ignore"):
        scatter = np.where(spread > 0, tau2 * spread, 0.0)
    return dense.noise[known.rows] + fixed + scatter


def pruned_risk(
    law: Law,
    kappa: ArrayLike,
    noise_variance: ArrayLike,
    kept_fraction: ArrayLike,
    *,
    method: str = "magnitude",
    ridge: ArrayLike = 0.0,
) -> float | np.ndarray:
    """Total test risk after keeping a fraction of the fitted coefficients, without refitting.

    Parameters
    ----------
    law : Law
        Law of eigenvalue and scaled coefficient.
    kappa : array_like
        Features per sample, p/n, above 0.
    noise_variance : array_like
        Variance of the label noise, at least 0.
    kept_fraction : array_like
        Kept coefficients over p, in (0, 1].
    method : {"magnitude", "hessian", "oracle"}
        Score: ``|b̂_i|``, ``sqrt(Λ_i)|b̂_i|``, or the true ``Λ_i b_i²``.
    ridge : array_like
        Penalty of the fit, as for `dense_risk`. The arguments broadcast.

    Returns
    -------
    float or ndarray
        Risk, noise included; inf where the dense risk is.

    Raises
    ------
    ValueError
        An argument out of range, named.

    Notes
    -----
    With ``R1 = Theta + tau H`` and the mask ``M = 1{|R1| > u}`` the risk is
    ``noise + E[(Theta - zeta R1 M)²]``. When scores tie, as they can without noise, ties are
    kept with one common probability; a finite sample would break them arbitrarily.

    References
    ----------
    Chang et al., AAAI 2021, Section 4.
    """
    chosen("method", method, METHODS)
    problems, shape = points(kappa, noise_variance, kept_fraction, ridge)
    dense = dense_limit(law, problems)
    return shaped(pruned_limit(law, problems, dense, method).risk, shape)
