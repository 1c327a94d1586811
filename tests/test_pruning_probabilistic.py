"""k-of-n masks that are drawn: the exact gradient, the draws, what is quantised, the measures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadenet.sparse.pruning.dpp import Probabilistic, plan_draws, quantise
from cascadenet.sparse.pruning.network import Network
from cascadenet.sparse.pruning.optimisers import SGD
from cascadenet.sparse.pruning.sampling import (
    confidence,
    diversity,
    entropy_gradient,
    gumbel,
    inclusion_probability,
    mask_overlap,
    relaxed_gradient,
    top_k,
)
from cascadenet.sparse.pruning.training import train
from tests.test_pruning_engine import blobs

IMAGE = {"input_shape": (2, 8, 8), "hidden": (12,), "n_out": 3,
         "convolutions": ((4, 3, 1, 0), (6, 3, 2, 0))}  # fmt: skip


def soft_draws(z: np.ndarray, picks: np.ndarray, temperature: float) -> np.ndarray:
    """The k soft draws of one row, (k, n): each over what the picks before it have left."""
    left, out = np.ones(z.size, bool), []
    for pick in picks:
        e = np.where(left, np.exp((z - z.max()) / temperature), 0.0)
        out.append(e / e.sum())
        left[pick] = False
    return np.array(out)


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.3, 1, 5]))
def test_gradient_is_that_of_the_explicit_loop(seed, n, k, temperature):
    rng, k = np.random.default_rng(seed), min(n, k)
    z, g = 2 * rng.standard_normal((3, n)), rng.standard_normal((3, n))
    picks = top_k(z, k)
    found = relaxed_gradient(z, picks, g, temperature)
    for row in range(3):
        wanted = np.zeros(n)
        for s in soft_draws(z[row], picks[row], temperature):
            wanted += (np.diag(s) - np.outer(s, s)) @ g[row] / temperature
        np.testing.assert_allclose(found[row], wanted, rtol=1e-9, atol=1e-12)


def test_gradient_is_that_of_finite_differences(seed):
    rng = np.random.default_rng(seed)
    z, g, step = rng.standard_normal(9), rng.standard_normal(9), 1e-6
    picks = top_k(z[None], 4)
    numeric = [
        (soft_draws(z + step * unit, picks[0], 0.7) - soft_draws(z - step * unit, picks[0], 0.7))
        .sum(axis=0) @ g / (2 * step)
        for unit in np.eye(9)
    ]  # fmt: skip
    found = relaxed_gradient(z[None], picks, g[None], 0.7)[0]
    np.testing.assert_allclose(found, numeric, rtol=1e-6, atol=1e-9)


def test_gradient_survives_decided_rows_in_single_precision():
    z = np.zeros((1, 50), np.float32)
    z[0, :5] = [400, 300, 200, 150, 100]
    found = relaxed_gradient(z, top_k(z, 5), np.ones_like(z), 0.5)
    assert np.isfinite(found).all() and np.abs(found).max() < 1e-3


def test_gradient_of_a_constant_is_nothing(seed):
    """The mask has k ones whatever the scores: pushing all of them up does nothing."""
    z = np.random.default_rng(seed).standard_normal((4, 30))
    np.testing.assert_allclose(relaxed_gradient(z, top_k(z, 7), np.ones_like(z), 1.0), 0, atol=1e-9)


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9))
def test_picks_are_the_largest_in_order(seed, n, k):
    z = np.random.default_rng(seed).standard_normal((2, n))
    wanted = np.argsort(-z, axis=1)[:, : min(n, k)]
    np.testing.assert_array_equal(top_k(z, min(n, k)), wanted)


def test_perturbed_scores_draw_from_the_softmax(seed):
    """First picks are softmax draws; false alarms 1e-4 (chi-squared with 3 degrees: 21.1)."""
    logits, draws = np.log([0.1, 0.2, 0.3, 0.4]), 20_000
    z = logits + gumbel(np.random.default_rng(seed), (draws, 4), np.dtype("f8"))
    counts = np.bincount(top_k(z, 1)[:, 0], minlength=4)
    expected = draws * np.exp(logits)
    assert ((counts - expected) ** 2 / expected).sum() < 21.1
    halved = logits + 0.5 * (z - logits)  # a control: less noise draws from something else
    counts = np.bincount(top_k(halved, 1)[:, 0], minlength=4)
    assert ((counts - expected) ** 2 / expected).sum() > 1000


def test_entropy_and_its_gradient(seed):
    logits, step = np.random.default_rng(seed).standard_normal((3, 6)), 1e-6
    value, gradient = entropy_gradient(logits)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert value == pytest.approx(-(p * np.log(p)).sum())
    for place in np.ndindex(logits.shape):
        shift = np.zeros_like(logits)
        shift[place] = step
        numeric = (entropy_gradient(logits + shift)[0] - entropy_gradient(logits - shift)[0]) / 2
        assert gradient[place] == pytest.approx(numeric / step, rel=1e-5, abs=1e-8)


# -------------------------------------------------------------------------------- granularities


CHECKS = {
    "weight": ({}, lambda m: [m.sum(axis=1)] if m.ndim == 2 else [m.sum(axis=(1, 2, 3))]),
    "kernel": ({}, lambda m: [m.sum(axis=1)] if m.ndim == 2 else [m.all((2, 3)).sum(1),
                                                                  m.any((2, 3)).sum(1)]),
    "element": ({}, lambda m: [m.sum(axis=1)] if m.ndim == 2 else [m.sum(axis=(2, 3))]),
}  # fmt: skip


def masks_of(network: Network, method: Probabilistic) -> list[np.ndarray]:
    method.start(network, 10, (None, None, None), np.random.default_rng(3))
    return [slot.of(method.mask) for slot in network.weight_slots]


@pytest.mark.parametrize("granularity", CHECKS)
def test_every_draw_keeps_exactly_k(granularity):
    network = Network(**IMAGE, seed=0)
    method = Probabilistic(0.7, granularity=granularity)
    for mask, draw in zip(masks_of(network, method), method.draws, strict=True):
        for counts in CHECKS[granularity][1](mask):
            assert np.all(counts == draw.k), draw


def test_filters_are_kept_whole():
    network = Network(**IMAGE, seed=0)
    method = Probabilistic(0.5, granularity="filter")
    masks = masks_of(network, method)
    for mask, k in zip(masks, (2, 3, 6), strict=False):
        rows = mask.reshape(mask.shape[0], -1)
        assert np.array_equal(rows.any(axis=1), rows.all(axis=1)) and rows.any(axis=1).sum() == k
    assert masks[-1].all()


def test_tiles_balance_and_groups_share():
    network = Network((20,), (12,), 4, seed=0)
    method = Probabilistic(0.0, k=(2, 3), tiles=4, share_groups=3)
    first, last = masks_of(network, method)
    assert np.all(first.reshape(12, 4, 5).sum(axis=2) == 2)
    assert np.array_equal(first[0], first[2]) and not np.array_equal(first[0], first[3])
    assert np.all(last.reshape(4, 4, 3).sum(axis=2) == 3)  # 4 outputs: no groups of 3, all kept
    rows = [draw.rows for draw in method.draws]
    assert rows == [4 * 4, 4 * 4]


def test_the_gradient_of_a_shared_draw_is_the_sum_of_its_members(seed):
    network = Network((6,), (4,), 2, dtype="float64", seed=seed)
    draw = plan_draws(network, 0.5, share_groups=2, tiles=3)[0]
    tensor = np.random.default_rng(seed).standard_normal((4, 6))
    found = draw.collapse(tensor)
    for row in range(draw.rows):
        for column in range(draw.n):
            probe = np.zeros((draw.rows, draw.n))
            probe[row, column] = 1
            assert found[row, column] == pytest.approx((draw.spread(probe) * tensor).sum())


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.95, 0.98])
def test_densities_meet_the_sparsity(sparsity):
    network = Network((784,), (300, 100), 10, seed=0)
    draws = plan_draws(network, sparsity)
    kept = sum(d.rows * d.k * d.shape[1] * d.shape[4] for d in draws)
    assert kept == pytest.approx((1 - sparsity) * network.n_weights, rel=0.02)
    density = [draw.k / draw.n for draw in draws]
    assert density[0] <= density[1] <= density[2] <= 1


# ---------------------------------------------------------------------------------------- method


def test_only_drawn_weights_move_and_prediction_is_deterministic(seed):
    x, y = blobs(np.random.default_rng(seed))
    network = Network((8,), (12,), 3, seed=seed)
    method = Probabilistic(0.6)
    method.start(network, 1, (x, y, None), np.random.default_rng(0))
    before = network.parameters.copy()
    method.before(0)
    drawn = method._factor.astype(bool)
    network.loss_and_gradient(x, y)
    method.after(0)
    SGD(0.0, False).step(network.parameters, network.gradient, 0.1, 0)
    assert not (network.parameters != before)[~drawn].any()
    assert (network.parameters != before)[drawn].any()
    method.settle()
    first = network.predict(x)
    method.settle()
    np.testing.assert_array_equal(network.predict(x), first)


def test_logits_learn_which_inputs_matter(seed):
    """Two of twenty inputs carry the target; with frozen logits they are found by luck only."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((500, 20)).astype(np.float32)
    y = (2 * x[:, 3:4] - 2 * x[:, 11:12]).astype(np.float32)
    found = {}
    for rate in (0.02, 1e-12):
        network = Network((20,), (), 1, loss="squared", seed=seed)
        method = Probabilistic(0.0, k=(2,), logit_rate=rate, noise_scale=(1.0, 0.1))
        train(network, x, y, optimiser=SGD(0.9, True), epochs=40, learning_rate=0.02,
              batch_size=32, method=method, seed=seed)  # fmt: skip
        found[rate] = set(np.flatnonzero(method.final()[1][:20]))
    assert found[0.02] == {3, 11} != found[1e-12]


