"""Worlds: draws from the joint law of network, rates, cascades and parents, to test samplers with.

The code is deliberately plain and shares nothing with the sampler but the names of its settings, so
that the two check each other.
"""

from __future__ import annotations

import copy
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from cascadenet.cascades import Cascades
from cascadenet.delays import Delay, get_delay
from cascadenet.inference import sampler
from cascadenet.inference.dynamics.memory import SUPPORTED, Carried, PairMemory, carried
from cascadenet.inference.layout import BACKGROUND, Layout, build_layout
from cascadenet.inference.sampler import Chain, Model
from cascadenet.pairs import pair_keys, split_keys

SEED = -2  # parent of a seed; that of an infection from outside is BACKGROUND
STEP = 0.0  # log of all proposal scales, which are fixed in these tests


@dataclass(frozen=True)
class Design:
    """What a world does not draw: its size, who starts its cascades and how long they are watched.

    Attributes
    ----------
    n_nodes : int
    seeds : tuple of tuple of int
        Nodes infected at time 0 in each cascade.
    horizons : tuple of float
        End of observation of each cascade, in the internal unit. Unequal ones, and a node that
        never seeds, make exposures differ, as they must for exposure balancing to matter.
    max_candidates : int, optional
        A node acts until so many others have been infected after it.
    memory : PairMemory, optional
        What earlier intervals left of pairs.
    kappa : float
        Weight of the memory of support.
    tokens : tuple of float64 arrays, shapes (K,), (N', K), (N', K), optional
        What they left of tokens.
    """

    n_nodes: int = 4
    seeds: tuple[tuple[int, ...], ...] = ((0,), (0, 1), (2,), (0,))
    horizons: tuple[float, ...] = (6.0, 1.5, 0.5, 3.0)
    max_candidates: int | None = None
    memory: PairMemory | None = None
    kappa: float = 0.0
    tokens: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


@dataclass
class World:
    """One draw from the joint law of parameters and data.

    Attributes
    ----------
    parameters : dict
        Values of the fields of `sampler.State` that have a prior.
    rates : float64 array, shape (N, N)
        lambda_uv.
    cascades : Cascades
    parents : list of int
        Parent of each infection in the order of ``cascades.node``; `BACKGROUND` or `SEED` where
        it was no node.
    """

    parameters: dict[str, Any]
    rates: np.ndarray
    cascades: Cascades
    parents: list[int]


def draw_world(rng: np.random.Generator, model: Model, design: Design) -> World:
    """Draw parameters, rates, cascades and parents from their joint law."""
    parameters = draw_parameters(rng, model, design.n_nodes, design.tokens)
    if model.switch:
        parameters |= _draw_switches(rng, model, design)
    shape = edge_shape(parameters, model, design.n_nodes)
    more, exposure, ground_more, ground_exposure = remembered(design, parameters.get("kept"))
    rates = rng.standard_gamma(shape + more) / (parameters["b"] + exposure)
    ground = None
    if model.background:
        ground = rng.standard_gamma(model.background_shape + ground_more)
        ground /= parameters["background_rate"] + ground_exposure
    cascades, parents = draw_cascades(rng, model, design, parameters["theta"], rates, ground)
    return World(parameters, rates, cascades, parents)


def _draw_switches(rng: np.random.Generator, model: Model, design: Design) -> dict[str, Any]:
    """Which memories are in force, and how many are on average."""
    persistence = float(rng.beta(*model.persistence_prior))
    memory = design.memory
    source, _ = split_keys(memory.key, design.n_nodes)
    count = int(((source >= 0) & (memory.support >= SUPPORTED)).sum())
    return {"persistence": persistence, "kept": rng.random((1, count)) < persistence}


