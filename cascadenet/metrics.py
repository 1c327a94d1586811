"""How good is an estimate: of edges, of communities, of probabilities, of trees.

Edge scores rank every ordered pair of distinct nodes, N (N - 1) of them, whether or not a method
listed it. Pairs it did not list share the last place, and pairs of equal score are treated as one
block, so no order of the rows of a table can change its score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascadenet.next_scores import NextScore, score_next, separate_ties, strictly_past

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

    from cascadenet.cascades import Cascades

__all__ = [
    "EdgeScore",
    "NextScore",
    "calibration_curve",
    "community_agreement",
    "expected_calibration_error",
    "score_edges",
    "score_next",
    "separate_ties",
    "strictly_past",
    "tree_accuracy",
]

_FloatArray = NDArray[np.float64]
_IntArray = NDArray[np.int64]

_CUTS = (100, 500, 1000)
_TIE_BREAKERS = ("n", "rate")


# ------------------------------------------------------------------------------------------- edges


@dataclass(frozen=True, eq=False)
class EdgeScore(Mapping[str, float]):
    """Scores of one ranking of all ordered pairs; also a mapping from name to number.

    Attributes
    ----------
    auprc : float
        Area under the precision-recall curve: average precision, the sum of precision times gain
        in recall over the blocks of tied pairs.
    roc_auc : float
        Probability that a true pair ranks above a false one, ties counting one half; nan when
        every pair is true.
    best_f1 : float
        Largest F1 over cuts between blocks, the last of which takes every pair. A cut inside a
        block would depend on luck.
    f1_at_true : float
        F1 of the best ``n_true`` pairs (F1@E). A cut inside a block counts the true pairs expected
        when the order within it is random.
    n_true, n_pairs : int
        True pairs, and all pairs that were ranked.
    """

    auprc: float
    roc_auc: float
    best_f1: float
    f1_at_true: float
    n_true: int
    n_pairs: int
    _blocks: _Blocks = field(repr=False)

    def precision_at(self, k: int) -> float:
        """Expected share of true pairs among the best `k`; nan when there are fewer than `k` pairs.

        The order within a block of tied pairs is random, as in `f1_at_true`.

        Raises
        ------
        ValueError
            If `k` is not a positive integer.
        """
        if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
            raise ValueError(f"k must be a positive integer; got {k!r}")
        return self._blocks.hits_at(int(k)) / int(k) if k <= self.n_pairs else math.nan

    def as_dict(self) -> dict[str, float]:
        """All scores by name, with ``precision_at_100``, ``_500`` and ``_1000``."""
        names = ("auprc", "roc_auc", "best_f1", "f1_at_true")
        scores = {name: getattr(self, name) for name in names}
        scores |= {f"precision_at_{k}": self.precision_at(k) for k in _CUTS}
        return scores | {"n_true": self.n_true, "n_pairs": self.n_pairs}

    def __getitem__(self, name: str) -> float:
        return self.as_dict()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.as_dict())

    def __len__(self) -> int:
        return len(self.as_dict())


def score_edges(
    edges: pd.DataFrame,
    truth: pd.DataFrame | nx.DiGraph | Iterable[tuple],
    nodes: Iterable | Cascades,
    score: str | Callable[[pd.DataFrame], ArrayLike] = "prob",
    *,
    break_ties: bool = True,
    exclude: pd.DataFrame | nx.DiGraph | Iterable[tuple] | None = None,
) -> EdgeScore:
    """Score a table of edges against the true network, over all ordered pairs of nodes.

    Parameters
    ----------
    edges : DataFrame
        Columns source, target and those that `score` needs; each pair once, in any order. Pairs of
        `nodes` that are not listed are tied below all that are.
    truth : DataFrame, networkx.DiGraph or iterable of (source, target)
        The true network. Rows with a rate (column or edge attribute) of 0 are no edges; a pair may
        come several times, as in a network whose rates change, and counts once if any rate is
        positive.
    nodes : iterable of labels, or Cascades
        All nodes: they decide which pairs there are.
    score : str or callable
        Column to rank by, largest first, or a function of `edges` that returns one number for each
        row. "prob" follows the order of ``edges()``: equal probabilities by the columns n, then
        rate, where the table has them (a column of nothing but nan counts as absent).
    break_ties : bool
        False ranks by "prob" alone.
    exclude : DataFrame, networkx.DiGraph or iterable of (source, target), optional
        Pairs to leave out of everything: ``exclude=used`` with the pairs that carried an infection
        scores the prediction of pairs that no cascade has used.

    Returns
    -------
    EdgeScore
        auprc, roc_auc, best_f1, f1_at_true, n_true, n_pairs and ``precision_at(k)``.

    Raises
    ------
    ValueError
        If a column is missing, a score is nan, a pair joins a node to itself or names a node that
        is not in `nodes`, `edges` lists a pair twice, a rate is negative or nan, `nodes` repeats a
        label, or no true pair is left.
    TypeError
        If an argument is of another kind, or a graph is undirected.

    Notes
    -----
    Equal to ``average_precision_score`` and ``roc_auc_score`` of scikit-learn on the vector of all
    N (N - 1) pairs, in memory proportional to the rows of the tables.
    """
    index = _node_index(nodes)
    edge_key = _edge_keys(edges, index)
    true_key = _distinct_keys("truth", truth, index, positive_rate=True)
    columns = _ranking(edges, score, break_ties)
    n_pairs = len(index) * (len(index) - 1)
    if exclude is not None:
        left_out = _distinct_keys("exclude", exclude, index, positive_rate=False)
        n_pairs -= left_out.size
        true_key = true_key[~_contains(left_out, true_key)]
        kept = ~_contains(left_out, edge_key)
        edge_key, columns = edge_key[kept], [column[kept] for column in columns]
    if true_key.size == 0:
        raise ValueError(
            "truth has no edge" + ("" if exclude is None else " outside the pairs of exclude")
        )
    blocks = _Blocks.of_ranking(columns, _contains(true_key, edge_key), true_key.size, n_pairs)
    return EdgeScore(
        auprc=blocks.average_precision(),
        roc_auc=blocks.roc_auc(),
        best_f1=blocks.best_f1(),
        f1_at_true=blocks.hits_at(true_key.size) / true_key.size,
        n_true=int(true_key.size),
        n_pairs=n_pairs,
        _blocks=blocks,
    )


@dataclass(frozen=True, eq=False)
class _Blocks:
    """A ranking as blocks of tied pairs, best first: what the scores are functions of.

    Attributes
    ----------
    seen, hits : ndarray, int64, shape (J + 1,)
        Pairs, and true pairs, in the first 0, 1, ..., J blocks.
    """

    seen: _IntArray
    hits: _IntArray

    @classmethod
    def of_ranking(
        cls, columns: list[_FloatArray], is_true: NDArray[np.bool_], n_true: int, n_pairs: int
    ) -> _Blocks:
        """Blocks of rows with equal `columns`, the first ranking first, then all other pairs."""
        n_rows = is_true.size
        order = np.lexsort([-column for column in reversed(columns)])
        starts = np.zeros(n_rows, dtype=bool)
        starts[:1] = True
        for column in columns:
            ranked = column[order]
            starts[1:] |= ranked[1:] != ranked[:-1]
        first = np.flatnonzero(starts)
        hits_by_row = np.concatenate([[0], np.cumsum(is_true[order])])
        seen = np.append(first, n_rows)
        hits = hits_by_row[seen]
        if n_pairs > n_rows:
            seen, hits = np.append(seen, n_pairs), np.append(hits, n_true)
        return cls(seen.astype(np.int64), hits.astype(np.int64))

    def average_precision(self) -> float:
        precision = self.hits[1:] / self.seen[1:]
        return float(np.dot(np.diff(self.hits), precision) / self.hits[-1])

    def roc_auc(self) -> float:
        n_true, n_false = int(self.hits[-1]), int(self.seen[-1] - self.hits[-1])
        if n_false == 0:
            return math.nan
        false_in_block = np.diff(self.seen - self.hits).astype(np.float64)
        true_above = (self.hits[1:] + self.hits[:-1]) / 2.0
        return float(np.dot(false_in_block, true_above) / n_true / n_false)

    def best_f1(self) -> float:
        return float((2.0 * self.hits[1:] / (self.seen[1:] + self.hits[-1])).max())

    def hits_at(self, k: int) -> float:
        """Expected number of true pairs among the best `k`, linear inside a block."""
        return float(np.interp(k, self.seen, self.hits))


def _node_index(nodes: Iterable | Cascades) -> pd.Index:
    """Labels of all nodes as a pandas Index."""
    import pandas as pd

    labels = getattr(nodes, "nodes", nodes)
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Iterable):
        raise TypeError(f"nodes must be labels or a Cascades; got {type(nodes).__name__}")
    index = pd.Index(list(labels), tupleize_cols=False)
    if not index.is_unique:
        raise ValueError(f"nodes has the label {_show(index[index.duplicated()][0])} twice")
    return index


def _edge_keys(edges: pd.DataFrame, index: pd.Index) -> _IntArray:
    """Key of each row of the table to be scored, (rows,), all different."""
    import pandas as pd

    if not isinstance(edges, pd.DataFrame):
        raise TypeError(f"edges must be a DataFrame; got {type(edges).__name__}")
    source, target = _endpoints("edges", edges)
    key = _keys("edges", source, target, index)
    ordered = np.sort(key)
    if (ordered[1:] == ordered[:-1]).any():
        row = np.flatnonzero(pd.Series(key).duplicated())[0]
        pair = f"({_show(source[row])}, {_show(target[row])})"
        raise ValueError(f"edges has the pair {pair} twice: rows {_first(key, row)} and {row}")
    return key


def _first(key: _IntArray, row: int) -> int:
    return int(np.flatnonzero(key == key[row])[0])


def _distinct_keys(
    name: str,
    pairs: pd.DataFrame | nx.DiGraph | Iterable[tuple],
    index: pd.Index,
    *,
    positive_rate: bool,
) -> _IntArray:
    """Sorted distinct keys of `pairs`; with `positive_rate` of those whose rate is not 0."""
    import pandas as pd

    rate: Any = None
    if isinstance(pairs, pd.DataFrame):
        source, target = _endpoints(name, pairs)
        rate = pairs["rate"] if "rate" in pairs.columns else None
    else:
        if hasattr(pairs, "is_directed"):
            if not pairs.is_directed():
                raise TypeError(f"{name} must be a directed graph; got {type(pairs).__name__}")
            rate = [edge[-1] for edge in pairs.edges(data="rate", default=1.0)]
            pairs = pairs.edges()
        source, target = _columns_of(name, pairs)
    key = _keys(name, source, target, index)
    if positive_rate and rate is not None:
        value = np.asarray(rate, dtype=np.float64)
        if not (value >= 0.0).all():
            raise ValueError(f"rate of {name} must not be negative; got {value[~(value >= 0)][0]}")
        key = key[value > 0.0]
    return np.unique(key)


def _endpoints(name: str, frame: pd.DataFrame) -> tuple[NDArray, NDArray]:
    """Columns source and target."""
    for column in ("source", "target"):
        _check_column(name, frame, column)
    return frame["source"].to_numpy(), frame["target"].to_numpy()


def _check_column(name: str, frame: pd.DataFrame, column: str) -> None:
    if column not in frame.columns:
        has = ", ".join(map(str, frame.columns)) or "none"
        raise ValueError(f"{name} has no column {column!r}; it has {has}")


def _columns_of(name: str, pairs: Iterable[tuple]) -> tuple[NDArray, NDArray]:
    """Sources and targets of an iterable of pairs."""
    import pandas as pd

    if isinstance(pairs, (str, bytes)) or not isinstance(pairs, Iterable):
        raise TypeError(
            f"{name} must be a DataFrame, a directed graph or pairs; got {type(pairs).__name__}"
        )
    rows = list(pairs)
    for row in rows:
        if isinstance(row, (str, bytes)) or not hasattr(row, "__len__") or len(row) != 2:
            raise ValueError(f"{name} must hold pairs (source, target); got {row!r}")
    source = pd.Index([row[0] for row in rows], tupleize_cols=False)
    target = pd.Index([row[1] for row in rows], tupleize_cols=False)
    return source.to_numpy(), target.to_numpy()


def _keys(name: str, source: NDArray, target: NDArray, index: pd.Index) -> _IntArray:
    """One integer for each ordered pair, u N + v of node indices."""
    u, v = index.get_indexer(source), index.get_indexer(target)
    unknown = np.flatnonzero((u < 0) | (v < 0))
    if unknown.size:
        row = unknown[0]
        label = source[row] if u[row] < 0 else target[row]
        pair = f"({_show(source[row])}, {_show(target[row])})"
        like = f", whose labels are like {_show(index[0])}" if len(index) else ", which is empty"
        raise ValueError(f"{name} has the pair {pair}: {_show(label)} is not in nodes{like}")
    loops = np.flatnonzero(u == v)
    if loops.size:
        raise ValueError(f"{name} joins {_show(source[loops[0]])} to itself")
    return u.astype(np.int64) * len(index) + v


def _ranking(
    edges: pd.DataFrame, score: str | Callable[[pd.DataFrame], ArrayLike], break_ties: bool
) -> list[_FloatArray]:
    """Columns to rank the rows by, largest first, the first before the second."""
    if callable(score):
        return [_ranking_column("score", score(edges), len(edges))]
    _check_column("edges", edges, score)
    columns = [_ranking_column(f"column {score!r} of edges", edges[score], len(edges))]
    if score == "prob" and break_ties:
        for name in _TIE_BREAKERS:
            if name in edges.columns and not edges[name].isna().all():
                label = f"column {name!r} of edges"
                columns.append(_ranking_column(label, edges[name], len(edges)))
    return columns


def _ranking_column(name: str, values: ArrayLike, n_rows: int) -> _FloatArray:
    try:
        column = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers") from error
    if column.shape != (n_rows,):
        raise ValueError(f"{name} must have one number a row, ({n_rows},); got {column.shape}")
    unknown = np.flatnonzero(np.isnan(column))
    if unknown.size:
        raise ValueError(f"{name} must not be nan; it is in row {unknown[0]}")
    return column


def _contains(sorted_keys: _IntArray, keys: _IntArray) -> NDArray[np.bool_]:
    """Which of `keys` are among `sorted_keys`."""
    if sorted_keys.size == 0:
        return np.zeros(keys.shape, dtype=bool)
    position = np.minimum(np.searchsorted(sorted_keys, keys), sorted_keys.size - 1)
    return sorted_keys[position] == keys


def _show(label: Any) -> str:
    """A label as a user wrote it: 3 and 'a', not np.int64(3)."""
    return repr(label.item() if isinstance(label, np.generic) else label)


# ------------------------------------------------------------------------------------- communities


def community_agreement(
    labels_a: Sequence | NDArray, labels_b: Sequence | NDArray
) -> dict[str, float]:
    """How alike two partitions of the same nodes are.

    Parameters
    ----------
    labels_a, labels_b : sequence of int or str, shape (N,)
        Community of each node. Names of communities mean nothing beyond being equal or not.

    Returns
    -------
    dict
        adjusted_rand : 1 for equal partitions, 0 on average for unrelated ones (Hubert and Arabie).
        nmi : mutual information over the mean of the two entropies, in [0, 1].
        ami : the same, adjusted for chance: 0 on average for unrelated partitions.
        variation_of_information : a metric, 0 for equal partitions, in nats (Meila).

    Raises
    ------
    ValueError
        If the labels are not two vectors of the same, positive length, or one is nan.

    References
    ----------
    Hubert and Arabie (1985), "Comparing partitions", Journal of Classification 2.
    Vinh, Epps and Bailey (2010), "Information theoretic measures for clusterings comparison", JMLR
    11. Meila (2007), "Comparing clusterings: an information based distance", J. Multivariate
    Analysis 98.
    """
    a, size_a = _partition("labels_a", labels_a)
    b, size_b = _partition("labels_b", labels_b)
    if a.size != b.size or a.size == 0:
        raise ValueError(
            f"labels_a and labels_b must have the same positive length; got {a.size} and {b.size}"
        )
    # only the cells of the contingency table that are not empty
    cell, count = np.unique(a * size_b.size + b, return_counts=True)
    shared = count.astype(np.float64)
    n_nodes = float(a.size)
    entropy_a, entropy_b = _entropy(size_a / n_nodes), _entropy(size_b / n_nodes)
    expected = size_a[cell // size_b.size] * size_b[cell % size_b.size] / n_nodes
    information = max(0.0, float(np.dot(shared, np.log(shared / expected)) / n_nodes))
    same = shared.size == size_a.size == size_b.size
    return {
        "adjusted_rand": _adjusted_rand(shared, size_a, size_b),
        "nmi": 1.0 if same else _ratio(information, (entropy_a + entropy_b) / 2.0),
        "ami": 1.0 if same else _adjusted_information(information, size_a, size_b),
        "variation_of_information": (
            0.0 if same else max(0.0, entropy_a + entropy_b - 2.0 * information)
        ),
    }


def _partition(name: str, labels: Sequence | NDArray) -> tuple[_IntArray, _FloatArray]:
    """Labels as 0, 1, ... and the number of nodes with each."""
    import pandas as pd

    if np.ndim(labels) != 1:
        raise ValueError(f"{name} must be a vector of labels; got shape {np.shape(labels)}")
    code, _ = pd.factorize(pd.Series(labels))
    if (code < 0).any():
        raise ValueError(f"{name} must not be nan; position {np.flatnonzero(code < 0)[0]} is")
    return code.astype(np.int64), np.bincount(code).astype(np.float64)


def _entropy(share: _FloatArray) -> float:
    return float(-np.dot(share, np.log(share)))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0.0 else 0.0


def _adjusted_rand(shared: _FloatArray, size_a: _FloatArray, size_b: _FloatArray) -> float:
    """Pairs of nodes together in both, beyond what the sizes alone would give."""
    together, in_a, in_b = (float((x * (x - 1.0)).sum() / 2.0) for x in (shared, size_a, size_b))
    n_nodes = float(size_a.sum())
    if together == in_a == in_b:
        return 1.0
    expected = in_a * in_b / (n_nodes * (n_nodes - 1.0) / 2.0)
    return (together - expected) / ((in_a + in_b) / 2.0 - expected)


def _adjusted_information(information: float, size_a: _FloatArray, size_b: _FloatArray) -> float:
    """Mutual information beyond its mean over random partitions of these sizes (Vinh et al.).

    For partitions that differ: the mean reaches the entropies only where chance cannot miss.
    """
    if size_a.size == 1 or size_b.size == 1:
        return 0.0
    n_nodes = size_a.sum()
    mean_entropy = (_entropy(size_a / n_nodes) + _entropy(size_b / n_nodes)) / 2.0
    expected = _expected_information(size_a, size_b)
    return (information - expected) / (mean_entropy - expected)


def _expected_information(size_a: _FloatArray, size_b: _FloatArray) -> float:
    """Mean mutual information, in nats, over random partitions with these community sizes.

    Notes
    -----
    The overlap of two communities of sizes a and b is hypergeometric. Sizes repeat, so the sum is
    over distinct sizes; O(sqrt(N)) steps on arrays of O(N).
    """
    from scipy.special import gammaln

    n_nodes = size_a.sum()
    sizes_b, times_b = np.unique(size_b, return_counts=True)
    total = 0.0
    for a, times in zip(*np.unique(size_a, return_counts=True), strict=True):
        low = np.maximum(1.0, a + sizes_b - n_nodes)
        count = (np.minimum(a, sizes_b) - low + 1.0).astype(np.int64)
        b = np.repeat(sizes_b, count)
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        overlap = np.repeat(low, count) + within
        log_prob = (
            (gammaln(a + 1.0) - gammaln(overlap + 1.0) - gammaln(a - overlap + 1.0))
            + (gammaln(n_nodes - a + 1.0) - gammaln(b - overlap + 1.0))
            - gammaln(n_nodes - a - b + overlap + 1.0)
            - (gammaln(n_nodes + 1.0) - gammaln(b + 1.0) - gammaln(n_nodes - b + 1.0))
        )
        gain = overlap / n_nodes * np.log(n_nodes * overlap / (a * b))
        total += times * np.dot(np.exp(log_prob) * gain, np.repeat(times_b, count))
    return float(total)


# ----------------------------------------------------------------------------------- probabilities


def calibration_curve(
    prob: ArrayLike,
    outcome: ArrayLike,
    bins: int | Sequence[float] = 10,
    *,
    level: float = 0.94,
) -> pd.DataFrame:
    """Do things that were given probability p happen a share p of the time?

    Parameters
    ----------
    prob : array_like, float, shape (M,)
        Predicted probabilities.
    outcome : array_like, bool or 0/1, shape (M,)
        What happened.
    bins : int or sequence of float
        Number of bins of equal width on [0, 1], or their increasing edges from 0 to 1. A bin
        holds its left edge; the last one holds 1 as well.
    level : float
        Coverage of the interval.

    Returns
    -------
    DataFrame
        One row a bin, empty ones included: bin, left, right, count, predicted (mean of `prob`),
        observed (frequency of `outcome`), low, high (Wilson score interval of `observed`).

    Raises
    ------
    ValueError
        If lengths differ, a probability is outside [0, 1], an outcome is not 0 or 1, or `bins` or
        `level` are not as described.
    """
    import pandas as pd

    p, y = _checked_predictions(prob, outcome)
    edge = _bin_edges(bins)
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1; got {level}")
    n_bins = edge.size - 1
    which = np.clip(np.searchsorted(edge, p, side="right") - 1, 0, n_bins - 1)
    count = np.bincount(which, minlength=n_bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        predicted = np.bincount(which, weights=p, minlength=n_bins) / count
        observed = np.bincount(which, weights=y, minlength=n_bins) / count
        low, high = _wilson_interval(observed, count, level)
    columns = {"bin": np.arange(n_bins), "left": edge[:-1], "right": edge[1:], "count": count}
    columns |= {"predicted": predicted, "observed": observed, "low": low, "high": high}
    return pd.DataFrame(columns)


def expected_calibration_error(
    prob: ArrayLike, outcome: ArrayLike, bins: int | Sequence[float] = 10
) -> float:
    """Mean distance between predicted and observed frequency, bins weighted by their counts.

    Parameters, errors
        As in `calibration_curve`; raises ValueError when there is no prediction at all.

    Returns
    -------
    float
        In [0, 1]; 0 is perfect. Bins with few predictions make it positive by chance alone.
    """
    curve = calibration_curve(prob, outcome, bins)
    if curve["count"].sum() == 0:
        raise ValueError("prob must hold at least one prediction; got none")
    curve = curve[curve["count"] > 0]
    distance = (curve["observed"] - curve["predicted"]).abs()
    return float(np.average(distance, weights=curve["count"]))


def _checked_predictions(prob: ArrayLike, outcome: ArrayLike) -> tuple[_FloatArray, _FloatArray]:
    """Probabilities and outcomes as float vectors of one length."""
    p, y = np.asarray(prob, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    if p.ndim != 1 or p.shape != y.shape:
        raise ValueError(
            f"prob and outcome must be vectors of the same length; got {p.shape} and {y.shape}"
        )
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError(f"prob must lie in [0, 1]; got {p[~((p >= 0.0) & (p <= 1.0))][0]}")
    if not np.isin(y, (0.0, 1.0)).all():
        raise ValueError(f"outcome must be 0 or 1; got {y[~np.isin(y, (0.0, 1.0))][0]}")
    return p, y


def _bin_edges(bins: int | Sequence[float]) -> _FloatArray:
    if isinstance(bins, (int, np.integer)) and not isinstance(bins, bool) and bins >= 1:
        return np.linspace(0.0, 1.0, int(bins) + 1)
    edge = np.asarray(bins, dtype=np.float64)
    if edge.ndim != 1 or edge.size < 2 or edge[0] != 0.0 or edge[-1] != 1.0:
        raise ValueError(f"bins must be a positive number or edges from 0 to 1; got {bins!r}")
    if not (np.diff(edge) > 0.0).all():
        raise ValueError(f"bins must be increasing edges; got {bins!r}")
    return edge


def _wilson_interval(
    observed: _FloatArray, count: NDArray, level: float
) -> tuple[_FloatArray, _FloatArray]:
    """Wilson's score interval of a binomial share: nan where there is nothing to count."""
    z = NormalDist().inv_cdf((1.0 + level) / 2.0)
    shrunk = count / (count + z**2)
    centre = shrunk * observed + (1.0 - shrunk) / 2.0
    variance = observed * (1.0 - observed) / count + z**2 / (4.0 * count**2)
    half = shrunk * z * np.sqrt(variance)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


