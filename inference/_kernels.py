"""All compiled code of the samplers, and nothing else.

Conventions. Nodes are ``0..N-1``. Infections are laid out by child: those of node ``v`` are
``child_ptr[v]:child_ptr[v+1]``, its pairs ``pair_ptr[v]:pair_ptr[v+1]`` with sources ascending, a
background source (``pair_source == -1``) first. Candidates of infection ``i`` are
``cand_ptr[i]:cand_ptr[i+1]``; a seed has none. ``choice[i]`` is the parent's position among them.
Arrays named in the last line of a docstring are written, all others are only read.

Scalars are combined with ``math`` functions and plain arithmetic in a fixed order, and no kernel is
compiled with ``fastmath``, so that results are the same bytes with the compiler switched off.
"""

import math

import numba
import numpy as np


def kernel(function, **options):
    """Compile without the GIL or checks of divisors; cached on disk where that can be written."""
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True, **options)(function)
    except RuntimeError:  # no writable cache directory: compile again in every process
        return numba.njit(nogil=True, error_model="numpy", **options)(function)


def part(function):
    """Compile into the kernels that call it, arrays handed over without counting references.

    Either would cost more than a small loop does. A part makes no arrays.
    """
    return kernel(function, forceinline=True, _nrt=False)


# ------------------------------------------------------------------------------------------ parents


SIDE = 8  # candidates whose weights are summed by themselves

unsigned = np.uint64  # what cannot be negative need not be looked up from the other end


