"""The comparison of methods: scores, costs, held-out likelihoods, picture, command."""

from __future__ import annotations

import argparse
import json
import math

import numpy as np
import pandas as pd
import pytest

from cascadenet import Cascades, metrics, simulate
from cascadenet.cli_arguments import Parser
from cascadenet.cli_compare import DELAYS as CLI_DELAYS
from cascadenet.cli_compare import add_parser
from cascadenet.compare import DELAYS, METHODS, UNIFORM, _fit_apart, compare, plot_comparison
from cascadenet.delays import get_delay
from cascadenet.held_out import SHARES, held_out_likelihood
from cascadenet.inference.baselines import CoOccurrence, NetInf, NetRate

ACCURACY = ["auprc", "roc_auc", "best_f1", "f1_at_true", "p_at_100"]
JOB = {"delay": "exponential", "draws": 4, "tune": 4, "seed": 1}


@pytest.fixture(scope="module")
def world(seed: int) -> tuple[Cascades, pd.DataFrame]:
    """60 cascades over 16 nodes with string labels."""
    network = simulate.kronecker_network("core-periphery", 16, 30, rate=(0.3, 1.0), seed=seed)
    network[["source", "target"]] = "n" + network[["source", "target"]].astype(str)
    network.attrs["nodes"] = tuple(f"n{i}" for i in range(16))
    data = simulate.simulate_cascades(network, 60, horizon=2.0, seed=seed).cascades
    return data, network


@pytest.fixture(scope="module")
def table(world) -> pd.DataFrame:
    """All methods against the truth, once for this file."""
    return compare(*world, draws=8, tune=4, seed=3)


# -- against the truth ------------------------------------------------------------------------


def test_all_methods_are_scored(table, world):
    data, network = world
    assert table["method"].tolist() == list(METHODS)
    assert list(table.columns) == ["method", *ACCURACY, "edges", "cpu_seconds", "peak_mb"]
    assert table[ACCURACY[:4]].notna().all(axis=None)
    chance = len(network) / (16 * 15)
    assert (table["auprc"] > 2.0 * chance).all()
    rows = table.set_index("method")
    for name, fit in [
        ("CoOccurrence", CoOccurrence()),
        ("NetRate", NetRate()),
        ("NetInf", NetInf()),
    ]:
        edges = fit.fit(data).edges()
        scores = metrics.score_edges(edges, network, data)
        assert rows.loc[name, "auprc"] == pytest.approx(scores.auprc, abs=1e-12)
        assert rows.loc[name, "f1_at_true"] == pytest.approx(scores.f1_at_true, abs=1e-12)
        assert rows.loc[name, "edges"] == len(edges)


def test_costs_are_those_of_a_process_of_its_own(table):
    """Whatever this process holds, and whatever is compiled."""
    assert table["cpu_seconds"].between(0.0, 20.0, inclusive="neither").all()
    before = table.set_index("method").loc["CoOccurrence", "peak_mb"]
    ballast = np.ones(400 * 2**17)  # 400 MB
    _, cost = _fit_apart(_tiny(), JOB | {"method": "CoOccurrence"})
    assert ballast.size > 0
    assert cost["cpu_seconds"] < 1.0
    if not math.isnan(cost["peak_mb"]):
        assert cost["peak_mb"] == pytest.approx(before, abs=100.0)


def _tiny() -> Cascades:
    frame = pd.DataFrame({"cascade": 0, "node": ["a", "b", "c"], "time": [0.0, 1.0, 2.0]})
    return Cascades.from_frame(frame, horizon=3.0)


def test_seed_decides(world, table):
    """A chain of a few sweeps differs from seed to seed."""
    data, network = world
    methods = ["CoupledHDP, flat prior"]
    auprc = table.set_index("method").loc[methods[0], "auprc"]
    again = compare(data, network, methods=methods, draws=8, tune=4, seed=3)
    other = compare(data, network, methods=methods, draws=8, tune=4, seed=4)
    assert again["auprc"].item() == auprc
    assert other["auprc"].item() != auprc


