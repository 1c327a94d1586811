"""Cascades with known truth: continuous-time independent cascades on a known network.

Every node infects each of its targets at most once, after a random delay whose hazard is the rate
of the pair times the hazard shape of the delay model; the first to arrive infects. Delays of
different pairs are independent, so each node's arrival is the earliest of competing hazards, and
simulation from event to event is exact. The generators of `cascadenet.networks` are exported here
too.
"""

from __future__ import annotations

import heapq
import math
import numbers
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cascadenet.cascades import Cascades
from cascadenet.delays import Delay, get_delay
from cascadenet.networks import (
    ModelTruth,
    community_network,
    from_networkx,
    kronecker_network,
    model_network,
    network_columns,
    number_pair,
    rates_at,
    vary_rates,
    whole_number,
)
from cascadenet.readers import Label, canonical_labels, label_array, label_texts

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ModelTruth",
    "SimulatedCascades",
    "community_network",
    "from_networkx",
    "kronecker_network",
    "model_network",
    "rates_at",
    "simulate_cascades",
    "vary_rates",
]

# How an infection came about; the order settles ties in the heap (given seeds share their time).
SEED, EXTERNAL, EDGE = 0, 1, 2
_KINDS = np.array(["seed", "external", "edge"], dtype=object)

# Given seeds of one cascade: (delay after the start of the cascade, node index).
SeedList = list[tuple[float, int]]


@dataclass(frozen=True)
class SimulatedCascades:
    """Cascades and who infected whom in them.

    Attributes
    ----------
    cascades : Cascades
        The record. Cascades are labelled by their number, so that the missing labels are the
        cascades that left no observed infection.
    parents : pandas.DataFrame
        Columns cascade, node, parent, time, kind, one row for each infection, in the order of
        ``cascades.to_frame()``. ``kind`` is ``"seed"``, ``"external"`` or ``"edge"``, and
        ``parent`` is missing for the first two. A parent may be a node that is not observed.
    """

    cascades: Cascades
    parents: pd.DataFrame

    def transmissions(self) -> pd.DataFrame:
        """Pairs that an infection went along: source, target, n, sorted by the first two.

        This, not the network, is what an edge's ``prob`` is the probability of: an edge may
        never have had the occasion.
        """
        carried = self.parents[self.parents["kind"] == "edge"]
        pairs = carried.rename(columns={"parent": "source", "node": "target"})
        pairs = pairs.astype({"source": pairs["target"].dtype})
        return pairs.groupby(["source", "target"]).size().rename("n").reset_index()


