"""``cascadenet federate``: simulated federations as CSV and pictures."""

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

    from cascadenet.sparse.federated.results import Simulation
    from cascadenet.sparse.federated.server import FedAvg

STRATEGIES = ("fedavg", "adaptcl", "static", "fedasync")
TABLES = ("summary", "rounds", "workers", "events")
PICTURES = ("accuracy", "retention", "times", "waiting")
KEYS = ("x_train", "y_train", "x_test", "y_test")
TEST_SHARE = 3  # one row in so many of the digits is for testing


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add ``federate`` and its commands to the main command line.

    As the commands of the main line, each sets ``run``, a function from the parsed arguments to an
    exit code, and ``parser``, its own.
    """
    parser = subparsers.add_parser(
        "federate",
        help="federated training with sub-models fitted to the workers: simulate",
        description="Federated training with workers of different speed.",
    )
    commands = parser.add_subparsers(dest="federate_command", required=True, metavar="COMMAND")
    _add_simulate(commands)
    return parser


def _add_simulate(commands: argparse._SubParsersAction) -> None:
    text = "real training against a simulated clock"
    parser = commands.add_parser("simulate", help=text, description=text.capitalize() + ".")
    parser.set_defaults(run=run_simulation, parser=parser)
    add = parser.add_argument
    add(
        "--data", default="digits", metavar="digits|NPZ",
        help=f"scikit-learn's digits, or an archive with {', '.join(KEYS)} (digits)",
    )  # fmt: skip
    add("--rows", type=int, metavar="N", help="use the first N training rows (all)")
    add("--strategies", default="fedavg,adaptcl", metavar="LIST", help=", ".join(STRATEGIES))
    add("--workers", type=int, default=10, metavar="W", help="(10)")
    add("--rounds", type=int, default=60, metavar="N", help="(60)")
    add("--split", type=float, metavar="C", help="Dirichlet concentration (random division)")
    add("--hidden", default="100,50", metavar="LIST", help="widths of the hidden layers (100,50)")
    add("--no-batch-norm", action="store_true", help="plain hidden layers")
    add("--executor", choices=("serial", "threads", "processes"), default="serial")
    add("--jobs", type=int, metavar="N", help="threads or processes")
    add("--seed", type=int, default=0, help="of everything; with --seeds the first (0)")
    add("--seeds", type=int, default=1, metavar="N", help="runs of each strategy (1)")
    _add_training(parser)
    _add_clock(parser)
    _add_rates(parser)
    add("--table", choices=TABLES, default="summary", help="what to write (summary)")
    add("-o", "--output", metavar="CSV", help="table; standard output by default")
    add("--plot", metavar="PNG", help="picture of the first seed")
    add("--picture", choices=PICTURES, default="accuracy", help="what it shows (accuracy)")


def _add_training(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("workers' training").add_argument
    add("--epochs", type=int, default=1, metavar="N", help="passes in a round (1)")
    add("--batch-size", type=int, default=32, metavar="N", help="(32)")
    add("--learning-rate", type=float, default=0.1, metavar="R", help="of the first round (0.1)")
    add("--momentum", type=float, default=0.9, metavar="M", help="(0.9)")
    add("--weight-decay", type=float, default=0.0, metavar="D", help="(0)")
    add("--send", type=float, metavar="SHARE", help="send only the largest entries of updates")


def _add_clock(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("clock").add_argument
    add("--sigma", type=float, default=2.0, help="slowest over fastest update time (2)")
    add("--fastest", type=float, default=1.0, metavar="S", help="seconds of the fastest (1)")
    add("--fixed", type=float, default=0.05, metavar="SHARE", help="of the time, fixed (0.05)")
    add("--transfer", type=float, default=0.25, metavar="SHARE", help="in transfers (0.25)")
    add("--latency", type=float, default=0.0, metavar="SHARE", help="in latencies (0)")
    add("--noise", type=float, default=0.03, metavar="SD", help="of the log time (0.03)")
    add("--drift", type=float, default=0.0, metavar="SD", help="of its walk, a round (0)")


def _add_rates(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("AdaptCL").add_argument
    add("--interval", type=int, default=5, metavar="N", help="rounds between events (5)")
    add("--rule", choices=("newton", "proportional"), default="newton", help="(newton)")
    add("--alpha", type=float, default=1.0, help="of the proportional rule (1)")
    add("--rho-max", type=float, default=0.5, help="largest share lost in an event (0.5)")
    add("--gamma-min", type=float, default=0.1, help="least share of parameters kept (0.1)")
    add("--tolerance", type=float, default=0.08, help="dead-band (0.08)")
    add("--importance", choices=("auto", "norm", "scale", "taylor"), default="auto")
    add("--aggregation", choices=("unit", "update", "worker"), default="unit", help="(unit)")
    add("--timeout", type=float, metavar="K", help="wait so many times the last round's slowest")


# Handlers


def run_simulation(options: argparse.Namespace) -> int:
    """``federate simulate``: strategies on the same data and clock."""
    from cascadenet.sparse.federated.server import RoundError

    if options.seeds < 1:
        raise ValueError(f"--seeds must be at least 1; got {options.seeds}")
    names = [name.strip() for name in options.strategies.split(",") if name.strip()]
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown or not names:
        raise ValueError(
            f"--strategies must be among {', '.join(STRATEGIES)}; got {options.strategies!r}"
        )
    data = _load(options.data, options.rows)
    runs = {}
    for seed in range(options.seed, options.seed + options.seeds):
        try:
            runs[seed] = {name: _simulated(name, data, seed, options) for name in names}
        except RoundError as error:
            raise ValueError(str(error)) from None
    if options.plot:
        _save_picture(options.plot, options.picture, runs[options.seed])
    with _destination(options.output) as target:
        _table(options.table, runs).to_csv(target, index=False, lineterminator="\n")
    return 0


def _simulated(
    name: str, data: tuple[np.ndarray, ...], seed: int, options: argparse.Namespace
) -> Simulation:
    from cascadenet.sparse.federated.clock import Heterogeneity
    from cascadenet.sparse.federated.dgc import DGC
    from cascadenet.sparse.federated.simulator import simulate
    from cascadenet.sparse.federated.worker import LocalTraining

    clock = Heterogeneity(
        options.sigma, options.fastest, options.fixed, options.latency, options.transfer,
        options.noise, options.drift,
    )  # fmt: skip
    training = LocalTraining(
        epochs=options.epochs, batch_size=options.batch_size, momentum=options.momentum,
        learning_rate=options.learning_rate, weight_decay=options.weight_decay,
    )  # fmt: skip
    return simulate(
        _strategy(name, options), data, n_rounds=options.rounds, n_workers=options.workers,
        split=options.split, network=_widths(options.hidden),
        batch_norm=not options.no_batch_norm, clock=clock, training=training,
        compression=None if options.send is None else DGC(options.send),
        executor=options.executor, n_jobs=options.jobs, seed=seed,
        progress=sys.stderr.isatty(),
    )  # fmt: skip


def _strategy(name: str, options: argparse.Namespace) -> FedAvg:
    import numpy as np

    from cascadenet.sparse.federated.adaptcl import AdaptCL
    from cascadenet.sparse.federated.rates import RateRule
    from cascadenet.sparse.federated.server import FedAsync, FedAvg, StaticWidth

    if name == "fedavg":
        return FedAvg(timeout=options.timeout)
    if name == "fedasync":
        return FedAsync()
    if name == "static":
        widths = 1 / np.linspace(1.0, options.sigma, options.workers)
        return StaticWidth(np.maximum(widths, options.gamma_min), timeout=options.timeout)
    rate = RateRule(
        rule=options.rule, alpha=options.alpha, rho_max=options.rho_max,
        gamma_min=options.gamma_min, tolerance=options.tolerance,
    )  # fmt: skip
    return AdaptCL(
        interval=options.interval, rate=rate, importance=options.importance,
        min_units=min(0.05, options.gamma_min / 2), aggregation=options.aggregation,
        timeout=options.timeout,
    )  # fmt: skip


def _table(kind: str, runs: dict[int, dict[str, Simulation]]) -> pd.DataFrame:
    """One table of all runs."""
    import pandas as pd

    from cascadenet.sparse.federated.results import compare, summarise

    if kind == "summary":
        parts = [
            compare(found, baseline=next(iter(found))).assign(seed=seed)
            for seed, found in runs.items()
        ]
        return summarise(pd.concat(parts, ignore_index=True))
    parts = []
    for seed, found in runs.items():
        for name, run in found.items():
            part = getattr(run, kind).copy()
            part.insert(0, "seed", seed)
            part.insert(0, "strategy", name)
            parts.append(part)
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


# Reading and writing


def _widths(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"--hidden must be comma-separated integers; got {text!r}") from None


def _load(source: str, rows: int | None) -> tuple[np.ndarray, ...]:
    """x, y, x_test and y_test; inputs standardised as a whole by the training rows."""
    import numpy as np

    x, y, x_test, y_test = _digits() if source == "digits" else _archive(source)
    if rows is not None:
        if rows < 1:
            raise ValueError(f"--rows must be at least 1; got {rows}")
        x, y = x[:rows], y[:rows]
    flat, flat_test = (part.reshape(len(part), -1).astype(np.float32) for part in (x, x_test))
    centre, scale = float(flat.mean()), float(flat.std()) or 1.0
    return (flat - centre) / scale, y, (flat_test - centre) / scale, y_test


def _digits() -> tuple[np.ndarray, ...]:
    import numpy as np

    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ValueError("--data digits needs scikit-learn; or give an NPZ archive") from None
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(y.size)
    split = y.size // TEST_SHARE
    train, test = order[split:], order[:split]
    return x[train], y[train], x[test], y[test]


def _archive(path: str) -> tuple[np.ndarray, ...]:
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in KEYS if key not in archive]
            if missing:
                raise FormatError(
                    f"{path} must have the arrays {', '.join(KEYS)}; missing {', '.join(missing)}"
                )
            arrays = tuple(archive[key] for key in KEYS)
    except FormatError:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise FormatError(f"{path} must be an NPZ archive of numbers; {error}") from None
    for key, array in zip(KEYS, arrays, strict=True):
        wanted = "iu" if key.startswith("y") else "iuf"
        if array.dtype.kind not in wanted or array.ndim < 1 or not array.size:
            raise FormatError(f"{path}: {key} must be numbers; got {array.dtype} of {array.shape}")
    for x, y in ((0, 1), (2, 3)):
        if len(arrays[x]) != len(arrays[y]):
            raise FormatError(
                f"{path}: {KEYS[x]} and {KEYS[y]} must be of one length; "
                f"got {len(arrays[x])} and {len(arrays[y])}"
            )
    return arrays


def _save_picture(path: str, kind: str, runs: dict[str, Simulation]) -> None:
    from matplotlib.figure import Figure

    from cascadenet.sparse.federated import plots

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    ax = figure.add_subplot()
    draw: Callable[..., object] = getattr(plots, f"plot_{kind}")
    if kind in ("retention", "times"):
        draw(runs.get("adaptcl", next(iter(runs.values()))), ax=ax)
    else:
        draw(runs, ax=ax)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


@contextlib.contextmanager
def _destination(path: str | None) -> Iterator[object]:
    if path is None or path == "-":
        yield sys.stdout
        return
    from cascadenet.files import atomic_path

    with atomic_path(path) as partial:
        yield partial
