"""NetInf: the edges that explain the cascades best, found greedily."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.cascades import Cascades
from cascadenet.delays import Delay, get_delay
from cascadenet.inference.baselines import _kernels
from cascadenet.inference.baselines.table import (
    Baseline,
    EdgeColumns,
    check_cascades,
    check_positive,
    rate_columns,
)
from cascadenet.inference.layout import Layout, build_layout
from cascadenet.networks import whole_number

__all__ = ["NetInf"]

PATIENCE = 100  # edges beyond twice the best number before the search for a number ends
NO_LIMIT = -1


class NetInf(Baseline):
    """Network whose best spanning trees explain the cascades, edge by edge the one that helps most.

    Parameters
    ----------
    n_edges : int, optional
        Number of edges to choose. Fewer come back when no further edge explains anything better.
        By default the number is estimated, see the notes.
    delay : str or Delay
        Delay model, see :mod:`cascadenet.delays`.
    theta : array_like, optional
        Its parameters in the user's unit of time; by default those the delay model starts from.
    rate : float, optional
        Rate of transmission along every edge, user's unit; by default one per median candidate
        delay.
    epsilon : float
        Weight of an infection that no edge explains, where that of a parent is the density of the
        delay in units of the median candidate delay. So small that explaining an infection counts
        before explaining it well.

    Attributes
    ----------
    gains_ : float64 array, shape (K,)
        What each edge added to the log weight of the best trees, in the order of choice. Falls.
    criterion_ : float64 array, shape (K' + 1,)
        Survival log-likelihood with 0, 1, ... edges, less the price of the edges, nats up to a
        constant; as far as the search went.
    price_ : float
        Price of an edge, nats.
    explained_ : float
        Share of the infections that could have a parent and have one.

    Notes
    -----
    In a cascade an edge (u, v) has the weight rate h(D) exp(-rate H(D)) of its delay, and an
    infection without a parent epsilon. The log weight of the best trees of all cascades is a
    monotone submodular function of the set of edges, which the greedy choice brings to at least
    1 - 1/e of its maximum. Gains of pairs into other nodes do not change with a new edge, and those
    into the same node only fall, so most of them are never computed again; the result is exactly
    that of computing all of them each time, ties going to the first pair by target and source.

    These weights cannot say how many edges there are: they ignore the cascades in which a node did
    not follow, so that every edge adds something. The number of edges is therefore chosen on the
    greedy path by the survival likelihood. With n_uv infections explained by the edge in the best
    trees and exposure E_uv, its rate is n_uv / E_uv and the log-likelihood is

        sum_uv (n_uv log(n_uv / E_uv) - n_uv) + n_0 log(n_0 / E_0) - n_0 + sum_i log h(D_i)

    where n_0 infections without a parent come from a background that acts on all nodes alike. An
    edge costs log(C) / 2, the Schwarz criterion with the C cascades as the independent
    observations. The search ends at twice the best number of edges plus 100.

    The edge table holds the chosen edges in the order of choice:

    * ``prob``, the gain over the largest gain: no probability, but it has the order of choice;
    * ``n``, the infections that the edge explains in the best trees;
    * ``rate`` = n / exposure, with ``rate_sd`` = rate / sqrt(n) and the 94% interval
      rate exp(-+1.88 / sqrt(n)): the trees are taken as known. 0 and nan for an edge whose
      infections all went to later ones.

    All other pairs have zeros.

    References
    ----------
    Gomez-Rodriguez, Leskovec, Krause (2010), Inferring networks of diffusion and influence, KDD.
    Leskovec et al. (2007), Cost-effective outbreak detection in networks, KDD: the lazy evaluation.
    Schwarz (1978), Estimating the dimension of a model, Annals of Statistics 6.

    Examples
    --------
    >>> import cascadenet as cn
    >>> network = cn.simulate.community_network(2, 10, within=0.4, between=0.0, seed=1)
    >>> data = cn.simulate.simulate_cascades(network, 50, horizon=2.0, seed=1).cascades
    >>> len(cn.inference.NetInf(n_edges=12).fit(data).edges())
    12
    """

    def __init__(
        self,
        n_edges: int | None = None,
        delay: str | Delay = "exponential",
        theta: ArrayLike | None = None,
        rate: float | None = None,
        epsilon: float = 1e-64,
    ) -> None:
        self.n_edges = n_edges
        self.delay = delay
        self.theta = theta
        self.rate = rate
        self.epsilon = epsilon

    def fit(self, cascades: Cascades) -> NetInf:
        """Choose edges.

        Parameters
        ----------
        cascades : Cascades
            The data.

        Returns
        -------
        NetInf
            Itself.

        Raises
        ------
        TypeError, ValueError
            Settings of a wrong kind or out of range.
        """
        delay = get_delay(self.delay)
        theta = delay.check_parameters(self.theta)
        self._check_settings()
        check_cascades(cascades)
        layout = build_layout(cascades)
        if self.theta is not None:
            theta = delay.rescale(theta, 1.0 / layout.unit)
        rate_unit = float(layout.unit ** -delay.rate_exponent(theta))
        rate = 1.0 if self.rate is None else self.rate / rate_unit
        log_hazard = delay.log_hazard(layout.cand_delay, theta)
        weight = log_hazard - rate * delay.cumulative(layout.cand_delay, theta)
        weight += math.log(rate) - math.log(self.epsilon)
        exposure = np.maximum(layout.exposure(delay, theta)[0], np.finfo(np.float64).tiny)
        self.price_ = math.log(cascades.n_cascades) / 2.0
        outside = _time_at_risk(cascades) / layout.unit
        path = self._search(layout, weight, log_hazard, exposure, outside)
        n_pair = np.zeros(layout.n_pairs, np.int64)
        _kernels.explain(path, layout.cand_ptr, weight, *layout.incidence, n_pair)
        self._cascades = cascades
        self._source, self._target = layout.pair_source, layout.pair_child
        prob = np.zeros(layout.n_pairs)
        prob[path] = self.gains_ / self.gains_[0] if path.size else 0.0
        n = n_pair.astype(np.float64)
        columns = {"prob": prob, "n": n} | rate_columns(n / exposure * rate_unit, n)
        nothing = n_pair == 0
        for name in ("rate_sd", "rate_low", "rate_high"):
            columns[name][nothing] = np.nan
            columns[name][nothing & (prob == 0.0)] = 0.0
        self._found = EdgeColumns(columns, {}, path)
        with_parent = np.count_nonzero(np.diff(layout.cand_ptr))
        self.explained_ = float(n.sum() / with_parent) if with_parent else math.nan
        return self

    def _search(
        self,
        layout: Layout,
        weight: np.ndarray,
        log_hazard: np.ndarray,
        exposure: np.ndarray,
        outside: float,
    ) -> np.ndarray:
        """Chosen pairs in the order of choice; sets ``gains_`` and ``criterion_``."""
        given = self.n_edges is not None
        most = min(self.n_edges, layout.n_pairs) if given else layout.n_pairs
        chosen, gain = np.empty(most, np.int64), np.empty(most)
        criterion = np.empty(most + 1)
        count = _kernels.greedy_edges(
            layout.cand_ptr,
            weight,
            log_hazard,
            *layout.incidence,
            layout.pair_child,
            exposure,
            outside,
            self.price_,
            most,
            NO_LIMIT if given else PATIENCE,
            chosen,
            gain,
            criterion,
        )
        self.criterion_ = criterion[: count + 1].copy()
        best = count if given else int(self.criterion_.argmax())
        self.gains_ = gain[:best].copy()
        return chosen[:best].copy()

    def _check_settings(self) -> None:
        if self.n_edges is not None:
            whole_number("n_edges", self.n_edges, 0)
        if self.rate is not None:
            check_positive("rate", self.rate)
        check_positive("epsilon", self.epsilon)


def _time_at_risk(cascades: Cascades) -> float:
    """Time all nodes spent uninfected in the cascades that had begun, user's unit."""
    length = cascades.horizon - cascades.start
    watched = length.sum() * cascades.n_nodes
    cascade = np.repeat(np.arange(cascades.n_cascades), np.diff(cascades.offset))
    seen = cascades.time - cascades.start[cascade]
    at_risk = np.where(seen > 0.0, seen - length[cascade], -length[cascade])
    return max(float(watched + at_risk.sum()), np.finfo(np.float64).tiny)
