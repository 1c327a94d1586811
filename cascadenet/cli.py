"""The command line, ``cascadenet``: every command is one call of the API.

Data go to stdout or to the file of ``-o``, messages to stderr. Exit codes: 0 fine, 1 data or files
are wrong, 2 wrong usage, 130 stopped with Ctrl-C. Errors are one line; ``CASCADENET_DEBUG=1`` shows
where they came from. What is heavy to import is imported by the command that needs it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascadenet import cli_dynamic as dynamic
from cascadenet.cli_arguments import (
    ASKS,
    DYNAMIC_KINDS,
    GENERATORS,
    LEAST_PROB,
    PICTURES,
    TRUTH_KINDS,
    build_parser,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from cascadenet.cascades import Cascades
    from cascadenet.evolution import DynamicPosterior
    from cascadenet.posterior import Posterior

__all__ = ["main"]

Options = argparse.Namespace

RUN_FILE = "posterior.npz"  # a folder without it is not replaced
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    SystemExit
        From the parser: 2 for wrong usage, 0 after ``--help`` and ``--version``.
    """
    options = build_parser(_COMMANDS).parse_args(argv)
    with _plain_warnings():
        try:
            code = options.run(options)
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            _silence_stdout()
            return 0
        except KeyboardInterrupt as stop:
            _say(str(stop) or "stopped")
            return INTERRUPTED
        except (OSError, ValueError, MemoryError) as error:
            if os.environ.get("CASCADENET_DEBUG"):
                raise
            _say(f"error: {_one_line(error)}")
            _silence_stdout()
            return 1


# -- messages -----------------------------------------------------------------------------------


def _say(text: str) -> None:
    print(f"cascadenet: {text}", file=sys.stderr, flush=True)


def _one_line(error: BaseException) -> str:
    """Message of an error on one line; those of the system without their number."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        text = f"not enough memory: {text}" if text else "not enough memory"
    return " ".join(text.split()) or type(error).__name__


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings for the user as one line each, others not at all."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, UserWarning):
            _say(f"warning: {' '.join(str(message).split())}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def _silence_stdout() -> None:
    """Let what cannot be written go nowhere: the interpreter flushes once more when it ends."""
    try:
        sys.stdout.flush()
        return
    except OSError:
        descriptor = sys.stdout.fileno()
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)


# -- output -------------------------------------------------------------------------------------


def _emit(text: str, output: str | None = None) -> None:
    """Write UTF-8 text to a file, whole or not at all, or to stdout whatever its encoding."""
    if output is not None:
        from cascadenet.readers import write_bytes

        write_bytes(output, text.encode())
    elif hasattr(sys.stdout, "buffer"):
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())
    else:
        sys.stdout.write(text)


def _emit_table(table: pd.DataFrame, options: Options) -> int:
    """A table as CSV, or as JSON, a list of objects."""
    if options.json:
        _emit(_json(_records(table)), options.output)
    else:
        _emit(_csv(table), options.output)
    return 0


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.to_dict("records")


def _json(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """The same of Python's own types; numbers that are not finite become null."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _check_target(path: str | None) -> None:
    """Raise when a file cannot be written there, before the work that makes it."""
    if path is None:
        return
    place = Path(path)
    if place.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected a file")
    if not place.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {place.parent}")
    if not os.access(place.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"cannot write in {place.parent}")


# -- input --------------------------------------------------------------------------------------


def _read_cascades(options: Options) -> Cascades:
    from cascadenet.cascades import Cascades, read_nodes, sniff

    kind = options.format or sniff(options.file)
    if kind == "snap" and options.columns is not None:
        options.parser.error("--columns is for CSV files; this one has a node block (snap)")
    columns = options.columns or ("cascade", "node", "time")
    read = Cascades.read_snap if kind == "snap" else Cascades.read_csv
    return read(
        options.file,
        *columns,
        nodes=None if options.nodes is None else read_nodes(options.nodes),
        horizon=options.horizon,
        window=options.window,
        duplicates=options.duplicates,
    )


