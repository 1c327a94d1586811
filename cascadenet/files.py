"""Files that a failure leaves whole, and arrays with JSON beside them, without pickle."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cascadenet.errors import FormatError

T = TypeVar("T")


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Temporary name beside ``path`` that takes its place once the block has succeeded.

    The data reach the disk before the name does; on failure the temporary file is removed.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_npz(
    path: str | os.PathLike[str],
    meta: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    plain: Callable[[Any], Any] | None = None,
) -> None:
    """Write arrays and what JSON can hold to one .npz file, atomically.

    Parameters
    ----------
    path : path
        Exactly this name.
    meta : mapping
        With an integer ``format``, and ``kind`` unless it is a posterior.
    arrays : mapping of str to array
    plain : callable, optional
        Makes what JSON cannot hold into something it can.
    """
    text = np.frombuffer(json.dumps(meta, ensure_ascii=False, default=plain).encode(), np.uint8)
    with atomic_path(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, meta=text, **arrays)


def read_npz(
    path: str | os.PathLike[str],
    what: str,
    restore: Callable[[dict[str, Any], Any], T],
    *,
    newest: int,
    oldest: int = 1,
    kind: str | None = None,
) -> T:
    """Read what `write_npz` wrote.

    Parameters
    ----------
    path : path
    what : str
        What is expected, for messages.
    restore : callable
        Makes the result from ``meta`` and the open file.
    newest, oldest : int
        Latest and earliest format that is understood.
    kind : str, optional
        That of the file; None for posteriors, which do not say.

    Raises
    ------
    FormatError
        A file of another kind, damaged, or of a format that is not understood.
    FileNotFoundError
        Nothing there.
    """

    def whole(file: Any) -> T:
        meta = json.loads(bytes(file["meta"]).decode())
        if meta.get("kind") != kind:
            raise FormatError(f"expected {what}; got {meta.get('kind', 'a posterior')}")
        if meta["format"] > newest:
            raise FormatError(
                f"the file has format {meta['format']}; expected at most {newest}: it was "
                "written by a newer version of cascadenet"
            )
        if meta["format"] < oldest:
            raise FormatError(
                f"the file has format {meta['format']}; expected at least {oldest}: it was written "
                "by an older version of cascadenet, whose files this one cannot read; fit again"
            )
        return restore(meta, file)

    return open_npz(path, what, whole)


def open_npz(path: str | os.PathLike[str], what: str, restore: Callable[[Any], T]) -> T:
    """Make something of the arrays of an .npz file, whatever its bytes may be.

    Parameters
    ----------
    path : path
    what : str
        What is expected, for messages.
    restore : callable
        Makes the result from the open file; any exception counts against the file.

    Raises
    ------
    FormatError
        A file of another kind, or damaged.
    FileNotFoundError
        Nothing there.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"expected {what}; there is no file {path}")
    if not zipfile.is_zipfile(path):
        raise FormatError(
            f"expected {what}; got a file of another kind, or a truncated one ({path})"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            return restore(file)
    except FormatError as error:
        raise FormatError(f"{error} ({path})") from None
    except Exception as error:  # foreign bytes make zip, npy and JSON readers raise anything
        found = f"{type(error).__name__}: {error}"
        raise FormatError(f"expected {what}; got {found} ({path})") from None
