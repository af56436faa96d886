"""The estimators: one run in many ways, weights, validation, the shapes of targets, and what they refuse."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from networks import inputs

import funcnet as fn
from funcnet.core.names import named
from funcnet.random.draws import uniform


def imported(name: str) -> Any:
    """A module of scikit-learn or of joblib, which have no types."""
    return pytest.importorskip(name, reason="scikit-learn is not installed")


clone = imported("sklearn.base").clone
joblib = imported("joblib")
search = imported("sklearn.model_selection").GridSearchCV
models = imported("sklearn.neural_network")
make_pipeline = imported("sklearn.pipeline").make_pipeline
scaler_of_sklearn = imported("sklearn.preprocessing").StandardScaler

from funcnet.interop.sklearn import Classifier, Regressor  # noqa: E402  # they need scikit-learn

ROWS, EPOCHS = 50, 6
x = inputs(fn.Key(1), ROWS, 4, dtype=np.float64)
ids = x[:, :3].argmax(axis=1)
labels = np.array(["ash", "elm", "oak"])[ids]
numbers = 3 + 2 * x[:, 0] + inputs(fn.Key(2), ROWS, dtype=np.float64) / 4
several = np.stack([numbers, x[:, 1]], axis=1)
tags = (x[:, :3] > 0).astype(np.int64)

SMALL: dict[str, Any] = {
    "hidden_layer_sizes": (5,),
    "learning_rate": 0.01,
    "batch_size": 16,
    "max_iter": EPOCHS,
    "random_state": 3,
}
classifier: Any = partial(Classifier, **SMALL)
regressor: Any = partial(Regressor, **SMALL)
BOTH = pytest.mark.parametrize(("make", "y"), [(classifier, labels), (regressor, several)], ids=["c", "r"])
ARITHMETIC = pytest.mark.parametrize("portable", [False, True], ids=["native", "portable"])


def run_of(estimator: Any) -> str:
    """The fingerprint of the whole run."""
    return fn.fingerprint(estimator.fit_)


def plain_run(y: Any, held_out: float = 0, *, shuffle: bool = True) -> Any:
    """Train without an estimator: the loop that the docstring of ``Classifier`` has."""
    key, uniform, held = fn.Key(3), fn.initializers.glorot_uniform, None
    is_text = y.dtype.kind == "U"
    train: Any = fn.Batch(x, np.unique(y, return_inverse=True)[1] if is_text else y)
    if held_out:
        train, held = fn.split(train.x, train.y, held_out, key=key.child("validation"), stratify=is_text)
    scaler, target_scaler = fn.standardize(train.x), None if is_text else fn.standardize(train.y)

    def scaled(rows: Any) -> Any:
        target = rows.y if target_scaler is None else fn.forward(target_scaler, rows.y).astype(np.float32)
        return fn.Batch(fn.forward(scaler, rows.x).astype(np.float32), target)

    train, held = scaled(train), None if held is None else scaled(held)
    net = fn.mlp(key, (4, 5, 3 if is_text else y.shape[1]), init=uniform, bias_init=uniform)
    loss: Any = fn.softmax_cross_entropy if is_text else fn.mean_squared_error
    *_, run = fn.fit(
        fn.train_step(loss),
        fn.Fit.create(fn.TrainState.create(net, fn.Adam(learning_rate=0.01), key=key)),
        lambda epoch: fn.minibatches(train.x, train.y, 16, key=key.child("shuffle", epoch) if shuffle else None),
        None if held is None else lambda state: fn.evaluate(state.params, held.x, held.y, loss),
        epochs=EPOCHS,
        patience=10,
        min_delta=1e-4,
    )
    return run


# ------------------------------------------------------------------------------------------------ one run


def pickled(estimator: Any) -> Any:
    """The estimator after pickling."""
    return pickle.loads(pickle.dumps(estimator))  # noqa: S301  # its own bytes


def mapped(estimator: Any, path: Path) -> Any:
    """The estimator after joblib, with its arrays as memory maps of a file."""
    joblib.dump(estimator, path)
    return joblib.load(path, mmap_mode="r")


@BOTH
@ARITHMETIC
def test_one_run_in_every_way(make: Any, y: Any, portable: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """One fit, three warm fits with files between them, single epochs, and the plain loop are one run."""
    whole = make(portable=portable).fit(x, y)
    part = pickled(make(portable=portable, max_iter=2, warm_start=True).fit(x, y)).fit(x, y)
    parts = mapped(part, tmp_path / "part").fit(x, y)
    single = mapped(make(portable=portable).partial_fit(x, y), tmp_path / "single")
    for _ in range(EPOCHS - 1):
        single.partial_fit(x, y)
    with fn.portable() if portable else fn.arithmetic.using("native"):
        wanted = fn.fingerprint(plain_run(y))
    assert {run_of(each) for each in (whole, parts, single)} == {wanted}
    assert whole.n_iter_ == parts.n_iter_ == EPOCHS
    assert whole.validation_curve_ is whole.best_iter_ is None
    assert (whole.predict(x) == parts.predict(x)).all()
    assert fn.equal(whole.network_, whole.fit_.state.params)


def test_the_order_of_the_rows() -> None:
    """Without ``shuffle``, each epoch takes the rows in their order."""
    assert run_of(classifier(shuffle=False).fit(x, labels)) == fn.fingerprint(plain_run(labels, shuffle=False))


@BOTH
def test_early_stopping_is_fit_with_validation(make: Any, y: Any) -> None:
    """``early_stopping`` and ``X_val`` are the plain loop on the rows that ``split`` holds out."""
    wanted = plain_run(y, held_out=0.3)
    held = make(early_stopping=True, validation_fraction=0.3).fit(x, y)
    classes = np.unique(y, return_inverse=True)[1] if y is labels else None
    rows = np.arange(ROWS)
    train, out = fn.split(
        x, rows, 0.3, key=fn.Key(3).child("validation"), stratify=False if classes is None else classes
    )
    given = make(early_stopping=True).fit(train.x, y[train.y], X_val=out.x, y_val=y[out.y])
    part = make(early_stopping=True, validation_fraction=0.3, max_iter=3, warm_start=True).fit(x, y).fit(x, y)
    assert {run_of(each) for each in (held, given, part)} == {fn.fingerprint(wanted)}
    assert held.validation_curve_ == list(wanted.values)
    assert held.best_iter_ == np.argmin(wanted.values)
    assert fn.equal(held.network_, wanted.best.params)


@BOTH
def test_held_out_rows_keep_their_weights(make: Any, y: Any) -> None:
    """``early_stopping`` with weights is ``X_val`` and ``sample_weight_val`` of the same split."""
    weight = 1.0 + np.arange(ROWS) % 3
    held = make(early_stopping=True, validation_fraction=0.3).fit(x, y, weight)
    classes = np.unique(y, return_inverse=True)[1] if y is labels else False
    key, rows = fn.Key(3).child("validation"), np.arange(ROWS)
    train, out = fn.split(x, rows, 0.3, key=key, stratify=classes, weight=weight)
    validation = {"X_val": out.x, "y_val": y[out.y], "sample_weight_val": out.weight}
    given = make().fit(train.x, y[train.y], train.weight, **validation)
    assert run_of(held) == run_of(given)
    assert held.validation_curve_ != make(early_stopping=True, validation_fraction=0.3).fit(x, y).validation_curve_


def test_a_run_can_be_saved(tmp_path: Path) -> None:
    """``fn.save`` keeps the run of an estimator."""
    fitted = classifier(dropout=0.2, optimizer=fn.AdamW(learning_rate=0.02), learning_rate=0.001).fit(x, labels)
    fn.save(tmp_path / "run.safetensors", fitted.fit_)
    assert fn.fingerprint(fn.load(tmp_path / "run.safetensors")) == run_of(fitted)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_stopped_run_continues_when_asked(early_stopping: bool) -> None:  # noqa: FBT001
    """A fit stops after epochs without an improvement; a warm start waits for an improvement again."""
    patient = classifier(max_iter=50, n_iter_no_change=2, tol=10.0, warm_start=True, early_stopping=early_stopping)
    assert patient.fit(x, labels).n_iter_ == 3
    assert patient.fit(x, labels).n_iter_ == 5
    kept = patient.fit_.best if early_stopping else patient.fit_.state
    assert (patient.best_iter_ == 0) is early_stopping
    assert fn.equal(patient.network_, kept.params)
    assert len(patient.loss_curve_) == 5
    assert patient.loss_ == patient.loss_curve_[-1]


def test_waiting_spans_fits() -> None:
    """A warm start and ``partial_fit`` count the epochs without an improvement from the earlier fit."""
    settings: dict[str, Any] = {"n_iter_no_change": 4, "tol": 10.0, "max_iter": 2, "warm_start": True}
    patient = classifier(**settings)
    assert [patient.fit(x, labels).n_iter_ for _ in range(4)] == [2, 4, 5, 7]
    single = classifier(**settings)
    assert [single.partial_fit(x, labels).fit_.waited for _ in range(6)] == [0, 1, 2, 3, 4, 5]


def test_seeds() -> None:
    """A ``RandomState`` and None draw a seed; an estimator without a seed differs from fit to fit."""
    drawn = classifier(random_state=np.random.RandomState(0)).fit(x, ids)
    again = classifier(random_state=np.random.RandomState(0)).fit(x, ids)
    assert run_of(drawn) == run_of(again)
    free = classifier(random_state=None, warm_start=False)
    assert run_of(free.fit(x, ids)) != run_of(free.fit(x, ids))


# ------------------------------------------------------------------------------------------------ weights


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_class_weight_is_a_weight_of_rows(early_stopping: bool) -> None:  # noqa: FBT001
    """Weights of classes have the bits of the same weights of rows, and multiply them."""
    rows = 1 + np.arange(ROWS) % 3
    balanced = ROWS / (3 * np.bincount(ids))
    uneven = np.array([1.0, 2.5, 1.0])
    make = partial(classifier, early_stopping=early_stopping)
    for weight, each in (("balanced", balanced), ({"elm": 2.5}, uneven), ({"ash": 1, "elm": 2.5, "oak": 1}, uneven)):
        one = make(class_weight=weight).fit(x, labels)
        assert run_of(one) == run_of(make().fit(x, labels, each[ids]))
        assert run_of(make(class_weight=weight).fit(x, labels, rows)) == run_of(make().fit(x, labels, each[ids] * rows))
        assert run_of(one) != run_of(make().fit(x, labels))


def scaled(estimator: Any) -> fn.Array:
    """The inputs of the estimator's network."""
    return fn.forward(estimator.scaler_, x).astype(np.float32)


