"""What scikit-learn's tests demand of ``MLPClassifier`` and ``MLPRegressor``, demanded of the estimators."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcnet as fn

datasets: Any = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
linear_model: Any = pytest.importorskip("sklearn.linear_model")
metrics: Any = pytest.importorskip("sklearn.metrics")
Classifier: Any = fn.estimators.Classifier
Regressor: Any = fn.estimators.Regressor

HELD = {
    "test_alpha": "test_weight_decay_shrinks_the_weights",
    "test_fit": "test_a_step_computed_by_hand",
    "test_lbfgs_classification": "test_every_activation_learns_classes",
    "test_lbfgs_regression": "test_every_activation_learns_numbers",
    "test_lbfgs_classification_maxfun": "test_max_iter_is_a_limit",
    "test_lbfgs_regression_maxfun": "test_max_iter_is_a_limit",
    "test_learning_rate_warmstart": "test_a_warm_start_resumes_the_schedule",
    "test_multilabel_classification": "test_labels_independent_of_each_other",
    "test_multioutput_regression": "test_several_targets",
    "test_partial_fit_classes_error": "test_partial_fit_refuses_other_classes",
    "test_partial_fit_classification": "test_one_run_in_every_way",
    "test_partial_fit_unseen_classes": "test_partial_fit_knows_its_classes",
    "test_partial_fit_regression": "test_one_run_in_every_way",
    "test_partial_fit_errors": "test_partial_fit_refuses_other_classes",
    "test_nonfinite_params": "test_huge_values_are_refused",
    "test_predict_proba_binary": "test_probabilities",
    "test_predict_proba_multiclass": "test_probabilities",
    "test_predict_proba_multilabel": "test_labels_independent_of_each_other",
    "test_shuffle": "test_shuffle_changes_the_run",
    "test_tolerance": "test_the_tolerance_stops_the_run",
    "test_verbose_sgd": "test_progress",
    "test_early_stopping": "test_early_stopping_keeps_the_best_epoch",
    "test_warm_start": "test_a_warm_start_needs_the_same_classes",
    "test_n_iter_no_change": "test_patience_is_counted",
    "test_n_iter_no_change_inf": "test_patience_beyond_the_run",
    "test_early_stopping_stratified": "test_a_class_of_one_row_cannot_be_divided",
    "test_mlp_early_stopping_string_labels": "test_early_stopping_keeps_the_best_epoch",
    "test_mlp_classifier_dtypes_casting": "test_the_dtype_of_the_inputs_changes_little",
    "test_mlp_regressor_dtypes_casting": "test_the_dtype_of_the_inputs_changes_little",
    "test_mlp_loading_from_joblib_partial_fit": "test_one_run_in_every_way",
    "test_preserve_feature_names": "test_feature_names_with_early_stopping",
    "test_mlp_partial_fit_after_fit": "test_partial_fit_has_no_early_stopping",
    "test_mlp_warm_start_with_early_stopping": "test_a_warm_start_adds_epochs",
    "test_mlp_sample_weight_with_early_stopping": "test_held_out_rows_keep_their_weights",
    "test_mlp_vs_poisson_glm_equivalent": "test_a_linear_poisson_network_is_the_linear_model",
    "test_minimum_input_sample_size": "test_too_few_rows_for_validation",
}
"""scikit-learn's test, and the test of the same property, here or in ``test_estimators.py``."""

DIFFERENT = {
    "test_mlp_warm_start_no_convergence": "test_a_warm_start_adds_epochs",
    "test_warm_start_full_iteration": "test_a_warm_start_adds_epochs",
    "test_sparse_matrices": "test_sparse_inputs_are_refused",
    "test_mlp_param_dtypes": "test_the_dtype_is_a_parameter",
    "test_mlp_diverging_loss": "test_a_diverging_loss_is_an_error",
}
"""scikit-learn's test, and the test of behavior that is different on purpose."""

ELSEWHERE = {
    "test_gradient": "each layer and each loss has tests of its gradients",
    "test_adaptive_learning_rate": "a learning rate is a number or a schedule; none depends on the loss",
}
"""scikit-learn's test, and why it does not apply."""

QUICK: dict[str, Any] = {
    "hidden_layer_sizes": (12,),
    "learning_rate": 0.02,
    "max_iter": 20,
    "random_state": 1,
}
"""Few units and few epochs, which suffice for the data below."""

FOREVER = 10**9
"""More epochs without an improvement than any run has."""

BOTH = pytest.mark.parametrize("make", [Classifier, Regressor])


