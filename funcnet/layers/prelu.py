"""PReLU: the activation with trained slopes."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from funcnet.arithmetic import maximum, minimum, sum_rows
from funcnet.core.arrays import Array, FloatDType, lock
from funcnet.core.checks import check_array, check_channels, check_count, check_number, check_row_shape, check_size
from funcnet.core.records import evolve
from funcnet.core.trees import float_dtype
from funcnet.network.layer import Layer, Shape, register_layer


@frozen(eq=False)
class PReLU(Layer):
    """``y = max(x, 0) + slope * min(x, 0)`` with a trained slope, one for all numbers or one for each channel.

    Shapes: x, y (B, ..., C), slope (C,); or x, y (B, ...), slope (1,). The derivative at 0 is the slope. Weight decay
    does not apply to the slope, as in the source. PyTorch calls the slope weight, Keras alpha.

    Source: He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015, section 2.1.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.PReLU(slope=np.array([0.5]))
        >>> fn.forward(layer, np.array([[-2.0, 3.0]]))
        array([[-1.,  3.]])
        >>> grad_x, grad = fn.backward(layer, np.array([[-2.0, 3.0]]), np.array([[10.0, 10.0]]))
        >>> grad_x, grad.slope  # 10 * 0.5 and 10; 10 * -2
        (array([[ 5., 10.]]), array([-20.]))
    """

    slope: Array

    def check(self) -> None:
        """Check that slope is a vector of at least one element."""
        check_array("PReLU", "slope", self.slope, ("C",))
        check_count("PReLU", "slope's size", self.slope.size)


def prelu_forward(params: PReLU, x: Array) -> Array:
    """``y = max(x, 0) + slope * min(x, 0)``: one of the two terms is 0."""
    if params.slope.size > 1:
        check_channels("PReLU", x, "slope", params.slope)
    else:
        check_array("PReLU", "x", x, ("B", "..."), dtype=params.slope.dtype, match=("slope", params.slope))
    return maximum(x, 0) + params.slope * minimum(x, 0)


def prelu_backward(params: PReLU, x: Array, g: Array) -> tuple[Array, PReLU]:
    """``dy/dx`` is 1 above 0, else the slope, and ``dy/dslope = min(x, 0)``.

    ``grad_x = g * where(x > 0, 1, slope)``. A slope serves every row and every position, so
    ``grad_slope = sum(g * min(x, 0))`` over all numbers that have the slope.
    """
    grad_x = g * np.where(x > 0, x.dtype.type(1), params.slope)
    products = g * minimum(x, 0)
    return grad_x, evolve(params, slope=sum_rows(products.reshape(-1, params.slope.size)))


def prelu_output_shape(params: PReLU, shape: Shape) -> Shape:
    """The shape of y's rows, which is that of x's rows."""
    if params.slope.size > 1:
        check_row_shape("PReLU", shape, ("...", params.slope.size), ("slope", params.slope))
    return shape


register_layer(
    PReLU, forward=prelu_forward, backward=prelu_backward, output_shape=prelu_output_shape, name="funcnet.PReLU"
)


def prelu(size: int = 1, *, slope: float = 0.25, dtype: FloatDType = np.float32) -> PReLU:
    """Create a PReLU whose slopes are equal. The defaults are those of PyTorch.

    Args:
        size: 1 for one slope, or C, the size of the last axis, for one slope for each channel.
        slope: The slopes before the training.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If the size is not a positive int, the slope is not finite in the dtype, or the dtype is invalid.

    Example:
        >>> prelu()
        PReLU(slope=float32 (1,))
        >>> prelu(2, slope=0.5, dtype=np.float64).slope
        array([0.5, 0.5])
    """
    size, kind = check_size("prelu", "size", size), float_dtype(dtype)
    largest = float(np.finfo(kind).max)
    check_number("prelu", "slope", slope, low=-largest, high=largest)
    return PReLU(lock(np.full(size, slope, kind)))
