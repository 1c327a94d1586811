"""One interval of time after another: what each hands on, and how much of it to keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.edge_sums import EdgeSums
from cascadenet.inference import chains as _chains
from cascadenet.inference import parents
from cascadenet.inference.coupled_hdp import collect, kept_share
from cascadenet.inference.dynamics.evidence import sequential_log_density
from cascadenet.inference.dynamics.memory import (
    SUPPORTED,
    Carried,
    PairMemory,
    Seen,
    carried,
    rounded,
    token_memory,
)
from cascadenet.inference.layout import Layout, build_layout
from cascadenet.pairs import pair_keys, split_keys
from cascadenet.posterior import Posterior

if TYPE_CHECKING:
    import pandas as pd

    from cascadenet.cascades import Cascades
    from cascadenet.inference.checkpoint import Checkpoint
    from cascadenet.inference.sampler import Model, State

AHEAD = 3  # stream of random numbers of forecasts
Tokens = tuple[np.ndarray, np.ndarray, np.ndarray]
# Fields of a state that belong to one interval's data.
LOCAL = (
    "choice",
    "parent",
    "n_pair",
    "shape",
    "rate",
    "exposure",
    "node_full",
    "cand_weight",
    "token_sender",
    "token_receiver",
    "community",
)


@dataclass(frozen=True)
class Past:
    """All that one interval leaves for the next.

    Attributes
    ----------
    pairs : PairMemory
        Of all chains together.
    unit : float, optional
        Internal unit of time, that of the first interval; None before it.
    states : list of State, or of None before the first interval
        Where each chain ended, without what belongs to the interval's data.
    tokens : list of tuple of arrays, or of None
        Pseudo-counts of tokens of each chain.
    n_intervals : int
        Intervals so far.
    future : PairMemory, optional
        What intervals after it showed, when looking back.
    """

    pairs: PairMemory
    unit: float | None
    states: list[State | None]
    tokens: list[Tokens | None]
    n_intervals: int = 0
    future: PairMemory | None = None

    @classmethod
    def none(cls, n_nodes: int, chains: int) -> Past:
        """Before the first interval."""
        return cls(PairMemory.empty(n_nodes), None, [None] * chains, [None] * chains)

    def fade(self, delta: float, structure: float) -> Past:
        """After an interval without cascades."""
        tokens = [t if t is None else tuple(rounded(structure * x) for x in t) for t in self.tokens]
        return dataclasses.replace(
            self, pairs=self.pairs.fade(delta), tokens=tokens, n_intervals=self.n_intervals + 1
        )


@dataclass(frozen=True)
class Plan:
    """How every interval is sampled.

    Attributes
    ----------
    model : Model
    first, later : Schedule
        Of the first interval, and of those that start where another ended.
    max_candidates : int, optional
    structure : float
        Share of the tokens that is remembered.
    seed : int
    stream : int
        Tells the random numbers of passes over the same intervals apart.
    n_jobs : int
    settings : dict
        For the posteriors.
    """

    model: Model
    first: _chains.Schedule
    later: _chains.Schedule
    max_candidates: int | None
    structure: float
    seed: int
    stream: int
    n_jobs: int
    settings: dict[str, Any]

    def schedule(self, past: Past) -> _chains.Schedule:
        """Schedule of the interval after this past."""
        return self.first if past.states[0] is None else self.later


def prior_of(past: Past, cascades: Cascades, plan: Plan, kappa: float) -> tuple[Layout, Carried]:
    """Layout of an interval's cascades and the pairs that are remembered, and what is of them."""
    layout = build_layout(
        cascades,
        background=plan.model.background,
        max_candidates=plan.max_candidates,
        unit=past.unit,
        listed=(past.pairs if past.future is None else past.pairs + past.future).pairs,
    )
    memories = [past.pairs] if past.future is None else [past.pairs, past.future]
    return layout, carried(memories, layout, kappa, plan.model.switch)


def step(
    past: Past,
    cascades: Cascades,
    given: tuple[Layout, Carried],
    plan: Plan,
    progress: _chains.Progress,
    checkpoints: list[Checkpoint] | None = None,
) -> tuple[Posterior, Seen, list[State]] | None:
    """Sample one interval given its past.

    Parameters
    ----------
    past : Past
    cascades : Cascades
        Those that start in the interval.
    given : Layout, Carried
        See `prior_of`.
    plan : Plan
    progress : Progress
    checkpoints : list of Checkpoint, optional

    Returns
    -------
    posterior : Posterior
    seen : Seen
        What the interval showed.
    states : list of State
        Where the chains ended. None in place of all three when the run was interrupted.
    """
    layout, pairs = given
    starts = []
    for i, (state, tokens) in enumerate(zip(past.states, past.tokens, strict=True)):
        key = (plan.stream, past.n_intervals, i)
        seed = np.random.SeedSequence(plan.seed, spawn_key=key)
        own = dataclasses.replace(pairs)  # chains differ in what is in force
        if tokens is not None and plan.model.prior == "hdp":
            own.eta, own.sent, own.received = tokens
        starts.append(_chains.Start(seed, own, state))
    records, interrupted = _chains.run_chains(
        layout,
        dataclasses.replace(plan.model, parent_rounds=parents.rounds(layout)),
        plan.schedule(past),
        starts,
        n_jobs=plan.n_jobs,
        progress=progress,
        checkpoints=checkpoints,
    )
    if interrupted:
        return None
    states = [record.last for record in records]
    posterior = collect(cascades, layout, plan.model, records, plan.settings, plan.seed, pairs)
    kept = np.ones(layout.n_pairs)
    kept[pairs.rows] = kept_share(records)[0]
    seen = Seen(
        pair_keys(layout.pair_source, layout.pair_child, layout.n_nodes),
        posterior.sums.by_pair(posterior.sums.n),
        posterior.sums.exposure - pairs.exposure,
        posterior.sums.node_full - pairs.node_exposure,
        kept,
    )
    return posterior, seen, states


