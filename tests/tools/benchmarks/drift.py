"""Whether a step's time drifts in a long run: the median over its first epochs next to that over its last ones.

Run: python tests/tools/benchmarks/drift.py [--epochs 100]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

import numpy as np

import funcnet as fn
from funcnet.arithmetic import Name, using

KEY = fn.Key(0)
ROWS, SIZES, BATCH = 3200, (64, 32, 32, 10), 32


def step_times(name: Name, epochs: int) -> list[float]:
    """Return microseconds per step, one value per epoch."""
    x = np.linspace(-1, 1, ROWS * SIZES[0], dtype=np.float32).reshape(ROWS, -1)
    labels = np.arange(ROWS) % SIZES[-1]
    times: list[float] = []
    with using(name):
        state = fn.TrainState.create(fn.mlp(KEY, SIZES), fn.Momentum(learning_rate=0.01), key=KEY)
        step = fn.train_step(fn.softmax_cross_entropy)
        for epoch in range(epochs):
            batches = fn.minibatches(x, labels, BATCH, key=KEY.child("order", epoch))
            begin = time.perf_counter()
            state, log = fn.train_epoch(step, state, batches)
            times.append((time.perf_counter() - begin) / len(log.losses) * 1e6)
    return times


def main() -> None:
    """Print one line per arithmetic."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100)
    epochs = parser.parse_args().epochs
    part = max(1, epochs // 5)
    arithmetics: tuple[Name, ...] = ("native", "portable")
    for name in arithmetics:
        times = step_times(name, epochs)[2:]
        early, late = statistics.median(times[:part]), statistics.median(times[-part:])
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{name:8} {early:7.1f} us a step early, {late:7.1f} late: {late / early:.2f}; at most {memory:.0f} MB")


if __name__ == "__main__":
    main()
