"""What LinUCB and LinTS share: weighted ridge regression of clicks on features, kept up to date."""

from __future__ import annotations

import warnings
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.bandits import _check, _kernels
from cascadenet.sparse.bandits.rounds import Round, joined

WEIGHTINGS = (0, 1, 2, "naive")
NORM_SPREAD = 1.5  # ratio of feature norms from which a cold start is decided by them
NOTHING = np.empty(0)

_MESSAGES = {
    _kernels.BAD_FEATURE: "features must be finite and below 1e+100",
    _kernels.BAD_CLICK: "clicks must be finite and below 1e+100",
    _kernels.BAD_ITEM: "items must be indices of items, or -1 for an empty slot",
    _kernels.TWICE: "items must be distinct within a list",
    _kernels.CLICK_ON_NOTHING: "clicks must be 0 in empty slots: that item was not shown",
}


def weights_of(examination: np.ndarray, weighting: int | str) -> tuple[np.ndarray, np.ndarray]:
    """Weights q^(2-p) of x x' and q^(1-p) of click times x; ones for the naive learner."""
    one = np.ones_like(examination)
    if weighting == 0:
        return examination * examination, examination.copy()
    if weighting == 1:
        return examination.copy(), one
    return one, 1.0 / examination if weighting == 2 else one.copy()


