"""What a trained model is to those who compress, save or run it: a list of finished layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS = ("dense", "conv")
ACTIVATIONS = ("relu", "identity", "softmax")
QUANTISATIONS = (None, "int8", "binary")


@dataclass(frozen=True)
class LayerSpec:
    """One layer, final: masked, batch normalisation folded in, activation included.

    Attributes
    ----------
    kind : str
        "dense": ``y = f(weight @ x + bias)``. "conv": cross-correlation of images (C, H, W) with
        ``weight``, then bias per filter and ``f``. A dense layer after a convolution reads the
        image flattened in the order (C, H, W).
    weight : numpy.ndarray of float32, shape (n_out, n_in) or (C_out, C_in, kh, kw)
        0 wherever ``mask`` is False.
    bias : numpy.ndarray of float32, shape (n_out,)
    mask : numpy.ndarray of bool, shape of ``weight``
    activation : str
        "relu", "identity" or "softmax" (the last layer of a classifier).
    stride, padding : int
        Of a convolution, both directions alike; the padding is zeros.
    quantisation : None, "int8" or "binary"
        Kept weights are ``scale`` times integers in [-127, 127], or ``scale`` times -1 or 1.
    scale : float, optional
        Only with ``quantisation``.
    """

    kind: str
    weight: np.ndarray
    bias: np.ndarray
    mask: np.ndarray
    activation: str
    stride: int = 1
    padding: int = 0
    quantisation: str | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        for name, options in (
            ("kind", KINDS),
            ("activation", ACTIVATIONS),
            ("quantisation", QUANTISATIONS),
        ):
            if getattr(self, name) not in options:
                raise ValueError(f"{name} must be one of {options}; got {getattr(self, name)!r}")
        axes = 2 if self.kind == "dense" else 4
        if self.weight.ndim != axes:
            raise ValueError(f"weight must have {axes} dimensions; got shape {self.weight.shape}")
        if self.mask.shape != self.weight.shape:
            raise ValueError(
                f"mask must have the shape of weight, {self.weight.shape}; got {self.mask.shape}"
            )
        if self.bias.shape != self.weight.shape[:1]:
            raise ValueError(f"bias must have shape {self.weight.shape[:1]}; got {self.bias.shape}")
        if (self.quantisation is None) != (self.scale is None):
            raise ValueError("scale must be given with quantisation, and only then")

    @property
    def nnz(self) -> int:
        """Number of kept weights."""
        return int(np.count_nonzero(self.mask))
