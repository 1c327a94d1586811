"""NextInfection: restated in plain Python, portions against all at once, files, bad input, data.

The oracle `naive` follows the equations with dictionaries, cascade by cascade, and shares nothing
with the library but the communities, which it is given.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadenet import Cascades, CoupledHDP, DynamicCoupledHDP, simulate
from cascadenet.errors import FormatError
from cascadenet.inference.next_baselines import (
    CoOccurrenceNext,
    MarkovNext,
    PopularityNext,
    PosteriorNext,
)
from cascadenet.inference.next_infection import NextInfection
from cascadenet.inference.nexts import communities, tuning
from cascadenet.next_scores import score_next, separate_ties, strictly_past

PREFIX = [(3, 0.0), (1, 0.25), (6, 0.5)]


def cascades_of(*sequences, start=None, nodes=8) -> Cascades:
    """Cascades from the order of their nodes, one time unit apart."""
    start = range(len(sequences)) if start is None else start
    rows = [
        (c, v, 10.0 * s + i)
        for c, (s, sequence) in enumerate(zip(start, sequences, strict=True))
        for i, v in enumerate(sequence)
    ]
    frame = pd.DataFrame(rows, columns=["cascade", "node", "time"])
    known = range(nodes) if isinstance(nodes, int) else nodes
    return Cascades.from_frame(frame, nodes=known, horizon=1e6)


def sequences_of(cascades) -> list[list[int]]:
    pieces = zip(cascades.offset[:-1], cascades.offset[1:], strict=True)
    return [cascades.node[a:b].tolist() for a, b in pieces]


@pytest.fixture(scope="module")
def world(seed) -> Cascades:
    """120 cascades over 12 nodes in two planted communities."""
    network = simulate.community_network(2, 6, within=0.6, between=0.05, seed=seed)
    data = simulate.simulate_cascades(network, 120, horizon=1.5, seed=seed).cascades
    time = data.time + np.repeat(np.arange(data.n_cascades) * 0.7, np.diff(data.offset))
    return Cascades(data.nodes, data.labels, data.offset, data.node, time, time.max() + data.start)


# -- the oracle -------------------------------------------------------------------------------


class naive:
    """Counts and scores by the definition; ``cascades`` as lists of nodes."""

    def __init__(self, cascades, start, n, memberships=None, **settings):
        self.p = NextInfection(**settings).__dict__
        self.n, self.cascades = n, cascades
        half = self.p["half_life"]
        self.w = [2.0 ** (-(max(start) - s) / half) for s in start]
        late = self.p["recent_half_life"]
        self.m, self.exposure, self.count = defaultdict(float), [0.0] * n, [0] * n
        self.recent = [0.0] * n
        for one, w, s in zip(cascades, self.w, start, strict=True):
            for v in one:
                self.exposure[v] += w
                self.count[v] += 1
                self.recent[v] += 2.0 ** (-(max(start) - s) / late)
            for j, v in enumerate(one):
                sources = range(max(0, j - self.p["window"]), j)
                z = sum(self.k(j - i) for i in sources)
                for i in sources:
                    self.m[one[i], v] += w * self.k(j - i) * z ** -self.p["crowding"]
        self.pi, self.phi = memberships or (np.zeros((n, 0)), np.zeros((0, n)))
        self.carried = defaultdict(float)

    def k(self, distance):
        if self.p["train_kernel"] == "power":
            return distance ** -self.p["train_decay"]
        return math.exp(-(distance - 1) / self.p["train_decay"])

    def h(self, distance):
        tau = self.p["score_decay"]
        fading = float(distance == 1) if tau == 0 else math.exp(-(distance - 1) / tau)
        return fading + self.p["flat"]

    def shape(self, u, v):
        mean = self.p["sender_offset"] * self.p["community_mass"] * (self.pi[u] @ self.phi[:, v])
        both = self.m[u, v] + self.p["reverse"] * self.m[v, u]
        return self.p["evidence_weight"] * both + mean

    def attribute(self, sweeps):
        q = {}
        for _ in range(sweeps):
            for c, one in enumerate(self.cascades):
                for j, v in enumerate(one):
                    sources = range(max(0, j - self.p["window"]), j)
                    weight = {}
                    for i in sources:
                        u = one[i]
                        self.carried[u, v] -= self.w[c] * q.get((c, i, j), 0.0)
                        gamma = self.shape(u, v) + max(self.carried[u, v], 0.0)
                        rate = self.p["sender_offset"] + self.exposure[u]
                        weight[i] = self.h(j - i) * gamma / rate
                    total = sum(weight.values())
                    for i in sources:
                        q[c, i, j] = weight[i] / total if total else 0.0
                        self.carried[one[i], v] += self.w[c] * q[c, i, j]

    def rate(self, u, v):
        exposed = self.p["sender_offset"] + self.exposure[u]
        if self.p["empirical_bayes"]:
            return (self.shape(u, v) + self.carried[u, v]) / exposed
        both = self.m[u, v] + self.p["reverse"] * self.m[v, u]
        return (
            both / exposed ** self.p["sender_power"] / (1 + self.count[v]) ** self.p["target_power"]
        )

    def scores(self, prefix):
        risk = [v for v in range(self.n) if v not in prefix]
        h = [self.h(len(prefix) - i) for i in range(len(prefix))]
        action = {v: sum(x * self.rate(u, v) for x, u in zip(h, prefix, strict=True)) for v in risk}
        total = sum(action.values())
        sharp = {v: a ** self.p["sharpness"] for v, a in action.items()}
        theta = sum(x * self.pi[u] for x, u in zip(h, prefix, strict=True))
        theta = theta / theta.sum() if theta.size and theta.sum() else theta
        pop, recent = ({v: x[v] + a for v in risk} for x, a in ((self.count, 1), (self.recent, 0)))
        s = {}
        for v in risk:
            s[v] = sharp[v] * total / sum(sharp.values()) if total else 0.0
            s[v] += total * self.p["community_weight"] * float(theta @ self.phi[:, v])
            weight = self.p["least"] + self.p["popularity"] * total
            s[v] += weight * pop[v] / sum(pop.values())
            if sum(recent.values()):
                s[v] += self.p["recent_weight"] * total * recent[v] / sum(recent.values())
        return np.array([s.get(v, 0.0) for v in range(self.n)]) / (sum(s.values()) or 1.0)


settings = st.fixed_dictionaries(
    {
        "train_kernel": st.sampled_from(["power", "exponential"]),
        "train_decay": st.sampled_from([0.4, 1.0, 6.0, math.inf]),
        "window": st.integers(1, 9),
        "crowding": st.sampled_from([0.0, 0.5]),
        "half_life": st.sampled_from([math.inf, 7.0, 0.3]),
        "score_decay": st.sampled_from([0.0, 3.0, math.inf]),
        "flat": st.sampled_from([0.0, 0.2]),
        "sender_power": st.sampled_from([0.0, 0.8]),
        "sender_offset": st.sampled_from([0.5, 2.0]),
        "target_power": st.sampled_from([0.0, 0.3]),
        "reverse": st.sampled_from([0.0, 0.25]),
        "popularity": st.sampled_from([0.0, 0.1]),
        "recent_weight": st.sampled_from([0.0, 0.4]),
        "recent_half_life": st.sampled_from([math.inf, 4.0]),
        "sharpness": st.sampled_from([1.0, 1.4]),
    }
)
orders = st.lists(
    st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True), min_size=1, max_size=6
)


@pytest.mark.jit_off
@given(orders, settings, st.permutations(range(8)), st.integers(1, 8))
def test_scores_equal_the_definition(sequences, chosen, order, length):
    if chosen["train_kernel"] == "power" and math.isinf(chosen["train_decay"]):
        chosen["train_decay"] = 2.0
    data = cascades_of(*sequences)
    model = NextInfection(communities=0, **chosen).fit(data)
    oracle = naive(sequences, data.start.tolist(), 8, **chosen)
    prefix = order[:length]
    expected = oracle.scores(prefix)
    np.testing.assert_allclose(model.scores(prefix, range(length)), expected, 1e-10, 1e-14)


@pytest.mark.jit_off
@pytest.mark.parametrize("half_life", [math.inf, 20.0])
def test_empirical_bayes_equals_the_definition(world, half_life):
    data = world.subset(slice(0, 15))
    chosen = {"empirical_bayes": True, "communities": 2, "half_life": half_life, "window": 3}
    chosen |= {"evidence_weight": 0.7, "community_mass": 0.5, "reverse": 0.2, "flat": 0.1}
    model = NextInfection(**chosen).fit(data)
    given_ = (model._sender, model._receiver)
    oracle = naive(sequences_of(data), data.start.tolist(), data.n_nodes, given_, **chosen)
    oracle.attribute(5)
    np.testing.assert_allclose(model.scores([3, 1], [0, 1]), oracle.scores([3, 1]), 1e-9)
    # every infection but the first of a cascade is shared out once
    expected = sum(w * (len(s) - 1) for w, s in zip(oracle.w, oracle.cascades, strict=True))
    carried = model._counts.carried.sum() * model._counts.discount.factor()
    assert carried == pytest.approx(expected)


@pytest.mark.jit_off
def test_communities_enter_as_defined(world):
    model = NextInfection(communities=3, community_weight=0.5).fit(world)
    given_ = (model._sender, model._receiver)
    oracle = naive(
        sequences_of(world), world.start.tolist(), world.n_nodes, given_, community_weight=0.5
    )
    np.testing.assert_allclose(model.scores([0, 8], [0, 1]), oracle.scores([0, 8]), 1e-10)


# -- communities ------------------------------------------------------------------------------


def test_communities_of_planted_blocks_are_found():
    """Evidence only inside two blocks: EM must reach the likelihood of the blocks."""
    data = cascades_of(*([[0, 1, 2, 3], [3, 1, 0, 2], [4, 5, 6, 7], [7, 5, 4, 6]] * 5))
    model = NextInfection(communities=2, community_weight=0.5).fit(data)
    sender, receiver = model._sender, model._receiver
    np.testing.assert_allclose(sender.sum(axis=1), 1.0)
    np.testing.assert_allclose(receiver.sum(axis=1), 1.0)
    mean = sender @ receiver
    assert mean[:4, :4].sum() > 0.99 * 4
    assert mean[4:, 4:].sum() > 0.99 * 4


def test_an_em_step_never_loses_likelihood(world, seed):
    counts = NextInfection(communities=0).fit(world)._counts
    evidence = counts.evidence[: counts.n_pairs]
    low, high = counts.pair_node[: counts.n_pairs].T

    def value(steps):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(communities, "STEPS", steps)
            patch.setattr(communities, "LEAST_GAIN", -np.inf)
            patch.setattr(communities, "PSEUDO", 1e-12)  # it pulls away from the maximum
            sender, receiver = communities.latent_communities(counts, 3, seed)
        follow = sender @ receiver
        both = evidence[:, 0] * np.log(follow[low, high] + 1e-300)
        return float((both + evidence[:, 1] * np.log(follow[high, low] + 1e-300)).sum())

    values = [value(steps) for steps in (1, 2, 4, 8, 16)]
    assert (np.diff(values) > 0).all()


@pytest.mark.filterwarnings("ignore:the chains have not mixed")
def test_memberships_of_a_posterior(world, seed):
    fit = CoupledHDP().fit(world, draws=10, tune=20, chains=1, seed=seed, progress=False)
    for given_ in (fit, fit.posterior_):
        model = NextInfection(communities=given_, community_weight=0.3).fit(world)
        score = model.scores([0], [0.0])
        assert score.sum() == pytest.approx(1.0)
        assert model.settings()["communities"] == model._receiver.shape[0]
    plain = NextInfection(communities=0).fit(world).scores([0], [0.0])
    assert np.abs(score - plain).max() > 1e-4
    flat = CoupledHDP(prior="flat").fit(world, draws=5, tune=5, chains=1, seed=1, progress=False)
    with pytest.raises(ValueError, match="prior='hdp'"):
        NextInfection(communities=flat).fit(world)
    with pytest.raises(TypeError, match="communities must be"):
        NextInfection(communities=[1, 2]).fit(world)


# -- properties -------------------------------------------------------------------------------


def test_scores_are_probabilities_of_those_at_risk(world):
    model = NextInfection(communities=3).fit(world)
    order = np.random.default_rng(0).permutation(world.n_nodes)
    along = model.scores_along(order, range(order.size))
    for row, score in enumerate(along):
        assert (score[order[: row + 1]] == 0.0).all()
        if row + 1 < order.size:
            assert (score[order[row + 1 :]] > 0.0).all()
            assert score.sum() == pytest.approx(1.0, abs=1e-12)
    assert (along[-1] == 0.0).all()  # everybody is infected


def test_all_prefixes_at_once_are_the_same_bytes(world):
    model = NextInfection(communities=3).fit(world)
    order = [4, 0, 9, 2, 7]
    along = model.scores_along(order, range(5))
    for m in range(1, 6):
        assert model.scores(order[:m], range(m)).tobytes() == along[m - 1].tobytes()
    shuffled = model.scores([9, 4, 0], [2.0, 0.0, 1.0])
    assert shuffled.tobytes() == along[2].tobytes()
    tied = model.scores([4, 0], [0.0, 0.0])  # in the order of the nodes
    assert tied.tobytes() == model.scores([0, 4], [0.0, 1.0]).tobytes()


@pytest.mark.parametrize("half_life", [math.inf, 9.0, 0.05])
def test_portions_give_the_bytes_of_all_at_once(world, half_life):
    """0.05 lets the data span over a thousand half-lives, beyond the range of a double."""
    settings_ = {"communities": 0, "half_life": half_life, "recent_half_life": 5.0}
    whole = NextInfection(recent_weight=0.2, **settings_).fit(world)
    for cuts in ([1], [7, 8, 60], list(range(1, world.n_cascades))):
        model, last = NextInfection(recent_weight=0.2, **settings_), 0
        for cut in [*cuts, world.n_cascades]:
            model.partial_fit(world.subset(slice(last, cut)))
            last = cut
        for name, array in whole._counts.arrays().items():
            assert model._counts.arrays()[name].tobytes() == array.tobytes(), name
        assert model.scores([1, 5], [0, 1]).tobytes() == whole.scores([1, 5], [0, 1]).tobytes()


def test_half_life_discounts_by_age():
    """Two of the old order against one of the new: equal after one half-life."""
    data = cascades_of([0, 1], [0, 1], [0, 2], start=[0.0, 0.0, 5.0], nodes=4)
    chosen = {"communities": 0, "least": 1e-9, "popularity": 0.0, "target_power": 0.0}
    old, new = {}, {}
    for half_life in (math.inf, 50.0, 10.0):  # the starts are 50 apart
        score = NextInfection(half_life=half_life, sharpness=1.0, **chosen).fit(data)
        old[half_life], new[half_life] = score.scores([0], [0.0])[[1, 2]]
    assert old[math.inf] / new[math.inf] == pytest.approx(2.0, rel=1e-5)
    assert old[50.0] / new[50.0] == pytest.approx(1.0, rel=1e-5)
    assert old[10.0] / new[10.0] == pytest.approx(2.0**-4, rel=1e-5)


def test_unit_and_origin_of_time_do_not_matter(world):
    def moved(shift, factor, half_life=20.0):
        time, horizon = (x * factor + shift for x in (world.time, world.horizon))
        data = Cascades(world.nodes, world.labels, world.offset, world.node, time, horizon)
        model = NextInfection(communities=0, half_life=half_life * factor).fit(data)
        return model.scores([1, 5], [0, 1])

    np.testing.assert_allclose(moved(0.0, 1.0), moved(1024.0, 8.0), 1e-9)
    assert np.abs(moved(0.0, 1.0) - moved(0.0, 1.0, half_life=10.0)).max() > 1e-3


def test_a_fit_is_determined_by_its_seed(world):
    def score(seed):
        return (
            NextInfection(communities=3, community_weight=1.0, seed=seed)
            .fit(world)
            .scores([1], [0])
        )

    assert score(1).tobytes() == score(1).tobytes()
    assert score(1).tobytes() != score(2).tobytes()


def test_labels_do_not_matter(world):
    """Names whose order is that of the numbers give the same scores."""
    names = tuple(f"n{i:02d}" for i in range(world.n_nodes))
    named = Cascades(names, world.labels, world.offset, world.node, world.time, world.horizon)
    a = NextInfection(communities=2).fit(world).scores([1, 5], [0, 1])
    b = NextInfection(communities=2).fit(named).scores(["n01", "n05"], [0, 1])
    assert a.tobytes() == b.tobytes()


def test_partial_fit_takes_cascades_with_other_node_lists(world):
    whole = NextInfection(communities=0).fit(world)
    frame = world.to_frame()
    late = frame[frame["cascade"] >= 60]
    model = NextInfection(communities=0).fit(world.subset(slice(0, 60)))
    model.partial_fit(Cascades.from_frame(late, horizon=1e6))
    assert model.scores([1], [0]).tobytes() == whole.scores([1], [0]).tobytes()


# -- predict_next, end of cascades, reference models ------------------------------------------


def test_predict_next_is_the_sorted_scores(world):
    model = NextInfection(communities=2).fit(world)
    score = model.scores(*zip(*PREFIX, strict=True))
    table = model.predict_next(PREFIX, k=4)
    assert list(table.columns) == ["node", "prob"]
    assert table["prob"].tolist() == sorted(score, reverse=True)[:4]
    np.testing.assert_array_equal(score[table["node"]], table["prob"])
    frame = pd.DataFrame(PREFIX, columns=["node", "time"])
    pd.testing.assert_frame_equal(model.predict_next(frame, k=4), table)
    assert len(model.predict_next(PREFIX, k=100)) == world.n_nodes - 3
    everybody = [(v, float(v)) for v in world.nodes]
    assert model.predict_next(everybody).empty


def test_end_probability_counts_lengths_nearby():
    data = cascades_of([0, 1], [1, 2], [0, 1, 2], [3, 4, 5, 6, 7, 0, 1])
    model = NextInfection(communities=0).fit(data)
    overall = 4 / 14
    assert model.end_probability(2) == pytest.approx((2 + 5 * overall) / (4 + 5))
    # 7 +- 15% is 6 and 7: one cascade is there twice and ends once
    assert model.end_probability(7) == pytest.approx((1 + 5 * overall) / (2 + 5))
    assert model.end_probability(50) == pytest.approx(overall)


def test_reference_models_rank_by_their_counts():
    data = cascades_of([0, 1, 2, 3], [0, 2, 1], [4, 0, 2], [5, 1, 3], nodes=7)
    popular = PopularityNext().fit(data).scores([4], [0.0])
    assert popular == pytest.approx(np.array([4, 4, 4, 3, 0, 2, 1]) / 18)
    markov = MarkovNext(popularity=0.0).fit(data).scores([5, 0], [0.0, 1.0])
    assert markov[2] / markov[1] == pytest.approx(2.0, rel=0.02)  # 0 -> 2 twice, 0 -> 1 once
    assert markov[3] < 0.01  # came after 5, but not directly after 0
    together = CoOccurrenceNext(popularity=0.0).fit(data).scores([0, 5], [0.0, 1.0])
    # after 0: 1 twice, 2 three times, 3 once; after 5: 1 and 3 once
    expected = np.array([0, 3, 3, 2, 0, 0, 0]) / 8
    np.testing.assert_allclose(together, expected, atol=0.002)


FITS = {
    "plain": CoupledHDP(),
    "flat": CoupledHDP(prior="flat", delay="decay"),
    "background": CoupledHDP(delay="decay", background=True, max_candidates=2),
    "changing": DynamicCoupledHDP(
        n_intervals=3, equal="cascades", background=True, forgetting=0.5, support=0.1
    ),
}


@pytest.mark.filterwarnings("ignore:the chains have not mixed", "ignore:chains of")
@pytest.mark.parametrize("kind", FITS)
def test_posteriors_are_scored_as_they_predict(world, seed, kind):
    """All prefixes at once, with rates looked up once: what `predict_next` says of each."""
    fit = FITS[kind].fit(world, draws=10, tune=20, chains=1, seed=seed, progress=False)
    posterior = getattr(fit.posterior_, "forecast", fit.posterior_)
    model = PosteriorNext(posterior, uniform=0.1)
    nodes, times = [3, 8, 1, 0, 10], [0.5, 0.7, 0.7, 1.0, 1.3]
    along = model.scores_along(nodes, times)
    ordered = [3, 1, 8, 0, 10]  # those at the same time by node
    for m in range(1, 6):
        table = fit.posterior_.predict_next(list(zip(ordered[:m], times[:m], strict=True)), k=99)
        expected = np.zeros(world.n_nodes)
        expected[table["node"]] = 0.9 * table["prob"]
        expected[np.setdiff1d(range(world.n_nodes), ordered[:m])] += 0.1 / (world.n_nodes - m)
        np.testing.assert_allclose(along[m - 1], expected, 1e-9)
    assert model.scores(nodes[::-1], times[::-1]).tobytes() == along[-1].tobytes()
    assert np.abs(PosteriorNext(posterior, last=1).scores(nodes, times) - along[-1]).max() > 1e-3


def test_what_no_posterior_says_is_refused(world, seed):
    tree = CoupledHDP(likelihood="tree").fit(
        world.subset(slice(0, 20)), draws=2, tune=2, chains=1, seed=seed, progress=False
    )
    with pytest.raises(ValueError, match="likelihood='survival'; got 'tree'"):
        PosteriorNext(tree.posterior_)
    with pytest.raises(ValueError, match="uniform"):
        PosteriorNext(tree.posterior_, uniform=0.0)
    with pytest.raises(ValueError, match="last must be"):
        PosteriorNext(tree.posterior_, last=0)


# -- tuning -----------------------------------------------------------------------------------


def test_tune_prefers_what_ranks_better(seed):
    """Node 2 i + 1 always comes directly after 2 i, the pairs in any order: a long memory cannot
    tell it from the others. Found by the search, or the search is broken."""
    rng = np.random.default_rng(seed)
    walks = [[2 * i + side for i in rng.permutation(15)[:6] for side in (0, 1)] for _ in range(80)]
    data = cascades_of(*walks, nodes=30)
    train, valid = data.subset(slice(0, 60)), data.subset(slice(60, None))
    grid = {"score_decay": [math.inf, 0.5], ("train_kernel", "train_decay"): [("power", 3.0)]}
    flat = {"train_kernel": "exponential", "train_decay": math.inf, "score_decay": math.inf}
    model = NextInfection(communities=2, **flat).fit(train)
    before = score_next(model, valid)["map@10"]
    settings_ = model.settings()
    assert model.tune(valid, grid, rounds=1) is model
    assert score_next(model, valid)["map@10"] > before + 0.1
    changed = {k for k, v in model.settings().items() if v != settings_[k]}
    assert changed <= {"score_decay", "train_kernel", "train_decay"}
    table = model.tuning_
    assert table["chosen"].sum() == 1 + (model.score_decay == 0.5) + (model.train_decay == 3.0)
    last = table[table["chosen"]].iloc[-1]
    six = [last[f"{a}@{k}"] for a in ("hits", "map") for k in (10, 50, 100)]
    assert last["mean"] == pytest.approx(np.mean(six))
    assert model._receiver.shape[0] == 2  # communities are back


def test_training_cascades_judge_where_others_are_few(seed):
    """One validation cascade, against the rule of all others: alone it misleads."""
    rng = np.random.default_rng(seed)
    walks = [[2 * i + side for i in rng.permutation(10)[:4] for side in (0, 1)] for _ in range(60)]
    data = cascades_of(*walks, [0, 2, 1], nodes=20)
    train, valid = data.subset(slice(0, 60)), data.subset([60])
    memory = {}
    for folds in (0, 1, None):
        settings_ = {"train_kernel": "exponential", "train_decay": math.inf, "score_decay": 0.5}
        model = NextInfection(communities=0, **settings_).fit(train)
        model.tune(valid, {"score_decay": [math.inf]}, rounds=1, folds=folds)
        memory[folds] = model.score_decay
    assert memory == {0: math.inf, 1: 0.5, None: 0.5}


def test_stretches_are_judged_by_what_came_before(world):
    shuffled = world.subset(np.random.default_rng(0).permutation(world.n_cascades))
    judged = []
    for (fitted,), later in tuning._stretches(shuffled, 4):
        assert fitted.start.max() <= later.start.min()
        assert fitted.n_cascades == world.n_cascades // 2 + len(judged)
        judged += later.start.tolist()
    assert sorted(judged) == np.sort(world.start)[world.n_cascades // 2 :].tolist()
    assert not list(tuning._stretches(world.subset([0]), 4))
    assert not list(tuning._stretches(world, 0))


def test_tune_leaves_what_does_not_help(world):
    model = NextInfection(communities=0).fit(world.subset(slice(0, 100)))
    before = model.settings()
    model.tune(world.subset(slice(100, None)), {"least": [0.0100001]}, rounds=1)
    assert model.settings() == before


def test_tune_keeps_what_came_later(world):
    model = NextInfection(communities=0).fit(world.subset(slice(0, 50)))
    model.partial_fit(world.subset(slice(50, 100)))
    model.tune(world.subset(slice(100, None)), {"flat": [0.5]}, rounds=1)
    assert model._counts.length.sum() == 100


def test_tune_says_what_is_wrong(world, tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        NextInfection().tune(world)
    model = NextInfection(communities=0).fit(world)
    with pytest.raises(ValueError, match=r"grid must name settings.*'shoe'"):
        model.tune(world, {"shoe": [1]})
    with pytest.raises(ValueError, match="crowding must be a number"):
        model.tune(world, {"crowding": [-1.0]})
    with pytest.raises(ValueError, match="folds must be a whole number, at least 0; got -1"):
        model.tune(world, folds=-1)
    model.save(tmp_path)
    with pytest.raises(ValueError, match="training data"):
        NextInfection.load(tmp_path).tune(world)


# -- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bayes", [False, True])
def test_a_saved_model_predicts_and_learns_the_same(world, tmp_path, bayes):
    early, late = world.subset(slice(0, 80)), world.subset(slice(80, None))
    model = NextInfection(communities=2, half_life=30.0, empirical_bayes=bayes).fit(early)
    model.save(tmp_path / "model.npz")
    other = NextInfection.load(tmp_path / "model.npz")
    assert other.settings() == model.settings()
    assert other.provenance == model.provenance
    assert other.provenance["fingerprint"] == early.fingerprint
    for _ in range(2):
        same = [x.scores([1, 5], [0, 1]).tobytes() for x in (model, other)]
        assert same[0] == same[1]
        assert model.end_probability(3) == other.end_probability(3)
        for x in (model, other):
            x.partial_fit(late)
    assert other.provenance["n_cascades_added"] == 2 * late.n_cascades


def test_names_survive_a_file(tmp_path):
    data = cascades_of(["a", "é", "c"], ["é", "c"], nodes=["a", "é", "c", "d"])
    NextInfection(communities=0).fit(data).save(tmp_path)
    assert NextInfection.load(tmp_path).nodes == data.nodes


def altered(path, **changes):
    """The saved file with some arrays, or entries of its description, replaced."""
    with np.load(path) as file:
        arrays = dict(file)
    meta = json.loads(bytes(arrays["meta"]).decode())
    meta |= {k: v for k, v in changes.items() if k in meta}
    arrays |= {k: v for k, v in changes.items() if k in arrays}
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    np.savez(path, **arrays)


def test_files_that_are_not_whole_are_refused(world, tmp_path):
    path = tmp_path / "next_infection.npz"
    with pytest.raises(FileNotFoundError):
        NextInfection.load(tmp_path)
    model = NextInfection(communities=2).fit(world)
    pairs, nodes = model._counts.n_pairs, world.n_nodes
    bad = [
        ({"format": 99}, "newer version"),
        ({"kind": "shoe"}, "got shoe"),
        ({"settings": {"flat": -1.0}}, "flat must be"),
        ({"settings": {"shoe": 1}}, "shoe"),
        ({"evidence": np.ones((pairs + 1, 2))}, "evidence of shape"),
        ({"evidence": np.full((pairs, 2), np.nan)}, "evidence to be finite"),
        ({"pair_node": np.full((pairs, 2), nodes, np.int32)}, "pairs of different nodes"),
        ({"pair_node": np.tile(np.array([[0, 1]], np.int32), (pairs, 1))}, "once"),
        ({"sender": np.ones((nodes, 3))}, "sender of shape"),
        ({"discount": np.zeros(3)}, "discount of shape"),
    ]
    for changes, message in bad:
        model.save(path)
        altered(path, **changes)
        with pytest.raises(FormatError, match=message):
            NextInfection.load(path)
    model.save(path)
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], b"", b"node,time\n1,2\n"):
        path.write_bytes(broken)
        with pytest.raises(FormatError, match=r"got .*next_infection\.npz"):
            NextInfection.load(path)


# -- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"train_kernel": "box"}, "train_kernel must be one of power, exponential; got 'box'"),
        ({"train_decay": 0.0}, "train_decay must be a number, positive; got 0.0"),
        ({"window": 0}, "window must be a whole number, at least 1; got 0"),
        ({"crowding": math.nan}, "crowding must be a number, at least 0 and finite; got nan"),
        ({"half_life": -1.0}, "half_life must be"),
        ({"score_decay": -0.1}, "score_decay must be"),
        ({"flat": math.inf}, "flat must be"),
        ({"least": 0.0}, "least must be a number, positive and finite; got 0.0"),
        ({"sharpness": "2"}, "sharpness must be"),
        ({"communities": -1}, "communities must be a whole number"),
        ({"communities": 2.5}, "communities must be a whole number"),
        ({"communities": None}, "communities must be a whole number"),
        ({"seed": None}, "seed must be a whole number"),
        ({"popularity": True}, "popularity must be"),
    ],
)
def test_settings_are_checked(world, chosen, message):
    with pytest.raises(ValueError, match=message):
        NextInfection(**chosen).fit(world)


def test_prefixes_are_checked(world):
    model = NextInfection(communities=0)
    with pytest.raises(ValueError, match="not fitted"):
        model.scores([0], [0.0])
    with pytest.raises(ValueError, match="not fitted"):
        model.end_probability(2)
    model.fit(world)
    for nodes, times, message in [
        ([], [], "same positive length; got 0 and 0"),
        ([0], [0.0, 1.0], "got 1 and 2"),
        ([0, 99], [0.0, 1.0], "nodes must be nodes of the training data; got 99"),
        ([0, 0], [0.0, 1.0], "nodes must differ"),
        ([0], [math.nan], "times must be finite; got nan"),
        ([0], ["soon"], "times must be numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.scores(nodes, times)
    for prefix, message in [
        (pd.DataFrame({"node": [1]}), "columns node and time; missing {'time'}"),
        ([1, 2], "prefix must be"),
        (3, "prefix must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.predict_next(prefix)
    with pytest.raises(ValueError, match="k must be"):
        model.predict_next(PREFIX, k=-1)
    with pytest.raises(ValueError, match="length must be"):
        model.end_probability(0)


def test_data_are_checked(world):
    with pytest.raises(TypeError, match="cascades must be a Cascades; got DataFrame"):
        NextInfection().fit(world.to_frame())
    with pytest.raises(TypeError, match="empirical_bayes"):
        NextInfection(empirical_bayes="yes").fit(world)
    model = NextInfection(communities=0).fit(world)
    before = model.scores([1], [0]).tobytes()
    with pytest.raises(ValueError, match="nodes of the training data; got 50"):
        model.partial_fit(cascades_of([0, 50], nodes=51))
    assert model.scores([1], [0]).tobytes() == before  # nothing was learnt


def test_data_without_a_pair_leave_popularity():
    model = NextInfection().fit(cascades_of([0], [0], [1], nodes=4))
    np.testing.assert_allclose(model.scores([1], [0]), np.array([3, 0, 1, 1]) / 5)


# -- the published splits ---------------------------------------------------------------------

# Settings chosen by `tune(valid)`, and what they reached on the test cascades after a fit to the
# training cascades, less 0.005: another order of the nodes gives other random communities. That is
# a sixth of a standard error on christianity, half of one on memetracker.
TUNED: dict[str, dict] = {
    "christianity": {
        "train_kernel": "exponential",
        "train_decay": 15.0,
        "crowding": 0.0,
        "score_decay": 3.0,
        "flat": 0.01,
        "sender_power": 0.8,
        "sharpness": 2.5,
        "community_weight": 0.8,
    },
    "memetracker": {
        "half_life": 1519.05,
        "sender_power": 1.0,
        "sender_offset": 10.0,
        "target_power": 0.3,
        "reverse": 0.5,
        "popularity": 0.02,
        "sharpness": 2.0,
    },
}
REACHED = {
    "christianity": {"hits@10": 0.229, "hits@50": 0.486, "hits@100": 0.627, "map@100": 0.117},
    "memetracker": {"hits@10": 0.271, "hits@50": 0.479, "hits@100": 0.590, "map@100": 0.145},
}
# As reported elsewhere, for the same protocol: it pins candidates, targets, ties and averages.
POPULARITY = {
    "christianity": {"hits@10": 0.172, "hits@50": 0.383, "hits@100": 0.517, "map@10": 0.055},
    "memetracker": {"hits@10": 0.079, "hits@50": 0.211, "hits@100": 0.320, "map@100": 0.032},
}


@pytest.fixture(scope="module", params=["christianity", "memetracker"])
def split(request, shared_data):
    """Name of a set, and its training, validation and test cascades."""
    folder = shared_data / "prediction" / request.param
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    frames = [pd.read_csv(folder / f"{part}.csv.gz") for part in ("train", "valid", "test")]
    nodes = pd.concat(frames)["node"].unique()
    parts = [Cascades.from_frame(separate_ties(f), nodes=nodes, horizon=1e9) for f in frames]
    return request.param, *parts


def test_popularity_is_what_others_report(split):
    name, train, _, test = split
    score = score_next(PopularityNext().fit(train), test)
    for metric, value in POPULARITY[name].items():
        assert score[metric] == pytest.approx(value, abs=0.001), metric
    if name == "christianity":
        ended = score_next(PopularityNext().fit(train), test, end=True)
        found = [ended[f"hits@{k}"] for k in (10, 50, 100)]
        assert found == pytest.approx([0.275, 0.460, 0.580], abs=0.005)


def test_published_splits_are_predicted_as_well_as_reported(split):
    name, train, valid, test = split
    model = NextInfection(**TUNED[name])
    start = time.process_time()
    model.fit(train)
    assert time.process_time() - start < 15.0
    tuned = score_next(model, test)
    for metric, least in REACHED[name].items():
        assert tuned[metric] >= least - 0.005, metric
    assert tuned["top1_confidence"] >= tuned["top1_accuracy"] / 2.0
    untuned = score_next(NextInfection().fit(train), valid)
    best = score_next(model, valid)
    six = [f"{a}@{k}" for a in ("hits", "map") for k in (10, 50, 100)]
    assert np.mean([best[m] - untuned[m] for m in six]) < 0.015
    if name == "memetracker":
        assert tuned["nll"] <= 6.05
        online = score_next(model, test, online=True)
        assert all(online[m] > tuned[m] for m in six)
        assert online["nll"] < tuned["nll"]


def test_training_cascades_outlast_the_split(split):
    """The random-looking success on christianity is interpolation: the past alone is not enough."""
    name, train, _, test = split
    past, share = strictly_past(train, float(test.start.min()))
    assert share == pytest.approx({"christianity": 0.718, "memetracker": 0.058}[name], abs=0.001)
    hits = score_next(NextInfection(communities=0).fit(past), test)["hits@100"]
    assert (hits < 0.25) if name == "christianity" else (hits > 0.55)
