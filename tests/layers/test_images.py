"""Convolution and pooling: conventions, independent rows, products and memory, and invalid input.

``test_torch_layers.py`` compares their numbers with PyTorch's.
"""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from typing import Any, Literal

import numpy as np
import pytest
from networks import inputs

import funcnet as fn
from funcnet import arithmetic
from funcnet.core.trees import same_bits
from funcnet.layers import patches
from funcnet.layers.windows import Axes, Padding, axes_of

KEY = fn.Key(36)

# ------------------------------------------------------------------------------------------------ conventions


def test_a_kernel_is_not_flipped() -> None:
    """It is a cross-correlation: a kernel with a single 1 shifts the image opposite to the position of the 1."""
    weight = np.zeros((1, 3, 1, 1))
    weight[0, 0] = 1
    layer = fn.Conv2D(weight, np.zeros(1), padding="same")
    assert fn.forward(layer, np.arange(1.0, 6.0).reshape(1, 1, 5, 1)).ravel().tolist() == [0, 1, 2, 3, 4]


def test_a_convolution_of_one_pixel_is_dense() -> None:
    """Each pixel's channels are mapped independently, with the bits of Dense in portable arithmetic."""
    dense = fn.dense(KEY, 4, 3)
    layer = fn.Conv2D(dense.weight.reshape(1, 1, 4, 3), dense.bias)
    x = inputs(KEY, 2, 3, 5, 4, dtype=np.float32)
    with fn.portable():
        assert same_bits(fn.forward(layer, x), fn.forward(dense, x.reshape(-1, 4)).reshape(2, 3, 5, 3))


@pytest.mark.parametrize(
    ("length", "size", "stride", "dilation", "wanted"),
    [
        *((28, 5, 1, 1, (28, 2, 2)), (28, 5, 2, 1, (14, 1, 2)), (7, 3, 2, 1, (4, 1, 1)), (6, 3, 2, 1, (3, 0, 1))),
        *((5, 2, 1, 1, (5, 0, 1)), (4, 1, 2, 1, (2, 0, 0)), (5, 3, 1, 2, (5, 2, 2)), (3, 2, 4, 1, (1, 0, 0))),
        *((2, 5, 1, 1, (2, 2, 2)), (1, 3, 2, 1, (1, 1, 1))),
    ],
)
def test_same_is_tensorflows(length: int, size: int, stride: int, dilation: int, wanted: tuple[int, int, int]) -> None:
    """There are ceil(length / stride) windows. If the number of zeros is odd, the extra zero is at the end."""
    for axis in axes_of("test", (length, length), size, stride=stride, padding="same", dilation=dilation):
        assert (axis.count, axis.before, axis.after) == wanted
        starts = range(-axis.before, -axis.before + axis.count * stride, stride)
        assert axis.counts() == [sum(0 <= start + dilation * k < length for k in range(size)) for start in starts]


@pytest.mark.parametrize(
    ("padding", "top", "bottom", "left", "right"),
    [("valid", 0, 0, 0, 0), (2, 2, 2, 2, 2), ((1, 0), 1, 1, 0, 0), (((1, 2), (3, 0)), 1, 2, 3, 0)],
)
def test_padding_has_four_forms(padding: Padding, top: int, bottom: int, left: int, right: int) -> None:
    """The forms are no padding, one number, a pair (rows, columns), and a number for each side."""
    rows, columns = axes_of("test", (5, 6), 1, padding=padding)
    assert (rows.before, rows.after, columns.before, columns.after) == (top, bottom, left, right)
    assert (rows.count, columns.count) == (5 + top + bottom, 6 + left + right)


def test_padding_is_never_the_largest_and_never_counts() -> None:
    """The maximum of negative numbers is negative, and the mean of ones is 1, at the border, too."""
    for stride in (1, 2, 3):
        assert (fn.forward(fn.MaxPool2D(3, stride, "same"), np.full((1, 5, 5, 1), -3.0)) == -3).all()
        assert (fn.forward(fn.AvgPool2D(3, stride, 1), np.ones((1, 5, 5, 1))) == 1).all()


