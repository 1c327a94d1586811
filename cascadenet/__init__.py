"""Infer the hidden network behind a set of cascades, with its uncertainty.

A cascade is a list of nodes with the times at which they were infected: who bought, posted,
fell ill, adopted a law, and when, but not from whom. ``cascadenet`` infers who infects whom, how
fast, and which communities senders and receivers form::

    import cascadenet as cn

    cascades = cn.Cascades.read_csv("cascades.csv")
    model = cn.CoupledHDP().fit(cascades, seed=1)
    print(model.edges().head())

Importing the package is quick: each part is loaded where it is first used.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascadenet import delays, inference, metrics, plotting, simulate, sparse
    from cascadenet.archive import load
    from cascadenet.cascades import (
        Cascades,
        FormatError,
        read_network,
        read_nodes,
        write_network,
    )
    from cascadenet.evolution import DynamicPosterior
    from cascadenet.inference.coupled_hdp import CoupledHDP
    from cascadenet.inference.dynamics.model import DynamicCoupledHDP
    from cascadenet.inference.next_infection import NextInfection
    from cascadenet.posterior import Posterior

    __version__: str

__all__ = [
    "Cascades",
    "CoupledHDP",
    "DynamicCoupledHDP",
    "DynamicPosterior",
    "FormatError",
    "NextInfection",
    "Posterior",
    "__version__",
    "delays",
    "inference",
    "load",
    "metrics",
    "plotting",
    "read_network",
    "read_nodes",
    "simulate",
    "sparse",
    "write_network",
]

# In a source checkout the folders beside this one are sub-packages, as setup.cfg maps them.
_root = Path(__file__).resolve().parent.parent
_in_checkout = (_root / "setup.cfg").is_file() and (_root / "inference" / "__init__.py").is_file()
if _in_checkout:
    __path__.append(str(_root))

_MODULES = frozenset({"delays", "inference", "metrics", "plotting", "simulate", "sparse"})
_HOME = {
    "Cascades": "cascadenet.cascades",
    "CoupledHDP": "cascadenet.inference.coupled_hdp",
    "DynamicCoupledHDP": "cascadenet.inference.dynamics.model",
    "DynamicPosterior": "cascadenet.evolution",
    "FormatError": "cascadenet.errors",
    "NextInfection": "cascadenet.inference.next_infection",
    "Posterior": "cascadenet.posterior",
    "load": "cascadenet.archive",
    "read_network": "cascadenet.cascades",
    "read_nodes": "cascadenet.cascades",
    "write_network": "cascadenet.cascades",
}


def _version() -> str:
    """Version of the code that runs: from setup.cfg in a checkout, else of the installation."""
    if _in_checkout:
        # An installed copy may lie elsewhere on the path: its version would be another's.
        import configparser

        config = configparser.ConfigParser(interpolation=None)
        config.read(_root / "setup.cfg", encoding="utf-8")
        return config["metadata"]["version"]
    from importlib.metadata import version

    return version("cascadenet")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    elif name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
