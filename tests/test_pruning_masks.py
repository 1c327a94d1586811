"""Exact numbers of weights, ties, layers that must not starve, and whole units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadenet.sparse.pruning.masks import (
    Prunable,
    keep_largest,
    kept_count,
    select,
    without_dead_inputs,
)
from cascadenet.sparse.pruning.network import Network

SCORES = st.lists(st.sampled_from([0.0, 1.0, 2.0, 2.5]), min_size=1, max_size=30)


def naive_keep(score, count):
    order = sorted(range(len(score)), key=lambda i: (-score[i], i))
    return [i in order[: max(count, 0)] for i in range(len(score))]


@given(SCORES, st.integers(-1, 32))
def test_largest_are_kept_and_ties_go_by_position(score, count):
    assert keep_largest(np.array(score), count).tolist() == naive_keep(score, count)


@given(st.lists(SCORES, min_size=1, max_size=4), st.floats(0, 0.999), st.floats(0, 1))
def test_selection_is_exact_and_no_layer_starves(layers, sparsity, least_share):
    sizes = [len(some) for some in layers]
    score = np.concatenate([np.array(some) for some in layers])
    mask = select(score, sizes, sparsity, least_share=least_share)
    total = kept_count(score.size, sparsity)
    assert mask.sum() == total
    least = [max(round(least_share * (1 - sparsity) * size), 1) for size in sizes]
    if sum(least) <= total:
        kept = [part.sum() for part in np.split(mask, np.cumsum(sizes)[:-1])]
        assert all(a >= b for a, b in zip(kept, least, strict=True))
    layerwise = select(score, sizes, sparsity, scope="layerwise")
    for part, size in zip(np.split(layerwise, np.cumsum(sizes)[:-1]), sizes, strict=True):
        assert part.sum() == kept_count(size, sparsity)


def test_without_a_least_share_a_weak_layer_is_left_one_weight():
    score = np.concatenate([np.full(50, 2.0), np.full(50, 1.0)])
    assert select(score, [50, 50], 0.8, least_share=0.0).tolist().count(True) == 20
    assert select(score, [50, 50], 0.8, least_share=0.0)[50:].sum() == 1
    assert select(score, [50, 50], 0.8, least_share=0.5)[50:].sum() == 5


@pytest.mark.parametrize("convolutions", [(), ((4, 3, 1, 0), (5, 3, 2, 0))])
def test_removed_units_leave_no_trace(convolutions, seed):
    """Masking a unit with its bias and normalisation is taking it out."""
    shape = (2, 8, 8) if convolutions else (20,)
    network = Network(
        shape, (12, 9), 3, convolutions=convolutions, batch_norm=True, dtype="float64", seed=seed
    )
    rng = np.random.default_rng(seed)
    network.parameters += 0.1 * rng.standard_normal(network.parameters.size)
    x = rng.standard_normal((6, int(np.prod(shape))))
    network.loss_and_gradient(x, rng.integers(0, 3, 6))
    mask = Prunable(network, structure="unit").mask(np.abs(network.parameters), 0.5)
    biases = [slot for slot in network.slots if slot.name == "bias"]
    units = [np.flatnonzero(slot.of(mask)) for slot in biases[:-1]]
    total = sum(slot.shape[0] for slot in biases[:-1])
    assert sum(map(len, units)) == kept_count(total, 0.5)
    part = network.part(units)
    network.use(network.parameters * mask)
    np.testing.assert_allclose(network.predict(x), part.predict(x), rtol=1e-9)
    tight = without_dead_inputs(network, mask)
    assert tight[: network.n_weights].sum() == part.n_weights
    network.use(network.parameters * tight)
    np.testing.assert_allclose(network.predict(x), part.predict(x), rtol=1e-9)


def test_the_last_layer_stays_when_told_to():
    network = Network((10,), (8,), 4, seed=0)
    mask = Prunable(network, prune_last=False).mask(np.abs(network.parameters), 0.9)
    assert mask[:80].sum() == 8 and mask[80:].all()
    with pytest.raises(ValueError, match="nothing to prune"):
        Prunable(Network((10,), (), 4), prune_last=False)
    with pytest.raises(ValueError, match="nothing to prune"):
        Prunable(Network((10,), (), 4), structure="unit")
