"""Checkpoints of running chains: written atomically, checksummed, refused when they do not fit."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.errors import FormatError
from cascadenet.files import atomic_path

if TYPE_CHECKING:
    from cascadenet.inference.chains import Record
    from cascadenet.inference.sampler import Chain

MAGIC = b"cascadenet checkpoint\n"
FORMAT = 3
DIGEST = hashlib.sha256().digest_size


@dataclass
class Checkpoint:
    """Where one chain is saved, and what a file must say to belong to the run.

    Attributes
    ----------
    path : Path
        File of this chain.
    run : dict
        Data, settings and seed of the run; a file with another is refused.
    every : float
        Seconds between two writes.
    """

    path: Path
    run: dict[str, Any]
    every: float
    _last: float = 0.0

    def due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() - self._last >= self.every

    def write(self, chain: Chain, record: Record) -> None:
        """Replace the file by the present state of a chain, or leave the old one whole."""
        self.save(dump(chain, record, self.run))

    def save(self, content: bytes) -> None:
        """Replace the file by what `dump` has made of a chain."""
        with atomic_path(self.path) as partial, open(partial, "wb") as file:
            file.write(MAGIC)
            file.write(hashlib.sha256(content).digest())
            file.write(content)
        self._last = time.monotonic()

    def restore(self, chain: Chain, record: Record) -> bool:
        """Put a chain where the file says it was; False when there is no file.

        Raises
        ------
        FormatError
            Damaged file, another version, or a run with other data or settings.
        """
        if not self.path.exists():
            return False
        try:
            meta, file = _open(self.content())
            if meta["format"] != FORMAT:
                raise FormatError(
                    f"the checkpoint has format {meta['format']}; expected {FORMAT}: it was "
                    f"written by another version of cascadenet ({self.path})"
                )
            self._compare(meta["run"])
            _restore(chain, record, meta, file)
        except (KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"expected a checkpoint; got {error} ({self.path})") from None
        self._last = time.monotonic()
        return True

    def content(self) -> bytes:
        """Bytes of the file behind its checksum, which is verified."""
        raw = self.path.read_bytes()
        start = len(MAGIC) + DIGEST
        if not raw.startswith(MAGIC):
            raise FormatError(f"expected a checkpoint; got another kind of file ({self.path})")
        if hashlib.sha256(raw[start:]).digest() != raw[len(MAGIC) : start]:
            raise FormatError(
                f"the checkpoint is truncated or damaged: its checksum does not fit ({self.path})"
            )
        return raw[start:]

    def _compare(self, found: dict[str, Any]) -> None:
        for name, expected in self.run.items():
            if found.get(name) != expected:
                raise FormatError(
                    f"the checkpoint is of another run: {name} is {found.get(name)!r}; expected "
                    f"{expected!r} ({self.path})"
                )


def dump(chain: Chain, record: Record, run: dict[str, Any]) -> bytes:
    """Bytes of a chain's present state and of its draws so far; ``run`` goes with them."""
    meta: dict[str, Any] = {
        "format": FORMAT,
        "run": run,
        "n_sweeps": chain.n_sweeps,
        "rng": chain.rng.bit_generator.state,
        "draws": record.draws,
        "networks": len(record.networks),
        "scalars": list(record.scalars),
        "state": {},
    }
    arrays: dict[str, np.ndarray] = {}
    for field in fields(chain.state):
        value = getattr(chain.state, field.name)
        if isinstance(value, np.ndarray):
            arrays[f"state_{field.name}"] = value
        else:
            meta["state"][field.name] = value
    for name, value in record.sums().items():
        arrays[f"record_{name}"] = value
    for i, values in enumerate(record.scalars.values()):
        arrays[f"scalar_{i}"] = values
    for i, network in enumerate(record.networks):
        for name, value in network.items():
            arrays[f"network_{i}_{name}"] = value
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    np.savez(buffer, meta=text, **arrays)
    return buffer.getvalue()


def load(chain: Chain, record: Record, content: bytes) -> None:
    """Put a chain where `dump` found one of the same run."""
    _restore(chain, record, *_open(content))


def _open(content: bytes) -> tuple[dict[str, Any], Any]:
    file = np.load(io.BytesIO(content), allow_pickle=False)
    return json.loads(bytes(file["meta"]).decode()), file


def _restore(chain: Chain, record: Record, meta: dict[str, Any], file: Any) -> None:
    state = chain.state
    for field in fields(state):
        if field.name in meta["state"]:
            setattr(state, field.name, meta["state"][field.name])
        else:
            setattr(state, field.name, file[f"state_{field.name}"])
    chain.n_sweeps = meta["n_sweeps"]
    chain.rng.bit_generator.state = meta["rng"]
    record.draws = meta["draws"]
    names = (*record.arrays, *record.used_arrays)
    record.put({name: file[f"record_{name}"] for name in names})
    chain.carried.use(chain.state.kept)
    record.scalars = {name: file[f"scalar_{i}"] for i, name in enumerate(meta["scalars"])}
    record.networks = [
        {key.split("_", 2)[2]: file[key] for key in file.files if key.startswith(f"network_{i}_")}
        for i in range(meta["networks"])
    ]


def saved_seed(folder: str | os.PathLike[str]) -> int | None:
    """Seed of the run that a folder holds, None where it holds none.

    Raises
    ------
    FormatError
        Damaged file.
    """
    for path in sorted(Path(folder).glob("chain-*.checkpoint")):
        content = Checkpoint(path, {}, 0.0).content()
        try:
            return int(_open(content)[0]["run"]["seed"])
        except (KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
            raise FormatError(f"expected a checkpoint; got {error} ({path})") from None
    return None


def open_checkpoints(
    folder: str | os.PathLike[str], run: dict[str, Any], chains: int, every: float, resume: bool
) -> list[Checkpoint]:
    """One checkpoint a chain in a folder, which is made if need be.

    Raises
    ------
    FileExistsError
        The folder holds checkpoints and ``resume`` is false.
    OSError
        The folder cannot be made.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(folder.glob("chain-*.checkpoint"))
    if found and not resume:
        raise FileExistsError(
            f"checkpoint={str(folder)!r} holds a run already; expected an empty folder, or "
            "resume=True to go on with it"
        )
    known = json.loads(json.dumps(run))  # as it comes back from a file
    return [Checkpoint(folder / f"chain-{i}.checkpoint", known, every) for i in range(chains)]
