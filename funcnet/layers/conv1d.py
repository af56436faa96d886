"""Conv1D: the convolutional layer for sequences."""

from __future__ import annotations

from typing import Literal, TypeAlias, cast

import numpy as np
from attrs import frozen

from funcnet.core.arrays import Array, FloatDType, Mask, Weight
from funcnet.core.checks import MOST_PIXELS, check_array, check_count, check_row_shape, to_python
from funcnet.core.errors import ConfigError
from funcnet.core.records import evolve
from funcnet.core.trees import float_dtype
from funcnet.layers.conv import Conv2D, channels_of, check_kernels, conv2d_backward, conv2d_forward
from funcnet.layers.windows import Axis, axis_of
from funcnet.network.layer import Layer, Shape, register_layer
from funcnet.network.masks import check_mask, check_mask_field
from funcnet.random.initializers import Initializer, check_initializer, first_bias, glorot_normal
from funcnet.random.keys import Key, check_key, keyed

StepPadding: TypeAlias = Literal["same", "valid", "causal"] | int | tuple[int, int]
"""The padding around a sequence: an int for both ends, a pair (before, after), or a word."""


@frozen(eq=False)
class Conv1D(Layer):
    """Cross-correlation of sequences with kernels that are not flipped: ``Conv2D`` on images of one row.

    ``y = patches @ weight + bias``: ``y[b, t, o]`` is bias[o] plus the sum over k and c of
    ``x[b, t * stride + k * dilation, c] weight[k, c, o]``, with zeros before and after x.
    Shapes: x (B, T, C), weight (K, C // groups, O), bias (O,) or None, y (B, T', O).

    The padding is ``"valid"`` (no padding), ``"same"`` (ceil(T / stride) steps, as ``Conv2D``), ``"causal"``, an int
    for both ends, or a pair (before, after). With ``"causal"``, all zeros are before x, ``(K - 1) * dilation`` of them,
    so that y[t] depends on no step after ``t * stride``. Groups are those of ``Conv2D``.

    Steps whose mask (B, T) is 0 are read as zeros, as the padding is. With ``"same"`` or ``"causal"`` and the stride 1,
    the outputs at the other steps are thus those of the sequence without the padded steps around it.

    PyTorch's ``Conv1d`` stores the weight as (O, C // groups, K), and has no causal padding. Keras' ``Conv1D`` stores
    it as funcnet does, and its ``"causal"`` is the same.

    Source: Waibel, Hanazawa, Hinton, Shikano and Lang, "Phoneme recognition using time-delay neural networks", IEEE
    Transactions on Acoustics, Speech, and Signal Processing 37 (1989); van den Oord et al., "WaveNet: a generative
    model for raw audio", arXiv:1609.03499, 2016, for causal and dilated kernels.

    Example:
        >>> import funcnet as fn
        >>> change = fn.Conv1D(weight=np.array([-1.0, 1.0]).reshape(2, 1, 1), padding="causal")
        >>> fn.forward(change, np.array([1.0, 1.0, 4.0]).reshape(1, 3, 1)).ravel()
        array([1., 0., 3.])
    """

    weight: Weight
    bias: Array | None = None
    stride: int = 1
    padding: StepPadding = "valid"
    dilation: int = 1
    groups: int = 1
    mask: Mask | None = None

    def check(self) -> None:
        """Check that weight has three nonempty axes, that a bias and a mask fit, and that the settings are valid."""
        check_array("Conv1D", "weight", self.weight, ("K", "C", "O"))
        check_kernels("Conv1D", self.weight, self.bias, self.groups)
        check_count("Conv1D", "stride", self.stride, high=MOST_PIXELS)
        _check_padding(self.padding)
        check_count("Conv1D", "dilation", self.dilation, high=MOST_PIXELS)
        span = (len(self.weight) - 1) * self.dilation
        check_count("Conv1D", "(K - 1) * dilation", span, low=0, high=MOST_PIXELS)
        check_mask_field("Conv1D", self.mask)


def _check_padding(padding: object) -> None:
    if isinstance(padding, str) and padding in ("same", "valid", "causal"):
        return
    ends = cast("tuple[object, ...]", padding) if isinstance(padding, tuple) else (padding, padding)
    if len(ends) != 2 or not all(isinstance(to_python(end), int) for end in ends):
        forms = "'same', 'valid', 'causal', an int or a pair (before, after)"
        raise ConfigError(f"padding must be {forms}, got {padding!r}", subject="Conv1D")
    for end in ends:
        check_count("Conv1D", "padding", end, low=0, high=MOST_PIXELS)


