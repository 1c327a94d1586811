"""The truth is a typical draw of the posterior, and probabilities of edges mean what they say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from cascadenet.inference import calibration, sbc
from cascadenet.inference.sbc import CASES, Ranks
from cascadenet.metrics import expected_calibration_error

WORLDS = 200
ALARM = 1e-3  # false-alarm rate of all p values of a test together (Bonferroni)


@pytest.fixture(scope="module")
def ranks(seed: int) -> Ranks:
    model, design = CASES["hdp"]
    return sbc.rank_worlds(model, design, replicates=WORLDS, seed=seed, thin=4)


def least_p(found: dict[str, tuple[float, float]]) -> tuple[float, str]:
    """Smallest p value and its quantity, corrected for their number."""
    p, name = min((min(values), name) for name, values in found.items())
    return p * 2 * len(found), name


def test_ranks_are_uniform(ranks: Ranks) -> None:
    assert {"total", "b", "alpha", "tau", "gamma", "theta_0", "rate_01", "n_01"} <= set(ranks.rank)
    p, name = least_p(sbc.uniformity(ranks))
    assert p > ALARM, name


def test_flat_ranks_are_uniform(seed: int) -> None:
    model, design = CASES["flat"]
    found = sbc.uniformity(sbc.rank_worlds(model, design, replicates=WORLDS, seed=seed, thin=4))
    p, name = least_p(found)
    assert p > ALARM, name


def test_wrong_prior_is_caught(seed: int) -> None:
    """Negative control: a sampler that believes in rates half as large."""
    model, design = CASES["flat"]
    shape, rate = model.b_prior
    wrong = dataclasses.replace(model, b_prior=(shape, rate / 2.0))
    found = sbc.uniformity(
        sbc.rank_worlds(model, design, replicates=100, seed=seed, thin=4, chain_model=wrong)
    )
    assert least_p(found)[0] < 1e-6


def test_small_worlds_are_calibrated(ranks: Ranks) -> None:
    """By chance alone the error is about 0.02 with so many pairs, over 0.03 in one of 500 runs."""
    assert ranks.prob.size > 1000
    assert expected_calibration_error(ranks.prob, ranks.carried) <= 0.03


def test_edge_table_is_calibrated(seed: int) -> None:
    """Of the pairs given probability p, a share p have carried an infection; not p squared."""
    table = sbc.carried_pairs(replicates=8, seed=seed)
    prob, carried = table["prob"].to_numpy(), table["carried"].to_numpy()
    assert 0.1 < carried.mean() < 0.5
    assert expected_calibration_error(prob, carried) <= 0.03
    assert expected_calibration_error(prob**2, carried) > 0.03


# The test of the ranks itself


def made_up(rng: np.random.Generator, power: float) -> Ranks:
    rank = (64 * rng.random(1000) ** power).astype(np.int64)
    return Ranks(63, {"x": rank}, np.empty(0), np.empty(0, bool))


def test_uniformity_tells_uniform_from_skewed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert min(sbc.uniformity(made_up(rng, 1.0))["x"]) > ALARM
    assert max(sbc.uniformity(made_up(rng, 1.3))["x"]) < 1e-6


def test_uniformity_has_its_false_alarm_rate(seed: int) -> None:
    """400 tests at 5%: between 2 and 9 in a hundred reject (beyond, 1 in 1000 runs)."""
    rng = np.random.default_rng(seed)
    p = np.array([sbc.uniformity(made_up(rng, 1.0), seed=i)["x"] for i in range(400)])
    assert ((p < 0.05).mean(axis=0) < 0.09).all()
    assert ((p < 0.05).mean(axis=0) > 0.02).all()


def test_histogram_keeps_all_ranks(seed: int) -> None:
    ranks = made_up(np.random.default_rng(seed), 1.0)
    assert sbc.rank_histogram(ranks, "x", 16).sum() == 1000
    with pytest.raises(ValueError, match=r"bins must divide the 64 ranks; got 10"):
        sbc.rank_histogram(ranks, "x", 10)


# Pictures and command


def test_rank_picture_shows_band_and_bins(seed: int) -> None:
    ax = calibration.plot_ranks(made_up(np.random.default_rng(seed), 1.0), "x")
    assert sum(bar.get_height() for bar in ax.containers[0]) == 1000
    band = next(patch for patch in ax.patches if patch not in ax.containers[0].patches)
    assert 0 < band.get_y() < 1000 / calibration.BINS < band.get_y() + band.get_height()
    assert ax.get_xlabel() and ax.get_ylabel()
    plt.close(ax.figure)


def test_pictures_draw_where_they_are_told() -> None:
    figure, axes = plt.subplots(2)
    table = {"update_b": {"log b": 1.0, "Lambda": 0.0}}
    assert calibration.plot_z(table, ax=axes[0]) is axes[0]
    assert calibration.plot_reliability([0.1, 0.9], [0, 1], ax=axes[1]) is axes[1]
    dots = next(line for line in axes[0].lines if line.get_marker() == "o")
    assert np.array_equal(dots.get_xdata(), [1.0])  # what is not touched is not shown
    plt.close(figure)


def test_command_reports_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Too few worlds to judge anything: what is tested is that tables and pictures come out."""
    code = calibration.main(["sbc", "--replicates", "3", "--seed", "1", "-o", str(tmp_path)])
    shown = capsys.readouterr().out
    assert code in (0, 1)
    assert ("sbc: passed" in shown) == (code == 0)
    assert "p chi-square" in shown and "rate_01" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"sbc-hdp.png", "sbc-flat.png"}


def test_command_refuses_nonsense(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["nothing"], ["sbc", "--replicates", "1"]):
        with pytest.raises(SystemExit) as stop:
            calibration.main(wrong)
        assert stop.value.code == 2
    assert "--replicates must be at least 2; got 1" in capsys.readouterr().err