@kernel
def update_parents(
    child_ptr,
    cand_ptr,
    cand_pair,
    cand_weight,
    pair_ptr,
    law,
    reinforce,
    children,
    uniform,
    choice,
    parent,
    n_pair,
):
    """Gibbs draws of parents with the rates integrated out (3.1). O(rounds Q + P).

    P(u) is proportional to ``(shape + n without i) / rate * hazard``; ``reinforce=False`` drops n,
    which is the tree likelihood. ``law``: shapes and rates (P,) of the pairs' Gamma laws, and what
    is still to be added to all rates. ``cand_weight`` (Q,) holds hazards relative to each
    infection's largest, or is empty when all are equal. A child has all its rounds before the next
    has any: given the network they are independent. ``uniform`` (rounds, infections of the
    ``children``).
    Writes ``choice``, ``parent`` (its pair) (M,), ``n_pair`` (P,).
    """
    shape, rate, more = law
    running = np.zeros(_extent(cand_ptr) // SIDE + 1, np.float64)  # from 0, whole sides
    weight = np.empty(_extent(pair_ptr), np.float64)
    passed = 0
    for v in children:
        start, stop, base, end = child_ptr[v], child_ptr[v + 1], pair_ptr[v], pair_ptr[v + 1]
        n = n_pair[base:end]
        _weigh_pairs(shape[base:end], rate[base:end], more, n, reinforce, weight)
        for k in range(uniform.shape[0]):
            drawn = uniform[k, passed : passed + stop - start]
            for m in range(start, stop):
                first, last = cand_ptr[m], cand_ptr[m + 1]
                if last - first < 2:
                    continue
                old = parent[m]
                n_pair[old] -= 1
                if reinforce:
                    weight[old - base] = (shape[old] + n_pair[old]) / (rate[old] + more)
                total, sides = 0.0, (last - first) // SIDE
                for side in range(sides):
                    held, begin = 0.0, first + side * SIDE
                    for q in range(begin, begin + SIDE):
                        held += _weight_of(weight, base, cand_pair, cand_weight, q)
                    total += held
                    running[unsigned(side + 1)] = total
                for q in range(first + sides * SIDE, last):
                    total += _weight_of(weight, base, cand_pair, cand_weight, q)
                target, side = drawn[m - start] * total, 0
                for s in range(sides):
                    side += running[unsigned(s + 1)] <= target
                low = _within_side(
                    first + side * SIDE, last, target - running[side],
                    weight, base, cand_pair, cand_weight,
                )  # fmt: skip
                low = low - first if low >= 0 else choice[m]
                new = cand_pair[first + low]
                choice[m], parent[m] = low, new
                n_pair[new] += 1
                if reinforce:
                    weight[new - base] = (shape[new] + n_pair[new]) / (rate[new] + more)
        passed += stop - start


@part
def _weigh_pairs(shape, rate, more, n, reinforce, weight):
    """Gibbs weights of all pairs of a child, which come as slices: a loop made of vectors."""
    for p in range(n.size):
        weight[p] = (shape[p] + (n[p] if reinforce else 0)) / (rate[p] + more)


@part
def _weight_of(weight, base, cand_pair, cand_weight, q):
    """Gibbs weight of candidate q."""
    held = weight[unsigned(cand_pair[unsigned(q)] - base)]
    return held * cand_weight[unsigned(q)] if cand_weight.size > 0 else held


@part
def _within_side(start, last, target, weight, base, cand_pair, cand_weight):
    """Candidate of a side at which the sum of weights exceeds ``target``.

    Counts all eight, the last over again where there are fewer: how far to go cannot be foreseen.
    Where rounding leaves the sum below, the last that has a weight, or -1 if none has.
    """
    held, below = 0.0, 0
    for q in range(start, start + SIDE):
        held += _weight_of(weight, base, cand_pair, cand_weight, min(q, last - 1))
        below += held <= target
    if start + below < min(start + SIDE, last):
        return start + below
    for q in range(min(start + SIDE, last) - 1, start - 1, -1):
        if _weight_of(weight, base, cand_pair, cand_weight, q) > 0.0:
            return q
    return -1


@part
def _extent(pointers):
    """Length of the longest range that consecutive pointers bound."""
    longest = 0
    for x in range(pointers.size - 1):
        longest = max(longest, pointers[x + 1] - pointers[x])
    return longest


# ------------------------------------------------------------------------------------------ network


TILE = 256  # nodes taken together: what communities hold of them stays in the cache
DENSE = 3  # children with more pairs than one in so many nodes are worked out for all nodes


@kernel
def network_shape(sender, receiver, pair_ptr, pair_source, total, floor, shape):
    """Gamma shape r = total * sum_k sender[u, k] receiver[v, k] of the listed pairs. O(P K).

    ``sender`` (N, K) carries the community weights; background pairs are left alone.
    All sums run in the order of k, several side by side for the sake of vector registers: pairs of
    a child, or all nodes of a child that has many. Which of the two does not change a byte.
    Writes ``shape`` (P,).
    """
    first, dense = np.empty((2, pair_ptr.size - 1), np.int64)
    count = 0
    for v in range(pair_ptr.size - 1):
        start, stop = pair_ptr[v], pair_ptr[v + 1]
        if start < stop and pair_source[start] < 0:
            start += 1
        if DENSE * (stop - start) > sender.shape[0]:
            first[count], dense[count] = start, v
            count += 1
        else:
            _shape_of_pairs(sender, receiver[v], pair_source, start, stop, total, floor, shape)
    if count > 0:
        dense, first = dense[:count], first[:count]
        _shape_of_rows(sender, receiver, pair_ptr, pair_source, dense, first, total, floor, shape)


@kernel
def _shape_of_pairs(sender, to, pair_source, start, stop, total, floor, shape):
    """Shapes of the pairs ``start:stop`` of one child, four sums at a time."""
    whole = start + (stop - start) // 4 * 4
    for p in range(start, whole, 4):
        a, b, c, d = pair_source[p], pair_source[p + 1], pair_source[p + 2], pair_source[p + 3]
        sum_a = sum_b = sum_c = sum_d = 0.0
        for k in range(to.size):
            sum_a += sender[a, k] * to[k]
            sum_b += sender[b, k] * to[k]
            sum_c += sender[c, k] * to[k]
            sum_d += sender[d, k] * to[k]
        shape[p], shape[p + 1] = max(total * sum_a, floor), max(total * sum_b, floor)
        shape[p + 2], shape[p + 3] = max(total * sum_c, floor), max(total * sum_d, floor)
    for p in range(whole, stop):
        sum_a = 0.0
        for k in range(to.size):
            sum_a += sender[pair_source[p], k] * to[k]
        shape[p] = max(total * sum_a, floor)


@kernel
def _shape_of_rows(sender, receiver, pair_ptr, pair_source, children, cursor, total, floor, shape):
    """Shapes of all pairs of some children, by sums for all nodes, four children at a time.

    ``cursor``: first pair of each child; moved on. Communities are filled up with empty ones to a
    multiple of four.
    """
    n_nodes, width = sender.shape
    padded = (width + 3) // 4 * 4
    tile, rows = _aligned(padded), _aligned(4)
    weight = np.zeros((4, padded), np.float64)
    for low in range(0, n_nodes, TILE):
        size = min(TILE, n_nodes - low)
        for u in range(size):
            for k in range(width):
                tile[k, u] = sender[low + u, k]
        for start in range(0, children.size, 4):
            group = range(start, min(start + 4, children.size))
            for c in group:
                for k in range(width):
                    weight[c - start, k] = receiver[children[c], k]
            _rows_of_four(tile, weight, size, rows)
            for c in group:
                p, stop, row = cursor[c], pair_ptr[children[c] + 1], rows[c - start]
                while p < stop and pair_source[p] < low + size:
                    shape[p] = max(total * row[pair_source[p] - low], floor)
                    p += 1
                cursor[c] = p


@kernel
def _aligned(height):
    """Zeros (height, TILE) from the start of a line of the cache: vectors must not straddle two."""
    size = height * TILE
    whole = np.zeros(size + 8, np.float64)
    skip = (64 - whole.ctypes.data % 64) // 8 % 8
    return whole[skip : skip + size].reshape((height, TILE))


@kernel
def _rows_of_four(tile, weight, size, rows):
    """Sums over communities for nodes ``:size`` of a tile and four children; writes ``rows``.

    Four communities per pass over the nodes, which is what there are registers for.
    """
    a, b, c, d = rows[0], rows[1], rows[2], rows[3]
    a[:], b[:], c[:], d[:] = 0.0, 0.0, 0.0, 0.0
    for k in range(0, tile.shape[0], 4):
        a0, a1, a2, a3 = weight[0, k], weight[0, k + 1], weight[0, k + 2], weight[0, k + 3]
        b0, b1, b2, b3 = weight[1, k], weight[1, k + 1], weight[1, k + 2], weight[1, k + 3]
        c0, c1, c2, c3 = weight[2, k], weight[2, k + 1], weight[2, k + 2], weight[2, k + 3]
        d0, d1, d2, d3 = weight[3, k], weight[3, k + 1], weight[3, k + 2], weight[3, k + 3]
        for u in range(size):
            s0, s1, s2, s3 = tile[k, u], tile[k + 1, u], tile[k + 2, u], tile[k + 3, u]
            a[u] = a[u] + a0 * s0 + a1 * s1 + a2 * s2 + a3 * s3
            b[u] = b[u] + b0 * s0 + b1 * s1 + b2 * s2 + b3 * s3
            c[u] = c[u] + c0 * s0 + c1 * s1 + c2 * s2 + c3 * s3
            d[u] = d[u] + d0 * s0 + d1 * s1 + d2 * s2 + d3 * s3


@kernel
def add_by_source(pair_source, values, sums):
    """Add the values of pairs (P,) to sums over sources (N,), the background's left out. O(P)."""
    for p in range(pair_source.size):
        if pair_source[p] >= 0:
            sums[pair_source[p]] += values[p]


# -------------------------------------------------------------------------------------------- rates


LANES = 64  # numbers of which vectors are made, eight of each multiplied at once
SMALLEST, LARGEST = 1e-9, 1e300  # 32 numbers above the first have a product above 1e-288


@kernel
def sum_logs(values, more):
    """Sum of log(values + more), values (P,) and ``more`` not negative. O(P).

    One log for 32 numbers, that of their product, where no double is left on the way.
    """
    total, lane = 0.0, np.empty(LANES, np.float64)
    whole = values.size // (8 * LANES) * (8 * LANES) if more > SMALLEST else 0
    for start in range(0, whole, 8 * LANES):
        x = values[start : start + 8 * LANES]
        for k in range(LANES):
            a = (x[k] + more) * (x[k + LANES] + more)
            b = (x[k + 2 * LANES] + more) * (x[k + 3 * LANES] + more)
            c = (x[k + 4 * LANES] + more) * (x[k + 5 * LANES] + more)
            d = (x[k + 6 * LANES] + more) * (x[k + 7 * LANES] + more)
            lane[k] = (a * b) * (c * d)
        largest = 0.0
        for k in range(LANES // 4):
            lane[k] *= lane[k + LANES // 4] * lane[k + LANES // 2] * lane[k + 3 * LANES // 4]
            largest = max(largest, lane[k])
        if largest < LARGEST:
            for k in range(LANES // 4):
                total += math.log(lane[k])
        else:
            total += _sum_logs_one_by_one(x, more)
    return total + _sum_logs_one_by_one(values[whole:], more)


@kernel
def _sum_logs_one_by_one(values, more):
    total = 0.0
    for p in range(values.size):
        total += math.log(values[p] + more)
    return total


# ---------------------------------------------------------------------- tables, tokens, communities


@kernel
def crt_tables(counts, concentration, uniform, tables):
    """Tables l ~ CRT(n, r) = sum_{m<n} Bernoulli(r / (r + m)) (3.3). O(sum n).

    ``counts`` and ``concentration`` (X,), ``uniform`` (sum n,). Writes ``tables`` (X,) int64.
    """
    cursor = 0
    for x in range(counts.size):
        seated = 0
        for m in range(counts[x]):
            if uniform[cursor + m] * (concentration[x] + m) < concentration[x]:
                seated += 1
        cursor += counts[x]
        tables[x] = seated


@kernel
def endpoint_tables(counts, fresh, concentration, uniform, tables):
    """Tables of tokens in the restaurants of the communities' endpoints, by node (3.6 iii). O(N K).

    ``counts`` (N', K) of senders or receivers, of which ``fresh`` (N', K) int64 are tokens and the
    rest is remembered; the first community, the null, has no restaurants. A token opens a table
    of its own accord, not of what is remembered, with probability r / (r + all before it), r being
    the ``concentration`` (N',). ``uniform`` (sum of fresh,). Adds to ``tables`` (N',) int64.
    """
    cursor = 0
    for u in range(counts.shape[0]):
        r = concentration[u]
        for k in range(1, counts.shape[1]):
            before = counts[u, k] - fresh[u, k]
            for m in range(fresh[u, k]):
                if uniform[cursor + m] * (r + (before + m)) < r:
                    tables[u] += 1
            cursor += fresh[u, k]


@kernel
def running_sums(values, low, high, found):
    """Running sums down some columns. O(n K). Writes rows ``low:high`` of ``found`` (K, n).

    ``values`` (n, K). A few columns at a time share lines of the cache.
    """
    total = np.zeros(high - low, np.float64)
    for u in range(values.shape[0]):
        for k in range(low, high):
            total[k - low] += values[u, k]
            found[k, u] = total[k - low]


@part
def search_cumulative(cumulative, start, stop, target):
    """First index in ``start:stop`` whose cumulative weight exceeds ``target``. O(log)."""
    low, high = start, stop - 1
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
    pair_prior,
    node_prior,
    log_max,
    uniform,
    sender,
    receiver,
    keep,
):
    """Endpoints of phantom tokens and whether exposure balancing keeps them (3.4).

    ``community`` (T,); ``cumulative_sender`` (K, N') and ``cumulative_receiver`` (K, n): running
    sums of each community's senders, and of its receivers from node ``first`` on. A token is
    kept with probability ``1 - log(1 + E/b) / log_max``, with b from ``pair_prior`` (P,) for listed
    pairs and ``node_prior`` (N,) for others, or (1,) where it is the same for all. Endpoints beyond
    ``n_nodes`` (the open-world reserve) and self-pairs have no exposure. O(T log N).
    ``uniform`` (T, 3). Writes ``sender``, ``receiver`` (T,) and ``keep`` (T,) bool.
    """
    for t in range(community.size):
        row = cumulative_sender[community[t]]
        u = search_cumulative(row, 0, row.size, uniform[t, 0] * row[row.size - 1])
        row = cumulative_receiver[community[t]]
        v = first + search_cumulative(row, 0, row.size, uniform[t, 1] * row[row.size - 1])
        e = 0.0
        if u != v and u < n_nodes and v < n_nodes:
            e = node_full[u] / node_prior[u if node_prior.size > 1 else 0]
            low, high = pair_ptr[v], pair_ptr[v + 1]
            while low < high:
                middle = (low + high) // 2
                if pair_source[middle] < u:
                    low = middle + 1
                else:
                    high = middle
            if low < pair_ptr[v + 1] and pair_source[low] == u:
                e = exposure[low] / pair_prior[low if pair_prior.size > 1 else 0]
        sender[t] = u
        receiver[t] = v
        keep[t] = uniform[t, 2] * log_max >= math.log(1.0 + e)


@kernel
def draw_communities(sender, receiver, weight_sender, weight_receiver, uniform, community):
    """Community of each token given D, A, B: proportional to D_k A_ku B_kv. O(T K).

    ``weight_sender`` (N', K) carries D. Writes ``community`` (T,).
    """
    width = weight_sender.shape[1]
    cumulative = np.empty(width, np.float64)
    for t in range(sender.size):
        u, v = sender[t], receiver[t]
        total = 0.0
        for k in range(width):
            total += weight_sender[u, k] * weight_receiver[v, k]
            cumulative[k] = total
        community[t] = search_cumulative(cumulative, 0, width, uniform[t] * total)


@kernel
def count_tokens(sender, receiver, community, eta, sent, received):
    """Token counts by community (K,), sender (N', K) and receiver (N', K), from zero. O(T)."""
    eta[:] = 0
    sent[:] = 0
    received[:] = 0
    for t in range(sender.size):
        k = community[t]
        eta[k] += 1
        sent[sender[t], k] += 1
        received[receiver[t], k] += 1


@kernel
def update_communities(
    sender,
    receiver,
    null_weight,
    base,
    prior,
    tau,
    tau_beta,
    uniform,
    community,
    eta,
    sent,
    received,
):
    """One collapsed pass over all tokens, D, A and B integrated out (3.5). O(T K).

    ``prior`` (K,): a0, alpha/K, alpha/K, ...; ``base`` (N',): endpoint distribution of the null
    community 0, used when ``null_weight`` is true, else community 0 is never drawn.
    ``tau_beta`` (N',). Writes ``community`` (T,), ``eta``, ``sent``, ``received``.
    """
    width = eta.size
    cumulative = np.empty(width, np.float64)
    factor = np.empty(width, np.float64)
    for k in range(1, width):
        factor[k] = (eta[k] + prior[k]) / ((eta[k] + tau) * (eta[k] + tau))
    for t in range(sender.size):
        u, v = sender[t], receiver[t]
        k = community[t]
        eta[k] -= 1
        sent[u, k] -= 1
        received[v, k] -= 1
        if k > 0:
            factor[k] = (eta[k] + prior[k]) / ((eta[k] + tau) * (eta[k] + tau))
        total = (eta[0] + prior[0]) * base[u] * base[v] if null_weight else 0.0
        cumulative[0] = total
        for k in range(1, width):
            total += factor[k] * (sent[u, k] + tau_beta[u]) * (received[v, k] + tau_beta[v])
            cumulative[k] = total
        k = search_cumulative(cumulative, 0, width, uniform[t] * total)
        community[t] = k
        eta[k] += 1
        sent[u, k] += 1
        received[v, k] += 1
        if k > 0:
            factor[k] = (eta[k] + prior[k]) / ((eta[k] + tau) * (eta[k] + tau))


@part
def _put(token, k, change, ends, counts):
    """Add a token to the counts of community k, or take it out with ``change`` -1."""
    sender, receiver = ends
    eta, sent, received = counts
    eta[k] += change
    sent[sender[token], k] += change
    received[receiver[token], k] += change


@part
def _predictive(token, k, ends, law, counts):
    """Weight of community k for one more token, given those it has: numerator and denominator."""
    u, v = ends[0][token], ends[1][token]
    prior, tau, tau_beta = law
    eta, sent, received = counts
    nodes = (sent[u, k] + tau_beta[u]) * (received[v, k] + tau_beta[v])
    return (eta[k] + prior) * nodes, (eta[k] + tau) * (eta[k] + tau)


@part
def _carry(product, logs):
    """A product, and a sum of logs that takes it over before it leaves the range of floats."""
    if 1e-200 < product < 1e200:
        return product, logs
    return 1.0, logs + math.log(product)


@kernel
def restricted_scan(tokens, labels, ends, law, uniform, forced, side, counts):
    """Gibbs scan over two communities only (Jain and Neal); log probability of its outcome.

    ``tokens`` (S,): indices, without the two anchors; ``labels`` (2,): the two communities;
    ``ends``: sender and receiver of all tokens; ``law``: weight alpha/K of a community, tau and
    tau * beta (N',). ``side`` (S,): 0, 1, or -1 for not yet placed. With ``forced`` (S,) not empty,
    the scan is made to end there and only its probability is computed.
    Writes ``side`` and ``counts``: eta (K,), sent and received (N', K).
    """
    product, logs = 1.0, 0.0
    for x in range(tokens.size):
        t = tokens[x]
        if side[x] >= 0:
            _put(t, labels[side[x]], -1, ends, counts)
        over0, under0 = _predictive(t, labels[0], ends, law, counts)
        over1, under1 = _predictive(t, labels[1], ends, law, counts)
        w0, w1 = over0 * under1, over1 * under0
        if forced.size > 0:
            new = forced[x]
        else:
            new = 1 if uniform[x] * (w0 + w1) < w1 else 0
        product, logs = _carry(product * (w1 if new == 1 else w0) / (w0 + w1), logs)
        side[x] = new
        _put(t, labels[new], 1, ends, counts)
    return logs + math.log(product)


@kernel
def place_tokens(tokens, labels, ends, law, counts):
    """Add tokens to communities one after another; log of the weight they have there. O(S).

    That is their part in the joint law of communities and endpoints, D, A and B integrated out.
    ``tokens``, ``labels`` (S,); the rest as in `restricted_scan`. Writes ``counts``.
    """
    product, logs = 1.0, 0.0
    for x in range(tokens.size):
        over, under = _predictive(tokens[x], labels[x], ends, law, counts)
        product, logs = _carry(product * over / under, logs)
        _put(tokens[x], labels[x], 1, ends, counts)
    return logs + math.log(product)


@kernel
def split_or_merge(anchors, label, log_labels, ends, law, uniform, log_uniform, community, counts):
    """Propose to part two tokens of one community, or to join theirs (3.6 i). O(T + scans S).

    ``anchors`` (2,): the tokens. ``label``: community of the second, or the one it is to have, out
    of exp(``log_labels``) that are empty once the two are joined. The S other tokens of their
    communities are placed by restricted scans from nowhere, the last of which is the proposal.
    ``uniform`` (scans, S); ``log_uniform`` decides; the rest as in `restricted_scan`.
    Writes ``community`` (T,) and ``counts``; returns whether the proposal was accepted.
    """
    i, j = anchors[0], anchors[1]
    here, there = community[i], community[j]
    split = here == there
    scans, size = uniform.shape
    members = np.empty(size + 2, np.int64)  # the anchors first
    members[0], members[1] = i, j
    forced = np.empty(size, np.int8)
    found = 0
    for t in range(community.size):
        if (community[t] == here or community[t] == there) and t != i and t != j:
            members[found + 2], forced[found] = t, community[t] == there
            found += 1
    for x in range(size + 2):
        _put(members[x], community[members[x]], -1, ends, counts)

    home = np.full(size + 2, here, np.int32)
    log_joined = place_tokens(members, home, ends, law, counts)
    for x in range(size + 2):
        _put(members[x], here, -1, ends, counts)

    parted, side = home.copy(), np.full(size, -1, np.int8)
    parted[1] = label
    place_tokens(members[:2], parted[:2], ends, law, counts)
    log_proposal = 0.0
    for scan in range(scans):
        target = forced[: 0 if split or scan + 1 < scans else size]
        log_proposal = restricted_scan(
            members[2:], parted[:2], ends, law, uniform[scan], target, side, counts
        )
    for x in range(size):
        parted[x + 2] = parted[side[x]]
    for x in range(size + 2):
        _put(members[x], parted[x], -1, ends, counts)
    log_parted = place_tokens(members, parted, ends, law, counts)

    log_ratio = log_parted - log_joined + log_labels - log_proposal
    accepted = log_uniform < (log_ratio if split else -log_ratio)
    for x in range(size + 2):
        if split != accepted:  # they are joined now, or still
            _put(members[x], parted[x], -1, ends, counts)
            _put(members[x], here, 1, ends, counts)
            parted[x] = here
        community[members[x]] = parted[x]
    return accepted


# -------------------------------------------------------------------- running sums of the posterior


@kernel
def accumulate(shape, rate, more, n_pair, unit, draws, running_mean, variance):
    """Add a draw, the one of number ``draws``, to the moments of the listed pairs' rates. O(P).

    The rate given the draw is Gamma(s = shape + n, rate + more), here in units of ``unit``. Moments
    run on as means do, not as sums, which in float32 would drift where rates hardly vary.
    Writes the last two arrays (P,) float32.
    """
    for p in range(shape.size):
        scale = unit / (rate[p] + more)
        value = (shape[p] + n_pair[p]) * scale
        change = value - running_mean[p]
        mean = running_mean[p] + change / draws
        running_mean[p] = mean
        variance[p] += (change * (value - mean) + value * scale - variance[p]) / draws
