"""Influence is the reach over live edges: exact on small networks, greedy sets near the best."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pandas as pd
import pytest

from cascadenet import simulate
from cascadenet.inference.forecast import _kernels
from cascadenet.inference.forecast.influence import live_edge_graphs, standard_error
from cascadenet.posterior import Posterior
from tests import naive_forecast
from tests.test_posterior import N_NODES, fitted, relabelled, some_cascades

SHORT = {"draws": 6, "tune": 20, "chains": 1}
FOR_EVER = math.inf


@pytest.fixture(scope="module")
def tiny(seed) -> Posterior:
    """Four nodes, influence that fades: every pair transmits in the end, or never."""
    network = simulate.community_network(1, 4, 0.4, 0.0, rate=(0.1, 0.6), seed=seed)
    data = simulate.simulate_cascades(
        network, 40, nodes=range(4), delay="decay", horizon=4.0, seed=seed
    ).cascades
    posterior = fitted(data, seed, SHORT, delay="decay")
    posterior.networks = posterior.networks[:2]
    return posterior


@pytest.fixture(scope="module")
def exact(tiny) -> dict[frozenset, float]:
    """Expected reach of every set of nodes, by all 4096 live graphs of each draw."""
    rates = [naive_forecast.Rates(tiny, network) for network in tiny.networks]
    return {
        frozenset(s): float(np.mean([naive_forecast.ever_reached(r, set(s)) for r in rates]))
        for size in (1, 2)
        for s in itertools.combinations(range(4), size)
    }


@pytest.fixture(scope="module")
def posterior(seed) -> Posterior:
    return fitted(some_cascades(seed), seed, SHORT)


def test_reach_is_that_of_all_live_graphs(tiny, exact):
    """z below 4.5 for each of four nodes: false alarm below 3e-5. Nothing is cut off: the bias
    that 1% of the reach would make is seen, as the control shows."""
    samples = 20_000
    table = tiny.influence(FOR_EVER, samples=samples, seed=1).set_index("node")
    expected = pd.Series({node: exact[frozenset([node])] for node in range(4)})
    # network draws are part of both: what is left is the error of the graphs
    se = np.sqrt(4.0 / samples)  # no reach of at most 4 nodes has a larger standard deviation
    z = (table.reach - expected) / se
    assert (z.abs() < 4.5).all()
    assert ((table.reach * 0.9 - expected).abs() / se > 4.5).any()
    assert table.low.ge(1).all()
    assert table.high.le(4).all()


def test_greedy_set_is_the_best_where_there_are_few(tiny, exact):
    """Of two of four nodes: its exact reach is within 1% of the best set's, and the total that is
    reported, measured on other graphs, within four standard errors of it."""
    table = tiny.seed_set(2, FOR_EVER, samples=4000, seed=1)
    chosen = exact[frozenset(table.node)]
    best = max(value for nodes, value in exact.items() if len(nodes) == 2)
    worst = min(value for nodes, value in exact.items() if len(nodes) == 2)
    assert chosen > 0.99 * best
    assert 0.99 * best > worst
    assert abs(table.total.iloc[-1] - chosen) < 4.0 * math.sqrt(4.0 / 4000)
    assert table.gain.cumsum().to_numpy() == pytest.approx(table.total.to_numpy())


def plain_greedy(graphs: list, k: int, within: float, n_nodes: int) -> list[int]:
    """Without lazy bounds: union of the reached, every candidate tried every time."""
    reached = []
    for _, (ptr, target, delay) in graphs:
        of_node = []
        for origin in range(n_nodes):
            time = {origin: 0.0}
            queue = [origin]
            while queue:
                u = queue.pop()
                for a in range(ptr[u], ptr[u + 1]):
                    t = time[u] + delay[a]
                    if t <= within and t < time.get(int(target[a]), math.inf):
                        time[int(target[a])] = t
                        queue.append(int(target[a]))
            of_node.append(set(time))
        reached.append(of_node)
    chosen: list[int] = []
    held = [set() for _ in graphs]
    for _ in range(k):
        gains = [
            sum(len(r[v] - h) for r, h in zip(reached, held, strict=True)) for v in range(n_nodes)
        ]
        best = int(np.argmax([-math.inf if v in chosen else g for v, g in enumerate(gains)]))
        chosen.append(best)
        held = [h | r[best] for r, h in zip(reached, held, strict=True)]
    return chosen


@pytest.mark.parametrize("within", [0.3, 1.0])
def test_lazy_greedy_is_greedy(posterior, within):
    """The same sets, ties included, as from trying every node at every step."""
    for seed in range(4):
        first, _ = np.random.default_rng(seed).spawn(2)
        graphs = list(live_edge_graphs(posterior, within, 12, first))
        found = posterior.seed_set(6, within, samples=12, seed=seed)
        assert found.node.tolist() == plain_greedy(graphs, 6, within, N_NODES)


def test_influence_agrees_with_simulation(posterior, seed):
    """The mean size of cascades from one node, simulated one by one. False alarm 6e-5 each."""
    table = posterior.influence(1.0, samples=3000, seed=seed).set_index("node")
    for node in (0, 9):
        result = posterior.spread([node], 1.0, draws=3000, seed=seed + 1)
        se = math.hypot(result.summary().se[0], result.sizes.std() / math.sqrt(3000))
        assert abs(result.sizes.mean() - table.reach[node]) < 4.0 * se
    strong, weak = table.index[0], table.index[-1]
    assert table.reach[strong] > table.reach[weak] + 1.0


@pytest.mark.parametrize("settings", [{"max_candidates": 1}, {"delay": "lognormal"}], ids=str)
def test_other_models_agree_with_simulation(settings, seed):
    other = fitted(some_cascades(seed), seed, SHORT, **settings)
    table = other.influence(1.0, samples=3000, seed=seed).set_index("node")
    result = other.spread([3], 1.0, draws=3000, seed=seed + 1)
    se = result.sizes.std() * math.sqrt(2.0 / 3000)
    assert abs(result.sizes.mean() - table.reach[3]) < 4.0 * se


def test_table_is_best_first_and_common_numbers_are_used(posterior, seed):
    table = posterior.influence(1.0, samples=50, seed=seed)
    assert list(table.columns) == ["node", "reach", "se", "low", "high"]
    assert sorted(table.node) == list(range(N_NODES))
    keys = list(zip(-table.reach, table.node, strict=True))
    assert keys == sorted(keys)
    assert (table.reach >= 1.0).all()
    assert (table.low <= table.reach).all()
    assert (table.reach <= table.high + 1e-9).all()
    pd.testing.assert_frame_equal(posterior.influence(1.0, 50, top=3, seed=seed), table.iloc[:3])
    first = posterior.seed_set(1, 1.0, samples=50, seed=seed)
    assert first.gain[0] == first.total[0]
    # a larger horizon reaches no fewer, graph by graph
    longer = posterior.influence(4.0, samples=50, seed=seed)
    assert longer.reach.sum() > table.reach.sum()


def test_the_whole_set_reaches_everybody(posterior):
    table = posterior.seed_set(N_NODES, 1.0, samples=20, seed=1)
    assert sorted(table.node) == list(range(N_NODES))
    assert table.total.iloc[-1] == N_NODES
    assert table.total_se.iloc[-1] == 0.0


def test_labels_are_used(seed):
    names = [f"n{i:02d}" for i in range(N_NODES)]
    data = some_cascades(seed)
    plain = fitted(data, seed, SHORT)
    named = fitted(relabelled(data, names), seed, SHORT)
    for call in (lambda p: p.influence(1.0, 10, seed=1), lambda p: p.seed_set(3, 1.0, 10, seed=1)):
        one, two = call(plain), call(named)
        assert two.node.tolist() == [names[i] for i in one.node]
        pd.testing.assert_frame_equal(one.iloc[:, 1:], two.iloc[:, 1:])


def test_standard_error_counts_draws_not_samples(seed):
    """Samples of one draw share its network. Over 400 data sets the error agrees with the spread
    of the means, to 15%; taken as independent they would promise half of it."""
    rng = np.random.default_rng(seed)
    network = np.repeat(np.arange(20), 10)
    means, errors, naive_errors = [], [], []
    for _ in range(400):
        values = rng.normal(size=20)[network] + rng.normal(size=200)
        means.append(values.mean())
        errors.append(float(standard_error(values, network)))
        naive_errors.append(values.std() / math.sqrt(200))
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.15)
    assert np.mean(naive_errors) < 0.6 * np.std(means)
    one = standard_error(np.arange(10.0), np.zeros(10))
    assert one == pytest.approx(np.arange(10.0).std(ddof=1) / math.sqrt(10))
    assert np.isnan(standard_error(np.ones((1, 3)), np.zeros(1))).all()


@pytest.mark.jit_off
def test_reach_follows_the_shortest_paths():
    """0 -> 1 -> 2 takes 0.7, 0 -> 2 takes 0.9; 2 -> 3 takes 0.2: in 0.9 all four are reached, in
    0.8 three. Acting on the next infection only, 1 infects 2 after it, and 2 infects 3."""
    ptr = np.array([0, 2, 3, 4, 4])
    target, delay = np.array([1, 2, 2, 3], np.int32), np.array([0.3, 0.9, 0.4, 0.2])
    reached = np.empty(4, np.int64)
    for within, limit, expected in (
        (0.9 + 1e-9, 99, [4, 3, 2, 1]),
        (0.8, 99, [3, 3, 2, 1]),
        (0.25, 99, [1, 1, 2, 1]),
        (0.9 + 1e-9, 1, [4, 3, 2, 1]),
    ):
        _kernels.reach_counts(ptr, target, delay, within, limit, reached)
        assert reached.tolist() == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.influence(-1.0), "within must be positive; got -1.0"),
        (lambda p: p.influence(math.inf), "within must be finite for the delay 'exponential'"),
        (lambda p: p.influence(1.0, samples=0), "samples must be a positive integer; got 0"),
        (lambda p: p.influence(1.0, top=-1), "top must be a non-negative integer; got -1"),
        (lambda p: p.seed_set(0, 1.0), "k must be a positive integer; got 0"),
        (lambda p: p.seed_set(99, 1.0), "k must be at most the number of nodes 14; got 99"),
    ],
)
def test_wrong_arguments_are_named(posterior, call, message):
    with pytest.raises(ValueError, match=message):
        call(posterior)


def test_what_cannot_be_answered_is_refused(posterior, seed):
    capped = copy.copy(posterior)
    capped.settings = posterior.settings | {"max_candidates": 3}
    with pytest.raises(ValueError, match="seed_set needs a fit without max_candidates"):
        capped.seed_set(2, 1.0)
    tree = copy.copy(posterior)
    tree.settings = posterior.settings | {"likelihood": "tree"}
    for call in (lambda: tree.seed_set(2, 1.0), lambda: tree.influence(1.0)):
        with pytest.raises(ValueError, match="needs likelihood='survival'; got 'tree'"):
            call()
