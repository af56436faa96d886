"""Channels: what the layers share that scale and shift each number of the last axis by its own."""

from __future__ import annotations

import numpy as np

from funcnet.core.arrays import Array, FloatDType, lock
from funcnet.core.checks import check_array, check_count, check_row_shape, check_size
from funcnet.core.trees import float_dtype
from funcnet.network.layer import Shape


def check_affine(subject: str, scale: Array, offset: Array | None = None) -> None:
    """Check that scale is a vector of at least one element, and offset another of its length.

    Raises:
        ShapeError: If one has another shape.
        ConfigError: If they have no element.
    """
    check_array(subject, "scale", scale, ("C",))
    check_count(subject, "scale's size", scale.size)
    if offset is not None:
        check_array(subject, "offset", offset, scale.shape, match=("scale", scale))


def unit_affine(subject: str, size: int, dtype: FloatDType) -> tuple[Array, Array]:
    """A scale of ones and an offset of zeros.

    Raises:
        ConfigError: If the size is no positive int, or the dtype another.
    """
    check_size(subject, "size", size)
    kind = float_dtype(dtype)
    return lock(np.ones(int(size), kind)), lock(np.zeros(int(size), kind))


def kept_shape(subject: str, scale: Array, shape: Shape) -> Shape:
    """(..., C), which is kept."""
    check_row_shape(subject, shape, ("...", len(scale)), ("scale", scale))
    return shape


def per_channel(a: Array) -> Array:
    """Every position of every row as a row of its own. Shapes: a (B, ..., C), result (N, C)."""
    return a.reshape(-1, a.shape[-1])
