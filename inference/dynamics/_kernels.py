"""Compiled code of the dynamics; conventions as in `cascadenet.inference._kernels`."""

import math

import numba
import numpy as np


def kernel(function):
    """Compile without the GIL or checks of divisors; cached on disk where that can be written."""
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no writable cache directory: compile again in every process
        return numba.njit(nogil=True, error_model="numpy")(function)


@kernel
def sequential_density(
    order,
    offset,
    node,
    n_earlier,
    first_cand,
    row_of,
    cand_ptr,
    cand_cumulative,
    cand_hazard,
    infection_full,
    background,
    at_risk,
    pair_ptr,
    pair_target,
    kept,
    shape,
    rate,
    fresh_shape,
    fresh_rate,
    node_mass,
    node_rate,
    ground_shape,
    ground_rate,
    density,
):
    """Log density of cascades one after another, each learnt from once it is predicted.

    The rate of a listed pair is Gamma(``shape``, ``rate``) with probability ``kept`` and
    Gamma(``fresh_shape``, ``fresh_rate``) otherwise (P,), pairs by source (``pair_ptr``) and then
    target; those of a source that are not listed have shapes that add up to ``node_mass`` and the
    rate ``node_rate`` (N,). After each cascade exposures are added to the rates, and to the shapes
    the probabilities of having been the parent: an assumed-density update.
    ``order`` (C,): cascades in the order of their starts. ``row_of`` (I,): row of an infection
    in the layout, whose candidates have ``cand_cumulative`` and ``cand_hazard`` (Q,).
    ``at_risk`` (C,): time from the start to the horizon, for the background of nodes that stay
    uninfected. O(infections times listed pairs of a source). ``density`` (C,)
    and everything from ``kept`` on that is not empty.
    """
    place = np.full(pair_ptr.size - 1, -1, np.int64)  # infection of each node in the cascade
    widest = 0
    for c in range(offset.size - 1):
        widest = max(widest, offset[c + 1] - offset[c])
    acting = np.full((widest, widest), -1, np.int64)  # pair of each source and child in it
    laws = (kept, shape, rate, fresh_shape, fresh_rate)
    for c in order:
        start, stop, total = offset[c], offset[c + 1], 0.0
        for j in range(start, stop):
            place[node[j]] = j
        for i in range(start, stop):
            u = node[i]
            for p in range(pair_ptr[u], pair_ptr[u + 1]):
                dose = infection_full[i]
                j = place[pair_target[p]]
                if j >= 0:
                    if start + n_earlier[j] <= i:
                        continue  # infected before, or together
                    acting[i - start, j - start] = p
                    if i - start >= first_cand[j]:
                        lag = i - start - first_cand[j]
                        dose = cand_cumulative[cand_ptr[row_of[j]] + background + lag]
                if dose > 0.0:
                    total += _expose(p, dose, laws)
            total -= node_mass[u] * math.log(1.0 + infection_full[i] / node_rate[u])
            node_rate[u] += infection_full[i]
        if background:
            for v in range(place.size):
                dose = at_risk[c]
                if place[v] >= 0:
                    row = row_of[place[v]]
                    seed = cand_ptr[row] == cand_ptr[row + 1]
                    dose = 0.0 if seed else cand_cumulative[cand_ptr[row]]
                if dose > 0.0:
                    total -= ground_shape[v] * math.log(1.0 + dose / ground_rate[v])
                    ground_rate[v] += dose
        for j in range(start, stop):
            first, last = cand_ptr[row_of[j]], cand_ptr[row_of[j] + 1]
            if first == last:
                continue
            v = node[j]
            ground = ground_shape[v] / ground_rate[v] * cand_hazard[first] if background else 0.0
            first += background
            pairs = acting[first_cand[j] : first_cand[j] + last - first, j - start]
            hazard = _blame(pairs, cand_hazard[first:last], ground, laws)
            total += math.log(hazard) if hazard > 0.0 else -math.inf
            if ground > 0.0:
                ground_shape[v] += ground / hazard
        for j in range(start, stop):
            place[node[j]] = -1
        density[c] = total


@kernel
def _expose(p, dose, laws):
    """Log probability that a pair stays silent, learnt from. Writes the laws of the pair."""
    kept, shape, rate, fresh_shape, fresh_rate = laws
    stay = -shape[p] * math.log(1.0 + dose / rate[p])
    rate[p] += dose
    if kept[p] == 1.0:
        return stay
    renewed = -fresh_shape[p] * math.log(1.0 + dose / fresh_rate[p])
    fresh_rate[p] += dose
    top = max(stay, renewed)
    a = kept[p] * math.exp(stay - top)
    b = (1.0 - kept[p]) * math.exp(renewed - top)
    kept[p] = a / (a + b)
    return top + math.log(a + b)


@kernel
def _mean_rate(p, laws):
    """Expected rate of a pair; one that certainly is what it was has no other law."""
    kept, shape, rate, fresh_shape, fresh_rate = laws
    mean = shape[p] / rate[p]
    if kept[p] < 1.0:
        mean = kept[p] * mean + (1.0 - kept[p]) * fresh_shape[p] / fresh_rate[p]
    return mean


@kernel
def _blame(pairs, hazards, ground, laws):
    """Hazard of an infection, which its candidates' laws then learn from in proportion.

    ``pairs``, ``hazards`` (candidates,): pairs and hazard shapes; ``ground``: hazard from outside.
    Writes the laws of the pairs.
    """
    kept, shape, rate, fresh_shape, _ = laws
    hazard = ground
    for x in range(pairs.size):
        hazard += hazards[x] * _mean_rate(pairs[x], laws)
    if not hazard > 0.0:
        return hazard
    for x in range(pairs.size):
        p = pairs[x]
        mean, old = _mean_rate(p, laws), shape[p] / rate[p]
        share = hazards[x] * mean / hazard
        shape[p] += share
        if kept[p] < 1.0:
            fresh_shape[p] += share
            if mean > 0.0:
                kept[p] *= share * old / mean + (1.0 - share)
    return hazard
