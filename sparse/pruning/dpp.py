"""Dynamic probabilistic pruning: k-of-n masks that are drawn, and learn where to look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascadenet.sparse.pruning.masks import keep_largest
from cascadenet.sparse.pruning.methods import Data, Method
from cascadenet.sparse.pruning.network import Network, Slot
from cascadenet.sparse.pruning.optimisers import Adam
from cascadenet.sparse.pruning.sampling import (
    entropy_gradient,
    gumbel,
    relaxed_gradient,
    top_k,
)
from cascadenet.sparse.pruning.schedules import linear

GRANULARITIES = ("weight", "kernel", "element", "filter")
QUANTISATIONS = ("float", "int8", "binary")
LARGEST = 127  # of an int8 weight
LOGIT_PATH = 20.0  # what a logit can move in a training: several times what decides a draw


@dataclass(frozen=True)
class Draws:
    """The k-of-n draws of one layer.

    Attributes
    ----------
    slot : Slot
        Of the layer's weights.
    shape : tuple of int
        The weight tensor as (groups, members, blocks, n, inner): one draw for every group and
        block, shared by the members and the inner positions.
    k : int
    logits : slice
        Where the layer's logits stand among those of all layers.
    """

    slot: Slot
    shape: tuple[int, int, int, int, int]
    k: int
    logits: slice

    @property
    def rows(self) -> int:
        """Number of draws."""
        return self.shape[0] * self.shape[2]

    @property
    def n(self) -> int:
        """Out of so many."""
        return self.shape[3]

    def collapse(self, tensor: np.ndarray) -> np.ndarray:
        """Sum a tensor of the weights' shape over what shares a draw: (rows, n)."""
        view = tensor.reshape(self.shape)
        if self.shape[1] > 1 or self.shape[4] > 1:
            view = view.sum(axis=(1, 4))
        return view.reshape(self.rows, self.n)

    def spread(self, mask: np.ndarray) -> np.ndarray:
        """(rows, n) as a tensor of the weights' shape."""
        groups, members, blocks, n, inner = self.shape
        view = mask.reshape(groups, 1, blocks, n, 1)
        full = np.broadcast_to(view, (groups, members, blocks, n, inner))
        return full.reshape(self.slot.shape)


def plan_draws(
    network: Network,
    sparsity: float,
    *,
    granularity: str = "weight",
    k: Sequence[int] | None = None,
    tiles: int = 1,
    share_groups: int = 1,
) -> list[Draws]:
    """Lay out the draws of every layer.

    Parameters
    ----------
    network : Network
    sparsity : float
        Where ``k`` is not given: the layers' densities are in proportion to
        ``(n_in + n_out)/(n_in n_out)``, at most 1, such that all layers together come as near to
        the sparsity as whole ks allow.
    granularity : str
        "weight": k inputs for every output neuron, k weights for every filter. "kernel": k
        input channels for every filter. "element": k elements of every kernel. "filter": k units
        of every layer but the last. "kernel" and "element" mean "weight" in a dense layer.
    k : sequence of int, optional
        One per layer; of every tile.
    tiles : int
        Inputs of a draw are cut in so many equal tiles with a draw each, where they divide.
    share_groups : int
        So many consecutive output units share their draws, where they divide.

    Returns
    -------
    list of Draws
        Layers that are kept whole have k = n.
    """
    shapes = [_shape(slot, granularity, tiles, share_groups, slot.layer == len(network.layers) - 1)
              for slot in network.weight_slots]  # fmt: skip
    counts = _counts(network, shapes, sparsity) if k is None else list(k)
    if len(counts) != len(shapes):
        raise ValueError(f"k must have one entry for each of {len(shapes)} layers; got {counts}")
    draws, start = [], 0
    for slot, shape, count in zip(network.weight_slots, shapes, counts, strict=True):
        if not 1 <= count <= shape[3]:
            raise ValueError(f"k of layer {slot.layer} must be in 1..{shape[3]}; got {count}")
        stop = start + shape[0] * shape[2] * shape[3]
        draws.append(Draws(slot, shape, int(count), slice(start, stop)))
        start = stop
    return draws


def _shape(
    slot: Slot, granularity: str, tiles: int, share: int, last: bool
) -> tuple[int, int, int, int, int]:
    n_out, n_in = slot.shape[:2]
    area = int(np.prod(slot.shape[2:]))
    if granularity == "filter":
        return (1, 1, 1, n_out, n_in * area) if not last else (n_out, 1, 1, n_in * area, 1)
    members = share if n_out % share == 0 else 1
    groups = n_out // members
    if len(slot.shape) == 4 and granularity == "kernel":
        return groups, members, 1, n_in, area
    if len(slot.shape) == 4 and granularity == "element":
        return groups, members, n_in, area, 1
    blocks = tiles if (n_in * area) % tiles == 0 else 1
    return groups, members, blocks, n_in * area // blocks, 1


