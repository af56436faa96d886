"""The whole table of layers and random networks of them, compared with PyTorch's operations in float64."""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import deepcopy
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import CASES, PLAIN_CASES, every_layer, inputs, near_a_kink, networks
from surroundings import TESTS

import funcnet as fn
from funcnet.core.trees import leaves
from funcnet.layers.windows import Axes, axes_of
from funcnet.network.modes import repetition

torch: Any = pytest.importorskip("torch", exc_type=ImportError)

from test_torch_layers import ROWS, Row, Twin, check_row, parameter  # noqa: E402  # after the check for PyTorch

KEY = fn.Key(35)
F = torch.nn.functional
Tensors: TypeAlias = Callable[[fn.Array], Any]
"""A function from an array of the network to its tensor."""


def translated(net: fn.Network) -> Twin:
    """The network in PyTorch's operations, with gradients by autograd. An array that is used twice is one tensor."""
    pairs = [(leaf, parameter(leaf.array) if leaf.trained else torch.tensor(leaf.array)) for leaf in leaves(net)]
    tensors = {id(leaf.array): tensor for leaf, tensor in pairs}
    trained = [tensor for leaf, tensor in pairs if leaf.trained]

    def module(x: Any) -> Any:
        return run(net, x, lambda array: tensors[id(array)])

    return Twin(module, lambda: [tensor.grad for tensor in trained])


def run(net: fn.Network, x: Any, at: Tensors) -> Any:
    """Apply a layer, or a tuple of networks in order."""
    if not isinstance(net, tuple):
        return OPERATIONS[type(net)](net, x, at)
    for layer in net:
        x = run(layer, x, at)
    return x


def of_parallel(layer: Any, x: Any, at: Tensors) -> Any:
    """Stack and sum the outputs, or concatenate them."""
    outputs = [run(net, x, at) for net in layer.nets]
    return torch.stack(outputs).sum(dim=0) if layer.combine == "add" else torch.cat(outputs, dim=-1)


def of_repeat(layer: Any, x: Any, at: Tensors) -> Any:
    """Apply the same tensors in every repetition, with a different mask each time."""
    return run(tuple(repetition(layer.net, number) for number in range(layer.times)), x, at)


def of_dropout(layer: Any, x: Any, _: Tensors) -> Any:
    """Apply funcnet's mask, because PyTorch draws a different one."""
    return x * torch.tensor(fn.forward(layer, np.ones(tuple(x.shape))))


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


def of_conv2d(layer: Any, x: Any, at: Tensors) -> Any:
    """Convolve with the weight transposed to PyTorch's (O, C, KH, KW)."""
    settings: dict[str, Any] = {"stride": layer.stride, "dilation": layer.dilation}
    axes = axes_of("test", x.shape[1:3], layer.weight.shape[:2], padding=layer.padding, **settings)
    weight, bias = at(layer.weight).permute(3, 2, 0, 1), at(layer.bias)
    return images(lambda y: F.conv2d(y, weight, bias, layer.stride, dilation=layer.dilation), x, axes)


def of_pool(layer: Any, x: Any, _: Tensors) -> Any:
    """Pool by the maximum, or by the mean without the padding."""
    stride = layer.window if layer.stride is None else layer.stride
    axes = axes_of("test", x.shape[1:3], layer.window, stride=stride, padding=layer.padding)
    if isinstance(layer, fn.MaxPool2D):
        return images(lambda y: F.max_pool2d(y, layer.window, stride), x, axes, -torch.inf)
    sums, counts = (images(lambda y: F.avg_pool2d(y, layer.window, stride), z, axes) for z in (x, torch.ones_like(x)))
    return sums / counts


def size_of(layer: Any) -> tuple[int, ...]:
    """The shape of the normalized axis."""
    return (layer.scale.size,)


