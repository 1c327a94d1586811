"""Bandits that choose ranked lists and learn from clicks in slots that are not all looked at.

The position-based model: slot l is examined with probability q_l, an examined item is clicked
with its attraction, and only clicks are seen. A learner that takes clicks at face value mistakes
good slots for good items; the rankers here weight them by the examination::

    from cascadenet.sparse.bandits import LinUCBRanker

    ranker = LinUCBRanker(n_features=10, n_slots=5, examination=[1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    shown = ranker.rank(X)  # X: features of the candidates; item index in each slot
    ranker.update(X[shown], clicks)

`fit_examination` estimates q from logs, `ope` values other rankers on them, and `PBMEnvironment`
with `run_experiment` simulates.

References
----------
Ermis, Ernst, Stein & Zappella, "Learning to Rank in the Position Based Model with Bandit
Feedback", CIKM 2020 (arXiv 2004.13106).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "LinUCBRanker": "rankers",
    "LinTSRanker": "rankers",
    "PBMUCBRanker": "contextfree",
    "PBMTSRanker": "contextfree",
    "PBMPIERanker": "contextfree",
    "CascadeLinUCBRanker": "baselines",
    "TopRankRanker": "baselines",
    "RankedBandits": "baselines",
    "GreedyRanker": "baselines",
    "RandomRanker": "baselines",
    "Examination": "examination",
    "IdentifiabilityError": "examination",
    "check_identified": "examination",
    "count_lists": "examination",
    "fit_examination": "examination",
    "PBMEnvironment": "environment",
    "replay": "environment",
    "relevance_attraction": "environment",
    "linear_world": "worlds",
    "ready_rankers": "worlds",
    "run_experiment": "experiment",
    "summarise": "experiment",
    "plot_regret": "plots",
    "plot_examination": "plots",
    "plot_estimates": "plots",
}
_MODULES = ("ope",)

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
