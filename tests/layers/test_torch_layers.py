"""Layers compared with PyTorch in float64: output, ``grad_x`` and parameter gradients, to a relative error of 1e-9."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import pytest
from attrs import field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CASES, Case, conv1d, conv2d, every_layer, inputs, near_a_kink, pool
from random_networks import networks

import funcnet as fn
from funcnet.core.trees import leaves
from funcnet.layers.conv1d import StepPadding
from funcnet.layers.windows import Axes, Padding, Pair, axes_of, axis_of, pair
from funcnet.network.modes import repetition

torch: Any = pytest.importorskip("torch", exc_type=ImportError)
KEY = fn.Key(35)
F = torch.nn.functional
Tensors: TypeAlias = Callable[[fn.Array | None], Any]
"""A function from an array of the network to its tensor, and from None to None."""


@frozen
class Twin:
    """A network in PyTorch's operations; its gradients have the order and the layout of the network's."""

    module: Callable[[Any], Any]
    gradients: Callable[[], list[Any]] = field(default=list)


def translated(net: fn.Network) -> Twin:
    """The network in PyTorch's operations, with gradients by autograd. An array that is used twice is one tensor."""
    made = [(leaf, torch.tensor(leaf.array, requires_grad=leaf.trained)) for leaf in leaves(net)]
    tensors: dict[int, Any] = {id(None): None} | {id(leaf.array): tensor for leaf, tensor in made}
    trained = [tensor for leaf, tensor in made if leaf.trained]
    return Twin(lambda x: run(net, x, lambda array: tensors[id(array)]), lambda: [tensor.grad for tensor in trained])


def run(net: fn.Network, x: Any, at: Tensors) -> Any:
    """Apply a layer, or a tuple of networks in order."""
    if not isinstance(net, tuple):
        return OPERATIONS[type(net)](net, x, at)
    for layer in net:
        x = run(layer, x, at)
    return x


def of_parallel(layer: Any, x: Any, at: Tensors) -> Any:
    """Stack and sum or multiply the outputs, or concatenate them."""
    outputs = [run(net, x, at) for net in layer.nets]
    if layer.combine == "concat":
        return torch.cat(outputs, dim=-1)
    stack = torch.stack(outputs)
    return stack.sum(dim=0) if layer.combine == "add" else stack.prod(dim=0)


def of_repeat(layer: Any, x: Any, at: Tensors) -> Any:
    """Apply the same tensors in every repetition, with a different mask each time."""
    return run(tuple(repetition(layer.net, number) for number in range(layer.times)), x, at)


def of_prelu(layer: Any, x: Any, at: Tensors) -> Any:
    """Apply the slopes with every position as a row, because PyTorch has the channels on axis 1."""
    return F.prelu(x.reshape(-1, len(layer.slope)), at(layer.slope)).reshape(x.shape)


def of_dropout(layer: Any, x: Any, _: Tensors) -> Any:
    """Apply funcnet's mask, because PyTorch draws a different one."""
    return x * torch.tensor(fn.forward(layer, np.ones(tuple(x.shape))))


def of_layer_norm(layer: Any, x: Any, at: Tensors) -> Any:
    """Normalize over the last axes."""
    return F.layer_norm(x, x.shape[-layer.axes :], at(layer.scale), at(layer.offset), layer.epsilon)


def of_batch_norm(layer: Any, x: Any, at: Tensors) -> Any:
    """Normalize with every position as a row; in training, without the layer's statistics."""
    mean, variance = (None, None) if layer.training else (at(layer.mean), at(layer.variance))
    channels = x.reshape(-1, x.shape[-1])
    affine = at(layer.scale), at(layer.offset)
    return F.batch_norm(channels, mean, variance, *affine, layer.training, 0.0, layer.epsilon).reshape(x.shape)


def images(f: Callable[[Any], Any], x: Any, axes: Axes, value: float = 0.0) -> Any:
    """Apply an operation to padded images, with the channels first as PyTorch requires."""
    rows, columns = axes
    sides = (columns.before, columns.after, rows.before, rows.after)
    return f(F.pad(x.permute(0, 3, 1, 2), sides, value=value)).permute(0, 2, 3, 1)


