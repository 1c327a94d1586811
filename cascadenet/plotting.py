"""Pictures: each function draws one, on the Axes it is given or on new ones, and returns them.

Matplotlib's global settings are left alone. A figure opened here, when no Axes are given, stays
readable at half its size; `save_figure` writes what a function returned. The categorical colours
are those of Okabe and Ito, which the common colour vision deficiencies do not confuse.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet import metrics, prediction
from cascadenet.files import atomic_path

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from cascadenet.posterior import Posterior

    Truth = pd.DataFrame | nx.DiGraph | Iterable[tuple]

__all__ = [
    "plot_communities",
    "plot_edge_probabilities",
    "plot_network",
    "plot_predictive",
    "plot_ranks",
    "plot_rates",
    "plot_recovery",
    "plot_traces",
    "save_figure",
]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":")
INK, QUIET, FAINT = "#222222", "#8C8C8C", "#DDDDDD"
SEQUENTIAL = "Blues"  # light to dark: marks of PALETTE[1] show on all of it
SMALL = 9  # points: notes, legends, ticks
LEGEND = {"fontsize": SMALL, "title_fontsize": SMALL, "frameon": False, "borderaxespad": 0.0}

LEVEL = 0.94  # of every interval, as in the tables
DECADES = 4.0  # of the log colour scale below its largest value
RANK_BINS, DRAWS_PER_BIN = (4, 20), 15
BINS = 10  # of probability
LABEL_SHARE = 0.03  # communities with fewer of the nodes get no number in the margin
LABELLED_NODES = 60  # a network with more draws no node labels
RATES_FROM = 0.5  # rates are compared of edges that have at least this probability
UNITS = {"b": "exposure", "nu": "1/exposure", "entropy": "nats", "log_joint": "nats"}
UNITS |= {"background_rate": "1/time", "delay_delta": "time", "delay_w": "1/time"}
COMMUNITY_COLOURS = dict(enumerate(PALETTE, 1))  # of the largest; the others are grey
# what would make two files of the same picture differ
METADATA = {".pdf": "CreationDate", ".png": "Software", ".svg": "Date"}


def plot_predictive(
    posterior: Posterior,
    ax: Axes | None = None,
    *,
    max_nodes: int = 400,
    truth: Truth | None = None,
) -> Axes:
    """Heat map of the predictive distribution of the next edge, ordered by community.

    Parameters
    ----------
    posterior : Posterior
    ax : Axes, optional
    max_nodes : int
        Largest number of rows and columns: of more nodes, neighbours share a cell, their mean.
    truth : DataFrame, networkx.DiGraph or iterable of (source, target), optional
        True edges, drawn as small marks.

    Returns
    -------
    Axes
        Senders from top to bottom: by community, nodes without one (null) last, then by expected
        infections (under the flat prior by these alone); receivers from left to right likewise.
        Pairs of a node with itself are grey.

    Raises
    ------
    ValueError
        ``max_nodes`` below 1, ``truth`` with unknown nodes.
    """
    from matplotlib.colors import LogNorm

    _check_count("max_nodes", max_nodes)
    pairs, index = () if truth is None else truth, metrics._node_index(posterior.nodes)
    edges = metrics._distinct_keys("truth", pairs, index, positive_rate=True)
    rows, columns = (_order(posterior, role) for role in ("sender", "receiver"))
    matrix = _cell_means(posterior, rows[0], columns[0], min(max_nodes, posterior.n_nodes))
    # the few best pairs would take half of the colours
    low, high = np.nanmin(matrix), np.nanquantile(matrix, 0.999) or np.nanmax(matrix)
    if high <= low * 1.001:  # all alike: the flat prior
        low, high = low / 2.0, high * 2.0
    norm = LogNorm(max(low, high * 10.0**-DECADES), high)
    ax = _axes(ax, 5.8, 4.8)
    _heat_map(ax, matrix, posterior.n_nodes, "predictive probability of the pair", norm)
    _community_margin(ax.yaxis, "sender", rows[1])
    _community_margin(ax.xaxis, "receiver", columns[1])
    if edges.size:
        source, target = np.divmod(edges, posterior.n_nodes)
        x, y = np.argsort(columns[0])[target] + 0.5, np.argsort(rows[0])[source] + 0.5
        size = np.clip(3000.0 / edges.size, 1.0, 14.0)
        ax.scatter(x, y, size, PALETTE[1], linewidths=0, label="true edge")
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), markerscale=2.0, **LEGEND)
    return ax


def plot_communities(
    posterior: Posterior, role: str = "sender", ax: Axes | None = None, *, max_nodes: int = 400
) -> Axes:
    """Co-clustering matrix: how sure it is that two nodes are of one community.

    Parameters
    ----------
    posterior : Posterior
    role : {"sender", "receiver"}
    ax, max_nodes
        As for `plot_predictive`.

    Returns
    -------
    Axes
        Nodes in the order of `plot_predictive`.

    Raises
    ------
    ValueError
        ``role`` is neither, ``max_nodes`` below 1, or the posterior has no communities.
    """
    from matplotlib.colors import Normalize

    if role not in ("sender", "receiver"):
        raise ValueError(f"role must be sender or receiver; got {role!r}")
    if posterior.settings["prior"] == "flat":
        raise ValueError("posterior must have communities; got one fitted with prior='flat'")
    _check_count("max_nodes", max_nodes)
    order, community = _order(posterior, role)
    matrix = _cell_coclustering(posterior, role, order, min(max_nodes, posterior.n_nodes))
    ax, label = _axes(ax, 5.8, 4.8), f"probability to share a {role} community"
    _heat_map(ax, matrix, posterior.n_nodes, label, Normalize(0.0, 1.0))
    for axis in (ax.yaxis, ax.xaxis):
        _community_margin(axis, role, community)
    return ax


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a positive integer; got {value!r}")


def _order(posterior: Posterior, role: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Node indices in the order of an axis, and their communities in that order; both (N,)."""
    used = posterior.sums.used
    edge = posterior.pair_source[used] >= 0
    end = (posterior.pair_source if role == "sender" else posterior.pair_target)[used[edge]]
    strength = np.bincount(end, posterior.sums.n[edge], minlength=posterior.n_nodes)
    strength = np.round(strength, 9)  # equal counts must tie, whatever the order of summation
    community = posterior.communities()[role].to_numpy()  # all 0 under the flat prior
    order = np.lexsort((-strength, np.where(community > 0, community, np.iinfo(np.int64).max)))
    return order, community[order]


