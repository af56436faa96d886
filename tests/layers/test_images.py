"""Convolution and pooling: loops over pixels as a reference, conventions, independent rows, and invalid input."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, Literal, TypeAlias

import numpy as np
import pytest
from networks import CASES, Case, inputs, pool
from surroundings import SEARCHED

import funcnet as fn
from funcnet import arithmetic
from funcnet.core.trees import same_bits
from funcnet.layers import conv
from funcnet.layers.windows import Axes, Padding, Pair, axes_of, pair

KEY = fn.Key(36)

# ------------------------------------------------------------------------------------------- loops over pixels


NOWHERE = -1
Places: TypeAlias = list[list[int]]


def places(length: int, size: int, stride: int, dilation: int, padding: str | tuple[int, int]) -> Places:
    """The pixels of each window along an axis; NOWHERE marks padding."""
    reach = (size - 1) * dilation + 1
    if padding == "same":
        count = (length + stride - 1) // stride
        total = max((count - 1) * stride + reach - length, 0)
        before, after = total // 2, total - total // 2
    else:
        before, after = (0, 0) if isinstance(padding, str) else padding
    starts = range(-before, length + after - reach + 1, stride)
    indices = [[start + dilation * step for step in range(size)] for start in starts]
    return [[index if 0 <= index < length else NOWHERE for index in window] for window in indices]


def sides_of(padding: Padding) -> tuple[str | tuple[int, int], str | tuple[int, int]]:
    """The padding of rows and of columns, in the form that ``places`` takes."""
    if isinstance(padding, str):
        return padding, padding
    rows, columns = padding if isinstance(padding, tuple) else (padding, padding)
    return pair(rows), pair(columns)


def all_places(shape: tuple[int, ...], size: Pair, stride: Pair, padding: Padding, dilation: Pair) -> list[Places]:
    """The pixels of each window along the rows and along the columns."""
    sides = sides_of(padding)
    settings = zip(shape[1:3], pair(size), pair(stride), pair(dilation), sides, strict=True)
    return [places(length, one_size, step, apart, side) for length, one_size, step, apart, side in settings]


def slow_convolution(layer: fn.Conv2D, x: fn.Array, g: fn.Array | None) -> tuple[fn.Array, fn.Array, fn.Conv2D]:
    """Output, ``grad_x`` and gradient, computed by loops over pixels, kernel positions and channels."""
    kernel = layer.weight.shape[0], layer.weight.shape[1]
    rows, columns = all_places(x.shape, kernel, layer.stride, layer.padding, layer.dilation)
    y = np.zeros((len(x), len(rows), len(columns), layer.bias.size)) + layer.bias
    g = np.zeros_like(y) if g is None else g
    grad_x, grad_weight = np.zeros_like(x), np.zeros_like(layer.weight)
    for b, (i, vertical), (j, horizontal) in product(range(len(x)), enumerate(rows), enumerate(columns)):
        for (p, row), (q, column) in product(enumerate(vertical), enumerate(horizontal)):
            if NOWHERE not in (row, column):
                for c, o in np.ndindex(layer.weight.shape[2:]):
                    y[b, i, j, o] += x[b, row, column, c] * layer.weight[p, q, c, o]
                    grad_x[b, row, column, c] += g[b, i, j, o] * layer.weight[p, q, c, o]
                    grad_weight[p, q, c, o] += g[b, i, j, o] * x[b, row, column, c]
    return y, grad_x, fn.Conv2D(grad_weight, g.sum(axis=(0, 1, 2)))


def slow_pooling(
    layer: fn.MaxPool2D | fn.AvgPool2D, x: fn.Array, g: fn.Array | None
) -> tuple[fn.Array, fn.Array, fn.Layer]:
    """Output and ``grad_x``, computed window by window. The first of equal numbers gets the gradient."""
    stride = layer.window if layer.stride is None else layer.stride
    rows, columns = all_places(x.shape, layer.window, stride, layer.padding, 1)
    y, grad_x = np.zeros((len(x), len(rows), len(columns), x.shape[3])), np.zeros_like(x)
    g = np.zeros_like(y) if g is None else g
    for b, (i, vertical), (j, horizontal), c in product(
        range(len(x)), enumerate(rows), enumerate(columns), range(x.shape[3])
    ):
        met = [(row, column) for row, column in product(vertical, horizontal) if NOWHERE not in (row, column)]
        numbers = [float(x[b, row, column, c]) for row, column in met]
        largest = numbers.index(max(numbers))
        y[b, i, j, c] = numbers[largest] if isinstance(layer, fn.MaxPool2D) else sum(numbers) / len(numbers)
        for position, (row, column) in enumerate(met):
            share = float(position == largest) if isinstance(layer, fn.MaxPool2D) else 1 / len(numbers)
            grad_x[b, row, column, c] += share * g[b, i, j, c]
    return y, grad_x, layer


IMAGE_CASES = [
    *(case for case in CASES if case.name.startswith(("Conv2D", "MaxPool2D", "AvgPool2D"))),
    *(pool(layer, (7, 3, 2), 3, 1, 1) for layer in (fn.MaxPool2D, fn.AvgPool2D)),
]


@pytest.mark.parametrize("case", IMAGE_CASES, ids=lambda case: case.name)
def test_loops_over_pixels_compute_the_same(case: Case) -> None:
    """Output, ``grad_x`` and parameter gradients agree to 1e-12."""
    layer, x = case.layer(), case.x(2)
    slow: Callable[..., Any] = slow_convolution if isinstance(layer, fn.Conv2D) else slow_pooling
    y, pull = fn.vjp(layer, x)
    g = inputs(KEY.child("g"), *y.shape)
    grad_x, grads = pull(g)
    wanted_y, wanted_x, wanted = slow(layer, x, g)
    np.testing.assert_allclose(y, wanted_y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(grad_x, wanted_x, rtol=1e-12, atol=1e-12)
    if isinstance(grads, fn.Conv2D):
        np.testing.assert_allclose(grads.weight, wanted.weight, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(grads.bias, wanted.bias, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------------------------------------ conventions


def test_a_kernel_is_not_flipped() -> None:
    """It is a cross-correlation: a kernel with a single 1 shifts the image opposite to the position of the 1."""
    weight = np.zeros((1, 3, 1, 1))
    weight[0, 0] = 1
    x = np.arange(1.0, 6.0).reshape(1, 1, 5, 1)
    layer = fn.Conv2D(weight, np.zeros(1), padding="same")
    assert fn.forward(layer, x).ravel().tolist() == [0, 1, 2, 3, 4]


def test_a_convolution_of_one_pixel_is_dense() -> None:
    """Each pixel's channels are mapped independently, with the bits of Dense in portable arithmetic."""
    dense = fn.dense(KEY, 4, 3)
    layer = fn.Conv2D(dense.weight.reshape(1, 1, 4, 3), dense.bias)
    x = inputs(KEY, 2, 3, 5, 4, dtype=np.float32)
    with fn.portable():
        pixels = fn.forward(dense, x.reshape(-1, 4))
        assert same_bits(fn.forward(layer, x), pixels.reshape(2, 3, 5, 3))


