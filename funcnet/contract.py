"""The self-test: which levels of the determinism contract hold on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.arithmetic import Name, using
from funcnet.arrays import Array, lock
from funcnet.checkpoints import load, save
from funcnet.data import Minibatches, minibatches
from funcnet.draws import normal, words
from funcnet.fingerprints import fingerprint
from funcnet.inference import outputs
from funcnet.keys import Key
from funcnet.layers.activations import ReLU
from funcnet.layers.dense import Dense, dense
from funcnet.layers.dropout import Dropout
from funcnet.losses import softmax_cross_entropy
from funcnet.network import forward
from funcnet.optimizers import Momentum
from funcnet.training import TrainState, train_epoch, train_step
from funcnet.trees import same_bits

REFERENCE: Final = "8b93cfb41ec8e4450b2d6fe64c49d0f8c5cf29afa60977f388be214b2cfe4683"
"""The fingerprint of ``reference_run("portable")``: the same on every machine."""

Net: TypeAlias = tuple[Dense, ReLU, Dropout, Dense, ReLU, Dense]
_KEY: Final = Key(2026)
_KERNELS: Final = ("Haswell", "Sandybridge", "Prescott", "SkylakeX")


# ------------------------------------------------------------------------------------------- the reference


def reference_state() -> TrainState[Net]:
    """The start of the reference run: 784-100-200-10 with dropout and momentum."""
    init = _KEY.child("init")
    net = (
        *(dense(init.child(0), 784, 100), ReLU(), Dropout(0.2)),
        *(dense(init.child(1), 100, 200), ReLU(), dense(init.child(2), 200, 10)),
    )
    return TrainState.create(net, Momentum(learning_rate=0.01), key=_KEY.child("run"))


@cache
def _reference_data() -> tuple[Array, NDArray[np.int64]]:
    x = lock(normal(_KEY.child("x"), (640, 784)).astype(np.float32))
    labels = (words(_KEY.child("labels"), 640) % np.uint64(10)).astype(np.int64)
    labels.flags.writeable = False
    return x, labels


def reference_batches(epoch: int) -> Minibatches[NDArray[np.int64]]:
    """20 batches of 32 seeded synthetic examples."""
    x, labels = _reference_data()
    return minibatches(x, labels, 32, key=_KEY.child("shuffle", epoch))


def reference_run(arithmetic: Name = "portable", *, epochs: int = 15) -> str:
    """Train the reference network for 20 steps an epoch, and return the state's fingerprint."""
    step = train_step(softmax_cross_entropy)
    with using(arithmetic):
        state = reference_state()
        for epoch in range(epochs):
            state, _ = train_epoch(step, state, reference_batches(epoch))
    return fingerprint(state)


# ---------------------------------------------------------------------------------------------- the levels

Outcome: TypeAlias = Literal["holds", "fails", "not checked"]


@frozen
class Level:
    """One level's outcome on this machine, and what was tried."""

    name: str
    outcome: Outcome
    tried: str

    def __str__(self) -> str:
        return f"{self.name:12} {self.outcome:11} {self.tried}"


@frozen
class SelfTest:
    """The outcomes of all levels; prints as a table."""

    levels: tuple[Level, ...]

    @property
    def passed(self) -> bool:
        """Whether no level fails."""
        return all(level.outcome != "fails" for level in self.levels)

    def __str__(self) -> str:
        return "\n".join(map(str, self.levels))


def selftest() -> SelfTest:
    """Check the levels of the determinism contract here, in under 20 seconds.

    Returns:
        An outcome a level, D0 to D5; ``print`` it.

    Example:
        ``python -m funcnet`` prints it; a line is such as

        >>> print(Level("D0 repeat", "holds", "native run twice here and once in a new process"))
        D0 repeat    holds       native run twice here and once in a new process
    """
    checks = (_repeat, _resume, rows_level, _workers, _threads, machines_level)
    return SelfTest(tuple(check() for check in checks))


def _level(name: str, tried: str, check: Callable[[], bool]) -> Level:
    return Level(name, "holds" if check() else "fails", tried)


def _elsewhere(arithmetic: Name, epochs: int, **environment: str) -> str:
    """The reference run's fingerprint in a new process; empty if it cannot run there."""
    program = f"from funcnet.contract import reference_run; print(reference_run({arithmetic!r}, epochs={epochs}))"
    settings = {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS_")}
    path = os.pathsep.join(part for part in sys.path if part)
    done = subprocess.run(  # noqa: S603  # this Python, our own program
        [sys.executable, "-c", program],
        env=settings | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def _inherited() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key.startswith("OPENBLAS_")}


def _repeat() -> Level:
    def check() -> bool:
        here = reference_run("native", epochs=2)
        return here == reference_run("native", epochs=2) == _elsewhere("native", 2, **_inherited())

    return _level("D0 repeat", "native run twice here and once in a new process", check)


def _resume() -> Level:
    def check() -> bool:
        state, step = reference_state(), train_step(softmax_cross_entropy)
        whole, _ = train_epoch(step, state, reference_batches(0))
        half, _ = train_epoch(step, state, reference_batches(0)[:7])
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "half"
            save(path, half)
            half, _ = train_epoch(step, load(path, like=state), reference_batches(0)[7:])
        return fingerprint(whole) == fingerprint(half)

    return _level("D1 resume", "native run saved after 7 steps, loaded, gone on with", check)


def rows_level() -> Level:
    """D2, on a batch of the reference run."""
    net, x = reference_state().params, reference_batches(0)[0].x

    def check() -> bool:
        whole = outputs(net, x, rowwise=True)
        alone = (outputs(net, x[i : i + 1], rowwise=True) for i in range(len(x)))
        with using("portable"):
            exact = forward(net, x)
            alone_exact = [forward(net, x[i : i + 1]) for i in range(len(x))]
        return same_bits(whole, np.concatenate([*alone])) and same_bits(exact, np.concatenate(alone_exact))

    return _level("D2 batch", "32 rows alone and together, row-wise native and portable", check)


def _workers() -> Level:
    def run(executor: ThreadPoolExecutor | None) -> str:
        step = train_step(softmax_cross_entropy, shard_size=8, executor=executor)
        return fingerprint(train_epoch(step, reference_state(), reference_batches(0)[:4])[0])

    def check() -> bool:
        with ThreadPoolExecutor(4) as executor:
            return run(None) == run(executor)

    return _level("D3 workers", "shards of 8 rows on 1 and 4 workers", check)


def _threads() -> Level:
    def check() -> bool:
        return _elsewhere("portable", 2, OPENBLAS_NUM_THREADS="1") == _elsewhere(
            "portable", 2, OPENBLAS_NUM_THREADS="2"
        )

    return _level("D4 threads", "portable run with 1 and 2 BLAS threads", check)


def machines_level() -> Level:
    """D5, on the BLAS kernels that this processor can run."""
    kernels = [kernel for kernel in _KERNELS if kernel != "SkylakeX" or _has_avx512()]

    def check() -> bool:
        here = reference_run("portable", epochs=2)
        others = {_elsewhere("portable", 2, OPENBLAS_CORETYPE=kernel) for kernel in kernels}
        return others == {here} and reference_run() == REFERENCE

    return _level("D5 machines", f"portable run: the committed reference; BLAS kernels {', '.join(kernels)}", check)


def _has_avx512() -> bool:
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and " avx512f " in cpu.read_text()
