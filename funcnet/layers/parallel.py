"""Parallel: a combinator, several networks side by side on one input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from itertools import accumulate, pairwise
from typing import Final, Generic, Literal, TypeAlias, TypeVar, cast, get_args

import numpy as np
from attrs import frozen

from funcnet.arrays import Array, check_array
from funcnet.errors import ConfigError, FuncnetError, ShapeError
from funcnet.layer import Layer, Network, Operation, Plan, Pullback, Shape, register_layer
from funcnet.modes import calibrate
from funcnet.network import forward, output_shape, vjp
from funcnet.plans import plan_grad_x, plan_network
from funcnet.records import evolve
from funcnet.settings import check_choice

M = TypeVar("M", bound="tuple[Network, ...]")
T = TypeVar("T")
Combine: TypeAlias = Literal["add", "concat"]


@frozen(eq=False)
class Parallel(Layer, Generic[M]):
    """``y = nets[0](x) + nets[1](x) + ...``, or their concatenation along the last axis with ``combine="concat"``.

    Every network gets x. Sums, of outputs and of the gradients by x, are taken in the order of nets. Shapes: x (B,
    ...); all outputs and y the same, or with "concat" the same but for the last axis, whose sizes add up.

    Source: Szegedy et al., "Going deeper with convolutions", CVPR 2015, for branches that are concatenated.

    Example:
        >>> import funcnet as fn
        >>> x = np.array([[-1.0, 2.0]])
        >>> fn.forward(Parallel((fn.ReLU(), fn.Identity())), x)
        array([[-1.,  4.]])
        >>> fn.forward(Parallel((fn.ReLU(), fn.Identity()), "concat"), x)
        array([[ 0.,  2., -1.,  2.]])
    """

    nets: M
    combine: Combine = "add"

    def check(self) -> None:
        """A tuple of one network or more, and a known way to combine."""
        if not isinstance(self.nets, tuple) or not self.nets:
            fix = "; use (net,)" if not isinstance(self.nets, tuple) else ""
            raise ConfigError(f"nets must be a tuple of at least one network, got {self.nets!r}{fix}", subject=_NAME)
        check_choice(_NAME, "combine", self.combine, get_args(Combine))


_NAME: Final = "Parallel"


def _each(f: Callable[[Network], T], nets: tuple[Network, ...]) -> list[T]:
    """What f gives for each network; an error is told by the network's position."""
    found: list[T] = []
    try:
        for net in nets:
            found.append(f(net))  # noqa: PERF401  # the error's position is how many there are
    except FuncnetError as error:
        error.enter(len(found))
        raise
    return found


def _pattern(first: Shape, combine: Combine) -> tuple[int | str, ...]:
    """What the other networks' outputs must be like."""
    return first if combine == "add" else (*first[:-1], "C")


def _check(params: Parallel[M], ys: list[Array]) -> None:
    first = ys[0]
    if params.combine == "concat" and first.ndim < 2:
        raise ShapeError(f"nets[0](x) must have an axis to concatenate along, got {first.shape}", subject=_NAME)
    pattern = _pattern(first.shape, params.combine)
    for position, y in enumerate(ys[1:], 1):
        name, match = f"nets[{position}](x)", ("nets[0](x)", first)
        check_array(_NAME, name, y, pattern, dtype=first.dtype, match=match)


def _bounds(ys: list[Array]) -> list[tuple[int, int]]:
    """Where each output begins and ends in the concatenated ones."""
    return list(pairwise(accumulate((y.shape[-1] for y in ys), initial=0)))


def _sum(arrays: list[Array]) -> Array:
    return reduce(np.add, arrays)


def parallel_forward(params: Parallel[M], x: Array) -> Array:
    """The outputs' sum or concatenation."""
    return _combined(params, _each(lambda net: forward(net, x), params.nets))


def _combined(params: Parallel[M], ys: list[Array]) -> Array:
    _check(params, ys)
    return _sum(ys) if params.combine == "add" else np.concatenate(ys, axis=-1)


def parallel_backward(params: Parallel[M], x: Array, g: Array) -> tuple[Array, Parallel[M]]:
    """Each network pulls back g, or its part of it; ``grad_x`` is the sum of what they give."""
    return parallel_vjp(params, x)[1](g)


def parallel_vjp(params: Parallel[M], x: Array) -> tuple[Array, Pullback[Parallel[M]]]:
    """Forward and backward with one pass through each network."""
    passes = _each(lambda net: vjp(net, x), params.nets)
    ys, pulls = [y for y, _ in passes], [pull for _, pull in passes]
    y = _combined(params, ys)

    def pulls_and_parts(g: Array) -> list[tuple[Pullback[Network], Array]]:
        add = params.combine == "add"
        parts = [g] * len(ys) if add else [g[..., start:stop] for start, stop in _bounds(ys)]
        return list(zip(pulls, parts, strict=True))

    def with_nets(nets: list[Network]) -> Parallel[M]:
        return evolve(params, nets=cast("M", tuple(nets)))

    def both(g: Array) -> tuple[Array, Parallel[M]]:
        pulled = [pull(part) for pull, part in pulls_and_parts(g)]
        return _sum([grad_x for grad_x, _ in pulled]), with_nets([grads for _, grads in pulled])

    def params_only(g: Array) -> Parallel[M]:
        return with_nets([pull.params_only(part) for pull, part in pulls_and_parts(g)])

    def x_only(g: Array) -> Array:
        return _sum([pull.grad_x(part) for pull, part in pulls_and_parts(g)])

    return y, Pullback(both, params_only, x_only)


