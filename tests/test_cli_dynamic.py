"""`fit --interval`, `update`, `report`, and the other commands on what they make."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import cascadenet as cn
from cascadenet import cli_arguments, cli_dynamic, report, simulate
from cascadenet.cli import main
from cascadenet.evolution import DynamicPosterior
from cascadenet.inference.dynamics.model import DynamicCoupledHDP
from tests import command_line
from tests.command_line import listing, same_table

N_NODES = 12
MEMORY = ("--forgetting", 0.3, "--support", 0.2)
SHORT = ("--draws", 12, "--tune", 10, "--chains", 2, "--jobs", 1, "--quiet")
SETTINGS = {"interval": 10.0, "forgetting": 0.3, "support": 0.2}
FILES = {"posterior.npz", "edges.csv", "events.csv", "scores.csv", "communities.csv"}
FILES |= {"community_sizes.csv", "summary.txt", "settings.json"}


def is_one_error(result, *parts):
    code, out, err = result
    return out == "" and command_line.is_one_error(code, err, *parts)


@pytest.fixture(scope="module")
def data(tmp_path_factory, seed):
    """Cascades over 40 units of time, the last ten of them apart; truth; nodes; runs."""
    folder = tmp_path_factory.mktemp("dynamic")
    network = simulate.community_network(2, 6, 0.5, 0.0, rate=(0.5, 1.5), seed=seed)
    network = simulate.vary_rates(network, "square", (0.0, 40.0), 20, seed=seed)
    cn.write_network(network, folder / "truth.csv")
    cascades = simulate.simulate_cascades(
        network, 120, nodes=range(N_NODES), start=(0.0, 40.0), window=1.5, seed=seed
    ).cascades
    (folder / "nodes.txt").write_text("".join(f"{i}\n" for i in range(N_NODES)))
    late = cascades.start >= 30.0
    cascades.subset(np.flatnonzero(~late)).to_csv(folder / "old.csv")
    cascades.subset(np.flatnonzero(late)).to_csv(folder / "new.csv")
    fit = ("fit", folder / "old.csv", "--nodes", folder / "nodes.txt", "--window", 1.5)
    made = {"run": ("--interval", 10, *MEMORY), "static": ()}
    for name, more in made.items():
        argv = (*fit, "-o", folder / name, *more, *SHORT, "--seed", seed, "--no-plots")
        assert main([str(part) for part in argv]) == 0
    return folder


@pytest.fixture
def fit(data, seed):
    """Arguments of the fit, without its folder."""
    start = ("fit", data / "old.csv", "--nodes", data / "nodes.txt", "--window", 1.5)
    return (*start, *SHORT, "--seed", seed, "--no-plots")


@pytest.fixture
def run(data, tmp_path):
    """A copy of the run that a test may change."""
    return Path(shutil.copytree(data / "run", tmp_path / "run"))


def in_process(data, seed, **settings):
    nodes = cn.read_nodes(data / "nodes.txt")
    cascades = cn.Cascades.read_csv(data / "old.csv", nodes=nodes, window=1.5)
    model = DynamicCoupledHDP(**settings)
    return model.fit(cascades, 12, 10, 2, seed, n_jobs=1, progress=False)


# fit


@pytest.mark.filterwarnings("ignore:the chains")
def test_run_is_what_python_gives(data, tmp_path, seed):
    model = in_process(data, seed, **SETTINGS)
    model.posterior_.save(tmp_path / "posterior.npz")
    assert (tmp_path / "posterior.npz").read_bytes() == (data / "run/posterior.npz").read_bytes()
    assert set(listing(data / "run")) == FILES
    posterior = model.posterior_
    text = {name: (data / "run" / name).read_text() for name in FILES - {"posterior.npz"}}
    assert text["summary.txt"] == posterior.summary() + "\n"
    edges = posterior.edges()
    same_table(text["edges.csv"], edges[(edges["prob"] >= 0.01) | (edges["active"] >= 0.01)])
    assert set(edges["interval"]) == {0, 1, 2}
    same_table(text["events.csv"], posterior.events())
    same_table(text["scores.csv"], posterior.scores())
    same_table(text["communities.csv"], posterior.communities())
    saved = json.loads(text["settings.json"])
    assert saved["model"]["forgetting_used"] == 0.3
    assert saved["input"]["window"] == "1.5"


def test_hopeless_edges_are_left_out_unless_asked_for():
    edges = pd.DataFrame({"prob": [0.0, 0.02, 0.0], "active": [0.009, 0.0, 0.5]})
    told = SimpleNamespace(
        edges=lambda: edges, events=dict, scores=dict, settings={"prior": "flat"}
    )
    assert cli_dynamic.tables(told, False)["edges"].index.tolist() == [1, 2]
    assert cli_dynamic.tables(told, True)["edges"].index.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (
            ("--intervals", 2, "--equal", "cascades", "--half-life", 30, "--support", 0),
            {"n_intervals": 2, "equal": "cascades", "half_life": 30.0, "support": 0.0},
        ),
        (
            ("--interval", 10, *MEMORY, "--smooth", "--prior", "flat"),
            SETTINGS | {"smooth": True, "prior": "flat"},
        ),
        (("--intervals", 2, "--forgetting", 0.5), {"n_intervals": 2, "forgetting": 0.5}),
    ],
)
@pytest.mark.filterwarnings("ignore:the chains")
def test_options_reach_the_model(call, fit, data, tmp_path, monkeypatch, options, settings):
    """What is not asked for is left to the model, "auto" among it."""
    seen = {}

    def stop(self, cascades, **sampling):
        seen.update(vars(self))
        raise ValueError("seen")

    monkeypatch.setattr(DynamicCoupledHDP, "fit", stop)
    assert is_one_error(call(*fit, "-o", tmp_path / "run", *options), "seen")
    assert seen == vars(DynamicCoupledHDP(**settings))


def test_pictures_of_a_run(call, fit, tmp_path):
    code, _, err = call(*fit[:-1], "-o", tmp_path / "run", "--interval", 10, *MEMORY)
    assert code == 0
    assert "no picture" not in err
    pictures = {name for name in listing(tmp_path / "run") if name.endswith(".png")}
    assert pictures - {"flow.png"} == {
        f"{kind}.png" for kind in ("predictive", "traces", "ranks", "events", "ahead")
    }


USAGE = [
    (("--forgetting", "0.5"), "--forgetting needs --interval or --intervals"),
    (("--smooth",), "--smooth needs --interval or --intervals"),
    (("--half-life", "3"), "--half-life needs --interval or --intervals"),
    (("--interval", "3", "--equal", "time"), "--equal goes with --intervals"),
    (("--interval", "3", "--intervals", "3"), "not allowed with"),
    (("--interval", "3", "--half-life", "3", "--forgetting", "1"), "not allowed with"),
    (("--interval", "0"), "expected a number above zero"),
    (("--interval", "3", "--forgetting", "2"), "at most 1; got '2', or auto"),
    (("--interval", "3", "--support", "-1"), "of at least 0; got '-1', or auto"),
    (("--intervals", "3", "--likelihood", "tree"), "intervals need --likelihood survival"),
]


@pytest.mark.parametrize(("options", "message"), USAGE, ids=range(len(USAGE)))
def test_wrong_usage_of_fit(call, fit, tmp_path, options, message):
    code, out, err = call(*fit, "-o", tmp_path / "run", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert listing(tmp_path) == {}


def interrupt_at(monkeypatch, sweep):
    """Press Ctrl-C at a sweep."""
    from cascadenet.inference.chains import Progress

    count, step = iter(range(10**9)), Progress.step

    def press(self):
        step(self)
        if next(count) == sweep:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Progress, "step", press)


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        (20, "stopped before the first interval was sampled"),
        (75, "stopped: the first interval is in "),
        (120, "stopped: the first 2 intervals are in "),
    ],
)
def test_stopped_and_resumed_is_the_same(call, fit, data, tmp_path, monkeypatch, sweep, said):
    """In the first interval, in the second, and in the last; the seed comes from the folder."""
    more = ("--interval", 10, *MEMORY, "--checkpoint", tmp_path / "saved")
    with monkeypatch.context() as patch:
        interrupt_at(patch, sweep)
        code, _, err = call(*fit, "-o", tmp_path / "first", *more)
    assert code == 130
    assert said in err
    assert (tmp_path / "first").exists() == (sweep > 20)
    unseeded = tuple(part for part in fit if part != "--seed" and part != fit[-2])
    code, _, err = call(*unseeded, "-o", tmp_path / "run", *more, "--resume")
    assert code == 0, err
    whole = (data / "run" / "posterior.npz").read_bytes()
    assert (tmp_path / "run" / "posterior.npz").read_bytes() == whole


# update


@pytest.mark.filterwarnings("ignore:the chains")
def test_update_is_partial_fit(call, data, run, tmp_path, seed):
    (run / "notes").mkdir()
    (run / "notes" / "mine.txt").write_text("kept")
    code, out, err = call("update", run, data / "new.csv", "--jobs", 1, "--no-plots")
    assert (code, out) == (0, "")
    assert "1 more interval, now to 40" in err
    model = in_process(data, seed, **SETTINGS)
    new = cn.Cascades.read_csv(
        data / "new.csv", nodes=cn.read_nodes(data / "nodes.txt"), window=1.5
    )
    model.partial_fit(new, n_jobs=1, progress=False)
    model.posterior_.save(tmp_path / "posterior.npz")
    assert (run / "posterior.npz").read_bytes() == (tmp_path / "posterior.npz").read_bytes()
    assert set(listing(run)) == FILES | {"notes", "notes/mine.txt"}
    assert (run / "summary.txt").read_text() == model.posterior_.summary() + "\n"
    (done,) = json.loads((run / "settings.json").read_text())["updates"]
    assert (done["window"], done["data"]) == ("1.5", new.fingerprint)


def test_update_forgets_old_intervals(call, data, run):
    code = call("update", run, data / "new.csv", "--keep", 2, "--quiet", "--no-plots")[0]
    assert code == 0
    posterior = cn.load(run)
    assert (posterior.first_interval, len(posterior.posteriors)) == (2, 2)
    assert set(pd.read_csv(run / "edges.csv")["interval"]) == {2, 3}


BAD = {
    "early": ("cascade,node,time\n0,1,29\n0,2,29.5\n", "must start after the last interval"),
    "unknown": ("cascade,node,time\n0,1,31\n0,x,32\n0,y,32\n", "got 'x' and 1 more that are not"),
    "broken": ("cascade,node,time\n0,1,31\n0,2,nan\n", "got nan (new.csv, line 3)"),
    "empty": ("", "the file is empty"),
    "twice": ("cascade,node,time\n0,1,31\n0,1,32\n", "got node '1' twice"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_updates_change_nothing(call, run, tmp_path, case):
    text, message = BAD[case]
    (tmp_path / "new.csv").write_text(text)
    before = listing(tmp_path)
    assert is_one_error(call("update", run, tmp_path / "new.csv", "--quiet"), message)
    assert listing(tmp_path) == before


def test_labels_count_by_their_text(call, run, tmp_path):
    """Negative control of the cases above; the order of rows is that of the file, not of nodes."""
    (tmp_path / "new.csv").write_text("cascade,node,time\nb,2,31\nb,1,31.5\n")
    assert call("update", run, tmp_path / "new.csv", "--quiet", "--no-plots")[0] == 0
    assert cn.load(run).provenance["n_infections"] == 2
    assert cn.load(run).nodes == tuple(range(N_NODES))


def test_what_cannot_be_updated(call, data, run, tmp_path):
    new = data / "new.csv"
    assert is_one_error(call("update", data / "static", new), "only runs of fit --interval")
    assert is_one_error(call("update", tmp_path / "none", new), "expected the folder of a run")
    assert is_one_error(call("update", run / "posterior.npz", new), "expected the folder of a run")
    assert is_one_error(call("update", tmp_path, new), "has no posterior.npz")


def test_failing_and_stopped_updates_leave_the_run(call, data, run, tmp_path, monkeypatch):
    before = listing(tmp_path)

    def fail(*arguments):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(DynamicPosterior, "summary", fail)
        assert call("update", run, data / "new.csv", "--quiet", "--no-plots")[0] == 1
    assert listing(tmp_path) == before
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        assert call("update", run, data / "new.csv", "--quiet")[0] == 130
    assert listing(tmp_path) == before


# Reading a run


@pytest.fixture
def posterior(data):
    return cn.load(data / "run")


def test_edges_of_intervals(call, data, posterior, tmp_path):
    run = data / "run"
    same_table(call("edges", run)[1], posterior.edges())
    same_table(call("edges", run, "--interval", 1)[1], posterior.edges(1))
    same_table(call("edges", run, "--interval", -1, "--top", 3)[1], posterior.edges(-1, top=3))
    same_table(call("edges", run, "--top", 2)[1], posterior.edges(top=2))
    table = posterior.edges(0)
    expected = table[table["prob"] >= 0.5][:4]
    same_table(call("edges", run, "--interval", 0, "--min-prob", 0.5, "--top", 4)[1], expected)
    (tmp_path / "pairs.csv").write_text("source,target\n3,2\n1,0\n")
    out = call("edges", run, "--pairs", tmp_path / "pairs.csv")[1]
    same_table(out, posterior.edges(pairs=[(3, 2), (1, 0)]))
    assert is_one_error(call("edges", run, "--interval", 3), "interval must be one of those kept")


def test_summary(call, data, posterior):
    assert call("summary", data / "run") == (0, posterior.summary() + "\n", "")
    found = json.loads(call("summary", data / "run", "--json")[1])
    assert found["ends"] == [0.0, 10.0, 20.0, 30.0]
    assert len(found["events"]) == len(posterior.events())
    rhat = posterior.diagnostics()["rhat"]
    assert found["diagnostics"]["1"]["b"]["rhat"] == pytest.approx(rhat[1, "b"])


def test_predictions_are_of_the_interval_to_come(call, data, posterior, tmp_path):
    run, ahead = data / "run", posterior.forecast
    same_table(call("predict", run, "--top", 5)[1], ahead.predictive(top=5))
    (tmp_path / "prefix.csv").write_text("node,time\n3,0\n5,0.25\n")
    out = call("predict", run, "--prefix", tmp_path / "prefix.csv")[1]
    same_table(out, ahead.predict_next([(3, 0.0), (5, 0.25)]))
    more = ("--influence", "--within", 1, "--samples", 20)
    same_table(call("predict", run, *more)[1], ahead.influence(within=1.0, samples=20, seed=0))
    out = call("predict", run, "--score", data / "new.csv", "--window", 1.5)[1]
    assert len(out.splitlines()) > 10


@pytest.mark.parametrize("kind", (*cli_arguments.KINDS, *cli_arguments.DYNAMIC_KINDS))
def test_every_kind_of_picture(call, data, tmp_path, kind):
    import matplotlib.pyplot as plt

    takes = (*cli_arguments.TRUTH_KINDS, "rates-over-time", "predictive")
    truth = ("--truth", data / "truth.csv") if kind in takes else ()
    plot = ("plot", data / "run", "--kind", kind, "-o", tmp_path / "x.png", *truth)
    assert call(*plot) == (0, "", "")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_picture_of_one_interval(call, data, tmp_path):
    plot = ("plot", data / "run", "--kind", "traces", "-o")
    for name, more in {"last": (), "2": ("--interval", 2), "0": ("--interval", 0)}.items():
        assert call(*plot, tmp_path / f"{name}.svg", *more)[0] == 0
    content = {name: (tmp_path / f"{name}.svg").read_bytes() for name in ("last", "2", "0")}
    assert content["last"] == content["2"] != content["0"]


def test_static_runs_have_no_intervals(call, data, tmp_path):
    for argv in (
        ("edges", data / "static", "--interval", 0),
        ("plot", data / "static", "--kind", "traces", "--interval", 0, "-o", tmp_path / "x.png"),
        ("plot", data / "static", "--kind", "flow", "-o", tmp_path / "x.png"),
    ):
        code, out, err = call(*argv)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "fit --interval" in err
    assert listing(tmp_path) == {}


# report


@pytest.mark.parametrize("name", ["run", "static"])
def test_report_is_written_in_the_run_or_where_told(call, data, tmp_path, monkeypatch, name):
    seen = []

    def make(posterior, **options):
        seen.append(options)
        return f"{posterior.n_nodes} é"

    monkeypatch.setattr(report, "make_report", make)
    shutil.copytree(data / name, tmp_path / "r")
    for target, more in (
        (tmp_path / "r/report.html", ()),
        (tmp_path / "x", ("-o", tmp_path / "x")),
    ):
        code, out, err = call("report", tmp_path / "r", "--title", "a <b>", *more)
        assert (code, out, err) == (0, "", f"cascadenet: wrote {target}\n")
        assert target.read_text(encoding="utf-8") == f"{N_NODES} é"
    assert seen == [{"title": "a <b>", "truth": None, "held_out": None}] * 2


def test_report_in_the_run_with_truth_and_held_out_cascades(call, data, run):
    more = ("--truth", data / "truth.csv", "--held-out", data / "new.csv", "--window", 1.5)
    assert call("report", run, *more)[0] == 0
    text = (run / "report.html").read_text(encoding="utf-8")
    assert '<section id="against-the-truth">' in text
    assert '<section id="held-out-cascades">' in text
    assert "<title>Report on run</title>" in text


def test_report_refuses(call, data, tmp_path):
    run = data / "run"
    assert is_one_error(call("report", tmp_path / "none"), "no file")
    target = tmp_path / "none" / "x.html"
    assert is_one_error(call("report", run, "-o", target), "no such folder")
    (tmp_path / "f.csv").write_text("cascade,node,time\n0,1,31\n0,x,32\n")
    result = call("report", run, "-o", tmp_path / "x.html", "--held-out", tmp_path / "f.csv",
                  "--window", 1)  # fmt: skip
    assert is_one_error(result, "expected nodes of the run; got 'x' (f.csv)")
    code, _, err = call("report", run, "--window", 1)
    assert (code, err.count("\n")) == (2, 1)
    assert "--window goes with --held-out" in err
    assert list(listing(tmp_path)) == ["f.csv"]