def _labels_of(posterior: Posterior) -> dict[str, Any]:
    """Label of the posterior by its text: files have no types."""
    return {str(label): label for label in posterior.nodes}


def _read_pairs(path: str, posterior: Posterior) -> list[tuple[Any, Any]]:
    """Pairs of a CSV file with the columns source and target."""
    from cascadenet.readers import read_table

    table, source = read_table(path, ("source", "target"))
    known = _labels_of(posterior)
    for i, pair in enumerate(zip(table["source"], table["target"], strict=True)):
        for text in pair:
            if text not in known:
                source.fail(f"expected nodes of the run; got {text!r}", i)
        if pair[0] == pair[1]:
            source.fail(f"a pair must join two nodes; got {pair[0]!r} twice", i)
    return [(known[u], known[v]) for u, v in zip(table["source"], table["target"], strict=True)]


def _read_prefix(path: str, posterior: Posterior) -> tuple[list[tuple[Any, float]], bool]:
    """Infections of a CSV file with the columns node and time, and whether times are dates."""
    from cascadenet.fields import parse_times
    from cascadenet.readers import read_table

    table, source = read_table(path, ("node", "time"))
    known = _labels_of(posterior)
    first: dict[str, int] = {}
    for i, text in enumerate(table["node"]):
        if text not in known:
            source.fail(f"expected nodes of the run; got {text!r}", i)
        if text in first:
            source.fail(f"a node is infected once; got {text!r} twice", first[text], i)
        first[text] = i
    times, dates = parse_times(table["time"], source, negative=True)
    return list(zip([known[t] for t in table["node"]], times.tolist(), strict=True)), dates


def _read_truth(path: str, posterior: Posterior) -> pd.DataFrame:
    """True network, its nodes labelled as those of the posterior are."""
    from cascadenet.errors import FormatError
    from cascadenet.readers import read_network

    truth = read_network(path)
    known = _labels_of(posterior)
    for column in ("source", "target"):
        texts = truth[column].astype(str)
        unknown = texts[~texts.isin(known)]
        if len(unknown):
            name = Path(path).name
            raise FormatError(f"expected nodes of the run; got {unknown.iloc[0]!r} ({name})")
        truth[column] = texts.map(known)
    return truth


# -- commands -----------------------------------------------------------------------------------


def _fit(options: Options) -> int:
    from cascadenet.demo import check_folder, free_name

    if options.background and options.likelihood == "tree":
        options.parser.error("--background needs --likelihood survival")
    if options.resume and not options.checkpoint:
        options.parser.error("--resume needs --checkpoint DIR")
    over_time = dynamic.asks_intervals(options)
    if options.dask is not None and over_time:
        options.parser.error("--dask goes with no intervals; got both: leave one of them out")
    whole = ["intervals"] * over_time + ["a tree likelihood"] * (options.likelihood == "tree")
    whole += ["--checkpoint"] * (options.checkpoint is not None)
    if options.shards is not None and whole:
        needs = "--shards goes with no intervals, tree likelihood or checkpoint"
        options.parser.error(f"{needs}; got {', '.join(whole)}")
    check_folder(options.output, RUN_FILE if options.force else None)
    cascades = _read_cascades(options)
    if not options.quiet:
        _say(
            f"{cascades.n_cascades} cascades, {cascades.n_nodes} nodes, "
            f"{cascades.n_infections} infections"
        )
    posterior = _sample(cascades, options, over_time)
    run = Path(options.output)
    if not options.force and free_name(run) != run:
        run = free_name(run)
        _say(f"warning: {options.output} was made meanwhile; the run goes to {run}")
    _write_run(run, posterior, options)
    stopped = posterior.settings["interrupted"]
    if stopped:
        made = None if over_time else f"the {int(posterior.sums.draws.sum())} draws made so far are"
        _say(f"stopped: {made or dynamic.stopped_at(posterior)} in {run}")
    elif not options.quiet:
        _say(f"wrote {run}; see {run / 'summary.txt'}")
    return INTERRUPTED if stopped else 0