def digits(classes: int) -> tuple[Any, Any]:
    """Two hundred images of the first digits, between 0 and 1, and their classes."""
    x, y = datasets.load_digits(n_class=classes, return_X_y=True)
    return x[:200] / 16, y[:200]


def numbers(**settings: Any) -> tuple[Any, Any]:
    """A linear problem with noise, like the one of scikit-learn's tests."""
    x, y = datasets.make_regression(n_samples=200, n_features=10, noise=100.0, random_state=7, **settings)
    return x, y / y.std(axis=0)


def weights(estimator: Any) -> list[Any]:
    """All arrays of the fitted network, in order."""
    return list(fn.named_arrays(estimator.network_).values())


def equal(first: Any, second: Any) -> bool:
    """Whether two fitted estimators have the same bits."""
    return same(weights(first), weights(second))


def same(first: list[Any], second: list[Any]) -> bool:
    """Whether two lists of arrays are equal."""
    return all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


# ----------------------------------------------------------------------------------------------------------- the table


def names_in(path: Path) -> set[str]:
    """The test functions of a file."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_the_tables_name_every_test() -> None:
    """Each test of the installed scikit-learn is in exactly one of the tables, and each named test exists."""
    tables = (HELD, DIFFERENT, ELSEWHERE)
    listed = {name for table in tables for name in table}
    assert len(listed) == sum(map(len, tables))
    here = Path(__file__)
    assert {*HELD.values(), *DIFFERENT.values()} <= names_in(here) | names_in(here.with_name("test_estimators.py"))
    spec = find_spec("sklearn.neural_network.tests")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("scikit-learn is installed without its tests")
    theirs = names_in(Path(spec.submodule_search_locations[0], "test_mlp.py"))
    assert len(theirs) > 30
    assert theirs <= listed


# ----------------------------------------------------------------------------------------------------- what is learned


@BOTH
def test_a_step_computed_by_hand(make: Any) -> None:
    """One step of plain descent on given weights has the values of the formulas."""
    x = np.array([[0.6, 0.8, 0.7], [0.1, -0.4, 0.2]])
    hidden = fn.Dense(np.array([[0.1, 0.2], [0.3, 0.1], [0.5, 0.0]]), np.array([0.1, 0.1]))
    outer = fn.Dense(np.array([[0.1, 0.3], [0.2, -0.2]]), np.array([1.0, -1.0]))
    y, target = (np.array([1, 0]), np.array([[0.0, 1.0], [1.0, 0.0]]))
    settings: dict[str, Any] = {"optimizer": fn.SGD(learning_rate=0.1), "shuffle": False, "dtype": np.float64}
    if make is Regressor:
        y, settings["scale_target"] = target, False

    def network(_key: fn.Key, _inputs: int, _outputs: int) -> fn.Network:
        return hidden, fn.Sigmoid(), outer

    model = make(network=network, standardize=False, random_state=0, **settings)
    model.partial_fit(x, y)

    (hidden_weight, hidden_bias), (outer_weight, outer_bias) = map(fn.trained_arrays, (hidden, outer))
    inner = 1 / (1 + np.exp(-(x @ hidden_weight + hidden_bias)))
    output = inner @ outer_weight + outer_bias
    if make is Classifier:
        likely = np.exp(output) / np.exp(output).sum(axis=1, keepdims=True)
        slope = (likely - target) / 2
    else:
        slope = 2 * (output - target) / 4
    back = slope @ outer_weight.T * inner * (1 - inner)
    expected = [
        *(hidden_weight - 0.1 * x.T @ back, hidden_bias - 0.1 * back.sum(axis=0)),
        *(outer_weight - 0.1 * inner.T @ slope, outer_bias - 0.1 * slope.sum(axis=0)),
    ]
    for found, wanted in zip(weights(model), expected, strict=True):
        assert found == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_every_activation_learns_classes(activation: str, classes: int) -> None:
    """Twenty epochs suffice for the digits; predictions have the labels' dtype."""
    x, y = digits(classes)
    model = Classifier(activation=activation, **QUICK).fit(x, y)
    assert model.score(x, y) > 0.95
    assert model.predict(x).dtype == y.dtype


@pytest.mark.parametrize(
    ("activation", "least"),
    [("identity", 0.80), ("logistic", 0.95), ("tanh", 0.95), ("relu", 0.90)],
)
@pytest.mark.slow
def test_every_activation_learns_numbers(activation: str, least: float) -> None:
    """A linear network finds the linear part; the others can learn the noise as well."""
    x, y = numbers()
    settings = {**QUICK, "hidden_layer_sizes": (50,), "max_iter": 300, "batch_size": 20}
    assert Regressor(activation=activation, **settings).fit(x, y).score(x, y) > least


