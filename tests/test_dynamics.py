"""Networks that change: memories, the filter, its evidence, going on, and what is refused."""

from __future__ import annotations

import dataclasses
import itertools
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cascadenet as cn
from cascadenet.delays import get_delay
from cascadenet.dynamic_scores import score_dynamic
from cascadenet.inference.dynamics import filtering
from cascadenet.inference.dynamics.evidence import sequential_log_density
from cascadenet.inference.dynamics.memory import (
    APART,
    GRAIN,
    NEGLIGIBLE,
    PairMemory,
    Seen,
    carried,
)
from cascadenet.inference.dynamics.time_intervals import cut, members
from cascadenet.inference.layout import build_layout
from cascadenet.inference.sampler import Model
from cascadenet.pairs import pair_keys
from tests import naive, naive_dynamics

QUICK = {"draws": 12, "tune": 8, "chains": 2, "n_jobs": 1, "progress": False}
MEMORIES = {"forgetting": 0.5, "support": 0.2}


@pytest.fixture(autouse=True)
def _short_chains_do_not_mix():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the chains have not mixed")
        yield


def changing_cascades(seed: int, n_nodes: int = 8, n_cascades: int = 60) -> cn.Cascades:
    """Cascades over 30 time units whose network turns round at 15."""
    rng = np.random.default_rng(seed)
    rows = []
    for c in range(n_cascades):
        start = 30.0 * c / n_cascades
        u, t = int(rng.integers(n_nodes)), start
        rows.append((c, u, t))
        for _ in range(4):
            u = (u + (1 if start < 15.0 else 3)) % n_nodes
            t += min(rng.exponential(0.3), 0.7)
            rows.append((c, u, t))
    frame = pd.DataFrame(rows, columns=["cascade", "node", "time"])
    frame = frame.drop_duplicates(["cascade", "node"])
    return cn.Cascades.from_frame(frame, window=3.0, nodes=list(range(n_nodes)))


@pytest.fixture(scope="module")
def fitted(pytestconfig: pytest.Config) -> cn.DynamicCoupledHDP:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = cn.DynamicCoupledHDP(interval=5.0, **MEMORIES)
        data = changing_cascades(pytestconfig.getoption("--seed"))
        return model.fit(data, seed=1, **QUICK)


def same(a: cn.DynamicPosterior, b: cn.DynamicPosterior) -> bool:
    """Whether all draws, memories and scores of two posteriors are the same bytes."""
    frames = a.edges().equals(b.edges()) and a.scores().equals(b.scores())
    pairs = (
        np.array_equal(getattr(a.past.pairs, f.name), getattr(b.past.pairs, f.name))
        for f in dataclasses.fields(PairMemory)
    )
    traces = (
        np.array_equal(p.scalars[name], q.scalars[name])
        for p, q in zip(a.posteriors, b.posteriors, strict=True)
        for name in p.scalars
    )
    return frames and all(pairs) and all(traces)


# ---------------------------------------------------------------------------------------- intervals


@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=12),
    st.one_of(st.none(), st.sampled_from((0.5, 3.0, 40.0))),
    st.integers(1, 4),
)
def test_every_cascade_is_in_the_interval_that_holds_its_start(starts, width, count):
    start = np.array(starts) / 2.0
    if width is None and count > 1 and np.ptp(start) == 0.0:
        with pytest.raises(ValueError, match="n_intervals must be 1"):
            cut(start, width, count, "time")
        return
    ends = cut(start, width, count, "time")
    which = members(start, ends)
    assert (np.diff(ends) > 0).all()
    assert (ends[which] <= start).all()
    assert ((start < ends[which + 1]) | ((which == ends.size - 2) & (start <= ends[-1]))).all()
    if width is None:
        assert ends.size == count + 1
    else:
        assert np.allclose(np.diff(ends), width) and np.allclose(
            ends / width, np.round(ends / width)
        )


def test_equal_numbers_of_cascades():
    start = np.arange(40.0) ** 2
    which = members(start, cut(start, None, 4, "cascades"))
    assert np.bincount(which).tolist() == [10, 10, 10, 10]


# ----------------------------------------------------------------------------------------- memories


