"""Scores of networks that change: against loops over pairs, on known answers, on wrong input."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from cascadenet import Cascades, metrics, networks, read_network
from cascadenet.dynamic_scores import score_dynamic

NODES = [f"n{i}" for i in range(7)]
ENDS = [0.0, 10.0, 30.0, 40.0]


@pytest.fixture
def network(seed: int) -> pd.DataFrame:
    """Twelve edges over seven nodes that go on and off."""
    rng = np.random.default_rng(seed)
    pairs = list(itertools.permutations(NODES, 2))
    chosen = [pairs[i] for i in rng.choice(len(pairs), 12, replace=False)]
    static = pd.DataFrame(chosen, columns=["source", "target"]).assign(rate=rng.uniform(0.1, 1, 12))
    return networks.vary_rates(static, "square", (0.0, 40.0), 40, seed=rng)


@pytest.fixture
def found(network: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A noisy estimate: half of all pairs in each interval, true ones likelier to rank high."""
    rng = np.random.default_rng(seed + 1)
    pairs = list(itertools.permutations(NODES, 2))
    rows = []
    for j, middle in enumerate((5.0, 20.0, 35.0)):
        true = rate_by_pair(network, middle)
        for pair in pairs:
            if rng.random() < 0.6:
                rate = true.get(pair, 0.0) + rng.exponential(0.3)
                rows.append((*pair, round(rate / (1 + rate), 1), rate, j))
    table = pd.DataFrame(rows, columns=["source", "target", "prob", "rate", "interval"])
    return table.sample(frac=1.0, random_state=seed % 1000)


def rate_by_pair(network: pd.DataFrame, time: float) -> dict:
    """Rates that hold at a time, by a loop over the rows."""
    held = {}
    for row in network.sort_values("start").itertuples():
        if row.start <= time:
            held[row.source, row.target] = row.rate
    return held


def test_equals_a_loop_over_pairs(network: pd.DataFrame, found: pd.DataFrame) -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    result = score_dynamic(found, network, ENDS, NODES, score="rate")
    pairs = list(itertools.permutations(NODES, 2))
    edges = set(zip(network["source"], network["target"], strict=True))
    estimated, true_rates = [], []
    for j, middle in enumerate((5.0, 20.0, 35.0)):
        true = rate_by_pair(network, middle)
        here = found[found["interval"] == j]
        listed = dict(zip(zip(here.source, here.target, strict=True), here.rate, strict=True))
        active = [true.get(pair, 0.0) > 0.0 for pair in pairs]
        score = [listed.get(pair, -1.0) for pair in pairs]
        row = result.table.iloc[j]
        expected = sklearn_metrics.average_precision_score(active, score)
        assert row["auprc"] == pytest.approx(expected, abs=1e-12)
        assert row["prevalence"] == pytest.approx(np.mean(active))
        assert (row["start"], row["stop"]) == (ENDS[j], ENDS[j + 1])
        estimated += [listed.get(pair, 0.0) for pair in edges]
        true_rates += [true.get(pair, 0.0) for pair in edges]
    assert result.auprc == pytest.approx(result.table["auprc"].mean())
    assert result.rate_correlation == pytest.approx(np.corrcoef(estimated, true_rates)[0, 1])


def test_truth_scores_one_and_its_opposite_does_not(network: pd.DataFrame) -> None:
    tables = [networks.rates_at(network, t).assign(prob=lambda t: t["rate"]) for t in (5, 20, 35)]
    right = score_dynamic(tables, network, ENDS, NODES)
    assert right.auprc == 1.0
    assert right.rate_correlation == pytest.approx(1.0)
    wrong = [table.assign(prob=-table["rate"], rate=1.0 - table["rate"]) for table in tables]
    scores = score_dynamic(wrong, network, ENDS, NODES)
    assert scores.auprc < 0.9
    assert scores.rate_correlation == pytest.approx(-1.0)


