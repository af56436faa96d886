"""Conv2D: the convolutional layer for images."""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import numpy as np
from attrs import frozen
from numpy.lib.stride_tricks import as_strided

from funcnet.arithmetic import (
    matmul,
    matmul_parts,
    operand,
    planned_matmul,
    planned_matmul_parts,
    planned_operand,
    planned_rows,
    planned_sum_outer,
    planned_sum_rows,
    rows,
    sum_outer,
    sum_rows,
)
from funcnet.arrays import Array, FloatDType, Weight, check_array, check_row_shape, lock
from funcnet.initializers import Initializer, glorot_normal
from funcnet.keys import Key, check_key
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
    pair,
    plain,
    planned_padding,
    run,
)
from funcnet.records import evolve
from funcnet.settings import check_callable, check_count
from funcnet.trees import float_dtype

PATCHES: Final = 2**19
"""How many numbers of patches forward has at a time."""


@frozen(eq=False)
class Conv2D(Layer):
    """Cross-correlation of images with kernels, which are not flipped: what every framework calls convolution.

    ``y = patches @ weight + bias``: ``y[b, i, j, o]`` is bias[o] plus the sum over p, q and c of
    ``x[b, i * stride + p * dilation, j * stride + q * dilation, c] weight[p, q, c, o]``, with zeros around x.
    Shapes: x (B, H, W, C), weight (KH, KW, C, O), bias (O,), y (B, OH, OW, O).

    Stride and dilation are an int or a pair (rows, columns). The padding is ``"valid"`` (none), ``"same"``, an int, a
    pair (rows, columns) or ``((top, bottom), (left, right))``. With ``"same"`` there are ceil(H / stride) rows, as in
    TensorFlow, Keras and JAX: if an odd number of zeros is needed, one more is below, and right. PyTorch allows it for
    stride 1 only, where it is the same.

    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998; Dumoulin
    and Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, 2016.

    Example:
        >>> import funcnet as fn
        >>> edges = fn.Conv2D(weight=np.array([-1.0, 1.0]).reshape(1, 2, 1, 1), bias=np.zeros(1))
        >>> fn.forward(edges, np.array([0.0, 0.0, 5.0, 5.0]).reshape(1, 1, 4, 1)).ravel()
        array([0., 5., 0.])
    """

    weight: Weight
    bias: Array
    stride: Pair = 1
    padding: Padding = "valid"
    dilation: Pair = 1

    def check(self) -> None:
        """A weight of four axes without an empty one, a bias that fits it, and settings of the known forms."""
        check_array("Conv2D", "weight", self.weight, ("KH", "KW", "C", "O"))
        for size in self.weight.shape:
            check_count("Conv2D", "a size of weight", size)
        check_array("Conv2D", "bias", self.bias, self.weight.shape[3:], match=("weight", self.weight))
        check_pair("Conv2D", "stride", self.stride)
        check_padding("Conv2D", self.padding)
        check_pair("Conv2D", "dilation", self.dilation)


def _axes(params: Conv2D, shape: Shape) -> Axes:
    kernel = params.weight.shape[0], params.weight.shape[1]
    settings = {"stride": params.stride, "dilation": params.dilation}
    return axes_of("Conv2D", shape, kernel, padding=params.padding, **settings)


def _checked(params: Conv2D, x: Array) -> Axes:
    weight = params.weight
    check_array("Conv2D", "x", x, ("B", "H", "W", weight.shape[2]), dtype=weight.dtype, match=("weight", weight))
    return _axes(params, x.shape[1:])


def _matrix(weight: Array) -> Array:
    """The weight as a patch meets it. Shapes: (KH, KW, C, O) to (I, O), I being KH * KW * C."""
    return weight.reshape(-1, weight.shape[3])


def _places(axes: Axes) -> int:
    """How many a kernel has in an image."""
    return axes[0].count * axes[1].count


def _with_bias(product: Array, params: Conv2D, axes: Axes) -> Array:
    """The sum, for whole rows of images: a few channels at a time would take longer than the product.

    Shapes: product (B * OH * OW, O), result (B, OH, OW, O).
    """
    vertical, horizontal = axes
    y = product.reshape(-1, horizontal.count * params.bias.size) + np.tile(params.bias, horizontal.count)
    return y.reshape(-1, vertical.count, horizontal.count, params.bias.size)


# -------------------------------------------------------------------------------------------------- patches