def test_weights_reach_scales_and_validation() -> None:
    """Statistics are weighted, and so is the validation loss, also by classes."""
    weight = 1.0 + np.arange(ROWS) % 3
    fitted = regressor().fit(x, several, weight)
    assert fn.equal(fitted.scaler_, fn.standardize(x, weight=weight))
    assert fn.equal(fitted.target_scaler_, fn.standardize(several, weight=weight))
    share = {"ash": 1.0, "elm": 2.5, "oak": 1.0}
    held = classifier(class_weight=share).fit(x, labels, X_val=x, y_val=labels, sample_weight_val=weight)
    both = (weight * np.array([1.0, 2.5, 1.0])[ids]).astype(np.float32)
    last = fn.evaluate(held.fit_.state.params, scaled(held), ids, fn.softmax_cross_entropy, both)
    assert held.validation_curve_[-1] == last


def test_a_class_of_weight_zero_is_never_trained() -> None:
    """Its rows are left out, and the network has an output for it."""
    some = labels != "ash"
    one = classifier(class_weight={"ash": 0.0, "elm": 1.0, "oak": 1.0}, max_iter=1).fit(x, labels)
    assert run_of(one) == run_of(classifier().partial_fit(x[some], labels[some], classes=["ash", "elm", "oak"]))


