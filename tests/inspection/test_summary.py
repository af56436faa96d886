"""Shapes without running: ``output_shape`` of every layer, and the rows, totals and error of ``summary``."""

from __future__ import annotations

import re
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest
from attrs import evolve, frozen
from hypothesis import given
from networks import CASES, Case, every_layer, inputs
from random_networks import networks

import funcnet as fn
from funcnet.core.trees import leaves
from funcnet.network.layer import rule_of
from funcnet.network.passes import layers_of

KEY = fn.Key(61)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def called_by(f: Callable[[], object]) -> set[str]:
    """Return the names of all Python functions that run in a call, and of the NumPy functions that create arrays."""
    names: set[str] = set()

    def note(frame: FrameType, event: str, function: Any) -> None:
        if event in ("call", "c_call"):
            names.add(frame.f_code.co_name if event == "call" else function.__name__)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        f()
    finally:
        sys.setprofile(before)
    return names


RUNNING = re.compile(r".*(forward|value)$|zeros|empty|ones|reshape$")


@every_case
def test_no_layer_is_run_for_its_shape(case: Case) -> None:
    """No forward function is called and no array is created; the shape is that of the output."""
    layer, shape = case.layer(), case.x(1).shape[1:]
    wanted = fn.forward(layer, case.x(2)).shape[1:]
    names = called_by(lambda: fn.output_shape(layer, shape)) | called_by(lambda: fn.summary(layer, shape))
    assert not {name for name in names if RUNNING.match(name)}
    assert fn.output_shape(layer, shape) == fn.summary(layer, shape).rows[0].output_shape == wanted


@pytest.mark.parametrize("kind", sorted(every_layer(), key=str), ids=lambda kind: kind.__name__)
def test_every_layer_has_a_rule_for_its_shape(kind: type[fn.Layer]) -> None:
    """A layer without a rule would have to run on an empty batch."""
    assert rule_of(object.__new__(kind)).output_shape is not None


def test_the_test_sees_a_layer_that_is_run() -> None:
    """A layer without a rule for its shape is run, and the test detects it."""

    @frozen(eq=False)
    class Ruleless(fn.Layer):
        pass

    def ruleless_forward(_: Ruleless, x: fn.Array) -> fn.Array:
        return x

    fn.register_layer(Ruleless, forward=ruleless_forward, backward=lambda params, _, g: (g, params))
    found = called_by(lambda: fn.output_shape(Ruleless(), (4,)))
    assert {name for name in found if RUNNING.match(name)} == {"ruleless_forward", "zeros"}


def test_a_large_shape_takes_no_memory() -> None:
    """With a million features, nothing is created beyond the network's existing arrays."""
    net = (
        fn.Reshape((1000, 1000)),
        fn.layer_norm(1000),
        fn.Residual(fn.Parallel((fn.ReLU(), fn.Tanh()))),
        fn.Flatten(),
    )
    fn.summary(net, (1_000_000,))
    tracemalloc.start()
    assert fn.output_shape(net, (1_000_000,)) == (1_000_000,)
    assert fn.summary(net, (1_000_000,)).rows[-1].output_shape == (1_000_000,)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def parts(net: fn.Network, path: str = "") -> dict[str, fn.Layer]:
    """Return every layer by its path, found by hand, including the layers in a combinator's fields."""
    found: dict[str, fn.Layer] = {}
    for place, layer in layers_of(net, path):
        found[place] = layer
        for field in ("net", "nets"):
            inner = getattr(layer, field, None)
            if inner is not None:
                found |= parts(inner, f"{place}.{field}" if place else field)
    return found


@given(net=networks())
def test_a_summary_has_a_row_for_every_layer_and_counts_every_array_once(net: tuple[fn.Network, ...]) -> None:
    """The rows are in order, also in combinators; shapes equal those of a run, column sums those of the network."""
    found = fn.summary(net, (4,))
    wanted = parts(net)
    assert [(row.path, row.layer) for row in found.rows] == [(path, type(of).__name__) for path, of in wanted.items()]
    whole = list(leaves(net))
    assert found.trained == sum(leaf.array.size for leaf in whole if leaf.trained)
    assert found.fixed == sum(leaf.array.size for leaf in whole if not leaf.trained)
    assert found.size == sum(leaf.array.nbytes for leaf in whole)
    entered = [row.output_shape for row in found.rows if row.depth == 0]
    outputs = [fn.forward(fn.Identity(), x).shape[1:] for x in flat_outputs(net, inputs(KEY, 3, 4))]
    assert entered == outputs
    for row in found.rows:
        own = [leaf for leaf in leaves(wanted[row.path]) if "." not in leaf.path]
        assert row.size == sum(leaf.array.nbytes for leaf in own)
        assert row.trained + row.fixed == sum(leaf.array.size for leaf in own)
        assert row.output_shape is not None
    assert len(str(found).splitlines()) == len(found.rows) + 3


def flat_outputs(net: tuple[fn.Network, ...], x: fn.Array) -> list[fn.Array]:
    """Return the output of every layer of nested tuples."""
    return fn.activations(tuple(layer for _, layer in layers_of(net)), x)


