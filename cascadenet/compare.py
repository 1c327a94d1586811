"""All methods on one data set: accuracy or held-out likelihood, CPU time and memory.

Each method is fitted in a fresh process with one thread: its peak memory is then its own. It first
fits a few made-up cascades, so that compiling is neither timed nor in the memory.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.cascades import Cascades
from cascadenet.metrics import score_edges
from cascadenet.networks import whole_number

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["DELAYS", "METHODS", "compare", "plot_comparison", "run_job"]

METHODS = (
    "CoOccurrence",
    "NetRate",
    "NetInf",
    "InfoPath",
    "CoupledHDP, flat prior",
    "CoupledHDP",
)
DELAYS = ("exponential", "rayleigh")  # no parameters: the same delays for all methods
UNIFORM = "one rate for all pairs"

MARKERS = ("o", "s", "D", "^", "v", "P")
LEAST_SECONDS = 1e-3  # shorter times are drawn here

TRAIN_SHARE = 0.8
WARM_UP_SWEEPS = 3
ONE_THREAD = ("MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
ACCURACY = {
    "auprc": "auprc",
    "roc_auc": "roc_auc",
    "best_f1": "best_f1",
    "f1_at_true": "f1_at_true",
    "precision_at_100": "p_at_100",
}
HELD_OUT = ("held_out", "held_out_se", "uniform_share")
# the interpreter looks for modules where this one did
_PROGRAM = (
    "import json, sys\n"
    "job = json.load(open(sys.argv[1], encoding='utf-8'))\n"
    "sys.path[:] = job['sys_path']\n"
    "from cascadenet.compare import run_job\n"
    "run_job(job)\n"
)


def compare(
    cascades: Cascades,
    truth: Any = None,
    *,
    methods: Sequence[str] | None = None,
    delay: str = "exponential",
    draws: int = 100,
    tune: int = 50,
    seed: int = 1,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Fit several methods to the same cascades, and table what they reach at what cost.

    Parameters
    ----------
    cascades : Cascades
        The data.
    truth : DataFrame, networkx.DiGraph or iterable of (source, target), optional
        The true network, among the nodes of the cascades.
    methods : sequence of str, optional
        Some of `METHODS`; all of them by default.
    delay : {"exponential", "rayleigh"}
        Delay model of all methods.
    draws, tune : int
        Sweeps of the one chain of ``CoupledHDP``.
    seed : int
        Determines chains, gradients and which cascades are held out.
    progress : bool, optional
        Show a progress bar; by default where stderr is a terminal.

    Returns
    -------
    DataFrame
        One row a method, ``method``. With `truth`, scores over all ordered pairs of nodes:
        ``auprc``, ``roc_auc``, ``best_f1``, ``f1_at_true``, ``p_at_100``. Without, ``held_out`` and
        its standard error ``held_out_se``, see the notes, and ``uniform_share``. Then ``edges``,
        the rows of the edge table; ``cpu_seconds`` of fit and edge table, one thread, without
        compilation; ``peak_mb``, largest resident memory of the process meanwhile, interpreter
        and libraries included (nan where the system does not tell). A method that cannot be fitted
        has nan, and a warning says why.

    Raises
    ------
    ValueError
        No such method or delay model; nodes of the truth unknown; too few cascades to hold out.
    TypeError
        Not cascades.

    Notes
    -----
    Settings are the defaults of the methods; NetInf chooses the number of its edges itself.

    Without a truth a fifth of the cascades, drawn at random, is held out. Their score is the
    survival log-likelihood of the rates in the edge tables, mixed with one rate for all pairs, per
    infection that is not the first of its cascade: see
    :func:`cascadenet.held_out.held_out_likelihood`. ``uniform_share`` is the share of the one rate,
    which alone is the last row. ``CoOccurrence`` has no rates, hence no score.
    """
    import pandas as pd
    from tqdm.auto import tqdm

    chosen = _checked_methods(methods)
    if delay not in DELAYS:
        raise ValueError(f"delay must be one of {', '.join(DELAYS)}; got {delay!r}")
    for name, value, least in (("draws", draws, 1), ("tune", tune, 0), ("seed", seed, 0)):
        whole_number(name, value, least)
    truth = _checked_data(cascades, truth)
    train, test = _split(cascades, seed) if truth is None else (cascades, None)
    job = {"delay": delay, "draws": draws, "tune": tune, "seed": seed}
    rows = []
    shown = tqdm(chosen, "comparing", disable=None if progress is None else not progress)
    for method in shown:
        shown.set_postfix_str(method)
        try:
            found, cost = _fit_apart(train, job | {"method": method})
        except ChildProcessError as error:
            warnings.warn(f"{method} could not be fitted: {error}", UserWarning, stacklevel=2)
            rows.append({"method": method})
            continue
        if test is None:
            result = _accuracy(found, truth, cascades)
        else:
            result = _held_out(found, train, test, delay)
        rows.append({"method": method} | result | {"edges": len(found)} | cost)
    if test is not None:
        rows.append({"method": UNIFORM} | _held_out(None, train, test, delay))
    results = HELD_OUT if truth is None else ACCURACY.values()
    columns = ["method", *results, "edges", "cpu_seconds", "peak_mb"]
    return pd.DataFrame(rows).reindex(columns=columns).astype({"edges": "Int64"})


