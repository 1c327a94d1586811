"""The estimators: pruning with feedback, probabilistic pruning, and what they must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cascadenet.sparse.pruning import _check
from cascadenet.sparse.pruning.base import Estimator
from cascadenet.sparse.pruning.dpf import Feedback, Reallocation
from cascadenet.sparse.pruning.dpp import GRANULARITIES, QUANTISATIONS, Probabilistic
from cascadenet.sparse.pruning.masks import SCOPES, STRUCTURES
from cascadenet.sparse.pruning.methods import Gradual, Magnitude, Method, Random, Saliency
from cascadenet.sparse.pruning.sampling import confidence, diversity

MAGNITUDE_METHODS = ("one-shot", "gradual", "random", "dense")


class _Classifier:
    """Classes as the target; predictions from a softmax."""

    _estimator_type = "classifier"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(),
        )

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of ``classes_``: (n, K), of the training's dtype."""
        return self._output(X)

    def predict(self, X: Any) -> np.ndarray:
        """Most probable classes, (n,)."""
        best = self._output(X).argmax(axis=1)
        return self.classes_[best]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of samples predicted right."""
        right = self.predict(X) == np.asarray(y).reshape(-1)
        return float(np.average(right, weights=sample_weight))

    def _validated_target(self, y: Any, n: int) -> np.ndarray:
        return _check.labels(y, n)

    def _start_target(self, y: np.ndarray, weight: np.ndarray | None, classes: Any) -> int:
        self.classes_ = np.unique(y if classes is None else np.asarray(classes))
        if self.classes_.size < 2:
            raise ValueError(f"y must have at least 2 classes; got 1 class, {self.classes_[0]!r}")
        return self.classes_.size

    def _encode(self, y: np.ndarray) -> np.ndarray:
        place = np.minimum(np.searchsorted(self.classes_, y), self.classes_.size - 1)
        unknown = self.classes_[place] != y
        if unknown.any():
            raise ValueError(f"y must be among classes_, {self.classes_}; got {y[unknown][0]!r}")
        return place

    def _needs_classes(self, classes: Any) -> None:
        if classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit")


class _Regressor:
    """Real numbers as the target, one or several; squared loss."""

    _estimator_type = "regressor"
    _loss = "squared"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags

        return Tags(
            estimator_type="regressor",
            target_tags=TargetTags(required=True, multi_output=True, single_output=True),
            regressor_tags=RegressorTags(),
            input_tags=InputTags(),
        )

    def predict(self, X: Any) -> np.ndarray:
        """Predicted targets, (n,) or (n, K), of the training's dtype."""
        out = self._output(X)
        return out[:, 0] if self._flat else out

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Coefficient of determination R², its mean over targets."""
        y = _check.targets(y, len(X)).reshape(len(X), -1)
        error = np.square(y - self._output(X))
        centre = np.average(y, axis=0, weights=sample_weight)
        spread = np.average(np.square(y - centre), axis=0, weights=sample_weight)
        error = np.average(error, axis=0, weights=sample_weight)
        some = spread > 0
        ratio = np.divide(error, spread, out=(error > 0).astype(np.float64), where=some)
        return float(np.mean(1 - ratio))

    def _validated_target(self, y: Any, n: int) -> np.ndarray:
        return _check.targets(y, n)

    def _start_target(self, y: np.ndarray, weight: np.ndarray | None, classes: Any) -> int:
        self._flat = y.ndim == 1
        y = y.reshape(y.shape[0], -1)
        self._target_mean = np.zeros(y.shape[1])
        if self.fit_intercept:
            self._target_mean = np.average(y, axis=0, weights=weight)
        square = np.average(np.square(y - self._target_mean), axis=0, weights=weight)
        if getattr(self, "quantisation", "float") != "float":
            square[:] = square.mean()  # one scale for the layer
        self._target_scale = np.sqrt(square)
        self._target_scale[self._target_scale == 0] = 1.0
        return y.shape[1]

    def _encode(self, y: np.ndarray) -> np.ndarray:
        y = y.reshape(y.shape[0], -1)
        if y.shape[1] != self._target_mean.size:
            raise ValueError(f"y must have {self._target_mean.size} targets; got {y.shape[1]}")
        return ((y - self._target_mean) / self._target_scale).astype(self.dtype)

    def _fold_target(self, values: np.ndarray, scales: list[float | None]) -> None:
        last = len(self._network.layers) - 1
        weight = self._network.slot("weight", last).of(values)
        weight *= self._target_scale[:, None].astype(weight.dtype)
        bias = self._network.slot("bias", last).of(values)
        bias[:] = bias * self._target_scale + self._target_mean
        if scales and scales[-1] is not None:
            scales[-1] *= float(self._target_scale[0])


@dataclass(eq=False, repr=False, kw_only=True)
class _Selecting(Estimator):
    """Methods that rank weights: what they share.

    Parameters
    ----------
    sparsity : float
        Share of the weights to remove, exact to one weight.
    scope : str
        "global": one ranking over all layers. "layerwise": the same share of each.
    structure : str
        "weight", or "unit": whole neurons and filters; the sparsity is then of units.
    prune_last : bool
        Whether the last layer may lose weights.
    least_share : float
        A layer keeps at least this share of what it would keep if all had the same density.
    """

    sparsity: float = 0.9
    scope: str = "global"
    structure: str = "weight"
    prune_last: bool = True
    least_share: float = 0.1

    def _check_method(self) -> None:
        _check.real("sparsity", self.sparsity, 0.0, 1.0, open_high=True)
        _check.chosen("scope", self.scope, SCOPES)
        _check.chosen("structure", self.structure, STRUCTURES)
        _check.real("least_share", self.least_share, 0.0, 1.0)
        if self.solver == "exact" and (self.structure != "weight" or not self.prune_last):
            raise ValueError("solver='exact' needs structure='weight' and prune_last=True")

    def _prunable(self) -> dict[str, Any]:
        names = ("scope", "structure", "prune_last", "least_share")
        return {name: getattr(self, name) for name in names}


@dataclass(eq=False, repr=False, kw_only=True)
class _DPF(_Selecting):
    """Parameters of dynamic pruning with feedback."""

    period: int = 16
    ramp: float | tuple[float, float] = 0.7
    reallocate_after_ramp: bool = True
    freeze_at: float = 1.0
    feedback: float = 0.3

    def _check_method(self) -> None:
        super()._check_method()
        _check.whole("period", self.period, 1)
        _check.share_pair("ramp", self.ramp)
        _check.real("freeze_at", self.freeze_at, 0.0, 1.0)
        _check.real("feedback", self.feedback, 0.0, 1.0)

    def _method(self) -> Method:
        return Feedback(
            self.sparsity, period=self.period, ramp=_check.share_pair("ramp", self.ramp),
            reallocate_after_ramp=self.reallocate_after_ramp, freeze_at=self.freeze_at,
            feedback=self.feedback, **self._prunable(),
        )  # fmt: skip

    def _finish(self) -> None:
        super()._finish()
        if isinstance(self.method_, Feedback):
            self.reallocations_: list[Reallocation] = list(self.method_.history)
            self.pruning_error_ = np.array([row.pruning_error for row in self.reallocations_])
            self.delta_ = np.array([row.delta for row in self.reallocations_])
            self.flips_ = [
                slot.of(self.method_.flips).copy() for slot in self._network.weight_slots
            ]


class DPFClassifier(_Classifier, _DPF):
    """Classifier trained by dynamic pruning with feedback (DPF).

    Parameters
    ----------
    sparsity, scope, structure, prune_last, least_share
        What to remove: see `MagnitudePruningClassifier`.
    period : int
        Steps between re-allocations of the mask; fewer where the ramp is short.
    ramp : float or (float, float)
        Share of the training until which the sparsity rises (from the beginning, or from another
        share), as a cubic.
    reallocate_after_ramp : bool
        Whether the mask goes on changing when the sparsity is reached.
    freeze_at : float
        Share of the training from which the mask stays.
    feedback : float
        Share of their gradient that removed weights receive. The published method has 1, where
        nothing but weight decay bounds them; 0.3 is as good at moderate sparsities, better at high
        ones, and does not diverge at high learning rates.
    **options
        Of `Estimator`.

    Attributes
    ----------
    layers_ : list of LayerSpec
        The finished model.
    nnz_, sparsity_ : int, float
        Weights kept, and share removed.
    history_ : list of Epoch
    reallocations_ : list of Reallocation
        What every re-allocation did.
    pruning_error_, delta_ : numpy.ndarray
        Their ``||w - w̃||²``, and the same over ``||w||²``.
    flips_ : list of numpy.ndarray of int64
        For every layer, how often the mask of each weight has changed.

    References
    ----------
    Lin et al., "Dynamic Model Pruning with Feedback", ICLR 2020 (arXiv 2006.07253).
    """


class DPFRegressor(_Regressor, _DPF):
    """Regressor trained by dynamic pruning with feedback; see `DPFClassifier`.

    Notes
    -----
    With ``hidden_layer_sizes=()`` this is sparse least squares with ridge ``weight_decay``.
    ``solver="exact"`` takes the dense solution and its largest coefficients, and with
    ``finetune_epochs`` above 0 refits those.
    """


@dataclass(eq=False, repr=False, kw_only=True)
class _DPP(Estimator):
    """Parameters of dynamic probabilistic pruning."""

    sparsity: float = 0.9
    granularity: str = "weight"
    k: tuple[int, ...] | None = None
    tiles: int = 1
    share_groups: int = 1
    noise_scale: float | tuple[float, float] = 0.1
    temperature: float | tuple[float, float] = (5.0, 0.5)
    entropy: float = 5e-5
    logit_rate: float | None = None
    quantisation: str = "float"
    freeze_at: float = 1.0

    _learned_mask = True

    def _check_method(self) -> None:
        _check.real("sparsity", self.sparsity, 0.0, 1.0, open_high=True)
        _check.chosen("granularity", self.granularity, GRANULARITIES)
        _check.chosen("quantisation", self.quantisation, QUANTISATIONS)
        for name in ("tiles", "share_groups"):
            _check.whole(name, getattr(self, name), 1)
        for count in self.k or ():
            _check.whole("k", count, 1)
        _check.number_pair("noise_scale", self.noise_scale)
        _check.number_pair("temperature", self.temperature, open_low=True)
        _check.real("entropy", self.entropy)
        if self.logit_rate is not None:
            _check.real("logit_rate", self.logit_rate, open_low=True)
        _check.real("freeze_at", self.freeze_at, 0.0, 1.0)
        if self.quantisation != "float" and self.batch_norm:
            raise ValueError(
                "quantisation needs batch_norm=False: a normalisation that is folded in would "
                "give every unit a scale of its own"
            )
        if self.quantisation != "float" and self.solver == "exact":
            raise ValueError("solver='exact' needs quantisation='float'")

    def _method(self) -> Method:
        return Probabilistic(
            self.sparsity, granularity=self.granularity, k=self.k, tiles=self.tiles,
            share_groups=self.share_groups,
            noise_scale=_check.number_pair("noise_scale", self.noise_scale),
            temperature=_check.number_pair("temperature", self.temperature),
            entropy=self.entropy, logit_rate=self.logit_rate, quantisation=self.quantisation,
            freeze_at=self.freeze_at,
        )  # fmt: skip

    def _finish(self) -> None:
        super()._finish()
        if isinstance(self.method_, Probabilistic):
            self.logits_ = self.method_.layer_logits()
            pairs = list(zip(self.logits_, self.method_.draws, strict=True))
            self.confidence_ = np.array([confidence(z).mean() for z, _ in pairs])
            self.diversity_ = np.array([diversity(z) for z, _ in pairs])
            self.k_ = tuple(draw.k for _, draw in pairs)


class DPPClassifier(_Classifier, _DPP):
    """Classifier trained by dynamic probabilistic pruning (DPP): exactly k of n, where it learns.

    Parameters
    ----------
    sparsity : float
        Reached as nearly as whole ks allow; layers with few weights keep more of them.
    granularity : str
        "weight": k inputs for every neuron, k weights for every filter. "kernel": k input
        channels for every filter. "element": k elements of every kernel. "filter": k units of
        every layer but the last.
    k : tuple of int, optional
        One per layer, in place of ``sparsity``.
    tiles : int
        Inputs are cut in so many tiles, each with k of its own.
    share_groups : int
        So many consecutive units share their choice.
    noise_scale, temperature : float or (float, float)
        Of the draws; two numbers are a linear schedule.
    entropy : float
        Weight in the loss of the entropy of the choices.
    logit_rate : float, optional
        Learning rate of the choices, by Adam; by default 20 over the number of steps.
    quantisation : str
        Of the weights, in training and after: "float", "int8" or "binary".
    freeze_at : float
        Share of the training from which the mask stays, for fine-tuning.
    **options
        Of `Estimator`.

    Attributes
    ----------
    layers_, nnz_, sparsity_, history_
        See `DPFClassifier`.
    k_ : tuple of int
    logits_ : list of numpy.ndarray, shape (rows, n)
        Unnormalised log-probabilities, a row for every draw of a layer.
    confidence_, diversity_ : numpy.ndarray, shape (layers,)
        Whether rows have decided, and whether they decided differently: see
        `cascadenet.sparse.pruning.sampling`. Both in 0..1.

    References
    ----------
    Gonzalez-Carabarin et al., "Dynamic Probabilistic Pruning", IEEE TNNLS 2024 (arXiv 2105.12686).
    """


class DPPRegressor(_Regressor, _DPP):
    """Regressor trained by dynamic probabilistic pruning; see `DPPClassifier`.

    Notes
    -----
    With ``hidden_layer_sizes=()`` this is least squares on k learned features. With
    ``solver="exact"`` the features are learned by training and their coefficients refitted in
    closed form.
    """


@dataclass(eq=False, repr=False, kw_only=True)
class _Magnitude(_Selecting):
    """Parameters of magnitude pruning."""

    method: str = "gradual"
    period: int = 16
    ramp: float | tuple[float, float] = 0.6

    def _check_method(self) -> None:
        super()._check_method()
        _check.chosen("method", self.method, MAGNITUDE_METHODS)
        _check.whole("period", self.period, 1)
        _check.share_pair("ramp", self.ramp)
        if self.solver == "exact" and self.method in ("random", "dense") and self.sparsity:
            raise ValueError(f"solver='exact' with method={self.method!r} needs sparsity=0")

    def _method(self) -> Method:
        if self.method == "one-shot":
            return Magnitude(self.sparsity, **self._prunable())
        if self.method == "random":
            return Random(self.sparsity, **{**self._prunable(), "scope": "layerwise"})
        if self.method == "dense":
            return Method()
        ramp = _check.share_pair("ramp", self.ramp)
        return Gradual(self.sparsity, period=self.period, ramp=ramp, **self._prunable())


class MagnitudePruningClassifier(_Classifier, _Magnitude):
    """Classifier pruned by the size of its weights, and the plainest baselines.

    Parameters
    ----------
    sparsity : float
        Share of the weights to remove, exact to one weight.
    scope : str
        "global": one ranking over all layers. "layerwise": the same share of each.
    structure : str
        "weight", or "unit": whole neurons and filters, with their biases; the sparsity is then
        of units, and the last layer stays.
    prune_last : bool
        Whether the last layer may lose weights.
    least_share : float
        A layer keeps at least this share of what it would keep if all had the same density.
    method : str
        "gradual": during the training, for good. "one-shot": after it, to be followed by
        ``finetune_epochs``. "random": a layer-wise random mask before it. "dense": nothing is
        removed.
    period, ramp
        Of "gradual": see `DPFClassifier`.
    **options
        Of `Estimator`.

    References
    ----------
    Zhu & Gupta, "To prune, or not to prune", 2017.
    """


class MagnitudePruningRegressor(_Regressor, _Magnitude):
    """Regressor pruned by the size of its weights; see `MagnitudePruningClassifier`."""


@dataclass(eq=False, repr=False, kw_only=True)
class _SNIP(_Selecting):
    """Parameters of pruning at initialisation."""

    saliency_samples: int = 1280

    def _check_method(self) -> None:
        super()._check_method()
        _check.whole("saliency_samples", self.saliency_samples, 1)
        if self.solver == "exact":
            raise ValueError("solver must be 'sgd': this method prunes before it trains")

    def _method(self) -> Method:
        return Saliency(self.sparsity, samples=self.saliency_samples, **self._prunable())


class SNIPClassifier(_Classifier, _SNIP):
    """Classifier pruned before training, by what its loss would change (SNIP).

    Parameters
    ----------
    saliency_samples : int
        Training samples the saliencies are taken on.
    sparsity, scope, structure, prune_last, least_share
        See `MagnitudePruningClassifier`.
    **options
        Of `Estimator`.

    References
    ----------
    Lee, Ajanthan & Torr, "SNIP", ICLR 2019.
    """
