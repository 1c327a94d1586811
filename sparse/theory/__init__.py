"""Exact high-dimensional risks of dense, pruned and retrained linear models.

Features ``x ~ N(0, Σ)``, response ``y = x'b + noise``, n samples and p features with ``p/n =
kappa`` fixed as both grow. A `Law` describes eigenvalues and coefficients; every risk is the
total test error, noise included::

    from cascadenet.sparse.theory import Law, curve, dense_risk, pruned_risk

    law = Law(weight=[0.2, 0.8], eigenvalue=[1, 1], mean=[2, 0.5], variance=[0, 0])
    dense_risk(law, kappa=4.0, noise_variance=0.25)  # 1.0833
    pruned_risk(law, 4.0, 0.25, kept_fraction=0.2)  # 1.1366

References
----------
Chang, Li, Oymak & Thrampoulidis, "Provable Benefits of Overparameterization in Model
Compression: From Double Descent to Pruning Neural Networks", AAAI 2021 (arXiv 2012.08749).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Law": "laws",
    "isotropic": "laws",
    "two_level": "laws",
    "power_law": "laws",
    "dense_risk": "dense",
    "dense_summary": "dense",
    "pruned_risk": "pruned",
    "retrained_risk": "retrained",
    "optimal_ridge": "ridge",
    "ridge_path": "ridge",
    "activation_coefficients": "random_features",
    "haar_pruned_risk": "random_features",
    "mei_montanari_risk": "random_features",
    "random_feature_law": "random_features",
    "random_feature_risk": "random_features",
    "correlated_retrained_risk": "general",
    "correlated_risk": "general",
    "estimator_law": "general",
    "project": "general",
    "relu_features": "general",
    "subset_risk": "general",
    "classification_error": "classification",
    "classification_problem": "classification",
    "logistic_limit": "logistic",
    "mle_threshold": "logistic",
    "max_margin": "margin",
    "curve": "curves",
    "feature_curve": "curves",
    "random_feature_curve": "curves",
    "sparsity_grid": "curves",
    "simulate": "simulator",
    "simulate_random_features": "simulator",
    "plot_curve": "plots",
    "plot_heatmap": "plots",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
