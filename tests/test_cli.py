"""The command line: what starts it, what it refuses and how, data it reads, and pipes."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import cascadenet as cn
from cascadenet import cli_arguments
from tests.command_line import GOOD, HEAD, ROOT, TINY, Call, is_one_error, listing, shell, write

COMMANDS = ("demo", "simulate", "fit", "summary", "edges", "predict", "plot")


# Starting


def test_help_names_every_command(call: Call) -> None:
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    assert all(f"\n    {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(call: Call, name: str) -> None:
    code, out, _ = call(name, "--help")
    assert code == 0
    assert out.startswith(f"usage: cascadenet {name}")


def test_help_loads_no_numerics() -> None:
    """What makes it quick; importing numpy alone takes longer than all of it."""
    code = (
        "import sys, cascadenet.cli as c\n"
        "try: c.main(['fit', '--help'])\n"
        "except SystemExit: pass\n"
        "print(*(m for m in ('numpy', 'pandas', 'numba', 'scipy', 'matplotlib') if m in "
        "sys.modules), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stderr.split() == []


def test_version_is_that_of_the_package(call: Call) -> None:
    assert call("--version") == (0, f"cascadenet {cn.__version__}\n", "")


def test_choices_are_those_of_the_models() -> None:
    from cascadenet.delays import DELAYS
    from cascadenet.inference.coupled_hdp import LIKELIHOODS, PRIORS

    assert set(cli_arguments.DELAYS) == set(DELAYS)
    assert cli_arguments.LIKELIHOODS == LIKELIHOODS
    assert cli_arguments.PRIORS == PRIORS


def test_runs_from_a_checkout(tmp_path: Path) -> None:
    """From its folder without any installation, and from elsewhere by the path alone."""
    for folder, path in ((ROOT, ""), (tmp_path, str(ROOT))):
        found = subprocess.run(
            [sys.executable, "-m", "cascadenet", "--version"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout == f"cascadenet {cn.__version__}\n"


# Wrong usage: exit code 2, one line, nothing made

USAGE = [
    ([], "required: COMMAND"),
    (["guess"], "invalid choice: 'guess'"),
    (["fit"], "required: FILE, -o/--output"),
    (["fit", "x", "-o", "r", "--horizon", "1", "--window", "1"], "not allowed with"),
    (["fit", "x", "-o", "r", "--horizon", "soon"], "--horizon: expected a number or an ISO date"),
    (["fit", "x", "-o", "r", "--horizon", "inf"], "--horizon: expected a number or an ISO date"),
    (["fit", "x", "-o", "r", "--window", "0"], "--window: expected a number above zero"),
    (["fit", "x", "-o", "r", "--columns", "a,b"], "--columns: expected three column names"),
    (["fit", "x", "-o", "r", "--columns", "a,b,b"], "--columns: expected three column names"),
    (["fit", "x", "-o", "r", "--draws", "0"], "--draws: expected a whole number of at least 1"),
    (["fit", "x", "-o", "r", "--seed", "-1"], "--seed: expected a whole number of at least 0"),
    (["fit", "x", "-o", "r", "--delay", "quick"], "invalid choice: 'quick'"),
    (["fit", "x", "-o", "r", "--like", "tree"], "unrecognized arguments: --like tree"),
    (["fit", "x", "-o", "r", "--likelihood", "tree", "--background"], "needs --likelihood surviv"),
    (["edges", "r", "--min-prob", "2"], "expected a number of at least 0 and at most 1"),
    (["predict", "r", "--k", "3"], "--k goes with --prefix"),
    (["predict", "r", "--prefix", "x", "--unused"], "--unused does not go with --prefix"),
    (["plot", "r", "--kind", "recovery", "-o", "x.png"], "--kind recovery needs --truth"),
    (["plot", "r", "--kind", "traces", "-o", "x.xls"], "must end in .png, .pdf, .svg"),
    (["plot", "r", "--kind", "traces", "-o", "x.png", "--truth", "t"], "--truth goes with --kind"),
    (["simulate", "--network", "model", "--cascades", "3"], "--horizon --window is required"),
    (
        ["simulate", "--network", "kronecker", "--cascades", "3", "--window", "1", "--tau", "3"],
        "--tau does not go with --network kronecker",
    ),
    (
        ["simulate", "--network", "x.csv", "--cascades", "3", "--window", "1", "--rate", "1"],
        "--rate does not go with --network x.csv",
    ),
    (
        ["simulate", "--network", "model", "--cascades", "3", "--window", "1", "--rate", "2,1"],
        "--rate: expected RATE or LOW,HIGH; got '2,1'",
    ),
]


@pytest.mark.parametrize(("argv", "message"), USAGE, ids=range(len(USAGE)))
def test_wrong_usage(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*argv)
    assert (code, out) == (2, "")
    assert err.startswith("cascadenet: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert listing(tmp_path) == {}


# Bad data: exit code 1, one line with file and line, nothing left behind

BAD: dict[str, tuple[str, bytes | str, str]] = {
    "empty file": ("x.csv", "", "the file is empty (x.csv)"),
    "header only": ("x.csv", HEAD, "the file has a header but no rows"),
    "missing column": ("x.csv", "cascade,node\n0,a\n", "missing column 'time'"),
    "NaN": ("x.csv", HEAD + "0,a,0\n0,b,nan\n", "must be finite; got nan (x.csv, line 3)"),
    "no time": ("x.csv", HEAD + "0,a,0\n0,b,\n", "got '' (x.csv, line 3)"),
    "text": ("x.csv", HEAD + "0,a,0\n0,b,soon\n", "got 'soon' (x.csv, line 3)"),
    "negative": ("x.csv", HEAD + "0,a,-1\n0,b,0\n", "not be negative; got -1 (x.csv, line 2)"),
    "infinite": ("x.csv", HEAD + "0,a,0\n0,b,inf\n", "must be finite; got inf (x.csv, line 3)"),
    "duplicate": (
        "x.csv",
        HEAD + "0,a,0\n0,b,1\n0,a,2\n",
        "got node 'a' twice in cascade '0' (x.csv, lines 2 and 4)",
    ),
    "beyond": ("x.csv", HEAD + "0,a,0\n0,b,9\n", "9 is beyond the horizon 3 (x.csv, line 3)"),
    "one node": ("x.csv", HEAD + "0,a,0\n1,a,0\n", "expected two nodes or more; got only 'a'"),
    "no infections": ("x.txt", "0,a\n1,b\n\n7;\n", "got no infections (x.txt, line 4)"),
    "unknown id": ("x.txt", "0,a\n1,b\n\n0,0,5,1\n", "unknown node id '5'"),
    "truncated gz": ("x.csv.gz", gzip.compress(GOOD.encode())[:-9], "truncated file (x.csv.gz)"),
    "not UTF-8": ("x.csv", HEAD.encode() + b"0,\xff,1\n", "got the byte 0xff (x.csv, line 2)"),
    "wrong width": ("x.csv", HEAD + "0,a,0\n0,b\n", "expected 3 fields"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_are_one_line(call: Call, tmp_path: Path, case: str) -> None:
    name, content, message = BAD[case]
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(content)
    before = listing(tmp_path)
    code, out, err = call("fit", tmp_path / name, "-o", tmp_path / "run", "--horizon", 3, *TINY)
    assert out == ""
    assert is_one_error(code, err, message, name)
    assert listing(tmp_path) == before


def test_good_data_of_the_same_shape_are_fitted(call: Call, tmp_path: Path) -> None:
    """The negative control of the cases above."""
    for name, content in (("x.csv", GOOD.encode()), ("x.csv.gz", gzip.compress(GOOD.encode()))):
        (tmp_path / name).write_bytes(content)
        run = tmp_path / f"run-{name}"
        assert call("fit", tmp_path / name, "-o", run, "--horizon", 3, *TINY)[0] == 0
        assert cn.load(run).nodes == ("a", "b", "c")


def test_missing_input_is_named(call: Call, tmp_path: Path) -> None:
    missing = tmp_path / "none.csv"
    code, _, err = call("fit", missing, "-o", tmp_path / "run", *TINY)
    assert is_one_error(code, err, "no such file", str(missing))
    code, _, err = call("fit", tmp_path, "-o", tmp_path / "run", *TINY)
    assert is_one_error(code, err, "is a folder; expected a file")
    assert listing(tmp_path) == {}


def test_errors_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The exit code reaches the shell; a traceback only who asks for it."""
    quiet = shell("fit", tmp_path / "none.csv", "-o", tmp_path / "run")
    assert is_one_error(quiet.returncode, quiet.stderr.decode(), "no such file")
    loud = shell("fit", tmp_path / "none.csv", "-o", tmp_path / "run", CASCADENET_DEBUG="1")
    assert loud.returncode == 1
    assert b"Traceback" in loud.stderr


