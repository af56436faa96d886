"""Metrics of predicted classes and labels: accuracy, confusion matrices, the Hamming loss, the Matthews correlation."""

from __future__ import annotations

from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

from funcnet.arithmetic import mean
from funcnet.core.arrays import Array
from funcnet.core.errors import ShapeError
from funcnet.metrics.counts import counts_of_classes
from funcnet.metrics.labels import Flags, Pairs, Predicted, Targets, read_pairs
from funcnet.metrics.rows import Counts, total

MATRIX_CLASSES: Final = 2**13


def accuracy(predicted: Predicted, labels: Targets, *, weight: Array | None = None) -> float:
    """Return the share of rows whose prediction is correct.

    With several labels per row, all labels of a row must be correct, as in scikit-learn; ``1 - hamming_loss`` is the
    share of correct labels.

    Args:
        predicted: Class ids or bools, shape (B,), or bools, shape (B, O).
        labels: The true class ids, or, for bools, zeros and ones. The same shape.
        weight: How much each row counts, shape (B,): scikit-learn's ``sample_weight``. None means 1.

    Raises:
        ShapeError, DTypeError, LabelError: If an argument has the wrong type, shape, dtype or range.
        ConfigError: If there are no rows, or if no weight is positive.

    Example:
        >>> accuracy(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 0]))
        0.75
        >>> accuracy(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 0]), weight=np.array([1.0, 1.0, 1.0, 2.0]))
        0.6
        >>> accuracy(np.array([[True, False], [True, True]]), np.array([[1, 0], [1, 0]]))
        0.5
    """
    pairs = read_pairs("accuracy", predicted, labels, weight)
    wrong: Flags = pairs.predicted != pairs.labels
    return pairs.rows.share(np.count_nonzero(wrong, axis=1) == 0 if pairs.multilabel else ~wrong)


def hamming_loss(predicted: Predicted, labels: Targets, *, weight: Array | None = None) -> float:
    """Return the share of labels that are predicted incorrectly. See ``accuracy`` for the arguments and errors.

    For class ids, this is ``1 - accuracy``.

    Example:
        >>> hamming_loss(np.array([[True, False], [True, True]]), np.array([[1, 0], [1, 0]]))
        0.25
    """
    pairs = read_pairs("hamming_loss", predicted, labels, weight)
    wrong: Flags = pairs.predicted != pairs.labels
    if not pairs.multilabel:
        return pairs.rows.share(wrong)
    return pairs.rows.average(np.count_nonzero(wrong, axis=1) / wrong.shape[1])


# ------------------------------------------------------------------------------------------------- confusion


@overload
def confusion_matrix(
    predicted: Predicted, labels: Targets, *, classes: int | None = None, weight: None = None
) -> NDArray[np.int64]: ...
@overload
def confusion_matrix(
    predicted: Predicted, labels: Targets, *, classes: int | None = None, weight: Array
) -> NDArray[np.float64]: ...
def confusion_matrix(
    predicted: Predicted, labels: Targets, *, classes: int | None = None, weight: Array | None = None
) -> NDArray[np.int64] | NDArray[np.float64]:
    """Count how often each class is predicted for each true class: a row per true class, a column per predicted class.

    Args:
        predicted: Class ids or bools, shape (B,).
        labels: The true class ids, or, for bools, zeros and ones, shape (B,).
        classes: The number of classes, O. None means 1 plus the largest id in both arrays, or 2 for bools.
        weight: How much each row counts, shape (B,): scikit-learn's ``sample_weight``. None means 1.

    Returns:
        Counts, shape (O, O): int64, or, with weights, sums of weights in float64.

    Raises:
        ShapeError, DTypeError, LabelError: If an argument is not a vector of class ids below ``classes``.
        ConfigError: If the vectors are empty, if classes is not from 1 to 8192, or if no weight is positive.

    Example:
        >>> print(confusion_matrix(np.array([0, 2, 2, 1]), np.array([0, 1, 2, 1])))
        [[1 0 0]
         [0 1 1]
         [0 0 1]]
    """
    name = "confusion_matrix"
    pairs = _one_class_per_row(name, predicted, labels, weight, classes)
    size = pairs.size(name, MATRIX_CLASSES)
    ids, true = pairs.ids()
    cells = true * size + ids
    if pairs.rows.weight is None:
        return np.bincount(cells, minlength=size * size).astype(np.int64, copy=False).reshape(size, size)
    return pairs.rows.whole(name, pairs.rows.count(cells, size * size)).reshape(size, size)


