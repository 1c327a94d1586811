"""Cascades: who was infected when, checked once and frozen.

`Cascades` is what every model takes. It is made from a DataFrame, a CSV file, a text file of
netinf, NetRate or InfoPath, or flat arrays, and written back. `cascadenet.readers` parses text and
`cascadenet.fields` labels and times; this file settles repeats, order and horizons.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.errors import FormatError
from cascadenet.fields import (
    Label,
    Source,
    calendar,
    canonical_labels,
    column_times,
    decimal,
    duration,
    encode,
    encode_column,
    instant,
    iso,
    label_array,
    label_texts,
    parse_times,
    plain,
    show,
    show_time,
)
from cascadenet.readers import (
    PathLike,
    check_distinct,
    pick_columns,
    quote,
    read_cascade_lines,
    read_network,
    read_nodes,
    read_table,
    sniff,
    write_bytes,
    write_network,
)

if TYPE_CHECKING:
    from datetime import date, timedelta

    import pandas as pd
    from numpy.typing import ArrayLike

    TimeLike = float | str | date | np.datetime64
    Horizon = TimeLike | Mapping[Hashable, TimeLike] | pd.Series
    Duration = float | str | timedelta | np.timedelta64

__all__ = [
    "Cascades",
    "FormatError",
    "read_network",
    "read_nodes",
    "sniff",
    "write_bytes",
    "write_network",
]

_DTYPES = {"offset": np.int64, "node": np.int32, "time": np.float64, "horizon": np.float64}


@dataclass(frozen=True, eq=False, repr=False)
class Cascades:
    """Infection times of nodes in cascades, with the end of observation of each cascade.

    Make one with `from_frame`, `read_csv`, `read_snap` or `from_arrays`. Instances and their arrays
    cannot be changed; they compare equal when everything is equal, can be hashed and pickled.

    Attributes
    ----------
    nodes : tuple of int or of str, length N
        Label of each node index. All int when every label is a canonical decimal integer, otherwise
        all str. From tables and files they are sorted: integers by value, strings by code point.
    labels : tuple of int or of str, length C
        Label of each cascade, by the same rule, in the order of first appearance in the input.
    offset : ndarray of int64, shape (C + 1,)
        The infections of cascade c are ``offset[c]:offset[c + 1]``, at least one.
    node : ndarray of int32, shape (I,)
        Node index of each infection; sorted by cascade, time, node index.
    time : ndarray of float64, shape (I,)
        Absolute time in the user's unit; dates are days since 1970-01-01 UTC.
    horizon : ndarray of float64, shape (C,)
        Absolute end of observation of each cascade, not before its last infection.
    """

    nodes: tuple[Label, ...]
    labels: tuple[Label, ...]
    offset: np.ndarray
    node: np.ndarray
    time: np.ndarray
    horizon: np.ndarray

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            array = _array(getattr(self, name), dtype, name)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        for name in ("nodes", "labels"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _validate(self)

    @classmethod
    def from_frame(
        cls,
        df: pd.DataFrame,
        cascade: Hashable = "cascade",
        node: Hashable = "node",
        time: Hashable = "time",
        nodes: Iterable[Hashable] | None = None,
        horizon: Horizon | None = None,
        window: Duration | None = None,
        duplicates: str = "error",
    ) -> Cascades:
        """Cascades from a DataFrame with one infection a row, in any order.

        Parameters
        ----------
        df : DataFrame
        cascade, node, time : column names
            Labels are integers or strings. Times are numbers >= 0 in any unit, or dates, which
            become days since 1970-01-01 (without a time zone they are taken as UTC).
        nodes : iterable of labels, optional
            Nodes known beside those in the data: never infected, they carry exposure.
        horizon : time, or mapping or Series of cascade label to time, optional
            End of observation. With dates also a date, which means its midnight.
        window : duration, optional
            Observation of each cascade ends this long after its first infection. With dates also a
            timedelta or a string such as ``"30D"``. Not together with `horizon`.
            With neither, observation ends at the largest infection time of all cascades, and a
            warning says so.
        duplicates : {"error", "first"}
            What to do with a node infected twice in a cascade: refuse it, or keep the earliest.

        Returns
        -------
        Cascades

        Raises
        ------
        FormatError
            Bad data; the message names the row.
        ValueError, TypeError
            Bad arguments.
        """
        import pandas as pd

        if not isinstance(df, pd.DataFrame):
            raise TypeError(f"df must be a pandas DataFrame; got {type(df).__name__}")
        source = Source("the DataFrame")
        columns = pick_columns(df, {"cascade": cascade, "node": node, "time": time}, source)
        if not len(df):
            raise FormatError("no infections: the DataFrame has no rows")
        records = _Records(
            *encode_column(columns["cascade"], "cascade", source),
            *encode_column(columns["node"], "node", source),
            *column_times(columns["time"], source),
            source,
        )
        return _assemble(records, nodes, horizon, window, duplicates)

    @classmethod
    def read_csv(
        cls,
        path: PathLike,
        cascade: str = "cascade",
        node: str = "node",
        time: str = "time",
        nodes: Iterable[Hashable] | None = None,
        horizon: Horizon | None = None,
        window: Duration | None = None,
        duplicates: str = "error",
    ) -> Cascades:
        """Cascades from a CSV file with a header and one infection a row.

        Columns may stand in any order and others are ignored. UTF-8, any line ends, quoted fields,
        gzip by content. Labels are taken as they are written (``NA`` and `` 1`` are strings). Times
        are numbers or ISO dates (``2020-05-01``, ``2020-05-01T12:30:00+02:00``).

        Parameters and results are those of `from_frame`; errors name file and line.
        """
        check_distinct({"cascade": cascade, "node": node, "time": time})
        table, source = read_table(path, (cascade, node, time))
        records = _Records(
            *encode(table[cascade], "cascade", source),
            *encode(table[node], "node", source),
            *parse_times(table[time], source),
            source,
        )
        return _assemble(records, nodes, horizon, window, duplicates)

    @classmethod
    def read_snap(
        cls,
        path: PathLike,
        cascade: str = "cascade",
        node: str = "node",
        time: str = "time",
        nodes: Iterable[Hashable] | None = None,
        horizon: Horizon | None = None,
        window: Duration | None = None,
        duplicates: str = "error",
    ) -> Cascades:
        """Cascades from a text file of netinf, NetRate or InfoPath.

        A node block ``id,name``, a blank line, then one cascade a line: ``node,time,node,time,...``
        in any order, for InfoPath with ``cascade;`` in front; gzip by content. Labels of nodes are
        the names of the block, and all of them are known nodes. Without ids the cascades are
        labelled 0, 1, ... The format has no column names: `cascade`, `node` and `time` are ignored.

        Parameters and results are otherwise those of `from_frame`; errors name file and line.
        """
        block, labels, cascade_code, node_code, times, source = read_cascade_lines(path)
        time_, dates = parse_times(times, source)
        records = _Records(cascade_code, labels, node_code, block.names, time_, dates, source)
        return _assemble(records, nodes, horizon, window, duplicates)

    @classmethod
    def from_arrays(
        cls,
        nodes: Iterable[Hashable],
        offset: ArrayLike,
        node: ArrayLike,
        time: ArrayLike,
        horizon: ArrayLike,
        labels: Iterable[Hashable] | None = None,
    ) -> Cascades:
        """Cascades from flat arrays, which are copied and checked.

        Parameters
        ----------
        nodes : iterable of labels, length N
            Kept in this order: `node` refers to it.
        offset : array_like of int, shape (C + 1,)
        node : array_like of int, shape (I,)
            Sorted by time, then index, within each cascade.
        time : array_like of float, shape (I,)
            Finite; negative times are allowed here.
        horizon : float or array_like of float, shape (C,)
        labels : iterable of labels, length C, optional
            Default 0, 1, ..., C - 1.

        Raises
        ------
        ValueError, TypeError
            Arrays that do not fit together, are not sorted, or are of the wrong kind.
        FormatError
            Fewer than two nodes, no infections, times that are not finite or beyond the horizon, a
            node twice in a cascade, repeated labels.
        """
        offset = np.asarray(offset)
        n_cascades = max(offset.size - 1, 0)
        horizon = np.asarray(horizon)
        if horizon.ndim == 0:
            horizon = np.full(n_cascades, horizon)
        labels = range(n_cascades) if labels is None else labels
        return cls(
            canonical_labels(label_texts(nodes, "nodes")),
            canonical_labels(label_texts(labels, "labels")),
            *(offset, node, time, horizon),  # type: ignore[arg-type]
        )

    @property
    def n_nodes(self) -> int:
        """Number of known nodes N, infected or not."""
        return len(self.nodes)

    @property
    def n_cascades(self) -> int:
        """Number of cascades C."""
        return len(self.labels)

    @property
    def n_infections(self) -> int:
        """Number of infections I."""
        return len(self.node)

    @property
    def start(self) -> np.ndarray:
        """Time of the first infection of each cascade, float64, shape (C,)."""
        return self.time[self.offset[:-1]]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of labels and arrays, as hex; the same on every platform."""
        digest = hashlib.sha256(b"cascadenet cascades 1\n")
        for labels in (self.nodes, self.labels):
            kind = "int" if isinstance(labels[0], int) else "str"
            digest.update(f"{kind} {len(labels)}\n".encode())
            for label in labels:
                text = str(label).encode()
                digest.update(b"%d:" % len(text) + text)
        for name, dtype in _DTYPES.items():
            array = getattr(self, name).astype(np.dtype(dtype).newbyteorder("<"))
            digest.update(f"\n{name} {array.size}\n".encode() + array.tobytes())
        return digest.hexdigest()

    @cached_property
    def _lookup(self) -> dict[str, int]:
        return {str(label): index for index, label in enumerate(self.nodes)}

    def index_of(self, labels: Iterable[Hashable]) -> np.ndarray:
        """Indices of node labels -> int32, shape (number of labels,).

        A label counts as the same whether written as int or str: 5 and "5" find one node.

        Raises
        ------
        ValueError
            A label that is not among `nodes`.
        """
        texts = label_texts(labels, "labels")
        indices = [self._lookup.get(text, -1) for text in texts]
        if -1 in indices:
            unknown = show(texts[indices.index(-1)])
            raise ValueError(f"labels must be nodes of these cascades; got {unknown}")
        return np.array(indices, dtype=np.int32)

    def subset(self, i: int | slice | ArrayLike) -> Cascades:
        """Some of the cascades; all nodes stay known.

        Parameters
        ----------
        i : int, slice, boolean mask of shape (C,), or integer array
            Positions of cascades, each at most once, in the order wanted.

        Raises
        ------
        IndexError
            A position outside, or a mask of another length.
        ValueError
            No cascade, or one twice.
        """
        chosen = _positions(i, self.n_cascades)
        sizes = np.diff(self.offset)[chosen]
        offset = np.concatenate([[0], np.cumsum(sizes)])
        # position in the result plus what lies between there and the position in self
        take = np.arange(offset[-1]) + np.repeat(self.offset[chosen] - offset[:-1], sizes)
        labels = tuple(self.labels[c] for c in chosen)
        return Cascades(
            self.nodes, labels, offset, self.node[take], self.time[take], self.horizon[chosen]
        )

    def to_frame(self, dates: bool = False) -> pd.DataFrame:
        """Infections as a DataFrame with the columns cascade, node (labels) and time.

        Horizons, and nodes never infected, have no place in it.

        Parameters
        ----------
        dates : bool
            Times as datetime64[us] instead of float64, for times that were read from dates.
        """
        import pandas as pd

        cascade = np.repeat(np.arange(self.n_cascades), np.diff(self.offset))
        columns = {
            "cascade": label_array(self.labels)[cascade],
            "node": label_array(self.nodes)[self.node],
            "time": calendar(self.time) if dates else self.time.copy(),
        }
        return pd.DataFrame(columns)

    def to_csv(self, path: PathLike, dates: bool = False) -> None:
        """Write cascade,node,time as CSV that `read_csv` reads back exactly.

        Horizons, and nodes never infected, are not in the file: pass them when reading. The file
        appears whole or not at all; a name that ends in .gz is compressed; the bytes depend on
        nothing but the cascades.

        Parameters
        ----------
        path : path
        dates : bool
            Times as ISO dates (UTC) instead of numbers, for times that were read from dates.

        Raises
        ------
        ValueError
            Negative times, which only dates can express, or times that no date can express.
        """
        times = iso(self.time) if dates else decimal(self.time)
        nodes = [quote(str(label)) for label in self.nodes]
        labels = [quote(str(label)) for label in self.labels]
        cascade = np.repeat(np.arange(self.n_cascades), np.diff(self.offset)).tolist()
        rows = zip(cascade, self.node.tolist(), times, strict=True)
        lines = [f"{labels[c]},{nodes[v]},{t}\n" for c, v, t in rows]
        write_bytes(path, ("cascade,node,time\n" + "".join(lines)).encode())

    def to_snap(self, path: PathLike, variant: str = "netrate") -> None:
        """Write the text format of netinf and NetRate, or of InfoPath, for `read_snap`.

        All nodes are in the node block, with their index as id. Horizons are not in the file, nor,
        for netrate, the labels of cascades. Written whole or not at all, compressed for .gz.

        Parameters
        ----------
        path : path
        variant : {"netrate", "infopath"}

        Raises
        ------
        ValueError
            Negative times, a label with a line break, a cascade label with a semicolon.
        """
        if variant not in ("netrate", "infopath"):
            raise ValueError(f"variant must be 'netrate' or 'infopath'; got {show(variant)}")
        heads = [""] * self.n_cascades
        if variant == "infopath":
            heads = [_one_line(label, ";") + ";" for label in self.labels]
        lines = [f"{index},{_one_line(label)}" for index, label in enumerate(self.nodes)]
        lines.append("")
        fields = list(map("{},{}".format, self.node.tolist(), decimal(self.time)))
        for c, (begin, end) in enumerate(zip(self.offset[:-1], self.offset[1:], strict=True)):
            lines.append(heads[c] + ",".join(fields[begin:end]))
        write_bytes(path, ("\n".join(lines) + "\n").encode())

    def __len__(self) -> int:
        return self.n_cascades

    def __repr__(self) -> str:
        first, last = plain(self.time.min()), plain(self.time.max())
        return (
            f"<Cascades: {self.n_cascades} cascades, {self.n_nodes} nodes, "
            f"{self.n_infections} infections, times {first} to {last}>"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cascades):
            return NotImplemented
        same = self.nodes == other.nodes and self.labels == other.labels
        return same and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in _DTYPES
        )

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        # through the constructor: arrays come out of a pickle writeable
        arrays = (getattr(self, name) for name in _DTYPES)
        return Cascades, (self.nodes, self.labels, *arrays)


