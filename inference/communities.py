"""Updates of the network prior: tables, phantom tokens, communities, popularity, concentrations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cascadenet.inference import _kernels
from cascadenet.inference.dynamics.memory import take
from cascadenet.inference.rates import flat_sum, prior_rate, used_pairs

if TYPE_CHECKING:
    from cascadenet.inference.sampler import Chain, State

BETA_FLOOR = 1e-30  # popularity below this is rounding of a Dirichlet draw, not information
GROW_AT = 0.8  # share of occupied communities above which the truncation is doubled
BLOCK = 12_000  # cells whose intermediate values stay in the cache
COLUMNS = 8  # communities whose numbers for one node share a line of cache
RESTRICTED_SCANS = 3  # Gibbs scans that launch a split


def log_gamma(rng: np.random.Generator, shape: np.ndarray) -> np.ndarray:
    """Logs of Gamma variables, which underflow themselves where their shapes are tiny.

    Uses G(a) = G(a + 1) U^(1/a).
    """
    with np.errstate(divide="ignore", over="ignore"):
        drawn = np.log(rng.standard_gamma(shape + 1.0))
        drawn -= rng.standard_exponential(shape.shape) / shape
    return drawn


def many_log_gammas(rng: np.random.Generator, shape: np.ndarray) -> np.ndarray:
    """The same for large arrays with few shapes above 1, in less time."""
    flat, drawn = shape.ravel(), np.empty(shape.size)
    for start in range(0, flat.size, BLOCK):
        block = slice(start, start + BLOCK)
        drawn[block] = _small_log_gammas(rng, flat[block])
    return drawn.reshape(shape.shape)


def _small_log_gammas(rng: np.random.Generator, shape: np.ndarray) -> np.ndarray:
    """Rejection (Ahrens and Dieter 1974) for all at once; what is refused is drawn afresh.

    Proposals are powers of uniform numbers below 1, and 1 plus exponential variables above.
    """
    reach = 1.0 + shape / math.e
    place = (1.0 - rng.random(shape.size)) * reach
    exponential = rng.standard_exponential(shape.size)
    with np.errstate(over="ignore"):
        drawn = np.log(place) / shape
        refused = np.exp(drawn) > exponential
    above = np.flatnonzero(place > 1.0)
    drawn[above] = np.log1p(exponential[above])
    uniform = (place[above] - 1.0) / (reach[above] - 1.0)
    refused[above] = np.log(uniform) > (shape[above] - 1.0) * drawn[above]
    refused |= shape > 1.0  # the proposal is no bound there
    again = np.flatnonzero(refused)
    drawn[again] = log_gamma(rng, shape[again])
    return drawn


def log_dirichlet(rng: np.random.Generator, concentration: np.ndarray) -> np.ndarray:
    """Dirichlet draws along axis 0, in logs: tiny concentrations underflow otherwise."""
    drawn = log_gamma(rng, concentration)
    drawn -= drawn.max(axis=0)
    return drawn - np.log(np.exp(drawn).sum(axis=0))


def _endpoints(rng: np.random.Generator, concentration: np.ndarray) -> np.ndarray:
    """Dirichlet draws along axis 0 of a large array, most of it without tokens."""
    drawn = many_log_gammas(rng, concentration)
    drawn -= drawn.max(axis=0)
    np.exp(drawn, out=drawn)
    drawn /= drawn.sum(axis=0)
    return drawn


def _log_beta(rng: np.random.Generator, a: np.ndarray | float, b: np.ndarray | int) -> float:
    """Sum of the logs of Beta(a, b) draws; the draws themselves underflow for small a."""
    first, second = log_gamma(rng, np.asarray(a, float)), log_gamma(rng, np.asarray(b, float))
    return float((first - np.logaddexp(first, second)).sum())


def _tables(rng: np.random.Generator, counts: np.ndarray, concentration: np.ndarray) -> np.ndarray:
    """CRT tables of positive counts, int64."""
    tables = np.empty(counts.size, np.int64)
    _kernels.crt_tables(counts, concentration, rng.random(int(counts.sum())), tables)
    return tables


def log_max(chain: Chain) -> float:
    """Upper bound of L_uv = log(1 + E_uv / b) over all pairs."""
    state, carried = chain.state, chain.carried
    if not carried.pairs:  # no pair has more exposure than its source
        return math.log1p(float(state.node_full.max(initial=0.0)) / state.b)
    bound = (state.node_full / (state.b + carried.node_exposure)).max(initial=0.0)
    listed = state.exposure / prior_rate(chain, state.b)
    edges = chain.edge_pairs if chain.edge_pairs is not None else slice(None)
    return math.log1p(float(max(bound, listed[edges].max(initial=0.0))))


def draw_flat_total(chain: Chain) -> None:
    """Lambda under the flat prior: tables of the used pairs, then a conjugate draw (3.3)."""
    state, layout, model = chain.state, chain.layout, chain.model
    tables = _new_tables(chain, used_pairs(chain))
    shape, rate = model.total_prior
    rate -= flat_sum(chain, state.b) / max(layout.n_nodes * (layout.n_nodes - 1), 1)
    state.total = chain.rng.standard_gamma(shape + tables.sum()) / rate


def _new_tables(chain: Chain, used: np.ndarray) -> np.ndarray:
    """Tables of used pairs that the network accounts for, int64; memory accounts for the rest.

    Without this thinning, old evidence would be fed to the communities again (5).
    """
    state = chain.state
    remembered = take(chain.carried.n, used)
    tables = _tables(chain.rng, state.n_pair[used], state.shape[used] + remembered)
    return _thinned(chain.rng, tables, state.shape[used], remembered)


def _thinned(
    rng: np.random.Generator, tables: np.ndarray, new: np.ndarray, old: np.ndarray
) -> np.ndarray:
    """Of so many tables, those not due to the old part of their concentration new + old."""
    if not old.any():
        return tables
    return rng.binomial(tables, new / (new + old))


def draw_tokens(chain: Chain) -> None:
    """Tokens of the network: tables of the used pairs (3.3) and phantoms (3.4).

    A pair's tables are Poisson with mean r L and L differs between pairs; phantoms make up the
    difference to the largest L, after which all tokens are independent draws from p.
    Under the tree likelihood the transmissions themselves are the tokens.
    """
    state, layout, rng = chain.state, chain.layout, chain.rng
    used = used_pairs(chain)
    if chain.model.likelihood == "tree":
        tables = state.n_pair[used].astype(np.int64)
    else:
        tables = _new_tables(chain, used)
    sender = np.repeat(layout.pair_source[used], tables)
    receiver = np.repeat(layout.children_of(used), tables)
    state.n_real = sender.size
    community = np.empty(sender.size, np.int32)
    _kernels.draw_communities(
        sender,
        receiver,
        state.weighted_sender,
        state.receiver,
        rng.random(sender.size),
        community,
    )
    if chain.model.likelihood == "survival" and chain.model.balance_exposure:
        phantom = _draw_phantoms(chain)
        sender = np.concatenate((sender, phantom[0]))
        receiver = np.concatenate((receiver, phantom[1]))
        community = np.concatenate((community, phantom[2]))
    state.token_sender, state.token_receiver, state.community = sender, receiver, community
    _count_tokens(chain)


def _count_tokens(chain: Chain) -> None:
    """Token counts afresh, on top of what is remembered."""
    state = chain.state
    counts = (state.eta, state.sent, state.received)
    _kernels.count_tokens(state.token_sender, state.token_receiver, state.community, *counts)
    for count, remembered in zip(counts, chain.carried.tokens, strict=True):
        count += remembered


def _draw_phantoms(chain: Chain) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Phantom tokens (sender, receiver, community) that survive thinning."""
    state, layout, rng = chain.state, chain.layout, chain.rng
    bound = log_max(chain)
    labels = np.arange(state.weight.size, dtype=np.int32)
    community = np.repeat(labels, rng.poisson(state.total * bound * state.weight))
    size = community.size
    sender, receiver = np.empty(size, np.int32), np.empty(size, np.int32)
    keep = np.empty(size, np.bool_)
    _kernels.thin_phantoms(
        community,
        running_sums(state.sender),
        running_sums(state.receiver),
        0,
        layout.n_nodes,
        layout.pair_ptr,
        layout.pair_source,
        state.exposure,
        state.node_full,
        prior_rate(chain, state.b) if chain.carried.pairs else np.array([state.b]),
        state.b + chain.carried.node_exposure if chain.carried.pairs else np.array([state.b]),
        bound,
        rng.random((size, 3)),
        sender,
        receiver,
        keep,
    )
    # in random order: a scan in an order that depends on the communities it updates is not valid
    order = rng.permutation(np.flatnonzero(keep))
    return sender[order], receiver[order], community[order]