# ------------------------------------------------------------------------------------------- trees


def tree_accuracy(parents_estimated: ArrayLike, parents_true: ArrayLike) -> float:
    """Share of the infections that have a true parent whose estimated parent is the right one.

    Parameters
    ----------
    parents_estimated : array_like of int or str, shape (I,) or (draws, I)
        Parent of each infection, named as in `parents_true`; a negative number or a missing value
        (None, nan) for none: a seed, or infected from outside. With several draws the result is
        their mean, the expected accuracy.
    parents_true : array_like of int or str, shape (I,)
        The same, as it was. Infections without a parent are not scored.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        If shapes do not fit, no infection has a true parent, or there are no draws.
    """
    estimate, true = _parents(parents_estimated), _parents(parents_true)
    if true.ndim != 1 or estimate.ndim not in (1, 2) or estimate.shape[-1] != true.size:
        raise ValueError(
            "parents_true must have shape (I,) and parents_estimated (I,) or (draws, I); "
            f"got {true.shape} and {estimate.shape}"
        )
    scored = true >= 0 if true.dtype != object else np.array([u is not None for u in true])
    if not scored.any():
        raise ValueError("parents_true must hold at least one parent; got none")
    if estimate.size == 0:
        raise ValueError("parents_estimated must hold at least one draw; got none")
    return float((estimate[..., scored] == true[scored]).mean())


def _parents(labels: ArrayLike) -> NDArray:
    """Labels as integers, negative for none, or as objects with None for none."""
    import pandas as pd

    values = np.asarray(labels)
    if np.issubdtype(values.dtype, np.integer):
        return values
    missing = pd.isna(values)
    if np.issubdtype(values.dtype, np.number):
        return np.where(missing, -1, values)
    return np.where(missing, None, values.astype(object))
