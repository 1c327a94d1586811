"""Compact networks: right numbers in every format, whatever the batch; few bytes; safe files."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cascadenet.errors import FormatError
from cascadenet.sparse.pruning import packing
from cascadenet.sparse.pruning.compact import BLOCK, CompactNetwork, compress
from cascadenet.sparse.pruning.spec import LayerSpec

ROOT = Path(__file__).resolve().parent.parent
INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT") == "1"
LENET = ((784, 300, 36), (300, 100, 20), (100, 10, 50))  # inputs, outputs, kept of each neuron


def dense(rng, n_in, n_out, kept, activation="relu"):
    """A layer; ``kept`` of every row, or as drawn with that share when it is below 1."""
    mask = rng.random((n_out, n_in)) < kept
    if kept >= 1:
        mask[:] = False
        for row in mask:
            row[rng.choice(n_in, kept, replace=False)] = True
    weight = np.where(mask, rng.standard_normal((n_out, n_in)), 0).astype(np.float32)
    return LayerSpec("dense", weight, rng.standard_normal(n_out).astype("f4"), mask, activation)


def conv(rng, shape, density, **options):
    mask = rng.random(shape) < density
    weight = np.where(mask, rng.standard_normal(shape), 0).astype(np.float32)
    bias = rng.standard_normal(shape[0]).astype("f4")
    return LayerSpec("conv", weight, bias, mask, "relu", **options)


def lenet(seed=0):
    rng = np.random.default_rng(seed)
    last = ("relu", "relu", "softmax")
    return [dense(rng, *sizes, name) for sizes, name in zip(LENET, last, strict=True)]


def small(rng, share=0.3):
    return [dense(rng, 9, 7, share), dense(rng, 7, 5, 2), dense(rng, 5, 3, 5, "softmax")]


def images(rng):
    """Every way a convolution can meet its neighbours, and the shape of the images."""
    return [
        conv(rng, (3, 2, 3, 3), 0.5, padding=1),
        conv(rng, (4, 3, 2, 3), 0.6, stride=2),
        conv(rng, (3, 4, 1, 1), 0.6, padding=2),
        conv(rng, (4, 3, 2, 2), 0.6),
        dense(rng, 4 * 6 * 5, 6, 0.2),
        dense(rng, 6, 2, 0.7, "identity"),
    ], (2, 7, 6)


def naive(layers, x, image=None):
    """Outputs before the softmax of one row, in double precision and by definition."""
    x = np.asarray(x, np.float64)
    if image is not None:
        x = x.reshape(image)
    for layer in layers:
        weight, bias = layer.weight.astype(np.float64), layer.bias.astype(np.float64)
        if layer.kind == "dense":
            z = weight @ x.reshape(-1) + bias
        else:
            p, s = layer.padding, layer.stride
            x = np.pad(x, ((0, 0), (p, p), (p, p)))
            kh, kw = weight.shape[2:]
            size = [(n - k) // s + 1 for n, k in zip(x.shape[1:], (kh, kw), strict=True)]
            z = np.empty((len(bias), *size))
            for f, i, j in np.ndindex(z.shape):
                window = x[:, i * s : i * s + kh, j * s : j * s + kw]
                z[f, i, j] = (weight[f] * window).sum() + bias[f]
        x = np.maximum(z, 0) if layer.activation == "relu" else z
    return x.reshape(-1)


def near(found, wanted, tolerance=2e-6):
    """Within ``tolerance`` of the largest output: single precision, sums of at most hundreds."""
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


# ------------------------------------------------------------------------------------------ packing


@pytest.mark.jit_off
@pytest.mark.parametrize("bits", [1, 2, 7, 10, 16, 17, 31, 32])
def test_packed_integers_come_back(bits, seed):
    rng = np.random.default_rng(seed)
    for n in (0, 1, 31, 32, 33, 64, 101):
        values = rng.integers(0, 1 << bits, n, dtype=np.int64)
        words = packing.pack(values, bits)
        assert words.nbytes == packing.packed_bytes(n, bits) <= (n + 31) * bits / 8
        np.testing.assert_array_equal(packing.unpack(words, bits, n), values)


@pytest.mark.jit_off
def test_quantised_weights_are_within_half_a_step(seed):
    layers = small(np.random.default_rng(seed))
    for layer, stored in zip(layers, compress(layers, bits=8).layers(), strict=True):
        step = np.abs(layer.weight).max(axis=1, keepdims=True) / 127
        assert (np.abs(stored.weight - layer.weight) <= 0.5001 * step).all()
        assert np.abs(stored.weight - layer.weight).max() > 0.1 * step.min()
    for layer, stored in zip(layers, compress(layers, bits=1).layers(), strict=True):
        np.testing.assert_array_equal(np.sign(stored.weight), np.sign(layer.weight))
        size = np.abs(layer.weight).sum(axis=1) / np.maximum(layer.mask.sum(axis=1), 1)
        np.testing.assert_allclose(np.abs(stored.weight).max(axis=1), size, rtol=1e-6)


@pytest.mark.jit_off
@pytest.mark.parametrize(("name", "bits", "largest"), [("int8", 8, 127), ("binary", 1, 1)])
def test_layers_that_are_quantised_keep_their_integers(name, bits, largest, seed):
    rng = np.random.default_rng(seed)
    whole = rng.integers(1, largest + 1, (6, 8)) * rng.choice((-1, 1), (6, 8))
    mask = rng.random((6, 8)) < 0.5
    weight = (np.where(mask, whole, 0) * np.float32(0.03)).astype(np.float32)
    bias = np.zeros(6, np.float32)
    layer = LayerSpec("dense", weight, bias, mask, "identity", 1, 0, name, 0.03)
    for wanted in (None, 8):
        model = compress([layer], bits=wanted)
        assert model.headers[0].bits == bits and model.headers[0].scales == 1
        np.testing.assert_allclose(model.layers()[0].weight, weight, rtol=1e-6)
    wrong = LayerSpec("dense", weight * np.float32(1.013), bias, mask, "identity", 1, 0, name, 0.03)
    if bits == 8 or largest > 1:
        with pytest.raises(ValueError, match="whole numbers"):
            compress([wrong])


# ------------------------------------------------------------------------------------ right numbers


@pytest.mark.jit_off
@pytest.mark.parametrize("bits", [32, 8, 1])
@pytest.mark.parametrize("form", ["auto", "csr", "packed"])
def test_outputs_are_the_definition(form, bits, seed):
    """On the weights as stored, so that no tolerance covers the quantisation."""
    rng = np.random.default_rng(seed)
    for layers, image in ((small(rng), None), images(rng)):
        model = compress(layers, bits=bits, format=form, image_shape=image)
        stored = model.layers()
        X = rng.standard_normal((19 if not INTERPRETED else 9, model.n_features_in_)).astype("f4")
        wanted = np.array([naive(stored, x, image) for x in X])
        near(model.decision_function(X).reshape(len(X), -1), _as_decision(model, wanted))
        near(model.decision_function(X[:1]).reshape(1, -1), _as_decision(model, wanted[:1]))


def _as_decision(model, z):
    two = model.classes_ is not None and z.shape[1] == 2
    return z[:, 1:] - z[:, :1] if two else z


@pytest.mark.jit_off
def test_float32_weights_are_stored_exactly(seed):
    rng = np.random.default_rng(seed)
    layers, image = images(rng)
    for layer, stored in zip(layers, compress(layers, image_shape=image).layers(), strict=True):
        np.testing.assert_array_equal(stored.weight, layer.weight)
        np.testing.assert_array_equal(stored.bias, layer.bias)


@pytest.mark.jit_off
@pytest.mark.parametrize("bits", [32, 8])
def test_formats_give_the_same_bytes(bits, seed):
    rng = np.random.default_rng(seed)
    layers = [dense(rng, 9, 7, 4), dense(rng, 7, 5, 2), dense(rng, 5, 3, 5, "softmax")]
    X = rng.standard_normal((11, 9)).astype("f4")
    found = {
        form: compress(layers, bits=bits, format=form).predict_proba(X).tobytes()
        for form in ("csr", "kofn", "packed", "auto")
    }
    assert len(set(found.values())) == 1
    # every weight, zeros too, is another order of the same sum
    full = compress(layers, bits=bits, format="dense")
    assert full.headers[0].format == "dense" and full.headers[0].entries == 63
    near(full.predict_proba(X), compress(layers, bits=bits).predict_proba(X))


@pytest.mark.jit_off
def test_probabilities_are_the_softmax_and_labels_the_largest(seed):
    rng = np.random.default_rng(seed)
    model = compress(small(rng))
    X = 30 * rng.standard_normal((12, 9)).astype("f4")
    z = model.decision_function(X).astype(np.float64)
    wanted = np.exp(z - z.max(axis=1, keepdims=True))
    wanted /= wanted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X), wanted, rtol=3e-7, atol=1e-30)
    np.testing.assert_array_equal(model.predict(X), z.argmax(axis=1))


@pytest.mark.jit_off
def test_layers_that_keep_nothing_give_their_bias():
    bias = np.array([1.5, -2.0], np.float32)
    nothing = np.zeros((2, 4), np.float32)
    model = compress([LayerSpec("dense", nothing, bias, nothing > 0, "relu")], bits=8)
    for n in (1, 20):
        np.testing.assert_array_equal(model.decision_function(np.ones((n, 4))), [[1.5, 0.0]] * n)


def test_wide_inputs(seed):
    """Indices above two bytes, and a block cut down to what the cache holds."""
    rng = np.random.default_rng(seed)
    layers = [dense(rng, 70_001, 4, 50), dense(rng, 4, 2, 4, "identity")]
    X = rng.standard_normal((40, 70_001)).astype("f4")
    wanted = np.array([naive(layers, x) for x in X])
    found = {}
    for form in ("csr", "kofn", "packed"):
        model = compress(layers, format=form)
        found[form] = model.predict(X)
        near(found[form], wanted)
    assert model.headers[0].index_bits == 17 and len({x.tobytes() for x in found.values()}) == 1


# --------------------------------------------------------------------------------- same for a batch


def test_predictions_do_not_depend_on_the_batch(seed):
    """Bit for bit: alone, in ragged batches, over the borders of blocks, and all at once."""
    rng = np.random.default_rng(seed)
    layers, image = images(rng)
    for model in (
        compress(lenet()),
        compress(lenet(), bits=8),
        compress(lenet(), bits=1, format="csr"),
        compress(layers, image_shape=image),
    ):
        n = 2 * BLOCK + 71
        X = rng.standard_normal((n, model.n_features_in_)).astype("f4")
        whole = model.decision_function(X)
        for i in (0, 1, 255, 256, n - 1):
            np.testing.assert_array_equal(model.decision_function(X[i : i + 1])[0], whole[i])
        at = 0
        for size in (2, 7, 8, 9, 15, 16, 17, 100, 129, 257):
            part = model.decision_function(X[at : at + size])
            np.testing.assert_array_equal(part, whole[at : at + size])
            at += size
        order = rng.permutation(n)
        np.testing.assert_array_equal(model.decision_function(X[order]), whole[order])


def test_another_order_of_a_sum_is_seen(seed):
    """Control: the comparison above would notice sums in another order."""
    rng = np.random.default_rng(seed)
    layers, X = lenet(), rng.standard_normal((50, 784)).astype("f4")
    order = rng.permutation(784)
    first = layers[0]
    moved = LayerSpec("dense", first.weight[:, order], first.bias, first.mask[:, order], "relu")
    one = compress(layers).decision_function(X)
    other = compress([moved, *layers[1:]]).decision_function(X[:, order])
    near(other, one)
    assert (other != one).any()


SCRIPT = """
import hashlib, numpy as np
from cascadenet.sparse.pruning.compact import compress
from tests.test_pruning_compact import images, small
digest, shares = hashlib.sha256(), []
for bits in (32, 8, 1):
    rng = np.random.default_rng(5)
    for layers, image in ((small(rng), None), images(rng)):
        model = compress(layers, bits=bits, image_shape=image)
        X = rng.standard_normal((21, model.n_features_in_)).astype(np.float32)
        for rows in (X[:1], X[:3], X[:10], X):
            digest.update(model.decision_function(rows).tobytes())
        if image is None:
            shares += model.predict_proba(X[:9]).reshape(-1).tolist()
