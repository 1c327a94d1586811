"""NetInf: against brute force, lazily as eagerly, its bound, its number of edges, real data."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from cascadenet import Cascades, metrics, simulate
from cascadenet.delays import get_delay
from cascadenet.inference.baselines import NetInf
from cascadenet.inference.layout import build_layout
from cascadenet.posterior import EDGE_COLUMNS

MODELS = [
    ("exponential", None),
    ("rayleigh", None),
    ("powerlaw", [1e-3]),
    ("decay", [0.8]),
    ("lognormal", [0.3, 0.9]),
]


def cascades_of(*cascades: dict, horizon: float, nodes=None) -> Cascades:
    """Cascades from one {node: time} each."""
    rows = [(c, node, time) for c, one in enumerate(cascades) for node, time in one.items()]
    frame = pd.DataFrame(rows, columns=["cascade", "node", "time"])
    return Cascades.from_frame(frame, nodes=nodes, horizon=horizon)


def simulated(n_nodes: int, n_cascades: int, horizon: float, seed: int):
    network = simulate.kronecker_network("core-periphery", n_nodes, 2 * n_nodes, seed=seed)
    data = simulate.simulate_cascades(network, n_cascades, horizon=horizon, seed=seed)
    return network, data.cascades


@pytest.fixture(scope="module")
def small(seed: int) -> Cascades:
    """20 cascades over 6 nodes."""
    network = simulate.community_network(1, 6, within=0.6, between=0.0, seed=seed)
    return simulate.simulate_cascades(network, 20, horizon=2.0, seed=seed).cascades


# -- the oracle -------------------------------------------------------------------------------


class naive:
    """Candidate parents of every infection with their log weights, in the user's unit."""

    def __init__(self, cascades: Cascades, fit: NetInf) -> None:
        delay, infections, waits = get_delay(fit.delay), [], []
        for c in range(cascades.n_cascades):
            inside = slice(cascades.offset[c], cascades.offset[c + 1])
            history = list(zip(cascades.node[inside], cascades.time[inside], strict=True))
            for v, t in history:
                earlier = [(int(u), t - s) for u, s in history if s < t]
                waits += [wait for _, wait in earlier]
                if earlier:
                    infections.append((int(v), earlier))
        unit = float(np.median(waits))
        theta = delay.check_parameters(fit.theta)
        if fit.theta is None:
            theta = delay.rescale(theta, unit)
        scale = unit ** -delay.rate_exponent(theta)
        rate = scale if fit.rate is None else fit.rate
        self.options = []
        for v, earlier in infections:
            wait = np.array([x for _, x in earlier])
            log_hazard = delay.log_hazard(wait, theta)
            weight = log_hazard - rate * delay.cumulative(wait, theta) + math.log(rate)
            weight += math.log(unit) - math.log(fit.epsilon)  # densities per median delay
            found = zip([(u, v) for u, _ in earlier], weight, log_hazard, strict=True)
            self.options.append({pair: (w, h) for pair, w, h in found})
        self.pairs = sorted({p for one in self.options for p in one}, key=lambda p: p[::-1])
        self.delay, self.theta, self.unit = delay, theta, unit

    def value(self, edges) -> float:
        """Log weight of the best trees over a set of edges."""
        return sum(max([0.0, *(x[p][0] for p in edges if p in x)]) for x in self.options)

    def greedy(self, n_edges: int) -> tuple[list, list]:
        chosen, gains = [], []
        while len(chosen) < n_edges:
            now = self.value(chosen)
            gain = {p: self.value([*chosen, p]) - now for p in self.pairs if p not in chosen}
            best = max(gain, key=lambda p: round(gain[p], 9), default=None)
            if best is None or gain[best] < 1e-9:
                break
            chosen.append(best)
            gains.append(gain[best])
        return chosen, gains

    def parents(self, edges) -> list:
        """Best parent of every infection, None without one."""
        out = []
        for x in self.options:
            usable = [p for p in edges if p in x and x[p][0] > 0.0]
            out.append(max(usable, key=lambda p: x[p][0], default=None))
        return out


