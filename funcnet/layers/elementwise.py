"""Elementwise layers: the function that registers them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Never, TypeAlias

import numpy as np
from numpy.typing import NDArray

from funcnet.core.arrays import Array
from funcnet.core.checks import check_batch, check_callable
from funcnet.core.errors import ConfigError
from funcnet.core.records import fields_of
from funcnet.network.layer import L, Layer, Shape, check_keywords, register_layer

Slope: TypeAlias = "Array | NDArray[np.bool_]"


def _same(_: Layer, shape: Shape) -> Shape:
    return shape


def register_elementwise(
    record: type[L],
    *,
    value: Callable[[L, Array], Array],
    slope: Callable[[L, Array, Array], Slope],
    name: str | None = None,
    **removed: Never,
) -> None:
    """Register a layer without trained parameters that maps each element independently.

    Args:
        record: A record class as for ``register_layer``, without trained fields.
        value: ``(params, x) -> y``, elementwise and C-contiguous.
        slope: ``(params, x, y) -> dy/dx``, elementwise, with ``y = value(params, x)``. Booleans mean 0 and 1.
        name: The name in files. The default is the module and the qualified name.
        removed: The keywords of earlier versions, ``value_into`` and ``slope_into``. They are refused with the advice
            to delete them.

    Raises:
        ConfigError: If the record has trained fields, if value or slope is not a function, or if ``register_layer``
            refuses the record.

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
        """``grad_x = g * dy/dx``, because y[i] depends on x[i] only."""
        return g * slope(params, x, value(params, x)), params

    reason = "value and slope are all that an elementwise layer needs"
    check_keywords("register_elementwise", removed, ("value_into", "slope_into"), reason)
    if isinstance(record, type) and issubclass(record, Layer) and fields_of(record).trained:
        raise ConfigError(f"{record.__name__} has trained fields; use register_layer")
    check_callable("register_elementwise", "value", value)
    check_callable("register_elementwise", "slope", slope)
    register_layer(record, forward=forward, backward=backward, output_shape=_same, name=name)
    forward.__name__, backward.__name__ = (f"{record.__name__}.{part}" for part in ("forward", "backward"))
