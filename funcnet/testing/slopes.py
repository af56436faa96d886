"""Slopes: differences of a function at one point, at kinks too, and a diagnosis of wrong gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Final

import numpy as np
from attrs import evolve, frozen

from funcnet.arithmetic import maximum, mean, minimum, sum_all
from funcnet.core.arrays import Array, lock
from funcnet.core.checks import INFINITY

STEP: Final = 1e-5
RTOL: Final = 1e-6
ATOL: Final = 1e-8
_CURVED: Final = 1e-3
_ROUNDING: Final = 1e-15
_CLEAR: Final = 32  # how far above the rounding a jump must be
_LARGER: Final = (2.0**20, 2.0**16, 4096.0, 256.0, 16.0)
_SMALLER: Final = (1 / 16, 1 / 256, 1 / 4096)
_SMALLEST: Final = 1e-290
"""The smallest step: a thousandth of it is still above 0."""

_NUDGE: Final = 1e-3


@frozen(eq=False)
class Target:
    """An array to differentiate by: its name, its value, backward's gradient, and ``g * y`` as a function of it.

    ``layer`` is the name of the record that has the array.
    """

    name: str
    array: Array
    gradient: Array
    f: Callable[[Array], Array]
    layer: str = "the input"

    def moved(self, index: tuple[int, ...]) -> Callable[[float], Array]:
        """``g * y`` as a function of the distance by which one element moves."""

        def at(t: float) -> Array:
            copy = self.array.copy()
            copy[index] += t
            return self.f(lock(copy))

        return at


@frozen
class Slope:
    """A slope found by differences, the number compared with it, its error, and the tolerance of that error.

    At a kink the slopes to the left and to the right differ. ``kink`` says so; ``skipped`` says that the points nearby,
    where the number was compared, are at kinks, too.
    """

    value: float
    got: float
    error: float
    tolerance: float
    kink: bool = False
    skipped: bool = False

    @property
    def share(self) -> float:
        """The error divided by its tolerance; 0 without an error."""
        if not self.error:
            return 0.0
        return self.error / self.tolerance if self.tolerance else INFINITY


@frozen(eq=False)
class _Sides:
    """The slopes to the left and to the right at a step, for each output, and their rounding error."""

    left: Array
    right: Array
    rounding: float

    @property
    def middle(self) -> float:
        return (sum_all(self.left) + sum_all(self.right)) / 2

    @property
    def gap(self) -> float:
        """The difference of the two slopes."""
        return abs(sum_all(self.right) - sum_all(self.left))

    @property
    def size(self) -> float:
        return max(abs(sum_all(self.left)), abs(sum_all(self.right)))

    @property
    def range(self) -> tuple[float, float]:
        """All sums of one slope per output: every output may have a kink of its own."""
        return sum_all(minimum(self.left, self.right)), sum_all(maximum(self.left, self.right))


def slope(
    f: Callable[[float], Array], got: float, *, step: float = STEP, rtol: float = RTOL, atol: float = ATOL
) -> Slope:
    """Compare a number with the slope at 0 of the sum of f's elements.

    If the number differs from the difference quotient, other steps tell why. Where the quotients of different steps
    agree, the number is wrong. A kink near 0 lies outside of smaller steps. At a kink, the slopes to the left and to
    the right stay apart however small the step is; every number between them is correct. The tolerance includes the
    rounding error of the quotient.

    Example:
        >>> found = slope(lambda t: np.maximum(t, np.zeros(1)), 0.25)
        >>> found.value, found.error, found.kink
        (0.25, 0.0, True)
    """
    here = f(0.0)
    first = _sides(f, here, step)
    if not first.size < INFINITY:
        return Slope(first.middle, got, INFINITY, atol)
    error, tolerance = _apart(first.middle, got), rtol * abs(first.middle) + atol
    precise = first.rounding <= rtol * first.size + atol
    if error == first.size == 0 and not precise:  # a change too small to be seen, or none
        precise = _sides(f, here, step * _LARGER[0]).size == 0
    if error <= tolerance and precise and first.gap <= tolerance + _CURVED * first.size:
        return Slope(first.middle, got, error, tolerance)
    nearer = [first, *(_sides(f, here, step * share) for share in _SMALLER)]
    kink = _at_kink(nearer)
    if kink is not None:
        low, high = kink.range
        closest = min(max(got, low), high)
        return Slope(closest, got, _apart(closest, got), rtol * kink.size + max(atol, kink.rounding), kink=True)
    farther = [_sides(f, here, step * share) for share in _LARGER]
    best, doubt = min(_doubts([*farther, *nearer]), key=lambda each: each[1])
    return Slope(best.middle, got, _apart(best.middle, got), rtol * abs(best.middle) + max(atol, doubt))


def _sides(f: Callable[[float], Array], here: Array, step: float) -> _Sides:
    """The slopes to the left and to the right. Subtracting before summing keeps the digits of the differences."""
    before, after = f(-step), f(step)
    largest = max(_largest(here), _largest(before), _largest(after))
    return _Sides((here - before) / step, (after - here) / step, _ROUNDING * largest / step)


def _doubts(all_sides: list[_Sides]) -> Iterator[tuple[_Sides, float]]:
    """Each step between two others, and the possible error of its quotient: rounding, curvature, other steps."""
    for larger, one, smaller in zip(all_sides, all_sides[1:], all_sides[2:], strict=False):
        spread = max(_apart(one.middle, larger.middle), _apart(one.middle, smaller.middle))
        yield one, one.rounding + one.gap / 2 + spread


def _at_kink(all_sides: list[_Sides]) -> _Sides | None:
    """The slopes of the smallest step at which a jump can be told from rounding, if the jump is as large there."""
    jump = all_sides[0].gap
    clear = [sides for sides in all_sides if sides.gap == 0 or _CLEAR * sides.rounding <= jump]
    if len(clear) < 2 or jump <= _CLEAR * all_sides[0].rounding:
        return None
    larger, smallest = clear[-2:]
    return smallest if larger.gap / 2 < smallest.gap < larger.gap * 2 else None


def _largest(array: Array) -> float:
    return float(np.maximum.reduce(np.abs(array), axis=None, initial=0.0))


def _apart(a: float, b: float) -> float:
    error = abs(a - b)
    return error if error == error else INFINITY  # noqa: PLR0124  # NaN


# ---------------------------------------------------------------------------------------------- every element


def scales(array: Array, otherwise: float = 1.0) -> Array:
    """The size of each element for a step: its own, but at least the median of those that are not 0.

    If all are 0, it is ``otherwise``.

    Example:
        >>> scales(np.array([0.0, 1e6, -2e6, 5e6]))
        array([2000000., 2000000., 2000000., 5000000.])
    """
    sizes = np.abs(array)
    others = np.sort(sizes[(sizes > 0) & np.isfinite(sizes)])
    middle = others[(len(others) - 1) // 2] if len(others) else otherwise
    return maximum(sizes, middle)


def nudged(array: Array, draw: Array) -> Array:
    """The array with every element moved by about a thousandth of its size, off any kink. ``draw`` has its shape."""
    return lock(array + _NUDGE * scales(array) * draw)


@frozen
class Settings:
    """How to compare: the step as a share of an element's size, and the tolerances.

    Args:
        step: The step, see ``scales``.
        rtol: The tolerance as a share of the slope.
        atol: The absolute tolerance, multiplied by the largest gradient in the array if that is below 1.
        strict: Whether a number outside of a kink's range is wrong. In a network, one element may pass several kinks,
            and the slopes to the left and to the right then do not limit what backward may return.
    """

    step: float = STEP
    rtol: float = RTOL
    atol: float = ATOL
    strict: bool = False


def element_slopes(
    target: Target, nearby: Iterable[Callable[[], Target | None]], settings: Settings
) -> dict[tuple[int, ...], Slope]:
    """Compare each element of a gradient with its slope. An element at a kink is compared at points nearby instead.

    Args:
        target: The array and its gradient.
        nearby: Functions that return the same target at other points, or None if a point has no slopes.
        settings: The step and the tolerances.
    """
    found: dict[tuple[int, ...], Slope] = {}
    compared = _comparison(target, settings)
    elsewhere = [cache(partial(_comparison_at, point, settings)) for point in nearby]
    for index in np.ndindex(target.array.shape):
        found[index] = one = compared(index)
        if one.kink and not (settings.strict and one.share > 1):
            others = (at()(index) for at in elsewhere)
            smooth = next((other for other in others if other and not other.kink), None)
            passed = evolve(one, value=one.got, error=0.0, skipped=True)
            found[index] = passed if smooth is None else evolve(smooth, kink=True)
    return found


def _comparison_at(point: Callable[[], Target | None], settings: Settings) -> Callable[[tuple[int, ...]], Slope | None]:
    target = point()
    return (lambda _: None) if target is None else _comparison(target, settings)


def _comparison(target: Target, settings: Settings) -> Callable[[tuple[int, ...]], Slope]:
    """The function that compares one element, given its index."""
    largest, output = _largest(target.gradient), _largest(target.f(target.array))
    natural = output / largest if 0 < largest < INFINITY and 0 < output < INFINITY else 1.0  # changes y by its own size
    steps = maximum(settings.step * scales(target.array, natural), _SMALLEST)
    atol = settings.atol * min(largest, 1.0)

    def compared(index: tuple[int, ...]) -> Slope:
        got, step = float(target.gradient[index]), float(steps[index])
        return slope(target.moved(index), got, step=step, rtol=settings.rtol, atol=atol)

    return compared


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
