"""Simulated cascades follow the posterior's own predictive law; forecasts are their summaries."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

import cascadenet as cn
from cascadenet.inference.forecast import _kernels
from cascadenet.inference.forecast.laws import draw_laws
from cascadenet.inference.forecast.likelihood import predictive_draws
from cascadenet.inference.forecast.live_edges import Emitter
from cascadenet.posterior import Posterior
from tests import naive_forecast
from tests.test_forecast_likelihood import remembering
from tests.test_posterior import N_NODES, fitted, in_unit, relabelled, some_cascades

ROOT = Path(__file__).resolve().parent.parent
SHORT = {"draws": 4, "tune": 12, "chains": 1}
SETTINGS = {
    "hdp": {},
    "flat": {"prior": "flat", "delay": "rayleigh"},
    "background": {"background": True, "delay": "decay"},
    "capped": {"max_candidates": 2, "delay": "weibull"},
    "capped, background": {"max_candidates": 1, "delay": "lognormal", "background": True},
    "dead time": {"delay": "powerlaw", "background": True},
    "open world": {"open_world": 0.3, "null_community": False},
}
PREFIX = [(0, 1.0), (3, 1.5), (7, 1.5), (2, 1.9)]


@pytest.fixture(scope="module")
def cascades(seed) -> cn.Cascades:
    return some_cascades(seed)


@pytest.fixture(scope="module", params=SETTINGS)
def posterior(request, cascades, seed) -> Posterior:
    return fitted(cascades, seed, SHORT, **SETTINGS[request.param])


@pytest.fixture(scope="module")
def plain(cascades, seed) -> Posterior:
    return fitted(cascades, seed, SHORT)


def one_draw(posterior: Posterior, i: int) -> Posterior:
    """The same with one of its network draws only."""
    other = copy.copy(posterior)
    other.networks = [posterior.networks[i]]
    return other


def slower(posterior: Posterior) -> Posterior:
    """The same with rates that are lower by two thirds a priori."""
    other = copy.copy(posterior)
    other.networks = [
        network | {name: network[name] * 3.0 for name in ("b", "ground_rate")}
        for network in posterior.networks
    ]
    return other


def density(posterior: Posterior, cascades: cn.Cascades) -> np.ndarray:
    return predictive_draws(posterior, cascades)[0][0]


# ------------------------------------------------------------------------------------ the exact law


def overlap_score(a: Posterior, b: Posterior, from_a, from_b, shift: float = 0.0) -> float:
    """z score of the difference of two estimates of the integral of p_a p_b / (p_a + p_b).

    It is the mean of p_b / (p_a + p_b) over cascades from a, and of p_a / (p_a + p_b) over cascades
    from b. ``shift``: log of the ratio of both laws' densities of what the cascades start with.
    """
    first = 1.0 / (1.0 + np.exp(density(a, from_a) - density(b, from_a) - shift))
    second = 1.0 / (1.0 + np.exp(density(b, from_b) - density(a, from_b) + shift))
    se = math.sqrt(first.var() / first.size + second.var() / second.size)
    return float((first.mean() - second.mean()) / se)


def test_cascades_are_simulated_from_the_predictive_density(posterior, seed):
    """Two laws, the integral from either side: it differs where what is simulated is not what the
    density says. |z| < 4: false alarm 6e-5. Negative control: cascades of one law only."""
    a, b = one_draw(posterior, 0), slower(one_draw(posterior, 3))
    from_a = a.simulate([0, 8], 1.5, size=3000, seed=seed)
    from_b = b.simulate([0, 8], 1.5, size=3000, seed=seed + 1)
    assert abs(overlap_score(a, b, from_a, from_b)) < 4.0
    other = b.simulate([0, 8], 1.5, size=3000, seed=seed + 2)
    assert abs(overlap_score(a, b, other, from_b)) > 6.0


def test_what_has_happened_is_conditioned_on(posterior, seed):
    """The same from a prefix, its density up to the present divided out. |z| < 4: false alarm
    6e-5. Negative control: it is wrong by a factor of 1.6."""
    a, b = one_draw(posterior, 0), slower(one_draw(posterior, 3))
    from_a = a.simulate(PREFIX, 1.5, size=3000, seed=seed)
    from_b = b.simulate(PREFIX, 1.5, size=3000, seed=seed + 1)
    node, time = zip(*sorted(PREFIX, key=lambda x: (x[1], x[0])), strict=True)
    seen = cn.Cascades.from_arrays(range(N_NODES), [0, 4], node, time, 1.9)
    shift = float(density(a, seen)[0] - density(b, seen)[0])
    assert abs(overlap_score(a, b, from_a, from_b, shift)) < 4.0
    assert abs(overlap_score(a, b, from_a, from_b, shift + 0.5)) > 6.0


@pytest.mark.parametrize("delay", ["exponential", "rayleigh", "weibull", "decay", "lognormal"])
def test_two_nodes_have_the_closed_law(seed, delay):
    """Time of infection of the only other node, given that it was not yet infected after 0.4:
    Kolmogorov-Smirnov p > 1e-4 is its false-alarm rate; without the condition it fails."""
    data = cn.Cascades.from_arrays(
        ["a", "b"], [0, 2, 3, 5], [0, 1, 0, 0, 1], [0, 0.3, 0, 0, 0.9], 1.0
    )
    posterior = one_draw(fitted(data, seed, SHORT, delay=delay), 0)
    rates = naive_forecast.Rates(posterior, posterior.networks[0])
    shape, rate = rates.law(0, 1)
    now, within, unit = 0.4, 2.0, posterior.unit
    result = posterior.spread([("a", 0.0)], within, draws=4000, seed=seed, now=now)
    made = posterior.simulate([("a", 0.0)], within, size=4000, seed=seed)
    later = made.time[made.time > 0.0]

    def survival(t: np.ndarray, seen: float) -> np.ndarray:
        dose = np.array([rates.dose(x / unit) for x in np.ravel(t)])
        before = rate + rates.dose(seen / unit)
        return (before / (rate + dose)) ** shape

    prob = 1.0 - survival([now + within], now)[0]
    se = math.sqrt(prob * (1.0 - prob) / 4000)
    assert abs(result.nodes.prob[0] - prob) < 4.0 * se
    assert result.sizes.mean() == pytest.approx(1.0 + result.nodes.prob[0])
    whole = 1.0 - survival([within], 0.0)[0]
    assert kstest(later, lambda t: (1.0 - survival(t, 0.0)) / whole).pvalue > 1e-4
    row = result.nodes.iloc[0]
    for value, q in ((row.time_low, 0.03), (row.time, 0.5), (row.time_high, 0.97)):
        found = (1.0 - survival([value], now)[0]) / prob
        assert abs(found - q) < 5.0 * math.sqrt(q * (1.0 - q) / (4000 * prob))


@pytest.mark.jit_off
@pytest.mark.parametrize("kind", ["hdp", "flat", "remembering"])
def test_firings_of_pairs_are_poisson_with_the_mass_of_the_law(plain, cascades, seed, kind):
    """Expected firings of each pair, unlisted ones too: chi-square of all pairs within five of its
    standard deviations (false alarm below 1e-5, fewer rounds when interpreted). Control: masses of
    sources exchanged."""
    rounds = 40 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 4000
    plain = fitted(cascades, seed, SHORT, prior="flat") if kind == "flat" else plain
    plain = remembering(plain, seed) if kind == "remembering" else plain
    laws = draw_laws(plain, plain.networks[0])
    emitter = Emitter(laws, 3.0)
    rng = np.random.default_rng(seed)
    source = np.tile(np.arange(N_NODES, dtype=np.int32), rounds)
    ptr, target, dose = emitter.emit(source, rng)
    assert (dose < emitter.dose_max * (1.0 + 1e-12)).all()
    count = np.zeros((N_NODES, N_NODES))
    np.add.at(count, (np.repeat(source, np.diff(ptr)), target), 1.0)
    rates = naive_forecast.Rates(plain, plain.networks[0])
    expected = np.zeros_like(count)
    for u in range(N_NODES):
        for v in range(N_NODES):
            if u != v:
                shape, rate = rates.law(u, v)
                expected[u, v] = rounds * shape * math.log1p(rates.dose(3.0) / rate)
    assert (np.diag(count) == 0.0).all()
    listed = set(zip(plain.pair_source, plain.pair_target, strict=True))
    unlisted = [(u, v) for u, v in zip(*np.nonzero(expected), strict=True) if (u, v) not in listed]
    assert len(unlisted) > 10

    def chi_square(expected: np.ndarray) -> float:
        keep = expected > 0.0
        terms = (count - expected)[keep] ** 2 / expected[keep]
        # a Poisson count's square has kurtosis 1 / mean more than a normal one's
        variance = (2.0 + 1.0 / expected[keep]).sum()
        return float((terms.sum() - keep.sum()) / math.sqrt(variance))

    assert abs(chi_square(expected)) < 5.0
    assert chi_square(np.roll(expected, 1, axis=(0, 1))) > 10.0


def test_sources_act_on_so_many_later_infections_only(seed):
    """With max_candidates=1 every infection is by the one before: along a chain of three nodes
    whose only strong rates lead from the first, the last is hardly reached."""
    item_of = np.array([[0, 1, 2, -1]], np.int32)
    ptr = np.array([0, 2, 2, 2])
    target, delay = np.array([1, 2], np.int32), np.array([1.0, 2.0])
    start = (np.array([0, 1]), np.array([0], np.int32), np.zeros(1))
    for limit, expected in ((1, [0, 1]), (2, [0, 1, 2])):
        count, node, time = np.empty(1, np.int64), np.empty((1, 3), np.int32), np.empty((1, 3))
        _kernels.spread(
            np.arange(1), *start, np.array([9.0]), limit, item_of, ptr, target, delay,
            count, node, time,
        )  # fmt: skip
        assert node[0, : count[0]].tolist() == expected


# ------------------------------------------------------------------------------------ the forecast


def test_forecast_summarises_the_simulation(plain, seed):
    result = plain.spread(PREFIX, 1.0, draws=400, seed=seed)
    assert result.end == 2.9
    assert result.sizes.shape == (400,)
    assert set(result.nodes.node) == set(range(N_NODES)) - {0, 2, 3, 7}
    assert result.nodes.prob.is_monotonic_decreasing
    assert result.nodes.prob.sum() + 4.0 == pytest.approx(result.sizes.mean())
    reached = result.nodes[result.nodes.prob > 0.0]
    assert (reached.time_low <= reached.time).all()
    assert (reached.time <= reached.time_high).all()
    assert reached.time_low.min() > 1.9
    assert reached.time_high.max() <= 2.9
    row = result.summary().iloc[0]
    assert row["mean"] == result.sizes.mean()
    assert row["se"] == pytest.approx(result.sizes.std(ddof=1) / 20.0)
    assert row["low"] <= row["median"] <= row["high"]
    law = result.size_distribution()
    assert law.prob.sum() == pytest.approx(1.0)
    assert law.at_least[0] == pytest.approx(1.0)
    assert (law["size"] * law.prob).sum() == pytest.approx(result.sizes.mean())
    frame = pd.DataFrame(PREFIX, columns=["node", "time"])
    again = plain.spread(frame, 1.0, draws=400, seed=seed)
    pd.testing.assert_frame_equal(again.nodes, result.nodes)


def test_waiting_makes_further_infections_less_likely(plain, seed):
    sizes = [
        plain.spread([0], 1.0, draws=1000, seed=seed, now=now).sizes.mean()
        for now in (0.0, 2.0, 30.0)
    ]
    assert sizes[0] > sizes[1] + 0.1 > sizes[2] + 0.2


def test_forecasts_for_ever_need_a_finite_total_hazard(cascades, seed):
    fading = fitted(cascades, seed, SHORT, delay="decay")
    ever = fading.spread([0], math.inf, draws=300, seed=seed)
    long = fading.spread([0], 1e9, draws=300, seed=seed)
    assert ever.end == math.inf
    assert abs(ever.sizes.mean() - long.sizes.mean()) < 1.0
    for settings in ({}, {"delay": "decay", "background": True}):
        with pytest.raises(ValueError, match="within must be finite for"):
            fitted(cascades, seed, SHORT, **settings).spread([0], math.inf)


def test_the_unit_of_time_is_the_users(cascades, seed):
    """Not the same bytes: within a standard error of each other times four."""
    for delay in ("exponential", "powerlaw"):
        hours = fitted(cascades, seed, SHORT, delay=delay).spread(PREFIX, 1.0, seed=seed)
        seconds = fitted(in_unit(cascades, 3600.0), seed, SHORT, delay=delay).spread(
            [(node, 3600.0 * t) for node, t in PREFIX], 3600.0, seed=seed
        )
        assert seconds.end == pytest.approx(3600.0 * hours.end)
        gap = abs(seconds.sizes.mean() - hours.sizes.mean())
        assert gap < 4.0 * math.sqrt(2.0) * hours.summary().se[0]


def test_simulated_cascades_are_cascades(posterior, seed):
    made = posterior.simulate([5, 1], 2.5, size=7, seed=seed)
    assert made.labels == tuple(range(7))
    assert made.nodes == posterior.nodes
    assert (made.horizon == 2.5).all()
    assert (made.start == 0.0).all()
    for c in range(7):
        assert made.node[made.offset[c] : made.offset[c] + 2].tolist() == [1, 5]
    prefix = posterior.simulate(PREFIX, 1.0, size=3, seed=seed)
    assert (prefix.horizon == 2.9).all()
    assert (np.diff(prefix.offset) >= 4).all()
    later = np.concatenate(
        [prefix.time[a + 4 : b] for a, b in zip(prefix.offset, prefix.offset[1:], strict=False)]
    )
    assert (later >= 1.9).all()


def test_labels_are_used(cascades, seed):
    names = [f"n{i:02d}" for i in range(N_NODES)]
    plain = fitted(cascades, seed, SHORT).spread([0], 1.0, draws=50, seed=1)
    named = fitted(relabelled(cascades, names), seed, SHORT).spread(["n00"], 1.0, draws=50, seed=1)
    assert named.nodes.node.tolist() == [names[i] for i in plain.nodes.node]
    np.testing.assert_array_equal(named.sizes, plain.sizes)


# ------------------------------------------------------------------------------------- determinism


def forecast_digests(seed: int) -> list[str]:
    """Fingerprints of everything that is drawn."""
    data = some_cascades(seed, 12)
    found = []
    for settings in ({"background": True, "delay": "decay"}, {"prior": "flat"}):
        posterior = fitted(data, seed, {"draws": 2, "tune": 2, "chains": 1}, **settings)
        made = posterior.simulate([0, 3], 1.0, size=5, seed=seed)
        digest = hashlib.sha256(made.fingerprint.encode())
        digest.update(predictive_draws(posterior, made)[0].tobytes())
        digest.update(posterior.spread([(1, 0.0)], 1.0, draws=6, seed=seed).sizes.tobytes())
        for table in (
            posterior.influence(1.0, samples=4, seed=seed),
            posterior.seed_set(3, 1.0, samples=4, seed=seed),
            posterior.check(data, replicates=3, seed=seed).replicates,
        ):
            digest.update(table.to_csv().encode())
        found.append(digest.hexdigest())
    return found


def test_results_are_the_same_bytes_with_and_without_the_jit(seed):
    """And again in another process, whatever its threads."""
    found = []
    for disable in ("0", "1"):
        code = (
            "import json, warnings; warnings.simplefilter('ignore')\n"
            "from tests.test_forecast_spread import forecast_digests\n"
            f"print(json.dumps(forecast_digests({seed})))"
        )
        environment = {**os.environ, "NUMBA_DISABLE_JIT": disable, "PYTHONPATH": str(ROOT)}
        environment["NUMBA_NUM_THREADS"] = "1" if disable == "1" else "2"
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=environment, cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        found.append(json.loads(run.stdout))
    assert found[0] == found[1]
    assert forecast_digests(seed) == found[0]
    assert forecast_digests(seed + 1) != found[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.spread([], 1.0), "prefix must hold at least one infection; got none"),
        (lambda p: p.spread([99], 1.0), "nodes in prefix must be nodes of the posterior; got 99"),
        (lambda p: p.spread("abc", 1.0), "expected node labels, or"),
        (lambda p: p.spread(3, 1.0), "expected node labels, or"),
        (lambda p: p.spread([0], 0.0), "within must be positive; got 0.0"),
        (lambda p: p.spread([0], "x"), "within must be a number; got 'x'"),
        (lambda p: p.spread([0], 1.0, draws=0), "draws must be a positive integer; got 0"),
        (lambda p: p.spread([(0, 1.0)], 1.0, now=0.5), "now must be finite and not before"),
        (lambda p: p.simulate([0], math.inf), "within must be positive and finite; got inf"),
        (lambda p: p.simulate([0], 1.0, size=1.5), "size must be a positive integer; got 1.5"),
    ],
)
def test_wrong_arguments_are_named(plain, call, message):
    with pytest.raises(ValueError, match=message):
        call(plain)


def test_a_tree_says_nothing_about_when(cascades, seed):
    tree = fitted(cascades, seed, SHORT, likelihood="tree")
    for name in ("spread", "simulate"):
        with pytest.raises(ValueError, match=f"{name} needs likelihood='survival'; got 'tree'"):
            getattr(tree, name)([0], 1.0)