def remembered(
    design: Design, kept: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What memory adds to shape and rate of pairs (N, N), and of the background (N,).

    ``kept`` (1, R): which memories of supported pairs are in force, by target and source.
    """
    n_nodes, memory = design.n_nodes, design.memory
    more, exposure = np.zeros((2, n_nodes, n_nodes))
    ground_more, ground_exposure = np.zeros((2, n_nodes))
    if memory is None:
        return more, exposure, ground_more, ground_exposure
    exposure += memory.node_exposure[:, None]
    following = 0
    ends = zip(*(end.tolist() for end in split_keys(memory.key, n_nodes)), strict=True)
    for x, (u, v) in enumerate(ends):
        if u < 0:  # the background, which has no switch
            ground_more[v], ground_exposure[v] = memory.n[x], memory.exposure[x]
            continue
        here = 1.0
        if kept is not None and memory.support[x] >= SUPPORTED:
            here = float(kept[0, following])
            following += 1
        more[u, v] = design.kappa * (1.0 - math.exp(-memory.support[x])) + here * memory.n[x]
        exposure[u, v] = here * memory.exposure[x]
    return more, exposure, ground_more, ground_exposure


def draw_parameters(
    rng: np.random.Generator,
    model: Model,
    n_nodes: int,
    tokens: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Everything but rates and data, from the prior, as fields of `sampler.State`.

    ``tokens``: pseudo-counts of communities, senders and receivers.
    """

    def gamma(prior: tuple[float, float]) -> float:
        return rng.gamma(prior[0], 1.0 / prior[1])

    delay = model.delay
    phi = np.array([rng.normal(mean, sd) for mean, sd in delay.prior])
    drawn: dict[str, Any] = {
        "total": gamma(model.total_prior),
        "b": gamma(model.b_prior),
        "theta": delay.from_unconstrained(phi),
    }
    if model.background:
        drawn["background_rate"] = gamma(model.background_rate_prior)
    if model.prior == "flat":
        return drawn
    size = n_nodes + (model.reserve > 0)
    base = np.full(size, (1.0 - model.reserve) / n_nodes)
    if model.reserve:
        base[-1] = model.reserve
    alpha = gamma(model.alpha_prior)
    tau = gamma((model.concentration_shape, 1.0 / n_nodes))
    popularity = gamma((model.concentration_shape, 1.0 / n_nodes))
    beta = rng.dirichlet(popularity * base)
    beta = np.maximum(beta, 1e-200) / np.maximum(beta, 1e-200).sum()
    k = model.truncation
    eta, sent, received = tokens or (np.zeros(k + 1), *np.zeros((2, size, k + 1)))
    weight = np.zeros(k + 1)
    if model.null_community:
        weight[:] = rng.dirichlet(eta + np.array([model.null_mass] + [alpha / k] * k))
    else:
        weight[1:] = rng.dirichlet(eta[1:] + alpha / k)
    columns = range(1, k + 1)
    sender = np.column_stack([base, *(rng.dirichlet(tau * beta + sent[:, i]) for i in columns)])
    receiver = [rng.dirichlet(tau * beta + received[:, i]) for i in columns]
    receiver = np.column_stack([base, *receiver])
    drawn |= {"alpha": alpha, "tau": tau, "gamma": popularity, "beta": beta}
    return drawn | {"weight": weight, "sender": sender, "receiver": receiver}


def edge_shape(parameters: dict[str, Any], model: Model, n_nodes: int) -> np.ndarray:
    """Gamma shape r of every pair of known nodes, shape (N, N), zero on the diagonal."""
    if model.prior == "flat":
        shape = np.full((n_nodes, n_nodes), parameters["total"] / (n_nodes * (n_nodes - 1)))
    else:
        sender = parameters["sender"][:n_nodes] * parameters["weight"]
        shape = parameters["total"] * (sender @ parameters["receiver"][:n_nodes].T)
    np.fill_diagonal(shape, 0.0)
    return shape


def draw_cascades(
    rng: np.random.Generator,
    model: Model,
    design: Design,
    theta: np.ndarray,
    rates: np.ndarray,
    ground: np.ndarray | None,
) -> tuple[Cascades, list[int]]:
    """Cascades given the rates, and the parent of each infection.

    ``theta``: delay parameters; ``rates`` (N, N): lambda_uv; ``ground`` (N,): background hazards.
    """
    node, time, parents, offset = [], [], [], [0]
    given = (model.delay.name, theta, rates.tolist(), None if ground is None else ground.tolist())
    for seeds, horizon in zip(design.seeds, design.horizons, strict=True):
        order, when, source = _run(rng, design, seeds, horizon, *given)
        node += order
        time += [when[v] for v in order]
        parents += [source[v] for v in order]
        offset.append(len(node))
    horizons = np.array(design.horizons)
    return Cascades.from_arrays(range(design.n_nodes), offset, node, time, horizons), parents


def _run(
    rng: np.random.Generator,
    design: Design,
    seeds: Sequence[int],
    horizon: float,
    delay: str,
    theta: np.ndarray,
    rates: list[list[float]],
    ground: list[float] | None,
) -> tuple[list[int], dict[int, float], dict[int, int]]:
    """One cascade: nodes in the order of infection, their times and their parents."""
    wait = rng.standard_exponential((design.n_nodes + 1, design.n_nodes)).tolist()
    order = sorted(seeds)
    when = dict.fromkeys(order, 0.0)
    source = dict.fromkeys(order, SEED)
    arrivals: list[tuple[float, int, int]] = []

    def act(u: int, now: float) -> None:
        for v in range(design.n_nodes):
            if v not in when and rates[u][v] > 0.0:
                then = now + invert(delay, theta, wait[u][v] / rates[u][v])
                heapq.heappush(arrivals, (then, u, v))

    for u in order:
        act(u, 0.0)
    for v, hazard in enumerate(ground or ()):
        heapq.heappush(arrivals, (wait[-1][v] / hazard, BACKGROUND, v))
    while arrivals:
        now, u, v = heapq.heappop(arrivals)
        if now > horizon:
            break
        gone = (
            u != BACKGROUND and design.max_candidates and u not in order[-design.max_candidates :]
        )
        if v not in when and not gone:
            order.append(v)
            when[v], source[v] = now, u
            act(v, now)
    return order, when, source


def invert(name: str, theta: np.ndarray, x: float) -> float:
    """Delay at which the cumulative hazard H reaches x; inf when it never does."""
    if name == "exponential":
        return x
    if name == "rayleigh":
        return math.sqrt(2.0 * x)
    if name == "weibull":
        log_delay = math.log(x) / theta[0]
        return math.exp(log_delay) if log_delay < 700.0 else math.inf
    if name == "powerlaw":
        return theta[0] * math.exp(x) if x < 700.0 else math.inf
    if x >= 1.0:
        return math.inf
    if name == "decay":
        return -math.log1p(-x) / theta[0]
    if name == "lognormal":
        return math.exp(theta[0] + theta[1] * NormalDist().inv_cdf(x)) if x > 1e-300 else 0.0
    raise ValueError(f"name must be a delay model known here; got {name!r}")


def start_choice(layout: Layout, parents: Sequence[int]) -> np.ndarray:
    """Position of each true parent among the candidates of its infection, layout order."""
    choice = np.zeros(layout.n_infections, np.int64)
    ptr = layout.cand_ptr.tolist()
    sources = layout.pair_source[layout.cand_pair].tolist()
    for m, i in enumerate(layout.infection.tolist()):
        if ptr[m] < ptr[m + 1]:
            choice[m] = sources[ptr[m] : ptr[m + 1]].index(parents[i])
    return choice


def place(chain: Chain, world: World, design: Design) -> None:
    """Put a chain where the world is: its data, parents and parameters."""
    vars(chain.state).update(copy.deepcopy(world.parameters))
    adopt(chain, world.cascades, world.parents, design)


def adopt(chain: Chain, cascades: Cascades, parents: Sequence[int], design: Design) -> None:
    """Give a chain other data and parents."""
    layout = lay_out(cascades, chain.model, design)
    chain.carried = carried_by(layout, chain.model, design)
    chain.carried.use(chain.state.kept)
    sampler.adopt_parents(chain, layout, start_choice(layout, parents))


def carried_by(layout: Layout, model: Model, design: Design) -> Carried:
    """What a chain of this layout remembers."""
    if design.memory is None:
        return Carried()
    given = carried([design.memory], layout, design.kappa, model.switch)
    if design.tokens is not None:
        given.eta, given.sent, given.received = design.tokens
    return given


def new_chain(rng: np.random.Generator, model: Model, design: Design, world: World) -> Chain:
    """A chain at the world, with fixed proposal scales."""
    layout = lay_out(world.cascades, model, design)
    chain = Chain(layout, model, rng, carried_by(layout, model, design))
    chain.sweep()  # names the proposal scales; the chain goes elsewhere afterwards
    chain.adapting = chain.holding = False
    chain.state.log_step = dict.fromkeys(chain.state.log_step, STEP)
    place(chain, world, design)
    return chain


def lay_out(cascades: Cascades, model: Model, design: Design) -> Layout:
    """Layout whose unit is the one the priors are stated in."""
    return build_layout(
        cascades,
        background=model.background,
        max_candidates=design.max_candidates,
        unit=1.0,
        listed=None if design.memory is None else design.memory.pairs,
    )


def narrow(name: str, sd: float = 0.4) -> Delay:
    """Delay model with a tight prior around its start values, so that worlds stay moderate."""
    delay = copy.copy(get_delay(name))
    delay.prior = tuple((mean, sd) for mean, _ in delay.prior)
    return delay


def small_model(delay: str, **settings: Any) -> Model:
    """Model with informative priors that suits a handful of nodes and cascades."""
    given: dict[str, Any] = {
        "truncation": 2,
        "total_prior": (4.0, 0.5),
        "b_prior": (4.0, 4.0),
        "alpha_prior": (2.0, 1.0),
        "concentration_shape": 2.0,
        "background_shape": 1.5,
        "background_rate_prior": (4.0, 0.5),
    }
    return Model(delay=narrow(delay), **(given | settings))


def some_memory(n_nodes: int = 4) -> PairMemory:
    """Memory of strong and weak pairs, of the background, and of exposure without a pair."""
    source = np.array([-1, 1, 2, -1, 0, -1, 1, -1, 0])
    target = np.array([0, 0, 0, 1, 1, 2, 2, 3, 3])
    return PairMemory(
        key=pair_keys(source, target, n_nodes),
        n=np.array([0.5, 2.5, 0.2, 1.5, 1.0, 0.0, 3.0, 0.3, 0.0]),
        exposure=np.array([2.0, 1.5, 0.3, 3.0, 4.0, 1.0, 0.7, 0.5, 2.5]),
        support=np.array([1.0, 3.0, 0.3, 2.0, 1.2, 0.0, 5.0, 0.4, 0.9]),
        node_exposure=np.linspace(0.2, 1.4, n_nodes),
    )


def some_tokens(size: int = 4, width: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pseudo-counts that differ between communities and nodes."""
    sent = (np.arange(size * width).reshape(size, width) % 5) * 0.25
    received = (np.arange(size * width)[::-1].reshape(size, width) % 4) * 0.5
    received *= sent.sum(axis=0) / received.sum(axis=0)
    received = np.round(received * 2.0**20) / 2.0**20
    received[0] += sent.sum(axis=0) - received.sum(axis=0)
    return sent.sum(axis=0), sent, received


CASES: dict[str, tuple[Model, Design]] = {
    "hdp": (small_model("exponential"), Design()),
    "capped": (small_model("lognormal", background=True), Design(max_candidates=2)),
    "open": (
        small_model("weibull", null_community=False, truncation=4, reserve=0.2),
        Design(),
    ),
    "flat": (small_model("decay", prior="flat", background=True), Design()),
    "dynamic": (
        small_model("exponential", background=True, switch=True, persistence_prior=(2.0, 1.5)),
        Design(memory=some_memory(), kappa=0.3, tokens=some_tokens()),
    ),
}
