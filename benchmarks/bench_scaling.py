"""Chains in shards, and whole ones on threads and workers: time, bytes on the wire, losses, costs.

``python benchmarks/bench_scaling.py [PART ...] [--infections N] [--nodes N] [--window T]
[--shards N] [--rounds N] [--sweeps N] [--check]``, with parts ``threads``, ``whole``, ``workers``,
``wire``, ``loss`` and ``costs``; all of them without one. Data are simulated. Ratios are of medians
of wall time per sweep, measured alternately in the same run, warm. ``--check`` exits with 1 unless
two threads are 1.8 times as fast as one, and two Dask workers 1.6 times.

Dask clusters are of processes on this machine, on the loopback interface.
"""

from __future__ import annotations

import argparse
import logging
import os
import pickle
import signal
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["PYTHONPATH"] = sys.path[0]  # of worker processes, which inherit the rest too
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import numpy as np

from cascadenet import simulate
from cascadenet.cascades import Cascades
from cascadenet.delays import get_delay
from cascadenet.inference import chains, communities, parents, rates, sampler
from cascadenet.inference.layout import build_layout
from cascadenet.inference.remote import run_remote_chains
from cascadenet.inference.sampler import Model
from cascadenet.inference.sharded import cluster as clusters
from cascadenet.inference.sharded.cluster import Cluster
from cascadenet.inference.sharded.coordinator import Coordinator
from cascadenet.inference.sharded.hosts import Hosts, LocalHosts, Plan
from cascadenet.inference.sharded.pieces import shard_bounds
from cascadenet.inference.sharded.run import run_sharded_chains
from cascadenet.inference.sharded.shard import Network, Order, Shard

THREADS_RATIO, WORKERS_RATIO = 1.8, 1.6
WARM = 6  # sweeps before measuring, the first third with the concentrations held
COMMUNITY = 100  # nodes
SEED = np.random.SeedSequence(5)


