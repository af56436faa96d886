"""Repeat: a combinator, one network several times over with the same parameters."""

from __future__ import annotations

from functools import partial
from typing import Generic

import numpy as np
from attrs import frozen

from funcnet.arrays import Array, check_net_output, lock
from funcnet.errors import ShapeError
from funcnet.layer import Layer, N, Operation, Plan, Pullback, Shape, register_layer
from funcnet.modes import calibrate, calibrates, repetition
from funcnet.network import forward, output_shape, vjp
from funcnet.plans import plan_grad_x, plan_network, scratch_like
from funcnet.records import evolve
from funcnet.settings import check_count
from funcnet.trees import map_parameters, trained_arrays


@frozen(eq=False)
class Repeat(Layer, Generic[N]):
    """``y = net(net(... net(x)))``, net ``times`` times, with the same parameters. Shapes: x, net(x), y (B, ...).

    It computes what the tuple ``(net,) * times`` does; its gradient is the sum of that tuple's, added from the last
    repetition to the first.

    In training each repetition draws by itself: Dropout in net has, in repetition i, the child ``("repetition", i)`` of
    the key that ``training`` gave it. With one mask for all, what is kept would be scaled ``times`` times, and the mean
    would not stay. BatchNorm in net normalises each repetition by itself in training, and evaluates them all with one
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
    return repeat_vjp(params, x)[1](g)


def repeat_vjp(params: Repeat[N], x: Array) -> tuple[Array, Pullback[Repeat[N]]]:
    """Forward and backward with one pass through the network a repetition."""
    pulls: list[Pullback[N]] = []
    for number in range(params.times):
        y, pull = vjp(repetition(params.net, number), x)
        check_net_output("Repeat", x, y)
        pulls.append(pull)
        x = y

    def total(grads: list[N]) -> Repeat[N]:
        net = map_parameters(lambda _, g: g, params.net, grads[0])
        for each in grads[1:]:
            net = map_parameters(lambda a, b: lock(a + b), net, each)
        return evolve(params, net=net)

    def after_the_first(g: Array) -> tuple[Array, list[N]]:
        grads: list[N] = []
        for pull in pulls[:0:-1]:
            g, grad = pull(g)
            grads.append(grad)
        return g, grads

    def both(g: Array) -> tuple[Array, Repeat[N]]:
        g, grads = after_the_first(g)
        g, grad = pulls[0](g)
        return g, total([*grads, grad])

    def params_only(g: Array) -> Repeat[N]:
        g, grads = after_the_first(g)
        return total([*grads, pulls[0].params_only(g)])

    def x_only(g: Array) -> Array:
        for pull in reversed(pulls):
            g = pull.grad_x(g)
        return g

    return x, Pullback(both, params_only, x_only)


def repeat_plan(params: Repeat[N], x: Array) -> Plan[Repeat[N]]:
    """The same operations, on buffers: those of a repetition for each, the parameters' for all."""
    plans: list[Plan[N]] = []
    for number in range(params.times):
        plans.append(plan_network(repetition(params.net, number), x))
        x = plans[-1].output

    def backward(g: Array, grads: Repeat[N], into: Array | None) -> list[Operation]:
        scratch, operations = scratch_like(grads.net), list[Operation]()
        pairs = list(zip(trained_arrays(grads.net), trained_arrays(scratch), strict=True))
        for number in reversed(range(params.times)):
            target = np.empty_like(x) if number else into
            last = number == params.times - 1
            operations += plans[number].backward(g, grads.net if last else scratch, target)
            operations += [] if last else [partial(np.add, total, grad, total) for total, grad in pairs]
            g = g if target is None else target
        return operations

    def x_only(g: Array, into: Array) -> list[Operation]:
        operations: list[Operation] = []
        for number in reversed(range(params.times)):
            target = np.empty_like(x) if number else into
            operations += plan_grad_x(plans[number], params.net, g, target)
            g = target
        return operations

    def enter(params: Repeat[N]) -> None:
        for number, plan in enumerate(plans):
            plan.enter(repetition(params.net, number))

    return Plan(x, [run for plan in plans for run in plan.forward], backward, enter, x_only)


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
    vjp=repeat_vjp,
    calibrated=repeat_calibrated,
    plan=repeat_plan,
    output_shape=repeat_output_shape,
    name="funcnet.Repeat",
)
