"""Residual: a combinator, a layer made of a network."""

from __future__ import annotations

from functools import partial
from typing import Generic

import numpy as np
from attrs import frozen

from funcnet.arrays import Array, check_net_output
from funcnet.errors import ShapeError
from funcnet.layer import Layer, N, Operation, Plan, Pullback, Shape, register_layer
from funcnet.modes import calibrate
from funcnet.network import forward, output_shape, vjp
from funcnet.plans import plan_grad_x, plan_network
from funcnet.records import evolve


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
    """``grad_x = g + net's grad_x``: both paths carry g."""
    return residual_vjp(params, x)[1](g)


def residual_vjp(params: Residual[N], x: Array) -> tuple[Array, Pullback[Residual[N]]]:
    """Forward and backward with one pass through the inner network."""
    y, pull = vjp(params.net, x)
    check_net_output("Residual", x, y)

    def both(g: Array) -> tuple[Array, Residual[N]]:
        grad_x, grad_net = pull(g)
        return g + grad_x, evolve(params, net=grad_net)

    return x + y, Pullback(both, lambda g: evolve(params, net=pull.params_only(g)), lambda g: g + pull.grad_x(g))


def residual_plan(params: Residual[N], x: Array) -> Plan[Residual[N]]:
    """The same operations, on buffers."""
    inner = plan_network(params.net, x)
    y = np.empty_like(x)

    def backward(g: Array, grads: Residual[N], into: Array | None) -> list[Operation]:
        operations = list(inner.backward(g, grads.net, into))
        return operations if into is None else [*operations, partial(np.add, g, into, into)]

    def x_only(g: Array, into: Array) -> list[Operation]:
        return [*plan_grad_x(inner, params.net, g, into), partial(np.add, g, into, into)]

    forward: list[Operation] = [*inner.forward, partial(np.add, x, inner.output, y)]
    return Plan(y, forward, backward, lambda params: inner.enter(params.net), x_only)


def residual_calibrated(params: Residual[N], x: Array) -> Residual[N]:
    """What reaches the inner network is x."""
    return evolve(params, net=calibrate(params.net, x))


def residual_output_shape(params: Residual[N], shape: Shape) -> Shape:
    """The shape of x, which is net(x)'s."""
    inner = output_shape(params.net, shape)
    if inner != shape:
        raise ShapeError(f"net(x) must have the shape of x, {shape}, got {inner}", subject="Residual")
    return shape


register_layer(
    Residual,
    forward=residual_forward,
    backward=residual_backward,
    vjp=residual_vjp,
    calibrated=residual_calibrated,
    plan=residual_plan,
    output_shape=residual_output_shape,
    name="funcnet.Residual",
)
