"""Pictures of networks that change, and of what a posterior expects next.

As in :mod:`cascadenet.plotting`: each function draws on the Axes it is given or on new ones.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet import prediction
from cascadenet.networks import network_columns, rates_at, whole_number
from cascadenet.plotting import (
    COMMUNITY_COLOURS,
    FAINT,
    INK,
    LABEL_SHARE,
    LEGEND,
    LEVEL,
    PALETTE,
    QUIET,
    SEQUENTIAL,
    SMALL,
    _axes,
    _note,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from cascadenet.evolution import DynamicPosterior
    from cascadenet.posterior import Posterior

__all__ = [
    "changing_edges",
    "plot_active_reliability",
    "plot_ahead",
    "plot_community_flow",
    "plot_edge_events",
    "plot_edge_timeline",
    "plot_rates_over_time",
    "plot_top_predictive",
]

BLOCK = 0.24  # width of a stack of communities, in intervals
CURVE = np.linspace(0.0, 1.0, 24)
MANY_TICKS = 12  # intervals, of which all are named
BIRTH, DEATH = PALETTE[2], PALETTE[1]
GRID = 25  # quantiles of a rate's law in each draw


# -- communities --------------------------------------------------------------------------------


def plot_community_flow(
    posterior: DynamicPosterior, role: str = "sender", ax: Axes | None = None
) -> Axes:
    """Communities over time: who stays, who moves, what is born and what dies (alluvial).

    Parameters
    ----------
    posterior : DynamicPosterior
    role : {"sender", "receiver"}
    ax : Axes, optional

    Returns
    -------
    Axes
        One stack of communities an interval, as high as they have nodes, those without one (null)
        below all others; bands between stacks are nodes, in the colour of the community they come
        from. The six communities with most nodes over time are coloured. A plus marks a community
        that is born, a cross one that is gone in the next interval.

    Raises
    ------
    ValueError
        ``role`` is neither, or the posterior has no communities.
    """
    if role not in ("sender", "receiver"):
        raise ValueError(f"role must be sender or receiver; got {role!r}")
    if posterior.settings["prior"] == "flat":
        raise ValueError("posterior must have communities; got one fitted with prior='flat'")
    n_nodes, count = posterior.n_nodes, len(posterior.posteriors)
    labels = posterior.communities()[role].to_numpy().reshape(count, n_nodes)
    colour = _flow_colours(labels)
    stacks = [_stack(row) for row in labels]
    ax = _axes(ax, max(5.4, 0.8 * count), 4.4)
    for j, (now, after) in enumerate(pairwise(labels)):
        _draw_bands(ax, j, now, after, stacks[j], stacks[j + 1], colour)
    for j, stack in enumerate(stacks):
        for k, (low, high) in stack.items():
            style = {"facecolor": colour.get(k, QUIET if k else FAINT), "edgecolor": "white"}
            ax.bar(j, high - low, BLOCK, low, linewidth=0.6, zorder=3, **style)
            if high - low >= LABEL_SHARE * n_nodes:
                dark = INK if k == 0 or colour.get(k) in (PALETTE[4], PALETTE[5]) else "white"
                at = {"ha": "center", "va": "center", "fontsize": SMALL, "zorder": 4}
                ax.text(j, (low + high) / 2.0, str(k) if k else "null", color=dark, **at)
    _mark_lives(ax, posterior, role, stacks)
    ax.set(xlim=(-0.5, count - 0.5), ylim=(0, n_nodes), ylabel=f"nodes, by {role} community")
    _interval_axis(ax, posterior)
    _note(ax, "", frame=False)
    return ax


def _flow_colours(labels: NDArray[np.int64]) -> dict[int, str]:
    """Colours of the communities with most nodes, all intervals together."""
    names, size = np.unique(labels[labels > 0], return_counts=True)
    largest = names[np.argsort(-size, kind="stable")]
    return dict(zip(largest.tolist(), COMMUNITY_COLOURS.values(), strict=False))


def _stack(labels: NDArray[np.int64]) -> dict[int, tuple[int, int]]:
    """Lower and upper end of every community, the null community lowest, then by number."""
    names, size = np.unique(labels, return_counts=True)
    top = np.cumsum(size)
    return {int(k): (int(b - n), int(b)) for k, n, b in zip(names, size, top, strict=True)}


def _draw_bands(
    ax: Axes,
    j: int,
    now: NDArray[np.int64],
    after: NDArray[np.int64],
    left: dict[int, tuple[int, int]],
    right: dict[int, tuple[int, int]],
    colour: dict[int, str],
) -> None:
    """Nodes on their way from interval j to the next."""
    x = j + BLOCK / 2.0 + (1.0 - BLOCK) * CURVE
    bend = CURVE**2 * (3.0 - 2.0 * CURVE)
    start = {k: low for k, (low, _) in left.items()}
    end = {k: low for k, (low, _) in right.items()}
    pairs, size = np.unique(np.stack((now, after)), axis=1, return_counts=True)
    for (k, to), n in zip(pairs.T.tolist(), size.tolist(), strict=True):
        below = start[k] + (end[to] - start[k]) * bend
        shade = colour.get(k, QUIET if k else FAINT)
        stays = k == to
        ax.fill_between(x, below, below + n, color=shade, alpha=0.45 if stays else 0.7, lw=0)
        start[k] += n
        end[to] += n


def _mark_lives(
    ax: Axes, posterior: DynamicPosterior, role: str, stacks: list[dict[int, tuple[int, int]]]
) -> None:
    """Marks beside the communities that are born and those that die, and what they mean."""
    sizes = posterior.community_sizes()
    drawn = set()
    for row in sizes[sizes["event"] != ""].itertuples():
        j = row.interval - posterior.first_interval
        if row.community not in stacks[j]:  # it has nodes in the other role only
            continue
        middle = sum(stacks[j][row.community]) / 2.0
        for event, marker, side in (("birth", "P", -1.0), ("death", "X", 1.0)):
            if event in row.event:
                label = None if event in drawn else f"community {'born' if side < 0 else 'gone'}"
                drawn.add(event)
                style = {"color": INK, "markersize": 4, "markeredgewidth": 0, "zorder": 5}
                style |= {"linestyle": "", "label": label, "clip_on": False}
                ax.plot(j + side * (BLOCK / 2.0 + 0.06), middle, marker, **style)
    if drawn:
        place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.01), "ncols": 2}
        ax.legend(markerscale=1.6, handletextpad=0.2, **place, **LEGEND)


def _interval_axis(ax: Axes, posterior: DynamicPosterior, skip: int = 0) -> None:
    """Intervals along the bottom, with the times at which they start."""
    count = len(posterior.posteriors)
    step = -(-count // MANY_TICKS)
    shown = np.arange(skip, count, step)
    names = [f"{j + posterior.first_interval}\n{posterior.ends[j]:.4g}" for j in shown]
    ax.set_xticks(shown, names, fontsize=SMALL)
    ax.set_xlabel("interval, and when it starts (data's unit of time)")


# -- edges that come and go ---------------------------------------------------------------------


def plot_edge_events(
    posterior: DynamicPosterior, ax: Axes | None = None, *, threshold: float = 0.5
) -> Axes:
    """Births and deaths of edges in each interval.

    Parameters
    ----------
    posterior : DynamicPosterior
    ax : Axes, optional
    threshold : float
        An edge is there when the probability that it is active is at least this.

    Returns
    -------
    Axes
        Births as bars upwards, deaths downwards; numbers of both where there are few intervals.

    Raises
    ------
    ValueError
        ``threshold`` outside (0, 1], or only one interval.
    """
    count = len(posterior.posteriors)
    if count < 2:
        raise ValueError("posterior must have two intervals or more to compare; got one")
    events = posterior.events(threshold)
    number = events["interval"].to_numpy(np.int64) - posterior.first_interval
    ax = _axes(ax, max(4.8, 0.5 * count), 3.2)
    x = np.arange(1, count)
    for event, sign, colour in (("birth", 1, BIRTH), ("death", -1, DEATH)):
        size = np.bincount(number[events["event"] == event], minlength=count)[1:]
        ax.bar(x, sign * size, 0.7, color=colour, label=f"{event}s")
        if count <= 2 * MANY_TICKS:
            side = "bottom" if sign > 0 else "top"
            for place, n in zip(x, size, strict=True):
                ax.text(place, sign * n, f"{n}", ha="center", va=side, fontsize=SMALL, color=INK)
    ax.axhline(0.0, color=INK, linewidth=0.8)
    ax.margins(y=0.14)
    ax.set(xlim=(0.4, count - 0.4), ylabel="edges since the interval before")
    ax.yaxis.set_major_formatter(lambda y, _: f"{abs(y):g}")
    _interval_axis(ax, posterior, skip=1)
    _note(ax, f"there when active ≥ {threshold:g}", frame=False)
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.01), ncols=2, **LEGEND)
    return ax


def changing_edges(posterior: DynamicPosterior, top: int = 20) -> pd.DataFrame:
    """The edges whose probability to be active changes most over time.

    Parameters
    ----------
    posterior : DynamicPosterior
    top : int
        Largest number of them.

    Returns
    -------
    DataFrame
        One row an edge, those that change most first: ``source``, ``target``, ``change``, the sum
        of absolute differences of ``active`` between consecutive intervals, then ``active`` in each
        interval, in columns named by the numbers of the intervals. Edges that do not change are
        left out.
    """
    whole_number("top", top, 1)
    table = posterior.edges()
    wide = table.pivot(index=["source", "target"], columns="interval", values="active").fillna(0.0)
    change = wide.diff(axis=1).abs().sum(axis=1)
    wide.columns = wide.columns.tolist()
    wide.insert(0, "change", change)
    wide = wide[wide["change"] > 0.0].sort_values("change", ascending=False, kind="stable")
    return wide[:top].reset_index()


def plot_edge_timeline(
    posterior: DynamicPosterior, ax: Axes | None = None, *, top: int = 20
) -> Axes:
    """When were the most changing edges active?

    Parameters
    ----------
    posterior : DynamicPosterior
    ax : Axes, optional
    top : int
        Number of edges.

    Returns
    -------
    Axes
        A row an edge, those that are active early on top; dark where it is probably active.

    Raises
    ------
    ValueError
        ``top`` below 1, or no edge that changes.
    """
    table = changing_edges(posterior, top)
    if table.empty:
        raise ValueError("posterior must have edges that change; got none")
    active = table.iloc[:, 3:].to_numpy(float)
    order = np.argsort(active @ np.arange(active.shape[1]) / active.sum(axis=1), kind="stable")
    ax = _axes(ax, 5.8, 1.0 + 0.2 * len(table))
    rows = np.arange(len(table) + 1)
    style = {"cmap": SEQUENTIAL, "vmin": 0.0, "vmax": 1.0, "edgecolors": "white", "lw": 0.6}
    image = ax.pcolormesh(posterior.ends, rows, active[order], **style)
    ax.invert_yaxis()
    names = [_pair_name(*table.loc[i, ["source", "target"]]) for i in order]
    _name_rows(ax, rows[:-1] + 0.5, names)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.85, pad=0.03)
    bar.set_label("probability to be active")
    bar.ax.tick_params(labelsize=SMALL)
    ax.set(xlabel="time (data's unit)", ylabel="edge")
    ax.tick_params(axis="y", length=0)
    return ax


def _pair_name(source: Any, target: Any, longest: int = 24) -> str:
    """Labels of a pair; of long ones the beginnings."""
    texts = [str(label) for label in (source, target)]
    short = [t if len(t) <= longest else f"{t[: longest - 1]}…" for t in texts]
    return " → ".join(" ".join(t.split()) for t in short)


def _name_rows(ax: Axes, place: NDArray, names: list[str]) -> None:
    """Labels of rows, taken literally: a dollar sign begins no formula."""
    ax.set_yticks(place, names, fontsize=SMALL)
    for label in ax.get_yticklabels():
        label.set_parse_math(False)


# -- rates --------------------------------------------------------------------------------------


def plot_rates_over_time(
    posterior: DynamicPosterior,
    pairs: Any = None,
    truth: pd.DataFrame | None = None,
    axes: Any = None,
) -> NDArray[np.object_]:
    """Rates of chosen edges over time, with intervals, beside the truth.

    Parameters
    ----------
    posterior : DynamicPosterior
    pairs : iterable of (source, target) or DataFrame, optional
        Edges; by default the six that change most.
    truth : DataFrame, optional
        True network: source, target, rate and, where rates vary, start. A pair it does not have
        has rate zero.
    axes : Axes or array of Axes, optional
        At least one for each pair.

    Returns
    -------
    ndarray of Axes, shape (number of pairs,)
        Posterior mean and 94% interval in each interval; the true rate as a line that is broken.

    Raises
    ------
    ValueError
        No pair, an unknown node, too few axes, or a truth that is no network.
    """
    if pairs is None:
        pairs = changing_edges(posterior, 6)
    table = posterior.rates(pairs)
    count = len(posterior.posteriors)
    if table.empty:
        raise ValueError("pairs must hold at least one edge; got none")
    axes = _many_axes(axes, len(table) // count)
    ends = posterior.ends
    for i, ax in enumerate(axes):
        rows = table[i * count : (i + 1) * count]
        low, high, rate = rows[["rate_low", "rate_high", "rate"]].to_numpy(float).T
        style = {"color": PALETTE[5], "alpha": 0.45, "linewidth": 0, "label": f"{LEVEL:.0%}"}
        ax.stairs(high, ends, baseline=low, fill=True, **style)
        ax.stairs(rate, ends, baseline=None, color=PALETTE[0], linewidth=1.6, label="estimate")
        top = high.max(initial=0.0)
        pair = tuple(rows[["source", "target"]].iloc[0])
        if truth is not None:
            x, y = _true_course(truth, pair, ends)
            ax.step(x, y, where="post", color=INK, linewidth=1.2, linestyle="--", label="truth")
            top = max(top, y.max())
        ax.set(xlim=(ends[0], ends[-1]), ylim=(0.0, 1.08 * top if top > 0.0 else 1.0))
        ax.set(xlabel="time (data's unit)", ylabel="rate")
        ax.tick_params(labelsize=SMALL)
        _note(ax, "", frame=False)
        ax.set_title(_pair_name(*pair), fontsize=SMALL, loc="left", color=INK, parse_math=False)
    style = LEGEND | {"loc": "lower left", "bbox_to_anchor": (0.0, 1.16), "ncols": 3}
    axes[0].legend(columnspacing=1.0, handlelength=1.4, **style)  # above the name of the edge
    return axes


def _true_course(
    truth: pd.DataFrame, pair: tuple[Any, Any], ends: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times from which the true rate of a pair has each value, within the intervals."""
    source, target, rate, start = network_columns(truth)
    wanted = (str(pair[0]), str(pair[1]))
    held = [i for i, one in enumerate(zip(source, target, strict=True)) if one == wanted]
    begin = np.full(len(held), -np.inf) if start is None else np.asarray(start, float)[held]
    order = np.argsort(begin, kind="stable")
    begin, value = begin[order], np.asarray(rate, float)[held][order]
    inner = begin[(begin > ends[0]) & (begin < ends[-1])]
    x = np.concatenate(([ends[0]], inner, [ends[-1]]))
    at = np.searchsorted(begin, x, side="right") - 1
    return x, np.append(0.0, value)[at + 1]


