"""The programs that the tests of MPI run on every rank: ``python -m mpi4py mpi_program.py NAME ARGUMENT...``.

Rank 0 prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from shutil import which
from typing import Any, Final

import numpy as np
from attrs import frozen

import funcnet as fn
from funcnet.arithmetic import in_force
from funcnet.loops.reducers import Reducer, tree_sum
from funcnet.random.draws import normal

KEY: Final = fn.Key(84)
CE: Final = fn.softmax_cross_entropy
X: Final = normal(KEY.child("x"), (33, 6)).astype(np.float32)
LABELS: Final = (X[:, 0] > X[:, 1]).astype(np.int64) + (X[:, 2] > 1)
NET: Final = (fn.dense(KEY.child(0), 6, 12), fn.ReLU(), fn.Dropout(0.3), fn.dense(KEY.child(1), 12, 3))
NORMED: Final = (fn.dense(KEY.child(2), 6, 9), fn.batch_norm(9), fn.Tanh(), fn.dense(KEY.child(3), 9, 3))


# ------------------------------------------------------------------------------------------------ starting a job


def mpiexec() -> str | None:
    """Return the path of ``mpiexec``: the one beside this Python, or else the first on the path."""
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if beside.exists() else which("mpiexec")


def started(ranks: int, *arguments: str) -> subprocess.Popen[str]:
    """Run this file on some ranks, or as one process without MPI if the number is 0."""
    start = [str(mpiexec()), "-n", str(ranks), sys.executable, "-m", "mpi4py"] if ranks else [sys.executable]
    root = Path(__file__).resolve().parents[2]
    surroundings = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    command = [*start, __file__, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings)


def ended(job: subprocess.Popen[str], limit: float = 90) -> tuple[int, str, str]:
    """Return the status and the outputs of a job. One that does not end in time is killed with all its ranks."""
    with job:
        try:
            output, errors = job.communicate(timeout=limit)
        finally:
            job.kill()  # when mpiexec is killed, its ranks are, too
    return job.returncode, output, errors


# ---------------------------------------------------------------------------------------- the reducer by itself


def vectors(size: int, count: int, dtype: type[np.floating]) -> list[fn.Array]:
    """Return a random vector for each shard."""
    return [normal(KEY.child(size, count, shard), (size,)).astype(dtype) for shard in range(count)]


def reduced(_: list[str]) -> object:
    """Return what each rank finds wrong with sums of many shapes, and the bytes that it has sent for each count."""
    from funcnet.interop.mpi import bytes_sent  # noqa: PLC0415  # the tests import this file without mpi4py, too

    reducer = fn.MPIReducer(counting())
    comm: Any = reducer.comm
    wrong: list[str] = []
    sent: dict[int, int] = {}
    for dtype in (np.float32, np.float64):
        for size in (0, 1, 3, 1001):
            for count in (1, 2, 3, 4, 5, 7, 8, 12, 13, 16, 31, 40):
                rows = vectors(size, count, dtype)
                comm.sent = 0
                got = reducer.reduce([rows[shard] for shard in reducer.own(count)], size, count, np.dtype(dtype))
                sent[count] = comm.sent
                told = bytes_sent(reducer.rank, reducer.size, count, size, got.itemsize)
                if got.tobytes() != tree_sum(rows, np.add).tobytes() or got.dtype != dtype or sent[count] != told:
                    wrong.append(f"{size} {count} {dtype}")
                if reducer.gather([shard / 3 for shard in reducer.own(count)], count) != [s / 3 for s in range(count)]:
                    wrong.append(f"gather {count}")
    everywhere: list[object] = comm.allgather((wrong, sent))
    return everywhere


def counting() -> Any:
    """Return the communicator of all ranks, with the bytes of vectors that this rank sends to others in ``sent``."""
    from mpi4py import MPI  # noqa: PLC0415  # for the reason given above

    class Counting(MPI.Intracomm):
        sent = 0

        def Alltoall(self, sendbuf: Any, recvbuf: Any) -> None:  # noqa: N802  # mpi4py's name
            self.sent += sendbuf.nbytes * (self.size - 1) // self.size
            super().Alltoall(sendbuf, recvbuf)

        def Alltoallv(self, sendbuf: Any, recvbuf: Any) -> None:  # noqa: N802  # mpi4py's name
            self.sent += (sum(sendbuf[1]) - sendbuf[1][self.rank]) * sendbuf[0].itemsize
            super().Alltoallv(sendbuf, recvbuf)

        def Allgather(self, sendbuf: Any, recvbuf: Any) -> None:  # noqa: N802  # mpi4py's name
            self.sent += (self.size - 1) * sendbuf.nbytes if sendbuf.dtype.kind == "f" else 0  # but for the header
            super().Allgather(sendbuf, recvbuf)

        def Allgatherv(self, sendbuf: Any, recvbuf: Any) -> None:  # noqa: N802  # mpi4py's name
            self.sent += (self.size - 1) * sendbuf.nbytes
            super().Allgatherv(sendbuf, recvbuf)

    return Counting(MPI.COMM_WORLD)


# ------------------------------------------------------------------------------------------------- whole runs


def batches(epoch: int, size: int = 20) -> Any:
    """Return an epoch's batches, of which the last is smaller."""
    return fn.minibatches(X, LABELS, size, key=KEY.child("shuffle", epoch))