@BOTH
def test_weight_zero_is_no_row(make: Any, y: Any) -> None:
    """A row of weight 0 changes no bit, even if its numbers are huge. Equal weights count as none."""
    weight = (np.arange(ROWS) % 4).astype(np.float64)
    some, extreme = weight > 0, np.where(weight[:, None] > 0, x, 1e30)
    wanted = run_of(make().fit(x[some], y[some], weight[some]))
    assert run_of(make().fit(extreme, y, weight)) == wanted
    assert run_of(make().partial_fit(extreme, y, sample_weight=weight)) == run_of(
        make(max_iter=1).fit(x[some], y[some], weight[some])
    )
    given = make().fit(x, y, X_val=extreme, y_val=y, sample_weight_val=weight)
    assert run_of(given) == run_of(make().fit(x, y, X_val=x[some], y_val=y[some], sample_weight_val=weight[some]))
    assert run_of(make().fit(x, y, np.full(ROWS, 1.0))) == run_of(make().fit(x, y))


# ------------------------------------------------------------------------------------------------ targets


def test_classes() -> None:
    """Labels may be of any type; probabilities are in the order of ``classes_``."""
    fitted = classifier(max_iter=30).fit(x, labels)
    probabilities = fitted.predict_proba(x)
    assert fitted.classes_.tolist() == ["ash", "elm", "oak"]
    assert probabilities.dtype == np.float32
    assert (fitted.predict(x) == fitted.classes_[probabilities.argmax(axis=1)]).all()
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert (fitted.predict_log_proba(x) == np.log(probabilities)).all()
    assert fitted.score(x, labels) == (fitted.predict(x) == labels).mean() > 0.6
    assert run_of(fitted) == run_of(classifier(max_iter=30).fit(x.tolist(), ids.tolist()))
    assert (fn.predict_proba(fitted.network_, scaled(fitted), fitted.task_) == probabilities).all()


def test_portable_predictions() -> None:
    """Predictions, too, are computed in the estimator's arithmetic."""
    sorts, values = classifier(portable=True).fit(x, labels), regressor(portable=True).fit(x, numbers)
    with fn.portable():
        assert (fn.predict_proba(sorts.network_, scaled(sorts), sorts.task_) == sorts.predict_proba(x)).all()
        assert (fn.arithmetic.log(sorts.predict_proba(x)) == sorts.predict_log_proba(x)).all()
        found = fn.outputs(values.network_, scaled(values)).astype(np.float64)
    assert (fn.predict_proba(sorts.network_, scaled(sorts), sorts.task_) != sorts.predict_proba(x)).any()
    assert (found * values.target_scaler_.scale + values.target_scaler_.mean == values.predict(x)[:, None]).all()


def test_partial_fit_knows_its_classes() -> None:
    """The first call may name classes that its rows do not have."""
    one = classifier().partial_fit(x[:1], labels[:1], classes=["ash", "elm", "oak"]).partial_fit(x, labels)
    assert one.predict_proba(x).shape == (ROWS, 3)
    with pytest.raises(ValueError, match=r"unseen labels: .*; classes_ is \['ash', 'elm', 'oak'\]"):
        one.partial_fit(x[:1], ["fir"])
    one.partial_fit(x, labels, classes=["oak", "elm", "ash"])
    with pytest.raises(ValueError, match=r"those of the first fit, .*'oak'\], got \['ash', 'elm'\]"):
        one.partial_fit(x, labels, classes=["ash", "elm"])


def test_several_labels() -> None:
    """A matrix of 0 and 1 has a probability for each label, and trains as binary cross-entropy."""
    fitted = classifier(max_iter=30).fit(x, tags)
    assert fitted.predict_proba(x).shape == fitted.predict(x).shape == (ROWS, 3)
    assert ((fitted.predict_proba(x) > 0.5) == fitted.predict(x)).all()
    assert run_of(fitted) == run_of(classifier(max_iter=30).fit(x, imported("scipy.sparse").csr_matrix(tags)))
    assert fitted.score(x, tags) == (fitted.predict(x) == tags).all(axis=1).mean()
    assert run_of(fitted) == run_of(classifier(max_iter=30, loss=fn.binary_cross_entropy).fit(x, tags))
    assert fitted.task_ == fn.Multilabel()


POISSON = {"loss": "poisson"}
AS_NETWORK: list[tuple[Callable[..., Any], Any, dict[str, Any]]] = [
    (classifier, labels, {"early_stopping": True}),
    (classifier, labels, {"standardize": False, "portable": True}),
    (classifier, tags, {"dtype": np.float64, "dropout": 0.1}),
    (classifier, tags, {"network": fn.dense}),
    (regressor, 1000 * numbers, {}),
    (regressor, several, {"scale_target": False}),
    (regressor, several, {"dtype": np.float64, "activation": "tanh"}),
    (regressor, np.abs(several).round(), POISSON),
]


EACH = pytest.mark.parametrize(("make", "y", "settings"), AS_NETWORK, ids=map(str, range(len(AS_NETWORK))))
wide = x * [1, 10, 100, 1000] + 5
"""Inputs with scales of their own."""


