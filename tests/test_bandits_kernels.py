"""Every kernel against obvious NumPy, and compiled results against interpreted ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cascadenet.sparse.bandits import _kernels as kernels

ROOT = Path(__file__).resolve().parent.parent
SIZES = pytest.mark.parametrize("d", [1, 2, 5, 8, 11])
NONE = np.empty(0)


def packed(full: np.ndarray) -> np.ndarray:
    return full[np.triu_indices(len(full))].copy()


def unpacked(flat: np.ndarray, d: int, *, symmetric: bool = True) -> np.ndarray:
    full = np.zeros((d, d))
    full[np.triu_indices(d)] = flat
    return full + np.triu(full, 1).T if symmetric else full


def definite(rng: np.random.Generator, d: int) -> np.ndarray:
    half = rng.standard_normal((d + 3, d))
    return half.T @ half + 0.5 * np.eye(d)


def near(found: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-11) -> None:
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.jit_off
@SIZES
def test_refactor_and_solve(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    A = [definite(rng, d) for _ in range(3)]
    gram, b = np.array([packed(a) for a in A]), rng.standard_normal((3, d))
    inverse, root, theta = np.empty_like(gram), np.empty_like(gram), np.empty((3, d))
    assert kernels.refactor(gram, inverse, False, d)
    assert kernels.refactor(gram, root, True, d)
    for k in range(3):
        near(unpacked(inverse[k], d), np.linalg.inv(A[k]))
        near(unpacked(root[k], d, symmetric=False), np.linalg.cholesky(A[k]).T)
    for state, is_factor in ((inverse, False), (root, True)):
        kernels.solve_all(b, state, is_factor, theta)
        near(theta, np.array([np.linalg.solve(A[k], b[k]) for k in range(3)]))


@pytest.mark.jit_off
def test_refactor_sees_what_is_not_definite() -> None:
    for full in (np.diag([1.0, -1.0]), np.ones((2, 2)), np.diag([1.0, np.nan])):
        assert not kernels.refactor(packed(full)[None], np.empty((1, 3)), True, 2)


@pytest.mark.jit_off
@SIZES
@pytest.mark.parametrize("n_items", [1, 7, 300])
def test_moments(d: int, n_items: int, seed: int) -> None:
    if n_items > 7 and os.environ.get("NUMBA_DISABLE_JIT") == "1":
        n_items = 7
    rng = np.random.default_rng(seed)
    M, theta, X = definite(rng, d), rng.standard_normal(d), rng.standard_normal((n_items, d))
    mean, variance = np.empty(n_items), np.empty(n_items)
    kernels.moments_of_rows(X, packed(M), theta, mean, variance)
    near(mean, X @ theta)
    near(variance, np.einsum("ki,ij,kj->k", X, M, X))
    other_mean, other = np.empty(n_items), np.empty(n_items)
    kernels.moments_of_columns(X.T.copy(), packed(M), theta, other_mean, other)
    np.testing.assert_array_equal(other, variance)
    np.testing.assert_array_equal(other_mean, mean)
    score, order = np.empty(n_items), np.arange(1)
    first = kernels.rank_rows(X, packed(M)[None], theta[None], 0.3, NONE, order, score)
    near(score, mean + 0.3 * np.sqrt(variance))
    again = kernels.rank_moments(mean, variance, 0.3, NONE, order, np.empty(n_items))
    assert first.tolist() == again.tolist() == [score.argmax()]


@pytest.mark.jit_off
@SIZES
def test_samples(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    A, theta, X = definite(rng, d), rng.standard_normal(d), rng.standard_normal((9, d))
    z, order, score = rng.standard_normal(d), np.arange(2), np.empty(9)
    root = packed(np.linalg.cholesky(A).T)[None]
    wanted = X @ (theta + 0.7 * np.linalg.solve(np.linalg.cholesky(A).T, z))
    for features, by_column in ((X, False), (X.T.copy(), True)):
        found = kernels.rank_sampled(
            features, by_column, root, theta[None], 0.7, z, NONE, order, score
        )
        near(score, wanted)
        assert found.tolist() == np.argsort(-wanted)[:2].tolist()


@pytest.mark.jit_off
@SIZES
def test_disjoint_scores(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    M = [definite(rng, d) for _ in range(4)]
    theta, x, z = rng.standard_normal((4, d)), rng.standard_normal(d), rng.standard_normal(4)
    flat, score = np.array([packed(m) for m in M]), np.empty(4)
    width = np.array([np.sqrt(x @ m @ x) for m in M])
    kernels.rank_disjoint(x, flat, theta, 0.5, NONE, NONE, np.arange(2), score)
    near(score, theta @ x + 0.5 * width)
    kernels.rank_disjoint(x, flat, theta, 0.5, z, NONE, np.arange(2), score)
    near(score, theta @ x + 0.5 * width * z)


def learned(seed: int, d: int, is_factor: bool, forgetting: float, exact: bool) -> None:
    """Learn two rounds of three models, one row skipped, and compare with fresh solutions."""
    rng = np.random.default_rng(seed)
    n = 1 if is_factor else 3
    gram = np.array([packed(definite(rng, d)) for _ in range(n)])
    b = rng.standard_normal((n, d))
    state, theta = np.empty_like(gram), np.empty((n, d))
    assert kernels.refactor(gram, state, is_factor, d)
    A, want_b = [unpacked(g, d) for g in gram], b.copy()
    columns = rng.standard_normal((d, 6)) if n == 1 else np.empty((d, 0))
    mean, variance = np.zeros(6 if n == 1 else 0), np.zeros(6 if n == 1 else 0)
    since, prior = np.zeros(n, np.int64), rng.standard_normal(d)
    for _ in range(2):
        X, w, v = rng.standard_normal((3, d)), rng.random(3) + 0.1, rng.standard_normal(3)
        which = np.array([2, -1, 0]) if n == 3 else np.array([0, 0, -1])
        if exact:
            code = kernels.learn_exactly(
                X, which, w, v, gram, b, state, theta, forgetting, 0.25, prior, is_factor
            )
        else:
            code = kernels.learn(
                X, which, w, v, gram, b, state, theta, since, forgetting, is_factor, 3,
                columns, mean, variance,
            )  # fmt: skip
        assert code == kernels.OK
        for k in range(n):
            kept = 0.25 if exact and forgetting < 1 else 0.0
            A[k] = forgetting * A[k] + kept * np.eye(d)
            want_b[k] = forgetting * want_b[k] + (prior if kept else 0.0)
        for i, k in enumerate(which):
            if k >= 0:
                A[k] = A[k] + w[i] * np.outer(X[i], X[i])
                want_b[k] = want_b[k] + v[i] * X[i]
    for k in range(n):
        near(unpacked(gram[k], d), A[k])
        near(b[k], want_b[k])
        target = np.linalg.cholesky(A[k]).T if is_factor else np.linalg.inv(A[k])
        near(unpacked(state[k], d, symmetric=not is_factor), target)
        if exact or k != 1:
            near(theta[k], np.linalg.solve(A[k], want_b[k]))


@pytest.mark.jit_off
@SIZES
@pytest.mark.parametrize("is_factor", [False, True])
@pytest.mark.parametrize("forgetting", [1.0, 0.8])
@pytest.mark.parametrize("exact", [False, True])
def test_learn(d: int, is_factor: bool, forgetting: float, exact: bool, seed: int) -> None:
    learned(seed, d, is_factor, forgetting, exact)


@pytest.mark.jit_off
@SIZES
def test_follow(d: int, seed: int) -> None:
    """Carried moments of fixed items are those of the updated inverse."""
    rng = np.random.default_rng(seed)
    A, X = definite(rng, d), rng.standard_normal((6, d))
    M, directions, factors = np.linalg.inv(A), np.empty((2, d)), np.empty(2)
    variance, mean = np.einsum("ki,ij,kj->k", X, M, X), np.empty(6)
    for i in range(2):
        x = rng.standard_normal(d)
        directions[i] = M @ x
        factors[i] = 0.6 / (1 + 0.6 * x @ M @ x)
        M = M - factors[i] * np.outer(directions[i], directions[i])
    theta = rng.standard_normal(d)
    kernels.follow(X.T.copy(), directions, factors, theta, mean, variance)
    near(mean, X @ theta)
    near(variance, np.einsum("ki,ij,kj->k", X, M, X))


@pytest.mark.jit_off
def test_accumulate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, gram, b = rng.standard_normal((1, 3)), np.zeros((4, 6)), np.zeros((4, 3))
    kernels.accumulate(x, np.array([1, -1, 3]), np.array([2.0, 5, 3]), np.arange(3.0), gram, b)
    for k, (w, v) in enumerate([(0, 0), (2, 0), (0, 0), (3, 2)]):
        near(unpacked(gram[k], 3), w * np.outer(x[0], x[0]))
        near(b[k], v * x[0])


@pytest.mark.jit_off
def test_checks() -> None:
    X, c, items = np.ones((3, 2)), np.zeros(3), np.arange(3)

    def code(X: np.ndarray = X, items: np.ndarray = items, c: np.ndarray = c, n: int = 5) -> int:
        return kernels.check_rows(X, items, c, n)

    assert code() == kernels.OK
    assert code(np.where(np.eye(3, 2) > 0, np.nan, 1.0)) == kernels.BAD_FEATURE
    assert code(c=np.array([0, -np.inf, 0])) == kernels.BAD_CLICK
    assert code(items=np.array([0, 5, 1])) == kernels.BAD_ITEM
    assert code(items=np.array([0, -2, 1])) == kernels.BAD_ITEM
    assert code(items=np.array([1, 0, 1])) == kernels.TWICE
    assert code(items=np.array([-1, 0, -1])) == kernels.OK
    assert code(items=np.array([-1, 0, 1]), c=np.ones(3)) == kernels.CLICK_ON_NOTHING
    assert code(items=np.array([7, 7, 7]), n=0) == kernels.OK
    assert kernels.all_usable(np.array([1.0, -1e99]))
    for bad in (np.nan, np.inf, -1e101):
        assert not kernels.all_usable(np.array([0.0, bad]))


SCRIPT = """
import hashlib, warnings, numpy as np
warnings.simplefilter("ignore")
from cascadenet.sparse.bandits import LinTSRanker, LinUCBRanker
digest = hashlib.sha256()
rng = np.random.default_rng(5)
items, q = rng.standard_normal((9, 5)), [1, 0.6, 0.35]
for kind in (LinUCBRanker, LinTSRanker):
    for extra in ({}, {"forgetting": 0.9}, {"forgetting": 0.9, "keep_prior": False},
                  {"window": 3}, {"refresh": 4}, {"ties": "random"}):
        for mode in ({}, {"items": items}, {"n_items": 9}):
            ranker = kind(5, 3, q, seed=2, **extra, **mode)
            for _ in range(6):
                X = rng.standard_normal((9, 5))
                given = () if "items" in mode else (X[0],) if mode else (X,)
                shown = ranker.rank(*given)
                clicks = (rng.random(3) < 0.5).astype(float)
                rows = None if "items" in mode else X[0] if mode else X[shown]
                ranker.update(rows, clicks, items=shown)
                digest.update(ranker.scores(*given).tobytes())
            for name, array in sorted(ranker.state_dict().items()):
                digest.update(array.tobytes())
print(digest.hexdigest())
"""


def test_compiled_and_interpreted_results_are_the_same_bytes() -> None:
    """Scores and states of every kind of ranker; and a second compiled run is the first."""
    found = []
    for off in ("0", "1", "0"):
        environment = os.environ | {"NUMBA_DISABLE_JIT": off, "PYTHONPATH": str(ROOT)}
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        found.append(run.stdout.strip())
    assert len(found[0]) == 64
    assert found[0] == found[1] == found[2]
