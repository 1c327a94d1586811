"""Validation of what a user passes; everything behind it trusts its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def whole(name: str, value: Any, low: int) -> int:
    """``value`` as an int of at least ``low``."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer; got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}; got {value}")
    return int(value)


def real(
    name: str,
    value: Any,
    low: float = -np.inf,
    high: float = np.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """``value`` as a finite float within the bounds."""
    if isinstance(value, (str, bytes, bool, np.bool_)) or np.ndim(value) != 0:
        raise TypeError(f"{name} must be a number; got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number; got {value!r}") from None
    inside = low <= number <= high
    if not np.isfinite(number) or not inside or (open_low and number == low) or (
        open_high and number == high
    ):  # fmt: skip
        wanted = f"in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        raise ValueError(f"{name} must be finite and {wanted}; got {value}")
    return number


def flag(name: str, value: Any) -> bool:
    """``value`` when it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False; got {value!r}")
    return bool(value)


def chosen(name: str, value: Any, options: tuple[str, ...]) -> str:
    """``value`` when it is one of ``options``, else a ValueError that lists them."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}; got {value!r}")
    return value


def per_worker(
    name: str,
    value: Any,
    n_workers: int,
    low: float,
    high: float = np.inf,
    *,
    open_low: bool = False,
) -> np.ndarray:
    """A number, or one a worker, as float64 (W,) within the bounds."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be a number, or one a worker; got {value!r}")
    if array.ndim > 1 or (array.ndim == 1 and array.size != n_workers):
        raise ValueError(f"{name} must have shape ({n_workers},); got shape {array.shape}")
    array = np.broadcast_to(array.astype(np.float64), (n_workers,)).copy()
    inside = (array > low if open_low else array >= low) & (array <= high)
    if not inside.all():
        wanted = f"in {'(' if open_low else '['}{low:g}, {high:g}]"
        raise ValueError(f"{name} must be {wanted}; got {array[~inside][0]}")
    return array


def labelled(name: str, data: Any, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, features) of ``dtype`` and classes int64 (n,), checked."""
    x, y = (np.asarray(part) for part in data)
    if x.dtype.kind not in "fiub" or x.ndim < 2 or x.shape[0] == 0:
        raise ValueError(
            f"{name}: inputs must be numbers of shape (n, features); got {x.dtype} of {x.shape}"
        )
    x = np.ascontiguousarray(x.reshape(x.shape[0], -1), dtype=dtype)
    if not np.isfinite(x).all():
        raise ValueError(f"{name}: inputs must be finite; got {x[~np.isfinite(x)][0]}")
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise ValueError(
            f"{name}: classes must be integers of shape ({x.shape[0]},); got {y.dtype} of {y.shape}"
        )
    if y.min() < 0:
        raise ValueError(f"{name}: classes must be 0, 1, ...; got {y.min()}")
    return x, y.astype(np.int64)


def rows(name: str, parts: Sequence[Any], n: int) -> list[np.ndarray]:
    """Row indices of every worker as int64 arrays, none empty, all below ``n``."""
    out = []
    for worker, part in enumerate(parts):
        array = np.asarray(part)
        if array.dtype.kind not in "iu" or array.ndim != 1 or array.size == 0:
            raise ValueError(f"{name}[{worker}] must be indices of at least one row; got {part!r}")
        if array.min() < 0 or array.max() >= n:
            raise ValueError(f"{name}[{worker}] must be in 0..{n - 1}; got {array.max()}")
        out.append(array.astype(np.int64))
    if not out:
        raise ValueError(f"{name} must have at least one worker; got none")
    return out