@overload
def multilabel_confusion_matrix(predicted: Flags, labels: Targets, *, weight: None = None) -> NDArray[np.int64]: ...
@overload
def multilabel_confusion_matrix(predicted: Flags, labels: Targets, *, weight: Array) -> NDArray[np.float64]: ...
def multilabel_confusion_matrix(
    predicted: Flags, labels: Targets, *, weight: Array | None = None
) -> NDArray[np.int64] | NDArray[np.float64]:
    """Count the true and false negatives and positives of each label: ``[[tn, fp], [fn, tp]]``.

    Args:
        predicted: Bools, shape (B, O).
        labels: Zeros and ones, shape (B, O).
        weight: How much each row counts, shape (B,): scikit-learn's ``sample_weight``. None means 1.

    Returns:
        A confusion matrix for each label, shape (O, 2, 2): int64, or, with weights, sums of weights in float64.

    Raises:
        ShapeError, DTypeError, LabelError: If an argument has the wrong type, shape, dtype or range.
        ConfigError: If there are no rows, or if no weight is positive.

    Example:
        >>> multilabel_confusion_matrix(np.array([[True, False], [True, True]]), np.array([[1, 0], [0, 1]])).tolist()
        [[[0, 1], [0, 1]], [[1, 0], [0, 1]]]
    """
    name = "multilabel_confusion_matrix"
    pairs = read_pairs(name, predicted, labels, weight)
    if not pairs.multilabel:
        got = f"got {predicted.dtype} {predicted.shape}; for one class per row, use confusion_matrix"
        raise ShapeError(f"predicted must be bool of shape (B, O), {got}", subject=name)
    yes, true = pairs.flags()
    cells = [pairs.rows.count_columns(cell) for cell in (~yes & ~true, yes & ~true, ~yes & true, yes & true)]
    return pairs.rows.whole(name, np.stack(cells, axis=1)).reshape(-1, 2, 2)


def balanced_accuracy(
    predicted: Predicted, labels: Targets, *, classes: int | None = None, weight: Array | None = None
) -> float:
    """Return the mean recall of the classes that occur in the labels: a rare class counts as much as any other.

    See ``confusion_matrix`` for the arguments and errors.

    Source: Brodersen, Ong, Stephan and Buhmann, "The balanced accuracy and its posterior distribution", ICPR 2010.

    Example:
        >>> balanced_accuracy(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1]))
        0.5
    """
    name = "balanced_accuracy"
    pairs = _one_class_per_row(name, predicted, labels, weight, classes)
    counts = counts_of_classes(pairs, pairs.size(name))
    occurring = counts.actual > 0
    return mean(counts.correct[occurring] / counts.actual[occurring])


def matthews(
    predicted: Predicted, labels: Targets, *, classes: int | None = None, weight: Array | None = None
) -> float:
    """Return the Matthews correlation coefficient: 1 for perfect predictions, 0 for chance.

    It is the correlation of the one-hot predictions and labels: scikit-learn's ``matthews_corrcoef``. Constant
    predictions or constant labels give 0. See ``confusion_matrix`` for the arguments and errors.

    Source: Gorodkin, "Comparing two K-category assignments by a K-category correlation coefficient", Computational
    Biology and Chemistry 28 (2004).

    Example:
        >>> round(matthews(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])), 3)
        0.577
    """
    name = "matthews"
    pairs = _one_class_per_row(name, predicted, labels, weight, classes)
    size, (ids, true), rows = pairs.size(name), pairs.ids(), pairs.rows
    counts, every = counts_of_classes(pairs, size), np.arange(size)
    spreads = [total(each * _sum_without(each, every, every)) for each in (counts.predicted, counts.actual)]
    if not all(spreads):
        return 0.0
    wrong = (ids != true) * (1.0 if rows.weight is None else rows.weight)
    # The covariance is the sum of tp * tn - fp * fn over the classes. In tp * tn, each row, correct or wrong, is paired
    # with the correct rows of the classes for which it is a true negative.
    true_pairs = total(counts.correct * _sum_without(counts.correct, every, every))
    true_pairs += total(wrong * _sum_without(counts.correct, ids, true))
    fp, fn = (np.bincount(each, wrong, size).astype(np.float64, copy=False) for each in (ids, true))
    covariance = true_pairs - total(fp * fn)
    return float(covariance / spreads[0] * (np.sqrt(spreads[0]) / np.sqrt(spreads[1])))


def _sum_without(counts: Counts, one: NDArray[np.intp], other: NDArray[np.intp]) -> Counts:
    """Return the sums of the counts of all classes but two, which may be equal. Shapes: (O,), (B,), (B,), result (B,).

    The two largest counts are added where they belong, never subtracted, so no digit of a small sum is lost.
    """
    largest = np.argsort(counts)[-2:]
    rest = counts.copy()
    rest[largest] = 0
    sums = total(rest) - rest[one] - np.where(one == other, 0, rest[other])
    for each in largest:
        sums += np.where((one == each) | (other == each), 0, counts[each])
    return sums


def _one_class_per_row(
    name: str, predicted: Predicted, labels: Targets, weight: Array | None, classes: int | None
) -> Pairs:
    """Check predictions and labels, which must not have a column per label."""
    pairs = read_pairs(name, predicted, labels, weight, classes)
    if pairs.multilabel:
        fix = "use multilabel_confusion_matrix, or this metric for each column"
        raise ShapeError(f"predicted must have shape (B,), got {predicted.shape}; {fix}", subject=name)
    return pairs
