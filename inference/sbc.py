"""Simulation-based calibration: is the truth a typical draw of the posterior?

`rank_worlds` draws worlds from the joint law, samples the posterior of each from the sampler's own
starting point, and counts the draws below the truth: ranks are uniform when the sampler is right
and long enough. `carried_pairs` asks the same of the probabilities in the edge table, through the
public interface: of the pairs given probability 0.8, 80% must have carried an infection.

References
----------
Talts, Betancourt, Simpson, Vehtari and Gelman (2018), "Validating Bayesian inference algorithms
with simulation-based calibration", arXiv 1804.06788.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from cascadenet.delays import get_delay
from cascadenet.inference.coupled_hdp import CoupledHDP
from cascadenet.inference.geweke import Draws
from cascadenet.inference.sampler import Chain, Model
from cascadenet.inference.worlds import (
    Design,
    World,
    draw_parameters,
    draw_world,
    edge_shape,
    lay_out,
    small_model,
)
from cascadenet.simulate import simulate_cascades

PAIRS = ((0, 1), (1, 3), (3, 2))  # whose rates and infections are ranked
CASES: dict[str, tuple[Model, Design]] = {
    "hdp": (small_model("weibull", background=True), Design()),
    "flat": (small_model("lognormal", prior="flat"), Design()),
}
# Worlds of the reliability diagram: more nodes, the default priors left to the fit.
WORLD = Model(
    delay=get_delay("exponential"),
    truncation=4,
    total_prior=(50.0, 1.0),
    b_prior=(50.0, 50.0),
    alpha_prior=(4.0, 1.0),
    concentration_shape=1.0,
)


@dataclass(frozen=True)
class Ranks:
    """Ranks of the truth among posterior draws.

    Attributes
    ----------
    draws : int
        Posterior draws of each world; ranks are 0 to ``draws``.
    rank : dict of str to int64 array, shape (worlds,)
        For each quantity the draws below the truth, ties broken at random.
    prob, carried : float64 and bool array, shape (pairs of all worlds,)
        Posterior probability that a pair carried an infection, and whether it did; pairs that met.
    """

    draws: int
    rank: dict[str, np.ndarray]
    prob: np.ndarray
    carried: np.ndarray


def rank_worlds(
    model: Model,
    design: Design,
    *,
    replicates: int,
    seed: int | np.random.Generator,
    draws: int = 63,
    thin: int = 5,
    tune: int = 100,
    chain_model: Model | None = None,
) -> Ranks:
    """Rank the truth among posterior draws in many worlds.

    Parameters
    ----------
    model : Model
        Worlds are drawn from it.
    design : Design
    replicates : int
        Number of worlds.
    seed : int or numpy.random.Generator
    draws, thin, tune : int
        Draws of each world, sweeps to each of them, and sweeps before the first.
    chain_model : Model, optional
        Model of the chain where it is not that of the worlds.

    Returns
    -------
    Ranks
    """
    rng = np.random.default_rng(seed)
    rank: dict[str, list[int]] = {}
    prob, carried = [], []
    for _ in range(replicates):
        world = draw_world(rng, model, design)
        chain = Chain(lay_out(world.cascades, model, design), chain_model or model, rng)
        kept, hits = _sample(chain, draws, thin, tune)
        count = true_counts(world, design.n_nodes)
        truth, drawn = _true_values(world, count), _drawn_values(kept, rng)
        for name, values in drawn.items():
            rank.setdefault(name, []).append(_rank(rng, truth[name], values))
        edge = chain.layout.pair_source >= 0
        source, child = chain.layout.pair_source[edge], chain.layout.pair_child[edge]
        prob.append(hits[edge] / (draws * thin))
        carried.append(count[source, child] > 0)
    ranks = {name: np.array(values) for name, values in rank.items()}
    return Ranks(draws, ranks, np.concatenate(prob), np.concatenate(carried))


def _sample(chain: Chain, draws: int, thin: int, tune: int) -> tuple[Draws, np.ndarray]:
    """Draws of a chain, and for each listed pair the sweeps in which it carried an infection.

    Concentrations are free for the second half of tuning, when proposal scales no longer move: the
    truncation is part of these worlds, and must not grow.
    """
    for sweep in range(tune):
        chain.adapting = chain.holding = sweep < tune // 2
        chain.sweep()
    kept = Draws(draws, chain)
    hits = np.zeros(chain.layout.n_pairs)
    for row in range(draws):
        for _ in range(thin):
            chain.sweep()
            hits += chain.state.n_pair > 0
        kept.put(row, chain)
    return kept, hits


def true_counts(world: World, n_nodes: int) -> np.ndarray:
    """Infections that each pair carried, shape (N, N)."""
    count = np.zeros((n_nodes, n_nodes), np.int64)
    for child, parent in zip(world.cascades.node.tolist(), world.parents, strict=True):
        if parent >= 0:
            count[parent, child] += 1
    return count


def _true_values(world: World, count: np.ndarray) -> dict[str, float]:
    values = {name: x for name, x in world.parameters.items() if np.ndim(x) == 0}
    values |= {f"theta_{j}": x for j, x in enumerate(world.parameters["theta"])}
    for u, v in PAIRS:
        values[f"rate_{u}{v}"], values[f"n_{u}{v}"] = world.rates[u, v], count[u, v]
    return values


def _drawn_values(kept: Draws, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draws of what is ranked; rates from their law given parents, b and exposure."""
    model = kept.model
    values = {"total": kept.total, "b": kept.b}
    if model.prior == "hdp":
        values |= {"alpha": kept.alpha, "tau": kept.tau, "gamma": kept.gamma}
    if model.background:
        values["background_rate"] = kept.background_rate
    values |= {f"theta_{j}": kept.theta[:, j] for j in range(kept.theta.shape[1])}
    shape = kept.shape()
    for u, v in PAIRS:
        count = kept.count[:, u, v]
        rate = kept.b + kept.exposure[:, u, v]
        values[f"rate_{u}{v}"] = rng.standard_gamma(shape[:, u, v] + count) / rate
        values[f"n_{u}{v}"] = count
    return values


