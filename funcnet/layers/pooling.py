"""Pooling: the largest or the mean number in windows over images, and the mean of a whole image."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from attrs import frozen

from funcnet.arithmetic import sum_last
from funcnet.arrays import Array, check_array, check_row_shape
from funcnet.errors import ShapeError
from funcnet.layer import Layer, Operation, Plan, Pullback, Shape, register_layer
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
    planned_padding,
    run,
)
from funcnet.plans import scalar


@frozen(eq=False)
class MaxPool2D(Layer):
    """The largest number of each window and channel; of equal ones the first, by rows, gets the gradient.

    ``y = max(window)``, as in PyTorch. Shapes: x (B, H, W, C), y (B, OH, OW, C). Window and stride are an int or a pair
    (rows, columns); without a stride windows stand side by side. Padding is as for ``Conv2D``, and never the largest.

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
        """Settings of the known forms; in a padding as large as a window there would be no number."""
        _check_settings(self)


@frozen(eq=False)
class AvgPool2D(Layer):
    """The mean of each window and channel; padding does not count, the mean is that of the image's own pixels.

    ``y = mean(window)``, as in TensorFlow, Keras, and PyTorch with ``count_include_pad=False``. Shapes: x (B, H, W, C),
    y (B, OH, OW, C). Window and stride are an int or a pair (rows, columns); without a stride windows stand side by
    side. Padding is as for ``Conv2D``.

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
        """Settings of the known forms; in a padding as large as a window there would be no number."""
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


def _empty(x: Array, axes: Axes) -> Array:
    return np.empty((len(x), axes[0].count, axes[1].count, x.shape[3]), x.dtype)


def pool_output_shape(params: MaxPool2D | AvgPool2D, shape: Shape) -> Shape:
    """(H, W, C) to (OH, OW, C)."""
    check_row_shape(type(params).__name__, shape, ("H", "W", "C"))
    vertical, horizontal = _axes(params, shape)
    return vertical.count, horizontal.count, shape[2]


def _unpadded(axes: Axes, into: Array) -> tuple[Array, list[Operation], list[Operation]]:
    """Where gradients of padded images are added up: it, how it begins, and how it ends in ``into``."""
    if not is_padded(axes):
        return into, [partial(into.fill, 0)], []
    image = np.empty((len(into), axes[0].padded, axes[1].padded, into.shape[3]), into.dtype)
    return image, [partial(image.fill, 0)], [partial(np.copyto, into, inside(image, axes))]


# ------------------------------------------------------------------------------------------------ MaxPool2D


def _planned_largest(x: Array, axes: Axes, y: Array) -> tuple[list[Array], list[Operation]]:
    """What stands at each position in the windows, and what brings the largest of it into y."""
    image, operations = planned_padding(x, axes, -math.inf)
    first, *others = views = in_windows(image, axes)
    operations.append(partial(np.copyto, y, first))
    return views, [*operations, *(partial(np.maximum, y, other, out=y) for other in others)]


def _planned_to_largest(views: list[Array], y: Array, g: Array, axes: Axes, into: Array) -> list[Operation]:
    """The gradient of x: g where the first number is that equals y."""
    image, operations, ending = _unpadded(axes, into)
    here, before, part = np.empty(y.shape, np.bool_), np.empty(y.shape, np.bool_), np.empty_like(y)
    operations.append(partial(before.fill, 0))
    apart = all(axis.stride >= axis.size for axis in axes)
    for view, target in zip(views, in_windows(image, axes), strict=True):
        operations += [
            partial(np.equal, view, y, here),
            partial(np.greater, here, before, here),
            partial(np.logical_or, here, before, before),
            partial(np.multiply, g, here, target if apart else part),
        ]
        if not apart:
            operations.append(partial(np.add, target, part, target))
    return operations + ending


def max_pool_forward(params: MaxPool2D, x: Array) -> Array:
    """``y[b, i, j, c]`` is the largest of ``x[b, i * stride + p, j * stride + q, c]`` over p and q."""
    return max_pool_vjp(params, x)[0]


def max_pool_backward(params: MaxPool2D, x: Array, g: Array) -> tuple[Array, MaxPool2D]:
    """The largest number of a window, the first of equal ones, gets the window's g; a number may get several."""
    return max_pool_vjp(params, x)[1](g)


def max_pool_vjp(params: MaxPool2D, x: Array) -> tuple[Array, Pullback[MaxPool2D]]:
    """Forward and backward with one search for the largest."""
    axes = _checked(params, x)
    y = _empty(x, axes)
    views, operations = _planned_largest(x, axes, y)
    run(operations)

    def both(g: Array) -> tuple[Array, MaxPool2D]:
        grad_x = np.empty_like(x)
        run(_planned_to_largest(views, y, g, axes, grad_x))
        return grad_x, params

    return y, Pullback(both, lambda _: params)


def max_pool_plan(params: MaxPool2D, x: Array) -> Plan[MaxPool2D]:
    """The same operations, on buffers."""
    axes = _checked(params, x)
    y = _empty(x, axes)
    views, forward = _planned_largest(x, axes, y)

    def backward(g: Array, _: MaxPool2D, into: Array | None) -> list[Operation]:
        return [] if into is None else _planned_to_largest(views, y, g, axes, into)

    return Plan(y, forward, backward)


