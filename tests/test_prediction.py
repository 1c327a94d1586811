"""Predictions are the equations of the model, averaged over the draws of the network."""

from __future__ import annotations

import copy
import itertools
import math
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gammainc, gammaincinv
from scipy.stats import binom

import cascadenet as cn
from cascadenet import simulate
from cascadenet.intervals import gamma_with_moments, mixture_quantile
from cascadenet.posterior import NEW, Posterior
from tests import naive, naive_forecast
from tests.test_posterior import N_NODES, fitted, in_unit, relabelled, some_cascades

PAIRS = list(itertools.permutations(range(N_NODES), 2))
SETTINGS = {
    "hdp": {},
    "flat": {"prior": "flat"},
    "rayleigh": {"delay": "rayleigh", "null_community": False},
    "background": {"background": True},
    "open world": {"open_world": 0.3},
    "tree": {"likelihood": "tree"},
}
CLOSED = [name for name in SETTINGS if name != "open world"]
ONE_EXPOSURE = ["hdp", "flat", "rayleigh", "background", "open world"]  # it does not vary by draw


@pytest.fixture(scope="module")
def cascades(seed) -> cn.Cascades:
    return some_cascades(seed)


@pytest.fixture(scope="module")
def posteriors(cascades, seed) -> dict[str, Posterior]:
    return {name: fitted(cascades, seed, **settings) for name, settings in SETTINGS.items()}


@pytest.fixture(scope="module")
def posterior(posteriors) -> Posterior:
    return posteriors["hdp"]


def matrix_of(table: pd.DataFrame, n_nodes: int = N_NODES) -> np.ndarray:
    matrix = np.zeros((n_nodes, n_nodes))
    matrix[table.source, table.target] = table.prob
    return matrix


def edge_probability(posterior: Posterior, network: dict, u: int, v: int) -> float:
    if posterior.settings["prior"] == "flat":
        return 1.0 / (posterior.n_nodes * (posterior.n_nodes - 1))
    return naive.edge_probability(network["weight"], network["sender"], network["receiver"], u, v)


def gamma_law(posterior, cascades, network: dict, u: int, v: int) -> tuple[float, float]:
    """Shape r + n and rate b + E of a pair under one draw, internal unit, from definitions."""
    name, unit = posterior.settings["delay"], posterior.unit
    shape = float(network["total"]) * edge_probability(posterior, network, u, v)
    for row, n in zip(network["used"], network["count"], strict=True):
        if (posterior.pair_source[row], posterior.pair_target[row]) == (u, v):
            shape += n
    e = naive.exposure(
        naive.stories(cascades),
        u,
        v,
        None,
        lambda d: naive.cumulative_hazard(name, network["theta"], d / unit),
    )
    return shape, float(network["b"]) + e


def background_law(posterior, tales, network: dict, v: int) -> tuple[float, float]:
    """The same of a node's hazard from outside."""
    rows = np.flatnonzero((posterior.pair_source < 0) & (posterior.pair_target == v))
    n = sum(network["count"][np.isin(network["used"], rows)])
    rate = float(network["ground_rate"]) + naive.background_exposure(tales, v) / posterior.unit
    return float(network["ground_shape"]) + n, rate


# --------------------------------------------------------------------------------------- next edges


@pytest.mark.parametrize("name", CLOSED)
def test_probabilities_of_all_pairs_sum_to_one(posteriors, name):
    """Network draws are kept as float32."""
    table = posteriors[name].predictive(PAIRS)
    assert (table.prob > 0.0).all()
    assert table.prob.sum() == pytest.approx(1.0, abs=1e-5)
    assert posteriors[name].predictive_matrix().sum() == pytest.approx(1.0, abs=1e-5)


def test_an_open_world_leaves_probability_for_new_nodes(posteriors):
    posterior = posteriors["open world"]
    total = posterior.predictive(PAIRS).prob.sum()
    assert 0.0 < total < 0.999
    new = []
    for network in posterior.networks:
        assert network["sender"].shape[0] == N_NODES + 1
        everyone = range(N_NODES + 1)
        p = {(u, v): edge_probability(posterior, network, u, v) for u in everyone for v in everyone}
        itself = sum(p[u, u] for u in range(N_NODES))  # a new node may infect another new node
        mass = sum(value for pair, value in p.items() if N_NODES in pair)
        new.append(mass / (1.0 - itself))
    assert 1.0 - total == pytest.approx(np.mean(new), rel=1e-4)


