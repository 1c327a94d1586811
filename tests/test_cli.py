"""The command line: what it writes, what it refuses and how, and what it never leaves behind."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cascadenet as cn
from cascadenet import cli_arguments
from cascadenet.cli import main
from cascadenet.posterior import Posterior

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("demo", "simulate", "fit", "summary", "edges", "predict", "plot")
RUN_FILES = {"posterior.npz", "edges.csv", "communities.csv", "summary.txt", "settings.json"}
PICTURES = {"predictive.png", "traces.png", "ranks.png"}
TINY = ("--draws", 4, "--tune", 2, "--chains", 1, "--seed", 1, "--no-plots", "--quiet")
GOOD = "cascade,node,time\n0,a,0\n0,b,1\n1,b,0\n1,c,2\n"

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*argv: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in argv])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run


def shell(*argv: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a process of its own, from the sources."""
    command = [sys.executable, "-m", "cascadenet", *map(str, argv)]
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, env=given, capture_output=True, timeout=120, check=False)


def listing(folder: Path) -> dict[str, bytes | None]:
    """All there is below a folder, hidden files too, with the bytes of files."""
    found = sorted(folder.rglob("*"))
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in found}


def is_one_error(code: int, err: str, *parts: str) -> bool:
    """Exit code 1 and one line that says all the parts."""
    one = err.startswith("cascadenet: error: ") and err.count("\n") == 1 and err.endswith("\n")
    return code == 1 and one and all(part in err for part in parts)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, seed: int) -> Path:
    """Folder with cascades.csv, truth.csv and nodes.txt of one simulation, and its run."""
    folder = tmp_path_factory.mktemp("data")
    network = ("--network", "communities", "--communities", 2, "--size", 8, "--within", 0.4)
    files = ("-o", folder / "cascades.csv", "--edges-out", folder / "truth.csv")
    files += ("--nodes-out", folder / "nodes.txt")
    simulate = ("simulate", *network, "--cascades", 30, "--horizon", 1.5, "--seed", seed, *files)
    assert main([str(argument) for argument in simulate]) == 0
    fit = ("fit", folder / "cascades.csv", "--nodes", folder / "nodes.txt", "--horizon", 1.5)
    fit += ("-o", folder / "run", "--draws", 40, "--tune", 40, "--chains", 2, "--seed", seed)
    assert main([str(argument) for argument in fit]) == 0
    return folder


@pytest.fixture
def posterior(data: Path) -> Posterior:
    return cn.load(data / "run")


def same_table(text: str, table: pd.DataFrame) -> None:
    """The CSV text holds the table, to six digits."""
    read = pd.read_csv(io.StringIO(text))
    pd.testing.assert_frame_equal(read, table.reset_index(drop=True), rtol=1e-5, check_dtype=False)


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

HEAD = "cascade,node,time\n"
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


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


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


# Runs


def test_run_is_complete(data: Path, posterior: Posterior) -> None:
    run = data / "run"
    assert {path.name for path in run.iterdir()} == RUN_FILES | PICTURES
    edges = posterior.edges()
    listed = edges[edges["prob"] >= cli_arguments.LEAST_PROB]
    assert 0 < len(listed) < len(edges)
    same_table((run / "edges.csv").read_text(), listed)
    same_table((run / "communities.csv").read_text(), posterior.communities())
    assert (run / "summary.txt").read_text() == posterior.summary() + "\n"
    settings = json.loads((run / "settings.json").read_text())
    assert settings["model"] == posterior.settings
    assert settings["provenance"] == posterior.provenance
    assert settings["input"]["horizon"] == "1.5"
    for name in PICTURES:
        assert (run / name).read_bytes().startswith(b"\x89PNG")


