"""The laws, for a layer of one's own: ``check_layer`` puts it through all of them in one call."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Final, ParamSpec, TypeAlias, TypeVar
from typing import cast as as_type

import numpy as np
from attrs import frozen

from funcnet.arithmetic import mean
from funcnet.arrays import AnyArray, Array, check_array, describe, lock
from funcnet.checking import replaced
from funcnet.draws import normal
from funcnet.errors import LawError
from funcnet.keys import Key
from funcnet.layer import Layer, rule_of
from funcnet.sources import past_the_door
from funcnet.trees import cast, equal, leaves, map_parameters, same_bits

T = TypeVar("T")
P = ParamSpec("P")

_KEY: Final = Key(0).child("check_layer")
_STEP: Final = 1e-5
_RTOL: Final = 1e-6
_ATOL: Final = 1e-8
_KINK: Final = 1e-3


@frozen
class Check:
    """What one law gave: where, the largest error as a share of its tolerance, and its index.

    A tolerance of 0 stands for the same bits. ``kinks`` are places where the slopes to both sides differ.
    """

    law: str
    where: str
    error: float = 0.0
    tolerance: float = 0.0
    index: tuple[int, ...] = ()
    kinks: int = 0

    def __str__(self) -> str:
        numbers = f"{self.error:.0%} of the tolerance" if self.tolerance else "holds"
        at = f" at [{', '.join(map(str, self.index))}]" if self.index and self.error else ""
        kinks = f", kinks: {self.kinks}" if self.kinks else ""
        return f"{self.law:12} {self.where:24} {numbers}{at}{kinks}"


@frozen
class LayerReport:
    """A check a law and field; prints as a table."""

    checks: tuple[Check, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.checks))


def check_layer(layer: Layer, x: Array, *, own_arithmetic: bool = False) -> LayerReport:
    """Put a layer through the laws, in float64: a line in a test of a layer of your own.

    Shapes, for other batch sizes too; purity; determinism, whatever was computed before; linearity in g; the adjoint
    identity; ``vjp`` equal to ``backward``; every gradient against central differences, leaving out kinks; and that the
    source takes its products, sums and exponentials from ``funcnet.arithmetic``.

    Args:
        layer: A layer that keeps every law as it is: a Dropout with its key, for one.
        x: Inputs, shape (B, ...).
        own_arithmetic: The layer may do products, sums and exponentials itself. Then portable arithmetic and row-wise
            prediction promise nothing for it.

    Raises:
        LawError: Says which law, where, and what was found.

    Example:
        >>> import funcnet as fn
        >>> print(check_layer(fn.ReLU(), np.array([[1.0, -2.0, 0.0]])))
        shapes       batches of 1, 2, 0       holds
        purity       x, g, parameters         holds
        determinism  twice, and after another holds
        vjp          y, both, params_only     holds
        linearity    grad_x                   0% of the tolerance
        gradient     x                        0% of the tolerance at [0, 0], kinks: 1
        adjoint      x and parameters         0% of the tolerance, kinks: 1
        arithmetic   source                   holds
    """
    net = cast(layer, np.float64)
    check_array("check_layer", "x", x, ("B", "..."))
    point = lock(x.astype(np.float64))
    with np.errstate(all="ignore"):  # a law that numbers beyond every float break is broken
        g = lock(normal(_KEY.child("g"), _guarded("shapes", "forward", _forward, net, point).shape))
        checks = [_shapes(net, point), _purity(net, point, g), _determinism(net, point, g), _vjp(net, point, g)]
        targets = _targets(net, point, g)
        checks += [*_linearity(net, point, g), *map(_gradient, targets), _adjoint(targets)]
    return LayerReport((*checks, _source(net, own_arithmetic=own_arithmetic)))


def _forward(layer: Layer, x: Array) -> Array:
    return rule_of(layer).forward(layer, x)


def _backward(layer: Layer, x: Array, g: Array) -> tuple[Array, Layer]:
    return rule_of(layer).backward(layer, x, g)


def _guarded(law: str, where: str, f: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
    """What f gives; what it raises is a breach of a law."""
    try:
        return f(*arguments, **keywords)
    except Exception as error:
        raise _breach(law, f"{where} raised {type(error).__name__}: {error}") from error


def _breach(law: str, reason: str) -> LawError:
    return LawError(f"{law}: {reason}", subject="check_layer")


def _shapes(layer: Layer, x: Array) -> Check:
    sizes = (len(x), 2 * len(x), 0)
    for size in sizes:
        batch = lock(np.concatenate([x, x])[:size])
        y = _guarded("shapes", f"forward of a batch of {size}", _forward, layer, batch)
        if type(y) is not np.ndarray or len(y) != size or y.dtype != x.dtype or not y.flags.c_contiguous:
            raise _breach("shapes", f"y must be a C-contiguous {x.dtype} array of {size} rows, got {_shown(y)}")
        grad_x, grads = _guarded("shapes", f"backward of a batch of {size}", _backward, layer, batch, np.ones_like(y))
        if type(grad_x) is not np.ndarray or grad_x.shape != batch.shape or grad_x.dtype != batch.dtype:
            raise _breach("shapes", f"grad_x must be {_shown(batch)}, as x is, got {_shown(grad_x)}")
        _guarded("shapes", "walking over params and gradient", map_parameters, _first, layer, grads)
    return Check("shapes", f"batches of {', '.join(map(str, sizes))}")


def _first(p: Array, _: Array) -> Array:
    return p


def _shown(value: object) -> str:
    return describe(as_type("AnyArray", value)) if isinstance(value, np.ndarray) else f"{value!r:.80}"


def _purity(layer: Layer, x: Array, g: Array) -> Check:
    inside = [leaf.array.tobytes() for leaf in leaves(layer)]
    for locked in (True, False):
        copies = x.copy(), g.copy()
        for copy in copies:
            copy.flags.writeable = not locked
        _guarded("purity", "forward", _forward, layer, copies[0])
        _guarded("purity", "backward", _backward, layer, *copies)
        for name, copy, original in zip(("x", "g"), copies, (x, g), strict=True):
            if not same_bits(copy, original):
                raise _breach("purity", f"{name} was changed")
    for leaf, before in zip(leaves(layer), inside, strict=True):
        if leaf.array.tobytes() != before:
            raise _breach("purity", f"{leaf.path} was changed")
    return Check("purity", "x, g, parameters")


def _determinism(layer: Layer, x: Array, g: Array) -> Check:
    y, (grad_x, grads) = _forward(layer, x), _backward(layer, x, g)
    if not same_bits(y, _forward(layer, x)):
        raise _breach("determinism", "forward called twice gives two results")
    again_x, again = _backward(layer, x, g)
    if not (same_bits(grad_x, again_x) and equal(grads, again)):
        raise _breach("determinism", "backward called twice gives two results")
    _forward(layer, lock(1 - 2 * x))
    after_x, after = _backward(layer, x, g)
    if not (same_bits(grad_x, after_x) and equal(grads, after)):
        raise _breach("determinism", "backward depends on the input of an earlier call, not on x alone")
    return Check("determinism", "twice, and after another")


def _vjp(layer: Layer, x: Array, g: Array) -> Check:
    y, pull = _guarded("vjp", "vjp", rule_of(layer).vjp, layer, x)
    grad_x, grads = _backward(layer, x, g)
    both_x, both = _guarded("vjp", "the pullback", pull, g)
    if not same_bits(y, _forward(layer, x)):
        raise _breach("vjp", "its y is not forward's")
    if not (same_bits(grad_x, both_x) and equal(grads, both)):
        raise _breach("vjp", "its pullback is not backward")
    if not equal(grads, _guarded("vjp", "params_only", pull.params_only, g)):
        raise _breach("vjp", "params_only does not give backward's gradient by the parameters")
    return Check("vjp", "y, both, params_only")


def _linearity(layer: Layer, x: Array, g: Array) -> Iterator[Check]:
    other = lock(normal(_KEY.child("other"), g.shape))
    (a_x, a), (b_x, b) = _backward(layer, x, g), _backward(layer, x, other)
    sum_x, total = _backward(layer, x, lock(2 * g + other))
    yield _compared("grad_x", 2 * a_x + b_x, sum_x)
    for one, two, leaf in zip(leaves(a), leaves(b), leaves(total), strict=True):
        if leaf.trained:
            yield _compared(leaf.path, 2 * one.array + two.array, leaf.array)


def _compared(where: str, wanted: Array, got: Array) -> Check:
    if not wanted.size:
        return Check("linearity", where)
    share = np.abs(got - wanted) / (_ATOL + _RTOL * np.abs(wanted))
    index = tuple(int(i) for i in np.unravel_index(int(share.argmax()), share.shape))
    if not share[index] <= 1:
        at = f"{where}[{', '.join(map(str, index))}]"
        raise _breach("linearity", f"backward of 2 g + h gives {got[index]:.10g} at {at}, not {wanted[index]:.10g}")
    return Check("linearity", where, float(share[index]), 1.0, index)


Target: TypeAlias = tuple[str, Array, Array, Callable[[Array], float]]
"""What is differentiated: its name, its value, backward's gradient, and ``<g, y>`` as a function of it."""


