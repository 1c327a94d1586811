"""Pruning methods on Fashion-MNIST with LeNet-300-100: accuracy, and speed of training.

``python benchmarks/bench_pruning.py -o runs.jsonl`` trains every method at every sparsity for
every seed, 15 epochs each, and prints test accuracies of the last epoch. A finished run is a line
of the file; runs that are there are not made again, so that the work can be split and resumed.
``--speed`` times training instead, beside PyTorch where it is installed. The data are
``images/fashion_mnist.npz`` below $CASCADENET_DATA, or ``--data``.

All methods see the same batches and learning rates (0.1 by a cosine to 0, Nesterov 0.9, weight
decay 5e-4) except where the name says otherwise; one-shot pruning is followed by 5 more epochs.
Settings of DPF and DPP were chosen on a tenth of the training set, never by test accuracy
(``--validate`` repeats that: it trains on the rest and scores the tenth).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from cascadenet.sparse.pruning import (
    SGD,
    DPFClassifier,
    DPPClassifier,
    MagnitudePruningClassifier,
    Network,
    SNIPClassifier,
    train,
)

ROOT = Path(__file__).resolve().parent.parent
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
RECIPE = {
    "hidden_layer_sizes": (300, 100), "learning_rate": 0.1, "weight_decay": 5e-4, "epochs": 15,
    "batch_size": 128, "standardise": "global",
}  # fmt: skip
TUNED = {"method": "one-shot", "finetune_epochs": 5, "finetune_learning_rate": 0.01}
PUBLISHED = {"feedback": 1.0, "learning_rate": 0.03, "ramp": 0.8}
METHODS = {
    "dense": lambda s: MagnitudePruningClassifier(**RECIPE, method="dense"),
    "dpf": lambda s: DPFClassifier(**RECIPE, sparsity=s, feedback=0.3, ramp=0.6),
    "dpf, full feedback": lambda s: DPFClassifier(**{**RECIPE, **PUBLISHED}, sparsity=s),
    "gradual": lambda s: MagnitudePruningClassifier(**RECIPE, sparsity=s, method="gradual"),
    "one-shot + tuning": lambda s: MagnitudePruningClassifier(**RECIPE, sparsity=s, **TUNED),
    "snip": lambda s: SNIPClassifier(**RECIPE, sparsity=s),
    "random": lambda s: MagnitudePruningClassifier(**RECIPE, sparsity=s, method="random"),
    "dpp": lambda s: DPPClassifier(**RECIPE, sparsity=s, logit_rate=3e-3),
}
SPARSITIES = (0.9, 0.95, 0.98)
ONLY = {"dense": (0.0,), "dpp": (0.95,), "random": (0.95,)}
VALIDATION = 6000  # a tenth of the training set


def load(path: str | None) -> tuple[np.ndarray, ...]:
    """Pixels in 0..1 as float32, and classes: of training and test."""
    folder = Path(os.environ.get("CASCADENET_DATA") or ROOT.parent / "shared" / "data")
    with np.load(path or folder / "images" / "fashion_mnist.npz", allow_pickle=False) as file:
        arrays = [file[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    for i in (0, 2):
        arrays[i] = arrays[i].reshape(len(arrays[i]), -1).astype(np.float32) / 255
    return tuple(arrays)


def held_out(data: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The training set without a tenth, and that tenth in place of the test set."""
    x, y = data[:2]
    order = np.random.default_rng(99).permutation(len(x))
    held, used = order[:VALIDATION], order[VALIDATION:]
    return x[used], y[used], x[held], y[held]


def wanted(seeds: int) -> list[tuple[str, float, int]]:
    """All runs: method, sparsity, seed."""
    return [
        (name, sparsity, seed)
        for seed in range(seeds)
        for name in METHODS
        for sparsity in ONLY.get(name, SPARSITIES)
    ]


def finished(path: Path) -> dict[tuple[str, float, int], dict]:
    """Runs in a file, by method, sparsity and seed."""
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {(row["method"], row["sparsity"], row["seed"]): row for row in rows}