register_layer(
    MaxPool2D,
    forward=max_pool_forward,
    backward=max_pool_backward,
    vjp=max_pool_vjp,
    plan=max_pool_plan,
    output_shape=pool_output_shape,
    name="funcnet.MaxPool2D",
)


# ------------------------------------------------------------------------------------------------ AvgPool2D


def _own(axes: Axes, x: Array) -> Array:
    """How many of each window's pixels are the image's own. Shape: (OH, OW, 1)."""
    vertical, horizontal = (np.array(axis.own(), x.dtype) for axis in axes)
    return (vertical[:, None] * horizontal)[:, :, None]


def _planned_average(x: Array, axes: Axes, y: Array) -> list[Operation]:
    image, operations = planned_padding(x, axes)
    first, *others = in_windows(image, axes)
    operations.append(partial(np.copyto, y, first))
    operations += [partial(np.add, y, other, y) for other in others]
    return [*operations, partial(np.divide, y, _own(axes, x), y)]


def _planned_to_all(g: Array, axes: Axes, into: Array) -> list[Operation]:
    """The gradient of x: every number of a window gets the same share of its g."""
    image, operations, ending = _unpadded(axes, into)
    share = np.empty(g.shape, g.dtype)
    operations.append(partial(np.divide, g, _own(axes, g), share))
    operations += [partial(np.add, target, share, target) for target in in_windows(image, axes)]
    return operations + ending


def avg_pool_forward(params: AvgPool2D, x: Array) -> Array:
    """The sum over a window, in the order of its rows, divided by the number of its pixels that are the image's."""
    axes = _checked(params, x)
    y = _empty(x, axes)
    run(_planned_average(x, axes, y))
    return y


def avg_pool_backward(params: AvgPool2D, x: Array, g: Array) -> tuple[Array, AvgPool2D]:
    """Every pixel gets g divided by that number, from each window that it is in."""
    grad_x = np.empty_like(x)
    run(_planned_to_all(g, _checked(params, x), grad_x))
    return grad_x, params


def avg_pool_plan(params: AvgPool2D, x: Array) -> Plan[AvgPool2D]:
    """The same operations, on buffers."""
    axes = _checked(params, x)
    y = _empty(x, axes)

    def backward(g: Array, _: AvgPool2D, into: Array | None) -> list[Operation]:
        return [] if into is None else _planned_to_all(g, axes, into)

    return Plan(y, _planned_average(x, axes, y), backward)


register_layer(
    AvgPool2D,
    forward=avg_pool_forward,
    backward=avg_pool_backward,
    plan=avg_pool_plan,
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
    """How many there are."""
    if not shape[0] * shape[1]:
        raise ShapeError(
            f"x must have at least one pixel, got H, W = {shape[0]}, {shape[1]}", subject="GlobalAvgPool2D"
        )
    return shape[0] * shape[1]


def _checked_pixels(x: Array) -> int:
    check_array("GlobalAvgPool2D", "x", x, ("B", "H", "W", "C"))
    return _pixels(x.shape[1:])


def global_avg_pool_forward(_: GlobalAvgPool2D, x: Array) -> Array:
    """``y[b, c]`` is the mean of x[b, i, j, c] over i and j."""
    pixels = _checked_pixels(x)
    channels = np.ascontiguousarray(x.transpose(0, 3, 1, 2)).reshape(len(x), x.shape[3], pixels)
    return sum_last(channels)[:, :, 0] / pixels


def global_avg_pool_backward(params: GlobalAvgPool2D, x: Array, g: Array) -> tuple[Array, GlobalAvgPool2D]:
    """Every pixel gets ``g / (H * W)``."""
    grad_x = np.empty_like(x)
    grad_x[...] = (g / _checked_pixels(x))[:, None, None, :]
    return grad_x, params


def global_avg_pool_plan(_: GlobalAvgPool2D, x: Array) -> Plan[GlobalAvgPool2D]:
    """The same operations, on buffers."""
    pixels = _checked_pixels(x)
    channels, total = np.empty((len(x), x.shape[3], pixels), x.dtype), np.empty((len(x), x.shape[3], 1), x.dtype)
    images = channels.reshape(len(x), x.shape[3], *x.shape[1:3])
    forward: list[Operation] = [
        partial(np.copyto, images, x.transpose(0, 3, 1, 2)),
        partial(sum_last, channels, total),
        partial(np.divide, total, scalar(pixels, x), total),
    ]

    def backward(g: Array, _: GlobalAvgPool2D, into: Array | None) -> list[Operation]:
        if into is None:
            return []
        share = np.empty(g.shape, g.dtype)
        divided = partial(np.divide, g, scalar(pixels, x), share)
        return [divided, partial(np.copyto, into, share[:, None, None, :])]

    return Plan(total[:, :, 0], forward, backward)


def global_avg_pool_output_shape(_: GlobalAvgPool2D, shape: Shape) -> Shape:
    """(H, W, C) to (C,)."""
    check_row_shape("GlobalAvgPool2D", shape, ("H", "W", "C"))
    _pixels(shape)
    return shape[2:]


register_layer(
    GlobalAvgPool2D,
    forward=global_avg_pool_forward,
    backward=global_avg_pool_backward,
    plan=global_avg_pool_plan,
    output_shape=global_avg_pool_output_shape,
    name="funcnet.GlobalAvgPool2D",
)
