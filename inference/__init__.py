"""Everything that moves a chain: models, sampler, kernels, diagnostics and baselines.

`CoupledHDP` is the model to fit; `NetRate` and `CoOccurrence` are baselines with the same
interface (``.fit(cascades)``, ``.edges()``). The other modules are the parts they are made of.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if __name__ == "inference":
    # From the root of a checkout the folder would answer to its bare name, and pass for another
    # package: xarray, for one, tries `import sparse`.
    raise ModuleNotFoundError("this folder is cascadenet.inference", name="inference")

if TYPE_CHECKING:
    from cascadenet.inference import (
        baselines,
        chains,
        coupled_hdp,
        diagnostics,
        layout,
        sampler,
        trees,
    )
    from cascadenet.inference.baselines import CoOccurrence, NetRate
    from cascadenet.inference.coupled_hdp import CoupledHDP

__all__ = [
    "CoOccurrence",
    "CoupledHDP",
    "NetRate",
    "baselines",
    "chains",
    "coupled_hdp",
    "diagnostics",
    "layout",
    "sampler",
    "trees",
]

_HOME = {"CoOccurrence": "baselines", "CoupledHDP": "coupled_hdp", "NetRate": "baselines"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: Any = importlib.import_module(f"{__name__}.{_HOME.get(name, name)}")
    if name in _HOME:
        value = getattr(value, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
