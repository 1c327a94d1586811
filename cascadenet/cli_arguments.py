"""Arguments of the command line: the parsers of all commands, and kinds of values.

Nothing here loads numerics unless a value is checked that needs them.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from cascadenet import cli_compare as compare
from cascadenet.sparse.bandits import cli as bandits
from cascadenet.sparse.federated import cli as federated
from cascadenet.sparse.pruning import cli as pruning
from cascadenet.sparse.theory import cli as theory

__all__ = ["Parser", "build_parser"]

# Stated here so that --help loads no numerics; a test compares them with the models.
DELAYS = ("exponential", "rayleigh", "powerlaw", "weibull", "decay", "lognormal")
LIKELIHOODS = ("survival", "tree")
PRIORS = ("hdp", "flat")

LEAST_PROB = 0.01  # of an edge in edges.csv of a run, unless all are asked for
PICTURES = (".png", ".pdf", ".svg")
TRUTH_KINDS = ("probabilities", "rates", "recovery")
# What each question to `predict` takes beside itself; the first two are asked by no option.
ASKS = {
    "edge": ("top", "unused", "within", "pairs"),
    "next": ("prefix", "k", "now"),
    "new": ("top",),
    "reach": ("prefix", "within", "now", "samples", "seed", "top"),
    "size": ("prefix", "within", "now", "samples", "seed"),
    "influence": ("within", "samples", "seed", "top"),
    "seed_set": ("within", "samples", "seed"),
    "score": ("horizon", "window"),
}
KINDS = ("predictive", "communities", "network", "traces", "ranks", *TRUTH_KINDS)
KINDS += ("next-edges", "unused-edges", "transmissions")
DYNAMIC_KINDS = ("flow", "receiver-flow", "events", "timeline", "rates-over-time", "ahead")
# The generators of `simulate`, and which options each of them takes.
GENERATORS = {
    "kronecker": ("kind", "n_nodes", "n_edges"),
    "communities": ("communities", "size", "within", "between"),
    "model": ("n_nodes", "communities", "n_edges", "tau", "gamma"),
}


# -- kinds of values ---------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """Parser whose errors are one line, and which takes no abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """End the program with exit code 2."""
        self.exit(2, f"cascadenet: error: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """Print the version, which is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        import cascadenet

        print(f"cascadenet {cascadenet.__version__}")
        parser.exit()


def _count(least: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            expected = f"expected a whole number of at least {least}"
            raise argparse.ArgumentTypeError(f"{expected}; got {text!r}")
        return value

    return count


def _number(
    low: float, high: float = math.inf, *, open_low: bool = False
) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low <= value <= high and math.isfinite(value)) or (open_low and value == low):
            above = f"above {low:g}" if open_low else f"of at least {low:g}"
            most = "" if math.isinf(high) else f" and at most {high:g}"
            raise argparse.ArgumentTypeError(f"expected a number {above}{most}; got {text!r}")
        return value

    return number


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number; got {text!r}") from None


def _or_auto(number: Callable[[str], float]) -> Callable[[str], float | str]:
    def value(text: str) -> float | str:
        if text == "auto":
            return text
        try:
            return number(text)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{error}, or auto") from None

    return value


def _time(text: str) -> str:
    """A number or an ISO date, kept as it is: the data decide which it must be."""
    from cascadenet.fields import instant

    try:
        instant(text, True, "time")
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a number or an ISO date; got {text!r}"
        ) from None
    return text


def _duration(text: str) -> str:
    """A number, or for data with dates a timedelta such as 30D."""
    from cascadenet.fields import duration

    try:
        duration(text, True)
    except ValueError:
        expected = "expected a number above zero or a duration such as 30D"
        raise argparse.ArgumentTypeError(f"{expected}; got {text!r}") from None
    return text


def _columns(text: str) -> tuple[str, ...]:
    names = tuple(next(csv.reader([text]), ()))
    if len(set(names)) != 3 or len(names) != 3 or not all(names):
        expected = "expected three column names, those of cascade,node,time"
        raise argparse.ArgumentTypeError(f"{expected}; got {text!r}")
    return names