def plot_comparison(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """What the methods reach against the CPU time they take.

    Parameters
    ----------
    table : DataFrame
        Result of `compare`.
    ax : Axes, optional
        Where to draw; on a new figure by default.

    Returns
    -------
    Axes
        Logarithmic CPU seconds against AUPRC, or held-out log-likelihood per infection with its
        standard error and, dashed, that of one rate for all pairs. Methods without a score are
        named below.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from cascadenet.plotting import LEGEND, PALETTE, QUIET, SMALL, _axes

    ax = _axes(ax, 6.4, 3.9)
    accuracy = "auprc" in table.columns
    score = "auprc" if accuracy else "held_out"
    points = table[table[score].notna() & table["cpu_seconds"].notna()]
    drawn: list[Any] = []
    for row in points.sort_values(score, ascending=False).to_dict("records"):
        own = METHODS.index(row["method"])
        point = ax.errorbar(
            max(row["cpu_seconds"], LEAST_SECONDS),
            row[score],
            row.get("held_out_se"),
            fmt=MARKERS[own],
            markersize=8,
            color=PALETTE[own],
            capsize=3,
            linestyle="none",
            label=row["method"],
        )
        drawn.append(point)
    uniform = table.loc[table["method"] == UNIFORM]
    if not accuracy and len(uniform):
        level = float(uniform["held_out"].iloc[0])
        line = {"color": QUIET, "linestyle": "--", "linewidth": 1.0, "zorder": 1}
        drawn.append(ax.axhline(level, label=UNIFORM, **line))
    ax.set_xscale("log")
    ax.margins(0.1)
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("CPU time (s)")
    ax.set_ylabel("AUPRC" if accuracy else "held-out log-likelihood\n(nats per infection)")
    if drawn:
        ax.legend(handles=drawn, loc="upper left", bbox_to_anchor=(1.03, 1.0), **LEGEND)
    left_out = table.loc[table[score].isna(), "method"].tolist()
    if left_out:
        note = f"without a score: {', '.join(left_out)}"
        ax.set_title(note, fontsize=SMALL, color=QUIET, loc="left")
    return ax


# -- one method, in a process of its own ------------------------------------------------------


def run_job(job: dict[str, Any]) -> None:
    """Fit one method and leave its edges, by node index, and its cost in a file.

    Parameters
    ----------
    job : dict
        ``method``, ``delay``, ``draws``, ``tune``, ``seed``; ``data`` and ``out``, files.
    """
    warnings.simplefilter("ignore")  # chains this short never mix; the table is what counts
    with np.load(job["data"], allow_pickle=False) as file:
        arrays = {name: file[name] for name in ("offset", "node", "time", "horizon")}
        n_nodes = int(file["n_nodes"])
    cascades = _unlabelled(n_nodes, **arrays)
    short = {"draws": WARM_UP_SWEEPS, "tune": WARM_UP_SWEEPS}
    _edges(_few_cascades(), job | short)
    _reset_peak()
    begin = time.process_time()
    edges = _edges(cascades, job)
    seconds = time.process_time() - begin
    columns = {name: edges[name].to_numpy() for name in ("source", "target", "prob", "n", "rate")}
    np.savez(job["out"], cpu_seconds=seconds, peak_mb=_peak_mb(), **columns)


def _edges(cascades: Cascades, job: dict[str, Any]) -> pd.DataFrame:
    """Edge table of the method with its default settings."""
    from cascadenet import inference

    name, delay = job["method"], job["delay"]
    if name.startswith("CoupledHDP"):
        prior = "flat" if "flat" in name else "hdp"
        model = inference.CoupledHDP(delay=delay, prior=prior)
        sweeps = {key: job[key] for key in ("draws", "tune", "seed")}
        return model.fit(cascades, chains=1, n_jobs=1, progress=False, **sweeps).edges()
    from cascadenet.inference import baselines

    if name == "CoOccurrence":
        return baselines.CoOccurrence().fit(cascades).edges()
    if name == "InfoPath":
        return baselines.InfoPath(delay).fit(cascades, seed=job["seed"], progress=False).edges()
    return getattr(baselines, name)(delay=delay).fit(cascades).edges()


def _few_cascades() -> Cascades:
    """Six nodes infected in twelve orders: enough to compile everything."""
    rng = np.random.default_rng(0)
    node = np.concatenate([rng.permutation(6) for _ in range(12)]).astype(np.int32)
    clock = np.tile(np.arange(6.0), 12) + rng.uniform(0.0, 0.5, 72)
    offset = np.arange(0, 78, 6)
    return _unlabelled(6, offset=offset, node=node, time=clock, horizon=np.full(12, 7.0))


def _unlabelled(n_nodes: int, **arrays: np.ndarray) -> Cascades:
    """Cascades whose labels are indices."""
    size = arrays["offset"].size - 1
    return Cascades(tuple(range(n_nodes)), tuple(range(size)), **arrays)


def _reset_peak() -> None:
    """Let the largest resident memory start anew, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _peak_mb() -> float:
    """Largest resident memory, MB; nan where the system does not tell."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024.0
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return math.nan
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _fit_apart(cascades: Cascades, job: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, float]]:
    """Edge table by node index, and cost, of a method fitted in a process of its own.

    Raises a ChildProcessError with the last line of what the process said.
    """
    import pandas as pd

    with tempfile.TemporaryDirectory(prefix="cascadenet-") as folder:
        data, out, order = (Path(folder) / name for name in ("in.npz", "out.npz", "job.json"))
        arrays = {name: getattr(cascades, name) for name in ("offset", "node", "time", "horizon")}
        np.savez(data, n_nodes=cascades.n_nodes, **arrays)
        places = [place or os.getcwd() for place in sys.path]
        files = {"data": str(data), "out": str(out), "sys_path": places}
        order.write_text(json.dumps(job | files), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-P", "-c", _PROGRAM, str(order)],
            env=os.environ | dict.fromkeys(ONE_THREAD, "1"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode != 0 or not out.is_file():
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise ChildProcessError(said[-1])
        with np.load(out, allow_pickle=False) as file:
            cost = {name: float(file[name]) for name in ("cpu_seconds", "peak_mb")}
            names = ("source", "target", "prob", "n", "rate")
            return pd.DataFrame({name: file[name] for name in names}), cost


# -- what is scored ---------------------------------------------------------------------------


def _checked_methods(methods: Sequence[str] | None) -> list[str]:
    """Names of methods, each once."""
    if methods is None:
        return list(METHODS)
    if isinstance(methods, str):
        raise TypeError(f"methods must be several names; got the text {methods!r}")
    chosen = list(dict.fromkeys(methods))
    for name in chosen:
        if name not in METHODS:
            raise ValueError(f"methods must be of {'; '.join(METHODS)}; got {name!r}")
    if not chosen:
        raise ValueError("methods must name at least one; got none")
    return chosen


def _checked_data(cascades: object, truth: Any) -> Any:
    """The truth, as something that can be read more than once; fails where scoring would."""
    import pandas as pd

    if not isinstance(cascades, Cascades):
        raise TypeError(f"cascades must be a Cascades; got {type(cascades).__name__}")
    if truth is None:
        return None
    if not hasattr(truth, "columns") and not hasattr(truth, "is_directed"):
        truth = list(truth)
    nothing = pd.DataFrame({"source": [], "target": [], "prob": np.empty(0)})
    score_edges(nothing, truth, cascades)
    return truth


def _accuracy(found: pd.DataFrame, truth: Any, cascades: Cascades) -> dict[str, float]:
    labels = np.asarray(cascades.nodes)
    ends = {name: labels[found[name].to_numpy(np.int64)] for name in ("source", "target")}
    scores = score_edges(found.assign(**ends), truth, cascades).as_dict()
    return {short: scores[name] for name, short in ACCURACY.items()}


def _split(cascades: Cascades, seed: int) -> tuple[Cascades, Cascades]:
    """Training and held-out cascades."""
    count = cascades.n_cascades
    n_train = round(TRAIN_SHARE * count)
    if n_train < 1 or count - n_train < 2:
        raise ValueError(f"without truth there must be at least 8 cascades; got {count}")
    order = np.random.default_rng(seed).permutation(count)
    return cascades.subset(np.sort(order[:n_train])), cascades.subset(order[n_train:])


def _held_out(
    found: pd.DataFrame | None, train: Cascades, test: Cascades, delay: str
) -> dict[str, float]:
    """Score of the rates of an edge table, of one rate for all pairs without one."""
    from cascadenet.held_out import held_out_likelihood

    rates = {}
    if found is not None:
        rates = {name: found[name].to_numpy() for name in ("source", "target", "rate")}
        if np.isnan(rates["rate"]).any():
            return {}
    result = held_out_likelihood(rates, train, test, delay)
    values = (result.per_infection, result.standard_error, result.uniform_share)
    return dict(zip(HELD_OUT, values, strict=True))
