"""Softmax cross-entropy for class ids or class shares, with label smoothing, class weights and example weights."""

from __future__ import annotations

from typing import Final, TypeAlias, cast

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.arithmetic import exp, log, sum_all, sum_last
from funcnet.core.arrays import ARRAY_TYPES, Array, Labels, counted
from funcnet.core.checks import INFINITY, check_array, check_count, check_labels, check_number, check_weight
from funcnet.core.errors import ConfigError
from funcnet.core.names import register_name
from funcnet.core.records import Settings
from funcnet.losses.reduction import averaged, check_targets, factors_of
from funcnet.tracing import whole

Targets: TypeAlias = "Labels | Array"
"""Class ids, shape (B,), or class shares (the probability of each class), shape (B, O)."""

_NAME: Final = "softmax_cross_entropy"
_REASON: Final = "the logits are too large or not finite"


def softmax_cross_entropy(logits: Array, labels: Labels, weight: Array | None = None) -> tuple[float, Array]:
    """The mean over the batch of ``-log softmax(logits)[label]``, from *logits*, and its gradient.

    ``loss = mean(log(sum(exp(logits))) - logits[label])``, with the sum over each row and the mean over the batch, and
    ``g = (softmax(logits) - onehot(label)) / B``. The maximum of each row is subtracted first, so that large logits
    such as 1e4 do not overflow.

    Args:
        logits: Shape (B, O).
        labels: Class ids from 0 to O - 1, shape (B,), any integer dtype. Class shares with the logits' shape and dtype,
            such as ``one_hot`` returns, also work. Type checkers accept them only in ``SoftmaxCrossEntropy()``.
        weight: Shape (B,). The mean is then sum(w l) / sum(w). A label whose weight is 0 counts for nothing: it may be
            any integer.

    Returns:
        The loss, summed in float64, and its gradient, shape (B, O).

    Raises:
        ShapeError, DTypeError, ConfigError: If an argument has the wrong type, shape or dtype, or the batch is empty.
        LabelError: If a label is not a class id, or a share is negative; the message says which one.
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
    _check_logits(logits)
    if _are_shares_of(labels, logits):
        return _PLAIN(logits, labels, weight)  # this refuses a different dtype
    return _of_ids(logits, labels, weight)


def _of_ids(logits: Array, labels: Labels, weight: Array | None) -> tuple[float, Array]:
    _check_weight(weight, logits)
    ids = check_labels(_NAME, "labels", labels, *logits.shape, weight=weight)
    factors = factors_of(_NAME, weight, logits)
    with np.errstate(all="ignore"):
        return averaged(_NAME, *_ids_rows(logits, ids), factors, _REASON)


def _check_weight(weight: Array | None, logits: Array) -> None:
    if weight is not None:
        check_weight(_NAME, weight, len(logits))


def _ids_rows(logits: Array, labels: Labels) -> tuple[Array, Array]:
    """Return each row's loss and slopes for class ids. Shapes: logits (B, O), labels (B,) -> (B,), (B, O)."""
    index = _flat_index(logits, labels)
    shifted, shares, sums = _exponentials(logits)
    slopes = shares / sums
    slopes.put(index, slopes.take(index, mode="clip") - 1, mode="clip")
    return log(sums[:, 0]) - shifted.take(index, mode="clip"), slopes


def _shares_rows(logits: Array, targets: Array) -> tuple[Array, Array]:
    """Return each row's loss and slopes for class shares. Shapes: (B, O), (B, O) -> (B, 1), (B, O)."""
    shifted, shares, sums = _exponentials(logits)
    terms = np.where(targets == 0, targets, targets * (log(sums) - shifted))  # a share of 0 times infinity is 0
    return sum_last(terms), shares / sums * sum_last(targets) - targets


def _flat_index(logits: Array, labels: Labels) -> NDArray[np.intp]:
    """Return the index of each row's class in the flattened logits. Shapes: (B, O), (B,) -> (B,)."""
    count, classes = logits.shape
    starts = np.arange(0, count * classes, classes, dtype=np.intp)
    return np.add(starts, labels, dtype=np.intp, casting="unsafe")


def _exponentials(logits: Array) -> tuple[Array, Array, Array]:
    """Return the logits minus each row's maximum, their exponentials, and the sums. Shapes: (B, O), (B, O), (B, 1)."""
    shifted = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
    shares = exp(shifted)
    return shifted, shares, sum_last(shares)


def _check_logits(logits: Array) -> None:
    check_array(_NAME, "logits", logits, ("B", "O"))
    check_count(_NAME, "the batch size", len(logits))
    check_count(_NAME, "the number of classes", logits.shape[1])
    if logits.shape[1] == 1:
        fix = "a softmax over one class is always 1; use binary_cross_entropy"
        raise ConfigError(f"the number of classes must be at least 2, got logits {logits.shape}; {fix}", subject=_NAME)