def test_run_has_the_permissions_of_other_folders(data: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert (data / "run").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_nodes_without_infections_are_kept(data: Path, posterior: Posterior) -> None:
    assert posterior.nodes == cn.read_nodes(data / "nodes.txt")


def test_seed_gives_the_same_run_whatever_the_threads(
    call: Call, data: Path, tmp_path: Path
) -> None:
    file, chains = data / "cascades.csv", ("--draws", 5, "--tune", 5, "--chains", 2, "--quiet")
    for name, more in (("a", (1, "--jobs", 1)), ("b", (1, "--jobs", 2)), ("c", (2,))):
        options = ("--horizon", 1.5, *chains, "--seed", *more)
        assert call("fit", file, "-o", tmp_path / name, *options)[0] == 0
    a, b, c = (listing(tmp_path / name) for name in "abc")
    assert a == b
    assert a["posterior.npz"] != c["posterior.npz"]


def test_model_options_reach_the_model(call: Call, data: Path, tmp_path: Path) -> None:
    options = ("--delay", "weibull", "--prior", "flat", "--background", "--max-candidates", 3)
    fit = ("fit", data / "cascades.csv", "-o", tmp_path / "a", "--horizon", 1.5, *TINY)
    assert call(*fit, *options)[0] == 0
    settings = cn.load(tmp_path / "a").settings
    expected = {"delay": "weibull", "prior": "flat", "background": True, "max_candidates": 3}
    expected |= {"draws": 4, "tune": 2, "chains": 1}
    assert {name: settings[name] for name in expected} == expected
    assert "communities.csv" not in listing(tmp_path / "a")
    fit = (*fit[:3], tmp_path / "b", *fit[4:], "--likelihood", "tree", "--open-world")
    assert call(*fit)[0] == 0
    settings = cn.load(tmp_path / "b").settings
    assert (settings["likelihood"], settings["open_world"]) == ("tree", True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {}),
        (
            ("--quiet", "--jobs", 3, "--tune", 0, "--seed", 0),
            {"n_jobs": 3, "progress": False, "tune": 0, "seed": 0},
        ),
        (("--checkpoint", "saved", "--resume"), {"checkpoint": "saved", "resume": True}),
    ],
)
def test_sampling_options_reach_fit(
    call: Call,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
    expected: dict[str, object],
) -> None:
    """What is not given is left to the defaults of the API."""
    seen: list[tuple[dict[str, Any], dict[str, Any]]] = []
    unset = {"n_jobs": None, "progress": None, "checkpoint": None, "resume": False}

    def fit(self: cn.CoupledHDP, cascades: cn.Cascades, **given: Any) -> None:
        seen.append((vars(self), given))
        raise ValueError("seen")

    monkeypatch.setattr(cn.CoupledHDP, "fit", fit)
    call("fit", data / "cascades.csv", "-o", tmp_path / "run", "--horizon", 1.5, *options)
    assert seen == [(vars(cn.CoupledHDP()), unset | expected)]


def test_resume_needs_a_checkpoint_folder(call: Call, data: Path, tmp_path: Path) -> None:
    code, _, err = call("fit", data / "cascades.csv", "-o", tmp_path / "run", "--resume")
    assert code == 2
    assert "--resume needs --checkpoint DIR" in err


def test_messages_go_to_stderr(call: Call, data: Path, tmp_path: Path) -> None:
    fit = ("fit", data / "cascades.csv", "--horizon", 1.5, "--no-plots")
    fit += ("--draws", 4, "--tune", 2, "--chains", 1)
    code, out, err = call(*fit, "-o", tmp_path / "a")
    assert (code, out) == (0, "")
    assert "30 cascades, 16 nodes" in err
    assert err.splitlines()[-1].startswith(f"cascadenet: wrote {tmp_path / 'a'}")
    err = call(*fit, "-o", tmp_path / "b", "--quiet")[2]
    assert all(line.startswith("cascadenet: warning: ") for line in err.splitlines())


def test_all_edges(call: Call, data: Path, tmp_path: Path) -> None:
    fit = ("fit", data / "cascades.csv", "-o", tmp_path / "a", "--horizon", 1.5, *TINY)
    assert call(*fit, "--all-edges")[0] == 0
    same_table((tmp_path / "a" / "edges.csv").read_text(), cn.load(tmp_path / "a").edges())