def pair_memories(draw, n_nodes: int) -> dict:
    """Remembered pairs as a dict (source, target) -> (n, exposure, support)."""
    pairs = list(itertools.permutations(range(n_nodes), 2))
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True))
    number = st.integers(1, 40).map(lambda x: x / 8.0)
    return {pair: (draw(number), draw(number), draw(number)) for pair in chosen}


def as_memory(table: dict, node_exposure: list[float]) -> PairMemory:
    width = len(node_exposure) + 2
    ordered = sorted(table, key=lambda pair: pair[1] * width + pair[0])
    columns = np.array([table[pair] for pair in ordered]).reshape(-1, 3).T
    key = np.array([v * width + u + 1 for u, v in ordered], np.int64)
    return PairMemory(key, *columns, np.array(node_exposure))


@given(st.data())
@settings(max_examples=200)
def test_memory_after_an_interval_is_that_of_a_plain_table(data):
    n_nodes = 4
    old = pair_memories(data.draw, n_nodes)
    nodes = [0.5, 1.0, 0.0, 2.0]
    delta = data.draw(st.sampled_from((0.0, 0.3, 1.0)))
    pairs = sorted(set(old) | set(pair_memories(data.draw, n_nodes)), key=lambda p: (p[1], p[0]))
    n = np.array([data.draw(st.sampled_from((0.0, 0.25, 3.0))) for _ in pairs])
    exposure = np.array([data.draw(st.sampled_from((0.0, 0.5, 2.0))) for _ in pairs])
    kept = np.array([data.draw(st.sampled_from((0.0, 0.5, 1.0))) for _ in pairs])
    full = np.array([1.0, 0.25, 3.0, 0.0])
    source, target = (np.array([p[i] for p in pairs], np.int64) for i in (0, 1))
    seen = Seen(pair_keys(source, target, n_nodes), n, exposure, full, kept)
    memory = as_memory(old, nodes).advance(seen, delta)
    expected = {}
    for x, pair in enumerate(pairs):
        was = old.get(pair, (0.0, nodes[pair[0]], 0.0))
        new_n = delta * (kept[x] * was[0] + n[x])
        new_exposure = delta * (kept[x] * was[1] + exposure[x])
        support = was[2] + n[x]
        usual = delta * (nodes[pair[0]] + full[pair[0]])
        apart = abs(new_exposure - usual) > APART * (1.0 + new_exposure)
        if apart or max(new_n, support) > NEGLIGIBLE:
            expected[pair] = (new_n, new_exposure, support)
    wanted = as_memory(expected, [delta * (a + b) for a, b in zip(nodes, full, strict=True)])
    for item in dataclasses.fields(PairMemory):
        assert np.allclose(getattr(memory, item.name), getattr(wanted, item.name), rtol=1e-12)


def test_nothing_forgotten_adds_up_and_everything_forgotten_keeps_the_support(seed):
    rng = np.random.default_rng(seed)
    key = pair_keys(np.array([1, 0, 2]), np.array([0, 1, 1]), 3)
    for delta in (0.0, 1.0):
        memory, total = PairMemory.empty(3), np.zeros(3)
        for _ in range(4):
            n = rng.gamma(1.0, size=3)
            total += n
            seen = Seen(key, n, rng.gamma(1.0, size=3), np.ones(3), np.ones(3))
            memory = memory.advance(seen, delta)
        assert np.allclose(memory.support, total, rtol=1e-12)
        assert np.allclose(memory.n, delta * total, rtol=1e-12)
        assert np.array_equal(memory.node_exposure, np.full(3, 4.0 * delta))


def test_memories_of_past_and_future_add_up():
    past = as_memory({(0, 1): (1.0, 2.0, 3.0)}, [0.5, 0.0, 1.0])
    future = as_memory({(0, 1): (0.5, 0.25, 1.0), (2, 0): (4.0, 5.0, 6.0)}, [1.0, 2.0, 0.0])
    both = past + future
    assert both.look_up(pair_keys(np.array([0, 2, 1]), np.array([1, 0, 0]), 3))[0].tolist() == [
        1.5,
        4.0,
        0.0,
    ]
    # a pair that only one remembers has the other's exposure of its source
    exposure = both.look_up(pair_keys(np.array([0, 2, 1]), np.array([1, 0, 0]), 3))[1]
    assert exposure.tolist() == [2.25, 6.0, 2.0]


