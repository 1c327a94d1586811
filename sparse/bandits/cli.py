"""``cascadenet bandit``: simulated comparisons and off-policy values as CSV and pictures."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cascadenet.errors import FormatError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from cascadenet.sparse.bandits.ope import ListPolicy

LOG_COLUMNS = ("round", "slot", "item", "click")
DEFAULT_RANKERS = "linucb-pbm,lints-pbm,linucb-naive,lints-naive,random"
FITS = ("em", "poisson", "harvest", "ctr", "probit")


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add ``bandit`` and its commands to the main command line.

    As the commands of the main line, each sets ``run``, a function from the parsed arguments to an
    exit code, and ``parser``, its own.
    """
    parser = subparsers.add_parser(
        "bandit",
        help="ranking bandits under position bias: simulate, evaluate",
        description="Rankers that learn from clicks in slots that are not all looked at.",
    )
    commands = parser.add_subparsers(dest="bandit_command", required=True, metavar="COMMAND")
    _add_simulate(commands)
    _add_evaluate(commands)
    return parser


def _add_simulate(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "simulate", simulate, "regret of rankers in a simulated world")
    parser.add_argument(
        "--rankers", default=DEFAULT_RANKERS, metavar="LIST",
        help=f"comma-separated, or all ({DEFAULT_RANKERS})",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5000, metavar="N", help="per run (5000)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="runs of each (5)")
    parser.add_argument("--seed", type=int, default=0, help="first seed (0)")
    parser.add_argument("--items", type=int, default=50, metavar="K", help="candidates (50)")
    parser.add_argument("--features", type=int, default=10, metavar="D", help="per item (10)")
    parser.add_argument(
        "--examination", default="1,0.5,0.3333333333333333,0.25,0.2", metavar="LIST",
        help="probability that each slot is looked at, comma-separated (1,1/2,...,1/5)",
    )  # fmt: skip
    parser.add_argument("--fresh", action="store_true", help="new items in every round")
    parser.add_argument(
        "--alpha", type=float, default=0.5, help="LinUCB's width, LinTS's scale (0.5)"
    )
    parser.add_argument("--weighting", type=int, choices=(0, 1, 2), default=0, help="p (0)")
    parser.add_argument("--points", type=int, default=50, metavar="N", help="rounds to list (50)")
    parser.add_argument("--summary", action="store_true", help="only means at the last round")
    parser.add_argument(
        "--measure", choices=("regret", "clicks", "ctr", "ndcg"), default="regret",
        help="of the picture (regret)",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="CSV", help="table; standard output by default")
    parser.add_argument("--plot", metavar="PNG", help="picture of the measure with its bands")


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands, "evaluate", evaluate, "value of another ranker from a log of clicks"
    )
    parser.add_argument("log", metavar="LOG", help=f"CSV with columns {','.join(LOG_COLUMNS)}")
    parser.add_argument(
        "--target", required=True, metavar="CSV",
        help="ranker to value: columns item,weight, filled slot by slot in proportion to weight",
    )  # fmt: skip
    parser.add_argument(
        "--logging", default="uniform", metavar="CSV",
        help="ranker that made the log, in the same form (uniform: random lists)",
    )  # fmt: skip
    parser.add_argument(
        "--examination", metavar="LIST|METHOD",
        help=f"comma-separated probabilities, or how to fit them to the log: {', '.join(FITS)}",
    )  # fmt: skip
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals (0.95)")
    parser.add_argument("-o", "--output", metavar="CSV", help="table; standard output by default")
    parser.add_argument("--plot", metavar="PNG", help="picture of the estimates")


def _command(
    commands: argparse._SubParsersAction,
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text.capitalize() + ".")
    parser.set_defaults(run=run, parser=parser)
    return parser


# Handlers


def simulate(options: argparse.Namespace) -> int:
    """``bandit simulate``: rankers in a world with linear attraction."""
    from functools import partial

    from cascadenet.sparse.bandits.experiment import run_experiment, summarise
    from cascadenet.sparse.bandits.worlds import linear_world, ready_rankers

    if options.seeds < 1:
        raise ValueError(f"--seeds must be at least 1; got {options.seeds}")
    q = _numbers("--examination", options.examination)
    names = None if options.rankers == "all" else tuple(_split(options.rankers))
    makers = ready_rankers(
        names, alpha=options.alpha, weighting=options.weighting, fixed=not options.fresh
    )
    world = partial(
        linear_world, n_items=options.items, n_features=options.features, examination=q,
        fresh=options.fresh,
    )  # fmt: skip
    seeds = range(options.seed, options.seed + options.seeds)
    table = run_experiment(
        makers, world, options.rounds, seeds, points=options.points,
        progress=sys.stderr.isatty(),
    )  # fmt: skip
    if options.plot:
        from cascadenet.sparse.bandits.plots import plot_regret

        _save_picture(options.plot, plot_regret, table, options.measure)
    _write(options.output, summarise(table) if options.summary else table)
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """``bandit evaluate``: off-policy estimates of a target from a log."""
    import numpy as np

    from cascadenet.sparse.bandits import ope
    from cascadenet.sparse.bandits.examination import count_lists, fit_examination

    rankings, clicks, labels = _read_log(options.log)
    n_slots = rankings.shape[1]
    target = _read_policy(options.target, labels, n_slots)
    if options.logging == "uniform":
        logging = ope.plackett_luce(np.ones(len(labels)), n_slots)
    else:
        logging = _read_policy(options.logging, labels, n_slots)
    q = reward = None
    if options.examination in FITS:
        counts = count_lists(rankings, clicks, len(labels))
        fitted = fit_examination(*counts, options.examination)
        q = fitted.examination
        if fitted.attraction is not None:
            reward = np.clip(fitted.attraction[:, None] * q, 0.0, 1.0)
    elif options.examination:
        q = _numbers("--examination", options.examination)
    table = ope.evaluate(
        rankings, clicks, target, logging, examination=q, reward=reward, level=options.level
    )
    if options.plot:
        from cascadenet.sparse.bandits.plots import plot_estimates

        _save_picture(options.plot, plot_estimates, table)
    _write(options.output, table)
    return 0


