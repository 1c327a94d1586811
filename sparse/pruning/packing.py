"""Layers as few bytes: which entries are kept, their values, and where it all lies in one block.

A format says how the places of the kept weights are stored: "csr" with pointers to rows and
indices of two or four bytes; "kofn", the same number in every row, without pointers; "packed"
with indices of as few bits as the inputs need; "dense" with no indices because all are kept. The
values are float32, int8 with a factor, or a sign with a factor.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cascadenet.errors import FormatError
from cascadenet.sparse.pruning import _kernels as kernels
from cascadenet.sparse.pruning.spec import ACTIVATIONS, KINDS, LayerSpec

FORMATS = ("csr", "kofn", "packed", "dense")
BITS = (32, 8, 1)
ALIGNMENT = 8
_CODES = {32: kernels.FLOAT, 8: kernels.INT8, 1: kernels.SIGN}


@dataclass(frozen=True)
class Header:
    """What is known of a stored layer apart from its numbers.

    Attributes
    ----------
    kind, activation, stride, padding
        As in :class:`LayerSpec`.
    shape : tuple of int
        Of the weights.
    format : str
    bits : int
        Of a value: 32, 8 or 1.
    entries : int
        Stored weights.
    per_row : int
        Of them in every row, or -1 when rows differ.
    scales : int
        Number of factors of the values: 0, 1, or one a row.
    """

    kind: str
    shape: tuple[int, ...]
    activation: str
    stride: int
    padding: int
    format: str
    bits: int
    entries: int
    per_row: int
    scales: int

    @property
    def inputs(self) -> int:
        """Inputs of a neuron, or taps of a filter."""
        return int(np.prod(self.shape[1:], dtype=object))

    @property
    def index_bits(self) -> int:
        """Bits of a stored index."""
        if self.format == "packed":
            return max(1, (self.inputs - 1).bit_length())
        if self.format == "dense":
            return 0
        return 16 if self.inputs <= 1 << 16 else 32

    @property
    def pointer_bytes(self) -> int:
        """Bytes of a pointer to a row; 0 when there are none."""
        if self.per_row >= 0:
            return 0
        return 2 if self.entries < 1 << 16 else 4

    def sections(self) -> dict[str, int]:
        """Bytes of pointers, indices, values, scales and biases, in the order of storage."""
        n_out = self.shape[0]
        if self.format == "packed":
            index = packed_bytes(self.entries, self.index_bits)
        else:
            index = self.entries * self.index_bits // 8
        value = packed_bytes(self.entries, 1) if self.bits == 1 else self.entries * self.bits // 8
        return {
            "pointer": self.pointer_bytes * (n_out + 1),
            "index": index,
            "value": value,
            "scale": 4 * self.scales,
            "bias": 4 * n_out,
        }

    @property
    def nbytes(self) -> int:
        """Bytes of the sections with the gaps between them."""
        return sum(_padded(size) for size in self.sections().values())


@dataclass(frozen=True)
class Entries:
    """The numbers of a layer, row by row.

    Attributes
    ----------
    start : numpy.ndarray of int64, shape (n_out + 1,)
        Row r holds entries ``start[r]:start[r + 1]``.
    index : numpy.ndarray of int64, shape (entries,)
        Inputs of the neuron or taps of the filter, ascending within a row.
    value : numpy.ndarray of float32, shape (entries,)
        Whole numbers when there are factors.
    scale : numpy.ndarray of float32, shape (0,), (1,) or (n_out,)
    bias : numpy.ndarray of float32, shape (n_out,)
    """

    start: np.ndarray
    index: np.ndarray
    value: np.ndarray
    scale: np.ndarray
    bias: np.ndarray

    def weights(self) -> np.ndarray:
        """Values times factors, float32 (entries,)."""
        if self.scale.size == 0:
            return self.value
        rows = np.repeat(np.arange(self.bias.size), np.diff(self.start))
        return self.value * self.scale[rows if self.scale.size > 1 else rows * 0]


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def total_bytes(headers: list[Header], centres: int, factors: int) -> int:
    """Bytes of all layers, then of the numbers that standardise the input."""
    return sum(header.nbytes for header in headers) + _padded(4 * (centres + factors))


def packed_bytes(n: int, bits: int) -> int:
    """Bytes that hold ``n`` integers of ``bits`` bits, in lanes of 32."""
    return 4 * bits * (-(-n // 32))


def pack(values: np.ndarray, bits: int) -> np.ndarray:
    """Integers in as few bits as they need.

    Parameters
    ----------
    values : numpy.ndarray of int, shape (n,)
        In [0, 2**bits).
    bits : int
        1 to 32.

    Returns
    -------
    numpy.ndarray of uint32, shape (bits * lanes,)
        A lane is 32 integers in ``bits`` words. Entry ``r * lanes + l`` is integer r of lane l,
        and word w of that lane is number ``w * lanes + l``: neighbours are unpacked by the same
        shift, which is what vector instructions want.
    """
    lanes = -(-values.size // 32)
    fields = np.zeros((32, lanes), np.uint64)
    fields.reshape(-1)[: values.size] = values
    words = np.zeros((bits + 1, lanes), np.uint64)
    for r in range(32):
        word, shift = divmod(r * bits, 32)
        shifted = fields[r] << np.uint64(shift)
        words[word] |= shifted & np.uint64(0xFFFFFFFF)
        words[word + 1] |= shifted >> np.uint64(32)
    return words[:bits].reshape(-1).astype(np.uint32)


def unpack(words: np.ndarray, bits: int, n: int) -> np.ndarray:
    """What :func:`pack` was given.

    Parameters
    ----------
    words : numpy.ndarray of uint32
    bits, n : int

    Returns
    -------
    numpy.ndarray of int64, shape (n,)
    """
    out = np.empty(n, np.uint32)
    kernels.unpack(words, bits, out)
    return out.astype(np.int64)


# ---------------------------------------------------------------------------------------------
# a layer and its bytes
# ---------------------------------------------------------------------------------------------


def quantise(
    weight: np.ndarray, bits: int, scale: float | np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers and factors of a weight matrix.

    Parameters
    ----------
    weight : numpy.ndarray of float32, shape (n_out, n_in)
        0 where nothing is kept.
    bits : int
        8: integers in [-127, 127], the largest of a row becomes 127. 1: signs, the factor is the
        mean size of what a row keeps.
    scale : float, numpy.ndarray of shape (n_out,), or None
        The factors of weights that are quantised already.

    Returns
    -------
    numpy.ndarray of float32, shape (n_out, n_in); numpy.ndarray of float32, shape (1,) or (n_out,)

    Raises
    ------
    ValueError
        Weights that are not whole multiples of ``scale``.
    """
    size = np.abs(weight)
    if scale is not None:
        factors = np.asarray(scale, np.float32).reshape(-1)
    elif bits == 8:
        factors = (size.max(axis=1, initial=0.0) / 127).astype(np.float32)
    else:
        kept = np.maximum(np.count_nonzero(size, axis=1), 1)
        factors = (size.sum(axis=1, dtype=np.float64) / kept).astype(np.float32)
    divisor = np.where(factors > 0, factors, 1).astype(np.float64)[:, None]
    if bits == 1:
        whole = np.sign(weight).astype(np.float32)
    else:
        whole = np.clip(np.rint(weight / divisor), -127, 127).astype(np.float32)
    if scale is not None and (np.abs(weight / divisor - whole) > 0.01).any():
        raise ValueError("weight must be scale times whole numbers in a layer that is quantised")
    return whole, factors


