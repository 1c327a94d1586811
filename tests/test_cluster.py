"""Chains on a Dask cluster, whole or in shards: the bytes of one process, even if workers die.

Clusters listen on the loopback interface only and have no dashboard.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cascadenet.cascades import Cascades
from cascadenet.delays import get_delay
from cascadenet.inference import remote
from cascadenet.inference.chains import Progress, Record, Schedule, run_chains
from cascadenet.inference.layout import build_layout
from cascadenet.inference.remote import run_remote_chains
from cascadenet.inference.sampler import Model
from cascadenet.inference.sharded import cluster as clusters
from cascadenet.inference.sharded.hosts import Plan
from cascadenet.inference.sharded.pieces import shard_bounds
from tests.sharded_runs import KINDS, problem, run, same, some_cascades

distributed = pytest.importorskip("distributed", reason="needs the extra dask: distributed")
dask = pytest.importorskip("dask", reason="needs the extra dask: distributed")

LONG = Schedule(8, 16, 3, 4)
pytestmark = pytest.mark.filterwarnings("ignore:Port 8787")  # of the scheduler's health page


@pytest.fixture(scope="module", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of Dask's is left behind in the folder for temporary files."""
    folder = str(tmp_path_factory.mktemp("scratch"))
    with dask.config.set({"temporary-directory": folder}):
        yield


@pytest.fixture(scope="module")
def data(seed: int) -> Cascades:
    return some_cascades(seed)


@pytest.fixture(scope="module")
def reference(data: Cascades) -> dict[str, list[Record]]:
    return {kind: run(data, kind, schedule=LONG) for kind in KINDS}


def local_cluster(tmp_path: Path, workers: int, processes: bool, threads: int = 1) -> Any:
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=threads,
        processes=processes,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address=None,
        local_directory=str(tmp_path),
        silence_logs=logging.CRITICAL,
    )


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two worker processes, which come back when they are killed."""
    folder = tmp_path_factory.mktemp("dask")
    with local_cluster(folder, 2, True) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes(
    data: Cascades, reference: dict[str, list[Record]], client: Any, kind: str
) -> None:
    assert same(run(data, kind, client=client, schedule=LONG), reference[kind])


@pytest.mark.parametrize(("workers", "threads"), [(1, 1), (1, 3), (3, 1), (4, 2)])
def test_any_number_of_workers(
    data: Cascades, reference: dict[str, list[Record]], tmp_path: Path, workers: int, threads: int
) -> None:
    """More workers than shards, too; and a client that nothing else refers to as the default."""
    with (
        local_cluster(tmp_path, workers, False, threads) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        found = run(data, "background", client=client, schedule=LONG)
    assert same(found, reference["background"])


class Killer(Progress):
    """Kills the process of a worker that holds shards when so many sweeps are done."""

    def __init__(self, client: Any, sweeps: set[int]) -> None:
        super().__init__(1, show=False)
        self.pids = client.run(os.getpid)
        self.client, self.sweeps, self.done, self.killed = client, sorted(sweeps), 0, []
        self._counting = threading.Lock()

    def step(self, sweeps: int = 1) -> None:
        with self._counting:
            self.done += sweeps
            if self.sweeps and self.done >= self.sweeps[0]:
                del self.sweeps[0]
                address, pid = sorted(self.pids.items())[len(self.killed)]
                self.killed.append(address)
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("every", [4, 1000], ids=["snapshots", "from the start"])
def test_killed_workers(
    data: Cascades,
    reference: dict[str, list[Record]],
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
    every: int,
) -> None:
    """One dies while tuning, the other while draws are recorded; two chains run at the time."""
    monkeypatch.setattr(clusters, "SAVE_EVERY", every)
    monkeypatch.setattr(clusters, "POLL", 0.1)
    built: list[str] = []
    submit = client.submit

    def counted(function: Any, *args: Any, **options: Any) -> Any:
        built.extend(options["workers"])
        return submit(function, *args, **options)

    monkeypatch.setattr(client, "submit", counted)
    client.wait_for_workers(2)
    killer = Killer(client, {6, 35})
    found = run(data, "survival", client=client, schedule=LONG, progress=killer)
    assert len(killer.killed) == 2
    assert len(built) >= 2 * 2 + 2 * 2  # two groups of two chains, and what was lost again
    assert not set(killer.killed) & set(client.nthreads())
    assert same(found, reference["survival"])


@pytest.mark.parametrize("kind", ["survival", "background", "tree"])
def test_whole_chains(data: Cascades, client: Any, kind: str) -> None:
    settings = {"likelihood": "tree"} if kind == "tree" else {}
    given = problem(data, "weibull" if kind == "tree" else kind, schedule=LONG, **settings)
    found, _ = run_remote_chains(*given, client=client, progress=Progress(1, show=False))
    assert same(found, run_chains(*given, n_jobs=1, progress=Progress(1, show=False))[0])


@pytest.mark.parametrize("every", [0.0, 1e9], ids=["fetched", "from the start"])
def test_whole_chains_of_killed_workers(
    data: Cascades, client: Any, monkeypatch: pytest.MonkeyPatch, every: float
) -> None:
    """Both die, one after the other; data and states go to those that come in their place."""
    for name, value in {"SEGMENT": 1e-6, "FETCH_EVERY": every, "POLL": 0.1}.items():
        monkeypatch.setattr(remote, name, value)
    client.wait_for_workers(2)
    killer = Killer(client, {6, 35})
    given = problem(data, "survival", n_chains=3, schedule=LONG)
    found, _ = run_remote_chains(*given, client=client, progress=killer)
    assert len(killer.killed) == 2
    assert not set(killer.killed) & set(client.nthreads())
    assert same(found, run_chains(*given, n_jobs=1, progress=Progress(1, show=False))[0])
    assert killer.done == 3 * LONG.sweeps


class Roll:
    """A client that only says which workers there are."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    def nthreads(self) -> dict[str, int]:
        return dict.fromkeys(self.addresses, 1)


