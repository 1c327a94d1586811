"""Simulated networks and cascades: exact probabilities, true parents, determinism, bad arguments.

Statistical tests compare at Z standard errors, two-sided: a false alarm once in 150 000 runs for
each comparison under a normal limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from cascadenet.delays import DELAYS
from cascadenet.networks import DIRICHLET_FLOOR, sample_dirichlet
from cascadenet.simulate import (
    SimulatedCascades,
    community_network,
    from_networkx,
    kronecker_network,
    model_network,
    rates_at,
    simulate_cascades,
    vary_rates,
)

Z = 4.5

# Parameters away from the start values, so that a model that ignores them fails.
THETA: dict[str, list[float]] = {
    "exponential": [],
    "rayleigh": [],
    "powerlaw": [0.3],
    "weibull": [1.7],
    "decay": [0.6],
    "lognormal": [0.4, 0.8],
}


def edges(*rows: tuple[Any, ...], varying: bool = False) -> pd.DataFrame:
    columns = ["source", "target", "rate", "start"] if varying else ["source", "target", "rate"]
    return pd.DataFrame(rows, columns=columns)


def z_score(hits: int, n: int, p: float) -> float:
    return (hits - n * p) / math.sqrt(n * p * (1 - p))


def infected(simulated: SimulatedCascades, node: Any) -> np.ndarray:
    """Infection times of a node, over all cascades that reach it."""
    parents = simulated.parents
    return parents.loc[parents["node"] == node, "time"].to_numpy()


@pytest.fixture(scope="module")
def small() -> pd.DataFrame:
    return kronecker_network("core-periphery", 64, 200, rate=(0.2, 1.0), seed=4)


# Cascades: exact probabilities


@pytest.mark.parametrize("name", DELAYS)
def test_one_edge_infects_with_the_probability_of_its_delay_model(name: str, seed: int) -> None:
    """P(infected by T) = 1 - exp(-rate H(T)), and H of the delay is a truncated exponential."""
    rate, end, n = 0.8, 2.0, 4000
    simulated = simulate_cascades(
        edges((0, 1, rate)), n, delay=name, theta=THETA[name], horizon=end, seeds=[0], seed=seed
    )
    time = infected(simulated, 1)
    p = 1 - math.exp(-rate * float(DELAYS[name].cumulative(end, THETA[name])))
    assert abs(z_score(time.size, n, p)) < Z
    # Negative control: the test tells a rate 25% higher from the true one.
    assert abs(z_score(time.size, n, 1 - (1 - p) ** 1.25)) > Z
    # Uniform given infection; a false alarm once in 100 000 runs.
    uniform = -np.expm1(-rate * DELAYS[name].cumulative(time, THETA[name])) / p
    assert kstest(uniform, "uniform").pvalue > 1e-5


def test_competing_parents_win_in_proportion_to_their_hazards(seed: int) -> None:
    """Two seeds, rates 1 and 3: the second is the parent three times in four, whenever it is."""
    n = 4000
    simulated = simulate_cascades(
        edges(("a", "x", 1.0), ("b", "x", 3.0)), n, horizon=0.5, seeds=["a", "b"], seed=seed
    )
    of_x = simulated.parents.query("node == 'x'")
    assert abs(z_score(len(of_x), n, 1 - math.exp(-2.0))) < Z
    assert abs(z_score(int((of_x["parent"] == "b").sum()), len(of_x), 0.75)) < Z
    assert abs(z_score(int((of_x["parent"] == "b").sum()), len(of_x), 0.65)) > Z


def test_chain_reaches_its_end_like_a_sum_of_delays(seed: int) -> None:
    """Two exponential delays of rate 1 by time T: 1 - (1 + T) exp(-T)."""
    n = 4000
    simulated = simulate_cascades(
        edges((0, 1, 1.0), (1, 2, 1.0)), n, horizon=1.5, seeds=[0], seed=seed
    )
    assert abs(z_score(infected(simulated, 2).size, n, 1 - 2.5 * math.exp(-1.5))) < Z


@pytest.mark.parametrize("name", DELAYS)
def test_rates_that_vary_infect_as_their_integrated_hazard(name: str, seed: int) -> None:
    """Rates 0, 2, 0, 0.5 from 0, 1, 1.5, 2.5; the seed starts at 0.25."""
    delay, theta, n = DELAYS[name], THETA[name], 4000
    rows = [(0, 1, r, s) for r, s in ((0.0, 0.0), (2.0, 1.0), (0.0, 1.5), (0.5, 2.5))]
    network = edges(*reversed(rows), (0, 2, 0.2, -3.0), varying=True)
    simulated = simulate_cascades(
        network, n, delay=name, theta=theta, horizon=4.0, start=(0.25, 0.25), seeds=[0], seed=seed
    )

    def hazard(low: float, high: float) -> float:
        values = delay.cumulative(np.array([low, high]) - 0.25, theta)
        return float(values[1] - values[0])

    time = infected(simulated, 1)
    total = 2 * hazard(1, 1.5) + 0.5 * hazard(2.5, 4)
    assert abs(z_score(time.size, n, 1 - math.exp(-total))) < Z
    first = 1 - math.exp(-2 * hazard(1, 1.5))
    assert abs(z_score(int((time < 2).sum()), n, first)) < Z
    assert (((time >= 1) & (time <= 1.5)) | ((time >= 2.5) & (time <= 4))).all()
    p = 1 - math.exp(-0.2 * hazard(0.25, 4.0))  # an edge that starts before the cascade
    assert abs(z_score(infected(simulated, 2).size, n, p)) < Z


def test_a_network_cut_into_equal_pieces_is_the_same_network(small: pd.DataFrame) -> None:
    """Same stream of random numbers, so the cascades agree up to rounding."""
    pieces = vary_rates(small, "constant", (0.0, 3.0), 7)
    static = simulate_cascades(small, 20, horizon=3.0, delay="weibull", theta=1.5, seed=5)
    varying = simulate_cascades(pieces, 20, horizon=3.0, delay="weibull", theta=1.5, seed=5)
    assert static.parents["node"].tolist() == varying.parents["node"].tolist()
    assert static.cascades.time == pytest.approx(varying.cascades.time)


def test_background_infects_each_node_at_its_hazard(seed: int) -> None:
    """Nodes without edges: 1 - exp(-hazard * duration) each, from the first infection on."""
    n, hazard = 400, 0.3
    simulated = simulate_cascades(
        edges((0, 1, 1e-12)),
        n,
        nodes=range(21),
        background=hazard,
        window=2.0,
        start=(5.0, 6.0),
        seeds=[0],
        seed=seed,
    )
    outside = simulated.parents.query("kind == 'external'")
    assert abs(z_score(len(outside), 20 * n, 1 - math.exp(-2 * hazard))) < Z
    assert abs(z_score(len(outside), 20 * n, 1 - math.exp(-2.4 * hazard))) > Z
    assert outside["parent"].isna().all()
    delay = outside["time"] - simulated.cascades.start[outside["cascade"]]
    assert kstest(np.expm1(-hazard * delay) / math.expm1(-2 * hazard), "uniform").pvalue > 1e-5


def test_random_seeds_are_uniform_over_all_nodes(seed: int) -> None:
    n = 3000
    one = simulate_cascades(edges((0, 1, 1.0)), n, nodes=range(5), horizon=1.0, seed=seed)
    first = one.parents.query("kind == 'seed'")["node"]
    assert len(first) == n
    assert all(abs(z_score(int((first == u).sum()), n, 0.2)) < Z for u in range(5))
    three = simulate_cascades(
        edges((0, 1, 1.0)), n, nodes=range(5), n_seeds=3, horizon=1.0, seed=seed
    )
    seeds = three.parents.query("kind == 'seed'")
    assert (seeds.groupby("cascade")["node"].nunique() == 3).all()
    assert all(abs(z_score(int((seeds["node"] == u).sum()), n, 0.6)) < Z for u in range(5))


# Cascades: structure


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("name", DELAYS)
def test_parents_are_consistent(name: str, varying: bool, small: pd.DataFrame, seed: int) -> None:
    network = vary_rates(small, "mix", (0.0, 6.0), 12, seed=seed) if varying else small
    simulated = simulate_cascades(
        network,
        60,
        delay=name,
        theta=THETA[name],
        window=2.0,
        start=(1.0, 4.0),
        n_seeds=2,
        background=0.01,
        seed=seed,
    )
    frame, cascades = simulated.parents, simulated.cascades
    assert set(frame["kind"]) == {"seed", "external", "edge"}
    assert frame["parent"].isna().equals(frame["kind"] != "edge")
    time = frame.set_index(["cascade", "node"])["time"]
    assert time.index.is_unique
    pairs = set(zip(small["source"], small["target"], strict=True))
    for row in frame[frame["kind"] == "edge"].itertuples():
        assert (row.parent, row.node) in pairs
        assert time[row.cascade, row.parent] < row.time
    for _, part in frame.groupby("cascade"):
        later = part["time"].to_numpy()[1:]  # two seeds share the start
        assert (np.diff(later) > 0).all() and later[-1] <= part["time"].iloc[0] + 2.0
    assert cascades.horizon == pytest.approx(cascades.start + 2.0)
    assert ((cascades.start >= 1.0) & (cascades.start <= 4.0)).all()
    assert cascades.nodes == tuple(range(64))


def test_parents_follow_the_order_of_the_record(small: pd.DataFrame) -> None:
    simulated = simulate_cascades(
        small, 30, horizon=2.0, n_seeds=3, unobserved=[0, 5, 9], background=0.05, seed=2
    )
    record = simulated.cascades.to_frame().reset_index(drop=True)
    for column in ("cascade", "node", "time"):
        assert record[column].tolist() == simulated.parents[column].tolist()


@pytest.mark.parametrize(
    ("name", "theta"), [("weibull", [0.05]), ("lognormal", [-60.0, 5.0]), ("decay", [1e25])]
)
def test_delays_below_the_precision_of_time_make_no_ties(name: str, theta: list[float]) -> None:
    star = edges(*[(0, v, 50.0) for v in range(1, 6)], (1, 6, 50.0), (6, 7, 50.0))
    simulated = simulate_cascades(
        star, 20, delay=name, theta=theta, horizon=2e3, start=(1e3, 1e3), seeds=[0], seed=1
    )
    assert simulated.cascades.n_infections > 100
    for _, part in simulated.parents.groupby("cascade"):
        assert (np.diff(part["time"]) > 0).all()
        assert (part["time"] - 1e3).min() == 0.0


def test_unobserved_nodes_transmit_but_are_absent(seed: int) -> None:
    chain = edges(("a", "b", 50.0), ("b", "c", 50.0))
    simulated = simulate_cascades(chain, 20, horizon=10.0, seeds=["a"], unobserved=["b"], seed=seed)
    assert simulated.cascades.nodes == ("a", "c")
    assert simulated.parents["node"].tolist() == ["a", "c"] * 20
    assert simulated.parents["parent"].tolist()[1::2] == ["b"] * 20


def test_cascades_left_empty_are_not_recorded() -> None:
    each = [["a"], ["b"], ["a", "b"]]
    simulated = simulate_cascades(
        edges(("b", "c", 1e-12)),
        3,
        nodes=list("abcd"),
        horizon=[1.0, 2.0, 3.0],
        seeds=each,
        unobserved=["b"],
        seed=1,
    )
    assert simulated.cascades.labels == (0, 2)
    assert simulated.cascades.horizon.tolist() == [1.0, 3.0]
    with pytest.raises(ValueError, match="unobserved: no infection is left to observe"):
        simulate_cascades(
            edges(("b", "c", 1.0)),
            2,
            nodes=list("abcd"),
            horizon=1.0,
            seeds=["b"],
            unobserved=["b", "c"],
        )


def test_given_seeds() -> None:
    network = edges((0, 1, 1e-12))

    def seeds(value: Any, n: int = 2) -> list[tuple[int, int, float]]:
        simulated = simulate_cascades(
            network, n, nodes=range(6), seeds=value, start=(3.0, 3.0), window=2.0, seed=0
        )
        frame = simulated.parents
        assert set(frame["kind"]) == {"seed"}
        return list(frame[["cascade", "node", "time"]].itertuples(index=False, name=None))

    assert seeds([4, 2]) == [(0, 2, 3.0), (0, 4, 3.0), (1, 2, 3.0), (1, 4, 3.0)]
    assert seeds({4: 0.0, 2: 0.5}, 1) == [(0, 4, 3.0), (0, 2, 3.5)]
    assert seeds([[1], {3: 1.0, 5: 9.0}]) == [(0, 1, 3.0), (1, 3, 4.0)]
    assert seeds(np.array([5]), 1) == [(0, 5, 3.0)]


def test_a_seed_infected_before_its_time_has_a_parent() -> None:
    simulated = simulate_cascades(
        edges((0, 1, 1e6)), 1, seeds={0: 0.0, 1: 5.0}, horizon=9.0, seed=0
    )
    assert simulated.parents["kind"].tolist() == ["seed", "edge"]


def test_of_horizon_and_window_the_earlier_counts(small: pd.DataFrame) -> None:
    simulated = simulate_cascades(
        small, 40, horizon=5.0, window=2.0, start=(0.0, 4.9), background=0.02, seed=0
    )
    cascades = simulated.cascades
    assert cascades.horizon == pytest.approx(np.minimum(5.0, cascades.start + 2.0))
    assert (cascades.time <= np.repeat(cascades.horizon, np.diff(cascades.offset))).all()


def test_universe_is_that_of_the_network_unless_given() -> None:
    network = community_network(2, 3, 0.4, 0.0, seed=1)
    bare = network.copy()
    bare.attrs.clear()
    with_edges = set(network["source"]) | set(network["target"])
    assert simulate_cascades(network, 3, horizon=1.0).cascades.nodes == tuple(range(6))
    assert simulate_cascades(bare, 3, horizon=1.0).cascades.nodes == tuple(sorted(with_edges))
    order = (5, 4, 3, 2, 1, 0)
    assert simulate_cascades(network, 3, nodes=order, horizon=1.0).cascades.nodes == order


def test_int_and_str_labels_are_one(small: pd.DataFrame) -> None:
    text = small.astype({"source": str, "target": str})
    text.attrs = small.attrs
    one = simulate_cascades(small, 10, horizon=1.0, seeds=[3], seed=1)
    two = simulate_cascades(text, 10, horizon=1.0, seeds=["3"], seed=1)
    assert one.cascades == two.cascades
    pd.testing.assert_frame_equal(one.parents, two.parents)


# Determinism


def test_one_seed_determines_every_byte(small: pd.DataFrame) -> None:
    def run(seed: Any, n: int = 25) -> SimulatedCascades:
        return simulate_cascades(small, n, horizon=1.5, n_seeds=2, background=0.02, seed=seed)

    one = run(7)
    assert one.cascades.fingerprint == run(7).cascades.fingerprint
    assert one.cascades.fingerprint == run(np.random.default_rng(7)).cascades.fingerprint
    assert one.cascades.fingerprint != run(8).cascades.fingerprint
    pd.testing.assert_frame_equal(one.parents, run(7).parents)
    longer = run(7, 40).parents
    pd.testing.assert_frame_equal(one.parents, longer[longer["cascade"] < 25])


def test_rows_of_the_network_may_come_in_any_order(small: pd.DataFrame) -> None:
    shuffled = small.sample(frac=1.0, random_state=1)
    one = simulate_cascades(small, 25, horizon=1.5, seed=7)
    assert one.cascades == simulate_cascades(shuffled, 25, horizon=1.5, seed=7).cascades


MAKERS: dict[str, Callable[[int], pd.DataFrame]] = {
    "kronecker": lambda seed: kronecker_network("hierarchical", 128, 300, seed=seed),
    "community": lambda seed: community_network(3, 20, 0.2, 0.1, seed=seed),
    "model": lambda seed: model_network(100, 4, 500, seed=seed)[0],
    "networkx": lambda seed: from_networkx(nx.path_graph(50), seed=seed),
    "varying": lambda seed: vary_rates(
        kronecker_network("random", 16, 30, seed=0), "mix", (0.0, 9.0), 20, seed=seed
    ),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_networks_are_valid_and_determined_by_their_seed(
    make: Callable[[int], pd.DataFrame], seed: int
) -> None:
    network = make(seed)
    pd.testing.assert_frame_equal(network, make(seed))
    assert not network.equals(make(seed + 1))
    columns = ["source", "target", "rate", *(["start"] if "start" in network else [])]
    assert list(network.columns) == columns
    assert not network.duplicated([c for c in columns if c != "rate"]).any()
    assert (network["source"] != network["target"]).all()
    assert (network["rate"] >= 0).all() and np.isfinite(network["rate"]).all()
    ends = set(network["source"]) | set(network["target"])
    assert ends <= set(network.attrs["nodes"])


# Networks


@pytest.mark.parametrize("kind", ["core-periphery", "hierarchical", "random"])
def test_kronecker_has_as_many_edges_as_asked(kind: str) -> None:
    network = kronecker_network(kind, 256, 700, rate=(0.01, 0.25), seed=3)
    assert len(network) == 700
    assert network["rate"].between(0.01, 0.25).all()
    assert network[["source", "target"]].max().max() < 256
    assert network.attrs["nodes"] == tuple(range(256))


def test_kronecker_drops_edges_by_its_initiator(seed: int) -> None:
    """One edge between 4 nodes, many times: its top quadrants, and the pairs without loops."""
    matrix = np.array([[0.5, 0.2], [0.1, 0.2]])
    rng = np.random.default_rng(seed)
    n = 2000
    drawn = pd.concat([kronecker_network(matrix, 4, 1, seed=rng) for _ in range(n)])
    power = np.kron(matrix, matrix)
    np.fill_diagonal(power, 0.0)
    power /= power.sum()
    counts = np.zeros((4, 4))
    np.add.at(counts, (drawn["source"], drawn["target"]), 1)
    for count, p in zip(counts.ravel(), power.ravel(), strict=True):
        assert count == 0 if p == 0 else abs(z_score(count, n, p)) < Z
    assert abs(z_score(counts[1, 0], n, power[0, 1])) > Z  # transposed: a wrong direction


def test_kronecker_can_be_complete() -> None:
    assert len(kronecker_network("random", 8, 56, seed=0)) == 56
    with pytest.raises(ValueError, match="n_edges must be at most 56"):
        kronecker_network("random", 8, 57, seed=0)
    with pytest.raises(ValueError, match="n_edges must be at most 0 for this initiator"):
        kronecker_network([[1, 0], [0, 1]], 8, 1, seed=0)
    with pytest.raises(ValueError, match="n_edges = 5 is too dense for this initiator"):
        kronecker_network([[1, 1e-9], [1e-9, 1]], 4, 5, seed=0)


def test_communities_have_the_densities_asked_for(seed: int) -> None:
    network = community_network(5, 40, 0.10, 0.06, rate=0.5, seed=seed)
    source, target = network["source"] // 40, network["target"] // 40
    counts = np.zeros((5, 5))
    np.add.at(counts, (source, target), 1)
    for c in range(5):
        for other in range(5):
            if other == c:
                assert abs(z_score(counts[c, c], 40 * 39, 0.10)) < Z
            elif other == (c + 1) % 5:
                assert abs(z_score(counts[c, other], 40 * 40, 0.06)) < Z
            else:
                assert counts[c, other] == 0
    assert (network["rate"] == 0.5).all()


def test_communities_at_the_edges_of_their_range() -> None:
    assert len(community_network(1, 6, 1.0, 0.5, seed=0)) == 30
    assert len(community_network(3, 1, 1.0, 1.0, seed=0)) == 3
    assert len(community_network(2, 3, 0.0, 1.0, seed=0)) == 18


def test_model_network_of_the_issue_size() -> None:
    network, truth = model_network(
        200, 5, 1400, tau=30, gamma=60, concentration=3, rate=(0.05, 1), seed=1
    )
    assert 800 < len(network) < 1200
    assert truth.sender.shape == truth.receiver.shape == (5, 200)
    assert truth.community.shape == (len(network),)
    assert set(truth.community) <= set(range(5))
    for distribution in (truth.popularity, truth.weight, *truth.sender, *truth.receiver):
        assert distribution.sum() == pytest.approx(1.0) and (distribution > 0).all()
    assert truth.nodes == network.attrs["nodes"] == tuple(range(200))
    simulated = simulate_cascades(network, 150, horizon=0.8, seed=1)
    assert simulated.cascades.n_cascades == 150 and simulated.cascades.n_nodes == 200
    # An edge is where its community sends and receives.
    u, v, k = network["source"], network["target"], truth.community
    own = truth.weight[k] * truth.sender[k, u] * truth.receiver[k, v]
    assert np.mean(own / truth.probability(u, v)) > 0.5


def test_model_network_draws_edges_by_its_probabilities(seed: int) -> None:
    """Three draws between 3 nodes, given what was drawn: edges present with 1 - (1 - p_uv)^3.

    And over the prior, sum_u p_uu has the mean (gamma / N + 1) / (gamma + 1) of a pair of draws
    from the popularity: without the coupling it would be 1 / N.
    """
    rng = np.random.default_rng(seed)
    tokens, n, gamma = 3, 1500, 2.0
    pairs = [(u, v) for u in range(3) for v in range(3) if u != v]
    present, expected, variance, loops = np.zeros(6), np.zeros(6), np.zeros(6), []
    for _ in range(n):
        network, truth = model_network(3, 2, tokens, tau=1.5, gamma=gamma, seed=rng)
        found = set(zip(network["source"], network["target"], strict=True))
        present += [pair in found for pair in pairs]
        p = 1 - (1 - truth.probability(*np.transpose(pairs))) ** tokens
        expected += p
        variance += p * (1 - p)
        loops.append(truth.probability(range(3), range(3)).sum())
    assert np.max(np.abs(present - expected) / np.sqrt(variance)) < Z
    assert np.max(np.abs(present - 1.5 * expected) / np.sqrt(variance)) > Z
    error = np.std(loops) / math.sqrt(n)
    assert abs(np.mean(loops) - (gamma / 3 + 1) / (gamma + 1)) < Z * error
    assert abs(np.mean(loops) - 1 / 3) > Z * error


@pytest.mark.parametrize("concentration", [1e-12, 1e-3, 0.1, 50.0])
def test_dirichlet_of_any_concentration(concentration: float, seed: int) -> None:
    """No zeros or NaN, means 1/4, and E sum p^2 = (a + 1) / (4 a + 1)."""
    rng = np.random.default_rng(seed)
    draws = sample_dirichlet(rng, np.full((4000, 4), concentration))
    assert np.isfinite(draws).all() and draws.min() >= DIRICHLET_FLOOR
    assert draws.sum(axis=1) == pytest.approx(np.ones(4000))
    sd = math.sqrt(3 / 16 / (4 * concentration + 1) / 4000)
    assert np.abs(draws.mean(axis=0) - 0.25).max() < Z * sd
    square = (draws**2).sum(axis=1)
    expected = (concentration + 1) / (4 * concentration + 1)
    assert abs(square.mean() - expected) < Z * np.std(square) / math.sqrt(4000) + 1e-6


def test_from_networkx() -> None:
    graph = nx.Graph([("a", "b", {"w": 2.0}), ("b", "c", {"w": 0.5}), ("c", "c", {"w": 1.0})])
    graph.add_node("alone")
    network = from_networkx(graph, rate="w")
    rows = set(network.itertuples(index=False, name=None))
    assert rows == {("a", "b", 2.0), ("b", "a", 2.0), ("b", "c", 0.5), ("c", "b", 0.5)}
    assert set(network.attrs["nodes"]) == {"a", "b", "c", "alone"}
    directed = from_networkx(nx.MultiDiGraph([(1, 2), (1, 2), (2, 3)]), rate=0.3)
    assert directed.values.tolist() == [[1, 2, 0.3], [2, 3, 0.3]]
    with pytest.raises(ValueError, match=r"edge 'a' -> 'b' has no number 'speed'; got None"):
        from_networkx(graph, rate="speed")
    with pytest.raises(ValueError, match="graph must have an edge"):
        from_networkx(nx.empty_graph(3))
    with pytest.raises(TypeError, match="graph must be a networkx graph; got int"):
        from_networkx(3)


# Rates that vary


def pieces_of(pattern: str, n_pieces: int = 200, seed: int = 0) -> np.ndarray:
    """Rates of 50 edges whose static rate is 2, shape (50, n_pieces)."""
    static = kronecker_network("random", 16, 50, rate=2.0, seed=1)
    varied = vary_rates(static, pattern, (10.0, 20.0), n_pieces, seed=seed)
    assert len(varied) == 50 * n_pieces
    assert varied["start"].tolist() == pytest.approx(
        (10 + np.arange(n_pieces) / n_pieces * 10).tolist() * 50
    )
    assert varied.attrs == static.attrs
    rates = varied["rate"].to_numpy().reshape(50, n_pieces)
    pairs = varied[["source", "target"]].iloc[::n_pieces].reset_index(drop=True)
    pd.testing.assert_frame_equal(pairs, static[["source", "target"]])
    return rates


def test_patterns() -> None:
    assert (pieces_of("constant") == 2.0).all()

    slab = pieces_of("slab")
    assert set(np.unique(slab)) == {0.0, 2.0}
    assert (np.abs(np.diff(slab, axis=1)).sum(axis=1) <= 4.0).all()  # on once, off once
    assert ((slab > 0).mean(axis=1) > 0.19).all() and ((slab > 0).mean(axis=1) < 0.51).all()

    hump = pieces_of("hump")
    assert hump.max(axis=1) == pytest.approx(np.full(50, 2.0), rel=1e-2)
    rising = np.diff(np.sign(np.diff(hump, axis=1)), axis=1)
    assert ((rising < 0).sum(axis=1) <= 2).all() and (hump == 0).any(axis=1).all()
    assert ((hump > 0).mean(axis=1) > 0.29).all() and ((hump > 0).mean(axis=1) < 0.71).all()

    square = pieces_of("square")
    assert set(np.unique(square)) == {0.0, 2.0}
    assert ((np.diff(square, axis=1) != 0).sum(axis=1) >= 3).all()

    saw = pieces_of("chainsaw")
    assert (saw >= 0).all() and (saw <= 2.0).all()
    assert ((np.diff(saw, axis=1) < 0).sum(axis=1) >= 1).all()
    assert ((np.diff(saw, axis=1) > 0).mean(axis=1) > 0.9).all()

    walk = pieces_of("random-walk")
    assert (walk[:, 0] == 2.0).all() and (walk >= 0).all() and (walk <= 4.0).all()
    steps = np.diff(walk, axis=1) / 2.0
    assert np.std(steps) == pytest.approx(1 / math.sqrt(200), rel=0.1)


def test_mixed_patterns_differ_between_edges() -> None:
    mixed = pieces_of("mix")
    assert 0 < (mixed == 2.0).all(axis=1).sum() < 50
    static = kronecker_network("random", 16, 50, rate=2.0, seed=1)
    two = vary_rates(static, ["slab", "square"], (0.0, 1.0), 50, seed=0)
    assert set(two["rate"]) == {0.0, 2.0}


def test_rates_at_a_time() -> None:
    network = edges((0, 1, 0.5, 0.0), (0, 1, 0.7, 2.0), (1, 0, 0.9, 1.0), varying=True)
    for time, expected in ((-1.0, [0, 0]), (0.0, [0.5, 0]), (1.5, [0.5, 0.9]), (9.0, [0.7, 0.9])):
        now = rates_at(network, time)
        assert now[["source", "target"]].values.tolist() == [[0, 1], [1, 0]]
        assert now["rate"].tolist() == expected
    static = edges((0, 1, 0.5))
    pd.testing.assert_frame_equal(rates_at(static, 3.0), static)


# Wrong arguments


GOOD = {"network": edges((0, 1, 1.0)), "n_cascades": 3, "horizon": 1.0}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"network": edges((0, 1, 1.0)).drop(columns="rate")}, "network .* missing rate"),
    ({"network": edges((0, 1, -1.0))}, "network: rate must not be negative; got -1.0"),
    ({"network": edges((0, 1, np.nan))}, "network: rate must be finite; got nan"),
    ({"network": edges((0, 1, "fast"))}, "network: rate must hold numbers"),
    ({"network": edges((0, 1, 1.0, np.inf), varying=True)}, "network: start must be finite"),
    ({"network": edges((0, 0, 1.0))}, "an edge must join two nodes"),
    ({"network": edges((0, 1, 1.0), (0, 1, 2.0))}, "occurs twice"),
    ({"network": edges((0, 1.5, 1.0))}, r"labels must be integers or strings; got 1.5"),
    ({"n_cascades": 0}, "n_cascades must be a whole number, at least 1; got 0"),
    ({"n_cascades": 2.5}, "n_cascades must be a whole number"),
    ({"nodes": [0]}, "network must hold known nodes; '1' is not among nodes"),
    ({"nodes": [0, 1, 1]}, "nodes must be distinct"),
    ({"delay": "cubic"}, "delay must be one of exponential"),
    ({"delay": "weibull", "theta": [-1.0]}, "theta: k of the delay 'weibull' must be positive"),
    ({"horizon": None}, "horizon or window must be given"),
    ({"horizon": np.nan}, "horizon must be finite"),
    ({"horizon": [1.0, 2.0]}, "horizon must be one number or one for each of 3 cascades"),
    ({"start": (0.0, 2.0)}, "horizon must be finite and not before the latest start, 2.0"),
    ({"start": (2.0, 1.0)}, "start must be finite and increasing"),
    ({"start": 1.0}, r"start must be a pair \(low, high\); got 1.0"),
    ({"window": 0.0}, "window must be positive and finite; got 0.0"),
    ({"background": -0.1}, "background must be finite and not negative; got -0.1"),
    ({"seeds": "all"}, 'seeds must be "random", a sequence or a mapping'),
    ({"seeds": [7]}, "seeds must hold known nodes; '7' is not among nodes"),
    ({"seeds": []}, "seeds must name at least one node"),
    ({"seeds": [[0], [1]]}, "one entry for each of 3 cascades; got 2"),
    ({"seeds": [[0], [1], []]}, "seeds must name at least one node in every cascade"),
    ({"seeds": {0: -1.0}}, "seeds: delays must be finite and not negative"),
    ({"n_seeds": 3}, "n_seeds must be at most the 2 nodes; got 3"),
    ({"unobserved": [9]}, "unobserved must hold known nodes; '9' is not among nodes"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[m for _, m in WRONG])
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    simulate_cascades(**GOOD, seed=0)
    with pytest.raises(ValueError, match=message):
        simulate_cascades(**{**GOOD, **change}, seed=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kronecker_network("ring", 8, 3), "kind must be one of core-periphery"),
        (lambda: kronecker_network([[1, 2, 3]], 8, 3), r"kind must be a 2 x 2 matrix"),
        (lambda: kronecker_network([[1, -1], [0, 1]], 8, 3), "kind must be finite, non-negative"),
        (lambda: kronecker_network("random", 12, 3), "n_nodes must be a power of two; got 12"),
        (lambda: kronecker_network("random", 8, 3, rate=(2, 1)), "rate must be finite and incr"),
        (lambda: kronecker_network("random", 8, 3, rate=-1.0), "rate must be finite and not neg"),
        (lambda: kronecker_network("random", 8, 3, rate="x"), "rate must be a pair"),
        (lambda: community_network(2, 0), "size must be a whole number, at least 1; got 0"),
        (lambda: community_network(2, 4, within=1.5), "within must be between 0 and 1; got 1.5"),
        (lambda: model_network(10, 2, 5, tau=0.0), "tau must be positive and finite; got 0.0"),
        (lambda: model_network(1, 2, 5), "n_nodes must be a whole number, at least 2; got 1"),
        (lambda: vary_rates(GOOD["network"], "wave"), "pattern must be of constant, hump"),
        (lambda: vary_rates(GOOD["network"], "mix", (1.0, 1.0)), "span must not be empty"),
        (lambda: vary_rates(GOOD["network"], n_pieces=0), "n_pieces must be a whole number"),
        (
            lambda: vary_rates(edges((0, 1, 1.0, 0.0), varying=True)),
            "network must have constant rates",
        ),
    ],
)
def test_wrong_network_arguments_are_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_network_must_be_a_table() -> None:
    with pytest.raises(TypeError, match="network must be a DataFrame; got list"):
        simulate_cascades([(0, 1, 1.0)], 3, horizon=1.0)