# ----------------------------------------------------------------------------------------- evidence


@given(naive.cascade_sets(), st.booleans(), st.sampled_from(("exponential", "weibull")), st.data())
@settings(max_examples=60)
def test_sequential_density_is_that_of_the_plain_definition(cascades, background, delay, data):
    n_nodes, model = cascades.n_nodes, get_delay(delay)
    memory = as_memory(pair_memories(data.draw, n_nodes), [0.5 + 0.25 * u for u in range(n_nodes)])
    theta = model.default()
    layout = build_layout(cascades, background=background, unit=1.5, listed=memory.pairs)
    given_ = carried([memory], layout, 0.3, True)
    posterior = cn.Posterior(
        nodes=cascades.nodes,
        settings={"likelihood": "survival", "delay": delay},
        provenance={},
        unit=1.5,
        scalars={"persistence": np.array([[0.6]])},
        pair_source=layout.pair_source,
        pair_target=layout.pair_child,
        sums=None,
        networks=[
            {
                "weight": np.empty(0),
                "total": np.float64(2.0),
                "b": np.float64(0.7),
                "theta": theta,
                "ground_rate": np.float64(0.4),
            }
        ],
        network_chain=np.zeros(1, int),
    )
    settings_ = Model(model, prior="flat", background=background, switch=True)
    found = sequential_log_density(posterior, given_, layout, cascades, settings_)
    r = 2.0 / (n_nodes * (n_nodes - 1))
    prior = {}
    pairs = list(itertools.permutations(range(n_nodes), 2))
    for u, v in pairs:
        key = pair_keys(np.array([u]), np.array([v]), n_nodes)
        n, exposure, support = (float(x[0]) for x in memory.look_up(key))
        lasting = r + 0.3 * (1.0 - np.exp(-support))
        whole = (lasting + n, 0.7 + exposure)
        prior[u, v] = (0.6, whole, (lasting, 0.7)) if support >= 0.5 else (1.0, whole, whole)
    ground = {v: (settings_.background_shape, 0.4) for v in range(n_nodes)} if background else None
    expected = naive_dynamics.sequential_density(
        [(story.horizon, [(v, t) for t, v in story.events]) for story in naive.stories(cascades)],
        np.argsort(cascades.start, kind="stable"),
        1.5,
        lambda x: float(np.exp(model.log_hazard(np.array([x]), theta))[0]),
        lambda x: float(model.cumulative(np.array([x]), theta)[0]),
        prior,
        ground,
    )
    assert np.allclose(found, expected, rtol=1e-9, atol=1e-9)


# -------------------------------------------------------------------------------------- the filter


def test_token_memory_is_a_multiple_of_the_grain(fitted):
    for eta, sent, received in fitted.posterior_.past.tokens:
        for x in (eta, sent, received):
            assert np.array_equal(np.round(x / GRAIN) * GRAIN, x)
            assert ((x + 1.0) - 1.0 == x).all()
        assert (np.abs(sent.sum(axis=0) - eta) <= sent.shape[0] * GRAIN).all()


def test_the_same_bytes_for_any_number_of_threads(fitted, seed):
    data = changing_cascades(seed)
    again = cn.DynamicCoupledHDP(interval=5.0, **MEMORIES).fit(
        data, seed=1, **QUICK | {"n_jobs": 4}
    )
    other = cn.DynamicCoupledHDP(interval=5.0, **MEMORIES).fit(data, seed=2, **QUICK)
    assert same(fitted.posterior_, again.posterior_)
    assert not same(fitted.posterior_, other.posterior_)


def test_going_on_from_a_file_is_as_if_never_stopped(fitted, seed, tmp_path):
    data = changing_cascades(seed)
    which = members(data.start, fitted.posterior_.ends)
    model = cn.DynamicCoupledHDP(interval=5.0, **MEMORIES)
    model.fit(data.subset(which < 2), seed=1, **QUICK)
    for part in (which == 2, (which > 2)):
        model.posterior_.save(tmp_path / "run.npz")
        model = cn.DynamicCoupledHDP.from_posterior(cn.load(tmp_path / "run.npz"))
        model.partial_fit(data.subset(part), progress=False, n_jobs=1)
    assert same(fitted.posterior_, model.posterior_)


