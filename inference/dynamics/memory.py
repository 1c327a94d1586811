"""What one interval of time leaves for the next: two memories, of rates and of support."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from cascadenet.pairs import pair_keys, split_keys

if TYPE_CHECKING:
    from cascadenet.inference.layout import Layout
    from cascadenet.inference.sampler import State

# Pseudo-counts are multiples of this, so that adding and taking away whole tokens is exact.
GRAIN = 2.0**-20
# A pair is no longer remembered once its transmissions are below NEGLIGIBLE and its exposure, in
# units of the median delay, is that of its source but for the share APART.
NEGLIGIBLE, APART = 1e-3, 0.05
SUPPORTED = 0.5  # expected transmissions from which a pair counts as an edge that may start afresh


@dataclass
class Carried:
    """What a chain knows of earlier intervals, laid out like its pairs; all zero at first.

    The rate of a pair has prior ``Gamma(r + n, b + exposure)``, and the communities start from
    pseudo-counts. A scalar zero stands for an array of zeros. Edges may have started afresh since:
    each memory of each of the pairs ``rows`` is in force or not, which is part of a chain's state.

    Attributes
    ----------
    n : float64 array, shape (P,)
        Remembered transmissions c of the listed pairs, what is in force; no other pair has any.
    exposure : float64 array, shape (P,)
        Remembered exposure of the listed pairs, what is in force.
    node_exposure : float64 array, shape (N,)
        That of all other pairs, by source.
    rows : int64 array, shape (R,)
        Pairs whose memories may be out of force.
    memory_n, memory_exposure : float64 array, shape (S, R)
        What S memories (of the past, of the future) hold of them.
    lasting_n, lasting_exposure : float64 array, shape (P,)
        What is in force in any case.
    eta, sent, received : float64 arrays, shapes (K,), (N', K), (N', K)
        Pseudo-counts of tokens by community, sender and receiver; multiples of ``GRAIN``.
    """

    n: np.ndarray | float = 0.0
    exposure: np.ndarray | float = 0.0
    node_exposure: np.ndarray | float = 0.0
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    memory_n: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    memory_exposure: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    lasting_n: np.ndarray | float = 0.0
    lasting_exposure: np.ndarray | float = 0.0
    eta: np.ndarray | float = 0.0
    sent: np.ndarray | float = 0.0
    received: np.ndarray | float = 0.0

    def use(self, kept: np.ndarray) -> None:
        """Put memories in force; ``kept`` (S, R), bool or a share."""
        if self.rows.size == 0:
            return
        self.n, self.exposure = self.lasting_n.copy(), self.lasting_exposure.copy()
        self.n[self.rows] += (kept * self.memory_n).sum(axis=0)
        self.exposure[self.rows] += (kept * self.memory_exposure).sum(axis=0)

    @property
    def pairs(self) -> bool:
        """Whether anything is remembered of pairs."""
        return isinstance(self.n, np.ndarray)

    def with_columns(self, more: int) -> Carried:
        """The same with so many more communities, of which nothing is remembered."""
        if not isinstance(self.eta, np.ndarray):
            return self
        grown = [np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, more)]) for x in self.tokens]
        return replace(self, eta=grown[0], sent=grown[1], received=grown[2])

    @property
    def tokens(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The three arrays of pseudo-counts."""
        return self.eta, self.sent, self.received  # type: ignore[return-value]


def take(values: np.ndarray | float, index: np.ndarray | tuple[np.ndarray, ...]) -> np.ndarray:
    """Entries of an array that may be a scalar zero."""
    if isinstance(values, np.ndarray):
        return values[index]
    rows = index[0] if isinstance(index, tuple) else index
    return np.zeros(rows.size)


@dataclass(frozen=True)
class Seen:
    """What one interval showed, all its chains together.

    Attributes
    ----------
    key : int64 array, shape (P,)
        Listed pairs, those remembered before among them; see `pair_keys`.
    n, exposure : float64 array, shape (P,)
        Their expected transmissions and exposure.
    node_full : float64 array, shape (N,)
        Exposure of sources to nodes they never met.
    kept : float64 array, shape (P,)
        Probability that what was remembered of a pair still held.
    """

    key: np.ndarray
    n: np.ndarray
    exposure: np.ndarray
    node_full: np.ndarray
    kept: np.ndarray


