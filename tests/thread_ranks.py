"""Ranks that are threads: a reducer for tests of what many ranks do together, without MPI and in milliseconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar, cast

import numpy as np

import funcnet as fn
from funcnet.loops.reducers import own_shards, tree_sum

T = TypeVar("T")


class Rank:
    """A reducer whose ranks are threads, which exchange values through a shared list."""

    def __init__(self, rank: int, board: list[Any], barrier: Barrier) -> None:
        self.rank, self.size = rank, len(board)
        self._board, self._barrier = board, barrier

    def _exchanged(self, value: Any) -> list[Any]:
        self._board[self.rank] = value
        self._barrier.wait(20)
        found = list(self._board)
        self._barrier.wait(20)
        return found

    def own(self, count: int) -> range:
        """Return a contiguous part."""
        return own_shards(self.rank, self.size, count)

    def gather(self, values: Sequence[float], count: int) -> list[float]:
        """Return the values of all threads."""
        found = [value for part in self._exchanged(values) for value in part]
        assert len(found) == count
        return found

    def reduce(self, rows: Sequence[fn.Array], size: int, count: int, dtype: np.dtype[np.floating]) -> fn.Array:
        """Return the sum of copies of all threads' vectors."""
        found = [row.copy() for part in self._exchanged(rows) for row in part]
        assert len(found) == count
        assert {(len(row), row.dtype) for row in found} == {(size, dtype)}
        return tree_sum(found, np.add)

    def check(self, value: object, /) -> None:
        """Compare the fingerprints, or the printed forms, without addresses, of values that have none."""
        try:
            text = fn.fingerprint(value)
        except fn.ConfigError:
            text = re.sub(r" at 0x\w+", "", repr(value))
        found = self._exchanged(text)
        if len(set(found)) > 1:
            raise fn.StructureError(f"the ranks hold different values: {', '.join(found)}")


def _outcomes(size: int, work: Callable[[Rank], T]) -> list[tuple[T | None, Exception | None]]:
    def run(rank: Rank) -> tuple[T | None, Exception | None]:
        try:
            return work(rank), None
        except Exception as error:  # noqa: BLE001  # the test looks at it
            return None, error

    board, barrier = [None] * size, Barrier(size)
    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(run, [Rank(rank, board, barrier) for rank in range(size)]))


def on_ranks(size: int, work: Callable[[Rank], T]) -> list[T]:
    """Return the result of each of several ranks."""
    found = _outcomes(size, work)
    for _, error in found:
        if error is not None:
            raise error
    return [cast("T", result) for result, _ in found]


def errors_on(size: int, work: Callable[[Rank], object]) -> list[Exception]:
    """Return what each of several ranks raises; each must raise something."""
    found = _outcomes(size, work)
    assert all(error is not None for _, error in found), found
    return [error for _, error in found if error is not None]