def hand_on(
    past: Past, seen: Seen, states: list[State], unit: float, delta: float, structure: float
) -> Past:
    """Past of the next interval, of which the shares ``delta`` and ``structure`` are remembered."""
    return Past(
        past.pairs.advance(seen, delta),
        unit,
        [_lean(state) for state in states],
        [token_memory(state, structure) for state in states],
        past.n_intervals + 1,
    )


def _lean(state: State) -> State:
    """A state without the arrays that belong to an interval's data."""
    none = {name: getattr(state, name)[:0].copy() for name in LOCAL}
    none |= {name: np.zeros_like(getattr(state, name)) for name in ("eta", "sent", "received")}
    return dataclasses.replace(state, log_step=dict(state.log_step), n_real=0, **none)


def forecast(posterior: Posterior, past: Past, kappa: float) -> Posterior:
    """Posterior of the interval to come, before any of its cascades is seen.

    Its edges have the probability of having carried an infection so far as ``prob``.

    Parameters
    ----------
    posterior : Posterior
        Of the last interval, whose network draws stay.
    past : Past
        What it left.
    kappa : float
        Weight of the memory of support.
    """
    memory = past.pairs
    source, target = (x.astype(np.int32) for x in split_keys(memory.key, memory.n_nodes))
    draws = posterior.sums.draws
    networks, share = _ahead_networks(posterior, past, kappa)
    carried_before = -np.expm1(-memory.support)
    lasting = kappa * carried_before * (source >= 0)
    n, exposure = lasting + share * memory.n, share * memory.exposure
    hits = np.round(draws[:, None] * carried_before).astype(np.int32)
    used = np.flatnonzero(hits.any(axis=0)).astype(np.int32)
    none, nothing = np.zeros(used.size), np.zeros(memory.key.size, np.float32)
    ahead = Posterior(
        nodes=posterior.nodes,
        settings=posterior.settings,
        provenance=posterior.provenance,
        unit=posterior.unit,
        scalars=posterior.scalars,
        pair_source=source,
        pair_target=target,
        sums=EdgeSums(
            draws=draws,
            used=used,
            hits=hits[:, used],
            n=none,
            rate_hit=none,
            square_hit=none,
            rate_rest=none,
            square_rest=none,
            rate_unused=nothing,
            variance_unused=nothing,
            unused_unit=posterior.sums.unused_unit,
            exposure=exposure,
            node_full=memory.node_exposure,
            carried=n,
        ),
        networks=networks,
        network_chain=posterior.network_chain,
    )
    rate, square = _moments(ahead)
    hit, unit = ahead.sums.prob, float(ahead.sums.unused_unit)
    ahead.sums = dataclasses.replace(
        ahead.sums,
        rate_hit=hit * rate[used],
        square_hit=hit * square[used],
        rate_rest=(1.0 - hit) * rate[used],
        square_rest=(1.0 - hit) * square[used],
        rate_unused=(rate / unit).astype(np.float32),
        variance_unused=((square - rate**2) / unit**2).astype(np.float32),
    )
    return ahead


def _ahead_networks(
    posterior: Posterior, past: Past, kappa: float
) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    """Network draws of the interval to come, and how likely each pair's memory is in force.

    Where edges may start afresh, every draw says which do.
    """
    memory, nothing = past.pairs, np.empty(0, np.int32)
    plain = [
        {name: x for name, x in network.items() if not name.startswith("memory_")}
        | {"used": nothing, "count": nothing}
        for network in posterior.networks
    ]
    share = np.ones(memory.key.size)
    source, _ = split_keys(memory.key, memory.n_nodes)
    rows = np.flatnonzero((source >= 0) & (memory.support >= SUPPORTED))
    if "persistence" not in posterior.scalars or rows.size == 0:
        return plain, share
    share[rows] = posterior.scalars["persistence"].mean()
    seed = posterior.provenance["seed"]
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(AHEAD, past.n_intervals)))
    lasting = -kappa * np.expm1(-memory.support[rows])
    for network in plain:
        kept = rng.random(rows.size) < share[rows]
        network["memory_rows"] = rows.astype(np.int32)
        network["memory_n"] = lasting + kept * memory.n[rows]
        network["memory_exposure"] = kept * memory.exposure[rows]
    return plain, share


