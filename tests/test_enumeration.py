"""Exact enumeration: each discrete update leaves the posterior of tiny problems as it is.

All states of a problem are listed with their posterior probability pi, the continuous parameters
being held. The update, restated in `tests/naive.py`, takes pi to pi P, which must be pi again to
1e-12; seeded bugs do not pass. What the compiled update does from a given state is then compared
with its row of P by a chi-square test.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from cascadenet.delays import get_delay
from cascadenet.inference import _kernels, communities, rates
from cascadenet.inference.layout import build_layout
from cascadenet.inference.sampler import Chain, Model, refresh_shape
from tests import naive

EXACT = 1e-12
ALPHA = 1e-5  # false-alarm rate of every chi-square test in this file
CAUGHT = 1e-10  # p-value that a seeded bug must fall below
RUNS = 6000

Story = naive.Story
THREE = [
    Story([(0.0, 0), (1.0, 1), (1.6, 2), (2.5, 3)], 3.0),
    Story([(0.0, 2), (0.5, 0), (1.4, 1)], 2.0),
    Story([(0.0, 1), (0.0, 3), (0.8, 2), (1.5, 0)], 4.0),
]
TWO = [
    Story([(0.0, 0), (0.7, 1), (1.6, 2)], 2.0),
    Story([(0.2, 1), (0.5, 0), (1.4, 2)], 2.5),
]


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


# ------------------------------------------------------------------------------------ the machinery


def posterior(states, log_weight) -> dict:
    """Probabilities of all states."""
    logs = np.array([log_weight(state) for state in states])
    weights = np.exp(logs - logs.max())
    return dict(zip(states, weights / weights.sum(), strict=True))


def push(distribution: dict, *kernels) -> dict:
    """Distribution after kernels (state -> {state: probability}) have been applied in turn."""
    for kernel in kernels:
        after = defaultdict(float)
        for state, mass in distribution.items():
            for new, probability in kernel(state).items():
                after[new] += mass * probability
        distribution = after
    return dict(distribution)


def distance(one: dict, other: dict) -> float:
    """Largest difference of the probability of any state."""
    return max(abs(one.get(s, 0.0) - other.get(s, 0.0)) for s in one.keys() | other.keys())


def chi_square_p(observed: Counter, expected: dict) -> float:
    """p-value of outcomes against their probabilities; an impossible one gives 0."""
    runs = sum(observed.values())
    if not observed.keys() <= {s for s, p in expected.items() if p > 0.0}:
        return 0.0
    cells = sorted((p * runs, observed[s]) for s, p in expected.items())
    pooled = [[0.0, 0]]
    for mean, count in cells:  # rare outcomes share a cell
        if pooled[-1][0] >= 10.0:
            pooled.append([0.0, 0])
        pooled[-1][0] += mean
        pooled[-1][1] += count
    if len(pooled) > 1 and pooled[-1][0] < 10.0:
        mean, count = pooled.pop()
        pooled[-1] = [pooled[-1][0] + mean, pooled[-1][1] + count]
    assert len(pooled) > 1, "nothing to compare"
    mean, count = np.array(pooled).T
    return float(stats.chisquare(count, mean * (runs / mean.sum())).pvalue)


# ------------------------------------------------------------------------------------------ parents


def tiny_chain(rng, tales, n_nodes=4, **settings) -> tuple[Chain, naive.Infections]:
    """A chain with a random network of two communities and the same problem for naive."""
    delay = settings.pop("delay", "exponential")
    model = Model(get_delay(delay), truncation=2, **settings)
    layout = build_layout(naive.cascades_of(tales, n_nodes), background=model.background)
    chain = Chain(layout, model, rng)
    state = chain.state
    state.weight = rng.dirichlet(np.ones(3))
    if not model.null_community:
        state.weight = np.append(0.0, state.weight[1:] / state.weight[1:].sum())
    state.sender = rng.dirichlet(np.ones(n_nodes), 3).T
    state.receiver = rng.dirichlet(np.ones(n_nodes), 3).T
    state.total, state.b, state.nu, state.background_rate = 3.0, 0.7, 1.4, 2.0
    if model.likelihood == "survival":
        rates.set_theta(chain, state.theta, *layout.exposure(model.delay, state.theta))
    else:
        rates.set_tree_weight(chain)
    refresh_shape(chain)
    return chain, naive_problem(chain, tales, n_nodes)


def naive_problem(chain: Chain, tales, n_nodes) -> naive.Infections:
    """Shapes, rates and hazards of a chain's problem from their definitions."""
    state, model = chain.state, chain.model
    name, theta, tree = model.delay.name, state.theta, model.likelihood == "tree"
    unit = naive.typical_delay(tales, n_nodes, None, model.background)

    def cumulative(delay):
        return naive.cumulative_hazard(name, theta, delay / unit)

    def hazard(delay):
        h = naive.hazard(name, theta, delay / unit)
        return state.nu * h * math.exp(-state.nu * cumulative(delay)) if tree else h

    shape, rate = {}, {}
    for v in range(n_nodes):
        shape[-1, v] = model.background_shape
        rate[-1, v] = state.background_rate + naive.background_exposure(tales, v) / unit
        for u in range(n_nodes):
            p = naive.edge_probability(state.weight, state.sender, state.receiver, u, v)
            shape[u, v] = p if tree else state.total * p
            rate[u, v] = 1.0
            if not tree:
                rate[u, v] = state.b + naive.exposure(tales, u, v, None, cumulative)
    return naive.infections(tales, n_nodes, None, model.background, hazard, shape, rate)


