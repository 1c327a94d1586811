"""Ridge paths, classification limits and the pieces below them, against independent routes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, ndtr

from cascadenet.sparse.theory import (
    Law,
    classification_error,
    dense_risk,
    isotropic,
    logistic_limit,
    max_margin,
    mei_montanari_risk,
    mle_threshold,
    optimal_ridge,
    power_law,
    project,
    pruned_risk,
    random_feature_law,
    random_feature_risk,
    retrained_risk,
    ridge_path,
    subset_risk,
    two_level,
)
from cascadenet.sparse.theory.logistic import logistic_prox
from cascadenet.sparse.theory.masks import select

ALIGNED = Law([0.5, 0.5], [2.0, 0.2], [1.5, 0.1], [0.0, 0.0])


# The fixed point, restated


def plain_dense(law: Law, kappa: float, noise: float, ridge: float) -> float:
    """One kappa, the equations as they stand."""
    w, value = law.weight, law.eigenvalue

    def excess(eta: float) -> float:
        return eta * (1.0 - kappa * (w @ (value / (value + eta)))) - ridge

    eta = brentq(excess, 1e-10, ridge + kappa * (w @ value) + 1.0, xtol=1e-15, rtol=1e-15)
    zeta = value / (value + eta)
    bias = w @ ((1.0 - zeta) ** 2 * value * law.second_moment)
    return float((noise + bias) / (1.0 - kappa * (w @ zeta**2)))


@pytest.mark.parametrize("kappa", [0.3, 0.95, 1.0, 1.05, 4.0])
@pytest.mark.parametrize("ridge", [1e-4, 0.1, 5.0])
def test_ridge_risk_by_bisection(kappa: float, ridge: float) -> None:
    law = power_law(30, 1.5, 0.4)
    wanted = plain_dense(law, kappa, 0.3, ridge)
    np.testing.assert_allclose(dense_risk(law, kappa, 0.3, ridge=ridge), wanted, rtol=1e-9)


def test_pruned_risk_by_sampling_the_pseudo_data(seed: int) -> None:
    """The closed form against 4e5 draws of (Theta, R1) with ridge; 5 standard errors."""
    rng = np.random.default_rng(seed)
    law = Law([0.3, 0.7], [3.0, 0.4], [1.0, 0.2], [0.5, 0.1])
    kappa, noise, ridge, kept, count = 1.8, 0.3, 0.2, 0.25, 400_000
    gamma = dense_risk(law, kappa, noise, ridge=ridge)
    eta = brentq(
        lambda e: e * (1 - kappa * (law.weight @ (law.eigenvalue / (law.eigenvalue + e)))) - ridge,
        1e-6, 50.0,
    )  # fmt: skip
    group = rng.choice(2, count, p=law.weight)
    value = law.eigenvalue[group]
    b = law.mean[group] + np.sqrt(law.variance[group]) * rng.standard_normal(count)
    shrunk = value / (value + eta)
    x = shrunk * (b + np.sqrt(kappa * gamma / value) * rng.standard_normal(count))
    for method, score in (("magnitude", np.abs(x)), ("hessian", np.sqrt(value) * np.abs(x))):
        mask = score >= np.quantile(score, 1 - kept)
        loss = value * (b - x * mask) ** 2
        found = pruned_risk(law, kappa, noise, kept, method=method, ridge=ridge)
        assert abs(noise + loss.mean() - found) < 5 * loss.std() / np.sqrt(count)


# Selecting the truly largest


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.5]), min_size=1, max_size=6),
    st.floats(0.01, 1.0),
)
def test_selection_of_atoms_by_sorting(sizes: list[float], kept: float) -> None:
    mean = np.array(sizes)
    weight = np.full(mean.size, 1.0 / mean.size)
    one = np.ones(mean.size)
    found = select(one, mean, 0.0 * one, weight, np.array([kept]))
    left, wanted = kept, 0.0
    for size in sorted(sizes, reverse=True):
        share = min(left, 1.0 / mean.size)
        wanted, left = wanted + share * size**2, left - share
    np.testing.assert_allclose(found.keep[0] @ weight, kept, rtol=1e-12)
    np.testing.assert_allclose(found.inside[0] @ weight, wanted, rtol=1e-12, atol=1e-15)
    equal = mean[:, None] == mean
    assert np.ptp(np.where(equal, found.keep[0], found.keep[0][:, None]), axis=1).max() < 1e-12


@settings(max_examples=40)
@given(st.floats(0.001, 0.999))
def test_selection_with_atoms_between_gaussians(kept: float) -> None:
    mean, variance = np.array([0.0, 1.0, 0.3, 2.0]), np.array([0.7, 0.0, 0.2, 0.0])
    weight, one = np.array([0.3, 0.2, 0.4, 0.1]), np.ones(4)
    found = select(one, mean, variance, weight, np.array([kept]))
    np.testing.assert_allclose(found.keep[0] @ weight, kept, rtol=1e-12)
    np.testing.assert_allclose(found.inside + found.outside, [mean**2 + variance], rtol=1e-12)
    t = found.threshold[0]
    wanted = ndtr(-(t - mean) / np.sqrt(variance + 1e-300)) + ndtr(
        -(t + mean) / np.sqrt(variance + 1e-300)
    )
    gaussian = variance > 0
    np.testing.assert_allclose(found.keep[0][gaussian], wanted[gaussian], rtol=1e-9)


# Ridge


@pytest.mark.parametrize("kappa, noise", [(0.5, 0.3), (3.0, 0.05), (3.0, 1.0), (1.0, 0.2)])
@pytest.mark.parametrize("law", [ALIGNED, two_level(), power_law(20, 1.2, 0.5)])
def test_optimal_ridge_is_a_minimum(law: Law, kappa: float, noise: float) -> None:
    best = optimal_ridge(law, kappa, noise)
    np.testing.assert_allclose(
        dense_risk(law, kappa, noise, ridge=best.ridge), best.risk, rtol=1e-11
    )
    step = 1e-3 * max(1.0, abs(best.ridge))
    around = dense_risk(law, kappa, noise, ridge=best.ridge + step * np.array([-0.5, 0.5, 20.0]))
    assert (around > best.risk).all()
    path = ridge_path(law, kappa, noise, n_points=400)
    assert path.risk.min() >= best.risk * (1 - 1e-12)
    np.testing.assert_allclose(path.risk.min(), best.risk, rtol=1e-2)


def test_optimal_ridge_can_be_negative() -> None:
    best = optimal_ridge(ALIGNED, 3.0, 0.05)
    assert best.ridge < -0.1
    assert best.risk < dense_risk(ALIGNED, 3.0, 0.05)
    opposed = Law([0.5, 0.5], [2.0, 0.2], [0.1, 1.5], [0.0, 0.0])
    assert optimal_ridge(opposed, 3.0, 0.05).ridge > 0


def test_ridgeless_slope_has_the_published_sign() -> None:
    """Aligned signal above the threshold: an infinitesimal ridge already hurts."""
    at_zero, small = dense_risk(ALIGNED, 3.0, 0.05, ridge=[0.0, 1e-3])
    assert at_zero < small


def test_optimal_ridge_without_a_signal_is_infinite() -> None:
    best = optimal_ridge(isotropic(0.0), 2.0, 0.3)
    assert best.ridge == np.inf and best.risk == 0.3


def test_ridge_path_is_the_risk() -> None:
    path = ridge_path(power_law(25, 1.3), 2.5, 0.3, n_points=60)
    inner = path.ridge > path.ridge[0] * 0.99  # the edge itself is ill-conditioned
    risks = dense_risk(power_law(25, 1.3), 2.5, 0.3, ridge=path.ridge[inner])
    np.testing.assert_allclose(risks, path.risk[inner], rtol=1e-8)
    assert (np.diff(path.ridge) > 0).all() and path.ridge[0] < 0


@pytest.mark.parametrize("kappa", [0.6, 3.0])
def test_negative_ridge_prunes_and_retrains(kappa: float) -> None:
    """Analytic in the ridge: values at -h, 0, h and 2h lie on a parabola up to h³."""
    for risk in (pruned_risk, retrained_risk):
        ridge = 1e-5 * np.array([-1.0, 0.0, 1.0, 2.0])
        low, middle, high, far = risk(ALIGNED, kappa, 0.1, 0.25, ridge=ridge)
        np.testing.assert_allclose(far, low - 3 * middle + 3 * high, rtol=1e-9)
        assert abs(low - high) > 1e-6 * middle


# Random features


@pytest.mark.parametrize("psi1", [0.3, 0.999, 1.0, 1.01, 7.0, 60.0])
@pytest.mark.parametrize("psi2", [0.5, 1.5, 20.0])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_spectral_route_equals_the_closed_form(psi1: float, psi2: float, activation: str) -> None:
    options = {"signal": 1.7, "nonlinear": 0.2}
    found = random_feature_risk(activation, psi1, psi2, 0.1, **options)
    wanted = mei_montanari_risk(activation, psi1, psi2, 0.1, **options)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_nearly_linear_activation_needs_more_nodes() -> None:
    def activation(g: np.ndarray) -> np.ndarray:
        return g + 0.01 * np.tanh(g)

    found = random_feature_risk(activation, 1.0, 0.8, 0.1)
    np.testing.assert_allclose(found, mei_montanari_risk(activation, 1.0, 0.8, 0.1), rtol=1e-9)


def test_even_activation_learns_nothing_linear() -> None:
    equivalent = random_feature_law("abs", 2.0, 0.1)
    np.testing.assert_allclose(equivalent.noise_variance, 1.1, rtol=1e-12)


# Correlated features


def test_projection_is_the_regression_on_the_subset(seed: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((5, 5))
    covariance, b = root @ root.T, rng.standard_normal(5)
    small = project(covariance, b, [0, 3], 0.2)
    total = np.block(
        [[covariance, (covariance @ b)[:, None]], [b @ covariance, b @ covariance @ b]]
    )
    rest = total[5, 5] - total[5, [0, 3]] @ np.linalg.solve(
        total[np.ix_([0, 3], [0, 3])], total[[0, 3], 5]
    )
    np.testing.assert_allclose(small.noise_variance, 0.2 + rest, rtol=1e-10)
    found = subset_risk(covariance, b, [0, 3], 8, 0.2)
    np.testing.assert_allclose(found, small.noise_variance / (1 - 2 / 8), rtol=1e-12)


# Classification


def test_label_error_is_that_of_two_normals(seed: int) -> None:
    """Isotropic, many samples: the error tends to that of knowing the direction."""
    law = isotropic(4.0)
    np.testing.assert_allclose(classification_error(law, 1e-6), 0.0, atol=1e-3)
    u = 2.0 * np.random.default_rng(seed).standard_normal(1_000_000)
    bayes = np.mean(expit(-np.abs(u)))
    found = classification_error(law, 1e-7, labels="logit")
    np.testing.assert_allclose(found, bayes, atol=2e-3)


def test_classification_at_the_threshold_is_a_coin() -> None:
    for method in ("dense", "magnitude", "hessian", "oracle"):
        found = classification_error(two_level(), 1.0, 0.3, method=method)
        np.testing.assert_allclose(found, 0.5, rtol=1e-14)


def test_logistic_proximal_point() -> None:
    centre = np.linspace(-60.0, 60.0, 241)
    for step in (1e-3, 1.0, 50.0, 1e4):
        u = logistic_prox(centre, step)
        assert (u >= centre).all() and (u <= centre + step).all()
        residual = u - centre - step * expit(-u)
        assert np.abs(residual).max() <= 1e-12 * (step + 60.0)


def test_weak_ridge_logistic_feels_the_existence_threshold() -> None:
    """Below the threshold the norm converges as the ridge goes to 0, above it it grows."""
    law = isotropic(4.0)
    star = mle_threshold(2.0)
    below = [logistic_limit(law, 0.5 * star, ridge).norm for ridge in (1e-5, 1e-6)]
    above = [logistic_limit(law, 2.0 * star, ridge).norm for ridge in (1e-3, 1e-4)]
    assert below[1] / below[0] < 1.01 < 2.0 < above[1] / above[0]


def test_strong_ridge_logistic_is_the_class_mean() -> None:
    """As the ridge grows the estimate is proportional to X'y: cosine² = m²/(m² + kappa q)."""
    law, kappa = isotropic(4.0), 0.7
    found = logistic_limit(law, kappa, 1e4)
    cosine = found.overlap / np.sqrt(found.norm * law.signal)
    u = np.linspace(-12.0, 12.0, 4001)
    weight = np.exp(-0.5 * u * u) / np.exp(-0.5 * u * u).sum()
    slope = weight @ (u * np.tanh(u))  # E[y u] for u of variance 4, over 2
    np.testing.assert_allclose(cosine, slope / np.sqrt(slope**2 + kappa), rtol=1e-3)


