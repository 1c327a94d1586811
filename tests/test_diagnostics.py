"""R-hat and effective sample size: against ArviZ, against theory, and where they must refuse."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pytest

from cascadenet.inference.diagnostics import ess_bulk, ess_tail, rhat, summarise

STATISTICS = [rhat, ess_bulk, ess_tail]


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def arviz():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("arviz")
    if not all(hasattr(module, name) for name in ("rhat", "ess", "mcse")):
        pytest.skip("this ArviZ has no rhat, ess and mcse to compare with")
    logging.getLogger("arviz").setLevel(logging.ERROR)
    return module


def autoregressive(rng, chains, draws, coefficient, shift=0.0):
    """Stationary AR(1) chains with unit marginal variance; `shift` moves the last chain."""
    noise = rng.standard_normal((chains, draws))
    out = noise.copy()
    scale = np.sqrt(1.0 - coefficient**2)
    for t in range(1, draws):
        out[:, t] = coefficient * out[:, t - 1] + scale * noise[:, t]
    out[-1] += shift
    return out


CASES = {
    "iid": (4, 500, 0.0, 0.0),
    "sticky": (4, 500, 0.9, 0.0),
    "very sticky": (3, 300, 0.99, 0.0),
    "antithetic": (4, 500, -0.7, 0.0),
    "chain means differ": (4, 400, 0.5, 1.5),
    "odd number of draws": (4, 301, 0.5, 0.0),
    "odd and short": (2, 21, 0.3, 0.0),
    "one chain": (1, 400, 0.6, 0.0),
    "one odd chain": (1, 203, -0.4, 0.0),
    "few draws": (5, 8, 0.0, 0.0),
    "a dozen draws": (2, 14, -0.3, 0.0),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("transform", [np.asarray, np.exp], ids=["normal", "lognormal"])
def test_equal_to_arviz(arviz, rng, case, transform):
    chains, draws, coefficient, shift = CASES[case]
    for _ in range(10):
        x = transform(autoregressive(rng, chains, draws, coefficient, shift))
        assert ess_bulk(x) == pytest.approx(float(arviz.ess(x, method="bulk")), rel=1e-10)
        assert ess_tail(x) == pytest.approx(float(arviz.ess(x, method="tail")), rel=1e-10)
        mcse = float(arviz.mcse({"x": x})["x"])
        assert summarise({"x": x}).loc["x", "mcse_mean"] == pytest.approx(mcse, rel=1e-10)
        if chains > 1:
            # ArviZ gives no R-hat for one chain; the next test has its definition
            assert rhat(x) == pytest.approx(float(arviz.rhat(x)), rel=1e-10)


def naive_rhat(x):
    """The definition, one line a step, by scipy's ranks."""
    from scipy import stats

    half = x.shape[1] // 2
    halves = np.vstack([x[:, :half], x[:, -half:]])
    values = []
    for y in (halves, np.abs(halves - np.median(halves))):
        ranks = stats.rankdata(y).reshape(y.shape)
        z = stats.norm.ppf((ranks - 3 / 8) / (y.size + 1 / 4))
        between = half * z.mean(axis=1).var(ddof=1)
        within = z.var(axis=1, ddof=1).mean()
        with np.errstate(divide="ignore", invalid="ignore"):
            values.append(np.sqrt(((half - 1) / half * within + between / half) / within))
    return max(values)


@pytest.mark.parametrize("chains", [1, 2, 4])
@pytest.mark.parametrize("draws", [4, 5, 50, 151])
def test_rhat_is_its_definition(rng, chains, draws):
    for x in (
        rng.standard_normal((chains, draws)),
        rng.integers(0, 4, (chains, draws)) + np.arange(draws) % 2,
    ):
        assert rhat(x) == pytest.approx(naive_rhat(x), rel=1e-12)


@pytest.mark.parametrize("statistic", [ess_bulk, ess_tail])
def test_monotone_transformations_change_nothing(rng, statistic):
    x = autoregressive(rng, 4, 301, 0.6)
    for f in (np.exp, np.cbrt, lambda v: 1e6 + 3.0 * v):
        # ess_tail interpolates its quantile between two draws, in whatever unit: the event is the
        # same set of draws
        assert statistic(f(x)) == pytest.approx(statistic(x), rel=1e-12)


def test_bulk_rhat_is_invariant_and_folded_rhat_to_affine_maps(rng):
    x = autoregressive(rng, 4, 400, 0.3, shift=0.8)
    # location dominates here, so R-hat is its bulk part, a function of ranks alone
    assert rhat(np.exp(x)) == pytest.approx(rhat(x), rel=1e-12)
    x[-1] = 5.0 * (x[-1] - 0.8)
    # powers of two, because rounding decides between the two draws next to the median
    assert rhat(-4.0 * x) == pytest.approx(rhat(x), rel=1e-12)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_order_of_chains_is_irrelevant(rng, statistic):
    x = autoregressive(rng, 4, 200, 0.5, shift=0.3)
    assert statistic(x[[2, 0, 3, 1]]) == pytest.approx(statistic(x), rel=1e-12)


def test_agreeing_chains_pass(rng):
    # Of 4000 simulated sets of 4 x 1000 independent draws the worst had R-hat 1.0036 and ESS 2910
    # and 4470: the false-alarm rate of the ten sets here is far below 1e-3.
    for _ in range(10):
        x = rng.standard_normal((4, 1000))
        assert rhat(x) < 1.01
        assert 2800 < ess_bulk(x) < 5500


