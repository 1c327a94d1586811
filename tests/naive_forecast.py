"""Obvious Python for the forecasts: densities and probabilities as they are defined.

Nothing here uses the compiled code or the layout of pairs by source.
"""

from __future__ import annotations

import math
from itertools import product

from cascadenet.cascades import Cascades
from cascadenet.posterior import Posterior
from tests import naive


class Rates:
    """Gamma laws of all rates under one draw, looked up in the posterior pair by pair."""

    def __init__(self, posterior: Posterior, network: dict) -> None:
        self.posterior, self.network = posterior, network
        self.row = {}
        for i, pair in enumerate(zip(posterior.pair_source, posterior.pair_target, strict=True)):
            self.row[int(pair[0]), int(pair[1])] = i
        self.n = dict(zip(network["used"].tolist(), network["count"].tolist(), strict=True))
        self.delay = posterior.settings["delay"]

    def law(self, u: int, v: int) -> tuple[float, float]:
        """Shape and rate, internal unit; u = -1 is the background."""
        sums, row = self.posterior.sums, self.row.get((u, v), -1)
        if u < 0:
            shape, rate = float(self.network["ground_shape"]), float(self.network["ground_rate"])
        else:
            shape, rate = self.total * self.weight(u, v), float(self.network["b"])
        if row < 0:
            return shape, rate + sums.node_full[u]
        carried = sums.carried[row] if sums.carried.size else 0.0
        return shape + carried + self.n.get(row, 0), rate + sums.exposure[row]

    @property
    def total(self) -> float:
        return float(self.network["total"])

    def weight(self, u: int, v: int) -> float:
        net, n = self.network, self.posterior.n_nodes
        if net["weight"].size == 0:
            return 1.0 / (n * (n - 1))
        ends = zip(net["weight"], net["sender"][u], net["receiver"][v], strict=True)
        return math.fsum(float(d) * float(a) * float(b) for d, a, b in ends)

    def dose(self, delay: float) -> float:
        return naive.cumulative_hazard(self.delay, self.network["theta"], delay)

    def hazard(self, delay: float) -> float:
        return naive.hazard(self.delay, self.network["theta"], delay)


def log_density(rates: Rates, story: naive.Story, limit: int | None) -> float:
    """Log density of a cascade given its seeds, per the user's unit; nodes as in the posterior."""
    posterior = rates.posterior
    unit, background = posterior.unit, posterior.settings["background"]
    total = 0.0
    for v in range(posterior.n_nodes):
        t_v = story.time(v)
        if t_v == story.start:
            continue
        intensity = 0.0
        for t_u, u in story.events:
            if t_u >= t_v:
                continue
            shape, rate = rates.law(u, v)
            until = min(t_v, story.horizon, story.leaves(u, limit))
            dose = rates.dose((until - t_u) / unit)
            total -= shape * math.log1p(dose / rate)
            if t_v <= story.leaves(u, limit) and t_v < math.inf:
                intensity += rates.hazard((t_v - t_u) / unit) * shape / (rate + dose)
        if background:
            shape, rate = rates.law(-1, v)
            waited = (min(t_v, story.horizon) - story.start) / unit
            total -= shape * math.log1p(waited / rate)
            intensity += shape / (rate + waited)
        if t_v < math.inf:
            total += math.log(intensity / unit) if intensity > 0.0 else -math.inf
    return total


def log_predictive(posterior: Posterior, cascades: Cascades) -> list[list[float]]:
    """Log density of each cascade under each draw."""
    index = {label: i for i, label in enumerate(posterior.nodes)}
    tales = []
    for story in naive.stories(cascades):
        events = sorted((t, index[cascades.nodes[v]]) for t, v in story.events)
        tales.append(naive.Story(events, story.horizon))
    limit = posterior.settings["max_candidates"]
    rates = [Rates(posterior, network) for network in posterior.networks]
    return [[log_density(one, story, limit) for story in tales] for one in rates]


def ever_reached(rates: Rates, start: set[int]) -> float:
    """Expected number of nodes reached from a set with no end of time, by all live graphs.

    For delay models whose total hazard is 1.
    """
    n = rates.posterior.n_nodes
    pairs = [(u, v) for u in range(n) for v in range(n) if u != v]
    live = []
    for u, v in pairs:
        shape, rate = rates.law(u, v)
        live.append(1.0 - (rate / (rate + 1.0)) ** shape)
    expected = 0.0
    for present in product((False, True), repeat=len(pairs)):
        chance = math.prod(p if on else 1.0 - p for p, on in zip(live, present, strict=True))
        reached, before = set(start), set()
        while reached != before:
            before = set(reached)
            reached |= {v for (u, v), on in zip(pairs, present, strict=True) if on and u in before}
        expected += chance * len(reached)
    return expected