def test_saved_posterior_comes_back_whole(fitted, tmp_path):
    posterior = fitted.posterior_
    posterior.save(tmp_path)
    loaded = cn.load(tmp_path)
    assert same(posterior, loaded)
    assert loaded.summary() == posterior.summary()
    assert loaded.predictive(top=5).equals(posterior.predictive(top=5))
    assert loaded.communities().equals(posterior.communities())


def test_interval_without_cascades_fades_the_memory(seed):
    data = changing_cascades(seed)
    quiet = data.subset((data.start < 5.0) | (data.start >= 10.0))
    model = cn.DynamicCoupledHDP(interval=5.0, forgetting=0.5, support=0.2, switch=False)
    posterior = model.fit(quiet, seed=1, **QUICK).posterior_
    assert len(posterior.posteriors) == 6
    assert posterior.scores()["interval"].tolist() == [2, 3, 4, 5]
    quiet_edges = posterior.edges(1)
    assert (quiet_edges["n"] == 0.0).all()
    # remembered edges are active without a cascade too, and no others
    strong = quiet_edges["active"] > 0.5
    assert 4 <= strong.sum() <= 12 and len(quiet_edges) > strong.sum()
    first = cn.DynamicCoupledHDP(interval=5.0, forgetting=0.5, support=0.2, switch=False)
    past = first.fit(data.subset(data.start < 5.0), seed=1, **QUICK).posterior_.past
    faded = past.fade(0.5, 0.5)
    assert np.array_equal(
        faded.pairs.n, 0.5 * past.pairs.n[np.isin(past.pairs.key, faded.pairs.key)]
    )


