"""Chains in shards: the same law as chains in one piece, the same bytes wherever shards are.

False alarms of the tests of the law: a case compares about 40 statistics. A z beyond 4 has
probability 6e-5; it is a failure only if the same statistic is beyond 4 again in twice as many
fresh worlds, which happens by chance in less than one of 1e6 runs.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascadenet.cascades import Cascades
from cascadenet.errors import FormatError
from cascadenet.inference import chains, communities, geweke, rates, sampler
from cascadenet.inference.dynamics.memory import Carried
from cascadenet.inference.layout import build_layout
from cascadenet.inference.parents import _kernels as parent_kernels
from cascadenet.inference.sampler import Chain
from cascadenet.inference.sharded import coordinator as coordinators
from cascadenet.inference.sharded.coordinator import Coordinator
from cascadenet.inference.sharded.hosts import LocalHosts, Plan
from cascadenet.inference.sharded.pieces import shard_bounds, take_children
from cascadenet.inference.sharded.shard import DERIVED, Shard, Sums, scalars_of
from cascadenet.inference.worlds import CASES, draw_world, new_chain
from tests.sharded_runs import KINDS, TUNE, flat, run, same, save, some_cascades

ROOT = Path(__file__).resolve().parent.parent
SHORT = chains.Schedule(0, 10, 10, 0)
# with 1, parents are proposed instead of drawn from all candidates
SETTINGS = {
    "hdp": {"scan": 1, "parent_rounds": 3},
    "open": {"scan": 1},
    "capped": {"parent_rounds": 3},
}
STATIC = ("hdp", "capped", "open", "flat")
WORLDS, LIMIT, CAUGHT = 600, 4.0, 7.0


# A chain cut into shards, and put together again


def cut(chain: Chain, shards: int = 3) -> Coordinator:
    """The same state in shards."""
    plan = Plan(chain.layout, shard_bounds(chain.layout, shards), chain.model, SHORT)
    seed = np.random.SeedSequence(int(chain.rng.integers(2**63)))
    hosts = LocalHosts([plan.make(s, plan.piece(s), seed) for s in range(plan.n_shards)])
    whole = Coordinator(plan, seed, hosts)
    kept = {"choice", "parent", "n_pair", "shape", "rate", "exposure", "cand_weight", "node_full"}
    given = {name: value for name, value in vars(chain.state).items() if name not in kept}
    vars(whole.state).update(copy.deepcopy(given))
    sampler.adopt_parents(whole, whole.layout, np.empty(0, np.int32))
    whole.adapting, whole.holding, whole.n_sweeps = chain.adapting, chain.holding, chain.n_sweeps
    rows = chain.layout.child_ptr[plan.bounds]
    for shard, first, last in zip(hosts.shards, rows[:-1], rows[1:], strict=True):
        shard.network = whole._network()
        shard.start(scalars_of(whole.state), chain.state.choice[first:last])
    return whole


def join(whole: Coordinator, chain: Chain) -> None:
    """Put the state of all shards into a chain in one piece."""
    whole.hosts.ask(whole._take_news())
    names = [name for name in vars(whole.state) if name not in DERIVED - {"log_step"}]
    names += ["beta", "weight", "sender", "receiver", "eta", "sent", "received"]
    names += ["token_sender", "token_receiver", "community"]
    for name in names:
        setattr(chain.state, name, getattr(whole.state, name))
    choice = np.concatenate([shard.state.choice for shard in whole.hosts.shards])
    sampler.adopt_parents(chain, chain.layout, choice)


def sweep_in_shards(chain: Chain) -> None:
    whole = cut(chain)
    whole.sweep()
    join(whole, chain)


def placed(case: str, seed: int, shards: int = 3) -> tuple[Chain, Coordinator]:
    """A chain at a world, and the same in shards."""
    model, design = CASES[case]
    rng = np.random.default_rng(seed)
    chain = new_chain(rng, model, design, draw_world(rng, model, design))
    if model.prior == "hdp":
        communities.draw_tokens(chain)
    return chain, cut(chain, shards)


# The law


def offenders(table: geweke.ZTable) -> set[tuple[str, str]]:
    return {(block, name) for block, row in table.items() for name in row if abs(row[name]) > LIMIT}


@pytest.mark.parametrize("case", STATIC)
def test_sweep_in_shards_leaves_the_joint_law_alone(case: str, seed: int) -> None:
    model, design = CASES[case]
    tested = {"sweep": (sweep_in_shards,)}
    given = {"chain_model": dataclasses.replace(model, **SETTINGS.get(case, {}))}
    table = geweke.joint_test(model, design, tested, replicates=WORLDS, seed=seed, **given)
    assert sum(z != 0.0 for z in table["sweep"].values()) >= 20
    suspects = offenders(table)
    if suspects:
        given |= {"replicates": 2 * WORLDS, "seed": seed + 1}
        fresh = geweke.joint_test(model, design, tested, **given)
        assert not suspects & offenders(fresh), (table, fresh)


def anywhere(phantoms: Callable) -> Callable:
    """Phantom tokens of each shard drawn for all nodes."""

    def drawn(shard: Shard, bound: float) -> np.ndarray:
        block = shard.low, shard.high
        shard.low, shard.high = 0, shard.layout.n_nodes
        try:
            return phantoms(shard, bound)
        finally:
            shard.low, shard.high = block

    return drawn


def one_forgotten(by_shape: Callable) -> Callable:
    """What the first shard's listed pairs take from the mass of all others left out."""
    return lambda shard, b, *rest: by_shape(shard, b, *rest) * (shard.low > 0)


