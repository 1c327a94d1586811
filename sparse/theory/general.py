"""Correlated features: pruning acts in the feature basis, the fit in the eigenbasis.

The dense risk only needs the eigen-law. Pruned and retrained risks are averages over draws
from the estimator's limiting law at finite p; a fixed set of features is exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh, qr

from cascadenet.sparse.theory._check import bounded, chosen, finite_array, points
from cascadenet.sparse.theory.dense import Dense, dense_limit
from cascadenet.sparse.theory.laws import Law

METHODS = ("magnitude", "hessian", "oracle")
NO_LAW = "n_samples must differ from the rank of the covariance when ridge is 0"
FLOOR = 1e-13  # eigenvalues below this share of the largest are zero


class Estimate(NamedTuple):
    """A Monte Carlo mean and its standard error."""

    mean: float
    error: float


class EstimatorLaw(NamedTuple):
    """Limiting law of the fitted coefficients, ``N(mean, factor factor')``, at finite p.

    ``mean`` (p,); ``factor`` (p, p); ``eta`` the effective ridge; ``gamma`` the dense risk.
    """

    mean: np.ndarray
    factor: np.ndarray
    eta: float
    gamma: float


class Features(NamedTuple):
    """A linear problem: covariance (p, p), best coefficients (p,) and noise variance."""

    covariance: np.ndarray
    coefficients: np.ndarray
    noise_variance: float


class _Problem(NamedTuple):
    covariance: np.ndarray
    coefficients: np.ndarray
    basis: np.ndarray
    eigenvalue: np.ndarray
    dense: Dense
    n: int
    noise: float


def _problem(
    covariance: ArrayLike,
    coefficients: ArrayLike,
    n_samples: int,
    noise_variance: float,
    ridge: float,
) -> _Problem:
    sigma, b = _checked(covariance, coefficients)
    n = _count("n_samples", n_samples)
    value, basis = eigh(sigma)
    if value[0] < -1e-8 * max(value[-1], 1e-300):
        raise ValueError(f"covariance must be positive semidefinite; got eigenvalue {value[0]:g}")
    value = np.where(value > FLOOR * value[-1], value, 0.0)
    problems, _ = points(b.size / n, noise_variance, 1.0, ridge)
    dense = dense_limit(Law.from_data(value, basis.T @ b), problems)
    return _Problem(sigma, b, basis, value, dense, n, float(problems.noise[0]))


def _checked(covariance: ArrayLike, coefficients: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    sigma = finite_array("covariance", covariance)
    b = finite_array("coefficients", coefficients)
    if b.ndim != 1 or b.size == 0:
        raise ValueError(f"coefficients must be a non-empty vector; got shape {b.shape}")
    if sigma.shape != (b.size, b.size):
        raise ValueError(f"covariance must have shape {(b.size, b.size)}; got {sigma.shape}")
    if not np.allclose(sigma, sigma.T, rtol=1e-10, atol=1e-12 * np.abs(sigma).max()):
        raise ValueError("covariance must be symmetric")
    return sigma, b


def _count(name: str, value: int, high: float = np.inf) -> int:
    array = bounded(name, value, 1, high)
    if array.ndim or array != np.floor(array):
        raise ValueError(f"{name} must be an integer; got {value!r}")
    return int(array)


def estimator_law(
    covariance: ArrayLike,
    coefficients: ArrayLike,
    n_samples: int,
    noise_variance: float,
    *,
    ridge: float = 0.0,
) -> EstimatorLaw:
    """Limiting Gaussian law of the dense estimate for any covariance.

    Parameters
    ----------
    covariance : array_like, shape (p, p)
        Second moments of the features: symmetric, positive semidefinite.
    coefficients : array_like, shape (p,)
        True coefficients b, unscaled.
    n_samples : int
    noise_variance : float
    ridge : float
        Penalty of the fit.

    Returns
    -------
    EstimatorLaw

    Notes
    -----
    ``b̂ ~ U zeta U'b + sqrt(gamma/n) U (zeta / sqrt(λ)) g``: exact in the limit for statistics
    that average over features, an approximation of order 1/n in the mean at finite p.
    """
    problem = _problem(covariance, coefficients, n_samples, noise_variance, ridge)
    return _law_of(problem)


def _law_of(problem: _Problem) -> EstimatorLaw:
    value, basis = problem.eigenvalue, problem.basis
    eta, gamma = float(problem.dense.eta[0]), float(problem.dense.gamma[0])
    if np.isinf(gamma):
        raise ValueError(NO_LAW)
    positive = value > 0
    total = np.where(positive, value + eta, 1.0)
    zeta = np.where(positive, value / total, 0.0)
    spread = np.where(positive, np.sqrt(value) / total, 0.0)
    mean = basis @ (zeta * (basis.T @ problem.coefficients))
    return EstimatorLaw(mean, np.sqrt(gamma / problem.n) * basis * spread, eta, gamma)


def _top(scores: np.ndarray, count: int) -> np.ndarray:
    """Positions of the ``count`` largest scores."""
    return np.argpartition(-scores, count - 1)[:count]


def _subset(
    problem: _Problem, method: str, n_kept: int, estimate: np.ndarray, fixed: np.ndarray | None
) -> np.ndarray:
    if fixed is not None:
        return fixed
    root = np.sqrt(np.diag(problem.covariance))
    if method == "oracle":
        return _top(np.abs(root * problem.coefficients), n_kept)
    return _top(np.abs(estimate) * (root if method == "hessian" else 1.0), n_kept)


def _fixed(subset: ArrayLike | None, method: str, n_kept: int, p: int) -> np.ndarray | None:
    if subset is None:
        return None
    array = np.unique(np.asarray(subset, dtype=np.int64))
    if method != "oracle":
        raise ValueError(f"subset must come with method 'oracle'; got {method!r}")
    if array.size != n_kept or array[0] < 0 or array[-1] >= p:
        raise ValueError(f"subset must hold n_kept={n_kept} distinct positions below {p}")
    return array


def correlated_risk(
    covariance: ArrayLike,
    coefficients: ArrayLike,
    n_samples: int,
    noise_variance: float,
    n_kept: int,
    *,
    method: str = "magnitude",
    ridge: float = 0.0,
    subset: ArrayLike | None = None,
    draws: int = 50,
    seed: int | np.random.Generator = 0,
) -> Estimate:
    """Pruned risk for correlated features, averaged over draws of the estimator's law.

    Parameters
    ----------
    covariance, coefficients, n_samples, noise_variance, ridge
        As for `estimator_law`.
    n_kept : int
        Coefficients that survive; p is the dense risk.
    method : {"magnitude", "hessian", "oracle"}
        Score. The oracle keeps the largest ``Σ_ii b_i²`` or, when given, ``subset``.
    subset : array_like of int, optional
        The oracle's features: the best set is combinatorial for correlated ones.
    draws : int
        At least 2.
    seed : int or numpy.random.Generator

    Returns
    -------
    Estimate
        Mean and standard error over the draws.
    """
    chosen("method", method, METHODS)
    problem = _problem(covariance, coefficients, n_samples, noise_variance, ridge)
    p = problem.coefficients.size
    n_kept = _count("n_kept", n_kept, p)
    draws = int(bounded("draws", draws, 2))
    if np.isinf(problem.dense.gamma[0]):
        return Estimate(np.inf, 0.0)
    fixed = _fixed(subset, method, n_kept, p)
    law, rng = _law_of(problem), np.random.default_rng(seed)
    risks = np.empty(draws)
    for draw in range(draws):
        estimate = law.mean + law.factor @ rng.standard_normal(p)
        kept = _subset(problem, method, n_kept, estimate, fixed)
        error = problem.coefficients.copy()
        error[kept] -= estimate[kept]
        risks[draw] = problem.noise + error @ (problem.covariance @ error)
    return Estimate(float(risks.mean()), float(risks.std(ddof=1) / np.sqrt(draws)))


def subset_risk(
    covariance: ArrayLike,
    coefficients: ArrayLike,
    subset: ArrayLike,
    n_samples: int,
    noise_variance: float,
    *,
    ridge: float = 0.0,
) -> float:
    """Risk of a model fitted on a set of features fixed in advance, for any covariance.

    Parameters
    ----------
    covariance, coefficients, n_samples, noise_variance, ridge
        As for `estimator_law`.
    subset : array_like of int, shape (s,)
        Positions of the features used.

    Returns
    -------
    float
        ``noise' / (1 - s/n)`` for s < n without ridge, noise' being the noise plus what the
        features used cannot explain; inf at s = n.
    """
    small = project(covariance, coefficients, subset, noise_variance)
    problem = _problem(*small[:2], n_samples, small.noise_variance, ridge)
    return float(problem.dense.gamma[0])


def project(
    covariance: ArrayLike, coefficients: ArrayLike, subset: ArrayLike, noise_variance: float
) -> Features:
    """The linear problem that remains when only the features in ``subset`` are seen."""
    sigma, b = _checked(covariance, coefficients)
    kept = np.asarray(subset, dtype=np.int64)
    if kept.ndim != 1 or kept.size == 0 or np.unique(kept).size != kept.size:
        raise ValueError("subset must be a non-empty vector of distinct positions")
    if kept.min() < 0 or kept.max() >= b.size:
        raise ValueError(f"subset must lie in 0..{b.size - 1}; got {kept.min()}..{kept.max()}")
    noise = float(bounded("noise_variance", noise_variance, 0.0))
    inner, cross = sigma[np.ix_(kept, kept)], sigma[kept] @ b
    best = np.linalg.lstsq(inner, cross, rcond=None)[0]
    rest = b.copy()
    rest[kept] -= best  # the projection's residual, written as one quadratic form
    return Features(inner, best, noise + max(0.0, float(rest @ (sigma @ rest))))


def correlated_retrained_risk(
    covariance: ArrayLike,
    coefficients: ArrayLike,
    n_samples: int,
    noise_variance: float,
    n_kept: int,
    *,
    method: str = "magnitude",
    ridge: float = 0.0,
    draws: int = 50,
    seed: int | np.random.Generator = 0,
) -> Estimate:
    """Risk after pruning correlated features and refitting by least squares on the same data.

    Parameters
    ----------
    covariance, coefficients, n_samples, noise_variance, ridge
        As for `estimator_law`.
    n_kept : int
        Features that survive, below ``n_samples``.
    method : {"magnitude", "hessian"}
        For a set fixed in advance see `subset_risk`.
    draws, seed
        As for `correlated_risk`.

    Returns
    -------
    Estimate
        The error is a jackknife over the draws.
    """
    chosen("method", method, METHODS[:2])
    problem = _problem(covariance, coefficients, n_samples, noise_variance, ridge)
    n_kept = _count("n_kept", n_kept, problem.coefficients.size)
    draws = int(bounded("draws", draws, 2))
    if n_kept > problem.n:
        raise ValueError(f"n_kept must be at most n_samples={problem.n}; got {n_kept}")
    if n_kept == problem.n:
        return Estimate(np.inf, 0.0)
    if np.isinf(problem.dense.gamma[0]):
        raise ValueError(NO_LAW)
    overlaps = _overlaps(problem, method, n_kept, draws, np.random.default_rng(seed))
    total = overlaps.sum(axis=0)
    risk = _refit(problem, n_kept, total / draws)
    left_out = np.array([_refit(problem, n_kept, (total - row) / (draws - 1)) for row in overlaps])
    spread = (draws - 1) / draws * np.sum((left_out - left_out.mean()) ** 2)
    return Estimate(risk, float(np.sqrt(spread)))


def _overlaps(
    problem: _Problem, method: str, n_kept: int, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Inner products of error, projected signal, noise and residual: (draws, 12).

    Columns 0-5 enter the equations of q and a; 6-11 the square of the refit's error, a
    quadratic form in (1, q, a).
    """
    value, basis, dense = problem.eigenvalue, problem.basis, problem.dense
    root = np.sqrt(value)
    half = (basis * root) @ basis.T
    zeta = np.where(value > 0, value / np.where(value > 0, value + dense.eta[0], 1.0), 0.0)
    inverse = np.where(value > 0, 1.0 / np.where(value > 0, root, 1.0), 0.0)
    signal = half @ problem.coefficients
    out = np.empty((draws, 12))
    for draw in range(draws):
        noise = np.sqrt(dense.gamma[0] / problem.n) * rng.standard_normal(value.size)
        pseudo = basis.T @ (signal + noise)
        fitted = basis @ (zeta * pseudo)
        residual = signal + noise - fitted
        kept = _subset(problem, method, n_kept, basis @ (inverse * zeta * pseudo), None)
        frame = qr(half[:, kept], mode="economic")[0]
        seen_noise, seen_rest = (frame @ (frame.T @ v) for v in (noise, residual))
        missed = frame @ (frame.T @ signal) - signal
        error = fitted - signal
        out[draw] = (
            error @ missed,
            error @ seen_noise,
            error @ seen_rest,
            noise @ (missed + signal),
            noise @ seen_noise,
            noise @ seen_rest,
            missed @ missed,
            seen_noise @ seen_noise,
            seen_rest @ seen_rest,
            missed @ seen_noise,
            missed @ seen_rest,
            seen_noise @ seen_rest,
        )
    return out


def _refit(problem: _Problem, n_kept: int, mean: np.ndarray) -> float:
    """Risk of the refit from averaged inner products."""
    gamma, load = float(problem.dense.gamma[0]), n_kept / problem.n
    m0, m1, m2, m3, m4, m5 = mean[:6]
    if gamma == 0:
        q, a = 0.0, 0.0
    elif problem.dense.eta[0] == 0:
        q, a = (problem.noise + m0) / (gamma - m1), 0.0
    else:
        left = np.array([[gamma - m1, -m2], [m4 / gamma - load, 1.0 - load + m5 / gamma]])
        q, a = np.linalg.solve(left, [problem.noise + m0, -m3 / gamma])
    square = mean[6] + q * q * mean[7] + a * a * mean[8]
    square += 2.0 * (q * mean[9] + a * mean[10] + q * a * mean[11])
    return float((problem.noise + square - q * q * gamma * load) / (1.0 - load))


def relu_features(rows: ArrayLike, coefficients: ArrayLike, noise_variance: float) -> Features:
    """Gaussian equivalent of p ReLU features ``max(r_i'x, 0)`` for ``x ~ N(0, I_d)``.

    Parameters
    ----------
    rows : array_like, shape (p, d)
        First-layer weights r_i.
    coefficients : array_like, shape (d,)
        The target is ``coefficients'x`` plus noise.
    noise_variance : float

    Returns
    -------
    Features
        Exact second moments (not centred), best second-layer coefficients, and the noise
        variance with the part of the target that the features cannot express.
    """
    r = finite_array("rows", rows)
    theta = finite_array("coefficients", coefficients)
    if r.ndim != 2 or theta.shape != r.shape[1:]:
        raise ValueError(
            f"rows and coefficients must be (p, d), (d,); got {r.shape}, {theta.shape}"
        )
    noise = float(bounded("noise_variance", noise_variance, 0.0))
    norm = np.linalg.norm(r, axis=1)
    size = np.outer(norm, norm)
    cosine = np.clip((r @ r.T) / size, -1.0, 1.0)
    angle = np.arccos(cosine)
    sine = np.sqrt(np.maximum(0.0, 1.0 - cosine**2))
    covariance = size / (2.0 * np.pi) * (sine + (np.pi - angle) * cosine)
    cross = 0.5 * (r @ theta)
    best = np.linalg.lstsq(covariance, cross, rcond=None)[0]
    return Features(covariance, best, noise + max(0.0, float(theta @ theta - cross @ best)))
