"""Time forward and backward of every layer in the table, on inputs of a useful size, and in PyTorch if installed.

Run: PYTHONPATH=tests:tests/tools:tests/layers python tests/tools/benchmarks/layers.py [--batch 32] [--rounds 7], with
OPENBLAS_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from typing import Any

import numpy as np
from attrs import evolve
from networks import CASES, KEY, Case, inputs

import funcnet as fn
from benchmarks.timing import Task, measure


def shaped(case: Case, width: int) -> tuple[fn.Layer, tuple[int, ...]]:
    """Return the row's layer in float32 for vectors or image channels of this width; some have one fixed shape."""
    shape = case.shape if case.ids else (*case.shape[:-1], width)
    try:
        layer = fn.astype(case.make(KEY, shape), np.float32)
        fn.output_shape(layer, shape)
    except fn.ShapeError:
        return fn.astype(case.layer(), np.float32), case.shape
    return layer, shape


def ours(layer: fn.Layer, x: fn.Array, g: fn.Array) -> Task:
    """Return the task of a forward and a backward pass."""

    def run() -> object:
        return fn.vjp(layer, x)[1](g)

    return Task(lambda: None, run)


def theirs(layer: fn.Layer, x: fn.Array, g: fn.Array) -> Task:
    """Return the same task in PyTorch's operations, with autograd, which accumulates gradients."""
    import torch  # noqa: PLC0415  # may be missing
    from test_torch_layers import translated  # noqa: PLC0415  # needs PyTorch

    library: Any = torch
    library.set_num_threads(1)
    given, wanted = library.tensor(x, requires_grad=x.dtype.kind == "f"), library.tensor(g)
    twin = translated(layer)

    def run() -> object:
        return twin.module(given).backward(wanted)

    return Task(lambda: None, run)


def main() -> None:
    """Print one line per row: microseconds, medians of interleaved rounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.05)
    options = parser.parse_args()
    longest = max(len(case.name) for case in CASES)
    print(f"{'layer':{longest}} {'rows of':16} {'funcnet µs':>10} {'PyTorch µs':>10} {'ratio':>6}")
    for case in CASES:
        layer, shape = shaped(case, options.width)
        x = evolve(case, shape=shape).x(options.batch, np.float32)
        g = inputs(KEY.child("g"), *fn.forward(layer, x).shape, dtype=np.float32)
        tasks = [ours(layer, x, g)]
        if find_spec("torch") and "Dropout" not in repr(layer):  # PyTorch would draw a mask, funcnet's is an argument
            tasks.append(theirs(layer, x, g))
        timings = [timing.median * 1e6 for timing in measure(tasks, options.rounds, seconds=options.seconds)]
        other = f"{timings[1]:10.1f} {timings[0] / timings[1]:6.2f}" if len(timings) > 1 else ""
        print(f"{case.name:{longest}} {shape!s:16} {timings[0]:10.1f} {other}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
