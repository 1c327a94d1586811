"""Is the sampler right? All statistical checks of it in one command, with tables and pictures.

``python -m cascadenet.inference.calibration [exact|geweke|sbc|reliability|all] [--replicates N]
[--seed S] [-o FOLDER]`` ends with exit code 1 when a check fails.

* ``exact``: discrete updates leave the listed posterior of tiny problems alone, the compiled ones
  have the same probabilities, and mistakes are seen (`cascadenet.inference.enumeration`);
* ``geweke``: no update moves the joint law of parameters and data, one long chain neither, and bugs
  put in on purpose are caught (`cascadenet.inference.geweke`, `seeded_bugs`);
* ``sbc``: the truth is a typical posterior draw (`cascadenet.inference.sbc`);
* ``reliability``: edges given probability p are there a share p of the time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from cascadenet.inference import enumeration, geweke, sbc, seeded_bugs, worlds
from cascadenet.inference.geweke import ZTable
from cascadenet.inference.sbc import Ranks
from cascadenet.metrics import calibration_curve, expected_calibration_error
from cascadenet.plotting import PALETTE, QUIET, SMALL, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

EXACT = 1e-12  # largest change of a listed posterior by an update
OFF_LEAST = 1e-4  # least change by an update with a mistake in it
P_ROW = 1e-5  # smallest p value of outcomes of a compiled update; some 140 tests are made
P_CAUGHT = 1e-10  # largest p value of these outcomes against an update with a mistake
Z_LIMIT = 4.0  # a z beyond it is a failure
Z_CAUGHT = 8.0  # a z beyond it is what a seeded bug must show
ESS_LEAST = 5000.0  # of every statistic of the long chain
P_LEAST = 1e-3  # smallest p value of a family of tests, after Bonferroni
ECE_LIMIT = 0.03
BINS = 16  # of rank histograms
BAND = 0.95  # simultaneous coverage of their bands

# replicates by default; the long chain takes CHAIN_FACTOR sweeps for each replicate of geweke
REPLICATES = {"exact": enumeration.RUNS, "geweke": 5000, "sbc": 1000, "reliability": 40}
CHAIN_FACTOR = 24
CHAIN_CASES = ("hdp", "capped", "dynamic")

Write = Callable[[str], None]


def check_exact(replicates: int, seed: int, write: Write, folder: Path | None) -> bool:
    """Exact enumeration of tiny problems; parameters and result as of `check_geweke`.

    A replicate is one run of a compiled update from one state; there is no picture.
    """
    begin = time.perf_counter()
    rows, mistakes = [], []
    for case in enumeration.cases(seed):
        found = enumeration.judge(case, replicates)
        given = (case.update, case.problem)
        rows.append((*given, len(case.pi), found.off, found.p))
        mistakes += [
            (*given, name, off, found.wrong_p[name]) for name, off in found.wrong_off.items()
        ]
    title = f"enumeration: {replicates} runs from each of some states"
    table = pd.DataFrame(rows, columns=["update", "problem", "states", "|pi P - pi|", "p"])
    write(_text(f"{title}, {time.perf_counter() - begin:.0f} s", table))
    columns = ["update", "problem", "mistake", "|pi P - pi|", "p"]
    wrong = pd.DataFrame(mistakes, columns=columns)
    write(_text("enumeration: updates with a mistake", wrong))
    fine = (table["|pi P - pi|"] < EXACT) & (table["p"] > P_ROW)
    caught = (wrong["|pi P - pi|"] > OFF_LEAST) & (wrong["p"] < P_CAUGHT)
    write(
        f"a right update fails with probability {P_ROW:g} a state: largest |pi P - pi| "
        f"{table['|pi P - pi|'].max():.2g}, smallest p {table['p'].min():.2g}; mistakes: smallest "
        f"|pi P - pi| {wrong['|pi P - pi|'].min():.2g}, largest p {wrong['p'].max():.2g}\n\n"
    )
    return bool(fine.all() and caught.all())


def check_geweke(replicates: int, seed: int, write: Write, folder: Path | None) -> bool:
    """Joint-distribution tests of all updates, of one long chain, and the seeded bugs.

    Parameters
    ----------
    replicates : int
        Number of worlds.
    seed : int
    write : callable
        Takes the text of each table.
    folder : Path or None
        Where pictures go.

    Returns
    -------
    bool
        Whether all is well.
    """
    fine, tables = True, {}
    for name, (model, design) in worlds.CASES.items():
        begin = time.perf_counter()
        tested = geweke.blocks(model, design)
        table = geweke.joint_test(model, design, tested, replicates=replicates, seed=seed)
        tables[name] = table
        fine &= abs(geweke.worst(table)[2]) < Z_LIMIT
        title = f"joint test, {name}: {replicates} worlds, {time.perf_counter() - begin:.0f} s"
        write(_text(title, _worst_rows(table)))
    fine &= _check_chains(replicates * CHAIN_FACTOR, seed, write)
    fine &= _check_bugs(replicates, seed, write)
    if folder is not None:
        save_figure(_grid(tables.items(), plot_z, columns=2), folder / "geweke.png")
    return fine


def _worst_rows(table: ZTable) -> pd.DataFrame:
    """The statistic each block moves most."""
    rows = []
    for block, row in table.items():
        name = max(row, key=lambda key: abs(row[key]))
        moved = sum(z != 0.0 for z in row.values())
        rows.append((block, moved, name if moved else "-", row[name]))
    return pd.DataFrame(rows, columns=["update", "statistics", "largest", "z"])


def _check_chains(sweeps: int, seed: int, write: Write) -> bool:
    fine = True
    for case in CHAIN_CASES:
        begin = time.perf_counter()
        found = geweke.successive_test(*worlds.CASES[case], sweeps=sweeps, seed=seed)
        rows = [(name, z, ess) for name, (z, ess) in found.items()]
        fine &= all(abs(z) < Z_LIMIT and ess >= ESS_LEAST for _, z, ess in rows)
        title = f"one chain, {case}: {sweeps} sweeps, {time.perf_counter() - begin:.0f} s"
        write(_text(title, pd.DataFrame(rows, columns=["statistic", "z", "ESS"])))
    return fine


def _check_bugs(replicates: int, seed: int, write: Write) -> bool:
    begin = time.perf_counter()
    rows = [
        (bug.name, bug.block, *seeded_bugs.catch(bug, replicates=replicates, seed=seed))
        for bug in seeded_bugs.BUGS
    ]
    title = f"seeded bugs: {replicates} worlds each, {time.perf_counter() - begin:.0f} s"
    write(_text(title, pd.DataFrame(rows, columns=["bug", "update", "statistic", "z"])))
    return all(abs(row[-1]) > Z_CAUGHT for row in rows)


def check_sbc(replicates: int, seed: int, write: Write, folder: Path | None) -> bool:
    """Simulation-based calibration; parameters and result as of `check_geweke`."""
    fine = True
    for case, (model, design) in sbc.CASES.items():
        begin = time.perf_counter()
        ranks = sbc.rank_worlds(model, design, replicates=replicates, seed=seed, thin=10)
        found = sbc.uniformity(ranks, BINS)
        rows = [(name, *values) for name, values in found.items()]
        table = pd.DataFrame(rows, columns=["quantity", "p chi-square", "p Kolmogorov-Smirnov"])
        least = table.iloc[:, 1:].to_numpy().min()
        fine &= least > P_LEAST / (2 * len(rows))
        ece = expected_calibration_error(ranks.prob, ranks.carried)
        fine &= ece <= ECE_LIMIT
        title = f"ranks, {case}: {replicates} worlds, {time.perf_counter() - begin:.0f} s"
        write(_text(title, table))
        write(f"ECE of edge probabilities {ece:.4f} over {ranks.prob.size} pairs\n\n")
        if folder is not None:
            named = [(name, (ranks, name)) for name in ranks.rank]
            save_figure(_grid(named, _plot_named, columns=4), folder / f"sbc-{case}.png")
    return fine


def check_reliability(replicates: int, seed: int, write: Write, folder: Path | None) -> bool:
    """Reliability of the edge table's ``prob``; parameters and result as of `check_geweke`."""
    begin = time.perf_counter()
    table = sbc.carried_pairs(replicates=replicates, seed=seed)
    prob, carried = table["prob"], table["carried"]
    ece = expected_calibration_error(prob, carried)
    title = f"reliability: {replicates} networks, {time.perf_counter() - begin:.0f} s"
    write(_text(title, calibration_curve(prob, carried).drop(columns="bin")))
    write(f"ECE {ece:.4f} over {len(table)} pairs that met\n\n")
    if folder is not None:
        save_figure(plot_reliability(prob, carried), folder / "reliability.png")
    return ece <= ECE_LIMIT