def simulate_cascades(
    network: pd.DataFrame,
    n_cascades: int,
    *,
    nodes: Iterable[Hashable] | None = None,
    delay: str | Delay = "exponential",
    theta: ArrayLike | None = None,
    horizon: ArrayLike | None = None,
    window: float | None = None,
    start: tuple[float, float] = (0.0, 0.0),
    seeds: str | Sequence[Any] | Mapping[Hashable, float] = "random",
    n_seeds: int = 1,
    background: float = 0.0,
    unobserved: Iterable[Hashable] = (),
    seed: int | np.random.Generator | None = None,
) -> SimulatedCascades:
    """Simulate independent cascades and keep who infected whom.

    Parameters
    ----------
    network : pandas.DataFrame
        Columns source, target, rate; with a column start a rate holds from then until the next
        start of the pair, and is zero before the first.
    n_cascades : int
    nodes : iterable of int or str, optional
        The universe, nodes without an edge included. By default ``network.attrs["nodes"]``, which
        the generators and `cascadenet.read_network` set; without it the nodes that have an edge.
    delay : str or Delay
        Delay model.
    theta : array_like, optional
        Its parameters in the user's unit; by default the start values of the model.
    horizon : float or array_like, shape (n_cascades,), optional
        Absolute end of observation, of all or of each cascade.
    window : float, optional
        End of observation, counted from the first infection of the cascade. At least one of
        ``horizon`` and ``window`` must be given; of both the earlier counts.
    start : (float, float)
        Range of the uniform distribution of the starting times.
    seeds : "random", sequence or mapping
        ``"random"``: ``n_seeds`` nodes, uniform without replacement. A sequence of labels: these in
        every cascade. A mapping from labels to delays after the start: these, then, unless they
        were infected before. A sequence of sequences or mappings: one for each cascade.
    n_seeds : int
        Number of random seeds of each cascade.
    background : float
        Hazard at which a source outside of the network infects each node, per unit time, from the
        first infection of the cascade on.
    unobserved : iterable of int or str
        Nodes that take part but are in neither the record nor its universe.
    seed : int, numpy.random.Generator or None
        Determines every byte. Cascade i has a stream of its own, whatever ``n_cascades``.

    Returns
    -------
    SimulatedCascades

    Raises
    ------
    ValueError
        If an argument is out of range, names an unknown node, or no infection would be observed.
    """
    model = get_delay(delay)
    parameters = model.check_parameters(theta)
    n_cascades = whole_number("n_cascades", n_cascades, 1)
    source, target, rate, piece_start = network_columns(network)
    labels = _read_universe(network, nodes, [*source, *target])
    index = {str(label): i for i, label in enumerate(labels)}
    ends = _indices("network", source, index), _indices("network", target, index)
    edges = _out_edges(len(labels), *ends, rate, piece_start, model, parameters)
    low, high = number_pair("start", start)
    horizons, window = _read_observation(horizon, window, n_cascades, high)
    if not (isinstance(background, numbers.Real) and 0.0 <= background < math.inf):
        raise ValueError(f"background must be finite and not negative; got {background!r}")
    draw_seeds = _read_seeds(seeds, n_seeds, n_cascades, index)
    hidden = np.isin(np.arange(len(labels)), _indices("unobserved", unobserved, index))

    record = _Record()
    for i, child in enumerate(np.random.default_rng(seed).bit_generator.seed_seq.spawn(n_cascades)):
        rng = np.random.default_rng(child)
        begin = rng.uniform(low, high)
        given = sorted((begin + wait, node) for wait, node in draw_seeds(rng, i))
        end = min(horizons[i], given[0][0] + window)
        outside = _external_events(rng, background, len(labels), given[0][0], end)
        _run_cascade(rng, edges, given, outside, end, record)
        record.close(end)
    return record.result(labels, hidden)


class _OutEdges(Protocol):
    """Out-edges of every node, ready for drawing arrival times.

    ``targets[u]`` lists node indices, and ``arrivals(rng, u, time, end)`` draws when each of them
    would be infected by u, itself infected at ``time``; what lies beyond ``end`` is not used.
    """

    targets: list[list[int]]

    def arrivals(
        self, rng: np.random.Generator, node: int, time: float, end: float
    ) -> list[float]: ...


def _out_edges(
    n_nodes: int,
    u: NDArray[np.int64],
    v: NDArray[np.int64],
    rate: NDArray[np.float64],
    start: NDArray[np.float64] | None,
    model: Delay,
    theta: NDArray[np.float64],
) -> _OutEdges:
    """Out-edges of a network whose rates are constant (``start`` is None) or vary."""
    if start is None:
        return _ConstantEdges(n_nodes, u, v, rate, model, theta)
    return _VaryingEdges(n_nodes, u, v, rate, start, model, theta)


class _ConstantEdges:
    """Out-edges with constant rates: the delay solves rate * H(D) = a standard exponential."""

    def __init__(
        self,
        n_nodes: int,
        u: NDArray[np.int64],
        v: NDArray[np.int64],
        rate: NDArray[np.float64],
        model: Delay,
        theta: NDArray[np.float64],
    ) -> None:
        order = np.lexsort((v, u))
        order = order[rate[order] > 0]
        cut = np.searchsorted(u[order], np.arange(1, n_nodes))
        self.targets = [part.tolist() for part in np.split(v[order], cut)]
        self._scale = np.split(1.0 / rate[order], cut)
        self._inverse = model.inverse_cumulative
        self._theta = theta

    def arrivals(self, rng: np.random.Generator, node: int, time: float, end: float) -> list[float]:
        scale = self._scale[node]
        delay = self._inverse(rng.standard_exponential(scale.size) * scale, self._theta)
        return (time + delay).tolist()


