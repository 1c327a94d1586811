"""Federated training where every worker finishes when the fastest does.

In a synchronous round all wait for the slowest worker. `AdaptCL` gives each a part of the model,
cut to its speed, which it learns from the update times alone; `simulate` trains real models against
a simulated clock, and ``cascadenet.sparse.federated.flower`` runs the same strategy over a
network::

    from cascadenet.sparse.federated import AdaptCL, FedAvg, Heterogeneity, simulate

    slow = Heterogeneity(sigma=5)  # the slowest worker takes five times as long
    run = simulate(AdaptCL(interval=5), (x, y, x_test, y_test), clock=slow, n_rounds=100, seed=1)
    run.rounds, run.workers  # accuracy by time; retention and waiting of every worker

References
----------
"AdaptCL: Efficient Collaborative Learning with Dynamic and Adaptive Pruning", 2021 (arXiv
2106.14126). Diao, Ding & Tarokh, "HeteroFL", ICLR 2021 (arXiv 2010.01264). McMahan et al.,
"Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017. Xie,
Koyejo & Gupta, "Asynchronous Federated Optimization", 2019 (arXiv 1903.03934). Lin, Han, Mao, Wang
& Dally, "Deep Gradient Compression", ICLR 2018 (arXiv 1712.01887).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "AdaptCL": "adaptcl",
    "FedAvg": "server",
    "FedAsync": "server",
    "StaticWidth": "server",
    "RoundError": "server",
    "RateRule": "rates",
    "DGC": "dgc",
    "Clock": "clock",
    "Heterogeneity": "clock",
    "heterogeneity": "clock",
    "Fault": "faults",
    "LocalTraining": "worker",
    "partition": "splits",
    "simulate": "simulator",
    "Simulation": "results",
    "compare": "results",
    "summarise": "results",
    "plot_accuracy": "plots",
    "plot_retention": "plots",
    "plot_times": "plots",
    "plot_waiting": "plots",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
