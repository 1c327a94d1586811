"""Tables say what the draws say, in any unit of time; exports and files lose nothing.

A fit is repeated here draw by draw from the parts it is made of, so that every number of a table
can be computed from the draws themselves.
"""

from __future__ import annotations

import io
import json
import math
import re
import sys
import types
import warnings
import zipfile
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import brentq
from scipy.special import gammainc

import cascadenet as cn
from cascadenet import archive, simulate
from cascadenet.edge_sums import EdgeSums
from cascadenet.errors import FormatError
from cascadenet.files import atomic_path
from cascadenet.inference import coupled_hdp
from cascadenet.inference.layout import build_layout
from cascadenet.inference.rates import collapsed_rate
from cascadenet.inference.sampler import Chain
from cascadenet.posterior import EDGE_COLUMNS, Posterior
from tests import naive

N_NODES = 14  # the last but one has no edge, the last is in no cascade
RUN = {"draws": 60, "tune": 40, "chains": 2}
SETTINGS = {
    "hdp": {},
    "flat": {"prior": "flat"},
    "tree": {"likelihood": "tree"},
    "flat tree": {"likelihood": "tree", "prior": "flat", "delay": "rayleigh"},
    "background": {"background": True, "delay": "decay"},
    "open world": {"open_world": 0.2, "null_community": False},
    "capped": {"max_candidates": 2, "delay": "weibull"},
    "unbalanced": {"balance_exposure": False, "delay": "lognormal"},
}


def some_cascades(seed: int, n_cascades: int = 40) -> cn.Cascades:
    """Cascades of two communities of six nodes, with ties, singletons and an idle node."""
    network = simulate.community_network(2, 6, 0.6, 0.05, rate=(0.2, 1.0), seed=seed)
    found = simulate.simulate_cascades(
        network, n_cascades, nodes=range(N_NODES - 1), horizon=2.0, seed=seed
    ).cascades
    # times in hundredths tie now and then
    time = np.ceil(found.time * 100.0) / 100.0
    order = np.lexsort((found.node, time, np.repeat(range(len(found)), np.diff(found.offset))))
    return cn.Cascades.from_arrays(
        range(N_NODES), found.offset, found.node[order], time[order], 2.0, found.labels
    )


