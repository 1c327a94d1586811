"""What all tests share: one seed, the shared data sets, a screenless matplotlib, hypothesis."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Set before anything imports matplotlib; subprocesses inherit it.
os.environ["MPLBACKEND"] = "Agg"

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


# A shell's background job ignores Ctrl-C, which some tests send to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed",
        type=int,
        default=int(os.environ.get("CASCADENET_TEST_SEED", "20181205")),
        help="seed of every random test (default: $CASCADENET_TEST_SEED or a fixed one)",
    )


def pytest_report_header(config: pytest.Config) -> str:
    return f"cascadenet: --seed {config.getoption('--seed')}, shared data in {_data_folder()}"


def _data_folder() -> Path:
    return Path(os.environ.get("CASCADENET_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """No test sees the figures of another."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The seed of every random test; sweep it with ``--seed`` or ``CASCADENET_TEST_SEED``."""
    return pytestconfig.getoption("--seed")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the published data sets; the test is skipped where they are not."""
    folder = _data_folder()
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set CASCADENET_DATA to their folder")
    return folder


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: exit code, stdout, stderr."""
    from cascadenet.cli import main

    def run(*argv: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in argv])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, seed: int) -> Path:
    """Folder with cascades.csv, truth.csv and nodes.txt of one simulation, and its run."""
    from cascadenet.cli import main

    folder = tmp_path_factory.mktemp("data")
    network = ("--network", "communities", "--communities", 2, "--size", 8, "--within", 0.4)
    files = ("-o", folder / "cascades.csv", "--edges-out", folder / "truth.csv")
    files += ("--nodes-out", folder / "nodes.txt")
    simulate = ("simulate", *network, "--cascades", 30, "--horizon", 1.5, "--seed", seed, *files)
    assert main([str(argument) for argument in simulate]) == 0
    fit = ("fit", folder / "cascades.csv", "--nodes", folder / "nodes.txt", "--horizon", 1.5)
    fit += ("-o", folder / "run", "--draws", 40, "--tune", 40, "--chains", 2, "--seed", seed)
    assert main([str(argument) for argument in fit]) == 0
    return folder
