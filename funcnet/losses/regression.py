"""Losses for numbers: squared, absolute and Huber's errors, and Poisson's for counts."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from funcnet.arithmetic import exp
from funcnet.core.arrays import Array
from funcnet.core.checks import INFINITY, check_number
from funcnet.core.names import register_name
from funcnet.losses.reduction import check_targets, reduced


def mean_squared_error(prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
    """The mean over all elements of ``(prediction - target)²``, without a factor of 1/2, and its gradient.

    The gradient of an element is ``2 (prediction - target) / (B O)``.

    Args:
        prediction: Shape (B, ...).
        target: Of the prediction's shape and dtype: no broadcasting.
        weight: Shape (B,): the mean is then sum(w l) / sum(w), l a row's own mean.

    Raises:
        ShapeError, DTypeError, ConfigError: If an argument is none of these, or there is no element.
        NonFiniteError: If the loss is NaN or infinite.

    Example:
        >>> mean_squared_error(np.array([[1.0, 4.0]]), np.array([[1.0, 2.0]]))
        (2.0, array([[0., 2.]]))
    """
    return reduced("mean_squared_error", prediction, target, weight, _squared)


def _squared(y: Array, t: Array) -> tuple[Array, Array]:
    d = y - t
    return d * d, d + d


def mean_absolute_error(prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
    """The mean over all elements of ``|prediction - target|``, and its gradient; the slope at 0 is 0.

    Shapes and errors: as for ``mean_squared_error``.

    Example:
        >>> mean_absolute_error(np.array([[1.0, 4.0]]), np.array([[1.0, 2.0]]))
        (1.0, array([[0. , 0.5]]))
    """
    return reduced("mean_absolute_error", prediction, target, weight, _absolute)


def _absolute(y: Array, t: Array) -> tuple[Array, Array]:
    d = y - t
    return np.abs(d), np.sign(d)


@frozen
class Huber:
    """Huber's loss: the mean of ``d²/2`` for errors d up to ``delta`` and ``delta (|d| - delta/2)`` for larger ones.

    PyTorch's ``HuberLoss``. Shapes and errors: as for ``mean_squared_error``.

    Source: Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964).

    Example:
        >>> Huber(delta=2.0)(np.array([1.0, 5.0]), np.array([0.0, 1.0]))
        (3.25, array([0.5, 1. ]))
    """

    delta: float = 1.0

    def __attrs_post_init__(self) -> None:
        check_number("Huber", "delta", self.delta, low=0, high=INFINITY)

    def __call__(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
        """The loss and its gradient."""
        return reduced("huber", prediction, target, weight, self.elements)

    def elements(self, y: Array, t: Array) -> tuple[Array, Array]:
        """``s (d - s/2)`` is both forms, where the slope s is d, clipped to ``delta``."""
        d, delta = y - t, y.dtype.type(self.delta)
        s = np.clip(d, -delta, delta)
        return s * (d - s * 0.5), s


def huber(prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
    """``Huber(delta=1.0)``.

    Example:
        >>> huber(np.array([0.5, 3.0]), np.array([0.0, 0.0]))
        (1.3125, array([0.25, 0.5 ]))
    """
    return Huber()(prediction, target, weight)


def poisson(prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
    """The mean of ``exp(prediction) - target * prediction``: the prediction is the rate's *logarithm*.

    PyTorch's ``PoissonNLLLoss`` as it is by default: without the term of the target alone. Shapes and errors: as for
    ``mean_squared_error``; and a LabelError if a target is below 0.

    Example:
        >>> poisson(np.array([0.0, 0.0]), np.array([1.0, 3.0]))
        (1.0, array([ 0., -1.]))
    """
    return reduced("poisson", prediction, target, weight, _poisson)


def _poisson(y: Array, t: Array) -> tuple[Array, Array]:
    check_targets("poisson", "target", t, t >= 0, "a count, 0 or more")
    rate = exp(y)
    return rate - t * y, rate - t


register_name(Huber, "funcnet.Huber")
register_name(mean_squared_error, "funcnet.mean_squared_error")
register_name(mean_absolute_error, "funcnet.mean_absolute_error")
register_name(huber, "funcnet.huber")
register_name(poisson, "funcnet.poisson")
