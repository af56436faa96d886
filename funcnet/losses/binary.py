"""Losses for two classes: cross-entropy from a logit, and the hinge."""

from __future__ import annotations

import numpy as np

from funcnet.arithmetic import exp, log1p
from funcnet.arrays import Array
from funcnet.errors import LabelError
from funcnet.losses.reduction import reduced
from funcnet.records import register_name


def binary_cross_entropy(logits: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
    """The mean over all elements of ``-t log s - (1 - t) log (1 - s)``, s the logistic function of the *logit*.

    Computed as ``max(x, 0) - t x + log(1 + exp(-|x|))``, which overflows for no logit; the gradient of an element is
    ``(s - t) / (B O)``.

    Args:
        logits: Shape (B, ...).
        target: From 0 to 1, of the logits' shape and dtype: no broadcasting.
        weight: Shape (B,), or None.

    Raises:
        ShapeError, DTypeError, ConfigError: If an argument is none of these, or there is no element.
        LabelError: If a target is not from 0 to 1; says which.
        NonFiniteError: If the loss is NaN or infinite.

    Example:
        >>> value, gradient = binary_cross_entropy(np.array([[0.0], [0.0]]), np.array([[1.0], [0.0]]))
        >>> round(value, 6), gradient
        (0.693147, array([[-0.25],
               [ 0.25]]))
    """
    return reduced("binary_cross_entropy", logits, target, weight, _binary)


def _binary(x: Array, t: Array) -> tuple[Array, Array]:
    _check_targets("binary_cross_entropy", t, (t >= 0) & (t <= 1), "from 0 to 1")
    small = exp(-np.abs(x))
    share = np.where(x >= 0, x.dtype.type(1), small) / (1 + small)
    return np.maximum(x, 0) - t * x + log1p(small), share - t


def hinge(prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
    """The mean over all elements of ``max(0, 1 - t y)``, for targets t of *-1 and 1*; the slope at the kink is 0.

    Keras' and optax' ``hinge``. Shapes and errors: as for ``binary_cross_entropy``.

    Source: Cortes and Vapnik, "Support-vector networks", Machine Learning 20 (1995).

    Example:
        >>> hinge(np.array([0.5, 2.0]), np.array([-1.0, 1.0]))
        (0.75, array([0.5, 0. ]))
    """
    return reduced("hinge", prediction, target, weight, _hinge)


def _hinge(y: Array, t: Array) -> tuple[Array, Array]:
    _check_targets("hinge", t, np.abs(t) == 1, "-1 or 1")
    margin = 1 - t * y
    return np.maximum(margin, 0), np.where(margin > 0, -t, t.dtype.type(0))


def _check_targets(
    name: str, target: Array, good: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], wanted: str
) -> None:
    if not good.all():
        index = tuple(int(i) for i in np.unravel_index(int(good.argmin()), good.shape))
        where = ", ".join(map(str, index))
        raise LabelError(f"target must be {wanted}, got target[{where}] = {target[index]}", subject=name)


register_name(binary_cross_entropy, "funcnet.binary_cross_entropy")
register_name(hinge, "funcnet.hinge")
