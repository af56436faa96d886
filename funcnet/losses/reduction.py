"""Code shared by all losses: argument checks, row weights, the mean over the batch and its gradient."""

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
"""``(prediction, target) -> (losses, slopes)``: each element's loss and its derivative (slope) by the prediction."""

TOO_LARGE: Final = "a prediction or a target is too large or not finite"


def reduced(
    name: str, prediction: Array, target: Array, weight: Array | None, elements: Elements
) -> tuple[float, Array]:
    """Return the mean of an elementwise loss over all elements, and its gradient. Rows may have weights.

    Args:
        name: The name of the loss, for messages.
        prediction: Shape (B, ...).
        target: An array with the shape and dtype of the prediction.
        weight: Shape (B,). The mean is then sum(w l) / sum(w); all elements of a row have the row's weight.
        elements: The function that computes each element's loss and slope.
    """
    check_array(name, "prediction", prediction, ("B", "..."))
    check_count(name, "the number of predictions", prediction.size)
    _check_target(name, target, prediction)
    if not prediction.flags.c_contiguous:
        target = _in_order(target, prediction)
    factors = row_factors(name, weight, prediction)
    with np.errstate(all="ignore"):  # ``averaged`` refuses a loss that is not finite
        return averaged(name, *elements(prediction, target), factors)


def _in_order(target: Array, prediction: Array) -> Array:
    """Copy the target into the prediction's memory order, which is the order of the sum."""
    copy = np.empty_like(prediction)
    copy[...] = target
    return copy


def averaged(
    name: str, losses: Array, slopes: Array, factors: Array | None, reason: str = TOO_LARGE
) -> tuple[float, Array]:
    """Return the mean of the losses and its gradient, which is the slopes divided by the number of losses.

    Args:
        name: The name of the loss, for messages.
        losses: Shape (B, ...).
        slopes: Shape (B, ...). The derivatives of each row's losses with respect to that row of the prediction.
        factors: Shape (B,). The factors by which each row's losses are multiplied, see ``row_factors``. None means 1.
        reason: The reason why the mean may not be finite, for the message.

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
    """Return the factor of each row's loss in the mean over the batch: ``w / mean(w c)``. None means 1.

    Args:
        name: The name of the loss, for messages.
        weight: Shape (B,). None means 1.
        like: Shape (B, ...). The result has its dtype.
        counted: Shape (B,). How much each row counts in the mean, c. None means 1.

    Raises:
        ShapeError, DTypeError, NonFiniteError, ConfigError: If the weights are invalid, or ``mean(w c)`` is not above 0
            and finite.
    """
    if weight is None and counted is None:
        return None
    if weight is not None:
        check_weight(name, weight, len(like))
    wide = np.ones(len(like)) if weight is None else weight.astype(np.float64)
    total = mean(wide if counted is None else wide * counted)
    if not 0 < total < INFINITY:
        raise ConfigError(f"the sum of the weights must be positive and finite, got a mean of {total}", subject=name)
    return (wide / total).astype(like.dtype)


def check_targets(name: str, what: str, target: Array, good: NDArray[np.bool_], wanted: str) -> None:
    """Check that every target is valid.

    Raises:
        LabelError: If a target is invalid; the message says which one, and what is wanted.
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
