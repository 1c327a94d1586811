"""Exact enumeration: each discrete update leaves the posterior of tiny problems as it is.

All states of a problem are listed with their posterior probability pi, the continuous parameters
being held. The update, restated in `exact` as transition probabilities P, must take pi to pi again;
the same with a mistake in it must not. What the compiled update does from a given state is compared
with that state's row of P by a chi-square test.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

from cascadenet.delays import get_delay
from cascadenet.inference import communities, exact, parents, rates, worlds
from cascadenet.inference.dynamics.memory import (
    SUPPORTED,
    Carried,
    PairMemory,
    carried,
)
from cascadenet.inference.exact import Infections, Kernel, Labels, Law, Memories, Story, Tokens
from cascadenet.inference.layout import build_layout
from cascadenet.inference.sampler import Chain, Model, Update, refresh_shape
from cascadenet.inference.worlds import Design
from cascadenet.pairs import pair_keys, split_keys

RUNS = 8000  # of a compiled update from each state
CELL = 10.0  # expected runs that a cell of a chi-square test has at least


@dataclass(frozen=True)
class Case:
    """One update on one tiny problem.

    Attributes
    ----------
    update : str
        Name of the sampler's update.
    problem : str
    pi : dict
        Posterior of all states.
    kernels : list of callables
        The update restated, step by step: state -> {state: probability}. Each leaves ``pi`` alone.
    wrong : dict of str to list of callables
        The same with a mistake.
    run : callable
        The compiled update, once: state -> state.
    starts : list
        States to run it from.
    """

    update: str
    problem: str
    pi: Law
    kernels: list[Kernel]
    wrong: dict[str, list[Kernel]]
    run: Callable[[Any], Any]
    starts: list[Any]


@dataclass(frozen=True)
class Finding:
    """What enumeration says of one case.

    Attributes
    ----------
    off : float
        Largest \\|pi P - pi\\| of any state and step.
    p : float
        Smallest p-value of the compiled update against its rows of P.
    wrong_off : dict of str to float
        The same distance for each mistake.
    wrong_p : dict of str to float
        Smallest p-value of the compiled update against the rows of each mistake.
    """

    off: float
    p: float
    wrong_off: dict[str, float] = field(default_factory=dict)
    wrong_p: dict[str, float] = field(default_factory=dict)


def judge(case: Case, runs: int = RUNS) -> Finding:
    """Compare an update with the posterior, and the compiled one with its probabilities."""
    off = max(exact.distance(exact.push(case.pi, kernel), case.pi) for kernel in case.kernels)
    p, wrong_p = [], dict.fromkeys(case.wrong, 1.0)
    for start in case.starts:
        seen = Counter(case.run(start) for _ in range(runs))
        p.append(chi_square_p(seen, exact.push({start: 1.0}, *case.kernels)))
        for name, kernels in case.wrong.items():
            row = exact.push({start: 1.0}, *kernels)
            wrong_p[name] = min(wrong_p[name], chi_square_p(seen, row))
    wrong_off = {
        name: exact.distance(exact.push(case.pi, *kernels), case.pi)
        for name, kernels in case.wrong.items()
    }
    return Finding(off, min(p), wrong_off, wrong_p)


def chi_square_p(observed: Counter, expected: Law) -> float:
    """p-value of outcomes against their probabilities; an impossible one gives 0."""
    runs = sum(observed.values())
    if not observed.keys() <= {s for s, p in expected.items() if p > 0.0}:
        return 0.0
    cells = sorted((p * runs, observed[s]) for s, p in expected.items())
    pooled = [[0.0, 0.0]]
    for mean, count in cells:  # rare outcomes share a cell
        if pooled[-1][0] >= CELL:
            pooled.append([0.0, 0.0])
        pooled[-1][0] += mean
        pooled[-1][1] += count
    if len(pooled) > 1 and pooled[-1][0] < CELL:
        last = pooled.pop()
        pooled[-1] = [pooled[-1][0] + last[0], pooled[-1][1] + last[1]]
    if len(pooled) == 1:
        return 1.0  # one outcome, and it came
    mean, count = np.array(pooled).T
    return float(stats.chisquare(count, mean * (runs / mean.sum())).pvalue)


def cases(seed: int | np.random.Generator) -> Iterator[Case]:
    """All updates that draw something discrete, each on several problems.

    Parameters
    ----------
    seed : int or numpy.random.Generator
        Of the networks and of the compiled updates.
    """
    rng = np.random.default_rng(seed)
    for name, problem in PARENT_PROBLEMS.items():
        yield from _parent_cases(name, *explained_chain(rng, problem), problem)
    for count in (1, 2):
        yield _memory_case(rng, count)
    for name, remembered in (("nothing remembered", 0.0), ("memory", 0.8)):
        yield _table_case(rng, name, remembered)
    for name, tokens in TOKEN_PROBLEMS.items():
        yield from _token_cases(name, tokens, rng)


def _some_states(pi: Law) -> list[Any]:
    """The least and the most likely state and one between."""
    order = sorted(pi, key=pi.__getitem__)
    return [order[0], order[len(order) // 2], order[-1]]


# ------------------------------------------------------------------------------------------ parents

THREE = (
    Story([(0.0, 0), (1.0, 1), (1.6, 2), (2.5, 3)], 3.0),
    Story([(0.0, 2), (0.5, 0), (1.4, 1)], 2.0),
    Story([(0.0, 1), (0.0, 3), (0.8, 2), (1.5, 0)], 4.0),
)
TWO = (
    Story([(0.0, 0), (0.7, 1), (1.6, 2)], 2.0),
    Story([(0.2, 1), (0.5, 0), (1.4, 2)], 2.5),
)


@dataclass(frozen=True)
class ParentProblem:
    """Cascades, what is remembered, and the model: who infected whom?

    Attributes
    ----------
    tales : tuple of Story
    design : Design
        Its number of nodes, cap of candidates, and memory of pairs.
    kept : tuple of bool
        Which memories of supported pairs are in force.
    settings : dict
        Of the model; ``delay`` by name.
    """

    tales: tuple[Story, ...] = THREE
    design: Design = field(default_factory=Design)
    kept: tuple[bool, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


_REMEMBERED = {
    "design": Design(memory=worlds.some_memory(), kappa=0.3),
    "kept": (True, False, True, True),
}
PARENT_PROBLEMS = {
    "exponential": ParentProblem(),
    "rayleigh, no null": ParentProblem(settings={"delay": "rayleigh", "null_community": False}),
    "decay, background": ParentProblem(
        TWO, Design(n_nodes=3), settings={"delay": "decay", "background": True}
    ),
    "background, no null": ParentProblem(
        TWO, Design(n_nodes=3), settings={"background": True, "null_community": False}
    ),
    "weibull, 2 candidates": ParentProblem(
        design=Design(max_candidates=2), settings={"delay": "weibull"}
    ),
    "memory": ParentProblem(**_REMEMBERED),
    "memory, background, no null": ParentProblem(
        TWO,
        **_REMEMBERED,
        settings={"delay": "rayleigh", "background": True, "null_community": False},
    ),
    "tree": ParentProblem(settings={"likelihood": "tree"}),
    "tree, rayleigh, no null": ParentProblem(
        settings={"likelihood": "tree", "delay": "rayleigh", "null_community": False}
    ),
}


def explained_chain(rng: np.random.Generator, problem: ParentProblem) -> tuple[Chain, Infections]:
    """A chain with a random network of two communities, and its problem from the definitions."""
    settings = dict(problem.settings)
    design, n_nodes = problem.design, problem.design.n_nodes
    delay = get_delay(settings.pop("delay", "exponential"))
    model = Model(delay, truncation=2, switch=bool(problem.kept), **settings)
    layout = build_layout(
        exact.cascades_of(problem.tales, n_nodes),
        background=model.background,
        max_candidates=design.max_candidates,
        listed=None if design.memory is None else design.memory.pairs,
    )
    chain = Chain(layout, model, rng, worlds.carried_by(layout, model, design))
    chain.adapting = chain.holding = False
    state = chain.state
    state.weight = rng.dirichlet(np.ones(3))
    if not model.null_community:
        state.weight = np.append(0.0, state.weight[1:] / state.weight[1:].sum())
    state.sender = rng.dirichlet(np.ones(n_nodes), 3).T
    state.receiver = rng.dirichlet(np.ones(n_nodes), 3).T
    state.total, state.b, state.nu, state.background_rate = 3.0, 0.7, 1.4, 2.0
    state.theta = state.theta * 1.4  # a Weibull delay starts from a constant hazard
    if problem.kept:
        state.kept[:] = problem.kept
        chain.carried.use(state.kept)
    if model.likelihood == "survival":
        rates.set_theta(chain, state.theta, *layout.exposure(model.delay, state.theta))
    else:
        rates.set_tree_weight(chain)
    refresh_shape(chain)
    return chain, as_defined(chain, problem)


def as_defined(chain: Chain, problem: ParentProblem) -> Infections:
    """Shapes, rates and hazards of a chain's problem from their definitions."""
    state, model, design = chain.state, chain.model, problem.design
    tales, n_nodes, limit = problem.tales, design.n_nodes, design.max_candidates
    name, theta, tree = model.delay.name, state.theta.tolist(), model.likelihood == "tree"
    unit = exact.typical_delay(tales, n_nodes, limit, model.background)
    kept = np.array([problem.kept]) if problem.kept else None
    more, old, ground_more, ground_old = worlds.remembered(design, kept)

    def cumulative(delay: float) -> float:
        return exact.cumulative_hazard(name, theta, delay / unit)

    def hazard(delay: float) -> float:
        h = exact.hazard(name, theta, delay / unit)
        return state.nu * h * math.exp(-state.nu * cumulative(delay)) if tree else h

    shape, rate = {}, {}
    for v in range(n_nodes):
        shape[-1, v] = model.background_shape + ground_more[v]
        rate[-1, v] = state.background_rate + ground_old[v]
        rate[-1, v] += exact.background_exposure(tales, v) / unit
        for u in range(n_nodes):
            p = exact.edge_probability(state.weight, state.sender, state.receiver, u, v)
            shape[u, v] = p if tree else state.total * p + more[u, v]
            rate[u, v] = 1.0
            if not tree:
                seen = exact.exposure(tales, u, v, limit, cumulative)
                rate[u, v] = state.b + old[u, v] + seen
    return exact.infections(tales, n_nodes, limit, model.background, hazard, shape, rate)


