"""Slopes: differences of a layer at one point, at kinks too, and a diagnosis of wrong gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from attrs import frozen

from funcnet.arithmetic import mean, sum_all
from funcnet.core.arrays import Array, lock
from funcnet.core.checks import INFINITY

STEP: Final = 1e-5
RTOL: Final = 1e-6
ATOL: Final = 1e-8
_NEARER: Final = 10
_CURVED: Final = 1e-3
_ROUNDING: Final = 1e-15


@frozen(eq=False)
class Target:
    """An array to differentiate by: its name, its value, backward's gradient, and ``g * y`` as a function of it."""

    name: str
    array: Array
    gradient: Array
    f: Callable[[Array], Array]

    def moved(self, index: tuple[int, ...]) -> Callable[[float], Array]:
        """``g * y`` as a function of the distance by which one element moves."""

        def at(t: float) -> Array:
            copy = self.array.copy()
            copy[index] += t
            return self.f(lock(copy))

        return at


@frozen
class Slope:
    """A slope found by differences, the error of the number compared with it, and the tolerance of that error.

    At a kink the slopes to the left and to the right differ, and every number between them is correct.
    """

    value: float
    error: float
    tolerance: float
    kink: bool = False

    @property
    def share(self) -> float:
        """The error divided by its tolerance."""
        return self.error / self.tolerance


def slope(f: Callable[[float], Array], got: float) -> Slope:
    """Compare a number with the slope at 0 of the sum of f's elements.

    If the slopes to the left and to the right differ, a smaller step distinguishes a curve, where they approach each
    other, from a kink, where they stay apart.

    Example:
        >>> found = slope(lambda t: np.maximum(t, np.zeros(1)), 0.25)
        >>> found.value, found.error, found.kink
        (0.25, 0.0, True)
    """
    here = f(0.0)
    left, right = _sides(f, here, STEP)
    if not abs(left) + abs(right) < INFINITY:
        return Slope(left, INFINITY, ATOL)
    rounding = _ROUNDING * float(np.maximum.reduce(np.abs(here), axis=None, initial=0.0)) / STEP
    tolerance = ATOL + rounding + RTOL * max(abs(left), abs(right))
    middle = (left + right) / 2
    if abs(left - right) <= tolerance + _CURVED * (abs(left) + abs(right)):
        return Slope(middle, _apart(middle, got), tolerance)
    near = _sides(f, here, STEP / _NEARER)
    if abs(near[0] - near[1]) <= abs(left - right) / 2:
        sides = near, _sides(f, here, STEP / _NEARER / _NEARER)  # a kink near 0 lies outside one of the steps
        best = min((middle, *((a + b) / 2 for a, b in sides)), key=lambda value: _apart(value, got))
        return Slope(best, _apart(best, got), tolerance + _NEARER * rounding)
    low, high = sorted((_NEARER * n - f) / (_NEARER - 1) for n, f in zip(near, (left, right), strict=True))
    closest = min(max(got, low), high)
    return Slope(closest, _apart(closest, got), tolerance + _NEARER * rounding, kink=True)


def _sides(f: Callable[[float], Array], here: Array, step: float) -> tuple[float, float]:
    """The slopes to the left and to the right. Subtracting before summing keeps the digits of the differences."""
    return sum_all(here - f(-step)) / step, sum_all(f(step) - here) / step


def _apart(a: float, b: float) -> float:
    error = abs(a - b)
    return error if error == error else INFINITY  # noqa: PLR0124  # NaN


# ---------------------------------------------------------------------------------------------------- faults


def looks_like(got: Array, wanted: Array, rows: int, others: Iterable[tuple[str, Array]]) -> str:
    """Diagnose a wrong gradient: forgotten, transposed, scaled or swapped; empty if none of these fits.

    Example:
        >>> looks_like(np.array([2.0, 4.0]), np.array([1.0, 2.0]), 8, ())
        'scaled: it is 2 times the correct gradient'
    """
    if not got.any():
        return "forgotten: it is 0 everywhere"
    if got.ndim == 2 and got.T.shape == wanted.shape and _close(got.T, wanted):
        return "transposed: its transpose is right"
    if wanted.any():
        factor = mean(got * wanted) / mean(wanted * wanted)
        if _close(got, factor * wanted):
            of_the_mean = rows > 1 and abs(factor * rows - 1) < RTOL
            why = ", as if it were the mean over the batch, not the sum" if of_the_mean else ""
            return f"scaled: it is {factor:.6g} times the correct gradient{why}"
    for name, other in others:
        if other.shape == got.shape and _close(got, other):
            return f"swapped: it is the gradient with respect to {name}"
    return ""


def _close(a: Array, b: Array) -> bool:
    """Whether two arrays are close enough to recognize one as the other."""
    allowed = ATOL + 10 * RTOL * float(np.maximum.reduce(np.abs(b), axis=None, initial=0.0))
    return bool((np.abs(a - b) <= allowed).all())
