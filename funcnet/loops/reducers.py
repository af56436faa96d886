"""Reducers: which process computes which shards, and how the shards' gradients become one sum that all processes have.

The sum is a binary tree over the shards: neighbors are added first, ``((0 + 1) + (2 + 3)) + ...``, and a shard without
a neighbor moves up unchanged. The tree depends on the number of shards alone. Each process can therefore add the parts
of the tree that lie within its own shards, and send one vector for each part instead of one for each shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from attrs import field, frozen

from funcnet.core.arrays import Array

V = TypeVar("V")


@runtime_checkable
class Reducer(Protocol):
    """Divides the shards of each batch among processes ("ranks"), and adds the gradients of all shards.

    Every rank runs the same program: it holds the state, cuts the same batches, and computes its own shards.
    ``gather``, ``reduce`` and ``check`` are collective: each rank calls them in the same order, waits for the others,
    and gets the same result. If a shard fails, its rank calls ``gather`` with NaN, and no rank calls ``reduce``.

    ``MPIReducer`` is a reducer of the processes of ``mpiexec``.
    """

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """The number of processes."""
        ...

    def own(self, count: int) -> range:
        """Return the numbers of the shards that this rank computes, of ``count`` shards.

        Each shard belongs to one rank. Of as many shards as ranks, each rank has one.
        """
        ...

    def gather(self, values: Sequence[float], count: int) -> list[float]:
        """Return each shard's number, in the order of the shards.

        Args:
            values: The numbers of this rank's shards.
            count: The number of shards of all ranks.
        """
        ...

    def reduce(self, rows: Sequence[Array], size: int, count: int, dtype: np.dtype[np.floating]) -> Array:
        """Return the sum of the vectors of all shards, shape (P,).

        The sum must have the bits of ``SerialReducer().reduce``, which gets the vectors of all shards in order.

        Args:
            rows: The vectors of this rank's shards, each of shape (P,).
            size: P, for a rank without shards.
            count: The number of shards of all ranks.
            dtype: The dtype of the vectors.
        """
        ...

    def check(self, value: object, /) -> None:
        """Check that all ranks hold the same value and compute in the same way.

        Before and after each epoch, the value is the step, the state, or the ``EpochLog``. Before a run, it is what all
        ranks must agree on, such as the numbers of the epochs. A program may use it to wait for all ranks.

        Raises:
            StructureError: If the values differ; every rank raises it.
        """
        ...


@frozen
class SerialReducer:
    """The reducer of a single process, which computes all shards. A step with it is a step without a reducer."""

    rank: int = field(init=False, default=0)
    size: int = field(init=False, default=1)

    def own(self, count: int) -> range:
        """Return the numbers of all shards."""
        return range(count)

    def gather(self, values: Sequence[float], count: int) -> list[float]:  # noqa: ARG002  # the protocol's
        """Return the values."""
        return list(values)

    def reduce(self, rows: Sequence[Array], size: int, count: int, dtype: np.dtype[np.floating]) -> Array:  # noqa: ARG002  # the protocol's
        """Return ``tree_sum`` of the rows."""
        return tree_sum(rows, np.add)

    def check(self, value: object, /) -> None:
        """Do nothing: a single process agrees with itself."""


def reducer_of(step: object) -> Reducer:
    """Return a step's reducer, or that of a single process if the step has none."""
    found: Reducer | None = getattr(step, "reducer", None)
    return SerialReducer() if found is None else found


def tree_sum(parts: Iterable[V], add: Callable[[V, V], V]) -> V:
    """Return the sum of at least one part as a binary tree: ``((0 + 1) + (2 + 3)) + ...``.

    A sum is added as soon as its two parts have come, so few parts exist at a time. The rounding error of a tree grows
    with the logarithm of the number of parts, that of a sum in order with the number.

    Source: Higham, "The accuracy of floating point summation", SIAM Journal on Scientific Computing, 1993.

    Example:
        >>> tree_sum("abcde", "({}{})".format)
        '(((ab)(cd))e)'
    """
    sums: list[tuple[int, V]] = []  # of more and more recent parts, each with the number of its parts
    for part in parts:
        count, total = 1, part
        while sums and sums[-1][0] == count:
            count, total = 2 * count, add(sums.pop()[1], total)
        sums.append((count, total))
    total = sums.pop()[1]
    while sums:
        total = add(sums.pop()[1], total)
    return total


def own_shards(rank: int, size: int, count: int) -> range:
    """Return the shards of a rank: a contiguous part of ``count`` shards, cut where few sums of the tree are divided.

    Example:
        >>> [own_shards(rank, 3, 8) for rank in range(3)]
        [range(0, 2), range(2, 5), range(5, 8)]
    """
    unit = 1
    while count // (2 * unit) >= 4 * size:
        unit *= 2
    units = -(-count // unit)
    return range(min(rank * units // size * unit, count), min((rank + 1) * units // size * unit, count))


def subtrees(shards: range, count: int) -> list[range]:
    """Return the largest parts of the tree over ``count`` shards that lie within these shards, in order.

    Example:
        >>> subtrees(range(2, 7), 8)
        [range(2, 4), range(4, 6), range(6, 7)]
    """
    found: list[range] = []
    start = shards.start
    while start < shards.stop:
        width = 1
        while start % (2 * width) == 0 and min(start + 2 * width, count) <= shards.stop and width < count:
            width *= 2
        found.append(range(start, min(start + width, count)))
        start = found[-1].stop
    return found


def joined(sums: Sequence[V], parts: Sequence[range], add: Callable[[V, V], V]) -> V:
    """Return ``tree_sum`` of all shards from the sums of the parts that ``subtrees`` gives for each rank, in order.

    Example:
        >>> joined(["(ab)", "(cd)", "e"], [range(2), range(2, 4), range(4, 5)], "({}{})".format)
        '(((ab)(cd))e)'
    """
    held = {part.start: total for part, total in zip(parts, sums, strict=True)}
    width = 1
    while len(held) > 1:
        for start in [start for start in held if start % (2 * width) == width]:
            held[start - width] = add(held[start - width], held.pop(start))
        width *= 2
    return held[0]
