"""Losses for regression: squared error, absolute error and the Huber loss, and the Poisson loss for counts."""

from __future__ import annotations

from typing import Final

import numpy as np
from attrs import frozen

from funcnet.arithmetic import clip, exp
from funcnet.core.arrays import Array
from funcnet.core.checks import INFINITY, check_number
from funcnet.core.names import register_name
from funcnet.core.records import Settings
from funcnet.losses.reduction import Valid, reduced

_COUNTS: Final[Valid] = (lambda t: t >= 0, "a count, 0 or more")


def mean_squared_error(prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
    """The mean over all elements of ``(prediction - target)²``, without a factor of 1/2, and its gradient.

    The gradient of an element is ``2 (prediction - target) / (B O)``.

    Args:
        prediction: Shape (B, ...).
        target: An array with the shape and dtype of the prediction. Nothing is broadcast.
        weight: Shape (B,), or the shape of the target, or its first axes. The mean is then sum(w l) / sum(w). The
            weight of a row or position is the weight of each of its elements. A target whose weight is 0 counts for
            nothing and may be any number, also NaN. For a mask of booleans, use ``mask.astype(np.float32)``; for
            unknown targets, ``(~np.isnan(target)).astype(np.float32)``.

    Raises:
        ShapeError, DTypeError, ConfigError: If an argument has the wrong type, shape or dtype, or has no elements.
        NonFiniteError: If the loss is NaN or infinite.

    Example:
        >>> mean_squared_error(np.array([[1.0, 4.0]]), np.array([[1.0, 2.0]]))
        (2.0, array([[0., 2.]]))
        >>> known = np.array([[1.0, 0.0]])  # the second target is unknown
        >>> mean_squared_error(np.array([[1.0, 4.0]]), np.array([[2.0, np.nan]]), known)
        (1.0, array([[-2.,  0.]]))
    """
    return reduced("mean_squared_error", prediction, target, weight, _squared)


def _squared(y: Array, t: Array) -> tuple[Array, Array]:
    d = y - t
    return d * d, d + d


def mean_absolute_error(prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
    """The mean over all elements of ``|prediction - target|``, and its gradient; the slope at 0 is 0.

    Shapes and errors are those of ``mean_squared_error``.

    Example:
        >>> mean_absolute_error(np.array([[1.0, 4.0]]), np.array([[1.0, 2.0]]))
        (1.0, array([[0. , 0.5]]))
    """
    return reduced("mean_absolute_error", prediction, target, weight, _absolute)


def _absolute(y: Array, t: Array) -> tuple[Array, Array]:
    d = y - t
    return np.abs(d), np.sign(d)


@frozen
class Huber(Settings):
    """The Huber loss: the mean of ``d²/2`` for errors d up to ``delta`` and ``delta (|d| - delta/2)`` for larger ones.

    This is PyTorch's ``HuberLoss``. Shapes and errors are those of ``mean_squared_error``.

    Source: Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964).

    Example:
        >>> Huber(delta=2.0)(np.array([1.0, 5.0]), np.array([0.0, 1.0]))
        (3.25, array([0.5, 1. ]))
    """

    delta: float = 1.0

    def check(self) -> None:
        """Check that delta is above 0."""
        check_number("Huber", "delta", self.delta, low=0, high=INFINITY)

    def __call__(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
        """Return the loss and its gradient."""
        return reduced("huber", prediction, target, weight, self.elements)

    def elements(self, y: Array, t: Array) -> tuple[Array, Array]:
        """Return the loss ``s (d - s/2)``, which covers both cases, and the slope s: d clipped to ``delta``."""
        d, delta = y - t, y.dtype.type(self.delta)
        s = clip(d, -delta, delta)
        return s * (d - s * 0.5), s


def huber(prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
    """The Huber loss with ``delta=1.0``, as a function.

    Example:
        >>> huber(np.array([0.5, 3.0]), np.array([0.0, 0.0]))
        (1.3125, array([0.25, 0.5 ]))
    """
    return Huber()(prediction, target, weight)


def poisson(prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
    """The mean of ``exp(prediction) - target * prediction``: the prediction is the *logarithm* of the rate.

    This is PyTorch's ``PoissonNLLLoss`` with its default settings, which leave out the term that depends on the target
    alone. Shapes and errors are those of ``mean_squared_error``, plus a LabelError if a target is below 0.

    Example:
        >>> poisson(np.array([0.0, 0.0]), np.array([1.0, 3.0]))
        (1.0, array([ 0., -1.]))
    """
    return reduced("poisson", prediction, target, weight, _poisson, valid=_COUNTS)


def _poisson(y: Array, t: Array) -> tuple[Array, Array]:
    rate = exp(y)
    return rate - t * y, rate - t


register_name(Huber, "funcnet.Huber")
register_name(mean_squared_error, "funcnet.mean_squared_error")
register_name(mean_absolute_error, "funcnet.mean_absolute_error")
register_name(huber, "funcnet.huber")
register_name(poisson, "funcnet.poisson")