SAME = {
    (28, 5, 1, 1): (28, 2, 2),
    (28, 5, 2, 1): (14, 1, 2),
    (7, 3, 2, 1): (4, 1, 1),
    (6, 3, 2, 1): (3, 0, 1),
    (5, 2, 1, 1): (5, 0, 1),
    (4, 1, 2, 1): (2, 0, 0),
    (5, 3, 1, 2): (5, 2, 2),
    (3, 2, 4, 1): (1, 0, 0),
    (2, 5, 1, 1): (2, 2, 2),
    (1, 3, 2, 1): (1, 1, 1),
}


@pytest.mark.parametrize("settings", SAME)
def test_same_is_tensorflows(settings: tuple[int, int, int, int]) -> None:
    """There are ceil(length / stride) windows. If the number of zeros is odd, the extra zero is at the end."""
    length, size, stride, dilation = settings
    for axis in axes_of("test", (length, length), size, stride=stride, padding="same", dilation=dilation):
        assert (axis.count, axis.before, axis.after) == SAME[settings]
        met = places(length, size, stride, dilation, "same")
        assert axis.own() == [len(window) - window.count(NOWHERE) for window in met]


@pytest.mark.parametrize(
    ("padding", "added"),
    [
        ("valid", (0, 0, 0, 0)),
        (2, (2, 2, 2, 2)),
        ((1, 0), (1, 1, 0, 0)),
        (((1, 2), (3, 0)), (1, 2, 3, 0)),
    ],
)
def test_padding_has_four_forms(padding: Padding, added: tuple[int, int, int, int]) -> None:
    """The forms are no padding, one number, a pair (rows, columns), and a number for each side."""
    rows, columns = axes_of("test", (5, 6), 1, padding=padding)
    assert (rows.before, rows.after, columns.before, columns.after) == added
    assert (rows.count, columns.count) == (5 + added[0] + added[1], 6 + added[2] + added[3])


