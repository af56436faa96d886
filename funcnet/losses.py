"""Losses: pure functions ``(prediction, target) -> (mean over the batch, gradient of that mean by the prediction)``."""

from __future__ import annotations

import numpy as np

from funcnet.arithmetic import exp, log, mean, sum_last
from funcnet.arrays import Array, Labels, check_array, check_labels, lock
from funcnet.errors import NonFiniteError
from funcnet.settings import check_count


def softmax_cross_entropy(logits: Array, labels: Labels) -> tuple[float, Array]:
    """The mean over the batch of ``-log softmax(logits)[label]``, from *logits*, and its gradient by the logits.

    With ``p = softmax(logits)``, the loss of a row is ``log(sum(exp(logits))) - logits[label]``, and its gradient
    ``p - onehot(label)``; the mean divides both by B. The row's maximum is subtracted first: logits of 1e4 are right.

    Args:
        logits: Shape (B, O).
        labels: Class ids from 0 to O - 1, shape (B,), any integer dtype.

    Returns:
        The loss, summed in float64, and its gradient, shape (B, O).

    Raises:
        ShapeError, DTypeError: If an argument is none of these, or the batch is empty.
        LabelError: If a label is no class; says which.
        NonFiniteError: If the loss is NaN or infinite.

    Example:
        >>> value, grad = softmax_cross_entropy(np.array([[0.0, 0.0]]), np.array([1]))
        >>> round(value, 6), grad
        (0.693147, array([[ 0.5, -0.5]]))
    """
    name = "softmax_cross_entropy"
    check_array(name, "logits", logits, ("B", "O"))
    count, classes = logits.shape
    check_count(name, "the batch's size", count)
    check_count(name, "the number of classes", classes)
    check_labels(name, "labels", labels, count, classes)
    rows = np.arange(count, dtype=np.intp)
    with np.errstate(over="ignore", invalid="ignore"):
        shifted = logits - logits.max(axis=1, keepdims=True)
        shares = exp(shifted)
        sums = sum_last(shares)
        value = mean(log(sums[:, 0]) - shifted[rows, labels])
        shares /= sums
    if not np.isfinite(value):
        raise NonFiniteError(f"the loss is {value}; the logits are too large or not finite", subject=name)
    shares[rows, labels] -= 1
    shares /= count
    return value, lock(shares)
