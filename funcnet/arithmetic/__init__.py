"""The one door to arithmetic whose bits depend on how it is done: products, sums, exponentials, logarithms.

IEEE addition, multiplication, division and square root give one result everywhere. A product's or a sum's bits depend
on the order of its additions, an exponential's on its implementation. All that funcnet does of those is done here: by
NumPy and its BLAS (native), or, inside ``with portable_bits()``, with the same bits on every machine (portable).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import lru_cache
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import numpy as np

from funcnet.arithmetic import elementary
from funcnet.core.arrays import Array, lock
from funcnet.core.checks import check_choice

# glibc maps fresh pages for a large array: page faults at its first writes. It stops once it has freed a larger one.
np.empty(2**24, np.uint8)

if TYPE_CHECKING:
    from funcnet.arithmetic import portable

SMALL: Final = 2**13

# ------------------------------------------------------------------------------------------------ which one

Name: TypeAlias = Literal["native", "portable"]

_portable: Final[ContextVar[bool]] = ContextVar("funcnet.arithmetic.portable", default=False)


def in_force() -> Name:
    """The arithmetic that this thread or task computes in."""
    return "portable" if _portable.get() else "native"


@contextmanager
def using(name: Name) -> Generator[None]:
    """Compute in the arithmetic of this name inside the ``with`` block.

    Raises:
        ConfigError: If there is no such arithmetic.
    """
    check_choice("using", "arithmetic", name, get_args(Name))
    if name == "portable":  # loaded when asked for; what another thread loads is named here only after it is loaded
        globals()["portable"] = import_module("funcnet.arithmetic.portable")
    token = _portable.set(name == "portable")
    try:
        yield
    finally:
        _portable.reset(token)


def portable_bits() -> AbstractContextManager[None]:
    """Compute with the same bits on every machine inside the ``with`` block; ``funcnet.portable``.

    For float32 networks. It holds for the thread or task that enters it, for the pullbacks that ``vjp`` makes inside,
    and for the runs that ``train`` begins inside.

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
    """The matrix product. Shapes: a (B, I), b (I, O), result (B, O), locked.

    Example:
        >>> matmul(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
        array([[11.]])
    """
    if _portable.get():
        return portable.matmul(a, b)
    # Both call the same BLAS routine: dot sets a large result to zero first, matmul takes longer over a small one.
    return lock(np.dot(a, b) if len(a) * b.shape[1] < SMALL else np.matmul(a, b))


def sum_outer(x: Array, g: Array) -> Array:
    """The sum over the batch of the outer products, ``x.T @ g``. Shapes: x (B, I), g (B, O), result (I, O), locked.

    Example:
        >>> sum_outer(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0], [10.0]]))
        array([[31.],
               [42.]])
    """
    return portable.sum_outer(x, g) if _portable.get() else matmul(x.T, g)


def matmul_columns(weight: Array, g: Array) -> Array:
    """``weight @ g.T``, a column for each row of g: ``matmul(g, weight.T)``, transposed, in C order.

    Shapes: weight (I, O), g (B, O), result (I, B), locked.

    Example:
        >>> matmul_columns(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]]))
        array([[11., 17.]])
    """
    return portable.matmul_columns(weight, g) if _portable.get() else matmul(weight, g.T)