def own_padding(padding: Any) -> Any:
    """The padding as PyTorch's argument, or None if PyTorch does not have it."""
    sides = 0 if padding == "valid" else padding
    return sides if isinstance(sides, int) or isinstance(sides[0], int) else None


def of_conv2d(layer: Any, x: Any, at: Tensors) -> Any:
    """Convolve with the weight transposed to PyTorch's (O, C, KH, KW)."""
    weight, bias, sides = at(layer.weight).permute(3, 2, 0, 1).contiguous(), at(layer.bias), own_padding(layer.padding)
    steps: dict[str, Any] = {"stride": layer.stride, "dilation": layer.dilation}
    if sides is not None:
        y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=sides, groups=layer.groups, **steps)
        return y.permute(0, 2, 3, 1)
    axes = axes_of("test", x.shape[1:3], layer.weight.shape[:2], padding=layer.padding, **steps)
    return images(lambda y: F.conv2d(y, weight, bias, groups=layer.groups, **steps), x, axes)


def of_conv1d(layer: Any, x: Any, at: Tensors) -> Any:
    """Convolve with the weight transposed to PyTorch's (O, C, K), after padding."""
    weight, bias = at(layer.weight).permute(2, 1, 0).contiguous(), at(layer.bias)
    steps: dict[str, Any] = {"stride": layer.stride, "dilation": layer.dilation}
    span, padding = (len(layer.weight) - 1) * layer.dilation, layer.padding
    if padding == "same":
        axis = axis_of("test", "T", x.shape[1], len(layer.weight), padding="same", **steps)
        padding = axis.before, axis.after
    x = x if layer.mask is None else x * torch.tensor(layer.mask)[:, :, None]
    words: dict[Any, Any] = {"valid": (0, 0), "causal": (span, 0)}
    sides = words.get(padding, (padding, padding) if isinstance(padding, int) else padding)
    y = F.conv1d(F.pad(x.permute(0, 2, 1), sides), weight, bias, groups=layer.groups, **steps)
    return y.permute(0, 2, 1)


def of_pool(layer: Any, x: Any, _: Tensors) -> Any:
    """Pool by the maximum, or by the mean. Paddings that PyTorch does not have have no other setting in the table."""
    stride, sides = layer.window if layer.stride is None else layer.stride, own_padding(layer.padding)
    is_max = isinstance(layer, fn.MaxPool2D)
    if sides is not None:
        f = F.max_pool2d if is_max else F.avg_pool2d
        more = {"dilation": layer.dilation} if is_max else {"count_include_pad": layer.count_padding}
        y = f(x.permute(0, 3, 1, 2), layer.window, stride, sides, ceil_mode=layer.ceil_mode, **more)
        return y.permute(0, 2, 3, 1)
    axes = axes_of("test", x.shape[1:3], layer.window, stride=stride, padding=layer.padding)
    if is_max:
        return images(lambda y: F.max_pool2d(y, layer.window, stride), x, axes, -torch.inf)
    sums, counts = (images(lambda y: F.avg_pool2d(y, layer.window, stride), z, axes) for z in (x, torch.ones_like(x)))
    return sums / counts


def of_attention(layer: Any, x: Any, at: Tensors) -> Any:
    """Attend with a softmax over the keys that a query may read; where there is no such key, the result is 0."""
    q, k, v = F.linear(x, at(layer.weight).T, at(layer.bias)).unflatten(-1, (3, layer.heads, -1)).permute(2, 0, 3, 1, 4)
    allowed = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool)
    allowed = (torch.tril(allowed) if layer.causal else allowed)[None, None]
    if layer.mask is not None:
        allowed = allowed & torch.tensor(layer.mask != 0)[:, None, None]
    some = allowed.any(dim=-1, keepdim=True)
    read = F.scaled_dot_product_attention(q, k, v, allowed | ~some) * some
    return F.linear(read.transpose(1, 2).flatten(2), at(layer.out_weight).T, at(layer.out_bias))


