"""Metrics of how well scores rank the rows: the ROC and precision-recall curves and the areas under them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Literal, TypeAlias, get_args, overload

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.arithmetic import cumulative_sum, mean, sum_all
from funcnet.core.arrays import ARRAY_TYPES, Array, Labels
from funcnet.core.checks import check_array, check_choice
from funcnet.core.errors import ConfigError
from funcnet.metrics.averages import LABEL_AVERAGES, Scores, check_average
from funcnet.metrics.labels import Flags, Targets
from funcnet.metrics.rows import Rows, total
from funcnet.metrics.scores import check_order, read_binary_scores, read_probabilities, read_scores

RankingAverage: TypeAlias = Literal["macro", "micro", "weighted", "samples"]
"""How to average the values of the classes or labels."""

MultiClass: TypeAlias = Literal["ovr", "ovo"]
"""One class versus the rest, or one versus one."""

Curve: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""The two coordinates of the points of a curve, and their thresholds."""


def roc_curve(scores: Array, labels: Targets, *, weight: Array | None = None) -> Curve:
    """Return the points of the ROC curve: the false and the true positive rate at each threshold.

    Rows of equal scores are one point. A point between two others on a line is left out, as in scikit-learn.

    Args:
        scores: Logits or probabilities of the positive class, shape (B,).
        labels: Zeros and ones of any dtype, shape (B,).
        weight: How much each row counts, shape (B,): scikit-learn's ``sample_weight``. None means 1.

    Returns:
        ``(false_positive_rate, true_positive_rate, thresholds)``, float64, from (0, 0) at the threshold infinity to
        (1, 1) at the smallest score. A row is positive if its score is at least the threshold.

    Raises:
        ShapeError, DTypeError, LabelError: If an argument has the wrong type, shape, dtype or range.
        NonFiniteError: If a score is NaN or infinite. The message names the first.
        ConfigError: If there are no rows, if no weight is positive, or if the labels are all 0 or all 1.

    Source: Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27 (2006).

    Example:
        >>> false, true, thresholds = roc_curve(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
        >>> false, true, thresholds
        (array([0. , 0. , 0.5, 0.5, 1. ]), array([0. , 0.5, 0.5, 1. , 1. ]), array([ inf, 0.8 , 0.4 , 0.35, 0.1 ]))
    """
    steps = _read_steps("roc_curve", scores, labels, weight)
    fps, tps = cumulative_sum(steps.negatives), cumulative_sum(steps.positives)
    corner = np.ones(len(fps), bool)
    corner[1:-1] = (np.diff(fps, 2) != 0) | (np.diff(tps, 2) != 0)
    start = np.zeros(1)
    rates = [np.append(start, sums[corner] / sums[-1]) for sums in (fps, tps)]
    return rates[0], rates[1], np.append(np.inf, steps.scores[corner])


def precision_recall_curve(scores: Array, labels: Targets, *, weight: Array | None = None) -> Curve:
    """Return the precision and the recall of the rows with at least a given score, for each score that occurs.

    See ``roc_curve`` for the arguments. The labels may be all 1.

    Returns:
        ``(precision, recall, thresholds)``, float64, by increasing threshold, as in scikit-learn. The first two arrays
        have one more element, the end of the curve: precision 1 and recall 0.

    Source: Davis and Goadrich, "The relationship between precision-recall and ROC curves", ICML 2006.

    Example:
        >>> precision, recall, _ = precision_recall_curve(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
        >>> precision.round(3), recall
        (array([0.5  , 0.667, 0.5  , 1.   , 1.   ]), array([1. , 1. , 0.5, 0.5, 0. ]))
    """
    steps = _read_steps("precision_recall_curve", scores, labels, weight)
    tps = cumulative_sum(steps.positives)
    shares = tps / (cumulative_sum(steps.negatives) + tps), tps / tps[-1]
    precision, recall = (np.append(share[::-1], end) for share, end in zip(shares, (1.0, 0.0), strict=True))
    return precision, recall, steps.scores[::-1].copy()


# --------------------------------------------------------------------------------------------------- areas


