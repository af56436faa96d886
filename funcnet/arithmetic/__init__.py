"""All arithmetic whose bits depend on the implementation: products, sums, exponentials, logarithms and maxima.

IEEE addition, multiplication, division and square root give the same result everywhere. The bits of a product or a sum
depend on the order of its additions, and those of an exponential on its implementation. funcnet computes these only
here: with NumPy and its BLAS (native), or, inside ``with portable_bits()``, with the same bits on every machine
(portable).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from math import prod
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from funcnet.arithmetic import elementary, portable
from funcnet.core.arrays import Array, beside, lock
from funcnet.core.checks import check_choice

__all__ = [
    "centered_last",
    "centered_rows",
    "clip",
    "cumulative_sum",
    "erf",
    "exp",
    "expm1",
    "in_force",
    "inner_each",
    "largest",
    "log",
    "log1p",
    "matmul",
    "matmul_columns",
    "matmul_each",
    "matmul_last",
    "matmul_parts",
    "maximum",
    "mean",
    "mean_and_variance",
    "mean_last",
    "mean_rows",
    "minimum",
    "normal_cdf",
    "normal_density",
    "portable_bits",
    "sigmoid",
    "softmax",
    "sum_all",
    "sum_by_id",
    "sum_last",
    "sum_outer",
    "sum_rows",
    "tanh",
    "using",
]


def __dir__() -> list[str]:
    return __all__


# glibc maps new pages for each large array, which causes page faults at the first writes. It stops doing so once it
# has freed a larger array.
np.empty(2**24, np.uint8)

SMALL: Final = 2**13

# ------------------------------------------------------------------------------------------------ which one

Name: TypeAlias = Literal["native", "portable"]

_portable: Final[ContextVar[bool]] = ContextVar("funcnet.arithmetic.portable", default=False)


def in_force() -> Name:
    """Return the name of the arithmetic that this thread or task computes in."""
    return "portable" if _portable.get() else "native"


@contextmanager
def using(name: Name) -> Generator[None]:
    """Compute in the named arithmetic inside the ``with`` block.

    Raises:
        ConfigError: If no arithmetic has this name.
    """
    check_choice("using", "arithmetic", name, get_args(Name))
    token = _portable.set(name == "portable")
    try:
        yield
    finally:
        _portable.reset(token)


def portable_bits() -> AbstractContextManager[None]:
    """Compute with the same bits on every machine inside the ``with`` block. The public name is ``funcnet.portable``.

    Portable arithmetic is for float32 networks. It applies to the thread or task that enters the block, and to the
    runs that ``train``, ``fit`` and ``audited_train`` begin and the pullbacks that ``vjp`` makes inside it. A generator
    that pauses inside the block leaves its caller in portable arithmetic, because Python has one context for both: let
    the caller enter the block.

    Example:
        >>> import funcnet as fn
        >>> with fn.portable():
        ...     y = fn.forward(fn.mlp(fn.Key(0), (3, 2)), np.ones((1, 3), np.float32))
        >>> y[0, 0].item().hex()
        '-0x1.778f600000000p-1'
    """
    return using("portable")


# ------------------------------------------------------------------------------------------------- products


def matmul(a: Array, b: Array) -> Array:
    """Compute the matrix product. Shapes: a (B, I), b (I, O), result (B, O), locked.

    Example:
        >>> matmul(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
        array([[11.]])
    """
    if _portable.get():
        return portable.matmul(a, b)
    # Both call the same BLAS routine. dot first fills a large result with zeros; matmul is slower for a small result.
    return lock(np.dot(a, b) if len(a) * b.shape[1] < SMALL else np.matmul(a, b))


def sum_outer(x: Array, g: Array) -> Array:
    """Sum the outer products over the batch: ``x.T @ g``. Shapes: x (B, I), g (B, O), result (I, O), locked.

    Example:
        >>> sum_outer(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0], [10.0]]))
        array([[31.],
               [42.]])
    """
    return portable.sum_outer(x, g) if _portable.get() else matmul(x.T, g)


def matmul_columns(weight: Array, g: Array) -> Array:
    """Compute ``weight @ g.T``, one column per row of g: the transpose of ``matmul(g, weight.T)``, in C order.

    Shapes: weight (I, O), g (B, O), result (I, B), locked.

    Example:
        >>> matmul_columns(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]]))
        array([[11., 17.]])
    """
    return portable.matmul_columns(weight, g) if _portable.get() else matmul(weight, g.T)


def matmul_parts(a: Array, b: Array, size: int) -> Array:
    """Compute the matrix product in groups of ``size`` rows. Each group has the bits that it has alone.

    BLAS rounds a row differently depending on its position in a product, so native arithmetic multiplies each group
    independently. Shapes: a (N * size, I), b (I, O), result (N * size, O), locked.

    Example:
        >>> matmul_parts(np.array([[1.0], [2.0]]), np.array([[3.0]]), 1)
        array([[3.],
               [6.]])
    """
    if _portable.get():
        return portable.matmul(a, b)
    product: Array = np.matmul(a.reshape(len(a) // size, size, a.shape[1]), b)
    return lock(product).reshape(len(a), b.shape[1])


def matmul_last(x: Array, weight: Array) -> Array:
    """Compute the matrix product over the last axis of ``x``. Shapes: x (B, ..., I), weight (I, O), result (B, ..., O).

    The result is locked. For more than two axes, native arithmetic multiplies each row of the batch independently, as
    ``matmul_parts`` does, so that the bits of a row do not depend on the rows around it.

    Example:
        >>> matmul_last(np.array([[[1.0, 2.0], [0.0, 1.0]]]), np.array([[3.0], [4.0]]))
        array([[[11.],
                [ 4.]]])
    """
    if x.ndim == 2:
        return matmul(x, weight)
    positions = prod(x.shape[1:-1])
    flat = x.reshape(len(x) * positions, x.shape[-1])
    return matmul_parts(flat, weight, max(positions, 1)).reshape(*x.shape[:-1], weight.shape[1])


def matmul_each(a: Array, b: Array) -> Array:
    """Compute a matrix product for each pair of matrices. Shapes: a (..., I, J), b (..., J, K), result (..., I, K).

    The operands may be views with any strides, such as transposes. The result is locked. Each product has the bits that
    it has alone. Its row i depends on no other row of ``a``. If ``b`` is finite, row i depends on no row j of ``b`` for
    which a[..., i, j] is 0.

    Example:
        >>> matmul_each(np.array([[[1.0, 2.0]], [[0.0, 1.0]]]), np.array([[[3.0], [4.0]], [[5.0], [6.0]]]))
        array([[[11.]],
        <BLANKLINE>
               [[ 6.]]])
    """
    if _portable.get():
        return portable.matmul_each(a, b)
    return lock(np.matmul(a, b))


def inner_each(a: Array, b: Array) -> Array:
    """Compute the inner products of rows: ``matmul_each(a, b)`` with the transposes of ``b``, as ``np.inner`` does.

    Shapes: a (..., I, J), b (..., K, J), result (..., I, K), locked. Each element depends on one row of ``a`` and one
    row of ``b``.

    Example:
        >>> inner_each(np.array([[[1.0, 2.0]]]), np.array([[[3.0, 4.0], [5.0, 6.0]]]))
        array([[[11., 17.]]])
    """
    return portable.inner_each(a, b) if _portable.get() else lock(np.matmul(a, np.swapaxes(b, -1, -2)))


# ----------------------------------------------------------------------------------------------------- sums


def sum_rows(a: Array) -> Array:
    """Sum over the batch. Shapes: a (B, ...), result (...), locked.

    Example:
        >>> sum_rows(np.array([[1.0, 2.0], [3.0, 4.0]]))
        array([4., 6.])
    """
    if _portable.get():
        return portable.sum_rows(a)
    total: Array = np.dot(portable.ones(len(a), a.dtype), a.reshape(len(a), prod(a.shape[1:])))
    return lock(total).reshape(a.shape[1:])


def sum_by_id(a: Array, ids: NDArray[np.integer], count: int) -> Array:
    """Sum the rows of each id: row v of the result is the sum of the rows ``a[n]`` with ``ids[n] = v``.

    Each sum is computed in float64, one row after the other, so both arithmetics have the same bits. Shapes: a (N, C),
    ids (N,) from 0 to count - 1, result (count, C), locked.

    Example:
        >>> sum_by_id(np.array([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]]), np.array([1, 0, 1]), 3)
        array([[ 3.,  4.],
               [11., 22.],
               [ 0.,  0.]])
    """
    if count <= 2 * len(a):
        return lock(_sum_by_id(a, ids, count).astype(a.dtype))
    # At most N of many ids occur. Their sums need N rows of float64, not as many as there are ids.
    rows = np.zeros_like(ids, np.intp, shape=(count,))
    rows[ids] = np.arange(len(a))
    places = rows[ids]
    total = np.zeros_like(a, shape=(count, a.shape[1]))
    total[ids] = _sum_by_id(a, places, len(a))[places]
    return lock(total)


def _sum_by_id(a: Array, ids: NDArray[np.integer], count: int) -> NDArray[np.float64]:
    size = a.shape[1]
    places = ids.astype(np.intp, copy=False).reshape(-1, 1) * size + np.arange(size, dtype=np.intp)
    totals: Any = np.bincount(places.reshape(-1), a.reshape(-1), count * size)  # NumPy's types know only counts
    sums: NDArray[np.float64] = totals.reshape(count, size)
    return sums


def sum_last(a: Array) -> Array:
    """Sum over the last axis, which is kept with size 1. Shapes: a (..., I), result (..., 1)."""
    if _portable.get():
        return portable.sum_last(a)
    total: Array = np.add.reduce(a, axis=-1, keepdims=True)
    return total


def mean(a: Array) -> float:
    """Compute the mean of all elements, summed in float64."""
    if _portable.get():
        return portable.mean(a)
    total: float = np.add.reduce(a, axis=None, dtype=np.float64).item()
    return total / a.size


def sum_all(a: Array) -> float:
    """Sum all elements in float64: their mean times their number. The sum of an empty array is 0.

    Example:
        >>> sum_all(np.array([[1.0, 2.0], [3.0, 4.0]])), sum_all(np.empty(0))
        (10.0, 0.0)
    """
    return mean(a) * a.size if a.size else 0.0


def cumulative_sum(a: NDArray[np.number]) -> Array:
    """Sum the elements up to each element, one after the other, in float64. Shapes: (B,), result (B,).

    The order of the additions is fixed, so both arithmetics have the same bits.

    Example:
        >>> cumulative_sum(np.array([1, 2, 4]))
        array([1., 3., 7.])
    """
    sums: Array = np.cumsum(a, dtype=np.float64)
    return sums


def mean_rows(a: Array) -> Array:
    """Compute the mean over the batch, summed in float64. Shapes: a (B, ...), result (...), float64.

    ``a`` is float32 or float64. This is for statistics over many rows, where a float32 sum would lose digits.

    Example:
        >>> mean_rows(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))
        array([2., 3.])
    """
    if _portable.get():
        return portable.mean_rows(a)
    return sum_rows(a.astype(np.float64, copy=False)) / len(a)


def mean_last(a: Array) -> Array:
    """Compute the mean over the last axis, which becomes 1. Shapes: a (..., I), result (..., 1) in a's dtype.

    Example:
        >>> mean_last(np.array([[1.0, 3.0]], np.float32))
        array([[2.]], dtype=float32)
    """
    average: Array = sum_last(a) / float(a.shape[-1])  # NumPy 1 promotes float32 arrays by an int beyond 65,535
    return average


# ------------------------------------------------------------------------------------------------ centering
#
# A mean is rounded. Where all numbers are far from 0 and near each other, its error would be taken for a deviation. The
# mean of what is left after the first subtraction is that error, so a second subtraction removes it. What is left of
# equal numbers is a small multiple of their spacing, whose sum is exact: the result is exactly 0.


def centered_last(a: Array) -> Array:
    """Subtract the mean over the last axis. Equal numbers give exactly 0. Shapes: a (..., I), result (..., I).

    Source: Chan, Golub and LeVeque, "Algorithms for computing the sample variance", The American Statistician 37
    (1983), for the second subtraction.

    Example:
        >>> centered_last(np.array([[1.0, 3.0], [0.1, 0.1]]))
        array([[-1.,  1.],
               [ 0.,  0.]])
    """
    rest = a - mean_last(a)
    centered: Array = rest - mean_last(rest)
    return centered


def centered_rows(a: Array) -> Array:
    """Subtract the mean over the batch. Equal rows give exactly 0. Shapes: a (B, ...), result (B, ...).

    The second mean is summed in float64: a float32 sum of more than 100,000 equal numbers is not exact.

    Example:
        >>> centered_rows(np.array([[1.0, 0.1], [3.0, 0.1]]))
        array([[-1.,  0.],
               [ 1.,  0.]])
    """
    if not len(a):
        return a
    rest = a - sum_rows(a) / float(len(a))
    centered: Array = rest - mean_rows(rest).astype(a.dtype)
    return centered


def mean_and_variance(a: Array, weight: Array | None = None) -> tuple[Array, Array]:
    """Compute the mean and the biased variance over the batch, in float64. Equal rows have a variance of exactly 0.

    ``a`` is float32 or float64. Shapes: a (B, ...), with at least one row; both results (...). With weights, positive
    and of shape (B,), a row counts by its weight, and the variance of equal rows is 0 up to rounding.

    Example:
        >>> mean_and_variance(np.array([[1.0, 0.1], [3.0, 0.1]], np.float32))
        (array([2. , 0.1]), array([1., 0.]))
    """
    average = _mean_by_weight(a, weight)
    rest = a - average
    error = np.nan_to_num(_mean_by_weight(rest, weight))  # an infinite mean stays infinite
    centered = rest - error
    return average + error, _mean_by_weight(centered * centered, weight)


def _mean_by_weight(a: Array, weight: Array | None) -> Array:
    """The mean of the rows times their weights, relative to the mean weight. The largest weight is made 1 first."""
    if weight is None:
        return mean_rows(a)
    share = weight.astype(np.float64) / weight.max()
    return mean_rows(a * beside(share / mean(share), a))


# --------------------------------------------------------------------------------------- larger and smaller

Operand: TypeAlias = "Array | np.floating | float"


def maximum(a: Operand, b: Operand, *more: Operand) -> Array:
    """Compute the largest of two or more arrays, element by element. In portable arithmetic, every zero is +0.0.

    0.0 and -0.0 are equal, so IEEE 754-2008 allows both as their maximum. NumPy leaves the choice to the processor:
    x86-64 returns the second operand, ARM returns 0.0 (IEEE 754-2019), and a compiled comparison returns the first
    operand. Shapes and dtypes are those of ``np.maximum``, from the left for more than two arrays. A NaN gives NaN.

    Example:
        >>> maximum(np.array([-2.0, 3.0]), 0)
        array([0., 3.])
        >>> with portable_bits():
        ...     np.signbit(maximum(np.array([0.0, -0.0]), np.array([-0.0, -0.0])))
        array([False, False])
    """
    larger: Array = np.maximum(a, b)
    for each in more:
        if np.shape(each) == larger.shape != () and np.result_type(each) == larger.dtype:
            np.maximum(larger, each, out=larger)
        else:
            larger = np.maximum(larger, each)
    return _with_one_zero(larger)


def minimum(a: Operand, b: Operand) -> Array:
    """Compute the smaller of two arrays, element by element. In portable arithmetic, every zero is +0.0.

    As for ``maximum``, the sign of a zero of ``np.minimum`` depends on the processor.

    Example:
        >>> minimum(np.array([-2.0, 3.0]), 0)
        array([-2.,  0.])
    """
    return _with_one_zero(np.minimum(a, b))


def clip(a: Array, low: Operand, high: Operand) -> Array:
    """Limit every element to the range from ``low`` to ``high``. In portable arithmetic, every zero is +0.0.

    With a limit of 0, the sign of a zero of ``np.clip`` depends on the version of NumPy.

    Example:
        >>> clip(np.array([-2.0, 3.0, 9.0]), 0, 6)
        array([0., 3., 6.])
    """
    return _with_one_zero(np.clip(a, low, high))


def largest(a: Array, axis: int = -1) -> Array:
    """Compute the largest element along an axis, which is removed. In portable arithmetic, every zero is +0.0.

    As for ``maximum``, the sign of a zero of ``np.maximum.reduce`` depends on the processor.

    Example:
        >>> largest(np.array([[1.0, 5.0], [4.0, 2.0]]))
        array([5., 4.])
    """
    return _with_one_zero(np.maximum.reduce(a, axis=axis))


def _with_one_zero(a: Array) -> Array:
    """Make every zero of a new array +0.0 in portable arithmetic: ``-0.0 + 0.0`` is 0.0 on every machine."""
    if _portable.get():
        a += a.dtype.type(0)
    return a


# ------------------------------------------------------------------------------------------------ functions


def exp(x: Array) -> Array:
    """Compute the exponential, element by element."""
    if _portable.get():
        return portable.exp(x)
    y: Array = np.exp(x)
    return y


def log(x: Array) -> Array:
    """Compute the natural logarithm, element by element."""
    if _portable.get():
        return portable.log(x)
    y: Array = np.log(x)
    return y


def expm1(x: Array) -> Array:
    """Compute ``exp(x) - 1``, element by element, without cancellation near 0.

    Example:
        >>> expm1(np.array([1e-20, 1.0]))
        array([1.00000000e-20, 1.71828183e+00])
    """
    if _portable.get():
        return portable.expm1(x)
    y: Array = np.expm1(x)
    return y


def log1p(x: Array) -> Array:
    """Compute ``log(1 + x)``, element by element, without cancellation near 0.

    Example:
        >>> log1p(np.array([1e-20, 1.0]))
        array([1.00000000e-20, 6.93147181e-01])
    """
    if _portable.get():
        return portable.log1p(x)
    y: Array = np.log1p(x)
    return y


def tanh(x: Array) -> Array:
    """Compute the hyperbolic tangent, element by element."""
    if _portable.get():
        return portable.tanh(x)
    y: Array = np.tanh(x)
    return y


def erf(x: Array) -> Array:
    """Compute the error function, element by element. NumPy has no ``erf``, so native arithmetic, too, uses funcnet's.

    Example:
        >>> erf(np.array([-0.5, 0.0, 2.0]))
        array([-0.52049988,  0.        ,  0.99532227])
    """
    if _portable.get():
        return portable.erf(x)
    return elementary.erf(x.astype(np.float64, copy=False)).astype(x.dtype, copy=False)


def normal_density(x: Array) -> Array:
    """Compute the density of the normal distribution, element by element, in float64 as ``erf`` does.

    Example:
        >>> normal_density(np.array([0.0, 1.0]))
        array([0.39894228, 0.24197072])
    """
    if _portable.get():
        return portable.normal_density(x)
    return elementary.normal_density(x.astype(np.float64, copy=False)).astype(x.dtype, copy=False)


def normal_cdf(x: Array) -> Array:
    """Compute the normal distribution function, element by element, in float64 as ``erf`` does.

    A small share keeps its digits: ``(1 + erf(x / sqrt(2))) / 2`` loses them for negative x.

    Example:
        >>> normal_cdf(np.array([0.0, 1.0, -20.0]))
        array([5.00000000e-01, 8.41344746e-01, 2.75362412e-89])
    """
    if _portable.get():
        return portable.normal_cdf(x)
    return elementary.normal_cdf(x.astype(np.float64, copy=False)).astype(x.dtype, copy=False)


def softmax(logits: Array) -> Array:
    """Divide each row's exponentials by their sum, after subtracting the row's maximum. Shapes: (B, O) to (B, O).

    Example:
        >>> softmax(np.array([[1e4, 1e4]]))
        array([[0.5, 0.5]])
    """
    with np.errstate(over="ignore"):  # a difference that overflows gives a share of 0
        shares = exp(logits - logits.max(axis=-1, keepdims=True))
    return shares / sum_last(shares)


def sigmoid(x: Array) -> Array:
    """Compute the logistic function ``1 / (1 + exp(-x))``, element by element.

    In native arithmetic, the result is 0 where the exponential overflows, although a subnormal number would be nearer,
    such as 2.2e-39 for x = -89 in float32.

    Example:
        >>> sigmoid(np.array([0.0, -1e4, 1e4]))
        array([0.5, 0. , 1. ])
        >>> sigmoid(np.array([-89.0], np.float32))
        array([0.], dtype=float32)
    """
    if _portable.get():
        return portable.sigmoid(x)
    with np.errstate(over="ignore"):
        y: Array = 1 / (1 + np.exp(-x))
    return y
