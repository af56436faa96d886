"""Softmax cross-entropy for class ids or class shares, with label smoothing, class weights and example weights.

A loss has one label for each row, or one for each position of a row: for each step of a sequence or pixel of an image.
"""

from __future__ import annotations

from typing import Final, TypeAlias, cast

import numpy as np
from attrs import frozen

from funcnet.arithmetic import sum_all
from funcnet.core.arrays import ARRAY_TYPES, Array, Labels, beside, counted
from funcnet.core.checks import INFINITY, check_array, check_count, check_labels, check_number, check_weight
from funcnet.core.errors import ConfigError, ShapeError
from funcnet.core.names import register_name
from funcnet.core.records import Settings
from funcnet.losses.reduction import averaged, check_targets, factors_of
from funcnet.losses.softmax_rows import flat_index, ids_rows, shares_rows
from funcnet.tracing import whole

Targets: TypeAlias = "Labels | Array"
"""Class ids, shape (B, ...), or class shares (the probability of each class), shape (B, ..., O)."""

_NAME: Final = "softmax_cross_entropy"
_REASON: Final = "the logits are too large or not finite"


def softmax_cross_entropy(logits: Array, labels: Labels, weight: Array | None = None) -> tuple[float, Array]:
    """The mean over all labels of ``-log softmax(logits)[label]``, from *logits*, and its gradient.

    ``loss = mean(log(sum(exp(logits))) - logits[label])``, with the sum over the classes and the mean over the labels,
    and ``g = (softmax(logits) - onehot(label)) / (number of labels)``. The maximum over the classes is subtracted
    first, so that large logits such as 1e4 do not overflow.

    Args:
        logits: Shape (B, O), or (B, ..., O) with a label for each position. The classes are the last axis; PyTorch has
            them in the second.
        labels: Class ids from 0 to O - 1, shape (B,) or (B, ...), any integer dtype. Class shares with the logits'
            shape and dtype, such as ``one_hot`` returns, also work. Type checkers accept them only in
            ``SoftmaxCrossEntropy()``.
        weight: Shape (B,), or the labels' shape (for shares, without the axis of the classes), or its first axes. The
            mean is then sum(w l) / sum(w). The weight of a row is the weight of each of its positions. A label whose
            weight is 0 counts for nothing: it may be any integer. For PyTorch's ``ignore_index=-100``, use
            ``(labels != -100).astype(np.float32)``; for a mask of booleans, ``mask.astype(np.float32)``.

    Returns:
        The loss, summed in float64, and its gradient, in the shape of the logits.

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
        >>> labels = np.array([[1, 0, -100]])  # a row of two steps and a padded one
        >>> value, grad = softmax_cross_entropy(np.zeros((1, 3, 2)), labels, (labels != -100).astype(np.float64))
        >>> round(value, 6), grad[0, :, 0].tolist()
        (0.693147, [0.25, -0.25, 0.0])
    """
    _check_logits(logits)
    if _are_shares_of(labels, logits):
        return _PLAIN(logits, labels, weight)  # this refuses a different dtype
    return _of_ids(logits, labels, weight)


def _of_ids(logits: Array, labels: Labels, weight: Array | None) -> tuple[float, Array]:
    _check_weight(weight, logits)
    ids = _checked_ids(logits, labels, weight)
    factors = factors_of(_NAME, weight, logits)
    with np.errstate(all="ignore"):
        return averaged(_NAME, *ids_rows(logits, ids), factors, _REASON)


def _check_weight(weight: Array | None, logits: Array) -> None:
    if weight is not None:
        check_weight(_NAME, weight, len(logits), logits.shape[:-1])


def _checked_ids(logits: Array, labels: Targets, weight: Array | None) -> Labels:
    """Check class ids, one for each position. Shapes: logits (B, ..., O), labels and result (B, ...)."""
    *positions, classes = logits.shape
    second = (positions[0], *positions[2:], classes)  # the positions of logits whose classes are the second axis
    if len(positions) > 1 and type(labels) in ARRAY_TYPES and labels.shape == second != tuple(positions):
        wanted = f"{tuple(positions)} to match logits {logits.shape}"
        fix = "if the classes are the second axis, use np.moveaxis(logits, 1, -1)"
        raise ShapeError(f"labels must have shape {wanted}, got {labels.shape}; {fix}", subject=_NAME)
    return check_labels(_NAME, "labels", labels, tuple(positions), classes, weight=weight, dtype=logits.dtype)


