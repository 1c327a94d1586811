"""Tree distributions: enumeration is the judge of both routes, and each route of the other."""

from __future__ import annotations

import itertools
import math
import warnings
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from cascadenet.inference.trees import (
    matrix_tree_log_z,
    matrix_tree_marginals,
    ordered_log_z,
    ordered_marginals,
    ordered_sample,
    wilson_sample,
)

ALPHA = 1e-4  # false-alarm rate of every chi-square test in this file
SAMPLES = 20_000


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def all_trees(weight, root):
    """Every arborescence out of the virtual root with positive weight: {parents: weight}."""
    n = len(root)
    trees = {}
    for parents in itertools.product(range(-1, n), repeat=n):
        product = math.prod(root[v] if u < 0 else weight[u, v] for v, u in enumerate(parents))
        if product > 0 and all(leads_to_root(v, parents) for v in range(n)):
            trees[parents] = product
    return trees


def leads_to_root(node, parents):
    for _ in range(len(parents) + 1):
        if node < 0:
            return True
        node = parents[node]
    return False


def enumerated(weight, root):
    """log Z, edge marginals and seed marginals by summing over `all_trees`."""
    n = len(root)
    trees = all_trees(weight, root)
    total = sum(trees.values())
    edge, seed = np.zeros((n, n)), np.zeros(n)
    for parents, product in trees.items():
        for v, u in enumerate(parents):
            if u < 0:
                seed[v] += product / total
            else:
                edge[u, v] += product / total
    return math.log(total), edge, seed


def random_graph(rng, n, seeds, density=1.0):
    """Weights over several orders of magnitude; `seeds` nodes have a root weight."""
    weight = np.exp(2.0 * rng.standard_normal((n, n))) * (rng.random((n, n)) < density)
    np.fill_diagonal(weight, 0.0)
    root = np.zeros(n)
    root[rng.choice(n, seeds, replace=False)] = np.exp(rng.standard_normal(seeds))
    return weight, root


def ordered_graph(rng, n, seeds):
    """A graph in which parents come before children, as a matrix and as candidate lists."""
    weight = np.triu(np.exp(2.0 * rng.standard_normal((n, n))), k=1)
    weight[:, :seeds] = 0.0
    root = np.where(np.arange(n) < seeds, rng.gamma(1.0, size=n) + 0.1, 0.0)
    root[-1] = 0.7  # a node with other candidates may be a seed as well
    columns = np.vstack([weight, root])
    candidate, child = np.nonzero(columns)
    order = np.lexsort([candidate, child])
    flat = columns[candidate, child][order]
    offset = np.concatenate([[0], np.cumsum(np.bincount(child, minlength=n))])
    return weight, root, flat, offset, candidate[order], child[order]


# ------------------------------------------------------------------------------------- exact values


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("density", [1.0, 0.6])
def test_general_route_equals_enumeration(rng, n, density):
    compared = 0
    while compared < 4:
        weight, root = random_graph(rng, n, rng.integers(1, n + 1), density)
        if not all_trees(weight, root):
            continue
        log_z, edge, seed = enumerated(weight, root)
        assert matrix_tree_log_z(weight, root) == pytest.approx(log_z, abs=1e-12)
        got_edge, got_seed = matrix_tree_marginals(weight, root)
        np.testing.assert_allclose(got_edge, edge, atol=1e-12)
        np.testing.assert_allclose(got_seed, seed, atol=1e-12)
        compared += 1


def test_complete_graph_is_cayleys_formula():
    for n in range(1, 9):
        trees = (n + 1) ** (n - 1)  # labelled trees on the n nodes and the root
        log_z = matrix_tree_log_z(np.ones((n, n)) - np.eye(n), np.ones(n))
        assert log_z == pytest.approx(math.log(trees), abs=1e-12)


