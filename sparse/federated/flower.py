"""The strategies of this package on Flower: a server and workers on machines of their own.

Needs the extra ``flower``. A Flower project has a server app::

    app = ServerApp()


    @app.main()
    def main(grid, context):
        network = Network((64,), (64, 32), 10)
        strategy = AdaptCLStrategy(AdaptCL(interval=2), network, n_workers=3, n_rounds=20)
        strategy.start(grid, strategy.initial_arrays(), num_rounds=20, timeout=600)

and a client app, ``app = client_app(load)``, where ``load(context)`` returns the worker's own
inputs and classes. Every SuperNode says which worker it is: ``--node-config "partition-id=0"``.
The node ids of Flower change when a SuperNode is started again; its worker number, and with it
what is known of its speed, does not.

Times are those that the workers measure around their training. The server's own clock would show
how long Flower takes to start a process for each task.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from cascadenet.sparse.federated import _check
from cascadenet.sparse.federated.dgc import DGC
from cascadenet.sparse.federated.ranking import Units
from cascadenet.sparse.federated.server import FedAvg, Rejection
from cascadenet.sparse.federated.worker import LocalTraining, Memory, Reply, Task, local_update
from cascadenet.sparse.pruning.network import Network

try:
    from flwr.app import (
        Array,
        ArrayRecord,
        ConfigRecord,
        Context,
        Message,
        MetricRecord,
        RecordDict,
    )
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Strategy
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "cascadenet.sparse.federated.flower needs Flower: pip install 'cascadenet[flower]'"
    ) from error

IDENTITY = "partition-id"  # in the configuration of a node, as Flower's own examples call it
ARRAYS, CONFIG, METRICS, MEMORY = "arrays", "config", "metrics", "memory"
POLL = 1.0  # seconds between looks for nodes


class AdaptCLStrategy(Strategy):
    """A strategy of this package, with Flower to carry its messages.

    Parameters
    ----------
    core : AdaptCL, FedAvg or StaticWidth
        A synchronous strategy.
    network : Network
        The global model.
    n_workers : int
        Workers have the numbers below this.
    training : LocalTraining, optional
    n_rounds : int
        Rounds that are planned, for the learning rate; those of `start`.
    compression : DGC, optional
    min_workers : int, optional
        Workers that must be there for the first round; all by default.
    patience : float
        Seconds that a round waits for so many workers, and for each to say who it is.
    seed : int

    Attributes
    ----------
    rejections_ : list of list of Rejection
        Of every round.
    times_ : list of numpy.ndarray of float64, shape (W,)
        Seconds that each worker reported; nan without a reply.
    shapes_ : list of dict of int to int
        Parameters that each worker was sent, by round.
    """

    def __init__(
        self,
        core: FedAvg,
        network: Network,
        n_workers: int,
        *,
        training: LocalTraining | None = None,
        n_rounds: int = 100,
        compression: DGC | None = None,
        min_workers: int | None = None,
        patience: float = 120.0,
        seed: int = 0,
    ) -> None:
        if not isinstance(core, FedAvg) or not core.synchronous:
            raise TypeError(f"core must be a synchronous strategy of this package; got {core!r}")
        self.core = core
        self.training = training or LocalTraining()
        self.compression = compression
        self.n_rounds = _check.whole("n_rounds", n_rounds, 1)
        n_workers = _check.whole("n_workers", n_workers, 1)
        self.min_workers = n_workers if min_workers is None else min_workers
        _check.whole("min_workers", self.min_workers, 1)
        self.patience = _check.real("patience", patience, 0.0)
        self.seed = _check.whole("seed", seed, 0)
        self.workers_: dict[int, int] = {}  # node id -> worker
        self.rejections_: list[list[Rejection]] = []
        self.times_: list[np.ndarray] = []
        self.shapes_: list[dict[int, int]] = []
        core.begin(network, n_workers)

    def initial_arrays(self) -> ArrayRecord:
        """The global model as it is now, for ``start``."""
        network = self.core.network_
        return _record({"parameters": network.parameters, "statistics": network.statistics})

    # -- what Flower asks

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """One message a worker, each with its own part of the model.

        Parameters
        ----------
        server_round : int
            From 1.
        arrays : ArrayRecord
            The global model.
        config : ConfigRecord
        grid : Grid
        """
        network = self.core.network_
        network.set_state({name: arrays[name].numpy() for name in ("parameters", "statistics")})
        nodes = self._identified(grid, server_round)
        self.shapes_.append({})
        messages = []
        for worker, node in sorted(nodes.items()):
            given = self.core.assignment(worker)
            self.shapes_[-1][worker] = given.parameters.size
            content = RecordDict(
                {
                    ARRAYS: _record(
                        {"parameters": given.parameters, "statistics": given.statistics}
                        | _numbered(given.units)
                    ),
                    CONFIG: self._config(worker, given.wants_scores),
                }
            )
            messages.append(
                Message(content, node, "train", group_id=str(server_round))
            )  # fmt: skip
        return messages

    def _config(self, worker: int, wants_scores: bool) -> ConfigRecord:
        round = self.core.round_
        compression = self.compression and dataclasses.asdict(self.compression)
        return ConfigRecord(
            {
                "worker": worker,
                "round": round,
                "learning-rate": self.training.rate(min(round, self.n_rounds - 1), self.n_rounds),
                "network": json.dumps(self.core.network_.arguments()),
                "training": json.dumps(dataclasses.asdict(self.training)),
                "compression": json.dumps(compression),
                "wants-scores": wants_scores,
                "seed": self.seed,
            }
        )

    def _identified(self, grid: Grid, server_round: int) -> dict[int, int]:
        """Node of every worker that is there; asks those that have not said who they are."""
        wanted = self.min_workers if server_round == 1 else 1
        end = time.monotonic() + self.patience
        while True:
            present = list(grid.get_node_ids())
            if len(present) >= wanted or time.monotonic() > end:
                break
            time.sleep(POLL)
        unknown = [node for node in present if node not in self.workers_]
        if unknown:
            asked = [Message(RecordDict(), node, "query") for node in unknown]
            for reply in grid.send_and_receive(asked, timeout=self.patience):
                if reply.has_error():
                    continue
                worker = int(reply.content[METRICS]["worker"])
                if not 0 <= worker < self.core.n_workers:
                    raise ValueError(
                        f"{IDENTITY} must be in 0..{self.core.n_workers - 1}; got {worker}"
                    )
                # a worker that was started again has a new node; the old one is gone
                self.workers_ = {n: w for n, w in self.workers_.items() if w != worker}
                self.workers_[reply.metadata.src_node_id] = worker
        return {self.workers_[node]: node for node in present if node in self.workers_}

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average what came back, and learn from the times.

        Parameters
        ----------
        server_round : int
        replies : iterable of Message

        Raises
        ------
        RoundError
            With fewer usable replies than the core's quorum.
        """
        core = self.core
        arrived, refused = [], []
        times = np.full(core.n_workers, np.nan)
        for message in replies:
            worker = self.workers_.get(message.metadata.src_node_id, -1)
            if message.has_error():
                refused.append(Rejection(worker, f"failed: {message.error.reason}"))
                continue
            reply = _decoded(message)
            if reply is None or reply.worker != worker:
                refused.append(Rejection(worker, "unknown worker" if reply else "shape"))
                continue
            arrived.append(reply)
            if np.isfinite(reply.seconds) and reply.seconds > 0:
                times[worker] = reply.seconds
        heard = {reply.worker for reply in arrived} | {entry.worker for entry in refused}
        silent = [worker for worker in self.shapes_[-1] if worker not in heard]
        rejected = core.close(arrived, times, silent)
        self.rejections_.append(
            refused + rejected + [Rejection(worker, "no reply") for worker in silent]
        )
        self.times_.append(times)
        bad = {entry.worker for entry in rejected}
        losses = [reply.loss for reply in arrived if reply.worker not in bad]
        metrics = {
            "train-loss": float(np.mean(losses)),
            "workers": len(losses),
            "retention": float(core.retention.mean()),
        }
        return self.initial_arrays(), MetricRecord(metrics)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """No evaluation by the workers; give ``start`` an ``evaluate_fn``."""
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Nothing to aggregate."""
        return None

    def summary(self) -> None:
        """Nothing is logged beyond what Flower logs."""


def client_app(load: Callable[[Context], tuple[Any, Any]]) -> ClientApp:
    """A worker.

    Parameters
    ----------
    load : callable
        From Flower's context to (x, y): inputs (n, features) and classes of this worker.

    Returns
    -------
    ClientApp
        What it carries from round to round, such as momentum, is in the context's state.
    """
    app = ClientApp()

    @app.query()
    def identify(message: Message, context: Context) -> Message:
        if IDENTITY not in context.node_config:
            raise ValueError(f"the node's configuration must have {IDENTITY}")
        worker = int(context.node_config[IDENTITY])
        return Message(RecordDict({METRICS: MetricRecord({"worker": worker})}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        task = _task(message, context)
        x, y = _check.labelled("data", load(context), np.dtype(task.parameters.dtype))
        began = time.perf_counter()
        reply = local_update(task, x, y)
        seconds = time.perf_counter() - began
        if reply.error:
            raise RuntimeError(reply.error)
        context.state[MEMORY] = _record(reply.memory.arrays | _numbered(reply.memory.units))
        arrays = {"parameters": reply.parameters, "statistics": reply.statistics}
        for i, scores in enumerate(reply.scores or ()):
            arrays[f"scores-{i}"] = scores
        metrics = {
            "worker": task.worker,
            "round": task.round,
            "num-examples": reply.n_examples,
            "seconds": seconds,
            "loss": reply.loss,
        }
        content = RecordDict({ARRAYS: _record(arrays), METRICS: MetricRecord(metrics)})
        return Message(content, reply_to=message)

    return app


# -- records


def _record(arrays: dict[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord({name: Array(np.ascontiguousarray(a)) for name, a in arrays.items()})


def _numbered(units: Units) -> dict[str, np.ndarray]:
    """Units by name, none when the part is everything."""
    return {f"units-{i}": rows for i, rows in enumerate(units or ())}


def _listed(arrays: ArrayRecord, prefix: str) -> list[np.ndarray] | None:
    """Arrays ``prefix-0``, ``prefix-1``, ..., or None when there are none."""
    found = []
    while f"{prefix}-{len(found)}" in arrays:
        found.append(arrays[f"{prefix}-{len(found)}"].numpy())
    return found or None


def _task(message: Message, context: Context) -> Task:
    arrays, config = message.content[ARRAYS], message.content[CONFIG]
    held = context.state[MEMORY] if MEMORY in context.state else {}
    memory = Memory(
        _listed(held, "units"),
        {name: held[name].numpy() for name in held if not name.startswith("units-")},
    )
    compression = json.loads(config["compression"])
    return Task(
        worker=int(config["worker"]),
        round=int(config["round"]),
        network={name: _tupled(v) for name, v in json.loads(config["network"]).items()},
        units=_listed(arrays, "units"),
        parameters=arrays["parameters"].numpy(),
        statistics=arrays["statistics"].numpy(),
        learning_rate=float(config["learning-rate"]),
        training=LocalTraining(**json.loads(config["training"])),
        compression=DGC(**compression) if compression else None,
        wants_scores=bool(config["wants-scores"]),
        seed=int(config["seed"]),
        memory=memory,
    )


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def _decoded(message: Message) -> Reply | None:
    """The reply in a message, or None where it does not hold one."""
    try:
        arrays, metrics = message.content[ARRAYS], message.content[METRICS]
        return Reply(
            worker=int(metrics["worker"]),
            round=int(metrics["round"]),
            parameters=arrays["parameters"].numpy(),
            statistics=arrays["statistics"].numpy(),
            n_examples=int(metrics["num-examples"]),
            loss=float(metrics["loss"]),
            seconds=float(metrics["seconds"]),
            scores=_listed(arrays, "scores"),
        )
    except (KeyError, TypeError, ValueError):
        return None