def exposures(cascades: Cascades, delay, theta) -> np.ndarray:
    """Exposure of every pair (N, N), and of all nodes to the background on the last entry."""
    n = cascades.n_nodes
    exposure, outside = np.zeros((n, n)), 0.0
    for c in range(cascades.n_cascades):
        inside = slice(cascades.offset[c], cascades.offset[c + 1])
        at = dict(zip(cascades.node[inside], cascades.time[inside], strict=True))
        begin, end = min(at.values()), cascades.horizon[c]
        for v in range(n):
            stop = at.get(v, end)
            outside += stop - begin
            for u, s in at.items():
                if u != v and s < stop:
                    exposure[u, v] += delay.cumulative(np.array([stop - s]), theta)[0]
    return exposure, outside


def chosen_pairs(fit: NetInf, cascades: Cascades) -> list:
    table = fit.edges()
    ends = (cascades.index_of(table[name]) for name in ("source", "target"))
    return [(int(u), int(v)) for u, v in zip(*ends, strict=True)]


# -- the greedy choice ------------------------------------------------------------------------


@pytest.mark.jit_off
@pytest.mark.parametrize(("delay", "theta"), MODELS)
def test_equals_brute_force(small, delay, theta):
    fit = NetInf(18, delay, theta).fit(small)
    chosen, gains = naive(small, fit).greedy(18)
    assert chosen_pairs(fit, small) == chosen
    assert fit.gains_ == pytest.approx(gains, rel=1e-9)
    assert len(chosen) > 6


@pytest.mark.jit_off
def test_epsilon_and_rate_are_those_of_the_oracle(small):
    default = NetInf(12).fit(small)
    for settings in ({"epsilon": 0.05}, {"rate": 5.0}, {"rate": 0.7, "epsilon": 0.1}):
        fit = NetInf(12, **settings).fit(small)
        chosen, gains = naive(small, fit).greedy(12)
        assert chosen_pairs(fit, small) == chosen
        assert fit.gains_ == pytest.approx(gains, rel=1e-8)
        assert fit.gains_[0] != pytest.approx(default.gains_[0])


def eager(layout, weight: np.ndarray, n_edges: int) -> tuple[list[int], list[float]]:
    """Greedy choice that computes every gain before every edge, sums in the order of the rows."""
    best = np.zeros(layout.n_infections)
    ptr, infection, place = layout.incidence
    rows = [infection[a:b] for a, b in itertools.pairwise(ptr)]
    at = [layout.cand_ptr[infection[a:b]] + place[a:b] for a, b in itertools.pairwise(ptr)]
    chosen, gains = [], []
    gain = np.full(layout.n_pairs, -1.0)
    while len(chosen) < n_edges:
        for p in range(layout.n_pairs):
            gain[p] = 0.0
            for more in weight[at[p]] - best[rows[p]]:
                gain[p] += max(more, 0.0)
        p = int(gain.argmax())
        if gain[p] <= 0.0:
            break
        chosen.append(p)
        gains.append(float(gain[p]))
        best[rows[p]] = np.maximum(best[rows[p]], weight[at[p]])
    return chosen, gains


def test_lazy_is_exactly_eager(seed):
    """The same edges, and the same bytes of their gains."""
    _, data = simulated(16, 60, 1.5, seed)
    layout = build_layout(data)
    delays = layout.cand_delay
    weight = -delays - math.log(1e-64)
    fit = NetInf(70).fit(data)
    chosen, gains = eager(layout, weight, 70)
    expected = list(zip(layout.pair_source[chosen], layout.pair_child[chosen], strict=True))
    assert chosen_pairs(fit, data) == expected
    assert fit.gains_.tolist() == gains
    assert len(gains) > 20


