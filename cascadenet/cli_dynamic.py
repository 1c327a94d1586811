"""What the commands do with networks that change, and ``update`` and ``report``."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from cascadenet.cascades import Cascades
    from cascadenet.evolution import DynamicPosterior
    from cascadenet.inference.dynamics.model import DynamicCoupledHDP
    from cascadenet.posterior import Posterior

Options = argparse.Namespace

# Options of fit that need --interval or --intervals.
MEMORIES = ("equal", "forgetting", "half_life", "support", "smooth")
TABLES = ("edges", "events", "scores", "communities", "community_sizes")
RUN_PICTURES = ("predictive", "traces", "ranks", "flow", "events", "ahead")
LEAST = 0.01  # probability of an edge in edges.csv, to have carried anything or to be active


def is_dynamic(posterior: Posterior | DynamicPosterior) -> bool:
    """Whether it is of a network that changes."""
    return hasattr(posterior, "posteriors")


def forecast_of(posterior: Posterior | DynamicPosterior) -> Posterior:
    """What predicts: the posterior itself, or that of the interval to come."""
    return getattr(posterior, "forecast", posterior)


# -- fit ----------------------------------------------------------------------------------------


def asks_intervals(options: Options) -> bool:
    """Whether ``fit`` is to cut time into intervals; a usage error where options clash."""
    cut = options.interval is not None or options.intervals is not None
    for name in MEMORIES:
        if getattr(options, name) not in (None, False) and not cut:
            flag = f"--{name.replace('_', '-')}"
            options.parser.error(f"{flag} needs --interval or --intervals")
    if cut and options.likelihood == "tree":
        options.parser.error("intervals need --likelihood survival")
    if options.equal is not None and options.intervals is None:
        options.parser.error("--equal goes with --intervals")
    return cut


def model(options: Options, shared: dict[str, Any]) -> DynamicCoupledHDP:
    """The model that ``fit`` asks for; ``shared`` settings are those of networks that stay."""
    from cascadenet.fields import duration
    from cascadenet.inference.dynamics.model import DynamicCoupledHDP

    given = {name: getattr(options, name) for name in ("equal", "forgetting", "support")}
    if options.intervals is not None:
        given["n_intervals"] = options.intervals
    if options.interval is not None:
        given["interval"] = float(duration(options.interval, True))
    if options.half_life is not None:
        given["half_life"] = float(duration(options.half_life, True))
    given = {name: value for name, value in given.items() if value is not None}
    return DynamicCoupledHDP(smooth=options.smooth, **shared, **given)


def tables(posterior: DynamicPosterior, all_edges: bool) -> dict[str, pd.DataFrame]:
    """Tables of a run by the name of their file; all of them have the column interval."""
    edges = posterior.edges()
    if not all_edges:
        edges = edges[(edges["prob"] >= LEAST) | (edges["active"] >= LEAST)]
    found = {"edges": edges, "events": posterior.events(), "scores": posterior.scores()}
    if posterior.settings["prior"] == "hdp":
        found["communities"] = posterior.communities()
        found["community_sizes"] = posterior.community_sizes()
    return found


def write_files(
    folder: Path, posterior: DynamicPosterior, settings: dict[str, Any], options: Options
) -> None:
    """All files of a run of a network that changes, into a folder."""
    from cascadenet import cli

    posterior.save(folder / cli.RUN_FILE)
    for name, table in tables(posterior, options.all_edges).items():
        cli._emit(cli._csv(table), folder / f"{name}.csv")
    cli._emit(posterior.summary() + "\n", folder / "summary.txt")
    cli._emit(cli._json(settings), folder / "settings.json")
    if options.no_plots:
        return
    for kind in RUN_PICTURES:
        if kind == "flow" and posterior.community_sizes().empty:
            continue
        if kind == "events" and len(posterior.posteriors) < 2:
            continue
        if kind == "ahead" and not len(posterior.scores()):
            continue
        cli._draw_safely(kind, posterior, folder / f"{kind}.png")


def stopped_at(posterior: DynamicPosterior) -> str:
    """What an interrupted fit has kept."""
    count = len(posterior.posteriors)
    return "the first interval is" if count == 1 else f"the first {count} intervals are"


# -- reading a run ------------------------------------------------------------------------------


def edges(posterior: DynamicPosterior, options: Options, pairs: Any) -> pd.DataFrame:
    """Edges of one interval or all; the best ones of each where only some are asked for."""
    table = posterior.edges(options.interval, pairs=pairs)
    if options.min_prob is not None:
        table = table[table["prob"] >= options.min_prob]
    return table if options.top is None else table.groupby("interval", sort=False).head(options.top)


def summary(posterior: DynamicPosterior) -> dict[str, Any]:
    """Content of ``summary --json``."""
    table = posterior.diagnostics()
    by_interval = {
        int(j): rows.droplevel("interval").to_dict("index")
        for j, rows in table.groupby(level="interval")
    }
    records: dict[str, pd.DataFrame] = {
        "events": posterior.events(),
        "scores": posterior.scores(),
        "memories_tried": posterior.memories_tried(),
        "best_edges": posterior.edges(-1, top=5),
    }
    if posterior.settings["prior"] == "hdp":
        records["communities"] = posterior.community_sizes()
    return {
        "nodes": posterior.n_nodes,
        "ends": posterior.ends.tolist(),
        "first_interval": posterior.first_interval,
        "settings": posterior.settings,
        "provenance": posterior.provenance,
        "diagnostics": by_interval,
        **{name: table.to_dict("records") for name, table in records.items()},
    }


def pictures(
    posterior: DynamicPosterior, truth: pd.DataFrame | None, interval: int | None
) -> dict[str, Callable[[], Any]]:
    """Pictures of a network that changes, by kind, and those of one of its intervals."""
    from cascadenet import plots_dynamic as plots
    from cascadenet import plotting
    from cascadenet.networks import rates_at

    (j,) = posterior._chosen(-1 if interval is None else interval)
    one, number = posterior.posteriors[j], j + posterior.first_interval
    middle = float(posterior.ends[j] + posterior.ends[j + 1]) / 2.0
    now = None if truth is None else rates_at(truth, middle)
    if now is not None:
        now = now[now["rate"] > 0.0]
    predicted = posterior.forecast if interval is None else one
    found: dict[str, Callable[[], Any]] = {
        "predictive": lambda: plotting.plot_predictive(predicted, truth=now),
        "communities": lambda: plotting.plot_communities(one),
        "network": lambda: plotting.plot_network(one),
        "traces": lambda: plotting.plot_traces(one),
        "ranks": lambda: plotting.plot_ranks(one),
        "rates": lambda: plotting.plot_rates(posterior.edges(number), now),
        "recovery": lambda: plotting.plot_recovery(
            {f"interval {number}": _by_active(posterior.edges(number))}, now, posterior.nodes
        ),
        "flow": lambda: plots.plot_community_flow(posterior),
        "receiver-flow": lambda: plots.plot_community_flow(posterior, "receiver"),
        "events": lambda: plots.plot_edge_events(posterior),
        "timeline": lambda: plots.plot_edge_timeline(posterior),
        "rates-over-time": lambda: plots.plot_rates_over_time(posterior, truth=truth),
        "ahead": lambda: plots.plot_ahead(posterior),
        "probabilities": lambda: plots.plot_active_reliability(posterior, truth),
    }
    return found | predictions(posterior)


def predictions(posterior: Posterior | DynamicPosterior) -> dict[str, Callable[[], Any]]:
    """Pictures of predictions, of static networks as well."""
    from cascadenet import plots_dynamic as plots

    return {
        "next-edges": lambda: plots.plot_top_predictive(posterior),
        "unused-edges": lambda: plots.plot_top_predictive(posterior, unused=True),
        "transmissions": lambda: plots.plot_top_predictive(posterior, quantity="transmit"),
    }


def _by_active(table: pd.DataFrame) -> pd.DataFrame:
    """Edges with the probability to be active in the place of that to have carried anything."""
    return table.assign(prob=table["active"])


# -- update -------------------------------------------------------------------------------------


def update(options: Options) -> int:
    """``update``: one call of :meth:`cascadenet.DynamicCoupledHDP.partial_fit`."""
    from cascadenet import cli
    from cascadenet.archive import load
    from cascadenet.demo import check_folder, folder_made_whole
    from cascadenet.inference.dynamics.model import DynamicCoupledHDP

    run = Path(options.run_folder)
    if not run.is_dir():
        raise NotADirectoryError(f"expected the folder of a run; got {run}")
    check_folder(run, cli.RUN_FILE)
    posterior = load(run)
    if not is_dynamic(posterior):
        raise ValueError(f"only runs of fit --interval or --intervals can be updated; got {run}")
    settings = _saved_settings(run)
    reading = _reading(settings.get("input"), options)
    cascades = _new_cascades(posterior, reading, options)
    before = len(posterior.posteriors) + posterior.first_interval
    model = DynamicCoupledHDP.from_posterior(posterior)
    model.partial_fit(
        cascades,
        progress=False if options.quiet else None,
        n_jobs=options.jobs,
        keep=options.keep,
    )
    after = model.posterior_
    if after.ends[-1] < cascades.start.max():
        raise KeyboardInterrupt(f"stopped; {run} is as it was")
    done = {"file": options.file, **reading, "data": cascades.fingerprint}
    settings["updates"] = [*settings.get("updates", []), done]
    settings["provenance"] = after.provenance
    made = {"posterior.npz", "summary.txt", "settings.json"}
    made |= {f"{name}.csv" for name in TABLES}
    made |= {f"{kind}.png" for kind in RUN_PICTURES}
    with folder_made_whole(run, cli.RUN_FILE) as folder:
        write_files(folder, after, settings, options)
        for item in run.iterdir():  # what the user has put there
            if item.name not in made:
                copy = shutil.copytree if item.is_dir() else shutil.copy2
                copy(item, folder / item.name)
    if not options.quiet:
        count = len(after.posteriors) + after.first_interval - before
        cli._say(
            f"{run}: {count} more interval{'s' if count > 1 else ''}, now to {after.ends[-1]:g}"
        )
    return 0


def _saved_settings(run: Path) -> dict[str, Any]:
    """Content of settings.json, nothing where it is not there or is no such file."""
    try:
        found = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _reading(saved: Any, options: Options) -> dict[str, Any]:
    """How to read new cascades: as the options say, else as the run's own were read.

    A horizon is not taken over: it has passed.
    """
    saved = saved if isinstance(saved, dict) else {}
    reading = {name: getattr(options, name) for name in ("columns", "duplicates")}
    reading = {name: value or saved.get(name) for name, value in reading.items()}
    reading |= {"horizon": options.horizon, "window": options.window}
    if options.horizon is None and options.window is None:
        reading["window"] = saved.get("window")
    return reading


def _new_cascades(
    posterior: DynamicPosterior, reading: dict[str, Any], options: Options
) -> Cascades:
    """Cascades of a file, with the labels of the run's nodes."""
    from cascadenet.cascades import Cascades, sniff
    from cascadenet.errors import FormatError

    kind = options.format or sniff(options.file)
    names = None if kind == "snap" else reading["columns"]
    read = Cascades.read_snap if kind == "snap" else Cascades.read_csv
    cascades = read(
        options.file,
        *(names or ("cascade", "node", "time")),
        nodes=posterior.nodes,
        horizon=reading["horizon"],
        window=reading["window"],
        duplicates=reading["duplicates"] or "error",
    )
    return relabelled(cascades, posterior.nodes, Path(options.file).name, FormatError)