# ------------------------------------------------------------------------------------------------ on buffers


def parallel_plan(params: Parallel[M], x: Array) -> Plan[Parallel[M]]:
    """The same operations, on buffers."""
    plans = [plan_network(net, x) for net in params.nets]
    y, combining = _planned_combined(params, [plan.output for plan in plans])

    def backward(g: Array, grads: Parallel[M], into: Array | None) -> list[Operation]:
        def one(position: int, part: Array, target: Array | None) -> Sequence[Operation]:
            return plans[position].backward(part, grads.nets[position], target)

        if into is None:
            cuts, parts = _planned_parts(params, plans, g)
            return [*cuts, *(run for i, part in enumerate(parts) for run in one(i, part, None))]
        return _planned_sum(params, plans, g, into, one)

    def x_only(g: Array, into: Array) -> list[Operation]:
        def one(position: int, part: Array, target: Array) -> Sequence[Operation]:
            return plan_grad_x(plans[position], params.nets[position], part, target)

        return _planned_sum(params, plans, g, into, one)

    def enter(params: Parallel[M]) -> None:
        for plan, net in zip(plans, params.nets, strict=True):
            plan.enter(net)

    return Plan(y, [*(run for plan in plans for run in plan.forward), *combining], backward, enter, x_only)


def _planned_combined(params: Parallel[M], ys: list[Array]) -> tuple[Array, list[Operation]]:
    """The buffer of the combined outputs, and the operations that fill it."""
    if params.combine == "concat":
        y = np.empty_like(ys[0], shape=(*ys[0].shape[:-1], _bounds(ys)[-1][1]))
        return y, [partial(np.concatenate, ys, axis=-1, out=y)]
    y = np.empty_like(ys[0])
    return y, _planned_total(ys, y)


def _planned_total(arrays: list[Array], out: Array) -> list[Operation]:
    """The sum in order; ``out`` may be the first of them."""
    first, *rest = arrays
    if not rest:
        return [partial(np.copyto, out, first)] if out is not first else []
    return [partial(np.add, first, rest[0], out), *(partial(np.add, out, each, out) for each in rest[1:])]


def _planned_parts(params: Parallel[M], plans: list[Plan[Network]], g: Array) -> tuple[list[Operation], list[Array]]:
    """The operations that cut g into parts, and for each network the buffer of what it pulls back."""
    if params.combine == "add":
        return [], [g] * len(plans)
    ys = [plan.output for plan in plans]
    parts = [np.empty_like(y) for y in ys]
    bounds = zip(parts, _bounds(ys), strict=True)
    return [partial(np.copyto, part, g[..., start:stop]) for part, (start, stop) in bounds], parts


def _planned_sum(
    params: Parallel[M],
    plans: list[Plan[Network]],
    g: Array,
    into: Array,
    one: Callable[[int, Array, Array], Sequence[Operation]],
) -> list[Operation]:
    """``grad_x``: the sum of what ``one(position, g's part, target)`` gives for each network."""
    operations, parts = _planned_parts(params, plans, g)
    targets = [into, *(np.empty_like(into) for _ in parts[1:])]
    for position, (part, target) in enumerate(zip(parts, targets, strict=True)):
        operations += one(position, part, target)
    return [*operations, *_planned_total(targets, into)]


# ------------------------------------------------------------------------------------------------ other hooks


def parallel_calibrated(params: Parallel[M], x: Array) -> Parallel[M]:
    """What reaches each network is x."""
    return evolve(params, nets=cast("M", tuple(_each(lambda net: calibrate(net, x), params.nets))))


def parallel_output_shape(params: Parallel[M], shape: Shape) -> Shape:
    """That of every output; with "concat" the last axes' sizes add up."""
    shapes = _each(lambda net: output_shape(net, shape), params.nets)
    first, add = shapes[0], params.combine == "add"
    if not (add or first):
        raise ShapeError("nets[0](x) must have an axis to concatenate along, got rows of shape ()", subject=_NAME)
    for position, other in enumerate(shapes):
        if other != first if add else (len(other) != len(first) or other[:-1] != first[:-1]):
            wanted = f"rows of shape {first}, as nets[0](x) has" + ("" if add else ", but for the last axis")
            raise ShapeError(f"nets[{position}](x) must have {wanted}, got {other}", subject=_NAME)
    return first if add else (*first[:-1], sum(other[-1] for other in shapes))


register_layer(
    Parallel,
    forward=parallel_forward,
    backward=parallel_backward,
    vjp=parallel_vjp,
    calibrated=parallel_calibrated,
    plan=parallel_plan,
    output_shape=parallel_output_shape,
    name="funcnet.Parallel",
)
