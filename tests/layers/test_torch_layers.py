"""Layers compared with PyTorch in float64: output, ``grad_x`` and parameter gradients, to a relative error of 1e-9.

The tests need PyTorch. A row has a layer, its PyTorch module, and the conversions between their layouts.
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
    """A PyTorch module with a layer's parameters; its gradients have the layer's order and layout."""

    module: Any
    gradients: Callable[[], list[Any]] = field(default=list)


@frozen
class Row:
    """A layer, its twin, and the shape of a row of x; ``enter`` and ``leave`` convert to PyTorch's layout and back."""

    name: str
    layer: fn.Layer
    twin: Callable[[Any], Twin]
    shape: tuple[int, ...] = (7,)
    enter: Callable[[Any], Any] = lambda x: x
    leave: Callable[[Any], Any] = lambda y: y

    def x(self) -> fn.Array:
        """A batch of normal numbers, some of them large, and of zeros."""
        sizes = np.array([0, 0.1, 1, 1, 4])
        x: fn.Array = (inputs(KEY.child(self.name), *self.shape[::-1], 5) * sizes).T.copy()
        x.flags.writeable = False
        return x


def parameter(array: fn.Array) -> Any:
    """A trained tensor with the values of the array."""
    return torch.nn.Parameter(torch.tensor(array))


def elementwise(module: Any) -> Callable[[Any], Twin]:
    """A twin without parameters."""
    return lambda _: Twin(module)


def linear(layer: fn.Dense) -> Twin:
    """A twin of Dense; PyTorch stores the transposed weight."""
    module = torch.nn.Linear(*layer.weight.shape, dtype=torch.float64)
    module.weight, module.bias = parameter(layer.weight.T), parameter(layer.bias)
    return Twin(module, lambda: [module.weight.grad.T, module.bias.grad])


def dense_with_bias() -> fn.Dense:
    """A Dense layer in which no parameter is 0."""
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
    """Output, ``grad_x`` and parameter gradients agree."""
    check_row(row)


def check_row(row: Row, x: fn.Array | None = None) -> None:
    """Compare the layer and its twin, on the row's batch unless a batch is given."""
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
    """Check that the numbers agree within a relative error of 1e-9, or within 1e-12 where they cancel."""
    wanted = theirs.detach().numpy()
    assert ours.shape == wanted.shape
    np.testing.assert_allclose(ours, wanted, rtol=1e-9, atol=1e-12)
