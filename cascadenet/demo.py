"""A demonstration that needs neither a file nor a network connection: `run_demo`.

Cascades are simulated on a network drawn from the model, with communities that are known; the
network is inferred from the cascades and compared with the truth, next to simpler methods. The
functions that make a folder whole or not at all are here too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from cascadenet.cascades import Cascades
    from cascadenet.networks import ModelTruth
    from cascadenet.posterior import Posterior

__all__ = ["DemoResult", "check_folder", "folder_made_whole", "free_name", "run_demo"]

FOLDER = "cascadenet-demo"
N_NODES, N_COMMUNITIES, N_DRAWS = 150, 4, 1500
# Small tau: each community has few senders and receivers. Large gamma: all have their own.
SHAPE = {"tau": 8.0, "gamma": 3000.0, "concentration": 50.0}
N_CASCADES, HORIZON = 300, 1.5
SWEEPS = {"draws": 500, "tune": 150, "chains": 4}
TRACES = ("log_joint", "Lambda", "b", "tau", "n_communities", "entropy")


@dataclass(frozen=True)
class DemoResult:
    """What `run_demo` found.

    Attributes
    ----------
    folder : Path
        Where tables and pictures are.
    scores : DataFrame
        One row a method: ``method``; ``auprc``, ``best_f1``, ``roc_auc`` of the edges;
        ``unused_auc``, ROC AUC over the pairs that no infection went along; ``seconds``,
        compilation included where it was needed.
    communities : DataFrame
        One row a role, sender and receiver: ``role``; ``nodes`` that have it in the true network;
        ``true`` and ``found`` communities among them; ``adjusted_rand`` and ``ami`` between the
        two partitions of these nodes.
    network : DataFrame
        The true network: source, target, rate.
    cascades : Cascades
    posterior : Posterior
    seed : int
    """

    folder: Path
    scores: pd.DataFrame
    communities: pd.DataFrame
    network: pd.DataFrame
    cascades: Cascades
    posterior: Posterior
    seed: int


@dataclass(frozen=True)
class _Data:
    """Simulated cascades and all that is known about them."""

    network: pd.DataFrame
    truth: ModelTruth
    cascades: Cascades
    used: pd.DataFrame  # pairs that an infection went along


@dataclass(frozen=True)
class _Estimate:
    """Result of one method.

    ``ranking`` is what it says about pairs no infection went along, ``edges`` unless it has better.
    """

    edges: pd.DataFrame
    ranking: pd.DataFrame
    seconds: float


def run_demo(
    folder: str | os.PathLike[str] | None = None,
    seed: int = 1,
    jobs: int | None = None,
    *,
    draws: int = SWEEPS["draws"],
    tune: int = SWEEPS["tune"],
    chains: int = SWEEPS["chains"],
    progress: bool | None = None,
    report: Callable[[str], None] | None = None,
) -> DemoResult:
    """Simulate cascades on a network with communities, infer it, and say how well that went.

    Parameters
    ----------
    folder : path, optional
        New folder for tables and pictures, made whole or not at all. By default
        ``cascadenet-demo`` here, or ``cascadenet-demo-2`` and so on where that exists.
    seed : int
        Determines data and inference.
    jobs : int, optional
        Threads; as many as there are cores by default.
    draws, tune, chains : int
        Length and number of chains.
    progress : bool, optional
        Show progress bars; by default where stderr is a terminal.
    report : callable, optional
        Called with a line of text at the start of every step.

    Returns
    -------
    DemoResult

    Raises
    ------
    FileExistsError, FileNotFoundError, PermissionError
        ``folder`` is there already or cannot be made.
    """
    path = free_name(FOLDER) if folder is None else Path(folder)
    check_folder(path)
    say = report or (lambda line: None)
    data = _simulate(seed)
    n_cascades, n_infections = data.cascades.n_cascades, data.cascades.n_infections
    say(
        f"simulated {n_cascades} cascades with {n_infections} infections on a network of "
        f"{N_NODES} nodes and {len(data.network)} edges"
    )
    options = {"draws": draws, "tune": tune, "chains": chains, "seed": seed}
    posterior, estimates = _fit_all(data, options | {"n_jobs": jobs, "progress": progress}, say)
    scores = _scores(data, estimates)
    communities = _compare_communities(data, posterior)
    say("writing tables and pictures")
    with folder_made_whole(path) as partial:
        _write_tables(partial, data, posterior, scores)
        _draw_pictures(partial, data, posterior, estimates)
    return DemoResult(path, scores, communities, data.network, data.cascades, posterior, seed)


def _simulate(seed: int) -> _Data:
    """Network with communities, and cascades on it; who infected whom is kept for scoring."""
    from cascadenet.simulate import model_network, simulate_cascades

    network_rng, cascade_rng = np.random.default_rng(seed).spawn(2)
    network, truth = model_network(N_NODES, N_COMMUNITIES, N_DRAWS, **SHAPE, seed=network_rng)
    simulated = simulate_cascades(network, N_CASCADES, horizon=HORIZON, seed=cascade_rng)
    return _Data(network, truth, simulated.cascades, simulated.transmissions())


def _fit_all(
    data: _Data, options: dict[str, Any], say: Callable[[str], None]
) -> tuple[Posterior, dict[str, _Estimate]]:
    """Posterior of the model, and what each method estimates, by the name to show."""
    from cascadenet.inference import CoOccurrence, CoupledHDP, NetRate

    estimates = {}
    sweeps = f"{options['chains']} chains of {options['tune'] + options['draws']} sweeps"
    say(f"fitting CoupledHDP, {sweeps}")
    model, seconds = _timed(lambda: CoupledHDP().fit(data.cascades, **options))
    posterior = model.posterior_
    estimates["CoupledHDP"] = _Estimate(model.edges(), _predicted(posterior), seconds)
    if posterior.settings["interrupted"]:
        raise KeyboardInterrupt("the demonstration was stopped")
    say("fitting the same without communities (flat prior), NetRate and CoOccurrence")
    others: dict[str, Callable[[], Any]] = {
        "flat prior": lambda: CoupledHDP(prior="flat").fit(data.cascades, **options),
        "NetRate": lambda: NetRate().fit(data.cascades),
        "CoOccurrence": lambda: CoOccurrence().fit(data.cascades),
    }
    for name, fit in others.items():
        with warnings.catch_warnings():
            # how well the chains mix is said of the model on show only
            warnings.simplefilter("ignore", UserWarning)
            fitted, seconds = _timed(fit)
        edges = fitted.edges()
        estimates[name] = _Estimate(edges, edges, seconds)
    return posterior, estimates


def _timed(fit: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    return fit(), time.perf_counter() - begin


def _predicted(posterior: Posterior) -> pd.DataFrame:
    """Predictive probability of all pairs of different nodes."""
    source, target = np.nonzero(~np.eye(posterior.n_nodes, dtype=bool))
    prob = posterior.predictive_matrix()[source, target]
    return posterior.pair_frame(source, target, prob=prob)


def _scores(data: _Data, estimates: dict[str, _Estimate]) -> pd.DataFrame:
    import pandas as pd

    from cascadenet.metrics import score_edges

    rows = []
    for name, estimate in estimates.items():
        score = score_edges(estimate.edges, data.network, data.cascades)
        unused = score_edges(estimate.ranking, data.network, data.cascades, exclude=data.used)
        row = {"method": name, "auprc": score.auprc, "best_f1": score.best_f1}
        row |= {"roc_auc": score.roc_auc, "unused_auc": unused.roc_auc}
        rows.append(row | {"seconds": estimate.seconds})
    return pd.DataFrame(rows)


def _true_communities(data: _Data, role: str) -> tuple[np.ndarray, np.ndarray]:
    """Most probable community of every node in a role, and whether it has that role at all."""
    share = data.truth.sender if role == "sender" else data.truth.receiver
    community = (data.truth.weight[:, None] * share).argmax(axis=0)
    ends = data.network["source" if role == "sender" else "target"]
    return community, np.isin(np.arange(N_NODES), ends)


def _compare_communities(data: _Data, posterior: Posterior) -> pd.DataFrame:
    """Agreement of the point partition with the truth, over nodes that have edges in it."""
    import pandas as pd

    from cascadenet.metrics import community_agreement

    table = posterior.communities()
    rows = []
    for role in ("sender", "receiver"):
        true, has_role = _true_communities(data, role)
        true, found = true[has_role], table[role].to_numpy()[has_role]
        agreement = community_agreement(found, true)
        row = {"role": role, "nodes": true.size, "true": np.unique(true).size}
        row |= {"found": np.unique(found[found > 0]).size}
        rows.append(row | {name: agreement[name] for name in ("adjusted_rand", "ami")})
    return pd.DataFrame(rows)


def _write_tables(folder: Path, data: _Data, posterior: Posterior, scores: pd.DataFrame) -> None:
    from cascadenet.readers import write_network

    data.cascades.to_csv(folder / "cascades.csv")
    write_network(data.network, folder / "truth.csv")
    communities = posterior.communities()
    for role in ("sender", "receiver"):
        true, has_role = _true_communities(data, role)
        communities[f"true_{role}"] = np.where(has_role, true + 1, 0)
    tables = {"edges": posterior.edges(), "scores": scores, "communities": communities}
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    (folder / "run").mkdir()
    posterior.save(folder / "run")


def _draw_pictures(
    folder: Path, data: _Data, posterior: Posterior, estimates: dict[str, _Estimate]
) -> None:
    import matplotlib.pyplot as plt

    from cascadenet import plotting

    tables = {name: estimate.edges for name, estimate in estimates.items()}
    nodes, truth, edges = data.cascades.nodes, data.network, tables["CoupledHDP"]
    pictures: dict[str, Callable[[], Any]] = {
        "predictive": lambda: plotting.plot_predictive(posterior, truth=truth),
        "probabilities": lambda: plotting.plot_edge_probabilities(edges, data.used, nodes),
        "recovery": lambda: plotting.plot_recovery(tables, truth, nodes),
        "traces": lambda: plotting.plot_traces(posterior, TRACES),
        "ranks": lambda: plotting.plot_ranks(posterior, TRACES),
    }
    for name, draw in pictures.items():
        axes = draw()
        plotting.save_figure(axes, folder / f"{name}.png")
        plt.close(np.ravel(axes)[0].get_figure())


# -- folders ------------------------------------------------------------------------------------


def free_name(path: str | os.PathLike[str]) -> Path:
    """The path, or the first of path-2, path-3, ... that nothing, or an empty folder, has."""
    path = Path(path)
    place, number = path, 1
    while place.exists() and not (place.is_dir() and not any(place.iterdir())):
        number += 1
        place = path.with_name(f"{path.name}-{number}")
    return place


def check_folder(path: str | os.PathLike[str], replaces: str | None = None) -> Path:
    """Check that a new folder can be made, before the work that fills it.

    Parameters
    ----------
    path : path
        Nothing, or an empty folder, may be there.
    replaces : str, optional
        A folder that holds a file of this name may be there as well.

    Returns
    -------
    Path
        Absolute, links resolved.

    Raises
    ------
    FileExistsError, NotADirectoryError, FileNotFoundError, PermissionError
    """
    place = Path(path).resolve()
    if place.exists() and not place.is_dir():
        raise FileExistsError(f"{path} is a file; expected the name of a new folder")
    if place.is_dir() and any(place.iterdir()):
        if replaces is None:
            raise FileExistsError(f"{path} exists and is not empty")
        if not (place / replaces).is_file():
            raise FileExistsError(f"{path} has no {replaces}: it is not replaced")
    if not place.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {place.parent}")
    try:
        os.rmdir(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    except OSError as error:
        # the name in the error is that of the attempt
        raise PermissionError(f"cannot write in {place.parent}: {error.strerror}") from None
    return place


@contextlib.contextmanager
def folder_made_whole(path: str | os.PathLike[str], replaces: str | None = None) -> Iterator[Path]:
    """Temporary folder beside ``path`` that takes its place once the block has succeeded.

    Arguments and errors are those of `check_folder`. What is replaced goes last; on failure the
    temporary folder is removed and all else is as it was.
    """
    place = check_folder(path, replaces)
    partial = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        yield partial
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o777 & ~mask)
        _take_place(partial, place)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _take_place(partial: Path, place: Path) -> None:
    """Rename one folder to the other, which may be there."""
    if not place.exists():
        partial.rename(place)
        return
    old = partial.with_name(f"{partial.name}.old")
    place.rename(old)
    try:
        partial.rename(place)
    except BaseException:
        old.rename(place)
        raise
    shutil.rmtree(old)
