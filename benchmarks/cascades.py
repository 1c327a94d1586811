"""Accuracy and cost of network inference; prints the figures of docs/benchmarks.md.

    python benchmarks/cascades.py kronecker     short chains beside the published programs
    python benchmarks/cascades.py default       the same data, default number of draws
    python benchmarks/cascades.py small         infopath-example and netinf-example
    python benchmarks/cascades.py communities   what the community prior adds, and where not
    python benchmarks/cascades.py real          us-policies and memetracker-forest
    python benchmarks/cascades.py kernels       parent, swap and token updates per second
    python benchmarks/cascades.py curve         accuracy against CPU time; docs/figures/curve.png
    python benchmarks/cascades.py mixing        effective draws a CPU second

Run from a checkout with the published data in ../shared/data or in $CASCADENET_DATA. Times are CPU
seconds of one process with warm kernels; each part also times a fixed NumPy job in the same run, as
a yardstick between machines.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import cascadenet as cn
from cascadenet.inference import CoOccurrence, InfoPath, NetInf, NetRate, _kernels, parents
from cascadenet.inference.layout import build_layout
from cascadenet.inference.sampler import Chain, Model

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("CASCADENET_DATA", ROOT.parent / "shared" / "data")) / "cascades"


def yardstick() -> float:
    """CPU seconds of a fixed single-threaded NumPy job, median of five."""
    values = np.random.default_rng(0).random(4_000_000)
    times = []
    for _ in range(5):
        start = time.process_time()
        np.sort(values)
        times.append(time.process_time() - start)
    return float(np.median(times))


def peak_memory() -> float:
    """Peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def scores(edges: pd.DataFrame, truth: pd.DataFrame, cascades: cn.Cascades) -> dict[str, float]:
    """Scores over all ordered pairs of nodes."""
    score = cn.metrics.score_edges(edges, truth, cascades)
    return {
        "AUPRC": score.auprc,
        "ROC AUC": score.roc_auc,
        "best F1": score.best_f1,
        "F1@E": score.f1_at_true,
        "p@100": score.precision_at(100),
        "p@500": score.precision_at(500),
        "p@1000": score.precision_at(1000),
    }


