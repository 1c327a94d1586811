"""Layers of a network: forward and backward passes in buffers that are made once.

Images are kept channels last, (rows, H, W, C), while they are inside; the outside, and the weights
of a dense layer after a convolution, know them as (C, H, W). A layer does not own its parameters:
`bind` lends it views of the network's flat vectors.
"""

from __future__ import annotations

import numpy as np

MOMENTUM = 0.1  # share of the newest batch in the running statistics of a batch normalisation
EPSILON = 1e-5


class _Buffers:
    """Arrays by name, made for the largest number of rows seen; smaller batches get a slice."""

    def __init__(self, dtype: np.dtype) -> None:
        self._dtype = dtype
        self._held: dict[str, np.ndarray] = {}

    def get(self, name: str, rows: int, *shape: int) -> np.ndarray:
        held = self._held.get(name)
        if held is None or held.shape[0] < rows or held.shape[1:] != shape:
            held = self._held[name] = np.empty((rows, *shape), self._dtype)
        return held[:rows]


class Dense:
    """``z = x Wᵀ + b``.

    Parameters
    ----------
    n_in, n_out : int
    dtype : numpy.dtype
    """

    kind = "dense"

    def __init__(self, n_in: int, n_out: int, dtype: np.dtype) -> None:
        self.weight_shape: tuple[int, ...] = (n_out, n_in)
        self.out_shape: tuple[int, ...] = (n_out,)
        self.fan_in = n_in
        self._buffers = _Buffers(dtype)

    def bind(
        self, weight: np.ndarray, bias: np.ndarray, weight_grad: np.ndarray, bias_grad: np.ndarray
    ) -> None:
        """Work with these views: parameters are read, gradients written."""
        self.weight, self.bias = weight, bias
        self.weight_grad, self.bias_grad = weight_grad, bias_grad

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Outputs (rows, n_out) of inputs (rows, n_in); the array belongs to the layer."""
        self._x = x
        z = self._buffers.get("z", x.shape[0], self.out_shape[0])
        np.matmul(x, self.weight.T, out=z)
        z += self.bias
        return z

    def backward(self, g: np.ndarray, wanted: bool) -> np.ndarray | None:
        """Write the gradients for ``g``, that of the outputs; that of the inputs when wanted."""
        np.matmul(g.T, self._x, out=self.weight_grad)
        np.sum(g, axis=0, out=self.bias_grad)
        if not wanted:
            return None
        return np.matmul(
            g, self.weight, out=self._buffers.get("g", g.shape[0], self.weight_shape[1])
        )


class Conv:
    """Cross-correlation of images with a bank of filters, as one product (im2col).

    Parameters
    ----------
    in_shape : (int, int, int)
        H, W, C of the images.
    filters, kernel, stride, padding : int
    dtype : numpy.dtype
    """

    kind = "conv"

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        filters: int,
        kernel: int,
        stride: int,
        padding: int,
        dtype: np.dtype,
    ) -> None:
        height, width, channels = in_shape
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.in_shape = in_shape
        rows = (height + 2 * padding - kernel) // stride + 1
        columns = (width + 2 * padding - kernel) // stride + 1
        self.weight_shape: tuple[int, ...] = (filters, channels, kernel, kernel)
        self.out_shape: tuple[int, ...] = (rows, columns, filters)
        self.fan_in = channels * kernel * kernel
        self._buffers = _Buffers(dtype)

    bind = Dense.bind

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Outputs (n, H', W', filters) of images (n, H, W, C)."""
        n, (height, width, channels), pad = x.shape[0], self.in_shape, self.padding
        if pad:
            padded = self._buffers.get("x", n, height + 2 * pad, width + 2 * pad, channels)
            padded[:, :pad] = padded[:, -pad:] = 0
            padded[:, :, :pad] = padded[:, :, -pad:] = 0
            padded[:, pad:-pad, pad:-pad] = x
            x = padded
        windows = np.lib.stride_tricks.sliding_window_view(x, (self.kernel,) * 2, axis=(1, 2))
        windows = windows[:, :: self.stride, :: self.stride]
        # rows of the product are (image, place), columns (channel, y, x): the order of the weights
        columns = self._buffers.get("columns", n, *windows.shape[1:])
        np.copyto(columns, windows)
        self._columns = columns.reshape(-1, self.fan_in)
        z = self._buffers.get("z", n, *self.out_shape)
        flat = z.reshape(-1, self.weight_shape[0])
        np.matmul(self._columns, self.weight.reshape(-1, self.fan_in).T, out=flat)
        flat += self.bias
        return z

    def backward(self, g: np.ndarray, wanted: bool) -> np.ndarray | None:
        """As `Dense.backward`."""
        n = g.shape[0]
        flat = g.reshape(-1, self.weight_shape[0])
        np.matmul(flat.T, self._columns, out=self.weight_grad.reshape(-1, self.fan_in))
        np.sum(flat, axis=0, out=self.bias_grad)
        if not wanted:
            return None
        height, width, channels = self.in_shape
        pad, stride, k = self.padding, self.stride, self.kernel
        spread = np.matmul(flat, self.weight.reshape(-1, self.fan_in))
        spread = spread.reshape(n, *self.out_shape[:2], channels, k, k)
        out = self._buffers.get("g", n, height + 2 * pad, width + 2 * pad, channels)
        out[...] = 0
        bottom, right = stride * self.out_shape[0], stride * self.out_shape[1]
        for y in range(k):
            for x in range(k):
                out[:, y : y + bottom : stride, x : x + right : stride] += spread[..., y, x]
        return out[:, pad : pad + height, pad : pad + width]


