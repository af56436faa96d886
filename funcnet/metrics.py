"""Metrics: pure functions of predictions and targets, without gradients.

The prediction is the first argument, as in a loss; in scikit-learn it is the second. A metric, such as
``fn.metrics.mse``, returns a float or an array, whereas a loss returns a value and its gradient.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args, overload

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.arithmetic import log, mean, mean_rows, sum_all
from funcnet.core.arrays import Array, Labels
from funcnet.core.checks import INFINITY, check_array, check_count, check_finite, check_labels, check_size, to_python
from funcnet.core.errors import ConfigError, NonFiniteError

Average: TypeAlias = Literal["binary", "macro", "micro", "weighted"]
"""How to average the values of the classes."""

Scores: TypeAlias = NDArray[np.float64]
"""One value per class: shape (O,), float64."""

MATRIX_CLASSES: Final = 2**15
MOST_CLASSES: Final = 2**24

# -------------------------------------------------------------------------------------------------- class ids


def accuracy(predicted_ids: Labels, labels: Labels) -> float:
    """Return the share of predictions that are correct. Shapes: both (B,).

    Raises:
        ShapeError, DTypeError, LabelError: If an argument is not a vector of class ids.
        ConfigError: If the vectors are empty.

    Example:
        >>> accuracy(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 0]))
        0.75
    """
    count = _check_ids("accuracy", predicted_ids, labels, None)
    return float(np.count_nonzero(predicted_ids == labels)) / count


def confusion_matrix(predicted_ids: Labels, labels: Labels, *, classes: int | None = None) -> NDArray[np.int64]:
    """Count how often each class is predicted for each true class: a row per true class, a column per predicted class.

    Args:
        predicted_ids: Class ids, shape (B,).
        labels: The true class ids, shape (B,).
        classes: The number of classes, O. None means 1 plus the largest id in both arrays.

    Returns:
        Counts, shape (O, O).

    Raises:
        ShapeError, DTypeError, LabelError: If an argument is not a vector of class ids below ``classes``.
        ConfigError: If the vectors are empty, or if classes is not from 1 to 32768.

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
    """Return the share of the predictions of a class that are correct: correct / predicted.

    Args:
        predicted_ids: Class ids, shape (B,).
        labels: The true class ids, shape (B,).
        average: ``"macro"`` is the mean over the classes. ``"weighted"`` weights that mean by the number of labels of
            each class. ``"micro"`` counts all classes together, which gives the accuracy. ``"binary"`` is the value of
            class 1 of two. None gives one value per class.
        classes: The number of classes, O. None means 1 plus the largest id in both arrays; ``"macro"`` then omits the
            classes that occur in neither, as scikit-learn does.
        zero_division: The value, 0 or 1, of a class whose denominator is 0. There is no warning.

    Returns:
        A float, or, with ``average=None``, an array of shape (O,).

    Raises:
        ShapeError, DTypeError, LabelError: If an argument is not a vector of class ids below ``classes``.
        ConfigError: If the vectors are empty, or if a setting is invalid.

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
    """Return the share of the labels of a class that are predicted correctly: correct / actual.

    See ``precision`` for the settings.

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
    """Return the harmonic mean of a class's precision and recall: 2 correct / (predicted + actual).

    ``"macro"`` is the mean of the values of the classes, not the harmonic mean of the averages. See ``precision`` for
    the settings.

    Example:
        >>> predicted_ids, labels = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
        >>> f1(predicted_ids, labels, average=None).round(3), round(f1(predicted_ids, labels), 3)
        (array([0.667, 0.8  ]), 0.733)
    """
    counts = _count("f1", predicted_ids, labels, average, classes)
    return _averaged("f1", 2 * counts.right, counts.predicted + counts.actual, counts, average, zero_division)


@frozen(eq=False)
class _Counts:
    """The counts of each class. Shapes: (O,)."""

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
    if classes is None and size > MOST_CLASSES:
        fix = "use np.unique(ids, return_inverse=True) to number the classes from 0"
        raise ConfigError(f"1 plus the largest id must be at most {MOST_CLASSES}, got {size}; {fix}", subject=name)
    if average == "binary":
        if size > 2:
            fix = "use 'macro' for the mean over the classes, or None for one value per class"
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
    zero_division = to_python(zero_division)
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
    """Check predicted ids and labels, and return the number of rows."""
    if classes is not None:
        classes = check_size(name, "classes", classes)
    count = len(labels) if isinstance(labels, np.ndarray) and labels.ndim else 0
    check_labels(name, "labels", labels, count, classes)
    check_labels(name, "predicted_ids", predicted_ids, count, classes)
    check_count(name, "the number of labels", count)
    return count


def _classes(predicted_ids: Labels, labels: Labels) -> int:
    return 1 + max(int(predicted_ids.max()), int(labels.max()))


# ------------------------------------------------------------------------------------ scores and probabilities


