"""Losses: functions of prediction and target that return a mean and the gradient of that mean."""

from __future__ import annotations

from inspect import signature
from typing import Protocol, TypeVar, cast

from funcnet.core.arrays import Array
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
    """A loss that takes example weights as its third argument ``weight``; its mean is ``sum(w l) / sum(w)``."""

    def __call__(self, prediction: Array, target: T_contra, weight: Array | None = None, /) -> tuple[float, Array]:
        """The loss and its gradient, which has the shape of the prediction."""
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