def _sample(cascades: Cascades, options: Options, over_time: bool) -> Posterior | DynamicPosterior:
    shared = {
        name: getattr(options, name)
        for name in ("delay", "prior", "background", "open_world", "max_candidates")
    }
    if over_time:
        model = dynamic.model(options, shared)
    else:
        from cascadenet.inference.coupled_hdp import CoupledHDP

        model = CoupledHDP(likelihood=options.likelihood, **shared)
    given = {name: getattr(options, name) for name in ("draws", "tune", "chains", "seed")}
    if not over_time:
        given["shards"] = options.shards
    with ExitStack() as stack:
        if options.dask:
            from cascadenet.inference.sharded.cluster import connect

            given["client"] = stack.enter_context(connect(options.dask))
        model.fit(
            cascades,
            **{name: value for name, value in given.items() if value is not None},
            n_jobs=options.jobs,
            progress=False if options.quiet else None,
            checkpoint=options.checkpoint,
            resume=options.resume,
        )
    return model.posterior_


def _write_run(run: Path, posterior: Posterior, options: Options) -> None:
    """Write all files of a run, or none."""
    from cascadenet.demo import folder_made_whole

    names = ("file", "format", "columns", "nodes", "horizon", "window", "duplicates")
    settings = {
        "input": {name: getattr(options, name) for name in names},
        "model": posterior.settings,
        "provenance": posterior.provenance,
    }
    with folder_made_whole(run, RUN_FILE if options.force else None) as folder:
        if dynamic.is_dynamic(posterior):
            dynamic.write_files(folder, posterior, settings, options)
            return
        edges = posterior.edges()
        if not options.all_edges:
            edges = edges[edges["prob"] >= LEAST_PROB]
        posterior.save(folder / RUN_FILE)
        _emit(_csv(edges), folder / "edges.csv")
        if posterior.settings["prior"] == "hdp":
            _emit(_csv(posterior.communities()), folder / "communities.csv")
        _emit(posterior.summary() + "\n", folder / "summary.txt")
        _emit(_json(settings), folder / "settings.json")
        if not options.no_plots:
            for kind in ("predictive", "traces", "ranks"):
                _draw_safely(kind, posterior, folder / f"{kind}.png")


def _draw_safely(kind: str, posterior: Posterior, path: Path) -> None:
    """Draw, or warn: hours of sampling are not thrown away for a picture."""
    try:
        _draw(kind, posterior, path)
    except Exception as error:
        warnings.warn(f"no picture {path.name}: {_one_line(error)}", UserWarning, stacklevel=2)


def _summary(options: Options) -> int:
    from cascadenet.archive import load

    posterior = load(options.run_folder)
    if not options.json:
        _emit(posterior.summary() + "\n", options.output)
        return 0
    if dynamic.is_dynamic(posterior):
        _emit(_json(dynamic.summary(posterior)), options.output)
        return 0
    sums = posterior.sums
    value = {
        "nodes": posterior.n_nodes,
        "settings": posterior.settings,
        "provenance": posterior.provenance,
        "chains": sums.draws.size,
        "draws": int(sums.draws.sum()),
        "expected_edges": posterior.expected_edges,
        "diagnostics": posterior.diagnostics().to_dict("index"),
        "best_edges": _records(posterior.edges(top=5)),
    }
    if posterior.settings["prior"] == "hdp":
        value["structure_agreement"] = posterior.structure_agreement()
    _emit(_json(value), options.output)
    return 0


def _edges(options: Options) -> int:
    from cascadenet.archive import load

    posterior = load(options.run_folder)
    pairs = None if options.pairs is None else _read_pairs(options.pairs, posterior)
    if dynamic.is_dynamic(posterior):
        return _emit_table(dynamic.edges(posterior, options, pairs), options)
    _refuse_interval(options)
    edges = posterior.edges(pairs=pairs)
    if options.min_prob is not None:
        edges = edges[edges["prob"] >= options.min_prob]
    return _emit_table(edges[: options.top], options)


