"""What another ranker would have earned, from the log of this one.

Every estimator takes arrays of probabilities, so policies may depend on context; `evaluate` does
all that apply for two `ListPolicy` objects. Rounds T, slots L, items K.

==================  ==========================================================================
sips                ratio of list probabilities: always unbiased, noisy
iips                ratio per item and slot: unbiased when a click depends on its own slot only
rips                ratio of list prefixes: unbiased when it depends on the slots above too
pseudo_inverse      linear in (item, slot) indicators: unbiased when the value is additive
pbm_ips             ratio of expected examination: position-based model with known examination
direct_method       a model of clicks, as good as the model
iips_dr             that model, corrected by iips
cascade_dr          a model given the slots above, corrected by rips
==================  ==========================================================================

References
----------
Swaminathan et al., "Off-Policy Evaluation for Slate Recommendation", NIPS 2017; McInerney et al.,
"Counterfactual Evaluation of Slate Recommendations with Sequential Reward Interactions", KDD 2020;
Kiyohara et al., "Doubly Robust Off-Policy Evaluation for Ranking Policies under the Cascade
Behavior Model", WSDM 2022; Li et al., "Offline Evaluation of Ranking Policies with Click Models",
KDD 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from cascadenet.sparse.bandits import _check
from cascadenet.sparse.bandits.policies import ListPolicy, deterministic, plackett_luce

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Estimate", "ListPolicy", "cascade_dr", "deterministic", "direct_method", "evaluate", "iips",
    "iips_dr", "logging_average", "pbm_ips", "plackett_luce", "pseudo_inverse",
    "pseudo_inverse_weights", "rips", "sips",
]  # fmt: skip
SUPPORT = 1e-9  # part of the target's value that may fall outside the span of the log


@dataclass(frozen=True)
class Estimate:
    """Estimated clicks per round, with a normal confidence interval.

    ``effective_rounds`` is (sum w)^2 / sum w^2 of the weights, averaged over slots.
    """

    value: float
    standard_error: float
    low: float
    high: float
    n_rounds: int
    effective_rounds: float


def _estimate(
    value: float, influence: np.ndarray, level: float, weight: np.ndarray | None = None
) -> Estimate:
    from scipy.special import ndtri

    level = _check.real("level", level, 0.0, 1.0, open_low=True)
    if level == 1.0:
        raise ValueError("level must be below 1; got 1")
    n = influence.size
    error = float(influence.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    reach = float(ndtri(0.5 + 0.5 * level)) * error
    effective = float(n)
    if weight is not None:
        columns = weight.reshape(n, -1)
        squares = (columns * columns).sum(axis=0)
        sums = columns.sum(axis=0) ** 2
        effective = float(
            np.divide(sums, squares, where=squares > 0, out=np.zeros_like(sums)).mean()
        )
    value = float(value)
    return Estimate(value, error, value - reach, value + reach, n, effective)


def _clicks(clicks: ArrayLike) -> np.ndarray:
    array = _check.usable("clicks", _check.floats("clicks", clicks, 2))
    if array.size == 0:
        raise ValueError(f"clicks must have rounds and slots; got shape {array.shape}")
    return array


def _ratio(target: ArrayLike, logging: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Importance weights; what was shown must have had a chance to be."""
    above = _check.usable("target", _check.floats("target", target, len(shape)))
    below = _check.usable("logging", _check.floats("logging", logging, len(shape)))
    for name, array in (("target", above), ("logging", below)):
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}; got {array.shape}")
        if (array < 0).any() or (array > 1.0 + SUPPORT).any():
            raise ValueError(f"{name} must be probabilities; got {array.min()} to {array.max()}")
    if not (below > 0).all():
        raise ValueError("logging must be above 0 for what was shown; got 0")
    return above / below