def fitted(cascades: cn.Cascades, seed: int, run: dict | None = None, **settings) -> Posterior:
    """A posterior by short chains, the warning about which is not shown."""
    model = cn.CoupledHDP(**{"truncation": 6} | settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the chains have not mixed", UserWarning)
        return model.fit(cascades, seed=seed, progress=False, **(run or RUN)).posterior_


def relabelled(cascades: cn.Cascades, nodes) -> cn.Cascades:
    c = cascades
    return cn.Cascades.from_arrays(nodes, c.offset, c.node, c.time, c.horizon, c.labels)


def in_unit(cascades: cn.Cascades, factor: float) -> cn.Cascades:
    c = cascades
    time, horizon = c.time * factor, c.horizon * factor
    return cn.Cascades.from_arrays(c.nodes, c.offset, c.node, time, horizon, c.labels)


@pytest.fixture(scope="module")
def cascades(seed) -> cn.Cascades:
    return some_cascades(seed)


@pytest.fixture(scope="module")
def posterior(cascades, seed) -> Posterior:
    return fitted(cascades, seed)


@pytest.fixture(scope="module", params=SETTINGS)
def any_posterior(request, cascades, seed) -> Posterior:
    return fitted(cascades, seed, **SETTINGS[request.param])


# ----------------------------------------------------------------------------- the draws themselves


@dataclass(frozen=True)
class Draw:
    """One recorded draw: Gamma shape r, collapsed rate b + E, n of all pairs; user's rate unit."""

    shape: np.ndarray
    rate: np.ndarray
    n: np.ndarray
    unit: float


def replay(cascades: cn.Cascades, seed: int, **settings) -> list[Draw]:
    """The draws that `fitted` records, chain after chain."""
    model = cn.CoupledHDP(**{"truncation": 6} | settings)._model(cascades)
    layout = build_layout(
        cascades, background=model.background, max_candidates=settings.get("max_candidates")
    )
    draws = []
    for entropy in np.random.SeedSequence(seed).spawn(RUN["chains"]):
        chain = Chain(layout, model, np.random.default_rng(entropy))
        for sweep in range(RUN["tune"] + RUN["draws"]):
            chain.adapting = sweep < RUN["tune"]
            chain.holding = sweep < RUN["tune"] // coupled_hdp.HOLD_SHARE
            chain.sweep()
            if sweep >= RUN["tune"]:
                state = chain.state
                unit = layout.unit ** -model.delay.rate_exponent(state.theta)
                draws.append(
                    Draw(state.shape.copy(), collapsed_rate(chain), state.n_pair + 0, unit)
                )
    return draws


def exact_moments(draws: list[Draw], row: int) -> tuple[float, float]:
    """Mean and standard deviation of the mixture of all draws' Gamma laws."""
    means, squares = [], []
    for draw in draws:
        s, scale = draw.shape[row] + draw.n[row], draw.unit / draw.rate[row]
        means.append(s * scale)
        squares.append(s * (s + 1.0) * scale**2)
    return float(np.mean(means)), math.sqrt(np.mean(squares) - np.mean(means) ** 2)


def share_below(draws: list[Draw], row: int, x: float) -> float:
    """Distribution function of that mixture."""
    s = np.array([draw.shape[row] + draw.n[row] for draw in draws])
    rate = np.array([draw.rate[row] / draw.unit for draw in draws])
    return float(gammainc(s, rate * x).mean())


@pytest.fixture(scope="module", params=["hdp", "flat", "background", "capped", "unbalanced"])
def replayed(request, cascades, seed):
    settings = SETTINGS[request.param]
    posterior = fitted(cascades, seed, **settings)
    rows = {
        (posterior.nodes[u], posterior.nodes[v]): row
        for row, (u, v) in enumerate(zip(posterior.pair_source, posterior.pair_target, strict=True))
        if u >= 0
    }
    return posterior, replay(cascades, seed, **settings), rows


def test_probability_and_count_are_means_over_draws(replayed):
    posterior, draws, rows = replayed
    table = posterior.edges()
    assert len(table) == len(rows)
    for pair in table.itertuples():
        n = [int(draw.n[rows[pair.source, pair.target]]) for draw in draws]
        assert pair.prob == np.mean([k > 0 for k in n])
        assert pair.n == np.mean(n)


def test_rate_moments_are_those_of_the_mixture_over_draws(replayed):
    """To float32's precision, which is how a pair's moments are kept until it is used."""
    posterior, draws, rows = replayed
    for pair in posterior.edges().itertuples():
        mean, sd = exact_moments(draws, rows[pair.source, pair.target])
        assert pair.rate == pytest.approx(mean, rel=1e-6)
        assert pair.rate_sd == pytest.approx(sd, rel=1e-6)


def mixture_point(draws: list[Draw], row: int, q: float) -> float:
    """Quantile of the mixture over draws; 0 below 1e-9."""
    low, high = math.log(1e-9), math.log(1e9)
    if share_below(draws, row, 1e-9) > q:
        return 0.0
    return math.exp(brentq(lambda x: share_below(draws, row, math.exp(x)) - q, low, high))


@pytest.mark.parametrize("replayed", ["hdp", "flat", "capped"], indirect=True)
def test_interval_is_that_of_the_mixture_over_draws(replayed):
    """Two Gamma laws stand for one in each draw: ends are within 0.6 of the rate's standard
    deviation, 0.1 on average. A single Gamma law of the same moments, which is what the interval
    must be better than, misses the upper end by more."""
    posterior, draws, rows = replayed
    table = posterior.edges()
    assert (table.rate_low <= table.rate_high).all()
    errors = {"low": [], "high": [], "one Gamma": []}
    for pair in table.itertuples():
        row = rows[pair.source, pair.target]
        low, high = (mixture_point(draws, row, q) for q in (0.03, 0.97))
        shape = (pair.rate / pair.rate_sd) ** 2
        single = stats.gamma.ppf(0.97, shape, scale=pair.rate / shape)
        ends = (pair.rate_low - low, pair.rate_high - high, single - high)
        for name, end in zip(errors, ends, strict=True):
            errors[name].append(abs(end) / pair.rate_sd)
    for name in ("low", "high"):
        assert max(errors[name]) < 0.6
        assert np.mean(errors[name]) < 0.1
    assert np.mean(errors["one Gamma"]) > 1.3 * np.mean(errors["high"])


def cumulative_hazard(name: str, unit: float, delay: float) -> float:
    """H of a delay in the user's unit, for models without parameters."""
    return naive.cumulative_hazard(name, (), delay / unit)


def test_rates_of_pairs_that_never_met_are_prior_over_exposure(cascades, seed):
    """From the network draws and the definition of exposure, to 1e-5: networks are float32."""
    tales = naive.stories(cascades)
    for settings in ({}, {"prior": "flat", "delay": "rayleigh"}):
        posterior = fitted(cascades, seed, **settings)
        met = set(zip(posterior.pair_source, posterior.pair_target, strict=True))
        nodes = range(N_NODES)
        unmet = [(u, v) for u in nodes for v in nodes if u != v and (u, v) not in met]
        assert any(v == N_NODES - 1 for _, v in unmet)
        table = posterior.edges(pairs=unmet)
        assert (table.prob == 0.0).all()
        assert (table.n == 0.0).all()
        name, unit = posterior.settings["delay"], posterior.unit
        power = {"exponential": 1, "rayleigh": 2}[name]
        cumulative = partial(cumulative_hazard, name, unit)
        for pair in table.itertuples():
            e = naive.exposure(tales, pair.source, pair.target, None, cumulative)
            means = []
            for net in posterior.networks:
                p = 1.0 / (N_NODES * (N_NODES - 1))
                if not settings:
                    p = naive.edge_probability(
                        net["weight"], net["sender"], net["receiver"], pair.source, pair.target
                    )
                means.append(net["total"] * p / (net["b"] + e) / unit**power)
            assert pair.rate == pytest.approx(np.mean(means), rel=1e-5)
            assert pair.rate_low <= pair.rate_high


def test_tree_weights_are_edge_probabilities(cascades, seed):
    """Under the tree likelihood the column holds the weight p, which has no unit of time."""
    table = fitted(cascades, seed, likelihood="tree", prior="flat").edges()
    p = 1.0 / (N_NODES * (N_NODES - 1))
    for column in ("rate", "rate_low", "rate_high"):
        np.testing.assert_allclose(table[column], p, rtol=1e-5)
    np.testing.assert_allclose(table.rate_sd, 0.0, atol=1e-6 * p)
    posterior = fitted(cascades, seed, likelihood="tree")
    everything = [(u, v) for u in range(N_NODES) for v in range(N_NODES) if u != v]
    assert 0.5 < posterior.edges(pairs=everything).rate.sum() <= 1.0


# -------------------------------------------------------------------------------------- edge tables


def test_table_is_tidy_and_best_first(any_posterior):
    table = any_posterior.edges()
    assert list(table.columns) == EDGE_COLUMNS
    assert list(table.index) == list(range(len(table)))
    assert table.prob.between(0.0, 1.0).all()
    assert np.isfinite(table.drop(columns=["source", "target"]).to_numpy()).all()
    keys = list(zip(table.prob, table.n, table.rate, strict=True))
    assert keys == sorted(keys, reverse=True)
    assert not table.duplicated(["source", "target"]).any()
    assert (table.source != table.target).all()
    assert (table.n >= table.prob).all()
    if any_posterior.settings["likelihood"] == "survival":
        assert (table.rate_sd > 0.0).all()


def test_every_infection_has_one_parent(any_posterior, cascades):
    """The expected transmissions of all pairs, the background included, sum to the infections
    that are no seeds."""
    first = np.repeat(cascades.start, np.diff(cascades.offset))
    total = any_posterior.edges().n.sum()
    if any_posterior.settings["background"]:
        total += any_posterior.background().n.sum()
    assert total == pytest.approx((cascades.time > first).sum())


def test_pairs_come_in_the_order_asked(posterior):
    best = posterior.edges(top=3)
    asked = [(13, 0), (0, 13), *zip(best.target, best.source, strict=True), (5, 12)]
    asked += list(zip(best.source, best.target, strict=True)) * 2
    table = posterior.edges(pairs=asked)
    assert list(zip(table.source, table.target, strict=True)) == asked
    assert list(table.columns) == EDGE_COLUMNS
    for part in (table.iloc[-3:], table.iloc[-6:-3]):
        pd.testing.assert_frame_equal(part.reset_index(drop=True), best)
    pd.testing.assert_frame_equal(posterior.edges(pairs=iter(asked)), table)
    pd.testing.assert_frame_equal(posterior.edges(pairs=pd.DataFrame(table)), table)
    pd.testing.assert_frame_equal(posterior.edges(pairs=asked, top=4), table.iloc[:4])
    assert list(posterior.edges(pairs=[]).columns) == EDGE_COLUMNS
    assert len(posterior.edges(pairs=[])) == 0


@pytest.mark.parametrize("top", [0, 1, 7, 10**6, None])
def test_top_takes_the_first_rows(posterior, top):
    whole = posterior.edges()
    pd.testing.assert_frame_equal(posterior.edges(top=top), whole.iloc[:top])


def test_tables_hold_labels(cascades, posterior, seed):
    names = [f"π{chr(0x4E00 + i)} {i}" for i in range(N_NODES)]
    other = fitted(relabelled(cascades, names), seed)
    table, plain = other.edges(), posterior.edges()
    assert table.source.tolist() == [names[u] for u in plain.source]
    assert table.target.tolist() == [names[v] for v in plain.target]
    pd.testing.assert_frame_equal(table.iloc[:, 2:], plain.iloc[:, 2:])
    pd.testing.assert_frame_equal(
        other.edges(pairs=[(names[13], names[2])]).iloc[:, 2:],
        posterior.edges(pairs=[(13, 2)]).iloc[:, 2:],
    )
    assert other.communities().node.tolist() == names
    assert set(other.to_networkx().nodes) == set(names)
    tens = fitted(relabelled(cascades, [10 * i for i in range(N_NODES)]), seed).edges()
    assert tens.source.tolist() == [10 * u for u in plain.source]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"pairs": [(0, 99)]}, "targets in pairs must be nodes of the posterior; got 99"),
        ({"pairs": [("x", 0)]}, "sources in pairs must be nodes of the posterior; got 'x'"),
        ({"pairs": [([0], 0)]}, "sources in pairs must be nodes"),
        ({"pairs": [(0, 1), (3, 3)]}, "pairs must join different nodes; got 3 twice"),
        ({"pairs": [(0, 1, 2)]}, r"pairs must be \(source, target\) tuples"),
        ({"pairs": [1, 2]}, r"pairs must be \(source, target\) tuples"),
        ({"pairs": 5}, r"pairs must be \(source, target\) tuples; got 5"),
        ({"pairs": pd.DataFrame({"source": [1]})}, "missing {'target'}"),
        ({"top": -1}, "top must be a non-negative integer; got -1"),
        ({"top": 2.5}, "top must be a non-negative integer; got 2.5"),
        ({"pairs": [(0, 1)], "top": -1}, "top must be a non-negative integer; got -1"),
    ],
)
def test_wrong_pairs_are_named(posterior, argument, message):
    with pytest.raises(ValueError, match=message):
        posterior.edges(**argument)


