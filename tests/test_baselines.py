"""NetRate and CoOccurrence: restated in plain Python, at the maximum, in closed form, on real data.

The oracle `naive` states the likelihood of one cascade after the other, in the user's unit, and
shares with the library only the formulas of the delay models.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from cascadenet import Cascades, metrics, simulate
from cascadenet.delays import get_delay
from cascadenet.errors import FormatError
from cascadenet.inference.baselines import CoOccurrence, NetRate
from cascadenet.posterior import EDGE_COLUMNS

MODELS = [
    ("exponential", None),
    ("rayleigh", None),
    ("powerlaw", [1e-4]),
    ("weibull", [1.4]),
    ("decay", [0.8]),
    ("lognormal", [0.3, 0.9]),
]
SETTINGS = [
    {},
    {"background": True},
    {"shrinkage": (1.0, 0.7)},
    {"shrinkage": (1.5, 2.0)},
    {"max_candidates": 2},
    {"max_candidates": 2, "background": True, "shrinkage": (2.0, 1.0)},
]


def cascades_of(*cascades: dict, horizon: float, nodes=None) -> Cascades:
    """Cascades from one {node: time} each."""
    rows = [(c, node, time) for c, one in enumerate(cascades) for node, time in one.items()]
    frame = pd.DataFrame(rows, columns=["cascade", "node", "time"])
    return Cascades.from_frame(frame, nodes=nodes, horizon=horizon)


def rescaled(cascades: Cascades, factor: float) -> Cascades:
    return Cascades(
        cascades.nodes,
        cascades.labels,
        cascades.offset,
        cascades.node,
        cascades.time * factor,
        cascades.horizon * factor,
    )


@pytest.fixture(scope="module")
def small(seed: int) -> Cascades:
    """30 cascades over 8 nodes, the last never infected."""
    network = simulate.community_network(1, 7, within=0.5, between=0.0, seed=seed)
    data = simulate.simulate_cascades(network, 30, horizon=3.0, seed=seed).cascades
    return Cascades.from_frame(data.to_frame(), nodes=range(8), horizon=3.0)


# -- the oracle -------------------------------------------------------------------------------


class naive:
    """Hazard shapes and exposures of all pairs, (infections, N * N) and (N * N,).

    Pair u, v is column u * N + v; the background of v is column v * N + v.
    """

    def __init__(self, cascades, delay, theta, background=False, max_candidates=None):
        delay, n = get_delay(delay), cascades.n_nodes
        self.rows, self.exposure, self.child = [], np.zeros((n, n)), []
        for c in range(cascades.n_cascades):
            inside = slice(cascades.offset[c], cascades.offset[c + 1])
            who, when = cascades.node[inside], cascades.time[inside]
            end = [cascades.horizon[c]] * len(who)
            if max_candidates is not None:
                for j in range(len(who) - max_candidates):
                    end[j] = when[j + max_candidates]
            at = dict(zip(who, when, strict=True))
            for v in range(n):
                time = at.get(v, math.inf)
                row = np.zeros((n, n))
                for u, start, stop in zip(who, when, end, strict=True):
                    if u != v and start < time:
                        watched = np.array([min(time, stop) - start])
                        self.exposure[u, v] += delay.cumulative(watched, theta)[0]
                        if time <= stop:
                            row[u, v] = math.exp(delay.log_hazard(watched, theta)[0])
                if background and time > when[0]:
                    self.exposure[v, v] += min(time, cascades.horizon[c]) - when[0]
                    row[v, v] = 1.0
                if when[0] < time < math.inf:
                    self.rows.append(row.ravel())
                    self.child.append(v)
        self.rows, self.exposure = np.array(self.rows), self.exposure.ravel()
        self.background = np.eye(n, dtype=bool).ravel()

    def objective(self, rate, shrinkage=None):
        """Log-likelihood, plus the logarithm of the prior, of pairs that could have infected."""
        rate = np.where((self.rows > 0).any(axis=0), rate, 0.0)
        value = np.log(self.rows @ rate).sum() - rate @ self.exposure
        if shrinkage is not None:
            shape, prior_rate = shrinkage
            x = rate[(self.rows > 0).any(axis=0) & ~self.background]
            value -= prior_rate * x.sum()
            if shape > 1.0:
                value += (shape - 1.0) * np.log(x).sum()
        return value

    def gradient(self, rate, shrinkage=None):
        slope = (1.0 / (self.rows @ rate)) @ self.rows - self.exposure
        if shrinkage is not None:
            edge = ~self.background
            slope[edge] += (shrinkage[0] - 1.0) / rate[edge] - shrinkage[1]
        return slope


def rates_of(fit: NetRate, cascades: Cascades) -> np.ndarray:
    """Fitted rates in the columns of `naive`."""
    n = cascades.n_nodes
    rate = np.zeros((n, n))
    pairs = [(u, v) for u in cascades.nodes for v in cascades.nodes if u != v]
    rate[~np.eye(n, dtype=bool)] = fit.edges(pairs=pairs)["rate"]
    if fit.background:
        rate[np.eye(n, dtype=bool)] = fit.background_rates()["rate"]
    return rate.ravel()


def oracle_of(fit: NetRate, cascades: Cascades) -> naive:
    return naive(cascades, fit.delay, fit.theta_, fit.background, fit.max_candidates)


cases = pytest.mark.parametrize(
    ("delay", "theta", "settings"),
    [(*model, {}) for model in MODELS] + [(*MODELS[0], x) for x in SETTINGS[1:]],
)


# -- likelihood and its maximum ---------------------------------------------------------------


@cases
def test_likelihood_is_that_of_the_oracle(small, delay, theta, settings):
    fit = NetRate(delay, theta, **settings).fit(small)
    expected = oracle_of(fit, small).objective(rates_of(fit, small), fit.shrinkage)
    assert fit.log_likelihood_[-1] == pytest.approx(expected, rel=1e-10)


@pytest.mark.filterwarnings("ignore:NetRate stopped after")
@cases
def test_likelihood_never_decreases(small, delay, theta, settings):
    trace = NetRate(delay, theta, **settings, tolerance=1e-13).fit(small).log_likelihood_
    assert trace.size > 10
    assert np.diff(trace).min() >= -1e-12 * abs(trace[0])
    assert trace[-1] > trace[0] + 1.0


@cases
def test_karush_kuhn_tucker(small, delay, theta, settings):
    """No rate can gain by growing, none that matters by shrinking."""
    fit = NetRate(delay, theta, **settings, tolerance=1e-9).fit(small)
    rate, oracle = rates_of(fit, small), oracle_of(fit, small)
    met = rate > 0.0
    slope = oracle.gradient(np.where(met, rate, 1.0), fit.shrinkage)
    usable = oracle.exposure > 0.0
    relative = slope[usable] / (oracle.exposure + (fit.shrinkage or (1.0, 0.0))[1])[usable]
    assert relative[met[usable]].max() <= 1e-6
    assert np.abs((slope * rate)[met]).max() <= 1e-4


def test_an_early_stop_fails_karush_kuhn_tucker(small):
    """Negative control of the test above."""
    with pytest.warns(UserWarning, match="may lack up to"):
        fit = NetRate(max_iterations=1).fit(small)
    slope = oracle_of(fit, small).gradient(rates_of(fit, small))
    assert slope.max() > 1e-2


@pytest.mark.parametrize("settings", SETTINGS)
def test_no_optimiser_finds_more_than_the_bound_allows(small, settings):
    """L-BFGS-B from the fit and from elsewhere, and the bound on what an early stop lacks."""
    fit = NetRate(**settings, tolerance=1e-9).fit(small)
    oracle = oracle_of(fit, small)
    used = (oracle.rows > 0).any(axis=0)

    def lacking(x):
        rate = np.where(used, 0.1, 0.0)
        rate[used] = x
        slope = oracle.gradient(np.where(rate > 0, rate, 1.0), fit.shrinkage)
        return -oracle.objective(rate, fit.shrinkage), -slope[used]

    best = optimize.minimize(
        lacking,
        np.full(used.sum(), 0.1),
        jac=True,
        bounds=[(1e-12, None)] * int(used.sum()),
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10000, "ftol": 1e-14, "gtol": 1e-8},
    )
    assert -best.fun == pytest.approx(fit.log_likelihood_[-1], abs=1e-5)
    for tolerance in (0.1, 0.01, 0.001):
        early = NetRate(**settings, tolerance=tolerance).fit(small)
        missing = fit.log_likelihood_[-1] - early.log_likelihood_[-1]
        assert -1e-9 <= missing <= early.gap_ <= tolerance * 10 * len(oracle.rows)


# -- closed forms -----------------------------------------------------------------------------

PAIR = ({"a": 0.0, "b": 1.0}, {"a": 1.0, "b": 4.0}, {"a": 2.0}, {"b": 0.0}, {"b": 1.0, "a": 3.0})


@pytest.mark.parametrize(
    ("delay", "exposure"),
    [("exponential", 1.0 + 3.0 + 8.0), ("rayleigh", (1.0 + 9.0 + 64.0) / 2.0)],
)
def test_two_nodes_give_count_over_exposure(delay, exposure):
    row = NetRate(delay).fit(cascades_of(*PAIR, horizon=10.0)).edges(pairs=[("a", "b")]).iloc[0]
    rate = 2.0 / exposure
    factor = math.exp(1.880793608151251 / math.sqrt(2.0))
    assert row["n"] == pytest.approx(2.0)
    assert row["prob"] == 1.0
    assert row["rate"] == pytest.approx(rate)
    assert row["rate_sd"] == pytest.approx(rate / math.sqrt(2.0))
    assert row["rate_low"] == pytest.approx(rate / factor)
    assert row["rate_high"] == pytest.approx(rate * factor)


def test_two_nodes_with_a_prior():
    data = cascades_of(*PAIR, horizon=10.0, nodes=["a", "b", "c"])
    fit = NetRate(shrinkage=(1.5, 4.0)).fit(data)
    table = fit.edges(pairs=[("a", "b"), ("b", "a"), ("a", "c"), ("c", "a")]).set_index("target")
    assert table.loc["b", "rate"] == pytest.approx(2.5 / 16.0)
    assert table.loc["b", "rate_sd"] == pytest.approx(math.sqrt(2.5) / 16.0)
    assert table["rate"].iloc[1] == pytest.approx(1.5 / (2.0 + 10.0 + 4.0))
    # a was watched from its four infections on, c never
    assert table.loc["c", "rate"] == pytest.approx(0.5 / (10.0 + 9.0 + 8.0 + 7.0 + 4.0))
    assert table["rate"].iloc[3] == pytest.approx(0.5 / 4.0)
    assert table["n"].tolist() == pytest.approx([2.0, 1.0, 0.0, 0.0])


def test_interchangeable_parents_share():
    """Two sources always infected together: q = 1/2 each, prob = 1 - (1/2)^2."""
    one = {"a": 0.0, "b": 0.0, "c": 1.0}
    table = NetRate().fit(cascades_of(one, one, horizon=5.0)).edges()
    assert table["target"].tolist() == ["c", "c"]
    assert table["n"].to_numpy() == pytest.approx([1.0, 1.0])
    assert table["prob"].to_numpy() == pytest.approx([0.75, 0.75])
    assert table["rate"].to_numpy() == pytest.approx([0.5, 0.5])
    assert table["rate_sd"].to_numpy() == pytest.approx([0.5 / math.sqrt(0.5)] * 2)


def test_background_takes_what_no_parent_explains():
    """Every delay is below the dead time of the power law, so only the outside infects."""
    data = cascades_of({"a": 0.0, "b": 1.0}, {"a": 3.0, "b": 5.0}, {"b": 0.0}, horizon=10.0)
    fit = NetRate("powerlaw", theta=[50.0], background=True).fit(data)
    background = fit.background_rates().set_index("node")
    assert background.loc["b", "rate"] == pytest.approx(2.0 / (1.0 + 2.0))
    assert background.loc["b", "n"] == pytest.approx(2.0)
    assert background.loc["b", "rate_sd"] == pytest.approx(math.sqrt(2.0) / 3.0)
    assert background.loc["a", "rate"] == 0.0
    assert fit.edges()["n"].tolist() == [0.0]
    assert fit.theta_ == pytest.approx([50.0])


# -- invariances ------------------------------------------------------------------------------


@pytest.mark.parametrize(("delay", "exponent"), [("exponential", 1), ("rayleigh", 2), ("decay", 0)])
def test_rescaled_times_rescale_only_rates(small, delay, exponent):
    table = NetRate(delay, background=True).fit(small).edges()
    exact = NetRate(delay, background=True).fit(rescaled(small, 4096.0)).edges()
    pd.testing.assert_frame_equal(exact[EDGE_COLUMNS[:4]], table[EDGE_COLUMNS[:4]], rtol=1e-12)
    pairs = table[["source", "target"]]
    near = NetRate(delay, background=True).fit(rescaled(small, 86400.0)).edges(pairs=pairs)
    for name in ("prob", "n"):
        np.testing.assert_allclose(near[name], table[name], rtol=1e-5, atol=1e-7)
    for name in ("rate", "rate_sd", "rate_low", "rate_high"):
        np.testing.assert_allclose(near[name] * 86400.0**exponent, table[name], rtol=1e-5)


def test_shrinkage_and_theta_are_in_the_users_unit(small):
    table = NetRate("weibull", [1.4], shrinkage=(1.0, 0.7)).fit(small).edges()
    scale = 60.0**1.4
    hours = NetRate("weibull", [1.4], shrinkage=(1.0, 0.7 * scale)).fit(rescaled(small, 60.0))
    near = hours.edges(pairs=table[["source", "target"]])
    np.testing.assert_allclose(near["n"], table["n"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(near["rate"] * scale, table["rate"], rtol=1e-5)
    given = NetRate("decay", [0.8]).fit(small).log_likelihood_[-1]
    slow = NetRate("decay", [0.8 / 60.0]).fit(rescaled(small, 60.0)).log_likelihood_[-1]
    parents = small.n_infections - small.n_cascades
    assert slow == pytest.approx(given - parents * math.log(60.0), abs=1e-6)


def test_names_of_nodes_do_not_matter(small):
    frame = small.to_frame()
    frame["node"] = "n" + (7 - frame["node"]).astype(str)
    renamed = Cascades.from_frame(frame, nodes=[f"n{i}" for i in range(8)], horizon=3.0)
    for method in (NetRate(tolerance=1e-7), CoOccurrence()):
        table = method.fit(small).edges()
        pairs = [(f"n{7 - u}", f"n{7 - v}") for u, v in table[["source", "target"]].to_numpy()]
        other = method.fit(renamed).edges(pairs=pairs)
        assert len(method.edges()) == len(table)
        np.testing.assert_allclose(other["n"], table["n"], rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(other["rate"], table["rate"], rtol=1e-6, atol=1e-8)


# -- ties, singletons, nodes that do nothing --------------------------------------------------


def test_ties_never_infect_one_another():
    data = cascades_of({"a": 0.0, "b": 0.0}, {"a": 1.0, "b": 2.0, "c": 2.0}, horizon=5.0)
    for method in (NetRate(), CoOccurrence()):
        table = method.fit(data).edges()
        assert set(zip(table["source"], table["target"], strict=True)) == {("a", "b"), ("a", "c")}
        tied = method.edges(pairs=[("b", "c"), ("c", "b"), ("b", "a")])
        assert tied["n"].tolist() == tied["prob"].tolist() == [0.0, 0.0, 0.0]


def test_singletons_add_exposure_only():
    with_singleton = cascades_of({"a": 0.0, "b": 2.0}, {"a": 0.0}, horizon=6.0)
    without = cascades_of({"a": 0.0, "b": 2.0}, horizon=6.0)
    assert NetRate().fit(with_singleton).edges()["rate"].item() == pytest.approx(1.0 / 8.0)
    assert NetRate().fit(without).edges()["rate"].item() == pytest.approx(1.0 / 2.0)


@pytest.mark.parametrize("background", [False, True])
def test_nothing_but_seeds(background):
    data = cascades_of({"a": 0.0}, {"b": 1.0, "c": 1.0}, horizon=2.0)
    fit = NetRate(background=background).fit(data)
    assert len(fit.edges()) == len(CoOccurrence().fit(data).edges()) == 0
    assert list(fit.edges().columns) == EDGE_COLUMNS
    asked = fit.edges(pairs=[("a", "b"), ("b", "c")])
    assert asked["rate"].tolist() == [0.0, 0.0]
    assert asked["rate_sd"].isna().all()
    assert fit.gap_ == 0.0


def test_expected_transmissions_account_for_every_infection(small):
    fit = NetRate(background=True).fit(small)
    total = fit.edges()["n"].sum() + fit.background_rates()["n"].sum()
    later = sum(
        (small.time[small.offset[c] : small.offset[c + 1]] > small.start[c]).sum()
        for c in range(small.n_cascades)
    )
    assert total == pytest.approx(later)


def test_candidates_cut_are_reported(small):
    assert NetRate().fit(small).candidates_cut_ == 0
    assert NetRate(max_candidates=2).fit(small).candidates_cut_ > 0


# -- edge tables ------------------------------------------------------------------------------


def test_edges_are_ranked_and_probable(small):
    table = NetRate().fit(small).edges()
    order = table.sort_values(["prob", "n", "rate"], ascending=False, kind="stable")
    assert order.index.tolist() == list(range(len(table)))
    assert table["prob"].between(0.0, 1.0).all()
    assert (table["prob"] <= table["n"] + 1e-9).all()
    assert (table["prob"] >= 1.0 - np.exp(-table["n"]) - 1e-9).all()
    known = table["rate_sd"].notna()
    assert (table["rate_low"] < table["rate"])[known].all()
    assert (table["rate"] < table["rate_high"])[known].all()
    assert known.any()
    assert not known.all()


def test_pairs_asked_for_come_as_in_the_table(small):
    for method in (NetRate(), CoOccurrence()):
        table = method.fit(small).edges()
        shuffled = table.iloc[::-1].reset_index(drop=True)
        pd.testing.assert_frame_equal(method.edges(pairs=shuffled), shuffled)
        pd.testing.assert_frame_equal(method.edges(top=3), table.head(3))
        assert len(method.edges(pairs=[(0, 7), (1, 7)], top=1)) == 1
        never = method.edges(pairs=[(0, 7)]).iloc[0]
        assert never["n"] == never["prob"] == 0.0
    assert method.edges(pairs=[]).empty


def test_cooccurrence_counts(small):
    """Against two loops, with and without a window."""
    for window in (None, 0.5):
        counts: dict[tuple, int] = {}
        for _, cascade in small.to_frame().groupby("cascade"):
            rows = list(zip(cascade["node"], cascade["time"], strict=True))
            for u, s in rows:
                for v, t in rows:
                    if 0.0 < t - s <= (window or math.inf):
                        counts[u, v] = counts.get((u, v), 0) + 1
        table = CoOccurrence(window).fit(small).edges()
        assert (
            dict(zip(zip(table["source"], table["target"], strict=True), table["n"], strict=True))
            == counts
        )
        assert table["n"].is_monotonic_decreasing
        assert table["prob"].to_numpy() == pytest.approx(table["n"] / small.n_cascades)
        assert table[["rate", "rate_sd", "rate_low", "rate_high"]].isna().all(axis=None)


def test_a_delay_equal_to_the_window_counts():
    times = {name: 0.1 * i for i, name in enumerate("abcdefgh")}
    data = cascades_of(times, horizon=1.0)
    assert len(CoOccurrence(window=0.1).fit(data).edges()) == 7
    assert len(CoOccurrence(window=0.3).fit(data).edges()) == 7 + 6 + 5


# -- wrong arguments --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"delay": "gamma"}, ValueError, "delay must be one of"),
        ({"delay": "weibull", "theta": [-1.0]}, ValueError, "k of the delay 'weibull'"),
        ({"theta": [1.0]}, ValueError, "theta of the delay 'exponential'"),
        ({"shrinkage": 2.0}, ValueError, "shrinkage must be a pair"),
        ({"shrinkage": (0.5, 1.0)}, ValueError, "shape of at least 1"),
        ({"shrinkage": (1.0, 0.0)}, ValueError, "finite positive rate"),
        ({"shrinkage": (math.nan, 1.0)}, ValueError, "shape of at least 1"),
        ({"background": "yes"}, TypeError, "background must be True or False"),
        ({"max_candidates": 0}, ValueError, "max_candidates must be a whole number"),
        ({"tolerance": 0.0}, ValueError, "tolerance must be a finite positive"),
        ({"max_iterations": 2.5}, ValueError, "max_iterations must be a whole number"),
    ],
)
def test_wrong_settings(small, settings, error, message):
    with pytest.raises(error, match=message):
        NetRate(**settings).fit(small)


@pytest.mark.parametrize("window", [0.0, -1.0, math.inf, math.nan, "1", True])
def test_wrong_window(small, window):
    with pytest.raises(ValueError, match="window must be a finite positive number"):
        CoOccurrence(window).fit(small)


@pytest.mark.parametrize("method", [NetRate, CoOccurrence])
def test_wrong_use(small, method):
    with pytest.raises(ValueError, match="not fitted"):
        method().edges()
    with pytest.raises(TypeError, match="cascades must be a Cascades; got DataFrame"):
        method().fit(small.to_frame())
    fit = method().fit(small)
    for arguments, message in [
        ({"top": -1}, "top must be a whole number"),
        ({"pairs": [(0, 99)]}, "99"),
        ({"pairs": [(0, 0)]}, "pairs must join different nodes; got 0"),
        ({"pairs": [(0, 1, 2)]}, "pairs must be"),
        ({"pairs": pd.DataFrame({"source": [0]})}, "columns source and target"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit.edges(**arguments)


def test_no_background_to_report(small):
    with pytest.raises(ValueError, match="not fitted"):
        NetRate().background_rates()
    with pytest.raises(ValueError, match="no background source"):
        NetRate().fit(small).background_rates()


def test_data_the_delay_model_cannot_explain(small):
    with pytest.raises(FormatError, match="positive hazard"):
        NetRate("powerlaw", theta=[100.0]).fit(small)
    with pytest.raises(FormatError, match="has no maximum"):
        NetRate("lognormal", theta=[100.0, 1.0]).fit(small)
    assert math.isfinite(
        NetRate("lognormal", theta=[100.0, 1.0], shrinkage=(1.0, 1.0)).fit(small).gap_
    )


# -- published data ---------------------------------------------------------------------------


def published(folder, name, **reading):
    data = folder / "cascades" / name
    if not (data / "cascades.csv.gz").is_file():
        pytest.skip(f"no data set {name} in {folder}")
    truth = pd.read_csv(data / "edges.csv.gz")
    return Cascades.read_csv(data / "cascades.csv.gz", **reading), truth


def auprc(method, data, truth, score="prob"):
    return metrics.score_edges(method.edges(), truth, data, score=score).auprc


def test_netrate_kronecker(shared_data):
    """Other implementations of this likelihood: 0.444 by rate, 0.797 by transmissions."""
    data, truth = published(shared_data, "netrate-kronecker", nodes=range(1024), horizon=10.0)
    fit = NetRate().fit(data)
    assert fit.gap_ <= 1e-5 * data.n_infections
    assert fit.log_likelihood_.size <= 100
    assert auprc(fit, data, truth) >= 0.82
    assert auprc(fit, data, truth, "n") >= 0.797
    assert 0.43 <= auprc(fit, data, truth, "rate") <= 0.46
    assert auprc(CoOccurrence().fit(data), data, truth) == pytest.approx(0.179, abs=1e-3)


def test_infopath_example(shared_data):
    data, truth = published(shared_data, "infopath-example", window=10.0)
    fit = NetRate().fit(data)
    assert auprc(fit, data, truth) >= 0.998
    assert auprc(fit, data, truth, "n") >= 0.998


def test_netinf_example(shared_data):
    with pytest.warns(UserWarning, match="horizon"):
        data, truth = published(shared_data, "netinf-example", nodes=range(32))
    fit = NetRate().fit(data)
    assert auprc(fit, data, truth) >= 0.88
    assert auprc(fit, data, truth, "n") >= 0.859