def test_of_equal_numbers_the_first_gets_the_gradient() -> None:
    """The first is meant in row order. A number that is first in two windows gets both gradients."""
    x = np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 1]]).reshape(1, 3, 3, 1)
    grad_x = fn.backward(fn.MaxPool2D(2, 1), x, np.array([[1.0, 10], [100, 1000]]).reshape(1, 2, 2, 1))[0]
    assert grad_x[0, :, :, 0].tolist() == [[0, 11, 0], [100, 0, 1000], [0, 0, 0]]


def test_count_padding_counts_the_padding_and_nothing_past_it() -> None:
    """The windows of five ones begin at -1, 1 and 3, and the last one extends past the padding by one pixel."""
    ones = np.ones((1, 5, 1, 1))
    for count_padding, wanted in (False, [1, 1, 1]), (True, [3 / 4, 1, 2 / 3]):
        layer = fn.AvgPool2D((4, 1), (2, 1), (1, 0), count_padding=count_padding, ceil_mode=True)
        assert fn.forward(layer, ones).ravel().tolist() == wanted


@pytest.mark.parametrize(
    ("length", "settings", "counts"),
    [
        *((6, (3, 2, 0, 1), (2, 3)), (7, (3, 2, 0, 1), (3, 3)), (5, (2, 3, 1, 1), (2, 2)), (4, (2, 3, 1, 1), (2, 2))),
        *((2, (3, 2, 0, 1), (0, 1)), (3, (2, 4, 1, 1), (1, 1)), (6, (2, 2, 1, 3), (3, 3)), (7, (2, 2, 1, 3), (3, 4))),
    ],
)
def test_a_last_window_must_begin_before_the_padding_at_the_end(
    length: int, settings: tuple[int, int, int, int], counts: tuple[int, int]
) -> None:
    """The numbers of windows are those of PyTorch, without and with ``ceil_mode``."""
    window, stride, padding, dilation = settings
    for ceil_mode, count in zip((False, True), counts, strict=True):
        layer = fn.MaxPool2D((window, 1), (stride, 1), (padding, 0), (dilation, 1), ceil_mode)
        x = np.ones((1, length, 1, 1))
        if count:
            assert fn.forward(layer, x).shape == (1, count, 1, 1)
            assert fn.output_shape(layer, (length, 1, 1)) == (count, 1, 1)
        else:
            with pytest.raises(fn.ShapeError, match="must have room"):
                fn.forward(layer, x)


def test_each_window_of_a_maximum_has_a_pixel() -> None:
    """Exactly the settings with a window of padding alone are refused, whose maximum would be minus infinity."""
    refused = 0
    for length, size, dilation, stride, ceil_mode in product((1, 2, 3, 4), (1, 2, 3), (1, 2, 5), (1, 2), (False, True)):
        for before, after in product(range((size - 1) * dilation + 1), repeat=2):
            layer = fn.MaxPool2D((size, 1), stride, ((before, after), (0, 0)), dilation, ceil_mode)
            settings: Any = {"stride": stride, "dilation": dilation, "ceil_mode": ceil_mode}
            try:
                axis = axes_of("test", (length, 1), (size, 1), padding=((before, after), (0, 0)), **settings)[0]
            except fn.ShapeError:
                continue
            if 0 in axis.counts():
                refused += 1
                with pytest.raises(fn.ShapeError, match="must have a pixel in each window"):
                    fn.output_shape(layer, (length, 1, 1))
            else:
                assert fn.output_shape(layer, (length, 1, 1)) == (axis.count, 1, 1)
    assert refused > 100


def test_a_global_maximum_is_the_maximum_of_one_window() -> None:
    """The bits are those of MaxPool2D with a window as large as the image, also where numbers are equal."""
    x = np.round(inputs(KEY, 3, 4, 5, 2))
    y, pull = fn.vjp(fn.GlobalMaxPool2D(), x)
    wanted, pull_wanted = fn.vjp(fn.MaxPool2D((4, 5)), x)
    assert same_bits(y, wanted[:, 0, 0])
    assert (pull(y)[0] == pull_wanted(wanted)[0]).all()


