"""Cascades laid out by child: candidate parents, listed pairs and exposures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from cascadenet.errors import FormatError
from cascadenet.inference.layout import _kernels

if TYPE_CHECKING:
    from cascadenet.cascades import Cascades
    from cascadenet.delays import Delay

BACKGROUND = -1
BLOCK = 1 << 18  # candidates whose delays are in memory at a time


@dataclass(frozen=True)
class Layout:
    """Everything a sweep reads of the data; nothing in it changes while a chain runs.

    Infections are ordered by child, pairs by child and then source; only pairs that met in a
    cascade are listed, for all others the exposure is that of the source alone
    (:meth:`exposure`). Times are in units of the
    median candidate delay unless another unit was given.

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
    cand_pair : int32 array, shape (Q,)
        Pair of each candidate.
    cand_start, cand_stop : int64 array, shape (M,)
        The same as a range of the flat arrays of the cascades, the background left out.
    pair_ptr : int64 array, shape (N + 1,)
        Pairs into node v.
    pair_source : int32 array, shape (P,)
        Source of each pair, -1 for the background.
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
    cand_start: np.ndarray
    cand_stop: np.ndarray
    pair_ptr: np.ndarray
    pair_source: np.ndarray
    _offset: np.ndarray = field(repr=False)
    _cascade: np.ndarray = field(repr=False)
    _node: np.ndarray = field(repr=False)
    _time: np.ndarray = field(repr=False)  # user's unit
    _n_earlier: np.ndarray = field(repr=False)
    _first_cand: np.ndarray = field(repr=False)
    _influence: np.ndarray = field(repr=False)  # time from infection to the end of its influence
    _background_exposure: np.ndarray = field(repr=False)

    @property
    def node(self) -> np.ndarray:
        """Node of each infection in the flat arrays of the cascades, int32 (I,)."""
        return self._node

    @property
    def n_pairs(self) -> int:
        """Number of listed pairs, background pairs included."""
        return self.pair_source.size

    @property
    def pair_child(self) -> np.ndarray:
        """Child of each pair, int32 (P,), made anew."""
        return np.repeat(np.arange(self.n_nodes, dtype=np.int32), np.diff(self.pair_ptr))

    def children_of(self, pairs: np.ndarray) -> np.ndarray:
        """Child of some pairs given by index, int32."""
        return (np.searchsorted(self.pair_ptr, pairs, side="right") - 1).astype(np.int32)

    @property
    def n_infections(self) -> int:
        """Number of infections, seeds included."""
        return self.infection.size

    @property
    def lookup(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
        """What tells where a source stands among an infection's candidates, for the kernels."""
        ends = self.child_ptr, self.infection, self.cand_start, self.cand_stop
        return (*ends, int(self.background))

    @cached_property
    def meeting(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """What tells which infections of two nodes share a cascade, for the kernels.

        Returns
        -------
        source_cascade, cascade : int32 array
            Cascade of each infection that `lookup` has for sources, and of each row.
        node : int32 array, shape (I,)
            Node of each infection in the flat arrays of the cascades.
        n_cascades : int
        """
        cascade = self._cascade.astype(np.int32)
        ordered = self.lookup[1]
        both = np.column_stack((cascade[ordered], ordered.astype(np.int32)))
        return both, cascade[self.infection], self._node, self._offset.size - 1

    def blocks(self) -> list[tuple[int, int]]:
        """Ranges of children, each of about ``BLOCK`` candidates, that make up all."""
        before = self.cand_ptr[self.child_ptr]  # candidates before each child
        ends = np.searchsorted(before, np.arange(0, before[-1], BLOCK))
        ends = np.unique(np.concatenate(([0], ends, [self.n_nodes]))).tolist()
        return list(pairwise(ends))

    def delays(self, low: int = 0, high: int | None = None) -> np.ndarray:
        """Delays of the candidates of children ``low:high``, by default of all, float64.

        In the internal unit; a background candidate's is the time since the start of its cascade.
        """
        first, last = self.child_ptr[[low, self.n_nodes if high is None else high]]
        delays = np.empty(self.cand_ptr[last] - self.cand_ptr[first])
        _kernels.fill_delays(
            first,
            last,
            self.infection,
            self._offset,
            self._cascade,
            self._time,
            self._n_earlier,
            self._first_cand,
            self.background,
            self.cand_ptr,
            delays,
        )
        delays /= self.unit
        return delays

    @cached_property
    def cand_delay(self) -> np.ndarray:
        """All delays, kept for methods that need them again and again, float64 (Q,)."""
        return self.delays()

    def chosen_delays(self, rows: np.ndarray, choice: np.ndarray) -> np.ndarray:
        """Delays of one candidate each, not the background, of some infections, float64."""
        source = self.cand_start[rows] + choice - int(self.background)
        return (self._time[self.infection[rows]] - self._time[source]) / self.unit

    @property
    def n_cand(self) -> np.ndarray:
        """Infections that each pair could explain, int32 (P,), made anew."""
        return counted(self.cand_pair, self.n_pairs)

    @cached_property
    def few_cand(self) -> np.ndarray:
        """The same where they are fewer than 255, and 255 for all others, uint8 (P,)."""
        return np.minimum(self.n_cand, 255).astype(np.uint8)

    @cached_property
    def n_unlisted(self) -> np.ndarray:
        """Nodes that each source never met, int64 (N,)."""
        return self.n_nodes - 1 - counted(self.pair_source, self.n_nodes).astype(np.int64)

    @cached_property
    def incidence(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each pair, the infections it could explain and its places among their candidates.

        Returns
        -------
        ptr : int64 array, shape (P + 1,)
        infection, place : int32 array, shape (Q,)
        """
        ptr = _pointers(self.n_cand)
        infection, place = (np.empty(self.cand_pair.size, np.int32) for _ in "ab")
        _kernels.fill_incidence(self.cand_ptr, self.cand_pair, ptr[:-1].copy(), infection, place)
        return ptr, infection, place

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
        for low, high in self.blocks():
            _kernels.pair_exposure(
                low,
                high,
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
                delay.cumulative(self.delays(low, high), theta),
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
        return self._log_weight(lambda delays: delay.log_hazard(delays, theta), 0, self.n_nodes)

    def _log_weight(
        self, log_weight: Callable[[np.ndarray], np.ndarray], low: int, high: int
    ) -> np.ndarray:
        """A function of the delays of the candidates of some children; 0 for the background."""
        value = log_weight(self.delays(low, high))
        if self.background:
            ptr = self.cand_ptr[self.child_ptr[low] : self.child_ptr[high] + 1]
            value[ptr[:-1][np.diff(ptr) > 0] - ptr[0]] = 0.0
        return value

    def hazard_weight(self, log_weight: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Weights of all candidates as in `relative_weight`, from logs as a function of delays.

        Made block by block, so that nothing but the weights is as large as they are.
        """
        weight = np.empty(self.cand_pair.size)
        for low, high in self.blocks():
            first, last = self.child_ptr[[low, high]]
            block = slice(self.cand_ptr[first], self.cand_ptr[last])
            weight[block] = self.relative_weight(
                self._log_weight(log_weight, low, high), first, last
            )
        return weight

    def relative_weight(
        self, log_weight: np.ndarray, first: int = 0, last: int | None = None
    ) -> np.ndarray:
        """Candidate weights divided by the largest of their infection, of rows ``first:last``.

        Raises
        ------
        FormatError
            When all candidates of an infection have weight zero.
        """
        ptr = self.cand_ptr[first : None if last is None else last + 1]
        width = np.diff(ptr)
        rows = np.flatnonzero(width > 0)
        if rows.size == 0:
            return np.empty(0)
        largest = np.maximum.reduceat(log_weight, ptr[:-1][rows] - ptr[0])
        if not np.isfinite(largest).all():
            m = first + rows[np.flatnonzero(~np.isfinite(largest))[0]]
            i = self.infection[m]
            raise FormatError(
                f"no candidate parent of node index {self._node[i]} in cascade index "
                f"{self._cascade[i]} has a positive hazard under this delay model; expected at "
                "least one: use another delay model or background=True"
            )
        return np.exp(log_weight - np.repeat(largest, width[rows]))


def build_layout(
    cascades: Cascades,
    *,
    background: bool = False,
    max_candidates: int | None = None,
    unit: float | None = None,
    listed: tuple[np.ndarray, np.ndarray] | None = None,
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
    unit : float, optional
        Internal unit of time; by default the median candidate delay.
    listed : pair of int arrays, optional
        Sources and children of pairs to list besides those that met.

    Returns
    -------
    Layout
    """
    node, time, offset = cascades.node, cascades.time, cascades.offset
    cascade = np.repeat(np.arange(cascades.n_cascades), np.diff(offset))
    n_earlier = _count_earlier(time, offset, cascade)
    influence = cascades.horizon[cascade] - time
    first_cand = np.zeros(node.size, np.int64)
    if max_candidates is not None:
        first_cand = np.maximum(n_earlier - max_candidates, 0)
        leaver = np.arange(node.size) + max_candidates  # the infection that pushes this one out
        inside = leaver < offset[cascade + 1]
        influence[inside] = time[leaver[inside]] - time[np.flatnonzero(inside)]
    infection = np.argsort(node, kind="stable")
    child_ptr = _pointers(np.bincount(node, minlength=cascades.n_nodes))
    met = (child_ptr, infection, offset, cascade, node)
    pair_ptr, pair_source = _list_pairs(met, first_cand, background)
    if listed is not None:
        pair_ptr, pair_source = _with_pairs(pair_ptr, pair_source, listed)
    cand_ptr, cand_pair = _list_candidates(
        met, n_earlier, first_cand, pair_ptr, pair_source, background
    )
    cascade_start = offset[cascade[infection]]
    layout = Layout(
        n_nodes=cascades.n_nodes,
        unit=1.0,
        background=background,
        n_cut=int(first_cand.sum()),
        child_ptr=child_ptr,
        infection=infection,
        pair_ptr=pair_ptr,
        pair_source=pair_source,
        cand_ptr=cand_ptr,
        cand_pair=cand_pair,
        cand_start=cascade_start + first_cand[infection],
        cand_stop=cascade_start + n_earlier[infection],
        _offset=offset,
        _cascade=cascade,
        _node=node,
        _time=time,
        _n_earlier=n_earlier,
        _first_cand=first_cand,
        _influence=influence,
        _background_exposure=_background_exposure(cascades, n_earlier, cascade),
    )
    if unit is None:
        delays = layout.delays()
        unit = float(np.median(delays, overwrite_input=True)) if delays.size else 1.0
    return replace(
        layout,
        unit=unit,
        _influence=influence / unit,
        _background_exposure=layout._background_exposure / unit,
    )


def _list_pairs(
    met: tuple[np.ndarray, ...], first_cand: np.ndarray, background: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs into each node that met in a cascade, pointers (N + 1,) and sources (P,)."""
    n_nodes = met[0].size - 1
    pair_count = np.full(n_nodes, int(background), np.int64)
    _kernels.count_pairs(*met, first_cand, pair_count)
    pair_ptr = _pointers(pair_count)
    pair_source = np.full(pair_ptr[-1], BACKGROUND, np.int32)
    cursor = pair_ptr[:-1] + int(background)
    _kernels.fill_pairs(*met, first_cand, cursor, pair_source)
    return pair_ptr, pair_source


def _with_pairs(
    pair_ptr: np.ndarray, pair_source: np.ndarray, more: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Pointers and sources of the pairs with others among them, given by source and child."""
    n_nodes = pair_ptr.size - 1
    width = n_nodes + 1
    child = np.repeat(np.arange(n_nodes, dtype=np.int64), np.diff(pair_ptr))
    source, target = (np.asarray(x, np.int64) for x in more)
    key = np.union1d(child * width + pair_source + 1, target * width + source + 1)
    child, shifted = np.divmod(key, width)
    return _pointers(np.bincount(child, minlength=n_nodes)), (shifted - 1).astype(np.int32)


def _list_candidates(
    met: tuple[np.ndarray, ...],
    n_earlier: np.ndarray,
    first_cand: np.ndarray,
    pair_ptr: np.ndarray,
    pair_source: np.ndarray,
    background: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Candidates of each infection: pointers (M + 1,) and pairs (Q,)."""
    width = n_earlier - first_cand
    width += (n_earlier > 0) & background
    cand_ptr = _pointers(width[met[1]])
    cand_pair = np.empty(cand_ptr[-1], np.int32)
    _kernels.fill_candidates(
        *met, n_earlier, first_cand, pair_ptr, pair_source, background, cand_ptr, cand_pair
    )
    return cand_ptr, cand_pair


def counted(values: np.ndarray, size: int) -> np.ndarray:
    """How often each integer below ``size`` occurs, int32 (size,); negative ones are left out."""
    counts = np.zeros(size, np.int32)
    _kernels.count_values(values, counts)
    return counts


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
