"""`NextInfection` in files: one .npz, no pickle, atomic."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.errors import FormatError
from cascadenet.files import read_npz, write_npz

if TYPE_CHECKING:
    from cascadenet.inference.next_infection import NextInfection

FORMAT = 1
KIND = "next infection"
FILE_NAME = "next_infection.npz"
_PAIRS = ("pair_node", "evidence", "carried")
_NODES = ("exposure", "count", "recent")


def save(model: NextInfection, path: str | os.PathLike[str]) -> None:
    """Write a fitted model; :meth:`NextInfection.save` is the public way here.

    Parameters
    ----------
    model : NextInfection
        Fitted.
    path : path
        File, or folder for ``next_infection.npz``.
    """
    meta = {
        "kind": KIND,
        "format": FORMAT,
        "nodes": model.nodes,
        "settings": model.settings(),
        "provenance": model.provenance,
    }
    arrays = model._counts.arrays() | {"sender": model._sender, "receiver": model._receiver}
    write_npz(_file(path), meta, arrays)


def _file(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    return path / FILE_NAME if path.is_dir() else path


def load(path: str | os.PathLike[str]) -> NextInfection:
    """Read a model; :meth:`NextInfection.load` is the public way here.

    Parameters
    ----------
    path : path
        The file, or the folder that holds it.

    Raises
    ------
    FormatError
        Not such a file, damaged, or written by a newer version.
    FileNotFoundError
        Nothing there.
    """
    return read_npz(_file(path), "a saved NextInfection", _restore, newest=FORMAT, kind=KIND)


def _restore(meta: dict[str, Any], file: Any) -> NextInfection:
    from cascadenet.inference.next_infection import NextInfection

    model = NextInfection(**meta["settings"])
    model._check_settings()
    arrays = {name: file[name] for name in (*_PAIRS, *_NODES, "length", "discount")}
    sender, receiver = file["sender"], file["receiver"]
    _check(arrays, sender, receiver, len(meta["nodes"]), bool(meta["settings"]["empirical_bayes"]))
    model._restore(meta["nodes"], meta["provenance"], arrays, sender, receiver)
    return model


def _check(
    arrays: dict[str, np.ndarray],
    sender: np.ndarray,
    receiver: np.ndarray,
    n_nodes: int,
    attributed: bool,
) -> None:
    """Refuse arrays that do not belong together, before one is indexed by another."""
    n_pairs, n_groups = len(arrays["pair_node"]), len(receiver)
    expected = {
        "pair_node": ((n_pairs, 2), np.int32),
        "evidence": ((n_pairs, 2), np.float64),
        "carried": ((n_pairs if attributed else 0, 2), np.float64),
        "discount": ((2, 3), np.float64),
        "length": ((arrays["length"].size,), np.int64),
        **{name: ((n_nodes,), np.float64) for name in _NODES},
        "sender": ((n_nodes, n_groups), np.float64),
        "receiver": ((n_groups, n_nodes), np.float64),
    }
    found = arrays | {"sender": sender, "receiver": receiver}
    for name, (shape, dtype) in expected.items():
        if found[name].shape != shape or found[name].dtype != dtype:
            raise FormatError(
                f"expected {name} of shape {shape} and type {np.dtype(dtype)}; got "
                f"{found[name].shape} and {found[name].dtype}"
            )
        if name != "discount" and not (np.isfinite(found[name]) & (found[name] >= 0)).all():
            raise FormatError(f"expected {name} to be finite and not negative")
    low, high = arrays["pair_node"].T
    if not ((low < high) & (high < n_nodes)).all():
        raise FormatError(f"expected pairs of different nodes below {n_nodes}, the smaller first")
    key = np.sort(low.astype(np.int64) * n_nodes + high)
    if (key[1:] == key[:-1]).any():
        raise FormatError("expected each pair of nodes once")