def running_sums(values: np.ndarray) -> np.ndarray:
    """Running sums down the columns of an array (n, K), as rows (K, n)."""
    found = np.empty(values.shape[::-1])
    for k in range(0, len(found), COLUMNS):
        _kernels.running_sums(values, k, min(k + COLUMNS, len(found)), found)
    return found


def _has_null(chain: Chain) -> bool:
    """Whether the null community is there: not before the others have had time to form.

    From the start it would take all edges, and where degrees are equal the chain stays there.
    """
    return chain.model.null_community and not chain.holding


def _prior_weights(state: State, null_mass: float) -> np.ndarray:
    """Dirichlet weights of the communities: a0, alpha/K, alpha/K, ..."""
    prior = np.full(state.eta.size, state.alpha / (state.eta.size - 1))
    prior[0] = null_mass
    return prior


def draw_token_communities(chain: Chain) -> None:
    """Collapsed Gibbs passes over the community of every token (3.5)."""
    state, model = chain.state, chain.model
    for _ in range(model.token_passes):
        _kernels.update_communities(
            state.token_sender,
            state.token_receiver,
            _has_null(chain),
            chain.base,
            _prior_weights(state, model.null_mass),
            state.tau,
            state.tau * state.beta,
            chain.rng.random(state.community.size),
            state.community,
            state.eta,
            state.sent,
            state.received,
        )
    if chain.adapting and not chain.holding:
        _grow_truncation(chain)