def test_an_int_stands_for_a_pair() -> None:
    """This holds for every setting, and for NumPy's ints: ``conv2d`` converts them to Python's."""
    x, weight, bias = inputs(KEY, 2, 7, 7, 2), inputs(KEY.child(1), 2, 2, 2, 3), np.zeros(3)
    one = fn.Conv2D(weight, bias, 2, 1, 2)
    assert same_bits(fn.forward(one, x), fn.forward(fn.Conv2D(weight, bias, (2, 2), (1, 1), (2, 2)), x))
    for kind in (fn.MaxPool2D, fn.AvgPool2D):
        assert same_bits(fn.forward(kind(2, None, 1), x), fn.forward(kind((2, 2), (2, 2), ((1, 1), (1, 1))), x))
    conv2d: Any = fn.conv2d
    pool: Any = fn.MaxPool2D
    i, ii, narrow = np.int64(1), np.int64(2), np.int8(100)
    made = conv2d(KEY, 2, 3, np.int64(3), stride=ii, padding=((i, i), (i, ii)), dilation=(i, ii))
    same = fn.conv2d(KEY, 2, 3, 3, stride=2, padding=((1, 1), (1, 2)), dilation=(1, 2))
    assert fn.fingerprint(made) == fn.fingerprint(same)
    assert fn.output_shape(pool(ii, i, i), (4, 4, 1)) == fn.output_shape(fn.MaxPool2D(2, 1, 1), (4, 4, 1))
    assert fn.output_shape(pool(narrow, narrow, narrow - np.int8(1)), (100, 100, 1)) == (2, 2, 1)


def test_the_maker_draws_for_the_kernels_window() -> None:
    """The initializer gets the shape (KH, KW, C, O), the bias is zero, and the settings are kept."""
    layer = fn.conv2d(KEY, 2, 4, (3, 5), stride=2, padding="same", dilation=(1, 2), dtype=np.float64)
    assert same_bits(layer.weight, fn.initializers.glorot_normal(KEY, (3, 5, 2, 4), np.dtype(np.float64)))
    assert layer.bias is not None
    assert not layer.bias.any()
    assert (layer.stride, layer.padding, layer.dilation) == (2, "same", (1, 2))
    constant = fn.conv2d(KEY, 1, 1, 2, init=fn.initializers.constant(0.5))
    assert constant.weight.ravel().tolist() == [0.5] * 4


# --------------------------------------------------------------------------------------------- rows and products


@pytest.mark.parametrize(
    ("shape", "kernel", "padding", "outputs"),
    [
        *(((28, 28, 1), 5, "same", 6), ((14, 14, 6), 5, "valid", 16), ((7, 7, 16), 3, "same", 32)),
        *(((5, 3, 8), 3, "valid", 10), ((5, 5, 16), 5, "valid", 120)),
    ],
)
def test_an_image_alone_is_the_image_in_any_batch(
    shape: tuple[int, int, int], kernel: int, padding: Padding, outputs: int
) -> None:
    """This holds in native arithmetic and without ``rowwise``, because each image has its own product."""
    layer = fn.conv2d(KEY, shape[2], outputs, kernel, padding=padding)
    x = inputs(KEY.child("x"), 13, *shape, dtype=np.float32)
    whole = fn.forward(layer, x)
    for rows in (slice(0, 1), slice(12, 13), slice(3, 8)):
        assert same_bits(fn.forward(layer, x[rows]), whole[rows])
        assert same_bits(fn.outputs(layer, x[rows], rowwise=True), whole[rows])
    assert same_bits(fn.outputs(layer, x[::-1], rowwise=True)[::-1].copy(), whole)


