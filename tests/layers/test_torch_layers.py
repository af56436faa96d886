"""Layers against PyTorch in float64: the output, the input's gradient and every parameter's, to 1e-9 relative.

Run with PyTorch installed: a row for a layer is how to make it, its module, and how the two differ in their layout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from attrs import field, frozen
from networks import inputs

import funcnet as fn
from funcnet.core.trees import leaves

torch: Any = pytest.importorskip("torch", exc_type=ImportError)
KEY = fn.Key(31)


@frozen
class Twin:
    """A module of PyTorch with a layer's parameters, and its gradients in the order and the layout of the layer's."""

    module: Any
    gradients: Callable[[], list[Any]] = field(default=list)


@frozen
class Row:
    """A layer, its twin, the shape of a row of x; ``enter`` and ``leave`` bring arrays to PyTorch's layout and back."""

    name: str
    layer: fn.Layer
    twin: Callable[[Any], Twin]
    shape: tuple[int, ...] = (7,)
    enter: Callable[[Any], Any] = lambda x: x
    leave: Callable[[Any], Any] = lambda y: y

    def x(self) -> fn.Array:
        """A batch: normal numbers, some of them large, and 0."""
        sizes = np.array([0, 0.1, 1, 1, 4])
        x: fn.Array = (inputs(KEY.child(self.name), *self.shape[::-1], 5) * sizes).T.copy()
        x.flags.writeable = False
        return x


def parameter(array: fn.Array) -> Any:
    """A trained tensor with this array's values."""
    return torch.nn.Parameter(torch.tensor(array))


def elementwise(module: Any) -> Callable[[Any], Twin]:
    """A twin without parameters."""
    return lambda _: Twin(module)


def linear(layer: fn.Dense) -> Twin:
    """PyTorch keeps the weight transposed."""
    module = torch.nn.Linear(*layer.weight.shape, dtype=torch.float64)
    module.weight, module.bias = parameter(layer.weight.T), parameter(layer.bias)
    return Twin(module, lambda: [module.weight.grad.T, module.bias.grad])


def dense_with_bias() -> fn.Dense:
    """A layer none of whose parameters is 0."""
    weight = fn.initializers.glorot_normal(KEY.child("weight"), (7, 4), np.dtype(np.float64))
    return fn.Dense(weight=weight, bias=inputs(KEY.child("bias"), 4))


nn = torch.nn
ROWS = (
    Row("Dense", dense_with_bias(), linear),
    Row("Identity", fn.Identity(), elementwise(nn.Identity())),
    Row("ReLU", fn.ReLU(), elementwise(nn.ReLU())),
    Row("LeakyReLU", fn.LeakyReLU(), elementwise(nn.LeakyReLU())),
    Row("LeakyReLU of slope 0.3", fn.LeakyReLU(0.3), elementwise(nn.LeakyReLU(0.3))),
    Row("ELU", fn.ELU(), elementwise(nn.ELU())),
    Row("ELU of alpha 0.5", fn.ELU(0.5), elementwise(nn.ELU(0.5))),
    Row("Sigmoid", fn.Sigmoid(), elementwise(nn.Sigmoid())),
    Row("Softplus", fn.Softplus(), elementwise(nn.Softplus(threshold=100))),
    Row("SiLU", fn.SiLU(), elementwise(nn.SiLU())),
    Row("GELU", fn.GELU(), elementwise(nn.GELU())),
    Row("GELUTanh", fn.GELUTanh(), elementwise(nn.GELU(approximate="tanh"))),
    Row("Tanh", fn.Tanh(), elementwise(nn.Tanh())),
    Row("Flatten", fn.Flatten(), elementwise(nn.Flatten()), shape=(3, 2)),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_layer_computes_what_pytorch_does(row: Row) -> None:
    """Forward, the input's gradient, and every parameter's."""
    check_row(row)


def check_row(row: Row, x: fn.Array | None = None) -> None:
    """Compare the two, on the row's batch if no other is given."""
    x = row.x() if x is None else x
    y, pull = fn.vjp(row.layer, x)
    g = inputs(KEY.child("g"), *y.shape)
    grad_x, grads = pull(g)
    twin = row.twin(row.layer)
    given = torch.tensor(x, requires_grad=True)
    theirs = row.leave(twin.module(row.enter(given)))
    theirs.backward(torch.tensor(g))
    close(y, theirs)
    close(grad_x, given.grad)
    trained = [leaf.array for leaf in leaves(grads) if leaf.trained]
    for ours, wanted in zip(trained, twin.gradients(), strict=True):
        close(ours, wanted)


def close(ours: fn.Array, theirs: Any) -> None:
    """Within 1e-9 of each number, and of 1e-12 where they cancel."""
    wanted = theirs.detach().numpy()
    assert ours.shape == wanted.shape
    np.testing.assert_allclose(ours, wanted, rtol=1e-9, atol=1e-12)