def test_labels_independent_of_each_other() -> None:
    """Labels of a row are predicted by themselves, also with early stopping."""
    x, y = datasets.make_multilabel_classification(n_samples=60, random_state=0)
    model = Classifier(**{**QUICK, "hidden_layer_sizes": (50,), "max_iter": 100}).fit(x, y)
    likely = model.predict_proba(x)
    assert model.score(x, y) > 0.97
    assert likely.shape == y.shape
    assert ((likely > 0.5) == model.predict(x)).all()
    assert np.abs(likely.sum(axis=1) - 1).max() > 0.1
    assert model.predict_log_proba(x) == pytest.approx(np.log(likely), rel=1e-5)
    assert Classifier(early_stopping=True, **QUICK).fit(x, y).predict(x).shape == y.shape


def test_several_targets() -> None:
    """Each target is scaled and learned."""
    x, y = datasets.make_regression(n_samples=100, n_features=6, n_targets=5, random_state=11)
    model = Regressor(**{**QUICK, "hidden_layer_sizes": (50,), "max_iter": 100}).fit(x, y * [1, 10, 100, 1e3, 1e4])
    assert model.predict(x).shape == y.shape
    assert model.score(x, y * [1, 10, 100, 1e3, 1e4]) > 0.9


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities(classes: int) -> None:
    """Rows sum to 1, the logarithm is the logarithm, and the order of the rows is that of the classes."""
    x, y = digits(classes)
    model = Classifier(**QUICK).fit(x, y)
    likely = model.predict_proba(x)
    assert likely.shape == (len(x), classes)
    assert likely.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert model.predict_log_proba(x) == pytest.approx(np.log(likely), rel=1e-5)
    assert (model.classes_[likely.argmax(axis=1)] == model.predict(x)).all()
    assert metrics.roc_auc_score(y, likely[:, 1] if classes == 2 else likely, multi_class="ovr") > 0.99


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # SciPy's, for scikit-learn 1.6
def test_a_linear_poisson_network_is_the_linear_model() -> None:
    """Without a hidden layer, the network with the Poisson loss predicts as the generalized linear model."""
    x = np.linspace(0, 1, 100)[:, None]
    y = np.random.default_rng(0).poisson(np.exp(x[:, 0] + 1))
    wanted = linear_model.PoissonRegressor(alpha=0, tol=1e-7).fit(x, y).predict(x)
    settings: dict[str, Any] = {
        "learning_rate": 0.05,
        "max_iter": 400,
        "random_state": 1,
        "n_iter_no_change": 100,
    }
    linear = Regressor(hidden_layer_sizes=(), loss="poisson", dtype=np.float64, tol=0.0, **settings).fit(x, y)
    assert linear.predict(x) == pytest.approx(wanted, rel=1e-4)
    squared = Regressor(hidden_layer_sizes=(), dtype=np.float64, tol=0.0, **settings).fit(x, y)
    assert squared.predict(x) != pytest.approx(wanted, rel=1e-4)


@BOTH
def test_the_dtype_of_the_inputs_changes_little(make: Any) -> None:
    """float32 inputs and float64 inputs of the same values lead to nearly the same predictions."""
    x, y = digits(2)
    wide, narrow = (make(**QUICK).fit(x.astype(dtype), y) for dtype in (np.float64, np.float32))
    assert np.allclose(wide.predict(x), narrow.predict(x.astype(np.float32)), rtol=5e-4, atol=5e-4)


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_a_parameter(make: Any, dtype: Any) -> None:
    """The arrays of the network have the dtype of the estimator, whatever the inputs' dtype."""
    x, y = digits(2)
    for given in (np.float32, np.float64, np.float16):
        model = make(**{**QUICK, "max_iter": 1}, dtype=dtype).fit(x.astype(given), y)
        assert {array.dtype for array in weights(model)} == {np.dtype(dtype)}


# --------------------------------------------------------------------------------------------------- how it is trained


def test_weight_decay_shrinks_the_weights() -> None:
    """Each layer's weights are smaller with more decay."""
    x, y = digits(2)
    sizes = [
        [np.abs(array).sum() for array in weights(Classifier(weight_decay=decay, **QUICK).fit(x, y)) if array.ndim == 2]
        for decay in (0.0, 1.0, 5.0)
    ]
    assert (np.diff(sizes, axis=0) < 0).all()


