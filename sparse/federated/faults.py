"""Things that go wrong with workers, to be put into a simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascadenet.sparse.federated import _check
from cascadenet.sparse.federated.worker import Reply

KINDS = ("late", "lost", "nan", "shape", "duplicate")


@dataclass(frozen=True)
class Fault:
    """One worker misbehaves for some rounds.

    Parameters
    ----------
    kind : {"late", "lost", "nan", "shape", "duplicate"}
        The update takes ``factor`` times as long; it never comes; it holds a nan; it has one
        parameter too few; it comes twice.
    worker : int
    first : int
        Round, counted from 0.
    rounds : int
        How many.
    factor : float
        Of a late update.
    """

    kind: str
    worker: int
    first: int = 0
    rounds: int = 1
    factor: float = 10.0

    def __post_init__(self) -> None:
        _check.chosen("kind", self.kind, KINDS)
        _check.whole("worker", self.worker, 0)
        _check.whole("first", self.first, 0)
        _check.whole("rounds", self.rounds, 1)
        _check.real("factor", self.factor, 0.0, open_low=True)

    def hits(self, worker: int, round: int) -> bool:
        """Whether that worker's update of that round is concerned."""
        return worker == self.worker and self.first <= round < self.first + self.rounds


def active(faults: Sequence[Fault], worker: int, round: int) -> dict[str, Fault]:
    """Faults of an update, by kind."""
    return {fault.kind: fault for fault in faults if fault.hits(worker, round)}


def damaged(reply: Reply, kinds: dict[str, Fault]) -> list[Reply]:
    """What arrives at the server of a reply, none when it is lost."""
    if "lost" in kinds:
        return []
    values = reply.parameters
    if "nan" in kinds:
        values = values.copy()
        values[values.size // 2] = np.nan
    if "shape" in kinds:
        values = values[:-1]
    reply = replace(reply, parameters=values)
    return [reply, reply] if "duplicate" in kinds else [reply]
