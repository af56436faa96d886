"""Layers that change the shape and keep the numbers: Flatten, Reshape."""

from __future__ import annotations

import math
from collections.abc import Callable

from attrs import frozen

from funcnet.core.arrays import Array
from funcnet.core.checks import check_batch, check_count
from funcnet.core.errors import ConfigError, ShapeError
from funcnet.network.layer import L, Layer, Shape, register_layer


def register_reshaping(record: type[L], *, shape: Callable[[L, Shape], Shape], name: str) -> None:
    """Register a layer that keeps the order of each row's numbers; ``shape(params, shape)`` is the new row shape."""

    def forward(params: L, x: Array) -> Array:
        check_batch(record.__name__, x)
        return x.reshape(len(x), *shape(params, x.shape[1:]))

    def backward(params: L, x: Array, g: Array) -> tuple[Array, L]:
        """``grad_x`` is g in the shape of x, because y has the same numbers as x, in the same order."""
        return g.reshape(x.shape), params

    register_layer(record, forward=forward, backward=backward, output_shape=shape, name=name)


@frozen(eq=False)
class Flatten(Layer):
    """Each row as a vector, in C order, for example between image layers and Dense. Shapes: x (B, ...), y (B, O).

    Example:
        >>> import numpy as np
        >>> import funcnet as fn
        >>> fn.forward(Flatten(), np.array([[[1.0, 2.0], [3.0, 4.0]]]))
        array([[1., 2., 3., 4.]])
        >>> fn.forward(Flatten(), np.zeros((2, 28, 28, 1))).shape
        (2, 784)
    """


register_reshaping(Flatten, shape=lambda _, shape: (math.prod(shape),), name="funcnet.Flatten")


@frozen(eq=False)
class Reshape(Layer):
    """Each row in a new shape, in C order. Shapes: x (B, ...), y ``(B, *shape)``.

    Example:
        >>> import numpy as np
        >>> import funcnet as fn
        >>> fn.forward(Reshape((2, 2)), np.array([[1.0, 2.0, 3.0, 4.0]]))
        array([[[1., 2.],
                [3., 4.]]])
        >>> fn.forward(Reshape((28, 28, 1)), np.zeros((2, 784))).shape
        (2, 28, 28, 1)
    """

    shape: Shape

    def check(self) -> None:
        """Check that shape is a tuple of positive sizes."""
        if not isinstance(self.shape, tuple):
            fix = f"; use ({self.shape},)" if isinstance(self.shape, int) else ""
            reason = f"shape must be a tuple of sizes without the batch, got {self.shape!r}{fix}"
            raise ConfigError(reason, subject="Reshape")
        for size in self.shape:
            check_count("Reshape", "a size", size)


def _reshaped(params: Reshape, shape: Shape) -> Shape:
    if math.prod(shape) != math.prod(params.shape):
        sizes = f"{math.prod(params.shape)} numbers to fit {params.shape}"
        raise ShapeError(f"x must have rows of {sizes}, got {shape}, which has {math.prod(shape)}", subject="Reshape")
    return params.shape


register_reshaping(Reshape, shape=_reshaped, name="funcnet.Reshape")