def _array(value: ArrayLike, dtype: type, name: str) -> np.ndarray:
    """Copy of a one-dimensional array as dtype; no float becomes an integer, none overflows."""
    given = np.asarray(value)
    if given.ndim != 1:
        raise ValueError(f"{name} must have one dimension; got shape {given.shape}")
    kinds = "iu" if np.issubdtype(dtype, np.integer) else "iuf"
    if given.size and given.dtype.kind not in kinds:
        expected = "integers" if kinds == "iu" else "numbers"
        raise TypeError(f"{name} must hold {expected}; got dtype {given.dtype}")
    if given.size and kinds == "iu" and given.max() > np.iinfo(dtype).max:
        raise ValueError(f"{name} must fit {np.dtype(dtype)}; got {given.max()}")
    # adding zero turns -0.0 into 0.0, so that equal cascades have equal bytes
    return given.astype(dtype) + np.zeros(1, dtype)


def _validate(c: Cascades) -> None:
    """Check that labels and arrays fit together; the message of the first fault is raised."""
    for name in ("nodes", "labels"):
        labels = getattr(c, name)
        kinds = {type(label) for label in labels}
        if kinds - {int} and kinds - {str}:
            raise TypeError(f"{name} must be all int or all str; got {show(labels)}")
        if len(set(labels)) < len(labels):
            twice = next(label for i, label in enumerate(labels) if label in labels[:i])
            raise FormatError(f"{name} must differ; got {show(twice)} twice")
    if c.n_nodes < 2:
        raise FormatError(f"expected two nodes or more; got {show(c.nodes)}")
    if not c.n_infections:
        raise FormatError("no infections: expected one or more in each cascade")
    if c.offset.shape != (c.n_cascades + 1,) or c.horizon.shape != (c.n_cascades,):
        raise ValueError(
            f"offset and horizon must have {c.n_cascades} + 1 and {c.n_cascades} entries, one for "
            f"each label; got {c.offset.size} and {c.horizon.size}"
        )
    if c.time.shape != c.node.shape:
        raise ValueError(f"node and time must match; got {c.node.size} and {c.time.size} entries")
    ends = (c.offset[0], c.offset[-1])
    if ends != (0, c.n_infections) or (np.diff(c.offset) < 1).any():
        raise ValueError(
            f"offset must rise from 0 to the number of infections, {c.n_infections}, by at least "
            f"one a cascade; got {show(c.offset.tolist())}"
        )
    if c.node.min() < 0 or c.node.max() >= c.n_nodes:
        wrong = c.node.min() if c.node.min() < 0 else c.node.max()
        raise ValueError(f"node must be an index below {c.n_nodes}; got {wrong}")
    for name in ("time", "horizon"):
        bad = ~np.isfinite(getattr(c, name))
        if bad.any():
            first = int(bad.argmax())
            got = plain(getattr(c, name)[first])
            raise FormatError(f"{name} must be finite; got {got} at position {first}")
    _validate_order(c)


