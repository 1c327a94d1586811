"""Small runs in shards or on workers, for tests that compare their bytes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from cascadenet.cascades import Cascades
from cascadenet.delays import get_delay
from cascadenet.inference.chains import Progress, Record, Schedule, Start
from cascadenet.inference.dynamics.memory import Carried
from cascadenet.inference.layout import Layout, build_layout
from cascadenet.inference.sampler import Model
from cascadenet.inference.sharded.run import run_sharded_chains

TUNE, DRAWS = 6, 8
KINDS: dict[str, dict[str, Any]] = {
    "survival": {"delay": "exponential"},
    "background": {"delay": "lognormal", "background": True, "reserve": 0.05, "scan": 2},
    "flat": {"delay": "weibull", "prior": "flat"},
    "approximate": {"delay": "decay", "balance_exposure": False, "null_community": False},
}


def some_cascades(seed: int) -> Cascades:
    """Twenty-five cascades over forty nodes."""
    rng = np.random.default_rng(seed)
    size = rng.integers(2, 9, size=25)
    offset = np.concatenate(([0], np.cumsum(size)))
    node = np.concatenate([rng.permutation(40)[:n] for n in size])
    time = np.concatenate([np.cumsum(rng.uniform(0.1, 1.0, n)) for n in size])
    return Cascades.from_arrays(range(40), offset, node, time, time[offset[1:] - 1] + 1.0)


def run(
    cascades: Cascades,
    kind: str,
    *,
    n_chains: int = 2,
    start: int = 0,
    shards: int = 3,
    client: Any = None,
    n_jobs: int = 1,
    progress: Progress | None = None,
    schedule: Schedule | None = None,
    carried: Carried | None = None,
    **settings: Any,
) -> list[Record]:
    """Records of a run; ``settings``: of the model, over those of its kind."""
    records, _ = run_sharded_chains(
        *problem(cascades, kind, n_chains, start, schedule, carried, **settings),
        shards=shards,
        client=client,
        n_jobs=n_jobs,
        progress=progress or Progress(1, show=False),
    )
    return records


def problem(
    cascades: Cascades,
    kind: str,
    n_chains: int = 2,
    start: int = 0,
    schedule: Schedule | None = None,
    carried: Carried | None = None,
    **settings: Any,
) -> tuple[Layout, Model, Schedule, list[Start]]:
    """What all ways of running chains have in common; ``settings``: see `run`."""
    given = KINDS.get(kind, {"delay": kind})
    model = dataclasses.replace(Model(**(given | {"delay": get_delay(given["delay"])})), **settings)
    layout = build_layout(cascades, background=model.background, max_candidates=5)
    starts = [Start(child, carried) for child in np.random.SeedSequence(start).spawn(n_chains)]
    return layout, model, schedule or Schedule(TUNE, DRAWS, 3, 2), starts


def flat(value: Any) -> list[Any]:
    """Numbers and bytes in anything made of lists, dicts, dataclasses and arrays, in order."""
    if dataclasses.is_dataclass(value) or isinstance(value, Record):
        return flat(vars(value))
    if isinstance(value, dict):
        return [x for key in sorted(value) for x in (key, *flat(value[key]))]
    if isinstance(value, (list, tuple)):
        return [x for item in value for x in flat(item)]
    if isinstance(value, (np.ndarray, np.generic)):
        return [value.dtype.str, value.shape, value.tobytes()]
    return [value]


def same(one: list[Record], other: list[Record]) -> bool:
    """Whether two runs drew the same, byte for byte."""
    return flat(one) == flat(other)


def save(records: list[Record], folder: str, name: str) -> None:
    """Write the bytes of a run."""
    (Path(folder) / name).write_bytes(repr(flat(records)).encode())