@pytest.mark.parametrize("seeds", [1, 3])
def test_both_routes_agree_on_ordered_data(rng, seeds):
    for n in (4, 30):
        weight, root, flat, offset, candidate, child = ordered_graph(rng, n, seeds)
        log_z = ordered_log_z(flat, offset)
        assert matrix_tree_log_z(weight, root) == pytest.approx(log_z, rel=1e-13)
        both = np.vstack(matrix_tree_marginals(weight, root))
        np.testing.assert_allclose(
            both[candidate, child], ordered_marginals(flat, offset), atol=1e-14
        )
        off_the_lists = np.ones(both.shape, dtype=bool)
        off_the_lists[candidate, child] = False
        assert (both[off_the_lists] == 0.0).all()


def test_ordered_route_equals_enumeration(rng):
    weight, root, flat, offset, candidate, child = ordered_graph(rng, 5, 2)
    log_z, edge, seed = enumerated(weight, root)
    assert ordered_log_z(flat, offset) == pytest.approx(log_z, abs=1e-12)
    expected = np.vstack([edge, seed])[candidate, child]
    np.testing.assert_allclose(ordered_marginals(flat, offset), expected, atol=1e-14)


def test_marginals_are_a_distribution_over_parents(rng):
    weight, root = random_graph(rng, 40, 7, density=0.3)
    root += 1e-3
    edge, seed = matrix_tree_marginals(weight, root)
    np.testing.assert_allclose(edge.sum(axis=0) + seed, 1.0, atol=1e-12)
    assert ((edge > 0.0) <= (weight > 0.0)).all()


def test_marginals_are_the_gradient_of_log_z(rng):
    weight, root = random_graph(rng, 12, 3)
    edge, seed = matrix_tree_marginals(weight, root)
    step = 1e-5
    for u, v in [(0, 1), (5, 2), (11, 7)]:
        up, down = weight.copy(), weight.copy()
        up[u, v] *= math.exp(step)
        down[u, v] *= math.exp(-step)
        slope = (matrix_tree_log_z(up, root) - matrix_tree_log_z(down, root)) / (2 * step)
        assert slope == pytest.approx(edge[u, v], abs=1e-8)
    v = int(np.flatnonzero(root)[0])
    up, down = root.copy(), root.copy()
    up[v] *= math.exp(step)
    down[v] *= math.exp(-step)
    slope = (matrix_tree_log_z(weight, up) - matrix_tree_log_z(weight, down)) / (2 * step)
    assert slope == pytest.approx(seed[v], abs=1e-8)


# --------------------------------------------------------------------------------------- invariance


