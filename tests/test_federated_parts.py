"""The pure parts of federated training: rates, ranking, averages, clock, compression, divisions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadenet.sparse.federated import Clock, Heterogeneity, heterogeneity, partition
from cascadenet.sparse.federated.aggregation import RULES, Piece, average, mix
from cascadenet.sparse.federated.dgc import DGC, reindex
from cascadenet.sparse.federated.ranking import (
    Ranking,
    flops,
    importance,
    parameter_count,
    part_arguments,
    statistic_coordinates,
)
from cascadenet.sparse.federated.rates import (
    RateRule,
    divided_differences,
    newton_value,
    next_retention,
    wanted_retention,
)
from cascadenet.sparse.pruning import Network
from tests import naive_federated as naive

EXACT = RateRule(tolerance=0.01, rho_max=0.9, gamma_min=0.01)


def small(*, batch_norm: bool = False, seed: int = 0) -> Network:
    return Network((6,), (8, 5), 3, batch_norm=batch_norm, seed=seed)


def conv() -> Network:
    return Network((2, 6, 6), (7,), 3, convolutions=[(4, 3, 1, 0)], batch_norm=True, seed=1)


# ------------------------------------------------------------------------------------------- rates


@given(
    st.lists(st.floats(-3, 3), min_size=2, max_size=5, unique_by=lambda v: round(v, 1)),
    st.data(),
)
def test_newton_is_the_polynomial_through_the_points(x, data):
    y = data.draw(st.lists(st.floats(-5, 5), min_size=len(x), max_size=len(x)))
    at = data.draw(st.floats(-3, 3))
    fitted = np.polynomial.Polynomial.fit(x, y, len(x) - 1)
    value, slope = newton_value(x, divided_differences(x, y), at)
    scale = 1 + np.abs(fitted.convert().coef).sum() * 4.0 ** len(x)
    assert abs(value - fitted(at)) < 1e-8 * scale
    assert abs(slope - fitted.deriv()(at)) < 1e-8 * scale


def test_divided_differences_by_their_definition():
    x, y = [1.0, 2.0, 4.0], [3.0, 5.0, 4.0]
    second = ((4 - 5) / 2 - (5 - 3) / 1) / 3
    assert np.allclose(divided_differences(x, y), [3, 2, second])


def test_a_linear_clock_is_inverted_exactly_from_two_pairs():
    history = [(1.0, 5.0), (0.5, 2.75)]  # phi = 0.5 + 4.5 gamma
    assert wanted_retention(history, 1.0, EXACT)[0] == pytest.approx(0.5 / 4.5)
    assert wanted_retention(history, 1.0, EXACT)[1] == "newton 2"


def test_a_parabola_is_inverted_exactly_from_three_pairs():
    def gamma_of(phi):
        return 0.1 + 0.08 * phi + 0.02 * phi * phi

    history = [(gamma_of(phi), phi) for phi in (5.0, 3.0, 2.0)]
    value, how = wanted_retention(history, 1.0, EXACT)
    assert how == "newton 3"
    assert value == pytest.approx(gamma_of(1.0))


def test_one_pair_goes_by_proportion_and_undershoots_a_fixed_cost():
    value, how = wanted_retention([(1.0, 4.0)], 1.0, EXACT)
    assert (value, how) == (0.25, "proportional")
    half, _ = wanted_retention([(1.0, 4.0)], 1.0, RateRule(alpha=0.5))
    assert half == 1 - 0.5 * 0.75
    assert 0.5 + 3.5 * value > 1.0  # phi = 0.5 + 3.5 gamma: still above the target, never below


@pytest.mark.parametrize(
    "history",
    [
        [(1.0, 2.0), (0.5, 2.5)],  # smaller and slower: noise
        [(1.0, 2.01), (0.5, 2.0)],  # too close in time to tell anything
        [(1.0, 30.0), (0.5, 2.0)],  # the line ends below 0 at the target... or not
    ],
)
def test_pairs_that_tell_nothing_fall_back(history):
    value, how = wanted_retention(history, 1.0, RateRule())
    if how == "proportional":
        assert value == history[-1][0] * (1.0 / history[-1][1])
    else:
        assert 0 < value < history[-1][0]
    assert (how == "proportional") == (history[0][1] < 30)


def test_a_parabola_that_turns_is_not_trusted():
    # through these three the inverse has its minimum between the target and now
    history = [(1.0, 4.0), (0.42, 3.0), (0.4, 1.8)]
    x, y = zip(*sorted((phi, gamma) for gamma, phi in history), strict=True)
    assert newton_value(x, divided_differences(x, y), 1.0)[1] < 0
    value, how = wanted_retention(history, 1.0, RateRule())
    assert how == "newton 2"
    assert 0 < value < 0.4


@given(
    st.lists(st.tuples(st.floats(0.02, 1.0), st.floats(0.01, 100.0)), min_size=1, max_size=6),
    st.floats(0.01, 100.0),
    st.booleans(),
)
def test_bounds_hold_whatever_the_history(history, target, regrow):
    rule = RateRule(gamma_min=0.05, regrow=regrow)
    gamma = history[-1][0]
    after, how = next_retention(history, target, rule)
    assert np.isfinite(after)
    if after < gamma:
        assert after >= max(gamma * 0.5, 0.05) - 1e-12
        assert history[-1][1] > target * 1.08
    elif after > gamma:
        assert regrow
        assert after <= min(gamma * 1.5, 1.0) + 1e-12
        assert history[-1][1] < target * 0.96
    else:
        assert how in ("dead-band", "floor", "too little")
    assert after == gamma or abs(1 - after / gamma) >= 0.02 - 1e-12


def test_dead_band_floor_and_too_little():
    rule = RateRule(gamma_min=0.1)
    assert next_retention([(0.6, 1.079)], 1.0, rule) == (0.6, "dead-band")
    assert next_retention([(0.1, 9.0)], 1.0, rule) == (0.1, "floor")
    assert next_retention([(0.101, 9.0)], 1.0, rule) == (0.101, "too little")
    assert next_retention([(1.0, 9.0)], 1.0, rule)[0] == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "secant"}, "rule must be one of newton, proportional; got 'secant'"),
        ({"alpha": 0.0}, "alpha must be"),
        ({"rho_max": 1.0}, "rho_max must be"),
        ({"rho_min": 0.9}, "rho_min must be"),
        ({"gamma_min": np.nan}, "gamma_min must be"),
        ({"tolerance": -0.1}, "tolerance must be"),
    ],
)
def test_rate_rules_refuse(settings, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        RateRule(**settings)
    with pytest.raises(TypeError, match="regrow must be True or False"):
        RateRule(regrow=1)


# ----------------------------------------------------------------------------------------- ranking


def test_norm_importance_by_loops():
    network = small()
    w0, w1, w2 = (slot.of(network.parameters).astype(float) for slot in network.weight_slots)
    scores = importance(network, "norm")
    for layer, (into, out) in enumerate(((w0, w1), (w1, w2))):
        plain = [
            np.sqrt(sum(v * v for v in into[j])) * np.sqrt(sum(v * v for v in out[:, j]))
            for j in range(into.shape[0])
        ]
        assert np.allclose(scores[layer], np.array(plain) / np.mean(plain))


def test_norm_importance_of_channels_that_are_flattened():
    network = conv()
    dense = network.slot("weight", 1).of(network.parameters)
    dense[:] = 1e-6
    dense.reshape(7, 4, 16)[:, 2] = 1.0  # the third channel's block of columns
    assert importance(network, "norm")[0].argmax() == 2


def test_scale_and_taylor_importance():
    network = small(batch_norm=True)
    network.slot("gamma", 0).of(network.parameters)[:] = np.arange(-4, 4)
    assert importance(network, "auto")[0].tolist() == [2.0, 1.5, 1.0, 0.5, 0.0, 0.5, 1.0, 1.5]
    with pytest.raises(ValueError, match="batch_norm"):
        importance(small(), "scale")
    # a unit cut off from the outputs does not change the loss; Taylor knows, to first order
    plain = small(seed=3)
    plain.slot("weight", 1).of(plain.parameters)[:, 4] = 0
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 6)).astype(np.float32), rng.integers(0, 3, 40)
    plain.loss_and_gradient(x, y)
    scores = importance(plain, "taylor")[0]
    assert scores[4] == 0
    assert (np.delete(scores, 4) > 0).any()


@pytest.mark.parametrize("network", [small(), small(batch_norm=True), conv()])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_parts_are_nested_and_as_large_as_asked(network, scope):
    ranking = Ranking(network, importance(network, "norm"), scope, 0.2)
    widths = [layer.weight_shape[0] for layer in network.layers[:-1]]
    previous = None
    largest_step = np.diff(ranking.retention).max()
    for gamma in np.linspace(1.0, 0.0, 23):
        units = ranking.units(gamma)
        kept = [np.arange(n) for n in widths] if units is None else units
        part = network.part(kept)
        size = part.parameters.size / network.parameters.size
        assert size == ranking.retention[sum(rows.size for rows in kept)]
        assert parameter_count(network, [rows.size for rows in kept]) == part.parameters.size
        common = ranking.retention[ranking.n_common]
        assert abs(size - gamma) <= largest_step or (size == common > gamma)
        for rows, n in zip(kept, widths, strict=True):
            assert rows.size >= np.ceil(0.2 * n)
            assert (np.diff(rows) > 0).all()
        if previous is not None:
            assert all(set(a) <= set(b) for a, b in zip(kept, previous, strict=True))
        previous = kept
    assert ranking.units(1.0) is None


def test_global_ranking_takes_the_best_of_all_layers_and_layers_shrink_alike():
    network = small()
    scores = [np.full(8, 2.0), np.full(5, 1.0)]
    order = Ranking(network, scores, "global", 0.0).order
    assert order[:2].tolist() == [[0, 0], [1, 0]]  # one unit of every layer comes first
    assert order[2:9, 0].tolist() == [0] * 7
    layered = Ranking(network, scores, "layer", 0.0)
    kept = layered.units(0.5)
    assert abs(kept[0].size / 8 - kept[1].size / 5) <= 1 / 5


@pytest.mark.parametrize("network", [small(batch_norm=True), conv()])
def test_shape_statistics_and_work_of_a_part(network):
    units = [np.array([0, 2]), np.array([1, 3, 4])]
    part = network.part(units)
    assert part_arguments(network, units) == part.arguments()
    network.statistics[:] = np.arange(network.statistics.size)
    where = statistic_coordinates(network, units)
    assert np.array_equal(network.part(units).statistics, network.statistics[where])
    assert flops(network, units) == flops(part)
    plain = sum(
        2.0 * layer.fan_in * np.prod(layer.out_shape, dtype=float) for layer in network.layers
    )
    assert flops(network) == plain


def test_a_part_computes_as_the_whole_with_the_other_units_off():
    network = small(seed=5)
    network.parameters[:] += 0.1
    units = [np.array([1, 2, 6]), np.array([0, 4])]
    x = np.random.default_rng(1).standard_normal((9, 6)).astype(np.float32)
    assert np.allclose(network.part(units).forward(x), naive.forward(network, units, x), atol=1e-5)


# ------------------------------------------------------------------------------------- aggregation


pieces_strategy = st.lists(
    st.tuples(st.sets(st.integers(0, 11)), st.booleans(), st.integers(1, 50), st.integers(0, 99)),
    min_size=1,
    max_size=5,
)


def built(raw, d=12):
    pieces = []
    for chosen, everything, weight, seed in raw:
        where = None if everything else np.array(sorted(chosen), dtype=np.int64)
        size = d if where is None else where.size
        values = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
        pieces.append(Piece(where, values, float(weight)))
    return pieces


@given(pieces_strategy, st.sampled_from(["update", "unit", "worker"]))
def test_average_by_loops(raw, rule):
    old = np.arange(12, dtype=np.float32)
    pieces = built(raw)
    got = average(old, pieces, rule)
    assert got.dtype == np.float32
    assert np.allclose(got, naive.average(old, pieces, rule), rtol=1e-6, atol=1e-6)
    assert np.array_equal(old, np.arange(12))


@given(pieces_strategy)
def test_by_worker_is_by_unit_times_the_holders_share(raw):
    old = np.zeros(12)
    pieces = built(raw)
    share = sum(
        p.weight * np.isin(np.arange(12), np.arange(12) if p.where is None else p.where)
        for p in pieces
    ) / sum(p.weight for p in pieces)
    both = average(old, pieces, "unit") * share, average(old, pieces, "worker")
    assert np.allclose(*both, rtol=1e-6, atol=1e-7)


def test_what_nobody_holds_stays():
    old = np.array([7.0, 8.0, 9.0])
    piece = Piece(np.array([1]), np.array([0.5]), 3.0)
    assert average(old, [piece], "unit").tolist() == [7.0, 0.5, 9.0]
    assert average(old, [piece], "worker").tolist() == [7.0, 0.5, 9.0]
    assert average(old, [piece], "update").tolist() == [7.0, 0.5, 9.0]


def test_full_parts_average_to_the_same_bytes_by_either_rule_and_as_index_or_not():
    rng = np.random.default_rng(4)
    old = rng.standard_normal(50).astype(np.float32)
    full = [Piece(None, rng.standard_normal(50).astype(np.float32), n) for n in (3.0, 7.0, 11.0)]
    listed = [Piece(np.arange(50), p.values, p.weight) for p in full]
    answers = [average(old, p, r) for p in (full, listed) for r in RULES]
    assert len({a.tobytes() for a in answers}) == 1


def test_mixing():
    old, new = np.array([0.0, 4.0], np.float32), np.array([1.0, 8.0], np.float32)
    assert mix(old, new, 0.25).tolist() == [0.25, 5.0]
    assert mix(old, new, 1.0).tolist() == new.tolist()


# ------------------------------------------------------------------------------------------- clock


def test_update_time_by_its_formula():
    clock = Clock(bandwidth=[100.0, 50.0], latency=[0.1, 0.2], speed=[1e3, 2e3], fixed=[0.0, 1.0])
    spent = clock.time(1, 0, 400, 400, 20 * 30)
    assert spent.total == pytest.approx(1.0 + naive.update_time(400, 20, 30, 50, 0.2, 2e3))
    assert spent.download == spent.upload == 8.0


@given(st.floats(1, 30), st.integers(2, 12), st.integers(1, 10**6))
def test_heterogeneous_workers_take_the_times_asked_for(sigma, n, size):
    world = Heterogeneity(sigma, fixed=0.1, latency=0.05, transfer=0.2, noise=0.0)
    work = 1e6 * np.arange(1, n + 1)
    clock = world.clock(size, work)
    times = [clock.expected(w, size, size, work[w]).total for w in range(n)]
    assert np.allclose(times, np.linspace(1, sigma, n))
    # half a model saves half of what is not fixed
    half = [clock.expected(w, size / 2, size / 2, work[w] / 2).total for w in range(n)]
    assert np.allclose(half, np.linspace(1, sigma, n) * (0.15 + 0.85 / 2))


def test_heterogeneity_of_even_times():
    """Known values for ten workers."""
    for sigma, value in ((2, 0.33), (5, 0.64), (10, 0.79), (20, 0.88)):
        assert heterogeneity(Heterogeneity(sigma).times(10)) == pytest.approx(value, abs=0.006)
    assert heterogeneity([3.0, 3.0]) == 0.0


def test_noise_and_drift_are_those_of_seed_worker_and_round(seed):
    one = Heterogeneity(2, noise=0.1, drift=0.05).clock(100, np.ones(3), seed)
    again = Heterogeneity(2, noise=0.1, drift=0.05).clock(100, np.ones(3), seed)
    grid = list(itertools.product(range(3), range(5)))
    factors = [one.factor(w, r) for w, r in grid]
    assert factors == [again.factor(w, r) for w, r in reversed(grid)][::-1]
    assert len(set(factors)) == len(factors)
    other = Heterogeneity(2, noise=0.1, drift=0.05).clock(100, np.ones(3), seed + 1)
    assert factors != [other.factor(w, r) for w, r in grid]


def test_noise_and_drift_have_the_sizes_asked_for(seed):
    """Two standard deviations of 2000 draws, at 5 standard errors: one false alarm in 10^6."""
    n = 2000
    clock = Heterogeneity(1.0, noise=0.1).clock(1, np.ones(n), seed)
    noise = np.log([clock.factor(w, 3) for w in range(n)])
    assert abs(noise.std() / 0.1 - 1) < 5 / np.sqrt(2 * n)
    walk = Heterogeneity(1.0, noise=0.0, drift=0.1).clock(1, np.ones(n), seed)
    drift = np.log([walk.drifted(w, 9) for w in range(n)])
    assert abs(drift.std() / 0.3 - 1) < 5 / np.sqrt(2 * n)
    assert walk.drifted(0, 0) == 1.0


def test_clocks_refuse():
    with pytest.raises(ValueError, match=r"speed must be in \(0"):
        Clock([1.0], [0.0], [0.0], [0.0])
    with pytest.raises(ValueError, match=r"latency must have shape \(2,\)"):
        Clock([1.0, 1.0], [0.0] * 3, [1.0, 1.0], [0.0, 0.0])
    with pytest.raises(ValueError, match=r"below 1; got 1\.1"):
        Heterogeneity(fixed=0.8, transfer=0.3)
    with pytest.raises(ValueError, match="sigma must be"):
        Heterogeneity(0.5)
    with pytest.raises(ValueError, match="times must be"):
        heterogeneity([1.0])


# --------------------------------------------------------------------------------------------- dgc


@given(st.integers(1, 60), st.floats(0.01, 1.0), st.integers(0, 1000))
def test_the_largest_are_sent_and_nothing_is_lost(d, share, seed):
    rng = np.random.default_rng(seed)
    dgc, memory, given_, sent = DGC(share), {}, np.zeros(d), np.zeros(d)
    for round in range(4):
        update = rng.standard_normal(d)
        before = memory.get("waiting", np.zeros(d)) + update
        index, values, memory = dgc.compress(update, memory, round)
        assert index.size == min(max(np.floor(share * d + 0.5), 1), d)
        left = np.delete(np.abs(before), index)
        assert left.size == 0 or np.abs(values).min() >= left.max()
        given_ += update
        sent[index] += values
    assert np.allclose(sent + memory["waiting"], given_)


def test_momentum_correction_by_hand():
    dgc = DGC(share=0.5, momentum=0.5)
    index, values, memory = dgc.compress(np.array([4.0, 2.0]), {}, 0)
    assert (index.tolist(), values.tolist()) == ([0], [2.0])
    assert memory["momentum"].tolist() == [0.0, 1.0]  # what was sent has no momentum left
    assert memory["waiting"].tolist() == [0.0, 1.0]
    index, values, memory = dgc.compress(np.array([0.0, 2.0]), memory, 1)
    assert (index.tolist(), values.tolist()) == ([1], [1.0 + 0.5 * 1.0 + 0.5 * 2.0])


def test_warm_up_and_clipping():
    dgc = DGC(share=0.001, warmup=8)
    shares = [dgc.share_at(r) for r in range(10)]
    assert shares == [1 / 4, 1 / 4, 1 / 16, 1 / 16, 1 / 64, 1 / 64, 1 / 256, 1 / 256, 0.001, 0.001]
    _, values, _ = DGC(share=1.0, clip_norm=1.0).compress(np.array([3.0, 4.0]), {}, 0)
    assert np.allclose(values, [0.6, 0.8])


@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)), st.booleans(), st.booleans())
def test_reindexing_by_dictionary(old, new, all_old, all_new):
    a = None if all_old else np.array(sorted(old), dtype=np.int64)
    b = None if all_new else np.array(sorted(new), dtype=np.int64)
    place = range(10) if a is None else a.tolist()
    values = np.arange(1.0, len(place) + 1)
    table = dict(zip(place, values, strict=True))
    wanted = [table.get(i, 0.0) for i in (range(10) if b is None else b.tolist())]
    got = reindex(values, a, b, 10)
    assert got.tolist() == wanted
    assert not np.shares_memory(got, values)


# ------------------------------------------------------------------------------------------ splits


@pytest.mark.parametrize("concentration", [None, 0.3, 5.0])
def test_every_row_is_with_one_worker(concentration, seed):
    y = np.random.default_rng(seed).integers(0, 5, 400)
    parts = partition(y, 7, concentration, seed=seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(400))
    assert min(rows.size for rows in parts) >= 2
    again = partition(y, 7, concentration, seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    if concentration is None:
        assert {rows.size for rows in parts} == {57, 58}


def test_a_small_concentration_divides_classes_unevenly():
    """Mean share of a worker's commonest class: 0.2 when even; far from either bound."""
    y = np.arange(1000) % 5

    def top(concentration):
        parts = partition(y, 5, concentration, seed=0)
        return np.mean([np.bincount(y[r]).max() / r.size for r in parts])

    assert top(0.1) > 0.6
    assert top(1000.0) < 0.3


def test_divisions_refuse():
    with pytest.raises(ValueError, match="at least 2 rows for each of 9 workers; got 10"):
        partition(np.zeros(10, int), 9)
    with pytest.raises(ValueError, match=r"concentration must be finite and in \(0"):
        partition(np.zeros(10, int), 2, 0.0)
    with pytest.raises(ValueError, match="left a worker with fewer than 200 rows"):
        partition(np.zeros(400, int), 2, 0.01, min_rows=200)
    with pytest.raises(ValueError, match="y must be integers"):
        partition(np.zeros(10), 2)