def _cell_means(posterior: Posterior, rows: NDArray, columns: NDArray, n_cells: int) -> NDArray:
    """Mean predictive probability of the pairs of different nodes in each cell, nan for none."""
    # senders and receivers are summed over cells before they are multiplied: no N x N matrix
    cell = np.arange(posterior.n_nodes) * n_cells // posterior.n_nodes
    first = np.searchsorted(cell, np.arange(n_cells))
    loop_cell = cell[np.argsort(rows)], cell[np.argsort(columns)]
    size = np.bincount(cell).astype(np.float64)
    pairs = np.outer(size, size)
    np.subtract.at(pairs, loop_cell, 1.0)
    total = np.zeros((n_cells, n_cells))
    for network in posterior.networks:
        if network["weight"].size == 0:  # flat prior
            total += pairs / (posterior.n_nodes * (posterior.n_nodes - 1.0))
            continue
        scale = network["weight"] / prediction._off_diagonal(posterior, network)
        sender, receiver = network["sender"] * scale, network["receiver"].astype(np.float64)
        total += np.add.reduceat(sender[rows], first) @ np.add.reduceat(receiver[columns], first).T
        np.subtract.at(total, loop_cell, (sender * receiver).sum(axis=1)[: posterior.n_nodes])
    total /= len(posterior.networks)
    return np.divide(total, pairs, out=np.full_like(total, np.nan), where=pairs > 0.0)


