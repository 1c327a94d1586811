"""All compiled code of `NextInfection`, and nothing else.

Conventions. N nodes, P unordered pairs in the order in which they first met. Pair ``p`` joins
``pair_node[p, 0] < pair_node[p, 1]``; ``evidence[p, 0]`` is that of the first node acting on the
second, ``evidence[p, 1]`` that of the reverse. Pairs are found through ``slot`` (H,), a table with
open addressing, H a power of two. The pairs of a node are an entry each, ``2 p + side`` with the
side the node is on: those indexed are ``row_entry[row_ptr[u]:row_ptr[u + 1]]``, younger ones hang
on ``head[u]`` and ``link[p, side]``, -1 ending the chain. Arrays named in the last line of a
docstring are written, all others are only read.

Every sum is over a fixed order of terms that does not depend on how pairs are numbered or indexed,
so that data which came in portions give the same bytes as data which came at once.
"""

import math

import numba
import numpy as np


def kernel(function):
    """Compile without the GIL or checks of divisors; cached on disk where that can be written."""
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no writable cache directory: compile again in every process
        return numba.njit(nogil=True, error_model="numpy")(function)


# ---------------------------------------------------------------------------------------------
# counts
# ---------------------------------------------------------------------------------------------


@kernel
def _place_of(low, high, slot, pair_node):
    """Place in ``slot`` of a pair, or the empty place where it belongs. O(1) on average."""
    # products of 31-bit numbers with odd constants below 2**31 stay in an int64
    mask = slot.size - 1
    mixed = low * 1640531527 + high * 1013904223
    place = (mixed ^ (mixed >> 15) ^ (mixed >> 31)) & mask
    while slot[place] >= 0:
        p = slot[place]
        if pair_node[p, 0] == low and pair_node[p, 1] == high:
            break
        place = (place + 1) & mask
    return place


@kernel
def fill_slots(n_pairs, pair_node, slot):
    """Enter all pairs into an empty table. O(P). Writes ``slot`` (H,)."""
    for p in range(n_pairs):
        low, high = np.int64(pair_node[p, 0]), np.int64(pair_node[p, 1])
        slot[_place_of(low, high, slot, pair_node)] = p


@kernel
def add_cascades(
    first, offset, node, weight, lag, share, n_pairs, slot, pair_node, evidence, head, link
):
    """Add the pair evidence of cascades, in order, until the next might not fit. O(I W).

    ``weight`` (C,) of each cascade; ``lag`` (W,) weight of followers one to W places behind;
    ``share`` (W + 1,) weight of an infection by the number of those it follows. Returns the first
    cascade that was not added and the number of pairs. Writes ``slot``, ``pair_node``,
    ``evidence``, ``head``, ``link``.
    """
    window = lag.size
    for c in range(first, offset.size - 1):
        length = offset[c + 1] - offset[c]
        short = min(length, window)
        most = short * (short - 1) // 2 + (length - short) * window
        if n_pairs + most > pair_node.shape[0] or 2 * (n_pairs + most) > slot.size:
            return c, n_pairs
        for j in range(offset[c] + 1, offset[c + 1]):
            before = min(j - offset[c], window)
            scale = weight[c] * share[before]
            v = np.int64(node[j])
            for i in range(j - before, j):
                u = np.int64(node[i])
                low, high = min(u, v), max(u, v)
                place = _place_of(low, high, slot, pair_node)
                p = slot[place]
                if p < 0:
                    p = n_pairs
                    n_pairs += 1
                    slot[place] = p
                    pair_node[p, 0], pair_node[p, 1] = low, high
                    evidence[p, 0] = evidence[p, 1] = 0.0
                    link[p, 0], link[p, 1] = head[low], head[high]
                    head[low], head[high] = 2 * p, 2 * p + 1
                evidence[p, 0 if u == low else 1] += scale * lag[j - i - 1]
    return offset.size - 1, n_pairs


@kernel
def add_exposure(offset, node, weight, exposure, count):
    """Add discounted and plain numbers of cascades with each node. O(I).

    Writes ``exposure``, ``count`` (N,).
    """
    for c in range(offset.size - 1):
        for i in range(offset[c], offset[c + 1]):
            exposure[node[i]] += weight[c]
            count[node[i]] += 1.0


