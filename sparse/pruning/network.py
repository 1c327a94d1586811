"""A feed-forward network whose parameters are one flat vector.

Everything that acts on all parameters (optimisers, masks, averages over networks) is a few
operations on ``network.parameters``, shape (d,): first the weights of all layers, then biases, then
scales and shifts of batch normalisations. `Network.slots` says what is where.

Training parts of a network elsewhere and bringing them back::

    full = Network((784,), (300, 100), 10, seed=0)
    units = [np.arange(0, 300, 2), np.arange(50)]  # hidden units the part keeps, a layer each
    part = full.part(units)  # a smaller network, with these weights
    where = full.coordinates(units)  # full.parameters[where] belongs to part.parameters
    optimiser = SGD(0.9, True, 5e-4)
    train(part, x, y, optimiser=optimiser, epochs=2, learning_rate=0.03, seed=generator)
    full.parameters[where] = part.parameters
    velocity[where] = optimiser.state["velocity"]  # the same indices fit any such vector

``state`` and ``set_state`` copy parameters and running statistics out and in as arrays by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cascadenet.sparse.pruning.layers import EPSILON, BatchNorm, Conv, Dense
from cascadenet.sparse.pruning.losses import LOSSES, softmax
from cascadenet.sparse.pruning.spec import LayerSpec

BLOCK = 512  # rows predicted at once


class Slot(NamedTuple):
    """Where a tensor stands in the flat vector."""

    name: str  # "weight", "bias", "gamma" or "beta"
    layer: int
    start: int
    shape: tuple[int, ...]

    @property
    def stop(self) -> int:
        """End of the range, exclusive."""
        return self.start + int(np.prod(self.shape))

    def of(self, flat: np.ndarray) -> np.ndarray:
        """The tensor in ``flat`` (d,), as a view."""
        return flat[self.start : self.stop].reshape(self.shape)


class Network:
    """Convolutions, then dense layers; a batch normalisation and a ReLU after all but the last.

    Parameters
    ----------
    input_shape : tuple of int
        (features,) or (C, H, W). Inputs are rows of that many numbers, images flattened.
    hidden : sequence of int
        Widths of the dense hidden layers.
    n_out : int
        Outputs: classes, or targets.
    convolutions : sequence of (filters, kernel, stride, padding)
        Before the dense layers; needs images.
    batch_norm : bool
    loss : str
        "cross_entropy" or "squared".
    bias : bool
        Without, biases stay at 0.
    dtype : numpy dtype
        float32, or float64 for checks.
    seed : int or numpy.random.Generator
        Of the initial weights: normal, variance ``2/fan_in``; biases are 0.

    Attributes
    ----------
    parameters, gradient : numpy.ndarray, shape (d,)
    statistics : numpy.ndarray, shape (s,)
        Running means and variances of the batch normalisations.
    n_weights : int
        ``parameters[:n_weights]`` are weights.
    slots : tuple of Slot
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        hidden: Sequence[int],
        n_out: int,
        *,
        convolutions: Sequence[tuple[int, int, int, int]] = (),
        batch_norm: bool = False,
        loss: str = "cross_entropy",
        bias: bool = True,
        dtype: np.dtype | type | str = np.float32,
        seed: int | np.random.Generator = 0,
    ) -> None:
        self.bias = bias
        self.input_shape, self.hidden = tuple(input_shape), tuple(hidden)
        self.n_out, self.convolutions = n_out, tuple(map(tuple, convolutions))
        self.batch_norm, self.loss, self.dtype = batch_norm, loss, np.dtype(dtype)
        self.layers = self._layers()
        self.norms = [
            BatchNorm(layer.out_shape[-1], self.dtype) if batch_norm else None
            for layer in self.layers[:-1]
        ]
        self.slots = self._slots()
        self.n_weights = sum(slot.stop - slot.start for slot in self.weight_slots)
        self.parameters = np.zeros(self.slots[-1].stop, self.dtype)
        self.gradient = np.zeros_like(self.parameters)
        self.statistics = self._lend_statistics()
        self._initialise(np.random.default_rng(seed))
        self._used: np.ndarray | None = None
        self.use(self.parameters)

    # -- construction

    def _layers(self) -> list[Dense | Conv]:
        layers: list[Dense | Conv] = []
        if self.convolutions:
            channels, height, width = self.input_shape
            shape = (height, width, channels)
            for spec in self.convolutions:
                layers.append(Conv(shape, *spec, self.dtype))
                if min(layers[-1].out_shape[:2]) < 1:
                    raise ValueError(
                        f"convolutions: image {shape[:2]} is too small for a kernel of {spec[1]}"
                    )
                shape = layers[-1].out_shape
            size = int(np.prod(shape))
        else:
            size = int(np.prod(self.input_shape))
        for width in (*self.hidden, self.n_out):
            layers.append(Dense(size, width, self.dtype))
            size = width
        return layers

    def _slots(self) -> tuple[Slot, ...]:
        shapes = [("weight", i, layer.weight_shape) for i, layer in enumerate(self.layers)]
        shapes += [("bias", i, (layer.weight_shape[0],)) for i, layer in enumerate(self.layers)]
        for i, norm in enumerate(self.norms):
            if norm is not None:
                shapes += [("gamma", i, (norm.units,)), ("beta", i, (norm.units,))]
        slots, start = [], 0
        for name, layer, shape in shapes:
            slots.append(Slot(name, layer, start, shape))
            start = slots[-1].stop
        return tuple(slots)

    def _lend_statistics(self) -> np.ndarray:
        norms = [norm for norm in self.norms if norm is not None]
        statistics = np.zeros(2 * sum(norm.units for norm in norms), self.dtype)
        start = 0
        for norm in norms:
            mean = statistics[start : start + norm.units]
            variance = statistics[start + norm.units : start + 2 * norm.units]
            variance[:] = 1
            norm.lend(mean, variance)
            start += 2 * norm.units
        return statistics

    def _initialise(self, rng: np.random.Generator) -> None:
        for slot in self.slots:
            values = slot.of(self.parameters)
            if slot.name == "weight":
                # drawn in double precision, so that both precisions start at the same point
                scale = np.sqrt(2 / self.layers[slot.layer].fan_in)
                values[...] = rng.standard_normal(slot.shape) * scale
            elif slot.name == "gamma":
                values[...] = 1

    @property
    def weight_slots(self) -> tuple[Slot, ...]:
        """Slots of the weights, a layer each."""
        return self.slots[: len(self.layers)]

    def slot(self, name: str, layer: int) -> Slot:
        """The slot of that tensor."""
        return next(slot for slot in self.slots if slot[:2] == (name, layer))

    # -- passes

    def use(self, values: np.ndarray) -> None:
        """Compute with ``values`` (d,), for instance a masked copy, in place of the parameters."""
        if self._used is values:
            return
        self._used = values
        for i, layer in enumerate(self.layers):
            self._bind(layer, ("weight", "bias"), i)
            if i < len(self.norms) and self.norms[i] is not None:
                self._bind(self.norms[i], ("gamma", "beta"), i)

    def _bind(self, receiver: Dense | Conv | BatchNorm, names: tuple[str, str], i: int) -> None:
        slots = [self.slot(name, i) for name in names]
        receiver.bind(
            *(slot.of(self._used) for slot in slots), *(slot.of(self.gradient) for slot in slots)
        )

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Outputs before the softmax.

        Parameters
        ----------
        x : numpy.ndarray, shape (n, features)
        training : bool
            Whether batch normalisations use the batch, and keep what `backward` needs.

        Returns
        -------
        numpy.ndarray, shape (n, n_out)
            Overwritten by the next pass.
        """
        if self.convolutions:
            x = x.reshape(-1, *self.input_shape).transpose(0, 2, 3, 1)
        self._outputs = []
        for i, layer in enumerate(self.layers):
            if layer.kind == "dense" and x.ndim > 2:
                x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
            x = layer.forward(x)
            if i < len(self.norms):
                if self.norms[i] is not None:
                    self.norms[i].forward(x, training)
                np.maximum(x, 0, out=x)
                self._outputs.append(x)
        return x

    def backward(self, g: np.ndarray) -> None:
        """Write ``gradient`` for ``g`` (n, n_out), that of the outputs; ``g`` is overwritten."""
        for i in range(len(self.layers) - 1, -1, -1):
            g = self.layers[i].backward(g, i > 0)
            if not self.bias:
                self.layers[i].bias_grad[:] = 0
            if i == 0:
                return
            out = self._outputs[i - 1]
            if g.ndim < out.ndim:
                n, height, width, channels = out.shape
                g = np.ascontiguousarray(
                    g.reshape(n, channels, height, width).transpose(0, 2, 3, 1)
                )
            elif not g.flags.c_contiguous:
                g = np.ascontiguousarray(g)
            np.multiply(g, out > 0, out=g)
            if self.norms[i - 1] is not None:
                g = self.norms[i - 1].backward(g)

    def loss_and_gradient(
        self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None
    ) -> float:
        """Mean loss of a batch; ``gradient`` is written.

        Parameters
        ----------
        x : numpy.ndarray, shape (n, features)
        y : numpy.ndarray
            Classes, int64 (n,), or targets (n, n_out).
        weight : numpy.ndarray, shape (n,), optional
        """
        z = self.forward(x, training=True)
        loss = LOSSES[self.loss](z, y, weight)
        self.backward(z)
        return loss

    def mean_loss(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> float:
        """Mean loss over all rows, as in prediction."""
        total = 0.0
        for rows in _rows(x.shape[0]):
            part = None if weight is None else weight[rows]
            size = rows.stop - rows.start
            total += size * LOSSES[self.loss](self.forward(x[rows]), y[rows], part)
        return total / x.shape[0]

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Class probabilities, or predicted targets: (n, n_out)."""
        out = np.empty((x.shape[0], self.n_out), self.dtype)
        for rows in _rows(x.shape[0]):
            out[rows] = self.forward(x[rows])
        return softmax(out) if self.loss == "cross_entropy" else out

    # -- state and parts

    def __getstate__(self) -> dict[str, object]:
        """What makes the network again; buffers and views do not travel."""
        return {"arguments": self.arguments(), **self.state()}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state["arguments"])
        self.set_state(state)

    def arguments(self) -> dict[str, object]:
        """What the network was made with, except for the seed."""
        return {
            "input_shape": self.input_shape,
            "hidden": self.hidden,
            "n_out": self.n_out,
            "convolutions": self.convolutions,
            "batch_norm": self.batch_norm,
            "loss": self.loss,
            "bias": self.bias,
            "dtype": self.dtype.name,
        }

    def state(self) -> dict[str, np.ndarray]:
        """Copies of "parameters" and "statistics"."""
        return {"parameters": self.parameters.copy(), "statistics": self.statistics.copy()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Take over what `state` returned for a network of this shape."""
        for name in ("parameters", "statistics"):
            mine = getattr(self, name)
            if state[name].shape != mine.shape:
                raise ValueError(f"{name} must have shape {mine.shape}; got {state[name].shape}")
            mine[:] = state[name]

    def coordinates(self, units: Sequence[np.ndarray | None]) -> np.ndarray:
        """Where the parameters of a part stand in the flat vector of this network.

        Parameters
        ----------
        units : sequence of int array or None
            For every hidden layer the units (filters) that the part keeps; None for all. Inputs
            and outputs are kept.

        Returns
        -------
        numpy.ndarray of int64
            In the order of the part's own flat vector.
        """
        kept = self._kept(units)
        parts = []
        for slot in self.slots:
            position = np.arange(slot.start, slot.stop).reshape(slot.shape)
            position = position[kept[slot.layer]]
            if slot.name == "weight" and slot.layer:
                before = kept[slot.layer - 1]
                size = slot.shape[1] // self.layers[slot.layer - 1].weight_shape[0]
                if size > 1:  # a channel is a block of the flattened image
                    before = (before[:, None] * size + np.arange(size)).reshape(-1)
                position = position[:, before]
            parts.append(position.reshape(-1))
        return np.concatenate(parts)

    def part(self, units: Sequence[np.ndarray | None]) -> Network:
        """A smaller network of these units, with their parameters; see `coordinates`."""
        kept = self._kept(units)
        n_conv = len(self.convolutions)
        convolutions = [
            (rows.size, *spec[1:])
            for rows, spec in zip(kept[:n_conv], self.convolutions, strict=True)
        ]
        small = Network(
            self.input_shape, [rows.size for rows in kept[n_conv:-1]], self.n_out,
            convolutions=convolutions, batch_norm=self.batch_norm, loss=self.loss,
            bias=self.bias, dtype=self.dtype,
        )  # fmt: skip
        small.parameters[:] = self.parameters[self.coordinates(units)]
        for mine, other, rows in zip(self.norms, small.norms, kept, strict=False):
            if mine is not None:
                other.mean[:], other.variance[:] = mine.mean[rows], mine.variance[rows]
        return small

    def _kept(self, units: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        if len(units) != len(self.layers) - 1:
            raise ValueError(
                f"units must have one entry for each of {len(self.layers) - 1} hidden layers; "
                f"got {len(units)}"
            )
        full = [np.arange(layer.weight_shape[0]) for layer in self.layers]
        return [
            rows if chosen is None else rows[np.asarray(chosen, dtype=np.int64)]
            for rows, chosen in zip(full, [*units, None], strict=True)
        ]

    # -- the finished model

    def specs(
        self, values: np.ndarray, mask: np.ndarray, scales: Sequence[float | None] = ()
    ) -> list[LayerSpec]:
        """The layers as they predict, with batch normalisations folded in.

        Parameters
        ----------
        values : numpy.ndarray, shape (d,)
            Parameters as used in prediction, masked.
        mask : numpy.ndarray of bool, shape (n_weights,)
        scales : sequence of float or None
            Of quantised layers.
        """
        out = []
        for i, layer in enumerate(self.layers):
            slot = self.slot("weight", i)
            kept = slot.of(mask).copy()
            weight = np.where(kept, slot.of(values), 0).astype(np.float64)
            bias = self.slot("bias", i).of(values).astype(np.float64)
            norm = self.norms[i] if i < len(self.norms) else None
            if norm is not None:
                gamma, beta = (self.slot(name, i).of(values) for name in ("gamma", "beta"))
                factor = gamma / np.sqrt(norm.variance.astype(np.float64) + EPSILON)
                weight *= factor.reshape(-1, *([1] * (weight.ndim - 1)))
                bias = (bias - norm.mean) * factor + beta
            last = "softmax" if self.loss == "cross_entropy" else "identity"
            out.append(
                LayerSpec(
                    kind=layer.kind,
                    weight=weight.astype(np.float32),
                    bias=bias.astype(np.float32),
                    mask=kept,
                    activation="relu" if i < len(self.layers) - 1 else last,
                    stride=getattr(layer, "stride", 1),
                    padding=getattr(layer, "padding", 0),
                    **_quantised(weight, scales[i] if scales else None),
                )
            )
        return out


def _quantised(weight: np.ndarray, scale: float | None) -> dict[str, object]:
    if scale is None:
        return {}
    size = np.abs(weight)
    binary = bool(np.all((size == 0) | np.isclose(size, scale, rtol=1e-5)))
    return {"quantisation": "binary" if binary else "int8", "scale": float(scale)}


def _rows(n: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
