"""Updates of the network prior: tables, phantom tokens, communities, popularity, concentrations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from cascadenet.inference import _kernels

if TYPE_CHECKING:
    from cascadenet.inference.sampler import Chain, State

BETA_FLOOR = 1e-30  # popularity below this is rounding of a Dirichlet draw, not information
GROW_AT = 0.8  # share of occupied communities above which the truncation is doubled
RESTRICTED_SCANS = 3  # Gibbs scans that launch a split


def log_dirichlet(rng: np.random.Generator, concentration: np.ndarray) -> np.ndarray:
    """Dirichlet draws along axis 0, in logs: tiny concentrations underflow otherwise.

    Uses G(a) = G(a + 1) U^(1/a) for Gamma variables.
    """
    with np.errstate(divide="ignore", over="ignore"):
        log_gamma = np.log(rng.standard_gamma(concentration + 1.0))
        log_gamma -= rng.standard_exponential(concentration.shape) / concentration
    log_gamma -= log_gamma.max(axis=0)
    return log_gamma - np.log(np.exp(log_gamma).sum(axis=0))


def _log_beta(rng: np.random.Generator, a: float, b: np.ndarray | int) -> float:
    """Sum of the logs of Beta(a, b) draws; the draws themselves underflow for small a."""
    pair = np.stack(np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float)))
    return float(log_dirichlet(rng, pair)[0].sum())


def _tables(rng: np.random.Generator, counts: np.ndarray, concentration: np.ndarray) -> np.ndarray:
    """CRT tables of positive counts, int64."""
    tables = np.empty(counts.size, np.int64)
    _kernels.crt_tables(counts, concentration, rng.random(int(counts.sum())), tables)
    return tables


def log_max(chain: Chain) -> float:
    """Upper bound of L_uv = log(1 + E_uv / b) over all pairs."""
    return math.log1p(float(chain.state.node_full.max(initial=0.0)) / chain.state.b)


def draw_flat_total(chain: Chain) -> None:
    """Lambda under the flat prior: tables of the used pairs, then a conjugate draw (3.3)."""
    state, layout, model = chain.state, chain.layout, chain.model
    used = _used_pairs(chain)
    tables = _tables(chain.rng, state.n_pair[used], state.shape[used])
    n_nodes = layout.n_nodes
    edges = chain.edge_pairs if chain.edge_pairs is not None else slice(None)
    listed = np.bincount(layout.pair_source[edges], minlength=n_nodes)
    mass = np.log1p(state.exposure[edges] / state.b).sum()
    mass += ((n_nodes - 1 - listed) * np.log1p(state.node_full / state.b)).sum()
    shape, rate = model.total_prior
    rate += mass / max(n_nodes * (n_nodes - 1), 1)
    state.total = chain.rng.standard_gamma(shape + tables.sum()) / rate


def _used_pairs(chain: Chain) -> np.ndarray:
    used = np.flatnonzero(chain.state.n_pair)
    if chain.layout.background:
        used = used[chain.layout.pair_source[used] >= 0]
    return used


def draw_tokens(chain: Chain) -> None:
    """Tokens of the network: tables of the used pairs (3.3) and phantoms (3.4).

    A pair's tables are Poisson with mean r L and L differs between pairs; phantoms make up the
    difference to the largest L, after which all tokens are independent draws from p.
    Under the tree likelihood the transmissions themselves are the tokens.
    """
    state, layout, rng = chain.state, chain.layout, chain.rng
    used = _used_pairs(chain)
    if chain.model.likelihood == "tree":
        tables = state.n_pair[used].astype(np.int64)
    else:
        tables = _tables(rng, state.n_pair[used], state.shape[used])
    sender = np.repeat(layout.pair_source[used], tables)
    receiver = np.repeat(layout.pair_child[used], tables)
    state.n_real = sender.size
    community = np.empty(sender.size, np.int32)
    _kernels.draw_communities(
        sender,
        receiver,
        state.sender * state.weight,
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
    _kernels.count_tokens(sender, receiver, community, state.eta, state.sent, state.received)


def _draw_phantoms(chain: Chain) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Phantom tokens (sender, receiver, community) that survive thinning."""
    state, layout, rng = chain.state, chain.layout, chain.rng
    bound = log_max(chain)
    size = int(rng.poisson(state.total * bound))
    # in random order: a scan in an order that depends on the communities it updates is not valid
    steps = np.cumsum(state.weight)
    community = np.searchsorted(steps, rng.random(size) * steps[-1], side="right")
    community = np.minimum(community, steps.size - 1).astype(np.int32)
    sender, receiver = np.empty(size, np.int32), np.empty(size, np.int32)
    keep = np.empty(size, np.bool_)
    _kernels.thin_phantoms(
        community,
        np.cumsum(state.sender.T, axis=1),
        np.cumsum(state.receiver.T, axis=1),
        layout.n_nodes,
        layout.pair_ptr,
        layout.pair_source,
        state.exposure,
        state.node_full,
        state.b,
        bound,
        rng.random((size, 3)),
        sender,
        receiver,
        keep,
    )
    return sender[keep], receiver[keep], community[keep]


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
            model.null_community,
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
    if np.count_nonzero(state.eta[1:]) <= GROW_AT * width:
        return
    state.eta = np.append(state.eta, np.zeros(width, np.int64))
    empty = np.zeros((state.sent.shape[0], width), np.int64)
    state.sent = np.hstack((state.sent, empty))
    state.received = np.hstack((state.received, empty))