class _VaryingEdges:
    """Out-edges with piecewise constant rates: the integrated hazard is inverted across pieces."""

    def __init__(
        self,
        n_nodes: int,
        u: NDArray[np.int64],
        v: NDArray[np.int64],
        rate: NDArray[np.float64],
        start: NDArray[np.float64],
        model: Delay,
        theta: NDArray[np.float64],
    ) -> None:
        order = np.lexsort((start, v, u))
        u, v, rate, start = u[order], v[order], rate[order], start[order]
        opens = np.ones(u.size, dtype=bool)
        opens[1:] = (u[1:] != u[:-1]) | (v[1:] != v[:-1])
        # A piece that repeats the rate before it changes nothing.
        keep = opens.copy()
        keep[1:] |= rate[1:] != rate[:-1]
        u, v, rate, start, opens = u[keep], v[keep], rate[keep], start[keep], opens[keep]
        stop = np.append(start[1:], math.inf)
        stop[np.append(opens[1:], True)] = math.inf
        cut = np.searchsorted(u, np.arange(1, n_nodes))
        self.targets = [
            part[first].tolist()
            for part, first in zip(np.split(v, cut), np.split(opens, cut), strict=True)
        ]
        self._first = [np.flatnonzero(part) for part in np.split(opens, cut)]
        self._rate, self._start = np.split(rate, cut), np.split(start, cut)
        self._stop = np.split(stop, cut)
        self._model, self._theta = model, theta

    def arrivals(self, rng: np.random.Generator, node: int, time: float, end: float) -> list[float]:
        """Arrival times, in the order of ``targets[node]``; inf for none before ``end``.

        Notes
        -----
        For each edge, with pieces j of rate r_j from delay a_j to b_j, find the delay D at which
        sum_j r_j (H(min(b_j, D)) - H(min(a_j, D))) reaches a standard exponential.
        """
        rate, first = self._rate[node], self._first[node]
        count = np.diff(first, append=rate.size)
        low = self._model.cumulative(
            np.clip(self._start[node] - time, 0.0, end - time), self._theta
        )
        high = self._model.cumulative(
            np.clip(self._stop[node] - time, 0.0, end - time), self._theta
        )
        total = np.cumsum(rate * (high - low))
        before = np.append(0.0, total[:-1])
        base = np.repeat(before[first], count)
        need = rng.standard_exponential(first.size)
        # Pieces an edge has gone through without infecting; all of them: never.
        passed = np.add.reduceat(total - base < np.repeat(need, count), first, dtype=np.int64)
        hit = np.flatnonzero(passed < count)
        piece = first[hit] + passed[hit]
        x = low[piece] + (need[hit] - (before[piece] - base[piece])) / rate[piece]
        x = np.clip(x, low[piece], high[piece])
        arrival = np.full(first.size, math.inf)
        arrival[hit] = time + self._model.inverse_cumulative(x, self._theta)
        # Rounding must not carry an infection into a piece whose rate may be zero.
        arrival[hit] = np.clip(arrival[hit], self._start[node][piece], self._stop[node][piece])
        return arrival.tolist()


