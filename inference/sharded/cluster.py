"""Shards on the workers of a Dask cluster, rebuilt elsewhere when a worker is lost.

A worker keeps its shards between two orders, as an actor, which is one message each way without
the scheduler's queues. Dask can neither move an actor nor compute it anew, so the coordinator keeps
what it takes: a snapshot of every shard, taken now and then, and all orders since. A shard is a
function of these alone, so it goes on elsewhere with the same bytes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from cascadenet.inference.sharded.hosts import Plan, by_order
from cascadenet.inference.sharded.shard import Network, Order, Shard

SAVE_EVERY = 20  # sweeps between two snapshots
LOG_BYTES = 1 << 29  # of networks since the last snapshot; it is taken early when there are more
POLL = 1.0  # seconds between two looks at whether a worker is still there
PATIENCE = 60.0  # seconds to wait for any worker when all are lost
MOVES = 10  # losses of one group during one round trip after which something else is wrong


@dataclass(frozen=True)
class Cargo:
    """Data on their way to a worker; Dask takes containers apart, but not this."""

    content: Any


@dataclass(frozen=True)
class Part:
    """A network as one group of shards needs it: all senders, and the receivers of its children.

    Attributes
    ----------
    weight, sender : float64 arrays
        See `Network`.
    rows : float64 array, shape (n, K)
        Receivers ``first, first + 1, ...``.
    first : int
    """

    weight: np.ndarray
    sender: np.ndarray
    rows: np.ndarray
    first: int

    def unpack(self) -> Network:
        """The network; rows of other shards take no memory until they are touched."""
        receiver = np.zeros_like(self.sender)
        receiver[self.first : self.first + self.rows.shape[0]] = self.rows
        return Network(self.weight, self.sender, receiver)


def connect(address: str) -> Any:
    """Client of the Dask scheduler at an address, such as ``tcp://10.0.0.1:8786``; a context.

    Raises
    ------
    ValueError
        Dask is not installed.
    OSError
        No scheduler answers there.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ValueError(
            "a Dask cluster needs the extra dask; got none installed, expected "
            "pip install 'cascadenet[dask]'"
        ) from None
    try:
        return Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise OSError(
            f"address must be that of a running Dask scheduler, such as tcp://10.0.0.1:8786; got "
            f"{address!r} ({error})"
        ) from None


def send(client: Any, content: Any, address: str) -> Any:
    """Future of data put on one worker, without a detour where that is possible.

    Raises
    ------
    OSError
        The worker is gone.
    TimeoutError
        It does not answer.
    """
    given = {"workers": [address], "hash": False, "timeout": 5.0}
    try:
        return client.scatter(Cargo(content), direct=True, **given)
    except (OSError, TimeoutError, ValueError):  # the last where none of the workers is known
        if address not in client.nthreads():
            raise OSError(f"the worker {address} is gone") from None
        return client.scatter(Cargo(content), direct=False, **given)


def wait_for_workers(client: Any) -> list[str]:
    """Addresses of a cluster's workers, of which there must be one before long."""
    end = time.monotonic() + PATIENCE
    while not (found := sorted(client.nthreads())):
        if time.monotonic() > end:
            raise RuntimeError(
                f"client has no workers; expected at least one within {PATIENCE:.0f} seconds"
            )
        time.sleep(POLL)
    return found


class StaleShards(RuntimeError):
    """A worker holds shards in another state than the coordinator believes."""