def logging_average(clicks: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Clicks per round of the log itself; ``clicks`` (T, L)."""
    total = _clicks(clicks).sum(axis=1)
    return _estimate(total.mean(), total, level)


def sips(
    clicks: ArrayLike,
    target: ArrayLike,
    logging: ArrayLike,
    *,
    self_normalised: bool = False,
    level: float = 0.95,
) -> Estimate:
    """Importance sampling of whole lists.

    Parameters
    ----------
    clicks : array-like of float (T, L)
    target, logging : array-like of float (T,)
        Probability of the list that was shown, under either policy.
    self_normalised : bool
        Divide by the mean weight: a little bias, less variance, within the range of the clicks.
    level : float
        Of the confidence interval.

    Returns
    -------
    Estimate
        The error of a self-normalised estimate is that of its linearisation.
    """
    total = _clicks(clicks).sum(axis=1)
    weight = _ratio(target, logging, total.shape)
    if not self_normalised:
        return _estimate((weight * total).mean(), weight * total, level, weight)
    return _self_normalised(weight[:, None], total[:, None], level)


def iips(
    clicks: ArrayLike,
    target: ArrayLike,
    logging: ArrayLike,
    *,
    self_normalised: bool = False,
    level: float = 0.95,
) -> Estimate:
    """Importance sampling of every slot by itself.

    Parameters
    ----------
    clicks : array-like of float (T, L)
    target, logging : array-like of float (T, L)
        Probability of the item in its slot, under either policy.
    self_normalised : bool
        Divide by the mean weight of each slot.
    level : float

    Returns
    -------
    Estimate
    """
    value = _clicks(clicks)
    weight = _ratio(target, logging, value.shape)
    if self_normalised:
        return _self_normalised(weight, value, level)
    rounds = (weight * value).sum(axis=1)
    return _estimate(rounds.mean(), rounds, level, weight)


def rips(
    clicks: ArrayLike,
    target: ArrayLike,
    logging: ArrayLike,
    *,
    self_normalised: bool = False,
    level: float = 0.95,
) -> Estimate:
    """Importance sampling of the list down to every slot.

    As `iips`, with ``target`` and ``logging`` (T, L) the probabilities that a list begins with the
    items down to the slot.
    """
    return iips(clicks, target, logging, self_normalised=self_normalised, level=level)


def _self_normalised(weight: np.ndarray, value: np.ndarray, level: float) -> Estimate:
    """Per column, sum w c / sum w; the sum over columns with its linearised error."""
    mean = weight.mean(axis=0)
    if not (mean > 0).all():
        raise ValueError("target must be above 0 for some of what was shown in every slot")
    by_slot = (weight * value).mean(axis=0) / mean
    influence = (weight * (value - by_slot) / mean).sum(axis=1)
    return _estimate(by_slot.sum(), influence, level, weight)


def _marginals(name: str, value: ArrayLike, shape: tuple[int, int]) -> np.ndarray:
    """(T, K, L) probabilities of items in slots; one table stands for all rounds."""
    ndim = np.ndim(value)
    if ndim not in (2, 3):
        raise ValueError(f"{name} must have shape (K, L) or (T, K, L); got {np.shape(value)}")
    array = _check.usable(name, _check.floats(name, value, ndim))
    array = array if ndim == 3 else array[None]
    if array.shape[2] != shape[1] or array.shape[0] not in (1, shape[0]):
        raise ValueError(f"{name} does not fit {shape[0]} rounds of {shape[1]} slots")
    return array


def _lists(rankings: ArrayLike, shape: tuple[int, int], n_items: int) -> np.ndarray:
    array = np.asarray(rankings)
    if array.shape != shape:
        raise ValueError(f"rankings must have the shape of clicks {shape}; got {array.shape}")
    return _check.integers("rankings", array.reshape(-1), 0, n_items, None).reshape(shape)


def pbm_ips(
    clicks: ArrayLike,
    rankings: ArrayLike,
    examination: ArrayLike,
    target: ArrayLike,
    logging: ArrayLike,
    *,
    level: float = 0.95,
) -> Estimate:
    """Importance sampling of the examination an item gets, wherever it is shown.

    Parameters
    ----------
    clicks : array-like of float (T, L)
    rankings : array-like of int (T, L)
    examination : array-like of float (L,)
    target, logging : array-like of float (K, L) or (T, K, L)
        Probability of every item in every slot.
    level : float

    Returns
    -------
    Estimate
        Unbiased under the position-based model when every item the target shows had a chance to
        be seen.
    """
    value = _clicks(clicks)
    q = _check.examination(examination, value.shape[1])
    above = (_marginals("target", target, value.shape) * q).sum(axis=2)
    below = (_marginals("logging", logging, value.shape) * q).sum(axis=2)
    shown = _lists(rankings, value.shape, above.shape[1])
    above = np.broadcast_to(above, (len(value), above.shape[1]))
    below = np.broadcast_to(below, (len(value), below.shape[1]))
    if ((above > 0) & (below <= 0)).any():
        raise ValueError("logging must show every item that target shows")
    up, down = np.take_along_axis(above, shown, 1), np.take_along_axis(below, shown, 1)
    if not (down > 0).all():
        raise ValueError("logging must be above 0 for what was shown; got 0")
    weight = up / down
    rounds = (weight * value).sum(axis=1)
    return _estimate(rounds.mean(), rounds, level, weight)


def pseudo_inverse_weights(
    rankings: ArrayLike, target: ArrayLike, logging_pairs: ArrayLike
) -> np.ndarray:
    """Weights q' Gamma^+ 1_a of the pseudo-inverse estimator.

    Parameters
    ----------
    rankings : array-like of int (T, L)
    target : array-like of float (K, L)
        Probability of every item in every slot under the target.
    logging_pairs : array-like of float (K L, K L)
        `ListPolicy.pairs` of the logging policy.

    Returns
    -------
    numpy.ndarray of float64 (T,)

    Raises
    ------
    ValueError
        The target leaves what the logging policy can show.
    """
    wanted = _check.usable("target", _check.floats("target", target, 2))
    n_items, n_slots = wanted.shape
    gamma = _check.usable("logging_pairs", _check.floats("logging_pairs", logging_pairs, 2))
    if gamma.shape != (wanted.size, wanted.size):
        raise ValueError(f"logging_pairs must be square of size {wanted.size}; got {gamma.shape}")
    solution = np.linalg.pinv(gamma, rcond=1e-12, hermitian=True) @ wanted.reshape(-1)
    if np.abs(gamma @ solution - wanted.reshape(-1)).max() > SUPPORT:
        raise ValueError("target shows items in slots that logging cannot account for")
    shown = _lists(rankings, np.shape(rankings), n_items)
    return solution[shown * n_slots + np.arange(n_slots)].sum(axis=1)


def pseudo_inverse(clicks: ArrayLike, weights: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Pseudo-inverse estimator from `pseudo_inverse_weights` (T,) and ``clicks`` (T, L)."""
    total = _clicks(clicks).sum(axis=1)
    weight = _check.usable("weights", _check.floats("weights", weights, 1))
    if weight.shape != total.shape:
        raise ValueError(f"weights must have {total.size} entries; got {weight.size}")
    return _estimate((weight * total).mean(), weight * total, level, weight)


def direct_method(
    reward: ArrayLike, target: ArrayLike, n_rounds: int, *, level: float = 0.95
) -> Estimate:
    """Value of the target under a model of clicks.

    Parameters
    ----------
    reward : array-like of float (K, L) or (T, K, L)
        Modelled click of every item in every slot.
    target : array-like of float (K, L) or (T, K, L)
    n_rounds : int
        Rounds of the log.
    level : float

    Returns
    -------
    Estimate
        The error is that of averaging over contexts only, not that of the model.
    """
    n_rounds = _check.whole("n_rounds", n_rounds, 1)
    rounds = _modelled(reward, target, (n_rounds, np.shape(reward)[-1]))
    return _estimate(rounds.mean(), rounds, level)


def _modelled(reward: ArrayLike, target: ArrayLike, shape: tuple[int, int]) -> np.ndarray:
    """sum_l E[reward_l] under the target, (T,)."""
    model, policy = _marginals("reward", reward, shape), _marginals("target", target, shape)
    if model.shape[1] != policy.shape[1]:
        raise ValueError(f"reward has {model.shape[1]} items and target {policy.shape[1]}")
    return np.broadcast_to((model * policy).sum(axis=(1, 2)), shape[:1])


def _predicted(reward: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Modelled click of what was shown, (T, L)."""
    rounds = np.arange(len(shown))[:, None] if len(reward) > 1 else 0
    return reward[rounds, shown, np.arange(shown.shape[1])]


def iips_dr(
    clicks: ArrayLike,
    rankings: ArrayLike,
    reward: ArrayLike,
    target: ArrayLike,
    logging: ArrayLike,
    *,
    level: float = 0.95,
) -> Estimate:
    """Direct method corrected slot by slot: right when the model or `iips` is.

    Parameters
    ----------
    clicks : array-like of float (T, L)
    rankings : array-like of int (T, L)
    reward, target, logging : array-like of float (K, L) or (T, K, L)
        Modelled clicks, and probabilities of items in slots under either policy.
    level : float

    Returns
    -------
    Estimate
    """
    value = _clicks(clicks)
    model = _marginals("reward", reward, value.shape)
    above = _marginals("target", target, value.shape)
    below = _marginals("logging", logging, value.shape)
    shown = _lists(rankings, value.shape, model.shape[1])
    weight = _ratio(_predicted(above, shown), _predicted(below, shown), value.shape)
    correction = (weight * (value - _predicted(model, shown))).sum(axis=1)
    rounds = _modelled(reward, target, value.shape) + correction
    return _estimate(rounds.mean(), rounds, level, weight)


def cascade_dr(
    clicks: ArrayLike,
    predicted: ArrayLike,
    expected: ArrayLike,
    target: ArrayLike,
    logging: ArrayLike,
    *,
    level: float = 0.95,
) -> Estimate:
    """A model corrected prefix by prefix: right when the model or `rips` is.

    Parameters
    ----------
    clicks : array-like of float (T, L)
    predicted : array-like of float (T, L)
        Modelled click on what was shown.
    expected : array-like of float (T, L)
        The same expected under the target given the items above (`ListPolicy.expected_next`).
    target, logging : array-like of float (T, L)
        Probability of the list's beginning down to each slot.
    level : float

    Returns
    -------
    Estimate
    """
    value = _clicks(clicks)
    model = _check.usable("predicted", _check.floats("predicted", predicted, 2))
    ahead = _check.usable("expected", _check.floats("expected", expected, 2))
    if model.shape != value.shape or ahead.shape != value.shape:
        raise ValueError(f"predicted and expected must have the shape of clicks {value.shape}")
    weight = _ratio(target, logging, value.shape)
    before = np.hstack([np.ones((len(value), 1)), weight[:, :-1]])
    rounds = (weight * (value - model) + before * ahead).sum(axis=1)
    return _estimate(rounds.mean(), rounds, level, weight)


def evaluate(
    rankings: ArrayLike,
    clicks: ArrayLike,
    target: ListPolicy,
    logging: ListPolicy,
    *,
    examination: ArrayLike | None = None,
    reward: ArrayLike | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """All estimators that the arguments allow.

    Parameters
    ----------
    rankings : array-like of int (T, L)
    clicks : array-like of float (T, L)
    target, logging : ListPolicy
    examination : array-like of float (L,), optional
        For ``pbm_ips``.
    reward : array-like of float (K, L), optional
        Modelled clicks, for the direct method and the doubly robust estimators.
    level : float
        Of the confidence intervals.

    Returns
    -------
    pandas.DataFrame
        Columns estimator, value, standard_error, low, high, n_rounds, effective_rounds. An
        estimator whose support is missing from the log has nan.
    """
    import pandas as pd

    value = _clicks(clicks)
    if target.n_items != logging.n_items or target.n_slots != logging.n_slots:
        raise ValueError("target and logging must have the same items and slots")
    if value.shape[1] != logging.n_slots:
        raise ValueError(f"clicks must have {logging.n_slots} slots; got {value.shape[1]}")
    shown = _lists(rankings, value.shape, target.n_items)
    found = {"logging_average": logging_average(value, level=level)}
    found |= _ratio_estimates(value, shown, target, logging, level)
    above, below = target.marginals(), logging.marginals()
    if examination is not None:
        found["pbm_ips"] = _or_none(pbm_ips, value, shown, examination, above, below, level=level)
    if reward is not None:
        model = _check.usable("reward", _check.floats("reward", reward, 2))
        if model.shape != above.shape:
            raise ValueError(f"reward must have shape {above.shape}; got {model.shape}")
        found["direct_method"] = direct_method(model, above, len(value), level=level)
        if not ((above > 0) & (below <= 0)).any():
            found["iips_dr"] = iips_dr(value, shown, model, above, below, level=level)
        if _covers(target, logging):
            found["cascade_dr"] = cascade_dr(
                value, _predicted(model[None], shown), target.expected_next(shown, model),
                target.prefix_probability(shown), logging.prefix_probability(shown), level=level,
            )  # fmt: skip
    rows = [{"estimator": name} | (vars(e) if e else {}) for name, e in found.items()]
    columns = ["estimator", "value", "standard_error", "low", "high", "n_rounds"]
    return pd.DataFrame(rows, columns=[*columns, "effective_rounds"])


def _or_none(estimator: object, *arguments: object, **options: object) -> Estimate | None:
    try:
        return estimator(*arguments, **options)
    except ValueError as error:
        if "must show every item" in str(error) or "cannot account for" in str(error):
            return None
        raise


def _covers(target: ListPolicy, logging: ListPolicy) -> bool:
    """Whether every list of the target can occur in the log."""
    possible = target.lists[target.probabilities > 0]
    return bool((logging.list_probability(possible) > 0).all())


def _ratio_estimates(
    clicks: np.ndarray, shown: np.ndarray, target: ListPolicy, logging: ListPolicy, level: float
) -> dict[str, Estimate | None]:
    """Those that need nothing but the policies."""
    above, below = target.marginals(), logging.marginals()
    slots = np.arange(shown.shape[1])
    tables = {
        "sips": (sips, target.list_probability(shown), logging.list_probability(shown)),
        "iips": (iips, above[shown, slots], below[shown, slots]),
        "rips": (rips, target.prefix_probability(shown), logging.prefix_probability(shown)),
    }
    covered = dict.fromkeys(tables, _covers(target, logging))
    covered["iips"] = not ((above > 0) & (below <= 0)).any()
    found: dict[str, Estimate | None] = {}
    for name, (estimator, up, down) in tables.items():
        for prefix, normalised in (("", False), ("sn", True)):
            found[prefix + name] = None
            if covered[name] and not (normalised and _unseen(up)):
                found[prefix + name] = estimator(
                    clicks, up, down, self_normalised=normalised, level=level
                )

    def pi(level: float) -> Estimate:
        weights = pseudo_inverse_weights(shown, above, logging.pairs())
        return pseudo_inverse(clicks, weights, level=level)

    found["pseudo_inverse"] = _or_none(pi, level=level)
    return found


def _unseen(target: np.ndarray) -> bool:
    """Whether nothing in the log of some slot could come from the target."""
    return bool((target.reshape(len(target), -1).max(axis=0) == 0).any())
