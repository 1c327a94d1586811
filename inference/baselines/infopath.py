"""InfoPath: rates that change over time, by stochastic gradients."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.cascades import Cascades
from cascadenet.delays import Delay, get_delay
from cascadenet.inference.baselines import _kernels
from cascadenet.inference.baselines.table import (
    Baseline,
    EdgeColumns,
    best_first,
    check_cascades,
    check_positive,
    rate_columns,
)
from cascadenet.inference.layout import Layout, build_layout
from cascadenet.networks import whole_number

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

__all__ = ["InfoPath"]

FIRST_STEP = 2.0  # in units of one over the number of cascades remembered
STEP_DECAY = 0.6  # power by which steps shrink with the passes made
LARGEST_STEP = 0.5
RESTART = 0.1  # share of equal rates that the rates of an interval start with


class InfoPath(Baseline):
    """Transmission rates of consecutive intervals of time, by stochastic gradients.

    Parameters
    ----------
    delay : str or Delay
        Delay model, see :mod:`cascadenet.delays`.
    theta : array_like, optional
        Its parameters in the user's unit of time; by default those the delay model starts from.
    intervals : int or array_like of float
        Number of intervals of equal width from the first to the last start of a cascade, or their
        ends, increasing, user's unit of time. A cascade belongs to the interval of its first
        infection.
    window : float, optional
        Estimates at the end of an interval use the cascades that started within so long before;
        by default those of the interval.
    half_life : float, optional
        Instead of a window: all cascades that have started, one that started so long before the
        end of the interval counting half.
    passes : float
        Gradient steps of an interval, one cascade each, for every cascade it remembers.
    shrinkage : float, optional
        Rate of an exponential prior of all rates, user's unit, an l1 penalty: exposure without
        transmissions that every pair is taken to have had. By default that of one median candidate
        delay; 0 for none.

    Attributes
    ----------
    boundaries_ : float64 array, shape (J + 1,)
        Ends of the intervals.
    objective_ : float64 array, shape (J,)
        Weighted log-likelihood plus log prior at the rates of each interval, nats, up to a
        constant: what the gradients belong to.
    n_steps_ : int64 array, shape (J,)
        Gradient steps of each interval.
    theta_ : float64 array
        Parameters of the delay model, user's unit.

    Notes
    -----
    At the end of an interval cascade c has the weight w_c of its age, and the rates maximise

        sum_c w_c [ sum_i log sum_u rate_uv h(t_i - t_u) - sum_uv rate_uv H_uv ] - b sum_uv rate_uv

    the likelihood of :class:`NetRate`. A step draws a cascade with probability w_c / W, W = sum w,
    and follows its gradient, each rate scaled by rate / (E_uv + b) with E_uv the exposure summed
    with the weights. As the exposures are known, their part of the gradient is not sampled:

        rate_uv <- (1 - s) rate_uv + s W q_uv / (E_uv + b)

    where q_uv is the probability that u infected v in the cascade. So rates stay positive without
    a projection, and pairs that the cascade does not touch shrink by the same factor, which is made
    up for when they are touched next: a step costs as many operations as the cascade has candidate
    parents. After x passes s is 2 / W (1 + x)^-0.6. An interval starts from the rates of the last
    one, mixed with a tenth of equal rates, from which pairs that had gone out can come back.

    In the edge table of an interval, with q_i as above for each infection i of a cascade of weight
    w, ``n`` is the sum of w q, ``prob`` = 1 - prod (1 - q)^w, and ``rate_sd`` = rate /
    sqrt(sum w q^2), as for :class:`NetRate`. The table of the whole time takes each cascade once,
    with the rates of its interval, and the mean of the rates over time. Cascades that start outside
    of all intervals are not in it; those that start before may still be remembered.

    References
    ----------
    Gomez-Rodriguez, Leskovec, Schoelkopf (2013), Structure and dynamics of information pathways in
    online media, WSDM: the objective, its weights and stochastic gradients. Cappe, Moulines (2009),
    On-line expectation-maximization for latent data models, JRSS B 71: the scaling of the steps.

    Examples
    --------
    >>> import cascadenet as cn
    >>> network = cn.simulate.community_network(2, 10, within=0.4, between=0.0, seed=1)
    >>> data = cn.simulate.simulate_cascades(network, 50, horizon=2.0, seed=1).cascades
    >>> fit = cn.inference.InfoPath().fit(data)
    >>> list(fit.edges(interval=0).columns[:3])
    ['source', 'target', 'prob']
    """

    def __init__(
        self,
        delay: str | Delay = "exponential",
        theta: ArrayLike | None = None,
        intervals: int | ArrayLike = 1,
        window: float | None = None,
        half_life: float | None = None,
        passes: float = 30.0,
        shrinkage: float | None = None,
    ) -> None:
        self.delay = delay
        self.theta = theta
        self.intervals = intervals
        self.window = window
        self.half_life = half_life
        self.passes = passes
        self.shrinkage = shrinkage

    def fit(
        self,
        cascades: Cascades,
        seed: int | np.random.Generator = 0,
        progress: bool | None = None,
    ) -> InfoPath:
        """Estimate the rates of all intervals, the earliest first.

        Parameters
        ----------
        cascades : Cascades
            The data.
        seed : int or numpy.random.Generator
            Which cascades the steps draw.
        progress : bool, optional
            Show a progress bar; by default where stderr is a terminal.

        Returns
        -------
        InfoPath
            Itself.

        Raises
        ------
        TypeError, ValueError
            Settings of a wrong kind or out of range.
        FormatError
            Data the delay model cannot explain.
        """
        delay = get_delay(self.delay)
        theta = delay.check_parameters(self.theta)
        self._check_settings()
        check_cascades(cascades)
        ends = _boundaries(self.intervals, cascades.start)
        layout = build_layout(cascades)
        if self.theta is not None:
            theta = delay.rescale(theta, 1.0 / layout.unit)
        rate_unit = float(layout.unit ** -delay.rate_exponent(theta))
        penalty = 1.0 if self.shrinkage is None else self.shrinkage * rate_unit
        problem = _Problem.of(cascades, layout, delay, theta, penalty)
        belongs = np.searchsorted(ends, cascades.start, side="right") - 1
        belongs[cascades.start == ends[-1]] = ends.size - 2
        outcome = self._follow(problem, ends, belongs, np.random.default_rng(seed), progress)
        outcome.rate *= rate_unit
        self._cascades = cascades
        self._source, self._target = layout.pair_source, layout.pair_child
        self._outcome = outcome
        self._usable = np.flatnonzero(problem.usable)
        self._found = self._columns(*outcome.whole(np.diff(ends)))
        self.boundaries_ = ends
        self.objective_, self.n_steps_ = outcome.objective, outcome.n_steps
        self.theta_ = delay.rescale(theta, layout.unit)
        return self

    def edges(
        self, pairs: Any = None, top: int | None = None, interval: int | str | None = None
    ) -> pd.DataFrame:
        """Table of edges, best first: by prob, then n, then rate.

        Parameters
        ----------
        pairs, top
            As for the other methods; ``top`` rows of each interval.
        interval : int or "each", optional
            Interval, 0 to J - 1; ``"each"`` for all of them one after the other, with one more
            column ``interval``; by default one table of the whole time.

        Returns
        -------
        DataFrame
            ``source``, ``target``, ``prob``, ``n``, ``rate``, ``rate_sd``, ``rate_low``,
            ``rate_high``, as the notes of the class define them.

        Raises
        ------
        ValueError
            Not fitted; no such interval; unknown node or self-pair in ``pairs``; negative ``top``.
        """
        import pandas as pd

        self._check_fitted("edges")
        if interval is None:
            return self._table(self._found, pairs, top)
        last = self.boundaries_.size - 2
        if isinstance(interval, str) and interval == "each":
            tables = [self.edges(pairs, top, j).assign(interval=j) for j in range(last + 1)]
            return pd.concat(tables, ignore_index=True)
        whole = isinstance(interval, numbers.Integral) and not isinstance(interval, bool)
        if not (whole and 0 <= interval <= last):
            raise ValueError(f"interval must be 0 to {last} or 'each'; got {interval!r}")
        out = self._outcome
        parts = (out.rate, out.n, out.prob, out.information)
        return self._table(self._columns(*(x[interval] for x in parts)), pairs, top)

    def rates(self, times: ArrayLike, pairs: Any = None) -> pd.DataFrame:
        """Rates that hold at given times.

        Parameters
        ----------
        times : array_like of float
            Within the intervals, user's unit of time; a boundary belongs to the interval it opens.
        pairs : iterable of (source, target) or DataFrame, optional
            By default all pairs that could have carried an infection.

        Returns
        -------
        DataFrame
            ``time``, ``source``, ``target``, ``rate``: the pairs in their order at every time.

        Raises
        ------
        ValueError
            Not fitted; a time outside of the intervals; unknown node or self-pair in ``pairs``.
        """
        import pandas as pd

        self._check_fitted("rates")
        at = np.atleast_1d(np.asarray(times, dtype=np.float64))
        ends = self.boundaries_
        outside = ~((at >= ends[0]) & (at <= ends[-1]))
        if outside.any():
            raise ValueError(
                f"times must lie within the intervals, {ends[0]:g} to {ends[-1]:g}; got "
                f"{at[outside][0]}"
            )
        interval = np.minimum(np.searchsorted(ends, at, side="right") - 1, ends.size - 2)
        if pairs is None:
            pairs = self.edges()
        names = ["source", "target", "rate"]
        tables = [
            self.edges(pairs, interval=int(j))[names].assign(time=t)
            for t, j in zip(at, interval, strict=True)
        ]
        return pd.concat(tables, ignore_index=True)[["time", *names]]

    def _check_settings(self) -> None:
        if self.window is not None and self.half_life is not None:
            raise ValueError("window and half_life exclude each other; got both")
        for name in ("window", "half_life"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        check_positive("passes", self.passes)
        if self.shrinkage is not None and self.shrinkage != 0.0:
            check_positive("shrinkage", self.shrinkage)

    def _weights(self, start: np.ndarray, ends: np.ndarray, j: int) -> np.ndarray:
        """Weight of each cascade at the end of interval j, (C,)."""
        age = ends[j + 1] - start
        begun = age >= 0.0 if j == ends.size - 2 else age > 0.0
        if self.half_life is not None:
            return np.where(begun, np.exp2(-np.maximum(age, 0.0) / self.half_life), 0.0)
        window = ends[j + 1] - ends[j] if self.window is None else self.window
        return (begun & (age <= window)).astype(np.float64)

    def _follow(
        self,
        problem: _Problem,
        ends: np.ndarray,
        belongs: np.ndarray,
        rng: np.random.Generator,
        progress: bool | None,
    ) -> _Outcome:
        """Estimates of all intervals; each starts from those of the one before."""
        from tqdm.auto import tqdm

        n_intervals = ends.size - 1
        outcome = _Outcome.empty(n_intervals, problem.layout.n_pairs)
        rate = np.zeros(problem.layout.n_pairs)
        shown = tqdm(
            range(n_intervals),
            desc="intervals",
            disable=None if progress is None else not progress,
        )
        for j in shown:
            weight = self._weights(problem.start, ends, j)
            divisor = problem.divisor(weight)
            if weight.any():
                equal = problem.equal_rates(weight, divisor)
                seen = rate.any()
                rate = (1.0 - RESTART) * rate + RESTART * equal if seen else equal
                outcome.n_steps[j] = problem.climb(rate, weight, divisor, self.passes, rng)
            sums = problem.carried(rate, weight)
            outcome.fill(j, rate, sums, sums[-1] - float(rate @ divisor))
            own = (belongs == j).astype(np.float64)
            outcome.add(problem.carried(rate, own))
        return outcome

    def _columns(
        self, rate: np.ndarray, n: np.ndarray, prob: np.ndarray, information: np.ndarray
    ) -> EdgeColumns:
        columns = {"prob": prob, "n": n} | rate_columns(rate, information)
        return EdgeColumns(columns, {}, best_first(columns, self._usable))


@dataclass(frozen=True)
class _Problem:
    """The data as the gradients read them, internal unit.

    Attributes
    ----------
    start : float64 array, shape (C,)
        First infection of each cascade, user's unit.
    offset, row_of, cascade : int64 arrays
        Infections of each cascade; their rows in the layout; their cascades.
    hazard, cumulative : float64 arrays, shape (Q,)
        h of each candidate over the largest of its infection, and H.
    infection_full : float64 array, shape (I,)
        H from each infection to the horizon.
    log_scale : float64 array, shape (C,)
        What was taken out of the hazards of a cascade, sum of logarithms.
    usable : bool array, shape (P,)
        Pairs that could have carried an infection.
    penalty : float
        Rate of the prior.
    """

    layout: Layout
    start: np.ndarray
    offset: np.ndarray
    node: np.ndarray
    row_of: np.ndarray
    cascade: np.ndarray
    hazard: np.ndarray
    cumulative: np.ndarray
    infection_full: np.ndarray
    log_scale: np.ndarray
    usable: np.ndarray
    penalty: float

    @classmethod
    def of(
        cls, cascades: Cascades, layout: Layout, delay: Delay, theta: np.ndarray, penalty: float
    ) -> _Problem:
        """Lay out cascades; raises a FormatError where no candidate has a hazard."""
        cascade = np.repeat(np.arange(cascades.n_cascades), np.diff(cascades.offset))
        row_of = np.empty(layout.n_infections, np.int64)
        row_of[layout.infection] = np.arange(layout.n_infections)
        log_hazard = layout.log_hazard(delay, theta)
        hazard = layout.relative_weight(log_hazard)
        rows = np.flatnonzero(np.diff(layout.cand_ptr))
        largest = np.maximum.reduceat(log_hazard, layout.cand_ptr[:-1][rows]) if rows.size else []
        infected_in = cascade[layout.infection[rows]]
        watched = (cascades.horizon[cascade] - cascades.time) / layout.unit
        return cls(
            layout=layout,
            start=cascades.start,
            offset=cascades.offset,
            node=cascades.node,
            row_of=row_of,
            cascade=cascade,
            hazard=hazard,
            cumulative=delay.cumulative(layout.cand_delay, theta),
            infection_full=delay.cumulative(watched, theta),
            log_scale=np.bincount(infected_in, largest, minlength=cascades.n_cascades),
            usable=np.bincount(layout.cand_pair, minlength=layout.n_pairs) > 0,
            penalty=penalty,
        )

    def divisor(self, weight: np.ndarray) -> np.ndarray:
        """Weighted exposure plus the rate of the prior, positive, (P,)."""
        layout = self.layout
        exposure = np.empty(layout.n_pairs)
        _kernels.weighted_exposure(
            layout.child_ptr,
            layout.infection,
            self.offset,
            self.cascade,
            self.node,
            layout.pair_ptr,
            layout.pair_source,
            layout.cand_ptr,
            self.cumulative,
            self.infection_full,
            weight,
            exposure,
        )
        return np.maximum(exposure + self.penalty, np.finfo(np.float64).tiny)

    def equal_rates(self, weight: np.ndarray, divisor: np.ndarray) -> np.ndarray:
        """The best rates that are equal for all usable pairs."""
        with_parent = np.diff(self.layout.cand_ptr)[self.row_of] > 0
        total = float(weight[self.cascade[with_parent]].sum())
        exposed = float(divisor[self.usable].sum())
        return np.where(self.usable, total / exposed if exposed > 0.0 else 0.0, 0.0)

    def climb(
        self,
        rate: np.ndarray,
        weight: np.ndarray,
        divisor: np.ndarray,
        passes: float,
        rng: np.random.Generator,
    ) -> int:
        """Follow stochastic gradients; writes ``rate``, returns the number of steps."""
        remembered = float(weight.sum())
        n_steps = math.ceil(passes * remembered)
        reach = np.cumsum(weight)
        order = np.searchsorted(reach, rng.random(n_steps) * reach[-1], side="right")
        order = np.minimum(order, np.flatnonzero(weight)[-1])  # a product may round up to the end
        done = np.arange(n_steps) / remembered
        step = np.minimum(FIRST_STEP / remembered * (1.0 + done) ** -STEP_DECAY, LARGEST_STEP)
        layout = self.layout
        candidates = (layout.cand_ptr, layout.cand_pair, self.hazard)
        pull = remembered / divisor
        last = np.zeros(rate.size)
        _kernels.gradient_steps(
            order, step, self.offset, self.row_of, *candidates, pull, rate, 0.0, last
        )
        rate[~self.usable] = 0.0
        return n_steps

    def carried(
        self, rate: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Weighted sums of q, log(1 - q) and q^2 of each pair (P,), and of the log hazards."""
        sums = np.zeros((3, rate.size))
        layout = self.layout
        candidates = (layout.cand_ptr, layout.cand_pair, self.hazard)
        log_hazard = _kernels.expected_transmissions(
            self.offset, self.row_of, *candidates, weight, rate, *sums
        )
        return *sums, float(log_hazard + weight @ self.log_scale)


