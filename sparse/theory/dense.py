"""Least squares, minimum-norm interpolation and ridge regression in the proportional limit.

Source: Chang, Li, Oymak & Thrampoulidis, "Provable Benefits of Overparameterization in Model
Compression", AAAI 2021 (arXiv 2012.08749), for a ridge of zero; Dobriban & Wager, Annals of
Statistics 46 (2018), for a positive one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.theory import effective
from cascadenet.sparse.theory._check import Points, points, shaped
from cascadenet.sparse.theory.laws import Law


class Dense(NamedTuple):
    """The dense limit of K problems; every field is float64 of shape (K,).

    ``eta`` effective ridge; ``gap`` = kappa P(Λ>0) - 1; ``gamma`` total test risk;
    ``bias`` = E[delta² Λ B²]; ``denominator`` = 1 - kappa E[zeta²]; ``noise`` the noise variance;
    ``tau2`` = kappa gamma, the variance of the noise in the pseudo-data Theta + tau H.
    """

    eta: np.ndarray
    gap: np.ndarray
    gamma: np.ndarray
    bias: np.ndarray
    denominator: np.ndarray
    noise: np.ndarray
    tau2: np.ndarray

    @property
    def variance(self) -> np.ndarray:
        """Part of the excess risk that is not bias, shape (K,)."""
        # noise/D - noise + bias/D - bias, without the difference of large numbers
        lost = 1.0 - self.denominator
        with np.errstate(invalid="ignore", divide="ignore"):
            value = (self.noise + self.bias) * lost / self.denominator
        return np.where(np.isinf(self.gamma), np.inf, np.where(self.gamma == 0, 0.0, value))

    def take(self, rows: np.ndarray | slice) -> Dense:
        """The problems in ``rows``."""
        return Dense(*(field[rows] for field in self))


def dense_limit(law: Law, problems: Points) -> Dense:
    """Solve the fixed point of every problem; the numbers are trusted.

    Raises
    ------
    TypeError
        ``law`` is not a `Law`.
    ValueError
        A negative ridge below the smallest one that has a solution.

    Notes
    -----
    gamma = (noise + E[delta² Λ B²]) / D with D = 1 - kappa E[zeta²], computed as
    ``ridge/eta + kappa E[zeta delta]``. D = 0 with noise gives inf.
    """
    if not isinstance(law, Law):
        raise TypeError(f"law must be a Law; got {type(law).__name__}")
    spectrum = law.spectrum
    kappa, noise, ridge = problems.kappa, problems.noise, problems.ridge
    gap = effective.signed_gap(kappa, spectrum.mass)
    kappa_eff = kappa * spectrum.mass
    eta = effective.solve(spectrum.eigenvalue, spectrum.weight, kappa_eff, gap, ridge)
    lost = np.isnan(eta)
    if lost.any():
        raise ValueError(
            f"ridge must be above the smallest that has a solution; got {ridge[lost][0]} "
            f"at kappa={kappa[lost][0]}"
        )
    both, bias = _moments(law, eta)
    with np.errstate(divide="ignore", invalid="ignore"):
        denominator = np.where(eta == 0, np.maximum(-gap, 0.0), ridge / eta + kappa * both)
        top = noise + bias
        gamma = np.where(top == 0, 0.0, top / denominator)
    return Dense(eta, gap, gamma, bias, denominator, noise, kappa * gamma)


def _moments(law: Law, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``E[zeta delta]`` and ``E[delta² Λ B²]`` for every eta (K,)."""
    spectrum = law.spectrum
    columns = np.stack([spectrum.weight * spectrum.eigenvalue, spectrum.weight * spectrum.energy])
    both, bias = np.empty_like(eta), np.empty_like(eta)
    for rows in effective.blocks(eta.size, spectrum.eigenvalue.size):
        inverse = 1.0 / (spectrum.eigenvalue + eta[rows, None])
        inverse *= inverse
        sums = inverse @ columns.T
        both[rows] = eta[rows] * sums[:, 0]
        bias[rows] = eta[rows] ** 2 * sums[:, 1]
    return both, bias


