"""Checkpoints: a killed run ends with the bytes of one that was not; wrong files are refused."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import cascadenet as cn
from cascadenet.inference import checkpoint

DRAWS, TUNE, CHAINS = 60, 60, 2
KILLS = 25
SETTINGS = {"delay": "decay", "background": True, "network_draws": 8}


@pytest.fixture(scope="module")
def cascades() -> cn.Cascades:
    network, _ = cn.simulate.model_network(30, 2, 100, seed=0)
    return cn.simulate.simulate_cascades(network, 40, nodes=range(30), horizon=3.0, seed=0).cascades


def run(cascades: cn.Cascades, **more: object) -> cn.Posterior:
    settings = SETTINGS | more.pop("settings", {})
    options = {"draws": DRAWS, "tune": TUNE, "chains": CHAINS, "seed": 5, "n_jobs": 2} | more
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return cn.CoupledHDP(**settings).fit(cascades, progress=False, **options).posterior_


def saved(posterior: cn.Posterior, path: Path) -> bytes:
    posterior.save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def reference(cascades: cn.Cascades, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return saved(run(cascades), tmp_path_factory.mktemp("reference") / "posterior.npz")


def sweeps_done(folder: Path) -> int:
    """Sweeps of the first chain according to its checkpoint, 0 where there is none yet."""
    path = folder / "chain-0.checkpoint"
    if not path.exists():
        return 0
    start = len(checkpoint.MAGIC) + checkpoint.DIGEST
    file = np.load(io.BytesIO(path.read_bytes()[start:]), allow_pickle=False)
    return json.loads(bytes(file["meta"]).decode())["n_sweeps"]


def live(cascades: cn.Cascades, folder: Path, result: Path) -> None:
    """What the process does that is to be killed."""
    posterior = run(cascades, checkpoint=folder, resume=True, checkpoint_every=0.0)
    posterior.save(result)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked")
def test_killed_runs_end_with_the_same_bytes(
    cascades: cn.Cascades, reference: bytes, tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    process = multiprocessing.get_context("fork").Process
    shares = [0.2, 0.5, 0.75, 0.9]
    kills = completed = 0
    while kills < KILLS or completed == 0:
        folder, result = tmp_path / f"run-{completed}", tmp_path / f"{completed}.npz"
        child = process(target=live, args=(cascades, folder, result))
        child.start()
        if shares:
            while child.is_alive() and sweeps_done(folder) < shares[0] * (DRAWS + TUNE):
                time.sleep(0.002)
            shares.pop(0)
        elif kills < KILLS:
            child.join(float(rng.exponential(0.15)))
        else:
            child.join()
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.join()
        if result.exists():
            assert result.read_bytes() == reference
            completed += 1
    assert kills >= KILLS


def test_checkpoints_change_nothing(
    cascades: cn.Cascades, reference: bytes, tmp_path: Path
) -> None:
    posterior = run(cascades, checkpoint=tmp_path / "run", checkpoint_every=0.0, n_jobs=1)
    assert saved(posterior, tmp_path / "a.npz") == reference
    again = run(cascades, checkpoint=tmp_path / "run", resume=True, seed=None)
    assert saved(again, tmp_path / "b.npz") == reference


def test_another_seed_gives_other_bytes(
    cascades: cn.Cascades, reference: bytes, tmp_path: Path
) -> None:
    """Negative control of the comparisons above."""
    assert saved(run(cascades, seed=6), tmp_path / "other.npz") != reference


@pytest.fixture(scope="module")
def finished(cascades: cn.Cascades, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    run(cascades, checkpoint=folder, draws=4, tune=4)
    return folder


def copy_of(folder: Path, tmp_path: Path) -> Path:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_a_run_is_not_overwritten_by_accident(cascades: cn.Cascades, finished: Path) -> None:
    with pytest.raises(FileExistsError, match="holds a run already"):
        run(cascades, checkpoint=finished, draws=4, tune=4)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"seed": 6}, "seed is 5; expected 6"),
        ({"draws": 5}, "another run: settings"),
        ({"settings": {"prior": "flat"}}, "another run: settings"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    cascades: cn.Cascades, finished: Path, more: dict, message: str
) -> None:
    options = {"draws": 4, "tune": 4} | more
    with pytest.raises(cn.FormatError, match=message):
        run(cascades, checkpoint=finished, resume=True, **options)


def test_a_checkpoint_of_other_data_is_refused(cascades: cn.Cascades, finished: Path) -> None:
    with pytest.raises(cn.FormatError, match="another run: data"):
        run(cascades.subset(slice(0, 20)), checkpoint=finished, resume=True, draws=4, tune=4)


@pytest.mark.parametrize("kept", [0, 10, 30, 1000, -1])
def test_a_truncated_checkpoint_is_refused(
    cascades: cn.Cascades, finished: Path, tmp_path: Path, kept: int
) -> None:
    folder = copy_of(finished, tmp_path)
    path = folder / "chain-1.checkpoint"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(cn.FormatError, match=r"checkpoint.*chain-1"):
        run(cascades, checkpoint=folder, resume=True, draws=4, tune=4)


def test_a_damaged_checkpoint_is_refused(
    cascades: cn.Cascades, finished: Path, tmp_path: Path
) -> None:
    folder = copy_of(finished, tmp_path)
    path = folder / "chain-0.checkpoint"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(cn.FormatError, match="checksum"):
        run(cascades, checkpoint=folder, resume=True, draws=4, tune=4)


@pytest.mark.parametrize("step", [-1, 1])
def test_another_format_is_refused(
    cascades: cn.Cascades, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT + step)
    run(cascades, checkpoint=tmp_path, draws=4, tune=4)
    monkeypatch.undo()
    with pytest.raises(cn.FormatError, match="another version"):
        run(cascades, checkpoint=tmp_path, resume=True, draws=4, tune=4)


def test_a_folder_that_cannot_be_written_is_an_error_before_sampling(
    cascades: cn.Cascades, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        run(cascades, checkpoint=tmp_path / "file")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    sweeps = []
    monkeypatch.setattr(checkpoint.np, "savez", full)
    monkeypatch.setattr("cascadenet.inference.sampler.Chain.sweep", sweeps.append)
    with pytest.raises(OSError, match="No space left"):
        run(cascades, checkpoint=tmp_path / "run", n_jobs=1)
    assert sweeps == []
    assert list((tmp_path / "run").iterdir()) == []


def test_resume_needs_a_folder(cascades: cn.Cascades) -> None:
    with pytest.raises(ValueError, match="resume=True needs checkpoint="):
        run(cascades, resume=True)
