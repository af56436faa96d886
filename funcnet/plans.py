"""What losses and optimizers still take from plans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from attrs import frozen

from funcnet.arrays import Array, lock


@frozen(eq=False, repr=False)
class Memory:
    """A network's trained arrays in memory: ``flat`` is all of it, ``parts`` each array, ``decayed`` the weights."""

    flat: Array
    parts: tuple[Array, ...]
    decayed: tuple[Array, ...]


def copy(array: Array) -> Array:
    """A locked copy."""
    return lock(array.copy())


def scalar(value: float, like: Array) -> Array:
    """A number as an array of no axes, in the dtype of its neighbours."""
    with np.errstate(all="ignore"):  # a step that is too long shows in what it computes
        return lock(np.array(value, like.dtype))


PlannedLoss: TypeAlias = Callable[[Array, Array], Callable[[Any], float]]


def register_loss_plan(loss: object, plan: Callable[..., Callable[[Any], float]]) -> None:
    """Nothing."""
