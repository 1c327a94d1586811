"""Drawing k of n by perturbed scores, and the gradient of that through its relaxation."""

from __future__ import annotations

import numpy as np

LOWEST = -60.0  # exponents below are as good as this one, and e to it is above 0 in float32
TINY = 1e-30


def gumbel(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Standard Gumbel noise."""
    noise = rng.standard_exponential(shape, dtype=dtype)
    np.maximum(noise, TINY, out=noise)
    np.log(noise, out=noise)
    return np.negative(noise, out=noise)


def top_k(z: np.ndarray, k: int) -> np.ndarray:
    """Columns of the ``k`` largest scores of every row, the largest first.

    Parameters
    ----------
    z : numpy.ndarray, shape (rows, n)
    k : int

    Returns
    -------
    numpy.ndarray of int64, shape (rows, k)
    """
    if k >= z.shape[1]:
        return np.argsort(-z, axis=1, kind="stable")
    picks = np.argpartition(z, z.shape[1] - k, axis=1)[:, -k:]
    values = np.take_along_axis(z, picks, axis=1)
    return np.take_along_axis(picks, np.argsort(-values, axis=1), axis=1)


def relaxed_gradient(
    z: np.ndarray, picks: np.ndarray, upstream: np.ndarray, temperature: float
) -> np.ndarray:
    """Gradient of the scores through k successive soft draws.

    Parameters
    ----------
    z : numpy.ndarray, shape (rows, n)
        Scores, noise included.
    picks : numpy.ndarray of int, shape (rows, k)
        What was drawn, in order.
    upstream : numpy.ndarray, shape (rows, n)
        Gradient of the loss with respect to the mask.
    temperature : float

    Returns
    -------
    numpy.ndarray, shape (rows, n)

    Notes
    -----
    The j-th draw is ``s_j = softmax(z / temperature)`` over what the draws before it have left,
    and the relaxed mask is their sum. All draws share the exponentials and differ in the
    normaliser only, so that sums over draws are running sums over ranks: O(n) a row rather than
    O(k n).

    References
    ----------
    Gonzalez-Carabarin, Huijben, Veeling, Schmid & van Sloun, "Dynamic Probabilistic Pruning"
    (arXiv 2105.12686), section III.
    """
    e = z - z.max(axis=1, keepdims=True)
    e /= temperature
    np.maximum(e, LOWEST, out=e)
    np.exp(e, out=e)
    picked = np.take_along_axis(e, picks, axis=1).astype(np.float64)
    np.put_along_axis(e, picks, 0, axis=1)
    up = np.take_along_axis(upstream, picks, axis=1).astype(np.float64)
    # what is never picked enters every draw; summed by itself, so that nothing cancels
    rest = e.sum(axis=1, dtype=np.float64)[:, None]
    rest_up = np.einsum("ij,ij->i", e, upstream).astype(np.float64)[:, None]
    normaliser = rest + _reverse_cumsum(picked)
    mean = (rest_up + _reverse_cumsum(picked * up)) / normaliser
    first = np.cumsum(1 / normaliser, axis=1)
    second = np.cumsum(mean / normaliser, axis=1)
    out = upstream * first[:, -1:].astype(z.dtype)
    out -= second[:, -1:].astype(z.dtype)
    out *= e
    out /= temperature
    at_picks = picked * (up * first - second) / temperature
    np.put_along_axis(out, picks, at_picks.astype(z.dtype), axis=1)
    return out


def _reverse_cumsum(x: np.ndarray) -> np.ndarray:
    return np.cumsum(x[:, ::-1], axis=1)[:, ::-1]


def entropy_gradient(logits: np.ndarray) -> tuple[float, np.ndarray]:
    """Sum over rows of the entropy of ``softmax(logits)``, and its gradient, shape (rows, n)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(axis=1, keepdims=True)
    p /= total
    shifted -= np.log(total)
    entropy = -np.einsum("ij,ij->i", p, shifted)
    shifted += entropy[:, None]
    shifted *= p
    return float(entropy.sum()), np.negative(shifted, out=shifted)


def confidence(logits: np.ndarray, k: int = 1) -> np.ndarray:
    """How decided every row is.

    Parameters
    ----------
    logits : numpy.ndarray, shape (rows, n)
    k : int
        Draws of a row. With 1, the entropy of the softmax against that of a uniform one; with
        more, the scale ends at k equal winners, the least that k draws can share.

    Returns
    -------
    numpy.ndarray of float64, shape (rows,)
        0 for no preference, 1 for a certain choice.
    """
    logits, k = _checked(logits, k)
    n = logits.shape[1]
    if k >= n:
        return np.ones(logits.shape[0])
    entropy = _entropy(_softmax(logits))
    return np.clip((np.log(n) - entropy) / (np.log(n) - np.log(k)), 0.0, 1.0)


def diversity(logits: np.ndarray) -> float:
    """How differently the rows of a layer choose.

    Parameters
    ----------
    logits : numpy.ndarray, shape (rows, n)

    Returns
    -------
    float
        Jensen-Shannon divergence of the rows' softmaxes over ``log(min(rows, n))``: 0 when all
        rows choose alike, 1 for certain choices without overlap. Nan for one row or column.

    Notes
    -----
    Times the logarithm it is the mutual information between a row and what it chooses.
    """
    logits, _ = _checked(logits, 1)
    size = min(logits.shape)
    if size < 2:
        return float("nan")
    p = _softmax(logits)
    spread = _entropy(p.mean(axis=0, keepdims=True))[0] - _entropy(p).mean()
    return float(max(spread, 0.0) / np.log(size))


def mask_overlap(mask: np.ndarray) -> np.ndarray:
    """Share of columns that pairs of rows have in common.

    Parameters
    ----------
    mask : numpy.ndarray of bool, shape (rows, n)
        With the same number of columns chosen in every row.

    Returns
    -------
    numpy.ndarray of float64, shape (rows, rows)
        1 on the diagonal.
    """
    chosen = np.asarray(mask, dtype=np.float64)
    counts = chosen.sum(axis=1)
    if chosen.ndim != 2 or not counts.size or counts.min() < 1 or np.ptp(counts) > 0:
        raise ValueError("mask must have two dimensions and rows with equally many columns")
    return chosen @ chosen.T / counts[0]


def inclusion_probability(
    logits: np.ndarray,
    k: int,
    *,
    noise_scale: float = 1.0,
    draws: int = 1000,
    seed: int | np.random.Generator = 0,
) -> np.ndarray:
    """Probability that a column is among the k of its row, by simulation.

    Parameters
    ----------
    logits : numpy.ndarray, shape (rows, n)
    k : int
    noise_scale : float
    draws : int
    seed : int or numpy.random.Generator

    Returns
    -------
    numpy.ndarray of float64, shape (rows, n)
        Rows sum to k.
    """
    logits, k = _checked(logits, k)
    rng = np.random.default_rng(seed)
    count = np.zeros(logits.shape)
    for _ in range(draws):
        z = logits + noise_scale * gumbel(rng, logits.shape, np.dtype(np.float64))
        picks = top_k(z, k)
        np.put_along_axis(count, picks, np.take_along_axis(count, picks, axis=1) + 1, axis=1)
    return count / draws


def _checked(logits: np.ndarray, k: int) -> tuple[np.ndarray, int]:
    logits = np.asarray(logits, dtype=np.float64)
    if logits.ndim != 2 or not logits.size or not np.isfinite(logits).all():
        raise ValueError(f"logits must be finite, shape (rows, n); got shape {logits.shape}")
    if not 1 <= k <= logits.shape[1]:
        raise ValueError(f"k must be in 1..{logits.shape[1]}; got {k}")
    return logits, int(k)


def _softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def _entropy(p: np.ndarray) -> np.ndarray:
    return -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=1)
