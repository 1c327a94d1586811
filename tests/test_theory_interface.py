"""Tables, pictures, the command line, and what importing the package loads."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from cascadenet.errors import FormatError
from cascadenet.sparse import theory
from cascadenet.sparse.theory import (
    Law,
    curve,
    dense_risk,
    feature_curve,
    plot_curve,
    plot_heatmap,
    pruned_risk,
    random_feature_curve,
    retrained_risk,
    simulate,
    sparsity_grid,
    two_level,
)
from cascadenet.sparse.theory.cli import add_parser

ROOT = Path(__file__).resolve().parent.parent
KAPPA = np.array([0.3, 0.8, 1.0, 1.7, 5.0])


# Tables


def test_curve_holds_the_risks() -> None:
    law = Law([0.2, 0.5, 0.3], [2.0, 0.4, 0.0], [1.0, 0.3, 2.0], [0.0, 0.2, 0.0])
    table = curve(law, KAPPA, 0.2, 0.15, ridge=0.05, retrain_ridge=0.1)
    np.testing.assert_array_equal(table["kappa"], KAPPA)
    np.testing.assert_array_equal(table["dense"], dense_risk(law, KAPPA, 0.2, ridge=0.05))
    parts = table["bias"] + table["variance"] + 0.2
    np.testing.assert_allclose(table["dense"], parts, rtol=1e-12)
    for method in ("magnitude", "hessian", "oracle"):
        options = {"method": method, "ridge": 0.05}
        found = pruned_risk(law, KAPPA, 0.2, 0.15, **options)
        np.testing.assert_allclose(table[method], found, rtol=1e-13)
        found = retrained_risk(law, KAPPA, 0.2, 0.15, retrain_ridge=0.1, **options)
        np.testing.assert_allclose(table[f"retrained_{method}"], found, rtol=1e-13)
        keep = table[[f"keep_{method}_{k}" for k in range(3)]].to_numpy()
        np.testing.assert_allclose(keep @ law.weight, 0.15, rtol=1e-12)
        assert (keep[:, 2] == 0).all()


def test_keep_probabilities_beyond_the_rank() -> None:
    law = Law([0.25, 0.75], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0])
    table = curve(law, 2.0, 0.2, 0.7)
    for method in ("magnitude", "hessian", "oracle"):
        keep = table[[f"keep_{method}_0", f"keep_{method}_1"]].to_numpy()[0]
        np.testing.assert_allclose(keep, [1.0, 0.6], rtol=1e-14)
        np.testing.assert_allclose(table[method], table["dense"], rtol=1e-14)


def test_curve_at_a_fixed_number_of_kept_features() -> None:
    table = curve(two_level(), KAPPA, 0.2, kept_per_sample=0.5)
    np.testing.assert_allclose(table["kept_per_sample"], np.minimum(KAPPA, 0.5), rtol=1e-15)
    assert table["kept_fraction"][0] == 1.0
    assert table["magnitude"][0] == table["dense"][0]


def test_curve_without_pruning_is_dense_only() -> None:
    table = curve(two_level(), KAPPA, 0.2)
    assert list(table)[:2] == ["kappa", "dense"] and "magnitude" not in table


def test_many_components_give_a_narrow_table() -> None:
    law = Law.from_data(np.linspace(1.0, 2.0, 40), np.ones(40))
    assert not any(name.startswith("keep") for name in curve(law, 2.0, 0.1, 0.3))
    assert "keep_oracle_39" in curve(law, 2.0, 0.1, 0.3, keep=True)


def test_feature_curve_turns_omitted_features_into_noise() -> None:
    eigenvalue, b = np.array([1.0, 4.0, 0.5, 1.0]), np.array([0.1, 1.0, 0.5, 0.6])
    table = feature_curve(eigenvalue, b, 10, 0.3, 2)
    assert table["features"].tolist() == [1, 2, 3, 4]
    energy = np.sort(eigenvalue * b**2)[::-1]
    np.testing.assert_allclose(table["noise_variance"], 0.3 + energy.sum() - energy.cumsum())
    # s/n = 0.2: the two best features alone, whatever the size of the large model
    wanted = (0.3 + energy[2:].sum()) / 0.8
    np.testing.assert_allclose(table["retrained_oracle"][1:], wanted, rtol=1e-13)
    np.testing.assert_allclose(table["dense"], table["noise_variance"] / (1 - np.arange(1, 5) / 10))


def test_random_feature_curve_descends_twice() -> None:
    table = random_feature_curve("relu", np.geomspace(0.1, 30.0, 60), 3.0, 0.2, 0.25)
    risk = table["dense"].to_numpy()
    peak = risk.argmax()
    assert abs(table["kappa"][peak] - 1.0) < 0.1
    assert risk[-1] < risk[:peak].min() < risk[0]
    assert {"magnitude", "oracle", "noise_variance"} <= set(table)


def test_sparsity_grid_compares_equal_sizes() -> None:
    law = two_level()
    grid = sparsity_grid(law, [0.5, 2.0, 4.0], [0.4, 0.8], 0.25, method="oracle")
    assert len(grid) == 5  # 0.8 features per sample do not fit into 0.5
    row = grid[(grid["kappa"] == 2.0) & (grid["kept_per_sample"] == 0.4)].iloc[0]
    np.testing.assert_allclose([row["pruned"], row["small"]], 0.75, rtol=1e-13)  # the known tie
    assert abs(row["log2_ratio"]) < 1e-12


# Pictures


@pytest.fixture
def closing() -> object:
    yield
    plt.close("all")


@pytest.mark.usefixtures("closing")
def test_plot_curve_draws_every_risk_on_the_given_axes() -> None:
    law, ax = two_level(), plt.subplots()[1]
    table = curve(law, np.geomspace(0.2, 5.0, 40), 0.25, 0.2)
    simulated = simulate(law, [0.5, 2.0], 0.25, 0.2, n_samples=40, repeats=3)
    assert plot_curve(table, simulated=simulated, ax=ax) is ax
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(labels) == 7 and labels[0] == "dense"
    assert len(ax.containers) == 7 and "κ" in ax.get_xlabel() and ax.get_ylabel()
    assert np.isfinite(ax.get_ylim()).all()


@pytest.mark.usefixtures("closing")
def test_plot_curve_survives_infinite_risks() -> None:
    ax = plot_curve(curve(two_level(), [0.9, 1.0, 1.1], 0.25))
    assert np.isnan(ax.lines[0].get_ydata()[1]) and ax.get_legend() is None


@pytest.mark.usefixtures("closing")
def test_plot_curve_uses_the_feature_axis() -> None:
    table = feature_curve(np.ones(30), np.ones(30), 15, 0.2, 5)
    assert "number of features" in plot_curve(table, ["dense", "oracle"]).get_xlabel()


@pytest.mark.usefixtures("closing")
def test_plot_heatmap() -> None:
    grid = sparsity_grid(two_level(), np.geomspace(0.2, 8, 12), np.linspace(0.1, 1.5, 9), 0.25)
    ax = plot_heatmap(grid)
    assert ax.get_xlabel() and ax.get_ylabel() and ax.collections


@pytest.mark.usefixtures("closing")
def test_plots_name_what_is_missing() -> None:
    table = curve(two_level(), KAPPA, 0.2)
    with pytest.raises(ValueError, match="magnitude"):
        plot_curve(table, ["dense", "magnitude"])
    with pytest.raises(ValueError, match=r"x must be a column.*'width'"):
        plot_curve(table, x="width")
    with pytest.raises(ValueError, match="limit"):
        plot_heatmap(pd.DataFrame(), limit=-1.0)


# Command line


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    options = parser.parse_args(["theory", *arguments])
    return options.run(options)


def test_double_descent_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "curve.csv"
    assert run("double-descent", "--kappa", "0.5", "4", "7", "--noise", "0.3", "-o", str(path)) == 0
    table = pd.read_csv(path)
    np.testing.assert_allclose(table["dense"], dense_risk(two_level(), table["kappa"], 0.3))
    assert capsys.readouterr().out == ""
    assert run("double-descent", "--kappa", "0.5", "4", "7", "--noise", "0.3") == 0
    assert capsys.readouterr().out.encode() == path.read_bytes()


def test_pruning_command_with_pictures_and_simulation(tmp_path: Path) -> None:
    table, plot, heatmap = (tmp_path / name for name in ("a.csv", "a.png", "b.png"))
    code = run(
        "pruning", "--component", "0.3", "2", "1", "0", "--component", "0.7", "0.5", "0", "0.2",
        "--kept-per-sample", "0.3", "--kappa", "0.4", "4", "30", "-o", str(table),
        "--plot", str(plot), "--heatmap", str(heatmap), "--monte-carlo", "3", "--samples", "40",
    )  # fmt: skip
    found = pd.read_csv(table)
    simulated = found["simulated_hessian"].notna().sum()  # none on the peak
    assert code == 0 and len(found) == 30 + simulated and simulated >= 7
    assert found["kappa"].is_monotonic_increasing
    for path in (plot, heatmap):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_random_features_command(tmp_path: Path) -> None:
    path, plot = tmp_path / "rf.csv", tmp_path / "rf.png"
    code = run(
        "random-features", "--activation", "tanh", "--kept", "0.3",
        "--features-per-input", "0.5", "8", "9", "-o", str(path), "--plot", str(plot),
        "--monte-carlo", "2", "--samples", "30",
    )  # fmt: skip
    table = pd.read_csv(path)
    assert code == 0 and {"dense", "magnitude", "oracle", "simulated_dense"} <= set(table)
    assert plot.stat().st_size > 5000


def test_law_from_a_file(tmp_path: Path) -> None:
    file, out = tmp_path / "law.csv", tmp_path / "curve.csv"
    file.write_text("eigenvalue,coefficient\n2,0.5\n1,0.25\n0.5,0.1\n")
    command = ("double-descent", "--law-file", str(file), "--kappa", "0.5", "3", "5")
    assert run(*command, "-o", str(out)) == 0
    law = Law.from_data([2.0, 1.0, 0.5], [0.5, 0.25, 0.1])
    table = pd.read_csv(out)
    np.testing.assert_allclose(table["dense"], dense_risk(law, table["kappa"], 0.25))
    for text, wanted in (
        ("a,b\n1,2\n", r"law.csv must have the columns weight, .*; got a, b"),
        ("eigenvalue,coefficient\n-1,2\n", "law.csv: eigenvalues"),
        ("", "law.csv must be a CSV file"),
    ):
        file.write_text(text)
        with pytest.raises(FormatError, match=wanted):
            run(*command)


@pytest.mark.parametrize(
    "arguments, name",
    [
        (("double-descent", "--kappa", "3", "1", "5"), "--kappa"),
        (("double-descent", "--noise", "-1"), "noise_variance"),
        (("pruning", "--kept", "1.5"), "kept_fraction"),
        (("pruning", "--methods", "magnitude,best"), "methods"),
        (("double-descent", "--monte-carlo", "1"), "--monte-carlo"),
        (("random-features", "--activation", "step"), "activation"),
    ],
)
def test_commands_name_wrong_arguments(arguments: tuple[str, ...], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        run(*arguments)


# Import


def test_every_public_name_resolves() -> None:
    assert dir(theory) == sorted(theory.__all__)
    for name in theory.__all__:
        assert getattr(theory, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'risk'"):
        _ = theory.risk


def test_building_the_parser_loads_nothing_heavy() -> None:
    code = (
        "import argparse, sys; from cascadenet.sparse.theory.cli import add_parser\n"
        "add_parser(argparse.ArgumentParser().add_subparsers())\n"
        "print(*{'scipy', 'pandas', 'matplotlib'} & set(sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_risks_need_neither_pandas_nor_matplotlib() -> None:
    code = (
        "import sys; from cascadenet.sparse.theory import isotropic, retrained_risk\n"
        "retrained_risk(isotropic(), 2.0, 0.1, 0.3)\n"
        "print(*{'pandas', 'matplotlib', 'numba'} & set(sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_benchmark_loop_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain loop that the benchmark divides by gives the package's numbers."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    bench = importlib.import_module("bench_theory")
    law = bench.example_law()
    for kappa in (0.4, 1.7, 8.0):
        np.testing.assert_allclose(
            bench.loop_dense(law, kappa)[1], dense_risk(law, kappa, bench.NOISE), rtol=1e-8
        )
        wanted = pruned_risk(law, kappa, bench.NOISE, bench.KEPT)
        np.testing.assert_allclose(bench.loop_pruned(law, kappa), wanted, rtol=1e-8)
