"""Plans: a network or a loss bound to buffers, for folds over batches of one shape.

A plan has the bits of the pure functions. Layers and losses without one of their own get copies and never see a buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType
from typing import Any, Final, Protocol, TypeAlias, TypeVar, cast, overload

import numpy as np
from attrs import frozen

from funcnet.arrays import Array, lock
from funcnet.layer import L, N, Network, Operation, Plan, Pullback, rule_of
from funcnet.network import Loss, weighted_loss
from funcnet.trees import first_trained, on_arrays, trained_arrays

R = TypeVar("R")
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


@frozen(eq=False, repr=False)
class Memory:
    """A network's trained arrays in memory: ``flat`` is all of it, ``parts`` each array, ``decayed`` the weights."""

    flat: Array
    parts: tuple[Array, ...]
    decayed: tuple[Array, ...]


def copy(array: Array) -> Array:
    """A locked copy."""
    return lock(array.copy())


def scalar(value: float, like: Array) -> Array:
    """A number as an operation on buffers takes it soonest: an array of no axes, in the dtype of its neighbours."""
    with np.errstate(all="ignore"):  # a step that is too long shows in what it computes
        return lock(np.array(value, like.dtype))


def plan_network(params: N, x: Array) -> Plan[N]:
    """Bind a network to the buffers of its parameters and of its input."""
    if not isinstance(params, tuple):
        plan = rule_of(params).plan
        return cast("Plan[N]", plan(params, x) if plan else _plain_plan(params, x))
    plans: list[Plan[Network]] = []
    for layer in params:
        plans.append(plan_network(layer, plans[-1].output if plans else x))

    def backward(g: Array, grads: N, into: Array | None) -> list[Operation]:
        operations: list[Operation] = []
        stop = 0 if into is not None else first_trained(params)
        for i in range(len(plans) - 1, stop - 1, -1):
            target = np.empty_like(plans[i - 1].output) if i > stop else into
            operations += plans[i].backward(g, cast("tuple[Network, ...]", grads)[i], target)
            g = g if target is None else target
        return operations if plans or into is None else [partial(np.copyto, into, g)]

    def x_only(g: Array, into: Array) -> list[Operation]:
        operations: list[Operation] = []
        for i in range(len(plans) - 1, -1, -1):
            target = np.empty_like(plans[i - 1].output) if i else into
            operations += plan_grad_x(plans[i], params[i], g, target)
            g = target
        return operations if plans else [partial(np.copyto, into, g)]

    def enter(params: N) -> None:
        for plan, layer in zip(plans, cast("tuple[Network, ...]", params), strict=True):
            plan.enter(layer)

    forward = [run for plan in plans for run in plan.forward]
    return Plan(plans[-1].output if plans else x, forward, backward, enter, x_only)


def plan_grad_x(plan: Plan[N], params: N, g: Array, into: Array) -> Sequence[Operation]:
    """The operations that compute the input's gradient; what else they compute nobody sees."""
    return plan.backward(g, scratch_like(params), into) if plan.x_only is None else plan.x_only(g, into)


def scratch_like(params: N) -> N:
    """The network on buffers of its own, without values: for gradients that are no result yet, or never."""
    return on_arrays(params, iter([np.empty_like(array) for array in trained_arrays(params)]))


def _plain_plan(params: L, x: Array) -> Plan[L]:
    """For a layer without a plan of its own: its pure functions, and copies, so that they see no buffer."""
    rule, current = rule_of(params), [params]
    pulls: list[Pullback[L]] = []

    def enter(params: L) -> None:
        current[:] = [params]

    def values() -> tuple[L, Array]:
        return on_arrays(current[0], iter([copy(array) for array in trained_arrays(params)])), copy(x)

    def forward() -> None:
        y, pull = rule.vjp(*values())
        np.copyto(output, y)
        pulls[:] = [pull]

    def backward(g: Array, grads: L, into: Array | None) -> list[Operation]:
        targets = trained_arrays(grads)

        def pull_back() -> None:
            if into is None:
                grad = pulls[0].params_only(copy(g))
            else:
                grad_x, grad = pulls[0](copy(g))
                np.copyto(into, grad_x)
            for target, array in zip(targets, trained_arrays(grad), strict=True):
                np.copyto(target, array)

        return [pull_back]

    output = np.array(rule.forward(*values()))
    return Plan(output, [forward], backward, enter)


PlannedLoss: TypeAlias = Callable[[Array, Array], Callable[[Any], float]]
"""``(prediction, g) -> (target -> loss)``: a loss bound to buffers; each call also computes the gradient into g."""

_LOSS_PLANS: Final[dict[object, Callable[..., Callable[[Any], float]]]] = {}


@overload
def register_loss_plan(loss: type[R], plan: Callable[[R, Array, Array], Callable[[Any], float]]) -> None: ...
@overload
def register_loss_plan(loss: Loss[Any], plan: PlannedLoss) -> None: ...
def register_loss_plan(loss: object, plan: Callable[..., Callable[[Any], float]]) -> None:
    """Give a loss a form on buffers, with the same bits, for a fold over batches of one shape.

    For a type of records, the plan gets the record first.
    """
    _LOSS_PLANS[loss] = plan


class BoundLoss(Protocol[T_contra]):
    """A loss bound to buffers: of a target and weights of its rows."""

    def __call__(self, target: T_contra, weight: Array | None = None, /) -> float:
        """The loss."""
        ...


def plan_loss(loss: Loss[T], prediction: Array, g: Array) -> BoundLoss[T]:
    """Bind a loss to buffers: its registered form, or else the loss itself and copies, so that it sees no buffer.

    With weights, too, it is the loss itself.
    """
    planned = _planned_loss(loss, prediction, g)

    def run(target: T, weight: Array | None = None, /) -> float:
        if planned is not None and weight is None:
            return planned(target)
        value, gradient = weighted_loss(loss, copy(prediction), target, weight)
        np.copyto(g, gradient)
        return value

    return run


def _planned_loss(loss: Loss[T], prediction: Array, g: Array) -> Callable[[T], float] | None:
    if isinstance(loss, FunctionType):
        plan = _LOSS_PLANS.get(loss)
        return plan(prediction, g) if plan else None
    plan = _LOSS_PLANS.get(type(loss))
    return plan(loss, prediction, g) if plan else None