@EACH
def test_one_network_has_the_scales(make: Any, y: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    """``as_network`` predicts as the estimator does, to rounding, also from a file."""
    given = x if "standardize" in settings else wide
    fitted = make(**settings).fit(given, y)
    fn.save(tmp_path / "net.safetensors", fitted.as_network())
    net: Any = fn.load(tmp_path / "net.safetensors")
    assert {array.dtype for array in fn.named_arrays(net).values()} == {np.dtype(fitted.dtype)}
    rows, eps = given.astype(fitted.dtype), float(np.finfo(fitted.dtype).eps)
    wanted, found = fitted.predict(given), fn.predict(net, rows, fitted.task_)
    if make is regressor:
        assert np.abs(found.reshape(y.shape) - wanted).max() <= 32 * eps * np.abs(wanted).max()
        return
    assert ((fitted.classes_[found] if y is labels else found) == wanted).all()
    assert np.abs(fn.predict_proba(net, rows, fitted.task_) - fitted.predict_proba(given)).max() <= 32 * eps


@EACH
def test_one_network_in_onnx(make: Any, y: Any, settings: dict[str, Any]) -> None:
    """onnxruntime computes probabilities, numbers, or the logarithms of rates."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    runtime: Any = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    given = x if "standardize" in settings else wide
    fitted = make(**settings).fit(given, y)
    model = fn.to_onnx(fitted.as_network(), (4,), probabilities=fitted.task_ if make is classifier else False)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: given.astype(fitted.dtype)})[0]
    wanted = fitted.predict_proba(given) if make is classifier else fitted.predict(given).reshape(found.shape)
    found = np.exp(found) if settings is POISSON else found
    assert np.abs(found - wanted).max() <= 2e-5 * np.abs(wanted).max()


def test_one_network_needs_scales_in_its_dtype() -> None:
    """A scale that float32 rounds to zero or infinity is refused, and is no problem in float64."""
    for factor in (1e-60, 1e60):
        with pytest.raises(fn.ConfigError, match="for float32; use dtype"):
            classifier().fit(factor * x, labels).as_network()
        with pytest.raises(fn.ConfigError, match="for float32; use dtype"):
            regressor().fit(x, factor * numbers).as_network()
        assert len(classifier(dtype=np.float64).fit(factor * x, labels).as_network()) == 4
    with pytest.raises(ValueError, match="not fitted"):
        classifier().as_network()


def test_one_target_or_several() -> None:
    """One target gives (N,), several give (N, O)."""
    assert regressor().fit(x, numbers).predict(x).shape == (ROWS,)
    assert regressor().fit(x, several).predict(x).shape == (ROWS, 2)
    assert regressor().fit(x, several).predict(x).dtype == np.float64


def test_targets_are_scaled() -> None:
    """The unit of the targets changes nothing but the unit of the predictions; without scaling it does."""
    one, other = regressor().fit(x, numbers), regressor().fit(x, 4 * numbers)
    assert fn.fingerprint(one.network_) == fn.fingerprint(other.network_)
    assert (4 * one.predict(x) == other.predict(x)).all()
    raw, far = (regressor(scale_target=False).fit(x, y) for y in (numbers, 4 * numbers))
    assert raw.target_scaler_ is None
    assert fn.fingerprint(raw.network_) != fn.fingerprint(far.network_)
    outputs = fn.outputs(raw.network_, scaled(raw))
    assert (raw.predict(x) == outputs[:, 0]).all()


def test_large_numbers_are_standardized_before_they_are_rounded() -> None:
    """A time in seconds since 1970 is a feature like any other."""
    far = regressor().fit(x + 2.0**31, numbers)
    assert np.allclose(far.predict(x + 2.0**31), regressor().fit(x, numbers).predict(x), rtol=1e-4)


@pytest.mark.parametrize("loss", ["poisson", fn.poisson])
def test_counts(loss: Any) -> None:
    """The Poisson loss predicts rates, and targets are not scaled."""
    counts = np.floor(2 + 4 * np.maximum(x[:, 0], 0))
    fitted = regressor(loss=loss, max_iter=60).fit(x, counts)
    assert fitted.target_scaler_ is None
    assert (fitted.predict(x) > 0).all()
    assert abs(fitted.predict(x).mean() - counts.mean()) < 0.2 * counts.mean()
    assert repr(fitted.task_) == "Rates()"
    wrong = np.where(np.arange(ROWS) == 17, -1, counts)
    with pytest.raises(fn.LabelError, match=r"y must be a count, 0 or more, got y\[17\] = -1"):
        regressor(loss=loss).fit(x, wrong, np.arange(ROWS) % 2)
    with pytest.raises(fn.LabelError, match=r"got y\[17, 1\] = -1"):
        regressor(loss=loss).fit(x, np.stack([counts, wrong], axis=1))
    regressor(loss=loss).fit(x, wrong, np.arange(ROWS) != 17)


# ---------------------------------------------------------------------------------------------- scikit-learn


def wide_net(key: fn.Key, inputs: int, outputs: int) -> fn.Network:
    """A network with one output too many."""
    return fn.dense(key, inputs, outputs + 1)


def scaled_net(key: fn.Key, inputs: int, outputs: int, net: Any = None) -> Any:
    """A network with batch norm, whose first layer is drawn, or that of a given network."""
    first = fn.dense(key.child("first"), inputs, 5) if net is None else net[0]
    return first, fn.batch_norm(5), fn.Tanh(), fn.dense(key.child("last"), 5, outputs)


def image_net(key: fn.Key, inputs: int, outputs: int) -> Any:
    """A convolution of images of 2 by 2."""
    assert inputs == 4
    conv = fn.conv2d(key.child("conv"), 1, 3, 2)
    return fn.Reshape((2, 2, 1)), conv, fn.ReLU(), fn.Flatten(), fn.dense(key.child("last"), 3, outputs)


@BOTH
@pytest.mark.parametrize("validated", [False, True])
def test_a_factory_makes_the_network(make: Any, y: Any, validated: bool) -> None:  # noqa: FBT001
    """Batch norm is calibrated on the training rows, at the end and for each validation."""
    validation = {"X_val": x, "y_val": y} if validated else {}
    fitted = make(network=scaled_net, learning_rate=0.1).fit(x, y, **validation)
    state = fitted.fit_.best if validated else fitted.fit_.state
    assert fn.equal(fitted.network_, fn.calibrate(state.params, scaled(fitted)))
    if validated:
        last: Any = fn.calibrate(fitted.fit_.state.params, scaled(fitted))
        target = ids if make is classifier else fn.forward(fitted.target_scaler_, y).astype(np.float32)
        loss: Any = fn.softmax_cross_entropy if make is classifier else fn.mean_squared_error
        assert fitted.validation_curve_[-1] == fn.evaluate(last, scaled(fitted), target, loss)
    images = make(network=image_net).fit(x, y, **validation)
    assert images.predict(x).shape == y.shape


def ids_net(key: fn.Key, _: int, outputs: int) -> Any:
    """A recurrent network for ids from 0 to 6, of which 0 is padding."""
    layers = fn.embedding(key.child(0), 7, 4), fn.gru(key.child(1), 4, 6, outputs="last")
    return fn.Masked((*layers, fn.dense(key.child(2), 6, outputs)))


@BOTH
def test_a_network_for_ids_gets_integers(make: Any, y: Any) -> None:
    """Integers of any type, lists and whole floats are ids; other floats and standardized ids are refused."""
    tokens = np.floor(7 * uniform(fn.Key(5), (len(x), 4))).astype(np.int64)
    given: list[Any] = [tokens, tokens.astype(np.uint8), tokens.tolist(), tokens.astype(np.float64)]
    settings: dict[str, Any] = {"network": ids_net, "standardize": False, "max_iter": 2}
    fitted = [make(**settings).fit(each, y, X_val=each, y_val=y) for each in given]
    assert len({fn.fingerprint(one.network_) for one in fitted}) == 1
    for each in given:
        assert (fitted[0].predict(each) == fitted[0].predict(tokens)).all()
    for each in (tokens + 0.5, tokens + 1e30):
        with pytest.raises(fn.ShapeError, match=r"^Masked: x must be integer ids \(B, T\)"):
            fitted[0].predict(each)
    with pytest.raises(fn.ConfigError, match=r"ids for an Embedding cannot be standardized; set standardize=False$"):
        make(network=ids_net).fit(tokens, y)


def test_parameters_become_layers_and_records() -> None:
    """One value serves all hidden layers, a list has one for each; records are taken as they are."""
    rates = fn.cosine_decay(0.01, steps=100)
    fitted = classifier(
        hidden_layer_sizes=[5, np.int64(3)],
        activation=["tanh", fn.LeakyReLU(0.1)],
        dropout=(0.0, 0.5),
        optimizer="momentum",
        learning_rate=rates,
        weight_decay=0.1,
        loss=fn.SoftmaxCrossEntropy(label_smoothing=0.1),
        dtype=np.float64,
        standardize=False,
    ).fit(x, ids)
    kinds = [type(layer).__name__ for layer in fitted.network_]
    assert kinds == ["Dense", "Tanh", "Dense", "LeakyReLU", "Dropout", "Dense"]
    assert fitted.fit_.state.optimizer == fn.WeightDecay(fn.Momentum(learning_rate=rates), 0.1)
    assert fitted.scaler_ is None
    assert fitted.predict_proba(x).dtype == np.float64
    assert len(classifier(hidden_layer_sizes=()).fit(x, ids).network_) == 1
    assert len(classifier(hidden_layer_sizes=7).fit(x, ids).network_[0].bias) == 7


def test_clone_keeps_records() -> None:
    """``clone`` and the parameters keep every record, and the repr names what is not a default."""
    given: dict[str, Any] = {
        "optimizer": fn.SGD(learning_rate=0.1),
        "activation": [fn.GELU(), "tanh"],
        "hidden_layer_sizes": (3, 2),
    }
    one: Any = Classifier(**given)
    for name, value in given.items():
        assert one.get_params()[name] is value
        assert repr(clone(one).get_params()[name]) == repr(value)
    assert repr(one).startswith("Classifier(activation=[GELU(), 'tanh']")
    assert "Classifier" in one._repr_html_()
    assert "GELU()" in one.fit(x, labels)._repr_html_()


@pytest.mark.slow
def test_search_over_records_in_processes(tmp_path: Path) -> None:
    """A search in two processes finds what it finds in one; the network of a factory lies in a memory map."""
    joblib.dump(fn.mlp(fn.Key(0), (4, 5)), tmp_path / "net")
    net = joblib.load(tmp_path / "net", mmap_mode="r")
    grid = {
        "optimizer": [fn.Adam(learning_rate=0.01), fn.SGD(learning_rate=0.1)],
        "network": [None, partial(scaled_net, net=net)],
        "learning_rate": [0.001],
    }
    one, two = (search(classifier(), grid, cv=2, n_jobs=jobs).fit(x, labels) for jobs in (1, 2))
    assert (one.cv_results_["mean_test_score"] == two.cv_results_["mean_test_score"]).all()
    assert run_of(one.best_estimator_) == run_of(two.best_estimator_)


def test_tables() -> None:
    """A DataFrame gives names of features, which later tables must have; a pipeline may pass tables on."""
    pandas: Any = pytest.importorskip("pandas", reason="pandas is not installed")
    table = pandas.DataFrame(x, columns=list("abcd"))
    fitted = classifier().fit(table, pandas.Series(labels))
    assert fitted.feature_names_in_.tolist() == list("abcd")
    assert run_of(fitted) == run_of(classifier().fit(x, labels))
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(table.rename(columns={"a": "z"}))
    pipeline = make_pipeline(scaler_of_sklearn(), classifier()).set_output(transform="pandas").fit(table, labels)
    assert pipeline[-1].feature_names_in_.tolist() == list("abcd")
    assert pipeline.score(table, labels) > 0.3


@pytest.mark.parametrize("has_tqdm", [True, False])
def test_progress(has_tqdm: bool, monkeypatch: Any, capsys: Any) -> None:  # noqa: FBT001
    """``verbose`` shows a bar on stderr, or prints a line for each epoch, and changes no bit."""
    if has_tqdm:
        pytest.importorskip("tqdm", reason="tqdm is not installed")
    else:
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    fitted = classifier(verbose=True, early_stopping=True).fit(x, labels)
    out, err = capsys.readouterr()
    assert run_of(fitted) == run_of(classifier(early_stopping=True).fit(x, labels))
    shown = err if has_tqdm else out.splitlines()[-1]
    assert f"6/6{'' if has_tqdm else ': '}" in shown
    assert f"loss {fitted.loss_:.6g}, validation {fitted.validation_curve_[-1]:.6g}" in shown


# ------------------------------------------------------------------------------------------------- refusals

Bad = tuple[Callable[..., Any], dict[str, Any], str]
BAD: list[Bad] = [
    (
        classifier,
        {"hidden_layer_sizes": (5, 0)},
        "Classifier: a size in hidden_layer_sizes must be an int of at least 1",
    ),
    (
        regressor,
        {"hidden_layer_sizes": 2.5},
        "Regressor: hidden_layer_sizes must be an int or a list of ints, got 2.5",
    ),
    (
        classifier,
        {"hidden_layer_sizes": iter([5, 4])},
        "hidden_layer_sizes must be an int or a list of ints, got <list_it",
    ),
    (classifier, {"activation": "rleu"}, "activation must be 'identity' or .* got 'rleu'"),
    (classifier, {"activation": "sigmoid"}, "got 'sigmoid'; the name is 'logistic'"),
    (classifier, {"activation": ["relu", "tanh"]}, "activation must be one value, or one for each of the 1 hidden"),
    (classifier, {"activation": fn.ReLU}, r"use ReLU\(\)"),
    (classifier, {"dropout": 1.0}, "rate must be a number in"),
    (classifier, {"dropout": (0.1, 0.1)}, "dropout must be one value, .* got 2 values"),
    (classifier, {"dropout": np.array([0.1, 0.1])}, "dropout must be one value, .* got 2 values"),
    (
        classifier,
        {"dropout": 0.5, "network": fn.dense},
        "dropout has no effect on network, got dropout=0.5; add fn.Drop",
    ),
    (
        classifier,
        {"network": wide_net},
        r"must map rows \(4,\) to rows \(3,\), got rows \(4,\)",
    ),
    (
        classifier,
        {"network": fn.mlp(fn.Key(0), (4, 3))},
        "network must be a function .*; use network=lambda key, inputs",
    ),
    (regressor, {"network": fn.mlp}, r"called as network\(key, inputs, outputs\), which .* does not accept: too many"),
    (
        classifier,
        {"network": scaled_net, "dtype": np.float64},
        r"must be float64, got float32; set",
    ),
    (classifier, {"standardize": "yes"}, "standardize must be True or False, got 'yes'"),
    (classifier, {"loss": "hinge"}, "loss must be 'log_loss', got 'hinge'"),
    (regressor, {"loss": "log_loss"}, "loss must be 'squared_error' or .* got 'log_loss'"),
    (classifier, {"optimizer": "lbfgs"}, "optimizer must be 'sgd' or .* got 'lbfgs'"),
    (classifier, {"optimizer": fn.SGD(learning_rate=0.1)}, r"learning_rate has no effect on SGD\(.*; pass the rate"),
    (classifier, {"optimizer": fn.AdamW}, r"optimizer, got a class; use AdamW\(learning_rate=0.001\)"),
    (classifier, {"optimizer": "adamw"}, r"got 'adamw'; use fn.AdamW\(learning_rate=0.001\)"),
    (classifier, {"learning_rate": -1.0}, "learning_rate must be a number in"),
    (classifier, {"weight_decay": -1.0}, "Classifier: weight_decay must be a number in"),
    (classifier, {"batch_size": 0}, r"batch_size \(or 'auto'\) must be an int of at least 1, got 0"),
    (classifier, {"batch_size": "all"}, "batch_size .* got 'all'"),
    (classifier, {"max_iter": 0}, "max_iter must be an int of at least 1, got 0"),
    (classifier, {"shuffle": None}, "shuffle must be True or False"),
    (classifier, {"early_stopping": 1}, "early_stopping must be True or False"),
    (classifier, {"validation_fraction": 1.0}, "validation_fraction must be a number in"),
    (
        classifier,
        {"validation_fraction": 0.001, "early_stopping": True},
        "early_stopping cannot hold out validation_fraction=0.001 of 50 rows: held_out must be from 1 to 49",
    ),
    (classifier, {"n_iter_no_change": 0}, "n_iter_no_change must be an int of at least 1"),
    (classifier, {"n_iter_no_change": 2.5}, "n_iter_no_change must be an int of at least 1"),
    (classifier, {"tol": -1e-4}, "tol must be a number in"),
    (classifier, {"warm_start": "no"}, "warm_start must be True or False"),
    (classifier, {"random_state": -1}, "seed must be an int from 0"),
    (classifier, {"random_state": "a"}, "'a' cannot be used to seed"),
    (
        classifier,
        {"random_state": fn.Key(0)},
        r"Classifier: random_state must be an int, a RandomState or None, got Key\(",
    ),
    (classifier, {"random_state": np.random.default_rng(0)}, "an int, a RandomState or None, got Generator"),
    (classifier, {"portable": 1}, "portable must be True or False"),
    (
        classifier,
        {"portable": True, "dtype": np.float64},
        "portable=True is for dtype=np.float32, got dtype=np.float64",
    ),
    (classifier, {"dtype": np.float16}, "dtype must be np.float32 or np.float64"),
    (classifier, {"class_weight": {"fir": 1.0}}, "not in class_weight"),
    (
        classifier,
        {"class_weight": {"ash": 0.0, "elm": -1.0}},
        "class_weight must have finite weights of 0 or more, got {",
    ),
    (classifier, {"class_weight": {"ash": np.nan}}, "class_weight must have finite weights of 0 or more, got {"),
    (classifier, {"class_weight": {"ash": np.inf}}, "class_weight must have finite weights of 0 or more, got {"),
    (
        classifier,
        {"class_weight": dict.fromkeys(["ash", "elm", "oak"], 0.0)},
        "Classifier: class_weight must be above 0 for at least one row, got only zeros",
    ),
    (regressor, {"scale_target": 0}, "scale_target must be True or False"),
]


def learned(estimator: Any) -> dict[str, Any]:
    """The fitted attributes."""
    attributes = cast("dict[str, Any]", vars(estimator))
    return {name: value for name, value in attributes.items() if name.endswith("_")}


@pytest.mark.parametrize(
    ("make", "settings", "message"), BAD, ids=[f"{next(iter(case[1]))}-{i}" for i, case in enumerate(BAD)]
)
def test_invalid_parameters(make: Any, settings: dict[str, Any], message: str) -> None:
    """The constructor takes anything, as in scikit-learn; ``fit`` names the parameter and changes nothing."""
    y = labels if make is classifier else numbers
    fitted = make(warm_start=True).fit(x, y)
    for estimator in (fitted, make()):
        before = learned(estimator)
        estimator.set_params(warm_start=False).set_params(**settings)
        with pytest.raises(ValueError, match=message):
            estimator.fit(x, y)
        assert learned(estimator) == before


def test_a_failed_fit_changes_nothing() -> None:
    """The parameters of the earlier run are kept as well, so a warm start can continue it."""
    fitted = classifier(warm_start=True).fit(x, labels)
    before = cast("dict[str, Any]", vars(fitted)).copy()
    fitted.set_params(warm_start=False, hidden_layer_sizes=(5, 0))
    with pytest.raises(ValueError, match="a size in hidden_layer_sizes"):
        fitted.fit(x, labels)
    assert vars(fitted.set_params(warm_start=True, hidden_layer_sizes=(5,))) == before


def test_invalid_calls() -> None:
    """Each message says what a call lacks, or what it has too much of."""
    warm = classifier(warm_start=True).fit(x, labels)
    many = classifier(warm_start=True).fit(x, tags)
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: classifier().predict(x), "not fitted"),
        (lambda: classifier().fit(x, labels, X_val=x), "X_val and y_val must be given together"),
        (
            lambda: classifier().fit(x, labels, sample_weight_val=np.ones(ROWS)),
            "sample_weight_val has no effect without X_val",
        ),
        (
            lambda: classifier().fit(x, labels, np.zeros(ROWS)),
            "Classifier: sample_weight must be above 0 for at least one row",
        ),
        (
            lambda: classifier().fit(x, labels, X_val=x, y_val=labels, sample_weight_val=np.zeros(ROWS)),
            "Classifier: sample_weight_val must be above 0 for at least one row",
        ),
        (
            lambda: classifier(class_weight={"ash": 0.0}).fit(
                x, labels, X_val=x[labels == "ash"], y_val=labels[labels == "ash"]
            ),
            "Classifier: class_weight for y_val must be above 0 for at least one row",
        ),
        (
            lambda: classifier().fit(x, labels, -np.ones(ROWS)),
            r"Classifier: sample_weight must be 0 or more, got sample_weight\[0\] = -1.0",
        ),
        (lambda: classifier().fit(x, labels, np.ones(3)), "inconsistent numbers of samples"),
        (lambda: classifier().fit(x, np.zeros(ROWS)), "at least 2 classes, got 1 class: 0.0"),
        (
            lambda: classifier(early_stopping=True).fit(x, np.where(np.arange(ROWS) == 3, "fir", labels)),
            "at least 2 rows of each class, got 1 of class 'fir'",
        ),
        (lambda: regressor(early_stopping=True).fit(x[:2], several[:2]), "validation_fraction=0.1 of 2 rows: held_out"),
        (lambda: classifier().fit(x, 1 + tags), r"y must be 0 or 1 for each label, got y\[\d+, \d\] = 2"),
        (lambda: classifier().fit(x, numbers), "Unknown label type"),
        (lambda: classifier().fit(x, tags + ids[:, None]), "use MultiOutputClassifier"),
        (lambda: classifier(early_stopping=True).partial_fit(x, labels), "set early_stopping=False"),
        (lambda: classifier(class_weight="balanced").partial_fit(x, labels), "needs all rows"),
        (lambda: classifier(class_weight="balanced").fit(x, tags), "use sample_weight"),
        (lambda: warm.fit(x, labels, X_val=x, y_val=labels), "validation rows in each of its fits"),
        (lambda: warm.fit(x, tags), r"y must be for Multiclass\(\) as in the first fit"),
        (lambda: many.fit(x, tags[:, :2]), "must have 3 columns as in the first fit, got 2"),
        (lambda: warm.fit(x[:, :2], labels), "expecting 4 features"),
        (lambda: classifier(standardize=False).fit(x, labels).predict(1e300 * x), r"too large for dtype\('float32'\)"),
        (lambda: regressor(warm_start=True).fit(x, several).fit(x, numbers), "must have 2 columns .* got 1"),
        (lambda: classifier(optimizer="sgd", learning_rate=1e38).fit(1e6 * x, labels), "the loss is nan"),
    ]
    for call, message in cases:
        with np.errstate(over="ignore", invalid="ignore"), pytest.raises(ValueError, match=message):
            call()


CHANGES: list[dict[str, Any]] = [
    {"hidden_layer_sizes": (64,)},
    {"activation": "tanh"},
    {"network": fn.dense},
    {"dropout": 0.5},
    {"standardize": False},
    {"loss": fn.SoftmaxCrossEntropy(label_smoothing=0.1)},
    {"optimizer": "sgd"},
    {"learning_rate": 0.5},
    {"weight_decay": 0.1},
    {"random_state": 4},
    {"portable": True},
    {"dtype": np.float64},
]


@pytest.mark.parametrize("change", [*CHANGES, {"scale_target": False}], ids=lambda each: next(iter(each)))
def test_a_run_keeps_its_parameters(change: dict[str, Any]) -> None:
    """A warm start or ``partial_fit`` refuses a change that it cannot make; predictions do not depend on it."""
    make, y = (regressor, numbers) if "scale_target" in change else (classifier, labels)
    name = next(iter(change))
    fitted = pickled(make(warm_start=True).fit(x, y))
    before, wanted = learned(fitted), fitted.predict(x)
    fitted.set_params(**change)
    assert (fitted.predict(x) == wanted).all()
    with pytest.raises(fn.ConfigError, match=f"warm_start continues a run with {name}=.*warm_start=False begins a new"):
        fitted.fit(x, y)
    with pytest.raises(fn.ConfigError, match=f"partial_fit continues a run with {name}="):
        fitted.partial_fit(x, y)
    assert learned(fitted) == before
    assert fitted.set_params(warm_start=False).fit(x, y).set_params(warm_start=True).fit(x, y).n_iter_ == 2 * EPOCHS


def test_equal_parameters_are_no_change() -> None:
    """Lists, NumPy numbers and equal records are the same parameters; other settings may change."""
    one = classifier(hidden_layer_sizes=[5], activation=[fn.GELU()], dtype=np.float32, warm_start=True).fit(x, labels)
    one.set_params(hidden_layer_sizes=np.array([5]), activation=(fn.GELU(),), dtype=np.dtype(np.float32))
    one.set_params(learning_rate=np.float64(0.01), weight_decay=0, batch_size=7, shuffle=False, tol=1.0)
    assert one.fit(x, labels).n_iter_ == 2 * EPOCHS
    layer = fn.Standardize(mean=np.zeros(5, np.float32), scale=np.ones(5, np.float32))
    given: dict[str, Any] = {"activation": layer, "dropout": np.array([0.5]), "loss": fn.SoftmaxCrossEntropy()}
    one = pickled(
        classifier(warm_start=True, optimizer=fn.AdamW(0.1), **SMALL | {"learning_rate": 0.001} | given).fit(x, labels)
    )
    again = {
        "activation": pickled(layer),
        "dropout": [0.5],
        "loss": fn.SoftmaxCrossEntropy(),
        "optimizer": fn.AdamW(0.1),
    }
    assert one.set_params(**again).fit(x, labels).n_iter_ == 2 * EPOCHS


def test_arrays_in_parameters_are_compared() -> None:
    """A layer or a factory with other arrays, which has the same repr, is another parameter."""
    one, scale = classifier(warm_start=True), np.ones(5, np.float32)
    one.set_params(activation=fn.Standardize(mean=0 * scale, scale=scale)).fit(x, labels)
    with pytest.raises(fn.ConfigError, match="warm_start continues a run with activation="):
        one.set_params(activation=fn.Standardize(mean=scale, scale=scale)).fit(x, labels)
    first, second = (partial(scaled_net, net=fn.mlp(fn.Key(seed), (4, 5))) for seed in (0, 1))
    one = classifier(warm_start=True, network=first).fit(x, labels)
    with pytest.raises(fn.ConfigError, match="warm_start continues a run with network="):
        one.set_params(network=second).fit(x, labels)
    assert pickled(one.set_params(network=first)).fit(x, labels).n_iter_ == 2 * EPOCHS


def test_the_arithmetic_is_a_parameter() -> None:
    """Without ``portable``, a fit is native in every place, such as in the main process and in those of a search."""
    wanted = run_of(classifier().fit(x, labels))
    with fn.portable():
        assert run_of(classifier().fit(x, labels)) == wanted
        assert run_of(classifier(dtype=np.float64).fit(x, labels)) != wanted


def test_the_task_of_counts_has_a_name() -> None:
    """A fingerprint and a file can hold it, as any task."""
    task: Any = regressor(loss="poisson").fit(x, np.abs(numbers)).task_
    assert fn.fingerprint(task) != fn.fingerprint(fn.Regression())
    assert named("funcnet.Rates") is type(task)


def test_patience_without_end() -> None:
    """``n_iter_no_change=np.inf`` never stops."""
    assert classifier(tol=1e9, n_iter_no_change=np.inf, max_iter=30).fit(x, labels).n_iter_ == 30


@BOTH
@pytest.mark.parametrize("unit", [2.0**-900, 2.0**900])
def test_the_unit_of_weights(make: Any, y: Any, unit: float) -> None:
    """Weights of rows and of classes have no unit: float32 need not hold them."""
    weight = 1.0 + np.arange(ROWS) % 3
    wanted = run_of(make().fit(x, y, weight))
    assert run_of(make().fit(x, y, unit * weight)) == wanted
    if make is classifier:
        share = {"ash": 1.0, "elm": 2.5, "oak": 1.0}
        many = {name: unit * each for name, each in share.items()}
        assert run_of(make(class_weight=many).fit(x, y)) == run_of(make(class_weight=share).fit(x, y))


def test_sparse_inputs() -> None:
    """The message says what a pipeline can do."""
    with pytest.raises(TypeError, match=r"X must be dense, got a sparse csr_.*OneHotEncoder\(sparse_output=False\)"):
        classifier().fit(imported("scipy.sparse").csr_matrix(x), labels)


def interrupting(step: int) -> float:
    """A schedule that the user interrupts in the third epoch."""
    if step >= 10:
        raise KeyboardInterrupt
    return 0.01


def test_an_interrupted_fit_keeps_its_epochs() -> None:
    """Ctrl-C ends a fit after the last complete epoch; in the first epoch, it changes nothing."""
    one = classifier(learning_rate=interrupting)
    with pytest.warns(UserWarning, match="interrupted"):
        one.fit(x, labels)
    assert one.n_iter_ == 2
    with pytest.raises(KeyboardInterrupt):
        classifier(learning_rate=interrupting, batch_size=1).fit(x, labels)


# ---------------------------------------------------------------------------------------------- from_sklearn


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_from_sklearn(activation: str, dtype: Any) -> None:
    """The network has the probabilities and numbers of the model: the same bits, but for SciPy's logistic function."""
    ulps = 0 if activation != "logistic" else 4
    given = x.astype(dtype)

    def fitted(make: Any, y: Any) -> tuple[Any, Any]:
        model = make(hidden_layer_sizes=(6, 5), activation=activation, max_iter=5, random_state=0).fit(given, y)
        return model, fn.from_sklearn(model)

    model, net = fitted(models.MLPClassifier, ids)
    near(fn.predict_proba(net, given, fn.Multiclass()), model.predict_proba(given), ulps)
    assert {array.dtype for array in fn.trained_arrays(net)} == {np.dtype(dtype)}
    model, net = fitted(models.MLPClassifier, ids > 0)
    near(fn.predict_proba(net, given, fn.Binary()), model.predict_proba(given)[:, 1], 4)
    model, net = fitted(models.MLPClassifier, tags)
    near(fn.predict_proba(net, given, fn.Multilabel()), model.predict_proba(given), 4)
    model, net = fitted(models.MLPRegressor, several)
    near(fn.predict(net, given, fn.Regression()), model.predict(given), ulps)


def near(found: Any, wanted: Any, ulps: int) -> None:
    """Assert equal dtypes, and equal bits up to a number of roundings of 1."""
    assert found.dtype == wanted.dtype
    assert np.abs(found - wanted).max() <= ulps * np.finfo(wanted.dtype).eps * max(1, np.abs(wanted).max())


def test_from_sklearn_refuses() -> None:
    """Another model, or an MLP that is not fitted, is refused by name."""
    with pytest.raises(fn.ConfigError, match="must be an MLPClassifier or an MLPRegressor, got StandardScaler"):
        fn.from_sklearn(scaler_of_sklearn())
    with pytest.raises(ValueError, match="MLPClassifier instance is not fitted"):
        fn.from_sklearn(models.MLPClassifier())


def test_without_scikit_learn(monkeypatch: Any) -> None:
    """The module says what to install."""
    monkeypatch.setitem(sys.modules, "sklearn.utils.validation", None)
    monkeypatch.delitem(sys.modules, "funcnet.interop.sklearn")
    with pytest.raises(ImportError, match=r"scikit-learn 1.6 or newer is needed; use pip install 'scikit-learn>=1.6'"):
        import_module("funcnet.interop.sklearn")
