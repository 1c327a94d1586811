"""Properties of the rankers: states that do not depend on how they were reached, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadenet.errors import FormatError
from cascadenet.sparse.bandits import (
    CascadeLinUCBRanker,
    GreedyRanker,
    LinTSRanker,
    LinUCBRanker,
    PBMPIERanker,
    PBMTSRanker,
    PBMUCBRanker,
    RandomRanker,
    RankedBandits,
    TopRankRanker,
    verify,
)

pytestmark = pytest.mark.filterwarnings("ignore:feature vectors have lengths")
Q = np.array([1.0, 0.6, 0.35])
D, K, L = 4, 9, 3
ROUNDS = 12


def rounds(seed: int, n: int = ROUNDS) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Features of all items, items shown and clicks of some rounds."""
    rng = np.random.default_rng(seed)
    return [
        (
            rng.standard_normal((K, D)),
            rng.permutation(K)[:L],
            (rng.random(L) < 0.4).astype(np.float64),
        )
        for _ in range(n)
    ]


def make(mode: str, kind: type = LinUCBRanker, **settings: Any) -> Any:
    """A ranker for per-round features, fixed items or separate models."""
    if kind is LinTSRanker:
        settings.setdefault("seed", 3)
    if mode == "fixed":
        settings["items"] = rounds(99, 1)[0][0]
    if mode == "disjoint":
        settings["n_items"] = K
    return kind(D, L, Q, **settings)


def learn(
    ranker: Any, mode: str, X: np.ndarray, items: np.ndarray, clicks: Any, **more: Any
) -> None:
    if mode == "shared":
        ranker.update(X[items], clicks, **more)
    else:
        ranker.update(None if mode == "fixed" else X[0], clicks, items=items, **more)


def choose(ranker: Any, mode: str, X: np.ndarray) -> np.ndarray:
    return ranker.rank() if mode == "fixed" else ranker.rank(X if mode == "shared" else X[0])


def same_state(a: Any, b: Any) -> None:
    first, second = a.state_dict(), b.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


MODES = pytest.mark.parametrize("mode", ["shared", "fixed", "disjoint"])
KINDS = pytest.mark.parametrize("kind", [LinUCBRanker, LinTSRanker])


# Against an independent solution


