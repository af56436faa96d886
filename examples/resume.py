"""Train with a record of every epoch, stop, resume in another process, and find the one label where two runs differ.

Run: python examples/resume.py [--directory runs]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import funcnet as fn

EPOCHS, STOP = 6, 3
KEY: Final = fn.Key(2026)
STEP: Final = fn.train_step(fn.softmax_cross_entropy)
DIGITS: Final = fn.datasets.load_digits()
Labels = NDArray[np.integer[Any]]


def batches(epoch: int) -> fn.Minibatches[Labels]:
    """The batches of an epoch, in an order that depends only on its number."""
    return fn.minibatches(DIGITS.x, DIGITS.y, 32, key=KEY.child("shuffle", epoch))


def mislabelled(epoch: int) -> fn.Minibatches[Labels]:
    """The same batches, with one wrong label in epoch 2."""
    y = DIGITS.y.copy()
    y[1000] = (y[1000] + (epoch == 2)) % 10
    return fn.minibatches(DIGITS.x, y, 32, key=KEY.child("shuffle", epoch))


def start() -> fn.TrainState[tuple[fn.Dense, fn.ReLU, fn.Dropout, fn.Dense]]:
    """The initial state: a network with dropout, trained with momentum."""
    net = (fn.dense(KEY.child(0), 64, 48), fn.ReLU(), fn.Dropout(0.2), fn.dense(KEY.child(1), 48, 10))
    return fn.TrainState.create(net, fn.Momentum(learning_rate=0.05), key=KEY.child("run"))


def train(directory: Path, epochs: int, data: Any = batches) -> str:
    """Begin or resume a run, and return the fingerprint of its last state."""
    for _ in fn.audited_train(directory, STEP, start(), data, epochs=range(epochs), every=2):
        pass
    return fn.load_run(directory).rows[-1].state


def main() -> None:
    """Train without a break, in two processes, and with a wrong label, and compare the three runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--directory", type=Path, default=None, help="where to keep the runs (default: do not keep them)"
    )
    parser.add_argument("--go-on", type=Path, default=None, help="resume the run in this directory")
    arguments = parser.parse_args()
    if arguments.go_on:
        print(train(arguments.go_on, EPOCHS))
        return
    with tempfile.TemporaryDirectory() as temporary:
        home: Path = arguments.directory or Path(temporary)
        whole = train(home / "whole", EPOCHS)
        print(f"{f'{EPOCHS} epochs at once:':36}{whole}")

        train(home / "stopped", STOP)
        command = [sys.executable, __file__, "--go-on", str(home / "stopped")]
        resumed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603
        print(f"{f'{STOP}, and {EPOCHS - STOP} more in another process:':36}{resumed}")
        assert resumed == whole

        run = fn.load_run(home / "stopped")
        print(f"replayed: {fn.recheck(run, range(4, 6), step=STEP, data=batches)}")
        same = fn.first_divergence(fn.load_run(home / "whole"), run, step=STEP, data=batches)
        print(f"where the first two diverge: {same}")

        train(home / "mislabelled", EPOCHS, mislabelled)
        other = fn.load_run(home / "mislabelled")
        print(f"with one wrong label: {fn.first_divergence(run, other, step=STEP, data=(batches, mislabelled))}")


if __name__ == "__main__":
    main()