def _cell_coclustering(posterior: Posterior, role: str, order: NDArray, n_cells: int) -> NDArray:
    """Mean probability that different nodes of two cells share a community; 1 for one node."""
    # with c_ak the nodes of cell a in community k, sum_k c_ak c_bk pairs share one
    cell = np.arange(posterior.n_nodes) * n_cells // posterior.n_nodes
    labels = posterior._labels[:, order + (role == "receiver") * posterior.n_nodes]
    width = int(labels.max()) + 1
    total = np.zeros((n_cells, n_cells))
    for draw in labels:
        count = np.bincount(cell * width + draw, minlength=n_cells * width)
        count = count.reshape(n_cells, width)[:, np.unique(draw)].astype(np.float64)
        total += count @ count.T
    size = np.bincount(cell).astype(np.float64)
    pairs = np.outer(size, size) - np.diag(size)
    total = total / labels.shape[0] - np.diag(size)
    return np.divide(total, pairs, out=np.ones_like(total), where=pairs > 0.0)


def _heat_map(ax: Axes, matrix: NDArray, n_nodes: int, label: str, norm: Any) -> None:
    """Image with positions of nodes, not of cells, on the axes; the first row on top."""
    ax.set_facecolor(FAINT)
    extent = (0.0, n_nodes, n_nodes, 0.0)
    image = ax.imshow(matrix, SEQUENTIAL, norm, extent=extent, interpolation="nearest")
    beyond = bool(np.nanmin(matrix) < norm.vmin), bool(np.nanmax(matrix) > norm.vmax)
    extend = ("neither", "max", "min", "both")[2 * beyond[0] + beyond[1]]
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.85, pad=0.03, extend=extend)
    bar.set_label(label)
    bar.ax.tick_params(labelsize=SMALL)
    if len(matrix) < n_nodes:
        side = f"{n_nodes / len(matrix):.3g}"
        _note(ax, f"means over cells of {side} × {side} nodes")


def _community_margin(axis: Any, role: str, community: NDArray[np.int64]) -> None:
    """Numbers of the communities along an axis, and lines between them across the picture."""
    n_nodes = community.size
    if not community.any():
        way = "outgoing" if role == "sender" else "incoming"
        axis.set_label_text(f"{role}s ({n_nodes} nodes), by expected {way} infections")
        axis.set_ticks([])
        return
    first = np.append(0, np.flatnonzero(np.diff(community)) + 1)
    size = np.diff(first, append=n_nodes)
    draw_line = axis.axes.axhline if axis.axis_name == "y" else axis.axes.axvline
    for border in first[1:]:
        draw_line(border, color=INK, linewidth=0.4)
    shown = size >= LABEL_SHARE * n_nodes
    names = [str(k) if k else "null" for k in community[first[shown]]]
    axis.set_ticks(first[shown] + size[shown] / 2.0, labels=names, fontsize=SMALL)
    axis.set_tick_params(length=0)
    axis.set_label_text(f"{role} community ({n_nodes} nodes)")


