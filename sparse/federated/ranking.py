"""Which units a worker keeps: one ranking for all workers and all layers, made once.

The ranking is Constant (made at the first pruning and never again), Identical (the same for all
workers) and Global (over all layers). The part of a worker is a prefix of it, so a smaller part is
inside every larger one: workers agree on what matters, and the best units are trained by all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cascadenet.sparse.pruning.network import Network

KINDS = ("auto", "norm", "scale", "taylor")
SCOPES = ("global", "layer")

Units = list[np.ndarray] | None  # units kept in every hidden layer, ascending; None for all


def importance(network: Network, kind: str = "auto") -> list[np.ndarray]:
    """Score of every hidden unit, a layer each, with a mean of 1 over the layer.

    Parameters
    ----------
    network : Network
    kind : {"auto", "norm", "scale", "taylor"}
        "norm": length of the weights into the unit times that of the weights out of it. "scale":
        size of its batch normalisation's scale. "taylor": ``|sum w g|`` over the weights into the
        unit and its bias, with the gradient that stands in the network: by how much the loss would
        change, to first order, without the unit. "auto" is "scale" where there are such scales,
        else "norm".

    Returns
    -------
    list of numpy.ndarray of float64, shape (units of the layer,)
    """
    if kind == "auto":
        kind = "scale" if network.batch_norm else "norm"
    if kind == "scale" and not network.batch_norm:
        raise ValueError("importance 'scale' needs a network with batch_norm")
    scores = []
    for layer in range(len(network.layers) - 1):
        if kind == "scale":
            score = np.abs(network.slot("gamma", layer).of(network.parameters), dtype=np.float64)
        elif kind == "taylor":
            score = np.abs(_saved(network, layer))
        else:
            score = _lengths(network, layer)
        mean = score.mean()
        scores.append(score / mean if mean > 0 else score)
    return scores


def _saved(network: Network, layer: int) -> np.ndarray:
    total = 0.0
    for name in ("weight", "bias"):
        slot = network.slot(name, layer)
        product = slot.of(network.parameters).astype(np.float64) * slot.of(network.gradient)
        total = total + product.reshape(slot.shape[0], -1).sum(axis=1)
    return total


def _lengths(network: Network, layer: int) -> np.ndarray:
    into = network.slot("weight", layer).of(network.parameters).astype(np.float64)
    into = into.reshape(into.shape[0], -1)
    out = network.slot("weight", layer + 1).of(network.parameters).astype(np.float64)
    # a channel is a block of columns where a flattened image follows
    out = out.reshape(out.shape[0], into.shape[0], -1).swapaxes(0, 1).reshape(into.shape[0], -1)
    return np.linalg.norm(into, axis=1) * np.linalg.norm(out, axis=1)


class Ranking:
    """An order of all hidden units, and what every prefix of it costs.

    Parameters
    ----------
    network : Network
        For its shape.
    scores : sequence of numpy.ndarray
        Of every unit, a layer each, higher is kept longer; ties go to the lower index.
    scope : {"global", "layer"}
        Whether units compete over all layers, or the layers shrink alike.
    min_units : float
        Share of every layer that all workers keep, at least one unit.

    Attributes
    ----------
    order : numpy.ndarray of int64, shape (K, 2)
        Layer and unit, best first; the units that all keep come before the others.
    n_common : int
        How many those are.
    retention : numpy.ndarray of float64, shape (K + 1,)
        Share of all parameters in the part of the first k units.
    """

    def __init__(
        self,
        network: Network,
        scores: Sequence[np.ndarray],
        scope: str = "global",
        min_units: float = 0.05,
    ) -> None:
        self.widths = [layer.weight_shape[0] for layer in network.layers[:-1]]
        common, others = [], []
        for layer, score in enumerate(scores):
            ranked = np.argsort(-np.asarray(score), kind="stable")
            floor = max(math.ceil(min_units * ranked.size), 1)
            for place, unit in enumerate(ranked):
                key = -score[unit] if scope == "global" else (place + 1) / ranked.size
                (common if place < floor else others).append((key, layer, int(unit)))
        self.n_common = len(common)
        ordered = sorted(common) + sorted(others)
        self.order = np.array([entry[1:] for entry in ordered], dtype=np.int64)
        self.retention = self._retention(network)

    def _retention(self, network: Network) -> np.ndarray:
        of_layer = self.order[:, :1] == np.arange(len(self.widths))
        count = np.zeros((self.order.shape[0] + 1, len(self.widths)), np.int64)
        np.cumsum(of_layer, axis=0, out=count[1:])
        size = parameter_count(network, list(count.T))
        return size / network.parameters.size

    def units(self, retention: float) -> Units:
        """The prefix whose share of the parameters is nearest to this, at least the common units.

        Parameters
        ----------
        retention : float
        """
        last = self.order.shape[0]
        k = int(np.argmin(np.abs(self.retention - retention)))
        k = max(k, self.n_common)
        if k >= last:
            return None
        kept = self.order[:k]
        return [np.sort(kept[kept[:, 0] == layer, 1]) for layer in range(len(self.widths))]


def parameter_count(network: Network, widths: Sequence[np.ndarray | int]) -> np.ndarray | int:
    """Parameters of a part with so many units in its hidden layers.

    Parameters
    ----------
    network : Network
    widths : sequence of int or of int array
        A hidden layer each; arrays are worked entry by entry.
    """
    per_unit = 1 + 2 * network.batch_norm
    total: np.ndarray | int = 0
    before: np.ndarray | int = 1
    for i, (slot, width) in enumerate(
        zip(network.weight_slots, [*widths, network.n_out], strict=True)
    ):
        inputs = _inputs(network, i, slot.shape)
        last = i == len(network.layers) - 1
        total = total + width * before * inputs + width * (1 if last else per_unit)
        before = width
    return total


def _inputs(network: Network, i: int, shape: tuple[int, ...]) -> int:
    """Weights from one unit of the layer before (or from all inputs) to one unit."""
    size = int(np.prod(shape[1:]))
    return size if i == 0 else size // network.layers[i - 1].weight_shape[0]


def flops(network: Network, units: Units = None) -> float:
    """Floating-point operations of a forward pass of one example through a part."""
    widths = [layer.weight_shape[0] for layer in network.layers]
    if units is not None:
        widths[:-1] = [rows.size for rows in units]
    total, before = 0.0, 1
    for i, (slot, layer) in enumerate(zip(network.weight_slots, network.layers, strict=True)):
        places = int(np.prod(layer.out_shape[:-1]))  # a dense layer has one
        total += 2.0 * widths[i] * before * _inputs(network, i, slot.shape) * places
        before = widths[i]
    return total


def statistic_coordinates(network: Network, units: Units) -> np.ndarray | None:
    """Where the running statistics of a part stand among ``network.statistics``."""
    if units is None or not network.batch_norm:
        return None
    parts, start = [], 0
    for rows, norm in zip(units, network.norms, strict=True):
        parts += [start + rows, start + norm.units + rows]
        start += 2 * norm.units
    return np.concatenate(parts)


def part_arguments(network: Network, units: Units) -> dict[str, object]:
    """Arguments that make a network of the shape of a part."""
    arguments = network.arguments()
    if units is not None:
        n_conv = len(network.convolutions)
        arguments["convolutions"] = tuple(
            (rows.size, *spec[1:])
            for rows, spec in zip(units[:n_conv], network.convolutions, strict=True)
        )
        arguments["hidden"] = tuple(rows.size for rows in units[n_conv:])
    return arguments
