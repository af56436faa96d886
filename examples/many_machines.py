"""Train on MNIST with any number of processes, on one machine or on many, with the same bits for every number.

Run: python examples/many_machines.py [--epochs 5] [--rows 50000] [--portable] [--directory many_machines]
     mpiexec -n 4 python -m mpi4py examples/many_machines.py [--epochs 5] ...

Each process computes a part of every batch's gradient, and all of them hold the same network after each step. Stop the
run at any moment; the same command resumes it, with another number of processes, too. Whatever the numbers were, the
last line has the same fingerprint. The guide ``guides/many_machines.md`` says how this works and when it pays.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import funcnet as fn

Labels: TypeAlias = NDArray[np.integer[Any]]
Net: TypeAlias = tuple[fn.Dense, fn.ReLU, fn.Dropout, fn.Dense, fn.ReLU, fn.Dropout, fn.Dense]


def start(key: fn.Key) -> fn.TrainState[Net]:
    """The initial state, which every process creates: the same key gives the same bits."""
    net = (
        *(fn.dense(key.child("init", 0), 784, 512), fn.ReLU(), fn.Dropout(0.2)),
        *(fn.dense(key.child("init", 1), 512, 512), fn.ReLU(), fn.Dropout(0.2)),
        fn.dense(key.child("init", 2), 512, 10),
    )
    return fn.TrainState.create(net, fn.Adam(learning_rate=0.001), key=key.child("run"))


def accuracy(state: fn.TrainState[Net], examples: fn.datasets.Examples) -> float:
    """The accuracy of the state's network."""
    return fn.accuracy(fn.predict(state.params, examples.x, fn.Multiclass()), examples.y)


def main() -> None:
    """Train or resume, print the progress, and end with the fingerprint of the trained state."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="directory of the four MNIST files (default: search, then download)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=50_000, help="number of training images; fewer for a quick run")
    parser.add_argument("--portable", action="store_true", help="the same bits on different machines")
    parser.add_argument("--directory", type=Path, default=Path("many_machines"), help="of the run; all must see it")
    arguments = parser.parse_args()

    data = fn.datasets.load_mnist(arguments.data)
    x, y = data.train.x[: arguments.rows], data.train.y[: arguments.rows]
    key = fn.Key(arguments.seed)
    reducer: fn.Reducer = fn.MPIReducer() if find_spec("mpi4py") else fn.SerialReducer()
    step = fn.train_step(fn.softmax_cross_entropy, shard_size=64, reducer=reducer)

    def batches(epoch: int) -> fn.Minibatches[Labels]:
        return fn.minibatches(x, y, 256, key=key.child("shuffle", epoch))

    with fn.portable() if arguments.portable else nullcontext():
        first, home = start(key), arguments.directory
        if reducer.rank == 0:
            print(f"Processes: {reducer.size}")
        for state, log in fn.audited_train(home, step, first, batches, epochs=range(arguments.epochs)):
            if reducer.rank == 0:
                found = accuracy(state, data.validation)
                print(f"after step {state.step}: loss {log.mean_loss:.4f}, validation {found:.4f}", flush=True)
        if reducer.rank == 0:
            last = fn.load(fn.load_run(home).checkpoint(-1), like=first)
            print(f"Test accuracy: {accuracy(last, data.test):.4f}")
            print(f"Fingerprint: {fn.fingerprint(last)}")


if __name__ == "__main__":
    main()
