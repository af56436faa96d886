"""Code shared by all losses: argument checks, row weights, the mean over the batch and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from funcnet.arithmetic import mean
from funcnet.core.arrays import ARRAY_TYPES, Array, beside, contiguous, lock
from funcnet.core.checks import INFINITY, check_array, check_count, check_weight, first_true
from funcnet.core.errors import ConfigError, LabelError, NonFiniteError, ShapeError

Elements: TypeAlias = Callable[[Array, Array], tuple[Array, Array]]
"""``(prediction, target) -> (losses, slopes)``: each element's loss and its derivative (slope) by the prediction."""

Valid: TypeAlias = tuple[Callable[[Array], NDArray[np.bool_]], str]
"""A function that says which targets are valid, and the description of a valid target for the message."""

TOO_LARGE: Final = "a prediction or a target is too large or not finite"


def reduced(
    name: str,
    prediction: Array,
    target: Array,
    weight: Array | None,
    elements: Elements,
    *,
    valid: Valid | None = None,
) -> tuple[float, Array]:
    """Return the mean of an elementwise loss over all elements, and its gradient. Rows or elements may have weights.

    Args:
        name: The name of the loss, for messages.
        prediction: Shape (B, ...).
        target: An array with the shape and dtype of the prediction.
        weight: Shape (B,), or the shape of the prediction, or its first axes. The mean is then sum(w l) / sum(w); all
            elements of a row or position have its weight. A target whose weight is 0 may be any number, also NaN.
        elements: The function that computes each element's loss and slope.
        valid: The function that says which targets are valid, and what they must be. None allows any.
    """
    check_array(name, "prediction", prediction, ("B", "..."))
    check_count(name, "the number of predictions", prediction.size)
    _check_target(name, target, prediction)
    if weight is not None:
        check_weight(name, weight, len(prediction), prediction.shape)
        weight = _in_order(weight, prediction) if weight.ndim == prediction.ndim > 1 else contiguous(weight)
    nothing = None if weight is None else beside(weight, prediction) == 0
    if valid is not None:
        good = valid[0](target)
        check_targets(name, "target", target, good if nothing is None else good | nothing, valid[1])
    factors = factors_of(name, weight, prediction)
    if not prediction.flags.c_contiguous:
        target = _in_order(target, prediction)
    with np.errstate(all="ignore"):  # ``averaged`` refuses a loss that is not finite
        losses, slopes = elements(prediction, target)
        if nothing is not None:
            nothing = nothing & np.isfinite(prediction)  # a prediction must be finite at any weight
            losses, slopes = (np.where(nothing & ~np.isfinite(each), 0.0, each) for each in (losses, slopes))
        return averaged(name, losses, slopes, factors)


def _in_order(elements: Array, prediction: Array) -> Array:
    """Copy the elements into the prediction's memory order, which is the order of the sum."""
    copy: Array = np.empty_like(prediction, dtype=elements.dtype)
    copy[...] = elements
    return copy


def averaged(
    name: str, losses: Array, slopes: Array, factors: Array | None, reason: str = TOO_LARGE
) -> tuple[float, Array]:
    """Return the mean of the losses and its gradient, which is the slopes divided by the number of losses.

    Args:
        name: The name of the loss, for messages.
        losses: Shape (B, ...).
        slopes: Shape (B, ...). The derivatives of each row's losses with respect to that row of the prediction.
        factors: Shape (B, ...), the first axes of the losses. The factors by which the losses are multiplied, see
            ``factors_of``. None means 1.
        reason: The reason why the mean may not be finite, for the message.

    Raises:
        NonFiniteError: If the mean is NaN or infinite.
    """
    if factors is not None:
        losses, slopes = losses * beside(factors, losses), slopes * beside(factors, slopes)
    value = mean(losses)
    if not -INFINITY < value < INFINITY:
        raise NonFiniteError(f"the loss is {value}; {reason}", subject=name)
    return value, lock(slopes / float(losses.size))


def factors_of(name: str, weight: Array | None, like: Array, share: Array | None = None) -> Array | None:
    """Return the factor of each loss in the mean over the batch: ``w / mean(w c)``. None means 1.

    Args:
        name: The name of the loss, for messages.
        weight: Shape (B, ...). None means 1.
        like: Shape (B, ...). The result has its dtype.
        share: Shape (B, ...), at least the axes of the weight. How much each row or position counts in the mean, c.
            None means 1.

    Raises:
        ConfigError: If ``mean(w c)`` is not above 0 and finite.
    """
    if weight is None and share is None:
        return None
    wide = np.ones(len(like)) if weight is None else weight.astype(np.float64)
    total = mean(wide if share is None else beside(wide, share) * share)
    if not 0 < total < INFINITY:
        raise ConfigError(f"the sum of the weights must be positive and finite, got a mean of {total}", subject=name)
    return (wide / total).astype(like.dtype)


def check_targets(name: str, what: str, target: Array, good: NDArray[np.bool_], wanted: str) -> None:
    """Check that every target is valid.

    Raises:
        LabelError: If a target is invalid; the message says which one, and what is wanted.
    """
    if not good.all():
        index, where = first_true(~good)
        raise LabelError(f"{what} must be {wanted}, got {what}[{where}] = {target[index]}", subject=name)


def _check_target(name: str, target: Array, prediction: Array) -> None:
    if type(target) in ARRAY_TYPES and target.ndim > 0 and prediction.shape == (*target.shape, 1):
        wanted = f"{prediction.shape} to match prediction {prediction.shape}"
        fix = f"use target[{':' if target.ndim == 1 else '...'}, None]"
        raise ShapeError(f"target must have shape {wanted}, got {target.shape}; {fix}", subject=name)
    check_array(name, "target", target, prediction.shape, dtype=prediction.dtype, match=("prediction", prediction))
