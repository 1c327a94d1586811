"""Pictures show the numbers they claim to show, where they are told to, and nothing else changes.

What is drawn is read back from the artists and compared with tables and with plain Python.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

import cascadenet as cn
from cascadenet import plotting, simulate
from cascadenet.metrics import calibration_curve, score_edges

N_NODES = 24
NODES = [f"n{i:02d}" for i in reversed(range(N_NODES))]  # labels are not indices


@pytest.fixture(scope="module")
def truth(seed):
    network = simulate.community_network(2, 10, 0.5, 0.05, rate=(0.2, 1.0), seed=seed)
    label = dict(enumerate(sorted(NODES)))
    return network.assign(source=network.source.map(label), target=network.target.map(label))


@pytest.fixture(scope="module")
def cascades(truth, seed):
    return simulate.simulate_cascades(truth, 60, nodes=NODES, horizon=2.0, seed=seed).cascades


def fitted(cascades, seed, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short chains
        model = cn.CoupledHDP(truncation=6, **settings)
        return model.fit(cascades, 30, 60, 2, seed, progress=False).posterior_


@pytest.fixture(scope="module")
def posterior(cascades, seed):
    return fitted(cascades, seed)


@pytest.fixture(scope="module")
def flat(cascades, seed):
    return fitted(cascades, seed, prior="flat")


@pytest.fixture(autouse=True)
def no_figure_left():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return Figure().add_subplot()


def every_plot(posterior, truth):
    """Name and call of every plot function that draws on one Axes."""
    edges = posterior.edges()
    return {
        "predictive": lambda ax: plotting.plot_predictive(posterior, ax, truth=truth),
        "communities": lambda ax: plotting.plot_communities(posterior, ax=ax),
        "probabilities": lambda ax: plotting.plot_edge_probabilities(edges, truth, NODES, ax),
        "recovery": lambda ax: plotting.plot_recovery({"a": edges}, truth, NODES, ax),
        "rates": lambda ax: plotting.plot_rates(edges, truth, ax),
        "network": lambda ax: plotting.plot_network(posterior, ax=ax),
        "traces": lambda ax: plotting.plot_traces(posterior, ["b"], ax),
        "ranks": lambda ax: plotting.plot_ranks(posterior, ["b"], ax),
    }


PLOTS = [
    "communities",
    "network",
    "predictive",
    "probabilities",
    "ranks",
    "rates",
    "recovery",
    "traces",
]


def rows_of(frame, *columns):
    return list(frame[list(columns)].itertuples(index=False, name=None))


# Where they draw


@pytest.mark.parametrize("name", PLOTS)
def test_draws_on_the_axes_given(name, posterior, truth, ax):
    result = every_plot(posterior, truth)[name](ax)
    assert np.array(result, dtype=object).ravel().tolist() == [ax]
    assert ax.has_data() or ax.collections or ax.lines
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", PLOTS)
def test_opens_a_figure_of_its_own_otherwise(name, posterior, truth):
    result = np.array(every_plot(posterior, truth)[name](None), dtype=object).ravel()
    assert all(isinstance(ax, Axes) for ax in result)
    assert [result[0].figure.number] == plt.get_fignums()


def test_all_public_plots_are_covered():
    covered = {"plot_" + name for name in PLOTS} | {"plot_edge_probabilities"}
    assert {name for name in plotting.__all__ if name.startswith("plot_")} <= covered


def test_global_settings_stay(posterior, truth, ax, tmp_path):
    before = dict(matplotlib.rcParams)
    for draw in every_plot(posterior, truth).values():
        draw(None)
    plotting.save_figure(ax, tmp_path / "a.svg")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", sorted(set(PLOTS) - {"network"}))
def test_axes_have_labels(name, posterior, truth, ax):
    every_plot(posterior, truth)[name](ax)
    shown = [ax, *ax.child_axes]
    assert any(a.get_xlabel() for a in shown)
    assert all(a.get_ylabel() for a in shown)


def test_pyplot_is_left_alone_when_axes_are_given():
    """Nor is matplotlib loaded by the import."""
    code = """
