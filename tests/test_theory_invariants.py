"""Symmetries, limits, exact special values and wrong input of the risk formulas."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadenet.sparse.theory import (
    Law,
    correlated_risk,
    curve,
    dense_risk,
    dense_summary,
    haar_pruned_risk,
    isotropic,
    logistic_limit,
    max_margin,
    pruned_risk,
    random_feature_risk,
    retrained_risk,
    simulate,
    subset_risk,
    two_level,
)

METHODS = ("magnitude", "hessian", "oracle")
TOLERANCE = 1e-13

Case = tuple[Law, float, float, float, float, float]


@st.composite
def problems(draw: st.DrawFn) -> Case:
    """Law, kappa, noise, kept fraction, ridge, ridge of the refit; away from the peaks.

    Near kappa = 1 and s = n the risk itself amplifies an ulp of its arguments beyond 1e-13.
    """
    size = draw(st.integers(1, 5))

    def column(values: st.SearchStrategy[float]) -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=size, max_size=size)))

    weight = column(st.floats(0.05, 1.0))
    law = Law(
        weight / weight.sum(),
        column(st.sampled_from([0.01, 0.2, 1.0, 2.0, 30.0])),
        column(st.sampled_from([0.0, 0.4, 1.0, -2.0])),
        column(st.sampled_from([0.0, 0.3, 1.0])),
    )
    kappa = draw(st.one_of(st.floats(0.05, 0.9), st.floats(1.15, 20.0)))
    kept = draw(st.floats(0.02, 0.98))
    if abs(kappa * kept - 1.0) < 0.1:
        kept *= 0.8
    ridges = st.sampled_from([0.0, 0.0, 0.05, 3.0])
    return law, kappa, draw(st.sampled_from([0.1, 1.0, 20.0])), kept, draw(ridges), draw(ridges)


def risks(case: Case) -> np.ndarray:
    """Dense, pruned and retrained risks, seven numbers."""
    law, kappa, noise, kept, ridge, refit = case
    out = [dense_risk(law, kappa, noise, ridge=ridge)]
    for method in METHODS:
        out.append(pruned_risk(law, kappa, noise, kept, method=method, ridge=ridge))
        out.append(
            retrained_risk(law, kappa, noise, kept, method=method, ridge=ridge, retrain_ridge=refit)
        )
    return np.array(out)


def rescale_features(case: Case) -> tuple[Case, float]:
    law, kappa, noise, kept, ridge, refit = case
    c = 3.7
    law = Law(law.weight, c * law.eigenvalue, law.mean / np.sqrt(c), law.variance / c)
    return (law, kappa, noise, kept, c * ridge, c * refit), 1.0


def rescale_response(case: Case) -> tuple[Case, float]:
    law, kappa, noise, kept, ridge, refit = case
    return (law.with_signal(1.9), kappa, 1.9**2 * noise, kept, ridge, refit), 1.9**2


def flip_signs(case: Case) -> tuple[Case, float]:
    law = case[0]
    flipped = Law(law.weight, law.eigenvalue, -law.mean, law.variance)
    return (flipped, *case[1:]), 1.0


def split_components(case: Case) -> tuple[Case, float]:
    law = case[0]
    weight = np.concatenate([0.3 * law.weight, 0.7 * law.weight])
    twice = (np.tile(column, 2) for column in (law.eigenvalue, law.mean, law.variance))
    return (Law(weight, *twice), *case[1:]), 1.0


def reorder(case: Case) -> tuple[Case, float]:
    law = case[0]
    columns = (law.weight, law.eigenvalue, law.mean, law.variance)
    return (Law(*(column[::-1] for column in columns)), *case[1:]), 1.0


def add_dead_features(case: Case) -> tuple[Case, float]:
    law, kappa, noise, kept, ridge, refit = case
    share = 0.6
    law = Law(
        np.append(share * law.weight, 1.0 - share),
        np.append(law.eigenvalue, 0.0),
        np.append(law.mean / np.sqrt(share), 4.0),
        np.append(law.variance / share, 1.0),
    )
    return (law, kappa / share, noise, kept * share, ridge, refit), 1.0


@pytest.mark.parametrize(
    "change",
    [
        rescale_features,
        rescale_response,
        flip_signs,
        split_components,
        reorder,
        add_dead_features,
    ],
)
def test_risks_are_invariant(change: Callable[[Case], tuple[Case, float]]) -> None:
    @settings(max_examples=40)
    @given(problems())
    def check(case: Case) -> None:
        changed, factor = change(case)
        np.testing.assert_allclose(risks(changed), factor * risks(case), rtol=TOLERANCE)

    check()


def test_the_invariance_tolerance_sees_a_small_change() -> None:
    case = (two_level(), 3.0, 0.25, 0.2, 0.0, 0.0)
    moved = (two_level(small=0.5 + 1e-12), *case[1:])
    assert not np.allclose(risks(moved), risks(case), rtol=TOLERANCE, atol=0.0)


@settings(max_examples=40)
@given(problems())
def test_keeping_everything_prunes_nothing(case: Case) -> None:
    law, kappa, noise, _, ridge, refit = case
    dense = dense_risk(law, kappa, noise, ridge=ridge)
    again = dense_risk(law, kappa, noise, ridge=refit)
    for method in METHODS:
        pruned = pruned_risk(law, kappa, noise, 1.0, method=method, ridge=ridge)
        retrained = retrained_risk(
            law, kappa, noise, 1.0, method=method, ridge=ridge, retrain_ridge=refit
        )
        np.testing.assert_allclose(pruned, dense, rtol=TOLERANCE)
        np.testing.assert_allclose(retrained, again, rtol=TOLERANCE)


@settings(max_examples=30)
@given(problems())
def test_keeping_almost_nothing_predicts_zero(case: Case) -> None:
    law, kappa, noise, _, ridge, refit = case
    found = risks((law, kappa, noise, 1e-9, ridge, refit))[1:]
    np.testing.assert_allclose(found, noise + law.signal, rtol=1e-5)


@settings(max_examples=30)
@given(problems())
def test_a_vector_of_kappas_equals_its_scalars(case: Case) -> None:
    law, kappa, noise, kept, ridge, refit = case
    many = kappa * np.geomspace(0.7, 1.4, 5)
    table = curve(law, many, noise, kept, ridge=ridge, retrain_ridge=refit)
    one = [risks((law, float(k), noise, kept, ridge, refit)) for k in many]
    names = ["dense"] + [f"{r}{m}" for m in METHODS for r in ("", "retrained_")]
    np.testing.assert_allclose(table[names], one, rtol=1e-11)


@pytest.mark.parametrize("sparsity", ["fraction", "load"])
@pytest.mark.parametrize("low, high", [(1.0001, 300.0), (0.01, 0.9999), (0.2, 5.0)])
def test_a_long_curve_equals_its_points(low: float, high: float, sparsity: str) -> None:
    """The interpolated seeds of a long curve must leave no trace."""
    rng = np.random.default_rng(1)
    law = Law.from_data(np.arange(1, 41) ** -1.3, rng.standard_normal(40))
    kappa = np.geomspace(low, high, 400)
    given_by = {"kept_fraction": 0.15} if sparsity == "fraction" else {"kept_per_sample": 0.15}
    table = curve(law, kappa, 0.3, **given_by)
    some = np.arange(3, 400, 23)
    names = [name for name in table if name.startswith(("dense", *METHODS, "retrained"))]
    for i in some:
        alone = curve(law, kappa[i], 0.3, float(table["kept_fraction"][i]))
        np.testing.assert_allclose(table.loc[i, names], alone.loc[0, names], rtol=1e-10)


def test_equal_eigenvalues_make_the_scores_equal() -> None:
    law = Law([0.3, 0.7], [1.7, 1.7], [1.0, 0.0], [0.2, 0.5])
    for risk in (pruned_risk, retrained_risk):
        magnitude, hessian = (risk(law, [0.5, 3.0], 0.2, 0.3, method=m) for m in METHODS[:2])
        np.testing.assert_allclose(magnitude, hessian, rtol=TOLERANCE)


def test_no_order_between_the_scores() -> None:
    spiked = two_level(0.1, 1.0, 0.3, eigenvalues=(25.0, 1.0))
    antispiked = Law([0.1, 0.9], [0.2, 1.0], [3.0, 0.4], [0.25, 0.05])
    better = [
        pruned_risk(law, 2.0, 0.2, 0.1, method="hessian")
        < pruned_risk(law, 2.0, 0.2, 0.1, method="magnitude")
        for law in (spiked, antispiked)
    ]
    assert better == [True, False]


def test_haar_pruning_of_an_isotropic_law_equals_magnitude_pruning() -> None:
    """With one eigenvalue every basis is an eigenbasis; a Gaussian signal looks the same in all."""
    law = isotropic(1.3, gaussian=True)
    kappa = np.array([0.4, 1.7, 6.0])
    for method in ("magnitude", "oracle"):
        found = haar_pruned_risk(law, kappa, 0.3, 0.25, method=method)
        wanted = pruned_risk(law, kappa, 0.3, 0.25, method=method)
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_small_model_below_s_equal_n_does_not_see_the_spectrum() -> None:
    law = Law([0.2, 0.8], [9.0, 0.5], [1.0, 0.3], [0.0, 0.0])  # the first group is kept
    dropped = 0.8 * 0.5 * 0.3**2
    found = retrained_risk(law, 3.0, 0.2, 0.2, method="oracle")
    np.testing.assert_allclose(found, (0.2 + dropped) / (1.0 - 0.6), rtol=TOLERANCE)


def test_large_kappa_expansion() -> None:
    law = Law([0.4, 0.6], [2.0, 0.5], [1.0, 0.3], [0.1, 0.2])
    kappa = 1e5
    mean, square = law.weight @ law.eigenvalue, law.weight @ law.eigenvalue**2
    total = 0.3 + law.signal
    aligned = law.weight @ (law.eigenvalue**2 * law.second_moment)
    slope = total * square / mean**2 - 2.0 * aligned / mean
    np.testing.assert_allclose(dense_risk(law, kappa, 0.3), total + slope / kappa, rtol=1e-9)


# Exact values at the peaks


def test_interpolation_threshold_is_infinite() -> None:
    law = two_level(eigenvalues=(3.0, 0.3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dense_risk(law, 1.0, 0.1) == np.inf
        for method in METHODS:
            assert pruned_risk(law, 1.0, 0.1, 0.3, method=method) == np.inf
        assert haar_pruned_risk(law, 1.0, 0.1, 0.3) == np.inf
        assert random_feature_risk("relu", 3.0, 3.0, 0.1) == np.inf
        assert dense_risk(law, 1.0, 0.0) == 0.0
        assert np.isfinite(dense_risk(law, 1.0, 0.1, ridge=1e-8))
        summary = dense_summary(law, [0.5, 1.0, 2.0], 0.1)
    assert not any(np.isnan(column).any() for column in summary.values())
    assert summary["variance"][1] == np.inf


def test_rank_deficient_threshold() -> None:
    law = Law([0.3, 0.3, 0.4], [2.0, 0.5, 0.0], [1.0, 0.6, 5.0], [0.0, 0.0, 0.0])
    assert dense_risk(law, 1.0 / 0.6, 0.4) == np.inf
    np.testing.assert_allclose(dense_risk(law, 1.25, 0.4), 0.4 / 0.25, rtol=1e-14)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kappa, kept", [(5.0, 0.2), (4.0, 0.25), (3.0, 1 / 3), (1.7, 1 / 1.7)])
def test_as_many_kept_features_as_samples_is_infinite(
    method: str, kappa: float, kept: float
) -> None:
    law = Law([0.4, 0.6], [1.0, 0.4], [1.0, 0.2], [0.3, 0.1])
    assert retrained_risk(law, kappa, 0.1, kept, method=method) == np.inf
    assert np.isfinite(retrained_risk(law, kappa, 0.1, kept, method=method, retrain_ridge=0.01))
    sides = retrained_risk(law, kappa, 0.1, kept * np.array([1 - 1e-9, 1 + 1e-9]), method=method)
    assert (sides > 1e5).all() and np.isfinite(sides).all()


@pytest.mark.parametrize("method", METHODS)
def test_retraining_at_the_threshold_is_the_finite_limit(method: str) -> None:
    law = two_level(eigenvalues=(3.0, 0.3))
    below, at, above = retrained_risk(law, [1 - 1e-7, 1.0, 1 + 1e-7], 0.1, 0.3, method=method)
    np.testing.assert_allclose([below, above], at, rtol=1e-5)


def test_correlated_features_at_the_threshold() -> None:
    covariance = 0.5 ** np.abs(np.subtract.outer(np.arange(8), np.arange(8)))
    assert correlated_risk(covariance, np.ones(8), 8, 0.1, 3).mean == np.inf
    assert subset_risk(covariance, np.ones(8), [1, 4, 6], 3, 0.1) == np.inf


def test_noiseless_least_squares_recovers_everything() -> None:
    """Pruning then drops the truly smallest scores; ties share one probability."""
    law = two_level(0.2, 2.0, 0.5)
    assert dense_risk(law, 0.7, 0.0) == 0.0
    found = [pruned_risk(law, 0.7, 0.0, 0.6, method=method) for method in METHODS]
    np.testing.assert_allclose(found, 0.4 * 0.25, rtol=1e-14)
    refitted = [retrained_risk(law, 0.7, 0.0, 0.6, method=method) for method in METHODS]
    np.testing.assert_allclose(refitted, 0.1 / (1.0 - 0.42), rtol=1e-14)


@pytest.mark.parametrize("offset", [-1e-6, 1e-6, -1e-9, 1e-9])
def test_stable_beside_the_threshold(offset: float) -> None:
    """Against the closed form for one eigenvalue."""
    kappa = 1.0 + offset
    gap = kappa - 1.0  # as the computer sees it
    wanted = 0.3 / -gap if gap < 0 else 0.3 + 1.5 * gap / kappa + 0.3 / gap
    found = dense_risk(isotropic(1.5), kappa, 0.3)
    np.testing.assert_allclose(found, wanted, rtol=1e-14)
    table = curve(two_level(eigenvalues=(3.0, 0.3)), kappa, 0.3, 0.2)
    assert np.isfinite(table.to_numpy()).all()


@pytest.mark.parametrize("kappa", [1.0 + 1e-9, 1.000001, 1.01, 3.0, 250.0])
def test_six_decades_of_eigenvalues_to_extended_precision(kappa: float) -> None:
    """Effective ridge and risk against bisection in the platform's widest float."""
    wide = np.longdouble
    if np.finfo(wide).eps > 1e-18:
        pytest.skip("no float wider than 64 bits here")
    eigenvalue = np.logspace(-4, 2, 40)
    law = Law.from_data(eigenvalue, np.linspace(1.0, 0.1, 40))
    value, signal = eigenvalue.astype(wide), (law.mean.astype(wide)) ** 2
    gap = wide(kappa) - 1

    def excess(eta: Any) -> Any:
        return eta * np.mean(1 / (value + eta)) / np.mean(value / (value + eta)) - gap

    low, high = wide(0), wide(1e6)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    zeta, delta = value / (value + low), low / (value + low)
    wanted = (wide(0.2) + np.mean(delta**2 * value * signal)) / (kappa * np.mean(zeta * delta))
    np.testing.assert_allclose(dense_summary(law, kappa, 0.2)["eta"], float(low), rtol=1e-12)
    np.testing.assert_allclose(dense_risk(law, kappa, 0.2), float(wanted), rtol=1e-12)


