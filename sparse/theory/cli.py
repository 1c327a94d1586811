"""``cascadenet theory``: risk curves as CSV and pictures. Heavy imports wait for the command."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cascadenet.errors import FormatError

if TYPE_CHECKING:
    import pandas as pd

    from cascadenet.sparse.theory.laws import Law

LAWS = ("isotropic", "two-level", "spiked", "power-law")
COMPONENT = ("weight", "eigenvalue", "mean", "variance")
PAIR = ("eigenvalue", "coefficient")
MONTE_CARLO_POINTS = 8
NEAR_PEAK = 0.12  # no simulated point this close to the peak, in log kappa: its variance explodes


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add ``theory`` and its commands to the main command line.

    As the commands of the main line, each sets ``run``, a function from the parsed arguments to an
    exit code, and ``parser``, its own.
    """
    parser = subparsers.add_parser(
        "theory",
        help="exact risks of dense, pruned and retrained models",
        description="Exact high-dimensional test risks as a table, and a picture of it.",
    )
    commands = parser.add_subparsers(dest="theory_command", required=True, metavar="COMMAND")
    _add_double_descent(commands)
    _add_pruning(commands)
    _add_random_features(commands)
    return parser


def _add_double_descent(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "double-descent", double_descent, "dense risk against model size")
    _law_arguments(parser)
    _kappa_argument(parser)
    _output_arguments(parser, "training samples of the simulation")


def _add_pruning(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "pruning", pruning, "pruned and retrained risks against model size")
    _law_arguments(parser)
    _kappa_argument(parser)
    sparsity = parser.add_mutually_exclusive_group()
    sparsity.add_argument(
        "--kept", type=float, metavar="A", help="kept over all coefficients (0.2)"
    )
    sparsity.add_argument(
        "--kept-per-sample", type=float, metavar="R", help="kept coefficients over samples"
    )
    parser.add_argument(
        "--methods", default="magnitude,hessian,oracle", metavar="LIST", help="comma-separated"
    )
    parser.add_argument("--retrain-ridge", type=float, default=0.0, metavar="LAMBDA")
    parser.add_argument(
        "--heatmap", metavar="PNG", help="picture of where training large and pruning wins"
    )
    _output_arguments(parser, "training samples of the simulation")


def _add_random_features(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands, "random-features", random_features, "random-features models of growing width"
    )
    parser.add_argument("--activation", default="relu", help="relu, tanh, erf, sign, ... (relu)")
    parser.add_argument("--samples-per-input", type=float, default=3.0, metavar="PSI2")
    parser.add_argument(
        "--features-per-input", type=float, nargs=3, default=(0.1, 30.0, 200),
        metavar=("LOW", "HIGH", "COUNT"), help="spaced evenly in the logarithm (0.1 30 200)",
    )  # fmt: skip
    parser.add_argument(
        "--noise", type=float, default=0.2, metavar="V", help="noise variance (0.2)"
    )
    parser.add_argument("--kept", type=float, metavar="A", help="kept over all coefficients")
    parser.add_argument("--ridge", type=float, default=0.0, metavar="LAMBDA")
    _output_arguments(parser, "input dimension of the simulation", samples=100)


def _command(
    commands: argparse._SubParsersAction,
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text.capitalize() + ".")
    parser.set_defaults(run=run, parser=parser)
    return parser


def _law_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--law", choices=LAWS, help="a ready-made law (two-level)")
    group.add_argument(
        "--component", type=float, nargs=4, action="append", metavar=("W", "L", "MEAN", "VAR"),
        help="weight, eigenvalue, mean and variance of the scaled coefficient; repeatable",
    )  # fmt: skip
    group.add_argument(
        "--law-file", metavar="CSV",
        help="columns weight,eigenvalue,mean,variance, or eigenvalue,coefficient of real features",
    )  # fmt: skip
    parser.add_argument(
        "--noise", type=float, default=0.25, metavar="V", help="noise variance (0.25)"
    )
    parser.add_argument("--ridge", type=float, default=0.0, metavar="LAMBDA", help="penalty (0)")