# Reading and writing


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(name: str, text: str) -> np.ndarray:
    import numpy as np

    try:
        return np.array([float(part) for part in _split(text)])
    except ValueError:
        raise ValueError(f"{name} must be comma-separated numbers; got {text!r}") from None


def _read_table(path: str, columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} must be a CSV file with a header; {error}") from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise FormatError(
            f"{path} must have the columns {', '.join(columns)}; "
            f"got {', '.join(map(str, table.columns))}"
        )
    if table.empty:
        raise FormatError(f"{path} must have at least one row")
    for name in columns:
        bad = table[name].isna()
        if bad.any():
            line = int(bad.to_numpy().argmax()) + 2
            raise FormatError(f"{name} must not be empty ({path}, line {line})")
    return table


def _numeric(table: pd.DataFrame, name: str, path: str) -> np.ndarray:
    import numpy as np
    import pandas as pd

    values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        line = int(bad.argmax())
        got = table[name].iloc[line]
        raise FormatError(f"{name} must be a finite number; got {got} ({path}, line {line + 2})")
    return values


def _read_log(path: str) -> tuple[np.ndarray, np.ndarray, list[object]]:
    """Lists (T, L) of item indices, clicks (T, L), and the items' labels, sorted."""
    import numpy as np

    table = _read_table(path, LOG_COLUMNS)
    slot = _numeric(table, "slot", path).astype(np.int64)
    click = _numeric(table, "click", path)
    bad = ~np.isin(click, (0.0, 1.0))
    if bad.any():
        line = int(bad.argmax()) + 2
        raise FormatError(f"click must be 0 or 1; got {click[line - 2]:g} ({path}, line {line})")
    labels, item = np.unique(table["item"].to_numpy(), return_inverse=True)
    rounds, row = np.unique(table["round"].to_numpy(), return_inverse=True)
    slots = np.unique(slot)
    column = np.searchsorted(slots, slot)
    shape = (len(rounds), len(slots))
    cell = row * shape[1] + column
    if cell.size != shape[0] * shape[1] or np.unique(cell).size != cell.size:
        raise FormatError(
            f"{path} must have every slot once in every round; got {cell.size} rows for "
            f"{shape[0]} rounds of {shape[1]} slots"
        )
    rankings, clicks = np.empty(cell.size, np.int64), np.empty(cell.size)
    rankings[cell], clicks[cell] = item, click
    rankings = rankings.reshape(shape)
    ordered = np.sort(rankings, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if twice.any():
        raise FormatError(f"{path}: an item is twice in the list of round {rounds[twice][0]}")
    return rankings, clicks.reshape(shape), labels.tolist()


def _read_policy(path: str, labels: list[object], n_slots: int) -> ListPolicy:
    import numpy as np

    from cascadenet.sparse.bandits.ope import plackett_luce

    table = _read_table(path, ("item", "weight"))
    weight = _numeric(table, "weight", path)
    place = {label: i for i, label in enumerate(labels)}
    values = np.zeros(len(labels))
    for line, (item, value) in enumerate(zip(table["item"].tolist(), weight, strict=True), 2):
        if item not in place:
            raise FormatError(f"item {item} is not in the log ({path}, line {line})")
        if not value > 0:
            raise FormatError(f"weight must be above 0; got {value:g} ({path}, line {line})")
        if values[place[item]]:
            raise FormatError(f"item {item} is listed twice ({path}, line {line})")
        values[place[item]] = value
    if not values.all():
        missing = labels[int((values == 0).argmax())]
        raise FormatError(f"{path} must give a weight to every item; none for {missing}")
    return plackett_luce(values, n_slots)


def _save_picture(path: str, draw: Callable[..., object], *arguments: object) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    draw(*arguments, ax=figure.add_subplot())
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _write(path: str | None, table: pd.DataFrame) -> None:
    with _destination(path) as target:
        table.to_csv(target, index=False, lineterminator="\n")


@contextlib.contextmanager
def _destination(path: str | None) -> Iterator[object]:
    if path is None or path == "-":
        yield sys.stdout
        return
    from cascadenet.files import atomic_path

    with atomic_path(path) as partial:
        yield partial