def test_groups_are_spread(data: Cascades) -> None:
    """Over survivors after a loss, and over workers that come back."""
    layout = build_layout(data)
    bounds = shard_bounds(layout, 8)
    plan = Plan(layout, bounds, Model(get_delay("exponential")), LONG)
    client = Roll("a", "b", "c")
    cluster = clusters.Cluster(client, plan)
    assert [len(group) for group in cluster.groups] == [2, 3, 3]
    assert [s for group in cluster.groups for s in group] == list(range(8))
    client.addresses = ("a", "c")
    assert cluster.move(1, "b") == "a"
    assert cluster.move(1, "b") == "a"  # another chain finds the same
    client.addresses = ("c",)
    cluster.move(0, "a")
    cluster.move(1, "a")
    assert cluster.addresses == ["c", "c", "c"]
    client.addresses = ("c", "d", "e", "f")
    cluster.spread()
    assert sorted(cluster.addresses) == ["c", "d", "e"]
    settled = list(cluster.addresses)
    cluster.spread()
    assert cluster.addresses == settled


def test_chains_are_spread(data: Cascades) -> None:
    """And stay where they are until their worker is lost."""
    client = Roll("a", "b")
    workers = remote.DaskWorkers(client, build_layout(data))
    assert [workers._seat(chain) for chain in range(3)] == ["a", "b", "a"]
    assert [workers.queue(chain) for chain in range(3)] == [2.0, 1.0, 2.0]
    client.addresses = ("b", "c")
    assert [workers._seat(chain) for chain in (2, 1, 0)] == ["c", "b", "b"]
    client.addresses = ("a", "b", "c")
    assert [workers._seat(chain) for chain in range(3)] == ["b", "b", "c"]


def test_stale_shards_are_noticed(data: Cascades, client: Any) -> None:
    """A message too many or too few is an error, not another chain."""
    resident = object.__new__(clusters.Resident)
    resident._version, resident._shards, resident._threads = 3, [], 1
    assert resident.visit(3, [], None) == []
    with pytest.raises(clusters.StaleShards, match="message 3 came to shards that wait for 4"):
        resident.visit(3, [], None)


def test_errors_come_through(client: Any) -> None:
    """Of the data, from the worker where they arise."""
    times = [0.0, 1e-9, 0.0, 1.0, 0.0, 1.0]
    near = Cascades.from_arrays(range(3), [0, 2, 4, 6], [0, 1] * 3, times, [2.0] * 3)
    with pytest.raises(ValueError, match="no candidate parent of node index 1"):
        run(near, "powerlaw", client=client)


def test_no_workers_left(data: Cascades, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "PATIENCE", 0.2)
    monkeypatch.setattr(clusters, "POLL", 0.1)
    with local_cluster(tmp_path, 0, False) as cluster, distributed.Client(cluster) as empty:
        with pytest.raises(RuntimeError, match="client has no workers"):
            run(data, "survival", client=empty)


def test_pool_of_processes(data: Cascades, seed: int) -> None:
    """An executor that has neither memory nor places: shards travel."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        found = run(data, "survival", client=pool)
    assert same(found, run(data, "survival"))
