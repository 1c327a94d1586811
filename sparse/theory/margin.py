"""Maximum-margin classification of isotropic Gaussian features.

Source: Montanari, Ruan, Sohn & Yan (arXiv 1911.01544); Deng, Kammoun & Thrampoulidis,
Information and Inference 11 (2022).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, ndtr

from cascadenet.sparse.theory._check import bounded, chosen
from cascadenet.sparse.theory.classification import LABELS, error_rate
from cascadenet.sparse.theory.logistic import mle_threshold

REACH, PANELS, ORDER = 12.0, 24, 20


class MaxMargin(NamedTuple):
    """Margin of the unit weight vector, its cosine with the truth, and its 0/1 error."""

    margin: float
    cosine: float
    error: float


class _Gordon:
    """``F(M, c) = E[(M - c V + sqrt(1-c²) Z)_+²] - kappa (1-c²)``, V = y u."""

    def __init__(self, kappa: float, labels: str, strength: float) -> None:
        self.kappa = kappa
        node, weight = np.polynomial.legendre.leggauss(ORDER)
        edge = np.linspace(-REACH, REACH, 2 * PANELS + 1)
        half = 0.5 * np.diff(edge)[:, None]
        v = (0.5 * (edge[1:] + edge[:-1])[:, None] + half * node).reshape(-1)
        density = 2.0 * np.exp(-0.5 * v * v) / np.sqrt(2.0 * np.pi)
        density *= (v > 0) if labels == "sign" else expit(strength * v)
        self.v, self.weight = v, (half * weight).reshape(-1) * density

    def value(self, margin: float, cosine: float) -> float:
        """F at a margin and a cosine."""
        a, s, tail, density = self._parts(margin, cosine)
        square = (a * a + s * s) * tail + a * s * density
        return float(self.weight @ square) - self.kappa * s * s

    def slope(self, margin: float, cosine: float) -> float:
        """dF/dc, divided by 2."""
        a, s, tail, density = self._parts(margin, cosine)
        pull = float(self.weight @ (self.v * (a * tail + s * density)))
        return -pull - cosine * float(self.weight @ tail) + self.kappa * cosine

    def _parts(self, margin: float, cosine: float) -> tuple[np.ndarray, ...]:
        s = np.sqrt((1.0 - cosine) * (1.0 + cosine))
        a = margin - cosine * self.v
        x = a / s
        return a, s, ndtr(x), np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)

    def best_cosine(self, margin: float) -> float:
        """Minimiser of F over c in [0, 1]; F falls at 0, and to the end when kappa is small."""
        last = 1.0 - 1e-12
        if self.slope(margin, last) <= 0:
            return last
        return brentq(lambda c: self.slope(margin, c), 0.0, last, xtol=1e-15, rtol=1e-14)


def max_margin(kappa: float, *, labels: str = "sign", strength: float = 1.0) -> MaxMargin:
    """Hard-margin linear classification in the proportional limit, features ``x ~ N(0, I)``.

    Parameters
    ----------
    kappa : float
        Features per sample; above the separability threshold of the labels.
    labels : {"sign", "logit"}
        Noiseless labels, or logistic ones.
    strength : float
        Standard deviation of x'b; only matters for logistic labels.

    Returns
    -------
    MaxMargin
        ``min_i y_i x_i'w / ||w||`` of the best w, its cosine with b, and its 0/1 error.

    Raises
    ------
    ValueError
        Out of range, or ``kappa`` so small that the data are not separable.
    """
    kappa = float(bounded("kappa", kappa, 0.0, open_low=True))
    strength = float(bounded("strength", strength, 0.0))
    chosen("labels", labels, LABELS)
    least = 0.0 if labels == "sign" else float(mle_threshold(strength))
    if kappa <= least:
        raise ValueError(
            f"kappa must be above the separability threshold {least:.6g}; got {kappa:g}"
        )
    gordon = _Gordon(kappa, labels, strength)
    informative = labels == "sign" or strength > 0

    def cosine_at(margin: float) -> float:
        return gordon.best_cosine(margin) if informative else 0.0

    high = 1.0
    while gordon.value(high, cosine_at(high)) < 0:
        high *= 2.0
    margin = brentq(lambda m: gordon.value(m, cosine_at(m)), 0.0, high, xtol=1e-15, rtol=1e-14)
    cosine = cosine_at(margin)
    signal = 1.0 if labels == "sign" else strength**2
    return MaxMargin(margin, cosine, float(error_rate(cosine, signal, labels)))
