"""Where shards live when that is this process, or an executor that keeps nothing."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cascadenet.inference.chains import Schedule
from cascadenet.inference.layout import Layout
from cascadenet.inference.sampler import Model
from cascadenet.inference.sharded.pieces import Piece, take_children
from cascadenet.inference.sharded.shard import Network, Order, Shard


@dataclass(frozen=True)
class Plan:
    """How a run is cut into shards.

    Attributes
    ----------
    layout : Layout
        Of all children.
    bounds : int64 array, shape (S + 1,)
        See `pieces.shard_bounds`.
    model : Model
    schedule : chains.Schedule
    """

    layout: Layout
    bounds: np.ndarray
    model: Model
    schedule: Schedule

    @property
    def n_shards(self) -> int:
        """Number of shards S."""
        return self.bounds.size - 1

    def piece(self, shard: int) -> Piece:
        """Layout of one shard."""
        block = int(self.bounds[shard]), int(self.bounds[shard + 1])
        return take_children(self.layout, *block)

    def make(self, shard: int, piece: Piece, seed: np.random.SeedSequence) -> Shard:
        """One shard of the chain of a seed, before its start."""
        block = int(self.bounds[shard]), int(self.bounds[shard + 1])
        rng = np.random.default_rng(shard_seed(seed, shard))
        return Shard(piece, block, self.model, self.schedule, rng)


def shard_seed(seed: np.random.SeedSequence, shard: int) -> np.random.SeedSequence:
    """Seed of one shard of a chain; the chain's own seed is left as it is."""
    key = (*seed.spawn_key, shard)
    return np.random.SeedSequence(seed.entropy, spawn_key=key, pool_size=seed.pool_size)


class Hosts(Protocol):
    """All shards of one chain, wherever they are."""

    def ask(
        self, orders: Sequence[Order], network: Network | None = None, last: bool = False
    ) -> list[list[Any]]:
        """Give every shard a network, where there is a new one, and have orders carried out.

        Parameters
        ----------
        orders : sequence of Order
        network : Network, optional
        last : bool
            Whether the sweep has no more orders: the time for hosts to save what they have.

        Returns
        -------
        list of list
            For each order the replies of all shards, in their order.
        """

    def close(self) -> None:
        """Release what the shards hold."""


def by_order(replies: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Replies of each shard to each order, turned round."""
    return [list(column) for column in zip(*replies, strict=True)]


class LocalHosts:
    """Shards in this process, one after another or on the threads of a pool.

    Parameters
    ----------
    shards : sequence of Shard
    pool : concurrent.futures.Executor, optional
        Its workers must share this process's memory.
    """

    def __init__(self, shards: Sequence[Shard], pool: Executor | None = None) -> None:
        self.shards = list(shards)
        self.pool = pool

    def ask(
        self, orders: Sequence[Order], network: Network | None = None, last: bool = False
    ) -> list[list[Any]]:
        """See `Hosts.ask`."""
        for shard in self.shards if network is not None else ():
            shard.network = network
        if network is not None and self.pool is not None:
            network.prepare(self.pool)
        if self.pool is None:
            return by_order([shard.apply(orders) for shard in self.shards])
        running = [self.pool.submit(shard.apply, orders) for shard in self.shards]
        wait(running)
        return by_order([future.result() for future in running])

    def close(self) -> None:
        """Drop the shards."""
        self.shards = []


class TravellingHosts:
    """Shards that travel to an executor's workers and back with every order.

    For executors that do not say where a task runs, such as a pool of processes. The data of a
    shard travel too, so this suits small data, or workers with shared memory.

    Parameters
    ----------
    shards : sequence of Shard
    executor : object with a method ``submit``
    """

    def __init__(self, shards: Sequence[Shard], executor: Any) -> None:
        self.shards = list(shards)
        self.executor = executor

    def ask(
        self, orders: Sequence[Order], network: Network | None = None, last: bool = False
    ) -> list[list[Any]]:
        """See `Hosts.ask`."""
        for shard in self.shards if network is not None else ():
            shard.network = network
        running: list[Future[Any]] = [
            self.executor.submit(_travel, shard, orders) for shard in self.shards
        ]
        found = [future.result() for future in running]
        self.shards = [shard for shard, _ in found]
        return by_order([replies for _, replies in found])

    def close(self) -> None:
        """Drop the shards."""
        self.shards = []


def _travel(shard: Shard, orders: Sequence[Order]) -> tuple[Shard, list[Any]]:
    """What an executor runs."""
    return shard, shard.apply(orders)