CHECKS = {
    "exact": check_exact,
    "geweke": check_geweke,
    "sbc": check_sbc,
    "reliability": check_reliability,
}


def _text(title: str, table: pd.DataFrame) -> str:
    body = table.to_string(index=False, float_format=lambda x: f"{x:.3g}", na_rep="-")
    return f"{title}\n{body}\n\n"


# ---------------------------------------------------------------------------------------------
# pictures
# ---------------------------------------------------------------------------------------------


def plot_z(table: ZTable, ax: Axes | None = None) -> Axes:
    """z of every statistic, one row of dots an update, with the limits of failure.

    Parameters
    ----------
    table : dict
        Of `geweke.joint_test`; statistics an update does not touch are left out.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = _axes(ax)
    for y, row in enumerate(table.values()):
        moved = [z for z in row.values() if z != 0.0]
        ax.plot(moved, [y] * len(moved), "o", color=PALETTE[0], markersize=4, alpha=0.5)
    for limit in (-Z_LIMIT, Z_LIMIT):
        ax.axvline(limit, color=PALETTE[1], linestyle="--", linewidth=1)
    ax.axvline(0.0, color=QUIET, linewidth=0.8)
    ax.set_yticks(range(len(table)), list(table), fontsize=SMALL)
    ax.invert_yaxis()
    ax.set_xlabel("z (mean change / standard error)")
    return ax


def plot_ranks(ranks: Ranks, name: str, ax: Axes | None = None, bins: int = BINS) -> Axes:
    """Rank histogram of one quantity with the simultaneous band of uniform ranks.

    Parameters
    ----------
    ranks : Ranks
    name : str
        Key of ``ranks.rank``.
    ax : Axes, optional
    bins : int
        Must divide ``ranks.draws + 1``.

    Returns
    -------
    Axes
        With the band that all bins of a right sampler stay in with probability 95% or more
        (Bonferroni).
    """
    ax = _axes(ax)
    count = sbc.rank_histogram(ranks, name, bins)
    tail = (1.0 - BAND) / (2 * bins)
    low, high = stats.binom.ppf([tail, 1.0 - tail], count.sum(), 1.0 / bins)
    width = (ranks.draws + 1) / bins
    ax.axhspan(low, high, color=QUIET, alpha=0.3, linewidth=0)
    ax.axhline(count.sum() / bins, color=QUIET, linewidth=1)
    ax.bar(np.arange(bins) * width, count, width=0.9 * width, align="edge", color=PALETTE[0])
    ax.set(xlabel=f"rank of the truth among {ranks.draws} draws", ylabel="worlds", ylim=(0, None))
    return ax


def _plot_named(chosen: tuple[Ranks, str], ax: Axes) -> Axes:
    return plot_ranks(*chosen, ax=ax)


def plot_reliability(prob: ArrayLike, carried: ArrayLike, ax: Axes | None = None) -> Axes:
    """Observed frequency against given probability, with 94% intervals.

    Parameters
    ----------
    prob : array_like, float, shape (M,)
        Posterior probability of each pair.
    carried : array_like, bool, shape (M,)
        Whether it carried an infection.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = _axes(ax)
    curve = calibration_curve(prob, carried)
    curve = curve[curve["count"] > 0]
    errors = [curve["observed"] - curve["low"], curve["high"] - curve["observed"]]
    ax.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1)
    ax.errorbar(
        curve["predicted"],
        curve["observed"],
        np.maximum(errors, 0.0),
        fmt="o",
        color=PALETTE[0],
        capsize=3,
    )
    ax.set(xlabel="probability given", ylabel="share that carried an infection")
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    ax.set_aspect("equal")
    return ax


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(4.8, 4.2), layout="constrained")[1]