PROBLEMS = [
    pytest.param(THREE, 4, {}, id="exponential"),
    pytest.param(THREE, 4, {"delay": "rayleigh"}, id="rayleigh"),
    pytest.param(TWO, 3, {"delay": "decay", "background": True}, id="decay-background"),
    pytest.param(TWO, 3, {"background": True}, id="exponential-background"),
]


def gibbs_pass(data, reinforce=True):
    return [
        lambda choice, i=i: naive.parent_kernel(data, i, choice, reinforce)
        for i in range(len(data.sources))
    ]


def swap_pass(data):
    return [
        lambda choice, i=i: naive.swap_kernel(data, i, choice) for i in range(len(data.sources))
    ]


class ForgetsToSubtract(naive.Infections):
    """Seeded bug: an infection's own count attracts it to its present parent."""

    def weights(self, choice, i, reinforce=True):
        n = self.counts(choice)
        return [
            (self.shape[p] + n[p]) / self.rate[p] * h
            for p, h in zip(self.sources[i], self.hazards[i], strict=True)
        ]


def without_hazards(data: naive.Infections) -> naive.Infections:
    """Seeded bug: the delays are left out."""
    return replace(data, hazards=[[1.0] * len(h) for h in data.hazards])


def without_rates(data: naive.Infections) -> naive.Infections:
    """Seeded bug: the exposures are left out."""
    return replace(data, rate=dict.fromkeys(data.rate, 1.0))


def forgetful(data: naive.Infections) -> naive.Infections:
    return ForgetsToSubtract(data.sources, data.hazards, data.shape, data.rate)


def test_posterior_weight_is_the_integral_over_the_rate(rng):
    """Gamma(r + n) / Gamma(r) b^r / (b + E)^(r + n) = E[lambda^n exp(-lambda E)]."""
    for n in range(4):
        r, b, e = rng.gamma(2.0, size=3) + 0.5
        expected, _ = integrate.quad(
            lambda x, n=n, r=r, b=b, e=e: (
                stats.gamma.pdf(x, r, scale=1 / b) * x**n * math.exp(-x * e)
            ),
            0.0,
            np.inf,
            epsabs=1e-13,
        )
        assert math.exp(naive.log_rate_target([(r, n, e)], b)) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("tales", "n_nodes", "settings"), PROBLEMS)
def test_parents_leave_the_posterior_as_it_is(rng, tales, n_nodes, settings):
    _, data = tiny_chain(rng, tales, n_nodes, **settings)
    pi = posterior(data.explanations(), data.log_weight)
    assert len(pi) >= 36
    assert distance(push(pi, *gibbs_pass(data)), pi) < EXACT
    for wrong in (forgetful(data), without_rates(data)):
        assert distance(push(pi, *gibbs_pass(wrong)), pi) > 1e-4
    if settings.get("delay"):
        assert distance(push(pi, *gibbs_pass(without_hazards(data))), pi) > 1e-4


@pytest.mark.parametrize(("tales", "n_nodes", "settings"), PROBLEMS)
def test_swaps_leave_the_posterior_as_it_is(rng, tales, n_nodes, settings):
    _, data = tiny_chain(rng, tales, n_nodes, **settings)
    pi = posterior(data.explanations(), data.log_weight)
    kernels = swap_pass(data)
    assert distance(push(pi, *kernels), pi) < EXACT
    for kernel in kernels:  # more than invariance: each proposal is reversible
        for state, mass in pi.items():
            for new, probability in kernel(state).items():
                back = kernel(new).get(state, 0.0)
                assert abs(mass * probability - pi[new] * back) < 1e-15
    assert distance(push(pi, *swap_pass(without_rates(data))), pi) > 1e-4


