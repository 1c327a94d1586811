"""Names, command line and pictures of federated training."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cascadenet.errors import FormatError
from cascadenet.sparse import federated
from cascadenet.sparse.federated import cli, plots

pytest.importorskip("sklearn")

QUICK = ["simulate", "--rounds", "4", "--workers", "4", "--hidden", "16,8", "--sigma", "4"]


def federate(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    options = parser.parse_args(["federate", *arguments])
    return options.run(options)


def table(capsys: pytest.CaptureFixture, *arguments: str) -> pd.DataFrame:
    assert federate(*QUICK, *arguments) == 0
    return pd.read_csv(io.StringIO(capsys.readouterr().out))


@pytest.fixture(scope="module")
def runs() -> dict[str, federated.Simulation]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 12)).astype(np.float32)
    data = (x[:150], (x[:150, 0] > 0).astype(int), x[150:], (x[150:, 0] > 0).astype(int))
    options = {"n_rounds": 9, "n_workers": 4, "network": (16, 8)}
    clock = federated.Heterogeneity(5.0)
    return {
        "FedAvg": federated.simulate(federated.FedAvg(), data, clock=clock, **options),
        "AdaptCL": federated.simulate(federated.AdaptCL(interval=2), data, clock=clock, **options),
    }


def test_every_public_name_is_there():
    assert {"AdaptCL", "FedAvg", "simulate"} <= set(federated.__all__) == set(dir(federated))
    for name in federated.__all__:
        assert getattr(federated, name).__name__ == name
    assert callable(federated.simulate)  # the function, not a module of that name
    with pytest.raises(AttributeError, match="no attribute 'FedProx'"):
        federated.FedProx  # noqa: B018


def test_importing_loads_nothing_heavy():
    code = (
        "import sys, cascadenet.sparse.federated as f; f.AdaptCL, f.simulate;"
        "print([m for m in ('pandas', 'scipy', 'numba', 'matplotlib', 'flwr') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_flower_says_what_it_needs():
    code = (
        "import sys; sys.modules['flwr'] = None\n"
        "try:\n import cascadenet.sparse.federated.flower\n"
        "except ImportError as error: print(error)"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert "pip install 'cascadenet[flower]'" in done.stdout, done.stderr


def test_summary(capsys):
    got = table(capsys, "--seeds", "2").set_index("strategy")
    assert got.index.tolist() == ["fedavg", "adaptcl"]
    assert got["seeds"].tolist() == [2, 2]
    assert got.loc["fedavg", "speedup"] == 1.0
    assert got.loc["adaptcl", "speedup"] == 1.0  # no event before the fifth round
    quick = table(capsys, "--interval", "1").set_index("strategy")
    assert quick.loc["adaptcl", "speedup"] > 1.3


@pytest.mark.parametrize(("kind", "rows"), [("rounds", 8), ("workers", 32), ("events", 16)])
def test_tables(capsys, kind, rows):
    got = table(capsys, "--table", kind, "--interval", "1")
    assert len(got) == rows
    assert set(got["strategy"]) <= {"fedavg", "adaptcl"}


def test_all_strategies_and_options(capsys):
    got = table(
        capsys, "--strategies", "fedavg,adaptcl,static,fedasync", "--split", "0.8",
        "--no-batch-norm", "--timeout", "3", "--rule", "proportional", "--epochs", "2",
    )  # fmt: skip
    assert len(got) == 4
    sent = table(capsys, "--send", "0.1", "--table", "rounds")
    assert (sent["upload"] < 0.35 * sent["download"]).all()


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    for name in ("a.csv", "b.csv"):
        arguments = ("--table", "workers", "--interval", "1", "--seed", "5")
        assert federate(*QUICK, *arguments, "-o", str(tmp_path / name)) == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize("picture", cli.PICTURES)
def test_pictures_are_written(tmp_path, capsys, picture):
    path = tmp_path / "new" / "p.png"
    table(capsys, "--plot", str(path), "--picture", picture)
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_archives_are_read_and_refused(tmp_path, capsys):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 255, (60, 3, 3)).astype(np.uint8),
        "y_train": np.arange(60) % 3,
        "x_test": rng.integers(0, 255, (20, 3, 3)).astype(np.uint8),
        "y_test": np.arange(20) % 3,
    }
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    assert len(table(capsys, "--data", str(path), "--rows", "40")) == 2
    cases = [
        ({"y_test": None}, "missing y_test"),
        ({"y_train": np.arange(59)}, "must be of one length; got 60 and 59"),
        ({"y_train": np.linspace(0, 1, 60)}, "y_train must be numbers; got float64"),
        ({"x_train": np.array([{}] * 60)}, "must be an NPZ archive of numbers"),
    ]
    for change, message in cases:
        np.savez(path, **{k: v for k, v in (arrays | change).items() if v is not None})
        with pytest.raises(FormatError, match=message):
            federate(*QUICK, "--data", str(path))
    path.write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(FormatError, match="must be an NPZ archive"):
        federate(*QUICK, "--data", str(path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategies", "sgd"], "--strategies must be among fedavg"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--hidden", "a"], "--hidden must be comma-separated integers"),
        (["--sigma", "0.5"], "sigma must be finite and in"),
        (["--rows", "0"], "--rows must be at least 1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        federate(*QUICK, *arguments)


# ---------------------------------------------------------------------------------------- pictures


def axes():
    return Figure().add_subplot()


def test_accuracy_lines_hold_the_table(runs):
    for against, column in (("time", "end"), ("round", "round")):
        ax = axes()
        assert plots.plot_accuracy(runs, against=against, ax=ax) is ax
        for line, run in zip(ax.lines, runs.values(), strict=True):
            shift = 1 if column == "round" else 0
            assert np.allclose(line.get_xdata(), run.rounds[column] + shift)
            assert np.allclose(line.get_ydata(), run.rounds["accuracy"])
        assert [text.get_text() for text in ax.get_legend().get_texts()] == list(runs)


@pytest.mark.parametrize(
    ("draw", "column"), [(plots.plot_retention, "retention"), (plots.plot_times, "seconds")]
)
def test_worker_lines_hold_the_table(runs, draw, column):
    ax = draw(runs["AdaptCL"], ax=axes())
    assert len(ax.lines) == 4
    values = runs["AdaptCL"].workers.sort_values(["worker", "round"])[column]
    assert np.allclose(np.concatenate([line.get_ydata() for line in ax.lines]), values)
    assert ax.get_ylabel()


def test_bars_hold_mean_waiting(runs):
    ax = plots.plot_waiting(runs, ax=axes())
    heights = [[bar.get_height() for bar in group] for group in ax.containers]
    for run, found in zip(runs.values(), heights, strict=True):
        assert np.allclose(found, run.workers.groupby("worker")["waiting"].mean())


def test_pictures_refuse():
    with pytest.raises(ValueError, match="runs must not be empty"):
        plots.plot_accuracy({})
    with pytest.raises(ValueError, match="runs must not be empty"):
        plots.plot_waiting({})
    with pytest.raises(ValueError, match="against must be one of time, round"):
        plots.plot_accuracy({}, against="epoch")
