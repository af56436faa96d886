"""Powers and cosines of scalars from IEEE operations: the same bits on every machine, in either arithmetic.

A learning rate or a bias correction is computed once per step, so a library's ``**``, which is faster but changes its
bits with the CPU, would save nothing.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from funcnet.arithmetic import elementary
from funcnet.tracing import whole

_EXP_RANGE: Final = 708.0  # the range of elementary.exp
_PI: Final = 3.14159265358979323846


@whole
def integer_power(base: float, exponent: int) -> float:
    """Raise ``base`` to a power of 0 or more by repeated squaring: one or two products per bit of the exponent.

    The error is below twice the exponent, in units in the last place.

    Source: Knuth, The Art of Computer Programming, volume 2, section 4.6.3.

    Example:
        >>> integer_power(0.5, 3), integer_power(0.9, 0)
        (0.125, 1.0)
    """
    result, square = 1.0, float(base)
    while exponent:
        if exponent & 1:
            result *= square
        square *= square
        exponent >>= 1
    return result


@whole
def power(base: float, exponent: float) -> float:
    """Raise a positive number to any power: ``exp(exponent * log(base))``.

    A result below 1e-307 becomes 0, and a result above 1e307 becomes inf.

    Example:
        >>> power(4.0, 0.5), power(0.1, 0.0)
        (2.0, 1.0)
    """
    logarithm = exponent * float(elementary.log(np.array([base]))[0])
    if logarithm < -_EXP_RANGE:
        return 0.0
    if logarithm > _EXP_RANGE:
        return math.inf
    return float(elementary.exp(np.array([logarithm]))[0])


def cos_pi(x: float) -> float:
    """Compute the cosine of ``pi * x`` for x from 0 to 1. It is exactly 1, 0 and -1 at 0, 1/2 and 1.

    Below 1/4, the polynomial of the cosine is used. From 1/4 to 3/4, the polynomial of the sine is applied to the
    distance from 1/2. Above 3/4, the result is the negative of the cosine at 1 - x. The error is below one unit in the
    last place of 1.

    Source: FreeBSD's ``k_cos.c`` and ``k_sin.c`` (Sun Microsystems, 1993) for the constants.

    Example:
        >>> [round(cos_pi(x), 6) for x in (0.0, 0.25, 0.5, 1.0)]
        [1.0, 0.707107, 0.0, -1.0]
    """
    if x > 0.75:
        return -_cos(_PI * (1.0 - x))
    if x < 0.25:
        return _cos(_PI * x)
    return _sin(_PI * (0.5 - x))


def _cos(angle: float) -> float:
    square = angle * angle
    return 1.0 - (0.5 * square - square * square * _horner(elementary.COS_TERMS, square))


def _sin(angle: float) -> float:
    square = angle * angle
    return angle + angle * square * _horner(elementary.SIN_TERMS, square)


def _horner(coefficients: tuple[float, ...], x: float) -> float:
    total = 0.0
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total
