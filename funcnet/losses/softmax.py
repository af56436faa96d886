"""Softmax cross-entropy: class ids or shares, label smoothing, weights of classes and examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, cast

import numpy as np
from attrs import frozen

from funcnet.arithmetic import exp, log, mean, sum_last
from funcnet.arrays import Array, Labels, check_array, check_labels, lock
from funcnet.errors import ConfigError, LabelError, NonFiniteError
from funcnet.losses.reduction import check_weight, row_weights
from funcnet.network import INFINITY
from funcnet.plans import register_loss_plan, scalar
from funcnet.records import register_name
from funcnet.settings import check_count, check_number

Targets: TypeAlias = "Labels | Array"
"""Class ids, shape (B,), or a share of each class, shape (B, O)."""


def softmax_cross_entropy(logits: Array, labels: Targets, weight: Array | None = None) -> tuple[float, Array]:
    """The mean over the batch of ``-log softmax(logits)[label]``, from *logits*, and its gradient by the logits.

    With ``p = softmax(logits)``, the loss of a row is ``log(sum(exp(logits))) - logits[label]``, and its gradient
    ``p - onehot(label)``; the mean divides both by B. The row's maximum is subtracted first: logits of 1e4 are right.

    Args:
        logits: Shape (B, O).
        labels: Class ids from 0 to O - 1, shape (B,), any integer dtype; or floats, a share of each class, shape
            (B, O), such as ``one_hot`` gives.
        weight: Shape (B,): the mean is then sum(w l) / sum(w).

    Returns:
        The loss, summed in float64, and its gradient, shape (B, O).

    Raises:
        ShapeError, DTypeError, ConfigError: If an argument is none of these, or the batch is empty.
        LabelError: If a label is no class, or a share negative; says which.
        NonFiniteError: If the loss is NaN or infinite.

    Example:
        >>> value, grad = softmax_cross_entropy(np.array([[0.0, 0.0]]), np.array([1]))
        >>> round(value, 6), grad
        (0.693147, array([[ 0.5, -0.5]]))
    """
    if weight is None and (type(labels) is not np.ndarray or labels.dtype.kind != "f"):
        return _of_ids(logits, cast("Labels", labels))
    return SoftmaxCrossEntropy()(logits, labels, weight)


def _of_ids(logits: Array, labels: Labels) -> tuple[float, Array]:
    name = "softmax_cross_entropy"
    _check_logits(name, logits)
    count, classes = logits.shape
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


def _check_logits(name: str, logits: Array) -> None:
    check_array(name, "logits", logits, ("B", "O"))
    check_count(name, "the batch's size", len(logits))
    check_count(name, "the number of classes", logits.shape[1])


@frozen
class SoftmaxCrossEntropy:
    """``softmax_cross_entropy`` with options: ``-sum_c w_c t_c log p_c`` a row, t the target's shares after smoothing.

    PyTorch's ``CrossEntropyLoss``: for class ids, a weighted mean divides by the sum of the labels' class weights; for
    shares, by the number of rows. Examples' weights multiply both.

    Args:
        label_smoothing: What each class shares equally: ``t = (1 - s) onehot + s / O``.
        class_weight: A factor a class, or None for 1.

    Source: Szegedy et al., "Rethinking the Inception architecture", CVPR 2016, for label smoothing.

    Example:
        >>> loss = SoftmaxCrossEntropy(label_smoothing=0.2)
        >>> loss(np.array([[0.0, 0.0]]), np.array([1]))[1].round(3)
        array([[ 0.4, -0.4]])
    """

    label_smoothing: float = 0.0
    class_weight: tuple[float, ...] | None = None

    def __attrs_post_init__(self) -> None:
        check_number("SoftmaxCrossEntropy", "label_smoothing", self.label_smoothing, low=0, high=1, closed=True)
        for each in self.class_weight or ():
            check_number("SoftmaxCrossEntropy", "a class weight", each, low=0, high=INFINITY, closed=True)

    def __call__(self, logits: Array, labels: Targets, weight: Array | None = None) -> tuple[float, Array]:
        """The loss and its gradient."""
        name = "softmax_cross_entropy"
        _check_logits(name, logits)
        targets, total = self._targets(name, logits, labels)
        factors = logits.dtype.type(1) if weight is None else row_weights(weight, logits)
        if weight is not None:
            check_weight(name, weight, len(logits))
            total = total * factors[:, 0]
        with np.errstate(over="ignore", invalid="ignore"):
            shifted = logits - logits.max(axis=1, keepdims=True)
            shares = exp(shifted)
            sums = sum_last(shares)
            losses = sum_last(targets * (log(sums) - shifted))
            size = mean(total) * len(logits)
            if not size > 0:
                raise ConfigError("the weights of the batch's labels must have a sum above 0", subject=name)
            value = mean(losses * factors) * len(logits) / size
            gradient = (shares / sums * sum_last(targets) - targets) * (factors / logits.dtype.type(size))
        _check_value(name, value)
        return value, lock(gradient)

    def _targets(self, name: str, logits: Array, labels: Targets) -> tuple[Array, Array]:
        """Each row's shares, smoothed and weighted by class, and what each row counts for in the mean."""
        count, classes = logits.shape
        weights = np.ones(classes, logits.dtype) if self.class_weight is None else self._class_weights(name, logits)
        if type(labels) is np.ndarray and labels.dtype.kind == "f":
            shares = cast("Array", labels)
            check_array(name, "labels", shares, logits.shape, dtype=logits.dtype, match=("logits", logits))
            check_shares(name, shares)
            counted = np.ones(count, logits.dtype)
        else:
            check_labels(name, "labels", labels, count, classes)
            shares = np.zeros_like(logits)
            shares[np.arange(count), labels] = 1
            counted = weights[labels]
        smoothing = logits.dtype.type(self.label_smoothing)
        return (shares * (1 - smoothing) + smoothing / classes) * weights, counted

    def _class_weights(self, name: str, logits: Array) -> Array:
        weights = np.array(self.class_weight, logits.dtype)
        check_array(name, "class_weight", weights, logits.shape[1:], match=("the logits", logits))
        return weights


def check_shares(name: str, shares: Array) -> None:
    """Check that a target's shares are 0 or more.

    Raises:
        LabelError: Says which is not.
    """
    bad = ~(shares >= 0)
    if bad.any():
        row, column = (int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
        raise LabelError(f"labels must be 0 or more, got labels[{row}, {column}] = {shares[row, column]}", subject=name)


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
register_name(SoftmaxCrossEntropy, "funcnet.SoftmaxCrossEntropy")