def test_picture_that_fails_does_not_cost_the_run(
    call: Call, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(cn.plotting, "plot_traces", fail)
    options = [one for one in TINY if one != "--no-plots"]
    fit = ("fit", data / "cascades.csv", "-o", tmp_path / "a", "--horizon", 1.5, *options)
    code, _, err = call(*fit)
    assert code == 0
    assert "cascadenet: warning: no picture traces.png: no ink\n" in err
    found = {path.name for path in (tmp_path / "a").iterdir()}
    assert found == RUN_FILES | PICTURES - {"traces.png"}


# Where a run goes


@pytest.fixture
def no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampling must not begin."""

    def fit(*arguments: object, **options: object) -> None:
        pytest.fail("sampling has begun")

    monkeypatch.setattr(cn.CoupledHDP, "fit", fit)


@pytest.mark.usefixtures("no_fit")
@pytest.mark.parametrize("force", [False, True])
def test_what_is_there_is_not_replaced(call: Call, data: Path, tmp_path: Path, force: bool) -> None:
    """Even by force a folder goes only if it is a run."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("...")
    (tmp_path / "file").write_text("...")
    before = listing(tmp_path)
    options = (*TINY, "--force") if force else TINY
    for name in ("thesis", "file"):
        code, _, err = call("fit", data / "cascades.csv", "-o", tmp_path / name, *options)
        assert is_one_error(code, err, str(tmp_path / name))
    assert listing(tmp_path) == before
    assert is_one_error(*call("fit", data / "cascades.csv", "-o", data / "run", *TINY)[::2])


@pytest.mark.usefixtures("no_fit")
def test_folder_that_cannot_be_made_is_refused_first(
    call: Call, data: Path, tmp_path: Path
) -> None:
    code, _, err = call("fit", data / "cascades.csv", "-o", tmp_path / "a" / "b", *TINY)
    assert is_one_error(code, err, f"no such folder: {tmp_path / 'a'}")
    assert listing(tmp_path) == {}


@pytest.mark.usefixtures("no_fit")
def test_folder_without_permission_is_refused_first(call: Call, data: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    # the superuser may write anywhere but where the system has no files
    place = Path("/proc") if os.access(tmp_path, os.W_OK) else tmp_path
    try:
        code, _, err = call("fit", data / "cascades.csv", "-o", place / "run", *TINY)
    finally:
        tmp_path.chmod(0o700)
    assert is_one_error(code, err, f"cannot write in {place}: ")


def test_empty_folder_is_filled(call: Call, data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    fit = ("fit", data / "cascades.csv", "-o", f"{tmp_path / 'run'}/", "--horizon", 1.5, *TINY)
    assert call(*fit)[0] == 0
    assert set(listing(tmp_path)) == {"run", *(f"run/{name}" for name in RUN_FILES)}


def test_force_replaces_a_run_as_a_whole(call: Call, data: Path, tmp_path: Path) -> None:
    fit = ("fit", data / "cascades.csv", "-o", tmp_path / "run", "--horizon", 1.5, *TINY)
    assert call(*fit)[0] == 0
    (tmp_path / "run" / "old.txt").touch()
    assert call(*fit, "--force", "--prior", "flat")[0] == 0
    files = RUN_FILES - {"communities.csv"}
    assert set(listing(tmp_path)) == {"run", *(f"run/{name}" for name in files)}
    assert cn.load(tmp_path / "run").settings["prior"] == "flat"


@pytest.mark.parametrize("step", ["Posterior.save", "Posterior.summary"])
def test_failure_leaves_nothing_and_the_old_run(
    call: Call, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    fit = ("fit", data / "cascades.csv", "-o", tmp_path / "run", "--horizon", 1.5, *TINY)
    assert call(*fit)[0] == 0
    before = listing(tmp_path)

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Posterior, step.split(".")[1], fail)
    code, _, err = call(*fit, "--force")
    assert code == 1
    assert err.splitlines()[-1] == "cascadenet: error: No space left on device"
    assert listing(tmp_path) == before
    assert call(*fit[:3], tmp_path / "new", *fit[4:])[0] == 1
    assert listing(tmp_path) == before


def test_name_taken_while_sampling(
    call: Call, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of sampling are kept, under another name."""
    original = cn.CoupledHDP.fit

    def fit(self: cn.CoupledHDP, *arguments: Any, **options: Any) -> cn.CoupledHDP:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "other").touch()
        return original(self, *arguments, **options)

    monkeypatch.setattr(cn.CoupledHDP, "fit", fit)
    code, _, err = call(
        "fit", data / "cascades.csv", "-o", tmp_path / "run", "--horizon", 1.5, *TINY
    )
    assert code == 0
    assert f"was made meanwhile; the run goes to {tmp_path / 'run-2'}" in err
    assert cn.load(tmp_path / "run-2").n_nodes > 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["other"]


# Ctrl-C


def interrupt_at(monkeypatch: pytest.MonkeyPatch, sweep: int) -> None:
    """Press Ctrl-C at a sweep."""
    from cascadenet.inference.chains import Progress

    count = iter(range(10**9))
    step = Progress.step

    def press(self: Progress) -> None:
        step(self)
        if next(count) == sweep:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Progress, "step", press)


def test_interrupted_fit_keeps_its_draws(
    call: Call, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, 60)
    options = ("--draws", 20000, "--tune", 20, "--chains", 1, "--horizon", 1.5, "--no-plots")
    fit = ("fit", data / "cascades.csv", "-o", tmp_path / "run", *options)
    code, out, err = call(*fit)
    assert (code, out) == (130, "")
    assert f"draws made so far are in {tmp_path / 'run'}\n" in err
    posterior = cn.load(tmp_path / "run")
    assert posterior.settings["interrupted"]
    assert 40 <= posterior.sums.draws.sum() < 20000


def test_fit_interrupted_before_the_first_draw(
    call: Call, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, 5)
    options = ("--tune", 20000, "--chains", 1, "--horizon", 1.5, "--quiet")
    code, _, err = call("fit", data / "cascades.csv", "-o", tmp_path / "run", *options)
    assert (code, err.count("\n")) == (130, 1)
    assert err == "cascadenet: stopped before the first draw was recorded\n"
    assert listing(tmp_path) == {}


# Reading a run


def test_edges_are_those_of_the_posterior(
    call: Call, data: Path, tmp_path: Path, posterior: Posterior
) -> None:
    run, table = data / "run", posterior.edges()
    code, out, err = call("edges", run)
    assert (code, err) == (0, "")
    same_table(out, table)
    same_table(call("edges", run, "--top", 3)[1], table[:3])
    assert len(pd.read_csv(io.StringIO(call("edges", run, "--top", 0)[1]))) == 0
    same_table(call("edges", run, "--min-prob", 0.5)[1], table[table["prob"] >= 0.5])
    pairs = table[["source", "target"]][4:1:-1]
    pairs.to_csv(tmp_path / "pairs.csv", index=False)
    same_table(call("edges", run, "--pairs", tmp_path / "pairs.csv")[1], posterior.edges(pairs))


def test_output_file_holds_what_stdout_would(call: Call, data: Path, tmp_path: Path) -> None:
    for command in ("edges", "predict", "summary"):
        for more in ((), ("--json",)):
            out = call(command, data / "run", *more)[1]
            assert out
            assert call(command, data / "run", *more, "-o", tmp_path / "x.gz") == (0, "", "")
            assert gzip.decompress((tmp_path / "x.gz").read_bytes()).decode() == out


def test_edges_as_json(call: Call, data: Path, posterior: Posterior) -> None:
    out = call("edges", data / "run", "--top", 4, "--json")[1]
    pd.testing.assert_frame_equal(pd.DataFrame(json.loads(out)), posterior.edges(top=4))


def test_summary(call: Call, data: Path, posterior: Posterior) -> None:
    assert call("summary", data / "run") == (0, posterior.summary() + "\n", "")
    assert call("summary", data / "run" / "posterior.npz")[1] == posterior.summary() + "\n"
    found = json.loads(call("summary", data / "run", "--json")[1])
    assert (found["nodes"], found["chains"], found["draws"]) == (16, 2, 80)
    assert found["settings"] == posterior.settings
    assert f"{found['expected_edges']:.1f}" in posterior.summary()
    rhat = {name: row["rhat"] for name, row in found["diagnostics"].items()}
    assert rhat == pytest.approx(posterior.diagnostics()["rhat"].to_dict(), nan_ok=True)


def test_numbers_that_are_not_finite_are_null_in_json(
    call: Call, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pd.DataFrame({"source": [1], "prob": [np.nan], "rate": [np.inf]})
    monkeypatch.setattr(Posterior, "edges", lambda self, pairs=None, top=None: table)
    out = call("edges", data / "run", "--json")[1]
    assert json.loads(out) == [{"source": 1, "prob": None, "rate": None}]


def test_predicted_edges(call: Call, data: Path, tmp_path: Path, posterior: Posterior) -> None:
    run = data / "run"
    same_table(call("predict", run)[1], posterior.predictive())
    more = ("--top", 5, "--unused", "--within", 0.7)
    expected = posterior.predictive(top=5, unused=True, within=0.7)
    same_table(call("predict", run, *more)[1], expected)
    write(tmp_path / "pairs.csv", "target,source\n3,12\n0,1\n")
    out = call("predict", run, "--pairs", tmp_path / "pairs.csv")[1]
    same_table(out, posterior.predictive(pairs=[(12, 3), (1, 0)]))


def test_predicted_infections(call: Call, data: Path, tmp_path: Path, posterior: Posterior) -> None:
    prefix = write(tmp_path / "prefix.csv", "node,time\n3,0\n5,0.25\n")
    out = call("predict", data / "run", "--prefix", prefix)[1]
    same_table(out, posterior.predict_next([(3, 0.0), (5, 0.25)]))
    out = call("predict", data / "run", "--prefix", prefix, "--k", 2, "--now", 1)[1]
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
    call: Call, data: Path, tmp_path: Path, command: str, flag: str, text: str, message: str
) -> None:
    write(tmp_path / "f.csv", text)
    more = ("--kind", "recovery", "-o", tmp_path / "x.png") if command == "plot" else ()
    code, out, err = call(command, data / "run", flag, tmp_path / "f.csv", *more)
    assert out == ""
    assert is_one_error(code, err, message)
    assert list(listing(tmp_path)) == ["f.csv"]


@pytest.mark.parametrize("command", ["summary", "edges", "predict", "plot"])
def test_what_is_no_run_is_refused(call: Call, data: Path, tmp_path: Path, command: str) -> None:
    more = ("--kind", "traces", "-o", tmp_path / "x.png") if command == "plot" else ()
    assert is_one_error(*call(command, tmp_path / "none", *more)[::2], str(tmp_path / "none"))
    assert is_one_error(*call(command, tmp_path, *more)[::2], "posterior.npz")
    whole = (data / "run" / "posterior.npz").read_bytes()
    (tmp_path / "posterior.npz").write_bytes(whole[: len(whole) // 2])
    assert is_one_error(*call(command, tmp_path, *more)[::2], "expected a saved posterior")
    assert list(listing(tmp_path)) == ["posterior.npz"]


@pytest.mark.parametrize("command", ["summary", "edges", "predict", "plot", "simulate"])
def test_output_that_cannot_be_written(
    call: Call, data: Path, tmp_path: Path, command: str
) -> None:
    arguments = {
        "plot": (data / "run", "--kind", "traces"),
        "simulate": ("--network", "model", "--cascades", 3, "--window", 1),
    }.get(command, (data / "run",))
    target = tmp_path / "none" / "x.png"
    code, out, err = call(command, *arguments, "-o", target)
    assert out == ""
    assert is_one_error(code, err, f"no such folder: {target.parent}")
    assert listing(tmp_path) == {}


# Pictures


@pytest.mark.parametrize("kind", cli_arguments.KINDS)
def test_every_kind_of_picture(call: Call, data: Path, tmp_path: Path, kind: str) -> None:
    import matplotlib.pyplot as plt

    needs = kind in cli_arguments.TRUTH_KINDS
    more = ("--truth", data / "truth.csv") if needs else ()
    plot = ("plot", data / "run", "--kind", kind, *more)
    assert call(*plot, "-o", tmp_path / "x.png") == (0, "", "")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_formats_of_pictures(call: Call, data: Path, tmp_path: Path) -> None:
    plot = ("plot", data / "run", "--kind", "predictive", "--truth", data / "truth.csv", "-o")
    for name, head in (("x.pdf", b"%PDF"), ("x.SVG", b"<?xml")):
        assert call(*plot, tmp_path / name)[0] == 0
        assert (tmp_path / name).read_bytes().startswith(head)


def test_truth_and_run_may_label_nodes_differently(call: Call, data: Path, tmp_path: Path) -> None:
    """Labels are compared as texts: 1 in one file is 1 in the other, whatever else is there."""
    file = write(tmp_path / "x.csv", HEAD + "0,1,0\n0,2,1\n1,2,0\n1,c,2\n")
    assert call("fit", file, "-o", tmp_path / "run", "--horizon", 3, *TINY)[0] == 0
    truth = write(tmp_path / "truth.csv", "source,target\n1,2\n")
    plot = ("plot", tmp_path / "run", "--kind", "recovery", "--truth", truth)
    assert call(*plot, "-o", tmp_path / "x.png") == (0, "", "")


# Simulation


@pytest.mark.parametrize(
    ("network", "n_nodes", "n_edges"),
    [
        (("kronecker", "--n-nodes", 32, "--n-edges", 50, "--kind", "hierarchical"), 32, 50),
        (("communities", "--communities", 2, "--size", 9, "--within", 1, "--between", 0), 18, 144),
        (("model", "--n-nodes", 30, "--communities", 2, "--n-edges", 80), 30, None),
    ],
)
def test_simulated_files_read_back(
    call: Call, tmp_path: Path, network: tuple[object, ...], n_nodes: int, n_edges: int | None
) -> None:
    simulate = ("simulate", "--network", *network, "--cascades", 12, "--horizon", 1, "--seed", 5)
    names = {"-o": "c.csv", "--edges-out": "t.csv", "--nodes-out": "n.txt"}
    files = [part for flag, name in names.items() for part in (flag, tmp_path / name)]
    code, out, err = call(*simulate, "--rate", "0.5,2", *files)
    assert (code, out) == (0, "")
    assert err.startswith(f"cascadenet: {n_nodes} nodes, ")
    assert err.endswith("seed 5\n")
    nodes, truth = cn.read_nodes(tmp_path / "n.txt"), cn.read_network(tmp_path / "t.csv")
    assert nodes == tuple(range(n_nodes))
    assert n_edges in (len(truth), None)
    assert truth["rate"].between(0.5, 2).all()
    cascades = cn.Cascades.read_csv(tmp_path / "c.csv", nodes=nodes, horizon=1.0)
    assert (cascades.n_cascades, cascades.n_nodes) == (12, n_nodes)
    assert call(*simulate, "--rate", "0.5,2")[1] == (tmp_path / "c.csv").read_text()
    other = call(*simulate[:-1], 6, "--rate", "0.5,2")[1]
    assert other != (tmp_path / "c.csv").read_text()


def test_simulation_on_a_network_of_a_file(call: Call, tmp_path: Path) -> None:
    """A chain of three nodes with huge rates: whoever starts, the rest follows in order."""
    truth = write(tmp_path / "t.csv", "source,target,rate\na,b,1e6\nb,c,1e6\n")
    simulate = ("simulate", "--network", truth, "--cascades", 9, "--window", 1, "--seed", 1)
    out = call(*simulate, "--delay", "rayleigh")[1]
    frame = pd.read_csv(io.StringIO(out))
    for _, nodes in frame.groupby("cascade")["node"]:
        assert "abc".endswith("".join(nodes))
    assert frame["cascade"].nunique() == 9
    code, _, err = call(*simulate, "--delay", "lognormal", "--theta", "1")
    assert is_one_error(code, err, "theta of the delay 'lognormal' must hold")


def test_infections_from_outside(call: Call, tmp_path: Path) -> None:
    """Nodes without a path to them are infected only by a background, here with 1 - exp(-40)."""
    truth = write(tmp_path / "t.csv", "source,target,rate\na,b,1e-9\nc,d,1e-9\n")
    simulate = ("simulate", "--network", truth, "--cascades", 9, "--window", 1, "--seed", 1)
    sizes = [call(*simulate, *more)[1].count("\n") - 1 for more in ((), ("--background", 40))]
    assert sizes == [9, 36]


def test_simulation_writes_all_files_or_none(call: Call, tmp_path: Path) -> None:
    simulate = ("simulate", "--network", "model", "--cascades", 3, "--window", 1)
    files = ("-o", tmp_path / "c.csv", "--edges-out", tmp_path / "t.csv")
    code, out, err = call(*simulate, *files, "--nodes-out", tmp_path)
    assert out == ""
    assert is_one_error(code, err, f"{tmp_path} is a folder; expected a file")
    assert listing(tmp_path) == {}


def test_seed_of_a_simulation_is_told(call: Call) -> None:
    simulate = ("simulate", "--network", "model", "--n-nodes", 9, "--cascades", 3, "--window", 1)
    _, first, err = call(*simulate)
    seed = err.split("seed ")[1].strip()
    assert call(*simulate, "--seed", seed)[1] == first


# Pipes


def test_broken_pipe_is_silent(data: Path) -> None:
    """More than a pipe holds, to a reader that stops after the first line."""
    code = (
        "import sys, pandas as pd; from cascadenet.posterior import Posterior\n"
        "table = pd.DataFrame({'source': range(10**5)})\n"
        "Posterior.edges = lambda self, pairs=None, top=None: table.assign(prob=1.0)\n"
        "from cascadenet.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, "edges", str(data / "run")],
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


def edges_into(data: Path, stdout: Any) -> subprocess.CompletedProcess[bytes]:
    """A little output, which waits in a buffer until the program ends."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-m", "cascadenet", "edges", str(data / "run"), "--top", "1"],
        cwd=ROOT,
        env=environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )


def test_reader_that_has_left_is_silent(data: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    found = edges_into(data, writer)
    os.close(writer)
    assert (found.returncode, found.stderr) == (0, b"")


def test_full_device_is_an_error(data: Path) -> None:
    """The negative control: data that do not arrive are not passed over in silence."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with open("/dev/full", "wb") as full:
        found = edges_into(data, full)
    assert is_one_error(found.returncode, found.stderr.decode(), "No space left on device")