def _validate_order(c: Cascades) -> None:
    """Check that infections are sorted, single and within the horizon."""
    cascade = np.repeat(np.arange(c.n_cascades), np.diff(c.offset))
    same = cascade[1:] == cascade[:-1]
    later = c.time[1:] > c.time[:-1]
    tied = (c.time[1:] == c.time[:-1]) & (c.node[1:] >= c.node[:-1])
    bad = same & ~(later | tied)
    if bad.any():
        raise ValueError(
            "infections must be sorted by time, then node index, within each cascade; "
            f"positions {int(bad.argmax())} and {int(bad.argmax()) + 1} are not"
        )
    key = np.sort(cascade * c.n_nodes + c.node)
    if (key[1:] == key[:-1]).any():
        k, v = divmod(int(key[1:][key[1:] == key[:-1]][0]), c.n_nodes)
        raise FormatError(
            f"a node is infected once in a cascade; got node {show(c.nodes[v])} twice in cascade "
            f"{show(c.labels[k])}"
        )
    beyond = c.time > c.horizon[cascade]
    if beyond.any():
        first = int(beyond.argmax())
        end = plain(c.horizon[cascade[first]])
        raise FormatError(f"time {plain(c.time[first])} is beyond the horizon {end}")


def _positions(i: Any, n_cascades: int) -> np.ndarray:
    """Positions of the chosen cascades, int64; see `Cascades.subset` for what may be given."""
    if isinstance(i, slice):
        chosen = np.arange(n_cascades)[i]
    else:
        given = np.atleast_1d(np.asarray(i))
        if given.ndim > 1 or (given.size and given.dtype.kind not in "biu"):
            raise TypeError(f"expected an int, a slice, a mask or an int array; got {show(i)}")
        if given.dtype == bool and given.shape != (n_cascades,):
            raise IndexError(f"a mask must have {n_cascades} entries; got {given.size}")
        chosen = np.arange(n_cascades)[given if given.size else slice(0)]
    if not chosen.size:
        raise ValueError("a subset must have a cascade; got none")
    if len(np.unique(chosen)) < len(chosen):
        raise ValueError("a subset can have each cascade once; got one twice")
    return chosen


