"""Losses: functions of prediction and target that return a mean and the gradient of that mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from inspect import signature
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np

from funcnet.arithmetic import sum_all
from funcnet.core.arrays import ARRAY_TYPES, AnyArray, Array
from funcnet.core.checks import check_weight
from funcnet.core.errors import ConfigError
from funcnet.tracing import attempt

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Loss(Protocol[T_contra]):
    """``(prediction, target) -> (mean over the batch, gradient of that mean by the prediction)``."""

    def __call__(self, prediction: Array, target: T_contra, /) -> tuple[float, Array]:
        """The loss and its gradient, which has the shape of the prediction."""
        ...


class WeightedLoss(Protocol[T_contra]):
    """A loss that takes weights as its third argument ``weight``; its mean is ``sum(w l) / sum(w)``.

    Shapes: weight (B,); or the shape of the target, or its first axes, if the loss takes weights of positions.
    """

    def __call__(self, prediction: Array, target: T_contra, weight: Array | None = None, /) -> tuple[float, Array]:
        """The loss and its gradient, which has the shape of the prediction."""
        ...


@runtime_checkable
class Totalled(Protocol):
    """A loss whose mean divides by something other than the number of positions or the sum of the weights."""

    def total(self, target: Any, weight: Array | None, /) -> float:
        """Return the number that the mean divides by."""
        ...


def weighted_loss(loss: Loss[T], prediction: Array, target: T, weight: Array | None) -> tuple[float, Array]:
    """Call the loss, with the example weights unless they are None.

    Raises:
        ConfigError: If weights are given but the loss takes no weights: its third parameter is not named ``weight``.
    """
    if weight is None:
        return attempt(loss, prediction, target)
    names = list(signature(loss).parameters)
    if names[2:3] != ["weight"]:
        fix = "name its third parameter weight, or use batches without weights"
        shown = getattr(loss, "__name__", repr(loss))
        raise ConfigError(f"the loss does not take example weights: {shown}({', '.join(names)}); {fix}")
    return attempt(cast("WeightedLoss[T]", loss), prediction, target, weight)


def is_loss(value: Callable[..., object]) -> bool:
    """Whether a function's parameters have the names of those of a loss: ``(prediction, target)`` or a ``weight``.

    Example:
        >>> import funcnet as fn
        >>> is_loss(fn.mean_squared_error), is_loss(fn.train_step(fn.mean_squared_error))
        (True, False)
    """
    try:
        names = list(signature(value).parameters)
    except (TypeError, ValueError):  # a function of C without a signature
        return False
    return names[2:3] == ["weight"] or names == ["prediction", "target"]


def total_of(loss: Loss[T], rows: int, target: T, weight: Array | None) -> float:
    """Return the total of a part of the examples: the number that the loss's mean over it divides by.

    The mean over several parts is ``sum(total * mean) / sum(total)``, also for sequences of different lengths. A part
    whose total is 0 counts for nothing; a loss refuses such a part, so leave it out before the loss is called. All
    parts must have weights of the same axes, or none.

    **The rule.** Class ids (B, ...) have one position for each id. Other targets (B, ..., O) have one position for the
    O numbers of the last axis, so a target (B,) or (B, O) has one position for each row. The total is the number of
    positions, or the sum of their weights: the weight of a row is the weight of each of its positions. The total of
    weights of elements is the sum of these weights.

    Args:
        loss: The loss. Its method ``total(target, weight)`` gives the total, if it has one.
        rows: The number of rows in the part, B.
        target: The part's targets. Targets that are not an array have one position for each row.
        weight: Shape (B,), or the shape of the target, or its first axes, or None.

    Raises:
        ShapeError, DTypeError, NonFiniteError, ConfigError: If a weight is invalid. All weights may be 0.

    Example:
        >>> import funcnet as fn
        >>> loss, target = fn.mean_squared_error, np.zeros((2, 3))
        >>> total_of(loss, 2, target, None)
        2.0
        >>> total_of(loss, 2, target, np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
        3.0
        >>> sequences = np.zeros((2, 3, 1))  # two sequences of three steps
        >>> total_of(loss, 2, sequences, None), total_of(loss, 2, sequences, np.array([1.0, 0.5]))
        (6.0, 4.5)
    """
    array = cast("AnyArray", target) if isinstance(target, tuple(ARRAY_TYPES)) else None
    if weight is not None:
        subject = getattr(loss, "__name__", type(loss).__name__)
        check_weight(subject, weight, rows, None if array is None else array.shape, zeros=True)
    if isinstance(loss, Totalled):
        return loss.total(target, weight)
    total = float(rows) if weight is None else sum_all(weight.astype(np.float64))
    if array is None:
        return total
    positions = array.shape if array.dtype.kind in "iu" or array.ndim == 1 else array.shape[:-1]
    each = math.prod(positions[1 if weight is None else weight.ndim :])
    return total * each if each > 1 else total  # a loss refuses rows without positions