def explain(chain: Chain, choice: Labels) -> None:
    """Put a chain's parents where the explanation says."""
    state, layout = chain.state, chain.layout
    state.n_pair[:] = 0
    for row, position in enumerate(choice):
        if position >= 0:
            state.choice[row] = position
            state.parent[row] = layout.cand_pair[layout.cand_ptr[row] + position]
            state.n_pair[state.parent[row]] += 1


def gibbs_pass(data: Infections, reinforce: bool = True) -> list[Kernel]:
    """All steps of the Gibbs pass over parents."""
    return [
        lambda choice, i=i: exact.parent_kernel(data, i, choice, reinforce)
        for i in range(len(data.sources))
    ]


def metropolis_pass(data: Infections, prior: Sequence[Sequence[float]]) -> list[Kernel]:
    """All steps of the Metropolis pass over parents, given what is proposed besides."""
    return [
        lambda choice, i=i: exact.metropolis_kernel(data, i, choice, prior[i])
        for i in range(len(data.sources))
    ]


def swap_pass(data: Infections, patience: float = math.inf) -> list[Kernel]:
    """All steps of the swap moves."""
    return [
        lambda choice, i=i: exact.swap_kernel(data, i, choice, patience)
        for i in range(len(data.sources))
    ]


class _ForgetsToSubtract(Infections):
    """Mistake: an infection's own count attracts it to its present parent."""

    def weights(self, choice: Sequence[int], i: int, reinforce: bool = True) -> list[float]:
        n = self.counts(choice)
        return [
            (self.shape[p] + n[p]) / self.rate[p] * h
            for p, h in zip(self.sources[i], self.hazards[i], strict=True)
        ]


