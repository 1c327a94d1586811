"""Edge tables of the baselines, and the checks that all of them make."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.cascades import Cascades
from cascadenet.networks import whole_number
from cascadenet.pairs import check_different, pair_keys, read_pairs, rows_of
from cascadenet.posterior import EDGE_COLUMNS, INTERVAL

if TYPE_CHECKING:
    import pandas as pd

LEAST_INFORMATION = 0.01  # below it a rate's standard deviation is over ten times the rate
RATE_COLUMNS = ("rate", "rate_sd", "rate_low", "rate_high")


@dataclass(frozen=True)
class EdgeColumns:
    """What a method found about the pairs that met, and about all others.

    Attributes
    ----------
    values : mapping of str to float64 array, shape (P,)
        prob, n, rate, rate_sd, rate_low, rate_high of the pairs that met.
    unmet : mapping of str to float64 array, shape (N,)
        The same of a pair that never met, by its source; zero where a name is missing.
    ranked : int64 array
        Pairs to list, best first.
    """

    values: Mapping[str, np.ndarray]
    unmet: Mapping[str, np.ndarray]
    ranked: np.ndarray

    def of(self, source: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of any pairs, given their sources and rows, -1 for those that never met."""
        met = rows >= 0
        columns = {}
        for name, values in self.values.items():
            unmet = self.unmet.get(name)
            column = np.zeros(rows.size) if unmet is None else unmet[source]
            column[met] = values[rows[met]]
            columns[name] = column
        return columns


class Baseline:
    """A method with an edge table.

    A fit sets ``_cascades``; ``_source`` and ``_target`` (P,), the node indices of the pairs that
    met, sorted by target and then source; and ``_found``, what it found about them.
    """

    _cascades: Cascades
    _source: np.ndarray
    _target: np.ndarray
    _found: EdgeColumns

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
        self._check_fitted("edges")
        return self._table(self._found, pairs, top)

    def _table(self, found: EdgeColumns, pairs: Any, top: int | None) -> pd.DataFrame:
        import pandas as pd

        if top is not None:
            whole_number("top", top, 0)
        if pairs is None:
            rows = found.ranked[:top]
            source, target = self._source[rows], self._target[rows]
        else:
            source, target = (ends[:top] for ends in self._pair_indices(pairs))
            n_nodes = self._cascades.n_nodes
            keys = pair_keys(self._source, self._target, n_nodes)
            rows = rows_of(keys, pair_keys(source, target, n_nodes))
        labels = np.asarray(self._cascades.nodes)
        columns = found.of(source, rows)
        columns |= {"source": labels[source], "target": labels[target]}
        return pd.DataFrame({name: columns[name] for name in EDGE_COLUMNS})

    def _pair_indices(self, pairs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Node indices of the pairs a user asks for."""
        source, target = (self._cascades.index_of(labels) for labels in read_pairs(pairs))
        check_different(source, target, self._cascades.nodes)
        return source, target

    def _check_fitted(self, method: str) -> None:
        if not hasattr(self, "_found"):
            name = type(self).__name__
            raise ValueError(f"this {name} is not fitted; expected a call of fit before {method}")


def rate_columns(rate: np.ndarray, information: np.ndarray) -> dict[str, np.ndarray]:
    """Rate with its uncertainty, given the observed information of its logarithm."""
    relative = np.full(rate.shape, np.nan)
    np.divide(1.0, np.sqrt(information), out=relative, where=information >= LEAST_INFORMATION)
    low, high = (rate * np.exp(NormalDist().inv_cdf(q) * relative) for q in INTERVAL)
    return {"rate": rate, "rate_sd": rate * relative, "rate_low": low, "rate_high": high}


def best_first(columns: Mapping[str, np.ndarray], shown: np.ndarray) -> np.ndarray:
    """Those rows, (n,), ordered by prob, then n, then rate."""
    return shown[np.lexsort([-columns[name][shown] for name in ("rate", "n", "prob")])]


def check_cascades(cascades: object) -> None:
    """Raise a TypeError unless they are Cascades."""
    if not isinstance(cascades, Cascades):
        raise TypeError(f"cascades must be a Cascades; got {type(cascades).__name__}")


def check_bool(name: str, value: object) -> None:
    """Raise a TypeError unless the argument is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False; got {value!r}")


def check_positive(name: str, value: object) -> None:
    """Raise a ValueError unless the argument is a finite positive number."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (number and 0.0 < value < math.inf):
        raise ValueError(f"{name} must be a finite positive number; got {value!r}")