@frozen
class SoftmaxCrossEntropy(Settings):
    """``softmax_cross_entropy`` with options: a row's loss is ``-sum_c w_c t_c log p_c``, with smoothed shares t.

    This is PyTorch's ``CrossEntropyLoss``. A mean with class weights divides by the sum of the labels' class weights
    for class ids, and by the number of rows for class shares. Example weights apply in both cases.

    Args:
        label_smoothing: The share s that is spread equally over all classes: ``t = (1 - s) onehot + s / O``.
        class_weight: A factor for each class. None means 1.

    Source: Szegedy et al., "Rethinking the Inception architecture", CVPR 2016, for label smoothing.

    Example:
        >>> loss = SoftmaxCrossEntropy(label_smoothing=0.2)
        >>> loss(np.array([[0.0, 0.0]]), np.array([1]))[1].round(3)
        array([[ 0.4, -0.4]])
    """

    label_smoothing: float = 0.0
    class_weight: tuple[float, ...] | None = None

    def check(self) -> None:
        """Check that the smoothing is from 0 to below 1, and that the class weights are numbers of at least 0."""
        name = "SoftmaxCrossEntropy"
        check_number(name, "label_smoothing", self.label_smoothing, low=0, high=1, closed=True)
        if self.class_weight is not None and not isinstance(self.class_weight, tuple):
            got = f"got {self.class_weight!r:.80}"
            raise ConfigError(f"class_weight must be a tuple of numbers, {got}; use tuple(...)", subject=name)
        for each in self.class_weight or ():
            check_number(name, "a class weight", each, low=0, high=INFINITY, closed=True)

    def __call__(self, logits: Array, labels: Targets, weight: Array | None = None) -> tuple[float, Array]:
        """Return the loss and its gradient."""
        _check_logits(logits)
        if not self.label_smoothing and self.class_weight is None and not _are_shares(labels):
            return _of_ids(logits, cast("Labels", labels), weight)
        _check_weight(weight, logits)
        with np.errstate(all="ignore"):  # class weights may overflow; ``averaged`` refuses the loss
            targets, share = self._targets(logits, labels, weight)
        factors = factors_of(_NAME, weight, logits, share)
        with np.errstate(all="ignore"):
            return averaged(_NAME, *_shares_rows(logits, targets), factors, _REASON)

    def total(self, labels: Targets, weight: Array | None) -> float:
        """Return the divisor of the mean over a batch: how much the batch counts in the mean over several."""
        count = labels.shape[0] if type(labels) in ARRAY_TYPES and labels.ndim else 0
        totals: Array = np.ones(count) if weight is None else weight.astype(np.float64)
        if self.class_weight is not None and not _are_shares(labels):
            ids = check_labels(_NAME, "labels", labels, count, weight=weight)
            totals = totals * _of_classes(np.array(self.class_weight, np.float64), ids)
        total = sum_all(totals)
        if self.label_smoothing and not total and (weight is None or weight.any()):
            reason = "smoothing gives every class a share; use larger batches or shards"
            raise ConfigError(f"at least one class in a batch must have a positive weight: {reason}", subject=_NAME)
        return total

    def _targets(self, logits: Array, labels: Targets, weight: Array | None) -> tuple[Array, Array | None]:
        """Return each row's shares, smoothed and weighted by class, and how much each row counts (None means 1)."""
        count, classes = logits.shape
        weights = np.array([1.0] * classes if self.class_weight is None else self.class_weight, np.float64)
        if weights.shape != (classes,):
            check_array(_NAME, "class_weight", weights, (classes,), match=("logits", logits))
        counts = None
        if _are_shares(labels):
            check_array(_NAME, "labels", labels, logits.shape, dtype=logits.dtype, match=("logits", logits))
            shares = cast("Array", labels)
            shares = counted(shares, weight, (shares >= 0) & (shares < INFINITY))
            check_targets(_NAME, "labels", shares, shares >= 0, "shares, 0 or more")
        else:
            ids = check_labels(_NAME, "labels", labels, count, classes, weight=weight)
            shares = np.zeros_like(logits)
            shares.put(_flat_index(logits, ids), 1, mode="clip")
            counts = _of_classes(weights, ids)
        smoothing = logits.dtype.type(self.label_smoothing)
        shares = shares * (1 - smoothing) + smoothing / logits.dtype.type(classes)
        return shares * weights.astype(logits.dtype), counts


@whole
def _of_classes(weights: Array, labels: Labels) -> Array:
    """Return each label's class weight, and 1 for a label that has none, which the loss refuses."""
    classes = len(weights)
    index = labels.astype(np.intp)
    index[(index < 0) | (index >= classes)] = classes
    return np.append(weights, 1.0).take(index)


def _are_shares(labels: Targets) -> bool:
    return type(labels) in ARRAY_TYPES and labels.dtype.kind == "f" and labels.ndim == 2


def _are_shares_of(labels: Targets, logits: Array) -> bool:
    """Return whether the labels are meant as class shares for these logits, even if the shape or dtype is wrong."""
    return _are_shares(labels) and (labels.dtype == logits.dtype or labels.shape == logits.shape)


_PLAIN: Final = SoftmaxCrossEntropy()


register_name(softmax_cross_entropy, "funcnet.softmax_cross_entropy")
register_name(SoftmaxCrossEntropy, "funcnet.SoftmaxCrossEntropy")