# ------------------------------------------------------------------------------------- unit of time

POWER = {"exponential": 1, "rayleigh": 2, "decay": 0, "lognormal": 0, "powerlaw": 0}


@pytest.mark.parametrize("delay", ["exponential", "rayleigh", "weibull", *list(POWER)[2:]])
def test_the_unit_of_time_changes_nothing_but_rates(cascades, seed, delay):
    run = {"draws": 30, "tune": 20, "chains": 1}
    reference = fitted(cascades, seed, run, delay=delay)
    nodes = range(N_NODES)
    pairs = [(u, v) for u in nodes for v in nodes if u != v]
    table = reference.edges(pairs=pairs)
    for factor in (3600.0, 24 * 365.25 * 3600.0, 1.0 / 7.0):
        other = fitted(in_unit(cascades, factor), seed, run, delay=delay)
        scaled = other.edges(pairs=pairs)
        assert np.array_equal(scaled.prob, table.prob)
        assert np.array_equal(scaled.n, table.n)
        assert np.array_equal(other.edges().prob, reference.edges().prob)
        ratio = scaled[["rate", "rate_sd", "rate_high"]] / table[["rate", "rate_sd", "rate_high"]]
        if delay == "weibull":  # the unit of the rate is time to the power of -k, k differs by draw
            ends = factor ** -reference.scalars["delay_k"]
            np.testing.assert_allclose(other.scalars["delay_k"], reference.scalars["delay_k"])
            assert (ratio.rate > 0.99 * ends.min()).all()
            assert (ratio.rate < 1.01 * ends.max()).all()
        else:
            np.testing.assert_allclose(ratio, factor ** -POWER[delay], rtol=1e-6)
            b = reference.scalars["b"] * factor ** POWER[delay]
            np.testing.assert_allclose(other.scalars["b"], b, rtol=1e-6)
        np.testing.assert_allclose(
            other.predictive(pairs)[["prob", "transmit"]],
            reference.predictive(pairs)[["prob", "transmit"]],
            rtol=1e-6,
        )
        assert other.unit == pytest.approx(factor * reference.unit)