@kernel
def fill_rows(n_pairs, pair_node, row_ptr, cursor, row_entry):
    """Index the pairs of each node. O(N + P). Writes ``row_ptr`` (N + 1,), ``row_entry`` (2P,)."""
    n_nodes = row_ptr.size - 1
    row_ptr[:] = 0
    for p in range(n_pairs):
        row_ptr[pair_node[p, 0] + 1] += 1
        row_ptr[pair_node[p, 1] + 1] += 1
    for u in range(n_nodes):
        row_ptr[u + 1] += row_ptr[u]
        cursor[u] = row_ptr[u]
    for p in range(n_pairs):
        for side in range(2):
            u = pair_node[p, side]
            row_entry[cursor[u]] = 2 * p + side
            cursor[u] += 1


# ---------------------------------------------------------------------------------------------
# attribution and communities
# ---------------------------------------------------------------------------------------------


@kernel
def attribute(
    offset,
    node,
    weight,
    lag,
    slot,
    pair_node,
    evidence,
    reverse,
    scale,
    inverse,
    base,
    sender,
    receiver,
    share,
    carried,
):
    """Share each infection out among those it follows, its own share set aside. O(I W K).

    ``lag`` (W,); gamma shape of a pair: ``scale`` times its evidence and what it carries, plus
    ``base[u]`` times its community mean, ``sender`` (N, K) times ``receiver`` (K, N); ``inverse``
    (N,) one over the gamma rate. ``share`` (Q,) of the last pass, in the order of the candidates.
    Writes ``share``, ``carried`` (P, 2).
    """
    window, n_groups = lag.size, receiver.shape[0]
    place = np.zeros(window, np.int64)
    side = np.zeros(window, np.int64)
    part = np.zeros(window)
    q = 0
    for c in range(offset.size - 1):
        for j in range(offset[c] + 1, offset[c + 1]):
            before = min(j - offset[c], window)
            v = np.int64(node[j])
            total = 0.0
            for a in range(before):
                u = np.int64(node[j - 1 - a])
                low, high = min(u, v), max(u, v)
                p = slot[_place_of(low, high, slot, pair_node)]
                s = 0 if u == low else 1
                carried[p, s] -= weight[c] * share[q + a]
                mean = 0.0
                for z in range(n_groups):
                    mean += sender[u, z] * receiver[z, v]
                shape = evidence[p, s] + reverse * evidence[p, 1 - s]
                shape = scale[0] * shape + scale[1] * max(carried[p, s], 0.0) + base[u] * mean
                part[a] = lag[a] * shape * inverse[u]
                total += part[a]
                place[a], side[a] = p, s
            for a in range(before):
                share[q + a] = part[a] / total if total > 0.0 else 0.0
                carried[place[a], side[a]] += weight[c] * share[q + a]
            q += before


@kernel
def factorise(n_pairs, pair_node, evidence, sender, receiver, next_sender, next_receiver):
    """One EM step of a low-rank description of who follows whom; its log-likelihood. O(P K).

    Rows of ``sender`` and columns of ``receiver`` (N, K) sum to one. Writes ``next_sender``,
    ``next_receiver`` (N, K): the same, not yet divided by their sums.
    """
    n_groups = sender.shape[1]
    part = np.zeros(n_groups)
    gain = 0.0
    for p in range(n_pairs):
        for side in range(2):
            x = evidence[p, side]
            if x > 0.0:
                u, v = pair_node[p, side], pair_node[p, 1 - side]
                total = 0.0
                for z in range(n_groups):
                    part[z] = sender[u, z] * receiver[v, z]
                    total += part[z]
                if total > 0.0:
                    gain += x * math.log(total)
                    for z in range(n_groups):
                        share = x * part[z] / total
                        next_sender[u, z] += share
                        next_receiver[v, z] += share
    return gain


# ---------------------------------------------------------------------------------------------
# scores
# ---------------------------------------------------------------------------------------------