def _check_logits(logits: Array) -> None:
    check_array(_NAME, "logits", logits, ("B", "...", "O"))
    check_count(_NAME, "the batch size", len(logits))
    check_count(_NAME, "the number of classes", logits.shape[-1])
    check_count(_NAME, "the number of positions", logits.size // logits.shape[-1])
    if logits.shape[-1] == 1:
        fix = "a softmax over one class is always 1; use binary_cross_entropy"
        raise ConfigError(f"the number of classes must be at least 2, got logits {logits.shape}; {fix}", subject=_NAME)


@frozen
class SoftmaxCrossEntropy(Settings):
    """``softmax_cross_entropy`` with options: a label's loss is ``-sum_c w_c t_c log p_c``, with smoothed shares t.

    This is PyTorch's ``CrossEntropyLoss``. A mean with class weights divides by the sum of the labels' class weights
    for class ids, and by the number of labels for class shares. Weights of rows and positions apply in both cases.

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
        if not self.label_smoothing and self.class_weight is None and not _are_shares(labels, logits.ndim):
            return _of_ids(logits, cast("Labels", labels), weight)
        _check_weight(weight, logits)
        with np.errstate(all="ignore"):  # class weights may overflow; ``averaged`` refuses the loss
            targets, share = self._targets(logits, labels, weight)
        factors = factors_of(_NAME, weight, logits, share)
        with np.errstate(all="ignore"):
            return averaged(_NAME, *shares_rows(logits, targets), factors, _REASON)

    def total(self, labels: Targets, weight: Array | None) -> float:
        """Return the divisor of the mean over a batch: how much the batch counts in the mean over several."""
        shape: tuple[int, ...] = labels.shape if type(labels) in ARRAY_TYPES and labels.ndim else (0,)
        shares = len(shape) > 1 and labels.dtype.kind == "f"
        shape = shape[:-1] if shares else shape
        totals: Array = np.ones(shape)
        if weight is not None and weight.shape == shape:
            totals = weight.astype(np.float64)
        elif weight is not None:
            check_weight(_NAME, weight, len(totals), shape, zeros=True)
            totals = totals * beside(weight, totals)
        if self.class_weight is not None and not shares:
            ids = check_labels(_NAME, "labels", labels, shape, weight=weight, dtype=np.dtype(np.float32))
            totals = totals * _of_classes(np.array(self.class_weight, np.float64), ids)
        total = sum_all(totals)
        if self.label_smoothing and not total and (weight is None or weight.any()):
            reason = "smoothing gives every class a share; use larger batches or shards"
            raise ConfigError(f"at least one class in a batch must have a positive weight: {reason}", subject=_NAME)
        return total

    def _targets(self, logits: Array, labels: Targets, weight: Array | None) -> tuple[Array, Array | None]:
        """Return each label's shares, smoothed and weighted by class, and how much it counts (None means 1)."""
        classes = logits.shape[-1]
        weights = np.array([1.0] * classes if self.class_weight is None else self.class_weight, np.float64)
        if weights.shape != (classes,):
            check_array(_NAME, "class_weight", weights, (classes,), match=("logits", logits))
        counts = None
        if _are_shares(labels, logits.ndim):
            check_array(_NAME, "labels", labels, logits.shape, dtype=logits.dtype, match=("logits", logits))
            shares = cast("Array", labels)
            shares = counted(shares, weight, (shares >= 0) & (shares < INFINITY))
            check_targets(_NAME, "labels", shares, shares >= 0, "shares, 0 or more")
        else:
            ids = _checked_ids(logits, labels, weight)
            shares = np.zeros_like(logits)
            shares.put(flat_index(logits, ids), 1, mode="clip")
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


def _are_shares(labels: Targets, ndim: int) -> bool:
    return type(labels) in ARRAY_TYPES and labels.dtype.kind == "f" and labels.ndim == ndim


def _are_shares_of(labels: Targets, logits: Array) -> bool:
    """Return whether the labels are meant as class shares for these logits, even if the shape or dtype is wrong."""
    return _are_shares(labels, logits.ndim) and (labels.dtype == logits.dtype or labels.shape == logits.shape)


_PLAIN: Final = SoftmaxCrossEntropy()


register_name(softmax_cross_entropy, "funcnet.softmax_cross_entropy")
register_name(SoftmaxCrossEntropy, "funcnet.SoftmaxCrossEntropy")
