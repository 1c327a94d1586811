"""Cost of the parent and swap updates as cascades grow longer; figures of docs/benchmarks.md.

    python benchmarks/cascade_length.py [--infections 100000] [--longest 3000]
    python benchmarks/cascade_length.py large [--infections 1000000] [--nodes 100000] [--length 30]
    python benchmarks/cascade_length.py fit [the same options]
    python benchmarks/cascade_length.py mixing [--infections 30000] [--longest 1000]

A random network of 4000 nodes with eight targets each; cascades spread over it from random seeds
until so many nodes are infected, where watching ends. The number of infections is the same for
every length. `scanned` draws a parent from all candidates, `proposed` by Metropolis proposals, once
or eight times (x8) before going on to the next child; `update` is what the sampler does.
Nanoseconds of CPU time per draw of an infection with a choice, medians of seven passes on warm
kernels; and million draws a second.

`large`: seconds of building the layout and of each update of a sweep, and peak memory before and
while draws are recorded. `fit`: peak memory of a whole fit of one chain, 5 + 5 sweeps, and of its
table of edges. `mixing`: effective draws of edges for so many draws of parents between swaps.
"""

from __future__ import annotations

import argparse
import heapq
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import cascadenet as cn
from cascadenet.delays import get_delay
from cascadenet.inference import parents
from cascadenet.inference.chains import Record, Schedule
from cascadenet.inference.diagnostics import ess_bulk
from cascadenet.inference.layout import build_layout
from cascadenet.inference.sampler import Chain, Model

NODES, TARGETS = 4000, 8
EVERYTHING = 10**9  # no infection has so many candidates
LENGTHS = (30, 100, 300, 1000, 3000)


