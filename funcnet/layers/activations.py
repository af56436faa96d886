"""Elementwise layers: Identity, ReLU, Sigmoid, Tanh, and the one function that registers them all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.arithmetic import exp, tanh
from funcnet.arrays import Array, check_batch
from funcnet.errors import ConfigError
from funcnet.layer import L, Layer, Operation, Plan, Pullback, Shape, register_layer
from funcnet.plans import scalar
from funcnet.records import fields_of

Slope: TypeAlias = "Array | NDArray[np.bool_]"


def _same(_: Layer, shape: Shape) -> Shape:
    return shape


def register_elementwise(
    record: type[L],
    *,
    value: Callable[[L, Array], Array],
    slope: Callable[[L, Array, Array], Slope],
    value_into: Callable[[L, Array, Array], Operation] | None = None,
    slope_into: Callable[[L, Array, Array, Array], list[Operation]] | None = None,
    name: str | None = None,
) -> None:
    """Register a layer without trained parameters that maps each element by itself.

    Args:
        record: As for ``register_layer``, without trained fields.
        value: ``(params, x) -> y``, elementwise, C-contiguous.
        slope: ``(params, x, y) -> dy/dx``, elementwise; y is ``value(params, x)``. Booleans stand for 0 and 1.
        value_into: ``(params, x, y) -> operation`` that computes ``value(params, x)`` into the buffer y: optional.
        slope_into: ``(params, x, y, s) -> operations`` that compute the slope, as floats, into the buffer s: optional.
        name: The name in files; default module and qualified name.

    Raises:
        ConfigError: If the record has trained fields, or for ``register_layer``'s reasons.

    Example:
        >>> import funcnet as fn
        >>> @frozen(eq=False)
        ... class Square(fn.Layer):
        ...     pass
        >>> fn.register_elementwise(Square, value=lambda params, x: x * x, slope=lambda params, x, y: 2 * x)
        >>> fn.backward(Square(), np.array([[3.0]]), np.array([[1.0]]))
        (array([[6.]]), Square())
    """

    def forward(params: L, x: Array) -> Array:
        check_batch(record.__name__, x)
        return value(params, x)

    def backward(params: L, x: Array, g: Array) -> tuple[Array, L]:
        return vjp(params, x)[1](g)

    def vjp(params: L, x: Array) -> tuple[Array, Pullback[L]]:
        y = forward(params, x)
        return y, Pullback(lambda g: (g * slope(params, x, y), params), lambda _: params)

    def plan(params: L, x: Array) -> Plan[L]:
        y = np.empty_like(x)

        def backward(g: Array, _: L, into: Array | None) -> list[Operation]:
            if into is None:
                return []
            if slope_into is None:
                return [lambda: np.multiply(g, slope(params, x, y), into)]
            return [*slope_into(params, x, y, into), partial(np.multiply, g, into, into)]

        compute = value_into(params, x, y) if value_into else lambda: np.copyto(y, value(params, x))
        return Plan(y, [compute], backward)

    if isinstance(record, type) and issubclass(record, Layer) and fields_of(record).trained:
        raise ConfigError(f"{record.__name__} has trained fields; use register_layer")
    register_layer(record, forward=forward, backward=backward, vjp=vjp, plan=plan, output_shape=_same, name=name)


@frozen(eq=False)
class Identity(Layer):
    """``y = x``: the post's first layer. Shapes: x, y (B, ...)."""


register_elementwise(
    Identity, value=lambda _, x: x, slope=lambda _, x, __: np.ones(x.shape, np.bool_), name="funcnet.Identity"
)


@frozen(eq=False)
class ReLU(Layer):
    """``y = max(x, 0)``, with slope 0 at 0. Shapes: x, y (B, ...).

    Source: Glorot, Bordes and Bengio, "Deep sparse rectifier neural networks", AISTATS 2011.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(ReLU(), np.array([[-2.0, 3.0]]))
        array([[0., 3.]])
    """


def _positive(x: Array, s: Array) -> list[Operation]:
    """Two conversions are cheaper than one product of floats and booleans."""
    mask = np.empty(x.shape, np.bool_)
    return [partial(np.greater, x, scalar(0, x), mask), partial(np.copyto, s, mask)]


register_elementwise(
    ReLU,
    value=lambda _, x: np.maximum(x, 0),
    slope=lambda _, x, __: x > 0,
    value_into=lambda _, x, y: partial(np.maximum, x, 0, out=y),
    slope_into=lambda _, x, __, s: _positive(x, s),
    name="funcnet.ReLU",
)


@frozen(eq=False)
class Sigmoid(Layer):
    """The logistic function ``y = 1 / (1 + exp(-x))``, with slope ``y (1 - y)``. Shapes: x, y (B, ...).

    The post gives this name to tanh; that is ``Tanh`` here.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(Sigmoid(), np.array([[0.0, -1e4, 1e4]]))
        array([[0.5, 0. , 1. ]])
    """


def sigmoid(x: Array) -> Array:
    """The logistic function; the exponential is of ``-|x|``, so that it cannot overflow."""
    small = exp(-np.abs(x))
    y: Array = np.where(x >= 0, x.dtype.type(1), small) / (1 + small)
    return y


register_elementwise(Sigmoid, value=lambda _, x: sigmoid(x), slope=lambda _, __, y: y * (1 - y), name="funcnet.Sigmoid")


@frozen(eq=False)
class Tanh(Layer):
    """The hyperbolic tangent, with slope ``1 - y * y``. Shapes: x, y (B, ...). The post calls it Sigmoid.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(Tanh(), np.array([[0.0, 1.0]])).round(4)
        array([[0.    , 0.7616]])
    """


register_elementwise(
    Tanh,
    value=lambda _, x: tanh(x),
    slope=lambda _, __, y: 1 - y * y,
    value_into=lambda _, x, y: partial(tanh, x, y),
    slope_into=lambda _, x, y, s: [partial(np.multiply, y, y, s), partial(np.subtract, scalar(1, x), s, s)],
    name="funcnet.Tanh",
)
