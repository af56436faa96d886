"""From a loss an element to the mean over the batch, with weights or without."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from funcnet.arithmetic import mean
from funcnet.arrays import Array, check_array, check_finite, lock
from funcnet.errors import ConfigError, NonFiniteError
from funcnet.network import INFINITY
from funcnet.settings import check_count


def check_weight(name: str, weight: Array, count: int) -> None:
    """Check that weights are one a row, finite, at least 0, and not all 0.

    Raises:
        ShapeError, DTypeError, NonFiniteError, ConfigError: Says which and where.
    """
    check_array(name, "weight", weight, (count,))
    check_finite(name, "weight", weight)
    if (weight < 0).any():
        first = int((weight < 0).argmax())
        raise ConfigError(f"weight must be 0 or more, got weight[{first}] = {weight[first]}", subject=name)
    if not weight.any():
        raise ConfigError("weight must have a number above 0, got only 0", subject=name)


def check_value(name: str, value: float) -> None:
    """Check that a loss is finite.

    Raises:
        NonFiniteError: If it is not.
    """
    if not -INFINITY < value < INFINITY:
        raise NonFiniteError(f"the loss is {value}; the predictions are too large or not finite", subject=name)


def row_weights(weight: Array, like: Array) -> Array:
    """Weights as factors of rows, in the dtype of ``like``. Shapes: weight (B,), like (B, ...), result (B, 1, ...)."""
    return weight.astype(like.dtype).reshape(-1, *(1 for _ in like.shape[1:]))


def reduced(
    name: str,
    prediction: Array,
    target: Array,
    weight: Array | None,
    elements: Callable[[Array, Array], tuple[Array, Array]],
) -> tuple[float, Array]:
    """The mean over all elements of a loss that has a value and a slope an element; rows may have weights.

    Args:
        name: The loss, for messages.
        prediction: Shape (B, ...).
        target: Shape and dtype of the prediction.
        weight: Shape (B,); the mean is then sum(w l) / sum(w), over all elements of a row alike.
        elements: ``(prediction, target) -> (losses, slopes)``, elementwise.
    """
    check_array(name, "prediction", prediction, ("B", "..."))
    check_count(name, "the number of predictions", prediction.size)
    shape = prediction.shape
    check_array(name, "target", target, shape, dtype=prediction.dtype, match=("prediction", prediction))
    if weight is not None:
        check_weight(name, weight, len(prediction))
    with np.errstate(over="ignore", invalid="ignore"):  # a loss that is not finite is refused
        losses, slopes = elements(prediction, target)
        if weight is None:
            value, gradient = mean(losses), slopes / prediction.size
        else:
            factors, total = row_weights(weight, prediction), mean(weight.astype(np.float64))
            value = mean(losses * factors) / total
            gradient = slopes * factors / prediction.dtype.type(total * prediction.size)
    check_value(name, value)
    return value, lock(gradient)
