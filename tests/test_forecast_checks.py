"""Posterior predictive checks accept what the model makes and see what it does not."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

import cascadenet as cn
from cascadenet.posterior import Posterior
from tests import naive
from tests.test_posterior import N_NODES, fitted, some_cascades

SHORT = {"draws": 20, "tune": 40, "chains": 1}


@pytest.fixture(scope="module")
def posterior(seed) -> Posterior:
    return fitted(some_cascades(seed), seed, SHORT)


def replicated(posterior: Posterior, seed: int, count: int = 30) -> cn.Cascades:
    """Cascades that the posterior makes under one draw, from random seeds."""
    rng = np.random.default_rng(seed)
    other = Posterior(**{name: getattr(posterior, name) for name in (
        "nodes", "settings", "provenance", "unit", "scalars", "pair_source", "pair_target", "sums",
        "network_chain",
    )}, networks=posterior.networks[:1])  # fmt: skip
    made = [other.simulate([int(v)], 2.0, seed=rng) for v in rng.integers(N_NODES, size=count)]
    return cn.Cascades.from_arrays(
        posterior.nodes,
        np.cumsum([0] + [c.n_infections for c in made]),
        np.concatenate([c.node for c in made]),
        np.concatenate([c.time for c in made]),
        2.0,
    )


def test_tail_areas_of_what_the_model_makes_are_ordinary(posterior, seed):
    """20 data sets from the model: of their p-values for the mean size no more than 45% are below
    0.2 (binomial false alarm 0.3%, less as replicates vary more than one draw's data), where
    those of data with half of the infections taken away nearly all are."""
    kept, halved = [], []
    for i in range(20):
        data = replicated(posterior, seed + i)
        table = posterior.check(data, replicates=30, seed=i).table.set_index("statistic")
        kept.append(table.p["size_mean"])
        short = cn.Cascades.from_arrays(
            data.nodes, range(31), data.node[data.offset[:-1]], np.zeros(30), 2.0
        )
        table = posterior.check(short, replicates=30, seed=i).table.set_index("statistic")
        halved.append(table.p["size_mean"])
    assert np.mean(np.array(kept) < 0.2) <= 0.45
    assert np.mean(np.array(halved) < 0.2) > 0.9


def test_a_wrong_delay_model_is_seen(seed):
    """Delays that all lie in a narrow band, fitted as constant hazards: the durations of the
    replicates vary too much."""
    rng = np.random.default_rng(seed)
    rows = [
        (c, v, 1.0 * i + rng.uniform(0.0, 0.05))
        for c in range(60)
        for i, v in enumerate(rng.permutation(5)[:3])
    ]
    frame = pd.DataFrame(rows, columns=["cascade", "node", "time"])
    data = cn.Cascades.from_frame(frame, nodes=range(8), window=2.5)
    checked = fitted(data, seed, SHORT).check(data, replicates=40, seed=seed)
    table = checked.table.set_index("statistic")
    assert table.p["duration_sd"] < 0.06
    assert table.observed["duration_sd"] < table.low["duration_sd"]
    assert table.p["size_mean"] > 0.05


def test_table_summarises_the_replicates(posterior, seed):
    data = some_cascades(seed + 1, 15)
    checked = posterior.check(data, replicates=24, seed=seed)
    table, made = checked.table, checked.replicates
    assert list(table.columns) == ["statistic", "observed", "mean", "sd", "low", "high", "p"]
    assert table.statistic.tolist() == list(made.columns)
    assert len(made) == 24
    for row in table.itertuples():
        values = made[row.statistic]
        assert row.mean == pytest.approx(values.mean())
        assert row.low <= values.median() <= row.high
        above = ((values > row.observed).sum() + 0.5 * (values == row.observed).sum() + 0.5) / 25
        assert row.p == pytest.approx(min(1.0, 2.0 * min(above, 1.0 - above)))
    observed = table.set_index("statistic").observed
    size = np.diff(data.offset)
    assert observed["size_mean"] == size.mean()
    assert observed["size_max"] == size.max()
    assert observed["nodes_reached"] == np.unique(data.node).size
    gaps = [
        story.events[i][0] - story.events[i - 1][0]
        for story in naive.stories(data)
        for i in range(1, len(story.events))
        if story.events[i][0] > story.start
    ]
    assert observed["gap_mean"] == pytest.approx(np.mean(gaps))
    assert observed["gap_median"] == pytest.approx(np.median(gaps))
    last = np.maximum.reduceat(data.time, data.offset[:-1]) - data.start
    assert observed["duration_mean"] == pytest.approx(last[last > 0.0].mean())
    assert ((0.0 < table.p) & (table.p <= 1.0)).all()


def test_cascades_without_any_spread_have_no_times(posterior):
    alone = cn.Cascades.from_arrays(range(N_NODES), [0, 1, 3], [3, 1, 2], [0.0, 0.0, 0.0], 1e-9)
    table = posterior.check(alone, replicates=5, seed=1).table.set_index("statistic")
    assert table.observed["share_not_spreading"] == 1.0
    assert math.isnan(table.observed["duration_mean"])
    assert math.isnan(table.p["gap_median"])
    assert table.p["size_mean"] == 1.0


def test_wrong_arguments_are_named(posterior, seed):
    with pytest.raises(ValueError, match="replicates must be a positive integer; got 0"):
        posterior.check(some_cascades(seed), replicates=0)
    with pytest.raises(TypeError, match="cascades must be a Cascades; got int"):
        posterior.check(3)
