"""Laws of eigenvalue and coefficient: the only description of a problem that the limit keeps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.theory._check import bounded, finite_array

SUM_TOLERANCE = 1e-9


class Spectrum(NamedTuple):
    """The components with a positive eigenvalue, in whitened coordinates; arrays (m,)."""

    index: np.ndarray  # position among the law's components
    weight: np.ndarray  # sums to `mass`
    eigenvalue: np.ndarray
    mean: np.ndarray  # of Theta = sqrt(Lambda) B
    variance: np.ndarray
    energy: np.ndarray  # E[Theta^2]
    mass: float  # P(Lambda > 0), exactly 1 when no eigenvalue is zero


@dataclass(frozen=True, eq=False)
class Law:
    """Joint law of an eigenvalue Λ and its scaled coefficient ``B = sqrt(p) b``, a mixture.

    Component k has probability ``weight[k]``, eigenvalue ``eigenvalue[k]`` and, given k,
    ``B ~ N(mean[k], variance[k])``; a variance of zero is an atom. The data are
    ``y = x'b + noise`` with ``x ~ N(0, diag(eigenvalues))`` in dimension p.

    Parameters
    ----------
    weight : array_like, shape (m,)
        Probabilities: at least 0, summing to 1.
    eigenvalue : array_like, shape (m,)
        Variances of the features, at least 0.
    mean, variance : array_like, shape (m,)
        Mean and variance of B in each component; variances at least 0.

    Raises
    ------
    ValueError
        Lengths that differ, entries that are not finite, a negative weight, eigenvalue or
        variance, or weights that do not sum to 1.

    Notes
    -----
    ``E[Λ B²]``, the property `signal`, is the variance of the noiseless response whatever p. A
    model with more features has another p, hence another B.
    """

    weight: np.ndarray
    eigenvalue: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    def __post_init__(self) -> None:
        columns = {
            "weight": bounded("weight", self.weight, 0.0),
            "eigenvalue": bounded("eigenvalue", self.eigenvalue, 0.0),
            "mean": finite_array("mean", self.mean),
            "variance": bounded("variance", self.variance, 0.0),
        }
        columns = {name: np.atleast_1d(column) for name, column in columns.items()}
        _same_length(columns)
        total = columns["weight"].sum()
        if abs(total - 1.0) > SUM_TOLERANCE:
            raise ValueError(f"weight must sum to 1; got a sum of {total:.12g}")
        columns["weight"] = columns["weight"] / total
        for name, column in columns.items():
            column = column.copy()
            column.flags.writeable = False
            object.__setattr__(self, name, column)

    @classmethod
    def from_data(cls, eigenvalues: ArrayLike, coefficients: ArrayLike) -> Law:
        """Law of one finite problem: p equal atoms with ``B = sqrt(p) coefficients``.

        Parameters
        ----------
        eigenvalues : array_like, shape (p,)
            Variances of the p features.
        coefficients : array_like, shape (p,)
            True regression coefficients b, unscaled.

        Returns
        -------
        Law
            Mixture of p atoms; its risks are the deterministic equivalent at this p.
        """
        columns = {
            "eigenvalues": np.atleast_1d(bounded("eigenvalues", eigenvalues, 0.0)),
            "coefficients": np.atleast_1d(finite_array("coefficients", coefficients)),
        }
        _same_length(columns)
        p = columns["eigenvalues"].size
        scaled = np.sqrt(p) * columns["coefficients"]
        return cls(np.full(p, 1.0 / p), columns["eigenvalues"], scaled, np.zeros(p))

    @property
    def n_components(self) -> int:
        """Number of mixture components."""
        return self.weight.size

    @property
    def second_moment(self) -> np.ndarray:
        """``E[B² | k]``, shape (m,)."""
        return self.mean**2 + self.variance

    @cached_property
    def signal(self) -> float:
        """``E[Λ B²]``: variance of the noiseless response."""
        return float(self.weight @ (self.eigenvalue * self.second_moment))

    @cached_property
    def spectrum(self) -> Spectrum:
        """The components that matter to a risk; a zero eigenvalue contributes nothing."""
        index = np.flatnonzero((self.eigenvalue > 0) & (self.weight > 0))
        weight, eigenvalue = self.weight[index], self.eigenvalue[index]
        mean = np.sqrt(eigenvalue) * self.mean[index]
        variance = eigenvalue * self.variance[index]
        full = not self.weight[self.eigenvalue == 0].any()
        mass = 1.0 if full else float(weight.sum())
        return Spectrum(index, weight, eigenvalue, mean, variance, mean**2 + variance, mass)

    def with_signal(self, factor: float) -> Law:
        """The law of ``(Λ, factor * B)``."""
        factor = float(finite_array("factor", factor))
        scaled = (factor * self.mean, factor**2 * self.variance)
        return Law(self.weight, self.eigenvalue, *scaled)


def _same_length(columns: dict[str, np.ndarray]) -> None:
    for name, column in columns.items():
        if column.ndim != 1 or column.size == 0:
            raise ValueError(f"{name} must be a non-empty vector; got shape {column.shape}")
    if len({column.size for column in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {column.size}" for name, column in columns.items())
        raise ValueError(f"{' and '.join(columns)} must have one length; got {lengths}")


def isotropic(energy: float = 1.0, *, gaussian: bool = False) -> Law:
    """Equal eigenvalues 1 and ``E[B²] = energy``: one atom, or a centred Gaussian."""
    energy = float(bounded("energy", energy, 0.0))
    mean, variance = (0.0, energy) if gaussian else (np.sqrt(energy), 0.0)
    return Law([1.0], [1.0], [mean], [variance])


def two_level(
    fraction: float = 0.2,
    large: float = 2.0,
    small: float = 0.5,
    *,
    eigenvalues: tuple[float, float] = (1.0, 1.0),
) -> Law:
    """A ``fraction`` of coefficients ``large``, the others ``small``.

    With ``eigenvalues=(25, 1)`` the first group is a spike: few features carry most variance.
    """
    fraction = float(bounded("fraction", fraction, 0.0, 1.0))
    return Law([fraction, 1.0 - fraction], eigenvalues, [large, small], [0.0, 0.0])


def power_law(
    n_components: int = 200,
    decay: float = 1.5,
    signal_decay: float = 0.0,
    energy: float = 1.0,
) -> Law:
    """Eigenvalues ``k**-decay`` and coefficients of standard deviation ``k**-signal_decay``.

    The coefficients are centred Gaussians, scaled so that ``E[Λ B²] = energy``.
    """
    if int(n_components) != n_components or n_components < 1:
        raise ValueError(f"n_components must be a positive integer; got {n_components}")
    rank = np.arange(1, int(n_components) + 1, dtype=np.float64)
    eigenvalue = rank ** -float(finite_array("decay", decay))
    variance = rank ** (-2.0 * float(finite_array("signal_decay", signal_decay)))
    variance *= float(bounded("energy", energy, 0.0)) / np.mean(eigenvalue * variance)
    weight = np.full(rank.size, 1.0 / rank.size)
    return Law(weight, eigenvalue, np.zeros(rank.size), variance)
