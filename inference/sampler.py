"""State of a chain and the updates of one sweep, in their order."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from cascadenet.delays import Delay
from cascadenet.inference import _kernels, communities, parents, rates
from cascadenet.inference.dynamics.memory import Carried
from cascadenet.inference.layout import Layout, counted

SHAPE_FLOOR = 1e-100  # keeps lgamma and log finite where a Dirichlet weight underflows
START_COMMUNITIES = 30
Update = Callable[["Chain"], None]


@dataclass(frozen=True)
class Model:
    """Settings of the model and its hyper-priors, Gamma(shape, rate) in the internal unit.

    ``tau`` and ``gamma`` have prior rate 1/N, which is filled in from the data.
    """

    delay: Delay
    likelihood: str = "survival"
    prior: str = "hdp"
    null_community: bool = True
    truncation: int = 40
    background: bool = False
    balance_exposure: bool = True
    reserve: float = 0.0  # base mass of the open-world atom, 0 for a closed world
    scan: int = 300  # mean candidates of a child's infections up to which all are weighed
    patience: int = 50  # infections of two sources up to which all their swaps are tried
    parent_rounds: int = parents.ROUNDS  # draws of parents between swaps, see `parents.rounds`
    parent_passes: int = 2  # of draws and swaps in a sweep
    token_passes: int = 3
    split_merges: int = 10
    alpha_prior: tuple[float, float] = (1.0, 1.0)
    concentration_shape: float = 1.0
    total_prior: tuple[float, float] = (1.0, 1e-4)
    b_prior: tuple[float, float] = (1.0, 0.1)
    background_shape: float = 1.0
    background_rate_prior: tuple[float, float] = (1.0, 0.01)
    nu_prior: tuple[float, float] = (1.0, 1.0)
    switch: bool = False  # whether remembered edges may have started afresh
    persistence_prior: tuple[float, float] = (1.0, 1.0)  # Beta

    @property
    def null_mass(self) -> float:
        """Dirichlet weight a0 of the null community."""
        return 1.0 if self.null_community else 0.0


@dataclass
class State:
    """What moves. Shapes: M infections, P pairs, N' endpoints, K columns (0 is the null), T tokens.

    ``shape`` is the prior Gamma shape r of each pair's rate (background pairs: their own) and
    ``rate = b + exposure`` its collapsed rate, kept only where b differs between pairs, see
    `rates.rate_parts`; what earlier intervals left adds to both, see `memory.Carried`. Token counts
    start from what they left of tokens, and are floats therefore.
    """

    choice: np.ndarray  # (M,) int32, parent's position among the candidates
    parent: np.ndarray  # (M,) int32, its pair; -1 for seeds
    n_pair: np.ndarray  # (P,) int32
    shape: np.ndarray  # (P,)
    rate: np.ndarray  # (P,) or empty
    exposure: np.ndarray  # (P,)
    node_full: np.ndarray  # (N,)
    cand_weight: np.ndarray  # (Q,) or empty
    theta: np.ndarray
    total: float  # Lambda
    b: float
    background_rate: float  # d0
    nu: float
    alpha: float
    tau: float
    gamma: float
    beta: np.ndarray  # (N',)
    weight: np.ndarray  # (K,) D
    sender: np.ndarray  # (N', K) A
    receiver: np.ndarray  # (N', K) B
    token_sender: np.ndarray  # (T,) int32
    token_receiver: np.ndarray
    community: np.ndarray
    eta: np.ndarray  # (K,) tokens, pseudo-counts included
    sent: np.ndarray  # (N', K)
    received: np.ndarray
    kept: np.ndarray = field(default_factory=lambda: np.empty((0, 0), bool))  # (S, R)
    persistence: float = 0.5  # probability of a memory to be in force
    n_real: int = 0  # tokens that stand for infections; the rest balance exposure
    log_step: dict[str, float] = field(default_factory=dict)

    @property
    def weighted_sender(self) -> np.ndarray:
        """D times A, float64 (N', K); a shard's senders come with the weights."""
        return self.sender if self.weight.ndim == 0 else self.sender * self.weight


class Chain:
    """One Markov chain: data, model, state and its own random numbers.

    Parameters
    ----------
    layout : Layout
    model : Model
    rng : numpy.random.Generator
        Everything random comes from here.
    carried : Carried, optional
        What earlier intervals of time left.
    start : State, optional
        Where to take everything but the parents from.
    """

    def __init__(
        self,
        layout: Layout,
        model: Model,
        rng: np.random.Generator,
        carried: Carried | None = None,
        start: State | None = None,
    ) -> None:
        self.layout = layout
        self.model = model
        self.rng = rng
        self.carried = Carried() if carried is None else carried
        self.adapting = True  # proposal scales and truncation may still change
        self.holding = True  # concentrations are held at their start values
        self.n_sweeps = 0
        self.base = _base_measure(layout.n_nodes, model.reserve)
        self.edge_pairs: np.ndarray | None = None  # pairs of nodes, where others are listed too
        self.flat_sums: tuple[np.ndarray | None, dict[float, float]] = (None, {})
        self.shape_sums = rates.ShapeSums()
        self.state = _start(self) if start is None else copy.deepcopy(start)
        self.updates = sweep_updates(model)
        self.state.kept = np.ones(self.carried.memory_n.shape, bool)
        adopt_parents(self, layout, np.zeros(layout.n_infections, np.int32))
        parents.draw_tree_parents(self)  # no counts yet that could attract

    def sweep(self) -> None:
        """Apply every update once."""
        for update in self.updates:
            update(self)
        self.n_sweeps += 1


def sweep_updates(model: Model) -> tuple[Update, ...]:
    """Updates of one sweep, in the order that makes the partially collapsed sampler valid."""
    if model.likelihood == "tree":
        updates: list[Update] = [parents.draw_tree_parents, rates.update_nu]
        if model.delay.parameters:
            updates.append(rates.update_tree_delay)
    else:
        updates = [parents.draw_parents, parents.swap_parents] * model.parent_passes
        if model.switch:
            updates.append(rates.update_persistence)
        updates.append(rates.update_b)
        if model.delay.parameters:
            updates.append(rates.update_delay)
        if model.background:
            updates.append(rates.update_background)
    if model.prior == "flat":
        if model.likelihood == "survival":
            updates.append(communities.draw_flat_total)
    else:
        updates += [
            communities.draw_tokens,
            communities.draw_token_communities,
            communities.split_merge,
            communities.update_alpha,
            communities.update_popularity,
            communities.draw_network,
        ]
        if model.likelihood == "survival":
            updates.append(communities.draw_total)
    return (*updates, refresh_shape)


def refresh_shape(chain: Chain) -> None:
    """Gamma shapes of the listed pairs from the current network."""
    state, layout, model = chain.state, chain.layout, chain.model
    chain.shape_sums = rates.ShapeSums()
    total = state.total if model.likelihood == "survival" else 1.0
    if model.prior == "flat":
        flat = total / max(layout.n_nodes * (layout.n_nodes - 1), 1)
        if chain.edge_pairs is None:
            state.shape[:] = flat
        else:
            state.shape[chain.edge_pairs] = flat
    else:
        _kernels.network_shape(
            state.weighted_sender,
            state.receiver,
            layout.pair_ptr,
            layout.pair_source,
            total,
            SHAPE_FLOOR,
            state.shape,
        )


def adopt_parents(chain: Chain, layout: Layout, choice: np.ndarray) -> None:
    """Give a chain other data, and parents to go with them; everything else stays.

    Parameters
    ----------
    chain : Chain
    layout : Layout
        Of the same nodes, and with a background source if and only if the old one has it.
    choice : int array, shape (M,)
        Position of each infection's parent among its candidates; any value for seeds.
    """
    state, model = chain.state, chain.model
    rows = np.flatnonzero(np.diff(layout.cand_ptr) > 0)
    chain.layout = layout
    chain.edge_pairs = np.flatnonzero(layout.pair_source >= 0) if layout.background else None
    state.choice = np.zeros(layout.n_infections, np.int32)
    state.choice[rows] = choice[rows]
    state.parent = np.full(layout.n_infections, -1, np.int32)
    state.parent[rows] = layout.cand_pair[layout.cand_ptr[rows] + state.choice[rows]]
    state.n_pair = counted(state.parent, layout.n_pairs)
    state.shape = np.full(layout.n_pairs, model.background_shape)
    if model.likelihood == "survival":
        rates.set_theta(chain, state.theta, *layout.exposure(model.delay, state.theta))
    else:
        state.rate, state.exposure = np.ones(layout.n_pairs), np.zeros(layout.n_pairs)
        rates.set_tree_weight(chain)
    refresh_shape(chain)


def _base_measure(n_nodes: int, reserve: float) -> np.ndarray:
    """Base measure of node popularity: uniform, with one more atom in an open world."""
    if reserve == 0.0:
        return np.full(n_nodes, 1.0 / n_nodes)
    return np.append(np.full(n_nodes, (1.0 - reserve) / n_nodes), reserve)


def _start(chain: Chain) -> State:
    """Thirty communities that will differ by chance only; data come with `adopt_parents`.

    One community at the start, or free concentrations, lead the chain into "no structure".
    """
    layout, model = chain.layout, chain.model
    n_nodes, size = layout.n_nodes, chain.base.size
    width = model.truncation + 1
    weight = np.zeros(width)
    weight[1 : min(START_COMMUNITIES, model.truncation) + 1] = 1.0
    empty = np.empty(0, np.int32)
    return State(
        choice=empty,
        parent=empty,
        n_pair=empty,
        shape=np.empty(0),
        rate=np.empty(0),
        exposure=np.empty(0),
        node_full=np.zeros(n_nodes),
        cand_weight=np.empty(0),
        theta=model.delay.default(),
        total=float(n_nodes),
        b=1.0,
        background_rate=model.background_rate_prior[0] / model.background_rate_prior[1],
        nu=1.0,
        alpha=2.0,
        tau=max(n_nodes / 4.0, 1.0),
        gamma=float(n_nodes),
        beta=chain.base.copy(),
        weight=weight / weight.sum(),
        sender=np.repeat(chain.base[:, None], width, axis=1),
        receiver=np.repeat(chain.base[:, None], width, axis=1),
        token_sender=empty,
        token_receiver=empty,
        community=empty,
        eta=np.zeros(width),
        sent=np.zeros((size, width)),
        received=np.zeros((size, width)),
    )