@pytest.mark.jit_off
def test_ties_go_to_the_first_pair():
    """Sources that were always infected together explain the same."""
    one = {"a": 0.0, "b": 0.0, "c": 1.0, "d": 1.0}
    table = NetInf(10).fit(cascades_of(one, one, horizon=5.0)).edges()
    assert table[["source", "target"]].to_numpy().tolist() == [["a", "c"], ["a", "d"]]
    assert table["n"].tolist() == [2.0, 2.0]


def test_gains_fall_and_fewer_edges_are_a_prefix(seed):
    _, data = simulated(64, 200, 2.0, seed)
    long = NetInf(300).fit(data)
    assert (np.diff(long.gains_) <= 0.0).all()
    assert long.gains_[-1] > 0.0
    for k in (0, 1, 37, 150):
        short = NetInf(k).fit(data)
        assert chosen_pairs(short, data) == chosen_pairs(long, data)[:k]
        assert short.gains_.tolist() == long.gains_[:k].tolist()


def test_at_least_1_minus_1_over_e_of_the_best_set():
    """Over all sets of three pairs of several small data sets."""
    ratios = []
    for seed in range(8):
        network = simulate.community_network(1, 4, within=0.9, between=0.0, seed=seed)
        data = simulate.simulate_cascades(network, 6, horizon=1.0, seed=seed).cascades
        fit = NetInf(3, epsilon=1e-3).fit(data)
        oracle = naive(data, fit)
        best = max(oracle.value(s) for s in itertools.combinations(oracle.pairs, 3))
        ratios.append(fit.gains_.sum() / best)
    assert all(1.0 - 1.0 / math.e <= ratio <= 1.0 + 1e-12 for ratio in ratios)
    worst = min(oracle.value(s) for s in itertools.combinations(oracle.pairs, 3))
    assert worst < (1.0 - 1.0 / math.e) * best  # not every choice would do


# -- how many edges ---------------------------------------------------------------------------


@pytest.mark.parametrize(("delay", "theta"), MODELS)
def test_criterion_is_the_survival_likelihood_of_the_trees(small, delay, theta):
    fit = NetInf(14, delay, theta, epsilon=0.2).fit(small)
    oracle = naive(small, fit)
    exposure, outside = exposures(small, oracle.delay, oracle.theta)
    path = chosen_pairs(fit, small)
    values = []
    for k in range(len(path) + 1):
        parents = oracle.parents(path[:k])
        value, free = 0.0, parents.count(None)
        value += free * math.log(free / outside) - free if free else 0.0
        for pair in set(parents) - {None}:
            n = parents.count(pair)
            value += n * math.log(n / exposure[pair]) - n
        value += sum(x[pair][1] for x, pair in zip(oracle.options, parents, strict=True) if pair)
        values.append(value - k * math.log(small.n_cascades) / 2.0)
    assert fit.price_ == math.log(small.n_cascades) / 2.0
    # the unit of time adds the same to every entry
    shift = fit.criterion_[0] - values[0]
    assert shift == pytest.approx(len(oracle.options) * math.log(oracle.unit), abs=1e-6)
    assert fit.criterion_ == pytest.approx(np.array(values) + shift, abs=1e-6)


def f1_of(fit: NetInf, k: int, truth: set) -> float:
    table = fit.edges(top=k)
    hits = len(truth & set(zip(table["source"], table["target"], strict=True)))
    return 2.0 * hits / (k + len(truth))


