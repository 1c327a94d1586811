"""Cascades laid out by child: candidate parents, listed pairs and exposures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cascadenet.errors import FormatError
from cascadenet.inference import _kernels

if TYPE_CHECKING:
    from cascadenet.cascades import Cascades
    from cascadenet.delays import Delay

BACKGROUND = -1


@dataclass(frozen=True)
class Layout:
    """Everything a sweep reads of the data; nothing in it changes while a chain runs.

    Infections are ordered by child, pairs by child and then source; only pairs that met in a
    cascade are listed, for all others the exposure is that of the source alone
    (:meth:`exposure`). Times are in units of the median candidate delay.

    Attributes
    ----------
    n_nodes : int
        Number of nodes N.
    unit : float
        Median candidate delay in the user's unit of time.
    child_ptr : int64 array, shape (N + 1,)
        Infections of node v are rows ``child_ptr[v]:child_ptr[v + 1]``.
    infection : int64 array, shape (M,)
        Index of each row in the flat arrays of the cascades.
    cand_ptr : int64 array, shape (M + 1,)
        Candidate parents of each row; seeds have none.
    cand_pair, cand_delay : int32 and float64 array, shape (Q,)
        Pair and delay (internal unit) of each candidate.
    pair_ptr : int64 array, shape (N + 1,)
        Pairs into node v.
    pair_source, pair_child : int32 array, shape (P,)
        Source (-1: the background) and child of each pair.
    inc_ptr, inc_infection, inc_position : arrays, shapes (P + 1,), (Q,), (Q,)
        For each pair, the infections it could explain and its position among their candidates.
    background : bool
        Whether every child has a background source, first among its pairs and candidates.
    n_cut : int
        Candidates dropped by ``max_candidates``.
    """

    n_nodes: int
    unit: float
    background: bool
    n_cut: int
    child_ptr: np.ndarray
    infection: np.ndarray
    cand_ptr: np.ndarray
    cand_pair: np.ndarray
    cand_delay: np.ndarray
    pair_ptr: np.ndarray
    pair_source: np.ndarray
    pair_child: np.ndarray
    inc_ptr: np.ndarray
    inc_infection: np.ndarray
    inc_position: np.ndarray
    _offset: np.ndarray = field(repr=False)
    _cascade: np.ndarray = field(repr=False)
    _node: np.ndarray = field(repr=False)
    _n_earlier: np.ndarray = field(repr=False)
    _first_cand: np.ndarray = field(repr=False)
    _influence: np.ndarray = field(repr=False)  # time from infection to the end of its influence
    _background_exposure: np.ndarray = field(repr=False)

    @property
    def n_pairs(self) -> int:
        """Number of listed pairs, background pairs included."""
        return self.pair_source.size

    @property
    def n_infections(self) -> int:
        """Number of infections, seeds included."""
        return self.infection.size

    def exposure(self, delay: Delay, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Exposure of the listed pairs and, for all others, of each source.

        Parameters
        ----------
        delay : Delay
            Delay model.
        theta : float64 array
            Its parameters in the internal unit.

        Returns
        -------
        exposure : float64 array, shape (P,)
            E_uv of the listed pairs (background: its own exposure).
        node_full : float64 array, shape (N,)
            E_uv of source u and any child it never met.
        """
        infection_full = delay.cumulative(self._influence, theta)
        node_full = np.bincount(self._node, weights=infection_full, minlength=self.n_nodes)
        node_cascades = np.bincount(self._node, minlength=self.n_nodes)
        exposure = np.empty(self.n_pairs)
        _kernels.pair_exposure(
            self.child_ptr,
            self.infection,
            self._offset,
            self._cascade,
            self._node,
            self._n_earlier,
            self._first_cand,
            self.pair_ptr,
            self.pair_source,
            self.background,
            self.cand_ptr,
            delay.cumulative(self.cand_delay, theta),
            infection_full,
            node_full,
            node_cascades,
            exposure,
        )
        if self.background:
            exposure[self.pair_ptr[:-1]] = self._background_exposure
        return exposure, node_full

    def log_hazard(self, delay: Delay, theta: np.ndarray) -> np.ndarray:
        """Log hazard shape of every candidate, shape (Q,); a background candidate has 0."""
        log_hazard = delay.log_hazard(self.cand_delay, theta)
        if self.background:
            rows = np.diff(self.cand_ptr) > 0
            log_hazard[self.cand_ptr[:-1][rows]] = 0.0
        return log_hazard

    def relative_weight(self, log_weight: np.ndarray) -> np.ndarray:
        """Candidate weights divided by the largest of their infection, shape (Q,).

        Raises
        ------
        FormatError
            When all candidates of an infection have weight zero.
        """
        rows = np.flatnonzero(np.diff(self.cand_ptr) > 0)
        if rows.size == 0:
            return np.empty(0)
        largest = np.maximum.reduceat(log_weight, self.cand_ptr[:-1][rows])
        if not np.isfinite(largest).all():
            m = rows[np.flatnonzero(~np.isfinite(largest))[0]]
            i = self.infection[m]
            raise FormatError(
                f"no candidate parent of node index {self._node[i]} in cascade index "
                f"{self._cascade[i]} has a positive hazard under this delay model; expected at "
                "least one: use another delay model or background=True"
            )
        return np.exp(log_weight - np.repeat(largest, np.diff(self.cand_ptr)[rows]))


