"""Learning rates, sparsities and temperatures as functions of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence

RATES = ("cosine", "step", "constant")


def learning_rate(
    kind: str,
    peak: float,
    step: int,
    total: int,
    *,
    warmup: float = 0.0,
    milestones: Sequence[float] = (0.5, 0.75),
    factor: float = 0.1,
) -> float:
    """Learning rate of one step.

    Parameters
    ----------
    kind : str
        "cosine" (from ``peak`` to 0), "step" (times ``factor`` at each milestone) or "constant".
    peak : float
    step, total : int
        ``0 <= step < total``.
    warmup : float
        Share of the steps over which the rate rises linearly from 0.
    milestones : sequence of float
        Shares of the steps.
    factor : float

    Returns
    -------
    float
    """
    begin = warmup * total
    if step < begin:
        return peak * (step + 1) / (begin + 1)
    if kind == "cosine":
        share = (step - begin) / max(total - begin, 1)
        return peak * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
    if kind == "step":
        return peak * factor ** sum(step >= milestone * total for milestone in milestones)
    return peak


def cubic_sparsity(
    step: int, begin: float, end: float, final: float, initial: float = 0.0
) -> float:
    """Sparsity that rises fast first: ``final + (initial - final)(1 - share)³``.

    Parameters
    ----------
    step : int
    begin, end : float
        Steps between which it rises; ``final`` from ``end`` on.
    final, initial : float

    References
    ----------
    Zhu & Gupta, "To prune, or not to prune", 2017, equation 1.
    """
    if step >= end:
        return final
    share = max(step - begin, 0.0) / (end - begin)
    return final + (initial - final) * (1 - share) ** 3


def linear(start: float, end: float, share: float) -> float:
    """``start`` at share 0, ``end`` at share 1."""
    return start + (end - start) * min(max(share, 0.0), 1.0)
