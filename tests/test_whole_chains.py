"""Chains of every kind of model: counts agree after every update, with and without the JIT."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from cascadenet.delays import DELAYS, get_delay
from cascadenet.inference import rates
from cascadenet.inference.layout import build_layout
from cascadenet.inference.sampler import Chain, Model
from tests import naive
from tests.kernel_cases import candidate_rows

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.jit_off


def every_model() -> list[tuple[Model, int | None]]:
    """All combinations of the settings that change what a sweep does, with max_candidates."""
    found = []
    for name, prior, likelihood, null, limit, reserve in itertools.product(
        sorted(DELAYS), ("hdp", "flat"), ("survival", "tree"), (True, False), (None, 2), (0.0, 0.2)
    ):
        if prior == "flat" and (not null or reserve):
            continue
        for background, balance in itertools.product((False, True), repeat=2):
            if likelihood == "tree" and (background or not balance):
                continue
            model = Model(
                delay=get_delay(name),
                prior=prior,
                likelihood=likelihood,
                null_community=null,
                truncation=4,
                background=background,
                balance_exposure=balance,
                reserve=reserve,
            )
            found.append((model, limit))
    return found


def some_cascades(seed: int):
    """Six cascades over eight nodes, the last never infected, with ties and a singleton."""
    rng = np.random.default_rng(seed)
    tales = []
    for size in (1, 3, 4, 5, 6, 6):
        times = np.round(np.cumsum(rng.exponential(size=size)), 1) / 0.7
        nodes = rng.permutation(7)[:size].tolist()
        tales.append(naive.Story(list(zip(times.tolist(), nodes, strict=True)), times[-1] + 1.0))
    return naive.cascades_of(tales, 8)


def broken_invariants(chain: Chain) -> list[str]:
    """What the arrays of a state say about each other and is not so."""
    state, layout, model = chain.state, chain.layout, chain.model
    rows = np.diff(layout.cand_ptr) > 0
    held = layout.cand_ptr[:-1][rows] + state.choice[rows]
    edges = layout.pair_source >= 0
    tokens = state.token_sender, state.token_receiver
    width, size = state.eta.size, chain.base.size
    said = {
        "a parent is the chosen candidate": (state.parent[rows] == layout.cand_pair[held]).all(),
        "a seed has no parent": (state.parent[~rows] == -1).all(),
        "n counts parents": (
            state.n_pair == np.bincount(state.parent[rows], minlength=layout.n_pairs)
        ).all(),
        "shapes are positive": (state.shape > 0.0).all() and np.isfinite(state.shape).all(),
        "background shapes stay": (state.shape[~edges] == model.background_shape).all(),
        "eta counts tokens": (state.eta == np.bincount(state.community, minlength=width)).all(),
        "no token is in a null that is not there": model.null_community or state.eta[0] == 0,
        "D, A and B are distributions": np.allclose(state.weight.sum(), 1.0)
        and np.allclose(state.sender.sum(axis=0), 1.0)
        and np.allclose(state.receiver.sum(axis=0), 1.0),
        "popularity is a distribution": abs(state.beta.sum() - 1.0) < 1e-12,
        "scalars are positive": min(
            state.total, state.b, state.nu, state.alpha, state.tau, state.gamma
        )
        > 0.0,
        "everything is finite": all(
            np.isfinite(x).all() for x in map(np.asarray, state_values(state).values())
        ),
    }
    for name, side in zip(("sent", "received"), tokens, strict=True):
        expected = np.zeros((size, width), np.int64)
        np.add.at(expected, (side, state.community), 1)
        said[f"{name} counts tokens"] = (getattr(state, name) == expected).all()
    if model.likelihood == "survival":
        exposure, node_full = layout.exposure(model.delay, state.theta)
        said["exposures follow the delay parameters"] = (exposure == state.exposure).all() and (
            node_full == state.node_full
        ).all()
        added = np.where(edges, state.b, state.background_rate)
        said["rate is b + exposure"] = (rates.collapsed_rate(chain) == exposure + added).all()
    said["the real tokens come first"] = state.n_real <= state.community.size
    if state.cand_weight.size:
        largest = [max(w) for w in candidate_rows(layout, state.cand_weight) if w]
        said["weights are relative to the largest"] = set(largest) <= {1.0}
    return [what for what, so in said.items() if not so]


def state_values(state) -> dict:
    """All fields of a state but the proposal scales."""
    return {f.name: getattr(state, f.name) for f in fields(state) if f.name != "log_step"}


def test_counts_agree_after_every_update(seed):
    cascades = some_cascades(seed)
    for number, (model, limit) in enumerate(every_model()):
        layout = build_layout(cascades, background=model.background, max_candidates=limit)
        chain = Chain(layout, model, np.random.default_rng([seed, number]))
        for sweep in range(3):
            chain.holding = sweep == 0
            chain.adapting = sweep < 2
            for update in chain.updates:
                update(chain)
                if update.__name__ == "draw_token_communities" and chain.state.eta.size > 5:
                    continue  # the truncation has just been doubled; the network follows
                assert broken_invariants(chain) == [], (update.__name__, model, limit)


def test_a_broken_count_is_noticed(seed):
    """Negative control of the test above."""
    model = next(model for model, _ in every_model() if model.background)
    layout = build_layout(some_cascades(seed), background=True)
    chain = Chain(layout, model, np.random.default_rng(1))
    chain.sweep()
    assert broken_invariants(chain) == []
    chain.state.n_pair[0] += 1
    chain.state.sent[0, 1] -= 1
    chain.state.rate[0] *= 1.0 + 1e-15
    assert set(broken_invariants(chain)) == {
        "n counts parents",
        "sent counts tokens",
        "rate is b + exposure",
    }


# ------------------------------------------------------------------------- with and without the JIT


def chain_digests(seed: int) -> list[str]:
    """A hash of everything in the state of a short chain, for one in five of the models."""
    digests = []
    cascades = some_cascades(seed)
    for number, (model, limit) in enumerate(every_model()[::5]):
        layout = build_layout(cascades, background=model.background, max_candidates=limit)
        chain = Chain(layout, model, np.random.default_rng([seed, number]))
        chain.holding = False
        for _ in range(2):
            chain.sweep()
        digest = hashlib.sha256()
        for name, value in {**state_values(chain.state), **chain.state.log_step}.items():
            array = np.asarray(value)
            digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
        digests.append(digest.hexdigest())
    return digests


def test_same_bytes_with_and_without_compilation(seed):
    found = []
    for disable in ("0", "1"):
        code = (
            "import json, numba; from tests.test_whole_chains import chain_digests; "
            f"print(json.dumps([numba.config.DISABLE_JIT, chain_digests({seed})]))"
        )
        run = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "NUMBA_DISABLE_JIT": disable},
            capture_output=True,
            text=True,
            check=True,
        )
        disabled, digests = json.loads(run.stdout)
        assert disabled == int(disable)
        found.append(digests)
    assert found[0] == found[1]
    assert len(set(found[0])) == len(found[0])  # the digest sees what differs
