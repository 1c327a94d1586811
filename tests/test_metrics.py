"""Scores of edges, communities, probabilities and trees: against scikit-learn and by definition."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cascadenet.metrics import (
    EdgeScore,
    calibration_curve,
    community_agreement,
    expected_calibration_error,
    score_edges,
    tree_accuracy,
)


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def all_pairs(nodes):
    return list(itertools.permutations(nodes, 2))


def table(pairs, prob, **columns):
    source, target = [u for u, _ in pairs], [v for _, v in pairs]
    return pd.DataFrame({"source": source, "target": target, "prob": prob, **columns})


def random_problem(rng, levels, labels=None):
    """A few nodes, a random truth, a score on some of the pairs with `levels` distinct values."""
    nodes = list(range(rng.integers(3, 9))) if labels is None else labels
    pairs = all_pairs(nodes)
    is_true = rng.random(len(pairs)) < rng.uniform(0.1, 0.6)
    is_true[rng.integers(len(pairs))] = True
    listed = rng.permutation(len(pairs))[: rng.integers(0, len(pairs) + 1)]
    edges = table([pairs[i] for i in listed], rng.integers(0, levels, listed.size) / levels)
    truth = {pair for pair, true in zip(pairs, is_true, strict=True) if true}
    return nodes, edges, truth


def naive_vectors(nodes, edges, truth, columns=("prob",)):
    """Outcome and place of all N (N - 1) pairs; a larger place is better, not listed is least."""
    rows = edges[["source", "target"]].itertuples(index=False, name=None)
    scores = edges[list(columns)].itertuples(index=False, name=None)
    value = dict(zip(rows, scores, strict=True))
    place = {score: i + 1 for i, score in enumerate(sorted(set(value.values())))}
    outcome = [pair in truth for pair in all_pairs(nodes)]
    return np.array(outcome), np.array([place.get(value.get(p), 0) for p in all_pairs(nodes)])


def naive_hits_at(outcome, place, k):
    """Expected true pairs among the best k, as a fraction: whole blocks, then a share of one."""
    hits = Fraction(0)
    for level in sorted(set(place), reverse=True):
        block = outcome[place == level]
        taken = min(k, len(block))
        hits += Fraction(taken * int(block.sum()), len(block))
        k -= taken
    return hits


# ------------------------------------------------------------------------------- edges: the numbers


@pytest.mark.parametrize("levels", [1, 2, 4, 1000])
def test_equal_to_scikit_learn_on_the_full_universe(rng, levels):
    metrics = pytest.importorskip("sklearn.metrics")
    for _ in range(40):
        nodes, edges, truth = random_problem(rng, levels)
        got = score_edges(edges, truth, nodes)
        outcome, place = naive_vectors(nodes, edges, truth)
        expected = metrics.average_precision_score(outcome, place)
        assert got.auprc == pytest.approx(expected, abs=1e-14)
        if outcome.all():
            assert math.isnan(got.roc_auc)
        else:
            expected = metrics.roc_auc_score(outcome, place)
            assert got.roc_auc == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_equal_to_definitions(rng, levels):
    for _ in range(20):
        nodes, edges, truth = random_problem(rng, levels)
        got = score_edges(edges, truth, nodes)
        outcome, place = naive_vectors(nodes, edges, truth)
        n_true = int(outcome.sum())
        f1 = [
            2 * (outcome & (place >= cut)).sum() / ((place >= cut).sum() + n_true)
            for cut in set(place)
        ]
        assert got.best_f1 == pytest.approx(max(f1), abs=1e-15)
        at_true = naive_hits_at(outcome, place, n_true) / n_true
        assert got.f1_at_true == pytest.approx(float(at_true), abs=1e-15)
        for k in (1, 2, len(outcome) // 2, len(outcome)):
            expected = float(naive_hits_at(outcome, place, k) / k)
            assert got.precision_at(k) == pytest.approx(expected, abs=1e-15)
        assert (got.n_true, got.n_pairs) == (n_true, len(outcome))


def test_expectation_is_the_mean_over_orders_of_a_block():
    """Four tied pairs, two of them true, the cut after three: all 24 orders, one by one."""
    nodes = [0, 1, 2]
    pairs = all_pairs(nodes)
    edges = table(pairs[:5], [0.9, 0.5, 0.5, 0.5, 0.5])
    truth = {pairs[0], pairs[1], pairs[2]}
    f1, precision = [], []
    for order in itertools.permutations(pairs[1:5]):
        ranked = [pairs[0], *order]
        f1.append(len(truth & set(ranked[:3])) / 3)
        precision.append(len(truth & set(ranked[:4])) / 4)
    got = score_edges(edges, truth, nodes)
    assert got.f1_at_true == pytest.approx(np.mean(f1))
    assert got.precision_at(4) == pytest.approx(np.mean(precision))


def test_perfect_and_worst_rankings():
    nodes = range(6)
    pairs = all_pairs(nodes)
    truth = set(pairs[:7])
    best = score_edges(table(pairs, np.linspace(1, 0, 30)), truth, nodes)
    assert (best.auprc, best.roc_auc, best.best_f1, best.f1_at_true) == (1.0, 1.0, 1.0, 1.0)
    worst = score_edges(table(pairs, np.linspace(0, 1, 30)), truth, nodes)
    assert (worst.roc_auc, worst.f1_at_true) == (0.0, 0.0)
    assert worst.auprc < 7 / 30


@pytest.mark.parametrize("edges", [table([], []), table(all_pairs(range(5)), 0.3)])
def test_knowing_nothing_scores_as_chance(edges):
    got = score_edges(edges, {(0, 1), (3, 2)}, range(5))
    assert got.auprc == pytest.approx(2 / 20)
    assert got.roc_auc == pytest.approx(0.5)
    assert got.f1_at_true == pytest.approx(2 / 20)
    assert got.precision_at(7) == pytest.approx(2 / 20)


@given(
    score=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=12, max_size=12),
    outcome=st.lists(st.booleans(), min_size=12, max_size=12),
    order=st.permutations(range(12)),
)
def test_order_of_rows_and_units_of_scores_change_nothing(score, outcome, order):
    assume(any(outcome))
    pairs = all_pairs(range(4))
    truth = [pair for pair, true in zip(pairs, outcome, strict=True) if true]
    edges = table(pairs, score)
    expected = score_edges(edges, truth, range(4)).as_dict()
    shuffled = edges.iloc[list(order)]
    stretched = edges.assign(prob=np.exp(3.0 * edges["prob"]) - 7.0)
    for other in (shuffled, stretched):
        got = score_edges(other, truth, [2, 0, 3, 1]).as_dict()
        assert got == pytest.approx(expected, nan_ok=True)


def test_infinite_scores_are_first_and_last_of_those_listed():
    pairs = all_pairs(range(3))
    edges = table(pairs[:3], [-np.inf, np.inf, 0.0])
    assert score_edges(edges, {pairs[1]}, range(3)).auprc == 1.0
    # minus infinity is still above the three pairs that are not listed
    assert score_edges(edges, {pairs[0]}, range(3)).auprc == pytest.approx(1 / 3)


# -------------------------------------------------------------------------------- edges: what ranks


def test_prob_breaks_ties_by_n_then_rate(rng):
    metrics = pytest.importorskip("sklearn.metrics")
    pairs = all_pairs(range(7))
    edges = table(
        pairs,
        rng.integers(0, 2, 42) / 2,
        n=rng.integers(0, 3, 42).astype(float),
        rate=rng.integers(0, 3, 42) / 7,
    )
    truth = set(pairs[::3])
    for columns, keywords in [
        (("prob", "n", "rate"), {}),
        (("prob",), {"break_ties": False}),
        (("rate",), {"score": "rate"}),
        (("n",), {"score": "n"}),
    ]:
        outcome, place = naive_vectors(range(7), edges, truth, columns)
        expected = metrics.average_precision_score(outcome, place)
        assert score_edges(edges, truth, range(7), **keywords).auprc == pytest.approx(expected)


def test_score_may_be_a_function_of_the_table(rng):
    pairs = all_pairs(range(6))
    edges = table(pairs, 0.5, n=rng.random(30), rate=rng.random(30))
    product = edges.assign(product=edges["n"] * edges["rate"])
    got = score_edges(edges, pairs[:5], range(6), lambda e: e["n"] * e["rate"])
    assert got.as_dict() == pytest.approx(
        score_edges(product, pairs[:5], range(6), "product").as_dict(), nan_ok=True
    )


def test_tie_breakers_that_are_not_there_are_not_needed():
    pairs = all_pairs(range(3))
    edges = table(pairs, [0.5, 0.5, 0.1, 0.1, 0.1, 0.1])
    expected = score_edges(edges, {pairs[0]}, range(3)).as_dict()
    without_rates = edges.assign(rate=np.nan)
    got = score_edges(without_rates, {pairs[0]}, range(3)).as_dict()
    assert got == pytest.approx(expected, nan_ok=True)
    assert score_edges(edges.assign(n=[2, 1, 1, 1, 1, 1]), {pairs[0]}, range(3)).auprc == 1.0


# ------------------------------------------------------------------------------- edges: what counts


def test_truth_in_any_form_gives_the_same_scores(rng):
    nodes, edges, truth = random_problem(rng, 3, labels=["a", "b", "c", "d", "é"])
    pairs = sorted(truth)
    frame = pd.DataFrame(pairs, columns=["source", "target"])
    graph = nx.DiGraph(pairs)
    rated = nx.MultiDiGraph()
    rated.add_edges_from((u, v, {"rate": rate}) for u, v in pairs for rate in (0.0, 2.5))
    absent = next(pair for pair in all_pairs(nodes) if pair not in truth)
    rated.add_edge(*absent, rate=0.0)
    changing = pd.concat([frame.assign(rate=0.0, start=0.0), frame.assign(rate=0.3, start=5.0)])
    changing.loc[len(changing)] = [*absent, 0.0, 0.0]
    expected = score_edges(edges, truth, nodes).as_dict()
    for other in (pairs, iter(pairs), frame, graph, rated, changing):
        got = score_edges(edges, other, nodes).as_dict()
        assert got == pytest.approx(expected, nan_ok=True)


def test_labels_may_be_anything_that_labels_are(rng):
    nodes, edges, truth = random_problem(rng, 3, labels=list(range(5)))
    expected = score_edges(edges, truth, nodes).as_dict()
    names = {0: "x", 1: "y", 2: "zoë", 3: "10", 4: "2"}
    mixed = {0: "x", 1: 7, 2: -3, 3: "7", 4: 10**12}
    for name in (names, mixed):
        renamed = edges.assign(**{c: edges[c].map(name).astype(object) for c in edges.columns[:2]})
        renamed_truth = {(name[u], name[v]) for u, v in truth}
        got = score_edges(renamed, renamed_truth, [name[u] for u in nodes]).as_dict()
        assert got == pytest.approx(expected, nan_ok=True)
    categories = edges.astype({"source": "category", "target": "category"})
    for other, labels in [
        (categories, nodes),
        (edges.astype({"source": object}), np.arange(5)),
        (edges.astype({"target": "int32"}), pd.Series(nodes)),
    ]:
        assert score_edges(other, truth, labels).as_dict() == pytest.approx(expected, nan_ok=True)


def test_nodes_may_be_cascades():
    class Holder:  # what score_edges needs of Cascades
        nodes = ("a", "b", "c")

    edges = table([("a", "b"), ("c", "a")], [0.9, 0.2])
    assert score_edges(edges, {("a", "b")}, Holder()).n_pairs == 6


def test_excluded_pairs_are_in_nothing(rng):
    metrics = pytest.importorskip("sklearn.metrics")
    compared = 0
    while compared < 30:
        nodes, edges, truth = random_problem(rng, 4)
        pairs = all_pairs(nodes)
        excluded = {pair for pair in pairs if rng.random() < 0.4}
        outcome, place = naive_vectors(nodes, edges, truth)
        kept = np.array([pair not in excluded for pair in pairs])
        if not outcome[kept].any() or outcome[kept].all():
            continue
        compared += 1
        frame = pd.DataFrame(sorted(excluded) * 2, columns=["source", "target"])
        frame["rate"] = 0.0  # of no consequence: the pairs are what is left out
        for form in (excluded, frame):
            got = score_edges(edges, truth, nodes, exclude=form)
            assert got.n_pairs == kept.sum()
            assert got.n_true == outcome[kept].sum()
            expected = metrics.roc_auc_score(outcome[kept], place[kept])
            assert got.roc_auc == pytest.approx(expected, abs=1e-14)
            expected = metrics.average_precision_score(outcome[kept], place[kept])
            assert got.auprc == pytest.approx(expected, abs=1e-14)


def test_excluding_nothing_changes_nothing(rng):
    nodes, edges, truth = random_problem(rng, 4)
    got = score_edges(edges, truth, nodes, exclude=set()).as_dict()
    assert got == pytest.approx(score_edges(edges, truth, nodes).as_dict(), nan_ok=True)


def test_inputs_are_left_alone(rng):
    nodes, edges, truth = random_problem(rng, 4)
    frame = pd.DataFrame(sorted(truth), columns=["source", "target"])
    before = edges.copy(), frame.copy()
    score_edges(edges, frame, nodes, exclude=frame.iloc[:1] if len(frame) > 1 else None)
    pd.testing.assert_frame_equal(edges, before[0])
    pd.testing.assert_frame_equal(frame, before[1])


def test_memory_does_not_grow_with_the_square_of_nodes():
    """300 000 nodes: one byte a pair would be 90 GB."""
    n = 300_000
    edges = table([(i, i + 1) for i in range(1000)], np.linspace(1, 0, 1000))
    truth = pd.DataFrame({"source": np.arange(500), "target": np.arange(1, 501)})
    tracemalloc.start()
    got = score_edges(edges, truth, range(n))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got.n_pairs == n * (n - 1)
    assert got.auprc == 1.0
    assert peak < 100e6


# -------------------------------------------------------------------------------- edges: the result


def test_a_score_is_a_mapping(rng):
    nodes, edges, truth = random_problem(rng, 4)
    score = score_edges(edges, truth, nodes)
    assert isinstance(score, EdgeScore)
    names = ["auprc", "roc_auc", "best_f1", "f1_at_true"]
    names += ["precision_at_100", "precision_at_500", "precision_at_1000", "n_true", "n_pairs"]
    assert list(score) == list(score.as_dict()) == names
    assert len(score) == len(names)
    assert score["best_f1"] == score.best_f1
    assert pd.DataFrame([score.as_dict()]).shape == (1, len(names))
    assert "_blocks" not in repr(score)
    with pytest.raises(KeyError):
        score["f2"]
    with pytest.raises(AttributeError):
        score.auprc = 1.0


def test_precision_beyond_the_last_pair_is_nan():
    score = score_edges(table([(0, 1)], [0.4]), {(0, 1)}, range(3))
    assert score.precision_at(6) == pytest.approx(1 / 6)
    assert math.isnan(score.precision_at(7))
    assert math.isnan(score["precision_at_100"])
    for k in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="k must be a positive integer; got"):
            score.precision_at(k)


# ------------------------------------------------------------------------------- edges: wrong input

GOOD = table([("a", "b"), ("b", "c")], [0.9, 0.1], n=[1.0, 2.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"edges": table([("a", "b"), ("b", "c"), ("a", "b")], 0.5)},
            r"edges has the pair \('a', 'b'\) twice: rows 0 and 2",
        ),
        ({"edges": table([("a", "a")], 0.5)}, "edges joins 'a' to itself"),
        ({"edges": table([("a", "z")], 0.5)}, r"edges has the pair \('a', 'z'\): 'z' is not in"),
        ({"edges": GOOD.drop(columns="prob")}, "edges has no column 'prob'; it has source, target"),
        ({"edges": GOOD.drop(columns="source")}, "edges has no column 'source'; it has target"),
        ({"score": "likelihood"}, "edges has no column 'likelihood'; it has source, target, prob"),
        (
            {"edges": GOOD.assign(prob=[0.1, np.nan])},
            "column 'prob' of edges must not be nan; it is in row 1",
        ),
        ({"edges": GOOD.assign(n=[np.nan, 1.0])}, "column 'n' of edges must not be nan"),
        ({"edges": GOOD.assign(prob=["x", "y"])}, "column 'prob' of edges must be numbers"),
        ({"score": lambda e: [1.0]}, r"score must have one number a row, \(2,\); got \(1,\)"),
        ({"score": lambda e: [1.0, np.nan]}, "score must not be nan; it is in row 1"),
        ({"truth": {("a", 7)}}, r"truth has the pair \('a', 7\): 7 is not in nodes, whose labels"),
        ({"truth": {("b", "b")}}, "truth joins 'b' to itself"),
        ({"truth": set()}, "truth has no edge$"),
        ({"truth": GOOD.assign(rate=0.0)}, "truth has no edge$"),
        ({"truth": GOOD.assign(rate=[1.0, -2.0])}, "rate of truth must not be negative; got -2"),
        ({"truth": GOOD.assign(rate=[1.0, np.nan])}, "rate of truth must not be negative; got nan"),
        ({"truth": GOOD[["target"]]}, "truth has no column 'source'; it has target"),
        ({"truth": [("a", "b", 1.0)]}, r"truth must hold pairs \(source, target\); got \('a', 'b'"),
        ({"truth": ["ab"]}, r"truth must hold pairs \(source, target\); got 'ab'"),
        ({"nodes": ["a", "b", "c", "a"]}, "nodes has the label 'a' twice"),
        ({"nodes": []}, "'a' is not in nodes, which is empty"),
        ({"exclude": {("a", "q")}}, r"exclude has the pair \('a', 'q'\): 'q' is not in nodes"),
        ({"exclude": {("c", "c")}}, "exclude joins 'c' to itself"),
        ({"exclude": {("a", "b")}}, "truth has no edge outside the pairs of exclude"),
    ],
)
def test_wrong_input_is_named(change, message):
    arguments = {"edges": GOOD, "truth": {("a", "b")}, "nodes": ["a", "b", "c"]}
    with pytest.raises(ValueError, match=message):
        score_edges(**(arguments | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": [("a", "b")]}, "edges must be a DataFrame; got list"),
        ({"truth": nx.Graph([("a", "b")])}, "truth must be a directed graph; got Graph"),
        ({"truth": 3}, "truth must be a DataFrame, a directed graph or pairs; got int"),
        ({"truth": "ab"}, "truth must be a DataFrame, a directed graph or pairs; got str"),
        ({"nodes": "abc"}, "nodes must be labels or a Cascades; got str"),
        ({"nodes": 3}, "nodes must be labels or a Cascades; got int"),
    ],
)
def test_arguments_of_another_kind_are_named(change, message):
    arguments = {"edges": GOOD, "truth": {("a", "b")}, "nodes": ["a", "b", "c"]}
    with pytest.raises(TypeError, match=message):
        score_edges(**(arguments | change))


def test_labels_of_another_type_are_not_mistaken():
    """1 and "1" are different nodes: a network read as text must not score as empty."""
    edges = table([(1, 2)], [0.4])
    with pytest.raises(ValueError, match="'1' is not in nodes, whose labels are like 1"):
        score_edges(edges, {("1", "2")}, [1, 2, 3])


def test_importing_the_module_does_not_import_pandas():
    code = (
        "import sys, cascadenet.metrics; "
        "assert not {'pandas', 'scipy', 'networkx'} & set(sys.modules), 'eager import'"
    )
    root = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


# -------------------------------------------------------------------------------------- communities


@pytest.mark.parametrize("sizes", [(2, 2), (5, 3), (40, 40), (300, 3)])
def test_agreement_equals_scikit_learn(rng, sizes):
    cluster = pytest.importorskip("sklearn.metrics")
    for n in (4, 50, 300):
        a, b = (rng.integers(0, size, n) for size in sizes)
        # one pair unrelated, one close
        for labels_b in (b, np.where(rng.random(n) < 0.8, a, b)):
            got = community_agreement(a, labels_b)
            for name, reference in [
                ("adjusted_rand", cluster.adjusted_rand_score),
                ("nmi", cluster.normalized_mutual_info_score),
                ("ami", cluster.adjusted_mutual_info_score),
            ]:
                assert got[name] == pytest.approx(reference(a, labels_b), abs=1e-10), name


def naive_variation(a, b):
    """H(A | B) + H(B | A), node by node."""
    n, total = len(a), 0.0
    for i in range(n):
        both = sum(a[j] == a[i] and b[j] == b[i] for j in range(n))
        total += math.log(sum(x == a[i] for x in a) / both) / n
        total += math.log(sum(y == b[i] for y in b) / both) / n
    return total


def test_variation_of_information_is_a_metric(rng):
    for _ in range(20):
        a, b, c = (rng.integers(0, k, 25).tolist() for k in (3, 5, 8))
        ab, bc, ac = (
            community_agreement(x, y)["variation_of_information"]
            for x, y in [(a, b), (b, c), (a, c)]
        )
        assert ab == pytest.approx(naive_variation(a, b), abs=1e-12)
        assert ac <= ab + bc + 1e-12
        reverse = community_agreement(b, a)["variation_of_information"]
        assert ab == pytest.approx(reverse, abs=1e-12)


def test_names_of_communities_mean_nothing(rng):
    a, b = rng.integers(0, 4, 60), rng.integers(0, 6, 60)
    names = np.array(["red", "blue", "green", "été"])
    expected = community_agreement(a, b)
    assert community_agreement(names[a], b * 10 - 7) == pytest.approx(expected)
    assert community_agreement(names[a].tolist(), pd.Series(b)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("a", "b", "agree", "variation"),
    [
        ([0, 0, 1, 1], [5, 5, 2, 2], 1.0, 0.0),
        ([0, 0, 0], [1, 1, 1], 1.0, 0.0),
        ([0, 1, 2], [2, 0, 1], 1.0, 0.0),
        ([0], [0], 1.0, 0.0),
        ([0, 0, 0, 0], [0, 1, 2, 3], 0.0, math.log(4)),
    ],
)
def test_agreement_at_the_extremes(a, b, agree, variation):
    got = community_agreement(a, b)
    assert got["variation_of_information"] == pytest.approx(variation, abs=1e-15)
    assert (got["adjusted_rand"], got["nmi"], got["ami"]) == pytest.approx([agree] * 3, abs=1e-12)


def test_unrelated_partitions_agree_by_chance_only(rng):
    """Means of 400 pairs of random partitions within 5 standard errors of 0 (1e-6 false alarms);
    the unadjusted measure is the negative control."""
    draws = [
        community_agreement(rng.integers(0, 6, 60), rng.integers(0, 6, 60)) for _ in range(400)
    ]
    frame = pd.DataFrame(draws)
    error = frame.std() / 20
    assert abs(frame["adjusted_rand"].mean()) < 5 * error["adjusted_rand"]
    assert abs(frame["ami"].mean()) < 5 * error["ami"]
    assert frame["nmi"].mean() > 20 * error["nmi"]


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([0, 1], [0, 1, 2], "must have the same positive length; got 2 and 3"),
        ([], [], "must have the same positive length; got 0 and 0"),
        ([[0, 1]], [0, 1], r"labels_a must be a vector of labels; got shape \(1, 2\)"),
        ([0, 1], [0, None], "labels_b must not be nan; position 1 is"),
        ([0.0, np.nan], [0, 1], "labels_a must not be nan; position 1 is"),
    ],
)
def test_wrong_partitions_are_named(a, b, message):
    with pytest.raises(ValueError, match=message):
        community_agreement(a, b)


# -------------------------------------------------------------------------------------- calibration


def test_calibration_curve_counts_what_is_in_each_bin(rng):
    prob = np.round(rng.random(500), 2)
    outcome = rng.random(500) < prob
    edges = np.linspace(0, 1, 6)
    curve = calibration_curve(prob, outcome, 5)
    for i, row in curve.iterrows():
        inside = (prob >= edges[i]) & ((prob < edges[i + 1]) | (i == 4))
        assert (row["bin"], row["left"], row["right"]) == (i, edges[i], edges[i + 1])
        assert row["count"] == inside.sum()
        assert row["predicted"] == pytest.approx(prob[inside].mean())
        assert row["observed"] == pytest.approx(outcome[inside].mean())
        assert row["low"] <= row["observed"] <= row["high"]
    assert curve["count"].sum() == 500


def test_interval_is_wilsons(rng):
    """Its ends are the shares that a score test at this level just does not reject."""
    outcome = np.r_[np.ones(7), np.zeros(13)]
    row = calibration_curve(np.full(20, 0.3), outcome, 1, level=0.9).loc[0]
    z = 1.6448536269514722
    for p in (row["low"], row["high"]):
        assert abs(7 / 20 - p) / math.sqrt(p * (1 - p) / 20) == pytest.approx(z, rel=1e-12)
    sure = calibration_curve(np.full(9, 1.0), np.ones(9), 1).loc[0]
    assert sure["high"] == 1.0
    assert 0.5 < sure["low"] < 0.95


def test_interval_covers(rng):
    """Coverage of the 94% interval over 4000 binomial samples, exactly 94.4% for 40 trials at 0.3:
    within four standard errors (false-alarm rate 1e-5). The 60% interval fails, as it must."""
    covered = {0.94: 0, 0.60: 0}
    for hits in rng.binomial(40, 0.3, 4000):
        outcome = np.arange(40) < hits
        for level in covered:
            row = calibration_curve(np.full(40, 0.3), outcome, [0, 1], level=level)
            covered[level] += row["low"][0] <= 0.3 <= row["high"][0]
    assert 0.92 < covered[0.94] / 4000 < 0.96
    assert covered[0.60] / 4000 < 0.8


def test_empty_bins_are_kept_and_say_nothing():
    curve = calibration_curve([0.05, 0.95], [0, 1], 10)
    assert len(curve) == 10
    empty = curve[curve["count"] == 0]
    assert len(empty) == 8
    assert empty[["predicted", "observed", "low", "high"]].isna().all(axis=None)


def test_bins_may_be_uneven():
    edges = [0.0, 1e-3, 1e-2, 1.0]
    curve = calibration_curve([0.0, 5e-4, 1e-3, 0.5, 1.0], [0, 0, 1, 0, 1], edges)
    assert curve["count"].tolist() == [2, 1, 2]
    assert curve["observed"].tolist() == [0.0, 1.0, 0.5]


def test_expected_calibration_error():
    assert expected_calibration_error([0.0, 1.0, 1.0], [0, 1, 1]) == 0.0
    assert expected_calibration_error([0.0, 1.0, 1.0], [1, 0, 0]) == 1.0
    # three predictions of 0.25 of which one comes true, one of 0.95 that does
    got = expected_calibration_error([0.25, 0.25, 0.25, 0.95], [1, 0, 0, 1])
    assert got == pytest.approx(0.75 * (1 / 3 - 0.25) + 0.25 * 0.05)


def test_overconfidence_is_seen(rng):
    """20 000 calibrated predictions: the error was 0.007 on average and at most 0.012 in 300
    simulated sets, so the false-alarm rate at 0.03 is far below 1e-3."""
    p = rng.random(20_000)
    outcome = rng.random(20_000) < p
    assert expected_calibration_error(p, outcome) < 0.03
    overconfident = np.clip(0.5 + 1.6 * (p - 0.5), 0, 1)
    assert expected_calibration_error(overconfident, outcome) > 0.08


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.1, 0.2], [1]), r"vectors of the same length; got \(2,\) and \(1,\)"),
        (([0.1, 1.2], [1, 0]), r"prob must lie in \[0, 1\]; got 1.2"),
        (([0.1, np.nan], [1, 0]), r"prob must lie in \[0, 1\]; got nan"),
        (([0.1, 0.2], [1, 2]), "outcome must be 0 or 1; got 2"),
        (([0.1], [1], 0), "bins must be a positive number or edges from 0 to 1; got 0"),
        (([0.1], [1], [0.0, 0.5]), "bins must be a positive number or edges from 0 to 1"),
        (([0.1], [1], [0.0, 0.5, 0.5, 1.0]), "bins must be increasing edges"),
        (([], []), "prob must hold at least one prediction; got none"),
    ],
)
def test_wrong_predictions_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(*arguments)


def test_wrong_level_is_named():
    with pytest.raises(ValueError, match="level must lie between 0 and 1; got 94"):
        calibration_curve([0.1], [1], level=94)


# -------------------------------------------------------------------------------------------- trees


def test_tree_accuracy_scores_infections_with_a_parent():
    true = [-1, 0, 0, 2, -1]
    assert tree_accuracy(true, true) == 1.0
    # what is said of seeds does not count; "from outside" for an infection that had a parent does
    assert tree_accuracy([3, 0, -1, 2, 1], true) == pytest.approx(2 / 3)
    assert tree_accuracy([[-1, 0, 0, 2, -1], [-1, 1, 1, 2, -1]], true) == pytest.approx(2 / 3)


def test_tree_accuracy_takes_labels_with_missing_values():
    true = pd.Series(["a", None, "b", "a"])
    assert tree_accuracy(["a", "a", "b", "c"], true) == pytest.approx(2 / 3)
    nullable = pd.Series([7, None, 3, 7], dtype="Int64")
    estimate = pd.Series([7, 7, None, 3], dtype="Int64")
    assert tree_accuracy(estimate, nullable) == pytest.approx(1 / 3)
    assert tree_accuracy(np.array([7.0, np.nan, 3.0, 7.0]), nullable) == 1.0


@pytest.mark.parametrize(
    ("estimate", "true", "message"),
    [
        ([0, 1], [0, 1, 2], r"got \(3,\) and \(2,\)"),
        ([0, 1], [[0, 1]], r"got \(1, 2\) and \(2,\)"),
        ([0, 0], [-1, -1], "parents_true must hold at least one parent; got none"),
        ([None, "a"], [None, None], "parents_true must hold at least one parent; got none"),
        (np.empty((0, 2), dtype=int), [0, 1], "parents_estimated must hold at least one draw"),
    ],
)
def test_wrong_parents_are_named(estimate, true, message):
    with pytest.raises(ValueError, match=message):
        tree_accuracy(estimate, true)
