"""Reference methods with the interface of the model: ``.fit(cascades)`` and ``.edges()``.

`CoOccurrence` counts, `NetRate` maximises the survival likelihood, `NetInf` finds the best
spanning trees greedily, and `InfoPath` follows rates through time by stochastic gradients.
"""

from __future__ import annotations

from cascadenet.inference.baselines.cooccurrence import CoOccurrence
from cascadenet.inference.baselines.infopath import InfoPath
from cascadenet.inference.baselines.netinf import NetInf
from cascadenet.inference.baselines.netrate import NetRate

__all__ = ["CoOccurrence", "InfoPath", "NetInf", "NetRate"]