# Wrong input


LAW = two_level()
COVARIANCE = np.eye(3)


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: Law([0.5, 0.5], [1.0], [0.0, 0.0], [1.0, 1.0]), "eigenvalue"),
        (lambda: Law([0.5, 0.6], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0]), "weight"),
        (lambda: Law([1.5, -0.5], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0]), "weight"),
        (lambda: Law([0.5, 0.5], [1.0, -1.0], [0.0, 0.0], [1.0, 1.0]), "eigenvalue"),
        (lambda: Law([0.5, 0.5], [1.0, 1.0], [0.0, np.nan], [1.0, 1.0]), "mean"),
        (lambda: Law([0.5, 0.5], [1.0, 1.0], [0.0, 0.0], [1.0, -1.0]), "variance"),
        (lambda: Law([], [], [], []), "weight"),
        (lambda: Law(["a"], [1.0], [1.0], [1.0]), "weight"),
        (lambda: Law.from_data([1.0, 2.0], [1.0]), "coefficients"),
        (lambda: Law.from_data([1.0, -2.0], [1.0, 1.0]), "eigenvalues"),
        (lambda: dense_risk(LAW, 0.0, 0.1), "kappa"),
        (lambda: dense_risk(LAW, [1.0, -2.0], 0.1), "kappa"),
        (lambda: dense_risk(LAW, np.nan, 0.1), "kappa"),
        (lambda: dense_risk(LAW, 2.0, -0.1), "noise_variance"),
        (lambda: dense_risk(LAW, 2.0, 0.1, ridge=-50.0), "ridge"),
        (lambda: dense_risk(LAW, 1.0, 0.1, ridge=-0.01), "ridge"),
        (lambda: dense_risk(LAW, [1.0, 2.0], [0.1, 0.2, 0.3]), "noise_variance"),
        (lambda: pruned_risk(LAW, 2.0, 0.1, 0.0), "kept_fraction"),
        (lambda: pruned_risk(LAW, 2.0, 0.1, 1.0001), "kept_fraction"),
        (lambda: pruned_risk(LAW, 2.0, 0.1, 0.5, method="random"), "method"),
        (lambda: retrained_risk(LAW, 2.0, 0.1, 0.5, retrain_ridge=-1.0), "retrain_ridge"),
        (lambda: curve(LAW, 2.0, 0.1, 0.5, kept_per_sample=0.5), "kept_per_sample"),
        (lambda: curve(LAW, 2.0, 0.1, 0.5, methods=("best",)), "methods"),
        (lambda: simulate(LAW, 2.0, 0.1, 0.5, repeats=1), "repeats"),
        (lambda: random_feature_risk("cosine", 2.0, 3.0, 0.1), "activation"),
        (lambda: random_feature_risk("relu", -2.0, 3.0, 0.1), "features_per_input"),
        (lambda: correlated_risk(-COVARIANCE, np.ones(3), 5, 0.1, 2), "covariance"),
        (lambda: correlated_risk(COVARIANCE, np.ones(2), 5, 0.1, 2), "covariance"),
        (lambda: correlated_risk(COVARIANCE, np.ones(3), 5, 0.1, 4), "n_kept"),
        (lambda: subset_risk(COVARIANCE, np.ones(3), [0, 3], 5, 0.1), "subset"),
        (lambda: logistic_limit(LAW, 0.5, 0.0), "ridge"),
        (lambda: max_margin(0.3, labels="logit", strength=1.0), "kappa"),
    ],
)
def test_wrong_input_is_named(call: Callable[[], Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        call()


def test_a_law_is_a_law() -> None:
    with pytest.raises(TypeError, match=r"law must be a Law; got list"):
        dense_risk([1.0], 2.0, 0.1)


def test_a_law_does_not_change() -> None:
    weight = np.array([0.2, 0.8])
    law = Law(weight, [1.0, 1.0], [2.0, 0.5], [0.0, 0.0])
    weight[0] = 0.5
    assert law.weight[0] == 0.2
    with pytest.raises(ValueError, match="read-only"):
        law.mean[0] = 3.0
