"""Who survives pruning: thresholds, keep probabilities and truncated moments.

In the limit a feature of component k is scored through its pseudo-data ``R1 = Theta + N1``, with
``Theta ~ N(m, v)`` the whitened coefficient and ``N1 ~ N(0, tau²)``, and is kept when
``|R1| > u = t r_k``; ``r_k`` is what the pruner's score makes of it. Every moment needed is a
combination of four Gaussian integrals, kept in a form that has no cancellation as tau → 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from cascadenet.sparse.theory.effective import row_sums
from cascadenet.sparse.theory.laws import Spectrum

EPS = np.finfo(np.float64).eps
ROOT = np.sqrt(2.0 * np.pi)
TIE = 1e-12  # scores of atoms this close, relatively, are equal
STEP = 1e-8  # relative step of the threshold after which the next error is below rounding
SHIFT = 1e-7  # step in standard deviations up to which first-order corrections are exact
TRUST = 0.1  # and up to which Newton's method needs no bracket
SWEEPS = 100


class Mask(NamedTuple):
    """Mask of K problems and m components, with ``a = (u-m)/S``, ``b = (-u-m)/S``; arrays (K, m).

    ``keep`` = P(|R1| > u), ``drop`` = 1 - keep, ``d1`` = phi(a) - phi(b),
    ``d2`` = a phi(a) - b phi(b), ``spread`` the standard deviation S of R1, ``trust`` = v/S² and
    ``doubt`` = tau²/S², the regression of Theta and of N1 on R1.
    """

    keep: np.ndarray
    drop: np.ndarray
    d1: np.ndarray
    d2: np.ndarray
    spread: np.ndarray
    trust: np.ndarray
    doubt: np.ndarray


class Kept(NamedTuple):
    """Energies by component, (K, m): E[Θ²M], E[Θ²(1-M)], E[Θ N1 M], E[N1² M]."""

    inside: np.ndarray
    outside: np.ndarray
    cross: np.ndarray
    noise: np.ndarray


def score_scale(eigenvalue: np.ndarray, eta: np.ndarray, method: str) -> np.ndarray:
    """``r`` of ``u = t r``: pseudo-data per unit of score, shape (K, m); eta is (K,)."""
    total = eigenvalue + eta[:, None]
    return total / (np.sqrt(eigenvalue) if method == "magnitude" else eigenvalue)


# Thresholds


def thresholds(
    scale: np.ndarray, spectrum: Spectrum, tau2: np.ndarray, kept: np.ndarray
) -> np.ndarray:
    """Score ``t`` (K,) above which a fraction ``kept`` lies; 0 where everything scored is kept.

    Parameters
    ----------
    scale : ndarray, shape (K, m)
        From `score_scale`.
    spectrum : Spectrum
        Whitened components.
    tau2, kept : ndarray, shape (K,)
        Variance of the pseudo-data's noise, above 0, and target fraction.
    """
    out = np.zeros(kept.size)
    rows = np.flatnonzero(kept < spectrum.mass)
    if rows.size == 0:
        return out
    spread = np.sqrt(spectrum.variance + tau2[rows, None])
    pull = scale[rows] / spread
    shift = np.abs(spectrum.mean) / spread
    # Markov: P(score > t) <= E[score²] / t²
    square = row_sums((1.0 + shift**2) / pull**2, spectrum.weight)
    high = np.sqrt(square / kept[rows]) * (1.0 + 1e-9)
    start = np.sqrt(square / spectrum.mass) * ndtri(1.0 - 0.5 * kept[rows] / spectrum.mass)
    out[rows] = quantile(pull, shift, spectrum.weight, kept[rows], np.zeros(rows.size), high, start)
    return out


def quantile(
    pull: np.ndarray,
    shift: np.ndarray,
    weight: np.ndarray,
    target: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    start: np.ndarray,
) -> np.ndarray:
    """Solve ``sum_k w_k P(|H + shift_k| > pull_k t) = target`` for t within ``[low, high]``.

    Newton's method on the logarithm of the left side, bisecting whenever a step leaves the
    bracket: between well separated components the tail is flat and has no useful slope.

    Parameters
    ----------
    pull, shift : ndarray, shape (K, m)
        Inverse spread of the scores, and their means over it, at least 0.
    weight : ndarray, shape (m,)
    target, low, high, start : ndarray, shape (K,)

    Returns
    -------
    ndarray, shape (K,)
    """
    t = np.where((start > low) & (start < high), start, 0.5 * (low + high))
    low, high = low.copy(), high.copy()
    active = np.arange(t.size)
    for _ in range(SWEEPS):
        tail, slope = _tail(pull[active], shift[active], weight, t[active])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            log_ratio = np.log(tail / target[active])
            new = t[active] + log_ratio * tail / slope
        above = log_ratio > 0
        low[active[above]] = t[active[above]]
        high[active[~above]] = t[active[~above]]
        inside = (new > low[active]) & (new < high[active])
        new = np.where(inside, new, 0.5 * (low[active] + high[active]))
        flat = np.abs(log_ratio) <= 2 * EPS
        new = np.where(flat, t[active], new)
        # a bisection's step says nothing about the error: only its bracket does
        small = inside & (np.abs(new - t[active]) <= STEP * new)
        small |= flat | (high[active] - low[active] <= 4 * EPS * high[active])
        t[active] = new
        active = active[~small]
        if active.size == 0:
            break
    return t


def _tail(
    pull: np.ndarray, shift: np.ndarray, weight: np.ndarray, t: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tail probability of the score at ``t`` (K,), and minus its derivative."""
    reach = pull * t[:, None]
    a = reach - shift
    density = np.exp(-0.5 * a * a)
    if not shift.any():
        return 2.0 * row_sums(ndtr(-a), weight), row_sums(density * pull, weight) * (2.0 / ROOT)
    b = reach + shift
    density += np.exp(-0.5 * b * b)
    return row_sums(ndtr(-a) + ndtr(-b), weight), row_sums(density * pull, weight) / ROOT


