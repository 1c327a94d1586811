"""CoupledHDP: the posterior of a static network given cascades."""

from __future__ import annotations

import numbers
import os
import secrets
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.cascades import Cascades
from cascadenet.delays import Delay, get_delay
from cascadenet.edge_sums import EdgeSums
from cascadenet.inference import chains as _chains
from cascadenet.inference import parents
from cascadenet.inference.checkpoint import Checkpoint, open_checkpoints, saved_seed
from cascadenet.inference.dynamics.memory import Carried
from cascadenet.inference.layout import Layout, build_layout
from cascadenet.inference.rates import blocks
from cascadenet.inference.remote import check_client, run_remote_chains
from cascadenet.inference.sampler import Model
from cascadenet.inference.sharded.run import check_shardable, run_sharded_chains
from cascadenet.posterior import Posterior

if TYPE_CHECKING:
    import pandas as pd

LIKELIHOODS = ("survival", "tree")
PRIORS = ("hdp", "flat")
RHAT_LIMIT = 1.01
ESS_LIMIT = 400
HOLD_SHARE = 3  # concentrations are held for this fraction (one over) of tuning


class CoupledHDP:
    """Network inference from cascades with a mixture of coupled hierarchical Dirichlet processes.

    Every ordered pair of nodes has a transmission rate; the rates' prior is a gamma process whose
    base measure is a network with communities of senders and receivers. Parents of infections,
    rates, communities and all concentrations are sampled together.

    Parameters
    ----------
    likelihood : {"survival", "tree"}
        ``"survival"``: competing hazards, where not being infected counts as evidence too.
        ``"tree"``: one spanning tree a cascade, weighted by edge probabilities and delays.
    delay : str or Delay
        Delay model, see :mod:`cascadenet.delays`.
    prior : {"hdp", "flat"}
        ``"flat"`` gives all pairs the same prior: the reference for what communities add.
    null_community : bool
        One more community, uniform over all pairs, takes the edges that no other explains.
    truncation : int
        Number of communities to start from; doubled during tuning whenever more than 80% are
        occupied.
    background : bool
        Let infections come from outside the network. Advisable on real data.
    balance_exposure : bool
        Correct the communities for pairs having been watched for different times. ``False`` is
        faster and approximate.
    open_world : bool or float
        Reserve prior mass for nodes never seen: ``True`` for 1/(N + 1), or the mass itself.
    max_candidates : int, optional
        A node stops acting once so many later infections have followed it in a cascade.
    network_draws : int
        Draws of the whole network that are kept, over all chains, for predictions.

    Attributes
    ----------
    posterior_ : Posterior
        After :meth:`fit`.

    References
    ----------
    Ghalebi, Mirzasoleiman, Grosu, Leskovec (2018), Dynamic network model from partial
    observations, NeurIPS. Williamson (2016), Nonparametric network models for link prediction,
    JMLR 17. Gomez-Rodriguez, Balduzzi, Schoelkopf (2011), Uncovering the temporal dynamics of
    diffusion networks, ICML.

    Examples
    --------
    >>> import cascadenet as cn
    >>> network = cn.simulate.community_network(2, 10, within=0.4, between=0.0, seed=1)
    >>> data = cn.simulate.simulate_cascades(network, 50, horizon=2.0, seed=1).cascades
    >>> fit = cn.CoupledHDP().fit(data, draws=20, tune=20, chains=1, seed=1, progress=False)
    >>> list(fit.edges().columns[:3])
    ['source', 'target', 'prob']
    """

    def __init__(
        self,
        likelihood: str = "survival",
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
        self.likelihood = likelihood
        self.delay = delay
        self.prior = prior
        self.null_community = null_community
        self.truncation = truncation
        self.background = background
        self.balance_exposure = balance_exposure
        self.open_world = open_world
        self.max_candidates = max_candidates
        self.network_draws = network_draws

    def fit(
        self,
        cascades: Cascades,
        draws: int = 1000,
        tune: int = 1000,
        chains: int = 4,
        seed: int | None = None,
        n_jobs: int | None = None,
        progress: bool | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        checkpoint_every: float = 60.0,
        client: Any = None,
        shards: int | None = None,
    ) -> CoupledHDP:
        """Sample the posterior.

        Parameters
        ----------
        cascades : Cascades
            The data, at least one infection and two nodes.
        draws, tune : int
            Sweeps of each chain that are recorded, and before them those that are not.
        chains : int
            Number of chains.
        seed : int, optional
            Determines every byte of the result, whatever ``n_jobs``. Drawn from the operating
            system when not given, and kept in the posterior's provenance.
        n_jobs : int, optional
            Threads, one chain each, or with ``shards`` several for each; by default as many as
            there are cores.
        progress : bool, optional
            Show a progress bar; by default where stderr is a terminal.
        checkpoint : path, optional
            Folder for checkpoints of the chains. A run that was killed goes on from there with
            ``resume=True`` and ends with the same bytes as one that was not.
        resume : bool
            Go on with the run in ``checkpoint``; data and settings must be the same, and the
            seed where one is given.
        checkpoint_every : float
            Seconds between two checkpoints of a chain.
        client : dask.distributed.Client or other object with a method ``submit``, optional
            Run the chains on its workers, each chain on one of them. The result is the same as
            without it, whatever their number and even if some are lost meanwhile.
        shards : int, optional
            Cut each chain into so many shards of nodes, which are worked on in threads or by the
            workers of the client. The result depends on it. At least the number of threads or
            workers, better several times that. Not with ``checkpoint``.

        Returns
        -------
        CoupledHDP

        Raises
        ------
        TypeError
            ``client`` has no method ``submit``.
        ValueError
            Settings out of range, or not to be had in shards.
        RuntimeError
            All workers of a cluster are lost and none comes back.
        FormatError
            Data the delay model cannot explain; a damaged checkpoint or one of another run.
        OSError
            ``checkpoint`` cannot be written to, or holds a run and ``resume`` is false.

        Warns
        -----
        UserWarning
            The chains have not mixed: R-hat above 1.01 or fewer than 400 effective draws.
        """
        model = self._model(cascades)
        if resume and checkpoint is None:
            raise ValueError("resume=True needs checkpoint=, the folder of the run; got none")
        given = saved_seed(checkpoint) if resume and seed is None else seed
        draws, tune, chains, seed, n_jobs = check_sampling(draws, tune, chains, given, n_jobs)
        settings = self._settings() | {"draws": draws, "tune": tune, "chains": chains}
        if shards is not None:
            settings["shards"] = _check_shards(model, shards, client, checkpoint, cascades)
        check_client(client)
        run = {"data": cascades.fingerprint, "seed": seed, "settings": settings}
        saved = checkpoint and open_checkpoints(checkpoint, run, chains, checkpoint_every, resume)
        run_chains = _runner(shards, client, n_jobs, saved)
        self.posterior_ = self._sample(cascades, model, settings, seed, run_chains, progress)
        _warn_unmixed(self.posterior_)
        return self

    def _sample(
        self,
        cascades: Cascades,
        model: Model,
        settings: dict[str, Any],
        seed: int,
        run_chains: Callable[..., Any],
        progress: bool | None,
    ) -> Posterior:
        """Run the chains, wherever ``run_chains`` does."""
        tune, draws, chains = settings["tune"], settings["draws"], settings["chains"]
        layout = build_layout(
            cascades, background=self.background, max_candidates=self.max_candidates
        )
        model = replace(model, parent_rounds=parents.rounds(layout))
        schedule = _chains.Schedule(
            tune, draws, max(self.network_draws // chains, 1), tune // HOLD_SHARE
        )
        starts = [_chains.Start(child) for child in np.random.SeedSequence(seed).spawn(chains)]
        show = sys.stderr.isatty() if progress is None else progress
        with _chains.Progress(chains * schedule.sweeps, show) as bar:
            records, interrupted = run_chains(layout, model, schedule, starts, progress=bar)
        settings["interrupted"] = interrupted
        records = _same_length(records) if interrupted else records
        return collect(cascades, layout, model, records, settings, seed)

    def edges(self, pairs: Any = None, top: int | None = None) -> pd.DataFrame:
        """Edge table of the posterior, see :meth:`cascadenet.Posterior.edges`."""
        if not hasattr(self, "posterior_"):
            raise ValueError("this CoupledHDP is not fitted; expected a call of fit before edges")
        return self.posterior_.edges(pairs=pairs, top=top)

    def _settings(self) -> dict[str, Any]:
        settings = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in vars(self).items()
            if name != "posterior_"
        }
        settings["delay"] = get_delay(self.delay).name
        return settings

    def _model(self, cascades: Cascades) -> Model:
        """Check the settings against each other and the data."""
        if not isinstance(cascades, Cascades):
            raise TypeError(f"cascades must be a Cascades; got {type(cascades).__name__}")
        _check_choice("likelihood", self.likelihood, LIKELIHOODS)
        _check_choice("prior", self.prior, PRIORS)
        check_count("truncation", self.truncation, 2)
        check_count("network_draws", self.network_draws, 1)
        if self.max_candidates is not None:
            check_count("max_candidates", self.max_candidates, 1)
        for name in ("null_community", "background", "balance_exposure"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise ValueError(f"{name} must be True or False; got {getattr(self, name)!r}")
        if self.background and self.likelihood == "tree":
            raise ValueError(
                "background=True needs likelihood='survival': a spanning tree has one root"
            )
        return Model(
            delay=get_delay(self.delay),
            likelihood=self.likelihood,
            prior=self.prior,
            null_community=bool(self.null_community),
            truncation=self.truncation,
            background=bool(self.background),
            balance_exposure=bool(self.balance_exposure),
            reserve=_reserve(self.open_world, cascades.n_nodes),
        )


def _reserve(open_world: object, n_nodes: int) -> float:
    """Base mass of nodes never seen."""
    if isinstance(open_world, (bool, np.bool_)):
        return 1.0 / (n_nodes + 1) if open_world else 0.0
    if not isinstance(open_world, numbers.Real) or not 0.0 <= open_world < 1.0:
        raise ValueError(f"open_world must be a bool or lie in [0, 1); got {open_world!r}")
    return float(open_world)


def check_sampling(
    draws: int, tune: int, chains: int, seed: int | None, n_jobs: int | None
) -> tuple[int, int, int, int, int]:
    """The arguments of a fit, checked, the open ones filled in, none NumPy's (for JSON)."""
    seed = secrets.randbits(63) if seed is None else seed
    n_jobs = (os.cpu_count() or 1) if n_jobs is None else n_jobs
    for name, value in {"draws": draws, "chains": chains, "n_jobs": n_jobs}.items():
        check_count(name, value, 1)
    for name, value in {"tune": tune, "seed": seed}.items():
        check_count(name, value, 0)
    return int(draws), int(tune), int(chains), int(seed), int(n_jobs)


def _check_shards(
    model: Model, shards: int, client: Any, checkpoint: Any, cascades: Cascades
) -> int:
    """Number of shards of a chain, once all settings are known to go with it."""
    n_shards = check_shardable(model, shards, client)
    if checkpoint is not None:
        raise ValueError(
            "checkpoint must be None with shards; got a folder: chains in shards keep none, though "
            "a cluster survives the loss of workers"
        )
    return min(n_shards, cascades.n_nodes)


def _runner(
    shards: int | None, client: Any, n_jobs: int, checkpoints: list[Checkpoint] | None
) -> Callable[..., tuple[list[_chains.Record], bool]]:
    """Function that runs chains where they are to run."""
    if shards is not None:
        return partial(run_sharded_chains, n_jobs=n_jobs, shards=shards, client=client)
    if client is not None:
        return partial(run_remote_chains, client=client, checkpoints=checkpoints)
    return partial(_chains.run_chains, n_jobs=n_jobs, checkpoints=checkpoints)


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def check_count(name: str, value: object, least: int) -> None:
    """Raise ValueError unless a value is an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}; got {value!r}")


def _same_length(records: list[_chains.Record]) -> list[_chains.Record]:
    """After an interrupt: the chains that drew something, their scalars cut to one length."""
    drawn = [record for record in records if record.draws]
    if not drawn:
        raise KeyboardInterrupt("stopped before the first draw was recorded")
    length = min(record.draws for record in drawn)
    for record in drawn:
        record.scalars = {name: x[:length] for name, x in record.scalars.items()}
    return drawn


def collect(
    cascades: Cascades,
    layout: Layout,
    model: Model,
    records: list[_chains.Record],
    settings: dict[str, Any],
    seed: int,
    carried: Carried | None = None,
) -> Posterior:
    """Posterior from the chains' records; their largest arrays are released on the way.

    ``carried``: what the chains had from earlier intervals.
    """
    import cascadenet

    carried = Carried() if carried is None else carried
    carried.use(kept_share(records))

    draws = sum(record.draws for record in records)
    exposure = (
        _mean(records, "exposure_sum", draws)
        if model.delay.parameters
        else layout.exposure(model.delay, model.delay.default())[0]
    )
    exposure += carried.exposure  # either of these is ours
    unit = _chains.unused_unit(layout, model)
    sums = EdgeSums(
        draws=np.array([record.draws for record in records]),
        **_used_sums(records, unit),
        **_unused_moments(records),
        unused_unit=np.float64(unit),
        exposure=exposure,
        node_full=_mean(records, "full_sum", draws) + carried.node_exposure,
        carried=carried.n if carried.pairs else np.empty(0),
    )
    return Posterior(
        nodes=cascades.nodes,
        settings=settings,
        provenance={
            "cascadenet": cascadenet.__version__,
            "seed": seed,
            "data": cascades.fingerprint,
            "n_cascades": cascades.n_cascades,
            "n_infections": cascades.n_infections,
            "n_candidates": int(layout.cand_pair.size),
            "candidates_cut": layout.n_cut,
        },
        unit=layout.unit,
        scalars={
            name: np.stack([record.scalars[name] for record in records])
            for name in records[0].scalars
        },
        pair_source=layout.pair_source,
        pair_target=layout.pair_child,
        sums=sums,
        networks=[network for record in records for network in record.networks],
        network_chain=np.concatenate(
            [np.full(len(record.networks), c) for c, record in enumerate(records)]
        ),
    )


def _used_sums(records: list[_chains.Record], unit: float) -> dict[str, np.ndarray]:
    """What `EdgeSums` has of the pairs that carried an infection in some draw of some chain."""
    draws = sum(record.draws for record in records)
    used = np.unique(np.concatenate([record.used for record in records]))
    hits = np.zeros((len(records), used.size), np.int32)
    sums = {name: np.zeros(used.size) for name in ("n", "rate_hit", "square_hit")}
    sums |= {name: np.zeros(used.size) for name in ("rate_rest", "square_rest")}
    for own, record in zip(hits, records, strict=True):
        at = np.searchsorted(used, record.used)
        own[at] = record.hits
        found = record.n_sum, record.mean_hit, record.square_hit, record.mean_rest
        for total, values in zip(sums.values(), (*found, record.square_rest), strict=True):
            total[at] += values
        never = np.delete(np.arange(used.size), at)  # in this chain
        mean = unit * record.mean_unused[used[never]].astype(np.float64)
        variance = unit**2 * record.variance_unused[used[never]]
        sums["rate_rest"][never] += record.draws * mean
        sums["square_rest"][never] += record.draws * (mean**2 + variance)
    return {"used": used, "hits": hits} | {name: x / draws for name, x in sums.items()}


def _unused_moments(records: list[_chains.Record]) -> dict[str, np.ndarray]:
    """Mean and variance over all chains; their own are released, or are changed."""
    rate, variance = records[0].take("mean_unused"), records[0].take("variance_unused")
    draws = records[0].draws
    for record in records[1:]:
        others = record.take("mean_unused"), record.take("variance_unused")
        weight = record.draws / (draws + record.draws)
        draws += record.draws
        for block in blocks(rate.size):
            own, other, other_variance = rate[block], *(x[block] for x in others)
            change = other.astype(np.float64) - own
            variance[block] += weight * (
                other_variance - variance[block] + (1.0 - weight) * change**2
            )
            rate[block] += weight * change
    return {"rate_unused": rate, "variance_unused": variance}


def kept_share(records: list[_chains.Record]) -> np.ndarray:
    """Share of all draws in which each memory was in force, float64 (S, R)."""
    draws = sum(record.draws for record in records)
    return sum(record.kept_sum for record in records) / draws


def _mean(records: list[_chains.Record], name: str, draws: int) -> np.ndarray:
    """Mean of a running sum over all draws of all chains; the chains' own are released."""
    total = records[0].take(name)
    for record in records[1:]:
        total += record.take(name)
    total /= draws
    return total


def _warn_unmixed(posterior: Posterior) -> None:
    """Tell the user when the scalars' diagnostics are not what one should ask for."""
    table = posterior.diagnostics()
    bad = table[(table["rhat"] > RHAT_LIMIT) | (table["ess_bulk"] < ESS_LIMIT)]
    if bad.empty:
        return
    worst = ", ".join(
        f"{name} (R-hat {row.rhat:.2f}, ESS {row.ess_bulk:.0f})"
        for name, row in bad.head(4).iterrows()
    )
    more = f" and {len(bad) - 4} more" if len(bad) > 4 else ""
    warnings.warn(
        f"the chains have not mixed in every respect: {worst}{more}; expected R-hat <= "
        f"{RHAT_LIMIT} and ESS >= {ESS_LIMIT}: raise tune and draws, or run more chains",
        UserWarning,
        stacklevel=3,
    )