@pytest.mark.parametrize("arithmetic_of", [nullcontext, fn.portable], ids=["native", "portable"])
def test_how_many_patches_there_are_at_a_time_is_not_seen(arithmetic_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image at a time, as many as fit, and all at once give the same bits."""
    layer, x = fn.conv2d(KEY, 2, 4, 3, padding="same"), inputs(KEY, 7, 6, 5, 2, dtype=np.float32)
    image, groups, patches_of = 30 * 18, list[int](), patches.patches_of

    def counted(x: fn.Array, axes: Axes) -> fn.Array:
        groups.append(len(x))
        return patches_of(x, axes)

    monkeypatch.setattr(patches, "patches_of", counted)
    with arithmetic_of():
        whole = fn.vjp(layer, x)[0]
        for numbers, wanted in (1, [1] * 7), (3 * image - 1, [2, 2, 2, 1]), (3 * image, [3, 3, 1]), (9 * image, [7]):
            groups.clear()
            monkeypatch.setattr(patches, "PATCHES", numbers)
            assert same_bits(fn.forward(layer, x), whole)
            assert groups == wanted


def test_forward_makes_few_patches_at_a_time() -> None:
    """The traced peak is the output and 64 MB of patches; the patches of all images would take 157 MB."""
    layer, x = fn.conv2d(KEY, 1, 1, 5, padding="same"), np.ones((2000, 28, 28, 1), np.float32)
    tracemalloc.start()
    fn.forward(layer, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * (patches.PATCHES + 4 * x.size)


def test_a_plain_step_takes_six_products_of_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two products each for forward, kernels and inputs. A frozen first kernel has no products in the backward pass."""
    counts: Counter[str] = Counter()

    def counting(name: str) -> Callable[..., Any]:
        f = getattr(arithmetic, name)

        def count(*arguments: Any) -> Any:
            counts[name] += 1
            return f(*arguments)

        return count

    for name in ("matmul_parts", "sum_outer", "matmul_columns"):
        monkeypatch.setattr(patches, name, counting(name))
    first = fn.conv2d(KEY.child(0), 1, 6, 5, padding="same"), fn.ReLU(), fn.MaxPool2D(2)
    second = fn.conv2d(KEY.child(1), 6, 16, 5), fn.ReLU(), fn.AvgPool2D(2), fn.Flatten(), fn.dense(KEY, 400, 10)
    batch = fn.Batch(inputs(KEY, 6, 28, 28, 1, dtype=np.float32), np.arange(6))
    for net, back in ((*first, *second), 2), ((fn.Frozen(first), *second), 1):
        counts.clear()
        fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)(net, batch)
        assert counts == {"matmul_parts": 2, "sum_outer": back, "matmul_columns": back}


@pytest.mark.parametrize(
    ("shape", "dilation", "order"),
    [
        *(((9, 9, 1), 1, "F"), ((9, 9, 8), 1, "C"), ((5, 8, 2), 1, "C")),
        *(((5, 9, 2), 1, "F"), ((8, 7, 2), 2, "F"), ((8, 7, 3), 2, "C")),
    ],
)
def test_patches_have_the_memory_order_with_long_runs(
    shape: tuple[int, int, int], dilation: int, order: Literal["C", "F"]
) -> None:
    """A run is either the adjacent pixels and channels under the kernel, or the places in a row of the image."""
    rows = patches.patches_of(inputs(KEY, 2, *shape), axes_of("test", shape, 3, dilation=dilation))
    assert (rows.flags.c_contiguous, rows.flags.f_contiguous) == (order == "C", order == "F")


def test_an_image_is_the_patches_of_one_pixel() -> None:
    """The patches share the memory of the image if there is no padding and no pixel is skipped."""
    x = inputs(KEY, 2, 9, 9, 8)
    cases: list[tuple[dict[str, Any], bool]] = [({}, True), ({"padding": 1}, False), ({"stride": 2}, False)]
    for settings, shared in cases:
        assert np.shares_memory(patches.patches_of(x, axes_of("test", (9, 9), 1, **settings)), x) == shared


# ----------------------------------------------------------------------------------------------- invalid input

