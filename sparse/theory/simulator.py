"""The finite-size experiment: draw Gaussian data, fit, prune, refit, and measure the exact risk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import qr, solve, solve_triangular

from cascadenet.sparse.theory._check import METHODS, Points, bounded, chosen, points
from cascadenet.sparse.theory.dense import dense_limit
from cascadenet.sparse.theory.laws import Law
from cascadenet.sparse.theory.pruned import pruned_limit
from cascadenet.sparse.theory.random_features import (
    ACTIVATIONS,
    Activation,
    activation_coefficients,
    random_feature_risk,
)
from cascadenet.sparse.theory.retrained import retrained_limit

if TYPE_CHECKING:
    import pandas as pd

TEST_SAMPLES = 4000  # fresh inputs on which a random-features model is scored


def fit(design: np.ndarray, response: np.ndarray, ridge: float = 0.0) -> np.ndarray:
    """Minimise ``(1/n)||y - X b||² + ridge ||b||²``; the minimum-norm solution without ridge.

    Parameters
    ----------
    design : ndarray, shape (n, p)
    response : ndarray, shape (n,)
    ridge : float

    Returns
    -------
    ndarray, shape (p,)
        Coefficients; 0 for a column of zeros.
    """
    used = design.any(axis=0)
    x = design if used.all() else design[:, used]
    n, p = x.shape
    out = np.zeros(design.shape[1])
    if p == 0:
        return out
    if ridge > 0 and p <= n:
        gram = x.T @ x / n
        gram[np.diag_indices(p)] += ridge
        value = solve(gram, x.T @ response / n, assume_a="pos")
    elif ridge > 0:
        gram = x @ x.T / n
        gram[np.diag_indices(n)] += ridge
        value = x.T @ solve(gram, response / n, assume_a="pos")
    elif p <= n:
        q, r = qr(x, mode="economic", check_finite=False)
        value = solve_triangular(r, q.T @ response)
    else:
        q, r = qr(x.T, mode="economic", check_finite=False)
        value = q @ solve_triangular(r, response, trans="T")
    out[used] = value
    return out


def finite_problem(
    law: Law, n_features: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and unscaled coefficients (p,) drawn from a law.

    Components get their expected numbers of features, rounded, so that only Gaussian
    coefficients are random.
    """
    share = law.weight * n_features
    count = np.floor(share).astype(np.int64)
    missing = n_features - count.sum()
    count[np.argsort(count - share, kind="stable")[:missing]] += 1
    component = np.repeat(np.arange(law.n_components), count)
    scaled = law.mean[component]
    scaled = scaled + np.sqrt(law.variance[component]) * rng.standard_normal(n_features)
    return law.eigenvalue[component], scaled / np.sqrt(n_features)


def _one_run(
    eigenvalue: np.ndarray,
    truth: np.ndarray,
    noise: float,
    n_samples: int,
    n_kept: int,
    plan: tuple[Sequence[str], bool, float, float],
    rng: np.random.Generator,
) -> dict[str, float]:
    """Risks of one data set."""
    methods, retrain, ridge, retrain_ridge = plan
    design = rng.standard_normal((n_samples, truth.size)) * np.sqrt(eigenvalue)
    response = design @ truth + np.sqrt(noise) * rng.standard_normal(n_samples)

    def risk(estimate: np.ndarray) -> float:
        return float(noise + eigenvalue @ (estimate - truth) ** 2)

    estimate = fit(design, response, ridge)
    out = {"dense": risk(estimate)}
    root = np.sqrt(eigenvalue)
    scores = {
        "magnitude": np.abs(estimate),
        "hessian": root * np.abs(estimate),
        "oracle": root * np.abs(truth),
    }
    for method in methods:
        kept = np.argpartition(-scores[method], n_kept - 1)[:n_kept]
        pruned = np.zeros_like(estimate)
        pruned[kept] = estimate[kept]
        out[method] = risk(pruned)
        if retrain:
            pruned[kept] = fit(design[:, kept], response, retrain_ridge)
            out[f"retrained_{method}"] = risk(pruned)
    return out


