"""Cascades: the invariants, what argument means what, exact round trips, writing all or nothing."""

from __future__ import annotations

import copy
import datetime as dt
import gzip
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadenet.cascades import Cascades
from cascadenet.errors import FormatError

# Labels of every kind a file can hold, and what looks like other things
LABELS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(
        ["NA", "nan", "None", "1e3", " 1", "007", "-0", "+1", "a,b", 'a"b', "é", "日本"]
    ),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1),
).filter(lambda text: not text.isspace())
TIMES = st.one_of(
    st.floats(0, 1e12, allow_subnormal=False), st.integers(0, 5).map(float), st.floats(0, 1e300)
)


@st.composite
def infections(
    draw: st.DrawFn, labels: st.SearchStrategy[str] = LABELS, times: st.SearchStrategy = TIMES
) -> tuple[list[str], list[tuple[str, str, Any]]]:
    """Node labels, and rows (cascade, node, time) in any order without repeats."""
    nodes = draw(st.lists(labels, min_size=2, max_size=6, unique=True))
    cascades = draw(st.lists(labels, min_size=1, max_size=4, unique=True))
    pairs = [(c, v) for c in cascades for v in nodes]
    chosen = draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=12, unique=True))
    return nodes, [(c, v, draw(times)) for c, v in chosen]


def table(rows: list[tuple]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["cascade", "node", "time"])
    return frame.astype({"cascade": object, "node": object})


def small(**options: Any) -> Cascades:
    rows = [("x", 1, 0.0), ("x", 2, 1.5), ("y", 3, 2.0), ("y", 2, 2.0), ("z", 3, 4.0)]
    return Cascades.from_frame(table(rows), **({"horizon": 5.0, "nodes": [9]} | options))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cascades")


# Invariants


@given(infections())
def test_arrays_hold_the_infections_sorted(data: tuple) -> None:
    nodes, rows = data
    c = Cascades.from_frame(table(rows), nodes=nodes, horizon=1e301)
    assert (c.n_nodes, c.n_infections) == (len(nodes), len(rows))
    assert [str(label) for label in c.labels] == list(dict.fromkeys(row[0] for row in rows))
    assert list(c.nodes) == sorted(c.nodes)
    assert len({type(v) for v in c.nodes}) == len({type(v) for v in c.labels}) == 1
    dtypes = [c.offset.dtype, c.node.dtype, c.time.dtype, c.horizon.dtype]
    assert dtypes == [np.int64, np.int32, np.float64, np.float64]
    seen = []
    for k, label in enumerate(c.labels):
        part = slice(c.offset[k], c.offset[k + 1])
        order = list(zip(c.time[part].tolist(), c.node[part].tolist(), strict=True))
        assert order == sorted(order)
        assert order
        assert c.start[k] == order[0][0]
        seen += [(str(label), str(c.nodes[v]), t) for t, v in order]
    assert sorted(seen) == sorted(rows)


@given(infections(), st.randoms(use_true_random=False))
def test_order_of_rows_within_cascades_does_not_matter(data: tuple, random: Any) -> None:
    nodes, rows = data
    shuffled = random.sample(rows, len(rows))
    first = list(dict.fromkeys(row[0] for row in rows))
    shuffled.sort(key=lambda row: first.index(row[0]))
    one, two = (Cascades.from_frame(table(r), nodes=nodes, horizon=1e301) for r in (rows, shuffled))
    assert one == two
    assert one.fingerprint == two.fingerprint


def test_nothing_can_be_changed() -> None:
    c = small()
    for name in ("nodes", "labels", "offset", "node", "time", "horizon", "other"):
        with pytest.raises(AttributeError):
            setattr(c, name, ())
    with pytest.raises(AttributeError):
        del c.time
    for array in (c.offset, c.node, c.time, c.horizon):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    given_time = np.array([0.0, 1.0])
    c = Cascades.from_arrays([0, 1], [0, 2], [0, 1], given_time, 2.0)
    given_time[:] = 7
    assert c.time.tolist() == [0, 1]


