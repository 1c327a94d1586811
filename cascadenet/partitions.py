"""Point estimates and agreement of partitions drawn by a sampler."""

from __future__ import annotations

import numpy as np


def contingency(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Counts of items by label in two labellings, int64 (labels of a, labels of b)."""
    n_a, n_b = int(a.max(initial=-1)) + 1, int(b.max(initial=-1)) + 1
    return np.bincount(a * n_b + b, minlength=n_a * n_b).reshape(n_a, n_b)


def _entropy(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def variation_of_information(a: np.ndarray, b: np.ndarray) -> float:
    """Variation of information of two labellings, in nats (Meila 2007)."""
    table = contingency(a, b)
    joint = _entropy(table.ravel())
    return max(2.0 * joint - _entropy(table.sum(axis=1)) - _entropy(table.sum(axis=0)), 0.0)


def _distances(labels: np.ndarray) -> np.ndarray:
    """Variation of information between all pairs of draws, float64 (S, S)."""
    size = labels.shape[0]
    distance = np.zeros((size, size))
    for i in range(size):
        for j in range(i):
            distance[i, j] = distance[j, i] = variation_of_information(labels[i], labels[j])
    return distance


def point_estimate(labels: np.ndarray) -> np.ndarray:
    """Partition with the least expected variation of information to the draws.

    Candidates are the draws themselves and, from the best of them on, the partitions that give
    each item the label it has most often once the draws' labels are matched.

    Parameters
    ----------
    labels : int array, shape (S, items)
        Label 0 means "none".

    Returns
    -------
    int64 array, shape (items,)
        Labels from 1 by decreasing size, equal sizes by first item; 0 stays 0.
    """
    if labels.shape[0] == 0:
        return np.zeros(labels.shape[1], np.int64)
    labels = np.array([_by_size(row) for row in labels])  # rounding must not see names either
    expected = _distances(labels).mean(axis=1)
    best, loss = labels[int(expected.argmin())], float(expected.min())
    while True:
        majority = _by_size(_most_frequent(align(labels, best)))
        distance = np.mean([variation_of_information(row, majority) for row in labels])
        if not distance < loss:
            return best
        best, loss = majority, float(distance)


def _most_frequent(labels: np.ndarray) -> np.ndarray:
    """Label that each item has in most draws, the smallest of several."""
    count = np.zeros((int(labels.max(initial=0)) + 1, labels.shape[1]), np.int64)
    for row in labels:
        count[row, np.arange(row.size)] += 1
    return count.argmax(axis=0)


def _by_size(row: np.ndarray) -> np.ndarray:
    """The same partition with labels from 1 by decreasing size, then first item; 0 stays 0."""
    names, first, size = np.unique(row, return_index=True, return_counts=True)
    order = np.lexsort((first, -size))
    order = order[names[order] > 0]
    rank = np.zeros(int(row.max(initial=0)) + 1, np.int64)
    rank[names[order]] = np.arange(1, order.size + 1)
    return rank[row]


def align(labels: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Rename every draw's labels to those of a point estimate with the largest overlap.

    Labels that match none get numbers beyond those of the point estimate.
    """
    from scipy.optimize import linear_sum_assignment

    aligned = np.zeros_like(labels)
    n_point = int(point.max(initial=0))
    for s in range(labels.shape[0]):
        row = _by_size(labels[s])  # which of several best matches is found depends on the names
        table = contingency(row, point)[1:, 1:]
        rows, columns = linear_sum_assignment(-table)
        name = np.arange(n_point + 1, n_point + 1 + table.shape[0])
        name[rows] = columns + 1
        aligned[s] = np.append(0, name)[row]
    return aligned


def coclustering(labels: np.ndarray) -> np.ndarray:
    """Share of draws in which two items have the same label, float64 (items, items)."""
    share = np.zeros((labels.shape[1], labels.shape[1]))
    for row in labels:
        share += row[:, None] == row[None, :]
    return share / max(labels.shape[0], 1)


def agreement(labels: np.ndarray, chain: np.ndarray) -> dict[str, float]:
    """Mean variation of information between draws, ``within`` and ``between`` chains, in nats."""
    distance = _distances(labels)
    same = chain[:, None] == chain[None, :]
    off = ~np.eye(labels.shape[0], dtype=bool)
    means = {}
    for name, mask in (("within", same & off), ("between", ~same)):
        means[name] = float(distance[mask].mean()) if mask.any() else 0.0
    return means
