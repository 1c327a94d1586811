"""Averages of models of which every worker holds a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RULES = ("unit", "update", "worker")


class Piece(NamedTuple):
    """What one worker sends back.

    Attributes
    ----------
    where : numpy.ndarray of int64, shape (k,), or None
        Coordinates of the global vector that the worker holds; None for all.
    values : numpy.ndarray, shape (k,)
    weight : float
        Its number of examples.
    """

    where: np.ndarray | None
    values: np.ndarray
    weight: float


def average(old: np.ndarray, pieces: Sequence[Piece], rule: str = "unit") -> np.ndarray:
    """Weighted mean of pieces, summed in double precision in the order given.

    Parameters
    ----------
    old : numpy.ndarray, shape (d,)
        The global vector; coordinates that nobody holds keep its values.
    pieces : sequence of Piece
        At least one.
    rule : {"unit", "update", "worker"}
        "unit": every coordinate is averaged over the workers that hold it. The others average over
        all workers: those without a coordinate count as 0 under "worker", which shrinks what few
        hold, and as having left it where it was under "update".

    Returns
    -------
    numpy.ndarray, shape (d,), dtype of ``old``

    Notes
    -----
    Where all workers hold everything, all are federated averaging, to the last bit. By-worker is
    by-unit times the share of the examples that is with the holders; by-update goes that share of
    the way to by-unit. It is federated averaging for the mean of the workers' losses, each of its
    own part: the few that hold a unit do not move it faster than all move what they share.
    """
    total, product = np.zeros(old.size), np.empty(old.size)
    for where, values, weight in pieces:
        if where is None:
            total += np.multiply(values, weight, out=product, dtype=np.float64)
        else:
            total[where] += np.multiply(values, weight, out=product[: where.size], dtype=np.float64)
    everyone = float(sum(piece.weight for piece in pieces))
    everywhere = float(sum(piece.weight for piece in pieces if piece.where is None))
    if everywhere == everyone or (everywhere and rule == "worker"):
        total /= everyone  # nothing depends on who holds what, so it need not be counted
        return total.astype(old.dtype)
    held = np.full(old.size, everywhere)
    for where, _, weight in pieces:
        if where is not None:
            held[where] += weight
    out = old.copy()
    some = held > 0
    np.divide(total, everyone if rule == "worker" else held, out=total, where=some)
    if rule == "update":
        few = some & (held < everyone)
        before = old[few].astype(np.float64)
        total[few] = before + held[few] / everyone * (total[few] - before)
    np.copyto(out, total, where=some, casting="same_kind")
    return out


def mix(old: np.ndarray, values: np.ndarray, share: float) -> np.ndarray:
    """``(1 - share) * old + share * values``, as asynchronous averaging does with each reply."""
    return ((1 - share) * old.astype(np.float64) + share * values.astype(np.float64)).astype(
        old.dtype
    )
