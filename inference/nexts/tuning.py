"""Choice of the settings of `NextInfection` by coordinate search on validation cascades."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.next_scores import NextPositions, next_positions, rank_scores

if TYPE_CHECKING:
    import pandas as pd

    from cascadenet.cascades import Cascades
    from cascadenet.inference.next_infection import NextInfection

CUTS = (10, 50, 100)
LEAST_GAIN = {"mean": 5e-4, "nll": 1e-3}  # smaller gains are noise
# judged by nll: they hardly move a rank
SURENESS = (("popularity",), ("sharpness",), ("community_weight",))
# validation cascades with fewer targets leave settings to chance: training cascades help to judge
ENOUGH, FOLDS = 2000, 5
COUNTING = ("train_kernel", "train_decay", "window", "crowding", "half_life", "recent_half_life")

Grid = Mapping[str | tuple[str, ...], Sequence]


def default_grid(train: Cascades) -> dict[str | tuple[str, ...], list]:
    """What `NextInfection.tune` tries: settings that move together are named by a tuple.

    Parameters
    ----------
    train : Cascades
        Half-lives are shares of the time from its first cascade to its last.

    Returns
    -------
    dict
        Setting, or tuple of settings, to values, or tuples of values.
    """
    kernels = [("exponential", tau) for tau in (2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 25.0)]
    kernels += [("power", exponent) for exponent in (0.3, 0.45, 0.6, 0.8, 1.0, 1.3)]
    span = float(np.ptp(train.start))
    half_lives = [span * share for share in (1.0, 0.5, 0.25, 0.125)] if span > 0.0 else []
    return {
        ("train_kernel", "train_decay"): kernels,
        "score_decay": [2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0],
        "flat": [0.0, 0.01, 0.03, 0.1],
        "crowding": [0.0, 0.25, 0.5],
        "sender_power": [0.75, 0.8, 0.9, 1.0],
        "target_power": [0.0, 0.1, 0.2, 0.3, 0.45],
        "reverse": [0.0, 0.1, 0.2, 0.3, 0.5],
        "half_life": [math.inf, *half_lives],
        "sender_offset": [0.3, 1.0, 3.0, 10.0],
        "popularity": [0.02, 0.05, 0.1, 0.2],
        "sharpness": [1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5],
        "community_weight": [0.05, 0.1, 0.2, 0.4, 0.8, 1.6],
    }


def search(
    model: NextInfection,
    portions: list[Cascades],
    valid: Cascades,
    grid: Grid | None,
    rounds: int,
    folds: int | None,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Settings that rank best, and a table of all that were tried.

    Parameters
    ----------
    model : NextInfection
        Fitted; left as it is.
    portions : list of Cascades
        What it was fitted to, and what it learnt since.
    valid : Cascades
        To be ranked.
    grid : mapping or None
        As `default_grid` returns.
    rounds : int
        Times round all settings, at most.
    folds : int or None
        As for `NextInfection.tune`.

    Returns
    -------
    dict, DataFrame
        Settings to change. One row a trial: ``round``, ``setting``, ``value``, the six scores,
        their ``mean``, ``nll``, and ``chosen``: whether the search moved there.

    Raises
    ------
    ValueError
        Unknown settings or values out of range in ``grid``.
    """
    import pandas as pd

    lists = _as_tuples(default_grid(portions[0]) if grid is None else grid, model.settings())
    if folds is None:
        folds = FOLDS if int((np.diff(valid.offset) - 1).sum()) < ENOUGH else 0
    trial = _Trial(model, [(portions, valid), *_stretches(portions[0], folds)])
    now = {name: value for name, value in model.settings().items() if name != "communities"}
    best = trial(now)
    rows = [{"round": 0, "setting": "start", "value": "", **best, "chosen": True}]
    for turn in range(1, rounds + 1):
        moved = False
        for names, values in lists.items():
            judge = "nll" if names in SURENESS else "mean"
            sign = -1.0 if judge == "nll" else 1.0
            here = [
                (trial(now | (step := dict(zip(names, value, strict=True)))), step, value)
                for value in values
                if tuple(now[name] for name in names) != tuple(value)
            ]
            top = max((sign * scores[judge] for scores, _, _ in here), default=-math.inf)
            better = top >= sign * best[judge] + LEAST_GAIN[judge]
            taken = False
            for scores, step, value in here:
                chosen = better and not taken and sign * scores[judge] == top
                text = ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
                row = {"round": turn, "setting": ", ".join(names), "value": text}
                rows.append(row | scores | {"chosen": chosen})
                if chosen:
                    taken = moved = True
                    now, best = now | step, scores
        if not moved:
            break
    start = model.settings()
    return {k: v for k, v in now.items() if v != start[k]}, pd.DataFrame(rows)


