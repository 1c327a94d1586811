"""Pictures of changing networks show the numbers of the tables, where they are told to."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import cascadenet as cn
from cascadenet import plots_dynamic as plots
from cascadenet import simulate
from cascadenet.inference.dynamics.model import DynamicCoupledHDP
from cascadenet.networks import rates_at

NODES = [f"n{i:02d}" for i in range(14)]
NAMES = ("flow", "events", "timeline", "rates", "reliability", "ahead", "next", "transmit")


@pytest.fixture(scope="module")
def truth(seed):
    network = simulate.community_network(2, 7, 0.5, 0.0, rate=(0.5, 1.5), seed=seed)
    label = dict(enumerate(NODES))
    network = network.assign(source=network.source.map(label), target=network.target.map(label))
    return simulate.vary_rates(network, "square", (0.0, 30.0), 15, seed=seed)


@pytest.fixture(scope="module")
def fitted(truth, seed):
    data = simulate.simulate_cascades(
        truth, 150, nodes=NODES, start=(0.0, 30.0), window=1.5, seed=seed
    ).cascades
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short chains
        model = DynamicCoupledHDP(10.0, forgetting=0.3, support=0.2, truncation=5)
        return model.fit(data, 20, 20, 2, seed, progress=False).posterior_


@pytest.fixture(autouse=True)
def no_figure_left():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return Figure().add_subplot()


def told(labels, first=0, prior="hdp"):
    """What stands in for a posterior whose communities are said: (intervals, nodes)."""
    count, n = np.shape(labels)
    table = pd.DataFrame({"sender": np.ravel(labels), "receiver": np.zeros(count * n, int)})
    present = [set(row[row > 0].tolist()) for row in np.asarray(labels)]
    rows = []
    for j, names in enumerate(present):
        for k in sorted(names):
            events = ["birth"] * (j > 0 and k not in present[j - 1])
            events += ["death"] * (j + 1 < count and k not in present[j + 1])
            rows.append((j + first, k, " and ".join(events)))
    sizes = pd.DataFrame(rows, columns=["interval", "community", "event"])
    return SimpleNamespace(
        settings={"prior": prior},
        n_nodes=n,
        posteriors=[None] * count,
        ends=np.arange(count + 1.0) * 5.0,
        first_interval=first,
        communities=lambda: table,
        community_sizes=lambda: sizes,
    )


def draw(name, posterior, truth, ax):
    return {
        "flow": lambda: plots.plot_community_flow(posterior, ax=ax),
        "events": lambda: plots.plot_edge_events(posterior, ax),
        "timeline": lambda: plots.plot_edge_timeline(posterior, ax),
        "rates": lambda: plots.plot_rates_over_time(posterior, [("n00", "n01")], truth, ax),
        "reliability": lambda: plots.plot_active_reliability(posterior, truth, ax),
        "ahead": lambda: plots.plot_ahead(posterior, ax),
        "next": lambda: plots.plot_top_predictive(posterior, ax),
        "transmit": lambda: plots.plot_top_predictive(posterior, ax, quantity="transmit"),
    }[name]()


@pytest.mark.parametrize("name", NAMES)
def test_draws_on_the_axes_given_and_names_what_it_shows(name, fitted, truth, ax):
    result = draw(name, fitted, truth, ax)
    assert np.array(result, dtype=object).ravel().tolist() == [ax]
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", NAMES)
def test_opens_a_figure_of_its_own_otherwise(name, fitted, truth):
    result = np.array(draw(name, fitted, truth, None), dtype=object).ravel()
    assert [result[0].figure.number] == plt.get_fignums()


# Flow

LABELS = np.array([[1, 1, 1, 2, 2, 0], [1, 1, 2, 2, 2, 0], [1, 1, 3, 3, 3, 3]])


def blocks(ax):
    """(interval, bottom, height) of every block."""
    return {(round(p.get_x() + p.get_width() / 2), p.get_y(), p.get_height()) for p in ax.patches}


def test_blocks_are_communities(ax):
    plots.plot_community_flow(told(LABELS), ax=ax)
    null_first = {(0, 0, 1), (0, 1, 3), (0, 4, 2), (1, 0, 1), (1, 1, 2), (1, 3, 3)}
    assert blocks(ax) == null_first | {(2, 0, 2), (2, 2, 4)}
    assert {t.get_text() for t in ax.texts} == {"null", "1", "2", "3"}


def test_bands_are_nodes_that_stay_and_move(ax):
    """Heights at both ends of every band, where they are said to begin and to end."""
    plots.plot_community_flow(told(LABELS), ax=ax)
    found = set()
    for band in ax.collections:
        points = band.get_paths()[0].vertices
        left, right = points[:, 0].min(), points[:, 0].max()
        ends = [points[np.isclose(points[:, 0], x), 1] for x in (left, right)]
        found.add((round(left), *(tuple(np.round([y.min(), y.max()], 6)) for y in ends)))
    assert found == {
        (0, (0, 1), (0, 1)),  # null stays
        (0, (1, 3), (1, 3)),  # two of community 1 stay
        (0, (3, 4), (3, 4)),  # one goes to community 2
        (0, (4, 6), (4, 6)),  # which stays
        (1, (0, 1), (2, 3)),
        (1, (1, 3), (0, 2)),
        (1, (3, 6), (3, 6)),
    }


def test_births_and_deaths_are_marked_where_they_are(ax):
    plots.plot_community_flow(told(LABELS), ax=ax)
    marks = {line.get_marker(): line.get_xydata()[0] for line in ax.lines}
    assert set(marks) == {"P", "X"}
    assert marks["P"][0] < 2 < marks["P"][0] + 0.5  # community 3, left of its first block
    assert marks["P"][1] == 4.0
    assert 1.0 < marks["X"][0] < 1.5  # community 2, right of its last block
    assert marks["X"][1] == 4.5
    texts = {text.get_text() for text in ax.get_legend().get_texts()}
    assert texts == {"community born", "community gone"}


def test_communities_that_last_are_not_marked(ax):
    plots.plot_community_flow(told(LABELS[:1].repeat(3, axis=0)), ax=ax)
    assert not ax.lines
    assert ax.get_legend() is None


def test_six_largest_communities_are_coloured(ax):
    labels = np.repeat(np.arange(1, 9), np.arange(9, 1, -1))[None]
    plots.plot_community_flow(told(labels), ax=ax)
    colours = [patch.get_facecolor() for patch in ax.patches]
    assert len(set(colours)) == 7
    assert colours[6] == colours[7]


def test_interval_numbers_go_on_where_old_ones_were_dropped(ax):
    plots.plot_community_flow(told(LABELS, first=4), ax=ax)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["4\n0", "5\n5", "6\n10"]


def test_flow_refuses(ax):
    with pytest.raises(ValueError, match="sender or receiver; got 'x'"):
        plots.plot_community_flow(told(LABELS), "x", ax)
    with pytest.raises(ValueError, match="prior='flat'"):
        plots.plot_community_flow(told(LABELS, prior="flat"), ax=ax)


# Edges that come and go


def test_event_bars_are_counts(fitted, ax):
    plots.plot_edge_events(fitted, ax, threshold=0.4)
    events = fitted.events(0.4)
    assert len(events)
    expected = [
        sign * ((events["interval"] == j) & (events["event"] == event)).sum()
        for event, sign in (("birth", 1), ("death", -1))
        for j in (1, 2)
    ]
    assert [patch.get_height() for patch in ax.patches] == expected
    assert "0.4" in ax.get_title(loc="left")


def test_changing_edges_are_those_with_the_largest_steps(fitted):
    table = plots.changing_edges(fitted, 5)
    assert len(table) == 5
    whole = fitted.edges()
    steps = {}
    for pair, rows in whole.groupby(["source", "target"]):
        active = rows.set_index("interval")["active"].reindex([0, 1, 2], fill_value=0.0)
        steps[pair] = abs(active[1] - active[0]) + abs(active[2] - active[1])
    best = sorted(steps.values(), reverse=True)[:5]
    np.testing.assert_allclose(table["change"], best)
    for row in table.itertuples():
        assert steps[row.source, row.target] == pytest.approx(row.change)


def test_timeline_cells_are_probabilities_to_be_active(fitted, ax):
    plots.plot_edge_timeline(fitted, ax, top=6)
    (mesh,) = ax.collections
    cells = np.asarray(mesh.get_array()).reshape(-1, 3)
    table = fitted.edges().set_index(["source", "target", "interval"])["active"]
    for label, row in zip(ax.get_yticklabels(), cells, strict=True):
        source, target = label.get_text().split(" → ")
        for j, value in enumerate(row):
            assert value == pytest.approx(table.get((source, target, j), 0.0))
    middle = cells @ np.arange(3) / cells.sum(axis=1)
    assert (np.diff(middle) >= 0).all()


def test_labels_are_taken_literally():
    """A dollar begins no formula; long labels are cut, line breaks too."""
    ax = Figure().add_subplot()
    plots._name_rows(ax, np.arange(1), [plots._pair_name("$\\frac{$", "a\nb" + "c" * 90)])
    (label,) = ax.get_yticklabels()
    assert label.get_text().startswith("$\\frac{$ → a bc")
    assert label.get_text().endswith("c…")
    ax.figure.canvas.draw()  # would raise on a broken formula


# Rates


def test_rates_and_truth_over_time(fitted, truth, ax):
    pair = (truth["source"].iloc[0], truth["target"].iloc[0])
    (found,) = plots.plot_rates_over_time(fitted, [pair], truth, ax)
    assert found is ax
    rows = fitted.rates([pair])
    band, line = ax.patches
    np.testing.assert_allclose(line.get_data().values, rows["rate"])
    np.testing.assert_allclose(band.get_data().values, rows["rate_high"])
    np.testing.assert_allclose(band.get_data().baseline, rows["rate_low"])
    np.testing.assert_allclose(line.get_data().edges, fitted.ends)
    x, y = ax.lines[0].get_data()
    for time in (0.7, 11.3, 29.0):
        now = rates_at(truth, time).set_index(["source", "target"])["rate"][pair]
        assert y[np.searchsorted(x, time, side="right") - 1] == pytest.approx(now)


def test_pair_without_a_true_edge_has_rate_zero(fitted, truth, ax):
    pairs = set(zip(truth["source"], truth["target"], strict=True))
    other = next((u, v) for u in NODES for v in NODES if u != v and (u, v) not in pairs)
    plots.plot_rates_over_time(fitted, [other], truth, ax)
    assert set(ax.lines[0].get_ydata()) == {0.0}


def test_too_few_axes_for_rates(fitted, ax):
    with pytest.raises(ValueError, match="axes must hold one Axes for each pair, 2; got 1"):
        plots.plot_rates_over_time(fitted, [("n00", "n01"), ("n01", "n00")], axes=ax)
    with pytest.raises(ValueError, match="at least one edge"):
        plots.plot_rates_over_time(fitted, [], axes=ax)


def test_active_pairs_are_those_with_a_rate_in_the_interval():
    network = pd.DataFrame(
        [("a", "b", 1.0, 0.0), ("a", "b", 0.0, 2.0), ("b", "a", 3.0, 4.0), ("c", "a", 0.0, 0.0)],
        columns=["source", "target", "rate", "start"],
    )
    assert plots._active_pairs(network, 1.0, 3.0) == {("a", "b")}
    assert plots._active_pairs(network, 2.0, 4.0) == set()
    assert plots._active_pairs(network, 2.0, 4.5) == {("b", "a")}
    assert plots._active_pairs(network.drop(columns="start")[:1], 2.0, 3.0) == {("a", "b")}


def test_reliability_counts_every_listed_pair(fitted, truth, ax):
    plots.plot_active_reliability(fitted, truth, ax)
    assert ax.get_title(loc="left").startswith(f"{len(fitted.edges())} pairs and intervals")


# Prediction


def test_score_of_each_interval(fitted, ax):
    plots.plot_ahead(fitted, ax)
    scores = fitted.scores()
    x, y = ax.lines[0].get_data()
    np.testing.assert_array_equal(x, scores["interval"])
    np.testing.assert_allclose(y, scores["per_infection"])


def test_most_probable_edges(fitted, ax):
    plots.plot_top_predictive(fitted, ax, top=7)
    table = fitted.predictive(top=7)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), table["prob"])
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == [f"{u} → {v}" for u, v in table[["source", "target"]].to_numpy()]


def test_draws_have_the_mean_of_the_table(fitted):
    """The intervals are of the quantity that the dots are the mean of."""
    ahead = fitted.forecast
    table = ahead.predictive(top=9, within=0.8)
    pair = ahead.pair_indices(table)
    prob = plots._draws_of(ahead, "prob", *pair, 0.8).mean(axis=0)
    np.testing.assert_allclose(prob, table["prob"], rtol=1e-4)
    transmit = plots._draws_of(ahead, "transmit", *pair, 0.8).mean(axis=0)
    np.testing.assert_allclose(transmit, table["transmit"], rtol=0.1, atol=1e-3)


def test_best_transmissions_of_all_listed_pairs(fitted, ax):
    plots.plot_top_predictive(fitted, ax, quantity="transmit", top=4, within=0.8)
    every = [(u, v) for u in NODES for v in NODES if u != v]
    best = fitted.predictive(every, within=0.8)["transmit"].nlargest(4)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), best)
    assert "within 0.8" in ax.get_xlabel()


def test_unused_pairs_carried_nothing_in_any_interval(fitted, ax):
    plots.plot_top_predictive(fitted, ax, unused=True)
    table = fitted.edges()
    used = table[table["prob"] > 0]
    used = {f"{u} → {v}" for u, v in zip(used["source"], used["target"], strict=True)}
    names = {text.get_text() for text in ax.get_yticklabels()}
    assert len(names) == 20
    assert not names & used


def test_top_predictive_of_a_static_posterior(fitted, ax):
    one = fitted.posteriors[0]
    plots.plot_top_predictive(one, ax, top=3, unused=True)
    assert len(ax.get_yticks()) == 3
    with pytest.raises(ValueError, match="prob or transmit"):
        plots.plot_top_predictive(one, ax, quantity="x")
    with pytest.raises(ValueError, match="top"):
        plots.plot_top_predictive(one, ax, top=0)


def test_one_interval_has_nothing_to_compare(fitted, ax):
    one = cn.DynamicPosterior(
        settings=fitted.settings,
        ends=fitted.ends[:2],
        posteriors=fitted.posteriors[:1],
        ahead=[None],
        past=fitted.past,
        tried=[],
    )
    with pytest.raises(ValueError, match="two intervals or more"):
        plots.plot_edge_events(one, ax)
    with pytest.raises(ValueError, match="edges that change"):
        plots.plot_edge_timeline(one, ax)
    with pytest.raises(ValueError, match="foretold"):
        plots.plot_ahead(one, ax)
