"""The rows that a metric counts: their weights, and the counts, shares and means over them."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.arithmetic import cumulative_sum, mean
from funcnet.core.arrays import Array, beside
from funcnet.core.checks import check_weight
from funcnet.core.errors import NonFiniteError

G = TypeVar("G", bound=np.generic)

Counts: TypeAlias = NDArray[np.float64]
"""Numbers of rows, or, with weights, sums of weights."""


@frozen(eq=False)
class Rows:
    """Which rows count, and how much.

    Args:
        kept: Whether the weight of each given row is positive, shape (B,). None means that all are.
        weight: The weights of the rows that are kept, divided by ``2**exponent``, which makes the largest at least 0.5
            and less than 1: no sum of them or product of two sums overflows. None means 1.
        exponent: The exponent.
    """

    kept: NDArray[np.bool_] | None = None
    weight: Counts | None = None
    exponent: int = 0

    def of(self, array: NDArray[G]) -> NDArray[G]:
        """Return the rows of an array that count. Shapes: (B, ...) to (number of rows that count, ...)."""
        return array if self.kept is None else array[self.kept]

    def positions(self, number: int) -> NDArray[np.intp]:
        """Return the positions of the ``number`` rows that count among the given rows."""
        return np.arange(number) if self.kept is None else np.flatnonzero(self.kept)

    def count(self, ids: NDArray[np.intp] | NDArray[np.bool_], size: int) -> Counts:
        """Count each id from 0 to ``size - 1``, row after row. Shapes: ids (B,), result (size,)."""
        return np.bincount(ids, self.weight, size).astype(np.float64, copy=False)

    def count_columns(self, marks: NDArray[np.bool_]) -> Counts:
        """Count the true elements of each column, row after row. Shapes: marks (B, O), result (O,)."""
        if self.weight is None:
            counts: Counts = np.count_nonzero(marks, axis=0).astype(np.float64)
            return counts
        rows, columns = np.nonzero(marks)
        return np.bincount(columns, self.weight[rows], marks.shape[1]).astype(np.float64, copy=False)

    def share(self, marks: NDArray[np.bool_]) -> float:
        """Return the share of the rows that are true. Shape: (B,)."""
        false, true = self.count(marks, 2).tolist()
        share: float = true / (false + true)
        return share

    def average(self, values: Array) -> float:
        """Return the mean over all elements, summed in float64. Shape: (B, ...)."""
        if self.weight is None:
            return mean(values)
        return mean(values * beside(self.weight / mean(self.weight), values))

    def whole(self, name: str, counts: Counts) -> NDArray[np.int64] | Counts:
        """Return counts in the unit of the given weights, or as integers if there are no weights.

        Raises:
            NonFiniteError: If a count overflows.
        """
        if self.weight is None:
            return counts.astype(np.int64)
        with np.errstate(over="ignore"):
            sums: Counts = np.ldexp(counts, self.exponent)
        if not np.isfinite(sums).all():
            raise NonFiniteError("a sum of weights overflows float64; divide the weights by the largest", subject=name)
        return sums


def weighted_rows(name: str, count: int, weight: Array | None) -> Rows:
    """Check the weights of ``count`` rows.

    Raises:
        ShapeError, DTypeError, NonFiniteError, ConfigError: If they are not finite floats of 0 or more, one per row.
    """
    if weight is None:
        return Rows()
    check_weight(name, weight, count)
    kept = weight > 0
    wide = weight[kept].astype(np.float64)
    exponent = int(np.frexp(wide.max())[1])
    scaled: NDArray[np.float64] = np.ldexp(wide, -exponent)
    scaled[scaled == 0] = np.finfo(np.float64).smallest_subnormal
    return Rows(None if kept.all() else kept, scaled, exponent)


def total(values: Counts) -> float:
    """Add numbers in order, in float64: exactly if they are whole numbers. Shape: (O,), with at least one element."""
    return float(cumulative_sum(values)[-1])
