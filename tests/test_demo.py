"""The demonstration: what it finds, that its numbers are right, and what it writes where."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cascadenet as cn
from cascadenet import cli, demo
from cascadenet.demo import DemoResult, check_folder, folder_made_whole, free_name, run_demo
from cascadenet.posterior import Posterior

METHODS = ["CoupledHDP", "flat prior", "NetRate", "CoOccurrence"]
TABLES = {"cascades.csv", "truth.csv", "edges.csv", "scores.csv", "communities.csv"}
PICTURES = {
    f"{name}.png" for name in ("predictive", "probabilities", "recovery", "traces", "ranks")
}
SHORT: dict[str, Any] = {"draws": 60, "tune": 120, "chains": 2, "progress": False}
quick = partial(run_demo, draws=3, tune=3, chains=2, progress=False)

pytestmark = pytest.mark.filterwarnings("ignore:the chains have not mixed:UserWarning")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run_demo(tmp_path_factory.mktemp("demo") / "out", seed=1, **SHORT)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_draw_pictures", lambda *arguments: None)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds of the simulations that were begun."""
    seeds: list[int] = []

    def simulate(seed: int) -> None:
        seeds.append(seed)
        raise ValueError("begun")

    monkeypatch.setattr(demo, "_simulate", simulate)
    return seeds


# What it shows


def test_communities_help(result: DemoResult) -> None:
    """Seeds 1-5 of these short chains gave margins of 0.09 to 0.13 and AUCs of 0.89 to 0.94.

    The other methods cannot tell pairs that nothing went along apart (0.52 to 0.64): the negative
    control.
    """
    scores = result.scores.set_index("method")
    assert list(scores.index) == METHODS
    assert scores["auprc"].iloc[0] > scores["auprc"].iloc[1:].max() + 0.05
    assert scores["unused_auc"].iloc[0] > 0.85
    assert scores["unused_auc"].iloc[1:].between(0.4, 0.7).all()


def test_found_communities_resemble_the_true_ones(result: DemoResult) -> None:
    """Seeds 1-5 gave 0.37 and more; with shuffled labels it is under 0.1 in 99% of cases."""
    table = result.communities.set_index("role")
    assert list(table.index) == ["sender", "receiver"]
    assert (table["true"] == demo.N_COMMUNITIES).all()
    assert (table[["adjusted_rand", "ami"]] > 0.25).all(axis=None)


