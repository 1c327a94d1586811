"""Examination estimates, off-policy values, environments, experiments, pictures, command line."""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cascadenet.errors import FormatError
from cascadenet.sparse import bandits
from cascadenet.sparse.bandits import (
    IdentifiabilityError,
    LinUCBRanker,
    PBMEnvironment,
    RandomRanker,
    count_lists,
    fit_examination,
    linear_world,
    ope,
    plot_estimates,
    plot_examination,
    plot_regret,
    ready_rankers,
    relevance_attraction,
    replay,
    run_experiment,
    summarise,
    verify,
)
from cascadenet.sparse.bandits.cli import add_parser

ROOT = Path(__file__).resolve().parent.parent
Q = np.array([1.0, 0.6, 0.4, 0.3, 0.2])
METHODS = ("em", "poisson", "harvest", "ctr", "probit")


def clicked_lists(
    rng: np.random.Generator, n_rounds: int, mu: np.ndarray, weights: np.ndarray, q: np.ndarray = Q
) -> tuple[np.ndarray, np.ndarray]:
    """Plackett-Luce lists by exponential keys, with position-based clicks."""
    keys = rng.standard_exponential((n_rounds, mu.size)) / weights
    lists = np.argsort(keys, axis=1)[:, : q.size]
    return lists, (rng.random(lists.shape) < q * mu[lists]).astype(np.float64)


# Examination


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("logs", ["uniform", "correlated"])
def test_examination_is_found(method: str, logs: str, seed: int) -> None:
    """50 000 lists; the spread of the estimates is about 0.004, so false alarms are below 1e-6.

    Negative control: click rates mislead when good items stand in good slots.
    """
    rng = np.random.default_rng(seed)
    mu = np.linspace(0.05, 0.5, 20)
    weights = np.ones(20) if logs == "uniform" else mu
    lists, clicks = clicked_lists(rng, 50_000, mu, weights)
    found = fit_examination(*count_lists(lists, clicks), method)
    error = np.abs(found.examination - Q).max()
    assert found.converged
    if method == "ctr" and logs == "correlated":
        assert error < 0.06
        good = fit_examination(*count_lists(lists, clicks), "em").examination
        assert (found.examination[1:] < good[1:]).all()
    else:
        assert error < (0.03 if method != "probit" else 0.06)
    if method in ("em", "poisson"):
        np.testing.assert_allclose(found.attraction, mu, atol=0.03)


@pytest.mark.parametrize("method", METHODS)
def test_logs_that_cannot_tell_are_refused(method: str, seed: int) -> None:
    """One ranker, two that never share an item between two groups of slots, silent slots."""
    rng = np.random.default_rng(seed)
    mu = np.linspace(0.5, 0.1, 8)
    one = np.tile(np.arange(5), (500, 1))
    two = np.where(rng.random((500, 1)) < 0.5, [[0, 1, 2, 3, 4]], [[1, 0, 3, 2, 4]])
    for lists in (one, two):
        clicks = (rng.random(lists.shape) < Q * mu[lists]).astype(float)
        with pytest.raises(IdentifiabilityError, match="in common"):
            fit_examination(*count_lists(lists, clicks, 8), method)
    lists, clicks = clicked_lists(rng, 500, mu, np.ones(8))
    clicks[:, 2] = 0
    with pytest.raises(IdentifiabilityError, match="slot 2 has no clicks"):
        fit_examination(*count_lists(lists, clicks), method)


def test_items_without_clicks_do_not_connect() -> None:
    """Item 2 was shown in both slots, but nobody ever clicks it."""
    shown = [[100, 0], [0, 100], [50, 50]]
    with pytest.raises(IdentifiabilityError):
        fit_examination(shown, [[30, 0], [0, 10], [0, 0]])
    assert fit_examination(shown, [[30, 0], [0, 10], [8, 4]]).converged


