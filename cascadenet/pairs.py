"""Ordered pairs of nodes: as users write them, and where they stand in a list."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["check_different", "pair_keys", "read_pairs", "rows_of", "split_keys"]


def read_pairs(pairs: Any) -> tuple[list[Any], list[Any]]:
    """Source and target labels of the pairs that a user asks for.

    Parameters
    ----------
    pairs : iterable of (source, target) or DataFrame
        A DataFrame has the columns source and target.

    Raises
    ------
    ValueError
        A column is missing, or an entry is no pair.
    """
    if hasattr(pairs, "columns"):
        missing = {"source", "target"} - set(pairs.columns)
        if missing:
            raise ValueError(f"pairs must have columns source and target; missing {missing}")
        return list(pairs["source"]), list(pairs["target"])
    try:
        listed = list(pairs)
    except TypeError:
        raise ValueError(f"pairs must be (source, target) tuples; got {pairs!r:.60}") from None
    for pair in listed:
        if isinstance(pair, str) or not hasattr(pair, "__len__") or len(pair) != 2:
            raise ValueError(f"pairs must be (source, target) tuples; got {pair!r:.60}")
    return [u for u, _ in listed], [v for _, v in listed]


def check_different(source: np.ndarray, target: np.ndarray, nodes: tuple[Any, ...]) -> None:
    """Raise a ValueError where a pair joins a node to itself; int arrays, shape (n,).

    Indices beyond ``nodes`` stand for nodes never seen, of which there may be two.
    """
    loops = np.flatnonzero((source == target) & (source < len(nodes)))
    if loops.size:
        raise ValueError(f"pairs must join different nodes; got {nodes[source[loops[0]]]!r} twice")


def pair_keys(source: np.ndarray, target: np.ndarray, n_nodes: int) -> np.ndarray:
    """One int64 for each pair, ascending by target and then source.

    Besides nodes there are two sources: -1, the background, and ``n_nodes``, a node never seen.
    """
    return target.astype(np.int64) * (n_nodes + 2) + source + 1


def split_keys(keys: np.ndarray, n_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Sources and targets of the pairs that `pair_keys` made one number of."""
    target, source = np.divmod(keys, n_nodes + 2)
    return source - 1, target


def rows_of(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Position of each wanted key among ascending ``keys``, -1 where it is not there."""
    if keys.size == 0:
        return np.full(wanted.size, -1)
    at = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.where(keys[at] == wanted, at, -1)
