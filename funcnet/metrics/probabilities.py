"""Metrics of scores and probabilities of each row: top-k accuracy, log loss and the Brier score."""

from __future__ import annotations

import numpy as np

from funcnet.arithmetic import log, maximum
from funcnet.core.arrays import ARRAY_TYPES, Array, Labels
from funcnet.core.checks import check_count
from funcnet.metrics.labels import Targets
from funcnet.metrics.scores import read_binary_probabilities, read_probabilities, read_scores


def top_k_accuracy(scores: Array, labels: Labels, *, k: int, weight: Array | None = None) -> float:
    """Return the share of rows whose label is among the k classes with the largest scores.

    Of equal scores, the first ones count as larger; in scikit-learn, the last ones do. With k = 1 the result is the
    accuracy of ``predict``.

    Args:
        scores: Logits or probabilities, shape (B, O).
        labels: Class ids from 0 to O - 1, shape (B,).
        k: From 1 to O.
        weight: How much each row counts, shape (B,): scikit-learn's ``sample_weight``. None means 1.

    Raises:
        ShapeError, DTypeError, LabelError: If an argument has the wrong type, shape, dtype or range.
        NonFiniteError: If a score is NaN or infinite. The message names the first.
        ConfigError: If there are no rows, if no weight is positive, or if k is not from 1 to O.

    Example:
        >>> scores = np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]])
        >>> top_k_accuracy(scores, np.array([2, 1]), k=2)
        0.5
    """
    name = "top_k_accuracy"
    kept, ids, rows = read_scores(name, "scores", scores, labels, weight)
    classes: int = kept.shape[1]
    k = check_count(name, "k", k, high=classes)
    column = ids.astype(np.intp)[:, None]
    own = np.take_along_axis(kept, column, axis=1)
    ahead = (kept > own) | ((kept == own) & (np.arange(classes) < column))
    return rows.share(np.count_nonzero(ahead, axis=1) < k)


def log_loss(probabilities: Array, labels: Targets, *, weight: Array | None = None) -> float:
    """Return the mean of ``-log p`` for the *probability* p of each row's label.

    A probability below the dtype's ``eps`` (1.2e-7 or 2.2e-16) counts as ``eps``, as in scikit-learn. For logits, use
    the value of ``softmax_cross_entropy`` or ``binary_cross_entropy``, which is exact.

    Args:
        probabilities: Rows that sum to 1, shape (B, O) with two or more classes, or the probability of the positive
            class, shape (B,), such as the results of ``predict_proba`` for ``Multiclass()`` and ``Binary()``.
        labels: Class ids from 0 to O - 1, or zeros and ones of any dtype, shape (B,).
        weight: How much each row counts, shape (B,): scikit-learn's ``sample_weight``. None means 1.

    Raises:
        ShapeError, DTypeError, LabelError: If an argument has the wrong type, shape, dtype or range.
        NonFiniteError: If a probability is NaN or infinite. The message names the first.
        ConfigError: If there are no rows, if no weight is positive, or if a row does not hold probabilities. The
            message names the row.

    Example:
        >>> round(log_loss(np.array([[0.9, 0.1], [0.5, 0.5]]), np.array([0, 1])), 6)
        0.399254
        >>> round(log_loss(np.array([0.1, 0.5]), np.array([0, 1])), 6)
        0.399254
    """
    if type(probabilities) in ARRAY_TYPES and probabilities.ndim == 1:
        probabilities, truth, rows = read_binary_probabilities("log_loss", probabilities, labels, weight)
        chosen = np.where(truth, probabilities, 1 - probabilities)
    else:
        probabilities, ids, rows = read_probabilities("log_loss", probabilities, labels, weight)
        chosen = probabilities[np.arange(len(ids)), ids]
    eps = np.finfo(probabilities.dtype).eps
    return 0.0 - rows.average(log(maximum(chosen, eps)))


def brier_score(probabilities: Array, labels: Targets, *, weight: Array | None = None) -> float:
    """Return the mean squared difference of the *probabilities* and the labels as zeros and ones: smaller is better.

    With O classes, the squares of a row are added, and the result is from 0 to 2. With two classes, it is half of that,
    from 0 to 1, as scikit-learn's ``brier_score_loss``. See ``log_loss`` for the arguments and errors.

    Source: Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78 (1950).

    Example:
        >>> round(brier_score(np.array([0.1, 0.5]), np.array([0, 1])), 6)
        0.13
        >>> round(brier_score(np.array([[0.9, 0.1], [0.5, 0.5]]), np.array([0, 1])), 6)
        0.13
    """
    if type(probabilities) in ARRAY_TYPES and probabilities.ndim == 1:
        probabilities, truth, rows = read_binary_probabilities("brier_score", probabilities, labels, weight)
        error = probabilities.astype(np.float64) - truth
        return rows.average(error * error)
    probabilities, ids, rows = read_probabilities("brier_score", probabilities, labels, weight)
    classes = probabilities.shape[1]
    error = probabilities.astype(np.float64)
    error[np.arange(len(ids)), ids] -= 1.0
    return rows.average(error * error) * (classes if classes > 2 else 1)
