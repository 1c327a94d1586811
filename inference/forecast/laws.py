"""Laws of the rates given one draw of the network, laid out by source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cascadenet.delays import Delay, get_delay
from cascadenet.inference.forecast import _kernels

if TYPE_CHECKING:
    from cascadenet.posterior import Posterior


@dataclass(frozen=True)
class PairIndex:
    """Listed pairs between nodes, by source and then target.

    Attributes
    ----------
    ptr : int64 array, shape (N + 1,)
        Pairs of node u are ``ptr[u]:ptr[u + 1]``.
    target : int32 array, shape (P,)
    row : int64 array, shape (P,)
        Rows of the pairs among those that the posterior lists.
    ground : int64 array, shape (N,) or (0,)
        Rows of the background, by node; empty without one.
    """

    ptr: np.ndarray
    target: np.ndarray
    row: np.ndarray
    ground: np.ndarray


def index_by_source(posterior: Posterior) -> PairIndex:
    """Index of the pairs that a posterior lists."""
    source, target = posterior.pair_source, posterior.pair_target
    order = np.lexsort((target, source))
    row = order[np.searchsorted(source[order], 0) :]  # the background has source -1
    ptr = np.zeros(posterior.n_nodes + 1, np.int64)
    np.cumsum(np.bincount(source[row], minlength=posterior.n_nodes), out=ptr[1:])
    ground = order[: order.size - row.size]
    return PairIndex(ptr, target[row].astype(np.int32), row, ground)


@dataclass(frozen=True)
class Laws:
    """Gamma law of every rate given one draw; times and rates in the internal unit.

    A listed pair has ``shape`` r + c + n and ``rate`` b + E. A pair that is not listed has shape
    ``sum_k sender[u, k] receiver[v, k]`` and rate ``node_rate[u]``; the flat prior is the case of
    one column.

    Attributes
    ----------
    index : PairIndex
    shape, rate : float64 array, shape (P,)
    sender, receiver : float64 array, shape (N, K)
        ``sender`` carries Lambda and the weights of the communities.
    node_mass, node_rate : float64 array, shape (N,)
        Sum of the shapes of a source's pairs that are not listed, and their rate.
    ground_shape, ground_rate : float64 array, shape (N,) or (0,)
        Law of each node's hazard from outside the network; empty without a background.
    delay : Delay
    theta : float64 array
        Delay parameters, internal unit.
    """

    index: PairIndex
    shape: np.ndarray
    rate: np.ndarray
    sender: np.ndarray
    receiver: np.ndarray
    node_mass: np.ndarray
    node_rate: np.ndarray
    ground_shape: np.ndarray
    ground_rate: np.ndarray
    delay: Delay
    theta: np.ndarray

    @property
    def n_nodes(self) -> int:
        """Number of known nodes N."""
        return self.node_rate.size

    def dose(self, delay: np.ndarray | float) -> np.ndarray:
        """Cumulative hazard of delays, internal unit."""
        return self.delay.cumulative(np.asarray(delay, np.float64), self.theta)


def draw_laws(posterior: Posterior, network: dict[str, np.ndarray]) -> Laws:
    """Laws of all rates under one draw.

    For delay models with parameters, exposures are their means over the draws, as everywhere in
    the posterior.
    """
    index, sums = posterior.pairs_by_source, posterior.sums
    sender, receiver = _ends(posterior, network)
    shape = np.empty(index.row.size)
    _kernels.listed_shape(index.ptr, index.target, sender, receiver, shape)
    source = np.repeat(np.arange(posterior.n_nodes), np.diff(index.ptr))
    listed = np.bincount(source, weights=shape, minlength=posterior.n_nodes)
    mass = (sender * (receiver.sum(axis=0) - receiver)).sum(axis=1)
    more = np.zeros(posterior.pair_source.size)
    more[network["used"]] = network["count"]
    carried, exposure = posterior.memory_of(network)
    if carried.size:
        more += carried
    b = float(network["b"])
    return Laws(
        index=index,
        shape=shape + more[index.row],
        rate=exposure[index.row] + b,
        sender=sender,
        receiver=receiver,
        node_mass=np.maximum(mass - listed, 0.0),
        node_rate=sums.node_full + b,
        ground_shape=more[index.ground] + float(network["ground_shape"]),
        ground_rate=sums.exposure[index.ground] + float(network["ground_rate"]),
        delay=get_delay(posterior.settings["delay"]),
        theta=network["theta"],
    )


def _ends(posterior: Posterior, network: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Senders, with Lambda and weights, and receivers of the known nodes, float64 (N, K)."""
    n, total = posterior.n_nodes, float(network["total"])
    if network["weight"].size == 0:
        return np.full((n, 1), total / max(n - 1, 1)), np.full((n, 1), 1.0 / n)
    weight = total * network["weight"].astype(np.float64)
    sender = network["sender"][:n].astype(np.float64) * weight
    return sender, network["receiver"][:n].astype(np.float64)


def all_laws(posterior: Posterior, draws: int | None = None) -> Iterator[Laws]:
    """Laws under each draw, or under so many, evenly spaced among them."""
    for i in spaced(len(posterior.networks), draws):
        yield draw_laws(posterior, posterior.networks[i])


def spaced(n_networks: int, count: int | None) -> np.ndarray:
    """``count`` indices among the draws, evenly spaced, repeated in blocks where there are more."""
    count = n_networks if count is None else count
    return np.arange(count) * n_networks // max(count, 1)


def require_survival(posterior: Posterior, name: str) -> None:
    """Raise where a method needs the survival likelihood."""
    if posterior.settings["likelihood"] != "survival":
        raise ValueError(f"{name} needs likelihood='survival'; got 'tree'")
