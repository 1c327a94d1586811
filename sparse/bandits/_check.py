"""Validation of what a user passes; everything behind it trusts its arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from cascadenet.sparse.bandits import _kernels


def floats(name: str, value: Any, ndim: int) -> np.ndarray:
    """``value`` as a C-contiguous float64 array of ``ndim`` dimensions; entries are not checked."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must be an array of numbers; got ragged rows") from None
    if array.dtype != np.float64:
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name} must be real numbers; got dtype {array.dtype}")
        array = array.astype(np.float64)
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension(s); got shape {array.shape}")
    return np.ascontiguousarray(array)


def usable(name: str, array: np.ndarray) -> np.ndarray:
    """``array`` when its entries are finite and below 1e100 in size."""
    if not _kernels.all_usable(array.reshape(-1)):
        bad = array.reshape(-1)
        bad = bad[~(np.abs(bad) <= _kernels.LARGEST)][0]
        raise ValueError(f"{name} must be finite and below {_kernels.LARGEST:g}; got {bad}")
    return array


def integers(name: str, value: Any, low: int, high: int | None, size: int | None) -> np.ndarray:
    """``value`` as int64 (m,) with entries in [low, high)."""
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers; got dtype {array.dtype}")
    array = np.ascontiguousarray(array, dtype=np.int64)
    if array.ndim != 1 or (size is not None and array.size != size):
        wanted = "one dimension" if size is None else f"shape ({size},)"
        raise ValueError(f"{name} must have {wanted}; got shape {array.shape}")
    if array.size and (array.min() < low or (high is not None and array.max() >= high)):
        bad = array[(array < low) | (array >= (np.inf if high is None else high))][0]
        wanted = f"at least {low}" if high is None else f"in {low}..{high - 1}"
        raise ValueError(f"{name} must be {wanted}; got {bad}")
    return array


def whole(name: str, value: Any, low: int) -> int:
    """``value`` as an int of at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
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
) -> float:
    """``value`` as a finite float within the bounds."""
    if isinstance(value, (str, bytes)) or np.ndim(value) != 0:
        raise TypeError(f"{name} must be a number; got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number; got {value!r}") from None
    if not np.isfinite(number) or not low <= number <= high or (open_low and number == low):
        wanted = f"in {'(' if open_low else '['}{low:g}, {high:g}]"
        raise ValueError(f"{name} must be finite and {wanted}; got {value}")
    return number


def examination(value: Any, n_slots: int | None = None) -> np.ndarray:
    """Examination probabilities (L,), all in (0, 1]."""
    array = floats("examination", value, 1)
    if array.size == 0 or (n_slots is not None and array.size != n_slots):
        wanted = "at least one entry" if n_slots is None else f"{n_slots} entries, one a slot"
        raise ValueError(f"examination must have {wanted}; got {array.size}")
    bad = ~((array > 0.0) & (array <= 1.0))
    if bad.any():
        raise ValueError(f"examination must be in (0, 1]; got {array[bad][0]}")
    return array.copy()


def chosen(name: str, value: Any, options: tuple[Any, ...]) -> Any:
    """``value`` when it is one of ``options``, else a ValueError that lists them."""
    if isinstance(value, bool) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(str, options))}; got {value!r}")
    return value


def generator(seed: Any) -> np.random.Generator:
    """A generator of the seed, or the one that is passed."""
    if isinstance(seed, np.random.Generator):
        return seed
    return np.random.default_rng(whole("seed", seed, 0))