def simulate(
    law: Law,
    kappa: ArrayLike,
    noise_variance: float,
    kept_fraction: ArrayLike = 1.0,
    *,
    n_samples: int = 300,
    repeats: int = 20,
    methods: Sequence[str] = METHODS,
    retrain: bool = True,
    ridge: float = 0.0,
    retrain_ridge: float = 0.0,
    seed: int | np.random.Generator = 0,
) -> pd.DataFrame:
    """Fit, prune and refit on simulated data, beside the limit's value for the same problem.

    Parameters
    ----------
    law : Law
    kappa, kept_fraction : array_like
        One simulated problem per entry of their broadcast; rounded to whole features.
    noise_variance : float
    n_samples : int
        Training samples n; the problem has ``p = round(kappa n)`` features.
    repeats : int
        Data sets per problem, at least 2.
    methods : sequence of str
        Pruners among "magnitude", "hessian", "oracle".
    retrain : bool
        Whether to refit after pruning.
    ridge, retrain_ridge : float
        Penalties of the two fits, at least 0.
    seed : int or numpy.random.Generator

    Returns
    -------
    pandas.DataFrame
        One row per problem and risk: ``kappa`` and ``kept_fraction`` as simulated, ``risk`` (its
        name), ``mean`` and ``error`` (standard error) over the repeats, ``theory`` for the law
        of the drawn (eigenvalue, coefficient) pairs, and ``z = (mean - theory)/error``, nan where
        the theory is infinite.

    Notes
    -----
    The population risk is computed, not estimated on test data. Means differ from the limit by
    O(1/n): least squares has ``noise (n-1)/(n-p-1)`` on average.
    """
    import pandas as pd

    problems, _ = points(kappa, noise_variance, kept_fraction, ridge, retrain_ridge)
    for name in methods:
        chosen("methods", name, METHODS)
    n = int(bounded("n_samples", n_samples, 2))
    repeats = int(bounded("repeats", repeats, 2))
    bounded("ridge", ridge, 0.0)
    rng = np.random.default_rng(seed)
    plan = (tuple(methods), retrain, float(problems.ridge[0]), float(problems.retrain_ridge[0]))
    rows: list[dict[str, float | str]] = []
    for value, kept in zip(problems.kappa, problems.kept, strict=True):
        p = max(1, round(value * n))
        n_kept = max(1, round(kept * p))
        eigenvalue, truth = finite_problem(law, p, rng)
        noise = float(problems.noise[0])
        runs = pd.DataFrame(
            [_one_run(eigenvalue, truth, noise, n, n_kept, plan, rng) for _ in range(repeats)]
        )
        actual = Law.from_data(eigenvalue, truth)
        one, _ = points(p / n, noise, n_kept / p, ridge, retrain_ridge)
        theory = _theory(actual, one, plan[0], retrain)
        for name in runs:
            mean, error = runs[name].mean(), runs[name].std(ddof=1) / np.sqrt(repeats)
            exact = theory[name]
            rows.append(
                {
                    "kappa": p / n,
                    "kept_fraction": n_kept / p,
                    "risk": name,
                    "mean": mean,
                    "error": error,
                    "theory": exact,
                    "z": (mean - exact) / error if np.isfinite(exact) and error > 0 else np.nan,
                }
            )
    return pd.DataFrame(rows)


def _theory(law: Law, problem: Points, methods: Sequence[str], retrain: bool) -> dict[str, float]:
    """Limits of one problem, by the names `_one_run` uses."""
    dense = dense_limit(law, problem)
    out = {"dense": float(dense.gamma[0])}
    for method in methods:
        out[method] = float(pruned_limit(law, problem, dense, method).risk[0])
        if retrain:
            out[f"retrained_{method}"] = float(retrained_limit(law, problem, dense, method)[0])
    return out


def simulate_random_features(
    activation: Activation,
    features_per_input: ArrayLike,
    samples_per_input: float,
    noise_variance: float,
    *,
    kept_fraction: float = 1.0,
    inputs: int = 150,
    repeats: int = 10,
    ridge: float = 0.0,
    signal: float = 1.0,
    seed: int | np.random.Generator = 0,
) -> pd.DataFrame:
    """Random-features regression on real nonlinear features, dense and magnitude-pruned.

    Parameters
    ----------
    activation : str or callable
        See `cascadenet.sparse.theory.activation_coefficients`.
    features_per_input : array_like
        psi1 = p/d, one problem per entry.
    samples_per_input, noise_variance, kept_fraction, ridge, signal : float
        As for `cascadenet.sparse.theory.random_feature_risk`.
    inputs : int
        Input dimension d.
    repeats : int
        Data sets per problem, each with a first layer of its own; at least 2.
    seed : int or numpy.random.Generator

    Returns
    -------
    pandas.DataFrame
        ``features_per_input``, ``risk`` ("dense", "magnitude"), ``mean``, ``error``, ``theory``,
        ``z``. The features are centred by their exact mean; risks are measured on fresh data.
    """
    import pandas as pd

    ratios = np.atleast_1d(bounded("features_per_input", features_per_input, 0.0, open_low=True))
    psi2 = float(bounded("samples_per_input", samples_per_input, 0.0, open_low=True))
    noise = float(bounded("noise_variance", noise_variance, 0.0))
    kept = float(bounded("kept_fraction", kept_fraction, 0.0, 1.0, open_low=True))
    d, repeats = int(bounded("inputs", inputs, 2)), int(bounded("repeats", repeats, 2))
    hermite = activation_coefficients(activation)
    function = ACTIVATIONS[activation] if isinstance(activation, str) else activation
    rng = np.random.default_rng(seed)
    n = round(psi2 * d)
    rows: list[dict[str, float | str]] = []
    for ratio in ratios:
        p = max(1, round(ratio * d))
        n_kept = max(1, round(kept * p))
        runs = np.empty((repeats, 2))
        for run in range(repeats):
            layer = rng.standard_normal((p, d))
            layer /= np.linalg.norm(layer, axis=1, keepdims=True)
            x = rng.standard_normal((n + TEST_SAMPLES, d))
            target = np.sqrt(signal / d) * x.sum(axis=1)
            features = function(x @ layer.T) - hermite.constant
            response = target[:n] + np.sqrt(noise) * rng.standard_normal(n)
            estimate = fit(features[:n], response, ridge)
            pruned = np.zeros(p)
            top = np.argpartition(-np.abs(estimate), n_kept - 1)[:n_kept]
            pruned[top] = estimate[top]
            for column, weights in enumerate((estimate, pruned)):
                runs[run, column] = noise + np.mean((target[n:] - features[n:] @ weights) ** 2)
        for column, name in enumerate(("dense", "magnitude")):
            exact = random_feature_risk(
                hermite, p / d, n / d, noise,
                kept_fraction=n_kept / p, method=name, ridge=ridge, signal=signal,
            )  # fmt: skip
            mean, error = runs[:, column].mean(), runs[:, column].std(ddof=1) / np.sqrt(repeats)
            rows.append(
                {
                    "features_per_input": p / d,
                    "risk": name,
                    "mean": mean,
                    "error": error,
                    "theory": exact,
                    "z": (mean - exact) / error if np.isfinite(exact) else np.nan,
                }
            )
    return pd.DataFrame(rows)