@BOTH
def test_shuffle_changes_the_run(make: Any) -> None:
    """The same random state gives the same bits, in the given order and in a random one, which are different runs."""
    x, y = digits(2)
    settings = {**QUICK, "max_iter": 1, "batch_size": 10}
    runs = [[make(shuffle=shuffle, **settings).fit(x, y) for _ in range(2)] for shuffle in (True, False)]
    assert equal(*runs[0])
    assert equal(*runs[1])
    assert not equal(runs[0][0], runs[1][0])


def test_partial_fit_refuses_other_classes() -> None:
    """The first call says which classes there are; it refuses others, and so does each later call."""
    x, y = [[3.0, 2.0], [1.0, 6.0]], [1, 0]
    with pytest.raises(ValueError, match="class"):
        Classifier().partial_fit(x, y, classes=[2])
    model = Classifier().partial_fit(x, y, classes=[0, 1])
    before = weights(model)
    with pytest.raises(ValueError, match="label"):
        model.partial_fit(x, [1, 2])
    assert same(before, weights(model))


@BOTH
def test_partial_fit_has_no_early_stopping(make: Any) -> None:
    """A partial fit with early stopping is refused, before and after a fit; it changes nothing."""
    x, y = digits(2)
    fitted = make(early_stopping=True, **QUICK).fit(x, y)
    before = weights(fitted)
    for model in (make(early_stopping=True), fitted):
        with pytest.raises(ValueError, match=r"partial_fit .*early_stopping"):
            model.partial_fit(x, y)
    assert same(before, weights(fitted))


# ------------------------------------------------------------------------------------------------------- when it stops


@BOTH
def test_max_iter_is_a_limit(make: Any) -> None:
    """A run has at most this number of epochs."""
    x, y = digits(2)
    model = make(**{**QUICK, "max_iter": 3}).fit(x, y)
    assert model.n_iter_ == len(model.loss_curve_) == 3


@BOTH
def test_the_tolerance_stops_the_run(make: Any) -> None:
    """If no epoch improves the loss by the tolerance, the run stops early."""
    assert make(tol=0.5, max_iter=300, hidden_layer_sizes=(4,)).fit([[3, 2], [1, 6]], [1, 0]).n_iter_ < 300


@pytest.mark.parametrize("patience", [2, 5, 10])
def test_patience_is_counted(patience: int) -> None:
    """The run ends at the first epoch after ``n_iter_no_change`` epochs without an improvement by the tolerance."""
    x, y = digits(2)
    model = Classifier(tol=0.01, n_iter_no_change=patience, **{**QUICK, "max_iter": 500}).fit(x, y)
    best: float = np.inf
    waited: list[int] = []
    for loss in model.loss_curve_:
        waited.append(0 if loss < best - 0.01 else waited[-1] + 1)
        best = loss if waited[-1] == 0 else best
    assert waited[-1] == patience
    assert max(waited[:-1]) < patience


@BOTH
def test_patience_beyond_the_run(make: Any) -> None:
    """With more patience than epochs, no tolerance stops the run."""
    x, y = digits(2)
    assert make(tol=1e9, n_iter_no_change=FOREVER, **QUICK).fit(x, y).n_iter_ == QUICK["max_iter"]


@pytest.mark.parametrize("labels", [(0, 1, 2), ("zero", "one", "two")])
def test_early_stopping_keeps_the_best_epoch(labels: Any) -> None:
    """Validation losses are of held-out rows, and the network is that of the best epoch."""
    x, y = digits(3)
    settings = {**QUICK, "max_iter": 40, "tol": 0.0, "n_iter_no_change": 4}
    model = Classifier(early_stopping=True, **settings).fit(x, np.array(labels)[y])
    curve = model.validation_curve_
    assert len(curve) == model.n_iter_
    assert np.isfinite(curve).all()
    assert curve[model.best_iter_] == min(curve)
    best = Classifier(early_stopping=True, **{**settings, "max_iter": model.best_iter_ + 1}).fit(x, np.array(labels)[y])
    assert equal(model, best)
    assert fn.equal(model.network_, best.fit_.state.params)
    plain = Classifier(**settings).fit(x, y)
    assert plain.validation_curve_ is None
    assert plain.best_iter_ is None


