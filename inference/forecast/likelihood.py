"""Predictive density of new cascades, and its comparison between posteriors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cascadenet.cascades import Cascades
from cascadenet.inference.forecast import _kernels
from cascadenet.inference.forecast.laws import Laws, all_laws, require_survival

if TYPE_CHECKING:
    import pandas as pd

    from cascadenet.posterior import Posterior


@dataclass(frozen=True)
class PredictiveScore:
    """Log predictive density per infection, or a difference of two.

    Attributes
    ----------
    mean : float
        Sum over cascades divided by the number of infections that are no seeds.
    se : float
        Its standard error with cascades as the units, which need not be of equal length; nan for
        a single cascade.
    n_cascades, n_infections : int
    """

    mean: float
    se: float
    n_cascades: int
    n_infections: int


def score_predictive(table: pd.DataFrame) -> PredictiveScore:
    """Mean log predictive density per infection of what :meth:`Posterior.log_predictive` returns.

    Parameters
    ----------
    table : DataFrame
        Columns ``log_predictive`` and ``n_infections``.

    Returns
    -------
    PredictiveScore

    Raises
    ------
    ValueError
        Missing columns, or no infection besides seeds.

    Notes
    -----
    Singleton cascades count too: that nobody followed is predicted as well. The standard error is
    that of a ratio of two means, with the residuals ``value - mean * n_infections``.
    """
    value, n = _columns(table, "table")
    return _ratio(value, n)


def compare_predictive(a: pd.DataFrame, b: pd.DataFrame) -> PredictiveScore:
    """Difference of two models in log predictive density per infection, cascade by cascade.

    Parameters
    ----------
    a, b : DataFrame
        What :meth:`Posterior.log_predictive` of the two has returned for the same cascades.

    Returns
    -------
    PredictiveScore
        Positive where ``a`` predicts better. Paired, so that the standard error is free of what
        makes a cascade hard for both.

    Raises
    ------
    ValueError
        Tables of different cascades, missing columns, or no infection besides seeds.
    """
    left, n = _columns(a, "a")
    right, other = _columns(b, "b")
    if len(a) != len(b) or list(a["cascade"]) != list(b["cascade"]) or (n != other).any():
        raise ValueError("a and b must be of the same cascades in the same order; they differ")
    with np.errstate(invalid="ignore"):
        return _ratio(left - right, n)


def _columns(table: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    missing = {"cascade", "log_predictive", "n_infections"} - set(getattr(table, "columns", ()))
    if missing:
        raise ValueError(f"{name} must be a table of log_predictive; missing {sorted(missing)}")
    n = table["n_infections"].to_numpy(np.float64)
    if not n.sum() > 0.0:
        raise ValueError(f"{name} must hold infections that are no seeds; got none")
    return table["log_predictive"].to_numpy(np.float64), n


def _ratio(value: np.ndarray, n: np.ndarray) -> PredictiveScore:
    """Ratio of the sums, with the standard error of a ratio estimate."""
    mean = float(value.sum() / n.sum())
    se = math.nan
    if value.size > 1 and math.isfinite(mean):
        residual = value - mean * n
        se = float(residual.std(ddof=1) * math.sqrt(value.size) / n.sum())
    return PredictiveScore(mean, se, int(value.size), int(n.sum()))


def log_predictive(
    posterior: Posterior, cascades: Cascades, draws: int | None = None
) -> pd.DataFrame:
    """Body of :meth:`Posterior.log_predictive`."""
    import pandas as pd

    value, n = predictive_draws(posterior, cascades, draws)
    return pd.DataFrame(
        {
            "cascade": list(cascades.labels),
            "log_predictive": np.logaddexp.reduce(value, axis=0) - math.log(len(value)),
            "n_infections": n,
        }
    )


def predictive_draws(
    posterior: Posterior, cascades: Cascades, draws: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Log predictive density of each cascade under each draw.

    Parameters
    ----------
    posterior : Posterior
    cascades : Cascades
        Their infected nodes must be known to the posterior.
    draws : int, optional
        So many of the posterior's network draws, evenly spaced; all by default.

    Returns
    -------
    value : float64 array, shape (S, C)
        Densities of the times of all infections but seeds, per the user's unit of time.
    n_infections : int64 array, shape (C,)
        Infections that are no seeds.
    """
    require_survival(posterior, "log_predictive")
    check_draws("draws", draws)
    data = arrange(posterior, cascades)
    value = np.array([_one_draw(laws, data) for laws in all_laws(posterior, draws)])
    n = np.add.reduceat(data.n_earlier > 0, data.offset[:-1], dtype=np.int64)
    return value - n * math.log(posterior.unit), n


def check_draws(name: str, count: object) -> None:
    """Raise unless a number of draws is a positive integer, or None."""
    if count is None:
        return
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        raise ValueError(f"{name} must be a positive integer; got {count!r}")


