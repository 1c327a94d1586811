"""Risk curves as tables: over kappa, over the number of features, over kappa and sparsity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.theory._check import METHODS, Points, bounded, chosen, finite_array, points
from cascadenet.sparse.theory.dense import Dense, dense_limit, dense_summary
from cascadenet.sparse.theory.laws import Law
from cascadenet.sparse.theory.pruned import (
    block_risk,
    fill_keep,
    known_masks,
    known_risk,
    stage_one,
)
from cascadenet.sparse.theory.random_features import (
    Activation,
    activation_coefficients,
    random_feature_law,
    random_feature_risk,
)
from cascadenet.sparse.theory.retrained import known_refit_risk, refit_risk

if TYPE_CHECKING:
    import pandas as pd

FEW = 12  # components up to which the keep probabilities are included unasked


def curve(
    law: Law,
    kappa: ArrayLike,
    noise_variance: float,
    kept_fraction: ArrayLike | None = None,
    *,
    kept_per_sample: float | None = None,
    methods: Sequence[str] = METHODS,
    retrain: bool = True,
    ridge: float = 0.0,
    retrain_ridge: float = 0.0,
    keep: bool | None = None,
) -> pd.DataFrame:
    """Every risk over kappa, with thresholds, keep probabilities, bias and variance.

    Parameters
    ----------
    law : Law
    kappa : array_like, shape (K,)
        Features per sample, above 0.
    noise_variance : float
    kept_fraction : array_like, optional
        Kept coefficients over p, in (0, 1]: one, or one per kappa.
    kept_per_sample : float, optional
        Kept coefficients over n instead; a model with fewer features keeps all. Without either
        the table is that of the dense estimator.
    methods : sequence of str
        Pruners among "magnitude", "hessian", "oracle".
    retrain : bool
        Whether to add the refitted risks.
    ridge, retrain_ridge : float
        Penalties of the two fits.
    keep : bool, optional
        Whether to add the keep probability of every component; by default for at most 12.

    Returns
    -------
    pandas.DataFrame
        One row per kappa. ``kappa``, ``kept_fraction``, ``kept_per_sample``; ``dense`` with
        ``bias``, ``variance``, ``eta``, ``degrees_of_freedom`` (over n), ``train_error``; per
        method M its risk ``M``, ``retrained_M``, ``threshold_M`` (in units of the score) and
        ``keep_M_k``. ``retrained_oracle`` is the small model of the same size.

    Raises
    ------
    ValueError
        An argument out of range, or both ways of giving the sparsity.
    """
    import pandas as pd

    kappa = np.atleast_1d(bounded("kappa", kappa, 0.0, open_low=True))
    pruning = kept_fraction is not None or kept_per_sample is not None
    if kept_fraction is not None and kept_per_sample is not None:
        raise ValueError("kept_fraction and kept_per_sample must not both be given")
    if kept_per_sample is not None:
        load = bounded("kept_per_sample", kept_per_sample, 0.0, open_low=True)
        kept_fraction = np.minimum(1.0, load / kappa)
    fraction = 1.0 if kept_fraction is None else kept_fraction
    problems, shape = points(kappa, noise_variance, fraction, ridge, retrain_ridge)
    if len(shape) != 1:
        raise ValueError(f"kappa must be a vector; got shape {shape}")
    for name in methods:
        chosen("methods", name, METHODS)
    summary = dense_summary(law, problems.kappa, problems.noise, ridge=problems.ridge)
    columns: dict[str, np.ndarray] = {"kappa": problems.kappa}
    if pruning:
        columns |= {"kept_fraction": problems.kept, "kept_per_sample": problems.kept * kappa}
    columns["dense"] = summary["gamma"]
    for name in ("bias", "variance", "eta", "degrees_of_freedom", "train_error"):
        columns[name] = summary[name]
    if pruning:
        dense = dense_limit(law, problems)
        keep = law.n_components <= FEW if keep is None else keep
        for name in methods:
            columns |= _method_columns(law, problems, dense, name, retrain, keep)
    return pd.DataFrame(columns)


def _method_columns(
    law: Law, problems: Points, dense: Dense, method: str, retrain: bool, keep: bool
) -> dict[str, np.ndarray]:
    """Risks, threshold and keep probabilities of one pruner, each (K,)."""
    count = problems.kappa.size
    risk, refit, threshold = np.empty(count), np.empty(count), np.empty(count)
    table = np.zeros((count, law.n_components))
    for block in stage_one(law, problems, dense, method) if method != "oracle" else ():
        risk[block.rows] = block_risk(law, problems, dense, block)
        threshold[block.rows] = block.threshold
        if retrain:
            refit[block.rows] = refit_risk(law, problems, dense, block)
        if keep:
            fill_keep(law, table, block.rows, block.mask.keep, problems.kept)
    for known in known_masks(law, problems, dense, method):
        risk[known.rows] = known_risk(law, dense, known)
        threshold[known.rows] = known.threshold
        if retrain:
            refit[known.rows] = known_refit_risk(law, problems, known)
        if keep:
            table[known.rows[:, None], law.spectrum.index] = known.keep
            table[np.ix_(known.rows, law.eigenvalue == 0)] = known.rest[:, None]
    out = {method: risk}
    if retrain:
        out[f"retrained_{method}"] = refit
    out[f"threshold_{method}"] = threshold
    if keep:
        out |= {f"keep_{method}_{k}": table[:, k] for k in range(law.n_components)}
    return out


def feature_curve(
    eigenvalues: ArrayLike,
    coefficients: ArrayLike,
    n_samples: int,
    noise_variance: float,
    n_kept: int | None = None,
    *,
    features: ArrayLike | None = None,
    methods: Sequence[str] = METHODS,
    retrain: bool = True,
    ridge: float = 0.0,
    retrain_ridge: float = 0.0,
) -> pd.DataFrame:
    """Risk against the number of features of nested models on fixed data.

    The D candidate features are sorted by ``Λ b²``; a model uses the first p of them, and what
    the others carry becomes noise.

    Parameters
    ----------
    eigenvalues, coefficients : array_like, shape (D,)
        Variances and true, unscaled coefficients of the candidates.
    n_samples : int
        n, at least 1.
    noise_variance : float
    n_kept : int, optional
        Coefficients s that survive pruning; a model with p ≤ s keeps all. Without it the table
        is that of the dense estimator.
    features : array_like of int, optional
        Values of p; by default at most 200 from 1 to D.
    methods, retrain, ridge, retrain_ridge
        As for `curve`.

    Returns
    -------
    pandas.DataFrame
        ``features`` and ``noise_variance`` (with the omitted signal), then the columns of
        `curve`, without keep probabilities.
    """
    import pandas as pd

    full = Law.from_data(eigenvalues, coefficients)
    size = full.n_components
    b = full.mean / np.sqrt(size)
    energy = full.eigenvalue * b**2
    order = np.argsort(-energy, kind="stable")
    left = np.append(np.cumsum(energy[order][::-1])[::-1], 0.0)
    if features is None:
        features = np.unique(np.linspace(1, size, min(size, 200)).round())
    counts = np.atleast_1d(bounded("features", features, 1, size)).astype(np.int64)
    n = int(bounded("n_samples", n_samples, 1))
    noise = float(bounded("noise_variance", noise_variance, 0.0))
    if n_kept is not None:
        n_kept = int(bounded("n_kept", n_kept, 1))
    parts = []
    for p in counts:
        used = order[:p]
        law = Law.from_data(full.eigenvalue[used], b[used])
        kept = None if n_kept is None else min(1.0, n_kept / p)
        part = curve(
            law, p / n, noise + left[p], kept,
            methods=methods, retrain=retrain, ridge=ridge, retrain_ridge=retrain_ridge, keep=False,
        )  # fmt: skip
        parts.append(part.assign(features=p, noise_variance=noise + left[p]))
    table = pd.concat(parts, ignore_index=True)
    front = ["features", "noise_variance"]
    return table[front + [name for name in table if name not in front]]


def random_feature_curve(
    activation: Activation,
    features_per_input: ArrayLike,
    samples_per_input: float,
    noise_variance: float,
    kept_fraction: float | None = None,
    *,
    ridge: float = 0.0,
    signal: float = 1.0,
    nonlinear: float = 0.0,
) -> pd.DataFrame:
    """Risks of random-features models over the number of features.

    Parameters
    ----------
    activation, samples_per_input, noise_variance, ridge, signal, nonlinear
        As for `cascadenet.sparse.theory.random_feature_risk`.
    features_per_input : array_like
        Values of psi1 = p/d.
    kept_fraction : float, optional
        Kept second-layer weights over p; adds the pruned risks.

    Returns
    -------
    pandas.DataFrame
        ``features_per_input``, ``kappa`` (features per sample), ``noise_variance`` of the
        equivalent problem, ``dense``, and with pruning ``magnitude`` and ``oracle``.
    """
    import pandas as pd

    psi1 = np.atleast_1d(bounded("features_per_input", features_per_input, 0.0, open_low=True))
    psi2 = float(bounded("samples_per_input", samples_per_input, 0.0, open_low=True))
    hermite = activation_coefficients(activation)
    part = {"signal": signal, "nonlinear": nonlinear}
    columns = {
        "features_per_input": psi1,
        "kappa": psi1 / psi2,
        "noise_variance": np.array(
            [random_feature_law(hermite, x, noise_variance, **part).noise_variance for x in psi1]
        ),
    }
    names = ("dense",) if kept_fraction is None else ("dense", "magnitude", "oracle")
    for name in names:
        columns[name] = random_feature_risk(
            hermite, psi1, psi2, noise_variance,
            kept_fraction=1.0 if kept_fraction is None else kept_fraction,
            method=name, ridge=ridge, **part,
        )  # fmt: skip
    return pd.DataFrame(columns)


def sparsity_grid(
    law: Law,
    kappa: ArrayLike,
    kept_per_sample: ArrayLike,
    noise_variance: float,
    *,
    method: str = "magnitude",
    retrain: bool = False,
    ridge: float = 0.0,
) -> pd.DataFrame:
    """Train-large-then-prune against training small, over model size and sparsity.

    Parameters
    ----------
    law : Law
    kappa : array_like, shape (K,)
        Size of the large model, features per sample.
    kept_per_sample : array_like, shape (J,)
        Size of the pruned and of the small model, s/n.
    noise_variance : float
    method : {"magnitude", "hessian", "oracle"}
    retrain : bool
        Compare the refitted pruned model instead.
    ridge : float
        Penalty of the large fit.

    Returns
    -------
    pandas.DataFrame
        One row per pair with ``kept_per_sample <= kappa``: ``kappa``, ``kept_per_sample``,
        ``pruned``, ``small`` (trained on the s most informative features alone) and
        ``log2_ratio`` of the two, below 0 where training large wins.
    """
    import pandas as pd

    chosen("method", method, METHODS)
    kappa = np.atleast_1d(bounded("kappa", kappa, 0.0, open_low=True))
    loads = np.atleast_1d(bounded("kept_per_sample", kept_per_sample, 0.0, open_low=True))
    finite_array("ridge", ridge)
    large = f"retrained_{method}" if retrain else method
    parts = []
    for load in loads:
        wide = kappa[kappa >= load]
        if wide.size == 0:
            continue
        pair = dict.fromkeys((method, "oracle"))
        table = curve(
            law, wide, noise_variance,
            kept_per_sample=load, methods=tuple(pair), ridge=ridge, keep=False,
        )  # fmt: skip
        part = table[["kappa"]].assign(kept_per_sample=load, pruned=table[large])
        parts.append(part.assign(small=table["retrained_oracle"]))
    if not parts:
        raise ValueError("kept_per_sample must not exceed every kappa")
    out = pd.concat(parts, ignore_index=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return out.assign(log2_ratio=np.log2(out["pruned"]) - np.log2(out["small"]))
