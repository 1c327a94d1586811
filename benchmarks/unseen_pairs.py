"""Edges no cascade has used: does `predictive` rank the pairs that transmit later?

    python benchmarks/unseen_pairs.py [NAME ...] [--seeds N]

Prints a table for each planted network below, or for those named. Cascades are simulated on it, the
model is fitted to the first few, and of all ordered pairs that never met in any of those, the ones
an infection of the held-out cascades went along are to be ranked above the others. Scores are ROC
AUC, means over seeds with standard errors:

    prob      column ``prob`` of `predictive`: the distribution of the next edge
    transmit  column ``transmit``: probability of transmission within a delay, which knows too for
              how long each source has been watched to no effect
    blocks    what the planted communities themselves would score, the ceiling

The flat prior gives every pair the same ``prob``: 0.5; its ``transmit`` ranks by exposure alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import cascadenet as cn

HELD_OUT = 600  # cascades


@dataclass(frozen=True)
class Planted:
    """Communities of equal degrees, and how many cascades are seen of them."""

    communities: int
    size: int
    within: float
    between: float
    train: int
    horizon: float = 0.8


NETWORKS = {
    "separate": Planted(4, 50, 0.15, 0.0, 150),
    "small": Planted(4, 25, 0.3, 0.0, 100),
    "two": Planted(2, 50, 0.15, 0.0, 100),
    "leaky": Planted(5, 40, 0.15, 0.02, 150),
    "mixed": Planted(5, 40, 0.10, 0.06, 150),
    "mixed, more data": Planted(5, 40, 0.10, 0.06, 400),
}
MODELS = {
    "default": {},
    "no null community": {"null_community": False},
    "flat": {"prior": "flat"},
}


def unseen_auc(planted: Planted, seed: int, draws: int = 150, tune: int = 300) -> pd.DataFrame:
    """Scores of all models on one simulated network.

    Parameters
    ----------
    planted : Planted
    seed : int
    draws, tune : int
        Of each of two chains.

    Returns
    -------
    DataFrame
        One row a model.
    """
    p = planted
    network = cn.simulate.community_network(p.communities, p.size, p.within, p.between, seed=seed)
    n_nodes = p.communities * p.size
    made = cn.simulate.simulate_cascades(
        network, p.train + HELD_OUT, nodes=range(n_nodes), horizon=p.horizon, seed=seed + 1000
    )
    train = made.cascades.subset(slice(0, p.train))
    source, target = never_met(train)
    label = transmits_later(made, p.train, n_nodes)[source, target]
    rows = []
    for name, settings in MODELS.items():
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the chains have not mixed", UserWarning)
            fit = cn.CoupledHDP(**settings).fit(
                train, draws=draws, tune=tune, chains=2, seed=seed, progress=False
            )
        posterior = fit.posterior_
        table = posterior.predictive(pd.DataFrame({"source": source, "target": target}))
        scalars = posterior.scalars
        rows.append(
            {
                "model": name,
                "prob": auc(label, table["prob"].to_numpy()),
                "transmit": auc(label, table["transmit"].to_numpy()),
                "communities": scalars.get("n_communities", np.zeros(1)).mean(),
                "null share": scalars.get("null_share", np.zeros(1)).mean(),
                "CPU s": time.process_time() - start,
            }
        )
    block = np.arange(n_nodes) // p.size
    density = np.zeros((p.communities, p.communities))
    np.add.at(density, (block[network["source"]], block[network["target"]]), 1.0)
    rows.append({"model": "blocks", "prob": auc(label, density[block[source], block[target]])})
    unseen = {"unseen": source.size, "transmit later": int(label.sum())}
    return pd.DataFrame(rows).assign(seed=seed, **unseen)


def never_met(cascades: cn.Cascades) -> tuple[np.ndarray, np.ndarray]:
    """Ordered pairs of nodes that were in no cascade together."""
    met = np.eye(cascades.n_nodes, dtype=bool)
    for first, stop in zip(cascades.offset[:-1], cascades.offset[1:], strict=True):
        node = cascades.node[first:stop]
        met[np.ix_(node, node)] = True
    return np.nonzero(~met)


def transmits_later(made: cn.simulate.SimulatedCascades, train: int, n_nodes: int) -> np.ndarray:
    """Whether an infection of the cascades after the first ``train`` went along each pair."""
    parents = made.parents[(made.parents["cascade"] >= train) & (made.parents["kind"] == "edge")]
    found = np.zeros((n_nodes, n_nodes), bool)
    found[parents["parent"].astype(int), parents["node"].astype(int)] = True
    return found


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half."""
    rank = pd.Series(score).rank().to_numpy()
    n = int(label.sum())
    return float((rank[label].sum() - n * (n + 1) / 2) / (n * (label.size - n)))


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description="AUC of predictive on pairs never seen")
    parser.add_argument("names", nargs="*", help=", ".join(NETWORKS))
    parser.add_argument("--seeds", type=int, default=6)
    options = parser.parse_args()
    for name in options.names or NETWORKS:
        table = pd.concat([unseen_auc(NETWORKS[name], seed) for seed in range(options.seeds)])
        counts = table[["unseen", "transmit later"]].mean()
        print(f"\n{name}: {NETWORKS[name]}")
        print(f"{counts.iloc[0]:.0f} pairs never met, {counts.iloc[1]:.0f} of them transmit later")
        groups = table.drop(columns=["seed", "unseen", "transmit later"]).groupby(
            "model", sort=False
        )
        shown = groups.mean()
        for column in ("prob", "transmit"):
            shown.insert(shown.columns.get_loc(column) + 1, f"+- {column}", groups[column].sem())
        print(shown.round(3).to_string(na_rep=""), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main()
