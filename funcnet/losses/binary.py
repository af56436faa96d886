"""Losses for two classes: binary cross-entropy of logits, and the hinge loss."""

from __future__ import annotations

import numpy as np

from funcnet.arithmetic import exp, log1p
from funcnet.core.arrays import Array
from funcnet.core.names import register_name
from funcnet.losses.reduction import check_targets, reduced


def binary_cross_entropy(logits: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
    """The mean over all elements of ``-t log s - (1 - t) log (1 - s)``, with s the logistic function of the *logit*.

    The loss is computed as ``max(x, 0) - t x + log(1 + exp(-|x|))``, which does not overflow for any logit x. The
    gradient of an element is ``(s - t) / (B O)``. This is PyTorch's ``BCEWithLogitsLoss``.

    Args:
        logits: Shape (B, ...).
        target: Numbers from 0 to 1, with the shape and dtype of the logits. Nothing is broadcast.
        weight: Shape (B,). The mean is then sum(w l) / sum(w), where l is the mean loss of a row.

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
    return reduced("binary_cross_entropy", logits, target, weight, _binary)


def _binary(x: Array, t: Array) -> tuple[Array, Array]:
    check_targets("binary_cross_entropy", "target", t, (t >= 0) & (t <= 1), "from 0 to 1")
    small = exp(-np.abs(x))
    logistic = np.where(x >= 0, 1.0, small) / (small + 1.0)
    return np.maximum(x, 0.0) - t * x + log1p(small), logistic - t


def hinge(prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
    """The mean over all elements of ``max(0, 1 - t y)``, for targets t of *-1 and 1*; the slope at the kink is 0.

    This is the ``hinge`` of Keras and Optax. PyTorch does not have it (its ``HingeEmbeddingLoss`` is a different loss).
    Shapes and errors are those of ``binary_cross_entropy``.

    Source: Cortes and Vapnik, "Support-vector networks", Machine Learning 20 (1995).

    Example:
        >>> hinge(np.array([0.5, 2.0]), np.array([-1.0, 1.0]))
        (0.75, array([0.5, 0. ]))
    """
    return reduced("hinge", prediction, target, weight, _hinge)


def _hinge(y: Array, t: Array) -> tuple[Array, Array]:
    check_targets("hinge", "target", t, np.abs(t) == 1, "-1 or 1")
    missing = 1.0 - t * y
    return np.maximum(missing, 0.0), np.where(missing > 0, -t, 0.0)


register_name(binary_cross_entropy, "funcnet.binary_cross_entropy")
register_name(hinge, "funcnet.hinge")