def test_em_climbs_and_agrees_with_features(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mu = np.linspace(0.1, 0.6, 12)
    counts = count_lists(*clicked_lists(rng, 20_000, mu, np.ones(12)))
    climb = [fit_examination(*counts, iterations=n, tolerance=0).log_likelihood for n in range(30)]
    assert (np.diff(climb) > 0).all()
    X = np.column_stack([np.ones(12), np.linspace(0, 1, 12)])
    found = fit_examination(*counts, features=X)
    np.testing.assert_allclose(found.examination, Q, atol=0.03)
    np.testing.assert_allclose(found.attraction, mu, atol=0.03)


@pytest.mark.parametrize(
    ("shown", "clicked", "message"),
    [
        ([[5, 5]], [[6, 0]], "exceed"),
        ([[0, 5]], [[1, 0]], "exceed"),
        ([[5, -1]], [[1, 0]], "negative"),
        ([[5, np.nan]], [[1, 0]], "finite"),
        ([[5, 5]], [[1, 0, 0]], "match"),
        ([5, 5], [1, 0], "dimension"),
    ],
)
def test_bad_counts(shown: Any, clicked: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_examination(shown, clicked)


def test_counting_lists() -> None:
    shown, clicked = count_lists([[0, 1], [1, -1], [1, 0]], [[1, 0], [1, 0], [0, 1]], 3)
    assert shown.tolist() == [[1, 1], [2, 1], [0, 0]]
    assert clicked.tolist() == [[1, 1], [1, 0], [0, 0]]
    for lists, clicks in (([[0, 0]], [[0, 0]]), ([[0, -1]], [[0, 1]]), ([[0, 3]], [[0, 0]])):
        with pytest.raises(ValueError):
            count_lists(lists, clicks, 3)


# Off-policy evaluation


def test_confidence_intervals_cover(seed: int) -> None:
    """300 logs of 400 rounds; 95% intervals cover in 90-99%, false alarms below 1e-4 each."""
    rng = np.random.default_rng(seed)
    mu, q = np.array([0.6, 0.4, 0.3, 0.2]), np.array([1.0, 0.5])
    logging, target = ope.plackett_luce(np.ones(4), 2), ope.plackett_luce([3, 2, 1, 1], 2)
    truth = target.probabilities @ (q * mu[target.lists]).sum(axis=1)
    reward = np.outer([0.5, 0.4, 0.4, 0.1], [1.0, 0.6])
    covered: dict[str, int] = {}
    for _ in range(300):
        lists = logging.sample(400, rng)
        clicks = (rng.random(lists.shape) < q * mu[lists]).astype(float)
        table = ope.evaluate(lists, clicks, target, logging, examination=q, reward=reward)
        for row in table.itertuples():
            covered[row.estimator] = covered.get(row.estimator, 0) + (row.low <= truth <= row.high)
    for name, count in covered.items():
        share = count / 300
        if name in ("logging_average", "direct_method"):
            assert share < 0.85, name
        else:
            assert 0.9 <= share <= 0.995, name


def test_policies(seed: int) -> None:
    weights = np.array([3.0, 1.0, 2.0, 0.5])
    policy = ope.plackett_luce(weights, 3)
    for items, chance in zip(policy.lists, policy.probabilities, strict=True):
        left, wanted = weights.sum(), 1.0
        for item in items:
            wanted *= weights[item] / left
            left -= weights[item]
        assert chance == pytest.approx(wanted, abs=1e-14)
    np.testing.assert_allclose(policy.marginals().sum(axis=0), 1.0, atol=1e-14)
    pairs = policy.pairs()
    np.testing.assert_allclose(np.diag(pairs), policy.marginals().reshape(-1), atol=1e-14)
    found = policy.sample(20_000, seed)
    share = np.bincount(found[:, 0], minlength=4) / 20_000
    np.testing.assert_allclose(share, weights / weights.sum(), atol=0.02)
    reward = np.arange(12.0).reshape(4, 3)
    ahead = policy.expected_next(np.array([[0, 1, 2]]), reward)[0]
    assert ahead[0] == pytest.approx(weights @ reward[:, 0] / 6.5)
    assert ahead[2] == pytest.approx((2.0 * reward[2, 2] + 0.5 * reward[3, 2]) / 2.5)


def test_support_is_checked() -> None:
    logging = ope.deterministic([0, 1], 3)
    target = ope.plackett_luce([1, 1, 1], 2)
    table = ope.evaluate([[0, 1]] * 4, [[1, 0]] * 4, target, logging, examination=[1, 0.5])
    value = table.set_index("estimator")["value"]
    assert value["logging_average"] == 1.0
    assert value.drop("logging_average").isna().all()
    with pytest.raises(ValueError, match="above 0"):
        ope.sips([[1, 0]], [0.5], [0.0])
    for bad in ([1.5], [-0.1], [np.nan], [0.1, 0.2]):
        with pytest.raises(ValueError):
            ope.sips([[1, 0]], bad, [0.5])
    with pytest.raises(ValueError, match="sum"):
        ope.ListPolicy([[0, 1]], [0.9], 2)
    with pytest.raises(ValueError, match="distinct"):
        ope.ListPolicy([[0, 0]], [1.0], 2)


def test_pbm_ips_needs_items_only() -> None:
    """A target that swaps the slots of the log is out of reach of iips, not of pbm_ips."""
    rng = np.random.default_rng(0)
    mu, q = np.array([0.6, 0.3]), np.array([1.0, 0.5])
    lists = np.tile([0, 1], (40_000, 1))
    clicks = (rng.random(lists.shape) < q * mu[lists]).astype(float)
    table = ope.evaluate(
        lists, clicks, ope.deterministic([1, 0], 2), ope.deterministic([0, 1], 2), examination=q
    ).set_index("estimator")
    assert np.isnan(table["value"]["iips"])
    assert table["value"]["pbm_ips"] == pytest.approx(0.3 + 0.3, abs=0.02)


# Environments and experiments


def test_clicks_follow_the_model(seed: int) -> None:
    """Click rates of 20 000 rounds within 4.5 standard errors of q mu: false alarms 1e-4."""
    mu = np.array([0.5, 0.2, 0.9])
    world = PBMEnvironment([0.5, 1.0], mu, seed=seed)
    shown = np.array([2, 0])
    clicks = np.array([world.click(shown) for _ in range(20_000)])
    chance = np.array([0.5, 1.0]) * mu[shown]
    error = np.sqrt(chance * (1 - chance) / 20_000)
    assert (np.abs(clicks.mean(axis=0) - chance) < 4.5 * error).all()


def test_regret_is_that_of_the_best_list() -> None:
    mu, q = np.array([0.5, 0.2, 0.9, 0.1]), np.array([0.3, 1.0, 0.6])
    world = PBMEnvironment(q, mu, seed=1)
    values = {p: world.value(np.array(p)) for p in itertools.permutations(range(4), 3)}
    assert world.optimal_value() == pytest.approx(max(values.values()))
    assert world.regret(np.array([1, 2, 0])) == pytest.approx(0.0)
    assert world.regret(np.array([2, 1, 0])) > 0.3


def test_worlds() -> None:
    fixed = linear_world(3)
    np.testing.assert_allclose(fixed.features @ fixed._theta, fixed.attraction)
    assert fixed.attraction.max() == pytest.approx(0.5)
    assert fixed.attraction.min() == pytest.approx(0.02)
    np.testing.assert_allclose(np.linalg.norm(fixed.features, axis=1), 1.0)
    fresh = linear_world(3, fresh=True)
    first, second = fresh.observe(), fresh.observe()
    assert not np.array_equal(first, second)
    assert 0 < fresh.attraction.min() < fresh.attraction.max() <= 0.5
    queries = PBMEnvironment([1, 0.5], [[0.1, 0.2], [0.3, 0.4, 0.5]], seed=0)
    seen = set()
    for _ in range(20):
        queries.observe()
        seen.add(queries.n_items)
    assert seen == {2, 3}
    np.testing.assert_allclose(relevance_attraction([0, 1, 4], 0.6), [0, 0.04, 0.6])


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (([1, 0],), {"attraction": [0.1, 0.2]}),
        (([1, 0.5],), {"attraction": [0.1]}),
        (([1, 0.5],), {"attraction": [0.1, 1.2]}),
        (([1, 0.5],), {}),
        (([1, 0.5],), {"theta": [1.0]}),
        (([1, 0.5],), {"attraction": [0.1, 0.2], "features": [[1.0]]}),
    ],
)
def test_bad_worlds(arguments: Any, settings: Any) -> None:
    with pytest.raises(ValueError):
        PBMEnvironment(*arguments, **settings, seed=0)


