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

unsigned = np.uint64  # what cannot be negative need not be looked up from the other end


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
def propose_parents(problem, children, meeting, odds, uniform, choice, parent, n_pair):
    """Metropolis draws of the parents in children whose infections have very many candidates.

    The Gibbs weight of a candidate is ``(shape + n) / rate * hazard``, n without the infection. The
    second part, which only sources have that explain something in this child, is proposed as it is,
    in place of the first what depends on the source alone; the difference decides on acceptance.
    A child has all its rounds before the next has any: given the network they are independent, and
    what takes finding is found once. O(log candidates) for an infection and round, and for a child
    O(infections of those sources).
    ``problem``: ``lookup``, for which see `place_of`, and what `update_parents` has by these names;
    ``meeting``: see `_enter`; ``odds``: what sources are proposed with, its running sums over all
    infections, and a factor by child; ``uniform`` (rounds, infections of the ``children``, 3).
    Writes ``choice``, ``parent`` (M,), ``n_pair`` (P,); returns the moves.
    """
    lookup, child_ptr, cand_ptr, _, cand_weight, pair_ptr, law = problem
    most, longest, width = _largest(children, child_ptr, cand_ptr, pair_ptr)
    rounds, weighted, shift = uniform.shape[0], cand_weight.size > 0, lookup[4]
    slot_of = np.full(width, -1, np.int32)  # of the pairs that explain or have explained something
    slots, guesses = _sources((rounds + 1) * most), _sources(rounds * most)
    pair, _, n, _, inverse, _, pull = slots
    began, known = np.empty((2, pair.size), np.int32)  # began: with so many
    row_of = np.full(meeting[3], most, np.int32)  # that a cascade has in the child at hand
    span, head = np.zeros((most + 1, 2), np.int32), np.empty(most + 1, np.int32)
    entry, hazards = np.empty((longest + 1, 3), np.int32), np.empty(longest * weighted + 1)
    held, at = np.empty((2, most), np.int32)  # slot and place of the parent
    hazard, rest, pulled = np.zeros((3, most + 1), np.float64)
    lists, rows = (row_of, span, head, entry, hazards, pulled), (held, at, hazard, rest)
    sums, wanted = np.empty(pair.size, np.float64), np.empty((rounds * most + 1, 2), np.int32)
    moves = passed = 0
    for v in children:
        start, stop, base = child_ptr[v], child_ptr[v + 1], pair_ptr[v]
        ground = law[0][base] / (law[1][base] + law[2]) if shift == 1 else 0.0
        child, drawn = (start, stop, base, ground, odds[2][v]), uniform[:, passed:]
        passed += stop - start
        used = _open(child, problem, meeting, odds, choice, parent, slot_of, lists, rows, slots)
        entries = 0
        for s in range(used):
            began[s] = n[s]
            entries = _enter(s, child, problem, meeting, slots, lists, entries)
        likely = _foresee(child, shift, drawn, rows, lists, guesses, wanted)
        _look_up(likely, child, problem, meeting, odds, drawn, span, wanted, guesses)
        for k in range(rounds):
            for row in range(stop - start):
                if span[row, 1] + shift < 2:
                    continue
                old = held[row]
                n[old] -= 1
                pull[old] = n[old] * inverse[old]
                total, count = _weigh_slots(head[row], entry, hazards, weighted, pull, known, sums)
                target = drawn[k, row, 0] * (total + rest[row])
                if target < total:
                    e = 0
                    for x in range(count - 1):
                        e += sums[x] <= target
                    e = known[e]
                    new, place, h = entry[e, 0], entry[e, 1], hazards[e] if weighted else 1.0
                else:
                    x = k * (stop - start) + row
                    if guesses[0][x] < 0:  # not foreseen
                        wanted[0, 0], wanted[0, 1] = k, row
                        _look_up(1, child, problem, meeting, odds, drawn, span, wanted, guesses)
                    new, place, h = slot_of[guesses[0][x] - base], guesses[2][x], guesses[6][x]
                    if new < 0:  # a slot that is taken if the proposal is
                        new, began[used] = used, 0
                        _copy(x, guesses, used, slots)
                if new != old and _accepts(drawn[k, row, 2], new, h, old, hazard[row], slots):
                    held[row], at[row], hazard[row], old, moves = new, place, h, new, moves + 1
                    if new == used:
                        slot_of[pair[new] - base], used = new, used + 1
                        entries = _enter(new, child, problem, meeting, slots, lists, entries)
                n[old] += 1
                pull[old] = n[old] * inverse[old]
        for s in range(used):
            slot_of[pair[s] - base] = -1
            if n[s] != began[s]:
                n_pair[pair[s]] = n[s]
        for m in range(start, stop):
            row_of[meeting[1][m]] = most
            if parent[m] >= 0:
                parent[m], choice[m] = pair[held[m - start]], at[m - start]
    return moves


