"""InfoPath: its gradient, its optimum, its memory, networks that change, real data."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from cascadenet import Cascades, metrics, networks, read_network, simulate
from cascadenet.delays import get_delay
from cascadenet.dynamic_scores import score_dynamic
from cascadenet.errors import FormatError
from cascadenet.inference.baselines import InfoPath, NetRate, _kernels
from cascadenet.inference.baselines.infopath import _Problem
from cascadenet.inference.layout import build_layout
from cascadenet.posterior import EDGE_COLUMNS

MODELS = [("exponential", ()), ("rayleigh", ()), ("weibull", (1.4,)), ("lognormal", (0.3, 0.9))]
ENDS = np.linspace(0.0, 100.0, 6)


def cascades_of(*cascades: dict, horizon, nodes=None) -> Cascades:
    """Cascades from one {node: time} each."""
    rows = [(c, node, time) for c, one in enumerate(cascades) for node, time in one.items()]
    frame = pd.DataFrame(rows, columns=["cascade", "node", "time"])
    return Cascades.from_frame(frame, nodes=nodes, horizon=horizon)


@pytest.fixture(scope="module")
def small(seed: int) -> Cascades:
    """25 cascades over 6 nodes that start at different times."""
    rng = np.random.default_rng(seed)
    network = simulate.community_network(1, 6, within=0.6, between=0.0, seed=seed)
    data = simulate.simulate_cascades(network, 25, horizon=2.0, seed=seed).cascades
    shift = rng.uniform(0.0, 10.0, 25)
    time = data.time + np.repeat(shift, np.diff(data.offset))
    return Cascades(data.nodes, data.labels, data.offset, data.node, time, data.horizon + shift)


@pytest.fixture(scope="module")
def changing(seed: int) -> tuple[Cascades, pd.DataFrame]:
    """Edges that switch on and off, 800 cascades spread over time 0 to 100."""
    static = simulate.kronecker_network("core-periphery", 32, 60, rate=(0.3, 1.0), seed=seed)
    network = networks.vary_rates(static, ["slab", "square"], (0.0, 100.0), seed=seed)
    data = simulate.simulate_cascades(network, 800, window=2.0, start=(0.0, 99.0), seed=seed)
    return data.cascades, network


# -- the oracle: everything from loops over infections, rates (N, N) in the unit of the layout ----


def histories(cascades: Cascades, unit: float):
    for c in range(cascades.n_cascades):
        inside = slice(cascades.offset[c], cascades.offset[c + 1])
        times = (cascades.time[inside] - cascades.start[c]) / unit
        end = (cascades.horizon[c] - cascades.start[c]) / unit
        yield c, dict(zip(cascades.node[inside].tolist(), times, strict=True)), end


def naive_objective(cascades, delay, theta, unit, rate, weight, penalty) -> float:
    n, value = cascades.n_nodes, 0.0
    for c, at, end in histories(cascades, unit):
        one = 0.0
        for v in range(n):
            stop = at.get(v, math.inf)
            hazard = 0.0
            for u, s in at.items():
                if u != v and s < stop:
                    age = np.array([min(stop, end) - s])
                    one -= rate[u, v] * delay.cumulative(age, theta)[0]
                    hazard += rate[u, v] * math.exp(delay.log_hazard(age, theta)[0])
            if 0.0 < stop < math.inf:
                one += math.log(hazard)
        value += weight[c] * one
    return value - penalty * rate.sum()


def problem_of(cascades, delay="exponential", theta=(), penalty=0.3):
    delay, theta = get_delay(delay), np.array(theta, float)
    layout = build_layout(cascades)
    return layout, _Problem.of(cascades, layout, delay, theta, penalty), delay, theta


def square_of(layout, values) -> np.ndarray:
    """Values of the listed pairs as a matrix (N, N)."""
    out = np.zeros((layout.n_nodes, layout.n_nodes))
    out[layout.pair_source, layout.pair_child] = values
    return out


# -- the gradient -----------------------------------------------------------------------------


@pytest.mark.parametrize(("delay", "theta"), MODELS)
def test_mean_step_is_the_scaled_gradient(small, delay, theta, seed):
    """Finite differences of the objective against the mean of tiny steps over all cascades."""
    layout, problem, delay, theta = problem_of(small, delay, theta)
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.2, 1.0, small.n_cascades)
    rate = np.where(problem.usable, rng.uniform(0.2, 2.0, layout.n_pairs), 0.0)
    divisor, size = problem.divisor(weight), 1e-7
    mean = np.zeros(layout.n_pairs)
    for c in range(small.n_cascades):
        moved = rate.copy()
        candidates = (layout.cand_ptr, layout.cand_pair, problem.hazard)
        _kernels.gradient_steps(
            np.array([c]), np.array([size]), problem.offset, problem.row_of, *candidates,
            weight.sum() / divisor, moved, 0.0, np.zeros(layout.n_pairs),
        )  # fmt: skip
        mean += weight[c] / weight.sum() * (moved - rate) / size
    for p in np.flatnonzero(problem.usable):
        bump = np.zeros(layout.n_pairs)
        bump[p] = 1e-5
        up, down = (
            naive_objective(
                small, delay, theta, layout.unit, square_of(layout, rate + x), weight, 0.3
            )
            for x in (bump, -bump)
        )
        slope = (up - down) / 2e-5
        assert mean[p] == pytest.approx(rate[p] / divisor[p] * slope, rel=1e-4, abs=1e-5)


@pytest.mark.jit_off
@pytest.mark.parametrize(("delay", "theta"), MODELS)
def test_objective_is_that_of_the_oracle(small, delay, theta, seed):
    layout, problem, delay, theta = problem_of(small, delay, theta)
    rng = np.random.default_rng(seed)
    weight = np.where(rng.random(small.n_cascades) < 0.7, rng.random(small.n_cascades), 0.0)
    rate = np.where(problem.usable, rng.uniform(0.2, 2.0, layout.n_pairs), 0.0)
    value = problem.carried(rate, weight)[-1] - rate @ problem.divisor(weight)
    expected = naive_objective(
        small, delay, theta, layout.unit, square_of(layout, rate), weight, 0.3
    )
    assert value == pytest.approx(expected, rel=1e-10)


@pytest.mark.jit_off
def test_shrinking_is_made_up_for(small, seed):
    """Against steps that touch all pairs."""
    layout, problem, *_ = problem_of(small)
    rng = np.random.default_rng(seed)
    order, step = rng.integers(small.n_cascades, size=60), rng.uniform(0.0, 0.3, 60)
    pull = rng.uniform(0.5, 2.0, layout.n_pairs)
    rate = rng.uniform(0.1, 1.0, layout.n_pairs)
    plain = rate.copy()
    for c, s in zip(order, step, strict=True):
        q = np.zeros(layout.n_pairs)
        for i in range(small.offset[c], small.offset[c + 1]):
            m = problem.row_of[i]
            pair = layout.cand_pair[layout.cand_ptr[m] : layout.cand_ptr[m + 1]]
            q[pair] = plain[pair] / plain[pair].sum()
        plain = (1.0 - s) * plain + s * pull * q
    candidates = (layout.cand_ptr, layout.cand_pair, problem.hazard)
    last = np.zeros(layout.n_pairs)
    _kernels.gradient_steps(
        order, step, problem.offset, problem.row_of, *candidates, pull, rate, 0.0, last
    )
    np.testing.assert_allclose(rate, plain, rtol=1e-11)


def test_many_steps_reach_the_maximum(small):
    """The exact maximum is that of NetRate with the same prior; one pass is far from it."""
    best = NetRate(shrinkage=(1.0, 0.7), tolerance=1e-9).fit(small)
    pairs = best.edges()[["source", "target"]]
    unit = build_layout(small).unit
    layout, _, delay, theta = problem_of(small, penalty=0.7 / unit)
    rate = square_of(layout, 0.0 * layout.pair_source)
    ends = (small.index_of(pairs[name]) for name in ("source", "target"))
    rate[tuple(ends)] = best.edges()["rate"] * unit
    ones = np.ones(small.n_cascades)
    most = naive_objective(small, delay, theta, unit, rate, ones, 0.7 / unit)
    long = InfoPath(passes=3000.0, shrinkage=0.7).fit(small)
    short = InfoPath(passes=1.0, shrinkage=0.7).fit(small)
    assert most - 0.5 < long.objective_[0] <= most + 1e-6
    assert short.objective_[0] < most - 2.0
    near = long.edges(pairs=pairs)
    # flat directions: where two sources explain the same, steps only slowly favour one
    assert (near["n"] - best.edges()["n"]).abs().mean() < 0.2


# -- intervals and memory ---------------------------------------------------------------------


def same_pair(starts: list[float]) -> Cascades:
    """a infects b after 1, watched for 4 in all; one cascade for each start."""
    times = [{"a": s, "b": s + 1.0} for s in starts]
    return cascades_of(*times, horizon=max(starts) + 4.0)


def test_each_interval_has_its_own_cascades():
    """With alike cascades the answer is W / (exposure + penalty), whatever the steps draw."""
    data = same_pair([0.0, 1.0, 12.0, 25.0])
    fit = InfoPath(intervals=[0.0, 10.0, 20.0, 40.0], shrinkage=0.5, passes=5000).fit(data)
    n = [fit.edges(interval=j)["n"].item() for j in range(3)]
    rate = [fit.edges(interval=j)["rate"].item() for j in range(3)]
    assert n == pytest.approx([2.0, 1.0, 1.0])
    assert rate == pytest.approx([2.0 / 2.5, 1.0 / 1.5, 1.0 / 1.5], rel=1e-6)
    whole = fit.edges()
    assert whole["n"].item() == pytest.approx(4.0)
    assert whole["rate"].item() == pytest.approx(np.average(rate, weights=[10, 10, 20]), rel=1e-6)
    assert fit.n_steps_.tolist() == [10000, 5000, 5000]
    np.testing.assert_allclose(fit.boundaries_, [0.0, 10.0, 20.0, 40.0])


def test_memory_weighs_cascades_by_age():
    data = same_pair([0.0, 12.0, 25.0])
    ends = [0.0, 10.0, 20.0, 30.0]
    halving = InfoPath(intervals=ends, half_life=10.0, shrinkage=0.5, passes=5000).fit(data)
    weights = [[0.5], [0.25, 2.0**-0.8], [0.125, 2.0**-1.8, 2.0**-0.5]]
    for j, weight in enumerate(weights):
        total = sum(weight)
        row = halving.edges(interval=j).iloc[0]
        assert row["n"] == pytest.approx(total)
        assert row["rate"] == pytest.approx(total / (total + 0.5), rel=1e-6)
        assert row["rate_sd"] == pytest.approx(row["rate"] / math.sqrt(total))
    windowed = InfoPath(intervals=ends, window=15.0).fit(data)
    assert [windowed.edges(interval=j)["n"].item() for j in range(3)] == pytest.approx([1, 1, 1])
    windowed = InfoPath(intervals=ends, window=20.0).fit(data)
    assert [windowed.edges(interval=j)["n"].item() for j in range(3)] == pytest.approx([1, 2, 2])
    for fit in (halving, windowed):  # each cascade counts once in the whole
        assert fit.edges()["n"].item() == pytest.approx(3.0)


@pytest.mark.jit_off
def test_an_interval_without_cascades_keeps_the_rates():
    fit = InfoPath(intervals=[-9.0, 0.0, 5.0, 10.0]).fit(same_pair([1.0, 2.0]))
    n, rate = ([fit.edges(interval=j)[name].item() for j in range(3)] for name in ("n", "rate"))
    assert n == pytest.approx([0.0, 2.0, 0.0])
    assert rate[0] == 0.0 < rate[1] == rate[2]
    assert fit.n_steps_.tolist() == [0, 60, 0]


@pytest.mark.jit_off
def test_number_of_intervals_cuts_the_starts_evenly(small):
    fit = InfoPath(intervals=4).fit(small)
    start = small.start
    np.testing.assert_allclose(fit.boundaries_, np.linspace(start.min(), start.max(), 5))
    with_parent = small.n_infections - small.n_cascades
    assert sum(fit.edges(interval=j)["n"].sum() for j in range(4)) == pytest.approx(with_parent)
    assert fit.edges()["n"].sum() == pytest.approx(with_parent)
    one = InfoPath().fit(small)
    np.testing.assert_allclose(
        one.edges()[["prob", "n", "rate"]], one.edges(interval=0)[["prob", "n", "rate"]]
    )


def test_networks_that_change(changing):
    """Rates of intervals find what is active when, and one rate for all times cannot."""
    data, network = changing
    fit = InfoPath(intervals=ENDS).fit(data)
    each = fit.edges(interval="each")
    scores = score_dynamic(each, network, ENDS, data)
    static = InfoPath().fit(data).edges()
    alone = score_dynamic([static] * 5, network, ENDS, data)
    assert scores.auprc > 0.6 > 3.0 * scores.prevalence
    assert scores.auprc > alone.auprc + 0.1
    assert scores.rate_correlation > 0.5
    reversed_in_time = [each[each["interval"] == j] for j in range(5)][::-1]
    assert score_dynamic(reversed_in_time, network, ENDS, data).auprc < scores.auprc - 0.2


# -- tables -----------------------------------------------------------------------------------


def test_tables_are_ranked_and_agree(small):
    fit = InfoPath(intervals=3).fit(small)
    each = fit.edges(interval="each")
    assert list(each.columns) == [*EDGE_COLUMNS, "interval"]
    for j in range(3):
        table = fit.edges(interval=j)
        assert list(table.columns) == EDGE_COLUMNS
        order = table.sort_values(["prob", "n", "rate"], ascending=False, kind="stable")
        assert order.index.tolist() == list(range(len(table)))
        here = each[each["interval"] == j].drop(columns="interval").reset_index(drop=True)
        pd.testing.assert_frame_equal(here, table)
        pd.testing.assert_frame_equal(fit.edges(interval=j, top=3), table.head(3))
        shuffled = table.iloc[::-1].reset_index(drop=True)
        pd.testing.assert_frame_equal(fit.edges(pairs=shuffled, interval=j), shuffled)
    assert len(fit.edges(interval="each", top=2)) == 6
    assert table["prob"].between(0.0, 1.0).all()


@pytest.mark.jit_off
def test_rates_follow_the_intervals(small):
    fit = InfoPath(intervals=3).fit(small)
    ends = fit.boundaries_
    pairs = [(0, 1), (4, 2)]
    times = [ends[0], ends[1], (ends[1] + ends[2]) / 2.0, ends[3]]
    table = fit.rates(times, pairs)
    assert list(table.columns) == ["time", "source", "target", "rate"]
    expected = [fit.edges(pairs=pairs, interval=j)["rate"] for j in (0, 1, 1, 2)]
    np.testing.assert_array_equal(table["rate"], np.concatenate(expected))
    assert table["source"].tolist() == [0, 4] * 4
    assert len(fit.rates(ends[0])) == len(fit.edges())
    with pytest.raises(ValueError, match="times must lie within the intervals"):
        fit.rates(ends[3] + 1.0)
    with pytest.raises(ValueError, match="times must lie within the intervals"):
        fit.rates(math.nan)


@pytest.mark.jit_off
def test_the_seed_decides(small):
    tables = [InfoPath(intervals=2).fit(small, seed=s).edges(interval="each") for s in (1, 1, 2)]
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
    assert not tables[0]["rate"].equals(tables[2]["rate"])
    drawn = InfoPath(intervals=2).fit(small, seed=np.random.default_rng(1)).edges(interval="each")
    pd.testing.assert_frame_equal(tables[0], drawn, check_exact=True)


@pytest.mark.parametrize(("delay", "exponent"), [("exponential", 1), ("rayleigh", 2), ("decay", 0)])
def test_rescaled_times_rescale_only_rates(small, delay, exponent):
    scaled = Cascades(
        small.nodes, small.labels, small.offset, small.node, small.time * 64.0, small.horizon * 64.0
    )
    table, other = (
        InfoPath(delay, intervals=2).fit(x).edges(interval="each") for x in (small, scaled)
    )
    pd.testing.assert_frame_equal(other[EDGE_COLUMNS[:4]], table[EDGE_COLUMNS[:4]], rtol=1e-12)
    np.testing.assert_allclose(other["rate"] * 64.0**exponent, table["rate"], rtol=1e-12)
    given = InfoPath(delay, shrinkage=0.4 / 64.0**-exponent).fit(scaled).edges()
    np.testing.assert_allclose(
        given["rate"] * 64.0**exponent, InfoPath(delay, shrinkage=0.4).fit(small).edges()["rate"]
    )


@pytest.mark.jit_off
def test_nothing_but_seeds():
    data = cascades_of({"a": 0.0}, {"b": 1.0, "c": 1.0}, horizon=2.0)
    fit = InfoPath(intervals=2).fit(data)
    assert fit.edges().empty
    assert list(fit.edges(interval="each").columns) == [*EDGE_COLUMNS, "interval"]
    assert fit.edges(pairs=[("a", "b")])["rate"].item() == 0.0


# -- wrong arguments --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delay": "gamma"}, "delay must be one of"),
        ({"theta": [1.0]}, "theta of the delay 'exponential'"),
        ({"intervals": 0}, "intervals must be a whole number"),
        ({"intervals": [3.0]}, "a number or at least two times"),
        ({"intervals": "ten"}, "a number or at least two times"),
        ({"intervals": [0.0, 2.0, 1.0]}, "intervals must be finite and increase"),
        ({"window": 0.0}, "window must be a finite positive"),
        ({"half_life": math.inf}, "half_life must be a finite positive"),
        ({"window": 1.0, "half_life": 1.0}, "exclude each other"),
        ({"passes": 0.0}, "passes must be a finite positive"),
        ({"shrinkage": -1.0}, "shrinkage must be a finite positive"),
    ],
)
def test_wrong_settings(small, settings, message):
    with pytest.raises(ValueError, match=message):
        InfoPath(**settings).fit(small)


def test_wrong_use(small):
    with pytest.raises(ValueError, match="this InfoPath is not fitted"):
        InfoPath().edges()
    with pytest.raises(ValueError, match="this InfoPath is not fitted"):
        InfoPath().rates(1.0)
    with pytest.raises(TypeError, match="cascades must be a Cascades"):
        InfoPath().fit(small.to_frame())
    fit = InfoPath(intervals=2).fit(small)
    for interval in (2, -1, 0.0, "all", True):
        with pytest.raises(ValueError, match="interval must be 0 to 1 or 'each'"):
            fit.edges(interval=interval)
    with pytest.raises(ValueError, match="intervals must be 1 where all cascades start"):
        InfoPath(intervals=2).fit(cascades_of({"a": 0.0, "b": 1.0}, horizon=2.0))
    with pytest.raises(FormatError, match="positive hazard"):
        InfoPath("powerlaw", theta=[100.0]).fit(small)


# -- published data ---------------------------------------------------------------------------


def published(folder, name, **reading):
    data = folder / "cascades" / name
    if not (data / "cascades.csv.gz").is_file():
        pytest.skip(f"no data set {name} in {folder}")
    truth = pd.read_csv(data / "edges.csv.gz")
    return Cascades.read_csv(data / "cascades.csv.gz", **reading), truth


def test_better_than_the_published_program_on_kronecker(shared_data):
    """Its AUPRC is 0.527 after 10 000 iterations, by rate; 10 010 are made here."""
    data, truth = published(shared_data, "netrate-kronecker", nodes=range(1024), horizon=10.0)
    fit = InfoPath(passes=10.0).fit(data)
    assert fit.n_steps_.tolist() == [10010]
    assert metrics.score_edges(fit.edges(), truth, data).auprc >= 0.87
    assert metrics.score_edges(fit.edges(), truth, data, score="rate").auprc >= 0.7


def test_better_than_the_published_program_on_its_example(shared_data):
    """0.988, the mean over steps with a window of 10 and 10 000 iterations each."""
    data, truth = published(shared_data, "infopath-example", window=10.0)
    fit = InfoPath(intervals=np.linspace(0.0, 100.0, 11), passes=100.0).fit(data)
    assert metrics.score_edges(fit.edges(), truth, data).auprc >= 0.988


def test_published_network_that_changes(shared_data):
    folder = shared_data / "cascades" / "dyn-hier"
    if not (folder / "cascades.txt.gz").is_file():
        pytest.skip(f"no data set dyn-hier in {shared_data}")
    data = Cascades.read_snap(folder / "cascades.txt.gz", window=10.0)
    network = read_network(folder / "network.txt.gz")
    ends = np.linspace(0.0, 100.0, 11)
    each = InfoPath(intervals=ends).fit(data).edges(interval="each")
    scores = score_dynamic(each, network, ends, data)
    assert scores.auprc >= 0.89
    assert scores.rate_correlation >= 0.7
    static = score_dynamic([InfoPath().fit(data).edges()] * 10, network, ends, data)
    assert static.auprc <= scores.auprc - 0.05