def plot_edge_probabilities(
    edges: pd.DataFrame, truth: Truth, nodes: Iterable, ax: Axes | None = None
) -> Axes:
    """Reliability of edge probabilities: do they tell how often edges are true?

    Parameters
    ----------
    edges : DataFrame
        Columns source, target, prob; pairs that are not listed have probability 0.
    truth : DataFrame, networkx.DiGraph or iterable of (source, target)
    nodes : iterable of labels, or Cascades
        All nodes; every ordered pair of them counts.
    ax : Axes, optional

    Returns
    -------
    Axes
        Observed frequency against mean probability in bins, with Wilson intervals of 94%. The
        inset below (``ax.child_axes[0]``) has each bin's numbers of true and of false pairs.

    Raises
    ------
    ValueError
        As `cascadenet.metrics.score_edges`; a probability outside [0, 1].
    """
    # blocks of tied pairs: one for each distinct probability, then the pairs that are not listed
    blocks = metrics.score_edges(edges, truth, nodes, break_ties=False)._blocks
    pairs, hits = np.diff(blocks.seen), np.diff(blocks.hits)
    prob = np.unique(np.asarray(edges["prob"], np.float64))[::-1]
    prob = np.append(prob, np.zeros(pairs.size - prob.size))
    if not (prob.min() >= 0.0 and prob.max() <= 1.0):
        raise ValueError(f"prob of edges must lie in [0, 1]; got {prob.min()} to {prob.max()}")
    which = np.searchsorted(np.linspace(0.0, 1.0, BINS + 1)[1:-1], prob, side="right")
    count, true = (np.bincount(which, x, minlength=BINS) for x in (pairs, hits))
    held = count > 0
    mean = np.bincount(which, prob * pairs, minlength=BINS)[held] / count[held]
    observed = true[held] / count[held]
    low, high = metrics._wilson_interval(observed, count[held], LEVEL)
    ax = _axes(ax, 4.8, 4.6)
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="--")
    errors = np.maximum([observed - low, high - observed], 0.0)
    ax.errorbar(mean, observed, errors, fmt="o", color=INK, ecolor=QUIET, markersize=5, capsize=3)
    # the lower third of the Axes is left to the bars, whatever layout it stands in
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.52, 1.03), ylabel="observed frequency", xticks=[])
    ax.set_yticks(np.linspace(0.0, 1.0, 6))
    ax.yaxis.set_label_coords(-0.12, 0.66)
    _note(ax, f"intervals of {LEVEL:.0%}", frame=False)
    _count_bars(ax, true, count - true)
    return ax


def _count_bars(ax: Axes, true: NDArray[np.float64], false: NDArray[np.float64]) -> None:
    """Numbers of true and of false pairs in each bin, log scale, along the bottom of the Axes."""
    inset = ax.inset_axes((0.0, 0.0, 1.0, 0.25))
    left, width = np.arange(BINS) / BINS, 0.4 / BINS
    inset.bar(left + 0.25 * width, true, width, align="edge", color=PALETTE[0], label="true")
    inset.bar(left + 1.25 * width, false, width, align="edge", color=PALETTE[4], label="false")
    inset.set(xlim=ax.get_xlim(), xlabel="posterior edge probability", ylabel="pairs")
    inset.set(yscale="log", ylim=(0.7, 12.0 * max(true.max(), false.max())))
    inset.yaxis.set_label_coords(-0.12, 0.5)
    inset.tick_params(axis="y", labelsize=SMALL)
    inset.minorticks_off()
    _note(inset, "", frame=False)
    inset.legend(ncols=2, loc="upper right", **LEGEND)


def plot_recovery(
    tables: Mapping[str, pd.DataFrame], truth: Truth, nodes: Iterable, ax: Axes | None = None
) -> Axes:
    """Precision against recall of several methods on one network.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Edge table of each method, by the name to show.
    truth, nodes, ax
        As for `plot_edge_probabilities`.

    Returns
    -------
    Axes
        One curve a method, level over what a block of tied pairs adds to the recall, at the
        precision after it: the area under the curve is the AUPRC, which the legend gives.

    Raises
    ------
    ValueError
        No table, or as `cascadenet.metrics.score_edges`.
    """
    if not tables:
        raise ValueError("tables must hold at least one edge table; got none")
    nodes = list(getattr(nodes, "nodes", nodes))
    scores = {name: metrics.score_edges(edges, truth, nodes) for name, edges in tables.items()}
    ax = _axes(ax, 4.8, 4.0)
    for i, (name, score) in enumerate(scores.items()):
        seen, hits = score._blocks.seen, score._blocks.hits
        gains = np.flatnonzero(np.diff(hits)) + 1  # other blocks only draw over the drop
        recall, precision = hits[gains] / hits[-1], hits[gains] / seen[gains]
        x, y = np.append(0.0, recall), np.append(precision[0], precision)
        style = {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[i % len(DASHES)]}
        ax.step(x, y, where="pre", linewidth=1.8, label=f"{name}, {score.auprc:.3f}", **style)
    ax.set(xlim=(0.0, 1.01), ylim=(0.0, 1.02))
    ax.set(xlabel="recall (share of true edges found)", ylabel="precision (share that is true)")
    _note(ax, "", frame=False)
    many = sum(line.get_xdata().size for line in ax.lines) > 10_000  # searching a place is slow
    ax.legend(title="area under the curve", loc="center" if many else "best", **LEGEND)
    return ax