@dataclass(frozen=True)
class _Records:
    """Infections as read, in the order of the input: codes into lists of label texts."""

    cascade: np.ndarray
    cascade_texts: list[str]
    node: np.ndarray
    node_texts: list[str]
    time: np.ndarray
    dates: bool
    source: Source


def _assemble(
    records: _Records,
    nodes: Iterable[Hashable] | None,
    horizon: Horizon | None,
    window: Duration | None,
    duplicates: str,
) -> Cascades:
    """Cascades of what was read: sort, settle labels, repeats and horizons."""
    if duplicates not in ("error", "first"):
        raise ValueError(f"duplicates must be 'error' or 'first'; got {show(duplicates)}")
    if horizon is not None and window is not None:
        raise ValueError("horizon and window exclude each other; got both")
    known = records.node_texts + ([] if nodes is None else label_texts(nodes, "nodes"))
    unsorted = canonical_labels(dict.fromkeys(known))
    if len(unsorted) < 2:
        records.source.fail(f"expected two nodes or more; got only {show(unsorted[0])}")
    order = sorted(range(len(unsorted)), key=unsorted.__getitem__)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    node = rank[records.node]
    rows = np.lexsort((node, records.time, records.cascade))
    rows = _without_repeats(rows, records, duplicates)
    cascade, time = records.cascade[rows], records.time[rows]
    sizes = np.bincount(cascade, minlength=len(records.cascade_texts))
    offset = np.concatenate([[0], np.cumsum(sizes)])
    ends = _ends(records, time[offset[:-1]], time[offset[1:] - 1], horizon, window)
    beyond = rows[time > ends[cascade]]
    if beyond.size:
        first = int(beyond.min())
        end = show_time(ends[records.cascade[first]], records.dates)
        late = show_time(records.time[first], records.dates)
        records.source.fail(f"time {late} is beyond the horizon {end}", first)
    labels = canonical_labels(records.cascade_texts)
    return Cascades(tuple(unsorted[k] for k in order), labels, offset, node[rows], time, ends)


