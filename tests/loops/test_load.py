"""Load: memory and work per epoch do not grow with the length of a run, and rows need not fit in memory.

The time of a step is measured, not asserted: ``python tests/tools/benchmarks/drift.py``.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from surroundings import TESTS

import funcnet as fn
from funcnet.arithmetic import Name, using

pytestmark = pytest.mark.slow

KEY = fn.Key(40)
X = np.linspace(-1, 1, 96, dtype=np.float32).reshape(24, 4)
LABELS = np.arange(24) % 3
NET = (fn.dense(KEY, 4, 8), fn.Tanh(), fn.Dropout(0.2), fn.dense(KEY.child(1), 8, 3))
EPOCHS = 100
every_arithmetic = pytest.mark.parametrize("name", ["native", "portable"])
Epoch = tuple[Any, fn.EpochLog]


def run(name: Name, step: fn.Step[Any, Any] | None = None) -> Iterator[Epoch]:
    """Train a small network for many epochs, whose last batch is smaller than the others."""
    with using(name):
        state = fn.TrainState.create(NET, fn.Momentum(learning_rate=0.05), key=KEY)

        def data(epoch: int) -> Any:
            return fn.minibatches(X, LABELS, 5, key=KEY.child("order", epoch))

        return fn.train(step or fn.train_step(fn.softmax_cross_entropy), state, data, epochs=range(EPOCHS))


# ------------------------------------------------------------------------------------------------------ memory


def held(epochs: Iterator[Epoch]) -> array[int]:
    """Return the number of bytes held after each epoch, without uncollected garbage."""
    sizes = array("q", bytes(8 * EPOCHS))
    gc.freeze()  # earlier objects are then not scanned again and again
    tracemalloc.start()
    try:
        for epoch, _ in enumerate(epochs):
            gc.collect()
            sizes[epoch] = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    return sizes


@every_arithmetic
def test_a_long_run_holds_no_more(name: Name) -> None:
    """Memory grows by less than part of a state per epoch while NumPy fills its caches, and later by almost nothing."""
    sizes = held(run(name))
    assert sizes[-1] - sizes[1] < 250 * EPOCHS
    assert sizes[-1] - sizes[EPOCHS // 2] < 20 * EPOCHS


def test_the_memory_test_sees() -> None:
    """The test detects a step that keeps its states, and a loop that keeps its logs."""
    kept: list[object] = []
    plain = fn.train_step(fn.softmax_cross_entropy)

    def keeping(state: Any, batch: Any) -> tuple[Any, float]:
        kept.append(state)
        return plain(state, batch)

    sizes = held(run("native", keeping))
    assert sizes[-1] - sizes[1] > 1000 * EPOCHS
    logs: list[fn.EpochLog] = []

    def logging() -> Iterator[Epoch]:
        for state, log in run("native"):
            logs.append(log)
            yield state, log

    sizes = held(logging())
    assert sizes[-1] - sizes[EPOCHS // 2] > 20 * EPOCHS


# ---------------------------------------------------------------------------------------------------- work


def calls(advance: Callable[[], object]) -> int:
    """Return the number of Python and C function calls, without the garbage collector's callbacks."""
    count = 0

    def tick(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.disable()  # a collection runs callbacks
    sys.setprofile(tick)
    try:
        advance()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def work(epochs: Iterator[Epoch]) -> list[int]:
    """Return the number of calls in each epoch."""
    return [calls(lambda: next(epochs)) for _ in range(EPOCHS)]


@every_arithmetic
def test_a_late_epoch_does_the_work_of_an_early_one(name: Name) -> None:
    """Each epoch makes the same number of calls: no growing structure is traversed."""
    assert len(set(work(run(name))[1:])) == 1


def test_the_work_test_sees() -> None:
    """The test detects a step that traverses its history."""
    done: list[float] = []
    plain = fn.train_step(fn.softmax_cross_entropy)

    def walking(state: Any, batch: Any) -> tuple[Any, float]:
        state, loss = plain(state, batch)
        done.append(loss)
        for value in done:
            abs(value)
        return state, loss

    fn.keep_programs(programs=0)  # a replay does not call the step
    try:
        counts = work(run("native", walking))
    finally:
        fn.keep_programs()
    assert counts[-1] > counts[1] + 4 * EPOCHS


def test_the_drift_command_prints_its_lines() -> None:
    """The command prints one line per arithmetic, with its measurements."""
    command = [sys.executable, str(TESTS / "tools" / "benchmarks" / "drift.py"), "--epochs", "4"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["native", "portable"]
    assert all("us a step early" in line for line in lines)


# -------------------------------------------------------------------------------------------- more than memory

PREDICT = """
import resource, sys
import numpy as np
import funcnet as fn
limit = 500 * 10**6
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # what is written to memory; a file's own pages are not
net = fn.dense(fn.Key(0), 784, 3)
x = np.asarray(np.memmap(sys.argv[1], np.float32, "r", shape=(int(sys.argv[2]), 784)))
try:
    x.copy()
except MemoryError:
    print("does not fit", x.nbytes > limit)
ids = fn.predict(net, x, fn.Multiclass())
ends = slice(2), slice(-2, None)
print(ids.shape, all(ids[part].tolist() == fn.predict(net, x[part], fn.Multiclass()).tolist() for part in ends))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit that it runs under is Linux's")
def test_rows_need_not_fit_in_memory(tmp_path: Path) -> None:
    """predict reads a mapped file of 533 MB in a process limited to 500 MB, where copying the file fails."""
    rows, ends = 170_000, np.linspace(-1, 1, 2 * 784, dtype=np.float32).tobytes()
    path = tmp_path / "rows"
    with path.open("wb") as file:  # a sparse file: zeros except in its first and last rows
        file.write(ends)
        file.seek(4 * 784 * rows - len(ends))
        file.write(ends)
    command = [sys.executable, "-c", PREDICT, str(path), str(rows)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout.splitlines() == ["does not fit True", "(170000,) True"], result.stderr