def _targets(layer: Layer, x: Array, g: Array) -> list[Target]:
    grad_x, grads = _backward(layer, x, g)

    def by_parameter(path: str) -> Callable[[Array], float]:
        return lambda moved: _weighed(g, _forward(replaced(layer, path, moved), x))

    targets: list[Target] = [("x", x, grad_x, lambda moved: _weighed(g, _forward(layer, moved)))]
    for leaf, grad in zip(leaves(layer), leaves(grads), strict=True):
        if leaf.trained:
            targets.append((leaf.path, leaf.array, grad.array, by_parameter(leaf.path)))
    return targets


def _weighed(g: Array, y: Array) -> float:
    return mean(g * y) * g.size if g.size else 0.0


def _adjoint(targets: list[Target]) -> Check:
    """``<g, J v>`` is ``<J' g, v>`` along a random direction v of each array."""
    error, kinks = 0.0, 0
    for name, array, gradient, f in targets:
        v = normal(_KEY.child("v", name), array.shape)

        def along(t: float, array: Array = array, v: Array = v, f: Callable[[Array], float] = f) -> float:
            return f(lock(array + t * v))

        wrong, kink = _distance(along, _weighed(gradient, v))
        if kink:  # along a line that crosses several, no slope need lie between the two
            kinks += 1
        else:
            error = max(error, wrong)
    if error > 1:
        raise _breach("adjoint", f"<g, J v> and <J' g, v> differ by {error:.1e} times what is allowed")
    return Check("adjoint", "x and parameters", error, 1.0, kinks=kinks)


