"""Updates of rates and delays: the survival and the tree likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from cascadenet.inference import _kernels
from cascadenet.inference.dynamics.memory import take

if TYPE_CHECKING:
    from cascadenet.inference.sampler import Chain

SMALLEST_SHARE = 1e-12  # of memories in force, and of those not; keeps their odds finite
TARGET_ACCEPTANCE = 0.44  # of one-dimensional random walks
FLAT_SUMS = 3  # values of b that a sweep compares
# Pairs whose intermediate values stay in a processor's cache, and enough of them that threads do
# not wait for each other at every step.
BLOCK = 1 << 15


@dataclass
class ShapeSums:
    """What a chain without memory keeps for as long as its shapes and exposures stay.

    Attributes
    ----------
    by_b : dict
        For values of b: sum over all pairs of shape times log(b / (b + E)).
    unlisted : float64 array, shape (N,), optional
        See `RateTarget.unlisted`.
    """

    by_b: dict[float, float] = field(default_factory=dict)
    unlisted: np.ndarray | None = None


def gamma_shape(chain: Chain) -> np.ndarray:
    """Shape of the listed pairs' rates before the counts: network and memory, float64 (P,)."""
    carried, shape = chain.carried, chain.state.shape
    return shape + carried.n if carried.pairs else shape


def rate_parts(chain: Chain) -> tuple[np.ndarray, float]:
    """Collapsed rates of the listed pairs: an array, and what is still to be added to all of it.

    Where one b is the prior rate of all of them, the exposures are that array, and no other is
    kept.
    """
    state = chain.state
    return (state.rate, 0.0) if state.rate.size else (state.exposure, state.b)


def collapsed_rate(chain: Chain) -> np.ndarray:
    """Rate of the listed pairs' Gamma laws, prior rate and exposure, float64 (P,)."""
    rate, more = rate_parts(chain)
    return rate + more


def prior_rate(chain: Chain, b: float, block: slice = slice(None)) -> np.ndarray | float:
    """Rate of the listed pairs' prior, exposure in memory included; ``b`` without any."""
    return b + chain.carried.exposure[block] if chain.carried.pairs else b


def blocks(size: int) -> Iterator[slice]:
    """Slices that make up so many pairs, each of a size that spares memory and its bandwidth."""
    return (slice(start, start + BLOCK) for start in range(0, size, BLOCK))


def _ground_prior_rate(chain: Chain, d0: float) -> np.ndarray:
    """Rate of the background hazards' prior, exposure in memory included."""
    return d0 + take(chain.carried.exposure, chain.layout.pair_ptr[:-1])


def used_pairs(chain: Chain) -> np.ndarray:
    """Pairs of nodes that explain an infection, int64."""
    used = np.flatnonzero(chain.state.n_pair > 0)
    return used[chain.layout.pair_source[used] >= 0] if chain.layout.background else used


def flat_sum(chain: Chain, b: float) -> float:
    """Sum over all ordered pairs of log(b' / (b' + E)), which the flat prior weighs evenly.

    Most of what an evaluation under that prior costs, so it is kept for the values of b it was
    asked for last, as long as exposures stay.
    """
    state, carried = chain.state, chain.carried
    if chain.flat_sums[0] is not state.exposure or carried.pairs:
        chain.flat_sums = (state.exposure, {})
    known = chain.flat_sums[1]
    if b not in known:
        known[b] = _flat_sum(chain, b, state.exposure, state.node_full)
    known[b] = known.pop(b)  # the last to be asked for stand last
    while len(known) > FLAT_SUMS:
        del known[next(iter(known))]
    return known[b]


def _flat_sum(chain: Chain, b: float, exposure: np.ndarray, node_full: np.ndarray) -> float:
    if chain.carried.pairs:
        listed = 0.0
        for block in blocks(exposure.size):
            listed += _log_share(prior_rate(chain, b, block), exposure[block]).sum()
    else:
        listed = exposure.size * math.log(b) - _kernels.sum_logs(exposure, b)
    if chain.layout.background:
        ground = np.unique(chain.layout.pair_ptr[:-1])  # a shard lists none for others' children
        listed -= _log_share(b + take(chain.carried.exposure, ground), exposure[ground]).sum()
    rest = _log_share(b + chain.carried.node_exposure, node_full)
    return float(listed + (chain.layout.n_unlisted * rest).sum())


def _log_share(prior: np.ndarray | float, exposure: np.ndarray) -> np.ndarray:
    """log(prior / (prior + exposure)), with no other array than the result."""
    share = exposure + prior
    np.log(share, out=share)
    return np.subtract(np.log(prior), share, out=share)


