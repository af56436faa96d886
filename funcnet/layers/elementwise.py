"""What elementwise layers share: the one function that registers them all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from funcnet.arrays import Array, check_batch
from funcnet.errors import ConfigError
from funcnet.layer import L, Layer, Operation, Plan, Pullback, Shape, register_layer
from funcnet.records import fields_of

Slope: TypeAlias = "Array | NDArray[np.bool_]"


def _same(_: Layer, shape: Shape) -> Shape:
    return shape


def register_elementwise(
    record: type[L],
    *,
    value: Callable[[L, Array], Array],
    slope: Callable[[L, Array, Array], Slope],
    value_into: Callable[[L, Array, Array], list[Operation]] | None = None,
    slope_into: Callable[[L, Array, Array, Array], list[Operation]] | None = None,
    name: str | None = None,
) -> None:
    """Register a layer without trained parameters that maps each element by itself.

    Args:
        record: As for ``register_layer``, without trained fields.
        value: ``(params, x) -> y``, elementwise, C-contiguous.
        slope: ``(params, x, y) -> dy/dx``, elementwise; y is ``value(params, x)``. Booleans stand for 0 and 1.
        value_into: ``(params, x, y) -> operations`` that compute ``value(params, x)`` into the buffer y: optional.
        slope_into: ``(params, x, y, s) -> operations`` that compute the slope, as floats, into the buffer s: optional.
        name: The name in files; default module and qualified name.

    Raises:
        ConfigError: If the record has trained fields, or for ``register_layer``'s reasons.

    Example:
        >>> from attrs import frozen
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
        """``grad_x = g * dy/dx``, element by element."""
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

        forward = value_into(params, x, y) if value_into else [lambda: np.copyto(y, value(params, x))]
        return Plan(y, forward, backward)

    if isinstance(record, type) and issubclass(record, Layer) and fields_of(record).trained:
        raise ConfigError(f"{record.__name__} has trained fields; use register_layer")
    register_layer(record, forward=forward, backward=backward, vjp=vjp, plan=plan, output_shape=_same, name=name)
