"""Mutated files against every reader and loader: only the package's own error may escape.

    python tests/fuzz.py [--cases 10000] [--seed 0]

Files are the beginnings of published ones, where they are there, and small ones the package writes
itself; each case damages one of them: bytes flipped, dropped, repeated, swapped with text that
parsers trip over, or cut off.
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import cascadenet as cn
from cascadenet.inference.checkpoint import saved_seed
from cascadenet.sparse.bandits import LinUCBRanker
from cascadenet.sparse.pruning import (
    CompactNetwork,
    MagnitudePruningClassifier,
    compress,
    load_model,
)

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("CASCADENET_DATA", ROOT.parent / "shared" / "data")) / "cascades"
LINES = 150  # of a published file
TOKENS = (
    *(b"nan", b"inf", b"-1", b"1e999", b"0x10", b"9" * 30, b"2020-01-01", b"cascade"),
    *(b'"', b",", b";", b" ", b"", b"\n", b"\r", b"\x00", b"\xff"),
    *(b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"PK\x03\x04", b"\x1f\x8b"),
)

Reader = Callable[[Path], object]


def read_checkpoint(path: Path) -> object:
    """Seed in a checkpoint folder that holds this one file."""
    folder = path.parent / "checkpoints"
    folder.mkdir(exist_ok=True)
    (folder / "chain-0.checkpoint").write_bytes(path.read_bytes())
    return saved_seed(folder)


def subjects(folder: Path) -> Iterator[tuple[str, bytes, Reader]]:
    """Name, content and reader of each whole file; all are read without an error."""
    network = cn.simulate.community_network(2, 6, within=0.5, between=0.1, seed=1)
    data = cn.simulate.simulate_cascades(network, 12, horizon=2.0, seed=1).cascades
    data.to_csv(folder / "a.csv")
    data.to_csv(folder / "a.csv.gz")
    data.to_snap(folder / "netrate.txt")
    data.to_snap(folder / "infopath.txt", variant="infopath")
    cn.write_network(network, folder / "network.csv")
    (folder / "nodes.txt").write_text("\n".join(map(str, data.nodes)))
    fit = cn.CoupledHDP(background=True).fit(
        data, draws=3, tune=3, chains=1, seed=1, progress=False, checkpoint=folder / "saved"
    )
    fit.posterior_.save(folder / "posterior.npz")
    save_others(data, folder)
    readers: dict[str, Reader] = {
        "a.csv": cn.Cascades.read_csv,
        "a.csv.gz": cn.Cascades.read_csv,
        "netrate.txt": cn.Cascades.read_snap,
        "infopath.txt": cn.Cascades.read_snap,
        "network.csv": cn.read_network,
        "nodes.txt": cn.read_nodes,
        "posterior.npz": cn.load,
        "saved/chain-0.checkpoint": read_checkpoint,
        "changing.npz": cn.load,
        "next.npz": cn.NextInfection.load,
        "model.npz": load_model,
        "compact.npz": CompactNetwork.load,
        "ranker.npz": LinUCBRanker.load,
    }
    for name, reader in readers.items():
        yield name, (folder / name).read_bytes(), reader
    published: dict[str, Reader] = {
        "dyn-hier/cascades.txt.gz": cn.Cascades.read_snap,
        "dyn-hier/network.txt.gz": cn.read_network,
        "us-policies/cascades.csv.gz": cn.Cascades.read_csv,
        "netinf-example/edges.csv.gz": cn.read_network,
    }
    for name, reader in published.items():
        if (DATA / name).exists():
            lines = gzip.decompress((DATA / name).read_bytes()).splitlines(keepends=True)
            yield name, b"".join(lines[:LINES]), reader


def save_others(data: cn.Cascades, folder: Path) -> None:
    """Files of all other models, trained next to nothing."""
    later = data.to_frame()
    later["time"] += later["cascade"] % 3
    changing = cn.DynamicCoupledHDP(n_intervals=2, forgetting=0.5, support=0.1).fit(
        cn.Cascades.from_frame(later, window=2.0), draws=3, tune=3, chains=1, seed=1, progress=False
    )
    changing.posterior_.save(folder / "changing.npz")
    cn.NextInfection().fit(data).save(folder / "next.npz")
    rng = np.random.default_rng(1)
    images, digits = rng.random((40, 8)), rng.integers(3, size=40)
    sparse = MagnitudePruningClassifier(hidden_layer_sizes=(6,), sparsity=0.5, epochs=1)
    sparse.fit(images, digits).save(folder / "model.npz")
    compress(sparse).save(folder / "compact.npz")
    LinUCBRanker(3, 2, [1.0, 0.5]).save(folder / "ranker.npz")


def mutate(rng: np.random.Generator, content: bytes) -> bytes:
    """A damaged copy."""
    damaged = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(damaged) + 1))
        length = int(rng.integers(1, 40))
        match int(rng.integers(6)):
            case 0 if at < len(damaged):
                damaged[at] ^= 1 << int(rng.integers(8))
            case 1:
                del damaged[at : at + length]
            case 2:
                damaged[at:at] = damaged[at : at + length]
            case 3:
                damaged[at : at + length] = TOKENS[int(rng.integers(len(TOKENS)))]
            case 4:
                damaged[at:at] = TOKENS[int(rng.integers(len(TOKENS)))]
            case _:
                del damaged[at:]
    return bytes(damaged)


def fuzz(cases: int, seed: int) -> tuple[dict[str, int], list[str]]:
    """Damage files and read them.

    Returns
    -------
    counts : dict
        Cases that were read and that were refused.
    escaped : list of str
        What else happened: file, case and traceback.
    """
    rng = np.random.default_rng(seed)
    counts, escaped = {"read": 0, "refused": 0}, []
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        whole = list(subjects(folder))
        for _, content, reader in whole:
            (folder / "whole").write_bytes(content)
            reader(folder / "whole")
        for case in range(cases):
            label, content, reader = whole[case % len(whole)]
            path = folder / "damaged"
            path.write_bytes(mutate(rng, content))
            try:
                reader(path)
                counts["read"] += 1
            except cn.FormatError:
                counts["refused"] += 1
            except Exception:
                escaped.append(f"{label}, case {case}\n{traceback.format_exc(limit=-3)}")
    return counts, escaped


def main() -> int:
    """Run from the command line; exit code 1 when something escaped."""
    parser = argparse.ArgumentParser(description="damaged files against every reader")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts, escaped = fuzz(options.cases, options.seed)
    print(f"{options.cases} damaged files: {counts}, {len(escaped)} other errors")
    print("\n".join(escaped[:10]))
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
