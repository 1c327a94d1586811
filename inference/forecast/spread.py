"""Cascades to come: simulated from seeds, or from what has happened in one so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.cascades import Cascades
from cascadenet.inference.forecast.laws import draw_laws, require_survival, spaced
from cascadenet.inference.forecast.likelihood import cap, check_draws
from cascadenet.inference.forecast.live_edges import Starts, simulate

if TYPE_CHECKING:
    import pandas as pd

    from cascadenet.posterior import Posterior

INTERVAL = (0.03, 0.97)


@dataclass(frozen=True)
class Spread:
    """How far a cascade spreads: draws from its predictive distribution.

    Attributes
    ----------
    sizes : int64 array, shape (draws,)
        Nodes infected by the end, those it started from included.
    nodes : DataFrame
        The other nodes, most probable first: ``node``; ``prob``, the probability to be infected
        by the end; and of the time of infection, given that it happens, the median ``time`` with
        a 94% interval ``time_low``, ``time_high`` (nan where it never happened).
    end : float
        End of the forecast, user's clock.
    """

    sizes: np.ndarray
    nodes: pd.DataFrame
    end: float

    def summary(self) -> pd.DataFrame:
        """One row: ``mean``, its Monte Carlo error ``se``, ``sd``, ``low``, ``median``, ``high`` of
        the size; 94% interval."""
        import pandas as pd

        low, median, high = np.quantile(
            self.sizes, (INTERVAL[0], 0.5, INTERVAL[1]), method="inverted_cdf"
        )
        sd = float(self.sizes.std(ddof=1)) if self.sizes.size > 1 else np.nan
        row = {"mean": self.sizes.mean(), "se": sd / np.sqrt(self.sizes.size), "sd": sd}
        return pd.DataFrame([row | {"low": low, "median": median, "high": high}])

    def size_distribution(self) -> pd.DataFrame:
        """``size``, its probability ``prob``, and that of at least this size, ``at_least``."""
        import pandas as pd

        size, count = np.unique(self.sizes, return_counts=True)
        prob = count / count.sum()
        return pd.DataFrame({"size": size, "prob": prob, "at_least": prob[::-1].cumsum()[::-1]})


def check_within(within: object, *, finite: bool = True) -> float:
    """A positive duration in the user's unit; a ValueError for anything else."""
    try:
        value = float(within)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"within must be a number; got {within!r:.60}") from None
    if not value > 0.0 or (finite and value == np.inf):
        kind = "positive and finite" if finite else "positive"
        raise ValueError(f"within must be {kind}; got {within}")
    return value


def cascades_from(
    posterior: Posterior,
    seeds: Any,
    within: float,
    size: int = 1,
    seed: int | np.random.Generator | None = None,
) -> Cascades:
    """Body of :meth:`Posterior.simulate`."""
    require_survival(posterior, "simulate")
    check_draws("size", size)
    length = check_within(within)
    node, time, _ = _start_of(posterior, seeds, None)
    starts = Starts(
        ptr=np.array([0, node.size]),
        node=node,
        time=(time - time[0]) / posterior.unit,
        now=np.array([(time[-1] - time[0]) / posterior.unit]),
        end=np.array([(time[-1] - time[0] + length) / posterior.unit]),
    )
    count, found, when = over_draws(posterior, starts, size, seed)
    horizon = time[-1] + length
    when = np.minimum(time[0] + when * posterior.unit, horizon)
    # rounding may make ties
    order = np.lexsort((found, when, np.repeat(np.arange(size), count)))
    return Cascades.from_arrays(
        posterior.nodes,
        np.concatenate(([0], np.cumsum(count))),
        found[order],
        when[order],
        horizon,
    )


def over_draws(
    posterior: Posterior, starts: Starts, size: int, seed: int | np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same cascade, given once in ``starts``, ``size`` times, shared among the draws.

    See `live_edges.simulate`; every network draw has random numbers of its own.
    """
    networks, times = np.unique(spaced(len(posterior.networks), size), return_counts=True)
    streams = np.random.default_rng(seed).spawn(networks.size)
    found = []
    for i, repeat, rng in zip(networks, times, streams, strict=True):
        many = Starts(
            ptr=np.arange(repeat + 1) * starts.node.size,
            node=np.tile(starts.node, repeat),
            time=np.tile(starts.time, repeat),
            now=np.tile(starts.now, repeat),
            end=np.tile(starts.end, repeat),
        )
        laws = draw_laws(posterior, posterior.networks[i])
        found.append(simulate(laws, many, cap(posterior), rng))
    count, node, time = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return count, node, time


def spread(
    posterior: Posterior,
    prefix: Any,
    within: float,
    draws: int = 1000,
    seed: int | np.random.Generator | None = None,
    now: float | None = None,
) -> Spread:
    """Body of :meth:`Posterior.spread`."""
    require_survival(posterior, "spread")
    check_draws("draws", draws)
    length = check_within(within, finite=False)
    node, time, present = _start_of(posterior, prefix, now)
    starts = Starts(
        ptr=np.array([0, node.size]),
        node=node,
        time=(time - time[0]) / posterior.unit,
        now=np.array([(present - time[0]) / posterior.unit]),
        end=np.array([(present - time[0] + length) / posterior.unit]),
    )
    count, found, when = over_draws(posterior, starts, draws, seed)
    table = _reach_table(posterior, node, found, time[0] + when * posterior.unit, draws)
    return Spread(count, table, present + length)


def _reach_table(
    posterior: Posterior, start: np.ndarray, node: np.ndarray, time: np.ndarray, draws: int
) -> pd.DataFrame:
    """Probability and times of infection of every node that was not in the start."""
    import pandas as pd

    n_nodes = posterior.n_nodes
    order = np.lexsort((time, node))
    node, time = node[order], time[order]
    count = np.bincount(node, minlength=n_nodes)
    first = np.concatenate(([0], np.cumsum(count)[:-1]))
    others = np.setdiff1d(np.arange(n_nodes), start)
    others = others[np.lexsort((others, -count[others]))]
    columns = {}
    reached = count[others] > 0
    for name, q in (("time_low", INTERVAL[0]), ("time", 0.5), ("time_high", INTERVAL[1])):
        # the smallest time that a share q of the draws does not exceed
        at = np.maximum(np.ceil(q * count[others] - 1e-9).astype(np.int64) - 1, 0)
        value = np.full(others.size, np.nan)
        value[reached] = time[(first[others] + at)[reached]]
        columns[name] = value
    label = np.asarray(posterior.nodes)[others]
    return pd.DataFrame({"node": label, "prob": count[others] / draws, **columns})


def _start_of(
    posterior: Posterior, seeds: Any, now: float | None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Nodes (int32) and times of what has happened, in order, and the present, user's clock.

    Labels alone are infected at time 0.
    """
    from cascadenet.prediction import present_of, read_prefix

    if not hasattr(seeds, "columns"):
        try:
            seeds = list(seeds) if not isinstance(seeds, (str, bytes)) else None
        except TypeError:
            seeds = None
        if seeds is None:
            raise ValueError("expected node labels, or (node, time) tuples, of those infected")
        if seeds and not any(isinstance(entry, (tuple, list)) for entry in seeds):
            seeds = [(label, 0.0) for label in seeds]
    node, time = read_prefix(posterior, seeds)
    order = np.lexsort((node, time))
    return node[order].astype(np.int32), time[order], present_of(time, now)
