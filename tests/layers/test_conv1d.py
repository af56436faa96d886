"""Conv1D and groups: what they mean in terms of Conv2D without groups, and invalid input.

``test_torch_layers.py`` compares their numbers with PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from networks import inputs

import funcnet as fn
from funcnet.core.trees import same_bits

KEY = fn.Key(37)

# ------------------------------------------------------------------------------------------------- sequences


def test_a_sequence_is_an_image_of_one_row() -> None:
    """Conv1D has the bits of Conv2D with a height of 1, in the output and in every gradient."""
    x, weight, bias = inputs(KEY, 3, 9, 4), inputs(KEY.child("w"), 3, 2, 6), inputs(KEY.child("b"), 6)
    layer = fn.Conv1D(weight, bias, 2, (1, 2), 2, 2)
    image = fn.Conv2D(weight[None], bias, (1, 2), ((0, 0), (1, 2)), (1, 2), 2)
    y, pull = fn.vjp(layer, x)
    wide, wide_pull = fn.vjp(image, x[:, None])
    assert same_bits(y, wide[:, 0])
    (grad_x, grad), (wide_x, wide_grad) = pull(y), wide_pull(wide)
    pairs: Any = (grad_x, wide_x[:, 0]), (grad.weight, wide_grad.weight[0]), (grad.bias, wide_grad.bias)
    assert all(same_bits(narrow, other) for narrow, other in pairs)


@pytest.mark.parametrize(("size", "stride", "dilation"), [(1, 1, 1), (3, 1, 1), (2, 1, 4), (3, 2, 2)])
def test_causal_reads_no_later_step(size: int, stride: int, dilation: int) -> None:
    """A change of one step changes no output before it, and there is one output for each ``stride`` steps."""
    layer = fn.conv1d(KEY, 2, 3, size, stride=stride, padding="causal", dilation=dilation, dtype=np.float64)
    x, step = inputs(KEY.child("x"), 2, 11, 2), 6
    changed = np.where(np.arange(11)[:, None] == step, x + 1, x)
    before, after = fn.forward(layer, x), fn.forward(layer, changed)
    assert before.shape == (2, -(-11 // stride), 3)
    first = -(-step // stride)
    assert same_bits(before[:, :first].copy(), after[:, :first].copy())
    assert (before[:, first] != after[:, first]).all()


@pytest.mark.parametrize("padding", ["same", "causal"])
def test_padded_steps_are_zeros(padding: Any) -> None:
    """In ``Masked``, layers of the stride 1 give a sequence the same outputs with padded steps around it."""
    convolutions = (fn.conv1d(KEY.child(i), 3, 3, 3, padding=padding, dilation=i, dtype=np.float64) for i in (1, 2))
    net = fn.Masked((fn.embedding(KEY, 5, 3, dtype=np.float64), *convolutions))
    short = np.array([[1, 2, 4], [3, 1, 1]])
    padded, wanted = np.pad(short, ((0, 0), (2, 1))), fn.forward(net, short)
    assert np.abs(fn.forward(net, padded)[:, 2:5] - wanted).max() < 1e-14
    assert np.abs(fn.forward(net.net, padded)[:, 2:5] - wanted).max() > 0.1


def test_padding_of_sequences_has_five_forms() -> None:
    """An int is for both ends; a pair is (before, after), and ``"causal"`` is (span - 1, 0)."""
    weight, x = inputs(KEY, 3, 1, 1), inputs(KEY.child("x"), 2, 8, 1)
    words: Any = ((2, (2, 2)), ("causal", (4, 0)), ("same", (2, 2)), ("valid", (0, 0)))
    for one, other in words:
        first, second = (fn.Conv1D(weight, padding=padding, dilation=2) for padding in (one, other))
        assert same_bits(fn.forward(first, x), fn.forward(second, x))
    narrow: Any = np.int8(2)
    assert fn.fingerprint(fn.Conv1D(weight, None, narrow, (narrow, narrow))) == fn.fingerprint(
        fn.Conv1D(weight, None, 2, (2, 2))
    )


# ---------------------------------------------------------------------------------------------------- groups


@pytest.mark.parametrize(("groups", "inner", "outer"), [(2, 3, 2), (3, 2, 1), (4, 1, 1), (3, 1, 2)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_groups_are_convolutions_side_by_side(groups: int, inner: int, outer: int, dtype: fn.FloatDType) -> None:
    """Each group is a Conv2D of its own channels. Sums over other numbers of columns may round differently."""
    x = inputs(KEY, 3, 6, 5, groups * inner, dtype=dtype)
    weight = inputs(KEY.child("w"), 3, 2, inner, groups * outer, dtype=dtype)
    bias = inputs(KEY.child("b"), groups * outer, dtype=dtype)
    y, pull = fn.vjp(fn.Conv2D(weight, bias, (1, 2), "same", groups=groups), x)
    (grad_x, grad), close = pull(y), 100 * float(np.finfo(dtype).eps)
    for i in range(groups):
        own, read = np.s_[..., i * outer : (i + 1) * outer], np.s_[..., i * inner : (i + 1) * inner]
        part, part_pull = fn.vjp(fn.Conv2D(weight[own], bias[own], (1, 2), "same"), x[read])
        part_x, part_grad = part_pull(y[own].copy())
        assert grad.bias is not None
        assert part_grad.bias is not None
        got = y[own], grad_x[read], grad.weight[own], grad.bias[own]
        for ours, wanted in zip(got, (part, part_x, part_grad.weight, part_grad.bias), strict=True):
            np.testing.assert_allclose(ours, wanted, rtol=close, atol=close)


@pytest.mark.parametrize("groups", [2, 4])
def test_an_image_alone_is_the_image_in_any_batch_with_groups(groups: int) -> None:
    """This holds in native arithmetic, for products by group and for the depthwise sum."""
    layer = fn.conv2d(KEY, 4, 8, 3, padding="same", groups=groups)
    x = inputs(KEY.child("x"), 13, 9, 7, 4, dtype=np.float32)
    whole = fn.forward(layer, x)
    for rows in (slice(0, 1), slice(12, 13), slice(3, 8)):
        assert same_bits(fn.forward(layer, x[rows]), whole[rows])


def test_the_maker_draws_for_a_group() -> None:
    """The initializer gets the shape (KH, KW, C // groups, O); fan_in counts the channels that an output reads."""
    layer = fn.conv2d(KEY, 64, 64, 3, groups=64, init=fn.initializers.he_normal, dtype=np.float64)
    assert layer.weight.shape == (3, 3, 1, 64)
    assert fn.initializers.fans(layer.weight.shape)[0] == 9
    assert fn.summary(layer, (5, 5, 64)).trained == 9 * 64 + 64
    one = fn.conv1d(KEY, 4, 6, 5, groups=2, bias=False)
    assert same_bits(one.weight, fn.conv1d(KEY, 4, 6, 5, groups=2).weight)
    assert (one.weight.shape, one.bias) == ((5, 2, 6), None)
    assert fn.conv2d(KEY, 4, 6, 5, bias=False).bias is None


def test_the_new_settings_change_no_older_fingerprint() -> None:
    """A record with the defaults of later settings has the fingerprint that it had without them."""
    old = fn.Conv2D(np.ones((2, 2, 1, 1), np.float32), np.ones(1, np.float32)), fn.MaxPool2D(2), fn.AvgPool2D(2)
    assert fn.fingerprint(old) == "c14abed561f8677531611d19f049466550cc23ede591e5d6c0cab8e03c4e4656"
    new = fn.MaxPool2D(2, dilation=2), fn.MaxPool2D(2, ceil_mode=True), fn.AvgPool2D(2, count_padding=True)
    assert len({fn.fingerprint(layer) for layer in (fn.MaxPool2D(2), fn.AvgPool2D(2), *new)}) == 5


# ----------------------------------------------------------------------------------------------- invalid input

WEIGHT, BIAS, MOST = np.zeros((3, 2, 4)), np.zeros(4), 2**20
COUNT, FIX = f"must be an int from 1 to {MOST}, got", "; use a smaller window, or padding='same'"
# fmt: off
BAD_SETTINGS: list[tuple[Callable[[], object], str]] = [
    (lambda: fn.Conv1D(WEIGHT[:0], BIAS), "Conv1D: a size of weight must be an int of at least 1, got 0"),
    (lambda: fn.Conv1D(WEIGHT, BIAS, 0), f"Conv1D: stride {COUNT} 0"),
    (lambda: fn.Conv1D(WEIGHT, BIAS, dilation=MOST + 1), f"Conv1D: dilation {COUNT} {MOST + 1}"),
    (lambda: fn.Conv1D(WEIGHT, BIAS, dilation=MOST),
     f"Conv1D: (K - 1) * dilation must be an int from 0 to {MOST}, got {2 * MOST}"),
    (lambda: fn.Conv1D(WEIGHT, BIAS, padding="full"),  # type: ignore[arg-type]  # the mistake
     "Conv1D: padding must be 'same', 'valid', 'causal', an int or a pair (before, after), got 'full'"),
    (lambda: fn.Conv1D(WEIGHT, BIAS, padding=(1, 2, 3)),  # type: ignore[arg-type]  # the mistake
     "Conv1D: padding must be 'same', 'valid', 'causal', an int or a pair (before, after), got (1, 2, 3)"),
    (lambda: fn.Conv1D(WEIGHT, BIAS, padding=[1, 1]),  # type: ignore[arg-type]  # the mistake
     "Conv1D: padding must be 'same', 'valid', 'causal', an int or a pair (before, after), got [1, 1]"),
    (lambda: fn.Conv1D(WEIGHT, BIAS, padding=(1, -1)), f"Conv1D: padding must be an int from 0 to {MOST}, got -1"),
    (lambda: fn.Conv1D(WEIGHT, BIAS, groups=3), "Conv1D: groups must divide weight's O = 4, got 3"),
    (lambda: fn.Conv2D(WEIGHT[None], BIAS, groups=0), "Conv2D: groups must be an int of at least 1, got 0"),
    (lambda: fn.conv2d(KEY, 6, 8, 3, groups=4), "conv2d: groups must divide in_channels = 6, got 4"),
    (lambda: fn.conv1d(KEY, 6, 8, 3, groups=3), "conv1d: groups must divide out_channels = 8, got 3"),
    (lambda: fn.conv1d(KEY, 6, 8, 0), f"conv1d: kernel_size {COUNT} 0"),
    (lambda: fn.conv1d(KEY, 6, 8, 3, bias=False, bias_init=fn.initializers.zeros),
     "conv1d: bias_init must be None if bias is False; delete one of the two"),
]
BAD_SEQUENCES: list[tuple[fn.Layer, tuple[int, ...], str]] = [
    (fn.Conv1D(WEIGHT, BIAS), (1, 5, 3),
     "Conv1D: x must have shape (B, T, 2) to match weight (3, 2, 4), got (1, 5, 3)"),
    (fn.Conv1D(WEIGHT, BIAS, groups=2), (1, 5, 2),
     "Conv1D: x must have shape (B, T, 4) to match weight (3, 2, 4), got (1, 5, 2)"),
    (fn.Conv1D(WEIGHT, BIAS, dilation=2, padding=1), (1, 2, 2),
     f"Conv1D: x must have room for a window that spans 5, got T = 2 and 2 of padding{FIX}"),
    (fn.Conv1D(WEIGHT, BIAS, padding="causal"), (1, 0, 2),
     "Conv1D: x must not be empty, got T = 0"),
]
# fmt: on


@pytest.mark.parametrize(("call", "message"), BAD_SETTINGS, ids=[text[:40] for _, text in BAD_SETTINGS])
def test_bad_settings_are_refused(call: Callable[[], object], message: str) -> None:
    """The whole message is compared: subject, requirement and given value."""
    with pytest.raises(fn.ConfigError) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(("layer", "shape", "message"), BAD_SEQUENCES)
def test_bad_sequences_are_refused(layer: fn.Layer, shape: tuple[int, ...], message: str) -> None:
    """``output_shape`` raises the message that ``forward`` raises for a batch; it takes no size of 0 at all."""
    with pytest.raises(fn.ShapeError) as caught:
        fn.forward(layer, np.zeros(shape))
    assert str(caught.value) == message
    if 0 not in shape:
        with pytest.raises(fn.ShapeError) as caught:
            fn.output_shape(layer, shape[1:])
        assert str(caught.value) == message.replace(f"got ({shape[0]},", "got (B,")