print(digest.hexdigest(), *shares)
"""


def test_compiled_and_interpreted_results_are_the_same_bytes():
    """All but exp, which may differ in the last digit."""
    found = []
    for off in ("0", "1"):
        environment = os.environ | {"NUMBA_DISABLE_JIT": off, "PYTHONPATH": str(ROOT)}
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True,
            check=True, cwd=ROOT,
        )  # fmt: skip
        found.append(run.stdout.split())
    assert len(found[0][0]) == 64 and found[0][0] == found[1][0]
    shares = np.array([line[1:] for line in found], np.float64)
    np.testing.assert_allclose(shares[0], shares[1], rtol=2e-7, atol=1e-30)


# ---------------------------------------------------------------------------------------- few bytes


def test_lenet_fits_in_forty_kilobytes(tmp_path):
    model = compress(lenet(), bits=8)
    model.save(tmp_path / "model")
    assert model.nbytes <= 40_000 and (tmp_path / "model").stat().st_size <= 40_000
    assert CompactNetwork.load(tmp_path / "model").nbytes == model.nbytes
    assert compress(lenet(), bits=1).nbytes < 22_000


@pytest.mark.parametrize("bits", [32, 8, 1])
def test_bytes_are_what_the_format_says(bits):
    """Sections start at multiples of 8; packed integers come in lanes of 32."""
    entries = {(n, m, k): m * k for n, m, k in LENET}
    table = 3 * 8 * packing.kernels.COLUMNS
    values = sum(e * bits // 8 for e in entries.values())
    extra = 4 * 410 * (1 if bits == 32 else 2)
    kofn = compress(lenet(), bits=bits, format="kofn").nbytes
    assert 0 <= kofn - (2 * 13_300 + values + extra + table) <= 3 * 5 * 8 + 3 * 4
    index = sum(e * (n - 1).bit_length() / 8 for (n, _, _), e in entries.items())
    packed = compress(lenet(), bits=bits, format="packed").nbytes
    assert 0 <= packed - (index + values + extra + table) <= 3 * (5 * 8 + 31 * 11 / 8)
    csr = compress(lenet(), bits=bits, format="csr")  # may leave out what was rounded to zero
    spared = 13_300 - sum(header.entries for header in csr.headers)
    assert (spared > 0) == (bits == 8)
    assert 0 <= csr.nbytes - (kofn + 2 * 413 - spared * (2 + bits / 8)) <= 3 * 5 * 8


def test_auto_takes_the_smallest(seed):
    rng = np.random.default_rng(seed)
    for layer in (dense(rng, 300, 40, 0.02), dense(rng, 30, 40, 0.9), dense(rng, 65_536, 3, 9)):
        for bits in (32, 8, 1):
            sizes = {}
            for form in packing.FORMATS:
                try:
                    sizes[form] = compress([layer], bits=bits, format=form).nbytes
                except ValueError:
                    continue
            assert compress([layer], bits=bits).nbytes == min(sizes.values())
            assert len(sizes) >= 2


# ------------------------------------------------------------------------------------------- inputs


def test_inputs_of_every_kind(seed):
    rng = np.random.default_rng(seed)
    model = compress(small(rng))
    X = rng.integers(-3, 4, (20, 9)).astype(np.float32)
    wanted = model.predict_proba(X)
    frozen = X.copy()
    frozen.flags.writeable = False
    wide = np.repeat(X, 2, axis=1)
    for other in (
        X.astype(np.float64), X.astype(np.int8), X.astype(">f4"), np.asfortranarray(X), frozen,
        wide[:, ::2], X.tolist(),
    ):  # fmt: skip
        np.testing.assert_array_equal(model.predict_proba(other), wanted)
    assert frozen.tobytes() == X.tobytes()
    assert model.predict_proba(X[:0]).shape == (0, 3)
    layers, image = images(rng)
    model = compress(layers, image_shape=image)
    X = rng.standard_normal((5, *image))
    np.testing.assert_array_equal(model.predict(X), model.predict(X.reshape(5, -1)))


def test_bad_inputs_are_refused(seed):
    rng = np.random.default_rng(seed)
    model = compress(small(rng))
    X = rng.standard_normal((9000, 9))
    for row, bad in ((0, np.nan), (7, np.inf), (8999, 1e300)):
        broken = X.copy()
        broken[row, 4] = bad
        with pytest.raises(ValueError, match=f"finite in float32; row {row} is not"):
            model.predict(broken)
    for wrong in (X[0], X[:, :8], X[None], np.float32(1)):
        with pytest.raises(ValueError, match=r"X must have shape \(n, 9\)"):
            model.predict(wrong)
    with pytest.raises(TypeError, match="real numbers"):
        model.predict(X[:3].astype(str))


def test_bad_arguments_are_refused(seed):
    rng = np.random.default_rng(seed)
    layers = small(rng)
    for arguments, error, words in (
        ({"bits": 4}, ValueError, "bits must be 32, 8, 1"),
        ({"bits": True}, ValueError, "bits must be"),
        ({"format": "coo"}, ValueError, "format must be auto, csr"),
        ({"format": "kofn"}, ValueError, r"one of shape \(7, 9\) keeps"),
    ):
        with pytest.raises(error, match=words):
            compress(layers, **arguments)
    with pytest.raises(TypeError, match="estimator of"):
        compress("model")
    with pytest.raises(TypeError, match="LayerSpec"):
        compress([1])
    with pytest.raises(ValueError, match="at least one layer"):
        compress([])
    with pytest.raises(ValueError, match="layer 1 must take 8 inputs or channels; got 7"):
        compress([layers[0], dense(rng, 8, 2, 3)])
    with pytest.raises(ValueError, match="softmax must be the last"):
        compress([layers[2], dense(rng, 3, 2, 2)])
    first = layers[0]
    open_mask = LayerSpec("dense", first.weight + 1, first.bias, first.mask, "relu")
    with pytest.raises(ValueError, match="not masked"):
        compress([open_mask])
    bad = LayerSpec("dense", first.weight, first.bias * np.float32(np.nan), first.mask, "relu")
    with pytest.raises(ValueError, match="finite"):
        compress([bad])
    convolutions, _ = images(rng)
    for shape, words in ((None, "image_shape"), ((2, 2), "image_shape"), ((2, 2, 1), "no larger")):
        with pytest.raises(ValueError, match=words):
            compress(convolutions, image_shape=shape)
    with pytest.raises(AttributeError, match="softmax"):
        compress(layers[:1]).predict_proba(np.ones((1, 9)))


# -------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("bits", [32, 8, 1])
def test_saved_networks_come_back(bits, tmp_path, seed):
    rng = np.random.default_rng(seed)
    layers, image = images(rng)
    for model in (compress(small(rng), bits=bits), compress(layers, bits=bits, image_shape=image)):
        path = tmp_path / "a file of any name"
        model.save(path)
        again = CompactNetwork.load(path)
        X = rng.standard_normal((20, model.n_features_in_))
        assert again.decision_function(X).tobytes() == model.decision_function(X).tobytes()
        assert again.summary() == model.summary() and again.headers == model.headers
        with np.load(path, allow_pickle=False) as file:
            assert {file[name].dtype for name in file.files} == {np.dtype(np.uint8)}
        other = copy.deepcopy(model)
        assert other.predict(X).tobytes() == model.predict(X).tobytes()


def damaged(content, seed, n):
    """Truncated files and files with a few bytes changed."""
    rng = np.random.default_rng(seed)
    for cut in np.linspace(0, len(content) - 1, n // 2).astype(int):
        yield content[:cut]
    for _ in range(n // 2):
        copied = bytearray(content)
        for at in rng.integers(0, len(content), 3):
            copied[at] ^= int(rng.integers(1, 256))
        yield bytes(copied)


def test_damaged_files_are_refused(tmp_path, seed):
    """Or, where nothing reads the bytes that were changed, they give the same predictions."""
    rng = np.random.default_rng(seed)
    model, path = compress(small(rng), bits=8), tmp_path / "m.npz"
    model.save(path)
    X, refused = rng.standard_normal((3, 9)), 0
    wanted = model.predict_proba(X)
    cases = list(damaged(path.read_bytes(), seed, 200))
    for content in cases:
        path.write_bytes(content)
        try:
            np.testing.assert_array_equal(CompactNetwork.load(path).predict_proba(X), wanted)
        except FormatError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 0.8 * len(cases)


def rewritten(path, change, blob_change=None):
    """A file whose header and bytes were changed, with a checksum that fits."""
    with np.load(path, allow_pickle=False) as file:
        meta, blob = json.loads(bytes(file["meta"])), file["blob"].copy()
    change(meta)
    if blob_change is not None:
        blob = blob_change(blob)
    meta.pop("checksum")
    text = json.dumps(meta, sort_keys=True).encode()
    meta["checksum"] = hashlib.sha256(text + blob.tobytes()).hexdigest()
    np.savez(path, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), blob=blob)


def test_forged_files_are_refused(tmp_path, seed):
    """A checksum that fits does not let an index out of its array."""
    rng = np.random.default_rng(seed)
    model = compress(small(rng), format="csr")
    path = tmp_path / "m.npz"

    def layer(**fields):
        return lambda meta: meta["layers"][0].update(fields)

    def nothing(meta):
        del meta

    def first_index(value):
        def change(blob):
            at = 8 * -(-model.headers[0].sections()["pointer"] // 8)
            blob[at : at + 2] = np.frombuffer(np.uint16(value).tobytes(), np.uint8)
            return blob

        return change

    def pointers(blob):
        blob[2:4] = 255
        return blob

    cases = [
        (layer(entries=10**9), None),
        (layer(shape=[7, 10**6]), None),
        (layer(shape=[7, 9.0]), None),
        (layer(shape=[7]), None),
        (layer(per_row=3), None),
        (layer(padding=-1), None),
        (layer(kind="other"), None),
        (layer(colour="red"), None),
        (lambda meta: meta.update(image_shape=[10, 1, 1]), None),
        (lambda meta: meta.update(centres=5), None),
        (lambda meta: meta.update(layers=[]), None),
        (lambda meta: meta.update(format=2), None),
        (lambda meta: meta.update(kind="posterior"), None),
        (lambda meta: meta["classes"].update(labels=[1, 2]), None),
        (lambda meta: meta["classes"].update(dtype="V8"), None),
        (nothing, first_index(9)),
        (nothing, pointers),
        (nothing, lambda blob: blob[:-8]),
        (nothing, lambda blob: np.full_like(blob, 255)),
    ]
    for number, (change, blob_change) in enumerate(cases):
        model.save(path)
        rewritten(path, change, blob_change)
        with pytest.raises(FormatError):
            CompactNetwork.load(path)
            pytest.fail(f"case {number} was read")
    model.save(path)
    rewritten(path, nothing, first_index(8))  # control: such a file is read when it is sound
    assert CompactNetwork.load(path).headers == model.headers


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    with pytest.raises(FileNotFoundError, match=r"x\.npz"):
        CompactNetwork.load(path)
    for content in (b"", b"PK\x03\x04", b"a,b\n1,2\n"):
        path.write_bytes(content)
        with pytest.raises(FormatError, match="another kind, or a truncated one"):
            CompactNetwork.load(path)
    np.savez(path, weights=np.ones(3))
    with pytest.raises(FormatError, match="expected a saved network"):
        CompactNetwork.load(path)


# ------------------------------------------------------------------------------------------ exports


def test_scipy_arrays_compute_the_same(seed):
    rng = np.random.default_rng(seed)
    layers = small(rng)
    model = compress(layers, bits=8)
    matrices = model.to_scipy()
    x = rng.standard_normal((6, 9)).astype("f4")
    z = x.T
    for matrix, layer in zip(matrices, layers, strict=True):
        z = matrix @ z + layer.bias[:, None]
        z = np.maximum(z, 0) if layer.activation == "relu" else z
    near(model.decision_function(x), z.T)
    assert [m.nnz for m in matrices] == [header.entries for header in model.headers]
    layers, image = images(rng)
    flat = compress(layers, image_shape=image).to_scipy()[0]
    np.testing.assert_array_equal(flat.toarray(), layers[0].weight.reshape(3, 18))


def test_onnx_computes_the_same(seed):
    reference = pytest.importorskip("onnx.reference")
    rng = np.random.default_rng(seed)
    layers, image = images(rng)
    for model in (compress(small(rng), bits=8), compress(layers, image_shape=image)):
        X = rng.standard_normal((4, model.n_features_in_)).astype("f4")
        found = reference.ReferenceEvaluator(model.to_onnx()).run(None, {"X": X})[0]
        wanted = model.predict(X) if model.classes_ is None else model.predict_proba(X)
        near(found, wanted, 1e-5)


def test_onnx_says_when_it_is_missing(monkeypatch, seed):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="pip install onnx"):
        compress(small(np.random.default_rng(seed))).to_onnx()


def test_summary_names_every_layer():
    lines = compress(lenet(), bits=8).summary().splitlines()
    assert len(lines) == 5 and lines[1].split()[:4] == ["dense", "300", "x", "784"]
    assert lines[-1].split() == ["all", "13300", "5.0%", str(compress(lenet(), bits=8).nbytes)]


# --------------------------------------------------------------------------------------- estimators


@pytest.fixture(scope="module")
def blobs():
    """Three classes in eight dimensions whose features have means and scales of their own."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    X = rng.standard_normal((300, 8)) + 2.0 * rng.standard_normal((3, 8))[y]
    return X * np.geomspace(0.1, 10, 8) + np.linspace(-5, 5, 8), y