def test_a_failure_is_a_warning_and_the_others_stay(world, monkeypatch):
    monkeypatch.setattr("cascadenet.compare.METHODS", (*METHODS, "Nonesuch"))
    message = "Nonesuch could not be fitted: .* has no attribute 'Nonesuch'"
    with pytest.warns(UserWarning, match=message):
        table = compare(*world, methods=["Nonesuch", "CoOccurrence"])
    assert table["auprc"].isna().tolist() == [True, False]
    assert table["cpu_seconds"].isna().tolist() == [True, False]


# -- held out ---------------------------------------------------------------------------------


def naive_log_likelihood(cascades, rate, delay) -> tuple[float, int]:
    """Loops over cascades and pairs; rates (N, N)."""
    model, theta = get_delay(delay), get_delay(delay).default()
    value, count = 0.0, 0
    for c in range(cascades.n_cascades):
        inside = slice(cascades.offset[c], cascades.offset[c + 1])
        at = dict(zip(cascades.node[inside], cascades.time[inside], strict=True))
        for v in range(cascades.n_nodes):
            stop = at.get(v, math.inf)
            hazard = 0.0
            for u, s in at.items():
                if u != v and s < stop:
                    age = np.array([min(stop, cascades.horizon[c]) - s])
                    value -= rate[u, v] * model.cumulative(age, theta)[0]
                    hazard += rate[u, v] * math.exp(model.log_hazard(age, theta)[0])
            if min(at.values()) < stop < math.inf:
                value, count = value + math.log(hazard), count + 1
    return value, count


def rates_of(matrix: np.ndarray) -> dict[str, np.ndarray]:
    source, target = np.nonzero(matrix)
    return {"source": source, "target": target, "rate": matrix[source, target]}


def true_rates(world) -> np.ndarray:
    data, network = world
    rate = np.zeros((16, 16))
    ends = (data.index_of(network[name]) for name in ("source", "target"))
    rate[tuple(ends)] = network["rate"]
    return rate


def off_diagonal(value: float) -> np.ndarray:
    return value * (1.0 - np.eye(16))


def uniform_rate(cascades: Cascades, delay: str) -> float:
    """Infections over exposure: log-likelihoods at rates 1 and 2 tell the exposure."""
    one, count = naive_log_likelihood(cascades, off_diagonal(1.0), delay)
    two, _ = naive_log_likelihood(cascades, off_diagonal(2.0), delay)
    return count / (one - two + count * math.log(2.0))


@pytest.mark.parametrize("delay", DELAYS)
def test_held_out_is_the_survival_likelihood(world, delay, seed):
    data, _ = world
    rng = np.random.default_rng(seed)
    rate = np.where(rng.random((16, 16)) < 0.5, rng.exponential(0.2, (16, 16)), 0.0)
    rate *= off_diagonal(1.0)
    train, test = data.subset(slice(0, 40)), data.subset(slice(40, 50))
    r = uniform_rate(train, delay)
    best, _ = naive_log_likelihood(train, off_diagonal(r), delay)
    for factor in (0.9, 1.1):
        assert naive_log_likelihood(train, off_diagonal(factor * r), delay)[0] < best
    alone = held_out_likelihood({}, train, test, delay)
    value, count = naive_log_likelihood(test, off_diagonal(r), delay)
    assert alone.per_infection == pytest.approx(value / count, rel=1e-9)
    assert alone.uniform_share == 1.0

    halves, shares, total = [test.subset(slice(half, None, 2)) for half in (0, 1)], [], 0.0
    for half in (0, 1):
        mixtures = [(1.0 - w) * rate + w * off_diagonal(r) for w in SHARES]
        fitted = [naive_log_likelihood(halves[1 - half], x, delay)[0] for x in mixtures]
        chosen = int(np.argmax(fitted))
        shares.append(SHARES[chosen])
        total += naive_log_likelihood(halves[half], mixtures[chosen], delay)[0]
    result = held_out_likelihood(rates_of(rate), train, test, delay)
    assert result.per_infection == pytest.approx(total / count, rel=1e-9)
    assert result.uniform_share == pytest.approx(np.mean(shares))


