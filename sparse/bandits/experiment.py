"""Rankers against each other in simulated worlds, over seeds, as tidy tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from cascadenet.sparse.bandits import _check
from cascadenet.sparse.bandits.environment import PBMEnvironment, Ranker

if TYPE_CHECKING:
    import pandas as pd

MakeWorld = Callable[[int], PBMEnvironment]
MakeRanker = Callable[[PBMEnvironment, int], Ranker]
MEASURES = ("regret", "clicks", "ctr", "ndcg")


def run_experiment(
    rankers: Mapping[str, MakeRanker],
    world: MakeWorld,
    n_rounds: int,
    seeds: Iterable[int],
    *,
    points: int = 100,
    progress: bool = False,
) -> pd.DataFrame:
    """Let every ranker play the same worlds.

    Parameters
    ----------
    rankers : mapping of str to callable
        Makes a ranker from the world (its ``n_items``, ``examination``, ``features``) and a seed.
    world : callable
        Makes the `PBMEnvironment` of a seed.
    n_rounds : int
    seeds : iterable of int
    points : int
        Rounds to record, evenly spaced to the last.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    pandas.DataFrame
        Columns ranker, seed, round; regret: expected clicks lost so far; clicks so far; ctr:
        clicks per slot so far; ndcg: mean of expected over best possible clicks, which is DCG
        with examination as the discount and attraction as the gain.
    """
    import pandas as pd

    n_rounds = _check.whole("n_rounds", n_rounds, 1)
    points = min(_check.whole("points", points, 1), n_rounds)
    if not rankers:
        raise ValueError("rankers must not be empty")
    at = np.unique(np.linspace(n_rounds / points, n_rounds, points).round().astype(int))
    runs = [(name, int(seed)) for seed in seeds for name in rankers]
    if not runs:
        raise ValueError("seeds must not be empty")
    if progress:
        from tqdm import tqdm

        runs = tqdm(runs, desc="simulating", unit="run", leave=False)
    parts = []
    for name, seed in runs:
        environment = world(seed)
        ranker = rankers[name](environment, seed)
        value, best, clicks = play(ranker, environment, n_rounds)
        columns = _measures(value, best, clicks, at)
        parts.append(pd.DataFrame({"ranker": name, "seed": seed, "round": at} | columns))
    return pd.concat(parts, ignore_index=True)


def play(
    ranker: Ranker, environment: PBMEnvironment, n_rounds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Play rounds.

    Returns
    -------
    value, best : numpy.ndarray of float64 (n_rounds,)
        Expected clicks on the list shown and on the best one.
    clicks : numpy.ndarray of float64 (n_rounds, L)
    """
    q = environment.examination
    clicks = np.empty((n_rounds, environment.n_slots))
    attraction = np.empty_like(clicks)
    best = np.empty(n_rounds)
    fixed = getattr(ranker, "items", None) is not None
    for t in range(n_rounds):
        features = environment.observe()
        if fixed or features is None:
            ranking = ranker.rank()
            clicks[t] = environment.click(ranking)
            ranker.update(None, clicks[t], items=ranking)
        else:
            ranking = ranker.rank(features)
            clicks[t] = environment.click(ranking)
            ranker.update(features[ranking], clicks[t], items=ranking)
        attraction[t] = environment.attraction[ranking]
        best[t] = environment.optimal_value()
    return (attraction * q).sum(axis=1), best, clicks


def _measures(
    value: np.ndarray, best: np.ndarray, clicks: np.ndarray, at: np.ndarray
) -> dict[str, np.ndarray]:
    last = at - 1
    earned = np.cumsum(clicks.sum(axis=1))[last]
    ratio = np.divide(value, best, out=np.ones_like(value), where=best > 0)
    return {
        "regret": np.cumsum(best - value)[last],
        "clicks": earned,
        "ctr": earned / (at * clicks.shape[1]),
        "ndcg": np.cumsum(ratio)[last] / at,
    }


def summarise(table: pd.DataFrame, round: int | None = None) -> pd.DataFrame:
    """Means, standard errors and medians over seeds.

    Parameters
    ----------
    table : pandas.DataFrame
        From `run_experiment`.
    round : int, optional
        The last recorded one by default.

    Returns
    -------
    pandas.DataFrame
        Columns ranker, seeds, and for regret, clicks, ctr and ndcg the mean, its standard error
        ``..._se`` (nan for one seed) and the median ``..._median``; lowest mean regret first.
    """
    import pandas as pd

    chosen = table["round"].max() if round is None else round
    part = table[table["round"] == chosen]
    if part.empty:
        raise ValueError(f"round must be one that was recorded; got {round}")
    groups = part.groupby("ranker", sort=False)
    columns = {"seeds": groups.size()}
    for name in MEASURES:
        columns[name] = groups[name].mean()
        columns[f"{name}_se"] = groups[name].sem()
        columns[f"{name}_median"] = groups[name].median()
    return pd.DataFrame(columns).sort_values("regret", kind="stable").reset_index()