def split_merge(chain: Chain) -> None:
    """Split or merge communities (Jain and Neal 2004), labels included (3.6 i)."""
    for _ in range(chain.model.split_merges):
        grouped = np.flatnonzero(chain.state.community > 0)
        if grouped.size < 2:
            return
        i, j = chain.rng.integers(grouped.size, size=2)
        if i != j:
            _split_or_merge(chain, int(grouped[i]), int(grouped[j]))


def _split_or_merge(chain: Chain, i: int, j: int) -> None:
    """One proposal that parts tokens i and j, or joins their communities.

    Communities carry labels, so a split also draws its new label among the empty ones.
    """
    state, rng = chain.state, chain.rng
    a, c = int(state.community[i]), int(state.community[j])
    empty = np.flatnonzero(state.eta[1:] == 0) + 1
    split = a == c
    if split and empty.size == 0:
        return
    members = np.flatnonzero((state.community == a) | (state.community == c))
    tokens = members[(members != i) & (members != j)]
    forced = np.empty(0, np.int8) if split else (state.community[tokens] == c).astype(np.int8)
    side, counts, log_proposal = _launch(chain, i, j, tokens, forced)
    eta, sent, received = counts
    alpha = state.alpha / (state.eta.size - 1)
    log_ratio = (
        _log_community(alpha, state, eta[0], sent[0], received[0])
        + _log_community(alpha, state, eta[1], sent[1], received[1])
        - _log_community(alpha, state, eta.sum(), sent.sum(axis=0), received.sum(axis=0))
        + math.log(empty.size if split else empty.size + 1)
        - log_proposal
    )
    if not math.log(1.0 - rng.random()) < (log_ratio if split else -log_ratio):
        return
    if split:
        new = int(empty[rng.integers(empty.size)])
        state.community[tokens[side == 1]] = new
        state.community[j] = new
    else:
        state.community[members] = a
    _kernels.count_tokens(
        state.token_sender,
        state.token_receiver,
        state.community,
        state.eta,
        state.sent,
        state.received,
    )


def _launch(
    chain: Chain, i: int, j: int, tokens: np.ndarray, forced: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray], float]:
    """Restricted Gibbs scans from a random start; the last one is the proposal.

    Returns the side of each token, counts (2,), (2, N'), (2, N') and the log probability of
    the last scan (of its being ``forced`` there when not empty).
    """
    state, rng = chain.state, chain.rng
    size = state.beta.size
    eta = np.zeros(2, np.int64)
    sent, received = np.zeros((2, size), np.int64), np.zeros((2, size), np.int64)
    for which, anchor in enumerate((i, j)):
        eta[which] += 1
        sent[which, state.token_sender[anchor]] += 1
        received[which, state.token_receiver[anchor]] += 1
    side = np.full(tokens.size, -1, np.int8)
    free = np.empty(0, np.int8)
    log_probability = 0.0
    for scan in range(RESTRICTED_SCANS + 1):
        log_probability = _kernels.restricted_scan(
            tokens,
            state.token_sender,
            state.token_receiver,
            state.alpha / (state.eta.size - 1),
            state.tau,
            state.tau * state.beta,
            rng.random(tokens.size),
            forced if scan == RESTRICTED_SCANS else free,
            side,
            eta,
            sent,
            received,
        )
    return side, (eta, sent, received), log_probability