@kernel
def _act_on_all(
    u,
    pair_node,
    evidence,
    carried,
    row_ptr,
    row_entry,
    head,
    link,
    reverse,
    scale,
    target_scale,
    flat,
    active,
    constant,
):
    """Let a node act on all it has met: first those indexed, then those on its chain. O(degree).

    Writes ``active``, ``constant`` (N,).
    """
    of_evidence, of_carried = scale[u, 0], scale[u, 1]
    attributed = carried.shape[0] > 0
    r, stop, chained = row_ptr[u], row_ptr[u + 1], head[u]
    while r < stop or chained >= 0:
        if r < stop:
            entry = row_entry[r]
            r += 1
        else:
            entry = chained
            chained = link[entry >> 1, entry & 1]
        p, side = entry >> 1, entry & 1
        v = pair_node[p, 1 - side]
        rate = of_evidence * (evidence[p, side] + reverse * evidence[p, 1 - side])
        if attributed:
            rate += of_carried * carried[p, side]
        rate *= target_scale[v]
        active[v] += rate
        if flat > 0.0:
            constant[v] += flat * rate


@kernel
def _mix(row, mean, at_risk, popular, recent, power, weights):
    """Sharpen the action, add communities, popularity and recency, and normalise. O(N).

    Writes ``row`` (N,), on entry the action on every node.
    """
    community, popularity, least, recency = weights
    total, sharp, pop, late = 0.0, 0.0, 0.0, 0.0
    for v in range(row.size):
        if at_risk[v]:
            x = row[v]
            total += x
            if x > 0.0 and power != 1.0:
                x = x**power
                row[v] = x
            sharp += x
            pop += popular[v]
            late += recent[v]
        else:
            row[v] = 0.0
    scale = total / sharp if sharp > 0.0 else 0.0
    by_popularity = (least + popularity * total) / pop if pop > 0.0 else 0.0
    by_recency = recency * total / late if late > 0.0 else 0.0
    by_community = community * total
    norm = 0.0
    for v in range(row.size):
        if at_risk[v]:
            x = scale * row[v] + by_popularity * popular[v] + by_recency * recent[v]
            x += by_community * mean[v]
            row[v] = x
            norm += x
    if norm > 0.0:
        for v in range(row.size):
            row[v] /= norm


@kernel
def score_along(
    node,
    pair_node,
    evidence,
    carried,
    row_ptr,
    row_entry,
    head,
    link,
    source_scale,
    target_scale,
    reverse,
    decay,
    flat,
    base,
    sender,
    receiver,
    popular,
    recent,
    power,
    weights,
    score,
):
    """Probability of every node to come next, after each infection of a cascade. O(L N K).

    ``node`` (L,); ``source_scale`` (N, 2) of evidence and of what pairs carry; ``base`` (N,) times
    the community mean is added to the action; ``weights`` (4,) of communities, of popularity, of
    popularity whatever the action, of recency. Writes ``score`` (L, N).
    """
    n_nodes, n_groups = target_scale.size, receiver.shape[0]
    active, constant, mean = np.zeros(n_nodes), np.zeros(n_nodes), np.zeros(n_nodes)
    theta, own = np.zeros((2, n_groups)), np.zeros((2, n_groups))  # fading part, flat part
    at_risk = np.ones(n_nodes, np.bool_)
    for j in range(node.size):
        u = np.int64(node[j])
        at_risk[u] = False
        for v in range(n_nodes):
            active[v] *= decay
        for z in range(n_groups):
            theta[0, z] = theta[0, z] * decay + sender[u, z]
            theta[1, z] += flat * sender[u, z]
            own[0, z] = own[0, z] * decay + base[u] * sender[u, z]
            own[1, z] += flat * base[u] * sender[u, z]
        _act_on_all(
            u,
            pair_node,
            evidence,
            carried,
            row_ptr,
            row_entry,
            head,
            link,
            reverse,
            source_scale,
            target_scale,
            flat,
            active,
            constant,
        )
        row = score[j]
        for v in range(n_nodes):
            row[v] = active[v] + constant[v]
            mean[v] = 0.0
        total = 0.0
        for z in range(n_groups):
            total += theta[0, z] + theta[1, z]
        for z in range(n_groups):
            b = (theta[0, z] + theta[1, z]) / total if total > 0.0 else 0.0
            for v in range(n_nodes):
                mean[v] += b * receiver[z, v]
            a = own[0, z] + own[1, z]
            if a > 0.0:
                for v in range(n_nodes):
                    row[v] += a * receiver[z, v]
        _mix(row, mean, at_risk, popular, recent, power, weights)
