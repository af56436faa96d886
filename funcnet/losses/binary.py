"""Losses for two classes: binary cross-entropy of logits, and the hinge loss."""

from __future__ import annotations

from typing import Final

import numpy as np

from funcnet.arithmetic import exp, log1p, maximum
from funcnet.core.arrays import Array
from funcnet.core.names import register_name
from funcnet.losses.reduction import Valid, reduced

_BINARY_TARGETS: Final[Valid] = (lambda t: (t >= 0) & (t <= 1), "from 0 to 1")
_HINGE_TARGETS: Final[Valid] = (lambda t: np.abs(t) == 1, "-1 or 1")


def binary_cross_entropy(logits: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
    """The mean over all elements of ``-t log s - (1 - t) log (1 - s)``, with s the logistic function of the *logit*.

    The loss is computed as ``(1 - t) max(x, 0) + t max(-x, 0) + log(1 + exp(-|x|))``, which does not overflow for any
    logit x. The gradient of an element is ``(s - t) / (B O)``, computed as ``(1 - t) s - t (1 - s)``. This is
    PyTorch's ``BCEWithLogitsLoss``.

    Args:
        logits: Shape (B, ...).
        target: Numbers from 0 to 1, with the shape and dtype of the logits. Nothing is broadcast.
        weight: Shape (B,), or the shape of the target, or its first axes. The mean is then sum(w l) / sum(w). The
            weight of a row or position is the weight of each of its elements. A target whose weight is 0 counts for
            nothing and may be any number, also NaN. For unknown targets, use
            ``(~np.isnan(target)).astype(np.float32)``; for rare positives, ``1 + (p - 1) * target``, where p, a number
            or shape (O,), is PyTorch's ``pos_weight``. PyTorch divides the same sum by the number of elements: its loss
            is ``weight.mean()`` times this one. (For targets between 0 and 1, also replace the target by
            ``p * target / weight``.)

    Raises:
        ShapeError, DTypeError, ConfigError: If an argument has the wrong type, shape or dtype, or has no elements.
        LabelError: If a target is not from 0 to 1; the message says which one.
        NonFiniteError: If the loss is NaN or infinite.

    Example:
        >>> value, gradient = binary_cross_entropy(np.array([[0.0], [0.0]]), np.array([[1.0], [0.0]]))
        >>> round(value, 6), gradient
        (0.693147, array([[-0.25],
               [ 0.25]]))
    """
    return reduced("binary_cross_entropy", logits, target, weight, _binary, valid=_BINARY_TARGETS)


def _binary(x: Array, t: Array) -> tuple[Array, Array]:
    """Each loss is a sum of positive terms; a slope is ``s(x) - t`` without a cancellation where t is 0 or 1."""
    small = exp(-np.abs(x))
    one, other = 1.0 / (small + 1.0), small / (small + 1.0)
    losses = maximum(x, 0.0) * (1.0 - t) + maximum(-x, 0.0) * t + log1p(small)
    return losses, (1.0 - t) * np.where(x >= 0, one, other) - t * np.where(x >= 0, other, one)


def hinge(prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
    """The mean over all elements of ``max(0, 1 - t y)``, for targets t of *-1 and 1*; the slope at the kink is 0.

    This is the ``hinge`` of Keras and Optax. PyTorch does not have it (its ``HingeEmbeddingLoss`` is a different loss).
    Shapes and errors are those of ``binary_cross_entropy``.

    Source: Cortes and Vapnik, "Support-vector networks", Machine Learning 20 (1995).

    Example:
        >>> hinge(np.array([0.5, 2.0]), np.array([-1.0, 1.0]))
        (0.75, array([0.5, 0. ]))
    """
    return reduced("hinge", prediction, target, weight, _hinge, valid=_HINGE_TARGETS)


def _hinge(y: Array, t: Array) -> tuple[Array, Array]:
    missing = 1.0 - t * y
    return maximum(missing, 0.0), np.where(missing > 0, -t, 0.0)


register_name(binary_cross_entropy, "funcnet.binary_cross_entropy")
register_name(hinge, "funcnet.hinge")