def _stretches(train: Cascades, folds: int) -> Iterator[tuple[list[Cascades], Cascades]]:
    """The second half of the cascades by start, in stretches; what came before each, and it."""
    order = np.argsort(train.start, kind="stable")
    cuts = np.linspace(train.n_cascades / 2, train.n_cascades, folds + 1).astype(int)
    for low, high in itertools.pairwise(cuts):
        if not 0 < low < high:
            continue  # fewer cascades than stretches
        judged = train.subset(np.sort(order[low:high]))
        if judged.n_infections > judged.n_cascades:
            yield [train.subset(np.sort(order[:low]))], judged


def _six_and_nll(positions: Sequence[NextPositions]) -> dict[str, float]:
    """The scores of hits and MAP over all targets, their mean, and the negative log-likelihood."""
    names = ("cascade", "place", "rank", "prob", "top")
    pooled = (np.concatenate([getattr(part, name) for part in positions]) for name in names)
    scores = rank_scores(NextPositions(*pooled), CUTS)
    kept = {name: value for name, value in scores.items() if "@" in name or name == "nll"}
    six = [scores[f"{name}@{k}"] for name in ("hits", "map") for k in CUTS]
    return kept | {"mean": float(np.mean(six))}


class _Trial:
    """Scores of settings on cascades that were not fitted; counts are kept while they can be.

    A case is what to fit, in portions, and what to judge by.
    """

    def __init__(self, model: NextInfection, cases: list[tuple[list[Cascades], Cascades]]) -> None:
        self.model, self.cases = model, cases
        self.known: dict[tuple, dict[str, float]] = {}
        self.counted: tuple[tuple, list[NextInfection]] | None = None

    def __call__(self, settings: dict[str, Any]) -> dict[str, float]:
        key = tuple(settings.values())
        if key not in self.known:
            judged = (cascades for _, cascades in self.cases)
            models = self._fitted(settings)
            self.known[key] = _six_and_nll(
                [next_positions(*pair) for pair in zip(models, judged, strict=True)]
            )
        return self.known[key]

    def _fitted(self, settings: dict[str, Any]) -> list[NextInfection]:
        key = tuple(settings[name] for name in COUNTING)
        if self.counted is None or self.counted[0] != key or settings["empirical_bayes"]:
            models = [copy.copy(self.model) for _ in self.cases]
            for model, (portions, _) in zip(models, self.cases, strict=True):
                _set(model, settings)
                model._fit_all(portions)
            self.counted = (key, models)
            return models
        models = [copy.copy(model) for model in self.counted[1]]
        for model in models:
            _set(model, settings)
            model._check_settings()
            model._refresh()
        return models


def _set(model: NextInfection, settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        setattr(model, name, value)


def _as_tuples(grid: Grid, known: dict[str, Any]) -> dict[tuple[str, ...], list[tuple]]:
    """Grid with tuples throughout, checked for unknown names."""
    lists = {}
    for names, values in grid.items():
        single = isinstance(names, str)
        named = (names,) if single else tuple(names)
        for name in named:
            if name not in known or name in ("communities", "seed", "empirical_bayes"):
                raise ValueError(f"grid must name settings that can be tuned; got {name!r}")
        listed = [(value,) if single else tuple(value) for value in values]
        if any(len(value) != len(named) for value in listed):
            raise ValueError(f"grid must have {len(named)} values for {named}; got {values!r}")
        lists[named] = listed
    return lists