def plot_rates(
    edges: pd.DataFrame, truth: pd.DataFrame | nx.DiGraph, ax: Axes | None = None
) -> Axes:
    """Estimated against true rates, for the true edges with probability 0.5 or more.

    Parameters
    ----------
    edges : DataFrame
        Columns source, target, prob, rate, rate_low, rate_high; the last two may be nan.
    truth : DataFrame or networkx.DiGraph
        The true network with its rates, one for each pair.
    ax : Axes, optional

    Returns
    -------
    Axes
        Both axes logarithmic; vertical lines are the intervals of 94%.

    Raises
    ------
    ValueError
        A column is missing, ``truth`` lists a pair twice, or there is no such edge.
    """
    for column in ("source", "target", "prob", "rate", "rate_low", "rate_high"):
        metrics._check_column("edges", edges, column)
    likely = edges[edges["prob"] >= RATES_FROM]
    found = likely.merge(_true_rates(truth), on=["source", "target"])
    true, rate, low, high = found[["true", "rate", "rate_low", "rate_high"]].to_numpy(float).T
    if not (rate > 0.0).any():
        raise ValueError(f"edges must have rates of true edges with prob >= {RATES_FROM}; got none")
    ax = _axes(ax, 4.8, 4.6)
    crowd = float(np.clip(10.0 / np.sqrt(len(found)), 0.2, 1.0))
    known = np.isfinite(low) & np.isfinite(high)
    ax.vlines(true[known], low[known], high[known], PALETTE[5], linewidth=0.8, alpha=crowd)
    dot = {"color": PALETTE[0], "markersize": 2.0 + 3.0 * crowd, "markeredgewidth": 0}
    ax.plot(true, rate, "o", alpha=0.7, **dot)
    # intervals may reach down to zero: the points decide what is shown
    limits = [(x[x > 0.0].min() / 1.5, np.nanmax(x) * 1.5) for x in (true, rate)]
    ax.set(xscale="log", yscale="log", xlim=limits[0], ylim=limits[1])
    ax.axline((1.0, 1.0), (10.0, 10.0), color=INK, linewidth=1, linestyle="--")
    ax.set(xlabel="true rate (data's unit of time)", ylabel="estimated rate (data's unit of time)")
    note = f"{len(found)} true edges with probability ≥ {RATES_FROM:g}"
    if known.any():
        share = ((low <= true) & (true <= high))[known].mean()
        note += f"\n{share:.0%} of the {LEVEL:.0%} intervals hold the true rate"
    _note(ax, note, frame=False)
    return ax


def _true_rates(truth: Any) -> pd.DataFrame:
    """Columns source, target, true of a network whose pairs have one positive rate each."""
    import networkx as nx

    if hasattr(truth, "is_directed"):
        truth = nx.to_pandas_edgelist(truth)
    for column in ("source", "target", "rate"):
        metrics._check_column("truth", truth, column)
    twice = truth[truth.duplicated(["source", "target"])]
    if len(twice):
        pair = f"{twice['source'].iloc[0]} to {twice['target'].iloc[0]}"
        raise ValueError(f"truth must have one rate a pair (see rates_at); got several for {pair}")
    return truth[truth["rate"] > 0.0][["source", "target", "rate"]].rename(columns={"rate": "true"})


def plot_traces(
    posterior: Posterior, names: Sequence[str] | None = None, axes: Any = None
) -> NDArray[np.object_]:
    """Traces of scalars, one picture each, chains in colours.

    Parameters
    ----------
    posterior : Posterior
    names : sequence of str, optional
        Which of ``posterior.scalars``; all by default.
    axes : Axes or array of Axes, optional
        At least one for each name.

    Returns
    -------
    ndarray of Axes, shape (len(names),)
        R-hat and the effective number of draws stand above each.

    Raises
    ------
    ValueError
        Unknown name, or too few axes.
    """
    names, axes = _scalar_axes(posterior, names, axes)
    for ax, name in zip(axes, names, strict=True):
        for c, chain in enumerate(posterior.scalars[name]):
            colour, draw = PALETTE[c % len(PALETTE)], np.arange(1, chain.size + 1)
            ax.plot(draw, chain, color=colour, linewidth=0.8, alpha=0.85)
        unit = f" ({UNITS[name]})" if name in UNITS else ""
        ax.set(xlabel="draw", ylabel=f"{name}{unit}")
        _note_mixing(ax, posterior.scalars[name])
    return axes


