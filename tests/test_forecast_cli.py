"""`cascadenet predict`: the tables that Python gives, and one line for what is wrong."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

import cascadenet as cn
from cascadenet import cli_arguments
from cascadenet.cli import _COMMANDS
from cascadenet.inference.forecast import score_predictive
from cascadenet.posterior import NEW, Posterior
from tests.command_line import Call, same_table
from tests.test_posterior import fitted, some_cascades

RUN = {"draws": 6, "tune": 20, "chains": 1}
SIMULATION = ("--samples", 40, "--seed", 3)


@pytest.fixture
def call(call: Call) -> Call:
    """Run `cascadenet predict`."""
    return partial(call, "predict")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, seed: int) -> Path:
    """A run, closed and open, a prefix and other cascades."""
    folder = tmp_path_factory.mktemp("forecast")
    data = some_cascades(seed)
    for name, settings in (("run", {}), ("open", {"open_world": True})):
        (folder / name).mkdir()
        fitted(data, seed, RUN, **settings).save(folder / name)
    (folder / "prefix.csv").write_text("node,time\n3,0\n5,0.25\n")
    some_cascades(seed + 1, 10).to_csv(folder / "new.csv")
    return folder


@pytest.fixture
def posterior(folder: Path) -> Posterior:
    return cn.load(folder / "run")


def test_reach_and_size_of_a_prefix(call, folder, posterior):
    start = (folder / "run", "--prefix", folder / "prefix.csv", "--within", 1.5, *SIMULATION)
    result = posterior.spread([(3, 0.0), (5, 0.25)], 1.5, draws=40, seed=3)
    code, out, err = call(*start, "--reach")
    assert code == 0
    same_table(out, result.nodes)
    assert f"expected size {result.sizes.mean():.2f} +- " in err
    assert err.count("\n") == 1
    same_table(call(*start, "--size")[1], result.size_distribution())
    same_table(call(*start, "--reach", "--top", 2)[1], result.nodes.head(2))
    later = posterior.spread([(3, 0.0), (5, 0.25)], 1.5, draws=40, seed=3, now=1.0)
    same_table(call(*start, "--size", "--now", 1)[1], later.size_distribution())
    found = json.loads(call(*start, "--size", "--json")[1])
    assert [row["size"] for row in found] == result.size_distribution()["size"].tolist()


def test_influence_and_seed_set(call, folder, posterior):
    run = (folder / "run", "--within", 1.0, *SIMULATION)
    expected = posterior.influence(1.0, samples=40, top=4, seed=3)
    same_table(call(*run, "--influence", "--top", 4)[1], expected)
    same_table(call(*run, "--seed-set", 3)[1], posterior.seed_set(3, 1.0, samples=40, seed=3))
    once, again = (call(folder / "run", "--within", 1.0, "--seed-set", 2)[1] for _ in range(2))
    assert once == again  # without --seed


def test_score_of_other_cascades(call, folder, posterior):
    code, out, err = call(folder / "run", "--score", folder / "new.csv", "--horizon", 2)
    assert code == 0
    table = posterior.log_predictive(cn.Cascades.read_csv(folder / "new.csv", horizon=2.0))
    same_table(out, table)
    score = score_predictive(table)
    assert f"{score.mean:.4f} +- {score.se:.4f} nats per infection" in err
    windowed = call(folder / "run", "--score", folder / "new.csv", "--window", 9)[1]
    expected = posterior.log_predictive(cn.Cascades.read_csv(folder / "new.csv", window=9.0))
    same_table(windowed, expected)
    err = call(folder / "run", "--score", folder / "new.csv")[2]
    assert "warning: " in err  # no horizon was given


def test_nodes_never_seen(call, folder):
    out = call(folder / "open", "--new", "--top", 100)[1]
    read = pd.read_csv(io.StringIO(out))
    assert len(read) == 2 * 14 + 1
    assert read.prob.is_monotonic_decreasing
    found = read.set_index(["source", "target"]).prob
    expected = cn.load(folder / "open").predictive([(3, NEW), (NEW, 5), (NEW, NEW)]).prob
    pairs = [("3", "<new node>"), ("<new node>", "5"), ("<new node>", "<new node>")]
    assert [found[pair] for pair in pairs] == pytest.approx(expected.tolist(), rel=1e-5)
    assert len(json.loads(call(folder / "open", "--new", "--json")[1])) == 20
    code, out, err = call(folder / "run", "--new")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "only in a fit with open_world=True" in err


def test_dates(call, tmp_path, seed):
    frame = pd.DataFrame(
        {
            "cascade": [0, 0, 1, 1, 2, 2],
            "node": list("ababac"),
            "time": pd.to_datetime("2020-01-01") + pd.to_timedelta([0, 3, 0, 5, 9, 10], unit="D"),
        }
    )
    data = cn.Cascades.from_frame(frame, window="30D", nodes=["a", "b", "c", "d"])
    fitted(data, seed, RUN).save(tmp_path / "posterior.npz")
    (tmp_path / "prefix.csv").write_text("node,time\na,2020-05-01\n")
    start = (tmp_path, "--prefix", tmp_path / "prefix.csv", "--within", 20, "--reach")
    for more in ((), ("--json",)):
        code, out, _ = call(*start, *more)
        assert code == 0
        assert "2020-05-" in out
    code, _, err = call(*start, "--now", "2020-04-01")
    assert code == 1
    assert "not before the last infection" in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--reach", "--within", "1"], "--reach needs --prefix"),
        (["--size", "--prefix", "x"], "--size needs --within"),
        (["--influence"], "--influence needs --within"),
        (["--seed-set", "2"], "--seed-set needs --within"),
        (["--seed-set", "0"], "expected a whole number of at least 1"),
        (["--samples", "2"], "--samples goes with --reach or --size or --influence or --seed-set"),
        (["--k", "2"], "--k goes with --prefix"),
        (["--prefix", "x", "--within", "1"], "--within does not go with --prefix"),
        (["--influence", "--within", "1", "--k", "2"], "--k does not go with --influence"),
        (["--score", "x", "--top", "2"], "--top does not go with --score"),
        (["--horizon", "2"], "--horizon goes with --score"),
        (["--new", "--unused"], "--unused does not go with --new"),
        (["--reach", "--size"], "not allowed with"),
    ],
)
def test_options_that_do_not_go_together(call, folder, argv, message):
    code, out, err = call(folder / "run", *argv)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--score", "new.csv", "--horizon", "0.01"], "new.csv"),
        (["--score", "none.csv"], "none.csv"),
        (["--score", "strange.csv", "--horizon", "2"], "must be nodes of the posterior; got 1"),
        (["--reach", "--prefix", "strange.csv", "--within", "1"], "got 'zz' (strange.csv, line 2)"),
        (["--seed-set", "99", "--within", "1"], "k must be at most the number of nodes 14"),
    ],
)
def test_bad_input_is_one_line(call, folder, argv, message):
    (folder / "strange.csv").write_text("cascade,node,time\n0,zz,0\n0,3,1\n")
    argv = [folder / word if word.endswith(".csv") else word for word in argv]
    code, out, err = call(folder / "run", *argv)
    assert (code, out) == (1, "")
    assert err.startswith("cascadenet: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_every_option_belongs_to_a_question():
    parser = cli_arguments.build_parser(_COMMANDS)
    options = vars(parser.parse_args(["predict", "run"]))
    known = {name for names in cli_arguments.ASKS.values() for name in names}
    asks = set(cli_arguments.ASKS) - {"edge", "next"}
    assert known | asks | {
        "run_folder",
        "output",
        "json",
        "run",
        "parser",
        "command",
        "version",
    } == set(options)
