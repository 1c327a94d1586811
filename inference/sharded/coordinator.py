"""The prior's side of a chain in shards: one sweep, in as few round trips as it takes.

A round trip has the shards carry out orders one after another (see `Shard.apply`). A sweep has two,
and one more for each parameter of the delay model. The first brings the network of the last
sweep; shards refresh their shapes, record the draw that is complete with them, draw parents and
swaps, and sum what the random walks of b and Lambda can come to ask for, whatever is accepted. The
last one brings what was accepted, and has tokens returned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascadenet.inference import chains, communities, rates
from cascadenet.inference.chains import Record
from cascadenet.inference.sampler import Chain
from cascadenet.inference.sharded.hosts import Hosts, Plan, shard_seed
from cascadenet.inference.sharded.pieces import take_children
from cascadenet.inference.sharded.shard import Network, Order, Sums, scalars_of

BLOCKS = 8  # of nodes, whose part of the network is drawn at a time; results depend on it


@dataclass(frozen=True)
class Walk:
    """Proposals of all random walks but the delay's, drawn before any of them is decided.

    Attributes
    ----------
    b : float
        Proposed b.
    total : float
        Factor of Lambda.
    ridge : float
        Factor of both.
    ground : float
        Proposed rate d0 of the background hazards' prior.
    """

    b: float
    total: float
    ridge: float
    ground: float

    def asked(self, b: float, ground: float) -> dict[str, list[float]]:
        """Values of b, scale and background rate that decisions may need, from the present ones."""
        scale = [1.0, self.total, self.ridge, self.ridge * self.total]
        b_values = [b, self.b, self.ridge * b, self.ridge * self.b]
        return {"b": b_values, "scale": scale, "ground": [ground, self.ground]}


class Coordinator(Chain):
    """A chain without infections of its own: network, concentrations, b, Lambda and delays.

    Parameters
    ----------
    plan : Plan
    seed : numpy.random.SeedSequence
        Of the chain.
    hosts : Hosts
        Has the shards, which are started here.
    pool : concurrent.futures.Executor, optional
        Threads that draw the network.
    """

    def __init__(
        self,
        plan: Plan,
        seed: np.random.SeedSequence,
        hosts: Hosts,
        pool: Executor | None = None,
    ) -> None:
        super().__init__(take_children(plan.layout, 0, 0), plan.model, np.random.default_rng(seed))
        self.hosts, self.pool = hosts, pool
        first = plan.n_shards  # seeds before it are the shards'
        self._block_rngs = [
            np.random.default_rng(shard_seed(seed, first + i)) for i in range(2 * BLOCKS)
        ]
        self._schedule = plan.schedule
        self.bounds = plan.layout.pair_ptr[plan.bounds]  # first pair of each shard
        self.record = Record(self, plan.schedule)
        self._news: list[Order] = []  # to go with the next orders
        self._due = False  # the present state is a draw that is not recorded yet
        self._known = True  # shards have the present network
        hosts.ask([("start", {"scalars": scalars_of(self.state)})], self._network())

    def sweep(self) -> None:
        """One sweep: the same updates, in the same order, as that of a chain in one piece.

        The draw it leaves is recorded with the next orders, unless the chain is adapting.
        """
        model, state = self.model, self.state
        walk = _propose(self)
        asked = walk.asked(state.b, state.background_rate)
        (parts,) = self._begin([("draw", asked | {"adapting": self.adapting})])
        sums = Sums.total(parts)
        current = self._decide(walk, asked, sums)
        if model.delay.parameters:
            self._update_delay(current)
        if model.prior == "flat":
            self._draw_flat_total()
        else:
            self._draw_tokens()
            communities.draw_token_communities(self)
            communities.split_merge(self)
            communities.update_alpha(self)
            communities.update_popularity(self)
            self._draw_network()
            self._known = False
            self._draw_total()
        self.shape_sums = rates.ShapeSums()
        self.n_sweeps += 1
        self._due = not self.adapting

    def finish(self) -> Record:
        """The record of all draws, after the last sweep."""
        self._begin([], final=True)
        (parts,) = self.hosts.ask([("collect", {})])
        for part, first in zip(parts, self.bounds[:-1], strict=True):
            part["used"] = (part["used"] + first).astype(np.int32)
        names = list(parts[0])
        joined = {name: np.concatenate([part.pop(name) for part in parts]) for name in names}
        self.record.put(self.record.sums() | joined)
        self.record.truncate()
        return self.record

    # -----------------------------------------------------------------------------------------
    # round trips
    # -----------------------------------------------------------------------------------------

    def _begin(self, orders: list[Order], final: bool = False) -> list[list[Any]]:
        """Send the network, record the draw that is due, and have orders carried out.

        ``final``: the last chance to keep a network.
        """
        record, network = self.record, None if self._known else self._network()
        self._known = True
        news = [*self._take_news(), ("refresh", {"total": self.state.total})]
        keep = self._schedule.keeps_network(record.draws) or (final and not record.networks)
        if self._due:
            news.append(("observe", {"network": keep}))
        replies = self.hosts.ask([*news, *orders], network)
        if self._due:
            self._observe(replies[len(news) - 1], keep)
        self._due = False
        return replies[len(news) :]

    def _take_news(self) -> list[Order]:
        news, self._news = self._news, []
        return news

    def _network(self) -> Network | None:
        state = self.state
        if self.model.prior == "flat":
            return None
        return Network(state.weight, state.weighted_sender, state.receiver)

    def _observe(self, replies: Sequence[tuple[Any, ...]], keep: bool) -> None:
        """Scalars, and the network if it is kept, of the draw that shards have just recorded."""
        state, record, model = self.state, self.record, self.model
        sums = Sums.total(reply[0] for reply in replies)
        value = _density(sums, 0, rates.RateTarget(self).at(state.b)(), (1.0,))(0) + sums.hazard
        scalars = chains.scalar_values(self)
        scalars["log_joint"] = value + (float(sums.ground[0]) if model.background else 0.0)
        if model.prior == "hdp":
            scalars["entropy"] = chains.entropy(*sum(reply[1] for reply in replies))
        for name, scalar in scalars.items():
            record.scalars[name][record.draws] = scalar
        record.full_sum += state.node_full
        if keep:
            network = chains._network(self)
            first = self.bounds[:-1].astype(np.int32)
            found = [reply[2] + start for reply, start in zip(replies, first, strict=True)]
            network["used"] = np.concatenate(found)
            network["count"] = np.concatenate([reply[3] for reply in replies])
            record.networks.append(network)
        record.draws += 1

    # -----------------------------------------------------------------------------------------
    # updates
    # -----------------------------------------------------------------------------------------

    def _decide(self, walk: Walk, asked: dict[str, list[float]], sums: Sums) -> float:
        """Random walks of b, Lambda and their ridge, then of the background: see `rates.update_b`.

        Returns the log density that the delay's walks start from.
        """
        state, model, ratio = self.state, self.model, rates._log_prior_ratio
        b_prior, total_prior = model.b_prior, model.total_prior
        target, values = rates.RateTarget(self), asked["b"]
        known = [_density(sums, i, target.at(b)(), asked["scale"]) for i, b in enumerate(values)]
        at_b, at_scale = 0, 0  # positions among what was asked

        log_ratio = known[1](0) - known[0](0) + ratio(walk.b, state.b, b_prior)
        if rates._accept(self, "b", log_ratio):
            at_b = 1
        log_ratio = known[at_b](1) - known[at_b](0)
        log_ratio += ratio(walk.total * state.total, state.total, total_prior)
        if rates._accept(self, "Lambda", log_ratio):
            at_scale = 1
        b, total = values[at_b], asked["scale"][at_scale] * state.total
        log_ratio = known[at_b + 2](at_scale + 2) - known[at_b](at_scale)
        log_ratio += ratio(walk.ridge * b, b, b_prior)
        log_ratio += ratio(walk.ridge * total, total, total_prior)
        if rates._accept(self, "ridge", log_ratio):
            at_b, at_scale = at_b + 2, at_scale + 2
        if model.background:
            prior = model.background_rate_prior
            log_ratio = float(sums.ground[1] - sums.ground[0])
            log_ratio += ratio(walk.ground, state.background_rate, prior)
            if rates._accept(self, "background", log_ratio):
                state.background_rate = walk.ground
        scale = asked["scale"][at_scale]
        rates.set_b(self, values[at_b])
        state.total *= scale
        self.shape_sums = rates.ShapeSums()  # the delay's walks start from other shapes
        settled = {"b": state.b, "scale": scale, "background_rate": state.background_rate}
        self._news.append(("settle", settled))
        return known[at_b](at_scale) - float(sums.log_gamma[at_scale]) + sums.hazard

    def _update_delay(self, current: float) -> None:
        """Random walk of each delay parameter, see `rates.update_delay`; a round trip each."""
        state, delay, target = self.state, self.model.delay, rates.RateTarget(self)
        phi = delay.to_unconstrained(state.theta)
        current += delay.log_prior_unconstrained(phi)
        for j, name in enumerate(delay.parameters):
            proposal = phi.copy()
            proposal[j] += rates._step(self, name)
            theta = delay.from_unconstrained(proposal)
            with np.errstate(over="ignore", invalid="ignore"):  # too far: nan, which is refused
                exposures = self.layout.exposure(delay, theta)
                orders = [*self._take_news(), ("try_delay", {"theta": theta, "b": state.b})]
                found = Sums.total(self.hosts.ask(orders)[-1])
                proposed = float(found.by_shape[0]) - float(found.by_count[0])
                proposed += target.at(state.b, *exposures)() + found.hazard
                proposed += delay.log_prior_unconstrained(proposal)
            if rates._accept(self, name, proposed - current):
                rates.set_theta(self, theta, *exposures)
                self._news.append(("take_delay", {}))
                phi, current = proposal, proposed

    def _draw_flat_total(self) -> None:
        """Lambda under the flat prior, see `communities.draw_flat_total`."""
        state, n_nodes = self.state, self.layout.n_nodes
        found = self.hosts.ask([*self._take_news(), ("flat_tables", {})], last=True)[-1]
        tables = sum(reply[0] for reply in found)
        mass = (n_nodes - 1) * np.log1p(state.node_full / state.b).sum()
        mass += sum(reply[1] for reply in found)
        shape, rate = self.model.total_prior
        rate += mass / max(n_nodes * (n_nodes - 1), 1)
        state.total = self.rng.standard_gamma(shape + tables) / rate

    def _draw_tokens(self) -> None:
        """Tokens of all shards, real ones first, see `communities.draw_tokens`."""
        state = self.state
        bound = communities.log_max(self) if self.model.balance_exposure else 0.0
        orders = [*self._take_news(), ("tokens", {"bound": bound})]
        found = self.hosts.ask(orders, last=True)[-1]
        real = [reply[0] for reply in found]
        state.n_real = sum(part.shape[1] for part in real)
        rows = np.concatenate([*real, *(reply[1] for reply in found)], axis=1)
        state.token_sender, state.token_receiver, state.community = rows
        communities._count_tokens(self)

    def _draw_network(self) -> None:
        """Community weights and endpoint distributions, see `communities.draw_network`.

        Gamma variables are drawn by blocks of nodes, each with random numbers of its own.
        """
        state = self.state
        communities.draw_weights(self)
        state.sender, state.receiver = np.empty((2, *state.sent.shape))
        smoothing = (state.tau * state.beta)[:, None]
        ends = np.linspace(0, smoothing.size, BLOCKS + 1).astype(int)
        tasks = [
            (rng, drawn[rows], smoothing[rows], counts[rows])
            for (drawn, counts), rngs in (
                ((state.sender, state.sent), self._block_rngs[:BLOCKS]),
                ((state.receiver, state.received), self._block_rngs[BLOCKS:]),
            )
            for rng, rows in zip(rngs, map(slice, ends[:-1], ends[1:]), strict=True)
        ]
        run = map if self.pool is None else self.pool.map
        largest = np.array(list(run(_draw_log_gamma, *zip(*tasks, strict=True))))
        largest = largest.reshape(2, BLOCKS, -1).max(axis=1).repeat(BLOCKS, axis=0)
        drawn = [task[1] for task in tasks]
        total = np.array(list(run(_exponentiate, drawn, largest)))
        total = total.reshape(2, BLOCKS, -1).sum(axis=1).repeat(BLOCKS, axis=0)
        list(run(np.divide, drawn, total, drawn))
        state.sender[:, 0] = state.receiver[:, 0] = self.base

    def _draw_total(self) -> None:
        """Lambda, see `communities.draw_total`; unless exposure is balanced, a round trip more."""
        if self.model.balance_exposure:
            communities.draw_total(self)
            return
        state = self.state
        self._known = True
        listed = sum(self.hosts.ask([*self._take_news(), ("mass", {})], self._network())[-1])
        outward = rates.RateTarget(self).unlisted / state.total  # listed pairs are the shards'
        rest = outward * np.log1p(state.node_full / state.b)
        shape, rate = self.model.total_prior
        rate += listed + float(rest.sum())
        state.total = self.rng.standard_gamma(shape + state.n_real) / rate


def _draw_log_gamma(
    rng: np.random.Generator, drawn: np.ndarray, smoothing: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Logs of Gamma(smoothing + counts) variables into ``drawn``; the largest of each column."""
    drawn[:] = communities.many_log_gammas(rng, smoothing + counts)
    return drawn.max(axis=0, initial=-np.inf)


def _exponentiate(drawn: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Exponentials of what is left after the largest, in place; the sum of each column."""
    drawn -= largest
    np.exp(drawn, out=drawn)
    return drawn.sum(axis=0)


def _propose(chain: Chain) -> Walk:
    """Proposals of this sweep, with the same scales as those of a chain in one piece."""
    state, step = chain.state, rates._step
    b = state.b * math.exp(step(chain, "b"))
    total, ridge = math.exp(step(chain, "Lambda")), math.exp(step(chain, "ridge"))
    ground = state.background_rate
    if chain.model.background:
        ground *= math.exp(step(chain, "background"))
    return Walk(b, total, ridge, ground)


def _density(
    sums: Sums, at_b: int, unlisted: float, scale: Sequence[float]
) -> Callable[[int], float]:
    """Log density at a value of b that was asked for, as a function of the scale's position.

    ``unlisted``: what pairs would add that are not listed, were that all of them, at scale 1.
    """
    by_shape, by_count = float(sums.by_shape[at_b]) + unlisted, float(sums.by_count[at_b])
    return lambda at: scale[at] * by_shape - by_count + float(sums.log_gamma[at])
