"""Trained networks as compact objects that predict fast on one core."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.errors import FormatError
from cascadenet.files import read_npz, write_npz
from cascadenet.sparse.pruning import _kernels as kernels
from cascadenet.sparse.pruning import packing
from cascadenet.sparse.pruning.spec import LayerSpec

if TYPE_CHECKING:
    import scipy.sparse

FORMAT = 1
KIND = "cascadenet compact network"
ALONE = 8  # fewer rows than this are predicted one by one
BLOCK = 256  # most rows in a block
CACHE = 1 << 20  # bytes the activations of a block may take
FAR = 32.0  # scales from 0 at which a mean stays a mean
PART = 4096  # rows that are converted at once
MOST_FEATURES = 1 << 28


def compress(
    model: Any,
    *,
    bits: int | None = None,
    format: str = "auto",
    image_shape: Sequence[int] | None = None,
) -> CompactNetwork:
    """A trained model in few bytes.

    Parameters
    ----------
    model : estimator or list of LayerSpec
        A fitted estimator of this package, or its ``layers_``.
    bits : 32, 8 or 1, optional
        Of a weight: float32, int8 or its sign, the last two with one float32 factor a row (the
        largest weight over 127; the mean size). None: as the layers are. Layers that were trained
        quantised keep their integers and factor. Biases stay float32.
    format : str
        How the places of the weights are stored: "csr" (pointers to rows, indices of 2 or 4
        bytes), "kofn" (no pointers: every row keeps the same number), "packed" (indices of as few
        bits as they need), "dense" (all weights, no indices); "auto" takes the smallest, layer by
        layer.
    image_shape : (int, int, int), optional
        Channels, height and width of the input when a list of layers begins with a convolution;
        an estimator knows its own.

    Returns
    -------
    CompactNetwork

    Raises
    ------
    TypeError
        ``model`` is neither.
    ValueError
        Not fitted, layers that do not fit one another, or that ``format`` does not suit.
    """
    if bits is not None and (isinstance(bits, bool) or bits not in packing.BITS):
        raise ValueError(f"bits must be 32, 8, 1 or None; got {bits!r}")
    if format not in ("auto", *packing.FORMATS):
        raise ValueError(f"format must be auto, {', '.join(packing.FORMATS)}; got {format!r}")
    layers, image = _layers_of(model), getattr(model, "input_shape_", image_shape)
    if layers[0].kind == "dense":
        image = (layers[0].weight.shape[1], 1, 1)
    elif image is None or len(image) != 3:
        raise ValueError(f"image_shape must be (channels, height, width); got {image}")
    for number, layer in enumerate(layers):
        _check_layer(number, layer, number == len(layers) - 1)
    coded = [packing.code(layer, bits, format) for layer in layers]
    coded[0], centre, factor = _standardisation(model, *coded[0])
    headers = [header for header, _ in coded]
    blob = np.zeros(packing.total_bytes(headers, centre.size, factor.size), np.uint8)
    at = 0
    for header, entries in coded:
        packing.store(header, entries, blob[at : at + header.nbytes])
        at += header.nbytes
    blob[at:].view(np.float32)[: centre.size + factor.size] = np.concatenate([centre, factor])
    classes = getattr(model, "classes_", None)
    if classes is None and layers[-1].activation == "softmax":
        classes = np.arange(layers[-1].weight.shape[0])
    flat = bool(getattr(model, "_flat", layers[-1].weight.shape[0] == 1))
    about = _About(tuple(int(n) for n in image), centre.size, factor.size, classes, flat)
    return CompactNetwork(headers, about, blob)


@dataclass(frozen=True)
class _About:
    """What is known of a network apart from its layers."""

    image: tuple[int, int, int]  # channels, height, width; (features, 1, 1) of plain rows
    centres: int  # numbers that are subtracted from the input: 0, 1 or one a feature
    factors: int  # numbers it is then multiplied by
    classes: np.ndarray | None
    flat: bool  # whether a single output is predicted as (n,)


def _layers_of(model: Any) -> list[LayerSpec]:
    """Layers of what a user passes."""
    if isinstance(model, (list, tuple)):
        layers = list(model)
    elif hasattr(model, "layers_"):
        layers = list(model.layers_)
    elif hasattr(model, "fit"):
        raise ValueError(f"model must be fitted; got {type(model).__name__} before fit")
    else:
        raise TypeError(
            "model must be an estimator of cascadenet.sparse.pruning or a list of layers; got "
            f"{type(model).__name__}"
        )
    if not layers:
        raise ValueError("model must have at least one layer; got none")
    for layer in layers:
        if not isinstance(layer, LayerSpec):
            raise TypeError(f"layers must be LayerSpec; got {type(layer).__name__}")
    return layers


def _standardisation(
    model: Any, header: packing.Header, entries: packing.Entries
) -> tuple[tuple[packing.Header, packing.Entries], np.ndarray, np.ndarray]:
    """The first layer, and what its input is lessened and multiplied by.

    Means go into the biases, unless many scales from 0: that would cost digits. They also stay
    where the zeros of a padding would be taken for data.
    """
    mean, scale = (getattr(model, name, None) for name in ("input_mean_", "input_scale_"))
    if mean is None:
        return (header, entries), np.empty(0, np.float32), np.empty(0, np.float32)
    centre, factor = np.asarray(mean, np.float64), 1.0 / np.asarray(scale, np.float64)
    if header.kind == "dense" and np.abs(centre * factor).max() <= FAR:
        rows = np.repeat(np.arange(entries.bias.size), np.diff(entries.start))
        moved = entries.weights() * (centre * factor)[entries.index]
        bias = entries.bias - np.bincount(rows, moved, entries.bias.size)
        entries, centre = replace(entries, bias=bias.astype(np.float32)), np.empty(0)
    centre, factor = (
        (values[:1] if (values == values[:1]).all() else values).astype(np.float32)
        for values in (centre, factor)
    )
    return (header, entries), centre, factor


def _check_layer(number: int, layer: LayerSpec, last: bool) -> None:
    """Refuse what cannot be stored."""
    if not (np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all()):
        raise ValueError(f"weights must be finite; got one in layer {number} that is not")
    if layer.weight[~layer.mask].any():
        raise ValueError(f"weight must be 0 where mask is False; layer {number} is not masked")
    if layer.activation == "softmax" and not last:
        raise ValueError(f"softmax must be the last activation; got it in layer {number}")


class CompactNetwork:
    """A network as one block of bytes, made by :func:`compress` or :meth:`load`.

    Predictions are float32. A row's do not depend on the rows beside it: the same bytes whether
    data come one by one, in blocks or all at once. Weights of 8 or 1 bits enter the sums as the
    integers they are, and each sum is multiplied by its factor once.

    Attributes
    ----------
    classes_ : numpy.ndarray or None
        Labels, of a classifier.
    n_features_in_, n_outputs_ : int
    """

    def __init__(self, headers: list[packing.Header], about: _About, blob: np.ndarray) -> None:
        self.headers, self.image_shape, self.classes_ = tuple(headers), about.image, about.classes
        self._about, self._blob = about, blob
        self._table = packing.table(headers, about.image)
        self.n_features_in_, self.n_outputs_ = int(np.prod(about.image)), headers[-1].shape[0]
        if self.classes_ is not None and len(self.classes_) != self.n_outputs_:
            raise ValueError(
                f"classes must be {self.n_outputs_}, one an output; got {len(self.classes_)}"
            )
        self._entries = sum(header.entries for header in headers)
        widest = packing.features(self._table)
        if widest > MOST_FEATURES:
            raise ValueError(f"layers must have at most {MOST_FEATURES} outputs; got {widest}")
        self._block = max(16, min(BLOCK, CACHE // (8 * widest) // 16 * 16))
        self._open()

    def _open(self) -> None:
        """Views of the bytes; they are of the same memory."""
        typed = [self._blob.view(t) for t in (np.int8, np.uint16, np.uint32, np.float32)]
        tail = typed[3][sum(header.nbytes for header in self.headers) // 4 :]
        n, m = self._about.centres, self._about.factors
        self._views = (*typed, tail[:n], tail[n : n + m])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_views"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __repr__(self) -> str:
        return f"<CompactNetwork: {len(self.headers)} layers, {self.nbytes} bytes>"

    # -- prediction

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Labels, or the outputs of a network that is no classifier.

        Parameters
        ----------
        X : array_like, shape (n, features)
            Finite; images (n, C, H, W) may stay images.

        Returns
        -------
        numpy.ndarray, shape (n,), or (n, n_outputs) float32 of a regressor with several outputs
        """
        out = self._forward(X, False)
        if self.classes_ is not None:
            return self.classes_[out.argmax(axis=1)]
        return out[:, 0] if self._about.flat else out

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Class probabilities.

        Parameters
        ----------
        X : array_like, shape (n, features)

        Returns
        -------
        numpy.ndarray of float32, shape (n, n_classes)

        Raises
        ------
        AttributeError
            The last layer is no softmax.
        """
        if self.headers[-1].activation != "softmax":
            raise AttributeError("predict_proba needs a network that ends in a softmax")
        return self._forward(X, True)

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Outputs before the softmax.

        Parameters
        ----------
        X : array_like, shape (n, features)

        Returns
        -------
        numpy.ndarray of float32
            Shape (n, n_outputs); of two classes their difference, (n,), as scikit-learn has it.
        """
        out = self._forward(X, False)
        if self.classes_ is not None and self.n_outputs_ == 2:
            return out[:, 1] - out[:, 0]
        return out

    def _forward(self, X: np.ndarray, softmax: bool) -> np.ndarray:
        X = np.asarray(X)
        if X.ndim == 4 and X.shape[1:] == self.image_shape:
            X = X.reshape(len(X), -1)
        if X.ndim != 2 or X.shape[1] != self.n_features_in_:
            raise ValueError(f"X must have shape (n, {self.n_features_in_}); got {X.shape}")
        if X.dtype.kind not in "fiub":
            raise TypeError(f"X must be real numbers; got dtype {X.dtype}")
        n = len(X)
        out = np.empty((n, self.n_outputs_), np.float32)
        if n <= PART:
            bad = self._forward_part(X, softmax, out)
        for first in range(0, n if n > PART else 0, PART):  # a copy need not be of all rows
            part = slice(first, first + PART)
            bad = self._forward_part(X[part], softmax, out[part])
            if bad >= 0:
                bad += first
                break
        if bad >= 0:
            raise ValueError(f"X must be finite in float32; row {bad} is not")
        return out

    def _forward_part(self, X: np.ndarray, softmax: bool, out: np.ndarray) -> int:
        """Write ``out`` (n, n_outputs); the first row that is not finite, or -1."""
        if X.dtype != np.float32 or not X.flags.carray:  # read-only is another type to compile
            with np.errstate(over="ignore"):  # what is too large is refused below
                X = np.array(X, np.float32, order="C")
        n = len(X)
        block = 1
        if n >= ALONE:  # blocks of nearly equal size
            block = -(-n // -(-n // self._block) // 16) * 16
        return kernels.forward(self._views, self._table, X, block, softmax, out)

    # -- what it is

    @property
    def nbytes(self) -> int:
        """Bytes in memory: weights, places, biases and the table of where they are."""
        return self._blob.nbytes + self._table.nbytes

    def summary(self) -> str:
        """A line for each layer: shape, what is kept, format and bytes."""
        lines = [f"{'layer':18}{'kept':>9}{'share':>8}  {'format':7}{'bits':>5}{'bytes':>9}"]
        for header in self.headers:
            shape = " x ".join(map(str, header.shape))
            share = header.entries / (header.shape[0] * header.inputs)
            lines.append(
                f"{header.kind + ' ' + shape:18}{header.entries:9}{share:8.1%}  "
                f"{header.format:7}{header.bits:5}{header.nbytes:9}"
            )
        total = sum(header.shape[0] * header.inputs for header in self.headers)
        lines.append(
            f"{'all':18}{self._entries:9}{self._entries / total:8.1%}  {'':12}{self.nbytes:9}"
        )
        return "\n".join(lines)

    def layers(self) -> list[LayerSpec]:
        """The layers as dense arrays, with the weights that are used in prediction."""
        out, at = [], 0
        for header in self.headers:
            entries = packing.restore(header, self._blob[at : at + header.nbytes])
            at += header.nbytes
            rows = np.repeat(np.arange(header.shape[0]), np.diff(entries.start))
            weight = np.zeros((header.shape[0], header.inputs), np.float32)
            mask = np.zeros(weight.shape, bool)
            weight[rows, entries.index], mask[rows, entries.index] = entries.weights(), True
            out.append(
                LayerSpec(
                    kind=header.kind,
                    weight=weight.reshape(header.shape),
                    bias=entries.bias.copy(),
                    mask=mask.reshape(header.shape),
                    activation=header.activation,
                    stride=header.stride,
                    padding=header.padding,
                )
            )
        return out

    def to_scipy(self) -> list[scipy.sparse.csr_array]:
        """Weights as scipy.sparse arrays (n_out, n_in), float32; filters are flattened.

        Biases and activations are in :meth:`layers`.
        """
        from scipy.sparse import csr_array

        out, at = [], 0
        for header in self.headers:
            entries = packing.restore(header, self._blob[at : at + header.nbytes])
            at += header.nbytes
            shape = (header.shape[0], header.inputs)
            out.append(csr_array((entries.weights(), entries.index, entries.start), shape=shape))
        return out

    def to_onnx(self) -> Any:
        """The network as an ``onnx.ModelProto`` with dense weights.

        Input "X" (n, features), float32; output "probabilities" or "outputs".

        Raises
        ------
        ImportError
            The package onnx is not installed.
        """
        from cascadenet.sparse.pruning.onnx_export import to_onnx

        return to_onnx(self.layers(), self.image_shape, *self._views[4:])

    # -- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .npz file without pickle; :meth:`load` reads it.

        Parameters
        ----------
        path : path
            Exactly this name; what was there is replaced once all is written.
        """
        meta: dict[str, Any] = {
            "kind": KIND,
            "format": FORMAT,
            "image_shape": list(self.image_shape),
            "centres": self._about.centres,
            "factors": self._about.factors,
            "flat": self._about.flat,
            "layers": [packing.to_json(header) for header in self.headers],
            "classes": _classes_to_json(self.classes_),
        }
        meta["checksum"] = _checksum(meta, self._blob)
        write_npz(path, meta, {"blob": self._blob})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CompactNetwork:
        """Read a network that was saved.

        Parameters
        ----------
        path : path

        Returns
        -------
        CompactNetwork

        Raises
        ------
        FormatError
            Not such a file, damaged, or written by a newer version.
        FileNotFoundError
            Nothing there.
        """
        return read_npz(path, "a saved network", _restore, newest=FORMAT, kind=KIND)


def _restore(meta: dict[str, Any], file: Any) -> CompactNetwork:
    blob = file["blob"]
    found = meta.pop("checksum")
    if found != _checksum(meta, blob):
        raise FormatError("expected the checksum of the contents; the file is damaged")
    headers = [packing.from_json(fields) for fields in meta["layers"]]
    about = _About(
        image=tuple(meta["image_shape"]),
        centres=meta["centres"],
        factors=meta["factors"],
        classes=_classes_from_json(meta["classes"]),
        flat=bool(meta["flat"]),
    )
    whole = (*about.image, about.centres, about.factors)
    if len(whole) != 5 or not all(type(n) is int and 0 <= n < 1 << 40 for n in whole):
        raise FormatError(f"expected three sizes of the input and two counts; got {whole}")
    inputs = int(np.prod(about.image, dtype=object))
    if inputs < 1 or not {about.centres, about.factors} <= {0, 1, inputs}:
        raise FormatError(f"expected 0, 1 or {inputs} means and scales; got {whole[3:]}")
    size = packing.total_bytes(headers, about.centres, about.factors)
    if blob.dtype != np.uint8 or blob.shape != (size,):
        raise FormatError(f"expected {size} bytes of weights; got {blob.dtype} {blob.shape}")
    at = 0
    for header in headers:
        packing.restore(header, blob[at : at + header.nbytes])
        at += header.nbytes
    if not np.isfinite(blob[at:].view(np.float32)).all():
        raise FormatError("expected finite means and scales; got one that is not")
    return CompactNetwork(headers, about, blob)


def _checksum(meta: dict[str, Any], blob: np.ndarray) -> str:
    text = json.dumps(meta, sort_keys=True).encode()
    return hashlib.sha256(text + blob.tobytes()).hexdigest()


def _classes_to_json(classes: np.ndarray | None) -> dict[str, Any] | None:
    if classes is None:
        return None
    classes = np.asarray(classes)
    if classes.dtype.kind not in "biufU" and not all(isinstance(c, str) for c in classes):
        raise TypeError(f"classes must be numbers or strings to be saved; got {classes.dtype}")
    return {"dtype": classes.dtype.str, "labels": classes.tolist()}


def _classes_from_json(fields: dict[str, Any] | None) -> np.ndarray | None:
    if fields is None:
        return None
    if np.dtype(fields["dtype"]).kind not in "biufUO":
        raise FormatError(f"expected labels that are numbers or strings; got {fields['dtype']}")
    return np.array(fields["labels"], dtype=fields["dtype"])
