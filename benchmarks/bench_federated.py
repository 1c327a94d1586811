"""Simulated time that fitted sub-models save, against averaging of full models, on real training.

``python benchmarks/bench_federated.py -o runs.jsonl [--check]`` trains ten workers on 6000 images
of Fashion-MNIST (``images/fashion_mnist.npz`` below $CASCADENET_DATA, or ``../shared/data``) dealt
out at random, and prints for each heterogeneity what must hold and what was found. A finished run
is a line of the file; runs that are there are not made again. ``--check`` exits with 1 when a limit
is missed. ``--baselines`` adds asynchronous averaging, and parts of the size that the true times
ask for, which only a simulation knows beforehand. Nothing but the clock is simulated.

The same accuracy is that of federated averaging at its end, less half a point; it is reached in the
first round after which the mean over five rounds is not below it. All strategies have the settings
with which federated averaging was best on other images of the training set, and those of AdaptCL
were chosen there too, by other seeds: ``--validate`` scores on these images.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from cascadenet.sparse.federated import (
    AdaptCL,
    Fault,
    FedAsync,
    FedAvg,
    Heterogeneity,
    LocalTraining,
    RateRule,
    Simulation,
    StaticWidth,
    simulate,
)
from cascadenet.sparse.federated.ranking import flops
from cascadenet.sparse.pruning import Network

ROOT = Path(__file__).resolve().parent.parent
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
WORKERS, HIDDEN, ROWS = 10, (300, 100), 6000
VALIDATION = slice(20_000, 25_000)  # of the training set, beyond the rows that are trained on
TRAINING = LocalTraining(learning_rate=0.3, weight_decay=5e-3)
TOLERANCE = 0.06  # dead-band: twice the noise of the clock
POINTS, SAVED = 0.005, 0.41  # of accuracy; of the time to it
SPREAD = 0.15  # of the update times at the end, where the floor does not bind
OVERHEAD = 0.01  # of a round
WINDOW = 5  # rounds in a mean accuracy


@dataclass(frozen=True)
class Setting:
    """A world, the floor, and the speed-up of the whole run that must be reached."""

    sigma: float
    fixed: float
    gamma_min: float
    speedup: float

    @property
    def clock(self) -> Heterogeneity:
        """The world without its seed."""
        return Heterogeneity(self.sigma, fixed=self.fixed)

    def strategy(self, name: str, interval: int) -> FedAvg:
        """What is run under this name."""
        if name == "AdaptCL":
            return AdaptCL(
                interval=interval,
                rate=RateRule(gamma_min=self.gamma_min, tolerance=TOLERANCE),
                min_units=min(0.05, self.gamma_min / 2),
                aggregation="worker",
            )
        widths = np.clip(1 / np.linspace(1, self.sigma, WORKERS), self.gamma_min, 1.0)
        return {"FedAvg": FedAvg(), "StaticWidth": StaticWidth(widths), "FedAsync": FedAsync()}[
            name
        ]

    def __str__(self) -> str:
        return f"sigma {self.sigma:g}, fixed {self.fixed:.0%}, gamma_min {self.gamma_min:g}"


SETTINGS = (
    Setting(2, 0.05, 0.1, speedup=1 / (1 - SAVED)),
    Setting(5, 0.05, 0.1, speedup=3.4),
    Setting(20, 0.05, 0.1, speedup=4.5),
    Setting(20, 0.02, 0.03, speedup=6.0),
)


def load(validate: bool) -> tuple[np.ndarray, ...]:
    """x, y and what is scored; standardised by the mean and deviation of all training pixels."""
    folder = Path(os.environ.get("CASCADENET_DATA") or ROOT.parent / "shared" / "data")
    path = folder / "images" / "fashion_mnist.npz"
    if not path.is_file():
        sys.exit(f"{path} not found; CASCADENET_DATA must name the folder that holds images/")
    with np.load(path, allow_pickle=False) as file:
        x, y, x_test, y_test = (file[k] for k in ("x_train", "y_train", "x_test", "y_test"))
    if validate:
        x_test, y_test = x[VALIDATION], y[VALIDATION]
    x, x_test = (
        ((part.reshape(len(part), -1) / 255 - 0.286) / 0.353).astype(np.float32)
        for part in (x[:ROWS], x_test)
    )
    return x, y[:ROWS].astype(np.int64), x_test, y_test.astype(np.int64)


# -- runs


def wanted(options: argparse.Namespace) -> list[tuple[str, Setting, int]]:
    """All runs; averaging of full models is the same training whatever the clock."""
    names = ["AdaptCL", *(["StaticWidth", "FedAsync"] if options.baselines else [])]
    return [
        (name, setting, seed)
        for seed in range(options.first_seed, options.first_seed + options.seeds)
        for name, setting in [("FedAvg", SETTINGS[0])] + [(n, s) for s in SETTINGS for n in names]
    ]


def key(name: str, setting: Setting, seed: int, options: argparse.Namespace) -> list:
    """What tells a run from others."""
    interval = options.interval if name == "AdaptCL" else 0
    return [name, str(setting), seed, options.rounds, interval, bool(options.validate)]


def finished(path: Path | None) -> dict[str, dict]:
    """Runs in a file, by their key as JSON."""
    if path is None or not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {json.dumps(row["key"]): row for row in rows}


def run(
    name: str,
    setting: Setting,
    seed: int,
    data: tuple[np.ndarray, ...],
    n_rounds: int,
    interval: int,
) -> dict:
    """Train once; what the tables need of it."""
    began = time.process_time()
    result = simulate(
        setting.strategy(name, interval), data, n_rounds=n_rounds, n_workers=WORKERS,
        network=HIDDEN, batch_norm=True, clock=setting.clock, training=TRAINING, seed=seed,
    )  # fmt: skip
    return {
        "accuracy": result.rounds["accuracy"].tolist(),
        "end": result.rounds["end"].tolist(),
        "retention": float(result.workers["retention"].mean()),
        "spread": result.spread(1.15 * setting.gamma_min),
        "server": float(np.mean(result.server_seconds)),
        "overhead": overhead(result),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def overhead(result: Simulation) -> float:
    """The server's processor time over the fastest worker's mean simulated update time."""
    fastest = result.workers.groupby("round")["seconds"].min().mean()
    return float(np.mean(result.server_seconds) / fastest)


def make(options: argparse.Namespace) -> dict[str, dict]:
    """All runs wanted; those that are missing are made and appended to the file."""
    done, data = finished(options.output), None
    for name, setting, seed in wanted(options):
        identity = key(name, setting, seed, options)
        if json.dumps(identity) in done:
            continue
        data = data or load(options.validate)
        row = {"key": identity} | run(name, setting, seed, data, options.rounds, options.interval)
        done[json.dumps(identity)] = row
        print(f"{name}, {setting}, seed {seed}: {row['cpu_seconds']} CPU s", flush=True)
        if options.output is not None:
            with options.output.open("a") as file:
                file.write(json.dumps(row) + "\n")
    return done


# -- comparison


def full_times(setting: Setting, seed: int, n_rounds: int) -> np.ndarray:
    """End of every round when all workers train the full model, in this world."""
    network = Network((784,), HIDDEN, 10, batch_norm=True)
    size = network.parameters.nbytes + network.statistics.nbytes
    work = [TRAINING.epochs * ROWS / WORKERS * flops(network)] * WORKERS
    clock = setting.clock.clock(size, work, seed)
    longest = [
        max(clock.time(w, r, size, size, work[w]).total for w in range(WORKERS))
        for r in range(n_rounds)
    ]
    return np.cumsum(longest)


def ceiling(setting: Setting, seeds: range, n_rounds: int) -> float:
    """Share of the time saved if from the start all were as fast as the fastest, or at the floor.

    What is left is the noise: a round is as long as the unluckiest of its workers.
    """
    least = setting.fixed + (1 - setting.fixed) * setting.gamma_min
    expected = np.maximum(setting.clock.times(WORKERS) * least, setting.clock.fastest)
    saved = []
    for seed in seeds:
        clock = setting.clock.clock(1.0, np.ones(WORKERS), seed)  # for its noise
        noise = [[clock.factor(w, r) for w in range(WORKERS)] for r in range(n_rounds)]
        best = (expected * np.array(noise)).max(axis=1).sum()
        saved.append(1 - best / full_times(setting, seed, n_rounds)[-1])
    return float(np.mean(saved))


def first_round(accuracy: list[float], goal: float) -> int | None:
    """Index of the first round after which the mean accuracy is not below the goal."""
    mean = np.convolve(accuracy, np.full(WINDOW, 1 / WINDOW), "valid")
    reached = np.flatnonzero(mean >= goal)
    return int(reached[0]) + WINDOW - 1 if reached.size else None


def against(base: dict, base_end: np.ndarray, row: dict) -> dict[str, float]:
    """A run against averaging of full models from the same seed."""
    last, mine = (float(np.mean(one["accuracy"][-WINDOW:])) for one in (base, row))
    there, here = (first_round(one["accuracy"], last - POINTS) for one in (base, row))
    end = base_end if row is base else np.array(row["end"])
    return {
        "accuracy": mine,
        "behind": last - mine,
        "speedup": float(base_end[-1] / end[-1]),
        "saved": -np.inf if here is None else float(1 - end[here] / base_end[there]),
        "rounds": np.nan if here is None else here + 1,
        "retention": row["retention"],
        "spread": row["spread"],
        "overhead": row["overhead"],
        "server": row["server"],
    }


def compared(
    name: str, setting: Setting, rows: dict[str, dict], options: argparse.Namespace
) -> dict[str, np.ndarray]:
    """The measures of `against`, a seed each."""
    found = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        base = rows[json.dumps(key("FedAvg", SETTINGS[0], seed, options))]
        end = full_times(setting, seed, options.rounds)
        if setting == SETTINGS[0] and not np.allclose(end, base["end"], rtol=1e-9):
            raise RuntimeError("the clock of the comparison is not that of the runs")
        row = base
        if name != "FedAvg":
            row = rows[json.dumps(key(name, setting, seed, options))]
        found.append(against(base, end, row))
    return {measure: np.array([one[measure] for one in found]) for measure in found[0]}


def share(saved: float) -> str:
    """A saving in text."""
    return f"{saved:.1%}" if np.isfinite(saved) else "not reached"


def line(name: str, found: dict[str, np.ndarray]) -> str:
    """One line of the table."""
    accuracy = 100 * found["accuracy"]
    error = accuracy.std(ddof=1) / accuracy.size**0.5 if accuracy.size > 1 else np.nan
    each = ", ".join(map(share, found["saved"]))
    speedup = found["speedup"].mean()
    return (
        f"  {name:12} accuracy {accuracy.mean():.2f} ± {error:.2f}  speed-up {speedup:5.2f}, saved "
        f"{1 - 1 / speedup:5.1%}  to the same accuracy {share(found['saved'].mean())} ({each}; "
        f"round {found['rounds'].mean():.0f})  retention {found['retention'].mean():.2f}"
    )


# -- what must hold


def limits(setting: Setting, found: dict[str, np.ndarray]) -> list[tuple[str, bool]]:
    """Each with its figure, and whether it holds."""
    speedup, spread = found["speedup"].mean(), found["spread"].max()
    behind, saved = found["behind"].mean(), found["saved"].mean()
    rows = [
        (f"speed-up of the run {speedup:.2f} >= {setting.speedup:.2f}", speedup >= setting.speedup),
        (f"update times spread by {spread:.1%} <= {SPREAD:.0%}", spread <= SPREAD),
        (
            f"server {1000 * found['server'].mean():.1f} ms a round, {found['overhead'].max():.2%} "
            f"of the fastest's <= {OVERHEAD:.0%}",
            found["overhead"].max() <= OVERHEAD,
        ),
    ]
    if setting == SETTINGS[0]:
        rows += [
            (f"time saved to the same accuracy {share(saved)} >= {SAVED:.0%}", saved >= SAVED),
            (f"{100 * behind:.2f} points behind <= {100 * POINTS:.2f}", behind <= POINTS),
        ]
    return rows


def small_checks(data: tuple[np.ndarray, ...]) -> list[tuple[str, bool]]:
    """Equal workers, and every fault at once; few rounds."""
    few = (data[0][:1000], data[1][:1000], data[2][:500], data[3][:500])
    options = {"n_rounds": 8, "network": (32, 16), "batch_norm": True, "training": TRAINING}
    rate = RateRule(tolerance=TOLERANCE)
    one, other = (
        simulate(strategy, few, clock=Heterogeneity(1.0, noise=0.0), **options)
        for strategy in (AdaptCL(interval=1, rate=rate, aggregation="worker"), FedAvg())
    )
    same = one.rounds.equals(other.rounds) and (
        one.network.parameters.tobytes() == other.network.parameters.tobytes()
    )
    kinds = ("late", "lost", "nan", "shape", "duplicate")
    faults = [Fault(kind, 1 + i, first=2, rounds=4) for i, kind in enumerate(kinds)]
    hard = simulate(
        AdaptCL(interval=1, rate=rate, aggregation="worker", timeout=3.0), few,
        clock=Heterogeneity(2.0), faults=faults, **options,
    )  # fmt: skip
    states = set(hard.workers["status"])
    finite = bool(np.isfinite(hard.network.parameters).all())
    return [
        ("equal capabilities: federated averaging, to the last byte", same),
        (
            f"faults ({', '.join(kinds)}): {len(hard.rounds)} of 8 rounds end, the model is finite",
            finite and len(hard.rounds) == 8 and {"late", "lost", "not finite", "shape"} <= states,
        ),
    ]


def report(rows: dict[str, dict], options: argparse.Namespace) -> bool:
    """Print the tables; whether everything holds."""
    holds = []

    def state(checks: list[tuple[str, bool]]) -> None:
        for text, good in checks:
            print(f"  {'holds ' if good else 'MISSED'} {text}")
            holds.append(good)

    names = ["FedAvg", "AdaptCL", *(["StaticWidth", "FedAsync"] if options.baselines else [])]
    for setting in SETTINGS:
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        print(
            f"\n{setting}, interval {options.interval}, {options.rounds} rounds; a run can save "
            f"{ceiling(setting, seeds, options.rounds):.1%} at most"
        )
        tables = {name: compared(name, setting, rows, options) for name in names}
        for name, found in tables.items():
            print(line(name, found))
        state(limits(setting, tables["AdaptCL"]))
    print("\nand")
    state(small_checks(load(validate=True)))
    return all(holds)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; 1 when ``--check`` is given and a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("-o", "--output", type=Path, metavar="JSONL", help="where runs are kept")
    add("--check", action="store_true", help="fail when a limit is missed")
    add("--baselines", action="store_true", help="StaticWidth and FedAsync too")
    add("--validate", action="store_true", help="score on held-out training images")
    add("--seeds", type=int, default=4, help="runs of each (4)")
    add("--first-seed", type=int, default=20, help="of them (20)")
    add("--rounds", type=int, default=60, help="of each run (60)")
    add("--interval", type=int, default=1, help="between pruning events (1)")
    options = parser.parse_args(arguments)
    print(
        f"Fashion-MNIST, {ROWS} training rows, {WORKERS} workers, hidden layers {HIDDEN}, seeds "
        f"{options.first_seed} to {options.first_seed + options.seeds - 1}, scored on "
        f"{'held-out training' if options.validate else 'test'} images"
    )
    good = report(make(options), options)
    return 1 if options.check and not good else 0


if __name__ == "__main__":
    if not ONE_CORE.items() <= os.environ.items():
        # thread counts are read when the libraries load, so start over with them set
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_CORE)
    sys.exit(main())
