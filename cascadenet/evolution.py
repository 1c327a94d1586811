"""The posterior of a network that changes: one posterior an interval, and what leads on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet import partitions
from cascadenet.cascades import Cascades
from cascadenet.intervals import gamma_with_moments, mixture_below

if TYPE_CHECKING:
    import pandas as pd

    from cascadenet.inference.dynamics.filtering import Interval, Past
    from cascadenet.posterior import Posterior

__all__ = ["DynamicPosterior"]

ACTIVE = 0.01  # an edge is active when its rate is above this share of the usual rate of edges
SAME = 0.3  # a community lives on in the one it shares this much of their union with


class DynamicPosterior:
    """Posterior over a network that changes from interval to interval.

    Built by :meth:`cascadenet.DynamicCoupledHDP.fit`.

    Attributes
    ----------
    settings, provenance : dict
        How it was made: model and sampler settings, memories chosen; version, seed, data of the
        last interval.
    ends : float64 array, shape (J + 1,)
        Ends of the intervals whose posteriors are kept, user's unit of time.
    posteriors : list of Posterior, length J
        One for each interval.
    first_interval : int
        Number of the first interval that is kept; 0 unless older ones were dropped.
    """

    def __init__(
        self,
        *,
        settings: dict[str, Any],
        ends: np.ndarray,
        posteriors: list[Posterior],
        ahead: list[pd.DataFrame | None],
        past: Past,
        tried: list[dict[str, float]],
        first_interval: int = 0,
    ) -> None:
        self.settings = settings
        self.ends = np.asarray(ends, float)
        self.posteriors = posteriors
        self.past = past
        self.first_interval = first_interval
        self._ahead = ahead
        self._tried = tried

    def __repr__(self) -> str:
        return (
            f"<DynamicPosterior: {self.n_nodes} nodes, {len(self.posteriors)} intervals from "
            f"{self.ends[0]:g} to {self.ends[-1]:g}>"
        )

    @property
    def nodes(self) -> tuple[Any, ...]:
        """Node labels."""
        return self.posteriors[0].nodes

    @property
    def n_nodes(self) -> int:
        """Number of nodes N."""
        return len(self.nodes)

    @property
    def unit(self) -> float:
        """Internal unit of time."""
        return self.posteriors[0].unit

    @property
    def provenance(self) -> dict[str, Any]:
        """Version, seed, and fingerprint of the data of the last interval."""
        return self.posteriors[-1].provenance

    @cached_property
    def forecast(self) -> Posterior:
        """Posterior of the interval to come: predicts, and answers what `Posterior` does."""
        from cascadenet.inference.dynamics import filtering

        return filtering.forecast(self.posteriors[-1], self.past, self.settings["support_used"])

    def at(self, time: float) -> Posterior:
        """Posterior of the interval that holds a time.

        Raises
        ------
        ValueError
            A time outside all intervals that are kept.
        """
        if not self.ends[0] <= time <= self.ends[-1]:
            raise ValueError(
                f"time must lie in the intervals kept, {self.ends[0]:g} to {self.ends[-1]:g}; "
                f"got {time!r}"
            )
        j = min(int(np.searchsorted(self.ends, time, side="right")) - 1, len(self.posteriors) - 1)
        return self.posteriors[j]

    # -- edges ------------------------------------------------------------------------------

    def edges(
        self, interval: int | None = None, pairs: Any = None, top: int | None = None
    ) -> pd.DataFrame:
        """Edges of one interval or of all, best first within each.

        Parameters
        ----------
        interval : int, optional
            Number of the interval, negative ones counted from the last; all by default.
        pairs : iterable of (source, target) or DataFrame, optional
            Pairs to report; by default all that met in a cascade or are remembered.
        top : int, optional
            Only so many rows of each interval.

        Returns
        -------
        DataFrame
            ``interval``, ``start``, ``stop``, then the columns of
            :meth:`cascadenet.Posterior.edges`, where ``prob`` is the probability that the pair
            carried an infection in the interval, and ``active``: the probability that its rate
            is above one hundredth of the usual rate of edges (the expected rate behind a
            transmission of that interval, or behind those remembered where it has none), which
            edges can be that happened to carry nothing.
            Ordered by ``active`` where no pairs are given.

        Raises
        ------
        ValueError
            Unknown interval or node.
        """
        import pandas as pd

        tables = []
        for j in self._chosen(interval):
            posterior = self.posteriors[j]
            table = posterior.edges(pairs=pairs)
            table["active"] = self._active(posterior, table)
            if pairs is None:
                table = table.sort_values("active", ascending=False, kind="stable")
            place = {"interval": j + self.first_interval, "start": self.ends[j]}
            for column, value in reversed((place | {"stop": self.ends[j + 1]}).items()):
                table.insert(0, column, value)
            tables.append(table.head(top) if top is not None else table)
        return pd.concat(tables, ignore_index=True)

    def _chosen(self, interval: int | None) -> range:
        count = len(self.posteriors)
        if interval is None:
            return range(count)
        j = interval - self.first_interval if interval >= 0 else interval + count
        if not 0 <= j < count:
            last = self.first_interval + count - 1
            raise ValueError(
                f"interval must be one of those kept, {self.first_interval} to {last}; "
                f"got {interval!r}"
            )
        return range(j, j + 1)

    def _active(self, posterior: Posterior, table: pd.DataFrame) -> np.ndarray:
        """Probability that the rates of an edge table exceed the threshold of activity."""
        sums = posterior.sums
        edge = sums.used[posterior.pair_source[sums.used] >= 0]
        found = sums.at(edge)
        n, rate = found.n, found.rate
        if not n.any() and sums.carried.size:
            # an interval without transmissions: those that are remembered stand in
            edge = np.flatnonzero(posterior.pair_source >= 0)
            n, rate = sums.carried[edge], sums.at(edge).rate
        usual = float((n * rate).sum() / n.sum()) if n.any() else np.inf
        source = posterior.node_indices(table["source"], "source")
        target = posterior.node_indices(table["target"], "target")
        rows = posterior.rows_of(source, target)
        share = table["prob"].to_numpy(float)
        rest_mean = table["rate"].to_numpy(float, copy=True)
        rest_square = table["rate_sd"].to_numpy(float) ** 2 + rest_mean**2
        met = rows >= 0
        hit_mean, hit_square = np.zeros((2, rows.size))
        found = sums.at(rows[met])
        hit_mean[met], hit_square[met] = found.rate_hit, found.square_hit
        rest_mean[met], rest_square[met] = found.rate_rest, found.square_rest
        hit = gamma_with_moments(hit_mean, hit_square, share)
        rest = gamma_with_moments(rest_mean, rest_square, 1.0 - share)
        return 1.0 - mixture_below(np.full(rows.size, ACTIVE * usual), share, hit, rest)

    def rates(self, pairs: Any) -> pd.DataFrame:
        """Rates of chosen pairs over time: the rows of :meth:`edges`, pair by pair."""
        table = self.edges(pairs=pairs)
        order = np.argsort(
            np.tile(np.arange(len(table) // len(self.posteriors)), len(self.posteriors)),
            kind="stable",
        )
        return table.iloc[order].reset_index(drop=True)

    def events(self, threshold: float = 0.5) -> pd.DataFrame:
        """Births and deaths of edges.

        Parameters
        ----------
        threshold : float
            An edge is there in an interval when ``active`` is at least this.

        Returns
        -------
        DataFrame
            ``interval``, ``start`` (of the interval), ``source``, ``target``, ``event``:
            "birth" where an edge is there and was not in the interval before, "death" where it
            was and is not; ``active``, ``active_before``.
        """
        import pandas as pd

        if not 0.0 < threshold <= 1.0:
            raise ValueError(f"threshold must lie in (0, 1]; got {threshold!r}")
        rows = []
        before: pd.Series | None = None
        for j in range(len(self.posteriors)):
            table = self.edges(j + self.first_interval)
            table = table[table["active"] > 0.0]
            now = table.set_index(["source", "target"])["active"]
            if before is not None:
                both = pd.concat({"active": now, "active_before": before}, axis=1).fillna(0.0)
                there, was = both["active"] >= threshold, both["active_before"] >= threshold
                changed = both[there != was].reset_index()
                changed["event"] = np.where(changed["active"] >= threshold, "birth", "death")
                changed.insert(0, "start", self.ends[j])
                changed.insert(0, "interval", j + self.first_interval)
                rows.append(changed)
            before = now
        columns = [
            "interval", "start", "source", "target", "event", "active", "active_before",
        ]  # fmt: skip
        if not rows:
            return pd.DataFrame(columns=columns)
        return pd.concat(rows, ignore_index=True)[columns]

    # -- communities ------------------------------------------------------------------------

    @cached_property
    def _tracks(self) -> list[np.ndarray]:
        """Community of every node as sender, then as receiver, named alike over time, (2N,) each.

        A community lives on in that of the next interval with which it shares the largest part
        of their union, if that is at least ``SAME``; others are born or die.
        """
        from scipy.optimize import linear_sum_assignment

        tracks: list[np.ndarray] = []
        born = 0
        for posterior in self.posteriors:
            table = posterior.communities()
            labels = np.concatenate((table["sender"], table["receiver"])).astype(np.int64)
            name = np.zeros(labels.max(initial=0) + 1, np.int64)
            if tracks:
                joint = partitions.contingency(labels, tracks[-1]).astype(float)
                union = joint.sum(axis=1)[:, None] + joint.sum(axis=0)[None, :] - joint
                share = np.divide(joint, union, out=np.zeros_like(joint), where=union > 0)[1:, 1:]
                for k, old in zip(*linear_sum_assignment(-share), strict=True):
                    if share[k, old] >= SAME:
                        name[k + 1] = old + 1
            for k in range(1, name.size):
                if name[k] == 0:
                    born += 1
                    name[k] = born
            tracks.append(name[labels])
        return tracks

    def communities(self, interval: int | None = None) -> pd.DataFrame:
        """Communities of the nodes over time, with names that last.

        Parameters
        ----------
        interval : int, optional
            One interval; all by default.

        Returns
        -------
        DataFrame
            ``interval`` and the columns of :meth:`cascadenet.Posterior.communities`; a community
            keeps its number from interval to interval while it is recognisably the same.
        """
        import pandas as pd

        tables = []
        n = self.n_nodes
        for j in self._chosen(interval):
            table = self.posteriors[j].communities()
            table["sender"], table["receiver"] = self._tracks[j][:n], self._tracks[j][n:]
            table.insert(0, "interval", j + self.first_interval)
            tables.append(table)
        return pd.concat(tables, ignore_index=True)

    def community_sizes(self) -> pd.DataFrame:
        """Size of each community over time: interval, community, senders, receivers, event.

        ``event`` is "birth" in the first interval of a community after the first of all, "death"
        in the last one before it is gone, "birth and death" where both are the same.
        """
        import pandas as pd

        n, rows = self.n_nodes, []
        present = [set(np.unique(track[track > 0]).tolist()) for track in self._tracks]
        for j, track in enumerate(self._tracks):
            for k in sorted(present[j]):
                born = j > 0 and k not in present[j - 1]
                dies = j + 1 < len(present) and k not in present[j + 1]
                rows.append(
                    {
                        "interval": j + self.first_interval,
                        "community": k,
                        "senders": int((track[:n] == k).sum()),
                        "receivers": int((track[n:] == k).sum()),
                        "event": " and ".join(["birth"] * born + ["death"] * dies),
                    }
                )
        columns = ["interval", "community", "senders", "receivers", "event"]
        return pd.DataFrame(rows, columns=columns)

    # -- prediction and diagnostics ---------------------------------------------------------

    def predictive(self, *args: Any, **options: Any) -> pd.DataFrame:
        """Predictive distribution of the next edge, see :meth:`cascadenet.Posterior.predictive`."""
        return self.forecast.predictive(*args, **options)

    def predict_next(self, *args: Any, **options: Any) -> pd.DataFrame:
        """Who is infected next, see :meth:`cascadenet.Posterior.predict_next`."""
        return self.forecast.predict_next(*args, **options)

    def log_predictive(self, *args: Any, **options: Any) -> pd.DataFrame:
        """Density of cascades to come, see :meth:`cascadenet.Posterior.log_predictive`."""
        return self.forecast.log_predictive(*args, **options)

    def scores(self) -> pd.DataFrame:
        """How well each interval was foretold from those before it.

        The log predictive density of its cascades together, that is of each given the intervals
        before and the cascades that started earlier in its own.

        Returns
        -------
        DataFrame
            ``interval``, ``log_predictive``, ``n_infections`` (seeds left out) and
            ``per_infection``; intervals without a forecast or cascades are left out.
        """
        import pandas as pd

        rows = []
        for j, table in enumerate(self._ahead):
            if table is None:
                continue
            total, count = float(table["log_predictive"].sum()), int(table["n_infections"].sum())
            rows.append((j + self.first_interval, total, count, total / count if count else np.nan))
        columns = ["interval", "log_predictive", "n_infections", "per_infection"]
        return pd.DataFrame(rows, columns=columns)

    def memories_tried(self) -> pd.DataFrame:
        """What ``"auto"`` tried: forgetting, support, log_predictive; empty when nothing was."""
        import pandas as pd

        return pd.DataFrame(self._tried, columns=["forgetting", "support", "log_predictive"])

    def diagnostics(self) -> pd.DataFrame:
        """Mean, sd, interval, effective draws and R-hat of every scalar of each interval."""
        import pandas as pd

        tables = {
            j + self.first_interval: posterior.diagnostics()
            for j, posterior in enumerate(self.posteriors)
        }
        return pd.concat(tables, names=["interval", "scalar"])

    def summary(self) -> str:
        """A page of text: intervals, memories, edges that came and went, communities."""
        import pandas as pd

        used = self.settings
        events, sizes = self.events(), self.community_sizes()
        rows = []
        for j, posterior in enumerate(self.posteriors):
            number = j + self.first_interval
            here = events[events["interval"] == number]["event"]
            table = self.edges(number)
            worst = posterior.diagnostics()["rhat"].max()
            rows.append(
                {
                    "interval": number,
                    "start": self.ends[j],
                    "cascades": posterior.provenance["n_cascades"],
                    "infections": posterior.provenance["n_infections"],
                    "edges": int((table["active"] >= 0.5).sum()),
                    "births": int((here == "birth").sum()),
                    "deaths": int((here == "death").sum()),
                    "communities": int((sizes["interval"] == number).sum()),
                    "R-hat": worst,
                }
            )
        lines = [
            f"{self.n_nodes} nodes, {len(self.posteriors)} intervals from {self.ends[0]:g} to "
            f"{self.ends[-1]:g}, seed {self.provenance['seed']}",
            f"remembered from interval to interval: {used['forgetting_used']:g} of the evidence, "
            f"and support of weight {used['support_used']:g}",
            "",
            pd.DataFrame(rows).round(3).to_string(index=False),
            "",
            "log predictive density of each interval given those before it",
            "",
            self.scores().round(3).to_string(index=False),
            "",
            "most active edges of the last interval",
            "",
            self.edges(-1, top=5).round(4).to_string(index=False),
        ]
        return "\n".join(lines)

    # -- going on ---------------------------------------------------------------------------

    def adopt(self, cascades: Cascades) -> Cascades:
        """New cascades with the nodes of this posterior, in their order.

        Raises
        ------
        ValueError
            Nodes that are not known.
        """
        if tuple(cascades.nodes) == tuple(self.nodes):
            return cascades
        known = {label: i for i, label in enumerate(self.nodes)}
        unknown = [label for label in cascades.nodes if label not in known]
        if unknown:
            raise ValueError(
                f"cascades must be of nodes of the posterior; got {unknown[0]!r} and "
                f"{len(unknown) - 1} more that are not: name all nodes in the first fit, with "
                "nodes= when the cascades are read"
            )
        place = np.array([known[label] for label in cascades.nodes], np.int32)
        node = place[cascades.node]
        cascade = np.repeat(np.arange(cascades.n_cascades), np.diff(cascades.offset))
        order = np.lexsort((node, cascades.time, cascade))
        return Cascades.from_arrays(
            self.nodes,
            cascades.offset,
            node[order],
            cascades.time[order],
            cascades.horizon,
            cascades.labels,
        )

    def extended(
        self, found: Sequence[Interval], ends: Iterable[float], keep: int | None
    ) -> DynamicPosterior:
        """This posterior and more intervals, of which the latest ``keep`` are kept."""
        posteriors = self.posteriors + [interval.posterior for interval in found]
        drop = 0 if keep is None else max(len(posteriors) - keep, 0)
        return DynamicPosterior(
            settings=self.settings,
            ends=np.append(self.ends, list(ends))[drop:],
            posteriors=posteriors[drop:],
            ahead=(self._ahead + [interval.ahead for interval in found])[drop:],
            past=found[-1].past,
            tried=self._tried,
            first_interval=self.first_interval + drop,
        )

    def pack(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """All but the posteriors: what JSON can hold, and arrays by name."""
        from cascadenet.inference.dynamics.archive import pack_past

        past, arrays = pack_past(self.past)
        meta = {
            "settings": self.settings,
            "past": past,
            "tried": self._tried,
            "first_interval": self.first_interval,
            "cascades": [None if t is None else list(t["cascade"]) for t in self._ahead],
        }
        arrays["ends"] = self.ends
        for j, table in enumerate(self._ahead):
            if table is not None:
                for name in ("log_predictive", "n_infections"):
                    arrays[f"ahead_{j}_{name}"] = table[name].to_numpy()
        return meta, arrays

    @classmethod
    def unpack(
        cls, meta: dict[str, Any], arrays: Any, posteriors: list[Posterior]
    ) -> DynamicPosterior:
        """From what `pack` gave, and the posteriors."""
        import pandas as pd

        from cascadenet.inference.dynamics.archive import unpack_past

        ahead = [
            None
            if labels is None
            else pd.DataFrame(
                {"cascade": labels}
                | {name: arrays[f"ahead_{j}_{name}"] for name in ("log_predictive", "n_infections")}
            )
            for j, labels in enumerate(meta["cascades"])
        ]
        return cls(
            settings=meta["settings"],
            ends=arrays["ends"],
            posteriors=posteriors,
            ahead=ahead,
            past=unpack_past(meta["past"], arrays),
            tried=meta["tried"],
            first_interval=meta["first_interval"],
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one file, atomically; no pickle in it. :func:`cascadenet.load` reads it.

        Parameters
        ----------
        path : path
            File to write; ``posterior.npz`` inside it when it is a folder.
        """
        from cascadenet.archive import save_dynamic

        save_dynamic(self, path)