def _grow_truncation(chain: Chain) -> None:
    """Double the number of communities while tuning when few are left empty."""
    state = chain.state
    width = state.eta.size - 1
    if np.count_nonzero(state.eta[1:] >= 0.5) <= GROW_AT * width:
        return
    chain.carried = chain.carried.with_columns(width)
    state.eta = np.append(state.eta, np.zeros(width))
    empty = np.zeros((state.sent.shape[0], width))
    state.sent = np.hstack((state.sent, empty))
    state.received = np.hstack((state.received, empty))


def split_merge(chain: Chain) -> None:
    """Split or merge communities (Jain and Neal 2004), labels included (3.6 i)."""
    state, rng = chain.state, chain.rng
    grouped = np.flatnonzero(state.community > 0)  # all moves leave this set alone
    if grouped.size < 2:
        return
    for anchors in grouped[rng.integers(grouped.size, size=(chain.model.split_merges, 2))]:
        if anchors[0] != anchors[1]:
            _split_or_merge(chain, anchors)


def _split_or_merge(chain: Chain, anchors: np.ndarray) -> None:
    """One proposal that parts two tokens, or joins their communities.

    Communities carry labels, which may remember earlier tokens, so a split also draws its new
    label among those without tokens, and its chances depend on it.
    """
    state, rng = chain.state, chain.rng
    a, c = state.community[anchors]
    held = state.eta - chain.carried.eta
    empty = np.flatnonzero(held[1:] == 0) + 1
    split = a == c
    if split and empty.size == 0:
        return
    others = int(held[a] if split else held[a] + held[c]) - 2
    _kernels.split_or_merge(
        anchors,
        int(empty[rng.integers(empty.size)] if split else c),  # of one type: compiled once
        math.log(empty.size if split else empty.size + 1),
        (state.token_sender, state.token_receiver),
        (state.alpha / (state.eta.size - 1), state.tau, state.tau * state.beta),
        rng.random((RESTRICTED_SCANS + 1, others)),
        math.log(1.0 - rng.random()),
        state.community,
        (state.eta, state.sent, state.received),
    )


def _new_tokens(counts: np.ndarray, remembered: np.ndarray | float) -> np.ndarray:
    """Token counts without the pseudo-counts, int64."""
    return (counts - remembered).astype(np.int64)


def update_alpha(chain: Chain) -> None:
    """Concentration of the community weights, D integrated out (3.6 ii)."""
    state, rng, model = chain.state, chain.rng, chain.model
    if chain.holding:
        return
    shape, rate = model.alpha_prior
    eta = _new_tokens(state.eta, chain.carried.eta)
    n_tokens = int(eta.sum())
    if n_tokens:
        remembered = np.sum(chain.carried.eta)
        rate -= _log_beta(rng, state.alpha + model.null_mass + remembered, n_tokens)
        occupied = np.flatnonzero(eta[1:]) + 1
        new = np.full(occupied.size, state.alpha / (eta.size - 1))
        old = take(chain.carried.eta, occupied)
        shape += _thinned(rng, _tables(rng, eta[occupied], new + old), new, old).sum()
    state.alpha = rng.standard_gamma(shape) / rate


