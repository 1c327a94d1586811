"""Trained models in files: one .npz with JSON inside, no pickle, atomic."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from cascadenet.errors import FormatError
from cascadenet.files import read_npz, write_npz
from cascadenet.sparse.pruning import estimators
from cascadenet.sparse.pruning.base import Estimator
from cascadenet.sparse.pruning.methods import Finished, Fixed
from cascadenet.sparse.pruning.network import Network
from cascadenet.sparse.pruning.training import Epoch

FORMAT = 1
KIND = "cascadenet.sparse.pruning"
CLASSES = (
    "DPFClassifier",
    "DPFRegressor",
    "DPPClassifier",
    "DPPRegressor",
    "MagnitudePruningClassifier",
    "MagnitudePruningRegressor",
    "SNIPClassifier",
)


def save_model(model: Estimator, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator; `Estimator.save` is the usual way here.

    Parameters
    ----------
    model : Estimator
        A ``random_state`` that is a generator is not kept.
    path : path
    """
    if not hasattr(model, "layers_"):
        raise ValueError("model must be fitted before it is saved")
    parameters = model.get_params()
    if not isinstance(parameters["random_state"], (int, np.integer, type(None))):
        parameters["random_state"] = None
    network = model._network
    scales = [layer.scale for layer in model.layers_]
    meta = {
        "kind": KIND,
        "format": FORMAT,
        "class": type(model).__name__,
        "parameters": parameters,
        "network": network.arguments(),
        "features": model.n_features_in_,
        "names": getattr(model, "feature_names_in_", np.empty(0, object)).tolist(),
        "scales": scales,
        "history": [list(epoch) for epoch in model.history_],
        "flat": getattr(model, "_flat", True),
    }
    arrays = {**network.state(), "values": model._values, "mask": model._mask}
    arrays["shared_mask"] = _whole_mask(model)
    if model.input_mean_ is not None:
        arrays |= {"input_mean": model.input_mean_, "input_scale": model.input_scale_}
    if hasattr(model, "classes_"):
        classes = model.classes_
        arrays["classes"] = classes.astype(str) if classes.dtype.kind == "O" else classes
    else:
        arrays |= {"target_mean": model._target_mean, "target_scale": model._target_scale}
    write_npz(path, meta, arrays, _plain)


def _whole_mask(model: Estimator) -> np.ndarray:
    """The mask a later training goes on under; dead inputs may revive their unit's columns."""
    mask = model.method_.mask
    return np.ones(model._values.size, bool) if mask is None else mask


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"model has a parameter that cannot be saved: {value!r}")


def load_model(path: str | os.PathLike[str]) -> Estimator:
    """Read a model that was saved.

    Parameters
    ----------
    path : path

    Returns
    -------
    Estimator
        Predicts as the one that was saved. Further training keeps its mask.

    Raises
    ------
    FormatError
        Not such a file, damaged, or written by a newer version.
    FileNotFoundError
        Nothing there.
    """
    return read_npz(path, "a saved model", _restored, newest=FORMAT, kind=KIND)


def _restored(meta: dict[str, Any], file: Any) -> Estimator:
    if meta["class"] not in CLASSES:
        raise FormatError(f"expected one of {', '.join(CLASSES)}; got {meta['class']!r}")
    parameters = {name: _tuples(value) for name, value in meta["parameters"].items()}
    model = getattr(estimators, meta["class"])(**parameters)
    network = Network(**{name: _tuples(value) for name, value in meta["network"].items()})
    network.set_state({name: file[name] for name in ("parameters", "statistics")})
    model._network, model.n_features_in_ = network, int(meta["features"])
    model.input_shape_ = network.input_shape
    if int(np.prod(network.input_shape)) != model.n_features_in_:
        raise FormatError(f"expected {network.input_shape} inputs; got {model.n_features_in_}")
    if meta["names"]:
        model.feature_names_in_ = np.asarray(meta["names"], dtype=object)
    has_moments = "input_mean" in file
    model.input_mean_ = _sized(file, "input_mean", model.n_features_in_) if has_moments else None
    model.input_scale_ = _sized(file, "input_scale", model.n_features_in_) if has_moments else None
    if "classes" in file:
        model.classes_ = _sized(file, "classes", network.n_out)
    else:
        model._flat = bool(meta["flat"])
        model._target_mean = _sized(file, "target_mean", network.n_out)
        model._target_scale = _sized(file, "target_scale", network.n_out)
    size = network.parameters.size
    model._values, model._mask = _sized(file, "values", size), _sized(file, "mask", size)
    quantised = any(scale is not None for scale in meta["scales"])
    model.method_ = (Finished if quantised else Fixed)(_sized(file, "shared_mask", size))
    model._steps = -1
    model.history_ = [Epoch(*row) for row in meta["history"]]
    model.loss_curve_ = np.array([epoch.loss for epoch in model.history_])
    model.layers_ = network.specs(model._values, model._mask[: network.n_weights], meta["scales"])
    model.nnz_ = sum(layer.nnz for layer in model.layers_)
    model.sparsity_ = 1 - model.nnz_ / network.n_weights
    return model


def _sized(file: Any, name: str, size: int) -> np.ndarray:
    array = file[name]
    if array.shape != (size,):
        raise FormatError(f"expected {name} of shape {(size,)}; got {array.shape}")
    return array


def _tuples(value: Any) -> Any:
    """JSON has lists where parameters are tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
