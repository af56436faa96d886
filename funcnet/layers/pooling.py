"""Pooling: the maximum or the mean of windows over images, and the mean of a whole image."""

from __future__ import annotations

import math

import numpy as np
from attrs import frozen

from funcnet.arithmetic import mean_last
from funcnet.core.arrays import Array
from funcnet.core.checks import check_array, check_row_shape
from funcnet.core.errors import ShapeError
from funcnet.layers.windows import (
    Axes,
    Padding,
    Pair,
    axes_of,
    check_padding,
    check_pair,
    in_windows,
    inside,
    is_padded,
    padded,
)
from funcnet.network.layer import Layer, Shape, register_layer


@frozen(eq=False)
class MaxPool2D(Layer):
    """The largest number of each window and channel; the first of equal ones, in row order, gets the gradient.

    ``y = max(window)``, as in PyTorch. Shapes: x (B, H, W, C), y (B, OH, OW, C). Window and stride are an int or a pair
    (rows, columns). The default stride is the window, so that windows are adjacent. Padding has the forms of
    ``Conv2D``; a padded pixel is never the largest.

    Source: Ranzato, Huang, Boureau and LeCun, "Unsupervised learning of invariant feature hierarchies with
    applications to object recognition", CVPR 2007.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(MaxPool2D(2), np.arange(8.0).reshape(1, 2, 4, 1)).ravel()
        array([5., 7.])
    """

    window: Pair
    stride: Pair | None = None
    padding: Padding = "valid"

    def check(self) -> None:
        """Check the settings. A padding as large as the window is refused: its windows would have no pixels."""
        _check_settings(self)


@frozen(eq=False)
class AvgPool2D(Layer):
    """The mean of each window and channel; it counts the image's own pixels, not the padding.

    ``y = mean(window)``, as in TensorFlow, Keras, and PyTorch with ``count_include_pad=False``. Shapes: x (B, H, W, C),
    y (B, OH, OW, C). Window and stride are an int or a pair (rows, columns). The default stride is the window, so that
    windows are adjacent. Padding has the forms of ``Conv2D``.

    Source: LeCun et al., "Handwritten digit recognition with a back-propagation network", NIPS 1989.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(AvgPool2D(2), np.arange(8.0).reshape(1, 2, 4, 1)).ravel()
        array([2.5, 4.5])
    """

    window: Pair
    stride: Pair | None = None
    padding: Padding = "valid"

    def check(self) -> None:
        """Check the settings. A padding as large as the window is refused: its windows would have no pixels."""
        _check_settings(self)


def _check_settings(params: MaxPool2D | AvgPool2D) -> None:
    subject = type(params).__name__
    check_pair(subject, "window", params.window)
    if params.stride is not None:
        check_pair(subject, "stride", params.stride)
    check_padding(subject, params.padding, below=params.window)


def _axes(params: MaxPool2D | AvgPool2D, shape: Shape) -> Axes:
    stride = params.window if params.stride is None else params.stride
    return axes_of(type(params).__name__, shape, params.window, stride=stride, padding=params.padding)


def _checked(params: MaxPool2D | AvgPool2D, x: Array) -> Axes:
    check_array(type(params).__name__, "x", x, ("B", "H", "W", "C"))
    return _axes(params, x.shape[1:])


def pool_output_shape(params: MaxPool2D | AvgPool2D, shape: Shape) -> Shape:
    """Map the row shape (H, W, C) to (OH, OW, C)."""
    check_row_shape(type(params).__name__, shape, ("H", "W", "C"))
    vertical, horizontal = _axes(params, shape)
    return vertical.count, horizontal.count, shape[2]


def _zeros(x: Array, axes: Axes) -> Array:
    """The zeros to which the gradients of the padded images are added."""
    return np.zeros_like(x, shape=(len(x), axes[0].padded, axes[1].padded, x.shape[3]))


def _unpadded(image: Array, axes: Axes) -> Array:
    return inside(image, axes).copy() if is_padded(axes) else image


# ------------------------------------------------------------------------------------------------ MaxPool2D


def _largest(x: Array, axes: Axes) -> tuple[Array, list[Array]]:
    """The largest number of each window, and for each position in a window a view of all windows' pixels there."""
    views = in_windows(padded(x, axes, -math.inf), axes)
    y = views[0].copy()
    for view in views[1:]:
        np.maximum(y, view, out=y)
    return y, views


def max_pool_forward(params: MaxPool2D, x: Array) -> Array:
    """``y[b, i, j, c]`` is the largest of ``x[b, i * stride + p, j * stride + q, c]`` over p and q."""
    return _largest(x, _checked(params, x))[0]


