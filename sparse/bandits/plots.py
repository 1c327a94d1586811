"""Pictures of experiments and estimates; every function draws on an Axes and returns it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.bandits import _check

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Okabe & Ito's palette: distinct for every common colour vision
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
LINES = ("-", "--", ":")
MARKERS = "osD^vP*X"
LABELS = {
    "regret": "cumulative regret (expected clicks lost)",
    "clicks": "cumulative clicks",
    "ctr": "clicks per slot shown",
    "ndcg": "mean nDCG, examination as discount",
}


def plot_regret(
    table: pd.DataFrame,
    measure: str = "regret",
    *,
    rankers: Sequence[str] | None = None,
    level: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """Draw a measure against rounds: means over seeds with their confidence bands.

    Parameters
    ----------
    table : pandas.DataFrame
        From `run_experiment`.
    measure : {"regret", "clicks", "ctr", "ndcg"}
    rankers : sequence of str, optional
        Which to draw, in this order; all by default.
    level : float
        Of the normal confidence bands of the means; without bands for one seed.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    from scipy.special import ndtri

    _check.chosen("measure", measure, tuple(LABELS))
    reach = float(ndtri(0.5 + 0.5 * _check.real("level", level, 0.0, 0.9999, open_low=True)))
    names = list(dict.fromkeys(table["ranker"])) if rankers is None else list(rankers)
    missing = set(names) - set(table["ranker"])
    if missing or not names:
        raise ValueError(
            f"rankers must be in the table; got {', '.join(sorted(missing)) or 'none'}"
        )
    ax = _axes(ax)
    for i, name in enumerate(names):
        groups = table[table["ranker"] == name].groupby("round")[measure]
        mean, error = groups.mean(), groups.sem().fillna(0.0)
        color = PALETTE[i % len(PALETTE)]
        style = LINES[i // len(PALETTE) % len(LINES)]
        ax.plot(mean.index, mean, style, color=color, label=name, linewidth=1.8)
        if (error > 0).any():
            low, high = mean - reach * error, mean + reach * error
            ax.fill_between(mean.index, low, high, color=color, alpha=0.2, linewidth=0)
    ax.set_xlabel("round")
    ax.set_ylabel(LABELS[measure])
    if measure in ("regret", "clicks"):
        ax.set_ylim(bottom=0)
    if len(names) > 1:
        ax.legend(frameon=False, fontsize="small")
    return ax


def plot_examination(
    curves: Mapping[str, ArrayLike], *, truth: ArrayLike | None = None, ax: Axes | None = None
) -> Axes:
    """Draw examination probabilities by slot.

    Parameters
    ----------
    curves : mapping of str to array-like of float (L,)
    truth : array-like of float (L,), optional
        Drawn as a line of its own.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax = _axes(ax)
    longest = 0
    if truth is not None:
        values = np.asarray(truth, dtype=np.float64)
        longest = values.size
        ax.plot(np.arange(1, longest + 1), values, color="0.6", linewidth=5, label="truth")
    for i, (name, curve) in enumerate(curves.items()):
        values = np.asarray(curve, dtype=np.float64)
        longest = max(longest, values.size)
        ax.plot(
            np.arange(1, values.size + 1), values, marker=MARKERS[i % len(MARKERS)],
            color=PALETTE[i % len(PALETTE)], label=name, linewidth=1.4, markersize=5,
        )  # fmt: skip
    ax.set_xticks(np.arange(1, longest + 1))
    ax.set_ylim(0, None)
    ax.set_xlabel("slot")
    ax.set_ylabel("examination, relative to the best slot")
    if len(curves) + (truth is not None) > 1:
        ax.legend(frameon=False, fontsize="small")
    return ax


def plot_estimates(
    table: pd.DataFrame, *, truth: float | None = None, ax: Axes | None = None
) -> Axes:
    """Draw off-policy estimates with their confidence intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        From `ope.evaluate`; estimators without a value are left out.
    truth : float, optional
        Value of the target policy, where it is known.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    part = table[np.isfinite(table["value"])]
    if part.empty:
        raise ValueError("table must have at least one finite value")
    ax = _axes(ax)
    place = np.arange(len(part))[::-1]
    reach = (part["high"] - part["value"]).fillna(0.0)
    ax.errorbar(
        part["value"], place, xerr=reach, fmt="o", color=PALETTE[0], capsize=3, linewidth=1.4
    )
    if truth is not None:
        ax.axvline(truth, color=PALETTE[1], linewidth=1.2, linestyle="--", label="true value")
        ax.legend(frameon=False, fontsize="small")
    ax.set_yticks(place, part["estimator"])
    ax.set_xlabel("clicks per round")
    return ax


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]
