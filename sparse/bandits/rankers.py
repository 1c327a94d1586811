"""LinUCB and linear Thompson sampling for lists under the position-based click model."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.errors import FormatError
from cascadenet.files import atomic_path, open_npz
from cascadenet.sparse.bandits import _check, _kernels
from cascadenet.sparse.bandits.linear import NOTHING, LinearRanker
from cascadenet.sparse.bandits.rounds import pack, unpack

FORMAT = 1
_STATE = ("gram", "response", "state", "theta", "since", "mean", "variance")
_SETTINGS = (
    "n_features", "n_slots", "ridge", "weighting", "forgetting", "keep_prior", "window", "batch",
    "refresh", "n_items", "ties",
)  # fmt: skip


class _Stored(LinearRanker):
    """Posterior, and a ranker as plain arrays and as a file."""

    _own: tuple[str, ...] = ()

    def posterior(self, item: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of the attraction parameters.

        Parameters
        ----------
        item : int, optional
            Which model, when every item has its own.

        Returns
        -------
        mean : numpy.ndarray (d,)
        covariance : numpy.ndarray (d, d)
            The inverse of A, times the squared scale of a LinTS ranker.
        """
        model = 0
        if self.n_items is not None:
            if item is None:
                raise ValueError("item must be given: every item has its own parameters")
            model = int(_check.integers("item", [item], 0, self.n_items, 1)[0])
        d = self.n_features
        gram = np.zeros((d, d))
        gram[np.triu_indices(d)] = self._gram[model]
        gram += np.triu(gram, 1).T
        covariance = np.linalg.inv(gram)
        return self._theta[model].copy(), self._spread() * (0.5 * (covariance + covariance.T))

    def _spread(self) -> float:
        return 1.0

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything the ranker is, as plain arrays; copies, no objects."""
        settings = {name: getattr(self, name) for name in (*_SETTINGS, *self._own)}
        settings |= {"kind": type(self).__name__, "format": FORMAT, "n_rounds": self.n_rounds}
        if self._rng is not None:
            settings["generator"] = _plain(self._rng.bit_generator.state)
        text = json.dumps(settings, sort_keys=True)
        arrays = {"settings": np.frombuffer(text.encode(), np.uint8).copy()}
        arrays |= {name: getattr(self, f"_{name}").copy() for name in _STATE}
        arrays |= {
            "examination": self.examination.copy(),
            "prior_mean": self.prior_mean.copy(),
            "items": np.empty((0, self.n_features)) if self._items is None else self._items.copy(),
        }
        return (
            arrays
            | pack("pending", self._pending, self.n_features)
            | pack("history", self._history, self.n_features)
        )

    @classmethod
    def from_state_dict(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """The ranker that `state_dict` described; it goes on exactly as that one would.

        Raises
        ------
        FormatError
            Arrays are missing or do not fit, or they describe another kind of ranker.
        """
        try:
            settings = json.loads(bytes(np.asarray(arrays["settings"], np.uint8)).decode())
            if settings["kind"] != cls.__name__ or settings["format"] > FORMAT:
                raise FormatError(
                    f"expected a {cls.__name__} of format at most {FORMAT}; "
                    f"got {settings['kind']} of format {settings['format']}"
                )
            return cls._restored(settings, arrays)
        except FormatError:
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise FormatError(f"expected the state of a {cls.__name__}; got {error!r}") from None

    @classmethod
    def _restored(cls, settings: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        rng = _generator(settings.get("generator"))
        items = np.asarray(arrays["items"])
        ranker = cls(
            examination=arrays["examination"],
            prior_mean=arrays["prior_mean"],
            items=items if len(items) else None,
            seed=rng,
            **{name: settings[name] for name in (*_SETTINGS, *cls._own)},
        )
        for name in _STATE:
            mine, read = getattr(ranker, f"_{name}"), np.asarray(arrays[name])
            if mine.shape != read.shape or mine.dtype != read.dtype:
                raise ValueError(f"{name} has shape {read.shape}, expected {mine.shape}")
            if not np.isfinite(read).all():
                raise ValueError(f"{name} is not finite")
            setattr(ranker, f"_{name}", np.ascontiguousarray(read).copy())
        ranker._pending = unpack("pending", arrays)
        ranker._history = deque(unpack("history", arrays))
        ranker.n_rounds = _check.whole("n_rounds", settings["n_rounds"], 0)
        return ranker

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to an ``.npz`` file; a failure leaves no file and no half of one."""
        with atomic_path(path) as partial, open(partial, "wb") as file:
            np.savez(file, **self.state_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a ranker that was saved.

        Raises
        ------
        FormatError
            Not such a file, or damaged.
        FileNotFoundError
            Nothing there.
        """
        return open_npz(
            path,
            "a saved ranker",
            lambda file: cls.from_state_dict({name: file[name] for name in file.files}),
        )


class LinUCBRanker(_Stored):
    """Upper confidence bounds on linear attraction, learned from clicks in slots.

    Slot l is looked at with probability q_l, and a look at an item with features x becomes a
    click with probability x.theta: ``E[click] = q_l x.theta``. The ranker regresses clicks on
    q_l x with a ridge penalty and shows the items with the highest
    ``x.theta + alpha sqrt(x' A^-1 x)``, the best where q is largest.

    Parameters
    ----------
    n_features, n_slots : int
    examination : array-like of float (n_slots,)
        q in (0, 1], in any order of the slots. q and theta are known up to a common factor only:
        with max q = 1, x.theta is the attraction in the best slot. Halving q acts as a larger
        alpha.
    alpha : float
        Width of the bounds; 0 is the greedy ranker.
    ridge : float
        Penalty lambda > 0 on the distance of theta from ``prior_mean``.
    prior_mean : array-like of float (n_features,), optional
        Zero by default.
    weighting : {0, 1, 2, "naive"}
        Weight q^-p of the squared errors. 0: least squares on q x. 1: variance proportional to q.
        2: clicks over q, unbiased but noisy. "naive": q = 1 in learning and ranking.
    forgetting : float
        Factor on what was known, once per round before its rows.
    keep_prior : bool
        Whether forgetting spares the prior. It costs a factorisation per round; without it,
        directions nobody looks at lose theirs.
    window : int, optional
        Learn from so many last rounds only.
    batch : int
        Rounds are learned so many at a time; the rankings in between do not see them.
    refresh : int
        Rank-one updates of the inverse between factorisations.
    n_items : int, optional
        Separate parameters for each of so many items and one context per round.
    items : array-like of float (K, n_features), optional
        Features of items that never change: widths are carried along instead of computed anew.
    ties : {"index", "random"}
        Whether equal scores are ordered by item index or by the seed.
    seed : int or numpy Generator, optional
        Needed for random ties.

    Notes
    -----
    ``A = lambda I + sum q^(2-p) x x'``, ``b = lambda theta0 + sum q^(1-p) click x``,
    ``theta = A^-1 b``; b and A are added up exactly as they come, and determine everything else.
    Lists differ with the batch, the state after it does not.

    References
    ----------
    Ermis, Ernst, Stein & Zappella, "Learning to Rank in the Position Based Model with Bandit
    Feedback", CIKM 2020 (arXiv 2004.13106). Li, Chu, Langford & Schapire, WWW 2010.
    """

    _own = ("alpha",)

    def __init__(
        self,
        n_features: int,
        n_slots: int,
        examination: ArrayLike,
        *,
        alpha: float = 1.0,
        **settings: Any,
    ) -> None:
        self.alpha = _check.real("alpha", alpha, 0.0)
        super().__init__(n_features, n_slots, examination, **settings)

    def rank(self, X: ArrayLike | None = None) -> np.ndarray:
        """Choose a list.

        Parameters
        ----------
        X : array-like of float
            Features (K, d) of the candidates, K at least n_slots; the context (d,) with separate
            models; nothing with fixed items.

        Returns
        -------
        numpy.ndarray of int64 (n_slots,)
            Item in each slot.

        Raises
        ------
        ValueError, TypeError
            Wrong shape, or features that are not finite.
        """
        features = self._candidates(X)
        if not self._warned and self.n_rounds == 0:
            self._warn_of_norms(features)
        if features is None:
            key = self._keys(self._score.size)
            return _kernels.rank_moments(
                self._mean, self._variance, self.alpha, key, self._slot_order, self._score
            )
        if self.n_items is not None:
            key = self._keys(self.n_items)
            return _kernels.rank_disjoint(
                features, self._state, self._theta, self.alpha, NOTHING, key, self._slot_order,
                self._score,
            )  # fmt: skip
        score, key = self._room(len(features)), self._keys(len(features))
        return _kernels.rank_rows(
            features, self._state, self._theta, self.alpha, key, self._slot_order, score
        )

    def scores(self, X: ArrayLike | None = None) -> np.ndarray:
        """Upper bounds (K,) of the candidates; arguments as for `rank`."""
        self.rank(X)
        return self._score.copy()


class LinTSRanker(_Stored):
    """Thompson sampling of linear attraction, learned from clicks in slots.

    As `LinUCBRanker`, but the items are ranked by x.theta' with ``theta' ~ N(theta, v^2 A^-1)``:
    one draw a round for all items and slots, or one per item where items have separate models.

    Parameters
    ----------
    n_features, n_slots, examination
        As for `LinUCBRanker`.
    scale : float
        Standard deviation v of the draw, in units of the posterior's.
    seed : int or numpy Generator
        Of the draws; a Generator is used, and advanced, as it is.
    **settings
        Other settings of `LinUCBRanker`.

    References
    ----------
    As for `LinUCBRanker`; Agrawal & Goyal, ICML 2013.
    """

    _own = ("scale",)
    samples = True

    def __init__(
        self,
        n_features: int,
        n_slots: int,
        examination: ArrayLike,
        *,
        scale: float = 1.0,
        seed: int | np.random.Generator,
        **settings: Any,
    ) -> None:
        self.scale = _check.real("scale", scale, 0.0)
        super().__init__(n_features, n_slots, examination, seed=seed, **settings)

    def _spread(self) -> float:
        return self.scale**2

    def rank(self, X: ArrayLike | None = None, *, z: ArrayLike | None = None) -> np.ndarray:
        """Choose a list by one draw of the parameters.

        Parameters
        ----------
        X : array-like of float
            As for `LinUCBRanker.rank`.
        z : array-like of float, optional
            The standard normal numbers to use: (d,) in the coordinates of the Cholesky factor of
            A, or (K,) with separate models. By default they come from the ranker's generator.

        Returns
        -------
        numpy.ndarray of int64 (n_slots,)
            Item in each slot.
        """
        features = self._candidates(X)
        size = self.n_features if self.n_items is None else self.n_items
        if z is None:
            normal = self._rng.standard_normal(size)
        else:
            normal = _check.usable("z", _check.floats("z", z, 1))
            if normal.size != size:
                raise ValueError(f"z must have {size} entries; got {normal.size}")
        if self.n_items is not None:
            return _kernels.rank_disjoint(
                features, self._state, self._theta, self.scale, normal, self._keys(size),
                self._slot_order, self._score,
            )  # fmt: skip
        fixed = features is None
        n_items = self._score.size if fixed else len(features)
        return _kernels.rank_sampled(
            self._columns if fixed else features, fixed, self._state, self._theta, self.scale,
            normal, self._keys(n_items), self._slot_order, self._room(n_items),
        )  # fmt: skip

    def scores(self, X: ArrayLike | None = None, *, z: ArrayLike | None = None) -> np.ndarray:
        """Sampled attraction (K,) of the candidates; arguments as for `rank`. Takes a draw."""
        self.rank(X, z=z)
        return self._score.copy()


def _plain(state: Any) -> Any:
    """A generator's state without arrays."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    return state.tolist() if isinstance(state, (np.ndarray, np.generic)) else state


def _generator(state: dict[str, Any] | None) -> np.random.Generator | None:
    """A generator that goes on from a stored state."""
    if state is None:
        return None
    kind = state["bit_generator"]
    if kind not in ("PCG64", "PCG64DXSM"):
        raise ValueError(f"generator {kind} cannot be restored; use PCG64")
    from numpy.random import PCG64, PCG64DXSM, Generator

    bits = {"PCG64": PCG64, "PCG64DXSM": PCG64DXSM}[kind](0)
    bits.state = state
    return Generator(bits)
