"""Minibatches of many sequences side by side: one gather for a step of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from funcnet.data.batches import Minibatches
from funcnet.network.batch import Batch, take_rows

B = TypeVar("B")


def stacked(many: Sequence[Iterable[B]]) -> Iterator[B] | None:
    """Return the batches of many sequences, step by step, with one axis in front for the sequences.

    The arrays of batch k have the rows ``many[i][k]`` at position i. It is None unless all sequences are shuffled
    ``Minibatches`` of one batch size, of the same examples, without a transform and an augmentation.

    Example:
        >>> import funcnet as fn
        >>> x, y = np.zeros((10, 2)), np.arange(10)
        >>> batches = stacked([fn.minibatches(x, y, 4, key=fn.Key(i)) for i in range(3)])
        >>> [(batch.x.shape, batch.y.shape) for batch in batches]
        [((3, 4, 2), (3, 4)), ((3, 4, 2), (3, 4)), ((3, 2, 2), (3, 2))]
    """
    if not all(isinstance(each, Minibatches) for each in many):
        return None
    sequences = cast("Sequence[Minibatches[Any, Any]]", many)
    orders = [each.order for each in sequences if each.order is not None and _is_alike(each, sequences[0])]
    if not len(orders) == len(many) > 0:
        return None
    return cast("Iterator[B]", _cuts(sequences[0], np.stack(orders)))


def _is_alike(one: Minibatches[Any, Any], other: Minibatches[Any, Any]) -> bool:
    """Return whether two sequences differ in their order alone, and give their rows as they are."""
    same = one.x is other.x and one.y is other.y and one.weight is other.weight
    is_plain = one.transform is None and one.augment is None
    return same and is_plain and (one.rows, one.batch_size) == (other.rows, other.batch_size)


def _cuts(first: Minibatches[Any, Any], orders: NDArray[np.intp]) -> Iterator[Batch[Any, Any]]:
    for start in first.rows[:: first.batch_size]:
        chosen = orders[:, start : min(start + first.batch_size, first.rows.stop)]
        weight = None if first.weight is None else take_rows(first.weight, chosen)
        yield Batch(take_rows(first.x, chosen), take_rows(first.y, chosen), weight)
