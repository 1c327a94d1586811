"""Compiled code that draws parents; conventions as in the kernels of the sampler."""

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


MANY = np.iinfo(np.uint8).max  # infections, or more than those
UNKNOWN = np.iinfo(np.int64).max
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
    scan,
    uniform,
    choice,
    parent,
    n_pair,
):
    """Gibbs draw of parents with the rates integrated out (3.1). O(Q + P).

    P(u) is proportional to ``(shape + n without i) / rate * hazard``; ``reinforce=False`` drops n,
    which is the tree likelihood. ``law``: shapes and rates (P,) of the pairs' Gamma laws, and what
    is still to be added to all rates. ``cand_weight`` (Q,) holds hazards relative to each
    infection's largest, or is empty when all are equal. Children whose infections have more than
    ``scan`` candidates on average are left to `propose_parents`. ``uniform`` (M,).
    Writes ``choice``, ``parent`` (its pair) (M,), ``n_pair`` (P,).
    """
    shape, rate, more = law
    running = np.zeros(_extent(cand_ptr) // SIDE + 1, np.float64)  # from 0, whole sides
    weight = np.empty(_extent(pair_ptr), np.float64)
    for v in range(child_ptr.size - 1):
        base, end = pair_ptr[v], pair_ptr[v + 1]
        if is_wide(cand_ptr, child_ptr[v], child_ptr[v + 1], scan):
            continue
        n = n_pair[base:end]
        _weigh_pairs(shape[base:end], rate[base:end], more, n, reinforce, weight)
        for m in range(child_ptr[v], child_ptr[v + 1]):
            first, last = cand_ptr[m], cand_ptr[m + 1]
            if last - first < 2:
                continue
            old = parent[m]
            n_pair[old] -= 1
            if reinforce:
                weight[old - base] = (shape[old] + n_pair[old]) / (rate[old] + more)
            total, sides = 0.0, (last - first) // SIDE
            for side in range(sides):
                held, start = 0.0, first + side * SIDE
                for q in range(start, start + SIDE):
                    held += _weight_of(weight, base, cand_pair, cand_weight, q)
                total += held
                running[unsigned(side + 1)] = total
            for q in range(first + sides * SIDE, last):
                total += _weight_of(weight, base, cand_pair, cand_weight, q)
            target, side = uniform[m] * total, 0
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
def is_wide(cand_ptr, start, stop, scan):
    """Whether a child's infections have more than ``scan`` candidates on average."""
    return cand_ptr[stop] - cand_ptr[start] > scan * (stop - start)


@part
def place_of(m, source, low, ptr, infection, cand_start, cand_stop, shift):
    """Where a source stands among the candidates of infection m, -1 where it is none, and a cursor.

    The infections of a source are ascending, and so are those of a child: where they are gone
    through in order, the search can begin at the cursor ``low`` of the one before. A few steps, or
    O(log infections of the source). The background stands first wherever there is a candidate.
    Infections of source u are ``infection[ptr[u]:ptr[u + 1]]``; ``shift`` is 1 with a background,
    else 0. ``lookup`` of the kernels has the last five arguments.
    """
    if source < 0:
        return 0, low
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
def propose_parents(problem, scan, meeting, odds, uniform, choice, parent, n_pair):
    """Metropolis draw of the parents in children whose infections have very many candidates.

    The Gibbs weight of a candidate is ``(shape + n) / rate * hazard``, n without the infection. The
    second part, which only sources have that explain something in this child, is proposed as it is,
    in place of the first what depends on the source alone; the difference decides on acceptance.
    O(log candidates) for an infection, and for a child O(infections of those sources).
    ``problem``: ``lookup``, for which see `place_of`, and what `update_parents` has by these names;
    ``meeting``: see `_enter`; ``odds``: see `_pick`; ``uniform`` (M, 3).
    Writes ``choice``, ``parent`` (M,), ``n_pair`` (P,); returns the moves.
    """
    lookup, child_ptr, cand_ptr, cand_pair, cand_weight, pair_ptr, law = problem
    _, _, cand_start, cand_stop, shift = lookup
    (met, cascade, node, n_cascades), (share, running, factor) = meeting, odds
    most, longest = _wide_extent(child_ptr, cand_ptr, scan)
    row_of = np.full(n_cascades, most, np.int32)  # that a cascade has in the child at hand
    span = np.zeros((most + 1, 2), np.int32)
    slot_of = np.full(_extent(pair_ptr), -1, np.int32)  # of the pairs that explain something
    pair, gamma = _pairs(2 * most + 1)
    source, n, began = np.empty((3, 2 * most + 1), np.int32)  # began: with so many
    head, entry = np.empty(most + 1, np.int32), np.empty((longest + 1, 3), np.int32)
    known, sums = np.empty(2 * most, np.int32), np.empty(2 * most, np.float64)
    moves = 0
    for v in range(pair_ptr.size - 1):
        start, stop, base = child_ptr[v], child_ptr[v + 1], pair_ptr[v]
        if not is_wide(cand_ptr, start, stop, scan):
            continue
        ground = law[0][base] / (law[1][base] + law[2]) if shift == 1 else 0.0
        for m in range(start, stop):
            row_of[cascade[m]], head[m - start] = m - start, -1
            span[m - start, 0] = cand_start[m]
            span[m - start, 1] = cand_stop[m] - cand_start[m]
        slots, entries = _open_slots(start, stop, base, parent, slot_of, pair, n), 0
        _fetch(pair, slots, law, gamma)
        _name_slots(start, stop, base, parent, slot_of, choice, cand_start, shift, node, source)
        for s in range(slots):
            u, began[s] = source[s], n[s]
            entries = _enter(s, u, start, stop, lookup, met, row_of, span, head, entry, entries)
        for m in range(start, stop):
            if cand_ptr[m + 1] - cand_ptr[m] < 2:
                continue
            first, row = cand_ptr[m], m - start
            old, at = slot_of[parent[m] - base], choice[m]
            n[old] -= 1
            total, count = _weigh_slots(head[row], first, entry, n, gamma, cand_weight, known, sums)
            rest = ground + factor[v] * (running[cand_stop[m]] - running[cand_start[m]])
            wanted, j, e = uniform[m, 0] * (total + rest), cand_start[m] - shift, 0
            if wanted < total:
                for x in range(count - 1):
                    e += sums[x] <= wanted
                new, to = entry[known[e], 0], entry[known[e], 1]
            else:
                to = _pick(
                    cand_start[m], cand_stop[m], shift, ground, factor[v], running, uniform[m, 1]
                )
                p = cand_pair[first + to]
                new = slot_of[p - base]
                if new < 0:  # a slot that is taken if the proposal is
                    new, pair[slots], n[slots], began[slots] = slots, p, 0, 0
                    source[slots] = _source_at(j, to, shift, node)
                    gamma[slots, 0], gamma[slots, 1] = law[0][p], law[1][p] + law[2]
            if new != old:
                free_old = _odds_of(j, at, shift, ground, factor[v], share, node)
                free_new = _odds_of(j, to, shift, ground, factor[v], share, node)
                up, q_new = _weights(new, first + to, free_new, n, gamma, cand_weight)
                down, q_old = _weights(old, first + at, free_old, n, gamma, cand_weight)
                if uniform[m, 2] * (down * q_new) < up * q_old:
                    old, parent[m], choice[m], moves = new, pair[new], to, moves + 1
                    if new == slots:
                        slot_of[pair[new] - base], u = new, source[new]
                        slots += 1
                        entries = _enter(
                            new, u, start, stop, lookup, met, row_of, span, head, entry, entries
                        )
            n[old] += 1
        _close(start, stop, base, pair, slots, n, began, cascade, slot_of, row_of, most, n_pair)
    return moves


@part
def _open_slots(start, stop, base, parent, slot_of, pair, n):
    """A slot for each pair that explains one of these infections, and how many; their number."""
    slots = 0
    for m in range(start, stop):
        p = parent[m]
        if p < 0:
            continue
        s = slot_of[p - base]
        if s < 0:
            slot_of[p - base], pair[slots], n[slots], s = slots, p, 0, slots
            slots += 1
        n[s] += 1
    return slots


@part
def _name_slots(start, stop, base, parent, slot_of, choice, cand_start, shift, node, source):
    """Source of each slot, found by what it explains. Writes ``source``."""
    for m in range(start, stop):
        if parent[m] >= 0:
            j = cand_start[m] - shift
            source[slot_of[parent[m] - base]] = _source_at(j, choice[m], shift, node)


@part
def _source_at(first, at, shift, node):
    """Source of the candidate at a place, -1 for the background."""
    return node[first + at] if at >= shift else -1


@part
def _close(start, stop, base, pair, slots, n, began, cascade, slot_of, row_of, most, n_pair):
    """Write counts back where they have changed, and leave no slots and no rows behind."""
    for s in range(slots):
        slot_of[pair[s] - base] = -1
        if n[s] != began[s]:
            n_pair[pair[s]] = n[s]
    for m in range(start, stop):
        row_of[cascade[m]] = most


@part
def _weigh_slots(e, first, entry, n, gamma, cand_weight, known, cumulative):
    """Sum and number of the weights ``n / rate * hazard`` above 0 on an infection's list.

    Writes ``known`` (their entries) and ``cumulative`` (their running sums).
    """
    total, count = 0.0, 0
    while e >= 0:
        s = entry[e, 0]
        if n[s] > 0:
            h = cand_weight[first + entry[e, 1]] if cand_weight.size > 0 else 1.0
            total += n[s] / gamma[s, 1] * h
            known[count], cumulative[count] = e, total
            count += 1
        e = entry[e, 2]
    return total, count


@part
def _weights(slot, q, free, n, gamma, cand_weight):
    """What the Gibbs draw gives to candidate q, of the pair in a slot, and what is proposed."""
    h = cand_weight[q] if cand_weight.size > 0 else 1.0
    explains = n[slot] / gamma[slot, 1] * h
    return explains + gamma[slot, 0] / gamma[slot, 1] * h, explains + free


@part
def _wide_extent(child_ptr, cand_ptr, scan):
    """Most infections, and most candidates, of a child whose infections have very many."""
    rows, candidates = 0, 0
    for v in range(child_ptr.size - 1):
        start, stop = child_ptr[v], child_ptr[v + 1]
        if is_wide(cand_ptr, start, stop, scan):
            rows = max(rows, stop - start)
            candidates = max(candidates, cand_ptr[stop] - cand_ptr[start])
    return rows, candidates


@kernel
def _pairs(size):
    """Room for pairs, and for the shape and rate of their Gamma law."""
    return np.empty(size, np.int32), np.empty((size, 2), np.float64)


@part
def _fetch(pair, size, law, gamma):
    """Numbers of pairs, which are far apart in memory: many at a time wait for it together.

    Pairs below zero are left out. Writes ``gamma``.
    """
    shape, rate, more = law
    for s in range(size):
        p = pair[s]
        if p >= 0:
            gamma[s, 0], gamma[s, 1] = shape[p], rate[p] + more


@part
def _reach(pair, size, few_cand, most):
    """As `_fetch`, how many infections pairs could explain, or more. Writes ``most``."""
    for s in range(size):
        if pair[s] >= 0:
            few = few_cand[pair[s]]
            most[s] = few if few < MANY else UNKNOWN


@part
def _odds_of(first, at, shift, ground, factor, share, node):
    """What the candidate at a place is proposed with, whatever it explains."""
    return factor * share[node[first + at]] if at >= shift else ground


@part
def _pick(start, stop, shift, ground, factor, running, uniform):
    """Place among the candidates of an infection, proposed whatever they explain.

    ``running``: sums over all infections of what sources are proposed with, times ``factor``;
    ``ground`` is what the background is. 0 for a seed.
    """
    target = uniform * (ground + factor * (running[stop] - running[start]))
    if start == stop or target < ground:
        return 0
    target = (target - ground) / factor + running[start]
    # sums grow evenly on the whole: from where that would be, in longer and longer steps
    low = high = min(start + int(uniform * (stop - start)), stop - 1)
    step = 1
    if running[high + 1] > target:
        while low > start and running[low] > target:
            high, low, step = low - 1, max(low - step, start), 2 * step
    else:
        low = high = min(low + 1, stop - 1)
        while high < stop - 1 and not running[high + 1] > target:
            low, high, step = high + 1, min(high + step, stop - 1), 2 * step
    while low < high:
        middle = (low + high) // 2
        if running[middle + 1] > target:
            high = middle
        else:
            low = middle + 1
    return low - start + shift


@part
def _enter(slot, source, start, stop, lookup, met, row_of, span, head, entry, entries):
    """List a slot with all infections of the child that its source is a candidate of.

    Goes through the infections of the source, or of the child where those are far fewer.
    ``meeting``: cascade and index of all infections of sources, in the order of ``lookup``; cascade
    of each infection of the children; node of all infections; number of cascades. ``row_of``: row
    that each cascade has in the child, the last, which has no candidates, for others; ``span``:
    first candidate and number of them, by row. Lists are chains: ``head`` by row, ``entry`` slot,
    place and next entry; there is room for one more, so that it can be written before it is known
    to be one: whether it is cannot be foreseen. Writes ``head``, ``entry``; returns their number.
    """
    ptr, infection, cand_start, cand_stop, shift = lookup
    if source < 0 or ptr[source + 1] - ptr[source] > 8 * (stop - start):
        cursor = ptr[max(source, 0)]
        for m in range(start, stop):
            place, cursor = place_of(
                m, source, cursor, ptr, infection, cand_start, cand_stop, shift
            )
            if place >= 0 and cand_start[m] < cand_stop[m]:
                entry[entries, 0], entry[entries, 1] = slot, place
                entry[entries, 2], head[m - start] = head[m - start], entries
                entries += 1
        return entries
    for x in range(ptr[source], ptr[source + 1]):
        row = row_of[met[unsigned(x), 0]]
        place = met[unsigned(x), 1] - span[unsigned(row), 0]
        fits = unsigned(place) < unsigned(span[unsigned(row), 1])  # nor is it negative
        entry[unsigned(entries), 0] = slot
        entry[unsigned(entries), 1] = place + shift
        entry[unsigned(entries), 2] = head[unsigned(row)]
        head[unsigned(row)] = entries if fits else head[unsigned(row)]
        entries += fits
    return entries


@part
def _extent(pointers):
    """Length of the longest range that consecutive pointers bound."""
    longest = 0
    for v in range(pointers.size - 1):
        longest = max(longest, pointers[v + 1] - pointers[v])
    return longest


@kernel
def update_swaps(problem, node, few_cand, patience, uniform, choice, parent, n_pair):
    """Exchange what two sources explain in one child (3.1b), one proposal per infection.

    The infection names its parent u and, uniformly, a candidate w; where they differ, all of the
    child explained by u that w could explain goes to w, and the other way round. The same infection
    proposes the way back as likely. Infections with the same parent are chained: a proposal costs
    O(infections explained by u or w), and most of them less: where w explains nothing and hazards
    are equal, the log ratio is convex in the number that move, which bounds it beforehand.
    ``problem``: see `propose_parents`; ``node`` (I,) of all infections of the cascades;
    ``few_cand`` (P,): infections that a pair could explain, or `MANY`. Where the two explain more
    than ``patience`` a proposal is made less often in proportion, as is the way back: they explain
    as many then. ``uniform`` (M, 2).
    Writes ``choice``, ``parent`` (M,), ``n_pair`` (P,); returns the exchanges.
    """
    lookup, child_ptr, cand_ptr, cand_pair, cand_weight, pair_ptr, law = problem
    _, _, cand_start, _, shift = lookup
    most_rows, most_pairs = _extent(child_ptr), _extent(pair_ptr)
    head = np.full(most_pairs, -1, np.int32)  # first infection that a pair explains
    size = np.zeros(most_pairs, np.int32)  # how many it does
    after = np.empty(most_rows, np.int32)  # the next one with the same parent
    # place of the other of two sources, and of the source named; infections that may go there
    place, pick, most = np.empty((3, most_rows), np.int64)
    held, gamma = _pairs(most_rows)
    named, gamma_named = _pairs(most_rows)
    accepted, weighted = 0, cand_weight.size > 0
    for v in range(pair_ptr.size - 1):
        start, stop, base = child_ptr[v], child_ptr[v + 1], pair_ptr[v]
        _chain_up(start, stop, base, parent, held, head, after, size)
        for m in range(start, stop):
            pick[m - start], named[m - start] = _name(m, cand_ptr, cand_pair, uniform)
        _fetch(held, stop - start, law, gamma)
        _fetch(named, stop - start, law, gamma_named)
        _reach(named, stop - start, few_cand, most)
        for m in range(start, stop):
            row, a, b = m - start, parent[m], named[m - start]
            if a == b:  # a seed has neither
                continue
            n_a, n_b = size[a - base], size[b - base]
            limit = uniform[m, 1] * max(1.0, (n_a + n_b) / patience)
            r_a, d_a = gamma[row, 0], gamma[row, 1]
            r_b, d_b = gamma_named[row, 0], gamma_named[row, 1]
            useless, hopeless = n_b == 0 and not weighted, limit >= 1.0
            if useless and not hopeless:
                hopeless = _is_hopeless(r_a, d_a, n_a, r_b, d_b, most[row], limit)
            if hopeless:
                continue
            first, place[row] = cand_start[m] - shift, pick[row]
            n_ab, n_ba, ratios = 1, 0, (r_a, d_a, n_a, r_b, d_b)
            if n_a > 1:
                source = _source_at(first, pick[row], shift, node)
                low, chain = limit if useless else -1.0, (head[a - base], row, start)
                n_ab = _movable(*chain, source, lookup, after, place, ratios, most[row], low)
                if n_ab < 0:
                    continue
            if n_b > 0:
                source = _source_at(first, choice[m], shift, node)
                chain = head[b - base], -1, start
                n_ba = _movable(*chain, source, lookup, after, place, ratios, most[row], -1.0)
            ratio, log_rest = _transfer(r_a, d_a, n_a, r_b, d_b, n_b, n_ab - n_ba)
            if weighted:
                given = start, after, place, cand_ptr, cand_weight, choice
                log_rest += _log_hazard_ratio(head[a - base], *given)
                log_rest += _log_hazard_ratio(head[b - base], *given)
            if not _exceeds(ratio, log_rest, limit):
                continue
            accepted += 1
            _exchange(a, b, base, start, head, after, place, choice, parent)
            for p, moved, r, d in ((a, n_ba - n_ab, r_a, d_a), (b, n_ab - n_ba, r_b, d_b)):
                size[p - base] += moved
                n_pair[p] += moved
                _label(head[p - base], after, r, d, gamma)
        for m in range(start, stop):
            if parent[m] >= 0:  # pairs that explain nothing any more have no chain
                head[parent[m] - base], size[parent[m] - base] = -1, 0
    return accepted


@part
def _name(m, cand_ptr, cand_pair, uniform):
    """Place and pair of a candidate of infection m; no pair, -1, where there is none."""
    first, count = cand_ptr[m], cand_ptr[m + 1] - cand_ptr[m]
    place = min(int(uniform[m, 0] * count), count - 1)
    return place, cand_pair[first + place] if count > 0 else -1


@part
def _chain_up(start, stop, base, parent, held, head, after, size):
    """Chain the infections of a child that have the same parent, and count them.

    Writes ``held`` (parents by row), ``after``, and ``head`` and ``size`` from -1 and 0.
    """
    for row in range(stop - start - 1, -1, -1):
        a = held[row] = parent[start + row]
        if a >= 0:
            after[row], head[a - base] = head[a - base], row
            size[a - base] += 1


@part
def _is_hopeless(r_a, d_a, n_a, r_b, d_b, most, limit):
    """Whether no number of infections, going to a pair b that explains nothing, is accepted.

    A rough bound that costs next to nothing. With all it may get going to b, factor j of the ratio
    is ``(r_b + j) d_a / ((r_a + left + j) d_b)``. Factors grow with j; where the last is below 1
    the first bounds the ratio, as it does with fewer going, the ratio being convex.
    """
    most = min(n_a, most)
    left = r_a + (n_a - most)
    if r_b > left or (r_b + (most - 1)) * d_a > (left + (most - 1)) * d_b:
        return False
    return r_b * d_a < left * d_b * (limit * (1.0 - 1e-9))


@part
def _movable(row, known, start, source, lookup, after, place, ratios, most, limit):
    """How many of the infections chained from ``row`` another source could explain.

    For a pair b that explains nothing, -1 once no ratio can exceed ``limit``, which is negative for
    others: with s infections going to b the ratio is convex in s on the log scale, at most what it
    is for one of them, or for as many as b may explain and have not been found to stay.
    Writes their ``place`` among the candidates, -1 where there is none, but where it is ``known``.
    """
    ptr, infection, cand_start, cand_stop, shift = lookup
    r_a, d_a, n_a, r_b, d_b = ratios
    count, left, most, cursor = 0, n_a, min(n_a, most), ptr[max(source, 0)]
    one = largest = r_b * d_a / ((r_a + (left - 1)) * d_b)
    limit *= 1.0 - 1e-9  # rounding must not reject what the ratio itself would accept
    if limit >= 0.0:
        if one <= limit and _transfer_bound(r_a, d_a, n_a, r_b, d_b, most) <= limit:
            return -1
        largest, log_rest = _transfer(r_a, d_a, n_a, r_b, d_b, 0, most)
        largest *= math.exp(min(log_rest, 700.0))  # which is above any limit
    while row >= 0:
        if not limit < max(one, largest):
            return -1
        if row != known:
            place[row], cursor = place_of(
                start + row, source, cursor, ptr, infection, cand_start, cand_stop, shift
            )
        if place[row] >= 0:
            count += 1
        else:
            left -= 1
            if left < most:
                largest *= (r_a + (n_a - most)) * d_b / ((r_b + left) * d_a)
                most = left
        row = after[row]
    return count


@part
def _transfer_bound(r_a, d_a, n_a, r_b, d_b, moved):
    """At least the ratio of `_transfer` to a pair that explains nothing, at a few operations.

    Factor j of the ratio is ``(r_b + j) d_a / ((r_a + left + j) d_b)``, which is monotone in j: all
    but the first are bounded by the second or by the last.
    """
    left = r_a + (n_a - moved)
    bound = r_b * d_a / (left * d_b)
    last = moved - 1
    factor = max((r_b + 1) / (left + 1), (r_b + last) / (left + last)) * d_a / d_b
    while last > 0:  # bound times factor to the power of last
        if last & 1:
            bound *= factor
        factor *= factor
        last >>= 1
    return bound


@part
def _exchange(a, b, base, start, head, after, place, choice, parent):
    """Chain the infections of two pairs anew, those with a place going to the other pair.

    Chains are ascending, which makes places in them quick to look up.
    """
    row_a, row_b = head[a - base], head[b - base]
    head[a - base] = head[b - base] = -1
    end_a = end_b = -1
    while row_a >= 0 or row_b >= 0:
        of_a = row_b < 0 or 0 <= row_a < row_b
        row = row_a if of_a else row_b
        row_a, row_b = (after[row], row_b) if of_a else (row_a, after[row])
        to_a = of_a != (place[row] >= 0)
        end, holder = (end_a, a) if to_a else (end_b, b)
        if place[row] >= 0:
            choice[start + row], parent[start + row] = place[row], holder
        if end >= 0:
            after[end] = row
        else:
            head[holder - base] = row
        after[row] = -1
        end_a, end_b = (row, end_b) if to_a else (end_a, row)


@part
def _label(row, after, r, d, gamma):
    """Write shape and rate of their parent's pair to all infections of a chain."""
    while row >= 0:
        gamma[row, 0], gamma[row, 1] = r, d
        row = after[row]


@part
def _transfer(r_a, d_a, n_a, r_b, d_b, n_b, moved):
    """Ratio of prod Gamma(r + n) / d^n when so many infections go from a to b; back if negative.

    As a factor, and the log of another, which is 1 unless many go: no double holds the ratio then.
    """
    if moved < 0:
        r_a, d_a, n_a, r_b, d_b, n_b, moved = r_b, d_b, n_b, r_a, d_a, n_a, -moved
    log_rest, gain, loss, left = 0.0, 1.0, 1.0, n_a - moved
    for j in range(moved):
        # integers first: a tiny shape must not drown in them
        gain *= (r_b + (n_b + j)) * d_a
        loss *= (r_a + (left + j)) * d_b
        if gain < 1e-100 or gain > 1e100 or loss < 1e-100 or loss > 1e100:
            if 1e-50 < gain / loss < 1e50:
                gain /= loss
            else:
                log_rest += math.log(gain) - math.log(loss)
                gain = 1.0
            loss = 1.0
    return gain / loss, log_rest


@part
def _exceeds(ratio, log_rest, limit):
    """Whether a ratio, given as a factor and the log of another, is above a limit."""
    if log_rest == 0.0:
        return limit < ratio
    return _log(limit) < _log(ratio) + log_rest


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