def test_padding_is_never_the_largest_and_never_counts() -> None:
    """The maximum of negative numbers is negative, and the mean of ones is 1, at the border, too."""
    for stride in (1, 2, 3):
        assert (fn.forward(fn.MaxPool2D(3, stride, "same"), np.full((1, 5, 5, 1), -3.0)) == -3).all()
        assert (fn.forward(fn.AvgPool2D(3, stride, 1), np.ones((1, 5, 5, 1))) == 1).all()


def test_of_equal_numbers_the_first_gets_the_gradient() -> None:
    """The first is meant in row order. A number that is first in two windows gets both gradients."""
    x = np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 1]]).reshape(1, 3, 3, 1)
    g = np.array([[1.0, 10], [100, 1000]]).reshape(1, 2, 2, 1)
    grad_x = fn.backward(fn.MaxPool2D(2, 1), x, g)[0]
    assert grad_x[0, :, :, 0].tolist() == [[0, 11, 0], [100, 0, 1000], [0, 0, 0]]


def test_an_int_stands_for_a_pair() -> None:
    """This holds for every setting."""
    x, weight, bias = inputs(KEY, 2, 7, 7, 2), inputs(KEY.child(1), 2, 2, 2, 3), np.zeros(3)
    one = fn.Conv2D(weight, bias, 2, 1, 2)
    assert same_bits(fn.forward(one, x), fn.forward(fn.Conv2D(weight, bias, (2, 2), (1, 1), (2, 2)), x))
    for kind in (fn.MaxPool2D, fn.AvgPool2D):
        assert same_bits(fn.forward(kind(2, None, 1), x), fn.forward(kind((2, 2), (2, 2), ((1, 1), (1, 1))), x))


def test_numpys_ints_are_ints() -> None:
    """Records take them, and ``conv2d`` converts them: its layer has the same fingerprint as with Python ints."""
    one, two, narrow = np.int64(1), np.int64(2), np.int8(100)
    made: Any = fn.conv2d(KEY, 2, 3, np.int64(3), stride=two, padding=((one, one), (one, two)), dilation=(one, two))  # type: ignore[arg-type]
    same = fn.conv2d(KEY, 2, 3, 3, stride=2, padding=((1, 1), (1, 2)), dilation=(1, 2))
    assert fn.fingerprint(made) == fn.fingerprint(same)
    pool: Any = fn.MaxPool2D
    assert fn.output_shape(pool(two, one, one), (4, 4, 1)) == fn.output_shape(fn.MaxPool2D(2, 1, 1), (4, 4, 1))
    assert fn.output_shape(pool(narrow, narrow, narrow - np.int8(1)), (100, 100, 1)) == (2, 2, 1)