def test_regret_order_of_rankers() -> None:
    """New items every round, 5 seeds: position-based well below naive, naive below random."""
    names = ("linucb-pbm", "lints-pbm", "linucb-naive", "lints-naive", "random")
    makers = ready_rankers(names, alpha=0.1, fixed=False)
    table = run_experiment(makers, lambda s: linear_world(s, fresh=True), 4000, range(5), points=4)
    regret = summarise(table).set_index("ranker")["regret"]
    assert regret["linucb-pbm"] < 0.6 * regret["linucb-naive"]
    assert regret["lints-pbm"] < 0.6 * regret["lints-naive"]
    assert max(regret["linucb-naive"], regret["lints-naive"]) < 0.6 * regret["random"]


def test_regret_ratio_with_fixed_items() -> None:
    ratios, _ = verify.regret_ratios(6000, 3)
    assert ratios["linucb ratio"] <= 0.6
    assert ratios["lints ratio"] <= 1.0


def test_tables_are_tidy_and_repeat(seed: int) -> None:
    def table() -> pd.DataFrame:
        return run_experiment(ready_rankers(), linear_world, 60, [seed, seed + 1], points=6)

    one = table()
    pd.testing.assert_frame_equal(one, table())
    assert len(one) == 12 * 2 * 6
    assert list(one["round"].unique()) == [10, 20, 30, 40, 50, 60]
    for _, part in one.groupby(["ranker", "seed"]):
        assert (np.diff(part["regret"]) >= -1e-12).all()
        assert (np.diff(part["clicks"]) >= 0).all()
        np.testing.assert_allclose(part["ctr"], part["clicks"] / (part["round"] * 5))
        assert part["ndcg"].between(0, 1).all()


