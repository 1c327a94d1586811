"""AdaptCL: parts of the model cut to the speed of the workers, learned from update times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascadenet.sparse.federated import _check
from cascadenet.sparse.federated.aggregation import RULES as AGGREGATIONS
from cascadenet.sparse.federated.ranking import KINDS, SCOPES, Ranking, importance
from cascadenet.sparse.federated.rates import Pair, RateRule, next_retention
from cascadenet.sparse.federated.server import FedAvg
from cascadenet.sparse.federated.worker import Reply
from cascadenet.sparse.pruning.network import Network

INTERVALS = 4  # over which a median is taken: noise makes events, and a long memory hides drift


@dataclass(frozen=True)
class Event:
    """What a pruning event did to one worker.

    Attributes
    ----------
    round, worker : int
    time, target : float
        Seconds: median with the part as it is, and that of the reference.
    before, after : float
        Retention.
    how : str
        See `cascadenet.sparse.federated.rates.next_retention`; "no reply" when the worker was not
        heard of in the whole interval.
    """

    round: int
    worker: int
    time: float
    target: float
    before: float
    after: float
    how: str


class AdaptCL(FedAvg):
    """Synchronous training in which every worker has the part of the model that fits its speed.

    Parameters
    ----------
    interval : int
        Rounds between pruning events. What is learned from are median times over the rounds since
        a worker's part was last changed, at most the last four intervals.
    rate : RateRule, optional
        How times become retentions: the trade-off between speed and accuracy is here.
    importance : {"auto", "norm", "scale", "taylor"}
        See `cascadenet.sparse.federated.ranking.importance`. Taylor scores are made by the workers,
        in the round before the first event.
    scope : {"global", "layer"}
        Whether units compete over all layers, or the layers shrink alike.
    min_units : float
        Share of every layer's units that all workers keep.
    stop_round : int, optional
        No events from this round on.
    aggregation : {"unit", "update", "worker"}
        See `cascadenet.sparse.federated.aggregation.average`. "worker" shrinks what few hold. In
        our runs that was better in long training with much weight decay, the more so the more
        workers differ, and worse in short training of small networks without. "update" and "unit"
        differ little.
    timeout, quorum
        As for `FedAvg`. A worker that is too late gets a smaller part, until it is in time.

    Attributes
    ----------
    ranking_ : Ranking or None
        Made at the first event that prunes, and kept.
    events_ : list of Event
    histories_ : list of list of (retention, seconds)
        A worker each.
    target_ : float
        Time of the reference at the last event.

    Notes
    -----
    The reference is the fastest of the workers that have the full model. It is by its definition
    never pruned, so there always is one; were it the fastest of all, noise would let every event
    find a new fastest, and prune all workers to the floor little by little.

    Where nobody is slower than the dead-band, nothing is ever pruned, and every number is that of
    `FedAvg`.
    """

    def __init__(
        self,
        *,
        interval: int = 5,
        rate: RateRule | None = None,
        importance: str = "auto",
        scope: str = "global",
        min_units: float = 0.05,
        stop_round: int | None = None,
        aggregation: str = "unit",
        timeout: float | None = None,
        quorum: int = 1,
    ) -> None:
        super().__init__(timeout=timeout, quorum=quorum)
        self.interval = _check.whole("interval", interval, 1)
        if rate is not None and not isinstance(rate, RateRule):
            raise TypeError(f"rate must be a RateRule; got {rate!r}")
        self.rate = rate or RateRule()
        self.importance = _check.chosen("importance", importance, KINDS)
        self.scope = _check.chosen("scope", scope, SCOPES)
        self.min_units = _check.real("min_units", min_units, 0.0, 1.0)
        self.stop_round = None if stop_round is None else _check.whole("stop_round", stop_round, 0)
        self.aggregation = _check.chosen("aggregation", aggregation, AGGREGATIONS)

    def begin(self, network: Network, n_workers: int) -> None:
        """As `FedAvg.begin`."""
        super().begin(network, n_workers)
        if self.importance == "scale" and not network.batch_norm:
            raise ValueError("importance 'scale' needs a network with batch_norm")
        self.ranking_: Ranking | None = None
        self.events_: list[Event] = []
        self.histories_: list[list[Pair]] = [[] for _ in range(n_workers)]
        self.target_ = np.nan
        self._rounds: list[np.ndarray] = []  # times of the last rounds, (W,) each
        self._changed = np.zeros(n_workers, np.int64)  # first round with the part as it is

    def _event_due(self) -> bool:
        stopped = self.stop_round is not None and self.round_ + 1 > self.stop_round
        return not stopped and (self.round_ + 1) % self.interval == 0

    def wants_scores(self) -> bool:
        """Whether workers shall return Taylor scores in this round."""
        return self.importance == "taylor" and self.ranking_ is None and self._event_due()

    def _learn(self, used: list[Reply], times: np.ndarray) -> None:
        self._rounds = [*self._rounds, times][-INTERVALS * self.interval :]
        if not self._event_due():
            return
        medians = self._medians()
        full = [w for w, holding in enumerate(self.holdings_) if holding.units is None]
        seen = medians[full][np.isfinite(medians[full])]
        if seen.size:  # else the reference was not heard of, and stays what it was
            self.target_ = float(seen.min())
        for worker, phi in enumerate(medians):
            self._adapt(worker, float(phi), used)

    def _medians(self) -> np.ndarray:
        """Median time of every worker with its part as it is, nan for one not heard of lately."""
        out = np.full(self.n_workers, np.nan)
        for worker, column in enumerate(np.array(self._rounds).T):
            column = column[-(self.round_ + 1 - self._changed[worker]) :]
            if np.isfinite(column[-self.interval :]).any():
                out[worker] = np.nanmedian(column)
        return out

    def _adapt(self, worker: int, phi: float, used: Sequence[Reply]) -> None:
        gamma, how = self.holdings_[worker].retention, "no reply"
        after = gamma
        if np.isfinite(phi) and np.isfinite(self.target_):
            history = self.histories_[worker]
            if history and history[-1][0] == gamma:
                history.pop()  # the same part again: the newest time is the one that holds
            history.append((gamma, phi))
            wanted, how = next_retention(history, self.target_, self.rate)
            if wanted != gamma:
                self._prune(worker, wanted, used)
                after = self.holdings_[worker].retention
        self.events_.append(Event(self.round_, worker, phi, self.target_, gamma, after, how))

    def _prune(self, worker: int, retention: float, used: Sequence[Reply]) -> None:
        if self.ranking_ is None:
            scores = (
                _mean_scores(used)
                if self.importance == "taylor"
                else importance(self.network_, self.importance)
            )
            self.ranking_ = Ranking(self.network_, scores, self.scope, self.min_units)
        self.hold(worker, self.ranking_.units(retention))
        self._changed[worker] = self.round_ + 1


def _mean_scores(used: Sequence[Reply]) -> list[np.ndarray]:
    """Scores of the workers, by their numbers of examples."""
    scored = [reply for reply in used if reply.scores is not None]
    if not scored:
        raise ValueError("no reply has Taylor scores; the workers must send them when asked to")
    weight = np.array([reply.n_examples for reply in scored], dtype=np.float64)
    return [
        np.average(np.stack(layer), axis=0, weights=weight)
        for layer in zip(*(reply.scores for reply in scored), strict=True)
    ]
