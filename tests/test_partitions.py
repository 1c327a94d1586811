"""Partitions of nodes: distances, point estimates and agreement do not see names of communities."""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadenet import partitions, simulate
from cascadenet.posterior import Posterior
from tests.test_posterior import fitted

N_ITEMS = 7


def labellings(size: int = N_ITEMS, n_labels: int = 4) -> st.SearchStrategy[np.ndarray]:
    """Labels 0..n_labels - 1; 0 stands for no community."""
    one = st.lists(st.integers(0, n_labels - 1), min_size=size, max_size=size)
    return one.map(lambda x: np.array(x, np.int64))


def draws(n_labels: int = 4) -> st.SearchStrategy[np.ndarray]:
    one = st.lists(labellings(n_labels=n_labels), min_size=1, max_size=5)
    return one.map(np.stack)


@st.composite
def renamed_draws(draw) -> tuple[np.ndarray, np.ndarray]:
    """Draws, and the same with the communities of each draw renamed (0 stays 0)."""
    labels = draw(draws())
    new = np.zeros_like(labels)
    for s, row in enumerate(labels):
        names = np.array([0, *draw(st.permutations(range(1, 6)))])
        new[s] = names[row]
    return labels, new


def groups(labels) -> set[frozenset[int]]:
    """The partition itself, names forgotten; "no community" counts as one."""
    return {frozenset(i for i, label in enumerate(labels) if label == name) for name in set(labels)}


def naive_vi(a, b) -> float:
    """H(A | B) + H(B | A), item by item."""
    size_a, size_b, both = Counter(a), Counter(b), Counter(zip(a, b, strict=True))
    total = 0.0
    for x, y in zip(a, b, strict=True):
        total -= math.log(both[x, y] / size_a[x]) + math.log(both[x, y] / size_b[y])
    return total / len(a)


# ---------------------------------------------------------------------------------------- distance


@given(labellings(), labellings())
def test_contingency_counts_items(a, b):
    table = partitions.contingency(a, b)
    assert table.shape == (a.max() + 1, b.max() + 1)
    for x, y in np.ndindex(table.shape):
        assert table[x, y] == sum((a == x) & (b == y))


@given(labellings(), labellings())
def test_variation_of_information_is_its_definition(a, b):
    found = partitions.variation_of_information(a, b)
    assert found == pytest.approx(naive_vi(a.tolist(), b.tolist()), abs=1e-12)


@given(labellings(), labellings())
def test_variation_of_information_agrees_with_scikit_learn(a, b):
    metrics = pytest.importorskip("sklearn.metrics")
    entropy = [metrics.mutual_info_score(x, x) for x in (a, b)]
    expected = sum(entropy) - 2.0 * metrics.mutual_info_score(a, b)
    assert partitions.variation_of_information(a, b) == pytest.approx(expected, abs=1e-12)


@given(labellings(), labellings(), labellings())
def test_variation_of_information_is_a_metric(a, b, c):
    vi = partitions.variation_of_information
    assert (vi(a, b) < 1e-12) == (groups(a) == groups(b))
    assert vi(a, b) == pytest.approx(vi(b, a), abs=1e-12)
    assert vi(a, c) <= vi(a, b) + vi(b, c) + 1e-12
    assert vi(a, b) <= math.log(N_ITEMS) + 1e-12


def test_known_distances():
    one, halves, alone = np.zeros(4, int), np.array([1, 1, 2, 2]), np.arange(4)
    vi = partitions.variation_of_information
    assert vi(one, halves) == pytest.approx(math.log(2))
    assert vi(one, alone) == pytest.approx(math.log(4))
    assert vi(halves, np.array([1, 2, 1, 2])) == pytest.approx(2 * math.log(2))  # independent
    assert vi(np.empty(0, int), np.empty(0, int)) == 0.0


# ---------------------------------------------------------------------------------- point estimate