def test_true_rates_beat_wrong_ones(world):
    """And a standard error that knows how far: the wrong ones are those of other pairs."""
    data, _ = world
    train, test = data.subset(slice(0, 30)), data.subset(slice(30, 60))
    true = true_rates(world)
    right = held_out_likelihood(rates_of(true), train, test, "exponential")
    wrong = held_out_likelihood(rates_of(true.T), train, test, "exponential")
    alone = held_out_likelihood({}, train, test, "exponential")
    assert right.per_infection > alone.per_infection + 3.0 * right.standard_error
    assert right.per_infection > wrong.per_infection + 3.0 * right.standard_error
    assert right.uniform_share < 0.02 < wrong.uniform_share
    assert 0.0 < right.standard_error < 0.5


def test_standard_error_is_that_of_many_data_sets(seed):
    """Spread of the score over 40 test sets of 50 cascades each; the ratio of the two standard
    deviations lies outside (0.65, 1.5) less than once in 500 data sets if they agree."""
    network = simulate.kronecker_network("core-periphery", 16, 30, rate=(0.3, 1.0), seed=seed)
    data = simulate.simulate_cascades(network, 2050, horizon=2.0, seed=seed).cascades
    matrix = np.zeros((16, 16))
    ends = (data.index_of(network[name]) for name in ("source", "target"))
    matrix[tuple(ends)] = network["rate"]
    train = data.subset(slice(2000, 2050))
    results = [
        held_out_likelihood(
            rates_of(matrix), train, data.subset(slice(first, first + 50)), "exponential"
        )
        for first in range(0, 2000, 50)
    ]
    spread = np.std([x.per_infection for x in results], ddof=1)
    claimed = np.sqrt(np.mean([x.standard_error**2 for x in results]))
    assert 0.65 < spread / claimed < 1.5


@pytest.fixture(scope="module")
def held_out_table(world) -> pd.DataFrame:
    return compare(world[0], methods=["NetRate", "CoOccurrence", "NetInf"], seed=3)


def test_held_out_table(held_out_table):
    rows = held_out_table.set_index("method")
    assert rows.index.tolist() == ["NetRate", "CoOccurrence", "NetInf", UNIFORM]
    assert rows.loc["CoOccurrence", ["held_out", "held_out_se"]].isna().all()
    assert rows.loc["CoOccurrence", "cpu_seconds"] > 0.0
    assert (rows.loc[["NetRate", "NetInf"], "held_out"] > rows.loc[UNIFORM, "held_out"]).all()
    assert np.isnan(rows.loc[UNIFORM, "cpu_seconds"])


# -- picture ----------------------------------------------------------------------------------


def test_picture_has_every_method(table, held_out_table, tmp_path):
    from cascadenet.plotting import save_figure

    for number, data in enumerate((table, held_out_table)):
        ax = plot_comparison(data)
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        score = "auprc" if number == 0 else "held_out"
        scored = data[data[score].notna()]
        assert set(names) == set(scored["method"])
        assert ax.get_xscale() == "log"
        assert ax.get_xlabel() == "CPU time (s)"
        drawn = {round(float(c.lines[0].get_ydata()[0]), 9) for c in ax.containers}
        points = scored[scored["cpu_seconds"].notna()]
        assert drawn == {round(y, 9) for y in points[score]}
        save_figure(ax, tmp_path / "picture.png")
        assert (tmp_path / "picture.png").stat().st_size > 5000
    assert "CoOccurrence" in ax.get_title(loc="left")


# -- command ----------------------------------------------------------------------------------


def command(*arguments: str) -> int:
    parser = Parser(prog="cascadenet")
    add_parser(parser.add_subparsers())
    options: argparse.Namespace = parser.parse_args(["compare", *arguments])
    return options.run(options)