# Truncated moments


def settle(
    scale: np.ndarray,
    spectrum: Spectrum,
    tau2: np.ndarray,
    kept: np.ndarray,
    t: np.ndarray,
) -> tuple[Mask, np.ndarray]:
    """Mask and threshold of every row from a start ``t`` (K,), nan where there is none.

    A good start costs one evaluation: the Newton step that its residual calls for is applied
    to the moments themselves. Rows that need more get more.
    """
    t = t.copy()
    lost = np.isnan(t)
    if lost.any():
        t[lost] = thresholds(scale[lost], spectrum, tau2[lost], kept[lost])
    mask, step, reach = truncate(scale, spectrum, tau2, kept, t)
    for last in (False, False, True):
        bad = np.flatnonzero((reach > SHIFT) & ~lost)
        if bad.size == 0:
            break
        near = reach[bad] <= TRUST
        if last or not near.all():
            far = bad if last else bad[~near]
            t[far] = thresholds(scale[far], spectrum, tau2[far], kept[far])
            lost[far] = True
        moved = bad[near & ~lost[bad]]
        t[moved] += step[moved]
        again, step[bad], reach[bad] = truncate(scale[bad], spectrum, tau2[bad], kept[bad], t[bad])
        for field, new in zip(mask, again, strict=True):
            field[bad] = new
    return mask, t + np.where(reach <= SHIFT, step, 0.0)


