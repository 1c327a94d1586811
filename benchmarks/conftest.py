"""What `python -m pytest benchmarks` needs: one thread, references, and a table of ratios."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

if "numpy" not in sys.modules:  # libraries read these once, when they are loaded
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent))

import pytest

Beside = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --small, with which sizes are toys: to see whether everything still runs."""
    parser.addoption("--small", action="store_true", help="benchmarks of toy size")


def pytest_configure(config: pytest.Config) -> None:
    """Leave the table to `pytest_terminal_summary`: the plugin's own knows of no references."""
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("benchmarks need pytest-benchmark: pip install -e '.[bench]'")
    if os.environ.get("OMP_NUM_THREADS") != "1":
        given = os.environ.get("OMP_NUM_THREADS", "nothing")
        raise pytest.UsageError(
            f"expected OMP_NUM_THREADS=1; got {given}: NumPy was loaded too early to set it here"
        )
    config.option.benchmark_quiet = True


@pytest.fixture
def small(request: pytest.FixtureRequest) -> bool:
    """Whether sizes are to be toys."""
    return request.config.getoption("--small")


@pytest.fixture
def beside(benchmark, request: pytest.FixtureRequest) -> Beside:
    """Measure a call and what it is compared with in turn, both warm.

    ``beside(call, reference, of=..., rounds=9, scale=1.0)``: ``of`` says what the reference is,
    which does a share ``1 / scale`` of the work. Medians; CPU time unless the test is marked with
    another timer.
    """
    clock = request.node.get_closest_marker("benchmark").kwargs["timer"]

    def measure(
        call: Callable[[], object],
        reference: Callable[[], object],
        *,
        of: str,
        rounds: int = 9,
        scale: float = 1.0,
    ) -> None:
        spent: list[float] = []

        def first() -> None:
            began = clock()
            reference()
            spent.append(scale * (clock() - began))

        benchmark.pedantic(call, setup=first, rounds=rounds, warmup_rounds=1)
        if benchmark.stats is None:  # --benchmark-disable
            return
        found, other = benchmark.stats.stats.median, statistics.median(spent[1:])
        benchmark.extra_info |= {
            "clock": "wall" if clock is time.perf_counter else "CPU",
            "reference": of,
            "reference_median": other,
            "times_as_fast": other / found,
        }

    return measure


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print medians, and how many times as fast as its reference each is."""
    session = getattr(terminalreporter.config, "_benchmarksession", None)
    rows = [bench for bench in getattr(session, "benchmarks", ()) if bench.extra_info]
    if not rows:
        return
    width = max(len(bench.name) for bench in rows)
    terminalreporter.section("medians in ms, and how many times as fast as the reference")
    terminalreporter.write_line(f"{'':{width}} {'clock':>5} {'ms':>10} {'ms':>10} {'ratio':>7}")
    for bench in rows:
        said = bench.extra_info
        terminalreporter.write_line(
            f"{bench.name:{width}} {said['clock']:>5} {1e3 * bench.stats.median:10.3f} "
            f"{1e3 * said['reference_median']:10.3f} {said['times_as_fast']:7.2f}  "
            f"{said['reference']}"
        )
