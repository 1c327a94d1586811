"""All compiled code of the forecasts, and nothing else.

Conventions. Nodes are ``0..N-1``. Listed pairs are laid out by source: those of node ``u`` are
``ptr[u]:ptr[u+1]``, targets ascending. The rate of a pair is Gamma(shape, rate) given a draw; pairs
that are not listed have shape ``sum_k sender[u, k] receiver[v, k]`` and the rate of their source.
Doses are cumulative hazards H of a delay, times are in the internal unit. Arrays named in the last
line of a docstring are written, all others are only read.

Scalars are combined in a fixed order and no kernel is compiled with ``fastmath``, so that results
are the same bytes with the compiler switched off.
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
# laws of the rates
# ---------------------------------------------------------------------------------------------


@kernel
def listed_shape(ptr, target, sender, receiver, shape):
    """Prior Gamma shape sum_k sender[u, k] receiver[v, k] of the listed pairs. O(P K).

    Four running sums, so that the compiler may use vector registers without reordering.
    Writes ``shape`` (P,).
    """
    for u in range(ptr.size - 1):
        for p in range(ptr[u], ptr[u + 1]):
            shape[p] = _product(sender[u], receiver[target[p]])


@kernel
def _product(a, b):
    """Inner product of two vectors, in four running sums."""
    blocks = a.size // 4
    s0 = s1 = s2 = s3 = 0.0
    for g in range(blocks):
        k = 4 * g
        s0 += a[k] * b[k]
        s1 += a[k + 1] * b[k + 1]
        s2 += a[k + 2] * b[k + 2]
        s3 += a[k + 3] * b[k + 3]
    for k in range(4 * blocks, a.size):
        s0 += a[k] * b[k]
    return (s0 + s1) + (s2 + s3)


# ---------------------------------------------------------------------------------------------
# predictive likelihood
# ---------------------------------------------------------------------------------------------


@kernel
def cascade_densities(
    offset,
    node,
    n_earlier,
    first_cand,
    cand_ptr,
    cand_weight,
    cand_dose,
    full_dose,
    ptr,
    target,
    shape,
    rate,
    sender,
    receiver,
    node_mass,
    node_rate,
    ground_shape,
    ground_rate,
    ground_dose,
    ground_weight,
    length,
    value,
):
    """Log density of each cascade under one draw, rates integrated out. O(sum degree + L^2 K).

    A pair adds ``-shape log(1 + H / rate)`` for its exposure H, an infection the logarithm of
    ``sum_u weight shape / (rate + H)`` over its candidates, ``cand_weight`` being their hazards
    relative to the largest. Listed pairs of a source are walked once for each of its infections;
    its other pairs act through their total shape ``node_mass`` (N,). ``ground_*`` are empty without
    a background; ``ground_dose``, ``ground_weight`` (I,), ``length`` (C,). Writes ``value`` (C,).
    """
    widest = 0
    for c in range(offset.size - 1):
        widest = max(widest, offset[c + 1] - offset[c])
    place = np.full(node_rate.size, -1, np.int64)
    row_of = np.empty(widest, np.int64)
    intensity = np.empty(widest, np.float64)
    for c in range(offset.size - 1):
        start, stop = offset[c], offset[c + 1]
        for i in range(start, stop):
            place[node[i]] = i
            intensity[i - start] = 0.0
        total = 0.0
        if ground_shape.size > 0:
            total += _ground(
                start,
                stop,
                node,
                n_earlier,
                place,
                ground_shape,
                ground_rate,
                ground_dose,
                ground_weight,
                length[c],
                intensity,
            )
        for j in range(start, stop):
            u, dose, unlisted = node[j], full_dose[j], node_mass[node[j]]
            total += _listed_terms(u, start, stop, dose, place, ptr, target, shape, rate, row_of)
            for i in range(start, stop):
                if i == j:
                    continue
                p = row_of[i - start]
                if p >= 0:
                    s, r = shape[p], rate[p]
                else:
                    s, r = _product(sender[u], receiver[node[i]]), node_rate[u]
                    unlisted -= s
                if j >= start + n_earlier[i]:
                    continue
                first = start + first_cand[i]
                seen = dose
                if j >= first:
                    q = cand_ptr[i] + j - first
                    seen = cand_dose[q]
                    intensity[i - start] += cand_weight[q] * s / (r + seen)
                total += s * math.log(1.0 + seen / r)
            if unlisted > 0.0:
                total += unlisted * math.log(1.0 + dose / node_rate[u])
        events = 0.0
        for i in range(start, stop):
            place[node[i]] = -1
            if n_earlier[i] > 0:
                x = intensity[i - start]
                events += math.log(x) if x > 0.0 else -math.inf
        value[c] = events - total


@kernel
def _listed_terms(u, start, stop, dose, place, ptr, target, shape, rate, row_of):
    """Minus log survival of a source's listed pairs with nodes that are not in the cascade.

    Writes ``row_of``: the listed pair with each node that is, -1 where there is none. O(degree).
    """
    for i in range(stop - start):
        row_of[i] = -1
    total = 0.0
    for p in range(ptr[u], ptr[u + 1]):
        i = place[target[p]]
        if i >= 0:
            row_of[i - start] = p
        else:
            total += shape[p] * math.log(1.0 + dose / rate[p])
    return total


@kernel
def _ground(
    start,
    stop,
    node,
    n_earlier,
    place,
    ground_shape,
    ground_rate,
    ground_dose,
    ground_weight,
    length,
    intensity,
):
    """What the background adds to one cascade: minus log survival; writes ``intensity``. O(N)."""
    total = 0.0
    for v in range(ground_shape.size):
        i = place[v]
        if i < 0:
            total += ground_shape[v] * math.log(1.0 + length / ground_rate[v])
        elif n_earlier[i] > 0:
            total += ground_shape[v] * math.log(1.0 + ground_dose[i] / ground_rate[v])
            intensity[i - start] += (
                ground_weight[i] * ground_shape[v] / (ground_rate[v] + ground_dose[i])
            )
    return total


# ---------------------------------------------------------------------------------------------
# live edges
# ---------------------------------------------------------------------------------------------


@kernel
def firing_mass(ptr, shape, rate, dose_max, mass):
    """Running sum, by source, of the expected number of firings up to a dose. O(P).

    A pair fires in y = log(1 + dose / rate) as a Poisson process of intensity ``shape``: its
    first point is the dose at which the pair transmits, the rate integrated out.
    Writes ``mass`` (P,).
    """
    for u in range(ptr.size - 1):
        total = 0.0
        for p in range(ptr[u], ptr[u + 1]):
            total += shape[p] * math.log(1.0 + dose_max / rate[p])
            mass[p] = total


@kernel
def _first_above(values, low, high, x):
    """First index in ``low:high`` whose value exceeds x; the last one where none does."""
    high -= 1
    while low < high:
        middle = (low + high) // 2
        if values[middle] > x:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def _is_listed(target, low, high, v):
    """Whether v is among the ascending targets ``low:high``."""
    stop = high
    while low < high:
        middle = (low + high) // 2
        if target[middle] < v:
            low = middle + 1
        else:
            high = middle
    return low < stop and target[low] == v


@kernel
def _grown(values):
    """The same values with room for as many again."""
    more = np.empty(2 * values.size, values.dtype)
    more[: values.size] = values
    return more


@kernel
def fire(
    source, ptr, target, rate, mass, node_rate, sender_mass, receiver_mass, dose_max, rng, item_ptr
):
    """Doses below ``dose_max`` at which sources transmit to their targets, all exactly. O(points).

    Listed pairs fire as `firing_mass` says. All other pairs of a source share its rate, so that
    theirs is one Poisson process whose points choose a community by ``sender_mass`` (N, K) and a
    target by ``receiver_mass`` (K, N), both running sums; points on listed pairs and on the source
    itself are dropped. A pair may fire again later, to no effect. Returns the targets and doses
    of each entry of ``source`` (S,); writes ``item_ptr`` (S + 1,).
    """
    found = np.empty(64, np.int32)
    dose = np.empty(64, np.float64)
    width = sender_mass.shape[1]
    n_nodes = receiver_mass.shape[1]
    count = 0
    item_ptr[0] = 0
    for s in range(source.size):
        u = source[s]
        first, stop = ptr[u], ptr[u + 1]
        if stop > first:
            at = rng.standard_exponential()
            while at < mass[stop - 1]:
                p = _first_above(mass, first, stop, at)
                y = rng.random() * math.log(1.0 + dose_max / rate[p])
                if count == found.size:
                    found, dose = _grown(found), _grown(dose)
                found[count] = target[p]
                dose[count] = rate[p] * math.expm1(y)
                count += 1
                at += rng.standard_exponential()
        if width > 0:
            span = math.log(1.0 + dose_max / node_rate[u])
            total = sender_mass[u, width - 1]
            at = rng.standard_exponential()
            while at < total * span:
                k = _first_above(sender_mass[u], 0, width, rng.random() * total)
                row = receiver_mass[k]
                v = _first_above(row, 0, n_nodes, rng.random() * row[n_nodes - 1])
                y = rng.random() * span
                at += rng.standard_exponential()
                if v == u or _is_listed(target, first, stop, v):
                    continue
                if count == found.size:
                    found, dose = _grown(found), _grown(dose)
                found[count] = v
                dose[count] = node_rate[u] * math.expm1(y)
                count += 1
        item_ptr[s + 1] = count
    return found[:count].copy(), dose[:count].copy()


# ---------------------------------------------------------------------------------------------
# spreading over live edges
# ---------------------------------------------------------------------------------------------


@kernel
def _before(t, v, s, w):
    """Order of the heap: by time, then node."""
    return t < s or (t == s and v < w)


@kernel
def _push(heap_time, heap_node, heap_from, size, t, v, u):
    """Add to a binary heap of ``size`` entries. Writes the heap."""
    i = size
    while i > 0:
        above = (i - 1) // 2
        if not _before(t, v, heap_time[above], heap_node[above]):
            break
        heap_time[i] = heap_time[above]
        heap_node[i] = heap_node[above]
        heap_from[i] = heap_from[above]
        i = above
    heap_time[i] = t
    heap_node[i] = v
    heap_from[i] = u


@kernel
def _drop_first(heap_time, heap_node, heap_from, size):
    """Remove the first of a binary heap of ``size`` entries. Writes the heap."""
    last = size - 1
    t, v, u = heap_time[last], heap_node[last], heap_from[last]
    i = 0
    while True:
        below = 2 * i + 1
        if below >= last:
            break
        if below + 1 < last and _before(
            heap_time[below + 1], heap_node[below + 1], heap_time[below], heap_node[below]
        ):
            below += 1
        if not _before(heap_time[below], heap_node[below], t, v):
            break
        heap_time[i] = heap_time[below]
        heap_node[i] = heap_node[below]
        heap_from[i] = heap_from[below]
        i = below
    heap_time[i] = t
    heap_node[i] = v
    heap_from[i] = u


@kernel
def _push_arcs(heap_time, heap_node, heap_from, size, u, t, end, low, high, arc_target, arc_delay):
    """Push what a node infected at t does until ``end``; the new size. Writes the heap."""
    for a in range(low, high):
        arrival = t + arc_delay[a]
        if arrival <= end:
            _push(heap_time, heap_node, heap_from, size, arrival, arc_target[a], u)
            size += 1
    return size


@kernel
def spread(
    cascades,
    start_ptr,
    start_node,
    start_time,
    end,
    limit,
    item_of,
    item_ptr,
    arc_target,
    arc_delay,
    count,
    node,
    time,
):
    """Infections in order of time from given starts, over the arcs known so far. O(m log m).

    ``item_of`` (C, N + 1): item of each cascade's source, -1 where its arcs are not yet drawn,
    in the last column the background's. A node acts on the next ``limit`` infections only.
    For each of ``cascades`` writes ``count`` (C,), ``node`` and ``time`` (C, N).
    """
    n_nodes = node.shape[1]
    heap_time = np.empty(arc_target.size + 1, np.float64)
    heap_node = np.empty(arc_target.size + 1, np.int32)
    heap_from = np.empty(arc_target.size + 1, np.int32)
    position = np.empty(n_nodes + 1, np.int64)
    stamp = np.full(n_nodes, -1, np.int64)
    for c in cascades:
        n = 0
        for i in range(start_ptr[c], start_ptr[c + 1]):
            v = start_node[i]
            stamp[v] = c
            position[v] = n
            node[c, n] = v
            time[c, n] = start_time[i]
            n += 1
        size = 0
        begin = start_time[start_ptr[c]]
        for i in range(n + 1):
            u = node[c, i] if i < n else n_nodes
            t = time[c, i] if i < n else begin
            item = item_of[c, u]
            if item >= 0:
                size = _push_arcs(
                    heap_time,
                    heap_node,
                    heap_from,
                    size,
                    u,
                    t,
                    end[c],
                    item_ptr[item],
                    item_ptr[item + 1],
                    arc_target,
                    arc_delay,
                )
        while size > 0:
            t, v, u = heap_time[0], heap_node[0], heap_from[0]
            _drop_first(heap_time, heap_node, heap_from, size)
            size -= 1
            if stamp[v] == c or (u < n_nodes and n - position[u] > limit):
                continue
            stamp[v] = c
            position[v] = n
            node[c, n] = v
            time[c, n] = t
            n += 1
            item = item_of[c, v]
            if item >= 0:
                size = _push_arcs(
                    heap_time,
                    heap_node,
                    heap_from,
                    size,
                    v,
                    t,
                    end[c],
                    item_ptr[item],
                    item_ptr[item + 1],
                    arc_target,
                    arc_delay,
                )
        count[c] = n


@kernel
def fresh_sources(cascades, count, node, item_of, cascade, source):
    """Infected nodes whose arcs are not yet drawn; their number. O(infections).

    Writes ``cascade`` and ``source``, of length at least ``count[cascades].sum()``.
    """
    found = 0
    for c in cascades:
        for i in range(count[c]):
            if item_of[c, node[c, i]] < 0:
                cascade[found] = c
                source[found] = node[c, i]
                found += 1
    return found


@kernel
def reach_counts(ptr, arc_target, arc_delay, within, limit, reached):
    """Number of nodes, itself included, that each node reaches in one live-edge graph.

    ``ptr`` (N + 1,). O(N m log m) in the arcs m met from one node. Writes ``reached`` (N,).
    """
    n_nodes = ptr.size - 1
    heap_time = np.empty(arc_target.size + 1, np.float64)
    heap_node = np.empty(arc_target.size + 1, np.int32)
    heap_from = np.empty(arc_target.size + 1, np.int32)
    position = np.empty(n_nodes, np.int64)
    stamp = np.full(n_nodes, -1, np.int64)
    for origin in range(n_nodes):
        heap_time[0] = 0.0
        heap_node[0] = origin
        heap_from[0] = -1
        size = 1
        n = 0
        while size > 0:
            t, v, u = heap_time[0], heap_node[0], heap_from[0]
            _drop_first(heap_time, heap_node, heap_from, size)
            size -= 1
            if stamp[v] == origin or (u >= 0 and n - position[u] > limit):
                continue
            stamp[v] = origin
            position[v] = n
            n += 1
            size = _push_arcs(
                heap_time,
                heap_node,
                heap_from,
                size,
                v,
                t,
                within,
                ptr[v],
                ptr[v + 1],
                arc_target,
                arc_delay,
            )
        reached[origin] = n


@kernel
def marginal_reach(origin, commit, ptr, arc_target, arc_delay, within, earliest, gain):
    """Nodes that a set reaches only with one node more, in each live-edge graph. O(arcs met).

    ``ptr`` (G N + 1,) runs over graphs and their nodes; ``earliest`` (G, N): when the set
    reaches a node, infinite where it does not. A node reached no earlier than by the set leads to
    nothing new. Writes ``gain`` (G,) and, with ``commit``, ``earliest`` for the larger set.
    """
    n_graphs, n_nodes = earliest.shape
    heap_time = np.empty(arc_target.size + 1, np.float64)
    heap_node = np.empty(arc_target.size + 1, np.int32)
    heap_from = np.empty(arc_target.size + 1, np.int32)
    stamp = np.full(n_nodes, -1, np.int64)
    for g in range(n_graphs):
        heap_time[0] = 0.0
        heap_node[0] = origin
        heap_from[0] = -1
        size = 1
        n = 0
        while size > 0:
            t, v = heap_time[0], heap_node[0]
            _drop_first(heap_time, heap_node, heap_from, size)
            size -= 1
            if stamp[v] == g or earliest[g, v] <= t:
                continue
            stamp[v] = g
            if earliest[g, v] == math.inf:
                n += 1
            if commit:
                earliest[g, v] = t
            item = g * n_nodes + v
            size = _push_arcs(
                heap_time,
                heap_node,
                heap_from,
                size,
                v,
                t,
                within,
                ptr[item],
                ptr[item + 1],
                arc_target,
                arc_delay,
            )
        gain[g] = n