@kernel
def _sources(size):
    """Room for sources of a child: what stands for them, and their part in the weights.

    Pair; source; infections that it explains, or place where it is a candidate; shape / rate;
    1 / rate; what it is proposed with, whatever it explains; n / rate, or the hazard there.
    """
    pair, source, number = np.empty((3, size), np.int32)
    mean, inverse, free, more = np.empty((4, size), np.float64)
    return pair, source, number, mean, inverse, free, more


@part
def _open(child, problem, meeting, odds, choice, parent, slot_of, lists, rows, slots):
    """A row for each infection, a slot for each pair that explains one; how many slots.

    Starts the sums of what explains the infections with that of the infection itself, negative.
    """
    lookup, _, cand_ptr, _, cand_weight, _, law = problem
    _, _, cand_start, cand_stop, shift = lookup
    (_, cascade, node, _), (share, running, _) = meeting, odds
    start, stop, base, ground, factor = child
    (row_of, span, head, _, _, pulled), (held, at, hazard, rest) = lists, rows
    pair, source, n, mean, inverse, _, pull = slots
    used = 0
    for m in range(start, stop):
        row, first, last, p = m - start, cand_start[m], cand_stop[m], parent[m]
        row_of[cascade[m]], head[row], at[row] = row, -1, choice[m]
        span[row, 0], span[row, 1] = first, last - first
        rest[row] = ground + factor * (running[last] - running[first])
        if p < 0:
            continue
        hazard[row] = cand_weight[cand_ptr[m] + at[row]] if cand_weight.size > 0 else 1.0
        s = slot_of[p - base]
        if s < 0:
            slot_of[p - base], pair[used], n[used], s = used, p, 0, used
            source[used] = _source_at(first - shift, at[row], shift, node)
            used += 1
        held[row] = s
        n[s] += 1
    for s in range(used):
        mean[s], inverse[s] = law[0][pair[s]], law[1][pair[s]]
    for s in range(used):
        _rate(s, law[2], share, ground, factor, slots)
        pull[s] = n[s] * inverse[s]
    for row in range(stop - start):
        pulled[row] = -inverse[held[row]] * hazard[row] if parent[start + row] >= 0 else 0.0
    return used


@part
def _rate(x, more, share, ground, factor, sources):
    """What follows from shape and rate, which stand in the place of the first two."""
    _, source, _, mean, inverse, free, _ = sources
    inverse[x] = 1.0 / (inverse[x] + more)
    mean[x] *= inverse[x]
    free[x] = factor * share[source[x]] if source[x] >= 0 else ground


@part
def _foresee(child, shift, drawn, rows, lists, guesses, wanted):
    """Infections and rounds in which something that explains nothing looks like being proposed.

    Judged by what explains the infections before all rounds. Writes ``wanted``, and no pair for all
    in ``guesses``; returns their number.
    """
    start, stop, _, _, _ = child
    span, pulled, rest, likely = lists[1], lists[5], rows[3], 0
    for k in range(drawn.shape[0]):
        for row in range(stop - start):
            guesses[0][k * (stop - start) + row] = -1
            if span[row, 1] + shift >= 2:
                wanted[likely, 0], wanted[likely, 1] = k, row
                likely += drawn[k, row, 0] * (pulled[row] + rest[row]) >= pulled[row]
    return likely


@part
def _look_up(count, child, problem, meeting, odds, drawn, span, wanted, guesses):
    """Proposals for ``wanted`` rounds and infections, whatever the sources explain.

    Their numbers are far apart in memory: many at a time wait for them together.
    """
    lookup, _, cand_ptr, cand_pair, cand_weight, _, law = problem
    start, stop, _, ground, factor = child
    pair, source, place, mean, inverse, _, hazard = guesses
    shift, node, size = lookup[4], meeting[2], stop - start
    for i in range(count):
        k, row = wanted[i, 0], wanted[i, 1]
        first, last, x = span[row, 0], span[row, 0] + span[row, 1], k * size + row
        place[x] = _pick(first, last, shift, ground, factor, odds[1], drawn[k, row, 1])
        source[x] = _source_at(first - shift, place[x], shift, node)
    for i in range(count):
        row, x = wanted[i, 1], wanted[i, 0] * size + wanted[i, 1]
        q = cand_ptr[start + row] + place[x]
        pair[x], hazard[x] = cand_pair[q], cand_weight[q] if cand_weight.size > 0 else 1.0
    for i in range(count):
        x = wanted[i, 0] * size + wanted[i, 1]
        mean[x], inverse[x] = law[0][pair[x]], law[1][pair[x]]
    for i in range(count):
        x = wanted[i, 0] * size + wanted[i, 1]
        _rate(x, law[2], odds[0], ground, factor, guesses)