def truncate(
    scale: np.ndarray,
    spectrum: Spectrum,
    tau2: np.ndarray,
    kept: np.ndarray,
    t: np.ndarray,
) -> tuple[Mask, np.ndarray, np.ndarray]:
    """Mask at the threshold ``t`` (K,), moved by a Newton step when that is a small one.

    Returns
    -------
    mask : Mask
    step : ndarray, shape (K,)
        The Newton step towards the fraction ``kept``.
    reach : ndarray, shape (K,)
        The step in the smallest standard deviation; up to `SHIFT` the mask includes its effect.
    """
    spread = np.sqrt(spectrum.variance + tau2[:, None])
    pull = scale / spread
    shift = np.abs(spectrum.mean) / spread
    reach = pull * t[:, None]
    a, b = reach - shift, -reach - shift
    near, far = np.exp(-0.5 * a * a), np.exp(-0.5 * b * b)
    near /= ROOT
    far /= ROOT
    tail, other = ndtr(-np.abs(a)), ndtr(b)
    right = a >= 0
    keep = np.where(right, tail, 1.0 - tail) + other
    drop = np.where(right, 1.0 - tail, tail) - other
    both = (near + far) * pull
    excess = row_sums(keep, spectrum.weight) - kept
    solved = (np.abs(excess) <= 2 * EPS * kept) | (t == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.where(solved, 0.0, excess / row_sums(both, spectrum.weight))
    reach = np.abs(step) * pull.max(axis=1, initial=0.0)
    small = np.where(reach <= SHIFT, step, 0.0)[:, None]
    both *= small
    keep -= both
    drop += both
    anear, bfar = a * near, b * far
    d1, d2 = near - far, anear - bfar
    if small.any():
        pull *= small
        d1 -= pull * (anear + bfar)
        d2 += pull * (near + far - a * anear - b * bfar)
    trust = spectrum.variance / spread**2
    doubt = tau2[:, None] / spread**2
    return Mask(keep, drop, d1, d2, spread, trust, doubt), step, reach


def energies(mask: Mask, spectrum: Spectrum, tau2: np.ndarray) -> Kept:
    """Second moments of signal and noise inside and outside the mask; ``tau2`` is (K,)."""
    mean, variance, energy = np.abs(spectrum.mean), spectrum.variance, spectrum.energy
    tilt = mean * mask.spread * mask.d1
    bend = variance * mask.d2
    lean = mask.trust * (2.0 * tilt + bend)
    return Kept(
        inside=energy * mask.keep + lean,
        outside=energy * mask.drop - lean,
        cross=mask.doubt * (tilt + bend),
        noise=tau2[:, None] * (mask.keep + mask.doubt * mask.d2),
    )


# Masks that know the truth


class Selection(NamedTuple):
    """Keep the largest ``|Theta|/r``: threshold (K,), and by component keep and energies (K, m)."""

    threshold: np.ndarray
    keep: np.ndarray
    inside: np.ndarray
    outside: np.ndarray


def select(
    scale: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    weight: np.ndarray,
    kept: np.ndarray,
) -> Selection:
    """Mask of the true scores ``|Theta|/scale``; ties are kept with one common probability.

    Parameters
    ----------
    scale, mean, variance, weight : ndarray, shape (m,)
        Components: ``Theta ~ N(mean, variance)``.
    kept : ndarray, shape (K,)
        Mass to keep; everything where it exceeds the sum of the weights.

    Returns
    -------
    Selection
    """
    fractions, back = np.unique(kept, return_inverse=True)
    atom = variance == 0
    size = np.abs(mean) / scale
    level, group = _levels(size, atom)
    spread = np.where(atom, 1.0, np.sqrt(variance))
    pull, shift = (scale / spread)[~atom], (np.abs(mean) / spread)[~atom]
    mass = np.bincount(group[atom], weight[atom], level.size) if atom.any() else np.empty(0)
    steps = _staircase(level, mass, pull, shift, weight[~atom])
    place = np.searchsorted(steps, fractions * (1.0 - 4 * EPS))
    t, partial = np.empty(fractions.size), np.zeros(fractions.size)
    jump = (place % 2 == 1) & (place < steps.size)
    rank = np.minimum(place // 2, max(level.size - 1, 0))
    if jump.any():
        j = rank[jump]
        t[jump] = level[j]
        partial[jump] = np.clip((fractions[jump] - steps[2 * j]) / mass[j], 0.0, 1.0)
    rest = ~jump
    if rest.any():
        t[rest] = _between(level, mass, pull, shift, weight[~atom], fractions[rest], place[rest])
    # levels 0 .. place//2 - 1 lie above the threshold
    keep = np.zeros((fractions.size, mean.size))
    keep[:, atom] = np.where(
        group[atom] < (place // 2)[:, None],
        1.0,
        np.where(jump[:, None] & (group[atom] == rank[:, None]), partial[:, None], 0.0),
    )
    inside, outside = keep * mean**2, (1.0 - keep) * mean**2
    tail = _gaussian_tail(scale[~atom], mean[~atom], spread[~atom], t)
    keep[:, ~atom], inside[:, ~atom], outside[:, ~atom] = tail
    return Selection(t[back], keep[back], inside[back], outside[back])


def _levels(size: np.ndarray, atom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct scores of the atoms, largest first, and the position of each atom's score."""
    group = np.full(size.size, -1)
    order = np.flatnonzero(atom)[np.argsort(-size[atom], kind="stable")]
    if order.size == 0:
        return np.empty(0), group
    ordered = size[order]
    fresh = np.ones(order.size, dtype=bool)
    fresh[1:] = ordered[:-1] - ordered[1:] > TIE * ordered[:-1]
    group[order] = np.cumsum(fresh) - 1
    return ordered[fresh], group


def _staircase(
    level: np.ndarray,
    mass: np.ndarray,
    pull: np.ndarray,
    shift: np.ndarray,
    weight: np.ndarray,
) -> np.ndarray:
    """Probability of scoring above each level, without and with its atoms: shape (2 levels,)."""
    smooth = np.zeros(level.size)
    if weight.size and level.size:
        smooth = _tail(
            pull[None, :], np.broadcast_to(shift, (level.size, shift.size)), weight, level
        )[0]
    with_atoms = np.cumsum(mass)
    steps = np.empty(2 * level.size)
    steps[1::2] = smooth + with_atoms
    steps[0::2] = smooth + with_atoms - mass
    steps[2::2] = np.maximum(steps[2::2], steps[1:-1:2])
    return steps


def _between(
    level: np.ndarray,
    mass: np.ndarray,
    pull: np.ndarray,
    shift: np.ndarray,
    weight: np.ndarray,
    fractions: np.ndarray,
    place: np.ndarray,
) -> np.ndarray:
    """Thresholds that fall between the levels, where only Gaussian components decide."""
    if weight.size == 0:
        return np.zeros(fractions.size)  # beyond the last level by rounding: keep all
    above = place // 2
    counted = np.concatenate([[0.0], np.cumsum(mass)])[above]
    target = np.maximum(fractions - counted, 0.0)
    square = weight @ ((1.0 + shift**2) / pull**2)
    with np.errstate(divide="ignore"):
        markov = np.sqrt(square / target) * (1.0 + 1e-9)
    ceiling = np.concatenate([[np.inf], level])[above]
    floor = np.concatenate([level, [0.0]])[above]
    total = weight.sum()
    full = target >= total * (1.0 - 4 * EPS)
    high = np.where(full, 1.0, np.minimum(markov, ceiling))
    wide = np.broadcast_to(pull, (fractions.size, pull.size))
    start = np.sqrt(square / total) * ndtri(1.0 - 0.5 * np.minimum(target / total, 1.0))
    t = quantile(
        wide, np.broadcast_to(shift, wide.shape), weight, np.where(full, 0.5 * total, target),
        np.where(full, 0.0, floor), high, start,
    )  # fmt: skip
    return np.where(full, 0.0, t)


def _gaussian_tail(
    scale: np.ndarray, mean: np.ndarray, spread: np.ndarray, t: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``P(|Theta| > t scale)``, the energy above and the energy below it, for Gaussians; (K, m)."""
    cut = t[:, None] * scale
    size = np.abs(mean)
    a, b = (cut - size) / spread, (-cut - size) / spread
    near, far = np.exp(-0.5 * a * a) / ROOT, np.exp(-0.5 * b * b) / ROOT
    keep, drop = ndtr(-a) + ndtr(b), ndtr(a) - ndtr(b)
    bend = spread**2 * (a * near - b * far) + 2.0 * size * spread * (near - far)
    energy = size**2 + spread**2
    return keep, energy * keep + bend, energy * drop - bend
