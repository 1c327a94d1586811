"""CoOccurrence: how often one node was infected before another."""

from __future__ import annotations

import numpy as np

from cascadenet.cascades import Cascades
from cascadenet.inference.baselines.table import (
    RATE_COLUMNS,
    Baseline,
    EdgeColumns,
    check_cascades,
    check_positive,
)
from cascadenet.inference.layout import build_layout

__all__ = ["CoOccurrence"]


class CoOccurrence(Baseline):
    """Count of the cascades in which one node was infected before another.

    It knows nothing of rates or of who else was there, and is hard to beat where the network to be
    found records contact: report it beside any other method.

    Parameters
    ----------
    window : float, optional
        Longest delay that counts, user's unit of time.

    Notes
    -----
    In the edge table ``n`` is the count, ``prob`` the share of all cascades, so that the order is
    that of the count, and the columns of the rate are nan. Nodes infected at the same instant are
    not counted.

    Examples
    --------
    >>> import cascadenet as cn
    >>> import pandas as pd
    >>> times = [(0, "a", 0.0), (0, "b", 1.0), (1, "a", 0.0), (1, "b", 3.0), (1, "c", 4.0)]
    >>> frame = pd.DataFrame(times, columns=["cascade", "node", "time"])
    >>> data = cn.Cascades.from_frame(frame, horizon=5.0)
    >>> cn.inference.CoOccurrence().fit(data).edges(top=1)["n"].tolist()
    [2.0]
    """

    def __init__(self, window: float | None = None) -> None:
        self.window = window

    def fit(self, cascades: Cascades) -> CoOccurrence:
        """Count.

        Parameters
        ----------
        cascades : Cascades
            The data.

        Returns
        -------
        CoOccurrence
            Itself.

        Raises
        ------
        TypeError, ValueError
            Not cascades, or a window that is not positive.
        """
        if self.window is not None:
            check_positive("window", self.window)
        check_cascades(cascades)
        layout = build_layout(cascades)
        pair = layout.cand_pair
        if self.window is not None:
            # delays went through a division: one equal to the window must not drop out
            within = layout.cand_delay * layout.unit <= self.window * (1.0 + 1e-12)
            pair = pair[within]
        count = np.bincount(pair, minlength=layout.n_pairs).astype(np.float64)
        self._cascades = cascades
        self._source, self._target = layout.pair_source, layout.pair_child
        columns = {"prob": count / cascades.n_cascades, "n": count}
        columns |= {name: np.full(count.size, np.nan) for name in RATE_COLUMNS}
        unmet = {name: np.full(cascades.n_nodes, np.nan) for name in RATE_COLUMNS}
        shown = np.flatnonzero(count)
        ranked = shown[np.argsort(-count[shown], kind="stable")]
        self._found = EdgeColumns(columns, unmet, ranked)
        return self