def test_shuffled_communities_do_not_resemble_the_true_ones(
    result: DemoResult, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The negative control: over 20 shuffles the mean index is 0 within 4 standard errors.

    False alarms: 0.08% (Student's t with 19 degrees of freedom).
    """
    table, rng = result.posterior.communities(), np.random.default_rng(seed)
    data, found = demo._simulate(result.seed), []
    for _ in range(20):
        shuffled = table.sample(frac=1, random_state=rng).reset_index(drop=True)
        monkeypatch.setattr(Posterior, "communities", lambda self, table=shuffled: table)
        found.append(demo._compare_communities(data, result.posterior)["adjusted_rand"][0])
    assert abs(np.mean(found)) < 4 * np.std(found, ddof=1) / np.sqrt(len(found))


def test_scores_are_those_of_the_tables(result: DemoResult) -> None:
    edges = pd.read_csv(result.folder / "edges.csv")
    truth = cn.read_network(result.folder / "truth.csv")
    score = cn.metrics.score_edges(edges, truth, range(demo.N_NODES), break_ties=False)
    row = result.scores.iloc[0]
    assert row["roc_auc"] == pytest.approx(score.roc_auc, abs=2e-3)
    same = cn.metrics.score_edges(result.posterior.edges(), truth, range(demo.N_NODES))
    assert row["auprc"] == same.auprc
    assert row["best_f1"] == same.best_f1


def test_auc_of_unused_pairs_by_counting(result: DemoResult) -> None:
    """Share of (true, false) pairs of unused pairs that the prediction orders rightly."""
    used = {tuple(pair) for pair in demo._simulate(1).used[["source", "target"]].to_numpy()}
    true = set(zip(result.network["source"], result.network["target"], strict=True))
    assert used < true
    matrix = result.posterior.predictive_matrix()
    n = demo.N_NODES
    unused = [(u, v) for u in range(n) for v in range(n) if u != v and (u, v) not in used]
    is_true = np.array([pair in true for pair in unused])
    prob = np.array([matrix[pair] for pair in unused], dtype=np.float64)
    above = np.sign(prob[is_true][:, None] - prob[~is_true][None, :])
    auc = (above.mean() + 1.0) / 2.0
    assert result.scores["unused_auc"][0] == pytest.approx(auc, abs=1e-9)


def test_used_pairs_are_those_infections_went_along() -> None:
    data = demo._simulate(3)
    parents = set(zip(data.used["source"], data.used["target"], strict=True))
    assert len(parents) == len(data.used)
    before = set()
    frame = data.cascades.to_frame()
    for _, one in frame.groupby("cascade"):
        nodes = one["node"].tolist()
        before |= {(u, v) for i, v in enumerate(nodes) for u in nodes[:i]}
    assert parents <= before
    # every infection but the seeds has a parent
    infected = set(frame["node"][frame["cascade"].duplicated()])
    assert {v for _, v in parents} == infected


# What it writes


def test_folder_is_complete(result: DemoResult) -> None:
    found = {str(p.relative_to(result.folder)) for p in result.folder.rglob("*") if p.is_file()}
    assert found == TABLES | PICTURES | {"run/posterior.npz"}
    for name in PICTURES:
        assert (result.folder / name).read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in result.folder.parent.iterdir()] == ["out"]


def test_tables_read_back(result: DemoResult) -> None:
    read = cn.Cascades.read_csv(
        result.folder / "cascades.csv", nodes=range(demo.N_NODES), horizon=demo.HORIZON
    )
    assert read.fingerprint == result.cascades.fingerprint
    truth = cn.read_network(result.folder / "truth.csv")
    pd.testing.assert_frame_equal(truth, result.network, check_dtype=False)
    scores = pd.read_csv(result.folder / "scores.csv")
    pd.testing.assert_frame_equal(scores, result.scores, rtol=1e-5)
    loaded = cn.load(result.folder / "run")
    assert loaded.provenance == result.posterior.provenance
    pd.testing.assert_frame_equal(loaded.edges(), result.posterior.edges())


def test_true_communities_are_told_for_nodes_with_edges(result: DemoResult) -> None:
    table = pd.read_csv(result.folder / "communities.csv")
    for role, end in (("sender", "source"), ("receiver", "target")):
        known = table["node"][table[f"true_{role}"] > 0]
        assert set(known) == set(result.network[end])
        assert table[f"true_{role}"].max() == demo.N_COMMUNITIES


def test_seed_decides_everything_but_the_time(tmp_path: Path) -> None:
    first, again = (
        quick(tmp_path / name, seed=2, jobs=jobs) for name, jobs in (("a", 1), ("b", 2))
    )
    timeless = [r.scores.drop(columns="seconds") for r in (first, again)]
    pd.testing.assert_frame_equal(*timeless)
    for name in (TABLES | PICTURES | {"run/posterior.npz"}) - {"scores.csv"}:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.usefixtures("no_pictures")
def test_another_seed_is_another_demonstration(result: DemoResult, tmp_path: Path) -> None:
    other = quick(tmp_path / "a", seed=2)
    assert not other.network.equals(result.network)
    assert not other.scores.drop(columns="seconds").equals(result.scores.drop(columns="seconds"))


@pytest.mark.usefixtures("no_pictures")
def test_steps_are_reported(tmp_path: Path) -> None:
    lines: list[str] = []
    quick(tmp_path / "a", report=lines.append)
    assert [line.split()[0] for line in lines] == ["simulated", "fitting", "fitting", "writing"]


# Where it writes


def test_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simulated: list[int]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert free_name("cascadenet-demo") == Path("cascadenet-demo")
    for name in ("cascadenet-demo", "cascadenet-demo-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").touch()
    assert free_name("cascadenet-demo") == Path("cascadenet-demo-3")
    with pytest.raises(FileExistsError, match="cascadenet-demo exists and is not empty"):
        run_demo("cascadenet-demo")
    assert simulated == []
    with pytest.raises(ValueError, match="begun"):
        run_demo()
    assert simulated == [1]


def test_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(cn.plotting, "plot_ranks", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        quick(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_folder_made_whole_takes_its_place_last(tmp_path: Path) -> None:
    with folder_made_whole(tmp_path / "a") as partial_folder:
        (partial_folder / "x").write_text("1")
        assert not (tmp_path / "a").exists()
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["a", "a/x"]
    with pytest.raises(FileExistsError), folder_made_whole(tmp_path / "a"):
        pytest.fail("the folder is taken")
    with folder_made_whole(tmp_path / "a", replaces="x") as partial_folder:
        (partial_folder / "y").touch()
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["a", "a/y"]


def test_folder_behind_a_link(tmp_path: Path) -> None:
    """What the link points to is filled, and the link stays."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with folder_made_whole(tmp_path / "link") as partial_folder:
        (partial_folder / "x").touch()
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["x"]
    with pytest.raises(FileNotFoundError, match="no such folder"):
        check_folder(tmp_path / "none" / "a")


# From the command line


@pytest.fixture
def quick_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "run_demo", quick)


@pytest.mark.usefixtures("quick_demo", "no_pictures")
def test_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "-o", str(tmp_path / "a"), "--seed", "4", "--jobs", "1"]) == 0
    out, err = capsys.readouterr()
    for name in (*METHODS, "AUPRC", "AUC unused", "sender", "receiver", str(tmp_path / "a")):
        assert name in out
    assert all(line.startswith("cascadenet: ") for line in err.splitlines())
    assert "cascadenet: simulated 300 cascades" in err


@pytest.mark.usefixtures("quick_demo", "no_pictures")
def test_command_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "-o", str(tmp_path / "a"), "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert [row["method"] for row in found["scores"]] == METHODS
    assert found["folder"] == str(tmp_path / "a")
    scores = pd.read_csv(tmp_path / "a" / "scores.csv")
    assert scores["auprc"].tolist() == pytest.approx([r["auprc"] for r in found["scores"]], 1e-5)
    assert all(line.startswith("cascadenet: warning: ") for line in err.splitlines())


def test_stopped_demo_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fit that Ctrl-C has cut short is no demonstration."""
    fit = cn.CoupledHDP.fit

    def cut(self: cn.CoupledHDP, *arguments: Any, **options: Any) -> cn.CoupledHDP:
        fit(self, *arguments, **options | {"draws": 2, "tune": 1, "chains": 1})
        self.posterior_.settings["interrupted"] = True
        return self

    monkeypatch.setattr(cn.CoupledHDP, "fit", cut)
    assert cli.main(["demo", "-o", str(tmp_path / "a"), "--quiet"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "cascadenet: the demonstration was stopped"
    assert list(tmp_path.iterdir()) == []


def test_taken_folder_is_one_line(
    tmp_path: Path, simulated: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").touch()
    assert cli.main(["demo", "-o", str(tmp_path)]) == 1
    expected = f"cascadenet: error: {tmp_path} exists and is not empty\n"
    assert capsys.readouterr() == ("", expected)
    assert simulated == []
