"""Normalization over the last axis or axes, independently for each row: LayerNorm, RMSNorm."""

from __future__ import annotations

import numpy as np
from attrs import field, frozen

from funcnet.arithmetic import centered_last, mean_last, sum_rows
from funcnet.core.arrays import Array, FloatDType
from funcnet.core.checks import check_count
from funcnet.core.errors import ShapeError
from funcnet.core.names import LATER
from funcnet.core.records import evolve
from funcnet.layers.channels import (
    MOST_AXES,
    affine,
    check_affine,
    check_epsilon,
    check_last_axes,
    count_of,
    first_array,
    joined,
    kept_shape,
    per_channel,
    unit_affine,
)
from funcnet.network.layer import Layer, Shape, register_layer


@frozen(eq=False)
class LayerNorm(Layer):
    """``y = (x - mean) / sqrt(variance + epsilon) * scale + offset`` with the biased variance.

    Mean and variance are taken over the last axis, or over the last ``axes`` axes. Scale and offset have the shape of
    these axes, or are None: ``LayerNorm(None, None)`` only normalizes, in the dtype of x. Shapes: x, y (B, ..., C),
    scale (C,), offset (C,); with three axes, x, y (B, ..., H, W, C), scale (H, W, C), offset (H, W, C).

    Source: Ba, Kiros and Hinton, "Layer normalization", 2016. Scale and offset are PyTorch's weight and bias. Epsilon
    has PyTorch's default; Keras' is 1e-3.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(fn.layer_norm(2, dtype=np.float64), np.array([[1.0, 3.0]])).round(4)
        array([[-1.,  1.]])
    """

    scale: Array | None
    offset: Array | None
    epsilon: float = 1e-5
    axes: int = field(default=1, metadata=LATER)

    def check(self) -> None:
        """Check that scale and offset have one shape, of ``axes`` axes, and that epsilon is positive."""
        _check(self, scale=self.scale, offset=self.offset)


@frozen(eq=False)
class RMSNorm(Layer):
    """``y = x / sqrt(mean(x * x) + epsilon) * scale``.

    The mean is taken over the last axis, or over the last ``axes`` axes. The scale has the shape of these axes, or is
    None. Shapes: x, y (B, ..., C), scale (C,); with three axes, x, y (B, ..., H, W, C), scale (H, W, C).

    Source: Zhang and Sennrich, "Root mean square layer normalization", NeurIPS 2019. PyTorch's default epsilon is the
    machine epsilon of the dtype (1.2e-7 in float32); Keras' is 1e-6.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(fn.rms_norm(2, dtype=np.float64), np.array([[1.0, 7.0]])).round(4)
        array([[0.2, 1.4]])
    """

    scale: Array | None
    epsilon: float = 1e-5
    axes: int = field(default=1, metadata=LATER)

    def check(self) -> None:
        """Check that the scale has ``axes`` axes and that epsilon is positive."""
        _check(self, scale=self.scale)


def _check(params: LayerNorm | RMSNorm, **arrays: Array | None) -> None:
    subject, match = type(params).__name__, first_array(**arrays)
    check_count(subject, "axes", params.axes, high=MOST_AXES)
    try:
        check_affine(subject, params.axes, **arrays)
    except ShapeError as error:
        if match is not None and match[1].ndim != params.axes:
            raise ShapeError(f"{error.message}; use axes={match[1].ndim}", subject=subject) from None
        raise
    check_epsilon(subject, params.epsilon, match)


def normalized(x: Array, epsilon: float) -> tuple[Array, Array]:
    """``normal = x / root`` and ``root = sqrt(mean(x * x) + epsilon)`` over the last axis. Shapes: root (..., 1)."""
    root: Array = np.sqrt(mean_last(x * x) + epsilon)
    return x / root, root


def normalized_backward(normal: Array, root: Array, g: Array) -> Array:
    """``grad_x`` of ``normalized``, where g is the gradient by normal.

    ``d root / d x[j] = x[j] / (C root) = normal[j] / C``. Therefore
    ``d normal[i] / d x[j] = (delta[i, j] - normal[i] normal[j] / C) / root``. The sum over i of g[i] times this is
    ``(g[j] - normal[j] mean(g normal)) / root``.
    """
    grad_x: Array = (g - normal * mean_last(g * normal)) / root
    return grad_x


# ----------------------------------------------------------------------------------------------- LayerNorm


def layer_norm_forward(params: LayerNorm, x: Array) -> Array:
    """``y = normal * scale + offset``. The mean square of the centered x is the variance of x."""
    check_last_axes("LayerNorm", x, first_array(scale=params.scale, offset=params.offset), params.axes)
    normal, _ = normalized(centered_last(joined(x, params.axes)), params.epsilon)
    return affine(normal.reshape(x.shape), params.scale, params.offset)