def run(name: str, sparsity: float, seed: int, data: tuple[np.ndarray, ...]) -> dict:
    """Train once and score."""
    x, y, x_test, y_test = data
    began = time.process_time()
    model = METHODS[name](sparsity).set_params(random_state=seed).fit(x, y)
    seconds = time.process_time() - began
    return {
        "method": name,
        "sparsity": sparsity,
        "seed": seed,
        "accuracy": 100 * model.score(x_test, y_test),
        "nnz": model.nnz_,
        "layers": [layer.nnz for layer in model.layers_],
        "loss": float(model.loss_curve_[-1]),
        "cpu_seconds": round(seconds, 2),
    }


def table(rows: dict[tuple[str, float, int], dict]) -> str:
    """Mean accuracy and its standard error over seeds, a line per method and sparsity."""
    lines = [
        f"{'method':20} {'sparsity':>8} {'seeds':>5} {'accuracy':>15} {'weights':>8} {'CPU s':>6}"
    ]
    for name in METHODS:
        for sparsity in ONLY.get(name, SPARSITIES):
            some = [row for key, row in rows.items() if key[:2] == (name, sparsity)]
            if not some:
                continue
            values = [row["accuracy"] for row in some]
            error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else np.nan
            seconds = statistics.median(row["cpu_seconds"] for row in some)
            lines.append(
                f"{name:20} {sparsity:8.0%} {len(some):5} {statistics.mean(values):8.2f} ± "
                f"{error:4.2f} {some[0]['nnz']:8} {seconds:6.1f}"
            )
    return "\n".join(lines)


# -- speed


def speed(data: tuple[np.ndarray, ...], rounds: int) -> str:
    """Samples per CPU second of one epoch, median of alternating rounds; one thread."""
    x = (data[0] - np.float32(0.286)) / np.float32(0.353)
    y = data[1].astype(np.int64)
    calls = {"numpy": lambda: _epoch(x, y), "torch": _torch_epoch(x, y)}
    times: dict[str, list[float]] = {name: [] for name, call in calls.items() if call}
    for _ in range(rounds):
        for name in times:
            began = time.process_time()
            calls[name]()
            times[name].append(len(x) / (time.process_time() - began))
    lines = [
        f"{name:8} {statistics.median(some):8.0f} samples per CPU second (best {max(some):.0f})"
        for name, some in times.items()
    ]
    return "\n".join(lines if "torch" in times else [*lines, "torch is not installed"])


def _epoch(x: np.ndarray, y: np.ndarray) -> None:
    network = Network((784,), (300, 100), 10)
    train(network, x, y, optimiser=SGD(0.9, True, 5e-4), epochs=1, learning_rate=0.1)


def _torch_epoch(x: np.ndarray, y: np.ndarray) -> object:
    """One epoch of the same training, or None without PyTorch."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    inputs, classes = torch.from_numpy(x), torch.from_numpy(y)

    def epoch() -> None:
        layers = [torch.nn.Linear(784, 300), torch.nn.ReLU(), torch.nn.Linear(300, 100)]
        model = torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.Linear(100, 10))
        optimiser = torch.optim.SGD(
            model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        for rows in torch.randperm(len(inputs)).split(128):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs[rows]), classes[rows]).backward()
            optimiser.step()

    return epoch


def main(arguments: list[str] | None = None) -> int:
    """Make the runs that are missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("pruning_runs.jsonl"))
    parser.add_argument("--data", metavar="NPZ")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="one method")
    parser.add_argument("--validate", action="store_true", help="score a tenth of the training set")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--rounds", type=int, default=5, help="of --speed")
    options = parser.parse_args(arguments)
    data = load(options.data)
    if options.speed:
        print(speed(data, options.rounds))
        return 0
    if options.validate:
        data = held_out(data)
    done = finished(options.output)
    for key in wanted(options.seeds):
        if key in done or (options.only and key[0] != options.only):
            continue
        done[key] = run(*key, data)
        with open(options.output, "a", encoding="utf-8") as file:
            file.write(json.dumps(done[key]) + "\n")
    print(table(done))
    return 0


if __name__ == "__main__":
    if not ONE_CORE.items() <= os.environ.items():
        # thread counts are read when the libraries load, so start over with them set
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_CORE)
    sys.exit(main())
