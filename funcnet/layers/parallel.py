"""Parallel: a combinator that applies several networks to one input."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from itertools import accumulate, pairwise
from typing import Final, Generic, Literal, TypeAlias, TypeVar, cast, get_args

import numpy as np
from attrs import frozen

from funcnet.core.arrays import Array
from funcnet.core.checks import check_array, check_choice
from funcnet.core.errors import ConfigError, ShapeError
from funcnet.core.records import evolve
from funcnet.network.layer import Layer, Network, Shape, entering, register_layer
from funcnet.network.modes import calibrate
from funcnet.network.passes import forward, output_shape, vjp

M = TypeVar("M", bound="tuple[Network, ...]")
A = TypeVar("A")
T = TypeVar("T")
Combine: TypeAlias = Literal["add", "concat", "multiply"]


@frozen(eq=False)
class Parallel(Layer, Generic[M]):
    """``y = nets[0](x) + nets[1](x) + ...``, or the outputs' product, or their concatenation along the last axis.

    Every network gets x. The outputs are added or multiplied, and the gradients by x are added, in the order of nets.
    Shapes: x (B, ...). With "add" and "multiply", all outputs and y have one shape. With "concat", only the sizes of
    the last axis may differ; they add up.

    A gate is a product: ``Parallel((net, (fn.dense(key, 8, 4), fn.Sigmoid())), "multiply")`` lets through the share of
    each output of net that the Dense layer chooses.

    Source: Szegedy et al., "Going deeper with convolutions", CVPR 2015, for concatenated branches; Dauphin, Fan, Auli
    and Grangier, "Language modeling with gated convolutional networks", ICML 2017, for gates.

    Example:
        >>> import funcnet as fn
        >>> x = np.array([[-1.0, 2.0]])
        >>> fn.forward(Parallel((fn.ReLU(), fn.Identity())), x)
        array([[-1.,  4.]])
        >>> fn.forward(Parallel((fn.ReLU(), fn.Identity()), "concat"), x)
        array([[ 0.,  2., -1.,  2.]])
        >>> fn.forward(Parallel((fn.ReLU(), fn.Identity()), "multiply"), x)
        array([[-0.,  4.]])
    """

    nets: M
    combine: Combine = "add"

    def check(self) -> None:
        """Check that nets is a nonempty tuple and that combine is "add", "concat" or "multiply"."""
        if not isinstance(self.nets, tuple) or not self.nets:
            fix = "; use (net,)" if not isinstance(self.nets, tuple) else ""
            raise ConfigError(f"nets must be a tuple of at least one network, got {self.nets!r}{fix}", subject=_NAME)
        check_choice(_NAME, "combine", self.combine, get_args(Combine))


_NAME: Final = "Parallel"


def _each(f: Callable[[A], T], networks: Iterable[A]) -> list[T]:
    """Apply f to each network or to its data; an error is reported with the network's position."""
    found: list[T] = []
    for position, each in enumerate(networks):
        with entering(position):
            found.append(f(each))
    return found


def _pattern(first: Shape, combine: Combine) -> tuple[int | str, ...]:
    """The shape that the outputs of the other networks must match."""
    return (*first[:-1], "C") if combine == "concat" else first


def _check(params: Parallel[M], ys: list[Array]) -> None:
    first = ys[0]
    if params.combine == "concat" and first.ndim < 2:
        raise ShapeError(f"nets[0](x) must have an axis to concatenate along, got {first.shape}", subject=_NAME)
    pattern = _pattern(first.shape, params.combine)
    for position, y in enumerate(ys[1:], 1):
        name, match = f"nets[{position}](x)", ("nets[0](x)", first)
        check_array(_NAME, name, y, pattern, dtype=first.dtype, match=match)


def _parts(params: Parallel[M], ys: list[Array], g: Array) -> list[Array]:
    """The gradient by each output: g, g times the product of the other outputs, or the output's slice of g."""
    if params.combine == "add":
        return [g] * len(ys)
    if params.combine == "multiply":
        before = list(accumulate(ys[:-1], np.multiply, initial=g))
        after = list(accumulate(reversed(ys[1:]), np.multiply))[::-1]
        return [*map(np.multiply, before, after), before[-1]]
    bounds = pairwise(accumulate((y.shape[-1] for y in ys), initial=0))
    return [g[..., start:stop] for start, stop in bounds]


def _sum(arrays: list[Array]) -> Array:
    return reduce(np.add, arrays)


def parallel_forward(params: Parallel[M], x: Array) -> Array:
    """The sum, the product or the concatenation of the outputs."""
    ys = _each(lambda net: forward(net, x), params.nets)
    _check(params, ys)
    if params.combine == "concat":
        return np.concatenate(ys, axis=-1)
    return _sum(ys) if params.combine == "add" else reduce(np.multiply, ys)


def parallel_backward(params: Parallel[M], x: Array, g: Array) -> tuple[Array, Parallel[M]]:
    """Pull the gradient by each output back through its network; ``grad_x`` is the sum of their ``grad_x``.

    With g_k for the gradient by output k, ``<g, dy>`` is the sum over k of ``<g_k, d nets[k](x)>``. For a sum, g_k is
    g, and for a concatenation, its slice. For a product, g_k is g times the outputs before k and those after k; a
    division of y by output k would fail at 0. x enters every term, so the gradients by x add up. The parameters of
    nets[k] enter term k only.
    """
    passes = _each(lambda net: vjp(net, x), params.nets)
    parts = _parts(params, [y for y, _ in passes], g)
    grads_x: list[Array] = []
    grads: list[Network] = []
    for position, ((_, pull), part) in enumerate(zip(passes, parts, strict=True)):
        with entering(position):
            grad_x, grad = pull(part)
        grads_x.append(grad_x)
        grads.append(grad)
    return _sum(grads_x), evolve(params, nets=cast("M", tuple(grads)))


def parallel_calibrated(params: Parallel[M], x: Array) -> Parallel[M]:
    """Calibrate each network with x, which is the input of each."""
    return evolve(params, nets=cast("M", tuple(_each(lambda net: calibrate(net, x), params.nets))))


def parallel_output_shape(params: Parallel[M], shape: Shape) -> Shape:
    """The shape of every output; with "concat", the sizes of the last axes add up."""
    shapes = _each(lambda net: output_shape(net, shape), params.nets)
    first, same = shapes[0], params.combine != "concat"
    if not (same or first):
        raise ShapeError("nets[0](x) must have an axis to concatenate along, got rows of shape ()", subject=_NAME)
    for position, other in enumerate(shapes):
        if other != first if same else (len(other) != len(first) or other[:-1] != first[:-1]):
            wanted = f"rows of shape {first}, as nets[0](x) has" + ("" if same else ", except for the last axis")
            raise ShapeError(f"nets[{position}](x) must have {wanted}, got {other}", subject=_NAME)
    return first if same else (*first[:-1], sum(other[-1] for other in shapes))


register_layer(
    Parallel,
    forward=parallel_forward,
    backward=parallel_backward,
    calibrated=parallel_calibrated,
    output_shape=parallel_output_shape,
    name="funcnet.Parallel",
)
