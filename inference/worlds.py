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
from cascadenet.inference.layout import BACKGROUND, Layout, build_layout
from cascadenet.inference.sampler import Chain, Model

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
    """

    n_nodes: int = 4
    seeds: tuple[tuple[int, ...], ...] = ((0,), (0, 1), (2,), (0,))
    horizons: tuple[float, ...] = (6.0, 1.5, 0.5, 3.0)
    max_candidates: int | None = None


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
    parameters = draw_parameters(rng, model, design.n_nodes)
    shape = edge_shape(parameters, model, design.n_nodes)
    rates = rng.standard_gamma(shape) / parameters["b"]
    ground = None
    if model.background:
        d0 = parameters["background_rate"]
        ground = rng.standard_gamma(model.background_shape, design.n_nodes) / d0
    cascades, parents = draw_cascades(rng, model, design, parameters["theta"], rates, ground)
    return World(parameters, rates, cascades, parents)


def draw_parameters(rng: np.random.Generator, model: Model, n_nodes: int) -> dict[str, Any]:
    """Everything but rates and data, from the prior, as fields of `sampler.State`."""

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
    weight = np.zeros(k + 1)
    if model.null_community:
        weight[:] = rng.dirichlet([model.null_mass] + [alpha / k] * k)
    else:
        weight[1:] = rng.dirichlet([alpha / k] * k)
    sender = np.column_stack([base, *rng.dirichlet(tau * beta, k)])
    receiver = np.column_stack([base, *rng.dirichlet(tau * beta, k)])
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


def place(chain: Chain, world: World, layout: Layout) -> None:
    """Put a chain where the world is: its data, parents and parameters."""
    vars(chain.state).update(world.parameters)
    sampler.adopt_parents(chain, layout, start_choice(layout, world.parents))


def new_chain(rng: np.random.Generator, model: Model, design: Design, world: World) -> Chain:
    """A chain at the world, with fixed proposal scales."""
    chain = Chain(lay_out(world.cascades, model, design), model, rng)
    chain.sweep()  # names the proposal scales; the chain goes elsewhere afterwards
    chain.adapting = chain.holding = False
    chain.state.log_step = dict.fromkeys(chain.state.log_step, STEP)
    place(chain, world, chain.layout)
    return chain


def lay_out(cascades: Cascades, model: Model, design: Design) -> Layout:
    """Layout whose unit is the one the priors are stated in."""
    return build_layout(
        cascades, background=model.background, max_candidates=design.max_candidates, unit=1.0
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


CASES: dict[str, tuple[Model, Design]] = {
    "hdp": (small_model("exponential"), Design()),
    "capped": (small_model("lognormal", background=True), Design(max_candidates=2)),
    "open": (
        small_model("weibull", null_community=False, truncation=4, reserve=0.2),
        Design(),
    ),
    "flat": (small_model("decay", prior="flat", background=True), Design()),
}
