"""DynamicCoupledHDP: networks that change, interval by interval."""

from __future__ import annotations

import dataclasses
import numbers
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.cascades import Cascades
from cascadenet.delays import Delay
from cascadenet.evolution import DynamicPosterior
from cascadenet.inference import chains as _chains
from cascadenet.inference.checkpoint import Checkpoint, open_checkpoints, saved_seed
from cascadenet.inference.coupled_hdp import HOLD_SHARE, CoupledHDP, check_count, check_sampling
from cascadenet.inference.dynamics import filtering
from cascadenet.inference.dynamics.time_intervals import check_interval, cut, members
from cascadenet.inference.sampler import Model

if TYPE_CHECKING:
    import pandas as pd

FORGETTING = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)  # what "auto" chooses from
SUPPORT = (0.0, 0.05, 0.1, 0.2, 0.5)
PILOT = 20  # sweeps of tuning and as many draws
FILTER, PILOTS, SMOOTHER = range(3)  # streams of random numbers
NOTHING = "stopped before the first interval was sampled"
RHAT_LIMIT, ESS_LIMIT = 1.1, 50  # of one interval, below which the user is told


class DynamicCoupledHDP(CoupledHDP):
    """Network inference from cascades over a network that changes.

    Time is cut into intervals; a cascade belongs to that of its first infection. Two memories
    lead from one interval to the next: transmissions and exposures, of which a share is forgotten,
    and the support, that an edge has ever carried anything, which is not: edges come and go, and
    tend to return. Communities keep their identity through pseudo-counts.

    Parameters
    ----------
    interval : float or array-like, optional
        Width of an interval in the cascades' unit of time, with ends at multiples of it, or all
        ends. By default time is cut into `n_intervals`.
    n_intervals : int
        Number of intervals where `interval` is not given.
    equal : {"time", "cascades"}
        Whether these are equally wide or hold equally many cascades.
    forgetting : float or "auto"
        Share of the evidence on rates that is remembered from one interval to the next: 1 forgets
        nothing, 0 everything.
    half_life : float, optional
        In place of `forgetting`: time after which half of it is left.
    support : float or "auto"
        Weight, in transmissions, of an edge's having carried something before.
    structure : float
        Share of what the communities rest on that is remembered from one interval to the next.
        Near 1 communities are slow to notice a change; at 0 they are found anew each time.
    switch : bool
        Whether remembered edges may have started afresh, which is inferred.
    smooth : bool
        Let each interval see the later ones as well: for looking back, not for prediction.
    delay, prior, null_community, truncation, background, balance_exposure, open_world, \
max_candidates, network_draws
        As for :class:`CoupledHDP`; the likelihood is ``"survival"``.

    Attributes
    ----------
    posterior_ : DynamicPosterior
        After :meth:`fit`.

    Notes
    -----
    ``"auto"`` chooses forgetting and support, one after the other until neither changes, by the
    predictive density of each interval's cascades, one after another, given the intervals before
    it and the cascades that came first in it, in short runs;
    with a single interval there is nothing to choose by, and they are 0.5 and 0.1.
    The memories hold means over all draws, and rates between intervals are taken for Gamma laws:
    an assumed-density filter. Pairs whose memory is negligible are dropped: below 0.001
    transmissions, and an exposure within 5% of what any pair of the source has.

    Examples
    --------
    >>> import cascadenet as cn
    >>> network = cn.simulate.community_network(2, 10, within=0.4, between=0.0, seed=1)
    >>> data = cn.simulate.simulate_cascades(network, 60, horizon=2.0, seed=1).cascades
    >>> model = cn.DynamicCoupledHDP(n_intervals=2, equal="cascades", forgetting=0.5, support=0.1)
    """

    def __init__(
        self,
        interval: Any = None,
        n_intervals: int = 10,
        equal: str = "time",
        forgetting: float | str = "auto",
        half_life: float | None = None,
        support: float | str = "auto",
        structure: float = 0.5,
        switch: bool = True,
        smooth: bool = False,
        delay: str | Delay = "exponential",
        prior: str = "hdp",
        null_community: bool = True,
        truncation: int = 40,
        background: bool = False,
        balance_exposure: bool = True,
        open_world: bool | float = False,
        max_candidates: int | None = None,
        network_draws: int = 40,
    ) -> None:
        super().__init__(
            likelihood="survival",
            delay=delay,
            prior=prior,
            null_community=null_community,
            truncation=truncation,
            background=background,
            balance_exposure=balance_exposure,
            open_world=open_world,
            max_candidates=max_candidates,
            network_draws=network_draws,
        )
        self.interval = interval
        self.n_intervals = n_intervals
        self.equal = equal
        self.forgetting = forgetting
        self.half_life = half_life
        self.support = support
        self.structure = structure
        self.switch = switch
        self.smooth = smooth

    @classmethod
    def from_posterior(cls, posterior: DynamicPosterior) -> DynamicCoupledHDP:
        """A model that goes on from a saved posterior, see :meth:`partial_fit`."""
        settings = dict(posterior.settings)
        names = [name for name in vars(cls()) if name != "likelihood"]
        model = cls(**{name: settings[name] for name in names})
        model.posterior_ = posterior
        return model

    def fit(
        self,
        cascades: Cascades,
        draws: int = 100,
        tune: int = 100,
        chains: int = 2,
        seed: int | None = None,
        n_jobs: int | None = None,
        progress: bool | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        checkpoint_every: float = 60.0,
    ) -> DynamicCoupledHDP:
        """Sample the posterior of one interval after another.

        Parameters
        ----------
        cascades : Cascades
            The data, all intervals together.
        draws, tune : int
            Sweeps of each chain and interval that are recorded, and before them those that are
            not; the first interval, which starts from nothing, is tuned twice as long.
        chains, seed, n_jobs, progress, checkpoint, resume, checkpoint_every
            As for :meth:`CoupledHDP.fit`.

        Returns
        -------
        DynamicCoupledHDP

        Raises
        ------
        ValueError
            Settings out of range, no cascade in the first interval.
        FormatError, OSError
            As for :meth:`CoupledHDP.fit`.

        Warns
        -----
        UserWarning
            Chains of some intervals have not mixed.
        """
        model = self._model(cascades)
        ends = cut(cascades.start, self.interval, self.n_intervals, self.equal)
        if resume and checkpoint is None:
            raise ValueError("resume=True needs checkpoint=, the folder of the run; got none")
        if resume and seed is None:
            seed = saved_seed(_interval_folder(checkpoint, "filter", 0))
        draws, tune, chains, seed, n_jobs = check_sampling(draws, tune, chains, seed, n_jobs)
        plan = self._plan(model, draws, tune, chains, seed, n_jobs)
        parts = _parts(cascades, ends)
        run = {"data": cascades.fingerprint, "seed": plan.seed, "settings": plan.settings}

        def saved(name: str, j: int) -> list[Checkpoint] | None:
            if checkpoint is None:
                return None
            folder = _interval_folder(checkpoint, name, j)
            return open_checkpoints(folder, run, chains, checkpoint_every, resume)

        if checkpoint is not None:
            saved("filter", 0)  # a folder that will not do is an error before the pilots
        show = sys.stderr.isatty() if progress is None else progress
        past = filtering.Past.none(cascades.n_nodes, chains)
        delta, kappa, tried = self._choose(parts, ends, plan, show)
        settings = plan.settings | {"forgetting_used": delta, "support_used": kappa}
        plan = dataclasses.replace(plan, settings=settings)
        deltas = self._deltas(ends, delta)
        sweeps = len(parts) * plan.later.sweeps * (1 + self.smooth) + tune
        with _chains.Progress(chains * sweeps, show) as bar:
            found = list(
                filtering.run_filter(
                    past, None, parts, deltas, kappa, plan, bar, lambda j: saved("filter", j)
                )
            )
            if self.smooth and len(found) == len(parts):
                found = self._smooth(
                    found, parts, deltas, kappa, plan, bar, lambda j: saved("smoother", j)
                )
        if not found:
            raise KeyboardInterrupt(NOTHING)
        self.posterior_ = DynamicPosterior(
            settings=settings | {"interrupted": len(found) < len(parts)},
            ends=ends[: len(found) + 1],
            posteriors=[interval.posterior for interval in found],
            ahead=[interval.ahead for interval in found],
            past=found[-1].past,
            tried=tried,
        )
        _warn_unmixed(self.posterior_, len(found))
        return self

    def partial_fit(
        self,
        cascades: Cascades,
        progress: bool | None = None,
        n_jobs: int | None = None,
        keep: int | None = None,
    ) -> DynamicCoupledHDP:
        """Advance by what has happened since, without the old data.

        Parameters
        ----------
        cascades : Cascades
            Cascades that start after the last interval, of known nodes. Where `interval` is a
            width, time goes on in intervals of that width, empty ones included; otherwise the
            new cascades make one interval.
        progress : bool, optional
            Show a progress bar; by default where stderr is a terminal.
        n_jobs : int, optional
            Threads, one chain each; by default as many as there are cores.
        keep : int, optional
            Number of the latest intervals whose posteriors are kept; all by default.

        Returns
        -------
        DynamicCoupledHDP

        Raises
        ------
        ValueError
            A cascade that starts before the end of the last interval, an unknown node.
        """
        for name, value in (("keep", keep), ("n_jobs", n_jobs)):
            if value is not None:
                check_count(name, value, 1)
        if not hasattr(self, "posterior_"):
            raise ValueError("partial_fit needs a posterior to go on from; expected a call of fit")
        old = self.posterior_
        model = self._model(cascades)
        cascades = old.adopt(cascades)
        ends = self._next_ends(cascades.start, float(old.ends[-1]))
        parts = _parts(cascades, ends)
        settings = old.settings
        names = ("draws", "tune", "chains")
        seed, jobs = old.provenance["seed"], (os.cpu_count() or 1) if n_jobs is None else n_jobs
        plan = self._plan(model, *(settings[name] for name in names), seed, jobs)
        plan = dataclasses.replace(plan, settings=settings)
        deltas = self._deltas(ends, settings["forgetting_used"])
        show = sys.stderr.isatty() if progress is None else progress
        sweeps = settings["chains"] * len(parts) * plan.later.sweeps
        with _chains.Progress(sweeps, show) as bar:
            found = list(
                filtering.run_filter(
                    old.past,
                    old.posteriors[-1],
                    parts,
                    deltas,
                    settings["support_used"],
                    plan,
                    bar,
                )
            )
        if len(found) < len(parts):  # all or nothing: what was left out could not be added later
            raise KeyboardInterrupt("stopped before the new cascades were learnt from")
        self.posterior_ = old.extended(found, ends[1:], keep)
        _warn_unmixed(self.posterior_, len(found))
        return self

    def edges(self, interval: int | None = None, top: int | None = None) -> pd.DataFrame:
        """Edge table of one interval or all, see :meth:`cascadenet.DynamicPosterior.edges`."""
        if not hasattr(self, "posterior_"):
            raise ValueError(
                "this DynamicCoupledHDP is not fitted; expected a call of fit before edges"
            )
        return self.posterior_.edges(interval=interval, top=top)

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings()
        if isinstance(self.interval, (Sequence, np.ndarray)):
            settings["interval"] = np.asarray(self.interval, float).tolist()
        return settings

    def _model(self, cascades: Cascades) -> Model:
        """Check the settings against each other and the data."""
        model = super()._model(cascades)
        check_interval(self.interval, self.n_intervals, self.equal)
        for name, high in (("forgetting", 1.0), ("support", np.inf), ("structure", 1.0)):
            value = getattr(self, name)
            if value == "auto" and name != "structure":
                continue
            if not _is_number(value) or not 0.0 <= value <= high:
                limit = "lie in [0, 1]" if high == 1.0 else "be non-negative"
                more = "" if name == "structure" else " or be 'auto'"
                raise ValueError(f"{name} must {limit}{more}; got {value!r}")
        if self.half_life is not None:
            if not _is_number(self.half_life) or not 0.0 < self.half_life < np.inf:
                raise ValueError(f"half_life must be positive and finite; got {self.half_life!r}")
        for name in ("switch", "smooth"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise ValueError(f"{name} must be True or False; got {getattr(self, name)!r}")
        return dataclasses.replace(model, switch=bool(self.switch))

    def _plan(
        self, model: Model, draws: int, tune: int, chains: int, seed: int, n_jobs: int
    ) -> filtering.Plan:
        networks = max(self.network_draws // chains, 1)
        sampling = {"draws": draws, "tune": tune, "chains": chains}
        return filtering.Plan(
            model=model,
            first=_chains.Schedule(2 * tune, draws, networks, 2 * tune // HOLD_SHARE),
            later=_chains.Schedule(tune, draws, networks, 0),
            max_candidates=self.max_candidates,
            structure=float(self.structure),
            seed=seed,
            stream=FILTER,
            n_jobs=n_jobs,
            settings=self._settings() | sampling,
        )

    def _deltas(self, ends: np.ndarray, delta: float) -> list[float]:
        """Share that each interval hands on."""
        if self.half_life is None:
            return [delta] * (ends.size - 1)
        return [float(2.0 ** (-width / self.half_life)) for width in np.diff(ends)]

    def _next_ends(self, start: np.ndarray, last: float) -> np.ndarray:
        """Ends of the intervals that new cascades make."""
        if start.min() < last:
            raise ValueError(
                f"cascades must start after the last interval, which ends at {last:g}; got one "
                f"that starts at {start.min():g}"
            )
        if isinstance(self.interval, numbers.Real):
            count = int(np.floor((start.max() - last) / self.interval)) + 1
            return last + np.arange(count + 1) * float(self.interval)
        return np.array([last, np.nextafter(max(float(start.max()), last), np.inf)])

    def _choose(
        self, parts: list[Cascades | None], ends: np.ndarray, plan: filtering.Plan, show: bool
    ) -> tuple[float, float, list[dict[str, float]]]:
        """Forgetting and support, and what was tried of those left open.

        One is varied at a time, until neither changes. All runs share their random numbers.
        """
        open_delta = self.half_life is None and self.forgetting == "auto"
        open_kappa = self.support == "auto"
        deltas = FORGETTING if open_delta else (_number(self.forgetting, 1.0),)
        kappas = SUPPORT if open_kappa else (_number(self.support, 0.0),)
        delta, kappa = deltas[len(deltas) // 3], kappas[len(kappas) // 2]
        score: dict[tuple[float, float], float] = {}
        if len(parts) < 2 or not (open_delta or open_kappa):
            return delta, kappa, []
        plan = dataclasses.replace(
            plan,
            first=_chains.Schedule(2 * PILOT, PILOT, PILOT, 2 * PILOT // HOLD_SHARE),
            later=_chains.Schedule(PILOT, PILOT, PILOT, 0),
            stream=PILOTS,
        )

        def ahead(delta: float, kappa: float) -> float:
            if (delta, kappa) not in score:
                score[delta, kappa] = self._pilot(parts, ends, plan, delta, kappa, show)
            return score[delta, kappa]

        while True:
            before = delta, kappa
            delta = max(deltas, key=lambda d: ahead(d, before[1]))
            kappa = max(kappas, key=lambda k: ahead(delta, k))
            if (delta, kappa) == before:
                break
        names = ("forgetting", "support", "log_predictive")
        tried = [dict(zip(names, (*at, score[at]), strict=True)) for at in sorted(score)]
        return delta, kappa, tried

    def _pilot(
        self,
        parts: list[Cascades | None],
        ends: np.ndarray,
        plan: filtering.Plan,
        delta: float,
        kappa: float,
        show: bool,
    ) -> float:
        """Log predictive density of every interval's cascades given the intervals before."""
        n_nodes = next(part for part in parts if part is not None).n_nodes
        past = filtering.Past.none(n_nodes, 1)
        title = f"trying forgetting {delta:g}, support {kappa:g}"
        with _chains.Progress(len(parts) * plan.later.sweeps, show, title) as bar:
            run = filtering.run_filter(
                past, None, parts, self._deltas(ends, delta), kappa, plan, bar
            )
            ahead = [interval.ahead for interval in run]
            if bar.stopped:  # a score of some intervals would win against those of all
                raise KeyboardInterrupt("stopped while forgetting and support were chosen")
        return float(sum(table["log_predictive"].sum() for table in ahead if table is not None))

    def _smooth(
        self,
        found: list[filtering.Interval],
        parts: list[Cascades | None],
        deltas: list[float],
        kappa: float,
        plan: filtering.Plan,
        bar: _chains.Progress,
        saved: Callable[[int], list[Checkpoint] | None],
    ) -> list[filtering.Interval]:
        """Sample all intervals again, each given all the others; the filter's past stays last."""
        plan = dataclasses.replace(plan, stream=SMOOTHER)
        again: list[filtering.Interval] = []
        pasts = filtering.smoothed_pasts(found, deltas)
        for j, (interval, past, part) in enumerate(zip(found, pasts, parts, strict=True)):
            if part is None:
                posterior = filtering.forecast(interval.posterior, past, kappa)
            else:
                given = filtering.prior_of(past, part, plan, kappa)
                sampled = filtering.step(past, part, given, plan, bar, saved(j))
                if sampled is None:
                    return again
                posterior = sampled[0]
            again.append(dataclasses.replace(interval, posterior=posterior))
        return again


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))


def _number(value: float | str, otherwise: float) -> float:
    return otherwise if isinstance(value, str) else float(value)


def _parts(cascades: Cascades, ends: np.ndarray) -> list[Cascades | None]:
    """Cascades of each interval, None where it has none."""
    which = members(cascades.start, ends)
    rows = [np.flatnonzero(which == j) for j in range(ends.size - 1)]
    return [cascades.subset(row) if row.size else None for row in rows]


def _interval_folder(checkpoint: str | os.PathLike[str], name: str, j: int) -> Path:
    return Path(checkpoint) / f"{name}-{j:04d}"


def _warn_unmixed(posterior: DynamicPosterior, latest: int) -> None:
    """Tell the user of late intervals whose diagnostics are not what one should ask for."""
    bad = []
    count = len(posterior.posteriors)
    for j in range(max(count - latest, 0), count):
        table = posterior.posteriors[j].diagnostics()
        if ((table["rhat"] > RHAT_LIMIT) | (table["ess_bulk"] < ESS_LIMIT)).any():
            bad.append(posterior.first_interval + j)
    if bad:
        shown = ", ".join(map(str, bad[:8])) + (" and more" if len(bad) > 8 else "")
        warnings.warn(
            f"the chains have not mixed in every respect in {len(bad)} of "
            f"{latest} intervals ({shown}); expected R-hat <= {RHAT_LIMIT} and "
            f"ESS >= {ESS_LIMIT} of every scalar: raise tune and draws, or run more chains",
            UserWarning,
            stacklevel=3,
        )
