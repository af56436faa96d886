"""Pooling: the maximum or the mean of windows over images."""

from __future__ import annotations

import math

import numpy as np
from attrs import field, frozen

from funcnet.arithmetic import maximum
from funcnet.core.arrays import Array
from funcnet.core.checks import check_array, check_flag, check_row_shape
from funcnet.core.errors import ShapeError
from funcnet.core.names import LATER
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
    pair,
)
from funcnet.network.layer import Layer, Shape, register_layer


@frozen(eq=False)
class MaxPool2D(Layer):
    """The largest number of each window and channel; the first of equal ones, in row order, gets the gradient.

    ``y = max(window)``, as in PyTorch. Shapes: x (B, H, W, C), y (B, OH, OW, C). Window and stride are an int or a pair
    (rows, columns). The default stride is the window, so that windows are adjacent. Padding has the forms of
    ``Conv2D``; a padded pixel is never the largest. The pixels of a window are ``dilation`` apart. With ``ceil_mode``,
    the last window may extend past the padding if it begins inside the image or in the padding before it.

    Each window must have a pixel of the image, so the padding must be smaller than the span of a window. PyTorch allows
    at most half of the window, and returns minus infinity for a window of padding alone, which a dilation larger than
    the image makes possible.

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
    dilation: Pair = field(default=1, metadata=LATER)
    ceil_mode: bool = field(default=False, metadata=LATER)

    def check(self) -> None:
        """Check the settings. A padding as large as a window's span is refused: its windows would have no pixels."""
        _check_settings(self, self.dilation)


@frozen(eq=False)
class AvgPool2D(Layer):
    """The mean of each window and channel; it counts the image's own pixels and, on request, the padding.

    ``y = mean(window)``, as in TensorFlow, Keras, and PyTorch with ``count_include_pad=False``. With ``count_padding``,
    the zeros of the padding count as pixels, which is PyTorch's default. Shapes: x (B, H, W, C), y (B, OH, OW, C).
    Window and stride are an int or a pair (rows, columns). The default stride is the window, so that windows are
    adjacent. Padding has the forms of ``Conv2D``. With ``ceil_mode``, the last window may extend past the padding if it
    begins inside the image or in the padding before it. What is past the padding never counts.

    Source: LeCun et al., "Handwritten digit recognition with a back-propagation network", NIPS 1989.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(AvgPool2D(2), np.arange(8.0).reshape(1, 2, 4, 1)).ravel()
        array([2.5, 4.5])
    """

    window: Pair
    stride: Pair | None = None
    padding: Padding = "valid"
    count_padding: bool = field(default=False, metadata=LATER)
    ceil_mode: bool = field(default=False, metadata=LATER)

    def check(self) -> None:
        """Check the settings. A padding as large as the window is refused: its windows would have no pixels."""
        _check_settings(self, 1)
        check_flag("AvgPool2D", "count_padding", self.count_padding)


def _check_settings(params: MaxPool2D | AvgPool2D, dilation: Pair) -> None:
    subject = type(params).__name__
    check_pair(subject, "window", params.window)
    if params.stride is not None:
        check_pair(subject, "stride", params.stride)
    check_pair(subject, "dilation", dilation)
    (height, width), (down, right) = pair(params.window), pair(dilation)
    check_padding(subject, params.padding, below=((height - 1) * down + 1, (width - 1) * right + 1))
    check_flag(subject, "ceil_mode", params.ceil_mode)


def pool_axes(params: MaxPool2D | AvgPool2D, shape: Shape) -> Axes:
    """The layout of the windows over images of the shape (H, W, ...).

    Raises:
        ShapeError: If there is no room for a window, or a window would have no pixel of the image.

    Example:
        >>> [axis.count for axis in pool_axes(MaxPool2D(2, stride=(1, 2)), (5, 5))]
        [4, 2]
    """
    subject, stride = type(params).__name__, params.window if params.stride is None else params.stride
    settings = {"stride": stride, "dilation": params.dilation if isinstance(params, MaxPool2D) else 1}
    axes = axes_of(subject, shape, params.window, padding=params.padding, ceil_mode=params.ceil_mode, **settings)
    for name, axis in zip("HW", axes, strict=True):
        starts = range(-axis.before, axis.count * axis.stride - axis.before, axis.stride)
        if axis.dilation > axis.length and any(start % axis.dilation >= axis.length for start in starts):
            given = f"{name} = {axis.length}, dilation {axis.dilation} and {axis.before} of padding before"
            fix = "use a smaller dilation or less padding"
            raise ShapeError(f"x must have a pixel in each window, got {given}; {fix}", subject=subject)
    return axes


def _checked(params: MaxPool2D | AvgPool2D, x: Array) -> Axes:
    check_array(type(params).__name__, "x", x, ("B", "H", "W", "C"))
    return pool_axes(params, x.shape[1:])


def pool_output_shape(params: MaxPool2D | AvgPool2D, shape: Shape) -> Shape:
    """Map the row shape (H, W, C) to (OH, OW, C)."""
    check_row_shape(type(params).__name__, shape, ("H", "W", "C"))
    vertical, horizontal = pool_axes(params, shape)
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
    return maximum(*views) if len(views) > 1 else views[0].copy(), views


def max_pool_forward(params: MaxPool2D, x: Array) -> Array:
    """The largest number of a window: of ``x[b, i * stride + p * dilation, j * stride + q * dilation, c]``."""
    return _largest(x, _checked(params, x))[0]


def max_pool_backward(params: MaxPool2D, x: Array, g: Array) -> tuple[Array, MaxPool2D]:
    """The first largest number of a window gets the window's g.

    ``dy/dx`` is 1 at the pixel that is the window's maximum, and 0 at the others. ``grad_x`` at a pixel is therefore
    the sum of g over all windows that have their (first) maximum there; overlapping windows may share one.
    """
    axes = _checked(params, x)
    y, views = _largest(x, axes)
    image, found = _zeros(x, axes), np.zeros_like(y, np.bool_)
    apart = all(axis.stride >= axis.reach for axis in axes)
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


def _counts(params: AvgPool2D, axes: Axes, x: Array) -> Array:
    """The number of pixels that count in each window. Shapes: result (OH, OW, 1)."""
    vertical, horizontal = (np.array(axis.counts(padding=params.count_padding), x.dtype) for axis in axes)
    return (vertical[:, None] * horizontal)[:, :, None]


def avg_pool_forward(params: AvgPool2D, x: Array) -> Array:
    """The sum over a window, in row order, divided by the number of pixels that count in the window."""
    axes = _checked(params, x)
    first, *others = in_windows(padded(x, axes), axes)
    y = first.copy()
    for other in others:
        y += other
    return y / _counts(params, axes, x)


def avg_pool_backward(params: AvgPool2D, x: Array, g: Array) -> tuple[Array, AvgPool2D]:
    """Every pixel gets ``g / n`` from each window that contains it.

    ``y`` is the sum of a window's pixels divided by their number n, so ``dy/dx`` is ``1 / n`` at each of them.
    """
    axes = _checked(params, x)
    share, image = g / _counts(params, axes, g), _zeros(x, axes)
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