def _moments(ahead: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """First and second moment of the rates of the listed pairs, user's unit."""
    source = ahead.pair_source
    rate, square = np.zeros(source.size), np.zeros(source.size)
    edge = source >= 0
    for network in ahead.networks:
        carried, exposure = ahead.memory_of(network)
        shape, scale = carried.copy(), np.empty(source.size)
        shape[edge] += ahead.gamma_shape(network, source[edge], ahead.pair_target[edge])
        shape[~edge] += network["ground_shape"]
        scale[edge] = ahead.rate_unit(network) / (network["b"] + exposure[edge])
        ground = network["ground_rate"] + exposure[~edge]
        scale[~edge] = 1.0 / (ahead.unit * ground)
        rate += shape * scale
        square += shape * scale * (shape + 1.0) * scale
    return rate / len(ahead.networks), square / len(ahead.networks)


@dataclass(frozen=True)
class Interval:
    """One interval, sampled.

    Attributes
    ----------
    posterior : Posterior
    seen : Seen
    before, past : Past
        What it started from and what it left.
    ahead : DataFrame, optional
        How well its cascades were foretold: ``cascade``, ``log_predictive``, given the past and
        the cascades before it in the interval, and ``n_infections``, seeds left out; None for
        the first interval and where there are no cascades.
    """

    posterior: Posterior
    seen: Seen
    before: Past
    past: Past
    ahead: pd.DataFrame | None


def run_filter(
    past: Past,
    last: Posterior | None,
    parts: Sequence[Cascades | None],
    deltas: Sequence[float],
    kappa: float,
    plan: Plan,
    progress: _chains.Progress,
    checkpoints: Callable[[int], list[Checkpoint] | None] = lambda _: None,
) -> Iterator[Interval]:
    """Sample intervals in their order; stops early when the run is interrupted.

    Parameters
    ----------
    past : Past
        Before the first of them.
    last : Posterior, optional
        Of the interval before the first of them.
    parts : sequence of Cascades or None
        Cascades of each interval, None where it has none.
    deltas : sequence of float
        Share that each interval hands on.
    kappa : float
        Weight of the memory of support.
    plan : Plan
    progress : Progress
    checkpoints : callable
        Checkpoints of the interval with a number counted from the first of all.
    """
    for part, delta in zip(parts, deltas, strict=True):
        if part is None:
            unseen = _unseen(last, past, delta, kappa, plan.structure)
            yield unseen
            last, past = unseen.posterior, unseen.past
            continue
        given = prior_of(past, part, plan, kappa)
        score = None if last is None else _foretold(last, part, given, plan.model)
        sampled = step(past, part, given, plan, progress, checkpoints(past.n_intervals))
        if sampled is None:
            return
        last, seen, states = sampled
        after = hand_on(past, seen, states, last.unit, delta, plan.structure)
        yield Interval(last, seen, past, after, score)
        past = after


def _foretold(
    last: Posterior, cascades: Cascades, given: tuple[Layout, Carried], model: Model
) -> pd.DataFrame:
    """Log predictive density of an interval's cascades, one after another."""
    import pandas as pd

    layout, pairs = given
    density = sequential_log_density(last, pairs, layout, cascades, model)
    late = np.add.reduceat((layout._n_earlier > 0).astype(np.int64), cascades.offset[:-1])
    labels = list(cascades.labels)
    return pd.DataFrame({"cascade": labels, "log_predictive": density, "n_infections": late})


def _unseen(
    last: Posterior | None, past: Past, delta: float, kappa: float, structure: float
) -> Interval:
    """An interval without cascades."""
    if last is None:
        raise ValueError("interval must leave cascades in the first interval; got none there")
    ahead = forecast(last, past, kappa)
    none = np.zeros(past.pairs.key.size)
    seen = Seen(past.pairs.key, none, none, np.zeros(past.pairs.n_nodes), none + 1.0)
    return Interval(ahead, seen, past, past.fade(delta, structure), None)


def smoothed_pasts(intervals: Sequence[Interval], deltas: Sequence[float]) -> list[Past]:
    """What each interval would start from had it seen all others, later ones included.

    Evidence fades with the distance in time on both sides; a pair's own interval is left out.
    The pseudo-counts of communities stay those of the filter.
    """
    n_nodes = intervals[0].before.pairs.n_nodes
    later = [PairMemory.empty(n_nodes)]
    for interval, delta in zip(intervals[:0:-1], deltas[-2::-1], strict=True):
        later.append(later[-1].advance(interval.seen, delta))
    return [
        dataclasses.replace(
            interval.before,
            future=after,
            unit=interval.past.unit,
            states=interval.past.states,
        )
        for interval, after in zip(intervals, later[::-1], strict=True)
    ]
