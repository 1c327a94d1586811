"""Everything that moves a chain: models, sampler, kernels, diagnostics and baselines.

`CoupledHDP` is the model to fit, `DynamicCoupledHDP` the one for networks that change and
`NextInfection` the one to predict who is next; `NetInf`, `NetRate`, `InfoPath` and `CoOccurrence`
are baselines with the same interface (``.fit(cascades)``, ``.edges()``). The other modules are the
parts they are made of.
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
        dynamics,
        forecast,
        layout,
        sampler,
        trees,
    )
    from cascadenet.inference.baselines import CoOccurrence, InfoPath, NetInf, NetRate
    from cascadenet.inference.coupled_hdp import CoupledHDP
    from cascadenet.inference.dynamics.model import DynamicCoupledHDP
    from cascadenet.inference.next_infection import NextInfection

__all__ = [
    "CoOccurrence",
    "CoupledHDP",
    "DynamicCoupledHDP",
    "InfoPath",
    "NetInf",
    "NetRate",
    "NextInfection",
    "baselines",
    "chains",
    "coupled_hdp",
    "diagnostics",
    "dynamics",
    "forecast",
    "layout",
    "sampler",
    "trees",
]

_HOME = {
    "CoOccurrence": "baselines",
    "CoupledHDP": "coupled_hdp",
    "DynamicCoupledHDP": "dynamics.model",
    "InfoPath": "baselines",
    "NetInf": "baselines",
    "NetRate": "baselines",
    "NextInfection": "next_infection",
}


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
