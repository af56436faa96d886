"""Elementary functions that use only IEEE operations: the same bits on every machine.

Addition, subtraction, multiplication, division, ``rint``, ``frexp`` and a power of two built from its exponent give one
result everywhere. A library's ``exp`` does not: its last bits change with the CPU, the C library and NumPy's version.
All functions here take and return float64. Their results are valid only in the argument range that they state.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_LN2_HIGH: Final = 6.93147180369123816490e-01  # 32 bits, so its product with an exponent is exact
_LN2_LOW: Final = 1.90821492927058770002e-10
_LOG2_E: Final = 1.44269504088896338700e00
_SQRT_HALF: Final = 0.70710678118654752440
_EXP_RANGE: Final = 708.0
_ROUNDER: Final = 1.5 * 2.0**52 + 1023
_EXP_TERMS: Final = (
    1.66666666666666019037e-01,
    -2.77777777770155933842e-03,
    6.61375632143793436117e-05,
    -1.65339022054652515390e-06,
    4.13813679705723846039e-08,
)
_LOG_TERMS: Final = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
SIN_TERMS: Final = (
    -1.66666666666666324348e-01,
    8.33333333332248946124e-03,
    -1.98412698298579493134e-04,
    2.75573137070700676789e-06,
    -2.50507602534068634195e-08,
    1.58969099521155010221e-10,
)
COS_TERMS: Final = (
    4.16666666666666019037e-02,
    -1.38888888888741095749e-03,
    2.48015872894767294178e-05,
    -2.75573143513906633035e-07,
    2.08757232129817482790e-09,
    -1.13596475577881948265e-11,
)
_PI: Final = 3.14159265358979323846
_ERF_ABOVE: Final = (
    5.55923013010394962768e4,
    7.00332514112805075473e3,
    2.23200534594684319226e3,
    9.00260197203842689217e1,
    9.60497373987051638749e0,
)
_ERF_BELOW: Final = (
    4.92673942608635921086e4,
    2.26290000613890934246e4,
    4.59432382970980127987e3,
    5.21357949780152679795e2,
    3.35617141647503099647e1,
    1.0,
)
_ERFC_ABOVE: Final = (
    5.57535335369399327526e2,
    1.02755188689515710272e3,
    9.34528527171957607540e2,
    5.26445194995477358631e2,
    1.96520832956077098242e2,
    4.86371970985681366614e1,
    7.46321056442269912687e0,
    5.64189564831068821977e-1,
    2.46196981473530512524e-10,
)
_ERFC_BELOW: Final = (
    5.57535340817727675546e2,
    1.65666309194161350182e3,
    2.24633760818710981792e3,
    1.82390916687909736289e3,
    9.75708501743205489753e2,
    3.54937778887819891062e2,
    8.67072140885989742329e1,
    1.32281951154744992508e1,
    1.0,
)

_TAIL_ABOVE: Final = (
    2.97886665372100240670e0,
    7.40974269950448939160e0,
    6.16021097993053585195e0,
    5.01905042251180477414e0,
    1.27536670759978104416e0,
    5.64189583547755073984e-1,
)
_TAIL_BELOW: Final = (
    3.36907645100081516050e0,
    9.60896809063285878198e0,
    1.70814450747565897222e1,
    1.20489539808096656605e1,
    9.39603524938001434673e0,
    2.26052863220117276590e0,
    1.0,
)
_NORMAL_RANGE: Final = 37.62  # from here on, the density is below float64's smallest normal number
_DENSITY_AT_0: Final = 0.39894228040143267794
_GRID: Final = 2.0**20


def polynomial(coefficients: tuple[float, ...], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute ``coefficients[0] + coefficients[1] * x + ...`` (two or more terms) by Horner's rule."""
    total = x * coefficients[-1]
    total += coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        total *= x
        total += coefficient
    return total