def plot_ranks(
    posterior: Posterior, names: Sequence[str] | None = None, axes: Any = None
) -> NDArray[np.object_]:
    """Rank histograms: do the chains share one distribution?

    Parameters
    ----------
    posterior, names, axes
        As for `plot_traces`. Of one chain the two halves are compared.

    Returns
    -------
    ndarray of Axes, shape (len(names),)
        A row of bars a chain: its draws by their rank among all, in units of what is expected. If
        chains agree and draws are independent, all bars of a scalar end in the grey bands with
        probability 94% or more (Bonferroni). Tied draws spread evenly over the ranks they share.

    Raises
    ------
    ValueError
        Unknown name, or too few axes.

    References
    ----------
    Vehtari et al. (2021), "Rank-normalization, folding, and localization", Bayesian Analysis 16.
    """
    names, axes = _scalar_axes(posterior, names, axes)
    for ax, name in zip(axes, names, strict=True):
        draws, half = posterior.scalars[name], posterior.scalars[name].shape[1] // 2
        rows = [str(c + 1) for c in range(draws.shape[0])]
        if len(rows) == 1 and half:
            draws, rows = np.concatenate((draws[:, :half], draws[:, -half:])), ["first", "last"]
        _draw_ranks(ax, _rank_counts(draws), draws.size, rows)
        ax.set(xlabel=f"rank of {name}", ylabel="half" if rows[0] == "first" else "chain")
        _note_mixing(ax, posterior.scalars[name], f", {LEVEL:.0%} bands")
    return axes


