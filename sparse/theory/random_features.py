"""Random features: a frozen first layer, a fitted second one, in closed form.

Inputs ``x ~ N(0, I_d)``, features ``f(r_i'x)`` with unit rows ``r_i``, ``psi1 = p/d``,
``psi2 = n/d``. Source: Mei & Montanari, CPAM 75 (2022), for the ridgeless risk; Gaussian
equivalence (Goldt et al. 2021, Hu & Lu 2022) for everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erf, ndtri

from cascadenet.sparse.theory._check import Points, bounded, chosen, finite_array, points, shaped
from cascadenet.sparse.theory.dense import dense_limit
from cascadenet.sparse.theory.laws import Law

PANEL = 0.5  # width of a Gauss-Legendre panel of the activation's quadrature
REACH = 14.0  # where the Gaussian weight is below 1e-42
ORDER = 16
FEWEST_NODES, MOST_NODES = 200, 4000  # of the Marchenko-Pastur law

ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda g: np.maximum(g, 0.0),
    "leaky_relu": lambda g: np.where(g > 0, g, 0.1 * g),
    "tanh": np.tanh,
    "erf": erf,
    "sign": np.sign,
    "abs": np.abs,
}
METHODS = ("dense", "magnitude", "oracle")

Activation = str | Callable[[np.ndarray], np.ndarray]


class Hermite(NamedTuple):
    """Activation as ``constant + linear g + rest z``: E f, E g f, and the rest's deviation."""

    constant: float
    linear: float
    rest: float


class FeatureLaw(NamedTuple):
    """Equivalent Gaussian problem: law in the features' eigenbasis and its noise variance."""

    law: Law
    noise_variance: float


def activation_coefficients(
    activation: Activation, *, breakpoints: Sequence[float] = ()
) -> Hermite:
    """First Hermite coefficients of an activation under N(0, 1).

    Parameters
    ----------
    activation : str or callable
        "relu", "leaky_relu" (slope 0.1), "tanh", "erf", "sign", "abs", or a vectorised function.
    breakpoints : sequence of float
        Where a function of your own has kinks or jumps, apart from multiples of 1/2.

    Returns
    -------
    Hermite
        ``constant`` = E f(g), ``linear`` = E g f(g), ``rest`` = sqrt(E f² - constant² - linear²).

    Notes
    -----
    Composite Gauss-Legendre quadrature with panel edges on the breakpoints: exact to rounding for
    piecewise smooth functions. The rest is the norm of the residual, not a difference.
    """
    if isinstance(activation, str):
        chosen("activation", activation, tuple(ACTIVATIONS))
        function = ACTIVATIONS[activation]
    else:
        function = activation
    inner = finite_array("breakpoints", breakpoints).reshape(-1)
    edges = np.union1d(np.arange(-REACH, REACH + PANEL / 2, PANEL), inner[np.abs(inner) < REACH])
    node, weight = np.polynomial.legendre.leggauss(ORDER)
    half = 0.5 * np.diff(edges)[:, None]
    g = (0.5 * (edges[1:] + edges[:-1])[:, None] + half * node).reshape(-1)
    density = (half * weight).reshape(-1) * np.exp(-0.5 * g * g) / np.sqrt(2.0 * np.pi)
    value = finite_array("activation", function(g))
    if value.shape != g.shape:
        raise ValueError(f"activation must be vectorised; got shape {value.shape} for {g.shape}")
    constant, linear = float(density @ value), float(density @ (g * value))
    residual = value - constant - linear * g
    return Hermite(constant, linear, float(np.sqrt(density @ residual**2)))


