"""Portable arithmetic: float32 products, sums and functions with the same bits on every machine.

A matrix product has the same bits everywhere if none of its additions rounds. Order, blocking and fused multiplication
then make no difference. The operands are therefore rounded first, to integers of at most 22 bits times a power of two.
The product of two such numbers has at most 44 bits, a sum of 512 products has at most 53 bits, and a float64 holds 53
bits. BLAS is then exact, whatever order it uses. Longer sums are added block by block, elementwise and in a fixed
order. Plain sums are computed in the same way, with more bits per number. The elementary functions are funcnet's own;
see ``elementary``.

Rounding needs no multiplication. Near ``1.5 * 2**k``, the spacing of float32 numbers is ``2**(k - 23)`` and that of
float64 numbers is ``2**(k - 52)``. Adding ``1.5 * 2**k`` and subtracting it again rounds to a multiple of the spacing.

An activation is rounded relative to the largest element of its own row, so a row's result depends on no other row. A
weight is rounded relative to its largest element, once for both ``x @ weight`` and ``g @ weight.T``. All numbers must
be finite.

Source: Ozaki, Ogita, Oishi and Rump, "Error-free transformations of matrix multiplication by using fast routines of
matrix multiplication", Numerical Algorithms 59 (2012), with one slice; Demmel and Nguyen, "Fast reproducible
floating-point summation", ARITH 21 (2013), for pre-rounded sums, which XGBoost uses for its gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, reduce
from typing import Final, TypeAlias

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.arithmetic import elementary
from funcnet.core.arrays import Array, describe, lock
from funcnet.core.errors import DTypeError, NonFiniteError

BITS: Final = 22
BLOCK: Final = 512  # the number of products whose sum is exact: 2 * BITS + log2(BLOCK) = 53

ROUNDER: Final = np.float32(1.5 * 2.0 ** (24 - BITS))  # times the largest power of two in the data
ROUNDER64: Final = 1.5 * 2.0 ** (53 - BITS)
SMALLEST: Final = np.float32(2.0**-126)
_ZERO: Final = np.float32(0.0)
LARGE: Final = 2.0**124  # from this size on, float32 cannot hold the sum with the rounder
EXPONENT: Final = np.int32(0x7F800000)
_FLOAT32: Final = np.dtype(np.float32)

Single: TypeAlias = NDArray[np.float32]
Double: TypeAlias = NDArray[np.float64]


@frozen(eq=False)
class Rounded:
    """A float32 matrix rounded for exact products: its elements are multiples of a power of two, per matrix or per row.

    Shapes: values (B, I), powers (B, 1) or (1, 1).

    Args:
        values: Multiples of ``2**-21 * powers``, up to ``2**22`` times that unit.
        powers: The largest power of two that does not exceed the largest element of the row (or of the matrix).
    """

    values: Double
    powers: Single

    @property
    def T(self) -> Rounded:  # noqa: N802  # NumPy's name
        """The transpose, with the same rounding."""
        return Rounded(self.values.T, self.powers.T)


def operand(weight: Array) -> Rounded:
    """Round a weight relative to its largest element. Shape: (I, O).

    A transposed weight gives the transpose of the weight's rounding, so a program rounds once for forward and backward.

    Raises:
        DTypeError: If the weight is not float32.
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> operand(np.array([[1.0, 1e-9]], np.float32)).values
        array([[1., 0.]])
    """
    if weight.flags.f_contiguous and not weight.flags.c_contiguous:
        return operand(weight.T).T
    return _rounded("matmul", "weight", weight, None)


def rows(x: Array) -> Rounded:
    """Round each row of activations or gradients relative to the row's largest element. Shape: (B, I).

    Raises:
        DTypeError: If they are not float32.
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> rows(np.array([[1.0, 1e-9], [0.0, 2.0**-30]], np.float32)).values[:, 1] == [0, 2**-30]
        array([ True,  True])
    """
    return _rows("matmul", "x", x)


def matmul(x: Array, weight: Array) -> Array:
    """Compute the matrix product. Shapes: x (B, I), weight (I, O), result (B, O), locked.

    The arrays are rounded first, by ``rows`` and ``operand``. A row of the result depends on no other row of ``x``.

    Raises:
        DTypeError: If an array is not float32.
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> matmul(np.array([[1.0, 2.0]], np.float32), np.array([[3.0], [4.0]], np.float32))
        array([[11.]], dtype=float32)
    """
    return _product(rows(x).values, operand(weight).values)


def matmul_columns(weight: Array, g: Array) -> Array:
    """Compute the transpose of ``matmul(g, weight.T)``. Shapes: weight (I, O), g (B, O), result (I, B), locked.

    Raises:
        DTypeError: If an array is not float32.
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> matmul_columns(np.array([[1.0, 2.0]], np.float32), np.array([[3.0, 4.0]], np.float32))
        array([[11.]], dtype=float32)
    """
    return _product(operand(weight).values, rows(g).values.T)


def sum_outer(x: Array, g: Array) -> Array:
    """Sum the outer products over the batch: ``x.T @ g``. Shapes: x (B, I), g (B, O), result (I, O), locked.

    ``rows`` rounds both arrays, with a power of two per row. The summands, however, must be multiples of a common unit.
    Each row of ``g`` is therefore rounded again, to multiples of the common unit divided by the unit of the ``x`` row.
    Both errors are relative to the largest element of any outer product.

    Raises:
        DTypeError: If an array is not float32.
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> x, g = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.array([[1.0], [10.0]], np.float32)
        >>> sum_outer(x, g)
        array([[31.],
               [42.]], dtype=float32)
    """
    left, right = _rows("sum_outer", "x", x), _rows("sum_outer", "g", g)
    powers = left.powers.astype(np.float64)
    largest: float = np.maximum.reduce(powers * right.powers.astype(np.float64), axis=None, initial=0.0).item()
    rounder = (largest * ROUNDER64) / powers
    values = right.values + rounder
    values -= rounder
    return _product(left.values.T, values)


def inner_each(a: Array, b: Array) -> Array:
    """Compute the inner products of rows, for each pair of matrices: ``a @ b.T``.

    Shapes: a (..., I, J), b (..., K, J), result (..., I, K), locked. ``rows`` rounds both arrays, so each element
    depends on one row of ``a`` and one row of ``b``.

    Raises:
        DTypeError: If an array is not float32.
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> inner_each(np.array([[[1.0, 2.0]]], np.float32), np.array([[[3.0, 4.0], [5.0, 6.0]]], np.float32))
        array([[[11., 17.]]], dtype=float32)
    """
    left, right = _rows("inner_each", "a", a), _rows("inner_each", "b", b)
    return _product(left.values, np.swapaxes(right.values, -1, -2))


def matmul_each(a: Array, b: Array) -> Array:
    """Compute a matrix product for each pair of matrices. Shapes: a (..., I, J), b (..., J, K), result (..., I, K).

    The result is locked. ``rows`` rounds ``b``, with a power of two per row. Its powers move into the columns of ``a``,
    which changes no product, and the rows of ``a`` are rounded then. All summands of a row of the result are therefore
    multiples of one unit, which depends on the row of ``a`` and, where ``a`` is 0, on nothing else. The errors are
    relative to the largest element of any outer product of the row.

    Raises:
        DTypeError: If an array is not float32.
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> a, b = np.array([[[1.0, 2.0]]], np.float32), np.array([[[3.0], [4.0]]], np.float32)
        >>> matmul_each(a, b)
        array([[[11.]]], dtype=float32)
    """
    _check_float32("matmul_each", "a", a)
    right = _rows("matmul_each", "b", b)
    powers = right.powers.astype(np.float64)
    left = a.astype(np.float64) * np.swapaxes(powers, -1, -2)
    largest = np.maximum.reduce(np.abs(left), axis=-1, keepdims=True, initial=0.0)
    if not (largest < math.inf).all():
        raise _non_finite("matmul_each", "a", a)
    rounder = np.ldexp(0.5 * ROUNDER64, np.frexp(largest)[1])
    left += rounder
    left -= rounder
    return _product(left, right.values / powers)


def _rows(subject: str, name: str, a: Array) -> Rounded:
    return _rounded(subject, name, a, -1)


def _product(a: Double, b: Double) -> Array:
    total: Double = np.matmul(a[..., :BLOCK], b[..., :BLOCK, :])
    for start in range(BLOCK, b.shape[-2], BLOCK):
        total += np.matmul(a[..., start : start + BLOCK], b[..., start : start + BLOCK, :])
    product = total.astype(np.float32)
    product += _ZERO  # some kernels return -0.0 for a sum of zeros
    return lock(product)


def _rounded(subject: str, name: str, a: Array, axis: int | None) -> Rounded:
    """Round relative to the largest element of each row (axis -1) or of the matrix (None).

    This takes place in float32, unless the numbers are too large for the rounder. Both ways have the same bits.
    """
    _check_float32(subject, name, a)
    powers = _powers(_sizes(a, axis))
    largest = _largest(powers)
    if largest < LARGE:
        rounder = powers * ROUNDER
        rounded = a + rounder
        rounded -= rounder
        return Rounded(rounded.astype(np.float64), powers)
    if largest == math.inf:
        raise _non_finite(subject, name, a)
    wide_rounder = powers.astype(np.float64)
    wide_rounder *= ROUNDER64
    wide = a + wide_rounder
    wide -= wide_rounder
    return Rounded(wide, powers)


def _sizes(a: Array, axis: int | None) -> Single:
    """Return the largest magnitude of all elements (None), or along the first (0) or last (-1) axis, which is kept.

    NumPy's reduction takes 40 ns for each row, however short. Comparing whole columns, or one half of the rows with the
    other, takes a tenth of that for many short rows. A row may be compared twice, as a maximum does not change by it.
    """
    sizes: Single = np.abs(a)
    width = math.prod(a.shape[1:]) if axis == 0 else a.shape[-1]
    if axis == -1 and 0 < width <= 16 and a.size >= 32 * width * width:
        columns = [sizes[..., i : i + 1] for i in range(width)]
        return np.maximum(reduce(np.maximum, columns), SMALLEST)
    while axis == 0 and len(sizes) > max(128, width):
        half = (len(sizes) + 1) // 2
        sizes = np.maximum(sizes[:half], sizes[-half:])
    largest: Single = np.maximum.reduce(sizes, axis=axis, keepdims=True, initial=SMALLEST)
    return largest


def _powers(sizes: Single) -> Single:
    """Return the largest powers of two that do not exceed these sizes; inf for a size that is not finite."""
    return np.bitwise_and(sizes.view(np.int32), EXPONENT).view(np.float32)


def _largest(powers: Single) -> float:
    one = powers if powers.size == 1 else np.maximum.reduce(powers, axis=None, initial=SMALLEST)
    largest: float = one.item()
    return largest


# -------------------------------------------------------------------------------------------------------- sums


def sum_rows(a: Array) -> Array:
    """Sum over the batch. Each number is rounded first, so that the sum of a column fits in 53 bits.

    Shapes: a (B, ...), result (...), locked.

    Raises:
        DTypeError: If the array is not float32.
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> sum_rows(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))
        array([4., 6.], dtype=float32)
    """
    return lock(_sum("sum_rows", a, 0)).reshape(a.shape[1:])


def sum_last(a: Array) -> Array:
    """Sum over the last axis, which is kept with size 1. Shapes: a (..., I), result (..., 1).

    Raises:
        DTypeError: If the array is not float32.
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> sum_last(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))
        array([[3.],
               [7.]], dtype=float32)
    """
    return _sum("sum_last", a, -1)


def mean(a: Array) -> float:
    """Compute the mean of all elements, float32 or float64, summed in float64.

    Raises:
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> mean(np.array([1e30, 1.0, -1e30, 2.0]))
        0.0
        >>> mean(np.array([1.0, 2.0], np.float32))
        1.5
    """
    top = np.maximum.reduce(np.abs(a), axis=None, initial=0.0)
    if not top < math.inf:
        raise _non_finite("mean", "a", a)
    exponent = np.frexp(top)[1]
    values = np.ldexp(a.astype(np.float64), -exponent)
    rounder = 0.5 * sum_rounder(a.size)
    values += rounder
    values -= rounder
    total = np.add.reduce(values, axis=None).item()
    average: float = np.ldexp(total / a.size, exponent).item()
    return average


def mean_rows(a: Array) -> Double:
    """Compute the mean over the batch of float32 or float64 numbers in float64. Shapes: a (B, ...), result (...).

    Raises:
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> mean_rows(np.array([[1e30, 1.0], [-1e30, 2.0]]))
        array([0. , 1.5])
    """
    top = np.maximum.reduce(np.abs(a), axis=0, initial=0.0)
    if not (top < math.inf).all():
        raise _non_finite("mean_rows", "a", a)
    exponents = np.frexp(top)[1]
    values: Double = np.ldexp(a.astype(np.float64), -exponents)
    rounder = 0.5 * sum_rounder(len(a))
    values += rounder
    values -= rounder
    average: Double = np.ldexp(_added(values, 0)[0] / len(a), exponents)
    return average


def _sum(subject: str, a: Array, axis: int) -> Array:
    """Sum over an axis, which is kept."""
    _check_float32(subject, "a", a)
    powers = _powers(_sizes(a, axis))
    if _largest(powers) == math.inf:
        raise _non_finite(subject, "a", a)
    rounder = powers.astype(np.float64)
    rounder *= sum_rounder(a.shape[axis])
    values = a.astype(np.float64)  # NumPy adds numbers of two dtypes more slowly
    values += rounder
    values -= rounder
    return _added(values, axis).astype(np.float32)


def _added(values: Double, axis: int) -> Double:
    """Add numbers whose sums are exact along the first or the last axis, which is kept: a product with ones is faster.

    A sum of zeros is 0.0, as no rounded number is -0.0.
    """
    shape = values.shape
    total: Double
    if axis == 0:
        total = np.dot(ones(len(values), values.dtype), values.reshape(len(values), math.prod(shape[1:])))
        return total.reshape(1, *shape[1:])
    total = np.dot(values.reshape(math.prod(shape[:-1]), shape[-1]), ones(shape[-1], values.dtype))
    return total.reshape(*shape[:-1], 1)


def ones(count: int, dtype: np.dtype[np.floating]) -> Array:
    """Return a locked vector of ones. A product with it takes half the time of a sum. Short vectors are kept."""
    make = _ones if count <= 2**16 else _ones.__wrapped__
    vector: Array = make(count, dtype)
    return vector


@lru_cache(maxsize=16)
def _ones(count: int, dtype: np.dtype[np.floating]) -> Array:
    return lock(np.ones(count, dtype))


def sum_rounder(count: int) -> float:
    """Return a rounder for numbers below 2: ``count`` rounded numbers sum to 53 bits, and each has 51 bits at most."""
    return math.ldexp(1.5, max(2, (count - 1).bit_length()))


# --------------------------------------------------------------------------------------------------- functions


def exp(x: Array) -> Array:
    """Compute the exponential, element by element. An overflow gives inf, with NumPy's usual warning.

    Raises:
        DTypeError: If the array is not float32.
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> exp(np.array([0.0, 1.0, -200.0], np.float32))
        array([1.       , 2.7182817, 0.       ], dtype=float32)
    """
    return _apply("exp", elementary.exp, x)


def log(x: Array) -> Array:
    """Compute the natural logarithm of positive numbers, element by element.

    Raises:
        DTypeError: If the array is not float32.
        NonFiniteError: If an element is NaN, infinite, zero or negative.

    Example:
        >>> log(np.array([1.0, 10.0], np.float32))
        array([0.       , 2.3025851], dtype=float32)
    """
    _check_above("log", x, 0)
    return _apply("log", elementary.log, x)


def expm1(x: Array) -> Array:
    """Compute ``exp(x) - 1`` without cancellation, element by element. An overflow gives inf, as in ``exp``.

    Raises:
        DTypeError: If the array is not float32.
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> expm1(np.array([0.0, 1e-8, -200.0], np.float32))
        array([ 0.e+00,  1.e-08, -1.e+00], dtype=float32)
    """
    return _apply("expm1", elementary.expm1, x)


def log1p(x: Array) -> Array:
    """Compute ``log(1 + x)`` without cancellation for numbers above -1, element by element.

    Raises:
        DTypeError: If the array is not float32.
        NonFiniteError: If an element is NaN, infinite, -1 or less.

    Example:
        >>> log1p(np.array([0.0, 1e-8, 1.0], np.float32))
        array([0.000000e+00, 1.000000e-08, 6.931472e-01], dtype=float32)
    """
    _check_above("log1p", x, -1)
    return _apply("log1p", elementary.log1p, x)


def tanh(x: Array) -> Array:
    """Compute the hyperbolic tangent, element by element.

    Raises:
        DTypeError: If the array is not float32.
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> tanh(np.array([-1.0, 0.0, 1.0], np.float32))
        array([-0.7615942,  0.       ,  0.7615942], dtype=float32)
    """
    return _apply("tanh", elementary.tanh, x)


def sigmoid(x: Array) -> Array:
    """Compute the logistic function, element by element, from the exponential of ``-|x|``, which cannot overflow.

    Raises:
        DTypeError: If the array is not float32.
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> sigmoid(np.array([0.0, -1e4, 1e4], np.float32))
        array([0.5, 0. , 1. ], dtype=float32)
    """
    small = exp(-np.abs(x))
    y: Array = np.maximum((x >= 0).astype(x.dtype), small) / (1 + small)  # np.where is slow for random signs
    return y


def erf(x: Array) -> Array:
    """Compute the error function, element by element.

    Raises:
        DTypeError: If the array is not float32.
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> erf(np.array([-0.5, 0.0, 2.0], np.float32))
        array([-0.5204999,  0.       ,  0.9953223], dtype=float32)
    """
    return _apply("erf", elementary.erf, x)


def normal_density(x: Array) -> Array:
    """Compute the density of the normal distribution, element by element.

    Raises:
        DTypeError: If the array is not float32.
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> normal_density(np.array([0.0, -1.0, 10.0], np.float32))
        array([3.9894229e-01, 2.4197072e-01, 7.6945985e-23], dtype=float32)
    """
    return _apply("normal_density", elementary.normal_density, x)


def normal_cdf(x: Array) -> Array:
    """Compute the normal distribution function, element by element.

    Raises:
        DTypeError: If the array is not float32.
        NonFiniteError: If an element is NaN or infinite.

    Example:
        >>> normal_cdf(np.array([0.0, 1.0, -10.0], np.float32))
        array([5.000000e-01, 8.413448e-01, 7.619853e-24], dtype=float32)
    """
    return _apply("normal_cdf", elementary.normal_cdf, x)


def _apply(subject: str, function: Callable[[Double], Double], x: Array) -> Array:
    _check_float32(subject, "x", x)
    if not np.isfinite(x).all():
        raise _non_finite(subject, "x", x)
    y: Array = function(x.astype(np.float64)).astype(np.float32)
    return y


# ------------------------------------------------------------------------------------------------------ checks


def _check_float32(subject: str, name: str, a: Array) -> None:
    if a.dtype != _FLOAT32:
        raise DTypeError(
            f"portable arithmetic is for float32: {name} is {describe(a)}; use {name}.astype(np.float32)",
            subject=subject,
        )


def _check_above(subject: str, x: Array, limit: float) -> None:
    _check_float32(subject, "x", x)
    if np.minimum.reduce(x, axis=None, initial=math.inf) <= limit:
        first = x[x <= limit][0]
        raise NonFiniteError(f"portable arithmetic needs finite numbers, got {subject}({first})", subject=subject)


def _non_finite(subject: str, name: str, a: Array) -> NonFiniteError:
    index = np.unravel_index(int(np.isfinite(a).argmin()), a.shape)
    where = ", ".join(map(str, index))
    return NonFiniteError(
        f"portable arithmetic needs finite numbers, got {name}[{where}] = {a[index]}",
        subject=subject,
    )