def code(spec: LayerSpec, bits: int | None, wanted: str) -> tuple[Header, Entries]:
    """A layer in the format that is wanted, or with "auto" in the smallest.

    Parameters
    ----------
    spec : LayerSpec
    bits : 32, 8, 1 or None
        None: as the layer is quantised. A layer that is quantised is not quantised again.
    wanted : str

    Returns
    -------
    Header, Entries

    Raises
    ------
    ValueError
        The layer cannot have the format that is wanted.
    """
    own = {None: 32, "int8": 8, "binary": 1}[spec.quantisation]
    bits = own if bits is None or own < bits < 32 else bits
    n_out = spec.weight.shape[0]
    weight = np.ascontiguousarray(spec.weight, np.float32).reshape(n_out, -1)
    mask = np.asarray(spec.mask, bool).reshape(n_out, -1)
    value, scale = weight, np.empty(0, np.float32)
    if bits < 32:
        value, scale = quantise(weight, bits, spec.scale if bits == own else None)
    options = _options(value != 0, wanted, spec, bits, scale.size)
    if bits > 1:  # a zero has no sign, but with it rows may be equally long, or complete
        options += _options(mask, wanted, spec, bits, scale.size)
        if wanted in ("auto", "dense"):
            options += _options(np.ones_like(mask), "dense", spec, bits, scale.size)
    if not options:
        counts = np.unique(np.count_nonzero(mask, axis=1))
        raise ValueError(
            f"format={wanted!r} does not suit every layer: one of shape {spec.weight.shape} keeps "
            f"{counts[0]} to {counts[-1]} of {mask.shape[1]} weights a row; choose 'auto'"
        )
    header, kept = min(options, key=lambda option: option[0].nbytes)
    start = np.concatenate([[0], np.cumsum(np.count_nonzero(kept, axis=1))])
    bias = np.ascontiguousarray(spec.bias, np.float32)
    return header, Entries(start, np.nonzero(kept)[1], value[kept], scale, bias)


