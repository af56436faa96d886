"""Repeat: a combinator that applies one network several times with the same parameters."""

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
    """``y = net(net(... net(x)))``, net applied ``times`` times. Shapes: x, net(x), y (B, ...), all the same.

    It computes the same output as the tuple ``(net,) * times``. Its gradient is the sum of the gradients in that
    tuple, added from the last repetition to the first.

    In training, each repetition draws independently: in repetition i, a Dropout in net uses the child
    ``("repetition", i)`` of the key that ``training`` gave it. With one mask for all repetitions, the kept elements
    would be scaled ``times`` times, and the mean would change. A BatchNorm in net normalizes each repetition separately
    in training but evaluates all of them with one set of statistics, those of the inputs of all repetitions, as in
    PyTorch. LayerNorm has no such difference.

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
        """Check that times is a positive int."""
        check_count("Repeat", "times", self.times)


def repeat_forward(params: Repeat[N], x: Array) -> Array:
    """Apply net to x, then to its own output, ``times`` times in all."""
    for number in range(params.times):
        y = forward(repetition(params.net, number), x)
        check_net_output("Repeat", x, y)
        x = y
    return x


def repeat_backward(params: Repeat[N], x: Array, g: Array) -> tuple[Array, Repeat[N]]:
    """Pull g back through every repetition, from the last to the first.

    With a separate copy of the parameters for each repetition, the chain rule gives each copy its gradient. All copies
    are one parameter, whose gradient is therefore the sum of theirs.
    """
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
    """Calibrate net on the inputs of all repetitions: x, and the outputs of all repetitions except the last.

    These outputs are computed with net calibrated on the input of the repetition.
    """
    if not calibrates(params.net):
        return params
    reached = [x]
    for _ in range(params.times - 1):
        reached.append(forward(calibrate(params.net, reached[-1]), reached[-1]))
        check_net_output("Repeat", *reached[-2:])
    return evolve(params, net=calibrate(params.net, np.concatenate(reached)))


def repeat_output_shape(params: Repeat[N], shape: Shape) -> Shape:
    """The row shape of x, which net(x) must have, too."""
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
