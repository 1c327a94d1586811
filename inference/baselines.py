"""Two reference methods with the interface of the model: `NetRate` and `CoOccurrence`."""

from __future__ import annotations

import math
import numbers
import warnings
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from cascadenet.cascades import Cascades
from cascadenet.delays import Delay, get_delay
from cascadenet.errors import FormatError
from cascadenet.inference.layout import Layout, build_layout
from cascadenet.networks import whole_number
from cascadenet.posterior import EDGE_COLUMNS, INTERVAL

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

FINISHED_SHARE = 0.25  # children that have converged are set aside once they are so many
LONGEST_STEP = 100.0  # of an extrapolation, in EM steps; longer ones fail too often
LEAST_SHARE = 0.01  # an extrapolation keeps at least this share of what two EM steps give
LEAST_INFORMATION = 0.01  # below it a rate's standard deviation is over ten times the rate


class _Baseline:
    """Edge table of a fit: columns for the pairs that met, a constant row for all others.

    A fit sets ``_cascades``; ``_source`` and ``_target`` (P,), the pairs that met, sorted by target
    and then source; ``_columns``, name -> (P,); ``_unmet``, name -> (N,) by source, zero where it
    has no entry; ``_ranked``, the rows to list, best first.
    """

    _cascades: Cascades
    _source: np.ndarray
    _target: np.ndarray
    _columns: dict[str, np.ndarray]
    _unmet: dict[str, np.ndarray]
    _ranked: np.ndarray

    def edges(self, pairs: Any = None, top: int | None = None) -> pd.DataFrame:
        """Table of edges, best first: by prob, then n, then rate.

        Parameters
        ----------
        pairs : iterable of (source, target) or DataFrame, optional
            Pairs to report, in the order given; by default all that could have carried an
            infection.
        top : int, optional
            Only so many rows.

        Returns
        -------
        DataFrame
            ``source``, ``target``, ``prob``, ``n``, ``rate``, ``rate_sd``, ``rate_low``,
            ``rate_high``, as the notes of the class define them.

        Raises
        ------
        ValueError
            Not fitted; unknown node or self-pair in ``pairs``; negative ``top``.
        """
        import pandas as pd

        self._check_fitted("edges")
        if top is not None:
            whole_number("top", top, 0)
        if pairs is None:
            rows = self._ranked[:top]
            source, target = self._source[rows], self._target[rows]
            columns = {name: values[rows] for name, values in self._columns.items()}
        else:
            source, target = (ends[:top] for ends in _pair_indices(pairs, self._cascades))
            columns = self._columns_of(source, target)
        labels = np.asarray(self._cascades.nodes)
        columns |= {"source": labels[source], "target": labels[target]}
        return pd.DataFrame({name: columns[name] for name in EDGE_COLUMNS})

    def _check_fitted(self, method: str) -> None:
        if not hasattr(self, "_columns"):
            name = type(self).__name__
            raise ValueError(f"this {name} is not fitted; expected a call of fit before {method}")

    def _columns_of(self, source: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of any pairs, looked up among those that met."""
        keys = _pair_keys(self._source, self._target, self._cascades)
        wanted = _pair_keys(source, target, self._cascades)
        at = np.searchsorted(keys, wanted)
        met = np.zeros(wanted.size, bool)
        inside = at < keys.size
        met[inside] = keys[at[inside]] == wanted[inside]
        columns = {}
        for name, values in self._columns.items():
            unmet = self._unmet.get(name)
            column = np.zeros(wanted.size) if unmet is None else unmet[source]
            column[met] = values[at[met]]
            columns[name] = column
        return columns


class NetRate(_Baseline):
    """Maximum likelihood of the transmission rates, one independent rate for each pair.

    The likelihood is that of :class:`cascadenet.CoupledHDP` without its prior: competing hazards,
    where not being infected counts as evidence too. It is concave, and fitted by EM.

    Parameters
    ----------
    delay : str or Delay
        Delay model, see :mod:`cascadenet.delays`.
    theta : array_like, optional
        Its parameters in the user's unit of time. They are not estimated; by default they are
        those the delay model starts from, relative to the median candidate delay.
    shrinkage : (float, float), optional
        Shape, at least 1, and rate, positive, of a Gamma prior of every pair's rate in the user's
        unit. ``(1, rate)`` is an l1 penalty. The background has no prior.
    background : bool
        Let infections come from outside the network, at a rate of their own for each node.
    max_candidates : int, optional
        A node stops acting once so many later infections have followed it in a cascade.
    tolerance : float
        Stop when the log-likelihood is known to lie within so many nats per infection of its
        maximum.
    max_iterations : int
        Accelerated iterations, three passes over the data each; a warning says when they did not
        suffice.

    Attributes
    ----------
    log_likelihood_ : float64 array, shape (iterations,)
        Log-likelihood at the start of each iteration and, last, of the result; log densities are
        per unit of the user's time. With ``shrinkage``, plus the logarithm of the prior up to a
        constant, both for the pairs that could have carried an infection: the rates of the others
        are known beforehand. Never decreases.
    gap_ : float
        Upper bound of what the last of them lacks to the maximum, nats.
    theta_ : float64 array
        Parameters of the delay model, user's unit.
    candidates_cut_ : int
        Candidate parents dropped by ``max_candidates``.

    Notes
    -----
    Let q_i(u) = rate_uv h(t_i - t_u) / sum_w rate_wv h(t_i - t_w) be the probability, at the fitted
    rates, that u infected v in the infection i. The edge table holds

    * ``n``, the sum of q_i over the infections of v: transmissions expected of the pair. At the
      maximum it equals rate times exposure.
    * ``prob`` = 1 - prod_i (1 - q_i), the probability that the pair carried at least one of them.
      The rates are taken as known, so it is overconfident where an infection has few candidates.
    * ``rate_sd`` = rate / sqrt(sum_i q_i^2 + shape - 1), from the diagonal of the observed
      information; what rates into one node take from each other is left out.
    * ``rate_low``, ``rate_high`` = rate exp(-+1.88 rate_sd / rate), 94%, normal in the logarithm.
      These and ``rate_sd`` are nan where ``rate_sd`` would exceed ten rates: such a rate is zero
      as far as the data can tell, the edge of the parameter space.

    One EM step sets rate = (sum_i q_i + shape - 1) / (exposure + prior rate). Every node as a child
    is a problem of its own; its steps are extrapolated by squared polynomials in the square roots
    of the rates, with a step length of its own, and an extrapolation that does not raise the
    likelihood is dropped. With G the factor by which EM would multiply a rate, the likelihood of a
    child with m infections lacks at most m (max G - 1): the stopping rule. Rates that the data
    cannot tell apart are not unique; EM from equal rates settles which are reported.

    References
    ----------
    Gomez-Rodriguez, Balduzzi, Schoelkopf (2011), Uncovering the temporal dynamics of diffusion
    networks, ICML. Varadhan, Roland (2008), Simple and globally convergent methods for accelerating
    the convergence of any EM algorithm, Scandinavian Journal of Statistics 35. Lindsay (1983), The
    geometry of mixture likelihoods, Annals of Statistics 11: the bound.

    Examples
    --------
    >>> import cascadenet as cn
    >>> network = cn.simulate.community_network(2, 10, within=0.4, between=0.0, seed=1)
    >>> data = cn.simulate.simulate_cascades(network, 50, horizon=2.0, seed=1).cascades
    >>> fit = cn.inference.NetRate().fit(data)
    >>> list(fit.edges().columns[:3])
    ['source', 'target', 'prob']
    """

    def __init__(
        self,
        delay: str | Delay = "exponential",
        theta: ArrayLike | None = None,
        shrinkage: tuple[float, float] | None = None,
        background: bool = False,
        max_candidates: int | None = None,
        tolerance: float = 1e-5,
        max_iterations: int = 1000,
    ) -> None:
        self.delay = delay
        self.theta = theta
        self.shrinkage = shrinkage
        self.background = background
        self.max_candidates = max_candidates
        self.tolerance = tolerance
        self.max_iterations = max_iterations

    def fit(self, cascades: Cascades) -> NetRate:
        """Maximise the likelihood.

        Parameters
        ----------
        cascades : Cascades
            The data.

        Returns
        -------
        NetRate
            Itself.

        Raises
        ------
        TypeError, ValueError
            Settings of a wrong kind or out of range.
        FormatError
            Data the delay model cannot explain, or that make the likelihood unbounded.

        Warns
        -----
        UserWarning
            When ``max_iterations`` ended the fit.
        """
        delay = get_delay(self.delay)
        theta = delay.check_parameters(self.theta)
        shape, rate = self._check_settings()
        _check_cascades(cascades)
        layout = build_layout(
            cascades, background=self.background, max_candidates=self.max_candidates
        )
        if self.theta is not None:
            theta = delay.rescale(theta, 1.0 / layout.unit)
        rate_unit = float(layout.unit ** -delay.rate_exponent(theta))
        problem = _problem(layout, delay, theta, shape - 1.0, rate * rate_unit)
        solution = _maximise(problem.mixture, problem.start, self.tolerance, self.max_iterations)
        self._cascades = cascades
        self._fill(layout, problem, solution, rate_unit)
        n_parents = problem.mixture.weights.shape[0]
        pseudo = problem.mixture.pseudo
        constant = problem.log_scale - n_parents * math.log(layout.unit)
        constant += float(pseudo @ (math.log(rate_unit) - np.log(problem.divisor)))
        constant -= n_parents + pseudo.sum()  # rates times exposures, and their penalty
        self.log_likelihood_ = solution.trace + constant
        self.gap_ = solution.gap
        self.theta_ = delay.rescale(theta, layout.unit)
        self.candidates_cut_ = layout.n_cut
        if not solution.converged:
            warnings.warn(
                f"NetRate stopped after max_iterations={self.max_iterations}; its log-likelihood "
                f"may lack up to {self.gap_:.3g} nats to the maximum",
                UserWarning,
                stacklevel=2,
            )
        return self

    def background_rates(self) -> pd.DataFrame:
        """Infection from outside the network: ``node``, ``rate`` per unit of time, ``rate_sd``, n.

        Raises
        ------
        ValueError
            Not fitted, or fitted with ``background=False``.
        """
        import pandas as pd

        self._check_fitted("background_rates")
        if self._background is None:
            raise ValueError("there is no background source; expected a fit with background=True")
        return pd.DataFrame({"node": list(self._cascades.nodes), **self._background})

    def _check_settings(self) -> tuple[float, float]:
        """Shape and rate of the prior, (1, 0) without one; raises for wrong settings."""
        _check_bool("background", self.background)
        if self.max_candidates is not None:
            whole_number("max_candidates", self.max_candidates, 1)
        whole_number("max_iterations", self.max_iterations, 1)
        _check_positive("tolerance", self.tolerance)
        if self.shrinkage is None:
            return 1.0, 0.0
        try:
            shape, rate = (float(x) for x in self.shrinkage)
        except (TypeError, ValueError):
            raise ValueError(
                f"shrinkage must be a pair (shape, rate); got {self.shrinkage!r}"
            ) from None
        if not (1.0 <= shape < math.inf and 0.0 < rate < math.inf):
            raise ValueError(
                "shrinkage must have a finite shape of at least 1, below which there are several "
                f"maxima, and a finite positive rate; got {self.shrinkage!r}"
            )
        return shape, rate

    def _fill(
        self, layout: Layout, problem: _Problem, solution: _Solution, rate_unit: float
    ) -> None:
        """Columns of the edge table and of the background."""
        carried, prob, information = problem.mixture.responsibility(solution.y)
        n, probs = np.zeros(layout.n_pairs), np.zeros(layout.n_pairs)
        inform, rate = problem.pseudo.copy(), np.zeros(layout.n_pairs)
        np.divide(problem.pseudo, problem.denominator, out=rate, where=problem.denominator > 0.0)
        at = problem.candidate
        n[at], probs[at], rate[at] = carried, prob, solution.y / problem.divisor
        inform[at] += information

        edge = layout.pair_source >= 0
        self._source, self._target = layout.pair_source[edge], layout.pair_child[edge]
        self._columns = {"prob": probs[edge], "n": n[edge]}
        self._columns |= _rate_columns(rate[edge] * rate_unit, inform[edge])
        shown = np.flatnonzero(np.isin(np.flatnonzero(edge), at))
        keys = [-self._columns[name][shown] for name in ("rate", "n", "prob")]
        self._ranked = shown[np.lexsort(keys)]
        unmet = np.zeros(layout.n_nodes)
        if problem.prior_shape > 0.0:
            unmet = problem.prior_shape / problem.node_denominator * rate_unit
        self._unmet = _rate_columns(unmet, np.full(layout.n_nodes, problem.prior_shape))
        self._background = None
        if layout.background:
            rates = _rate_columns(rate[~edge] / layout.unit, inform[~edge])
            self._background = {name: rates[name] for name in ("rate", "rate_sd")}
            self._background["n"] = n[~edge]


class CoOccurrence(_Baseline):
    """Count of the cascades in which one node was infected before another.

    It knows nothing of rates or of who else was there, and is hard to beat where the network to be
    found records contact: report it beside any other method.

    Parameters
    ----------
    window : float, optional
        Longest delay that counts, user's unit of time.

    Notes
    -----
    In the edge table ``n`` is the count, ``prob`` the share of all cascades, so that the order is
    that of the count, and the columns of the rate are nan. Nodes infected at the same instant are
    not counted.

    Examples
    --------
    >>> import cascadenet as cn
    >>> import pandas as pd
    >>> times = [(0, "a", 0.0), (0, "b", 1.0), (1, "a", 0.0), (1, "b", 3.0), (1, "c", 4.0)]
    >>> frame = pd.DataFrame(times, columns=["cascade", "node", "time"])
    >>> data = cn.Cascades.from_frame(frame, horizon=5.0)
    >>> cn.inference.CoOccurrence().fit(data).edges(top=1)["n"].tolist()
    [2.0]
    """

    def __init__(self, window: float | None = None) -> None:
        self.window = window

    def fit(self, cascades: Cascades) -> CoOccurrence:
        """Count.

        Parameters
        ----------
        cascades : Cascades
            The data.

        Returns
        -------
        CoOccurrence
            Itself.

        Raises
        ------
        TypeError, ValueError
            Not cascades, or a window that is not positive.
        """
        if self.window is not None:
            _check_positive("window", self.window)
        _check_cascades(cascades)
        layout = build_layout(cascades)
        pair = layout.cand_pair
        if self.window is not None:
            # delays went through a division: one equal to the window must not drop out
            within = layout.cand_delay * layout.unit <= self.window * (1.0 + 1e-12)
            pair = pair[within]
        count = np.bincount(pair, minlength=layout.n_pairs).astype(np.float64)
        unknown = ("rate", "rate_sd", "rate_low", "rate_high")
        self._cascades = cascades
        self._source, self._target = layout.pair_source, layout.pair_child
        self._columns = {"prob": count / cascades.n_cascades, "n": count}
        self._columns |= {name: np.full(count.size, np.nan) for name in unknown}
        self._unmet = {name: np.full(cascades.n_nodes, np.nan) for name in unknown}
        shown = np.flatnonzero(count)
        self._ranked = shown[np.argsort(-count[shown], kind="stable")]
        return self


# -- the likelihood as mixtures ---------------------------------------------------------------


@dataclass(frozen=True)
class _Mixture:
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

    def restricted(self, children: np.ndarray) -> _Mixture:
        """The problems of some children, a mask (J,)."""
        rows = np.repeat(children, np.diff(self.row_ptr))
        columns = self.spread(children)
        return _Mixture(
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
class _Problem:
    """A mixture, and what leads from its solution back to rates.

    Attributes
    ----------
    mixture : _Mixture
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

    mixture: _Mixture
    candidate: np.ndarray
    divisor: np.ndarray
    start: np.ndarray
    log_scale: float
    pseudo: np.ndarray
    denominator: np.ndarray
    prior_shape: float
    node_denominator: np.ndarray


def _problem(
    layout: Layout, delay: Delay, theta: np.ndarray, prior_shape: float, prior_rate: float
) -> _Problem:
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
    mixture = _Mixture(
        matrix,
        pseudo[candidate],
        _pointers(rows_of[rows_of > 0]),
        _pointers(columns_of[rows_of > 0]),
    )
    return _Problem(
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
class _Solution:
    """Maximum of a mixture: ``y`` (X,), the objective's ``trace``, the bound ``gap``, nats."""

    y: np.ndarray
    trace: np.ndarray
    gap: float
    converged: bool


def _maximise(
    mixture: _Mixture, start: np.ndarray, tolerance: float, max_iterations: int
) -> _Solution:
    """EM with squared extrapolation, a step length for each child.

    Children whose gap is below ``tolerance`` nats per infection are set aside; the end comes when
    the gap of all children together is. A few children can take long: those for which a rate tends
    to zero although its likelihood is flat there.
    """
    if start.size == 0:
        return _Solution(start, np.zeros(1), 0.0, True)
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
    return _Solution(result, np.array(trace), finished_gap + float(gap.sum()), converged)


def _accelerated(mixture: _Mixture, y: np.ndarray, factor: np.ndarray) -> np.ndarray:
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


def _rate_columns(rate: np.ndarray, information: np.ndarray) -> dict[str, np.ndarray]:
    """Rate with its uncertainty, given the observed information of its logarithm."""
    relative = np.full(rate.size, np.nan)
    np.divide(1.0, np.sqrt(information), out=relative, where=information >= LEAST_INFORMATION)
    low, high = (rate * np.exp(NormalDist().inv_cdf(q) * relative) for q in INTERVAL)
    return {"rate": rate, "rate_sd": rate * relative, "rate_low": low, "rate_high": high}


def _pointers(counts: np.ndarray) -> np.ndarray:
    return np.concatenate(([0], np.cumsum(counts)))


def _pair_keys(source: np.ndarray, target: np.ndarray, cascades: Cascades) -> np.ndarray:
    """One integer for each pair, ascending by target and then source."""
    return target.astype(np.int64) * cascades.n_nodes + source


# -- checks -----------------------------------------------------------------------------------


def _pair_indices(pairs: Any, cascades: Cascades) -> tuple[np.ndarray, np.ndarray]:
    """Node indices of the pairs a user asks for."""
    if hasattr(pairs, "columns"):
        missing = {"source", "target"} - set(pairs.columns)
        if missing:
            raise ValueError(f"pairs must have columns source and target; missing {missing}")
        pairs = zip(pairs["source"], pairs["target"], strict=True)
    listed = list(pairs)
    for pair in listed:
        if isinstance(pair, str) or not hasattr(pair, "__len__") or len(pair) != 2:
            raise ValueError(f"pairs must be (source, target) tuples; got {pair!r}")
    source = cascades.index_of([pair[0] for pair in listed])
    target = cascades.index_of([pair[1] for pair in listed])
    if (source == target).any():
        label = cascades.nodes[source[np.flatnonzero(source == target)[0]]]
        raise ValueError(f"pairs must join different nodes; got {label!r} twice")
    return source, target


def _check_cascades(cascades: object) -> None:
    if not isinstance(cascades, Cascades):
        raise TypeError(f"cascades must be a Cascades; got {type(cascades).__name__}")


def _check_bool(name: str, value: object) -> None:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False; got {value!r}")


def _check_positive(name: str, value: object) -> None:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (number and 0.0 < value < math.inf):
        raise ValueError(f"{name} must be a finite positive number; got {value!r}")


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