@pytest.mark.parametrize("delay", ["exponential", "weibull", "decay"])
def test_background_hazards_are_per_unit_of_time(cascades, seed, delay):
    run = {"draws": 30, "tune": 20, "chains": 1}
    hours = fitted(cascades, seed, run, delay=delay, background=True)
    seconds = fitted(in_unit(cascades, 3600.0), seed, run, delay=delay, background=True)
    assert np.array_equal(hours.edges().prob, seconds.edges().prob)
    a, b = hours.background(), seconds.background()
    assert a.node.tolist() == list(hours.nodes)
    np.testing.assert_allclose(b.rate * 3600.0, a.rate, rtol=1e-6)
    np.testing.assert_allclose(b.rate_sd * 3600.0, a.rate_sd, rtol=1e-6)
    np.testing.assert_array_equal(a.n, b.n)
    trace = "background_rate"
    np.testing.assert_allclose(3600.0 * seconds.scalars[trace], hours.scalars[trace], rtol=1e-6)


def test_without_background_there_is_no_table_of_it(posterior):
    with pytest.raises(ValueError, match="no background source; expected a fit with background"):
        posterior.background()


# -------------------------------------------------------------------------- diagnostics and exports


def test_diagnostics_have_a_row_for_each_scalar(any_posterior):
    table = any_posterior.diagnostics()
    settings = any_posterior.settings
    expected = {"log_joint"}
    expected |= {"nu"} if settings["likelihood"] == "tree" else {"Lambda", "b"}
    if settings["prior"] == "hdp":
        expected |= {"alpha", "tau", "gamma", "n_communities", "null_share", "entropy"}
    parameters = cn.delays.get_delay(settings["delay"]).parameters
    expected |= {f"delay_{name}" for name in parameters}
    expected |= {"background_rate"} if settings["background"] else set()
    assert set(table.index) == expected
    columns = ["mean", "sd", "q3", "q97", "ess_bulk", "ess_tail", "rhat", "mcse_mean"]
    assert list(table.columns) == columns
    for name, values in any_posterior.scalars.items():
        assert values.shape == (RUN["chains"], RUN["draws"])
        assert np.isfinite(values).all()
        assert table.loc[name, "mean"] == pytest.approx(values.mean())