def weighted(epoch: int) -> Any:
    """Return an epoch's batches with weights; the rows of the first shard of 4 have the weight 0."""
    weight = (np.arange(len(X)) % 5).astype(np.float32)
    weight[:4] = 0
    return fn.minibatches(X, LABELS, 27, weight=weight, key=KEY.child("shuffle", epoch) if epoch else None)


def run_of(
    net: fn.Network, optimizer: fn.Optimizer, reducer: Reducer | None, shard_size: int, data: Any = batches, **more: Any
) -> object:
    """Return the state after two epochs, and each epoch's losses."""
    step = fn.train_step(CE, shard_size=shard_size, reducer=reducer, **more)
    state = fn.TrainState.create(net, optimizer, key=KEY)
    epochs = list(fn.train(step, state, data, epochs=range(2)))
    return (epochs[-1][0], *(log.losses for _, log in epochs))


def plain_descent(reducer: Reducer | None) -> object:
    """Train a network without a state, by itself and in a frozen part."""
    net = (*NET[:2], fn.Frozen((fn.dense(KEY, 12, 12), fn.Tanh())), NET[3])
    step = fn.sgd_step(CE, learning_rate=0.1, shard_size=8, reducer=reducer)
    return fn.train_epoch(step, net, batches(0))[0]


def with_threads(reducer: Reducer | None) -> object:
    """Train where threads compute a rank's shards."""
    with ThreadPoolExecutor(2) as executor:
        return run_of(NET, fn.Adam(learning_rate=0.01), reducer, 3, executor=executor)


def fitted(reducer: Reducer | None) -> object:
    """Fit with validation; the best state is part of the result."""
    step = fn.train_step(CE, shard_size=6, reducer=reducer)
    state = fn.TrainState.create(NORMED, fn.Nesterov(learning_rate=0.3), key=KEY)
    return list(fn.fit(step, fn.Fit.create(state), batches, validate, epochs=3, patience=2))[-1]


def validate(state: fn.TrainState[Any]) -> float:
    """Return the loss of the calibrated network on all rows."""
    return fn.evaluate(fn.calibrate(state.params, X), X, LABELS, CE)


def kept(reducer: Reducer | None) -> object:
    """Train in two parts, of which the second loads the file of rank 0."""
    step = fn.train_step(CE, shard_size=4, reducer=reducer)
    state = fn.TrainState.create(NET, fn.AdamW(learning_rate=0.01), key=KEY)
    state = [state for state, _ in fn.train(step, state, batches, epochs=range(2))][-1]
    path = Path(sys.argv[2]) / f"{in_force()}.safetensors"
    if reducer is None or reducer.rank == 0:
        fn.save(path, state)
    if reducer is not None:
        reducer.check(state)
    return list(fn.train(step, fn.load(path, like=state), batches, epochs=range(2, 4)))[-1][0]


RUNS: Final[dict[str, Callable[[Reducer | None], object]]] = {
    "dropout, Adam, ragged shards": lambda reducer: run_of(NET, fn.Adam(learning_rate=0.01), reducer, 3),
    "fewer shards than ranks": lambda reducer: run_of(NET, fn.Momentum(learning_rate=0.1), reducer, 16),
    "float64": lambda reducer: run_of(fn.astype(NET, np.float64), fn.SGD(0.1), reducer, 2, doubled),
    "weights": lambda reducer: run_of(NET, fn.RMSprop(learning_rate=0.01), reducer, 4, weighted),
    "batch norm": lambda reducer: run_of(NORMED, fn.Accumulation(fn.Adam(learning_rate=0.01), 2), reducer, 7),
    "nothing to train": lambda reducer: run_of((fn.ReLU(), fn.Dropout(0.5)), fn.SGD(0.1), reducer, 4),
    "plain descent": plain_descent,
    "threads": with_threads,
    "fit": fitted,
    "resumed": kept,
}
"""Runs by name. Each has one result for any number of ranks."""


def doubled(epoch: int) -> Any:
    """Return an epoch's batches in float64."""
    return fn.minibatches(X.astype(np.float64), LABELS, 10, key=KEY.child("shuffle", epoch))


def compared(arguments: list[str]) -> object:
    """Return the fingerprint of each run in each arithmetic; all ranks have the same: ``compared FOLDER HOW NAME...``.

    HOW is "serial" for one process without a reducer. Without names, all runs are compared.
    """
    _, how, *names = arguments
    reducer = None if how == "serial" else fn.MPIReducer()
    found: dict[str, str] = {}
    for name, run in [(name, RUNS[name]) for name in names or RUNS]:
        found[f"{name}, native"] = fn.fingerprint(run(reducer))
        with fn.portable() if name != "float64" else nullcontext():
            found[f"{name}, portable"] = fn.fingerprint(run(reducer))
    everywhere: list[dict[str, str]] = [found] if reducer is None else reducer.comm.allgather(found)
    assert everywhere == [found] * len(everywhere)
    return found


