"""What a simulation leaves: tables, the trained model, and what the server's work cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cascadenet.sparse.federated import _check

if TYPE_CHECKING:
    import pandas as pd

    from cascadenet.sparse.federated.adaptcl import Event
    from cascadenet.sparse.pruning.network import Network

WINDOW = 5  # judged rounds in a mean accuracy


@dataclass(frozen=True)
class Simulation:
    """Result of `simulate`.

    Attributes
    ----------
    rounds : pandas.DataFrame
        A row a round: round (from 0), start, end, seconds (of the simulated clock), accuracy and
        loss on the test data after it (nan where it was not judged), used (updates), refused
        (replies, and workers that were late or lost), retention (mean over the workers), upload
        and download (bytes of all). Of an asynchronous run: as many updates as there are workers.
    workers : pandas.DataFrame
        A row a worker and round: round, worker, retention, examples, seconds (its update time; that
        of the deadline for one that was late), expected (without noise), download, compute, upload
        (parts of ``seconds``), waiting (from its reply to the end of the round), status ("ok",
        "late", "lost", or why the reply was refused), loss (in training).
    events : pandas.DataFrame
        Pruning events, see `Event`; empty for strategies without.
    network : Network
        The model at the end, as the strategy would predict with it; see ``FedAvg.model``.
    clock : Clock
    server_seconds : numpy.ndarray of float64, shape (rounds,)
        Processor time of the server's work in each round, measured.
    worker_seconds : numpy.ndarray of float64, shape (rounds,)
        Processor time of the slowest worker's training in each round, measured.
    """

    rounds: pd.DataFrame
    workers: pd.DataFrame
    events: pd.DataFrame
    network: Network
    clock: object
    server_seconds: np.ndarray = field(repr=False)
    worker_seconds: np.ndarray = field(repr=False)

    @property
    def seconds(self) -> float:
        """Simulated time of the whole run."""
        return float(self.rounds["end"].iloc[-1])

    def accuracy(self, last: int = 1) -> float:
        """Mean accuracy of the last judged rounds.

        Parameters
        ----------
        last : int
            How many of them.
        """
        judged = self.rounds["accuracy"].dropna()
        return float(judged.iloc[-_check.whole("last", last, 1) :].mean())

    def time_to(self, accuracy: float, window: int = 1) -> float:
        """Simulated time at which the accuracy was first reached, inf if it never was.

        Parameters
        ----------
        accuracy : float
            In [0, 1].
        window : int
            Judged rounds over which the mean is taken, so that one lucky round does not count.
        """
        judged = self.rounds.dropna(subset=["accuracy"])
        mean = judged["accuracy"].rolling(_check.whole("window", window, 1)).mean()
        reached = judged[mean >= accuracy]
        return float(reached["end"].iloc[0]) if len(reached) else float("inf")

    def spread(self, floor: float = 0.0) -> float:
        """How far the slowest update of the last round was behind the fastest, noise apart.

        Parameters
        ----------
        floor : float
            Workers whose retention is not above this are left out: they cannot get smaller.

        Returns
        -------
        float
            Largest over smallest expected update time, minus 1.
        """
        last = self.workers[self.workers["round"] == self.workers["round"].max()]
        fastest = last["expected"].min()
        free = last.loc[last["retention"] > floor, "expected"]
        return float(free.max() / fastest - 1)


def tables(
    rounds: list[dict], workers: list[dict], events: list[Event]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Records as tables."""
    import dataclasses

    import pandas as pd

    from cascadenet.sparse.federated.adaptcl import Event

    columns = [column.name for column in dataclasses.fields(Event)]
    table = pd.DataFrame([dataclasses.astuple(event) for event in events], columns=columns)
    return pd.DataFrame(rounds), pd.DataFrame(workers), table


def compare(
    runs: Mapping[str, Simulation], *, baseline: str = "FedAvg", margin: float = 0.005
) -> pd.DataFrame:
    """Runs against a baseline.

    Parameters
    ----------
    runs : mapping of str to Simulation
        On the same data and clock.
    baseline : str
        One of them.
    margin : float
        The accuracy to reach is the baseline's at the end, less this. All accuracies are means of
        five judged rounds.

    Returns
    -------
    pandas.DataFrame
        Columns strategy; accuracy: at the end; seconds: of the run;
        speedup: of the baseline's over that; time_to_accuracy; saved: share of the baseline's time
        to the accuracy; retention and waiting: means over workers and rounds, waiting as a share
        of the time.
    """
    import pandas as pd

    if baseline not in runs:
        raise ValueError(f"baseline must be one of {', '.join(runs)}; got {baseline!r}")
    _check.real("margin", margin, 0.0, 1.0)
    base = runs[baseline]
    goal = base.accuracy(WINDOW) - margin
    reference = base.time_to(goal, WINDOW)
    rows = []
    for name, run in runs.items():
        reached = run.time_to(goal, WINDOW)
        busy = run.workers["seconds"].sum()
        rows.append(
            {
                "strategy": name,
                "accuracy": run.accuracy(WINDOW),
                "seconds": run.seconds,
                "speedup": base.seconds / run.seconds,
                "time_to_accuracy": reached,
                "saved": 1 - reached / reference,
                "retention": run.workers["retention"].mean(),
                "waiting": run.workers["waiting"].sum() / (run.workers["waiting"].sum() + busy),
            }
        )
    return pd.DataFrame(rows)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, with standard errors.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `compare` of several seeds, with a column seed.

    Returns
    -------
    pandas.DataFrame
        A row a strategy, in the order they come: seeds, and for every measure its mean and its
        standard error ``..._se`` (nan for one seed).
    """
    import pandas as pd

    groups = table.groupby("strategy", sort=False)
    columns = {"seeds": groups.size()}
    for name in table.columns.difference(["strategy", "seed"], sort=False):
        columns[name] = groups[name].mean()
        columns[f"{name}_se"] = groups[name].sem()
    return pd.DataFrame(columns).reset_index()
