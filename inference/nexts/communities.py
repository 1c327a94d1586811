"""Low-rank descriptions of who follows whom: fitted to the counts, or taken from a posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.inference.nexts import _kernels

if TYPE_CHECKING:
    from cascadenet.inference.nexts.counts import PairCounts

STEPS = 40  # of EM, at most
LEAST_GAIN = 1e-3  # nats per unit of evidence: EM stops once a step gains less
PSEUDO = 1e-3  # evidence added for every node and community, so that none has nothing


def latent_communities(
    counts: PairCounts, n_communities: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Communities of senders and receivers by EM on the pair evidence (PLSA).

    Parameters
    ----------
    counts : PairCounts
        Evidence m_uv.
    n_communities : int
        K, at least 1.
    seed : int
        Of the random start.

    Returns
    -------
    float64 array, shape (N, K)
        pi, the communities a sender's followers come from; rows sum to one.
    float64 array, shape (K, N)
        phi, the receivers of each community; rows sum to one.

    Notes
    -----
    Maximises sum_uv m_uv log sum_k pi_uk phi_kv.

    References
    ----------
    Hofmann (1999), Probabilistic latent semantic analysis, UAI.
    """
    n_nodes = counts.count.size
    rng = np.random.default_rng(seed)
    # far from flat, or the first steps would find little to tell communities by
    sender = _rows(rng.random((n_nodes, n_communities)) + 0.1)
    receiver = _columns((counts.exposure[:, None] + PSEUDO) * rng.random((n_nodes, n_communities)))
    evidence = counts.evidence[: counts.n_pairs]
    mass, before = float(evidence.sum()), -np.inf
    for _ in range(STEPS):
        next_sender = np.full_like(sender, PSEUDO)
        next_receiver = np.full_like(receiver, PSEUDO)
        gain = _kernels.factorise(
            *(counts.n_pairs, counts.pair_node, evidence),
            *(sender, receiver, next_sender, next_receiver),
        )
        sender, receiver = _rows(next_sender), _columns(next_receiver)
        if gain - before < LEAST_GAIN * mass:
            break
        before = gain
    return sender, np.ascontiguousarray(receiver.T)


def posterior_communities(fitted: Any, nodes: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Memberships in the last network draw of a fitted `CoupledHDP` or its posterior.

    Parameters
    ----------
    fitted : CoupledHDP or Posterior
        With communities, and knowing all of ``nodes``.
    nodes : tuple of labels
        The nodes wanted.

    Returns
    -------
    float64 arrays, shapes (N, K) and (K, N)
        As `latent_communities` returns.

    Raises
    ------
    TypeError
        Neither a fitted model nor a posterior.
    ValueError
        No communities, or unknown nodes.
    """
    posterior = getattr(fitted, "posterior_", fitted)
    if not hasattr(posterior, "networks"):
        raise TypeError(
            "communities must be a number, a fitted CoupledHDP or a Posterior; got "
            f"{type(fitted).__name__}"
        )
    if not posterior.networks or posterior.networks[-1]["weight"].size == 0:
        raise ValueError("communities must come from a fit with prior='hdp'; got a flat one")
    network, at = posterior.networks[-1], posterior.node_indices(nodes, "nodes of the cascades")
    sender = network["sender"].astype(float)[at] * network["weight"].astype(float)
    receiver = network["receiver"].astype(float)[at]
    return _rows(sender), np.ascontiguousarray(_columns(receiver).T)


def _rows(matrix: np.ndarray) -> np.ndarray:
    total = matrix.sum(axis=1, keepdims=True)
    return np.divide(matrix, total, out=np.zeros_like(matrix), where=total > 0.0)


def _columns(matrix: np.ndarray) -> np.ndarray:
    total = matrix.sum(axis=0, keepdims=True)
    return np.divide(matrix, total, out=np.zeros_like(matrix), where=total > 0.0)
