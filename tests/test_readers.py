"""Text files: what each format means, what is refused and where, and that nothing else escapes."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cascadenet.cascades import Cascades, read_network, read_nodes, sniff, write_network
from cascadenet.errors import FormatError

BLOCK = "0,a\n1,b\n2,c\n\n"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readers") / "in.txt"


def csv(path: Path, text: str | bytes, **options: object) -> Cascades:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return Cascades.read_csv(path, **({"horizon": 100} | options))


def snap(path: Path, text: str | bytes, **options: object) -> Cascades:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return Cascades.read_snap(path, **({"horizon": 100} | options))


def network(path: Path, text: str | bytes) -> pd.DataFrame:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_network(path)


def rows(cascades: Cascades) -> list[tuple]:
    return list(cascades.to_frame().itertuples(index=False, name=None))


# What is read


PLAIN = "cascade,node,time\nx,1,0\nx,2,1.5\ny,2,3\n"
PLAIN_ROWS = [("x", 1, 0.0), ("x", 2, 1.5), ("y", 2, 3.0)]


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\n\n"),
        "\n\n" + PLAIN.rstrip("\n"),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        gzip.compress(PLAIN.encode()),
        gzip.compress(b"\xef\xbb\xbf" + PLAIN.replace("\n", "\r\n").encode()),
        'time,extra,node,cascade\n"0",?,"1",x\n1.5,",",2,"x"\n+3e0,"line\nbreak",2,y\n',
        "cascade,node,time\ny,2,3\nx,2,1.5\nx,1,0\n",
    ],
    ids=["plain", "crlf", "blank", "loose", "bom", "gz", "gz-crlf", "columns", "order"],
)
def test_csv_variants_mean_the_same(scratch: Path, text: str | bytes) -> None:
    assert sorted(rows(csv(scratch, text))) == PLAIN_ROWS


def test_csv_columns_by_name(scratch: Path) -> None:
    text = "id,site,t,time\n7,a,1,x\n7,b,2,y\n"
    assert rows(csv(scratch, text, cascade="id", node="site", time="t")) == [
        (7, "a", 1.0),
        (7, "b", 2.0),
    ]


@pytest.mark.parametrize("label", ["NA", "nan", "None", "1e3", " 1", "007", "+1", "-0", "1.0", "é"])
def test_labels_are_taken_as_written(scratch: Path, label: str) -> None:
    cascades = csv(scratch, f"cascade,node,time\n{label},{label},0\n{label},2,1\n")
    assert set(cascades.nodes) == {label, "2"}
    assert cascades.labels == (label,)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["10", "9", "-3"], (-3, 9, 10)),
        (["10", "9", "x"], ("10", "9", "x")),
        (["10", "9", "09"], ("09", "10", "9")),
        (["9223372036854775807", "1"], (1, 2**63 - 1)),
        (["9223372036854775808", "1"], ("1", "9223372036854775808")),
        (["9" * 5000, "1"], ("1", "9" * 5000)),
        (["ö", "z", "日本"], ("z", "ö", "日本")),
    ],
)
def test_labels_are_integers_only_together(
    scratch: Path, texts: list[str], expected: tuple
) -> None:
    body = "".join(f"c,{text},{t}\n" for t, text in enumerate(texts))
    assert csv(scratch, "cascade,node,time\n" + body).nodes == expected
    scratch.write_text("\n".join(texts), encoding="utf-8")
    assert sorted(read_nodes(scratch)) == sorted(expected)
    pairs = "".join(f"{texts[0]},{text}\n" for text in texts[1:])
    assert network(scratch, "source,target\n" + pairs).attrs["nodes"] == expected


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_snap_variants(scratch: Path, ending: str, packed: bool) -> None:
    def read(text: str) -> Cascades:
        data = (BLOCK + text).replace("\n", ending).encode()
        return snap(scratch, gzip.compress(data) if packed else data)

    plain = read(" 2 , 5.0,0,1e0\n\n1,2\n")
    named = read("p;0,1,2,5\nq;1,2.0\n")
    assert plain.nodes == named.nodes == ("a", "b", "c")
    assert rows(plain) == [(0, "a", 1.0), (0, "c", 5.0), (1, "b", 2.0)]
    assert rows(named) == [("p", "a", 1.0), ("p", "c", 5.0), ("q", "b", 2.0)]


def test_snap_block_is_the_universe(scratch: Path) -> None:
    text = "7,new york, ny\n 8 ,é\n9,never\n\n8,1,7,2\n"
    cascades = snap(scratch, text, nodes=["more"])
    assert cascades.nodes == ("more", "never", "new york, ny", "é")
    assert rows(cascades) == [(0, "é", 1.0), (0, "new york, ny", 2.0)]


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("1970-01-02", 1.0),
        ("1969-12-31", -1.0),
        ("1970-01-01T12:00", 0.5),
        ("1970-01-01 12:00:00", 0.5),
        ("1970-01-01T12:00:00.5Z", 0.5 + 0.5 / 86400),
        ("1970-01-02T01:00+01:00", 1.0),
        ("1970-01-01T23:00:00-0100", 1.0),
        ("2000-02-29", 11016.0),
    ],
)
def test_dates_are_days_since_1970(scratch: Path, text: str, days: float) -> None:
    start = "1691-01-01"
    cascades = csv(scratch, f"cascade,node,time\n0,1,{text}\n0,2,{start}\n", horizon="2030-01-01")
    assert cascades.time.tolist() == [-101902.0, days]
    assert cascades.horizon.tolist() == [21915.0]


def test_nodes_one_a_line(scratch: Path) -> None:
    scratch.write_bytes(gzip.compress(b"\xef\xbb\xbf12\r\n\r\n5\n12\n"))
    assert read_nodes(scratch) == (12, 5)
    scratch.write_text("NA\n 1\n1\n", encoding="utf-8")
    assert read_nodes(scratch) == ("NA", " 1", "1")


def test_network_variants(scratch: Path) -> None:
    expected = [("a", "b", 1.0), ("c", "a", 1.0)]
    for text in (
        BLOCK + "0,1\n2,0\n",
        "source,target\na,b\nc,a\n",
        "x,target,source\n,b,a\n,a,c\n",
    ):
        frame = network(scratch, text)
        assert list(frame.itertuples(index=False, name=None)) == expected
        assert list(frame.columns) == ["source", "target", "rate"]
    for text in (BLOCK + "0,1,0.5\n2,0,0\n", "source,target,rate\na,b,.5\nc,a,0.0\n"):
        assert network(scratch, text)["rate"].tolist() == [0.5, 0.0]
    steps = [("a", "b", 0.1, 0.0), ("a", "b", 0.2, 5.0), ("c", "a", 1.0, -1.0)]
    tidy = "source,target,start,rate\na,b,0,.1\na,b,5,.2\nc,a,-1,1\n"
    for text in (BLOCK + "0,1,0,.1,5,.2\n\n2,0,-1,1\n", tidy):
        frame = network(scratch, text)
        assert list(frame.itertuples(index=False, name=None)) == steps
    assert network(scratch, BLOCK + "0,1\n").attrs["nodes"] == ("a", "b", "c")


def test_network_labels_are_those_of_cascades(scratch: Path) -> None:
    block = "0,10\n1,9\n\n"
    assert network(scratch, block + "0,1\n")["source"].tolist() == [10]
    assert snap(scratch, block + "0,1,1,2\n").nodes == (9, 10)
    assert network(scratch, "source,target\n10,x\n")["source"].tolist() == ["10"]


def test_sniff(scratch: Path) -> None:
    for text, kind in [(PLAIN, "csv"), (BLOCK + "0,1,1,2\n", "snap"), ("source,target\n", "csv")]:
        scratch.write_text(text)
        assert sniff(scratch) == kind


# What is refused: text, what the message says. Lines are those of the decompressed text.


CSV_FAULTS = {
    "empty": ("", ["the file is empty (in.txt)"]),
    "blank": ("\n \r\n", ["the file is empty (in.txt)"]),
    "header only": ("cascade,node,time\n", ["header but no rows (in.txt)"]),
    "missing column": (
        "\ncascade,who,time\n",
        ["missing column 'node'", "'cascade', 'who', 'time'"],
    ),
    "missing column line": ("\ncascade,who,time\n", ["in.txt, line 2"]),
    "spaced column": ("cascade, node,time\n1,2,3\n", ["missing column 'node'", "' node'"]),
    "semicolons": ("cascade;node;time\n1;2;3\n", ["missing column", "'cascade;node;time'"]),
    "repeated column": ("cascade,node,time,time\n1,2,3,4\n", ["repeated column 'time'", "line 1"]),
    "nan": (PLAIN + "y,3,nan\n", ["times must be finite; got nan (in.txt, line 5)"]),
    "NA": (PLAIN + "y,3,NA\n", ["times must be numbers or ISO dates; got 'NA' (in.txt, line 5)"]),
    "no time": (PLAIN + "y,3,\n", ["times must be numbers or ISO dates; got '' (in.txt, line 5)"]),
    "word": (PLAIN + "y,3,soon\n", ["times must be numbers or ISO dates; got 'soon'", "line 5"]),
    "underscore": (PLAIN + "y,3,1_0\n", ["times must be numbers", "'1_0'", "line 5"]),
    "other digits": (PLAIN + "y,3,\u0661\n", ["times must be numbers", "line 5"]),
    "negative": (PLAIN + "y,3,-1\n", ["times must not be negative; got -1 (in.txt, line 5)"]),
    "infinite": (PLAIN + "y,3,inf\n", ["times must be finite; got inf (in.txt, line 5)"]),
    "minus infinite": (PLAIN + "y,3,-Infinity\n", ["times must be finite; got -inf", "line 5"]),
    "overflow": (PLAIN + "y,3,1e400\n", ["times must be finite; got inf", "line 5"]),
    "no such day": (PLAIN[:18] + "0,1,2001-02-30\n", ["numbers or ISO dates", "'2001-02-30'"]),
    "mixed": (PLAIN + "y,3,2001-02-03\n", ["all numbers or all dates", "lines 2 and 5"]),
    "mixed other way": (
        "cascade,node,time\n0,1,2001-02-03\n\n0,2,5\n",
        ["got '2001-02-03' and '5' (in.txt, lines 2 and 4)"],
    ),
    "duplicate": (
        PLAIN + "y,1,3\nx,2,9\n",
        ["got node '2' twice in cascade 'x' (in.txt, lines 3 and 6)"],
    ),
    "beyond": (PLAIN + "y,3,100.5\n", ["time 100.5 is beyond the horizon 100 (in.txt, line 5)"]),
    "one node": ("cascade,node,time\na,1,0\nb,1,1\n", ["two nodes or more; got only 1 (in.txt)"]),
    "blank node": (PLAIN + "y,,1\n", ["node labels must not be blank; got '' (in.txt, line 5)"]),
    "space node": (PLAIN + 'y," ",1\n', ["node labels must not be blank; got ' '", "line 5"]),
    "blank cascade": (PLAIN + ",3,1\n", ["cascade labels must not be blank", "line 5"]),
    "few fields": (PLAIN + "y,3\n", ["expected 3 fields as in the header; got 2 (in.txt, line 5)"]),
    "many fields": (PLAIN + "y,3,1,\n", ["expected 3 fields", "got 4 (in.txt, line 5)"]),
    "open quote": (PLAIN + 'y,"3,1\n\n\n', ["not a CSV record", "(in.txt, line 5)"]),
    "stray quote": (PLAIN + 'y,"3"3,1\n', ["not a CSV record", "(in.txt, line 5)"]),
    "long field": (PLAIN + f"y,{'3' * 200_000},1\n", ["not a CSV record", "(in.txt, line 5)"]),
    "after quoted break": (
        'cascade,node,time,note\n0,1,0,"a\nb\n\nc"\n\n0,2,-1,"d\ne"\n',
        ["got -1 (in.txt, line 7)"],
    ),
    "crlf": (PLAIN.replace("\n", "\r\n") + "y,3,-1\r\n", ["(in.txt, line 5)"]),
    "binary": (b"cascade,node,time\n\x00\x01\n", ["got binary data (in.txt, line 2)"]),
    "latin-1": (PLAIN.encode() + b"y,\xe9,1\n", ["expected UTF-8", "0xe9 (in.txt, line 5)"]),
    "latin-1 with bom": (b"\xef\xbb\xbfa\nb\n\xe9", ["expected UTF-8", "0xe9 (in.txt, line 3)"]),
    "utf-16": (PLAIN.encode("utf-16"), ["expected UTF-8", "(in.txt, line 1)"]),
    "truncated gz": (gzip.compress(PLAIN.encode())[:-9], ["truncated file (in.txt)"]),
    "gz header": (b"\x1f\x8b", ["truncated file (in.txt)"]),
    "damaged gz": (gzip.compress(PLAIN.encode())[:-8] + b"12345678", ["damaged gzip data"]),
    "gz rubbish": (b"\x1f\x8b\x08\x00" + bytes(6) + b"\xff" * 40, ["damaged gzip data", "in.txt"]),
    "gz line": (gzip.compress(PLAIN.encode() + b"y,3,-1\n"), ["got -1 (in.txt, line 5)"]),
}
SNAP_FAULTS = {
    "empty": ("", ["the file is empty (in.txt)"]),
    "no block": ("\n0,1\n", ["expected a node as id,name; got a blank line (in.txt, line 1)"]),
    "cascades only": ("5;0,1,2,3\n", ["expected a node as id,name; got '5;0,1,2,3'", "line 1"]),
    "csv": (PLAIN, ["expected a node as id,name; got 'cascade,node,time' (in.txt, line 1)"]),
    "no comma": ("0,a\n1\n\n0,1\n", ["expected a node as id,name; got '1' (in.txt, line 2)"]),
    "no blank line": ("0,a\n1,b\n", ["the file ends after the node block", "(in.txt, line 2)"]),
    "no infections": (BLOCK, ["the file ends after the node block", "(in.txt, line 3)"]),
    "repeated id": ("0,a\n1,b\n0,c\n\n0,1\n", ["node id '0' occurs twice (in.txt, lines 1 and 3)"]),
    "repeated name": ("0,a\n1,a\n\n0,1\n", ["node name 'a' occurs twice (in.txt, lines 1 and 2)"]),
    "blank name": ("0,a\n1, \n\n0,1\n", ["node labels must not be blank; got ' '", "line 2"]),
    "blank id": ("0,a\n,b\n\n0,1\n", ["expected a node as id,name; got ',b' (in.txt, line 2)"]),
    "odd": (BLOCK + "0,1\n\n0,1,2\n", ["pairs node,time; got 3 fields (in.txt, line 7)"]),
    "comma at the end": (BLOCK + "0,1,\n", ["pairs node,time; got 3 fields (in.txt, line 5)"]),
    "empty cascade": (BLOCK + "7;0,1\n8;\n", ["pairs node,time; got no infections", "line 6"]),
    "unknown id": (BLOCK + "0,1,3,2\n", ["unknown node id '3': not in the node block", "line 5"]),
    "two variants": (
        BLOCK + "0,1\n7;0,1\n",
        ["expected node,time,...", "'7;0,1' (in.txt, line 6)"],
    ),
    "two variants again": (BLOCK + "7;0,1\n0,1\n", ["expected cascade;node,time", "line 6"]),
    "repeated cascade": (BLOCK + "7;0,1\n7;1,1\n", ["id '7' occurs twice (in.txt, lines 5 and 6)"]),
    "blank cascade": (BLOCK + "7;0,1\n ;1,1\n", ["cascade labels must not be blank", "line 6"]),
    "nan": (BLOCK + "0,1\n0,2,1,nan\n", ["times must be finite; got nan (in.txt, line 6)"]),
    "negative": (BLOCK + "0,1\n\n0,2,1,-3\n", ["must not be negative; got -3 (in.txt, line 7)"]),
    "word": (BLOCK + "0,1\n0,2,1,b\n", ["times must be numbers or ISO dates; got 'b'", "line 6"]),
    "duplicate": (BLOCK + "0,1\n0,2,1,1,0,3\n", ["node 'a' twice in cascade '1' (in.txt, line 6)"]),
    "beyond": (BLOCK + "0,1\n0,2,1,101\n", ["101 is beyond the horizon 100 (in.txt, line 6)"]),
    "one node": ("0,a\n\n0,1\n", ["two nodes or more; got only 'a' (in.txt)"]),
    "binary": (BLOCK.encode() + b"\x00", ["got binary data (in.txt, line 5)"]),
    "truncated gz": (gzip.compress(BLOCK.encode())[:-1], ["truncated file (in.txt)"]),
}
NETWORK_FAULTS = {
    "empty": ("", ["the file is empty"]),
    "header only": ("source,target\n", ["header but no rows"]),
    "missing column": ("source,to\n1,2\n", ["missing column 'target'", "'source', 'to'", "line 1"]),
    "blank label": ("source,target\na,b\nb,\n", ["node labels must not be blank", "line 3"]),
    "self": ("source,target\na,b\nb,b\n", ["join two nodes; got 'b' twice (in.txt, line 3)"]),
    "twice": (
        "source,target\na,b\nb,a\na,b\n",
        ["'a' -> 'b' occurs twice (in.txt, lines 2 and 4)"],
    ),
    "start twice": ("source,target,start\na,b,1\nb,a,1\na,b,1.0\n", ["lines 2 and 4"]),
    "negative rate": ("source,target,rate\na,b,-1\n", ["rates must not be negative; got -1"]),
    "nan rate": (
        "source,target,rate\na,b,1\nb,a,nan\n",
        ["rates must be finite; got nan", "line 3"],
    ),
    "word rate": (
        "source,target,rate\na,b,1\nb,a,x\n",
        ["rates must be numbers; got 'x' (in.txt, line 3)"],
    ),
    "word start": (
        "source,target,start\na,b,x\n",
        ["starts must be numbers or ISO dates", "line 2"],
    ),
    "nothing": (BLOCK, ["the file ends after the node block"]),
    "unknown id": (BLOCK + "0,1\n0,5\n", ["unknown node id '5'", "(in.txt, line 6)"]),
    "one field": (BLOCK + "0\n", ["expected source,target,start,rate,...; got 1", "line 5"]),
    "mixed": (BLOCK + "0,1\n0,2,1\n", ["expected source,target; got 3 fields (in.txt, line 6)"]),
    "odd": (BLOCK + "0,1,0,1,2\n", ["expected source,target,start,rate,...; got 5", "line 5"]),
    "step twice": (BLOCK + "0,1,0,1\n0,2,0,1,0,2\n", ["'a' -> 'c' occurs twice (in.txt, line 6)"]),
}
FAULTS = [
    pytest.param(read, text, parts, id=f"{kind}-{name}")
    for kind, read, faults in (
        ("csv", csv, CSV_FAULTS),
        ("snap", snap, SNAP_FAULTS),
        ("network", network, NETWORK_FAULTS),
    )
    for name, (text, parts) in faults.items()
]


@pytest.mark.parametrize(("read", "text", "parts"), FAULTS)
def test_fault_is_named_with_its_place(
    scratch: Path, read: Callable, text: str | bytes, parts: list[str]
) -> None:
    with pytest.raises(FormatError) as caught:
        read(scratch, text)
    message = str(caught.value)
    assert [part for part in parts if part not in message] == [], message
    assert "\n" not in message
    assert len(message) < 300


def test_nodes_faults(scratch: Path) -> None:
    for data, part in [(b"", "empty"), (b"\xff", "UTF-8"), (b"a\x00", "binary")]:
        scratch.write_bytes(data)
        with pytest.raises(FormatError, match=part):
            read_nodes(scratch)


@pytest.mark.parametrize(
    "read", [Cascades.read_csv, Cascades.read_snap, read_network, read_nodes, sniff]
)
def test_no_file_is_an_error_of_the_system(tmp_path: Path, read: Callable) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*none\.csv"):
        read(tmp_path / "none.csv")
    with pytest.raises(IsADirectoryError, match="is a folder; expected a file"):
        read(str(tmp_path))


def test_valid_text_has_none_of_the_faults(scratch: Path) -> None:
    """The texts around which the faults are built are fine without them."""
    assert len(csv(scratch, PLAIN + "y,3,100\n")) == 2
    assert len(snap(scratch, BLOCK + "0,1\n0,2,1,100\n")) == 2
    assert len(network(scratch, BLOCK + "0,1\n0,2\n")) == 2


# Nothing but FormatError escapes


READERS = {
    "csv": Cascades.read_csv,
    "snap": Cascades.read_snap,
    "network": read_network,
    "nodes": read_nodes,
    "sniff": sniff,
}
SEEDS = [
    PLAIN,
    BLOCK + "0,1,1,2.5\n2,0,1,4\n",
    BLOCK + "x;0,1,1,2.5\ny;2,0,1,4\n",
    BLOCK + "0,1,0,.1,5,.2\n2,0,-1,1\n",
    "source,target,rate,start\na,b,1,2\nb,a,0,1e3\n",
    'cascade,node,time\n0,1,2001-02-03\n"0","é",1999-01-01T10:00:00.5+01:00\n',
]
PIECES = [*",;\n\r\"' ", "\x85", "\0", "nan", "-", "1e999", "1_0", "9" * 30, "2001-02-30", "é", "a"]


@st.composite
def mutilated(draw: st.DrawFn) -> bytes:
    """A valid file with pieces cut, doubled or put in, perhaps compressed and cut again."""
    data = draw(st.sampled_from(SEEDS)).encode()
    for _ in range(draw(st.integers(0, 4))):
        at, to = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        middle = draw(
            st.sampled_from([b"", data[at:to] * 2]) | st.sampled_from(PIECES).map(str.encode)
        )
        data = data[:at] + middle + data[to:]
    if draw(st.booleans()):
        data = gzip.compress(data, mtime=0)
        at = draw(st.integers(0, len(data)))
        data = draw(st.sampled_from([data, data[:at], data[:at] + b"\xff" + data[at + 1 :]]))
    return data


@given(data=st.binary(max_size=200) | mutilated() | mutilated() | mutilated())
@example(data=b"\x1f\x8b\x08\x04" + bytes(6) + b"\xff\xff")
@example(data=b"cascade,node,time\n0,1,0001-01-01T00:00+23:59\n0,2,9999-12-31T23:59-23:59\n")
@example(data=b"cascade,node,time\n0,1,1e308\n0,2,0\n")
def test_only_format_errors_escape(scratch: Path, data: bytes) -> None:
    scratch.write_bytes(data)
    for name, read in READERS.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.filterwarnings("ignore", "neither horizon nor window")
                read(scratch)
        except FormatError as error:
            assert "in.txt" in str(error), name
            assert "\n" not in str(error), name


def test_mutilation_leaves_some_files_readable(scratch: Path) -> None:
    """The fuzz test sees both outcomes; otherwise it would test one error over and over."""
    outcomes = set()

    @given(data=mutilated())
    def visit(data: bytes) -> None:
        scratch.write_bytes(data)
        try:
            Cascades.read_csv(scratch, horizon=1e300)
            outcomes.add("read")
        except FormatError as error:
            outcomes.add(str(error).split(" ")[0])
        except ValueError:
            outcomes.add("dates with a numeric horizon")

    visit()
    assert "read" in outcomes
    assert len(outcomes) > 5


# Networks written


names = st.lists(
    st.text(
        st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1
    ).filter(lambda text: not text.isspace())
    | st.integers(-(10**20), 10**20).map(str),
    min_size=2,
    max_size=6,
    unique=True,
)


@given(names=names, data=st.data())
def test_networks_read_back_exactly(scratch: Path, names: list[str], data: st.DataObject) -> None:
    pairs = [(u, v) for u in names for v in names if u != v]
    chosen = data.draw(st.lists(st.sampled_from(pairs), min_size=1, unique=True))
    number = st.floats(0, 1e300)
    frame = pd.DataFrame(chosen, columns=["source", "target"], dtype=object)
    frame["rate"] = [data.draw(number) for _ in chosen]
    if data.draw(st.booleans()):
        frame["start"] = [data.draw(number) - data.draw(number) for _ in chosen]
    write_network(frame, scratch, nodes=names)
    back = read_network(scratch)
    assert back[["source", "target"]].astype(str).to_numpy().tolist() == [list(p) for p in chosen]
    for column in back.columns[2:]:
        assert back[column].tolist() == frame[column].tolist()


def test_network_without_rates_gets_ones(scratch: Path) -> None:
    edges = pd.DataFrame({"source": [1, 2], "target": [2.0, 3.0], "prob": [0.5, np.nan]})
    write_network(edges, scratch)
    assert scratch.read_text() == "source,target,rate\n1,2,1.0\n2,3,1.0\n"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"source": ["a"], "to": ["b"]}, "missing column 'target'"),
        ({"source": [], "target": []}, "no edges"),
        ({"source": ["a", "b"], "target": ["b", None]}, "missing value .row 1 of the DataFrame"),
        ({"source": ["a", "b"], "target": ["b", "b"]}, "join two nodes; got 'b' twice .row 1"),
        ({"source": ["a", "a"], "target": ["b", "b"]}, "occurs twice .rows 0 and 1"),
        ({"source": ["a", "b"], "target": ["b", "x"]}, "'x' is not among the nodes given .row 1"),
        ({"source": ["a"], "target": ["b"], "rate": [-1]}, "rates must not be negative"),
        ({"source": ["a"], "target": ["b"], "rate": ["x"]}, "rates must be numbers"),
        ({"source": ["a"], "target": ["b"], "start": [np.inf]}, "starts must be finite"),
    ],
)
def test_bad_network_is_not_written(tmp_path: Path, columns: dict, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        write_network(pd.DataFrame(columns), tmp_path / "net.csv", nodes=["a", "b"])
    assert list(tmp_path.iterdir()) == []


# Published files


@pytest.mark.parametrize(
    ("name", "n_cascades", "n_nodes", "n_infections"),
    [
        ("netrate-kronecker", 1001, 819, 32_476),
        ("infopath-example", 1000, 32, 13_582),
        ("netinf-example", 54, 31, 406),
        ("stackexchange-christianity", 589, 1651, 15_327),
        ("us-policies", 728, 50, 17_835),
        ("memetracker-forest", 12_663, 4709, 207_185),
    ],
)
def test_published_cascades(
    shared_data: Path, name: str, n_cascades: int, n_nodes: int, n_infections: int
) -> None:
    cascades = Cascades.read_csv(shared_data / "cascades" / name / "cascades.csv.gz", horizon=1e9)
    assert (cascades.n_cascades, cascades.n_nodes) == (n_cascades, n_nodes)
    assert cascades.n_infections == n_infections


def test_published_infopath_files(shared_data: Path) -> None:
    folder = shared_data / "cascades" / "dyn-hier"
    cascades = Cascades.read_snap(folder / "cascades.txt.gz", window=10)
    assert (cascades.n_cascades, cascades.n_nodes, cascades.n_infections) == (2500, 128, 10_908)
    assert cascades.labels == tuple(range(2500))
    assert np.allclose(cascades.horizon - cascades.start, 10)
    edges = read_network(folder / "network.txt.gz")
    assert edges.groupby(["source", "target"]).ngroups == 199
    assert edges["start"].between(0, 100).all()
    assert edges.attrs["nodes"] == cascades.nodes


@pytest.mark.parametrize(
    ("name", "n_edges"),
    [
        ("netrate-kronecker", 2042),
        ("infopath-example", 57),
        ("netinf-example", 63),
        ("stackexchange-christianity", 35_624),
    ],
)
def test_published_networks(shared_data: Path, name: str, n_edges: int) -> None:
    edges = read_network(shared_data / "cascades" / name / "edges.csv.gz")
    assert len(edges) == n_edges
    assert edges["source"].dtype == np.int64
