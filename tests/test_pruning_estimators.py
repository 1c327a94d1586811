"""The estimators: scikit-learn's contract, saving, going on, linear models against the theory."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from cascadenet.errors import FormatError
from cascadenet.sparse.pruning import (
    DPFClassifier,
    DPFRegressor,
    DPPClassifier,
    DPPRegressor,
    MagnitudePruningClassifier,
    MagnitudePruningRegressor,
    SNIPClassifier,
    load_model,
)
from cascadenet.sparse.pruning.linear import least_squares
from cascadenet.sparse.theory import Law, dense_risk, pruned_risk, retrained_risk, two_level
from cascadenet.sparse.theory.simulator import finite_problem, fit

CLASSIFIERS = (DPFClassifier, DPPClassifier, MagnitudePruningClassifier, SNIPClassifier)
REGRESSORS = (DPFRegressor, DPPRegressor, MagnitudePruningRegressor)
SMALL = {"hidden_layer_sizes": (16,), "epochs": 40, "sparsity": 0.5, "random_state": 0}


@pytest.fixture(scope="module")
def digits():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return x[order], y[order]


def problem(seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, 200)
    return rng.standard_normal((200, 6)) + 3 * np.eye(classes, 6)[y], y


# -------------------------------------------------------------------------------------- contract


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cls", CLASSIFIERS + REGRESSORS, ids=lambda cls: cls.__name__)
def test_scikit_learn_checks_pass(cls):
    """In double precision and one batch: in single, weights and repetitions differ by rounding."""
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    model = cls(**SMALL, dtype="float64", batch_size=128)
    results = checks.check_estimator(model, on_fail=None, on_skip=None)
    failed = [(r["check_name"], str(r["exception"])) for r in results if r["status"] == "failed"]
    assert failed == [] and len(results) > 50


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cls", [DPFClassifier], ids=lambda cls: cls.__name__)
def test_single_precision_fails_no_check_but_that_of_weights(cls):
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    results = checks.check_estimator(cls(**SMALL), on_fail=None, on_skip=None)
    failed = {r["check_name"] for r in results if r["status"] == "failed"}
    assert failed <= {"check_sample_weight_equivalence_on_dense_data"}


@pytest.mark.filterwarnings("ignore")
def test_it_works_in_grid_search_and_pipeline(digits):
    selection = pytest.importorskip("sklearn.model_selection")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = digits[0][:400], digits[1][:400]
    search = selection.GridSearchCV(
        make_pipeline(StandardScaler(), DPFClassifier(**SMALL)),
        {"dpfclassifier__sparsity": [0.3, 0.99]}, cv=2,
    ).fit(x, y)  # fmt: skip
    assert search.best_params_ == {"dpfclassifier__sparsity": 0.3}


def test_nothing_needs_scikit_learn():
    """Import, fit, predict and errors with scikit-learn hidden, in a process of its own."""
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import numpy as np\n"
        "from cascadenet.sparse.pruning import DPFClassifier\n"
        "x = np.random.default_rng(0).standard_normal((60, 4)); y = (x[:, 0] > 0).astype(int)\n"
        "m = DPFClassifier(hidden_layer_sizes=(8,), epochs=40, random_state=0)\n"
        "try: m.predict(x)\n"
        "except ValueError as error: assert 'not fitted' in str(error)\n"
        "assert m.fit(x, y[:, None]).score(x, y) > 0.9\n"
        "assert not any(n.startswith(('pandas', 'matplotlib', 'numba')) for n in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("cls", CLASSIFIERS + REGRESSORS, ids=lambda cls: cls.__name__)
def test_one_seed_is_one_model(cls, seed):
    x, y = problem(seed)
    models = [cls(**{**SMALL, "random_state": s}).fit(x, y) for s in (1, 1, 2)]
    weights = [b"".join(layer.weight.tobytes() for layer in m.layers_) for m in models]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize("cls", CLASSIFIERS + REGRESSORS, ids=lambda cls: cls.__name__)
def test_layers_are_the_whole_model(cls, seed):
    """Whoever runs ``layers_`` by hand gets the predictions, normalisation and scales folded in."""
    x, y = problem(seed)
    if cls in REGRESSORS:
        y = np.c_[100 + 5 * x[:, 0], x[:, 1] - x[:, 2]]
    model = cls(**SMALL, batch_norm=True).fit(x, y)
    a = (x - model.input_mean_) / model.input_scale_
    for layer in model.layers_:
        assert layer.weight.dtype == layer.bias.dtype == np.float32
        assert not layer.weight[~layer.mask].any()
        a = a @ layer.weight.T + layer.bias
        if layer.activation == "relu":
            a = np.maximum(a, 0)
    if cls in CLASSIFIERS:
        assert model.layers_[-1].activation == "softmax"
        a = np.exp(a - a.max(axis=1, keepdims=True))
        np.testing.assert_allclose(
            a / a.sum(axis=1, keepdims=True), model.predict_proba(x), atol=1e-4
        )
    else:
        np.testing.assert_allclose(a, model.predict(x), rtol=1e-3, atol=1e-3)
    assert model.nnz_ == sum(layer.nnz for layer in model.layers_)


@pytest.mark.parametrize("kind", ["int8", "binary"])
def test_quantised_regressors_keep_one_scale(kind, seed):
    x, _ = problem(seed)
    y = np.c_[100 + 5 * x[:, 0], x[:, 1] - x[:, 2]]
    model = DPPRegressor(**{**SMALL, "epochs": 60}, quantisation=kind).fit(x, y)
    a = (x - model.input_mean_) / model.input_scale_
    for layer in model.layers_:
        integers = np.rint(layer.weight / layer.scale)
        np.testing.assert_allclose(integers * layer.scale, layer.weight, rtol=1e-4, atol=1e-6)
        a = a @ layer.weight.T + layer.bias
        a = np.maximum(a, 0) if layer.activation == "relu" else a
    np.testing.assert_allclose(a, model.predict(x), rtol=1e-3, atol=1e-3)


def test_convolutions_learn_images(digits):
    x, y = digits
    model = DPFClassifier(
        convolutions=((8, 3, 1, 1), (16, 3, 2, 1)), input_shape=(1, 8, 8), hidden_layer_sizes=(),
        batch_norm=True, sparsity=0.8, epochs=8, standardise="global", random_state=0,
    ).fit(x[:1200], y[:1200])  # fmt: skip
    assert [layer.kind for layer in model.layers_] == ["conv", "conv", "dense"]
    assert (model.layers_[1].stride, model.layers_[1].padding) == (2, 1)
    assert model.score(x[1200:], y[1200:]) > 0.93


@pytest.mark.parametrize("cls", CLASSIFIERS, ids=lambda cls: cls.__name__)
def test_nine_tenths_less_still_reads_digits(cls, digits):
    """Chance is 0.1, a dense network about 0.97."""
    x, y = digits
    model = cls(sparsity=0.9, hidden_layer_sizes=(100, 50), epochs=20, random_state=0)
    model.fit(x[:1200], y[:1200])
    assert abs(model.sparsity_ - 0.9) < 0.005
    assert model.score(x[1200:], y[1200:]) > 0.92


def test_whole_units_are_gone_from_the_layers(digits):
    x, y = digits
    model = DPFClassifier(structure="unit", sparsity=0.5, hidden_layer_sizes=(60, 40), epochs=15,
                          random_state=0).fit(x[:1200], y[:1200])  # fmt: skip
    kept = [layer.mask.any(axis=1).sum() for layer in model.layers_]
    assert kept[0] + kept[1] == 50
    assert np.array_equal(model.layers_[1].mask.any(axis=0), model.layers_[0].mask.any(axis=1))
    assert not model.layers_[0].bias[~model.layers_[0].mask.any(axis=1)].any()
    assert model.score(x[1200:], y[1200:]) > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity must be finite and in \[0, 1\); got 1.0"),
        ({"sparsity": "high"}, "sparsity must be a number"),
        ({"epochs": 0}, "epochs must be at least 1; got 0"),
        ({"epochs": 2.5}, "epochs must be an integer; got 2.5"),
        ({"scope": "local"}, "scope must be one of global, layerwise; got 'local'"),
        ({"ramp": (0.8, 0.2)}, "ramp must not end before it begins"),
        ({"feedback": 2.0}, r"feedback must be finite and in \[0, 1\]; got 2.0"),
        ({"solver": "exact"}, "solver='exact' needs a linear model of squared loss"),
        ({"convolutions": ((4, 3, 1, 0),)}, "input_shape must be"),
        ({"dtype": "float16"}, "dtype must be one of float32, float64"),
    ],
)
def test_wrong_parameters_are_named(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        DPFClassifier(**options).fit(*problem(0))


def test_wrong_data_are_named():
    x, y = problem(0)
    model = DPFClassifier(**SMALL)
    for wrong, message in (
        ((np.where(x > 5, np.nan, x), y), "X must be finite"),
        ((x, y[:-1]), "y must have 200 entries"),
        ((x, np.zeros(200)), "at least 2 classes; got 1 class"),
        ((x[0], y), "Expected 2D array"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(*wrong)
    with pytest.raises(ValueError, match=r"at most 1e\+30 in size"):
        model.fit(1e35 * x, y)


# --------------------------------------------------------------------------------------- going on


def test_early_stopping_ends_at_the_final_sparsity(digits):
    x, y = digits
    model = DPFClassifier(hidden_layer_sizes=(60,), sparsity=0.9, epochs=200, ramp=0.1, patience=3,
                          early_stopping=True, random_state=0).fit(x[:600], y[:600])  # fmt: skip
    assert len(model.history_) < 200 and abs(model.sparsity_ - 0.9) < 0.001
    assert np.isfinite([epoch.validation_loss for epoch in model.history_]).all()


def test_warm_start_goes_on_and_cold_start_does_not(digits):
    x, y = digits[0][:500], digits[1][:500]
    model = DPFClassifier(hidden_layer_sizes=(40,), sparsity=0.8, epochs=6, random_state=0,
                          warm_start=True).fit(x, y)  # fmt: skip
    first = model.loss_curve_.copy()
    model.fit(x, y)
    assert model.loss_curve_[0] < 0.5 * first[0] and abs(model.sparsity_ - 0.8) < 0.001
    assert model.history_[0].sparsity > 0.75  # the ramp does not start again
    with pytest.raises(ValueError, match="warm_start needs the same network"):
        model.set_params(hidden_layer_sizes=(20,)).fit(x, y)
    model.set_params(warm_start=False, hidden_layer_sizes=(40,)).fit(x, y)
    np.testing.assert_array_equal(model.loss_curve_, first)


@pytest.mark.parametrize("cls", CLASSIFIERS, ids=lambda cls: cls.__name__)
def test_partial_fit_reaches_the_sparsity_and_learns(cls, digits):
    x, y = digits[0][:600], digits[1][:600]
    model = cls(hidden_layer_sizes=(40,), sparsity=0.8, epochs=10, learning_rate=0.02,
                random_state=0)  # fmt: skip
    with pytest.raises(ValueError, match="classes must be passed"):
        model.partial_fit(x, y)
    for _ in range(12):
        model.partial_fit(x, y, classes=np.arange(10))
    assert abs(model.sparsity_ - 0.8) < 0.02
    assert model.score(x, y) > 0.9
    with pytest.raises(ValueError, match="y must be among classes_"):
        model.partial_fit(x, y + 5)


@pytest.mark.parametrize("cls", CLASSIFIERS, ids=lambda cls: cls.__name__)
def test_predicting_between_partial_fits_changes_nothing(cls, seed):
    x, y = problem(seed)
    models = [cls(**{**SMALL, "epochs": 4}) for _ in range(2)]
    for _ in range(6):
        for model in models:
            model.partial_fit(x, y, classes=np.arange(3))
        models[0].predict(x)
    for one, other in zip(models[0].layers_, models[1].layers_, strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)


def test_columns_far_from_zero_keep_their_digits(seed):
    """Seconds since 1970 have a resolution of two minutes in single precision."""
    x, y = problem(seed)
    options = {"hidden_layer_sizes": (16,), "epochs": 30, "random_state": 0}
    near = DPFClassifier(**options).fit(x, y)
    far = DPFClassifier(**options).fit(1.7e9 + x, y)
    np.testing.assert_allclose(far.predict_proba(1.7e9 + x), near.predict_proba(x), atol=0.05)


def test_partial_fit_after_fit_keeps_the_mask(digits):
    x, y = digits[0][:500], digits[1][:500]
    for cls in (DPFClassifier, DPPClassifier):
        model = cls(hidden_layer_sizes=(40,), sparsity=0.8, epochs=5, random_state=0).fit(x, y)
        masks = [layer.mask for layer in model.layers_]
        before = [layer.weight for layer in model.layers_]
        model.set_params(learning_rate=0.01).partial_fit(x, y)
        for layer, mask, weight in zip(model.layers_, masks, before, strict=True):
            assert np.array_equal(layer.mask, mask) and not np.array_equal(layer.weight, weight)


# ----------------------------------------------------------------------------------------- saving


@pytest.mark.parametrize("cls", CLASSIFIERS + REGRESSORS, ids=lambda cls: cls.__name__)
def test_saved_models_predict_the_same(cls, tmp_path, seed):
    x, y = problem(seed)
    if cls in CLASSIFIERS:
        y = np.array(["red", "green", "blue"])[y]
    model = cls(**SMALL, batch_norm=True).fit(x, y)
    model.save(tmp_path / "model.npz")
    again = load_model(tmp_path / "model.npz")
    assert type(again) is cls and repr(again) == repr(model)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.nnz_ == model.nnz_ and again.sparsity_ == model.sparsity_
    for mine, theirs in zip(model.layers_, again.layers_, strict=True):
        np.testing.assert_array_equal(mine.weight, theirs.weight)
    again.partial_fit(x, y)
    assert again.sparsity_ == model.sparsity_
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict(x), model.predict(x))


def test_quantised_models_are_saved_with_their_scales(tmp_path, seed):
    x, y = problem(seed)
    model = DPPClassifier(**SMALL, quantisation="int8").fit(x, y)
    model.save(tmp_path / "model.npz")
    again = load_model(tmp_path / "model.npz")
    assert [layer.scale for layer in again.layers_] == [layer.scale for layer in model.layers_]
    with pytest.raises(ValueError, match="quantised"):
        again.partial_fit(x, y)


def test_bad_files_are_format_errors(tmp_path, seed):
    path = tmp_path / "model.npz"
    with pytest.raises(FileNotFoundError):
        load_model(path)
    DPFClassifier(**SMALL).fit(*problem(seed)).save(path)
    whole = path.read_bytes()
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    meta = json.loads(bytes(arrays["meta"]).decode())

    def changed(**changes):
        return np.frombuffer(json.dumps({**meta, **changes}).encode(), np.uint8)

    for wrong in (
        {"meta": changed(format=99)}, {"meta": changed(kind="other")},
        {"meta": changed(**{"class": "Network"})}, {"values": arrays["values"][:-1]},
        {"classes": arrays["classes"][:-1]}, {"parameters": arrays["parameters"][:-1]},
        {"meta": changed(features=5)},
    ):  # fmt: skip
        np.savez(path, **{**arrays, **wrong})
        with pytest.raises(FormatError, match=r"model\.npz"):
            load_model(path)
    for size in (0, 100, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError):
            load_model(path)


# --------------------------------------------------------------------------------- linear models


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("p", [15, 60])
def test_closed_form_is_that_of_the_theory(ridge, p, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((40, p)), rng.standard_normal(40)
    value, shift = least_squares(x, y[:, None], ridge, intercept=False)
    np.testing.assert_allclose(value[0], fit(x, y, ridge), rtol=1e-8, atol=1e-10)
    assert shift == 0
    weight = rng.integers(1, 4, 40)
    repeated = least_squares(x.repeat(weight, 0), y.repeat(weight)[:, None], 0.1)
    weighted = least_squares(x, y[:, None], 0.1, weight=weight / weight.mean())
    np.testing.assert_allclose(weighted[0], repeated[0], rtol=1e-8)
    np.testing.assert_allclose(weighted[1], repeated[1], rtol=1e-8)


@pytest.mark.parametrize("cls", REGRESSORS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_training_converges_to_the_closed_form(cls, ridge, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((200, 30))
    y = x @ rng.standard_normal(30) + 0.5 * rng.standard_normal(200)
    options = {"hidden_layer_sizes": (), "sparsity": 0.0, "weight_decay": ridge, "epochs": 300,
               "learning_rate": 0.1, "batch_size": 200, "dtype": "float64", "random_state": 0,
               "standardise": None}  # fmt: skip
    trained = cls(**options).fit(x, y)
    exact = cls(**options, solver="exact").fit(x, y)
    np.testing.assert_allclose(
        trained.layers_[0].weight, exact.layers_[0].weight, rtol=1e-4, atol=1e-5
    )
    assert trained.score(x, y) > 0.9


LAW = two_level(0.2, 3.0, 0.3)  # a fifth of the features matters, the others hardly
NOISE = 0.5


def risks(make, n: int, p: int, repeats: int, rng: np.random.Generator) -> dict:
    """Exact risks of models fitted on fresh data, and the law of the problem that was drawn."""
    eigenvalue, truth = finite_problem(LAW, p, rng)
    found = {name: [] for name in make}
    for _ in range(repeats):
        x = rng.standard_normal((n, p)) * np.sqrt(eigenvalue)
        y = x @ truth + np.sqrt(NOISE) * rng.standard_normal(n)
        for name, model in make.items():
            b = model.fit(x, y).layers_[0].weight[0].astype(np.float64)
            found[name].append(NOISE + eigenvalue @ (b - truth) ** 2)
    return {"law": Law.from_data(eigenvalue, truth), "kappa": p / n, **found}


def linear(cls, **options):
    return cls(hidden_layer_sizes=(), solver="exact", standardise=None, fit_intercept=False,
               dtype="float64", random_state=0, **options)  # fmt: skip


@pytest.mark.parametrize("ridge", [0.0, 0.2])
@pytest.mark.parametrize(("n", "p"), [(500, 200), (160, 400)])
def test_linear_models_lie_on_the_curves_of_the_theory(n, p, ridge, seed):
    """Means of 30 within 5 standard errors (false alarms below 1e-5 a curve, plus O(1/n)).

    The control: the curve for half as much noise again is missed.
    """
    kept = {"sparsity": 0.8, "weight_decay": ridge}
    make = {
        "dense": linear(DPFRegressor, sparsity=0.0, weight_decay=ridge),
        "dense, k of n": linear(DPPRegressor, sparsity=0.0, weight_decay=ridge),
        "pruned": linear(DPFRegressor, **kept),
        "pruned at once": linear(MagnitudePruningRegressor, method="one-shot", **kept),
        "refitted": linear(DPFRegressor, finetune_epochs=1, **kept),
    }
    drawn = risks(make, n, p, 30, np.random.default_rng(seed))
    arguments = (drawn["law"], drawn["kappa"], NOISE)
    theory = {"dense": dense_risk(*arguments, ridge=ridge)}
    theory["dense, k of n"] = theory["dense"]
    theory["pruned"] = pruned_risk(*arguments, 0.2, ridge=ridge)
    theory["pruned at once"] = theory["pruned"]
    theory["refitted"] = retrained_risk(*arguments, 0.2, ridge=ridge, retrain_ridge=ridge)
    z = {}
    for name, value in theory.items():
        sample = np.array(drawn[name])
        z[name] = (sample.mean() - value) / (sample.std(ddof=1) / np.sqrt(sample.size))
    assert max(map(abs, z.values())) < 5, z
    sample = np.array(drawn["dense"])
    wrong = dense_risk(*arguments[:2], 1.5 * NOISE, ridge=ridge)
    assert abs(sample.mean() - wrong) > 5 * sample.std(ddof=1) / np.sqrt(sample.size)


def test_trained_linear_models_select_as_well_as_the_refitted_curve(seed):
    """Features that matter much more than the others are found: the risk of the oracle's choice.

    The control chooses its features at random, and refits them just as well.
    """
    options = {
        "hidden_layer_sizes": (), "solver": "exact", "standardise": None, "sparsity": 0.8,
        "fit_intercept": False, "weight_decay": 0.0, "learning_rate": 0.02, "epochs": 30,
        "noise_scale": (1.0, 0.1), "random_state": 0,
    }  # fmt: skip
    make = {
        "learned": DPPRegressor(**options, logit_rate=0.03),
        "random": DPPRegressor(**options, logit_rate=1e-12),
    }
    drawn = risks(make, 250, 50, 8, np.random.default_rng(seed))
    oracle = retrained_risk(drawn["law"], drawn["kappa"], NOISE, 0.2, method="oracle")
    mean = {name: np.mean(drawn[name]) for name in make}
    error = np.std(drawn["learned"], ddof=1) / np.sqrt(8)
    assert abs(mean["learned"] - oracle) < 5 * error + 0.02 * oracle
    assert mean["random"] > 2 * oracle