def fitted(name, X, y, **options):
    from cascadenet.sparse import pruning

    settings = {"hidden_layer_sizes": (16,), "epochs": 2, "random_state": 0, "sparsity": 0.5}
    return getattr(pruning, name)(**(settings | options)).fit(X, y)


@pytest.mark.parametrize("standardise", ["feature", "global", None])
@pytest.mark.parametrize("far", [False, True])
def test_classifiers_answer_as_before(blobs, standardise, far):
    X, y = blobs
    X = X + 1000.0 * far
    labels = np.array(["one", "two", "three"])[y]
    model = fitted("DPFClassifier", X, labels, standardise=standardise, learning_rate=0.001)
    compact = compress(model)
    np.testing.assert_allclose(
        compact.predict_proba(X), model.predict_proba(X), atol=2e-5 if not far else 2e-3
    )
    np.testing.assert_array_equal(compact.classes_, model.classes_)
    sure = np.diff(np.sort(model.predict_proba(X))[:, -2:]).ravel() > 0.01
    assert sure.sum() > 100 or (far and standardise is None)  # such data are not learned
    np.testing.assert_array_equal(compact.predict(X)[sure], model.predict(X)[sure])


@pytest.mark.parametrize("quantisation", ["int8", "binary"])
def test_quantised_training_is_stored_as_trained(blobs, quantisation, tmp_path):
    X, y = blobs
    model = fitted("DPPClassifier", X, y, quantisation=quantisation)
    compact = compress(model)
    assert {header.bits for header in compact.headers} == {8 if quantisation == "int8" else 1}
    np.testing.assert_allclose(compact.predict_proba(X), model.predict_proba(X), atol=2e-5)
    compact.save(tmp_path / "m")
    again = CompactNetwork.load(tmp_path / "m")
    assert again.predict_proba(X).tobytes() == compact.predict_proba(X).tobytes()