@given(draws())
def test_point_estimate_is_at_least_as_central_as_any_draw(labels):
    point = partitions.point_estimate(labels)
    cost = [sum(naive_vi(row, other) for other in labels.tolist()) for row in labels.tolist()]
    mine = sum(naive_vi(point.tolist(), other) for other in labels.tolist())
    assert mine <= min(cost) + 1e-9


def test_point_estimate_corrects_what_each_draw_has_wrong():
    truth = np.repeat([1, 2, 3], 10)
    labels = np.tile(truth, (12, 1))
    for s, row in enumerate(labels):
        row[s] = row[s] % 3 + 1
    assert groups(partitions.point_estimate(labels)) == groups(truth)
    assert groups(truth) not in [groups(row) for row in labels]


@given(draws())
def test_point_estimate_is_numbered_by_size_then_first_item(labels):
    point = partitions.point_estimate(labels).tolist()
    names = sorted(set(point) - {0})
    assert names == list(range(1, len(names) + 1))
    keys = [(-point.count(name), point.index(name)) for name in names]
    assert keys == sorted(keys)
    # what never has a community has none in the estimate
    assert all(point[i] == 0 for i in np.flatnonzero((labels == 0).all(axis=0)))


@given(labellings(), st.permutations(range(1, 4)))
def test_point_estimate_does_not_see_names(row, names):
    renamed = np.array([0, *names])[row]
    point = partitions.point_estimate(row[None])
    np.testing.assert_array_equal(partitions.point_estimate(renamed[None]), point)


def test_without_draws_nothing_has_a_community():
    assert partitions.point_estimate(np.empty((0, 3), np.int64)).tolist() == [0, 0, 0]
    assert partitions.point_estimate(np.zeros((2, 3), np.int64)).tolist() == [0, 0, 0]


# ---------------------------------------------------------------------------------------- alignment


@given(draws(), labellings())
def test_alignment_renames_and_does_no_more(labels, point):
    aligned = partitions.align(labels, point)
    for before, after in zip(labels, aligned, strict=True):
        assert groups(before) == groups(after)
        np.testing.assert_array_equal(before == 0, after == 0)


@given(labellings(n_labels=4), labellings(n_labels=4))
def test_alignment_agrees_as_much_as_any_renaming(row, point):
    found = partitions.align(row[None], point)[0]
    best = 0
    for names in itertools.permutations(range(1, 7), 3):
        renamed = np.array([0, *names])[row]
        best = max(best, ((renamed == point) & (row > 0)).sum())
    assert ((found == point) & (row > 0)).sum() == best


@given(renamed_draws())
def test_aligned_labels_do_not_see_names(case):
    labels, renamed = case
    point = partitions.point_estimate(labels)
    before, after = partitions.align(labels, point), partitions.align(renamed, point)
    np.testing.assert_array_equal(before, after)


@given(labellings())
def test_the_point_estimate_is_aligned_with_itself(row):
    point = partitions.point_estimate(row[None])
    np.testing.assert_array_equal(partitions.align(point[None], point)[0], point)
    np.testing.assert_array_equal(partitions.align(row[None], point)[0], point)


# ---------------------------------------------------------------------- co-clustering and agreement


@given(renamed_draws())
def test_coclustering_is_the_share_of_draws_together(case):
    labels, renamed = case
    share = partitions.coclustering(labels)
    for i, j in itertools.product(range(N_ITEMS), repeat=2):
        assert share[i, j] == pytest.approx(np.mean([row[i] == row[j] for row in labels]))
    np.testing.assert_array_equal(share, share.T)
    np.testing.assert_array_equal(np.diag(share), 1.0)
    np.testing.assert_array_equal(partitions.coclustering(renamed), share)