def _refuse_interval(options: Options) -> None:
    if options.interval is not None:
        options.parser.error("--interval goes with runs of fit --interval or --intervals")


def _predict(options: Options) -> int:
    from cascadenet.archive import load

    ask = _asked(options)
    posterior = dynamic.forecast_of(load(options.run_folder))
    if ask == "score":
        return _emit_table(_scored(posterior, options), options)
    if ask in ("next", "reach", "size"):
        return _emit_table(_followed(ask, posterior, options), options)
    if ask in ("influence", "seed_set"):
        more = {"within": options.within, "samples": options.samples or 200}
        more["seed"] = options.seed or 0
        if ask == "influence":
            return _emit_table(posterior.influence(top=options.top, **more), options)
        return _emit_table(posterior.seed_set(options.seed_set, **more), options)
    if ask == "new":
        return _emit_table(_of_new_nodes(posterior, options), options)
    pairs = None if options.pairs is None else _read_pairs(options.pairs, posterior)
    table = posterior.predictive(pairs, options.top, options.within, options.unused)
    return _emit_table(table, options)


def _asked(options: Options) -> str:
    """Which of `ASKS` the options ask; a usage error where they do not go together."""
    given = [
        name
        for name in dict.fromkeys(name for names in ASKS.values() for name in names)
        if getattr(options, name) not in (None, False)
    ]
    asked = [ask for ask in ASKS if getattr(options, ask, None) not in (None, False)]
    ask = asked[0] if asked else "edge" if options.prefix is None else "next"
    flag = {name: f"--{name.replace('_', '-')}" for name in (*ASKS, *given, "prefix", "within")}
    for name in given:
        if name not in ASKS[ask]:
            if ask == "edge":
                takers = [flag[other] for other, names in ASKS.items() if name in names]
                takers = ["--prefix" if taker == "--next" else taker for taker in takers]
                options.parser.error(f"{flag[name]} goes with {' or '.join(takers)}")
            wrong = "--prefix" if ask == "next" else flag[ask]
            options.parser.error(f"{flag[name]} does not go with {wrong}")
    for name in ("prefix", "within"):
        if asked and name in ASKS[ask] and name not in given:
            options.parser.error(f"{flag[ask]} needs {flag[name]}")
    return ask


def _followed(ask: str, posterior: Posterior, options: Options) -> pd.DataFrame:
    """What becomes of the cascade in --prefix."""
    from cascadenet.fields import instant

    prefix, dates = _read_prefix(options.prefix, posterior)
    now = None if options.now is None else instant(options.now, dates, "--now")
    if ask == "next":
        return posterior.predict_next(prefix, k=options.k or 10, now=now)
    seed, samples = options.seed or 0, options.samples or 1000
    result = posterior.spread(prefix, options.within, draws=samples, seed=seed, now=now)
    row = result.summary().iloc[0]
    _say(
        f"expected size {row['mean']:.2f} +- {row['se']:.2f}, 94% interval {row['low']:.0f} to "
        f"{row['high']:.0f}"
    )
    if ask == "size":
        return result.size_distribution()
    table = result.nodes
    if options.top is not None:
        table = table.head(options.top)
    if dates:
        for name in ("time_low", "time", "time_high"):
            table = table.assign(**{name: _iso_or_none(table[name].to_numpy())})
    return table


def _iso_or_none(time: np.ndarray) -> list[str | None]:
    """Dates of days since 1970, none for those that are nan."""
    from cascadenet.fields import iso

    known = iter(iso(time[time == time]))
    return [next(known) if t == t else None for t in time.tolist()]


