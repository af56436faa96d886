"""Registering your own layers: what is refused, and where an error in a layer happened."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest
from attrs import frozen

import funcnet as fn

KEY = fn.Key(17)
X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)
LABELS = np.array([0, 1, 0, 1])
NET = fn.mlp(KEY, (2, 2))


def unchanged(_: Any, x: fn.Array) -> fn.Array:
    """A forward function that does nothing."""
    return x


def passed_on(params: Any, _: fn.Array, g: fn.Array) -> tuple[fn.Array, Any]:
    """The backward function of ``unchanged``."""
    return g, params


class NoRecord(fn.Layer):
    """A subclass without a decorator."""


@attrs.define(eq=False)
class Mutable:
    """A mutable class that is not a layer."""


@frozen
class Comparing(fn.Layer):
    """A layer that compares by value."""


@frozen(eq=False)
class Unregistered(fn.Layer):
    """A layer without functions."""


@frozen(eq=False)
class Refusing(fn.Layer):
    """A layer whose backward function raises."""


@frozen(eq=False)
class Single(fn.Layer):
    """A layer whose backward function does not return a pair."""

    scale: fn.Array


def refuse(_: Refusing, __: fn.Array, ___: fn.Array) -> tuple[fn.Array, Refusing]:
    """Raise."""
    raise fn.ShapeError("g must be something else", subject="Refusing")


fn.register_layer(Refusing, forward=unchanged, backward=refuse)
fn.register_layer(Single, forward=unchanged, backward=lambda _, __, g: g)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Mutable, "register_layer needs a subclass of Layer, got {}; write @frozen(eq=False) class Mutable(Layer)"),
        (3, "register_layer needs a subclass of Layer, got 3; write @frozen(eq=False) class 3(Layer)"),
        (NoRecord, "NoRecord must be a frozen attrs class; write @frozen(eq=False) class NoRecord(Layer)"),
        (
            Comparing,
            (
                "Comparing must not compare by value, because its fields may be arrays; "
                "write @frozen(eq=False) class Comparing(Layer)"
            ),
        ),
        (fn.Dense, "Dense is already registered as 'funcnet.Dense'"),
    ],
)  # fmt: skip
def test_what_is_no_layer_cannot_be_registered(record: Any, message: str) -> None:
    """The message has the line that makes a layer of it."""
    with pytest.raises(fn.ConfigError) as caught:
        fn.register_layer(record, forward=unchanged, backward=passed_on)
    assert str(caught.value) == message.format(record)


def test_a_layer_without_a_rule() -> None:
    """The message names the layer's place and the call that registers it."""
    with pytest.raises(fn.ConfigError, match=r"layer 1.*Unregistered has no rule; call register_layer\(Unregistered, "):
        fn.forward((fn.ReLU(), Unregistered()), X)


def test_an_error_in_a_backward_pass_has_its_place() -> None:
    """The path goes through nested tuples, also where the first layer that is trained is deep inside."""
    with pytest.raises(fn.ShapeError, match=r"^Refusing \(layer 1\.0\): g must be something else$"):
        fn.backward((fn.ReLU(), (Refusing(), fn.ReLU()), fn.ReLU()), X, X)
    single, relu = Single(np.ones(2, np.float32)), fn.ReLU()
    nets: list[tuple[str, fn.Network]] = [("0.1", ((relu, single), relu)), ("1", (NET, single, relu))]
    for place, net in nets:
        with pytest.raises(fn.StructureError) as caught:
            fn.value_and_grad(net, X, LABELS, fn.softmax_cross_entropy)
        wanted = "backward must return (grad_x, grad_params), got ndarray"
        assert str(caught.value) == f"Single (layer {place}): {wanted}"


def test_an_output_shape_is_refused_with_its_place() -> None:
    """A layer without ``output_shape`` is asked with a batch of no rows."""
    with pytest.raises(fn.ShapeError, match=r"^Reshape \(layer 1\): x must have rows of 3 numbers"):
        fn.output_shape((fn.ReLU(), fn.Reshape((3,))), (4,))
    with pytest.raises(fn.ShapeError, match=r"^Dense \(layer 0\): x must have .* to match weight \(2, 2\), got "):
        fn.output_shape(NET, (3,))
    assert fn.output_shape((Refusing(), fn.dense(KEY, 4, 3)), (4,)) == (3,)


REGISTERING = (
    (fn.register_layer, ("forward", "backward"), ("vjp", "plan"), "forward and backward are all that a layer needs"),
    (
        fn.register_elementwise,
        ("value", "slope"),
        ("value_into", "slope_into"),
        "value and slope are all that an elementwise layer needs",
    ),
)


@pytest.mark.parametrize(("registering", "names", "keywords", "reason"), REGISTERING)
def test_what_is_registered_is_functions(
    registering: Any, names: tuple[str, str], keywords: tuple[str, str], reason: str
) -> None:
    """Removed and unknown keywords, and values that are not functions, are refused, and nothing is registered."""

    @frozen(eq=False)
    class Same(fn.Layer):
        pass

    functions = dict(zip(names, (unchanged, passed_on), strict=True))
    for keyword in keywords:
        with pytest.raises(fn.ConfigError) as caught:
            registering(Same, **functions, **{keyword: None})
        assert str(caught.value) == f"{registering.__name__} does not take {keyword}=; delete it: {reason}"
    with pytest.raises(TypeError) as unknown:
        registering(Same, **functions, jvp=None)
    assert str(unknown.value) == f"{registering.__name__}() got an unexpected keyword argument 'jvp'"
    for name in names:
        for value in (None, 3, "relu"):
            with pytest.raises(fn.ConfigError) as caught:
                registering(Same, **{**functions, name: value})
            assert str(caught.value) == f"{registering.__name__}: {name} must be a function, got {value!r}"
    registering(Same, **functions, name=f"tests.Same of {registering.__name__}")
