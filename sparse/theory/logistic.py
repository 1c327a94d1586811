"""Ridge-penalised logistic regression, and when its unpenalised maximum likelihood exists.

Source: Salehi, Abbasi & Hassibi, NeurIPS 2019, and Loureiro et al., NeurIPS 2021, for the fixed
point; Candès & Sur, Annals of Statistics 48 (2020), for existence.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit, ndtr

from cascadenet.sparse.theory import masks
from cascadenet.sparse.theory._check import METHODS, bounded, chosen
from cascadenet.sparse.theory.classification import LABELS, error_rate, normal_rule
from cascadenet.sparse.theory.laws import Law
from cascadenet.sparse.theory.pruned import rest_probability

DAMPING = 0.7
SWEEPS = 3000
TOLERANCE = 1e-13
PROX_SWEEPS = 60


class Logistic(NamedTuple):
    """Limit of ridge-penalised logistic regression.

    ``variance_ratio`` V, ``norm`` q = E[Λ X²], ``overlap`` m = E[Λ B X]; ``error`` the 0/1 test
    error; ``shrinkage`` (m,) and ``noise`` describe the estimate through its pseudo-data:
    ``sqrt(Λ) X = shrinkage (sqrt(Λ) B + noise H)``; ``keep`` (m,) the keep probabilities.
    """

    variance_ratio: float
    norm: float
    overlap: float
    error: float
    shrinkage: np.ndarray
    noise: float
    keep: np.ndarray


def logistic_prox(centre: np.ndarray, step: float) -> np.ndarray:
    """Minimiser of ``log(1 + exp(-u)) + (u - centre)²/(2 step)``, elementwise.

    The root of ``u - centre = step / (1 + exp(u))`` lies between centre and centre + step; plain
    Newton diverges for large steps, so each step is kept inside the bracket.
    """
    low, high = centre.copy(), centre + step
    u = np.clip(0.0, low, high)
    for _ in range(PROX_SWEEPS):
        pull = expit(-u)
        value = u - centre - step * pull
        np.copyto(low, u, where=value < 0)
        np.copyto(high, u, where=value >= 0)
        new = u - value / (1.0 + step * pull * (1.0 - pull))
        new = np.where((new > low) & (new < high), new, 0.5 * (low + high))
        done = np.abs(new - u).max() <= 1e-15 * max(1.0, np.abs(new).max())
        u = new
        if done:
            break
    return u


class _Channel:
    """Averages over the label and the prediction of one training sample."""

    def __init__(self, kappa: float, signal: float, labels: str) -> None:
        self.kappa, self.signal, self.labels = kappa, signal, labels
        self.node, self.weight = normal_rule(8.5, 301)
        self.inner, self.inner_weight = normal_rule(8.5, 201)

    def hats(self, v: float, q: float, m: float) -> tuple[float, float, float]:
        """Conjugate order parameters (V^, q^, m^)."""
        w = np.sqrt(q) * self.node
        left = max(self.signal - m * m / q, 1e-300)
        chance, slope = self._label(m / q * w, np.sqrt(left))
        out = np.zeros(3)
        for sign, probability, score in ((1.0, chance, slope), (-1.0, 1.0 - chance, -slope)):
            u = logistic_prox(sign * w, v)
            pull = expit(-u)
            curve = pull * (1.0 - pull)
            out[0] += self.weight @ (probability * curve / (1.0 + v * curve))
            out[1] += self.weight @ (probability * pull**2)
            out[2] += self.weight @ (score * sign * pull)
        return tuple(out / self.kappa)

    def _label(self, mean: np.ndarray, spread: float) -> tuple[np.ndarray, np.ndarray]:
        """``P(y = 1 | w)`` for a true score ``N(mean, spread²)``, and its derivative in mean."""
        if self.labels == "sign":
            x = mean / spread
            return ndtr(x), np.exp(-0.5 * x * x) / (np.sqrt(2.0 * np.pi) * spread)
        value = expit(mean[:, None] + spread * self.inner)
        return value @ self.inner_weight, (value * (1.0 - value)) @ self.inner_weight


def logistic_limit(
    law: Law,
    kappa: float,
    ridge: float,
    *,
    kept_fraction: float = 1.0,
    method: str = "magnitude",
    labels: str = "logit",
) -> Logistic:
    """Ridge logistic regression in the proportional limit, dense or pruned without refitting.

    Parameters
    ----------
    law : Law
        Law of eigenvalue and scaled true coefficient.
    kappa : float
        Features per sample, above 0.
    ridge : float
        Penalty λ of ``(1/n) sum log(1 + exp(-y x'b)) + (λ/2)||b||²``, above 0.
    kept_fraction : float
        Kept coefficients over p, in (0, 1].
    method : {"magnitude", "hessian", "oracle"}
        Score of the pruner.
    labels : {"logit", "sign"}
        ``P(y = 1 | x'b) = 1/(1 + exp(-x'b))``, or the sign of x'b.

    Returns
    -------
    Logistic
        ``error`` is that of the pruned classifier; norm and overlap are of the dense one.

    Raises
    ------
    ValueError
        An argument out of range, named.
    RuntimeError
        The fixed-point iteration did not converge.
    """
    kappa = float(bounded("kappa", kappa, 0.0, open_low=True))
    ridge = float(bounded("ridge", ridge, 0.0, open_low=True))
    kept = float(bounded("kept_fraction", kept_fraction, 0.0, 1.0, open_low=True))
    chosen("method", method, METHODS)
    chosen("labels", labels, LABELS)
    if law.signal == 0:
        raise ValueError("law must have a signal; got E[eigenvalue * B²] = 0")
    v, q, m, hats = _fixed_point(law, kappa, ridge / kappa, labels)
    eigenvalue = law.spectrum.eigenvalue
    shrinkage = hats[2] * eigenvalue / (ridge / kappa + hats[0] * eigenvalue)
    noise = float(np.sqrt(hats[1]) / hats[2])
    keep, correlation = _pruned_correlation(law, shrinkage, noise, kept, method)
    error = float(error_rate(correlation, law.signal, labels))
    full = np.zeros(law.n_components)
    full[law.spectrum.index] = shrinkage
    return Logistic(v, q, m, error, full, noise, keep)


def _fixed_point(
    law: Law, kappa: float, ratio: float, labels: str
) -> tuple[float, float, float, tuple[float, float, float]]:
    """Damped iteration of the six order parameters; ``ratio`` is ridge / kappa."""
    spectrum = law.spectrum
    eigenvalue, weight = spectrum.eigenvalue, spectrum.weight
    channel = _Channel(kappa, law.signal, labels)
    mean = float(weight @ eigenvalue)
    hats = np.array([0.25 / kappa, 0.25 / kappa, 0.25 / kappa])
    for sweep in range(SWEEPS):
        total = ratio + hats[0] * eigenvalue
        v = float(weight @ (eigenvalue / total))
        square = (eigenvalue / total) ** 2
        q = float(weight @ (square * (hats[2] ** 2 * spectrum.energy + hats[1])))
        m = float(hats[2] * (weight @ (eigenvalue / total * spectrum.energy)))
        new = np.array(channel.hats(v, q, m))
        if not np.isfinite(new).all():
            break
        change = np.abs(new - hats).max() / np.abs(new).max()
        hats = new if sweep == 0 else DAMPING * new + (1.0 - DAMPING) * hats
        if change < TOLERANCE:
            return v, q, m, tuple(hats)
    raise RuntimeError(
        f"the logistic fixed point did not converge at kappa={kappa:g}, mean eigenvalue {mean:g}; "
        "a larger ridge helps"
    )


def _pruned_correlation(
    law: Law, shrinkage: np.ndarray, noise: float, kept: float, method: str
) -> tuple[np.ndarray, float]:
    """Keep probability of every component, and the pruned prediction's correlation with x'b."""
    spectrum = law.spectrum
    alpha, tau2 = np.array([kept]), np.array([noise**2])
    keep = np.zeros(law.n_components)
    if method == "oracle":
        target = np.where(alpha >= spectrum.mass, np.inf, alpha)
        one = np.ones(spectrum.mean.size)
        true = masks.select(one, spectrum.mean, spectrum.variance, spectrum.weight, target)
        keep[spectrum.index] = true.keep[0]
        overlap = true.inside
        square = overlap + noise**2 * true.keep
    else:
        root = np.sqrt(spectrum.eigenvalue) if method == "magnitude" else 1.0
        scale = (root / shrinkage)[None, :]
        mask, _ = masks.settle(scale, spectrum, tau2, alpha, np.array([np.nan]))
        part = masks.energies(mask, spectrum, tau2)
        keep[spectrum.index] = mask.keep[0]
        overlap = part.inside + part.cross
        square = part.inside + 2.0 * part.cross + part.noise
    keep[law.eigenvalue == 0] = rest_probability(law, alpha)[0][0]
    top = float((overlap[0] * shrinkage) @ spectrum.weight)
    bottom = float((square[0] * shrinkage**2) @ spectrum.weight) * law.signal
    return keep, top / np.sqrt(bottom) if bottom > 0 else 0.0


def mle_threshold(strength: ArrayLike) -> float | np.ndarray:
    """Largest kappa at which the maximum-likelihood estimate of logistic regression exists.

    Parameters
    ----------
    strength : array_like
        Standard deviation of x'b, at least 0; no intercept.

    Returns
    -------
    float or ndarray
        ``min_t E[(t V - Z)_+²]``, V having the density ``2 phi(v) / (1 + exp(-strength v))``.

    References
    ----------
    Candès & Sur, Annals of Statistics 48 (2020), Theorem 1.
    """
    strength = bounded("strength", strength, 0.0)
    out = np.array([_existence(float(value)) for value in strength.reshape(-1)])
    return float(out[0]) if strength.ndim == 0 else out.reshape(strength.shape)


def _existence(strength: float) -> float:
    if strength == 0:
        return 0.5
    node, weight = normal_rule(12.0, 4001)
    weight = 2.0 * weight * expit(strength * node)

    def slope(t: float) -> float:
        x = t * node
        return float(weight @ (node * (x * ndtr(x) + np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi))))

    low = -1.0
    while slope(low) > 0:
        low *= 2.0
    t = brentq(slope, low, 0.0, xtol=1e-14, rtol=1e-14)
    x = t * node
    tail = (x * x + 1.0) * ndtr(x) + x * np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)
    return float(weight @ tail)
