"""Residual: a combinator that adds a network's output to its input."""

from __future__ import annotations

from typing import Generic

from attrs import frozen

from funcnet.core.arrays import Array
from funcnet.core.checks import check_net_output
from funcnet.core.errors import ShapeError
from funcnet.core.records import evolve
from funcnet.network.layer import Layer, N, Shape, register_layer
from funcnet.network.modes import calibrate
from funcnet.network.passes import backward, forward, output_shape


@frozen(eq=False)
class Residual(Layer, Generic[N]):
    """``y = x + net(x)``. Shapes: x, net(x), y (B, ...), all the same.

    Source: He et al., "Deep residual learning for image recognition", CVPR 2016.

    Example:
        >>> import numpy as np
        >>> import funcnet as fn
        >>> fn.forward(Residual(fn.ReLU()), np.array([[-1.0, 2.0]]))
        array([[-1.,  4.]])
        >>> fn.backward(Residual(fn.ReLU()), np.array([[-1.0, 2.0]]), np.array([[3.0, 5.0]]))[0]
        array([[ 3., 10.]])
    """

    net: N


def residual_forward(params: Residual[N], x: Array) -> Array:
    """``y = x + net(x)``."""
    y = forward(params.net, x)
    check_net_output("Residual", x, y)
    return x + y


def residual_backward(params: Residual[N], x: Array, g: Array) -> tuple[Array, Residual[N]]:
    """``grad_x = g + grad_x of net``: ``<g, y> = <g, x> + <g, net(x)>``, so g flows through both paths."""
    grad_x, grad_net = backward(params.net, x, g)
    return g + grad_x, evolve(params, net=grad_net)


def residual_calibrated(params: Residual[N], x: Array) -> Residual[N]:
    """Calibrate net with x, which is its input."""
    return evolve(params, net=calibrate(params.net, x))


def residual_output_shape(params: Residual[N], shape: Shape) -> Shape:
    """The row shape of x, which net(x) must have, too."""
    inner = output_shape(params.net, shape)
    if inner != shape:
        raise ShapeError(f"net(x) must have the shape of x, {shape}, got {inner}", subject="Residual")
    return shape


register_layer(
    Residual,
    forward=residual_forward,
    backward=residual_backward,
    calibrated=residual_calibrated,
    output_shape=residual_output_shape,
    name="funcnet.Residual",
)
