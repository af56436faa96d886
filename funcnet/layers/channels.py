"""Channels: the functions shared by layers that scale and shift each channel of the last axis separately."""

from __future__ import annotations

import numpy as np

from funcnet.core.arrays import Array, FloatDType, lock
from funcnet.core.checks import (
    INFINITY,
    check_array,
    check_count,
    check_divisor,
    check_number,
    check_row_shape,
    check_size,
)
from funcnet.core.trees import float_dtype
from funcnet.network.layer import Shape


def check_affine(subject: str, scale: Array, offset: Array | None = None) -> None:
    """Check that scale is a vector of at least one element and that offset has the same length.

    Raises:
        ShapeError: If one of them has a different shape.
        ConfigError: If they are empty.
    """
    check_array(subject, "scale", scale, ("C",))
    check_count(subject, "scale's size", scale.size)
    if offset is not None:
        check_array(subject, "offset", offset, scale.shape, match=("scale", scale))


def check_epsilon(subject: str, epsilon: float, scale: Array) -> None:
    """Check that epsilon is positive, also in the dtype of the scale: equal numbers would otherwise give 0 / 0.

    Raises:
        ConfigError: If it is not.
    """
    check_number(subject, "epsilon", epsilon, low=0, high=INFINITY)
    check_divisor(subject, "epsilon", epsilon, scale.dtype)


def unit_affine(subject: str, size: int, dtype: FloatDType) -> tuple[Array, Array]:
    """Create a scale of ones and an offset of zeros.

    Raises:
        ConfigError: If the size is not a positive int, or the dtype is invalid.
    """
    size, kind = check_size(subject, "size", size), float_dtype(dtype)
    return lock(np.ones(size, kind)), lock(np.zeros(size, kind))


def kept_shape(subject: str, scale: Array, shape: Shape) -> Shape:
    """The shape of y's rows, which is that of x's rows, (..., C)."""
    check_row_shape(subject, shape, ("...", len(scale)), ("scale", scale))
    return shape


def per_channel(a: Array) -> Array:
    """Every position of every row as a separate row. Shapes: a (B, ..., C), result (N, C)."""
    return a.reshape(-1, a.shape[-1])