def with_new_nodes() -> list[tuple]:
    nodes = [*range(N_NODES), NEW]
    return [(u, v) for u in nodes for v in nodes if u is not v or u is NEW]


def test_new_nodes_have_the_rest_of_the_probability(posteriors):
    """All pairs, those with a new node at either end or at both included, sum to one; each is
    the mean of the edge distribution over draws. Networks are float32."""
    posterior = posteriors["open world"]
    table = posterior.predictive(with_new_nodes())
    assert table.prob.sum() == pytest.approx(1.0, abs=1e-5)
    end = N_NODES
    new = table[[NEW in pair for pair in zip(table.source, table.target, strict=True)]]
    assert len(new) == 2 * N_NODES + 1
    assert new.transmit.isna().all()
    assert table.transmit.notna().sum() == len(PAIRS)
    expected = np.zeros(3)
    for network in posterior.networks:
        itself = sum(edge_probability(posterior, network, u, u) for u in range(end))
        asked = ((4, end), (end, 4), (end, end))
        p = [edge_probability(posterior, network, u, v) for u, v in asked]
        expected += np.array(p) / (1.0 - itself) / len(posterior.networks)
    found = posterior.predictive([(4, NEW), (NEW, 4), (NEW, NEW)])
    np.testing.assert_allclose(found.prob, expected, rtol=1e-5)
    assert found.source.tolist() == [4, NEW, NEW]
    assert found.to_csv(index=False).splitlines()[2].startswith("<new node>,4,")
    assert len(posterior.predictive([(4, NEW), (4, 5)], unused=True)) >= 1
    assert pickle.loads(pickle.dumps(NEW)) is NEW
    assert copy.deepcopy(NEW) is NEW


@pytest.mark.parametrize("name", ["hdp", "flat", "tree"])
def test_a_closed_world_knows_all_nodes(posteriors, name):
    for pair in ((0, NEW), (NEW, 0), (NEW, NEW)):
        with pytest.raises(ValueError, match="only in a fit with open_world=True"):
            posteriors[name].predictive([pair])
    with pytest.raises(ValueError, match="must be nodes of the posterior"):
        posteriors[name].edges(pairs=[(0, NEW)])


@pytest.mark.parametrize("name", SETTINGS)
def test_probability_is_the_mean_of_the_edge_distribution(posteriors, name):
    posterior = posteriors[name]
    expected = np.zeros((N_NODES, N_NODES))
    for network in posterior.networks:
        itself = 0.0
        if posterior.settings["prior"] == "hdp":
            itself = sum(edge_probability(posterior, network, u, u) for u in range(N_NODES))
        for u, v in PAIRS:
            p = edge_probability(posterior, network, u, v)
            expected[u, v] += p / (1.0 - itself) / len(posterior.networks)
    np.testing.assert_allclose(matrix_of(posterior.predictive(PAIRS)), expected, rtol=1e-5)
    matrix = posterior.predictive_matrix()
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix, expected, rtol=2e-5)
    np.testing.assert_array_equal(np.diag(matrix), 0.0)
    some = np.array([5, 0, 13])
    np.testing.assert_allclose(posterior.predictive_matrix(some), matrix[some], rtol=1e-6)


def assert_best(table: pd.DataFrame, matrix: np.ndarray) -> None:
    """The rows are the largest entries of the matrix, in order, none twice."""
    best = np.sort(matrix.ravel())[::-1][: len(table)]
    np.testing.assert_allclose(table.prob, best, rtol=1e-6)
    np.testing.assert_allclose(table.prob, matrix[table.source, table.target], rtol=1e-6)
    assert not table.duplicated(["source", "target"]).any()
    keys = list(zip(-table.prob, table.source, table.target, strict=True))
    assert keys == sorted(keys)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("top", [0, 1, 20, len(PAIRS), 10**6])
def test_top_is_the_sorted_matrix(posteriors, name, top):
    table = posteriors[name].predictive(top=top)
    assert len(table) == min(top, len(PAIRS))
    assert_best(table, posteriors[name].predictive_matrix())
    columns = ["source", "target", "prob"]
    assert list(table.columns) == columns + ["transmit"] * (name != "tree")