def test_tables_of_any_integer_or_string_type_agree() -> None:
    base = pd.DataFrame({"cascade": [2, 2, 1], "node": [7, 5, 7], "time": [0.0, 1.0, 2.0]})
    expected = Cascades.from_frame(base, horizon=3)
    assert expected.nodes == (5, 7)
    assert expected.labels == (2, 1)
    for dtype in ("int8", "uint64", "Int64", "float64", "string", "str", object, "category"):
        frame = base.astype({"cascade": dtype, "node": dtype})
        assert Cascades.from_frame(frame, horizon=3) == expected, dtype
    for dtype in ("int16", "float32", "Int64", "Float64", "string", object):
        frame = base.astype({"time": dtype})
        assert Cascades.from_frame(frame, horizon=3) == expected, dtype
    assert Cascades.from_frame(base.set_index([[5, 5, 5]]), horizon=3) == expected


def test_one_string_makes_all_labels_strings() -> None:
    c = Cascades.from_frame(table([(0, 10, 0), (0, 9, 1)]), nodes=["x", 10], horizon=2)
    assert c.nodes == ("10", "9", "x")
    assert c.labels == (0,)
    c = Cascades.from_frame(table([(0, 1, 0), ("0", "2", 1), (0, "1", 3)]).iloc[:2], horizon=2)
    assert c.nodes == (1, 2)
    assert c.labels == (0,)


def test_singletons_and_ties_are_kept() -> None:
    c = small()
    assert c.offset.tolist() == [0, 2, 4, 5]
    assert c.node.tolist() == [0, 1, 1, 2, 2]
    assert c.time.tolist() == [0.0, 1.5, 2.0, 2.0, 4.0]
    assert c.nodes == (1, 2, 3, 9)


# Horizons


def test_horizon_given_in_every_way() -> None:
    assert small(horizon=5).horizon.tolist() == [5, 5, 5]
    assert small(horizon=np.float32(5)).horizon.tolist() == [5, 5, 5]
    assert small(horizon="5e0").horizon.tolist() == [5, 5, 5]
    assert small(horizon={"z": 4, "x": 3, "y": 2}).horizon.tolist() == [3, 2, 4]
    assert small(horizon=pd.Series({"x": 3, "y": 2, "z": 4})).horizon.tolist() == [3, 2, 4]
    assert small(horizon=None, window=2).horizon.tolist() == [2, 4, 6]
    numbered = table([(1, 1, 0), (2, 2, 1)])
    assert Cascades.from_frame(numbered, horizon={"1": 3, 2: 4}).horizon.tolist() == [3, 4]


def test_default_horizon_is_the_largest_time_and_says_so(scratch: Path) -> None:
    with pytest.warns(UserWarning, match=r"largest infection time, 4 \(the DataFrame\)") as caught:
        c = small(horizon=None)
    assert c.horizon.tolist() == [4, 4, 4]
    assert "small" in Path(caught[0].filename).read_text(encoding="utf-8")
    c.to_csv(scratch / "a.csv")
    c.to_snap(scratch / "a.txt")
    for read, name in ((Cascades.read_csv, "a.csv"), (Cascades.read_snap, "a.txt")):
        with pytest.warns(UserWarning, match=name) as caught:
            read(scratch / name)
        assert caught[0].filename == __file__


def test_no_warning_when_the_horizon_is_known() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(horizon=5)
        small(horizon=None, window=2)


def test_window_must_end() -> None:
    with pytest.raises(ValueError, match=r"window must leave the horizon finite; got 1e\+308"):
        Cascades.from_frame(table([(0, 1, 1e308), (0, 2, 1.1e308)]), window=1e308)


