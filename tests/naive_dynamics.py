"""Plain definitions that the code of networks that change is held equal to."""

from __future__ import annotations

import math


def sequential_density(stories, order, unit, hazard, cumulative, prior, ground=None):
    """Log density of each cascade given those before it in ``order``, with soft counts.

    ``stories``: for each cascade its horizon and a list of (node, time). ``hazard`` and
    ``cumulative``: h and H of a delay in units of ``unit``. ``prior[u, v]``: share kept, (shape,
    rate) if kept, (shape, rate) if not. ``ground[v]``: (shape, rate).
    """
    laws = {pair: [share, list(kept), list(fresh)] for pair, (share, kept, fresh) in prior.items()}
    outside = {v: list(law) for v, law in (ground or {}).items()}
    nodes = {u for u, _ in prior}
    found = [0.0] * len(stories)
    for c in order:
        horizon, infected = stories[c]
        when = dict(infected)
        start = min(when.values())
        total = 0.0
        for u in when:
            for v in nodes - {u}:
                end = min(when.get(v, math.inf), horizon)
                if end <= when[u]:
                    continue
                dose = cumulative((end - when[u]) / unit)
                law = laws[u, v]
                survive = []
                for shape_rate in law[1:]:
                    shape, rate = shape_rate
                    survive.append((rate / (rate + dose)) ** shape)
                    shape_rate[1] += dose
                both = law[0] * survive[0] + (1.0 - law[0]) * survive[1]
                total += math.log(both)
                law[0] = law[0] * survive[0] / both
        for v, law in outside.items():
            end = min(when.get(v, math.inf), horizon)
            if end > start:
                dose = (end - start) / unit
                total += law[0] * math.log(law[1] / (law[1] + dose))
                law[1] += dose
        for v in when:
            parents = [u for u in when if when[u] < when[v]]
            if not parents:
                continue
            terms = {}
            for u in parents:
                share, kept, fresh = laws[u, v]
                mean = share * kept[0] / kept[1] + (1.0 - share) * fresh[0] / fresh[1]
                terms[u] = mean * hazard((when[v] - when[u]) / unit)
            everything = sum(terms.values())
            if outside:
                everything += outside[v][0] / outside[v][1]
            total += math.log(everything / unit)
            for u in parents:
                law = laws[u, v]
                share, kept, fresh = law
                q = terms[u] / everything
                mean = share * kept[0] / kept[1] + (1.0 - share) * fresh[0] / fresh[1]
                blamed = share * (kept[0] / kept[1]) / mean
                law[0] = q * blamed + (1.0 - q) * share
                kept[0] += q
                fresh[0] += q
            if outside:
                outside[v][0] += outside[v][0] / outside[v][1] / everything
        found[c] = total
    return found