def _rank(rng: np.random.Generator, truth: float, values: np.ndarray) -> int:
    """Draws below the truth, ties broken at random."""
    return int((values < truth).sum() + rng.integers((values == truth).sum() + 1))


def uniformity(ranks: Ranks, bins: int = 8, seed: int = 0) -> dict[str, tuple[float, float]]:
    """p values of uniform ranks for every quantity: chi-square and Kolmogorov-Smirnov.

    Parameters
    ----------
    ranks : Ranks
    bins : int
        Of the chi-square test; must divide ``ranks.draws + 1``.
    seed : int
        Ranks are spread out at random within their steps, which makes the second test exact.

    Raises
    ------
    ValueError
        If ``bins`` does not divide the number of ranks.
    """
    rng = np.random.default_rng(seed)
    found = {}
    for name in ranks.rank:
        count = rank_histogram(ranks, name, bins)
        place = (ranks.rank[name] + rng.random(ranks.rank[name].size)) / (ranks.draws + 1)
        chi_square = float(stats.chisquare(count).pvalue)
        found[name] = (chi_square, float(stats.kstest(place, "uniform").pvalue))
    return found


def rank_histogram(ranks: Ranks, name: str, bins: int) -> np.ndarray:
    """Ranks of one quantity in bins of equal probability, int64, shape (bins,)."""
    if (ranks.draws + 1) % bins:
        raise ValueError(f"bins must divide the {ranks.draws + 1} ranks; got {bins}")
    return np.bincount(ranks.rank[name] * bins // (ranks.draws + 1), minlength=bins)


def carried_pairs(
    *,
    replicates: int,
    seed: int,
    n_nodes: int = 30,
    n_cascades: int = 80,
    fit: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Edge tables of fits to networks drawn from the model, and what truly happened.

    Parameters
    ----------
    replicates : int
        Number of networks.
    seed : int
    n_nodes, n_cascades : int
        Size of each.
    fit : mapping, optional
        Arguments of :meth:`CoupledHDP.fit`; by default 2 chains of 300 sweeps after 300 of tuning.

    Returns
    -------
    pandas.DataFrame
        Columns network, source, target, prob, carried: all pairs that met in a cascade.
    """
    fit = fit or {"draws": 300, "tune": 300, "chains": 2}
    rng = np.random.default_rng(seed)
    tables = []
    for number in range(replicates):
        parameters = draw_parameters(rng, WORLD, n_nodes)
        rates = rng.standard_gamma(edge_shape(parameters, WORLD, n_nodes)) / parameters["b"]
        source, target = np.nonzero(rates > 1e-9)
        network = pd.DataFrame({"source": source, "target": target, "rate": rates[source, target]})
        data = simulate_cascades(
            network,
            n_cascades,
            nodes=range(n_nodes),
            horizon=rng.uniform(0.2, 1.0, n_cascades),
            seed=rng,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # short chains are part of the test
            model = CoupledHDP().fit(
                data.cascades, seed=int(rng.integers(2**31)), progress=False, **fit
            )
        table = model.edges()[["source", "target", "prob"]]
        edges = data.parents.loc[data.parents["kind"] == "edge", ["parent", "node"]]
        true = set(zip(edges["parent"].astype(int), edges["node"].astype(int), strict=True))
        pairs = zip(table["source"], table["target"], strict=True)
        table["carried"] = [pair in true for pair in pairs]
        table.insert(0, "network", number)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