def set_theta(chain: Chain, theta: np.ndarray, exposure: np.ndarray, node_full: np.ndarray) -> None:
    """Adopt delay parameters and all that follows from them."""
    layout, state, delay = chain.layout, chain.state, chain.model.delay
    state.theta, state.exposure, state.node_full = theta, exposure, node_full
    chain.shape_sums = ShapeSums()
    if layout.background or chain.carried.pairs:
        state.rate = exposure + prior_rate(chain, state.b)
    else:
        state.rate = np.empty(0)
    if layout.background:
        set_ground_rate(chain, state.background_rate)
    if delay.name != "exponential":
        state.cand_weight = layout.hazard_weight(lambda delays: delay.log_hazard(delays, theta))


class RateTarget:
    """Log density of parents, b, Lambda and delays with the rates integrated out (3.2).

    Over all ordered pairs: listed ones one by one, the others, which carry nothing and have
    the exposure of their source, grouped by source.
    """

    def __init__(self, chain: Chain) -> None:
        state = chain.state
        self.chain = chain
        self.flat = chain.model.prior == "flat"
        self.shape, self.remembered = state.shape, chain.carried.n
        if chain.edge_pairs is not None:
            self.shape = np.zeros(chain.layout.n_pairs)
            self.shape[chain.edge_pairs] = state.shape[chain.edge_pairs]
            self.remembered = self.remembered * (chain.layout.pair_source >= 0)
        self.used = used_pairs(chain)
        self.n = state.n_pair[self.used].astype(np.float64)
        self.shape_used = self.shape[self.used]
        self.remembered_used = take(chain.carried.n, self.used)

    @property
    def unlisted(self) -> np.ndarray:
        """Sum of the shapes of all pairs that are not listed, by source, float64 (N,)."""
        sums = self.chain.shape_sums
        if sums.unlisted is None:
            sums.unlisted = self._sum_unlisted()
        return sums.unlisted

    def _sum_unlisted(self) -> np.ndarray:
        layout, state = self.chain.layout, self.chain.state
        known = layout.n_nodes
        if self.flat:
            return layout.n_unlisted * (state.total / max(known * (known - 1), 1))
        listed = np.zeros(known)
        _kernels.add_by_source(layout.pair_source, self.shape, listed)
        reach = state.receiver[:known].sum(axis=0) - state.receiver[:known]
        mass = state.total * (state.weighted_sender[:known] * reach).sum(axis=1)
        return np.maximum(mass - listed, 0.0)

    def at(
        self,
        b: float,
        exposure: np.ndarray | None = None,
        node_full: np.ndarray | None = None,
    ) -> Callable[[float], float]:
        """Log density as a function of a factor on all shapes; the parents' hazards left out.

        The pass over all pairs is done here, once; each call costs the used pairs only. Without
        memory a chain keeps its outcome for as long as shapes and exposures stay: what the log
        density of a draw is made of, the next random walk starts from.
        """
        chain, state, carried = self.chain, self.chain.state, self.chain.carried
        others = exposure is not None
        exposure = exposure if others else state.exposure
        node_full = node_full if others else state.node_full
        kept = not others and not carried.pairs
        by_shape = chain.shape_sums.by_b.get(b) if kept else None
        by_memory = 0.0
        if carried.pairs or (by_shape is None and not self.flat):
            listed, by_memory = self._listed_sums(b, exposure)
        if self.flat:
            known = chain.layout.n_nodes
            by_shape = state.total / max(known * (known - 1), 1)
            by_shape *= _flat_sum(chain, b, exposure, node_full) if others else flat_sum(chain, b)
        elif by_shape is None:
            rest = _log_share(b + carried.node_exposure, node_full)
            by_shape = listed + (self.unlisted * rest).sum()
            if kept:
                chain.shape_sums.by_b[b] = by_shape
        log_rate = np.log(exposure[self.used] + b + take(carried.exposure, self.used))
        by_count = (self.n * log_rate).sum() - by_memory

        def density(scale: float = 1.0) -> float:
            r = scale * self.shape_used + self.remembered_used
            return float(scale * by_shape - by_count + (gammaln(r + self.n) - gammaln(r)).sum())

        return density

    def _listed_sums(self, b: float, exposure: np.ndarray) -> tuple[float, float]:
        """Sums over listed pairs of log(b / (b + E)), weighed by shapes and by memory."""
        by_shape = by_memory = 0.0
        for block in blocks(exposure.size):
            share = _log_share(prior_rate(self.chain, b, block), exposure[block])
            if self.chain.carried.pairs:
                by_memory += (self.remembered[block] * share).sum()
            share *= self.shape[block]
            by_shape += share.sum()
        return by_shape, by_memory


