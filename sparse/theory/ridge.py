"""The ridge path, explicit in the effective ridge, and the best ridge, which may be negative.

Source: Dobriban & Wager, Annals of Statistics 46 (2018); Wu & Xu, NeurIPS 2020, for the sign.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from cascadenet.sparse.theory import effective
from cascadenet.sparse.theory._check import points
from cascadenet.sparse.theory.dense import dense_limit
from cascadenet.sparse.theory.laws import Law

GRID = 600  # points of log eta on which minima are looked for
REACH = 1e4  # how far beyond the last feature of gamma(eta) the grid goes


class OptimalRidge(NamedTuple):
    """Ridge of least risk, that risk (noise included) and the effective ridge there."""

    ridge: float
    risk: float
    eta: float


class RidgePath(NamedTuple):
    """Ridge, effective ridge, total risk and bias along the path; arrays (n_points,)."""

    ridge: np.ndarray
    eta: np.ndarray
    risk: np.ndarray
    bias: np.ndarray


class _Path:
    """gamma, its derivative's sign and the ridge as functions of eta, for one kappa and noise."""

    def __init__(self, law: Law, kappa: float, noise: float) -> None:
        self.spectrum = law.spectrum
        self.kappa, self.noise, self.signal = kappa, noise, law.signal
        self.gap = float(effective.signed_gap(np.array([kappa]), self.spectrum.mass)[0])

    def moments(self, eta: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ridge, denominator D and bias at every ``eta`` (K,)."""
        eta = np.atleast_1d(np.asarray(eta, dtype=np.float64))
        eigenvalue, weight = self.spectrum.eigenvalue, self.spectrum.weight
        total = eigenvalue + eta[:, None]
        zeta, delta = eigenvalue / total, eta[:, None] / total
        rest = self.kappa * (delta @ weight) - self.gap
        denominator = rest + self.kappa * ((zeta * delta) @ weight)
        return eta * rest, denominator, (delta * delta) @ (weight * self.spectrum.energy)

    def slope(self, eta: ArrayLike) -> np.ndarray:
        """A positive multiple of d gamma / d eta at every ``eta`` (K,), where D > 0."""
        eta = np.atleast_1d(np.asarray(eta, dtype=np.float64))
        _, denominator, bias = self.moments(eta)
        eigenvalue, weight = self.spectrum.eigenvalue, self.spectrum.weight
        zeta = eigenvalue / (eigenvalue + eta[:, None])
        cube = zeta**3 / eigenvalue  # Λ²/(Λ+eta)³
        top = eta * (cube @ (weight * self.spectrum.energy / eigenvalue)) * denominator
        return top - (self.noise + bias) * self.kappa * (cube @ weight)

    def edge(self) -> float:
        """Smallest eta with a solution: where D = 0, or 0 below the interpolation threshold."""
        if self.gap <= 0:
            return 0.0
        spectrum = self.spectrum
        eta = effective.solve(
            spectrum.eigenvalue,
            spectrum.weight,
            np.array([self.kappa * spectrum.mass]),
            np.array([self.gap]),
            np.zeros(1),
        )[0]
        low = eta
        while self.moments(low)[1][0] > 0:
            low *= 0.1
        return brentq(lambda x: self.moments(x)[1][0], low, eta, xtol=1e-300, rtol=1e-14)

    def ceiling(self) -> float:
        """An eta beyond which gamma is monotone."""
        spectrum = self.spectrum
        square = float(spectrum.weight @ spectrum.eigenvalue**2)
        aligned = float((spectrum.weight * spectrum.eigenvalue) @ spectrum.energy)
        last = self.kappa * (self.noise + self.signal) * square / aligned if aligned else 0.0
        return REACH * (spectrum.eigenvalue.max() * (1.0 + self.kappa) + last)


def optimal_ridge(law: Law, kappa: float, noise_variance: float) -> OptimalRidge:
    """Ridge of least total risk, over all admissible ridges including negative ones.

    Parameters
    ----------
    law : Law
    kappa : float
        Features per sample, above 0.
    noise_variance : float
        At least 0.

    Returns
    -------
    OptimalRidge
        ``ridge`` is inf when predicting 0 is best.

    Notes
    -----
    gamma and the ridge are explicit in eta, so the search has no inner solve: every sign change
    of d gamma/d eta on a grid of log eta is refined to rounding. With ``E[B²|Λ]`` constant the
    answer is ``kappa noise / E[B²]``. Above the interpolation threshold a signal aligned with the
    large eigenvalues can make it negative.
    """
    problem, shape = points(kappa, noise_variance)
    if shape != ():
        raise ValueError(f"kappa and noise_variance must be scalars; got shape {shape}")
    path = _Path(law, float(problem.kappa[0]), float(problem.noise[0]))
    nothing = OptimalRidge(np.inf, path.noise + path.signal, np.inf)
    if path.signal == 0:
        return nothing
    if path.noise == 0 and path.gap <= 0:
        return OptimalRidge(0.0, 0.0, 0.0)
    edge = path.edge()
    floor = max(edge * 1e-9, path.spectrum.eigenvalue.min() * 1e-12)
    grid = edge + np.geomspace(floor, path.ceiling(), GRID)
    sign = path.slope(grid)
    best = nothing
    for left in np.flatnonzero((sign[:-1] < 0) & (sign[1:] >= 0)):
        bounds = grid[left], grid[left + 1]
        eta = brentq(lambda x: path.slope(x)[0], *bounds, xtol=1e-300, rtol=1e-14)
        ridge, denominator, bias = (float(value[0]) for value in path.moments(eta))
        risk = (path.noise + bias) / denominator
        if risk < best.risk:
            best = OptimalRidge(ridge, risk, float(eta))
    return best


def ridge_path(law: Law, kappa: float, noise_variance: float, *, n_points: int = 200) -> RidgePath:
    """Risk along the whole ridge path, from the most negative admissible ridge upwards.

    Parameters
    ----------
    law, kappa, noise_variance
        As for `optimal_ridge`.
    n_points : int
        Points of the path, spaced evenly in the logarithm of eta.

    Returns
    -------
    RidgePath
        Sorted by ridge. Below the interpolation threshold the path starts at ridge 0.
    """
    problem, shape = points(kappa, noise_variance)
    if shape != ():
        raise ValueError(f"kappa and noise_variance must be scalars; got shape {shape}")
    if int(n_points) != n_points or n_points < 2:
        raise ValueError(f"n_points must be an integer above 1; got {n_points}")
    path = _Path(law, float(problem.kappa[0]), float(problem.noise[0]))
    edge = path.edge()
    eigenvalue = path.spectrum.eigenvalue
    floor = max(1e-2 * edge, 1e-4 * eigenvalue.min())
    last = 1e3 * eigenvalue.max() * (1.0 + path.kappa)
    eta = edge + np.geomspace(floor, last, int(n_points) - (path.gap <= 0))
    if path.gap <= 0:
        eta = np.concatenate([[0.0], eta])
    ridge, denominator, bias = path.moments(eta)
    with np.errstate(divide="ignore", invalid="ignore"):
        risk = np.where(path.noise + bias == 0, 0.0, (path.noise + bias) / denominator)
    if path.gap <= 0:
        risk[0] = dense_limit(law, problem).gamma[0]
    return RidgePath(ridge, eta, risk, bias)