WEIGHT, BIAS, MOST = np.zeros((3, 3, 2, 4)), np.zeros(4), 2**20
COUNTS = "must be an int of at least 1 or a pair of them, got VALUE"
FORMS = (
    "must be 'same', 'valid', an int of at least 0, a pair (rows, columns) or ((top, bottom), (left, right)), got VALUE"
)
LARGEST, SMALLER = f"must be at most {MOST}, got VALUE", "must be smaller than the window, got VALUE"
FLAG = "must be True or False, got VALUE"
# fmt: off
BAD_SETTINGS: list[tuple[Callable[[Any], object], list[Any], str]] = [
    (lambda size: fn.Conv2D(WEIGHT[:size], BIAS), [0],
     "Conv2D: a size of weight must be an int of at least 1, got VALUE"),
    (lambda stride: fn.Conv2D(WEIGHT, BIAS, stride), [0, True, (1, True), 1.5, (1, 1, 1), [1, 1]],
     f"Conv2D: stride {COUNTS}"),
    (lambda stride: fn.Conv2D(WEIGHT, BIAS, stride), [(1, MOST + 1)], f"Conv2D: stride {LARGEST}"),
    (lambda dilation: fn.Conv2D(WEIGHT, BIAS, 1, 0, dilation), [(0, 1)], f"Conv2D: dilation {COUNTS}"),
    (lambda dilation: fn.Conv2D(WEIGHT, BIAS, 1, 0, dilation), [MOST + 1], f"Conv2D: dilation {LARGEST}"),
    (lambda padding: fn.Conv2D(WEIGHT, BIAS, 1, padding), ["SAME", -1, np.ones(2), (1, (1, 1))],
     f"Conv2D: padding {FORMS}"),
    (lambda padding: fn.Conv2D(WEIGHT, BIAS, 1, padding), [MOST + 1], f"Conv2D: padding {LARGEST}"),
    (lambda side: fn.Conv2D(WEIGHT, BIAS, 1, ((0, 0), side)), [(0, MOST + 1)], f"Conv2D: padding {LARGEST}"),
    (lambda padding: fn.AvgPool2D(2, None, padding), [(1, 1, 1), ((1, 1, 1), (1, 1)), ((1, 1), (-1, 1))],
     f"AvgPool2D: padding {FORMS}"),
    (fn.MaxPool2D, [0], f"MaxPool2D: window {COUNTS}"),
    (fn.MaxPool2D, [(1, 2**70)], f"MaxPool2D: window {LARGEST}"),
    (lambda stride: fn.MaxPool2D(2, stride), [(1, 0)], f"MaxPool2D: stride {COUNTS}"),
    (lambda padding: fn.MaxPool2D((3, 2), None, padding), [2], f"MaxPool2D: padding {SMALLER}"),
    (lambda padding: fn.AvgPool2D(2, None, padding), [((0, 2), (0, 0))], f"AvgPool2D: padding {SMALLER}"),
    (lambda padding: fn.MaxPool2D(2, None, padding, 3), [4, (0, 4)], f"MaxPool2D: padding {SMALLER}"),
    (lambda dilation: fn.MaxPool2D(2, None, 0, dilation), [0, (1, True)], f"MaxPool2D: dilation {COUNTS}"),
    (lambda ceil_mode: fn.MaxPool2D(2, ceil_mode=ceil_mode), [1, None], f"MaxPool2D: ceil_mode {FLAG}"),
    (lambda ceil_mode: fn.AvgPool2D(2, ceil_mode=ceil_mode), ["yes"], f"AvgPool2D: ceil_mode {FLAG}"),
    (lambda count_padding: fn.AvgPool2D(2, count_padding=count_padding), [0], f"AvgPool2D: count_padding {FLAG}"),
    (lambda count: fn.conv2d(KEY, count, 4, 3), [0], "conv2d: in_channels must be an int of at least 1, got VALUE"),
    (lambda count: fn.conv2d(KEY, 1, count, 3), [-1], "conv2d: out_channels must be an int of at least 1, got VALUE"),
    (lambda size: fn.conv2d(KEY, 1, 1, size), [(3, 0)], f"conv2d: kernel_size {COUNTS}"),
    (lambda key: fn.conv2d(key, 1, 1, 3), [0], "conv2d: key must be a Key, got 0; use Key(0)"),
    (lambda init: fn.conv2d(KEY, 1, 1, 3, init=init), ["zeros"],
     "conv2d: init must be a function, got VALUE; use an initializer such as fn.initializers.he_normal"),
    (lambda dtype: fn.conv2d(KEY, 1, 1, 3, dtype=dtype), [np.float16],
     "dtype must be np.float32 or np.float64, got VALUE"),
]
"""For each setting, invalid values and the message."""
OF_WEIGHT = "to match weight (3, 3, 2, 4), got"
OF_IMAGES = f"Conv2D: x must have shape (B, H, W, 2) {OF_WEIGHT}"
ROOM, FIX = "x must have room for a window that spans", "; use a smaller window, or padding='same'"
PIXEL, LESS = "x must have a pixel in each window", "use a smaller dilation or less padding"
GRAY = "; for images of one channel, use x[..., None]; for sequences, put Reshape((1, 28, 28)) before the layer"
IDS_FIRST = "; for ids, put an Embedding first"
ONE, FLOATS = "; for a batch of one, use x[None]", "x must be float32 or float64, got"
CONV = fn.Conv2D(WEIGHT, BIAS)
BAD_SHAPES: list[tuple[Callable[[fn.Array], object], tuple[int, ...], str]] = [
    (lambda weight: fn.Conv2D(weight, BIAS), (2, 4), "Conv2D: weight must have shape (KH, KW, C, O), got (2, 4)"),
    (lambda bias: fn.Conv2D(WEIGHT, bias), (2,), f"Conv2D: bias must have shape (4,) {OF_WEIGHT} (2,)"),
    (lambda bias: fn.Conv2D(WEIGHT, bias), (4, 1), f"Conv2D: bias must have shape (4,) {OF_WEIGHT} (4, 1)"),
]
BAD_IMAGES: list[tuple[fn.Layer, tuple[int, ...], str]] = [
    (CONV, (1, 5, 5, 3), f"Conv2D: x must have shape (B, H, W, 2) {OF_WEIGHT} (1, 5, 5, 3)"),
    (CONV, (5, 5, 2), f"Conv2D: x must have shape (B, H, W, 2) {OF_WEIGHT} (5, 5, 2){ONE}"),
    (CONV, (1, 2, 5, 5), f"{OF_IMAGES} (1, 2, 5, 5); for channels first, use np.moveaxis(x, 1, -1)"),
    (CONV, (4, 50), f"{OF_IMAGES} (4, 50); for flat images, put Reshape((H, W, 2)) before the layer"),
    (fn.MaxPool2D(2), (8, 28, 28), f"MaxPool2D: x must have shape (B, H, W, C), got (8, 28, 28){GRAY}"),
    (fn.MaxPool2D(2), (5, 4, 3), f"MaxPool2D: x must have shape (B, H, W, C), got (5, 4, 3){ONE}"),
    (fn.AvgPool2D(2), (5, 4, 3), f"AvgPool2D: x must have shape (B, H, W, C), got (5, 4, 3){ONE}"),
    (fn.GlobalAvgPool2D(), (5, 4, 3), f"GlobalAvgPool2D: x must have shape (B, H, W, C), got (5, 4, 3){ONE}"),
    (fn.GlobalAvgPool2D(), (4, 5), "GlobalAvgPool2D: x must have shape (B, H, W, C), got (4, 5)"),
    (fn.Conv2D(WEIGHT, BIAS, dilation=2), (1, 4, 6, 2), f"Conv2D: {ROOM} 5, got H = 4{FIX}"),
    (fn.MaxPool2D(4, 1, 1), (1, 4, 1, 2), f"MaxPool2D: {ROOM} 4, got W = 1 and 2 of padding{FIX}"),
    (fn.AvgPool2D(2, 1, "same"), (1, 0, 3, 2), "AvgPool2D: x must not be empty, got H = 0"),
    (fn.GlobalAvgPool2D(), (1, 0, 3, 2), "GlobalAvgPool2D: x must have at least one pixel, got H, W = 0, 3"),
    (fn.GlobalAvgPool2D(), (1, 3, 0, 2), "GlobalAvgPool2D: x must have at least one pixel, got H, W = 3, 0"),
    (fn.GlobalMaxPool2D(), (1, 3, 0, 2), "GlobalMaxPool2D: x must have at least one pixel, got H, W = 3, 0"),
    (fn.MaxPool2D((1, 2), 1, (0, 1), 5), (1, 3, 4, 2),
     f"MaxPool2D: {PIXEL}, got W = 4, dilation 5 and 1 of padding before; {LESS}"),
]
"""A layer, the shape of a batch that it refuses, and the message."""
BAD_DTYPES: list[tuple[fn.Layer, Any, str]] = [
    (CONV, np.float32, "Conv2D: x must be float64 to match weight, got float32; use x.astype(np.float64)"),
    (fn.MaxPool2D(2), np.uint8, f"MaxPool2D: {FLOATS} uint8; for images divide by 255: x.astype(np.float32) / 255"),
    (fn.AvgPool2D(2), np.int64, f"AvgPool2D: {FLOATS} int64; use x.astype(np.float32){IDS_FIRST}"),
    (fn.GlobalAvgPool2D(), np.int64, f"GlobalAvgPool2D: {FLOATS} int64; use x.astype(np.float32){IDS_FIRST}"),
]
# fmt: on


