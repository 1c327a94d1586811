"""Compiled code that lays cascades out by child; conventions as in the kernels of the sampler."""

import numba
import numpy as np


def kernel(function):
    """Compile without the GIL or checks of divisors; cached on disk where that can be written."""
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no writable cache directory: compile again in every process
        return numba.njit(nogil=True, error_model="numpy")(function)


@kernel
def count_pairs(child_ptr, infection, offset, cascade, node, first_cand, pair_count):
    """Count the listed pairs of each child: sources that meet it in a cascade. O(sum L^2).

    ``first_cand`` (I,): position in the cascade of the first infection that can still act; a
    meeting with an earlier one leaves no trace. Writes ``pair_count`` (N,).
    """
    n_nodes = child_ptr.size - 1
    stamp = np.full(n_nodes, -1, np.int64)
    for u in range(n_nodes):
        for m in range(child_ptr[u], child_ptr[u + 1]):
            j = infection[m]
            c = cascade[j]
            for i in range(offset[c], offset[c + 1]):
                v = node[i]
                if v == u or stamp[v] == u or offset[c] + first_cand[i] > j:
                    continue
                stamp[v] = u
                pair_count[v] += 1


@kernel
def fill_pairs(child_ptr, infection, offset, cascade, node, first_cand, cursor, pair_source):
    """List the sources of each child, ascending. Writes ``cursor`` (N,), ``pair_source`` (P,)."""
    n_nodes = child_ptr.size - 1
    stamp = np.full(n_nodes, -1, np.int64)
    for u in range(n_nodes):
        for m in range(child_ptr[u], child_ptr[u + 1]):
            j = infection[m]
            c = cascade[j]
            for i in range(offset[c], offset[c + 1]):
                v = node[i]
                if v == u or stamp[v] == u or offset[c] + first_cand[i] > j:
                    continue
                stamp[v] = u
                pair_source[cursor[v]] = u
                cursor[v] += 1


@kernel
def fill_candidates(
    child_ptr,
    infection,
    offset,
    cascade,
    node,
    n_earlier,
    first_cand,
    pair_ptr,
    pair_source,
    background,
    cand_ptr,
    cand_pair,
):
    """Pair of every candidate. O(Q + P). Writes ``cand_pair`` (Q,)."""
    n_nodes = child_ptr.size - 1
    pair_of = np.zeros(n_nodes, np.int64)
    for v in range(n_nodes):
        for p in range(pair_ptr[v], pair_ptr[v + 1]):
            if pair_source[p] >= 0:
                pair_of[pair_source[p]] = p
        for m in range(child_ptr[v], child_ptr[v + 1]):
            i = infection[m]
            start = offset[cascade[i]]
            q = cand_ptr[m]
            if q == cand_ptr[m + 1]:
                continue
            if background:
                cand_pair[q] = pair_ptr[v]
                q += 1
            for j in range(start + first_cand[i], start + n_earlier[i]):
                cand_pair[q] = pair_of[node[j]]
                q += 1


@kernel
def count_values(values, counts):
    """Add how often each integer occurs, negative ones left out. Writes ``counts``."""
    for i in range(values.size):
        if values[i] >= 0:
            counts[values[i]] += 1


@kernel
def fill_delays(
    low, high, infection, offset, cascade, time, n_earlier, first_cand, background, cand_ptr, delay
):
    """Delays of the candidates of infections ``low:high``. O(their number).

    That of a background one is the time since the start of the cascade. Writes ``delay``.
    """
    for m in range(low, high):
        i = infection[m]
        start = offset[cascade[i]]
        q = cand_ptr[m] - cand_ptr[low]
        if cand_ptr[m] == cand_ptr[m + 1]:
            continue
        if background:
            delay[q] = time[i] - time[start]
            q += 1
        for j in range(start + first_cand[i], start + n_earlier[i]):
            delay[q] = time[i] - time[j]
            q += 1


@kernel
def fill_incidence(cand_ptr, cand_pair, cursor, inc_infection, inc_position):
    """Transpose the candidates: for each pair the infections it could explain. O(Q).

    Writes ``cursor`` (P,), ``inc_infection`` and ``inc_position`` (Q,).
    """
    for m in range(cand_ptr.size - 1):
        for q in range(cand_ptr[m], cand_ptr[m + 1]):
            p = cand_pair[q]
            inc_infection[cursor[p]] = m
            inc_position[cursor[p]] = q - cand_ptr[m]
            cursor[p] += 1


@kernel
def pair_exposure(
    low,
    high,
    child_ptr,
    infection,
    offset,
    cascade,
    node,
    n_earlier,
    first_cand,
    pair_ptr,
    pair_source,
    background,
    cand_ptr,
    cand_cumulative,
    infection_full,
    node_full,
    node_cascades,
    exposure,
):
    """Exposure E of the pairs into nodes ``low:high``, eq. 3 of the survival likelihood.

    O(sum L^2 + P) for all. ``cand_cumulative``: H of the delay of each of their candidates;
    ``infection_full`` (I,): H from the infection to the end of its influence; ``node_full`` (N,)
    its sum by node; ``node_cascades`` (N,): cascades of a node. Cascades in which the child never
    appears come as the difference ``node_full - met``, set to exactly zero where there are none.
    Writes ``exposure`` (P,).
    """
    n_nodes = child_ptr.size - 1
    pair_of = np.full(n_nodes, -1, np.int64)
    met = np.zeros(n_nodes, np.float64)
    direct = np.zeros(n_nodes, np.float64)
    meetings = np.zeros(n_nodes, np.int64)
    shift = (1 if background else 0) - cand_ptr[child_ptr[low]]
    for v in range(low, high):
        for p in range(pair_ptr[v], pair_ptr[v + 1]):
            u = pair_source[p]
            if u >= 0:
                pair_of[u] = p
                met[u] = 0.0
                direct[u] = 0.0
                meetings[u] = 0
        for m in range(child_ptr[v], child_ptr[v + 1]):
            i = infection[m]
            start, stop = offset[cascade[i]], offset[cascade[i] + 1]
            first, earlier = start + first_cand[i], start + n_earlier[i]
            q = cand_ptr[m] + shift - first
            for j in range(start, stop):
                u = node[j]
                if u == v or pair_of[u] < 0:
                    continue
                met[u] += infection_full[j]
                meetings[u] += 1
                if j < first:
                    direct[u] += infection_full[j]
                elif j < earlier:
                    direct[u] += cand_cumulative[q + j]
        for p in range(pair_ptr[v], pair_ptr[v + 1]):
            u = pair_source[p]
            if u >= 0:
                rest = 0.0
                if meetings[u] < node_cascades[u]:
                    rest = max(node_full[u] - met[u], 0.0)
                exposure[p] = direct[u] + rest
                pair_of[u] = -1