class BatchNorm:
    """Normalisation of every unit, or channel, over the rows of a batch.

    Parameters
    ----------
    units : int
    dtype : numpy.dtype

    Attributes
    ----------
    gamma, beta : numpy.ndarray, shape (units,)
        Bound as for `Dense`.
    mean, variance : numpy.ndarray, shape (units,)
        Running statistics, updated by every forward pass in training.
    """

    def __init__(self, units: int, dtype: np.dtype) -> None:
        self.units = units
        self._buffers = _Buffers(dtype)

    def bind(
        self, gamma: np.ndarray, beta: np.ndarray, gamma_grad: np.ndarray, beta_grad: np.ndarray
    ) -> None:
        """Work with these views."""
        self.gamma, self.beta = gamma, beta
        self.gamma_grad, self.beta_grad = gamma_grad, beta_grad

    def lend(self, mean: np.ndarray, variance: np.ndarray) -> None:
        """Keep the running statistics in these views."""
        self.mean, self.variance = mean, variance

    def forward(self, z: np.ndarray, training: bool) -> np.ndarray:
        """Normalise ``z`` (..., units) in place."""
        flat = z.reshape(-1, self.units)
        if not training:
            scale = self.gamma / np.sqrt(self.variance + EPSILON)
            flat *= scale
            flat += self.beta - self.mean * scale
            return z
        mean = flat.mean(axis=0)
        flat -= mean
        variance = np.einsum("ij,ij->j", flat, flat) / flat.shape[0]
        self._inverse = 1 / np.sqrt(variance + EPSILON)
        flat *= self._inverse
        self._normal = self._buffers.get("normal", *flat.shape)
        np.copyto(self._normal, flat)
        flat *= self.gamma
        flat += self.beta
        self.mean += MOMENTUM * (mean - self.mean)
        unbiased = variance * (flat.shape[0] / max(flat.shape[0] - 1, 1))
        self.variance += MOMENTUM * (unbiased - self.variance)
        return z

    def backward(self, g: np.ndarray) -> np.ndarray:
        """Turn the gradient of the outputs into that of the inputs, in place."""
        flat = g.reshape(-1, self.units)
        np.sum(flat, axis=0, out=self.beta_grad)
        np.einsum("ij,ij->j", flat, self._normal, out=self.gamma_grad)
        flat -= self.beta_grad / flat.shape[0]
        self._normal *= self.gamma_grad / flat.shape[0]
        flat -= self._normal
        flat *= self.gamma * self._inverse
        return g
