"""Compiled code of the shards, and nothing else; conventions as in the samplers' kernels."""

import math

import numba
import numpy as np


def kernel(function):
    """Compile without the GIL; cache on disk where a cache directory can be written."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no writable cache directory: compile again in every process
        return numba.njit(nogil=True)(function)


@kernel
def running_sums(values, low, high, found):
    """Running sums down some columns. O(n K). Writes rows ``low:high`` of ``found`` (K, n).

    ``values`` (n, K).
    """
    total = np.zeros(high - low, np.float64)
    for u in range(values.shape[0]):
        for k in range(low, high):
            total[k - low] += values[u, k]
            found[k, u] = total[k - low]


@kernel
def _search(cumulative, target):
    """First index whose cumulative weight exceeds ``target``. O(log)."""
    low, high = 0, cumulative.size - 1
    while low < high:
        middle = (low + high) // 2
        if cumulative[middle] > target:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def thin_phantoms(
    community,
    cumulative_sender,
    cumulative_receiver,
    first,
    n_nodes,
    pair_ptr,
    pair_source,
    exposure,
    node_full,
    b,
    log_max,
    uniform,
    sender,
    receiver,
    keep,
):
    """Endpoints of phantom tokens into one shard, and whether exposure balancing keeps them (3.4).

    ``community`` (T,); ``cumulative_sender`` (K, N') and ``cumulative_receiver`` (K, n): running
    sums of each community's senders, and of its receivers ``first, first + 1, ...``, which are
    the shard's; a token is kept with probability ``1 - log(1 + E/b) / log_max``. Endpoints beyond
    ``n_nodes`` and self-pairs have no exposure. O(T log N).
    ``uniform`` (T, 3). Writes ``sender``, ``receiver`` (T,) and ``keep`` (T,) bool.
    """
    for t in range(community.size):
        row = cumulative_sender[community[t]]
        u = _search(row, uniform[t, 0] * row[row.size - 1])
        row = cumulative_receiver[community[t]]
        v = first + _search(row, uniform[t, 1] * row[row.size - 1])
        e = 0.0
        if u != v and u < n_nodes and v < n_nodes:
            e = node_full[u] / b
            low, high = pair_ptr[v], pair_ptr[v + 1]
            while low < high:
                middle = (low + high) // 2
                if pair_source[middle] < u:
                    low = middle + 1
                else:
                    high = middle
            if low < pair_ptr[v + 1] and pair_source[low] == u:
                e = exposure[low] / b
        sender[t] = u
        receiver[t] = v
        keep[t] = uniform[t, 2] * log_max >= math.log(1.0 + e)
