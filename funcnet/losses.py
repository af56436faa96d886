"""Losses: pure functions ``(prediction, target) -> (mean over the batch, gradient of that mean by the prediction)``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from funcnet.arithmetic import exp, log, mean, sum_last
from funcnet.arrays import Array, Labels, check_array, check_labels, lock
from funcnet.errors import NonFiniteError
from funcnet.network import INFINITY
from funcnet.plans import register_loss_plan, scalar
from funcnet.records import register_name
from funcnet.settings import check_count


def softmax_cross_entropy(logits: Array, labels: Labels) -> tuple[float, Array]:
    """The mean over the batch of ``-log softmax(logits)[label]``, from *logits*, and its gradient by the logits.

    ``loss = mean(log(sum(exp(logits))) - logits[label])``, the sum over each row and the mean over the batch;
    ``g = (softmax(logits) - onehot(label)) / B``. The row's maximum is subtracted first: logits of 1e4 are right.

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
        >>> logits = np.log(np.array([[1.0, 3.0], [1.0, 1.0]]))  # shares 1/4, 3/4, and twice 1/2
        >>> value, grad = softmax_cross_entropy(logits, np.array([0, 1]))
        >>> round(value, 6), grad.round(6)  # the mean of log 4 and log 2; (1/4 - 1) / 2, ...
        (1.039721, array([[-0.375,  0.375],
               [ 0.25 , -0.25 ]]))
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
    _check_value(name, value)
    shares[rows, labels] -= 1
    shares /= count
    return value, lock(shares)


def _check_value(name: str, value: float) -> None:
    if not -INFINITY < value < INFINITY:
        raise NonFiniteError(f"the loss is {value}; the logits are too large or not finite", subject=name)


def planned_softmax_cross_entropy(logits: Array, g: Array) -> Callable[[Labels], float]:
    """The same operations, on buffers."""
    count, classes = logits.shape
    shifted, column = np.empty_like(logits), np.empty((count, 1), logits.dtype)
    starts, index = np.arange(0, count * classes, classes, dtype=np.intp), np.empty(count, np.intp)
    all_shifted, all_g, sums = shifted.reshape(-1), g.reshape(-1), column.reshape(-1)
    chosen, one, size = np.empty(count, logits.dtype), scalar(1, logits), scalar(count, logits)

    def run(labels: Labels) -> float:
        check_labels("softmax_cross_entropy", "labels", labels, count, classes)
        np.maximum.reduce(logits, axis=1, out=column, keepdims=True)
        np.subtract(logits, column, shifted)
        exp(shifted, g)
        sum_last(g, column)
        np.add(starts, labels, index, casting="unsafe")
        np.divide(g, column, g)
        all_shifted.take(index, None, chosen, "clip")  # "raise", the default, would take a copy first
        value = mean(np.subtract(log(sums, sums), chosen, chosen))
        all_g.take(index, None, chosen, "clip")
        all_g.put(index, np.subtract(chosen, one, chosen), "clip")
        np.divide(g, size, g)
        _check_value("softmax_cross_entropy", value)
        return value

    return run


register_loss_plan(softmax_cross_entropy, planned_softmax_cross_entropy)
register_name(softmax_cross_entropy, "funcnet.softmax_cross_entropy")
