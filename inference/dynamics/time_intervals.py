"""Cutting time into intervals."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

EQUAL = ("time", "cascades")


def check_interval(interval: Any, n_intervals: Any, equal: Any) -> None:
    """Raise ValueError unless the three settings say how to cut time."""
    if isinstance(n_intervals, bool) or not isinstance(n_intervals, (int, np.integer)):
        raise ValueError(f"n_intervals must be an integer of at least 1; got {n_intervals!r}")
    if n_intervals < 1:
        raise ValueError(f"n_intervals must be an integer of at least 1; got {n_intervals!r}")
    if equal not in EQUAL:
        raise ValueError(f"equal must be one of {', '.join(EQUAL)}; got {equal!r}")
    if interval is None:
        return
    if isinstance(interval, numbers.Real) and not isinstance(interval, bool):
        if not (np.isfinite(interval) and interval > 0.0):
            raise ValueError(
                f"interval must be a positive width or increasing ends; got {interval!r}"
            )
        return
    try:
        ends = np.asarray(interval, dtype=np.float64)
    except (TypeError, ValueError):
        ends = np.empty(0)
    if ends.ndim != 1 or ends.size < 2 or not np.isfinite(ends).all() or (np.diff(ends) <= 0).any():
        raise ValueError(f"interval must be a positive width or increasing ends; got {interval!r}")


def cut(start: np.ndarray, interval: Any, n_intervals: int, equal: str) -> np.ndarray:
    """Ends of the intervals that cover the starts of all cascades.

    Parameters
    ----------
    start : float64 array, shape (C,)
        First infection of each cascade.
    interval : float or array-like, optional
        Width, with ends at its multiples, or the ends.
    n_intervals : int
        Number of intervals where no interval is given.
    equal : {"time", "cascades"}
        What these have equal shares of.

    Returns
    -------
    float64 array, shape (J + 1,)
        An interval holds its lower end and not its upper one, but for the last, which holds both.

    Raises
    ------
    ValueError
        A cascade outside the given ends; too few different starts for the intervals.
    """
    low, high = float(start.min()), float(start.max())
    if interval is None:
        if low == high and n_intervals > 1:
            raise ValueError(
                f"n_intervals must be 1 where all cascades start at one time ({low:g}); got "
                f"{n_intervals}: time is cut by the cascades' starts"
            )
        if low == high:
            return np.array([low, np.nextafter(low, np.inf)])
        if equal == "time":
            return np.linspace(low, high, n_intervals + 1)
        ends = np.quantile(start, np.linspace(0.0, 1.0, n_intervals + 1))
        if (np.diff(ends) <= 0.0).any():
            raise ValueError(
                f"n_intervals must be small enough to part the cascades' starts; got {n_intervals}"
            )
        return ends
    if isinstance(interval, numbers.Real):
        first = np.floor(low / interval)
        count = int(np.floor(high / interval) - first) + 1
        return (first + np.arange(count + 1)) * float(interval)
    ends = np.asarray(interval, dtype=np.float64)
    if low < ends[0] or high > ends[-1]:
        raise ValueError(
            f"interval must cover all cascades, which start from {low:g} to {high:g}; got ends "
            f"from {ends[0]:g} to {ends[-1]:g}"
        )
    return ends


def members(start: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Interval of each cascade, int64 (C,)."""
    return np.clip(np.searchsorted(ends, start, side="right") - 1, 0, ends.size - 2)