@pytest.mark.parametrize(
    "break_chain",
    [
        pytest.param(lambda x: x + np.array([[0], [0], [0], [1.5]]), id="shifted chain"),
        pytest.param(lambda x: x * np.array([[1], [1], [1], [6]]), id="wider chain"),
        pytest.param(lambda x: x + np.linspace(0, 3, x.shape[1]), id="all chains drift alike"),
    ],
)
def test_disagreeing_chains_fail(rng, break_chain):
    """Negative control of the test above."""
    x = rng.standard_normal((4, 1000))
    assert rhat(break_chain(x)) > 1.1


def test_drift_of_a_single_chain_is_seen(rng):
    x = rng.standard_normal((1, 1000))
    assert rhat(x) < 1.02
    assert rhat(x + np.linspace(0, 3, 1000)) > 1.1


@pytest.mark.parametrize(
    ("coefficient", "tolerance"), [(-0.5, 0.18), (0.0, 0.10), (0.5, 0.15), (0.9, 0.37)]
)
def test_ess_of_the_mean_is_that_of_theory(rng, coefficient, tolerance):
    # mcse_mean^2 = var / ESS with ESS = S (1 - rho)/(1 + rho). The tolerances are five relative
    # standard deviations of the estimate at this length (150 simulated sets each): false-alarm
    # rate below 1e-5.
    x = autoregressive(rng, 4, 8000, coefficient)
    row = summarise({"x": x}).loc["x"]
    expected = x.size * (1 - coefficient) / (1 + coefficient)
    assert (row["sd"] / row["mcse_mean"]) ** 2 == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize(
    "draws",
    [
        pytest.param(np.full((4, 100), 2.5), id="constant"),
        pytest.param(np.r_[np.nan, np.zeros(99)].reshape(1, 100), id="nan"),
        pytest.param(np.r_[np.inf, np.arange(99.0)].reshape(2, 50), id="inf"),
        pytest.param(np.arange(6.0).reshape(2, 3), id="three draws"),
        pytest.param(np.empty((4, 0)), id="no draws"),
        pytest.param(np.empty((0, 10)), id="no chains"),
    ],
)
def test_nothing_to_diagnose_is_nan(statistic, draws):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(statistic(draws))


def test_chains_stuck_in_different_places_are_infinitely_bad():
    stuck = np.repeat([[1.0], [2.0], [3.0]], 100, axis=1)
    assert rhat(stuck) == np.inf
    assert ess_bulk(stuck) < 10


def test_counts_whose_largest_value_is_common_have_a_tail(rng):
    """Occupied communities, say: more than 5% of draws at the maximum."""
    x = rng.integers(4, 8, (4, 1000)).astype(float)
    assert np.quantile(x, 0.95) == x.max()
    assert 2500 < ess_tail(x) < 6000
    # a largest value that comes in runs of 50, in a tenth of them: the upper tail alone is sticky
    x[np.repeat(np.arange(80).reshape(4, 20) % 10 == 3, 50, axis=1)] = 9.0
    assert np.quantile(x, 0.95) == x.max()
    assert ess_tail(x) < 400


def test_two_valued_draws_have_finite_diagnostics(rng):
    """Folding maps both values to one; the bulk statistic still speaks."""
    x = np.tile([0.0, 1.0], (4, 100))
    assert np.isfinite(rhat(x))
    x[-1] = rng.integers(0, 2, 200)
    assert np.isfinite([rhat(x), ess_bulk(x), ess_tail(x)]).all()


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_vector_is_one_chain(rng, statistic):
    x = rng.standard_normal(300)
    assert statistic(x) == statistic(x[None])


def test_summary_table(rng):
    draws = {"alpha": rng.gamma(2.0, size=(4, 250)), "constant": np.ones((4, 250))}
    table = summarise(draws)
    assert list(table.index) == ["alpha", "constant"]
    assert list(table.columns) == [
        *["mean", "sd", "q3", "q97"],
        *["ess_bulk", "ess_tail", "rhat", "mcse_mean"],
    ]
    row, x = table.loc["alpha"], draws["alpha"]
    assert row["mean"] == pytest.approx(x.mean())
    assert row["sd"] == pytest.approx(x.std(ddof=1))
    assert (row["q3"], row["q97"]) == pytest.approx(tuple(np.quantile(x, [0.03, 0.97])))
    assert (row["ess_bulk"], row["ess_tail"], row["rhat"]) == (ess_bulk(x), ess_tail(x), rhat(x))
    assert table.loc["constant", ["mean", "sd", "q3", "q97"]].tolist() == [1.0, 0.0, 1.0, 1.0]
    assert table.loc["constant", ["ess_bulk", "ess_tail", "rhat", "mcse_mean"]].isna().all()


def test_summary_of_nothing_and_of_non_finite_draws():
    assert summarise({}).shape == (0, 8)
    assert summarise({"x": [[np.nan, 1.0]]}).isna().all(axis=None)


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        (np.zeros((2, 3, 4)), r"tau must have shape \(chains, draws\); got shape \(2, 3, 4\)"),
        (3.0, r"tau must have shape \(chains, draws\); got shape \(\)"),
        ([["a", "b"]], r"tau must be numbers of shape \(chains, draws\); got list"),
    ],
)
def test_wrong_draws_are_named(draws, message):
    with pytest.raises(ValueError, match=message):
        summarise({"tau": draws})
