"""Time a round (choose 5 of K, learn from them) against mabwiser and contextualbandits.

``python benchmarks/bench_bandits.py [--check]`` prints medians on one core, measured alternately
in the same run; peers that are not installed are left out. ``--check`` exits with 1 when a round
misses its limit: 15 us for separate models at d = 10, K = 100; 100 us for shared parameters at
d = 10, K = 1000; 250 us for fixed items at d = 100, K = 1000.

The peers know separate models with a shared context only, and no examination: compare them with
that row. Shared parameters are another, smaller model, and are there for their limits.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from cascadenet.sparse.bandits import LinTSRanker, LinUCBRanker

SLOTS = 5
Q = 1.0 / np.arange(1.0, SLOTS + 1.0)
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
SHAPES = ((10, 100), (10, 1000), (100, 1000))
LIMITS_US = {
    ("separate LinUCB", 10, 100): 15.0,
    ("shared LinUCB", 10, 1000): 100.0,
    ("fixed LinUCB", 100, 1000): 250.0,
}
Play = Callable[[np.ndarray, np.ndarray], None]


def ours(d: int, n_items: int, items: np.ndarray) -> dict[str, Play]:
    """Rounds of this package's rankers: context (d,) and clicks (5,) to nothing."""
    plays: dict[str, Play] = {}

    def add(name: str, ranker: LinUCBRanker | LinTSRanker, mode: str) -> None:
        def play(context: np.ndarray, clicks: np.ndarray) -> None:
            if mode == "separate":
                ranker.update(context, clicks, items=ranker.rank(context))
            elif mode == "shared":
                shown = ranker.rank(items)
                ranker.update(items[shown], clicks)
            else:
                ranker.update(None, clicks, items=ranker.rank())

        plays[f"{mode} {name}"] = play

    for mode in ("separate", "shared", "fixed"):
        extra: dict[str, object] = {}
        if mode == "separate":
            extra["n_items"] = n_items
        if mode == "fixed":
            extra["items"] = items
        add("LinUCB", LinUCBRanker(d, SLOTS, Q, **extra), mode)
        add("LinTS", LinTSRanker(d, SLOTS, Q, seed=1, **extra), mode)
    return plays


def mabwiser_rounds(d: int, n_items: int) -> dict[str, Play]:
    """Rounds of mabwiser's rankers, or nothing where it is not installed."""
    try:
        from mabwiser.mab import MAB, LearningPolicy
    except ImportError:
        return {}
    plays: dict[str, Play] = {}
    rng = np.random.default_rng(0)
    for name, policy in (
        ("LinUCB", LearningPolicy.LinUCB(1.0)),
        ("LinTS", LearningPolicy.LinTS(1.0)),
    ):
        mab = MAB(list(range(n_items)), policy, seed=1)
        mab.fit(list(range(n_items)), [0] * n_items, rng.standard_normal((n_items, d)))

        def play(context: np.ndarray, clicks: np.ndarray, mab: MAB = mab) -> None:
            scores = mab.predict_expectations(context[None])
            shown = sorted(scores, key=scores.get, reverse=True)[:SLOTS]
            mab.partial_fit(shown, clicks, np.repeat(context[None], SLOTS, axis=0))

        plays[f"mabwiser {name}"] = play
    return plays


def contextualbandits_rounds(d: int, n_items: int) -> dict[str, Play]:
    """Rounds of contextualbandits' rankers, or nothing where it is not installed."""
    try:
        from contextualbandits.online import LinTS, LinUCB
    except ImportError:
        return {}
    plays: dict[str, Play] = {}
    rng = np.random.default_rng(0)
    for name, kind in (("LinUCB", LinUCB), ("LinTS", LinTS)):
        model = kind(n_items, random_state=1, njobs=1)
        arms = np.arange(n_items).repeat(2)
        start = rng.standard_normal((arms.size, d))
        model.fit(start, arms, np.tile([0.0, 1.0], n_items))

        def play(context: np.ndarray, clicks: np.ndarray, model: object = model) -> None:
            shown = model.topN(context[None], SLOTS)[0]
            model.partial_fit(np.repeat(context[None], SLOTS, axis=0), shown, clicks)

        plays[f"contextualbandits {name}"] = play
    return plays


def measure(d: int, n_items: int, rounds: int, peer_rounds: int) -> dict[str, float]:
    """Median microseconds of a round of everything."""
    rng = np.random.default_rng(d + n_items)
    items = rng.standard_normal((n_items, d))
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    plays = ours(d, n_items, items)
    mine = set(plays)
    plays |= mabwiser_rounds(d, n_items) | contextualbandits_rounds(d, n_items)
    times: dict[str, list[float]] = {name: [] for name in plays}
    for _ in range(peer_rounds):
        for name, play in plays.items():
            repeats = rounds // peer_rounds if name in mine else 1
            for _ in range(repeats):
                context = items[int(rng.random() * n_items)]
                clicks = (rng.random(SLOTS) < 0.3 * Q).astype(np.float64)
                began = time.perf_counter()
                play(context, clicks)
                times[name].append(1e6 * (time.perf_counter() - began))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 when ``--check`` is given and a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when a limit is missed")
    parser.add_argument("--rounds", type=int, default=400, help="of this package (400)")
    parser.add_argument("--peer-rounds", type=int, default=8, help="of the others (8)")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    missed = []
    for d, n_items in SHAPES:
        found = measure(d, n_items, options.rounds, options.peer_rounds)
        print(f"d = {d}, K = {n_items}, {SLOTS} slots; median microseconds a round")
        for name, value in found.items():
            limit = LIMITS_US.get((name, d, n_items))
            note = "" if limit is None else f"  limit {limit:g}"
            if " " in name and name.split()[0] in ("mabwiser", "contextualbandits"):
                note = (
                    f"  {value / found['separate ' + name.split()[1]]:.0f} x separate models here"
                )
            print(f"  {name:28} {value:11.1f}{note}")
            if limit is not None and value > limit:
                missed.append(f"{name} at d = {d}, K = {n_items}")
    if missed:
        print("over the limit: " + ", ".join(missed))
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    if not ONE_CORE.items() <= os.environ.items():
        # thread counts are read when the libraries load, so start over with them set
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_CORE)
    sys.exit(main())
