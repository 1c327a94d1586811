"""``cascadenet compare``: all methods on one data set, as a table and a picture."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascadenet.cascades import Cascades

METHODS = "CoOccurrence, NetRate, NetInf, InfoPath, CoupledHDP with a flat and with its own prior"
DELAYS = ("exponential", "rayleigh")


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add ``compare`` to the main command line.

    As the other commands it sets ``run``, a function from the parsed arguments to an exit code, and
    ``parser``, its own.
    """
    # cli_arguments imports this module
    from cascadenet.cli_arguments import PICTURES, _columns, _count, _duration, _time

    about = "fit all methods to the same cascades and say what they reach at what cost"
    add = subparsers.add_parser("compare", help=about, description=f"{about.capitalize()}.")
    add.set_defaults(run=run, parser=add)
    add.epilog = (
        f"Methods: {METHODS}, each in a process of its own, with one thread. With --truth the "
        "table has AUPRC, ROC AUC, F1 and precision over all ordered pairs of nodes; without, the "
        "log-likelihood per infection of the rates for a fifth of the cascades, held out."
    )
    add.add_argument("file", metavar="FILE", help="cascades, one infection a row; gzip is fine")
    add.add_argument("--truth", metavar="FILE", help="true network, source,target[,rate]")
    data = add.add_argument_group("data")
    data.add_argument("--format", choices=("csv", "snap"), help="guessed from the content")
    data.add_argument(
        "--columns", type=_columns, metavar="C,N,T", help="names of the columns cascade,node,time"
    )
    data.add_argument("--nodes", metavar="FILE", help="all nodes, one a line (those of the files)")
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
    fits = add.add_argument_group("methods")
    fits.add_argument(
        "--delay", choices=DELAYS, default=DELAYS[0], help="of all methods (the first)"
    )
    fits.add_argument("--draws", type=_count(1), default=100, metavar="N", help="CoupledHDP (100)")
    fits.add_argument(
        "--tune", type=_count(0), default=50, metavar="N", help="sweeps before them (50)"
    )
    fits.add_argument(
        "--seed", type=_count(0), default=1, metavar="N", help="for the same result again (1)"
    )
    add.add_argument("-o", "--output", metavar="FILE", help="table, instead of stdout")
    add.add_argument("--json", action="store_true", help="JSON instead of CSV")
    about = f"what is reached against CPU time; ends in {', '.join(PICTURES)}"
    add.add_argument("--plot", metavar="FILE", help=about)
    add.add_argument("--quiet", action="store_true", help="only warnings and errors")
    return add


def run(options: argparse.Namespace) -> int:
    """``compare``: one call of :func:`cascadenet.compare.compare`."""
    from pathlib import Path

    from cascadenet import cli
    from cascadenet.cli_arguments import PICTURES
    from cascadenet.compare import compare, plot_comparison

    if options.plot is not None and Path(options.plot).suffix.lower() not in PICTURES:
        options.parser.error(f"--plot must end in {', '.join(PICTURES)}; got {options.plot!r}")
    for path in (options.output, options.plot):
        cli._check_target(path)
    cascades = cli._read_cascades(options)
    truth = None
    if options.truth is not None:
        cascades, truth = _with_truth(cascades, options)
    table = compare(
        cascades,
        truth,
        delay=options.delay,
        draws=options.draws,
        tune=options.tune,
        seed=options.seed,
        progress=False if options.quiet else None,
    )
    cli._emit_table(table, options)
    if options.plot is not None:
        import matplotlib

        matplotlib.use("Agg")  # windows are of no use here, and a screen may be missing
        import matplotlib.pyplot as plt

        from cascadenet.plotting import save_figure

        ax = plot_comparison(table)
        save_figure(ax, options.plot)
        plt.close(ax.figure)
    return 0


def _with_truth(cascades: Cascades, options: argparse.Namespace) -> tuple[Cascades, object]:
    """Truth with the labels of the cascades, and cascades that know the nodes of the truth.

    A label counts as the same whether it was read as int or str. Nodes that no cascade has are
    added, unless ``--nodes`` says which there are.
    """
    from pathlib import Path

    from cascadenet.cascades import Cascades
    from cascadenet.errors import FormatError
    from cascadenet.readers import read_network

    truth = read_network(options.truth)
    known = {str(label): label for label in cascades.nodes}
    unknown = [x for x in map(str, truth.attrs["nodes"]) if x not in known]
    if unknown and options.nodes is not None:
        name = Path(options.truth).name
        raise FormatError(f"expected nodes of {options.nodes}; got {unknown[0]!r} ({name})")
    if unknown:
        whole = all(isinstance(label, int) for label in (*cascades.nodes, *truth.attrs["nodes"]))
        kind = int if whole else str
        nodes = tuple(kind(text) for text in (*known, *unknown))
        known = {str(label): label for label in nodes}
        arrays = {name: getattr(cascades, name) for name in ("offset", "node", "time", "horizon")}
        cascades = Cascades(nodes, cascades.labels, **arrays)
    for column in ("source", "target"):
        truth[column] = [known[str(label)] for label in truth[column]]
    return cascades, truth