class LinearRanker:
    """State and learning of the linear rankers; see `LinUCBRanker` and `LinTSRanker`."""

    samples = False

    def __init__(
        self,
        n_features: int,
        n_slots: int,
        examination: ArrayLike,
        *,
        ridge: float = 1.0,
        prior_mean: ArrayLike | None = None,
        weighting: int | str = 0,
        forgetting: float = 1.0,
        keep_prior: bool = True,
        window: int | None = None,
        batch: int = 1,
        refresh: int = 10_000,
        n_items: int | None = None,
        items: ArrayLike | None = None,
        ties: str = "index",
        seed: int | np.random.Generator | None = None,
    ) -> None:
        self.n_features = _check.whole("n_features", n_features, 1)
        self.n_slots = _check.whole("n_slots", n_slots, 1)
        self.ridge = _check.real("ridge", ridge, 0.0, open_low=True)
        self.weighting = _check.chosen("weighting", weighting, WEIGHTINGS)
        self.forgetting = _check.real("forgetting", forgetting, 0.0, 1.0, open_low=True)
        self.keep_prior = bool(keep_prior)
        self.window = None if window is None else _check.whole("window", window, 1)
        self.batch = _check.whole("batch", batch, 1)
        self.refresh = _check.whole("refresh", refresh, 1)
        self.ties = _check.chosen("ties", ties, ("index", "random"))
        if self.window is not None and self.forgetting < 1.0:
            raise ValueError("window and forgetting are two ways to forget; choose one")
        self.n_items = None if n_items is None else self._enough("n_items", n_items)
        self._rng = self._generator(seed)
        self._set_prior(prior_mean)
        self._set_items(items)
        self.set_examination(examination)
        self.n_rounds = 0
        self._pending: list[Round] = []
        self._history: deque[Round] = deque()
        self._warned = False

    # -- construction -------------------------------------------------------------------------

    def _enough(self, name: str, count: Any) -> int:
        if _check.whole(name, count, 1) < self.n_slots:
            raise ValueError(f"{name} must be at least n_slots = {self.n_slots}; got {count}")
        return int(count)

    def _generator(self, seed: Any) -> np.random.Generator | None:
        if seed is None:
            if self.samples or self.ties == "random":
                raise ValueError("seed must be an integer or a numpy Generator here; got None")
            return None
        return _check.generator(seed)

    def _set_prior(self, prior_mean: ArrayLike | None) -> None:
        d, n = self.n_features, self.n_items or 1
        mean = np.zeros(d)
        if prior_mean is not None:
            mean = _check.usable("prior_mean", _check.floats("prior_mean", prior_mean, 1)).copy()
        if mean.size != d:
            raise ValueError(f"prior_mean must have {d} entries; got {mean.size}")
        self.prior_mean = mean
        upper = np.triu_indices(d)
        diagonal = (upper[0] == upper[1]).astype(np.float64)
        self._is_factor = self.samples and self.n_items is None
        start = np.sqrt(self.ridge) if self._is_factor else 1.0 / self.ridge
        self._gram = np.tile(self.ridge * diagonal, (n, 1))
        self._response = np.tile(self.ridge * mean, (n, 1))
        self._state = np.tile(start * diagonal, (n, 1))
        self._theta = np.tile(mean, (n, 1))
        self._since = np.zeros(n, np.int64)

    def _set_items(self, items: ArrayLike | None) -> None:
        """Fixed items: their features by rows and by columns, and their current moments."""
        self._items, self._columns = None, np.empty((self.n_features, 0))
        self._mean = self._variance = NOTHING
        self._score = np.empty(self.n_items or 0)
        if items is None:
            return
        if self.n_items is not None:
            raise ValueError("items share their parameters and n_items separates them; choose one")
        array = _check.usable("items", self._wide("items", items)).copy()
        self._enough("items: their number", len(array))
        self._items, self._columns = array, np.ascontiguousarray(array.T)
        self._score = np.empty(len(array))
        if not self.samples:
            self._mean, self._variance = np.empty(len(array)), np.empty(len(array))
            self._renew_moments()

    def _wide(self, name: str, value: Any) -> np.ndarray:
        array = _check.floats(name, value, 2)
        if array.shape[1] != self.n_features:
            raise ValueError(f"{name} must have {self.n_features} columns; got {array.shape[1]}")
        return array

    def set_examination(self, examination: ArrayLike) -> None:
        """Use other examination probabilities from now on.

        Parameters
        ----------
        examination : array-like of float (n_slots,)
            Probabilities in (0, 1] that a slot is looked at. Rounds that were learned keep the
            weights they were learned with.
        """
        self.examination = _check.examination(examination, self.n_slots)
        self._gram_weight, self._scale = weights_of(self.examination, self.weighting)
        seen = np.ones(self.n_slots) if self.weighting == "naive" else self.examination
        # the best item goes to the slot that is looked at most
        self._slot_order = np.argsort(-seen, kind="stable")
        self._slots = np.arange(self.n_slots)

    @property
    def items(self) -> np.ndarray | None:
        """Features (K, d) of the fixed items, or None; a copy."""
        return None if self._items is None else self._items.copy()

    # -- choosing -----------------------------------------------------------------------------

    def _candidates(self, features: ArrayLike | None) -> np.ndarray | None:
        """Features of the round: (K, d), a context (d,), or None for fixed items."""
        if self._items is not None:
            if features is not None:
                raise ValueError("X must be left out: the items were fixed at construction")
            return None
        if features is None:
            raise ValueError("X must be given: the features of this round")
        if self.n_items is not None:
            context = _check.usable("X", _check.floats("X", features, 1))
            if context.size != self.n_features:
                raise ValueError(f"X must have {self.n_features} entries; got {context.size}")
            return context
        array = self._wide("X", features)
        if len(array) < self.n_slots:
            raise ValueError(
                f"X must have at least n_slots = {self.n_slots} rows; got {len(array)}"
            )
        return _check.usable("X", array)

    def _keys(self, n_items: int) -> np.ndarray:
        return self._rng.random(n_items) if self.ties == "random" else NOTHING

    def _room(self, n_items: int) -> np.ndarray:
        if self._score.size != n_items:
            self._score = np.empty(n_items)
        return self._score

    def _warn_of_norms(self, features: np.ndarray | None) -> None:
        """An untrained LinUCB ranks by the length of the feature vectors: say so once."""
        self._warned = True
        features = self._items if features is None else features
        if features.ndim != 2:
            return
        norms = np.sqrt((features * features).sum(axis=1))
        if norms.max() >= NORM_SPREAD * norms.min():
            warnings.warn(
                f"feature vectors have lengths from {norms.min():.3g} to {norms.max():.3g}: the "
                "first lists show the longest; normalise the features if that is not meant",
                UserWarning,
                stacklevel=3,
            )

    # -- learning -----------------------------------------------------------------------------

    def update(
        self,
        shown: ArrayLike | None,
        clicks: ArrayLike,
        slots: ArrayLike | None = None,
        examination: ArrayLike | None = None,
        *,
        items: ArrayLike | None = None,
    ) -> None:
        """Learn from the clicks on a list.

        Parameters
        ----------
        shown : array-like of float
            Features (L, d) of what was shown, slot by slot; the context (d,) of a ranker with
            separate models; None with fixed items.
        clicks : array-like of float (L,)
            Clicks, 0 or 1, or other finite rewards.
        slots : array-like of int (L,), optional
            Slots of the rows, without repetition; all slots in order by default.
        examination : array-like of float (L,), optional
            Examination of the rows at the time they were shown; that of their slots by default.
        items : array-like of int (L,), optional
            Item of each row, needed with fixed items and with separate models; -1 marks a slot
            that was left empty.

        Raises
        ------
        ValueError, TypeError
            Wrong shapes, values that are not finite, an item twice, or a click where nothing was
            shown. The ranker is left as it was.
        FloatingPointError
            A direction without data lost its prior (``keep_prior=False``), or features are scaled
            so differently that the regression has no solution in floating point.
        """
        round_ = self._round(shown, clicks, slots, examination, items)
        if self.batch == 1:
            self._learn(round_)
            return
        self._pending.append(round_.owned())
        if len(self._pending) >= self.batch:
            self.flush()

    def flush(self) -> None:
        """Learn the rounds that wait for their batch to fill."""
        while self._pending:
            self._learn(self._pending[0])
            self._pending.pop(0)

    def _round(self, shown: Any, clicks: Any, slots: Any, examination: Any, items: Any) -> Round:
        clicks = _check.floats("clicks", clicks, 1)
        if slots is None and examination is None:
            slots, gram_weight, scale = self._slots, self._gram_weight, self._scale
        else:
            slots, gram_weight, scale = self._weighted(slots, examination)
        n_rows = slots.size
        if clicks.size != n_rows:
            raise ValueError(f"clicks must have {n_rows} entries, one a slot; got {clicks.size}")
        features, which, n_known = self._shown(shown, items, n_rows)
        code = _kernels.check_rows(features, which, clicks, n_known)
        if code != _kernels.OK:
            got = {_kernels.BAD_FEATURE: features, _kernels.BAD_CLICK: clicks}.get(code, which)
            raise ValueError(f"{_MESSAGES[code]}; got {got.tolist()}")
        if self.n_items is None:
            which = np.where(which < 0, -1, 0) if n_known else which
        return Round(features, which, slots, gram_weight, scale, scale * clicks)

    def _weighted(self, slots: Any, examination: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Slots and weights of rows that differ from the standing ones."""
        if slots is None:
            slots = self._slots
        else:
            slots = _check.integers("slots", slots, 0, self.n_slots, None)
            if slots.size == 0 or np.unique(slots).size != slots.size:
                raise ValueError(f"slots must be distinct and not empty; got {slots.tolist()}")
        if examination is None:
            return slots, self._gram_weight[slots], self._scale[slots]
        seen = _check.examination(examination, slots.size)
        return slots, *weights_of(seen, self.weighting)

    def _shown(self, shown: Any, items: Any, n_rows: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Features and item of every row, and how many items there are (0: unknown)."""
        fixed = self._items is not None
        if items is None:
            if self.n_items is not None or (fixed and shown is None):
                raise ValueError("items must be given: the index of the item in each slot")
            features = self._rows_of(shown, n_rows)
            return features, np.zeros(n_rows, np.int64), 0
        which = np.asarray(items)
        if which.dtype != np.int64:
            which = _check.integers("items", items, -1, None, None)
        if which.shape != (n_rows,):
            raise ValueError(f"items must have shape ({n_rows},); got {which.shape}")
        if self.n_items is not None:
            context = _check.floats("shown", shown, 1)
            if context.size != self.n_features:
                raise ValueError(f"shown must have {self.n_features} entries; got {context.size}")
            return context.reshape(1, -1), which, self.n_items
        if not fixed:
            return self._rows_of(shown, n_rows), which, np.iinfo(np.int64).max
        if shown is not None:
            raise ValueError("shown must be None when fixed items are named by items")
        return self._items.take(which, axis=0, mode="clip"), which, len(self._items)

    def _rows_of(self, shown: Any, n_rows: int) -> np.ndarray:
        features = self._wide("shown", shown)
        if len(features) != n_rows:
            raise ValueError(f"shown must have {n_rows} rows, one a slot; got {len(features)}")
        return features

    def _learn(self, round_: Round) -> None:
        if self.window is not None:
            code = self._learn_window(round_)
        elif self.forgetting < 1.0 and self.keep_prior:
            left = 1.0 - self.forgetting
            prior = (left * self.ridge, (left * self.ridge) * self.prior_mean)
            code = self._learn_exactly(round_, self._gram, self._response, prior)
        else:
            code = _kernels.learn(
                round_.features, round_.which, round_.gram_weight, round_.response,
                self._gram, self._response, self._state, self._theta, self._since,
                self.forgetting, self._is_factor, self.refresh,
                self._columns, self._mean, self._variance,
            )  # fmt: skip
        if code == _kernels.LOST:
            raise FloatingPointError(
                "a direction without data has lost its prior; use keep_prior=True"
            )
        if code == _kernels.SINGULAR:
            raise FloatingPointError(
                "the regression is singular in floating point: scale the features alike, or use a "
                "larger ridge"
            )
        self.n_rounds += 1

    def _learn_exactly(
        self,
        round_: Round,
        gram: np.ndarray,
        response: np.ndarray,
        prior: tuple[float, np.ndarray],
    ) -> int:
        code = _kernels.learn_exactly(
            round_.features, round_.which, round_.gram_weight, round_.response,
            gram, response, self._state, self._theta, self.forgetting, *prior, self._is_factor,
        )  # fmt: skip
        if code == _kernels.OK:
            self._renew_moments()
        return code

    def _learn_window(self, round_: Round) -> int:
        """Add a round and take out the one that leaves; from nothing once a window."""
        kept = [*self._history, round_.owned()]
        leaving = kept[: -self.window] if len(kept) > self.window else []
        kept = kept[len(leaving) :]
        no_decay = (0.0, self.prior_mean)
        if self.n_rounds % self.window == 0:
            rows = joined(kept, [1.0] * len(kept))
            gram, response = self._prior_arrays()
            code = self._learn_exactly(rows, gram, response, no_decay)
            if code == _kernels.OK:
                self._gram, self._response = gram, response
        else:
            rows = joined([*leaving, round_], [-1.0] * len(leaving) + [1.0])
            code = self._learn_exactly(rows, self._gram, self._response, no_decay)
        if code == _kernels.OK:
            self._history = deque(kept)
        return code

    def _prior_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        d, n = self.n_features, len(self._gram)
        upper = np.triu_indices(d)
        gram = np.tile(self.ridge * (upper[0] == upper[1]), (n, 1))
        return gram, np.tile(self.ridge * self.prior_mean, (n, 1))

    def _renew_moments(self) -> None:
        if self._mean.size:
            _kernels.moments_of_columns(
                self._columns, self._state[0], self._theta[0], self._mean, self._variance
            )

    def update_late_click(
        self,
        shown: ArrayLike | None,
        slot: int,
        click: float = 1.0,
        *,
        age: int = 0,
        item: int | None = None,
        examination: float | None = None,
    ) -> bool:
        """Add a click that arrived after its list had been learned as not clicked.

        The list counted in full when it was shown, so only the response changes. Give features
        and examination as they were then.

        Parameters
        ----------
        shown : array-like of float (d,)
            Features of the item, or the context with separate models; None with fixed items.
        slot : int
            Where the item was.
        click : float
            What to add to the click that was learned.
        age : int
            Rounds that were reported after the one clicked on; 0 for the last.
        item : int, optional
            The item, with fixed items and with separate models.
        examination : float, optional
            Examination of the slot at that time; the present one by default.

        Returns
        -------
        bool
            False when the round has already left the window.
        """
        age = _check.whole("age", age, 0)
        slot = _check.whole("slot", slot, 0)
        if age >= self.n_rounds + len(self._pending):
            raise ValueError(f"age must be below the number of rounds shown; got {age}")
        seen = None if examination is None else [examination]
        named = None if item is None else [item]
        features = shown
        if shown is not None and self.n_items is None:
            features = [shown]
        late = self._round(features, [click], [slot], seen, named)
        if late.which[0] < 0:
            raise ValueError(f"item must be an item; got {item}")
        if age < len(self._pending):
            self._pending[-1 - age] = _with_late(self._pending[-1 - age], late)
            return True
        age -= len(self._pending)
        decay = 1.0
        if self.window is not None:
            if age >= len(self._history):
                return False
            self._history[-1 - age] = _with_late(self._history[-1 - age], late)
        else:
            decay = self.forgetting**age
        model = late.which[0] if self.n_items is not None else 0
        self._response[model] += (decay * late.response[0]) * late.features[0]
        _kernels.solve_all(self._response, self._state, self._is_factor, self._theta)
        if self._mean.size:
            still = np.empty((0, self.n_features))
            _kernels.follow(
                self._columns, still, NOTHING, self._theta[0], self._mean, self._variance
            )
        return True


def _with_late(round_: Round, late: Round) -> Round:
    """The round with a click added to the row of the same slot, which must hold that item."""
    rows = np.flatnonzero(round_.slots == late.slots[0])
    if not rows.size or round_.which[rows[0]] != late.which[0]:
        raise ValueError(f"slot {late.slots[0]} did not show that item in that round")
    features = round_.rows()[rows[0]]
    if not np.array_equal(features, late.features[0]):
        raise ValueError("shown must be the features of that slot in that round")
    response = round_.response.copy()
    response[rows[0]] += late.response[0]
    return round_._replace(response=response)
