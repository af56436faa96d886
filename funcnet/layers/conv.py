"""Conv2D: the convolutional layer for images."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from attrs import frozen
from numpy.lib.stride_tricks import sliding_window_view

from funcnet.arithmetic import matmul_columns, matmul_parts, sum_outer, sum_rows
from funcnet.core.arrays import Array, FloatDType, Weight
from funcnet.core.checks import check_array, check_count, check_row_shape
from funcnet.core.records import evolve
from funcnet.core.trees import float_dtype
from funcnet.layers.windows import (
    Axes,
    Padding,
    Pair,
    axes_of,
    check_padding,
    check_pair,
    in_windows,
    inside,
    padded,
    pair,
)
from funcnet.network.layer import Layer, Shape, register_layer
from funcnet.random.initializers import Initializer, check_initializer, first_bias, glorot_normal
from funcnet.random.keys import Key, check_key, keyed

PATCHES: Final = 2**24
"""The largest count of patch numbers that forward holds at a time: 64 MB of float32."""


@frozen(eq=False)
class Conv2D(Layer):
    """Cross-correlation of images with kernels that are not flipped, which every framework calls convolution.

    ``y = patches @ weight + bias``: ``y[b, i, j, o]`` is bias[o] plus the sum over p, q and c of
    ``x[b, i * stride + p * dilation, j * stride + q * dilation, c] weight[p, q, c, o]``, with zeros around x.
    Shapes: x (B, H, W, C), weight (KH, KW, C, O), bias (O,), y (B, OH, OW, O).

    Stride and dilation are an int or a pair (rows, columns). The padding is ``"valid"`` (no padding), ``"same"``, an
    int, a pair (rows, columns) or ``((top, bottom), (left, right))``. With ``"same"``, y has ceil(H / stride) rows, as
    in TensorFlow, Keras and JAX. If the number of zeros is odd, the extra zero is at the bottom or on the right.
    PyTorch allows ``"same"`` only for stride 1, with the same result.

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
        """Check that weight has four nonempty axes, that bias fits weight, and that the settings are valid."""
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
    """The weight as a matrix. Shapes: weight (KH, KW, C, O), result (I, O) with I = KH * KW * C."""
    return weight.reshape(-1, weight.shape[3])


def _places(axes: Axes) -> int:
    """The number of places that a kernel takes in an image."""
    return axes[0].count * axes[1].count


def patches_of(x: Array, axes: Axes) -> Array:
    """The patches of the images: the numbers under the kernel, one row for each place of the kernel.

    Shapes: x (B, H, W, C), patches (B * OH * OW, KH * KW * C). NumPy copies contiguous runs, and short runs are slow;
    therefore the memory order is whichever of two gives the longer runs.
    """
    image, channels = padded(x, axes), x.shape[3]
    vertical, horizontal = axes
    count, size = len(x) * _places(axes), vertical.size * horizontal.size * channels
    if count * channels == image.size:  # There are as many places as pixels: the kernel has one pixel.
        return image.reshape(count, size)
    reach = tuple((axis.size - 1) * axis.dilation + 1 for axis in axes)
    views = sliding_window_view(image, reach, axis=(1, 2))[:, :: vertical.stride, :: horizontal.stride]
    views = views[..., :: vertical.dilation, :: horizontal.dilation].transpose(0, 1, 2, 4, 5, 3)
    if channels * (horizontal.size if horizontal.dilation == 1 else 1) >= horizontal.count:
        return views.copy().reshape(count, size)
    return views.transpose(3, 4, 5, 0, 1, 2).copy().reshape(size, count).T


def images_of(patches: Array, axes: Axes, x: Array) -> Array:
    """The transpose of ``patches_of``: each number is added to the pixel that it came from.

    Shapes: patches (KH * KW * C, OH * OW * B), result (B, H, W, C), like x. The batch is the innermost axis, which
    makes the contiguous runs long.
    """
    batch, _, __, channels = x.shape
    vertical, horizontal = axes
    parts = patches.reshape(vertical.size * horizontal.size, channels, vertical.count, horizontal.count, batch)
    image = np.zeros_like(x, shape=(channels, vertical.padded, horizontal.padded, batch))
    for pixels, part in zip(in_windows(image, axes), parts, strict=True):
        np.add(pixels, part, out=pixels)
    return inside(image, axes).transpose(3, 1, 2, 0).copy()


