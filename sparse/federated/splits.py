"""Which rows of the data each worker has."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.federated import _check

TRIES = 1000


def partition(
    y: ArrayLike,
    n_workers: int,
    concentration: float | None = None,
    *,
    min_rows: int = 2,
    seed: int | np.random.Generator = 0,
) -> list[np.ndarray]:
    """Split rows among workers.

    Parameters
    ----------
    y : array-like of int, shape (n,)
        Classes.
    n_workers : int
    concentration : float, optional
        By default rows are dealt out at random, in equal numbers up to one. With a concentration,
        each class is divided by shares drawn from a symmetric Dirichlet distribution: below 1
        most workers see few classes, and some have few rows.
    min_rows : int
        A Dirichlet division is drawn again until every worker has so many.
    seed : int or numpy.random.Generator

    Returns
    -------
    list of numpy.ndarray of int64
        Ascending rows of each worker; every row is with exactly one.
    """
    y = np.asarray(y)
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise ValueError(f"y must be integers of shape (n,); got {y.dtype} of shape {y.shape}")
    n_workers = _check.whole("n_workers", n_workers, 1)
    min_rows = _check.whole("min_rows", min_rows, 1)
    if y.size < n_workers * min_rows:
        raise ValueError(
            f"y must have at least {min_rows} rows for each of {n_workers} workers; got {y.size}"
        )
    rng = np.random.default_rng(seed)
    if concentration is None:
        return [np.sort(rows) for rows in np.array_split(rng.permutation(y.size), n_workers)]
    concentration = _check.real("concentration", concentration, 0.0, open_low=True)
    classes = [np.flatnonzero(y == label) for label in np.unique(y)]
    for _ in range(TRIES):
        parts: list[list[np.ndarray]] = [[] for _ in range(n_workers)]
        for rows in classes:
            shares = rng.dirichlet(np.full(n_workers, concentration))
            bounds = np.round(np.cumsum(shares)[:-1] * rows.size).astype(np.int64)
            for part, piece in zip(parts, np.split(rng.permutation(rows), bounds), strict=True):
                part.append(piece)
        done = [np.sort(np.concatenate(part)) for part in parts]
        if min(rows.size for rows in done) >= min_rows:
            return done
    raise ValueError(
        f"concentration {concentration:g} left a worker with fewer than {min_rows} rows in "
        f"{TRIES} divisions; raise it, or use fewer workers"
    )
