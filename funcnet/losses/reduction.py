"""From a loss an element to the mean over the batch, with a weight a row or without; at once or on buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from funcnet.arithmetic import mean
from funcnet.arrays import Array, check_array, check_weight, lock
from funcnet.errors import ConfigError, LabelError, NonFiniteError, ShapeError
from funcnet.plans import PlannedLoss, scalar
from funcnet.settings import INFINITY, check_count

Elements: TypeAlias = Callable[[Array, Array, Array, Array], None]
"""``(prediction, target, losses, slopes)``: computes an element's loss and slope into the last two."""

TOO_LARGE: Final = "a prediction or a target is too large or not finite"


def check_value(name: str, value: float, reason: str = TOO_LARGE) -> None:
    """Check that a loss is finite.

    Raises:
        NonFiniteError: If it is not.
    """
    if not -INFINITY < value < INFINITY:
        raise NonFiniteError(f"the loss is {value}; {reason}", subject=name)


def check_targets(name: str, what: str, target: Array, good: NDArray[np.bool_], wanted: str) -> None:
    """Check that every target is good.

    Raises:
        LabelError: Says what is wanted and which is not.
    """
    if not good.all():
        index = tuple(int(i) for i in np.unravel_index(int(good.argmin()), good.shape))
        where = ", ".join(map(str, index))
        raise LabelError(f"{what} must be {wanted}, got {what}[{where}] = {target[index]}", subject=name)


def row_factors(name: str, weight: Array, like: Array, counted: Array | None = None) -> Array:
    """What a row's loss is multiplied by before the mean over the batch: ``w / mean(w c)``, c what a row counts for.

    Shapes: weight and counted (B,), like (B, ...), whose dtype is the result's, (B, 1, ...).

    Raises:
        ConfigError: If the rows together count for nothing.
    """
    wide = weight.astype(np.float64)
    total = mean(wide if counted is None else wide * counted)
    if not 0 < total < INFINITY:
        raise ConfigError(f"the weights must have a sum above 0 and finite, got a mean of {total}", subject=name)
    factors: Array = (wide / total).astype(like.dtype)
    return factors.reshape(-1, *(1 for _ in like.shape[1:]))


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
    factors = None
    if weight is not None:
        check_weight(name, weight, len(prediction))
        factors = row_factors(name, weight, prediction)
    losses, slopes = np.empty_like(prediction), np.empty_like(prediction)
    with np.errstate(all="ignore"):  # a loss that is not finite is refused
        elements(prediction, target, losses, slopes)
        if factors is not None:
            losses *= factors
            slopes *= factors
        value = mean(losses)
        slopes /= scalar(prediction.size, prediction)
    check_value(name, value)
    return value, lock(slopes)


def _check_target(name: str, target: Array, prediction: Array) -> None:
    if type(target) is np.ndarray and target.ndim == 1 and prediction.shape == (len(target), 1):
        wanted = f"{prediction.shape} to match prediction {prediction.shape}"
        raise ShapeError(f"target must have shape {wanted}, got {target.shape}; use target[:, None]", subject=name)
    check_array(name, "target", target, prediction.shape, dtype=prediction.dtype, match=("prediction", prediction))


def planned(name: str, elements: Elements) -> PlannedLoss:
    """``reduced`` on buffers."""

    def plan(prediction: Array, g: Array) -> Callable[[Array], float]:
        losses, size = np.empty_like(prediction), scalar(prediction.size, prediction)

        def run(target: Array) -> float:
            _check_target(name, target, g)
            elements(prediction, target, losses, g)
            np.divide(g, size, g)
            value = mean(losses)
            check_value(name, value)
            return value

        return run

    return plan