def cascades_of_length(
    length: int, infections: int, seed: int, n_nodes: int = NODES
) -> cn.Cascades:
    """Cascades watched until `length` nodes are infected, `infections` infections in all."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(n_nodes, size=(n_nodes, TARGETS))
    rate = rng.uniform(0.2, 2.0, (n_nodes, TARGETS))
    nodes, times, horizons = [], [], []
    for _ in range(max(infections // length, 1)):
        due = [(0.0, int(rng.integers(n_nodes)))]
        infected: dict[int, float] = {}
        while due and len(infected) < length:
            now, u = heapq.heappop(due)
            if u in infected:
                continue
            infected[u] = now
            reached = now + rng.standard_exponential(TARGETS) / rate[u]
            for when, v in zip(reached.tolist(), targets[u].tolist(), strict=True):
                if v not in infected:
                    heapq.heappush(due, (when, v))
        nodes.append(list(infected))
        times.append(list(infected.values()))
        horizons.append(times[-1][-1])
    offset = np.concatenate([[0], np.cumsum([len(x) for x in nodes])])
    return cn.Cascades.from_arrays(
        range(n_nodes), offset, np.concatenate(nodes), np.concatenate(times), horizons
    )


def seconds(update: Callable[[Chain], None], chain: Chain) -> float:
    """CPU time of one pass, median of seven."""
    update(chain)
    times = []
    for _ in range(7):
        begin = time.process_time()
        update(chain)
        times.append(time.process_time() - begin)
    return statistics.median(times)


def measure(length: int, infections: int) -> dict[str, float]:
    """A row of the table."""
    layout = build_layout(cascades_of_length(length, infections, seed=length))
    model = Model(get_delay("exponential"))
    chain = Chain(layout, model, np.random.default_rng(1))
    for _ in range(5):
        chain.sweep()
    some = np.count_nonzero(np.diff(layout.cand_ptr) > 1)
    row = {"length": length, "candidates": np.diff(layout.cand_ptr).mean()}
    usual = parents.rounds(layout)
    ways = {"scanned": (EVERYTHING, 1), "proposed": (0, 1)}
    ways |= {f"{name} x8": (scan, 8) for name, (scan, _) in ways.items()}
    for name, (scan, rounds) in (ways | {"update": (model.scan, usual)}).items():
        chain.model = replace(model, scan=scan, parent_rounds=rounds)
        row[name] = 1e9 * seconds(parents.draw_parents, chain) / some / rounds
    row["swaps"] = 1e9 * seconds(parents.swap_parents, chain) / some
    return row | {"million/s": 1e3 / row["update"], "swaps, million/s": 1e3 / row["swaps"]}


def large(infections: int, n_nodes: int, length: int, sweeps: int = 5) -> None:
    """Print what a chain costs on many nodes and infections."""
    cascades = cascades_of_length(length, infections, seed=1, n_nodes=n_nodes)
    print(f"{cascades}; {peak_memory():.0f} MB before the fit")
    begin = time.process_time()
    layout = build_layout(cascades)
    never = np.count_nonzero(layout.n_cand == 0)
    print(
        f"{layout.cand_pair.size} candidates; {layout.n_pairs} pairs, {never} of them never "
        f"candidates; layout {time.process_time() - begin:.1f} s"
    )
    chain = Chain(layout, Model(get_delay("exponential")), np.random.default_rng(1))
    chain.sweep()
    spent: dict[str, list[float]] = {update.__name__: [] for update in chain.updates}
    for _ in range(sweeps):
        for update in chain.updates:
            begin = time.process_time()
            update(chain)
            spent[update.__name__].append(time.process_time() - begin)
    table = pd.Series({name: statistics.median(x) for name, x in spent.items()})
    print(table.round(2).to_string())
    print(f"a sweep {table.sum():.2f} s; peak memory {peak_memory():.0f} MB")
    record, begin = Record(chain, Schedule(0, sweeps, 1, 0)), time.process_time()
    for _ in range(sweeps):
        record.add_pairs(chain)
    print(f"recording {(time.process_time() - begin) / sweeps:.2f} s; {peak_memory():.0f} MB")


def fit(infections: int, n_nodes: int, length: int) -> None:
    """Print what memory a whole fit takes."""
    cascades = cascades_of_length(length, infections, seed=1, n_nodes=n_nodes)
    print(f"{cascades}; {peak_memory():.0f} MB before the fit")
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # too few draws
        model = cn.CoupledHDP().fit(cascades, draws=5, tune=5, chains=1, seed=0, progress=False)
    print(f"fit: {peak_memory():.0f} MB; ", end="")
    print(f"{len(model.edges())} rows of edges: {peak_memory():.0f} MB")


def mixing(infections: int, longest: int, tune: int = 60, draws: int = 150) -> None:
    """Print effective draws a CPU second for several numbers of draws of parents between swaps.

    Medians over 300 edges whose indicator changes in between a tenth and all but a tenth of draws.
    """
    for prior, length in product(("hdp", "flat"), LENGTHS):
        if length > longest:
            continue
        layout = build_layout(cascades_of_length(length, infections, seed=length))
        print(f"{prior}, length {length}, {parents.rounds(layout)} rounds by default", flush=True)
        for rounds in (1, 2, 4, 8, 16):
            model = Model(get_delay("exponential"), prior=prior, parent_rounds=rounds)
            chain = Chain(layout, model, np.random.default_rng(1))
            hits, used, spent = np.zeros(layout.n_pairs, np.int32), [], 0.0
            for sweep in range(tune + draws):
                chain.adapting, chain.holding = sweep < tune, sweep < tune // 3
                begin = time.process_time()
                chain.sweep()
                if sweep >= tune:
                    spent += time.process_time() - begin
                    used.append(np.flatnonzero(chain.state.n_pair))
                    hits[used[-1]] += 1
            doubtful = np.flatnonzero((hits > 0.1 * draws) & (hits < 0.9 * draws))
            doubtful = doubtful[:: max(doubtful.size // 300, 1)]
            indicators = np.array([np.isin(doubtful, pairs) for pairs in used], float)
            ess = np.median([ess_bulk(x[None]) for x in indicators.T])
            print(
                f"  {rounds} rounds: {1e3 * spent / draws:.0f} ms a sweep, {ess:.0f} effective of "
                f"{draws}, {ess / spent:.2f} a CPU s",
                flush=True,
            )


def peak_memory() -> float:
    """Peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=("large", "fit", "mixing"))
    parser.add_argument("--infections", type=int)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--length", type=int, default=30)
    parser.add_argument("--longest", type=int, default=LENGTHS[-1])
    options = parser.parse_args()
    if options.part == "mixing":
        mixing(options.infections or 30_000, min(options.longest, 1000))
        return
    if options.part:
        part = {"large": large, "fit": fit}[options.part]
        part(options.infections or 1_000_000, options.nodes, options.length)
        return
    rows = []
    for length in LENGTHS:
        if length <= options.longest:
            rows.append(measure(length, options.infections or 100_000))
            print(rows[-1], file=sys.stderr, flush=True)
    print(pd.DataFrame(rows).round(1).to_string(index=False))


if __name__ == "__main__":
    main()