def matmul_parts(a: Array, b: Array, size: int) -> Array:
    """The matrix product, each ``size`` rows by themselves: native ones then have the bits that they have alone.

    How BLAS rounds a row depends on where it stands in a product. Shapes: a (N * size, I), b (I, O), result
    (N * size, O), locked.

    Example:
        >>> matmul_parts(np.array([[1.0], [2.0]]), np.array([[3.0]]), 1)
        array([[3.],
               [6.]])
    """
    if _portable.get():
        return portable.matmul(a, b)
    product: Array = np.matmul(a.reshape(len(a) // size, size, a.shape[1]), b)
    return lock(product).reshape(len(a), b.shape[1])


# ----------------------------------------------------------------------------------------------------- sums


def sum_rows(a: Array) -> Array:
    """The sum over the batch. Shapes: a (B, ...), result (...), locked.

    Example:
        >>> sum_rows(np.array([[1.0, 2.0], [3.0, 4.0]]))
        array([4., 6.])
    """
    if _portable.get():
        return portable.sum_rows(a)
    total: Array = np.dot(_ones(len(a), a.dtype), a.reshape(len(a), prod(a.shape[1:])))
    return lock(total).reshape(a.shape[1:])


@lru_cache(maxsize=16)
def _ones(count: int, dtype: np.dtype[np.floating]) -> Array:
    """A sum over the batch is a product with ones: BLAS takes half of the time of a reduction."""
    return lock(np.ones(count, dtype))


def sum_last(a: Array) -> Array:
    """The sum over the last axis, which is kept with size 1. Shapes: a (..., I), result (..., 1)."""
    if _portable.get():
        return portable.sum_last(a)
    total: Array = np.add.reduce(a, axis=-1, keepdims=True)
    return total


def mean(a: Array) -> float:
    """The mean of all elements, summed in float64."""
    if _portable.get():
        return portable.mean(a)
    total: float = np.add.reduce(a, axis=None, dtype=np.float64).item()
    return total / a.size


def sum_all(a: Array) -> float:
    """The sum of all elements, in float64: their mean times their number; 0 of none.

    Example:
        >>> sum_all(np.array([[1.0, 2.0], [3.0, 4.0]])), sum_all(np.empty(0))
        (10.0, 0.0)
    """
    return mean(a) * a.size if a.size else 0.0


def mean_rows(a: Array) -> Array:
    """The mean over the batch, float32 or float64, summed in float64. Shapes: a (B, ...), result (...).

    For statistics over many rows, where a sum in float32 would lose digits.

    Example:
        >>> mean_rows(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))
        array([2., 3.])
    """
    if _portable.get():
        return portable.mean_rows(a)
    average: Array = np.add.reduce(a, axis=0, dtype=np.float64) / len(a)
    return average


# ------------------------------------------------------------------------------------------------ functions


def exp(x: Array) -> Array:
    """The exponential, element by element."""
    if _portable.get():
        return portable.exp(x)
    y: Array = np.exp(x)
    return y


def log(x: Array) -> Array:
    """The natural logarithm, element by element."""
    if _portable.get():
        return portable.log(x)
    y: Array = np.log(x)
    return y


def expm1(x: Array) -> Array:
    """``exp(x) - 1``, exact near 0 too, element by element.

    Example:
        >>> expm1(np.array([1e-20, 1.0]))
        array([1.00000000e-20, 1.71828183e+00])
    """
    if _portable.get():
        return portable.expm1(x)
    y: Array = np.expm1(x)
    return y


def log1p(x: Array) -> Array:
    """``log(1 + x)``, exact near 0 too, element by element.

    Example:
        >>> log1p(np.array([1e-20, 1.0]))
        array([1.00000000e-20, 6.93147181e-01])
    """
    if _portable.get():
        return portable.log1p(x)
    y: Array = np.log1p(x)
    return y


def tanh(x: Array) -> Array:
    """The hyperbolic tangent, element by element."""
    if _portable.get():
        return portable.tanh(x)
    y: Array = np.tanh(x)
    return y


def erf(x: Array) -> Array:
    """The error function, element by element: ``elementary.erf`` in native arithmetic too, as NumPy has none.

    Example:
        >>> erf(np.array([-0.5, 0.0, 2.0]))
        array([-0.52049988,  0.        ,  0.99532227])
    """
    if _portable.get():
        return portable.erf(x)
    return elementary.erf(x.astype(np.float64, copy=False)).astype(x.dtype, copy=False)


def softmax(logits: Array) -> Array:
    """Each row's exponentials as shares of their sum, its maximum subtracted first. Shapes: (B, O) to (B, O).

    Example:
        >>> softmax(np.array([[1e4, 1e4]]))
        array([[0.5, 0.5]])
    """
    with np.errstate(over="ignore"):  # a difference beyond every float is a share of 0
        shares = exp(logits - logits.max(axis=-1, keepdims=True))
    return shares / sum_last(shares)
