"""Posterior predictive checks: do cascades from the model look like those observed?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cascadenet.cascades import Cascades
from cascadenet.inference.forecast.laws import draw_laws, require_survival, spaced
from cascadenet.inference.forecast.likelihood import Arranged, arrange, cap, check_draws
from cascadenet.inference.forecast.live_edges import Starts, simulate
from cascadenet.inference.forecast.spread import INTERVAL

if TYPE_CHECKING:
    import pandas as pd

    from cascadenet.posterior import Posterior


@dataclass(frozen=True)
class Check:
    """Statistics of observed cascades beside those of replicates.

    Attributes
    ----------
    table : DataFrame
        One row a statistic, see :meth:`Posterior.check`.
    replicates : DataFrame
        Each statistic, a column, of every replicate, a row.
    """

    table: pd.DataFrame
    replicates: pd.DataFrame


def check(
    posterior: Posterior,
    cascades: Cascades,
    replicates: int = 100,
    seed: int | np.random.Generator | None = None,
) -> Check:
    """Body of :meth:`Posterior.check`."""
    import pandas as pd

    require_survival(posterior, "check")
    check_draws("replicates", replicates)
    data = arrange(posterior, cascades)
    starts = seeds_of(data)
    n_seeds = np.diff(starts.ptr)
    observed = _statistics(posterior, n_seeds, np.diff(data.offset), data.node, data.time)
    networks, times = np.unique(spaced(len(posterior.networks), replicates), return_counts=True)
    rows = []
    streams = np.random.default_rng(seed).spawn(networks.size)
    for i, repeat, rng in zip(networks, times, streams, strict=True):
        laws = draw_laws(posterior, posterior.networks[i])
        for _ in range(repeat):
            made_of = simulate(laws, starts, cap(posterior), rng)
            rows.append(_statistics(posterior, n_seeds, *made_of))
    made = pd.DataFrame(rows)
    return Check(_compared(pd.Series(observed), made), made)


def seeds_of(data: Arranged) -> Starts:
    """The seeds of each cascade, to be followed until its end."""
    seeds = np.flatnonzero(data.n_earlier == 0)
    count = np.add.reduceat((data.n_earlier == 0).astype(np.int64), data.offset[:-1])
    return Starts(
        ptr=np.concatenate(([0], np.cumsum(count))),
        node=data.node[seeds],
        time=data.time[seeds],
        now=np.zeros(count.size),
        end=data.length,
    )


def _statistics(
    posterior: Posterior,
    n_seeds: np.ndarray,
    count: np.ndarray,
    node: np.ndarray,
    time: np.ndarray,
) -> dict[str, float]:
    """What a set of cascades looks like; times since the start in the internal unit.

    Gaps are from an infection that is no seed back to the one before. Statistics of times are
    nan where no cascade spread at all.
    """
    stop = np.cumsum(count)
    spreads = count > n_seeds
    duration = (time[stop - 1] - time[stop - count])[spreads] * posterior.unit
    later = np.arange(time.size) >= np.repeat(stop - count + n_seeds, count)
    gap = np.diff(time, prepend=0.0)[later] * posterior.unit
    infections = np.bincount(node, minlength=posterior.n_nodes)
    return {
        "size_mean": float(count.mean()),
        "size_sd": float(count.std()),
        "size_max": float(count.max()),
        "share_not_spreading": float(1.0 - spreads.mean()),
        "duration_mean": float(duration.mean()) if duration.size else np.nan,
        "duration_sd": float(duration.std()) if duration.size else np.nan,
        "gap_mean": float(gap.mean()) if gap.size else np.nan,
        "gap_median": float(np.median(gap)) if gap.size else np.nan,
        "nodes_reached": float(np.count_nonzero(infections)),
        "infections_of_one_node_max": float(infections.max()),
        "infections_per_node_sd": float(infections.std()),
    }


def _compared(observed: pd.Series, made: pd.DataFrame) -> pd.DataFrame:
    """Table of the statistics; replicates without a value of one do not count for it."""
    import pandas as pd

    rows = []
    for name, value in observed.items():
        replicate = made[name].dropna().to_numpy()
        row = {"statistic": name, "observed": value}
        if replicate.size == 0 or np.isnan(value):
            rows.append(row | dict.fromkeys(("mean", "sd", "low", "high", "p"), np.nan))
            continue
        low, high = np.quantile(replicate, INTERVAL)
        # one of the replicates may have been the data: the smallest p is 1/(replicates + 1)
        above = (np.sum(replicate > value) + 0.5 * np.sum(replicate == value) + 0.5) / (
            replicate.size + 1
        )
        rows.append(
            row
            | {
                "mean": replicate.mean(),
                "sd": replicate.std(ddof=1) if replicate.size > 1 else np.nan,
                "low": low,
                "high": high,
                "p": float(min(1.0, 2.0 * min(above, 1.0 - above))),
            }
        )
    return pd.DataFrame(rows)
