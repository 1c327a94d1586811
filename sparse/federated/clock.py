"""The simulated clock: how long a worker's update takes, from what its machine and line can do.

The update time of a worker is::

    download / bandwidth + upload / bandwidth + 2 latency
        + 3 epochs examples flops / speed + fixed

times its noise in this round and its drift up to this round. A backward pass is counted as two
forward passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.federated import _check

PASSES = 3.0  # forward and backward, in forward passes
NOISE, DRIFT = 1, 2  # separate random streams


class UpdateTime(NamedTuple):
    """Seconds of one update; ``total`` is their sum, noise and drift are in all of them."""

    download: float
    compute: float
    upload: float
    other: float

    @property
    def total(self) -> float:
        """From the start of the round to the arrival at the server."""
        return self.download + self.compute + self.upload + self.other


@dataclass(frozen=True)
class Clock:
    """What every worker can do.

    Parameters
    ----------
    bandwidth : array-like of float, shape (W,)
        Bytes per second, both directions alike; inf for transfers that take no time.
    latency : array-like of float, shape (W,)
        Seconds, each way.
    speed : array-like of float, shape (W,)
        Floating-point operations per second.
    fixed : array-like of float, shape (W,)
        Seconds of every update, whatever the model.
    noise : float
        Standard deviation of the logarithm of the update time between rounds.
    drift : float
        Standard deviation of a step of its random walk over rounds.
    seed : int
    """

    bandwidth: ArrayLike
    latency: ArrayLike
    speed: ArrayLike
    fixed: ArrayLike
    noise: float = 0.0
    drift: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        n = np.size(self.speed)
        for name, low, open_low in (
            ("bandwidth", 0.0, True),
            ("latency", 0.0, False),
            ("speed", 0.0, True),
            ("fixed", 0.0, False),
        ):
            value = _check.per_worker(name, getattr(self, name), n, low, open_low=open_low)
            if not np.isfinite(value).all() and name in ("latency", "fixed"):
                raise ValueError(f"{name} must be finite; got {value}")
            object.__setattr__(self, name, value)
        _check.real("noise", self.noise, 0.0)
        _check.real("drift", self.drift, 0.0)
        _check.whole("seed", self.seed, 0)

    @property
    def n_workers(self) -> int:
        """Number of workers, W."""
        return self.speed.size

    def expected(self, worker: int, download: float, upload: float, work: float) -> UpdateTime:
        """Update time without noise and drift.

        Parameters
        ----------
        worker : int
        download, upload : float
            Bytes.
        work : float
            Epochs times examples times operations of a forward pass.
        """
        return UpdateTime(
            float(download / self.bandwidth[worker]),
            float(PASSES * work / self.speed[worker]),
            float(upload / self.bandwidth[worker]),
            float(2 * self.latency[worker] + self.fixed[worker]),
        )

    def factor(self, worker: int, round: int) -> float:
        """Noise and drift of an update: the same for the same seed, worker and round."""
        exponent = 0.0
        if self.noise:
            rng = np.random.default_rng([self.seed, NOISE, worker, round])
            exponent += self.noise * float(rng.standard_normal())
        return float(np.exp(exponent)) * self.drifted(worker, round)

    def drifted(self, worker: int, round: int) -> float:
        """Drift alone, by which the worker is slower than at the start."""
        if not self.drift or round == 0:
            return 1.0
        rng = np.random.default_rng([self.seed, DRIFT, worker])
        return float(np.exp(self.drift * rng.standard_normal(round).sum()))

    def time(
        self, worker: int, round: int, download: float, upload: float, work: float
    ) -> UpdateTime:
        """Update time in a round, counted from 0; arguments as for `expected`."""
        factor = self.factor(worker, round)
        return UpdateTime(
            *(factor * part for part in self.expected(worker, download, upload, work))
        )


@dataclass(frozen=True)
class Heterogeneity:
    """Workers whose times with the full model lie evenly between the fastest and the slowest.

    Parameters
    ----------
    sigma : float
        Time of the slowest over that of the fastest, at least 1.
    fastest : float
        Seconds of the fastest.
    fixed, latency, transfer : float
        Shares of every worker's time with the full model, which a smaller model leaves (``fixed``,
        ``latency``) or shortens (``transfer``); the rest is computing.
    noise, drift : float
        See `Clock`.
    """

    sigma: float = 2.0
    fastest: float = 1.0
    fixed: float = 0.05
    latency: float = 0.0
    transfer: float = 0.25
    noise: float = 0.03
    drift: float = 0.0

    def __post_init__(self) -> None:
        _check.real("sigma", self.sigma, 1.0)
        _check.real("fastest", self.fastest, 0.0, open_low=True)
        for name in ("fixed", "latency", "transfer"):
            _check.real(name, getattr(self, name), 0.0, 1.0)
        if self.fixed + self.latency + self.transfer >= 1:
            raise ValueError(
                "fixed + latency + transfer must be below 1; got "
                f"{self.fixed + self.latency + self.transfer:g}"
            )
        _check.real("noise", self.noise, 0.0)
        _check.real("drift", self.drift, 0.0)

    def times(self, n_workers: int) -> np.ndarray:
        """Seconds of an update with the full model, (W,), the fastest worker first."""
        return self.fastest * np.linspace(1.0, self.sigma, n_workers)

    def clock(self, model_bytes: float, work: ArrayLike, seed: int = 0) -> Clock:
        """The clock on which the full model takes these times.

        Parameters
        ----------
        model_bytes : float
            Of the full model, one way.
        work : array-like of float, shape (W,)
            See `Clock.expected`; workers with more examples are given faster machines.
        seed : int
        """
        work = np.asarray(work, dtype=np.float64)
        times = self.times(work.size)
        compute = 1 - self.fixed - self.latency - self.transfer
        with np.errstate(divide="ignore"):
            bandwidth = 2 * model_bytes / (self.transfer * times)
        return Clock(
            bandwidth=bandwidth,
            latency=self.latency * times / 2,
            speed=PASSES * work / (compute * times),
            fixed=self.fixed * times,
            noise=self.noise,
            drift=self.drift,
            seed=seed,
        )


def heterogeneity(times: ArrayLike) -> float:
    """How much of the workers' time is waiting, with the full model.

    Parameters
    ----------
    times : array-like of float, shape (W,)
        Update times with the full model.

    Returns
    -------
    float
        Mean of ``1 - fastest / time`` over the workers but the fastest, in [0, 1).
    """
    times = np.asarray(times, dtype=np.float64)
    if times.ndim != 1 or times.size < 2 or not (times > 0).all():
        raise ValueError(f"times must be two or more, above 0; got {times}")
    return float((1 - times.min() / times).sum() / (times.size - 1))
