"""Reference models of the next infection, and a posterior in the role of one.

All have ``nodes`` and ``scores(nodes, times)``, which is what `cascadenet.next_scores.score_next`
needs; the first three also ``fit`` and ``partial_fit``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.delays import get_delay
from cascadenet.inference.next_infection import NextInfection
from cascadenet.networks import whole_number
from cascadenet.prediction import SMALLEST_AGE, read_prefix

if TYPE_CHECKING:
    from cascadenet.posterior import Posterior

ANYWHERE = 10_000  # a window that no cascade here exceeds


class PopularityNext(NextInfection):
    """Nodes by the number of training cascades with them, whoever is infected.

    Notes
    -----
    p(v) is proportional to c_v + 1 over the nodes at risk.
    """

    def __init__(self) -> None:
        super().__init__(communities=0, community_weight=0.0, window=1)

    def scores_along(self, nodes: Iterable[Any], times: Iterable[float]) -> np.ndarray:
        """As `NextInfection.scores_along`.

        Parameters
        ----------
        nodes, times : iterables, length L >= 1
            Infections so far.
        """
        self._check_fitted("scores")
        node = self._prefix(nodes, times)
        score = np.tile(self._counts.count + 1.0, (node.size, 1))
        for row, infected in enumerate(node):
            score[row:, infected] = 0.0
        total = score.sum(axis=1, keepdims=True)
        return np.divide(score, total, out=score, where=total > 0.0)


class MarkovNext(NextInfection):
    """Nodes by how often they came directly after the last one infected.

    Parameters
    ----------
    popularity : float
        Weight of popularity relative to the counts.
    """

    def __init__(self, popularity: float = 0.05) -> None:
        super().__init__(window=1, score_decay=0.0, **_counting(popularity))


class CoOccurrenceNext(NextInfection):
    """Nodes by how often they came anywhere after those infected so far.

    Parameters
    ----------
    popularity : float
        Weight of popularity relative to the counts.
    """

    def __init__(self, popularity: float = 0.05) -> None:
        super().__init__(window=ANYWHERE, score_decay=math.inf, **_counting(popularity))


def _counting(popularity: float) -> dict[str, Any]:
    """Settings that leave plain counts."""
    return {
        "train_kernel": "exponential",
        "train_decay": math.inf,
        "crowding": 0.0,
        "sender_power": 0.0,
        "target_power": 0.0,
        "reverse": 0.0,
        "popularity": popularity,
        "communities": 0,
        "community_weight": 0.0,
        "sharpness": 1.0,
    }


class PosteriorNext:
    """The next infection by the posterior hazards of a fitted model, at the last infection.

    What :meth:`cascadenet.Posterior.predict_next` says, for all prefixes of a cascade at once:
    the rates of its pairs are looked up once and not for every prefix.

    Parameters
    ----------
    posterior : Posterior
        With the survival likelihood; of a `DynamicPosterior`, its ``forecast``.
    last : int
        Only so many of the latest infections act, which bounds the cost of long prefixes.
    uniform : float
        Probability shared out evenly among the nodes at risk, as nodes on which nobody acts would
        otherwise be impossible.

    Attributes
    ----------
    nodes : tuple
        Node labels.
    """

    def __init__(self, posterior: Posterior, last: int = 50, uniform: float = 0.01) -> None:
        whole_number("last", last, 1)
        if not 0.0 < uniform <= 1.0:
            raise ValueError(f"uniform must lie in (0, 1]; got {uniform!r}")
        if posterior.settings["likelihood"] != "survival":
            raise ValueError("posterior must have likelihood='survival'; got 'tree'")
        self.posterior, self.last, self.uniform = posterior, last, uniform
        self.nodes = posterior.nodes
        self._ground = [_ground(posterior, network) for network in posterior.networks]

    def scores(self, nodes: Iterable[Any], times: Iterable[float]) -> np.ndarray:
        """Probability of every node to be infected next, float64 (N,); zero for those infected.

        Parameters
        ----------
        nodes, times : iterables, length L >= 1
            Infections so far.
        """
        return self.scores_along(nodes, times)[-1].copy()

    def scores_along(self, nodes: Iterable[Any], times: Iterable[float]) -> np.ndarray:
        """`scores` after each infection of a cascade, float64 (L, N).

        Parameters
        ----------
        nodes, times : iterables, length L >= 1
            Infections so far; those at the same time are taken in the order of the nodes.
        """
        posterior = self.posterior
        node, time = read_prefix(posterior, list(zip(nodes, times, strict=True)))
        order = np.lexsort((node, time))
        node, time = node[order], time[order] / posterior.unit
        at_risk = np.ones((node.size, len(self.nodes)))
        for place, infected in enumerate(node):
            at_risk[place:, infected] = 0.0
        prob = np.zeros_like(at_risk)
        limit = min(self.last, posterior.settings.get("max_candidates") or self.last)
        rows = self._rows(node)
        for network, ground in zip(posterior.networks, self._ground, strict=True):
            hazard = self._hazards(network, ground, node, time, rows, limit)
            hazard *= at_risk
            total = hazard.sum(axis=1, keepdims=True)
            prob += np.divide(hazard, total, out=hazard, where=total > 0.0)
        even = at_risk / np.maximum(at_risk.sum(axis=1, keepdims=True), 1.0)
        total = prob.sum(axis=1, keepdims=True)
        prob = np.divide(prob, total, out=even.copy(), where=total > 0.0)
        return (1.0 - self.uniform) * prob + self.uniform * even

    def _rows(self, node: np.ndarray) -> np.ndarray:
        """Rows of the pairs from each of some nodes to all, -1 for those that never met, (L, N)."""
        everybody = np.arange(len(self.nodes))
        return np.array(
            [self.posterior.rows_of(np.full(everybody.size, u), everybody) for u in node]
        )

    def _hazards(
        self,
        network: dict[str, np.ndarray],
        ground: tuple[np.ndarray, np.ndarray] | None,
        node: np.ndarray,
        time: np.ndarray,
        rows: np.ndarray,
        limit: int,
    ) -> np.ndarray:
        """Hazards on all nodes just after each infection in one draw, (L, N), internal unit."""
        posterior = self.posterior
        delay = get_delay(posterior.settings["delay"])
        shape, rate = _shapes_and_rates(posterior, network, node, rows)
        hazard = np.zeros_like(shape)
        for place in range(node.size):
            first = max(place + 1 - limit, 0)
            acting = slice(first, place + 1)
            age = np.maximum(time[place] - time[acting], SMALLEST_AGE)
            act = np.exp(delay.log_hazard(age, network["theta"]))[:, None]
            # having stayed uninfected until now is more exposure
            exposed = rate[acting] + delay.cumulative(age, network["theta"])[:, None]
            hazard[place] = (act * shape[acting] / exposed).sum(axis=0)
            if ground is not None:
                since = max(time[place] - time[0], SMALLEST_AGE)
                hazard[place] += ground[0] / (ground[1] + since)
        return hazard


def _shapes_and_rates(
    posterior: Posterior, network: dict[str, np.ndarray], node: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gamma shape and rate of the pairs from some nodes to all others in one draw, (L, N)."""
    n_nodes = posterior.n_nodes
    shape = np.empty(rows.shape)
    block = max(2**17 // n_nodes, 1)  # of nodes, so that memberships of their pairs stay small
    for first in range(0, node.size, block):
        part = node[first : first + block]
        source, target = np.repeat(part, n_nodes), np.tile(np.arange(n_nodes), part.size)
        found = posterior.gamma_shape(network, source, target)
        shape[first : first + block] = found.reshape(-1, n_nodes)
    carried, exposure = posterior.memory_of(network)
    rate = np.repeat(posterior.sums.node_full[node][:, None], n_nodes, axis=1)
    met = rows >= 0
    pair = rows[met]
    rate[met] = exposure[pair]
    if carried.size:
        shape[met] += carried[pair]
    if network["used"].size:
        at = np.minimum(np.searchsorted(network["used"], pair), network["used"].size - 1)
        shape[met] += np.where(network["used"][at] == pair, network["count"][at], 0)
    return shape, rate + network["b"]


def _ground(
    posterior: Posterior, network: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Gamma shape and rate of infections from outside the network in one draw, each (N,)."""
    rows = np.flatnonzero(posterior.pair_source < 0)
    if rows.size == 0:
        return None
    n = np.zeros(posterior.pair_source.size)
    n[network["used"]] = network["count"]
    if posterior.sums.carried.size:
        n += posterior.sums.carried
    rate = network["ground_rate"] + posterior.sums.exposure[rows]
    return network["ground_shape"] + n[rows], rate