def layer_norm_backward(params: LayerNorm, x: Array, g: Array) -> tuple[Array, LayerNorm]:
    """``y = normal * scale + offset``: ``grad_scale = (g * normal).sum(axis=0)``, ``grad_offset = g.sum(axis=0)``.

    The gradient by normal is ``g * scale``; through ``normalized`` it becomes
    ``d = (g * scale - normal * mean(g * scale * normal)) / root``. The derivative of the centering is
    ``d (x[i] - mean) / d x[j] = delta[i, j] - 1 / C``, which gives ``grad_x = d - mean(d)``.
    """
    normal, root = normalized(centered_last(joined(x, params.axes)), params.epsilon)
    d = normalized_backward(normal, root, joined(affine(g, params.scale), params.axes))
    scale = None if params.scale is None else sum_rows(per_channel(g * normal.reshape(x.shape), params.axes))
    offset = None if params.offset is None else sum_rows(per_channel(g, params.axes))
    return centered_last(d).reshape(x.shape), evolve(params, scale=scale, offset=offset)


def layer_norm_output_shape(params: LayerNorm, shape: Shape) -> Shape:
    """The shape of y's rows, which is that of x's rows."""
    return kept_shape("LayerNorm", first_array(scale=params.scale, offset=params.offset), shape, params.axes)


register_layer(
    LayerNorm,
    forward=layer_norm_forward,
    backward=layer_norm_backward,
    output_shape=layer_norm_output_shape,
    name="funcnet.LayerNorm",
)


# ------------------------------------------------------------------------------------------------- RMSNorm


def rms_norm_forward(params: RMSNorm, x: Array) -> Array:
    """``y = normal * scale``, where normal is x divided by its root mean square."""
    check_last_axes("RMSNorm", x, first_array(scale=params.scale), params.axes)
    normal, _ = normalized(joined(x, params.axes), params.epsilon)
    return affine(normal.reshape(x.shape), params.scale)


def rms_norm_backward(params: RMSNorm, x: Array, g: Array) -> tuple[Array, RMSNorm]:
    """``y = normal * scale``: ``grad_scale = (g * normal).sum(axis=0)``; the gradient by normal is ``g * scale``.

    ``normalized_backward`` gives ``grad_x = (g * scale - normal * mean(g * scale * normal)) / root``.
    """
    normal, root = normalized(joined(x, params.axes), params.epsilon)
    grad_x = normalized_backward(normal, root, joined(affine(g, params.scale), params.axes)).reshape(x.shape)
    scale = None if params.scale is None else sum_rows(per_channel(g * normal.reshape(x.shape), params.axes))
    return grad_x, evolve(params, scale=scale)


register_layer(
    RMSNorm,
    forward=rms_norm_forward,
    backward=rms_norm_backward,
    output_shape=lambda params, shape: kept_shape("RMSNorm", first_array(scale=params.scale), shape, params.axes),
    name="funcnet.RMSNorm",
)


# -------------------------------------------------------------------------------------------- constructors


def layer_norm(
    size: int | tuple[int, ...],
    *,
    scale: bool = True,
    offset: bool = True,
    epsilon: float = 1e-5,
    dtype: FloatDType = np.float32,
) -> LayerNorm:
    """Create a LayerNorm with scale 1 and offset 0, or without them.

    Args:
        size: C, the size of the last axis, or the sizes of the last axes, which are then normalized together.
        scale: Whether the layer has a scale.
        offset: Whether the layer has an offset.
        epsilon: The number that is added to the variance or the mean square.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If a size is not a positive int, there is no size, a flag is not a bool, epsilon is not positive,
            or the dtype is invalid.

    Example:
        >>> layer_norm(10)
        LayerNorm(scale=float32 (10,), offset=float32 (10,), epsilon=1e-05, axes=1)
        >>> layer_norm((28, 28, 3), offset=False)
        LayerNorm(scale=float32 (28, 28, 3), offset=None, epsilon=1e-05, axes=3)
    """
    return LayerNorm(*unit_affine("layer_norm", size, dtype, scale=scale, offset=offset), epsilon, count_of(size))


def rms_norm(
    size: int | tuple[int, ...], *, scale: bool = True, epsilon: float = 1e-5, dtype: FloatDType = np.float32
) -> RMSNorm:
    """Create an RMSNorm with scale 1, or without a scale; arguments and errors are those of ``layer_norm``.

    Example:
        >>> rms_norm(10)
        RMSNorm(scale=float32 (10,), epsilon=1e-05, axes=1)
    """
    return RMSNorm(unit_affine("rms_norm", size, dtype, scale=scale, offset=False)[0], epsilon, count_of(size))
