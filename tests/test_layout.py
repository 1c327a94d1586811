"""The layout of the data: who may have infected whom, and who was exposed for how long.

Equality with the definitions on generated cases is in test_kernels.py; here are cases small enough
to know the answer, and properties that hold for any data.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cascadenet.delays import DELAYS, get_delay
from cascadenet.errors import FormatError
from cascadenet.inference.layout import BACKGROUND, Layout, build_layout
from tests import naive
from tests.naive import Story

EXPONENTIAL = get_delay("exponential")
NO_THETA = np.empty(0)
ARRAYS = (
    "child_ptr",
    "infection",
    "cand_ptr",
    "cand_pair",
    "pair_ptr",
    "pair_source",
    "pair_child",
    "cand_start",
    "cand_stop",
)


def laid_out(*tales: Story, n_nodes: int = 4, **settings) -> Layout:
    return build_layout(naive.cascades_of(list(tales), n_nodes), **settings)


def parents(layout: Layout) -> dict[int, list[list[int]]]:
    """For each node, the sources of the candidates of each of its infections."""
    sources = layout.pair_source[layout.cand_pair]
    rows = [part.tolist() for part in np.split(sources, layout.cand_ptr[1:-1])]
    return {v: rows[layout.child_ptr[v] : layout.child_ptr[v + 1]] for v in range(layout.n_nodes)}


def exposures(layout: Layout, delay=EXPONENTIAL, theta=NO_THETA) -> dict[tuple[int, int], float]:
    """Exposure of every ordered pair in the user's unit of time (exponential delays)."""
    listed, full = layout.exposure(delay, theta)
    n_nodes = layout.n_nodes
    found = {(u, v): full[u] for u in range(n_nodes) for v in range(n_nodes) if u != v}
    found.update(zip(zip(layout.pair_source, layout.pair_child, strict=True), listed, strict=True))
    return {key: float(value) * layout.unit for key, value in found.items()}


# ------------------------------------------------------------------------------ who may be parent


def test_nodes_infected_at_one_instant_do_not_infect_each_other():
    layout = laid_out(Story([(0.0, 0), (1.0, 1), (1.0, 2), (2.0, 3)], 2.0))
    assert parents(layout) == {0: [[]], 1: [[0]], 2: [[0]], 3: [[0, 1, 2]]}


def test_everything_tied_with_the_first_is_a_seed():
    layout = laid_out(Story([(5.0, 1), (5.0, 3), (6.0, 0)], 9.0))
    assert parents(layout) == {0: [[1, 3]], 1: [[]], 2: [], 3: [[]]}


def test_a_cascade_of_ties_has_no_candidates():
    layout = laid_out(Story([(1.0, 0), (1.0, 1), (1.0, 2)], 3.0), background=True)
    assert layout.cand_pair.size == 0
    assert layout.unit == 1.0
    e = exposures(layout)
    assert e[0, 1] == e[1, 0] == 0.0  # they met, and neither was ever at risk from the other
    assert e[0, 3] == 2.0


def test_a_singleton_carries_exposure_and_no_transmission():
    layout = laid_out(Story([(0.0, 0)], 5.0), Story([(0.0, 0), (1.0, 1)], 5.0))
    assert layout.cand_pair.size == 1
    e = exposures(layout)
    assert e[0, 1] == 1.0 + 5.0
    assert e[0, 2] == e[0, 3] == 10.0


def test_nodes_never_infected_are_at_risk_and_put_no_one_at_risk():
    e = exposures(laid_out(Story([(0.0, 0), (1.0, 1)], 4.0)))
    assert e[0, 3] == 4.0
    assert e[1, 3] == 3.0
    assert e[3, 0] == e[3, 1] == e[3, 2] == 0.0


