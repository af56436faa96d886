"""The audited run that the tests of many machines start: ``python -m mpi4py machines_program.py DIRECTORY``.

Rank 0 prints the fingerprint of the last state, and every rank leaves a file with its process id beside the run.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import numpy as np

import funcnet as fn
from funcnet.loops.steps import TrainStep
from funcnet.random.draws import normal

KEY: Final = fn.Key(85)
X: Final = normal(KEY.child("x"), (410, 12)).astype(np.float32)
LABELS: Final = (X[:, 0] > X[:, 1]).astype(np.int64) + (X[:, 2] > 1)
EPOCHS: Final = 10


def step(reducer: fn.Reducer | None = None) -> TrainStep[Any]:
    """Return a step whose batches have seven shards, the last of which is smaller."""
    return fn.train_step(fn.softmax_cross_entropy, shard_size=11, reducer=reducer)


def data(epoch: int) -> Any:
    """Return six batches, the last of which is smaller."""
    return fn.minibatches(X, LABELS, 75, key=KEY.child("shuffle", epoch))


def endless(epoch: int) -> Any:
    """Return the batches of an epoch; those of the last one never come."""
    if epoch == EPOCHS - 1:
        time.sleep(600)
    return data(epoch)


def start() -> fn.TrainState[Any]:
    """Return the initial state, in the arithmetic in force."""
    hidden = (fn.dense(KEY.child(0), 12, 32), fn.batch_norm(32), fn.ReLU(), fn.Dropout(0.3))
    return fn.TrainState.create((*hidden, fn.dense(KEY.child(1), 32, 3)), fn.Adam(learning_rate=0.01), key=KEY)


def main() -> None:
    """Begin or resume the run, and print the fingerprint of its last state."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--portable", action="store_true")
    parser.add_argument("--serial", action="store_true", help="a step without a reducer")
    parser.add_argument("--endless", action="store_true", help="the last epoch never begins")
    options = parser.parse_args()
    reducer = None if options.serial else fn.MPIReducer()
    rank = 0 if reducer is None else reducer.rank
    (options.directory.parent / f"pid-{rank}").write_text(str(os.getpid()))
    with fn.portable() if options.portable else nullcontext():
        batches, epochs = endless if options.endless else data, range(options.epochs)
        for _ in fn.audited_train(options.directory, step(reducer), start(), batches, epochs=epochs, every=3):
            pass
    if rank == 0:
        print(fn.load_run(options.directory).rows[-1].state)  # noqa: T201  # the test reads it


if __name__ == "__main__":
    main()