def update_popularity(chain: Chain) -> None:
    """Tables of the endpoint restaurants, then tau, gamma and beta (3.6 iii-vi)."""
    state, rng, model = chain.state, chain.rng, chain.model
    n_nodes, carried = chain.layout.n_nodes, chain.carried
    eta = _new_tokens(state.eta, carried.eta)
    occupied = np.flatnonzero(eta[1:]) + 1
    tables = np.zeros(state.beta.size, np.int64)
    for counts, remembered in ((state.sent, carried.sent), (state.received, carried.received)):
        fresh = _new_tokens(counts, remembered)
        uniform = rng.random(int(fresh[:, 1:].sum()))
        _kernels.endpoint_tables(counts, fresh, state.tau * state.beta, uniform, tables)
    n_tables = int(tables.sum())
    shape, rate = model.concentration_shape, 1.0 / n_nodes
    if not chain.holding:
        first = np.tile(state.tau + take(carried.eta, occupied), 2)
        log_w = _log_beta(rng, first, np.tile(eta[occupied], 2))
        state.tau = rng.standard_gamma(shape + n_tables) / (rate - log_w)
        if n_tables:
            used = np.flatnonzero(tables)
            dishes = _tables(rng, tables[used], state.gamma * chain.base[used]).sum()
            gamma_rate = rate - _log_beta(rng, state.gamma, n_tables)
            state.gamma = rng.standard_gamma(shape + dishes) / gamma_rate
        else:
            state.gamma = rng.standard_gamma(shape) / rate
    beta = np.exp(log_dirichlet(rng, state.gamma * chain.base + tables))
    state.beta = np.maximum(beta, BETA_FLOOR)


def draw_weights(chain: Chain) -> None:
    """Community weights D."""
    state = chain.state
    weight = _prior_weights(state, chain.model.null_mass) + state.eta
    state.weight = np.zeros(weight.size)
    live = slice(0 if _has_null(chain) else 1, None)
    state.weight[live] = np.exp(log_dirichlet(chain.rng, weight[live]))


def draw_network(chain: Chain) -> None:
    """Community weights and endpoint distributions D, A, B (3.6 vii)."""
    state, rng = chain.state, chain.rng
    draw_weights(chain)
    smoothing = (state.tau * state.beta)[:, None]
    state.sender = _endpoints(rng, smoothing + state.sent)
    state.receiver = _endpoints(rng, smoothing + state.received)
    state.sender[:, 0] = chain.base
    state.receiver[:, 0] = chain.base


def draw_total(chain: Chain) -> None:
    """Lambda given all tokens, or given the real ones when exposure is not balanced (3.6)."""
    state, model = chain.state, chain.model
    shape, rate = model.total_prior
    if model.balance_exposure:
        rate += log_max(chain)
        count = state.community.size
    else:
        rate += _network_mass(chain)
        count = state.n_real
    state.total = chain.rng.standard_gamma(shape + count) / rate


def _network_mass(chain: Chain) -> float:
    """Sum of p_uv log(1 + E_uv / b) over all pairs, by the tables of listed pairs."""
    state, layout = chain.state, chain.layout
    known = layout.n_nodes
    p = np.zeros(layout.n_pairs)
    _kernels.network_shape(
        state.weighted_sender,
        state.receiver,
        layout.pair_ptr,
        layout.pair_source,
        1.0,
        0.0,
        p,
    )
    edges = chain.edge_pairs if chain.edge_pairs is not None else slice(None)
    mass = (p * np.log1p(state.exposure / prior_rate(chain, state.b)))[edges].sum()
    listed = np.zeros(known)
    _kernels.add_by_source(layout.pair_source, p, listed)
    reach = state.receiver[:known].sum(axis=0) - state.receiver[:known]
    outward = (state.weighted_sender[:known] * reach).sum(axis=1)
    node_prior = state.b + chain.carried.node_exposure
    rest = np.maximum(outward - listed, 0.0) * np.log1p(state.node_full / node_prior)
    return float(mass + rest.sum())