def _kappa_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kappa", type=float, nargs=3, default=(0.1, 10.0, 400), metavar=("LOW", "HIGH", "COUNT"),
        help="features per sample, spaced evenly in the logarithm (0.1 10 400)",
    )  # fmt: skip


def _output_arguments(parser: argparse.ArgumentParser, size: str, samples: int = 300) -> None:
    parser.add_argument("-o", "--output", metavar="CSV", help="table; standard output by default")
    parser.add_argument("--plot", metavar="PNG", help="picture of the curves")
    parser.add_argument(
        "--monte-carlo", type=int, default=0, metavar="N",
        help=f"simulate N data sets at {MONTE_CARLO_POINTS} points and overlay them",
    )  # fmt: skip
    parser.add_argument("--samples", type=int, default=samples, help=f"{size} ({samples})")
    parser.add_argument("--seed", type=int, default=0, help="of the simulation (0)")


# Handlers


def double_descent(options: argparse.Namespace) -> int:
    """``theory double-descent``: the dense risk with bias and variance."""
    from cascadenet.sparse.theory.curves import curve

    law, kappa = _law(options), _grid("--kappa", options.kappa)
    table = curve(law, kappa, options.noise, ridge=options.ridge)
    simulated = _simulated(options, law, kappa, None, (), 0.0)
    return _deliver(options, table, simulated)


def pruning(options: argparse.Namespace) -> int:
    """``theory pruning``: every pruned and retrained risk."""
    import numpy as np

    from cascadenet.sparse.theory.curves import curve

    law, kappa = _law(options), _grid("--kappa", options.kappa)
    methods = tuple(name.strip() for name in options.methods.split(",") if name.strip())
    if options.kept is None and options.kept_per_sample is None:
        options.kept = 0.2
    table = curve(
        law, kappa, options.noise, options.kept,
        kept_per_sample=options.kept_per_sample, methods=methods,
        ridge=options.ridge, retrain_ridge=options.retrain_ridge,
    )  # fmt: skip
    if options.heatmap:
        from cascadenet.sparse.theory.curves import sparsity_grid

        loads = np.linspace(0.05, min(2.0, kappa.max()), 60)
        grid = sparsity_grid(
            law, np.geomspace(kappa.min(), kappa.max(), 90), loads, options.noise,
            method=methods[0], ridge=options.ridge,
        )  # fmt: skip
        _save_picture(options.heatmap, grid, None, heatmap=True)
    simulated = _simulated(options, law, kappa, table, methods, options.retrain_ridge)
    return _deliver(options, table, simulated)


def random_features(options: argparse.Namespace) -> int:
    """``theory random-features``: risk against the width of a random first layer."""
    from cascadenet.sparse.theory.curves import random_feature_curve
    from cascadenet.sparse.theory.simulator import simulate_random_features

    width = _grid("--features-per-input", options.features_per_input)
    table = random_feature_curve(
        options.activation, width, options.samples_per_input, options.noise, options.kept,
        ridge=options.ridge,
    )  # fmt: skip
    simulated = None
    if _wants_simulation(options):
        at = _simulated_points(width / options.samples_per_input, options.ridge)
        simulated = simulate_random_features(
            options.activation, at * options.samples_per_input, options.samples_per_input,
            options.noise, kept_fraction=1.0 if options.kept is None else options.kept,
            inputs=options.samples, repeats=options.monte_carlo, ridge=options.ridge,
            seed=options.seed,
        )  # fmt: skip
        if options.kept is None:
            simulated = simulated[simulated["risk"] == "dense"]
    return _deliver(options, table, simulated)


def _simulated(
    options: argparse.Namespace,
    law: Law,
    kappa: object,
    table: pd.DataFrame | None,
    methods: tuple[str, ...],
    retrain_ridge: float,
) -> pd.DataFrame | None:
    """Monte Carlo overlay of a linear model, or None when it was not asked for."""
    if not _wants_simulation(options):
        return None
    import numpy as np

    from cascadenet.sparse.theory.simulator import simulate

    at = _simulated_points(kappa, options.ridge)
    kept = 1.0
    if table is not None:
        kept = np.interp(at, table["kappa"], table["kept_fraction"])
    return simulate(
        law, at, options.noise, kept, n_samples=options.samples, repeats=options.monte_carlo,
        methods=methods, ridge=options.ridge, retrain_ridge=retrain_ridge, seed=options.seed,
    )  # fmt: skip


