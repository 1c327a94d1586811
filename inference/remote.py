"""Whole chains on an executor's workers, or on those of a Dask cluster.

A chain travels as what a checkpoint would hold of it. A task takes it some seconds further, so that
progress shows, Ctrl-C is heeded, and little is lost with a worker: the chain goes on elsewhere from
the last state that has been fetched, with the same bytes.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from cascadenet.inference.chains import (
    Progress,
    Record,
    Schedule,
    Start,
    advance,
    close_chain,
    open_chain,
    run_together,
)
from cascadenet.inference.checkpoint import Checkpoint, dump, load
from cascadenet.inference.layout import Layout
from cascadenet.inference.sampler import Model
from cascadenet.inference.sharded.cluster import MOVES, POLL, Cargo, send, wait_for_workers

SEGMENT = 10.0  # seconds that a task should take, many times what putting a state away does
FIRST = 2  # sweeps of the first task, which may have to wait for the compiler
FETCH_EVERY = 60.0  # seconds between two states of a chain that are fetched


@dataclass(frozen=True)
class Task:
    """What all tasks of a chain have in common, but for the data.

    Attributes
    ----------
    model : Model
    schedule : Schedule
    start : Start
    run : dict
        What a checkpoint must say to belong to the run.
    """

    model: Model
    schedule: Schedule
    start: Start
    run: dict[str, Any]

    def __call__(self, layout: Cargo, state: bytes | None, sweeps: int) -> bytes:
        """The state of the chain so many sweeps later; ``None`` is before the first."""
        chain, record = open_chain(layout.content, self.model, self.schedule, self.start)
        if state is not None:
            load(chain, record, state)
        for _ in range(sweeps):
            advance(chain, record, self.schedule)
        return dump(chain, record, self.run)


def check_client(client: Any) -> None:
    """Raise TypeError unless a client can run tasks; None is none."""
    if client is not None and not callable(getattr(client, "submit", None)):
        raise TypeError(
            "client must have a method submit, such as dask.distributed.Client; got "
            f"{type(client).__name__}"
        )


def run_remote_chains(
    layout: Layout,
    model: Model,
    schedule: Schedule,
    starts: list[Start],
    *,
    client: Any,
    progress: Progress,
    checkpoints: list[Checkpoint] | None = None,
) -> tuple[list[Record], bool]:
    """Run chains on workers; the result is that of `chains.run_chains`, byte for byte.

    Ctrl-C stops all chains after their current task and keeps what was drawn.

    Parameters
    ----------
    layout : Layout
    model : Model
    schedule : Schedule
    starts : list of Start
    client : dask.distributed.Client or other object with a method ``submit``
        Keeps states on its workers if it is Dask's; to others they travel with every task.
    progress : Progress
    checkpoints : list of Checkpoint, optional
        Written by this process.

    Returns
    -------
    records : list of Record
        One for each chain, in order, or for each that was started before Ctrl-C.
    interrupted : bool

    Raises
    ------
    FormatError
        Data the delay model cannot explain.
    RuntimeError
        All workers of a cluster are lost and none comes back.
    """
    workers = DaskWorkers(client, layout) if hasattr(client, "scatter") else Workers(client, layout)
    saved = checkpoints or [None] * len(starts)
    tasks = [
        (_drive, workers, i, Task(model, schedule, start, file.run if file else {}), progress, file)
        for i, (start, file) in enumerate(zip(starts, saved, strict=True))
    ]
    with ThreadPoolExecutor(len(starts)) as pool:
        return run_together(pool, tasks, progress), progress.stopped


def _drive(
    workers: Workers, number: int, task: Task, progress: Progress, checkpoint: Checkpoint | None
) -> Record:
    """Run one chain."""
    chain, record = open_chain(workers.layout, task.model, task.schedule, task.start)
    here, done = None, 0  # the last state at hand, and how many sweeps had been made
    if checkpoint is not None:
        if checkpoint.restore(chain, record):
            progress.step(chain.n_sweeps)
            done = chain.n_sweeps
        else:
            checkpoint.write(chain, record)
        here = checkpoint.content()
    there, reached, sweeps, losses = here, done, FIRST, 0
    fetched, total = time.monotonic(), task.schedule.sweeps
    while done < total and not (progress.stopped and reached == done):
        try:
            if reached < total and not progress.stopped:
                if 2 * (total - reached) < 3 * sweeps:
                    sweeps = total - reached
                began = time.monotonic()
                there = workers.run(number, task, there, sweeps)
                reached += sweeps
                progress.step(sweeps)
                pace = sweeps * workers.queue(number) / max(time.monotonic() - began, 1e-3)
                sweeps = min(max(int(pace * SEGMENT), 1), 4 * sweeps)
            due = checkpoint is not None and checkpoint.due()
            due = due or time.monotonic() - fetched >= FETCH_EVERY
            if due or reached == total or progress.stopped:
                here = workers.fetch(number, there)
                done, fetched, losses = reached, time.monotonic(), 0
                if checkpoint is not None:
                    checkpoint.save(here)
        except Lost:
            losses += 1
            if losses > MOVES:
                raise RuntimeError(
                    f"a chain was lost {losses} times in a row; expected workers that stay"
                ) from None
            progress.step(done - reached)
            there, reached = here, done
    if here is not None:
        load(chain, record, here)
    return close_chain(chain, record, task.start)


class Lost(Exception):
    """A worker is gone, and what was on it."""


class Workers:
    """An executor that keeps nothing: data and states travel with every task.

    Parameters
    ----------
    client : object with a method ``submit``
    layout : Layout
    """

    def __init__(self, client: Any, layout: Layout) -> None:
        self.client, self.layout = client, layout

    def run(self, number: int, task: Task, state: Any, sweeps: int) -> Any:
        """State of a chain so many sweeps after another, once it is there, to be fetched."""
        return self.client.submit(task, Cargo(self.layout), state, sweeps).result()

    def fetch(self, number: int, state: Any) -> bytes:
        """The state that a chain has reached, brought here."""
        return state

    def queue(self, number: int) -> float:
        """How many times the work of a task it takes until it is done, others being before it."""
        return 1.0


class DaskWorkers(Workers):
    """A Dask cluster: data go to its workers once, and states stay there until they are fetched.

    A chain stays on one worker for as long as that is there.
    """

    def __init__(self, client: Any, layout: Layout) -> None:
        super().__init__(client, layout)
        self._lock = threading.Lock()
        self._data: Any = None
        self._seats: dict[int, str] = {}  # address of each chain's worker

    def run(self, number: int, task: Task, state: Any, sweeps: int) -> Any:
        """See `Workers.run`; raises `Lost`."""
        address = self._seat(number)
        try:
            if isinstance(state, bytes):
                state = send(self.client, state, address)
            future = self.client.submit(
                _take_further,
                task,
                self._sent(address),
                state,
                sweeps,
                workers=[address],
                allow_other_workers=False,
                pure=False,
            )
        except (OSError, TimeoutError):
            raise Lost from None
        self._wait(future, address)
        return future

    def fetch(self, number: int, state: Any) -> bytes:
        """See `Workers.fetch`; raises `Lost`."""
        from distributed import KilledWorker

        # however long it takes: but once its worker is gone, Dask would wait for that for ever
        transfer = asyncio.run_coroutine_threadsafe(
            self.client.gather(state, asynchronous=True), self.client.loop.asyncio_loop
        )
        while not wait([transfer], POLL).done:
            if self._seats[number] not in self.client.nthreads():
                transfer.cancel()
                raise Lost
        try:
            return transfer.result().content
        except (OSError, TimeoutError, CancelledError, KilledWorker):
            raise Lost from None

    def queue(self, number: int) -> float:
        """See `Workers.queue`."""
        with self._lock:
            address = self._seats[number]
            chains = list(self._seats.values()).count(address)
        return max(chains / self.client.nthreads().get(address, 1), 1.0)

    def _seat(self, number: int) -> str:
        """Address of a chain's worker, another where the old one is lost."""
        alive = wait_for_workers(self.client)
        with self._lock:
            if self._seats.get(number) not in alive:
                taken = [address for chain, address in self._seats.items() if chain != number]
                self._seats[number] = min(alive, key=taken.count)
            return self._seats[number]

    def _sent(self, address: str) -> Any:
        """Future of the data, on this worker or on one where it can get them."""
        with self._lock:
            if self._data is None or self._data.status != "finished":
                self._data = send(self.client, self.layout, address)
            return self._data

    def _wait(self, future: Any, address: str) -> None:
        """Until a task is done; raises what it raised, `Lost` if it never will be."""
        from distributed import KilledWorker

        while True:
            try:
                error = future.exception(timeout=POLL)
            except TimeoutError:
                if future.status == "pending" and address in self.client.nthreads():
                    continue
                raise Lost from None
            except CancelledError:
                raise Lost from None
            if isinstance(error, (KilledWorker, CancelledError, OSError)):
                raise Lost
            if error is not None:
                raise error
            return


def _take_further(task: Task, layout: Cargo, state: Cargo | None, sweeps: int) -> Cargo:
    """What a Dask worker runs."""
    return Cargo(task(layout, None if state is None else state.content, sweeps))
