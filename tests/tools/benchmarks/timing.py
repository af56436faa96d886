"""Timing: all contenders run in one process, in turns, so that any disturbance slows all of them."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time, sleep
from typing import Final

ROUND: Final = 0.3
SETTLE: Final = 0.05


@dataclass(frozen=True)
class Task:
    """A task to time: ``run``, after an untimed ``prepare``."""

    prepare: Callable[[], object]
    run: Callable[[], object]

    def seconds(self) -> tuple[float, float]:
        """Time one run, on the clock and on the processors."""
        self.prepare()
        wall, cpu = perf_counter(), process_time()
        self.run()
        return perf_counter() - wall, process_time() - cpu


@dataclass(frozen=True)
class Timing:
    """One task's rounds: seconds per run in each round, and the number of busy processors, if it was measured."""

    rounds: tuple[float, ...]
    processors: float | None = None

    @property
    def median(self) -> float:
        """The median round."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """The width of the middle half of the rounds, relative to the median."""
        if len(self.rounds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.rounds, n=4, method="inclusive")
        return (high - low) / self.median


def measure(tasks: Sequence[Task], rounds: int, *, seconds: float = ROUND) -> list[Timing]:
    """Time the tasks in turns; each round begins with a different task.

    Two untimed runs come first; the second determines the number of runs in a round of about ``seconds``. Existing
    objects are then excluded from garbage collection: one library's modules must not slow another library's
    allocations. A turn begins after a pause, so that spinning threads of other libraries are asleep by then.
    """
    for task in tasks:
        task.seconds()
    repeats = [max(1, round(seconds / max(task.seconds()[0], 1e-9))) for task in tasks]
    gc.collect()
    gc.freeze()
    clocks: list[list[tuple[float, float]]] = [[] for _ in tasks]
    for turn in range(rounds):
        for position in range(len(tasks)):
            chosen = (position + turn) % len(tasks)
            sleep(min(SETTLE, seconds))
            runs = [tasks[chosen].seconds() for _ in range(repeats[chosen])]
            walls, cpus = zip(*runs, strict=True)
            clocks[chosen].append((statistics.fmean(walls), statistics.fmean(cpus)))
    gc.unfreeze()
    return [
        Timing(tuple(wall for wall, _ in clock), sum(cpu for _, cpu in clock) / sum(wall for wall, _ in clock))
        for clock in clocks
    ]