def marchenko_pastur(ratio: float, n_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the eigenvalue law of RR', R of shape (p, d) with ``ratio`` = p/d.

    Returns
    -------
    node, weight : ndarray, shape (n_nodes + 1,)
        The last node is 0. Its weight is what the others lack: besides the true atom it
        takes up the quadrature error of the density's pole at 0, which makes the rule
        spectrally accurate up to ``ratio`` = 1.
    """
    root = np.sqrt(ratio)
    low, high = (1.0 - root) ** 2, (1.0 + root) ** 2
    angle = np.pi * np.arange(1, n_nodes + 1) / (n_nodes + 1)
    half = 0.5 * (high - low)
    node = 0.5 * (high + low) + half * np.cos(angle)
    weight = (half * np.sin(angle)) ** 2 / ((n_nodes + 1) * 2.0 * ratio * node)
    return np.append(node, 0.0), np.append(weight, max(0.0, 1.0 - weight.sum()))


def random_feature_law(
    activation: Activation | Hermite,
    features_per_input: float,
    noise_variance: float,
    *,
    signal: float = 1.0,
    nonlinear: float = 0.0,
) -> FeatureLaw:
    """Equivalent Gaussian problem of random features regressing a target on the input.

    Parameters
    ----------
    activation : str, callable or Hermite
    features_per_input : float
        psi1 = p/d, above 0.
    noise_variance : float
        Label noise, at least 0.
    signal : float
        ``||theta||²`` of the target's linear part ``theta'x``.
    nonlinear : float
        Variance of the target's part that is uncorrelated with the input.

    Returns
    -------
    FeatureLaw
        Mixture of centred Gaussians over the Marchenko-Pastur nodes, and the noise variance
        with what no linear combination of the features explains. Test risks of this problem
        are those of the random features; its pruning is not (see `random_feature_risk`).
    """
    hermite = activation
    if not isinstance(activation, Hermite):
        hermite = activation_coefficients(activation)
    psi1 = float(bounded("features_per_input", features_per_input, 0.0, open_low=True))
    noise = float(bounded("noise_variance", noise_variance, 0.0))
    signal = float(bounded("signal", signal, 0.0))
    nonlinear = float(bounded("nonlinear", nonlinear, 0.0))
    if hermite.linear == 0 and hermite.rest == 0:
        raise ValueError("activation must not be constant")
    linear, rest = hermite.linear**2, hermite.rest**2
    # the closer the integrand's pole at -rest/linear, the more nodes
    distance = rest / linear if linear else np.inf
    wanted = 16.0 / np.sqrt(distance) if distance > 0 else MOST_NODES
    node, weight = marchenko_pastur(psi1, int(np.clip(wanted, FEWEST_NODES, MOST_NODES)))
    eigenvalue = linear * node + rest
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(node > 0, linear * node * psi1 * signal / eigenvalue**2, 0.0)
    law = Law(weight / weight.sum(), eigenvalue, np.zeros(node.size), variance)
    return FeatureLaw(law, noise + nonlinear + max(0.0, signal - law.signal))


def haar_pruned_risk(
    law: Law,
    kappa: ArrayLike,
    noise_variance: ArrayLike,
    kept_fraction: ArrayLike,
    *,
    method: str = "magnitude",
    ridge: ArrayLike = 0.0,
) -> float | np.ndarray:
    """Pruned risk when the covariance's eigenvectors are a uniformly random basis.

    Parameters
    ----------
    law : Law
        Law of eigenvalue and coefficient *in the eigenbasis*.
    kappa, noise_variance, kept_fraction, ridge : array_like
        As for `cascadenet.sparse.theory.pruned_risk`.
    method : {"dense", "magnitude", "oracle"}
        Magnitude and Hessian scores agree here, all features having the same variance. The
        oracle keeps the truly largest coefficients.

    Returns
    -------
    float or ndarray
        Total test risk.

    Notes
    -----
    In such a basis the entries of estimate and truth are jointly Gaussian, so that the pruned
    estimate is ``c`` times the estimate plus an isotropic error, ``c = alpha + 2 t phi(t)``.
    """
    chosen("method", method, METHODS)
    problems, shape = points(kappa, noise_variance, kept_fraction, ridge)
    return shaped(_haar_risk(law, problems, method), shape)


def _haar_risk(law: Law, problems: Points, method: str) -> np.ndarray:
    dense = dense_limit(law, problems)
    if method == "dense":
        return dense.gamma
    index = law.spectrum.index
    weight, eigenvalue = law.weight[index], law.eigenvalue[index]
    energy, second = law.spectrum.energy, law.second_moment[index]
    zeta = eigenvalue / (eigenvalue + dense.eta[:, None])
    square = zeta**2
    finite = np.isfinite(dense.tau2)
    tau2 = np.where(finite, dense.tau2, 0.0)
    lb = law.signal
    lxb, lxx = zeta @ (weight * energy), square @ (weight * energy) + tau2 * (square @ weight)
    xb = zeta @ (weight * second)
    xx = square @ (weight * second) + tau2 * (square @ (weight / eigenvalue))
    bb = float(law.weight @ law.second_moment)
    mean = float(weight @ eigenvalue)
    alpha = problems.kept
    t = ndtri(1.0 - 0.5 * alpha)
    c = alpha + 2.0 * t * np.exp(-0.5 * t * t) / np.sqrt(2.0 * np.pi)
    if method == "magnitude":
        risk = lb - 2.0 * c * lxb + c**2 * lxx + (c - c**2) * xx * mean
    else:
        g = xb / bb if bb > 0 else np.zeros_like(xb)
        shift = g * (c - alpha)
        left = xx - g**2 * bb
        risk = lb - 2.0 * (alpha * lxb + shift * lb) + alpha**2 * lxx
        risk += 2.0 * alpha * shift * lxb + shift**2 * lb
        risk += mean * (g**2 * (c - c**2) * bb + (alpha - alpha**2) * left)
    return np.where(finite, problems.noise + risk, np.inf)


def random_feature_risk(
    activation: Activation | Hermite,
    features_per_input: ArrayLike,
    samples_per_input: ArrayLike,
    noise_variance: float,
    *,
    kept_fraction: ArrayLike = 1.0,
    method: str = "dense",
    ridge: float = 0.0,
    signal: float = 1.0,
    nonlinear: float = 0.0,
) -> float | np.ndarray:
    """Total test risk of a random-features model, dense or pruned.

    Parameters
    ----------
    activation : str, callable or Hermite
        See `activation_coefficients`.
    features_per_input, samples_per_input : array_like
        psi1 = p/d and psi2 = n/d, above 0; they and ``kept_fraction`` broadcast.
    noise_variance : float
        Label noise, at least 0.
    kept_fraction : array_like
        Kept second-layer weights over p, in (0, 1].
    method : {"dense", "magnitude", "oracle"}
        As for `haar_pruned_risk`.
    ridge : float
        Penalty of ``(1/n)||y - F a||² + ridge ||a||²``.
    signal, nonlinear : float
        Of the target: see `random_feature_law`.

    Returns
    -------
    float or ndarray
        Risk, noise included; inf at ``psi1 = psi2`` without ridge.
    """
    chosen("method", method, METHODS)
    if not isinstance(activation, Hermite):
        activation = activation_coefficients(activation)
    psi1 = bounded("features_per_input", features_per_input, 0.0, open_low=True)
    psi2 = bounded("samples_per_input", samples_per_input, 0.0, open_low=True)
    kept = bounded("kept_fraction", kept_fraction, 0.0, 1.0, open_low=True)
    psi1, psi2, kept = np.broadcast_arrays(psi1, psi2, kept)
    shape, out = psi1.shape, np.empty(psi1.size)
    psi1, psi2, kept = psi1.reshape(-1), psi2.reshape(-1), kept.reshape(-1)
    for value in np.unique(psi1):
        rows = psi1 == value
        equivalent = random_feature_law(
            activation, value, noise_variance, signal=signal, nonlinear=nonlinear
        )
        problems, _ = points(value / psi2[rows], equivalent.noise_variance, kept[rows], ridge)
        out[rows] = _haar_risk(equivalent.law, problems, method)
    return shaped(out, shape)


def mei_montanari_risk(
    activation: Activation | Hermite,
    features_per_input: ArrayLike,
    samples_per_input: ArrayLike,
    noise_variance: float,
    *,
    signal: float = 1.0,
    nonlinear: float = 0.0,
) -> float | np.ndarray:
    """Ridgeless random-features risk by the published rational formula.

    An oracle for `random_feature_risk`, which reaches the same number through the
    spectrum; parameters and returned value as there.

    References
    ----------
    Mei & Montanari, CPAM 75 (2022), Theorem 4.
    """
    hermite = activation
    if not isinstance(activation, Hermite):
        hermite = activation_coefficients(activation)
    if hermite.rest == 0 or hermite.linear == 0:
        raise ValueError("activation must have a linear and a nonlinear part")
    p1 = bounded("features_per_input", features_per_input, 0.0, open_low=True)
    p2 = bounded("samples_per_input", samples_per_input, 0.0, open_low=True)
    z = (hermite.linear / hermite.rest) ** 2
    psi = np.minimum(p1, p2)
    half = psi * z - z - 1.0
    x = -(np.sqrt(half**2 + 4.0 * z * psi) + half) / (2.0 * z)
    product = p1 * p2
    e0 = (
        -(x**5) * z**3 + 3 * x**4 * z**2 + (product - p1 - p2 + 1) * x**3 * z**3
        - 2 * x**3 * z**2 - 3 * x**3 * z + (p1 + p2 - 3 * product + 1) * x**2 * z**2
        + 2 * x**2 * z + x**2 + 3 * product * x * z - product
    )  # fmt: skip
    e1 = p2 * x**3 * z**2 - p2 * x**2 * z + product * x * z - product
    e2 = (
        x**5 * z**3 - 3 * x**4 * z**2 + (p1 - 1) * x**3 * z**3 + 2 * x**3 * z**2
        + 3 * x**3 * z - (p1 + 1) * x**2 * z**2 - 2 * x**2 * z - x**2
    )  # fmt: skip
    with np.errstate(divide="ignore"):
        risk = noise_variance + signal * e1 / e0
        risk = risk + (noise_variance + nonlinear) * e2 / e0 + nonlinear
    return float(risk) if np.ndim(risk) == 0 else risk
