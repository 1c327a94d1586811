"""Chains are reproducible, survive any setting, and their continuous updates keep their target.

Two kinds of statistical test, both on independent samples, so that p-values are exact. Where the
target can be integrated on a grid, states are drawn from it, the update is applied, and where it
ends is compared with the target again (Kolmogorov-Smirnov). Where only the prior can be sampled,
parameters and data are drawn from the model, the update is applied, and functions of both must not
have changed on average (paired z). Each has a seeded bug that it must catch.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import betaln, gammaln

from cascadenet.delays import get_delay
from cascadenet.inference import chains, communities, parents, rates
from cascadenet.inference.layout import build_layout
from cascadenet.inference.sampler import SHAPE_FLOOR, Chain, Model, refresh_shape
from tests import naive
from tests.test_enumeration import THREE, TWO, explain, tiny_chain
from tests.test_whole_chains import broken_invariants, every_model, some_cascades, state_values

ALPHA = 1e-5  # false-alarm rate of every Kolmogorov-Smirnov test in this file
CAUGHT = 1e-10  # p-value that a seeded bug must fall below
LIMIT = stats.norm.isf(ALPHA / 2)  # the same for |z|


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def ks_p(sample, cdf) -> float:
    return float(stats.kstest(sample, cdf).pvalue)


# ------------------------------------------------------------------------------------ determinism


def digest(chain: Chain) -> dict[str, bytes]:
    return {name: np.asarray(value).tobytes() for name, value in state_values(chain.state).items()}


def test_a_seed_determines_a_chain(seed):
    layout = build_layout(some_cascades(seed))
    model = Model(get_delay("weibull"), truncation=4)
    ends = []
    for entropy in (seed, seed, seed + 1):
        chain = Chain(layout, model, np.random.default_rng(entropy))
        for _ in range(10):
            chain.sweep()
        ends.append(digest(chain))
    assert ends[0] == ends[1]
    assert ends[0] != ends[2]


@pytest.mark.parametrize("scan", [0, 3, 300])
def test_parents_drawn_in_blocks(seed, scan, monkeypatch):
    """Every infection has its number, in whatever blocks one round is drawn."""
    layout = build_layout(some_cascades(seed))
    few, many = parents.by_width(layout, scan)
    assert np.union1d(few, many).tolist() == list(range(layout.n_nodes))
    ends = []
    for block in (1, 7, 10**6):
        monkeypatch.setattr(parents, "BLOCK", block)
        sizes = [size for some in (few, many) for _, size in parents._blocks(layout, some)]
        assert sum(sizes) == layout.n_infections
        assert (len(sizes) > 2) == (block <= 7)
        model = Model(get_delay("weibull"), truncation=4, scan=scan)
        chain = Chain(layout, model, np.random.default_rng(seed))
        for _ in range(3):
            chain.sweep()
        ends.append(digest(chain))
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize("prior", ["hdp", "flat"])
def test_a_chain_does_not_depend_on_how_many_run_beside_it(seed, prior):
    layout = build_layout(some_cascades(seed))
    model = Model(get_delay("exponential"), prior=prior, truncation=4)
    schedule = chains.Schedule(tune=6, draws=6, networks=3, hold=2)
    runs = {}
    for number, n_jobs in ((1, 1), (3, 1), (3, 2), (3, 8)):
        starts = [chains.Start(child) for child in np.random.SeedSequence(seed).spawn(number)]
        with chains.Progress(12 * number, show=False) as progress:
            records, interrupted = chains.run_chains(
                layout, model, schedule, starts, n_jobs=n_jobs, progress=progress
            )
        assert not interrupted
        runs[number, n_jobs] = [
            {name: x.tobytes() for name, x in (r.scalars | r.sums()).items()} for r in records
        ]
    assert runs[3, 1] == runs[3, 2] == runs[3, 8]
    assert runs[1, 1] == runs[3, 1][:1]
    assert runs[3, 1][0] != runs[3, 1][1]


# --------------------------------------------------------------------------------- every setting


def test_thirty_sweeps_of_every_setting_stay_finite(seed):
    cascades = some_cascades(seed)
    for number, (model, limit) in enumerate(every_model()[::3]):
        layout = build_layout(cascades, background=model.background, max_candidates=limit)
        chain = Chain(layout, model, np.random.default_rng([seed, number]))
        for sweep in range(30):
            chain.holding, chain.adapting = sweep < 10, sweep < 20
            chain.sweep()
        assert broken_invariants(chain) == [], (model, limit)


@pytest.mark.parametrize(
    ("tales", "n_nodes"),
    [
        pytest.param([naive.Story([(0.0, 0)], 0.0)], 2, id="nothing ever happened"),
        pytest.param([naive.Story([(0.0, 0)], 5.0)], 3, id="one singleton"),
        pytest.param([naive.Story([(0.0, 0), (0.0, 1)], 5.0)], 2, id="ties only"),
        pytest.param([naive.Story([(0.0, 0), (1.0, 1)], 1.0)], 2, id="one transmission"),
    ],
)
def test_data_that_say_almost_nothing_are_no_obstacle(seed, tales, n_nodes):
    cascades = naive.cascades_of(tales, n_nodes)
    for number, (model, limit) in enumerate(every_model()[::7]):
        layout = build_layout(cascades, background=model.background, max_candidates=limit)
        chain = Chain(layout, model, np.random.default_rng([seed, number]))
        for sweep in range(10):
            chain.holding, chain.adapting = sweep < 2, sweep < 5
            chain.sweep()
        assert broken_invariants(chain) == [], (model, limit)


def test_tuning_alone_changes_proposals_and_truncation(seed):
    layout = build_layout(some_cascades(seed))
    chain = Chain(layout, Model(get_delay("weibull"), truncation=2), np.random.default_rng(seed))
    start = chain.state.alpha, chain.state.tau, chain.state.gamma
    for _ in range(5):
        chain.sweep()
    assert (chain.state.alpha, chain.state.tau, chain.state.gamma) == start
    assert chain.state.eta.size == 3
    chain.holding = False
    for _ in range(20):
        chain.sweep()
    assert (chain.state.alpha, chain.state.tau, chain.state.gamma) != start
    width = chain.state.eta.size
    assert width > 3  # two communities were too few
    chain.adapting = False
    steps = dict(chain.state.log_step)
    assert steps.keys() == {"b", "Lambda", "ridge", "k"}
    for _ in range(20):
        chain.sweep()
    assert chain.state.log_step == steps
    assert chain.state.eta.size == width


# ------------------------------------------------------------------- the target of b, Lambda, theta


def dense_pairs(chain: Chain, tales, theta, limit=None) -> list[tuple[float, int, float]]:
    """(r, n, E) of all ordered pairs, from their definitions."""
    state, layout, model = chain.state, chain.layout, chain.model
    n_nodes, name = layout.n_nodes, model.delay.name
    carried = {
        (int(layout.pair_source[p]), int(layout.pair_child[p])): int(state.n_pair[p])
        for p in np.flatnonzero(state.n_pair)
    }
    found = []
    for u, v in ((u, v) for u in range(n_nodes) for v in range(n_nodes) if u != v):
        p = 1.0 / (n_nodes * (n_nodes - 1))
        if model.prior == "hdp":
            p = naive.edge_probability(state.weight, state.sender, state.receiver, u, v)
        e = naive.exposure(
            tales, u, v, limit, lambda d: naive.cumulative_hazard(name, theta, d / layout.unit)
        )
        found.append((max(state.total * p, SHAPE_FLOOR), carried.get((u, v), 0), e))
    return found


@pytest.mark.parametrize("number", range(0, 500, 9))
def test_target_is_the_sum_over_all_pairs(seed, number):
    models = [(m, limit) for m, limit in every_model() if m.likelihood == "survival"]
    model, limit = models[number % len(models)]
    cascades = some_cascades(seed)
    layout = build_layout(cascades, background=model.background, max_candidates=limit)
    chain = Chain(layout, model, np.random.default_rng([seed, number]))
    chain.holding = False
    for _ in range(3):
        chain.sweep()
    target, theta = rates.RateTarget(chain), chain.state.theta
    tales = naive.stories(cascades)
    pairs = dense_pairs(chain, tales, theta, limit)
    scaled = [(1.7 * r, n, e) for r, n, e in pairs]
    assert target.at(0.3)() == pytest.approx(naive.log_rate_target(pairs, 0.3), rel=1e-9)
    assert target.at(4.0)(1.7) == pytest.approx(naive.log_rate_target(scaled, 4.0), rel=1e-9)
    other = theta * 1.3
    exposure, node_full = layout.exposure(model.delay, other)
    assert target.at(0.3, exposure, node_full)() == pytest.approx(
        naive.log_rate_target(dense_pairs(chain, tales, other, limit), 0.3), rel=1e-9
    )


def test_sums_that_are_kept_are_those_of_the_present(seed):
    """After every update of every kind of model; what depends on shapes, where these are new."""
    for number, (model, limit) in enumerate(every_model()):
        if model.likelihood != "survival":
            continue
        layout = build_layout(
            some_cascades(seed), background=model.background, max_candidates=limit
        )
        chain = Chain(layout, model, np.random.default_rng([seed, number]))
        chain.holding = False
        for update in chain.updates * 4:
            update(chain)
            state = chain.state
            fresh = rates._flat_sum(chain, state.b, state.exposure, state.node_full)
            assert rates.flat_sum(chain, state.b) == fresh
            assert len(chain.flat_sums[1]) <= rates.FLAT_SUMS
            if update.__module__ == communities.__name__:
                continue  # shapes are of the network before
            again = chains.log_joint(chain)
            chain.shape_sums = rates.ShapeSums()
            assert chains.log_joint(chain) == again


def test_ctrl_c_while_chains_are_being_started_stops_them_all():
    """Also one that is under way and that nobody knows of."""

    class Interrupted(ThreadPoolExecutor):
        def submit(self, function, *arguments):
            future = super().submit(function, *arguments)
            if arguments == (1,):
                raise KeyboardInterrupt
            return future

    ended, progress = [], chains.Progress(1, show=False)

    def run(number: int) -> int:
        while not progress.stopped:
            time.sleep(0.001)
        ended.append(number)
        return number

    with Interrupted(3) as pool:
        assert chains.run_together(pool, [(run, i) for i in range(3)], progress) == [0]
    assert progress.stopped
    assert sorted(ended) == [0, 1]


@pytest.mark.parametrize("shape", [1e-5, 0.01, 0.3, 1.0, 1.7])
def test_logs_of_many_gamma_variables(shape, rng):
    """Against the distribution of log G; another shape is noticed."""
    drawn = communities.many_log_gammas(rng, np.full((100, 300), shape)).ravel()
    # G(a) = G(a + 1) U^(1/a): below where doubles end, the second factor is all there is
    drawn = np.exp(shape * drawn)

    def cdf(x, a=shape):
        return np.where(x < 1e-3**a, x / math.gamma(a + 1.0), stats.gamma.cdf(x ** (1.0 / a), a))

    assert ks_p(drawn, cdf) > ALPHA
    assert ks_p(drawn**1.1, cdf) < CAUGHT


# --------------------------------------------------------------------------------- quadrature


class Grid:
    """A density on an interval, as cells of equal width that it is constant on."""

    def __init__(self, log_density, low: float, high: float, cells: int = 2000) -> None:
        self.edges = np.linspace(low, high, cells + 1)
        middle = (self.edges[1:] + self.edges[:-1]) / 2.0
        logs = np.array([log_density(x) for x in middle])
        weight = np.exp(logs - logs.max())
        assert max(weight[0], weight[-1]) < 1e-4, "the interval cuts the density off"
        self.running = np.append(0.0, np.cumsum(weight / weight.sum()))

    def cdf(self, x):
        return np.interp(x, self.edges, self.running)

    def draw(self, rng, size: int) -> np.ndarray:
        return np.interp(rng.random(size), self.running, self.edges)


def log_gamma_density(x: float, prior: tuple[float, float]) -> float:
    """Of log x, where x ~ Gamma(shape, rate), up to a constant."""
    return prior[0] * math.log(x) - prior[1] * x


def problem(rng, **settings) -> Chain:
    """A chain with its parents at a likely explanation, proposals fixed at a fair size."""
    tales, n_nodes = (TWO, 3) if settings.get("background") else (THREE, 4)
    chain, data = tiny_chain(rng, tales, n_nodes, **settings)
    explain(chain, max(data.explanations(), key=data.log_weight))
    chain.adapting = chain.holding = False
    chain.state.log_step = dict.fromkeys(("b", "Lambda", "ridge", "k", "w", "background"), 0.0)
    return chain


@pytest.mark.parametrize("prior", ["hdp", "flat"])
def test_b_and_total_keep_their_density(rng, prior):
    chain = problem(rng, prior=prior)
    chain.model = replace(chain.model, total_prior=(1.5, 0.2))
    state, model = chain.state, chain.model
    b_axis, total_axis = np.linspace(-7.0, 6.0, 301), np.linspace(-6.0, 5.5, 301)
    grid_b, grid_total = np.meshgrid(np.exp(b_axis), np.exp(total_axis), indexing="ij")
    logs = np.zeros(grid_b.shape)
    for r, n, e in dense_pairs(chain, THREE, state.theta):
        r = r / state.total * grid_total
        logs += gammaln(r + n) - gammaln(r) + r * np.log(grid_b) - (r + n) * np.log(grid_b + e)
    for x, (shape, rate) in ((grid_b, model.b_prior), (grid_total, model.total_prior)):
        logs += shape * np.log(x) - rate * x
    weight = np.exp(logs - logs.max())
    weight /= weight.sum()
    assert max(weight[[0, -1]].sum(), weight[:, [0, -1]].sum()) < 1e-3
    width = b_axis[1] - b_axis[0], total_axis[1] - total_axis[0]
    cells = rng.choice(weight.size, 1200, p=weight.ravel())
    jitter = rng.random((2, cells.size)) - 0.5
    starts = np.exp(
        [
            b_axis[cells // 301] + width[0] * jitter[0],
            total_axis[cells % 301] + width[1] * jitter[1],
        ]
    )

    def after(steps):
        ends = np.empty(starts.shape)
        for run, (b, total) in enumerate(starts.T):
            state.total = total
            refresh_shape(chain)
            rates.set_b(chain, b)
            for _ in range(steps):
                rates.update_b(chain)
            ends[:, run] = state.b, state.total
        return np.log(ends)

    def p_values(ends):
        cdfs = []
        for axis, step, marginal in zip(
            (b_axis, total_axis), width, (weight.sum(1), weight.sum(0)), strict=True
        ):
            cdfs.append((axis + step / 2, np.cumsum(marginal)))
        return [
            ks_p(sample, lambda x, c=c: np.interp(x, *c))
            for sample, c in zip(ends, cdfs, strict=True)
        ]

    ends = after(3)
    assert (ends != np.log(starts)).mean() > 0.5  # or nothing would have been tested
    assert min(p_values(ends)) > ALPHA
    chain.model = replace(model, b_prior=(model.b_prior[0] + 2.0, model.b_prior[1]))
    assert min(p_values(after(12))) < CAUGHT


@pytest.mark.parametrize(("name", "low", "high"), [("weibull", -4, 3.5), ("decay", -12, 9)])
def test_delay_parameters_keep_their_density(rng, name, low, high):
    chain = problem(rng, delay=name)
    state, layout, delay = chain.state, chain.layout, chain.model.delay
    rows = np.flatnonzero(np.diff(layout.cand_ptr) > 0)
    held = layout.cand_delay[layout.cand_ptr[rows] + state.choice[rows]].tolist()

    def log_density(phi, power=1.0):
        theta = [math.exp(phi)]
        value = naive.log_rate_target(dense_pairs(chain, THREE, theta), state.b)
        value += power * sum(math.log(max(naive.hazard(name, theta, d), 1e-300)) for d in held)
        (mean, sd) = delay.prior[0]
        return value - 0.5 * ((phi - mean) / sd) ** 2

    grid = Grid(log_density, low, high, 400)
    ends = np.empty(2000)
    starts = grid.draw(rng, ends.size)
    for run, phi in enumerate(starts):
        theta = np.array([math.exp(phi)])
        rates.set_theta(chain, theta, *layout.exposure(delay, theta))
        for _ in range(3):
            rates.update_delay(chain)
        ends[run] = math.log(state.theta[0])
    assert (ends != starts).mean() > 0.3
    assert ks_p(ends, grid.cdf) > ALPHA
    wrong = Grid(lambda phi: log_density(phi, power=0.0), low, high, 400)  # hazards forgotten
    assert ks_p(ends, wrong.cdf) < CAUGHT


def test_background_rate_keeps_its_density(rng):
    chain = problem(rng, background=True)
    chain.model = replace(chain.model, background_rate_prior=(1.0, 0.1))
    state, model, layout = chain.state, chain.model, chain.layout
    c0 = model.background_shape
    n = [int(state.n_pair[layout.pair_ptr[v]]) for v in range(3)]
    e = [naive.background_exposure(TWO, v) / layout.unit for v in range(3)]

    def log_density(x, shift=0.0):
        d = math.exp(x)
        value = sum(c0 * x - (c0 + k) * math.log(d + w) for k, w in zip(n, e, strict=True))
        return value + log_gamma_density(d, (1.0 + shift, 0.1))

    grid = Grid(log_density, -20.0, 6.0)
    ends = np.empty(3000)
    for run, x in enumerate(grid.draw(rng, ends.size)):
        state.background_rate = math.exp(x)
        for _ in range(5):
            rates.update_background(chain)
        ends[run] = math.log(state.background_rate)
    assert ks_p(ends, grid.cdf) > ALPHA
    jacobian_forgotten = Grid(lambda x: log_density(x, shift=1.0), -20.0, 6.0)
    assert ks_p(ends, jacobian_forgotten.cdf) < CAUGHT


def test_flat_total_keeps_its_density(rng):
    chain = problem(rng, prior="flat")
    chain.model = replace(chain.model, total_prior=(1.5, 0.05))
    state = chain.state
    pairs = [(r / state.total, n, e) for r, n, e in dense_pairs(chain, THREE, state.theta)]

    def log_density(x, wrong=0.0):
        scaled = [(p * math.exp(x), n, e * (1.0 - wrong)) for p, n, e in pairs]
        value = naive.log_rate_target(scaled, state.b)
        return value + log_gamma_density(math.exp(x), (1.5, 0.05))

    grid = Grid(log_density, -3.0, 6.0, 600)
    ends = np.empty(6000)
    for run, x in enumerate(grid.draw(rng, ends.size)):
        state.total = math.exp(x)
        for _ in range(3):
            refresh_shape(chain)
            communities.draw_flat_total(chain)
        ends[run] = math.log(state.total)
    assert ks_p(ends, grid.cdf) > ALPHA
    assert ks_p(ends, Grid(lambda x: log_density(x, wrong=0.5), -3.0, 7.0, 600).cdf) < CAUGHT


@pytest.mark.parametrize("balance", [True, False])
def test_total_is_drawn_from_its_gamma_distribution(rng, balance):
    chain = problem(rng, balance_exposure=balance)
    chain.model = replace(chain.model, total_prior=(1.5, 0.05))
    state = chain.state
    communities.draw_tokens(chain)
    pairs = dense_pairs(chain, THREE, state.theta)
    if balance:
        full = [naive.exposure([s], u, -9, None, float) for s in THREE for _, u in s.events]
        assert communities.log_max(chain) >= max(math.log1p(e / state.b) for *_, e in pairs)
        assert communities.log_max(chain) <= math.log1p(sum(full) / chain.layout.unit / state.b)
        shape, rate = 1.5 + state.community.size, 0.05 + communities.log_max(chain)
    else:
        mass = sum(r / state.total * math.log1p(e / state.b) for r, _, e in pairs)
        shape, rate = 1.5 + state.n_real, 0.05 + mass
    drawn = []
    for _ in range(4000):
        communities.draw_total(chain)
        drawn.append(state.total)
    assert ks_p(drawn, stats.gamma(shape, scale=1.0 / rate).cdf) > ALPHA
    assert ks_p(drawn, stats.gamma(shape + 1.0, scale=1.0 / rate).cdf) < CAUGHT


@pytest.mark.parametrize("delay", ["exponential", "rayleigh"])
def test_nu_is_drawn_from_its_gamma_distribution(rng, delay):
    chain = problem(rng, likelihood="tree", delay=delay)
    state, layout = chain.state, chain.layout
    shape, rate = chain.model.nu_prior
    for row in range(layout.n_infections):
        if layout.cand_ptr[row] < layout.cand_ptr[row + 1]:
            d = layout.cand_delay[layout.cand_ptr[row] + state.choice[row]]
            shape, rate = shape + 1.0, rate + naive.cumulative_hazard(delay, (), float(d))
    drawn = []
    for _ in range(4000):
        rates.update_nu(chain)
        drawn.append(state.nu)
    assert ks_p(drawn, stats.gamma(shape, scale=1.0 / rate).cdf) > ALPHA
    assert ks_p(drawn, stats.gamma(shape - 1.0, scale=1.0 / rate).cdf) < CAUGHT
    assert np.all(state.cand_weight > 0.0)


# ------------------------------------------------------------------- concentrations and popularity


@pytest.mark.parametrize("null", [True, False])
@pytest.mark.parametrize("eta", [(5, 9, 2, 0), (3, 14, 0, 0), (4, 0, 0, 0)])
def test_alpha_keeps_its_density(rng, null, eta):
    chain = problem(rng, null_community=null)
    state = chain.state
    state.eta = np.array(eta if null else (0, *eta[1:]), np.int64)
    a0, (shape, rate) = float(null), chain.model.alpha_prior
    n_tokens = int(state.eta.sum())

    def log_density(x, off=0):
        alpha = math.exp(x)
        value = math.lgamma(alpha + a0) - math.lgamma(alpha + a0 + n_tokens + off)
        value += sum(math.lgamma(alpha / 3 + n) - math.lgamma(alpha / 3) for n in state.eta[1:])
        return value + log_gamma_density(alpha, (shape, rate)) if n_tokens else shape * x - alpha

    grid = Grid(log_density, -12.0, 4.0)
    ends = np.empty(4000)
    for run, x in enumerate(grid.draw(rng, ends.size)):
        state.alpha = math.exp(x)
        for _ in range(2):
            communities.update_alpha(chain)
        ends[run] = math.log(state.alpha)
    assert ks_p(ends, grid.cdf) > ALPHA
    if eta[2]:  # the seeded bug: every token is a table
        wrong = Grid(lambda x: log_density(x) + x, -12.0, 5.0)
        assert ks_p(ends, wrong.cdf) < CAUGHT


def popularity_changes(rng, chain, runs: int, update) -> dict[str, float]:
    """z of the mean change of functions of tau, gamma, beta and counts drawn from the model."""
    state, base, n_nodes = chain.state, chain.base, chain.layout.n_nodes
    eta = np.array([3, 6, 2, 0], np.int64)

    def functions():
        s = state.sent[:, 1:]
        distinct = np.count_nonzero(s) + np.count_nonzero(state.received[:, 1:])
        used = np.count_nonzero(state.beta > 1.0 / (2 * n_nodes))
        return {
            "log tau": math.log(state.tau),
            "log gamma": math.log(state.gamma),
            "tau": state.tau,
            "gamma": state.gamma,
            "first": state.beta[0],
            "concentration": (state.beta**2).sum(),
            "popular": float(used),
            "tau and counts": math.log(state.tau) * distinct,
            "gamma and popularity": math.log(state.gamma) * (state.beta**2).sum(),
            "popularity and counts": float(state.beta @ s.sum(axis=1)),
        }

    changes = {name: np.empty(runs) for name in functions()}
    for run in range(runs):
        state.gamma = rng.gamma(1.0, n_nodes)
        state.tau = rng.gamma(1.0, n_nodes)
        log_beta = communities.log_dirichlet(rng, state.gamma * base)
        state.beta = np.maximum(np.exp(log_beta), communities.BETA_FLOOR)
        state.eta = eta
        for name in ("sent", "received"):
            counts = np.zeros((base.size, eta.size), np.int64)
            for k, size in enumerate(eta):
                for _ in range(size):
                    weight = counts[:, k] + (base if k == 0 else state.tau * state.beta)
                    counts[naive.first_above(weight.tolist(), rng.random()), k] += 1
            setattr(state, name, counts)
        before = functions()
        update(chain)
        for name, value in functions().items():
            changes[name][run] = value - before[name]
    return {
        name: float(x.mean() / x.std() * math.sqrt(runs)) for name, x in changes.items() if x.any()
    }


def popularity_chain(rng, reserve: float) -> Chain:
    model = Model(get_delay("exponential"), truncation=3, reserve=reserve)
    chain = Chain(build_layout(naive.cascades_of(TWO, 3)), model, rng)
    chain.holding = False
    return chain


@pytest.mark.parametrize("reserve", [0.0, 0.3])
def test_popularity_and_its_concentrations_keep_the_joint_distribution(rng, reserve):
    chain = popularity_chain(rng, reserve)
    z = popularity_changes(rng, chain, 3000, communities.update_popularity)
    assert len(z) == 10
    assert max(map(abs, z.values())) < LIMIT, z


def seated_alone(rng, counts, concentration):
    """Seeded bug: every customer opens a table."""
    return counts.astype(np.int64)


def one_too_many(chain: Chain) -> None:
    """Seeded bug: each community counts a token that it does not have."""
    chain.state.eta = chain.state.eta + (chain.state.eta > 0)
    communities.update_popularity(chain)


def test_wrong_tables_and_counts_are_noticed(rng, monkeypatch):
    """Negative control of the test above."""
    chain = popularity_chain(rng, 0.0)
    z = popularity_changes(rng, chain, 3000, one_too_many)
    assert max(map(abs, z.values())) > LIMIT, z
    monkeypatch.setattr(communities, "_tables", seated_alone)
    z = popularity_changes(rng, chain, 3000, communities.update_popularity)
    assert max(map(abs, z.values())) > 8.0, z


@pytest.mark.parametrize("null", [True, False])
def test_concentrations_may_become_tiny(rng, null):
    """Beta(a, n) is below the smallest float in half the draws at a = 0.001."""
    chain = problem(rng, null_community=null)
    communities.draw_tokens(chain)
    state = chain.state
    for _ in range(200):
        state.alpha, state.tau, state.gamma = 1e-4, 1e-3, 1e-3
        communities.update_alpha(chain)
        communities.update_popularity(chain)
        communities.draw_network(chain)
        assert broken_invariants(chain) == []


# ------------------------------------------------------------------------------------ the network


def log_beta_cdf(log_x, a, b):
    """P(X <= x), X ~ Beta(a, b), from log x: for a tiny `a` most x are no floats."""
    log_x = np.asarray(log_x)
    small = log_x < -30.0
    tail = np.exp(a * log_x - math.log(a) - betaln(a, b))
    return np.where(small, tail, stats.beta.cdf(np.exp(np.where(small, 0.0, log_x)), a, b))


@pytest.mark.parametrize("concentration", [(1e-3, 2e-3, 1e-3), (0.4, 3.0, 50.0), (1e-6, 1.0, 2.0)])
def test_dirichlet_draws_in_logs(rng, concentration):
    a = np.array(concentration)
    drawn = communities.log_dirichlet(rng, np.repeat(a[:, None], 5000, axis=1))
    assert np.isfinite(drawn).all()
    np.testing.assert_allclose(np.exp(drawn).sum(axis=0), 1.0, rtol=1e-12)
    for row, part in zip(drawn, a, strict=True):
        rest = a.sum() - part
        inside = row < -1e-9  # nearer to 1 a logarithm has no digits
        share = float(log_beta_cdf(-1e-9, part, rest))
        assert stats.binomtest(int(inside.sum()), row.size, share).pvalue > ALPHA
        assert (
            ks_p(row[inside], lambda x, p=part, q=rest, s=share: log_beta_cdf(x, p, q) / s) > ALPHA
        )
    below = drawn[0][drawn[0] < -1e-9]
    wrong = 1.5 * a[0], a.sum() - a[0]
    assert ks_p(below, lambda x: log_beta_cdf(x, *wrong) / log_beta_cdf(-1e-9, *wrong)) < CAUGHT


@pytest.mark.parametrize("null", [True, False])
def test_network_is_drawn_from_its_dirichlet_distributions(rng, null):
    chain = problem(rng, null_community=null)
    state = chain.state
    state.alpha, state.tau = 1.5, 2.5
    state.beta = np.array([0.1, 0.2, 0.3, 0.4])
    state.eta = np.array([3 if null else 0, 5, 1], np.int64)
    state.sent, state.received = rng.integers(3, size=(2, 4, 3))
    weights, senders, receivers = [], [], []
    for _ in range(3000):
        communities.draw_network(chain)
        assert (state.sender[:, 0] == chain.base).all() and (state.receiver[:, 0] == 0.25).all()
        weights.append(state.weight)
        senders.append(state.sender)
        receivers.append(state.receiver)

    def check(drawn, concentration):
        rest = concentration.sum() - concentration
        for x, a, b in zip(np.transpose(drawn), concentration, rest, strict=True):
            assert ks_p(x, stats.beta(a, b).cdf) > ALPHA
            assert ks_p(x, stats.beta(a + 1.0, b).cdf) < CAUGHT

    live = slice(0 if null else 1, None)
    check(np.array(weights)[:, live], (np.array([1.0, 0.75, 0.75]) + state.eta)[live])
    assert null or (np.array(weights)[:, 0] == 0.0).all()
    for k in (1, 2):
        check(np.array(senders)[:, :, k], 2.5 * state.beta + state.sent[:, k])
        check(np.array(receivers)[:, :, k], 2.5 * state.beta + state.received[:, k])