def _log_community(
    alpha: float, state: State, eta: int, sent: np.ndarray, received: np.ndarray
) -> float:
    """Log marginal of one community's tokens, its part of the partition prior included."""
    tau, tau_beta = state.tau, state.tau * state.beta
    value = gammaln(alpha + eta) - gammaln(alpha) + 2.0 * (gammaln(tau) - gammaln(tau + eta))
    for counts in (sent, received):
        used = np.flatnonzero(counts)
        value += (gammaln(tau_beta[used] + counts[used]) - gammaln(tau_beta[used])).sum()
    return float(value)


def update_alpha(chain: Chain) -> None:
    """Concentration of the community weights, D integrated out (3.6 ii)."""
    state, rng, model = chain.state, chain.rng, chain.model
    if chain.holding:
        return
    shape, rate = model.alpha_prior
    eta = state.eta[1:][state.eta[1:] > 0]
    n_tokens = int(state.eta.sum())
    if n_tokens:
        rate -= _log_beta(rng, state.alpha + model.null_mass, n_tokens)
        concentration = np.full(eta.size, state.alpha / (state.eta.size - 1))
        shape += _tables(rng, eta, concentration).sum()
    state.alpha = rng.standard_gamma(shape) / rate


def update_popularity(chain: Chain) -> None:
    """Tables of the endpoint restaurants, then tau, gamma and beta (3.6 iii-vi)."""
    state, rng, model = chain.state, chain.rng, chain.model
    size, n_nodes = state.beta.size, chain.layout.n_nodes
    tables = np.zeros(size, np.int64)
    for counts in (state.sent, state.received):
        node, community = np.nonzero(counts[:, 1:])
        drawn = _tables(rng, counts[node, community + 1], state.tau * state.beta[node])
        tables += np.bincount(node, weights=drawn, minlength=size).astype(np.int64)
    occupied = state.eta[1:][state.eta[1:] > 0]
    n_tables = int(tables.sum())
    shape, rate = model.concentration_shape, 1.0 / n_nodes
    if not chain.holding:
        log_w = _log_beta(rng, state.tau, np.tile(occupied, 2))
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


def draw_network(chain: Chain) -> None:
    """Community weights and endpoint distributions D, A, B (3.6 vii)."""
    state, rng = chain.state, chain.rng
    prior = _prior_weights(state, chain.model.null_mass)
    weight = prior + state.eta
    drawn = np.zeros(weight.size)
    live = slice(0 if chain.model.null_community else 1, None)
    drawn[live] = np.exp(log_dirichlet(rng, weight[live]))
    state.weight = drawn
    smoothing = (state.tau * state.beta)[:, None]
    state.sender = np.exp(log_dirichlet(rng, smoothing + state.sent))
    state.receiver = np.exp(log_dirichlet(rng, smoothing + state.received))
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
        state.sender * state.weight,
        state.receiver,
        layout.pair_ptr,
        layout.pair_source,
        1.0,
        0.0,
        p,
    )
    edges = chain.edge_pairs if chain.edge_pairs is not None else slice(None)
    mass = (p[edges] * np.log1p(state.exposure[edges] / state.b)).sum()
    listed = np.bincount(layout.pair_source[edges], weights=p[edges], minlength=known)
    reach = state.receiver[:known].sum(axis=0) - state.receiver[:known]
    outward = ((state.sender[:known] * state.weight) * reach).sum(axis=1)
    rest = np.maximum(outward - listed, 0.0) * np.log1p(state.node_full / state.b)
    return float(mass + rest.sum())
