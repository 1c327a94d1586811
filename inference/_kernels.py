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


def kernel(function):
    """Compile without the GIL; cache on disk where a cache directory can be written."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no writable cache directory: compile again in every process
        return numba.njit(nogil=True)(function)


# ---------------------------------------------------------------------------------------------
# layout
# ---------------------------------------------------------------------------------------------


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
    pair_width,
):
    """Pair of every candidate, and candidates of every pair. O(Q + P).

    Writes ``cand_pair`` (Q,) and, from zero, ``pair_width`` (P,).
    """
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
                pair_width[pair_ptr[v]] += 1
                q += 1
            for j in range(start + first_cand[i], start + n_earlier[i]):
                cand_pair[q] = pair_of[node[j]]
                pair_width[cand_pair[q]] += 1
                q += 1


@kernel
def fill_delays(
    infection, offset, cascade, time, n_earlier, first_cand, background, cand_ptr, delay
):
    """Delay of every candidate, of a background one since the start of the cascade. O(Q).

    Writes ``delay`` (Q,).
    """
    for m in range(infection.size):
        i = infection[m]
        start = offset[cascade[i]]
        q = cand_ptr[m]
        if q == cand_ptr[m + 1]:
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
    """Exposure E of the listed pairs, eq. 3 of the survival likelihood. O(sum L^2 + P).

    ``cand_cumulative`` (Q,): H of each candidate's delay; ``infection_full`` (I,): H from the
    infection to the end of its influence; ``node_full`` (N,) its sum by node; ``node_cascades``
    (N,): cascades of a node. Cascades in which the child never appears come as the difference
    ``node_full - met``, set to exactly zero where there are none. Writes ``exposure`` (P,).
    """
    n_nodes = child_ptr.size - 1
    pair_of = np.full(n_nodes, -1, np.int64)
    met = np.zeros(n_nodes, np.float64)
    direct = np.zeros(n_nodes, np.float64)
    meetings = np.zeros(n_nodes, np.int64)
    shift = 1 if background else 0
    for v in range(n_nodes):
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


# ---------------------------------------------------------------------------------------------
# parents
# ---------------------------------------------------------------------------------------------


@kernel
def network_shape(sender, receiver, pair_ptr, pair_source, total, floor, shape):
    """Gamma shape r = total * sum_k sender[u, k] receiver[v, k] of the listed pairs. O(P K).

    ``sender`` (N, K) carries the community weights; background pairs are left alone.
    Four running sums, so that the compiler may use vector registers without reordering.
    Writes ``shape`` (P,).
    """
    width = sender.shape[1]
    blocks = width // 4
    for v in range(pair_ptr.size - 1):
        for p in range(pair_ptr[v], pair_ptr[v + 1]):
            u = pair_source[p]
            if u < 0:
                continue
            s0 = s1 = s2 = s3 = 0.0
            for g in range(blocks):
                k = 4 * g
                s0 += sender[u, k] * receiver[v, k]
                s1 += sender[u, k + 1] * receiver[v, k + 1]
                s2 += sender[u, k + 2] * receiver[v, k + 2]
                s3 += sender[u, k + 3] * receiver[v, k + 3]
            for k in range(4 * blocks, width):
                s0 += sender[u, k] * receiver[v, k]
            shape[p] = max(total * ((s0 + s1) + (s2 + s3)), floor)


@kernel
def update_parents(
    child_ptr,
    cand_ptr,
    cand_pair,
    cand_weight,
    pair_ptr,
    shape,
    rate,
    reinforce,
    uniform,
    choice,
    parent,
    n_pair,
):
    """Gibbs draw of every parent with the rates integrated out (3.1). O(Q + P).

    P(u) is proportional to ``(shape + n without i) / rate * hazard``; ``reinforce=False`` drops
    n, which is the tree likelihood. ``cand_weight`` (Q,) holds hazards relative to each
    infection's largest, or is empty when all are equal. ``uniform`` (M,).
    Writes ``choice``, ``parent`` (its pair) (M,), ``n_pair`` (P,).
    """
    widest_row = 0
    for m in range(cand_ptr.size - 1):
        widest_row = max(widest_row, cand_ptr[m + 1] - cand_ptr[m])
    widest_child = 0
    for v in range(pair_ptr.size - 1):
        widest_child = max(widest_child, pair_ptr[v + 1] - pair_ptr[v])
    cumulative = np.empty(widest_row, np.float64)
    weight = np.empty(widest_child, np.float64)
    weighted = cand_weight.size > 0
    for v in range(child_ptr.size - 1):
        base = pair_ptr[v]
        for p in range(base, pair_ptr[v + 1]):
            weight[p - base] = (shape[p] + (n_pair[p] if reinforce else 0)) / rate[p]
        for m in range(child_ptr[v], child_ptr[v + 1]):
            first = cand_ptr[m]
            width = cand_ptr[m + 1] - first
            if width < 2:
                continue
            old = parent[m]
            n_pair[old] -= 1
            if reinforce:
                weight[old - base] = (shape[old] + n_pair[old]) / rate[old]
            total = 0.0
            if weighted:
                for q in range(width):
                    total += weight[cand_pair[first + q] - base] * cand_weight[first + q]
                    cumulative[q] = total
            else:
                for q in range(width):
                    total += weight[cand_pair[first + q] - base]
                    cumulative[q] = total
            target = uniform[m] * total
            low, high = 0, width - 1
            while low < high:
                middle = (low + high) // 2
                if cumulative[middle] > target:
                    high = middle
                else:
                    low = middle + 1
            choice[m] = low
            new = cand_pair[first + low]
            parent[m] = new
            n_pair[new] += 1
            if reinforce:
                weight[new - base] = (shape[new] + n_pair[new]) / rate[new]


@kernel
def update_swaps(
    cand_ptr,
    cand_pair,
    cand_weight,
    inc_ptr,
    inc_infection,
    inc_position,
    shape,
    rate,
    uniform,
    choice,
    parent,
    n_pair,
):
    """Exchange what two sources explain in one child (3.1b), one proposal per infection.

    The infection names its parent u and, uniformly, another candidate w; all infections of the
    child explained by u that w could explain go to w, and the other way round. The same
    infection proposes the way back with the same probability. ``uniform`` (M, 2).
    O(infections that u or w could explain) each. Writes ``choice``, ``parent`` (M,) and
    ``n_pair`` (P,); returns the number of accepted proposals.
    """
    weighted = cand_weight.size > 0
    accepted = 0
    for m in range(cand_ptr.size - 1):
        first = cand_ptr[m]
        width = cand_ptr[m + 1] - first
        if width < 2:
            continue
        pick = min(int(uniform[m, 0] * (width - 1)), width - 2)
        if pick >= choice[m]:
            pick += 1
        a = parent[m]
        b = cand_pair[first + pick]
        n_ab = 0  # infections that go from a to b
        for x in range(inc_ptr[b], inc_ptr[b + 1]):
            if parent[inc_infection[x]] == a:
                n_ab += 1
        n_ba = 0
        if n_pair[b] > 0:
            for x in range(inc_ptr[a], inc_ptr[a + 1]):
                if parent[inc_infection[x]] == b:
                    n_ba += 1
        shift = n_ab - n_ba
        ratio = _transfer(shape, rate, n_pair, a, b, shift)
        if weighted:
            log_ratio = math.log(ratio) if ratio > 0.0 else -math.inf
            log_ratio += _log_hazard_ratio(
                a, b, cand_ptr, cand_weight, inc_ptr, inc_infection, inc_position, choice, parent
            )
            if not math.log(1.0 - uniform[m, 1]) < log_ratio:
                continue
        elif not uniform[m, 1] < ratio:
            continue
        accepted += 1
        n_pair[a] -= shift
        n_pair[b] += shift
        # those that move to b are marked until the way back has been read
        for x in range(inc_ptr[b], inc_ptr[b + 1]):
            i = inc_infection[x]
            if parent[i] == a:
                parent[i] = -1
                choice[i] = inc_position[x]
        if n_ba > 0:
            for x in range(inc_ptr[a], inc_ptr[a + 1]):
                i = inc_infection[x]
                if parent[i] == b:
                    parent[i] = a
                    choice[i] = inc_position[x]
        for x in range(inc_ptr[b], inc_ptr[b + 1]):
            i = inc_infection[x]
            if parent[i] == -1:
                parent[i] = b
    return accepted


@kernel
def _transfer(shape, rate, n_pair, a, b, shift):
    """Ratio of prod Gamma(shape + n) / rate^n when ``shift`` infections go from a to b."""
    if shift < 0:
        a, b, shift = b, a, -shift
    ratio = 1.0
    for j in range(shift):
        # integers first: a tiny shape must not drown in them
        gain = (shape[b] + (n_pair[b] + j)) * rate[a]
        ratio *= gain / ((shape[a] + (n_pair[a] - 1 - j)) * rate[b])
    return ratio


@kernel
def _log_hazard_ratio(
    a, b, cand_ptr, cand_weight, inc_ptr, inc_infection, inc_position, choice, parent
):
    """Log ratio of the hazards of all infections that an exchange of a and b would move."""
    total = 0.0
    for x in range(inc_ptr[b], inc_ptr[b + 1]):
        i = inc_infection[x]
        if parent[i] == a:
            start = cand_ptr[i]
            total += _log(cand_weight[start + inc_position[x]])
            total -= _log(cand_weight[start + choice[i]])
    for x in range(inc_ptr[a], inc_ptr[a + 1]):
        i = inc_infection[x]
        if parent[i] == b:
            start = cand_ptr[i]
            total += _log(cand_weight[start + inc_position[x]])
            total -= _log(cand_weight[start + choice[i]])
    return total


@kernel
def _log(x):
    """log(x), -inf at 0: a candidate whose hazard vanishes."""
    return math.log(x) if x > 0.0 else -math.inf


# ---------------------------------------------------------------------------------------------
# tables, tokens, communities
# ---------------------------------------------------------------------------------------------


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

    ``community`` (T,); ``cumulative_*`` (K, N') running sums of each community's endpoint
    distributions; a token is kept with probability ``1 - log(1 + E/b) / log_max``, with b from
    ``pair_prior`` (P,) for listed pairs and ``node_prior`` (N,) for others, or (1,) where it is
    the same for all. Endpoints beyond ``n_nodes`` (the open-world reserve) and self-pairs have
    no exposure. O(T log N).
    ``uniform`` (T, 3). Writes ``sender``, ``receiver`` (T,) and ``keep`` (T,) bool.
    """
    size = cumulative_sender.shape[1]
    for t in range(community.size):
        k = community[t]
        row = cumulative_sender[k]
        u = search_cumulative(row, 0, size, uniform[t, 0] * row[size - 1])
        row = cumulative_receiver[k]
        v = search_cumulative(row, 0, size, uniform[t, 1] * row[size - 1])
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