def _gradient(target: Target) -> Check:
    name, array, gradient, f = target
    worst, kinks, where = 0.0, 0, (0,) * array.ndim
    for index in np.ndindex(array.shape):

        def moved(t: float, index: tuple[int, ...] = index) -> float:
            copy = array.copy()
            copy[index] += t
            return f(lock(copy))

        wrong, kink = _distance(moved, float(gradient[index]))
        kinks += kink
        if wrong > worst:
            worst, where = wrong, index
    if worst > 1:
        at = f"{name}[{', '.join(map(str, where))}]"
        copy = array.copy()
        raise _breach(
            "gradient", f"by {at} it must be {_central(f, copy, where):.10g}, got {float(gradient[where]):.10g}"
        )
    return Check("gradient", name, worst, 1.0, where, kinks)


def _central(f: Callable[[Array], float], array: Array, index: tuple[int, ...]) -> float:
    ends: list[float] = []
    for t in (_STEP, -_STEP):
        copy = array.copy()
        copy[index] += t
        ends.append(f(lock(copy)))
    return (ends[0] - ends[1]) / (2 * _STEP)


def _distance(f: Callable[[float], float], got: float) -> tuple[float, bool]:
    """The error of a slope as a share of its tolerance, and whether f has a kink there.

    At a kink the slopes to both sides differ, and every number between them will do.
    """
    below, here, above = f(-_STEP), f(0.0), f(_STEP)
    left, right = (here - below) / _STEP, (above - here) / _STEP
    allowed = _ATOL + _RTOL * max(abs(left), abs(right))
    if abs(left - right) > _KINK * (1 + abs(left) + abs(right)):
        outside = max(min(left, right) - got, got - max(left, right), 0.0)
        return outside / (_KINK + allowed), True
    wrong = abs((left + right) / 2 - got)
    return (wrong / allowed if wrong == wrong else np.inf), False  # noqa: PLR0124  # NaN


# --------------------------------------------------------------------------------------------------- source


def _source(layer: Layer, *, own_arithmetic: bool) -> Check:
    if own_arithmetic:
        return Check("arithmetic", "the layer's own")
    rule, seen = rule_of(layer), "source"
    for name, function in (("forward", rule.forward), ("backward", rule.backward), ("vjp", rule.vjp)):
        for each in _functions(function):
            try:
                found = past_the_door(textwrap.dedent(inspect.getsource(each)))
            except (OSError, TypeError, SyntaxError):
                seen = "source, as far as found"
                continue
            if found:
                fix = "take it from funcnet.arithmetic, or say own_arithmetic=True"
                raise _breach("arithmetic", f"{name} does {', '.join(sorted(set(found)))} itself; {fix}")
    return Check("arithmetic", seen)


def _functions(function: Callable[..., object]) -> list[Callable[..., object]]:
    """A function and those that it closes over; funcnet's own have their own test."""
    cells: list[object] = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    found: list[Callable[..., object]] = [function]
    found += [inner for inner in cells if isinstance(inner, FunctionType)]
    return [each for each in found if not str(each.__module__).startswith("funcnet.")]
