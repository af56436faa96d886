"""Precision, recall and F1 of each class or label, and their averages."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from funcnet.arithmetic import mean, sum_all
from funcnet.core.arrays import Array
from funcnet.core.checks import to_python
from funcnet.core.errors import ConfigError
from funcnet.metrics.counts import ClassCounts, counts_of_classes, counts_of_labels, counts_of_rows
from funcnet.metrics.labels import Pairs, Predicted, Targets, read_pairs
from funcnet.metrics.rows import Counts, total

Average: TypeAlias = Literal["binary", "macro", "micro", "weighted", "samples"]
"""How to average the values of the classes or labels."""

Scores: TypeAlias = NDArray[np.float64]
"""One value per class or label: shape (O,), float64."""

CLASS_AVERAGES: Final = ("binary", "macro", "micro", "weighted")
LABEL_AVERAGES: Final = ("macro", "micro", "weighted", "samples")


@overload
def precision(
    predicted: Predicted,
    labels: Targets,
    *,
    average: Average = "macro",
    classes: int | None = None,
    zero_division: float = 0.0,
    weight: Array | None = None,
) -> float: ...
@overload
def precision(
    predicted: Predicted,
    labels: Targets,
    *,
    average: None,
    classes: int | None = None,
    zero_division: float = 0.0,
    weight: Array | None = None,
) -> Scores: ...
def precision(
    predicted: Predicted,
    labels: Targets,
    *,
    average: Average | None = "macro",
    classes: int | None = None,
    zero_division: float = 0.0,
    weight: Array | None = None,
) -> float | Scores:
    """Return the share of the predictions of a class that are correct: correct / predicted.

    Args:
        predicted: Class ids or bools, shape (B,), or, for several labels per row, bools, shape (B, O).
        labels: The true class ids, or, for bools, zeros and ones. The same shape.
        average: ``"macro"`` is the mean over the classes or labels. ``"weighted"`` weights that mean by the number of
            rows that have each class or label. ``"micro"`` counts all classes or labels together; for classes, this
            gives the accuracy. ``"binary"`` is the value of class 1 of two, for shape (B,). ``"samples"`` is the mean
            over the rows of the value of a row's labels, for shape (B, O). None gives one value per class or label. The
            default of scikit-learn is ``"binary"``.
        classes: The number of classes, O. None means 1 plus the largest id in both arrays; ``"macro"`` then omits the
            classes that occur in neither, as scikit-learn does.
        zero_division: The value, 0 or 1, of a class whose denominator is 0. There is no warning.
        weight: How much each row counts, shape (B,): scikit-learn's ``sample_weight``. None means 1.

    Returns:
        A float, or, with ``average=None``, an array of shape (O,).

    Raises:
        ShapeError, DTypeError, LabelError: If an argument has the wrong type, shape, dtype or range.
        ConfigError: If there are no rows, if no weight is positive, or if a setting is invalid.

    Source: van Rijsbergen, Information Retrieval, 1979, chapter 7.

    Example:
        >>> predicted, labels = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
        >>> precision(predicted, labels, average=None).round(3)
        array([1.   , 0.667])
        >>> round(precision(predicted, labels), 3)
        0.833
        >>> precision(np.array([[True, False], [True, True]]), np.array([[1, 0], [0, 1]]), average=None)
        array([0.5, 1. ])
    """
    pairs, counts = _count("precision", predicted, labels, weight, average, classes)
    return _averaged("precision", counts.correct, counts.predicted, pairs, counts, average, zero_division)


@overload
def recall(
    predicted: Predicted,
    labels: Targets,
    *,
    average: Average = "macro",
    classes: int | None = None,
    zero_division: float = 0.0,
    weight: Array | None = None,
) -> float: ...
@overload
def recall(
    predicted: Predicted,
    labels: Targets,
    *,
    average: None,
    classes: int | None = None,
    zero_division: float = 0.0,
    weight: Array | None = None,
) -> Scores: ...
def recall(
    predicted: Predicted,
    labels: Targets,
    *,
    average: Average | None = "macro",
    classes: int | None = None,
    zero_division: float = 0.0,
    weight: Array | None = None,
) -> float | Scores:
    """Return the share of the labels of a class that are predicted correctly: correct / actual.

    See ``precision`` for the settings and errors.

    Example:
        >>> predicted, labels = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
        >>> recall(predicted, labels, average=None), recall(predicted, labels)
        (array([0.5, 1. ]), 0.75)
    """
    pairs, counts = _count("recall", predicted, labels, weight, average, classes)
    return _averaged("recall", counts.correct, counts.actual, pairs, counts, average, zero_division)


@overload
def f1(
    predicted: Predicted,
    labels: Targets,
    *,
    average: Average = "macro",
    classes: int | None = None,
    zero_division: float = 0.0,
    weight: Array | None = None,
) -> float: ...
@overload
def f1(
    predicted: Predicted,
    labels: Targets,
    *,
    average: None,
    classes: int | None = None,
    zero_division: float = 0.0,
    weight: Array | None = None,
) -> Scores: ...
def f1(
    predicted: Predicted,
    labels: Targets,
    *,
    average: Average | None = "macro",
    classes: int | None = None,
    zero_division: float = 0.0,
    weight: Array | None = None,
) -> float | Scores:
    """Return the harmonic mean of a class's precision and recall: 2 correct / (predicted + actual).

    ``"macro"`` is the mean of the values of the classes, not the harmonic mean of the averages. See ``precision`` for
    the settings and errors.

    Example:
        >>> predicted, labels = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
        >>> f1(predicted, labels, average=None).round(3), round(f1(predicted, labels), 3)
        (array([0.667, 0.8  ]), 0.733)
    """
    pairs, counts = _count("f1", predicted, labels, weight, average, classes)
    return _averaged("f1", 2 * counts.correct, counts.predicted + counts.actual, pairs, counts, average, zero_division)


def _count(  # noqa: PLR0917
    name: str,
    predicted: Predicted,
    labels: Targets,
    weight: Array | None,
    average: Average | None,
    classes: int | None,
) -> tuple[Pairs, ClassCounts]:
    pairs = read_pairs(name, predicted, labels, weight, classes)
    averages = LABEL_AVERAGES if pairs.multilabel else CLASS_AVERAGES
    check_average(name, average, averages, f" for predictions of shape {predicted.shape}")
    if pairs.multilabel:
        return pairs, counts_of_rows(pairs) if average == "samples" else counts_of_labels(pairs)
    size = pairs.size(name)
    if average == "binary":
        if size > 2:
            fix = "use 'macro' for the mean over the classes, or None for one value per class"
            raise ConfigError(f"average='binary' is for classes 0 and 1, got {size} classes; {fix}", subject=name)
        size = 2
    return pairs, counts_of_classes(pairs, size)


def check_average(name: str, average: object, averages: tuple[str, ...], where: str = "") -> None:
    """Check that an average is one of the given ones, or None.

    Raises:
        ConfigError: If it is not.
    """
    if average is not None and not (isinstance(average, str) and average in averages):
        wanted = f"one of {', '.join(map(repr, averages))} or None"
        raise ConfigError(f"average must be {wanted}{where}, got {average!r:.80}", subject=name)


def _averaged(  # noqa: PLR0917
    name: str,
    numerator: Counts,
    denominator: Counts,
    pairs: Pairs,
    counts: ClassCounts,
    average: Average | None,
    zero_division: float,
) -> float | Scores:
    zero_division = to_python(zero_division)
    is_number = isinstance(zero_division, int | float) and not isinstance(zero_division, bool)
    if not is_number or zero_division not in (0, 1):
        raise ConfigError(f"zero_division must be 0 or 1, got {zero_division!r}", subject=name)
    if average == "micro":
        numerator, denominator = (np.array([total(each)]) for each in (numerator, denominator))
    values = np.full(len(numerator), zero_division, np.float64)
    np.divide(numerator, denominator, out=values, where=denominator > 0)
    if average is None:
        return values
    if average in ("micro", "binary"):
        return float(values[-1])
    if average == "samples":
        return pairs.rows.average(values)
    if average == "weighted" and counts.actual.any():
        return sum_all(values * counts.actual) / total(counts.actual)
    return mean(values if pairs.multilabel or pairs.classes is not None else values[counts.occurring])