def test_each_cascade_has_its_own_horizon():
    one, other = [(0.0, 0), (1.0, 1)], [(10.0, 0), (11.0, 1)]
    e = exposures(laid_out(Story(one, 2.0), Story(other, 14.0)))
    assert e[0, 2] == 2.0 + 4.0
    assert e[1, 2] == 1.0 + 3.0
    assert e[0, 1] == 2.0
    assert e[1, 0] == 0.0


# ---------------------------------------------------------------------------------- max_candidates


def test_only_the_most_recent_act_and_exposure_ends_with_them():
    tale = Story([(0.0, 0), (1.0, 1), (3.0, 2), (6.0, 3)], 10.0)
    layout = laid_out(tale, n_nodes=5, max_candidates=1)
    assert parents(layout) == {0: [[]], 1: [[0]], 2: [[1]], 3: [[2]], 4: []}
    assert layout.n_cut == 3
    e = exposures(layout)
    assert (e[0, 1], e[0, 2], e[0, 3], e[0, 4]) == (1.0, 1.0, 1.0, 1.0)
    assert (e[1, 3], e[2, 4], e[3, 4]) == (2.0, 3.0, 4.0)


def test_the_last_to_act_may_infect_all_that_tie_with_what_ends_it():
    tale = Story([(0.0, 0), (1.0, 1), (1.0, 2), (2.0, 3)], 2.0)
    layout = laid_out(tale, max_candidates=1)
    assert parents(layout) == {0: [[]], 1: [[0]], 2: [[0]], 3: [[2]]}
    e = exposures(layout)
    assert e[1, 3] == 0.0  # pushed out at the instant of its own infection
    assert e[2, 3] == 1.0


@given(naive.cascade_sets(), st.integers(1, 4), st.booleans())
def test_capping_cuts_candidates_and_never_adds_exposure(cascades, limit, background):
    whole = build_layout(cascades, background=background)
    capped = build_layout(cascades, background=background, max_candidates=limit)
    assert capped.cand_pair.size + capped.n_cut == whole.cand_pair.size
    assert np.diff(capped.cand_ptr).max(initial=0) <= limit + background
    before, after = exposures(whole), exposures(capped)
    for (u, v), value in after.items():
        assert value <= before[u, v] + 1e-12
    # a parent that is left has had its time: no candidate without exposure
    for p in set(capped.cand_pair.tolist()):
        assert after[int(capped.pair_source[p]), int(capped.pair_child[p])] > 0.0


@given(naive.cascade_sets(), st.booleans())
def test_a_cap_that_binds_nobody_changes_nothing(cascades, background):
    whole = build_layout(cascades, background=background)
    capped = build_layout(cascades, background=background, max_candidates=6)
    assert capped.n_cut == 0
    for name in (*ARRAYS, "cand_delay"):
        assert (getattr(capped, name) == getattr(whole, name)).all()
    assert exposures(capped) == exposures(whole)


# -------------------------------------------------------------------------------------- background


def test_the_background_acts_from_the_start_of_a_cascade_and_never_on_seeds():
    tales = Story([(2.0, 0), (3.0, 1), (7.0, 2)], 8.0), Story([(0.0, 1)], 1.0)
    layout = laid_out(*tales, background=True)
    assert parents(layout) == {0: [[]], 1: [[-1, 0], []], 2: [[-1, 0, 1]], 3: []}
    e = exposures(layout)
    assert e[BACKGROUND, 0] == 0.0 + 1.0  # seed of one cascade, watched during the other
    assert e[BACKGROUND, 1] == 1.0 + 0.0
    assert e[BACKGROUND, 2] == 5.0 + 1.0
    assert e[BACKGROUND, 3] == 6.0 + 1.0
    first = layout.cand_ptr[:-1][np.diff(layout.cand_ptr) > 0]
    assert sorted(layout.cand_delay[first] * layout.unit) == [1.0, 5.0]


