"""Live edges: when each infected node would transmit to which others, drawn only where needed.

With the rate of a pair integrated out, Gamma(shape s, rate q), the dose H at which it transmits
has survival ``(q / (q + H))^s``: in ``y = log(1 + H / q)`` the pair fires at rate s. So all pairs
of a source are one Poisson process, of which only the few points before the end are drawn. Nothing
is cut: pairs that never met in the data are part of it, by the low rank of their shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cascadenet.inference.forecast import _kernels
from cascadenet.inference.forecast.laws import Laws

BATCH_CELLS = 2**22  # cascades times nodes that are simulated together


class Emitter:
    """Draws what sources do within a longest delay, under one draw of the network.

    Parameters
    ----------
    laws : Laws
    longest : float
        Longest delay of interest, internal unit; may be infinite where the delay model's total
        hazard is finite.

    Raises
    ------
    ValueError
        No finite number of transmissions within ``longest``.
    """

    def __init__(self, laws: Laws, longest: float) -> None:
        index = laws.index
        self.laws = laws
        self.longest = longest
        self.dose_max = float(laws.dose(longest))
        if not np.isfinite(self.dose_max):
            raise ValueError(
                f"within must be finite for the delay {laws.delay.name!r}; got {longest}"
            )
        self.mass = np.empty(laws.shape.size)
        _kernels.firing_mass(index.ptr, laws.shape, laws.rate, self.dose_max, self.mass)
        self._sender_mass = np.cumsum(laws.sender * laws.receiver.sum(axis=0), axis=1)
        self._receiver_mass = np.ascontiguousarray(np.cumsum(laws.receiver, axis=0).T)

    def emit(
        self, source: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Transmissions of each source: pointers, targets, doses since its infection."""
        laws, ptr = self.laws, np.empty(source.size + 1, np.int64)
        target, dose = _kernels.fire(
            source,
            laws.index.ptr,
            laws.index.target,
            laws.rate,
            self.mass,
            laws.node_rate,
            self._sender_mass,
            self._receiver_mass,
            self.dose_max,
            rng,
            ptr,
        )
        return ptr, target, dose

    def emit_ground(
        self, count: int, longest: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the background does in each of so many cascades within ``longest``; its doses are
        times since their start."""
        laws, n = self.laws, self.laws.n_nodes
        whole, ptr = np.array([0, n]), np.empty(count + 1, np.int64)
        mass = np.empty(n)
        _kernels.firing_mass(whole, laws.ground_shape, laws.ground_rate, longest, mass)
        target, dose = _kernels.fire(
            np.zeros(count, np.int32),
            whole,
            np.arange(n, dtype=np.int32),
            laws.ground_rate,
            mass,
            laws.node_rate,
            np.empty((n, 0)),
            np.empty((0, n)),
            longest,
            rng,
            ptr,
        )
        return ptr, target, dose


@dataclass(frozen=True)
class Starts:
    """Infections that cascades start from, and until when they are followed; internal unit.

    Attributes
    ----------
    ptr : int64 array, shape (C + 1,)
        Those of cascade c are ``ptr[c]:ptr[c + 1]``, at least one.
    node : int32 array, shape (I,)
        Sorted by time, then node.
    time : float64 array, shape (I,)
        Since the first one of the cascade.
    now : float64 array, shape (C,)
        Until then nobody else was infected.
    end : float64 array, shape (C,)
    """

    ptr: np.ndarray
    node: np.ndarray
    time: np.ndarray
    now: np.ndarray
    end: np.ndarray

    def part(self, low: int, high: int) -> Starts:
        """Cascades ``low:high``."""
        cut = slice(self.ptr[low], self.ptr[high])
        ptr = self.ptr[low : high + 1] - self.ptr[low]
        chosen = slice(low, high)
        return Starts(ptr, self.node[cut], self.time[cut], self.now[chosen], self.end[chosen])


def simulate(
    laws: Laws, starts: Starts, limit: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cascades from their starts to their ends under one draw, each with rates of its own.

    Parameters
    ----------
    laws : Laws
    starts : Starts
    limit : int
        Infections that a node can act on after its own.
    rng : numpy.random.Generator

    Returns
    -------
    count : int64 array, shape (C,)
        Infections of each cascade, those it started from included.
    node, time : arrays, shape (count.sum(),)
        Flat, by cascade and time; since the first infection, internal unit.
    """
    emitter = Emitter(laws, float(starts.end.max(initial=0.0)))
    size = max(BATCH_CELLS // (laws.n_nodes + 1), 1)
    found = []
    for low in range(0, starts.end.size, size):
        batch = starts.part(low, min(low + size, starts.end.size))
        found.append(_simulate_batch(emitter, batch, limit, rng))
    count, node, time = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return count, node, time


def _simulate_batch(
    emitter: Emitter, starts: Starts, limit: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wave by wave: spread over the arcs known so far, draw those of the newly infected.

    Arcs do not depend on when their source is infected, so the order in which they are drawn
    does not matter; a wave may draw some that turn out to be of no use.
    """
    n_cascades, n_nodes = starts.end.size, emitter.laws.n_nodes
    arcs = _Arcs(n_cascades, n_nodes)
    count = np.empty(n_cascades, np.int64)
    node = np.empty((n_cascades, n_nodes), np.int32)
    time = np.empty((n_cascades, n_nodes))
    if emitter.laws.ground_shape.size:
        if emitter.longest == np.inf:
            raise ValueError("within must be finite for a fit with background=True; got inf")
        ptr, target, wait = emitter.emit_ground(n_cascades, emitter.longest, rng)
        past = wait <= np.repeat(starts.now, np.diff(ptr))
        cascade = np.arange(n_cascades)
        arcs.add(cascade, np.full(n_cascades, n_nodes), ptr, target, np.where(past, np.inf, wait))
    cascade = np.repeat(np.arange(n_cascades), np.diff(starts.ptr))
    source, age = starts.node, starts.now[cascade] - starts.time
    while source.size:
        ptr, target, dose = emitter.emit(source, rng)
        if age is not None:  # those in the prefix have not transmitted to anybody else so far
            dose[dose <= np.repeat(emitter.laws.dose(age), np.diff(ptr))] = np.inf
            age = None
        delay = emitter.laws.delay.inverse_cumulative(dose, emitter.laws.theta)
        arcs.add(cascade, source, ptr, target, delay)
        active = np.unique(cascade)
        _kernels.spread(
            active,
            starts.ptr,
            starts.node,
            starts.time,
            starts.end,
            limit,
            arcs.item_of,
            arcs.ptr,
            arcs.target,
            arcs.delay,
            count,
            node,
            time,
        )
        cascade = np.empty(count[active].sum(), np.int64)
        source = np.empty(cascade.size, np.int32)
        found = _kernels.fresh_sources(active, count, node, arcs.item_of, cascade, source)
        cascade, source = cascade[:found], source[:found]
    inside = np.arange(n_nodes) < count[:, None]
    return count, node[inside], time[inside]


class _Arcs:
    """Arcs drawn so far, item after item; an item is what one node does in one cascade."""

    def __init__(self, n_cascades: int, n_nodes: int) -> None:
        self.item_of = np.full((n_cascades, n_nodes + 1), -1, np.int32)
        self.ptr = np.zeros(1, np.int64)
        self.target = np.empty(0, np.int32)
        self.delay = np.empty(0)

    def add(
        self,
        cascade: np.ndarray,
        source: np.ndarray,
        ptr: np.ndarray,
        target: np.ndarray,
        delay: np.ndarray,
    ) -> None:
        """Items of so many (cascade, source), their arcs given by pointers."""
        self.item_of[cascade, source] = self.ptr.size - 1 + np.arange(source.size)
        self.ptr = np.concatenate((self.ptr, self.ptr[-1] + ptr[1:]))
        self.target = np.concatenate((self.target, target))
        self.delay = np.concatenate((self.delay, delay))