def _many_axes(axes: Any, count: int) -> NDArray[np.object_]:
    """One Axes for each of many small pictures: of those given, or of a new figure, three a row."""
    if axes is None:
        import matplotlib.pyplot as plt

        columns, rows = min(count, 3), -(-count // 3)
        size = (max(3.0 * columns, 4.8), 2.2 * rows + 0.2)
        figure = plt.figure(figsize=size, layout="constrained")
        axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    axes = np.array(axes, dtype=object).ravel()
    if axes.size < count:
        raise ValueError(f"axes must hold one Axes for each pair, {count}; got {axes.size}")
    return axes[:count]


def plot_active_reliability(
    posterior: DynamicPosterior, truth: pd.DataFrame, ax: Axes | None = None
) -> Axes:
    """Reliability of ``active``: how often are edges there that are said to be?

    Parameters
    ----------
    posterior : DynamicPosterior
    truth : DataFrame
        True network: source, target, rate and, where rates vary, start.
    ax : Axes, optional

    Returns
    -------
    Axes
        Over the pairs that the posterior lists, interval by interval: an edge is there when its
        rate is positive at some time in the interval.
    """
    from cascadenet.inference.calibration import plot_reliability

    prob, there = [], []
    for j, (low, high) in enumerate(pairwise(posterior.ends)):
        table = posterior.edges(j + posterior.first_interval)
        true = _active_pairs(truth, float(low), float(high))
        pairs = zip(table["source"].astype(str), table["target"].astype(str), strict=True)
        there += [pair in true for pair in pairs]
        prob.append(table["active"].to_numpy(float))
    ax = plot_reliability(np.concatenate(prob), np.array(there), _axes(ax, 4.8, 4.2))
    ax.set(xlabel="probability to be active", ylabel="share of edges that are there")
    _note(ax, f"{len(there)} pairs and intervals; {LEVEL:.0%} intervals", frame=False)
    return ax


def _active_pairs(truth: pd.DataFrame, low: float, high: float) -> set[tuple[str, str]]:
    """Pairs whose true rate is positive at some time from ``low`` on and before ``high``."""
    source, target, rate, start = network_columns(truth)
    now = rates_at(truth, low)
    now = now[now["rate"] > 0.0]
    held = set(zip(now["source"].astype(str), now["target"].astype(str), strict=True))
    if start is not None:
        for i in np.flatnonzero((rate > 0.0) & (start > low) & (start < high)):
            held.add((source[i], target[i]))
    return held


# -- prediction ---------------------------------------------------------------------------------


def plot_ahead(posterior: DynamicPosterior, ax: Axes | None = None) -> Axes:
    """How well was each interval foretold from those before it?

    Parameters
    ----------
    posterior : DynamicPosterior
    ax : Axes, optional

    Returns
    -------
    Axes
        Log predictive density per infection, with one standard error over cascades either side.

    Raises
    ------
    ValueError
        No interval was foretold.
    """
    from cascadenet.inference.forecast import score_predictive

    tables = {j: t for j, t in enumerate(posterior._ahead) if t is not None}
    scores = {j: score_predictive(t) for j, t in tables.items() if t["n_infections"].sum() > 0}
    if not scores:
        raise ValueError("posterior must have intervals that were foretold; got none")
    mean = np.array([score.mean for score in scores.values()])
    error = np.nan_to_num([score.se for score in scores.values()])
    ax = _axes(ax, max(4.8, 0.5 * len(posterior.posteriors)), 3.2)
    style = {"color": PALETTE[0], "ecolor": QUIET, "capsize": 3, "markersize": 5, "linewidth": 1}
    ax.errorbar(list(scores), mean, error, fmt="o-", **style)
    ax.set_ylabel("log predictive density\n(nats per infection)")
    ax.set_xlim(min(scores) - 0.5, len(posterior.posteriors) - 0.5)
    _interval_axis(ax, posterior, skip=min(scores))
    _note(ax, "higher is better; bars are one standard error", frame=False)
    return ax


def plot_top_predictive(
    posterior: Posterior | DynamicPosterior,
    ax: Axes | None = None,
    *,
    quantity: str = "prob",
    top: int = 20,
    unused: bool = False,
    within: float | None = None,
) -> Axes:
    """The edges that are expected most, with the uncertainty about how much.

    Parameters
    ----------
    posterior : Posterior or DynamicPosterior
        Of a network that changes it is the forecast for the next interval that is shown.
    ax : Axes, optional
    quantity : {"prob", "transmit"}
        Probability to be the next edge, or that of transmission within a delay.
    top : int
        Number of edges: the best by this quantity; by the first where ``unused`` is asked.
    unused : bool
        Only pairs that carried no infection in any draw.
    within : float, optional
        The delay; by default the median candidate delay.

    Returns
    -------
    Axes
        Mean, and 94% interval over network draws and, of ``"transmit"``, over the rates in each.

    Raises
    ------
    ValueError
        An argument out of range, or no such edge.
    """
    if quantity not in ("prob", "transmit"):
        raise ValueError(f"quantity must be prob or transmit; got {quantity!r}")
    whole_number("top", top, 1)
    ahead: Posterior = getattr(posterior, "forecast", posterior)
    delay = ahead.unit if within is None else float(within)
    if quantity == "transmit" and not unused:
        edge = np.flatnonzero(ahead.pair_source >= 0)
        source, target = ahead.pair_source[edge], ahead.pair_target[edge]
        listed = ahead.pair_frame(source, target)
        table = ahead.predictive(listed, within=delay)
        table = table.sort_values("transmit", ascending=False, kind="stable")[:top]
    else:
        table = _expected(posterior, ahead, top, delay, unused)
        table = table.sort_values(quantity, ascending=False, kind="stable")
    if table.empty:
        raise ValueError("posterior must have pairs to show; got none")
    source, target = ahead.pair_indices(table)
    draws = _draws_of(ahead, quantity, source, target, delay)
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail], axis=0)
    mean, rows = table[quantity].to_numpy(float), np.arange(len(table))
    ax = _axes(ax, 5.4, 0.9 + 0.21 * len(table))
    ax.hlines(rows, low, high, PALETTE[5], linewidth=2.5)
    ax.plot(mean, rows, "o", color=PALETTE[0], markersize=5)
    ax.invert_yaxis()
    _name_rows(ax, rows, [_pair_name(*pair) for pair in table[["source", "target"]].to_numpy()])
    if quantity == "prob":
        label = "probability to be the next edge"
    else:
        label = f"probability of transmission within {delay:.3g}"
    ax.set(xlabel=label, ylabel="edge")
    ax.set_xlim(left=0.0)
    ax.locator_params(axis="x", nbins=5)
    what = "pairs never used, " if unused else ""
    _note(ax, f"{what}mean and {LEVEL:.0%} interval", frame=False)
    return ax