@given(naive.cascade_sets())
def test_the_background_adds_a_candidate_to_each_infection_that_is_no_seed(cascades):
    plain = build_layout(cascades)
    ground = build_layout(cascades, background=True)
    assert (ground.pair_source[ground.pair_ptr[:-1]] == BACKGROUND).all()
    assert ground.n_pairs == plain.n_pairs + cascades.n_nodes
    widths = np.diff(plain.cand_ptr)
    assert (np.diff(ground.cand_ptr) == widths + (widths > 0)).all()


@pytest.mark.parametrize("name", sorted(DELAYS))
def test_the_background_has_constant_hazard_under_every_delay_model(name):
    layout = laid_out(Story([(0.0, 0), (1.0, 1), (3.0, 2)], 4.0), background=True)
    delay = get_delay(name)
    log_hazard = layout.log_hazard(delay, delay.default())
    ground = layout.pair_source[layout.cand_pair] == BACKGROUND
    assert (log_hazard[ground] == 0.0).all()
    assert log_hazard[~ground] == pytest.approx(
        delay.log_hazard(layout.cand_delay[~ground], delay.default())
    )


# ------------------------------------------------------------------------------ any data at all


@given(naive.cascade_sets(), st.sampled_from((None, 1, 2)), st.booleans())
def test_candidates_come_strictly_before_and_pairs_are_in_order(cascades, limit, background):
    layout = build_layout(cascades, background=background, max_candidates=limit)
    assert (layout.cand_delay > 0.0).all()
    assert sorted(layout.infection.tolist()) == list(range(cascades.n_infections))
    child = np.repeat(np.arange(layout.n_nodes), np.diff(layout.child_ptr))
    assert (cascades.node[layout.infection] == child).all()
    assert (layout.pair_child[layout.cand_pair] == np.repeat(child, np.diff(layout.cand_ptr))).all()
    key = layout.pair_child.astype(int) * (layout.n_nodes + 1) + layout.pair_source
    assert (np.diff(key) > 0).all()
    assert (layout.pair_source != layout.pair_child).all()


@given(naive.cascade_sets(), st.sampled_from((None, 2)), st.sampled_from(sorted(DELAYS)))
def test_exposures_are_not_negative_nor_above_that_of_the_source(cascades, limit, name):
    layout = build_layout(cascades, max_candidates=limit)
    delay = get_delay(name)
    exposure, full = layout.exposure(delay, delay.default())
    assert (exposure >= 0.0).all()
    assert (exposure <= full[layout.pair_source] * (1.0 + 1e-14)).all()


@given(
    naive.cascade_sets(),
    st.sampled_from((1 / 3600.0, 1 / 64.0, 0.1, 7.0, 4096.0, 86400.0)),
    st.sampled_from((None, 2)),
    st.booleans(),
    st.sampled_from(sorted(DELAYS)),
)
def test_the_unit_of_time_changes_the_unit_alone(cascades, factor, limit, background, name):
    settings = {"max_candidates": limit, "background": background}
    layout = build_layout(cascades, **settings)
    assume(layout.cand_pair.size > 0)  # without a delay there is no unit but the user's
    tales = [
        Story([(t * factor, v) for t, v in story.events], story.horizon * factor)
        for story in naive.stories(cascades)
    ]
    scaled = build_layout(naive.cascades_of(tales, cascades.n_nodes), **settings)
    for array in ARRAYS:
        assert (getattr(scaled, array) == getattr(layout, array)).all()
    assert scaled.unit == pytest.approx(layout.unit * factor, rel=1e-14)
    exact = factor in (1 / 64.0, 4096.0)  # powers of two change no digit
    close = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 1e-10, "atol": 1e-10}
    np.testing.assert_allclose(scaled.cand_delay, layout.cand_delay, **close)
    delay = get_delay(name)
    for x, y in zip(
        scaled.exposure(delay, delay.default()),
        layout.exposure(delay, delay.default()),
        strict=True,
    ):
        np.testing.assert_allclose(x, y, **close)


