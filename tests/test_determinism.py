"""A result depends on data, settings and seed alone: not on threads, compiler or interface.

Of each kind of model one posterior is fitted here, in one thread, and saved. The same fit made
another way must give the same file, byte for byte. Parts of this are tested where they belong:
threads and chains of static models in test_coupled_hdp.py and test_sampler.py, single chains of
all models with and without the JIT in test_whole_chains.py, killed and resumed runs in
test_checkpoint.py and test_dynamics.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cascadenet as cn
from cascadenet.delays import get_delay
from cascadenet.inference import parents
from cascadenet.inference.layout import build_layout
from cascadenet.inference.sampler import Model

ROOT = Path(__file__).resolve().parent.parent
SHORT = {"draws": 6, "tune": 6, "chains": 4}
SEED = 11
OTHERS = {"OPENBLAS_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "2", "PYTHONHASHSEED": "5"}

# name -> model, and the options of `cascadenet fit` that mean the same
KINDS = {
    "survival": (
        lambda: cn.CoupledHDP(delay="weibull", background=True, open_world=True),
        ("--delay", "weibull", "--background", "--open-world"),
    ),
    "flat": (
        lambda: cn.CoupledHDP(prior="flat", delay="lognormal", max_candidates=3),
        ("--prior", "flat", "--delay", "lognormal", "--max-candidates", "3"),
    ),
    "shards": (
        lambda: cn.CoupledHDP(delay="decay", background=True),
        ("--delay", "decay", "--background", "--shards", "3"),
    ),
    "tree": (
        lambda: cn.CoupledHDP(likelihood="tree", delay="rayleigh"),
        ("--likelihood", "tree", "--delay", "rayleigh"),
    ),
    "dynamic": (
        lambda: cn.DynamicCoupledHDP(
            n_intervals=3, equal="cascades", forgetting=0.6, support=0.2, smooth=True
        ),
        (
            *("--intervals", "3", "--equal", "cascades", "--forgetting", "0.6"),
            *("--support", "0.2", "--smooth"),
        ),
    ),
    "dynamic, forgetting chosen": (
        lambda: cn.DynamicCoupledHDP(n_intervals=2, support=0.1, background=True, delay="decay"),
        ("--intervals", "2", "--support", "0.1", "--background", "--delay", "decay"),
    ),
}
MORE = {"shards": {"shards": 3}}  # arguments of fit
SLOW_WITHOUT_COMPILER = "dynamic, forgetting chosen"  # six pilot fits an interval


def write_cascades(path: Path, seed: int) -> None:
    """Sixteen cascades over seven nodes."""
    rng = np.random.default_rng(seed)
    rows = []
    for c in range(16):
        times = 4.0 * c + np.cumsum(rng.uniform(0.1, 0.7, size=4))
        rows += [(c, f"n{v}", t) for v, t in zip(rng.permutation(7), times, strict=False)]
    pd.DataFrame(rows, columns=["cascade", "node", "time"]).to_csv(path, index=False)


def fit_and_save(
    folder: Path, name: str, n_jobs: int, seed: int = SEED, client: Executor | None = None
) -> bytes:
    """The saved posterior of a kind of model, fitted in this process."""
    given = SHORT | MORE.get(name, {}) | ({} if client is None else {"client": client})
    cascades = cn.Cascades.read_csv(folder / "cascades.csv", window=3.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the chains have not mixed")
        model = KINDS[name][0]().fit(cascades, **given, seed=seed, n_jobs=n_jobs, progress=False)
    path = folder / f"{name}-{n_jobs}-{seed}.npz"
    model.posterior_.save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, seed: int) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_cascades(folder / "cascades.csv", seed)
    return folder


@pytest.fixture(scope="module")
def reference(folder: Path) -> dict[str, bytes]:
    return {name: fit_and_save(folder, name, 1) for name in KINDS}


@pytest.mark.parametrize("name", [n for n in KINDS if "dynamic" in n or n in MORE])
def test_two_threads(folder: Path, reference: dict[str, bytes], name: str) -> None:
    """Of networks that change and of shards; four threads come with the command line."""
    assert fit_and_save(folder, name, 2) == reference[name]


def test_threads_of_long_cascades(tmp_path: Path, seed: int) -> None:
    """Infections of several hundred candidates, whose parents are proposed instead of weighed.

    Chains that shared what these updates write while at work differed in every one of four runs.
    """
    rng = np.random.default_rng(seed)
    node = np.concatenate([rng.permutation(800)[:750] for _ in range(8)])
    time = rng.exponential(size=(8, 750)).cumsum(axis=1)
    long = cn.Cascades.from_arrays(range(800), np.arange(9) * 750, node, time.ravel(), time[:, -1])
    few, many = parents.by_width(build_layout(long), Model(get_delay("exponential")).scan)
    assert many.size > few.size
    files = []
    for n_jobs in (1, 4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            fitted = cn.CoupledHDP().fit(long, **SHORT, seed=SEED, n_jobs=n_jobs, progress=False)
        fitted.posterior_.save(tmp_path / "posterior.npz")
        files.append((tmp_path / "posterior.npz").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("workers", [1, 3])
def test_executor(folder: Path, reference: dict[str, bytes], workers: int) -> None:
    """As a cluster's client, whose own tests are in test_cluster.py."""
    with ThreadPoolExecutor(workers) as pool:
        assert fit_and_save(folder, "shards", 1, client=pool) == reference["shards"]