def _expected(posterior: Any, ahead: Posterior, top: int, delay: float, unused: bool) -> Any:
    """Best pairs by their probability, of a changing network those unused in all intervals."""
    if not unused or ahead is posterior:
        return ahead.predictive(top=top, within=delay, unused=unused)
    used: set[tuple[int, int]] = set()
    for one in posterior.posteriors:
        rows = one.sums.used[one.pair_source[one.sums.used] >= 0]
        used |= set(
            zip(one.pair_source[rows].tolist(), one.pair_target[rows].tolist(), strict=True)
        )
    table = ahead.predictive(top=top + len(used), within=delay)
    pairs = zip(*(x.tolist() for x in ahead.pair_indices(table)), strict=True)
    return table[[pair not in used for pair in pairs]][:top]


def _draws_of(
    ahead: Posterior, quantity: str, source: NDArray, target: NDArray, delay: float
) -> NDArray[np.float64]:
    """Values of a quantity, (draws, pairs); several rows a draw where rates vary in it."""
    from scipy.stats import gamma

    from cascadenet.delays import get_delay

    rows = ahead.rows_of(source, target)
    shares = (np.arange(GRID) + 0.5) / GRID
    found = []
    for network in ahead.networks:
        if quantity == "prob":
            mass = prediction._off_diagonal(ahead, network)
            found.append(ahead.edge_weight(network, source, target)[None] / mass)
            continue
        shape, rate = prediction._draw_rates(ahead, network, source, target, rows)
        model = get_delay(ahead.settings["delay"])
        dose = model.cumulative(np.array([delay / ahead.unit]), network["theta"])[0]
        found.append(-np.expm1(-gamma.ppf(shares[:, None], shape) / rate * dose))
    return np.concatenate(found)
