"""Pictures of risk curves; every function draws on an Axes and returns it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Okabe & Ito's palette: distinct for every common colour vision
STYLES: dict[str, tuple[str, str, str]] = {
    "dense": ("#000000", "-", "dense"),
    "magnitude": ("#D55E00", "-", "magnitude-pruned"),
    "hessian": ("#0072B2", "-", "Hessian-pruned"),
    "oracle": ("#009E73", "-", "oracle-pruned"),
    "retrained_magnitude": ("#D55E00", "--", "magnitude, retrained"),
    "retrained_hessian": ("#0072B2", "--", "Hessian, retrained"),
    "retrained_oracle": ("#CC79A7", "--", "small model"),
}
AXES = {
    "kappa": "features per sample, κ = p/n",
    "features": "number of features p",
    "features_per_input": "features per input, p/d",
}
CLIP = 50.0  # a peak is drawn up to this multiple of the median risk


def plot_curve(
    table: pd.DataFrame,
    risks: Sequence[str] | None = None,
    *,
    x: str | None = None,
    simulated: pd.DataFrame | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw risks against model size.

    Parameters
    ----------
    table : pandas.DataFrame
        From `curve`, `feature_curve` or `random_feature_curve`.
    risks : sequence of str, optional
        Columns to draw; by default all risks in the table.
    x : str, optional
        Column of the horizontal axis; by default the number of features where the table has
        one, else kappa.
    simulated : pandas.DataFrame, optional
        From `simulate` or `simulate_random_features`: means with two standard errors.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax = _axes(ax)
    if x is None:
        x = next(name for name in ("features", "features_per_input", "kappa") if name in table)
    if x not in table:
        raise ValueError(f"x must be a column of the table; got {x!r}")
    names = [name for name in STYLES if name in table] if risks is None else list(risks)
    missing = [name for name in names if name not in table]
    if missing or not names:
        raise ValueError(f"risks must be columns of the table; got {', '.join(missing) or 'none'}")
    values = table[names].to_numpy(dtype=np.float64)
    finite = values[np.isfinite(values)]
    for name in names:
        color, style, label = STYLES.get(name, ("#56B4E9", "-", name))
        shown = table[name].where(np.isfinite(table[name]))
        ax.plot(table[x], shown, style, color=color, label=label, linewidth=1.8)
    if simulated is not None:
        _overlay(ax, simulated, names, x)
    if finite.size:
        top = min(finite.max() * 1.1, CLIP * np.median(finite))
        ax.set_ylim(max(finite.min() * 0.8, 1e-12), top)
        ax.set_yscale("log")
    _plain_log(ax.yaxis)
    if table[x].max() > 20 * table[x].min() and x != "features":
        ax.set_xscale("log")
        _plain_log(ax.xaxis)
    _mark_threshold(ax, table, x)
    ax.set_xlabel(AXES.get(x, x))
    ax.set_ylabel("test risk (noise included)")
    if len(names) > 1:
        ax.legend(frameon=False, fontsize="small")
    return ax


def _overlay(ax: Axes, simulated: pd.DataFrame, names: Sequence[str], x: str) -> None:
    """Simulated means with two standard errors, in the colours of their curves."""
    if x not in simulated:
        raise ValueError(f"simulated must have the column {x!r}")
    for name in names:
        part = simulated[simulated["risk"] == name]
        part = part[np.isfinite(part["theory"])]
        if part.empty:
            continue
        color, style, _ = STYLES.get(name, ("#56B4E9", "-", name))
        face = color if style == "-" else "white"
        ax.errorbar(
            part[x], part["mean"], 2.0 * part["error"],
            fmt="o", color=color, markerfacecolor=face, markersize=4, capsize=2, linewidth=1,
        )  # fmt: skip


def _mark_threshold(ax: Axes, table: pd.DataFrame, x: str) -> None:
    """A thin line where the large model begins to interpolate."""
    if "kappa" not in table or not table["kappa"].min() < 1.0 < table["kappa"].max():
        return
    order = np.argsort(table["kappa"].to_numpy())
    place = np.interp(1.0, table["kappa"].to_numpy()[order], table[x].to_numpy()[order])
    ax.axvline(place, color="0.7", linewidth=0.8, linestyle=":", zorder=0)


def plot_heatmap(
    grid: pd.DataFrame, *, ax: Axes | None = None, limit: float = 3.0, colorbar: bool = True
) -> Axes:
    """Where training large and pruning beats training small.

    Parameters
    ----------
    grid : pandas.DataFrame
        From `sparsity_grid`, on a full product of its two axes.
    ax : matplotlib Axes, optional
    limit : float
        Colours saturate at a risk ratio of ``2**limit``.
    colorbar : bool
        Whether to draw the colour scale.

    Returns
    -------
    matplotlib Axes
        Blue where the pruned large model has the lower risk, orange where the small one has;
        the line is equality, and the dotted lines the two interpolation thresholds.
    """
    ax = _axes(ax)
    if not limit > 0:
        raise ValueError(f"limit must be above 0; got {limit}")
    wide = grid.pivot(index="kept_per_sample", columns="kappa", values="log2_ratio")
    x, y = wide.columns.to_numpy(), wide.index.to_numpy()
    values = wide.to_numpy(dtype=np.float64)
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("prune", ["#0072B2", "#F7F7F7", "#D55E00"])
    image = ax.pcolormesh(
        x,
        y,
        np.clip(values, -limit, limit),
        cmap=colors,
        vmin=-limit,
        vmax=limit,
        shading="nearest",
    )
    bounded_values = np.clip(np.nan_to_num(values, nan=limit), -limit, limit)
    masked = np.ma.masked_where(np.isnan(values), bounded_values)
    if min(values.shape) > 1 and masked.min() < 0 < masked.max():
        ax.contour(x, y, masked, levels=[0.0], colors="black", linewidths=1.2)
    for line, low, high in ((ax.axvline, x.min(), x.max()), (ax.axhline, y.min(), y.max())):
        if low < 1.0 < high:
            line(1.0, color="0.3", linewidth=0.8, linestyle=":")
    if x.max() > 5 * x.min():
        ax.set_xscale("log")
        _plain_log(ax.xaxis)
    ax.set_xlabel("size of the large model, κ = p/n")
    ax.set_ylabel("features kept per sample, s/n")
    if colorbar:
        bar = ax.figure.colorbar(image, ax=ax, extend="both")
        bar.set_label("log₂ risk: pruned large / small\n(below 0: train large)")
    return ax


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