@part
def _copy(x, guesses, s, slots):
    """Give a slot to what was looked up; it explains nothing yet."""
    pair, source, _, mean, inverse, free, _ = guesses
    slots[0][s], slots[1][s], slots[2][s] = pair[x], source[x], 0
    slots[3][s], slots[4][s], slots[5][s], slots[6][s] = mean[x], inverse[x], free[x], 0.0


@part
def _accepts(uniform, new, h_new, old, h_old, slots):
    """Whether the parent becomes another: Gibbs weights over what the two are proposed with."""
    _, _, _, mean, _, free, pull = slots
    up, q_new = (pull[new] + mean[new]) * h_new, pull[new] * h_new + free[new]
    down, q_old = (pull[old] + mean[old]) * h_old, pull[old] * h_old + free[old]
    return uniform * (down * q_new) < up * q_old


@part
def _weigh_slots(e, entry, hazards, weighted, pull, known, cumulative):
    """Sum and number of the weights ``n / rate * hazard`` above 0 on an infection's list.

    Writes ``known`` (their entries) and ``cumulative`` (their running sums).
    """
    total, count = 0.0, 0
    while e >= 0:
        held = pull[entry[e, 0]]
        if weighted:
            held *= hazards[e]
        total += held
        known[count], cumulative[count] = e, total
        count += held > 0.0
        e = entry[e, 2]
    return total, count


@part
def _largest(children, child_ptr, cand_ptr, pair_ptr):
    """Most infections, candidates and pairs of a child."""
    rows = candidates = pairs = 0
    for v in children:
        start, stop = child_ptr[v], child_ptr[v + 1]
        rows = max(rows, stop - start)
        candidates = max(candidates, cand_ptr[stop] - cand_ptr[start])
        pairs = max(pairs, pair_ptr[v + 1] - pair_ptr[v])
    return rows, candidates, pairs


@part
def _enter(slot, child, problem, meeting, slots, lists, entries):
    """List a slot with all infections of the child that its source is a candidate of.

    Goes through the infections of the source, or of the child where those are far fewer.
    ``meeting``: cascade and index of all infections of sources, in the order of ``lookup``; cascade
    of each infection of the children; node of all infections; number of cascades. ``lists``: row
    that each cascade has in the child, the last, which has no candidates, for others; by row, first
    candidate and number of them; head of its chain of entries, each slot, place and next entry;
    their hazards; sums of what explains the infection. There is room for one entry more, so that it
    can be written before it is known to be one: whether it is cannot be foreseen.
    Returns the number of entries.
    """
    lookup, _, cand_ptr, _, cand_weight, _, _ = problem
    ptr, infection, cand_start, cand_stop, shift = lookup
    row_of, span, head, entry, hazards, pulled = lists
    start, stop, source, pull, met = child[0], child[1], slots[1][slot], slots[6][slot], meeting[0]
    weighted = cand_weight.size > 0
    if source < 0 or ptr[source + 1] - ptr[source] > 8 * (stop - start):
        cursor = ptr[max(source, 0)]
        for m in range(start, stop):
            row = m - start
            place, cursor = place_of(
                m, source, cursor, ptr, infection, cand_start, cand_stop, shift
            )
            if place >= 0 and cand_start[m] < cand_stop[m]:
                entry[entries, 0], entry[entries, 1] = slot, place
                entry[entries, 2], head[row] = head[row], entries
                if weighted:
                    hazards[entries] = cand_weight[cand_ptr[m] + place]
                pulled[row] += pull * hazards[entries] if weighted else pull
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
        if weighted and fits:
            hazards[entries] = cand_weight[cand_ptr[start + row] + place + shift]
            pulled[row] += pull * hazards[entries]
        elif not weighted:
            pulled[unsigned(row)] += pull * fits
        entries += fits
    return entries


@part
def _source_at(first, at, shift, node):
    """Source of the candidate at a place, -1 for the background."""
    return node[first + at] if at >= shift else -1


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
def _extent(pointers):
    """Length of the longest range that consecutive pointers bound."""
    longest = 0
    for v in range(pointers.size - 1):
        longest = max(longest, pointers[v + 1] - pointers[v])
    return longest


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