def _scored(posterior: Posterior, options: Options) -> pd.DataFrame:
    """Predictive density of the cascades in --score; its mean goes to stderr."""
    from cascadenet.cascades import Cascades, sniff
    from cascadenet.inference.forecast import score_predictive

    read = Cascades.read_snap if sniff(options.score) == "snap" else Cascades.read_csv
    cascades = read(options.score, horizon=options.horizon, window=options.window)
    table = posterior.log_predictive(cascades)
    if table["n_infections"].sum():
        score = score_predictive(table)
        _say(
            f"{score.mean:.4f} +- {score.se:.4f} nats per infection; {score.n_infections} "
            f"infections besides seeds in {score.n_cascades} cascades"
        )
    return table


def _of_new_nodes(posterior: Posterior, options: Options) -> pd.DataFrame:
    """Edges from and to nodes never seen, best first."""
    from cascadenet.posterior import NEW

    pairs = [pair for label in posterior.nodes for pair in ((label, NEW), (NEW, label))]
    table = posterior.predictive([*pairs, (NEW, NEW)])[["source", "target", "prob"]]
    table = table.sort_values("prob", ascending=False, kind="stable", ignore_index=True)
    for name in ("source", "target"):
        table[name] = [str(label) if label is NEW else label for label in table[name]]
    return table.head(20 if options.top is None else options.top)


def _plot(options: Options) -> int:
    from cascadenet.archive import load

    if options.truth is None and options.kind in TRUTH_KINDS:
        options.parser.error(f"--kind {options.kind} needs --truth")
    if Path(options.output).suffix.lower() not in PICTURES:
        options.parser.error(f"-o must end in {', '.join(PICTURES)}; got {options.output!r}")
    takes_truth = (*TRUTH_KINDS, "predictive", "rates-over-time")
    if options.truth is not None and options.kind not in takes_truth:
        options.parser.error(f"--truth goes with --kind {', '.join(takes_truth)}")
    _check_target(options.output)
    posterior = load(options.run_folder)
    if not dynamic.is_dynamic(posterior):
        _refuse_interval(options)
        if options.kind in DYNAMIC_KINDS:
            options.parser.error(f"--kind {options.kind} needs a run of fit --interval")
    truth = None if options.truth is None else _read_truth(options.truth, posterior)
    _draw(options.kind, posterior, Path(options.output), truth, options.interval)
    return 0


def _draw(
    kind: str,
    posterior: Posterior,
    path: Path,
    truth: pd.DataFrame | None = None,
    interval: int | None = None,
) -> None:
    """One picture of a posterior, in a file."""
    import matplotlib

    matplotlib.use("Agg")  # windows are of no use here, and a screen may be missing
    import matplotlib.pyplot as plt

    from cascadenet import plotting

    nodes = posterior.nodes
    draw: dict[str, Callable[[], Any]] = {
        "predictive": lambda: plotting.plot_predictive(posterior, truth=truth),
        "communities": lambda: plotting.plot_communities(posterior),
        "network": lambda: plotting.plot_network(posterior),
        "traces": lambda: plotting.plot_traces(posterior),
        "ranks": lambda: plotting.plot_ranks(posterior),
        "probabilities": lambda: plotting.plot_edge_probabilities(posterior.edges(), truth, nodes),
        "rates": lambda: plotting.plot_rates(posterior.edges(), truth),
        "recovery": lambda: plotting.plot_recovery({"cascadenet": posterior.edges()}, truth, nodes),
    }
    if dynamic.is_dynamic(posterior):
        draw = dynamic.pictures(posterior, truth, interval)
    else:
        draw |= dynamic.predictions(posterior)
    before = plt.get_fignums()
    try:
        plotting.save_figure(draw[kind](), path)
    finally:
        for number in set(plt.get_fignums()) - set(before):
            plt.close(number)


