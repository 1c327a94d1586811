"""Validation of what a user passes; everything behind it trusts its arguments."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

METHODS = ("magnitude", "hessian", "oracle")


class Points(NamedTuple):
    """Problems to solve, one per entry; all float64 of one length."""

    kappa: np.ndarray
    noise: np.ndarray
    kept: np.ndarray
    ridge: np.ndarray
    retrain_ridge: np.ndarray

    def take(self, rows: np.ndarray | slice) -> Points:
        """The problems in ``rows``."""
        return Points(*(column[rows] for column in self))


def finite_array(name: str, value: ArrayLike) -> np.ndarray:
    """``value`` as a float64 array; ValueError naming ``name`` unless every entry is finite."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numeric; got {value!r}") from None
    bad = ~np.isfinite(array)
    if bad.any():
        raise ValueError(f"{name} must be finite; got {array[bad].flat[0]}")
    return array


def bounded(
    name: str,
    value: ArrayLike,
    low: float,
    high: float = np.inf,
    *,
    open_low: bool = False,
) -> np.ndarray:
    """``value`` as a finite float64 array within the bounds; ValueError naming ``name``."""
    array = finite_array(name, value)
    bad = (array <= low) if open_low else (array < low)
    bad |= array > high
    if bad.any():
        wanted = f"in {'(' if open_low else '['}{low:g}, {high:g}]"
        if high == np.inf:
            wanted = f"{'above' if open_low else 'at least'} {low:g}"
        raise ValueError(f"{name} must be {wanted}; got {array[bad].flat[0]}")
    return array


def chosen(name: str, value: str, options: tuple[str, ...]) -> str:
    """``value`` when it is one of ``options``, else a ValueError that lists them."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}; got {value!r}")
    return value


def points(
    kappa: ArrayLike,
    noise_variance: ArrayLike,
    kept_fraction: ArrayLike = 1.0,
    ridge: ArrayLike = 0.0,
    retrain_ridge: ArrayLike = 0.0,
) -> tuple[Points, tuple[int, ...]]:
    """Check the arguments shared by all risks and broadcast them against each other.

    Returns
    -------
    points : Points
        The flattened problems.
    shape : tuple of int
        Shape the answers take.
    """
    columns = [
        bounded("kappa", kappa, 0.0, open_low=True),
        bounded("noise_variance", noise_variance, 0.0),
        bounded("kept_fraction", kept_fraction, 0.0, 1.0, open_low=True),
        finite_array("ridge", ridge),
        bounded("retrain_ridge", retrain_ridge, 0.0),
    ]
    try:
        full = np.broadcast_arrays(*columns)
    except ValueError:
        shapes = ", ".join(str(column.shape) for column in columns)
        raise ValueError(
            "kappa, noise_variance, kept_fraction, ridge and retrain_ridge must broadcast; "
            f"got shapes {shapes}"
        ) from None
    return Points(*(column.reshape(-1) for column in full)), full[0].shape


def shaped(values: np.ndarray, shape: tuple[int, ...]) -> float | np.ndarray:
    """``values`` in ``shape``; a float where the arguments were scalars."""
    return float(values[0]) if shape == () else values.reshape(shape)
