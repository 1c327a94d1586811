"""How well a model says who comes next in a cascade.

Every infection but the first of a cascade is a target: all nodes not yet infected are ranked by the
model, ties share their middle place, and hits@k and MAP@k look at the place of the one that came.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cascadenet.cascades import Cascades
from cascadenet.networks import whole_number

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "NextPositions",
    "NextScore",
    "next_positions",
    "rank_scores",
    "score_next",
    "separate_ties",
    "strictly_past",
]

_FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NextPositions:
    """What became of every target.

    Attributes
    ----------
    cascade : int64 array, shape (T,)
        Position of its cascade.
    place : int64 array, shape (T,)
        Infections before it in the cascade.
    rank : float64 array, shape (T,)
        1 + the nodes ranked above + half of those tied with it.
    prob : float64 array, shape (T,)
        Probability it was given.
    top : float64 array, shape (T,)
        Largest probability given to any node.
    """

    cascade: NDArray[np.int64]
    place: NDArray[np.int64]
    rank: _FloatArray
    prob: _FloatArray
    top: _FloatArray


@dataclass(frozen=True, eq=False)
class NextScore(Mapping[str, float]):
    """Scores by name, with standard errors.

    Attributes
    ----------
    scores, errors : dict
        ``hits@k``; ``map@k``, the mean of 1/rank where rank <= k and 0 elsewhere; ``nll``, the
        mean of -log probability, nats; ``mean_rank``; ``top1_accuracy``, the share of targets
        ranked first, and ``top1_confidence``, the mean probability of the node ranked first.
        Errors by resampling cascades, nan for a single one.
    positions : NextPositions
        What they are computed from.
    """

    scores: dict[str, float]
    errors: dict[str, float]
    positions: NextPositions

    @property
    def table(self) -> pd.DataFrame:
        """One row a score: ``metric``, ``k`` (0 where it has none), ``value``, ``se``."""
        import pandas as pd

        rows = []
        for name, value in self.scores.items():
            metric, _, k = name.partition("@")
            rows.append((metric, int(k or 0), value, self.errors[name]))
        return pd.DataFrame(rows, columns=["metric", "k", "value", "se"])

    def __getitem__(self, name: str) -> float:
        return self.scores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    def __str__(self) -> str:
        return self.table.round(4).to_string(index=False)


def score_next(
    model: Any,
    cascades: Cascades,
    k: Sequence[int] = (10, 50, 100),
    *,
    online: bool = False,
    end: bool = False,
    bootstrap: int = 1000,
    seed: int | np.random.Generator | None = 0,
) -> NextScore:
    """Score a model's predictions of who comes next.

    Parameters
    ----------
    model : object
        With ``nodes`` and ``scores(nodes, times)``, probabilities in the order of ``nodes``, zero
        for those infected; used instead where there is one: ``scores_along(nodes, times)``, the
        scores after each infection, (L, N).
    cascades : Cascades
        To be predicted. Their infected nodes must be known to the model.
    k : sequence of int
        Numbers of nodes that may be named.
    online : bool
        Let a copy of the model learn each cascade, by ``partial_fit``, once it has been predicted.
    end : bool
        Count the end of every cascade as a target, and as a candidate everywhere, with the model's
        ``end_probability(length)``. Ends are easier to name than nodes, so the scores are not to be
        compared with those without.
    bootstrap : int
        Resamples of whole cascades for the standard errors.
    seed : int, numpy.random.Generator or None
        Of the resamples.

    Returns
    -------
    NextScore

    Raises
    ------
    TypeError, ValueError
        A model or cascades of another kind, unknown nodes, no target, scores that are negative or
        nan or positive for infected nodes, ``k`` below 1.
    """
    cuts = tuple(dict.fromkeys(whole_number("k", cut, 1) for cut in k))
    whole_number("bootstrap", bootstrap, 2)
    positions = next_positions(model, cascades, online=online, end=end)
    parts = _parts(positions, cuts)
    scores = {name: float(values.mean()) for name, values in parts.items()}
    errors = _standard_errors(parts, positions.cascade, bootstrap, np.random.default_rng(seed))
    return NextScore(scores, errors, positions)


def rank_scores(positions: NextPositions, k: Sequence[int] = (10, 50, 100)) -> dict[str, float]:
    """Scores by name, as in `NextScore`, without errors.

    Parameters
    ----------
    positions : NextPositions
        Of `next_positions`.
    k : sequence of int
        Numbers of nodes that may be named.
    """
    return {name: float(values.mean()) for name, values in _parts(positions, k).items()}


def next_positions(
    model: Any, cascades: Cascades, *, online: bool = False, end: bool = False
) -> NextPositions:
    """Rank and probability of every target.

    Parameters
    ----------
    model, cascades, online, end
        As for `score_next`.

    Raises
    ------
    TypeError, ValueError
        As for `score_next`.
    """
    _check_arguments(model, cascades, online, end)
    if online:
        model = copy.deepcopy(model)
    index = {label: i for i, label in enumerate(model.nodes)}
    parts: list[tuple[int, NDArray, NDArray, NDArray, NDArray]] = []
    for c in range(cascades.n_cascades):
        inside = slice(int(cascades.offset[c]), int(cascades.offset[c + 1]))
        labels = [cascades.nodes[v] for v in cascades.node[inside]]
        try:
            node = np.array([index[label] for label in labels], np.int64)
        except KeyError as error:
            raise ValueError(f"cascades must have nodes of the model; got {error}") from None
        asked = node.size if end else node.size - 1
        if asked:
            score = _scores(model, node, labels, cascades.time[inside], asked)
            places = _with_end(model, score, node) if end else _ranked(score, node[1:])
            parts.append((c, np.arange(1, asked + 1), *places))
        if online:
            model.partial_fit(cascades.subset([c]))
    if not parts:
        raise ValueError("cascades must have a target; got none with two infections")
    cascade, *rest = zip(*parts, strict=True)
    sizes = [place.size for place in rest[0]]
    return NextPositions(np.repeat(cascade, sizes), *(np.concatenate(part) for part in rest))


def _check_arguments(model: Any, cascades: Any, online: bool, end: bool) -> None:
    needed = ["nodes", "scores"]
    needed += ["partial_fit"] if online else []
    needed += ["end_probability"] if end else []
    for name in needed:
        if not hasattr(model, name):
            raise TypeError(f"model must have {name}; {type(model).__name__} has none")
    if not isinstance(cascades, Cascades):
        raise TypeError(f"cascades must be a Cascades; got {type(cascades).__name__}")


def _scores(
    model: Any, node: NDArray[np.int64], labels: list, time: _FloatArray, asked: int
) -> _FloatArray:
    """What the model says after each of the first infections, (asked, N), checked."""
    if hasattr(model, "scores_along"):
        score = np.asarray(model.scores_along(labels[:asked], time[:asked]), np.float64)
    else:
        prefixes = range(1, asked + 1)
        score = np.array([model.scores(labels[:m], time[:m]) for m in prefixes], np.float64)
    if score.shape != (asked, len(model.nodes)):
        wanted = (asked, len(model.nodes))
        raise ValueError(f"scores of the model must have shape {wanted}; got {score.shape}")
    if not (score >= 0.0).all():  # nan too
        bad = score[~(score >= 0.0)][0]
        raise ValueError(f"scores of the model must not be negative or nan; got {bad}")
    if np.tril(score[:, node[:asked]]).any():
        raise ValueError("scores of the model must be zero for nodes that are infected")
    return score


def _ranked(
    score: _FloatArray, target: NDArray[np.int64]
) -> tuple[_FloatArray, _FloatArray, _FloatArray]:
    """Rank, probability and largest probability of the targets of a cascade."""
    row = np.arange(target.size)
    prob = score[row, target]
    above = (score > prob[:, None]).sum(axis=1)
    # itself, and when it was held impossible, those infected
    tied = (score == prob[:, None]).sum(axis=1) - 1 - np.where(prob == 0.0, row + 1, 0)
    return 1.0 + above + tied / 2.0, prob, score.max(axis=1)


def _with_end(
    model: Any, score: _FloatArray, node: NDArray[np.int64]
) -> tuple[_FloatArray, _FloatArray, _FloatArray]:
    """The same with the end of the cascade as one more candidate, and as the last target."""
    over = np.array([model.end_probability(m) for m in range(1, node.size + 1)])
    score = score * (1.0 - over[:, None])
    rank, prob, top = _ranked(score[:-1], node[1:])
    rank += (over[:-1] > prob) + (over[:-1] == prob) / 2.0
    last = score[-1]
    tied = (last == over[-1]).sum() - (node.size if over[-1] == 0.0 else 0)
    last_rank = 1.0 + (last > over[-1]).sum() + tied / 2.0
    top = np.maximum(np.append(top, last.max()), over)
    return np.append(rank, last_rank), np.append(prob, over[-1]), top


def _parts(positions: NextPositions, k: Sequence[int]) -> dict[str, _FloatArray]:
    """What each score is the mean of, over targets."""
    rank = positions.rank
    parts = {f"hits@{cut}": (rank <= cut).astype(np.float64) for cut in k}
    parts |= {f"map@{cut}": np.where(rank <= cut, 1.0 / rank, 0.0) for cut in k}
    with np.errstate(divide="ignore"):
        parts["nll"] = -np.log(positions.prob)
    parts["mean_rank"] = rank
    parts["top1_accuracy"] = (rank == 1.0).astype(np.float64)
    parts["top1_confidence"] = positions.top
    return parts


def _standard_errors(
    parts: dict[str, _FloatArray],
    cascade: NDArray[np.int64],
    bootstrap: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Standard deviation of each mean over resamples of whole cascades."""
    _, group = np.unique(cascade, return_inverse=True)
    n_groups = int(group.max()) + 1
    if n_groups < 2:
        return dict.fromkeys(parts, math.nan)
    times = rng.multinomial(n_groups, np.full(n_groups, 1.0 / n_groups), size=bootstrap)
    targets = times @ np.bincount(group).astype(np.float64)
    errors = {}
    for name, values in parts.items():
        finite = np.isfinite(values).all()
        sums = np.bincount(group, weights=values) if finite else None
        errors[name] = math.nan if sums is None else float(np.std(times @ sums / targets, ddof=1))
    return errors


