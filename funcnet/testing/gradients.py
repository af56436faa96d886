"""Gradient checks: compare backward with central differences, in float64, for the input and every parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any, Final, TypeAlias, cast

import numpy as np
from attrs import frozen

from funcnet.core.arrays import Array, Input, is_ids, lock
from funcnet.core.checks import INFINITY, check_array, check_input, check_number, first_true
from funcnet.core.errors import GradientError
from funcnet.core.html import as_printed, paragraphs, table
from funcnet.core.records import Tree, evolve
from funcnet.core.trees import Leaf, astype, leaves
from funcnet.network.layer import Network
from funcnet.network.passes import backward, forward
from funcnet.random.draws import normal
from funcnet.random.keys import Key
from funcnet.testing.slopes import Settings, Slope, Target, element_slopes, nudged

Forward: TypeAlias = Callable[[Any, Array], Array]
Backward: TypeAlias = Callable[[Any, Array, Array], tuple[Array, Any]]

_NEARBY: Final = 3

_SMALLEST_STEP: Final = 1e-12
"""The largest step that is too small: the difference of two float64 numbers would have no digits left."""


def numerical_gradient(f: Callable[[Array], float], x: Array, h: float = 1e-5) -> Array:
    """Compute the gradient of f at x by central differences, ``(f(x + h e) - f(x - h e)) / 2h`` for every element.

    The function never writes into ``x``, not even temporarily: f receives copies, which it cannot write into.

    Args:
        f: A function from an array like x to a number.
        x: The point; use float64 for an accuracy of about 1e-10.
        h: The step.

    Raises:
        DTypeError: If x is not an array of floats.
        ConfigError: If h is not above 0 and finite.

    Source: the post's ``eval_numerical_gradient``, which writes into x and restores the values.

    Example:
        >>> numerical_gradient(lambda x: float(x[0] * x[1]), np.array([3.0, 5.0])).round(6)
        array([5., 3.])
    """
    check_array("numerical_gradient", "x", x, ("...",))
    h = check_number("numerical_gradient", "h", h, low=0, high=INFINITY)
    gradient = np.zeros_like(x)

    def moved(index: tuple[int, ...], distance: float) -> Array:
        copy = x.copy()
        copy[index] += distance
        return lock(copy)

    with np.errstate(all="ignore"):  # a quotient that is not finite appears in the result
        for index in np.ndindex(x.shape):
            gradient[index] = (f(moved(index, h)) - f(moved(index, -h))) / (2 * h)
    return gradient


@frozen
class GradientCheck:
    """The comparison of one array: its name, its size, its worst element, and that element's error and tolerance.

    ``kinks`` counts the elements at a kink, which were compared at a point nearby. ``skipped`` counts those of them
    that are at a kink there, too, and were not compared.
    """

    where: str
    layer: str
    elements: int
    error: float
    tolerance: float
    index: tuple[int, ...]
    expected: float
    got: float
    kinks: int = 0
    skipped: int = 0

    @property
    def passed(self) -> bool:
        """Whether the error is within its tolerance; a NaN fails."""
        return self.error <= self.tolerance


@frozen
class GradientReport:
    """One comparison for the input and one for each trained array; prints as a table.

    Ids are not differentiated: if x holds ids, there is no comparison for the input.
    """

    checks: tuple[GradientCheck, ...]
    of_ids: bool = False

    _repr_pretty_ = as_printed

    def __str__(self) -> str:
        width = max((len(check.where) for check in self.checks), default=0)
        lines = [f"{'gradient':{width}}  elements  largest error  tolerance  kinks  skipped"]
        for c in self.checks:
            kinks = f"{c.kinks or '':5}  {c.skipped or '':7}"
            lines.append(f"{c.where:{width}}  {c.elements:8}  {c.error:13.1e}  {c.tolerance:9.1e}  {kinks}".rstrip())
        return "\n".join([*lines, *([NOT_DIFFERENTIATED] if self.of_ids else [])])

    def _repr_html_(self) -> str:
        rows = [
            (c.where, c.elements, f"{c.error:.1e}", f"{c.tolerance:.1e}", c.kinks or "", c.skipped or "")
            for c in self.checks
        ]
        head = ("gradient", "elements", "largest error", "tolerance", "kinks", "skipped")
        return table(head, rows, "lrrrrr") + paragraphs([NOT_DIFFERENTIATED] if self.of_ids else [])


NOT_DIFFERENTIATED: Final = "x is not differentiated"
"""What a report says about ids."""


def check_gradients(
    params: Network,
    x: Input,
    *,
    key: Key = Key(0),  # noqa: B008  # a value
    h: float = 1e-5,
    rtol: float = 1e-7,
    atol: float = 1e-9,
) -> GradientReport:
    """Compare backward with central differences of forward, in float64, for the input and every trained parameter.

    The checked function is ``<g, forward(params, x)>`` with a random g. At a kink, such as ReLU's at 0 or equal numbers
    in a window of MaxPool2D, the slopes to the left and to the right differ. An element at a kink is therefore compared
    at a point nearby, where all inputs and parameters differ by about a thousandth of their size.

    Args:
        params: The network; it is cast to float64.
        x: Inputs, shape (B, ...); floats are cast to float64. Ids are not differentiated: their gradient must be 0, and
            the report says so.
        key: Names the draw of g.
        h: The step of the differences, as a share of the element's size or, if that is larger, of the median size of
            the array's elements that are not 0.
        rtol: The relative tolerance, as a share of the difference quotient.
        atol: The absolute tolerance, which is added to the relative one. If the array's gradients are all below 1, it
            is a share of the largest.

    Returns:
        A report with one line per array, which counts the elements at a kink.

    Raises:
        GradientError: If an element differs; the message has its layer, field and index, and both values.
        ConfigError: If h is not between 1e-12 and 1, or a tolerance is negative or not finite.

    Example:
        >>> import funcnet as fn
        >>> report = check_gradients(fn.mlp(fn.Key(0), (2, 3)), np.ones((1, 2), np.float32))
        >>> [(check.where, check.elements, check.passed) for check in report.checks]
        [('x', 2, True), ('0.weight', 6, True), ('0.bias', 3, True)]
    """
    check_input("check_gradients", "x", x)
    h = check_number("check_gradients", "h", h, low=_SMALLEST_STEP, high=1)
    rtol = check_number("check_gradients", "rtol", rtol, low=0, high=INFINITY, closed=True)
    atol = check_number("check_gradients", "atol", atol, low=0, high=INFINITY, closed=True)
    settings = Settings(float(h), float(rtol), float(atol))
    net, point = astype(params, np.float64), point_of(x)
    g = lock(normal(key, forward(net, point).shape))
    with np.errstate(all="ignore"):  # a quotient that is not finite counts as the worst
        targets = targets_of(net, point, g, forward, backward)
        nearby = targets_nearby(net, point, g, forward, backward)
        checks = [_compare(target, settings, nearby(number)) for number, target in enumerate(targets)]
    report = GradientReport(tuple(checks), is_ids(point))
    wrong = [check for check in report.checks if not check.passed]
    if wrong:
        raise GradientError(_complaint(wrong[0], len(wrong)))
    return report


def point_of(x: Input) -> Array:
    """A locked copy of the input: floats in float64, or the ids."""
    return lock(cast("Array", np.array(x, x.dtype if is_ids(x) else np.float64, order="C")))


def targets_of(net: Network, x: Array, g: Array, forward: Forward, backward: Backward) -> list[Target]:
    """The input and every trained array of a network, with its gradient and ``g * y`` as a function of it.

    Ids are no target: their gradient must be 0.
    """
    grad_x, grads = backward(net, x, g)

    def by_parameter(path: str) -> Callable[[Array], Array]:
        return lambda moved: g * forward(replaced(net, path, moved), x)

    targets = [] if is_ids(x) else [Target("x", x, grad_x, lambda moved: g * forward(net, moved))]
    if is_ids(x):
        check_gradient_of_ids(x, grad_x, g.dtype)
    for leaf, grad in zip(_trained(net), _trained(grads), strict=True):
        layer = type(leaf.record).__name__
        targets.append(Target(leaf.path, leaf.array, grad.array, by_parameter(leaf.path), layer))
    return targets


def check_gradient_of_ids(x: Array, grad_x: Array, dtype: np.dtype[np.floating]) -> None:
    """Check that the gradient by ids is 0, in their shape and in the network's dtype.

    Raises:
        ShapeError, DTypeError: If it has another shape or dtype.
        GradientError: If an element is not 0. The message names it.
    """
    check_array("backward", "the gradient with respect to x", grad_x, x.shape, dtype=dtype)
    if grad_x.any():
        first, where = first_true(grad_x != 0)
        reason = f"the gradient with respect to x[{where}] must be 0, got {grad_x[first]:.8g}: ids have no gradient"
        raise GradientError(f"{reason}; for a layer of floats, use x.astype(np.float64)")


def targets_nearby(
    net: Network, x: Array, g: Array, forward: Forward, backward: Backward
) -> Callable[[int], list[Callable[[], Target | None]]]:
    """Targets at points nearby, by their number in ``targets_of``: the input and all parameters are nudged.

    A point at which the output is not finite is None. Each point is computed when it is first asked for.
    """

    @cache
    def at(point: int) -> list[Target] | None:
        key = Key(0).child("nearby", point)
        moved = net
        for leaf in _trained(net):
            moved = replaced(moved, leaf.path, nudged(leaf.array, normal(key.child(leaf.path), leaf.array.shape)))
        place = x if is_ids(x) else nudged(x, normal(key.child("x"), x.shape))
        finite = np.isfinite(forward(moved, place)).all()
        return targets_of(moved, place, g, forward, backward) if finite else None

    def one(point: int, number: int) -> Target | None:
        targets = at(point)
        return None if targets is None else targets[number]

    return lambda number: [partial(one, point, number) for point in range(_NEARBY)]


def _complaint(check: GradientCheck, count: int) -> str:
    more = f" ({count - 1} more arrays differ)" if count > 1 else ""
    where = f"{check.where}[{', '.join(map(str, check.index))}] of {check.layer}"
    return (
        f"the gradient with respect to {where} must be {check.expected:.10g} by central differences, "
        f"got {check.got:.10g}: an error of {check.error:.1e} where {check.tolerance:.1e} is allowed{more}"
    )


def _compare(target: Target, settings: Settings, nearby: Iterable[Callable[[], Target | None]]) -> GradientCheck:
    where, array, got = target.name, target.array, target.gradient
    check_array("backward", f"the gradient with respect to {where}", got, array.shape, dtype=array.dtype)
    found = element_slopes(target, nearby, settings)
    index = max(found, key=lambda index: found[index].share, default=())
    worst = found.get(index, Slope(0.0, 0.0, 0.0, settings.atol))
    kinks, skipped = (sum(getattr(each, name) for each in found.values()) for name in ("kink", "skipped"))
    numbers = (worst.error, worst.tolerance, index, worst.value, worst.got)
    return GradientCheck(where, target.layer, array.size, *numbers, kinks, skipped)


def _trained(net: Tree) -> list[Leaf]:
    return [leaf for leaf in leaves(net) if leaf.trained]


def replaced(tree: Any, path: str, array: Array) -> Any:
    """Return the network with the array at a leaf's path, such as ``"2.net.0.weight"``, replaced."""
    step, _, rest = path.partition(".")
    if isinstance(tree, tuple):
        position = int(step)
        return (*tree[:position], replaced(tree[position], rest, array), *tree[position + 1 :])
    return evolve(tree, **{step: replaced(getattr(tree, step), rest, array) if rest else array})