def test_top_of_many_nodes_is_found_block_by_block(seed):
    """A matrix of 2100 nodes does not fit one block."""
    nodes = 2100
    data = cn.Cascades.from_arrays(
        range(nodes), [0, 3, 6, 8], [7, 8, 2099, 8, 9, 2099, 2098, 3], [0, 1, 2] * 2 + [0, 1], 3.0
    )
    posterior = fitted(data, seed, {"draws": 3, "tune": 3, "chains": 1}, network_draws=2)
    matrix = posterior.predictive_matrix()
    for unused in (False, True):
        if unused:
            used = posterior.sums.by_pair(posterior.sums.prob) > 0
            matrix[posterior.pair_source[used], posterior.pair_target[used]] = 0.0
        table = posterior.predictive(top=500, unused=unused)
        assert len(table) == 500
        assert_best(table, matrix)
        assert (table.source > 1998).any()  # of the second block


@pytest.mark.parametrize("name", SETTINGS)
def test_unused_leaves_out_what_ever_carried_anything(posteriors, name):
    posterior = posteriors[name]
    edges = posterior.edges()
    used = set(map(tuple, edges[edges.prob > 0.0][["source", "target"]].to_numpy().tolist()))
    never = [pair for pair in PAIRS if pair not in used]
    assert 0 < len(never) < len(PAIRS)
    whole = posterior.predictive(never)
    listed = posterior.predictive(PAIRS, unused=True)
    pd.testing.assert_frame_equal(listed, whole)
    best = posterior.predictive(top=len(PAIRS), unused=True)
    assert set(zip(best.source, best.target, strict=True)) == set(never)
    assert posterior.predictive(PAIRS, unused=True, top=3).equals(whole.iloc[:3])


def test_pairs_are_kept_in_order_and_labels_used(posterior, cascades, seed):
    asked = [(12, 3), (0, 1), (12, 3), (13, 0)]
    table = posterior.predictive(asked)
    assert list(zip(table.source, table.target, strict=True)) == asked
    assert len(posterior.predictive()) == 20
    assert posterior.predictive([]).empty
    names = [f"n{i:02d}" for i in range(N_NODES)]
    other = fitted(relabelled(cascades, names), seed).predictive([("n12", "n03")])
    assert other.source.tolist() == ["n12"]
    assert other.prob[0] == table.prob[0]


# ------------------------------------------------------------------------------------ transmissions


@pytest.mark.parametrize("name", ONE_EXPOSURE)
def test_transmission_is_the_closed_formula(posteriors, cascades, name):
    """1 - ((b + E) / (b + E + H(d)))^(r + n), averaged over draws; float32 networks."""
    posterior = posteriors[name]
    asked = [pair for i, pair in enumerate(PAIRS) if i % 7 == 0]
    best = posterior.edges(top=8)
    asked += list(zip(best.source, best.target, strict=True))
    for within in (None, 0.1, 5.0):
        dose = naive.cumulative_hazard(
            posterior.settings["delay"],
            (),
            1.0 if within is None else within / posterior.unit,
        )
        expected = np.zeros(len(asked))
        for network in posterior.networks:
            for i, (u, v) in enumerate(asked):
                shape, rate = gamma_law(posterior, cascades, network, u, v)
                expected[i] += 1.0 - (rate / (rate + dose)) ** shape
        found = posterior.predictive(asked, within=within).transmit
        np.testing.assert_allclose(found, expected / len(posterior.networks), rtol=1e-4, atol=1e-12)


def test_transmission_grows_with_the_delay_to_certainty(posterior):
    delays = [1e-9, 0.01, 0.3, 1.0, 10.0, math.inf]
    values = [posterior.predictive(PAIRS, within=d).transmit for d in delays]
    for smaller, larger in itertools.pairwise(values):
        assert (smaller <= larger).all()
    assert (values[0] < 1e-6).all()
    assert (values[-1] == 1.0).all()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"within": 0.0}, "within must be positive; got 0.0"),
        ({"within": math.nan}, "within must be positive; got nan"),
        ({"within": "x"}, "within must be a number; got 'x'"),
        ({"top": -1}, "top must be a non-negative integer; got -1"),
        ({"top": -1, "pairs": [(0, 1)]}, "top must be a non-negative integer; got -1"),
        ({"pairs": [(0, 77)]}, "targets in pairs must be nodes of the posterior; got 77"),
        ({"pairs": [(1, 1)]}, "pairs must join different nodes; got 1 twice"),
    ],
)
def test_wrong_arguments_of_predictive_are_named(posterior, argument, message):
    with pytest.raises(ValueError, match=message):
        posterior.predictive(**argument)


# ---------------------------------------------------------------------------------- next infections

PREFIX = [(0, 1.0), (3, 1.5), (7, 1.5), (2, 1.9)]