@kernel
def _side_weight(count, eta, u, v, sent, received, tau, tau_beta):
    """Predictive weight of token (u, v) in a community with the given counts."""
    return (
        (eta + count)
        * (sent[u] + tau_beta[u])
        * (received[v] + tau_beta[v])
        / ((eta + tau) * (eta + tau))
    )


@kernel
def restricted_scan(
    tokens,
    sender,
    receiver,
    prior,
    tau,
    tau_beta,
    uniform,
    forced,
    side,
    eta,
    sent,
    received,
):
    """Gibbs scan over two communities only (Jain and Neal); log probability of its outcome.

    ``tokens`` (S,): indices, without the two anchors; ``side`` (S,): 0, 1, or -1 for not yet
    placed. With ``forced`` (S,) not empty, the scan is made to end there and only its
    probability is computed. Writes ``side``, ``eta`` (2,), ``sent`` and ``received`` (2, N').
    """
    log_probability = 0.0
    for x in range(tokens.size):
        u, v = sender[tokens[x]], receiver[tokens[x]]
        old = side[x]
        if old >= 0:
            eta[old] -= 1
            sent[old, u] -= 1
            received[old, v] -= 1
        w0 = _side_weight(prior, eta[0], u, v, sent[0], received[0], tau, tau_beta)
        w1 = _side_weight(prior, eta[1], u, v, sent[1], received[1], tau, tau_beta)
        if forced.size > 0:
            new = forced[x]
        else:
            new = 1 if uniform[x] * (w0 + w1) < w1 else 0
        chosen = w1 if new == 1 else w0
        log_probability += math.log(chosen / (w0 + w1))
        side[x] = new
        eta[new] += 1
        sent[new, u] += 1
        received[new, v] += 1
    return log_probability


# ---------------------------------------------------------------------------------------------
# running sums of the posterior
# ---------------------------------------------------------------------------------------------


@kernel
def accumulate(shape, rate, n_pair, unit, hits, n_sum, mean_sum, square_sum, mean_hit, square_hit):
    """Add one draw to the running sums of the listed pairs. O(P).

    The rate given the draw is Gamma(s = shape + n, rate): mean s/rate, second moment
    (s^2 + s)/rate^2, both in units of ``unit``; ``*_hit`` collect only draws in which the pair
    carried an infection. Writes the last six arrays (P,).
    """
    for p in range(shape.size):
        s = shape[p] + n_pair[p]
        scale = unit / rate[p]
        mean = s * scale
        square = mean * (mean + scale)
        mean_sum[p] += mean
        square_sum[p] += square
        if n_pair[p] > 0:
            hits[p] += 1
            n_sum[p] += n_pair[p]
            mean_hit[p] += mean
            square_hit[p] += square
