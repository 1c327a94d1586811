"""NetRate: maximum likelihood of the transmission rates."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np

from cascadenet.cascades import Cascades
from cascadenet.delays import Delay, get_delay
from cascadenet.inference.baselines.mixture import Problem, Solution, maximise, state_problem
from cascadenet.inference.baselines.table import (
    Baseline,
    EdgeColumns,
    best_first,
    check_bool,
    check_cascades,
    check_positive,
    rate_columns,
)
from cascadenet.inference.layout import Layout, build_layout
from cascadenet.networks import whole_number

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

__all__ = ["NetRate"]


class NetRate(Baseline):
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
        check_cascades(cascades)
        layout = build_layout(
            cascades, background=self.background, max_candidates=self.max_candidates
        )
        if self.theta is not None:
            theta = delay.rescale(theta, 1.0 / layout.unit)
        rate_unit = float(layout.unit ** -delay.rate_exponent(theta))
        problem = state_problem(layout, delay, theta, shape - 1.0, rate * rate_unit)
        solution = maximise(problem.mixture, problem.start, self.tolerance, self.max_iterations)
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
        check_bool("background", self.background)
        if self.max_candidates is not None:
            whole_number("max_candidates", self.max_candidates, 1)
        whole_number("max_iterations", self.max_iterations, 1)
        check_positive("tolerance", self.tolerance)
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

    def _fill(self, layout: Layout, problem: Problem, solution: Solution, rate_unit: float) -> None:
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
        columns = {"prob": probs[edge], "n": n[edge]}
        columns |= rate_columns(rate[edge] * rate_unit, inform[edge])
        shown = np.flatnonzero(np.isin(np.flatnonzero(edge), at))
        unmet = np.zeros(layout.n_nodes)
        if problem.prior_shape > 0.0:
            unmet = problem.prior_shape / problem.node_denominator * rate_unit
        unmet_columns = rate_columns(unmet, np.full(layout.n_nodes, problem.prior_shape))
        self._found = EdgeColumns(columns, unmet_columns, best_first(columns, shown))
        self._background = None
        if layout.background:
            rates = rate_columns(rate[~edge] / layout.unit, inform[~edge])
            self._background = {name: rates[name] for name in ("rate", "rate_sd")}
            self._background["n"] = n[~edge]
