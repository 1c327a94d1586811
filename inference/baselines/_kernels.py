"""All compiled code of the baselines, and nothing else.

Conventions are those of the samplers' kernels: infections are rows laid out by child, the
candidates of row ``m`` are ``cand_ptr[m]:cand_ptr[m+1]``, and pair ``p`` could explain the rows
``inc_infection[inc_ptr[p]:inc_ptr[p+1]]``, at ``inc_position`` among their candidates. ``row_of``
leads from an infection in the order of the cascades to its row. Arrays named in the last line of a
docstring are written, all others are only read.

No kernel is compiled with ``fastmath``: results are the same bytes with the compiler switched off.
"""

import math

import numba
import numpy as np

SMALLEST_RATE = 1e-100  # internal unit; sums of smaller ones could underflow


def kernel(function):
    """Compile without the GIL or checks of divisors; cached on disk where that can be written."""
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no writable cache directory: compile again in every process
        return numba.njit(nogil=True, error_model="numpy")(function)


# ---------------------------------------------------------------------------------------------
# greedy choice of edges
# ---------------------------------------------------------------------------------------------


@kernel
def greedy_edges(
    cand_ptr,
    weight,
    log_hazard,
    inc_ptr,
    inc_infection,
    inc_position,
    pair_child,
    exposure,
    outside,
    price,
    most,
    patience,
    chosen,
    gain,
    criterion,
):
    """Add edges, each time the one that raises the tree likelihood most.

    ``weight`` (Q,): log weight of each candidate over that of an unexplained infection;
    ``log_hazard`` (Q,) or empty; ``exposure`` (P,); ``outside``: exposure to the background. Gains
    only fall as edges are added, and only for pairs into the same child, so one that was computed
    earlier is a bound, and still exact where the child has no new edge. Of equal gains the first
    pair wins. Stops after ``most`` edges, when no gain is left, or, with ``patience >= 0``, at
    twice the best number of edges so far plus ``patience``. Heap of P; O(candidates of the pair)
    for each gain. Returns the number of edges. Writes ``chosen``, ``gain`` (most,) and
    ``criterion`` (most + 1,): survival log-likelihood less ``price`` for each edge.
    """
    n_pairs, n_rows = inc_ptr.size - 1, cand_ptr.size - 1
    best_weight = np.zeros(n_rows, np.float64)
    parent = np.full(n_rows, -1, np.int64)
    position = np.zeros(n_rows, np.int64)
    n_pair = np.zeros(n_pairs, np.int64)
    bound = np.empty(n_pairs, np.float64)
    heap = np.empty(n_pairs, np.int64)
    evaluated = np.zeros(n_pairs, np.int64)
    edges_into = np.zeros(pair_child.max() + 1 if n_pairs else 1, np.int64)
    for p in range(n_pairs):
        bound[p] = _gain(p, cand_ptr, weight, inc_ptr, inc_infection, inc_position, best_weight)
        heap[p] = p
    size = n_pairs
    for i in range(size // 2 - 1, -1, -1):
        _sift(heap, size, bound, i)
    unexplained = 0
    for m in range(n_rows):
        if cand_ptr[m + 1] > cand_ptr[m]:
            unexplained += 1
    likelihood = _term(unexplained, outside)
    criterion[0] = likelihood
    best, count = 0, 0
    while count < most and size > 0:
        p = heap[0]
        v = pair_child[p]
        if evaluated[p] != edges_into[v]:
            bound[p] = _gain(p, cand_ptr, weight, inc_ptr, inc_infection, inc_position, best_weight)
            evaluated[p] = edges_into[v]
            _sift(heap, size, bound, 0)
            continue
        if bound[p] <= 0.0 or (patience >= 0 and count >= 2 * best + patience):
            break
        chosen[count], gain[count] = p, bound[p]
        count += 1
        edges_into[v] += 1
        for x in range(inc_ptr[p], inc_ptr[p + 1]):
            m = inc_infection[x]
            q = cand_ptr[m] + inc_position[x]
            if not weight[q] > best_weight[m]:
                continue
            old = parent[m]
            if old < 0:
                likelihood += _term(unexplained - 1, outside) - _term(unexplained, outside)
                unexplained -= 1
            else:
                before = _term(n_pair[old], exposure[old])
                likelihood += _term(n_pair[old] - 1, exposure[old]) - before
                n_pair[old] -= 1
                if log_hazard.size > 0:
                    likelihood -= log_hazard[cand_ptr[m] + position[m]]
            likelihood += _term(n_pair[p] + 1, exposure[p]) - _term(n_pair[p], exposure[p])
            if log_hazard.size > 0:
                likelihood += log_hazard[q]
            n_pair[p] += 1
            parent[m], position[m], best_weight[m] = p, inc_position[x], weight[q]
        criterion[count] = likelihood - price * count
        if criterion[count] > criterion[best]:
            best = count
        size -= 1
        heap[0] = heap[size]
        _sift(heap, size, bound, 0)
    return count


@kernel
def explain(chosen, cand_ptr, weight, inc_ptr, inc_infection, inc_position, n_pair):
    """Infections that each edge explains in the best trees over all of them. O(Q).

    Writes ``n_pair`` (P,), from zero.
    """
    n_rows = cand_ptr.size - 1
    best_weight = np.zeros(n_rows, np.float64)
    parent = np.full(n_rows, -1, np.int64)
    for p in chosen:
        for x in range(inc_ptr[p], inc_ptr[p + 1]):
            m = inc_infection[x]
            w = weight[cand_ptr[m] + inc_position[x]]
            if w > best_weight[m]:
                best_weight[m], parent[m] = w, p
    for m in range(n_rows):
        if parent[m] >= 0:
            n_pair[parent[m]] += 1


@kernel
def _gain(p, cand_ptr, weight, inc_ptr, inc_infection, inc_position, best_weight):
    """What pair p adds to the weights of the best parents. O(candidates of the pair)."""
    total = 0.0
    for x in range(inc_ptr[p], inc_ptr[p + 1]):
        m = inc_infection[x]
        more = weight[cand_ptr[m] + inc_position[x]] - best_weight[m]
        if more > 0.0:
            total += more
    return total


@kernel
def _term(n, exposure):
    """Largest log-likelihood of n events over an exposure: n log(n / E) - n."""
    return n * math.log(n / exposure) - n if n > 0 else 0.0


@kernel
def _before(bound, a, b):
    """Order of the heap: larger bounds first, of equal ones the first pair."""
    return bound[a] > bound[b] or (bound[a] == bound[b] and a < b)


@kernel
def _sift(heap, size, bound, i):
    """Let entry i sink to its place. O(log size). Writes ``heap``."""
    item = heap[i]
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and _before(bound, heap[child + 1], heap[child]):
            child += 1
        if not _before(bound, heap[child], item):
            break
        heap[i] = heap[child]
        i = child
    heap[i] = item


# ---------------------------------------------------------------------------------------------
# stochastic gradients
# ---------------------------------------------------------------------------------------------


@kernel
def weighted_exposure(
    child_ptr,
    infection,
    offset,
    cascade,
    node,
    pair_ptr,
    pair_source,
    cand_ptr,
    cumulative,
    infection_full,
    weight,
    exposure,
):
    """Exposure of the listed pairs with a weight for each cascade. O(sum L^2 + P).

    ``cumulative`` (Q,): H of each candidate's delay; ``infection_full`` (I,): H from the infection
    to the horizon; ``weight`` (C,). Writes ``exposure`` (P,).
    """
    n_nodes = child_ptr.size - 1
    full = np.zeros(n_nodes, np.float64)
    for j in range(node.size):
        full[node[j]] += weight[cascade[j]] * infection_full[j]
    met = np.zeros(n_nodes, np.float64)
    direct = np.zeros(n_nodes, np.float64)
    for v in range(n_nodes):
        for p in range(pair_ptr[v], pair_ptr[v + 1]):
            met[pair_source[p]] = 0.0
            direct[pair_source[p]] = 0.0
        for m in range(child_ptr[v], child_ptr[v + 1]):
            c = cascade[infection[m]]
            if weight[c] == 0.0:
                continue
            start, first = offset[c], cand_ptr[m]
            for j in range(start, offset[c + 1]):
                met[node[j]] += weight[c] * infection_full[j]
            for q in range(first, cand_ptr[m + 1]):
                direct[node[start + q - first]] += weight[c] * cumulative[q]
        for p in range(pair_ptr[v], pair_ptr[v + 1]):
            u = pair_source[p]
            exposure[p] = direct[u] + max(full[u] - met[u], 0.0)


@kernel
def gradient_steps(
    order, step, offset, row_of, cand_ptr, cand_pair, hazard, pull, rate, log_kept, last
):
    """Stochastic gradient steps, one cascade each. O(candidates of the cascades).

    Step k replaces every rate r by ``(1 - step) r + step * pull * q``, where q is the number of
    infections of the cascade ``order[k]`` that the pair is expected to have carried; the shrinking
    of pairs that the cascade does not touch is made up for when they are touched next.
    ``pull`` (P,): number of cascades over exposure; ``hazard`` (Q,), relative to the largest of
    each infection; ``log_kept``, ``last`` (P,): log of what the steps so far left of a rate, in
    all and when each was last touched. Writes ``rate`` (P,), ``last``; returns ``log_kept``.
    """
    for k in range(order.size):
        c = order[k]
        keep = 1.0 - step[k]
        log_after = log_kept + math.log(keep)
        for i in range(offset[c], offset[c + 1]):
            m = row_of[i]
            total = 0.0
            for q in range(cand_ptr[m], cand_ptr[m + 1]):
                p = cand_pair[q]
                if last[p] != log_kept:
                    rate[p] = max(rate[p] * math.exp(log_kept - last[p]), SMALLEST_RATE)
                total += rate[p] * hazard[q]
            # no other infection of the cascade has these pairs: their child is infected once
            for q in range(cand_ptr[m], cand_ptr[m + 1]):
                p = cand_pair[q]
                share = rate[p] * hazard[q] / total
                rate[p] = max(keep * rate[p] + step[k] * pull[p] * share, SMALLEST_RATE)
                last[p] = log_after
        log_kept = log_after
    for p in range(rate.size):
        rate[p] = max(rate[p] * math.exp(log_kept - last[p]), SMALLEST_RATE)
        last[p] = log_kept
    return log_kept


@kernel
def expected_transmissions(
    offset, row_of, cand_ptr, cand_pair, hazard, weight, rate, carried, log_none, square
):
    """Sums over the infections of all cascades, with a weight for each cascade. O(Q).

    With q the probability that the pair carried the infection, given the rates. Returns the sum
    of log hazards, less what was taken out of ``hazard`` (Q,). Writes, from zero: ``carried``
    (P,), the sum of q; ``log_none``, of log(1 - q); ``square``, of q^2.
    """
    total_log = 0.0
    for c in range(offset.size - 1):
        if weight[c] == 0.0:
            continue
        for i in range(offset[c], offset[c + 1]):
            m = row_of[i]
            total = 0.0
            for q in range(cand_ptr[m], cand_ptr[m + 1]):
                total += rate[cand_pair[q]] * hazard[q]
            if total <= 0.0:
                continue
            total_log += weight[c] * math.log(total)
            for q in range(cand_ptr[m], cand_ptr[m + 1]):
                p = cand_pair[q]
                share = min(rate[p] * hazard[q] / total, 1.0)
                carried[p] += weight[c] * share
                square[p] += weight[c] * share * share
                log_none[p] += weight[c] * math.log1p(-share) if share < 1.0 else -math.inf
    return total_log