def _mistaken(data: Infections, chain: Chain, problem: ParentProblem) -> dict[str, Infections]:
    """The problem with something left out."""
    found = {}
    if chain.model.likelihood == "survival":
        found["exposures left out"] = replace(data, rate=dict.fromkeys(data.rate, 1.0))
    if chain.model.delay.name != "exponential" or chain.model.likelihood == "tree":
        even = [[1.0] * len(h) for h in data.hazards]
        found["hazards left out"] = replace(data, hazards=even)
    if problem.design.memory is not None:
        blind = as_defined(
            chain, replace(problem, design=replace(problem.design, memory=None), kept=())
        )
        found["remembered transmissions left out"] = replace(data, shape=blind.shape)
        found["remembered exposure left out"] = replace(data, rate=blind.rate)
    return found


def proposed_besides(chain: Chain, data: Infections) -> list[list[float]]:
    """What the candidates of each infection are proposed with, whatever they explain.

    Relative to the largest hazard of an infection, as the sampler has all of them.
    """
    share, _, factor = parents.proposal_odds(chain)
    ratio = rates.gamma_shape(chain) / rates.collapsed_rate(chain)
    ground = ratio[chain.layout.pair_ptr[:-1]] if chain.layout.background else np.empty(0)
    return [
        [max(h) * float(factor[v] * share[u] if u >= 0 else ground[v]) for u, v in sources]
        for sources, h in zip(data.sources, data.hazards, strict=True)
    ]


