"""Real training against a simulated clock.

Every worker trains its part on its own data; only the time that it takes is made up. Rounds of
synchronous strategies end when the last reply, or the deadline, has come. Asynchronous ones have a
queue of events: each reply is mixed in when it arrives, and its worker starts anew.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.federated import _check, executors
from cascadenet.sparse.federated.clock import Clock, Heterogeneity, UpdateTime
from cascadenet.sparse.federated.dgc import DGC
from cascadenet.sparse.federated.faults import Fault, active, damaged
from cascadenet.sparse.federated.ranking import flops
from cascadenet.sparse.federated.results import Simulation, tables
from cascadenet.sparse.federated.server import FedAsync, FedAvg, RoundError
from cascadenet.sparse.federated.splits import partition
from cascadenet.sparse.federated.worker import LocalTraining, Memory, Reply, Task, local_update
from cascadenet.sparse.pruning.network import Network

INITIAL, SPLIT = 4, 5  # random streams

Rows = tuple[np.ndarray, np.ndarray]  # inputs and classes


def simulate(
    strategy: FedAvg,
    data: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike],
    *,
    n_rounds: int = 100,
    n_workers: int = 10,
    split: float | Sequence[ArrayLike] | None = None,
    network: Network | Sequence[int] = (100,),
    batch_norm: bool = False,
    clock: Clock | Heterogeneity | None = None,
    training: LocalTraining | None = None,
    compression: DGC | None = None,
    faults: Sequence[Fault] = (),
    evaluate_every: int = 1,
    executor: str = "serial",
    n_jobs: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Simulation:
    """Train a model with workers of different speed.

    Parameters
    ----------
    strategy : AdaptCL, FedAvg, StaticWidth or FedAsync
        Begun anew.
    data : (x, y, x_test, y_test)
        Inputs (n, features) and classes 0, 1, ...; images (n, ...) are flattened.
    n_rounds : int
        For an asynchronous strategy, updates in units of the number of workers.
    n_workers : int
    split : float or sequence of int arrays, optional
        At random by default; the concentration of a Dirichlet division; or the rows of each
        worker, whose number then is ``n_workers``. See `partition`.
    network : Network or sequence of int
        Widths of the hidden layers, with or without ``batch_norm``, or a network to be copied.
    batch_norm : bool
    clock : Clock or Heterogeneity, optional
        Equal workers without noise by default.
    training : LocalTraining, optional
    compression : DGC, optional
    faults : sequence of Fault
    evaluate_every : int
        Rounds between tests of the global model; the last one is always tested.
    executor : {"serial", "threads", "processes"}
        Where workers train; results do not depend on it, as long as NumPy uses as many threads of
        its own. Scripts need the guard of ``multiprocessing`` for "processes".
    n_jobs : int, optional
        Threads or processes.
    seed : int
        Of everything: initial weights, division, order of the examples, noise.
    progress : bool

    Returns
    -------
    Simulation

    Raises
    ------
    RoundError
        A round has too few usable replies, or a lost worker would be waited for for ever.
    """
    if not isinstance(strategy, FedAvg):
        raise TypeError(f"strategy must be a strategy of this package; got {strategy!r}")
    seed = _check.whole("seed", seed, 0)
    model = _model(network, batch_norm, data, seed)
    parts = _parts(_check.labelled("data", data[:2], model.dtype), split, n_workers, seed)
    training = training or LocalTraining()
    world = _World(
        strategy=strategy,
        data=parts,
        test=_check.labelled("test data", data[2:], model.dtype),
        clock=_clock(clock, model, parts, training, seed),
        training=training,
        compression=compression,
        faults=_faults(faults, len(parts)),
        n_rounds=_check.whole("n_rounds", n_rounds, 1),
        every=_check.whole("evaluate_every", evaluate_every, 1),
        seed=seed,
    )
    n_jobs = None if n_jobs is None else _check.whole("n_jobs", n_jobs, 1)
    kind = _check.chosen("executor", executor, executors.KINDS)
    strategy.begin(model, len(parts))
    run = _synchronous if strategy.synchronous else _asynchronous
    with executors.make(kind, n_jobs) as pool:
        run(world, pool, _bar(n_rounds, progress))
    rounds, workers, events = tables(world.rounds, world.rows, getattr(strategy, "events_", []))
    return Simulation(
        rounds, workers, events, strategy.model(), world.clock,
        np.array(world.server_seconds), np.array(world.worker_seconds),
    )  # fmt: skip


def _model(network: Any, batch_norm: bool, data: Any, seed: int) -> Network:
    if len(data) != 4:
        raise ValueError(f"data must be (x, y, x_test, y_test); got {len(data)} parts")
    if isinstance(network, Network):
        model = Network(**network.arguments())
        model.set_state(network.state())
        return model
    widths = [_check.whole("network", width, 1) for width in network]
    features = int(np.prod(np.shape(data[0])[1:]))
    classes = int(max(np.max(data[1]), np.max(data[3]))) + 1
    rng = np.random.default_rng([seed, INITIAL])
    return Network((features,), widths, classes, batch_norm=batch_norm, seed=rng)


def _parts(data: Rows, split: Any, n_workers: int, seed: int) -> list[Rows]:
    """The rows of every worker."""
    x, y = data
    if split is None or np.ndim(split) == 0:
        rows = partition(y, n_workers, split, seed=np.random.default_rng([seed, SPLIT]))
    else:
        rows = _check.rows("split", split, y.size)
    return [(x[part], y[part]) for part in rows]


def _clock(clock: Any, model: Network, parts: Any, training: LocalTraining, seed: int) -> Clock:
    if isinstance(clock, Clock):
        if clock.n_workers != len(parts):
            raise ValueError(f"clock must have {len(parts)} workers; got {clock.n_workers}")
        return clock
    if clock is None:
        clock = Heterogeneity(sigma=1.0, noise=0.0)
    if not isinstance(clock, Heterogeneity):
        raise TypeError(f"clock must be a Clock or a Heterogeneity; got {clock!r}")
    work = [training.epochs * y.size * flops(model) for _, y in parts]
    return clock.clock(model.parameters.nbytes + model.statistics.nbytes, work, seed)


def _faults(faults: Sequence[Fault], n_workers: int) -> tuple[Fault, ...]:
    for fault in faults:
        if fault.worker >= n_workers:
            raise ValueError(f"faults: worker must be below {n_workers}; got {fault.worker}")
    return tuple(faults)


def _bar(n_rounds: int, wanted: bool) -> Callable[[dict], None]:
    if not wanted:
        return lambda row: None
    from tqdm import tqdm

    bar = tqdm(total=n_rounds, desc="simulating", unit="round", leave=False)

    def show(row: dict) -> None:
        bar.set_postfix(accuracy=f"{row['accuracy']:.3f}", refresh=False)
        bar.update()
        if row["round"] == n_rounds - 1:
            bar.close()

    return show


@dataclass
class _World:
    """A simulation that is all set up, and what it has recorded."""

    strategy: FedAvg
    data: list[Rows]
    test: Rows
    clock: Clock
    training: LocalTraining
    compression: DGC | None
    faults: tuple[Fault, ...]
    n_rounds: int
    every: int
    seed: int
    rounds: list[dict] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)
    server_seconds: list[float] = field(default_factory=list)
    worker_seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.memories = [Memory() for _ in self.data]

    def task(self, worker: int, round: int, schedule_round: int) -> Task:
        """What the worker is asked in a round."""
        given = self.strategy.assignment(worker)
        return Task(
            worker, round, self.strategy.network_.arguments(),
            given.units, given.parameters, given.statistics,
            self.training.rate(schedule_round, self.n_rounds), self.training, self.compression,
            given.wants_scores, self.seed, self.memories[worker],
        )  # fmt: skip

    def times(self, task: Task, upload: int) -> tuple[UpdateTime, float]:
        """Update time of a task, faults included, and its total without noise and faults."""
        n_examples = self.data[task.worker][1].size
        work = task.training.epochs * n_examples * flops(self.strategy.network_, task.units)
        sizes = (task.worker, task.round, task.download, upload, work)
        spent = self.clock.time(*sizes)
        faults = active(self.faults, task.worker, task.round)
        if "late" in faults:
            spent = UpdateTime(*(faults["late"].factor * part for part in spent))
        drift = self.clock.drifted(task.worker, task.round)
        return spent, drift * self.clock.expected(sizes[0], *sizes[2:]).total

    def row(self, task: Task, reply: Reply, spent: UpdateTime, expected: float) -> dict:
        """What is recorded of a worker's update."""
        return {
            "round": task.round,
            "worker": task.worker,
            "retention": self.strategy.holdings_[task.worker].retention,
            "examples": reply.n_examples,
            "seconds": spent.total,
            "expected": expected,
            "download": spent.download,
            "compute": spent.compute,
            "upload": spent.upload,
            "waiting": 0.0,
            "status": "ok",
            "loss": reply.loss,
        }

    def record(
        self, round: int, start: float, end: float, rows: list[dict], traffic: tuple[int, int]
    ) -> dict:
        """Note a round that has ended, and judge the model."""
        accuracy = loss = float("nan")
        if round % self.every == 0 or round == self.n_rounds - 1:
            accuracy, loss = judge(self.strategy.model(), *self.test)
        used = sum(row["status"] == "ok" for row in rows)
        self.rounds.append(
            {
                "round": round,
                "start": start,
                "end": end,
                "seconds": end - start,
                "accuracy": accuracy,
                "loss": loss,
                "used": used,
                "refused": len(rows) - used,
                "retention": float(np.mean([row["retention"] for row in rows])),
                "download": traffic[0],
                "upload": traffic[1],
            }
        )
        self.rows.extend(rows)
        return self.rounds[-1]


