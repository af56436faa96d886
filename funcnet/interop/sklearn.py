"""scikit-learn: networks as its estimators (``Classifier``, ``Regressor``), and networks from its fitted MLPs.

An estimator is one call of ``fn.fit`` behind scikit-learn's methods. Its attributes are the values of that call: the
trained network is ``network_``, and the whole run is ``fit_``, which ``warm_start`` continues.

joblib and skops keep a fitted estimator. ``fn.save(path, model.as_network(), notes=...)`` keeps its network with the
scales, and the notes can name the classes. ``fn.save(path, model.fit_)`` keeps the run, without the scales and the
classes.
"""

# ruff: noqa: N803  # X is scikit-learn's name
# scikit-learn has no types:
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedBaseClass=false, reportUnnecessaryTypeIgnoreComment=false

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from attrs import define, evolve, field, frozen
from numpy.typing import ArrayLike, NDArray

import funcnet as fn
from funcnet.arithmetic import exp, log
from funcnet.core.checks import check_flag, to_python
from funcnet.core.names import register_name
from funcnet.core.records import Settings
from funcnet.interop.sklearn_parameters import (
    ACTIVATIONS,
    REGRESSION_LOSSES,
    ClassWeight,
    RegressionLoss,
    named,
)
from funcnet.network.loss import Loss

try:
    from sklearn.base import ClassifierMixin, RegressorMixin
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.preprocessing import LabelEncoder
    from sklearn.utils import Tags, column_or_1d
    from sklearn.utils.class_weight import compute_class_weight
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import check_is_fitted

    from funcnet.interop.sklearn_estimator import Estimator, Rows, rescaled, without_zero_weights
except ImportError as error:
    raise ImportError("scikit-learn 1.6 or newer is needed; use pip install 'scikit-learn>=1.6'") from error