def direct_prediction(posterior, cascades, prefix, now) -> tuple[dict, dict]:
    """Probability and hazard of each node that is still at risk."""
    name, unit = posterior.settings["delay"], posterior.unit
    at_risk = [v for v in range(N_NODES) if v not in dict(prefix)]
    prob, total = dict.fromkeys(at_risk, 0.0), dict.fromkeys(at_risk, 0.0)
    for network in posterior.networks:
        hazard = dict.fromkeys(at_risk, 0.0)
        for v, (u, t) in itertools.product(at_risk, prefix):
            shape, rate = gamma_law(posterior, cascades, network, u, v)
            age = max((now - t) / unit, 1e-12)
            waited = naive.cumulative_hazard(name, (), age)
            hazard[v] += naive.hazard(name, (), age) * shape / (rate + waited) / unit
        if posterior.settings["background"]:
            begin, tales = min(t for _, t in prefix), naive.stories(cascades)
            for v in at_risk:
                shape, rate = background_law(posterior, tales, network, v)
                hazard[v] += shape / (rate + (now - begin) / unit) / unit
        for v in at_risk:
            total[v] += hazard[v] / len(posterior.networks)
            prob[v] += hazard[v] / sum(hazard.values()) / len(posterior.networks)
    return prob, total


@pytest.mark.parametrize("name", ONE_EXPOSURE)
@pytest.mark.parametrize("now", [None, 2.5])
def test_next_infection_is_the_mean_over_draws(posteriors, cascades, name, now):
    posterior = posteriors[name]
    table = posterior.predict_next(PREFIX, k=N_NODES, now=now)
    prob, hazard = direct_prediction(posterior, cascades, PREFIX, 1.9 if now is None else now)
    assert set(table.node) == set(prob)
    np.testing.assert_allclose(table.prob, [prob[v] for v in table.node], rtol=1e-4)
    np.testing.assert_allclose(table.hazard, [hazard[v] for v in table.node], rtol=1e-4)
    assert table.prob.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "tree"])
def test_next_infection_is_a_ranking_of_those_at_risk(posteriors, name):
    posterior = posteriors[name]
    whole = posterior.predict_next(PREFIX, k=N_NODES)
    assert list(whole.columns) == ["node", "prob", "hazard"]
    assert not set(whole.node) & {node for node, _ in PREFIX}
    assert whole.prob.is_monotonic_decreasing
    assert 0.0 < whole.prob.sum() <= 1.0 + 1e-12
    assert (whole.hazard > 0.0).all()
    for k in (0, 1, 4):
        pd.testing.assert_frame_equal(posterior.predict_next(PREFIX, k=k), whole.iloc[:k])
    frame = pd.DataFrame(PREFIX, columns=["node", "time"])
    pd.testing.assert_frame_equal(posterior.predict_next(frame, k=N_NODES), whole)
    # the order of what is known does not matter, nor when time began
    later = [(node, time + 4096.0) for node, time in PREFIX[::-1]]
    other = posterior.predict_next(later, k=N_NODES).set_index("node").loc[whole.node]
    np.testing.assert_allclose(other.prob, whole.prob, rtol=1e-8)


def test_sources_that_ceased_to_act_infect_nobody(cascades, seed):
    """With max_candidates=2 only the last two of the prefix act; the others' exposure ended when
    they were pushed out. Without the cap the hazards are larger."""
    run = {"draws": 4, "tune": 12, "chains": 1}
    capped = fitted(cascades, seed, run, max_candidates=2)
    table = capped.predict_next(PREFIX, k=N_NODES).set_index("node")
    hazard = dict.fromkeys(table.index, 0.0)
    for network in capped.networks:
        rates = naive_forecast.Rates(capped, network)
        for v in hazard:
            for u, t in PREFIX:
                shape, rate = rates.law(u, v)
                if u in (7, 2):  # of the two infected at 1.5, node 7 comes second
                    rate += max((1.9 - t) / capped.unit, 1e-12)
                    hazard[v] += shape / rate / capped.unit / len(capped.networks)
    np.testing.assert_allclose(table.hazard, [hazard[v] for v in table.index], rtol=1e-9)
    free = copy.copy(capped)
    free.settings = capped.settings | {"max_candidates": None}
    more = free.predict_next(PREFIX, k=N_NODES).set_index("node").hazard
    assert (more[table.index] > table.hazard).all()


