"""`NextInfection` in files: one .npz, no pickle, atomic."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.errors import FormatError
from cascadenet.files import atomic_path

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
    path = Path(path)
    if path.is_dir():
        path = path / FILE_NAME
    meta = {
        "kind": KIND,
        "format": FORMAT,
        "nodes": model.nodes,
        "settings": model.settings(),
        "provenance": model.provenance,
    }
    arrays = model._counts.arrays() | {"sender": model._sender, "receiver": model._receiver}
    text = np.frombuffer(json.dumps(meta, ensure_ascii=False).encode(), np.uint8)
    with atomic_path(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, meta=text, **arrays)


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
    path = Path(path)
    if path.is_dir():
        path = path / FILE_NAME
    if not path.exists():
        raise FileNotFoundError(f"expected a saved NextInfection; there is no file {path}")
    if not zipfile.is_zipfile(path):
        raise FormatError(
            "expected a saved NextInfection; got a file of another kind, or a truncated one "
            f"({path})"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            return _restore(file)
    except FormatError as error:
        raise FormatError(f"{error} ({path})") from None
    except Exception as error:  # foreign bytes make zip, npy and JSON readers raise anything
        raise FormatError(f"expected a saved NextInfection; got {error} ({path})") from None


def _restore(file: Any) -> NextInfection:
    from cascadenet.inference.next_infection import NextInfection

    meta = json.loads(bytes(file["meta"]).decode())
    if meta.get("kind") != KIND:
        raise FormatError(f"expected a saved NextInfection; got {meta.get('kind', 'a posterior')}")
    if meta["format"] > FORMAT:
        raise FormatError(
            f"the file has format {meta['format']}; expected at most {FORMAT}: it was written by "
            "a newer version of cascadenet"
        )
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