class Resident:
    """Consecutive shards of one chain on a worker, an actor.

    Built from their seed, or from snapshots, and then through the messages that followed.

    Parameters
    ----------
    plan : Plan
        Without its layout.
    group : range
        Numbers of the shards.
    pieces : Cargo
        Their layouts.
    seed : numpy.random.SeedSequence
        Of the chain.
    saved : Cargo
        Number of messages before the snapshots, these, none at the start of the chain, and the
        messages since.
    threads : int
        How many shards to work on at the same time.
    """

    def __init__(
        self,
        plan: Plan,
        group: range,
        pieces: Cargo,
        seed: np.random.SeedSequence,
        saved: Cargo,
        threads: int,
    ) -> None:
        self._version, snapshots, log = saved.content
        self._threads = min(threads, len(group))
        self._shards: list[Shard] = [
            plan.make(shard, piece, seed)
            for shard, piece in zip(group, pieces.content, strict=True)
        ]
        for shard, snapshot in zip(self._shards, snapshots, strict=bool(snapshots)):
            shard.restore(snapshot)
        for orders, part in log:
            self.visit(self._version, orders, part)

    def visit(self, version: int, orders: Sequence[Order], part: Part | None) -> list[list[Any]]:
        """Carry out one message, which must be the next; replies of each shard."""
        if version != self._version:
            raise StaleShards(f"message {version} came to shards that wait for {self._version}")
        self._version += 1
        network = None if part is None else part.unpack()
        for shard in self._shards if network is not None else ():
            shard.network = network
        if self._threads == 1:
            return [shard.apply(orders) for shard in self._shards]
        with ThreadPoolExecutor(self._threads) as pool:
            if network is not None:
                network.prepare(pool)
            return list(pool.map(lambda shard: shard.apply(orders), self._shards))


