"""Exact enumeration: each discrete update leaves the posterior of tiny problems as it is.

All states of a problem are listed with their posterior probability pi, the continuous parameters
being held. The update, restated in `cascadenet.inference.exact`, takes pi to pi P, which must be pi
again to 1e-12; seeded bugs do not pass. What the compiled update does from a given state is then
compared with its row of P by a chi-square test.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from cascadenet.delays import get_delay
from cascadenet.inference import _kernels, calibration, communities, exact, seeded_bugs
from cascadenet.inference import enumeration as enum
from cascadenet.inference.calibration import EXACT, OFF_LEAST, P_CAUGHT, P_ROW
from cascadenet.inference.enumeration import THREE, TWO, ParentProblem, chi_square_p, explain
from cascadenet.inference.exact import Infections, Tokens, distance, posterior, push
from cascadenet.inference.sampler import Model, refresh_shape, sweep_updates
from cascadenet.inference.worlds import Design
from tests import naive

# Updates of what is continuous: the joint test and the tests of test_sampler.py are theirs.
CONTINUOUS = {
    "update_b",
    "update_delay",
    "update_background",
    "update_nu",
    "update_tree_delay",
    "update_alpha",
    "update_popularity",
    "draw_flat_total",
    "draw_network",
    "draw_total",
    "refresh_shape",
}


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def cases(pytestconfig: pytest.Config) -> list[enum.Case]:
    return list(enum.cases(pytestconfig.getoption("--seed")))


def test_updates_leave_the_posterior_alone_and_mistakes_do_not(cases):
    """Some 140 chi-square tests with P_ROW each: a false alarm in one of 700 runs."""
    assert len(cases) >= 44
    for case in cases:
        where = f"{case.update}, {case.problem}"
        assert len(case.pi) >= 7, where
        assert sum(case.pi.values()) == pytest.approx(1.0), where
        found = enum.judge(case)
        assert found.off < EXACT, where
        assert found.p > P_ROW, where
        assert case.wrong, where
        for what in case.wrong:
            assert found.wrong_off[what] > OFF_LEAST, (where, what)
            assert found.wrong_p[what] < P_CAUGHT, (where, what)


@pytest.mark.parametrize(
    ("bug", "update", "problem"),
    [
        ("missing decrement", "draw_parents", "exponential"),
        ("h dropped", "draw_parents", "rayleigh, no null"),
        ("swap ratio", "swap_parents", "background, no null"),
        ("wrong CRT", "draw_tokens", "nothing remembered"),
        ("tables of remembered", "draw_tokens", "memory"),
        ("split without", "split_merge", "three communities, open world"),
    ],
)
def test_bugs_of_the_sampler_are_caught(cases, bug, update, problem):
    """Put into its own source: outcomes have other probabilities than the right update's."""
    (planted,) = [x for x in seeded_bugs.BUGS if x.name.startswith(bug)]
    (case,) = [x for x in cases if (x.update, x.problem) == (update, problem)]
    with seeded_bugs.planted(planted):
        found = enum.judge(replace(case, wrong={}), runs=2000)
    assert found.off < EXACT
    assert found.p < P_CAUGHT


def test_every_update_is_enumerated_or_continuous(cases):
    models = [
        Model(get_delay(delay), likelihood, prior, background=likelihood == "survival", switch=on)
        for delay, likelihood, prior, on in itertools.product(
            ("exponential", "weibull"), ("survival", "tree"), ("hdp", "flat"), (False, True)
        )
    ]
    updates = {update.__name__ for model in models for update in sweep_updates(model)}
    enumerated = {case.update for case in cases}
    assert updates == enumerated | CONTINUOUS
    assert not enumerated & CONTINUOUS


def test_problems_cover_the_settings(cases):
    settings = [p.settings for p in enum.PARENT_PROBLEMS.values()]
    for name, values in {
        "likelihood": ("survival", "tree"),
        "background": (False, True),
        "null_community": (True, False),
    }.items():
        assert set(values) <= {x.get(name, values[0]) for x in settings}
    names = {case.update: set() for case in cases}
    for case in cases:
        names[case.update].add("memor" in case.problem)
    assert {update for update, with_memory in names.items() if True not in with_memory} == {
        "draw_tree_parents"
    }


def test_command_reports_and_judges(seed, capsys, monkeypatch):
    """On a few of the cases; one of them made wrong must be noticed."""
    given = list(itertools.islice(enum.cases(seed), 3))
    monkeypatch.setattr(enum, "cases", lambda seed: given)
    assert calibration.main(["exact", "--replicates", "2000"]) == 0
    shown = capsys.readouterr().out
    assert "exact: passed" in shown and "swap_parents" in shown and "exposures left out" in shown
    broken = replace(given[1], kernels=given[1].wrong["exposures left out"])
    unfair = replace(given[1], run=lambda z: z)
    toothless = replace(given[1], wrong={"nothing": given[1].kernels})
    for case in (broken, unfair, toothless):
        monkeypatch.setattr(enum, "cases", lambda seed, case=case: [given[0], case])
        assert calibration.main(["exact", "--replicates", "500"]) == 1
        assert "exact: FAILED" in capsys.readouterr().out


