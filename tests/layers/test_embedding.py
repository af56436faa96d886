"""Embedding: a Dense layer of one-hot inputs, sums in a fixed order, and the place of an id that is out of range."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from networks import inputs

import funcnet as fn
from funcnet.arithmetic import Name, sum_by_id, using
from funcnet.core.arrays import Labels, is_canonical
from funcnet.core.records import evolve
from funcnet.core.trees import same_bits

KEY: Final = fn.Key(17)
LAYER: Final = fn.embedding(KEY, 7, 3, dtype=np.float64)
IDS: Final[Labels] = np.array([[6, 0, 6, 2], [1, 6, 0, 3]], np.int64)


@pytest.mark.parametrize("shape", [(5,), (5, 4), (2, 3, 4), (0,), (3, 0), (0, 4)], ids=str)
def test_it_is_a_dense_layer_of_one_hot_inputs(shape: tuple[int, ...]) -> None:
    """The same rows, and the same gradient up to the order of the sums."""
    ids = np.arange(math.prod(shape)).reshape(shape) ** 2 % 7
    y, pull = fn.vjp(LAYER, ids)
    g = inputs(KEY.child("g"), *shape, 3)
    grad_x, grad = pull(g)
    hot = np.eye(7)[ids.reshape(-1)]
    assert same_bits(y, (hot @ LAYER.weight).reshape(*shape, 3))
    np.testing.assert_allclose(grad.weight, hot.T @ g.reshape(-1, 3), rtol=1e-12, atol=1e-15)
    assert same_bits(grad_x, np.zeros(shape))
    assert is_canonical(grad.weight)


@pytest.mark.parametrize("arithmetic", ["native", "portable"])
@pytest.mark.parametrize("count", [7, 300])
@given(ids=st.lists(st.integers(0, 6), max_size=40), size=st.integers(1, 4))
def test_the_sums_are_those_of_a_loop_in_float64(count: int, arithmetic: Name, ids: list[int], size: int) -> None:
    """One row after the other, also of many ids: these bits do not depend on the machine."""
    rows = inputs(KEY.child("rows"), len(ids), size, dtype=np.float32)
    wanted = np.zeros((count, size))
    for number, row in zip(ids, rows, strict=True):
        wanted[number] += row
    with using(arithmetic):
        assert same_bits(sum_by_id(rows, np.array(ids, np.int64), count), wanted.astype(np.float32))


PADDING: Final = "; an id for padding needs a row, too, such as 0"
FLOATS: Final = "; put the Embedding before the layers of floats"
NOT_IDS: Final[dict[str, tuple[Any, type[fn.FuncnetError], str]]] = {
    "too large": (np.where(IDS == 3, 7, IDS), fn.LabelError, "must be in 0..6, got x[1, 3] = 7"),
    "negative": (np.array([0, -1], np.int8), fn.LabelError, f"must be in 0..6, got x[1] = -1{PADDING}"),
    "huge": (np.array([2**64 - 1], np.uint64), fn.LabelError, "must be in 0..6, got x[0] = 18446744073709551615"),
    "whole floats": (
        IDS * 1.0,
        fn.DTypeError,
        f"must be integer ids from 0 to 6, got float64{FLOATS}, or use x.astype(np.int64)",
    ),
    "floats": (IDS / 2, fn.DTypeError, f"must be integer ids from 0 to 6, got float64{FLOATS}"),
    "bools": (IDS > 2, fn.DTypeError, "must be integer ids from 0 to 6, got bool; use x.astype(np.int64)"),
    "complex": (IDS * 1j, fn.DTypeError, "must be integer ids from 0 to 6, got complex128"),
    "a list": (IDS.tolist(), fn.DTypeError, "must be a plain NumPy array of ids, got list; use np.asarray(x)"),
    "one id": (np.array(3), fn.ShapeError, "must have shape (B, ...), got ()"),
}


@pytest.mark.parametrize(("x", "error", "message"), NOT_IDS.values(), ids=NOT_IDS)
def test_what_is_no_id_is_refused_with_its_place(x: Any, error: type[fn.FuncnetError], message: str) -> None:
    """Forward and a backward that is called without it have the same message."""
    for call in (lambda: fn.forward(LAYER, x), lambda: fn.backward((LAYER,), x, np.zeros((2, 4, 3)))):
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value).partition(": x ")[2] == message
        assert str(caught.value).startswith("Embedding")


@pytest.mark.parametrize("code", [f"{order}{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8) for order in "<>"])
def test_every_integer_dtype_is_one_of_ids(code: str) -> None:
    """The bits do not depend on it, nor on the memory order."""
    g = inputs(KEY.child("g"), *IDS.shape, 3)
    y, grads = fn.forward(LAYER, IDS), fn.backward(LAYER, IDS, g)
    for ids in (IDS.astype(code), np.asfortranarray(IDS.astype(code)), np.repeat(IDS.astype(code), 2, axis=1)[:, ::2]):
        assert same_bits(fn.forward(LAYER, ids), y)
        grad_x, grad = fn.backward(LAYER, ids, g)
        assert same_bits(grad_x, grads[0])
        assert fn.equal(grad, grads[1])


def test_the_constructor_draws_rows_with_a_deviation() -> None:
    """The default is PyTorch's; the smallest sizes are 1."""
    rows = fn.embedding(KEY, 1000, 50).weight
    assert rows.std() == pytest.approx(1, abs=0.01)
    small = fn.embedding(KEY, 1000, 50, init=fn.initializers.random_normal(0.02)).weight
    np.testing.assert_allclose(small, rows * 0.02, rtol=1e-6)
    with pytest.raises(fn.ConfigError, match=r"^embedding: count must be an int of at least 1, got 0$"):
        fn.embedding(KEY, 0, 3)
    with pytest.raises(fn.ConfigError, match=r"^Embedding: weight's size must be an int of at least 1, got 0$"):
        fn.Embedding(np.zeros((3, 0)))


