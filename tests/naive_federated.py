"""Federated averaging, interpolation and cutting of networks in loops, one entry after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cascadenet.sparse.federated.aggregation import Piece
from cascadenet.sparse.pruning import Network


def average(old: np.ndarray, pieces: Sequence[Piece], rule: str) -> np.ndarray:
    """Mean of every coordinate over its holders, or over all workers.

    Workers without it then count as 0 by worker, as not having moved it by update.
    """
    out = old.copy()
    for i in range(old.size):
        total, weight, held = 0.0, 0.0, False
        for where, values, n in pieces:
            place = list(range(old.size)) if where is None else where.tolist()
            if i in place:
                total += n * float(values[place.index(i)])
                weight += n
                held = True
            elif rule != "unit":
                total += n * (float(old[i]) if rule == "update" else 0.0)
                weight += n
        if held:
            out[i] = total / weight
    return out


def forward(network: Network, units: Sequence[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Outputs of a dense network, without batch normalisation, in which other units are off."""
    h = x.astype(np.float64)
    last = len(network.layers) - 1
    for layer in range(last + 1):
        weight = network.slot("weight", layer).of(network.parameters).astype(np.float64)
        bias = network.slot("bias", layer).of(network.parameters).astype(np.float64)
        z = np.zeros((x.shape[0], weight.shape[0]))
        for j in range(weight.shape[0]):
            if layer == last or j in units[layer]:
                z[:, j] = h @ weight[j] + bias[j]
                if layer < last:
                    z[:, j] = np.maximum(z[:, j], 0)
        h = z
    return h


def update_time(
    size: float, examples: int, flops: float, bandwidth: float, latency: float, speed: float
) -> float:
    """Transfers both ways, latencies, and three passes."""
    return 2 * size / bandwidth + 2 * latency + 3 * examples * flops / speed