@pytest.mark.parametrize("kind", ["int8", "binary"])
def test_quantised_weights_are_integers_times_a_scale(kind, seed):
    x, y = blobs(np.random.default_rng(seed))
    network = Network((8,), (24, 12), 3, seed=seed)
    method = Probabilistic(0.5, quantisation=kind)
    train(network, x, y, optimiser=SGD(0.9, True), epochs=15, learning_rate=0.05, method=method,
          batch_size=32, seed=seed)  # fmt: skip
    values, mask = method.final()
    layers = network.specs(values, mask[: network.n_weights], method.scales)
    for layer in layers:
        assert layer.quantisation == kind
        integers = layer.weight.astype(np.float64) / layer.scale
        np.testing.assert_allclose(integers, np.rint(integers), atol=1e-4)
        largest = 127 if kind == "int8" else 1
        assert np.abs(integers).max() == pytest.approx(largest, abs=1e-3)
        if kind == "binary":
            assert np.all(np.abs(np.rint(integers[layer.mask])) == 1)
    assert (network.predict(x).argmax(axis=1) == y).mean() > 0.9


def test_quantising_rounds_to_the_nearest():
    weight = np.array([0.5, -1.27, 0.004, 0.0], np.float64)
    scale = quantise(weight, np.array([True, True, True, False]), "int8")
    assert scale == pytest.approx(0.01)
    np.testing.assert_allclose(weight, [0.5, -1.27, 0.0, 0.0], atol=1e-12)
    weight = np.array([0.5, -1.5, 0.0, 0.0])
    scale = quantise(weight, np.array([True, True, True, False]), "binary")
    assert scale == pytest.approx(2 / 3)
    np.testing.assert_allclose(weight, [2 / 3, -2 / 3, 2 / 3, 0])