@overload
def roc_auc(
    scores: Array,
    labels: Targets,
    *,
    average: RankingAverage = "macro",
    multi_class: MultiClass = "ovr",
    weight: Array | None = None,
) -> float: ...
@overload
def roc_auc(
    scores: Array,
    labels: Targets,
    *,
    average: None,
    multi_class: MultiClass = "ovr",
    weight: Array | None = None,
) -> Scores: ...
def roc_auc(
    scores: Array,
    labels: Targets,
    *,
    average: RankingAverage | None = "macro",
    multi_class: MultiClass = "ovr",
    weight: Array | None = None,
) -> float | Scores:
    """Return the area under the ROC curve: the probability that a positive row outranks a negative row.

    Equal scores count half.

    Args:
        scores: Logits or probabilities of the positive class, shape (B,), or of each label, shape (B, O); or, for class
            ids, *probabilities* of the classes, shape (B, O).
        labels: Zeros and ones of any dtype in the shape of the scores, or class ids from 0 to O - 1, shape (B,).
        average: ``"macro"`` is the mean over the classes or labels. ``"weighted"`` weights that mean by the number of
            rows that have each class or label. ``"micro"`` counts the elements of all columns together. ``"samples"``
            is the mean over the rows of the value of a row, for labels. None gives one value per class or label. For
            scores of shape (B,), there is one value: ``"samples"`` and None are refused, and the others return it.
        multi_class: For class ids; it has no effect on zeros and ones. ``"ovr"`` compares one class with the rest,
            which depends on how frequent the classes are. ``"ovo"`` compares each pair of classes, with each of the two
            as the positive one; its averages are ``"macro"`` and ``"weighted"``. scikit-learn demands a choice.
        weight: How much each row counts, shape (B,): scikit-learn's ``sample_weight``. None means 1.

    Returns:
        A float, or, with ``average=None``, an array of shape (O,).

    Raises:
        ShapeError, DTypeError, LabelError: If an argument has the wrong type, shape, dtype or range.
        NonFiniteError: If a score is NaN or infinite. The message names the first.
        ConfigError: If there are no rows, if no weight is positive, if a class or label has only zeros or only ones,
            for which the area is undefined, if scores for class ids are not probabilities, or if a setting is invalid.

    Source: Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27 (2006); Hand and Till, "A simple
    generalisation of the area under the ROC curve for multiple class classification problems", Machine Learning 45
    (2001), for one versus one.

    Example:
        >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
        0.75
        >>> probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.5, 0.2, 0.3], [0.1, 0.8, 0.1]])
        >>> roc_auc(probabilities, np.array([0, 1, 2, 0]), average=None).round(3)
        array([0.5  , 0.667, 0.833])
    """
    name = "roc_auc"
    check_choice(name, "multi_class", multi_class, get_args(MultiClass))
    if not _are_ids(scores, labels):
        return _averaged(name, _area, read_binary_scores(name, "scores", scores, labels, weight), average)
    probabilities, ids, rows = read_probabilities(name, scores, labels, weight)
    columns = probabilities, _one_hot(name, ids, probabilities), rows
    return _averaged(name, _area, columns, average) if multi_class == "ovr" else _one_versus_one(*columns, average)


@overload
def average_precision(
    scores: Array, labels: Targets, *, average: RankingAverage = "macro", weight: Array | None = None
) -> float: ...
@overload
def average_precision(scores: Array, labels: Targets, *, average: None, weight: Array | None = None) -> Scores: ...
def average_precision(
    scores: Array, labels: Targets, *, average: RankingAverage | None = "macro", weight: Array | None = None
) -> float | Scores:
    """Return the area under the steps of the precision-recall curve: the mean precision at each positive row.

    It is the sum of ``precision * (recall - previous recall)`` over the scores, without interpolation.

    Args:
        scores: Logits or probabilities of the positive class, shape (B,), or of each class or label, shape (B, O).
        labels: Zeros and ones of any dtype in the shape of the scores, or class ids from 0 to O - 1, shape (B,), each
            of which is compared with the rest.
        average: The same as in ``roc_auc``.
        weight: How much each row counts, shape (B,): scikit-learn's ``sample_weight``. None means 1.

    Returns:
        A float, or, with ``average=None``, an array of shape (O,).

    Raises:
        ShapeError, DTypeError, LabelError: If an argument has the wrong type, shape, dtype or range.
        NonFiniteError: If a score is NaN or infinite. The message names the first.
        ConfigError: If there are no rows, if no weight is positive, if a class or label does not occur, or if a setting
            is invalid.

    Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval, 2008, section 8.4.

    Example:
        >>> round(average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])), 3)
        0.833
    """
    name = "average_precision"
    if not _are_ids(scores, labels):
        return _averaged(name, _mean_precision, read_binary_scores(name, "scores", scores, labels, weight), average)
    columns, ids, rows = read_scores(name, "scores", scores, labels, weight)
    return _averaged(name, _mean_precision, (columns, _one_hot(name, ids, columns), rows), average)


# ---------------------------------------------------------------------------------------------------- steps


@frozen(eq=False)
class _Steps:
    """The scores that occur, in decreasing order, and the weight of the negatives and the positives that have each."""

    scores: NDArray[np.float64]
    negatives: NDArray[np.float64]
    positives: NDArray[np.float64]


def _steps(scores: Array, truth: Flags, weight: NDArray[np.float64] | None) -> _Steps:
    """Group rows by their score. Shapes: all (B,). The rows of a group are added in their order."""
    values, group = np.unique(scores, return_inverse=True)
    sums = [
        np.bincount(group[chosen], None if weight is None else weight[chosen], len(values))[::-1].astype(np.float64)
        for chosen in (~truth, truth)
    ]
    return _Steps(values[::-1].astype(np.float64) + 0.0, sums[0], sums[1])


def _read_steps(name: str, scores: Array, labels: Targets, weight: Array | None) -> _Steps:
    check_order(name, "scores", scores, labels)
    check_array(name, "scores", scores, ("B",))
    kept, truth, rows = read_binary_scores(name, "scores", scores, labels, weight)
    _check_occurring(name, truth, "labels")
    return _steps(kept, truth, rows.weight)


