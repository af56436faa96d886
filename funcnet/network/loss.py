"""What a loss is: a function of prediction and target that returns its mean and the gradient of that mean."""

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
        """The loss and its gradient, shaped like the prediction."""
        ...


class WeightedLoss(Protocol[T_contra]):
    """A loss that takes weights of examples, as its third argument ``weight``: its mean is sum(w l) / sum(w)."""

    def __call__(self, prediction: Array, target: T_contra, weight: Array | None = None, /) -> tuple[float, Array]:
        """The loss and its gradient, shaped like the prediction."""
        ...


def weighted_loss(loss: Loss[T], prediction: Array, target: T, weight: Array | None) -> tuple[float, Array]:
    """The loss, with weights of examples unless they are None.

    Raises:
        ConfigError: If there are weights and the loss takes none: its third parameter is not called ``weight``.
    """
    if weight is None:
        return attempt(loss, prediction, target)
    names = list(signature(loss).parameters)
    if names[2:3] != ["weight"]:
        fix = "give its third parameter the name weight, or give batches without"
        shown = getattr(loss, "__name__", repr(loss))
        raise ConfigError(f"the loss takes no weights of examples: {shown}({', '.join(names)}); {fix}")
    return attempt(cast("WeightedLoss[T]", loss), prediction, target, weight)
