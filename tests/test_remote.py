"""Whole chains on workers: the bytes of a run in one process, whatever becomes of the workers.

Those of a Dask cluster are in test_cluster.py.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import cascadenet as cn
from cascadenet.cascades import Cascades
from cascadenet.inference import remote
from cascadenet.inference.chains import Progress, Record, Schedule, run_chains
from cascadenet.inference.checkpoint import open_checkpoints
from cascadenet.inference.remote import run_remote_chains
from tests.sharded_runs import KINDS, problem, same, some_cascades

LONG = Schedule(8, 24, 3, 4)
TREE = {"likelihood": "tree"}


@pytest.fixture(scope="module")
def data(seed: int) -> Cascades:
    return some_cascades(seed)


def quiet() -> Progress:
    return Progress(1, show=False)


def at_home(data: Cascades, kind: str, **settings: Any) -> list[Record]:
    given = problem(data, kind, schedule=LONG, **settings)
    return run_chains(*given, n_jobs=1, progress=quiet())[0]


@pytest.mark.parametrize("kind", [*KINDS, "tree"])
def test_threads_of_an_executor(data: Cascades, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """In many tasks, each of which starts from the state that the last one left."""
    monkeypatch.setattr(remote, "SEGMENT", 1e-3)
    settings = TREE if kind == "tree" else {}
    kind = "weibull" if kind == "tree" else kind
    given = problem(data, kind, schedule=LONG, **settings)
    with ThreadPoolExecutor(2) as pool:
        found, interrupted = run_remote_chains(*given, client=pool, progress=quiet())
    assert not interrupted
    assert same(found, at_home(data, kind, **settings))


def test_pool_of_processes(data: Cascades) -> None:
    given = problem(data, "survival", schedule=LONG)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        found, _ = run_remote_chains(*given, client=pool, progress=quiet())
    assert same(found, at_home(data, "survival"))


class Counting(Executor):
    """Runs a task where it is handed in; loses some, and can be told to stop."""

    def __init__(self, lost: set[int] = frozenset(), stop: int = -1, bar: Any = None) -> None:
        self.lost, self.stop, self.bar = lost, stop, bar
        self.tasks = 0

    def submit(self, function: Any, *args: Any) -> Future[Any]:
        self.tasks += 1
        if self.tasks in self.lost:
            raise remote.Lost
        if self.tasks == self.stop:
            self.bar.stopped = True
        future: Future[Any] = Future()
        future.set_result(function(*args))
        return future


class Bar(Progress):
    """Adds up what it is told."""

    def __init__(self) -> None:
        super().__init__(1, show=False)
        self.steps: list[int] = []

    def step(self, sweeps: int = 1) -> None:
        self.steps.append(sweeps)


@pytest.mark.parametrize("every", [0.0, 1e9], ids=["each state fetched", "none fetched"])
def test_tasks_that_are_lost(data: Cascades, monkeypatch: pytest.MonkeyPatch, every: float) -> None:
    """The chain goes on from what has been fetched, and the bar goes back to it."""
    monkeypatch.setattr(remote, "SEGMENT", 1e-6)
    monkeypatch.setattr(remote, "FETCH_EVERY", every)
    client, bar = Counting(lost={1, 9, 10, 25}), Bar()
    given = problem(data, "survival", n_chains=1, schedule=LONG)
    found, _ = run_remote_chains(*given, client=client, progress=bar)
    assert same(found, run_chains(*given, n_jobs=1, progress=quiet())[0])
    assert sum(bar.steps) == LONG.sweeps
    again = -sum(step for step in bar.steps if step < 0)
    assert (again > 0) == (every > 0.0)
    assert client.tasks > 25


def test_workers_that_never_stay(data: Cascades) -> None:
    given = problem(data, "survival", n_chains=1, schedule=LONG)
    with pytest.raises(RuntimeError, match="a chain was lost 11 times in a row"):
        run_remote_chains(*given, client=Counting(lost=set(range(100))), progress=quiet())


@pytest.mark.parametrize("stop", [3, 15])
def test_a_stop_keeps_what_was_drawn(
    data: Cascades, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Before and after the first draw: the beginning of the chain that was not stopped."""
    monkeypatch.setattr(remote, "SEGMENT", 1e-6)
    bar = quiet()
    given = problem(data, "survival", n_chains=1, schedule=LONG)
    client = Counting(stop=stop, bar=bar)
    (found,), interrupted = run_remote_chains(*given, client=client, progress=bar)
    assert interrupted
    assert client.tasks == stop
    whole = at_home(data, "survival")[0].scalars["log_joint"]
    assert found.draws == max(remote.FIRST + stop - 1 - LONG.tune, 0)
    assert found.scalars["log_joint"].tobytes() == whole[: found.draws].tobytes()


