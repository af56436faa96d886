"""Convolution and pooling compared with PyTorch in float64: output, ``grad_x`` and parameter gradients, to 1e-9."""

from __future__ import annotations

from typing import Any

import pytest
from networks import inputs

torch: Any = pytest.importorskip("torch", exc_type=ImportError)

from test_torch_layers import Row, Twin, check_row, parameter  # noqa: E402  # after the check for PyTorch
from test_torch_normalization import channels_first, channels_last  # noqa: E402

import funcnet as fn  # noqa: E402
from funcnet.layers.windows import Axes, Padding, Pair, axes_of, pair  # noqa: E402

KEY = fn.Key(35)
F = torch.nn.functional


def padded(axes: Axes, value: float = 0.0) -> Any:
    """A module that pads each side by its own number, which PyTorch's other modules cannot do."""
    rows, columns = axes
    return torch.nn.ConstantPad2d((columns.before, columns.after, rows.before, rows.after), value)


def conv_row(shape: tuple[int, int, int], kernel: Pair, outputs: int, settings: tuple[Pair, Padding, Pair]) -> Row:
    """A row with random weight and bias; PyTorch stores the weight as (O, C, KH, KW)."""
    stride, padding, dilation = settings
    weight = inputs(KEY.child("weight"), *pair(kernel), shape[2], outputs)
    layer = fn.Conv2D(weight, inputs(KEY.child("bias"), outputs), stride, padding, dilation)
    axes = axes_of("test", shape[:2], kernel, stride=stride, padding=padding, dilation=dilation)

    def twin(layer: fn.Conv2D) -> Twin:
        module = torch.nn.Conv2d(shape[2], outputs, kernel, stride, dilation=dilation, dtype=torch.float64)
        module.weight, module.bias = parameter(layer.weight.transpose(3, 2, 0, 1).copy()), parameter(layer.bias)
        whole = torch.nn.Sequential(padded(axes), module)
        return Twin(whole, lambda: [module.weight.grad.permute(2, 3, 1, 0), module.bias.grad])

    name = f"Conv2D of {shape}, kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}"
    return Row(name, layer, twin, shape, channels_first, channels_last)


def pool_row(layer: fn.MaxPool2D | fn.AvgPool2D, shape: tuple[int, int, int]) -> Row:
    """A row with padded pooling. PyTorch counts the padding, so its mean is divided by its mean of ones."""
    stride = layer.window if layer.stride is None else layer.stride
    axes = axes_of("test", shape[:2], layer.window, stride=stride, padding=layer.padding)

    def largest(x: Any) -> Any:
        return F.max_pool2d(padded(axes, -torch.inf)(x), layer.window, layer.stride)

    def average(x: Any) -> Any:
        sums = F.avg_pool2d(padded(axes)(x), layer.window, layer.stride)
        return sums / F.avg_pool2d(padded(axes)(torch.ones_like(x)), layer.window, layer.stride)

    module = largest if isinstance(layer, fn.MaxPool2D) else average
    return Row(f"{layer} of {shape}", layer, lambda _: Twin(module), shape, channels_first, channels_last)


SETTINGS: list[tuple[Pair, Padding, Pair]] = [
    (1, "valid", 1),
    (1, "same", 1),
    (2, "same", 1),
    (2, 1, 1),
    (3, (2, 0), 1),
    ((2, 1), ((0, 1), (2, 0)), 1),
    (1, "same", 2),
    ((1, 3), 2, (2, 1)),
    (2, "same", (1, 3)),
]
SIZES: list[tuple[tuple[int, int, int], Pair, int]] = [
    ((9, 9, 1), 3, 4),
    ((8, 11, 3), (3, 2), 2),
    ((11, 8, 6), (2, 4), 16),
    ((7, 10, 4), 1, 5),
    ((10, 7, 2), (5, 1), 1),
]
CONVOLUTIONS = [conv_row(*size, settings) for size in SIZES for settings in SETTINGS]
POOLS: list[tuple[Pair, Pair | None, Padding]] = [
    (2, None, "valid"),
    (3, 2, "valid"),
    (3, 2, "same"),
    (2, 1, "same"),
    ((3, 2), (1, 2), 1),
    (2, 3, ((1, 0), (0, 1))),
    ((4, 1), None, "same"),
]
POOLINGS = [
    pool_row(layer, shape)
    for settings in POOLS
    for shape in ((8, 8, 3), (9, 5, 1), (7, 10, 6))
    for layer in (fn.MaxPool2D(*settings), fn.AvgPool2D(*settings))
]


@pytest.mark.parametrize("row", CONVOLUTIONS, ids=lambda row: row.name)
def test_convolution_computes_what_pytorch_does(row: Row) -> None:
    """Output, ``grad_x`` and the gradients of weight and bias agree."""
    check_row(row)


@pytest.mark.parametrize("row", POOLINGS, ids=lambda row: row.name)
def test_pooling_computes_what_pytorch_does(row: Row) -> None:
    """Output and ``grad_x`` agree."""
    check_row(row)


def test_global_pooling_computes_what_pytorch_does() -> None:
    """The layer is PyTorch's AdaptiveAvgPool2d to one pixel, followed by Flatten."""
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    check_row(Row("GlobalAvgPool2D", fn.GlobalAvgPool2D(), lambda _: Twin(module), (5, 4, 3), channels_first))


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # PyTorch warns about a copy.
@pytest.mark.parametrize("kernel", [1, 2, 3, (4, 5)])
@pytest.mark.parametrize("dilation", [1, 2, (3, 1)])
def test_same_is_pytorchs_same_for_stride_1(kernel: Pair, dilation: Pair) -> None:
    """PyTorch has "same" only for stride 1. An even kernel has its extra zero at the bottom and on the right."""
    row = conv_row((9, 8, 2), kernel, 3, (1, "same", dilation))
    assert isinstance(row.layer, fn.Conv2D)
    weight = torch.tensor(row.layer.weight.transpose(3, 2, 0, 1).copy())
    x, bias = torch.tensor(channels_first_array(row.x())), torch.tensor(row.layer.bias)
    theirs = F.conv2d(x, weight, bias, padding="same", dilation=dilation)
    ours = torch.tensor(fn.forward(row.layer, row.x()))
    torch.testing.assert_close(channels_first(ours), theirs, rtol=1e-9, atol=1e-12)


def channels_first_array(x: fn.Array) -> fn.Array:
    """The images in PyTorch's layout."""
    return x.transpose(0, 3, 1, 2).copy()


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_of_equal_numbers_pytorchs_first_gets_the_gradient(window: int, stride: int) -> None:
    """The images have only three different numbers; therefore, ties are common in the windows."""
    x = (inputs(KEY.child("ties"), 2, 6, 6, 3) > 0).astype(float) + (inputs(KEY.child("more"), 2, 6, 6, 3) > 1)
    y, pull = fn.vjp(fn.MaxPool2D(window, stride), x)
    g = inputs(KEY.child("g"), *y.shape)
    given = torch.tensor(x, requires_grad=True)
    channels_last(F.max_pool2d(channels_first(given), window, stride)).backward(torch.tensor(g))
    torch.testing.assert_close(torch.tensor(pull(g)[0]), given.grad, rtol=1e-9, atol=1e-12)
