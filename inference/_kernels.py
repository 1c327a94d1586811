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
    """Compile without the GIL; cache on disk where a cache directory can be written."""
    try:
        return numba.njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:  # no writable cache directory: compile again in every process
        return numba.njit(nogil=True, **options)(function)


def part(function):
    """Compile into the kernels that call it: handing arrays over costs more than small loops."""
    return kernel(function, forceinline=True)


# ------------------------------------------------------------------------------------------ parents


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
    scan,
    uniform,
    choice,
    parent,
    n_pair,
):
    """Gibbs draw of parents with the rates integrated out (3.1). O(Q + P).

    P(u) is proportional to ``(shape + n without i) / rate * hazard``; ``reinforce=False`` drops
    n, which is the tree likelihood. ``cand_weight`` (Q,) holds hazards relative to each
    infection's largest, or is empty when all are equal. Children whose infections have more than
    ``scan`` candidates on average are left to `propose_parents`. ``uniform`` (M,).
    Writes ``choice``, ``parent`` (its pair) (M,), ``n_pair`` (P,).
    """
    cumulative = np.empty(_extent(cand_ptr), np.float64)
    weight = np.empty(_extent(pair_ptr), np.float64)
    weighted = cand_weight.size > 0
    for v in range(child_ptr.size - 1):
        base = pair_ptr[v]
        if is_wide(cand_ptr, child_ptr[v], child_ptr[v + 1], scan):
            continue
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
            low = search_cumulative(cumulative, 0, width, uniform[m] * total)
            choice[m] = low
            new = cand_pair[first + low]
            parent[m] = new
            n_pair[new] += 1
            if reinforce:
                weight[new - base] = (shape[new] + n_pair[new]) / rate[new]


@part
def is_wide(cand_ptr, start, stop, scan):
    """Whether a child's infections have more than ``scan`` candidates on average."""
    return cand_ptr[stop] - cand_ptr[start] > scan * (stop - start)


@part
def place_of(m, source, low, lookup):
    """Where a source stands among the candidates of infection m, -1 where it is none, and a cursor.

    The infections of a source are ascending, and so are those of a child: where they are gone
    through in order, the search can begin at the cursor ``low`` of the one before. A few steps, or
    O(log infections of the source). The background stands first wherever there is a candidate.
    ``lookup``: infections of source u are ``infection[ptr[u]:ptr[u + 1]]``; ``ptr``, ``infection``,
    ``cand_start``, ``cand_stop``, and 1 with a background, else 0.
    """
    if source < 0:
        return 0, low
    ptr, infection, cand_start, cand_stop, shift = lookup
    start, stop = cand_start[m], ptr[source + 1]
    high = min(low + 4, stop)
    while low < high and infection[low] < start:
        low += 1
    if low == high:
        high = stop
        while low < high:
            middle = (low + high) // 2
            if infection[middle] < start:
                low = middle + 1
            else:
                high = middle
    if low < stop and infection[low] < cand_stop[m]:
        return infection[low] - start + shift, low
    return -1, low


