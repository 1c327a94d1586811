"""Pictures of simulations; every function draws on an Axes and returns it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cascadenet.sparse.federated import _check

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cascadenet.sparse.federated.results import Simulation

# Okabe & Ito's palette: distinct for every common colour vision
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
LINES = ("-", "--", ":")


def plot_accuracy(
    runs: Mapping[str, Simulation], *, against: str = "time", ax: Axes | None = None
) -> Axes:
    """Draw test accuracy by simulated time, or by round.

    Parameters
    ----------
    runs : mapping of str to Simulation
    against : {"time", "round"}
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    _check.chosen("against", against, ("time", "round"))
    if not runs:
        raise ValueError("runs must not be empty")
    ax = _axes(ax)
    low = 1.0
    for i, (name, run) in enumerate(runs.items()):
        table = run.rounds.dropna(subset=["accuracy"])
        x = table["end"] if against == "time" else table["round"] + 1
        ax.plot(x, table["accuracy"], _line(i), color=_color(i), label=name, linewidth=1.6)
        low = min(low, float(table["accuracy"].quantile(0.1)))
    ax.set_ylim(bottom=max(low - 0.05, 0.0))
    ax.set_xlabel("simulated time (s)" if against == "time" else "round")
    ax.set_ylabel("test accuracy")
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_retention(run: Simulation, *, ax: Axes | None = None) -> Axes:
    """Draw what share of the parameters every worker trains, by round.

    Parameters
    ----------
    run : Simulation
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        Dark lines are workers that were slow at first, light ones fast.
    """
    ax = _axes(ax)
    _worker_lines(run, "retention", ax)
    ax.set_ylim(0, 1.04)
    ax.set_ylabel("retention (share of parameters)")
    return ax


def plot_times(run: Simulation, *, ax: Axes | None = None) -> Axes:
    """Draw the update time of every worker, by round.

    Parameters
    ----------
    run : Simulation
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        Colours as for `plot_retention`; the axis is logarithmic where times differ much.
    """
    ax = _axes(ax)
    _worker_lines(run, "seconds", ax)
    ax.set_ylabel("update time (s)")
    values = run.workers["seconds"]
    if values.max() > 3 * values.min():
        ax.set_yscale("log")
        _plain_log(ax.yaxis)
    else:
        ax.set_ylim(bottom=0)
    return ax


def plot_waiting(runs: Mapping[str, Simulation], *, ax: Axes | None = None) -> Axes:
    """Draw the mean time that workers wait for the round to end, by worker.

    Parameters
    ----------
    runs : mapping of str to Simulation
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    if not runs:
        raise ValueError("runs must not be empty")
    ax = _axes(ax)
    width = 0.8 / len(runs)
    for i, (name, run) in enumerate(runs.items()):
        mean = run.workers.groupby("worker")["waiting"].mean()
        place = mean.index.to_numpy() + (i - (len(runs) - 1) / 2) * width
        ax.bar(place, mean, width, color=_color(i), label=name)
    ax.set_xticks(np.arange(len(mean)))
    ax.set_xlabel("worker")
    ax.set_ylabel("mean waiting per round (s)")
    ax.legend(frameon=False, fontsize="small")
    return ax


def _worker_lines(run: Simulation, column: str, ax: Axes) -> None:
    from matplotlib import colormaps

    first = run.workers[run.workers["round"] == 0].sort_values("expected", kind="stable")
    shades = colormaps["viridis_r"](np.linspace(0.1, 1.0, len(first)))
    for i, (worker, shade) in enumerate(zip(first["worker"], shades, strict=True)):
        part = run.workers[run.workers["worker"] == worker]
        label = {0: "fastest worker", len(first) - 1: "slowest worker"}.get(i)
        ax.plot(part["round"] + 1, part[column], color=shade, linewidth=1.2, label=label)
    ax.set_xlabel("round")
    ax.legend(frameon=False, fontsize="small")


def _color(i: int) -> str:
    return PALETTE[i % len(PALETTE)]


def _line(i: int) -> str:
    return LINES[i // len(PALETTE) % len(LINES)]


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def _plain_log(axis: object) -> None:
    """Labels such as 0.5 and 20 on a logarithmic axis, few enough to read."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