def test_checkpoints(data: Cascades, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped on workers goes on at home, and the other way round."""
    monkeypatch.setattr(remote, "SEGMENT", 1e-6)
    given = problem(data, "background", schedule=LONG)
    whole = run_chains(*given, n_jobs=1, progress=quiet())[0]

    def files(resume: bool) -> Any:
        return open_checkpoints(tmp_path / "saved", {"seed": 1}, 2, 0.0, resume)

    bar = quiet()
    with ThreadPoolExecutor(1) as pool:
        stopping = Counting(stop=15, bar=bar)
        _, interrupted = run_remote_chains(
            *given, client=stopping, progress=bar, checkpoints=files(False)
        )
        assert interrupted
        found, _ = run_chains(*given, n_jobs=1, progress=quiet(), checkpoints=files(True))
        assert same(found, whole)
        found, _ = run_remote_chains(*given, client=pool, progress=quiet(), checkpoints=files(True))
        assert same(found, whole)


def test_the_posterior_does_not_tell_where_it_was_made(data: Cascades, tmp_path: Path) -> None:
    """Nor does the fit of a client that was given no shards."""
    given = {"draws": 6, "tune": 4, "chains": 2, "seed": 3, "progress": False}
    with pytest.warns(UserWarning, match="have not mixed"):
        cn.CoupledHDP().fit(data, **given).posterior_.save(tmp_path / "home.npz")
    with ThreadPoolExecutor(2) as pool, pytest.warns(UserWarning, match="have not mixed"):
        cn.CoupledHDP().fit(data, **given, client=pool).posterior_.save(tmp_path / "away.npz")
    assert (tmp_path / "home.npz").read_bytes() == (tmp_path / "away.npz").read_bytes()


def test_errors_come_through() -> None:
    """Of the data, before anything is sent; of a task, from the worker."""
    times = [0.0, 1e-9, 0.0, 1.0, 0.0, 1.0]
    near = Cascades.from_arrays(range(3), [0, 2, 4, 6], [0, 1] * 3, times, [2.0] * 3)
    client = Counting()
    with pytest.raises(ValueError, match="no candidate parent of node index 1"):
        run_remote_chains(*problem(near, "powerlaw"), client=client, progress=quiet())
    assert client.tasks == 0

    class Broken(Executor):
        def submit(self, function: Any, *args: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(MemoryError("of a worker"))
            return future

    with pytest.raises(MemoryError, match="of a worker"):
        run_remote_chains(*problem(near, "exponential"), client=Broken(), progress=quiet())


class Silent:
    """A Dask client whose transfers never end; its worker is gone after so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.asyncio_loop = asyncio.new_event_loop()
        self.loop = self  # as Dask has it
        self.thread = threading.Thread(target=self.asyncio_loop.run_forever)
        self.cancelled = threading.Event()

    def nthreads(self) -> dict[str, int]:
        self.looks -= 1
        return {"a": 1} if self.looks >= 0 else {"b": 1}

    async def gather(self, state: Any, asynchronous: bool) -> Any:
        assert asynchronous
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


@pytest.mark.parametrize("looks", [0, 3])
def test_state_lost_while_it_is_fetched(monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    """Dask would wait for the worker to come back."""
    monkeypatch.setattr(remote, "POLL", 0.01)
    client = Silent(looks)
    workers = remote.DaskWorkers(client, None)
    workers._seats[0] = "a"
    client.thread.start()
    try:
        with pytest.raises(remote.Lost):
            workers.fetch(0, object())
        assert client.looks == -1
        assert client.cancelled.wait(10.0)
    finally:
        client.asyncio_loop.call_soon_threadsafe(client.asyncio_loop.stop)
        client.thread.join()
        client.asyncio_loop.close()