@given(st.decimals(0, 10**6, places=6), st.decimals("0.000001", 1000, places=6))
def test_window_includes_its_end(start: Any, window: Any) -> None:
    """Decimals whose float sum is off by rounding: the infection at the very end is inside."""
    rows = [(0, 1, float(start)), (0, 2, float(start + window))]
    c = Cascades.from_frame(table(rows), window=float(window))
    assert c.horizon[0] >= c.time[-1]
    assert c.horizon[0] == pytest.approx(float(start + window), rel=1e-12)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"horizon": 3.5},
            FormatError,
            r"time 4 is beyond the horizon 3.5 .row 4 of the DataFrame",
        ),
        ({"horizon": None, "window": 1.25}, FormatError, r"1.5 is beyond the horizon 1.25 .row 1"),
        ({"horizon": {"x": 1, "y": 2, "z": 4}}, FormatError, r"1.5 is beyond the horizon 1 .row 1"),
        ({"horizon": {"x": 5, "y": 5}}, FormatError, "horizon lacks a cascade: 'z'"),
        ({"horizon": dict.fromkeys("wxyz", 5)}, FormatError, "not in the data: 'w'"),
        ({"horizon": {}}, FormatError, "horizon lacks a cascade"),
        ({"horizon": pd.Series(5, index=list("xyzz"))}, FormatError, "once; got a label twice"),
        (
            {"horizon": {"x": 5, "y": 5, "z": np.nan}},
            ValueError,
            r"horizon\['z'\] must be a finite",
        ),
        ({"horizon": np.inf}, ValueError, "horizon must be a finite number; got inf"),
        ({"horizon": "soon"}, ValueError, "horizon must be a finite number; got 'soon'"),
        ({"horizon": [5, 5, 5]}, ValueError, "horizon must be a finite number; got"),
        ({"horizon": True}, ValueError, "horizon must be a finite number; got True"),
        ({"horizon": pd.NaT}, ValueError, "horizon must be a finite number; got NaT"),
        ({"horizon": np.datetime64("NaT")}, ValueError, "horizon must be a finite number; got"),
        ({"horizon": "2020-01-01"}, ValueError, "horizon must be a number, as the times are"),
        ({"horizon": dt.date(2020, 1, 1)}, ValueError, "horizon must be a number, as the times"),
        ({"window": 2}, ValueError, "horizon and window exclude each other"),
        ({"horizon": None, "window": 0}, ValueError, "window must be a number, above zero; got 0"),
        ({"horizon": None, "window": -1}, ValueError, "above zero; got -1"),
        ({"horizon": None, "window": np.nan}, ValueError, "above zero; got nan"),
        ({"horizon": None, "window": "30D"}, ValueError, "window must be a number.*got '30D'"),
        ({"horizon": None, "window": {"x": 1}}, ValueError, "window must be a number"),
        ({"duplicates": "last"}, ValueError, "duplicates must be 'error' or 'first'; got 'last'"),
        ({"nodes": "abc"}, TypeError, "nodes must be a list of labels; got 'abc'"),
        ({"nodes": 7}, TypeError, "nodes must be a list of labels; got int"),
        ({"nodes": [1, ""]}, FormatError, r"labels must not be blank; got '' \(nodes\[1\]\)"),
        ({"nodes": [1.5]}, FormatError, r"must be integers or strings; got 1.5 \(nodes\[0\]\)"),
        ({"node": "cascade"}, ValueError, "must name three columns"),
    ],
)
def test_bad_arguments(options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        small(**options)


# Dates


def test_dates_of_every_kind_agree(scratch: Path) -> None:
    texts = ["1969-12-31", "1970-01-02T12:00:00", "1970-01-01T06:00:00Z"]
    base = pd.DataFrame({"cascade": 0, "node": [1, 2, 3], "time": texts})
    plain = pd.to_datetime(["1969-12-31", "1970-01-02 12:00", "1970-01-01 06:00"], format="ISO8601")
    zone = plain.tz_localize("UTC").tz_convert("Asia/Tokyo")
    expected = [-1.0, 0.25, 1.5]
    columns = [texts, plain, zone, plain.astype("datetime64[s]"), list(plain.to_pydatetime())]
    columns.append([t.to_datetime64() for t in plain])
    columns.append([dt.date(1969, 12, 31), plain[1], texts[2]])
    for column in columns:
        c = Cascades.from_frame(base.assign(time=pd.Series(column)), horizon="1970-01-03")
        assert c.time.tolist() == expected
        assert c.horizon.tolist() == [2.0]
    base.to_csv(scratch / "dates.csv", index=False)
    assert Cascades.read_csv(scratch / "dates.csv", horizon=2).time.tolist() == expected


@pytest.mark.parametrize("window", ["2D", "48h", 2, dt.timedelta(2), np.timedelta64(48, "h")])
def test_dates_take_durations(window: Any) -> None:
    frame = pd.DataFrame({"cascade": 0, "node": [1, 2], "time": ["2020-02-28", "2020-03-01"]})
    c = Cascades.from_frame(frame, window=window)
    assert c.to_frame(dates=True)["time"].tolist() == [
        dt.datetime(2020, 2, 28),
        dt.datetime(2020, 3, 1),
    ]
    assert c.horizon[0] == c.time[0] + 2
    for horizon in ("2020-03-02", dt.date(2020, 3, 2), np.datetime64("2020-03-02")):
        assert Cascades.from_frame(frame, horizon=horizon).horizon[0] == c.time[1] + 1


def test_date_messages() -> None:
    frame = pd.DataFrame({"cascade": 0, "node": [1, 2], "time": ["2020-02-28", "2020-03-01"]})
    with pytest.raises(FormatError, match=r"2020-03-01 is beyond the horizon 2020-02-29 \(row 1"):
        Cascades.from_frame(frame, horizon="2020-02-29")
    with pytest.raises(ValueError, match="window must be days or a timedelta such as '30D'"):
        Cascades.from_frame(frame, window="a month")
    with pytest.raises(ValueError, match="horizon must be a finite number or a date"):
        Cascades.from_frame(frame, horizon="2020-02-30")
    with pytest.warns(UserWarning, match="largest infection time, 2020-03-01"):
        Cascades.from_frame(frame)


@given(
    infections(times=st.datetimes()),
)
def test_dates_come_back_exactly(scratch: Path, data: tuple) -> None:
    """For dates before 1970 and to the microsecond, where days have no exact float."""
    nodes, rows = data
    options = {"nodes": nodes, "horizon": dt.datetime.max}
    c = Cascades.from_frame(table(rows), **options)
    c.to_csv(scratch / "dates.csv", dates=True)
    assert Cascades.read_csv(scratch / "dates.csv", **options) == c
    assert Cascades.from_frame(c.to_frame(dates=True), **options) == c


# Faults in tables


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("time", [0, 1, np.nan], r"times must be finite; got nan \(row 2 of the DataFrame"),
        ("time", [0, -2, np.inf], r"times must not be negative; got -2 \(row 1"),
        ("time", [0, np.inf, -1], r"times must be finite; got inf \(row 1"),
        ("time", [0, 1, None], r"times must be finite; got nan \(row 2"),
        ("time", [0, "1", "x"], r"times must be numbers or ISO dates; got 'x' \(row 2"),
        ("time", [0, 1, [2]], r"times must be numbers or ISO dates; got \[2\] \(row 2"),
        ("time", [0, 1, True], r"times must be numbers or ISO dates; got True \(row 2"),
        ("time", [True, False, True], r"times must be numbers or ISO dates; got True \(row 0"),
        ("time", [0, 1j, 1], r"times must be numbers or ISO dates; got 0j"),
        ("time", [0, 1, "2020-01-01"], r"all numbers or all dates.*\(rows 0 and 2"),
        ("time", [0, 1, pd.NaT], r"times must be finite"),
        ("time", pd.to_datetime(["2020", "2021", None]), r"times must be finite; got NaT \(row 2"),
        ("time", pd.to_timedelta([0, 1, 2], unit="D"), "times must be numbers or ISO dates"),
        ("node", [1, 2, None], r"node labels must not be blank; got a missing value \(row 2"),
        ("node", ["a", "b", ""], r"node labels must not be blank; got '' \(row 2"),
        ("node", ["a", "b", "\0"], r"node labels must not contain NUL; got .* \(row 2"),
        ("node", ["a", "b", "\ud800"], r"node labels must be valid Unicode; got .* \(row 2"),
        ("node", [1, 2, 2.5], r"node labels must be integers or strings; got 2.5 \(row 2"),
        ("node", [1, 2, [3]], "node labels must be integers or strings"),
        ("node", [True, False, True], r"node labels must be integers or strings; got True \(row 0"),
        ("node", [7, 8, 7], r"a node is infected once in a cascade; got node '7' .*\(rows 0 and 2"),
        ("cascade", ["a", " ", "b"], r"cascade labels must not be blank; got ' ' \(row 1"),
        ("cascade", [0, 0, b"x"], r"cascade labels must be integers or strings; got b'x' \(row 2"),
    ],
)
def test_fault_in_table_is_named_with_its_row(column: str, values: Any, message: str) -> None:
    frame = pd.DataFrame({"cascade": [0, 1, 0], "node": [1, 2, 3], "time": [0.0, 1.0, 2.0]})
    frame.index = pd.Index([5, 5, 5])
    frame[column] = pd.Series(values, index=frame.index) if isinstance(values, list) else values
    with pytest.raises(FormatError, match=message):
        Cascades.from_frame(frame, horizon=9)