def test_replay_of_random_lists_is_unbiased(seed: int) -> None:
    """Mean clicks of a fixed ranker on 1/12 of 20 000 rounds within 4.5 standard errors."""
    rng = np.random.default_rng(seed)
    mu, q = np.array([0.6, 0.4, 0.3, 0.2]), np.array([1.0, 0.5])
    lists, clicks = clicked_lists(rng, 20_000, mu, np.ones(4), q)
    ranker = bandits.GreedyRanker(4, 2, q, items=np.eye(4), prior_mean=[1e6, 1e5, 0, 0], ridge=1e9)
    table = replay(ranker, lists, clicks)
    error = table["clicks"].std() / np.sqrt(len(table))
    assert 1400 < len(table) < 1950
    assert abs(table["clicks"].mean() - 0.8) < 4.5 * error
    first = replay(LinUCBRanker(4, 2, q), lists[:300], clicks[:300], features=np.eye(4),
                   match="first")  # fmt: skip
    assert 0 < len(first) < 200
    with pytest.raises(ValueError, match="alike"):
        replay(RandomRanker(2, 4, seed=1), lists, clicks[:10])


# Pictures


def test_pictures_show_the_tables() -> None:
    table = run_experiment(ready_rankers(("random", "pbm-ucb")), linear_world, 40, [1, 2], points=5)
    for measure in ("regret", "clicks", "ctr", "ndcg"):
        ax = plot_regret(table, measure)
        mean = table[table["ranker"] == "random"].groupby("round")[measure].mean()
        np.testing.assert_allclose(ax.lines[0].get_ydata(), mean)
        assert len(ax.collections) == 2
        assert ax.get_xlabel() and ax.get_ylabel()
    with pytest.raises(ValueError, match="none of that"):
        plot_regret(table, rankers=["none of that"])
    ax = plot_examination({"em": [1, 0.5]}, truth=[1, 0.6])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["truth", "em"]
    estimates = ope.evaluate(
        [[0, 1], [1, 0]], [[1, 0], [0, 1]], *[ope.plackett_luce([1, 2], 2)] * 2
    )
    ax = plot_estimates(estimates, truth=1.0)
    assert len(ax.get_yticks()) == estimates["value"].notna().sum()


# Command line


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers(required=True))
    options = parser.parse_args(["bandit", *words])
    return options.run(options)


