"""Forecasts of cascades as methods of a posterior, the work of `cascadenet.inference.forecast`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from cascadenet.cascades import Cascades
    from cascadenet.inference.forecast import Check, Spread
    from cascadenet.posterior import Posterior


class Forecasts:
    """What :class:`cascadenet.Posterior` says about cascades; survival likelihood only."""

    def log_predictive(
        self: Posterior, cascades: Cascades, draws: int | None = None
    ) -> pd.DataFrame:
        """Predictive density of new cascades, given their seeds.

        Parameters
        ----------
        cascades : Cascades
            Their infected nodes must be known; nodes they do not name were not infected.
        draws : int, optional
            Use so many of the network draws, evenly spaced; all by default.

        Returns
        -------
        DataFrame
            ``cascade``; ``log_predictive``, log of the density averaged over the draws, per the
            user's unit of time for each infection, so that fits with other internal units, delay
            models or priors compare; ``n_infections``, those that are no seeds.
            :func:`cascadenet.inference.forecast.score_predictive` gives the mean per infection
            with its standard error, ``compare_predictive`` a paired difference.

        Raises
        ------
        ValueError
            Infected nodes that are not known, ``likelihood="tree"``.

        Notes
        -----
        Under a draw the rates are independent Gamma(s, q) with s = r + n and q = b + E. A pair
        exposed for H in the new cascade contributes (q / (q + H))^s, and a child the sum over
        its candidates u of h(delay) s / (q + H). Not being infected by the horizon counts, over
        all known nodes. Ties, ``max_candidates`` and the background are as in the fit.
        """
        from cascadenet.inference.forecast import likelihood

        return likelihood.log_predictive(self, cascades, draws)

    def simulate(
        self: Posterior,
        seeds: Any,
        within: float,
        size: int = 1,
        seed: int | np.random.Generator | None = None,
    ) -> Cascades:
        """Simulate cascades, each with rates of its own from the posterior.

        Parameters
        ----------
        seeds : iterable of labels, or of (node, time), or DataFrame with columns node and time
            Who has been infected; labels alone at time 0. Nobody else was until the last of them.
        within : float
            Cascades are followed for so long after that, user's unit.
        size : int
            Number of cascades, shared among the network draws in order.
        seed : int, numpy.random.Generator or None
            Determines every byte.

        Returns
        -------
        Cascades
            Labelled 0, 1, ...; their horizon is the end.

        Raises
        ------
        ValueError
            Unknown nodes, ``within`` not positive and finite, ``likelihood="tree"``.
        """
        from cascadenet.inference.forecast import spread

        return spread.cascades_from(self, seeds, within, size, seed)

    def spread(
        self: Posterior,
        prefix: Any,
        within: float,
        draws: int = 1000,
        seed: int | np.random.Generator | None = None,
        now: float | None = None,
    ) -> Spread:
        """How far a cascade will spread: its size, whom it reaches, and when.

        Parameters
        ----------
        prefix : iterable of labels, or of (node, time), or DataFrame with columns node and time
            Who has been infected so far; labels alone at time 0.
        within : float
            Forecast until so long after ``now``, user's unit. Infinite where the delay model's
            total hazard is finite (decay, lognormal) and there is no background.
        draws : int
            Simulated cascades.
        seed : int, numpy.random.Generator or None
            Determines every byte.
        now : float, optional
            Present time, not before the last infection, which is the default. That nobody else
            was infected until then is taken into account.

        Returns
        -------
        Spread
            ``sizes``, ``nodes``, ``summary()``, ``size_distribution()``.

        Raises
        ------
        ValueError
            As :meth:`predict_next`; ``within`` not positive.

        Notes
        -----
        Given a draw of the network, rates are conditioned on the prefix exactly. The draws
        themselves keep equal weights, as in :meth:`predict_next`: one cascade says little about
        the network beside those of the fit.
        """
        from cascadenet.inference.forecast.spread import spread

        return spread(self, prefix, within, draws, seed, now)

    def influence(
        self: Posterior,
        within: float,
        samples: int = 200,
        top: int | None = None,
        seed: int | np.random.Generator | None = None,
    ) -> pd.DataFrame:
        """Expected reach of every node: how many it would infect, itself included.

        Parameters
        ----------
        within : float
            Horizon after its infection, user's unit; may be infinite as in :meth:`spread`.
        samples : int
            Live-edge graphs, shared by all nodes and spread evenly over the network draws.
        top : int, optional
            Only the most influential.
        seed : int, numpy.random.Generator or None
            Determines every byte.

        Returns
        -------
        DataFrame
            ``node``, ``reach``, its Monte Carlo standard error ``se``, and a 94% interval ``low``,
            ``high`` of the number reached. Best first. Infections from outside are not counted.
        """
        from cascadenet.inference.forecast import influence

        return influence.influence(self, within, samples, top, seed)

    def seed_set(
        self: Posterior,
        k: int,
        within: float,
        samples: int = 200,
        seed: int | np.random.Generator | None = None,
    ) -> pd.DataFrame:
        """Nodes to start from so that most are reached, chosen greedily.

        Parameters
        ----------
        k : int
            Size of the set.
        within, samples, seed
            As in :meth:`influence`.

        Returns
        -------
        DataFrame
            ``node`` in the order chosen; ``gain``, further nodes expected to be reached, itself
            included, and ``total`` so far, both measured on graphs other than those that chose,
            with standard errors ``gain_se``, ``total_se``.

        Raises
        ------
        ValueError
            ``k`` not from 1 to the number of nodes; a fit with ``max_candidates``.
        """
        from cascadenet.inference.forecast import influence

        return influence.seed_set(self, k, within, samples, seed)

    def check(
        self: Posterior,
        cascades: Cascades,
        replicates: int = 100,
        seed: int | np.random.Generator | None = None,
    ) -> Check:
        """Compare cascades with replicates from the posterior, same seeds and horizons.

        Parameters
        ----------
        cascades : Cascades
            Those of the fit, or new ones, which makes the harder check.
        replicates : int
            Replicated data sets, spread evenly over the network draws.
        seed : int, numpy.random.Generator or None
            Determines every byte.

        Returns
        -------
        Check
            ``table``: ``statistic``, ``observed``, and of the replicates ``mean``, ``sd``, 94%
            interval ``low``, ``high``; ``p``, the two-sided tail area, ties counted half.
            ``replicates``: all values.
        """
        from cascadenet.inference.forecast import checks

        return checks.check(self, cascades, replicates, seed)
