"""Networks that change, and prediction: the figures of docs/benchmarks.md.

    python benchmarks/dynamics.py changing     dyn-hier and two networks of our own, by interval
    python benchmarks/dynamics.py held-out     us-policies and memetracker-forest: what came later
    python benchmarks/dynamics.py online       cost and memory of twenty intervals one by one

Run from a checkout with the published data in ../shared/data or in $CASCADENET_DATA. Times are CPU
seconds of one process with warm kernels.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import cascadenet as cn
from cascadenet.dynamic_scores import score_dynamic
from cascadenet.inference import InfoPath
from cascadenet.inference.forecast.likelihood import compare_predictive, score_predictive

DATA = Path(
    os.environ.get("CASCADENET_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
)
QUIET: dict[str, Any] = {"progress": False, "n_jobs": 1}


def _timed(fit: Any) -> tuple[Any, float]:
    begin = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        result = fit()
    return result, time.process_time() - begin


def _yardstick() -> float:
    """CPU seconds of sorting four million numbers."""
    values = np.random.default_rng(0).random(4_000_000)
    return min(_timed(lambda: np.sort(values))[1] for _ in range(3))


# --------------------------------------------------------------------------------- changing


def changing() -> None:
    """AUPRC of "edge active in this interval", mean over ten, and correlation of rates."""
    print(f"sorting 4 million doubles: {_yardstick():.3f} s")
    ends = np.linspace(0.0, 100.0, 11)
    folder = DATA / "cascades" / "dyn-hier"
    sets = {
        "dyn-hier": (
            cn.Cascades.read_snap(folder / "cascades.txt.gz", window=10.0),
            cn.read_network(folder / "network.txt.gz"),
        )
    }
    for seed, initiator in ((1, "hierarchical"), (2, "core-periphery")):
        network = cn.simulate.kronecker_network(initiator, 128, 200, seed=seed)
        network = cn.simulate.vary_rates(network, ["slab", "square"], seed=seed)
        data = cn.simulate.simulate_cascades(
            network, 2500, nodes=range(128), window=10.0, start=(0.0, 100.0), seed=seed
        ).cascades
        sets[f"slabs and squares, {initiator}"] = (data, network)
    _timed(lambda: _fit_changing(sets["dyn-hier"][0].subset(slice(60)), None, draws=5, tune=5))
    rows = []
    for name, (data, network) in sets.items():
        for method, fit in _methods(data, ends).items():
            (edges, note), seconds = _timed(fit)
            column = "active" if "active" in edges.columns else "prob"
            for by in dict.fromkeys((column, "prob")):
                found = score_dynamic(edges, network, ends, data.nodes, by)
                rows.append(
                    {
                        "data": name,
                        "method": method,
                        "ranked by": by,
                        "AUPRC": found.auprc,
                        "rate correlation": found.rate_correlation,
                        "CPU s": seconds,
                        "memories": note,
                    }
                )
            print(pd.DataFrame(rows[-2:]).round(3).to_string(index=False, header=False), flush=True)
    print(pd.DataFrame(rows).round(3).to_string(index=False))


def _fit_changing(data: cn.Cascades, ends: Any, **options: Any) -> tuple[pd.DataFrame, str]:
    sampling = {name: options.pop(name) for name in ("draws", "tune") if name in options}
    model = cn.DynamicCoupledHDP(interval=ends, n_intervals=2, **options)
    posterior = model.fit(data, seed=1, **sampling, **QUIET).posterior_
    used = posterior.settings
    return posterior.edges(), f"{used['forgetting_used']:g}, {used['support_used']:g}"


def _methods(data: cn.Cascades, ends: np.ndarray) -> dict[str, Any]:
    def static() -> tuple[pd.DataFrame, str]:
        edges = cn.CoupledHDP().fit(data, draws=200, tune=200, chains=1, seed=1, **QUIET).edges()
        tables = [edges.assign(interval=j) for j in range(ends.size - 1)]
        return pd.concat(tables, ignore_index=True), ""

    def infopath() -> tuple[pd.DataFrame, str]:
        return InfoPath(intervals=ends).fit(data).edges(interval="each"), ""

    return {
        "online": lambda: _fit_changing(data, ends),
        "looking back": lambda: _fit_changing(data, ends, smooth=True),
        "online, no switch": lambda: _fit_changing(data, ends, switch=False),
        "online, flat": lambda: _fit_changing(data, ends, prior="flat"),
        "static": static,
        "InfoPath": infopath,
    }


# --------------------------------------------------------------------------------- held out


def held_out() -> None:
    """Log predictive density per infection of cascades that start after all training ones."""
    chosen = sys.argv[2:] or ("us-policies", "memetracker-forest")
    for name in chosen:
        _held_out(name)


def _held_out(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # neither file states a horizon
        data = cn.Cascades.read_csv(DATA / "cascades" / name / "cascades.csv.gz")
    border = 2000.0 if name == "us-policies" else np.quantile(data.start, 0.8)
    late = data.start >= border
    train, test = data.subset(~late), data.subset(late)
    small = name == "us-policies"
    common: dict[str, Any] = {"delay": "decay", "background": True}
    sampling: dict[str, Any] = {"draws": 200, "tune": 200, "chains": 2}
    sampling = sampling if small else {"draws": 30, "tune": 40, "chains": 1}
    intervals: dict[str, Any] = {"n_intervals": 8 if small else 6, "equal": "cascades"}
    if not small:  # what "auto" chooses on us-policies: choosing here takes a quarter of an hour
        intervals |= {"forgetting": 0.5, "support": 0.1}

    def dynamic() -> Any:
        model = cn.DynamicCoupledHDP(**intervals, **common)
        return model.fit(train, seed=1, **sampling, **QUIET).posterior_

    def static(prior: str) -> Any:
        double = {k: v if k == "chains" else 2 * v for k, v in sampling.items()}
        return cn.CoupledHDP(prior=prior, **common).fit(train, seed=1, **double, **QUIET).posterior_

    tables, notes = {"background": background_only(train, test)}, {"background": ("", 0.0)}
    for method, fit in {
        "flat": lambda: static("flat"),
        "static": lambda: static("hdp"),
        "dynamic": dynamic,
    }.items():
        posterior, seconds = _timed(fit)
        tables[method] = posterior.log_predictive(test)
        used = getattr(posterior, "settings", {})
        memories = f"{used.get('forgetting_used', '')} {used.get('support_used', '')}"
        notes[method] = (memories, seconds)
        if method == "dynamic":
            print(posterior.memories_tried().to_string(index=False))
        score = score_predictive(tables[method])
        print(
            name, method, f"{score.mean:.4f} +- {score.se:.4f}", f"{seconds:.0f} CPU s", flush=True
        )
    rows = []
    order = ("dynamic", "static", "flat", "background")
    for method, below in zip(order, (*order[1:], None), strict=True):
        score = score_predictive(tables[method])
        row = {"method": method, "per infection": score.mean, "s.e.": score.se}
        if below:
            gap = compare_predictive(tables[method], tables[below])
            row |= {"above the next": gap.mean, "s.e. of that": gap.se}
        rows.append(row | {"memories": notes[method][0], "CPU s": notes[method][1]})
    print(f"\n{name}: {train.n_cascades} cascades to fit, {test.n_cascades} to predict")
    print(pd.DataFrame(rows).round(4).to_string(index=False), flush=True)


def background_only(train: cn.Cascades, test: cn.Cascades) -> pd.DataFrame:
    """Every node has its own constant hazard from the start of a cascade, Gamma(1, 0.01 a unit)."""
    count, watched = _counts(train)
    late = [_counts(test.subset([c])) for c in range(test.n_cascades)]
    unit = watched.sum() / max(count.sum(), 1.0)
    shape, rate = 1.0 + count, 0.01 * unit + watched
    rows = []
    for c, (n, exposure) in enumerate(late):
        value = (shape * np.log(rate / (rate + exposure))).sum()
        value += (n * np.log(shape / (rate + exposure))).sum()
        rows.append((test.labels[c], float(value), int(n.sum())))
    return pd.DataFrame(rows, columns=["cascade", "log_predictive", "n_infections"])


def _counts(data: cn.Cascades) -> tuple[np.ndarray, np.ndarray]:
    """Infections that are no seeds, and time at risk, by node."""
    count, watched = np.zeros((2, data.n_nodes))
    for c in range(data.n_cascades):
        part = slice(data.offset[c], data.offset[c + 1])
        begin = data.start[c]
        risk = np.full(data.n_nodes, data.horizon[c] - begin)
        risk[data.node[part]] = data.time[part] - begin
        watched += risk
        count[data.node[part]] += data.time[part] > begin
    return count, watched


# ----------------------------------------------------------------------------------- online


def online() -> None:
    """Twenty intervals one by one against each fitted alone, and what is remembered."""
    if len(sys.argv) == 2:
        subprocess.run([sys.executable, __file__, "online", "run"], check=True)
        return
    network = cn.simulate.kronecker_network("hierarchical", 256, 500, seed=1)
    network = cn.simulate.vary_rates(network, ["slab", "square"], span=(0.0, 200.0), seed=1)
    data = cn.simulate.simulate_cascades(
        network, 10_000, nodes=range(256), window=10.0, start=(0.0, 200.0), seed=1
    ).cascades
    parts = [data.subset((data.start >= t) & (data.start < t + 10.0)) for t in range(0, 200, 10)]
    options: dict[str, Any] = {"forgetting": 0.5, "support": 0.2, "n_intervals": 1}
    sampling: dict[str, Any] = {"draws": 100, "tune": 100, "chains": 1, "seed": 1}

    def alone(part: cn.Cascades) -> Any:
        return cn.CoupledHDP().fit(part, **sampling, **QUIET)

    alone(parts[0])
    model = cn.DynamicCoupledHDP(
        interval=10.0, **{k: options[k] for k in ("forgetting", "support")}
    )
    rows = []
    for j, part in enumerate(parts):
        if j == 0:
            _, seconds = _timed(lambda part=part: model.fit(part, **sampling, **QUIET))
        else:
            _, seconds = _timed(lambda part=part: model.partial_fit(part, keep=1, **QUIET))
        _, batch = _timed(lambda part=part: alone(part))
        past = model.posterior_.past.pairs
        size = sum(x.nbytes for x in vars(past).values())
        rows.append((j, seconds, batch, seconds / batch, past.key.size, size / 1e3, _resident()))
    columns = ["interval", "CPU s", "alone, CPU s", "ratio", "pairs remembered", "kB", "RSS MB"]
    table = pd.DataFrame(rows, columns=columns)
    print(table.round(3).to_string(index=False))
    later = table.iloc[1:]
    ratio = later["CPU s"].sum() / later["alone, CPU s"].sum()
    print(f"ratio of the sums, intervals 1 to 19: {ratio:.3f}")


def _resident() -> float:
    """Resident memory in MB, nan where /proc is not there."""
    try:
        text = Path("/proc/self/statm").read_text(encoding="ascii")
    except OSError:
        return math.nan
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    parts = {"changing": changing, "held-out": held_out, "online": online}
    if len(sys.argv) < 2 or sys.argv[1] not in parts:
        sys.exit(__doc__)
    parts[sys.argv[1]]()