def _with(update: Update, **settings: int) -> Update:
    """An update as it is for other data: more candidates, infections of a pair, or rounds."""

    def run(chain: Chain) -> None:
        model = chain.model
        chain.model = replace(model, **settings)
        update(chain)
        chain.model = model

    return run


def _parent_cases(
    name: str, chain: Chain, data: Infections, problem: ParentProblem
) -> Iterator[Case]:
    tree = chain.model.likelihood == "tree"
    pi = exact.posterior(data.explanations(), partial(data.log_weight, reinforce=not tree))
    has_parent = np.diff(chain.layout.cand_ptr) > 0

    def run(update: Update, choice: Labels) -> Labels:
        explain(chain, choice)
        update(chain)
        return tuple(np.where(has_parent, chain.state.choice, -1).tolist())

    mistaken = _mistaken(data, chain, problem)
    wrong = {what: gibbs_pass(x, not tree) for what, x in mistaken.items()}
    if tree:
        wrong["counts attract"] = gibbs_pass(data, reinforce=True)
    else:
        forgets = _ForgetsToSubtract(**vars(data))
        wrong["own count not taken out"] = gibbs_pass(forgets)
    update = parents.draw_tree_parents if tree else parents.draw_parents
    kernels, starts = gibbs_pass(data, not tree), _some_states(pi)
    yield Case(update.__name__, name, pi, kernels, wrong, partial(run, update), starts)
    if tree:
        return
    prior = proposed_besides(chain, data)
    wrong = {what: metropolis_pass(x, prior) for what, x in mistaken.items()}
    wrong["own count not taken out"] = metropolis_pass(forgets, prior)
    kernels, propose = metropolis_pass(data, prior) * 2, {"scan": 0, "parent_rounds": 2}
    twice = partial(run, _with(parents.draw_parents, **propose))
    yield Case("draw_parents", f"{name}, proposed twice", pi, kernels, wrong, twice, starts)
    wrong = {what: swap_pass(x) for what, x in mistaken.items()}
    run_swaps = partial(run, parents.swap_parents)
    yield Case("swap_parents", name, pi, swap_pass(data), wrong, run_swaps, starts)
    wrong = {what: swap_pass(x, 1) for what, x in mistaken.items()}
    seldom = partial(run, _with(parents.swap_parents, patience=1))
    yield Case("swap_parents", f"{name}, seldom", pi, swap_pass(data, 1), wrong, seldom, starts)


