"""Reference models of the next infection, and a posterior in the role of one.

All have ``nodes`` and ``scores(nodes, times)``, which is what `cascadenet.next_scores.score_next`
needs; the first three also ``fit`` and ``partial_fit``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.inference.next_infection import NextInfection
from cascadenet.networks import whole_number

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

    Parameters
    ----------
    posterior : Posterior
        With the survival likelihood; its ``predict_next`` is asked.
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
        self.posterior, self.last, self.uniform = posterior, last, uniform
        self.nodes = posterior.nodes

    def scores(self, nodes: Iterable[Any], times: Iterable[float]) -> np.ndarray:
        """Probability of every node to be infected next, float64 (N,); zero for those infected.

        Parameters
        ----------
        nodes, times : iterables, length L >= 1
            Infections so far.
        """
        prefix = sorted(zip(nodes, times, strict=True), key=lambda item: item[1])
        table = self.posterior.predict_next(prefix[-self.last :], k=len(self.nodes))
        score = np.zeros(len(self.nodes))
        score[self.posterior.node_indices(table["node"], "nodes")] = table["prob"]
        infected = self.posterior.node_indices((label for label, _ in prefix), "nodes")
        score[infected] = 0.0
        total = score.sum()
        at_risk = np.ones(score.size)
        at_risk[infected] = 0.0
        if total == 0.0:
            return at_risk / max(at_risk.sum(), 1.0)
        even = at_risk / max(at_risk.sum(), 1.0)
        return (1.0 - self.uniform) * score / total + self.uniform * even