def test_command_writes_table_and_picture(tmp_path, monkeypatch):
    """Labels that are numbers in one file and text in the other, and nodes only the truth has."""
    network = simulate.kronecker_network("core-periphery", 16, 30, rate=(0.3, 1.0), seed=5)
    simulate.simulate_cascades(network, 60, horizon=2.0, seed=5).cascades.to_csv(tmp_path / "c.csv")
    more = pd.DataFrame({"source": ["x"], "target": ["3"], "rate": [1.0]})
    pd.concat([network, more]).to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.setattr("cascadenet.compare.METHODS", ("CoOccurrence", "NetInf"))
    output, picture = tmp_path / "table.csv", tmp_path / "table.png"
    arguments = ["--truth", str(tmp_path / "t.csv"), "--horizon", "2", "--quiet"]
    arguments += ["-o", str(output), "--plot", str(picture)]
    assert command(str(tmp_path / "c.csv"), *arguments) == 0
    table = pd.read_csv(output)
    assert table["method"].tolist() == ["CoOccurrence", "NetInf"]
    assert table["auprc"].between(0.2, 1.0).all()
    assert picture.stat().st_size > 5000


def test_command_prints_json_without_a_truth(world, tmp_path, monkeypatch, capfd):
    world[0].to_csv(tmp_path / "c.csv")
    monkeypatch.setattr("cascadenet.compare.METHODS", ("NetInf",))
    assert command(str(tmp_path / "c.csv"), "--horizon", "2", "--json", "--quiet") == 0
    rows = json.loads(capfd.readouterr().out)
    assert [row["method"] for row in rows] == ["NetInf", UNIFORM]
    assert rows[0]["held_out"] > rows[1]["held_out"]
    assert rows[1]["cpu_seconds"] is None


def test_command_refuses_before_it_fits(world, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise AssertionError("a method was fitted")

    monkeypatch.setattr("cascadenet.compare._fit_apart", fail)
    world[0].to_csv(tmp_path / "c.csv")
    (tmp_path / "n.txt").write_text("\n".join(f"n{i}" for i in range(16)))
    (tmp_path / "t.csv").write_text("source,target\nn1,z\n")
    file = [str(tmp_path / "c.csv"), "--horizon", "2"]
    with pytest.raises(SystemExit):
        command(*file, "--plot", "picture.bmp")
    assert "--plot must end in" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="no such folder"):
        command(*file, "-o", str(tmp_path / "nowhere" / "table.csv"))
    nodes = ["--nodes", str(tmp_path / "n.txt")]
    with pytest.raises(ValueError, match=r"got 'z' \(t.csv\)"):
        command(*file, *nodes, "--truth", str(tmp_path / "t.csv"))


def test_choices_of_the_command_are_those_of_the_library():
    assert CLI_DELAYS == DELAYS
    assert all(get_delay(name).parameters == () for name in DELAYS)


# -- wrong arguments --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ["NetWork"]}, "methods must be of CoOccurrence; .* got 'NetWork'"),
        ({"methods": []}, "methods must name at least one"),
        ({"delay": "weibull"}, "delay must be one of exponential, rayleigh"),
        ({"draws": 0}, "draws must be a whole number"),
        ({"tune": -1}, "tune must be a whole number"),
        ({"seed": 0.5}, "seed must be a whole number"),
        ({"truth": [("n1", "z")]}, "'z' is not in nodes"),
        ({"truth": []}, "truth has no edge"),
    ],
)
def test_wrong_settings(world, settings, message):
    with pytest.raises(ValueError, match=message):
        compare(world[0], **settings)


def test_wrong_use(world):
    with pytest.raises(TypeError, match="cascades must be a Cascades; got DataFrame"):
        compare(world[0].to_frame())
    with pytest.raises(TypeError, match="methods must be several names"):
        compare(world[0], methods="NetInf")
    with pytest.raises(ValueError, match="at least 8 cascades; got 3"):
        compare(world[0].subset(slice(0, 3)))
