"""Command line and pictures of the pruning package, and the benchmark's bookkeeping."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from cascadenet.errors import FormatError
from cascadenet.sparse.pruning import (
    DPFClassifier,
    DPFRegressor,
    DPPClassifier,
    load_model,
    plot_accuracy,
    plot_densities,
    plot_flips,
    plot_masks,
)
from cascadenet.sparse.pruning import cli as pruning_cli
from tests.test_pruning_estimators import problem

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    pruning_cli.add_parser(parser.add_subparsers(required=True))
    options = parser.parse_args(["prune", *arguments])
    return options.run(options)


@pytest.fixture
def data(tmp_path, seed):
    x, y = problem(seed)
    names = np.array(["red", "green", "blue"])[y]
    path = tmp_path / "data.npz"
    np.savez(path, X=x[:150], y=names[:150], X_test=x[150:], y_test=names[150:])
    return path


QUICK = ("--hidden", "16", "--epochs", "30", "--json", "--quiet")


@pytest.mark.parametrize("method", pruning_cli.METHODS)
def test_every_method_trains_scores_and_saves(method, data, tmp_path, capsys):
    out = tmp_path / "made" / "model.npz"
    code = run(str(data), "--method", method, "--sparsity", "0.5", "-o", str(out), *QUICK)
    result = json.loads(capsys.readouterr().out)
    assert code == 0 and result["method"] == method and result["score_test"] > 0.8
    near = 0.06 if method == "dpp" else 0.005  # whole inputs of every unit
    assert result["sparsity"] == pytest.approx(0.0 if method == "dense" else 0.5, abs=near)
    with np.load(data) as file:
        assert load_model(out).score(file["X_test"], file["y_test"]) == pytest.approx(
            result["score_test"], abs=1e-6
        )


def test_regression_from_a_table_and_a_picture(tmp_path, capsys, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((120, 3))
    table = np.c_[x, x @ [1.0, -2.0, 0.0]]
    path, picture = tmp_path / "data.csv", tmp_path / "plot.png"
    np.savetxt(path, table, delimiter=",", header="a,b,c,target", comments="")
    code = run(str(path), "--task", "regression", "--hidden", "none", "--sparsity", "0.3",
               "--epochs", "60", "--plot", str(picture))  # fmt: skip
    text = capsys.readouterr().out
    assert code == 0 and "2 of 3 weights kept" in text and "R² in training: 1.0000" in text
    assert picture.stat().st_size > 1000


def test_files_that_are_not_what_was_expected(tmp_path):
    for name, content, message in (
        ("a.npz", b"junk", "another kind of file"),
        ("a.csv", b"x,y\n1,2\n,4\n", "line 3: a value is missing"),
        ("b.csv", b"x,y\nred,2\n", "columns x must be numbers"),
        ("c.csv", b"x\n1\n", "at least 2 columns"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(FormatError, match=message):
            run(str(path))
    np.savez(tmp_path / "d.npz", a=np.zeros(3))
    with pytest.raises(FormatError, match="expected arrays X and y"):
        run(str(tmp_path / "d.npz"))
    np.savez(tmp_path / "e.npz", X=np.array([{}], dtype=object), y=np.zeros(1))
    with pytest.raises(FormatError, match="expected arrays of numbers"):
        run(str(tmp_path / "e.npz"))
    with pytest.raises(FileNotFoundError):
        run(str(tmp_path / "none.npz"))


def test_options_that_do_not_go_together(data):
    for options, message in (
        (("--method", "snip", "--task", "regression"), "snip needs"),
        (("--method", "dpp", "--structure", "unit"), "--structure"),
        (("--method", "dpf", "--quantisation", "int8"), "--quantisation"),
        (("--sparsity", "1.5"), "sparsity must be"),
    ):
        with pytest.raises(ValueError, match=message):
            run(str(data), *options)


# --------------------------------------------------------------------------------------- pictures


@pytest.fixture(scope="module")
def models():
    x, y = problem(3)
    options = {"hidden_layer_sizes": (16, 8), "epochs": 20, "random_state": 0, "sparsity": 0.7}
    return {"dpf": DPFClassifier(**options).fit(x, y), "dpp": DPPClassifier(**options).fit(x, y)}


def test_accuracy_is_drawn_by_method():
    import pandas as pd

    rows = [
        {"method": name, "sparsity": s, "accuracy": 90 - 10 * s + i}
        for name in ("a", "b")
        for s in (0.9, 0.95, 0.98)
        for i in range(3)
    ]
    ax = plot_accuracy(pd.DataFrame(rows), baseline=90.0)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["90%", "95%", "98%"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    drawn = np.asarray(ax.containers[0][0].get_ydata(), dtype=float)
    np.testing.assert_allclose(drawn, [82, 81.5, 81.2])
    with pytest.raises(ValueError, match="columns accuracy"):
        plot_accuracy(pd.DataFrame(rows).drop(columns="accuracy"))


def test_flips_are_those_of_the_record(models):
    ax = plot_flips(models["dpf"])
    rows = models["dpf"].reallocations_[1:]
    drawn = ax.lines[0].get_ydata()
    size = sum(layer.mask.size for layer in models["dpf"].layers_)
    np.testing.assert_allclose(drawn, [max(row.flips, 0.5) / size for row in rows])
    with pytest.raises(ValueError, match="fitted DPFClassifier"):
        plot_flips(models["dpp"])


def test_densities_and_masks_are_those_of_the_layers(models):
    ax = plot_densities(models)
    shown = [bar.get_height() for bar in ax.containers[1]]
    wanted = [100 * layer.mask.mean() for layer in models["dpp"].layers_]
    np.testing.assert_allclose(shown, wanted)
    image = plot_masks(models["dpf"], layer=1).images[0].get_array()
    np.testing.assert_array_equal(image, models["dpf"].layers_[1].mask)
    image = plot_masks(models["dpf"], image_shape=(2, 3)).images[0].get_array()
    assert image.sum() == models["dpf"].layers_[0].nnz
    with pytest.raises(ValueError, match="6 pixels"):
        plot_masks(models["dpf"], image_shape=(2, 2))
    with pytest.raises(ValueError, match="must be fitted"):
        plot_densities(DPFRegressor())


# -------------------------------------------------------------------------------------- benchmark


def test_the_benchmark_skips_what_is_finished(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location(
        "bench_pruning", ROOT / "benchmarks" / "bench_pruning.py"
    )
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    rng, made = np.random.default_rng(0), []
    images = rng.integers(0, 256, (60, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, 60)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)

    def run(name, sparsity, seed, data):
        assert data[0].shape == (60, 784) and data[0].max() <= 1
        made.append((name, sparsity, seed))
        return {"method": name, "sparsity": sparsity, "seed": seed, "accuracy": 80.0 + seed,
                "nnz": 5, "cpu_seconds": 1.0}  # fmt: skip

    monkeypatch.setattr(bench, "run", run)
    arguments = ["-o", str(tmp_path / "runs.jsonl"), "--data", str(tmp_path / "data.npz")]
    bench.main([*arguments, "--seeds", "1"])
    first = list(made)
    bench.main([*arguments, "--seeds", "2"])
    assert len(set(made)) == len(made) == 2 * len(first)
    assert "80.50" in capsys.readouterr().out
