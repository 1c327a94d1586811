"""Sparse networks from one training pass: pruning with feedback, and k-of-n pruning.

Estimators with scikit-learn's contract, which need no scikit-learn, train a NumPy network and
remove most of its weights on the way::

    from cascadenet.sparse.pruning import DPFClassifier, compress

    model = DPFClassifier(sparsity=0.95, random_state=0).fit(X, y)
    model.sparsity_, model.score(X_test, y_test)
    small = compress(model, bits=8)  # few bytes, fast on one core

The parts under them serve by themselves: `Network`, `train`, optimisers, and the methods.

References
----------
Lin, Stich, Barba, Dmitriev & Jaggi, "Dynamic Model Pruning with Feedback", ICLR 2020 (arXiv
2006.07253). Gonzalez-Carabarin, Huijben, Veeling, Schmid & van Sloun, "Dynamic Probabilistic
Pruning", IEEE TNNLS 2024 (arXiv 2105.12686).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "DPFClassifier": "estimators",
    "DPFRegressor": "estimators",
    "DPPClassifier": "estimators",
    "DPPRegressor": "estimators",
    "MagnitudePruningClassifier": "estimators",
    "MagnitudePruningRegressor": "estimators",
    "SNIPClassifier": "estimators",
    "CompactNetwork": "compact",
    "LayerSpec": "spec",
    "Network": "network",
    "compress": "compact",
    "train": "training",
    "DivergenceError": "training",
    "SGD": "optimisers",
    "Adam": "optimisers",
    "Feedback": "dpf",
    "Probabilistic": "dpp",
    "Gradual": "methods",
    "Magnitude": "methods",
    "Saliency": "methods",
    "Random": "methods",
    "Fixed": "methods",
    "confidence": "sampling",
    "diversity": "sampling",
    "mask_overlap": "sampling",
    "inclusion_probability": "sampling",
    "load_model": "storage",
    "plot_accuracy": "plots",
    "plot_flips": "plots",
    "plot_densities": "plots",
    "plot_masks": "plots",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
