"""Normalisation of each row by itself, over its last axis: LayerNorm, RMSNorm."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from funcnet.arithmetic import sum_last, sum_rows
from funcnet.arrays import Array, FloatDType, check_array, check_channels, check_row_shape, lock
from funcnet.layer import Layer, Shape, register_layer
from funcnet.records import evolve
from funcnet.settings import INFINITY, check_count, check_number, check_size
from funcnet.trees import float_dtype


@frozen(eq=False)
class LayerNorm(Layer):
    """``y = (x - mean) / sqrt(variance + epsilon) * scale + offset``, the variance being the biased one.

    Mean and variance are those of each row's last axis. Shapes: x, y (B, ..., C), scale (C,), offset (C,).

    Source: Ba, Kiros and Hinton, "Layer normalization", 2016. Scale and offset are PyTorch's weight and bias, epsilon
    is its default; Keras' is 1e-3.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(fn.layer_norm(2, dtype=np.float64), np.array([[1.0, 3.0]])).round(4)
        array([[-1.,  1.]])
    """

    scale: Array
    offset: Array
    epsilon: float = 1e-5

    def check(self) -> None:
        """Scale and offset are vectors of one length, and epsilon is above 0."""
        check_affine("LayerNorm", self.scale, self.offset)
        check_number("LayerNorm", "epsilon", self.epsilon, low=0, high=INFINITY)


@frozen(eq=False)
class RMSNorm(Layer):
    """``y = x / sqrt(mean(x * x) + epsilon) * scale``.

    The mean is that of each row's last axis. Shapes: x, y (B, ..., C), scale (C,).

    Source: Zhang and Sennrich, "Root mean square layer normalization", NeurIPS 2019. PyTorch's default epsilon is that
    of the dtype (1.2e-7 in float32), Keras' 1e-6.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(fn.rms_norm(2, dtype=np.float64), np.array([[1.0, 7.0]])).round(4)
        array([[0.2, 1.4]])
    """

    scale: Array
    epsilon: float = 1e-5

    def check(self) -> None:
        """Scale is a vector, and epsilon is above 0."""
        check_affine("RMSNorm", self.scale)
        check_number("RMSNorm", "epsilon", self.epsilon, low=0, high=INFINITY)


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


def mean_last(a: Array) -> Array:
    """The mean over the last axis, which is kept with size 1. Shapes: a (..., C), result (..., 1)."""
    mean: Array = sum_last(a) / a.shape[-1]
    return mean


def per_channel(a: Array) -> Array:
    """Every position of every row as a row of its own. Shapes: a (B, ..., C), result (N, C)."""
    return a.reshape(-1, a.shape[-1])


def root_mean_square(x: Array, epsilon: float) -> Array:
    """``sqrt(mean(x * x) + epsilon)`` over the last axis. Shapes: x (..., C), result (..., 1)."""
    root: Array = np.sqrt(mean_last(x * x) + epsilon)
    return root


def normalized_backward(normal: Array, root: Array, g: Array) -> Array:
    """``grad_x`` of ``normal = x / root``, root being ``root_mean_square(x)``; g is the gradient by normal.

    ``d root / d x[j] = x[j] / (C root) = normal[j] / C``, and so
    ``d normal[i] / d x[j] = (delta[i, j] - normal[i] normal[j] / C) / root``: the sum over i of it times g[i] is
    ``(g[j] - normal[j] mean(g normal)) / root``.
    """
    grad_x: Array = (g - normal * mean_last(g * normal)) / root
    return grad_x


# ----------------------------------------------------------------------------------------------- LayerNorm


def centred_and_normal(params: LayerNorm, x: Array) -> tuple[Array, Array]:
    """``(x - mean) / root``, and root, the root of what is centred, whose mean square is the variance."""
    centred = x - mean_last(x)
    root = root_mean_square(centred, params.epsilon)
    return centred / root, root


def layer_norm_forward(params: LayerNorm, x: Array) -> Array:
    """Centred, divided by the root of its mean square, which then is the variance, scaled and shifted."""
    check_channels("LayerNorm", x, "scale", params.scale)
    return centred_and_normal(params, x)[0] * params.scale + params.offset


def layer_norm_backward(params: LayerNorm, x: Array, g: Array) -> tuple[Array, LayerNorm]:
    """``y = normal * scale + offset``: ``grad_scale = (g * normal).sum(axis=0)``, ``grad_offset = g.sum(axis=0)``.

    The gradient by normal is ``g * scale``. What goes back through ``x - mean(x)`` has its mean subtracted:
    ``d (x[i] - mean) / d x[j] = delta[i, j] - 1 / C``. With ``d = (g * scale - normal * mean(g * scale * normal)) /
    root``, ``grad_x = d - mean(d)``.
    """
    normal, root = centred_and_normal(params, x)
    d = normalized_backward(normal, root, g * params.scale)
    scale, offset = sum_rows(per_channel(g * normal)), sum_rows(per_channel(g))
    return d - mean_last(d), evolve(params, scale=scale, offset=offset)


def layer_norm_output_shape(params: LayerNorm, shape: Shape) -> Shape:
    """(..., C), which it keeps."""
    check_row_shape("LayerNorm", shape, ("...", len(params.scale)), ("scale", params.scale))
    return shape


register_layer(
    LayerNorm,
    forward=layer_norm_forward,
    backward=layer_norm_backward,
    output_shape=layer_norm_output_shape,
    name="funcnet.LayerNorm",
)


# ------------------------------------------------------------------------------------------------- RMSNorm


def rms_norm_forward(params: RMSNorm, x: Array) -> Array:
    """Divided by the root of its mean square, and scaled."""
    check_channels("RMSNorm", x, "scale", params.scale)
    return x / root_mean_square(x, params.epsilon) * params.scale


def rms_norm_backward(params: RMSNorm, x: Array, g: Array) -> tuple[Array, RMSNorm]:
    """``y = normal * scale``: ``grad_scale = (g * normal).sum(axis=0)``; the gradient by normal is ``g * scale``.

    ``grad_x = (g * scale - normal * mean(g * scale * normal)) / root``.
    """
    root = root_mean_square(x, params.epsilon)
    normal = x / root
    return normalized_backward(normal, root, g * params.scale), evolve(params, scale=sum_rows(per_channel(g * normal)))


def rms_norm_output_shape(params: RMSNorm, shape: Shape) -> Shape:
    """(..., C), which it keeps."""
    check_row_shape("RMSNorm", shape, ("...", len(params.scale)), ("scale", params.scale))
    return shape


register_layer(
    RMSNorm,
    forward=rms_norm_forward,
    backward=rms_norm_backward,
    output_shape=rms_norm_output_shape,
    name="funcnet.RMSNorm",
)


# -------------------------------------------------------------------------------------------------- makers


def layer_norm(size: int, *, epsilon: float = 1e-5, dtype: FloatDType = np.float32) -> LayerNorm:
    """A LayerNorm that scales by 1 and shifts by 0.

    Args:
        size: C, the size of the last axis.
        epsilon: What is added to the variance.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If the size is no positive int, epsilon not above 0, or the dtype another.

    Example:
        >>> layer_norm(10)
        LayerNorm(scale=float32 (10,), offset=float32 (10,), epsilon=1e-05)
    """
    return LayerNorm(*unit_affine("layer_norm", size, dtype), epsilon)


def rms_norm(size: int, *, epsilon: float = 1e-5, dtype: FloatDType = np.float32) -> RMSNorm:
    """An RMSNorm that scales by 1.

    Args:
        size: C, the size of the last axis.
        epsilon: What is added to the mean square.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If the size is no positive int, epsilon not above 0, or the dtype another.

    Example:
        >>> rms_norm(10)
        RMSNorm(scale=float32 (10,), epsilon=1e-05)
    """
    return RMSNorm(unit_affine("rms_norm", size, dtype)[0], epsilon)


def unit_affine(subject: str, size: int, dtype: FloatDType) -> tuple[Array, Array]:
    """A scale of ones and an offset of zeros.

    Raises:
        ConfigError: If the size is no positive int, or the dtype another.
    """
    check_size(subject, "size", size)
    kind = float_dtype(dtype)
    return lock(np.ones(int(size), kind)), lock(np.zeros(int(size), kind))