def _rank_counts(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draws of each chain in bins of equal width of the pooled ranks, (chains, bins)."""
    bins = int(np.clip(draws.shape[1] // DRAWS_PER_BIN, *RANK_BINS))
    values, group = np.unique(draws, return_inverse=True)
    held = np.stack([np.bincount(row, minlength=values.size) for row in group.reshape(draws.shape)])
    start = np.append(0, np.cumsum(held.sum(axis=0)))
    edges = np.linspace(0.0, draws.size, bins + 1)
    below = [np.interp(edges, start, np.append(0, np.cumsum(row))) for row in held]
    return np.diff(below, axis=1)


def _draw_ranks(ax: Axes, counts: NDArray[np.float64], n_draws: int, rows: Sequence[str]) -> None:
    """One row of bars a chain, the first on top, with the band of a sound sampler."""
    from scipy.stats import hypergeom

    n_chains, bins = counts.shape
    width, expected = n_draws / bins, n_draws / counts.size
    law = hypergeom(n_draws, n_draws // n_chains, round(width))
    tail = (1.0 - LEVEL) / 2.0 / counts.size
    low, high = law.ppf(tail) / expected, law.isf(tail) / expected
    step = 1.1 * max(high, counts.max() / expected)
    base = step * np.arange(n_chains)[::-1]
    for c, height in enumerate(counts / expected):
        ax.axhspan(base[c] + low, base[c] + high, color=FAINT, linewidth=0)
        bar = {"bottom": base[c], "align": "edge", "color": PALETTE[c % len(PALETTE)]}
        ax.bar(np.arange(bins) * width, height, 0.9 * width, alpha=0.8, **bar)
        for level, colour in ((base[c] + 1.0, QUIET), (base[c], INK)):
            ax.axhline(level, color=colour, linewidth=0.6)
    ax.set(xlim=(0.0, n_draws), ylim=(0.0, step * n_chains))
    ax.set_yticks(base + 1.0, labels=rows)
    ax.tick_params(axis="y", length=0)


def _scalar_axes(posterior: Posterior, names: Any, axes: Any) -> tuple[list[str], NDArray]:
    """Names of scalars and one Axes for each: of those given, or of a new figure, three a row."""
    names = list(posterior.scalars) if names is None else names
    if isinstance(names, str) or len(names) == 0:
        raise ValueError(f"names must be a sequence of names of scalars; got {names!r}")
    for name in names:
        if name not in posterior.scalars:
            known = ", ".join(posterior.scalars)
            raise ValueError(f"names must be scalars of the posterior ({known}); got {name!r}")
    count = len(names)
    if axes is None:
        import matplotlib.pyplot as plt

        columns, rows = min(count, 3), -(-count // 3)
        size = (max(2.8 * columns, 4.2), 2.0 * rows + 0.3)
        figure = plt.figure(figsize=size, layout="constrained")
        axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    axes = np.array(axes, dtype=object).ravel()
    if axes.size < count:
        raise ValueError(f"axes must hold one Axes for each name, {count}; got {axes.size}")
    return list(names), axes[:count]


def _note_mixing(ax: Axes, draws: NDArray[np.float64], more: str = "") -> None:
    from cascadenet.inference.diagnostics import ess_bulk, rhat

    ax.tick_params(labelsize=SMALL)
    _note(ax, f"R-hat {rhat(draws):.2f}, ESS {ess_bulk(draws):.0f}{more}", frame=False)


def plot_network(
    posterior_or_edges: Posterior | pd.DataFrame,
    threshold: float = 0.5,
    ax: Axes | None = None,
    max_edges: int = 500,
) -> Axes:
    """Drawing of the network: nodes coloured by sender community, edges as wide as their rate.

    Parameters
    ----------
    posterior_or_edges : Posterior or DataFrame
        A posterior, or an edge table.
    threshold : float
        Least probability of an edge that is drawn.
    ax : Axes, optional
    max_edges : int
        Only so many, the most probable; nodes that have none of them are left out.

    Returns
    -------
    Axes
        Spring layout from a fixed start; labels where there are few nodes.

    Raises
    ------
    ValueError
        ``max_edges`` below 1, no edge with that probability, neither a posterior nor a table.
    """
    import networkx as nx
    from matplotlib.patheffects import withStroke

    _check_count("max_edges", max_edges)
    table, community = _drawn_edges(posterior_or_edges, threshold, max_edges + 1)
    what = f"{len(table)} edges" if len(table) <= max_edges else f"the best {max_edges} edges"
    table = table[:max_edges]
    pairs = list(zip(table["source"], table["target"], strict=True))
    graph = nx.DiGraph(pairs)
    place = nx.spring_layout(nx.Graph(graph), k=2.5 / np.sqrt(len(graph)), seed=0)
    rate = np.nan_to_num(table["rate"].to_numpy(float)) if "rate" in table else np.zeros(len(table))
    widest = float(np.clip(40.0 / np.sqrt(len(table)), 1.4, 3.5))
    size = float(np.clip(6000.0 / len(graph), 14.0, 160.0))
    ax = _axes(ax, 5.8, 5.6)
    style = {"edge_color": QUIET, "alpha": 0.6, "connectionstyle": "arc3,rad=0.08"}
    style |= {"width": _widths(rate, rate.max(), widest).tolist(), "arrowsize": 4.0 + 2.0 * widest}
    nx.draw_networkx_edges(graph, place, pairs, ax=ax, node_size=size, **style)
    colours = [COMMUNITY_COLOURS.get(community.get(node, 0), FAINT) for node in graph]
    style = {"node_color": colours, "edgecolors": INK, "linewidths": 0.4}
    nx.draw_networkx_nodes(graph, place, ax=ax, node_size=size, **style)
    if len(graph) <= LABELLED_NODES:
        halo = [withStroke(linewidth=2.0, foreground="white")]
        style = {"ha": "center", "va": "center", "fontsize": SMALL, "parse_math": False}
        for node, (x, y) in place.items():
            ax.text(x, y, str(node), path_effects=halo, zorder=4, color=INK, **style)
    ax.set_axis_off()
    ax.margins(0.04)
    _network_legend(ax, {community[node] for node in graph if community}, rate, widest)
    _note(ax, f"{what} with probability ≥ {threshold:g}")
    return ax


def _drawn_edges(given: Any, threshold: float, most: int) -> tuple[pd.DataFrame, dict[Any, int]]:
    """The best edges, and sender communities by node label (empty where there are none)."""
    community: dict[Any, int] = {}
    if hasattr(given, "columns"):
        for name in ("source", "target", "prob"):
            metrics._check_column("posterior_or_edges", given, name)
        table = given.sort_values("prob", ascending=False, kind="stable")[:most]
    elif hasattr(given, "communities"):
        table = given.edges(top=most)
        if given.settings["prior"] != "flat":
            community = given.communities().set_index("node")["sender"].to_dict()
    else:
        raise ValueError(f"posterior_or_edges must be a Posterior or edge table; got {type(given)}")
    table = table[table["prob"] >= threshold]
    if table.empty:
        raise ValueError(f"threshold leaves no edge to draw; got {threshold}")
    return table, community


def _widths(rate: NDArray[np.float64], largest: float, widest: float) -> NDArray[np.float64]:
    """Line widths in points; the root keeps small rates visible."""
    share = np.sqrt(rate / largest) if largest > 0.0 else np.full(rate.shape, 0.3)
    return 0.3 + (widest - 0.3) * share


def _network_legend(ax: Axes, communities: set[int], rate: NDArray, widest: float) -> None:
    """Communities by colour, and two rates by width."""
    from matplotlib.lines import Line2D

    dot = {"marker": "o", "linestyle": "", "markeredgecolor": INK, "markeredgewidth": 0.4}
    colours = {f"community {k}": c for k, c in COMMUNITY_COLOURS.items() if k in communities}
    if communities - set(COMMUNITY_COLOURS):
        colours["other or none"] = FAINT
    handles = [Line2D([], [], color=c, label=name, **dot) for name, c in colours.items()]
    if rate.max() > rate.min():
        shown = np.quantile(rate, [0.1, 1.0])
        for value, width in zip(shown, _widths(shown, rate.max(), widest), strict=True):
            handles.append(Line2D([], [], color=QUIET, linewidth=width, label=f"rate {value:.2g}"))
    if handles:
        style = LEGEND | {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "ncols": 4}
        ax.legend(handles=handles, **style)


def save_figure(ax_or_axes: Any, path: str | os.PathLike[str]) -> None:
    """Write the figure of some Axes; a picture made and saved again has the same bytes.

    Parameters
    ----------
    ax_or_axes : Axes, sequence or array of Axes
        What a plot function returned.
    path : path
        ``.png``, ``.pdf`` or ``.svg``. When writing fails, what was there stays.

    Raises
    ------
    ValueError
        Another suffix, or no Axes.
    """
    import matplotlib

    kind = Path(path).suffix.lower()
    if kind not in METADATA:
        raise ValueError(f"path must end in {', '.join(METADATA)}; got {kind!r} ({path})")
    axes = np.array(ax_or_axes, dtype=object).ravel()
    if axes.size == 0 or not hasattr(axes[0], "get_figure"):
        raise ValueError(f"ax_or_axes must be Axes; got {ax_or_axes!r}")
    figure = axes[0].figure.canvas.figure  # also of Axes in a sub-figure
    # identifiers in an SVG are random unless salted
    with matplotlib.rc_context({"svg.hashsalt": "cascadenet"}), atomic_path(path) as partial:
        figure.savefig(partial, format=kind[1:], dpi=150, metadata={METADATA[kind]: None})


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    """The Axes given, or those of a new figure, size in inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def _note(ax: Axes, text: str, frame: bool = True) -> None:
    """A remark above the picture, and the frame open where nothing ends."""
    ax.set_title(text, fontsize=SMALL, loc="left", color=INK)
    for side in () if frame else ("top", "right"):
        ax.spines[side].set_visible(False)
