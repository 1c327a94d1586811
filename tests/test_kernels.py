"""Every kernel against its restatement in `tests/naive.py`, on generated cases.

Integers must be equal, sums equal to 1e-12. Each comparison runs on 500 cases; all of them run
without compilation too (``-m jit_off``). Updates of parents are in test_parents_kernels.py, chains
of every kind of model, which give the same bytes either way, in test_whole_chains.py.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadenet.delays import DELAYS, get_delay
from cascadenet.inference import _kernels
from cascadenet.inference.chains import Record, Schedule, rate_unit, unused_unit
from cascadenet.inference.layout import build_layout
from cascadenet.inference.sampler import Chain, Model
from tests import naive
from tests.kernel_cases import CASES, LIMITS, SEEDS, candidate_rows, pair_keys

pytestmark = pytest.mark.jit_off

# ------------------------------------------------------------------------------------------- layout


@CASES
@given(naive.cascade_sets(), st.booleans(), LIMITS)
def test_pairs_are_those_that_met_and_candidates_those_that_came_before(
    cascades, background, limit
):
    layout = build_layout(cascades, background=background, max_candidates=limit)
    tales = naive.stories(cascades)
    nodes = range(cascades.n_nodes)
    keys = []
    for v in nodes:
        keys += [(naive.BACKGROUND, v)] * background
        keys += [(u, v) for u in nodes if u != v and naive.is_listed(tales, u, v, limit)]
    assert pair_keys(layout) == keys
    assert layout.pair_ptr.tolist() == [sum(v < w for _, v in keys) for w in range(len(nodes) + 1)]

    unit = naive.typical_delay(tales, len(nodes), limit, background)
    assert layout.unit == unit
    row = 0
    for v in nodes:
        assert layout.child_ptr[v] == row
        for c, story in enumerate(tales):
            if story.time(v) == math.inf:
                continue
            assert layout.infection[row] == cascades.offset[c] + story.events.index(
                (story.time(v), v)
            )
            expected = naive.candidates(story, v, limit, background)
            inside = slice(layout.cand_ptr[row], layout.cand_ptr[row + 1])
            found = [keys[p] for p in layout.cand_pair[inside]]
            assert found == [(u, v) for u, _ in expected]
            assert (layout.cand_delay[inside] * unit).tolist() == pytest.approx(
                [delay for _, delay in expected], rel=1e-15
            )
            row += 1
    assert row == layout.n_infections == layout.child_ptr[-1]


@CASES
@given(naive.cascade_sets(), st.booleans(), LIMITS, st.sampled_from(sorted(DELAYS)))
def test_exposure_is_its_definition(cascades, background, limit, name):
    layout = build_layout(cascades, background=background, max_candidates=limit)
    theta = get_delay(name).default() * 1.3
    exposure, node_full = layout.exposure(get_delay(name), theta)
    tales, unit = naive.stories(cascades), layout.unit

    def cumulative(delay):
        return naive.cumulative_hazard(name, theta, delay / unit)

    for (u, v), found in zip(pair_keys(layout), exposure, strict=True):
        if u == naive.BACKGROUND:
            expected = naive.background_exposure(tales, v) / unit
        else:
            expected = naive.exposure(tales, u, v, limit, cumulative)
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)
    listed = set(pair_keys(layout))
    for u, v in itertools.permutations(range(cascades.n_nodes), 2):
        if (u, v) not in listed:
            expected = naive.exposure(tales, u, v, limit, cumulative)
            assert node_full[u] == pytest.approx(expected, rel=1e-12, abs=1e-12)


@CASES
@given(naive.cascade_sets(), st.booleans(), LIMITS)
def test_incidence_is_the_transpose_of_the_candidates(cascades, background, limit):
    layout = build_layout(cascades, background=background, max_candidates=limit)
    expected = [[] for _ in range(layout.n_pairs)]
    for row, pairs in enumerate(candidate_rows(layout, layout.cand_pair)):
        for position, p in enumerate(pairs):
            expected[p].append((row, position))
    ptr, infection, place = layout.incidence
    for p in range(layout.n_pairs):
        inside = slice(ptr[p], ptr[p + 1])
        assert list(zip(infection[inside], place[inside], strict=True)) == expected[p]


# ------------------------------------------------------------------------------------------- shapes


@CASES
@given(naive.cascade_sets(), st.booleans(), st.integers(1, 9), SEEDS)
def test_network_shape(cascades, background, width, case):
    rng = np.random.default_rng(case)
    layout = build_layout(cascades, background=background)
    sender, receiver = rng.random((2, cascades.n_nodes, width)) ** 8
    weight, floor = rng.random(width), 1e-3
    shape = np.full(layout.n_pairs, 7.0)
    _kernels.network_shape(
        sender * weight, receiver, layout.pair_ptr, layout.pair_source, 2.5, floor, shape
    )
    for (u, v), found in zip(pair_keys(layout), shape, strict=True):
        p = 0.0 if u < 0 else naive.edge_probability(weight, sender, receiver, u, v)
        assert found == pytest.approx(7.0 if u < 0 else max(2.5 * p, floor), rel=1e-13)


@pytest.mark.parametrize("background", [False, True])
def test_shape_of_a_pair_does_not_depend_on_the_others(seed, background):
    """Children with many pairs are worked out by rows of nodes, to the same bytes.

    As if one child had its pairs listed in many ways.
    """
    rng = np.random.default_rng(seed)
    n_nodes, width = _kernels.TILE + 40, 6
    few = n_nodes // _kernels.DENSE
    sizes = (few, few + 1, n_nodes, 0, n_nodes // 2, n_nodes, n_nodes, 1, n_nodes)
    listed = [np.sort(rng.permutation(n_nodes)[:size]) for size in sizes]
    listed = [np.insert(nodes, 0, [-1] * background) for nodes in listed]
    source, ptr = np.concatenate(listed).astype(np.int32), np.cumsum([0, *map(len, listed)])
    sender, to = rng.random((n_nodes, width)) ** 8, rng.random(width) ** 8
    shape = np.full(source.size, 7.0)
    _kernels.network_shape(sender, np.tile(to, (n_nodes, 1)), ptr, source, 2.5, 0.2, shape)
    expected = np.maximum(2.5 * np.add.accumulate(sender * to, axis=1)[:, -1], 0.2)
    assert np.unique(expected).size > 20
    assert (shape[source >= 0] == expected[source[source >= 0]]).all()
    assert (shape[source < 0] == 7.0).all()


# -------------------------------------------------------------------------------------------- rates


@pytest.mark.parametrize("more", [0.0, 1e-12, 1e-6, 0.3, 1e40])
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1500])
@pytest.mark.parametrize("width", [0.0, 1.0, 60.0])
def test_sum_of_logs(size, more, width, seed):
    """Also of numbers whose product no double holds: width is the sd of their logs."""
    values = np.exp(width * np.random.default_rng([seed, size]).standard_normal(size))
    expected = math.fsum(math.log(value + more) for value in values)
    error = 1e-14 * sum(abs(math.log(value + more)) for value in values) + 1e-14 * size
    assert abs(_kernels.sum_logs(values, more) - expected) <= error


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 700, 1023, 1024])
def test_sum_of_logs_of_what_is_no_number(wrong, place):
    values = np.ones(1025)
    values[place] = wrong
    assert repr(_kernels.sum_logs(values, 0.5)) == repr(wrong)


# ---------------------------------------------------------------------- tables, tokens, communities


@CASES
@given(st.lists(st.integers(0, 12), max_size=6), SEEDS)
def test_tables(counts, case):
    rng = np.random.default_rng(case)
    concentration = rng.gamma(0.3, size=len(counts)) + 1e-100
    uniform = rng.random(sum(counts))
    tables = np.empty(len(counts), np.int64)
    _kernels.crt_tables(np.array(counts, np.int64), concentration, uniform, tables)
    assert tables.tolist() == naive.crt_tables(counts, concentration.tolist(), uniform.tolist())


@CASES
@given(st.integers(1, 3), st.integers(1, 4), SEEDS)
def test_tables_of_endpoints(n_nodes, width, case):
    rng = np.random.default_rng(case)
    fresh = rng.integers(4, size=(n_nodes, width))
    old = rng.integers(3, size=fresh.shape) * rng.gamma(1.0, size=fresh.shape)
    old = np.round(8.0 * old) / 8.0  # so that adding counts is exact
    concentration = rng.gamma(0.3, size=n_nodes) + 1e-100
    uniform, tables = rng.random(int(fresh[:, 1:].sum())), np.full(n_nodes, 5, np.int64)
    _kernels.endpoint_tables(old + fresh, fresh, concentration, uniform, tables)
    expected = naive.endpoint_tables(fresh.tolist(), old.tolist(), concentration, uniform.tolist())
    assert (tables - 5).tolist() == expected


@given(st.integers(1, 5), st.integers(0, 4), st.integers(0, 4), SEEDS)
def test_running_sums_of_columns(size, low, more, case):
    values = np.random.default_rng(case).random((size, low + more + 1))
    found = np.full(values.shape[::-1], 7.0)
    _kernels.running_sums(values, low, low + more, found)
    for k, column in enumerate(values.T.tolist()):
        inside = low <= k < low + more
        assert found[k].tolist() == (list(itertools.accumulate(column)) if inside else [7.0] * size)


@CASES
@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.floats(0.0, 1.0, exclude_max=True))
def test_search_of_running_sums(weights, uniform):
    if not sum(weights):
        weights[0] = 1
    running = np.cumsum(weights).astype(np.float64)
    found = _kernels.search_cumulative(running, 0, running.size, uniform * running[-1])
    assert found == naive.first_above(weights, uniform)
    assert weights[found] > 0


def endpoint_distributions(rng, size, width):
    """Rows of widths (size, width) that are Dirichlet draws along the nodes, some entries tiny."""
    return rng.dirichlet(np.full(size, 0.3), width).T + 1e-12


@CASES
@given(naive.cascade_sets(), st.booleans(), LIMITS, st.integers(0, 1), st.booleans(), SEEDS)
def test_phantoms(cascades, background, limit, reserve, remembered, case):
    """Prior rates are b of all pairs or, with what earlier intervals left, their own."""
    rng = np.random.default_rng(case)
    layout = build_layout(cascades, background=background, max_candidates=limit)
    exposure, node_full = layout.exposure(get_delay("exponential"), np.empty(0))
    sender, receiver = (endpoint_distributions(rng, cascades.n_nodes + reserve, 3) for _ in "ab")
    size, b = 8, rng.gamma(2.0)
    pair_prior, node_prior = np.array([b]), np.array([b])
    if remembered:
        pair_prior = b + rng.gamma(1.0, size=layout.n_pairs)
        node_prior = b + rng.gamma(1.0, size=layout.n_nodes)
    tales = naive.stories(cascades)
    exposures, prior, keys = {}, {}, pair_keys(layout)
    for u, v in itertools.permutations(range(cascades.n_nodes), 2):
        exposures[u, v] = naive.exposure(tales, u, v, limit, lambda delay: delay / layout.unit)
        prior[u, v] = b
        if remembered:
            listed = (u, v) in keys
            prior[u, v] = pair_prior[keys.index((u, v))] if listed else node_prior[u]
    bound = math.log1p(max(e / prior[pair] for pair, e in exposures.items())) or 1.0
    community = rng.integers(3, size=size).astype(np.int32)
    uniform = rng.random((size, 3))
    found = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.bool_)
    _kernels.thin_phantoms(
        community,
        np.cumsum(sender.T, axis=1),
        np.cumsum(receiver.T, axis=1),
        0,
        cascades.n_nodes,
        layout.pair_ptr,
        layout.pair_source,
        exposure,
        node_full,
        pair_prior,
        node_prior,
        bound,
        uniform,
        *found,
    )
    expected = naive.thin_phantoms(
        community, sender.T.tolist(), receiver.T.tolist(), exposures, prior, bound, uniform.tolist()
    )
    assert list(zip(*(x.tolist() for x in found), strict=True)) == expected


@CASES
@given(st.integers(0, 12), st.integers(1, 6), SEEDS)
def test_communities_given_the_network(size, width, case):
    rng = np.random.default_rng(case)
    pairs = rng.integers(4, size=(2, size)).astype(np.int32)
    weight = rng.dirichlet(np.ones(width))
    sender, receiver = (endpoint_distributions(rng, 4, width) for _ in "ab")
    uniform = rng.random(size)
    community = np.empty(size, np.int32)
    _kernels.draw_communities(*pairs, sender * weight, receiver, uniform, community)
    expected = naive.draw_communities(
        pairs.T.tolist(), weight.tolist(), sender.tolist(), receiver.tolist(), uniform.tolist()
    )
    assert community.tolist() == expected
    assert_counts(pairs, community, width, 4)


def assert_counts(pairs, community, width, n_nodes):
    """`count_tokens` from dirty arrays; returns its counts."""
    eta = np.full(width, 99, np.int64)
    sent, received = np.full((2, n_nodes, width), 99, np.int64)
    _kernels.count_tokens(*pairs, community, eta, sent, received)
    for k in range(width):
        held = [(u, v) for u, v, z in zip(*pairs, community, strict=True) if z == k]
        assert eta[k] == len(held)
        for x in range(n_nodes):
            assert sent[x, k] == sum(u == x for u, _ in held)
            assert received[x, k] == sum(v == x for _, v in held)
    return eta, sent, received


def random_tokens(rng, size, communities, null):
    """Tokens over four endpoints and, for naive, the same with their prior."""
    pairs = rng.integers(4, size=(2, size)).astype(np.int32)
    prior = np.full(communities + 1, rng.gamma(2.0) / communities)
    prior[0] = 1.0 if null else 0.0
    popularity, base = rng.dirichlet(np.ones(4)), rng.dirichlet(np.full(4, 5.0))
    tau = rng.gamma(2.0)
    tokens = naive.Tokens(
        [(u, v) for u, v in pairs.T.tolist()],
        prior.tolist(),
        base.tolist(),
        tau,
        popularity.tolist(),
    )
    return pairs, (prior, base, tau, popularity), tokens


@CASES
@given(st.integers(0, 10), st.integers(1, 4), st.booleans(), SEEDS)
def test_collapsed_pass(size, communities, null, case):
    rng = np.random.default_rng(case)
    pairs, (prior, base, tau, popularity), tokens = random_tokens(rng, size, communities, null)
    community = rng.integers(0 if null else 1, communities + 1, size).astype(np.int32)
    before = community.tolist()
    counts = assert_counts(pairs, community, communities + 1, 4)
    uniform = rng.random(size)
    _kernels.update_communities(
        *pairs, null, base, prior, tau, tau * popularity, uniform, community, *counts
    )
    expected = naive.update_communities(tokens, before, uniform.tolist())
    assert tuple(community.tolist()) == expected
    afresh = assert_counts(pairs, community, communities + 1, 4)
    for kept, made in zip(counts, afresh, strict=True):
        assert (kept == made).all()


def remembered_tokens(rng, communities):
    """Pseudo-counts of three earlier tokens over four endpoints, for naive."""
    eta, sent, received = np.zeros(communities + 1), *np.zeros((2, 4, communities + 1))
    for _ in range(3):
        k, weight = rng.integers(communities + 1), rng.integers(16) / 8.0
        eta[k] += weight
        sent[rng.integers(4), k] += weight
        received[rng.integers(4), k] += weight
    return eta, sent, received


@CASES
@given(st.integers(2, 10), st.booleans(), SEEDS)
def test_restricted_scan(size, forced, case):
    rng = np.random.default_rng(case)
    pairs, (prior, _, tau, popularity), tokens = random_tokens(rng, size, 3, True)
    memory = remembered_tokens(rng, 3)
    tokens = dataclasses.replace(tokens, memory=tuple(x.tolist() for x in memory))
    counts = tuple(x.copy() for x in memory)
    anchors, labels = tuple(rng.permutation(size)[:2].tolist()), 1 + rng.permutation(3)[:2]
    rest = np.array([t for t in range(size) if t not in anchors], np.int64)
    side = np.full(rest.size, -1, np.int8)
    law = (prior[1], tau, tau * popularity)
    _kernels.place_tokens(np.array(anchors), labels, tuple(pairs), law, counts)
    expected = side.tolist()
    for last in (False, True):
        uniform = rng.random(rest.size)
        target = np.empty(0, np.int8)
        if last and forced:
            target = rng.integers(2, size=rest.size).astype(np.int8)
        log_probability = _kernels.restricted_scan(
            rest, labels, tuple(pairs), law, uniform, target, side, counts
        )
        goal = target.tolist() if target.size else None
        expected, expected_log = naive.restricted_scan(
            tokens, anchors, rest, expected, uniform, goal, labels
        )
        assert side.tolist() == expected
        assert log_probability == pytest.approx(expected_log, rel=1e-11, abs=1e-12)
    held = np.empty(size, np.int32)
    held[list(anchors)], held[rest] = labels, labels[side]
    for found, made, old in zip(counts, assert_counts(pairs, held, 4, 4), memory, strict=True):
        assert (found == made + old).all()


@CASES
@given(st.integers(1, 30), st.sampled_from((1.0, 1e-40)), SEEDS)
def test_weight_of_placed_tokens(size, unpopular, case):
    """Also where a product of probabilities is no float."""
    rng = np.random.default_rng(case)
    pairs, (prior, _, tau, popularity), tokens = random_tokens(rng, size, 3, True)
    popularity[0] *= unpopular
    tokens = dataclasses.replace(tokens, popularity=popularity.tolist())
    community = rng.integers(1, 4, size).astype(np.int32)
    counts = np.zeros(4), *np.zeros((2, 4, 4))
    law = (prior[1], tau, tau * popularity)
    found = _kernels.place_tokens(np.arange(size), community, tuple(pairs), law, counts)
    weight, expected = list(tokens.prior), 0.0
    for t, k in enumerate(community.tolist()):
        seen = counts_of(pairs[:, :t], community[:t], k)
        expected += math.log(weight[k] / (tau + len(seen)) ** 2)
        for side in (0, 1):
            node = pairs[side, t]
            expected += math.log(tau * popularity[node] + sum(x[side] == node for x in seen))
        weight[k] += 1.0
    assert found == pytest.approx(expected, rel=1e-11)


def counts_of(pairs, community, k):
    """Endpoints of the tokens of one community."""
    return [pair for pair, z in zip(pairs.T.tolist(), community, strict=True) if z == k]


@CASES
@given(st.integers(2, 7), st.integers(0, 3), st.booleans(), SEEDS)
def test_split_or_merge(size, scans, joined, case):
    rng = np.random.default_rng(case)
    pairs, (prior, _, tau, popularity), tokens = random_tokens(rng, size, 3, True)
    memory = remembered_tokens(rng, 3)
    tokens = dataclasses.replace(tokens, memory=tuple(x.tolist() for x in memory))
    community = rng.integers(4, size=size).astype(np.int32)
    anchors = rng.permutation(size)[:2]
    community[anchors] = (2, 2) if joined else (3, 2)
    label = int(rng.choice((1, 3))) if joined else 2
    if joined:
        community[community == label] = 0
    counts = assert_counts(pairs, community, 4, 4)
    counts = tuple(new + old for new, old in zip(counts, memory, strict=True))
    concerned = np.isin(community, community[anchors]).sum()
    uniform, chance = rng.random((scans + 1, concerned - 2)), rng.random()
    expected = naive.split_or_merge(
        tokens, community.tolist(), tuple(anchors.tolist()), label, 2, uniform.tolist(), chance
    )
    before = community.tolist()
    accepted = _kernels.split_or_merge(
        anchors, label, math.log(2), tuple(pairs), (prior[1], tau, tau * popularity),
        uniform, math.log(chance), community, counts,
    )  # fmt: skip
    assert community.tolist() == expected
    assert accepted == (before != expected)
    afresh = assert_counts(pairs, community, 4, 4)
    for found, made, old in zip(counts, afresh, memory, strict=True):
        assert (found == made + old).all()


@CASES
@given(naive.cascade_sets(), st.integers(1, 4), SEEDS)
def test_running_sums(cascades, n_draws, case):
    """Also of pairs that carry an infection in some draws only, put away and taken up again."""
    rng = np.random.default_rng(case)
    chain = Chain(build_layout(cascades), Model(get_delay("exponential"), prior="flat"), rng)
    state, schedule = chain.state, Schedule(0, n_draws, 1, 0)
    record, draws = Record(chain, schedule), []
    for _ in range(n_draws):
        state.shape, state.exposure = rng.gamma(1.0, size=(2, chain.layout.n_pairs))
        state.n_pair = rng.integers(3, size=chain.layout.n_pairs).astype(np.int32)
        record.add_pairs(chain)
        draws.append((state.shape, state.exposure + state.b, state.n_pair))
        kept, record = record, Record(chain, schedule)
        record.draws = kept.draws + 1
        record.put(kept.sums())
    place = {int(pair): slot for slot, pair in enumerate(record.used)}
    cases = [list(zip(*x, strict=True)) for x in draws]
    unit = unused_unit(chain.layout, chain.model)
    for p, expected in enumerate(naive.accumulate(cases, rate_unit(chain))):
        assert (p in place) == (expected["hits"] > 0)
        if p in place:
            for name, value in expected.items():
                rel = 1e-6 if "rest" in name else 1e-12  # begun in float32
                found = getattr(record, name)[place[p]]
                assert found == pytest.approx(value, rel=rel), name
            continue
        mean, square = expected["mean_rest"] / n_draws, expected["square_rest"] / n_draws
        assert unit * record.mean_unused[p] == pytest.approx(mean, rel=1e-6)
        assert unit**2 * record.variance_unused[p] == pytest.approx(square - mean**2, rel=1e-5)