def test_number_of_edges_is_near_the_best_on_the_path(seed):
    """F1 of the chosen number against the best number in hindsight, and against a fixed gain.

    The usual rule, to stop where the gain no longer pays for naming the edge, takes far too many
    edges where cascades are long. Mean losses over fifteen other seeds: at most 0.016 here, at
    least 0.134 by that rule.
    """
    lost, lost_by_gain = [], []
    for i, horizon in enumerate((2.0, 5.0, 2.0, 5.0)):
        network, data = simulated(64, 500, horizon, seed + i)
        truth = set(zip(network["source"], network["target"], strict=True))
        fit = NetInf().fit(data)
        long = NetInf(600).fit(data)
        assert chosen_pairs(fit, data) == chosen_pairs(long, data)[: fit.gains_.size]
        best = max(f1_of(long, k, truth) for k in range(20, 400, 2))
        lost.append(best - f1_of(fit, fit.gains_.size, truth))
        by_gain = int((long.gains_ > math.log(64 * 63)).sum())
        lost_by_gain.append(best - f1_of(long, by_gain, truth))
    assert np.mean(lost) <= 0.03
    assert np.mean(lost_by_gain) >= 0.1


def test_without_structure_few_edges_are_found(seed):
    """Negative control: independent infections from outside. Two seeds of times alone."""
    rng = np.random.default_rng(seed)
    rows = []
    for c in range(300):
        count = int(rng.integers(2, 7))
        nodes = rng.choice(40, count, replace=False)
        rows += zip([c] * count, nodes, rng.uniform(0.0, 1.0, count), strict=True)
    frame = pd.DataFrame(rows, columns=["cascade", "node", "time"])
    data = Cascades.from_frame(frame, nodes=range(40), horizon=1.0)
    _, real = simulated(64, 300, 2.0, seed)
    assert NetInf().fit(data).gains_.size < 10
    assert NetInf().fit(real).gains_.size > 60


# -- the table --------------------------------------------------------------------------------


@pytest.mark.jit_off
def test_rates_are_infections_over_exposure():
    pair = ({"a": 0.0, "b": 1.0}, {"a": 1.0, "b": 4.0}, {"a": 2.0}, {"b": 0.0})
    fit = NetInf(1).fit(cascades_of(*pair, horizon=10.0, nodes=["a", "b", "c"]))
    row = fit.edges().iloc[0]
    rate, factor = 2.0 / (1.0 + 3.0 + 8.0), math.exp(1.880793608151251 / math.sqrt(2.0))
    assert list(fit.edges().columns) == EDGE_COLUMNS
    assert (row["source"], row["target"], row["n"], row["prob"]) == ("a", "b", 2.0, 1.0)
    assert row["rate"] == pytest.approx(rate)
    assert row["rate_sd"] == pytest.approx(rate / math.sqrt(2.0))
    assert row["rate_low"] == pytest.approx(rate / factor)
    assert row["rate_high"] == pytest.approx(rate * factor)
    assert fit.explained_ == 1.0
    others = fit.edges(pairs=[("b", "a"), ("a", "c"), ("c", "a")])
    assert (others[EDGE_COLUMNS[2:]] == 0.0).all(axis=None)


@pytest.mark.jit_off
def test_table_is_ranked_and_explains(small):
    fit = NetInf(15).fit(small)
    table = fit.edges()
    assert table["prob"].is_monotonic_decreasing
    assert table["prob"].between(0.0, 1.0).all()
    oracle = naive(small, fit)
    parents = oracle.parents(chosen_pairs(fit, small))
    assert table["n"].tolist() == [parents.count(p) for p in chosen_pairs(fit, small)]
    assert fit.explained_ == pytest.approx(1.0 - parents.count(None) / len(parents))
    idle = table["n"] == 0.0
    assert table.loc[idle, "rate_sd"].isna().all()
    assert table.loc[~idle, "rate_sd"].notna().all()
    pd.testing.assert_frame_equal(
        fit.edges(pairs=table.iloc[::-1])[::-1].reset_index(drop=True), table
    )


@pytest.mark.parametrize(("delay", "exponent"), [("exponential", 1), ("rayleigh", 2)])
def test_rescaled_times_rescale_only_rates(small, delay, exponent):
    scaled = Cascades(
        small.nodes, small.labels, small.offset, small.node, small.time * 64.0, small.horizon * 64.0
    )
    table, other = (NetInf(None, delay).fit(data).edges() for data in (small, scaled))
    pd.testing.assert_frame_equal(other[EDGE_COLUMNS[:4]], table[EDGE_COLUMNS[:4]], rtol=1e-12)
    np.testing.assert_allclose(other["rate"] * 64.0**exponent, table["rate"], rtol=1e-12)