@given(naive.cascade_sets(), st.randoms(use_true_random=False))
def test_the_order_of_cascades_does_not_matter(cascades, random):
    tales = naive.stories(cascades)
    shuffled = random.sample(tales, len(tales))
    one = build_layout(cascades)
    other = build_layout(naive.cascades_of(shuffled, cascades.n_nodes))
    assert (one.pair_source == other.pair_source).all()
    assert (one.pair_ptr == other.pair_ptr).all()
    for x, y in zip(
        one.exposure(EXPONENTIAL, NO_THETA), other.exposure(EXPONENTIAL, NO_THETA), strict=True
    ):
        np.testing.assert_allclose(x, y, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(np.sort(one.cand_delay), np.sort(other.cand_delay), rtol=1e-13)


# ------------------------------------------------------------------------------------------ weights


def test_weights_are_relative_to_the_largest_of_each_infection():
    layout = laid_out(Story([(0.0, 0), (1.0, 1), (3.0, 2)], 4.0))
    weight = layout.relative_weight(np.array([-5000.0, -9000.0, -9001.0]))
    assert weight == pytest.approx([1.0, 1.0, np.exp(-1.0)])


def test_an_infection_that_nothing_can_explain_is_named():
    layout = laid_out(Story([(0.0, 0), (1.0, 1), (9.0, 2)], 9.0))
    powerlaw = get_delay("powerlaw")
    log_hazard = layout.log_hazard(powerlaw, np.array([0.5]))
    with pytest.raises(FormatError, match=r"node index 1 in cascade index 0 .* background=True"):
        layout.relative_weight(log_hazard)
    ground = laid_out(Story([(0.0, 0), (1.0, 1), (9.0, 2)], 9.0), background=True)
    weight = ground.relative_weight(ground.log_hazard(powerlaw, np.array([0.5])))
    assert weight[:2].tolist() == [1.0, 0.0]


def test_no_infection_that_could_be_explained_is_no_error():
    layout = laid_out(Story([(0.0, 0)], 1.0))
    assert layout.relative_weight(np.empty(0)).size == 0


# ------------------------------------------------------------------------------------------ blocks


@given(naive.cascade_sets(), st.booleans(), st.integers(1, 9), st.sampled_from(sorted(DELAYS)))
def test_blocks_of_children_make_up_the_whole(cascades, background, size, name):
    """What is made block by block is the same bytes for any size of the blocks."""
    layout = build_layout(cascades, background=background)
    delay = get_delay(name)
    theta = delay.default() * 1.1

    def made() -> list[bytes]:
        arrays = [*layout.exposure(delay, theta), np.concatenate([*cut(layout.delays), [0.0]])]
        if name != "powerlaw" or background:  # others may find no hazard above 0
            arrays.append(layout.hazard_weight(lambda delays: delay.log_hazard(delays, theta)))
        return [x.tobytes() for x in arrays]

    def cut(values) -> list[np.ndarray]:
        return [values(low, high) for low, high in layout.blocks()]

    at_once = made()
    assert layout.blocks() == [(0, layout.n_nodes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cascadenet.inference.layout.BLOCK", size)
        ends = layout.blocks()
        assert ends[0][0] == 0 and ends[-1][1] == layout.n_nodes
        assert all(low < high for low, high in ends)
        assert [high for _, high in ends[:-1]] == [low for low, _ in ends[1:]]
        if layout.cand_pair.size > size * layout.n_nodes:
            assert len(ends) > 1
        assert made() == at_once


@given(naive.cascade_sets(), st.booleans(), st.integers(0, 2**32 - 1))
def test_chosen_delays_are_those_of_the_candidates(cascades, background, case):
    layout = build_layout(cascades, background=background)
    rng = np.random.default_rng(case)
    width = np.diff(layout.cand_ptr)
    rows = np.flatnonzero(width > int(background))
    choice = rng.integers(int(background), width[rows])
    expected = layout.cand_delay[layout.cand_ptr[rows] + choice]
    assert layout.chosen_delays(rows, choice).tolist() == expected.tolist()
