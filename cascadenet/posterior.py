"""The posterior over a network: edges, predictions, communities, diagnostics, export."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet import partitions, prediction
from cascadenet.delays import get_delay
from cascadenet.edge_sums import EdgeSums
from cascadenet.forecasts import Forecasts
from cascadenet.intervals import gamma_with_moments, mixture_quantile
from cascadenet.pairs import check_different, pair_keys, read_pairs, rows_of

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

    from cascadenet.inference.forecast.laws import PairIndex

__all__ = ["NEW", "Posterior"]

INTERVAL = (0.03, 0.97)
BLOCK = 1 << 17  # rows whose intervals are sought together
EDGE_COLUMNS = ["source", "target", "prob", "n", "rate", "rate_sd", "rate_low", "rate_high"]


class _NewNode:
    """Stands for all nodes never seen, in the pairs of a fit with ``open_world``."""

    def __repr__(self) -> str:
        return "<new node>"

    def __reduce__(self) -> str:
        return "NEW"


NEW = _NewNode()


class Posterior(Forecasts):
    """Posterior over the network that cascades spread over.

    Built by ``fit``; see :func:`cascadenet.load` for one that was saved.

    Attributes
    ----------
    nodes : tuple
        Node labels.
    settings, provenance : dict
        How it was made: model and sampler settings; version, seed, fingerprint of the data.
    unit : float
        Median candidate delay, the internal unit of time.
    scalars : dict of float64 arrays, shape (chains, draws)
        Traces of the scalar parameters, rates and delays in the user's unit.
    """

    def __init__(
        self,
        *,
        nodes: Sequence[Any],
        settings: dict[str, Any],
        provenance: dict[str, Any],
        unit: float,
        scalars: dict[str, np.ndarray],
        pair_source: np.ndarray,
        pair_target: np.ndarray,
        sums: EdgeSums,
        networks: list[dict[str, np.ndarray]],
        network_chain: np.ndarray,
    ) -> None:
        self.nodes = tuple(nodes)
        self.settings = settings
        self.provenance = provenance
        self.unit = unit
        self.scalars = scalars
        self.pair_source = pair_source
        self.pair_target = pair_target
        self.sums = sums
        self.networks = networks
        self.network_chain = network_chain

    def __repr__(self) -> str:
        chains, draws = self.sums.draws.size, int(self.sums.draws.sum())
        return f"<Posterior: {self.n_nodes} nodes, {chains} chains, {draws} draws>"

    @property
    def n_nodes(self) -> int:
        """Number of nodes N."""
        return len(self.nodes)

    # -- edges ------------------------------------------------------------------------------

    @cached_property
    def _edge_rows(self) -> np.ndarray:
        """Listed pairs between nodes, best first: by probability, then n, then rate."""
        sums, edge = self.sums, self.pair_source >= 0
        used = sums.used[edge[sums.used]]
        found = sums.at(used)
        used = used[np.lexsort((found.rate, found.n, found.prob))]
        edge[used] = False
        rest = np.flatnonzero(edge)
        rest = rest[np.argsort(sums.rate_unused[rest], kind="stable")]
        return np.concatenate((rest, used))[::-1]

    @property
    def expected_edges(self) -> float:
        """Expected number of pairs that carried an infection."""
        return float(self.sums.prob[self.pair_source[self.sums.used] >= 0].sum())

    def edges(self, pairs: Any = None, top: int | None = None) -> pd.DataFrame:
        """Table of edges, best first.

        Parameters
        ----------
        pairs : iterable of (source, target) or DataFrame, optional
            Pairs to report, in the order given; by default all that met in a cascade.
        top : int, optional
            Only so many rows.

        Returns
        -------
        DataFrame
            ``source``, ``target``; ``prob``, the probability that the pair carried an infection;
            ``n``, expected infections carried; ``rate`` with ``rate_sd`` and a 94% interval
            ``rate_low``, ``rate_high``. The rate multiplies the delay model's hazard shape in the
            user's unit of time: per unit time for exponential, its square for rayleigh, a pure
            number for decay and lognormal, whose transmission probability is 1 - exp(-rate)
            (under the tree likelihood it is the weight p_uv). The interval is that of a mixture
            of two Gamma laws, one for the draws in which the pair carried an infection and one
            for those in which it did not, matched to the draws' moments.

        Raises
        ------
        ValueError
            Unknown node or self-pair in ``pairs``, negative ``top``.
        """
        prediction.check_rows("top", top)
        if pairs is None:
            return self._table(self._edge_rows[:top])
        source, target = self.pair_indices(pairs)
        return self._table_of_pairs(source[:top], target[:top])

    def _table(self, rows: np.ndarray) -> pd.DataFrame:
        columns = {name: np.empty(rows.size) for name in EDGE_COLUMNS[2:]}
        for first in range(0, rows.size, BLOCK):  # to spare memory
            cut = slice(first, first + BLOCK)
            for name, values in self._columns(rows[cut]).items():
                columns[name][cut] = values
        return self.pair_frame(self.pair_source[rows], self.pair_target[rows], **columns)

    def _columns(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of the edge table; the interval is that of a two-part Gamma mixture."""
        found = self.sums.at(rows)
        hit = gamma_with_moments(found.rate_hit, found.square_hit, found.prob)
        rest = gamma_with_moments(found.rate_rest, found.square_rest, 1.0 - found.prob)
        low, high = (mixture_quantile(q, found.prob, hit, rest) for q in INTERVAL)
        return {
            "prob": found.prob,
            "n": found.n,
            "rate": found.rate,
            "rate_sd": found.rate_sd,
            "rate_low": low,
            "rate_high": high,
        }

    def pair_frame(self, source: np.ndarray, target: np.ndarray, **columns: Any) -> pd.DataFrame:
        """Table with the labels of pairs given by index and more columns beside them."""
        import pandas as pd

        labels = np.asarray(self.nodes)
        if max(source.max(initial=0), target.max(initial=0)) >= self.n_nodes:
            labels = np.array([*self.nodes, NEW], dtype=object)
        data = {"source": labels[source], "target": labels[target], **columns}
        return pd.DataFrame(data, copy=False)  # the columns are this table's own

    def _table_of_pairs(self, source: np.ndarray, target: np.ndarray) -> pd.DataFrame:
        """Edge table of any pairs; those that never met have only their prior and exposure."""
        import pandas as pd

        rows = self.rows_of(source, target)
        met = rows >= 0
        mean, square = self._unmet_moments(source[~met], target[~met])
        law, never = gamma_with_moments(mean, square, np.ones(mean.size)), np.zeros(mean.size)
        unmet = self.pair_frame(
            source[~met],
            target[~met],
            prob=never,
            n=never,
            rate=mean,
            rate_sd=np.sqrt(np.maximum(square - mean**2, 0.0)),
            rate_low=mixture_quantile(INTERVAL[0], never, law, law),
            rate_high=mixture_quantile(INTERVAL[1], never, law, law),
        )
        table = pd.concat([self._table(rows[met]), unmet], ignore_index=True)
        place = np.concatenate((np.flatnonzero(met), np.flatnonzero(~met)))
        return table.iloc[np.argsort(place)].reset_index(drop=True)

    def _unmet_moments(
        self, source: np.ndarray, target: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """First and second moment of the rates of pairs that never met, over network draws."""
        mean, square = np.zeros(source.size), np.zeros(source.size)
        tree = self.settings["likelihood"] == "tree"
        for network in self.networks:
            shape = self.gamma_shape(network, source, target)
            if tree:
                mean += shape
                square += shape * shape
                continue
            scale = self.rate_unit(network) / (self.sums.node_full[source] + network["b"])
            mean += shape * scale
            square += shape * scale * (shape + 1.0) * scale
        return mean / len(self.networks), square / len(self.networks)

    # -- pairs and network draws ------------------------------------------------------------

    @cached_property
    def _index(self) -> dict[Any, int]:
        return {label: i for i, label in enumerate(self.nodes)}

    def node_indices(self, labels: Iterable[Any], name: str, new: bool = False) -> np.ndarray:
        """Indices of labels; a ValueError says that the argument ``name`` holds others."""
        index = self._index
        if new:
            labels = list(labels)
            if any(label is NEW for label in labels):
                self._check_open(name)
                index = {**index, NEW: self.n_nodes}
        try:
            return np.array([index[label] for label in labels], np.int64)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{name} must be nodes of the posterior; got {error}") from None

    def pair_indices(self, pairs: Any, new: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Indices of sources and targets of a DataFrame or an iterable of pairs, checked.

        With ``new``, :data:`NEW` is allowed in an open world, even twice, and has index N.
        """
        sources, targets = read_pairs(pairs)
        source = self.node_indices(sources, "sources in pairs", new)
        target = self.node_indices(targets, "targets in pairs", new)
        check_different(source, target, self.nodes)
        return source, target

    @cached_property
    def _pair_keys(self) -> np.ndarray:
        return pair_keys(self.pair_source, self.pair_target, self.n_nodes)

    def rows_of(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Row of each pair among the listed ones, -1 where they never met."""
        return rows_of(self._pair_keys, pair_keys(source, target, self.n_nodes))

    def _check_open(self, name: str) -> None:
        if not self.settings.get("open_world") or self.settings["prior"] == "flat":
            raise ValueError(
                f"{name}: a new node has a probability only in a fit with open_world=True and "
                "prior='hdp'; this one knows all nodes there are"
            )

    @cached_property
    def pairs_by_source(self) -> PairIndex:
        """Listed pairs ordered by source, for forecasts."""
        from cascadenet.inference.forecast.laws import index_by_source

        return index_by_source(self)

    def rate_unit(self, network: dict[str, np.ndarray]) -> float:
        """User's rate per internal rate under one network draw."""
        delay = get_delay(self.settings["delay"])
        return float(self.unit ** -delay.rate_exponent(network["theta"]))

    def memory_of(self, network: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Remembered transmissions and exposure of the listed pairs in one draw.

        Where edges may have started afresh, draws differ in what is in force, which they say for
        the pairs ``memory_rows``.

        Returns
        -------
        carried : float64 array, shape (P,) or (0,)
        exposure : float64 array, shape (P,)
        """
        sums, rows = self.sums, network.get("memory_rows")
        if rows is None:
            return sums.carried, sums.exposure
        carried, exposure = sums.carried.copy(), sums.exposure.copy()
        carried[rows], exposure[rows] = network["memory_n"], network["memory_exposure"]
        return carried, exposure

    def edge_weight(
        self, network: dict[str, np.ndarray], source: np.ndarray, target: np.ndarray
    ) -> np.ndarray:
        """Edge distribution p_uv of one network draw at the given pairs."""
        if network["weight"].size == 0:
            return np.full(source.size, 1.0 / (self.n_nodes * max(self.n_nodes - 1, 1)))
        sender = network["sender"][source].astype(float) * network["weight"]
        return np.einsum("pk,pk->p", sender, network["receiver"][target], dtype=float)

    def gamma_shape(
        self, network: dict[str, np.ndarray], source: np.ndarray, target: np.ndarray
    ) -> np.ndarray:
        """Prior Gamma shape of pairs' rates under one network draw."""
        total = 1.0 if self.settings["likelihood"] == "tree" else float(network["total"])
        return total * self.edge_weight(network, source, target)

    # -- prediction -------------------------------------------------------------------------

    def predictive(
        self,
        pairs: Any = None,
        top: int | None = None,
        within: float | None = None,
        unused: bool = False,
    ) -> pd.DataFrame:
        """Predictive distribution of the next edge, for seen and unseen pairs alike.

        Parameters
        ----------
        pairs : iterable of (source, target) or DataFrame, optional
            Pairs to report; without them the ``top`` most probable ones. In a fit with
            ``open_world``, :data:`cascadenet.posterior.NEW` stands for the nodes never seen,
            as source, as target or as both: with these pairs ``prob`` sums to one.
        top : int, optional
            Number of rows, 20 when neither this nor ``pairs`` is given.
        within : float, optional
            Delay for the column ``transmit``, user's unit; by default the median candidate delay.
        unused : bool
            Leave out pairs that carried an infection in any draw.

        Returns
        -------
        DataFrame
            ``source``, ``target``, ``prob``: p_uv / (1 - sum_u p_uu) averaged over the network
            draws, and ``transmit``: probability that the source, just infected, infects the
            still uninfected target within the delay (survival likelihood; nan for new nodes,
            which have a probability together but no rate each).

        Raises
        ------
        ValueError
            Unknown node, a new one where the fit knows all, ``within`` not positive.
        """
        return prediction.predictive(self, pairs, top, within, unused)

    def predictive_matrix(self, senders: np.ndarray | None = None) -> np.ndarray:
        """Rows of the predictive edge distribution, averaged over draws.

        Parameters
        ----------
        senders : int array, optional
            Node indices of the rows; all by default. The full matrix takes N x N floats.

        Returns
        -------
        float32 array, shape (len(senders), N)
            Zero on the diagonal; all rows together sum to one in a closed world.
        """
        return prediction.predictive_matrix(self, senders)

    def predict_next(self, prefix: Any, k: int = 10, now: float | None = None) -> pd.DataFrame:
        """Who is infected next in a cascade seen so far.

        Parameters
        ----------
        prefix : iterable of (node, time) or DataFrame with columns node and time
            Infections so far.
        k : int
            Number of rows.
        now : float, optional
            Present time, not before the last infection, which is the default.

        Returns
        -------
        DataFrame
            ``node``, ``prob``: probability to be the next one infected given that somebody is;
            ``hazard``: infections per unit time now. Best first. Nodes nobody acts on at
            ``now`` are left out.

        Raises
        ------
        ValueError
            Empty prefix, unknown or repeated nodes, times not finite or after ``now``.
        """
        return prediction.predict_next(self, prefix, k, now)

    # -- communities ------------------------------------------------------------------------

    @cached_property
    def _labels(self) -> np.ndarray:
        """Community of every node as sender, then as receiver, in each network draw, (S, 2N)."""
        labels = np.zeros((len(self.networks), 2 * self.n_nodes), np.int64)
        for s, network in enumerate(self.networks):
            if network["weight"].size == 0:
                continue
            for side, name in enumerate(("sender", "receiver")):
                weight = network[name][: self.n_nodes] * network["weight"]
                weight[:, -1] = 0.0  # stands for all empty communities
                cut = slice(side * self.n_nodes, (side + 1) * self.n_nodes)
                labels[s, cut] = weight.argmax(axis=1)
        return labels

    @cached_property
    def _aligned(self) -> tuple[np.ndarray, np.ndarray]:
        """Point partition (2N,) and every draw's labels matched to it (S, 2N)."""
        point = partitions.point_estimate(self._labels)
        return point, partitions.align(self._labels, point)

    def communities(self) -> pd.DataFrame:
        """Communities of the nodes as senders and as receivers.

        Returns
        -------
        DataFrame
            ``node``; ``sender``, ``receiver``: community in the point partition, found by
            minimising the expected variation of information over the draws and their consensus,
            numbered by size from 1 (0: the null community); ``sender_prob``, ``receiver_prob``:
            share of draws that agree, their labels matched to the point partition.
        """
        import pandas as pd

        point, labels = self._aligned
        agree = (labels == point).mean(axis=0)
        n = self.n_nodes
        return pd.DataFrame(
            {
                "node": list(self.nodes),
                "sender": point[:n],
                "sender_prob": agree[:n],
                "receiver": point[n:],
                "receiver_prob": agree[n:],
            }
        )

    def coclustering(self, role: str = "sender") -> np.ndarray:
        """Probability that two nodes share a community, float64 (N, N)."""
        if role not in ("sender", "receiver"):
            raise ValueError(f"role must be sender or receiver; got {role!r}")
        cut = slice(0, self.n_nodes) if role == "sender" else slice(self.n_nodes, None)
        return partitions.coclustering(self._labels[:, cut])

    def structure_agreement(self) -> dict[str, float]:
        """Mean variation of information between draws of one chain and of different chains."""
        return partitions.agreement(self._labels, self.network_chain)

    # -- diagnostics and export -------------------------------------------------------------

    def diagnostics(self) -> pd.DataFrame:
        """Mean, sd, interval, effective draws and R-hat of every scalar."""
        from cascadenet.inference.diagnostics import summarise

        return summarise(self.scalars)

    def background(self) -> pd.DataFrame:
        """Hazard of infection from outside the network: node, rate, rate_sd, n."""
        import pandas as pd

        rows = np.flatnonzero(self.pair_source < 0)
        if rows.size == 0:
            raise ValueError("there is no background source; expected a fit with background=True")
        found = self.sums.at(rows)
        return pd.DataFrame(
            {
                "node": list(self.nodes),
                "rate": found.rate,
                "rate_sd": found.rate_sd,
                "n": found.n,
            }
        )

    def summary(self) -> str:
        """A page of text: what was fitted, what was found, whether the chains agree."""
        chains = self.sums.draws.size
        table = self.edges(top=5)
        lines = [
            f"{self.n_nodes} nodes, {self.provenance['n_cascades']} cascades, "
            f"{self.provenance['n_infections']} infections",
            f"likelihood {self.settings['likelihood']}, delay {self.settings['delay']}, prior "
            f"{self.settings['prior']}; {chains} chains, {int(self.sums.draws.sum())} draws, "
            f"seed {self.provenance['seed']}",
            f"expected number of edges that carried an infection: {self.expected_edges:.1f}",
        ]
        if self.provenance["candidates_cut"]:
            lines.append(f"candidates cut: {self.provenance['candidates_cut']}")
        if self.settings["prior"] == "hdp":
            apart = self.structure_agreement()
            lines.append(
                "communities: variation of information between draws "
                f"{apart['within']:.2f} nats within a chain, {apart['between']:.2f} between chains"
            )
            if chains > 1 and apart["between"] > 1.5 * apart["within"] + 0.05:
                lines.append("warning: the chains disagree about the communities")
        lines += ["", self.diagnostics().round(3).to_string(), "", "best edges", ""]
        lines.append(table.round(4).to_string(index=False))
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Traces of the scalars, one row for each chain and draw."""
        import pandas as pd

        chains, draws = next(iter(self.scalars.values())).shape
        chain, draw = np.divmod(np.arange(chains * draws), draws)
        columns = {name: values.ravel() for name, values in self.scalars.items()}
        return pd.DataFrame({"chain": chain, "draw": draw, **columns})

    def to_networkx(self, threshold: float = 0.5) -> nx.DiGraph:
        """Directed graph of the edges with ``prob >= threshold``, all nodes included.

        Edges carry the columns of :meth:`edges`, nodes those of :meth:`communities`.
        """
        import networkx as nx

        graph = nx.DiGraph(**{"threshold": threshold})
        graph.add_nodes_from(self.nodes)
        if self.settings["prior"] == "hdp":
            for role in self.communities().to_dict("records"):
                graph.add_node(role.pop("node"), **role)
        table = self.edges()
        for row in table[table["prob"] >= threshold].to_dict("records"):
            graph.add_edge(row.pop("source"), row.pop("target"), **row)
        return graph

    def to_arviz(self) -> Any:
        """Traces of the scalars for ArviZ (``pip install cascadenet[arviz]``)."""
        try:
            import arviz
        except ImportError as error:
            raise ImportError("to_arviz needs the package arviz; none is installed") from error
        if "posterior" in inspect.signature(arviz.from_dict).parameters:
            return arviz.from_dict(posterior=self.scalars)
        return arviz.from_dict({"posterior": self.scalars})  # ArviZ 1

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one file, atomically; no pickle in it. :func:`cascadenet.load` reads it.

        Parameters
        ----------
        path : path
            File to write; ``posterior.npz`` inside it when it is a folder.
        """
        from cascadenet.archive import save

        save(self, path)