@pytest.mark.parametrize("delay", ["exponential", "rayleigh"])
def test_tree_parents_leave_the_posterior_as_it_is(rng, delay):
    _, data = tiny_chain(rng, THREE, likelihood="tree", delay=delay)
    pi = posterior(data.explanations(), lambda choice: data.log_weight(choice, reinforce=False))
    kernels = gibbs_pass(data, reinforce=False)
    assert distance(push(pi, *kernels), pi) < EXACT
    somewhere = {next(iter(pi)): 1.0}
    assert distance(push(somewhere, *kernels), pi) < EXACT  # an independent draw, from anywhere
    assert distance(push(pi, *gibbs_pass(data, reinforce=True)), pi) > 1e-3


def explain(chain: Chain, choice: tuple[int, ...]) -> None:
    """Put a chain's parents where the explanation says."""
    state, layout = chain.state, chain.layout
    state.n_pair[:] = 0
    for row, position in enumerate(choice):
        if position >= 0:
            state.choice[row] = position
            state.parent[row] = layout.cand_pair[layout.cand_ptr[row] + position]
            state.n_pair[state.parent[row]] += 1


def outcomes_of_parents(chain: Chain, update, choice: tuple[int, ...]) -> Counter:
    """Where a compiled update ends from one explanation, over many runs."""
    rows = np.diff(chain.layout.cand_ptr) > 0
    found = Counter()
    for _ in range(RUNS):
        explain(chain, choice)
        update(chain)
        found[tuple(np.where(rows, chain.state.choice, -1).tolist())] += 1
    return found