class _Record:
    """Infections of all cascades, flat, in order of cascade and time; indices, not labels."""

    def __init__(self) -> None:
        self.node: list[int] = []
        self.time: list[float] = []
        self.parent: list[int] = []
        self.kind: list[int] = []
        self.size: list[int] = []
        self.end: list[float] = []
        self._closed = 0

    def add(self, node: int, time: float, parent: int, kind: int) -> None:
        self.node.append(node)
        self.time.append(time)
        self.parent.append(parent)
        self.kind.append(kind)

    def close(self, end: float) -> None:
        """End the current cascade, observed until ``end``."""
        self.size.append(len(self.node) - self._closed)
        self.end.append(end)
        self._closed = len(self.node)

    def result(self, labels: tuple[Label, ...], hidden: NDArray[np.bool_]) -> SimulatedCascades:
        """What is observed: without the hidden nodes and the cascades left empty."""
        import pandas as pd

        node = np.array(self.node, dtype=np.int64)
        seen = ~hidden[node]
        if not seen.any():
            raise ValueError("unobserved: no infection is left to observe")
        cascade = np.repeat(np.arange(len(self.size)), self.size)[seen]
        number, size = np.unique(cascade, return_counts=True)
        new_index = np.cumsum(~hidden) - 1
        cascades = Cascades.from_arrays(
            [label for label, drop in zip(labels, hidden, strict=True) if not drop],
            np.append(0, np.cumsum(size)),
            new_index[node[seen]],
            np.array(self.time)[seen],
            np.array(self.end)[number],
            labels=number.tolist(),
        )
        label = label_array(labels)
        whole = "Int64" if isinstance(labels[0], int) else None  # holds missing values as well
        parent = np.array(self.parent, dtype=np.int64)[seen]
        parents = pd.DataFrame(
            {
                "cascade": cascade,
                "node": label[node[seen]],
                "parent": pd.Series(label[parent], dtype=whole).mask(parent < 0),
                "time": cascades.time,
                "kind": _KINDS[np.array(self.kind)[seen]],
            }
        )
        return SimulatedCascades(cascades, parents)


def _run_cascade(
    rng: np.random.Generator,
    edges: _OutEdges,
    given: SeedList,
    outside: SeedList,
    end: float,
    record: _Record,
) -> None:
    """Run one cascade from its seeds (absolute times) to its end, adding to ``record``.

    O(m log m) in the number m of out-edges of the nodes infected.
    """
    heap = [(time, SEED, node, -1) for time, node in given]
    heap += [(time, EXTERNAL, node, -1) for time, node in outside]
    heapq.heapify(heap)
    pop, push, targets = heapq.heappop, heapq.heappush, edges.targets
    infected = set()
    earliest: dict[int, float] = {}
    limit = math.nextafter(end, math.inf)
    last = -math.inf
    while heap:
        time, kind, node, parent = pop(heap)
        if node in infected:
            continue
        if time <= last:
            # A delay too short for the precision of the time: infections are never tied, seeds may.
            time = last if kind == SEED else math.nextafter(last, math.inf)
        if time > end:
            break
        last = time
        infected.add(node)
        record.add(node, time, parent, kind)
        out = targets[node]
        if not out:
            continue
        for child, arrival in zip(out, edges.arrivals(rng, node, time, end), strict=True):
            if arrival < earliest.get(child, limit) and child not in infected:
                earliest[child] = arrival
                push(heap, (arrival, EDGE, child, node))


def _external_events(
    rng: np.random.Generator, hazard: float, n_nodes: int, begin: float, end: float
) -> SeedList:
    """Events of the external source: one Poisson process over all nodes, each hit at random.

    Only the first event of a node can infect it, which makes the hazard of each node constant at a
    cost that does not grow with the number of nodes.
    """
    if hazard == 0.0 or end <= begin:
        return []
    n = rng.poisson(hazard * n_nodes * (end - begin))
    times = rng.uniform(begin, end, size=n)
    return list(zip(times.tolist(), rng.integers(n_nodes, size=n).tolist(), strict=True))


def _read_universe(
    network: pd.DataFrame, nodes: Iterable[Hashable] | None, ends: list[str]
) -> tuple[Label, ...]:
    """Labels of all nodes, in the order given, or sorted."""
    nodes = network.attrs.get("nodes") if nodes is None else nodes
    if nodes is None:
        return tuple(sorted(canonical_labels(dict.fromkeys(ends))))  # type: ignore[type-var]
    labels = canonical_labels(label_texts(nodes, "nodes"))
    if len(set(labels)) < len(labels):
        raise ValueError("nodes must be distinct; a label is repeated")
    return labels


