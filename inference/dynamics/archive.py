"""What one interval leaves for the next, as JSON and arrays."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from cascadenet.errors import FormatError
from cascadenet.inference.dynamics.filtering import Past
from cascadenet.inference.dynamics.memory import PairMemory
from cascadenet.inference.sampler import State
from cascadenet.pairs import pair_keys

TOKENS = ("eta", "sent", "received")


def pack_past(past: Past) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What JSON can hold of a past, and its arrays by name."""
    arrays = {
        f"pairs_{f.name}": getattr(past.pairs, f.name) for f in dataclasses.fields(PairMemory)
    }
    states = []
    for i, (state, tokens) in enumerate(zip(past.states, past.tokens, strict=True)):
        plain = {}
        for item in dataclasses.fields(State):
            value = getattr(state, item.name)
            if isinstance(value, np.ndarray):
                arrays[f"state_{i}_{item.name}"] = value
            else:
                plain[item.name] = value
        states.append(plain)
        for name, counts in zip(TOKENS, tokens, strict=True):
            arrays[f"tokens_{i}_{name}"] = counts
    return {"unit": past.unit, "n_intervals": past.n_intervals, "states": states}, arrays


def unpack_past(meta: dict[str, Any], arrays: Any) -> Past:
    """The past that `pack_past` took apart.

    Raises
    ------
    FormatError
        Arrays that do not belong together.
    """
    names = [item.name for item in dataclasses.fields(State)]
    states = [
        State(**{n: plain[n] if n in plain else arrays[f"state_{i}_{n}"] for n in names})
        for i, plain in enumerate(meta["states"])
    ]
    tokens = [tuple(arrays[f"tokens_{i}_{name}"] for name in TOKENS) for i in range(len(states))]
    pairs = PairMemory(
        **{f.name: arrays[f"pairs_{f.name}"] for f in dataclasses.fields(PairMemory)}
    )
    _check(pairs, states, tokens)
    return Past(pairs, float(meta["unit"]), states, tokens, int(meta["n_intervals"]))


def _check(pairs: PairMemory, states: list[State], tokens: list[tuple[np.ndarray, ...]]) -> None:
    """Refuse arrays that do not belong together, before one is indexed by another."""
    n_nodes, size = pairs.n_nodes, pairs.key.size
    for name in ("n", "exposure", "support"):
        if getattr(pairs, name).shape != (size,):
            raise FormatError(f"expected {name} of {size} remembered pairs")
    key = pairs.key
    stop = pair_keys(np.array([-1]), np.array([n_nodes]), n_nodes)[0]
    if (np.diff(key) <= 0).any() or (size and not 0 <= key[0] <= key[-1] < stop):
        raise FormatError("expected keys of remembered pairs in ascending order")
    for state, counts in zip(states, tokens, strict=True):
        shapes = [state.weight.shape, state.sender.shape, state.receiver.shape]
        if [x.shape for x in counts] != shapes or shapes[1] != shapes[2]:
            raise FormatError("expected token counts for each community of a state")