def _grid(named: Iterable[tuple[str, object]], plot: Callable, columns: int) -> np.ndarray:
    """One titled picture for each item."""
    import matplotlib.pyplot as plt

    items = list(named)
    rows = -(-len(items) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(12.0, 8.0 * rows / columns), squeeze=False, layout="constrained"
    )
    for ax in axes.flat[len(items) :]:
        figure.delaxes(ax)
    for (name, item), ax in zip(items, axes.flat, strict=False):
        plot(item, ax=ax)
        ax.set_title(name)
    return axes.ravel()[: len(items)]


# ---------------------------------------------------------------------------------------------
# command
# ---------------------------------------------------------------------------------------------


def _show(text: str) -> None:
    """Write at once: the tables are minutes apart."""
    sys.stdout.write(text)
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks asked for; 0 when all passed, 1 otherwise.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
    """
    parser = argparse.ArgumentParser(
        prog="python -m cascadenet.inference.calibration",
        description="Check the sampler: exact enumeration, joint-distribution tests, "
        "simulation-based calibration, reliability of edge probabilities.",
    )
    parser.add_argument("check", nargs="?", choices=[*CHECKS, "all"], default="all")
    parser.add_argument(
        "--replicates",
        type=int,
        metavar="N",
        help=f"worlds, for exact runs; by default {REPLICATES}",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("-o", type=Path, dest="folder", metavar="FOLDER", help="for pictures")
    options = parser.parse_args(argv)
    if options.replicates is not None and options.replicates < 2:
        parser.error(f"--replicates must be at least 2; got {options.replicates}")
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    passed = True
    for name in CHECKS if options.check == "all" else (options.check,):
        replicates = options.replicates or REPLICATES[name]
        fine = CHECKS[name](replicates, options.seed, _show, options.folder)
        _show(f"{name}: {'passed' if fine else 'FAILED'}\n\n")
        passed &= fine
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
