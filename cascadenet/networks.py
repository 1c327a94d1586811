"""Networks with known rates: random generators and rates that vary in time.

A network is a DataFrame with the columns source, target, rate and, where rates vary, start: the
rate holds from ``start`` until the next start of the same pair, and is zero before the first. All
nodes, those without an edge included, are in ``attrs["nodes"]``, as with
`cascadenet.read_network`. `cascadenet.simulate` exports all that is public here.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.readers import Source, check_edges, label_texts

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ModelTruth",
    "community_network",
    "from_networkx",
    "kronecker_network",
    "model_network",
    "rates_at",
    "vary_rates",
]

# Initiator matrices of the stochastic Kronecker graphs used in the network-inference literature.
KRONECKER = {
    "core-periphery": ((0.9, 0.5), (0.5, 0.3)),
    "hierarchical": ((0.9, 0.1), (0.1, 0.9)),
    "random": ((0.5, 0.5), (0.5, 0.5)),
}
_KRONECKER_ROUNDS = 200

# Smallest probability of a Dirichlet draw: below it, products of three would underflow.
DIRICHLET_FLOOR = 1e-100

Rate = float | tuple[float, float]


def kronecker_network(
    kind: str | ArrayLike,
    n_nodes: int,
    n_edges: int,
    *,
    rate: Rate = (0.05, 1.0),
    seed: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Stochastic Kronecker network with exactly ``n_edges`` directed edges.

    Parameters
    ----------
    kind : str or array_like, shape (2, 2)
        ``"core-periphery"``, ``"hierarchical"``, ``"random"``, or a non-negative
        initiator matrix.
    n_nodes : int
        A power of two, at least 2.
    n_edges : int
        Number of distinct edges without self-loops.
    rate : float or (float, float)
        One rate for all edges, or the range of a uniform distribution.
    seed : int, numpy.random.Generator or None

    Returns
    -------
    pandas.DataFrame
        Columns source, target, rate, sorted by the first two.

    Raises
    ------
    ValueError
        If an argument is out of range, or if so many distinct edges cannot be found.

    Notes
    -----
    An edge falls through log2(n_nodes) levels; at each it takes one of the four quadrants with
    probability proportional to the initiator's entries. Self-loops and repeats fall again.

    References
    ----------
    Leskovec, Chakrabarti, Kleinberg, Faloutsos and Ghahramani, "Kronecker graphs: an approach to
    modeling networks", JMLR 11 (2010), section 3.6.
    """
    initiator = _read_initiator(kind)
    n_nodes = whole_number("n_nodes", n_nodes, 2)
    n_edges = whole_number("n_edges", n_edges, 1)
    levels = n_nodes.bit_length() - 1
    if n_nodes != 1 << levels:
        raise ValueError(f"n_nodes must be a power of two; got {n_nodes}")
    possible = np.count_nonzero(initiator) ** levels
    possible -= np.count_nonzero(np.diag(initiator)) ** levels
    if n_edges > possible:
        raise ValueError(f"n_edges must be at most {possible} for this initiator; got {n_edges}")
    rng = np.random.default_rng(seed)
    code = np.empty(0, dtype=np.int64)
    for _ in range(_KRONECKER_ROUNDS):
        drop = _kronecker_drops(rng, initiator, levels, max(4096, 2 * (n_edges - code.size)))
        code = np.concatenate((code, drop))
        _, first = np.unique(code, return_index=True)
        code = code[np.sort(first)]
        if code.size >= n_edges:
            break
    else:
        raise ValueError(
            f"n_edges = {n_edges} is too dense for this initiator: only {code.size} distinct edges "
            f"were found"
        )
    code = np.sort(code[:n_edges])
    rates = _draw_rates(rng, rate, n_edges)
    return _frame(range(n_nodes), code // n_nodes, code % n_nodes, rates)


def _read_initiator(kind: str | ArrayLike) -> NDArray[np.float64]:
    """Initiator matrix of a name, or a checked matrix."""
    if isinstance(kind, str):
        if kind not in KRONECKER:
            raise ValueError(
                f"kind must be one of {', '.join(KRONECKER)} or a matrix; got {kind!r}"
            )
        return np.array(KRONECKER[kind])
    matrix = np.asarray(kind, dtype=np.float64)
    if matrix.shape != (2, 2):
        raise ValueError(f"kind must be a 2 x 2 matrix; got shape {matrix.shape}")
    if not (np.isfinite(matrix).all() and (matrix >= 0).all() and matrix.any()):
        raise ValueError(f"kind must be finite, non-negative and not zero; got {matrix.tolist()}")
    return matrix


def _kronecker_drops(
    rng: np.random.Generator, initiator: NDArray[np.float64], levels: int, size: int
) -> NDArray[np.int64]:
    """Codes source * n_nodes + target of ``size`` dropped edges, without the self-loops."""
    edge_of = np.cumsum(initiator.ravel())
    quadrant = np.searchsorted(edge_of, rng.random((size, levels)) * edge_of[-1], side="right")
    bit = 1 << np.arange(levels - 1, -1, -1, dtype=np.int64)
    source = (quadrant // 2) @ bit
    target = (quadrant % 2) @ bit
    return ((source << levels) + target)[source != target]


def community_network(
    n_communities: int = 5,
    size: int = 40,
    within: float = 0.10,
    between: float = 0.06,
    *,
    rate: Rate = (0.05, 1.0),
    seed: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Planted directed communities in which every node has the same expected degree.

    Nodes ``c * size`` to ``(c + 1) * size - 1`` are community c. It sends within itself and to
    community c + 1, the last one to the first; a single community has no other to send to.

    Parameters
    ----------
    n_communities, size : int
        Number of communities and of nodes in each.
    within, between : float
        Probability of an edge within a community, and to the next one.
    rate : float or (float, float)
        One rate for all edges, or the range of a uniform distribution.
    seed : int, numpy.random.Generator or None

    Returns
    -------
    pandas.DataFrame
        Columns source, target, rate, sorted by the first two.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    n_communities = whole_number("n_communities", n_communities, 1)
    size = whole_number("size", size, 1)
    _share("within", within)
    _share("between", between)
    rng = np.random.default_rng(seed)
    source, target = [], []
    for c in range(n_communities):
        code = _bernoulli_subset(rng, size * (size - 1), within)
        u, v = (code // (size - 1), code % (size - 1)) if size > 1 else (code, code)
        source.append(c * size + u)
        target.append(c * size + v + (v >= u))  # skips the diagonal
        if n_communities > 1:
            code = _bernoulli_subset(rng, size * size, between)
            source.append(c * size + code // size)
            target.append((c + 1) % n_communities * size + code % size)
    u, v = np.concatenate(source), np.concatenate(target)
    order = np.lexsort((v, u))
    nodes = range(n_communities * size)
    return _frame(nodes, u[order], v[order], _draw_rates(rng, rate, u.size))


def _bernoulli_subset(rng: np.random.Generator, n: int, share: float) -> NDArray[np.int64]:
    """Those of 0..n-1 that independent coins of probability ``share`` select, in no order."""
    return rng.choice(n, size=rng.binomial(n, share), replace=False) if n else np.arange(0)


@dataclass(frozen=True)
class ModelTruth:
    """What `model_network` drew besides the network.

    Attributes
    ----------
    nodes : tuple of int
        Every node, those without an edge included.
    popularity : ndarray, shape (N,)
        beta, the popularity of each node.
    weight : ndarray, shape (K,)
        D, the weight of each community.
    sender, receiver : ndarray, shape (K, N)
        A and B, distributions over the senders and receivers of each community.
    community : ndarray of int64, shape (E,)
        Community of each row of the network: of the first draw that produced the edge.
    """

    nodes: tuple[int, ...]
    popularity: NDArray[np.float64]
    weight: NDArray[np.float64]
    sender: NDArray[np.float64]
    receiver: NDArray[np.float64]
    community: NDArray[np.int64]

    def probability(self, source: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
        """p_uv, the probability that an edge draw is (source, target), for each given pair."""
        u, v = np.asarray(source, dtype=np.int64), np.asarray(target, dtype=np.int64)
        return np.einsum("k,k...,k...->...", self.weight, self.sender[:, u], self.receiver[:, v])


def model_network(
    n_nodes: int,
    n_communities: int,
    n_edges: int,
    *,
    tau: float = 30.0,
    gamma: float = 60.0,
    concentration: float = 3.0,
    rate: Rate = (0.05, 1.0),
    seed: int | np.random.Generator | None = None,
) -> tuple[pd.DataFrame, ModelTruth]:
    """Network drawn from the mixture of coupled hierarchical Dirichlet processes.

    Parameters
    ----------
    n_nodes, n_communities : int
        N and K.
    n_edges : int
        Number of draws. Self-loops and repeats among them are left out, so the network has fewer
        edges.
    tau, gamma, concentration : float
        Concentrations, positive: of each community's senders and receivers around the popularity,
        of the popularity, and of each community weight.
    rate : float or (float, float)
        One rate for all edges, or the range of a uniform distribution.
    seed : int, numpy.random.Generator or None

    Returns
    -------
    network : pandas.DataFrame
        Columns source, target, rate, sorted by the first two.
    truth : ModelTruth

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    beta ~ Dirichlet(gamma / N), A_k and B_k ~ Dirichlet(tau beta), D ~ Dirichlet(concentration);
    each draw takes k ~ D, a sender from A_k and a receiver from B_k. No probability is below
    `DIRICHLET_FLOOR`.

    References
    ----------
    Williamson, "Nonparametric network models for link prediction", JMLR 17 (2016), section 3.
    """
    n_nodes = whole_number("n_nodes", n_nodes, 2)
    n_communities = whole_number("n_communities", n_communities, 1)
    n_edges = whole_number("n_edges", n_edges, 1)
    for name, value in (("tau", tau), ("gamma", gamma), ("concentration", concentration)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive and finite; got {value}")
    rng = np.random.default_rng(seed)
    popularity = sample_dirichlet(rng, np.full(n_nodes, gamma / n_nodes))
    weight = sample_dirichlet(rng, np.full(n_communities, float(concentration)))
    base = np.broadcast_to(tau * popularity, (n_communities, n_nodes))
    sender, receiver = sample_dirichlet(rng, base), sample_dirichlet(rng, base)
    k = rng.choice(n_communities, size=n_edges, p=weight)
    u, v = _draw_from_rows(rng, sender, k), _draw_from_rows(rng, receiver, k)
    code, first = np.unique(u * n_nodes + v, return_index=True)
    keep = code // n_nodes != code % n_nodes
    code, first = code[keep], first[keep]
    truth = ModelTruth(tuple(range(n_nodes)), popularity, weight, sender, receiver, k[first])
    rates = _draw_rates(rng, rate, code.size)
    return _frame(truth.nodes, code // n_nodes, code % n_nodes, rates), truth


def sample_dirichlet(
    rng: np.random.Generator, concentration: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Dirichlet draws along the last axis, exact for concentrations far below machine precision.

    Notes
    -----
    In log space: if G ~ Gamma(a + 1) and U is uniform, G U**(1/a) ~ Gamma(a), whose logarithm is
    finite where the draw itself underflows. Results are raised to `DIRICHLET_FLOOR`.
    """
    log_draw = np.log(rng.standard_gamma(concentration + 1.0))
    log_draw -= rng.standard_exponential(log_draw.shape) / concentration
    log_draw -= log_draw.max(axis=-1, keepdims=True)
    draw = np.exp(log_draw)
    draw /= draw.sum(axis=-1, keepdims=True)
    return np.maximum(draw, DIRICHLET_FLOOR)


def _draw_from_rows(
    rng: np.random.Generator, rows: NDArray[np.float64], k: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each entry of ``k`` one index drawn from that row of ``rows``."""
    index = np.empty(k.size, dtype=np.int64)
    for row in range(len(rows)):
        here = np.flatnonzero(k == row)
        index[here] = rng.choice(rows.shape[1], size=here.size, p=rows[row])
    return index


def from_networkx(
    graph: nx.Graph,
    *,
    rate: Rate | str = (0.05, 1.0),
    seed: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Network over the edges of a networkx graph.

    An undirected edge becomes two directed ones, each with a rate of its own draw. Self-loops are
    left out and of parallel edges the first counts.

    Parameters
    ----------
    graph : networkx graph
        Directed or not, with nodes that are int or str.
    rate : float, (float, float) or str
        One rate for all edges, the range of a uniform distribution, or the edge attribute to read.
    seed : int, numpy.random.Generator or None

    Returns
    -------
    pandas.DataFrame
        Columns source, target, rate, in the order of ``graph.edges``.

    Raises
    ------
    ValueError
        If the graph has no edge between two nodes, or an edge lacks the attribute.
    """
    if not hasattr(graph, "edges"):
        raise TypeError(f"graph must be a networkx graph; got {type(graph).__name__}")
    found: dict[tuple[Any, Any], Any] = {}
    for u, v, data in graph.edges(data=True):
        if u != v:
            value = data.get(rate) if isinstance(rate, str) else None
            found.setdefault((u, v), value)
            if not graph.is_directed():
                found.setdefault((v, u), value)
    if not found:
        raise ValueError("graph must have an edge between two different nodes; it has none")
    source, target = zip(*found, strict=True)
    if isinstance(rate, str):
        for (u, v), value in found.items():
            if not isinstance(value, numbers.Real):
                raise ValueError(f"rate: edge {u!r} -> {v!r} has no number {rate!r}; got {value!r}")
        rates = np.array(list(found.values()), dtype=np.float64)
    else:
        rates = _draw_rates(np.random.default_rng(seed), rate, len(found))
    network = _frame(graph.nodes, source, target, rates)
    network_columns(network)
    return network


def vary_rates(
    network: pd.DataFrame,
    pattern: str | Sequence[str] = "mix",
    span: tuple[float, float] = (0.0, 100.0),
    n_pieces: int = 100,
    *,
    seed: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Network whose rates vary in time around those of a static one, piecewise constant.

    Parameters
    ----------
    network : pandas.DataFrame
        Columns source, target, rate.
    pattern : str or sequence of str
        ``"constant"``; ``"hump"``, half a sine wave over a window of 30-70% of the span;
        ``"slab"``, on during a window of 20-50% and off elsewhere; ``"square"``, on and off in
        equal turns with a period of 20-50%; ``"chainsaw"``, rising linearly and dropping with such
        a period; ``"random-walk"``, Gaussian steps that add up to a standard deviation of 1 over
        the span, reflected at 0 and 2; or ``"mix"``, all of these. All are multiples of the rate of
        the edge. Of several patterns each edge draws one; windows and phases are drawn as well.
    span : (float, float)
        Times between which rates vary. The last rate holds on after it.
    n_pieces : int
        Equal pieces the span is cut into; the pattern is read at their middles.
    seed : int, numpy.random.Generator or None

    Returns
    -------
    pandas.DataFrame
        Columns source, target, rate, start; ``n_pieces`` rows an edge, in the order of ``network``.

    Raises
    ------
    ValueError
        If an argument is out of range or ``network`` varies already.
    """
    _, _, rate, start = network_columns(network)
    if start is not None:
        raise ValueError("network must have constant rates; it has a column start")
    n_pieces = whole_number("n_pieces", n_pieces, 1)
    low, high = number_pair("span", span)
    if low == high:
        raise ValueError(f"span must not be empty; got {span!r}")
    names = [pattern] if isinstance(pattern, str) else list(pattern)
    names = list(PATTERNS) if names == ["mix"] else names
    if not names or not set(names) <= set(PATTERNS):
        raise ValueError(f"pattern must be of {', '.join(PATTERNS)} or mix; got {pattern!r}")
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(names), size=rate.size)
    middle = (np.arange(n_pieces) + 0.5) / n_pieces
    factor = np.empty((rate.size, n_pieces))
    for i, name in enumerate(names):
        here = np.flatnonzero(chosen == i)
        factor[here] = PATTERNS[name](rng, here.size, middle)
    piece_start = low + (high - low) / n_pieces * np.arange(n_pieces)
    varied = network[["source", "target", "rate"]].iloc[np.repeat(np.arange(rate.size), n_pieces)]
    varied = varied.reset_index(drop=True)
    varied["rate"] = (rate[:, None] * factor).ravel()
    varied["start"] = np.tile(piece_start, rate.size)
    return varied


def _constant(rng: np.random.Generator, n: int, middle: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ones((n, middle.size))


def _window(
    rng: np.random.Generator, n: int, middle: NDArray[np.float64], low: float, high: float
) -> NDArray[np.float64]:
    """Position within a random window of each edge: 0..1 inside of it."""
    width = rng.uniform(low, high, size=(n, 1))
    begin = rng.random((n, 1)) * (1.0 - width)
    return (middle - begin) / width


def _phase(rng: np.random.Generator, n: int, middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Phase in [0, 1) of a wave with a random period and offset for each edge."""
    period = rng.uniform(0.2, 0.5, size=(n, 1))
    return (middle / period + rng.random((n, 1))) % 1.0


def _hump(rng: np.random.Generator, n: int, middle: NDArray[np.float64]) -> NDArray[np.float64]:
    position = _window(rng, n, middle, 0.3, 0.7)
    inside = (position > 0.0) & (position < 1.0)  # sin(pi) is not quite 0
    return np.where(inside, np.sin(np.pi * position), 0.0)


def _slab(rng: np.random.Generator, n: int, middle: NDArray[np.float64]) -> NDArray[np.float64]:
    position = _window(rng, n, middle, 0.2, 0.5)
    return ((position >= 0.0) & (position < 1.0)).astype(np.float64)


def _square(rng: np.random.Generator, n: int, middle: NDArray[np.float64]) -> NDArray[np.float64]:
    return (_phase(rng, n, middle) < 0.5).astype(np.float64)


def _random_walk(
    rng: np.random.Generator, n: int, middle: NDArray[np.float64]
) -> NDArray[np.float64]:
    step = rng.standard_normal((n, middle.size)) / np.sqrt(middle.size)
    step[:, 0] = 1.0
    return 2.0 - np.abs(np.cumsum(step, axis=1) % 4.0 - 2.0)


PATTERNS: dict[str, Callable[..., NDArray[np.float64]]] = {
    "constant": _constant,
    "hump": _hump,
    "slab": _slab,
    "square": _square,
    "chainsaw": _phase,
    "random-walk": _random_walk,
}


def rates_at(network: pd.DataFrame, time: float) -> pd.DataFrame:
    """Rates that hold at one time in a network whose rates may vary.

    Parameters
    ----------
    network : pandas.DataFrame
        Columns source, target, rate and perhaps start.
    time : float
        In the unit of ``start``.

    Returns
    -------
    pandas.DataFrame
        Columns source, target, rate: every pair of the network once, in order of first appearance,
        with rate 0 before its first start.
    """
    source, target, rate, start = network_columns(network)
    row_of: dict[tuple[str, str], int] = {}
    for row, pair in enumerate(zip(source, target, strict=True)):
        row_of.setdefault(pair, row)
    held = dict.fromkeys(row_of, 0.0)
    for row in range(rate.size) if start is None else np.argsort(start, kind="stable"):
        if start is None or start[row] <= time:
            held[source[row], target[row]] = rate[row]
    now = network[["source", "target", "rate"]].iloc[list(row_of.values())].reset_index(drop=True)
    now["rate"] = list(held.values())
    return now


def network_columns(
    network: pd.DataFrame,
) -> tuple[list[str], list[str], NDArray[np.float64], NDArray[np.float64] | None]:
    """Checked columns of a network: label texts of source and target, rate, and start or None.

    Raises
    ------
    TypeError
        If ``network`` is not a DataFrame.
    ValueError
        If a column is missing, a label is not int or str, a rate or start is not a finite number, a
        rate is negative, a row is a self-loop, or a pair (with its start) repeats.
    """
    if not hasattr(network, "columns"):
        raise TypeError(f"network must be a DataFrame; got {type(network).__name__}")
    missing = [name for name in ("source", "target", "rate") if name not in network.columns]
    if missing:
        raise ValueError(
            f"network must have the columns source, target, rate; missing {', '.join(missing)}"
        )
    source = label_texts(network["source"], "network.source")
    target = label_texts(network["target"], "network.target")
    rate = _finite_column(network, "rate")
    start = _finite_column(network, "start") if "start" in network.columns else None
    if (rate < 0).any():
        row = int(np.argmax(rate < 0))
        raise ValueError(f"network: rate must not be negative; got {rate[row]} (row {row})")
    names = {text: code for code, text in enumerate(dict.fromkeys([*source, *target]))}
    tail, head = (np.array([names[text] for text in end], dtype=int) for end in (source, target))
    if rate.size:
        check_edges(tail, head, start, list(names), Source("network"))
    return source, target, rate, start


def _finite_column(network: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Column of finite numbers."""
    try:
        values = network[name].to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"network: {name} must hold numbers; {error}") from error
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise ValueError(f"network: {name} must be finite; got {values[row]} (row {row})")
    return values


def _frame(
    nodes: Iterable[Hashable], source: ArrayLike, target: ArrayLike, rate: NDArray[np.float64]
) -> pd.DataFrame:
    """Network table that knows all its nodes."""
    import pandas as pd

    network = pd.DataFrame({"source": source, "target": target, "rate": rate})
    network.attrs["nodes"] = tuple(nodes)
    return network


def _draw_rates(rng: np.random.Generator, rate: Rate, n: int) -> NDArray[np.float64]:
    """``n`` rates: constant, or uniform in a range."""
    low, high = (rate, rate) if isinstance(rate, numbers.Real) else number_pair("rate", rate)
    if not 0.0 <= low <= high < np.inf:
        raise ValueError(f"rate must be finite and not negative; got {rate!r}")
    return rng.uniform(low, high, size=n)


def number_pair(name: str, value: Any) -> tuple[float, float]:
    """Checked pair of finite numbers, increasing or equal, of the argument ``name``.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    try:
        low, high = (float(x) for x in value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a pair (low, high); got {value!r}") from None
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ValueError(f"{name} must be finite and increasing; got {value!r}")
    return low, high


def whole_number(name: str, value: Any, least: int) -> int:
    """Checked whole number of the argument ``name``, at least ``least``; else ValueError."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number, at least {least}; got {value!r}")
    return int(value)


def _share(name: str, value: float) -> None:
    if not (isinstance(value, numbers.Real) and 0.0 <= value <= 1.0):
        raise ValueError(f"{name} must be between 0 and 1; got {value!r}")
