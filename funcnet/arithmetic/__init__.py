"""The one door to arithmetic whose bits depend on how it is done: products, sums, exponentials, logarithms.

IEEE addition, multiplication, division and square root give one result everywhere. A product's or a sum's bits depend
on the order of its additions, an exponential's on its implementation. All that funcnet does of those is done here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from funcnet.arrays import Array, lock

# glibc maps fresh pages for a large array: page faults at its first writes. It stops once it has freed a larger one.
np.empty(2**24, np.uint8)


def matmul(a: Array, b: Array) -> Array:
    """The matrix product. Shapes: a (B, I), b (I, O), result (B, O), locked.

    Example:
        >>> matmul(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
        array([[11.]])
    """
    product: Array = np.matmul(a, b)
    return lock(product)


def sum_rows(a: Array) -> Array:
    """The sum over the batch. Shapes: a (B, ...), result (...), locked.

    Example:
        >>> sum_rows(np.array([[1.0, 2.0], [3.0, 4.0]]))
        array([4., 6.])
    """
    total: Array = np.add.reduce(a, axis=0)
    return lock(total)


def sum_last(a: Array) -> Array:
    """The sum over the last axis, which is kept with size 1. Shapes: a (..., I), result (..., 1)."""
    total: Array = np.add.reduce(a, axis=-1, keepdims=True)
    return total


def mean(a: Array) -> float:
    """The mean of all elements, summed in float64."""
    return float(np.add.reduce(a, axis=None, dtype=np.float64)) / a.size


def exp(x: Array) -> Array:
    """The exponential, element by element."""
    y: Array = np.exp(x)
    return y


def log(x: Array) -> Array:
    """The natural logarithm, element by element."""
    y: Array = np.log(x)
    return y


def tanh(x: Array) -> Array:
    """The hyperbolic tangent, element by element."""
    y: Array = np.tanh(x)
    return y


def softmax(logits: Array) -> Array:
    """Each row's exponentials as shares of their sum, its maximum subtracted first. Shapes: (B, O) to (B, O).

    Example:
        >>> softmax(np.array([[1e4, 1e4]]))
        array([[0.5, 0.5]])
    """
    with np.errstate(over="ignore"):  # a difference of -inf has a share of 0
        shares = exp(logits - logits.max(axis=-1, keepdims=True))
    shares /= sum_last(shares)
    return shares


# ------------------------------------------------------------------------------------ the same bits everywhere

_LN2_HIGH = 6.93147180369123816490e-01  # 32 bits, so that its product with an exponent is exact
_LN2_LOW = 1.90821492927058770002e-10
_SQRT_HALF = 0.70710678118654752440
_LOG_TERMS = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)


def polynomial(coefficients: tuple[float, ...], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """``coefficients[0] + coefficients[1] * x + ...`` by Horner's rule: one multiplication and one addition a term."""
    total = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total *= x
        total += coefficient
    return total


def portable_log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The natural logarithm of finite positive numbers from IEEE operations alone: the same bits everywhere.

    With ``x = 2**k * (1 + f)`` and ``s = f / (2 + f)``, ``log(1 + f) = 2 s + 2 s**3 / 3 + ...``, whose tail is a
    minimax polynomial in ``s * s``. The error is below one unit in the last place.

    Source: FreeBSD's ``e_log.c`` (Sun Microsystems, 1993), its constants and its order of operations.

    Example:
        >>> portable_log(np.array([1.0, 2.0, 10.0]))
        array([0.        , 0.69314718, 2.30258509])
    """
    mantissa, exponent = np.frexp(x)
    low = mantissa < _SQRT_HALF
    f = np.where(low, 2 * mantissa, mantissa) - 1
    k = (exponent - low).astype(np.float64)
    s = f / (2 + f)
    z = s * s
    tail = z * polynomial(_LOG_TERMS, z)
    half = 0.5 * f * f
    y: NDArray[np.float64] = k * _LN2_HIGH - ((half - (s * (half + tail) + k * _LN2_LOW)) - f)
    return y