def of_sinusoidal(_: Any, x: Any, __: Tensors) -> Any:
    """Add the sines and cosines of the paper's formula, computed by PyTorch."""
    channels = torch.arange(x.shape[-1], dtype=x.dtype)
    angle = torch.arange(x.shape[1], dtype=x.dtype)[:, None] / 10000.0 ** ((channels - channels % 2) / x.shape[-1])
    return x + torch.where(channels % 2 == 0, angle.sin(), angle.cos())


def of_last_step(layer: Any, x: Any, _: Tensors) -> Any:
    """Index each sequence by its last valid step."""
    if layer.mask is None:
        return x[:, -1]
    pairs = zip(x, layer.mask, strict=True)
    return torch.stack([row[np.flatnonzero(mask)[-1]] if mask.any() else 0 * row[0] for row, mask in pairs])


def of_mean_over_time(layer: Any, x: Any, _: Tensors) -> Any:
    """Average the steps, or the valid ones."""
    if layer.mask is None:
        return x.mean(dim=1)
    mask = torch.tensor(layer.mask)[:, :, None]
    return (x * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def zeros_or(tensor: Any, like: Any, *shape: int) -> Any:
    """The tensor, or for None zeros of the dtype of another tensor."""
    return torch.zeros(shape, dtype=like.dtype) if tensor is None else tensor


def of_recurrent(layer: Any, x: Any, at: Tensors) -> Any:
    """Read the valid steps of each sequence by PyTorch's loop; the outputs of its other steps are 0."""
    size, first, second = len(layer.recurrent), at(layer.weight).T, at(layer.recurrent).T
    inner = zeros_or(at(getattr(layer, "recurrent_bias", None)), x, size)
    biases = zeros_or(at(layer.bias), x, len(first)), torch.cat([zeros_or(None, x, len(first) - size), inner])
    states = [zeros_or(at(getattr(layer, name, None)), x, size) for name in ("initial", "initial_cell")]
    before = tuple(state.expand(1, 1, size) for state in states)
    name = {fn.RNN: "rnn_" + getattr(layer, "activation", ""), fn.GRU: "gru", fn.LSTM: "lstm"}[type(layer)]
    given = before if name == "lstm" else before[0], [first, second, *biases], True, 1, 0.0, False, False, True
    found: list[Any] = []
    for row, mask in zip(x, np.ones(x.shape[:2]) if layer.mask is None else layer.mask, strict=True):
        steps = torch.tensor(np.flatnonzero(mask)[:: -1 if layer.reverse else 1].copy())
        y, last = zeros_or(None, x, len(row), size), states[0]
        if len(steps):
            outputs, last, *_ = getattr(torch, name)(row[steps][None], *given)
            y = y.index_put((steps,), outputs[0])
        found.append(y if layer.outputs == "all" else last.flatten())
    return torch.stack(found)


def of_masked(layer: Any, x: Any, at: Tensors) -> Any:
    """Run the network with its mask."""
    valid = x != layer.padding if x.ndim == 2 else (x != layer.padding).any(dim=-1)
    dtype = next((array.dtype for array in fn.trained_arrays(layer.net)), np.dtype(np.float64))
    return run(fn.masked(layer.net, valid.numpy().astype(dtype)), x, at)


OPERATIONS: dict[type[fn.Layer], Callable[[Any, Any, Tensors], Any]] = {
    fn.Dense: lambda layer, x, at: F.linear(x, at(layer.weight).T, at(layer.bias)),
    fn.Identity: lambda _, x, __: x,
    fn.ReLU: lambda _, x, __: F.relu(x),
    fn.LeakyReLU: lambda layer, x, _: F.leaky_relu(x, layer.slope),
    fn.ELU: lambda layer, x, _: F.elu(x, layer.alpha),
    fn.SELU: lambda _, x, __: F.selu(x),
    fn.PReLU: of_prelu,
    fn.Sigmoid: lambda _, x, __: torch.sigmoid(x),
    fn.Tanh: lambda _, x, __: torch.tanh(x),
    fn.Softplus: lambda _, x, __: F.softplus(x, threshold=100),
    fn.Softsign: lambda _, x, __: F.softsign(x),
    fn.SiLU: lambda _, x, __: F.silu(x),
    fn.HardSwish: lambda _, x, __: F.hardswish(x),
    fn.Mish: lambda _, x, __: F.mish(x),
    fn.GELU: lambda _, x, __: F.gelu(x),
    fn.GELUTanh: lambda _, x, __: F.gelu(x, approximate="tanh"),
    fn.Softmax: lambda _, x, __: F.softmax(x, dim=-1),
    fn.Dropout: of_dropout,
    fn.Flatten: lambda _, x, __: torch.flatten(x, 1),
    fn.Reshape: lambda layer, x, _: torch.unflatten(torch.flatten(x, 1), 1, layer.shape),
    fn.LayerNorm: of_layer_norm,
    fn.RMSNorm: lambda layer, x, at: F.rms_norm(x, x.shape[-layer.axes :], at(layer.scale), layer.epsilon),
    fn.BatchNorm: of_batch_norm,
    fn.Standardize: lambda layer, x, at: (x - at(layer.mean)) / at(layer.scale),
    fn.Conv2D: of_conv2d,
    fn.Conv1D: of_conv1d,
    fn.MaxPool2D: of_pool,
    fn.AvgPool2D: of_pool,
    fn.Embedding: lambda layer, x, at: F.embedding(x, at(layer.weight)),
    fn.GlobalAvgPool2D: lambda _, x, __: x.mean(dim=(1, 2)),
    fn.GlobalMaxPool2D: lambda _, x, __: F.adaptive_max_pool2d(x.permute(0, 3, 1, 2), 1).flatten(1),
    fn.Residual: lambda layer, x, at: x + run(layer.net, x, at),
    fn.Frozen: lambda layer, x, at: run(layer.net, x, at),
    fn.Parallel: of_parallel,
    fn.Repeat: of_repeat,
    fn.Masked: of_masked,
    fn.MultiHeadAttention: of_attention,
    **dict.fromkeys((fn.RNN, fn.GRU, fn.LSTM), of_recurrent),
    fn.LearnedPositions: lambda layer, x, at: x + at(layer.weight)[: x.shape[1]],
    fn.SinusoidalPositions: of_sinusoidal,
    fn.LastStep: of_last_step,
    fn.MeanOverTime: of_mean_over_time,
}
"""Each layer in PyTorch's operations."""
SIZES: list[tuple[tuple[int, int, int], Pair, int]] = [
    *(((9, 9, 1), 3, 4), ((8, 11, 3), (3, 2), 2), ((11, 8, 6), (2, 4), 16), ((7, 10, 4), 1, 5)),
    ((10, 7, 2), (5, 1), 1),
]
SETTINGS: list[tuple[Pair, Padding, Pair]] = [
    *((1, "valid", 1), (1, "same", 1), (2, "same", 1), (2, 1, 1), (3, (2, 0), 1), ((2, 1), ((0, 1), (2, 0)), 1)),
    *((1, "same", 2), ((1, 3), 2, (2, 1)), (2, "same", (1, 3))),
]
POOLS: list[tuple[Pair, Pair | None, Padding]] = [
    *((2, None, "valid"), (3, 2, "valid"), (3, 2, "same"), (2, 1, "same"), ((3, 2), (1, 2), 1), (3, 1, 1)),
    *((2, 3, ((1, 0), (0, 1))), ((4, 1), None, "same")),
]
MORE_IMAGES = [
    *(
        conv2d(shape, pair(kernel), stride=stride, padding=padding, dilation=dilation, outputs=outputs)
        for (shape, kernel, outputs), (stride, padding, dilation) in product(SIZES, SETTINGS)
    ),
    *(
        pool(layer, shape, *settings)
        for settings, shape in product(POOLS, ((8, 8, 3), (9, 5, 1), (7, 10, 6)))
        for layer in (fn.MaxPool2D, fn.AvgPool2D)
    ),
]


def check(net: fn.Network, twin: Twin, x: fn.Array) -> None:
    """Compare the network and its twin on a batch; where numbers cancel, within 1e-12."""
    y, pull = fn.vjp(net, x)
    g = inputs(KEY.child("g"), *y.shape)
    grad_x, grads = pull(g)
    given = torch.tensor(x, requires_grad=x.dtype.kind == "f")
    theirs = twin.module(given)
    theirs.backward(torch.tensor(g))
    by_x = torch.zeros(x.shape) if given.grad is None else given.grad  # PyTorch has no gradient by ids
    trained = [leaf.array for leaf in leaves(grads) if leaf.trained]
    for ours, tensor in zip((y, grad_x, *trained), (theirs, by_x, *twin.gradients()), strict=True):
        wanted = tensor.detach().numpy()
        assert ours.shape == wanted.shape
        np.testing.assert_allclose(ours, wanted, rtol=1e-9, atol=1e-12)


def test_no_layer_is_without_a_comparison() -> None:
    """Each layer is translated."""
    assert every_layer() == set(OPERATIONS)


@pytest.mark.parametrize("case", [*CASES, *MORE_IMAGES], ids=lambda case: case.name)
def test_every_layer_computes_what_pytorch_does(case: Case) -> None:
    """Each row of x has numbers of another size, from 0 to large ones."""
    x: fn.Array = (inputs(KEY.child(case.name), *case.shape[::-1], 5) * np.array([0, 0.1, 1, 1, 4])).T.copy()
    x = case.x(5) if case.ids else x
    check(case.layer(), translated(case.layer()), x)


@given(net=networks(), seed=st.integers(0, 2**16))
def test_random_networks_compute_what_pytorch_does(net: tuple[fn.Network, ...], seed: int) -> None:
    """The networks have nested combinators, shared parameters and frozen layers."""
    x = inputs(fn.Key(seed), 5, 4)
    if near_a_kink(net, x):
        return
    whole = fn.Residual((net, fn.dense(KEY, fn.forward(net, x).shape[1], 4, dtype=np.float64)))
    check(whole, translated(whole), x)


@pytest.mark.parametrize("fault", ["frozen trains", "one gradient of two"])
def test_the_comparison_sees_a_fault(fault: str) -> None:
    """The faults are a Frozen whose arrays are trained and a Repeat that counts only its last repetition."""
    layer = fn.Repeat((fn.dense(KEY, 4, 4, dtype=np.float64), fn.Tanh()), 2)
    right, unshared = translated(layer), translated((layer.net, deepcopy(layer.net)))
    twin = Twin(unshared.module, lambda: unshared.gradients()[2:])
    if fault == "frozen trains":
        twin = Twin(right.module, lambda: [*right.gradients(), torch.zeros(4)])
    with pytest.raises((AssertionError, ValueError), match=r"Not equal|argument 2 is longer"):
        check(layer, twin, inputs(KEY, 5, 4))


@st.composite
def over_images(draw: st.DrawFn) -> tuple[fn.Layer, tuple[int, ...]]:
    """A convolution or a pooling with settings that PyTorch has, and the shape of its images."""
    kind: Any = draw(st.sampled_from([fn.Conv2D, fn.MaxPool2D, fn.AvgPool2D]))
    size, stride, drawn = (draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) for _ in range(3))
    apart = (1, 1) if kind is fn.AvgPool2D else drawn
    reach = [(pixels - 1) * step + 1 for pixels, step in zip(size, apart, strict=True)]
    padding: Any = tuple(draw(st.integers(0, pixels // 2)) for pixels in size)
    least = [max(span - 2 * side, step) for span, side, step in zip(reach, padding, apart, strict=True)]
    image = tuple(draw(st.integers(low, low + 4)) for low in least)
    first, second = draw(st.booleans()), draw(st.booleans())
    if kind is fn.Conv2D:
        groups, inner, outer = (draw(st.integers(1, 3)) for _ in range(3))
        weight, bias = inputs(KEY.child("weight"), *size, inner, groups * outer), inputs(KEY, groups * outer)
        return fn.Conv2D(weight, bias if first else None, stride, padding, apart, groups), (*image, groups * inner)
    more: Any = {"dilation": apart} if kind is fn.MaxPool2D else {"count_padding": first}
    return kind(size, stride, padding, ceil_mode=second, **more), (*image, 2)


@settings(max_examples=5 * settings().max_examples)
@given(drawn=over_images())
def test_drawn_settings_compute_what_pytorch_does(drawn: tuple[fn.Layer, tuple[int, ...]]) -> None:
    """PyTorch's own settings are the reference: groups, dilation, padding, ceil_mode and count_include_pad."""
    layer, shape = drawn
    x = inputs(KEY.child("drawn"), 3, *shape)
    check(layer, translated(layer), x)
    assert fn.output_shape(layer, shape) == fn.forward(layer, x).shape[1:]


@pytest.mark.parametrize("padding", ["valid", "same", "causal", 2, (0, 3)])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "groups"), [(1, 1, 1, 1), (3, 1, 2, 1), (4, 2, 1, 2), (2, 3, 2, 4)]
)
def test_sequences_are_convolved_as_in_pytorch(
    padding: StepPadding, kernel: int, stride: int, dilation: int, groups: int
) -> None:
    """PyTorch has no causal padding: the reference pads by zeros and then convolves."""
    case = conv1d((9, 4), kernel, padding, 8, stride=stride, dilation=dilation, groups=groups)
    check(case.layer(), translated(case.layer()), case.x(3))
    assert fn.output_shape(case.layer(), (9, 4)) == fn.forward(case.layer(), case.x(3)).shape[1:]


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # PyTorch warns about a copy.
@pytest.mark.parametrize("kernel", [1, 2, 3, (4, 5)])
@pytest.mark.parametrize("dilation", [1, 2, (3, 1)])
def test_same_is_pytorchs_same_for_stride_1(kernel: Pair, dilation: Pair) -> None:
    """PyTorch has "same" only for stride 1. An even kernel has its extra zero at the bottom and on the right."""
    case = conv2d((9, 8, 2), pair(kernel), padding="same", dilation=dilation)
    layer: Any = case.layer()
    weight, x = torch.tensor(layer.weight).permute(3, 2, 0, 1), torch.tensor(case.x(3)).permute(0, 3, 1, 2)
    theirs = F.conv2d(x, weight, torch.tensor(layer.bias), padding="same", dilation=dilation).permute(0, 2, 3, 1)
    np.testing.assert_allclose(fn.forward(layer, case.x(3)), theirs.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_of_equal_numbers_pytorchs_first_gets_the_gradient(window: int, stride: int) -> None:
    """The images have only three different numbers; therefore, ties are common in the windows."""
    x = (inputs(KEY.child("ties"), 2, 6, 6, 3) > 0).astype(float) + (inputs(KEY.child("more"), 2, 6, 6, 3) > 1)
    for layer in (fn.MaxPool2D(window, stride), fn.MaxPool2D(window, stride, dilation=2), fn.GlobalMaxPool2D()):
        check(layer, translated(layer), x)


def test_calibration_is_the_mean_of_pytorchs_batches() -> None:
    """The reference is one batch of all rows with momentum 1; its running variance is converted to the biased one."""
    x = inputs(KEY.child("x"), 20, 7)
    module = torch.nn.BatchNorm1d(7, momentum=1.0, dtype=torch.float64)
    module(torch.tensor(x))
    layer: Any = fn.calibrate(fn.batch_norm(7, dtype=np.float64), x)
    np.testing.assert_allclose(layer.mean, module.running_mean.numpy(), rtol=1e-9)
    np.testing.assert_allclose(layer.variance * 20 / 19, module.running_var.numpy(), rtol=1e-9)
