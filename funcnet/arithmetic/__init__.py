"""The one door to arithmetic whose bits depend on how it is done: products, sums, exponentials, logarithms.

IEEE addition, multiplication, division and square root give one result everywhere. A product's or a sum's bits depend
on the order of its additions, an exponential's on its implementation. All that funcnet does of those is done here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from funcnet.arrays import Array

# glibc maps fresh pages for a large array: page faults at its first writes. It stops once it has freed a larger one.
np.empty(2**24, np.uint8)

SMALL: Final = 2**13


def matmul(a: Array, b: Array) -> Array:
    """The matrix product. Shapes: a (B, I), b (I, O), result (B, O), locked.

    Example:
        >>> matmul(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
        array([[11.]])
    """
    # Both call the same BLAS routine: dot sets a large result to zero first, matmul takes longer over a small one.
    product: Array = a.dot(b) if len(a) * b.shape[1] < SMALL else np.matmul(a, b)
    product.flags.writeable = False
    return product


def planned_matmul(a: Array, b: Array, out: Array) -> Callable[[], object]:
    """``matmul`` as an operation on buffers, with the same bits."""
    return partial(np.dot if out.size < SMALL else np.matmul, a, b, out)


def planned_sum_rows(a: Array, out: Array) -> Callable[[], object]:
    """``sum_rows`` as an operation on buffers, with the same bits."""
    return partial(np.add.reduce, a, 0, None, out)


def sum_outer(x: Array, g: Array) -> Array:
    """The sum over the batch of the outer products, ``x.T @ g``. Shapes: x (B, I), g (B, O), result (I, O), locked.

    Example:
        >>> sum_outer(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0], [10.0]]))
        array([[31.],
               [42.]])
    """
    return matmul(x.T, g)


def sum_rows(a: Array) -> Array:
    """The sum over the batch. Shapes: a (B, ...), result (...), locked.

    Example:
        >>> sum_rows(np.array([[1.0, 2.0], [3.0, 4.0]]))
        array([4., 6.])
    """
    total: Array = np.add.reduce(a, axis=0)
    total.flags.writeable = False
    return total


def sum_last(a: Array, out: Array | None = None) -> Array:
    """The sum over the last axis, which is kept with size 1. Shapes: a (..., I), result (..., 1)."""
    total: Array = np.add.reduce(a, axis=-1, out=out, keepdims=True)
    return total


def mean(a: Array) -> float:
    """The mean of all elements, summed in float64."""
    return float(np.add.reduce(a, axis=None, dtype=np.float64)) / a.size


def exp(x: Array, out: Array | None = None) -> Array:
    """The exponential, element by element."""
    y: Array = np.exp(x, out=out)
    return y


def log(x: Array, out: Array | None = None) -> Array:
    """The natural logarithm, element by element."""
    y: Array = np.log(x, out=out)
    return y


def tanh(x: Array, out: Array | None = None) -> Array:
    """The hyperbolic tangent, element by element."""
    y: Array = np.tanh(x, out=out)
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