def build_layout(
    cascades: Cascades, *, background: bool = False, max_candidates: int | None = None
) -> Layout:
    """Lay cascades out by child.

    Parameters
    ----------
    cascades : Cascades
        The data.
    background : bool
        Give every infection that is no seed the background as one more candidate.
    max_candidates : int, optional
        A node stops acting once so many later infections have followed in its cascade; its
        exposure ends there too.

    Returns
    -------
    Layout
    """
    node, time, offset = cascades.node, cascades.time, cascades.offset
    n_nodes, size = cascades.n_nodes, node.size
    cascade = np.repeat(np.arange(cascades.n_cascades), np.diff(offset))
    n_earlier = _count_earlier(time, offset, cascade)
    influence = cascades.horizon[cascade] - time
    first_cand = np.zeros(size, np.int64)
    if max_candidates is not None:
        first_cand = np.maximum(n_earlier - max_candidates, 0)
        leaver = np.arange(size) + max_candidates  # the infection that pushes this one out
        inside = leaver < offset[cascade + 1]
        influence[inside] = time[leaver[inside]] - time[np.flatnonzero(inside)]
    infection = np.argsort(node, kind="stable")
    child_ptr = _pointers(np.bincount(node, minlength=n_nodes))

    shared = (child_ptr, infection, offset, cascade, node)
    pair_count = np.full(n_nodes, int(background), np.int64)
    _kernels.count_pairs(*shared, first_cand, pair_count)
    pair_ptr = _pointers(pair_count)
    pair_source = np.full(pair_ptr[-1], BACKGROUND, np.int32)
    cursor = pair_ptr[:-1] + int(background)
    _kernels.fill_pairs(*shared, first_cand, cursor, pair_source)

    width = n_earlier - first_cand
    width += (n_earlier > 0) & background
    cand_ptr = _pointers(width[infection])
    cand_pair = np.empty(cand_ptr[-1], np.int32)
    cand_delay = np.empty(cand_ptr[-1])
    _kernels.fill_candidates(
        *shared,
        time,
        n_earlier,
        first_cand,
        pair_ptr,
        pair_source,
        background,
        cand_ptr,
        cand_pair,
        cand_delay,
    )
    inc_ptr = _pointers(np.bincount(cand_pair, minlength=pair_source.size))
    inc_infection = np.empty(cand_pair.size, np.int32)
    inc_position = np.empty(cand_pair.size, np.int32)
    _kernels.fill_incidence(cand_ptr, cand_pair, inc_ptr[:-1].copy(), inc_infection, inc_position)

    unit = float(np.median(cand_delay)) if cand_delay.size else 1.0
    cand_delay /= unit
    return Layout(
        n_nodes=n_nodes,
        unit=unit,
        background=background,
        n_cut=int(first_cand.sum()),
        child_ptr=child_ptr,
        infection=infection,
        cand_ptr=cand_ptr,
        cand_pair=cand_pair,
        cand_delay=cand_delay,
        pair_ptr=pair_ptr,
        pair_source=pair_source,
        pair_child=np.repeat(np.arange(n_nodes, dtype=np.int32), np.diff(pair_ptr)),
        inc_ptr=inc_ptr,
        inc_infection=inc_infection,
        inc_position=inc_position,
        _offset=offset,
        _cascade=cascade,
        _node=node,
        _n_earlier=n_earlier,
        _first_cand=first_cand,
        _influence=influence / unit,
        _background_exposure=_background_exposure(cascades, n_earlier, cascade) / unit,
    )


def _pointers(counts: np.ndarray) -> np.ndarray:
    pointers = np.zeros(counts.size + 1, np.int64)
    np.cumsum(counts, out=pointers[1:])
    return pointers


def _count_earlier(time: np.ndarray, offset: np.ndarray, cascade: np.ndarray) -> np.ndarray:
    """Strictly earlier infections in the same cascade; those at one instant share the count."""
    index = np.arange(time.size)
    opens = np.ones(time.size, bool)
    opens[1:] = (time[1:] != time[:-1]) | (cascade[1:] != cascade[:-1])
    return np.maximum.accumulate(np.where(opens, index, 0)) - offset[cascade]


def _background_exposure(
    cascades: Cascades, n_earlier: np.ndarray, cascade: np.ndarray
) -> np.ndarray:
    """Time each node was watched while uninfected, from the start of each cascade, shape (N,).

    A seed was never at risk in its cascade; an infected node was until its infection.
    """
    length = cascades.horizon - cascades.start
    unseen = np.where(n_earlier == 0, length[cascade], cascades.horizon[cascade] - cascades.time)
    met = np.bincount(cascades.node, weights=unseen, minlength=cascades.n_nodes)
    return np.maximum(length.sum() - met, 0.0)
