"""The one unknown of the limit: the effective ridge eta, by Newton's method for many kappa at once.

With ``zeta = Λ/(Λ+eta)``, ``delta = 1-zeta`` and ``kappa_eff = kappa P(Λ>0)`` the equation is
``eta (1 - kappa E[zeta]) = ridge``, written without cancellation as
``eta (kappa_eff E[delta | Λ>0] - gap) = ridge`` where ``gap = kappa_eff - 1``.
"""

from __future__ import annotations

import numpy as np

SNAP = 4 * np.finfo(np.float64).eps  # kappa P(Λ>0) this close to 1 is 1
BLOCK = 1 << 15  # entries of a (kappa, component) block that stay in cache
STEP = 1e-9  # relative Newton step after which the next error is below rounding
SWEEPS = 200  # Newton takes fewer than 20 on spectra over ten decades
TABLE = 64  # nodes of the table that seeds a long curve
LONG = 96  # number of kappas from which the table pays


def signed_gap(kappa: np.ndarray, mass: np.ndarray | float) -> np.ndarray:
    """``kappa * mass - 1``, exactly 0 within rounding: both arrays broadcast to (K,)."""
    gap = kappa * mass - 1.0
    return np.where(np.abs(gap) <= SNAP, 0.0, gap)


def blocks(n_rows: int, n_columns: int) -> list[slice]:
    """Row slices such that one block of float64 stays in cache."""
    step = max(1, BLOCK // max(1, n_columns))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def row_sums(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``sum_k weight_k values_ik`` for weights (m,) shared by the rows or (K, m) of their own."""
    if weight.ndim == 1:
        return values @ weight
    return np.einsum("ij,ij->i", values, weight)


def solve(
    eigenvalue: np.ndarray,
    weight: np.ndarray,
    kappa_eff: np.ndarray,
    gap: np.ndarray,
    ridge: np.ndarray,
) -> np.ndarray:
    """Effective ridge of every row.

    Parameters
    ----------
    eigenvalue : ndarray, shape (m,)
        Positive eigenvalues.
    weight : ndarray, shape (m,) or (K, m)
        Their weights, of any sum: the solver normalises.
    kappa_eff, gap : ndarray, shape (K,)
        ``kappa P(Λ>0)`` and its `signed_gap`.
    ridge : ndarray, shape (K,)
        Explicit ridge; 0 for least squares or the minimum-norm interpolator.

    Returns
    -------
    ndarray, shape (K,)
        eta, with nan where a negative ridge has no solution.
    """
    eta = np.zeros(gap.size)
    if eigenvalue.size == 0:
        return np.where(ridge >= 0, ridge, np.nan)
    interpolating = np.flatnonzero((gap > 0) & (ridge <= 0))
    if interpolating.size:
        rows = weight if weight.ndim == 1 else weight[interpolating]
        eta[interpolating] = _ridgeless(eigenvalue, rows, gap[interpolating])
    ridged = np.flatnonzero(ridge != 0)
    if ridged.size:
        rows = weight if weight.ndim == 1 else weight[ridged]
        pick = (kappa_eff[ridged], gap[ridged], ridge[ridged])
        start = np.where(
            pick[2] > 0, _isotropic_bound(eigenvalue, rows, pick[1], pick[2]), eta[ridged]
        )
        eta[ridged] = _ridged(eigenvalue, rows, *pick, start)
    return eta


def _psi(
    eigenvalue: np.ndarray, weight: np.ndarray, eta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``psi = 1/E[zeta] - 1`` and its derivative at ``eta`` (K,)."""
    inverse = 1.0 / (eigenvalue + eta[:, None])
    share = row_sums(inverse, weight * eigenvalue)
    rest = row_sums(inverse, weight)
    inverse *= inverse
    slope = row_sums(inverse, weight * eigenvalue)
    # Normalising by the sum at hand keeps an ulp in the weights from growing by 1/gap.
    total = share + eta * rest
    return eta * rest / share, total * slope / share**2


def _ridgeless(eigenvalue: np.ndarray, weight: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Root of ``psi(eta) = gap``; psi is increasing and concave, so Newton from the left is safe.

    Jensen's inequality gives ``gap / E[1/Λ] <= eta <= gap E[Λ]``.
    """
    total = weight.sum(axis=-1)
    low = gap * total / (weight @ (1.0 / eigenvalue))
    high = gap * (weight @ eigenvalue) / total
    eta = low.copy()
    if weight.ndim == 1 and gap.size >= LONG:
        eta = _seed_from_table(eigenvalue, weight, gap, low.min(), high.max())
    for rows in blocks(gap.size, eigenvalue.size):
        block_weight = weight if weight.ndim == 1 else weight[rows]
        eta[rows] = _newton_ridgeless(eigenvalue, block_weight, gap[rows], eta[rows], low[rows])
    return eta


def _newton_ridgeless(
    eigenvalue: np.ndarray,
    weight: np.ndarray,
    gap: np.ndarray,
    eta: np.ndarray,
    low: np.ndarray,
) -> np.ndarray:
    """Newton on one block until every row has converged; ``low`` guards a seed from the right."""
    eta = np.maximum(eta, low)
    active = np.arange(gap.size)
    for _ in range(SWEEPS):
        rows = weight if weight.ndim == 1 else weight[active]
        value, slope = _psi(eigenvalue, rows, eta[active])
        step = (gap[active] - value) / slope
        new = np.maximum(eta[active] + step, low[active])
        moved = np.abs(new - eta[active]) > STEP * new
        eta[active] = new
        active = active[moved]
        if active.size == 0:
            break
    return eta


def _seed_from_table(
    eigenvalue: np.ndarray, weight: np.ndarray, gap: np.ndarray, low: float, high: float
) -> np.ndarray:
    """Seeds for a long curve: psi is explicit in eta, so tabulate it and interpolate the inverse.

    Cubic Hermite interpolation of ``log eta`` against ``log psi``, whose slope is known.
    """
    nodes = np.geomspace(low, high * (1.0 + 1e-12), TABLE)
    value, slope = _psi(eigenvalue, weight, nodes)
    x, y = np.log(value), np.log(nodes)
    dydx = value / (slope * nodes)
    target = np.log(gap)
    left = np.clip(np.searchsorted(x, target) - 1, 0, TABLE - 2)
    width = x[left + 1] - x[left]
    s = np.clip((target - x[left]) / np.where(width > 0, width, 1.0), 0.0, 1.0)
    rise = y[left + 1] - y[left]
    first, last = dydx[left] * width - rise, rise - dydx[left + 1] * width
    bend = s * (1.0 - s) * ((1.0 - s) * first + s * last)
    return np.exp(y[left] + s * rise + bend)


def _isotropic_bound(
    eigenvalue: np.ndarray, weight: np.ndarray, gap: np.ndarray, ridge: np.ndarray
) -> np.ndarray:
    """eta of the isotropic problem with the same mean eigenvalue: an upper bound, by Jensen."""
    mean = (weight @ eigenvalue) / weight.sum(axis=-1)
    scaled = np.maximum(ridge, 0.0) / mean
    centre = scaled + gap
    root = np.sqrt(centre**2 + 4.0 * scaled)
    with np.errstate(divide="ignore", invalid="ignore"):
        stable = 2.0 * scaled / (root - centre)  # for a negative centre, without cancellation
    bound = np.where(centre >= 0, 0.5 * (centre + root), stable)
    return mean * bound * (1.0 + 1e-12)


def _ridged(
    eigenvalue: np.ndarray,
    weight: np.ndarray,
    kappa_eff: np.ndarray,
    gap: np.ndarray,
    ridge: np.ndarray,
    eta: np.ndarray,
) -> np.ndarray:
    """Root of the convex ``eta (kappa_eff E[delta] - gap) - ridge``, Newton from the right.

    A negative ridge starts at the ridgeless root and has a solution while the derivative, the
    denominator of the risk, stays positive; nan marks those without.
    """
    eta = eta.copy()
    for rows in blocks(gap.size, eigenvalue.size):
        part = np.arange(rows.start, rows.stop)
        for _ in range(SWEEPS):
            row_weight = weight if weight.ndim == 1 else weight[part]
            value, slope = _ridge_map(eigenvalue, row_weight, kappa_eff[part], gap[part], eta[part])
            with np.errstate(divide="ignore"):
                new = eta[part] - (value - ridge[part]) / slope
            lost = (slope <= 0) | (new <= np.where(gap[part] >= 0, 0.0, -eigenvalue.min()))
            moved = np.abs(new - eta[part]) > STEP * np.abs(new)
            eta[part] = np.where(lost & (ridge[part] < 0), np.nan, new)
            part = part[moved & ~(lost & (ridge[part] < 0))]
            if part.size == 0:
                break
    return eta


def _ridge_map(
    eigenvalue: np.ndarray,
    weight: np.ndarray,
    kappa_eff: np.ndarray,
    gap: np.ndarray,
    eta: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The ridge that belongs to ``eta``, and its derivative in eta; both (K,)."""
    inverse = 1.0 / (eigenvalue + eta[:, None])
    share = row_sums(inverse, weight * eigenvalue)
    delta = eta * row_sums(inverse, weight)
    inverse *= inverse
    both = eta * row_sums(inverse, weight * eigenvalue)  # E[zeta delta]
    factor = kappa_eff / (share + delta)
    rest = factor * delta - gap
    return eta * rest, rest + factor * both
