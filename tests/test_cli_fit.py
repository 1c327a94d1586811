"""`cascadenet fit`: the run it writes, where that goes, and what an interrupt leaves."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import cascadenet as cn
from cascadenet import cli_arguments
from cascadenet.posterior import Posterior
from tests.command_line import TINY, Call, is_one_error, listing, same_table

RUN_FILES = {"posterior.npz", "edges.csv", "communities.csv", "summary.txt", "settings.json"}
PICTURES = {"predictive.png", "traces.png", "ranks.png"}


@pytest.fixture
def posterior(made: Path) -> Posterior:
    return cn.load(made / "run")


# Runs


def test_run_is_complete(made: Path, posterior: Posterior) -> None:
    run = made / "run"
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


def test_run_has_the_permissions_of_other_folders(made: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert (made / "run").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_nodes_without_infections_are_kept(made: Path, posterior: Posterior) -> None:
    assert posterior.nodes == cn.read_nodes(made / "nodes.txt")


def test_seed_gives_the_same_run_whatever_the_threads(
    call: Call, made: Path, tmp_path: Path
) -> None:
    file, chains = made / "cascades.csv", ("--draws", 5, "--tune", 5, "--chains", 2, "--quiet")
    for name, more in (("a", (1, "--jobs", 1)), ("b", (1, "--jobs", 2)), ("c", (2,))):
        options = ("--horizon", 1.5, *chains, "--seed", *more)
        assert call("fit", file, "-o", tmp_path / name, *options)[0] == 0
    a, b, c = (listing(tmp_path / name) for name in "abc")
    assert a == b
    assert a["posterior.npz"] != c["posterior.npz"]


def test_model_options_reach_the_model(call: Call, made: Path, tmp_path: Path) -> None:
    options = ("--delay", "weibull", "--prior", "flat", "--background", "--max-candidates", 3)
    fit = ("fit", made / "cascades.csv", "-o", tmp_path / "a", "--horizon", 1.5, *TINY)
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
    made: Path,
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
    call("fit", made / "cascades.csv", "-o", tmp_path / "run", "--horizon", 1.5, *options)
    assert seen == [(vars(cn.CoupledHDP()), unset | expected)]


def test_resume_needs_a_checkpoint_folder(call: Call, made: Path, tmp_path: Path) -> None:
    code, _, err = call("fit", made / "cascades.csv", "-o", tmp_path / "run", "--resume")
    assert code == 2
    assert "--resume needs --checkpoint DIR" in err


def test_messages_go_to_stderr(call: Call, made: Path, tmp_path: Path) -> None:
    fit = ("fit", made / "cascades.csv", "--horizon", 1.5, "--no-plots")
    fit += ("--draws", 4, "--tune", 2, "--chains", 1)
    code, out, err = call(*fit, "-o", tmp_path / "a")
    assert (code, out) == (0, "")
    assert "30 cascades, 16 nodes" in err
    assert err.splitlines()[-1].startswith(f"cascadenet: wrote {tmp_path / 'a'}")
    err = call(*fit, "-o", tmp_path / "b", "--quiet")[2]
    assert all(line.startswith("cascadenet: warning: ") for line in err.splitlines())


def test_all_edges(call: Call, made: Path, tmp_path: Path) -> None:
    fit = ("fit", made / "cascades.csv", "-o", tmp_path / "a", "--horizon", 1.5, *TINY)
    assert call(*fit, "--all-edges")[0] == 0
    same_table((tmp_path / "a" / "edges.csv").read_text(), cn.load(tmp_path / "a").edges())


def test_picture_that_fails_does_not_cost_the_run(
    call: Call, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(cn.plotting, "plot_traces", fail)
    options = [one for one in TINY if one != "--no-plots"]
    fit = ("fit", made / "cascades.csv", "-o", tmp_path / "a", "--horizon", 1.5, *options)
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
def test_what_is_there_is_not_replaced(call: Call, made: Path, tmp_path: Path, force: bool) -> None:
    """Even by force a folder goes only if it is a run."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("...")
    (tmp_path / "file").write_text("...")
    before = listing(tmp_path)
    options = (*TINY, "--force") if force else TINY
    for name in ("thesis", "file"):
        code, _, err = call("fit", made / "cascades.csv", "-o", tmp_path / name, *options)
        assert is_one_error(code, err, str(tmp_path / name))
    assert listing(tmp_path) == before
    assert is_one_error(*call("fit", made / "cascades.csv", "-o", made / "run", *TINY)[::2])


