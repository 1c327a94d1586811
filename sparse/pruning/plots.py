"""Pictures of pruned models; every function draws on an Axes and returns it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Okabe & Ito's palette: distinct for every common colour vision
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
MARKERS = "osD^vP*"


def plot_accuracy(
    table: pd.DataFrame, *, baseline: float | None = None, ax: Axes | None = None
) -> Axes:
    """Accuracy against sparsity: means over runs with two standard errors.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``method``, ``sparsity`` (0..1) and ``accuracy`` (%), a row per run.
    baseline : float, optional
        Accuracy of the dense model, drawn as a line.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    missing = {"method", "sparsity", "accuracy"} - set(table.columns)
    if missing:
        raise ValueError(f"table must have the columns {', '.join(sorted(missing))}")
    ax = _axes(ax)
    ticks = np.unique(table["sparsity"])
    place = dict(zip(ticks, range(ticks.size), strict=True))  # 90, 95 and 98% at equal distances
    names = list(dict.fromkeys(table["method"]))
    for i, name in enumerate(names):
        groups = table[table["method"] == name].groupby("sparsity")["accuracy"]
        mean, error = groups.mean(), groups.sem().fillna(0.0)
        x = np.array([place[value] for value in mean.index]) + 0.04 * (i - (len(names) - 1) / 2)
        ax.errorbar(
            x, mean, 2 * error, label=name, color=PALETTE[i % 7], marker=MARKERS[i % 7],
            markersize=4, linewidth=1.5, capsize=2,
        )  # fmt: skip
    if baseline is not None:
        ax.axhline(baseline, color="0.4", linestyle=":", linewidth=1)
        ax.annotate(
            "dense", (1, baseline), xycoords=("axes fraction", "data"), ha="right", va="top"
        )
    ax.set_xticks(range(ticks.size), [f"{100 * value:g}%" for value in ticks])
    ax.set_xlabel("weights removed")
    ax.set_ylabel("accuracy (%)")
    if len(names) > 1:
        ax.legend(frameon=False, fontsize="small")
    return ax


def plot_flips(models: Any, *, ax: Axes | None = None) -> Axes:
    """Share of the mask that changes at every re-allocation.

    Parameters
    ----------
    models : estimator or mapping of str to estimator
        Fitted `DPFClassifier` or `DPFRegressor`, by label.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        Re-allocations without a change are at the lower edge.
    """
    ax = _axes(ax)
    named = models if isinstance(models, Mapping) else {"": models}
    if not named or not all(hasattr(model, "reallocations_") for model in named.values()):
        raise ValueError("models must be fitted DPFClassifier or DPFRegressor")
    for i, (name, model) in enumerate(named.items()):
        rows = model.reallocations_[1:]
        share = np.array([row.flips for row in rows]) / sum(w.size for w in model.flips_)
        steps = [row.step for row in rows]
        least = 0.5 / sum(w.size for w in model.flips_)
        ax.plot(steps, np.maximum(share, least), color=PALETTE[i % 7], label=name, linewidth=1.2)
        settled = next((row.step for row in rows if row.target >= rows[-1].target), None)
        if settled is not None:
            ax.axvline(settled, color=PALETTE[i % 7], linewidth=0.8, linestyle=":", zorder=0)
    ax.set_yscale("log")
    ax.set_xlabel("training step (dotted: final sparsity reached)")
    ax.set_ylabel("share of the mask that changes")
    if len(named) > 1:
        ax.legend(frameon=False, fontsize="small")
    return ax


def plot_densities(models: Any, *, ax: Axes | None = None) -> Axes:
    """Share of its weights that every layer keeps.

    Parameters
    ----------
    models : estimator or mapping of str to estimator
        Fitted, by label, with equally many layers.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax = _axes(ax)
    named = models if isinstance(models, Mapping) else {"": models}
    layers = [_layers(model) for model in named.values()]
    if len({len(some) for some in layers}) != 1:
        raise ValueError("models must be fitted, with equally many layers")
    width = 0.8 / len(named)
    for i, (name, some) in enumerate(zip(named, layers, strict=True)):
        x = np.arange(len(some)) + width * (i - (len(named) - 1) / 2)
        share = [100 * layer.nnz / layer.mask.size for layer in some]
        bars = ax.bar(x, share, width, color=PALETTE[i % 7], label=name)
        ax.bar_label(bars, [f"{value:.2g}" for value in share], fontsize="x-small", padding=1)
    names = [" × ".join(map(str, layer.weight.shape)) for layer in layers[0]]
    ax.set_xticks(range(len(names)), names)
    ax.margins(y=0.1)
    ax.set_xlabel("layer (shape of its weights)")
    ax.set_ylabel("weights kept (%)")
    if len(named) > 1:
        ax.legend(frameon=False, fontsize="small")
    return ax


def plot_masks(
    model: Any,
    *,
    layer: int = 0,
    image_shape: Sequence[int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Which weights of a layer are kept.

    Parameters
    ----------
    model : estimator
        Fitted.
    layer : int
    image_shape : (int, int), optional
        Inputs are pixels of such an image: show how often each is used, over all units.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax = _axes(ax)
    mask = _layers(model)[layer].mask
    mask = mask.reshape(mask.shape[0], -1)
    if image_shape is None:
        ax.imshow(mask, cmap="Greys", aspect="auto", interpolation="nearest", vmin=0, vmax=1)
        ax.set_xlabel("input")
        ax.set_ylabel("unit")
        return ax
    if int(np.prod(image_shape)) != mask.shape[1]:
        raise ValueError(f"image_shape must have {mask.shape[1]} pixels; got {tuple(image_shape)}")
    image = ax.imshow(mask.sum(axis=0).reshape(image_shape), cmap="cividis")
    ax.figure.colorbar(image, ax=ax, label="units that read the pixel")
    ax.set_xlabel("pixel")
    ax.set_ylabel("pixel")
    return ax


def _layers(model: Any) -> Sequence[Any]:
    if not hasattr(model, "layers_"):
        raise ValueError(f"models must be fitted; got {type(model).__name__}")
    return model.layers_


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]