def planned_patches(x: Array, axes: Axes) -> tuple[Array, list[Operation]]:
    """The numbers that a kernel meets, a row for each of its places, and what brings them there.

    Shapes: x (B, H, W, C), patches (B * OH * OW, KH * KW * C), in one of two memory orders: NumPy copies a run of
    numbers at a time, and short runs take long.
    """
    image, operations = planned_padding(x, axes)
    vertical, horizontal = axes
    places, window = (len(x), vertical.count, horizontal.count), (vertical.size, horizontal.size, x.shape[3])
    count, size = len(x) * vertical.count * horizontal.count, vertical.size * horizontal.size * x.shape[3]
    if count * x.shape[3] == image.size:  # as many places as pixels: a kernel of one pixel
        return image.reshape(count, size), operations
    of_batch, of_row, of_column, of_channel = image.strides
    moves = of_batch, of_row * vertical.stride, of_column * horizontal.stride
    steps = of_row * vertical.dilation, of_column * horizontal.dilation, of_channel
    views = as_strided(image, (*places, *window), (*moves, *steps), writeable=False)
    if window[2] * (window[1] if horizontal.dilation == 1 else 1) >= places[2]:
        patches = np.empty((*places, *window), x.dtype)
        return patches.reshape(count, size), [*operations, partial(np.copyto, patches, views)]
    patches = np.empty((*window, *places), x.dtype)
    operations.append(partial(np.copyto, patches, views.transpose(3, 4, 5, 0, 1, 2)))
    return patches.reshape(size, count).T, operations


def patches_of(x: Array, axes: Axes) -> Array:
    """``planned_patches`` at once."""
    patches, operations = planned_patches(x, axes)
    run(operations)
    return patches


def planned_images(patches: Array, axes: Axes, into: Array) -> list[Operation]:
    """The transpose of ``planned_patches``: each number is added to the pixel that it came from.

    Shapes: patches (KH * KW * C, OH * OW * B), into (B, H, W, C). The batch is innermost: runs are long.
    """
    batch, _, __, channels = into.shape
    vertical, horizontal = axes
    parts = patches.reshape(vertical.size * horizontal.size, channels, vertical.count, horizontal.count, batch)
    image = np.empty((channels, vertical.padded, horizontal.padded, batch), into.dtype)
    operations: list[Operation] = [partial(image.fill, 0)]
    operations += [
        partial(np.add, pixels, part, pixels) for pixels, part in zip(in_windows(image, axes), parts, strict=True)
    ]
    return [*operations, partial(np.copyto, into, inside(image, axes).transpose(3, 1, 2, 0))]


def _batch_last(g: Array) -> Array:
    """A view. Shapes: (B, OH, OW, O) to (OH, OW, B, O)."""
    return g.transpose(1, 2, 0, 3)


# --------------------------------------------------------------------------------------- forward and backward