@kernel
def propose_parents(
    lookup,
    child_ptr,
    cand_ptr,
    cand_pair,
    cand_weight,
    pair_ptr,
    pair_source,
    shape,
    rate,
    scan,
    uniform,
    choice,
    parent,
    n_pair,
):
    """Metropolis draw of the parents in children whose infections have very many candidates.

    The Gibbs weight of candidate u is ``(shape + n) / rate * hazard``, n without the infection. Its
    second part is there for the few sources only that explain something in this child, and is
    proposed as it is; the first is proposed evenly over all candidates, with the child's typical
    shape / rate, and what that misses decides on acceptance. The proposal does not depend on the
    parent there is. O(sources that explain something) each, whatever the number of candidates.
    ``lookup``: see `place_of`. ``uniform`` (M, 3).
    Writes ``choice``, ``parent`` (M,), ``n_pair`` (P,); returns the number of moves.
    """
    most_rows = _extent(child_ptr)
    slot_of = np.full(_extent(pair_ptr), -1, np.int32)  # of the pairs that explain something
    pair = np.empty(most_rows + 1, np.int64)
    cursor = np.empty(most_rows + 1, np.int64)
    place = np.empty(most_rows + 1, np.int64)
    cumulative = np.empty(most_rows + 1, np.float64)
    weighted = cand_weight.size > 0
    moves = 0
    for v in range(pair_ptr.size - 1):
        start, stop, base = child_ptr[v], child_ptr[v + 1], pair_ptr[v]
        if not is_wide(cand_ptr, start, stop, scan):
            continue
        slots = _open_slots(start, stop, base, parent, pair_source, lookup, slot_of, pair, cursor)
        prior = _typical_prior(shape, rate, base, pair_ptr[v + 1])
        for m in range(start, stop):
            first = cand_ptr[m]
            width = cand_ptr[m + 1] - first
            if width < 2:
                continue
            old, at = parent[m], choice[m]
            n_pair[old] -= 1
            total, free = 0.0, -1
            for s in range(slots):
                p = pair[s]
                if n_pair[p] > 0:
                    place[s], cursor[s] = place_of(m, pair_source[p], cursor[s], lookup)
                    if place[s] >= 0:
                        h = cand_weight[first + place[s]] if weighted else 1.0
                        total += n_pair[p] / rate[p] * h
                elif p != old:
                    free = s
                cumulative[s] = total
            target = uniform[m, 0] * (total + prior * width)
            if target < total:
                s = search_cumulative(cumulative, 0, slots, target)
                new, to = pair[s], place[s]
            else:
                to = min(int(uniform[m, 1] * width), width - 1)
                new = cand_pair[first + to]
            h_old = cand_weight[first + at] if weighted else 1.0
            h_new = cand_weight[first + to] if weighted else 1.0
            known_old, known_new = n_pair[old] / rate[old] * h_old, n_pair[new] / rate[new] * h_new
            up = (known_new + shape[new] / rate[new] * h_new) * (known_old + prior)
            down = (known_old + shape[old] / rate[old] * h_old) * (known_new + prior)
            if new != old and uniform[m, 2] * down < up:
                moves += 1
                parent[m], choice[m] = new, to
                if slot_of[new - base] < 0:
                    if free < 0:
                        free, slots = slots, slots + 1
                    else:
                        slot_of[pair[free] - base] = -1
                    slot_of[new - base], pair[free] = free, new
                    cursor[free] = lookup[0][max(pair_source[new], 0)]
                old = new
            n_pair[old] += 1
        for s in range(slots):
            slot_of[pair[s] - base] = -1
    return moves


@part
def _open_slots(start, stop, base, parent, pair_source, lookup, slot_of, pair, cursor):
    """A slot for each pair that explains one of these infections; their number."""
    slots = 0
    for m in range(start, stop):
        p = parent[m]
        if p >= 0 and slot_of[p - base] < 0:
            slot_of[p - base], pair[slots] = slots, p
            cursor[slots] = lookup[0][max(pair_source[p], 0)]
            slots += 1
    return slots


@part
def _extent(pointers):
    """Length of the longest range that consecutive pointers bound."""
    longest = 0
    for v in range(pointers.size - 1):
        longest = max(longest, pointers[v + 1] - pointers[v])
    return longest