def test_summary_says_what_was_found(any_posterior, cascades):
    text = any_posterior.summary()
    settings = any_posterior.settings
    assert f"{N_NODES} nodes, {len(cascades)} cascades, {cascades.n_infections} infections" in text
    assert f"delay {settings['delay']}, prior {settings['prior']}; 2 chains, 120 draws" in text
    expected = any_posterior.edges().prob.sum()
    found = re.search(r"expected number of edges that carried an infection: ([0-9.]+)\n", text)
    assert float(found[1]) == pytest.approx(expected, abs=0.0501)  # rounded
    assert ("communities: variation of information" in text) == (settings["prior"] == "hdp")
    assert ("candidates cut" in text) == (settings["max_candidates"] is not None)
    for name in any_posterior.scalars:
        assert f"\n{name} " in text
    best = any_posterior.edges(top=1)
    assert re.search(rf"\n *{best.source[0]} +{best.target[0]} ", text)
    assert repr(any_posterior) == "<Posterior: 14 nodes, 2 chains, 120 draws>"


def test_traces_become_a_frame(any_posterior):
    frame = any_posterior.to_frame()
    assert list(frame.columns) == ["chain", "draw", *any_posterior.scalars]
    assert len(frame) == RUN["chains"] * RUN["draws"]
    for name, values in any_posterior.scalars.items():
        wide = frame.pivot(index="chain", columns="draw", values=name)
        np.testing.assert_array_equal(wide, values)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9, 1.1])