BUGS = {"_phantoms": (anywhere, 400), "_by_shape": (one_forgotten, 1600)}  # and worlds to see them


@pytest.mark.parametrize("method", BUGS)
def test_bug_is_caught(method: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bug, replicates = BUGS[method]
    monkeypatch.setattr(Shard, method, bug(getattr(Shard, method)))
    tested = {"sweep": (sweep_in_shards,)}
    table = geweke.joint_test(*CASES["hdp"], tested, replicates=replicates, seed=seed)
    assert abs(geweke.worst(table)[2]) > CAUGHT


# Sums over shards are those of the whole


@pytest.mark.parametrize("case", STATIC)
@pytest.mark.parametrize("shards", [1, 2, 4])
def test_densities_add_up(case: str, shards: int, seed: int) -> None:
    """All that the random walks can ask for, and a delay's proposal."""
    chain, whole = placed(case, seed, shards)
    delay = chain.model.delay
    b, scale, ground = [0.7, 1.9], [1.0, 0.3, 2.5], [0.5, 4.0]
    (parts,) = whole.hosts.ask([("sums", {"b": b, "scale": scale, "ground": ground})])
    assert len(parts) == shards
    sums, target = Sums.total(parts), rates.RateTarget(chain)
    unlisted = rates.RateTarget(whole)
    for i, value in enumerate(b):
        found = coordinators._density(sums, i, unlisted.at(value)(), scale)
        for at, factor in enumerate(scale):
            assert found(at) == pytest.approx(target.at(value)(factor), rel=1e-10)
    if not delay.parameters:
        return
    theta = 1.1 * chain.state.theta
    exposures, full = chain.layout.exposure(delay, theta), whole.layout.exposure(delay, theta)
    (parts,) = whole.hosts.ask([("try_delay", {"theta": theta, "b": 0.7})])
    tried = Sums.total(parts)
    found = tried.by_shape[0] - tried.by_count[0] + unlisted.at(0.7, *full)()
    expected = target.at(0.7, *exposures)() - target.at(0.7)()
    found -= sums.by_shape[0] - sums.by_count[0] + unlisted.at(0.7)()
    assert found == pytest.approx(expected, rel=1e-8)
    hazards = delay.log_hazard(rates.chosen_delays(chain), theta).sum()
    assert tried.hazard == pytest.approx(hazards, rel=1e-10)


@pytest.mark.parametrize("case", STATIC)
def test_scalars_and_running_sums_are_those_of_the_whole(case: str, seed: int) -> None:
    chain, whole = placed(case, seed)
    record = chains.Record(chain, SHORT)
    whole.record = chains.Record(whole, SHORT)
    for _ in range(SHORT.draws):
        whole.sweep()
        join(whole, chain)
        if chain.model.prior == "hdp":  # shards refresh when the next orders come
            assert whole.state.community.size == whole.state.eta.sum()
        record.add(chain, SHORT)
        whole._begin([])
        assert whole.record.networks[-1]["used"].tolist() == record.networks[-1]["used"].tolist()
        assert whole.record.networks[-1]["count"].tolist() == record.networks[-1]["count"].tolist()
    found = whole.finish()
    assert list(found.scalars) == list(record.scalars)
    for name, values in record.scalars.items():
        assert found.scalars[name] == pytest.approx(values, rel=1e-9), name
    for name in record.arrays:
        expected = getattr(record, name)
        rel = 1e-6 if expected.dtype == np.float32 else 1e-9
        assert getattr(found, name) == pytest.approx(expected, rel=rel), name
    for name in record.used_arrays:
        assert getattr(found, name) == pytest.approx(getattr(record, name), rel=1e-9), name


@pytest.mark.parametrize("case", ["hdp", "capped"])
def test_approximate_total_sees_all_pairs(case: str, seed: int) -> None:
    """Without balanced exposure Lambda needs sum p L over all pairs of the new network."""
    chain, whole = placed(case, seed)
    expected = communities._network_mass(chain)
    chain.state.total = 1.0
    (listed,) = whole.hosts.ask([("mass", {})])
    outward = rates.RateTarget(whole).unlisted / whole.state.total
    rest = (outward * np.log1p(whole.state.node_full / whole.state.b)).sum()
    assert sum(listed) + rest == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("case", STATIC)
def test_counts_fit(case: str, seed: int) -> None:
    """After every sweep, every infection but seeds has one parent; tokens fall into their shard."""
    chain, whole = placed(case, seed)
    explained = np.count_nonzero(np.diff(chain.layout.cand_ptr))
    for _ in range(SHORT.draws):
        whole.sweep()
        counted = 0
        for shard in whole.hosts.shards:
            state, layout = shard.state, shard.layout
            rows = np.flatnonzero(np.diff(layout.cand_ptr))
            parent = layout.cand_pair[layout.cand_ptr[rows] + state.choice[rows]]
            assert (state.parent[rows] == parent).all()
            n_pair = np.bincount(parent, minlength=layout.n_pairs)
            assert (state.n_pair == n_pair).all()
            counted += n_pair.sum()
            if shard.network is not None:
                last = whole.base.size if shard.high == layout.n_nodes else shard.high
                for tokens in shard.tokens(2.0):
                    assert ((tokens[1] >= shard.low) & (tokens[1] < last)).all()
        assert counted == explained


# Pieces


@pytest.mark.parametrize("case", STATIC)
def test_pieces_make_up_the_layout(case: str, seed: int) -> None:
    chain, _ = placed(case, seed)
    layout, delay, theta = chain.layout, chain.model.delay, chain.state.theta
    bounds = shard_bounds(layout, 3)
    pieces = [take_children(layout, *block) for block in pairwise(bounds.tolist())]
    ends = [piece.pair_ptr[-1] for piece in pieces]
    for name in ("pair_source", "pair_child"):
        joined = [getattr(piece, name)[:end] for piece, end in zip(pieces, ends, strict=True)]
        assert np.concatenate(joined).tolist() == getattr(layout, name).tolist()
    exposure, node_full = layout.exposure(delay, theta)
    found = [piece.exposure(delay, theta) for piece in pieces]
    joined = [pairs[:end] for (pairs, _), end in zip(found, ends, strict=True)]
    assert np.concatenate(joined).tolist() == exposure.tolist()
    assert all(full.tolist() == node_full.tolist() for _, full in found)
    sources = [piece.pair_source[piece.cand_pair] for piece in pieces]
    assert np.concatenate(sources).tolist() == layout.pair_source[layout.cand_pair].tolist()
    delays = np.concatenate([piece.cand_delay for piece in pieces])
    assert delays.tolist() == layout.cand_delay.tolist()


@pytest.mark.parametrize("case", STATIC)
def test_sources_are_found_among_candidates(case: str, seed: int) -> None:
    """In the rows of the whole layout, which are numbered apart from the piece's own."""
    _, whole = placed(case, seed)
    for shard in whole.hosts.shards:
        piece = shard.layout
        for m in range(piece.n_infections):
            first = piece.cand_ptr[m]
            for q in range(first, piece.cand_ptr[m + 1]):
                source = piece.pair_source[piece.cand_pair[q]]
                begin = piece.lookup[0][max(source, 0)]
                found, _ = parent_kernels.place_of(m, source, begin, *piece.lookup)
                assert found == q - first


def test_no_children_no_infections(seed: int) -> None:
    for case in STATIC:
        chain, _ = placed(case, seed)
        empty = take_children(chain.layout, 0, 0)
        assert (empty.n_infections, empty.cand_pair.size) == (0, 0)
        full = empty.exposure(chain.model.delay, chain.state.theta)[1]
        assert full.tolist() == chain.state.node_full.tolist()


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 40, 100])
def test_bounds_leave_no_shard_empty(data: Cascades, shards: int) -> None:
    layout = build_layout(data)
    bounds = shard_bounds(layout, shards)
    assert (bounds[0], bounds[-1]) == (0, layout.n_nodes)
    assert bounds.size == min(shards, layout.n_nodes) + 1
    assert (np.diff(bounds) > 0).all()
    if shards == 3:
        cost = np.diff(layout.cand_ptr[layout.child_ptr[bounds]])
        assert cost.max() < 2 * cost.min()


