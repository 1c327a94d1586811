"""All compiled code of the rankers, and nothing else.

Conventions. d features, P = d (d + 1) / 2, K items, n models (1 when items share parameters, else
K), r rows to learn from, L slots. A symmetric matrix is its upper triangle packed by rows, so it
cannot lose symmetry; a triangular factor R of A = R'R is packed in the same way. Arrays named in
the last line of a docstring are written, all others are only read.

Sums run over rows of memory or in eight interleaved parts, always in the same order: they are
vectorised without reordering, use no BLAS, and are the same bytes with the compiler switched off.
"""

import math

import numba
import numpy as np

BLOCK = 256  # items scored together: their features stay in the cache
LARGEST = 1e100  # of a feature or click: products of four stay finite

DOUBTFUL = 1e3  # factor by which a rank-one update may shrink the inverse: three digits are lost

OK, BAD_FEATURE, BAD_CLICK, BAD_ITEM, TWICE, LOST, CLICK_ON_NOTHING, SINGULAR = range(8)


def kernel(function):
    """Compile without the GIL; cache on disk where a cache directory can be written."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no writable cache directory: compile again in every process
        return numba.njit(nogil=True)(function)


# ---------------------------------------------------------------------------------------------
# linear algebra
# ---------------------------------------------------------------------------------------------


@kernel
def all_usable(values):
    """Whether all of ``values`` (m,) are finite and not absurdly large. O(m)."""
    bad = 0
    for j in range(values.size):
        bad |= not abs(values[j]) <= LARGEST
    return bad == 0


@kernel
def _dot(x, y):
    """Inner product of two vectors in eight interleaved sums. O(m)."""
    n = x.size
    whole = n - n % 8
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    for j in range(0, whole, 8):
        s0 += x[j] * y[j]
        s1 += x[j + 1] * y[j + 1]
        s2 += x[j + 2] * y[j + 2]
        s3 += x[j + 3] * y[j + 3]
        s4 += x[j + 4] * y[j + 4]
        s5 += x[j + 5] * y[j + 5]
        s6 += x[j + 6] * y[j + 6]
        s7 += x[j + 7] * y[j + 7]
    for j in range(whole, n):
        s0 += x[j] * y[j]
    return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7))


@kernel
def _add_scaled(scale, x, y):
    """y += scale x. Writes ``y`` (m,)."""
    for j in range(x.size):
        y[j] += scale * x[j]


@kernel
def _add_four(c0, x0, c1, x1, c2, x2, c3, x3, y):
    """y += c0 x0 + c1 x1 + c2 x2 + c3 x3, each read once. Writes ``y`` (m,)."""
    for j in range(y.size):
        y[j] += c0 * x0[j] + c1 * x1[j] + c2 * x2[j] + c3 * x3[j]


@kernel
def _add_outer(scale, x, packed):
    """packed += scale x x'. O(d^2). Writes ``packed`` (P,).

    Unsigned indices cannot be negative, which spares a test per entry here and below.
    """
    d, at, one = np.uint64(x.size), np.uint64(0), np.uint64(1)
    for i in range(d):
        factor = scale * x[i]
        for j in range(i, d):
            packed[at] += factor * x[j]
            at += one


@kernel
def _multiply(packed, x, out):
    """out = M x for packed symmetric M. O(d^2). Writes ``out`` (d,)."""
    d, at, one = np.uint64(x.size), np.uint64(0), np.uint64(1)
    for i in range(d):
        out[i] = 0.0
    for i in range(d):
        mine = x[i]
        total = packed[at] * mine
        at += one
        for j in range(i + one, d):
            entry = packed[at]
            total += entry * x[j]
            out[j] += entry * mine
            at += one
        out[i] += total


@kernel
def _factor(packed, root):
    """Cholesky factor R of A = R'R; False when A is not positive definite. O(d^3 / 3).

    Writes ``root`` (P,).
    """
    size = packed.size
    d = int((math.sqrt(8.0 * size + 1.0) - 1.0) / 2.0 + 0.5)
    for j in range(size):
        root[j] = packed[j]
    at = 0
    for i in range(d):
        row = root[at : at + d - i]
        if not row[0] > 0.0 or not row[0] < math.inf:
            return False
        pivot = math.sqrt(row[0])
        row[0] = pivot
        for j in range(1, d - i):
            row[j] /= pivot
        below = at + d - i
        for j in range(1, d - i):
            _add_scaled(-row[j], row[j:], root[below : below + d - i - j])
            below += d - i - j
        at += d - i
    return True


@kernel
def _invert_from_factor(root, dim, out):
    """(R'R)^-1 by the inverse of R. O(d^3 / 2). Writes ``out`` (P,)."""
    inverse = np.zeros((dim, dim))
    at = root.size
    for i in range(dim - 1, -1, -1):
        at -= dim - i
        row = root[at : at + dim - i]
        mine = inverse[i]
        for j in range(i + 1, dim):
            _add_scaled(-row[j - i], inverse[j, j:], mine[j:])
        mine[i] = 1.0
        for j in range(i, dim):
            mine[j] /= row[0]
    at = 0
    for i in range(dim):
        for j in range(i, dim):
            out[at] = _dot(inverse[i, j:], inverse[j, j:])
            at += 1


@kernel
def _solve_transposed(root, b, out):
    """out = R'^-1 b. O(d^2). Writes ``out`` (d,)."""
    d = b.size
    for i in range(d):
        out[i] = b[i]
    at = 0
    for i in range(d):
        row = root[at : at + d - i]
        out[i] /= row[0]
        _add_scaled(-out[i], row[1:], out[i + 1 :])
        at += d - i


@kernel
def _solve_upper(root, b, out):
    """out = R^-1 b; ``b`` may be ``out``. O(d^2). Writes ``out`` (d,)."""
    d = b.size
    at = root.size
    for i in range(d - 1, -1, -1):
        at -= d - i
        row = root[at : at + d - i]
        out[i] = (b[i] - _dot(row[1:], out[i + 1 :])) / row[0]


@kernel
def _update_factor(root, x):
    """Factor of R'R + x x'. O(d^2). Writes ``root`` (P,) and destroys ``x`` (d,)."""
    d = x.size
    at = 0
    for i in range(d):
        row = root[at : at + d - i]
        radius = math.sqrt(row[0] * row[0] + x[i] * x[i])
        cosine = radius / row[0]
        sine = x[i] / row[0]
        row[0] = radius
        rest = x[i:]
        for j in range(1, d - i):
            row[j] = (row[j] + sine * rest[j]) / cosine
            rest[j] = cosine * rest[j] - sine * row[j]
        at += d - i


@kernel
def refactor(gram, state, is_factor, dim):
    """Inverse (or factor) of every model's A; False when one is not definite. O(n d^3).

    Writes ``state`` (n, P).
    """
    root = np.empty(gram.shape[1])
    for k in range(gram.shape[0]):
        if not _factor(gram[k], root):
            return False
        if is_factor:
            state[k] = root
        else:
            _invert_from_factor(root, dim, state[k])
    return True


# ---------------------------------------------------------------------------------------------
# scores
# ---------------------------------------------------------------------------------------------


@kernel
def _quadratic_forms(columns, low, packed, work, out):
    """out_k = x_k' M x_k for items low, low + 1, ...: half the flops of a product. O(m d^2).

    ``columns`` (d, K). Writes ``work`` (m,), ``out`` (m,).
    """
    d, high = columns.shape[0], low + out.size
    for k in range(out.size):
        out[k] = 0.0
    at = 0
    for i in range(d):
        row = packed[at : at + d - i]
        mine = columns[i][low:high]
        half = 0.5 * row[0]
        for k in range(out.size):
            work[k] = half * mine[k]
        _combine(columns, i + 1, low, row[1:], work)
        for k in range(out.size):
            out[k] += 2.0 * (mine[k] * work[k])
        at += d - i


@kernel
def _combine(columns, first, low, weights, out):
    """out += sum_j weights_j columns[first + j] for items low, low + 1, ... O(m d).

    ``columns`` (d, K). Writes ``out`` (m,).
    """
    d, high = weights.size, low + out.size
    j = 0
    while j + 3 < d:
        _add_four(
            weights[j],
            columns[first + j][low:high],
            weights[j + 1],
            columns[first + j + 1][low:high],
            weights[j + 2],
            columns[first + j + 2][low:high],
            weights[j + 3],
            columns[first + j + 3][low:high],
            out,
        )
        j += 4
    while j < d:
        _add_scaled(weights[j], columns[first + j][low:high], out)
        j += 1


@kernel
def moments_of_columns(columns, inverse, theta, mean, variance):
    """Means and variances of fixed items from scratch. O(K d^2).

    ``columns`` (d, K). Writes ``mean`` (K,), ``variance`` (K,).
    """
    work = np.empty(BLOCK)
    for low in range(0, mean.size, BLOCK):
        high = min(low + BLOCK, mean.size)
        mean[low:high] = 0.0
        _combine(columns, 0, low, theta, mean[low:high])
        _quadratic_forms(columns, low, inverse, work[: high - low], variance[low:high])


@kernel
def moments_of_rows(features, inverse, theta, mean, variance):
    """Means and, unless ``variance`` is empty, variances of items in rows. O(K d^2).

    ``features`` (K, d). Writes ``mean`` (K,), ``variance`` (K,) or (0,).
    """
    n_items, d = features.shape
    if variance.size == 0:
        for k in range(n_items):
            mean[k] = _dot(features[k], theta)
        return
    block = np.empty((d, BLOCK))
    work = np.empty(BLOCK)
    for low in range(0, n_items, BLOCK):
        high = min(low + BLOCK, n_items)
        for k in range(low, high):
            row = features[k]
            for j in range(d):
                block[j, k - low] = row[j]
        mean[low:high] = 0.0
        _combine(block, 0, 0, theta, mean[low:high])
        _quadratic_forms(block, 0, inverse, work[: high - low], variance[low:high])


@kernel
def _top(score, key, slot_order):
    """Best items, slot by slot; ties go to the smaller key, then index. O(K + L hits)."""
    n_slots = slot_order.size
    best = np.empty(n_slots, np.int64)
    value = np.empty(n_slots)
    filled = 0
    for k in range(score.size):
        s = score[k]
        if filled == n_slots:
            last = value[filled - 1]
            if s < last or (s == last and (key.size == 0 or key[k] >= key[best[filled - 1]])):
                continue
        else:
            filled += 1
        at = filled - 1
        while at > 0:
            before = best[at - 1]
            if s < value[at - 1]:
                break
            if s == value[at - 1] and (key.size == 0 or key[k] >= key[before]):
                break
            value[at] = value[at - 1]
            best[at] = before
            at -= 1
        value[at] = s
        best[at] = k
    out = np.empty(n_slots, np.int64)
    for r in range(n_slots):
        out[slot_order[r]] = best[r]
    return out


@kernel
def _optimistic(mean, variance, alpha, score):
    """score = mean + alpha width. Writes ``score`` (K,)."""
    for k in range(score.size):
        score[k] = mean[k] + alpha * math.sqrt(max(variance[k], 0.0))


@kernel
def top_items(score, key, slot_order):
    """Items with the highest scores (K,) in their slots."""
    return _top(score, key, slot_order)


@kernel
def rank_moments(mean, variance, alpha, key, slot_order, score):
    """LinUCB round for fixed items. O(K). Writes ``score`` (K,)."""
    _optimistic(mean, variance, alpha, score)
    return _top(score, key, slot_order)


@kernel
def rank_rows(features, inverse, theta, alpha, key, slot_order, score):
    """LinUCB round for the items of one round. O(K d^2). Writes ``score`` (K,)."""
    mean = np.empty(score.size)
    variance = np.empty(score.size)
    moments_of_rows(features, inverse[0], theta[0], mean, variance)
    _optimistic(mean, variance, alpha, score)
    return _top(score, key, slot_order)


@kernel
def rank_sampled(features, by_column, root, theta, scale, normal, key, slot_order, score):
    """LinTS round: one draw theta + scale R^-1 z for all items. O(K d + d^2).

    ``features`` (K, d), or (d, K) when ``by_column``. Writes ``score`` (K,).
    """
    draw = np.empty(normal.size)
    _solve_upper(root[0], normal, draw)
    for j in range(draw.size):
        draw[j] = theta[0, j] + scale * draw[j]
    if by_column:
        for low in range(0, score.size, BLOCK):
            high = min(low + BLOCK, score.size)
            score[low:high] = 0.0
            _combine(features, 0, low, draw, score[low:high])
    else:
        for k in range(score.size):
            score[k] = _dot(features[k], draw)
    return _top(score, key, slot_order)


@kernel
def rank_disjoint(context, inverse, theta, alpha, normal, key, slot_order, score):
    """Round of separate models with one context. O(K d^2).

    ``normal`` (K,): a draw per model for LinTS, empty for LinUCB. Writes ``score`` (K,).
    """
    d = context.size
    outer = np.empty(inverse.shape[1])
    at = 0
    for i in range(d):
        outer[at] = context[i] * context[i]
        for j in range(1, d - i):
            outer[at + j] = 2.0 * (context[i] * context[i + j])
        at += d - i
    for k in range(score.size):
        width = alpha * math.sqrt(max(_dot(outer, inverse[k]), 0.0))
        if normal.size > 0:
            width *= normal[k]
        score[k] = _dot(context, theta[k]) + width
    return _top(score, key, slot_order)


# ---------------------------------------------------------------------------------------------
# learning
# ---------------------------------------------------------------------------------------------


@kernel
def check_rows(features, which, clicks, n_items):
    """Code of the first thing wrong with a round's rows, or OK. O(r d + r^2).

    ``features`` (r, d) or (1, d); ``which`` (r,) item indices, -1 for an empty slot; ``n_items``
    0 when items are known by their features only.
    """
    for i in range(features.shape[0]):
        for j in range(features.shape[1]):
            if not abs(features[i, j]) <= LARGEST:
                return BAD_FEATURE
    for i in range(clicks.size):
        if not abs(clicks[i]) <= LARGEST:
            return BAD_CLICK
    if n_items == 0:
        return OK
    for i in range(which.size):
        if which[i] < -1 or which[i] >= n_items:
            return BAD_ITEM
        if which[i] == -1:
            if clicks[i] != 0.0:
                return CLICK_ON_NOTHING
            continue
        for j in range(i):
            if which[i] == which[j]:
                return TWICE
    return OK


@kernel
def _decay(gram, response, forgetting, prior_gram, prior_response):
    """A <- gamma A + prior_gram I, b <- gamma b + prior_response. O(n d^2).

    Writes ``gram`` (n, P), ``response`` (n, d).
    """
    d = response.shape[1]
    for k in range(gram.shape[0]):
        row = gram[k]
        for j in range(row.size):
            row[j] *= forgetting
        at = 0
        for i in range(d):
            row[at] += prior_gram
            response[k, i] = forgetting * response[k, i] + prior_response[i]
            at += d - i


@kernel
def accumulate(features, which, gram_weight, response_weight, gram, response):
    """A += sum w x x', b += sum v x. O(r d^2). Writes ``gram`` (n, P), ``response`` (n, d)."""
    for i in range(which.size):
        if which[i] >= 0:
            k = which[i] if gram.shape[0] > 1 else 0
            x = features[i % features.shape[0]]
            _add_outer(gram_weight[i], x, gram[k])
            _add_scaled(response_weight[i], x, response[k])


@kernel
def solve_all(response, state, is_factor, theta):
    """theta_k = A_k^-1 b_k for every model. O(n d^2). Writes ``theta`` (n, d)."""
    for k in range(theta.shape[0]):
        _solve(response[k], state[k], is_factor, theta[k])


@kernel
def _solve(response, state, is_factor, theta):
    """theta = A^-1 b from the inverse or the factor. O(d^2). Writes ``theta`` (d,)."""
    if is_factor:
        _solve_transposed(state, response, theta)
        _solve_upper(state, theta, theta)
    else:
        _multiply(state, response, theta)


@kernel
def _shrink(state, forgetting, is_factor):
    """Carry A <- gamma A to the inverse or factor. O(n d^2). Writes ``state`` (n, P)."""
    for k in range(state.shape[0]):
        row = state[k]
        scale = math.sqrt(forgetting) if is_factor else 1.0 / forgetting
        for j in range(row.size):
            row[j] *= scale


@kernel
def _runs_away(state, dim, is_factor):
    """Whether a direction nobody looks at has lost its prior. O(n d)."""
    for k in range(state.shape[0]):
        at = 0
        for i in range(dim):
            if is_factor:
                if not state[k, at] > 1.0 / LARGEST:
                    return True
            elif not state[k, at] < LARGEST:
                return True
            at += dim - i
    return False


@kernel
def learn_exactly(
    features,
    which,
    gram_weight,
    response_weight,
    gram,
    response,
    state,
    theta,
    forgetting,
    prior_gram,
    prior_response,
    is_factor,
):
    """Learn a round and factorise every A again; nothing is written when one is not definite.

    O(r d^2 + n d^3). Arguments and results as in `learn`.
    """
    new_gram = gram.copy()
    new_response = response.copy()
    new_state = np.empty_like(state)
    if forgetting < 1.0:
        _decay(new_gram, new_response, forgetting, prior_gram, prior_response)
    accumulate(features, which, gram_weight, response_weight, new_gram, new_response)
    if not refactor(new_gram, new_state, is_factor, response.shape[1]):
        return SINGULAR
    gram[:] = new_gram
    response[:] = new_response
    state[:] = new_state
    solve_all(response, state, is_factor, theta)
    return OK


@kernel
def learn(
    features,
    which,
    gram_weight,
    response_weight,
    gram,
    response,
    state,
    theta,
    since,
    forgetting,
    is_factor,
    refresh,
    columns,
    mean,
    variance,
):
    """Learn a round: decay, then its rows one by one. O(r d^2 + K d r).

    ``features`` (r, d) or (1, d) for all rows; ``which`` (r,) item indices, -1 to skip; ``since``
    (n,) rank-one updates since the last factorisation; ``columns`` (d, K) fixed items or (d, 0).
    Writes ``gram`` (n, P), ``response`` (n, d), ``state`` (n, P), ``theta`` (n, d), ``since``,
    ``mean`` (K,), ``variance`` (K,).
    """
    dim = response.shape[1]
    if forgetting < 1.0:
        if _runs_away(state, dim, is_factor):
            return LOST
        _decay(gram, response, forgetting, 0.0, np.zeros(dim))
        _shrink(state, forgetting, is_factor)
        for k in range(variance.size):
            variance[k] /= forgetting
    accumulate(features, which, gram_weight, response_weight, gram, response)
    directions = np.empty((which.size, dim))
    factors = np.zeros(which.size)
    for i in range(which.size):
        if which[i] >= 0:
            k = which[i] if state.shape[0] > 1 else 0
            x = features[i % features.shape[0]]
            factors[i] = _rank_one(x, gram_weight[i], state[k], is_factor, directions[i])
            since[k] += 1
            if not is_factor and gram_weight[i] > DOUBTFUL * factors[i]:
                since[k] = refresh
    fresh = False
    for i in range(which.size):
        k = max(which[i], 0) if state.shape[0] > 1 else 0
        if since[k] >= refresh:
            fresh = refactor(gram[k : k + 1], state[k : k + 1], is_factor, dim) or fresh
            since[k] = 0
        if i == 0 or state.shape[0] > 1:
            _solve(response[k], state[k], is_factor, theta[k])
    if columns.shape[1] > 0 and not is_factor:
        if fresh:
            moments_of_columns(columns, state[0], theta[0], mean, variance)
        else:
            follow(columns, directions, factors, theta[0], mean, variance)
    return OK


@kernel
def _rank_one(x, weight, state, is_factor, direction):
    """Carry A <- A + w x x' to the inverse or factor; the c of v_k <- v_k - c (x_k . u)^2. O(d^2).

    Writes ``state`` (P,), ``direction`` (d,).
    """
    if is_factor:
        root = math.sqrt(weight)
        for j in range(x.size):
            direction[j] = root * x[j]
        _update_factor(state, direction)
        return 0.0
    _multiply(state, x, direction)
    factor = weight / (1.0 + weight * _dot(x, direction))
    _add_outer(-factor, direction, state)
    return factor


@kernel
def follow(columns, directions, factors, theta, mean, variance):
    """Carry rank-one updates to the moments of fixed items. O(K d (r + 1)).

    v_k <- v_k - c_i (x_k . u_i)^2 row by row. Writes ``mean`` (K,), ``variance`` (K,).
    """
    work = np.empty(BLOCK)
    for low in range(0, mean.size, BLOCK):
        high = min(low + BLOCK, mean.size)
        mean[low:high] = 0.0
        _combine(columns, 0, low, theta, mean[low:high])
        along = work[: high - low]
        target = variance[low:high]
        for i in range(factors.size):
            if factors[i] != 0.0:
                along[:] = 0.0
                _combine(columns, 0, low, directions[i], along)
                for k in range(target.size):
                    target[k] -= factors[i] * (along[k] * along[k])