def _options(
    kept: np.ndarray, wanted: str, spec: LayerSpec, bits: int, scales: int
) -> list[tuple[Header, np.ndarray]]:
    """Headers of the formats that can hold what is ``kept`` (n_out, n_in)."""
    counts = np.count_nonzero(kept, axis=1)
    entries = int(counts.sum())
    constant = int(counts[0]) if (counts == counts[0]).all() else -1
    found = []
    for name in FORMATS if wanted == "auto" else (wanted,):
        if (name == "dense" and not kept.all()) or (name == "kofn" and constant < 0):
            continue
        header = Header(
            kind=spec.kind,
            shape=tuple(int(n) for n in spec.weight.shape),
            activation=spec.activation,
            stride=int(spec.stride) if spec.kind == "conv" else 1,
            padding=int(spec.padding) if spec.kind == "conv" else 0,
            format=name,
            bits=bits,
            entries=entries,
            per_row=-1 if name == "csr" else constant,
            scales=scales,
        )
        found.append((header, kept))
    return found


def store(header: Header, entries: Entries, room: np.ndarray) -> None:
    """Write the sections of a layer.

    Parameters
    ----------
    header : Header
    entries : Entries
    room : numpy.ndarray of uint8, shape (header.nbytes,)
        Zeros; written.
    """
    index = entries.index
    if header.format == "packed":
        index = pack(index, header.index_bits)
    else:
        index = index.astype(np.uint16 if header.index_bits == 16 else np.uint32)
    if header.bits == 1:
        value = pack(entries.value < 0, 1)
    else:
        value = entries.value.astype(np.int8 if header.bits == 8 else np.float32)
    parts = {
        "pointer": entries.start.astype(np.uint16 if header.pointer_bytes == 2 else np.uint32),
        "index": index,
        "value": value,
        "scale": entries.scale,
        "bias": entries.bias,
    }
    at = 0
    for name, size in header.sections().items():
        if size:
            room[at : at + size] = np.frombuffer(parts[name].tobytes(), np.uint8)
        at += _padded(size)


def restore(header: Header, room: np.ndarray) -> Entries:
    """Read the sections of a layer, trusting nothing.

    Parameters
    ----------
    header : Header
    room : numpy.ndarray of uint8, shape (header.nbytes,)

    Returns
    -------
    Entries

    Raises
    ------
    FormatError
        An index, a pointer or a number that cannot be.
    """
    parts, at = {}, 0
    for name, size in header.sections().items():
        parts[name] = room[at : at + size]
        at += _padded(size)
    n_out, inputs, n = header.shape[0], header.inputs, header.entries
    if header.pointer_bytes:
        kind = np.uint16 if header.pointer_bytes == 2 else np.uint32
        start = parts["pointer"].view(kind).astype(np.int64)
    else:
        start = np.arange(n_out + 1, dtype=np.int64) * header.per_row
    if header.format == "dense":
        index = np.arange(n, dtype=np.int64) % inputs
    elif header.format == "packed":
        index = unpack(parts["index"].view(np.uint32), header.index_bits, n)
    else:
        kind = np.uint16 if header.index_bits == 16 else np.uint32
        index = parts["index"].view(kind).astype(np.int64)
    if header.bits == 1:
        value = 1 - 2 * unpack(parts["value"].view(np.uint32), 1, n).astype(np.float32)
    else:
        value = parts["value"].view(np.int8 if header.bits == 8 else np.float32)
        value = value.astype(np.float32)
    scale, bias = parts["scale"].view(np.float32), parts["bias"].view(np.float32)
    if start[0] != 0 or start[-1] != n or (np.diff(start) < 0).any():
        raise FormatError("expected pointers to rows that ascend from 0 to the number of entries")
    if n and index.max() >= inputs:
        raise FormatError(f"expected indices below {inputs}; got {index.max()}")
    if not all(np.isfinite(part).all() for part in (value, scale, bias)):
        raise FormatError("expected finite weights; got one that is not")
    return Entries(start, index, value, scale, bias)


