"""Timing: all contenders in one process, in turns, so that whatever slows the machine slows each of them."""

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
    """What is timed: ``run``, after an untimed ``prepare``."""

    prepare: Callable[[], object]
    run: Callable[[], object]

    def seconds(self) -> tuple[float, float]:
        """One run, on the clock and on the processors."""
        self.prepare()
        wall, cpu = perf_counter(), process_time()
        self.run()
        return perf_counter() - wall, process_time() - cpu


@dataclass(frozen=True)
class Timing:
    """One task's rounds: seconds a run in each, and the processors that it kept busy, if that was measured."""

    rounds: tuple[float, ...]
    processors: float | None = None

    @property
    def median(self) -> float:
        """The round in the middle."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """The middle half of the rounds' width, relative to the median."""
        if len(self.rounds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.rounds, n=4, method="inclusive")
        return (high - low) / self.median


def measure(tasks: Sequence[Task], rounds: int, *, seconds: float = ROUND) -> list[Timing]:
    """Time the tasks in turns, each round beginning with another one.

    Two untimed runs come first; the second says how many runs make a round of about ``seconds``. Objects that exist by
    then are left out of garbage collection: one library's modules must not slow another library's allocations. A turn
    begins after a pause: by then the threads that another library left spinning sleep.
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
            sleep(SETTLE)
            runs = [tasks[chosen].seconds() for _ in range(repeats[chosen])]
            walls, cpus = zip(*runs, strict=True)
            clocks[chosen].append((statistics.fmean(walls), statistics.fmean(cpus)))
    gc.unfreeze()
    return [
        Timing(tuple(wall for wall, _ in clock), sum(cpu for _, cpu in clock) / sum(wall for wall, _ in clock))
        for clock in clocks
    ]
