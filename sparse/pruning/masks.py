"""Which weights to keep: exact numbers, ties broken by position, no layer left empty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cascadenet.sparse.pruning.network import Network, Slot

SCOPES = ("global", "layerwise")
STRUCTURES = ("weight", "unit")
LEAST_SHARE = 0.1  # of what equal densities would give a layer, it keeps at least this


def keep_largest(score: np.ndarray, count: int) -> np.ndarray:
    """Mask of exactly ``count`` largest scores; among equals the first positions win.

    Parameters
    ----------
    score : numpy.ndarray, shape (n,)
        Without nan.
    count : int

    Returns
    -------
    numpy.ndarray of bool, shape (n,)
    """
    n = score.size
    if count >= n:
        return np.ones(n, bool)
    if count <= 0:
        return np.zeros(n, bool)
    threshold = np.partition(score, n - count)[n - count]
    mask = score > threshold
    missing = count - np.count_nonzero(mask)
    mask[np.flatnonzero(score == threshold)[:missing]] = True
    return mask


def kept_count(size: int, sparsity: float) -> int:
    """Weights kept of ``size``: ``size - round(sparsity * size)``, at least one."""
    return max(size - round(sparsity * size), 1)


def select(
    score: np.ndarray,
    sizes: Sequence[int],
    sparsity: float,
    *,
    scope: str = "global",
    least_share: float = LEAST_SHARE,
) -> np.ndarray:
    """Mask by score over several layers.

    Parameters
    ----------
    score : numpy.ndarray, shape (sum of sizes,)
        Scores of the layers one after another.
    sizes : sequence of int
        Of the layers.
    sparsity : float
        Share to remove, of all layers together ("global") or of each ("layerwise").
    scope : str
    least_share : float
        A layer keeps at least this share of what it would keep if all had the same density.

    Returns
    -------
    numpy.ndarray of bool
        A global mask keeps exactly ``kept_count(score.size, sparsity)``.
    """
    ends = np.cumsum(sizes)
    layers = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    if scope == "layerwise":
        parts = [keep_largest(score[rows], kept_count(rows.stop - rows.start, sparsity))
                 for rows in layers]  # fmt: skip
        return np.concatenate(parts)
    total = kept_count(score.size, sparsity)
    mask = keep_largest(score, total)
    least = [max(round(least_share * (1 - sparsity) * size), 1) for size in sizes]
    short = [
        (rows, want)
        for rows, want in zip(layers, least, strict=True)
        if np.count_nonzero(mask[rows]) < want
    ]
    if not short or sum(least) > total:
        return mask
    # Everybody's least comes first; the rest is a contest as before.
    reserved = np.zeros(score.size, bool)
    for rows, want in short:
        reserved[rows] = keep_largest(score[rows], want)
    free = np.flatnonzero(~reserved)
    for rows, _ in short:
        free = free[(free < rows.start) | (free >= rows.stop)]
    mask = reserved
    mask[free[keep_largest(score[free], total - np.count_nonzero(reserved))]] = True
    return mask


class Prunable:
    """The weights of a network that pruning may remove, and how it sees them.

    Parameters
    ----------
    network : Network
    scope : str
        "global" or "layerwise".
    structure : str
        "weight", or "unit": whole output neurons and filters, with their biases; the last layer
        stays.
    prune_last : bool
        Whether the last layer may lose weights.
    least_share : float
        See `select`.
    """

    def __init__(
        self,
        network: Network,
        *,
        scope: str = "global",
        structure: str = "weight",
        prune_last: bool = True,
        least_share: float = LEAST_SHARE,
    ) -> None:
        self.network, self.scope, self.structure = network, scope, structure
        self.least_share = least_share
        slots = network.weight_slots
        last = prune_last and structure == "weight"
        self.slots: tuple[Slot, ...] = slots if last else slots[:-1]
        if not self.slots:
            raise ValueError(
                "nothing to prune: the only layer is the last one, which "
                + ("structure='unit' keeps" if structure == "unit" else "prune_last=False keeps")
            )
        self.size = self.slots[-1].stop

    def mask(self, score: np.ndarray, sparsity: float) -> np.ndarray:
        """Mask over all parameters.

        Parameters
        ----------
        score : numpy.ndarray, shape (d,) or (n_weights,)
            At least 0; larger is kept.
        sparsity : float
            Share of the prunable weights, or units, to remove.

        Returns
        -------
        numpy.ndarray of bool, shape (d,)
        """
        mask = np.ones(self.network.parameters.size, bool)
        if self.structure == "weight":
            sizes = [slot.stop - slot.start for slot in self.slots]
            mask[: self.size] = select(
                score[: self.size], sizes, sparsity, scope=self.scope, least_share=self.least_share
            )
            return mask
        return self._unit_mask(mask, score, sparsity)

    def _unit_mask(self, mask: np.ndarray, score: np.ndarray, sparsity: float) -> np.ndarray:
        # mean of squares, so that units of layers with different fan-in compare
        units = [
            np.square(slot.of(score)).reshape(slot.shape[0], -1).mean(axis=1) for slot in self.slots
        ]
        kept = select(
            np.concatenate(units), [u.size for u in units], sparsity,
            scope=self.scope, least_share=self.least_share,
        )  # fmt: skip
        parts = np.split(kept, np.cumsum([u.size for u in units])[:-1])
        for slot in self.network.slots:
            if slot.layer < len(parts):
                shown = parts[slot.layer].reshape(-1, *([1] * (len(slot.shape) - 1)))
                slot.of(mask)[...] = shown
        return mask

    def densities(self, mask: np.ndarray) -> np.ndarray:
        """Kept share of every weight tensor of the network: float64 (layers,)."""
        return np.array([slot.of(mask).mean() for slot in self.network.weight_slots])

    def sparsity(self, mask: np.ndarray) -> float:
        """Removed share of all prunable weights."""
        return 1 - np.count_nonzero(mask[: self.size]) / self.size


def without_dead_inputs(network: Network, mask: np.ndarray) -> np.ndarray:
    """``mask`` (d,) without the weights that read a removed unit: its output is always 0."""
    mask = mask.copy()
    for slot in network.weight_slots[1:]:
        before = network.slot("bias", slot.layer - 1).of(mask)
        size = slot.shape[1] // before.size
        columns = np.repeat(before, size)
        here = slot.of(mask)
        here &= columns.reshape(1, -1, *([1] * (len(slot.shape) - 2)))
    return mask