def test_graph_holds_the_edges_above_the_threshold(posterior, threshold):
    graph = posterior.to_networkx(threshold=threshold)
    table = posterior.edges()
    table = table[table.prob >= threshold]
    assert graph.is_directed()
    assert set(graph.nodes) == set(posterior.nodes)
    assert set(graph.edges) == set(zip(table.source, table.target, strict=True))
    for row in table.to_dict("records"):
        assert graph.edges[row.pop("source"), row.pop("target")] == row
    assert graph.graph["threshold"] == threshold
    roles = posterior.communities().set_index("node")
    for node, role in graph.nodes(data=True):
        assert role == roles.loc[node].to_dict()
        assert type(role["sender"]) is int


def test_graph_can_be_written(posterior, cascades, seed):
    import networkx as nx

    buffer = io.BytesIO()
    nx.write_graphml(posterior.to_networkx(), buffer)
    assert len(nx.parse_graphml(buffer.getvalue().decode())) == N_NODES
    json.dumps(nx.node_link_data(posterior.to_networkx(), edges="edges"))
    flat = fitted(cascades, seed, prior="flat").to_networkx()
    assert set(flat.nodes) == set(range(N_NODES))
    assert all(role == {} for _, role in flat.nodes(data=True))


def test_traces_go_to_arviz(posterior):
    pytest.importorskip("arviz")
    data = posterior.to_arviz()
    assert set(data.posterior.data_vars) == set(posterior.scalars)
    for name, values in posterior.scalars.items():
        np.testing.assert_array_equal(data.posterior[name].values, values)


def test_both_interfaces_of_arviz_are_known(posterior, monkeypatch):
    fake = types.ModuleType("arviz")
    monkeypatch.setitem(sys.modules, "arviz", fake)
    fake.from_dict = lambda posterior=None, *, prior=None: ("0.x", posterior)
    assert posterior.to_arviz() == ("0.x", posterior.scalars)
    fake.from_dict = lambda data, *, name=None: ("1.x", data)
    assert posterior.to_arviz() == ("1.x", {"posterior": posterior.scalars})
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match="to_arviz needs the package arviz"):
        posterior.to_arviz()


# -------------------------------------------------------------------------------------------- files


