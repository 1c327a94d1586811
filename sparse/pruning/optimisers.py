"""Optimisers of one flat parameter vector, in place.

Work goes block by block, so that the handful of passes over a block finds it in the cache.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

BLOCK = 16384  # coordinates; four float32 arrays of them fit in a core's second-level cache


class Optimiser(Protocol):
    """What `cascadenet.sparse.pruning.training.train` asks of an optimiser."""

    state: dict[str, np.ndarray]

    def step(self, w: np.ndarray, g: np.ndarray, lr: float, decayed: int) -> None:
        """Update ``w``; ``g`` may be overwritten."""


class SGD:
    """Stochastic gradient descent with (Nesterov) momentum and weight decay.

    Parameters
    ----------
    momentum : float
    nesterov : bool
    weight_decay : float
        Added to the gradient as ``weight_decay * w``, for the first ``decayed`` coordinates.

    Attributes
    ----------
    state : dict of str to numpy.ndarray
        "velocity", of the size of the parameters once a step was made. Arrays may be replaced or
        sliced between steps, as long as they fit the parameters.
    """

    def __init__(
        self, momentum: float = 0.9, nesterov: bool = True, weight_decay: float = 0.0
    ) -> None:
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        self.state: dict[str, np.ndarray] = {}

    def step(self, w: np.ndarray, g: np.ndarray, lr: float, decayed: int) -> None:
        """Update ``w`` (d,) in place; ``g`` (d,) is overwritten.

        Parameters
        ----------
        w, g : numpy.ndarray, shape (d,)
        lr : float
        decayed : int
            Weight decay acts on ``w[:decayed]``.
        """
        if self.momentum and "velocity" not in self.state:
            self.state["velocity"] = np.zeros_like(w)
        velocity = self.state.get("velocity")
        spare = np.empty(min(BLOCK, w.size), w.dtype)
        for start, end in _blocks(w.size, decayed):
            wb, gb, tmp = w[start:end], g[start:end], spare[: end - start]
            if self.weight_decay and start < decayed:
                np.multiply(wb, self.weight_decay, out=tmp)
                gb += tmp
            if velocity is None:
                gb *= lr
                wb -= gb
                continue
            vb = velocity[start:end]
            vb *= self.momentum
            vb += gb
            if self.nesterov:
                np.multiply(vb, self.momentum, out=tmp)
                gb += tmp
                gb *= lr
                wb -= gb
            else:
                np.multiply(vb, lr, out=tmp)
                wb -= tmp


class Adam:
    """Adam with decoupled weight decay.

    Parameters
    ----------
    beta1, beta2, epsilon : float
    weight_decay : float
        ``w`` shrinks by ``lr * weight_decay`` a step, for the first ``decayed`` coordinates.

    Attributes
    ----------
    state : dict of str to numpy.ndarray
        "first", "second" (d,) and "count" (1,).
    """

    def __init__(
        self,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.weight_decay = weight_decay
        self.state: dict[str, np.ndarray] = {}

    def step(self, w: np.ndarray, g: np.ndarray, lr: float, decayed: int) -> None:
        """As `SGD.step`."""
        if "first" not in self.state:
            self.state = {
                "first": np.zeros_like(w),
                "second": np.zeros_like(w),
                "count": np.zeros(1, np.int64),
            }
        first, second = self.state["first"], self.state["second"]
        self.state["count"] += 1
        count = int(self.state["count"][0])
        size = lr / (1 - self.beta1**count)
        root = 1 / np.sqrt(1 - self.beta2**count)
        spare = np.empty(min(BLOCK, w.size), w.dtype)
        for start, end in _blocks(w.size, decayed):
            wb, gb, tmp = w[start:end], g[start:end], spare[: end - start]
            m, v = first[start:end], second[start:end]
            if self.weight_decay and start < decayed:
                wb *= 1 - lr * self.weight_decay
            np.multiply(gb, 1 - self.beta1, out=tmp)
            m *= self.beta1
            m += tmp
            gb *= gb
            gb *= 1 - self.beta2
            v *= self.beta2
            v += gb
            np.sqrt(v, out=tmp)
            tmp *= root
            tmp += self.epsilon
            np.divide(m, tmp, out=tmp)
            tmp *= size
            wb -= tmp


def _blocks(size: int, decayed: int) -> list[tuple[int, int]]:
    """Ranges that cover ``0..size``, none across ``decayed``."""
    decayed = min(decayed, size)
    starts = [*range(0, decayed, BLOCK), *range(decayed, size, BLOCK)]
    return list(zip(starts, [*starts[1:], size], strict=True))