def _without_repeats(rows: np.ndarray, records: _Records, duplicates: str) -> np.ndarray:
    """Rows, sorted by cascade and time, without those that repeat a node in a cascade."""
    key = (records.cascade * len(records.node_texts) + records.node)[rows]
    order = np.argsort(key, kind="stable")
    repeated = np.flatnonzero(key[order][1:] == key[order][:-1])
    if not repeated.size:
        return rows
    if duplicates == "error":
        pairs = np.sort([rows[order[repeated]], rows[order[repeated + 1]]], axis=0)
        first, second = pairs[:, pairs[1].argmin()]
        cascade = show(records.cascade_texts[records.cascade[first]])
        node = show(records.node_texts[records.node[first]])
        records.source.fail(
            f"a node is infected once in a cascade; got node {node} twice in cascade {cascade}",
            *(first, second),
        )
    return np.delete(rows, order[repeated + 1])


def _ends(
    records: _Records,
    start: np.ndarray,
    last: np.ndarray,
    horizon: Horizon | None,
    window: Duration | None,
) -> np.ndarray:
    """End of observation of each cascade, float64, shape (C,)."""
    dates = records.dates
    if window is not None:
        with np.errstate(over="ignore"):
            ends = start + duration(window, dates)
        # 0.1 + 0.2 > 0.3: an infection at the very end of the window is inside
        slack = 4 * np.finfo(float).eps * np.maximum(np.abs(start), np.abs(last))
        ends = np.where(last <= ends + slack, np.maximum(ends, last), ends)
        if not np.isfinite(ends).all():
            raise ValueError(f"window must leave the horizon finite; got {show(window)}")
        return ends
    if horizon is None:
        end = last.max()
        warnings.warn(
            "neither horizon nor window given: observation of every cascade is taken to end at "
            f"the largest infection time, {show_time(end, dates)} ({records.source.name})",
            UserWarning,
            stacklevel=4,
        )
        return np.full(len(last), end)
    if not isinstance(horizon, Mapping) and not hasattr(horizon, "items"):
        return np.full(len(last), instant(horizon, dates, "horizon"))
    keys, values = zip(*horizon.items(), strict=True) if len(horizon) else ((), ())
    texts = label_texts(keys, "horizon")
    given = dict(zip(texts, values, strict=True))
    if len(given) < len(texts):
        raise FormatError("horizon must name each cascade once; got a label twice")
    for text in given.keys() ^ set(records.cascade_texts):
        problem = "names a cascade that is not in the data" if text in given else "lacks a cascade"
        raise FormatError(f"horizon {problem}: {show(text)} ({records.source.name})")
    return np.array([instant(given[t], dates, f"horizon[{t!r}]") for t in records.cascade_texts])


def _one_line(label: Label, also: str = "\n") -> str:
    text = str(label)
    if any(c in text for c in f"\r\n{also}"):
        raise ValueError(f"the label {show(label)} has a character this format has no place for")
    return text