def _convolved(params: Conv2D, x: Array, axes: Axes) -> Array:
    """``patches @ weight + bias``. The bias is repeated over a row of the image, as adding short runs is slower."""
    vertical, horizontal = axes
    outputs = params.bias.size
    product = matmul_parts(patches_of(x, axes), _matrix(params.weight), _places(axes))
    bias = np.broadcast_to(params.bias, (horizontal.count, outputs)).copy().reshape(-1)
    y: Array = product.reshape(-1, horizontal.count * outputs) + bias
    return y.reshape(len(x), vertical.count, horizontal.count, outputs)


def conv2d_forward(params: Conv2D, x: Array) -> Array:
    """``y = patches @ weight + bias``, with one row of patches for each place of the kernel.

    A large batch is computed in groups to bound the memory. Each image has its own product, so groups change no bits.
    """
    axes = _checked(params, x)
    group = max(1, PATCHES // (_places(axes) * math.prod(params.weight.shape[:3])))
    if len(x) <= group:
        return _convolved(params, x, axes)
    return np.concatenate([_convolved(params, x[start : start + group], axes) for start in range(0, len(x), group)])


def conv2d_backward(params: Conv2D, x: Array, g: Array) -> tuple[Array, Conv2D]:
    """The gradients of ``L = <g, y>``: those of Dense, with one row for each place of the kernel.

    ``y = patches @ weight + bias`` gives ``dL/dweight = patches.T @ g``, ``dL/dbias = g.sum(axis=0)`` and
    ``dL/dpatches = g @ weight.T``. A pixel occurs in several patches; ``dL/dx`` is the sum of its entries there.
    """
    axes = _checked(params, x)
    flat, batch_last = (each.reshape(-1, params.bias.size) for each in (g, g.transpose(1, 2, 0, 3).copy()))
    grad_x = images_of(matmul_columns(_matrix(params.weight), batch_last), axes, x)
    grad_weight = sum_outer(patches_of(x, axes), flat).reshape(params.weight.shape)
    return grad_x, evolve(params, weight=grad_weight, bias=sum_rows(flat))


def conv2d_output_shape(params: Conv2D, shape: Shape) -> Shape:
    """Map the row shape (H, W, C) to (OH, OW, O)."""
    check_row_shape("Conv2D", shape, ("H", "W", params.weight.shape[2]), ("weight", params.weight))
    vertical, horizontal = _axes(params, shape)
    return vertical.count, horizontal.count, params.bias.size


register_layer(
    Conv2D, forward=conv2d_forward, backward=conv2d_backward, output_shape=conv2d_output_shape, name="funcnet.Conv2D"
)


@keyed
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
    bias_init: Initializer | None = None,
    dtype: FloatDType = np.float32,
) -> Conv2D:
    """Create a Conv2D layer with a random weight, and a bias that is zero or random.

    Args:
        key: The key of the draw.
        in_channels: C.
        out_channels: O.
        kernel_size: KH and KW: an int for both, or a pair.
        stride: The distance in pixels between neighboring places of the kernel: an int, or a pair (rows, columns).
        padding: ``"valid"`` (no padding), ``"same"`` (as in TensorFlow and JAX), an int, a pair (rows, columns), or
            ``((top, bottom), (left, right))``.
        dilation: The distance in pixels between neighboring kernel elements: an int, or a pair (rows, columns).
        init: The initializer of the weight. The default is Glorot's normal; its fans include the kernel's window.
        bias_init: The initializer of the bias. It draws an array of the weight's shape from ``key.child("bias")``, and
            the first O numbers are the bias. None makes the bias 0.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If a number is not a positive int, an initializer is not a function, or the padding or the dtype is
            invalid.

    Example:
        >>> conv2d(Key(0), 1, 6, 5, padding="same")
        Conv2D(weight=float32 (5, 5, 1, 6), bias=float32 (6,), stride=1, padding='same', dilation=1)
    """
    check_key("conv2d", key)
    channels = check_count("conv2d", "in_channels", in_channels), check_count("conv2d", "out_channels", out_channels)
    check_pair("conv2d", "kernel_size", kernel_size)
    check_initializer("conv2d", "init", init)
    kind = float_dtype(dtype)
    shape = (*pair(kernel_size), *channels)
    weight = init(key, shape, kind)  # before the bias: it refuses sizes that are too large
    return Conv2D(weight, first_bias("conv2d", key, shape, kind, bias_init), stride, padding, dilation)
