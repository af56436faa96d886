"""Differences: the slopes of a layer at one point, kinks included, and what a wrong gradient looks like."""

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
    """What is differentiated: its name, its value, backward's gradient, and ``g * y`` as a function of it."""

    name: str
    array: Array
    gradient: Array
    f: Callable[[Array], Array]

    def moved(self, index: tuple[int, ...]) -> Callable[[float], Array]:
        """``g * y`` as a function of how far one element is moved."""

        def at(t: float) -> Array:
            copy = self.array.copy()
            copy[index] += t
            return self.f(lock(copy))

        return at


@frozen
class Slope:
    """A slope as found by differences, how far the one that was got is from it, and how far it may be.

    At a kink the slopes to both sides differ, and every number between them will do.
    """

    value: float
    error: float
    tolerance: float
    kink: bool = False

    @property
    def share(self) -> float:
        """The error as a share of its tolerance."""
        return self.error / self.tolerance


def slope(f: Callable[[float], Array], got: float) -> Slope:
    """Compare a number with the slope at 0 of the sum of f's elements.

    Where the slopes to both sides are apart, a smaller step tells a curve, on which they approach each other, from a
    kink, at which they stay apart.

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
        sides = near, _sides(f, here, STEP / _NEARER / _NEARER)  # a kink beside 0 lies beyond one of the steps
        best = min((middle, *((a + b) / 2 for a, b in sides)), key=lambda value: _apart(value, got))
        return Slope(best, _apart(best, got), tolerance + _NEARER * rounding)
    low, high = sorted((_NEARER * n - f) / (_NEARER - 1) for n, f in zip(near, (left, right), strict=True))
    closest = min(max(got, low), high)
    return Slope(closest, _apart(closest, got), tolerance + _NEARER * rounding, kink=True)


def _sides(f: Callable[[float], Array], here: Array, step: float) -> tuple[float, float]:
    """The slopes to the left and to the right. Differences are taken before sums, which keeps their digits."""
    return sum_all(here - f(-step)) / step, sum_all(f(step) - here) / step


def _apart(a: float, b: float) -> float:
    error = abs(a - b)
    return error if error == error else INFINITY  # noqa: PLR0124  # NaN


# ---------------------------------------------------------------------------------------------------- faults


def looks_like(got: Array, wanted: Array, rows: int, others: Iterable[tuple[str, Array]]) -> str:
    """What a wrong gradient is, in words: forgotten, transposed, scaled or another's; empty if it is none of these.

    Example:
        >>> looks_like(np.array([2.0, 4.0]), np.array([1.0, 2.0]), 8, ())
        'scaled: it is 2 times what it must be'
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
            return f"scaled: it is {factor:.6g} times what it must be{why}"
    for name, other in others:
        if other.shape == got.shape and _close(got, other):
            return f"swapped: it is the gradient by {name}"
    return ""


def _close(a: Array, b: Array) -> bool:
    """Close enough to say what was meant."""
    allowed = ATOL + 10 * RTOL * float(np.maximum.reduce(np.abs(b), axis=None, initial=0.0))
    return bool((np.abs(a - b) <= allowed).all())