def test_faulty_tables() -> None:
    with pytest.raises(FormatError, match="missing column 'node'; the columns are"):
        Cascades.from_frame(pd.DataFrame({"cascade": [1], "time": [1]}))
    twice = pd.DataFrame([[1, 2, 3, 4]], columns=["cascade", "node", "node", "time"])
    with pytest.raises(FormatError, match="repeated column 'node'"):
        Cascades.from_frame(twice)
    with pytest.raises(FormatError, match="no infections"):
        Cascades.from_frame(pd.DataFrame({"cascade": [], "node": [], "time": []}))
    with pytest.raises(FormatError, match=r"two nodes or more; got only 5 \(the DataFrame\)"):
        Cascades.from_frame(table([(0, 5, 1), (1, 5, 1)]), horizon=2)
    with pytest.raises(TypeError, match="pandas DataFrame; got list"):
        Cascades.from_frame([(0, 5, 1)])  # type: ignore[arg-type]


def test_one_known_node_is_enough_with_another_in_the_data() -> None:
    assert Cascades.from_frame(table([(0, 5, 1)]), nodes=[6], horizon=2).nodes == (5, 6)


@given(st.permutations([("x", 1, 3.0), ("x", 2, 5.0), ("x", 1, 1.0), ("y", 1, 2.0), ("x", 1, 3.0)]))
def test_first_duplicate_by_time_is_kept(rows: list) -> None:
    c = Cascades.from_frame(table(rows), horizon=5, duplicates="first")
    kept = {(row.cascade, row.node, row.time) for row in c.to_frame().itertuples()}
    assert kept == {("x", 2, 5.0), ("x", 1, 1.0), ("y", 1, 2.0)}
    with pytest.raises(FormatError, match="infected once in a cascade"):
        Cascades.from_frame(table(rows), horizon=5)