def _area(steps: _Steps) -> float:
    """Return the mean, over the negatives, of the share of positives above; of equal scores, one half is above."""
    above = cumulative_sum(steps.positives)
    return total(steps.negatives * ((above - 0.5 * steps.positives) / above[-1])) / total(steps.negatives)


def _mean_precision(steps: _Steps) -> float:
    """Return the mean, over the positives, of the precision at its score."""
    tps = cumulative_sum(steps.positives)
    return total(steps.positives * (tps / (tps + cumulative_sum(steps.negatives)))) / float(tps[-1])


# -------------------------------------------------------------------------------------------------- averages


def _averaged(
    name: str,
    area: Callable[[_Steps], float],
    columns: tuple[Array, Flags, Rows],
    average: RankingAverage | None,
) -> float | Scores:
    """Average the areas of the columns. Shapes: scores and truth (B,) or (B, O)."""
    scores, truth, rows = columns
    _check_average(name, average, truth)
    if truth.ndim == 1 or average == "micro":
        flat, weight = truth.ravel(), None if rows.weight is None else rows.weight.repeat(truth.size // len(truth))
        _check_occurring(name, flat, "labels")
        return area(_steps(scores.ravel(), flat, weight))
    if average == "samples":
        _check_occurring(name, truth.T, "labels[{}]", rows.positions(len(truth)))
        return rows.average(np.array([area(_steps(scores[i], truth[i], None)) for i in range(len(truth))]))
    _check_occurring(name, truth, "labels[:, {}]")
    values = np.array([area(_steps(scores[:, i], truth[:, i], rows.weight)) for i in range(scores.shape[1])])
    if average == "weighted":
        support = rows.count_columns(truth)
        return sum_all(values * support) / total(support)
    return values if average is None else mean(values)


def _one_versus_one(scores: Array, truth: Flags, rows: Rows, average: RankingAverage | None) -> float:
    """Average, over the pairs of classes, the mean of the areas with either class as the positive one."""
    if not isinstance(average, str) or average not in ("macro", "weighted"):
        wanted = "'macro' or 'weighted' with multi_class='ovo'"
        raise ConfigError(f"average must be {wanted}, got {average!r:.80}", subject="roc_auc")
    support = rows.count_columns(truth)
    pairs = list(combinations(range(truth.shape[1]), 2))
    values = np.zeros(len(pairs))
    for position, (one, other) in enumerate(pairs):
        among = truth[:, one] | truth[:, other]
        weight = None if rows.weight is None else rows.weight[among]
        areas = [_area(_steps(scores[among, each], truth[among, each], weight)) for each in (one, other)]
        values[position] = 0.5 * (areas[0] + areas[1])
    if average == "macro":
        return mean(values)
    shares = np.array([support[one] + support[other] for one, other in pairs])
    return sum_all(values * shares) / total(shares)


# ---------------------------------------------------------------------------------------------------- checks


def _are_ids(scores: Array, labels: Targets) -> bool:
    """Whether labels are class ids: there is one per row, and a column of scores for each of several classes."""
    arrays = type(scores) in ARRAY_TYPES and type(labels) in ARRAY_TYPES
    return arrays and scores.ndim == 2 and scores.shape[1] != 1 and labels.ndim == 1


def _one_hot(name: str, ids: Labels, scores: Array) -> Flags:
    """Return whether each row has each class, all of which must occur. Shapes: ids (B,), scores and result (B, O)."""
    truth = np.zeros(scores.shape, bool)
    truth[np.arange(len(ids)), ids] = True
    missing = np.count_nonzero(truth, axis=0) == 0
    if missing.any():
        fix = "leave out its column of the scores, and divide probabilities by their new sum"
        raise ConfigError(f"each class must occur in labels, got no {int(missing.argmax())}; {fix}", subject=name)
    return truth


def _check_average(name: str, average: RankingAverage | None, truth: Flags) -> None:
    check_average(name, average, LABEL_AVERAGES)
    if truth.ndim == 1 and average in (None, "samples"):
        raise ConfigError(f"average={average!r} is for scores of shape (B, O), got {truth.shape}", subject=name)


def _check_occurring(name: str, truth: Flags, where: str, positions: NDArray[np.intp] | None = None) -> None:
    """Check that each column has a one and, for a ROC curve, a zero. Shapes: truth (B,) or (B, O)."""
    ones = np.atleast_1d(np.count_nonzero(truth, axis=0))
    roc = name in ("roc_auc", "roc_curve")
    bad = (ones == 0) | (ones == len(truth)) if roc else ones == 0
    if bad.any():
        first = int(bad.argmax())
        where = where.format(first if positions is None else positions[first])
        wanted = "zeros and ones, or the area is undefined" if roc else "a 1, or the precision is undefined"
        fix = "" if truth.ndim == 1 else "; leave it out, or use average='micro'"
        got = "ones" if ones[first] else "zeros"
        raise ConfigError(f"{where} must have {wanted}, got only {got}{fix}", subject=name)