def test_edges_that_turn_round_are_seen_to(fitted):
    """Every edge u -> u+1 dies and every u -> u+3 is born at time 15, the end of interval 2."""
    posterior = fitted.posterior_
    truth = [(u, (u + 1) % 8) for u in range(8)], [(u, (u + 3) % 8) for u in range(8)]
    for j in range(6):
        table = posterior.edges(j).head(8)
        found = set(zip(table["source"], table["target"], strict=True))
        assert len(found & set(truth[j // 3])) >= 7, j
    events = posterior.events()
    turned = events[events["interval"] == 3]
    born = turned[turned["event"] == "birth"]
    assert len(set(zip(born["source"], born["target"], strict=True)) & set(truth[1])) >= 6


def test_support_and_switches_are_what_helps_where_edges_come_and_go(seed):
    """Negative control of `active`: rates remembered for ever keep dead edges alive."""
    network = cn.simulate.community_network(2, 8, within=0.3, between=0.05, rate=1.5, seed=seed)
    network = cn.simulate.vary_rates(network, ["slab", "square"], span=(0.0, 60.0), seed=seed)
    data = cn.simulate.simulate_cascades(
        network, 500, window=3.0, start=(0.0, 60.0), seed=seed
    ).cascades
    ends = np.linspace(0.0, 60.0, 7)
    scores = {}
    for name, options in {
        "auto": {},
        "for ever": {"forgetting": 1.0, "support": 0.0, "switch": False},
    }.items():
        model = cn.DynamicCoupledHDP(interval=ends, prior="flat", **options)
        model.fit(data, seed=1, draws=30, tune=20, n_jobs=1, progress=False)
        scores[name] = score_dynamic(model.edges(), network, ends, data.nodes, "active").auprc
    assert scores["auto"] > scores["for ever"] + 0.05


def test_looking_back_uses_what_came_later(seed):
    """An edge that carries something before and after is likelier in between, when looked back."""
    data = changing_cascades(seed)
    found = {}
    for smooth in (False, True):
        model = cn.DynamicCoupledHDP(interval=5.0, smooth=smooth, **MEMORIES)
        found[smooth] = model.fit(data, seed=1, **QUICK).posterior_
    assert same(found[False], found[False])
    pairs = [(u, (u + 1) % 8) for u in range(8)]
    first = [posterior.edges(0, pairs=pairs)["rate_sd"].mean() for posterior in found.values()]
    assert first[1] < first[0]  # the first interval has no past, only a future
    # the filter's past is what goes on
    assert np.array_equal(found[False].past.pairs.n, found[True].past.pairs.n)


def test_forecast_is_a_distribution_and_knows_the_memory(fitted):
    ahead = fitted.posterior_.forecast
    assert ahead.predictive_matrix().sum() == pytest.approx(1.0, abs=1e-4)
    pairs = [(0, 3), (0, 1), (0, 5)]
    transmit = ahead.predictive(pairs, within=1.0)["transmit"].to_numpy()
    assert transmit[0] > 2.0 * transmit[1] > 2.0 * transmit[2]


def test_memory_stays_of_one_size(seed):
    sizes = []
    model = cn.DynamicCoupledHDP(interval=5.0, forgetting=0.3, support=0.1, prior="flat")
    for j in range(8):
        data = changing_cascades(seed + j, n_cascades=30)
        late = cn.Cascades.from_arrays(
            data.nodes,
            data.offset,
            data.node,
            data.time / 6.1 + 5.0 * j,
            data.horizon / 6.1 + 5.0 * j,
        )
        if j == 0:
            model.fit(late, seed=1, **QUICK)
        else:
            model.partial_fit(late, progress=False, n_jobs=1, keep=2)
        sizes.append(model.posterior_.past.pairs.key.size)
    assert len(model.posterior_.posteriors) == 2
    assert model.posterior_.first_interval == 6
    assert max(sizes) <= 8 * 7 and sizes[-1] <= sizes[2] + 8


# ------------------------------------------------------------------------------------- checkpoints

WORKER = """
import sys, warnings
import cascadenet as cn
warnings.simplefilter("ignore")
data = cn.Cascades.read_csv(sys.argv[1], window=3.0)
model = cn.DynamicCoupledHDP(interval=5.0, forgetting=0.5, support=0.2, smooth=True)
model.fit(data, draws=20, tune=20, chains=2, seed=1, n_jobs=1, checkpoint=sys.argv[2],
          resume=sys.argv[3] == "resume", checkpoint_every=0.0, progress=False)
model.posterior_.save(sys.argv[4])
"""


@pytest.mark.slow
def test_killed_and_resumed_is_the_same_bytes(seed, tmp_path):
    changing_cascades(seed).to_csv(tmp_path / "data.csv")

    def start(folder: str, resume: bool, out: str) -> subprocess.Popen:
        arguments = ["data.csv", folder, "resume" if resume else "new", out]
        return subprocess.Popen([sys.executable, "-c", WORKER, *arguments], cwd=tmp_path)

    assert start("whole", False, "whole.npz").wait() == 0
    rng, kills = np.random.default_rng(seed), 0
    while True:
        process = start("killed", (tmp_path / "killed").exists(), "killed.npz")
        deadline = time.monotonic() + (rng.uniform(2.0, 4.0) if kills < 3 else 300.0)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        assert process.returncode == 0
        break
    assert kills >= 1
    assert same(cn.load(tmp_path / "whole.npz"), cn.load(tmp_path / "killed.npz"))


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("settings_", "name"),
    [
        ({"interval": -1.0}, "interval"),
        ({"interval": [0.0, 0.0]}, "interval"),
        ({"interval": [0.0, 10.0]}, "interval"),
        ({"interval": "week"}, "interval"),
        ({"n_intervals": 0}, "n_intervals"),
        ({"n_intervals": 2.5}, "n_intervals"),
        ({"equal": "size"}, "equal"),
        ({"forgetting": 1.5}, "forgetting"),
        ({"forgetting": "some"}, "forgetting"),
        ({"support": -0.1}, "support"),
        ({"half_life": 0.0}, "half_life"),
        ({"half_life": True}, "half_life"),
        ({"structure": "auto"}, "structure"),
        ({"smooth": "yes"}, "smooth"),
        ({"switch": 1}, "switch"),
        ({"truncation": 1}, "truncation"),
        ({"delay": "gaussian"}, "delay"),
    ],
)
def test_bad_settings_are_named(settings_, name, seed):
    with pytest.raises(ValueError, match=name):
        cn.DynamicCoupledHDP(**settings_).fit(changing_cascades(seed), seed=1, **QUICK)


def test_going_on_refuses_what_does_not_fit(fitted, seed, tmp_path):
    fitted.posterior_.save(tmp_path / "run.npz")
    model = cn.DynamicCoupledHDP.from_posterior(cn.load(tmp_path / "run.npz"))
    before = model.posterior_
    with pytest.raises(ValueError, match="must start after the last interval, which ends at 30"):
        model.partial_fit(changing_cascades(seed), progress=False)
    later = pd.DataFrame({"cascade": [1, 1], "node": [0, 99], "time": [31.0, 32.0]})
    with pytest.raises(ValueError, match="got 99"):
        model.partial_fit(cn.Cascades.from_frame(later, window=3.0), progress=False)
    for name in ("keep", "n_jobs"):
        with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1; got 0"):
            model.partial_fit(changing_cascades(seed), **{name: 0})
    with pytest.raises(ValueError, match="expected a call of fit"):
        cn.DynamicCoupledHDP().partial_fit(changing_cascades(seed))
    assert model.posterior_ is before


def test_interrupt_while_memories_are_chosen_chooses_none(seed, monkeypatch):
    """Had it gone on, the run that was stopped would have had the best score: that of less."""
    tried, whole = [], filtering.step

    def stop_in_the_second(past, cascades, given, plan, progress, checkpoints=None):
        if past.n_intervals == 0:
            tried.append(plan.stream)
        if len(tried) == 2 and past.n_intervals == 1:
            progress.stopped = True
            return None
        return whole(past, cascades, given, plan, progress, checkpoints)

    monkeypatch.setattr(filtering, "step", stop_in_the_second)
    model = cn.DynamicCoupledHDP(interval=5.0, prior="flat")
    with pytest.raises(KeyboardInterrupt, match="while forgetting and support were chosen"):
        model.fit(changing_cascades(seed), seed=1, **QUICK)
    assert len(tried) == 2 and not hasattr(model, "posterior_")


def test_unknown_interval_is_named(fitted):
    with pytest.raises(ValueError, match="kept, 0 to 5; got 6"):
        fitted.edges(6)
    with pytest.raises(ValueError, match="0 to 30"):
        fitted.posterior_.at(31.0)
    assert fitted.posterior_.at(30.0) is fitted.posterior_.posteriors[-1]


def test_half_life_forgets_by_time(seed):
    data = changing_cascades(seed)
    a = cn.DynamicCoupledHDP(interval=5.0, half_life=5.0, support=0.2).fit(data, seed=1, **QUICK)
    b = cn.DynamicCoupledHDP(interval=5.0, forgetting=0.5, support=0.2).fit(data, seed=1, **QUICK)
    assert same(a.posterior_, b.posterior_)


def test_rescaled_times_give_the_same_probabilities(seed):
    data = changing_cascades(seed)
    slow = cn.Cascades.from_arrays(
        data.nodes, data.offset, data.node, data.time * 8.0, data.horizon * 8.0, data.labels
    )
    a = cn.DynamicCoupledHDP(interval=5.0, **MEMORIES).fit(data, seed=1, **QUICK).edges()
    b = cn.DynamicCoupledHDP(interval=40.0, **MEMORIES).fit(slow, seed=1, **QUICK).edges()
    assert np.array_equal(a["prob"], b["prob"])
    assert np.allclose(a["rate"], 8.0 * b["rate"], rtol=1e-9)


# ---------------------------------------------------------------------------------------- real data


def test_changing_kronecker_network_is_followed(shared_data):
    """Figures of the docs with fewer draws: .93 online, .935 looking back."""
    folder = shared_data / "cascades" / "dyn-hier"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    data = cn.Cascades.read_snap(folder / "cascades.txt.gz", window=10.0)
    network = cn.read_network(folder / "network.txt.gz")
    ends = np.linspace(0.0, 100.0, 11)
    for smooth, least in ((False, 0.915), (True, 0.925)):
        model = cn.DynamicCoupledHDP(interval=ends, prior="flat", smooth=smooth)
        edges = model.fit(data, seed=1, n_jobs=1, progress=False).edges()
        assert score_dynamic(edges, network, ends, data.nodes, "active").auprc >= least