def check_refused(call: Callable[[Any], object], value: object, error: type[fn.FuncnetError], message: str) -> None:
    """Check that a call raises exactly this error."""
    with pytest.raises(error) as caught:
        call(value)
    assert str(caught.value) == message.replace("VALUE", repr(value))


@pytest.mark.parametrize(("make", "values", "message"), BAD_SETTINGS, ids=[text[:40] for *_, text in BAD_SETTINGS])
def test_bad_settings_are_refused(make: Callable[[Any], object], values: list[Any], message: str) -> None:
    """The whole message is compared: subject, requirement and given value."""
    for value in values:
        check_refused(make, value, fn.ConfigError, message)


@pytest.mark.parametrize(("make", "shape", "message"), BAD_SHAPES)
def test_weight_and_bias_fit_each_other(make: Callable[[Any], object], shape: tuple[int, ...], message: str) -> None:
    """The weight must have four axes, and the bias one number per output."""
    check_refused(make, np.zeros(shape), fn.ShapeError, message)


def test_settings_at_their_limits_are_taken() -> None:
    """The largest numbers are accepted, and padding of one less than the window, for rows and columns separately."""
    for setting in (MOST, (1, MOST), (MOST, 1)):
        fn.Conv2D(WEIGHT, BIAS, setting, setting, setting)
        fn.MaxPool2D(setting, setting, "same")
    fn.Conv2D(WEIGHT, BIAS, padding=((MOST, 0), (0, MOST)))
    for padding in ((2, 1), ((2, 0), (1, 1))):
        assert fn.output_shape(fn.AvgPool2D((3, 2), None, padding), (3, 3, 1))[2] == 1