def _log_prior_ratio(new: float, old: float, prior: tuple[float, float]) -> float:
    """Log ratio of Gamma(shape, rate) densities of two values on the log scale."""
    return prior[0] * math.log(new / old) - prior[1] * (new - old)


def _accept(chain: Chain, name: str, log_ratio: float) -> bool:
    """Metropolis decision; while tuning, moves the proposal scale towards its target rate."""
    accepted = math.log(1.0 - chain.rng.random()) < log_ratio
    if chain.adapting:
        probability = math.exp(min(log_ratio, 0.0)) if log_ratio == log_ratio else 0.0
        gain = 1.0 / math.sqrt(1.0 + chain.n_sweeps)
        step = chain.state.log_step.get(name, -1.0)
        chain.state.log_step[name] = step + gain * (probability - TARGET_ACCEPTANCE)
    return accepted


def _step(chain: Chain, name: str) -> float:
    return math.exp(chain.state.log_step.get(name, -1.0)) * chain.rng.standard_normal()


def set_b(chain: Chain, b: float) -> None:
    """Adopt b and the rates that follow from it."""
    state = chain.state
    state.b = b
    if state.rate.size:
        np.add(state.exposure, prior_rate(chain, b), out=state.rate)
        if chain.layout.background:
            set_ground_rate(chain, state.background_rate)


def set_ground_rate(chain: Chain, d0: float) -> None:
    """Adopt the prior rate of the background's hazards."""
    state, ground = chain.state, chain.layout.pair_ptr[:-1]
    state.background_rate = d0
    state.rate[ground] = state.exposure[ground] + _ground_prior_rate(chain, d0)


def update_b(chain: Chain) -> None:
    """Random walks of log b, of log Lambda, and of both along their ridge (3.2).

    The last one leaves the prior mean Lambda p / b of all rates where it is.
    """
    state, b_prior, total_prior = chain.state, chain.model.b_prior, chain.model.total_prior
    target = RateTarget(chain)
    current = target.at(state.b)

    b = state.b * math.exp(_step(chain, "b"))
    proposed = target.at(b)
    log_ratio = proposed() - current() + _log_prior_ratio(b, state.b, b_prior)
    if _accept(chain, "b", log_ratio):
        current = proposed
        set_b(chain, b)

    c = math.exp(_step(chain, "Lambda"))
    log_ratio = current(c) - current()
    log_ratio += _log_prior_ratio(c * state.total, state.total, total_prior)
    scale = c if _accept(chain, "Lambda", log_ratio) else 1.0

    c = math.exp(_step(chain, "ridge"))
    b = c * state.b
    log_ratio = target.at(b)(c * scale) - current(scale)
    log_ratio += _log_prior_ratio(b, state.b, b_prior)
    total = scale * state.total
    log_ratio += _log_prior_ratio(c * total, total, total_prior)
    if _accept(chain, "ridge", log_ratio):
        scale *= c
        set_b(chain, b)

    state.total *= scale
    chain.shape_sums = ShapeSums()
    if chain.edge_pairs is None:
        state.shape *= scale
    else:
        state.shape[chain.edge_pairs] *= scale


def update_persistence(chain: Chain) -> None:
    """Which memories of remembered edges are in force, rates integrated out; and how many.

    Each is drawn given the others. The marginal of n transmissions under Gamma(a, b) rates and
    exposure E is Gamma(a + n) / Gamma(a) b^a / (b + E)^(a + n).
    """
    state, carried = chain.state, chain.carried
    rows = carried.rows
    n, exposure = state.n_pair[rows], state.exposure[rows]

    def evidence(a: np.ndarray, prior: np.ndarray) -> np.ndarray:
        value = gammaln(a + n) - gammaln(a) + a * np.log(prior)
        return value - (a + n) * np.log(prior + exposure)

    log_odds = math.log(state.persistence) - math.log1p(-state.persistence)
    for s in range(len(state.kept)):
        state.kept[s] = False
        shape = state.shape[rows] + carried.lasting_n[rows]
        shape += (state.kept * carried.memory_n).sum(axis=0)
        prior = state.b + carried.lasting_exposure[rows]
        prior += (state.kept * carried.memory_exposure).sum(axis=0)
        gain = evidence(shape + carried.memory_n[s], prior + carried.memory_exposure[s])
        gain -= evidence(shape, prior)
        uniform = chain.rng.random(rows.size)
        state.kept[s] = np.log(uniform) - np.log1p(-uniform) < log_odds + gain
    carried.use(state.kept)
    if rows.size:
        state.rate[rows] = exposure + (state.b + carried.exposure[rows])
    first, second = chain.model.persistence_prior
    in_force = np.count_nonzero(state.kept)
    drawn = chain.rng.beta(first + in_force, second + state.kept.size - in_force)
    state.persistence = float(min(max(drawn, SMALLEST_SHARE), 1.0 - SMALLEST_SHARE))


