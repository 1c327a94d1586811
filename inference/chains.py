"""Running chains: what is recorded of each draw, threads, progress, interruption."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import gammaln

from cascadenet.inference import _kernels, rates
from cascadenet.inference.checkpoint import Checkpoint
from cascadenet.inference.dynamics.memory import Carried
from cascadenet.inference.layout import Layout
from cascadenet.inference.sampler import Chain, Model, State
from cascadenet.pairs import rows_of


@dataclass(frozen=True)
class Schedule:
    """How long a chain runs and what is kept of it.

    Attributes
    ----------
    tune, draws : int
        Sweeps before and while recording.
    networks : int
        Draws of the whole network kept, evenly spaced among the recorded ones.
    hold : int
        Sweeps, the first of tuning, during which the concentrations stay where they start.
    """

    tune: int
    draws: int
    networks: int
    hold: int

    @property
    def sweeps(self) -> int:
        """All sweeps."""
        return self.tune + self.draws

    def keeps_network(self, draw: int) -> bool:
        """Whether the network of this recorded draw is kept."""
        kept = min(self.networks, self.draws)
        return (draw + 1) * kept // self.draws > draw * kept // self.draws


@dataclass(frozen=True)
class Start:
    """Where a chain starts: its random numbers, what it remembers, and a state to go on from.

    Attributes
    ----------
    seed : numpy.random.SeedSequence
    carried : Carried, optional
    state : State, optional
    """

    seed: np.random.SeedSequence
    carried: Carried | None = None
    state: State | None = None


class Record:
    """Moments over the draws of one chain, its scalars and thinned networks.

    Most pairs that met never carry an infection. They have a running mean and variance of their
    rate in float32, in units of `unused_unit`, which keeps them in its range. All others have sums,
    in the user's unit: over draws in which they carried one (`hit`) and over the rest.
    """

    arrays = ("mean_unused", "variance_unused", "exposure_sum", "full_sum", "kept_sum")
    used_arrays = ("used", "hits", "n_sum", "mean_hit", "square_hit", "mean_rest", "square_rest")

    def __init__(self, chain: Chain, schedule: Schedule) -> None:
        n_pairs = chain.layout.n_pairs
        self.draws = 0
        # of all pairs; those of pairs that carried an infection are no longer looked at
        self.mean_unused, self.variance_unused = np.zeros((2, n_pairs), np.float32)
        self.used = np.zeros(0, np.int32)  # pairs that ever carried an infection, ascending
        self.hits = np.zeros(0, np.int32)
        self.n_sum = np.zeros(0, np.int64)
        self.mean_hit, self.square_hit, self.mean_rest, self.square_rest = np.zeros((4, 0))
        self.exposure_sum = np.zeros(n_pairs if chain.model.delay.parameters else 0)
        self.full_sum = np.zeros(chain.layout.n_nodes)
        self.kept_sum = np.zeros(chain.state.kept.shape, np.int64)
        self.scalars: dict[str, np.ndarray] = {
            name: np.full(schedule.draws, np.nan) for name in scalar_names(chain.model)
        }
        self.networks: list[dict[str, np.ndarray]] = []
        self.last: State | None = None  # of a chain that is to go on in another interval

    @property
    def n_pairs(self) -> int:
        """Number of listed pairs."""
        return self.mean_unused.size

    def add(self, chain: Chain, schedule: Schedule) -> None:
        """Record the chain's current state as one draw."""
        state = chain.state
        self.add_pairs(chain)
        if self.exposure_sum.size:
            self.exposure_sum += state.exposure
        self.full_sum += state.node_full
        self.kept_sum += state.kept
        for name, value in scalar_values(chain).items():
            self.scalars[name][self.draws] = value
        if schedule.keeps_network(self.draws):
            self.networks.append(_network(chain))
        self.draws += 1

    def add_pairs(self, chain: Chain) -> None:
        """Add the present rates and transmissions of the listed pairs.

        Under the tree likelihood the weights p stand where rates do otherwise.
        """
        state, unit = chain.state, unused_unit(chain.layout, chain.model)
        self._admit(np.flatnonzero(state.n_pair > 0).astype(np.int32), unit)
        n = state.n_pair[self.used]
        if chain.model.likelihood == "tree":
            change = state.shape - self.mean_unused
            self.mean_unused += change / (self.draws + 1)
            change *= state.shape - self.mean_unused
            self.variance_unused += (change - self.variance_unused) / (self.draws + 1)
            mean = state.shape[self.used]
            square = mean**2
        else:
            mean, square = self._add_rates(chain, unit, n)
        hit = n > 0
        self.hits += hit
        self.n_sum += n
        for sums, values in ((self.mean_hit, mean), (self.square_hit, square)):
            sums += np.where(hit, values, 0.0)
        for sums, values in ((self.mean_rest, mean), (self.square_rest, square)):
            sums += np.where(hit, 0.0, values)

    def _add_rates(
        self, chain: Chain, unused: float, n: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Add to running moments; those of the used pairs, that carry n infections, in the draw."""
        state, layout, unit = chain.state, chain.layout, rate_unit(chain)
        rate, more = rates.rate_parts(chain)
        if layout.background:  # a hazard per time, whatever the unit of the pairs' rates
            rate = rate.copy()
            rate[layout.pair_ptr[:-1]] *= unit * layout.unit
        shape = rates.gamma_shape(chain)
        moments = self.mean_unused, self.variance_unused
        _kernels.accumulate(
            shape, rate, more, state.n_pair, unit / unused, self.draws + 1, *moments
        )
        scale = unit / (rate[self.used] + more)
        mean = (shape[self.used] + n) * scale
        return mean, mean * (mean + scale)

    def _admit(self, pairs: np.ndarray, unit: float) -> None:
        """Give pairs that carry an infection for the first time sums of their own."""
        new = pairs[rows_of(self.used, pairs) < 0]
        if new.size == 0:
            return
        mean = unit * self.mean_unused[new].astype(np.float64)
        square = mean**2 + unit**2 * self.variance_unused[new]
        values = {"used": new, "mean_rest": self.draws * mean, "square_rest": self.draws * square}
        place = np.searchsorted(self.used, new)
        for name in self.used_arrays:
            setattr(self, name, np.insert(getattr(self, name), place, values.get(name, 0)))

    def sums(self) -> dict[str, np.ndarray]:
        """All moments, as `put` takes them."""
        return {name: getattr(self, name) for name in (*self.arrays, *self.used_arrays)}

    def put(self, sums: Mapping[str, np.ndarray]) -> None:
        """Go on from such moments."""
        for name in (*self.arrays, *self.used_arrays):
            setattr(self, name, sums[name])

    def take(self, name: str) -> np.ndarray:
        """Hand over an array; it is released here."""
        values = getattr(self, name)
        setattr(self, name, None)
        return values

    def truncate(self) -> None:
        """Drop what an interrupted chain has not drawn."""
        self.scalars = {name: values[: self.draws] for name, values in self.scalars.items()}


def rate_unit(chain: Chain) -> float:
    """User's rate per internal rate at the current delay parameters."""
    exponent = chain.model.delay.rate_exponent(chain.state.theta)
    return float(chain.layout.unit**-exponent)


def unused_unit(layout: Layout, model: Model) -> float:
    """User's rate per unit of the moments of pairs that never carried an infection."""
    if model.likelihood == "tree":
        return 1.0
    return float(layout.unit ** -model.delay.rate_exponent(model.delay.default()))


def _network(chain: Chain) -> dict[str, np.ndarray]:
    """A draw of everything that predicts: network, b, delays, background, transmissions.

    Columns are the null community, the occupied ones, and one that stands for all empty ones:
    their endpoints have had no token, so their mean is the popularity beta.
    """
    state = chain.state
    used = np.flatnonzero(state.n_pair > 0).astype(np.int32)
    network = {
        "weight": np.empty(0, np.float32),
        "sender": np.empty((0, 0), np.float32),
        "receiver": np.empty((0, 0), np.float32),
        "total": np.float64(state.total),
        "b": np.float64(state.b),
        "nu": np.float64(state.nu),
        "theta": state.theta.copy(),
        "ground_shape": np.float64(chain.model.background_shape),
        "ground_rate": np.float64(state.background_rate),
        "used": used,
        "count": state.n_pair[used],
    }
    rows = chain.carried.rows
    if rows.size:
        network |= {
            "memory_rows": rows.astype(np.int32),
            "memory_n": chain.carried.n[rows],
            "memory_exposure": state.exposure[rows] + chain.carried.exposure[rows],
        }
    if chain.model.prior == "flat":
        return network
    held = state.eta > 0
    held[0] = True
    rest = state.weight[~held].sum()
    network["weight"] = np.append(state.weight[held], rest).astype(np.float32)
    for name, ends in (("sender", state.sender), ("receiver", state.receiver)):
        network[name] = np.column_stack((ends[:, held], state.beta)).astype(np.float32)
    return network


def scalar_names(model: Model) -> tuple[str, ...]:
    """Names of the scalars recorded at every draw."""
    names = ["log_joint"]
    if model.likelihood == "survival":
        names += ["Lambda", "b"]
    else:
        names += ["nu"]
    names += [f"delay_{name}" for name in model.delay.parameters]
    if model.background:
        names.append("background_rate")
    if model.switch:
        names.append("persistence")
    if model.prior == "hdp":
        names += ["alpha", "tau", "gamma", "n_communities", "null_share", "entropy"]
    return tuple(names)


def scalar_values(chain: Chain) -> dict[str, float]:
    """Scalars of the current state; rates and delays in the user's unit."""
    state, model, unit = chain.state, chain.model, chain.layout.unit
    values = {"log_joint": log_joint(chain)}
    if model.likelihood == "survival":
        values["Lambda"] = state.total
        values["b"] = state.b / rate_unit(chain)
    else:
        values["nu"] = state.nu * rate_unit(chain)
    theta = model.delay.rescale(state.theta, unit)
    for name, value in zip(model.delay.parameters, theta, strict=True):
        values[f"delay_{name}"] = float(value)
    if model.background:
        values["background_rate"] = model.background_shape / (state.background_rate * unit)
    if model.switch:
        values["persistence"] = state.persistence
    if model.prior == "hdp":
        values["alpha"], values["tau"], values["gamma"] = state.alpha, state.tau, state.gamma
        values["n_communities"] = float(np.count_nonzero(state.eta[1:]))
        values["null_share"] = float(state.weight[0])
        values["entropy"] = entropy(*shape_moments(chain, np.empty(rates.BLOCK)))
    return values


def shape_moments(chain: Chain, scratch: np.ndarray) -> np.ndarray:
    """Sums of the shapes r of the listed pairs of nodes, and of r log r, float64 (2,)."""
    moments = np.zeros(2)
    for block in rates.blocks(chain.layout.n_pairs):
        shape = chain.state.shape[block]
        if chain.edge_pairs is not None:
            shape = shape[chain.layout.pair_source[block] >= 0]
        product = np.log(shape, out=scratch[: shape.size])
        product *= shape
        moments += shape.sum(), product.sum()
    return moments


def entropy(mass: float, moment: float) -> float:
    """Entropy of the network's distribution over the listed pairs, from `shape_moments`."""
    return float(np.log(mass) - moment / mass) if mass > 0.0 else 0.0


def log_joint(chain: Chain) -> float:
    """Log density of cascades, parents and scalars given the network, rates integrated out.

    Up to the priors of the network's distributions, whose densities are not finite where
    their concentrations are tiny.
    """
    state, model = chain.state, chain.model
    if model.likelihood == "tree":
        delays = rates.chosen_delays(chain)
        value = float(model.delay.log_hazard(delays, state.theta).sum())
        value += delays.size * np.log(state.nu)
        value -= state.nu * float(model.delay.cumulative(delays, state.theta).sum())
        return float(value + np.log(state.shape[state.parent[state.parent >= 0]]).sum())
    value = rates.RateTarget(chain).at(state.b)()
    if model.background:
        ground = chain.layout.pair_ptr[:-1]
        n, shape = state.n_pair[ground], rates.gamma_shape(chain)[ground]
        prior = state.rate[ground] - state.exposure[ground]
        value += (gammaln(shape + n) - gammaln(shape) + shape * np.log(prior)).sum()
        value -= ((shape + n) * np.log(state.rate[ground])).sum()
    if model.delay.name != "exponential":
        value += model.delay.log_hazard(rates.chosen_delays(chain), state.theta).sum()
    return float(value)


def run_chain(
    layout: Layout,
    model: Model,
    schedule: Schedule,
    start: Start,
    progress: Progress,
    checkpoint: Checkpoint | None = None,
) -> Record:
    """Run one chain; its result depends on nothing but data, model, schedule and start.

    With a checkpoint, goes on from the file where there is one, and writes it at the start, so
    that a folder that cannot be written to is an error at once, then as it falls due, and at
    the end.
    """
    chain, record = open_chain(layout, model, schedule, start)
    if checkpoint is not None:
        if checkpoint.restore(chain, record):
            progress.step(chain.n_sweeps)
        else:
            checkpoint.write(chain, record)
    while chain.n_sweeps < schedule.sweeps and not progress.stopped:
        advance(chain, record, schedule)
        progress.step()
        if checkpoint is not None and checkpoint.due():
            checkpoint.write(chain, record)
    if checkpoint is not None:
        checkpoint.write(chain, record)
    return close_chain(chain, record, start)


def open_chain(
    layout: Layout, model: Model, schedule: Schedule, start: Start
) -> tuple[Chain, Record]:
    """A chain before its first sweep, and its empty record."""
    rng = np.random.default_rng(start.seed)
    chain = Chain(layout, model, rng, start.carried, start.state)
    return chain, Record(chain, schedule)


def advance(chain: Chain, record: Record, schedule: Schedule) -> None:
    """One sweep, recorded once the chain is tuned."""
    chain.adapting = chain.n_sweeps < schedule.tune
    chain.holding = chain.n_sweeps < schedule.hold
    chain.sweep()
    if not chain.adapting:
        record.add(chain, schedule)


def close_chain(chain: Chain, record: Record, start: Start) -> Record:
    """The record of a chain that has come to its end, or was stopped."""
    record.truncate()
    if record.draws and not record.networks:  # stopped before the first one was due
        record.networks.append(_network(chain))
    if start.carried is not None:
        record.last = chain.state
    return record


class Progress:
    """Counts sweeps over all chains; shows a bar where ``show`` says so, and carries the stop.

    A context: the bar is taken away at its end.
    """

    def __init__(self, total: int, show: bool, title: str = "sampling") -> None:
        self.stopped = False
        self._lock = threading.Lock()
        self._bar = None
        if show:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, unit=" sweeps", desc=title, dynamic_ncols=True)

    def step(self, sweeps: int = 1) -> None:
        """Count sweeps."""
        if self._bar is not None:
            with self._lock:
                self._bar.update(sweeps)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def run_chains(
    layout: Layout,
    model: Model,
    schedule: Schedule,
    starts: list[Start],
    *,
    n_jobs: int,
    progress: Progress,
    checkpoints: list[Checkpoint] | None = None,
) -> tuple[list[Record], bool]:
    """Run chains in threads; chain i is the same however many run beside it.

    Ctrl-C stops all chains after their current sweep and keeps what was drawn.

    Returns
    -------
    records : list of Record
        One for each chain, in order, or for each that was started before Ctrl-C.
    interrupted : bool
    """
    with ThreadPoolExecutor(max_workers=min(n_jobs, len(starts))) as pool:
        tasks = [
            (run_chain, layout, model, schedule, start, progress, saved)
            for start, saved in zip(starts, checkpoints or [None] * len(starts), strict=True)
        ]
        return run_together(pool, tasks, progress), progress.stopped


def run_together(
    pool: Executor, tasks: Sequence[tuple[Any, ...]], progress: Progress
) -> list[Record]:
    """Records of chains run on a pool, each task a function and its arguments.

    At Ctrl-C, and when one has failed, all stop after their sweep. Those that were not started by
    then are left out: a chain may be under way before its start has returned.
    """
    running: list[Future[Record]] = []
    try:
        for task in tasks:
            running.append(pool.submit(*task))
        wait(running, return_when=FIRST_EXCEPTION)
    except KeyboardInterrupt:
        progress.stopped = True
    finally:
        if any(future.done() and future.exception() for future in running):
            progress.stopped = True  # the others need not go on
    return [future.result() for future in running]
