"""All compiled code of compressed networks, and nothing else.

Conventions. A network is bytes in which the sections of all layers lie at multiples of eight:
``views`` of them as int8, uint16, uint32 and float32, and of the means and reciprocal scales that
standardise the input (none, one, or one a feature); ``table`` (layers, columns) of int64 says
what is where, and its columns are named below. Row r of a layer is one output neuron or filter
with the entries it keeps; ``index`` says which input an entry multiplies. Activations of a block
of m rows of data are feature-major, (features, m), so that one entry multiplies m neighbours in
memory. Arrays named in the last line of a docstring are written, all others are only read.

Every output is summed in the same order, by fours, whether its row of data comes alone or in a
block: the bytes of a prediction do not depend on what else is predicted, nor on the compiler.
"""

import math

import numba
import numpy as np

LARGEST = np.float32(3.4e38)  # of an input
ZERO = np.float32(0.0)

(
    N_OUT,  # rows: neurons or filters
    ENTRIES,  # kept weights of all rows
    PER_ROW,  # kept weights of every row, or -1: see AT_POINTER
    POINTER_BYTES,
    INDEX,  # how indices are stored, one of the codes below
    INDEX_BITS,  # of packed indices
    VALUE,  # how values are stored, one of the codes below
    SCALES,  # 0, 1 or N_OUT factors
    RELU,
    AT_POINTER,  # offsets in bytes
    AT_INDEX,
    AT_VALUE,
    AT_SCALE,
    AT_BIAS,
    CHANNELS,  # of the input; a dense layer reads features as channels of 1 x 1
    HEIGHT,
    WIDTH,
    PADDING,
    KERNEL_HEIGHT,
    KERNEL_WIDTH,
    STRIDE,
    OUT_HEIGHT,
    OUT_WIDTH,
) = range(23)
COLUMNS = 23

ALL, TWO_BYTES, FOUR_BYTES, PACKED = range(4)  # INDEX; ALL: every input, nothing is stored
FLOAT, INT8, SIGN = range(3)  # VALUE


