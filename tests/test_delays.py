"""Delay models: hazard, cumulative hazard, inverse, units, priors and tails."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.integrate import nquad, quad
from scipy.stats import lognorm

from cascadenet.delays import DELAYS, Delay, get_delay

NAMES = ("exponential", "rayleigh", "powerlaw", "weibull", "decay", "lognormal")

# Written out from the table of models, in plain Python: h(D), H(D).
NAIVE = {
    "exponential": (lambda d: 1.0, lambda d: d),
    "rayleigh": (lambda d: d, lambda d: d * d / 2),
    "powerlaw": (
        lambda d, delta: 1 / d if d > delta else 0.0,
        lambda d, delta: math.log(d / delta) if d > delta else 0.0,
    ),
    "weibull": (lambda d, k: k * d ** (k - 1), lambda d, k: d**k),
    "decay": (lambda d, w: w * math.exp(-w * d), lambda d, w: 1 - math.exp(-w * d)),
    "lognormal": (
        lambda d, mu, s: lognorm.pdf(d, s, scale=math.exp(mu)),
        lambda d, mu, s: lognorm.cdf(d, s, scale=math.exp(mu)),
    ),
}

_positive = st.floats(math.log(0.2), math.log(5.0)).map(math.exp)
THETA = {
    "exponential": st.tuples(),
    "rayleigh": st.tuples(),
    "powerlaw": st.tuples(st.floats(1e-3, 1.0)),
    "weibull": st.tuples(_positive),
    "decay": st.tuples(_positive),
    "lognormal": st.tuples(st.floats(-2.0, 2.0), _positive),
}
delays = st.floats(math.log(1e-6), math.log(1e3)).map(math.exp)
each_model = pytest.mark.parametrize("delay", DELAYS.values(), ids=DELAYS)


def test_names_are_the_documented_ones() -> None:
    assert tuple(DELAYS) == NAMES


@each_model
@given(data=st.data(), d=delays)
def test_matches_the_table(delay: Delay, data: st.DataObject, d: float) -> None:
    theta = data.draw(THETA[delay.name])
    hazard, cumulative = NAIVE[delay.name]
    with np.errstate(divide="ignore"):
        expected = np.log(hazard(d, *theta))
    if expected > -700:  # below, the naive density underflows and the log hazard must not
        assert delay.log_hazard(d, theta) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    elif delay.name != "powerlaw":
        assert -math.inf < delay.log_hazard(d, theta) < -690
    else:
        assert delay.log_hazard(d, theta) == -math.inf
    assert delay.cumulative(d, theta) == pytest.approx(cumulative(d, *theta), rel=1e-9, abs=1e-12)


@each_model
@given(data=st.data(), d=st.floats(0.05, 20.0))
def test_hazard_is_the_derivative(delay: Delay, data: st.DataObject, d: float) -> None:
    theta = data.draw(THETA[delay.name])
    step = 1e-5 * d
    if delay.name == "powerlaw":
        assume(abs(d - theta[0]) > 2 * step)  # the hazard jumps there
    low, high = delay.cumulative(np.array([d - step, d + step]), theta)
    # The difference of two H carries their rounding, about 1e-16 H / step.
    slack = 1e-15 * max(high, 1.0) / step
    assert (high - low) / (2 * step) == pytest.approx(
        np.exp(delay.log_hazard(d, theta)), rel=1e-6, abs=slack
    )


def test_derivative_test_sees_a_wrong_hazard() -> None:
    """Negative control: the hazard of k = 1.01 is not the derivative of H at k = 1."""
    low, high = DELAYS["weibull"].cumulative(np.array([2 - 1e-5, 2 + 1e-5]), (1.0,))
    wrong = np.exp(DELAYS["weibull"].log_hazard(2.0, (1.01,)))
    assert (high - low) / 2e-5 != pytest.approx(wrong, rel=1e-6)


@each_model
@given(data=st.data(), x=st.floats(math.log(1e-12), math.log(30.0)).map(math.exp))
def test_inverse_undoes_cumulative(delay: Delay, data: st.DataObject, x: float) -> None:
    theta = data.draw(THETA[delay.name])
    total = float(delay.cumulative(np.inf, theta))
    d = delay.inverse_cumulative(x, theta)
    if x >= total:
        assert d == np.inf
    else:
        assert 0 < d < np.inf
        assert delay.cumulative(d, theta) == pytest.approx(x, rel=1e-8)


@each_model
@given(data=st.data(), d=st.floats(1e-3, 50.0), unit=st.floats(1e-4, 1e5))
def test_units_leave_rate_times_cumulative_alone(
    delay: Delay, data: st.DataObject, d: float, unit: float
) -> None:
    theta = np.array(data.draw(THETA[delay.name]))
    rate = 0.7
    user_theta = delay.rescale(theta, unit)
    user_rate = rate / unit ** delay.rate_exponent(theta)
    assert user_rate * delay.cumulative(unit * d, user_theta) == pytest.approx(
        rate * delay.cumulative(d, theta), rel=1e-8, abs=1e-12
    )
    assert delay.rate_exponent(user_theta) == delay.rate_exponent(theta)
    assert delay.rescale(user_theta, 1 / unit) == pytest.approx(theta, abs=1e-9)


@each_model
@given(data=st.data())
def test_unconstrained_round_trip(delay: Delay, data: st.DataObject) -> None:
    theta = np.array(data.draw(THETA[delay.name]))
    phi = delay.to_unconstrained(theta)
    assert phi.shape == theta.shape == (len(delay.parameters),)
    assert delay.from_unconstrained(phi) == pytest.approx(theta)
    assert np.all(delay.from_unconstrained(np.full(theta.shape, -50.0))[list(delay.positive)] > 0)


@each_model
def test_prior_is_a_density_and_start_is_plausible(delay: Delay) -> None:
    at_start = delay.log_prior_unconstrained(delay.to_unconstrained(delay.default()))
    if not delay.parameters:
        assert at_start == 0.0
        return
    box = [(m - 12 * s, m + 12 * s) for m, s in delay.prior]
    mass, _ = nquad(lambda *phi: math.exp(delay.log_prior_unconstrained(np.array(phi))), box)
    assert mass == pytest.approx(1.0, abs=1e-6)
    peak = delay.log_prior_unconstrained(np.array([m for m, _ in delay.prior]))
    assert peak - at_start < 2.0  # within two standard deviations of the centre


@each_model
def test_arrays_keep_their_shape_and_are_not_changed(delay: Delay) -> None:
    theta = delay.default()
    d = np.array([[0.3, 2.0, 5.0], [0.1, 1.0, 0.7]])
    before = d.copy()
    for method in (delay.log_hazard, delay.cumulative, delay.inverse_cumulative):
        result = method(d, theta)
        assert result.shape == d.shape and result.dtype == np.float64
        assert not np.shares_memory(result, d)
        assert result[1, 2] == method(0.7, theta) == method([0.7], theta)[0]
        assert method(np.empty(0), theta).shape == (0,)
    assert np.array_equal(d, before)


@each_model
@pytest.mark.parametrize("spread", [0.05, 1.0, 3.0])
def test_tails_are_finite(delay: Delay, spread: float) -> None:
    """Delays over 24 orders of magnitude, without a warning."""
    theta = delay.default()
    theta[list(delay.positive)] *= spread
    d = np.logspace(-12, 12, 49)
    with np.errstate(all="raise", under="ignore"):
        log_hazard = delay.log_hazard(d, theta)
        cumulative = delay.cumulative(np.append(0.0, d), theta)
    if delay.name == "powerlaw":
        assert np.array_equal(log_hazard == -np.inf, d <= theta[0])
        assert np.array_equal(cumulative[1:] == 0.0, d <= theta[0])
    else:
        assert np.isfinite(log_hazard).all()
    assert cumulative[0] == 0.0
    assert np.isfinite(cumulative).all() and (np.diff(cumulative) >= 0).all()


def test_small_cumulative_keeps_its_digits() -> None:
    """1 - exp(-x) would give 0 here."""
    assert DELAYS["decay"].cumulative(1e-20, (2.0,)) == pytest.approx(2e-20, rel=1e-12)
    assert DELAYS["decay"].inverse_cumulative(2e-20, (2.0,)) == pytest.approx(1e-20, rel=1e-12)
    tail = DELAYS["lognormal"].cumulative(math.exp(-30.0), (0.0, 1.0))
    assert tail == pytest.approx(4.906713927148187e-198, rel=1e-9)  # Phi(-30)


@pytest.mark.parametrize("name", ["decay", "lognormal"])
def test_fading_influence_is_bounded(name: str) -> None:
    delay = DELAYS[name]
    theta = delay.default()
    total, _ = quad(lambda d: math.exp(delay.log_hazard(d, theta)), 0, np.inf)
    assert total == pytest.approx(1.0, abs=1e-6)
    assert delay.cumulative(np.inf, theta) == 1.0
    assert np.all(delay.inverse_cumulative(np.array([1.0, 1.5, np.inf]), theta) == np.inf)


@pytest.mark.parametrize("name", ["exponential", "rayleigh", "powerlaw", "weibull"])
def test_lasting_influence_is_not(name: str) -> None:
    delay = DELAYS[name]
    assert delay.cumulative(np.inf, delay.default()) == np.inf
    assert delay.inverse_cumulative(np.inf, delay.default()) == np.inf


def test_get_delay() -> None:
    assert get_delay("weibull") is DELAYS["weibull"]
    assert get_delay(DELAYS["decay"]) is DELAYS["decay"]
    for wrong in ("Weibull", None, 3, Delay):
        with pytest.raises(ValueError, match="delay must be one of exponential, rayleigh, powerl"):
            get_delay(wrong)


@pytest.mark.parametrize(
    ("name", "theta", "message"),
    [
        ("exponential", [1.0], r"'exponential' must hold no parameters; got 1 value"),
        ("lognormal", [1.0], r"'lognormal' must hold mu, s; got 1 value"),
        ("weibull", [0.0], r"k of the delay 'weibull' must be positive and finite; got 0"),
        ("decay", [np.nan], r"w of the delay 'decay' must be positive and finite; got nan"),
        ("lognormal", [np.inf, 1.0], r"mu of the delay 'lognormal' must be finite; got inf"),
    ],
)
def test_wrong_parameters_are_named(name: str, theta: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DELAYS[name].check_parameters(theta)


def test_parameters_default_and_scalar() -> None:
    assert np.array_equal(DELAYS["weibull"].check_parameters(None), [1.0])
    assert np.array_equal(DELAYS["weibull"].check_parameters(2), [2.0])
    assert DELAYS["lognormal"].check_parameters([-1, 2]).dtype == np.float64


@each_model
def test_pickles(delay: Delay) -> None:
    again = pickle.loads(pickle.dumps(delay))
    assert type(again) is type(delay)
    assert again.cumulative(2.0, delay.default()) == delay.cumulative(2.0, delay.default())


def test_import_loads_numpy_only() -> None:
    code = (
        "import sys, cascadenet.delays, cascadenet.networks, cascadenet.simulate; "
        "print(*{'scipy', 'pandas', 'numba', 'networkx', 'matplotlib'} & set(sys.modules))"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.split() == []