@pytest.mark.parametrize("columns", [0, 2])
def test_regressors_answer_in_shape_and_unit(blobs, columns, tmp_path):
    X, y = blobs
    target = 100 + 50 * (y if columns == 0 else np.stack([y, X[:, 0]], axis=1))
    model = fitted("DPFRegressor", X, target)
    compress(model).save(tmp_path / "m")
    for compact in (compress(model), CompactNetwork.load(tmp_path / "m")):
        assert compact.predict(X).shape == model.predict(X).shape
        np.testing.assert_allclose(compact.predict(X), model.predict(X), rtol=2e-5, atol=2e-3)


@pytest.mark.parametrize(("padding", "batch_norm"), [(0, True), (1, False)])
def test_convolutional_estimators_answer_as_before(padding, batch_norm):
    rng = np.random.default_rng(0)
    X, y = rng.random((80, 36)) + 3.0, rng.integers(0, 2, 80)
    model = fitted(
        "DPFClassifier", X, y, input_shape=(1, 6, 6), batch_norm=batch_norm,
        convolutions=((3, 3, 1, padding), (4, 2, 2, 0)), learning_rate=0.01,
    )  # fmt: skip
    compact = compress(model)
    np.testing.assert_allclose(compact.predict_proba(X), model.predict_proba(X), atol=5e-5)
    z = np.log(model.predict_proba(X).astype(np.float64))
    np.testing.assert_allclose(compact.decision_function(X), z[:, 1] - z[:, 0], atol=5e-4)