def max_pool_backward(params: MaxPool2D, x: Array, g: Array) -> tuple[Array, MaxPool2D]:
    """The first largest number of a window gets the window's g.

    ``dy/dx`` is 1 at the pixel that is the window's maximum, and 0 at the others. ``grad_x`` at a pixel is therefore
    the sum of g over all windows that have their (first) maximum there; overlapping windows may share one.
    """
    axes = _checked(params, x)
    y, views = _largest(x, axes)
    image, found = _zeros(x, axes), np.zeros_like(y, np.bool_)
    apart = all(axis.stride >= axis.size for axis in axes)
    for view, target in zip(views, in_windows(image, axes), strict=True):
        here = np.greater(view == y, found)
        found = np.logical_or(found, here)
        if apart:
            np.multiply(g, here, out=target)
        else:
            np.add(target, g * here, out=target)
    return _unpadded(image, axes), params


register_layer(
    MaxPool2D,
    forward=max_pool_forward,
    backward=max_pool_backward,
    output_shape=pool_output_shape,
    name="funcnet.MaxPool2D",
)


# ------------------------------------------------------------------------------------------------ AvgPool2D


def _own(axes: Axes, x: Array) -> Array:
    """The number of the image's own pixels in each window. Shapes: result (OH, OW, 1)."""
    vertical, horizontal = (np.array(axis.own(), x.dtype) for axis in axes)
    return (vertical[:, None] * horizontal)[:, :, None]


def avg_pool_forward(params: AvgPool2D, x: Array) -> Array:
    """The sum over a window, in row order, divided by the number of the image's own pixels in the window."""
    axes = _checked(params, x)
    first, *others = in_windows(padded(x, axes), axes)
    y = first.copy()
    for other in others:
        y += other
    return y / _own(axes, x)


def avg_pool_backward(params: AvgPool2D, x: Array, g: Array) -> tuple[Array, AvgPool2D]:
    """Every pixel gets ``g / n`` from each window that contains it.

    ``y`` is the sum of a window's n own pixels divided by n, so ``dy/dx`` is ``1 / n`` at each of them.
    """
    axes = _checked(params, x)
    share, image = g / _own(axes, g), _zeros(x, axes)
    for target in in_windows(image, axes):
        np.add(target, share, out=target)
    return _unpadded(image, axes), params


register_layer(
    AvgPool2D,
    forward=avg_pool_forward,
    backward=avg_pool_backward,
    output_shape=pool_output_shape,
    name="funcnet.AvgPool2D",
)


# ------------------------------------------------------------------------------------------ GlobalAvgPool2D


@frozen(eq=False)
class GlobalAvgPool2D(Layer):
    """The mean of each channel over the whole image, ``y = mean(image)``. Shapes: x (B, H, W, C), y (B, C).

    Source: Lin, Chen and Yan, "Network in network", ICLR 2014.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(GlobalAvgPool2D(), np.arange(8.0).reshape(1, 2, 2, 2))
        array([[3., 4.]])
    """


def _pixels(shape: Shape) -> int:
    """The number of pixels of an image; at least one is required."""
    if not shape[0] * shape[1]:
        raise ShapeError(
            f"x must have at least one pixel, got H, W = {shape[0]}, {shape[1]}", subject="GlobalAvgPool2D"
        )
    return shape[0] * shape[1]


def _checked_pixels(x: Array) -> int:
    check_array("GlobalAvgPool2D", "x", x, ("B", "H", "W", "C"))
    return _pixels(x.shape[1:])


def global_avg_pool_forward(_: GlobalAvgPool2D, x: Array) -> Array:
    """``y[b, c]`` is the mean of ``x[b, i, j, c]`` over i and j."""
    pixels = _checked_pixels(x)
    channels = x.transpose(0, 3, 1, 2).copy().reshape(len(x), x.shape[3], pixels)
    return mean_last(channels)[:, :, 0]


def global_avg_pool_backward(params: GlobalAvgPool2D, x: Array, g: Array) -> tuple[Array, GlobalAvgPool2D]:
    """Every pixel gets ``g / (H * W)``, because ``y`` is the sum of the pixels divided by ``H * W``."""
    grad_x = np.empty_like(x)
    grad_x[...] = (g / float(_checked_pixels(x)))[:, None, None, :]
    return grad_x, params


def global_avg_pool_output_shape(_: GlobalAvgPool2D, shape: Shape) -> Shape:
    """Map the row shape (H, W, C) to (C,)."""
    check_row_shape("GlobalAvgPool2D", shape, ("H", "W", "C"))
    _pixels(shape)
    return shape[2:]


register_layer(
    GlobalAvgPool2D,
    forward=global_avg_pool_forward,
    backward=global_avg_pool_backward,
    output_shape=global_avg_pool_output_shape,
    name="funcnet.GlobalAvgPool2D",
)