def test_simulate_command(tmp_path: Path) -> None:
    words = ("simulate", "--rounds", "50", "--seeds", "2", "--items", "8", "--features", "3")
    for extra in ((), ("--fresh",), ("--rankers", "all"), ("--summary",)):
        csv = tmp_path / "out.csv"
        assert command(*words, *extra, "-o", str(csv), "--plot", str(tmp_path / "p.png")) == 0
        table = pd.read_csv(csv)
        assert ("regret_se" in table) == (extra == ("--summary",))
        assert table["ranker"].nunique() == (12 if "all" in extra else 5)
        first = csv.read_bytes()
        command(*words, *extra, "-o", str(csv))
        assert csv.read_bytes() == first
    for bad in (("--rankers", "best"), ("--seeds", "0"), ("--examination", "1,x"),
                ("--examination", "1,2"), ("--items", "3")):  # fmt: skip
        with pytest.raises(ValueError):
            command(*words, *bad)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    mu = np.array([0.6, 0.4, 0.3, 0.2])
    lists, clicks = clicked_lists(rng, 3000, mu, np.ones(4), np.array([1.0, 0.5]))
    names = np.array(["a", "b", "c", "d"])
    frame = pd.DataFrame(
        {
            "round": np.repeat(np.arange(3000), 2),
            "slot": np.tile([1, 2], 3000),
            "item": names[lists].reshape(-1),
            "click": clicks.reshape(-1).astype(int),
        }
    )
    frame.sample(frac=1, random_state=1).to_csv(tmp_path / "log.csv", index=False)
    pd.DataFrame({"item": names, "weight": [4, 3, 2, 1]}).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path


@pytest.mark.parametrize("examination", [(), ("--examination", "1,0.5"), ("--examination", "em")])
def test_evaluate_command(log: Path, examination: tuple[str, ...]) -> None:
    out = log / "out.csv"
    words = ("evaluate", str(log / "log.csv"), "--target", str(log / "t.csv"), *examination)
    assert command(*words, "-o", str(out), "--plot", str(log / "p.png")) == 0
    table = pd.read_csv(out).set_index("estimator")
    target = ope.plackett_luce([4, 3, 2, 1], 2)
    mu, q = np.array([0.6, 0.4, 0.3, 0.2]), np.array([1.0, 0.5])
    truth = target.probabilities @ (q * mu[target.lists]).sum(axis=1)
    assert ("pbm_ips" in table.index) == bool(examination)
    assert ("iips_dr" in table.index) == ("em" in examination)
    for name, row in table.iterrows():
        if name not in ("logging_average", "direct_method"):
            assert abs(row["value"] - truth) < 4.5 * row["standard_error"], name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("round,slot,item\n1,1,a\n", "columns"),
        ("round,slot,item,click\n", "at least one row"),
        ("round,slot,item,click\n1,1,a,0\n1,2,a,0\n", "twice"),
        ("round,slot,item,click\n1,1,a,0\n1,2,b,3\n", "line 3"),
        ("round,slot,item,click\n1,1,a,0\n1,2,b,x\n", "line 3"),
        ("round,slot,item,click\n1,1,a,0\n1,2,b,0\n2,1,a,0\n", "every slot once"),
        ("round,slot,item,click\n1,1,,0\n", "line 2"),
        ("", "CSV"),
    ],
)
def test_bad_logs(log: Path, text: str, message: str) -> None:
    (log / "log.csv").write_text(text)
    with pytest.raises(FormatError, match=message):
        command("evaluate", str(log / "log.csv"), "--target", str(log / "t.csv"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item,weight\na,1\nb,1\nc,1\n", "none for d"),
        ("item,weight\na,1\nb,1\nc,1\nd,0\n", "above 0"),
        ("item,weight\na,1\nb,1\nc,1\nd,1\nd,1\n", "twice"),
        ("item,weight\nz,1\n", "not in the log"),
    ],
)
def test_bad_targets(log: Path, text: str, message: str) -> None:
    (log / "t.csv").write_text(text)
    with pytest.raises(FormatError, match=message):
        command("evaluate", str(log / "log.csv"), "--target", str(log / "t.csv"))


def test_every_public_name_loads_late() -> None:
    for name in bandits.__all__:
        assert getattr(bandits, name) is not None
    text = (
        "import sys, cascadenet.sparse.bandits as b; "
        "import cascadenet.sparse.bandits.cli; "
        "assert not {'numba', 'pandas', 'matplotlib', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", text], check=True, cwd=ROOT)