def strictly_past(cascades: Cascades, before: float) -> tuple[Cascades, float]:
    """Training cascades cut at an instant, so that they hold nothing of what is to be predicted.

    Cascades that are split by their starts overlap in time: training ones go on while those to be
    predicted begin, and a model fitted to all of them interpolates.

    Parameters
    ----------
    cascades : Cascades
        Training data.
    before : float
        Start of the first cascade to be predicted.

    Returns
    -------
    Cascades, float
        Infections before that instant, and the share of infections that were not.

    Raises
    ------
    ValueError
        Nothing lies before.
    """
    past = cascades.time < before
    cascade = np.repeat(np.arange(cascades.n_cascades), np.diff(cascades.offset))[past]
    if not cascade.size:
        raise ValueError(f"before must lie after the first infection; got {before}")
    sizes = np.bincount(cascade, minlength=cascades.n_cascades)
    kept = np.flatnonzero(sizes)
    cut = Cascades.from_arrays(
        cascades.nodes,
        np.concatenate([[0], np.cumsum(sizes[kept])]),
        cascades.node[past],
        cascades.time[past],
        np.minimum(cascades.horizon[kept], before),
        labels=[cascades.labels[c] for c in kept],
    )
    return cut, float(1.0 - past.mean())


def separate_ties(
    frame: pd.DataFrame, cascade: str = "cascade", time: str = "time"
) -> pd.DataFrame:
    """Infections at the same time pulled apart by next to nothing, in the order of the rows.

    `Cascades` orders what happened at the same time by node. Where the rows of a file have an order
    worth keeping, as the published splits for this task have, it is kept by passing them through
    this function first: a time that is not after the one before becomes the next number.

    Parameters
    ----------
    frame : DataFrame
        Times are numbers.
    cascade, time : str
        Names of the columns.

    Returns
    -------
    DataFrame
        Sorted by cascade (in order of appearance) and time; rows at the same time in their order.

    Raises
    ------
    ValueError
        A column is missing.
    """
    import pandas as pd

    for name in (cascade, time):
        if name not in frame.columns:
            raise ValueError(f"frame has no column {name!r}; it has {', '.join(frame.columns)}")
    code = pd.factorize(frame[cascade])[0]
    order = np.lexsort((frame[time].to_numpy(), code))
    code, times = code[order], frame[time].to_numpy(np.float64)[order].copy()
    for i in np.flatnonzero(code[1:] == code[:-1]) + 1:
        if times[i] <= times[i - 1]:
            times[i] = np.nextafter(times[i - 1], np.inf)
    return frame.iloc[order].assign(**{time: times})