# Reading data


def fingerprint(call: Call, tmp_path: Path, file: Path, *options: object) -> str:
    """Fingerprint of the cascades that a fit has seen."""
    code, _, err = call("fit", file, "-o", tmp_path / "run", "--force", *options, *TINY)
    assert code == 0, err
    return cn.load(tmp_path / "run").provenance["data"]


def test_options_reach_the_reader(call: Call, tmp_path: Path) -> None:
    file, nodes = tmp_path / "x.csv", tmp_path / "nodes.txt"
    file.write_text("who,when,story\na,0,0\nb,1,0\na,2,0\nb,0,1\nc,1,1\n")
    nodes.write_text("c\nd\n")
    options = ("--columns", "story,who,when", "--nodes", nodes)
    options += ("--window", 4, "--duplicates", "first")
    expected = cn.Cascades.read_csv(
        file, "story", "who", "when", nodes=("c", "d"), window=4, duplicates="first"
    )
    assert fingerprint(call, tmp_path, file, *options) == expected.fingerprint
    wider = fingerprint(call, tmp_path, file, *options[:4], "--window", 5, *options[6:])
    assert wider != expected.fingerprint


def test_dates(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text(HEAD + "0,a,2020-01-01\n0,b,2020-01-05\n1,a,2020-02-01\n")
    by_date = fingerprint(call, tmp_path, file, "--horizon", "2020-03-01")
    assert by_date == cn.Cascades.read_csv(file, horizon="2020-03-01").fingerprint
    by_window = fingerprint(call, tmp_path, file, "--window", "30D")
    assert by_window == cn.Cascades.read_csv(file, window=30).fingerprint
    code, _, err = call("fit", file, "-o", tmp_path / "no", "--horizon", "2020-01-03", *TINY)
    assert is_one_error(code, err, "2020-01-05 is beyond the horizon 2020-01-03", "line 3")


def test_format_is_guessed_unless_given(call: Call, tmp_path: Path) -> None:
    cascades = cn.Cascades.read_csv(write(tmp_path / "x.csv", GOOD), horizon=3)
    cascades.to_snap(tmp_path / "x.txt")
    seen = fingerprint(call, tmp_path, tmp_path / "x.txt", "--horizon", 3)
    assert seen == cascades.fingerprint
    wrong = ("--format", "csv", "--horizon", 3)
    code, _, err = call("fit", tmp_path / "x.txt", "-o", tmp_path / "no", *wrong, *TINY)
    assert is_one_error(code, err, "missing column 'cascade'")
    columns = ("--columns", "a,b,c")
    code, _, err = call("fit", tmp_path / "x.txt", "-o", tmp_path / "no", *columns, *TINY)
    assert code == 2
    assert "--columns is for CSV files" in err


def test_unicode_labels(call: Call, tmp_path: Path) -> None:
    file = write(tmp_path / "x.csv", HEAD + '0,"Zoë, 東京",0\n0,🦉,1\n1,🦉,0\n1,ß,2\n')
    assert call("fit", file, "-o", tmp_path / "run", "--horizon", 3, *TINY)[0] == 0
    code, out, _ = call("edges", tmp_path / "run")
    assert code == 0
    assert set(pd.read_csv(io.StringIO(out))["source"]) <= {"Zoë, 東京", "🦉", "ß"}
    # whatever the terminal speaks, data are UTF-8
    found = shell("edges", tmp_path / "run", PYTHONIOENCODING="latin-1")
    assert found.stdout.decode() == out
    assert "🦉" in json.loads(call("edges", tmp_path / "run", "--json")[1])[0].values()


def test_missing_horizon_is_warned_about_in_one_line(call: Call, tmp_path: Path) -> None:
    file = write(tmp_path / "x.csv", GOOD)
    code, out, err = call("fit", file, "-o", tmp_path / "run", *TINY)
    assert (code, out) == (0, "")
    lines = err.splitlines()
    assert lines[0].startswith("cascadenet: warning: neither horizon nor window given")
    assert all(line.startswith("cascadenet: warning: ") for line in lines)


# Pipes


def test_broken_pipe_is_silent(made: Path) -> None:
    """More than a pipe holds, to a reader that stops after the first line."""
    code = (
        "import sys, pandas as pd; from cascadenet.posterior import Posterior\n"
        "table = pd.DataFrame({'source': range(10**5)})\n"
        "Posterior.edges = lambda self, pairs=None, top=None: table.assign(prob=1.0)\n"
        "from cascadenet.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, "edges", str(made / "run")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    assert writer.stdout.readline() == b"source,prob\n"
    writer.stdout.close()
    assert writer.stderr.read() == b""
    assert writer.wait(timeout=60) == 0


def edges_into(made: Path, stdout: Any) -> subprocess.CompletedProcess[bytes]:
    """A little output, which waits in a buffer until the program ends."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-m", "cascadenet", "edges", str(made / "run"), "--top", "1"],
        cwd=ROOT,
        env=environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )


def test_reader_that_has_left_is_silent(made: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    found = edges_into(made, writer)
    os.close(writer)
    assert (found.returncode, found.stderr) == (0, b"")


def test_full_device_is_an_error(made: Path) -> None:
    """The negative control: data that do not arrive are not passed over in silence."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with open("/dev/full", "wb") as full:
        found = edges_into(made, full)
    assert is_one_error(found.returncode, found.stderr.decode(), "No space left on device")