@given(renamed_draws(), st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_agreement_is_the_mean_distance_within_and_between_chains(case, chain):
    labels, renamed = case
    chain = np.array(chain[: len(labels)])
    found = {"within": [], "between": []}
    for i, j in itertools.combinations(range(len(labels)), 2):
        name = "within" if chain[i] == chain[j] else "between"
        found[name].append(naive_vi(labels[i].tolist(), labels[j].tolist()))
    expected = {name: float(np.mean(x)) if x else 0.0 for name, x in found.items()}
    assert partitions.agreement(labels, chain) == pytest.approx(expected, abs=1e-12)
    assert partitions.agreement(renamed, chain) == pytest.approx(expected, abs=1e-12)


# ---------------------------------------------------------------------- communities of a posterior


@pytest.fixture(scope="module")
def obvious(seed) -> Posterior:
    """Two communities of twelve nodes, nearly complete within, no edge between."""
    network = simulate.community_network(2, 12, 0.8, 0.0, rate=1.0, seed=seed)
    found = simulate.simulate_cascades(network, 100, horizon=0.7, seed=seed).cascades
    return fitted(found, seed, {"draws": 40, "tune": 120, "chains": 2}, truncation=20)


def test_obvious_communities_are_found(obvious):
    """Over 40 seeds two nodes of one community were together with probability 0.76 or more on
    average, two of different ones with 0.02 or less."""
    same = np.equal.outer(np.arange(24) // 12, np.arange(24) // 12)
    for role in ("sender", "receiver"):
        share = obvious.coclustering(role)
        np.testing.assert_array_equal(share, share.T)
        np.testing.assert_array_equal(np.diag(share), 1.0)
        assert share[same].mean() > 0.6
        assert share[~same].mean() < 0.1
    table = obvious.communities()
    assert list(table.columns) == ["node", "sender", "sender_prob", "receiver", "receiver_prob"]
    assert table.node.tolist() == list(obvious.nodes)
    for role in ("sender", "receiver"):
        assert table[f"{role}_prob"].between(0.0, 1.0).all()
        parts = [set(table[role][:12]) - {0}, set(table[role][12:]) - {0}]
        assert parts[0]
        assert parts[1]
        assert not parts[0] & parts[1]
    agreement = obvious.structure_agreement()
    assert agreement.keys() == {"within", "between"}
    assert 0.0 <= agreement["within"] < math.log(2)
    assert 0.0 <= agreement["between"] < 2 * math.log(2)


def switched(posterior: Posterior, seed: int) -> Posterior:
    """The same posterior with the communities of every network draw shuffled."""
    rng = np.random.default_rng(seed)
    networks = []
    for network in posterior.networks:
        width = network["weight"].size
        # the null community is the first, the last stands for all empty ones
        order = np.concatenate(([0], 1 + rng.permutation(width - 2), [width - 1]))
        columns = {name: network[name][:, order] for name in ("sender", "receiver")}
        networks.append(network | columns | {"weight": network["weight"][order]})
    other = copy.copy(posterior)
    for name in ("_labels", "_aligned"):
        other.__dict__.pop(name, None)
    other.networks = networks
    return other


def test_label_switching_never_shows(obvious, seed):
    other = switched(obvious, seed)
    assert not np.array_equal(other._labels, obvious._labels)  # or nothing would have been tested
    pd.testing.assert_frame_equal(other.communities(), obvious.communities())
    for role in ("sender", "receiver"):
        np.testing.assert_array_equal(other.coclustering(role), obvious.coclustering(role))
    assert other.structure_agreement() == pytest.approx(obvious.structure_agreement())


def test_chains_that_disagree_about_communities_are_pointed_out(obvious, seed):
    warning = "warning: the chains disagree about the communities"
    order = np.random.default_rng(seed).permutation(24)
    half = [obvious.networks[s] for s in np.flatnonzero(obvious.network_chain == 0)]
    agree, disagree = copy.copy(obvious), copy.copy(obvious)
    agree.networks = half + half
    disagree.networks = half + [
        x | {"sender": x["sender"][order], "receiver": x["receiver"][order]} for x in half
    ]
    for other in (agree, disagree):
        other.__dict__.pop("_labels", None)
    assert warning not in agree.summary()
    agreement = disagree.structure_agreement()
    assert agreement["between"] > agreement["within"] + 0.5
    assert warning in disagree.summary()


def test_role_must_be_one_of_two(obvious):
    with pytest.raises(ValueError, match="role must be sender or receiver; got 'both'"):
        obvious.coclustering("both")