# ---------------------------------------------------------------------------------- pairs' memories


def some_memories(count: int) -> list[PairMemory]:
    """Memories that differ of three supported pairs and one that is not supported."""
    key = pair_keys(np.array([1, 2, 0, 1]), np.array([0, 0, 1, 2]), 4)
    support = np.array([3.0, 0.1, 1.2, 5.0])
    node = np.linspace(0.2, 1.4, 4)
    numbers = [
        ([2.5, 0.1, 1.0, 3.0], [1.5, 0.3, 4.0, 0.7]),
        ([0.4, 0.2, 2.0, 0.1], [0.6, 0.2, 0.8, 3.0]),
    ]
    return [
        PairMemory(key, np.array(n), np.array(exposure), support, node)
        for n, exposure in numbers[:count]
    ]


class _BlindToOldExposure(Memories):
    """Mistake: a memory in force adds its transmissions only."""

    def log_weight(self, kept: Sequence[bool]) -> float:
        nothing = [[0.0] * len(old) for old in self.old_exposure]
        return replace(Memories(**vars(self)), old_exposure=nothing).log_weight(kept)


def _together(memories: Memories, kept: tuple[bool, ...]) -> Law:
    """Mistake: all flags drawn given where all the others were."""
    law: Law = {(): 1.0}
    for x in range(len(kept)):
        flag = {state[x]: p for state, p in exact.memory_kernel(memories, x, kept).items()}
        law = {(*state, on): p * q for state, p in law.items() for on, q in flag.items()}
    return law


def memory_problem(rng: np.random.Generator, count: int) -> tuple[Chain, Memories]:
    """A chain with so many memories of three pairs, its parents held, and its problem."""
    problem = ParentProblem()
    likely, data = explained_chain(rng, problem)
    given, kappa = some_memories(count), 0.3
    layout = build_layout(exact.cascades_of(problem.tales, 4), listed=given[0].pairs)
    model = replace(likely.model, switch=True)
    chain = Chain(layout, model, rng, carried(given, layout, kappa, True))
    chain.adapting = chain.holding = False
    state = chain.state
    for name in ("weight", "sender", "receiver", "total", "b"):
        setattr(state, name, getattr(likely.state, name))
    rates.set_theta(chain, state.theta, *layout.exposure(model.delay, state.theta))
    refresh_shape(chain)
    choice = max(data.explanations(), key=data.log_weight)
    explain(chain, choice)
    rows = [x for x, n in enumerate(given[0].support) if count * n >= SUPPORTED]
    support = [count * float(given[0].support[x]) for x in rows]
    ends = split_keys(given[0].key[rows], given[0].n_nodes)
    pairs = list(zip(*(end.tolist() for end in ends), strict=True))
    n = data.counts(choice)
    return chain, Memories(
        n=[n[pair] for pair in pairs],
        exposure=[data.rate[pair] - state.b for pair in pairs],
        shape=[
            data.shape[pair] + kappa * (1.0 - math.exp(-s))
            for pair, s in zip(pairs, support, strict=True)
        ],
        rate=[state.b] * len(pairs),
        old_n=[memory.n[rows].tolist() for memory in given],
        old_exposure=[memory.exposure[rows].tolist() for memory in given],
        persistence=0.6,
    )