def _reduced(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute ``2**n`` and ``p = exp(r) - 1`` such that ``exp(x) = 2**n * (1 + p)``, with ``x = n ln 2 + r``.

    ``|r|`` is at most half of ln 2. ``ln 2`` is split into two parts, and the product of the first part with ``n`` is
    exact. Adding ``1.5 * 2**52`` rounds to an integer, which is then in the lowest bits of the sum. That integer plus
    1023, shifted to the exponent bits, is ``2**n``. With ``c = r - r**2 P(r**2)``, ``p = r + r c / (2 - c)``.
    """
    x = np.minimum(np.maximum(x, -_EXP_RANGE), _EXP_RANGE)
    biased = x * _LOG2_E
    biased += _ROUNDER
    power = (biased.view(np.int64) << 52).view(np.float64)
    biased -= _ROUNDER
    x -= biased * _LN2_HIGH
    biased *= _LN2_LOW
    r = x - biased
    square = r * r
    c = polynomial(_EXP_TERMS, square)
    c *= square
    np.subtract(r, c, out=c)
    p = r * c
    p /= 2.0 - c
    p -= biased
    p += x
    return power, p


def exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the exponential of numbers from -708 to 708. Numbers outside this range are clipped to it.

    The error is below one unit in the last place.

    Source: Cody and Waite, "Software manual for the elementary functions", 1980, chapter 6, for the reduction of the
    argument; FreeBSD's ``e_exp.c`` (Sun Microsystems, 2004) for the rational function and its constants.

    Example:
        >>> exp(np.array([0.0, 1.0, -10.0]))
        array([1.00000000e+00, 2.71828183e+00, 4.53999298e-05])
    """
    power, p = _reduced(x)
    p += 1.0
    p *= power
    return p


def log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the natural logarithm of finite positive numbers.

    With ``x = 2**k * (1 + f)`` and ``s = f / (2 + f)``, ``log(1 + f) = 2 s + 2 s**3 / 3 + ...``, whose tail is a
    minimax polynomial in ``s * s``. The error is below one unit in the last place.

    Source: FreeBSD's ``e_log.c`` (Sun Microsystems, 1993) for the constants and the order of operations.

    Example:
        >>> log(np.array([1.0, 2.0, 10.0]))
        array([0.        , 0.69314718, 2.30258509])
    """
    mantissa, exponent = np.frexp(x)
    low = (mantissa < _SQRT_HALF).astype(np.float64)  # a product with it is faster than np.where
    f = mantissa * low + mantissa - 1.0
    k = exponent.astype(np.float64) - low
    s = f / (2 + f)
    z = s * s
    tail = z * polynomial(_LOG_TERMS, z)
    half = 0.5 * f * f
    y: NDArray[np.float64] = k * _LN2_HIGH - ((half - (s * (half + tail) + k * _LN2_LOW)) - f)
    return y


def expm1(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute ``exp(x) - 1`` without cancellation for numbers from -708 to 708. Other numbers are clipped to the range.

    With ``exp(x) = 2**n * (1 + p)``, the result is ``2**n * p + (2**n - 1)``. The error is below two units in the last
    place.

    Source: FreeBSD's ``s_expm1.c`` (Sun Microsystems, 1993) for the formula.

    Example:
        >>> expm1(np.array([0.0, 1e-10, -40.0]))
        array([ 0.e+00,  1.e-10, -1.e+00])
    """
    power, p = _reduced(x)
    p *= power
    p += power - 1.0
    return p


def log1p(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute ``log(1 + x)`` for finite numbers above -1, without cancellation.

    ``w = 1 + x`` is rounded, but ``log(w) / (w - 1)`` changes so slowly that the rounding hardly affects its product
    with x. The error is below four units in the last place.

    Source: Goldberg, "What every computer scientist should know about floating-point arithmetic", ACM Computing Surveys
    23 (1991), theorem 4.

    Example:
        >>> log1p(np.array([0.0, 1e-10, 1.0]))
        array([0.00000000e+00, 1.00000000e-10, 6.93147181e-01])
    """
    w = 1.0 + x
    difference = w - 1.0
    lost = difference == 0
    y: NDArray[np.float64] = np.where(lost, x, log(w) * (x / np.where(lost, 1.0, difference)))
    return y


def tanh(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the hyperbolic tangent of any number. The function is odd, bit for bit.

    With ``t = exp(-2 |x|) - 1``, computed without cancellation, ``tanh |x| = -t / (2 + t)``. The error is below four
    units in the last place.

    Source: FreeBSD's ``s_tanh.c`` (Sun Microsystems, 1993) for the formula.

    Example:
        >>> tanh(np.array([-1.0, 1e-10, 20.0]))
        array([-7.61594156e-01,  1.00000000e-10,  1.00000000e+00])
    """
    power, t = _reduced(-2.0 * np.abs(x))
    t *= power
    t += power - 1.0
    return np.copysign(t / (2.0 + t), x)


def sin_pi(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the sine of ``pi * x``. It is exactly 0 for integers, and 1 or -1 halfway between them.

    With the integer n nearest to x, the result is the sine of ``pi * (x - n)``, with the other sign for an odd n. Up to
    a quarter, the polynomial of the sine is used, and above, that of the cosine of the distance from a half. The error
    is below one unit in the last place of 1.

    Source: FreeBSD's ``k_sin.c`` and ``k_cos.c`` (Sun Microsystems, 1993) for the constants.

    Example:
        >>> sin_pi(np.array([0.0, 0.25, 0.5, 1.0, -2.5])).round(6)
        array([ 0.      ,  0.707107,  1.      ,  0.      , -1.      ])
    """
    nearest = np.rint(x)
    rest = x - nearest
    size = np.abs(rest)
    angle = _PI * np.minimum(size, 0.5 - size)
    square = angle * angle
    sine = angle + angle * square * polynomial(SIN_TERMS, square)
    cosine = 1.0 - (0.5 * square - square * square * polynomial(COS_TERMS, square))
    value = np.copysign(np.where(size <= 0.25, sine, cosine), rest)
    return np.where(nearest % 2 == 0, value, -value) + 0.0  # not -0.0


def erf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the error function: ``2 / sqrt(pi)`` times the integral of ``exp(-t**2)`` from 0 to x. It is odd.

    Up to 1, the result is ``x`` times a rational function of ``x**2``. Above 1, it is 1 minus ``exp(-x**2)`` times a
    rational function of ``x``. From 6 on, it is 1. The error is below 1e-15.

    Source: Moshier, Cephes Mathematical Library, ``ndtr.c``, 1988, for the rational functions (in Cody's form).

    Example:
        >>> erf(np.array([-0.5, 0.0, 2.0]))
        array([-0.52049988,  0.        ,  0.99532227])
    """
    size = np.minimum(np.abs(x), 6.0)
    square = size * size
    inner = size * polynomial(_ERF_ABOVE, square) / polynomial(_ERF_BELOW, square)
    outer = 1.0 - exp(-square) * polynomial(_ERFC_ABOVE, size) / polynomial(_ERFC_BELOW, size)
    return np.copysign(np.where(size > 1.0, outer, inner), x)


def normal_density(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the density of the normal distribution, ``exp(-x**2 / 2) / sqrt(2 pi)``.

    The error is below four units in the last place. From 37.62 on, the density, below 3e-308, becomes 0.

    Example:
        >>> normal_density(np.array([0.0, -1.0, 30.0]))
        array([3.98942280e-001, 2.41970725e-001, 1.47364613e-196])
    """
    size = np.abs(x)
    density: NDArray[np.float64] = np.where(size < _NORMAL_RANGE, _DENSITY_AT_0 * _bell(size), 0.0)
    return density


def normal_cdf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the normal distribution function: the share of the normal distribution below x.

    With ``z = |x| / sqrt(2)``, the smaller share is ``(1 - erf(z)) / 2``, computed from ``erf`` up to z = 1, and above
    from ``exp(-x**2 / 2)`` times a rational function of z, without cancellation. The error is below eight units in the
    last place. Below -37.62, the share, which is below 1e-309, becomes 0.

    Source: Moshier, Cephes Mathematical Library, ``ndtr.c``, 1988, for the rational functions.

    Example:
        >>> normal_cdf(np.array([0.0, 1.0, -30.0]))
        array([5.00000000e-001, 8.41344746e-001, 4.90671393e-198])
    """
    far = np.abs(x)
    size = np.minimum(far, _NORMAL_RANGE)
    z = size * _SQRT_HALF
    square = z * z
    inner = 0.5 - 0.5 * z * polynomial(_ERF_ABOVE, square) / polynomial(_ERF_BELOW, square)
    near = polynomial(_ERFC_ABOVE, z) / polynomial(_ERFC_BELOW, z)
    tail = polynomial(_TAIL_ABOVE, z) / polynomial(_TAIL_BELOW, z)
    outer = np.where(size < _NORMAL_RANGE, 0.5 * _bell(far) * np.where(z < 8.0, near, tail), 0.0)
    share = np.where(z > 1.0, outer, inner)
    return np.where(x < 0, share, 1.0 - share)


def _bell(size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute ``exp(-size**2 / 2)`` for numbers from 0 to 37.62. The square of the number rounded to 26 bits is exact.

    With ``near`` for that number, the rest of the exponent is ``(size - near) (size + near) / 2``, below 2e-5.

    Source: FreeBSD's ``s_erf.c`` (Sun Microsystems, 1993) for the split of the square.
    """
    size = np.minimum(size, _NORMAL_RANGE)
    near = np.rint(size * _GRID) / _GRID
    rest = 0.5 * (size - near) * (size + near)
    return exp(-0.5 * near * near) * polynomial((1.0, -1.0, 0.5, -1 / 6), rest)
