"""What a fitted posterior says about cascades to come: densities, simulation, influence, checks.

`cascadenet.Posterior` has a method for each of them; what belongs to no single posterior is here.
"""

from __future__ import annotations

from cascadenet.inference.forecast.checks import Check
from cascadenet.inference.forecast.likelihood import (
    PredictiveScore,
    compare_predictive,
    score_predictive,
)
from cascadenet.inference.forecast.spread import Spread

__all__ = ["Check", "PredictiveScore", "Spread", "compare_predictive", "score_predictive"]
