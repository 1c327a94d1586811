"""Time predictions of a compressed network against dense NumPy and SciPy's CSR arrays.

``python benchmarks/bench_compact.py [--check]`` prints medians of CPU time on one core, measured
alternately in the same run. The network is LeNet-300-100 at 95% sparsity: random weights, 36, 20
and 50 inputs kept for each neuron of its three layers. All give probabilities; the compressed
network is called as a user calls it, checks included. ``--check`` exits with 1 when a limit is
missed: int8 within 40 kB in memory and in a file; 4 times as fast as dense NumPy for 128 rows, and
twice for one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from cascadenet.sparse.pruning.compact import compress
from cascadenet.sparse.pruning.spec import LayerSpec

ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
LENET = ((784, 300, 36), (300, 100, 20), (100, 10, 50))  # inputs, outputs, kept of each neuron
BATCHES = (1, 8, 128, 10_000)
LIMITS = {1: 2.0, 128: 4.0}  # times as fast as dense NumPy
LIMIT_BYTES = 40_000
Predict = Callable[[np.ndarray], np.ndarray]


def lenet(seed: int) -> list[LayerSpec]:
    """The layers, with weights that keep the activations' size."""
    rng = np.random.default_rng(seed)
    layers = []
    for number, (n_in, n_out, kept) in enumerate(LENET):
        mask = np.zeros((n_out, n_in), bool)
        for row in mask:
            row[rng.choice(n_in, kept, replace=False)] = True
        weight = np.where(mask, rng.standard_normal(mask.shape) * np.sqrt(2 / kept), 0)
        bias = rng.standard_normal(n_out).astype(np.float32)
        last = number == len(LENET) - 1
        activation = "softmax" if last else "relu"
        layers.append(LayerSpec("dense", weight.astype(np.float32), bias, mask, activation))
    return layers


def softmax(z: np.ndarray) -> np.ndarray:
    """Row-wise, in place."""
    z -= z.max(axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=1, keepdims=True)
    return z


def dense_numpy(layers: list[LayerSpec]) -> Predict:
    """Matrix products with all weights."""
    pairs = [(np.ascontiguousarray(layer.weight.T), layer.bias) for layer in layers]

    def predict(x: np.ndarray) -> np.ndarray:
        for number, (weight, bias) in enumerate(pairs):
            x = x @ weight
            x += bias
            if number < len(pairs) - 1:
                np.maximum(x, 0, out=x)
        return softmax(x)

    return predict


def scipy_csr(layers: list[LayerSpec]) -> Predict:
    """SciPy's sparse product with a dense matrix."""
    from scipy.sparse import csr_array

    pairs = [(csr_array(layer.weight), layer.bias[:, None]) for layer in layers]

    def predict(x: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(x.T)
        for number, (weight, bias) in enumerate(pairs):
            x = weight @ x
            x += bias
            if number < len(pairs) - 1:
                np.maximum(x, 0, out=x)
        return softmax(np.ascontiguousarray(x.T))

    return predict


def measure(predictors: dict[str, Predict], n: int, repeats: int) -> dict[str, float]:
    """Median microseconds of CPU time of one call on ``n`` rows."""
    X = np.random.default_rng(n).standard_normal((n, LENET[0][0])).astype(np.float32)
    calls = max(1, 2000 // (n + 5))
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for repeat in range(repeats + 2):
        for name, predict in predictors.items():
            began = time.process_time()
            for _ in range(calls):
                predict(X)
            if repeat >= 2:  # the first ones compile and warm up
                times[name].append(1e6 * (time.process_time() - began) / calls)
    return {name: statistics.median(values) for name, values in times.items()}


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; 1 when ``--check`` is given and a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when a limit is missed")
    parser.add_argument("--repeats", type=int, default=15, help="of every batch size (15)")
    options = parser.parse_args(arguments)
    layers, missed = lenet(0), []
    models = {
        f"{form} {bits} bits": compress(layers, bits=bits, format=form)
        for bits in (32, 8, 1)
        for form in ("csr", "kofn", "packed")
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        print("bytes in memory and in a file; dense float32 weights are 1064800")
        for name, model in models.items():
            model.save(path)
            print(f"  {name:18}{model.nbytes:9}{path.stat().st_size:9}")
            if name == "packed 8 bits" and max(model.nbytes, path.stat().st_size) > LIMIT_BYTES:
                missed.append("bytes with int8")
    predictors = {"dense NumPy": dense_numpy(layers), "SciPy CSR": scipy_csr(layers)}
    predictors |= {name: model.predict_proba for name, model in models.items()}
    for n in BATCHES:
        found = measure(predictors, n, options.repeats if n < 10_000 else 5)
        print(f"{n} row{'s' * (n > 1)}: microseconds of CPU a call; times as fast as dense NumPy")
        for name, value in found.items():
            ratio = found["dense NumPy"] / value
            print(f"  {name:18}{value:11.1f}{ratio:9.2f}")
            if name in models and ratio < LIMITS.get(n, 0.0):
                missed.append(f"{name}, {n} rows: {ratio:.2f}")
    if missed:
        print("missed: " + "; ".join(missed))
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    if not ONE_CORE.items() <= os.environ.items():
        # thread counts are read when the libraries load, so start over with them set
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_CORE)
    sys.exit(main())