def tiny_chain(rng, tales, n_nodes=4, **settings):
    """A chain with a random network on tiny data, and the same problem from its definitions."""
    problem = ParentProblem(tuple(tales), Design(n_nodes=n_nodes), settings=settings)
    return enum.explained_chain(rng, problem)


# -------------------------------------------------------------------------------- what pi stands on


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
        memories = exact.Memories([n], [e], [r], [b], [[0.0]], [[0.0]], 0.5)
        weight = math.exp(memories.log_weight((True,)))
        assert 2.0 * weight == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("name", enum.TOKEN_PROBLEMS)
def test_token_weight_is_a_distribution_over_communities_and_endpoints(name):
    """Normalised over two tokens' communities and endpoints, with D, A and B integrated out."""
    total = 0.0
    ends = [(u, v) for u in range(3) for v in range(3)]
    for pairs in itertools.product(ends, repeat=2):
        case = replace(enum.TOKEN_PROBLEMS[name], pairs=list(pairs))
        total += sum(math.exp(case.log_weight(z)) for z in case.assignments())
    assert total == pytest.approx(1.0, abs=EXACT)


@pytest.mark.parametrize("remembered", [0.0, 0.6])
def test_tables_turn_counts_into_poisson_tokens(remembered):
    """sum_n NegBin(n; r + c, E/(b+E)) P(l | n) = Poisson(l; r L), which makes 3.3 exact."""
    for r, b, e in [(0.3, 1.0, 0.5), (2.5, 0.7, 0.9)]:
        length = math.log(1.0 + e / b)
        marginal = np.zeros(100)
        for n in range(100):
            p = stats.nbinom.pmf(n, r + remembered, b / (b + e))
            if p > 1e-18:
                marginal[: n + 1] += p * np.array(exact.new_tables(n, r, remembered))
        expected = stats.poisson.pmf(np.arange(12), r * length)
        assert np.abs(marginal[:12] - expected).max() < EXACT


# ------------------------------------------------------------------------------------------ parents


def imbalance(data: Infections, patience: float) -> float:
    """Largest difference between the flows of swaps there and back."""
    pi = posterior(data.explanations(), data.log_weight)
    return max(
        abs(mass * probability - pi[new] * kernel(new).get(state, 0.0))
        for kernel in enum.swap_pass(data, patience)
        for state, mass in pi.items()
        for new, probability in kernel(state).items()
    )


class CountsOne(Infections):
    """Mistake: which swaps are seldom tried depends on what the present parent explains alone."""

    def involved(self, choice, i, other):
        return self.counts(choice)[self.sources[i][choice[i]]]


def test_swaps_are_reversible(rng):
    """More than invariance, for each proposal, whether all are tried or fewer of the large ones."""
    mistaken = []
    for name in (x for x in enum.PARENT_PROBLEMS if "tree" not in x):
        _, data = enum.explained_chain(rng, enum.PARENT_PROBLEMS[name])
        assert max(imbalance(data, 1), imbalance(data, 50)) < 1e-15, name
        mistaken.append(imbalance(CountsOne(**vars(data)), 1))
    assert max(mistaken) > 1e-3


@pytest.mark.parametrize("name", [x for x in enum.PARENT_PROBLEMS if "tree" in x])
def test_tree_parents_are_independent_draws(rng, name):
    _, data = enum.explained_chain(rng, enum.PARENT_PROBLEMS[name])
    pi = posterior(data.explanations(), lambda z: data.log_weight(z, reinforce=False))
    somewhere = {next(iter(pi)): 1.0}
    assert distance(push(somewhere, *enum.gibbs_pass(data, reinforce=False)), pi) < EXACT


