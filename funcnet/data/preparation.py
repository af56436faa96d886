"""Preparation of data: hold out examples, make one-hot rows, convert images from bytes to floats."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from funcnet.core.arrays import Array, FloatDType, Labels, lock
from funcnet.core.checks import check_array, check_labels, check_size
from funcnet.core.errors import ConfigError, DTypeError, ShapeError
from funcnet.core.names import register_name
from funcnet.core.records import evolve
from funcnet.core.trees import float_dtype
from funcnet.data.batches import Batch, check_is_batch
from funcnet.random.draws import permutation
from funcnet.random.keys import Key, check_key

T = TypeVar("T")
Y = TypeVar("Y", bound=NDArray[Any])


def split(x: Array, y: Y, held_out: float, *, key: Key) -> tuple[Batch[Y], Batch[Y]]:
    """Draw examples to hold out at random. Shapes: x (N, ...), y (N, ...).

    Args:
        x: Inputs.
        y: Targets.
        held_out: An int from 1 to N - 1, or a fraction between 0 and 1, which is rounded to the nearest count.
        key: The key that determines the draw.

    Returns:
        The remaining examples and the held-out examples, each in the order of x.

    Raises:
        ShapeError: If x and y differ in length.
        ConfigError: If no examples would remain, or none would be held out.

    Example:
        >>> x, y = np.zeros((10, 2)), np.arange(10)
        >>> train, validation = split(x, y, 0.3, key=Key(0))
        >>> train.y, validation.y
        (array([1, 2, 3, 4, 5, 6, 7]), array([0, 8, 9]))
    """
    check_key("split", key)
    _check_rows("split", "x", x)
    _check_rows("split", "y", y)
    if len(x) != len(y):
        raise ShapeError(f"x and y must have the same length, got {x.shape} and {y.shape}", subject="split")
    if isinstance(held_out, bool) or not isinstance(held_out, int | float | np.integer | np.floating):
        raise ConfigError(f"held_out must be a count or a fraction, got {held_out!r}", subject="split")
    share = isinstance(held_out, float | np.floating)
    count = round(float(held_out) * len(x)) if share and 0 < held_out < 1 else held_out
    if not isinstance(count, int | np.integer) or not 0 < count < len(x):
        wanted = f"from 1 to {len(x) - 1}, or a fraction between 0 and 1 that gives such a count"
        raise ConfigError(f"held_out must be {wanted}, got {held_out}", subject="split")
    order = permutation(key, len(x))

    def chosen(part: NDArray[np.intp]) -> Batch[Y]:
        rows = np.sort(part)
        return Batch(lock(x[rows]), cast("Y", y[rows]))

    return chosen(order[int(count) :]), chosen(order[: int(count)])


def _check_rows(subject: str, name: str, array: NDArray[Any]) -> None:
    if type(array) is not np.ndarray:
        check_array(subject, name, array, ("N", "..."))
    if array.ndim == 0:
        raise ShapeError(f"{name} must have shape (N, ...), got ()", subject=subject)


def one_hot(labels: Labels, classes: int, *, dtype: FloatDType = np.float32) -> Array:
    """Return a row for each label, with 1 at the label's position and 0 elsewhere. Shapes: labels (B,), result (B, O).

    Raises:
        LabelError: If a label is not from 0 to ``classes - 1``; the message says which one.

    Example:
        >>> one_hot(np.array([2, 0]), 3)
        array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
    """
    check_size("one_hot", "classes", classes)
    count = len(labels) if isinstance(labels, np.ndarray) and labels.ndim else 0
    check_labels("one_hot", "labels", labels, count, classes)
    rows: Array = np.zeros((len(labels), int(classes)), float_dtype(dtype))
    rows[np.arange(len(labels)), labels] = 1
    return lock(rows)


def scale_images(batch: Batch[T]) -> Batch[T]:
    """Convert images from bytes, 0 to 255, to float32, 0 to 1: for ``minibatches(..., transform=scale_images)``.

    The dataset then stays in memory as bytes, a quarter of the size of the floats.

    Raises:
        DTypeError: If x is not uint8.
        ShapeError: If x does not have a batch axis.

    Example:
        >>> scale_images(Batch(np.array([[0, 51, 255]], np.uint8), np.array([3]))).x
        array([[0. , 0.2, 1. ]], dtype=float32)
    """
    check_is_batch("scale_images", batch)
    if type(batch.x) is not np.ndarray or batch.x.dtype != np.uint8:
        got = getattr(batch.x, "dtype", type(batch.x).__name__)
        raise DTypeError(f"x must be uint8, from 0 to 255, got {got}", subject="scale_images")
    _check_rows("scale_images", "x", batch.x)
    scaled: Array = batch.x / np.float32(255)
    return evolve(batch, x=lock(scaled))


register_name(scale_images, "funcnet.scale_images")
