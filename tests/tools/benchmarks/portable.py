"""The price of portable arithmetic: the processor time of a step in it over that of a native step, in one process.

Run: OPENBLAS_NUM_THREADS=1 PYTHONPATH=.:tests/tools python -m benchmarks.portable [--workloads W1,W2] [--rounds 15]
[--seconds 0.3]

Both fold the same step over the same minibatches, by turns: one round is a few epochs in each. A round gives a ratio,
and the table shows the median of the ratios, the middle half of them, and the ratio of the fastest rounds. Processor
time leaves out what other programs do meanwhile, but not what they do to the caches, so measure many rounds. The last
columns are the NumPy calls of a step and the time of the matrix products alone, in float64 over float32: portable
arithmetic computes them in float64.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import process_time
from typing import Any, Final, TypeAlias

import numpy as np

import funcnet as fn
from benchmarks.choice import chosen_names
from benchmarks.contenders import functional, products
from benchmarks.images import problem_of
from benchmarks.machine import facts
from benchmarks.run import limit_processors
from benchmarks.table import aligned
from benchmarks.workloads import WORKLOADS, Precision, Problem, Workload

Trainer: TypeAlias = "functional.Fold[tuple[fn.Layer, ...]] | functional.Fold[fn.TrainState[tuple[fn.Layer, ...]]]"

SYMBOLS: Final = 128
LENGTH: Final = 32
KEY: Final = fn.Key(0)
SEQUENCES: Final = (
    Workload("RNN", (SYMBOLS, 64, SYMBOLS), 32, 640),
    Workload("LSTM", (SYMBOLS, 64, SYMBOLS), 32, 640),
    Workload("GRU", (SYMBOLS, 64, SYMBOLS), 32, 640),
    Workload("attention", (SYMBOLS, 64, SYMBOLS), 32, 320),
)
"""Character models: an embedding, a recurrent layer or a transformer block, and a Dense layer, trained by Adam."""


class Windows(Problem):
    """Windows of random symbols; a label is the next symbol. Shapes: x and labels (N, T)."""

    def __init__(self, workload: Workload, *, rows: int | None = None) -> None:
        super().__init__(workload, rows=rows)
        ids = np.random.default_rng(0).integers(0, SYMBOLS, (len(self.x32), LENGTH + 1))
        self.ids, self.labels = ids[:, :-1], ids[:, 1:]

    def x(self, precision: Precision) -> Any:  # noqa: ARG002  # as in Problem
        """Return the symbols, which have no precision."""
        return self.ids


def sequences(problem: Problem, kind: str) -> Trainer:
    """Train a character model with Adam."""
    size = problem.sizes[1]
    first, last = fn.embedding(KEY.child(0), SYMBOLS, size), fn.dense(KEY.child(2), size, SYMBOLS)
    makers: dict[str, Callable[[fn.Key, int], tuple[fn.Layer, ...]]] = {
        "RNN": lambda key, size: (fn.rnn(key, size, size),),
        "LSTM": lambda key, size: (fn.lstm(key, size, size),),
        "GRU": lambda key, size: (fn.gru(key, size, size),),
        "attention": lambda key, size: fn.transformer_block(key, size, 4),
    }
    return functional.adam(problem, (first, *makers[kind](KEY.child(1), size), last))


def trainer_of(workload: Workload, rows: int | None) -> Trainer:
    """Return the native training of a workload."""
    if workload in SEQUENCES:
        return sequences(Windows(workload, rows=rows), workload.name)
    makers: dict[str, Callable[[Problem], Trainer]] = {
        "training": functional.train32,
        "images": functional.train_images,
        "normalized": functional.train_normalized,
    }
    return makers[workload.kind](problem_of(workload, rows=rows))


def seconds_of(trainer: Trainer, epochs: int) -> float:
    """Return the processor time of a step, in seconds."""
    trainer.start()
    start = process_time()
    for _ in range(epochs):
        trainer.epoch()
    return (process_time() - start) / epochs / trainer.problem.steps


def products_ratio(problem: Problem, rounds: int) -> float:
    """Return the time of the products of a step in float64 over that in float32: the median of some rounds."""
    both = products.train64(problem), products.train32(problem)
    ratios: list[float] = []
    for _ in range(rounds):
        times: list[float] = []
        for each in both:
            start = process_time()
            each.epoch()
            times.append(process_time() - start)
        ratios.append(times[0] / times[1])
    return float(np.median(ratios))


def compared(workload: Workload, rounds: int, seconds: float, rows: int | None = None) -> tuple[str, ...]:
    """Return one line of the table."""
    native = trainer_of(workload, rows)
    with fn.portable():
        portable = trainer_of(workload, rows)
    portable.arithmetic = fn.portable
    both = native, portable
    epochs = []
    for trainer in both:
        seconds_of(trainer, 2)  # traces the step
        epochs.append(max(1, round(seconds / trainer.problem.steps / seconds_of(trainer, 1))))
    times = np.array([[seconds_of(*pair) for pair in zip(both, epochs, strict=True)] for _ in range(rounds)])
    low, middle, high = np.quantile(times[:, 1] / times[:, 0], (0.25, 0.5, 0.75))
    microseconds = np.median(times, axis=0) * 1e6
    calls = [f"{trainer.program().calls}" for trainer in both]
    is_dense = workload.kind == "training" and workload not in SEQUENCES
    floor = f"{products_ratio(native.problem, rounds):.2f}" if is_dense else ""
    fastest = times[:, 1].min() / times[:, 0].min()
    ratios = f"{middle:.2f}", f"{low:.2f} to {high:.2f}", f"{fastest:.2f}"
    return workload.name, *(f"{time:,.0f}" for time in microseconds), *ratios, *calls, floor


def main() -> None:
    """Measure and print the table."""
    known = {workload.name: workload for workload in (*WORKLOADS, *SEQUENCES)}
    known = {name: each for name, each in known.items() if each.kind not in {"prediction", "footprint"}}
    parser = argparse.ArgumentParser(prog="benchmarks.portable", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workloads", default=",".join(known), help=f"such as W1,W2 (default {','.join(known)})")
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds (default 15)")
    parser.add_argument("--seconds", type=float, default=0.3, help="about a round's length for each (default 0.3)")
    options = parser.parse_args()
    chosen = chosen_names(parser, options.workloads, known, kind="workload")
    limit_processors(1)
    print("\n".join(f"{name}: {value}" for name, value in facts(threads=1).items()), end="\n\n")
    of_times = "native, µs", "portable, µs", "ratio", "middle half", "fastest"
    head = "workload", *of_times, "calls", "portable calls", "products"
    print(aligned([head, *(compared(known[name], options.rounds, options.seconds) for name in chosen)]))


if __name__ == "__main__":
    main()