def some_states(pi: dict) -> list:
    """The least and the most likely state and one between."""
    order = sorted(pi, key=pi.__getitem__)
    return [order[0], order[len(order) // 2], order[-1]]


@pytest.mark.parametrize(("tales", "n_nodes", "settings"), PROBLEMS)
def test_compiled_parents_have_these_probabilities(rng, tales, n_nodes, settings):
    chain, data = tiny_chain(rng, tales, n_nodes, **settings)
    pi = posterior(data.explanations(), data.log_weight)
    for state in some_states(pi):
        found = outcomes_of_parents(chain, rates.draw_parents, state)
        assert chi_square_p(found, push({state: 1.0}, *gibbs_pass(data))) > ALPHA
    assert chi_square_p(found, push({state: 1.0}, *gibbs_pass(forgetful(data)))) < CAUGHT
    assert chi_square_p(found, push({state: 1.0}, *gibbs_pass(without_rates(data)))) < CAUGHT


@pytest.mark.parametrize(("tales", "n_nodes", "settings"), PROBLEMS)
def test_compiled_swaps_have_these_probabilities(rng, tales, n_nodes, settings):
    chain, data = tiny_chain(rng, tales, n_nodes, **settings)
    pi = posterior(data.explanations(), data.log_weight)
    for state in some_states(pi):
        found = outcomes_of_parents(chain, rates.swap_parents, state)
        assert chi_square_p(found, push({state: 1.0}, *swap_pass(data))) > ALPHA
    assert chi_square_p(found, push({state: 1.0}, *swap_pass(without_rates(data)))) < CAUGHT
    if settings.get("delay"):
        assert chi_square_p(found, push({state: 1.0}, *swap_pass(without_hazards(data)))) < CAUGHT


@pytest.mark.parametrize("delay", ["exponential", "rayleigh"])
def test_compiled_tree_parents_have_these_probabilities(rng, delay):
    chain, data = tiny_chain(rng, THREE, likelihood="tree", delay=delay)
    pi = posterior(data.explanations(), lambda choice: data.log_weight(choice, reinforce=False))
    found = outcomes_of_parents(chain, rates.draw_tree_parents, some_states(pi)[0])
    assert chi_square_p(found, pi) > ALPHA
    wrong = without_hazards(data)
    wrong_pi = posterior(list(pi), lambda choice: wrong.log_weight(choice, reinforce=False))
    assert chi_square_p(found, wrong_pi) < CAUGHT


# -------------------------------------------------------------------------------- tables and tokens


def test_tables_turn_counts_into_poisson_tokens():
    """sum_n NegBin(n; r, E/(b+E)) CRT(l; n, r) = Poisson(l; r L), which makes 3.3 exact."""
    for r, b, e in [(0.3, 1.0, 0.5), (2.5, 0.7, 0.9)]:
        length = math.log(1.0 + e / b)
        marginal = np.zeros(200)
        for n in range(200):
            p = stats.nbinom.pmf(n, r, b / (b + e))
            marginal[: n + 1] += p * np.array(naive.crt_distribution(n, r))
        expected = stats.poisson.pmf(np.arange(12), r * length)
        assert np.abs(marginal[:12] - expected).max() < EXACT


def test_compiled_tables_have_these_probabilities(rng):
    for n, r in [(2, 0.4), (5, 0.3), (7, 3.0)]:
        tables = np.empty(20_000, np.int64)
        counts, concentration = np.full(tables.size, n), np.full(tables.size, r)
        _kernels.crt_tables(counts, concentration, rng.random(n * tables.size), tables)
        expected = dict(enumerate(naive.crt_distribution(n, r)))
        assert chi_square_p(Counter(tables.tolist()), expected) > ALPHA
        off_by_one = dict(enumerate([*naive.crt_distribution(n - 1, r), 0.0]))
        assert chi_square_p(Counter(tables.tolist()), off_by_one) < CAUGHT


def test_tokens_of_a_chain_have_the_rates_that_balance_exposure(rng):
    """Real and phantom tokens of (k, u, v) against their laws given the network (3.3, 3.4)."""
    chain, data = tiny_chain(rng, THREE)
    state = chain.state
    state.total = 12.0
    refresh_shape(chain)
    explain(chain, max(data.explanations(), key=data.log_weight))
    used = np.flatnonzero(state.n_pair)
    keys = [(chain.layout.pair_source[p], chain.layout.pair_child[p]) for p in used]
    real = {key: Counter() for key in keys}
    phantom, runs = np.zeros((3, 4, 4)), 3000
    for _ in range(runs):
        communities.draw_tokens(chain)
        tokens = list(zip(state.token_sender, state.token_receiver, strict=True))
        seen = Counter(tokens[: state.n_real])
        assert seen.keys() == real.keys()  # every pair that carries an infection has a table
        for key in keys:
            real[key][seen[key]] += 1
        late = slice(state.n_real, None)
        cells = state.community[late], state.token_sender[late], state.token_receiver[late]
        np.add.at(phantom, cells, 1)
    for key, p in zip(keys, used, strict=True):
        expected = naive.crt_distribution(int(state.n_pair[p]), 4.0 * data.shape[key])
        if state.n_pair[p] > 1:
            assert chi_square_p(real[key], dict(enumerate(expected))) > ALPHA
    exposures = np.array([[data.rate[u, v] - state.b for v in range(4)] for u in range(4)])
    np.fill_diagonal(exposures, 0.0)
    length = np.log1p(exposures / state.b)
    p = np.einsum("k,uk,vk->kuv", state.weight, state.sender, state.receiver)
    bound = communities.log_max(chain)
    assert bound >= length.max()
    for balance, passes in ((bound - length, True), (np.full((4, 4), bound), False)):
        mean = runs * state.total * p * balance
        cells = mean >= 10.0
        statistic = ((phantom - mean)[cells] ** 2 / mean[cells]).sum()
        p_value = stats.chi2.sf(statistic, cells.sum())
        assert p_value > ALPHA if passes else p_value < CAUGHT


# -------------------------------------------------------------------------------------- communities

TOKENS = {
    "null": naive.Tokens(
        [(0, 1), (0, 2), (1, 1), (0, 1)], [1.0, 0.4, 0.4], [1 / 3] * 3, 1.3, [0.5, 0.3, 0.2]
    ),
    "no null, five tokens": naive.Tokens(
        [(0, 1), (2, 0), (0, 1), (2, 1), (0, 2)], [0.0, 0.7, 0.7], [1 / 3] * 3, 2.0, [0.2, 0.5, 0.3]
    ),
    "three communities, open world": naive.Tokens(
        [(0, 1), (0, 2), (1, 1), (0, 1)],
        [0.0, 0.6, 0.6, 0.6],
        [0.45, 0.45, 0.1],
        0.8,
        [0.5, 0.3, 0.2],
    ),
}


@pytest.fixture(params=TOKENS)
def tokens(request) -> naive.Tokens:
    return TOKENS[request.param]


def token_pass(tokens):
    return [lambda z, t=t: naive.token_kernel(tokens, t, z) for t in range(len(tokens.pairs))]


class CountsItself(naive.Tokens):
    """Seeded bug: a token is not taken out before its community is drawn."""

    def members(self, assignment, k, without=None):
        return super().members(assignment, k)


class StalePopularity(naive.Tokens):
    """Seeded bug: the collapsed pass uses uniform popularity."""

    def predictive(self, k, pair, others):
        even = replace(TOKENS["null"], tau=self.tau, popularity=[1 / 3] * 3, base=self.base)
        return even.predictive(k, pair, others)


def wrong_tokens(kind, tokens):
    return kind(tokens.pairs, tokens.prior, tokens.base, tokens.tau, tokens.popularity)


def test_token_weight_is_a_distribution_over_communities_and_endpoints():
    """Normalised over two tokens' communities and endpoints, with D, A and B integrated out."""
    for tokens in TOKENS.values():
        total = 0.0
        ends = [(u, v) for u in range(3) for v in range(3)]
        for pairs in [[first, second] for first in ends for second in ends]:
            case = replace(tokens, pairs=pairs)
            total += sum(math.exp(case.log_weight(z)) for z in case.assignments())
        assert total == pytest.approx(1.0, abs=EXACT)


def test_collapsed_pass_leaves_the_posterior_as_it_is(tokens):
    pi = posterior(tokens.assignments(), tokens.log_weight)
    assert distance(push(pi, *token_pass(tokens)), pi) < EXACT
    for kind in (CountsItself, StalePopularity):
        wrong = wrong_tokens(kind, tokens)
        assert distance(push(pi, *token_pass(wrong)), pi) > 1e-4


def test_split_merge_leaves_the_posterior_as_it_is(tokens):
    pi = posterior(tokens.assignments(), tokens.log_weight)
    scans = communities.RESTRICTED_SCANS
    after = push(pi, lambda z: naive.split_merge_kernel(tokens, z, scans))
    assert distance(after, pi) < EXACT
    if len(tokens.prior) > 3:  # with two communities a split has no choice of its label
        wrong = push(pi, lambda z: naive.split_merge_kernel(tokens, z, scans, label_choice=False))
        assert distance(wrong, pi) > 1e-3


def token_chain(rng, tokens: naive.Tokens) -> Chain:
    """A chain that holds the tokens; its data play no part."""
    width = len(tokens.prior)
    model = Model(
        get_delay("exponential"),
        null_community=tokens.prior[0] > 0.0,
        truncation=width - 1,
        token_passes=1,
        split_merges=1,
    )
    chain = Chain(build_layout(naive.cascades_of(TWO, 3)), model, rng)
    chain.adapting = False
    chain.base = np.array(tokens.base)
    state = chain.state
    state.token_sender, state.token_receiver = np.array(tokens.pairs, np.int32).T.copy()
    state.alpha, state.tau = tokens.prior[-1] * (width - 1), tokens.tau
    state.beta = np.array(tokens.popularity)
    state.community = np.empty(len(tokens.pairs), np.int32)
    return chain


def outcomes_of_tokens(chain: Chain, update, assignment) -> Counter:
    """Where a compiled update of the communities ends, over many runs."""
    state, found = chain.state, Counter()
    for _ in range(RUNS):
        state.community[:] = assignment
        _kernels.count_tokens(
            *(state.token_sender, state.token_receiver, state.community),
            *(state.eta, state.sent, state.received),
        )
        update(chain)
        found[tuple(state.community.tolist())] += 1
    return found


def test_compiled_pass_has_these_probabilities(rng, tokens):
    chain = token_chain(rng, tokens)
    pi = posterior(tokens.assignments(), tokens.log_weight)
    for start in some_states(pi):
        found = outcomes_of_tokens(chain, communities.draw_token_communities, start)
        assert chi_square_p(found, push({start: 1.0}, *token_pass(tokens))) > ALPHA
    wrong = wrong_tokens(CountsItself, tokens)
    assert chi_square_p(found, push({start: 1.0}, *token_pass(wrong))) < CAUGHT


def test_compiled_split_merge_has_these_probabilities(rng, tokens):
    chain = token_chain(rng, tokens)
    pi = posterior(tokens.assignments(), tokens.log_weight)
    starts = [z for z in some_states(pi) if sum(k > 0 for k in z) > 1]
    starts.append((1,) * len(tokens.pairs))
    starts.append((1, 2) * (len(tokens.pairs) // 2) + (1,) * (len(tokens.pairs) % 2))
    for start in starts:
        row = naive.split_merge_kernel(tokens, start, communities.RESTRICTED_SCANS)
        found = outcomes_of_tokens(chain, communities.split_merge, start)
        assert chi_square_p(found, row) > ALPHA
        if len(tokens.prior) > 3 and start == (1,) * len(start):
            wrong = naive.split_merge_kernel(
                tokens, start, communities.RESTRICTED_SCANS, label_choice=False
            )
            assert chi_square_p(found, wrong) < CAUGHT
