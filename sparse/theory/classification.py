"""Least-squares classifiers: fitting ±1 labels by square loss, dense or pruned.

For Gaussian features labels drawn from ``P(y | x'b)`` act as a linear response with noise, so
the regression limits hold; the 0/1 error follows from the correlation of fit and truth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, ndtr

from cascadenet.sparse.theory._check import METHODS, chosen, points, shaped
from cascadenet.sparse.theory.dense import Dense, dense_limit
from cascadenet.sparse.theory.laws import Law
from cascadenet.sparse.theory.pruned import Block, Known, known_masks, stage_one

LABELS = ("sign", "logit")
SCORES = ("dense", *METHODS)


class Equivalent(NamedTuple):
    """Regression problem equivalent to fitting labels by square loss."""

    law: Law
    noise_variance: float
    slope: float


def normal_rule(reach: float = 9.5, count: int = 401) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of N(0, 1) by the trapezoidal rule, which is spectral for it."""
    node = np.linspace(-reach, reach, count)
    weight = np.exp(-0.5 * node**2)
    return node, weight / weight.sum()


def classification_problem(law: Law, labels: str = "sign") -> Equivalent:
    """Linear problem with the same estimate as square loss on labels.

    Parameters
    ----------
    law : Law
        Law of the true direction; ``u = x'b`` has variance ``law.signal``.
    labels : {"sign", "logit"}
        ``y = sign(u)``, or ``P(y = 1 | u) = 1/(1 + exp(-u))``.

    Returns
    -------
    Equivalent
        ``c b`` with ``slope`` c = E[y u]/E[u²], and noise ``1 - c² E[u²]``.
    """
    chosen("labels", labels, LABELS)
    spread = np.sqrt(law.signal)
    if spread == 0:
        raise ValueError("law must have a signal; got E[eigenvalue * B²] = 0")
    if labels == "sign":
        slope = np.sqrt(2.0 / np.pi) / spread
        return Equivalent(law.with_signal(slope), 1.0 - 2.0 / np.pi, float(slope))
    node, weight = normal_rule()
    slope = float(weight @ (np.tanh(0.5 * spread * node) * node)) / spread
    return Equivalent(law.with_signal(slope), 1.0 - slope**2 * law.signal, slope)


def error_rate(correlation: ArrayLike, signal: float, labels: str) -> np.ndarray:
    """Probability that the sign of a prediction differs from a fresh label.

    Parameters
    ----------
    correlation : array_like
        Of prediction and ``u = x'b``, in [-1, 1].
    signal : float
        Variance of u.
    labels : {"sign", "logit"}
    """
    correlation = np.clip(np.asarray(correlation, dtype=np.float64), -1.0, 1.0)
    if labels == "sign":
        return np.arccos(correlation) / np.pi
    node, weight = normal_rule()
    # both labels err alike, so twice E[P(y = 1 | u) P(prediction < 0 | u)]
    ratio = correlation / np.sqrt(np.maximum(1.0 - correlation**2, 1e-300))
    positive = weight * expit(np.sqrt(signal) * node)
    return 2.0 * (ndtr(-np.multiply.outer(ratio, node)) @ positive)


def classification_error(
    law: Law,
    kappa: ArrayLike,
    kept_fraction: ArrayLike = 1.0,
    *,
    method: str = "dense",
    labels: str = "sign",
    ridge: ArrayLike = 0.0,
) -> float | np.ndarray:
    """0/1 test error of a square-loss classifier, dense or pruned without refitting.

    Parameters
    ----------
    law : Law
        Law of eigenvalue and scaled true direction.
    kappa, kept_fraction, ridge : array_like
        As for `cascadenet.sparse.theory.pruned_risk`.
    method : {"dense", "magnitude", "hessian", "oracle"}
    labels : {"sign", "logit"}
        See `classification_problem`.

    Returns
    -------
    float or ndarray
        Error in [0, 1]; 1/2 at the interpolation threshold without ridge.
    """
    chosen("method", method, SCORES)
    equivalent = classification_problem(law, labels)
    problems, shape = points(kappa, equivalent.noise_variance, kept_fraction, ridge)
    if method == "dense":
        problems = problems._replace(kept=np.ones_like(problems.kept))
    dense = dense_limit(equivalent.law, problems)
    correlation = np.zeros(problems.kappa.size)
    name = "magnitude" if method == "dense" else method
    if name != "oracle":
        for block in stage_one(equivalent.law, problems, dense, name):
            correlation[block.rows] = _block_correlation(equivalent.law, block)
    else:
        for known in known_masks(equivalent.law, problems, dense, name):
            correlation[known.rows] = _known_correlation(equivalent.law, dense, known)
    # where gamma is infinite the prediction is noise: correlation 0
    return shaped(error_rate(correlation, law.signal, labels), shape)


def _block_correlation(law: Law, block: Block) -> np.ndarray:
    """Correlation of prediction and truth, (K,)."""
    weight, kept = law.spectrum.weight, block.kept
    overlap = (block.zeta * (kept.inside + kept.cross)) @ weight
    square = (block.zeta**2 * (kept.inside + 2.0 * kept.cross + kept.noise)) @ weight
    return _ratio(overlap, square * law.signal)


def _known_correlation(law: Law, dense: Dense, known: Known) -> np.ndarray:
    weight, eigenvalue = law.spectrum.weight, law.spectrum.eigenvalue
    zeta = eigenvalue / (eigenvalue + dense.eta[known.rows, None])
    finite = np.isfinite(dense.tau2[known.rows])
    tau2 = np.where(finite, dense.tau2[known.rows], 1.0)[:, None]
    overlap = (zeta * known.inside) @ weight
    square = (zeta**2 * (known.inside + tau2 * known.keep)) @ weight
    return np.where(finite, _ratio(overlap, square * law.signal), 0.0)


def _ratio(overlap: np.ndarray, square: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(square > 0, overlap / np.sqrt(square), 0.0)
