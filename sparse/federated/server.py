"""The server's side of a round, whatever carries the messages: who gets what, what comes back.

A strategy is begun once, and then asked in every round for an `Assignment` for each worker and
given the replies with the update times. It owns the global model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.federated import _check
from cascadenet.sparse.federated.aggregation import Piece, average, mix
from cascadenet.sparse.federated.ranking import Units, statistic_coordinates
from cascadenet.sparse.federated.worker import Reply
from cascadenet.sparse.pruning.network import Network


class RoundError(RuntimeError):
    """A round has fewer usable replies than the quorum, or can never end."""


class Assignment(NamedTuple):
    """What a worker gets: copies.

    Attributes
    ----------
    units : list of numpy.ndarray, or None
    parameters, statistics : numpy.ndarray
    wants_scores : bool
    """

    units: Units
    parameters: np.ndarray
    statistics: np.ndarray
    wants_scores: bool


class Rejection(NamedTuple):
    """A reply that was not used, and why."""

    worker: int
    reason: str


@dataclass
class Holding:
    """The part of the model that a worker has now; index arrays are None for all of it."""

    units: Units = None
    where: np.ndarray | None = None
    statistics: np.ndarray | None = None
    retention: float = 1.0


class FedAvg:
    """Federated averaging: all workers train the full model, the server waits for all.

    Parameters
    ----------
    timeout : float, optional
        The server waits this many times as long as it had to wait for the last round's slowest
        update (in the first round: as long as the first half of the workers takes). A worker that
        is not back then gives up the round, and its time counts as that of the deadline. By
        default the server waits for ever.
    quorum : int
        Fewer usable replies are an error.

    Attributes
    ----------
    network_ : Network
        The global model.
    holdings_ : list of Holding
        What each worker has.
    """

    synchronous = True
    aggregation = "unit"

    def __init__(self, *, timeout: float | None = None, quorum: int = 1) -> None:
        if timeout is not None:
            timeout = _check.real("timeout", timeout, 1.0, open_low=True)
        self.timeout = timeout
        self.quorum = _check.whole("quorum", quorum, 1)

    def begin(self, network: Network, n_workers: int) -> None:
        """Start with this global model; everything of an earlier run is forgotten.

        Parameters
        ----------
        network : Network
            Becomes the strategy's own.
        n_workers : int
        """
        if self.quorum > n_workers:
            raise ValueError(f"quorum must be at most {n_workers}, the workers; got {self.quorum}")
        self.network_ = network
        self.round_ = 0
        self.holdings_ = [Holding() for _ in range(n_workers)]
        self.examples_ = np.ones(n_workers)  # of the last usable reply; before that, alike
        self.times_ = np.full(n_workers, np.nan)  # of the last round, of those who were in time

    @property
    def n_workers(self) -> int:
        """Number of workers, W."""
        return len(self.holdings_)

    @property
    def retention(self) -> np.ndarray:
        """Share of the parameters that each worker has, (W,)."""
        return np.array([holding.retention for holding in self.holdings_])

    def hold(self, worker: int, units: Units) -> None:
        """Give a worker another part of the model from the next assignment on."""
        full = self.network_
        if units is None:
            self.holdings_[worker] = Holding()
        else:
            where = full.coordinates(units)
            self.holdings_[worker] = Holding(
                units, where, statistic_coordinates(full, units), where.size / full.parameters.size
            )

    def assignment(self, worker: int) -> Assignment:
        """What to send to a worker now."""
        network, holding = self.network_, self.holdings_[worker]
        return Assignment(
            holding.units,
            _taken(network.parameters, holding.where),
            _taken(network.statistics, holding.statistics),
            self.wants_scores(),
        )

    def model(self) -> Network:
        """The model to predict with: not to be changed.

        Returns
        -------
        Network
            The global model where all workers have all of it, or absent units were averaged as 0.
            Else a copy in which the weights out of every unit are multiplied by the share of the
            examples that is with its holders.

        Notes
        -----
        Most workers learn to do without the units that few have. With all units at full weight the
        sums in the next layer are larger than any of them has seen. Scaled, they are those of the
        average worker, as at test time after dropout.
        """
        parts = [holding.units for holding in self.holdings_]
        if self.aggregation == "worker" or all(units is None for units in parts):
            return self.network_
        scaled = Network(**self.network_.arguments())
        scaled.set_state(self.network_.state())
        total = self.examples_.sum()
        for layer in range(len(scaled.layers) - 1):
            held = np.zeros(scaled.layers[layer].weight_shape[0])
            for units, n in zip(parts, self.examples_, strict=True):
                held[slice(None) if units is None else units[layer]] += n
            weight = scaled.slot("weight", layer + 1).of(scaled.parameters)
            # a channel is a block of columns where a flattened image follows
            columns = weight.reshape(weight.shape[0], held.size, -1)
            columns *= (held / total).astype(weight.dtype)[:, None]
        return scaled

    def wants_scores(self) -> bool:
        """Whether workers shall return Taylor scores in this round."""
        return False

    def deadline(self, arrivals: ArrayLike) -> float:
        """Seconds after which the server stops waiting in this round; inf without a timeout.

        Parameters
        ----------
        arrivals : array-like of float
            Update times of the replies that have come so far in this round.
        """
        if self.timeout is None:
            return np.inf
        known = self.times_[np.isfinite(self.times_)]
        if known.size:
            return self.timeout * float(known.max())
        arrivals = np.sort(np.asarray(arrivals, dtype=np.float64))
        half = (self.n_workers + 1) // 2
        return self.timeout * float(arrivals[half - 1]) if arrivals.size >= half else np.inf

    def close(
        self, replies: Sequence[Reply], times: ArrayLike, late: Sequence[int] = ()
    ) -> list[Rejection]:
        """End a round: average what is usable, learn from the times.

        Parameters
        ----------
        replies : sequence of Reply
            In any order; the average is taken in that of the workers.
        times : array-like of float, shape (W,)
            Update time of every worker; nan where none is known.
        late : sequence of int
            Workers whose time is only known to be longer than that.

        Returns
        -------
        list of Rejection

        Raises
        ------
        RoundError
            With fewer usable replies than the quorum; the model is as before.
        """
        times = _check.per_worker("times", np.nan_to_num(times, nan=-1.0), self.n_workers, -1.0)
        times[times < 0] = np.nan
        used, rejected = self._sifted(replies)
        if len(used) < self.quorum:
            raise RoundError(self._too_few(len(used), rejected, late))
        self._average(used)
        heard = [reply.worker for reply in used]
        self.times_[:] = np.nan  # the deadline must not wait for one that is gone
        self.times_[heard] = times[heard]
        self.examples_[heard] = [reply.n_examples for reply in used]
        self._learn(used, times)
        self.round_ += 1
        return rejected

    def _sifted(self, replies: Sequence[Reply]) -> tuple[list[Reply], list[Rejection]]:
        used: dict[int, Reply] = {}
        rejected = []
        for reply in replies:
            reason = "duplicate" if reply.worker in used else self.fault_of(reply)
            if reason:
                rejected.append(Rejection(reply.worker, reason))
            else:
                used[reply.worker] = reply
        return [used[worker] for worker in sorted(used)], rejected

    def fault_of(self, reply: Reply) -> str:
        """Why a reply cannot be used: "failed", "stale", "shape", "weight", "not finite", or ""."""
        if not 0 <= reply.worker < self.n_workers:
            return "unknown worker"
        if reply.error:
            return "failed"
        if reply.round != self.round_:
            return "stale"
        holding = self.holdings_[reply.worker]
        for full, values, where in (
            (self.network_.parameters, reply.parameters, holding.where),
            (self.network_.statistics, reply.statistics, holding.statistics),
        ):
            size = full.size if where is None else where.size
            if values.shape != (size,) or values.dtype.kind != "f":
                return "shape"
            if not np.isfinite(values).all():
                return "not finite"
        if not np.isfinite(reply.n_examples) or reply.n_examples <= 0:
            return "weight"
        return ""

    def _too_few(self, n: int, rejected: list[Rejection], late: Sequence[int]) -> str:
        counts = Counter(reason for _, reason in rejected)
        counts["late"] += len(late)
        why = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
        return (
            f"round {self.round_}: {n} of {self.n_workers} workers sent a usable update, fewer "
            f"than the quorum of {self.quorum}" + (f"; refused: {why}" if why else "")
        )

    def _average(self, used: list[Reply]) -> None:
        network = self.network_
        parts, statistics = [], []
        for reply in used:
            holding, weight = self.holdings_[reply.worker], float(reply.n_examples)
            parts.append(Piece(holding.where, reply.parameters, weight))
            statistics.append(Piece(holding.statistics, reply.statistics, weight))
        averaged = average(network.parameters, parts, self.aggregation)
        if not np.isfinite(averaged).all():  # a sum of finite values may overflow float32
            raise RoundError(f"round {self.round_}: the average of the updates is not finite")
        network.parameters[:] = averaged
        if network.statistics.size:
            # a mean over all workers would take the variance of a rarely held unit to 0
            network.statistics[:] = average(network.statistics, statistics, "unit")

    def _learn(self, used: list[Reply], times: np.ndarray) -> None:
        """Adapt to the times of a round; plain averaging does not."""


class StaticWidth(FedAvg):
    """Parts of fixed width: every worker trains the first units of each hidden layer.

    Parameters
    ----------
    widths : array-like of float, shape (W,)
        Share of the units of every layer, in (0, 1], a worker each.
    timeout, quorum
        As for `FedAvg`.

    Notes
    -----
    The nested widths and the averaging of HeteroFL, without its scaling of activations and its
    masked loss. It needs to know beforehand what the workers can do.
    """

    def __init__(self, widths: ArrayLike, *, timeout: float | None = None, quorum: int = 1) -> None:
        super().__init__(timeout=timeout, quorum=quorum)
        self.widths = _check.per_worker("widths", widths, np.size(widths), 0.0, 1.0, open_low=True)

    def begin(self, network: Network, n_workers: int) -> None:
        """As `FedAvg.begin`."""
        if self.widths.size != n_workers:
            got = self.widths.shape
            raise ValueError(f"widths must have shape ({n_workers},); got shape {got}")
        super().begin(network, n_workers)
        layers = [layer.weight_shape[0] for layer in network.layers[:-1]]
        for worker, width in enumerate(self.widths):
            if width < 1:
                self.hold(worker, [np.arange(max(int(np.ceil(width * n)), 1)) for n in layers])


class FedAsync(FedAvg):
    """Asynchronous averaging: every reply is mixed in when it comes, nobody waits.

    Parameters
    ----------
    share : float
        Weight of a fresh reply against the global model, in (0, 1].
    decay : float
        A reply that missed s updates of the model weighs ``share * (1 + s)**-decay``.

    References
    ----------
    Xie, Koyejo & Gupta, "Asynchronous Federated Optimization", 2019, with the polynomial rule.
    """

    synchronous = False

    def __init__(self, *, share: float = 0.3, decay: float = 0.5) -> None:
        super().__init__()
        self.share = _check.real("share", share, 0.0, 1.0, open_low=True)
        self.decay = _check.real("decay", decay, 0.0)

    def absorb(self, reply: Reply, staleness: int) -> str:
        """Mix in one reply; why it was refused, or an empty string.

        Parameters
        ----------
        reply : Reply
        staleness : int
            Updates of the model since the worker got it.
        """
        self.round_ = reply.round  # there are no rounds: every reply is of its own
        reason = self.fault_of(reply)
        if not reason:
            share = self.share * (1.0 + staleness) ** -self.decay
            network = self.network_
            network.parameters[:] = mix(network.parameters, reply.parameters, share)
            network.statistics[:] = mix(network.statistics, reply.statistics, share)
        return reason


def _taken(full: np.ndarray, where: np.ndarray | None) -> np.ndarray:
    return full.copy() if where is None else full[where]
