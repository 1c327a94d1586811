"""What was shown in a round, as the rankers remember it until it has been learned or forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np


class Round(NamedTuple):
    """Rows of one round.

    ``features`` float64 (r, d), or (1, d) where all rows share a context; ``which`` int64 (r,)
    model of each row, -1 to skip it; ``slots`` int64 (r,); ``gram_weight`` and ``scale`` float64
    (r,), the weights of x x' and of click times x; ``response`` float64 (r,), scale times click.
    """

    features: np.ndarray
    which: np.ndarray
    slots: np.ndarray
    gram_weight: np.ndarray
    scale: np.ndarray
    response: np.ndarray

    def owned(self) -> Round:
        """A copy that no caller can change."""
        return Round(*(array.copy() for array in self))

    def rows(self) -> np.ndarray:
        """Features of every row, float64 (r, d)."""
        if len(self.features) == len(self.which):
            return self.features
        return np.repeat(self.features, len(self.which), axis=0)


def joined(rounds: Iterable[Round], signs: Iterable[float]) -> Round:
    """All rows of several rounds; a negative sign takes the rows out again."""
    pairs = list(zip(rounds, signs, strict=True))
    return Round(
        np.concatenate([r.rows() for r, _ in pairs]),
        np.concatenate([r.which for r, _ in pairs]),
        np.concatenate([r.slots for r, _ in pairs]),
        np.concatenate([sign * r.gram_weight for r, sign in pairs]),
        np.concatenate([r.scale for r, _ in pairs]),
        np.concatenate([sign * r.response for r, sign in pairs]),
    )


def pack(name: str, rounds: Iterable[Round], n_features: int) -> dict[str, np.ndarray]:
    """Rounds as flat arrays whose names start with ``name``."""
    kept = list(rounds)
    sizes = np.array([(len(r.features), len(r.which)) for r in kept], np.int64).reshape(-1, 2)
    arrays = {f"{name}_sizes": sizes}
    empty = Round(
        np.empty((0, n_features)),
        np.empty(0, np.int64),
        np.empty(0, np.int64),
        np.empty(0),
        np.empty(0),
        np.empty(0),
    )
    for field in Round._fields:
        parts = [getattr(empty, field), *(getattr(r, field) for r in kept)]
        arrays[f"{name}_{field}"] = np.concatenate(parts)
    return arrays


def unpack(name: str, arrays: Mapping[str, np.ndarray]) -> list[Round]:
    """Inverse of `pack`; KeyError or ValueError when arrays are missing or do not fit."""
    sizes = np.asarray(arrays[f"{name}_sizes"], np.int64).reshape(-1, 2)
    ends = np.cumsum(sizes, axis=0)
    rounds = []
    for size, end in zip(sizes, ends, strict=True):
        parts = {}
        for field in Round._fields:
            column = 0 if field == "features" else 1
            low, high = end[column] - size[column], end[column]
            part = np.ascontiguousarray(arrays[f"{name}_{field}"][low:high])
            if len(part) != size[column]:
                raise ValueError(f"{name}_{field} is too short")
            parts[field] = part
        rounds.append(Round(**parts))
    return rounds
