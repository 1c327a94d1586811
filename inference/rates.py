"""Updates of parents, rates and delays: the survival and the tree likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammaln

from cascadenet.inference import _kernels
from cascadenet.inference.dynamics.memory import take

if TYPE_CHECKING:
    from cascadenet.inference.sampler import Chain

SMALLEST_SHARE = 1e-12  # of memories in force, and of those not; keeps their odds finite
TARGET_ACCEPTANCE = 0.44  # of one-dimensional random walks


def gamma_shape(chain: Chain) -> np.ndarray:
    """Shape of the listed pairs' rates before the counts: network and memory, float64 (P,)."""
    carried, shape = chain.carried, chain.state.shape
    return shape + carried.n if carried.pairs else shape


def prior_rate(chain: Chain, b: float) -> np.ndarray | float:
    """Rate of the listed pairs' prior, exposure in memory included; ``b`` without any."""
    return b + chain.carried.exposure


def _ground_prior_rate(chain: Chain, d0: float) -> np.ndarray:
    """Rate of the background hazards' prior, exposure in memory included."""
    return d0 + take(chain.carried.exposure, chain.layout.pair_ptr[:-1])


def _scan_parents(chain: Chain, scan: int, *, reinforce: bool) -> None:
    layout, state = chain.layout, chain.state
    _kernels.update_parents(
        layout.child_ptr,
        layout.cand_ptr,
        layout.cand_pair,
        state.cand_weight,
        layout.pair_ptr,
        gamma_shape(chain),
        state.rate,
        reinforce,
        scan,
        chain.rng.random(layout.n_infections),
        state.choice,
        state.parent,
        state.n_pair,
    )


def _lookup(chain: Chain) -> tuple[Any, ...]:
    """First arguments of the kernels that look candidates up instead of scanning them."""
    layout = chain.layout
    return (
        layout.lookup,
        layout.child_ptr,
        layout.cand_ptr,
        layout.cand_pair,
        chain.state.cand_weight,
        layout.pair_ptr,
        layout.pair_source,
        gamma_shape(chain),
        chain.state.rate,
    )


def draw_parents(chain: Chain) -> None:
    """Parents given the network, rates integrated out (3.1).

    Infections with very many candidates take the outcome of a Metropolis proposal instead of a draw
    from all, whose cost would grow with their number.
    """
    layout, state, scan = chain.layout, chain.state, chain.model.scan
    _scan_parents(chain, scan, reinforce=True)
    if layout.widest > scan:
        _kernels.propose_parents(
            *_lookup(chain),
            scan,
            chain.rng.random((layout.n_infections, 3)),
            state.choice,
            state.parent,
            state.n_pair,
        )


def swap_parents(chain: Chain) -> None:
    """Exchange of what two sources explain in one child (3.1b)."""
    layout, state = chain.layout, chain.state
    _kernels.update_swaps(
        *_lookup(chain),
        layout.n_cand,
        chain.rng.random((layout.n_infections, 2)),
        state.choice,
        state.parent,
        state.n_pair,
    )


def set_theta(chain: Chain, theta: np.ndarray, exposure: np.ndarray, node_full: np.ndarray) -> None:
    """Adopt delay parameters and all that follows from them."""
    layout, state, delay = chain.layout, chain.state, chain.model.delay
    state.theta, state.exposure, state.node_full = theta, exposure, node_full
    state.rate = exposure + prior_rate(chain, state.b)
    if layout.background:
        ground = layout.pair_ptr[:-1]
        state.rate[ground] = exposure[ground] + _ground_prior_rate(chain, state.background_rate)
    if delay.name != "exponential":
        state.cand_weight = layout.relative_weight(layout.log_hazard(delay, theta))