# ------------------------------------------------------------------------------------------- ranks that disagree


@frozen
class Unregistered:
    """A state that has no fingerprint."""

    net: fn.Network
    count: int


def disagree(reducer: Reducer, name: str) -> None:
    """Do something that the last rank does in another way."""
    last = reducer.rank == reducer.size - 1
    size = 7 if last and name == "shard size" else 5
    FAILS.here = last and name == "loss"
    step = fn.train_step(at_times_failing, shard_size=size, reducer=reducer)
    net = (fn.dense(KEY, 6, 12), *NET[1:]) if last and name == "weights" else NET
    state = fn.TrainState.create(net, fn.SGD(0.1), key=KEY.child("other") if last and name == "key" else KEY)
    data = batches(0, 31 if last and name == "batch size" else 20)
    if name == "unregistered":
        reducer.check(Unregistered(NET, reducer.rank))
    elif name == "step":
        reducer.check(fn.sgd_step(at_times_failing, learning_rate=0.2 if last else 0.1, shard_size=5, reducer=reducer))
    elif name == "epochs":
        next(fn.train(step, state, batches, epochs=range(2 if last else 3)))
    elif name == "shard size":
        step(state, data[0])
    elif last and name == "arithmetic":
        with fn.portable():
            reducer.check(state)
    else:
        fn.train_epoch(step, state, data[:-1] if last and name == "number of batches" else data)


def said(reducer: Reducer, name: str) -> str:
    """Return the text of the error that a disagreement raises on this rank; empty if there is none."""
    try:
        disagree(reducer, name)
    except (ValueError, ArithmeticError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


FAILS: Final = threading.local()


def at_times_failing(logits: fn.Array, target: Any, weight: fn.Array | None = None) -> tuple[float, fn.Array]:
    """Return the cross entropy, or raise an error that is not one of funcnet's."""
    if FAILS.here:
        raise OverflowError("this loss fails")
    return CE(logits, target, weight)


def disagreements(names: list[str]) -> object:
    """Return what each rank says about each disagreement. If one rank did not raise, this would never end."""
    reducer = fn.MPIReducer()
    return {name: reducer.comm.allgather(said(reducer, name)) for name in names}


# ------------------------------------------------------------------------------------------------ jobs that end


def faulty(arguments: list[str]) -> object:
    """Train, resume where the file ends, and let a fault happen to a rank in epoch 2: ``faulty FOLDER FAULT RANK``."""
    folder, fault, rank = arguments
    reducer = None if fault == "serial" else fn.MPIReducer()
    step = fn.train_step(CE, shard_size=4, reducer=reducer)
    state = fn.TrainState.create(NET, fn.Adam(learning_rate=0.01), key=KEY)
    path = Path(folder) / "run.safetensors"
    if path.exists():
        state = fn.load(path, like=state)

    def data(epoch: int) -> Any:
        if epoch == 2 and reducer is not None and reducer.rank == int(rank):
            return FAULTS[fault](epoch)
        return batches(epoch)

    first = state.step // len(batches(0))
    for state, _ in fn.train(step, state, data, epochs=range(first, 5)):  # noqa: B020  # train has read it
        if reducer is None or reducer.rank == 0:
            fn.save(path, state)
    return fn.fingerprint(state)


def killed(epoch: int) -> Iterator[Any]:
    """End the process in the middle of the epoch."""
    yield batches(epoch)[0]
    os.kill(os.getpid(), signal.SIGKILL)


def raised(epoch: int) -> Iterator[Any]:
    """Raise between two steps."""
    yield batches(epoch)[0]
    raise OSError(f"the disk of a rank failed in epoch {epoch}")


def interrupted(epoch: int) -> Iterator[Any]:
    """Raise what Ctrl-C raises."""
    yield batches(epoch)[0]
    raise KeyboardInterrupt


def waiting(epoch: int) -> Iterator[Any]:
    """Wait in the middle of an epoch, and say so by a file."""
    yield batches(epoch)[0]
    (Path(sys.argv[2]) / "waiting").touch()
    time.sleep(600)


def bad_batch(epoch: int) -> Iterator[Any]:
    """Return a batch that the step refuses."""
    yield batches(epoch)[0]
    yield fn.Batch(X[:13], LABELS[:12])


FAULTS: Final[dict[str, Callable[[int], Any]]] = {
    "nothing": batches,
    "killed": killed,
    "raised": raised,
    "interrupted": interrupted,
    "waiting": waiting,
    "bad batch": bad_batch,
}

PROGRAMS: Final = {each.__name__: each for each in (reduced, compared, disagreements, faulty)}

if __name__ == "__main__":
    result = json.dumps(PROGRAMS[sys.argv[1]](sys.argv[2:]))
    library: Any = sys.modules.get("mpi4py.MPI")
    if library is None or library.COMM_WORLD.rank == 0:
        print(result)  # noqa: T201  # the test reads it
