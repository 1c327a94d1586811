"""The long checks: a million updates, a million forgetful rounds, regret over ten seeds.

``python -m cascadenet.sparse.bandits.verify`` takes a few minutes and exits with 1 when one of
them misses its limit; ``--scale 0.05`` is the quick version.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import numpy as np

from cascadenet.sparse.bandits.experiment import run_experiment, summarise
from cascadenet.sparse.bandits.rankers import LinTSRanker, LinUCBRanker
from cascadenet.sparse.bandits.worlds import harmonic, linear_world, ready_rankers

if TYPE_CHECKING:
    import pandas as pd

    from cascadenet.sparse.bandits.rankers import _Stored

SEED = 20200430
UPDATES = 1_000_000
ROUNDS = 30_000
SEEDS = 10
LIMITS = {
    "theta": 1e-12, "widths": 1e-8, "definite": 0.0, "linucb ratio": 0.25, "lints ratio": 0.4,
}  # fmt: skip


def ridge_by_qr(rows: np.ndarray, targets: np.ndarray, ridge: float) -> np.ndarray:
    """Ridge regression as least squares of an augmented system, solved by QR."""
    d = rows.shape[1]
    full = np.vstack([rows, np.sqrt(ridge) * np.eye(d)])
    q, r = np.linalg.qr(full)
    return np.linalg.solve(r, q.T @ np.concatenate([targets, np.zeros(d)]))


def theta_error(
    n_features: int, n_rounds: int, *, weighting: int = 0, samples: bool = False, seed: int = SEED
) -> float:
    """Largest difference of a ranker's theta from `ridge_by_qr` after so many rounds of 5."""
    rng = np.random.default_rng(seed)
    q = harmonic(5)
    settings = {"weighting": weighting}
    ranker: _Stored
    if samples:
        ranker = LinTSRanker(n_features, 5, q, seed=0, **settings)
    else:
        ranker = LinUCBRanker(n_features, 5, q, **settings)
    X = rng.standard_normal((n_rounds, 5, n_features)) / np.sqrt(n_features)
    clicks = (rng.random((n_rounds, 5)) < 0.3 * q).astype(np.float64)
    for shown, clicked in zip(X, clicks, strict=True):
        ranker.update(shown, clicked)
    # sqrt(w) (c - q x.theta) with w = q^-p
    root = np.tile(q ** (-0.5 * weighting), n_rounds)
    rows = X.reshape(-1, n_features) * (root * np.tile(q, n_rounds))[:, None]
    expected = ridge_by_qr(rows, root * clicks.reshape(-1), 1.0)
    return float(np.abs(ranker.posterior()[0] - expected).max())