# Bytes


@pytest.fixture(scope="module")
def data(seed: int) -> Cascades:
    """Twenty-five cascades over forty nodes, all but one of which seed."""
    return some_cascades(seed)


@pytest.fixture(scope="module")
def reference(data: Cascades) -> dict[str, list[chains.Record]]:
    return {kind: run(data, kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [2, 4])
def test_threads(
    data: Cascades, reference: dict[str, list[chains.Record]], kind: str, threads: int
) -> None:
    assert same(run(data, kind, n_jobs=threads), reference[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_executor_with_memory(
    data: Cascades, reference: dict[str, list[chains.Record]], kind: str
) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert same(run(data, kind, client=pool), reference[kind])


class Posting:
    """An executor whose tasks get copies, as those of another process do."""

    def submit(self, function: Callable, *args: Any) -> Future:
        function, args = copy.deepcopy((function, args))
        future: Future = Future()
        future.set_result(copy.deepcopy(function(*args)))
        return future


@pytest.mark.parametrize("kind", KINDS)
def test_executor_without_memory(
    data: Cascades, reference: dict[str, list[chains.Record]], kind: str
) -> None:
    assert same(run(data, kind, client=Posting()), reference[kind])


def test_chain_is_the_same_alone(data: Cascades, reference: dict[str, list[chains.Record]]) -> None:
    assert same(run(data, "survival", n_chains=1), reference["survival"][:1])


def test_shards_and_seeds_matter(data: Cascades, reference: dict[str, list[chains.Record]]) -> None:
    """The comparison can tell; chains and kinds differ too."""
    for other in (run(data, "survival", shards=4), run(data, "survival", start=1)):
        assert not same(other, reference["survival"])
    first, second = reference["survival"]
    assert not same([first], [second])


def test_without_the_compiler(
    reference: dict[str, list[chains.Record]], seed: int, tmp_path: Path
) -> None:
    code = (
        "import sys; from tests.sharded_runs import *\n"
        f"for kind in KINDS: save(run(some_cascades({seed}), kind), {str(tmp_path)!r}, kind)"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    for kind, records in reference.items():
        save(records, str(tmp_path), "here")
        assert (tmp_path / kind).read_bytes() == (tmp_path / "here").read_bytes(), kind


@pytest.mark.parametrize("case", STATIC)
def test_snapshot_goes_on_with_the_same_bytes(case: str, seed: int) -> None:
    """A shard in another place, after draws have been recorded."""
    _, whole = placed(case, seed)
    whole.sweep()
    whole.sweep()
    for shard in whole.hosts.shards:
        shard.refresh(whole.state.total)
        other = Shard(
            shard.layout, (shard.low, shard.high), shard.model, SHORT, np.random.default_rng(0)
        )
        shard.snapshot()  # leaves no trace
        other.restore(copy.deepcopy(shard.snapshot()))
        other.network = shard.network
        walk = {"b": [1.0], "scale": [1.0], "ground": [1.0], "adapting": False}
        orders = [("refresh", {"total": 2.0}), ("observe", {"network": True}), ("draw", walk)]
        orders.append(("collect", {}))
        assert flat(shard.apply(orders)) == flat(other.apply(orders))
        assert shard.rng.random() == other.rng.random()


# Edges of a run


class StopAfter(chains.Progress):
    """Ctrl-C after so many sweeps."""

    def __init__(self, sweeps: int) -> None:
        super().__init__(1, show=False)
        self.left = sweeps

    def step(self, sweeps: int = 1) -> None:
        self.left -= sweeps
        self.stopped = self.left <= 0


def test_interrupted_run_keeps_what_was_drawn(
    data: Cascades, reference: dict[str, list[chains.Record]]
) -> None:
    (record,) = run(data, "survival", n_chains=1, progress=StopAfter(TUNE + 2))
    assert record.draws == 2
    assert len(record.networks) == 1
    for name, values in record.scalars.items():
        assert values.tolist() == reference["survival"][0].scalars[name][:2].tolist()


def test_stopped_before_the_first_draw(data: Cascades) -> None:
    (record,) = run(data, "survival", n_chains=1, progress=StopAfter(2))
    assert (record.draws, record.networks) == (0, [])
    assert record.used.size == record.mean_unused.sum() == 0


def test_impossible_data_is_an_error_of_the_data(seed: int) -> None:
    """Raised in a shard, on its thread."""
    times = [0.0, 1e-9, 0.0, 1.0, 0.0, 1.0]  # the median delay is the unit
    near = Cascades.from_arrays(range(3), [0, 2, 4, 6], [0, 1] * 3, times, [2.0] * 3)
    with pytest.raises(FormatError, match="no candidate parent of node index 1"):
        run(near, "powerlaw", n_jobs=2)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"shards": 0}, ValueError, "shards must be an integer of at least 1; got 0"),
        ({"shards": True}, ValueError, "shards must be an integer of at least 1; got True"),
        ({"shards": 2.0}, ValueError, "shards must be an integer"),
        ({"client": "tcp://here"}, TypeError, "client must have a method submit, .*; got str"),
        ({"likelihood": "tree"}, ValueError, "need likelihood='survival'; got 'tree'"),
        ({"switch": True}, ValueError, "a network that does not change"),
        ({"carried": Carried()}, ValueError, "starts must be seeds only"),
    ],
)
def test_what_shards_cannot_do(
    data: Cascades, changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(data, "survival", **changed)
