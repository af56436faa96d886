"""Channels: the functions shared by layers that scale and shift the numbers of the last axis or axes separately."""

from __future__ import annotations

import math
from typing import Final, TypeAlias

import numpy as np

from funcnet.core.arrays import ARRAY_TYPES, Array, FloatDType, lock
from funcnet.core.checks import (
    INFINITY,
    check_array,
    check_count,
    check_divisor,
    check_flag,
    check_number,
    check_row_shape,
    check_size,
)
from funcnet.core.trees import float_dtype
from funcnet.network.layer import Shape

MOST_AXES: Final = 31
"""The most axes that can be normalized together: with the batch, NumPy 1 allows 32."""

Match: TypeAlias = "tuple[str, Array] | None"
"""The name and the array that determine the shape and the dtype of a layer's input; None allows any."""


def first_array(**arrays: Array | None) -> Match:
    """The first array that is not None, with its name."""
    return next(((name, array) for name, array in arrays.items() if array is not None), None)


def check_affine(subject: str, axes: int = 1, **arrays: Array | None) -> None:
    """Check that the arrays that are not None have ``axes`` axes, the same shape, and no axis of size 0.

    Raises:
        ShapeError: If one of them has a different shape.
        ConfigError: If they are empty.
    """
    match = first_array(**arrays)
    if match is None:
        return
    check_array(subject, match[0], match[1], _letters(axes))
    check_count(subject, f"{match[0]}'s size", match[1].size)
    for name, array in arrays.items():
        if array is not None:
            check_array(subject, name, array, match[1].shape, match=match)


def _letters(axes: int) -> tuple[str, ...]:
    """The letters of the last axes: C, or H, W and C."""
    return (*"D" * (axes - 3), "H", "W", "C")[-axes:]


def check_epsilon(subject: str, epsilon: float, match: Match) -> None:
    """Check that epsilon is positive, also in the layer's dtype: equal numbers would otherwise give 0 / 0.

    Raises:
        ConfigError: If it is not.
    """
    check_number(subject, "epsilon", epsilon, low=0, high=INFINITY)
    check_divisor(subject, "epsilon", epsilon, np.dtype(np.float32) if match is None else match[1].dtype)


def check_last_axes(subject: str, x: Array, match: Match, axes: int = 1) -> None:
    """Check a layer's input. Shape: x (B, ..., C), where C is the shape of the matched array, of equal dtype.

    Raises:
        DTypeError, ShapeError: If x does not fit.
        ConfigError: If one of the last axes has size 0.
    """
    if match is None:
        check_array(subject, "x", x, ("B", "...", *_letters(axes)))
        for size in x.shape[-axes:]:
            check_count(subject, "the size of a normalized axis", size)
        return
    name, array = match
    if type(x) not in ARRAY_TYPES or x.ndim <= axes or x.shape[-axes:] != array.shape or x.dtype != array.dtype:
        check_array(subject, "x", x, ("B", "...", *array.shape), dtype=array.dtype, match=(name, array))


def kept_shape(subject: str, match: Match, shape: Shape, axes: int = 1) -> Shape:
    """The shape of y's rows, which is that of x's rows, (..., C)."""
    check_row_shape(subject, shape, ("...", *(_letters(axes) if match is None else match[1].shape)), match)
    return shape


def unit_affine(
    subject: str, size: int | tuple[int, ...], dtype: FloatDType, *, scale: bool, offset: bool
) -> tuple[Array | None, Array | None]:
    """Create a scale of ones and an offset of zeros; None for each that is not wanted.

    Raises:
        ConfigError: If a size is not a positive int, there is no size, the dtype is invalid, or a flag is not a bool.
    """
    given = size if isinstance(size, tuple) else (size,)
    check_count(subject, "the number of sizes", len(given), high=MOST_AXES)
    sizes = tuple(check_size(subject, "size", each) for each in given)
    check_size(subject, "the product of the sizes", math.prod(sizes))
    kind = float_dtype(dtype)
    ones = lock(np.ones(sizes, kind)) if check_flag(subject, "scale", scale) else None
    return ones, lock(np.zeros(sizes, kind)) if check_flag(subject, "offset", offset) else None


def count_of(size: int | tuple[int, ...]) -> int:
    """The number of axes with these sizes."""
    return len(size) if isinstance(size, tuple) else 1


def per_channel(a: Array, axes: int = 1) -> Array:
    """Every position of every row as a separate row. Shapes: a (B, ..., C), result (N, C), with ``axes`` axes as C."""
    return a if a.ndim == axes + 1 else a.reshape(math.prod(a.shape[:-axes]), *a.shape[-axes:])


def joined(a: Array, axes: int) -> Array:
    """The last ``axes`` axes as one. Shapes: a (B, ..., H, W, C), result (B, ..., H * W * C) for three axes."""
    return a if axes == 1 else a.reshape(*a.shape[:-axes], math.prod(a.shape[-axes:]))


def affine(normal: Array, scale: Array | None, offset: Array | None = None) -> Array:
    """``normal * scale + offset``, without what is None."""
    scaled = normal if scale is None else normal * scale
    return scaled if offset is None else scaled + offset
