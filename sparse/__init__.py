"""Light estimators and their theory; each topic is a sub-package, loaded when first used."""

from __future__ import annotations

import importlib
from typing import Any

if __name__ == "sparse":
    # From the root of a checkout the folder would answer to its bare name, and pass for another
    # package: xarray, for one, tries `import sparse`.
    raise ModuleNotFoundError("this folder is cascadenet.sparse", name="sparse")

__all__ = ["bandits", "federated", "pruning", "theory"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