def judge(network: Network, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Accuracy and mean loss of a classifier."""
    chance = network.predict(x)
    picked = chance[np.arange(y.size), y].astype(np.float64)
    tiny = np.finfo(np.float64).tiny
    return float(np.mean(chance.argmax(axis=1) == y)), float(-np.log(picked + tiny).mean())


def _synchronous(world: _World, pool: Executor, show: Callable[[dict], None]) -> None:
    start = 0.0
    for round in range(world.n_rounds):
        began = time.thread_time()
        tasks = [world.task(worker, round, round) for worker in range(len(world.data))]
        server = time.thread_time() - began
        futures = [pool.submit(local_update, t, *world.data[t.worker]) for t in tasks]
        replies = [future.result() for future in futures]
        spent = [world.times(t, r.upload) for t, r in zip(tasks, replies, strict=True)]
        rows = [world.row(*parts) for parts in zip(tasks, replies, *zip(*spent, strict=True),
                                                   strict=True)]  # fmt: skip
        arrived, times, late, lost, length = _arrivals(world, round, replies, rows)
        began = time.thread_time()
        rejected = world.strategy.close(arrived, times, [*late, *lost])
        server += time.thread_time() - began
        for worker, reason in rejected:
            if rows[worker]["status"] == "ok" and reason != "duplicate":
                rows[worker]["status"] = reason
        for row in rows:
            row["waiting"] = max(length - row["seconds"], 0.0)
        world.memories = [reply.memory for reply in replies]
        world.server_seconds.append(server)
        world.worker_seconds.append(max(reply.seconds for reply in replies))
        traffic = (sum(t.download for t in tasks), sum(r.upload for r in replies))
        row = world.record(round, start, start + length, rows, traffic)
        row["refused"] += sum(reason == "duplicate" for _, reason in rejected)
        show(row)
        start += length


def _arrivals(
    world: _World, round: int, replies: list[Reply], rows: list[dict]
) -> tuple[list[Reply], np.ndarray, list[int], list[int], float]:
    """What has come by the end of a round, the times known then, who is late or lost, its length.

    Sets the status and the seconds of late and lost workers in ``rows``.
    """
    needed = np.array([row["seconds"] for row in rows])
    gone = [
        "lost" in active(world.faults, worker, round) for worker in range(len(replies))
    ]  # fmt: skip
    deadline = world.strategy.deadline(needed[~np.array(gone)])
    if any(gone) and not np.isfinite(deadline):
        raise RoundError(
            f"round {round}: worker {gone.index(True)} was lost and would be waited for for ever; "
            "give the strategy a timeout"
        )
    late = [w for w in range(len(replies)) if not gone[w] and needed[w] > deadline]
    lost = [w for w in range(len(replies)) if gone[w]]
    for worker in (*late, *lost):
        rows[worker]["status"] = "lost" if gone[worker] else "late"
        rows[worker]["seconds"] = needed[worker] = deadline
    arrived = [
        copy
        for worker in np.argsort(needed, kind="stable")
        if worker not in late
        for copy in damaged(replies[worker], active(world.faults, int(worker), round))
    ]
    return arrived, needed, late, lost, float(needed.max())


def _asynchronous(world: _World, pool: Executor, show: Callable[[dict], None]) -> None:
    strategy: FedAsync = world.strategy
    n, begun = len(world.data), [0] * len(world.data)
    queue: list[tuple[float, int, Task, Future, UpdateTime, float, int]] = []
    updates = 0

    def dispatch(worker: int, now: float) -> None:
        task = world.task(worker, begun[worker], min(updates // n, world.n_rounds - 1))
        begun[worker] += 1
        upload = task.download  # compression would make the arrival depend on the result
        spent, expected = world.times(task, upload)
        future = pool.submit(local_update, task, *world.data[worker])
        heapq.heappush(queue, (now + spent.total, worker, task, future, spent, expected, updates))

    if world.compression is not None:
        raise ValueError("compression is for synchronous strategies")
    for worker in range(n):
        dispatch(worker, 0.0)
    start, rows, server, slowest, traffic = 0.0, [], 0.0, 0.0, [0, 0]
    while updates < n * world.n_rounds:
        now, worker, task, future, spent, expected, version = heapq.heappop(queue)
        reply = future.result()
        row = world.row(task, reply, spent, expected)
        began = time.thread_time()
        arrived = damaged(reply, active(world.faults, worker, task.round))
        # a copy that comes twice is one that the server has seen: its task is done
        reasons = [strategy.absorb(one, updates - version) for one in arrived[:1]] or ["lost"]
        row["status"] = reasons[0] or "ok"
        server += time.thread_time() - began
        world.memories[worker] = reply.memory
        row["round"] = updates // n
        rows.append(row)
        slowest, traffic[0], traffic[1] = (
            max(slowest, reply.seconds), traffic[0] + task.download, traffic[1] + reply.upload,
        )  # fmt: skip
        updates += 1
        if updates % n == 0:
            if not any(one["status"] == "ok" for one in rows):
                raise RoundError(f"round {updates // n - 1}: no worker sent a usable update")
            show(world.record(updates // n - 1, start, now, rows, (traffic[0], traffic[1])))
            world.server_seconds.append(server)
            world.worker_seconds.append(slowest)
            start, rows, server, slowest, traffic = now, [], 0.0, 0.0, [0, 0]
        if updates < n * world.n_rounds:
            dispatch(worker, now)
