"""Tables and pictures of a run: `cascadenet edges`, `summary`, `predict` and `plot`."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cascadenet as cn
from cascadenet import cli_arguments
from cascadenet.posterior import Posterior
from tests.command_line import HEAD, TINY, Call, is_one_error, listing, same_table, write


@pytest.fixture
def posterior(made: Path) -> Posterior:
    return cn.load(made / "run")


# Reading a run


def test_edges_are_those_of_the_posterior(
    call: Call, made: Path, tmp_path: Path, posterior: Posterior
) -> None:
    run, table = made / "run", posterior.edges()
    code, out, err = call("edges", run)
    assert (code, err) == (0, "")
    same_table(out, table)
    same_table(call("edges", run, "--top", 3)[1], table[:3])
    assert len(pd.read_csv(io.StringIO(call("edges", run, "--top", 0)[1]))) == 0
    same_table(call("edges", run, "--min-prob", 0.5)[1], table[table["prob"] >= 0.5])
    pairs = table[["source", "target"]][4:1:-1]
    pairs.to_csv(tmp_path / "pairs.csv", index=False)
    same_table(call("edges", run, "--pairs", tmp_path / "pairs.csv")[1], posterior.edges(pairs))


def test_output_file_holds_what_stdout_would(call: Call, made: Path, tmp_path: Path) -> None:
    for command in ("edges", "predict", "summary"):
        for more in ((), ("--json",)):
            out = call(command, made / "run", *more)[1]
            assert out
            assert call(command, made / "run", *more, "-o", tmp_path / "x.gz") == (0, "", "")
            assert gzip.decompress((tmp_path / "x.gz").read_bytes()).decode() == out


def test_edges_as_json(call: Call, made: Path, posterior: Posterior) -> None:
    out = call("edges", made / "run", "--top", 4, "--json")[1]
    pd.testing.assert_frame_equal(pd.DataFrame(json.loads(out)), posterior.edges(top=4))


def test_summary(call: Call, made: Path, posterior: Posterior) -> None:
    assert call("summary", made / "run") == (0, posterior.summary() + "\n", "")
    assert call("summary", made / "run" / "posterior.npz")[1] == posterior.summary() + "\n"
    found = json.loads(call("summary", made / "run", "--json")[1])
    assert (found["nodes"], found["chains"], found["draws"]) == (16, 2, 80)
    assert found["settings"] == posterior.settings
    assert f"{found['expected_edges']:.1f}" in posterior.summary()
    rhat = {name: row["rhat"] for name, row in found["diagnostics"].items()}
    assert rhat == pytest.approx(posterior.diagnostics()["rhat"].to_dict(), nan_ok=True)


def test_numbers_that_are_not_finite_are_null_in_json(
    call: Call, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pd.DataFrame({"source": [1], "prob": [np.nan], "rate": [np.inf]})
    monkeypatch.setattr(Posterior, "edges", lambda self, pairs=None, top=None: table)
    out = call("edges", made / "run", "--json")[1]
    assert json.loads(out) == [{"source": 1, "prob": None, "rate": None}]


def test_predicted_edges(call: Call, made: Path, tmp_path: Path, posterior: Posterior) -> None:
    run = made / "run"
    same_table(call("predict", run)[1], posterior.predictive())
    more = ("--top", 5, "--unused", "--within", 0.7)
    expected = posterior.predictive(top=5, unused=True, within=0.7)
    same_table(call("predict", run, *more)[1], expected)
    write(tmp_path / "pairs.csv", "target,source\n3,12\n0,1\n")
    out = call("predict", run, "--pairs", tmp_path / "pairs.csv")[1]
    same_table(out, posterior.predictive(pairs=[(12, 3), (1, 0)]))


def test_predicted_infections(call: Call, made: Path, tmp_path: Path, posterior: Posterior) -> None:
    prefix = write(tmp_path / "prefix.csv", "node,time\n3,0\n5,0.25\n")
    out = call("predict", made / "run", "--prefix", prefix)[1]
    same_table(out, posterior.predict_next([(3, 0.0), (5, 0.25)]))
    out = call("predict", made / "run", "--prefix", prefix, "--k", 2, "--now", 1)[1]
    same_table(out, posterior.predict_next([(3, 0.0), (5, 0.25)], k=2, now=1.0))


def test_dates_in_a_prefix(call: Call, tmp_path: Path) -> None:
    file = write(tmp_path / "x.csv", HEAD + "0,a,2020-01-01\n0,b,2020-01-05\n1,b,2020-02-01\n")
    assert call("fit", file, "-o", tmp_path / "run", "--window", "30D", *TINY)[0] == 0
    prefix = write(tmp_path / "prefix.csv", "node,time\na,2020-05-01\n")
    now = ("--now", "2020-05-03T12:00")
    out = call("predict", tmp_path / "run", "--prefix", prefix, *now)[1]
    same_table(out, cn.load(tmp_path / "run").predict_next([("a", 0.0)], now=2.5))
    code, _, err = call("predict", tmp_path / "run", "--prefix", prefix, "--now", "2020-04-01")
    assert is_one_error(code, err, "not before the last infection")


@pytest.mark.parametrize(
    ("command", "flag", "text", "message"),
    [
        ("edges", "--pairs", "source,target\n1,2\n1,99\n", "got '99' (f.csv, line 3)"),
        ("edges", "--pairs", "source,target\n1,1\n", "got '1' twice (f.csv, line 2)"),
        ("predict", "--pairs", "source\n1\n", "missing column 'target'"),
        ("predict", "--prefix", "node,time\n1,0\nx,1\n", "got 'x' (f.csv, line 3)"),
        ("predict", "--prefix", "node,time\n1,0\n1,1\n", "'1' twice (f.csv, lines 2 and 3)"),
        ("predict", "--prefix", "node,time\n1,nan\n", "got nan (f.csv, line 2)"),
        ("predict", "--prefix", "node,time\n", "has a header but no rows"),
        ("plot", "--truth", "source,target\n1,99\n", "got '99' (f.csv)"),
        ("plot", "--truth", "source,target,rate\n1,2,-1\n", "got -1 (f.csv, line 2)"),
    ],
)
def test_bad_files_beside_a_run(
    call: Call, made: Path, tmp_path: Path, command: str, flag: str, text: str, message: str
) -> None:
    write(tmp_path / "f.csv", text)
    more = ("--kind", "recovery", "-o", tmp_path / "x.png") if command == "plot" else ()
    code, out, err = call(command, made / "run", flag, tmp_path / "f.csv", *more)
    assert out == ""
    assert is_one_error(code, err, message)
    assert list(listing(tmp_path)) == ["f.csv"]


@pytest.mark.parametrize("command", ["summary", "edges", "predict", "plot"])
def test_what_is_no_run_is_refused(call: Call, made: Path, tmp_path: Path, command: str) -> None:
    more = ("--kind", "traces", "-o", tmp_path / "x.png") if command == "plot" else ()
    assert is_one_error(*call(command, tmp_path / "none", *more)[::2], str(tmp_path / "none"))
    assert is_one_error(*call(command, tmp_path, *more)[::2], "posterior.npz")
    whole = (made / "run" / "posterior.npz").read_bytes()
    (tmp_path / "posterior.npz").write_bytes(whole[: len(whole) // 2])
    assert is_one_error(*call(command, tmp_path, *more)[::2], "expected a saved posterior")
    assert list(listing(tmp_path)) == ["posterior.npz"]


@pytest.mark.parametrize("command", ["summary", "edges", "predict", "plot", "simulate"])
def test_output_that_cannot_be_written(
    call: Call, made: Path, tmp_path: Path, command: str
) -> None:
    arguments = {
        "plot": (made / "run", "--kind", "traces"),
        "simulate": ("--network", "model", "--cascades", 3, "--window", 1),
    }.get(command, (made / "run",))
    target = tmp_path / "none" / "x.png"
    code, out, err = call(command, *arguments, "-o", target)
    assert out == ""
    assert is_one_error(code, err, f"no such folder: {target.parent}")
    assert listing(tmp_path) == {}


# Pictures


@pytest.mark.parametrize("kind", cli_arguments.KINDS)
def test_every_kind_of_picture(call: Call, made: Path, tmp_path: Path, kind: str) -> None:
    import matplotlib.pyplot as plt

    needs = kind in cli_arguments.TRUTH_KINDS
    more = ("--truth", made / "truth.csv") if needs else ()
    plot = ("plot", made / "run", "--kind", kind, *more)
    assert call(*plot, "-o", tmp_path / "x.png") == (0, "", "")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_formats_of_pictures(call: Call, made: Path, tmp_path: Path) -> None:
    plot = (
        "plot",
        made / "run",
        "--kind",
        "predictive",
        "--truth",
        made / "truth.csv",
        "-o",
    )
    for name, head in (("x.pdf", b"%PDF"), ("x.SVG", b"<?xml")):
        assert call(*plot, tmp_path / name)[0] == 0
        assert (tmp_path / name).read_bytes().startswith(head)


def test_truth_and_run_may_label_nodes_differently(call: Call, made: Path, tmp_path: Path) -> None:
    """Labels are compared as texts: 1 in one file is 1 in the other, whatever else is there."""
    file = write(tmp_path / "x.csv", HEAD + "0,1,0\n0,2,1\n1,2,0\n1,c,2\n")
    assert call("fit", file, "-o", tmp_path / "run", "--horizon", 3, *TINY)[0] == 0
    truth = write(tmp_path / "truth.csv", "source,target\n1,2\n")
    plot = ("plot", tmp_path / "run", "--kind", "recovery", "--truth", truth)
    assert call(*plot, "-o", tmp_path / "x.png") == (0, "", "")
