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
Combine: TypeAlias = Literal["add", "concat"]


@frozen(eq=False)
class Parallel(Layer, Generic[M]):
    """``y = nets[0](x) + nets[1](x) + ...``, or their concatenation along the last axis with ``combine="concat"``.

    Every network gets x. The outputs and the gradients by x are added in the order of nets. Shapes: x (B, ...). With
    "add", all outputs and y have one shape. With "concat", only the sizes of the last axis may differ; they add up.

    Source: Szegedy et al., "Going deeper with convolutions", CVPR 2015, for concatenated branches.

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
        """Check that nets is a nonempty tuple and that combine is "add" or "concat"."""
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
    return first if combine == "add" else (*first[:-1], "C")


def _check(params: Parallel[M], ys: list[Array]) -> None:
    first = ys[0]
    if params.combine == "concat" and first.ndim < 2:
        raise ShapeError(f"nets[0](x) must have an axis to concatenate along, got {first.shape}", subject=_NAME)
    pattern = _pattern(first.shape, params.combine)
    for position, y in enumerate(ys[1:], 1):
        name, match = f"nets[{position}](x)", ("nets[0](x)", first)
        check_array(_NAME, name, y, pattern, dtype=first.dtype, match=match)


def _parts(params: Parallel[M], ys: list[Array], g: Array) -> list[Array]:
    """The gradient by each output: g, or with "concat" the slice of g that corresponds to the output."""
    if params.combine == "add":
        return [g] * len(ys)
    bounds = pairwise(accumulate((y.shape[-1] for y in ys), initial=0))
    return [g[..., start:stop] for start, stop in bounds]


def _sum(arrays: list[Array]) -> Array:
    return reduce(np.add, arrays)


def parallel_forward(params: Parallel[M], x: Array) -> Array:
    """The sum or the concatenation of the outputs."""
    ys = _each(lambda net: forward(net, x), params.nets)
    _check(params, ys)
    return _sum(ys) if params.combine == "add" else np.concatenate(ys, axis=-1)


def parallel_backward(params: Parallel[M], x: Array, g: Array) -> tuple[Array, Parallel[M]]:
    """Pull g, or its slice for the output, back through each network; ``grad_x`` is the sum of their ``grad_x``.

    ``<g, y>`` is the sum over k of ``<g_k, nets[k](x)>``, where g_k is g or its slice. x enters every term, so the
    gradients by x add up. The parameters of nets[k] enter term k only.
    """
    passes = _each(lambda net: vjp(net, x), params.nets)
    parts = _parts(params, [y for y, _ in passes], g)
    pulled = _each(lambda each: each[0][1](each[1]), zip(passes, parts, strict=True))
    return _sum([grad_x for grad_x, _ in pulled]), evolve(params, nets=cast("M", tuple(grads for _, grads in pulled)))


def parallel_calibrated(params: Parallel[M], x: Array) -> Parallel[M]:
    """Calibrate each network with x, which is the input of each."""
    return evolve(params, nets=cast("M", tuple(_each(lambda net: calibrate(net, x), params.nets))))


def parallel_output_shape(params: Parallel[M], shape: Shape) -> Shape:
    """The shape of every output; with "concat", the sizes of the last axes add up."""
    shapes = _each(lambda net: output_shape(net, shape), params.nets)
    first, add = shapes[0], params.combine == "add"
    if not (add or first):
        raise ShapeError("nets[0](x) must have an axis to concatenate along, got rows of shape ()", subject=_NAME)
    for position, other in enumerate(shapes):
        if other != first if add else (len(other) != len(first) or other[:-1] != first[:-1]):
            wanted = f"rows of shape {first}, as nets[0](x) has" + ("" if add else ", except for the last axis")
            raise ShapeError(f"nets[{position}](x) must have {wanted}, got {other}", subject=_NAME)
    return first if add else (*first[:-1], sum(other[-1] for other in shapes))


register_layer(
    Parallel,
    forward=parallel_forward,
    backward=parallel_backward,
    calibrated=parallel_calibrated,
    output_shape=parallel_output_shape,
    name="funcnet.Parallel",
)