def test_a_class_of_one_row_cannot_be_divided() -> None:
    """A class needs a row for training and a row for validation."""
    with pytest.raises(ValueError, match="at least 2"):
        Classifier(early_stopping=True).fit(np.arange(21.0)[:, None], [0] * 20 + [1])


@BOTH
def test_too_few_rows_for_validation(make: Any) -> None:
    """Two rows cannot be divided into rows for training and rows for validation."""
    with pytest.raises(ValueError, match=r"held_out|validation_fraction"):
        make(early_stopping=True).fit([[3, 2], [1, 6]], [1, 0])


@BOTH
def test_feature_names_with_early_stopping(make: Any) -> None:
    """Names of features cause no warning in the validation of each epoch."""
    pandas: Any = pytest.importorskip("pandas")
    x, y = numbers()
    frame = pandas.DataFrame(x, columns=[f"feature {i}" for i in range(10)])
    model = make(early_stopping=True, **QUICK).fit(frame, pandas.Series(y > 0, name="target"))
    assert list(model.feature_names_in_) == list(frame.columns)
    assert model.predict(frame).shape == (200,)


# --------------------------------------------------------------------------------------------------------- warm starts


@pytest.mark.parametrize("early_stopping", [False, True])
@BOTH
def test_a_warm_start_adds_epochs(make: Any, early_stopping: bool) -> None:  # noqa: FBT001
    """Each fit of a warm start trains ``max_iter`` more epochs, as it is set then; ``n_iter_`` counts them all."""
    x, y = datasets.load_iris(return_X_y=True)
    settings = {**QUICK, "max_iter": 3, "n_iter_no_change": FOREVER}
    model = make(warm_start=True, early_stopping=early_stopping, **settings)
    curves = ["loss_curve_", *["validation_curve_"] * early_stopping]
    for epochs, total in ((3, 3), (3, 6), (5, 11)):
        model.set_params(max_iter=epochs).fit(x, y)
        assert model.n_iter_ == total
        assert [len(getattr(model, curve)) for curve in curves] == [total] * len(curves)


def test_a_warm_start_resumes_the_schedule() -> None:
    """Two warm fits follow a learning rate schedule as one fit does, bit for bit."""
    x, y = digits(2)
    settings = {
        **QUICK,
        "learning_rate": fn.exponential_decay(0.1, gamma=0.5),
        "n_iter_no_change": FOREVER,
    }
    once = Classifier(**{**settings, "max_iter": 4}).fit(x, y)
    twice = Classifier(warm_start=True, **{**settings, "max_iter": 2}).fit(x, y).fit(x, y)
    assert equal(once, twice)


@pytest.mark.parametrize("other", [[0, 1, 3], [0, 1, 2, 3]])
def test_a_warm_start_needs_the_same_classes(other: list[int]) -> None:
    """The same classes in other places are accepted; new ones are refused and change nothing."""
    x, y = datasets.load_iris(return_X_y=True)
    model = Classifier(warm_start=True, **{**QUICK, "max_iter": 2}).fit(x, y)
    model.fit(x, y[::-1])
    before = weights(model)
    with pytest.raises(ValueError, match="label"):
        model.fit(x, np.resize(other, len(y)))
    assert same(before, weights(model))


# ----------------------------------------------------------------------------------------------------- what is refused


@BOTH
def test_sparse_inputs_are_refused(make: Any) -> None:
    """MLPClassifier accepts sparse inputs; here the error names the way to a dense array."""
    sparse: Any = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="dense"):
        make().fit(sparse.csr_matrix(np.eye(4)), [0, 1, 0, 1])


@pytest.mark.parametrize("standardize", [True, False])
def test_huge_values_are_refused(standardize: bool) -> None:  # noqa: FBT001
    """Inputs with an infinite mean, or with infinite values after the conversion to float32, are refused."""
    x = np.finfo(np.float64).max * np.random.default_rng(0).uniform(size=(10, 2))
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=r"finite|too large"):  # scikit-learn's conversion
        Regressor(standardize=standardize).fit(x, np.arange(10.0))


@pytest.mark.parametrize("early_stopping", [True, False])
def test_a_diverging_loss_is_an_error(early_stopping: bool) -> None:  # noqa: FBT001
    """MLPRegressor ends with NaN; here the first loss that is not finite is an error."""
    x, y = numbers()
    settings = {
        **QUICK,
        "optimizer": "sgd",
        "learning_rate": 1e9,
        "early_stopping": early_stopping,
    }
    model = Regressor(**settings)
    with pytest.raises(fn.NonFiniteError, match="loss"):
        model.fit(x, y)