# Arrays


FINGERPRINT = "b424c5b99f2f9d80a755b1ed0613f276fd8cc60e8ab8273372151e32820d690a"
GOOD = {
    "nodes": ["b", "a", "c"],
    "offset": [0, 2, 3],
    "node": [1, 0, 2],
    "time": [-1.0, 0.0, 4],
    "horizon": [1.0, 4.0],
    "labels": [7, 8],
}


def test_from_arrays_keeps_what_it_is_given() -> None:
    c = Cascades.from_arrays(**GOOD)
    assert (c.nodes, c.labels) == (("b", "a", "c"), (7, 8))
    assert c.node.tolist() == [1, 0, 2]
    c = Cascades.from_arrays(["0", "1", np.int64(2)], *list(GOOD.values())[1:4], 9)
    assert (c.nodes, c.labels) == ((0, 1, 2), (0, 1))
    assert c.horizon.tolist() == [9, 9]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"nodes": ["b", "a", "b"]}, FormatError, "nodes must differ; got 'b' twice"),
        ({"labels": [7, "7"]}, FormatError, "labels must differ; got 7 twice"),
        ({"nodes": [1, 2]}, ValueError, "node must be an index below 2; got 2"),
        ({"node": [1, -1, 2]}, ValueError, "node must be an index below 3; got -1"),
        ({"node": [1.0, 0.0, 2.0]}, TypeError, "node must hold integers; got dtype float64"),
        ({"node": [1, 0, 2**31]}, ValueError, "node must fit int32"),
        ({"node": [[1, 0, 2]]}, ValueError, "node must have one dimension"),
        ({"node": [1, 0]}, ValueError, "node and time must match|offset must rise"),
        ({"time": ["1", "2", "3"]}, TypeError, "time must hold numbers"),
        ({"time": [0.0, np.nan, 1]}, FormatError, "time must be finite; got nan at position 1"),
        ({"time": [1.0, 0.0, 4]}, ValueError, "sorted by time.*positions 0 and 1"),
        ({"time": [0.0, 0.0, 4]}, ValueError, "sorted by time, then node index"),
        ({"node": [1, 1, 2]}, FormatError, "got node 'a' twice in cascade 7"),
        ({"horizon": [0.5, 3.0]}, FormatError, "time 4 is beyond the horizon 3"),
        ({"horizon": np.inf}, FormatError, "horizon must be finite; got inf"),
        ({"horizon": [1.0]}, ValueError, "offset and horizon must have 2 . 1 and 2 entries"),
        ({"labels": [7]}, ValueError, "offset and horizon must have 1 . 1 and 1 entries"),
        ({"offset": [0, 0, 3]}, ValueError, "offset must rise from 0"),
        ({"offset": [0, 2, 2]}, ValueError, "offset must rise from 0"),
        ({"offset": [1, 2, 3]}, ValueError, "offset must rise from 0"),
        ({"nodes": ["a"]}, FormatError, "expected two nodes or more"),
        ({"offset": [0], "node": [], "time": [], "labels": None}, FormatError, "no infections"),
        ({"labels": ["", "x"]}, FormatError, r"labels must not be blank; got '' \(labels\[0\]\)"),
    ],
)
def test_from_arrays_refuses(change: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Cascades.from_arrays(**(GOOD | change))


def test_constructor_does_not_mix_labels() -> None:
    c = Cascades.from_arrays(**GOOD)
    with pytest.raises(TypeError, match="nodes must be all int or all str"):
        Cascades(("b", "a", 3), c.labels, c.offset, c.node, c.time, c.horizon)


# Parts, indices, identity


def test_subset_by_every_kind_of_index() -> None:
    c = small(horizon={"x": 5, "y": 6, "z": 7})
    one = c.subset(1)
    assert (one.labels, one.nodes, one.n_infections) == (("y",), c.nodes, 2)
    assert one.horizon.tolist() == [6]
    assert c.subset(-1).labels == ("z",)
    assert c.subset(np.int32(1)) == c.subset(slice(1, 2)) == c.subset([False, True, False]) == one
    back = c.subset([2, 0])
    assert (back.labels, back.time.tolist(), back.node.tolist()) == (
        ("z", "x"),
        [4, 0, 1.5],
        [2, 0, 1],
    )
    assert c.subset(slice(None)) == c.subset(np.ones(3, bool)) == c.subset(range(3)) == c


@pytest.mark.parametrize(
    ("i", "error"),
    [
        (3, IndexError),
        (-4, IndexError),
        ([True, False], IndexError),
        ([], ValueError),
        (slice(0, 0), ValueError),
        (np.zeros(3, bool), ValueError),
        ([0, 0], ValueError),
        ([0, -3], ValueError),
        (1.0, TypeError),
        ("x", TypeError),
        ([[0]], TypeError),
    ],
)
def test_subset_refuses(i: Any, error: type) -> None:
    with pytest.raises(error):
        small().subset(i)


def test_subset_keeps_string_labels_that_look_like_integers() -> None:
    rows = [("1", "a", 0), ("x", "b", 1)]
    part = Cascades.from_frame(table(rows), horizon=2).subset(0)
    assert part.labels == ("1",)
    assert pickle.loads(pickle.dumps(part)) == part


def test_index_of_labels() -> None:
    c = small()
    found = c.index_of([9, "2", np.int64(3), 1.0])
    assert (found.tolist(), found.dtype) == ([3, 1, 2, 0], np.int32)
    assert c.index_of(pd.Series(c.nodes)).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="labels must be nodes of these cascades; got '4'"):
        c.index_of([1, 4])
    with pytest.raises(TypeError, match="list of labels"):
        c.index_of("12")