def assert_equal(a: Posterior, b: Posterior) -> None:
    for name in ("nodes", "settings", "provenance", "unit"):
        assert getattr(a, name) == getattr(b, name)
    assert list(a.scalars) == list(b.scalars)
    arrays = [(a.scalars[name], b.scalars[name]) for name in a.scalars]
    arrays += [(getattr(a.sums, f.name), getattr(b.sums, f.name)) for f in fields(EdgeSums)]
    names = ("pair_source", "pair_target", "network_chain")
    arrays += [(getattr(a, name), getattr(b, name)) for name in names]
    assert len(a.networks) == len(b.networks)
    for x, y in zip(a.networks, b.networks, strict=True):
        assert x.keys() == y.keys()
        arrays += [(x[name], y[name]) for name in x]
    for x, y in arrays:
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert np.array_equal(x, y)


def test_saving_loses_nothing(any_posterior, tmp_path):
    path = tmp_path / "fit.npz"
    any_posterior.save(path)
    loaded = cn.load(path)
    assert_equal(any_posterior, loaded)
    pd.testing.assert_frame_equal(loaded.edges(), any_posterior.edges())
    pd.testing.assert_frame_equal(loaded.predictive(), any_posterior.predictive())
    pd.testing.assert_frame_equal(loaded.communities(), any_posterior.communities())
    assert loaded.summary() == any_posterior.summary()
    loaded.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()


def test_a_folder_takes_a_posterior(posterior, cascades, seed, tmp_path):
    posterior.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["posterior.npz"]
    assert_equal(cn.load(tmp_path), posterior)
    names = ["Ünï", "日本", "a,b", '"', "a\tb", *"defghijkl"]
    other = fitted(relabelled(cascades, names), seed)
    other.save(str(tmp_path))
    assert cn.load(str(tmp_path)).nodes == tuple(names)
    with zipfile.ZipFile(tmp_path / "posterior.npz") as file:
        assert file.testzip() is None


def test_nothing_there(tmp_path):
    for path in (tmp_path, tmp_path / "none.npz"):
        with pytest.raises(FileNotFoundError, match="expected a saved posterior; there is no file"):
            cn.load(path)