def test_max_margin_meets_its_threshold() -> None:
    star = mle_threshold(2.0)
    assert max_margin(1.001 * star, labels="logit", strength=2.0).margin < 0.01
    assert max_margin(1.5 * star, labels="logit", strength=2.0).margin > 0.1


def test_max_margin_of_pure_noise_is_that_of_random_labels() -> None:
    """kappa = E (M + Z)_+², Gardner's capacity."""
    found = max_margin(2.0, labels="logit", strength=0.0)
    m = found.margin
    tail = (m * m + 1) * ndtr(m) + m * np.exp(-m * m / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(tail, 2.0, rtol=1e-10)
    np.testing.assert_allclose([found.cosine, found.error], [0.0, 0.5], atol=1e-12)


def test_logistic_threshold_is_a_minimum() -> None:
    node = np.linspace(-10.0, 10.0, 8001)
    weight = np.exp(-0.5 * node**2) / np.exp(-0.5 * node**2).sum() * 2 * expit(1.5 * node)

    def tail(t: float) -> float:
        x = t * node
        return float(weight @ ((x * x + 1) * ndtr(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)))

    best = minimize_scalar(tail, (-3.0, 0.0))
    np.testing.assert_allclose(mle_threshold(1.5), best.fun, rtol=1e-9)
    assert mle_threshold([0.0, 1.5]).shape == (2,)