def test_without_the_compiler(folder: Path, reference: dict[str, bytes]) -> None:
    names = [name for name in KINDS if name != SLOW_WITHOUT_COMPILER]
    code = (
        "import numba; from pathlib import Path; from tests.test_determinism import fit_and_save\n"
        "assert numba.config.DISABLE_JIT\n"
        f"for name in {names}: fit_and_save(Path({str(folder)!r}), name, 3)"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    for name in names:
        assert (folder / f"{name}-3-{SEED}.npz").read_bytes() == reference[name], name


@pytest.mark.parametrize("name", KINDS)
def test_command_line(folder: Path, reference: dict[str, bytes], name: str) -> None:
    """In a process of its own, four threads, BLAS and hashes set otherwise."""
    run = folder / f"run {name}"
    command = [sys.executable, "-m", "cascadenet", "fit", folder / "cascades.csv", "-o", run]
    options = ["--window", "3", "--seed", SEED, "--jobs", 4, "--no-plots", "--quiet"]
    options += [x for key, value in SHORT.items() for x in (f"--{key}", value)]
    environment = {**os.environ, **OTHERS, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [str(x) for x in (*command, *options, *KINDS[name][1])],
        env=environment,
        check=True,
        stderr=subprocess.PIPE,
    )
    assert (run / "posterior.npz").read_bytes() == reference[name]


@pytest.mark.parametrize("name", ["tree", "dynamic"])
def test_chains_alone_and_among_others(folder: Path, name: str) -> None:
    """In a network that changes, until the chains' memories are joined after an interval."""
    cascades = cn.Cascades.read_csv(folder / "cascades.csv", window=3.0)
    given = {"draws": 6, "tune": 6, "seed": SEED, "n_jobs": 2, "progress": False}
    found = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the chains have not mixed")
        for chains in (1, 3):
            model = KINDS[name][0]()
            model.smooth = False
            posterior = model.fit(cascades, chains=chains, **given).posterior_
            found.append(getattr(posterior, "posteriors", [posterior])[0])
    alone, among = found
    for scalar, values in alone.scalars.items():
        assert np.array_equal(values[0], among.scalars[scalar][0])
    assert not np.array_equal(among.scalars["log_joint"][0], among.scalars["log_joint"][1])
    alone_hits, among_hits = (x.sums.by_pair(x.sums.hits) for x in (alone, among))
    assert np.array_equal(alone_hits[0], among_hits[0])


def test_seeds_and_kinds_differ(folder: Path, reference: dict[str, bytes]) -> None:
    """The files can tell: another seed is another file."""
    assert len(set(reference.values())) == len(KINDS)
    for name in ("survival", "tree", "dynamic"):
        assert fit_and_save(folder, name, 1, seed=SEED + 1) != reference[name]
