"""How well an interval was foretold: its cascades one after another, learning on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cascadenet.inference.dynamics import _kernels
from cascadenet.inference.dynamics.memory import Carried
from cascadenet.inference.layout import Layout

if TYPE_CHECKING:
    from cascadenet.cascades import Cascades
    from cascadenet.inference.sampler import Model
    from cascadenet.posterior import Posterior


def sequential_log_density(
    last: Posterior, carried: Carried, layout: Layout, cascades: Cascades, model: Model
) -> np.ndarray:
    """Log predictive density of each cascade given the past and those before it in the interval.

    Their sum is the density of all of them together given the past, which a network that changes
    should be judged by: what an interval's first cascades reveal helps with the later ones. It is
    an assumed-density approximation: after each cascade its parents are replaced by their
    probabilities. The network prior, b, delays and persistence are at their means over the draws
    of the last interval.

    Parameters
    ----------
    last : Posterior
        Of the interval before.
    carried : Carried
        What it and earlier ones left, with one memory.
    layout : Layout
        Of ``cascades`` and of the pairs remembered.
    cascades : Cascades
    model : Model

    Returns
    -------
    float64 array, shape (C,)
        In the user's unit of time.
    """
    networks = last.networks
    theta = np.mean([network["theta"] for network in networks], axis=0)
    b = float(np.mean([network["b"] for network in networks]))
    order = np.lexsort((layout.pair_child, layout.pair_source))
    order = order[np.searchsorted(layout.pair_source[order], 0) :]  # the background has source -1
    source, target = layout.pair_source[order], layout.pair_child[order]
    prior, mass = _network_shape(last, source, target)
    keep = np.ones(layout.n_pairs)
    renewed_shape, renewed_rate = carried.n + 0.0, carried.exposure + 0.0
    if carried.rows.size:
        keep[carried.rows] = last.scalars["persistence"].mean()
        renewed_shape[carried.rows] -= carried.memory_n[0]
        renewed_rate[carried.rows] -= carried.memory_exposure[0]
        renewed_rate = np.maximum(renewed_rate, 0.0)  # rounding
    ptr = np.searchsorted(source, np.arange(last.n_nodes + 1))
    delay = model.delay
    row_of = np.empty(layout.infection.size, np.int64)
    row_of[layout.infection] = np.arange(row_of.size)
    cumulative = delay.cumulative(layout.cand_delay, theta)
    if layout.background:
        first = layout.cand_ptr[:-1][np.diff(layout.cand_ptr) > 0]
        cumulative[first] = layout.cand_delay[first]
    ground = layout.pair_ptr[:-1] if layout.background else np.empty(0, np.int64)
    d0 = float(np.mean([network["ground_rate"] for network in networks]))
    density = np.empty(cascades.n_cascades)
    _kernels.sequential_density(
        np.argsort(cascades.start, kind="stable"),
        cascades.offset,
        cascades.node,
        layout._n_earlier,
        layout._first_cand,
        row_of,
        layout.cand_ptr,
        cumulative,
        np.exp(layout.log_hazard(delay, theta)),
        delay.cumulative(layout._influence, theta),
        int(layout.background),
        (cascades.horizon - cascades.start) / layout.unit,
        ptr,
        target,
        keep[order],
        prior + carried.n[order],
        b + carried.exposure[order],
        prior + renewed_shape[order],
        b + renewed_rate[order],
        mass,
        b + carried.node_exposure,
        model.background_shape + carried.n[ground],
        d0 + carried.exposure[ground],
        density,
    )
    n_hazards = np.bincount(
        np.repeat(np.arange(cascades.n_cascades), np.diff(cascades.offset)),
        weights=layout._n_earlier > 0,
        minlength=cascades.n_cascades,
    )
    return density - n_hazards * np.log(layout.unit)


def _network_shape(
    last: Posterior, source: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean Gamma shape of listed pairs (P,), and sum of the others' by source (N,)."""
    n, shape, total = last.n_nodes, np.zeros(source.size), np.zeros(last.n_nodes)
    for network in last.networks:
        shape += last.gamma_shape(network, source, target)
        if network["weight"].size == 0:
            total += float(network["total"]) / n
            continue
        receiver = network["receiver"][:n].astype(float)
        sender = network["sender"][:n].astype(float) * network["weight"]
        total += float(network["total"]) * (sender * (receiver.sum(axis=0) - receiver)).sum(axis=1)
    shape /= len(last.networks)
    total /= len(last.networks)
    listed = np.bincount(source, weights=shape, minlength=n)
    return shape, np.maximum(total - listed, 0.0)
