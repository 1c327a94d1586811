"""The part of a layout that belongs to a block of children, and where the blocks end."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

from cascadenet.inference.layout import BACKGROUND, Layout


def shard_bounds(layout: Layout, shards: int) -> np.ndarray:
    """Blocks of consecutive children that cost about the same.

    Parameters
    ----------
    layout : Layout
    shards : int
        Number of blocks; no more than there are nodes.

    Returns
    -------
    int64 array, shape (S + 1,)
        Block s has children ``bounds[s]:bounds[s + 1]``, at least one.
    """
    n_nodes = layout.n_nodes
    shards = min(shards, n_nodes)
    # a sweep passes over candidates and pairs; a node has phantom tokens even without them
    cost = layout.cand_ptr[layout.child_ptr] + layout.pair_ptr + np.arange(n_nodes + 1)
    block = np.arange(shards + 1)
    bounds = np.searchsorted(cost, cost[-1] * block / shards)
    bounds[-1] = n_nodes
    bounds = np.maximum.accumulate(bounds - block) + block
    return np.minimum(bounds, n_nodes - block[::-1])


@dataclass(frozen=True)
class Piece(Layout):
    """Layout of some children alone: their infections, candidates and pairs.

    Nodes keep their numbers, so all other children are there without infections. What concerns
    whole cascades is shared with the whole layout. Where children follow that are left out, and
    there is a background, one more pair stands at the end, which nothing can choose: their
    pointers find a background pair there that is none of the block's.

    Attributes
    ----------
    low, high : int
        The children.
    whole : (int64 array, int64 array)
        ``child_ptr`` and ``infection`` of the whole layout, where sources are looked up.
    """

    low: int = 0
    high: int = 0
    whole: tuple[np.ndarray, np.ndarray] = field(default=(), repr=False)

    @property
    def lookup(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
        """As for a whole layout, whose infections are those of sources."""
        return (*self.whole, self.cand_start, self.cand_stop, int(self.background))


def take_children(layout: Layout, low: int, high: int) -> Piece:
    """Layout of the children ``low:high`` alone.

    Parameters
    ----------
    layout : Layout
    low, high : int
        ``low == high`` leaves no infections at all: what the coordinator of a chain has.

    Returns
    -------
    Piece
    """
    given = {f.name: getattr(layout, f.name) for f in fields(Layout)}
    own = slice(*layout.child_ptr[[low, high]].tolist())
    pairs = slice(*layout.pair_ptr[[low, high]].tolist())
    cands = slice(*layout.cand_ptr[[own.start, own.stop]].tolist())
    pad = np.full(int(layout.background and high < layout.n_nodes), BACKGROUND, np.int32)
    given |= {
        "child_ptr": np.clip(layout.child_ptr, own.start, own.stop) - own.start,
        "infection": layout.infection[own],
        "cand_ptr": layout.cand_ptr[own.start : own.stop + 1] - cands.start,
        "cand_pair": layout.cand_pair[cands] - np.int32(pairs.start),
        "cand_start": layout.cand_start[own],
        "cand_stop": layout.cand_stop[own],
        "pair_ptr": np.clip(layout.pair_ptr, pairs.start, pairs.stop) - pairs.start,
        "pair_source": np.append(layout.pair_source[pairs], pad),
    }
    whole = layout.child_ptr, layout.infection
    return Piece(**given, low=low, high=high, whole=whole)
