"""Losses of a batch, with the gradient written over the outputs."""

from __future__ import annotations

import numpy as np


def softmax(z: np.ndarray) -> np.ndarray:
    """Row-wise softmax of ``z`` (n, K), in place."""
    z -= z.max(axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=1, keepdims=True)
    return z


def cross_entropy(z: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> float:
    """Mean cross-entropy of logits.

    Parameters
    ----------
    z : numpy.ndarray, shape (n, K)
        Logits; overwritten by the gradient of the loss.
    y : numpy.ndarray of int64, shape (n,)
    weight : numpy.ndarray, shape (n,), optional
        The loss is ``sum(weight * loss) / n``: weights with a mean of 1 over the data keep the
        scale.

    Returns
    -------
    float
    """
    n = z.shape[0]
    rows = np.arange(n)
    z -= z.max(axis=1, keepdims=True)
    chosen = z[rows, y]
    np.exp(z, out=z)
    total = z.sum(axis=1)
    losses = np.log(total) - chosen
    z /= total[:, None]
    z[rows, y] -= 1
    return _averaged(losses, z, weight)


def squared(z: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> float:
    """Mean of half the squared error, summed over outputs.

    Parameters
    ----------
    z : numpy.ndarray, shape (n, K)
        Predictions; overwritten by the gradient.
    y : numpy.ndarray, shape (n, K)
    weight : numpy.ndarray, shape (n,), optional
        As for `cross_entropy`.
    """
    z -= y
    return _averaged(0.5 * np.einsum("ij,ij->i", z, z), z, weight)


def _averaged(losses: np.ndarray, gradient: np.ndarray, weight: np.ndarray | None) -> float:
    n = losses.shape[0]
    if weight is None:
        gradient /= n
        return float(losses.sum()) / n
    gradient *= (weight / n)[:, None]
    return float(losses @ weight) / n


LOSSES = {"cross_entropy": cross_entropy, "squared": squared}
