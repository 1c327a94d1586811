"""Who comes next, by the protocol of published splits; prints the tables of docs/benchmarks.md.

    python benchmarks/next_infection.py                    both sets
    python benchmarks/next_infection.py christianity       one of them

Run from a checkout with the data in ../shared/data or in $CASCADENET_DATA, with
OPENBLAS_NUM_THREADS=1. Models are fitted to the training cascades, settings are chosen on the
validation cascades, and the table is of the test cascades: every infection but the first is a
target among all nodes of the three files that are not infected yet, ties share their middle place,
and the end of a cascade is no target unless it says so. Rows of a file at the same time keep their
order. The last table of a set has the posteriors of CoupledHDP and DynamicCoupledHDP, which see
clock time, beside all others on the same cascades: all of christianity, a sample of memetracker.
Times are CPU seconds with warm kernels, and in units of a fixed NumPy job timed in the same run.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import cascadenet as cn
from cascadenet.inference.next_baselines import (
    CoOccurrenceNext,
    MarkovNext,
    PopularityNext,
    PosteriorNext,
)
from cascadenet.inference.next_infection import NextInfection
from cascadenet.inference.nexts.tuning import ENOUGH
from cascadenet.next_scores import NextScore, score_next, separate_ties, strictly_past

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("CASCADENET_DATA", ROOT.parent / "shared" / "data")) / "prediction"
PARTS = ("train", "valid", "test")
SPEC = {  # the untuned settings of the method's first description
    "train_kernel": "exponential",
    "train_decay": 7.0,
    "score_decay": 7.0,
    "crowding": 0.5,
    "target_power": 0.0,
    "popularity": 0.05,
    "community_weight": 0.1,
    "sharpness": 1.4,
}
SPEC_GRID = {  # what was tried there
    "train_decay": [2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 25.0],
    "score_decay": [4.0, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0],
    "flat": [0.0, 0.01, 0.03, 0.1],
    "crowding": [0.0, 0.5],
    "sender_power": [0.75, 0.8, 0.9, 1.0],
    "target_power": [0.0, 0.1, 0.2, 0.3, 0.45],
    "reverse": [0.0, 0.1, 0.2, 0.3],
    "popularity": [0.02, 0.05, 0.1],
}
POSTERIOR_TARGETS = 4000  # posteriors take 10 ms a target on memetracker: a sample of cascades
ACTING = 20  # latest infections that act in the posteriors, in the fit and in the scores
METRICS = tuple(f"{name}@{k}" for name in ("hits", "map") for k in (10, 50, 100))


def read(name: str, ties: bool = True) -> dict[str, cn.Cascades]:
    """Cascades of the three files over their common nodes; simultaneous rows in file order."""
    frames = {part: pd.read_csv(DATA / name / f"{part}.csv.gz") for part in PARTS}
    nodes = sorted(set(pd.concat(frames.values())["node"]))
    if ties:
        frames = {part: separate_ties(frame) for part, frame in frames.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the files state no horizon
        return {part: cn.Cascades.from_frame(f, nodes=nodes) for part, f in frames.items()}


def joined(first: cn.Cascades, second: cn.Cascades) -> cn.Cascades:
    """Cascades of both, in this order."""
    return cn.Cascades.from_arrays(
        first.nodes,
        np.concatenate([first.offset, first.offset[-1] + second.offset[1:]]),
        np.concatenate([first.node, second.node]),
        np.concatenate([first.time, second.time]),
        np.concatenate([first.horizon, second.horizon]),
    )


def yardstick() -> float:
    """CPU seconds of a fixed single-threaded NumPy job, median of five."""
    values = np.random.default_rng(0).random(4_000_000)
    times = []
    for _ in range(5):
        start = time.process_time()
        np.sort(values)
        times.append(time.process_time() - start)
    return float(np.median(times))


YARDSTICK = yardstick()


def row(name: str, score: NextScore, seconds: float | None = None) -> dict[str, object]:
    """One line of the table, in percent; errors in brackets."""

    def cell(metric: str) -> str:
        return f"{100 * score[metric]:.1f} ({100 * score.errors[metric]:.1f})"

    line = {"model": name}
    line |= {metric: cell(metric) for metric in ("hits@10", "hits@50", "hits@100")}
    line |= {f"map@{k}": f"{100 * score[f'map@{k}']:.1f}" for k in (10, 50)}
    line |= {"map@100": cell("map@100"), "nll": f"{score['nll']:.2f}"}
    line |= {"top1": f"{100 * score['top1_accuracy']:.1f}"}
    line |= {"sure": f"{100 * score['top1_confidence']:.1f}"}
    if seconds is None:
        return line | {"fit s": "", "x sort": ""}
    return line | {"fit s": f"{seconds:.2f}", "x sort": f"{seconds / YARDSTICK:.0f}"}


def fitted(model: NextInfection, cascades: cn.Cascades) -> tuple[NextInfection, float]:
    """The model, fitted, and its CPU seconds."""
    start = time.process_time()
    model.fit(cascades)
    return model, time.process_time() - start


def show(title: str, rows: list[dict[str, object]]) -> None:
    """Print a table."""
    print(f"\n{title}")
    print(pd.DataFrame(rows).fillna("").to_string(index=False), flush=True)


def tables(name: str) -> None:
    """All tables of one set."""
    data = read(name)
    train, valid, test = (data[part] for part in PARTS)
    NextInfection(communities=2).fit(valid)  # compile
    print(f"\n{name}: {len(train.nodes)} nodes; {train!r}\n  test {test!r}")
    models: dict[str, NextInfection] = {
        "popularity": PopularityNext(),
        "Markov": MarkovNext(),
        "co-occurrence": CoOccurrenceNext(),
        "untuned, first description": NextInfection(**SPEC),
        "empirical Bayes, untuned": NextInfection(empirical_bayes=True),
        "NextInfection, untuned": NextInfection(),
    }
    start = time.process_time()
    tuned = NextInfection().fit(train).tune(valid)
    tuning = time.process_time() - start
    settings = tuned.settings()
    models["NextInfection, tuned"] = tuned
    scores, rows = {}, []
    for title, model in models.items():
        _, seconds = fitted(model, train)
        scores[title] = score_next(model, test)
        rows.append(row(title, scores[title], seconds))
    both, seconds = fitted(NextInfection(**settings), joined(train, valid))
    rows.append(row("tuned, train + valid", score_next(both, test), seconds))
    rows.append(row("tuned, online", score_next(tuned, test, online=True)))
    rows.append(row("tuned, train + valid, online", score_next(both, test, online=True)))
    show(f"{name}, test; percent (standard error), nats", rows)
    steps = tuned.tuning_[tuned.tuning_["chosen"]][["setting", "value", "mean", "nll"]]
    print(f"\nchosen on the validation set in {tuning:.0f} CPU s ({len(tuned.tuning_)} trials):")
    print(steps.round(4).to_string(index=False), flush=True)
    against_untuned = difference(scores["NextInfection, tuned"], scores["NextInfection, untuned"])
    print(f"\ntuned less untuned, percent (standard error): {against_untuned}", flush=True)
    if valid.n_infections - valid.n_cascades < ENOUGH:
        by_valid_alone(data, scores["NextInfection, tuned"])
    variants(name, data, settings, tuned)
    beside(name, train, test, models)


def difference(first: NextScore, second: NextScore) -> str:
    """Scores of the first less those of the second, with errors by resampling cascades."""
    _, group = np.unique(first.positions.cascade, return_inverse=True)
    n_groups = int(group.max()) + 1
    chance = np.full(n_groups, 1.0 / n_groups)
    times = np.random.default_rng(0).multinomial(n_groups, chance, size=2000)
    times = np.vstack([np.ones(n_groups, int), times])
    targets = times @ np.bincount(group)
    sums = {}
    for metric in METRICS:
        name, k = metric.split("@")
        each = []
        for score in (first, second):
            rank = score.positions.rank
            worth = np.ones(rank.size) if name == "hits" else 1.0 / rank
            each.append(np.where(rank <= int(k), worth, 0.0))
        sums[metric] = 100 * (times @ np.bincount(group, each[0] - each[1])) / targets
    sums["mean of six"] = np.mean(list(sums.values()), axis=0)
    return ", ".join(f"{name} {x[0]:+.1f} ({x[1:].std():.1f})" for name, x in sums.items())


def by_valid_alone(data: dict[str, cn.Cascades], tuned: NextScore) -> None:
    """What the search finds where training cascades do not help to judge."""
    train, valid, test = (data[part] for part in PARTS)
    rows, lines = [], []
    for title, start, grid in (
        ("defaults", {}, None),
        ("first description", SPEC, SPEC_GRID),
    ):
        model = NextInfection(**start).fit(train).tune(valid, grid, folds=0)
        score = score_next(model, test)
        best = model.tuning_.loc[model.tuning_["chosen"], "mean"].iloc[-1]
        rows.append(row(f"tuned on valid alone, from {title}", score))
        lines.append(f"  {title} (valid {100 * best:.2f}): {difference(tuned, score)}")
    show("valid alone, test; percent (standard error), nats", rows)
    print("\ntuned less tuned on valid alone, percent (standard error), from", *lines, sep="\n")


def variants(name: str, data: dict[str, cn.Cascades], settings: dict, tuned: NextInfection) -> None:
    """The end as a target, ties by node, and nothing but the past."""
    train, test = data["train"], data["test"]
    rows = [row("tuned, end of cascade a target", score_next(tuned, test, end=True))]
    popular = PopularityNext().fit(train)
    rows.append(row("popularity, end of cascade a target", score_next(popular, test, end=True)))
    other = read(name, ties=False)
    model = NextInfection(**settings).fit(other["train"])
    rows.append(row("tuned, ties in the order of nodes", score_next(model, other["test"])))
    past, share = strictly_past(train, float(test.start.min()))
    model = NextInfection(**settings).fit(past)
    rows.append(row("tuned, strictly past", score_next(model, test)))
    rows.append(row("strictly past, online", score_next(model, test, online=True)))
    show(f"{name}: {share:.0%} of the training infections lie after the first test start", rows)


def beside(
    name: str, train: cn.Cascades, test: cn.Cascades, models: dict[str, NextInfection]
) -> None:
    """Posterior rates in clock time, from short chains, beside the others on the same cascades."""
    size = np.diff(test.offset) - 1
    order = np.random.default_rng(0).permutation(test.n_cascades)
    few = test.subset(np.sort(order[: np.searchsorted(size[order].cumsum(), POSTERIOR_TARGETS)]))
    rows = [row(title, score_next(model, few)) for title, model in models.items()]
    given = {"delay": "decay", "background": True, "max_candidates": ACTING, "network_draws": 10}
    static = cn.CoupledHDP(**given)
    # "auto" memories take several times as long as the fit
    dynamic = cn.DynamicCoupledHDP(
        n_intervals=4, equal="cascades", forgetting=0.9, support=0.1, **given
    )
    for title, model, draws, tune in (
        ("CoupledHDP, one chain of 100 + 100 sweeps", static, 100, 100),
        ("DynamicCoupledHDP, 4 intervals, 50 + 50 sweeps", dynamic, 50, 50),
    ):
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            posterior = model.fit(train, draws=draws, tune=tune, chains=1, seed=0).posterior_
        seconds = time.process_time() - start
        ahead = getattr(posterior, "forecast", posterior)
        start = time.process_time()
        score = score_next(PosteriorNext(ahead, ACTING), few)
        each = (time.process_time() - start) / score.positions.rank.size
        rows.append(row(f"{title} ({1000 * each:.1f} ms a target)", score, seconds))
    settings = models["NextInfection, tuned"].settings()
    own = NextInfection(**settings | {"communities": static}).fit(train)
    rows.append(row("tuned, memberships of CoupledHDP", score_next(own, few)))
    show(f"{name}: {few.n_cascades} of the {test.n_cascades} test cascades", rows)


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["christianity", "memetracker"]
    if set(chosen) - {"christianity", "memetracker"}:
        sys.exit(__doc__)
    for one in chosen:
        tables(one)
    print(f"\nyardstick: sorting 4 million doubles takes {YARDSTICK:.3f} CPU s")
