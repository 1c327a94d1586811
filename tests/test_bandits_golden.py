"""Reference values of the rankers, examination estimates and off-policy estimators."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascadenet.sparse.bandits import (
    CascadeLinUCBRanker,
    LinTSRanker,
    LinUCBRanker,
    PBMPIERanker,
    PBMTSRanker,
    PBMUCBRanker,
    fit_examination,
    ope,
)

EXACT, FLOAT = 1e-13, 1e-10

pytestmark = pytest.mark.filterwarnings("ignore:feature vectors have lengths")


@pytest.fixture(scope="module")
def golden(shared_data: Path) -> dict[str, Any]:
    path = shared_data.parent / "reference" / "bandits.json"
    if not path.is_file():
        pytest.skip(f"no reference values at {path}")
    return json.loads(path.read_text())


def number(value: Any) -> float:
    return float(Fraction(value)) if isinstance(value, str) else float(value)


def numbers(values: Any) -> np.ndarray:
    if isinstance(values[0], list):
        return np.array([numbers(row) for row in values])
    return np.array([number(value) for value in values])


def close(found: Any, wanted: Any, tolerance: float) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)


# Linear rankers


@pytest.mark.jit_off
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("p", [0, 1, 2])
def test_exact_rounds(golden: dict[str, Any], p: int, fixed: bool) -> None:
    case = golden["case1_exact_linucb_pbm"]
    X, q = numbers(case["X"]), numbers(case["q"])
    ranker = LinUCBRanker(2, 2, q, weighting=p, items=X if fixed else None)
    sampler = LinTSRanker(2, 2, q, weighting=p, scale=0.5, seed=1, items=X if fixed else None)
    candidates = () if fixed else (X,)
    for step, log in zip(case["by_p"][str(p)], case["log"], strict=False):
        shown = np.array(log["ranking"])
        for learner in (ranker, sampler):
            if fixed:
                learner.update(None, log["clicks"], items=shown)
            else:
                learner.update(X[shown], log["clicks"])
        mean, covariance = ranker.posterior()
        close(mean, numbers(step["theta"]), EXACT)
        close(covariance, numbers(step["Ainv"]), EXACT)
        close(np.linalg.inv(covariance), numbers(step["A"]), EXACT)
        close(sampler.posterior()[0], numbers(step["theta"]), EXACT)
        close(ranker.scores(*candidates), step["ucb"], EXACT)
        assert ranker.rank(*candidates).tolist() == step["ranking_ucb"]
        ranker.alpha = 0.0
        close(ranker.scores(*candidates), numbers(step["mean"]), EXACT)
        assert ranker.rank(*candidates).tolist() == step["ranking_greedy"]
        ranker.alpha = 1.0
    for row in case["by_p"][str(p)][len(case["log"]) :]:
        draw = row["ts"]
        close(sampler.scores(*candidates, z=draw["z"]), draw["scores"], EXACT)
        assert sampler.rank(*candidates, z=draw["z"]).tolist() == draw["ranking"]


VARIANTS = {
    "p0": {},
    "p1": {"weighting": 1},
    "p2": {"weighting": 2},
    "naive_q1": {"weighting": "naive"},
    "forget_0.9_no_retain_p0": {"forgetting": 0.9, "keep_prior": False},
    "forget_0.9_retain_prior_p0": {"forgetting": 0.9},
    "window5_p0": {"window": 5},
    "after_first_10_p0": {},
}


@pytest.mark.jit_off
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_logged_lists(golden: dict[str, Any], name: str, fixed: bool) -> None:
    case = golden["case2_float"]
    X = np.array(case["X"])
    ranker = LinUCBRanker(
        5, 3, case["q"], alpha=case["alpha"], ridge=case["lambda"],
        items=X if fixed else None, **VARIANTS[name],
    )  # fmt: skip
    for log in case["log"][: 10 if "first_10" in name else None]:
        shown = np.array(log["ranking"])
        if fixed:
            ranker.update(None, log["clicks"], items=shown)
        else:
            ranker.update(X[shown], log["clicks"])
    wanted, candidates = case[name], () if fixed else (X,)
    mean, covariance = ranker.posterior()
    close(mean, wanted["theta"], FLOAT)
    close(X @ mean, wanted["mean"], FLOAT)
    close(np.linalg.inv(covariance), wanted["A"], FLOAT)
    close(-np.linalg.slogdet(covariance)[1], wanted["logdetA"], FLOAT)
    score = ranker.scores(*candidates)
    close(score, wanted["ucb"], FLOAT)
    close((score - X @ mean) / case["alpha"], wanted["width"], FLOAT)
    assert ranker.rank(*candidates).tolist() == wanted["ranking_ucb"]


@pytest.mark.jit_off
def test_ties_and_norms(golden: dict[str, Any]) -> None:
    case = golden["case3_ties"]
    ranker = LinUCBRanker(2, 2, case["q"])
    close(ranker.scores(case["X"]), case["ucb_round1"], EXACT)
    assert ranker.rank(case["X"]).tolist() == case["ranking_round1"]
    close(ranker.scores(case["nonuniform_norm_X"]), case["nonuniform_ucb"], EXACT)
    assert ranker.rank(case["nonuniform_norm_X"]).tolist() == case["nonuniform_ranking"]


def test_context_free(golden: dict[str, Any]) -> None:
    case = golden["case5_context_free_pbm"]
    q, delta = numbers(case["kappa"]), np.log(47)
    rankers = [
        PBMUCBRanker(3, 3, q),
        PBMPIERanker(3, 3, q, seed=1),
        PBMTSRanker(3, 3, q, seed=1),
    ]
    for ranker in rankers:
        ranker.set_counts(case["N_kl"], case["S_kl"])
    arms = {name: [number(arm[name]) for arm in case["arms"]] for name in case["arms"][0]}
    close(rankers[0].weighted_impressions(), arms["Ntilde"], EXACT)
    close(rankers[0].estimates(), arms["theta_hat"], EXACT)
    close(rankers[0].index(delta), arms["pbm_ucb_index"], FLOAT)
    close(rankers[0].maximum_likelihood(), arms["mle"], FLOAT)
    close(rankers[1].index(delta), arms["pie_index_U"], FLOAT)
    mean, spread = rankers[2].posterior_moments()
    close(mean, arms["posterior_mean_beta11_prior"], FLOAT)
    close(spread, arms["posterior_sd"], FLOAT)


@pytest.mark.jit_off
def test_cascade(golden: dict[str, Any]) -> None:
    case = golden["case6_cascade_linucb"]
    X = np.array(case["X"])
    ranker = CascadeLinUCBRanker(2, 3)
    for log in case["log"]:
        ranker.update(X[log["ranking"]], log["clicks"])
    mean, covariance = ranker.posterior()
    close(mean, case["theta"], EXACT)
    close(np.linalg.inv(covariance), case["A"], EXACT)


# Examination


def test_examination(golden: dict[str, Any]) -> None:
    case = golden["case7_position_bias"]
    counts = case["impressions_item_by_pos"], case["clicks_item_by_pos"]
    trace = case["em_trace"]
    start = trace[0]["q"], trace[0]["mu"]
    for row in trace:
        found = fit_examination(*counts, "em", start=start, iterations=row["iter"], tolerance=0.0)
        close(found.raw, row["q"], FLOAT)
        close(found.attraction / found.raw.max(), row["mu"], FLOAT)
        close(found.log_likelihood, row["loglik"], FLOAT)
        if "q_over_q1" in row:
            close(found.examination, row["q_over_q1"], FLOAT)
    last = trace[-1]["q_over_q1"]
    close(fit_examination(*counts).examination, last, FLOAT)
    close(fit_examination(*counts, "ctr").examination, case["ctr_ratio"], EXACT)
    found = fit_examination(*counts, "poisson")
    close(found.examination, case["poisson_rank1_mle"]["q"], FLOAT)
    close(found.attraction, case["poisson_rank1_mle"]["mu"], FLOAT)
    close(fit_examination(*counts, "harvest").examination, case["adjacent_harvest_q"], EXACT)


# Off-policy evaluation


def policy(table: dict[str, str]) -> ope.ListPolicy:
    lists = [[int(part) for part in key.strip("()").split(",")] for key in table]
    return ope.ListPolicy(lists, numbers(list(table.values())), 3)


NAMES = {
    "SIPS": "sips", "IIPS": "iips", "RIPS": "rips", "PI": "pseudo_inverse", "PBM_IPS": "pbm_ips",
    "IIPS_DR": "iips_dr", "CASCADE_DR": "cascade_dr", "NAIVE": "logging_average",
    "SNSIPS": "snsips", "SNIIPS": "sniips", "SNRIPS": "snrips",
}  # fmt: skip


def test_finite_log(golden: dict[str, Any]) -> None:
    case = golden["case8_ope"]
    log = case["finite_log"]["log"]
    table = ope.evaluate(
        [row["ranking"] for row in log], [row["clicks"] for row in log],
        policy(case["pi_e"]), policy(case["pi_b"]),
        examination=numbers(case["q"]), reward=numbers(case["qhat_for_DM_DR"]).T,
    )  # fmt: skip
    value = table.set_index("estimator")["value"]
    for name, mine in NAMES.items():
        wanted = number(case["finite_log"]["estimates"][name])
        close(value[mine], wanted, FLOAT if name == "PI" else EXACT)


@pytest.mark.parametrize("model", ["pbm", "cascade"])
def test_exact_expectations(golden: dict[str, Any], model: str) -> None:
    """Every list and click pattern as one round of a log, weighted by its probability."""
    case = golden["case8_ope"]
    target, logging = policy(case["pi_e"]), policy(case["pi_b"])
    q, mu = numbers(case["q"]), numbers(case["mu"])
    reward = numbers(case["qhat_for_DM_DR"]).T
    lists, clicks, chances = [], [], []
    for ranking, chance in zip(logging.lists, logging.probabilities, strict=True):
        for first in (0, 1):
            for second in (0, 1):
                hit = q * mu[ranking] if model == "pbm" else mu[ranking]
                if model == "cascade" and first:
                    hit = np.array([hit[0], 0.0])
                p = np.where([first, second], hit, 1 - hit).prod()
                lists.append(ranking)
                clicks.append([first, second])
                chances.append(chance * p)
    lists, clicks, chances = np.array(lists), np.array(clicks, float), np.array(chances)
    assert chances.sum() == pytest.approx(1, abs=1e-14)
    for name, mine in NAMES.items():
        if name.startswith("SN"):
            continue
        rounds = []
        for ranking, clicked in zip(lists, clicks, strict=True):
            table = ope.evaluate(
                [ranking], [clicked], target, logging, examination=q, reward=reward
            ).set_index("estimator")
            rounds.append(table["value"][mine])
        wanted = case["exact"][model][name]
        mean = chances @ rounds
        close(mean, number(wanted["expectation"]), FLOAT)
        close(chances @ (rounds - mean) ** 2, wanted["per_round_variance"], FLOAT)


def test_plackett_luce(golden: dict[str, Any]) -> None:
    case = golden["case8_ope"]
    for weights, key in (([1, 2, 3], "pi_b"), ([4, 2, 1], "pi_e")):
        found, wanted = ope.plackett_luce(weights, 2), policy(case[key])
        close(found.list_probability(wanted.lists), wanted.probabilities, EXACT)
        close(found.marginals(), wanted.marginals(), EXACT)
    weights = ope.pseudo_inverse_weights(
        policy(case["pi_b"]).lists, policy(case["pi_e"]).marginals(), policy(case["pi_b"]).pairs()
    )
    close(weights, list(case["PI_weights"].values()), FLOAT)
