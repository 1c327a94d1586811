"""Time the risk curves against a plain loop: one kappa at a time, roots by `scipy.optimize.brentq`.

``python benchmarks/bench_theory.py [--check]`` prints medians of CPU time on one core, measured
alternately in the same run, and the ratio to the loop. ``--check`` exits with 1 when a curve of
1000 kappas and 200 eigenvalues misses its limit: 8 ms dense, 40 ms pruned, 40 ms retrained.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from cascadenet.sparse.theory import Law, dense_risk, pruned_risk, retrained_risk

KAPPAS, EIGENVALUES = 1000, 200
NOISE, KEPT = 0.3, 0.2
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
LIMITS_MS = {"dense": 8.0, "pruned": 40.0, "retrained": 40.0}
LOOP_POINTS = 20  # of the loop per round, scaled up to a curve
RANGES = {"kappa 1.02-10": (1.02, 10.0), "kappa 0.1-10": (0.1, 10.0)}


def example_law() -> Law:
    """200 power-law eigenvalues with Gaussian coefficients: real data, no structure to exploit."""
    rng = np.random.default_rng(5)
    return Law.from_data(np.arange(1, EIGENVALUES + 1) ** -1.5, rng.standard_normal(EIGENVALUES))


def loop_dense(law: Law, kappa: float) -> tuple[float, float]:
    """Effective ridge and risk of one kappa, as one would write them down."""
    weight, eigenvalue = law.weight, law.eigenvalue
    eta = 0.0
    if kappa > 1:
        high = kappa * float(weight @ eigenvalue)
        eta = brentq(lambda x: kappa * (weight @ (eigenvalue / (eigenvalue + x))) - 1, 1e-12, high)
    zeta = eigenvalue / (eigenvalue + eta)
    bias = weight @ ((1 - zeta) ** 2 * eigenvalue * law.mean**2)
    return eta, float((NOISE + bias) / (1 - kappa * (weight @ zeta**2)))


def loop_pruned(law: Law, kappa: float) -> float:
    """Magnitude-pruned risk of one kappa."""
    weight, eigenvalue = law.weight, law.eigenvalue
    eta, gamma = loop_dense(law, kappa)
    zeta, spread = eigenvalue / (eigenvalue + eta), np.sqrt(kappa * gamma)
    mean = np.sqrt(eigenvalue) * law.mean
    scale = np.sqrt(eigenvalue) / zeta

    def tail(t: float) -> np.ndarray:
        return ndtr((mean - t * scale) / spread) + ndtr((-mean - t * scale) / spread)

    t = brentq(lambda x: weight @ tail(x) - KEPT, 0.0, 1e3)
    a, b = (t * scale - mean) / spread, (-t * scale - mean) / spread
    near, far = np.exp(-a * a / 2) / np.sqrt(2 * np.pi), np.exp(-b * b / 2) / np.sqrt(2 * np.pi)
    first = mean * tail(t) + spread * (near - far)
    second = (mean**2 + spread**2) * tail(t) + spread**2 * (a * near - b * far)
    second += 2 * mean * spread * (near - far)
    return float(NOISE + weight @ (mean**2 + zeta**2 * second - 2 * zeta * mean * first))


def cpu_ms(call: Callable[[], object]) -> float:
    """CPU time of one call in milliseconds."""
    began = time.process_time()
    call()
    return 1e3 * (time.process_time() - began)


def measure(law: Law, low: float, high: float, rounds: int) -> dict[str, tuple[float, float]]:
    """Median milliseconds of a curve, and of the loop for as many points (nan where none)."""
    kappa = np.geomspace(low, high, KAPPAS)
    kappa = kappa[np.abs(kappa - 1) > 1e-9]
    some = kappa[:: kappa.size // LOOP_POINTS]
    calls = {
        "dense": lambda: dense_risk(law, kappa, NOISE),
        "pruned": lambda: pruned_risk(law, kappa, NOISE, KEPT),
        "retrained": lambda: retrained_risk(law, kappa, NOISE, KEPT),
    }
    loops = {
        "dense": lambda: [loop_dense(law, value)[1] for value in some],
        "pruned": lambda: [loop_pruned(law, value) for value in some],
    }
    for name, loop in loops.items():
        np.testing.assert_allclose(np.interp(some, kappa, calls[name]()), loop(), rtol=1e-6)
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name][0].append(cpu_ms(call))
            if name in loops:
                times[name][1].append(cpu_ms(loops[name]) * kappa.size / some.size)
    return {
        name: (statistics.median(fast), statistics.median(slow) if slow else float("nan"))
        for name, (fast, slow) in times.items()
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 when ``--check`` is given and a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when a limit is missed")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    law, missed = example_law(), []
    print(f"{KAPPAS} kappas, {EIGENVALUES} eigenvalues; medians of {options.rounds} CPU times")
    for title, (low, high) in RANGES.items():
        for name, (fast, slow) in measure(law, low, high, options.rounds).items():
            ratio = "" if np.isnan(slow) else f"   loop {slow:8.1f} ms   {slow / fast:5.1f} x"
            print(f"{title:14} {name:10} {fast:6.1f} ms (limit {LIMITS_MS[name]:g}){ratio}")
            if fast > LIMITS_MS[name]:
                missed.append(f"{title} {name}")
    if missed:
        print("over the limit: " + ", ".join(missed))
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    if not ONE_CORE.items() <= os.environ.items():
        # thread counts are read when the libraries load, so start over with them set
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_CORE)
    sys.exit(main())
