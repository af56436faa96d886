"""Portable products and sums on buffers, for folds: the bits of ``portable``'s, without a new array.

Each function binds an operation to buffers: it computes anew from what stands in them then. What is too large for the
short way, or not finite, goes through ``portable`` itself, which says what is wrong.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import numpy as np
from attrs import frozen

from funcnet.arithmetic import Operation, portable
from funcnet.arithmetic.portable import BLOCK, EXPONENT, LARGE, ROUNDER, ROUNDER64, SMALLEST, Double, Single
from funcnet.arrays import Array

_ZERO: Final = np.zeros((), np.float32)
_ROUNDER: Final = np.array(ROUNDER)
_EXPONENT: Final = np.array(EXPONENT)


@frozen(eq=False)
class RoundedBuffer:
    """What ``portable.Rounded`` is, on buffers. Shapes: values (B, I), powers (B, 1) or (1, 1)."""

    values: Double
    powers: Single

    @property
    def T(self) -> RoundedBuffer:  # noqa: N802  # as NumPy calls it
        """The transpose, which shares the buffers."""
        return RoundedBuffer(self.values.T, self.powers.T)


def operand(weight: Array) -> tuple[RoundedBuffer, Operation]:
    """``portable.operand``. Shape: (I, O)."""
    made = _buffer(weight, 1)
    work, rounder, powers = np.empty_like(weight), np.empty_like(made.powers), made.powers

    def run() -> None:
        highest = np.maximum.reduce(weight, axis=None, initial=SMALLEST)
        lowest = np.minimum.reduce(weight, axis=None, initial=SMALLEST)
        top = max(float(highest), -float(lowest))
        if not top < LARGE:
            _fill(made, portable.operand(weight))
            return
        powers.fill(math.ldexp(0.5, math.frexp(top)[1]))
        np.multiply(powers, _ROUNDER, rounder)
        np.add(weight, rounder, work)
        np.subtract(work, rounder, work)
        np.copyto(made.values, work)

    return made, run


def rows(x: Array) -> tuple[RoundedBuffer, Operation]:
    """``portable.rows``. Shape: (B, I)."""
    made = _buffer(x, len(x))
    work, rounder, powers = np.empty_like(x), np.empty_like(made.powers), made.powers
    bits = powers.view(np.int32)

    def run() -> None:
        np.abs(x, work)
        np.maximum.reduce(work, axis=1, out=powers, keepdims=True, initial=SMALLEST)
        np.bitwise_and(bits, _EXPONENT, bits)
        if not np.maximum.reduce(powers, axis=None, initial=SMALLEST) < LARGE:
            _fill(made, portable.rows(x))
            return
        np.multiply(powers, _ROUNDER, rounder)
        np.add(x, rounder, work)
        np.subtract(work, rounder, work)
        np.copyto(made.values, work)

    return made, run


def _buffer(like: Array, powers: int) -> RoundedBuffer:
    return RoundedBuffer(np.empty(like.shape, np.float64), np.empty((powers, 1), np.float32))


def _fill(buffer: RoundedBuffer, rounded: portable.Rounded) -> None:
    np.copyto(buffer.values, rounded.values)
    np.copyto(buffer.powers, rounded.powers)


def matmul(x: RoundedBuffer, weight: RoundedBuffer, out: Array) -> Operation:
    """``portable.matmul``. Shapes: x (B, I), weight (I, O), out (B, O)."""
    return _product(x.values, weight.values, out)


def sum_outer(x: RoundedBuffer, g: RoundedBuffer, out: Array) -> Operation:
    """``portable.sum_outer``. Shapes: x (B, I), g (B, O), out (I, O)."""
    values, powers, rounder = (np.empty_like(g.values), *np.empty((2, len(g.values), 1), np.float64))
    product = _product(x.values.T, values, out)

    def run() -> None:
        np.copyto(powers, x.powers)
        np.multiply(powers, g.powers, rounder)
        largest = np.maximum.reduce(rounder, axis=None, initial=0.0)
        np.divide(largest * ROUNDER64, powers, rounder)
        np.add(g.values, rounder, values)
        np.subtract(values, rounder, values)
        product()

    return run


def _product(a: Double, b: Double, out: Array) -> Operation:
    total = np.empty(out.shape, np.float64)
    part = np.empty(out.shape if len(b) > BLOCK else (), np.float64)
    multiply: list[Operation] = [partial(np.matmul, a[:, :BLOCK], b[:BLOCK], total)]
    for start in range(BLOCK, len(b), BLOCK):
        multiply.append(partial(np.matmul, a[:, start : start + BLOCK], b[start : start + BLOCK], part))
        multiply.append(partial(np.add, total, part, total))

    def run() -> None:
        for operation in multiply:
            operation()
        np.copyto(out, total)
        np.add(out, _ZERO, out)

    return run


def sum_rows(a: Array, out: Array) -> Operation:
    """``portable.sum_rows`` of an array. Shapes: a (B, ...), out (...)."""
    work, values, total = np.empty_like(a), np.empty(a.shape, np.float64), np.empty(out.shape, np.float64)
    powers, rounder = np.empty((1, *out.shape), np.float32), np.empty((1, *out.shape), np.float64)
    bits = powers.view(np.int32)
    count_rounder = np.array([portable.sum_rounder(len(a))])  # an axis: else NumPy 1 stays in float32

    def run() -> None:
        np.abs(a, work)
        np.maximum.reduce(work, axis=0, out=powers, keepdims=True, initial=SMALLEST)
        np.bitwise_and(bits, _EXPONENT, bits)
        if not np.maximum.reduce(powers, axis=None, initial=SMALLEST) < math.inf:
            portable.sum_rows(a)
        np.multiply(powers, count_rounder, rounder)
        np.add(a, rounder, values)
        np.subtract(values, rounder, values)
        np.add.reduce(values, axis=0, out=total)
        np.copyto(out, total)

    return run