def test_scaling_a_child_shifts_log_z_and_nothing_else(rng):
    weight, root = random_graph(rng, 8, 2)
    factor = np.exp(rng.uniform(-300, 300, 8))
    log_z = matrix_tree_log_z(weight, root)
    scaled = weight * factor, root * factor
    assert matrix_tree_log_z(*scaled) == pytest.approx(log_z + np.log(factor).sum(), rel=1e-12)
    for got, expected in zip(
        matrix_tree_marginals(*scaled), matrix_tree_marginals(weight, root), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_log_weights_give_the_same_and_reach_further(rng):
    weight, root, flat, offset, *_ = ordered_graph(rng, 9, 2)
    with np.errstate(divide="ignore"):
        logs = np.log(weight), np.log(root)
    shift = -5000.0  # exp of which is 0
    log_z = ordered_log_z(flat, offset)
    assert ordered_log_z(np.log(flat) + shift, offset, log=True) == pytest.approx(log_z + 9 * shift)
    np.testing.assert_allclose(
        ordered_marginals(np.log(flat) + shift, offset, log=True),
        ordered_marginals(flat, offset),
        atol=1e-11,
    )
    shifted = logs[0] + shift, logs[1] + shift
    assert matrix_tree_log_z(*shifted, log=True) == pytest.approx(log_z + 9 * shift)
    assert (wilson_sample(*shifted, 3, log=True) == wilson_sample(weight, root, 3)).all()


def test_relabelling_nodes_relabels_the_answer(rng):
    weight, root = random_graph(rng, 15, 3)
    order = rng.permutation(15)
    relabelled = weight[np.ix_(order, order)], root[order]
    assert matrix_tree_log_z(*relabelled) == pytest.approx(matrix_tree_log_z(weight, root))
    edge, seed = matrix_tree_marginals(weight, root)
    got_edge, got_seed = matrix_tree_marginals(*relabelled)
    np.testing.assert_allclose(got_edge, edge[np.ix_(order, order)], atol=1e-12)
    np.testing.assert_allclose(got_seed, seed[order], atol=1e-12)


def test_log_z_keeps_its_digits_beside_strong_loops():
    """Two nodes that infect each other, and a root of almost no weight: Z = r (r + 2)."""
    weight = np.array([[0.0, 1.0], [1.0, 0.0]])
    for r in (1e-5, 1e-12, 1e-40, 1e-150):
        log_z = matrix_tree_log_z(weight, np.full(2, r))
        assert log_z == pytest.approx(math.log(r) + math.log(r + 2.0), rel=1e-14)
    by_determinant = np.linalg.slogdet(np.array([[1 + 1e-40, -1.0], [-1.0, 1 + 1e-40]]))[1]
    assert not by_determinant == pytest.approx(math.log(2e-40))  # why subtraction is avoided


@pytest.mark.parametrize("r", [1e-20, 1e-12, 1e-300])
def test_marginals_and_samples_that_would_be_wrong_are_refused(r):
    weight = np.array([[0.0, 1.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match="root is too weak beside weight: loops"):
        matrix_tree_marginals(weight, np.full(2, r))
    with pytest.raises(ValueError, match=r"root is too weak beside weight: a tree would take"):
        wilson_sample(weight, np.full(2, r), 1)


# ----------------------------------------------------------------------------------------- sampling


def chi_square_p(trees, expected):
    """p-value of sampled trees against {parents: weight}; a tree outside it gives 0."""
    counts = Counter(map(tuple, trees.tolist()))
    if not counts.keys() <= expected.keys():
        return 0.0
    observed = np.array([counts[parents] for parents in expected])
    mean = np.array(list(expected.values()))
    mean *= len(trees) / mean.sum()
    assert mean.min() >= 5.0, "chi-square needs every tree to be expected a few times"
    return stats.chisquare(observed, mean).pvalue


def even_graph(rng, n, seeds):
    """Weights of one order of magnitude, so that no tree is rare."""
    weight = rng.uniform(0.5, 2.0, (n, n))
    np.fill_diagonal(weight, 0.0)
    root = np.where(np.arange(n) < seeds, rng.uniform(0.5, 2.0, n), 0.0)
    return weight, root


def test_wilson_samples_the_enumerated_distribution(rng):
    for n, seeds in [(3, 1), (3, 3), (4, 2)]:
        weight, root = even_graph(rng, n, seeds)
        trees = wilson_sample(weight, root, rng, SAMPLES)
        assert chi_square_p(trees, all_trees(weight, root)) > ALPHA


def test_wilson_test_notices_a_wrong_weight(rng):
    """Negative control: one weight off by a fifth."""
    weight, root = even_graph(rng, 3, 2)
    trees = wilson_sample(weight, root, rng, SAMPLES)
    wrong = weight.copy()
    wrong[0, 2] *= 0.8
    assert chi_square_p(trees, all_trees(wrong, root)) < ALPHA


def test_wilson_test_notices_independent_parents(rng):
    """Negative control: right marginals, parents independent, trees with loops thrown away."""
    weight, root = even_graph(rng, 3, 2)
    columns = np.vstack(matrix_tree_marginals(weight, root))
    columns /= columns.sum(axis=0)
    parents = np.stack([rng.choice(4, SAMPLES, p=column) for column in columns.T], axis=1)
    parents = np.where(parents == 3, -1, parents)
    acyclic = [all(leads_to_root(v, row) for v in range(3)) for row in parents.tolist()]
    assert chi_square_p(parents[acyclic], all_trees(weight, root)) < ALPHA


def test_ordered_samples_follow_the_enumerated_distribution(rng):
    weight = np.triu(rng.uniform(0.5, 2.0, (4, 4)), k=1)
    root = np.array([1.0, 0.0, 0.5, 0.0])
    columns = np.vstack([weight, root]).T
    candidate = np.nonzero(columns)[1]
    flat, offset = columns[columns > 0], np.r_[0, np.cumsum((columns > 0).sum(axis=1))]
    chosen = candidate[ordered_sample(flat, offset, rng.random((SAMPLES, 4)))]
    trees = np.where(chosen == 4, -1, chosen)
    assert chi_square_p(trees, all_trees(weight, root)) > ALPHA
    # negative control: the same samples against one weight off by a fifth
    weight[0, 1] *= 0.8
    weight[1, 3] *= 0.8
    assert chi_square_p(trees, all_trees(weight, root)) < ALPHA


def test_wilson_on_a_large_graph_matches_the_marginals(rng):
    """Seed counts against exact marginals: 4.5 s.d. for 30 nodes, false-alarm rate 2e-4."""
    weight, root = even_graph(rng, 30, 30)
    _, seed = matrix_tree_marginals(weight, root)
    trees = wilson_sample(weight, root, rng, 2000)
    deviation = (trees == -1).mean(axis=0) - seed
    assert (np.abs(deviation) < 4.5 * np.sqrt(seed * (1 - seed) / 2000) + 1.0 / 2000).all()


def naive_ordered_sample(prob, offset, uniforms):
    """One child after another, one candidate after another."""
    out = []
    for child, u in enumerate(uniforms):
        total = 0.0
        for position in range(offset[child], offset[child + 1]):
            total += prob[position]
            if u < total:
                break
        out.append(position)
    return out


def test_ordered_sample_equals_the_naive_loop(rng):
    _, _, flat, offset, *_ = ordered_graph(rng, 40, 3)
    flat[rng.random(flat.size) < 0.3] = 0.0
    flat[offset[1:] - 1] = 1.0
    uniforms = rng.random((200, 40))
    got = ordered_sample(flat, offset, uniforms)
    prob = ordered_marginals(flat, offset)
    assert got.tolist() == [naive_ordered_sample(prob, offset, row) for row in uniforms]


@pytest.mark.parametrize("u", [0.0, np.nextafter(1.0, 0.0)])
def test_extreme_uniforms_choose_a_candidate_of_positive_weight(rng, u):
    weight = rng.gamma(1.0, size=3000)
    offset = np.arange(0, 3001, 3)
    zeroed = rng.integers(0, 3, 1000) + offset[:-1]  # first, middle or last candidate of a child
    weight[zeroed] = 0.0
    chosen = ordered_sample(weight, offset, np.full(1000, u))
    assert ((chosen >= offset[:-1]) & (chosen < offset[1:])).all()
    assert (weight[chosen] > 0.0).all()


def test_samples_are_a_function_of_the_seed(rng):
    weight, root = random_graph(rng, 10, 2)
    assert (wilson_sample(weight, root, 7, 5) == wilson_sample(weight, root, 7, 5)).all()
    assert (wilson_sample(weight, root, 7, 5) != wilson_sample(weight, root, 8, 5)).any()
    assert (wilson_sample(weight, root, 7, 5)[0] == wilson_sample(weight, root, 7)).all()
    generator = np.random.default_rng(7)
    first, second = (wilson_sample(weight, root, generator) for _ in range(2))
    assert (np.stack([first, second]) == wilson_sample(weight, root, 7, 2)).all()


def test_inputs_are_left_alone(rng):
    weight, root = random_graph(rng, 6, 2)
    before = weight.copy(), root.copy()
    matrix_tree_log_z(weight, root)
    matrix_tree_marginals(weight, root)
    wilson_sample(weight, root, 1)
    assert (weight == before[0]).all() and (root == before[1]).all()


# ----------------------------------------------------------------------------------- shapes, errors


def test_no_nodes_at_all():
    nothing, square = np.empty(0), np.empty((0, 0))
    assert ordered_log_z(nothing, [0]) == 0.0
    assert ordered_marginals(nothing, [0]).shape == (0,)
    assert ordered_sample(nothing, [0], np.empty((3, 0))).shape == (3, 0)
    assert matrix_tree_log_z(square, nothing) == 0.0
    assert [part.shape for part in matrix_tree_marginals(square, nothing)] == [(0, 0), (0,)]
    assert wilson_sample(square, nothing, 1, 4).shape == (4, 0)


GENERAL = [matrix_tree_log_z, matrix_tree_marginals, lambda w, r: wilson_sample(w, r, 1)]
CHAIN = np.array([[0, 1, 0], [0, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize("function", GENERAL)
@pytest.mark.parametrize(
    ("weight", "root", "message"),
    [
        (CHAIN, [1, 0, 0], "node 2 cannot be reached from the root: no path"),
        (CHAIN, [0, 1, 0], r"node 0 cannot be reached from the root \(nor can 1 others\)"),
        (CHAIN, [0, 0, 0], r"node 0 cannot be reached from the root \(nor can 2 others\)"),
        (np.eye(2), [1, 1], "weight must be 0 on the diagonal; node 0 is not"),
        (-CHAIN, [1, 1, 1], "weight must be finite and not negative; got -1"),
        (CHAIN, [1, np.nan, 1], "root must be finite and not negative; got nan"),
        (CHAIN, [1, 1], r"got \(3, 3\) and \(2,\)"),
        (CHAIN[:2], [1, 1], r"got \(2, 3\) and \(2,\)"),
        ([1.0, 2.0], [1, 1], r"weight must have 2 dimension\(s\); got shape \(2,\)"),
    ],
)
def test_impossible_graphs_are_named(function, weight, root, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=message):
            function(np.asarray(weight, dtype=float), root)


def test_a_root_lost_to_underflow_is_refused_not_walked_to_forever():
    logs = np.array([[-np.inf, 0.0], [0.0, -np.inf]])
    for function in (matrix_tree_log_z, matrix_tree_marginals):
        with pytest.raises(ValueError, match="node 0 cannot be reached"):
            function(logs, np.full(2, -2000.0), log=True)
    with pytest.raises(ValueError, match="node 0 cannot be reached"):
        wilson_sample(logs, np.full(2, -2000.0), 1, log=True)


@pytest.mark.parametrize(
    ("weight", "offset", "message"),
    [
        ([1.0, 0.0, 2.0], [0, 1, 2, 3], "child 1 has no candidate parent of positive weight"),
        ([1.0, 2.0], [0, 1, 1, 2], "child 1 has no candidate parent$"),
        ([1.0, -2.0], [0, 2], "weight must be finite and not negative; got -2"),
        ([1.0, np.inf], [0, 2], "weight must be finite and not negative; got inf"),
        ([1.0, 2.0], [0, 3], "offset must rise from 0 to the number of weights, 2; got 0 to 3"),
        ([1.0, 2.0], [0.0, 2.0], "offset must be a vector of integers"),
        ([[1.0, 2.0]], [0, 2], r"weight must have 1 dimension\(s\)"),
    ],
)
def test_impossible_candidates_are_named(weight, offset, message):
    for function in (ordered_log_z, ordered_marginals):
        with pytest.raises(ValueError, match=message):
            function(weight, offset)


@pytest.mark.parametrize(
    ("uniforms", "message"),
    [
        ([0.5], r"one number for each of 2 children on the last axis; got shape \(1,\)"),
        ([0.5, 1.0], r"uniforms must lie in \[0, 1\)"),
        ([0.5, np.nan], r"uniforms must lie in \[0, 1\)"),
    ],
)
def test_wrong_uniforms_are_named(uniforms, message):
    with pytest.raises(ValueError, match=message):
        ordered_sample([1.0, 1.0], [0, 1, 2], uniforms)


def test_log_weights_must_be_below_infinity():
    with pytest.raises(ValueError, match="weight must be logarithms below inf; got inf"):
        ordered_log_z([0.0, np.inf], [0, 2], log=True)
    with pytest.raises(ValueError, match="child 0 has no candidate parent of positive weight"):
        ordered_log_z([-np.inf, -np.inf], [0, 2], log=True)