# ---------------------------------------------------------------------------------------------
# headers as a table for the kernels, and as JSON
# ---------------------------------------------------------------------------------------------


def table(headers: list[Header], image: tuple[int, int, int]) -> np.ndarray:
    """Where the kernels find everything.

    Parameters
    ----------
    headers : list of Header
    image : (int, int, int)
        Channels, height and width of the network's input; (features, 1, 1) of plain rows.

    Returns
    -------
    numpy.ndarray of int64, shape (layers, columns)

    Raises
    ------
    ValueError
        Layers do not fit one another.
    """
    rows = np.zeros((len(headers), kernels.COLUMNS), np.int64)
    at, (channels, height, width) = 0, image
    for number, header in enumerate(headers):
        if header.kind == "dense":
            channels, height, width = channels * height * width, 1, 1
            kh = kw = 1
        else:
            kh, kw = header.shape[2:]
        if header.shape[1] != channels:
            raise ValueError(
                f"layer {number} must take {header.shape[1]} inputs or channels; got {channels}"
            )
        out_height = (height + 2 * header.padding - kh) // header.stride + 1
        out_width = (width + 2 * header.padding - kw) // header.stride + 1
        if min(out_height, out_width) < 1:
            raise ValueError(
                f"layer {number} must have a kernel no larger than its image; got ({kh}, {kw}) "
                f"on ({height}, {width}) with padding {header.padding}"
            )
        places = {}
        for name, size in header.sections().items():
            places[name] = at
            at += _padded(size)
        rows[number] = _columns(
            header, places, (channels, height, width), (kh, kw), (out_height, out_width)
        )
        channels, height, width = header.shape[0], out_height, out_width
    return rows


def features(rows: np.ndarray) -> int:
    """Size of the widest input or output of a layer, rims of zeros included.

    Parameters
    ----------
    rows : numpy.ndarray of int64, shape (layers, columns)
        The table.

    Returns
    -------
    int
    """
    return int(kernels.features(rows))


def _columns(
    header: Header,
    places: dict[str, int],
    image: tuple[int, int, int],
    kernel: tuple[int, int],
    out: tuple[int, int],
) -> list[int]:
    """One row of the table, in the order of the kernels' columns."""
    stored = {
        "packed": kernels.PACKED,
        "dense": kernels.ALL,
    }.get(header.format, kernels.TWO_BYTES if header.index_bits == 16 else kernels.FOUR_BYTES)
    return [
        header.shape[0],
        header.entries,
        header.per_row,
        header.pointer_bytes,
        stored,
        header.index_bits,
        _CODES[header.bits],
        header.scales,
        int(header.activation == "relu"),
        *(places[name] for name in ("pointer", "index", "value", "scale", "bias")),
        *image,
        header.padding,
        *kernel,
        header.stride,
        *out,
    ]


def to_json(header: Header) -> dict[str, Any]:
    """A header as JSON can hold it."""
    return asdict(header)


def from_json(fields: dict[str, Any]) -> Header:
    """A header from JSON, trusting nothing.

    Parameters
    ----------
    fields : dict

    Returns
    -------
    Header

    Raises
    ------
    FormatError
        A field that is missing, unknown or impossible.
    """
    header = Header(**(fields | {"shape": tuple(fields["shape"])}))
    whole = (*header.shape, header.stride, header.padding, header.entries, header.per_row)
    if not all(type(n) is int and -1 <= n < 1 << 40 for n in (*whole, header.scales)):
        raise FormatError("expected sizes that are whole numbers")
    n_out = header.shape[0]
    axes = {"dense": 2, "conv": 4}.get(header.kind)
    sound = (
        header.kind in KINDS
        and header.activation in ACTIVATIONS
        and header.format in FORMATS
        and header.bits in BITS
        and len(header.shape) == axes
        and min(header.shape) >= 1
        and header.stride >= 1
        and header.padding >= 0
        and header.scales in ((0,) if header.bits == 32 else (1, n_out))
        and 0 <= header.entries <= n_out * header.inputs
        and (header.per_row < 0 or header.per_row * n_out == header.entries)
        and (header.format != "kofn" or header.per_row >= 0)
        and (header.format != "dense" or header.entries == n_out * header.inputs)
    )
    if not sound:
        raise FormatError(f"expected the header of a layer; got {fields}")
    return header