def timed(model, cascades: cn.Cascades, **fit) -> tuple[pd.DataFrame, float]:
    """Edge table and CPU seconds of a fit and its table."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        edges = model.fit(cascades, **fit).edges()
    return edges, time.process_time() - start


def show(rows: list[dict]) -> None:
    """Print a table."""
    print(pd.DataFrame(rows).round(3).to_string(index=False), flush=True)


def read_kronecker() -> tuple[cn.Cascades, pd.DataFrame]:
    """All 1024 nodes are given; 819 of them occur in cascades."""
    folder = DATA / "netrate-kronecker"
    cascades = cn.Cascades.read_csv(folder / "cascades.csv.gz", horizon=10, nodes=range(1024))
    return cascades, cn.read_network(folder / "edges.csv.gz")


SHORT = {"draws": 100, "tune": 50, "chains": 1}


def kronecker(seeds: int = 5) -> None:
    """One chain of 150 sweeps, several seeds."""
    cascades, truth = read_kronecker()
    timed(cn.CoupledHDP(), cascades, draws=2, tune=2, chains=1, seed=0)  # compile
    memory = peak_memory()
    rows = []
    for name, model in (
        ("CoupledHDP", cn.CoupledHDP()),
        ("CoupledHDP, flat prior", cn.CoupledHDP(prior="flat")),
        ("CoupledHDP, tree likelihood", cn.CoupledHDP(likelihood="tree")),
    ):
        runs = []
        for seed in range(seeds):
            edges, seconds = timed(model, cascades, seed=seed, **SHORT)
            runs.append({"CPU s": seconds} | scores(edges, truth, cascades))
        table = pd.DataFrame(runs)
        rows.append({"method": name, "": "mean"} | table.mean().to_dict())
        worst = table.min().to_dict() | {"CPU s": table["CPU s"].max()}
        rows.append({"method": "", "": "worst"} | worst)
    for name, model in (("NetRate", NetRate()), ("CoOccurrence", CoOccurrence())):
        edges, seconds = timed(model, cascades)
        rows.append({"method": name, "": ""} | {"CPU s": seconds} | scores(edges, truth, cascades))
    show(rows)
    print(f"peak memory up to and including a first short fit: {memory:.0f} MB")


def default() -> None:
    """Default draws and chains, with what the diagnostics say of them."""
    cascades, truth = read_kronecker()
    timed(cn.CoupledHDP(), cascades, draws=2, tune=2, chains=1, seed=0)
    wall = time.perf_counter()
    model = cn.CoupledHDP()
    edges, seconds = timed(model, cascades, seed=0)
    wall = time.perf_counter() - wall
    show([{"CPU s": seconds, "wall s": wall} | scores(edges, truth, cascades)])
    print(model.posterior_.diagnostics().round(3).to_string())
    print(model.posterior_.structure_agreement())
    print(f"peak memory: {peak_memory():.0f} MB")


def small() -> None:
    """The two small published examples."""
    rows = []
    for name, observed in (("infopath-example", {"window": 10}), ("netinf-example", {})):
        folder = DATA / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # netinf-example states no horizon
            cascades = cn.Cascades.read_csv(folder / "cascades.csv.gz", nodes=range(32), **observed)
        truth = cn.read_network(folder / "edges.csv.gz")
        for method, model, fit in (
            ("CoupledHDP", cn.CoupledHDP(), {"seed": 0, "draws": 500, "tune": 500, "chains": 2}),
            (
                "CoupledHDP, flat prior",
                cn.CoupledHDP(prior="flat"),
                {"seed": 0, "draws": 500, "tune": 500, "chains": 2},
            ),
            ("NetRate", NetRate(), {}),
        ):
            edges, seconds = timed(model, cascades, **fit)
            rows.append(
                {"data": name, "method": method, "CPU s": seconds} | scores(edges, truth, cascades)
            )
    show(rows)


def communities(networks: int = 5) -> None:
    """Community prior against the flat one, on networks it fits and on others it does not."""
    for kind in ("drawn from the model", "planted, equal degrees"):
        rows = []
        for seed in range(networks):
            if kind == "drawn from the model":
                network, _ = cn.simulate.model_network(200, 5, 1400, seed=seed)
            else:
                network = cn.simulate.community_network(seed=seed)
            data = cn.simulate.simulate_cascades(
                network, 150, nodes=range(200), horizon=0.8, seed=seed
            )
            rows.append(compare_priors(network, data, seed))
        table = pd.DataFrame(rows)
        print(f"\n{kind}: {networks} networks, 150 cascades each")
        show(rows)
        for column in ("gain", "AUC unused"):
            mean, error = table[column].mean(), table[column].std() / np.sqrt(networks)
            print(f"{column}: {mean:.3f} +- {error:.3f}")


def compare_priors(network: pd.DataFrame, data, seed: int) -> dict[str, float]:
    """AUPRC of both priors, and AUC of the predictive on pairs that carried nothing."""
    cascades = data.cascades
    fit = {"draws": 300, "tune": 300, "chains": 2, "seed": seed}
    hdp, seconds = timed(model := cn.CoupledHDP(), cascades, **fit)
    flat, _ = timed(cn.CoupledHDP(prior="flat"), cascades, **fit)
    used = data.transmissions()
    matrix = model.posterior_.predictive_matrix()
    source, target = np.nonzero(~np.eye(len(matrix), dtype=bool))
    predictive = pd.DataFrame({"source": source, "target": target, "prob": matrix[source, target]})
    a = cn.metrics.score_edges(hdp, network, cascades).auprc
    b = cn.metrics.score_edges(flat, network, cascades).auprc
    unused = cn.metrics.score_edges(predictive, network, cascades, exclude=used).roc_auc
    found = model.posterior_.scalars["n_communities"].mean()
    return {
        "edges": len(network),
        "used": len(used),
        "hdp": a,
        "flat": b,
        "gain": a - b,
        "AUC unused": unused,
        "communities": found,
        "CPU s": seconds,
    }


def real() -> None:
    """Real data without a graph: cost, memory and mixing. One process each, for the memory."""
    if len(sys.argv) > 2:
        _real(sys.argv[2])
        return
    for name in ("us-policies", "memetracker-forest"):
        subprocess.run([sys.executable, __file__, "real", name], check=True)


def _real(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # neither file states a horizon
        cascades = cn.Cascades.read_csv(DATA / name / "cascades.csv.gz")
    sweeps = 1000 if name == "us-policies" else 150
    model = cn.CoupledHDP(delay="decay", background=True)
    start = time.perf_counter()
    _, seconds = timed(model, cascades, draws=sweeps // 2, tune=sweeps // 2, chains=2, seed=0)
    wall = time.perf_counter() - start
    posterior = model.posterior_
    print(f"\n{name}: {cascades!r}")
    print(
        f"{2 * sweeps} sweeps in {wall:.0f} s, {2 * sweeps / wall:.1f} sweeps/s on two threads; "
        f"{seconds:.0f} CPU s; peak memory {peak_memory():.0f} MB"
    )
    print(posterior.diagnostics().round(3).to_string())
    print(posterior.structure_agreement())


def kernels() -> None:
    """Throughput of the parent and swap updates on netrate-kronecker."""
    cascades, _ = read_kronecker()
    layout = build_layout(cascades)
    chain = Chain(layout, Model(delay=cn.delays.get_delay("exponential")), np.random.default_rng(0))
    for _ in range(20):
        chain.sweep()
    drawn = int((np.diff(layout.cand_ptr) > 0).sum())
    width = layout.cand_pair.size / drawn
    rows = []
    for update in (parents.draw_parents, parents.swap_parents):
        seconds = []
        for _ in range(30):
            start = time.process_time()
            update(chain)
            seconds.append(time.process_time() - start)
        million = drawn / float(np.median(seconds)) / 1e6
        rows.append(
            {"update": update.__name__, "candidates": width, "million infections/s": million}
        )
    show(rows)
    for size, count in ((1000, 200_000), (10_000, 1_000_000)):
        found = token_updates(size, count)
        print(f"{count} tokens, {size} nodes, 30 communities: {found:.1f} million/s")


def token_problem(n_nodes: int, count: int, communities: int = 30) -> tuple[list, tuple, list]:
    """Tokens of planted communities: their ends, the law of a collapsed pass, what it writes.

    The ends are senders and receivers; the law is the null community's, weights of communities,
    tau and tau * beta; written are the tokens' communities and the counts of these.
    """
    rng = np.random.default_rng(0)
    planted = rng.integers(communities, size=count)
    width = n_nodes // communities
    ends = [(planted * width + rng.integers(width, size=count)).astype(np.int32) for _ in "ab"]
    given = rng.integers(1, communities + 1, size=count).astype(np.int32)
    counts = [np.zeros(communities + 1), *np.zeros((2, n_nodes, communities + 1))]
    _kernels.count_tokens(*ends, given, *counts)
    even, prior = np.full(n_nodes, 1.0 / n_nodes), np.full(communities + 1, 0.1)
    tau = n_nodes / 4.0
    return ends, (True, even, prior, tau, tau * even), [given, *counts]


def token_updates(n_nodes: int, count: int) -> float:
    """Million tokens a second of one collapsed pass."""
    ends, law, written = token_problem(n_nodes, count)
    rng = np.random.default_rng(1)
    seconds = []
    for _ in range(8):  # the first one compiles
        uniform = rng.random(count)
        start = time.process_time()
        _kernels.update_communities(*ends, *law, uniform, *written)
        seconds.append(time.process_time() - start)
    return count / float(np.median(seconds)) / 1e6


def mixing(tune: int = 200, draws: int = 800, edges: int = 200) -> None:
    """Effective draws a CPU second: log joint, number of communities, edge indicators.

    Of edges those whose indicator changes in between a twentieth and all but a twentieth of draws,
    some of them evenly spaced.
    """
    from cascadenet.inference.chains import scalar_values
    from cascadenet.inference.diagnostics import ess_bulk

    cascades, _ = read_kronecker()
    layout = build_layout(cascades)
    rows = []
    for prior in ("flat", "hdp"):
        model = Model(delay=cn.delays.get_delay("exponential"), prior=prior)
        chain = Chain(layout, model, np.random.default_rng(0))
        traces: dict[str, list[float]] = {}
        hits, used = np.zeros(layout.n_pairs, np.int32), []
        begin = time.process_time()
        for sweep in range(tune + draws):
            chain.adapting, chain.holding = sweep < tune, sweep < tune // 3
            chain.sweep()
            if sweep == tune:
                begin = time.process_time()
            if sweep >= tune:
                for name, value in scalar_values(chain).items():
                    traces.setdefault(name, []).append(value)
                used.append(np.flatnonzero(chain.state.n_pair > 0))
                hits[used[-1]] += 1
        seconds = time.process_time() - begin
        doubtful = np.flatnonzero((hits > 0.05 * draws) & (hits < 0.95 * draws))
        doubtful = doubtful[:: max(doubtful.size // edges, 1)]
        indicators = np.array([np.isin(doubtful, pairs) for pairs in used], float)
        found = {name: float(ess_bulk(np.array([trace]))) for name, trace in traces.items()}
        found["edges, median"] = np.median([ess_bulk(x[None, :]) for x in indicators.T])
        for name, ess in found.items():
            rows.append({"prior": prior, "of": name, "ESS": ess, "ESS / CPU s": ess / seconds})
        print(f"{prior}: {draws} sweeps in {seconds:.1f} CPU s, {doubtful.size} doubtful edges")
    show(rows)


# AUPRC and CPU seconds of the published programs on these data, another run (docs/benchmarks.md)
PUBLISHED = {
    "netinf (C++)": (26.0, 0.763),
    "infopath (C++), 1000 steps": (22.0, 0.414),
    "infopath (C++), 10 000 steps": (75.0, 0.527),
    "NetRate by EM, by transmissions": (8.0, 0.797),
}
BUDGETS = ((5, 5), (10, 20), (20, 40), (30, 70), (30, 140), (50, 200), (50, 400), (100, 900))


def curve(seeds: int = 3) -> None:
    """AUPRC and best F1 of whole fits against their CPU time, one chain; the picture of it."""
    import matplotlib.pyplot as plt

    cascades, truth = read_kronecker()
    rows = []
    for name, model in (
        ("CoupledHDP", cn.CoupledHDP()),
        ("CoupledHDP, flat prior", cn.CoupledHDP(prior="flat")),
    ):
        timed(model, cascades, draws=2, tune=2, chains=1, seed=0)
        for tune, draws in BUDGETS:
            runs = []
            for seed in range(seeds):
                edges, seconds = timed(
                    model, cascades, tune=tune, draws=draws, chains=1, seed=seed, progress=False
                )
                found = scores(edges, truth, cascades)
                runs.append((seconds, found["AUPRC"], found["best F1"]))
            rows.append((name, f"{tune} + {draws}", *np.mean(runs, axis=0)))
    for model in (NetInf(n_edges=2041), InfoPath(), NetRate(), CoOccurrence()):
        timed(model, cascades)
        edges, seconds = timed(model, cascades)
        found = scores(edges, truth, cascades)
        rows.append((type(model).__name__, "", seconds, found["AUPRC"], found["best F1"]))
    table = pd.DataFrame(rows, columns=["method", "sweeps", "CPU s", "AUPRC", "best F1"])
    print(table.round(3).to_string(index=False))
    figure, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, part in table.groupby("method", sort=False):
        ax.plot(part["CPU s"], part["AUPRC"], "o-" if len(part) > 1 else "D", label=f"{name}, here")
    for (name, (seconds, auprc)), marker in zip(PUBLISHED.items(), "sv^<", strict=True):
        ax.plot(seconds, auprc, marker, color="0.4", label=name)
    ax.set(xscale="log", xlabel="CPU seconds of the whole fit", ylabel="AUPRC over all pairs")
    ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(ROOT / "docs" / "figures" / "curve.png", dpi=120)


if __name__ == "__main__":
    commands = (kronecker, default, small, communities, real, kernels, curve, mixing)
    parts = {command.__name__: command for command in commands}
    if len(sys.argv) < 2 or sys.argv[1] not in parts:
        sys.exit(__doc__)
    parts[sys.argv[1]]()
    print(f"yardstick: sorting 4 million doubles takes {yardstick():.3f} CPU s")