def test_the_maker_draws_for_the_kernels_window() -> None:
    """The initializer gets the shape (KH, KW, C, O), the bias is zero, and the settings are kept."""
    layer = fn.conv2d(KEY, 2, 4, (3, 5), stride=2, padding="same", dilation=(1, 2), dtype=np.float64)
    assert same_bits(layer.weight, fn.initializers.glorot_normal(KEY, (3, 5, 2, 4), np.dtype(np.float64)))
    assert not layer.bias.any()
    assert (layer.stride, layer.padding, layer.dilation) == (2, "same", (1, 2))
    constant = fn.conv2d(KEY, 1, 1, 2, init=fn.initializers.constant(0.5))
    assert constant.weight.ravel().tolist() == [0.5] * 4


# --------------------------------------------------------------------------------------------- rows and products

SIZES: list[tuple[tuple[int, int, int], int, Padding, int]] = [
    ((28, 28, 1), 5, "same", 6),
    ((14, 14, 6), 5, "valid", 16),
    ((7, 7, 16), 3, "same", 32),
    ((5, 3, 8), 3, "valid", 10),
    ((5, 5, 16), 5, "valid", 120),
]


@pytest.mark.parametrize(("shape", "kernel", "padding", "outputs"), SIZES)
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


@pytest.mark.parametrize("portable", [False, True])
def test_how_many_patches_there_are_at_a_time_is_not_seen(monkeypatch: pytest.MonkeyPatch, *, portable: bool) -> None:
    """One image at a time, as many as fit, and all at once give the same bits."""
    layer, x = fn.conv2d(KEY, 2, 4, 3, padding="same"), inputs(KEY, 7, 6, 5, 2, dtype=np.float32)
    image, groups = 30 * 18, list[int]()

    def counted(x: fn.Array, axes: Axes) -> fn.Array:
        groups.append(len(x))
        return patches_of(x, axes)

    patches_of = conv.patches_of
    monkeypatch.setattr(conv, "patches_of", counted)
    with fn.portable() if portable else np.errstate():
        whole = fn.vjp(layer, x)[0]
        for numbers, wanted in (
            (1, [1] * 7),
            (3 * image - 1, [2, 2, 2, 1]),
            (3 * image, [3, 3, 1]),
            (9 * image, [7]),
        ):
            groups.clear()
            monkeypatch.setattr(conv, "PATCHES", numbers)
            assert same_bits(fn.forward(layer, x), whole)
            assert groups == wanted