@given(infections())
def test_copies_and_pickles_are_equal_and_frozen(data: tuple) -> None:
    nodes, rows = data
    c = Cascades.from_frame(table(rows), nodes=nodes, horizon=1e301)
    for other in (pickle.loads(pickle.dumps(c)), copy.copy(c), copy.deepcopy(c)):
        assert other == c
        assert hash(other) == hash(c)
        assert (other.nodes, other.labels) == (c.nodes, c.labels)
        assert not other.time.flags.writeable


def test_any_difference_is_a_difference() -> None:
    c = Cascades.from_arrays(**GOOD)
    changes: list[dict] = [
        {"nodes": ["b", "a", "d"]},
        {"nodes": ["a", "b", "c"]},
        {"labels": [7, 9]},
        {"labels": ["7", "x"]},
        {"offset": [0, 1, 3], "horizon": [1.0, 4.0]},
        {"node": [1, 2, 0]},
        {"time": [-1.0, 0.0, np.nextafter(4, 0)]},
        {"horizon": [1.0, np.nextafter(4, 5)]},
    ]
    others = [Cascades.from_arrays(**(GOOD | change)) for change in changes]
    assert all(other != c for other in others)
    assert len({c.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1
    assert c == Cascades.from_arrays(**GOOD)
    assert c != "c"


def test_fingerprint_is_the_same_everywhere() -> None:
    """A constant: it is stored with results, so another platform or version must find the same."""
    assert Cascades.from_arrays(**GOOD).fingerprint == FINGERPRINT
    negative_zero = GOOD | {"time": [-1.0, -0.0, 4.0]}
    assert Cascades.from_arrays(**negative_zero).fingerprint == FINGERPRINT


def test_repr_is_one_line_with_the_counts() -> None:
    expected = "<Cascades: 3 cascades, 4 nodes, 5 infections, times 0 to 4>"
    assert repr(small()) == expected
    assert len(small()) == 3


# Round trips


@given(infections(), st.sampled_from(["a.csv", "a.csv.gz"]))
def test_csv_reads_back_exactly(scratch: Path, data: tuple, name: str) -> None:
    nodes, rows = data
    c = Cascades.from_frame(table(rows), nodes=nodes, horizon=1e301)
    c.to_csv(scratch / name)
    assert Cascades.read_csv(scratch / name, nodes=nodes, horizon=1e301) == c
    assert Cascades.from_frame(c.to_frame(), nodes=nodes, horizon=1e301) == c
    assert ((scratch / name).read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


SNAP_LABELS = LABELS.filter(lambda text: not set(text) & set("\r\n;"))


@given(infections(SNAP_LABELS), st.sampled_from(["a.txt", "a.txt.gz"]))
def test_snap_reads_back_exactly(scratch: Path, data: tuple, name: str) -> None:
    nodes, rows = data
    c = Cascades.from_frame(table(rows), nodes=nodes, horizon=1e301)
    c.to_snap(scratch / name, variant="infopath")
    assert Cascades.read_snap(scratch / name, horizon=1e301) == c
    c.to_snap(scratch / name)
    back = Cascades.read_snap(scratch / name, horizon=1e301)
    assert back.labels == tuple(range(len(c)))
    frames = [x.to_frame().drop(columns="cascade") for x in (c, back)]
    pd.testing.assert_frame_equal(*frames)
    assert back.nodes == c.nodes


def test_files_hold_what_the_formats_say(tmp_path: Path) -> None:
    """Spelled out, so that writer and reader cannot be wrong together."""
    rows = [("p;", "a,b", 2), ("p;", 'c"', 0.5), ("q", "a,b", 1e-7)]
    c = Cascades.from_frame(table(rows), nodes=["d"], horizon=5)
    c.to_csv(tmp_path / "a.csv")
    expected = 'cascade,node,time\np;,"c""",0.5\np;,"a,b",2.0\nq,"a,b",1e-07\n'
    assert (tmp_path / "a.csv").read_text() == expected
    c.to_snap(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == '0,a,b\n1,c"\n2,d\n\n1,0.5,0,2.0\n0,1e-07\n'
    c.subset(1).to_snap(tmp_path / "a.txt", variant="infopath")
    assert (tmp_path / "a.txt").read_text() == '0,a,b\n1,c"\n2,d\n\nq;0,1e-07\n'
    with pytest.raises(ValueError, match="the label 'p;' has a character"):
        c.to_snap(tmp_path / "a.txt", variant="infopath")
    with pytest.raises(ValueError, match="variant must be 'netrate' or 'infopath'"):
        c.to_snap(tmp_path / "a.txt", variant="netinf")


def test_frame_columns() -> None:
    frame = small().to_frame()
    assert list(frame.columns) == ["cascade", "node", "time"]
    assert frame["node"].dtype == np.int64
    assert frame["cascade"].tolist() == ["x", "x", "y", "y", "z"]
    frame.loc[0, "time"] = 9.0  # a copy, not a window into the frozen array


# Writing is all or nothing


WRITERS: list[Callable[[Cascades, Path], None]] = [
    lambda c, path: c.to_csv(path),
    lambda c, path: c.to_csv(path, dates=True),
    lambda c, path: c.to_snap(path),
    lambda c, path: c.to_snap(path, variant="infopath"),
]


@pytest.mark.parametrize("write", WRITERS)
def test_failed_write_leaves_the_folder_as_it_was(
    tmp_path: Path, write: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.csv"
    path.write_text("old")

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(small(), path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"
    monkeypatch.undo()
    write(small(), path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() != "old"


@pytest.mark.parametrize("write", WRITERS)
def test_written_bytes_are_reproducible(tmp_path: Path, write: Callable) -> None:
    """The same for every name and moment: gzip stores both unless told not to."""
    for name in ("a.gz", "b.GZ"):
        write(small(), tmp_path / name)
    data = (tmp_path / "a.gz").read_bytes()
    assert data == (tmp_path / "b.GZ").read_bytes()
    assert data[3:8] == bytes(5)
    assert gzip.decompress(data)


def test_negative_times_are_written_only_as_dates(tmp_path: Path) -> None:
    c = Cascades.from_arrays(**GOOD)
    for write in (c.to_csv, c.to_snap):
        with pytest.raises(ValueError, match="below zero can be written only as dates"):
            write(tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []
    c.to_csv(tmp_path / "a.csv", dates=True)
    assert "b,1970-01-01\n" in (tmp_path / "a.csv").read_text()
    far = Cascades.from_arrays(**(GOOD | {"time": [0, 1, 1e8], "horizon": 1e9}))
    with pytest.raises(ValueError, match="dates go from year 1 to 9999; got 100000000 days"):
        far.to_csv(tmp_path / "b.csv", dates=True)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        small().to_csv(tmp_path / "none" / "a.csv")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        small().to_csv(tmp_path)
    assert list(tmp_path.iterdir()) == []