def top_k_accuracy(scores: Array, labels: Labels, *, k: int) -> float:
    """Return the share of rows whose label is among the k classes with the largest scores.

    Of equal scores, the first ones count as larger; in scikit-learn, the last ones do. With k = 1 the result is the
    accuracy of ``predict``.

    Args:
        scores: Logits or probabilities, shape (B, O).
        labels: Class ids from 0 to O - 1, shape (B,).
        k: From 1 to O.

    Raises:
        ShapeError, DTypeError, LabelError: If scores or labels have the wrong type, shape, dtype or range.
        NonFiniteError: If a score is NaN or infinite. The message names the first.
        ConfigError: If there are no rows, or if k is not from 1 to O.

    Example:
        >>> scores = np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]])
        >>> top_k_accuracy(scores, np.array([2, 1]), k=2)
        0.5
    """
    name = "top_k_accuracy"
    rows, classes = _check_scores(name, "scores", scores, labels)
    k = check_count(name, "k", k, high=classes)
    column = labels.astype(np.intp)[:, None]
    own = np.take_along_axis(scores, column, axis=1)
    ahead = (scores > own) | ((scores == own) & (np.arange(classes) < column))
    return float(np.count_nonzero(np.count_nonzero(ahead, axis=1) < k)) / rows


def log_loss(probabilities: Array, labels: Labels) -> float:
    """Return the mean of ``-log p[label]`` for *probabilities*.

    A probability below the dtype's ``eps`` (1.2e-7 or 2.2e-16) counts as ``eps``, as in scikit-learn. For logits, use
    the value of ``softmax_cross_entropy``, which is exact.

    Args:
        probabilities: Rows that sum to 1, shape (B, O), such as the result of ``predict_proba``.
        labels: Class ids from 0 to O - 1, shape (B,).

    Raises:
        ShapeError, DTypeError, LabelError: If an argument has the wrong type, shape, dtype or range.
        NonFiniteError: If a probability is NaN or infinite. The message names the first.
        ConfigError: If there are no rows, or if a row does not hold probabilities. The message names the row.

    Example:
        >>> round(log_loss(np.array([[0.9, 0.1], [0.5, 0.5]]), np.array([0, 1])), 6)
        0.399254
    """
    name = "log_loss"
    rows, classes = _check_scores(name, "probabilities", probabilities, labels)
    with np.errstate(over="ignore"):  # an infinite sum is not 1, so it is refused below
        sums = mean_rows(probabilities.T) * classes
    eps = float(np.finfo(probabilities.dtype).eps)
    bad = (np.minimum.reduce(probabilities, axis=1) < 0) | (np.abs(sums - 1) > np.sqrt(eps))
    if bad.any():
        first = int(bad.argmax())
        fix = "for logits use softmax_cross_entropy; predict_proba gives probabilities"
        got = f"got probabilities[{first}] = {probabilities[first]} with sum {sums[first]:.6g}"
        raise ConfigError(f"each row must be nonnegative and sum to 1, {got}; {fix}", subject=name)
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
    """Return the mean squared error over all elements. Shapes: both (B, ...), exactly the same.

    Each argument may be float32 or float64. The result is computed in float64.

    Raises:
        ShapeError, DTypeError: If the arguments differ in shape or are not floats.
        NonFiniteError: If a number or the error is NaN or infinite.
        ConfigError: If the arguments are empty.

    Example:
        >>> mse(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
        2.0
    """
    error = _error("mse", predicted, target)
    return _mean("mse", _square(error))


def mae(predicted: Array, target: Array) -> float:
    """Return the mean absolute error over all elements. Shapes and errors: the same as those of ``mse``.

    Example:
        >>> mae(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
        1.0
    """
    return _mean("mae", np.abs(_error("mae", predicted, target)))


def r2(predicted: Array, target: Array) -> float:
    """Return R squared: 1 - mean squared error / variance of the target.

    1 is a perfect prediction; 0 is as good as predicting the target's mean. For several outputs, the result is the mean
    of their values. A constant target gives 1 if the prediction matches it exactly, or else 0.

    Args:
        predicted: Shape (B, ...), float32 or float64.
        target: The same shape.

    Raises:
        ShapeError, DTypeError: If the arguments differ in shape or are not floats.
        NonFiniteError: If a number or the result is NaN or infinite.
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
    """Return R squared of one output. Shapes: both (B,), float64."""
    variance = _mean("r2", _square(target - _mean("r2", target)))
    if not variance or target.min() == target.max():
        return 0.0 if error.any() else 1.0
    return 1 - _mean("r2", _square(error)) / variance


def _error(name: str, predicted: Array, target: Array) -> Array:
    """Check the arguments, and return the prediction minus the target in float64."""
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
    """Return the mean. Raise if it overflows."""
    with np.errstate(over="ignore"):
        value = mean(values) if np.isfinite(values).all() else INFINITY
    if not -INFINITY < value < INFINITY:
        raise NonFiniteError("the result overflows float64; the numbers are too large", subject=name)
    return value