import sys
import pandas as pd
from cascadenet import plotting
assert "matplotlib" not in sys.modules
from matplotlib.figure import Figure
edges = pd.DataFrame({"source": [1, 2], "target": [2, 1], "prob": [0.9, 0.2]})
for ax in Figure().subplots(1, 2)[:1]:
    plotting.plot_recovery({"a": edges}, [(1, 2)], [1, 2, 3], ax)
    plotting.plot_edge_probabilities(edges, [(1, 2)], [1, 2, 3], ax)
assert "matplotlib.pyplot" not in sys.modules
"""
    folder = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, timeout=60)


# Heat maps


def expected_order(posterior, role):
    """By community, null last, then by expected infections sent or received; as positions."""
    edges = posterior.edges()
    carried = edges.groupby("source" if role == "sender" else "target")["n"].sum()
    community = posterior.communities().set_index("node")[role]

    def key(i):
        node = posterior.nodes[i]
        return community[node] or np.inf, -round(carried.get(node, 0.0), 9), i

    return np.array(sorted(range(posterior.n_nodes), key=key))


def image_of(ax):
    return np.ma.filled(ax.images[0].get_array(), np.nan)


def test_posterior_has_communities_and_null_nodes(posterior):
    """Else the order of rows would be tested on nothing."""
    assert len(set(posterior.communities()["sender"]) | {0}) >= 2
    assert posterior.communities()["receiver"].max() >= 1


@pytest.mark.parametrize("which", ["posterior", "flat"])
def test_predictive_cells_are_pairs_in_order(which, ax, request):
    fit = request.getfixturevalue(which)
    rows, columns = expected_order(fit, "sender"), expected_order(fit, "receiver")
    expected = fit.predictive_matrix().astype(float)
    np.fill_diagonal(expected, np.nan)
    plotting.plot_predictive(fit, ax)
    np.testing.assert_allclose(image_of(ax), expected[np.ix_(rows, columns)], rtol=1e-4)


def test_flat_order_is_by_strength(flat, ax):
    plotting.plot_predictive(flat, ax)
    assert "expected outgoing infections" in ax.get_ylabel()
    assert len(ax.lines) == 0


@pytest.mark.parametrize("n_cells", [1, 7, 23])
def test_predictive_bins_are_means_over_pairs_of_different_nodes(n_cells, posterior, ax):
    rows, columns = expected_order(posterior, "sender"), expected_order(posterior, "receiver")
    matrix = posterior.predictive_matrix().astype(float)
    plotting.plot_predictive(posterior, ax, max_nodes=n_cells)
    image = image_of(ax)
    assert image.shape == (n_cells, n_cells)
    cell = [i * n_cells // N_NODES for i in range(N_NODES)]
    for a, b in itertools.product(range(n_cells), repeat=2):
        u = [rows[i] for i in range(N_NODES) if cell[i] == a]
        v = [columns[i] for i in range(N_NODES) if cell[i] == b]
        values = [matrix[i, j] for i in u for j in v if i != j]
        expected = np.mean(values) if values else np.nan
        np.testing.assert_allclose(image[a, b], expected, rtol=1e-4)
    assert "means over cells" in ax.get_title(loc="left")


def test_predictive_of_an_open_world(cascades, seed, ax):
    fit = fitted(cascades, seed, open_world=True)
    plotting.plot_predictive(fit, ax)
    assert np.nansum(image_of(ax)) == pytest.approx(fit.predictive_matrix().sum(), rel=1e-4)


def test_predictive_scale_is_logarithmic_and_named(posterior, ax):
    plotting.plot_predictive(posterior, ax)
    image = ax.images[0]
    assert type(image.norm).__name__ == "LogNorm"
    assert image.colorbar.ax.get_ylabel() == "predictive probability of the pair"
    inside = image.norm.vmax / image.norm.vmin
    assert 1.0 < inside <= 10.0**plotting.DECADES * 1.001


@pytest.mark.parametrize("n_cells", [400, 7])
def test_true_edges_are_marked_at_their_pairs(n_cells, posterior, truth, ax):
    plotting.plot_predictive(posterior, ax, max_nodes=n_cells, truth=truth)
    (marks,) = (c for c in ax.collections if isinstance(c, PathCollection))
    x, y = np.floor(marks.get_offsets()).astype(int).T
    rows, columns = expected_order(posterior, "sender"), expected_order(posterior, "receiver")
    drawn = {
        (posterior.nodes[rows[j]], posterior.nodes[columns[i]]) for i, j in zip(x, y, strict=True)
    }
    assert drawn == set(rows_of(truth, "source", "target"))


def test_margins_number_the_communities_and_separate_them(posterior, ax):
    plotting.plot_predictive(posterior, ax)
    labels = posterior.communities()["sender"].to_numpy()[expected_order(posterior, "sender")]
    numbers = list(dict.fromkeys(labels))
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        str(k) if k else "null" for k in numbers
    ]
    borders = sorted(line.get_ydata()[0] for line in ax.lines if list(line.get_xdata()) == [0, 1])
    ends = np.cumsum([np.sum(labels == k) for k in numbers])
    assert borders == ends[:-1].tolist()


@pytest.mark.parametrize("role", ["sender", "receiver"])
@pytest.mark.parametrize("n_cells", [400, 5])
def test_communities_show_the_coclustering(role, n_cells, posterior, ax):
    order = expected_order(posterior, role)
    matrix = posterior.coclustering(role)[np.ix_(order, order)]
    plotting.plot_communities(posterior, role, ax, max_nodes=n_cells)
    if n_cells > N_NODES:
        np.testing.assert_allclose(image_of(ax), matrix)
        return
    np.fill_diagonal(matrix, np.nan)
    cell = np.arange(N_NODES) * n_cells // N_NODES
    for a, b in itertools.product(range(n_cells), repeat=2):
        expected = np.nanmean(matrix[np.ix_(cell == a, cell == b)])
        assert image_of(ax)[a, b] == pytest.approx(expected)


# Estimates and truth


def pair_vectors(edges, truth):
    """Probability and truth of every ordered pair."""
    prob = dict(zip(rows_of(edges, "source", "target"), edges.prob, strict=True))
    true = set(rows_of(truth, "source", "target"))
    pairs = list(itertools.permutations(NODES, 2))
    return np.array([prob.get(p, 0.0) for p in pairs]), np.array([p in true for p in pairs])


def test_probabilities_show_the_calibration_of_all_pairs(posterior, truth, ax):
    edges = posterior.edges().sample(frac=0.8, random_state=1)  # some pairs are not listed
    curve = calibration_curve(*pair_vectors(edges, truth))
    curve = curve[curve["count"] > 0]
    plotting.plot_edge_probabilities(edges, truth, NODES, ax)
    (points,) = ax.containers
    x, y = points.lines[0].get_data()
    np.testing.assert_allclose(x, curve.predicted)
    np.testing.assert_allclose(y, curve.observed)
    segments = np.array(points.lines[2][0].get_segments())
    np.testing.assert_allclose(segments[:, :, 1], curve[["low", "high"]], atol=1e-12)


def test_bars_count_true_and_false_pairs(posterior, truth, ax):
    edges = posterior.edges()
    prob, true = pair_vectors(edges, truth)
    plotting.plot_edge_probabilities(edges, truth, NODES, ax)
    bars = {c.get_label(): [b.get_height() for b in c] for c in ax.child_axes[0].containers}
    for name, outcome in (("true", true), ("false", ~true)):
        assert bars[name] == np.histogram(prob[outcome], np.linspace(0, 1, 11))[0].tolist()
    assert ax.child_axes[0].get_yscale() == "log"


def drawn_area(line):
    """Area under a curve of steps that are level up to each point."""
    x, y = line.get_data()
    assert line.get_drawstyle() == "steps-pre"
    return float(np.dot(np.diff(x), y[1:]))


def test_area_under_a_curve_is_its_score(posterior, truth, ax, seed):
    edges = posterior.edges()
    coarse = edges[["source", "target"]].assign(prob=edges.prob.round(1))  # large blocks of ties
    noise = coarse.assign(prob=np.random.default_rng(seed).random(len(edges)))
    tables = {"fine": edges, "coarse": coarse, "noise": noise, "half": edges[::2]}
    plotting.plot_recovery(tables, truth, NODES, ax)
    for line, (name, table) in zip(ax.lines, tables.items(), strict=True):
        auprc = score_edges(table, truth, NODES).auprc
        assert drawn_area(line) == pytest.approx(auprc)
        assert line.get_label() == f"{name}, {auprc:.3f}"


def test_curves_do_not_depend_on_the_order_of_rows(posterior, truth):
    edges = posterior.edges().assign(prob=lambda e: e.prob.round(1))
    edges = edges[["source", "target", "prob"]]
    shuffled = edges.sample(frac=1.0, random_state=3)
    ax = plotting.plot_recovery({"a": edges, "b": shuffled}, truth, NODES)
    first, second = (line.get_xydata() for line in ax.lines)
    np.testing.assert_array_equal(first, second)


def test_methods_differ_in_colour_and_dash(posterior, truth, ax):
    tables = {str(i): posterior.edges() for i in range(12)}
    plotting.plot_recovery(tables, truth, NODES, ax)
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 12


def test_rates_show_the_table(posterior, truth, ax):
    edges = posterior.edges()
    found = edges[edges.prob >= 0.5].merge(truth, on=["source", "target"], suffixes=("", "_true"))
    plotting.plot_rates(edges, truth, ax)
    drawn = {tuple(point) for point in ax.lines[0].get_xydata()}
    assert drawn == set(rows_of(found, "rate_true", "rate"))
    (bars,) = (c for c in ax.collections if isinstance(c, LineCollection))
    drawn = np.array(bars.get_segments())[:, :, 1].tolist()
    assert sorted(map(tuple, drawn)) == sorted(rows_of(found, "rate_low", "rate_high"))
    covered = found.rate_true.between(found.rate_low, found.rate_high).mean()
    assert f"{len(found)} true edges" in ax.get_title(loc="left")
    assert f"{covered:.0%} of the 94% intervals" in ax.get_title(loc="left")


def test_rates_without_intervals_and_from_a_graph(posterior, truth, ax):
    edges = posterior.edges().assign(rate_low=np.nan, rate_high=np.nan)
    graph = nx.from_pandas_edgelist(truth, edge_attr="rate", create_using=nx.DiGraph)
    plotting.plot_rates(edges, graph, ax)
    other = plotting.plot_rates(edges, truth)
    drawn = [sorted(a.lines[0].get_xydata().tolist()) for a in (ax, other)]
    assert drawn[0] == drawn[1]
    assert "intervals" not in ax.get_title(loc="left")


# Chains


def chains(**scalars):
    return SimpleNamespace(scalars=scalars)


def test_traces_are_the_draws(posterior):
    axes = plotting.plot_traces(posterior)
    assert axes.shape == (len(posterior.scalars),)
    for ax, (name, draws) in zip(axes, posterior.scalars.items(), strict=True):
        assert ax.get_ylabel().split(" ")[0] == name
        np.testing.assert_array_equal([line.get_ydata() for line in ax.lines], draws)


def test_names_choose_and_order(posterior):
    axes = plotting.plot_traces(posterior, ["tau", "b"])
    assert [ax.get_ylabel() for ax in axes] == ["tau", "b (exposure)"]
    axes = plotting.plot_ranks(posterior, ["tau", "b"])
    assert [ax.get_xlabel() for ax in axes] == ["rank of tau", "rank of b"]


def test_more_axes_than_names_are_left_alone(posterior):
    given = Figure().subplots(2, 2)
    axes = plotting.plot_traces(posterior, ["b", "tau", "alpha"], given)
    assert axes.tolist() == given.ravel()[:3].tolist()
    assert not given[1, 1].has_data()


def bar_heights(ax, draws):
    """Counts by chain, read from the bars."""
    rows = [c for c in ax.containers]
    expected = draws.size / len(rows) / len(rows[0])
    return np.array([[bar.get_height() * expected for bar in row] for row in rows])


def test_rank_bars_count_ranks(seed, ax):
    draws = np.random.default_rng(seed).normal(size=(3, 60))
    rank = draws.ravel().argsort().argsort().reshape(draws.shape)
    plotting.plot_ranks(chains(x=draws), axes=ax)
    bars = bar_heights(ax, draws)
    assert bars.shape == (3, 4)
    expected = [np.histogram(row + 0.5, np.linspace(0, 180, 5))[0] for row in rank]
    np.testing.assert_allclose(bars, expected)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["1", "2", "3"]


def test_tied_draws_spread_evenly(ax):
    draws = np.repeat([[0.0, 1.0]], 4, axis=0).repeat(30, axis=1)
    plotting.plot_ranks(chains(x=draws), axes=ax)
    np.testing.assert_allclose(bar_heights(ax, draws), 15.0)


def test_one_chain_is_compared_with_itself(ax):
    draws = np.arange(61.0)[None]  # drifts: the halves share no rank
    plotting.plot_ranks(chains(x=draws), axes=ax)
    np.testing.assert_allclose(bar_heights(ax, draws[:, 1:]), [[15, 15, 0, 0], [0, 0, 15, 15]])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["first", "last"]


def leaves_bands(draws):
    """Whether any bar ends outside of the band of its row."""
    ax = Figure().add_subplot()
    counts = plotting._rank_counts(draws)
    plotting._draw_ranks(ax, counts, draws.size, ["?"] * len(draws))
    bars = {bar for row in ax.containers for bar in row}
    bands = [p for p in ax.patches if isinstance(p, Rectangle) and p not in bars]
    assert len(bands) == len(ax.containers) == len(draws)
    for band, row in zip(bands, ax.containers, strict=True):
        low, high = band.get_y(), band.get_y() + band.get_height()
        ends = np.array([bar.get_y() + bar.get_height() for bar in row])
        if (ends < low - 1e-9).any() or (ends > high + 1e-9).any():
            return True
    return False


def test_sound_chains_stay_in_the_bands(seed):
    """Each of 60 sets leaves them with probability 6% at most: more than 11 have 0.04%."""
    rng = np.random.default_rng(seed)
    assert sum(leaves_bands(rng.normal(size=(2, 100))) for _ in range(60)) <= 11


def test_chains_that_disagree_leave_the_bands(seed):
    """Negative control: the chains are one standard deviation apart."""
    rng = np.random.default_rng(seed)
    shift = np.array([[0.0], [1.0]])
    assert sum(leaves_bands(rng.normal(size=(2, 100)) + shift) for _ in range(20)) >= 15


# Network


def arrows(ax):
    return [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]


def node_dots(ax):
    return next(c for c in ax.collections if isinstance(c, PathCollection))


def test_network_draws_the_likely_edges(posterior, ax):
    edges = posterior.edges()
    likely = edges[edges.prob >= 0.7]
    plotting.plot_network(posterior, 0.7, ax)
    assert len(arrows(ax)) == len(likely)
    assert len(node_dots(ax).get_offsets()) == len({*likely.source, *likely.target})
    assert {t.get_text() for t in ax.texts} == {*likely.source, *likely.target}
    assert ax.get_title(loc="left") == f"{len(likely)} edges with probability ≥ 0.7"


def test_network_draws_the_best_of_many(posterior, ax):
    shuffled = posterior.edges().sample(frac=1.0, random_state=2)
    best = shuffled.sort_values("prob", ascending=False, kind="stable")[:5]
    plotting.plot_network(shuffled, 0.5, ax, max_edges=5)
    assert len(arrows(ax)) == 5
    assert {t.get_text() for t in ax.texts} == {*best.source, *best.target}
    assert "best 5 edges" in ax.get_title(loc="left")


def test_network_colours_are_sender_communities(posterior, ax):
    plotting.plot_network(posterior, ax=ax)
    community = posterior.communities().set_index("node")["sender"]
    colours = [to_hex(c).upper() for c in node_dots(ax).get_facecolors()]
    for text, colour in zip(ax.texts, colours, strict=True):
        expected = plotting.COMMUNITY_COLOURS.get(community[text.get_text()], plotting.FAINT)
        assert colour == expected


def test_network_widths_grow_with_rates(ax):
    edges = pd.DataFrame(
        {
            "source": [1, 2, 3, 1],
            "target": [2, 3, 4, 4],
            "prob": 1.0,
            "rate": [0.0, 4.0, 1.0, 0.25],
        }
    )
    plotting.plot_network(edges, ax=ax)
    place = {text.get_position(): int(text.get_text()) for text in ax.texts}
    width = {}
    for arrow in arrows(ax):
        width[tuple(place[tuple(end)] for end in arrow._posA_posB)] = arrow.get_linewidth()
    assert sorted(width, key=width.get) == [(1, 2), (1, 4), (3, 4), (2, 3)]
    assert [t.get_text() for t in ax.get_legend().get_texts()][-1] == "rate 4"


def test_network_of_unknown_rates_or_communities(posterior, flat, ax):
    edges = posterior.edges()[["source", "target", "prob"]]
    for given in (edges, edges.assign(rate=np.nan), flat):
        plotting.plot_network(given, ax=ax)
    assert len({a.get_linewidth() for a in arrows(plotting.plot_network(edges))}) == 1


def test_network_places_are_the_same_every_time(posterior):
    first, second = (plotting.plot_network(posterior) for _ in range(2))
    np.testing.assert_array_equal(node_dots(first).get_offsets(), node_dots(second).get_offsets())


# Files


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".PNG"])
def test_bytes_depend_on_the_picture_alone(suffix, posterior, truth, tmp_path):
    paths = [tmp_path / f"{i}{suffix}" for i in range(2)]
    for path in paths:
        plotting.save_figure(plotting.plot_rates(posterior.edges(), truth), path)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert len(first) > 1000
    for stamp in (b"Matplotlib version", b"CreationDate", b"dc:date"):
        assert stamp not in first


def test_other_pictures_have_other_bytes(posterior, tmp_path):
    for name in ("b", "tau"):
        plotting.save_figure(plotting.plot_traces(posterior, [name]), tmp_path / f"{name}.png")
    assert (tmp_path / "b.png").read_bytes() != (tmp_path / "tau.png").read_bytes()


def test_saves_the_whole_figure_of_any_axes(posterior, tmp_path):
    axes = plotting.plot_traces(posterior, ["b", "tau"])
    figure = Figure()
    inner = figure.subfigures(1, 2)[0].add_subplot()
    for i, given in enumerate((axes, list(axes), axes[1])):
        plotting.save_figure(given, tmp_path / f"{i}.png")
    assert len({(tmp_path / f"{i}.png").read_bytes() for i in range(3)}) == 1
    plotting.save_figure(inner, tmp_path / "inner.svg")
    assert (tmp_path / "inner.svg").stat().st_size > 0


def test_failure_leaves_what_was_there(tmp_path, ax, monkeypatch):
    path = tmp_path / "a.png"
    path.write_text("before")

    def fail(*args, **kwargs):
        Path(args[0]).write_text("part")
        raise OSError("disk full")

    monkeypatch.setattr(ax.figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        plotting.save_figure(ax, path)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("name", ["a.bmp", "a", "png", "a.png.txt"])
def test_unknown_suffix_is_named(name, tmp_path, ax):
    suffix = Path(name).suffix
    with pytest.raises(ValueError, match=rf"path must end in \.pdf, \.png, \.svg; got '{suffix}'"):
        plotting.save_figure(ax, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# Errors name the argument


def edge_table(**columns):
    return pd.DataFrame({"source": ["n00"], "target": ["n01"], "prob": [0.9]} | columns)


RATES = {"rate": [1.0], "rate_low": [0.5], "rate_high": [2.0]}
TRUE = [("n00", "n01")]

ERRORS = [
    ("max_nodes must be", lambda p: plotting.plot_predictive(p, max_nodes=0)),
    ("max_nodes must be", lambda p: plotting.plot_communities(p, max_nodes=2.5)),
    ("truth has the pair", lambda p: plotting.plot_predictive(p, truth=[("n00", "x")])),
    ("role must be sender or receiver; got 'both'", lambda p: plotting.plot_communities(p, "both")),
    (
        "prob of edges must lie in .* 1.5",
        lambda p: plotting.plot_edge_probabilities(edge_table(prob=[1.5]), TRUE, NODES),
    ),
    ("truth has no", lambda p: plotting.plot_edge_probabilities(edge_table(), [], NODES)),
    ("edges has the pair", lambda p: plotting.plot_recovery({"a": edge_table()}, TRUE, ["n00"])),
    ("tables must hold", lambda p: plotting.plot_recovery({}, TRUE, NODES)),
    ("edges has no column 'rate'", lambda p: plotting.plot_rates(edge_table(), edge_table())),
    (
        "truth has no column 'rate'",
        lambda p: plotting.plot_rates(edge_table(**RATES), edge_table()),
    ),
    (
        "edges must have rates of true",
        lambda p: plotting.plot_rates(edge_table(**RATES), edge_table(rate=[1.0], source=["n05"])),
    ),
    (
        "truth must have one rate a pair .* n00 to n01",
        lambda p: plotting.plot_rates(
            edge_table(**RATES), pd.concat([edge_table(rate=[1.0]), edge_table(rate=[2.0])])
        ),
    ),
    ("names must be scalars .* got 'x'", lambda p: plotting.plot_traces(p, ["b", "x"])),
    ("names must be a sequence", lambda p: plotting.plot_ranks(p, "b")),
    ("names must be a sequence", lambda p: plotting.plot_ranks(p, [])),
    ("axes must hold", lambda p: plotting.plot_ranks(p, ["b", "tau"], Figure().add_subplot())),
    ("max_edges must be", lambda p: plotting.plot_network(p, max_edges=0)),
    ("threshold leaves no edge", lambda p: plotting.plot_network(p, 1.1)),
    ("posterior_or_edges must be", lambda p: plotting.plot_network([("n00", "n01")])),
    (
        "posterior_or_edges has no column 'prob'",
        lambda p: plotting.plot_network(edge_table().drop(columns="prob")),
    ),
    ("ax_or_axes must be Axes", lambda p: plotting.save_figure([], "a.png")),
    ("ax_or_axes must be Axes", lambda p: plotting.save_figure("figure", "a.png")),
]


@pytest.mark.parametrize(("message", "call"), ERRORS, ids=[message for message, _ in ERRORS])
def test_errors_name_the_argument(message, call, posterior):
    with pytest.raises(ValueError, match=message):
        call(posterior)
    assert plt.get_fignums() == []


def test_flat_prior_has_no_communities_to_show(flat):
    with pytest.raises(ValueError, match=r"posterior must have communities; got .* prior='flat'"):
        plotting.plot_communities(flat)
