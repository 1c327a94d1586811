"""Distributions over the trees that a cascade may have taken.

A tree gives every infected node one parent: another node, or a virtual root that stands for the
world outside, whose children are the seeds. Its probability is proportional to the product of the
weights of its edges. Two routes lead to the normalising constant Z, the edge marginals and exact
samples:

* **ordered**: infection times say who can have infected whom. No choice of parents can then close a
  loop, the nodes choose independently, and everything costs O(candidates).
  `ordered_log_z`, `ordered_marginals`, `ordered_sample`.
* **general**: any non-negative weight matrix, for data whose order is not known, by the matrix-tree
  theorem and Wilson's algorithm. `matrix_tree_log_z`, `matrix_tree_marginals`, `wilson_sample`.

On ordered data both agree. With ``log=True`` weights are given as logarithms, which keeps products
of densities that would underflow; what counts is their size relative to the largest weight of the
same child, and weights more than 700 log units below it are 0.

References
----------
Tutte (1948), "The dissection of equilateral triangles into equilateral triangles", for the
matrix-tree theorem of directed graphs. Wilson (1996), "Generating random spanning trees more
quickly than the cover time", STOC. Grassmann, Taksar and Heyman (1985), "Regenerative analysis and
steady state distributions for Markov chains", Operations Research 33, for elimination without
subtraction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "matrix_tree_log_z",
    "matrix_tree_marginals",
    "ordered_log_z",
    "ordered_marginals",
    "ordered_sample",
    "wilson_sample",
]

_FloatArray = NDArray[np.float64]
_IntArray = NDArray[np.int64]

_TOLERANCE = 1e-6  # largest error of a marginal that is returned rather than refused
_MAX_STEPS = 1e8  # expected steps of a sampled tree beyond which it is refused: some minutes


# ---------------------------------------------------------------- ordered: parents are independent


def ordered_log_z(weight: ArrayLike, offset: ArrayLike, *, log: bool = False) -> float:
    """Log of the summed weight of all trees, when times order the nodes.

    Parameters
    ----------
    weight : array_like, float, shape (M,)
        Weight of each candidate parent, child after child. The virtual root is a candidate like any
        other; a seed has it alone.
    offset : array_like, int, shape (n + 1,)
        Candidates of child i are ``weight[offset[i]:offset[i + 1]]``.
    log : bool
        Weights are logarithms.

    Returns
    -------
    float
        ``log Z = sum_v log sum_u w_uv``.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, `offset` does not cut up `weight`, or a child has no
        candidate of positive weight; the message names it.
    """
    return float(_ordered(weight, offset, log)[1].sum())


def ordered_marginals(weight: ArrayLike, offset: ArrayLike, *, log: bool = False) -> _FloatArray:
    """Probability of each candidate to be the parent, when times order the nodes.

    Parameters
    ----------
    weight, offset, log
        As in `ordered_log_z`.

    Returns
    -------
    ndarray, float64, shape (M,)
        ``w_uv / sum_u' w_u'v``, laid out like `weight`.

    Raises
    ------
    ValueError
        As in `ordered_log_z`.
    """
    return _ordered(weight, offset, log)[0]


def ordered_sample(
    weight: ArrayLike, offset: ArrayLike, uniforms: ArrayLike, *, log: bool = False
) -> _IntArray:
    """Exact samples of trees from uniform numbers, when times order the nodes.

    Parameters
    ----------
    weight, offset, log
        As in `ordered_log_z`.
    uniforms : array_like, float, shape (..., n)
        One number in [0, 1) for each child; leading axes are samples.

    Returns
    -------
    ndarray, int64, shape of `uniforms`
        Position in `weight` of the parent of each child.

    Raises
    ------
    ValueError
        As in `ordered_log_z`, and if `uniforms` has another last axis or leaves [0, 1).

    Notes
    -----
    The parent is the inverse of the distribution function of the child's candidates; O(log M) for
    each child and sample after O(M). Probabilities are resolved to about 1e-16 n.
    """
    prob, _, cut = _ordered(weight, offset, log)
    draws = np.asarray(uniforms, dtype=np.float64)
    n_children = cut.size - 1
    if draws.ndim == 0 or draws.shape[-1] != n_children:
        raise ValueError(
            f"uniforms must have one number for each of {n_children} children on the last axis; "
            f"got shape {draws.shape}"
        )
    if not ((draws >= 0.0) & (draws < 1.0)).all():
        raise ValueError("uniforms must lie in [0, 1)")
    if n_children == 0:
        return np.empty(draws.shape, dtype=np.int64)
    cumulative = np.concatenate([[0.0], np.cumsum(prob)])
    low, high = cumulative[cut[:-1]], cumulative[cut[1:]]
    # staying below the upper end keeps rounding from choosing the next child's first candidate
    target = np.minimum(low + draws * (high - low), np.nextafter(high, -np.inf))
    return np.searchsorted(cumulative, target, side="right").astype(np.int64) - 1


def _ordered(
    weight: ArrayLike, offset: ArrayLike, log: bool
) -> tuple[_FloatArray, _FloatArray, _IntArray]:
    """Checked input: probabilities (M,), log of each child's total weight (n,), offset (n + 1,)."""
    values = _checked_weights("weight", weight, 1, log)
    cut = np.asarray(offset)
    if cut.ndim != 1 or cut.size == 0 or not np.issubdtype(cut.dtype, np.integer):
        raise ValueError("offset must be a vector of integers, one more than there are children")
    cut = cut.astype(np.int64)
    if cut[0] != 0 or cut[-1] != values.size or (np.diff(cut) < 0).any():
        raise ValueError(
            f"offset must rise from 0 to the number of weights, {values.size}; "
            f"got {cut[0]} to {cut[-1]}"
        )
    count = np.diff(cut)
    if (count == 0).any():
        raise ValueError(f"child {np.flatnonzero(count == 0)[0]} has no candidate parent")
    if count.size == 0:
        return values, np.empty(0), cut
    peak = np.maximum.reduceat(values, cut[:-1])
    if (peak == (-np.inf if log else 0.0)).any():
        child = np.flatnonzero(peak == (-np.inf if log else 0.0))[0]
        raise ValueError(f"child {child} has no candidate parent of positive weight")
    relative, log_peak = _relative_to(peak, values, np.repeat(peak, count), log)
    total = np.add.reduceat(relative, cut[:-1])
    return relative / np.repeat(total, count), log_peak + np.log(total), cut