@pytest.mark.usefixtures("no_fit")
def test_folder_that_cannot_be_made_is_refused_first(
    call: Call, made: Path, tmp_path: Path
) -> None:
    code, _, err = call("fit", made / "cascades.csv", "-o", tmp_path / "a" / "b", *TINY)
    assert is_one_error(code, err, f"no such folder: {tmp_path / 'a'}")
    assert listing(tmp_path) == {}


@pytest.mark.usefixtures("no_fit")
def test_folder_without_permission_is_refused_first(call: Call, made: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    # the superuser may write anywhere but where the system has no files
    place = Path("/proc") if os.access(tmp_path, os.W_OK) else tmp_path
    try:
        code, _, err = call("fit", made / "cascades.csv", "-o", place / "run", *TINY)
    finally:
        tmp_path.chmod(0o700)
    assert is_one_error(code, err, f"cannot write in {place}: ")


def test_empty_folder_is_filled(call: Call, made: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    fit = ("fit", made / "cascades.csv", "-o", f"{tmp_path / 'run'}/", "--horizon", 1.5, *TINY)
    assert call(*fit)[0] == 0
    assert set(listing(tmp_path)) == {"run", *(f"run/{name}" for name in RUN_FILES)}


def test_force_replaces_a_run_as_a_whole(call: Call, made: Path, tmp_path: Path) -> None:
    fit = ("fit", made / "cascades.csv", "-o", tmp_path / "run", "--horizon", 1.5, *TINY)
    assert call(*fit)[0] == 0
    (tmp_path / "run" / "old.txt").touch()
    assert call(*fit, "--force", "--prior", "flat")[0] == 0
    files = RUN_FILES - {"communities.csv"}
    assert set(listing(tmp_path)) == {"run", *(f"run/{name}" for name in files)}
    assert cn.load(tmp_path / "run").settings["prior"] == "flat"


@pytest.mark.parametrize("step", ["Posterior.save", "Posterior.summary"])
def test_failure_leaves_nothing_and_the_old_run(
    call: Call, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    fit = ("fit", made / "cascades.csv", "-o", tmp_path / "run", "--horizon", 1.5, *TINY)
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
    call: Call, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of sampling are kept, under another name."""
    original = cn.CoupledHDP.fit

    def fit(self: cn.CoupledHDP, *arguments: Any, **options: Any) -> cn.CoupledHDP:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "other").touch()
        return original(self, *arguments, **options)

    monkeypatch.setattr(cn.CoupledHDP, "fit", fit)
    code, _, err = call(
        "fit", made / "cascades.csv", "-o", tmp_path / "run", "--horizon", 1.5, *TINY
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
    call: Call, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, 60)
    options = ("--draws", 20000, "--tune", 20, "--chains", 1, "--horizon", 1.5, "--no-plots")
    fit = ("fit", made / "cascades.csv", "-o", tmp_path / "run", *options)
    code, out, err = call(*fit)
    assert (code, out) == (130, "")
    assert f"draws made so far are in {tmp_path / 'run'}\n" in err
    posterior = cn.load(tmp_path / "run")
    assert posterior.settings["interrupted"]
    assert 40 <= posterior.sums.draws.sum() < 20000


def test_fit_interrupted_before_the_first_draw(
    call: Call, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, 5)
    options = ("--tune", 20000, "--chains", 1, "--horizon", 1.5, "--quiet")
    code, _, err = call("fit", made / "cascades.csv", "-o", tmp_path / "run", *options)
    assert (code, err.count("\n")) == (130, 1)
    assert err == "cascadenet: stopped before the first draw was recorded\n"
    assert listing(tmp_path) == {}