class Cluster:
    """The workers of a client, and which group of shards is where. A context.

    Shards form one group a worker, as many as there are at the start.

    Parameters
    ----------
    client : dask.distributed.Client
    plan : Plan
    """

    def __init__(self, client: Any, plan: Plan) -> None:
        self.client, self.plan = client, plan
        self.light = replace(plan, layout=None)  # what workers get of it
        addresses = wait_for_workers(client)
        ends = np.linspace(0, plan.n_shards, min(len(addresses), plan.n_shards) + 1).astype(int)
        self.groups = [range(a, b) for a, b in pairwise(ends.tolist())]
        self.addresses = addresses[: len(self.groups)]
        self._pieces: dict[int, tuple[str, Any]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._pieces.clear()

    def open_hosts(self, seed: np.random.SeedSequence) -> ClusterHosts:
        """Hosts of the chain of a seed."""
        return ClusterHosts(self, seed)

    def alive(self) -> dict[str, int]:
        """Threads of each worker."""
        return dict(self.client.nthreads())

    def pieces(self, group: int, address: str) -> Any:
        """Future of the layouts of a group on a worker; all chains share them."""
        with self._lock:
            known = self._pieces.get(group)
            if known is None or known[0] != address or known[1].status != "finished":
                layouts = [self.plan.piece(shard) for shard in self.groups[group]]
                known = self._pieces[group] = (address, send(self.client, layouts, address))
            return known[1]

    def move(self, group: int, lost: str) -> str:
        """Where a group goes on that was on a lost worker; all chains agree."""
        alive = wait_for_workers(self.client)
        with self._lock:
            if self.addresses[group] == lost:
                loads = {address: self.addresses.count(address) for address in alive}
                self.addresses[group] = min(alive, key=lambda address: loads[address])
            return self.addresses[group]

    def spread(self) -> None:
        """Give idle workers, such as those that have come back, groups of those that have more."""
        alive = self.alive()
        with self._lock:
            for idle in sorted(set(alive) - set(self.addresses)):
                busiest = max(self.addresses, key=self.addresses.count)
                if self.addresses.count(busiest) > 1:
                    self.addresses[self.addresses.index(busiest)] = idle


@dataclass
class _Seat:
    """Where a group of one chain is: the task that builds its actor there, and the actor."""

    address: str
    built: Any
    actor: Any = None


class ClusterHosts:
    """All shards of one chain on a cluster.

    Parameters
    ----------
    cluster : Cluster
    seed : numpy.random.SeedSequence
        Of the chain.
    """

    def __init__(self, cluster: Cluster, seed: np.random.SeedSequence) -> None:
        self.cluster, self.seed = cluster, seed
        self._seats: dict[int, _Seat] = {}
        self._version, self._sweeps = 0, 0
        self._snapshots: list[Any] = []
        self._log: list[tuple[Sequence[Order], Network | None]] = []  # since the snapshots

    def ask(
        self, orders: Sequence[Order], network: Network | None = None, last: bool = False
    ) -> list[list[Any]]:
        """See `Hosts.ask`."""
        self._sweeps += last
        size = sum(n.sender.nbytes + n.receiver.nbytes for _, n in self._log if n is not None)
        save = last and (self._sweeps >= SAVE_EVERY or size > LOG_BYTES)
        self._log.append(([*orders, ("snapshot", {})] if save else orders, network))
        groups = range(len(self.cluster.groups))
        with self.cluster.client.as_current():  # actors look for it
            for group in groups:
                self._build(group)
            sent = [self._send(group) for group in groups]
            found = [self._reply(group, sent[group]) for group in groups]
        replies = by_order([shard for group in found for shard in group])
        if save:
            self._snapshots = replies.pop()
            self._version += len(self._log)
            self._log, self._sweeps = [], 0
            self._move_along()
        return replies

    def close(self) -> None:
        """Let workers forget the shards."""
        self._seats.clear()

    def _move_along(self) -> None:
        """Leave crowded workers; nothing is as cheap to rebuild as what has just been saved."""
        self.cluster.spread()
        for group, address in enumerate(self.cluster.addresses):
            if self._seats[group].address != address:
                del self._seats[group]

    def _build(self, group: int) -> None:
        """Have a group built on its worker, up to the last message but one, unless it is there."""
        if group in self._seats:
            return
        cluster, shards = self.cluster, self.cluster.groups[group]
        address = cluster.addresses[group]
        log = [(orders, self._part(group, network)) for orders, network in self._log[:-1]]
        snapshots = self._snapshots[shards.start : shards.stop]
        try:
            built = cluster.client.submit(
                Resident,
                cluster.light,
                shards,
                cluster.pieces(group, address),
                self.seed,
                send(cluster.client, (self._version, snapshots, log), address),
                cluster.alive().get(address, 1),
                workers=[address],
                allow_other_workers=False,
                pure=False,
                actor=True,
            )
        except (OSError, TimeoutError):
            built = None  # no way to the worker
        self._seats[group] = _Seat(address, built)

    def _send(self, group: int) -> Any:
        """Future of the replies to the last message; None where the worker is lost."""
        orders, network = self._log[-1]
        seat = self._seats[group]
        try:
            if seat.actor is None:
                seat.actor = self._wait(seat, seat.built)
            visit = seat.actor.visit  # raises when the actor is known to be lost
        except (_Lost, RuntimeError) as error:
            if seat.actor is None and not isinstance(error, _Lost):
                raise
            return None
        return visit(self._version + len(self._log) - 1, orders, self._part(group, network))

    def _reply(self, group: int, future: Any) -> list[list[Any]]:
        """Replies of a group, wherever it has to be rebuilt for them."""
        for _ in range(MOVES):
            try:
                return self._wait(self._seats[group], future)
            except _Lost:
                self.cluster.move(group, self._seats.pop(group).address)
                self._build(group)
                future = self._send(group)
        raise RuntimeError(f"shards were lost {MOVES} times in a row; expected workers that stay")

    def _wait(self, seat: _Seat, future: Any) -> Any:
        """Result of a future of a seat; `_Lost` when it will never come."""
        from distributed import KilledWorker

        while future is not None:
            try:
                return future.result(timeout=POLL)
            except TimeoutError:
                stays = seat.actor is None or seat.built.status == "finished"
                if not stays or seat.address not in self.cluster.alive():
                    break
            except (StaleShards, KilledWorker, OSError, CancelledError):
                break
        raise _Lost

    def _part(self, group: int, network: Network | None) -> Part | None:
        if network is None:
            return None
        shards, bounds = self.cluster.groups[group], self.cluster.plan.bounds
        low, high = bounds[shards.start], bounds[shards.stop]
        end = network.receiver.shape[0] if high == bounds[-1] else high  # the reserve
        return Part(network.weight, network.sender, network.receiver[low:end], int(low))


class _Lost(Exception):
    """A worker is gone, and the shards on it."""
