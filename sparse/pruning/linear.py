"""Least squares in closed form, for models without hidden layers."""

from __future__ import annotations

import numpy as np


def least_squares(
    x: np.ndarray,
    y: np.ndarray,
    ridge: float,
    *,
    weight: np.ndarray | None = None,
    intercept: bool = True,
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise ``sum(weight * |y - x b - c|²)/n + ridge |b|²``, in double precision.

    Parameters
    ----------
    x : numpy.ndarray, shape (n, p)
    y : numpy.ndarray, shape (n, K)
    ridge : float
        With 0 the solution of least norm.
    weight : numpy.ndarray, shape (n,), optional
        With a mean of 1.
    intercept : bool
    mask : numpy.ndarray of bool, shape (K, p), optional
        Coefficients that may differ from 0.

    Returns
    -------
    coefficients : numpy.ndarray, shape (K, p)
    intercepts : numpy.ndarray, shape (K,)
    """
    x, y = x.astype(np.float64), y.astype(np.float64)
    n = x.shape[0]
    w = np.ones(n) if weight is None else weight.astype(np.float64)
    centre_x, centre_y = np.zeros(x.shape[1]), np.zeros(y.shape[1])
    if intercept:
        centre_x, centre_y = w @ x / w.sum(), w @ y / w.sum()
    root = np.sqrt(w)[:, None]
    x, y = (x - centre_x) * root, (y - centre_y) * root
    out = np.zeros((y.shape[1], x.shape[1]))
    if mask is None:
        out[:] = _solve(x, y, ridge).T
    else:
        for target, kept in enumerate(mask):
            out[target, kept] = _solve(x[:, kept], y[:, target : target + 1], ridge)[:, 0]
    return out, centre_y - out @ centre_x


def _solve(x: np.ndarray, y: np.ndarray, ridge: float) -> np.ndarray:
    n, p = x.shape
    if p == 0:
        return np.zeros((0, y.shape[1]))
    if ridge == 0:
        return np.linalg.lstsq(x, y, rcond=None)[0]
    if p <= n:
        return np.linalg.solve(x.T @ x / n + ridge * np.eye(p), x.T @ y / n)
    return x.T @ np.linalg.solve(x @ x.T / n + ridge * np.eye(n), y / n)
