"""Metrics: pure functions of predictions and targets that nobody differentiates.

The prediction comes first, as in a loss (scikit-learn has it second). A metric returns a float or an array; it is
``fn.metrics.mse`` that measures, and a loss that returns a value with its gradient.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args, overload

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.arithmetic import log, mean, mean_rows, sum_all
from funcnet.core.arrays import Array, Labels
from funcnet.core.checks import INFINITY, check_array, check_count, check_finite, check_labels, check_size
from funcnet.core.errors import ConfigError, NonFiniteError

Average: TypeAlias = Literal["binary", "macro", "micro", "weighted"]
"""How the values of the classes become one."""

Scores: TypeAlias = NDArray[np.float64]
"""A value a class, shape (O,), float64."""

MATRIX_CLASSES: Final = 2**15

# -------------------------------------------------------------------------------------------------- class ids


def accuracy(predicted_ids: Labels, labels: Labels) -> float:
    """The share of predictions that are right. Shapes: both (B,).

    Raises:
        ShapeError, DTypeError, LabelError: If an argument is no vector of class ids.
        ConfigError: If the vectors are empty.

    Example:
        >>> accuracy(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 0]))
        0.75
    """
    count = _check_ids("accuracy", predicted_ids, labels, None)
    return float(np.count_nonzero(predicted_ids == labels)) / count


def confusion_matrix(predicted_ids: Labels, labels: Labels, *, classes: int | None = None) -> NDArray[np.int64]:
    """How often each class is taken for each: a row a true class, a column a predicted one.

    Args:
        predicted_ids: Class ids, shape (B,).
        labels: The true ones, shape (B,).
        classes: The number of classes, O; None: the largest id of both, and 1.

    Returns:
        Counts, shape (O, O).

    Raises:
        ShapeError, DTypeError, LabelError: If an argument is no vector of ids of classes.
        ConfigError: If the vectors are empty, or classes is not from 1 to 32768.

    Example:
        >>> confusion_matrix(np.array([0, 2, 2, 1]), np.array([0, 1, 2, 1]))
        array([[1, 0, 0],
               [0, 1, 1],
               [0, 0, 1]])
    """
    name = "confusion_matrix"
    _check_ids(name, predicted_ids, labels, classes)
    size = _classes(predicted_ids, labels) if classes is None else int(classes)
    check_count(name, "classes", size, high=MATRIX_CLASSES)
    pairs = labels.astype(np.int64) * size + predicted_ids.astype(np.int64)
    return np.bincount(pairs, minlength=size * size).astype(np.int64, copy=False).reshape(size, size)


@overload
def precision(
    predicted_ids: Labels,
    labels: Labels,
    *,
    average: Average = "macro",
    classes: int | None = None,
    zero_division: float = 0.0,
) -> float: ...
@overload
def precision(
    predicted_ids: Labels, labels: Labels, *, average: None, classes: int | None = None, zero_division: float = 0.0
) -> Scores: ...
def precision(
    predicted_ids: Labels,
    labels: Labels,
    *,
    average: Average | None = "macro",
    classes: int | None = None,
    zero_division: float = 0.0,
) -> float | Scores:
    """Of what is taken for a class, the share that is of it: right / predicted.

    Args:
        predicted_ids: Class ids, shape (B,).
        labels: The true ones, shape (B,).
        average: ``"macro"`` is the mean over the classes, ``"weighted"`` that mean weighted by how often a class is
            true, ``"micro"`` counts all classes together, which is the accuracy, ``"binary"`` is class 1 of two; None:
            a value a class.
        classes: The number of classes, O; None: the largest id of both, and 1, and ``"macro"`` leaves out the classes
            that occur in neither, as scikit-learn does.
        zero_division: The value of a class for which there is nothing to divide by: 0 or 1. There is no warning.

    Returns:
        A float; with ``average=None`` an array, shape (O,).

    Raises:
        ShapeError, DTypeError, LabelError: If an argument is no vector of ids of classes.
        ConfigError: If the vectors are empty, or a setting is none.

    Source: van Rijsbergen, Information Retrieval, 1979, chapter 7.

    Example:
        >>> predicted_ids, labels = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
        >>> precision(predicted_ids, labels, average=None).round(3)
        array([1.   , 0.667])
        >>> round(precision(predicted_ids, labels), 3)
        0.833
    """
    counts = _count("precision", predicted_ids, labels, average, classes)
    return _averaged("precision", counts.right, counts.predicted, counts, average, zero_division)


@overload
def recall(
    predicted_ids: Labels,
    labels: Labels,
    *,
    average: Average = "macro",
    classes: int | None = None,
    zero_division: float = 0.0,
) -> float: ...
@overload
def recall(
    predicted_ids: Labels, labels: Labels, *, average: None, classes: int | None = None, zero_division: float = 0.0
) -> Scores: ...
def recall(
    predicted_ids: Labels,
    labels: Labels,
    *,
    average: Average | None = "macro",
    classes: int | None = None,
    zero_division: float = 0.0,
) -> float | Scores:
    """Of what is of a class, the share that is taken for it: right / actual. See ``precision`` for the settings.

    Example:
        >>> predicted_ids, labels = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
        >>> recall(predicted_ids, labels, average=None), recall(predicted_ids, labels)
        (array([0.5, 1. ]), 0.75)
    """
    counts = _count("recall", predicted_ids, labels, average, classes)
    return _averaged("recall", counts.right, counts.actual, counts, average, zero_division)


@overload
def f1(
    predicted_ids: Labels,
    labels: Labels,
    *,
    average: Average = "macro",
    classes: int | None = None,
    zero_division: float = 0.0,
) -> float: ...
@overload
def f1(
    predicted_ids: Labels, labels: Labels, *, average: None, classes: int | None = None, zero_division: float = 0.0
) -> Scores: ...
def f1(
    predicted_ids: Labels,
    labels: Labels,
    *,
    average: Average | None = "macro",
    classes: int | None = None,
    zero_division: float = 0.0,
) -> float | Scores:
    """The harmonic mean of a class's precision and recall: 2 right / (predicted + actual).

    ``"macro"`` is the mean of the classes' values, not the harmonic mean of the averages. See ``precision`` for the
    settings.

    Example:
        >>> predicted_ids, labels = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
        >>> f1(predicted_ids, labels, average=None).round(3), round(f1(predicted_ids, labels), 3)
        (array([0.667, 0.8  ]), 0.733)
    """
    counts = _count("f1", predicted_ids, labels, average, classes)
    return _averaged("f1", 2 * counts.right, counts.predicted + counts.actual, counts, average, zero_division)


@frozen(eq=False)
class _Counts:
    """Of each class. Shapes: (O,)."""

    right: NDArray[np.intp]
    predicted: NDArray[np.intp]
    actual: NDArray[np.intp]
    chosen: NDArray[np.bool_]
    rows: int


def _count(name: str, predicted_ids: Labels, labels: Labels, average: Average | None, classes: int | None) -> _Counts:
    if average is not None and not (isinstance(average, str) and average in get_args(Average)):
        wanted = f"one of {', '.join(map(repr, get_args(Average)))} or None"
        raise ConfigError(f"average must be {wanted}, got {average!r}", subject=name)
    rows = _check_ids(name, predicted_ids, labels, classes)
    size = _classes(predicted_ids, labels) if classes is None else int(classes)
    if average == "binary":
        if size > 2:
            fix = "'macro' is the mean over the classes, None a value a class"
            raise ConfigError(f"average='binary' is for classes 0 and 1, got {size} classes; {fix}", subject=name)
        size = 2
    ids = predicted_ids.astype(np.intp), labels.astype(np.intp)
    predicted, actual, right = (np.bincount(each, minlength=size) for each in (*ids, ids[1][ids[0] == ids[1]]))
    return _Counts(right, predicted, actual, (predicted + actual > 0) | (classes is not None), rows)


def _averaged(  # noqa: PLR0917
    name: str,
    numerator: NDArray[np.intp],
    denominator: NDArray[np.intp],
    counts: _Counts,
    average: Average | None,
    zero_division: float,
) -> float | Scores:
    is_number = isinstance(zero_division, int | float) and not isinstance(zero_division, bool)
    if not is_number or zero_division not in (0, 1):
        raise ConfigError(f"zero_division must be 0 or 1, got {zero_division!r}", subject=name)
    values = np.full(len(numerator), zero_division, np.float64)
    np.divide(numerator, denominator, out=values, where=denominator > 0)
    if average is None:
        return values
    if average == "binary":
        return float(values[1])
    if average == "macro":
        return mean(values[counts.chosen])
    if average == "weighted":
        return sum_all(values * counts.actual) / counts.rows
    return sum_all(counts.right.astype(np.float64)) / counts.rows


def _check_ids(name: str, predicted_ids: Labels, labels: Labels, classes: int | None) -> int:
    """The number of rows."""
    if classes is not None:
        check_size(name, "classes", classes)
    count = len(labels) if isinstance(labels, np.ndarray) and labels.ndim else 0
    check_labels(name, "labels", labels, count, classes)
    check_labels(name, "predicted_ids", predicted_ids, count, classes)
    check_count(name, "the number of labels", count)
    return count


def _classes(predicted_ids: Labels, labels: Labels) -> int:
    return 1 + max(int(predicted_ids.max()), int(labels.max()))


# ------------------------------------------------------------------------------------------- a value a class


def top_k_accuracy(scores: Array, labels: Labels, *, k: int) -> float:
    """The share of rows whose label is among the k classes of the largest scores, the first of equals.

    With k = 1 it is the accuracy of ``predict``. (Of equal scores, scikit-learn takes the last.)

    Args:
        scores: Logits or probabilities, shape (B, O).
        labels: Class ids from 0 to O - 1, shape (B,).
        k: From 1 to O.

    Raises:
        ShapeError, DTypeError, LabelError: If scores or labels are none of these.
        NonFiniteError: If a score is NaN or infinite; says which.
        ConfigError: If there is no row, or k is not from 1 to O.

    Example:
        >>> scores = np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]])
        >>> top_k_accuracy(scores, np.array([2, 1]), k=2)
        0.5
    """
    name = "top_k_accuracy"
    rows, classes = _check_scores(name, "scores", scores, labels)
    check_count(name, "k", k, high=classes)
    column = labels.astype(np.intp)[:, None]
    own = np.take_along_axis(scores, column, axis=1)
    ahead = (scores > own) | ((scores == own) & (np.arange(classes) < column))
    return float(np.count_nonzero(np.count_nonzero(ahead, axis=1) < k)) / rows


def log_loss(probabilities: Array, labels: Labels) -> float:
    """The mean of ``-log p[label]``, from *probabilities*.

    A probability below the dtype's ``eps`` counts as ``eps``, as with scikit-learn: 1.2e-7 or 2.2e-16. For logits, take
    the value of ``softmax_cross_entropy``, which is exact.

    Args:
        probabilities: Shape (B, O), each row's sum 1, such as ``predict_proba`` gives.
        labels: Class ids from 0 to O - 1, shape (B,).

    Raises:
        ShapeError, DTypeError, LabelError: If an argument is none of these.
        NonFiniteError: If a probability is NaN or infinite; says which.
        ConfigError: If there is no row, or a row holds no probabilities; says which.

    Example:
        >>> round(log_loss(np.array([[0.9, 0.1], [0.5, 0.5]]), np.array([0, 1])), 6)
        0.399254
    """
    name = "log_loss"
    rows, classes = _check_scores(name, "probabilities", probabilities, labels)
    with np.errstate(over="ignore"):  # a sum that is too large is none of 1
        sums = mean_rows(probabilities.T) * classes
    eps = float(np.finfo(probabilities.dtype).eps)
    bad = (np.minimum.reduce(probabilities, axis=1) < 0) | (np.abs(sums - 1) > np.sqrt(eps))
    if bad.any():
        first = int(bad.argmax())
        fix = "logits are for softmax_cross_entropy, predict_proba gives probabilities"
        got = f"got probabilities[{first}] = {probabilities[first]} with sum {sums[first]:.6g}"
        raise ConfigError(f"each row must be 0 or more and have sum 1, {got}; {fix}", subject=name)
    chosen = probabilities[np.arange(rows), labels]
    return -mean(log(np.maximum(chosen, probabilities.dtype.type(eps))))


def _check_scores(name: str, what: str, scores: Array, labels: Labels) -> tuple[int, int]:
    check_array(name, what, scores, ("B", "O"))
    rows, classes = scores.shape
    check_count(name, "the number of rows", rows)
    check_count(name, "the number of classes", classes)
    check_labels(name, "labels", labels, rows, classes)
    check_finite(name, what, scores)
    return rows, classes


# ------------------------------------------------------------------------------------------------- regression


def mse(predicted: Array, target: Array) -> float:
    """The mean squared error, over all elements. Shapes: both (B, ...), exactly the same.

    Either may be float32 or float64; it is computed in float64.

    Raises:
        ShapeError, DTypeError: If the arguments differ in shape, or are no floats.
        NonFiniteError: If a number, or the error, is NaN or infinite.
        ConfigError: If there is nothing.

    Example:
        >>> mse(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
        2.0
    """
    error = _error("mse", predicted, target)
    return _mean("mse", _square(error))


def mae(predicted: Array, target: Array) -> float:
    """The mean absolute error, over all elements. Shapes: both (B, ...), exactly the same. It checks as ``mse`` does.

    Example:
        >>> mae(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
        1.0
    """
    return _mean("mae", np.abs(_error("mae", predicted, target)))


def r2(predicted: Array, target: Array) -> float:
    """R squared: 1 - mean squared error / variance of the target. 1 is perfect; 0 is as good as the target's mean.

    Of several outputs, the mean of each one's. A target that never changes has 1 if it is met exactly, else 0.

    Args:
        predicted: Shape (B, ...), float32 or float64.
        target: The same shape.

    Raises:
        ShapeError, DTypeError: If the arguments differ in shape, or are no floats.
        NonFiniteError: If a number, or the result, is NaN or infinite.
        ConfigError: If there are fewer than two rows.

    Example:
        >>> r2(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]))
        0.5
    """
    error = _error("r2", predicted, target)
    rows = len(target)
    check_count("r2", "the number of rows", rows, low=2)
    outputs = zip(error.reshape(rows, -1).T, target.astype(np.float64).reshape(rows, -1).T, strict=True)
    return _mean("r2", np.array([_determination(*pair) for pair in outputs]))


def _determination(error: Array, target: Array) -> float:
    """R squared of one output. Shapes: both (B,), float64."""
    variance = _mean("r2", _square(target - _mean("r2", target)))
    if not variance or target.min() == target.max():
        return 0.0 if error.any() else 1.0
    return 1 - _mean("r2", _square(error)) / variance


def _error(name: str, predicted: Array, target: Array) -> Array:
    """What is predicted minus what should be, in float64."""
    check_array(name, "predicted", predicted, ("B", "..."))
    check_array(name, "target", target, predicted.shape, match=("predicted", predicted))
    check_count(name, "the number of elements", predicted.size)
    check_finite(name, "predicted", predicted)
    check_finite(name, "target", target)
    with np.errstate(over="ignore"):
        return np.subtract(predicted, target, dtype=np.float64)


def _square(a: Array) -> Array:
    with np.errstate(over="ignore"):
        return a * a


def _mean(name: str, values: Array) -> float:
    """The mean, if it is a number."""
    with np.errstate(over="ignore"):
        value = mean(values) if np.isfinite(values).all() else INFINITY
    if not -INFINITY < value < INFINITY:
        raise NonFiniteError("the result is beyond float64; the numbers are too large", subject=name)
    return value
