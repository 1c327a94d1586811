"""The likelihood of NetRate as one mixture for each child, and its maximum by accelerated EM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from cascadenet.delays import Delay
from cascadenet.errors import FormatError
from cascadenet.inference.layout import Layout

__all__ = ["Mixture", "Problem", "Solution", "maximise", "state_problem"]

FINISHED_SHARE = 0.25  # children that have converged are set aside once they are so many
LONGEST_STEP = 100.0  # of an extrapolation, in EM steps; longer ones fail too often
LEAST_SHARE = 0.01  # an extrapolation keeps at least this share of what two EM steps give


@dataclass(frozen=True)
class Mixture:
    """The problems of J children: maximise sum_i log(B y)_i + sum_p pseudo_p log y_p.

    ``y`` is rate times exposure, with a fixed sum for each child: its infections plus its pseudo
    counts, which is where the likelihood of the scale alone is largest.

    Attributes
    ----------
    weights : csr_array, shape (R, X)
        B: hazard shape over exposure, infections that have candidates by pairs, in the order of
        their children.
    pseudo : float64 array, shape (X,)
        Shape of the prior, less one.
    row_ptr, column_ptr : int64 arrays, shape (J + 1,)
        Rows and columns of each child, none empty.
    """

    weights: scipy.sparse.csr_array
    pseudo: np.ndarray
    row_ptr: np.ndarray
    column_ptr: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Sum that y must have, shape (J,)."""
        return np.diff(self.row_ptr) + self.sum(self.pseudo)

    def sum(self, x: np.ndarray) -> np.ndarray:
        """Sum over the columns of each child, (X,) -> (J,)."""
        return np.add.reduceat(x, self.column_ptr[:-1])

    def spread(self, x: np.ndarray) -> np.ndarray:
        """Value of each child on all its columns, (J,) -> (X,)."""
        return np.repeat(x, np.diff(self.column_ptr))

    def normalised(self, y: np.ndarray) -> np.ndarray:
        """y with the sum it must have."""
        return y * self.spread(self.total / self.sum(y))

    def evaluate(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Objective of each child (J,), and the factor of an EM step (X,). O(candidates)."""
        hazard = self.weights @ y
        objective = np.add.reduceat(np.log(hazard), self.row_ptr[:-1])
        factor = self.weights.T @ (1.0 / hazard)
        if self.pseudo.any():
            some = self.pseudo > 0.0
            factor[some] += self.pseudo[some] / y[some]
            objective += self.sum(np.where(some, self.pseudo * np.log(np.where(some, y, 1.0)), 0.0))
        return objective, factor

    def gap(self, factor: np.ndarray) -> np.ndarray:
        """Upper bound of what each child's objective lacks to its maximum (J,).

        By concavity it lacks at most sum_p (y*_p - y_p) factor_p, where sum_p y_p factor_p is the
        total, and sum_p y*_p factor_p at most the total times the largest factor.
        """
        largest = np.maximum.reduceat(factor, self.column_ptr[:-1])
        return self.total * np.maximum(largest - 1.0, 0.0)

    def restricted(self, children: np.ndarray) -> Mixture:
        """The problems of some children, a mask (J,)."""
        rows = np.repeat(children, np.diff(self.row_ptr))
        columns = self.spread(children)
        return Mixture(
            self.weights[np.flatnonzero(rows)][:, np.flatnonzero(columns)],
            self.pseudo[columns],
            _pointers(np.diff(self.row_ptr)[children]),
            _pointers(np.diff(self.column_ptr)[children]),
        )

    def responsibility(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each pair: sum q, 1 - prod(1 - q) and sum q^2 over its infections, all (X,)."""
        matrix = self.weights
        share = matrix.data * y[matrix.indices]
        share /= np.repeat(matrix @ y, np.diff(matrix.indptr))
        np.minimum(share, 1.0, out=share)
        n = np.bincount(matrix.indices, share, y.size)
        square = np.bincount(matrix.indices, share * share, y.size)
        with np.errstate(divide="ignore"):  # q = 1: log 0, and the probability is 1
            np.log1p(-share, out=share)
        return n, -np.expm1(np.bincount(matrix.indices, share, y.size)), square


@dataclass(frozen=True)
class Problem:
    """A mixture, and what leads from its solution back to rates.

    Attributes
    ----------
    mixture : Mixture
        Its columns are the candidate pairs: those that could have carried an infection.
    candidate : int64 array, shape (X,)
        Their index among the listed pairs.
    divisor : float64 array, shape (X,)
        Exposure plus rate of the prior, internal unit; y over it is the rate. 1 for pairs whose
        exposure and hazards are all 0.
    start : float64 array, shape (X,)
        Start of y: all rates into a child are equal.
    log_scale : float
        What was taken out of the rows of the mixture, sum of logarithms.
    pseudo, denominator : float64 arrays, shape (P,)
        Shape of the prior less one, and exposure plus its rate, of all listed pairs.
    prior_shape : float
        Shape less one.
    node_denominator : float64 array, shape (N,)
        Denominator of a source and any child it never met.
    """

    mixture: Mixture
    candidate: np.ndarray
    divisor: np.ndarray
    start: np.ndarray
    log_scale: float
    pseudo: np.ndarray
    denominator: np.ndarray
    prior_shape: float
    node_denominator: np.ndarray


def state_problem(
    layout: Layout, delay: Delay, theta: np.ndarray, prior_shape: float, prior_rate: float
) -> Problem:
    """State the likelihood as one mixture for each child; internal unit throughout."""
    exposure, node_full = layout.exposure(delay, theta)
    log_hazard = layout.log_hazard(delay, theta)
    weight = layout.relative_weight(log_hazard)
    rows = np.flatnonzero(np.diff(layout.cand_ptr))
    row_start = layout.cand_ptr[:-1][rows]
    log_scale = float(np.maximum.reduceat(log_hazard, row_start).sum()) if rows.size else 0.0

    edge = layout.pair_source >= 0
    pseudo = np.where(edge, prior_shape, 0.0)
    denominator = np.where(edge, exposure + prior_rate, exposure)
    candidate = np.flatnonzero(np.bincount(layout.cand_pair, minlength=layout.n_pairs))
    column = np.zeros(layout.n_pairs, np.int32)
    column[candidate] = np.arange(candidate.size)
    column = column[layout.cand_pair]
    divisor = denominator[candidate]
    _check_bounded(layout, divisor[column], weight)
    divisor = np.where(divisor > 0.0, divisor, 1.0)

    matrix = scipy.sparse.csr_array(
        (weight / divisor[column], column, np.append(row_start, column.size)),
        shape=(rows.size, candidate.size),
    )
    columns_of = np.bincount(layout.pair_child[candidate], minlength=layout.n_nodes)
    child = np.repeat(np.arange(layout.n_nodes), np.diff(layout.child_ptr))
    rows_of = np.bincount(child[rows], minlength=layout.n_nodes)
    mixture = Mixture(
        matrix,
        pseudo[candidate],
        _pointers(rows_of[rows_of > 0]),
        _pointers(columns_of[rows_of > 0]),
    )
    return Problem(
        mixture=mixture,
        candidate=candidate,
        divisor=divisor,
        start=mixture.normalised(divisor) if rows.size else divisor,
        log_scale=log_scale,
        pseudo=pseudo,
        denominator=denominator,
        prior_shape=prior_shape,
        node_denominator=node_full + prior_rate,
    )


@dataclass(frozen=True)
class Solution:
    """Maximum of a mixture: ``y`` (X,), the objective's ``trace``, the bound ``gap``, nats."""

    y: np.ndarray
    trace: np.ndarray
    gap: float
    converged: bool


def maximise(
    mixture: Mixture, start: np.ndarray, tolerance: float, max_iterations: int
) -> Solution:
    """EM with squared extrapolation, a step length for each child.

    Children whose gap is below ``tolerance`` nats per infection are set aside; the end comes when
    the gap of all children together is. A few children can take long: those for which a rate tends
    to zero although its likelihood is flat there.
    """
    if start.size == 0:
        return Solution(start, np.zeros(1), 0.0, True)
    result, active, y = start.copy(), np.arange(start.size), start
    trace: list[float] = []
    finished, finished_gap, allowed = 0.0, 0.0, tolerance * float(mixture.total.sum())
    while True:
        objective, factor = mixture.evaluate(y)
        gap = mixture.gap(factor)
        trace.append(finished + float(objective.sum()))
        converged = finished_gap + float(gap.sum()) <= allowed
        if converged or len(trace) > max_iterations:
            break
        done = gap <= tolerance * mixture.total
        if done.mean() > FINISHED_SHARE:
            finished += float(objective[done].sum())
            finished_gap += float(gap[done].sum())
            result[active] = y
            kept = mixture.spread(~done)
            mixture, active = mixture.restricted(~done), active[kept]
            y, factor = y[kept], factor[kept]
        y = _accelerated(mixture, y, factor)
    result[active] = y
    return Solution(result, np.array(trace), finished_gap + float(gap.sum()), converged)


def _accelerated(mixture: Mixture, y: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """One iteration from y: two EM steps, extrapolated, and a third from there. Monotone.

    In the square roots of y, where a coordinate on its way to zero shrinks by steps that a
    quadratic can follow; Varadhan and Roland's third step length.
    """
    once = y * factor
    objective, factor = mixture.evaluate(once)
    twice = once * factor
    root = np.sqrt(y)
    step = np.sqrt(once) - root
    bend = np.sqrt(twice) - root - 2.0 * step
    length, curvature = mixture.sum(step * step), mixture.sum(bend * bend)
    alpha = np.ones(length.size)
    np.divide(length, curvature, out=alpha, where=curvature > 0.0)
    alpha = mixture.spread(np.clip(np.sqrt(alpha), 1.0, LONGEST_STEP))
    jump = np.maximum(root + 2.0 * alpha * step + alpha * alpha * bend, 0.0) ** 2
    jump = mixture.normalised(np.maximum(jump, LEAST_SHARE * twice))
    reached, factor = mixture.evaluate(jump)
    return np.where(mixture.spread(reached >= objective), jump * factor, twice)


def _pointers(counts: np.ndarray) -> np.ndarray:
    return np.concatenate(([0], np.cumsum(counts)))


def _check_bounded(layout: Layout, divisor: np.ndarray, weight: np.ndarray) -> None:
    """A pair that explains an infection without having been exposed has no largest rate."""
    unbounded = np.flatnonzero((divisor < np.finfo(np.float64).tiny) & (weight > 0.0))
    if unbounded.size:
        p = layout.cand_pair[unbounded[0]]
        raise FormatError(
            f"the rate of node index {layout.pair_source[p]} to node index {layout.pair_child[p]} "
            "has no maximum: under this delay model its cumulative hazard is zero although it "
            "could have infected; expected a positive one: use shrinkage or another delay model"
        )
