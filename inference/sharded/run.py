"""Chains in shards: checks, where their shards are put, progress and interruption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np

from cascadenet.inference.chains import Progress, Record, Schedule, Start, run_together
from cascadenet.inference.layout import Layout
from cascadenet.inference.remote import check_client
from cascadenet.inference.sampler import Model
from cascadenet.inference.sharded.coordinator import Coordinator
from cascadenet.inference.sharded.hosts import Hosts, LocalHosts, Plan, TravellingHosts
from cascadenet.inference.sharded.pieces import shard_bounds
from cascadenet.inference.sharded.shard import Shard

Opener = Callable[[np.random.SeedSequence], Hosts]


def run_sharded_chains(
    layout: Layout,
    model: Model,
    schedule: Schedule,
    starts: Sequence[Start],
    *,
    shards: int,
    client: Any = None,
    n_jobs: int,
    progress: Progress,
) -> tuple[list[Record], bool]:
    """Run chains whose children are updated in shards.

    The result depends on data, model, schedule, starts and the number of shards; not on threads,
    workers or their fate. Ctrl-C stops all chains after their current sweep and keeps what was
    drawn.

    Parameters
    ----------
    layout : Layout
    model : Model
        Of the survival likelihood.
    schedule : Schedule
    starts : sequence of Start
        Seeds only: what earlier intervals of time left cannot be sharded.
    shards : int
        Number of shards of a chain, at most one a node.
    client : dask.distributed.Client or other object with a method ``submit``, optional
        Where shards live: on a cluster's workers; in the threads of a `ThreadPoolExecutor`; with
        any other executor, shards travel to a worker and back with every task.
    n_jobs : int
        Threads of this process: for the shards where there is no client, and for what is done
        in one place. Chains share them.
    progress : Progress

    Returns
    -------
    records : list of Record
        One for each chain, in order.
    interrupted : bool

    Raises
    ------
    TypeError
        ``client`` cannot run tasks.
    ValueError
        Settings or starts that shards cannot serve.
    FormatError
        Data the delay model cannot explain.
    RuntimeError
        All workers of a cluster are lost and none comes back.
    """
    n_shards = check_shardable(model, shards, client)
    if any(start.carried is not None or start.state is not None for start in starts):
        raise ValueError("starts must be seeds only: a network that changes cannot be sharded")
    plan = Plan(layout, shard_bounds(layout, n_shards), model, schedule)
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(n_jobs)) if n_jobs > 1 else None
        open_hosts, together = _places(plan, client, threads, stack)
        pool = stack.enter_context(ThreadPoolExecutor(min(together, len(starts))))
        tasks = [(_run_chain, plan, start.seed, open_hosts, threads, progress) for start in starts]
        return run_together(pool, tasks, progress), progress.stopped


def check_shardable(model: Model, shards: int, client: Any) -> int:
    """Number of shards asked for; raises as `run_sharded_chains` does unless that can be done."""
    if isinstance(shards, bool) or not isinstance(shards, (int, np.integer)) or shards < 1:
        raise ValueError(f"shards must be an integer of at least 1; got {shards!r}")
    check_client(client)
    if model.likelihood != "survival":
        raise ValueError(
            f"shards need likelihood='survival'; got {model.likelihood!r}, whose chains are run "
            "whole"
        )
    if model.switch:
        raise ValueError("shards need a network that does not change; got one with memories")
    return int(shards)


def _places(
    plan: Plan, client: Any, threads: ThreadPoolExecutor | None, stack: ExitStack
) -> tuple[Opener, int]:
    """Makes the hosts of a chain; and how many chains to run at the same time.

    Two, where there are several threads: while one chain's communities are drawn, which is done
    in one place, the other's shards have all threads.
    """
    if hasattr(client, "scatter"):
        from cascadenet.inference.sharded.cluster import Cluster

        return stack.enter_context(Cluster(client, plan)).open_hosts, 2
    pieces = [plan.piece(shard) for shard in range(plan.n_shards)]

    def make(seed: np.random.SeedSequence) -> list[Shard]:
        return [plan.make(shard, piece, seed) for shard, piece in enumerate(pieces)]

    if client is not None and not isinstance(client, ThreadPoolExecutor):
        return lambda seed: TravellingHosts(make(seed), client), 2
    pool = client or threads
    return lambda seed: LocalHosts(make(seed), pool), 1 if pool is None else 2


def _run_chain(
    plan: Plan,
    seed: np.random.SeedSequence,
    open_hosts: Opener,
    threads: Executor | None,
    progress: Progress,
) -> Record:
    """Run one chain."""
    schedule, hosts = plan.schedule, open_hosts(seed)
    try:
        chain = Coordinator(plan, seed, hosts, threads)
        while chain.n_sweeps < schedule.sweeps and not progress.stopped:
            chain.adapting = chain.n_sweeps < schedule.tune
            chain.holding = chain.n_sweeps < schedule.hold
            chain.sweep()
            progress.step()
        return chain.finish()
    finally:
        hosts.close()
