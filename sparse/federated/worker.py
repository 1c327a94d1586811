"""What a worker does in a round: a function from a task and its data to a reply.

It keeps nothing between calls, so that it runs in threads, processes or on other machines alike;
what a worker carries from round to round, momentum and updates not sent yet, is in its memory.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field

import numpy as np

from cascadenet.sparse.federated import _check
from cascadenet.sparse.federated.dgc import DGC, reindex
from cascadenet.sparse.federated.ranking import Units, importance, part_arguments
from cascadenet.sparse.pruning.methods import Data, Method
from cascadenet.sparse.pruning.network import Network
from cascadenet.sparse.pruning.optimisers import SGD
from cascadenet.sparse.pruning.schedules import learning_rate
from cascadenet.sparse.pruning.training import DivergenceError, train

SCHEDULES = ("cosine", "constant")
TRAINING = 3  # stream of the order of the examples


@dataclass(frozen=True)
class LocalTraining:
    """How workers train.

    Parameters
    ----------
    epochs : int
        Passes over its own data in a round.
    batch_size : int
    learning_rate : float
        Of the first round.
    schedule : {"cosine", "constant"}
        Over the rounds; constant within each.
    momentum : float
        Nesterov momentum.
    weight_decay : float
    sparsity : float
        Weight of a penalty that makes units small which matter little: the sizes of the batch
        normalisations' scales, or without those the lengths of the units' incoming weights.
    clip_norm : float, optional
        Longest gradient.
    carry_momentum : bool
        Whether a worker's momentum goes on in the next round; it is cut with the model.
    """

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 0.1
    schedule: str = "cosine"
    momentum: float = 0.9
    weight_decay: float = 0.0
    sparsity: float = 0.0
    clip_norm: float | None = None
    carry_momentum: bool = False

    def __post_init__(self) -> None:
        _check.whole("epochs", self.epochs, 1)
        _check.whole("batch_size", self.batch_size, 1)
        _check.real("learning_rate", self.learning_rate, 0.0, open_low=True)
        _check.chosen("schedule", self.schedule, SCHEDULES)
        _check.real("momentum", self.momentum, 0.0, 1.0, open_high=True)
        _check.real("weight_decay", self.weight_decay, 0.0)
        _check.real("sparsity", self.sparsity, 0.0)
        if self.clip_norm is not None:
            _check.real("clip_norm", self.clip_norm, 0.0, open_low=True)
        _check.flag("carry_momentum", self.carry_momentum)

    def rate(self, round: int, n_rounds: int) -> float:
        """Learning rate of a round, counted from 0."""
        return learning_rate(self.schedule, self.learning_rate, round, n_rounds)


@dataclass(frozen=True)
class Memory:
    """What a worker keeps between rounds.

    Attributes
    ----------
    units : list of numpy.ndarray, or None
        Of the part that the arrays belong to.
    arrays : dict of str to numpy.ndarray
        "velocity" of the optimiser; "momentum" and "waiting" of the compression.
    """

    units: Units = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """What the server asks of a worker.

    Attributes
    ----------
    worker, round : int
    network : dict
        Arguments of the full `Network`.
    units : list of numpy.ndarray, or None
        Hidden units of the worker's part.
    parameters, statistics : numpy.ndarray
        Of the part.
    learning_rate : float
    training : LocalTraining
    compression : DGC or None
    wants_scores : bool
        Whether to return the Taylor scores of the units.
    seed : int
    memory : Memory
    """

    worker: int
    round: int
    network: dict[str, object]
    units: Units
    parameters: np.ndarray
    statistics: np.ndarray
    learning_rate: float
    training: LocalTraining
    compression: DGC | None = None
    wants_scores: bool = False
    seed: int = 0
    memory: Memory = field(default_factory=Memory)

    @property
    def download(self) -> int:
        """Bytes to the worker; the unit numbers are sent once and are not counted."""
        return self.parameters.nbytes + self.statistics.nbytes


@dataclass(frozen=True)
class Reply:
    """What a worker returns.

    Attributes
    ----------
    worker, round : int
        Of the task.
    parameters, statistics : numpy.ndarray
        Of the part, after training.
    n_examples : int
    loss : float
        Mean training loss of the last pass.
    seconds : float
        Processor time of the training.
    upload : int
        Bytes to the server.
    scores : list of numpy.ndarray, or None
    error : str
        Why there is no usable update, or empty.
    memory : Memory
        Stays with the worker.
    """

    worker: int
    round: int
    parameters: np.ndarray
    statistics: np.ndarray
    n_examples: int
    loss: float = float("nan")
    seconds: float = 0.0
    upload: int = 0
    scores: list[np.ndarray] | None = None
    error: str = ""
    memory: Memory = field(default_factory=Memory)


class UnitPenalty(Method):
    """Adds the gradient of a penalty on hidden units: L1 of scales, or lengths of weights.

    Parameters
    ----------
    weight : float
    """

    name = "unit penalty"

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def start(self, network: Network, total: int, data: Data, rng: np.random.Generator) -> None:
        """Begin a training; see `Method.start`."""
        super().start(network, total, data, rng)
        name = "gamma" if network.batch_norm else "weight"
        hidden = len(network.layers) - 1
        self.slots = [slot for slot in network.slots if slot.name == name and slot.layer < hidden]

    def after(self, step: int) -> None:
        """Change the gradient that has just been written."""
        for slot in self.slots:
            w, g = slot.of(self.network.parameters), slot.of(self.network.gradient)
            rows = w.reshape(slot.shape[0], -1)
            length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
            factor = np.divide(self.weight, length, out=np.zeros_like(length), where=length > 0)
            g += w * factor.reshape(-1, *[1] * (w.ndim - 1)).astype(w.dtype)


def local_update(task: Task, x: np.ndarray, y: np.ndarray) -> Reply:
    """Train a part of the model on a worker's data.

    Parameters
    ----------
    task : Task
    x : numpy.ndarray, shape (n, features), dtype of the network
    y : numpy.ndarray of int64, shape (n,)

    Returns
    -------
    Reply
        With ``error`` set when training diverged.
    """
    began = time.thread_time()
    network = Network(**part_arguments(template(task.network), task.units))
    network.set_state({"parameters": task.parameters, "statistics": task.statistics})
    memory = moved(task)
    how = task.training
    optimiser = SGD(how.momentum, True, how.weight_decay)
    if how.carry_momentum and "velocity" in memory:
        optimiser.state["velocity"] = memory["velocity"]
    rng = np.random.default_rng([task.seed, TRAINING, task.worker, task.round])
    try:
        history = train(
            network, x, y,
            optimiser=optimiser, epochs=how.epochs, learning_rate=task.learning_rate,
            schedule="constant", batch_size=how.batch_size, clip_norm=how.clip_norm,
            method=UnitPenalty(how.sparsity) if how.sparsity else None, seed=rng,
        )  # fmt: skip
    except DivergenceError as error:
        return Reply(
            task.worker, task.round, task.parameters, task.statistics, x.shape[0],
            seconds=time.thread_time() - began, error=str(error),
        )  # fmt: skip
    kept = {}
    if how.carry_momentum and how.momentum:
        kept["velocity"] = optimiser.state["velocity"]
    scores = _taylor(network, x, y) if task.wants_scores else None
    values, upload = network.parameters, network.parameters.nbytes
    if task.compression is not None:
        index, sent, more = task.compression.compress(
            network.parameters - task.parameters, memory, task.round
        )
        kept |= more
        values = task.parameters.copy()
        values[index] += sent
        upload = sent.nbytes + 4 * index.size
    return Reply(
        task.worker, task.round, values, network.statistics, x.shape[0],
        loss=history[-1].loss, seconds=time.thread_time() - began,
        upload=upload + network.statistics.nbytes, scores=scores,
        memory=Memory(task.units, kept),
    )  # fmt: skip


def template(arguments: dict[str, object]) -> Network:
    """The full network of these arguments, for its shape only; made once and shared."""
    return _template(tuple(sorted(arguments.items())))


@functools.lru_cache(maxsize=8)
def _template(items: tuple[tuple[str, object], ...]) -> Network:
    return Network(**dict(items))


def moved(task: Task) -> dict[str, np.ndarray]:
    """The worker's arrays for the part it has now: cut, and 0 where units have come back."""
    memory, full = task.memory, template(task.network)
    if not memory.arrays or same_units(memory.units, task.units):
        return memory.arrays
    old, new = (
        None if units is None else full.coordinates(units) for units in (memory.units, task.units)
    )
    size = full.parameters.size
    return {name: reindex(values, old, new, size) for name, values in memory.arrays.items()}


def same_units(a: Units, b: Units) -> bool:
    """Whether two parts are the same."""
    if a is None or b is None:
        return a is b
    return all(np.array_equal(one, other) for one, other in zip(a, b, strict=True))


def _taylor(network: Network, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Scores over the whole data; running statistics are left as they were."""
    state = network.statistics.copy()
    network.loss_and_gradient(x, y)
    network.statistics[:] = state
    return importance(network, "taylor")