@dataclass(frozen=True)
class PairMemory:
    """What is remembered of pairs and sources between two intervals, for all chains alike.

    Means over the draws of all chains: a filter that takes the rates in between for Gamma laws.

    Attributes
    ----------
    key : int64 array, shape (R,)
        Remembered pairs, see `pair_keys`; ascending.
    n, exposure : float64 array, shape (R,)
        Transmissions and exposure after forgetting, internal unit.
    support : float64 array, shape (R,)
        All transmissions so far, never forgotten.
    node_exposure : float64 array, shape (N,)
        Exposure after forgetting of the pairs that are not remembered, by source.
    """

    key: np.ndarray
    n: np.ndarray
    exposure: np.ndarray
    support: np.ndarray
    node_exposure: np.ndarray

    @classmethod
    def empty(cls, n_nodes: int) -> PairMemory:
        """Nothing remembered."""
        none = np.empty(0)
        return cls(np.empty(0, np.int64), none, none, none, np.zeros(n_nodes))

    @property
    def n_nodes(self) -> int:
        """Number of nodes N."""
        return self.node_exposure.size

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Sources and targets of the remembered pairs, the background left out."""
        source, target = split_keys(self.key, self.n_nodes)
        edge = source >= 0
        return source[edge], target[edge]

    def look_up(self, key: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Transmissions, exposure and support of any pairs."""
        source, _ = split_keys(key, self.n_nodes)
        n, support = np.zeros(key.size), np.zeros(key.size)
        exposure = np.where(source >= 0, self.node_exposure[source], 0.0)
        if self.key.size:
            at = np.minimum(np.searchsorted(self.key, key), self.key.size - 1)
            known = self.key[at] == key
            at = at[known]
            n[known], exposure[known] = self.n[at], self.exposure[at]
            support[known] = self.support[at]
        return n, exposure, support

    def advance(self, seen: Seen, delta: float) -> PairMemory:
        """Memory after one more interval, of which the share ``delta`` is kept."""
        old_n, old_exposure, support = self.look_up(seen.key)
        kept = PairMemory(
            seen.key,
            delta * (seen.kept * old_n + seen.n),
            delta * (seen.kept * old_exposure + seen.exposure),
            support + seen.n,
            delta * (self.node_exposure + seen.node_full),
        )
        return kept._without_negligible()

    def fade(self, delta: float) -> PairMemory:
        """Memory after an interval in which nothing was observed."""
        nothing = np.zeros(self.key.size)
        seen = Seen(self.key, nothing, nothing, np.zeros(self.n_nodes), nothing + 1.0)
        return self.advance(seen, delta)

    def _without_negligible(self) -> PairMemory:
        """Leave out pairs that are remembered as any other pair of their source would be."""
        source, _ = split_keys(self.key, self.n_nodes)
        usual = np.where(source >= 0, self.node_exposure[source], -np.inf)
        apart = np.abs(self.exposure - usual) > APART * (1.0 + self.exposure)
        keep = apart | (self.n > NEGLIGIBLE) | (self.support > NEGLIGIBLE)
        return PairMemory(
            self.key[keep],
            self.n[keep],
            self.exposure[keep],
            self.support[keep],
            self.node_exposure,
        )

    def __add__(self, other: PairMemory) -> PairMemory:
        """Evidence of both, as of intervals before and after one in between."""
        key = np.union1d(self.key, other.key)
        summed = [a + b for a, b in zip(self.look_up(key), other.look_up(key), strict=True)]
        return PairMemory(key, *summed, self.node_exposure + other.node_exposure)


def carried(memories: Sequence[PairMemory], layout: Layout, kappa: float, switch: bool) -> Carried:
    """Prior that memories give the pairs of a layout, which must list those remembered.

    Parameters
    ----------
    memories : sequence of PairMemory
        Of the past, or of the past and the future.
    layout : Layout
    kappa : float
        Weight of the support, P(edge has carried something) = 1 - exp(-N).
    switch : bool
        Whether edges may have started afresh.
    """
    key = pair_keys(layout.pair_source, layout.pair_child, layout.n_nodes)
    known = [memory.look_up(key) for memory in memories]
    support = sum(s for _, _, s in known)
    edge = layout.pair_source >= 0
    lasting_n = -kappa * np.expm1(-support) * edge
    lasting_exposure = np.zeros(key.size)
    rows = np.flatnonzero(edge & (support >= SUPPORTED)) if switch else np.empty(0, np.int64)
    always = np.ones(key.size, bool)
    always[rows] = False
    for n, exposure, _ in known:
        lasting_n += always * n
        lasting_exposure += always * exposure
    given = Carried(
        n=lasting_n,
        exposure=lasting_exposure,
        node_exposure=sum(memory.node_exposure for memory in memories),
        rows=rows,
        memory_n=np.array([n[rows] for n, _, _ in known]),
        memory_exposure=np.array([exposure[rows] for _, exposure, _ in known]),
        lasting_n=lasting_n,
        lasting_exposure=lasting_exposure,
    )
    given.use(np.ones(given.memory_n.shape))
    return given


def token_memory(state: State, delta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pseudo-counts of tokens for the next interval from a chain's last draw.

    Phantom tokens say nothing about the network, they only make all tokens draws from the same
    law; so the counts are scaled to what the real tokens and the old pseudo-counts weigh.
    """
    weight = delta
    n_tokens = state.community.size
    if n_tokens:
        remembered = float(state.eta.sum()) - n_tokens
        weight *= (state.n_real + remembered) / (n_tokens + remembered)
    counts = (state.eta, state.sent, state.received)
    return tuple(rounded(weight * x) for x in counts)


def rounded(x: np.ndarray) -> np.ndarray:
    """Nearest multiples of ``GRAIN``."""
    return np.round(x / GRAIN) * GRAIN