def _counts(
    network: Network, shapes: Sequence[tuple[int, int, int, int, int]], sparsity: float
) -> list[int]:
    """k per layer; the last layer of filter pruning is whole."""
    sizes = np.array([np.prod(slot.shape) for slot in network.weight_slots], dtype=np.float64)
    out = np.array([slot.shape[0] for slot in network.weight_slots], dtype=np.float64)
    n = np.array([shape[3] for shape in shapes])
    whole = np.array([shape[0] == 1 for shape in shapes])
    if whole[:-1].any():  # units are all alike: the same share of every layer but the last
        return [*np.maximum((n[:-1] * (1 - sparsity)).round().astype(int), 1).tolist(), int(n[-1])]
    wanted = (1 - sparsity) * sizes.sum()
    raw = (sizes / out + out) / sizes
    density = np.ones(sizes.size)
    free = np.ones(sizes.size, bool)
    while free.any():
        scale = (wanted - sizes[~free].sum()) / (raw[free] * sizes[free]).sum()
        density[free] = scale * raw[free]
        over = free & (density > 1)
        if not over.any():
            break
        density[over], free = 1.0, free & ~over
    return np.clip((density * n).round().astype(int), 1, n).tolist()


class Probabilistic(Method):
    """Dynamic probabilistic pruning (DPP).

    Parameters
    ----------
    sparsity : float
    granularity, k, tiles, share_groups
        See `plan_draws`.
    noise_scale, temperature : (float, float)
        At the beginning and the end of the training, linear in between.
    entropy : float
        Weight of the sum of the rows' entropies in the loss; makes rows decide.
    logit_rate : float, optional
        Learning rate of the logits, by Adam; 20 over the number of steps by default, in
        0.001..0.1, so that rows can decide in short trainings too.
    quantisation : str
        "float"; "int8": kept weights are integers in [-127, 127] times a scale of their layer;
        "binary": plus or minus the mean size of the layer's kept weights.
    freeze_at : float
        Share of the training from which the mask is the deterministic one, and fixed.

    Attributes
    ----------
    logits : numpy.ndarray, shape (sum of rows times n,)
    draws : list of Draws
    scales : list of float or None
        Of the quantised layers, as last used.

    Notes
    -----
    A step draws one mask per layer, the k largest of ``logits + noise_scale * Gumbel`` in each
    row, computes at mask times weights, and sends the gradient of the mask to the logits through
    k relaxed draws. Weights that were not drawn do not move. Prediction uses the k largest
    logits.

    References
    ----------
    Gonzalez-Carabarin et al., "Dynamic Probabilistic Pruning", IEEE TNNLS 2024 (arXiv 2105.12686).
    """

    name = "dpp"

    def __init__(
        self,
        sparsity: float,
        *,
        granularity: str = "weight",
        k: Sequence[int] | None = None,
        tiles: int = 1,
        share_groups: int = 1,
        noise_scale: tuple[float, float] = (0.1, 0.1),
        temperature: tuple[float, float] = (5.0, 0.5),
        entropy: float = 5e-5,
        logit_rate: float | None = None,
        quantisation: str = "float",
        freeze_at: float = 1.0,
    ) -> None:
        super().__init__()
        self.target, self.granularity, self.k = sparsity, granularity, k
        self.tiles, self.share_groups = tiles, share_groups
        self.noise_scale, self.temperature, self.entropy = noise_scale, temperature, entropy
        self.logit_rate, self.quantisation = logit_rate, quantisation
        self.freeze_at = freeze_at
        self._adam = Adam()
        self.logits: np.ndarray | None = None
        self.scales: list[float | None] = []

    def start(self, network: Network, total: int, data: Data, rng: np.random.Generator) -> None:
        """Begin a training: see `Method.start`."""
        super().start(network, total, data, rng)
        self.rng = rng
        self.draws = plan_draws(
            network, self.target, granularity=self.granularity, k=self.k, tiles=self.tiles,
            share_groups=self.share_groups,
        )  # fmt: skip
        if self.logits is None:
            start_rng, self.rng = rng.spawn(2)
            size = self.draws[-1].logits.stop
            self.logits = (0.5 * start_rng.standard_normal(size)).astype(network.dtype)
            for draw in self.draws:  # as many inputs as there are left
                draw.slot.of(network.parameters)[...] *= np.sqrt(draw.n / draw.k)
        self._rate = self.logit_rate or min(max(LOGIT_PATH / total, 1e-3), 0.1)
        self._gradient = np.zeros_like(self.logits)
        self._used = network.parameters.copy()
        self._drawn: list[tuple[np.ndarray, np.ndarray] | None] = [None] * len(self.draws)
        self._frozen = False
        self.mask = np.ones(network.parameters.size, bool)
        self.settle()

    def before(self, step: int) -> None:
        """Choose the mask, and compute under it."""
        self._share = step / max(self.total, 1)
        if self._share >= self.freeze_at:
            if not self._frozen:
                self.settle()
                self._frozen = True
            self._fill()
            return
        noise = linear(*self.noise_scale, self._share)
        for i, draw in enumerate(self.draws):
            if draw.k == draw.n:
                continue
            z = self.logits[draw.logits].reshape(draw.rows, draw.n)
            if noise > 0:
                perturbed = gumbel(self.rng, z.shape, z.dtype)
                perturbed *= noise
                z = np.add(perturbed, z, out=perturbed)
            picks = top_k(z, draw.k)
            self._drawn[i] = (z, picks)
            self._keep(draw, picks)
        self._fill()

    def after(self, step: int) -> None:
        """Change the gradient that has just been written."""
        gradient, weights = self.network.gradient, self.network.parameters
        if not self._frozen:
            temperature = linear(*self.temperature, self._share)
            for i, draw in enumerate(self.draws):
                if self._drawn[i] is not None:
                    self._logit_gradient(draw, *self._drawn[i], temperature)
            self._adam.step(self.logits, self._gradient, self._rate, 0)
        n = self.network.n_weights
        gradient[:n] *= self._factor[:n]
        if self.quantisation == "binary":  # the hard tanh of the straight-through sign
            gradient[:n] *= np.abs(weights[:n]) <= 1

    def settle(self, *, last: bool = False) -> None:
        """See `Method.settle`."""
        for draw in self.draws:
            z = self.logits[draw.logits].reshape(draw.rows, draw.n)
            kept = np.stack([keep_largest(row, draw.k) for row in z])
            draw.slot.of(self.mask)[...] = draw.spread(kept)
        self._factor = self.mask.astype(self.network.dtype)
        self._fill()

    def tuning(self) -> Probabilistic:
        """Go on with the mask frozen."""
        self.freeze_at = 0.0
        return self

    def snapshot(self) -> dict[str, np.ndarray]:
        """See `Method.snapshot`."""
        return {"logits": self.logits.copy()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """See `Method.restore`."""
        self.logits[:] = arrays["logits"]
        self.settle()

    def final(self) -> tuple[np.ndarray, np.ndarray]:
        """See `Method.final`."""
        self.settle()
        return self._used.copy(), self.mask

    def layer_logits(self) -> list[np.ndarray]:
        """Logits (rows, n) of every layer, as copies."""
        return [self.logits[d.logits].reshape(d.rows, d.n).copy() for d in self.draws]

    def _keep(self, draw: Draws, picks: np.ndarray) -> None:
        kept = np.zeros((draw.rows, draw.n), self._factor.dtype)
        np.put_along_axis(kept, picks, 1, axis=1)
        draw.slot.of(self._factor)[...] = draw.spread(kept)

    def _fill(self) -> None:
        """What the network computes with: masked and quantised weights, biases as they are."""
        np.multiply(self.network.parameters, self._factor, out=self._used)
        self.scales = [None] * len(self.draws)
        if self.quantisation != "float":
            for i, draw in enumerate(self.draws):
                kept = draw.slot.of(self._factor) > 0
                self.scales[i] = quantise(draw.slot.of(self._used), kept, self.quantisation)
        self.network.use(self._used)

    def _logit_gradient(
        self, draw: Draws, z: np.ndarray, picks: np.ndarray, temperature: float
    ) -> None:
        w = draw.slot.of(self.network.parameters)
        upstream = draw.collapse(w * draw.slot.of(self.network.gradient))
        out = relaxed_gradient(z, picks, upstream, temperature)
        if self.entropy:
            raw = self.logits[draw.logits].reshape(draw.rows, draw.n)
            out += self.entropy * entropy_gradient(raw)[1]
        self._gradient[draw.logits] = out.reshape(-1)


def quantise(weight: np.ndarray, kept: np.ndarray, kind: str) -> float:
    """Round the kept weights of a layer in place, and return the scale.

    Parameters
    ----------
    weight : numpy.ndarray
        0 where not kept.
    kept : numpy.ndarray of bool
    kind : str
        "int8" or "binary".
    """
    size = np.abs(weight)
    if kind == "binary":
        scale = float(size.sum(dtype=np.float64) / max(np.count_nonzero(kept), 1)) or 1.0
        weight[...] = np.where(kept, np.where(weight < 0, -scale, scale), 0)
        return float(weight.dtype.type(scale))
    scale = float(weight.dtype.type(size.max() / LARGEST)) or 1.0
    np.divide(weight, scale, out=weight)
    np.rint(weight, out=weight)
    weight *= scale
    return scale