@frozen(eq=False)
class Rows(fn.Layer):
    """A user's own layer of ids."""

    weight: fn.Weight


def rows_forward(params: Rows, x: fn.Array) -> fn.Array:
    """The rows of the ids."""
    rows: fn.Array = params.weight[cast("Labels", x)]
    return rows


def rows_backward(params: Rows, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Rows]:
    """The sum over the positions of each id, as NumPy computes it."""
    total = np.zeros_like(params.weight)
    np.add.at(total, cast("Labels", x), g)
    return np.zeros(x.shape, g.dtype), evolve(params, weight=total)


def differentiating(params: Rows, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Rows]:
    """A gradient by ids."""
    return g[..., 0].copy(), rows_backward(params, x, g)[1]


def in_integers(params: Rows, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Rows]:
    """A gradient in the dtype of the ids."""
    return np.zeros_like(x), rows_backward(params, x, g)[1]


def of_another_shape(params: Rows, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Rows]:
    """A gradient in the shape of g."""
    return np.zeros_like(g), rows_backward(params, x, g)[1]


FAULTS: Final[dict[Callable[..., Any], tuple[str, str]]] = {
    differentiating: (
        "gradient: the gradient with respect to x[0, 0] must be 0, got ",
        "the gradient with respect to x[0, 0] must be 0, got ",
    ),
    in_integers: (
        "shapes: grad_x must be float64 (2, 4), zeros for ids, got int64 (2, 4)",
        "the gradient with respect to x must be float64, got int64",
    ),
    of_another_shape: (
        "shapes: grad_x must be float64 (2, 4), zeros for ids, got float64 (2, 4, 3)",
        "the gradient with respect to x must have shape (2, 4), got (2, 4, 3)",
    ),
}


def own(backward: Callable[..., Any]) -> Rows:
    """A layer of a class of its own, with this backward."""
    kind: Any = frozen(eq=False)(type(f"Rows_{backward.__name__}", (Rows,), {"__module__": __name__}))
    fn.register_layer(kind, forward=rows_forward, backward=backward)
    made: Rows = kind(LAYER.weight)
    return made


def test_an_own_layer_of_ids_passes_and_is_traced() -> None:
    """It needs no line more than a layer of floats."""
    layer = own(rows_backward)
    fn.check_layer(layer, IDS)
    assert "x is not differentiated" in str(fn.check_gradients((layer, fn.Tanh()), IDS))
    net = (layer, fn.Flatten(), fn.dense(KEY, 12, 3, dtype=np.float64))
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
    assert fn.program(step, net, fn.Batch(IDS, np.array([0, 2]))).opaque == ()


@pytest.mark.parametrize("backward", FAULTS, ids=lambda backward: backward.__name__)
def test_a_gradient_by_ids_is_refused(backward: Callable[..., Any]) -> None:
    """It must be zeros, in the shape of the ids and in the layer's dtype."""
    layer, (by_laws, by_differences) = own(backward), FAULTS[backward]
    with pytest.raises(fn.LawError) as caught:
        fn.check_layer(layer, IDS)
    assert str(caught.value).startswith(f"check_layer: {by_laws}")
    with pytest.raises(fn.FuncnetError) as refused:
        fn.check_gradients(layer, IDS)
    assert by_differences in str(refused.value)
