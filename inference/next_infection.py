"""`NextInfection`: who comes next in a cascade, by the order of infections alone."""

from __future__ import annotations

import math
import numbers
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from cascadenet.cascades import Cascades
from cascadenet.inference.nexts import _kernels
from cascadenet.inference.nexts.communities import latent_communities, posterior_communities
from cascadenet.inference.nexts.counts import PairCounts
from cascadenet.networks import whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

KERNELS = ("power", "exponential")
# settings that are numbers: least value, whether it may be reached, whether infinity may be
RANGES = {
    "train_decay": (0.0, False, True),
    "crowding": (0.0, True, False),
    "half_life": (0.0, False, True),
    "score_decay": (0.0, True, True),
    "flat": (0.0, True, False),
    "sender_power": (0.0, True, False),
    "sender_offset": (0.0, False, False),
    "target_power": (0.0, True, False),
    "reverse": (0.0, True, False),
    "popularity": (0.0, True, False),
    "least": (0.0, False, False),
    "community_weight": (0.0, True, False),
    "recent_weight": (0.0, True, False),
    "recent_half_life": (0.0, False, True),
    "sharpness": (0.0, False, False),
    "evidence_weight": (0.0, True, False),
    "community_mass": (0.0, True, False),
}
SWEEPS = 5  # of the attribution over the training data


