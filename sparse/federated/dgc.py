"""Deep gradient compression: a worker sends only the largest entries of its update.

What is not sent is kept and added to the next update. Sums that wait are moved along with the
model when it is pruned; see `reindex`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cascadenet.sparse.federated import _check

STAGES = 4  # of the warm-up; kept shares of 1/4, 1/16, 1/64, 1/256, then the final one


@dataclass(frozen=True)
class DGC:
    """Top entries with momentum correction.

    Parameters
    ----------
    share : float
        Share of the entries that is sent, in (0, 1].
    momentum : float
        Of the correction, in [0, 1). The momentum sum is a mean, ``u = m u + (1 - m) update``: the
        updates of a worker already are sums of many steps, and must not be amplified.
    clip_norm : float, optional
        Longest update; longer ones are scaled down.
    warmup : int
        Rounds over which the share falls to its final value.

    References
    ----------
    Lin, Han, Mao, Wang & Dally, "Deep Gradient Compression", ICLR 2018, section 3.
    """

    share: float = 0.01
    momentum: float = 0.0
    clip_norm: float | None = None
    warmup: int = 0

    def __post_init__(self) -> None:
        _check.real("share", self.share, 0.0, 1.0, open_low=True)
        _check.real("momentum", self.momentum, 0.0, 1.0, open_high=True)
        _check.whole("warmup", self.warmup, 0)
        if self.clip_norm is not None:
            _check.real("clip_norm", self.clip_norm, 0.0, open_low=True)

    def share_at(self, round: int) -> float:
        """Share that is sent in a round, counted from 0."""
        if round >= self.warmup:
            return self.share
        return max(self.share, 0.25 ** (1 + STAGES * round // self.warmup))

    def compress(
        self, update: np.ndarray, memory: dict[str, np.ndarray], round: int
    ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Choose what to send.

        Parameters
        ----------
        update : numpy.ndarray, shape (d,)
        memory : dict of str to numpy.ndarray
            "momentum" and "waiting" (d,), or empty at first; not changed.
        round : int

        Returns
        -------
        index : numpy.ndarray of int64, shape (k,)
            Ascending.
        values : numpy.ndarray, shape (k,)
        memory : dict of str to numpy.ndarray
            For the next call: entries that were sent are 0 in both sums.
        """
        if self.clip_norm is not None:
            length = math.sqrt(float(update @ update))
            if length > self.clip_norm:
                update = update * update.dtype.type(self.clip_norm / length)
        kind = update.dtype.type
        momentum = memory.get("momentum", np.zeros_like(update)) * kind(self.momentum)
        momentum += kind(1 - self.momentum) * update
        waiting = memory.get("waiting", np.zeros_like(update)) + momentum
        count = min(max(round_half_up(self.share_at(round) * update.size), 1), update.size)
        index = np.sort(np.argpartition(-np.abs(waiting), count - 1)[:count])
        values = waiting[index]
        momentum[index] = 0
        waiting[index] = 0
        return index, values, {"momentum": momentum, "waiting": waiting}


def round_half_up(value: float) -> int:
    """The nearest integer; halves go up, so that counts do not depend on parity."""
    return math.floor(value + 0.5)


def reindex(
    values: np.ndarray, old: np.ndarray | None, new: np.ndarray | None, d: int
) -> np.ndarray:
    """Values of one part of a vector for another part of it.

    Parameters
    ----------
    values : numpy.ndarray, shape (k,)
        At the coordinates ``old``.
    old, new : numpy.ndarray of int64, ascending, or None
        Coordinates below ``d``; None for all of them.
    d : int

    Returns
    -------
    numpy.ndarray, shape (number of ``new``,)
        0 where ``new`` is not among ``old``.
    """
    full = values
    if old is not None:
        full = np.zeros(d, values.dtype)
        full[old] = values
    return full.copy() if new is None else full[new]