OPERATIONS: dict[type[fn.Layer], Callable[[Any, Any, Tensors], Any]] = {
    fn.Dense: lambda layer, x, at: F.linear(x, at(layer.weight).T, at(layer.bias)),
    fn.Identity: lambda _, x, __: x,
    fn.ReLU: lambda _, x, __: F.relu(x),
    fn.LeakyReLU: lambda layer, x, _: F.leaky_relu(x, layer.slope),
    fn.ELU: lambda layer, x, _: F.elu(x, layer.alpha),
    fn.Sigmoid: lambda _, x, __: torch.sigmoid(x),
    fn.Tanh: lambda _, x, __: torch.tanh(x),
    fn.Softplus: lambda _, x, __: F.softplus(x, threshold=100),
    fn.SiLU: lambda _, x, __: F.silu(x),
    fn.GELU: lambda _, x, __: F.gelu(x),
    fn.GELUTanh: lambda _, x, __: F.gelu(x, approximate="tanh"),
    fn.Dropout: of_dropout,
    fn.Flatten: lambda _, x, __: torch.flatten(x, 1),
    fn.Reshape: lambda layer, x, _: torch.unflatten(torch.flatten(x, 1), 1, layer.shape),
    fn.LayerNorm: lambda layer, x, at: F.layer_norm(
        x, size_of(layer), at(layer.scale), at(layer.offset), layer.epsilon
    ),
    fn.RMSNorm: lambda layer, x, at: F.rms_norm(x, size_of(layer), at(layer.scale), layer.epsilon),
    fn.BatchNorm: of_batch_norm,
    fn.Standardize: lambda layer, x, at: (x - at(layer.mean)) / at(layer.scale),
    fn.Conv2D: of_conv2d,
    fn.MaxPool2D: of_pool,
    fn.AvgPool2D: of_pool,
    fn.GlobalAvgPool2D: lambda _, x, __: x.mean(dim=(1, 2)),
    fn.Residual: lambda layer, x, at: x + run(layer.net, x, at),
    fn.Frozen: lambda layer, x, at: run(layer.net, x, at),
    fn.Parallel: of_parallel,
    fn.Repeat: of_repeat,
}
TRANSLATED = [case for case in CASES if type(case.layer()) in OPERATIONS]


@pytest.mark.parametrize("case", TRANSLATED, ids=lambda case: case.name)
def test_every_case_computes_what_pytorch_does(case: Any) -> None:
    """Output, ``grad_x`` and parameter gradients agree, at 0, too."""
    check_row(Row(case.name, case.layer(), translated, case.shape))


@given(net=networks(), seed=st.integers(0, 2**16))
def test_random_networks_compute_what_pytorch_does(net: tuple[fn.Network, ...], seed: int) -> None:
    """The networks have nested combinators, shared parameters and frozen layers."""
    x = inputs(fn.Key(seed), 5, 4)
    if near_a_kink(net, x):
        return
    whole = fn.Residual((net, fn.dense(KEY, fn.forward(net, x).shape[1], 4, dtype=np.float64)))
    check_row(Row("a random network", whole, translated, (4,)), x)


def test_no_layer_is_without_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer is translated here or has a row in a different file."""
    compared = set(OPERATIONS)
    for path in TESTS.rglob("test_torch_*.py"):
        monkeypatch.setattr(sys, "path", [str(path.parent), *sys.path])
        rows: tuple[Row, ...] = getattr(import_module(path.stem), "ROWS", ())
        compared |= {type(row.layer) for row in rows}
    assert every_layer() <= compared
    assert len(ROWS) > 10
    assert {type(case.layer()) for case in PLAIN_CASES} <= set(OPERATIONS)


@pytest.mark.parametrize("fault", ["frozen trains", "one gradient of two"])
def test_the_comparison_sees_a_fault(fault: str) -> None:
    """The faults are a Frozen whose arrays are trained and a Repeat that counts only its last repetition."""
    layer = fn.Repeat((fn.dense(KEY, 4, 4, dtype=np.float64), fn.Tanh()), 2)

    def twin(params: fn.Network) -> Twin:
        right = translated(params)
        if fault == "frozen trains":
            return Twin(right.module, lambda: [*right.gradients(), torch.zeros(4)])
        unshared = translated((layer.net, deepcopy(layer.net)))
        return Twin(unshared.module, lambda: unshared.gradients()[2:])

    with pytest.raises((AssertionError, ValueError), match=r"Not equal|argument 2 is longer"):
        check_row(Row("faulty", layer, twin, (4,)))
