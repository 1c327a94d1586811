"""How good is an estimate of a network that changes: edges and rates, interval by interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascadenet.metrics import score_edges
from cascadenet.networks import network_columns, rates_at

if TYPE_CHECKING:
    import pandas as pd

    from cascadenet.cascades import Cascades

__all__ = ["DynamicScore", "score_dynamic"]

_SCORES = ("auprc", "roc_auc", "best_f1", "f1_at_true")


@dataclass(frozen=True, eq=False)
class DynamicScore:
    """Scores of edge tables of several intervals against a network whose rates change.

    Attributes
    ----------
    table : DataFrame
        One row an interval: ``interval``, ``start``, ``stop``; ``n_true``, the edges whose rate at
        the middle is positive; ``prevalence``, their share of all ordered pairs, which is the AUPRC
        expected of a random order; ``auprc``, ``roc_auc``, ``best_f1``, ``f1_at_true`` as in
        :class:`cascadenet.metrics.EdgeScore`, nan where no edge is active;
        ``rate_correlation``, over the edges of the network, nan where either side does not vary.
    auprc, prevalence : float
        Means over the intervals in which an edge is active.
    rate_correlation : float
        Pearson's correlation of estimated and true rate over all (edge, interval): edges that the
        network has at any time, their true rate at the middle of the interval, and zero for the
        estimate where a pair is not listed. nan where either side does not vary or a rate is nan.
    """

    table: pd.DataFrame
    auprc: float
    prevalence: float
    rate_correlation: float


def score_dynamic(
    edges: pd.DataFrame | Sequence[pd.DataFrame],
    network: pd.DataFrame,
    boundaries: ArrayLike,
    nodes: Iterable | Cascades,
    score: str | Callable[[pd.DataFrame], ArrayLike] = "prob",
) -> DynamicScore:
    """Score edge tables of consecutive intervals: which edges are active, and how strong.

    Parameters
    ----------
    edges : DataFrame or sequence of DataFrame
        One table with the column ``interval``, 0 to J - 1, or J tables in the order of the
        intervals. Each has ``source``, ``target``, ``rate`` and what `score` needs; pairs that are
        not listed in an interval are tied below all that are, with rate zero.
    network : DataFrame
        The truth: source, target, rate and, where rates vary, start, as
        :func:`cascadenet.read_network` returns it. An edge is active in an interval when its rate
        at the middle is positive.
    boundaries : array_like of float, shape (J + 1,)
        Ends of the intervals, increasing, in the unit of ``start``.
    nodes : iterable of labels, or Cascades
        All nodes: they decide which ordered pairs there are.
    score : str or callable
        What to rank by, see :func:`cascadenet.metrics.score_edges`.

    Returns
    -------
    DynamicScore

    Raises
    ------
    ValueError
        If boundaries do not increase, an interval or a column is missing or unknown, no edge is
        active in any interval, or a table or the network is not as `score_edges` needs it.
    TypeError
        If an argument is of another kind.

    Examples
    --------
    >>> import pandas as pd
    >>> from cascadenet.dynamic_scores import score_dynamic
    >>> network = pd.DataFrame(
    ...     [("a", "b", 1.0, 0.0), ("a", "b", 0.0, 1.0), ("b", "a", 2.0, 1.0)],
    ...     columns=["source", "target", "rate", "start"],
    ... )
    >>> found = pd.DataFrame(
    ...     [("a", "b", 0.9, 1.1, 0), ("b", "a", 0.8, 1.5, 1)],
    ...     columns=["source", "target", "prob", "rate", "interval"],
    ... )
    >>> score_dynamic(found, network, [0.0, 1.0, 2.0], ["a", "b"]).auprc
    1.0
    """
    import pandas as pd

    ends = _checked_boundaries(boundaries)
    tables = _by_interval(edges, ends.size - 1)
    network_columns(network)
    labels = list(getattr(nodes, "nodes", nodes))
    n_pairs = len(labels) * (len(labels) - 1)
    rows, estimates, truths = [], [], []
    for j, found in enumerate(tables):
        now = rates_at(network, float(ends[j] + ends[j + 1]) / 2.0)
        true = now["rate"].to_numpy(np.float64)
        estimate = _rates_of(found, now, j)
        n_true = int(np.count_nonzero(true))
        row = {"interval": j, "start": ends[j], "stop": ends[j + 1], "n_true": n_true}
        row["prevalence"] = n_true / n_pairs if n_pairs else math.nan
        scores = score_edges(found, now, labels, score) if n_true else None
        row |= {name: getattr(scores, name) if scores else math.nan for name in _SCORES}
        row["rate_correlation"] = _correlation(estimate, true)
        rows.append(row)
        estimates.append(estimate)
        truths.append(true)
    table = pd.DataFrame(rows)
    active = table[table["n_true"] > 0]
    if active.empty:
        raise ValueError("network has no edge whose rate is positive at the middle of an interval")
    return DynamicScore(
        table=table,
        auprc=float(active["auprc"].mean()),
        prevalence=float(active["prevalence"].mean()),
        rate_correlation=_correlation(np.concatenate(estimates), np.concatenate(truths)),
    )


def _checked_boundaries(boundaries: ArrayLike) -> NDArray[np.float64]:
    """Ends of at least one interval."""
    ends = np.asarray(boundaries, dtype=np.float64)
    if ends.ndim != 1 or ends.size < 2:
        raise ValueError(f"boundaries must be a vector of at least two times; got {boundaries!r}")
    if not (np.isfinite(ends).all() and (np.diff(ends) > 0.0).all()):
        raise ValueError(f"boundaries must be finite and increase; got {ends.tolist()}")
    return ends


def _by_interval(
    edges: pd.DataFrame | Sequence[pd.DataFrame], n_intervals: int
) -> list[pd.DataFrame]:
    """One table for each interval."""
    import pandas as pd

    if not isinstance(edges, pd.DataFrame):
        if isinstance(edges, (str, bytes)) or not isinstance(edges, Sequence):
            raise TypeError(f"edges must be a DataFrame or several; got {type(edges).__name__}")
        if len(edges) != n_intervals:
            raise ValueError(f"edges must be {n_intervals} tables; got {len(edges)}")
        return list(edges)
    if "interval" not in edges.columns:
        raise ValueError(f"edges must have the column interval; it has {list(edges.columns)}")
    number = edges["interval"].to_numpy()
    wrong = np.flatnonzero(~np.isin(number, np.arange(n_intervals)))
    if wrong.size:
        raise ValueError(
            f"interval of edges must be 0 to {n_intervals - 1}, as boundaries has one more; "
            f"got {number[wrong[0]]} (row {wrong[0]})"
        )
    return [edges[number == j] for j in range(n_intervals)]


def _rates_of(found: pd.DataFrame, now: pd.DataFrame, interval: int) -> NDArray[np.float64]:
    """Estimated rate of each pair of the network, zero where it is not listed."""
    for name in ("source", "target", "rate"):
        if name not in getattr(found, "columns", ()):
            raise ValueError(f"edges of interval {interval} must have the column {name}")
    listed = zip(found["source"], found["target"], strict=True)
    rate = dict(zip(listed, found["rate"].to_numpy(np.float64), strict=True))
    pairs = zip(now["source"], now["target"], strict=True)
    return np.array([rate.get(pair, 0.0) for pair in pairs], dtype=np.float64)


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Pearson's, nan where it has no value."""
    if x.size == 0 or not (np.isfinite(x).all() and np.ptp(x) > 0.0 and np.ptp(y) > 0.0):
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])
