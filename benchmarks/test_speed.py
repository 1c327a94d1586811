"""How fast everything is, each beside a reference that is measured in turn with it.

    python -m pytest benchmarks                             all of it, some three minutes
    python -m pytest benchmarks -k parents                  some of it
    python -m pytest benchmarks --benchmark-json now.json   kept, to compare versions with
    python -m pytest benchmarks --small --benchmark-disable whether it all still runs

Needs the extra `bench`. One thread, warm kernels, medians; a ratio above 1 says that the call is
faster than its reference. Nothing fails for being slow. What the figures mean is in
docs/benchmarks.md, where accuracy is too.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import bench_compact
import bench_scaling
import bench_theory
import cascade_length
import cascades as published
import numpy as np
import pytest

import cascadenet as cn
from cascadenet.delays import get_delay
from cascadenet.inference import _kernels, chains, parents, sampler
from cascadenet.inference.layout import build_layout
from cascadenet.inference.next_baselines import CoOccurrenceNext
from cascadenet.inference.sampler import Chain, Model
from cascadenet.inference.sharded.hosts import LocalHosts, Plan
from cascadenet.inference.sharded.pieces import shard_bounds
from cascadenet.sparse.bandits import LinUCBRanker
from cascadenet.sparse.pruning import SGD, Network, train
from cascadenet.sparse.pruning.compact import compress

pytestmark = pytest.mark.benchmark(timer=time.process_time, disable_gc=True)
wall = pytest.mark.benchmark(timer=time.perf_counter, disable_gc=True)
LONGER = cascade_length.LENGTHS[1:]


# Cascades and chains


@functools.cache
def chain_of(length: int, infections: int) -> Chain:
    """A chain some sweeps old, on simulated cascades of one length."""
    cascades = cascade_length.cascades_of_length(length, infections, seed=length)
    model = Model(get_delay("exponential"), parent_rounds=parents.MORE_ROUNDS)
    chain = Chain(build_layout(cascades), model, np.random.default_rng(1))
    for _ in range(5):
        chain.sweep()
    return chain


@pytest.fixture
def chain(request: pytest.FixtureRequest, small: bool) -> Chain:
    """The chain of a length; one at a time, as the longest takes a gigabyte, and that of 30."""
    if small and request.param > 100:
        pytest.skip("toys are short")
    made = chain_of(request.param, size_of(small))
    yield made
    chain_of.cache_clear()


def size_of(small: bool) -> int:
    """Infections of simulated cascades."""
    return 3000 if small else 100_000


@functools.cache
def kronecker() -> cn.Cascades:
    """The cascades of netrate-kronecker."""
    if not (published.DATA / "netrate-kronecker").exists():
        pytest.skip("netrate-kronecker is not in ../shared/data or $CASCADENET_DATA")
    return published.read_kronecker()[0]


def fitted(model, **options) -> Callable[[], object]:
    """A whole fit to netrate-kronecker, its edge table included."""
    return lambda: published.timed(model, kronecker(), **options)


# The sampler


@pytest.mark.parametrize("chain", cascade_length.LENGTHS, indirect=True)
def test_parents_beside_all_candidates(beside, chain: Chain) -> None:
    scanning = replace(chain.model, scan=cascade_length.EVERYTHING)

    def scan() -> None:
        usual, chain.model = chain.model, scanning
        parents.draw_parents(chain)
        chain.model = usual

    beside(lambda: parents.draw_parents(chain), scan, of="drawn from all candidates")


@pytest.mark.parametrize("chain", LONGER, indirect=True)
@pytest.mark.parametrize("update", [parents.draw_parents, parents.swap_parents])
def test_longer_cascades(
    beside, update: Callable[[Chain], None], chain: Chain, small: bool
) -> None:
    short = chain_of(30, size_of(small))
    beside(lambda: update(chain), lambda: update(short), of="cascades of 30")


def test_community_tokens(beside, small: bool) -> None:
    count = 2000 if small else 200_000
    ends, law, written = published.token_problem(1000, count)
    _, _, prior, tau, tau_beta = law
    uniform = np.random.default_rng(1).random(count)

    def held() -> np.ndarray:
        _, eta, sent, received = written
        weight = (eta + prior) / (eta + tau) ** 2 * (sent + tau_beta[:, None])[ends[0]]
        weight *= (received + tau_beta[:, None])[ends[1]]
        running = np.cumsum(weight, axis=1)
        return (running <= uniform[:, None] * running[:, -1:]).sum(axis=1)

    beside(
        lambda: _kernels.update_communities(*ends, *law, uniform, *written),
        held,
        of="NumPy, all tokens at once, counts held",
    )


@pytest.mark.parametrize("chain", [100], indirect=True)
def test_shapes_of_pairs(beside, chain: Chain) -> None:
    layout, state = chain.layout, chain.state
    child = np.repeat(np.arange(layout.pair_ptr.size - 1), np.diff(layout.pair_ptr))

    def gathered() -> np.ndarray:
        parts = np.array_split(np.arange(layout.n_pairs), max(layout.n_pairs // 100_000, 1))
        rows = [
            np.einsum(
                "pk,pk->p", state.weighted_sender[layout.pair_source[p]], state.receiver[child[p]]
            )
            for p in parts
        ]
        return state.total * np.concatenate(rows)

    beside(lambda: sampler.refresh_shape(chain), gathered, of="NumPy, rows gathered", rounds=5)


def test_layout(beside, small: bool) -> None:
    cascades = cascade_length.cascades_of_length(100, size_of(small), seed=100)
    numbers = np.random.default_rng(0).random(build_layout(cascades).cand_pair.size, np.float32)
    beside(
        lambda: build_layout(cascades),
        lambda: np.sort(numbers),
        of="sorting as many numbers as candidates",
        rounds=5,
    )


@pytest.mark.parametrize("prior", ["flat", "hdp"])
def test_fit_kronecker(beside, prior: str, small: bool) -> None:
    sweeps = {"draws": 2, "tune": 2} if small else {"draws": 100, "tune": 50}
    fit = fitted(cn.CoupledHDP(prior=prior), seed=0, chains=1, progress=False, **sweeps)
    beside(fit, fitted(cn.inference.NetInf(n_edges=2041)), of="NetInf, given 2041 edges", rounds=3)


@pytest.mark.parametrize("name", ["NetInf", "InfoPath", "NetRate"])
def test_baselines(beside, name: str) -> None:
    model = getattr(cn.inference, name)()
    beside(fitted(model), fitted(cn.inference.CoOccurrence()), of="CoOccurrence", rounds=3)


# Threads


@wall
def test_two_chains_on_two_threads(beside, small: bool) -> None:
    layout, model = build_layout(kronecker()), Model(get_delay("exponential"))
    sweeps = 2 if small else 40
    schedule = chains.Schedule(sweeps, sweeps, 1, sweeps // 3)
    starts = [chains.Start(seed) for seed in np.random.SeedSequence(3).spawn(2)]

    def run(threads: int) -> None:
        with chains.Progress(1, show=False) as bar:
            chains.run_chains(layout, model, schedule, starts, n_jobs=threads, progress=bar)

    beside(lambda: run(2), lambda: run(1), of="one thread", rounds=3)


@wall
def test_one_chain_in_shards_on_two_threads(beside, small: bool) -> None:
    layout = build_layout(bench_scaling.simulated(size_of(small), 5000, 1.6))
    schedule = chains.Schedule(bench_scaling.WARM, 100_000, 1, 2)
    plan = Plan(layout, shard_bounds(layout, 8), Model(get_delay("exponential")), schedule)
    with ThreadPoolExecutor(2) as pool:
        one, two = (
            bench_scaling.warm_chain(plan, LocalHosts(bench_scaling.local_shards(plan), some), some)
            for some in (None, pool)
        )
        beside(two.sweep, one.sweep, of="one thread", rounds=3 if small else 15)


# Who is next, sparse models, theory, ranking


def test_next_infection(beside, small: bool) -> None:
    cascades = cascade_length.cascades_of_length(100, size_of(small) // 4, seed=100)
    beside(
        lambda: cn.NextInfection().fit(cascades),
        lambda: CoOccurrenceNext().fit(cascades),
        of="counting pairs",
        rounds=3,
    )


@pytest.mark.parametrize("kind", ["dense", "pruned"])
def test_risk_curve(beside, kind: str) -> None:
    law, kappa = bench_theory.example_law(), np.geomspace(1.02, 10, bench_theory.KAPPAS)
    some = kappa[:: kappa.size // bench_theory.LOOP_POINTS]
    noise, kept = bench_theory.NOISE, bench_theory.KEPT
    curve, loop = {
        "dense": (
            lambda: bench_theory.dense_risk(law, kappa, noise),
            lambda: [bench_theory.loop_dense(law, x) for x in some],
        ),
        "pruned": (
            lambda: bench_theory.pruned_risk(law, kappa, noise, kept),
            lambda: [bench_theory.loop_pruned(law, x) for x in some],
        ),
    }[kind]
    beside(curve, loop, of="a loop over scipy.optimize.brentq", scale=kappa.size / some.size)


@pytest.mark.parametrize("rows", [1, 128])
def test_compact_predictions(beside, rows: int) -> None:
    layers = bench_compact.lenet(0)
    model, dense = compress(layers), bench_compact.dense_numpy(layers)
    X = np.random.default_rng(rows).standard_normal((rows, 784)).astype(np.float32)
    calls = range(2000 // (rows + 5))
    beside(
        lambda: [model.predict_proba(X) for _ in calls],
        lambda: [dense(X) for _ in calls],
        of="dense NumPy",
    )


def test_training_epoch(beside, small: bool) -> None:
    rng = np.random.default_rng(0)
    n, sizes, batch = 512 if small else 12_800, (784, 300, 100, 10), 128
    x, y = rng.standard_normal((n, 784)).astype(np.float32), rng.integers(10, size=n)
    signals = [rng.standard_normal((batch, size)).astype(np.float32) for size in sizes]
    weights = [rng.standard_normal((a, b)).astype(np.float32) for a, b in pairwise(sizes)]

    def epoch() -> None:
        network = Network((784,), (300, 100), 10)
        train(network, x, y, optimiser=SGD(0.9, True, 5e-4), epochs=1, learning_rate=0.1)

    def products() -> None:
        for _ in range(n // batch):
            for (into, out), weight in zip(pairwise(signals), weights, strict=True):
                into @ weight, into.T @ out, out @ weight.T

    beside(epoch, products, of="its matrix products alone", rounds=5)


def test_ranking_round(beside) -> None:
    d, items, slots, rounds = 10, 100, 5, range(200)
    rng = np.random.default_rng(0)
    contexts = rng.standard_normal((len(rounds), d)) / np.sqrt(d)
    clicks = (rng.random((len(rounds), slots)) < 0.3).astype(float)
    ranker = LinUCBRanker(d, slots, 1 / np.arange(1.0, slots + 1), n_items=items)
    inverse, response = np.tile(np.eye(d), (items, 1, 1)), np.zeros((items, d))

    def compiled() -> None:
        for x, click in zip(contexts, clicks, strict=True):
            ranker.update(x, click, items=ranker.rank(x))

    def numpy() -> None:
        for x, click in zip(contexts, clicks, strict=True):
            along = inverse @ x
            score = np.einsum("id,id->i", along, response) + np.sqrt(along @ x)
            shown = np.argsort(-score)[:slots]
            step = along[shown]
            scale = 1 + step @ x
            inverse[shown] -= step[:, :, None] * step[:, None, :] / scale[:, None, None]
            response[shown] += click[:, None] * x

    beside(compiled, numpy, of="NumPy over all items, no examination")