# ------------------------------------------------------------------- general: matrix-tree theorem


def matrix_tree_log_z(weight: ArrayLike, root: ArrayLike, *, log: bool = False) -> float:
    """Log of the summed weight of all spanning trees that grow out of the virtual root.

    Parameters
    ----------
    weight : array_like, float, shape (n, n)
        Entry (u, v) is the weight of u as the parent of v; zero (log: -inf) on the diagonal.
    root : array_like, float, shape (n,)
        Weight of the virtual root as the parent of each node. One positive entry makes that node
        the seed of every tree; several let a tree have several seeds.
    log : bool
        Weights are logarithms.

    Returns
    -------
    float
        log Z.

    Raises
    ------
    ValueError
        If shapes do not fit, a weight is negative or not finite, the diagonal is not zero, or a
        node cannot be reached from the root; the message names it.

    Notes
    -----
    Z is the determinant of the Laplacian with the root's row and column removed. Its columns are
    scaled to one, and it is eliminated without subtractions, so that log Z keeps its digits
    however weak the root is beside the loops among nodes. O(n^3) time, O(n^2) memory.
    """
    prob, to_root, log_total = _general(weight, root, log)
    log_z = log_total.sum()
    for last in range(prob.shape[0] - 1, -1, -1):
        # what is left of this node's column once the nodes after it have been eliminated
        column = prob[:last, last]
        pivot = to_root[last] + column.sum()
        if pivot == 0.0:
            raise ValueError(f"weights on all paths from the root to node {last} underflow")
        log_z += np.log(pivot)
        row = prob[last, :last] / pivot
        prob[:last, :last] += np.outer(column, row)
        to_root[:last] += to_root[last] * row
    return float(log_z)