def test_labels_of_every_kind_are_saved(tmp_path, seed):
    rng = np.random.default_rng(seed)
    layers = small(rng)

    class Fitted:
        layers_ = layers

    X = rng.standard_normal((30, 9))
    for labels in (
        np.array([3, 5, -7]), np.array([0.5, 1.5, 2.5]), np.array(["a", "ß", "c"]),
        np.array(["a", "b", "longer"], dtype=object),
    ):  # fmt: skip
        model = Fitted()
        model.classes_ = labels
        compress(model).save(tmp_path / "m")
        again = CompactNetwork.load(tmp_path / "m")
        assert again.classes_.dtype == labels.dtype
        np.testing.assert_array_equal(again.predict(X), labels[compress(layers).predict(X)])
    model.classes_ = np.array([b"a", (1, 2), None], dtype=object)
    with pytest.raises(TypeError, match="classes must be numbers or strings"):
        compress(model).save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_estimators_before_fit_are_refused():
    from cascadenet.sparse.pruning import DPFClassifier

    with pytest.raises(ValueError, match="must be fitted; got DPFClassifier"):
        compress(DPFClassifier())


def test_combinations_of_formats_and_kinds_are_all_stored(seed):
    """Every format holds convolutions and dense layers alike."""
    rng = np.random.default_rng(seed)
    layers = [conv(rng, (2, 1, 2, 2), 1.0), dense(rng, 8, 3, 8, "identity")]
    X = rng.standard_normal((9, 9)).astype("f4")
    wanted = np.array([naive(layers, x, (1, 3, 3)) for x in X])
    for form, bits in itertools.product(("csr", "kofn", "packed", "dense"), (32, 8, 1)):
        model = compress(layers, format=form, bits=bits, image_shape=(1, 3, 3))
        assert {header.format for header in model.headers} == {form}
        if bits == 32:
            near(model.predict(X), wanted)
        else:
            stored = model.layers()
            near(model.predict(X), np.array([naive(stored, x, (1, 3, 3)) for x in X]))
