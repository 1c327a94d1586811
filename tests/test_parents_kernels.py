"""Updates of parents against their restatement in `tests/naive.py`; see also test_kernels.py."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadenet.cascades import Cascades
from cascadenet.inference import _kernels
from cascadenet.inference.layout import Layout, build_layout
from cascadenet.inference.parents import _kernels as parent_kernels
from cascadenet.inference.sampler import SHAPE_FLOOR
from tests import naive
from tests.kernel_cases import CASES, LIMITS, SEEDS, candidate_rows, pair_keys

MORE = 0.1  # of all rates

pytestmark = pytest.mark.jit_off


def explained(cascades, background, limit, weighted, rng):
    """A layout with random shapes, rates and hazards, random parents, and the same for naive."""
    layout = build_layout(cascades, background=background, max_candidates=limit)
    n_pairs, n_cand = layout.n_pairs, layout.cand_pair.size
    shape = np.maximum(rng.gamma(0.2, size=n_pairs), SHAPE_FLOOR)
    shape[rng.random(n_pairs) < 0.2] = rng.choice((SHAPE_FLOOR, 1e-20, 1e-15))
    rate = rng.gamma(2.0, size=n_pairs)
    cand_weight = np.empty(0)
    if weighted:
        cand_weight = rng.random(n_cand) * (rng.random(n_cand) < 0.8)
        cand_weight[layout.cand_ptr[:-1][np.diff(layout.cand_ptr) > 0]] = 1.0
    hazards = candidate_rows(layout, cand_weight if weighted else np.ones(n_cand))
    choice = np.zeros(layout.n_infections, np.int32)
    parent = np.full(layout.n_infections, -1, np.int32)
    for row, weights in enumerate(hazards):
        if weights:
            choice[row] = rng.choice(np.flatnonzero(weights))
            parent[row] = layout.cand_pair[layout.cand_ptr[row] + choice[row]]
    n_pair = np.bincount(parent[parent >= 0], minlength=n_pairs).astype(np.int32)
    keys = pair_keys(layout)
    data = naive.infections(
        naive.stories(cascades),
        cascades.n_nodes,
        limit,
        background,
        lambda delay: 1.0,
        dict(zip(keys, shape.tolist(), strict=True)),
        dict(zip(keys, (rate + MORE).tolist(), strict=True)),
    )
    data = dataclasses.replace(data, hazards=hazards)
    return layout, (shape, rate, cand_weight), (choice, parent, n_pair), data


def as_explanation(layout: Layout, choice: np.ndarray) -> tuple[int, ...]:
    """Positions of the parents, -1 for seeds."""
    return tuple(np.where(np.diff(layout.cand_ptr) > 0, choice, -1).tolist())


def assert_explains(layout: Layout, data: naive.Infections, moved, expected) -> None:
    """`choice`, `parent` and `n_pair` all say what the naive explanation says."""
    choice, parent, n_pair = moved
    assert as_explanation(layout, choice) == expected
    keys = pair_keys(layout)
    for row, position in enumerate(expected):
        if position < 0:
            assert parent[row] == -1
        else:
            assert keys[parent[row]] == data.sources[row][position]
    counts = data.counts(expected)
    assert n_pair.tolist() == [counts[key] for key in keys]


def problem(layout: Layout, shape, rate, cand_weight) -> tuple:
    """First argument of the kernels that look candidates up."""
    return (
        layout.lookup,
        layout.child_ptr,
        layout.cand_ptr,
        layout.cand_pair,
        cand_weight,
        layout.pair_ptr,
        (shape, rate, MORE),
    )


@CASES
@given(
    naive.cascade_sets(),
    st.booleans(),
    LIMITS,
    st.booleans(),
    st.booleans(),
    st.integers(1, 3),
    SEEDS,
)
def test_parents(cascades, background, limit, weighted, reinforce, rounds, case):
    """Infections of other children than those given keep their parents."""
    children = some_nodes(cascades, case)
    compare_parents(cascades, background, limit, weighted, reinforce, children, rounds, case)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("case", range(20))
def test_parents_of_long_cascades(background, weighted, case):
    """Up to thirty candidates, with ties, of weights a hundred orders of magnitude apart."""
    rng = np.random.default_rng(case)
    size = rng.integers(2, 31, size=5)
    offset = np.concatenate(([0], np.cumsum(size)))
    node = np.concatenate([rng.permutation(31)[:n] for n in size])
    time = rng.integers(40, size=node.size) / 3.0
    order = np.lexsort((node, time, np.repeat(np.arange(5), size)))
    node, time = node[order], time[order]
    cascades = Cascades.from_arrays(range(31), offset, node, time, np.full(5, 20.0))
    compare_parents(cascades, background, None, weighted, True, np.arange(31), 2, case)


def some_nodes(cascades: Cascades, case: int) -> np.ndarray:
    """About two of three nodes, ascending."""
    return np.flatnonzero(np.random.default_rng(case).random(cascades.n_nodes) < 2 / 3)


def uniforms(rng: np.random.Generator, layout: Layout, children, rounds: int, *each: int):
    """Numbers for all infections of some children, by round."""
    infections = np.diff(layout.child_ptr)[children].sum()
    return rng.random((rounds, infections, *each))


def compare_parents(cascades, background, limit, weighted, reinforce, children, rounds, case):
    rng = np.random.default_rng(case)
    layout, (shape, rate, cand_weight), moved, data = explained(
        cascades, background, limit, weighted, rng
    )
    uniform = uniforms(rng, layout, children, rounds)
    before = as_explanation(layout, moved[0])
    _kernels.update_parents(
        layout.child_ptr,
        layout.cand_ptr,
        layout.cand_pair,
        cand_weight,
        layout.pair_ptr,
        (shape, rate, MORE),
        reinforce,
        children,
        uniform,
        *moved,
    )
    expected = naive.draw_parents(data, before, children.tolist(), uniform.tolist(), reinforce)
    assert_explains(layout, data, moved, expected)


@CASES
@given(
    naive.cascade_sets(max_cascades=6),
    st.booleans(),
    LIMITS,
    st.booleans(),
    st.integers(1, 4),
    SEEDS,
)
def test_proposed_parents(cascades, background, limit, weighted, rounds, case):
    compare_proposals(cascades, background, limit, weighted, rounds, case)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("case", range(10))
def test_proposed_parents_of_frequent_sources(background, weighted, case):
    """Forty cascades with three sources in all of them; most others are in one or two."""
    rng = np.random.default_rng(case)
    rest = [rng.choice(np.arange(3, 60), size=rng.integers(1, 4), replace=False) for _ in range(40)]
    node = np.concatenate([[*rng.permutation(3), *some] for some in rest])
    size = np.array([3 + len(some) for some in rest])
    time = np.concatenate([np.arange(n, dtype=float) for n in size])
    offset = np.concatenate(([0], np.cumsum(size)))
    cascades = Cascades.from_arrays(range(60), offset, node, time, np.full(40, 9.0))
    compare_proposals(cascades, background, None, weighted, 3, case)


def compare_proposals(cascades, background, limit, weighted, rounds, case):
    rng = np.random.default_rng(case)
    layout, parameters, moved, data = explained(cascades, background, limit, weighted, rng)
    children = some_nodes(cascades, case)
    uniform = uniforms(rng, layout, children, rounds, 3)
    share, factor = rng.gamma(0.5, size=(2, layout.n_nodes)) + 0.01
    running = np.append(0.0, np.cumsum(share[layout.meeting[2]]))
    ground = {p: data.shape[p] / data.rate[p] for p in data.shape}
    besides = [
        {(u, v): factor[v] * share[u] if u >= 0 else ground[u, v] for u, v in sources}
        for sources in data.sources
    ]
    before = as_explanation(layout, moved[0])
    odds = share, running, factor
    moves = parent_kernels.propose_parents(
        problem(layout, *parameters), children, layout.meeting, odds, uniform, *moved
    )
    expected, expected_moves = naive.propose_parents(
        data, before, children.tolist(), uniform.tolist(), besides
    )
    assert_explains(layout, data, moved, expected)
    assert moves == expected_moves


@CASES
@given(naive.cascade_sets(max_cascades=6), st.booleans(), LIMITS, st.booleans(), SEEDS)
def test_swaps(cascades, background, limit, weighted, case):
    compare_swaps(cascades, background, limit, weighted, case)


@pytest.mark.parametrize("n_cascades", [254, 255, 256, 300])
@pytest.mark.parametrize("case", range(5))
def test_swaps_of_many_infections(n_cascades, case):
    """More of one child than the number of them that is kept by pair can say."""
    rng = np.random.default_rng(case)
    some = rng.random(n_cascades) < 0.9  # where the second source is a candidate
    node = np.concatenate([[0, 1, 2] if both else [0, 2] for both in some])
    time = np.concatenate([[0.0, 1.0, 2.0] if both else [0.0, 2.0] for both in some])
    offset = np.concatenate(([0], np.cumsum(np.where(some, 3, 2))))
    cascades = Cascades.from_arrays(range(3), offset, node, time, np.full(n_cascades, 3.0))
    compare_swaps(cascades, False, None, False, case)


@pytest.mark.parametrize("gain", [-20.0, 20.0])
@pytest.mark.parametrize("exponent", [-2.0, 2.0])
@pytest.mark.parametrize("case", range(3))
def test_swaps_whose_rates_and_hazards_exceed_a_double(exponent, gain, case):
    """Four hundred infections that one source explains; all of them could go to another.

    Rates favour that by 10 to the power of 400 exponents, hazards oppose it but for e to the gain.
    """
    rng = np.random.default_rng(case)
    size = 400
    node, time = np.tile([0, 1, 2], size), np.tile([0.0, 1.0, 2.0], size)
    cascades = Cascades.from_arrays(
        range(3), np.arange(size + 1) * 3, node, time, np.full(size, 3.0)
    )
    layout, _, moved, data = explained(cascades, False, None, True, rng)
    choice, parent, n_pair = moved
    rows = slice(*layout.child_ptr[2:4])
    candidates = slice(*layout.cand_ptr[[rows.start, rows.stop]])
    a, b = layout.cand_pair[candidates][:2]
    choice[rows], parent[rows] = 0, a
    n_pair[[a, b]] = size, 0
    shape, rate = np.full(layout.n_pairs, 0.5), np.ones(layout.n_pairs)
    rate[a] = 10.0**exponent
    weight = np.ones(layout.cand_pair.size)
    hazard = np.exp(rng.standard_normal(size))
    of_b = hazard * 10.0**-exponent * np.exp(gain / size)
    weight[candidates] = np.column_stack((hazard, of_b)).ravel()
    keys = pair_keys(layout)
    data = dataclasses.replace(
        data,
        hazards=candidate_rows(layout, weight),
        shape=dict(zip(keys, shape.tolist(), strict=True)),
        rate=dict(zip(keys, rate.tolist(), strict=True)),
    )
    uniform = np.full((layout.n_infections, 2), 0.5)
    uniform[rows.start + 1 : rows.stop, 0] = 0.0  # the first names b, all others a
    check_swaps(layout, (shape, rate - MORE, weight), moved, data, uniform, patience=2 * size)
    assert n_pair[a] == (0 if gain > 0.0 else size)


def compare_swaps(cascades, background, limit, weighted, case):
    rng = np.random.default_rng(case)
    layout, parameters, moved, data = explained(cascades, background, limit, weighted, rng)
    uniform, patience = rng.random((layout.n_infections, 2)), int(rng.choice([1, 3, 50]))
    check_swaps(layout, parameters, moved, data, uniform, patience)


def check_swaps(layout, parameters, moved, data, uniform, patience):
    before = as_explanation(layout, moved[0])
    accepted = parent_kernels.update_swaps(
        problem(layout, *parameters), layout.node, layout.few_cand, patience, uniform, *moved
    )
    expected, expected_accepted = naive.draw_swaps(data, before, patience, uniform.tolist())
    assert_explains(layout, data, moved, expected)
    assert accepted == expected_accepted


@given(st.integers(1, 40), st.integers(0, 40), st.floats(-30, 3), st.floats(-30, 3), SEEDS)
def test_ratio_of_a_transfer_is_bounded_by_its_ends(n, more, log_a, log_b, case):
    """On which the early rejection of swaps rests: convex on the log scale."""
    rng = np.random.default_rng(case)
    limit = 10.0 ** rng.uniform(-8.0, 0.0)
    (r_a, r_b), (d_a, d_b) = np.exp([log_a, log_b]), rng.gamma(1.0, size=2) + 0.01
    ratios = []
    for s in range(1, n + more + 1):
        ratio, log_rest = parent_kernels._transfer(r_a, d_a, n + more, r_b, d_b, 0, s)
        ratios.append(ratio * np.exp(log_rest))
    for most in range(1, len(ratios) + 1):
        assert max(ratios[:most]) <= max(ratios[0], ratios[most - 1]) * (1.0 + 1e-9)
        bound = parent_kernels._transfer_bound(r_a, d_a, n + more, r_b, d_b, most)
        assert ratios[most - 1] <= bound * (1.0 + 1e-9)
        if parent_kernels._is_hopeless(r_a, d_a, n + more, r_b, d_b, most, limit):
            assert max(ratios[:most]) <= limit