def test_frozen_masks_do_not_change(seed):
    x, y = blobs(np.random.default_rng(seed))
    network = Network((8,), (12,), 3, seed=seed)
    method = Probabilistic(0.6, freeze_at=0.5)
    seen, logits, before = [], [], method.before

    def remember(step):
        before(step)
        seen.append(method._factor.copy())
        logits.append(method.logits.copy())

    method.before = remember
    train(network, x, y, optimiser=SGD(), epochs=10, learning_rate=0.05, batch_size=30,
          method=method)  # fmt: skip
    half = len(seen) // 2
    assert all(np.array_equal(seen[half], later) for later in seen[half:])
    assert np.array_equal(logits[half], logits[-1])
    assert not all(np.array_equal(seen[0], early) for early in seen[:half])


# -------------------------------------------------------------------------------------- measures


def test_confidence_and_diversity_at_their_ends():
    sure = 50 * np.eye(4)
    np.testing.assert_allclose(confidence(sure), 1, atol=1e-6)
    np.testing.assert_allclose(confidence(np.zeros((3, 4))), 0, atol=1e-12)
    assert diversity(sure) == pytest.approx(1)
    assert diversity(np.tile(sure[:1], (4, 1))) == pytest.approx(0, abs=1e-9)
    assert diversity(np.zeros((3, 4))) == pytest.approx(0, abs=1e-12)
    two = np.array([[50.0, 50, 0, 0]])
    assert confidence(two, 2) == pytest.approx(1) and confidence(two)[0] == pytest.approx(0.5)


def test_diversity_is_mutual_information(seed):
    logits = np.random.default_rng(seed).standard_normal((5, 7))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    joint = p / 5
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    information = (joint * np.log(joint / product)).sum()
    assert diversity(logits) == pytest.approx(information / np.log(5))


def test_overlap_counts_shared_columns():
    mask = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], bool)
    np.testing.assert_allclose(mask_overlap(mask), [[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]])
    with pytest.raises(ValueError, match="equally many"):
        mask_overlap(np.array([[True, True], [True, False]]))


def test_inclusion_probabilities_of_equal_logits(seed):
    found = inclusion_probability(np.zeros((2, 5)), 2, draws=4000, seed=seed)
    np.testing.assert_allclose(found.sum(axis=1), 2)
    # five standard errors; a column too many would be 16 of them away
    np.testing.assert_allclose(found, 0.4, atol=5 * np.sqrt(0.4 * 0.6 / 4000))