@part
def _typical_prior(shape, rate, start, stop):
    """Mean shape / rate of up to 63 of these pairs, evenly spaced."""
    step = max((stop - start) // 32, 1)
    total, count = 0.0, 0
    for p in range(start, stop, step):
        total += shape[p] / rate[p]
        count += 1
    return total / max(count, 1)


@kernel
def update_swaps(
    lookup,
    child_ptr,
    cand_ptr,
    cand_pair,
    cand_weight,
    pair_ptr,
    pair_source,
    shape,
    rate,
    n_cand,
    uniform,
    choice,
    parent,
    n_pair,
):
    """Exchange what two sources explain in one child (3.1b), one proposal per infection.

    The infection names its parent u and, uniformly, another candidate w; all infections of the
    child explained by u that w could explain go to w, and the other way round. The same
    infection proposes the way back with the same probability. Infections with the same parent are
    chained within their child, so that a proposal costs O(infections explained by u or w), and
    most of them less: where w explains nothing and hazards are equal, the ratio is convex on the
    log scale in the number that move, which bounds it as soon as some are known to stay.
    ``lookup``: see `place_of`. ``n_cand`` (P,): infections that a pair could explain.
    ``uniform`` (M, 2).
    Writes ``choice``, ``parent`` (M,), ``n_pair`` (P,); returns the number of accepted proposals.
    """
    most_rows = _extent(child_ptr)
    head = np.full(_extent(pair_ptr), -1, np.int32)  # first infection that a pair explains
    after = np.empty(most_rows, np.int32)  # the next one with the same parent
    place = np.empty(most_rows, np.int64)  # among its candidates, of the other of two sources
    weighted = cand_weight.size > 0
    accepted = 0
    for v in range(pair_ptr.size - 1):
        start, stop, base = child_ptr[v], child_ptr[v + 1], pair_ptr[v]
        for m in range(stop - 1, start - 1, -1):
            if parent[m] >= 0:
                after[m - start] = head[parent[m] - base]
                head[parent[m] - base] = m - start
        for m in range(start, stop):
            first = cand_ptr[m]
            width = cand_ptr[m + 1] - first
            if width < 2:
                continue
            pick = min(int(uniform[m, 0] * (width - 1)), width - 2)
            if pick >= choice[m]:
                pick += 1
            a = parent[m]
            b = cand_pair[first + pick]
            limit, n_ba = uniform[m, 1], 0
            if weighted or n_pair[b] > 0:
                n_ab = _movable(head[a - base], start, pair_source[b], after, place, lookup)
                n_ba = _movable(head[b - base], start, pair_source[a], after, place, lookup)
            else:
                n_ab = _movable_unless_hopeless(
                    head[a - base], start, pair_source[b], after, place, lookup,
                    limit, n_cand, shape, rate, n_pair, a, b,
                )  # fmt: skip
                if n_ab < 0:
                    continue
            moved = n_ab - n_ba
            ratio = _transfer(shape, rate, n_pair, a, b, moved)
            if weighted:
                log_ratio = _log(ratio)
                for p in (a, b):
                    log_ratio += _log_hazard_ratio(
                        head[p - base], start, after, place, cand_ptr, cand_weight, choice
                    )
                if not math.log(1.0 - limit) < log_ratio:
                    continue
            elif not limit < ratio:
                continue
            accepted += 1
            n_pair[a] -= moved
            n_pair[b] += moved
            _exchange(a, b, base, start, head, after, place, choice, parent)
        for m in range(start, stop):
            if parent[m] >= 0:
                head[parent[m] - base] = -1
    return accepted


@part
def _movable(row, start, source, after, place, lookup):
    """How many of the infections chained from ``row`` another source could explain.

    Writes their ``place`` among the candidates, -1 where there is none.
    """
    cursor = lookup[0][max(source, 0)]
    count = 0
    while row >= 0:
        place[row], _ = place_of(start + row, source, cursor, lookup)
        if place[row] >= 0:
            count += 1
        row = after[row]
    return count


@part
def _movable_unless_hopeless(
    row, start, source, after, place, lookup, limit, n_cand, shape, rate, n_pair, a, b
):
    """As `_movable`, for a pair b that explains nothing; -1 once no ratio can exceed ``limit``.

    With s infections going to b the ratio is convex in s on the log scale: at most what it is for
    one of them, or for as many as b may explain and have not been found to stay.
    """
    cursor = lookup[0][max(source, 0)]
    count, left, most = 0, n_pair[a], min(n_pair[a], n_cand[b])
    one = shape[b] * rate[a] / ((shape[a] + (left - 1)) * rate[b])
    largest = _transfer(shape, rate, n_pair, a, b, most)
    limit *= 1.0 - 1e-9  # rounding must not reject what the ratio itself would accept
    while row >= 0:
        if not limit < max(one, largest):
            return -1
        place[row], _ = place_of(start + row, source, cursor, lookup)
        if place[row] >= 0:
            count += 1
        else:
            left -= 1
            if left < most:
                gain = (shape[b] + left) * rate[a]
                largest *= (shape[a] + (n_pair[a] - most)) * rate[b] / gain
                most = left
        row = after[row]
    return count


@part
def _exchange(a, b, base, start, head, after, place, choice, parent):
    """Chain the infections of two pairs anew, those with a place going to the other pair."""
    first_a, first_b = head[a - base], head[b - base]
    head[a - base] = head[b - base] = -1
    for row, here, there in ((first_a, a, b), (first_b, b, a)):
        while row >= 0:
            following = after[row]
            holder = here
            if place[row] >= 0:
                holder = there
                choice[start + row] = place[row]
                parent[start + row] = there
            after[row] = head[holder - base]
            head[holder - base] = row
            row = following


@part
def _transfer(shape, rate, n_pair, a, b, shift):
    """Ratio of prod Gamma(shape + n) / rate^n when ``shift`` infections go from a to b."""
    if shift < 0:
        a, b, shift = b, a, -shift
    ratio, gain, loss, left = 1.0, 1.0, 1.0, n_pair[a] - shift
    for j in range(shift):
        # integers first: a tiny shape must not drown in them
        gain *= (shape[b] + (n_pair[b] + j)) * rate[a]
        loss *= (shape[a] + (left + j)) * rate[b]
        if gain < 1e-200 or gain > 1e200 or loss < 1e-200 or loss > 1e200:
            ratio *= gain / loss
            gain, loss = 1.0, 1.0
    return ratio * (gain / loss)


@part
def _log_hazard_ratio(row, start, after, place, cand_ptr, cand_weight, choice):
    """Log ratio of the hazards of those infections of a chain that have a place to go to."""
    total = 0.0
    while row >= 0:
        if place[row] >= 0:
            first = cand_ptr[start + row]
            total += _log(cand_weight[first + place[row]])
            total -= _log(cand_weight[first + choice[start + row]])
        row = after[row]
    return total


@part
def _log(x):
    """log(x), -inf at 0: a candidate whose hazard vanishes."""
    return math.log(x) if x > 0.0 else -math.inf


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


# -------------------------------------------------------------------- running sums of the posterior


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
