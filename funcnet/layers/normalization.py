"""Normalization over the last axis, independently for each row: LayerNorm, RMSNorm."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from funcnet.arithmetic import centered_last, mean_last, sum_rows
from funcnet.core.arrays import Array, FloatDType
from funcnet.core.checks import check_channels
from funcnet.core.records import evolve
from funcnet.layers.channels import check_affine, check_epsilon, kept_shape, per_channel, unit_affine
from funcnet.network.layer import Layer, register_layer


@frozen(eq=False)
class LayerNorm(Layer):
    """``y = (x - mean) / sqrt(variance + epsilon) * scale + offset`` with the biased variance.

    Mean and variance are taken over the last axis. Shapes: x, y (B, ..., C), scale (C,), offset (C,).

    Source: Ba, Kiros and Hinton, "Layer normalization", 2016. Scale and offset are PyTorch's weight and bias. Epsilon
    has PyTorch's default; Keras' is 1e-3.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(fn.layer_norm(2, dtype=np.float64), np.array([[1.0, 3.0]])).round(4)
        array([[-1.,  1.]])
    """

    scale: Array
    offset: Array
    epsilon: float = 1e-5

    def check(self) -> None:
        """Check that scale and offset are vectors of one length and that epsilon is positive."""
        check_affine("LayerNorm", self.scale, self.offset)
        check_epsilon("LayerNorm", self.epsilon, self.scale)


@frozen(eq=False)
class RMSNorm(Layer):
    """``y = x / sqrt(mean(x * x) + epsilon) * scale``.

    The mean is taken over the last axis. Shapes: x, y (B, ..., C), scale (C,).

    Source: Zhang and Sennrich, "Root mean square layer normalization", NeurIPS 2019. PyTorch's default epsilon is the
    machine epsilon of the dtype (1.2e-7 in float32); Keras' is 1e-6.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(fn.rms_norm(2, dtype=np.float64), np.array([[1.0, 7.0]])).round(4)
        array([[0.2, 1.4]])
    """

    scale: Array
    epsilon: float = 1e-5

    def check(self) -> None:
        """Check that scale is a vector and that epsilon is positive."""
        check_affine("RMSNorm", self.scale)
        check_epsilon("RMSNorm", self.epsilon, self.scale)


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
    check_channels("LayerNorm", x, "scale", params.scale)
    normal, _ = normalized(centered_last(x), params.epsilon)
    return normal * params.scale + params.offset


def layer_norm_backward(params: LayerNorm, x: Array, g: Array) -> tuple[Array, LayerNorm]:
    """``y = normal * scale + offset``: ``grad_scale = (g * normal).sum(axis=0)``, ``grad_offset = g.sum(axis=0)``.

    The gradient by normal is ``g * scale``; through ``normalized`` it becomes
    ``d = (g * scale - normal * mean(g * scale * normal)) / root``. The derivative of the centering is
    ``d (x[i] - mean) / d x[j] = delta[i, j] - 1 / C``, which gives ``grad_x = d - mean(d)``.
    """
    normal, root = normalized(centered_last(x), params.epsilon)
    d = normalized_backward(normal, root, g * params.scale)
    scale, offset = sum_rows(per_channel(g * normal)), sum_rows(per_channel(g))
    return centered_last(d), evolve(params, scale=scale, offset=offset)


register_layer(
    LayerNorm,
    forward=layer_norm_forward,
    backward=layer_norm_backward,
    output_shape=lambda params, shape: kept_shape("LayerNorm", params.scale, shape),
    name="funcnet.LayerNorm",
)


# ------------------------------------------------------------------------------------------------- RMSNorm


def rms_norm_forward(params: RMSNorm, x: Array) -> Array:
    """``y = normal * scale``, where normal is x divided by its root mean square."""
    check_channels("RMSNorm", x, "scale", params.scale)
    normal, _ = normalized(x, params.epsilon)
    return normal * params.scale


def rms_norm_backward(params: RMSNorm, x: Array, g: Array) -> tuple[Array, RMSNorm]:
    """``y = normal * scale``: ``grad_scale = (g * normal).sum(axis=0)``; the gradient by normal is ``g * scale``.

    ``normalized_backward`` gives ``grad_x = (g * scale - normal * mean(g * scale * normal)) / root``.
    """
    normal, root = normalized(x, params.epsilon)
    return normalized_backward(normal, root, g * params.scale), evolve(params, scale=sum_rows(per_channel(g * normal)))


register_layer(
    RMSNorm,
    forward=rms_norm_forward,
    backward=rms_norm_backward,
    output_shape=lambda params, shape: kept_shape("RMSNorm", params.scale, shape),
    name="funcnet.RMSNorm",
)


# -------------------------------------------------------------------------------------------- constructors


def layer_norm(size: int, *, epsilon: float = 1e-5, dtype: FloatDType = np.float32) -> LayerNorm:
    """Create a LayerNorm with scale 1 and offset 0.

    Args:
        size: C, the size of the last axis.
        epsilon: The number that is added to the variance or the mean square.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If the size is not a positive int, epsilon is not positive, or the dtype is invalid.

    Example:
        >>> layer_norm(10)
        LayerNorm(scale=float32 (10,), offset=float32 (10,), epsilon=1e-05)
    """
    return LayerNorm(*unit_affine("layer_norm", size, dtype), epsilon)


def rms_norm(size: int, *, epsilon: float = 1e-5, dtype: FloatDType = np.float32) -> RMSNorm:
    """Create an RMSNorm with scale 1; arguments and errors are those of ``layer_norm``.

    Example:
        >>> rms_norm(10)
        RMSNorm(scale=float32 (10,), epsilon=1e-05)
    """
    return RMSNorm(unit_affine("rms_norm", size, dtype)[0], epsilon)