def test_staying_uninfected_is_evidence(posterior):
    """Without any memory in the delays, hazards fall while nothing happens."""
    hazards = [
        posterior.predict_next(PREFIX, k=N_NODES, now=now).set_index("node").hazard.sort_index()
        for now in (1.9, 3.0, 30.0)
    ]
    for sooner, later in itertools.pairwise(hazards):
        assert (later < sooner).all()


def test_hazards_are_per_unit_of_time(cascades, seed):
    run = {"draws": 20, "tune": 20, "chains": 1}
    for delay in ("exponential", "weibull", "decay"):
        hours = fitted(cascades, seed, run, delay=delay).predict_next(PREFIX, now=2.0)
        seconds = fitted(in_unit(cascades, 3600.0), seed, run, delay=delay).predict_next(
            [(node, 3600.0 * time) for node, time in PREFIX], now=7200.0
        )
        assert seconds.node.tolist() == hours.node.tolist()
        np.testing.assert_allclose(seconds.prob, hours.prob, rtol=1e-6)
        np.testing.assert_allclose(3600.0 * seconds.hazard, hours.hazard, rtol=1e-6)


def test_when_nobody_is_left_or_nobody_acts_there_is_nobody_next(cascades, posterior, seed):
    everybody = [(node, 0.1 * node) for node in range(N_NODES)]
    assert posterior.predict_next(everybody).empty
    all_but_one = posterior.predict_next(everybody[1:])
    assert all_but_one.node.tolist() == [0]
    assert all_but_one.prob[0] == pytest.approx(1.0)
    run = {"draws": 5, "tune": 5, "chains": 1}
    dead_time = fitted(cascades, seed, run, delay="powerlaw", background=True)
    # infected just now, younger than delta: only the background acts
    outside, later = dead_time.predict_next([(0, 0.0)]), dead_time.predict_next([(0, 0.0)], now=2.0)
    rate = dead_time.background().set_index("node")["rate"]
    np.testing.assert_allclose(outside["hazard"], rate[outside["node"]], rtol=0.5)
    assert later["hazard"].sum() > outside["hazard"].sum()


@pytest.mark.parametrize(
    ("prefix", "more", "message"),
    [
        ([], {}, "prefix must hold at least one infection; got none"),
        ([(99, 0.0)], {}, "nodes in prefix must be nodes of the posterior; got 99"),
        ([(0, 0.0), (0, 1.0)], {}, "nodes in prefix must differ"),
        ([(0, math.nan)], {}, r"times in prefix must be finite; got \[nan\]"),
        ([(0, math.inf)], {}, r"times in prefix must be finite; got \[inf\]"),
        ([(0, "noon")], {}, "times in prefix must be a number; got 'noon'"),
        ([(0, None)], {}, "times in prefix must be a number; got None"),
        ([0, 1], {}, r"prefix must be \(node, time\) tuples; got \[0, 1\]"),
        ([(0, 1.0, 2.0)], {}, r"prefix must be \(node, time\) tuples"),
        (3, {}, r"prefix must be \(node, time\) tuples; got 3"),
        (pd.DataFrame({"node": [0]}), {}, "prefix must have columns node and time; missing"),
        ([(0, 1.0)], {"now": 0.5}, "now must be finite and not before the last infection; got 0.5"),
        ([(0, 1.0)], {"now": math.inf}, "now must be finite and not before"),
        ([(0, 1.0)], {"now": math.nan}, "now must be finite and not before"),
        ([(0, 1.0)], {"k": -1}, "k must be a non-negative integer; got -1"),
        ([(0, 1.0)], {"k": 1.5}, "k must be a non-negative integer; got 1.5"),
    ],
)
def test_wrong_prefixes_are_named(posterior, prefix, more, message):
    with pytest.raises(ValueError, match=message):
        posterior.predict_next(prefix, **more)


def test_a_tree_says_nothing_about_when(posteriors):
    with pytest.raises(ValueError, match="predict_next needs likelihood='survival'; got 'tree'"):
        posteriors["tree"].predict_next(PREFIX)


# ------------------------------------------------------------------------------- quantiles of rates

parts = st.tuples(st.floats(-9.0, 3.0), st.floats(-6.0, 6.0))


