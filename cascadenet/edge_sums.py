"""What a posterior keeps of the pairs that met: moments over its draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cascadenet.pairs import rows_of

__all__ = ["EdgeSums", "RateMoments"]


@dataclass(frozen=True)
class RateMoments:
    """Of some pairs, float64 arrays of one length, means over all draws; the user's unit.

    Attributes
    ----------
    prob : float64 array
        Share of the draws in which the pair carried an infection.
    n : float64 array
        Infections carried.
    rate_hit, square_hit : float64 array
        First and second moment of the rate in the draws counted in ``prob``, zero in the others.
    rate_rest, square_rest : float64 array
        The same of the others.
    """

    prob: np.ndarray
    n: np.ndarray
    rate_hit: np.ndarray
    square_hit: np.ndarray
    rate_rest: np.ndarray
    square_rest: np.ndarray

    @property
    def rate(self) -> np.ndarray:
        """Mean of the rate."""
        return self.rate_hit + self.rate_rest

    @property
    def rate_sd(self) -> np.ndarray:
        """Its standard deviation."""
        square = self.square_hit + self.square_rest
        return np.sqrt(np.maximum(square - self.rate**2, 0.0))


@dataclass(frozen=True)
class EdgeSums:
    """What is kept of the listed pairs, means over all draws unless said otherwise.

    Most pairs that met never carry an infection: what there is to say of those that do is kept for
    them only.

    Attributes
    ----------
    draws : int64 array, shape (chains,)
        Recorded draws of each chain.
    used : int32 array, shape (U,)
        Rows of the pairs that carried an infection in some draw, ascending.
    hits : int32 array, shape (chains, U)
        In how many draws they did.
    n : float64 array, shape (U,)
        Infections they carried.
    rate_hit, square_hit : float64 array, shape (U,)
        First and second moment of the rate in these draws, user's unit, zero in the others.
    rate_rest, square_rest : float64 array, shape (U,)
        The same of the other draws.
    rate_unused, variance_unused : float32 array, shape (P,)
        Mean and variance of the rate of pairs that never carried one, in units of ``unused_unit``.
    unused_unit : float64 array, shape ()
        What keeps these in the range of float32.
    exposure : float64 array, shape (P,)
        Exposure, internal unit; what earlier intervals left of theirs included.
    node_full : float64 array, shape (N,)
        Exposure of a source to a node it never met, internal unit; likewise.
    carried : float64 array, shape (P,) or (0,)
        Transmissions that earlier intervals left in memory; empty where there were none.
    """

    draws: np.ndarray
    used: np.ndarray
    hits: np.ndarray
    n: np.ndarray
    rate_hit: np.ndarray
    square_hit: np.ndarray
    rate_rest: np.ndarray
    square_rest: np.ndarray
    rate_unused: np.ndarray
    variance_unused: np.ndarray
    unused_unit: np.ndarray
    exposure: np.ndarray
    node_full: np.ndarray
    carried: np.ndarray

    @property
    def prob(self) -> np.ndarray:
        """Share of the draws in which the used pairs carried an infection, float64 (U,)."""
        return self.hits.sum(axis=0) / self.draws.sum()

    def by_pair(self, values: np.ndarray) -> np.ndarray:
        """Values of the used pairs (..., U) among zeros for the others (..., P), made anew."""
        found = np.zeros((*values.shape[:-1], self.rate_unused.size), values.dtype)
        found[..., self.used] = values
        return found

    def at(self, rows: np.ndarray) -> RateMoments:
        """Moments of the pairs in some rows, int array of any length."""
        place, unit = rows_of(self.used, rows), float(self.unused_unit)
        known = place >= 0
        place = place[known]
        rate = unit * self.rate_unused[rows].astype(np.float64)
        square = rate**2 + unit**2 * self.variance_unused[rows]

        def spread(values: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
            found = np.zeros(known.size) if others is None else others
            found[known] = values[place]
            return found

        return RateMoments(
            prob=spread(self.prob),
            n=spread(self.n),
            rate_hit=spread(self.rate_hit),
            square_hit=spread(self.square_hit),
            rate_rest=spread(self.rate_rest, rate),
            square_rest=spread(self.square_rest, square),
        )
