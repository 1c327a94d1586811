"""Updates of parents: drawn from all candidates or proposed, and swapped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.inference.parents import _kernels
from cascadenet.inference.rates import gamma_shape, rate_parts

if TYPE_CHECKING:
    from cascadenet.inference.layout import Layout
    from cascadenet.inference.sampler import Chain

EVEN = 0.1  # of what is proposed on average, added to all
PASSES, MORE_PASSES, MANY_PAIRS = 2, 4, 60


def passes(layout: Layout) -> int:
    """How often a sweep draws and swaps parents before it goes on to what concerns all pairs.

    More often where there are more than 60 pairs to an infection, as in long cascades: passing over
    those takes most of a sweep then, and parents take more passes to mix.
    """
    choices = np.count_nonzero(np.diff(layout.cand_ptr) > 1)
    return MORE_PASSES if layout.n_pairs > MANY_PAIRS * max(choices, 1) else PASSES


def _scan_parents(chain: Chain, scan: int, *, reinforce: bool) -> None:
    layout, state = chain.layout, chain.state
    _kernels.update_parents(
        layout.child_ptr,
        layout.cand_ptr,
        layout.cand_pair,
        state.cand_weight,
        layout.pair_ptr,
        (gamma_shape(chain), *rate_parts(chain)),
        reinforce,
        scan,
        chain.rng.random(layout.n_infections),
        state.choice,
        state.parent,
        state.n_pair,
    )


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


def draw_parents(chain: Chain) -> None:
    """Parents given the network, rates integrated out (3.1).

    Infections with very many candidates take the outcome of a Metropolis proposal instead of a draw
    from all, whose cost would grow with their number.
    """
    layout, state, scan = chain.layout, chain.state, chain.model.scan
    _scan_parents(chain, scan, reinforce=True)
    if layout.widest > scan:
        _kernels.propose_parents(
            _problem(chain),
            scan,
            layout.meeting,
            proposal_odds(chain),
            chain.rng.random((layout.n_infections, 3)),
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
    _scan_parents(chain, chain.layout.n_nodes, reinforce=False)
