"""Validation of what a user passes to an estimator; everything behind it trusts its arguments."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

LARGEST = 1e30  # squares of larger numbers are infinite in float32


class NotFittedError(ValueError, AttributeError):
    """The estimator has not been fitted; scikit-learn's error of that name where it is loaded."""


def not_fitted(name: str) -> ValueError:
    """The error for a model that was not fitted."""
    text = f"this {name} is not fitted yet; call fit first"
    if sys.modules.get("sklearn") is not None:
        from sklearn.exceptions import NotFittedError as theirs

        return theirs(text)
    return NotFittedError(text)


def inputs(x: Any, dtype: np.dtype) -> np.ndarray:
    """``x`` as a C-contiguous array (n, p) of finite numbers: float64 stays, all else is ``dtype``.

    Columns far from 0 keep their digits until they are centred.
    """
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        raise TypeError("X must be dense; got a sparse matrix or array")
    array = np.asarray(x)
    if array.dtype.kind == "c":
        raise ValueError("Complex data not supported: X must be real")
    if array.ndim != 2:
        raise ValueError(
            f"X must have two dimensions; got shape {array.shape}. Expected 2D array: reshape "
            "with X.reshape(-1, 1) for one feature or X.reshape(1, -1) for one sample. "
            "Reshape your data"
        )
    if array.dtype.kind not in "fiub":
        try:
            array = array.astype(np.float64)
        except TypeError as error:
            raise TypeError(f"X: argument must be a string or a number; {error}") from None
        except ValueError as error:
            raise ValueError(f"X must be numbers; {error}") from None
    n, p = array.shape
    if n < 1:
        raise ValueError(
            f"X has 0 sample(s) (shape={array.shape}) while a minimum of 1 is required."
        )
    if p < 1:
        raise ValueError(
            f"X has 0 feature(s) (shape={array.shape}) while a minimum of 1 is required."
        )
    if array.dtype.kind == "f":
        largest = LARGEST if dtype == np.float32 else np.finfo(np.float64).max
        bad = ~(np.abs(array) <= largest)
        if bad.any():
            shown = array[bad][0]
            what = "NaN" if np.isnan(shown) else "infinity or a value too large" \
                if np.isinf(shown) else f"{shown:g}, a value too large"  # fmt: skip
            raise ValueError(f"X must be finite and at most {largest:g} in size; got {what}")
    return np.ascontiguousarray(array, dtype=np.float64 if array.dtype == np.float64 else dtype)


def weights(value: Any, n: int) -> np.ndarray | None:
    """Sample weights with a mean of 1, float64 (n,)."""
    if value is None:
        return None
    array = np.asarray(value, dtype=np.float64)
    if array.ndim == 0:
        return None
    if array.shape != (n,):
        raise ValueError(f"sample_weight must have shape ({n},); got {array.shape}")
    if not np.isfinite(array).all() or array.min() < 0 or array.sum() == 0:
        raise ValueError("sample_weight must be finite, at least 0, and not zero for all samples")
    return array


def labels(y: Any, n: int) -> np.ndarray:
    """Classes of the samples, (n,)."""
    array = _column(y, n)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ValueError("y must be finite; got NaN or infinity")
        if not np.array_equal(array, np.floor(array)):
            raise ValueError("Unknown label type: continuous; y must be classes, not real numbers")
    if array.dtype.kind == "O":
        kinds = {str if isinstance(value, str) else type(value) for value in array}
        if kinds != {str} and any(value is None or value != value for value in array):
            raise ValueError("y must be classes; got None or NaN")
    return array


def targets(y: Any, n: int) -> np.ndarray:
    """Targets as float64 (n,) or (n, K)."""
    if y is None:
        raise ValueError("y is required: requires y to be passed, but the target y is None")
    array = np.asarray(y)
    if array.dtype.kind == "c":
        raise ValueError("Complex data not supported: y must be real")
    if array.ndim == 2 and array.shape[1] > 1:
        if array.shape[0] != n:
            raise ValueError(f"y must have {n} rows, as X; got {array.shape[0]}")
    else:
        array = _column(y, n)
    try:
        array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"y must be numbers; {error}") from None
    if not np.isfinite(array).all():
        raise ValueError("y must be finite; got NaN or infinity")
    return array


def _column(y: Any, n: int) -> np.ndarray:
    if y is None:
        raise ValueError("y is required: requires y to be passed, but the target y is None")
    array = np.asarray(y)
    if array.dtype.kind == "c":
        raise ValueError("Complex data not supported: y must be real")
    if array.ndim == 2 and array.shape[1] == 1:
        message = "A column-vector y was passed when a 1d array was expected; it was flattened"
        category: type[Warning] = UserWarning
        if sys.modules.get("sklearn") is not None:
            from sklearn.exceptions import DataConversionWarning as category
        warnings.warn(message, category, stacklevel=5)
        array = array.reshape(-1)
    if array.ndim != 1:
        raise ValueError(f"y must have one dimension; got shape {array.shape}")
    if array.size != n:
        raise ValueError(f"y must have {n} entries, as X has rows; got {array.size}")
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
    low: float = 0.0,
    high: float = np.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """``value`` as a finite float within the bounds."""
    if isinstance(value, (str, bytes, bool)) or np.ndim(value) != 0:
        raise TypeError(f"{name} must be a number; got {value!r}")
    number = float(value)
    outside = number < low or number > high
    outside |= (open_low and number == low) or (open_high and number == high)
    if not np.isfinite(number) or outside:
        wanted = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        raise ValueError(f"{name} must be finite and in {wanted}; got {value}")
    return number


def share_pair(name: str, value: Any) -> tuple[float, float]:
    """A number, or two, in [0, 1]: the beginning (0 for a single number) and the end."""
    pair = (0.0, value) if np.ndim(value) == 0 else tuple(value)
    if len(pair) != 2:
        raise ValueError(f"{name} must be a number or two; got {value!r}")
    low, high = (real(name, one, 0.0, 1.0) for one in pair)
    if low > high:
        raise ValueError(f"{name} must not end before it begins; got {value!r}")
    return low, high


def number_pair(name: str, value: Any, *, open_low: bool = False) -> tuple[float, float]:
    """A number that stays, or two: at the beginning and at the end."""
    pair = (value, value) if np.ndim(value) == 0 else tuple(value)
    if len(pair) != 2:
        raise ValueError(f"{name} must be a number or two; got {value!r}")
    first, last = (real(name, one, 0.0, open_low=open_low) for one in pair)
    return first, last


def chosen(name: str, value: Any, options: Sequence[Any]) -> Any:
    """``value`` when it is one of ``options``."""
    if not any(value is option or value == option for option in options):
        raise ValueError(f"{name} must be one of {', '.join(map(str, options))}; got {value!r}")
    return value


def generator(random_state: Any) -> np.random.Generator:
    """Generator of an int, None, a Generator, or a legacy random state."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    if hasattr(random_state, "randint"):  # as scikit-learn hands on its own
        return np.random.default_rng(int(random_state.randint(2**31 - 1)))
    if random_state is not None:
        whole("random_state", random_state, 0)
    return np.random.default_rng(random_state)