def relabelled(
    cascades: Cascades, nodes: tuple[Any, ...], name: str, error: type[ValueError] = ValueError
) -> Cascades:
    """The cascades with all nodes of a run, in their order; labels that print alike are the same.

    Raises
    ------
    FormatError
        A node that the run does not know.
    """
    import numpy as np

    from cascadenet.cascades import Cascades

    place = {str(label): i for i, label in enumerate(nodes)}
    unknown = [str(label) for label in cascades.nodes if str(label) not in place]
    if unknown:
        more = f" and {len(unknown) - 1} more that are not" if len(unknown) > 1 else ""
        raise error(f"expected nodes of the run; got {unknown[0]!r}{more} ({name})")
    node = np.array([place[str(label)] for label in cascades.nodes], np.int32)[cascades.node]
    cascade = np.repeat(np.arange(cascades.n_cascades), np.diff(cascades.offset))
    order = np.lexsort((node, cascades.time, cascade))
    return Cascades.from_arrays(
        nodes,
        cascades.offset,
        node[order],
        cascades.time[order],
        cascades.horizon,
        cascades.labels,
    )


# -- report -------------------------------------------------------------------------------------


def report(options: Options) -> int:
    """``report``: one call of :func:`cascadenet.report.make_report`."""
    from cascadenet import cli
    from cascadenet.archive import load
    from cascadenet.report import make_report

    run = Path(options.run_folder)
    output = options.output or str((run if run.is_dir() else run.parent) / "report.html")
    for name in ("window", "horizon"):
        if getattr(options, name) is not None and options.held_out is None:
            options.parser.error(f"--{name} goes with --held-out")
    posterior = load(run)
    cli._check_target(output)
    truth = None if options.truth is None else cli._read_truth(options.truth, posterior)
    held_out = None
    if options.held_out is not None:
        held_out = _held_out(posterior, options)
    title = options.title or f"Report on {run.resolve().name if run.is_dir() else run.stem}"
    page = make_report(posterior, title=title, truth=truth, held_out=held_out)
    cli._emit(page, output)
    cli._say(f"wrote {output}")
    return 0


def _held_out(posterior: Posterior | DynamicPosterior, options: Options) -> Cascades:
    """Cascades of --held-out, with the labels of the run's nodes."""
    from cascadenet.cascades import Cascades, sniff
    from cascadenet.errors import FormatError

    read = Cascades.read_snap if sniff(options.held_out) == "snap" else Cascades.read_csv
    observed = {"horizon": options.horizon, "window": options.window}
    cascades = read(options.held_out, nodes=posterior.nodes, **observed)
    return relabelled(cascades, posterior.nodes, Path(options.held_out).name, FormatError)
