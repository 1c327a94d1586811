"""Text files: tidy CSV, the formats of netinf, NetRate and InfoPath, node lists, networks.

Bytes become checked columns that remember on which line each record stood. The fast path never
looks at single records; only when something is wrong is the text walked again to find it. pandas is
imported only where a table is returned or taken.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import os
import re
import struct
import zlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.errors import FormatError
from cascadenet.fields import (
    Label,
    Source,
    canonical_labels,
    check_finite,
    encode,
    encode_column,
    label_array,
    label_text,
    label_texts,
    parse_numbers,
    parse_times,
    show,
)
from cascadenet.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd

PathLike = str | os.PathLike[str]


def read_text(path: PathLike) -> str:
    """Text of a file, UTF-8 with or without a byte order mark, gzip by content.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, OSError
        From the file system.
    FormatError
        Empty, truncated or damaged gzip data, not UTF-8, binary.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected a file")
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except EOFError:
            raise FormatError(
                f"the gzip data end too early: truncated file ({path.name})"
            ) from None
        except (OSError, zlib.error, struct.error) as error:
            raise FormatError(f"damaged gzip data: {error} ({path.name})") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise FormatError(
            f"expected UTF-8 text; got the byte 0x{error.object[error.start]:02x} "
            f"({path.name}, line {line})"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise FormatError(f"expected text; got binary data ({path.name}, line {line})")
    if not text or text.isspace():
        raise FormatError(f"the file is empty ({path.name})")
    return text


def write_bytes(path: PathLike, data: bytes) -> None:
    """Write a file at once or not at all; compressed, without a time stamp, when it ends in .gz.

    The bytes go to a new file in the same folder, which then replaces the target. On failure
    nothing is left behind and an old file stays as it was.

    Raises
    ------
    IsADirectoryError, FileNotFoundError, OSError
        A folder in the place of the file, no folder to put it in, anything else of the system.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {path.parent}")
    if path.suffix.lower() == ".gz":
        buffer = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as packed:
            packed.write(data)
        data = buffer.getvalue()
    with atomic_path(path) as partial:
        partial.write_bytes(data)


def quote(text: str) -> str:
    """A CSV field: quoted when it holds a comma, a quote or a line break."""
    if any(c in text for c in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _records(text: str, name: str) -> Iterable[tuple[int, list[str]]]:
    """Line on which each record of a CSV text begins, and its fields; blank lines are skipped."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    begin = 1
    try:
        for fields in reader:
            if fields:
                yield begin, fields
            begin = reader.line_num + 1
    except csv.Error as error:
        raise FormatError(f"not a CSV record: {error} ({name}, line {begin})") from None


def read_table(
    path: PathLike, required: Sequence[str], optional: Sequence[str] = ()
) -> tuple[dict[str, list[str]], Source]:
    """Columns of a CSV file with a header, as texts; other columns are ignored.

    Returns
    -------
    columns : dict of str -> list of str
        The required columns, and the optional ones that are there.
    source : Source

    Raises
    ------
    FormatError
        Missing or repeated column, wrong number of fields, bad quoting, no rows.
    """
    text, name = read_text(path), Path(path).name
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header, *rows = (fields for fields in reader if fields)
    except csv.Error:
        header, *rows = (fields for _, fields in _records(text, name))  # raises, with the line
    whole = Source(name, lambda: [line for line, _ in _records(text, name)])
    source = Source(name, lambda: whole.lines()[1:])
    for column in (*required, *optional):
        count = header.count(column)
        if count > 1 or (count == 0 and column in required):
            found = ", ".join(map(show, header[:12])) + (", ..." if len(header) > 12 else "")
            problem = "missing" if count == 0 else "repeated"
            whole.fail(f"{problem} column {show(column)}; the header has {found}", 0)
    if not rows:
        whole.fail("the file has a header but no rows")
    width = len(header)
    if set(map(len, rows)) != {width}:
        first = next(i for i, fields in enumerate(rows) if len(fields) != width)
        source.fail(f"expected {width} fields as in the header; got {len(rows[first])}", first)
    wanted = [column for column in (*required, *optional) if column in header]
    places = {column: header.index(column) for column in wanted}
    return {column: [fields[k] for fields in rows] for column, k in places.items()}, source


def check_distinct(columns: Mapping[str, Hashable]) -> None:
    """Raise ValueError when two roles are given one column name."""
    if len(set(columns.values())) < len(columns):
        got = ", ".join(map(show, columns.values()))
        raise ValueError(f"cascade, node and time must name three columns; got {got}")


def pick_columns(
    df: pd.DataFrame, wanted: Mapping[str, Hashable], source: Source
) -> dict[str, pd.Series]:
    """The wanted columns of a DataFrame by role; FormatError when one is not there, or twice."""
    check_distinct(wanted)
    for column in wanted.values():
        count = int(sum(name == column for name in df.columns))
        if count != 1:
            problem = "repeated" if count else "missing"
            found = show(list(df.columns))
            source.fail(f"{problem} column {show(column)}; the columns are {found}")
    return {role: df[column] for role, column in wanted.items()}


@dataclass(frozen=True)
class Block:
    """A file with a node block: code of each node id, names, and the lines that follow."""

    codes: dict[str, int]
    names: list[str]
    body: list[tuple[int, str]]
    source: Source

    def lookup(self, ids: Sequence[str], record: int) -> list[int]:
        """Codes of node ids; FormatError at the body line `record` when one is unknown."""
        try:
            return [self.codes[i] for i in ids]
        except KeyError:
            pass
        result = []
        for i in ids:
            code = self.codes.get(i.strip())
            if code is None:
                self.source.fail(f"unknown node id {show(i)}: not in the node block", record)
            result.append(code)
        return result


def read_block(path: PathLike) -> Block:
    """Node block ``id,name`` up to the first blank line, and the lines after it.

    The id is an integer and everything after the first comma is the name. Blank lines in the rest
    are skipped.

    Raises
    ------
    FormatError
        A line that is not id,name, a blank name, a repeated id or name, nothing after the block.
    """
    name = Path(path).name
    lines = [line.removesuffix("\r") for line in read_text(path).split("\n")]
    size = next((k for k, line in enumerate(lines) if not line.strip()), len(lines))
    block = Source(name, lambda: range(1, size + 1))
    codes: dict[str, int] = {}
    names: dict[str, int] = {}
    for k, line in enumerate(lines[:size]):
        identity, comma, label = line.partition(",")
        identity = identity.strip()
        if not comma or not re.fullmatch("-?[0-9]+", identity):
            block.fail(f"expected a node as id,name; got {show(line)}", k)
        try:
            label_text(label)
        except ValueError as error:
            block.fail(f"node {error}", k)
        if identity in codes:
            block.fail(f"the node id {show(identity)} occurs twice", codes[identity], k)
        if label in names:
            block.fail(f"the node name {show(label)} occurs twice", names[label], k)
        codes[identity] = names[label] = k
    if size == 0:
        raise FormatError(f"expected a node as id,name; got a blank line ({name}, line 1)")
    body = [(k + 1, line) for k, line in enumerate(lines[size:], size) if line.strip()]
    if not body:
        block.fail("the file ends after the node block; expected a blank line and more", size - 1)
    return Block(codes, list(names), body, Source(name, lambda: [line for line, _ in body]))


def read_cascade_lines(
    path: PathLike,
) -> tuple[Block, list[str], np.ndarray, np.ndarray, list[str], Source]:
    """Cascades of netinf and NetRate (``node,time,...``) or InfoPath (``cascade;node,time,...``).

    Returns
    -------
    block : Block
    labels : list of str, length C
        Ids of InfoPath, otherwise the position of the line from 0.
    cascade, node : ndarray of int64, shape (I,)
        Code of the cascade and of the node of each infection.
    times : list of str, length I
    source : Source of the infections

    Raises
    ------
    FormatError
        Odd number of fields, unknown node id, repeated cascade id, lines of both kinds.
    """
    block = read_block(path)
    with_id = ";" in block.body[0][1]
    seen: dict[str, int] = {}
    node: list[int] = []
    times: list[str] = []
    sizes: list[int] = []
    for k, (_, line) in enumerate(block.body):
        label, rest = str(k), line
        if with_id != (";" in line):
            expected = "cascade;node,time,..." if with_id else "node,time,..."
            block.source.fail(f"expected {expected} as on the lines before; got {show(line)}", k)
        if with_id:
            label, _, rest = line.partition(";")
            label = _cascade_id(label, seen, block.source, k)
        seen[label] = k
        fields = rest.split(",")
        if len(fields) % 2:
            got = f"{len(fields)} fields" if rest.strip() else "no infections"
            block.source.fail(f"expected pairs node,time; got {got}", k)
        node += block.lookup(fields[0::2], k)
        times += fields[1::2]
        sizes.append(len(fields) // 2)
    cascade = np.repeat(np.arange(len(sizes)), sizes)
    source = Source(block.source.name, lambda: [block.body[c][0] for c in cascade])
    return block, list(seen), cascade, np.array(node, dtype=np.int64), times, source


def _cascade_id(text: str, seen: dict[str, int], source: Source, record: int) -> str:
    try:
        label = label_text(text)
    except ValueError as error:
        source.fail(f"cascade {error}", record)
    if label in seen:
        source.fail(f"the cascade id {show(label)} occurs twice", seen[label], record)
    return label


def sniff(path: PathLike) -> str:
    """Guess of the format of a cascade or network file from its first line.

    Returns
    -------
    str
        ``"snap"`` when the first line is ``number,name``, the start of a node block, otherwise
        ``"csv"``.
    """
    first = read_text(path).split("\n", 1)[0]
    return "snap" if re.match(r"\s*-?[0-9]+\s*,", first) else "csv"


def read_nodes(path: PathLike) -> tuple[Label, ...]:
    """Node labels from a file with one label a line; blank lines and repeats are dropped.

    Parameters
    ----------
    path : path
        Text, gzip by content.

    Returns
    -------
    tuple of int or of str
        In the order of the file; int when every label is a canonical decimal integer.

    Raises
    ------
    FormatError
        Empty, not text.
    """
    lines = (line.removesuffix("\r") for line in read_text(path).split("\n"))
    return canonical_labels(dict.fromkeys(line for line in lines if line.strip()))


def read_network(path: PathLike) -> pd.DataFrame:
    """Read a network from tidy CSV or a text format of netinf, NetRate or InfoPath.

    Tidy CSV has a header with ``source,target`` and perhaps ``rate`` and ``start``; other columns
    are ignored. The text formats have a node block ``id,name``, a blank line, then lines
    ``source,target`` or ``source,target,rate`` or ``source,target,start,rate,start,rate,...``.
    Compressed files are recognised by content.

    Parameters
    ----------
    path : path

    Returns
    -------
    DataFrame
        Columns source, target (labels: names of the node block), rate (float64, 1 per unit of
        time, 1.0 where the file has none), and for rates that vary start (float64; dates as days
        since 1970-01-01): the rate holds from then on. Rows are in the order of the file, one a
        step. ``frame.attrs["nodes"]`` holds all labels, those of the node block too, sorted.
        Labels are int when all are canonical decimal integers, otherwise str, as in `Cascades`.

    Raises
    ------
    FormatError
        Bad input, with file and line: wrong number of fields, unknown node id, a rate that is not
        a finite number >= 0, an edge from a node to itself, a repeated edge (and start).
    """
    if sniff(path) == "csv":
        table, source = read_table(path, ("source", "target"), ("rate", "start"))
        ends, names = encode(
            table["source"] + table["target"], "node", source, len(table["source"])
        )
        tail, head = ends.reshape(2, -1)
        rate, start = table.get("rate"), table.get("start")
    else:
        names, tail, head, rate, start, source = _read_edge_lines(path)
    rates = np.ones(len(tail)) if rate is None else parse_numbers(rate, "rates", source)
    starts = None if start is None else parse_times(start, source, "starts", negative=True)[0]
    check_edges(tail, head, starts, names, source)
    return _network_frame(tail, head, rates, starts, names)


def _read_edge_lines(
    path: PathLike,
) -> tuple[list[str], np.ndarray, np.ndarray, list[str] | None, list[str] | None, Source]:
    """Names, codes of source and target, texts of rate and start of the lines after a block."""
    block = read_block(path)
    kinds = {2: "source,target", 3: "source,target,rate"}
    steps = "source,target,start,rate,..."
    expected = kinds.get(block.body[0][1].count(",") + 1, steps)
    pairs: list[list[int]] = []
    rate: list[str] = []
    start: list[str] = []
    sizes: list[int] = []
    for k, (_, line) in enumerate(block.body):
        fields = line.split(",")
        if kinds.get(len(fields), steps) != expected or (expected == steps and len(fields) % 2):
            block.source.fail(f"expected {expected}; got {len(fields)} fields", k)
        pairs.append(block.lookup(fields[:2], k))
        rate += fields[3::2] if expected == steps else fields[2:]
        start += fields[2::2] if expected == steps else []
        sizes.append(max(1, (len(fields) - 2) // 2))
    record = np.repeat(np.arange(len(sizes)), sizes)
    ends = np.array(pairs, dtype=np.int64)[record]
    source = Source(block.source.name, lambda: [block.body[k][0] for k in record])
    return block.names, ends[:, 0], ends[:, 1], rate or None, start or None, source


def check_edges(
    tail: np.ndarray,
    head: np.ndarray,
    start: np.ndarray | None,
    names: Sequence[str],
    source: Source,
) -> None:
    """Raise FormatError for an edge from a node to itself or a repeated edge."""
    if (tail == head).any():
        first = int((tail == head).argmax())
        source.fail(f"an edge must join two nodes; got {show(names[tail[first]])} twice", first)
    keys = [head, tail] if start is None else [start, head, tail]
    order = np.lexsort(keys)
    same = np.all([key[order][1:] == key[order][:-1] for key in keys], axis=0)
    if same.any():
        k = int(np.flatnonzero(same)[np.argmin(order[1:][same])])
        edge = f"{show(names[tail[order[k]]])} -> {show(names[head[order[k]]])}"
        source.fail(f"the edge {edge} occurs twice", order[k], order[k + 1])


def _network_frame(
    tail: np.ndarray,
    head: np.ndarray,
    rate: np.ndarray,
    start: np.ndarray | None,
    names: Sequence[str],
) -> pd.DataFrame:
    import pandas as pd

    labels = canonical_labels(names)
    array = label_array(labels)
    columns: dict[str, Any] = {"source": array[tail], "target": array[head], "rate": rate}
    if start is not None:
        columns["start"] = start
    frame = pd.DataFrame(columns)
    frame.attrs["nodes"] = tuple(sorted(labels))  # type: ignore[type-var]
    return frame


def write_network(
    frame: pd.DataFrame, path: PathLike, nodes: Iterable[Hashable] | None = None
) -> None:
    """Write a network as tidy CSV, ``source,target,rate`` and ``start`` when there is one.

    Numbers read back exactly; the file appears whole or not at all; a name that ends in .gz is
    compressed.

    Parameters
    ----------
    frame : DataFrame
        Columns source and target, perhaps rate (default 1.0) and start. Others are not written, so
        an edge table can be given as it is.
    path : path
    nodes : iterable of labels, optional
        The nodes there are: an edge with another is an error. The format has no place for nodes
        without edges, so they are not written.

    Raises
    ------
    FormatError
        What `read_network` would refuse, or a node that is not in `nodes`.
    """
    import pandas as pd

    source, size = Source("the DataFrame"), len(frame)
    columns = pick_columns(frame, {"source": "source", "target": "target"}, source)
    if not size:
        raise FormatError("no edges: the DataFrame has no rows")
    both = pd.concat([columns["source"].astype(object), columns["target"].astype(object)])
    ends, names = encode_column(both, "node", source, size)
    tail, head = ends.reshape(2, size)
    if nodes is not None:
        known = set(label_texts(nodes, "nodes"))
        unknown = np.array([text not in known for text in names])[ends]
        if unknown.any():
            first = int(unknown.argmax())
            source.fail(f"{show(names[ends[first]])} is not among the nodes given", first % size)
    rate = _numbers(frame["rate"], "rates", source) if "rate" in frame else np.ones(size)
    check_finite(rate, "rates", source)
    texts = {
        "source": [quote(names[k]) for k in tail],
        "target": [quote(names[k]) for k in head],
        "rate": map(repr, rate.tolist()),
    }
    start = _numbers(frame["start"], "starts", source) if "start" in frame else None
    if start is not None:
        check_finite(start, "starts", source, negative=True)
        texts["start"] = map(repr, start.tolist())
    check_edges(tail, head, start, names, source)
    lines = [",".join(texts), *map(",".join, zip(*texts.values(), strict=True))]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def _numbers(column: pd.Series, what: str, source: Source) -> np.ndarray:
    try:
        return column.to_numpy(dtype=np.float64, na_value=math.nan)
    except (TypeError, ValueError):
        source.fail(f"{what} must be numbers; got a column of {column.dtype}")