@define(slots=False, eq=False, repr=False)
class Classifier(ClassifierMixin, Estimator):  # type: ignore[misc]  # scikit-learn has no types
    """A scikit-learn classifier whose model is a network: one class for each row, or any number of labels.

    Parameters have the names of ``MLPClassifier`` where they have its meaning. In contrast to it, inputs are
    standardized, validation compares the loss, and a warm start continues with the bits of an uninterrupted run.

    Args:
        hidden_layer_sizes: The number of units of each hidden layer.
        activation: A name (``"relu"``, ``"tanh"``, ``"logistic"``, ``"identity"``, ``"leaky_relu"``, ``"elu"``,
            ``"gelu"``, ``"silu"``, ``"softplus"``) or a layer (``fn.LeakyReLU(0.1)``), or one for each hidden layer.
        network: A function ``(key, in_size, out_size) -> network`` that replaces the two parameters above. The network
            returns a logit for each class. Its dtype is ``dtype``. For dropout, add ``fn.Dropout`` in the function. If
            it begins with an ``fn.Embedding``, X holds ids, as integers or whole floats, and ``standardize`` must be
            False.
        dropout: The share of each hidden layer's outputs that is dropped in training, or one for each layer.
        standardize: Give each feature the mean 0 and the variance 1, by the statistics of the training rows.
        loss: ``"log_loss"``, or a loss of funcnet on logits, such as ``fn.SoftmaxCrossEntropy(label_smoothing=0.1)``.
        class_weight: How much each class counts, or ``"balanced"``. It multiplies ``sample_weight``.
        optimizer: A name (``"adam"``, ``"sgd"``, ``"momentum"``, ``"nesterov"``, ``"rmsprop"``, ``"adagrad"``), or an
            optimizer with its own learning rate, such as ``fn.AdamW(learning_rate=0.01)``.
        learning_rate: The rate of an optimizer that is given by its name: a number or a schedule.
        weight_decay: The rate of decoupled weight decay. (The ``alpha`` of ``MLPClassifier`` is a penalty instead.)
        batch_size: The number of rows in a batch, at most all rows; ``"auto"`` is 200.
        max_iter: The maximum number of epochs of a fit. A fit that reaches it does not warn; compare ``n_iter_``.
        shuffle: Draw a new order of the rows for each epoch.
        early_stopping: Hold out rows, of each class its share, and keep the network of the epoch with the lowest loss
            on them. Without it and without ``X_val``, the last network is kept.
        validation_fraction: The share of the rows to hold out.
        n_iter_no_change: Stop after this number of epochs in which the loss did not improve: the validation loss, or
            without validation rows the mean training loss. ``np.inf`` never stops.
        tol: The minimum improvement, in total over these epochs. (``MLPClassifier`` also stops if each epoch improves
            by less than ``tol``.)
        warm_start: Continue the earlier fit, for ``max_iter`` further epochs, rather than begin a new one. The network,
            the scales, the loss, the optimizer and the random state must be those of the first fit.
        random_state: An int names the draws of ``key = fn.Key(random_state)``: layers are drawn from ``key`` as in
            ``fn.mlp``, the order of epoch i from ``key.child("shuffle", i)``, held-out rows from
            ``key.child("validation")``, and dropout as in ``fn.TrainState`` with this key. A ``RandomState``, or None
            for NumPy's global one, draws such an int.
        portable: Compute with the same bits on every machine. False is native, also inside ``fn.portable()``.
        dtype: The dtype of the network. Inputs are standardized in float64 before they are rounded to it.
        verbose: Show the progress, with tqdm if it is installed.

    Attributes:
        network_: The network, on standardized inputs.
        scaler_: The layer that standardizes, or None.
        task_: What the outputs mean: ``fn.Multiclass()`` or ``fn.Multilabel()``.
        classes_: The labels of the classes, in the order of the outputs.
        fit_: The whole run, a ``fn.Fit``, without the scales and the classes.
        n_iter_: The number of epochs, with those of the fits that a warm start continued.
        loss_: The mean training loss of the last epoch.
        loss_curve_: The mean training loss of each epoch.
        validation_curve_: The validation loss after each epoch, or None.
        best_iter_: The position of the kept epoch in the curves, or None without validation.
        n_outputs_: The number of outputs.
        n_features_in_: The number of features.
        feature_names_in_: Their names, if X has text as names of its columns.

    Example:
        >>> from sklearn.datasets import load_wine
        >>> X, y = load_wine(return_X_y=True)
        >>> classifier = Classifier(learning_rate=0.01, max_iter=20, random_state=0).fit(X, y)
        >>> classifier.score(X, y) > 0.9
        True

        This is the same run without scikit-learn:

        >>> key, scaler, uniform = fn.Key(0), fn.standardize(X), fn.initializers.glorot_uniform
        >>> x = fn.forward(scaler, X).astype(np.float32)
        >>> net = fn.mlp(key, (13, 100, 3), init=uniform, bias_init=uniform)
        >>> state = fn.TrainState.create(net, fn.Adam(learning_rate=0.01), key=key)
        >>> *_, run = fn.fit(
        ...     fn.train_step(fn.softmax_cross_entropy),
        ...     fn.Fit.create(state),
        ...     lambda epoch: fn.minibatches(x, y, 178, key=key.child("shuffle", epoch)),  # 178 rows are one batch
        ...     epochs=20,
        ...     patience=10,
        ...     min_delta=1e-4,
        ... )
        >>> fn.fingerprint(run) == fn.fingerprint(classifier.fit_)
        True
    """

    loss: Literal["log_loss"] | Loss[NDArray[np.integer]] | Loss[fn.Array] = field(default="log_loss", kw_only=True)
    class_weight: ClassWeight | None = field(default=None, kw_only=True)

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on these rows. The first rows determine how inputs are standardized.

        Args:
            X: The inputs, shape (N, I).
            y: The targets, as in ``fit``.
            classes: All classes, in the first call. None means the classes of its y. Later calls may repeat them.
            sample_weight: How much each row counts, shape (N,).
        """
        if isinstance(self.class_weight, str):
            raise self._error("class_weight='balanced' needs all rows; for partial_fit, give a weight for each class")
        if classes is not None and hasattr(self, "classes_") and not np.array_equal(np.unique(classes), self.classes_):
            got = f"got {np.unique(classes).tolist()!r:.80}"
            raise self._error(f"classes must be those of the first fit, {self.classes_.tolist()!r:.80}, {got}")
        return self._partial_fit(X, y, sample_weight, classes)

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:
        """Return the most probable class of each row, (N,), or 0 or 1 for each label, (N, O)."""
        x = self._new_inputs(X)
        with self._arithmetic():
            if isinstance(self.task_, fn.Multilabel):
                return fn.predict(self.network_, x, self.task_).astype(np.int64)
            return self.classes_[fn.predict(self.network_, x, self.task_)]

    def predict_proba(self, X: ArrayLike) -> fn.Array:
        """Return the probability of each of ``classes_``, or of each label, (N, O)."""
        x = self._new_inputs(X)
        with self._arithmetic():
            return fn.predict_proba(self.network_, x, self.task_)

    def predict_log_proba(self, X: ArrayLike) -> fn.Array:
        """Return the logarithm of ``predict_proba``, (N, O)."""
        probabilities = self.predict_proba(X)
        with self._arithmetic(), np.errstate(divide="ignore"):
            return log(probabilities)

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy. With several labels, a row is correct if all of its labels are."""
        return float(super().score(X, y, sample_weight))

    def _learn_targets(self, y: NDArray[Any], classes: ArrayLike | None) -> int:
        self.task_ = self._task(y)
        labels = np.arange(y.shape[1]) if isinstance(self.task_, fn.Multilabel) else column_or_1d(y, warn=True)
        self.classes_: NDArray[np.generic] = np.unique(labels if classes is None else classes)
        if len(self.classes_) < 2:
            raise self._error(f"y must have at least 2 classes, got 1 class: {to_python(self.classes_[0])!r}")
        return len(self.classes_)

    def _task(self, y: NDArray[Any]) -> fn.Multiclass | fn.Multilabel:
        check_classification_targets(y)
        kind: str = type_of_target(y, input_name="y")
        if kind == "multiclass-multioutput":
            fix = "use MultiOutputClassifier(Classifier())"
            raise self._error(f"y must have one class for each row, or a column of 0 and 1 for each label; {fix}")
        return fn.Multilabel() if kind == "multilabel-indicator" else fn.Multiclass()

    def _targets(self, y: NDArray[Any], positions: NDArray[np.intp]) -> NDArray[Any]:
        task = self._task(y)
        if task != self.task_:
            raise self._error(f"y must be for {self.task_} as in the first fit, got y for {task}")
        if isinstance(task, fn.Multiclass):
            column = column_or_1d(y)
            try:
                ids: NDArray[np.intp] = LabelEncoder().fit(self.classes_).transform(column)
            except ValueError as error:
                raise self._error(f"{error}; classes_ is {self.classes_.tolist()!r:.80}") from error
            return ids
        if y.shape[1] != self.n_outputs_:
            raise self._error(f"y must have {self.n_outputs_} columns as in the first fit, got {y.shape[1]}")
        self._check_targets(y, positions, (y == 0) | (y == 1), "0 or 1 for each label")
        return np.ascontiguousarray(y, self.dtype)

    def _loss(self) -> Loss[Any]:
        is_multilabel = isinstance(self.task_, fn.Multilabel)
        log_loss = fn.binary_cross_entropy if is_multilabel else fn.softmax_cross_entropy
        return named(type(self).__name__, "loss", self.loss, {"log_loss": log_loss})

    def _weighted(self, rows: Rows, held: Rows | None) -> tuple[Rows, Rows | None]:
        if self.class_weight is None:
            return rows, held
        if isinstance(self.task_, fn.Multilabel):
            raise self._error("class_weight is for one class in each row; for labels, use sample_weight")
        given = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[rows.y])
        if not (np.isfinite(given).all() and (given >= 0).all()):
            raise self._error(f"class_weight must have finite weights of 0 or more, got {self.class_weight!r:.80}")
        factors = rescaled(given)

        def weighted(rows: Rows, what: str) -> Rows:
            weight = factors[rows.y] if rows.weight is None else factors[rows.y] * rows.weight
            return without_zero_weights(type(self).__name__, what, evolve(rows, weight=weight))

        return weighted(rows, "class_weight"), None if held is None else weighted(held, "class_weight for y_val")

    def _split(self, rows: Rows, key: fn.Key) -> tuple[Rows, Rows]:
        single = np.flatnonzero(np.bincount(rows.y) == 1) if isinstance(self.task_, fn.Multiclass) else np.arange(0)
        if len(single):
            name, fix = to_python(self.classes_[single[0]]), "merge it with another class, or leave it out"
            what = f"early_stopping (validation_fraction={self.validation_fraction})"
            raise self._error(f"{what} needs at least 2 rows of each class, got 1 of class {name!r}; {fix}")
        return super()._split(rows, key)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@frozen