class NextInfection:
    """Ranks nodes by the probability to be infected next, from the order of earlier cascades.

    The clock is the place in the cascade, not the time: one node acts on another the more, the
    more often and the closer behind it the other came in the training cascades. Beside it stand
    communities of nodes that follow the same others, and popularity.

    Parameters
    ----------
    train_kernel : {"power", "exponential"}
        How evidence falls with the distance l = 1, 2, ... between two infections of a training
        cascade: k(l) = l^-train_decay, or exp(-(l - 1) / train_decay).
    train_decay : float
        An exponent, or a number of infections (tau_T of the literature on kernels); infinite for
        an exponential kernel that does not fall.
    window : int
        Largest distance that counts (W).
    crowding : float
        An infection that follows several others counts Z^-crowding each, Z = sum of their k (d).
    half_life : float
        Age after which a training cascade counts half, in the unit of the times; the age is
        reckoned from its first infection to that of the latest cascade.
    score_decay : float
        In the cascade to be continued, h(l) = exp(-(l - 1) / score_decay) + flat. Zero: only the
        last infection acts.
    flat : float
        The part of h that does not fall (f).
    sender_power, sender_offset : float
        Evidence of u is divided by (sender_offset + E_u)^sender_power, E_u the discounted number
        of cascades with u (beta, b).
    target_power : float
        Evidence for v is divided by (1 + c_v)^target_power, c_v the number with v (eta).
    reverse : float
        Share at which evidence of the opposite direction counts (rho).
    popularity, least : float
        Weight of popularity relative to the total action S, and beside it whatever S is
        (epsilon, kappa_0). Popularity is c_v + 1, so that every node stays possible.
    communities : int, CoupledHDP or Posterior
        Number of communities to be fitted (K), 0 for none, or where to take memberships from.
    community_weight : float
        Their weight relative to S (epsilon_c).
    recent_weight, recent_half_life : float
        Weight, relative to S, of counts discounted by a half-life of their own (epsilon_r).
    sharpness : float
        The action A is replaced by A^sharpness, rescaled to the same total, which makes
        confident predictions as confident as they should be; 1 leaves it.
    empirical_bayes : bool
        Treat rates as gamma variables whose shape has the evidence as its prior part, and share
        every training infection out among those it follows. The evidence is used twice.
    evidence_weight, community_mass : float
        Of the gamma shape, with ``empirical_bayes`` only (s, kappa).
    seed : int
        Of the start of the communities.

    Attributes
    ----------
    nodes : tuple
        Node labels; all scores are in this order.
    provenance : dict
        Version, fingerprint of the data that were fitted, and how many cascades came later.
    tuning_ : DataFrame
        After :meth:`tune`: what was tried.

    Notes
    -----
    m_uv = sum over cascades c of w_c sum_{i < j <= i + W} 1[v_i = u, v_j = v] k(j - i) Z_cj^-d;
    rate(u, v) = (m_uv + rho m_vu) / ((b + E_u)^beta (1 + c_v)^eta);
    A_v = sum over the prefix of h(distance) rate(v_i, v), S its sum over nodes at risk. The
    probability of v is proportional to A_v + S epsilon_c sum_z theta_z phi_zv + (kappa_0 + epsilon
    S) pop_v / pop + epsilon_r S recent_v / recent, with pi_uz, phi_zv the memberships of senders
    and receivers and theta_z proportional to sum_i h pi_{v_i z}; only popularity and recency are
    normalised over the nodes at risk.

    With ``empirical_bayes``, rate = (r + n) / (b + E), r_uv = s (m_uv + rho m_vu) + b kappa sum_k
    pi_uk phi_kv, and n_uv sums the shares q_ij, which are proportional to h(j - i) (r + n without
    j) / (b + E) over the last W infections before j.

    Everything counted is a sum over cascades in the order in which they come: cascades that come in
    several portions give the same bytes as all at once.

    Examples
    --------
    >>> import cascadenet as cn
    >>> from cascadenet.inference.next_infection import NextInfection
    >>> network = cn.simulate.community_network(2, 10, within=0.4, between=0.0, seed=1)
    >>> data = cn.simulate.simulate_cascades(network, 50, horizon=2.0, seed=1).cascades
    >>> model = NextInfection(communities=2).fit(data)
    >>> list(model.predict_next([(0, 0.0), (3, 0.2)], k=5).columns)
    ['node', 'prob']
    """

    def __init__(
        self,
        *,
        train_kernel: str = "power",
        train_decay: float = 0.6,
        window: int = 50,
        crowding: float = 0.25,
        half_life: float = math.inf,
        score_decay: float = 4.0,
        flat: float = 0.0,
        sender_power: float = 0.9,
        sender_offset: float = 1.0,
        target_power: float = 0.2,
        reverse: float = 0.1,
        popularity: float = 0.1,
        least: float = 0.01,
        communities: Any = 20,
        community_weight: float = 0.4,
        recent_weight: float = 0.0,
        recent_half_life: float = math.inf,
        sharpness: float = 1.8,
        empirical_bayes: bool = False,
        evidence_weight: float = 1.0,
        community_mass: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.train_kernel = train_kernel
        self.train_decay = train_decay
        self.window = window
        self.crowding = crowding
        self.half_life = half_life
        self.score_decay = score_decay
        self.flat = flat
        self.sender_power = sender_power
        self.sender_offset = sender_offset
        self.target_power = target_power
        self.reverse = reverse
        self.popularity = popularity
        self.least = least
        self.communities = communities
        self.community_weight = community_weight
        self.recent_weight = recent_weight
        self.recent_half_life = recent_half_life
        self.sharpness = sharpness
        self.empirical_bayes = empirical_bayes
        self.evidence_weight = evidence_weight
        self.community_mass = community_mass
        self.seed = seed

    # -- learning ---------------------------------------------------------------------------

    def fit(self, cascades: Cascades) -> NextInfection:
        """Count, and fit the communities.

        Parameters
        ----------
        cascades : Cascades
            Training data. All their nodes are candidates, infected or not.

        Returns
        -------
        NextInfection
            Itself.

        Raises
        ------
        TypeError, ValueError
            Not cascades; settings of a wrong kind or out of range.
        """
        self._check_settings()
        _check_cascades(cascades)
        self.nodes = tuple(cascades.nodes)
        self._index = {label: i for i, label in enumerate(self.nodes)}
        self._seen = [cascades]
        self.provenance = provenance(cascades)
        self._counts = self._empty_counts()
        node = cascades.node.astype(np.int64)
        self._counts.add(cascades, node)
        self._counts.index()
        self._sender, self._receiver = self._memberships()
        if self.empirical_bayes:
            self._attribute(cascades, node, SWEEPS)
        self._refresh()
        return self

    def partial_fit(self, cascades: Cascades) -> NextInfection:
        """Learn from more cascades; the counts are those of a fit to all of them in this order.

        Communities stay those of the fit. With ``empirical_bayes``, the new infections are shared
        out once and the old ones not again.

        Parameters
        ----------
        cascades : Cascades
            Nodes must be known; a model that is not fitted yet is fitted.

        Returns
        -------
        NextInfection
            Itself.

        Raises
        ------
        TypeError, ValueError
            Not cascades; unknown nodes.
        """
        if not self.fitted:
            return self.fit(cascades)
        _check_cascades(cascades)
        node = self._node_of(cascades)
        if self._seen:
            self._seen = [*self._seen, cascades]
        self.provenance["n_cascades_added"] += cascades.n_cascades
        self._counts.add(cascades, node)
        if self.empirical_bayes:
            self._attribute(cascades, node, 1)
        self._refresh()
        return self

    def tune(
        self,
        valid: Cascades,
        grid: Mapping[str, Sequence] | None = None,
        rounds: int = 3,
        folds: int | None = None,
    ) -> NextInfection:
        """Choose the settings that rank best in other cascades, one after the other.

        The score is the mean of hits@k and MAP@k for k = 10, 50, 100, and a setting moves only for
        a gain of at least 0.0005; ``popularity``, ``sharpness`` and ``community_weight``, which say
        how sure to be rather than in which order, are judged by the negative log-likelihood.

        Parameters
        ----------
        valid : Cascades
            Cascades that were not fitted. They are not learnt from.
        grid : mapping of setting to values, optional
            What to try; `cascadenet.inference.nexts.tuning.default_grid` without.
        rounds : int
            Times round all settings; stops when one changes nothing.
        folds : int, optional
            Number of stretches, together the later half of the cascades that were fitted, that
            also judge, each after a fit to the cascades that started before it; all targets count
            alike. By default 5 where ``valid`` has fewer than 2000 targets, and none where it has
            more, which tell settings apart without help.

        Returns
        -------
        NextInfection
            Itself, fitted with the settings chosen; ``tuning_`` lists what was tried.

        Raises
        ------
        ValueError
            Not fitted, or loaded from a file, which does not hold the training data; unknown
            settings in ``grid``, unknown nodes in ``valid``.
        """
        from cascadenet.inference.nexts.tuning import search

        self._check_fitted("tune")
        if not self._seen:
            raise ValueError("tune needs the training data; a file does not hold them: fit first")
        _check_cascades(valid)
        self._node_of(valid)
        whole_number("rounds", rounds, 1)
        if folds is not None:
            whole_number("folds", folds, 0)
        chosen, self.tuning_ = search(self, self._seen, valid, grid, rounds, folds)
        for name, value in chosen.items():
            setattr(self, name, value)
        return self._fit_all(self._seen)

    def _fit_all(self, portions: list[Cascades]) -> NextInfection:
        self.fit(portions[0])
        for portion in portions[1:]:
            self.partial_fit(portion)
        return self

    # -- answers ----------------------------------------------------------------------------

    @property
    def fitted(self) -> bool:
        """Whether there is something to predict from."""
        return hasattr(self, "_counts")

    def scores(self, nodes: Iterable[Any], times: Iterable[float]) -> np.ndarray:
        """Probability of every node to be infected next.

        Parameters
        ----------
        nodes, times : iterables, length L >= 1
            Infections so far, in any order; those at the same time are taken in the order of
            ``self.nodes``.

        Returns
        -------
        float64 array, shape (N,)
            In the order of ``self.nodes``; zero for those infected, and sums to one unless all
            are.

        Raises
        ------
        ValueError
            Not fitted; no infection; unknown or repeated nodes; times not finite.
        """
        return self.scores_along(nodes, times)[-1].copy()

    def scores_along(self, nodes: Iterable[Any], times: Iterable[float]) -> np.ndarray:
        """`scores` after each infection of a cascade, at once.

        Parameters
        ----------
        nodes, times : iterables, length L >= 1
            As for `scores`.

        Returns
        -------
        float64 array, shape (L, N)
            Row i holds the scores after the first i + 1 infections.
        """
        self._check_fitted("scores")
        node = self._prefix(nodes, times)
        counts, score = self._counts, np.empty((node.size, len(self.nodes)))
        _kernels.score_along(
            *(node, counts.pair_node, counts.evidence, counts.carried),
            *(counts.row_ptr, counts.row_entry, counts.head, counts.link),
            *(self._source_scale, self._target_scale, float(self.reverse)),
            *(_fading(self.score_decay), float(self.flat)),
            *(self._base, self._sender, self._receiver, counts.count + 1.0, counts.recent),
            *(float(self.sharpness), self._weights, score),
        )
        return score

    def predict_next(self, prefix: Any, k: int = 10) -> pd.DataFrame:
        """Who is infected next in a cascade seen so far.

        Parameters
        ----------
        prefix : iterable of (node, time) or DataFrame with columns node and time
            Infections so far.
        k : int
            Number of rows.

        Returns
        -------
        DataFrame
            ``node``, ``prob``: probability to be the next one infected given that somebody is.
            Best first; nodes of equal probability in the order of ``nodes``.

        Raises
        ------
        ValueError
            Not fitted; empty prefix, unknown or repeated nodes, times not finite.
        """
        import pandas as pd

        whole_number("k", k, 0)
        prob = self.scores(*_columns_of(prefix))
        order = np.lexsort((np.arange(prob.size), -prob))[:k]
        order = order[prob[order] > 0.0]
        return pd.DataFrame({"node": np.asarray(self.nodes)[order], "prob": prob[order]})

    def end_probability(self, length: int) -> float:
        """Probability that a cascade with so many infections has no more.

        The share among training cascades of about this length (within 15%), with five
        observations at the mean rate added.

        Parameters
        ----------
        length : int
            Infections so far, at least 1.

        Raises
        ------
        ValueError
            Not fitted, or a length below 1.
        """
        self._check_fitted("end_probability")
        return self._counts.end_probability(whole_number("length", length, 1))

    # -- files ------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one file, atomically; no pickle in it. The training data are not in it.

        Parameters
        ----------
        path : path
            File to write; ``next_infection.npz`` inside it when it is a folder.
        """
        from cascadenet.inference.nexts.files import save

        self._check_fitted("save")
        save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> NextInfection:
        """Read what `save` wrote; it predicts the same bytes and can learn on.

        Parameters
        ----------
        path : path
            The file, or the folder that holds it.

        Raises
        ------
        FormatError
            Not such a file, damaged, or written by a newer version.
        FileNotFoundError
            Nothing there.
        """
        from cascadenet.inference.nexts.files import load

        return load(path)

    # -- parts ------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Settings by name; memberships that were passed in count as their number."""
        names = ("train_kernel", "window", "empirical_bayes", "seed", *RANGES)
        values = {name: getattr(self, name) for name in names}
        given = self.communities
        if not isinstance(given, numbers.Integral):
            given = self._receiver.shape[0]
        return values | {"communities": int(given)}

    def _empty_counts(self) -> PairCounts:
        distance = np.arange(1.0, self.window + 1.0)
        if self.train_kernel == "power":
            lag = distance**-self.train_decay
        else:
            lag = np.exp((1.0 - distance) / self.train_decay)
        return PairCounts(
            *(len(self.nodes), lag, self.crowding, self.half_life, self.recent_half_life),
            attributed=self.empirical_bayes,
        )

    def _restore(
        self,
        nodes: list,
        origin: dict[str, Any],
        arrays: dict[str, np.ndarray],
        sender: np.ndarray,
        receiver: np.ndarray,
    ) -> None:
        """Take over what was saved; the training data are not there any more."""
        self.nodes, self.provenance, self._seen = tuple(nodes), origin, []
        self._index = {label: i for i, label in enumerate(self.nodes)}
        self._sender, self._receiver = sender, receiver
        self._counts = self._empty_counts()
        self._counts.restore(arrays)
        self._refresh()

    def _memberships(self) -> tuple[np.ndarray, np.ndarray]:
        """Communities of senders (N, K) and of receivers (K, N); K = 0 where none are used."""
        n_nodes = len(self.nodes)
        if not isinstance(self.communities, numbers.Integral):
            return posterior_communities(self.communities, self.nodes)
        used = self.community_weight > 0.0 or self.empirical_bayes
        if self.communities == 0 or not used or self._counts.n_pairs == 0:
            return np.zeros((n_nodes, 0)), np.zeros((0, n_nodes))
        return latent_communities(self._counts, int(self.communities), self.seed)

    def _attribute(self, cascades: Cascades, node: np.ndarray, sweeps: int) -> None:
        """Share infections out among those they follow."""
        self._refresh()
        counts, factor = self._counts, self._counts.discount.factor()
        before = np.minimum(np.arange(np.diff(cascades.offset).max()), self.window).cumsum()
        share = np.zeros(int(before[np.diff(cascades.offset) - 1].sum()))
        lag = _fading(self.score_decay) ** np.arange(float(self.window)) + self.flat
        for _ in range(sweeps):
            _kernels.attribute(
                *(cascades.offset, node, counts.discount.weights(cascades.start), lag),
                *(counts.slot, counts.pair_node, counts.evidence, float(self.reverse)),
                *(np.array([factor * self.evidence_weight, factor]), self._inverse),
                *(self._prior, self._sender, self._receiver, share, counts.carried),
            )

    def _refresh(self) -> None:
        """What scores need beside the counts: one number or two for each node."""
        counts, factor = self._counts, self._counts.discount.factor()
        rate = self.sender_offset + factor * counts.exposure
        self._weights = np.array(
            [self.community_weight, self.popularity, self.least, self.recent_weight], np.float64
        )
        if self.empirical_bayes:
            self._inverse = 1.0 / rate
            self._prior = np.full(rate.size, self.sender_offset * self.community_mass)
            self._base = self._prior * self._inverse
            self._source_scale = np.outer(factor * self._inverse, [self.evidence_weight, 1.0])
            self._target_scale = np.ones(rate.size)
        else:
            self._base = np.zeros(rate.size)
            self._source_scale = np.outer(factor * rate**-self.sender_power, [1.0, 0.0])
            self._target_scale = (1.0 + counts.count) ** -self.target_power

    # -- checks -----------------------------------------------------------------------------

    def _check_fitted(self, method: str) -> None:
        if not self.fitted:
            name = type(self).__name__
            raise ValueError(f"this {name} is not fitted; expected a call of fit before {method}")

    def _check_settings(self) -> None:
        check_settings({name: getattr(self, name) for name in RANGES})
        if self.train_kernel not in KERNELS:
            raise ValueError(
                f"train_kernel must be one of {', '.join(KERNELS)}; got {self.train_kernel!r}"
            )
        whole_number("window", self.window, 1)
        whole_number("seed", self.seed, 0)
        if isinstance(self.communities, (numbers.Number, str)) or self.communities is None:
            whole_number("communities", self.communities, 0)
        if not isinstance(self.empirical_bayes, (bool, np.bool_)):
            raise TypeError(f"empirical_bayes must be True or False; got {self.empirical_bayes!r}")

    def _node_of(self, cascades: Cascades) -> np.ndarray:
        """Index here of each infection's node, int64."""
        if cascades.nodes == self.nodes:
            return cascades.node.astype(np.int64)
        used = np.unique(cascades.node)
        index = np.zeros(cascades.n_nodes, np.int64)
        index[used] = self._indices((cascades.nodes[i] for i in used), "nodes of the cascades")
        return index[cascades.node]

    def _indices(self, labels: Iterable[Any], name: str) -> np.ndarray:
        try:
            return np.array([self._index[label] for label in labels], np.int64)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{name} must be nodes of the training data; got {error}") from None

    def _prefix(self, nodes: Iterable[Any], times: Iterable[float]) -> np.ndarray:
        """Indices of the nodes infected so far, in the order of their times."""
        node = self._indices(nodes, "nodes")
        try:
            time = np.array([float(t) for t in times])
        except (TypeError, ValueError):
            raise ValueError(f"times must be numbers; got {times!r:.60}") from None
        if node.size == 0 or node.size != time.size:
            raise ValueError(
                "nodes and times must have the same positive length; got "
                f"{node.size} and {time.size}"
            )
        if np.unique(node).size < node.size:
            raise ValueError("nodes must differ; a node is infected once")
        if not np.isfinite(time).all():
            raise ValueError(f"times must be finite; got {time[~np.isfinite(time)][0]}")
        return node[np.lexsort((node, time))]


def provenance(cascades: Cascades) -> dict[str, Any]:
    """Where a fit comes from."""
    import cascadenet

    return {
        "version": cascadenet.__version__,
        "fingerprint": cascades.fingerprint,
        "n_cascades": cascades.n_cascades,
        "n_infections": cascades.n_infections,
        "n_cascades_added": 0,
    }


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise unless the numbers among the settings are in range.

    Parameters
    ----------
    settings : mapping of name to value
        Names as in ``RANGES``.

    Raises
    ------
    ValueError
        A value out of range or no number.
    """
    for name, value in settings.items():
        least, reached, infinite = RANGES[name]
        number = isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))
        good = number and (least < value or (reached and value == least))
        if not good or (value == math.inf and not infinite):
            kind = "at least 0" if reached else "positive"
            finite = "" if infinite else " and finite"
            raise ValueError(f"{name} must be a number, {kind}{finite}; got {value!r}")


def _fading(decay: float) -> float:
    """Factor by which action fades from one infection to the next."""
    return math.exp(-1.0 / decay) if decay > 0.0 else 0.0


def _check_cascades(cascades: object) -> None:
    if not isinstance(cascades, Cascades):
        raise TypeError(f"cascades must be a Cascades; got {type(cascades).__name__}")


def _columns_of(prefix: Any) -> tuple[list, list]:
    """Nodes and times of a prefix."""
    if hasattr(prefix, "columns"):
        missing = {"node", "time"} - set(prefix.columns)
        if missing:
            raise ValueError(f"prefix must have columns node and time; missing {missing}")
        return list(prefix["node"]), list(prefix["time"])
    try:
        listed = [(label, time) for label, time in prefix]
    except (TypeError, ValueError):
        raise ValueError(f"prefix must be (node, time) tuples; got {prefix!r:.60}") from None
    return [label for label, _ in listed], [time for _, time in listed]