def simulated(infections: int, nodes: int, window: float) -> Cascades:
    """About so many infections on a network of communities, 8 edges out of a node."""
    network = simulate.community_network(
        max(nodes // COMMUNITY, 2), COMMUNITY, within=0.075, between=0.005, seed=1
    )
    pilot = simulate.simulate_cascades(network, 200, window=window, seed=1).cascades
    count = max(round(200 * infections / pilot.n_infections), 1)
    return simulate.simulate_cascades(network, count, window=window, seed=2).cascades


def make_plan(options: argparse.Namespace) -> Plan:
    """The data laid out, and what is said of them."""
    cascades = simulated(options.infections, options.nodes, options.window)
    layout = build_layout(cascades)
    print(
        f"{cascades.n_infections} infections, {cascades.n_cascades} cascades of "
        f"{cascades.n_infections / cascades.n_cascades:.0f}, {cascades.n_nodes} nodes, "
        f"{layout.cand_pair.size} candidates, {layout.n_pairs} pairs, {options.shards} shards, "
        f"delay {options.delay}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    schedule = chains.Schedule(WARM, 100_000, 1, WARM // 3)
    bounds = shard_bounds(layout, options.shards)
    return Plan(layout, bounds, Model(delay=get_delay(options.delay)), schedule)


def local_shards(plan: Plan) -> list[Shard]:
    """The shards of a chain in this process."""
    return [plan.make(s, plan.piece(s), SEED) for s in range(plan.n_shards)]


def warm_chain(plan: Plan, hosts: Hosts, pool: ThreadPoolExecutor | None = None) -> Coordinator:
    """A chain that records its draws."""
    chain = Coordinator(plan, SEED, hosts, pool)
    for sweep in range(WARM):
        chain.adapting, chain.holding = True, sweep < WARM // 3
        chain.sweep()
    chain.adapting = False
    chain.sweep()
    return chain


def timed(chain: Coordinator, sweeps: int) -> list[float]:
    """Wall seconds of sweeps."""
    found = []
    for _ in range(sweeps):
        start = time.perf_counter()
        chain.sweep()
        found.append(time.perf_counter() - start)
    return found


def compare(
    title: str, chains_by: dict[str, Coordinator], options: argparse.Namespace
) -> dict[str, float]:
    """Medians of chains measured in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in chains_by}
    for _ in range(options.rounds):
        for name, chain in chains_by.items():
            seconds[name] += timed(chain, options.sweeps)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    first = next(iter(medians.values()))
    print(f"\n{title}: wall seconds per sweep, median of {options.rounds * options.sweeps}")
    for name, median in medians.items():
        print(f"  {name:<12} {median:8.4f}   {first / median:5.2f} times the first")
    return medians


# Parts


def threads(plan: Plan, options: argparse.Namespace) -> bool:
    """One chain, and two chains that share the threads."""
    with ExitStack() as stack:
        made = {}
        for count in (1, 2):
            pool = stack.enter_context(ThreadPoolExecutor(count)) if count > 1 else None
            made[f"{count} thread"] = warm_chain(plan, LocalHosts(local_shards(plan), pool), pool)
        one, two = compare("one chain", made, options).values()
    schedule = chains.Schedule(2, options.sweeps, 1, 1)
    starts = [chains.Start(child) for child in SEED.spawn(2)]
    spent: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(options.rounds):
        for count, seconds in spent.items():
            start = time.perf_counter()
            run_sharded_chains(
                plan.layout,
                plan.model,
                schedule,
                starts,
                shards=plan.n_shards,
                n_jobs=count,
                progress=chains.Progress(1, show=False),
            )
            seconds.append(time.perf_counter() - start)
    both = statistics.median(spent[1]) / statistics.median(spent[2])
    print(f"two chains, set-up included: two threads {both:.2f} times one thread")
    print(f"RATIO threads 2 / 1: {one / two:.2f} (target {THREADS_RATIO})")
    return one / two >= THREADS_RATIO


@contextmanager
def dask_client(workers: int) -> Iterator[Any]:
    """Client of a cluster of worker processes with one thread each."""
    from dask import config
    from distributed import Client, LocalCluster

    with (
        tempfile.TemporaryDirectory() as folder,
        config.set({"temporary-directory": folder}),
        warnings.catch_warnings(action="ignore"),  # of the port of the scheduler's health page
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            local_directory=folder,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, direct_to_workers=True, set_as_default=False) as client,
    ):
        yield client


def whole(plan: Plan, options: argparse.Namespace) -> bool:
    """Two chains that are not cut, half of their sweeps recorded: on threads and on workers."""
    starts, sweeps = [chains.Start(seed) for seed in SEED.spawn(2)], 10 * options.sweeps

    def run(runner: Callable[..., object], sweeps: int) -> float:
        schedule = chains.Schedule(sweeps // 2, sweeps - sweeps // 2, 1, sweeps // 6)
        start = time.perf_counter()
        with chains.Progress(1, show=False) as bar:
            runner(plan.layout, plan.model, schedule, starts, progress=bar)
        return time.perf_counter() - start

    def ratio(name: str, one: Callable[..., object], two: Callable[..., object]) -> float:
        spent: dict[int, list[float]] = {1: [], 2: []}
        for runner in (one, two):
            run(runner, WARM)
        for _ in range(max(options.rounds // 2, 1)):
            for count, runner in ((1, one), (2, two)):
                spent[count].append(run(runner, sweeps))
        first, second = (statistics.median(spent[count]) for count in (1, 2))
        print(
            f"\ntwo whole chains of {sweeps} sweeps on {name}, data sent and records fetched: "
            f"{first:.2f} s on one, {second:.2f} s on two"
        )
        print(f"RATIO {name} 2 / 1, whole chains: {first / second:.2f}", flush=True)
        return first / second

    # before there are clusters, whose client has threads of its own
    threads = ratio("threads", *(partial(chains.run_chains, n_jobs=count) for count in (1, 2)))
    with dask_client(1) as one, dask_client(2) as two:
        clients = (partial(run_remote_chains, client=client) for client in (one, two))
        workers = ratio("Dask workers", *clients)
    return threads >= THREADS_RATIO and workers >= WORKERS_RATIO


def workers(plan: Plan, options: argparse.Namespace) -> bool:
    """One chain on one, two and four workers; the centre has one thread."""
    with ExitStack() as stack:
        made = {}
        for count in (1, 2, 4):
            client = stack.enter_context(dask_client(count))
            cluster = stack.enter_context(Cluster(client, plan))
            made[f"{count} worker"] = warm_chain(plan, cluster.open_hosts(SEED))
        one, two, _ = compare("one chain on Dask", made, options).values()
        for chain in made.values():
            chain.hosts.close()
    print(f"RATIO Dask workers 2 / 1: {one / two:.2f} (target {WORKERS_RATIO})")
    return one / two >= WORKERS_RATIO


class Counted:
    """Hosts that count what would go to and from workers, by the orders of a round trip."""

    def __init__(self, hosts: LocalHosts) -> None:
        self.hosts = hosts
        self.sent: dict[str, list[tuple[int, int, int, int]]] = {}

    def ask(
        self, orders: Sequence[Order], network: Network | None = None, last: bool = False
    ) -> list[list[Any]]:
        """Ask, and count bytes: orders, senders, receivers, replies."""
        replies = self.hosts.ask(orders, network, last)
        parts = (0, 0) if network is None else (network.sender.nbytes, network.receiver.nbytes)
        row = (size(orders), *parts, size(replies))
        self.sent.setdefault("+".join(name for name, _ in orders), []).append(row)
        return replies


def size(content: Any) -> int:
    """Bytes of anything on the wire."""
    return len(pickle.dumps(content, protocol=5))


def wire(plan: Plan, options: argparse.Namespace) -> bool:
    """Bytes once and per sweep, those of a snapshot and of the end."""
    hosts = Counted(LocalHosts(local_shards(plan)))
    chain = warm_chain(plan, hosts)
    hosts.sent.clear()
    timed(chain, options.sweeps)
    once = size([plan.piece(s) for s in range(plan.n_shards)])
    print(f"\nonce: {once / 1e6:.1f} MB of layout, for all shards on one worker")
    for count in (2, 4):
        some = size([plan.piece(s) for s in range(plan.n_shards // count)])
        print(f"  on each of {count} workers: about {some / 1e6:.1f} MB")
    state = chain.state
    print(f"tokens {state.community.size} ({state.n_real} real), K {state.eta.size}")
    print("round trip: orders to each worker, senders to each, receivers in all, replies in all")
    for name, rows in hosts.sent.items():
        each = [statistics.median(column) / 1e6 for column in zip(*rows, strict=True)]
        print(f"  {name:<28}" + "".join(f"{x:10.4f}" for x in each) + " MB")
    start = time.process_time()
    saved = [shard.snapshot() for shard in hosts.hosts.shards]
    seconds = time.process_time() - start
    print(f"snapshot while recording: {size(saved) / 1e6:.1f} MB, {seconds:.3f} CPU s to make")
    print(f"running sums at the end: {size(hosts.hosts.ask([('collect', {})])) / 1e6:.1f} MB")
    return True


def loss(plan: Plan, options: argparse.Namespace) -> bool:
    """A worker is killed; the next sweep waits until its shards are rebuilt, and is the same."""
    steps = 2 * options.sweeps
    reference = warm_chain(plan, LocalHosts(local_shards(plan)))
    timed(reference, steps)
    clusters.SAVE_EVERY = options.sweeps
    with dask_client(2) as client, Cluster(client, plan) as cluster:
        chain = warm_chain(plan, cluster.open_hosts(SEED))
        usual = timed(chain, options.sweeps)
        pid = min(client.run(os.getpid).items())[1]
        killer = threading.Timer(statistics.median(usual) / 2, os.kill, (pid, signal.SIGKILL))
        killer.start()
        rest = timed(chain, steps - options.sweeps)
        killer.join()
        chain.hosts.close()
    same = all(
        np.array_equal(getattr(chain.state, name), getattr(reference.state, name))
        for name in ("sender", "receiver", "community", "total", "b")
    )
    print(
        f"\na worker of two killed, snapshots every {options.sweeps} sweeps: usual sweep "
        f"{statistics.median(usual):.3f} s, the one with the loss {max(rest):.3f} s; "
        f"{'the same bytes as' if same else 'NOT the same as'} in one process"
    )
    return same


# where a function is, its name, and what its cost grows with
COSTS: tuple[tuple[Any, str, str], ...] = (
    (parents, "draw_parents", "shards: candidates up to 300 an infection"),
    (parents, "swap_parents", "shards: infections"),
    (sampler, "refresh_shape", "shards: pairs x K"),
    (Shard, "_by_shape", "shards: pairs, 5 values of b"),
    (Shard, "sums", "shards: used pairs"),
    (Shard, "observe", "shards: pairs, when recording"),
    (Shard, "try_delay", "shards: candidates"),
    (Shard, "tokens", "shards: real tokens x K"),
    (Shard, "_phantoms", "shards: all phantoms x log N, receivers x K"),
    (communities, "draw_token_communities", "centre: tokens x K x 3"),
    (communities, "split_merge", "centre: tokens"),
    (communities, "update_popularity", "centre: nodes x K"),
    (Coordinator, "_draw_network", "centre, threads: nodes x K"),
    (rates, "RateTarget", "centre: nodes x K"),
    (Coordinator, "sweep", "centre: all else"),
)


def costs(plan: Plan, options: argparse.Namespace) -> bool:
    """CPU time of each update, callees that are listed themselves left out, and what is central."""
    spent: dict[str, float] = {}
    inside: list[float] = []
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in COSTS]

    def counting(name: str, function: Callable) -> Callable:
        def counted(*args: Any, **named: Any) -> Any:
            inside.append(0.0)
            start = time.thread_time()
            result = function(*args, **named)
            elapsed = time.thread_time() - start
            spent[name] = spent.get(name, 0.0) + elapsed - inside.pop()
            if inside:
                inside[-1] += elapsed
            return result

        return counted

    chain = warm_chain(plan, LocalHosts(local_shards(plan)))
    for owner, name, function in originals:
        setattr(owner, name, counting(name, function))
    try:
        timed(chain, options.sweeps * options.rounds)
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)
    sweeps, infections = options.sweeps * options.rounds, plan.layout.n_infections
    print("\nCPU time of a sweep of one chain, one thread: ms, ns per infection")
    total = {"shards": 0.0, "centre": 0.0}
    for _, name, what in COSTS:
        if name in spent:
            each = spent[name] / sweeps
            total[what[:6]] += each
            print(f"  {name:<24}{1e3 * each:9.2f}{1e9 * each / infections:9.0f}   {what}")
    whole = sum(total.values())
    state = chain.state
    print(
        f"  in shards {total['shards'] / whole:.0%}, in the centre {total['centre'] / whole:.0%}; "
        f"tokens {state.community.size}, K {state.eta.size}, {1e9 * whole / infections:.0f} ns per "
        f"infection and sweep"
    )
    return True


PARTS = {
    "threads": threads,
    "whole": whole,
    "workers": workers,
    "wire": wire,
    "loss": loss,
    "costs": costs,
}


def main() -> int:
    """Run the parts; 1 when a target is missed and that matters."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", metavar="PART", help=", ".join(PARTS))
    for name, value in {"infections": 100_000, "nodes": 5000, "shards": 8}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--window", type=float, default=1.6, help="length of a cascade in time")
    parser.add_argument("--delay", default="exponential")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sweeps", type=int, default=5, help="in each round")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    unknown = set(options.part) - set(PARTS)
    if unknown:
        parser.error(f"PART must be among {', '.join(PARTS)}; got {', '.join(sorted(unknown))}")
    plan = make_plan(options)
    reached = [PARTS[name](plan, options) for name in options.part or PARTS]
    return int(options.check and not all(reached))


if __name__ == "__main__":
    sys.exit(main())