@pytest.mark.jit_off
def test_nothing_to_explain():
    fit = NetInf().fit(cascades_of({"a": 0.0}, {"b": 1.0, "c": 1.0}, horizon=2.0))
    assert fit.edges().empty
    assert list(fit.edges().columns) == EDGE_COLUMNS
    assert fit.gains_.size == 0
    assert math.isnan(fit.explained_)


@pytest.mark.jit_off
def test_delays_that_no_edge_can_have():
    """Below the dead time of a power law nothing is explained, and no rate is made up."""
    data = cascades_of({"a": 0.0, "b": 1.0}, {"a": 3.0, "b": 5.0}, horizon=10.0)
    fit = NetInf(5, "powerlaw", theta=[50.0]).fit(data)
    assert fit.edges().empty
    assert fit.explained_ == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_edges": -1}, "n_edges must be a whole number"),
        ({"n_edges": 2.5}, "n_edges must be a whole number"),
        ({"delay": "gamma"}, "delay must be one of"),
        ({"theta": [1.0]}, "theta of the delay 'exponential'"),
        ({"rate": 0.0}, "rate must be a finite positive"),
        ({"rate": math.inf}, "rate must be a finite positive"),
        ({"epsilon": -1.0}, "epsilon must be a finite positive"),
        ({"epsilon": True}, "epsilon must be a finite positive"),
    ],
)
def test_wrong_settings(small, settings, message):
    with pytest.raises(ValueError, match=message):
        NetInf(**settings).fit(small)


def test_wrong_use(small):
    with pytest.raises(ValueError, match="this NetInf is not fitted"):
        NetInf().edges()
    with pytest.raises(TypeError, match="cascades must be a Cascades; got DataFrame"):
        NetInf().fit(small.to_frame())
    with pytest.raises(ValueError, match="pairs must join different nodes"):
        NetInf().fit(small).edges(pairs=[(0, 0)])


# -- published data ---------------------------------------------------------------------------


def published(folder, name, **reading):
    data = folder / "cascades" / name
    if not (data / "cascades.csv.gz").is_file():
        pytest.skip(f"no data set {name} in {folder}")
    truth = pd.read_csv(data / "edges.csv.gz")
    return Cascades.read_csv(data / "cascades.csv.gz", **reading), truth


@pytest.mark.parametrize(
    ("name", "n_edges", "reading", "auprc", "f1_at_true"),
    [
        ("netrate-kronecker", 2041, {"nodes": range(1024), "horizon": 10.0}, 0.763, 0.811),
        ("infopath-example", 200, {"window": 10.0}, 0.933, 0.947),
        ("netinf-example", 60, {"nodes": range(32), "window": 24.0}, 0.808, 0.810),
    ],
)
def test_figures_of_the_published_program(shared_data, name, n_edges, reading, auprc, f1_at_true):
    data, truth = published(shared_data, name, **reading)
    scores = metrics.score_edges(NetInf(n_edges).fit(data).edges(), truth, data)
    assert scores.auprc == pytest.approx(auprc, abs=6e-4)
    assert scores.f1_at_true == pytest.approx(f1_at_true, abs=6e-4)


def test_number_of_edges_of_kronecker(shared_data):
    """1915 of the 2042 edges could have carried anything; 0.834 is the best F1 on the path."""
    data, truth = published(shared_data, "netrate-kronecker", nodes=range(1024), horizon=10.0)
    fit = NetInf().fit(data)
    assert 1800 <= fit.gains_.size <= 2050
    pairs = set(zip(truth["source"], truth["target"], strict=True))
    assert f1_of(fit, fit.gains_.size, pairs) >= 0.83