def naive_models(
    mode: str, log: list[Any], weighting: Any, ridge: float, prior: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """A and b of every model, row by row as one would write them down."""
    power = 0.0 if weighting == "naive" else weighting
    q_l = np.ones(L) if weighting == "naive" else Q
    n = K if mode == "disjoint" else 1
    models = [(ridge * np.eye(D), ridge * prior) for _ in range(n)]
    items_fixed = rounds(99, 1)[0][0]
    for X, items, clicks in log:
        for slot, item in enumerate(items):
            x = {"shared": X[item], "fixed": items_fixed[item], "disjoint": X[0]}[mode]
            k = item if mode == "disjoint" else 0
            A, b = models[k]
            A = A + q_l[slot] ** (2 - power) * np.outer(x, x)
            models[k] = A, b + q_l[slot] ** (1 - power) * clicks[slot] * x
    return models


@pytest.mark.jit_off
@MODES
@KINDS
@pytest.mark.parametrize("weighting", [0, 1, 2, "naive"])
def test_state_solves_the_normal_equations(
    mode: str, kind: type, weighting: Any, seed: int
) -> None:
    prior = np.array([0.3, -0.1, 0.0, 0.2])
    log = rounds(seed)
    ranker = make(mode, kind, weighting=weighting, ridge=0.7, prior_mean=prior)
    for row in log:
        learn(ranker, mode, *row)
    models = naive_models(mode, log, weighting, 0.7, prior)
    for k, (A, b) in enumerate(models):
        mean, covariance = ranker.posterior(k if mode == "disjoint" else None)
        np.testing.assert_allclose(mean, np.linalg.solve(A, b), rtol=0, atol=1e-12)
        np.testing.assert_allclose(covariance, np.linalg.inv(A), rtol=0, atol=1e-12)
    X = rows = rounds(seed + 1, 1)[0][0]
    if mode == "fixed":
        rows = rounds(99, 1)[0][0]
    z = np.random.default_rng(seed).standard_normal(K if mode == "disjoint" else D)
    wanted = np.empty(K)
    for k in range(K):
        A, b = models[k if mode == "disjoint" else 0]
        x = X[0] if mode == "disjoint" else rows[k]
        theta = np.linalg.solve(A, b)
        width = np.sqrt(x @ np.linalg.solve(A, x))
        if kind is LinUCBRanker:
            wanted[k] = x @ theta + width
        elif mode == "disjoint":
            wanted[k] = x @ theta + width * z[k]
        else:
            wanted[k] = x @ (theta + np.linalg.solve(np.linalg.cholesky(A).T, z))
    arguments = () if mode == "fixed" else (X if mode == "shared" else X[0],)
    extra = {"z": z} if kind is LinTSRanker else {}
    np.testing.assert_allclose(ranker.scores(*arguments, **extra), wanted, rtol=0, atol=1e-12)
    assert ranker.rank(*arguments, **extra).tolist() == np.argsort(-wanted)[:L].tolist()


@pytest.mark.parametrize("samples", [False, True])
@pytest.mark.parametrize("n_features", [5, 50])
def test_theta_against_qr(samples: bool, n_features: int, seed: int) -> None:
    assert verify.theta_error(n_features, 2000, samples=samples, seed=seed) <= 1e-12


def test_widths_after_many_updates(seed: int) -> None:
    assert verify.width_error(8, 60_000, seed=seed) <= 1e-10


@pytest.mark.parametrize("keep_prior", [False, True])
def test_definite_after_many_forgetful_rounds(keep_prior: bool, seed: int) -> None:
    """45 000 rounds: an inverse that lost its symmetry would have diverged after 36 000."""
    least, error = verify.least_eigenvalue(45_000, keep_prior=keep_prior, seed=seed)
    assert least > 0
    assert error < 1e-10


def test_verification_reports(capsys: pytest.CaptureFixture[str]) -> None:
    """Only the regret needs its full length; a short run may miss its limit."""
    code = verify.main(["--scale", "0.005", "--seeds", "1"])
    lines = capsys.readouterr().out.splitlines()
    numeric = [line for line in lines if "limit" in line and "ratio of regret" not in line]
    assert len(numeric) == 20
    assert all(line.startswith("ok") for line in numeric)
    assert code == int(any(line.startswith("MISS") for line in lines))


def test_one_hot_without_prior_counts_clicks() -> None:
    """p = 1, one-hot features and a vanishing ridge give clicks over weighted impressions."""
    ranker = LinUCBRanker(K, L, Q, weighting=1, ridge=1e-14, items=np.eye(K))
    counts = PBMUCBRanker(K, L, Q)
    for _, items, clicks in rounds(5, 40):
        ranker.update(None, clicks, items=items)
        counts.update(None, clicks, items=items)
    np.testing.assert_allclose(ranker.posterior()[0], counts.estimates(), rtol=0, atol=1e-12)


# States do not depend on the way


@pytest.mark.jit_off
@MODES
@KINDS
@pytest.mark.parametrize("extra", [{}, {"forgetting": 0.9}, {"window": 4}, {"refresh": 5}])
def test_batches_end_in_the_same_state(mode: str, kind: type, extra: dict, seed: int) -> None:
    now, later = make(mode, kind, **extra), make(mode, kind, batch=5, **extra)
    for row in rounds(seed):
        learn(now, mode, *row)
        learn(later, mode, *row)
    assert len(later._pending) == ROUNDS % 5
    later.flush()
    for name, array in now.state_dict().items():
        if name != "settings":
            np.testing.assert_array_equal(later.state_dict()[name], array, err_msg=name)


@pytest.mark.jit_off
@MODES
@pytest.mark.parametrize(
    "extra", [{}, {"forgetting": 0.9}, {"forgetting": 0.9, "keep_prior": False}, {"window": 4},
              {"batch": 4}]
)  # fmt: skip
@KINDS
def test_late_clicks_catch_up(mode: str, kind: type, extra: dict, seed: int) -> None:
    """Learning no click and later the click is learning the click at once."""
    prompt, late = make(mode, kind, **extra), make(mode, kind, **extra)
    fixed = rounds(99, 1)[0][0]
    missing = []
    for t, (X, items, clicks) in enumerate(rounds(seed)):
        learn(prompt, mode, X, items, clicks)
        learn(late, mode, X, items, np.zeros(L))
        missing += [(t, slot, items[slot], X) for slot in np.flatnonzero(clicks)]
    for t, slot, item, X in missing:
        shown = {"shared": X[item], "fixed": None, "disjoint": X[0]}[mode]
        more = {} if mode == "shared" else {"item": int(item)}
        kept = late.update_late_click(shown, int(slot), age=ROUNDS - 1 - t, **more)
        assert kept == (extra.get("window") is None or ROUNDS - 1 - t < 4)
    for ranker in (prompt, late):
        ranker.flush()
    for k in range(K if mode == "disjoint" else 1):
        model = k if mode == "disjoint" else None
        np.testing.assert_allclose(
            late.posterior(model)[0], prompt.posterior(model)[0], rtol=0, atol=1e-12
        )
    if mode == "fixed" and kind is LinUCBRanker:
        np.testing.assert_allclose(late.scores(), prompt.scores(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(late._mean, fixed @ late.posterior()[0], rtol=0, atol=1e-12)


@given(order=st.permutations(range(L)))
def test_rows_commute(order: list[int]) -> None:
    one, other = make("shared"), make("shared")
    for X, items, clicks in rounds(8, 5):
        one.update(X[items], clicks)
        other.update(X[items[order]], clicks[order], slots=order)
    np.testing.assert_allclose(one.posterior()[0], other.posterior()[0], rtol=0, atol=1e-13)


@pytest.mark.jit_off
@MODES
def test_window_is_its_last_rounds(mode: str, seed: int) -> None:
    whole, short = make(mode, window=5), make(mode)
    log = rounds(seed)
    for row in log:
        learn(whole, mode, *row)
    for row in log[-5:]:
        learn(short, mode, *row)
    for k in range(K if mode == "disjoint" else 1):
        model = k if mode == "disjoint" else None
        for a, b in zip(whole.posterior(model), short.posterior(model), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.jit_off
@MODES
@KINDS
@pytest.mark.parametrize(
    "extra",
    [{}, {"window": 4}, {"batch": 5, "ties": "random", "seed": 11}, {"forgetting": 0.95}],
)
def test_saved_rankers_go_on_exactly(
    mode: str, kind: type, extra: dict, seed: int, tmp_path: Any
) -> None:
    log = rounds(seed)
    ranker = make(mode, kind, **extra)
    for row in log[:7]:
        choose(ranker, mode, row[0])
        learn(ranker, mode, *row)
    assert all(type(array) is np.ndarray for array in ranker.state_dict().values())
    ranker.save(tmp_path / "ranker.npz")
    again = kind.load(tmp_path / "ranker.npz")
    same_state(ranker, again)
    for row in log[7:]:
        lists = [choose(r, mode, row[0]) for r in (ranker, again)]
        assert lists[0].tolist() == lists[1].tolist()
        for r in (ranker, again):
            learn(r, mode, *row)
    same_state(ranker, again)


def test_damaged_files_are_format_errors(tmp_path: Any) -> None:
    path = tmp_path / "ranker.npz"
    make("shared").save(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:200], whole[:-30], b"PK" + whole[50:]):
        path.write_bytes(damaged)
        with pytest.raises(FormatError):
            LinUCBRanker.load(path)
    path.write_bytes(whole)
    with pytest.raises(FormatError, match="LinTSRanker"):
        LinTSRanker.load(path)
    arrays = make("shared").state_dict()
    for name, array in {"theta": np.zeros((2, D)), "gram": np.full((1, 10), np.nan)}.items():
        with pytest.raises(FormatError, match=name):
            LinUCBRanker.from_state_dict(arrays | {name: array})
    with pytest.raises(FileNotFoundError):
        LinUCBRanker.load(tmp_path / "none.npz")


def test_greedy_and_cascade_are_stored_too(tmp_path: Any) -> None:
    for ranker in (GreedyRanker(D, L, Q), CascadeLinUCBRanker(D, L, alpha=0.3)):
        X, items, clicks = rounds(2, 1)[0]
        ranker.update(X[items], clicks)
        ranker.save(tmp_path / "r.npz")
        same_state(ranker, type(ranker).load(tmp_path / "r.npz"))


# Lists


@pytest.mark.jit_off
def test_best_item_goes_where_one_looks_most() -> None:
    X = np.eye(4)
    ranker = LinUCBRanker(4, 3, [0.2, 1.0, 0.5], alpha=0.0, prior_mean=[0.1, 0.4, 0.3, 0.2])
    assert ranker.rank(X).tolist() == [3, 1, 2]
    naive = LinUCBRanker(
        4, 3, [0.2, 1.0, 0.5], alpha=0.0, prior_mean=[0.1, 0.4, 0.3, 0.2], weighting="naive"
    )
    assert naive.rank(X).tolist() == [1, 2, 3]


@pytest.mark.jit_off
@given(
    score=st.lists(st.integers(-3, 3), min_size=3, max_size=12),
    key=st.randoms(use_true_random=False),
)
def test_order_is_by_score_then_key(score: list[int], key: Any) -> None:
    from cascadenet.sparse.bandits import _kernels

    value, order = np.array(score, np.float64), np.array([1, 0, 2])
    for keys in (np.empty(0), np.array([float(key.randrange(3)) for _ in score])):
        found = _kernels.top_items(value, keys, order)
        tie = keys if keys.size else np.zeros(value.size)
        wanted = np.lexsort((np.arange(value.size), tie, -value))[:3]
        assert found[order].tolist() == wanted.tolist()


def test_random_ties_follow_the_seed() -> None:
    X = np.ones((K, D))
    first, second, third = (
        [LinUCBRanker(D, L, Q, ties="random", seed=s).rank(X).tolist() for _ in range(2)]
        for s in (1, 1, 2)
    )
    assert first == second
    assert first != third
    assert LinUCBRanker(D, L, Q).rank(X).tolist() == [0, 1, 2]


@pytest.mark.parametrize("mode", ["shared", "disjoint"])
def test_draws_have_the_posterior_law(mode: str, seed: int) -> None:
    """Means and covariance of 4000 draws; false alarms below 1e-4 by 4.5 standard errors."""
    ranker = make(mode, LinTSRanker, scale=0.5, seed=seed)
    for row in rounds(seed, 6):
        learn(ranker, mode, *row)
    X = rounds(seed + 1, 1)[0][0]
    draws = np.array([ranker.scores(X if mode == "shared" else X[0]) for _ in range(4000)])
    if mode == "shared":
        mean, covariance = ranker.posterior()
        mean, covariance = X @ mean, X @ covariance @ X.T
    else:
        posterior = [ranker.posterior(k) for k in range(K)]
        mean = np.array([X[0] @ m for m, _ in posterior])
        covariance = np.diag([X[0] @ c @ X[0] for _, c in posterior])
    spread = np.sqrt(np.diag(covariance))
    assert (np.abs(draws.mean(axis=0) - mean) < 4.5 * spread / np.sqrt(4000)).all()
    error = np.sqrt((covariance**2 + np.outer(spread, spread) ** 2) / 4000)
    assert (np.abs(np.cov(draws.T) - covariance) < 4.5 * error).all()
    shifted = np.abs(draws.mean(axis=0) - mean - 0.2 * spread)
    assert (shifted > 4.5 * spread / np.sqrt(4000)).any()


def test_cascade_takes_no_examination() -> None:
    for settings in ({"weighting": 1}, {"examination": Q}):
        with pytest.raises(ValueError, match="cascade"):
            CascadeLinUCBRanker(D, L, **settings)


def test_long_features_at_the_start_are_reported() -> None:
    with pytest.warns(UserWarning, match="lengths from 1 to 2"):
        LinUCBRanker(2, 2, [1, 0.5]).rank([[1, 0], [0, 2], [0, 1]])


# Refusals leave everything as it was

BAD = {
    "nan feature": (lambda r, X, i, c: r.update(np.where(X[i] > 9, X[i], np.nan), c), "finite"),
    "infinite click": (lambda r, X, i, c: r.update(X[i], [np.inf, 0, 0]), "finite"),
    "huge feature": (lambda r, X, i, c: r.update(X[i] * 1e120, c), "below"),
    "short clicks": (lambda r, X, i, c: r.update(X[i], c[:2]), "3 entries"),
    "wide features": (lambda r, X, i, c: r.update(X[i][:, :2], c), "4 columns"),
    "few rows": (lambda r, X, i, c: r.update(X[i[:2]], c), "3 rows"),
    "flat features": (lambda r, X, i, c: r.update(X[0], c), "dimension"),
    "item twice": (lambda r, X, i, c: r.update(X[i], c, items=[1, 1, 2]), "distinct"),
    "click on nothing": (lambda r, X, i, c: r.update(X[i], [0, 1, 0], items=[0, -1, 2]), "shown"),
    "slot twice": (lambda r, X, i, c: r.update(X[i], c, slots=[0, 0, 1]), "distinct"),
    "slot outside": (lambda r, X, i, c: r.update(X[i], c, slots=[0, 1, 3]), "slots"),
    "zero q": (lambda r, X, i, c: r.update(X[i], c, examination=[1, 0, 0.5]), r"\(0, 1\]"),
    "large q": (lambda r, X, i, c: r.update(X[i], c, examination=[1, 1.1, 0.5]), r"\(0, 1\]"),
    "nan q": (lambda r, X, i, c: r.update(X[i], c, examination=[1, np.nan, 0.5]), r"\(0, 1\]"),
    "few candidates": (lambda r, X, i, c: r.rank(X[:2]), "at least n_slots"),
    "nan candidate": (lambda r, X, i, c: r.rank(np.where(X > 9, X, np.nan)), "finite"),
    "no candidates": (lambda r, X, i, c: r.rank(), "must be given"),
    "ragged": (lambda r, X, i, c: r.update([[1, 2], [3]], c), "ragged"),
    "new q": (lambda r, X, i, c: r.set_examination([1, 2, 3]), r"\(0, 1\]"),
    "old age": (lambda r, X, i, c: r.update_late_click(X[0], 0, age=99), "age"),
    "late slot": (lambda r, X, i, c: r.update_late_click(X[0], 7), "slots"),
    "late nan": (lambda r, X, i, c: r.update_late_click(X[0] * np.nan, 0), "finite"),
}


@pytest.mark.jit_off
@KINDS
@pytest.mark.parametrize("name", BAD)
def test_bad_input_changes_nothing(name: str, kind: type, seed: int) -> None:
    act, message = BAD[name]
    ranker, twin = (make("shared", kind, seed=4) for _ in range(2))
    for row in rounds(seed, 3):
        learn(ranker, "shared", *row)
        learn(twin, "shared", *row)
    with pytest.raises((ValueError, TypeError), match=message):
        act(ranker, *rounds(seed + 1, 1)[0])
    same_state(ranker, twin)


@pytest.mark.parametrize("mode", ["fixed", "disjoint"])
@pytest.mark.parametrize(
    ("items", "clicks"),
    [([0, 1, K], [0, 0, 0]), ([0, 1, 1], [0, 0, 0]), ([0, 1, -1], [0, 0, 1]), ([0, 1], [0, 0]),
     ([0, 1, -2], [0, 0, 0]), (None, [0, 0, 0]), ([0.0, 1.0, 2.0], [0, 0, 0])],
)  # fmt: skip
def test_bad_items_change_nothing(mode: str, items: Any, clicks: Any) -> None:
    ranker, twin = make(mode), make(mode)
    context = None if mode == "fixed" else np.ones(D)
    with pytest.raises((ValueError, TypeError)):
        ranker.update(context, clicks, items=items)
    same_state(ranker, twin)


def test_late_click_on_what_was_not_shown() -> None:
    ranker = make("disjoint", window=4)
    X, items, clicks = rounds(1, 1)[0]
    ranker.update(X[0], clicks, items=items)
    twin = make("disjoint", window=4)
    twin.update(X[0], clicks, items=items)
    other = next(k for k in range(K) if k not in items)
    with pytest.raises(ValueError, match="did not show"):
        ranker.update_late_click(X[0], 0, item=other)
    same_state(ranker, twin)


def test_singular_regression_changes_nothing() -> None:
    ranker, twin = make("shared", forgetting=0.9), make("shared", forgetting=0.9)
    with pytest.raises(FloatingPointError, match="scale the features"):
        ranker.update(np.full((L, D), 1e60), np.zeros(L))
    same_state(ranker, twin)


def test_lost_prior_is_reported() -> None:
    ranker = make("shared", forgetting=0.01, keep_prior=False)
    x = np.zeros((L, D))
    x[:, 0] = 1.0
    with pytest.raises(FloatingPointError, match="keep_prior"):
        for _ in range(200):
            ranker.update(x, np.zeros(L))
    assert np.isfinite(ranker.state_dict()["state"]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"examination": [1, 0.5]}, "3 entries"),
        ({"examination": [1, 0.5, 0]}, r"\(0, 1\]"),
        ({"ridge": 0}, "ridge"),
        ({"alpha": -1}, "alpha"),
        ({"alpha": np.nan}, "alpha"),
        ({"weighting": 3}, "weighting"),
        ({"weighting": True}, "weighting"),
        ({"forgetting": 0.0}, "forgetting"),
        ({"forgetting": 0.9, "window": 3}, "choose one"),
        ({"window": 0}, "window"),
        ({"batch": 1.5}, "batch"),
        ({"n_items": 2}, "n_slots"),
        ({"items": np.ones((2, D))}, "n_slots"),
        ({"items": np.ones((5, D)), "n_items": 5}, "choose one"),
        ({"items": np.ones((5, 2))}, "columns"),
        ({"prior_mean": [1.0]}, "prior_mean"),
        ({"ties": "random"}, "seed"),
        ({"ties": "alphabet"}, "ties"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    q = settings.pop("examination", Q)
    with pytest.raises((ValueError, TypeError), match=message):
        LinUCBRanker(D, L, q, **settings)


# Rankers without features


def free(seed: int) -> list[Any]:
    return [
        PBMUCBRanker(K, L, Q),
        PBMTSRanker(K, L, Q, seed=seed),
        PBMPIERanker(K, L, Q, seed=seed),
        TopRankRanker(K, L, seed=seed),
        RankedBandits(K, L, seed=seed),
        RandomRanker(L, K, seed=seed),
    ]


@pytest.mark.parametrize("i", range(6))
def test_context_free_rankers_find_the_best(i: int, seed: int) -> None:
    """Distinct items always; far better than random in an easy world, except for random."""
    mu = np.array([0.9, 0.7, 0.5] + [0.02] * (K - 3))
    rng = np.random.default_rng(seed)
    ranker = free(seed)[i]
    lost = 0.0
    for t in range(3000):
        ranking = ranker.rank()
        assert np.unique(ranking).size == L
        if t >= 2500:
            lost += Q @ (mu[:L] - mu[ranking])
        ranker.update(None, (rng.random(L) < Q * mu[ranking]).astype(float), items=ranking)
    share = lost / (500 * (Q @ (mu[:L] - mu.mean())))
    if isinstance(ranker, RandomRanker):
        assert share > 0.8
    else:
        assert share < 0.3


@pytest.mark.parametrize("i", range(5))
def test_context_free_rankers_refuse(i: int, seed: int) -> None:
    ranker = free(seed)[i]
    shown = ranker.rank()
    before = {k: v.copy() for k, v in vars(ranker).items() if isinstance(v, np.ndarray)}
    for items, clicks in (
        (shown[:2], [0, 0]), ([0, 0, 1], [0, 0, 0]), ([0, 1, K], [0, 0, 0]), (shown, [0, 2, 0]),
        (shown, [0, np.nan, 0]), (shown, [0, 0]),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError)):
            ranker.update(None, clicks, items=items)
    for name, array in before.items():
        np.testing.assert_array_equal(getattr(ranker, name), array)


def test_posterior_draws_follow_the_density(seed: int) -> None:
    """PBM-TS draws against numerical moments; false alarms below 1e-4 by 4.5 standard errors."""
    ranker = PBMTSRanker(3, 3, Q, seed=seed)
    ranker.set_counts([[10, 4, 6], [3, 8, 5], [0, 2, 9]], [[5, 1, 1], [0, 3, 1], [0, 1, 2]])
    mean, spread = ranker.posterior_moments()
    draws = np.array([ranker.scores() for _ in range(5000)])
    assert (np.abs(draws.mean(axis=0) - mean) < 4.5 * spread / np.sqrt(5000)).all()
    assert np.abs(draws.std(axis=0) / spread - 1).max() < 0.06


def test_toprank_orders_blocks() -> None:
    ranker = TopRankRanker(4, 2, delta=0.1, seed=1)
    for _ in range(200):
        ranker.update(None, [1, 0], items=[0, 1])
    assert ranker.blocks[0] == 0
    assert (ranker.blocks[1:] == 1).all()
    assert (ranker.differences == -ranker.differences.T).all()