def conv2d_forward(params: Conv2D, x: Array) -> Array:
    """``y = patches @ weight + bias``, a row of patches for each place of the kernel.

    With the patches of so many images at a time as a processor's cache holds; each has a product of its own anyway.
    """
    axes = _checked(params, x)
    weight = operand(_matrix(params.weight))
    group = max(1, PATCHES // (_places(axes) * math.prod(params.weight.shape[:3])))
    y = np.empty((len(x), axes[0].count, axes[1].count, params.bias.size), x.dtype)
    for start in range(0, len(x), group):
        images = slice(start, start + group)
        y[images] = _with_bias(matmul_parts(rows(patches_of(x[images], axes)), weight, _places(axes)), params, axes)
    return y


def conv2d_backward(params: Conv2D, x: Array, g: Array) -> tuple[Array, Conv2D]:
    """As for Dense, a row for each place of the kernel: ``dL/dweight`` is ``patches.T @ g``, ``dL/dbias`` g's sum.

    ``dL/dpatches`` is ``g @ weight.T``; ``dL/dx`` at a pixel is the sum of it over all places where the pixel stands in
    the patches.
    """
    return conv2d_vjp(params, x)[1](g)


def conv2d_vjp(params: Conv2D, x: Array) -> tuple[Array, Pullback[Conv2D]]:
    """Forward and backward; patches and weight are prepared for products once, and ``grad_x`` can be left out."""
    axes = _checked(params, x)
    left, weight = rows(patches_of(x, axes)), operand(_matrix(params.weight))
    outputs = params.bias.size

    def params_only(g: Array) -> Conv2D:
        flat = g.reshape(-1, outputs)
        return evolve(params, weight=sum_outer(left, rows(flat)).reshape(params.weight.shape), bias=sum_rows(flat))

    def x_only(g: Array) -> Array:
        right = rows(np.ascontiguousarray(_batch_last(g)).reshape(-1, outputs))
        grad_x = np.empty_like(x)
        run(planned_images(matmul(weight, right.T), axes, grad_x))
        return grad_x

    def both(g: Array) -> tuple[Array, Conv2D]:
        return x_only(g), params_only(g)

    return _with_bias(matmul_parts(left, weight, _places(axes)), params, axes), Pullback(both, params_only, x_only)


def conv2d_plan(params: Conv2D, x: Array) -> Plan[Conv2D]:
    """The same operations, on buffers."""
    axes = _checked(params, x)
    vertical, horizontal = axes
    patches, unfold = planned_patches(x, axes)
    left, round_left = planned_rows(patches)
    weight, round_weight = planned_operand(_matrix(params.weight))
    outputs = params.bias.size
    y = np.empty((len(x), vertical.count, horizontal.count, outputs), x.dtype)
    biases = np.empty((horizontal.count, outputs), x.dtype)
    flat, wide = y.reshape(-1, outputs), y.reshape(-1, biases.size)
    forward: list[Operation] = [
        *unfold,
        *round_left,
        *round_weight,
        planned_matmul_parts(left, weight, flat, _places(axes)),
        partial(np.copyto, biases, params.bias),
        partial(np.add, wide, biases.reshape(-1), wide),
    ]

    def backward(g: Array, grads: Conv2D, into: Array | None) -> list[Operation]:
        flat = g.reshape(-1, outputs)
        right, round_right = planned_rows(flat)
        sums = [planned_sum_outer(left, right, _matrix(grads.weight)), planned_sum_rows(flat, grads.bias)]
        return [*round_right, *sums] if into is None else [*round_right, *sums, *x_only(g, into)]

    def x_only(g: Array, into: Array) -> list[Operation]:
        turned = np.empty(_batch_last(g).shape, x.dtype)
        right, round_right = planned_rows(turned.reshape(-1, outputs))
        grad_patches = np.empty((patches.shape[1], len(patches)), x.dtype)
        return [
            partial(np.copyto, turned, _batch_last(g)),
            *round_right,
            planned_matmul(weight, right.T, grad_patches),
            *planned_images(grad_patches, axes, into),
        ]

    return Plan(y, forward, backward, x_only=x_only)


def conv2d_output_shape(params: Conv2D, shape: Shape) -> Shape:
    """(H, W, C) to (OH, OW, O)."""
    check_row_shape("Conv2D", shape, ("H", "W", params.weight.shape[2]), ("weight", params.weight))
    vertical, horizontal = _axes(params, shape)
    return vertical.count, horizontal.count, params.bias.size


register_layer(
    Conv2D,
    forward=conv2d_forward,
    backward=conv2d_backward,
    vjp=conv2d_vjp,
    plan=conv2d_plan,
    output_shape=conv2d_output_shape,
    name="funcnet.Conv2D",
)


def conv2d(
    key: Key,
    in_channels: int,
    out_channels: int,
    kernel_size: Pair,
    *,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    init: Initializer = glorot_normal,
    dtype: FloatDType = np.float32,
) -> Conv2D:
    """A Conv2D layer with a drawn weight and a zero bias.

    Args:
        key: Names the draw.
        in_channels: C.
        out_channels: O.
        kernel_size: KH and KW: an int for both, or a pair.
        stride: How many pixels lie between two places of the kernel: an int, or a pair (rows, columns).
        padding: ``"valid"`` (none), ``"same"`` (TensorFlow's and JAX's), an int, a pair (rows, columns), or
            ``((top, bottom), (left, right))``.
        dilation: How far apart the pixels are that a kernel meets: an int, or a pair (rows, columns).
        init: Draws the weight; default Glorot's normal, whose fans count the kernel's window.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If a number is not a positive int, init is no function, the padding has none of its forms, or the
            dtype is another.

    Example:
        >>> conv2d(Key(0), 1, 6, 5, padding="same")
        Conv2D(weight=float32 (5, 5, 1, 6), bias=float32 (6,), stride=1, padding='same', dilation=1)
    """
    check_key("conv2d", key)
    check_count("conv2d", "in_channels", in_channels)
    check_count("conv2d", "out_channels", out_channels)
    check_pair("conv2d", "kernel_size", kernel_size)
    check_callable("conv2d", "init", init)
    kind = float_dtype(dtype)
    weight = init(key, (*pair(kernel_size), int(in_channels), int(out_channels)), kind)
    bias = lock(np.zeros(int(out_channels), kind))
    return Conv2D(weight, bias, plain(stride), plain(padding), plain(dilation))