@pytest.mark.parametrize(("layer", "shape", "message"), BAD_IMAGES)
def test_bad_images_are_refused(layer: fn.Layer, shape: tuple[int, ...], message: str) -> None:
    """``output_shape`` raises the message that ``forward`` raises for a batch; it takes no size of 0 at all."""
    check_refused(lambda x: fn.forward(layer, x), np.zeros(shape), fn.ShapeError, message)
    if 0 not in shape:
        of_row = message.replace(f"got ({shape[0]},", "got (B,")
        check_refused(lambda row: fn.output_shape(layer, row), shape[1:], fn.ShapeError, of_row)


@pytest.mark.parametrize(("layer", "dtype", "message"), BAD_DTYPES)
def test_images_of_another_dtype_are_refused(layer: fn.Layer, dtype: Any, message: str) -> None:
    """Parameters decide on the dtype; a layer without them takes any floats."""
    check_refused(lambda x: fn.forward(layer, x), np.zeros((1, 5, 5, 2), dtype), fn.DTypeError, message)


def test_grey_images_need_an_axis_of_channels() -> None:
    """The message has the fix for images of one channel."""
    wanted = "Conv2D: x must have shape (B, H, W, 1) to match weight (3, 3, 1, 4), got (8, 5, 5)"
    layer = fn.Conv2D(WEIGHT[:, :, :1], BIAS)
    fix = "; for images of one channel, use x[..., None]"
    check_refused(lambda x: fn.forward(layer, x), np.zeros((8, 5, 5)), fn.ShapeError, wanted + fix)
