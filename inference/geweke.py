"""Joint-distribution tests: does every update leave the joint law of parameters and data as it is?

`joint_test` starts a chain from each of many independent worlds, applies one update or a whole
sweep, and compares functions of state and data before and after. A valid update changes the mean
of none of them, and as worlds are independent the standard error is exact: no burn-in, no
autocorrelation. `successive_test` is the classical form: one long chain in which the cascades are
drawn anew after every sweep, compared with independent worlds.

References
----------
Geweke (2004), "Getting it right: joint distribution tests of posterior simulators", JASA 99.
Gandy and Scott (2020), "Unit testing for MCMC and other Monte Carlo methods", arXiv 2001.06465.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from cascadenet.inference import communities, diagnostics, sampler
from cascadenet.inference.rates import gamma_shape
from cascadenet.inference.sampler import Chain, Model, Update
from cascadenet.inference.worlds import (
    Design,
    adopt,
    draw_cascades,
    draw_world,
    new_chain,
    place,
)

RENEWED = "sweep, new data"
ZTable = dict[str, dict[str, float]]  # block of updates -> statistic -> z

# ---------------------------------------------------------------------------------------------
# statistics
# ---------------------------------------------------------------------------------------------


class Draws:
    """States and data of many chains, one a row, from which statistics are computed at the end.

    Attributes are arrays (rows, ...): scalars, ``theta``, ``count`` and ``exposure`` (rows, N, N)
    of all pairs of nodes, ``memory`` and ``memory_exposure`` what their rates' prior remembers,
    ``ground`` (rows, N) infections from the background, and where the prior has communities
    ``beta``, ``weight``, ``sender``, ``receiver``, ``eta``, ``sent``.
    """

    SCALARS = ("total", "b", "background_rate", "alpha", "tau", "gamma")
    NETWORK = ("beta", "weight", "sender", "receiver", "eta", "sent")

    def __init__(self, rows: int, chain: Chain) -> None:
        n_nodes = chain.layout.n_nodes
        self.model = chain.model
        self.delay_sum, self.infections = np.zeros(rows), np.zeros(rows)
        self.theta = np.zeros((rows, len(chain.model.delay.parameters)))
        self.count, self.exposure = np.zeros((2, rows, n_nodes, n_nodes))
        self.memory, self.memory_exposure = np.zeros((2, rows, n_nodes, n_nodes))
        self.kept = np.zeros((rows, *chain.state.kept.shape))
        self.ground = np.zeros((rows, n_nodes))
        self.copied = self.SCALARS + (("persistence", "kept") if chain.model.switch else ())
        if chain.model.prior == "hdp":
            self.copied += self.NETWORK
        for name in self.copied:
            setattr(self, name, np.zeros((rows, *np.shape(getattr(chain.state, name)))))

    def put(self, row: int, chain: Chain) -> None:
        """Copy the state of a chain and what matters of its data."""
        state, layout = chain.state, chain.layout
        for name in self.copied:
            getattr(self, name)[row] = getattr(state, name)
        self.theta[row] = state.theta
        source, child = layout.pair_source, layout.pair_child
        if layout.background:
            self.ground[row] = state.n_pair[layout.pair_ptr[:-1]]
        edge = chain.edge_pairs if layout.background else slice(None)
        self.count[row][source[edge], child[edge]] = state.n_pair[edge]
        exposure = self.exposure[row]
        exposure[:] = state.node_full[:, None]
        exposure[source[edge], child[edge]] = state.exposure[edge]
        exposure.flat[:: layout.n_nodes + 1] = 0.0
        if chain.carried.pairs:
            self.memory[row][source[edge], child[edge]] = chain.carried.n[edge]
            old = self.memory_exposure[row]
            old[:] = chain.carried.node_exposure[:, None]
            old[source[edge], child[edge]] = chain.carried.exposure[edge]
            old.flat[:: layout.n_nodes + 1] = 0.0
        rows = np.flatnonzero(state.parent >= 0)
        held = layout.cand_ptr[rows] + state.choice[rows]
        self.delay_sum[row] = np.log1p(layout.cand_delay[held]).sum()
        self.infections[row] = rows.size

    def statistics(self, tokens: bool) -> dict[str, np.ndarray]:
        """Functions of state and data whose means an update must not move, each (rows,).

        ``tokens`` says that the tokens belong to the state; after other updates they are left over.
        """
        found = self._rates() | self._delays()
        if self.model.switch:
            found |= self._memories()
        if self.model.prior == "hdp":
            found |= self._network()
            if tokens:
                found |= self._tokens()
        return found

    def shape(self) -> np.ndarray:
        """Gamma shape r of all pairs, (rows, N, N)."""
        n_nodes = self.count.shape[1]
        if self.model.prior == "flat":
            p = np.full(self.count.shape, 1.0 / (n_nodes * (n_nodes - 1)))
        else:
            sender = (self.sender * self.weight[:, None])[:, :n_nodes]
            p = sender @ self.receiver[:, :n_nodes].transpose(0, 2, 1)
        p[:, range(n_nodes), range(n_nodes)] = 0.0
        return self.total[:, None, None] * p

    def _rates(self) -> dict[str, np.ndarray]:
        n, b = self.count, self.b[:, None, None] + self.memory_exposure
        shape = self.shape()
        p = shape / self.total[:, None, None]
        shape = shape + self.memory
        watched = np.log1p(self.exposure / b)
        squares = (n * n).sum(axis=(1, 2))
        return {
            "Lambda": self.total,
            "log Lambda": np.log(self.total),
            "log b": np.log(self.b),
            "p_01": p[:, 0, 1],
            "p_30": p[:, 3, 0],
            "sum p^2": (p * p).sum(axis=(1, 2)),
            "sum p E": (p * self.exposure).sum(axis=(1, 2)),
            "sum p log(1+E/b)": (p * watched).sum(axis=(1, 2)),
            "rate_01": ((shape + n) / (b + self.exposure))[:, 0, 1],
            "rate_23": ((shape + n) / (b + self.exposure))[:, 2, 3],
            "pairs used": (n > 0).sum(axis=(1, 2)),
            "sum n^2": squares,
            "n_01": n[:, 0, 1],
            "sum n p": (n * p).sum(axis=(1, 2)),
            "sum n log(1+E/b)": (n * watched).sum(axis=(1, 2)),
            "Lambda * infections": self.total * self.infections,
            "log b * infections": np.log(self.b) * self.infections,
            "log b * sum n^2": np.log(self.b) * squares,
        }

    def _delays(self) -> dict[str, np.ndarray]:
        delay = self.model.delay
        found = {"sum log(1+delay)": self.delay_sum}
        for j, name in enumerate(delay.parameters):
            phi = np.log(self.theta[:, j]) if delay.positive[j] else self.theta[:, j]
            found |= {f"phi({name})": phi, f"phi({name})^2": phi * phi}
            found[f"phi({name}) * log b"] = phi * np.log(self.b)
            found[f"phi({name}) * sum log(1+delay)"] = phi * self.delay_sum
        if self.model.background:
            log_d = np.log(self.background_rate)
            total = self.ground.sum(axis=1)
            found |= {
                "log d0": log_d,
                "n background": total,
                "log d0 * n background": log_d * total,
            }
            found["n background^2"] = (self.ground**2).sum(axis=1)
        return found

    def _memories(self) -> dict[str, np.ndarray]:
        in_force, n = self.kept.sum(axis=(1, 2)), self.count
        return {
            "persistence": self.persistence,
            "memories in force": in_force,
            "persistence * memories in force": self.persistence * in_force,
            "sum n c": (n * self.memory).sum(axis=(1, 2)),
            "log b * memories in force": np.log(self.b) * in_force,
        }

    def _network(self) -> dict[str, np.ndarray]:
        weight, sender, receiver = self.weight[:, 1:], self.sender[..., 1:], self.receiver[..., 1:]
        found = {f"log {name}": np.log(getattr(self, name)) for name in ("alpha", "tau", "gamma")}
        squares = (sender * sender).sum(axis=(1, 2))
        return found | {
            "D_0": self.weight[:, 0],
            "sum D^2": (weight * weight).sum(axis=1),
            "beta_0": self.beta[:, 0],
            "sum beta^2": (self.beta * self.beta).sum(axis=1),
            "sum A^2": squares,
            "tau * sum A^2": self.tau * squares,
            "sum A beta": (self.beta * sender[..., 0]).sum(axis=1),
            "sum A B": (sender * receiver).sum(axis=(1, 2)),
        }

    def _tokens(self) -> dict[str, np.ndarray]:
        eta, sent = self.eta[:, 1:], self.sent[..., 1:]
        occupied = (eta > 0).sum(axis=1)
        squares = (sent * sent).sum(axis=(1, 2))
        return {
            "tokens": self.eta.sum(axis=1),
            "eta_0": self.eta[:, 0],
            "sum eta^2": (eta * eta).sum(axis=1),
            "communities": occupied,
            "sum s^2": squares,
            "tau * sum s^2": self.tau * squares,
            "alpha * communities": self.alpha * occupied,
        }


# ---------------------------------------------------------------------------------------------
# independent worlds
# ---------------------------------------------------------------------------------------------


def blocks(model: Model, design: Design) -> dict[str, tuple[Update, ...]]:
    """Every update of a sweep as something that leaves the joint law alone by itself.

    An update behind `draw_tokens` leaves the network integrated out: it is followed by
    `draw_network`, and its worlds have tokens. The last two blocks are the whole sweep, alone and
    followed by new rates and data.
    """
    updates = sampler.sweep_updates(model)
    collapsed = communities.draw_tokens in updates
    first = updates.index(communities.draw_tokens) if collapsed else len(updates)
    found = {}
    for i, update in enumerate(updates):
        needed = {update, sampler.refresh_shape}
        if i >= first and update is not sampler.refresh_shape:
            needed.add(communities.draw_network)
        found[update.__name__] = tuple(one for one in updates if one in needed)
    found["sweep"] = updates
    return found | {RENEWED: (*updates, partial(redraw_data, design=design))}


def joint_test(
    model: Model,
    design: Design,
    tested: Mapping[str, Sequence[Update]],
    *,
    replicates: int,
    seed: int | np.random.Generator,
    repeats: int = 1,
    chain_model: Model | None = None,
) -> ZTable:
    """z values of all statistics after each of the given blocks of updates.

    Parameters
    ----------
    model : Model
        Worlds are drawn from it.
    design : Design
    tested : mapping of str to sequence of updates
        See `blocks`. All start from the same worlds.
    replicates : int
        Number of independent worlds, which is the effective sample size.
    seed : int or numpy.random.Generator
    repeats : int
        Times a block is applied: errors add up.
    chain_model : Model, optional
        Model of the chain where it is not that of the worlds.

    Returns
    -------
    dict of str to dict of str to float
        For each block and statistic the mean difference over its standard error; exactly 0 for
        what a block does not touch.
    """
    rng = np.random.default_rng(seed)
    chain = new_chain(rng, chain_model or model, design, draw_world(rng, model, design))
    before = Draws(replicates, chain)
    after = {name: Draws(replicates, chain) for name in tested}
    for row in range(replicates):
        world = draw_world(rng, model, design)
        place(chain, world, design)
        if model.prior == "hdp":
            communities.draw_tokens(chain)
        data, start = (chain.layout, chain.edge_pairs, chain.carried), dict(vars(chain.state))
        before.put(row, chain)
        for name, updates in tested.items():
            chain.layout, chain.edge_pairs, chain.carried = data
            vars(chain.state).update({key: copy.copy(value) for key, value in start.items()})
            chain.carried.use(chain.state.kept)
            for update in (*updates,) * repeats:
                update(chain)
            after[name].put(row, chain)
    table = {}
    for name, updates in tested.items():
        tokens = communities.draw_network in updates and name != RENEWED
        reference = before.statistics(tokens)
        found = after[name].statistics(tokens)
        table[name] = {key: paired_z(reference[key], found[key]) for key in found}
    return table


def paired_z(before: np.ndarray, after: np.ndarray) -> float:
    """Mean change over its standard error; 0 where nothing changes but by rounding."""
    change = after - before
    sd = float(change.std(ddof=1))
    if _is_rounding(sd, before):
        return 0.0
    return float(change.mean()) * math.sqrt(change.size) / sd


def _is_rounding(sd: float, values: np.ndarray) -> bool:
    """Whether a standard deviation is no more than rounding of such values."""
    return sd <= 1e-9 * (1.0 + float(np.abs(values).max()))


def worst(table: ZTable) -> tuple[str, str, float]:
    """Block, statistic and z of the largest |z|."""
    every = ((block, name, z) for block, row in table.items() for name, z in row.items())
    return max(every, key=lambda item: abs(item[2]))


# ---------------------------------------------------------------------------------------------
# one long chain
# ---------------------------------------------------------------------------------------------


def successive_test(
    model: Model,
    design: Design,
    *,
    sweeps: int,
    seed: int | np.random.Generator,
) -> dict[str, tuple[float, float]]:
    """Geweke's test of the sweep: z and effective sample size of every statistic.

    In turn one sweep given the cascades; rates given parents and exposures, from
    Gamma(r + n, b + E); and new cascades, with parents, given the rates. The chain's means are
    compared with those of as many independent worlds.

    Parameters
    ----------
    model : Model
    design : Design
    sweeps : int
    seed : int or numpy.random.Generator

    Returns
    -------
    dict of str to (float, float)
        z, with the standard error from the effective sample size, and that size; nothing for
        statistics that are constant under the model.
    """
    rng = np.random.default_rng(seed)
    chain = new_chain(rng, model, design, draw_world(rng, model, design))
    kept, worlds = Draws(sweeps, chain), Draws(sweeps, chain)
    for row in range(sweeps):
        world = draw_world(rng, model, design)
        place(chain, world, design)
        worlds.put(row, chain)
    for row in range(sweeps):
        chain.sweep()
        redraw_data(chain, design)
        kept.put(row, chain)
    table = diagnostics.summarise(kept.statistics(False))
    found = {}
    for name, values in worlds.statistics(False).items():
        if _is_rounding(float(values.std()), values):
            continue
        error = math.hypot(table.loc[name, "mcse_mean"], values.std() / math.sqrt(sweeps))
        z = (table.loc[name, "mean"] - values.mean()) / error
        found[name] = (float(z), float((table.loc[name, "sd"] / table.loc[name, "mcse_mean"]) ** 2))
    return found


def redraw_data(chain: Chain, design: Design) -> None:
    """Rates given parents and exposures, then cascades and parents given the rates."""
    state, model, layout, rng = chain.state, chain.model, chain.layout, chain.rng
    one = Draws(1, chain)
    one.put(0, chain)
    prior_rate = state.b + one.memory_exposure[0]
    rates = rng.standard_gamma(one.shape()[0] + one.memory[0] + one.count[0])
    rates /= prior_rate + one.exposure[0]
    ground = None
    if layout.background:
        listed = layout.pair_ptr[:-1]
        shape = gamma_shape(chain)[listed] + state.n_pair[listed]
        ground = rng.standard_gamma(shape) / state.rate[listed]
    cascades, parents = draw_cascades(rng, model, design, state.theta, rates, ground)
    adopt(chain, cascades, parents, design)