def _wants_simulation(options: argparse.Namespace) -> bool:
    if options.monte_carlo and options.monte_carlo < 2:
        raise ValueError(f"--monte-carlo must be at least 2; got {options.monte_carlo}")
    return options.monte_carlo > 0


def _simulated_points(kappa: object, ridge: float) -> object:
    """A few kappas over the range, none on the peak."""
    import numpy as np

    kappa = np.asarray(kappa)
    at = np.geomspace(kappa.min(), kappa.max(), MONTE_CARLO_POINTS)
    if ridge == 0:
        at = at[np.abs(np.log(at)) > NEAR_PEAK]
    return at


def _grid(name: str, values: tuple[float, float, float]) -> object:
    import numpy as np

    low, high, count = values
    if not 0 < low < high or count != int(count) or count < 2:
        raise ValueError(f"{name} must be 0 < LOW < HIGH and an integer COUNT > 1; got {values}")
    return np.geomspace(low, high, int(count))


def _law(options: argparse.Namespace) -> Law:
    from cascadenet.sparse.theory import laws

    if options.component:
        return laws.Law(*zip(*options.component, strict=True))
    if options.law_file:
        return _read_law(options.law_file)
    return {
        "isotropic": lambda: laws.isotropic(),
        "two-level": lambda: laws.two_level(),
        "spiked": lambda: laws.two_level(0.1, 1.0, 0.3, eigenvalues=(25.0, 1.0)),
        "power-law": lambda: laws.power_law(),
    }[options.law or "two-level"]()


def _read_law(path: str) -> Law:
    """Law from a CSV file, in either of its two forms."""
    import pandas as pd

    from cascadenet.sparse.theory.laws import Law

    try:
        table = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} must be a CSV file with a header; {error}") from None
    for names, make in ((COMPONENT, Law), (PAIR, Law.from_data)):
        if set(names) <= set(table.columns):
            try:
                return make(*(table[name].to_numpy() for name in names))
            except ValueError as error:
                raise FormatError(f"{path}: {error}") from None
    raise FormatError(
        f"{path} must have the columns {', '.join(COMPONENT)} or {', '.join(PAIR)}; "
        f"got {', '.join(map(str, table.columns))}"
    )


def _deliver(
    options: argparse.Namespace, table: pd.DataFrame, simulated: pd.DataFrame | None
) -> int:
    """Write the table and the picture; simulated means become columns at their nearest rows."""
    if options.plot:
        _save_picture(options.plot, table, simulated, heatmap=False)
    if simulated is not None:
        table = _with_simulation(table, simulated)
    with _destination(options.output) as target:
        table.to_csv(target, index=False, lineterminator="\n")
    return 0


def _with_simulation(table: pd.DataFrame, simulated: pd.DataFrame) -> pd.DataFrame:
    """The table with columns ``simulated_R`` and ``error_R``, in rows of their own."""
    import pandas as pd

    x = "features_per_input" if "features_per_input" in simulated else "kappa"
    wide = simulated.pivot(index=x, columns="risk", values=["mean", "error"])
    wide.columns = [
        f"{'simulated' if kind == 'mean' else kind}_{risk}" for kind, risk in wide.columns
    ]
    both = pd.concat([table, wide.reset_index()], ignore_index=True)
    return both.sort_values(x, kind="stable", ignore_index=True)


def _save_picture(
    path: str, table: pd.DataFrame, simulated: pd.DataFrame | None, *, heatmap: bool
) -> None:
    from matplotlib.figure import Figure

    from cascadenet.sparse.theory.plots import plot_curve, plot_heatmap

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    ax = figure.add_subplot()
    if heatmap:
        plot_heatmap(table, ax=ax)
    else:
        plot_curve(table, simulated=simulated, ax=ax)
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
