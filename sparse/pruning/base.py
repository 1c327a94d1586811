"""What all estimators share: scikit-learn's contract, which does not need scikit-learn."""

from __future__ import annotations

import os
from dataclasses import MISSING, dataclass, fields
from typing import Any, Self

import numpy as np

from cascadenet.sparse.pruning import _check
from cascadenet.sparse.pruning.linear import least_squares
from cascadenet.sparse.pruning.masks import keep_largest, kept_count, without_dead_inputs
from cascadenet.sparse.pruning.methods import Fixed, Method
from cascadenet.sparse.pruning.network import Network
from cascadenet.sparse.pruning.optimisers import SGD, Adam
from cascadenet.sparse.pruning.schedules import RATES
from cascadenet.sparse.pruning.spec import LayerSpec
from cascadenet.sparse.pruning.training import Epoch, batch_bounds, train

ENDLESS = 1 << 60  # steps
STANDARDISATIONS = ("feature", "global", None)
Data = tuple[np.ndarray, np.ndarray, np.ndarray | None]


@dataclass(eq=False, repr=False, kw_only=True)
class Estimator:
    """A network that is pruned while it is trained; the base of the estimators.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int
        Widths of the dense hidden layers; () for a linear model.
    convolutions : tuple of (filters, kernel, stride, padding)
        Layers before them, for images.
    input_shape : (C, H, W), optional
        Of the images that are the rows of X; needed for convolutions.
    batch_norm : bool
        Whether every hidden layer normalises over the batch.
    fit_intercept : bool
        Whether layers have biases.
    optimiser : str
        "sgd" (Nesterov) or "adam".
    learning_rate : float
    schedule : str
        "cosine" to 0, "step" (times ``factor`` at each of ``milestones``, shares of the training),
        or "constant".
    warmup : float
        Share of the training over which the learning rate rises from 0.
    momentum : float
    weight_decay : float
        On the weights, dense ones where there are any; biases and normalisations are left alone.
        For a linear model of squared loss the ridge penalty, as in `cascadenet.sparse.theory`.
    epochs : int
        Passes over the data.
    batch_size : int or "auto"
        At most; "auto" is a fortieth of the samples, as a power of two in 16..128.
    clip_norm : float, optional
        Longest gradient.
    early_stopping : bool
        Whether to hold out ``validation_fraction`` of the data, stop after ``patience`` epochs
        without a better loss on them, and return to the best. Epochs at which the sparsity still
        rises do not count.
    finetune_epochs : int
        Further epochs under the final mask, at ``finetune_learning_rate`` falling to 0.
    standardise : str, optional
        Inputs are centred and scaled: "feature" each by itself, "global" all alike.
    solver : str
        "sgd", or "exact" for a linear model of squared loss: closed form, double precision.
    warm_start : bool
        Whether `fit` goes on from the dense weights and the mask of the last fit.
    dtype : str
        "float32" or "float64" for training.
    random_state : int, numpy.random.Generator or None
        The same one gives the same model, bit for bit, on the same machine and number of BLAS
        threads.
    verbose : bool
        Whether to show a progress bar with loss and sparsity.
    """

    hidden_layer_sizes: tuple[int, ...] = (300, 100)
    convolutions: tuple[tuple[int, int, int, int], ...] = ()
    input_shape: tuple[int, int, int] | None = None
    batch_norm: bool = False
    fit_intercept: bool = True
    optimiser: str = "sgd"
    learning_rate: float = 0.03
    schedule: str = "cosine"
    warmup: float = 0.0
    milestones: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    epochs: int = 30
    batch_size: int | str = "auto"
    clip_norm: float | None = None
    early_stopping: bool = False
    validation_fraction: float = 0.1
    patience: int = 10
    finetune_epochs: int = 0
    finetune_learning_rate: float = 0.01
    standardise: str | None = "feature"
    solver: str = "sgd"
    warm_start: bool = False
    dtype: str = "float32"
    random_state: Any = None
    verbose: bool = False

    _loss = "cross_entropy"  # no annotation: not a parameter

    # -- scikit-learn's contract

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def set_params(self, **params: Any) -> Self:
        """Change parameters; they take effect at the next fit."""
        known = {field.name for field in fields(self)}
        for name, value in params.items():
            if name not in known:
                raise ValueError(
                    f"Invalid parameter {name!r} for estimator {type(self).__name__}; "
                    f"expected one of {', '.join(sorted(known))}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        changed = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)
            if f.default is MISSING or repr(getattr(self, f.name)) != repr(f.default)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "layers_")

    # -- what subclasses say

    def _method(self) -> Method:
        raise NotImplementedError

    def _check_method(self) -> None:
        raise NotImplementedError

    def _validated_target(self, y: Any, n: int) -> np.ndarray:
        raise NotImplementedError

    def _start_target(self, y: np.ndarray, weight: np.ndarray | None, classes: Any) -> int:
        """Set what is learned about the target; return the number of outputs."""
        raise NotImplementedError

    def _encode(self, y: np.ndarray) -> np.ndarray:
        """Target as the network wants it."""
        raise NotImplementedError

    # -- fitting

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train and prune.

        Parameters
        ----------
        X : array_like, shape (n, p)
        y : array_like, shape (n,), or (n, K) targets
        sample_weight : array_like, shape (n,), optional

        Returns
        -------
        The estimator.

        Raises
        ------
        DivergenceError
            When training loses what it had learned.
        """
        self._check_parameters()
        again = self.warm_start and hasattr(self, "layers_")
        x, y, weight = self._validated(X, y, sample_weight, first=not again)
        streams = _check.generator(self.random_state).spawn(5)
        if not again:
            self._start(x, y, weight, None, streams[0])
        elif self._network.arguments() != self._arguments(self._network.n_out):
            raise ValueError(
                "warm_start needs the same network as before; got another hidden_layer_sizes, "
                "convolutions, input_shape, batch_norm, fit_intercept or dtype"
            )
        data = (self._standardised(x), self._encode(y), weight)
        before = self.method_.mask if again else None
        self.method_ = self._method()
        if before is not None and self.method_.name != "one-shot":
            self.method_.mask = before.copy()
        self.history_: list[Epoch] = []
        if self.solver == "exact":
            self._solve(data, streams)
        else:
            self._train(data, streams)
        self._steps = -1  # a later partial_fit goes on under the final mask
        self._finish()
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one more pass over X, at the constant ``learning_rate``.

        The sparsity rises over ``epochs`` calls as it would in `fit`; after a `fit` the mask
        stays.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array_like, optional
            All classes there can be; a classifier's first call needs it.

        Returns
        -------
        The estimator.
        """
        self._check_parameters()
        fresh = not hasattr(self, "layers_")
        x, y, weight = self._validated(X, y, sample_weight, first=fresh)
        if fresh:
            self._needs_classes(classes)
            streams = _check.generator(self.random_state).spawn(2)
            self._start(x, y, weight, classes, streams[0])
            self._begin(streams[1], self._method())
            self.history_ = []
        elif self._steps < 0:  # after a fit, or read from a file
            stream = _check.generator(self.random_state).spawn(6)[5]
            self._begin(stream, self.method_.tuning())
        data = (self._standardised(x), self._encode(y), weight)
        size = len(batch_bounds(x.shape[0], self._batch_size(x.shape[0]))) - 1
        if fresh:
            self._planned = size * self.epochs
        self.history_ += train(
            self._network, *data[:2], sample_weight=data[2], optimiser=self._optimiser, epochs=1,
            learning_rate=self.learning_rate, schedule="constant", method=self.method_,
            batch_size=self._batch_size(x.shape[0]), clip_norm=self.clip_norm,
            seed=self._stream.spawn(1)[0], first_step=self._steps, total_steps=self._planned,
        )  # fmt: skip
        self._steps += size
        self._finish()
        return self

    def _begin(self, stream: np.random.Generator, method: Method) -> None:
        """Set up a training that goes on call by call, without an end so far."""
        self._stream, self.method_, self._steps = stream, method, 0
        self._optimiser, self._planned = self._new_optimiser(), ENDLESS

    def _needs_classes(self, classes: Any) -> None:
        """Refuse a first `partial_fit` that does not know enough."""

    def _check_parameters(self) -> None:
        for name, low in (("epochs", 1), ("patience", 1), ("finetune_epochs", 0)):
            _check.whole(name, getattr(self, name), low)
        for size in self.hidden_layer_sizes:
            _check.whole("hidden_layer_sizes", size, 1)
        if self.batch_size != "auto":
            _check.whole("batch_size", self.batch_size, 1)
        _check.chosen("optimiser", self.optimiser, ("sgd", "adam"))
        _check.chosen("schedule", self.schedule, RATES)
        _check.chosen("standardise", self.standardise, STANDARDISATIONS)
        _check.chosen("dtype", self.dtype, ("float32", "float64"))
        _check.chosen("solver", self.solver, ("sgd", "exact"))
        for name in ("learning_rate", "finetune_learning_rate"):
            _check.real(name, getattr(self, name), open_low=True)
        for name in ("warmup", "factor"):
            _check.real(name, getattr(self, name), 0.0, 1.0)
        for share in self.milestones:
            _check.real("milestones", share, 0.0, 1.0)
        _check.real("momentum", self.momentum, 0.0, 1.0, open_high=True)
        _check.real("weight_decay", self.weight_decay)
        _check.real(
            "validation_fraction", self.validation_fraction, 0.0, 1.0, open_low=True, open_high=True
        )
        if self.clip_norm is not None:
            _check.real("clip_norm", self.clip_norm, open_low=True)
        if self.convolutions and self.input_shape is None:
            raise ValueError("input_shape must be (C, H, W) where there are convolutions")
        linear = not self.hidden_layer_sizes and not self.convolutions
        if self.solver == "exact" and not (linear and self._loss == "squared"):
            raise ValueError(
                "solver='exact' needs a linear model of squared loss: a regressor with "
                "hidden_layer_sizes=() and no convolutions"
            )
        self._check_method()

    def _validated(self, X: Any, y: Any, sample_weight: Any, *, first: bool) -> Data:
        if y is None:
            raise ValueError("y is required: requires y to be passed, but the target y is None")
        x = self._inputs(X, first=first)
        weight = _check.weights(sample_weight, x.shape[0])
        y = self._validated_target(y, x.shape[0])
        if weight is not None and (weight == 0).any():
            kept = weight > 0
            x, y, weight = x[kept], y[kept], weight[kept]
        if weight is not None:
            weight = (weight / weight.mean()).astype(self.dtype)
        return x, y, weight

    def _inputs(self, X: Any, *, first: bool) -> np.ndarray:
        """Rows of numbers; at first remember how many, and their names."""
        names = getattr(X, "columns", None)
        if names is not None and not all(isinstance(name, str) for name in names):
            names = None
        x = _check.inputs(X, np.dtype(self.dtype))
        if first:
            if self.input_shape is not None and int(np.prod(self.input_shape)) != x.shape[1]:
                raise ValueError(
                    f"input_shape {self.input_shape} must have as many numbers as X has columns, "
                    f"{x.shape[1]}"
                )
            self.n_features_in_ = x.shape[1]
            self.__dict__.pop("feature_names_in_", None)
            if names is not None:
                self.feature_names_in_ = np.asarray(names, dtype=object)
            return x
        if x.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {x.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        known = getattr(self, "feature_names_in_", None)
        if known is not None and names is not None and list(names) != known.tolist():
            raise ValueError("The feature names should match those that were passed during fit")
        return x

    def _start(
        self,
        x: np.ndarray,
        y: np.ndarray,
        weight: np.ndarray | None,
        classes: Any,
        rng: np.random.Generator,
    ) -> None:
        n_out = self._start_target(y, weight, classes)
        self.input_shape_ = tuple(self.input_shape or (x.shape[1],))
        self.input_mean_, self.input_scale_ = _moments(x, weight, self.standardise)
        self._network = Network(**self._arguments(n_out), seed=rng)

    def _arguments(self, n_out: int) -> dict[str, Any]:
        """What the network is made with."""
        return {
            "input_shape": tuple(self.input_shape or (self.n_features_in_,)),
            "hidden": tuple(self.hidden_layer_sizes),
            "n_out": n_out,
            "convolutions": tuple(map(tuple, self.convolutions)),
            "batch_norm": self.batch_norm,
            "loss": self._loss,
            "bias": self.fit_intercept,
            "dtype": self.dtype,
        }

    def _standardised(self, x: np.ndarray) -> np.ndarray:
        if self.input_mean_ is None:
            return np.ascontiguousarray(x, dtype=self.dtype)
        out = np.empty(x.shape, self._network.dtype)
        np.subtract(x, self.input_mean_, out=out, casting="same_kind")
        np.divide(out, self.input_scale_, out=out, casting="same_kind")
        return out

    def _batch_size(self, n: int) -> int:
        if self.batch_size != "auto":
            return self.batch_size
        return int(np.clip(2 ** round(np.log2(max(n / 40, 1))), 16, 128))

    def _new_optimiser(self) -> SGD | Adam:
        if self.optimiser == "adam":
            return Adam(weight_decay=self.weight_decay)
        return SGD(self.momentum, self.momentum > 0, self.weight_decay)

    def _train(self, data: Data, streams: list[np.random.Generator]) -> None:
        data, held_out = self._split(data, streams[1])
        batch = self._batch_size(data[0].shape[0])
        self._optimiser = self._new_optimiser()
        shared = {
            "sample_weight": data[2], "batch_size": batch, "clip_norm": self.clip_norm,
            "verbose": self.verbose, "validation": held_out,
            "patience": self.patience if self.early_stopping else None,
        }  # fmt: skip
        self.history_ = train(
            self._network, *data[:2], optimiser=self._optimiser, epochs=self.epochs,
            learning_rate=self.learning_rate, schedule=self.schedule, warmup=self.warmup,
            milestones=self.milestones, factor=self.factor, method=self.method_,
            seed=streams[2], **shared,
        )  # fmt: skip
        if self.finetune_epochs:
            self.history_ += train(
                self._network, *data[:2], optimiser=self._new_optimiser(),
                epochs=self.finetune_epochs, learning_rate=self.finetune_learning_rate,
                method=self.method_.tuning(), seed=streams[3], **shared,
            )  # fmt: skip

    def _split(self, data: Data, rng: np.random.Generator) -> tuple[Data, Data | None]:
        if not self.early_stopping:
            return data, None
        n = data[0].shape[0]
        count = max(round(self.validation_fraction * n), 1)
        if count >= n:
            raise ValueError(f"early_stopping needs at least 2 samples; got {n}")
        order = rng.permutation(n)
        held, used = np.sort(order[:count]), np.sort(order[count:])
        pick = [tuple(None if a is None else a[rows] for a in data) for rows in (used, held)]
        return pick[0], pick[1]

    def _solve(self, data: Data, streams: list[np.random.Generator]) -> None:
        """Dense closed form, magnitude mask, and a refit of what is left where it is wanted.

        Masks that only training can find (`_learned_mask`) are trained first, and refitted.
        """
        x, y, weight = data
        options = {"weight": weight, "intercept": self.fit_intercept}
        network, size = self._network, self._network.n_weights
        learned = self._learned_mask and (self.sparsity > 0 or self.k is not None)
        if learned:
            self._train(data, streams)
            self.method_.settle(last=True)
            kept = self.method_.mask[:size]
        else:
            value, shift = least_squares(x, y, self.weight_decay, **options)
            score = np.abs(value).reshape(-1)
            kept = keep_largest(score, kept_count(size, self.sparsity))
            self.method_ = Fixed(None)
        mask = np.ones(network.parameters.size, bool)
        mask[:size] = kept
        if learned or self.finetune_epochs:
            shape = network.weight_slots[0].shape
            value, shift = least_squares(
                x, y, self.weight_decay, mask=kept.reshape(shape), **options
            )
        network.parameters[:size] = value.reshape(-1)
        network.slot("bias", 0).of(network.parameters)[:] = shift
        self.method_ = Fixed(mask)
        self.method_.start(network, 0, data, streams[4])

    _learned_mask = False

    def _finish(self) -> None:
        """Fitted attributes."""
        values, mask = self.method_.final()
        network = self._network
        if getattr(self, "structure", None) == "unit":
            mask = without_dead_inputs(network, mask)
            values = np.where(mask, values, 0)
        scales = list(getattr(self.method_, "scales", []))
        self._fold_target(values, scales)
        self._values, self._mask = values, mask
        self.layers_: list[LayerSpec] = network.specs(values, mask[: network.n_weights], scales)
        self.nnz_ = sum(layer.nnz for layer in self.layers_)
        self.sparsity_ = 1 - self.nnz_ / network.n_weights
        self.loss_curve_ = np.array([epoch.loss for epoch in self.history_])

    def _fold_target(self, values: np.ndarray, scales: list[float | None]) -> None:
        """Let the last layer answer in the target's unit."""

    # -- prediction

    def _output(self, X: Any) -> np.ndarray:
        if not hasattr(self, "layers_"):
            raise _check.not_fitted(type(self).__name__)
        x = self._standardised(self._inputs(X, first=False))
        self._network.use(self._values)
        return self._network.predict(x)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to a file, without pickle; `load_model` reads it.

        Parameters
        ----------
        path : path
            Conventionally ``.npz``.
        """
        from cascadenet.sparse.pruning.storage import save_model

        save_model(self, path)


def _moments(
    x: np.ndarray, weight: np.ndarray | None, kind: str | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Means and standard deviations (p,) of the columns, or of everything."""
    if kind is None:
        return None, None
    w = np.full(x.shape[0], 1.0) if weight is None else weight.astype(np.float64)
    w /= w.sum()
    mean = np.zeros(x.shape[1])
    square = np.zeros(x.shape[1])
    blocks = [slice(start, start + 4096) for start in range(0, x.shape[0], 4096)]
    for rows in blocks:
        mean += w[rows] @ x[rows].astype(np.float64)
    centre = mean if kind == "feature" else np.full_like(mean, mean.mean())
    for rows in blocks:
        square += w[rows] @ np.square(x[rows].astype(np.float64) - centre)
    if kind == "global":
        square[:] = square.mean()
    scale = np.sqrt(square)
    rounding = 10 * np.finfo(x.dtype).eps * np.abs(centre)
    scale[scale <= rounding] = 1.0  # constant columns
    return centre, scale