def test_forward_makes_few_patches_at_a_time() -> None:
    """The traced peak is the output and 64 MB of patches; the patches of all images would take 157 MB."""
    layer, x = fn.conv2d(KEY, 1, 1, 5, padding="same"), np.ones((2000, 28, 28, 1), np.float32)
    tracemalloc.start()
    fn.forward(layer, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * (conv.PATCHES + 4 * x.size)


def a_row_differs() -> bool:
    """Whether one product for all images gives a row different bits than one product per image."""
    found = False
    for count, size, outputs in ((49, 144, 32), (100, 150, 16), (15, 72, 10), (9, 30, 7)):
        a, b = inputs(KEY, 8 * count, size, dtype=np.float32), inputs(KEY, size, outputs, dtype=np.float32)
        found |= not same_bits(arithmetic.matmul(a, b), arithmetic.matmul_parts(a, b, count))
    return found


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the kernel is one for x86-64")
def test_in_one_product_for_all_images_some_row_differs() -> None:
    """The test above can fail: the position of a row in a product changes its bits, at least with the oldest kernel."""
    program = "import sys; sys.path[:0] = sys.argv[1].splitlines(); import test_images as t; print(t.a_row_differs())"
    command = [sys.executable, "-W", "ignore", "-c", program, SEARCHED]
    environment = os.environ | {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_a_lenets_rows_do_not_depend_on_rows() -> None:
    """Rowwise, in native and portable arithmetic, through convolution, pooling and dense layers."""
    x = inputs(KEY.child("x"), 19, 28, 28, 1, dtype=np.float32)
    net = lenet()
    for portable in (False, True):
        with fn.portable() if portable else np.errstate():
            whole = fn.outputs(net, x, rowwise=True)
            parts = [fn.outputs(net, x[start : start + 3], rowwise=True) for start in range(0, 19, 3)]
            assert same_bits(np.concatenate(parts), whole)


def lenet() -> tuple[fn.Layer, ...]:
    """A network of two convolutions, two pooling layers and one dense layer."""
    return (
        *(fn.conv2d(KEY.child(0), 1, 6, 5, padding="same"), fn.ReLU(), fn.MaxPool2D(2)),
        *(fn.conv2d(KEY.child(1), 6, 16, 5), fn.ReLU(), fn.AvgPool2D(2), fn.Flatten()),
        fn.dense(KEY.child(2), 400, 10),
    )


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
        monkeypatch.setattr(conv, name, counting(name))
    x, y = inputs(KEY, 6, 28, 28, 1, dtype=np.float32), np.arange(6)
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
    net = lenet()
    for each, back in ((net, 2), ((fn.Frozen(net[:3]), *net[3:]), 1)):
        counts.clear()
        step(each, fn.Batch(x, y))
        assert counts == {"matmul_parts": 2, "sum_outer": back, "matmul_columns": back}


@pytest.mark.parametrize(
    ("shape", "dilation", "order"),
    [
        ((9, 9, 1), 1, "F"),
        ((9, 9, 8), 1, "C"),
        ((5, 8, 2), 1, "C"),
        ((5, 9, 2), 1, "F"),
        ((8, 7, 2), 2, "F"),
        ((8, 7, 3), 2, "C"),
    ],
)
def test_patches_have_the_memory_order_with_long_runs(
    shape: tuple[int, int, int], dilation: int, order: Literal["C", "F"]
) -> None:
    """A run is either the adjacent pixels and channels under the kernel, or the places in a row of the image."""
    patches = conv.patches_of(inputs(KEY, 2, *shape), axes_of("test", shape, 3, dilation=dilation))
    assert (patches.flags.c_contiguous, patches.flags.f_contiguous) == (order == "C", order == "F")


def test_an_image_is_the_patches_of_one_pixel() -> None:
    """The patches share the memory of the image if there is no padding and no pixel is skipped."""
    x = inputs(KEY, 2, 9, 9, 8)
    assert np.shares_memory(conv.patches_of(x, axes_of("test", (9, 9), 1)), x)
    assert not np.shares_memory(conv.patches_of(x, axes_of("test", (9, 9), 1, padding=1)), x)
    assert not np.shares_memory(conv.patches_of(x, axes_of("test", (9, 9), 1, stride=2)), x)


# ----------------------------------------------------------------------------------------------- invalid input

WEIGHT, BIAS = np.zeros((3, 3, 2, 4)), np.zeros(4)
COUNTS = "must be an int of at least 1 or a pair of them, got"
FORMS = "must be 'same', 'valid', an int of at least 0, a pair (rows, columns) or ((top, bottom), (left, right)), got"
MOST = 2**20
BAD_SETTINGS: dict[str, tuple[Callable[..., object], tuple[Any, ...], str]] = {
    "no kernel": (fn.Conv2D, (WEIGHT[:0], BIAS), "Conv2D: a size of weight must be an int of at least 1, got 0"),
    "stride 0": (fn.Conv2D, (WEIGHT, BIAS, 0), f"Conv2D: stride {COUNTS} 0"),
    "stride True": (fn.Conv2D, (WEIGHT, BIAS, True), f"Conv2D: stride {COUNTS} True"),
    "stride (1, True)": (fn.Conv2D, (WEIGHT, BIAS, (1, True)), f"Conv2D: stride {COUNTS} (1, True)"),
    "stride 1.5": (fn.Conv2D, (WEIGHT, BIAS, 1.5), f"Conv2D: stride {COUNTS} 1.5"),
    "stride of three": (fn.Conv2D, (WEIGHT, BIAS, (1, 1, 1)), f"Conv2D: stride {COUNTS} (1, 1, 1)"),
    "stride of a list": (fn.Conv2D, (WEIGHT, BIAS, [1, 1]), f"Conv2D: stride {COUNTS} [1, 1]"),
    "a large stride": (
        fn.Conv2D,
        (WEIGHT, BIAS, (1, MOST + 1)),
        "Conv2D: stride must be at most 1048576, got (1, 1048577)",
    ),
    "dilation 0": (fn.Conv2D, (WEIGHT, BIAS, 1, 0, (0, 1)), f"Conv2D: dilation {COUNTS} (0, 1)"),
    "a large dilation": (
        fn.Conv2D,
        (WEIGHT, BIAS, 1, 0, MOST + 1),
        "Conv2D: dilation must be at most 1048576, got 1048577",
    ),
    "padding SAME": (fn.Conv2D, (WEIGHT, BIAS, 1, "SAME"), f"Conv2D: padding {FORMS} 'SAME'"),
    "padding -1": (fn.Conv2D, (WEIGHT, BIAS, 1, -1), f"Conv2D: padding {FORMS} -1"),
    "padding of an array": (fn.Conv2D, (WEIGHT, BIAS, 1, np.ones(2)), f"Conv2D: padding {FORMS} array([1., 1.])"),
    "padding half": (fn.Conv2D, (WEIGHT, BIAS, 1, (1, (1, 1))), f"Conv2D: padding {FORMS} (1, (1, 1))"),
    "padding of three": (fn.AvgPool2D, (2, None, (1, 1, 1)), f"AvgPool2D: padding {FORMS} (1, 1, 1)"),
    "three sides": (fn.AvgPool2D, (2, None, ((1, 1, 1), (1, 1))), f"AvgPool2D: padding {FORMS} ((1, 1, 1), (1, 1))"),
    "a side of -1": (fn.AvgPool2D, (2, None, ((1, 1), (-1, 1))), f"AvgPool2D: padding {FORMS} ((1, 1), (-1, 1))"),
    "a large padding": (fn.Conv2D, (WEIGHT, BIAS, 1, MOST + 1), "Conv2D: padding must be at most 1048576, got 1048577"),
    "a large side": (
        fn.Conv2D,
        (WEIGHT, BIAS, 1, ((0, 0), (0, MOST + 1))),
        "Conv2D: padding must be at most 1048576, got (0, 1048577)",
    ),
    "window 0": (fn.MaxPool2D, (0,), f"MaxPool2D: window {COUNTS} 0"),
    "pooling's stride": (fn.MaxPool2D, (2, (1, 0)), f"MaxPool2D: stride {COUNTS} (1, 0)"),
    "a window of padding": (
        fn.MaxPool2D,
        ((3, 2), None, 2),
        "MaxPool2D: padding must be smaller than the window, got 2",
    ),
    "one side": (
        fn.AvgPool2D,
        (2, None, ((0, 2), (0, 0))),
        "AvgPool2D: padding must be smaller than the window, got ((0, 2), (0, 0))",
    ),
    "no channels": (fn.conv2d, (KEY, 0, 4, 3), "conv2d: in_channels must be an int of at least 1, got 0"),
    "no outputs": (fn.conv2d, (KEY, 1, -1, 3), "conv2d: out_channels must be an int of at least 1, got -1"),
    "no kernel_size": (fn.conv2d, (KEY, 1, 1, (3, 0)), f"conv2d: kernel_size {COUNTS} (3, 0)"),
    "no key": (fn.conv2d, (0, 1, 1, 3), "conv2d: key must be a Key, got 0; use Key(0)"),
    "no initializer": (
        partial(fn.conv2d, init="zeros"),  # type: ignore[arg-type]  # an invalid value
        (KEY, 1, 1, 3),
        "conv2d: init must be a function, got 'zeros'",
    ),
    "float16": (
        partial(fn.conv2d, dtype=np.float16),  # type: ignore[arg-type]  # an invalid value
        (KEY, 1, 1, 3),
        "dtype must be np.float32 or np.float64, got <class 'numpy.float16'>",
    ),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_settings_are_refused(name: str) -> None:
    """The whole message is compared: subject, requirement and given value."""
    make, arguments, message = BAD_SETTINGS[name]
    with pytest.raises(fn.ConfigError) as caught:
        make(*arguments)
    assert str(caught.value) == message


def test_weight_and_bias_fit_each_other() -> None:
    """The weight must have four axes, and the bias one number per output."""
    for weight, bias, message in (
        (WEIGHT[0, 0], BIAS, "weight must have shape (KH, KW, C, O), got (2, 4)"),
        (WEIGHT, BIAS[:2], "bias must have shape (4,) to match weight (3, 3, 2, 4), got (2,)"),
        (WEIGHT, BIAS[:, None], "bias must have shape (4,) to match weight (3, 3, 2, 4), got (4, 1)"),
    ):
        with pytest.raises(fn.ShapeError) as caught:
            fn.Conv2D(weight, bias)
        assert str(caught.value) == f"Conv2D: {message}"


def test_settings_at_their_limits_are_taken() -> None:
    """The largest numbers are accepted, and padding of one less than the window, for rows and columns separately."""
    for setting in (MOST, (1, MOST), (MOST, 1)):
        fn.Conv2D(WEIGHT, BIAS, setting, setting, setting)
        fn.MaxPool2D(setting, setting, "same")
    fn.Conv2D(WEIGHT, BIAS, padding=((MOST, 0), (0, MOST)))
    for padding in ((2, 1), ((2, 0), (1, 1))):
        assert fn.output_shape(fn.AvgPool2D((3, 2), None, padding), (3, 3, 1))[2] == 1


MATCHING = "Conv2D: x must have shape (B, H, W, 2) to match weight (3, 3, 2, 4), got"
ONE_CHANNEL = "; for images of one channel, use x[..., None]"
SMALL = "; use a smaller window, or padding='same'"
BAD_IMAGES: dict[str, tuple[fn.Layer, Any, type[fn.FuncnetError], str]] = {
    "channels": (
        fn.Conv2D(WEIGHT, BIAS),
        np.zeros((1, 5, 5, 3)),
        fn.ShapeError,
        f"{MATCHING} (1, 5, 5, 3)",
    ),
    "one image": (
        fn.Conv2D(WEIGHT, BIAS),
        np.zeros((5, 5, 2)),
        fn.ShapeError,
        f"{MATCHING} (5, 5, 2); for a batch of one, use x[None]",
    ),
    "no channel axis": (
        fn.Conv2D(WEIGHT[:, :, :1], BIAS),
        np.zeros((8, 5, 5)),
        fn.ShapeError,
        f"Conv2D: x must have shape (B, H, W, 1) to match weight (3, 3, 1, 4), got (8, 5, 5){ONE_CHANNEL}",
    ),
    "float32": (
        fn.Conv2D(WEIGHT, BIAS),
        np.zeros((1, 5, 5, 2), np.float32),
        fn.DTypeError,
        "Conv2D: x must be float64 to match weight, got float32; use x.astype(np.float64)",
    ),
    "uint8": (
        fn.MaxPool2D(2),
        np.zeros((1, 5, 5, 2), np.uint8),
        fn.DTypeError,
        "MaxPool2D: x must be float32 or float64, got uint8; for images divide by 255: x.astype(np.float32) / 255",
    ),
    "a list": (
        fn.AvgPool2D(2),
        [[1.0]],
        fn.DTypeError,
        "AvgPool2D: x must be a plain NumPy array, got list; use np.asarray(x, dtype=np.float32)",
    ),
    "integers": (
        fn.GlobalAvgPool2D(),
        np.zeros((1, 5, 5, 2), np.int64),
        fn.DTypeError,
        "GlobalAvgPool2D: x must be float32 or float64, got int64; use x.astype(np.float32)",
    ),
    "a row of pixels": (
        fn.MaxPool2D(2),
        np.zeros((5, 4, 3)),
        fn.ShapeError,
        "MaxPool2D: x must have shape (B, H, W, C), got (5, 4, 3); for a batch of one, use x[None]",
    ),
    "a matrix": (
        fn.GlobalAvgPool2D(),
        np.zeros((4, 5)),
        fn.ShapeError,
        "GlobalAvgPool2D: x must have shape (B, H, W, C), got (4, 5)",
    ),
    "too small": (
        fn.Conv2D(WEIGHT, BIAS, dilation=2),
        np.zeros((1, 4, 6, 2)),
        fn.ShapeError,
        f"Conv2D: x must have room for a window that spans 5, got H = 4{SMALL}",
    ),
    "too narrow": (
        fn.MaxPool2D(4, 1, 1),
        np.zeros((1, 4, 1, 2)),
        fn.ShapeError,
        f"MaxPool2D: x must have room for a window that spans 4, got W = 1 and 2 of padding{SMALL}",
    ),
    "no pixel": (
        fn.AvgPool2D(2, 1, "same"),
        np.zeros((1, 0, 3, 2)),
        fn.ShapeError,
        f"AvgPool2D: x must have room for a window that spans 2, got H = 0 and 1 of padding{SMALL}",
    ),
    "no row of pixels": (
        fn.GlobalAvgPool2D(),
        np.zeros((1, 0, 3, 2)),
        fn.ShapeError,
        "GlobalAvgPool2D: x must have at least one pixel, got H, W = 0, 3",
    ),
    "no pixel at all": (
        fn.GlobalAvgPool2D(),
        np.zeros((1, 3, 0, 2)),
        fn.ShapeError,
        "GlobalAvgPool2D: x must have at least one pixel, got H, W = 3, 0",
    ),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_images_are_refused(name: str) -> None:
    """forward raises the whole message; output_shape does, too, if the shape does not fit."""
    layer, x, error, message = BAD_IMAGES[name]
    with pytest.raises(error) as caught:
        fn.forward(layer, x)
    assert str(caught.value) == message
    if error is fn.ShapeError and x.ndim == 4 and x.size:
        with pytest.raises(error) as caught:
            fn.output_shape(layer, x.shape[1:])
        assert str(caught.value) == message.replace("got (1,", "got (B,")


ROW_SHAPES: dict[str, tuple[fn.Layer, tuple[int, ...], str]] = {
    "Conv2D": (fn.Conv2D(WEIGHT, BIAS), (5, 2), "(B, H, W, 2) to match weight (3, 3, 2, 4)"),
    "MaxPool2D": (fn.MaxPool2D(2), (5, 2), "(B, H, W, C)"),
    "AvgPool2D": (fn.AvgPool2D(2), (5, 2), "(B, H, W, C)"),
    "GlobalAvgPool2D": (fn.GlobalAvgPool2D(), (5, 2), "(B, H, W, C)"),
}


@pytest.mark.parametrize("name", ROW_SHAPES)
def test_a_shape_of_no_image_is_refused(name: str) -> None:
    """output_shape raises the message that forward raises for a batch."""
    layer, shape, wanted = ROW_SHAPES[name]
    with pytest.raises(fn.ShapeError) as caught:
        fn.output_shape(layer, shape)
    fix = "; for a batch of one, use x[None]"
    assert str(caught.value) == f"{name}: x must have shape {wanted}, got (B, 5, 2){fix}"


def test_an_error_says_which_layer() -> None:
    """The error of a network whose images become too small has the layer's path."""
    net = (fn.MaxPool2D(2), (fn.MaxPool2D(2), fn.MaxPool2D(2)))
    with pytest.raises(fn.ShapeError, match=r"MaxPool2D \(layer 1\.1\): x must have room .* got H = 1"):
        fn.forward(net, np.zeros((1, 4, 4, 1)))
