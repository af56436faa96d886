"""Time a training step on all ranks of an MPI job, beside the same step and a step without shards in one process.

Run: OPENBLAS_NUM_THREADS=1 PYTHONPATH=.:tests/tools mpiexec -n 2 python -m mpi4py -m benchmarks.many_machines

All are measured in the same processes, by turns: while rank 0 computes alone, the other ranks sleep. The exchange,
``gather`` and ``reduce``, includes waiting for the others, because MPI waits actively: on a busy machine, the first
quartile has less of it than the median.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter, process_time, sleep
from typing import Any, Final

import numpy as np
from mpi4py import MPI

import funcnet as fn
from benchmarks.choice import chosen_names
from benchmarks.contenders.functional import network
from benchmarks.machine import facts
from benchmarks.table import aligned
from benchmarks.workloads import LEARNING_RATE, WORKLOADS, Problem, Workload
from funcnet.interop.mpi import MPIReducer, bytes_sent
from funcnet.loops.steps import SGDStep

STEPS: Final = {"W1": 1000, "W3": 200, "W5": 40}
"""The steps of an epoch."""

COLUMNS: Final = ("CPU ms without exchange", "CPU ms", "wall ms")
PARTS: Final = ("quartile", "median")
"""The table has the first quartile and the median of these times of all steps, on all ranks that compute them."""


@dataclass(frozen=True)
class Contender:
    """A way to compute the same epoch, on rank 0 alone or on all ranks."""

    name: str
    step: SGDStep[Any]
    together: bool = False


def contenders(batch_size: int, shards: Sequence[int], reducer: fn.Reducer) -> list[Contender]:
    """Return the step without shards, and those with these numbers of shards, on rank 0 and on all ranks."""
    loss, rate = fn.softmax_cross_entropy, LEARNING_RATE
    found = [Contender("no shards", fn.sgd_step(loss, learning_rate=rate))]
    for count in shards:
        size = batch_size // count
        one = fn.sgd_step(loss, learning_rate=rate, shard_size=size)
        many = fn.sgd_step(loss, learning_rate=rate, shard_size=size, reducer=reducer)
        found += [Contender(f"{count} shards", one), Contender(f"{count} shards", many, together=True)]
    return found


class Watched:
    """An ``MPIReducer`` that adds up the processor time of its exchanges, which includes waiting."""

    spent = 0.0

    def __init__(self, inner: MPIReducer) -> None:
        self.rank, self.size, self.own, self.check = inner.rank, inner.size, inner.own, inner.check
        self._inner = inner

    def gather(self, values: Sequence[float], count: int) -> list[float]:
        """Return the inner reducer's result."""
        with watching():
            return self._inner.gather(values, count)

    def reduce(self, rows: Sequence[fn.Array], size: int, count: int, dtype: np.dtype[np.floating]) -> fn.Array:
        """Return the inner reducer's result."""
        with watching():
            return self._inner.reduce(rows, size, count, dtype)


@contextmanager
def watching() -> Generator[None]:
    """Add the processor time of a block to ``Watched.spent``."""
    begin = process_time()
    yield
    Watched.spent += process_time() - begin


class Clocked:
    """An epoch's batches, which note three times whenever a step takes one: see ``COLUMNS``."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = batches
        self.times: list[tuple[float, float, float]] = []

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            cpu = process_time()
            self.times.append((cpu - Watched.spent, cpu, perf_counter()))
            yield batch

    def steps(self) -> list[tuple[float, ...]]:
        """Return the milliseconds of each step but the last one."""
        return [tuple(1e3 * (b - a) for a, b in zip(*pair, strict=True)) for pair in pairwise(self.times)]


def sleep_until_all_are_done(comm: MPI.Intracomm) -> None:
    """Wait for the other ranks without using the processor."""
    request = comm.Ibarrier()
    while not request.Test():
        sleep(0.002)


def measured(comm: MPI.Intracomm, contender: Contender, net: Any, batches: Iterable[Any]) -> list[tuple[float, ...]]:
    """Return the times of each step of an epoch, of all ranks that compute it."""
    comm.Barrier()
    clocked = Clocked(batches)
    if contender.together or comm.rank == 0:
        fn.train_epoch(contender.step, net, clocked)
    sleep_until_all_are_done(comm)
    return [step for steps in comm.allgather(clocked.steps()) for step in steps]


def lines(
    workload: Workload, shards: Sequence[int], rounds: int, steps: int, comm: MPI.Intracomm
) -> list[Sequence[str]]:
    """Return one line for each contender: milliseconds of a step, and the megabytes that a rank sends in it."""
    problem = Problem(workload, rows=workload.batch_size * (steps or STEPS[workload.name]))
    net = network(problem, "float32")
    batches = fn.minibatches(problem.x("float32"), problem.labels, problem.batch_size, key=fn.Key(0))
    every = contenders(problem.batch_size, shards, Watched(MPIReducer(comm)))
    clocks: list[list[tuple[float, ...]]] = [[] for _ in every]
    for turn in range(rounds + 1):
        for place in range(len(every)):
            chosen = (place + turn) % len(every)
            found = measured(comm, every[chosen], net, batches)
            clocks[chosen] += found if turn else []
    parameters = sum(array.size for array in fn.trained_arrays(net))
    return [line(workload, *pair, comm.size, parameters) for pair in zip(every, clocks, strict=True)]


def line(
    workload: Workload, contender: Contender, clock: Sequence[tuple[float, ...]], size: int, parameters: int
) -> Sequence[str]:
    """Return a contender's line of the table."""
    count = workload.batch_size // (contender.step.shard_size or workload.batch_size)
    ranks = size if contender.together else 1
    sent = bytes_sent(0, size, count, parameters, 4) / 1e6 if contender.together else 0.0
    times = [each for column in zip(*clock, strict=True) for each in statistics.quantiles(column, n=4)[:2]]
    return workload.name, contender.name, str(ranks), *(f"{each:.2f}" for each in times), f"{sent:.2f}"


def main() -> None:
    """Measure the chosen workloads; rank 0 prints the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.many_machines", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workloads", default=",".join(STEPS), help=f"such as W1,W5 (default {','.join(STEPS)})")
    parser.add_argument("--shards", default="2,8", help="numbers of shards of a batch (default 2,8)")
    parser.add_argument("--rounds", type=int, default=7, help="timed epochs of each contender (default 7)")
    parser.add_argument(
        "--steps", type=int, default=0, help="steps of an epoch (default: 1000 for W1, 200 for W3, 40 for W5)"
    )
    options = parser.parse_args()
    chosen = chosen_names(parser, options.workloads, STEPS, kind="workload")
    shards = [int(count) for count in options.shards.split(",")]
    comm = MPI.COMM_WORLD
    if comm.rank == 0:
        print("\n".join(f"{name}: {value}" for name, value in facts(threads=1).items()), end="\n\n")
    rounds, steps = options.rounds, options.steps
    table = [line for each in WORKLOADS if each.name in chosen for line in lines(each, shards, rounds, steps, comm)]
    heading = ("workload", "step", "ranks", *(f"{each}, {part}" for each in COLUMNS for part in PARTS), "MB sent")
    if comm.rank == 0:
        print(aligned([heading, *table]))


if __name__ == "__main__":
    main()
