"""One shard of a chain: the parents and rates of its children, and what it tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import gammaln

from cascadenet.inference import _kernels, chains, parents, rates, sampler
from cascadenet.inference.communities import COLUMNS, running_sums
from cascadenet.inference.dynamics.memory import Carried
from cascadenet.inference.sampler import Model, State
from cascadenet.inference.sharded.pieces import Piece

# State of a shard that follows from the rest, from its layout or from the coordinator's.
DERIVED = {"parent", "n_pair", "shape", "rate", "exposure", "node_full", "cand_weight"}
DERIVED |= {"beta", "weight", "sender", "receiver", "eta", "sent", "received", "kept", "log_step"}
DERIVED |= {"token_sender", "token_receiver", "community"}
BY_PAIR = ("mean_unused", "variance_unused", "exposure_sum")  # running sums of a record
Order = tuple[str, dict[str, Any]]  # method of Shard, its arguments


@dataclass(frozen=True)
class Network:
    """Communities as the shards need them; one object serves all shards of a machine.

    Attributes
    ----------
    weight : float64 array, shape (K,)
        D.
    sender : float64 array, shape (N', K)
        D times A.
    receiver : float64 array, shape (N', K)
        B; only rows of the shards at hand need be there.
    """

    weight: np.ndarray
    sender: np.ndarray
    receiver: np.ndarray

    @cached_property
    def cumulative_sender(self) -> np.ndarray:
        """Running sums of each community's senders, float64 (K, N'); see also `prepare`."""
        return running_sums(self.sender)

    def prepare(self, pool: Executor) -> None:
        """Have the running sums made on several threads, before any of them asks for it."""
        found = np.empty(self.sender.shape[::-1])
        first = range(0, len(found), COLUMNS)
        list(pool.map(lambda k: _add_up(self.sender, k, found), first))
        vars(self)["cumulative_sender"] = found


@dataclass
class Sums:
    """A shard's part of the densities that its chain's random walks compare.

    The log density of parents given the scalars is linear in these (3.2): with pairs that are not
    listed put in for all children, ``by_shape`` holds what listed ones add, r log((Efull + b) /
    (E + b)).

    Attributes
    ----------
    by_shape, by_count : float64 arrays
        For each value of b: what multiplies the scale of all shapes, and what does not.
    log_gamma : float64 array
        Sum of lgamma(r + n) - lgamma(r) for each scale.
    ground : float64 array
        Log density of the background's counts for each value of its rate.
    hazard : float
        Sum of the log hazards of all delays.
    """

    by_shape: np.ndarray
    by_count: np.ndarray
    log_gamma: np.ndarray
    ground: np.ndarray
    hazard: float

    @classmethod
    def total(cls, parts: Iterable[Sums]) -> Sums:
        """Sum over shards, in their order."""
        parts = list(parts)
        return cls(*(sum(getattr(part, f.name) for part in parts) for f in fields(cls)))


class Shard:
    """A chain's state for some children. To the updates of parents it looks like a chain.

    Parameters
    ----------
    layout : Piece
    bounds : (int, int)
        Its children are ``low:high``; in an open world the last shard has the reserve too.
    model : Model
    schedule : chains.Schedule
    rng : numpy.random.Generator
        The shard's own.
    """

    def __init__(
        self,
        layout: Piece,
        bounds: tuple[int, int],
        model: Model,
        schedule: chains.Schedule,
        rng: np.random.Generator,
    ) -> None:
        self.layout, self.model, self.schedule, self.rng = layout, model, schedule, rng
        self.low, self.high = bounds
        self.carried = Carried()
        self.adapting = self.holding = True
        self.n_sweeps = 0
        self.edge_pairs: np.ndarray | None = None
        self.shape_sums = rates.ShapeSums()
        self.network: Network | None = None
        self.state: State
        self.record: chains.Record
        # kept: in Dask's workers an allocator asks the system anew for arrays from 128 kB on
        self._scratch = np.empty((3, rates.BLOCK))
        self._index = np.empty(rates.BLOCK, np.intp)
        self._pending: tuple[np.ndarray, ...] = ()  # a delay proposal and its exposures

    def apply(self, orders: Sequence[Order]) -> list[Any]:
        """Carry out orders of the coordinator one after another; a reply to each."""
        return [getattr(self, name)(**arguments) for name, arguments in orders]

    # -----------------------------------------------------------------------------------------
    # orders
    # -----------------------------------------------------------------------------------------

    def start(self, scalars: dict[str, Any], choice: np.ndarray | None = None) -> None:
        """Draw first parents, or take those given; ``scalars``: see `scalars_of`."""
        empty = np.empty(0)
        arrays = {name: empty for name in DERIVED if name not in ("kept", "log_step")}
        self.state = State(**(arrays | {"choice": empty} | scalars))
        # until there is a network
        nodes = self.layout.n_nodes + (self.model.reserve > 0)
        self.state.sender, self.state.receiver = np.zeros((2, nodes, 1))
        self.state.weight = np.ones(())  # they come with the senders
        self._use_network()
        given = np.zeros(self.layout.n_infections, np.int32) if choice is None else choice
        sampler.adopt_parents(self, self.layout, given)
        if choice is None:
            parents.draw_tree_parents(self)  # no counts yet that could attract
        self.record = chains.Record(self, self.schedule)

    def refresh(self, total: float) -> None:
        """Shapes of the pairs from the network, which the host has put in place."""
        self.state.total = total
        self._use_network()
        sampler.refresh_shape(self)

    def draw(
        self, b: Sequence[float], scale: Sequence[float], ground: Sequence[float], adapting: bool
    ) -> Sums:
        """Draw parents and swaps; sums for the random walks that follow."""
        self.adapting = adapting
        for _ in range(self.model.parent_passes):
            parents.draw_parents(self)
            parents.swap_parents(self)
        self.n_sweeps += 1
        return self.sums(b, scale, ground)

    def sums(self, b: Sequence[float], scale: Sequence[float], ground: Sequence[float]) -> Sums:
        """Sums at the present parents and delays, for values of b, scale and background rate."""
        state, layout, known = self.state, self.layout, self.shape_sums.by_b
        new = [value for value in b if value not in known]
        known.update(zip(new, self._by_shape(new, state.exposure, state.node_full), strict=True))
        used = rates.used_pairs(self)
        n, r, exposure = state.n_pair[used], state.shape[used], state.exposure[used]
        return Sums(
            np.array([known[value] for value in b]),
            np.array([(n * np.log(exposure + value)).sum() for value in b]),
            np.array([(gammaln(x * r + n) - gammaln(x * r)).sum() for x in scale]),
            self._ground(ground) if layout.background else np.zeros(len(ground)),
            self._hazard(state.theta),
        )

    def settle(self, b: float, scale: float, background_rate: float) -> None:
        """Take over what the random walks arrived at."""
        state, edges = self.state, self._edges
        state.background_rate = background_rate
        state.shape[edges] *= scale
        state.total *= scale
        self.shape_sums = rates.ShapeSums()
        rates.set_b(self, b)

    def try_delay(self, theta: np.ndarray, b: float) -> Sums:
        """Sums at other delay parameters, the terms left out which do not depend on them."""
        exposure, node_full = self.layout.exposure(self.model.delay, theta)
        self._pending = (theta, exposure, node_full)
        used = rates.used_pairs(self)
        by_count = (self.state.n_pair[used] * np.log(exposure[used] + b)).sum()
        none = np.zeros(0)
        by_shape = self._by_shape([b], exposure, node_full)
        return Sums(by_shape, np.array([by_count]), none, none, self._hazard(theta))

    def take_delay(self) -> None:
        """Move to the delay parameters that were tried last."""
        rates.set_theta(self, *self._pending)

    def tokens(self, bound: float) -> tuple[np.ndarray, np.ndarray]:
        """Tokens into this shard as rows sender, receiver, community: real ones and phantoms.

        ``bound``: largest L of any pair of the chain; 0 for no phantoms. Phantoms of all shards
        together are what one draw over all nodes would give: a Poisson number of independent
        tokens, here split by the block of their receiver.
        """
        used = rates.used_pairs(self)
        tables = self._tables(used)
        sender = np.repeat(self.layout.pair_source[used], tables)
        receiver = np.repeat(self.layout.children_of(used), tables)
        community = np.empty(sender.size, np.int32)
        _kernels.draw_communities(
            sender,
            receiver,
            self.network.sender,
            self.network.receiver,
            self.rng.random(sender.size),
            community,
        )
        real = np.stack((sender, receiver, community))
        return real, self._phantoms(bound) if bound else real[:, :0]

    def flat_tables(self) -> tuple[int, float]:
        """Under a flat prior: number of tables; what listed pairs add to the sum of L."""
        return int(self._tables(rates.used_pairs(self)).sum()), self._watched(1.0)

    def mass(self) -> float:
        """What listed pairs add to the sum of p L: as if not listed, they had their source's L."""
        self.refresh(1.0)
        return self._watched(self.state.shape[self._edges])

    def observe(self, network: bool) -> tuple[Sums, np.ndarray, np.ndarray, np.ndarray]:
        """Add the present state to the running sums.

        Returns the sums and moments of the shapes that scalars are made of and, for a draw whose
        network is kept, the used pairs and their counts.
        """
        state, record = self.state, self.record
        record.add_pairs(self)
        if record.exposure_sum.size:
            record.exposure_sum += state.exposure
        record.draws += 1
        moments = chains.shape_moments(self, self._scratch[0])
        sums = self.sums([state.b], [1.0], [state.background_rate])
        if self.layout.background:
            n, own = state.n_pair[self._ground_pairs], self.model.background_shape
            sums.ground += (gammaln(own + n) - gammaln(own)).sum()
        used = np.flatnonzero(state.n_pair > 0) if network else np.empty(0, np.int64)
        return sums, moments, used.astype(np.int32), state.n_pair[used]

    def collect(self) -> dict[str, np.ndarray]:
        """Running sums over all draws of its pairs."""
        end = self.layout.pair_ptr[-1]  # what may stand behind is nobody's
        sums = self._sums()
        return sums | {name: sums[name][:end] for name in BY_PAIR}

    def snapshot(self) -> dict[str, Any]:
        """All that `restore` needs, in as few bytes as that takes."""
        record, scalars = self.record, scalars_of(self.state)
        kept: dict[str, Any] = {"scalars": scalars, "choice": self.state.choice.copy()}
        kept |= {"rng": self.rng.bit_generator.state, "n_sweeps": self.n_sweeps}
        kept["draws"] = record.draws
        if record.draws:
            kept["sums"] = {name: values.copy() for name, values in self._sums().items()}
        return kept

    def restore(self, kept: dict[str, Any]) -> None:
        """Go back to where a snapshot was taken, on any machine."""
        self.start(kept["scalars"], kept["choice"])
        self.rng.bit_generator.state = kept["rng"]
        self.n_sweeps = kept["n_sweeps"]
        self.record.draws = kept["draws"]
        if self.record.draws:
            own = {name: values.copy() for name, values in kept["sums"].items()}
            self.record.put(self.record.sums() | own)

    # -----------------------------------------------------------------------------------------
    # parts of them
    # -----------------------------------------------------------------------------------------

    def _sums(self) -> dict[str, np.ndarray]:
        """What the record holds of pairs."""
        sums = self.record.sums()
        return {name: sums[name] for name in (*BY_PAIR, *self.record.used_arrays)}

    def _use_network(self) -> None:
        if self.network is not None:  # under a flat prior there is none
            self.state.sender, self.state.receiver = self.network.sender, self.network.receiver

    @property
    def _edges(self) -> slice | np.ndarray:
        """Pairs of nodes, where the background's are listed too."""
        return slice(None) if self.edge_pairs is None else self.edge_pairs

    @property
    def _ground_pairs(self) -> np.ndarray:
        """The background's pairs of the shard's own children."""
        return self.layout.pair_ptr[self.low : self.high]

    def _by_shape(
        self, b: Sequence[float], exposure: np.ndarray, node_full: np.ndarray
    ) -> np.ndarray:
        """Sum of r log((Efull + b) / (E + b)) over listed pairs of nodes, for each b."""
        source, shape = self.layout.pair_source, self.state.shape
        if self.edge_pairs is not None:  # the background's pairs, of source -1, add nothing
            shape = np.where(source >= 0, shape, 0.0)
        total = np.zeros(len(b))
        for block in rates.blocks(source.size if len(b) else 0):
            own, r = exposure[block], shape[block]
            full, ratio, under = self._scratch[:, : own.size]
            index = self._index[: own.size]
            index[:] = source[block]
            np.take(node_full, index, out=full, mode="clip")
            for i, value in enumerate(b):
                np.divide(np.add(full, value, ratio), np.add(own, value, under), ratio)
                np.multiply(np.log(ratio, ratio), r, ratio)
                total[i] += ratio.sum()
        return total

    def _ground(self, rate: Sequence[float]) -> np.ndarray:
        """Log density of the background's counts for each rate of its prior, up to a constant."""
        pairs, shape = self._ground_pairs, self.model.background_shape
        n, exposure = self.state.n_pair[pairs], self.state.exposure[pairs]
        return np.array(
            [(shape * np.log(d) - (shape + n) * np.log(exposure + d)).sum() for d in rate]
        )

    def _hazard(self, theta: np.ndarray) -> float:
        delay = self.model.delay
        if delay.name == "exponential":  # one for all
            return 0.0
        return float(delay.log_hazard(rates.chosen_delays(self), theta).sum())

    def _tables(self, used: np.ndarray) -> np.ndarray:
        """CRT tables of used pairs, int64 (3.3)."""
        counts, tables = self.state.n_pair[used], np.empty(used.size, np.int64)
        uniform = self.rng.random(int(counts.sum()))
        _kernels.crt_tables(counts, self.state.shape[used], uniform, tables)
        return tables

    def _phantoms(self, bound: float) -> np.ndarray:
        """Phantom tokens into this shard that survive thinning (3.4), int32 (3, T)."""
        state, layout, rng, network = self.state, self.layout, self.rng, self.network
        last = network.receiver.shape[0] if self.high == layout.n_nodes else self.high
        receiver = running_sums(network.receiver[self.low : last])
        steps = np.cumsum(network.weight * receiver[:, -1])
        size = int(rng.poisson(state.total * bound * steps[-1]))
        # in random order: a scan in an order that depends on the communities is not valid
        community = np.searchsorted(steps, rng.random(size) * steps[-1], side="right")
        community = np.minimum(community, steps.size - 1).astype(np.int32)
        found, keep = np.empty((2, size), np.int32), np.empty(size, np.bool_)
        b = np.array([state.b])
        _kernels.thin_phantoms(
            community,
            network.cumulative_sender,
            receiver,
            self.low,
            layout.n_nodes,
            layout.pair_ptr,
            layout.pair_source,
            state.exposure,
            state.node_full,
            b,
            b,
            bound,
            rng.random((size, 3)),
            found[0],
            found[1],
            keep,
        )
        return np.stack((found[0][keep], found[1][keep], community[keep]))

    def _watched(self, weight: np.ndarray | float) -> float:
        """Weighted sum over listed pairs of nodes of log(1 + E/b) - log(1 + Efull/b)."""
        state, edges = self.state, self._edges
        full = state.node_full[self.layout.pair_source[edges]]
        gain = np.log1p(state.exposure[edges] / state.b) - np.log1p(full / state.b)
        return float((weight * gain).sum())


def _add_up(values: np.ndarray, first: int, found: np.ndarray) -> None:
    _kernels.running_sums(values, first, min(first + COLUMNS, len(found)), found)


def scalars_of(state: State) -> dict[str, Any]:
    """Fields of a state that a shard starts from: scalars and delay parameters."""
    names = [f.name for f in fields(State) if f.name not in DERIVED and f.name != "choice"]
    return {name: getattr(state, name) for name in names}
