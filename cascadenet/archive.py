"""Posteriors in files: one .npz, no pickle, atomic."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.edge_sums import EdgeSums
from cascadenet.errors import FormatError
from cascadenet.files import read_npz, write_npz
from cascadenet.posterior import Posterior

if TYPE_CHECKING:
    from cascadenet.evolution import DynamicPosterior

FORMAT = 2
FILE_NAME = "posterior.npz"
_NETWORK_FIELDS = (
    "weight",
    "sender",
    "receiver",
    "total",
    "b",
    "nu",
    "theta",
    "ground_shape",
    "ground_rate",
    "used",
    "count",
)
_MEMORY_FIELDS = ("memory_rows", "memory_n", "memory_exposure")  # of some dynamic draws
_PAIR_FIELDS = ("pair_source", "pair_target", "network_chain")


def save(posterior: Posterior, path: str | os.PathLike[str]) -> None:
    """Write a posterior; :meth:`Posterior.save` is the public way here."""
    meta, arrays = _pack(posterior)
    _write(path, meta, arrays)


def save_dynamic(posterior: DynamicPosterior, path: str | os.PathLike[str]) -> None:
    """Write a dynamic posterior; :meth:`DynamicPosterior.save` is the public way here."""
    meta, arrays = posterior.pack()
    intervals = []
    for j, interval in enumerate(posterior.posteriors):
        own, packed = _pack(interval)
        own.pop("nodes")  # the same in all
        intervals.append(own)
        arrays |= {f"interval_{j}_{name}": array for name, array in packed.items()}
    meta |= {"intervals": intervals, "nodes": posterior.nodes}
    _write(path, meta, arrays)


def _write(
    path: str | os.PathLike[str], meta: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    write_npz(_file(path), {"format": FORMAT} | meta, arrays)


def _file(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    return path / FILE_NAME if path.is_dir() else path


def _pack(posterior: Posterior) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What JSON holds of a posterior, and its arrays by name."""
    meta = {
        "nodes": posterior.nodes,
        "settings": posterior.settings,
        "provenance": posterior.provenance,
        "unit": posterior.unit,
        "scalars": list(posterior.scalars),
        "networks": len(posterior.networks),
    }
    arrays = {f"sums_{f.name}": getattr(posterior.sums, f.name) for f in fields(EdgeSums)}
    arrays |= {f"scalar_{i}": values for i, values in enumerate(posterior.scalars.values())}
    for i, network in enumerate(posterior.networks):
        names = [*_NETWORK_FIELDS, *(name for name in _MEMORY_FIELDS if name in network)]
        arrays |= {f"network_{i}_{name}": network[name] for name in names}
    arrays |= {name: getattr(posterior, name) for name in _PAIR_FIELDS}
    return meta, arrays


def load(path: str | os.PathLike[str]) -> Posterior | DynamicPosterior:
    """Read a posterior that was saved, static or dynamic.

    Parameters
    ----------
    path : path
        The file, or the folder that holds it.

    Returns
    -------
    Posterior or DynamicPosterior

    Raises
    ------
    FormatError
        Not such a file, damaged, or written by a newer version.
    FileNotFoundError
        Nothing there.
    """
    return read_npz(_file(path), "a saved posterior", _restore, oldest=FORMAT, newest=FORMAT)


def _restore(meta: dict[str, Any], file: Any) -> Posterior | DynamicPosterior:
    if "intervals" not in meta:
        return _unpack(meta, file, "")
    from cascadenet.evolution import DynamicPosterior

    posteriors = [
        _unpack(own | {"nodes": meta["nodes"]}, file, f"interval_{j}_")
        for j, own in enumerate(meta["intervals"])
    ]
    return DynamicPosterior.unpack(meta, file, posteriors)


def _unpack(meta: dict[str, Any], file: Any, prefix: str) -> Posterior:
    """One posterior, whose arrays have a prefix to their names."""
    names = set(file.files)

    def network(i: int) -> dict[str, np.ndarray]:
        found = {name: file[f"{prefix}network_{i}_{name}"] for name in _NETWORK_FIELDS}
        more = [name for name in _MEMORY_FIELDS if f"{prefix}network_{i}_{name}" in names]
        return found | {name: file[f"{prefix}network_{i}_{name}"] for name in more}

    posterior = Posterior(
        nodes=meta["nodes"],
        settings=meta["settings"],
        provenance=meta["provenance"],
        unit=float(meta["unit"]),
        scalars={name: file[f"{prefix}scalar_{i}"] for i, name in enumerate(meta["scalars"])},
        sums=EdgeSums(**{f.name: file[f"{prefix}sums_{f.name}"] for f in fields(EdgeSums)}),
        networks=[network(i) for i in range(meta["networks"])],
        **{name: file[prefix + name] for name in _PAIR_FIELDS},
    )
    _check_sizes(posterior)
    return posterior


def _check_sizes(posterior: Posterior) -> None:
    """Refuse arrays that do not belong together, before one is indexed by another."""
    sums, n_pairs = posterior.sums, posterior.pair_source.size
    chains, length = sums.draws.size, next(iter(posterior.scalars.values())).shape[-1:]
    n_used = sums.used.size
    expected = {f"sums_{f.name}": (getattr(sums, f.name), (n_pairs,)) for f in fields(EdgeSums)}
    for name in ("used", "n", "rate_hit", "square_hit", "rate_rest", "square_rest"):
        expected[f"sums_{name}"] = getattr(sums, name), (n_used,)
    expected |= {
        "sums_draws": (sums.draws, (chains,)),
        "sums_hits": (sums.hits, (chains, n_used)),
        "sums_unused_unit": (sums.unused_unit, ()),
        "sums_node_full": (sums.node_full, (posterior.n_nodes,)),
        "sums_carried": (sums.carried, (n_pairs if sums.carried.size else 0,)),
        "pair_target": (posterior.pair_target, (n_pairs,)),
        "network_chain": (posterior.network_chain, (len(posterior.networks),)),
    }
    expected |= {f"scalar {k}": (x, (chains, *length)) for k, x in posterior.scalars.items()}
    for name, (array, shape) in expected.items():
        if array.shape != shape:
            raise FormatError(f"expected {name} of shape {shape}; got {array.shape}")
    wrong = np.flatnonzero(np.diff(sums.used, prepend=-1, append=n_pairs) <= 0)
    if wrong.size:
        around = sums.used[max(wrong[0] - 1, 0) : wrong[0] + 1].tolist()
        raise FormatError(
            f"expected sums_used to be ascending rows below {n_pairs}; got {around} at its place "
            f"{max(wrong[0] - 1, 0)}"
        )