def test_parents_and_memories_have_one_posterior(rng):
    """Who infected whom and which memories are in force, listed together: 288 states.

    The memories' switches change shape and rate of pairs, the parents their counts.
    """
    memory, kappa = enum.some_memories(1)[0], 0.3
    design = Design(memory=memory, kappa=kappa)
    flags = list(itertools.product((False, True), repeat=3))
    problem = ParentProblem(TWO, design, flags[-1], {"background": True})
    chain, _ = enum.explained_chain(rng, problem)
    given = {kept: enum.as_defined(chain, replace(problem, kept=kept)) for kept in flags}
    bare = enum.as_defined(chain, replace(problem, kept=flags[0]))
    pairs, rows = [(1, 0), (0, 1), (1, 2)], [0, 2, 3]
    b, persistence = chain.state.b, 0.6

    def memories(choice):
        n = bare.counts(choice)
        return exact.Memories(
            n=[n[pair] for pair in pairs],
            exposure=[bare.rate[pair] - b for pair in pairs],
            shape=[bare.shape[pair] for pair in pairs],
            rate=[b] * 3,
            old_n=[memory.n[rows].tolist()],
            old_exposure=[memory.exposure[rows].tolist()],
            persistence=persistence,
        )

    def log_weight(state):
        """As `naive.log_rate_target`, pair by pair, the prior rate being each pair's own."""
        choice, kept = state
        n, value = bare.counts(choice), 0.0
        for pair in given[kept].rate:
            on = kept[pairs.index(pair)] if pair in pairs else False
            old = memory.exposure[rows[pairs.index(pair)]] if on else 0.0
            seen = bare.rate[pair] - b  # other pairs' memories in it: their shapes are held
            one = [(given[kept].shape[pair], n[pair], seen)]
            value += naive.log_rate_target(one, b + old)
        return value + sum(math.log(persistence if x else 1.0 - persistence) for x in kept)

    states = list(itertools.product(bare.explanations(), flags))
    pi = posterior(states, log_weight)
    kernels = []
    for i in range(len(bare.sources)):
        kernels.append(
            lambda z, i=i: {
                (new, z[1]): p for new, p in exact.parent_kernel(given[z[1]], i, z[0]).items()
            }
        )
    for x in range(3):
        kernels.append(
            lambda z, x=x: {
                (z[0], new): p for new, p in exact.memory_kernel(memories(z[0]), x, z[1]).items()
            }
        )
    assert len(pi) == 288
    for kernel in kernels:
        assert distance(push(pi, kernel), pi) < EXACT
    stale = given[flags[-1]]  # parents that do not know which memories are in force
    wrong = push(
        pi, lambda z: {(c, z[1]): p for c, p in exact.parent_kernel(stale, 5, z[0]).items()}
    )
    assert distance(wrong, pi) > OFF_LEAST


def test_persistence_is_drawn_given_the_memories_in_force(rng):
    """Beta(1 + in force, 1 + not in force), of a compiled update; false-alarm rate 1e-5."""
    chain, memories = enum.memory_problem(rng, 2)
    drawn = []
    for _ in range(2000):
        in_force = sum(enum.draw_memories(chain, memories, (True, False) * 3))
        drawn.append((chain.state.persistence, in_force))
    p, in_force = np.array(drawn).T
    assert np.ptp(in_force) > 1
    right = stats.beta.cdf(p, 1.0 + in_force, 1.0 + 6.0 - in_force)
    blind = stats.beta.cdf(p, 1.0 + in_force, 1.0)
    assert stats.kstest(right, "uniform").pvalue > P_ROW
    assert stats.kstest(blind, "uniform").pvalue < P_CAUGHT


# -------------------------------------------------------------------------------- tables and tokens


def test_compiled_tables_have_these_probabilities(rng):
    for n, r in [(2, 0.4), (5, 0.3), (7, 3.0)]:
        tables = np.empty(20_000, np.int64)
        counts, concentration = np.full(tables.size, n), np.full(tables.size, r)
        _kernels.crt_tables(counts, concentration, rng.random(n * tables.size), tables)
        expected = dict(enumerate(exact.crt_distribution(n, r)))
        assert chi_square_p(Counter(tables.tolist()), expected) > P_ROW
        off_by_one = dict(enumerate([*exact.crt_distribution(n - 1, r), 0.0]))
        assert chi_square_p(Counter(tables.tolist()), off_by_one) < P_CAUGHT


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
        expected = exact.crt_distribution(int(state.n_pair[p]), 4.0 * data.shape[key])
        if state.n_pair[p] > 1:
            assert chi_square_p(real[key], dict(enumerate(expected))) > P_ROW
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
        assert p_value > P_ROW if passes else p_value < P_CAUGHT


# ------------------------------------------------------------------------------- the test of a test


def test_chi_square_has_its_false_alarm_rate(rng):
    """2000 tests at 5%: between 3% and 7% reject, which fails by chance in 1 of 10 000 runs."""
    law = {0: 0.5, 1: 0.2, 2: 0.2, 3: 0.09, 4: 0.01}
    p = []
    for _ in range(2000):
        drawn = rng.choice(5, size=300, p=list(law.values()))
        p.append(chi_square_p(Counter(drawn.tolist()), law))
    assert 0.03 < np.mean(np.array(p) < 0.05) < 0.07


def test_impossible_outcome_is_seen():
    assert chi_square_p(Counter({0: 99, 1: 1}), {0: 1.0, 1: 0.0}) == 0.0
    assert chi_square_p(Counter({0: 100}), {0: 1.0}) == 1.0


def test_labels_matter_for_what_they_remember():
    plain = enum.TOKEN_PROBLEMS["three communities, open world"]
    old = enum.TOKEN_PROBLEMS["memory, three communities, no null"]
    for tokens, equal in ((plain, True), (old, False)):
        weights = [Tokens.log_weight(tokens, z) for z in ((1, 1, 2, 1), (3, 3, 1, 3))]
        assert (abs(weights[0] - weights[1]) < 1e-12) == equal