def test_intervals_are_not_mixed_up(network: pd.DataFrame) -> None:
    tables = [networks.rates_at(network, t).assign(prob=lambda t: t["rate"]) for t in (5, 20, 35)]
    assert score_dynamic(tables[::-1], network, ENDS, NODES).rate_correlation < 0.9


def test_list_and_one_table_are_the_same(network: pd.DataFrame, found: pd.DataFrame) -> None:
    tables = [found[found["interval"] == j].drop(columns="interval") for j in range(3)]
    one, several = (score_dynamic(x, network, ENDS, NODES) for x in (found, tables))
    pd.testing.assert_frame_equal(one.table, several.table)
    assert one.rate_correlation == several.rate_correlation


def test_agrees_with_score_edges_where_nothing_changes(found: pd.DataFrame) -> None:
    network = pd.DataFrame({"source": NODES[:4], "target": NODES[1:5], "rate": 1.0})
    result = score_dynamic(found, network, ENDS, NODES)
    for j, auprc in enumerate(result.table["auprc"]):
        alone = metrics.score_edges(found[found["interval"] == j], network, NODES)
        assert auprc == alone.auprc
    assert math.isnan(result.rate_correlation)  # the truth does not vary


def test_interval_without_estimate_or_truth(network: pd.DataFrame, found: pd.DataFrame) -> None:
    found = found[found["interval"] != 1]
    network = network.copy()
    network.loc[(network["start"] >= 30.0), "rate"] = 0.0
    result = score_dynamic(found, network, ENDS, NODES)
    table = result.table
    assert table["auprc"][1] == pytest.approx(table["prevalence"][1])  # all pairs tied
    assert table["n_true"][2] == 0
    assert math.isnan(table["auprc"][2])
    assert result.auprc == pytest.approx(table["auprc"][:2].mean())


def test_nodes_decide_the_pairs(network: pd.DataFrame, found: pd.DataFrame) -> None:
    few = score_dynamic(found, network, ENDS, NODES)
    many = score_dynamic(found, network, ENDS, [*NODES, "new"])
    assert many.prevalence == pytest.approx(few.prevalence * 42 / 56)
    frame = pd.DataFrame({"cascade": 0, "node": NODES, "time": range(7)})
    data = Cascades.from_frame(frame, horizon=9.0)
    assert score_dynamic(found, network, ENDS, data).auprc == few.auprc


def test_wrong_input_is_named(network: pd.DataFrame, found: pd.DataFrame) -> None:
    cases = [
        ((found, network, [0.0, 0.0, 1.0], NODES), "boundaries must be finite and increase"),
        ((found, network, [1.0], NODES), "at least two times"),
        ((found, network, [0.0, 10.0, 20.0], NODES), "interval of edges must be 0 to 1"),
        ((found.drop(columns="interval"), network, ENDS, NODES), "column interval"),
        (([found], network, ENDS, NODES), "edges must be 3 tables; got 1"),
        ((found.drop(columns="rate"), network, ENDS, NODES), "interval 0 must have .* rate"),
        ((found, network.drop(columns="rate"), ENDS, NODES), "missing rate"),
        ((found, network, ENDS, NODES[:3]), "not in nodes"),
        ((found, network.assign(rate=0.0), ENDS, NODES), "no edge whose rate is positive"),
        ((pd.concat([found, found]), network, ENDS, NODES), "twice"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            score_dynamic(*arguments)
    with pytest.raises(TypeError, match="edges must be a DataFrame or several"):
        score_dynamic("edges.csv", network, ENDS, NODES)


def test_published_network_that_changes(shared_data) -> None:
    path = shared_data / "cascades" / "dyn-hier" / "network.txt.gz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    network = read_network(path)
    ends = np.linspace(0.0, 100.0, 11)
    ever = networks.rates_at(network, 0.0).assign(prob=1.0, rate=1.0)
    result = score_dynamic([ever] * 10, network, ends, network.attrs["nodes"])
    # knowing every edge, but not when it is on, gives the share of edges that are on
    share = result.table["n_true"] / 199
    assert result.auprc == pytest.approx(share.mean())
    assert 0.004 < result.prevalence < 0.0123
