"""The limits describe finite data: Monte Carlo with stated false-alarm rates, and who must fail.

A z-score compares a mean over r data sets with the limit for the very problem drawn; its law is
that of Student's t with r - 1 degrees, up to a bias of order 1/n. ``python -m
cascadenet.sparse.theory.verify`` does the same on 48 configurations.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from cascadenet.sparse.theory import (
    Law,
    classification_error,
    classification_problem,
    correlated_retrained_risk,
    correlated_risk,
    curve,
    dense_risk,
    logistic_limit,
    power_law,
    pruned_risk,
    relu_features,
    retrained_risk,
    simulate,
    simulate_random_features,
    subset_risk,
    two_level,
)
from cascadenet.sparse.theory.simulator import finite_problem, fit
from cascadenet.sparse.theory.verify import compare, configurations, main, rms

SAMPLES, REPEATS = 300, 20
WORST = 5.0  # |t| above 5 with 19 degrees: 8e-5 per comparison, 0.3% for the 42 here

SPIKED = two_level(0.1, 1.0, 0.3, eigenvalues=(25.0, 1.0))
# law, kappa, noise, kept fraction, ridge, ridge of the refit
CONFIGURATIONS = {
    "least squares": (two_level(), 0.6, 0.25, 0.3, 0.0, 0.0),
    "s close to n": (two_level(), 4.0, 0.25, 0.2, 0.0, 0.0),
    "spiked": (SPIKED, 2.0, 0.5, 0.1, 0.0, 0.0),
    "power law": (power_law(60, 1.2), 2.5, 0.3, 0.1, 0.0, 0.0),
    "noiseless": (Law([0.5, 0.5], [2.0, 0.2], [0.0, 0.0], [1.0, 1.0]), 1.6, 0.0, 0.15, 0.0, 0.0),
    "ridges, s above n": (SPIKED, 4.0, 0.5, 0.3, 0.3, 0.1),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_limits_match_simulation(name: str, seed: int) -> None:
    law, kappa, noise, kept, ridge, refit = CONFIGURATIONS[name]
    table = simulate(
        law, kappa, noise, kept,
        n_samples=SAMPLES, repeats=REPEATS, ridge=ridge, retrain_ridge=refit, seed=seed,
    )  # fmt: skip
    assert len(table) == 7
    assert table["z"].abs().max() < WORST, table.to_string()


def test_independent_mask_formula_is_refuted(seed: int) -> None:
    """The negative control: refitting as if the mask came from other data."""
    law, kappa, noise, kept = two_level(), 4.0, 0.25, 0.2
    keep = curve(law, kappa, noise, kept)[["keep_magnitude_0", "keep_magnitude_1"]].to_numpy()[0]
    dropped = law.weight @ ((1.0 - keep) * law.mean**2)
    independent = (noise + dropped) / (1.0 - kappa * kept)
    np.testing.assert_allclose(independent, 4.76, atol=5e-3)
    table = simulate(
        law, kappa, noise, kept,
        n_samples=SAMPLES, repeats=REPEATS, methods=("magnitude",), seed=seed,
    ).set_index("risk")  # fmt: skip
    row = table.loc["retrained_magnitude"]
    assert abs(row["z"]) < WORST < 20 < (independent - row["mean"]) / row["error"]


def test_the_comparison_notices_a_wrong_law(seed: int) -> None:
    table = simulate(SPIKED, 2.0, 0.5, 0.1, repeats=REPEATS, seed=seed).set_index("risk")
    wrong = pruned_risk(two_level(0.1, 1.2, 0.3, eigenvalues=(25.0, 1.0)), 2.0, 0.5, 0.1)
    row = table.loc["magnitude"]
    assert abs(wrong - row["mean"]) / row["error"] > WORST


def test_simulator_has_the_exact_finite_mean(seed: int) -> None:
    """E risk = noise (n-1)/(n-p-1) for Gaussian least squares: an oracle without a limit.

    False alarm: |t| > 4 with 399 degrees, 8e-5.
    """
    n, p = 40, 16
    table = simulate(two_level(), p / n, 0.7, n_samples=n, repeats=400, methods=(), seed=seed).iloc[
        0
    ]
    wanted = 0.7 * (n - 1) / (n - p - 1)
    assert abs(table["mean"] - wanted) / table["error"] < 4
    assert abs(table["theory"] - wanted) > 0.5 * table["error"], "the limit differs at this size"


def test_finite_problem_has_the_law(seed: int) -> None:
    law = Law([0.25, 0.75], [2.0, 0.5], [1.0, 0.0], [0.0, 0.0])
    eigenvalue, b = finite_problem(law, 40, np.random.default_rng(seed))
    assert np.bincount((eigenvalue == 2.0).astype(int)).tolist() == [30, 10]
    np.testing.assert_allclose(Law.from_data(eigenvalue, b).signal, law.signal, rtol=1e-14)


def test_same_seed_same_table(seed: int) -> None:
    first, again = (simulate(two_level(), 2.0, 0.25, 0.2, repeats=3, seed=seed) for _ in range(2))
    other = simulate(two_level(), 2.0, 0.25, 0.2, repeats=3, seed=seed + 1)
    pd.testing.assert_frame_equal(first, again)
    assert not first["mean"].equals(other["mean"])


# Fits by other people's code


@pytest.mark.parametrize("kappa", [0.5, 2.0])
@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_simulated_fit_is_that_of_other_libraries(kappa: float, ridge: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((40, int(40 * kappa))), rng.standard_normal(40)
    if ridge:
        linear_model = pytest.importorskip("sklearn.linear_model")
        wanted = (
            linear_model.Ridge(alpha=40 * ridge, fit_intercept=False, tol=1e-12).fit(x, y).coef_
        )
    else:
        wanted = np.linalg.lstsq(x, y, rcond=None)[0]
    np.testing.assert_allclose(fit(x, y, ridge), wanted, rtol=1e-8, atol=1e-10)


def test_library_estimators_land_on_the_curves(seed: int) -> None:
    """Ridge and least squares fitted, pruned and refitted outside the package's simulator.

    False alarm: four comparisons of |t| > 5 with 19 degrees, 3e-4.
    """
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(seed)
    n, p, kept, noise, ridge = 300, 480, 60, 0.4, 0.1
    eigenvalue, b = finite_problem(SPIKED, p, rng)
    law, kappa = Law.from_data(eigenvalue, b), p / n

    def risk(estimate: np.ndarray) -> float:
        return noise + eigenvalue @ (estimate - b) ** 2

    runs = []
    for _ in range(20):
        x = rng.standard_normal((n, p)) * np.sqrt(eigenvalue)
        y = x @ b + np.sqrt(noise) * rng.standard_normal(n)
        smooth = linear_model.Ridge(alpha=n * ridge, fit_intercept=False).fit(x, y).coef_
        interpolating = np.linalg.lstsq(x, y, rcond=None)[0]
        score = np.sqrt(eigenvalue) * np.abs(interpolating)
        mask = score >= np.sort(score)[-kept]
        pruned, refitted = np.where(mask, interpolating, 0.0), np.zeros(p)
        refitted[mask] = linear_model.LinearRegression(fit_intercept=False).fit(x[:, mask], y).coef_
        runs.append([risk(v) for v in (smooth, interpolating, pruned, refitted)])
    wanted = [
        dense_risk(law, kappa, noise, ridge=ridge),
        dense_risk(law, kappa, noise),
        pruned_risk(law, kappa, noise, kept / p, method="hessian"),
        retrained_risk(law, kappa, noise, kept / p, method="hessian"),
    ]
    z = (np.mean(runs, axis=0) - wanted) / (np.std(runs, axis=0, ddof=1) / np.sqrt(20))
    assert np.abs(z).max() < WORST, z


# Correlated and random features


@pytest.mark.parametrize("n, ridge", [(90, 0.0), (90, 0.2), (270, 0.0)])
def test_correlated_features_match_simulation(n: int, ridge: float, seed: int) -> None:
    """Pruned, retrained and fixed-subset risks; the predictor's own error is added.

    False alarm: 12 comparisons of |z| > 5, below 1e-3 with the bias of order 1/n.
    """
    rng = np.random.default_rng(seed)
    p, kept, noise, repeats = 180, 30, 0.2, 60
    size = np.where(np.arange(p) % 3 == 0, 1.8, 0.8)
    covariance = 0.6 ** np.abs(np.subtract.outer(np.arange(p), np.arange(p))) * np.outer(size, size)
    b = np.where(rng.random(p) < 0.2, 1.0, 0.1) * rng.standard_normal(p)
    b /= np.sqrt(b @ covariance @ b)
    fixed, factor = np.arange(0, p, 6), np.linalg.cholesky(covariance)

    def risk(estimate: np.ndarray) -> float:
        return noise + (estimate - b) @ covariance @ (estimate - b)

    runs = np.empty((repeats, 4))
    for run in range(repeats):
        x = rng.standard_normal((n, p)) @ factor.T
        y = x @ b + np.sqrt(noise) * rng.standard_normal(n)
        dense = fit(x, y, ridge)
        pruned, refitted, small = np.zeros((3, p))
        mask = np.argsort(-size * np.abs(dense))[:kept]
        pruned[mask], refitted[mask] = dense[mask], fit(x[:, mask], y)
        small[fixed] = fit(x[:, fixed], y)
        runs[run] = [risk(v) for v in (dense, pruned, refitted, small)]
    options = {"method": "hessian", "ridge": ridge, "draws": 100, "seed": seed}
    predicted = [
        correlated_risk(covariance, b, n, noise, p, ridge=ridge, draws=400, seed=seed),
        correlated_risk(covariance, b, n, noise, kept, **options),
        correlated_retrained_risk(covariance, b, n, noise, kept, **options),
        (subset_risk(covariance, b, fixed, n, noise), 0.0),
    ]
    mean, own = np.array(predicted).T
    error = np.hypot(runs.std(axis=0, ddof=1) / np.sqrt(repeats), own)
    z = (runs.mean(axis=0) - mean) / error
    assert np.abs(z).max() < WORST, z


def test_diagonal_covariance_is_the_law(seed: int) -> None:
    """The predictor for correlated features against the closed form; |z| > 4: 3e-4 in all."""
    rng = np.random.default_rng(seed)
    eigenvalue, b = finite_problem(SPIKED, 400, rng)
    law = Law.from_data(eigenvalue, b)
    for predictor, risk in (
        (correlated_risk, pruned_risk),
        (correlated_retrained_risk, retrained_risk),
    ):
        found = predictor(np.diag(eigenvalue), b, 200, 0.5, 60, method="hessian", draws=100)
        wanted = risk(law, 2.0, 0.5, 0.15, method="hessian")
        assert abs(found.mean - wanted) < 4 * found.error + 0.01 * wanted


def test_random_features_match_simulation(seed: int) -> None:
    """Real nonlinear features at d = 150. False alarm: 4 of |t| > 6 with 9 degrees, 8e-4."""
    table = simulate_random_features("relu", [1.0, 4.0], 2.0, 0.2, kept_fraction=0.25, seed=seed)
    assert table["z"].abs().max() < 6, table.to_string()


def test_relu_covariance_is_that_of_samples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, theta = rng.standard_normal((6, 4)), rng.standard_normal(4)
    found = relu_features(rows, theta, 0.3)
    x = rng.standard_normal((400_000, 4))
    features, target = np.maximum(x @ rows.T, 0.0), x @ theta
    scale = np.sqrt(np.outer(np.diag(found.covariance), np.diag(found.covariance)))
    sampled = features.T @ features / len(x)
    np.testing.assert_allclose(sampled, found.covariance, atol=0.02 * scale.max())
    cross = features.T @ target / len(x)
    np.testing.assert_allclose(cross, found.covariance @ found.coefficients, atol=0.03)
    residual = np.mean((target - features @ found.coefficients) ** 2)
    np.testing.assert_allclose(residual + 0.3, found.noise_variance, rtol=0.02)


# Classification


@pytest.mark.parametrize("labels", ["sign", "logit"])
def test_classifiers_match_simulation(labels: str, seed: int) -> None:
    """0/1 errors of square loss (dense, pruned) and ridge logistic. |t| > 5, 19 degrees: 5e-4."""
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(seed)
    n, p, kept, ridge = 300, 150, 45, 0.05
    eigenvalue, b = finite_problem(two_level(0.2, 3.0, 0.5, eigenvalues=(2.0, 0.5)), p, rng)
    law, signal = Law.from_data(eigenvalue, b), eigenvalue @ b**2

    def error(estimate: np.ndarray) -> float:
        r = (eigenvalue * estimate) @ b / np.sqrt(eigenvalue @ estimate**2 * signal)
        if labels == "sign":
            return np.arccos(r) / np.pi
        u, side = fresh
        predicted = r * u + np.sqrt(1 - r * r) * side
        return np.mean(expit(-np.sqrt(signal) * u * np.sign(predicted)))

    fresh = rng.standard_normal((2, 200_000))
    runs = np.empty((20, 4))
    for run in range(20):
        x = rng.standard_normal((n, p)) * np.sqrt(eigenvalue)
        u = x @ b
        chance = expit(u) if labels == "logit" else (u > 0)
        y = np.where(rng.random(n) < chance, 1.0, -1.0)

        def loss(w: np.ndarray, x: np.ndarray = x, y: np.ndarray = y) -> tuple[float, np.ndarray]:
            margin = y * (x @ w)
            slope = -(x.T @ (y * expit(-margin))) / n + ridge * w
            return np.logaddexp(0.0, -margin).mean() + 0.5 * ridge * w @ w, slope

        dense = fit(x, y)
        logistic = optimize.minimize(loss, np.zeros(p), jac=True, tol=1e-9).x
        for column, (estimate, score) in enumerate(
            ((dense, None), (dense, 1.0), (dense, np.sqrt(eigenvalue)), (logistic, None))
        ):
            shown = estimate
            if score is not None:
                shown = np.zeros(p)
                mask = np.argsort(-score * np.abs(estimate))[:kept]
                shown[mask] = estimate[mask]
            runs[run, column] = error(shown)
    wanted = [
        classification_error(law, p / n, labels=labels),
        classification_error(law, p / n, kept / p, method="magnitude", labels=labels),
        classification_error(law, p / n, kept / p, method="hessian", labels=labels),
        logistic_limit(law, p / n, ridge, labels=labels).error,
    ]
    # the fresh points for the logit error have an error of their own, about 1e-3
    spread = np.hypot(runs.std(axis=0, ddof=1) / np.sqrt(20), 5e-4)
    assert np.abs((runs.mean(axis=0) - wanted) / spread).max() < WORST


def test_square_loss_problem_has_the_slope_of_the_labels(seed: int) -> None:
    law = two_level(0.2, 3.0, 0.5)
    u = np.sqrt(law.signal) * np.random.default_rng(seed).standard_normal(400_000)
    found = classification_problem(law, "logit").slope
    np.testing.assert_allclose(found, np.mean(np.tanh(u / 2) * u) / law.signal, rtol=0.01)


# The command


def test_verification_command_lists_enough_configurations() -> None:
    assert len(list(configurations())) >= 40


def test_verification_command_agrees_on_a_few(capsys: pytest.CaptureFixture[str]) -> None:
    table = compare(n_samples=120, repeats=8, most=4)
    assert table["name"].nunique() == 4
    assert 0.4 < rms(table["z"]) < 2.0
    code = main(["--samples", "60", "--repeats", "4", "--most", "2"])
    shown = capsys.readouterr().out
    assert code in (0, 1) and "2 configurations" in shown and "rms z" in shown