def matrix_tree_marginals(
    weight: ArrayLike, root: ArrayLike, *, log: bool = False
) -> tuple[_FloatArray, _FloatArray]:
    """Probability of each edge to be in the tree.

    Parameters
    ----------
    weight, root, log
        As in `matrix_tree_log_z`.

    Returns
    -------
    edge : ndarray, float64, shape (n, n)
        Entry (u, v) is the probability that u is the parent of v.
    seed : ndarray, float64, shape (n,)
        Probability that the virtual root is the parent of v. ``seed + edge.sum(axis=0)`` is one.

    Raises
    ------
    ValueError
        As in `matrix_tree_log_z`, and if the root's weights are so small beside the others that
        marginals would be wrong by more than 1e-6.

    Notes
    -----
    With the columns of the Laplacian minor L scaled to one and G its inverse, the derivative of
    log det L gives ``edge_uv = w_uv (G_vv - G_vu)`` and ``seed_v = root_v G_vv``. The difference
    loses digits as G grows: the error is about 1e-16 n max G. O(n^3) time, O(n^2) memory.
    """
    prob, to_root, _ = _general(weight, root, log)
    n_nodes = prob.shape[0]
    if n_nodes == 0:
        return prob, to_root
    inverse = _inverse_minor(prob)
    visits = np.diagonal(inverse)
    if not n_nodes * np.finfo(np.float64).eps * visits.max() <= _TOLERANCE:
        raise ValueError(
            "root is too weak beside weight: loops among the nodes outweigh the root so much that "
            f"marginals would be wrong by more than {_TOLERANCE:g}"
        )
    edge = prob * (visits[None, :] - inverse.T)
    return np.clip(edge, 0.0, 1.0), np.clip(to_root * visits, 0.0, 1.0)


def wilson_sample(
    weight: ArrayLike,
    root: ArrayLike,
    seed: int | np.random.Generator,
    size: int | None = None,
    *,
    log: bool = False,
) -> _IntArray:
    """Exact samples of spanning trees by loop-erased random walks.

    Parameters
    ----------
    weight, root, log
        As in `matrix_tree_log_z`.
    seed : int or numpy.random.Generator
        Source of randomness; a generator is advanced.
    size : int, optional
        Number of trees; None gives one, without the leading axis.

    Returns
    -------
    ndarray, int64, shape (n,) or (size, n)
        Parent of each node, -1 for the virtual root.

    Raises
    ------
    ValueError
        As in `matrix_tree_log_z`, and if the root's weights are so small beside the others that a
        tree would take more than 1e8 steps.

    Notes
    -----
    From each node not yet in the tree walk to parents, drawn in proportion to their weight, until
    the tree is met; the walk with its loops cut out joins the tree. The expected number of steps
    is the trace of the inverse Laplacian minor with columns scaled to one: n on ordered data, and
    beyond any bound as the root's weights go to zero.
    """
    prob, to_root, _ = _general(weight, root, log)
    steps = np.trace(_inverse_minor(prob))
    if not steps <= _MAX_STEPS:
        raise ValueError(
            "root is too weak beside weight: a tree would take more than "
            f"{_MAX_STEPS:g} steps of a walk among the nodes; got an expected {steps:g}"
        )
    rng = np.random.default_rng(seed)
    cumulative = np.cumsum(np.column_stack([prob.T, to_root]), axis=1)
    # The last parent of positive weight takes what rounding leaves over.
    cumulative[cumulative >= cumulative[:, -1:]] = np.inf
    trees = [_loop_erased_walks(cumulative, rng) for _ in range(1 if size is None else size)]
    parents = np.array(trees, dtype=np.int64).reshape(len(trees), prob.shape[0])
    return parents[0] if size is None else parents


def _inverse_minor(prob: _FloatArray) -> _FloatArray:
    """Inverse of the Laplacian minor, (n, n), inf where it is singular to working precision.

    Entry (v, u) is the expected number of visits to v of a walk to parents that starts in u.
    """
    try:
        inverse = np.linalg.inv(np.eye(prob.shape[0]) - prob)
    except np.linalg.LinAlgError:
        return np.full_like(prob, np.inf)
    # no walk makes fewer visits than none: a negative number is what singularity leaves behind
    return inverse if (np.diagonal(inverse) > 0.0).all() else np.full_like(prob, np.inf)


