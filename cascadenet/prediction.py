"""What a posterior predicts: the next edge, transmissions, the next infection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.delays import get_delay
from cascadenet.pairs import rows_of

if TYPE_CHECKING:
    import pandas as pd

    from cascadenet.posterior import Posterior

SMALLEST_AGE = 1e-12  # internal unit; hazards at age zero may be infinite


def check_rows(name: str, count: object) -> None:
    """Raise unless a number of rows is a non-negative integer, or None."""
    if count is None:
        return
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 0:
        raise ValueError(f"{name} must be a non-negative integer; got {count!r}")


def predictive(
    posterior: Posterior,
    pairs: Any = None,
    top: int | None = None,
    within: float | None = None,
    unused: bool = False,
) -> pd.DataFrame:
    """Body of :meth:`Posterior.predictive`."""
    delay = posterior.unit if within is None else _number("within", within)
    if not delay > 0.0:
        raise ValueError(f"within must be positive; got {within}")
    check_rows("top", top)
    if pairs is None:
        source, target, prob = _top_pairs(posterior, 20 if top is None else top, unused)
    else:
        source, target = posterior.pair_indices(pairs, new=True)
        if unused:
            keep = ~_was_used(posterior, source, target)
            source, target = source[keep], target[keep]
        prob = np.zeros(source.size)
        for network in posterior.networks:
            prob += posterior.edge_weight(network, source, target) / _off_diagonal(
                posterior, network
            )
        prob /= len(posterior.networks)
        source, target, prob = source[:top], target[:top], prob[:top]
    columns = {"prob": prob}
    if posterior.settings["likelihood"] == "survival":
        known = np.maximum(source, target) < posterior.n_nodes
        transmit = np.full(source.size, np.nan)  # the rate of no pair in particular
        transmit[known] = _transmit(posterior, source[known], target[known], delay)
        columns["transmit"] = transmit
    return posterior.pair_frame(source, target, **columns)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number; got {value!r:.60}") from None


def _was_used(posterior: Posterior, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    rows = posterior.rows_of(source, target)
    rows[np.maximum(source, target) >= posterior.n_nodes] = -1  # a new node has been in none
    return rows_of(posterior.sums.used, rows) >= 0


def _off_diagonal(posterior: Posterior, network: dict[str, np.ndarray]) -> float:
    """Mass of the edge distribution on pairs of different nodes, new ones included.

    Summed, not subtracted from one: nearly all of it may lie on pairs of a node with itself.
    """
    if network["weight"].size == 0:
        return 1.0
    receiver = network["receiver"].astype(float)
    others = np.zeros_like(receiver)
    others[1:] += receiver[:-1].cumsum(axis=0)
    others[:-1] += receiver[:0:-1].cumsum(axis=0)[::-1]
    others[posterior.n_nodes :] = receiver.sum(axis=0)  # one new node may infect another
    mass = (network["sender"] * network["weight"] * others).sum()
    return max(float(mass), float(np.finfo(np.float32).tiny))


def predictive_matrix(posterior: Posterior, senders: np.ndarray | None = None) -> np.ndarray:
    """Body of :meth:`Posterior.predictive_matrix`."""
    rows = np.arange(posterior.n_nodes) if senders is None else np.asarray(senders)
    matrix = np.zeros((rows.size, posterior.n_nodes), np.float32)
    for network in posterior.networks:
        if network["weight"].size == 0:
            matrix += np.float32(1.0 / (posterior.n_nodes * max(posterior.n_nodes - 1, 1)))
            continue
        scale = network["weight"] / np.float32(_off_diagonal(posterior, network))
        sender = network["sender"][rows] * scale
        matrix += sender @ network["receiver"][: posterior.n_nodes].T
    matrix /= len(posterior.networks)
    matrix[np.arange(rows.size), rows] = 0.0
    return matrix


def _top_pairs(
    posterior: Posterior, top: int, unused: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Most probable pairs, found block of senders by block."""
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    block = max(2**22 // max(posterior.n_nodes, 1), 1)
    for first in range(0, posterior.n_nodes, block):
        senders = np.arange(first, min(first + block, posterior.n_nodes))
        matrix = predictive_matrix(posterior, senders)
        if unused:
            used = posterior.sums.used
            used = used[(posterior.pair_source[used] >= first)]
            used = used[posterior.pair_source[used] < first + senders.size]
            matrix[posterior.pair_source[used] - first, posterior.pair_target[used]] = 0.0
        flat = matrix.ravel()
        keep = min(top, flat.size)
        best = np.argpartition(-flat, keep - 1)[:keep] if keep else np.empty(0, np.int64)
        best = best[flat[best] > 0.0]
        found.append((first + best // posterior.n_nodes, best % posterior.n_nodes, flat[best]))
    source, target, prob = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((target, source, -prob))[:top]
    return source[order], target[order], prob[order].astype(float)


def _draw_rates(
    posterior: Posterior,
    network: dict[str, np.ndarray],
    source: np.ndarray,
    target: np.ndarray,
    rows: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Gamma shape r + c + n and internal rate b + E of pairs, listed in ``rows``, in one draw."""
    met = rows >= 0
    shape = posterior.gamma_shape(network, source, target)
    carried, met_exposure = posterior.memory_of(network)
    exposure = posterior.sums.node_full[source].copy()
    exposure[met] = met_exposure[rows[met]]
    if carried.size:
        shape[met] += carried[rows[met]]
    if network["used"].size:
        at = np.minimum(np.searchsorted(network["used"], rows), network["used"].size - 1)
        hit = met & (network["used"][at] == rows)
        shape[hit] += network["count"][at[hit]]
    return shape, exposure + network["b"]


def _transmit(
    posterior: Posterior, source: np.ndarray, target: np.ndarray, delay: float
) -> np.ndarray:
    """Probability of transmission within a delay, rates integrated out, over draws."""
    model = get_delay(posterior.settings["delay"])
    total = np.zeros(source.size)
    rows = posterior.rows_of(source, target)
    for network in posterior.networks:
        shape, rate = _draw_rates(posterior, network, source, target, rows)
        dose = model.cumulative(np.array([delay / posterior.unit]), network["theta"])[0]
        total += -np.expm1(-shape * np.log1p(dose / rate))
    return total / max(len(posterior.networks), 1)


def predict_next(
    posterior: Posterior, prefix: Any, k: int = 10, now: float | None = None
) -> pd.DataFrame:
    """Body of :meth:`Posterior.predict_next`."""
    import pandas as pd

    if posterior.settings["likelihood"] != "survival":
        raise ValueError("predict_next needs likelihood='survival'; got 'tree'")
    node, time = read_prefix(posterior, prefix)
    present = present_of(time, now)
    check_rows("k", k)
    at_risk = np.setdiff1d(np.arange(posterior.n_nodes), node)
    source, target = np.repeat(node, at_risk.size), np.tile(at_risk, node.size)
    rows = posterior.rows_of(source, target)
    age, acts = _ages(posterior, node, time, present)
    since = max((present - float(time.min())) / posterior.unit, SMALLEST_AGE)
    prob, hazard = np.zeros(at_risk.size), np.zeros(at_risk.size)
    delay = get_delay(posterior.settings["delay"])
    for network in posterior.networks:
        shape, rate = _draw_rates(posterior, network, source, target, rows)
        # having stayed uninfected until now is more exposure
        rate = rate.reshape(node.size, -1)
        rate = rate + delay.cumulative(age, network["theta"])[:, None]
        act = np.where(acts, np.exp(delay.log_hazard(age, network["theta"])), 0.0)[:, None]
        draw = (act * shape.reshape(node.size, -1) / rate).sum(axis=0)
        draw += _background_hazard(posterior, network, at_risk, since)
        hazard += draw / posterior.unit
        if draw.sum() > 0.0:
            prob += draw / draw.sum()
    count = len(posterior.networks)
    order = np.lexsort((at_risk, -prob))[:k]
    order = order[prob[order] > 0.0]
    return pd.DataFrame(
        {
            "node": np.asarray(posterior.nodes)[at_risk[order]],
            "prob": prob[order] / count,
            "hazard": hazard[order] / count,
        }
    )


def _ages(
    posterior: Posterior, node: np.ndarray, time: np.ndarray, present: float
) -> tuple[np.ndarray, np.ndarray]:
    """How long each infected node has acted, internal unit, and whether it still does.

    A node stops acting once ``max_candidates`` later infections have followed, as in the fit.
    """
    until = np.full(node.size, present)
    limit = posterior.settings.get("max_candidates")
    order = np.lexsort((node, time))
    acts = np.ones(node.size, bool)
    if limit is not None and limit < node.size:
        gone = order[: node.size - limit]
        until[gone] = time[order[limit:]]
        acts[gone] = False
    return np.maximum((until - time) / posterior.unit, SMALLEST_AGE), acts


def _background_hazard(
    posterior: Posterior, network: dict[str, np.ndarray], nodes: np.ndarray, age: float
) -> np.ndarray:
    """Hazard from outside the network on nodes not infected in a cascade of this age.

    Under one draw, per internal unit of time.
    """
    ground = np.flatnonzero(posterior.pair_source < 0)
    if ground.size == 0:
        return np.zeros(nodes.size)
    n = np.zeros(posterior.pair_source.size, np.int64)
    n[network["used"]] = network["count"]
    rows = ground[nodes]  # one for each node, in their order
    shape = network["ground_shape"] + n[rows]
    if posterior.sums.carried.size:
        shape = shape + posterior.sums.carried[rows]
    return shape / (network["ground_rate"] + posterior.sums.exposure[rows] + age)


def present_of(time: np.ndarray, now: float | None) -> float:
    """Present time of a cascade with infections at these times: the last one unless given."""
    present = float(time.max()) if now is None else _number("now", now)
    if not time.max() <= present < np.inf:
        raise ValueError(f"now must be finite and not before the last infection; got {now}")
    return present


def read_prefix(posterior: Posterior, prefix: Any) -> tuple[np.ndarray, np.ndarray]:
    """Node indices and times of a DataFrame or an iterable of (node, time), checked."""
    if hasattr(prefix, "columns"):
        missing = {"node", "time"} - set(prefix.columns)
        if missing:
            raise ValueError(f"prefix must have columns node and time; missing {missing}")
        listed = list(zip(prefix["node"], prefix["time"], strict=True))
    else:
        try:
            listed = [(label, t) for label, t in prefix]
        except (TypeError, ValueError):
            raise ValueError(f"prefix must be (node, time) tuples; got {prefix!r:.60}") from None
    if not listed:
        raise ValueError("prefix must hold at least one infection; got none")
    node = posterior.node_indices((label for label, _ in listed), "nodes in prefix")
    time = np.array([_number("times in prefix", t) for _, t in listed])
    if np.unique(node).size < node.size:
        raise ValueError("nodes in prefix must differ; a node is infected once")
    if not np.isfinite(time).all():
        raise ValueError(f"times in prefix must be finite; got {time.tolist()}")
    return node, time