def conv1d_axis(params: Conv1D, length: int) -> Axis:
    """The layout of the kernel's places along a sequence of T steps; ``"causal"`` is a padding before it.

    Raises:
        ShapeError: If there is no room for the kernel.

    Example:
        >>> conv1d_axis(Conv1D(np.ones((3, 1, 1)), padding="causal", dilation=2), 5).before
        4
    """
    size, padding = len(params.weight), params.padding
    if padding == "causal":
        padding = ((size - 1) * params.dilation, 0)
    sides = (padding, padding) if isinstance(padding, int) else padding
    return axis_of("Conv1D", "T", length, size, stride=params.stride, padding=sides, dilation=params.dilation)


def _of_images(params: Conv1D, x: Array) -> Conv2D:
    """The Conv2D that reads a sequence as an image of one row."""
    weight, channels = params.weight, params.weight.shape[1] * params.groups
    check_array("Conv1D", "x", x, ("B", "T", channels), dtype=weight.dtype, match=("weight", weight))
    axis = conv1d_axis(params, x.shape[1])
    padding = (0, 0), (axis.before, axis.after)
    return Conv2D(weight[None], params.bias, (1, params.stride), padding, (1, params.dilation), params.groups)


def _read(params: Conv1D, x: Array) -> Array:
    """x, or the gradient by it, with zeros at the padded steps."""
    return x if params.mask is None else x * params.mask[:, :, None]


def conv1d_forward(params: Conv1D, x: Array) -> Array:
    """``y = patches @ weight + bias``, with one row of patches for each place of the kernel."""
    images = _of_images(params, x)
    check_mask("Conv1D", params.mask, x)
    return conv2d_forward(images, _read(params, x)[:, None])[:, 0]


def conv1d_backward(params: Conv1D, x: Array, g: Array) -> tuple[Array, Conv1D]:
    """The gradients of ``Conv2D`` on images of one row.

    ``y = patches @ weight + bias`` gives ``dL/dweight = patches.T @ g``, ``dL/dbias = g.sum(axis=0)`` and
    ``dL/dpatches = g @ weight.T``. A step occurs in several patches; ``dL/dx`` is the sum of its entries there,
    and 0 at a padded step.
    """
    grad_x, grad = conv2d_backward(_of_images(params, x), _read(params, x)[:, None], g[:, None])
    return _read(params, grad_x[:, 0]), evolve(params, weight=grad.weight[0], bias=grad.bias)


def conv1d_output_shape(params: Conv1D, shape: Shape) -> Shape:
    """Map the row shape (T, C) to (T', O)."""
    weight = params.weight
    check_row_shape("Conv1D", shape, ("T", weight.shape[1] * params.groups), ("weight", weight))
    return conv1d_axis(params, shape[0]).count, weight.shape[2]


register_layer(
    Conv1D, forward=conv1d_forward, backward=conv1d_backward, output_shape=conv1d_output_shape, name="funcnet.Conv1D"
)


@keyed
def conv1d(
    key: Key,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: StepPadding = "valid",
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
    init: Initializer = glorot_normal,
    bias_init: Initializer | None = None,
    dtype: FloatDType = np.float32,
) -> Conv1D:
    """Create a Conv1D layer with a random weight, and a bias that is zero or random, or no bias.

    Args:
        key: The key of the draw.
        in_channels: C.
        out_channels: O.
        kernel_size: K, the number of steps under the kernel.
        stride: The distance in steps between neighboring places of the kernel.
        padding: ``"valid"`` (no padding), ``"same"``, ``"causal"`` (all zeros before the sequence), an int, or a pair
            (before, after).
        dilation: The distance in steps between neighboring kernel elements.
        groups: The number of groups, which divides C and O. With ``groups=in_channels``, the layer is depthwise.
        bias: Whether the layer has a bias. The weight is the same with and without it.
        init: The initializer of the weight. The default is Glorot's normal; its fans include the kernel's size.
        bias_init: The initializer of the bias. It draws an array of the weight's shape from ``key.child("bias")``, and
            the first O numbers are the bias. None makes the bias 0.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If a number is not a positive int, groups does not divide C and O, an initializer is not a
            function, the padding or the dtype is invalid, or an initializer is given for a bias that the layer does
            not have.

    Example:
        >>> conv1d(Key(0), 8, 16, 3, padding="causal").weight.shape
        (3, 8, 16)
    """
    check_key("conv1d", key)
    channels = channels_of("conv1d", in_channels, out_channels, groups)
    shape = (check_count("conv1d", "kernel_size", kernel_size, high=MOST_PIXELS), *channels)
    check_initializer("conv1d", "init", init)
    kind = float_dtype(dtype)
    weight = init(key, shape, kind)  # before the bias: it refuses sizes that are too large
    drawn = first_bias("conv1d", key, shape, kind, bias_init, bias=bias)
    return Conv1D(weight, drawn, stride, padding, dilation, groups)