@dataclass
class _Outcome:
    """Estimates of J intervals, four arrays (J, P), and of the whole time, three (P,)."""

    rate: np.ndarray
    n: np.ndarray
    prob: np.ndarray
    information: np.ndarray
    total_n: np.ndarray
    total_log_none: np.ndarray
    total_information: np.ndarray
    objective: np.ndarray
    n_steps: np.ndarray

    @classmethod
    def empty(cls, n_intervals: int, n_pairs: int) -> _Outcome:
        """All zero."""
        each = (np.zeros((n_intervals, n_pairs)) for _ in range(4))
        total = (np.zeros(n_pairs) for _ in range(3))
        return cls(*each, *total, np.zeros(n_intervals), np.zeros(n_intervals, np.int64))

    def fill(self, j: int, rate: np.ndarray, sums: tuple, objective: float) -> None:
        """What was found for interval j."""
        self.rate[j], self.n[j], self.information[j] = rate, sums[0], sums[2]
        self.prob[j] = -np.expm1(sums[1])
        self.objective[j] = objective

    def add(self, sums: tuple) -> None:
        """Cascades of one more interval, for the table of the whole time."""
        self.total_n += sums[0]
        self.total_log_none += sums[1]
        self.total_information += sums[2]

    def whole(self, width: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Rate, n, prob and information of the whole time."""
        share = width / width.sum() if width.sum() > 0.0 else np.ones(1)
        return (
            share @ self.rate,
            self.total_n,
            -np.expm1(self.total_log_none),
            self.total_information,
        )


def _boundaries(intervals: Any, start: np.ndarray) -> np.ndarray:
    """Ends of the intervals, (J + 1,)."""
    if isinstance(intervals, numbers.Integral) and not isinstance(intervals, bool):
        count = whole_number("intervals", intervals, 1)
        low, high = float(start.min()), float(start.max())
        if low == high and count > 1:
            raise ValueError(
                f"intervals must be 1 where all cascades start at the same time; got {count}"
            )
        return np.linspace(low, high, count + 1)
    try:
        ends = np.asarray(intervals, dtype=np.float64)
    except (TypeError, ValueError):
        ends = np.empty(0)
    if ends.ndim != 1 or ends.size < 2:
        raise ValueError(f"intervals must be a number or at least two times; got {intervals!r:.60}")
    if not (np.isfinite(ends).all() and (np.diff(ends) > 0.0).all()):
        raise ValueError(f"intervals must be finite and increase; got {ends.tolist()}")
    return ends
