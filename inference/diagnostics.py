"""Has the chain converged, and how many independent draws is it worth?

Rank-normalised split R-hat and effective sample sizes of scalar summaries of a chain. All functions
take draws as ``(chains, draws)`` and share three conventions:

* every chain is split into its first and last half (the middle draw of an odd number is left out),
  so that a chain that drifts disagrees with itself;
* draws that are not finite, that are all equal, or fewer than four a chain give nan: there is
  nothing to say about them;
* a one-dimensional array is one chain.

References
----------
Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), "Rank-normalization, folding, and
localization: an improved R-hat for assessing convergence of MCMC", Bayesian Analysis 16(2).
Geyer (1992), "Practical Markov chain Monte Carlo", Statistical Science 7(4).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri

__all__ = ["ess_bulk", "ess_tail", "rhat", "summarise"]

_MIN_DRAWS = 4  # two halves of two draws: the least that has a variance and a lag
_TAILS = (0.05, 0.95)
_INTERVAL = (0.03, 0.97)


def rhat(draws: ArrayLike) -> float:
    """Rank-normalised split R-hat: the larger of the bulk and the folded value.

    Parameters
    ----------
    draws : array_like, float, shape (chains, draws)
        Draws of one scalar. With one chain its two halves are compared.

    Returns
    -------
    float
        1 when chains agree in location and in spread; above 1.01 they should not be trusted.
        inf when no chain moves but they stand in different places; nan for constant or non-finite
        draws.

    Raises
    ------
    ValueError
        If `draws` is not one- or two-dimensional or is not numeric.
    """
    values = _checked(draws)
    if not _usable(values):
        return np.nan
    halves = _split(values)
    bulk = _split_rhat(_rank_normalise(halves))
    folded = _split_rhat(_rank_normalise(np.abs(halves - np.median(halves))))
    # Draws with two values fold onto one: the folded statistic is then undefined, the bulk is not.
    return bulk if np.isnan(folded) else float(np.fmax(bulk, folded))


def ess_bulk(draws: ArrayLike) -> float:
    """Effective number of draws for the centre of the distribution (rank-normalised draws).

    Parameters
    ----------
    draws : array_like, float, shape (chains, draws)
        Draws of one scalar.

    Returns
    -------
    float
        Between about 1 and S log10(S) for S draws in all (antithetic chains exceed S); nan for
        constant or non-finite draws.

    Raises
    ------
    ValueError
        If `draws` is not one- or two-dimensional or is not numeric.
    """
    values = _checked(draws)
    return _ess(_rank_normalise(_split(values))) if _usable(values) else np.nan


def ess_tail(draws: ArrayLike) -> float:
    """Effective number of draws for the tails: the smaller of those of the 5% and 95% quantiles.

    Parameters
    ----------
    draws : array_like, float, shape (chains, draws)
        Draws of one scalar.

    Returns
    -------
    float
        nan for constant or non-finite draws.

    Raises
    ------
    ValueError
        If `draws` is not one- or two-dimensional or is not numeric.

    Notes
    -----
    The tail is the event ``x <= quantile``. Counts (occupied communities, say) often have their
    largest value as the 95% quantile, which makes that event certain and empty of information; the
    event is then ``x < quantile``, whose complement is the tail one means.
    """
    values = _checked(draws)
    if not _usable(values):
        return np.nan
    sizes = []
    for cut in np.quantile(values, _TAILS):
        below = values <= cut
        if below.all():
            below = values < cut
        sizes.append(_ess(_split(below.astype(np.float64))))
    # A handful of draws may have its only extreme one in the middle, where the split drops it.
    return float(np.fmin(*sizes))


def summarise(scalars: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """One row of estimates and diagnostics for each scalar.

    Parameters
    ----------
    scalars : mapping of str to array_like, float, shape (chains, draws)
        Draws by name.

    Returns
    -------
    DataFrame
        Indexed by name, in the order given: mean, sd, q3 and q97 (bounds of the central 94%
        interval), ess_bulk, ess_tail, rhat, mcse_mean (Monte Carlo standard error of the mean).

    Raises
    ------
    ValueError
        If draws are not one- or two-dimensional or not numeric; the message names the scalar.
    """
    columns = ["mean", "sd", "q3", "q97", "ess_bulk", "ess_tail", "rhat", "mcse_mean"]
    rows = [_summary_row(_checked(draws, name)) for name, draws in scalars.items()]
    return pd.DataFrame(rows, index=list(scalars), columns=columns, dtype=np.float64)


def _summary_row(values: NDArray[np.float64]) -> list[float]:
    """The columns of `summarise` for one scalar."""
    if values.size == 0 or not np.isfinite(values).all():
        return [np.nan] * 8
    low, high = np.quantile(values, _INTERVAL)
    sd = np.std(values, ddof=1) if values.size > 1 else np.nan
    ess_mean = _ess(_split(values)) if _usable(values) else np.nan
    diagnostics = [ess_bulk(values), ess_tail(values), rhat(values), sd / np.sqrt(ess_mean)]
    return [values.mean(), sd, low, high, *diagnostics]


def _checked(draws: ArrayLike, name: str = "draws") -> NDArray[np.float64]:
    """`draws` as a float array of shape (chains, draws)."""
    try:
        values = np.asarray(draws, dtype=np.float64)
    except (TypeError, ValueError) as error:
        message = f"{name} must be numbers of shape (chains, draws); got {type(draws).__name__}"
        raise ValueError(message) from error
    if values.ndim not in (1, 2):
        raise ValueError(f"{name} must have shape (chains, draws); got shape {values.shape}")
    return np.atleast_2d(values)


def _usable(values: NDArray[np.float64]) -> bool:
    """Whether there is anything to diagnose: enough draws, finite, not all the same."""
    if values.shape[0] == 0 or values.shape[1] < _MIN_DRAWS or not np.isfinite(values).all():
        return False
    return bool(values.min() < values.max())


def _split(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """First and last halves as chains: (chains, draws) -> (2 chains, draws // 2)."""
    half = values.shape[1] // 2
    return np.concatenate([values[:, :half], values[:, values.shape[1] - half :]])


def _rank_normalise(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normal scores of the pooled ranks; ties share their mean rank. Same shape as `values`."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count - 1) / 2.0
    # Blom's offsets, as in Vehtari et al. (2021)
    scores = ndtri((mean_rank - 0.375) / (values.size + 0.25))
    return scores[inverse].reshape(values.shape)


def _split_rhat(values: NDArray[np.float64]) -> float:
    """R-hat of chains that are already split; nan when they do not vary at all."""
    n_draws = values.shape[1]
    if (values.min(axis=1) == values.max(axis=1)).all():
        return np.nan if values.min() == values.max() else np.inf
    within = values.var(axis=1, ddof=1).mean()
    between = values.mean(axis=1).var(ddof=1)
    return float(np.sqrt((n_draws - 1) / n_draws + between / within))


def _autocovariance(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Biased autocovariance of every chain at every lag: (chains, draws) -> (chains, draws)."""
    n_draws = values.shape[1]
    centred = values - values.mean(axis=1, keepdims=True)
    # zero padding to twice the length keeps the circular convolution from wrapping around
    size = next_fast_len(2 * n_draws, real=True)
    power = np.abs(rfft(centred, size, axis=1)) ** 2
    return irfft(power, size, axis=1)[:, :n_draws] / n_draws


def _ess(values: NDArray[np.float64]) -> float:
    """Effective sample size of split chains by Geyer's initial monotone sequence.

    Notes
    -----
    With rho_t the autocorrelation of all chains together and P_k = rho_2k + rho_2k+1, the sum of
    autocorrelations stops before the first P_k <= 0 and uses the running minimum of the P_k; the
    even lag of the pair at which it stops is kept when positive, which matters for antithetic
    chains. The result is capped at S log10(S).
    """
    n_chains, n_draws = values.shape
    if values.min() == values.max():
        return np.nan
    covariance = _autocovariance(values).mean(axis=0)
    within = covariance[0] * n_draws / (n_draws - 1)
    total = covariance[0] + values.mean(axis=1).var(ddof=1)
    rho = 1.0 - (within - covariance) / total
    rho[0] = 1.0

    # The highest lags rest on a couple of products each and are never used.
    n_pairs = max(1, (n_draws - 1) // 2)
    pairs = rho[0 : 2 * n_pairs : 2] + rho[1 : 2 * n_pairs : 2]
    stops = np.flatnonzero(pairs <= 0.0)
    stop = stops[0] if stops.size else n_pairs - 1
    monotone = np.minimum.accumulate(pairs[:stop])
    last = rho[2 * stop] if rho[2 * stop] > 0.0 or pairs[stop] >= 0.0 else 0.0
    n_total = n_chains * n_draws
    autocorrelation_time = max(2.0 * monotone.sum() - 1.0 + last, 1.0 / np.log10(n_total))
    return float(n_total / autocorrelation_time)
