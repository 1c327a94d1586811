"""Influence: how many nodes one node, or a set of them, would reach within a horizon."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cascadenet.inference.forecast import _kernels
from cascadenet.inference.forecast.laws import draw_laws, require_survival, spaced
from cascadenet.inference.forecast.likelihood import cap, check_draws
from cascadenet.inference.forecast.live_edges import Emitter
from cascadenet.inference.forecast.spread import INTERVAL, check_within

if TYPE_CHECKING:
    import pandas as pd

    from cascadenet.posterior import Posterior

Graph = tuple[np.ndarray, np.ndarray, np.ndarray]  # pointers (N + 1,), targets, delays


def live_edge_graphs(
    posterior: Posterior, within: float, samples: int, rng: np.random.Generator
) -> Iterator[tuple[int, Graph]]:
    """Network draw and live-edge graph of each sample; delays in the user's unit.

    An edge is in a graph when its source, once infected, would infect the target within the
    horizon, and a node reaches another where a path is short enough. The background takes no part.
    """
    networks, times = np.unique(spaced(len(posterior.networks), samples), return_counts=True)
    everyone = np.arange(posterior.n_nodes, dtype=np.int32)
    for i, repeat, stream in zip(networks, times, rng.spawn(networks.size), strict=True):
        laws = draw_laws(posterior, posterior.networks[i])
        emitter = Emitter(laws, within / posterior.unit)
        for _ in range(repeat):
            ptr, target, dose = emitter.emit(everyone, stream)
            delay = laws.delay.inverse_cumulative(dose, laws.theta) * posterior.unit
            yield int(i), (ptr, target, delay)


def standard_error(values: np.ndarray, network: np.ndarray) -> np.ndarray:
    """Standard error of the mean over samples, (samples, ...), the network draws as units.

    Samples of one draw share its network; with a single draw they are the units themselves.
    """
    if np.unique(network).size > 1:
        opens = np.concatenate(([0], np.flatnonzero(np.diff(network)) + 1))
        size = np.diff(np.append(opens, network.size)).reshape(-1, *[1] * (values.ndim - 1))
        centred = np.add.reduceat(values - values.mean(axis=0), opens, axis=0)
        units = len(size)
        return np.sqrt((centred**2).sum(axis=0) * units / (units - 1)) / len(values)
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    return values.std(axis=0, ddof=1) / math.sqrt(len(values))


def influence(
    posterior: Posterior,
    within: float,
    samples: int = 200,
    top: int | None = None,
    seed: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Body of :meth:`Posterior.influence`."""
    import pandas as pd

    from cascadenet.prediction import check_rows

    require_survival(posterior, "influence")
    check_draws("samples", samples)
    check_rows("top", top)
    horizon = check_within(within, finite=False)
    reached = np.empty((samples, posterior.n_nodes), np.int64)
    network = np.empty(samples, np.int64)
    graphs = live_edge_graphs(posterior, horizon, samples, np.random.default_rng(seed))
    for g, (i, graph) in enumerate(graphs):
        network[g] = i
        _kernels.reach_counts(*graph, horizon, cap(posterior), reached[g])
    mean, se = reached.mean(axis=0), standard_error(reached, network)
    best = np.lexsort((np.arange(mean.size), -mean))[:top]
    low, high = np.quantile(reached[:, best], INTERVAL, axis=0, method="inverted_cdf")
    return pd.DataFrame(
        {
            "node": np.asarray(posterior.nodes)[best],
            "reach": mean[best],
            "se": se[best],
            "low": low.astype(np.int64),
            "high": high.astype(np.int64),
        }
    )


def seed_set(
    posterior: Posterior,
    k: int,
    within: float,
    samples: int = 200,
    seed: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Body of :meth:`Posterior.seed_set`."""
    import pandas as pd

    require_survival(posterior, "seed_set")
    check_draws("k", k)
    check_draws("samples", samples)
    if k > posterior.n_nodes:
        raise ValueError(f"k must be at most the number of nodes {posterior.n_nodes}; got {k}")
    if posterior.settings.get("max_candidates") is not None:
        raise ValueError(
            "seed_set needs a fit without max_candidates: where nodes cease to act, the reach of "
            "a set is not the union of its members'; use spread to compare sets"
        )
    horizon = check_within(within, finite=False)
    first, second = np.random.default_rng(seed).spawn(2)
    chosen = _greedy(_Sample(posterior, horizon, samples, first), k)
    fresh = _Sample(posterior, horizon, samples, second)
    gains = np.array([fresh.gain(node, commit=True) for node in chosen])
    totals = gains.cumsum(axis=0)
    return pd.DataFrame(
        {
            "node": np.asarray(posterior.nodes)[chosen],
            "gain": gains.mean(axis=1),
            "gain_se": standard_error(gains.T, fresh.network),
            "total": totals.mean(axis=1),
            "total_se": standard_error(totals.T, fresh.network),
        }
    )


class _Sample:
    """Live-edge graphs, and when a growing set reaches each node in each of them."""

    def __init__(
        self, posterior: Posterior, within: float, samples: int, rng: np.random.Generator
    ) -> None:
        self.within = within
        network, ptr, target, delay = [], [np.zeros(1, np.int64)], [], []
        reached = np.zeros((samples, posterior.n_nodes), np.int64)
        last = 0
        graphs = live_edge_graphs(posterior, within, samples, rng)
        for g, (i, graph) in enumerate(graphs):
            network.append(i)
            ptr.append(last + graph[0][1:])
            target.append(graph[1])
            delay.append(graph[2])
            last += graph[1].size
            _kernels.reach_counts(*graph, within, np.iinfo(np.int64).max, reached[g])
        self.network = np.array(network)
        self.alone = reached.mean(axis=0)
        self._arcs = np.concatenate(ptr), np.concatenate(target), np.concatenate(delay)
        self._earliest = np.full(reached.shape, np.inf)

    def gain(self, node: int, *, commit: bool = False) -> np.ndarray:
        """Nodes that the set reaches only with this one more, in each graph."""
        gain = np.empty(len(self.network), np.int64)
        _kernels.marginal_reach(node, commit, *self._arcs, self.within, self._earliest, gain)
        return gain


def _greedy(sample: _Sample, k: int) -> list[int]:
    """Nodes that add most, one after the other; equal ones in the order of the nodes.

    Gains only fall as the set grows (Leskovec et al. 2007), so that one that is up to date and
    first in the heap of upper bounds is the largest.
    """
    bounds = [(-value, node, 0) for node, value in enumerate(sample.alone)]
    heapq.heapify(bounds)
    chosen: list[int] = []
    while len(chosen) < k:
        _, node, size = heapq.heappop(bounds)
        if size == len(chosen):
            sample.gain(node, commit=True)
            chosen.append(node)
        else:
            value = float(sample.gain(node).mean())
            heapq.heappush(bounds, (-value, node, len(chosen)))
    return chosen
