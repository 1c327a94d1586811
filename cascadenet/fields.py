"""Labels and times: from texts, table columns and arguments to values, and back to text.

One rule decides everywhere what a label is (`canonical_labels`) and what a time is (`one_time`), so
that cascades, networks and node lists agree. A `Source` says where a record stood when it is bad.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from cascadenet.errors import FormatError

if TYPE_CHECKING:
    import pandas as pd

Label = int | str

MICROSECONDS_PER_DAY = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Days since 1970 of the years 1 to 9999, those that ISO dates can express.
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
# Integers to Python, but not to anybody else.
_NOT_NUMBERS = (bool, np.bool_, np.timedelta64)
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
_NUMBER = re.compile(
    r"\s*[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|nan|inf(?:inity)?)\s*", re.ASCII | re.IGNORECASE
)
_DATE = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?", re.ASCII
)


@dataclass(frozen=True)
class Source:
    """Where records came from, for error messages.

    Parameters
    ----------
    name : str
        File name.
    lines : callable, optional
        Returns the line (from 1) of every record; called only when an error is reported. Without
        it the records are rows of a table and named by position.
    """

    name: str
    lines: Callable[[], Sequence[int]] | None = None

    def at(self, *records: int) -> str:
        """Place of one or two records: ``cascades.csv, line 17``."""
        known = None if self.lines is None else self.lines()
        places = sorted({int(i) if known is None else int(known[i]) for i in records})
        text = ("s " if len(places) > 1 else " ") + " and ".join(map(str, places))
        if known is None:
            return f"row{text} of {self.name}, counted from 0"
        return f"{self.name}, line{text}"

    def fail(self, message: str, *records: int) -> NoReturn:
        """Raise FormatError with the place of the records, or the name alone, in brackets."""
        raise FormatError(f"{message} ({self.at(*records) if records else self.name})")


def show(value: object) -> str:
    """One short line that shows a value: its repr, cut after 60 characters."""
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def plain(value: float) -> str:
    """A float without a needless fraction: 10 rather than 10.0, all digits otherwise."""
    text = repr(float(value))
    return text[:-2] if text.endswith(".0") else text


def label_text(value: object) -> str:
    """Text of one label.

    Parameters
    ----------
    value : int, str or a float without fraction
        Floats occur when a table of numbers was made from one float array.

    Raises
    ------
    ValueError
        Blank, with a NUL character, not encodable, or of another type. The message has no place.
    """
    if isinstance(value, str):
        if not value or value.isspace():
            raise ValueError(f"labels must not be blank; got {show(str(value))}")
        if "\0" in value:
            raise ValueError(f"labels must not contain NUL; got {show(str(value))}")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"labels must be valid Unicode; got {show(str(value))}") from None
        return str(value)
    if isinstance(value, numbers.Integral) and not isinstance(value, _NOT_NUMBERS):
        return str(int(value))
    if isinstance(value, (float, np.floating)) and abs(value) < 2**53 and value == int(value):
        return str(int(value))
    raise ValueError(f"labels must be integers or strings; got {show(value)}")


def canonical_labels(texts: Iterable[str]) -> tuple[Label, ...]:
    """Labels of a set of label texts: all int, or all str.

    They are int when every text is a canonical decimal integer of 64 bits (``0``, ``17``, ``-3``;
    not ``007``, ``+1``, ``1e3`` or `` 1``), otherwise str.
    """
    texts = tuple(texts)
    if all(map(_INTEGER.fullmatch, texts)):
        integers = tuple(map(int, texts))
        if not integers or (min(integers) >= -(2**63) and max(integers) < 2**63):
            return integers
    return texts


def label_texts(labels: Iterable[Hashable], argument: str) -> list[str]:
    """Texts of the labels of an argument, in order, repeats kept.

    Raises
    ------
    TypeError
        A single string, or not iterable.
    FormatError
        A label that is blank or of another type; the message names the argument and position.
    """
    if isinstance(labels, (str, bytes)):
        raise TypeError(f"{argument} must be a list of labels; got {show(labels)}")
    try:
        values = list(labels)
    except TypeError:
        got = type(labels).__name__
        raise TypeError(f"{argument} must be a list of labels; got {got}") from None
    texts = []
    for i, value in enumerate(values):
        try:
            texts.append(label_text(value))
        except ValueError as error:
            raise FormatError(f"{error} ({argument}[{i}])") from None
    return texts


def label_array(labels: Sequence[Label]) -> np.ndarray:
    """Labels as an array: int64, or object holding str."""
    if labels and isinstance(labels[0], int):
        return np.array(labels, dtype=np.int64)
    result = np.empty(len(labels), dtype=object)
    result[:] = labels
    return result


def encode(
    texts: Sequence[str], what: str, source: Source, n_records: int | None = None
) -> tuple[np.ndarray, list[str]]:
    """Codes of label texts, in the order of first appearance.

    Parameters
    ----------
    texts : sequence of str, length I
    what : str
        ``"node"`` or ``"cascade"``, for messages.
    source : Source
    n_records : int, optional
        Records of the source, when `texts` holds several columns of it end to end.

    Returns
    -------
    codes : ndarray of int64, shape (I,)
    uniques : list of str

    Raises
    ------
    FormatError
        A blank label.
    """
    n_records = n_records or len(texts)
    lookup = {text: code for code, text in enumerate(dict.fromkeys(texts))}
    for text in lookup:
        try:
            label_text(text)
        except ValueError as error:
            source.fail(f"{what} {error}", texts.index(text) % n_records)
    codes = np.fromiter(map(lookup.__getitem__, texts), dtype=np.int64, count=len(texts))
    return codes, list(lookup)


def encode_column(
    column: pd.Series, what: str, source: Source, n_records: int | None = None
) -> tuple[np.ndarray, list[str]]:
    """As `encode`, for a column of a DataFrame that holds integers, strings, or both."""
    import pandas as pd

    n_records = n_records or len(column)
    try:
        codes, values = pd.factorize(column)
    except TypeError:
        source.fail(f"{what} labels must be integers or strings; got {column.dtype}")
    if (codes < 0).any():
        first = int(codes.argmin()) % n_records
        source.fail(f"{what} labels must not be blank; got a missing value", first)
    texts = []
    for code, value in enumerate(values.tolist()):
        try:
            texts.append(label_text(value))
        except ValueError as error:
            source.fail(f"{what} {error}", int((codes == code).argmax()) % n_records)
    # 1 and "1" are one label
    lookup = {text: code for code, text in enumerate(dict.fromkeys(texts))}
    return np.array([lookup[text] for text in texts])[codes], list(lookup)


def _fast_numbers(texts: Sequence[Any]) -> np.ndarray | None:
    """Floats of number texts; None when one is no text, or no number as `_NUMBER` has it."""
    try:
        joined = ",".join(texts)
        # float() also takes 1_000 and the digits of other scripts
        if "_" in joined or not joined.isascii():
            return None
        return np.array(list(map(float, texts)), dtype=np.float64)
    except (TypeError, ValueError):
        return None


def parse_numbers(texts: Sequence[str], what: str, source: Source) -> np.ndarray:
    """Finite, non-negative numbers from texts -> float64, shape (len(texts),)."""
    values = _fast_numbers(texts)
    if values is None:
        for i, text in enumerate(texts):
            if not _NUMBER.fullmatch(text):
                source.fail(f"{what} must be numbers; got {show(text)}", i)
        values = np.array(list(map(float, texts)), dtype=np.float64)
    check_finite(values, what, source)
    return values


def check_finite(values: np.ndarray, what: str, source: Source, negative: bool = False) -> None:
    """Raise FormatError at the first value that is not finite or, unless allowed, negative."""
    bad = ~np.isfinite(values)
    if not negative:
        bad |= values < 0
    if bad.any():
        first = int(bad.argmax())
        rule = "not be negative" if np.isfinite(values[first]) else "be finite"
        source.fail(f"{what} must {rule}; got {plain(values[first])}", first)


def microseconds(value: date | datetime | np.datetime64) -> int:
    """Microseconds since 1970-01-01 of a date; without a time zone it is taken as UTC.

    Raises
    ------
    ValueError
        Not a date (NaT).
    """
    if isinstance(value, np.datetime64):
        if np.isnat(value):
            raise ValueError("not a date")
        return int(value.astype("datetime64[us]").astype(np.int64))
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return int((value - _EPOCH) // timedelta(microseconds=1))


def days(micros: np.ndarray) -> np.ndarray:
    """Float days of integer microseconds, both since 1970-01-01."""
    whole, rest = np.divmod(np.asarray(micros, dtype=np.int64), MICROSECONDS_PER_DAY)
    return whole + rest / MICROSECONDS_PER_DAY


def calendar(time: np.ndarray) -> np.ndarray:
    """Dates of float days since 1970-01-01 -> datetime64[us]; the inverse of `days`."""
    bad = (time < _FIRST_DAY) | (time >= _LAST_DAY + 1)
    if bad.any():
        raise ValueError(f"dates go from year 1 to 9999; got {plain(time[bad][0])} days after 1970")
    whole = np.floor(time)
    rest = np.rint((time - whole) * MICROSECONDS_PER_DAY)
    micros = whole.astype(np.int64) * MICROSECONDS_PER_DAY + rest.astype(np.int64)
    return micros.astype("datetime64[us]")


def one_time(value: object) -> tuple[float | int, bool] | None:
    """One time: (number, False), (microseconds since 1970, True), or None when it is neither."""
    try:
        if isinstance(value, str):
            if _NUMBER.fullmatch(value):
                return float(value), False
            if _DATE.fullmatch(value.strip()):
                return microseconds(datetime.fromisoformat(value.strip())), True
        elif isinstance(value, (date, np.datetime64)):
            return microseconds(value), True
        elif isinstance(value, numbers.Real) and not isinstance(value, _NOT_NUMBERS):
            return float(value), False
    except (ValueError, OverflowError):
        pass  # the 30th of February
    return None


def parse_times(
    values: Sequence[Any], source: Source, what: str = "times", negative: bool = False
) -> tuple[np.ndarray, bool]:
    """Times from texts or Python objects: all numbers, or all ISO dates and datetimes.

    Parameters
    ----------
    values : sequence of str, number, date or datetime, length I
    source : Source
    what : str
        Name in messages.
    negative : bool
        Whether negative numbers are allowed. Dates before 1970 always are.

    Returns
    -------
    time : ndarray of float64, shape (I,)
        Numbers as they are; dates as days since 1970-01-01 UTC.
    dates : bool

    Raises
    ------
    FormatError
        Neither a number nor a date, a mixture, not finite, negative.
    """
    fast = _fast_numbers(values)
    if fast is not None:
        check_finite(fast, what, source, negative)
        return fast, False
    parsed: list[float | int] = []
    dates = False
    for i, value in enumerate(values):
        one = one_time(value)
        if one is None:
            source.fail(f"{what} must be numbers or ISO dates; got {show(value)}", i)
        if i == 0:
            dates = one[1]
        elif one[1] != dates:
            both = f"{show(values[0])} and {show(value)}"
            source.fail(f"{what} must be all numbers or all dates; got {both}", 0, i)
        parsed.append(one[0])
    if dates:
        return days(np.array(parsed, dtype=np.int64)), True
    result = np.array(parsed, dtype=np.float64)
    check_finite(result, what, source, negative)
    return result, False


def column_times(column: pd.Series, source: Source) -> tuple[np.ndarray, bool]:
    """As `parse_times`, for a column of a DataFrame."""
    from pandas.api import types

    missing = column.isna().to_numpy()
    if missing.any():
        first = int(missing.argmax())
        source.fail(f"times must be finite; got {show(column.iloc[first])}", first)
    if types.is_datetime64_any_dtype(column.dtype):
        if getattr(column.dt, "tz", None) is not None:
            column = column.dt.tz_convert("UTC").dt.tz_localize(None)
        return days(column.to_numpy().astype("datetime64[us]").astype(np.int64)), True
    number = types.is_numeric_dtype(column.dtype) and not types.is_complex_dtype(column.dtype)
    if number and not types.is_bool_dtype(column.dtype):
        values = column.to_numpy(dtype=np.float64)
        check_finite(values, "times", source)
        return values, False
    return parse_times(column.astype(object).tolist(), source)


def instant(value: Any, dates: bool, argument: str) -> float:
    """A point in time given as an argument, as a float in the unit of the data."""
    expected = "a finite number or a date" if dates else "a finite number"
    parsed = one_time(value)
    if parsed is None:
        raise ValueError(f"{argument} must be {expected}; got {show(value)}")
    result, is_date = parsed
    if is_date and not dates:
        raise ValueError(f"{argument} must be a number, as the times are; got {show(value)}")
    result = float(days(np.int64(result))) if is_date else float(result)
    if not math.isfinite(result):
        raise ValueError(f"{argument} must be {expected}; got {show(value)}")
    return result


def duration(value: Any, dates: bool) -> float:
    """A duration given as the argument window, as a float in the unit of the data."""
    parsed = None if isinstance(value, (date, np.datetime64)) else one_time(value)
    if parsed is not None and not parsed[1]:
        result = float(parsed[0])
    elif dates and isinstance(value, (str, timedelta, np.timedelta64)):
        import pandas as pd

        try:
            micros = pd.Timedelta(value) / pd.Timedelta(microseconds=1)
        except (ValueError, TypeError):
            micros = math.nan
        result = micros / MICROSECONDS_PER_DAY
    else:
        result = math.nan
    if not (math.isfinite(result) and result > 0):
        expected = "days or a timedelta such as '30D'" if dates else "a number"
        raise ValueError(f"window must be {expected}, above zero; got {show(value)}")
    return result


def iso(time: np.ndarray) -> list[str]:
    """ISO texts of float days since 1970-01-01: dates when all are whole days."""
    unit = "D" if (time == np.floor(time)).all() else "us"
    return np.datetime_as_string(calendar(time), unit=unit).tolist()


def decimal(time: np.ndarray) -> list[str]:
    """Shortest texts that read back as the same floats; ValueError when one is negative."""
    if time.min() < 0:
        got = plain(time.min())
        raise ValueError(f"times below zero can be written only as dates (dates=True); got {got}")
    return list(map(repr, time.tolist()))


def show_time(value: float, dates: bool) -> str:
    """A time for a message: as a date when the data are dates."""
    if dates and _FIRST_DAY <= value <= _LAST_DAY:
        return iso(np.array([value]))[0]
    return plain(value)