def draw_memories(chain: Chain, memories: Memories, kept: tuple[bool, ...]) -> tuple[bool, ...]:
    """The compiled update of a `memory_problem`, from a state to a state."""
    state = chain.state
    state.persistence = memories.persistence
    state.kept[:] = np.reshape(kept, state.kept.shape)
    chain.carried.use(state.kept)
    rates.update_persistence(chain)
    return tuple(state.kept.ravel().tolist())


def _memory_case(rng: np.random.Generator, count: int) -> Case:
    chain, memories = memory_problem(rng, count)

    def steps(of: Memories) -> list[Kernel]:
        return [partial(exact.memory_kernel, of, x) for x in range(count * len(memories.n))]

    wrong = {
        "remembered exposure left out": steps(_BlindToOldExposure(**vars(memories))),
        "persistence left out": steps(replace(memories, persistence=0.5)),
    }
    if count > 1:
        wrong["memories blind to each other's draw"] = [partial(_together, memories)]
    pi = exact.posterior(memories.states(), memories.log_weight)
    name = "one memory" if count == 1 else "two memories"
    run = partial(draw_memories, chain, memories)
    return Case("update_persistence", name, pi, steps(memories), wrong, run, _some_states(pi))


# ------------------------------------------------------------------------------------------- tables


def _table_case(rng: np.random.Generator, name: str, remembered: float) -> Case:
    """Tables of a pair with six transmissions."""
    n, problem = 6, ParentProblem()
    chain, _ = explained_chain(rng, problem)
    state, layout = chain.state, chain.layout
    state.n_pair[:] = 0
    state.n_pair[0] = n
    state.total = 0.0  # no phantoms
    r = state.shape[0] = 1.5
    if remembered:
        nothing = np.zeros(layout.n_pairs)
        chain.carried = Carried(
            n=nothing + remembered, exposure=nothing, node_exposure=np.zeros(layout.n_nodes)
        )

    def run(_: int) -> int:
        communities.draw_tokens(chain)
        return state.n_real

    def law(tables: Sequence[float]) -> list[Kernel]:
        return [lambda _: dict(enumerate(tables))]

    wrong = {"one customer too few": law([*exact.new_tables(n - 1, r, remembered), 0.0])}
    if remembered:
        wrong["old tables not thinned"] = law(exact.crt_distribution(n, r + remembered))
    pi = exact.table_posterior(n, r, remembered)
    return Case("draw_tokens", name, pi, law(exact.new_tables(n, r, remembered)), wrong, run, [n])


# ------------------------------------------------------------------------------------------- tokens

_FOUR = [(0, 1), (0, 2), (1, 1), (0, 1)]
_THIRDS = [1 / 3] * 3
TOKEN_PROBLEMS = {
    "null": Tokens(_FOUR, [1.0, 0.4, 0.4], _THIRDS, 1.3, [0.5, 0.3, 0.2]),
    "no null, five tokens": Tokens(
        [(0, 1), (2, 0), (0, 1), (2, 1), (0, 2)], [0.0, 0.7, 0.7], _THIRDS, 2.0, [0.2, 0.5, 0.3]
    ),
    "three communities, open world": Tokens(
        _FOUR, [0.0, 0.6, 0.6, 0.6], [0.45, 0.45, 0.1], 0.8, [0.5, 0.3, 0.2]
    ),
    "memory": Tokens(
        _FOUR,
        [1.0, 0.4, 0.4],
        _THIRDS,
        1.3,
        [0.5, 0.3, 0.2],
        (
            [0.5, 1.5, 2.0],
            [[0.25, 0.0, 1.5], [0.0, 1.0, 0.25], [0.25, 0.5, 0.25]],
            [[0.0, 1.25, 0.5], [0.25, 0.0, 1.5], [0.25, 0.25, 0.0]],
        ),
    ),
    "memory, three communities, no null": Tokens(
        _FOUR,
        [0.0, 0.6, 0.6, 0.6],
        [0.45, 0.45, 0.1],
        0.8,
        [0.5, 0.3, 0.2],
        (
            [0.0, 1.5, 0.0, 2.5],
            [[0.0, 0.5, 0.0, 2.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.5]],
            [[0.0, 1.25, 0.0, 0.5], [0.0, 0.0, 0.0, 2.0], [0.0, 0.25, 0.0, 0.0]],
        ),
    ),
}