def kernel(function):
    """Compile without the GIL; cache on disk where a cache directory can be written."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no writable cache directory: compile again in every process
        return numba.njit(nogil=True)(function)


# ---------------------------------------------------------------------------------------------
# from storage to entries
# ---------------------------------------------------------------------------------------------


@kernel
def unpack(words, bits, out):
    """Integers of ``bits`` bits out of ``words`` (bits x lanes,) uint32. O(n). Writes ``out`` (n,).

    A lane is 32 integers in ``bits`` words. Entry ``r * lanes + l`` is integer r of lane l, and
    word w of that lane is ``words[w * lanes + l]``: neighbours are found by the same shift.
    """
    n, wide = np.uint64(out.size), np.uint64(bits)
    lanes, keep = (n + np.uint64(31)) // np.uint64(32), np.uint32((1 << bits) - 1)
    for r in range(np.uint64(32)):  # unsigned positions cannot be negative: no test at each
        to, position = r * lanes, r * wide
        m = min(lanes, max(n, to) - to)
        at, shift = position // np.uint64(32) * lanes, np.uint32(position & np.uint64(31))
        if (position & np.uint64(31)) + wide <= np.uint64(32):
            for lane in range(m):
                out[to + lane] = np.uint32(words[at + lane] >> shift) & keep
        else:
            above, back = at + lanes, np.uint32(32) - shift
            for lane in range(m):
                low, high = words[at + lane] >> shift, words[above + lane] << back
                out[to + lane] = np.uint32(low | high) & keep


@kernel
def _starts(u16, u32, row, starts):
    """Where the entries of each row begin, and where the last ends. Writes ``starts``."""
    n, at = row[N_OUT] + 1, row[AT_POINTER]
    if row[PER_ROW] >= 0:
        for r in range(n):
            starts[r] = r * row[PER_ROW]
    elif row[POINTER_BYTES] == 2:
        short = u16[at // 2 : at // 2 + n]
        for r in range(n):
            starts[r] = short[r]
    else:
        long = u32[at // 4 : at // 4 + n]
        for r in range(n):
            starts[r] = long[r]


@kernel
def _indices(u16, u32, row, index):
    """Which features the entries of a layer multiply. O(entries). Writes ``index``.

    Taps of a filter become distances in the padded image, from the corner of the window.
    """
    at, n = row[AT_INDEX], row[ENTRIES]
    if row[INDEX] == ALL:
        inputs = n // row[N_OUT]
        for r in range(row[N_OUT]):
            for j in range(inputs):
                index[r * inputs + j] = j
    elif row[INDEX] == TWO_BYTES:
        short = u16[at // 2 : at // 2 + n]
        for j in range(n):
            index[j] = short[j]
    elif row[INDEX] == FOUR_BYTES:
        long = u32[at // 4 : at // 4 + n]
        for j in range(n):
            index[j] = long[j]
    else:
        unpack(u32[at // 4 :], row[INDEX_BITS], index)
    kh, kw = row[KERNEL_HEIGHT], row[KERNEL_WIDTH]
    if kh * kw > 1 or row[PADDING] > 0:
        wide = row[WIDTH] + 2 * row[PADDING]
        area = wide * (row[HEIGHT] + 2 * row[PADDING])
        for j in range(n):
            tap = np.int64(index[j])
            place = tap % (kh * kw)
            index[j] = tap // (kh * kw) * area + place // kw * wide + place % kw


@kernel
def _values(i8, u32, f32, row, value):
    """Values of a layer's entries before the factors. O(entries). Writes ``value``."""
    at, n = row[AT_VALUE], row[ENTRIES]
    if row[VALUE] == FLOAT:
        exact = f32[at // 4 : at // 4 + n]
        for j in range(n):
            value[j] = exact[j]
    elif row[VALUE] == INT8:
        small = i8[at : at + n]
        for j in range(n):
            value[j] = small[j]
    else:
        unpack(u32[at // 4 :], 1, value)
        for j in range(n):
            value[j] = np.float32(1.0) - np.float32(2.0) * value[j]


@kernel
def _decode(views, table, index, value, starts, factor, bias):
    """Entries of all layers, one after the other. Writes all but the first two."""
    i8, u16, u32, f32, _, _ = views
    at = at_row = at_start = 0
    for layer in range(len(table)):
        row = table[layer]
        n, n_out, many = row[ENTRIES], row[N_OUT], row[SCALES]
        _starts(u16, u32, row, starts[at_start : at_start + n_out + 1])
        _indices(u16, u32, row, index[at : at + n])
        _values(i8, u32, f32, row, value[at : at + n])
        constants, add = f32[row[AT_BIAS] // 4 :], bias[at_row : at_row + n_out]
        factors, times = f32[row[AT_SCALE] // 4 :], factor[at_row : at_row + n_out]
        times[:] = factors[0] if many == 1 else np.float32(1.0)
        for r in range(n_out):
            add[r] = constants[r]
        for r in range(n_out if many > 1 else 0):
            times[r] = factors[r]
        at, at_row, at_start = at + n, at_row + n_out, at_start + n_out + 1


# ---------------------------------------------------------------------------------------------
# layers
# ---------------------------------------------------------------------------------------------


@kernel
def _dense_one(index, value, starts, factor, bias, relu, x, y):
    """A dense layer on one row of data. O(entries). Writes ``y``.

    Each output is a sum by fours. Positions are unsigned, which spares a test for a sign at each.
    """
    one, two, three, four = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    for r in range(np.uint64(factor.size)):
        j = np.uint64(starts[r])
        n = np.uint64(starts[r + one]) - j
        total = ZERO
        for _ in range(n // four):
            total += (value[j] * x[index[j]] + value[j + one] * x[index[j + one]]) + (
                value[j + two] * x[index[j + two]] + value[j + three] * x[index[j + three]]
            )
            j += four
        for _ in range(n % four):
            total += value[j] * x[index[j]]
            j += one
        total = factor[r] * total + bias[r]
        y[r] = ZERO if relu and total < ZERO else total


@kernel
def _sum_many(index, value, begin, end, x, corner, m, z):
    """The same sums for all columns of a run of neighbours. Writes ``z``, the run."""
    whole, run = begin + (end - begin) // 4 * 4, z.size
    z[:] = ZERO
    for j in range(begin, whole, 4):
        v0, v1, v2, v3 = value[j], value[j + 1], value[j + 2], value[j + 3]
        a, b = (corner + index[j]) * m, (corner + index[j + 1]) * m
        c, d = (corner + index[j + 2]) * m, (corner + index[j + 3]) * m
        x0, x1, x2, x3 = x[a : a + run], x[b : b + run], x[c : c + run], x[d : d + run]
        for q in range(run):
            z[q] += (v0 * x0[q] + v1 * x1[q]) + (v2 * x2[q] + v3 * x3[q])
    for j in range(whole, end):
        a = (corner + index[j]) * m
        v0, x0 = value[j], x[a : a + run]
        for q in range(run):
            z[q] += v0 * x0[q]


@kernel
def _layer_many(row, index, value, starts, factor, bias, m, x, padding, y):
    """Any layer on a block, ``x`` (features x m). O(entries x positions x m).

    A line of an image is one run in memory, and with a stride of 1 it is summed as one. Writes
    ``y``, images with a rim of ``padding``.
    """
    wide, stride = row[WIDTH] + 2 * row[PADDING], row[STRIDE]
    out_wide = row[OUT_WIDTH] + 2 * padding
    area = out_wide * (row[OUT_HEIGHT] + 2 * padding)
    runs = row[OUT_WIDTH] if stride > 1 else 1
    run = row[OUT_WIDTH] // runs
    relu = row[RELU] == 1
    for r in range(row[N_OUT]):
        scale, constant = factor[r], bias[r]
        for i in range(row[OUT_HEIGHT]):
            to = r * area + (i + padding) * out_wide + padding
            for j in range(runs):
                z = y[(to + j) * m : (to + j + run) * m]
                corner = (i * wide + j) * stride
                _sum_many(index, value, starts[r], starts[r + 1], x, corner, m, z)
                if relu:
                    for q in range(z.size):
                        total = scale * z[q] + constant
                        z[q] = ZERO if total < ZERO else total
                else:
                    for q in range(z.size):
                        z[q] = scale * z[q] + constant


# ---------------------------------------------------------------------------------------------
# networks
# ---------------------------------------------------------------------------------------------


@kernel
def features(table):
    """Size of the widest input or output of a layer, rims included."""
    widest = 0
    for layer in range(len(table)):
        row = table[layer]
        rim = 2 * table[layer + 1, PADDING] if layer + 1 < len(table) else 0
        inside = row[CHANNELS] * (row[HEIGHT] + 2 * row[PADDING])
        outside = row[N_OUT] * (row[OUT_HEIGHT] + rim)
        inside *= row[WIDTH] + 2 * row[PADDING]
        outside *= row[OUT_WIDTH] + rim
        widest = max(widest, inside, outside)
    return widest


@kernel
def _usable(x):
    """Whether all of ``x`` (n,) are finite."""
    bad = 0
    for j in range(x.size):
        bad |= not abs(x[j]) <= LARGEST
    return bad == 0


@kernel
def _aligned(n):
    """An array of n floats that begins where a line of the cache does: half the loads, else."""
    room = np.empty(n + 16, np.float32)
    skip = -room.ctypes.data % 64 // 4
    return room[skip : skip + n]


@kernel
def _spread(few, default, many):
    """None, one or all of a number for each feature as all of them. Writes ``many``."""
    one = few[0] if few.size == 1 else default
    for feature in range(many.size):
        many[feature] = few[feature] if few.size > 1 else one


@kernel
def _enter(row, rows, centre, factor, x):
    """Rows of data, standardised, as the columns of the first layer's input.

    Columns there are no rows for are zeros. Writes ``x`` (features, m).
    """
    padding, height, width = row[PADDING], row[HEIGHT], row[WIDTH]
    wide = width + 2 * padding
    area = wide * (height + 2 * padding)
    n = len(rows)
    if padding > 0:
        x[:] = ZERO
    for feature in range(rows.shape[1]):
        to, c, f = feature, centre[feature], factor[feature]
        if padding > 0:
            place = feature % (height * width)
            to = feature // (height * width) * area
            to += (place // width + padding) * wide + place % width + padding
        for q in range(n):
            x[to, q] = (rows[q, feature] - c) * f
        for q in range(n, x.shape[1]):
            x[to, q] = ZERO


@kernel
def _enter_one(row, centre, factor, x):
    """The same of one row without a rim. Writes ``x`` (features or more,)."""
    for feature in range(row.size):
        x[feature] = (row[feature] - centre[feature]) * factor[feature]


@kernel
def _leave(x, softmax, out):
    """Columns of ``x`` (features, m) as rows, probabilities when asked for. Writes ``out``."""
    for q in range(len(out)):
        z = out[q]
        largest, total = x[0, q], 0.0
        for k in range(z.size):
            z[k] = x[k, q]
            largest = max(largest, x[k, q])
        if softmax:
            for k in range(z.size):
                share = math.exp(np.float64(z[k]) - np.float64(largest))
                z[k] = share
                total += share
            for k in range(z.size):
                z[k] = np.float64(z[k]) / total


@kernel
def _through(table, index, value, starts, factor, bias, m, here, there):
    """A block of m rows, ``there``, through all layers; the buffer that holds the outputs.

    Writes ``here`` and ``there`` (features x m or more), in turn.
    """
    x = there
    at = at_row = at_start = 0
    for layer in range(len(table)):
        row = table[layer]
        n, n_out = row[ENTRIES], row[N_OUT]
        i, v = index[at : at + n], value[at : at + n]
        s = starts[at_start : at_start + n_out + 1]
        f, b = factor[at_row : at_row + n_out], bias[at_row : at_row + n_out]
        padding = table[layer + 1, PADDING] if layer + 1 < len(table) else 0
        y = there if layer % 2 else here
        if padding > 0:
            y[:] = ZERO
        if m * row[OUT_HEIGHT] * row[OUT_WIDTH] == 1 and padding == 0:
            _dense_one(i, v, s, f, b, row[RELU] == 1, x, y)
        else:
            _layer_many(row, i, v, s, f, b, m, x, padding, y)
        at, at_row, at_start = at + n, at_row + n_out, at_start + n_out + 1
        x = y
    return x


@kernel
def forward(views, table, X, block, softmax, out):
    """Outputs of ``X`` (n, features), ``block`` rows at a time; the row not finite, or -1.

    O(n entries). Writes ``out`` (n, K).
    """
    widest, n_rows, entries = features(table), table[:, N_OUT].sum(), table[:, ENTRIES].sum()
    index, value = np.empty(entries, np.uint32), _aligned(entries)
    starts = np.empty(n_rows + len(table), np.int64)
    factor, bias = np.empty(n_rows, np.float32), np.empty(n_rows, np.float32)
    most = block if block == 1 else (block + 15) // 16 * 16
    here, there = _aligned(widest * most), _aligned(widest * most)
    _decode(views, table, index, value, starts, factor, bias)
    centre, times = np.empty(X.shape[1], np.float32), np.empty(X.shape[1], np.float32)
    _spread(views[4], ZERO, centre)
    _spread(views[5], np.float32(1.0), times)
    for first in range(0, len(X), block):
        rows = X[first : first + block]
        for q in range(len(rows)):
            if not _usable(rows[q]):
                return first + q
        # whole vectors are faster than what is left over from them
        m = 1 if len(rows) == 1 else (len(rows) + 15) // 16 * 16
        if m > 1 or table[0, PADDING] > 0:
            block_of = there[: widest * m].reshape((widest, m))
            _enter(table[0], rows, centre, times, block_of)
        else:
            _enter_one(rows[0], centre, times, there)
        x = _through(table, index, value, starts, factor, bias, m, here, there)
        _leave(x[: widest * m].reshape((widest, m)), softmax, out[first : first + len(rows)])
    return -1