def _indices(name: str, labels: Iterable[Hashable], index: dict[str, int]) -> NDArray[np.int64]:
    """Node indices of the labels of an argument."""
    texts = label_texts(labels, name)
    unknown = [text for text in texts if text not in index]
    if unknown:
        raise ValueError(f"{name} must hold known nodes; {unknown[0]!r} is not among nodes")
    return np.array([index[text] for text in texts], dtype=np.int64)


def _read_observation(
    horizon: ArrayLike | None, window: float | None, n_cascades: int, latest_start: float
) -> tuple[list[float], float]:
    """Horizon of each cascade, and the window; inf where not given."""
    if horizon is None and window is None:
        raise ValueError("horizon or window must be given: when does observation end?")
    if window is not None and not (isinstance(window, numbers.Real) and 0 < window < math.inf):
        raise ValueError(f"window must be positive and finite; got {window!r}")
    window = math.inf if window is None else float(window)
    if horizon is None:
        return [math.inf] * n_cascades, window
    ends = np.asarray(horizon, dtype=np.float64)
    if ends.shape not in ((), (n_cascades,)):
        raise ValueError(
            f"horizon must be one number or one for each of {n_cascades} cascades; "
            f"got shape {ends.shape}"
        )
    if not np.isfinite(ends).all() or not (ends >= latest_start).all():
        raise ValueError(
            f"horizon must be finite and not before the latest start, {latest_start}; "
            f"got {ends.min()} to {ends.max()}"
        )
    return np.broadcast_to(ends, n_cascades).tolist(), window


def _read_seeds(
    seeds: Any, n_seeds: int, n_cascades: int, index: dict[str, int]
) -> Callable[[np.random.Generator, int], SeedList]:
    """Function of (generator, number of the cascade) that gives its seeds and their delays."""
    if isinstance(seeds, str):
        if seeds != "random":
            raise ValueError(f'seeds must be "random", a sequence or a mapping; got {seeds!r}')
        n, k = len(index), whole_number("n_seeds", n_seeds, 1)
        if k > n:
            raise ValueError(f"n_seeds must be at most the {n} nodes; got {k}")
        if k == 1:
            return lambda rng, i: [(0.0, int(rng.integers(n)))]
        return lambda rng, i: [(0.0, u) for u in rng.choice(n, size=k, replace=False).tolist()]
    if isinstance(seeds, Mapping):
        common = _seed_list(seeds, index)
        return lambda rng, i: common
    items = list(seeds) if isinstance(seeds, Iterable) else []
    if not items:
        raise ValueError(f"seeds must name at least one node; got {seeds!r}")
    if all(isinstance(item, (str, numbers.Integral)) for item in items):
        common = _seed_list(items, index)
        return lambda rng, i: common
    if len(items) != n_cascades:
        raise ValueError(
            f"seeds must be labels, or hold one entry for each of {n_cascades} cascades; "
            f"got {len(items)}"
        )
    each = [_seed_list(item, index) for item in items]
    return lambda rng, i: each[i]


def _seed_list(item: Any, index: dict[str, int]) -> SeedList:
    """Delays and node indices of the seeds of one cascade."""
    if not isinstance(item, Mapping):
        labels = [item] if isinstance(item, (str, numbers.Integral)) else list(item)
        item = dict.fromkeys(labels, 0.0)
    if not item:
        raise ValueError("seeds must name at least one node in every cascade; got none")
    waits = [float(wait) for wait in item.values()]
    if not all(0.0 <= wait < math.inf for wait in waits):
        raise ValueError(f"seeds: delays must be finite and not negative; got {waits}")
    return list(zip(waits, _indices("seeds", item, index).tolist(), strict=True))