@pytest.fixture(scope="module")
def saved(cascades, seed, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "fit.npz"
    run = {"draws": 6, "tune": 3, "chains": 1}
    fitted(cascades, seed, run, network_draws=2).save(path)
    return path.read_bytes()


def refused(content: bytes, path) -> str:
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        cn.load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_truncated_files_are_refused(saved, tmp_path):
    for size in range(0, len(saved), len(saved) // 150):
        assert "truncated" in refused(saved[:size], tmp_path / "f.npz")


def test_damage_is_refused_or_harmless(saved, tmp_path, seed):
    """A changed bit is refused, unless it is in what a zip file says about itself and no reader
    looks at: then everything is as it was."""
    rng, path = np.random.default_rng(seed), tmp_path / "f.npz"
    path.write_bytes(saved)
    whole, outcomes = cn.load(path), {"refused": 0, "harmless": 0}
    for case in range(200):
        content = bytearray(saved)
        at, length = rng.integers(len(saved)), 1 if case < 150 else 40
        for i in range(at, min(at + length, len(saved))):
            content[i] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        try:
            assert_equal(cn.load(path), whole)
            outcomes["harmless"] += 1
        except FormatError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 100


def test_other_files_are_refused(tmp_path, seed):
    rng, path = np.random.default_rng(seed), tmp_path / "f.npz"
    others = [b"", b"cascade,node,time\n1,2,3\n", b"\x80\x04\x95cos\nsystem\n"]
    array = io.BytesIO()
    np.save(array, np.arange(3))
    others.append(array.getvalue())
    for head in (b"", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY\x01\x00"):
        others += [head + rng.bytes(int(rng.integers(1, 300))) for _ in range(20)]
    for content in others:
        refused(content, path)
    np.savez(path, a=np.arange(3))
    refused(path.read_bytes(), path)


def npy(array, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=allow_pickle)  # of a test
    return buffer.getvalue()


def rewritten(saved: bytes, change) -> bytes:
    """The file with its members, and its description, changed by a function of both."""
    with zipfile.ZipFile(io.BytesIO(saved)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    meta = json.loads(bytes(np.load(io.BytesIO(members["meta.npy"]))).decode())
    change(members, meta)
    if "meta.npy" in members and meta is not None:
        members["meta.npy"] = npy(np.frombuffer(json.dumps(meta).encode(), np.uint8))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def n_used(members) -> int:
    return np.load(io.BytesIO(members["sums_used.npy"])).size


def npy_header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"0" * 64


HUGE = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000000,)}\n"
UNREADABLE = {
    "newer": (lambda m, x: x.update(format=archive.FORMAT + 1), "newer version of cascadenet"),
    "older": (lambda m, x: x.update(format=archive.FORMAT - 1), "older version of cascadenet"),
    "format of another kind": (lambda m, x: x.update(format="a"), "expected a saved posterior"),
    "no description": (lambda m, x: m.pop("meta.npy"), "expected a saved posterior"),
    "no nodes": (lambda m, x: x.pop("nodes"), "nodes"),
    "fewer nodes": (lambda m, x: x["nodes"].pop(), "sums_node_full"),
    "a member missing": (lambda m, x: m.pop("sums_n.npy"), "sums_n"),
    "more networks": (lambda m, x: x.update(networks=9), "network_2"),
    "fewer networks": (lambda m, x: x.update(networks=1), "network_chain"),
    "unit": (lambda m, x: x.update(unit="hour"), "hour"),
    "short pairs": (lambda m, x: m.update({"pair_source.npy": npy([1, 2])}), "shape"),
    "used twice": (
        lambda m, x: m.update({"sums_used.npy": npy(np.repeat(0, n_used(m)))}),
        "sums_used to be ascending",
    ),
    "used beyond": (
        lambda m, x: m.update({"sums_used.npy": npy(10**6 + np.arange(n_used(m)))}),
        "sums_used to be ascending",
    ),
    "pickle": (
        lambda m, x: m.update({"sums_n.npy": npy(np.array([{}], object), True)}),
        "allow_pickle=False",
    ),
    "huge array": (lambda m, x: m.update({"sums_n.npy": npy_header(HUGE)}), "allocate"),
    "unclosed header": (
        lambda m, x: m.update({"sums_n.npy": npy_header(b"{'descr': (((")}),
        "expected a saved posterior",
    ),
    "deep description": (
        lambda m, x: m.update({"pair_source.npy": m["meta.npy"]}),
        "expected a saved posterior|shape",
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_contents_that_do_not_fit_are_refused(saved, tmp_path, case):
    change, message = UNREADABLE[case]
    assert re.search(message, refused(rewritten(saved, change), tmp_path / "f.npz"))


def test_unchanged_contents_are_accepted(saved, tmp_path):
    """Or the test above would prove nothing."""
    (tmp_path / "f.npz").write_bytes(rewritten(saved, lambda m, x: None))
    assert cn.load(tmp_path / "f.npz").n_nodes == N_NODES


def test_nothing_is_left_when_saving_fails(posterior, tmp_path, monkeypatch):
    path = tmp_path / "fit.npz"
    posterior.save(path)
    before = path.read_bytes()

    def full_disk(file, **arrays):
        file.write(b"half of it")
        raise error

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    for error in (OSError("no space left on device"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            posterior.save(path)
        with pytest.raises(type(error)):
            posterior.save(tmp_path / "other.npz")
        assert [p.name for p in tmp_path.iterdir()] == ["fit.npz"]
        assert path.read_bytes() == before
    with pytest.raises(OSError, match="none"):
        posterior.save(tmp_path / "none" / "fit.npz")


def test_files_appear_whole_with_the_usual_rights(tmp_path):
    (tmp_path / "plain").write_text("")
    with atomic_path(tmp_path / "new") as partial:
        partial.write_text("content")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new").read_text() == "content"
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert len(list(tmp_path.iterdir())) == 2