def update_delay(chain: Chain) -> None:
    """Random walk of each delay parameter on its unconstrained scale (3.2)."""
    layout, state, delay = chain.layout, chain.state, chain.model.delay
    target = RateTarget(chain)
    delays = chosen_delays(chain)

    def density(theta: np.ndarray, phi: np.ndarray, *exposures: np.ndarray) -> float:
        value = target.at(state.b, *exposures)()
        value += float(delay.log_hazard(delays, theta).sum())
        return value + delay.log_prior_unconstrained(phi)

    phi = delay.to_unconstrained(state.theta)
    current = density(state.theta, phi, state.exposure, state.node_full)
    for j, name in enumerate(delay.parameters):
        proposal = phi.copy()
        proposal[j] += _step(chain, name)
        theta = delay.from_unconstrained(proposal)
        with np.errstate(over="ignore", invalid="ignore"):  # too far: nan, which is refused
            exposures = layout.exposure(delay, theta)
            proposed = density(theta, proposal, *exposures)
        if _accept(chain, name, proposed - current):
            set_theta(chain, theta, *exposures)
            phi, current = proposal, proposed


def update_background(chain: Chain) -> None:
    """Random walk of the log rate d0 of the background hazards' Gamma(c0, d0) prior."""
    state, model, layout = chain.state, chain.model, chain.layout
    ground = layout.pair_ptr[:-1]
    n, exposure = state.n_pair[ground], state.exposure[ground]

    shape = model.background_shape + take(chain.carried.n, ground)

    def density(d: float) -> float:
        prior = _ground_prior_rate(chain, d)
        value = shape * np.log(prior) - (shape + n) * np.log(exposure + prior)
        return float(value.sum())

    d = state.background_rate * math.exp(_step(chain, "background"))
    log_ratio = density(d) - density(state.background_rate)
    log_ratio += _log_prior_ratio(d, state.background_rate, model.background_rate_prior)
    if _accept(chain, "background", log_ratio):
        set_ground_rate(chain, d)


def set_tree_weight(chain: Chain) -> None:
    """Delay densities f = nu h exp(-nu H) of all candidates, relative within an infection."""
    layout, state, delay = chain.layout, chain.state, chain.model.delay

    def log_weight(delays: np.ndarray) -> np.ndarray:
        log_hazard = delay.log_hazard(delays, state.theta)
        return log_hazard - state.nu * delay.cumulative(delays, state.theta)

    state.cand_weight = layout.hazard_weight(log_weight)


def update_nu(chain: Chain) -> None:
    """Rate nu of the tree likelihood's delay density, conjugate (4)."""
    state, model = chain.state, chain.model
    delays = chosen_delays(chain)
    cumulative = float(model.delay.cumulative(delays, state.theta).sum())
    shape, rate = model.nu_prior
    state.nu = chain.rng.standard_gamma(shape + delays.size) / (rate + cumulative)
    set_tree_weight(chain)


def update_tree_delay(chain: Chain) -> None:
    """Random walk of each delay parameter of the tree likelihood (4)."""
    state, delay = chain.state, chain.model.delay
    delays = chosen_delays(chain)

    def density(phi: np.ndarray) -> float:
        theta = delay.from_unconstrained(phi)
        value = float(delay.log_hazard(delays, theta).sum())
        value -= state.nu * float(delay.cumulative(delays, theta).sum())
        return value + delay.log_prior_unconstrained(phi)

    phi = delay.to_unconstrained(state.theta)
    for j, name in enumerate(delay.parameters):
        proposal = phi.copy()
        proposal[j] += _step(chain, name)
        if _accept(chain, name, density(proposal) - density(phi)):
            phi = proposal
    state.theta = delay.from_unconstrained(phi)
    set_tree_weight(chain)


def chosen_delays(chain: Chain) -> np.ndarray:
    """Delay between each infection and its parent, seeds and background ones left out."""
    layout, state = chain.layout, chain.state
    rows = np.flatnonzero(state.parent >= 0)
    rows = rows[layout.pair_source[state.parent[rows]] >= 0]
    return layout.chosen_delays(rows, state.choice[rows])