class _CountsItself(Tokens):
    """Mistake: a token is not taken out before its community is drawn."""

    def members(
        self, assignment: Sequence[int], k: int, without: int | None = None
    ) -> list[tuple[int, int]]:
        return super().members(assignment, k)


def token_pass(tokens: Tokens) -> list[Kernel]:
    """All steps of the collapsed pass over tokens."""
    return [partial(exact.token_kernel, tokens, t) for t in range(len(tokens.pairs))]


def token_chain(rng: np.random.Generator, tokens: Tokens) -> Chain:
    """A chain that holds the tokens; its data play no part."""
    width = len(tokens.prior)
    model = Model(
        get_delay("exponential"),
        null_community=tokens.prior[0] > 0.0,
        truncation=width - 1,
        token_passes=1,
        split_merges=1,
    )
    chain = Chain(build_layout(exact.cascades_of(TWO, 3)), model, rng)
    chain.adapting = chain.holding = False
    chain.base = np.array(tokens.base)
    if tokens.memory is not None:
        eta, sent, received = map(np.array, tokens.memory)
        chain.carried = Carried(eta=eta, sent=sent, received=received)
    state = chain.state
    state.token_sender, state.token_receiver = np.array(tokens.pairs, np.int32).T.copy()
    state.alpha, state.tau = tokens.prior[-1] * (width - 1), tokens.tau
    state.beta = np.array(tokens.popularity)
    state.community = np.empty(len(tokens.pairs), np.int32)
    return chain


def _token_cases(name: str, tokens: Tokens, rng: np.random.Generator) -> Iterator[Case]:
    pi = exact.posterior(tokens.assignments(), tokens.log_weight)
    chain, scans = token_chain(rng, tokens), communities.RESTRICTED_SCANS

    def run(update: Update, assignment: Labels) -> Labels:
        chain.state.community[:] = assignment
        communities._count_tokens(chain)
        update(chain)
        return tuple(chain.state.community.tolist())

    def split_merge(of: Tokens, forget: str = "") -> list[Kernel]:
        return [lambda z: exact.split_merge_kernel(of, z, scans, forget)]

    even = replace(tokens, popularity=[1.0 / len(tokens.base)] * len(tokens.base))
    wrong = {
        "own count not taken out": token_pass(_CountsItself(**vars(tokens))),
        "stale popularity": token_pass(even),
    }
    wrong_moves = {"proposal's probability left out": split_merge(tokens, "proposal")}
    if tokens.memory is not None:
        wrong["remembered tokens left out"] = token_pass(replace(tokens, memory=None))
        wrong_moves["remembered tokens left out"] = split_merge(replace(tokens, memory=None))
    if len(tokens.prior) > 3:  # with two communities a split has no choice of its label
        wrong_moves["no choice of label"] = split_merge(tokens, "label")
    update = communities.draw_token_communities
    passes, starts = token_pass(tokens), _some_states(pi)
    yield Case(update.__name__, name, pi, passes, wrong, partial(run, update), starts)
    size = len(tokens.pairs)
    starts = [z for z in starts if sum(k > 0 for k in z) > 1]
    starts += [(1,) * size, (1, 2) * (size // 2) + (1,) * (size % 2)]
    moves = split_merge(tokens)
    run_moves = partial(run, communities.split_merge)
    yield Case("split_merge", name, pi, moves, wrong_moves, run_moves, starts)
