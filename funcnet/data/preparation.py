"""Preparation of data: hold out examples, make one-hot rows, convert images from bytes to floats."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, TypeAlias, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from funcnet.core.arrays import ARRAY_TYPES, AnyArray, Array, FloatDType, Input, Labels, lock
from funcnet.core.checks import (
    check_array,
    check_labels,
    check_plain,
    check_rows,
    check_size,
    check_weight,
    fix_of_ids,
    to_python,
)
from funcnet.core.errors import ConfigError, DTypeError, ShapeError
from funcnet.core.names import register_name
from funcnet.core.records import evolve
from funcnet.core.trees import float_dtype
from funcnet.data.batches import XS, Y, check_one_length, named_rows
from funcnet.network.batch import Batch, Rows, check_is_batch, take_rows
from funcnet.random.draws import permutation
from funcnet.random.keys import Key, check_key

T = TypeVar("T")
Classes: TypeAlias = NDArray[np.integer] | NDArray[np.bool_]


@overload
def split(
    x: Input, y: Y, held_out: float, *, key: Key, stratify: bool | Classes = False, weight: Array | None = None
) -> tuple[Batch[Y], Batch[Y]]: ...
@overload
def split(
    x: XS, y: Y, held_out: float, *, key: Key, stratify: bool | Classes = False, weight: Array | None = None
) -> tuple[Batch[Y, XS], Batch[Y, XS]]: ...
def split(
    x: Any,
    y: Rows,
    held_out: float,
    *,
    key: Key,
    stratify: bool | Classes = False,
    weight: Array | None = None,
) -> tuple[Batch[Any, Any], Batch[Any, Any]]:
    """Draw examples to hold out at random. Shapes: x (N, ...), y (N, ...); each may be a tuple of such arrays.

    A stratified split draws from each class separately, with the key ``key.child("class", i)`` for the class with
    the i-th smallest id, so that both parts have the classes in the same proportions. Of a class with n of the N
    examples, n * held / N are held out, rounded down or up: the shares with the largest remainders are rounded up, and
    of equal remainders that of the smaller id.

    Args:
        x: Inputs.
        y: Targets.
        held_out: An int from 1 to N - 1, or a fraction between 0 and 1, which is rounded to the nearest count.
        key: The key that determines the draw.
        stratify: True for the classes in y, or the classes of the examples, shape (N,).
        weight: The weight of each example or of each number of y; each part gets its rows.

    Returns:
        The remaining examples and the held-out examples, each in the order of x.

    Raises:
        ShapeError: If x, y, stratify and weight differ in length.
        DTypeError: If the classes of a stratified split are neither integers nor bools.
        ConfigError: If no examples would remain, or none would be held out. In a stratified split, if a class has only
            one example, or a part has fewer examples than there are classes.

    Example:
        >>> x, y = np.zeros((10, 2)), np.arange(10)
        >>> train, validation = split(x, y, 0.3, key=Key(0))
        >>> train.y, validation.y
        (array([1, 2, 3, 4, 5, 6, 7]), array([0, 8, 9]))
        >>> split(x, y < 8, 5, key=Key(0), stratify=True)[1].y
        array([ True,  True,  True,  True, False])
    """
    check_key("split", key)
    rows = named_rows("split", "x", x) | named_rows("split", "y", y)
    for what, array in rows.items():
        _check_rows("split", what, array)
    size = check_one_length("split", rows)
    count = _held_out(held_out, size)
    if weight is not None:
        check_weight("split", weight, size, None if isinstance(y, tuple) else y.shape)
    classes = _classes(to_python(stratify), y, size)
    drawn = permutation(key, size)[:count] if classes is None else _draw_from_each(classes, count, key)
    is_out = np.zeros(size, np.bool_)
    is_out[drawn] = True

    def part(chosen: NDArray[np.intp]) -> Batch[Any, Any]:
        inputs = take_rows(cast("Rows", x), chosen)
        for array in inputs if isinstance(inputs, tuple) else (inputs,):
            array.flags.writeable = False
        return Batch(inputs, take_rows(y, chosen), None if weight is None else lock(take_rows(weight, chosen)))

    return part(np.flatnonzero(~is_out)), part(np.flatnonzero(is_out))


def _held_out(held_out: object, size: int) -> int:
    held_out = to_python(held_out)
    if isinstance(held_out, bool) or not isinstance(held_out, int | float):
        raise ConfigError(f"held_out must be a count or a fraction, got {held_out!r}", subject="split")
    share = isinstance(held_out, float)
    count = round(held_out * size) if share and 0 < held_out < 1 else held_out
    if not isinstance(count, int) or not 0 < count < size:
        wanted = f"from 1 to {size - 1}, or a fraction between 0 and 1 that gives such a count"
        raise ConfigError(f"held_out must be {wanted}, got {held_out}", subject="split")
    return count


def _classes(stratify: object, y: Rows, size: int) -> Classes | None:
    """Return the classes to draw from, or None for a draw from all examples at once."""
    if stratify is False:
        return None
    name, classes = ("y", y) if stratify is True else ("stratify", stratify)
    if isinstance(classes, tuple):
        fix = "pass the classes: stratify=..."
        raise DTypeError(f"{name} must be one array of classes, got a tuple; {fix}", subject="split")
    check_plain("split", name, classes, " of class ids")
    array = cast("AnyArray", classes)
    if array.shape != (size,):
        wanted = f"({size},), one class per row"
        raise ShapeError(f"{name} must have shape {wanted}, for a stratified split, got {array.shape}", subject="split")
    if array.dtype.kind not in "biu":
        fix = fix_of_ids(name, array) or "; pass the classes: stratify=..."
        raise DTypeError(f"{name} must be classes for a stratified split, got {array.dtype}{fix}", subject="split")
    return cast("Classes", array)


def _draw_from_each(classes: Classes, count: int, key: Key) -> NDArray[np.intp]:
    """Draw ``count`` rows, from each class its share."""
    names, ids, counts = np.unique(classes, return_inverse=True, return_counts=True)
    sizes: list[int] = counts.tolist()
    if 1 in sizes:
        single, fix = names[sizes.index(1)], "merge it with another class, or leave it out"
        raise ConfigError(f"each class must have at least 2 examples, got 1 of class {single}; {fix}", subject="split")
    if not len(sizes) <= count <= len(ids) - len(sizes):
        wanted = f"held_out must leave each part at least as many examples as there are classes, {len(sizes)}"
        raise ConfigError(f"{wanted}, got parts of {len(ids) - count} and {count}", subject="split")
    rows = np.split(np.argsort(ids, kind="stable"), list(accumulate(sizes))[:-1])
    shares = _shares(sizes, count)
    drawn = [permutation(key.child("class", i), size)[: shares[i]] for i, size in enumerate(sizes)]
    return np.concatenate([each[chosen] for each, chosen in zip(rows, drawn, strict=True)])


def _shares(sizes: list[int], count: int) -> list[int]:
    """Divide ``count`` in proportion to the sizes by the method of the largest remainders."""
    parts = [divmod(size * count, sum(sizes)) for size in sizes]
    left = count - sum(whole for whole, _ in parts)
    up = sorted(range(len(sizes)), key=lambda i: -parts[i][1])[:left]
    return [whole + (i in up) for i, (whole, _) in enumerate(parts)]


def _check_rows(subject: str, name: str, array: NDArray[Any]) -> None:
    if name[0] == "x" and type(array) not in ARRAY_TYPES:
        check_array(subject, name, array, ("N", "..."))
    check_rows(subject, name, array)


def one_hot(labels: Labels, classes: int, *, dtype: FloatDType = np.float32) -> Array:
    """Return a row for each label, with 1 at the label's position and 0 elsewhere.

    Args:
        labels: The class ids, shape (B,), or (B, ...) for the labels of positions.
        classes: O, the number of classes.
        dtype: np.float32 or np.float64.

    Returns:
        The rows, shape (B, O), or (B, ..., O).

    Raises:
        ShapeError: If the labels are a column (B, 1).
        LabelError: If a label is not from 0 to ``classes - 1``; the message says which one.

    Example:
        >>> one_hot(np.array([2, 0]), 3)
        array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
    """
    classes = check_size("one_hot", "classes", classes)
    given = labels.shape if isinstance(labels, np.ndarray) and labels.ndim else (0,)
    check_labels("one_hot", "labels", labels, given[:1] if given[1:] == (1,) else given, classes)
    rows: Array = np.zeros((labels.size, classes), float_dtype(dtype))
    rows[np.arange(labels.size), labels.ravel()] = 1
    return lock(rows.reshape(*labels.shape, classes))


@overload
def scale_images(images: Batch[T]) -> Batch[T]: ...
@overload
def scale_images(images: NDArray[np.uint8]) -> Array: ...
def scale_images(images: Batch[T] | NDArray[np.uint8]) -> Batch[T] | Array:
    """Convert images from bytes, 0 to 255, to float32, 0 to 1: an array, or the x of a batch.

    With ``minibatches(..., transform=scale_images)`` and ``predict(..., transform=scale_images)``, the dataset stays in
    memory as bytes, a quarter of the size of the floats.

    Raises:
        ConfigError: If the argument is neither an array nor a batch.
        DTypeError: If the images are not uint8.
        ShapeError: If they do not have a batch axis.

    Example:
        >>> images = np.array([[0, 51, 255]], np.uint8)
        >>> scale_images(images)
        array([[0. , 0.2, 1. ]], dtype=float32)
        >>> scale_images(Batch(images, np.array([3]))).x
        array([[0. , 0.2, 1. ]], dtype=float32)
    """
    if not isinstance(images, np.ndarray):
        check_is_batch("scale_images", images)
        return evolve(images, x=_scaled(cast("NDArray[np.uint8]", images.x)))
    return _scaled(images)


def _scaled(images: NDArray[np.uint8]) -> Array:
    if type(images) not in ARRAY_TYPES or images.dtype != np.uint8:
        got = getattr(images, "dtype", type(images).__name__)
        raise DTypeError(f"x must be uint8, from 0 to 255, got {got}", subject="scale_images")
    _check_rows("scale_images", "x", images)
    scaled: Array = images / np.float32(255)
    return lock(scaled)


register_name(scale_images, "funcnet.scale_images")
