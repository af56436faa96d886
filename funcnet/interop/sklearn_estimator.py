"""What the estimators in ``sklearn.py`` share: their parameters, the check of rows, and the run."""

# ruff: noqa: N803  # X is scikit-learn's name
# scikit-learn has no types:
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedBaseClass=false, reportUnnecessaryTypeIgnoreComment=false

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, Literal, Self, TypeAlias, cast

import numpy as np
from attrs import define, evolve, field
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, is_regressor
from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

import funcnet as fn
from funcnet.arithmetic import using
from funcnet.core.checks import INFINITY, check_count, check_flag, check_number, to_python
from funcnet.core.trees import float_dtype
from funcnet.interop.sklearn_parameters import (
    KEPT,
    RATE,
    Activation,
    NetworkFactory,
    OptimizerName,
    canonical,
    is_same,
    made,
    multilayer_perceptron,
    optimizer_of,
)
from funcnet.layers.embedding import takes_ids
from funcnet.network.loss import Loss

Run: TypeAlias = fn.Fit[fn.TrainState[fn.Network]]
Rows: TypeAlias = fn.Batch[NDArray[Any]]

_BATCH: Final = 200
_INTEGERS: Final = tuple(map(np.dtype, np.typecodes["AllInteger"]))


@define(slots=False, eq=False, repr=False)
class Estimator(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """The parameters and the run, which both estimators share.

    ``define`` writes ``__init__``, which stores the parameters as they are given; ``clone`` reads its signature.
    """

    hidden_layer_sizes: int | Sequence[int] = (100,)
    activation: Activation | Sequence[Activation] = "relu"
    network: NetworkFactory | None = field(default=None, kw_only=True)
    dropout: float | Sequence[float] = field(default=0.0, kw_only=True)
    standardize: bool = field(default=True, kw_only=True)
    optimizer: OptimizerName | fn.Optimizer = field(default="adam", kw_only=True)
    learning_rate: float | fn.Schedule = field(default=RATE, kw_only=True)
    weight_decay: float = field(default=0.0, kw_only=True)
    batch_size: int | Literal["auto"] = field(default="auto", kw_only=True)
    max_iter: int = field(default=200, kw_only=True)
    shuffle: bool = field(default=True, kw_only=True)
    early_stopping: bool = field(default=False, kw_only=True)
    validation_fraction: float = field(default=0.1, kw_only=True)
    n_iter_no_change: float = field(default=10, kw_only=True)
    tol: float = field(default=1e-4, kw_only=True)
    warm_start: bool = field(default=False, kw_only=True)
    random_state: int | np.random.RandomState | None = field(default=None, kw_only=True)
    portable: bool = field(default=False, kw_only=True)
    dtype: fn.FloatDType = field(default=np.float32, kw_only=True)
    verbose: bool = field(default=False, kw_only=True)

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train for ``max_iter`` epochs, or until early stopping. With ``warm_start``, continue the earlier run.

        A fit that fails leaves the estimator unchanged. A fit that the user interrupts (Ctrl-C) keeps its completed
        epochs.

        Args:
            X: The inputs, shape (N, I): an array, a DataFrame or a list of rows.
            y: The targets, shape (N,) or (N, O).
            sample_weight: How much each row counts, shape (N,). Rows of weight 0 are left out.
            X_val: Inputs to validate on after each epoch, instead of a share of X.
            y_val: Their targets.
            sample_weight_val: Their weights.

        Raises:
            ConfigError: If a parameter is invalid, or is not that of the run which a warm start continues.
            ValueError: If the rows are invalid. Every error of funcnet is a ``ValueError``.
            NonFiniteError: If training diverges; the message has the step.
        """
        self._check()
        if (X_val is None) != (y_val is None):
            raise self._error("X_val and y_val must be given together, got one of them")
        if X_val is None and sample_weight_val is not None:
            raise self._error("sample_weight_val has no effect without X_val; give X_val and y_val, or leave it out")
        with _all_or_nothing(self):
            run: Run | None = self.fit_ if self.warm_start and hasattr(self, "fit_") else None
            self._keep_or_compare("warm_start", run)
            rows = self._rows(X, y, sample_weight, is_first=run is None)
            what = "sample_weight_val"
            held = None if X_val is None else self._rows(X_val, y_val, sample_weight_val, is_first=False, what=what)
            given = to_python(self.n_iter_no_change)
            patience = None if given == INFINITY else cast("int", given)
            self._train(run, rows, held, epochs=self.max_iter, patience=patience)
        return self

    def _partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, classes: ArrayLike | None = None
    ) -> Self:
        self._check()
        if self.early_stopping:
            raise self._error("partial_fit does not validate; set early_stopping=False")
        with _all_or_nothing(self):
            run: Run | None = getattr(self, "fit_", None)
            self._keep_or_compare("partial_fit", run)
            rows = self._rows(X, y, sample_weight, is_first=run is None, classes=classes)
            self._train(run, rows, None, epochs=1, patience=None)
        return self

    def as_network(self) -> tuple[fn.Network, ...]:
        """Return one network from inputs to outputs, with the scaling of inputs and targets, in the dtype.

        ``fn.save`` and ``fn.to_onnx`` take it, and ``task_`` says what its outputs mean. Its predictions agree with
        those of the estimator to rounding, unless large inputs differ little: times in seconds since 1970 lose their
        last digits in float32. The estimator standardizes in float64, which is why ``scaler_`` and ``network_`` are
        two values.

        Raises:
            NotFittedError: If the estimator is not fitted; scikit-learn raises it.
            ConfigError: If a mean or a scale is too large or too small for the dtype.

        Example:
            >>> model = fn.estimators.Classifier((3,), random_state=0).fit(np.eye(2), np.array([0, 1]))
            >>> [type(layer).__name__ for layer in model.as_network()]
            ['Standardize', 'Dense', 'ReLU', 'Dense']
        """
        check_is_fitted(self)
        net: tuple[fn.Network, ...] = self.network_ if isinstance(self.network_, tuple) else (self.network_,)
        return net if self.scaler_ is None else (self._cast(self.scaler_), *net)

    def _cast(self, scaler: fn.Standardize) -> fn.Standardize:
        layer = fn.astype(scaler, self._kept["dtype"].type)
        if not (np.isfinite(layer.mean).all() and np.isfinite(layer.scale).all() and layer.scale.all()):
            reason = "as_network: a mean or a scale of the data is too large or too small for float32"
            raise self._error(f"{reason}; use dtype=np.float64")
        return layer

    # ------------------------------------------------------------------------------- from parameters to values

    def _error(self, reason: str) -> fn.ConfigError:
        return fn.ConfigError(reason, subject=type(self).__name__)

    def _check(self) -> None:
        """Check the parameters that no function of funcnet takes. scikit-learn expects this in ``fit``."""
        name = type(self).__name__
        for flag in ("standardize", "shuffle", "early_stopping", "warm_start", "portable"):
            check_flag(name, flag, getattr(self, flag))
        check_count(name, "max_iter", self.max_iter)
        if to_python(self.n_iter_no_change) != INFINITY:
            check_count(name, "n_iter_no_change", self.n_iter_no_change)
        if self.batch_size != "auto":
            check_count(name, "batch_size (or 'auto')", self.batch_size)
        check_number(name, "validation_fraction", self.validation_fraction, low=0, high=1)
        check_number(name, "tol", self.tol, low=0, high=INFINITY, closed=True)
        check_number(name, "weight_decay", self.weight_decay, low=0, high=INFINITY, closed=True)
        if float_dtype(self.dtype) == np.float64 and self.portable:
            raise self._error("portable=True is for dtype=np.float32, got dtype=np.float64; set one of the two")

    def _keep_or_compare(self, call: str, run: Run | None) -> None:
        """Keep the parameters of a new run; refuse changes of those that an earlier run keeps."""
        given = {name: canonical(getattr(self, name)) for name in KEPT if hasattr(self, name)}
        if run is None:
            self._kept: dict[str, Any] = given
            return
        for name, value in given.items():
            if not is_same(value, self._kept[name]):
                was, fix = f"{name}={self._kept[name]!r:.80}", "fit with warm_start=False begins a new one"
                raise self._error(f"{call} continues a run with {was}, got {value!r:.80}; {fix}")

    def _arithmetic(self) -> AbstractContextManager[None]:
        """The arithmetic of the fitted run, whatever the parameters are now."""
        return using(self.fit_.state.arithmetic)

    def _new_run(self, key: fn.Key, inputs: int) -> Run:
        name, outputs = type(self).__name__, self.n_outputs_
        if self.network is not None:
            if canonical(self.dropout) != 0:
                fix = "add fn.Dropout in the function"
                raise self._error(f"dropout has no effect on network, got dropout={self.dropout!r:.80}; {fix}")
            net = made(name, self.network, key, (inputs, outputs), dtype=self.dtype)
        else:
            sizes = inputs, self.hidden_layer_sizes, outputs
            net = multilayer_perceptron(
                name, key, sizes, activation=self.activation, dropout=self.dropout, dtype=self.dtype
            )
        self._takes_ids = takes_ids(net)
        if self._takes_ids and self.standardize:
            raise self._error("ids for an Embedding cannot be standardized; set standardize=False")
        optimizer = optimizer_of(name, self.optimizer, self.learning_rate, self.weight_decay)
        return fn.Fit.create(fn.TrainState.create(net, optimizer, key=key))

    # ---------------------------------------------------------------------------------------------------- rows

    def _rows(
        self,
        X: ArrayLike,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        *,
        is_first: bool,
        classes: ArrayLike | None = None,
        what: str = "sample_weight",
    ) -> Rows:
        """Check rows as scikit-learn does, and return those that count, with targets for the loss.

        Inputs remain float64 until they are standardized: float32 would round large numbers, such as dates. Integers
        remain integers if nothing standardizes them, because the network may take ids.
        """
        dtype = np.float64 if self.standardize else (self.dtype, *_INTEGERS)
        numeric = is_regressor(self)
        x, given = _validated(self, X, y, dtype=dtype, multi_output=True, y_numeric=numeric, reset=is_first)
        given = given.toarray() if hasattr(given, "toarray") else given
        name = type(self).__name__
        weight = None if sample_weight is None else _checked_weight(name, what, sample_weight, x)
        rows = without_zero_weights(name, what, fn.Batch(x, given, weight))
        if is_first:
            self.n_outputs_ = self._learn_targets(rows.y, classes)
        positions = np.arange(len(x)) if weight is None else np.flatnonzero(weight)
        return evolve(rows, y=self._targets(rows.y, positions))

    @abstractmethod
    def _learn_targets(self, y: NDArray[Any], classes: ArrayLike | None) -> int:
        """Set what y is, and return the number of outputs that the network needs."""

    @abstractmethod
    def _targets(self, y: NDArray[Any], positions: NDArray[np.intp]) -> NDArray[Any]:
        """Return y as the loss takes it: class ids (N,), or floats (N, O). ``positions`` are for messages."""

    def _check_targets(self, y: NDArray[Any], positions: NDArray[np.intp], good: NDArray[Any], wanted: str) -> None:
        """Name the row of a target that the loss would refuse; the loss only knows its row in a batch."""
        if not good.all():
            row, *columns = np.argwhere(~good)[0]
            where = ", ".join(map(str, [positions[row], *columns] if y.shape[1] > 1 else [positions[row]]))
            reason = f"y must be {wanted}, got y[{where}] = {y[row, *columns]}"
            raise fn.LabelError(reason, subject=type(self).__name__)

    @abstractmethod
    def _loss(self) -> Loss[Any]:
        """Return the loss."""

    def _weighted(self, rows: Rows, held: Rows | None) -> tuple[Rows, Rows | None]:
        """Return training and validation rows with the weights of their classes."""
        return rows, held

    def _learn_scales(self, rows: Rows) -> None:
        self.scaler_ = fn.standardize(rows.x, weight=rows.weight) if self.standardize else None

    def _inputs(self, X: fn.Array) -> fn.Array:
        x = X if self.scaler_ is None else fn.forward(self.scaler_, X)
        with np.errstate(over="ignore"):
            return _as_ids(x) if self._takes_ids else np.ascontiguousarray(x, self._kept["dtype"])

    def _scaled(self, rows: Rows) -> Rows:
        weight: fn.Array | None = None if rows.weight is None else rows.weight.astype(self.dtype)
        return fn.Batch(self._inputs(rows.x), rows.y, weight)

    def _new_inputs(self, X: ArrayLike) -> fn.Array:
        """Return the network's inputs for the rows of a prediction."""
        check_is_fitted(self)
        dtype: object = (self._kept["dtype"], *_INTEGERS) if self.scaler_ is None else np.float64
        return self._inputs(_validated(self, X, dtype=dtype, reset=False))

    # ------------------------------------------------------------------------------------------------- the run

    def _train(self, run: Run | None, rows: Rows, held: Rows | None, *, epochs: int, patience: int | None) -> None:
        """Begin or continue a run, for ``epochs`` further epochs at most, and set the fitted attributes."""
        key = _key(type(self).__name__, self.random_state) if run is None else run.state.key
        rows, held = self._weighted(rows, held)
        with using("portable" if self.portable else "native"):
            if self.early_stopping and held is None:
                rows, held = self._split(rows, key.child("validation"))
            if run is None:
                self._learn_scales(rows)
                run = self._new_run(key, rows.x.shape[1])
            elif bool(run.values) != (held is not None):
                raise self._error("a run must have validation rows in each of its fits, or in none")
            train, validation = self._scaled(rows), None if held is None else self._scaled(held)
            run = self._last(self._runs(run, train, validation, run.epoch + epochs, patience), run.epoch + epochs)
            state = run.state if validation is None else run.best
            self.network_: fn.Network = fn.calibrate(state.params, train.x)
        self.fit_: Run = run
        self.n_iter_, self.loss_, self.loss_curve_ = run.epoch, run.losses[-1], list(run.losses)
        self.validation_curve_ = None if validation is None else list(run.values)
        self.best_iter_ = None if validation is None else run.best_epoch

    def _split(self, rows: Rows, key: fn.Key) -> tuple[Rows, Rows]:
        """Hold out validation rows, of each class its share."""
        is_classes = rows.y.ndim == 1
        try:
            return fn.split(rows.x, rows.y, self.validation_fraction, key=key, stratify=is_classes, weight=rows.weight)
        except fn.ConfigError as error:
            reason = f"early_stopping cannot hold out validation_fraction={self.validation_fraction}"
            raise self._error(f"{reason} of {len(rows.x)} rows: {error.message}") from error

    def _runs(self, run: Run, train: Rows, validation: Rows | None, epochs: int, patience: int | None) -> Iterator[Run]:
        """Return the run after each further epoch. A run that had stopped early begins to wait again."""
        size = min(_BATCH if self.batch_size == "auto" else self.batch_size, len(train.x))
        loss, key = self._loss(), run.state.key

        def data(epoch: int) -> fn.Minibatches[NDArray[Any]]:
            order = key.child("shuffle", epoch) if self.shuffle else None
            return fn.minibatches(train.x, train.y, size, key=order, weight=train.weight)

        def validate(state: fn.TrainState[fn.Network]) -> float:
            held = cast("Rows", validation)
            return fn.evaluate(fn.calibrate(state.params, train.x), held.x, held.y, loss, held.weight)

        return fn.fit(
            fn.train_step(loss),
            evolve(run, waited=0) if patience is not None and run.waited >= patience else run,
            data,
            None if validation is None else validate,
            epochs=epochs,
            patience=patience,
            min_delta=self.tol,
        )

    def _last(self, runs: Iterator[Run], epochs: int) -> Run:
        """Train, and return the run after its last epoch, or after its last complete one if the user interrupts."""
        last = None
        try:
            for run in _shown(runs, epochs) if self.verbose else runs:
                last = run
        except KeyboardInterrupt:
            if last is None:
                raise
            warnings.warn("Training interrupted by user.", stacklevel=4)
        return cast("Run", last)


@contextmanager
def _all_or_nothing(estimator: object) -> Generator[None]:
    """Restore the attributes if the block raises."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def _validated(estimator: object, X: ArrayLike, *y: ArrayLike | None, **options: object) -> Any:
    """Return the rows as scikit-learn checks them."""
    if hasattr(X, "toarray"):
        fix = "use X.toarray(), or in a pipeline OneHotEncoder(sparse_output=False)"
        reason = f"X must be dense, got a sparse {type(X).__name__}; {fix}"
        raise TypeError(f"{type(estimator).__name__}: {reason}")
    validate: Any = validate_data
    return validate(estimator, X, *y, **options)


def _key(subject: str, random_state: int | np.random.RandomState | None) -> fn.Key:
    """Return ``fn.Key(random_state)``, or a key with a seed that is drawn as elsewhere in scikit-learn."""
    seed: object = to_python(random_state)
    if isinstance(seed, fn.Key | np.random.Generator):
        reason = f"random_state must be an int, a RandomState or None, got {seed!r:.80}"
        raise fn.ConfigError(reason, subject=subject)
    return fn.Key(seed if isinstance(seed, int) else int(check_random_state(seed).randint(2**31 - 1)))


def _as_ids(x: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers as integers, which an Embedding takes; scikit-learn's encoders return floats."""
    if x.dtype.kind == "f" and ((x == np.trunc(x)) & (abs(x) < 2**53)).all():
        return np.ascontiguousarray(x, np.int64)
    return x


def _checked_weight(subject: str, what: str, sample_weight: ArrayLike, x: fn.Array) -> NDArray[np.float64]:
    check: Any = check_array
    given = check(sample_weight, ensure_2d=False, dtype=np.float64, input_name=what)
    weight: NDArray[np.float64] = column_or_1d(given)
    check_consistent_length(x, weight)
    lowest = int(weight.argmin())
    if weight[lowest] < 0:
        raise fn.ConfigError(f"{what} must be 0 or more, got {what}[{lowest}] = {weight[lowest]}", subject=subject)
    return rescaled(weight)


def rescaled(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights divided by a power of two, so that no unit of weights overflows or underflows in float32.

    No bit of a weighted mean changes.
    """
    exponent = int(np.frexp(weight.max())[1])
    return np.ldexp(weight, 1 - exponent)


def without_zero_weights(subject: str, what: str, rows: Rows) -> Rows:
    """Return the rows whose weight is not 0.

    Args:
        subject: The estimator, for messages.
        what: The parameter that gives the weights, for messages.
        rows: The rows.

    Raises:
        ConfigError: If no row has one.
    """
    weight = rows.weight
    if weight is None or weight.all():
        return rows
    counts = weight > 0
    if not counts.any():
        raise fn.ConfigError(f"{what} must be above 0 for at least one row, got only zeros", subject=subject)
    return fn.Batch(rows.x[counts], rows.y[counts], weight[counts])


def _shown(runs: Iterator[Run], epochs: int) -> Iterator[Run]:
    """Show the progress: a bar if tqdm is installed, or else a line for each epoch."""
    try:
        from tqdm.auto import tqdm  # noqa: PLC0415  # optional
    except ImportError:
        for run in runs:
            print(f"epoch {run.epoch}/{epochs}: {_losses(run)}")  # noqa: T201  # the user asked for it
            yield run
        return
    with tqdm(total=epochs, unit="epoch") as bar:
        for run in runs:
            bar.update(run.epoch - bar.n)
            bar.set_postfix_str(_losses(run))
            yield run


def _losses(run: Run) -> str:
    validation = f", validation {run.values[-1]:.6g}" if run.values else ""
    return f"loss {run.losses[-1]:.6g}{validation}"