class Rates(Settings):
    """The task of a ``Regressor`` with the Poisson loss: outputs are logarithms, and predictions are rates.

    ONNX has no such task: export the logarithms.

    Example:
        >>> Rates().predictions(np.array([[0.0]]))
        array([[1.]])
    """

    def predictions(self, outputs: fn.Array, /) -> fn.Array:
        """Return the rates. Shapes: outputs and result (N, O)."""
        with np.errstate(over="ignore"):
            return exp(fn.Regression().predictions(outputs))


register_name(Rates, "funcnet.Rates")


@define(slots=False, eq=False, repr=False)
class Regressor(RegressorMixin, Estimator):  # type: ignore[misc]  # scikit-learn has no types
    """A scikit-learn regressor whose model is a network: one or several numbers for each row.

    The other parameters and attributes are those of ``Classifier``.

    Args:
        loss: ``"squared_error"``, ``"absolute_error"``, ``"huber"``, ``"poisson"`` for counts, whose network returns
            the logarithm of the rate, or a loss of funcnet.
        scale_target: Train on targets with the mean 0 and the variance 1, and return predictions in the units of y. It
            does not apply to ``"poisson"``. The loss, its settings (such as Huber's delta) and the curves are in these
            units.

    Attributes:
        target_scaler_: The layer that standardizes targets, or None.
        task_: ``fn.Regression()``, or after ``"poisson"`` ``Rates()``, whose outputs are the logarithms of rates.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> regressor = Regressor(loss="huber", max_iter=20, random_state=0).fit(X, y)
        >>> regressor.score(X, y) > 0.4
        True
        >>> y0 = fn.outputs(regressor.network_, fn.forward(regressor.scaler_, X[:1]).astype(np.float32))[:, 0]
        >>> y0 * regressor.target_scaler_.scale + regressor.target_scaler_.mean == regressor.predict(X[:1])
        array([ True])
    """

    loss: RegressionLoss = field(default="squared_error", kw_only=True)
    scale_target: bool = field(default=True, kw_only=True)

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train for one epoch on these rows. The first rows determine how inputs and targets are standardized.

        Args:
            X: The inputs, shape (N, I).
            y: The targets, shape (N,) or (N, O).
            sample_weight: How much each row counts, shape (N,).
        """
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the predictions in the units of the targets, (N,) or (N, O)."""
        x = self._new_inputs(X)
        with self._arithmetic():
            y = fn.predict(self.network_, x, self.task_).astype(np.float64)
        if self.target_scaler_ is not None:
            y = y * self.target_scaler_.scale + self.target_scaler_.mean
        return y[:, 0] if self.n_outputs_ == 1 else y

    def as_network(self) -> tuple[fn.Network, ...]:  # noqa: D102  # inherited
        net, scaler = super().as_network(), self.target_scaler_
        if scaler is None:
            return net
        with np.errstate(over="ignore"):
            inverse = fn.Standardize(mean=-scaler.mean / scaler.scale, scale=1 / scaler.scale)
        return *net, self._cast(inverse)

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return R², the share of the targets' variance that is predicted."""
        return float(super().score(X, y, sample_weight))

    def _check(self) -> None:
        super()._check()
        check_flag(type(self).__name__, "scale_target", self.scale_target)

    def _learn_targets(self, y: NDArray[Any], classes: ArrayLike | None) -> int:  # noqa: ARG002  # of classifiers
        self.task_ = Rates() if self._loss() is fn.poisson else fn.Regression()
        return 1 if y.ndim == 1 else y.shape[1]

    def _targets(self, y: NDArray[Any], positions: NDArray[np.intp]) -> NDArray[Any]:
        columns = column_or_1d(y, warn=True)[:, None] if y.ndim == 1 or y.shape[1] == 1 else y
        if columns.shape[1] != self.n_outputs_:
            raise self._error(f"y must have {self.n_outputs_} columns as in the first fit, got {columns.shape[1]}")
        if self.task_ == Rates():
            self._check_targets(columns, positions, columns >= 0, "a count, 0 or more")
        return columns.astype(np.float64)

    def _loss(self) -> Loss[Any]:
        return named(type(self).__name__, "loss", self.loss, REGRESSION_LOSSES)

    def _learn_scales(self, rows: Rows) -> None:
        super()._learn_scales(rows)
        is_scaled = self.scale_target and self.task_ == fn.Regression()
        self.target_scaler_ = fn.standardize(rows.y, weight=rows.weight) if is_scaled else None

    def _scaled(self, rows: Rows) -> Rows:
        y = rows.y if self.target_scaler_ is None else fn.forward(self.target_scaler_, rows.y)
        return evolve(super()._scaled(rows), y=np.ascontiguousarray(y, self.dtype))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def from_sklearn(model: MLPClassifier | MLPRegressor) -> tuple[fn.Layer, ...]:
    """Return the network of a fitted ``MLPClassifier`` or ``MLPRegressor``, with its arrays and in its dtype.

    The network returns what the model returns before its output activation. The task of ``fn.predict`` is
    ``fn.Multiclass()`` for three classes or more, ``fn.Binary()`` for two, ``fn.Multilabel()`` for labels, and
    ``fn.Regression()`` for a regressor, whose outputs are logarithms if its loss is ``"poisson"``. The predictions of
    up to 256 rows then have the model's bits. Only the logistic function, which two classes and labels also have as
    their output activation, differs in the last digit: SciPy computes it for scikit-learn.

    Args:
        model: The fitted model. For a search or a pipeline, pass the MLP inside it.

    Raises:
        ConfigError: If the model is not one of the two.
        NotFittedError: If it is not fitted; scikit-learn raises it.

    Example:
        >>> X, y = np.array([[0.0], [1.0], [2.0]]), np.array([0, 1, 2])
        >>> model = MLPClassifier((4,), solver="lbfgs", random_state=0).fit(X, y)
        >>> net = from_sklearn(model)
        >>> net
        (Dense(weight=float64 (1, 4), bias=float64 (4,)), ReLU(), Dense(weight=float64 (4, 3), bias=float64 (3,)))
        >>> bool((fn.predict_proba(net, X, fn.Multiclass()) == model.predict_proba(X)).all())
        True
    """
    if not isinstance(model, MLPClassifier | MLPRegressor):
        fix = "pass the fitted MLP inside it"
        reason = f"model must be an MLPClassifier or an MLPRegressor, got {type(model).__name__}; {fix}"
        raise fn.ConfigError(reason, subject="from_sklearn")
    check_is_fitted(model)
    layers: list[fn.Layer] = []
    for weight, bias in zip(model.coefs_, model.intercepts_, strict=True):
        layers += [fn.Dense(weight=weight, bias=bias), ACTIVATIONS[model.activation]]
    return tuple(layers[:-1])