@given(st.sampled_from((0.03, 0.5, 0.97)), st.floats(0.0, 1.0), parts, parts)
def test_quantile_inverts_the_distribution_function(q, share, hit, rest):
    """Shapes from 1e-9 to 1e3, means from 1e-6 to 1e6. Zero stands for less than 1e-12 of the
    larger mean."""
    shape = 10.0 ** np.array([hit[0], rest[0]])
    mean = 10.0 ** np.array([hit[1], rest[1]])
    weight = np.array([share, 1.0 - share])
    rate = shape / mean
    laws = [(shape[[i]], rate[[i]]) for i in (0, 1)]
    found = mixture_quantile(q, np.array([share]), *laws)[0]
    if found == 0.0:
        assert weight @ gammainc(shape, rate * 1e-12 * mean.max()) >= q - 1e-9
    else:
        assert weight @ gammainc(shape, rate * found) == pytest.approx(q, abs=1e-9)


@given(st.floats(-4.0, 0.0), st.floats(0.01, 0.99))
def test_quantile_of_one_gamma_law(log_shape, q):
    """Where the start of its series is all that is used, and where it is not."""
    shape, rate = np.array([10.0**log_shape]), np.array([3.0])
    none = np.ones(1), np.full(1, np.inf)
    found = mixture_quantile(q, np.zeros(1), none, (shape, rate))[0]
    expected = gammaincinv(shape, q)[0] / 3.0
    if expected > 1.1e-12 * shape[0] / 3.0:
        assert found == pytest.approx(expected, rel=1e-10)
    else:
        assert found == 0.0 or expected > 0.9e-12 * shape[0] / 3.0


@given(parts, st.floats(0.01, 1.0))
def test_part_of_a_mixture_keeps_its_moments(part, share):
    shape, mean = 10.0 ** part[0], 10.0 ** part[1]
    square = mean**2 * (1.0 + 1.0 / shape)
    found = gamma_with_moments(*(np.array([share * x]) for x in (mean, square)), np.array([share]))
    assert found[0][0] == pytest.approx(shape, rel=1e-6)
    assert found[1][0] == pytest.approx(shape / mean, rel=1e-6)


def test_parts_that_are_absent_or_do_not_vary_have_a_quantile():
    nothing, one = np.zeros(1), np.ones(1)
    absent = gamma_with_moments(nothing, nothing, nothing)
    zero = gamma_with_moments(nothing, nothing, one)
    fixed = gamma_with_moments(3.0 * one, 9.0 * one, one)
    assert mixture_quantile(0.5, nothing, absent, zero)[0] == 0.0
    assert mixture_quantile(0.5, one, fixed, absent)[0] == pytest.approx(3.0, rel=1e-5)
    assert mixture_quantile(0.5, 0.4 * one, fixed, zero)[0] == 0.0
    assert mixture_quantile(0.5, 0.6 * one, fixed, zero)[0] == pytest.approx(3.0, rel=1e-5)


# ------------------------------------------------------------------------------------- does it work


@pytest.fixture(scope="module")
def held_out(seed):
    """A posterior and cascades of the same network that it has not seen."""
    network = simulate.community_network(2, 10, 0.4, 0.02, rate=(0.3, 1.0), seed=seed)
    found = simulate.simulate_cascades(network, 240, nodes=range(20), horizon=2.0, seed=seed)
    run = {"draws": 60, "tune": 60, "chains": 1}
    posterior = fitted(found.cascades.subset(slice(0, 160)), seed, run)
    return posterior, naive.stories(found.cascades.subset(slice(160, None)))


def hits(posterior: Posterior, tales, k: int) -> tuple[int, int]:
    """How often the next infection is among the first k, over all prefixes of all cascades."""
    found = tried = 0
    for story in tales:
        for length in range(1, len(story.events)):
            prefix = [(node, time) for time, node in story.events[:length]]
            if len(prefix) == posterior.n_nodes:
                continue
            table = posterior.predict_next(prefix, k=k)
            found += story.events[length][1] in set(table.node)
            tried += 1
    return found, tried


def test_the_next_infection_is_predicted(held_out, seed):
    """Hits among the first 3 of about 15 at risk: chance has at most 3/13, and the binomial
    test against a third has a false-alarm rate below 1e-9 where hits come independently. With
    nodes mixed up, the same posterior is no better than that."""
    posterior, tales = held_out
    found, tried = hits(posterior, tales[:40], k=3)
    assert tried > 80
    assert binom.sf(found - 1, tried, 1.0 / 3.0) < 1e-9
    mixed = copy.copy(posterior)
    order = np.random.default_rng(seed).permutation(posterior.n_nodes)
    mixed.nodes = tuple(posterior.nodes[i] for i in order)
    mixed.__dict__.pop("_index", None)
    found, tried = hits(mixed, tales[:40], k=3)
    assert binom.sf(found - 1, tried, 1.0 / 3.0) > 1e-3