def _loop_erased_walks(cumulative: _FloatArray, rng: np.random.Generator) -> list[int]:
    """Parents (n,) of one tree; row v of `cumulative` (n, n + 1): v's parents, the root last."""
    n_nodes = len(cumulative)
    parent = [-1] * n_nodes
    in_tree = [False] * n_nodes + [True]
    for start in range(n_nodes):
        node = start
        while not in_tree[node]:
            # a second visit overwrites the first choice, which cuts the loop out
            parent[node] = int(cumulative[node].searchsorted(rng.random(), side="right"))
            node = parent[node]
        node = start
        while not in_tree[node]:
            in_tree[node] = True
            node = parent[node]
    return [-1 if u == n_nodes else u for u in parent]


def _general(
    weight: ArrayLike, root: ArrayLike, log: bool
) -> tuple[_FloatArray, _FloatArray, _FloatArray]:
    """Checked input with columns scaled to one.

    Returns
    -------
    prob : (n, n), to_root : (n,)
        Step probabilities of the walk from a node to its parents; fresh arrays.
    log_total : (n,)
        Log of each column's total weight, root included.
    """
    values = _checked_weights("weight", weight, 2, log)
    seeds = _checked_weights("root", root, 1, log)
    n_nodes = values.shape[0]
    if values.shape != (n_nodes, n_nodes) or seeds.shape != (n_nodes,):
        raise ValueError(
            "weight must have shape (n, n) and root shape (n,); "
            f"got {values.shape} and {seeds.shape}"
        )
    nothing = -np.inf if log else 0.0
    loops = np.flatnonzero(np.diagonal(values) != nothing)
    if loops.size:
        raise ValueError(f"weight must be {nothing:g} on the diagonal; node {loops[0]} is not")
    columns = np.vstack([values, seeds])
    if n_nodes == 0:
        return values.copy(), seeds.copy(), seeds.copy()
    peak = columns.max(axis=0)
    # a column of nothing is left as it is, for the next line but one to name its node
    peak[peak == nothing] = 0.0 if log else 1.0
    relative, log_peak = _relative_to(peak, columns, peak, log)
    _check_reachable(relative > 0.0)
    total = relative.sum(axis=0)
    relative /= total
    return relative[:-1].copy(), relative[-1].copy(), log_peak + np.log(total)


def _check_reachable(is_edge: NDArray[np.bool_]) -> None:
    """Refuse a graph whose root, the last row of `is_edge` (n + 1, n), does not reach a node."""
    reached = is_edge[-1].copy()
    frontier = np.flatnonzero(reached)
    while frontier.size:
        frontier = np.flatnonzero(is_edge[frontier].any(axis=0) & ~reached)
        reached[frontier] = True
    if not reached.all():
        missing = np.flatnonzero(~reached)
        others = f" (nor can {missing.size - 1} others)" if missing.size > 1 else ""
        raise ValueError(
            f"node {missing[0]} cannot be reached from the root{others}: no path of positive "
            "weights leads there from a node of positive root weight"
        )


# ---------------------------------------------------------------------------------------- weights


def _checked_weights(name: str, weight: ArrayLike, ndim: int, log: bool) -> _FloatArray:
    """`weight` as a float array of the given rank, non-negative, or for logs below +inf."""
    values = np.asarray(weight, dtype=np.float64)
    if values.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension(s); got shape {values.shape}")
    good = values < np.inf if log else np.isfinite(values) & (values >= 0.0)
    if not good.all():
        wanted = "logarithms below inf" if log else "finite and not negative"
        raise ValueError(f"{name} must be {wanted}; got {values[~good].flat[0]}")
    return values


def _relative_to(
    peak: _FloatArray, values: _FloatArray, peaks: _FloatArray, log: bool
) -> tuple[_FloatArray, _FloatArray]:
    """Weights divided by the largest of their child, `peaks` aligned with them; log of `peak`."""
    return (np.exp(values - peaks), peak) if log else (values / peaks, np.log(peak))