class RateTarget:
    """Log density of parents, b, Lambda and delays with the rates integrated out (3.2).

    Over all ordered pairs: listed ones one by one, the others, which carry nothing and have
    the exposure of their source, grouped by source.
    """

    def __init__(self, chain: Chain) -> None:
        layout, state, model = chain.layout, chain.state, chain.model
        self.chain = chain
        self.shape, self.remembered = state.shape, chain.carried.n
        used = np.flatnonzero(state.n_pair)
        if chain.edge_pairs is not None:
            self.shape = np.zeros(layout.n_pairs)
            self.shape[chain.edge_pairs] = state.shape[chain.edge_pairs]
            self.remembered = self.remembered * (layout.pair_source >= 0)
            used = used[layout.pair_source[used] >= 0]
        self.used = used
        self.n = state.n_pair[used].astype(np.float64)
        self.shape_used = self.shape[used]
        self.remembered_used = take(chain.carried.n, used)
        listed = np.bincount(
            layout.pair_source
            if chain.edge_pairs is None
            else layout.pair_source[chain.edge_pairs],
            weights=self.shape if chain.edge_pairs is None else self.shape[chain.edge_pairs],
            minlength=layout.n_nodes,
        )
        if model.prior == "flat":
            mass = np.full(layout.n_nodes, state.total / max(layout.n_nodes, 1))
        else:
            known = layout.n_nodes
            reach = state.receiver[:known].sum(axis=0) - state.receiver[:known]
            mass = state.total * ((state.sender[:known] * state.weight) * reach).sum(axis=1)
        self.unlisted = np.maximum(mass - listed, 0.0)

    def at(
        self,
        b: float,
        exposure: np.ndarray | None = None,
        node_full: np.ndarray | None = None,
    ) -> Callable[[float], float]:
        """Log density as a function of a factor on all shapes; the parents' hazards left out.

        The pass over all pairs is done here, once; each call costs the used pairs only.
        """
        chain, state = self.chain, self.chain.state
        prior, node_prior = prior_rate(chain, b), b + chain.carried.node_exposure
        log_rate = np.log((state.exposure if exposure is None else exposure) + prior)
        full = state.node_full if node_full is None else node_full
        gain = np.log(prior) - log_rate
        by_shape = (self.shape * gain).sum()
        by_shape += (self.unlisted * (np.log(node_prior) - np.log(full + node_prior))).sum()
        by_count = (self.n * log_rate[self.used]).sum()
        if chain.carried.pairs:
            by_count -= (self.remembered * gain).sum()

        def density(scale: float = 1.0) -> float:
            r = scale * self.shape_used + self.remembered_used
            return float(scale * by_shape - by_count + (gammaln(r + self.n) - gammaln(r)).sum())

        return density


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


def _set_b(chain: Chain, b: float) -> None:
    state = chain.state
    state.b = b
    prior = prior_rate(chain, b)
    if chain.edge_pairs is None:
        np.add(state.exposure, prior, out=state.rate)
    else:
        state.rate[chain.edge_pairs] = (state.exposure + prior)[chain.edge_pairs]


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
        _set_b(chain, b)

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
        _set_b(chain, b)

    state.total *= scale
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
    delays = _chosen_delays(chain)

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
        state.background_rate = d
        state.rate[ground] = exposure + _ground_prior_rate(chain, d)


def set_tree_weight(chain: Chain) -> None:
    """Delay densities f = nu h exp(-nu H) of all candidates, relative within an infection."""
    layout, state, delay = chain.layout, chain.state, chain.model.delay
    log_weight = layout.log_hazard(delay, state.theta)
    log_weight = log_weight - state.nu * delay.cumulative(layout.cand_delay, state.theta)
    state.cand_weight = layout.relative_weight(log_weight)


def draw_tree_parents(chain: Chain) -> None:
    """Parents of the tree likelihood: independent given the network, an exact tree draw (4)."""
    _scan_parents(chain, chain.layout.n_nodes, reinforce=False)


def update_nu(chain: Chain) -> None:
    """Rate nu of the tree likelihood's delay density, conjugate (4)."""
    state, model = chain.state, chain.model
    delays = _chosen_delays(chain)
    cumulative = float(model.delay.cumulative(delays, state.theta).sum())
    shape, rate = model.nu_prior
    state.nu = chain.rng.standard_gamma(shape + delays.size) / (rate + cumulative)
    set_tree_weight(chain)


def update_tree_delay(chain: Chain) -> None:
    """Random walk of each delay parameter of the tree likelihood (4)."""
    state, delay = chain.state, chain.model.delay
    delays = _chosen_delays(chain)

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


def _chosen_delays(chain: Chain) -> np.ndarray:
    """Delay between each infection and its parent, seeds and background ones left out."""
    layout, state = chain.layout, chain.state
    rows = np.flatnonzero(state.parent >= 0)
    rows = rows[layout.pair_source[state.parent[rows]] >= 0]
    return layout.cand_delay[layout.cand_ptr[rows] + state.choice[rows]]