def _numbers(text: str) -> list[float]:
    return [_number(-math.inf)(part) for part in text.split(",")]


def _rate(text: str) -> float | tuple[float, float]:
    """One rate, or the ends of a range."""
    rates = [_number(0.0)(part) for part in text.split(",")]
    if len(rates) > 2 or rates != sorted(rates):
        raise argparse.ArgumentTypeError(f"expected RATE or LOW,HIGH; got {text!r}")
    return rates[0] if len(rates) == 1 else (rates[0], rates[1])


# -- parsers ------------------------------------------------------------------------------------


def build_parser(run: Mapping[str, Callable[[argparse.Namespace], int]]) -> Parser:
    """Parser of all commands.

    Parameters
    ----------
    run : mapping of str to callable
        What each command does; the parsed arguments have it as ``run`` and their parser as
        ``parser``.
    """
    parser = Parser(
        prog="cascadenet",
        description="Infer the hidden network behind a set of cascades, with its uncertainty.",
        epilog="Start with: cascadenet demo",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for name, (add, about) in _COMMANDS.items():
        sub = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        sub.set_defaults(run=run[name], parser=sub)
        add(sub)
    compare.add_parser(commands)
    theory.add_parser(commands)
    bandits.add_parser(commands)
    pruning.add_parser(commands)
    federated.add_parser(commands)
    return parser


def _add_fit(add: argparse.ArgumentParser) -> None:
    add.epilog = (
        "RUN holds posterior.npz, which the other commands and cascadenet.load read, and "
        "edges.csv, communities.csv, summary.txt, settings.json and pictures. It is made whole "
        "or not at all. Ctrl-C stops sampling and keeps the draws made so far."
    )
    add.add_argument("file", metavar="FILE", help="cascades, one infection a row; gzip is fine")
    add.add_argument("-o", "--output", metavar="RUN", required=True, help="new folder for results")
    add.add_argument("--force", action="store_true", help="replace RUN where it is a run")
    data = add.add_argument_group("data")
    data.add_argument("--format", choices=("csv", "snap"), help="guessed from the content")
    data.add_argument(
        "--columns", type=_columns, metavar="C,N,T", help="names of the columns cascade,node,time"
    )
    data.add_argument(
        "--nodes", metavar="FILE", help="all nodes that could be infected, one a line"
    )
    end = data.add_mutually_exclusive_group()
    end.add_argument("--horizon", type=_time, metavar="T", help="observation ends at this time")
    end.add_argument(
        "--window", type=_duration, metavar="T", help="so long after a cascade's first infection"
    )
    data.add_argument(
        "--duplicates",
        choices=("error", "first"),
        default="error",
        help="a node twice in a cascade: refuse it, or keep the earliest",
    )
    model = add.add_argument_group("model")
    _add_delay(model)
    model.add_argument(
        "--likelihood",
        choices=LIKELIHOODS,
        default="survival",
        help="survival: not being infected counts too (the default); tree: as in DYFERENCE",
    )
    model.add_argument("--prior", choices=PRIORS, default="hdp", help="flat: without communities")
    model.add_argument(
        "--background", action="store_true", help="infections may come from outside the network"
    )
    model.add_argument(
        "--open-world", action="store_true", help="there may be nodes that were never seen"
    )
    model.add_argument(
        "--max-candidates", type=_count(1), metavar="N", help="possible parents of an infection"
    )
    _add_intervals(add)
    chains = add.add_argument_group("sampling; in each interval where time is cut")
    chains.add_argument("--draws", type=_count(1), metavar="N", help="per chain (1000; cut 100)")
    chains.add_argument(
        "--tune", type=_count(0), metavar="N", help="sweeps before them (1000; cut 100)"
    )
    chains.add_argument("--chains", type=_count(1), metavar="N", help="(4; where time is cut 2)")
    chains.add_argument("--seed", type=_count(0), metavar="N", help="for the same result again")
    _add_jobs(chains)
    chains.add_argument(
        "--shards", type=_count(1), metavar="N", help="cut each chain into so many parts"
    )
    chains.add_argument(
        "--dask", metavar="ADDRESS", help="run the chains on the workers of this Dask scheduler"
    )
    chains.add_argument("--checkpoint", metavar="DIR", help="save the chains there every minute")
    chains.add_argument(
        "--resume", action="store_true", help="go on with the run in the checkpoint folder"
    )
    out = add.add_argument_group("output")
    out.add_argument(
        "--all-edges",
        action="store_true",
        help=f"edges.csv holds all pairs, not only those with prob >= {LEAST_PROB}",
    )
    out.add_argument("--no-plots", action="store_true", help="no pictures in RUN")
    _add_quiet(out)


def _add_intervals(add: argparse.ArgumentParser) -> None:
    """Options of fit for a network that changes."""
    time = add.add_argument_group("a network that changes: time is cut into intervals")
    cut = time.add_mutually_exclusive_group()
    cut.add_argument("--interval", type=_duration, metavar="T", help="so long each")
    cut.add_argument("--intervals", type=_count(1), metavar="N", help="so many")
    time.add_argument(
        "--equal",
        choices=("time", "cascades"),
        help="--intervals of equal length (the default), or of equally many cascades",
    )
    memory = time.add_mutually_exclusive_group()
    memory.add_argument(
        "--forgetting",
        type=_or_auto(_number(0, 1)),
        metavar="X",
        help="share of the evidence remembered in the next: 0 to 1, or auto (the default)",
    )
    memory.add_argument(
        "--half-life", type=_duration, metavar="T", help="instead: half of it is left after this"
    )
    time.add_argument(
        "--support",
        type=_or_auto(_number(0)),
        metavar="X",
        help="weight of an edge's having been there before: 0 or more, or auto (the default)",
    )
    time.add_argument(
        "--smooth", action="store_true", help="let intervals see later ones: to look back only"
    )


def _add_update(add: argparse.ArgumentParser) -> None:
    add.epilog = (
        "RUN, made by fit --interval or --intervals, is replaced as a whole or not at all; files "
        "that fit has not made are kept. The old data are not needed. Columns and window are "
        "those of the fit unless told otherwise."
    )
    _add_run(add)
    add.add_argument("file", metavar="FILE", help="cascades that start after the last interval")
    add.add_argument("--keep", type=_count(1), metavar="N", help="only the latest N intervals")
    data = add.add_argument_group("data")
    data.add_argument("--format", choices=("csv", "snap"), help="guessed from the content")
    data.add_argument(
        "--columns", type=_columns, metavar="C,N,T", help="names of the columns cascade,node,time"
    )
    end = data.add_mutually_exclusive_group()
    end.add_argument("--horizon", type=_time, metavar="T", help="observation ends at this time")
    end.add_argument(
        "--window", type=_duration, metavar="T", help="so long after a cascade's first infection"
    )
    data.add_argument(
        "--duplicates",
        choices=("error", "first"),
        help="a node twice in a cascade: refuse it, or keep the earliest",
    )
    _add_jobs(add)
    add.add_argument(
        "--all-edges",
        action="store_true",
        help=f"edges.csv holds all pairs, not only those with prob >= {LEAST_PROB}",
    )
    add.add_argument("--no-plots", action="store_true", help="no pictures in RUN")
    _add_quiet(add)


def _add_report(add: argparse.ArgumentParser) -> None:
    add.epilog = "The page holds its pictures and needs no network connection and no scripts."
    _add_run(add)
    add.add_argument("-o", "--output", metavar="FILE", help="(report.html in RUN)")
    add.add_argument("--title", metavar="TEXT", help="heading of the page")
    add.add_argument("--truth", metavar="FILE", help="true network, source,target,rate[,start]")
    more = add.add_argument_group("cascades that were not fitted")
    more.add_argument("--held-out", metavar="FILE", help="say how well these are predicted")
    end = more.add_mutually_exclusive_group()
    end.add_argument("--horizon", type=_time, metavar="T", help="observation ends at this time")
    end.add_argument(
        "--window", type=_duration, metavar="T", help="so long after a cascade's first infection"
    )


def _add_summary(add: argparse.ArgumentParser) -> None:
    _add_run(add)
    _add_output(add)


def _add_edges(add: argparse.ArgumentParser) -> None:
    _add_run(add)
    add.add_argument("--top", type=_count(0), metavar="N", help="only the best N")
    add.add_argument("--min-prob", type=_number(0, 1), metavar="P", help="only these and better")
    add.add_argument("--pairs", metavar="FILE", help="CSV with source,target: these, in its order")
    _add_interval(add, "of this interval only")
    _add_output(add)


def _add_predict(add: argparse.ArgumentParser) -> None:
    add.epilog = (
        "Without an option: the most probable next edges, those no cascade has used included. "
        "Times and durations are in the unit of the data."
    )
    _add_run(add)
    ask = add.add_argument_group("what to predict").add_mutually_exclusive_group()
    ask.add_argument(
        "--new", action="store_true", help="edges from and to nodes never seen (fit --open-world)"
    )
    ask.add_argument(
        "--reach", action="store_true", help="whom a cascade reaches, and when (--prefix, --within)"
    )
    ask.add_argument(
        "--size", action="store_true", help="how large it becomes (--prefix, --within)"
    )
    ask.add_argument(
        "--influence", action="store_true", help="expected reach of every node (--within)"
    )
    ask.add_argument(
        "--seed-set", type=_count(1), metavar="K", help="K nodes that reach most (--within)"
    )
    ask.add_argument(
        "--score", metavar="FILE", help="log density of other cascades, CSV with cascade,node,time"
    )
    edges = add.add_argument_group("the next edge")
    edges.add_argument("--pairs", metavar="FILE", help="CSV with source,target: these pairs")
    edges.add_argument("--unused", action="store_true", help="without pairs that carried any")
    edges.add_argument("--top", type=_count(0), metavar="N", help="only the best N (20 edges)")
    edges.add_argument(
        "--within",
        type=_number(0, open_low=True),
        metavar="D",
        help="delay for column transmit; elsewhere how far to look ahead",
    )
    follow = add.add_argument_group("a cascade so far: its next infection, --reach, --size")
    follow.add_argument("--prefix", metavar="FILE", help="CSV with node,time: infections so far")
    follow.add_argument("--k", type=_count(1), metavar="K", help="so many next nodes (10)")
    follow.add_argument("--now", type=_time, metavar="T", help="present time (the last infection)")
    draws = add.add_argument_group("simulation: --reach, --size, --influence, --seed-set")
    draws.add_argument(
        "--samples", type=_count(1), metavar="N", help="cascades (1000), or live-edge graphs (200)"
    )
    draws.add_argument("--seed", type=_count(0), metavar="N", help="for other draws (0)")
    score = add.add_argument_group("observation of the cascades of --score")
    end = score.add_mutually_exclusive_group()
    end.add_argument("--horizon", type=_time, metavar="T", help="it ends at this time")
    end.add_argument(
        "--window", type=_duration, metavar="T", help="so long after a cascade's first infection"
    )
    _add_output(add)


def _add_plot(add: argparse.ArgumentParser) -> None:
    _add_run(add)
    kinds = (*KINDS, *DYNAMIC_KINDS)
    about = f"{', '.join(KINDS)}; where time is cut also {', '.join(DYNAMIC_KINDS)}"
    add.add_argument("--kind", choices=kinds, required=True, metavar="NAME", help=about)
    _add_interval(add, "one interval for the kinds that show one (the last)")
    about = f"true network, source,target,rate: needed for {', '.join(TRUTH_KINDS)}"
    add.add_argument("--truth", metavar="FILE", help=about)
    add.add_argument(
        "-o", "--output", metavar="FILE", required=True, help=f"ends in {', '.join(PICTURES)}"
    )


def _add_simulate(add: argparse.ArgumentParser) -> None:
    add.add_argument(
        "--network",
        required=True,
        metavar="NAME",
        help=f"{', '.join(GENERATORS)}, or a file with source,target,rate",
    )
    add.add_argument("--cascades", type=_count(1), required=True, metavar="N", help="how many")
    end = add.add_mutually_exclusive_group(required=True)
    end.add_argument("--horizon", type=_number(0), metavar="T", help="observation ends then")
    end.add_argument(
        "--window", type=_number(0, open_low=True), metavar="T", help="so long after the first"
    )
    _add_delay(add)
    add.add_argument("--theta", type=_numbers, metavar="X,...", help="parameters of the delay")
    add.add_argument(
        "--background", type=_number(0), default=0.0, metavar="R", help="hazard from outside"
    )
    add.add_argument("--seed", type=_count(0), metavar="N")
    made = add.add_argument_group("networks")
    made.add_argument("--rate", type=_rate, metavar="LOW,HIGH", help="of the edges (0.05,1)")
    made.add_argument(
        "--kind",
        choices=("core-periphery", "hierarchical", "random"),
        help="kronecker",
    )
    made.add_argument("--n-nodes", type=_count(2), metavar="N", help="kronecker, model")
    made.add_argument("--n-edges", type=_count(1), metavar="N", help="kronecker, model")
    made.add_argument("--communities", type=_count(1), metavar="K", help="communities, model")
    made.add_argument("--size", type=_count(1), metavar="N", help="communities: nodes in each")
    made.add_argument("--within", type=_number(0, 1), metavar="P", help="communities: density")
    made.add_argument("--between", type=_number(0, 1), metavar="P", help="communities: to the next")
    made.add_argument("--tau", type=_number(0, open_low=True), metavar="X", help="model")
    made.add_argument("--gamma", type=_number(0, open_low=True), metavar="X", help="model")
    add.add_argument("-o", "--output", metavar="FILE", help="cascades as CSV (stdout)")
    add.add_argument("--edges-out", metavar="FILE", help="the true network, as CSV")
    add.add_argument("--nodes-out", metavar="FILE", help="all nodes, for fit --nodes")


def _add_demo(add: argparse.ArgumentParser) -> None:
    add.add_argument("-o", "--output", metavar="FOLDER", help="new folder (cascadenet-demo)")
    add.add_argument("--seed", type=_count(0), default=1, metavar="N")
    add.add_argument("--json", action="store_true", help="JSON instead of text")
    _add_jobs(add)
    _add_quiet(add)


def _add_delay(add: Any) -> None:
    about = f"delay from infection to infection: {', '.join(DELAYS)} (the first)"
    add.add_argument("--delay", choices=DELAYS, default=DELAYS[0], metavar="NAME", help=about)


def _add_run(add: argparse.ArgumentParser) -> None:
    add.add_argument("run_folder", metavar="RUN", help="folder that fit has made")


def _add_interval(add: argparse.ArgumentParser, about: str) -> None:
    add.add_argument("--interval", type=_integer, metavar="J", help=f"{about}; -1 is the last")


def _add_output(add: argparse.ArgumentParser) -> None:
    add.add_argument("-o", "--output", metavar="FILE", help="instead of stdout")
    add.add_argument("--json", action="store_true", help="JSON instead of text")


def _add_jobs(add: Any) -> None:
    add.add_argument("--jobs", type=_count(1), metavar="N", help="threads (as many as cores)")


def _add_quiet(add: Any) -> None:
    add.add_argument("--quiet", action="store_true", help="only warnings and errors")


_COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "demo": (_add_demo, "simulate, fit, and show what was recovered"),
    "simulate": (_add_simulate, "simulate cascades on a known network"),
    "fit": (_add_fit, "infer the network behind cascades"),
    "update": (_add_update, "go on with a run over time: add what has happened since"),
    "summary": (_add_summary, "say what a run found and whether its chains agree"),
    "edges": (_add_edges, "print the edges of a run, best first, as CSV"),
    "predict": (_add_predict, "predict edges, infections, spread and influence"),
    "plot": (_add_plot, "draw a picture of a run"),
    "report": (_add_report, "write one HTML page about a run"),
}
