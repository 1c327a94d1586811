"""Pictures of predictions of the next infection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cascadenet.next_scores import NextScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_hits"]


def plot_hits(
    table: NextScore | Mapping[str, NextScore], ax: Axes | None = None, *, k_max: int = 200
) -> Axes:
    """Hits@k of one or several models against the number k of nodes named.

    Parameters
    ----------
    table : NextScore or mapping of name to NextScore
        Results of `cascadenet.next_scores.score_next`.
    ax : Axes, optional
    k_max : int
        Largest k.

    Returns
    -------
    Axes
        k on a logarithmic scale; marks at 10, 50 and 100, with bars of one standard error where
        the result has one.

    Raises
    ------
    ValueError
        No result, or ``k_max`` below 2.
    """
    from cascadenet.networks import whole_number
    from cascadenet.plotting import DASHES, LEGEND, PALETTE, _axes

    whole_number("k_max", k_max, 2)
    results = {"": table} if isinstance(table, NextScore) else dict(table)
    if not results:
        raise ValueError("table must hold a result; got none")
    ax = _axes(ax, 5.4, 4.0)
    k = np.arange(1, k_max + 1)
    for i, (name, score) in enumerate(results.items()):
        rank = np.sort(score.positions.rank)
        share = np.searchsorted(rank, k, side="right") / rank.size
        style = {"color": PALETTE[i % len(PALETTE)], "ls": DASHES[i // len(PALETTE) % len(DASHES)]}
        ax.step(k, 100.0 * share, where="post", lw=1.6, label=name, **style)
        marks = [cut for cut in (10, 50, 100) if cut <= k_max and f"hits@{cut}" in score]
        values = [100.0 * score[f"hits@{cut}"] for cut in marks]
        errors = [100.0 * np.nan_to_num(score.errors[f"hits@{cut}"]) for cut in marks]
        ax.errorbar(marks, values, errors, fmt="o", ms=4, capsize=2, color=style["color"])
    ax.set(
        xscale="log",
        xlim=(1, k_max),
        xlabel="nodes named, k",
        ylabel="targets among them, hits@k (%)",
    )
    ax.set_ylim(bottom=0)
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= k_max]
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    if len(results) > 1:
        ax.legend(loc="upper left", **LEGEND)
    return ax
