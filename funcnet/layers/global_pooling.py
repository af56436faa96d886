"""Global pooling: the mean or the maximum of each channel over a whole image."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from funcnet.arithmetic import largest, mean_last
from funcnet.core.arrays import Array
from funcnet.core.checks import check_array, check_row_shape
from funcnet.core.errors import ShapeError
from funcnet.network.layer import Layer, Shape, register_layer


@frozen(eq=False)
class GlobalAvgPool2D(Layer):
    """The mean of each channel over the whole image, ``y = mean(image)``. Shapes: x (B, H, W, C), y (B, C).

    Source: Lin, Chen and Yan, "Network in network", ICLR 2014.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(GlobalAvgPool2D(), np.arange(8.0).reshape(1, 2, 2, 2))
        array([[3., 4.]])
    """


@frozen(eq=False)
class GlobalMaxPool2D(Layer):
    """The largest number of each channel in the whole image; the first of equal ones, in row order, gets the gradient.

    ``y = max(image)``. Shapes: x (B, H, W, C), y (B, C). PyTorch's ``AdaptiveMaxPool2d(1)`` also gives the gradient to
    the first of equal numbers; its ``amax`` divides the gradient among them.

    Source: Oquab, Bottou, Laptev and Sivic, "Is object localization for free?", CVPR 2015.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(GlobalMaxPool2D(), np.arange(8.0).reshape(1, 2, 2, 2))
        array([[6., 7.]])
    """


def _pixels(subject: str, shape: Shape) -> int:
    """The number of pixels of an image; at least one is required."""
    if not shape[0] * shape[1]:
        raise ShapeError(f"x must have at least one pixel, got H, W = {shape[0]}, {shape[1]}", subject=subject)
    return shape[0] * shape[1]


def _checked(params: GlobalAvgPool2D | GlobalMaxPool2D, x: Array) -> int:
    subject = type(params).__name__
    check_array(subject, "x", x, ("B", "H", "W", "C"))
    return _pixels(subject, x.shape[1:])


def global_pool_output_shape(params: GlobalAvgPool2D | GlobalMaxPool2D, shape: Shape) -> Shape:
    """Map the row shape (H, W, C) to (C,)."""
    check_row_shape(type(params).__name__, shape, ("H", "W", "C"))
    _pixels(type(params).__name__, shape)
    return shape[2:]


# ------------------------------------------------------------------------------------------ GlobalAvgPool2D


def global_avg_pool_forward(params: GlobalAvgPool2D, x: Array) -> Array:
    """``y[b, c]`` is the mean of ``x[b, i, j, c]`` over i and j."""
    pixels = _checked(params, x)
    channels = x.transpose(0, 3, 1, 2).copy().reshape(len(x), x.shape[3], pixels)
    return mean_last(channels)[:, :, 0]


def global_avg_pool_backward(params: GlobalAvgPool2D, x: Array, g: Array) -> tuple[Array, GlobalAvgPool2D]:
    """Every pixel gets ``g / (H * W)``, because ``y`` is the sum of the pixels divided by ``H * W``."""
    grad_x = np.empty_like(x)
    grad_x[...] = (g / float(_checked(params, x)))[:, None, None, :]
    return grad_x, params


register_layer(
    GlobalAvgPool2D,
    forward=global_avg_pool_forward,
    backward=global_avg_pool_backward,
    output_shape=global_pool_output_shape,
    name="funcnet.GlobalAvgPool2D",
)


# ------------------------------------------------------------------------------------------ GlobalMaxPool2D


def global_max_pool_forward(params: GlobalMaxPool2D, x: Array) -> Array:
    """``y[b, c]`` is the largest of ``x[b, i, j, c]`` over i and j."""
    pixels = _checked(params, x)
    return largest(x.reshape(len(x), pixels, x.shape[3]), axis=1)


def global_max_pool_backward(params: GlobalMaxPool2D, x: Array, g: Array) -> tuple[Array, GlobalMaxPool2D]:
    """The first largest pixel of a channel gets the channel's g: ``dy/dx`` is 1 there, and 0 at the others."""
    pixels = _checked(params, x)
    place = x.reshape(len(x), pixels, x.shape[3]).argmax(axis=1)
    here = np.equal(np.arange(pixels)[:, None], place[:, None, :])
    return (g[:, None, :] * here).reshape(x.shape), params


register_layer(
    GlobalMaxPool2D,
    forward=global_max_pool_forward,
    backward=global_max_pool_backward,
    output_shape=global_pool_output_shape,
    name="funcnet.GlobalMaxPool2D",
)
