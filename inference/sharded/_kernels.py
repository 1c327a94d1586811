"""Compiled code of the shards, and nothing else; conventions as in the samplers' kernels."""

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