@dataclass(frozen=True)
class Arranged:
    """New cascades in a posterior's nodes and unit, with the candidates of each infection.

    Attributes
    ----------
    offset : int64 array, shape (C + 1,)
    node : int32 array, shape (I,)
        Indices of the posterior's nodes, sorted by cascade, time, node.
    time : float64 array, shape (I,)
        Since the start of the cascade, internal unit.
    length : float64 array, shape (C,)
        How long each cascade was observed.
    n_earlier, first_cand : int64 array, shape (I,)
        Strictly earlier infections of the cascade (0: a seed), and how many of them no longer act.
    influence : float64 array, shape (I,)
        Time from an infection to the end of its influence.
    """

    offset: np.ndarray
    node: np.ndarray
    time: np.ndarray
    length: np.ndarray
    n_earlier: np.ndarray
    first_cand: np.ndarray
    influence: np.ndarray

    def candidates(self) -> tuple[np.ndarray, np.ndarray]:
        """Pointers int64 (I + 1,) and delays float64 (Q,) of each infection's candidates."""
        width = self.n_earlier - self.first_cand
        ptr = np.concatenate(([0], np.cumsum(width)))
        child = np.repeat(np.arange(self.node.size), width)
        first = np.repeat(self.offset[:-1], np.diff(self.offset)) + self.first_cand
        parent = first[child] + np.arange(ptr[-1]) - ptr[child]
        return ptr, self.time[child] - self.time[parent]


def arrange(posterior: Posterior, cascades: Cascades) -> Arranged:
    """Lay new cascades out as the fit did its own: the same ties, caps and unit of time.

    Raises
    ------
    ValueError
        Infected nodes that the posterior does not know.
    """
    if not isinstance(cascades, Cascades):
        raise TypeError(f"cascades must be a Cascades; got {type(cascades).__name__}")
    offset, size = cascades.offset, np.diff(cascades.offset)
    cascade = np.repeat(np.arange(cascades.n_cascades), size)
    node = _known_nodes(posterior, cascades)
    order = np.lexsort((node, cascades.time, cascade))
    node = node[order]
    time = (cascades.time[order] - cascades.start[cascade]) / posterior.unit
    length = (cascades.horizon - cascades.start) / posterior.unit
    index = np.arange(node.size)
    opens = np.ones(node.size, bool)
    opens[1:] = (cascade[1:] != cascade[:-1]) | (np.diff(cascades.time[order]) > 0.0)
    n_earlier = np.maximum.accumulate(np.where(opens, index, 0)) - offset[cascade]
    influence = length[cascade] - time
    limit = cap(posterior)
    leaver = index + min(limit, node.size)  # the infection that ends this one's influence
    inside = np.flatnonzero(leaver < offset[cascade + 1])
    influence[inside] = time[leaver[inside]] - time[inside]
    first_cand = np.maximum(n_earlier - min(limit, node.size), 0)
    return Arranged(offset, node, time, length, n_earlier, first_cand, influence)


def cap(posterior: Posterior) -> int:
    """Infections that a node can act on after its own, the fit's ``max_candidates``."""
    limit = posterior.settings.get("max_candidates")
    return int(np.iinfo(np.int64).max if limit is None else limit)


def _known_nodes(posterior: Posterior, cascades: Cascades) -> np.ndarray:
    """Posterior's index of each infection's node, int32; labels match by their text."""
    known = {str(label): i for i, label in enumerate(posterior.nodes)}
    of_node = np.array([known.get(str(label), -1) for label in cascades.nodes], np.int32)
    node = of_node[cascades.node]
    if (node < 0).any():
        unknown = np.unique(cascades.node[node < 0])
        first = cascades.nodes[unknown[0]]
        raise ValueError(
            f"infected nodes of cascades must be nodes of the posterior; got {unknown.size} that "
            f"are not, such as {first!r}: give the fit all nodes, those never infected included"
        )
    return node


def _one_draw(laws: Laws, data: Arranged) -> np.ndarray:
    """Log density of each cascade under one draw, per internal unit of time, (C,)."""
    ptr, delay = data.candidates()
    has_ground = laws.ground_shape.size > 0
    log_hazard = laws.delay.log_hazard(delay, laws.theta)
    rows = np.flatnonzero(np.diff(ptr) > 0)
    scale = np.full(data.node.size, 0.0 if has_ground else -np.inf)
    if rows.size:
        largest = np.maximum.reduceat(log_hazard, ptr[:-1][rows])
        scale[rows] = np.maximum(scale[rows], largest)
    scale[~np.isfinite(scale)] = 0.0  # nothing acts: the density is zero at any scale
    value = np.empty(data.length.size)
    index = laws.index
    _kernels.cascade_densities(
        data.offset,
        data.node,
        data.n_earlier,
        data.first_cand,
        ptr,
        np.exp(log_hazard - np.repeat(scale, np.diff(ptr))),
        laws.dose(delay),
        laws.dose(data.influence),
        index.ptr,
        index.target,
        laws.shape,
        laws.rate,
        laws.sender,
        laws.receiver,
        laws.node_mass,
        laws.node_rate,
        laws.ground_shape,
        laws.ground_rate,
        data.time,
        np.exp(-scale) if has_ground else scale,
        data.length,
        value,
    )
    seeds = data.n_earlier == 0
    return value + np.add.reduceat(np.where(seeds, 0.0, scale), data.offset[:-1])
