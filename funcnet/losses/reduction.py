"""What stands once for all losses: checks of arguments, weights of rows, the mean over the batch and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from funcnet.arithmetic import mean
from funcnet.core.arrays import ARRAY_TYPES, Array, lock
from funcnet.core.checks import INFINITY, check_array, check_count, check_weight
from funcnet.core.errors import ConfigError, LabelError, NonFiniteError, ShapeError

Elements: TypeAlias = Callable[[Array, Array], tuple[Array, Array]]
"""``(prediction, target) -> (losses, slopes)``: the loss of each element, and its derivative by the prediction."""

TOO_LARGE: Final = "a prediction or a target is too large or not finite"


def reduced(
    name: str, prediction: Array, target: Array, weight: Array | None, elements: Elements
) -> tuple[float, Array]:
    """The mean over all elements of a loss that has a value and a slope an element; rows may have weights.

    Args:
        name: The loss, for messages.
        prediction: Shape (B, ...).
        target: Shape and dtype of the prediction.
        weight: Shape (B,); the mean is then sum(w l) / sum(w), over all elements of a row alike.
        elements: What an element is worth.
    """
    check_array(name, "prediction", prediction, ("B", "..."))
    check_count(name, "the number of predictions", prediction.size)
    _check_target(name, target, prediction)
    if not prediction.flags.c_contiguous:
        target = _in_order(target, prediction)
    factors = row_factors(name, weight, prediction)
    with np.errstate(all="ignore"):  # a loss that is not finite is refused
        return averaged(name, *elements(prediction, target), factors)


def _in_order(target: Array, prediction: Array) -> Array:
    """The target in the prediction's memory order, which is that of the sum."""
    copy = np.empty_like(prediction)
    copy[...] = target
    return copy


def averaged(
    name: str, losses: Array, slopes: Array, factors: Array | None, reason: str = TOO_LARGE
) -> tuple[float, Array]:
    """The mean of losses, and its gradient: their slopes, divided by their number.

    Args:
        name: The loss, for messages.
        losses: Shape (B, ...).
        slopes: Shape (B, ...): the derivatives by the prediction; all of a row's count for its losses.
        factors: Shape (B,): what a row's losses are multiplied by, see ``row_factors``; None for 1.
        reason: Why they may not be finite.

    Raises:
        NonFiniteError: If the mean is NaN or infinite.
    """
    if factors is not None:
        losses, slopes = losses * _beside(factors, losses), slopes * _beside(factors, slopes)
    value = mean(losses)
    if not -INFINITY < value < INFINITY:
        raise NonFiniteError(f"the loss is {value}; {reason}", subject=name)
    return value, lock(slopes / losses.size)


def _beside(factors: Array, rows: Array) -> Array:
    return factors.reshape(-1, *(1 for _ in rows.shape[1:]))


def row_factors(name: str, weight: Array | None, like: Array, counted: Array | None = None) -> Array | None:
    """What a row's loss is multiplied by before the mean over the batch: ``w / mean(w c)``; None for 1.

    Args:
        name: The loss, for messages.
        weight: Shape (B,); None for 1.
        like: Shape (B, ...), whose dtype is the result's.
        counted: Shape (B,): what a row counts for, c; None for 1.

    Raises:
        ShapeError, DTypeError, NonFiniteError, ConfigError: If the weights are invalid, or the rows together count for
            nothing.
    """
    if weight is None and counted is None:
        return None
    if weight is not None:
        check_weight(name, weight, len(like))
    wide = np.ones(len(like)) if weight is None else weight.astype(np.float64)
    total = mean(wide if counted is None else wide * counted)
    if not 0 < total < INFINITY:
        raise ConfigError(f"the weights must have a sum above 0 and finite, got a mean of {total}", subject=name)
    return (wide / total).astype(like.dtype)


def check_targets(name: str, what: str, target: Array, good: NDArray[np.bool_], wanted: str) -> None:
    """Check that every target is good.

    Raises:
        LabelError: Says what is wanted and which is not.
    """
    if not good.all():
        index = tuple(int(i) for i in np.unravel_index(int(good.argmin()), good.shape))
        where = ", ".join(map(str, index))
        raise LabelError(f"{what} must be {wanted}, got {what}[{where}] = {target[index]}", subject=name)


def _check_target(name: str, target: Array, prediction: Array) -> None:
    if type(target) in ARRAY_TYPES and target.ndim == 1 and prediction.shape == (len(target), 1):
        wanted = f"{prediction.shape} to match prediction {prediction.shape}"
        raise ShapeError(f"target must have shape {wanted}, got {target.shape}; use target[:, None]", subject=name)
    check_array(name, "target", target, prediction.shape, dtype=prediction.dtype, match=("prediction", prediction))
