"""Ready-made worlds and rankers: for the command line, the verification and the tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.bandits import _check
from cascadenet.sparse.bandits.baselines import (
    CascadeLinUCBRanker,
    GreedyRanker,
    RandomRanker,
    RankedBandits,
    TopRankRanker,
)
from cascadenet.sparse.bandits.contextfree import PBMPIERanker, PBMTSRanker, PBMUCBRanker
from cascadenet.sparse.bandits.environment import PBMEnvironment
from cascadenet.sparse.bandits.experiment import MakeRanker
from cascadenet.sparse.bandits.rankers import LinTSRanker, LinUCBRanker

LOWEST, HIGHEST = 0.02, 0.5  # attraction
STREAM = 7  # tells the ranker's random numbers from the world's


def harmonic(n_slots: int) -> np.ndarray:
    """Examination 1, 1/2, 1/3, ..., float64 (n_slots,)."""
    return 1.0 / np.arange(1.0, _check.whole("n_slots", n_slots, 1) + 1.0)


def _unit_features(rng: np.random.Generator, n_items: int, n_features: int) -> np.ndarray:
    """Unit vectors (K, d): a constant first entry, the rest in a random direction."""
    rest = rng.standard_normal((n_items, n_features - 1))
    rest /= np.sqrt((rest * rest).sum(axis=1, keepdims=True))
    return np.hstack([np.ones((n_items, 1)), rest]) * np.sqrt(0.5)


def linear_world(
    seed: int,
    *,
    n_items: int = 50,
    n_features: int = 10,
    examination: ArrayLike | None = None,
    fresh: bool = False,
) -> PBMEnvironment:
    """Attraction linear in unit feature vectors, from 0.02 to 0.5.

    Parameters
    ----------
    seed : int
    n_items, n_features : int
        At least as many items as slots, at least 2 features.
    examination : array-like of float (L,), optional
        1/l in 5 slots by default.
    fresh : bool
        Whether every round has new items. Attraction then stays within its range; that of fixed
        items fills it.
    """
    n_items = _check.whole("n_items", n_items, 2)
    n_features = _check.whole("n_features", n_features, 2)
    rng = np.random.default_rng(_check.whole("seed", seed, 0))
    direction = rng.standard_normal(n_features - 1)
    direction /= np.sqrt((direction * direction).sum())
    q = harmonic(5) if examination is None else examination
    low, high = -np.sqrt(0.5), np.sqrt(0.5)
    features = None
    if not fresh:
        features = _unit_features(rng, n_items, n_features)
        along = features[:, 1:] @ direction
        low, high = along.min(), along.max()
    slope = (HIGHEST - LOWEST) / (high - low)
    theta = np.concatenate([[np.sqrt(2.0) * (HIGHEST - slope * high)], slope * direction])
    if fresh:
        return PBMEnvironment(
            q, theta=theta, draw=lambda r: _unit_features(r, n_items, n_features), seed=rng
        )
    return PBMEnvironment(q, theta=theta, features=features, seed=rng)


def ready_rankers(
    names: tuple[str, ...] | None = None,
    *,
    alpha: float = 0.5,
    weighting: int = 0,
    fixed: bool = True,
) -> dict[str, MakeRanker]:
    """Makers of rankers for `run_experiment`.

    Parameters
    ----------
    names : tuple of str, optional
        Some of ``RANKERS``; all that suit the world by default.
    alpha : float
        Width of the bounds of LinUCB, and scale of LinTS.
    weighting : {0, 1, 2}
        Of the position-based linear rankers.
    fixed : bool
        Whether items keep their features; context-free rankers need that.
    """
    makers = _linear(alpha, weighting, fixed)
    if fixed:
        makers |= _free()
    if names is None:
        return makers
    unknown = [name for name in names if name not in makers]
    if unknown:
        raise ValueError(f"rankers must be some of {', '.join(makers)}; got {', '.join(unknown)}")
    return {name: makers[name] for name in names}


def _linear(alpha: float, weighting: int, fixed: bool) -> dict[str, MakeRanker]:
    def shape(e: PBMEnvironment) -> tuple[int, int]:
        return e.features.shape[1], e.n_slots

    def items(e: PBMEnvironment) -> np.ndarray | None:
        return e.features if fixed else None

    return {
        "linucb-pbm": lambda e, s: LinUCBRanker(
            *shape(e), e.examination, alpha=alpha, weighting=weighting, items=items(e)
        ),
        "lints-pbm": lambda e, s: LinTSRanker(
            *shape(e), e.examination, scale=alpha, weighting=weighting, items=items(e),
            seed=_stream(s),
        ),
        "linucb-naive": lambda e, s: LinUCBRanker(
            *shape(e), e.examination, alpha=alpha, weighting="naive", items=items(e)
        ),
        "lints-naive": lambda e, s: LinTSRanker(
            *shape(e), e.examination, scale=alpha, weighting="naive", items=items(e),
            seed=_stream(s),
        ),
        "greedy-pbm": lambda e, s: GreedyRanker(*shape(e), e.examination, items=items(e)),
        "cascade-linucb": lambda e, s: CascadeLinUCBRanker(
            *shape(e), alpha=alpha, items=items(e)
        ),
        "random": lambda e, s: RandomRanker(
            e.n_slots, e.n_items if fixed else None, seed=_stream(s)
        ),
    }  # fmt: skip


def _free() -> dict[str, MakeRanker]:
    return {
        "pbm-ucb": lambda e, s: PBMUCBRanker(e.n_items, e.n_slots, e.examination),
        "pbm-ts": lambda e, s: PBMTSRanker(e.n_items, e.n_slots, e.examination, seed=_stream(s)),
        "pbm-pie": lambda e, s: PBMPIERanker(e.n_items, e.n_slots, e.examination, seed=_stream(s)),
        "toprank": lambda e, s: TopRankRanker(
            e.n_items, e.n_slots, examination=e.examination, seed=_stream(s)
        ),
        "ranked-bandits": lambda e, s: RankedBandits(e.n_items, e.n_slots, seed=_stream(s)),
    }


def _stream(seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, STREAM])


RANKERS = tuple([*_linear(0.0, 0, True), *_free()])