def dense_risk(
    law: Law,
    kappa: ArrayLike,
    noise_variance: ArrayLike,
    *,
    ridge: ArrayLike = 0.0,
) -> float | np.ndarray:
    """Total test risk of the dense estimator in the limit n, p → ∞ with p/n = kappa.

    Parameters
    ----------
    law : Law
        Law of eigenvalue and scaled coefficient.
    kappa : array_like
        Features per sample, p/n, above 0.
    noise_variance : array_like
        Variance of the label noise, at least 0.
    ridge : array_like
        Penalty λ of ``(1/n)||y - Xb||² + λ||b||²``. 0 is least squares where it is unique and
        the minimum-norm interpolator elsewhere; negative values are allowed as long as the
        problem keeps a solution. The arguments broadcast.

    Returns
    -------
    float or ndarray
        ``noise + E[(x'(b̂ - b))²]``; inf at ``kappa P(Λ>0) = 1`` without ridge when there is noise.

    Raises
    ------
    ValueError
        An argument out of range, named.

    References
    ----------
    Chang et al., AAAI 2021, Definition 1 and Theorem 1, for ``ridge=0``.
    """
    problems, shape = points(kappa, noise_variance, ridge=ridge)
    return shaped(dense_limit(law, problems).gamma, shape)


def dense_summary(
    law: Law,
    kappa: ArrayLike,
    noise_variance: ArrayLike,
    *,
    ridge: ArrayLike = 0.0,
) -> dict[str, float | np.ndarray]:
    """Everything the dense limit says, as a dict of arrays in the broadcast shape.

    Parameters
    ----------
    law, kappa, noise_variance, ridge
        As for `dense_risk`.

    Returns
    -------
    dict
        ``eta``: effective ridge; ``gamma``: test risk; ``bias`` and ``variance``: parts of
        ``gamma - noise``; ``degrees_of_freedom``: trace of the smoother over n; ``train_error``:
        mean squared residual; ``squared_norm``: ``||b̂||²``, that is E[X²]; ``overlap``: E[X B];
        ``tau2``: kappa gamma.

    Notes
    -----
    The scaled estimate has the law ``X = zeta (B + sqrt(kappa gamma / Λ) H)``, H ~ N(0, 1).
    """
    problems, shape = points(kappa, noise_variance, ridge=ridge)
    state = dense_limit(law, problems)
    square, overlap, scatter, used = _estimate_moments(law, state.eta)
    kappa, ridge = problems.kappa, problems.ridge
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(state.eta == 0, np.maximum(-state.gap, 0.0), ridge / state.eta)
        train = np.where(share == 0, 0.0, share**2 * state.gamma)
        # at eta = 0 the residual keeps (1 - kappa) of the noise: share² gamma again
        norm = square + np.where(state.tau2 == 0, 0.0, state.tau2 * scatter)
    columns = {
        "eta": state.eta,
        "gamma": state.gamma,
        "bias": state.bias,
        "variance": state.variance,
        "degrees_of_freedom": kappa * used,
        "train_error": train,
        "squared_norm": norm,
        "overlap": overlap,
        "tau2": state.tau2,
    }
    return {name: shaped(column, shape) for name, column in columns.items()}


def _estimate_moments(
    law: Law, eta: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``E[zeta² B²]``, ``E[zeta B²]``, ``E[zeta²/Λ]`` and ``E[zeta]`` for every eta (K,)."""
    index = law.spectrum.index
    weight, eigenvalue = law.weight[index], law.eigenvalue[index]
    second = weight * law.second_moment[index]
    out = np.empty((4, eta.size))
    for rows in effective.blocks(eta.size, eigenvalue.size):
        zeta = eigenvalue / (eigenvalue + eta[rows, None])
        square = zeta * zeta
        out[0, rows], out[1, rows] = square @ second, zeta @ second
        out[2, rows], out[3, rows] = square @ (weight / eigenvalue), zeta @ weight
    return out[0], out[1], out[2], out[3]
