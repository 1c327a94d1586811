"""The predictive density of new cascades is the model's, cascade by cascade and draw by draw."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import cascadenet as cn
from cascadenet import simulate
from cascadenet.inference.forecast import compare_predictive, score_predictive
from cascadenet.inference.forecast.likelihood import predictive_draws
from cascadenet.posterior import Posterior
from tests import naive, naive_forecast
from tests.test_posterior import N_NODES, fitted, in_unit, relabelled, some_cascades

SHORT = {"draws": 4, "tune": 12, "chains": 1}
SETTINGS = {
    "hdp": {},
    "flat": {"prior": "flat", "delay": "rayleigh"},
    "background": {"background": True, "delay": "decay"},
    "capped": {"max_candidates": 2, "delay": "weibull"},
    "capped, background": {"max_candidates": 1, "delay": "lognormal", "background": True},
    "dead time": {"delay": "powerlaw", "background": True},
    "open world": {"open_world": 0.3, "null_community": False},
}


@pytest.fixture(scope="module")
def cascades(seed) -> cn.Cascades:
    return some_cascades(seed)


@pytest.fixture(scope="module")
def new(seed) -> cn.Cascades:
    """Other cascades of the same nodes: ties, singletons, horizons that differ."""
    found = some_cascades(seed + 1, 12)
    last = np.maximum.reduceat(found.time, found.offset[:-1])
    horizon = last + np.random.default_rng(seed).exponential(0.5, found.n_cascades)
    horizon[0] = last[0]
    return cn.Cascades.from_arrays(
        found.nodes, found.offset, found.node, found.time + 3.0, horizon + 3.0, found.labels
    )


@pytest.fixture(scope="module", params=SETTINGS)
def posterior(request, cascades, seed) -> Posterior:
    return fitted(cascades, seed, SHORT, **SETTINGS[request.param])


@pytest.fixture(scope="module")
def plain(cascades, seed) -> Posterior:
    return fitted(cascades, seed, {"draws": 60, "tune": 60, "chains": 1})


def remembering(posterior: Posterior, seed: int) -> Posterior:
    """The same with transmissions that earlier intervals have left in memory."""
    other = copy.copy(posterior)
    carried = np.random.default_rng(seed).exponential(1.0, posterior.pair_source.size)
    other.sums = replace(posterior.sums, carried=carried)
    return other


# ----------------------------------------------------------------------------------- the definition


@pytest.mark.jit_off
def test_density_is_that_of_the_definition(posterior, new):
    """Every draw and cascade, to 1e-10 of log densities of order 10."""
    found, n = predictive_draws(posterior, new)
    expected = np.array(naive_forecast.log_predictive(posterior, new))
    assert np.isfinite(expected).mean() > 0.9
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-10)
    seeds = new.time == np.repeat(new.start, np.diff(new.offset))
    assert n.sum() == (~seeds).sum()
    table = posterior.log_predictive(new)
    assert list(table.columns) == ["cascade", "log_predictive", "n_infections"]
    assert table.cascade.tolist() == list(new.labels)
    np.testing.assert_allclose(table.log_predictive, np.log(np.exp(expected).mean(axis=0)))


@pytest.mark.jit_off
@pytest.mark.parametrize("name", ["hdp", "background"])
def test_what_earlier_intervals_left_counts(cascades, new, seed, name):
    posterior = fitted(cascades, seed, SHORT, **SETTINGS[name])
    other = remembering(posterior, seed)
    found, _ = predictive_draws(other, new)
    expected = np.array(naive_forecast.log_predictive(other, new))
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-10)
    assert np.abs(found - predictive_draws(posterior, new)[0]).max() > 0.1


@pytest.mark.jit_off
def test_what_the_delay_model_rules_out_has_no_density(cascades, seed):
    """One second is less than the dead time, and there is no background."""
    wide = in_unit(cascades, 1000.0)
    posterior = fitted(wide, seed, SHORT, delay="powerlaw")
    soon = cn.Cascades.from_arrays(wide.nodes, [0, 2, 4], [0, 1, 0, 1], [0, 1e-9, 0, 900], 1e3)
    table = posterior.log_predictive(soon)
    assert table.log_predictive[0] == -math.inf
    assert math.isfinite(table.log_predictive[1])


def test_nodes_go_by_label_and_in_any_order(plain, new, cascades, seed):
    order = np.random.default_rng(seed).permutation(N_NODES)
    place = np.argsort(order)
    index = np.lexsort((place[new.node], new.time, np.repeat(range(12), np.diff(new.offset))))
    mixed = cn.Cascades.from_arrays(
        [new.nodes[i] for i in order],
        new.offset,
        place[new.node][index],
        new.time[index],
        new.horizon,
        new.labels,
    )
    one, two = plain.log_predictive(new), plain.log_predictive(mixed)
    np.testing.assert_allclose(one.log_predictive, two.log_predictive, rtol=1e-12)
    names = [f"n{i:02d}" for i in range(N_NODES)]
    named = fitted(relabelled(cascades, names), seed, SHORT)
    expected = fitted(cascades, seed, SHORT).log_predictive(new)
    found = named.log_predictive(relabelled(new, names))
    np.testing.assert_allclose(found.log_predictive, expected.log_predictive, rtol=1e-12)
    # nodes that nothing is said of were not infected
    few = new.subset([0])
    used = np.unique(few.node)
    small = cn.Cascades.from_arrays(
        used, [0, few.node.size], np.searchsorted(used, few.node), few.time, few.horizon
    )
    assert plain.log_predictive(small).log_predictive[0] == one.log_predictive[0]


# ------------------------------------------------------------------------------------ normalisation


def gauss(points: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(points)
    return low + (high - low) * (x + 1.0) / 2.0, w * (high - low) / 2.0


@pytest.mark.parametrize(
    "settings",
    [{}, {"background": True, "delay": "decay"}, {"max_candidates": 1, "delay": "rayleigh"}],
    ids=str,
)
def test_all_outcomes_together_have_probability_one(seed, settings):
    """Three nodes, one seed: nobody, one, or two infected by the horizon, by quadrature, to 1e-6.
    Negative controls: the outcomes of one child only, and densities per internal unit."""
    network = simulate.community_network(1, 3, 0.9, 0.0, rate=(0.3, 1.0), seed=seed)
    data = simulate.simulate_cascades(network, 30, nodes=range(3), horizon=2.0, seed=seed).cascades
    posterior = fitted(data, seed, SHORT, **settings)
    end, one, two = 1.3, gauss(40, 0.0, 1.3), gauss(40, 0.0, 1.0)
    rows, weights, group = [([0], [0.0])], [1.0], [0]
    for t, w in zip(*one, strict=True):
        rows += [([0, 1], [0.0, t]), ([0, 2], [0.0, t])]
        weights += [w, w]
        group += [1, 2]
        for x, y in zip(*two, strict=True):
            rows += [([0, 1, 2], [0.0, t * x, t]), ([0, 2, 1], [0.0, t * x, t])]
            weights += [w * t * y] * 2
            group += [3, 4]
    outcomes = cn.Cascades.from_arrays(
        range(3),
        np.cumsum([0] + [len(nodes) for nodes, _ in rows]),
        np.concatenate([nodes for nodes, _ in rows]),
        np.concatenate([times for _, times in rows]),
        end,
    )
    table = posterior.log_predictive(outcomes)
    mass = np.exp(table.log_predictive) * weights
    assert mass.sum() == pytest.approx(1.0, abs=1e-6)
    by_group = np.bincount(group, weights=mass)
    assert (by_group > 1e-3).all()
    assert by_group[[0, 1, 3]].sum() < 0.99
    internal = mass * posterior.unit**table.n_infections
    assert abs(internal.sum() - 1.0) > 1e-2


def test_density_is_per_unit_of_time_of_the_user(cascades, new, seed):
    """Seconds instead of hours: lower by log 3600 for each infection, whatever the delay model."""
    for delay in ("exponential", "weibull", "decay"):
        settings = {"delay": delay, "background": True}
        hours = fitted(cascades, seed, SHORT, **settings).log_predictive(new)
        seconds = fitted(in_unit(cascades, 3600.0), seed, SHORT, **settings).log_predictive(
            in_unit(new, 3600.0)
        )
        expected = hours.log_predictive - math.log(3600.0) * hours.n_infections
        np.testing.assert_allclose(seconds.log_predictive, expected, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------------------- scores and comparison


def test_score_is_a_ratio_with_cascades_as_units(seed):
    """The standard error agrees with the spread of the ratio over 2000 data sets, to 10%."""
    rng = np.random.default_rng(seed)
    ratios, errors = [], []
    for _ in range(2000):
        n = rng.poisson(4.0, 60)
        value = -1.5 * n + rng.normal(0.0, 1.0 + n)
        frame = {"cascade": range(60), "log_predictive": value, "n_infections": n}
        score = score_predictive(pd.DataFrame(frame))
        assert score.mean == value.sum() / n.sum()
        ratios.append(score.mean)
        errors.append(score.se)
    assert score.n_cascades == 60
    assert score.n_infections == n.sum()
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.1)


def test_a_comparison_is_paired(plain, cascades, seed):
    """Mixed-up nodes predict worse by many standard errors (false alarm below 1e-4 at 4), and the
    paired error is smaller than that of unpaired scores. Against itself nothing differs."""
    new = some_cascades(seed + 1, 60)
    good = plain.log_predictive(new)
    mixed = copy.copy(plain)
    mixed.nodes = tuple(np.random.default_rng(seed).permutation(N_NODES).tolist())
    bad = mixed.log_predictive(new)
    found = compare_predictive(good, bad)
    assert found.mean > 4.0 * found.se > 0.0
    assert found.mean == pytest.approx(score_predictive(good).mean - score_predictive(bad).mean)
    assert found.se < math.hypot(score_predictive(good).se, score_predictive(bad).se)
    same = compare_predictive(good, good)
    assert (same.mean, same.se) == (0.0, 0.0)
    fewer = plain.log_predictive(new, draws=1)
    assert compare_predictive(good, fewer).mean > 0.0


def test_draws_are_evenly_spaced(plain, new):
    value, _ = predictive_draws(plain, new)
    some, _ = predictive_draws(plain, new, draws=4)
    np.testing.assert_array_equal(some, value[[0, 10, 20, 30]])
    assert len(value) == 40


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p, c: p.log_predictive(c, draws=0), ValueError, "draws must be a positive integer"),
        (lambda p, c: p.log_predictive([1]), TypeError, "cascades must be a Cascades; got list"),
        (
            lambda p, c: p.log_predictive(relabelled(c, [*range(3), *range(90, 101)])),
            ValueError,
            "must be nodes of the posterior; got [0-9]+ that are not, such as 90",
        ),
        (
            lambda p, c: compare_predictive(p.log_predictive(c), p.log_predictive(c).iloc[1:]),
            ValueError,
            "a and b must be of the same cascades",
        ),
        (lambda p, c: score_predictive(pd.DataFrame()), ValueError, "table must be a table of"),
        (
            lambda p, c: score_predictive(p.log_predictive(c).assign(n_infections=0)),
            ValueError,
            "must hold infections that are no seeds",
        ),
    ],
)
def test_wrong_arguments_are_named(plain, new, call, error, message):
    with pytest.raises(error, match=message):
        call(plain, new)


def test_a_tree_has_no_density_of_a_cascade(cascades, new, seed):
    tree = fitted(cascades, seed, SHORT, likelihood="tree")
    with pytest.raises(ValueError, match="log_predictive needs likelihood='survival'; got 'tree'"):
        tree.log_predictive(new)


def test_naive_sources_cease_to_act_as_in_the_fit():
    """The oracle's own control: what the third infection owes to the first depends on the cap."""
    story = naive.Story([(0.0, 0), (1.0, 1), (2.0, 2)], 3.0)
    assert story.leaves(0, 1) == 1.0
    assert story.leaves(0, 2) == 2.0
    assert story.leaves(0, None) == math.inf
