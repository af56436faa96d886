"""Ranks: the processes that train one run together. Rank 0 alone writes files, and no rank continues before it has.

A rank that fails alone would leave the others waiting in their next collective operation. Each part of a run that can
fail on a single rank, such as writing a file, therefore ends with an exchange: either all ranks continue, or all raise.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from attrs import frozen

from funcnet.core.errors import CheckpointError, ConfigError, FuncnetError, quoted
from funcnet.loops.reducers import Reducer, reducer_of

_DIGITS: Final = 13
"""Hexadecimal digits of a hash that a float64 represents exactly: 52 bits."""


@frozen
class Ranks:
    """The ranks of a step's reducer, or the one process of a step without a reducer."""

    reducer: Reducer

    @staticmethod
    def of(step: object) -> Ranks:
        """Return the ranks of a step.

        Raises:
            ConfigError: If the reducer does not give each rank one of as many shards as ranks, in the order of ranks.
        """
        reducer = reducer_of(step)
        own, wanted = reducer.own(reducer.size), range(reducer.rank, reducer.rank + 1)
        if own != wanted:
            reason = f"own({reducer.size}) of the reducer of rank {reducer.rank} must be {wanted}, got {quoted(own)}"
            raise ConfigError(f"{reason}: of as many shards as ranks, each rank has one")
        return Ranks(reducer)

    @property
    def writes(self) -> bool:
        """Whether this rank writes the run's files."""
        return self.reducer.rank == 0

    @contextmanager
    def together(self) -> Generator[None]:
        """Wait at the end of a block until all ranks have done it. If it raises on one rank, every rank raises.

        Example:
            >>> with Ranks.of(None).together():
            ...     print("done")
            done
        """
        problem: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001  # it is raised below, when the other ranks know of it
            problem = error
        failed = self._gathered(float(problem is not None))
        if problem is not None:
            raise problem
        if any(failed):
            raise FuncnetError(f"rank {failed.index(1.0)} has stopped; its own error says why")

    def check_equal(self, digest: str, reason: str, *, subject: str) -> None:
        """Check that all ranks have the same hash; an empty one is that of nothing.

        Raises:
            CheckpointError: On every rank, if one differs from rank 0: the number of that rank, and the reason.
        """
        found = self._gathered(float(int(digest[:_DIGITS] or "0", 16)))
        others = [rank for rank, value in enumerate(found) if value != found[0]]
        if others:
            raise CheckpointError(f"rank {others[0]} {reason}", subject=subject)

    def _gathered(self, value: float) -> list[float]:
        """Return every rank's value, in the order of the ranks."""
        return self.reducer.gather([value], self.reducer.size)