def _simulate(options: Options) -> int:
    import secrets

    import numpy as np

    from cascadenet.readers import write_network
    from cascadenet.simulate import simulate_cascades

    for path in (options.output, options.edges_out, options.nodes_out):
        _check_target(path)
    seed = secrets.randbits(63) if options.seed is None else options.seed
    network_rng, cascade_rng = np.random.default_rng(seed).spawn(2)
    network = _network(options, network_rng)
    cascades = simulate_cascades(
        network,
        options.cascades,
        delay=options.delay,
        theta=options.theta,
        horizon=options.horizon,
        window=options.window,
        background=options.background,
        seed=cascade_rng,
    ).cascades
    if options.edges_out is not None:
        write_network(network, options.edges_out)
    if options.nodes_out is not None:
        _emit("".join(f"{label}\n" for label in cascades.nodes), options.nodes_out)
    if options.output is not None:
        cascades.to_csv(options.output)
    else:
        _emit(cascades.to_frame().to_csv(index=False, lineterminator="\n"))
    _say(
        f"{cascades.n_nodes} nodes, {len(network)} edges; {cascades.n_cascades} cascades, "
        f"{cascades.n_infections} infections; seed {seed}"
    )
    return 0


def _network(options: Options, rng: Any) -> pd.DataFrame:
    """Network of a generator with the options given, or of a file."""
    from cascadenet import networks
    from cascadenet.readers import read_network

    takes = GENERATORS.get(options.network, ())
    every = dict.fromkeys(name for names in GENERATORS.values() for name in names)
    given = {name: getattr(options, name) for name in (*every, "rate")}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in (*takes, *(["rate"] if takes else [])):
            flag = f"--{name.replace('_', '-')}"
            options.parser.error(f"{flag} does not go with --network {options.network}")
    if not takes:
        return read_network(options.network)
    if options.network == "kronecker":
        defaults = {"kind": "core-periphery", "n_nodes": 1024}
        given = defaults | given
        given.setdefault("n_edges", 2 * given["n_nodes"])
        return networks.kronecker_network(**given, seed=rng)
    if "communities" in given:
        given["n_communities"] = given.pop("communities")
    if options.network == "communities":
        return networks.community_network(**given, seed=rng)
    given = {"n_nodes": 200, "n_communities": 5} | given
    given.setdefault("n_edges", 7 * given["n_nodes"])
    return networks.model_network(**given, seed=rng)[0]


def _demo(options: Options) -> int:
    from cascadenet.demo import run_demo

    result = run_demo(
        options.output, options.seed, options.jobs, report=None if options.quiet else _say
    )
    cascades = result.cascades
    if options.json:
        value = {"folder": str(result.folder), "seed": result.seed, "nodes": cascades.n_nodes}
        value |= {"edges": len(result.network), "cascades": cascades.n_cascades}
        value |= {"infections": cascades.n_infections, "scores": _records(result.scores)}
        _emit(_json(value | {"communities": _records(result.communities)}))
        return 0
    scores = result.scores.rename(
        columns={"auprc": "AUPRC", "best_f1": "best F1", "roc_auc": "ROC AUC"}
    ).rename(columns={"unused_auc": "AUC unused"})
    communities = result.communities.rename(
        columns={"adjusted_rand": "adjusted Rand", "ami": "AMI"}
    )
    show = {"index": False, "float_format": "{:.3f}".format}
    seconds = {"seconds": "{:.1f}".format}
    _emit(
        f"edges: {len(result.network)} true ones among {cascades.n_nodes} nodes\n\n"
        f"{scores.to_string(**show, formatters=seconds)}\n\n"
        "AUC unused: over pairs that no infection went along; seconds: with compilation\n\n"
        "communities: true and found, for nodes with edges in the role\n\n"
        f"{communities.to_string(**show)}\n\n"
        f"tables and pictures: {result.folder}\n"
    )
    return 0


_COMMANDS = {
    "demo": _demo,
    "simulate": _simulate,
    "fit": _fit,
    "update": dynamic.update,
    "summary": _summary,
    "edges": _edges,
    "predict": _predict,
    "plot": _plot,
    "report": dynamic.report,
}
