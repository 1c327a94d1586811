"""Updates of parents: drawn from all candidates or proposed, and swapped."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.inference import _kernels as sampler_kernels
from cascadenet.inference.parents import _kernels
from cascadenet.inference.rates import gamma_shape, rate_parts

if TYPE_CHECKING:
    from cascadenet.inference.layout import Layout
    from cascadenet.inference.sampler import Chain

EVEN = 0.1  # of what is proposed on average, added to all
ROUNDS, MORE_ROUNDS, MANY_PAIRS = 1, 8, 60
BLOCK = 1 << 15  # infections whose uniform numbers are in memory at a time


def rounds(layout: Layout) -> int:
    """How often parents are drawn before they are swapped.

    More often where there are more than 60 pairs to an infection, as in long cascades: passing over
    those takes most of a sweep then, and parents take more draws to mix.
    """
    choices = np.count_nonzero(np.diff(layout.cand_ptr) > 1)
    return MORE_ROUNDS if layout.n_pairs > MANY_PAIRS * max(choices, 1) else ROUNDS


def by_width(layout: Layout, scan: int) -> tuple[np.ndarray, np.ndarray]:
    """Children whose infections have up to ``scan`` candidates on average, and those with more."""
    candidates = np.diff(layout.cand_ptr[layout.child_ptr])
    many = candidates > scan * np.diff(layout.child_ptr)
    return np.flatnonzero(~many), np.flatnonzero(many)


def _problem(chain: Chain) -> tuple[Any, ...]:
    """First argument of the kernels that look candidates up instead of scanning them."""
    layout = chain.layout
    return (
        layout.lookup,
        layout.child_ptr,
        layout.cand_ptr,
        layout.cand_pair,
        chain.state.cand_weight,
        layout.pair_ptr,
        (gamma_shape(chain), *rate_parts(chain)),
    )


def _blocks(layout: Layout, children: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Children, some at a time, and how many infections they have together."""
    before = np.append(0, np.cumsum(np.diff(layout.child_ptr)[children]))
    ends = np.searchsorted(before, np.arange(0, before[-1] + BLOCK, BLOCK))
    for low, high in pairwise(np.unique(np.minimum(ends, children.size)).tolist()):
        yield children[low:high], int(before[high] - before[low])


def _scan_parents(
    chain: Chain, children: np.ndarray, rounds: int = 1, *, reinforce: bool = True
) -> None:
    """Draw the parents in some children from all candidates."""
    layout, state = chain.layout, chain.state
    law = gamma_shape(chain), *rate_parts(chain)
    for some, infections in _blocks(layout, children):
        sampler_kernels.update_parents(
            layout.child_ptr,
            layout.cand_ptr,
            layout.cand_pair,
            state.cand_weight,
            layout.pair_ptr,
            law,
            reinforce,
            some,
            chain.rng.random((rounds, infections)),
            state.choice,
            state.parent,
            state.n_pair,
        )


def draw_parents(chain: Chain) -> None:
    """Parents given the network, rates integrated out (3.1).

    Infections with many candidates take the outcome of a Metropolis proposal instead of a draw from
    all, whose cost would grow with their number.
    """
    layout, state, model = chain.layout, chain.state, chain.model
    few, many = by_width(layout, model.scan)
    _scan_parents(chain, few, model.parent_rounds)
    if many.size == 0:
        return
    problem, odds = _problem(chain), proposal_odds(chain)
    for some, infections in _blocks(layout, many):
        _kernels.propose_parents(
            problem,
            some,
            layout.meeting,
            odds,
            chain.rng.random((model.parent_rounds, infections, 3)),
            state.choice,
            state.parent,
            state.n_pair,
        )


def proposal_odds(chain: Chain) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How likely a source that explains nothing yet is proposed, apart from a factor by child.

    The mean of shape / rate that its place in the network and its own exposure suggest. A tenth
    goes to all alike, so that nothing is so rarely proposed that a chain would be stuck there.

    Returns
    -------
    share : float64 array, shape (N,)
        By source.
    running : float64 array, shape (I + 1,)
        Running sums over the sources of all infections.
    factor : float64 array, shape (N,)
        By child.
    """
    layout, state = chain.layout, chain.state
    known = layout.n_nodes
    share = np.full(known, state.total / max(known * (known - 1), 1))
    factor = np.ones(known)
    if chain.model.prior == "hdp":
        sender = state.weighted_sender
        share = state.total * sender[:known].sum(axis=1)
        factor = (state.receiver[:known] * sender.sum(axis=0)).sum(axis=1)
        factor += EVEN / known  # its mean; a shard has the rows of its own children only
    share /= state.b + chain.carried.node_exposure + state.node_full
    share += EVEN * share.mean()
    running = np.zeros(layout.meeting[2].size + 1)
    np.cumsum(share[layout.meeting[2]], out=running[1:])
    return share, running, factor


def swap_parents(chain: Chain) -> None:
    """Exchange of what two sources explain in one child (3.1b)."""
    layout, state = chain.layout, chain.state
    _kernels.update_swaps(
        _problem(chain),
        layout.node,
        layout.few_cand,
        chain.model.patience,
        chain.rng.random((layout.n_infections, 2)),
        state.choice,
        state.parent,
        state.n_pair,
    )


def draw_tree_parents(chain: Chain) -> None:
    """Parents of the tree likelihood: independent given the network, an exact tree draw (4)."""
    _scan_parents(chain, np.arange(chain.layout.n_nodes), reinforce=False)