def width_error(n_features: int, n_updates: int, *, n_items: int = 40, seed: int = SEED) -> float:
    """Largest error of the carried widths of fixed items in a bandit loop, against fresh ones.

    Looked at many times on the way, since the error grows between factorisations.

    Features have very different scales, which is what makes rounding errors grow.
    """
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((n_items, n_features)) * np.logspace(0, -2, n_features)
    mu = np.clip(0.2 + 0.1 * items[:, 0], 0.01, 0.5)
    q = harmonic(5)
    ranker = LinUCBRanker(n_features, 5, q, alpha=0.5, items=items)
    ranker._warned = True  # the unequal lengths are meant
    n_rounds, worst = max(n_updates // 5, 1), 0.0
    # an odd stride over most of the run meets all ages of the last factorisation
    looks = set(range(n_rounds // 10, n_rounds, n_rounds // 40 + 1)) | {n_rounds - 1}
    for t in range(n_rounds):
        ranking = ranker.rank()
        ranker.update(None, (rng.random(5) < q * mu[ranking]).astype(np.float64), items=ranking)
        if t in looks:
            exact = np.sqrt(np.einsum("kd,de,ke->k", items, ranker.posterior()[1], items))
            worst = max(worst, float(np.abs(np.sqrt(ranker._variance) - exact).max()))
    return worst


def least_eigenvalue(
    n_rounds: int, *, n_features: int = 5, keep_prior: bool = True, seed: int = SEED
) -> tuple[float, float]:
    """Smallest eigenvalue of the inverse after forgetful rounds, and its largest relative error."""
    rng = np.random.default_rng(seed)
    ranker = LinUCBRanker(
        n_features, 5, harmonic(5), forgetting=0.999, keep_prior=keep_prior, refresh=10**9
    )
    clicks = np.zeros(5)
    for _ in range(n_rounds):
        ranker.update(rng.standard_normal((5, n_features)), clicks)
    exact = ranker.posterior()[1]
    inverse = np.zeros_like(exact)
    inverse[np.triu_indices(n_features)] = ranker._state[0]
    inverse += np.triu(inverse, 1).T
    error = float(np.abs(inverse - exact).max() / np.abs(exact).max())
    return float(np.linalg.eigvalsh(inverse)[0]), error


def regret_ratios(n_rounds: int, n_seeds: int) -> tuple[dict[str, float], pd.DataFrame]:
    """Regret of the position-based rankers over that of the naive ones, alpha = v = 0.5."""
    makers = ready_rankers(("linucb-pbm", "linucb-naive", "lints-pbm", "lints-naive"), alpha=0.5)
    table = summarise(run_experiment(makers, linear_world, n_rounds, range(n_seeds), points=1))
    mean = table.set_index("ranker")["regret"]
    ratios = {
        "linucb ratio": float(mean["linucb-pbm"] / mean["linucb-naive"]),
        "lints ratio": float(mean["lints-pbm"] / mean["lints-naive"]),
    }
    return ratios, table


def main(arguments: list[str] | None = None) -> int:
    """Run the checks and write them to standard output; 0 when all hold."""
    parser = argparse.ArgumentParser(prog="cascadenet.sparse.bandits.verify", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full length (1)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of the regrets ({SEEDS})")
    options = parser.parse_args(arguments)
    if not 0 < options.scale <= 1 or options.seeds < 1:
        parser.error("--scale must be in (0, 1] and --seeds at least 1")
    say, good = sys.stdout.write, True
    updates = max(int(UPDATES * options.scale), 1000)

    def check(name: str, value: float, text: str) -> None:
        nonlocal good
        held = value > 0.0 if name == "definite" else value <= LIMITS[name]
        good &= held
        say(f"{'ok  ' if held else 'MISS'} {text}: {value:.3g} (limit {LIMITS[name]:g})\n")

    theta_rounds = max(int(4000 * options.scale), 200)
    for d in (5, 10, 50, 100):
        for p in (0, 1, 2):
            error = theta_error(d, theta_rounds, weighting=p)
            check(
                "theta",
                error,
                f"theta of LinUCB against QR, d = {d}, p = {p}, {5 * theta_rounds} rows",
            )
        error = theta_error(d, theta_rounds, samples=True)
        check("theta", error, f"theta of LinTS against QR, d = {d}, {5 * theta_rounds} rows")
    for d in (10, 20):
        check("widths", width_error(d, updates), f"widths after {updates} updates, d = {d}")
    for keep in (True, False):
        least, error = least_eigenvalue(updates, keep_prior=keep)
        text = f"least eigenvalue after {updates} rounds with forgetting 0.999, keep_prior={keep}"
        check("definite", least, f"{text} (relative error {error:.1e})")
    rounds = max(int(ROUNDS * options.scale), 100)
    ratios, table = regret_ratios(rounds, options.seeds)
    columns = ["ranker", "seeds", "regret", "regret_se", "regret_median", "ndcg"]
    say(table[columns].to_string(index=False, float_format=lambda v: f"{v:.4g}") + "\n")
    for name, ratio in ratios.items():
        check(name, ratio, f"{name} of regret to naive, {rounds} rounds")
    say("all hold\n" if good else "NOT all hold\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
