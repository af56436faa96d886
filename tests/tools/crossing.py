"""A run that crosses between machines: written on one, rechecked and resumed on another, with the same last hash.

Run: python tests/tools/crossing.py write FOLDER     trains two epochs as an audited run, and saves half of a third
     python tests/tools/crossing.py resume FOLDER    rechecks and resumes both, and prints the hash of the last results
     python tests/tools/crossing.py recheck FOLDER   replays all epochs, whichever machine computed them
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

import funcnet as fn
from funcnet.core.errors import FuncnetError

KEY: Final = fn.Key(22)
STEP: Final = fn.train_step(fn.softmax_cross_entropy, shard_size=8)
EPOCHS: Final = range(4)
WRITTEN: Final = range(2)
_X: Final = fn.random.normal(KEY.child("x"), (48, 6)).astype(np.float32)
_LABELS: Final = np.arange(48, dtype=np.int64) % 3
"""int64 on every machine: the default integer of a 32-bit machine would give the batches another fingerprint."""


def start() -> fn.TrainState[tuple[fn.Layer, ...]]:
    """Return the initial state, with dropout, a normalization and two moments per parameter."""
    init = KEY.child("init")
    net = (fn.dense(init.child(0), 6, 8), fn.layer_norm(8), fn.GELU(), fn.Dropout(0.25), fn.dense(init.child(1), 8, 3))
    return fn.TrainState.create(net, fn.AdamW(learning_rate=0.02), key=KEY.child("run"))


def data(epoch: int) -> Sequence[fn.Batch[NDArray[np.int64]]]:
    """Return three batches of 16."""
    return fn.minibatches(_X, _LABELS, 16, key=KEY.child("shuffle", epoch))


def write(folder: Path) -> None:
    """Train two epochs as an audited run, and save a checkpoint after two steps of the third."""
    with fn.portable():
        states = [state for state, _ in fn.audited_train(folder / "run", STEP, start(), data, epochs=WRITTEN)]
        middle, _ = fn.train_epoch(STEP, states[-1], data(2)[:2])
        fn.save(folder / "middle.safetensors", middle)


def resume(folder: Path) -> str:
    """Recheck the two epochs, resume the run and the checkpoint, and return the hash of the last row's results.

    Raises:
        RuntimeError: If a byte of the two epochs differs here, or if run and checkpoint end in different states.
    """
    recheck(folder, WRITTEN)
    with fn.portable():
        for _ in fn.audited_train(folder / "run", STEP, start(), data, epochs=EPOCHS):
            pass
        middle = fn.load(folder / "middle.safetensors", like=start())
        for batches in (data(2)[2:], data(3)):
            middle, _ = fn.train_epoch(STEP, middle, batches)
    last = fn.load_run(folder / "run").rows[-1]
    if fn.fingerprint(middle) != last.state:
        raise RuntimeError(f"the checkpoint ends in {fn.fingerprint(middle)}, the run in {last.state}")
    return last.results


def recheck(folder: Path, epochs: range = EPOCHS) -> str:
    """Replay epochs of the run here, and return the outcome in words.

    Raises:
        RuntimeError: If a byte differs.
    """
    outcome = fn.recheck(fn.load_run(folder / "run"), epochs, step=STEP, data=data)
    if not outcome:
        raise RuntimeError(str(outcome))
    return str(outcome)


def main() -> int:
    """Run the command; return 1 if a run is damaged or differs."""
    commands = {"write": write, "resume": resume, "recheck": recheck}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=commands)
    parser.add_argument("folder", type=Path)
    settings = parser.parse_args()
    if settings.command != "write" and not settings.folder.is_dir():
        parser.error(f"there is no folder {settings.folder}")
    try:
        if settings.command == "write":
            settings.folder.mkdir(parents=True, exist_ok=True)
        done = commands[settings.command](settings.folder)
    except (RuntimeError, OSError, FuncnetError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{done or 'written'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
