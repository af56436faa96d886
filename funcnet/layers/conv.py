"""Conv2D: the convolutional layer for images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import field, frozen

from funcnet.arithmetic import sum_rows
from funcnet.core.arrays import Array, FloatDType, Weight
from funcnet.core.checks import check_array, check_count, check_row_shape
from funcnet.core.errors import ConfigError
from funcnet.core.names import LATER
from funcnet.core.records import evolve
from funcnet.core.trees import float_dtype
from funcnet.layers.depthwise import depthwise_backward, depthwise_forward
from funcnet.layers.patches import product_backward, product_forward
from funcnet.layers.windows import Axes, Padding, Pair, axes_of, check_padding, check_pair, pair
from funcnet.network.layer import Layer, Shape, register_layer
from funcnet.random.initializers import Initializer, check_initializer, first_bias, glorot_normal
from funcnet.random.keys import Key, check_key, keyed


@frozen(eq=False)
class Conv2D(Layer):
    """Cross-correlation of images with kernels that are not flipped, which every framework calls convolution.

    ``y = patches @ weight + bias``: ``y[b, i, j, o]`` is bias[o] plus the sum over p, q and c of
    ``x[b, i * stride + p * dilation, j * stride + q * dilation, c] weight[p, q, c, o]``, with zeros around x.
    Shapes: x (B, H, W, C), weight (KH, KW, C // groups, O), bias (O,) or None, y (B, OH, OW, O).

    The channels and the outputs are divided into ``groups`` of equal size, and an output reads only the channels of its
    own group, which c counts. With ``groups=C``, the convolution is depthwise. Keras' ``DepthwiseConv2D`` stores such a
    weight as (KH, KW, C, O // C), with the same order of numbers.

    Stride and dilation are an int or a pair (rows, columns). The padding is ``"valid"`` (no padding), ``"same"``, an
    int, a pair (rows, columns) or ``((top, bottom), (left, right))``. With ``"same"``, y has ceil(H / stride) rows, as
    in TensorFlow, Keras and JAX. If the number of zeros is odd, the extra zero is at the bottom or on the right.
    PyTorch allows ``"same"`` only for stride 1, with the same result.

    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998; Dumoulin
    and Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, 2016. For groups: Krizhevsky,
    Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", NIPS 2012.

    Example:
        >>> import funcnet as fn
        >>> edges = fn.Conv2D(weight=np.array([-1.0, 1.0]).reshape(1, 2, 1, 1), bias=np.zeros(1))
        >>> fn.forward(edges, np.array([0.0, 0.0, 5.0, 5.0]).reshape(1, 1, 4, 1)).ravel()
        array([0., 5., 0.])
    """

    weight: Weight
    bias: Array | None = None
    stride: Pair = 1
    padding: Padding = "valid"
    dilation: Pair = 1
    groups: int = field(default=1, metadata=LATER)

    def check(self) -> None:
        """Check that weight has four nonempty axes, that a bias fits weight, and that the settings are valid."""
        check_array("Conv2D", "weight", self.weight, ("KH", "KW", "C", "O"))
        check_kernels("Conv2D", self.weight, self.bias, self.groups)
        check_pair("Conv2D", "stride", self.stride)
        check_padding("Conv2D", self.padding)
        check_pair("Conv2D", "dilation", self.dilation)


def check_kernels(subject: str, weight: Array, bias: Array | None, groups: int) -> None:
    """Check that no axis of a weight (..., C // groups, O) is empty, that a bias fits it, and that groups divides O.

    Raises:
        ConfigError: If a size is 0, or groups is not a positive int that divides O.
        ShapeError, DTypeError: If the bias does not fit the weight.
    """
    for size in weight.shape:
        check_count(subject, "a size of weight", size)
    if bias is not None:
        check_array(subject, "bias", bias, weight.shape[-1:], match=("weight", weight))
    check_groups(subject, groups, "weight's O", weight.shape[-1])


def check_groups(subject: str, groups: int, name: str, count: int) -> None:
    """Check that groups is a positive int that divides a number of channels.

    Raises:
        ConfigError: If it is not.

    Example:
        >>> check_groups("conv2d", 4, "in_channels", 6)
        Traceback (most recent call last):
        funcnet.ConfigError: conv2d: groups must divide in_channels = 6, got 4
    """
    check_count(subject, "groups", groups)
    if count % groups:
        raise ConfigError(f"groups must divide {name} = {count}, got {groups}", subject=subject)


def conv2d_axes(params: Conv2D, shape: Shape) -> Axes:
    """The layout of the kernel's places over images of the shape (H, W, ...).

    Raises:
        ShapeError: If there is no room for the kernel.

    Example:
        >>> [axis.count for axis in conv2d_axes(Conv2D(np.ones((3, 1, 1, 1)), stride=2), (7, 7))]
        [3, 4]
    """
    kernel, stride, dilation = params.weight.shape[:2], params.stride, params.dilation
    size = kernel[0], kernel[1]
    return axes_of("Conv2D", shape, size, stride=stride, padding=params.padding, dilation=dilation)


def _checked(params: Conv2D, x: Array) -> Axes:
    weight, channels = params.weight, params.weight.shape[2] * params.groups
    check_array("Conv2D", "x", x, ("B", "H", "W", channels), dtype=weight.dtype, match=("weight", weight))
    return conv2d_axes(params, x.shape[1:])


def _is_depthwise(params: Conv2D) -> bool:
    """Whether each output reads a single channel out of several."""
    return params.groups > 1 and params.weight.shape[2] == 1


def _by_group(array: Array, groups: int) -> list[Array]:
    """The parts of the last axis: one for each group."""
    if groups == 1:
        return [array]
    size = array.shape[3] // groups
    return [array[..., start : start + size].copy() for start in range(0, groups * size, size)]


def _joined(parts: Sequence[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=3)


def conv2d_forward(params: Conv2D, x: Array) -> Array:
    """``y = patches @ weight + bias``, with one row of patches for each place of the kernel.

    The channels and the outputs of each group have their own product. The bias is repeated over a row of the image, as
    adding short runs is slower.
    """
    axes, weight, groups = _checked(params, x), params.weight, params.groups
    if _is_depthwise(params):
        y = depthwise_forward(weight, x, axes)
    else:
        pairs = zip(_by_group(weight, groups), _by_group(x, groups), strict=True)
        y = _joined([product_forward(weight, x, axes) for weight, x in pairs])
    if params.bias is None:
        return y
    columns, outputs = y.shape[2:]
    row = np.broadcast_to(params.bias, (columns, outputs)).copy().reshape(-1)
    return (y.reshape(-1, columns * outputs) + row).reshape(y.shape)


def conv2d_backward(params: Conv2D, x: Array, g: Array) -> tuple[Array, Conv2D]:
    """The gradients of ``L = <g, y>``: those of Dense, with one row for each place of the kernel.

    ``y = patches @ weight + bias`` gives ``dL/dweight = patches.T @ g``, ``dL/dbias = g.sum(axis=0)`` and
    ``dL/dpatches = g @ weight.T``. A pixel occurs in several patches; ``dL/dx`` is the sum of its entries there.
    """
    axes, weight, groups = _checked(params, x), params.weight, params.groups
    if _is_depthwise(params):
        grad_x, grad_weight = depthwise_backward(weight, x, g, axes)
    else:
        parts = zip(*(_by_group(each, groups) for each in (weight, x, g)), strict=True)
        pairs = [product_backward(weight, x, g, axes) for weight, x, g in parts]
        grad_x, grad_weight = (_joined(parts) for parts in zip(*pairs, strict=True))
    grad_bias = None if params.bias is None else sum_rows(g.reshape(-1, weight.shape[3]))
    return grad_x, evolve(params, weight=grad_weight, bias=grad_bias)


def conv2d_output_shape(params: Conv2D, shape: Shape) -> Shape:
    """Map the row shape (H, W, C) to (OH, OW, O)."""
    weight = params.weight
    check_row_shape("Conv2D", shape, ("H", "W", weight.shape[2] * params.groups), ("weight", weight))
    vertical, horizontal = conv2d_axes(params, shape)
    return vertical.count, horizontal.count, weight.shape[3]


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
    groups: int = 1,
    bias: bool = True,
    init: Initializer = glorot_normal,
    bias_init: Initializer | None = None,
    dtype: FloatDType = np.float32,
) -> Conv2D:
    """Create a Conv2D layer with a random weight, and a bias that is zero or random, or no bias.

    Args:
        key: The key of the draw.
        in_channels: C.
        out_channels: O.
        kernel_size: KH and KW: an int for both, or a pair.
        stride: The distance in pixels between neighboring places of the kernel: an int, or a pair (rows, columns).
        padding: ``"valid"`` (no padding), ``"same"`` (as in TensorFlow and JAX), an int, a pair (rows, columns), or
            ``((top, bottom), (left, right))``.
        dilation: The distance in pixels between neighboring kernel elements: an int, or a pair (rows, columns).
        groups: The number of groups, which divides C and O. With ``groups=in_channels``, the layer is depthwise.
        bias: Whether the layer has a bias. The weight is the same with and without it.
        init: The initializer of the weight. The default is Glorot's normal; its fans include the kernel's window.
        bias_init: The initializer of the bias. It draws an array of the weight's shape from ``key.child("bias")``, and
            the first O numbers are the bias. None makes the bias 0.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If a number is not a positive int, groups does not divide C and O, an initializer is not a
            function, the padding or the dtype is invalid, or an initializer is given for a bias that the layer does
            not have.

    Example:
        >>> conv2d(Key(0), 1, 6, 5, padding="same")
        Conv2D(weight=float32 (5, 5, 1, 6), bias=float32 (6,), stride=1, padding='same', dilation=1, groups=1)
    """
    check_key("conv2d", key)
    channels = channels_of("conv2d", in_channels, out_channels, groups)
    check_pair("conv2d", "kernel_size", kernel_size)
    check_initializer("conv2d", "init", init)
    shape, kind = (*pair(kernel_size), *channels), float_dtype(dtype)
    weight = init(key, shape, kind)  # before the bias: it refuses sizes that are too large
    drawn = first_bias("conv2d", key, shape, kind, bias_init, bias=bias)
    return Conv2D(weight, drawn, stride, padding, dilation, groups)


def channels_of(subject: str, in_channels: int, out_channels: int, groups: int) -> tuple[int, int]:
    """The last two sizes of a new weight, C // groups and O.

    Raises:
        ConfigError: If a number is not a positive int, or groups does not divide C and O.
    """
    channels = check_count(subject, "in_channels", in_channels), check_count(subject, "out_channels", out_channels)
    groups = check_count(subject, "groups", groups)
    for name, count in zip(("in_channels", "out_channels"), channels, strict=True):
        check_groups(subject, groups, name, count)
    return channels[0] // groups, channels[1]