def test_a_summary_says_where_shapes_change_inside() -> None:
    """Branches, repetitions and frozen layers have nested rows with the right shapes; parameters are counted once."""
    branches = ((fn.dense(KEY, 6, 3), fn.Tanh()), fn.Frozen(fn.dense(KEY, 6, 5)))
    net = (fn.Flatten(), (fn.Parallel(branches, "concat"),), fn.Repeat((fn.layer_norm(8),), 3))
    found = fn.summary(net, (2, 3))
    assert [(row.path, row.output_shape, row.trained, row.fixed) for row in found.rows] == [
        ("0", (6,), 0, 0),
        ("1.0", (8,), 0, 0),
        ("1.0.nets.0.0", (3,), 21, 0),
        ("1.0.nets.0.1", (3,), 0, 0),
        ("1.0.nets.1", (5,), 0, 0),
        ("1.0.nets.1.net", (5,), 0, 35),
        ("2", (8,), 0, 0),
        ("2.net.0", (8,), 16, 0),
    ]
    assert (found.trained, found.fixed, found.size) == (37, 35, 4 * 72)
    statistics = fn.summary(fn.calibrate(fn.batch_norm(4), inputs(KEY, 3, 4, dtype=np.float32)), (4,)).rows[0]
    assert (statistics.trained, statistics.fixed, statistics.size) == (8, 8, 64)
    assert statistics.path == ""


def test_the_first_layer_that_does_not_fit_is_named() -> None:
    """The error is the same as that of ``output_shape`` and, apart from the batch axis, that of forward."""
    wrong = fn.dense(KEY, 7, 2)
    net = (fn.ReLU(), fn.Residual((fn.ReLU(), fn.Parallel((fn.ReLU(), (wrong, wrong))))), wrong)
    message = r"^Dense \(layer 1\.1\.1\.0\): x must have shape \(B, \.\.\., 7\) to match weight \(7, 2\), got \(B, 4\)$"
    for call in (fn.output_shape, fn.summary):
        with pytest.raises(fn.ShapeError, match=message):
            call(net, (4,))
    with pytest.raises(fn.ShapeError, match=r"^Dense \(layer 1\.1\.1\.0\): x must have shape \(B, \.\.\., 7\)"):
        fn.forward(net, np.zeros((5, 4), np.float32))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (784, r"shape must be a tuple of sizes without the batch, got 784; use \(784,\)"),
        ([784], r"shape must be a tuple of sizes without the batch, got \[784\]$"),
        (None, "shape must be a tuple"),
        ((784, 0), "a size in shape must be an int of at least 1, got 0"),
        ((-1,), "a size in shape must be an int of at least 1, got -1"),
        ((2.0,), r"a size in shape must be an int of at least 1, got 2\.0"),
    ],
)
def test_a_shape_is_a_tuple_of_positive_sizes(shape: Any, message: str) -> None:
    """Both functions refuse other shapes, even for an empty network."""
    for call in (fn.output_shape, fn.summary):
        for net in ((), fn.ReLU()):
            with pytest.raises(fn.ConfigError, match=message):
                call(net, shape)


def test_what_is_no_network_is_refused() -> None:
    """Both functions refuse a value that is not a network."""
    for call in (fn.output_shape, fn.summary):
        with pytest.raises(fn.StructureError, match="use a tuple"):
            call([fn.ReLU()], (4,))  # type: ignore[arg-type]  # a list is not a network


def test_combinators_of_ones_own_have_rows_inside() -> None:
    """Shapes come from the combinator's rule or from an empty batch; they are absent if it reads a layer's fields."""

    @frozen(eq=False)
    class Before(fn.Layer):
        net: fn.Network

    @frozen(eq=False)
    class Squared(fn.Layer):
        inner: fn.Dense
        factor: fn.Array

    def forward(params: Before, x: fn.Array) -> fn.Array:
        return fn.forward(params.net, x.reshape(len(x), 6))

    def backward(params: Before, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Before]:
        grad_x, grads = fn.backward(params.net, x.reshape(len(x), 6), g)
        return grad_x.reshape(x.shape), evolve(params, net=grads)

    def squared(params: Squared, x: fn.Array) -> fn.Array:
        return fn.forward(fn.Dense(params.inner.weight, params.factor), x)

    fn.register_layer(Before, forward=forward, backward=backward)
    fn.register_layer(Squared, forward=squared, backward=lambda params, x, _: (x, params))
    dense = fn.dense(KEY, 6, 5)
    found = fn.summary((Before((fn.ReLU(), dense)), Squared(fn.dense(KEY, 5, 2), np.ones(2, np.float32))), (2, 3))
    assert [(row.path, row.output_shape, row.trained) for row in found.rows] == [
        ("0", (5,), 0),
        ("0.net.0", (6,), 0),
        ("0.net.1", (5,), 35),
        ("1", (2,), 2),
        ("1.inner", None, 12),
    ]
    assert "    1.inner Dense" not in str(found)
    assert "  1.inner Dense" in str(found)


def test_a_summary_is_a_value() -> None:
    """A summary is equal for networks of one structure, is frozen, and does not depend on parameter values."""
    first, second = (fn.summary(fn.mlp(fn.Key(seed), (4, 3, 2)), (4,)) for seed in range(2))
    assert first == second
    assert isinstance(first, fn.Summary)
    assert all(isinstance(row, fn.SummaryRow) for row in first.rows)
    with pytest.raises(AttributeError):
        first.rows = ()  # type: ignore[misc]  # frozen
