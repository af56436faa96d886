"""Repeat: a combinator, one network several times over with the same parameters."""

from __future__ import annotations

from typing import Generic

import numpy as np
from attrs import frozen

from funcnet.core.arrays import Array, lock
from funcnet.core.checks import check_count, check_net_output
from funcnet.core.errors import ShapeError
from funcnet.core.records import evolve
from funcnet.core.trees import map_parameters
from funcnet.network.layer import Layer, N, Pullback, Shape, register_layer
from funcnet.network.modes import calibrate, calibrates, repetition
from funcnet.network.passes import forward, output_shape, vjp


@frozen(eq=False)
class Repeat(Layer, Generic[N]):
    """``y = net(net(... net(x)))``, net ``times`` times, with the same parameters. Shapes: x, net(x), y (B, ...).

    It computes what the tuple ``(net,) * times`` does; its gradient is the sum of that tuple's, added from the last
    repetition to the first.

    In training each repetition draws by itself: Dropout in net has, in repetition i, the child ``("repetition", i)`` of
    the key that ``training`` gave it. With one mask for all, what is kept would be scaled ``times`` times, and the mean
    would not stay. BatchNorm in net normalizes each repetition by itself in training, and evaluates them all with one
    set of statistics, as in PyTorch: those of what enters net in any repetition. A LayerNorm has no such gap.

    Source: Lan et al., "ALBERT: a lite BERT for self-supervised learning of language representations", ICLR 2020, for
    layers that share their parameters.

    Example:
        >>> import funcnet as fn
        >>> double = fn.Dense(weight=np.array([[2.0]]), bias=np.array([0.0]))
        >>> fn.forward(Repeat(double, 3), np.array([[1.0]]))
        array([[8.]])
    """

    net: N
    times: int

    def check(self) -> None:
        """Once or more."""
        check_count("Repeat", "times", self.times)


def repeat_forward(params: Repeat[N], x: Array) -> Array:
    """``net`` of what it gave before, from x on."""
    for number in range(params.times):
        y = forward(repetition(params.net, number), x)
        check_net_output("Repeat", x, y)
        x = y
    return x


def repeat_backward(params: Repeat[N], x: Array, g: Array) -> tuple[Array, Repeat[N]]:
    """Back through every repetition. A parameter's gradient is the sum of its gradients in each of its places."""
    pulls: list[Pullback[N]] = []
    for number in range(params.times):
        x, pull = vjp(repetition(params.net, number), x)
        pulls.append(pull)
    g, grads = pulls.pop()(g)
    total = map_parameters(lambda _, grad: grad, params.net, grads)
    for pull in reversed(pulls):
        g, grads = pull(g)
        total = map_parameters(lambda a, b: lock(a + b), total, grads)
    return g, evolve(params, net=total)


def repeat_calibrated(params: Repeat[N], x: Array) -> Repeat[N]:
    """What reaches the network is x, and what each repetition, calibrated on what reached it, makes of that."""
    if not calibrates(params.net):
        return params
    reached = [x]
    for _ in range(params.times - 1):
        reached.append(forward(calibrate(params.net, reached[-1]), reached[-1]))
        check_net_output("Repeat", *reached[-2:])
    return evolve(params, net=calibrate(params.net, np.concatenate(reached)))


def repeat_output_shape(params: Repeat[N], shape: Shape) -> Shape:
    """The shape of x, which is net(x)'s."""
    inner = output_shape(params.net, shape)
    if inner != shape:
        raise ShapeError(f"net(x) must have the shape of x, {shape}, got {inner}", subject="Repeat")
    return shape


register_layer(
    Repeat,
    forward=repeat_forward,
    backward=repeat_backward,
    calibrated=repeat_calibrated,
    output_shape=repeat_output_shape,
    name="funcnet.Repeat",
)
