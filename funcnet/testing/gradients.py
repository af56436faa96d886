"""Gradient checks: compare backward with central differences, in float64, for the input and every parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from attrs import frozen

from funcnet.arithmetic import sum_all
from funcnet.core.arrays import Array, lock
from funcnet.core.checks import INFINITY, check_array, check_number
from funcnet.core.errors import GradientError
from funcnet.core.records import Tree, evolve
from funcnet.core.trees import Leaf, astype, leaves
from funcnet.network.layer import Network
from funcnet.network.passes import backward, forward
from funcnet.random.draws import normal
from funcnet.random.keys import Key


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
    check_number("numerical_gradient", "h", h, low=0, high=INFINITY)
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
    """The comparison of one array: its name, its size, its worst element, and that element's error and tolerance."""

    where: str
    layer: str
    elements: int
    error: float
    tolerance: float
    index: tuple[int, ...]
    expected: float
    got: float

    @property
    def passed(self) -> bool:
        """Whether the error is within its tolerance; a NaN fails."""
        return self.error <= self.tolerance


@frozen
class GradientReport:
    """One comparison for the input and one for each trained array; prints as a table."""

    checks: tuple[GradientCheck, ...]

    def __str__(self) -> str:
        width = max(len(check.where) for check in self.checks)
        lines = [f"{'gradient':{width}}  elements  largest error  tolerance"]
        lines += [f"{c.where:{width}}  {c.elements:8}  {c.error:13.1e}  {c.tolerance:9.1e}" for c in self.checks]
        return "\n".join(lines)


def check_gradients(
    params: Network,
    x: Array,
    *,
    key: Key = Key(0),  # noqa: B008  # a value
    h: float = 1e-5,
    rtol: float = 1e-7,
    atol: float = 1e-9,
) -> GradientReport:
    """Compare backward with central differences of forward, in float64, for the input and every trained parameter.

    The checked function is ``<g, forward(params, x)>`` with a random g. Where a layer has a kink, such as ReLU at 0,
    every input must be further than h from the kink.

    Args:
        params: The network; it is cast to float64.
        x: Inputs, shape (B, ...); cast to float64.
        key: Names the draw of g.
        h: The step of the differences.
        rtol: The relative tolerance, as a share of the difference quotient.
        atol: The absolute tolerance, which is added to the relative one.

    Returns:
        A report with one line per array.

    Raises:
        GradientError: If an element differs; the message has its layer, field and index, and both values.

    Example:
        >>> import funcnet as fn
        >>> report = check_gradients(fn.mlp(fn.Key(0), (2, 3)), np.ones((1, 2), np.float32))
        >>> [(check.where, check.elements, check.passed) for check in report.checks]
        [('x', 2, True), ('0.weight', 6, True), ('0.bias', 3, True)]
    """
    check_array("check_gradients", "x", x, ("B", "..."))
    net, point = astype(params, np.float64), lock(x.astype(np.float64))
    y = forward(net, point)
    g = lock(normal(key, y.shape))
    grad_x, grads = backward(net, point, g)

    def output(net: Network, x: Array) -> float:
        return sum_all(g * forward(net, x))

    def by_parameter(leaf: Leaf) -> Array:
        return numerical_gradient(lambda moved: output(replaced(net, leaf.path, moved), point), leaf.array, h)

    by_input = numerical_gradient(lambda moved: output(net, moved), point, h)
    checks = [_compare("x", "the input", by_input, grad_x, (rtol, atol))]
    for leaf, grad in zip(_trained(net), _trained(grads), strict=True):
        checks.append(_compare(leaf.path, type(leaf.record).__name__, by_parameter(leaf), grad.array, (rtol, atol)))
    report = GradientReport(tuple(checks))
    wrong = [check for check in report.checks if not check.passed]
    if wrong:
        raise GradientError(_complaint(wrong[0], len(wrong)))
    return report


def _complaint(check: GradientCheck, count: int) -> str:
    more = f" ({count - 1} more arrays differ)" if count > 1 else ""
    where = f"{check.where}[{', '.join(map(str, check.index))}] of {check.layer}"
    return (
        f"the gradient with respect to {where} must be {check.expected:.10g} by central differences, "
        f"got {check.got:.10g}: an error of {check.error:.1e} where {check.tolerance:.1e} is allowed{more}"
    )


def _compare(where: str, layer: str, wanted: Array, got: Array, allowed: tuple[float, float]) -> GradientCheck:
    rtol, atol = allowed
    check_array("backward", f"the gradient with respect to {where}", got, wanted.shape, dtype=wanted.dtype)
    if wanted.size == 0:
        return GradientCheck(where, layer, 0, 0.0, atol, (), 0.0, 0.0)
    with np.errstate(all="ignore"):  # an error that is not finite counts as the worst
        error, tolerance = np.abs(got - wanted), atol + rtol * np.abs(wanted)
        worst = np.nan_to_num(error / tolerance, nan=np.inf)
    index = tuple(int(i) for i in np.unravel_index(int(worst.argmax()), wanted.shape))
    numbers = (float(error[index]), float(tolerance[index]))
    return GradientCheck(where, layer, wanted.size, *numbers, index, float(wanted[index]), float(got[index]))


def _trained(net: Tree) -> list[Leaf]:
    return [leaf for leaf in leaves(net) if leaf.trained]


def replaced(tree: Any, path: str, array: Array) -> Any:
    """Return the network with the array at a leaf's path, such as ``"2.net.0.weight"``, replaced."""
    step, _, rest = path.partition(".")
    if isinstance(tree, tuple):
        position = int(step)
        return (*tree[:position], replaced(tree[position], rest, array), *tree[position + 1 :])
    return evolve(tree, **{step: replaced(getattr(tree, step), rest, array) if rest else array})
