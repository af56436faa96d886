"""MPI: sums and runs on any number of ranks have the bits of one process, and no fault leaves a rank waiting.

In the fast tests, the ranks are threads; the slow ones start ``mpi_program.py`` with ``mpiexec``.
"""

# The base class of ThreadComm is Any for mypy alone:
# pyright: reportUnnecessaryTypeIgnoreComment=false

from __future__ import annotations

import copy
import json
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Barrier
from typing import Any, Final, Self, TypeVar

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from mpi_program import NET, RUNS, ended, mpiexec, said, started, vectors

import funcnet as fn
from funcnet.arithmetic import Name, using
from funcnet.loops.reducers import tree_sum
from funcnet.runs.environment import Environment, environment

try:
    MPI: Any = import_module("mpi4py.MPI")
except (ImportError, RuntimeError) as error:
    pytest.skip(f"there is no MPI library: {error}", allow_module_level=True)
from funcnet.interop import mpi  # needs mpi4py

T = TypeVar("T")

needs_mpiexec = pytest.mark.skipif(mpiexec() is None, reason="mpiexec is neither beside this Python nor on the path")


class ThreadComm(MPI.Intracomm):  # type: ignore[misc]  # MPI is Any, as it may be absent
    """A communicator whose ranks are threads, which exchange values through a shared list."""

    number: int
    board: list[Any]
    barrier: Barrier

    def __new__(cls, number: int, board: list[Any], barrier: Barrier) -> Self:
        """Make an MPI communicator of this process alone, of which nothing is used."""
        made: Self = MPI.Intracomm.__new__(cls, MPI.COMM_SELF)
        made.number, made.board, made.barrier = number, board, barrier
        return made

    def Get_rank(self) -> int:  # noqa: N802  # mpi4py's names
        """Return the number of the thread."""
        return self.number

    def Get_size(self) -> int:  # noqa: N802
        """Return the number of threads."""
        return len(self.board)

    def allgather(self, value: Any) -> list[Any]:
        """Return every rank's value."""
        self.board[self.number] = value
        self.barrier.wait(20)
        found = list(self.board)
        self.barrier.wait(20)
        return found

    def Allgather(self, send: Any, receive: Any) -> None:  # noqa: N802
        """Join arrays of one length."""
        receive.reshape(len(self.board), -1)[...] = self.allgather(send.copy())

    def Allgatherv(self, send: Any, receive: Any) -> None:  # noqa: N802
        """Join arrays of these lengths."""
        parts = self.allgather(send.copy())
        assert [len(part) for part in parts] == receive[1]
        assert {part.dtype for part in parts} == {receive[0].dtype}
        np.concatenate(parts, out=receive[0])

    def Alltoall(self, send: Any, receive: Any) -> None:  # noqa: N802
        """Send an equal part of an array to each rank."""
        sizes = [send.size // len(self.board)] * len(self.board)
        self.Alltoallv([send, sizes], [receive, sizes])

    def Alltoallv(self, send: Any, receive: Any) -> None:  # noqa: N802
        """Send a part of an array to each rank."""
        assert send[0].flags.c_contiguous
        assert len(send[0]) == sum(send[1])
        every = self.allgather(np.split(send[0].copy(), np.cumsum(send[1])[:-1]))
        parts = [pieces[self.number] for pieces in every]
        assert [part.size for part in parts] == receive[1]
        receive[0].reshape(-1)[...] = np.concatenate(parts)


RANK: Final = threading.local()
"""The rank that the present thread is, in ``number``."""


def on_ranks(size: int, work: Callable[[fn.MPIReducer], T]) -> list[T | str]:
    """Return each rank's result, or the text of its error."""
    board, barrier = [None] * size, Barrier(size)

    def run(number: int) -> T | str:
        RANK.number = number
        try:
            return work(fn.MPIReducer(ThreadComm(number, board, barrier)))
        except (ValueError, ArithmeticError) as error:
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(run, range(size)))


# ------------------------------------------------------------------------------------------------------ sums


LAYOUTS: Final[dict[str, Callable[[fn.Array], fn.Array]]] = {
    "plain": lambda row: row,
    "with gaps": lambda row: np.repeat(row, 2)[::2],
    "reversed": lambda row: row[::-1].copy()[::-1],
}
every_dtype = st.sampled_from([np.float32, np.float64])


@given(st.integers(1, 9), st.integers(1, 70), st.integers(0, 30), every_dtype, st.sampled_from([*LAYOUTS]))
def test_every_sum_is_that_of_the_tree(
    ranks: int, count: int, size: int, dtype: type[np.floating], layout: str
) -> None:
    """All ranks have its bits, for any number of ranks, shards and parameters."""
    rows = vectors(size, count, dtype)

    def work(reducer: fn.MPIReducer) -> tuple[bytes, list[float]]:
        own = reducer.own(count)
        total = reducer.reduce([LAYOUTS[layout](rows[shard]) for shard in own], size, count, np.dtype(dtype))
        assert total.dtype == dtype
        return total.tobytes(), reducer.gather([shard / 3 for shard in own], count)

    wanted = tree_sum(rows, np.add).tobytes(), [shard / 3 for shard in range(count)]
    assert on_ranks(ranks, work) == [wanted] * ranks


def test_the_bytes_do_not_grow_with_the_number_of_shards() -> None:
    """A rank sends 2P (1 - 1/R) numbers if its shards are one part of the tree, and at most 5P otherwise."""
    size = 5040
    for ranks in range(1, 10):
        powers = {mpi.bytes_sent(0, ranks, ranks * 2**k, size, 4) for k in range(12) if ranks in (1, 2, 4, 8) or not k}
        assert powers == {2 * 4 * (size - size // ranks)}
        most = [mpi.bytes_sent(rank, ranks, count, size, 4) for rank in range(ranks) for count in range(1, 500)]
        assert max(most) <= 5 * 4 * size * (1 - 1 / ranks)


REFUSED: Final[list[tuple[Callable[[fn.Reducer], object], str]]] = [
    (lambda reducer: reducer.gather([1.0], 2), "values must be 2 numbers, one for each shard of this rank, got 1"),
    (lambda reducer: reducer.reduce([np.ones(3)], 3, 2, np.dtype(np.float64)), "rows must be 2 vectors"),
    (lambda reducer: reducer.reduce([np.ones(3)], 2, 1, np.dtype(np.float64)), "rows must be 1 vectors"),
    (lambda reducer: reducer.reduce([np.ones(3)], 3, 1, np.dtype(np.float32)), "rows must be 1 vectors"),
    (lambda reducer: reducer.reduce([np.ones(3)], 3, 1, np.dtype(np.float16)), "rows must be 1 vectors"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_other_vectors_are_refused(call: Callable[[fn.Reducer], object], message: str) -> None:
    """The vectors must be those of the rank's own shards, of the length and dtype of which all ranks know."""
    with pytest.raises(fn.ConfigError, match=f"MPIReducer: {message}"):
        call(fn.MPIReducer())


# --------------------------------------------------------------------------------------------- whole runs


@pytest.mark.parametrize("arithmetic", ["native", "portable"])
@pytest.mark.parametrize("name", ["dropout, Adam, ragged shards", "weights", "fit"])
def test_a_run_does_not_depend_on_the_number_of_ranks(name: str, arithmetic: Name) -> None:
    """The state and the losses of 3 and 5 ranks are those of one process without a reducer."""

    def work(reducer: fn.MPIReducer | None) -> str:
        with using(arithmetic):
            return fn.fingerprint(RUNS[name](reducer))

    wanted = work(None)
    assert on_ranks(3, work) == [wanted] * 3
    assert on_ranks(5, work) == [wanted] * 5


# --------------------------------------------------------------------------------------- ranks that disagree

VALUE: Final = "StructureError: MPIReducer: all ranks must have the same value, but differ in "
CALL: Final = "ConfigError: .*MPIReducer: all ranks must have the same batches, step and state: rank 0 has "
DISAGREEMENTS: Final[dict[str, tuple[str, str]]] = {
    "nothing": ("", ""),
    "key": (f"{VALUE}key.* rank 0 has .*, rank 2 has ", ""),
    "weights": (f"{VALUE}params.0.weight: rank 0 has float32 .6, 12. with SHA-256 .*, rank 2 has float32", ""),
    "arithmetic": ("ConfigError: .* compute in one arithmetic: rank 0 has native, rank 2 has portable", ""),
    "shard size": (f"{CALL}an exchange of 4 numbers in a step, rank 2 has an exchange of 3 numbers in a step", ""),
    "batch size": ("StructureError: .*all ranks must have the same batch; give each rank the same data", ""),
    "number of batches": (
        f"{CALL}an exchange of 3 numbers in a step, rank 2 has the beginning or the end of an epoch",
        "",
    ),
    "step": (f"{VALUE}learning_rate: rank 0 has 0.1, rank 2 has 0.2", ""),
    "epochs": (f"{VALUE}epochs.2: rank 0 has 2, rank 2 has nothing", ""),
    "unregistered": (f"{VALUE}count: rank 0 has 0, rank 1 has 1", ""),
    "loss": ("FuncnetError: .*another rank", "OverflowError: this loss fails"),
}
"""What ranks 0 and 1 say about each disagreement, and what rank 2 says if that is something else."""


def check_said(name: str, texts: list[str]) -> None:
    """Check what each of three ranks said."""
    wanted, last = DISAGREEMENTS[name]
    for text, pattern in zip(texts, (wanted, wanted, last or wanted), strict=True):
        assert re.match(pattern, text), (name, texts)
        assert bool(text) == bool(pattern), (name, texts)


@pytest.mark.parametrize("name", DISAGREEMENTS)
def test_ranks_that_disagree_all_raise(name: str) -> None:
    """Each rank says what both sides have; a failing loss names the error on its own rank."""
    check_said(name, on_ranks(3, lambda reducer: said(reducer, name)))


OTHER: Final = evolve(environment(), simd="other")
NEWER: Final = evolve(environment(), funcnet="9.9.9")


@pytest.mark.parametrize(
    ("arithmetic", "other", "message"),
    [
        ("native", OTHER, "have the same simd, on which native bits may depend: rank 0 has .*, rank 2 has 'other'"),
        ("native", NEWER, "have the same funcnet, on which native bits may depend: rank 0 has .*, rank 2 has '9.9.9'"),
        ("portable", OTHER, ""),
        (
            "portable",
            NEWER,
            "have the same funcnet, on which portable bits may depend: rank 0 has .*, rank 2 has '9.9.9'",
        ),
    ],
)
def test_environments_may_differ_where_no_bit_depends_on_them(
    monkeypatch: pytest.MonkeyPatch, arithmetic: Name, other: Environment, message: str
) -> None:
    """Portable bits depend on the version of funcnet, and native ones on the processor, too."""
    own = environment()
    monkeypatch.setattr(mpi, "environment", lambda: other if RANK.number == 2 else own)

    def work(reducer: fn.MPIReducer) -> None:
        with using(arithmetic):
            reducer.check(NET)

    for text in on_ranks(3, work):
        assert re.match(f"ConfigError: MPIReducer: all ranks must {message}", text or "") if message else text is None


def compare(states: tuple[object, object], reducer: fn.MPIReducer) -> None:
    """Compare the states of two ranks."""
    reducer.check(states[reducer.rank])


def test_a_state_without_a_fingerprint_is_compared_by_its_parts() -> None:
    """Equal arrays, numbers, names and types are equal states; any other part is shown with its place."""
    start: tuple[object, ...] = (NET, json.loads, np.array([None]), [1], 0.5, "a", None, True)
    for state, message in (
        ((*start[:3], [2], *start[4:]), ""),  # what a list contains is not compared
        ((NET[:2], *start[1:]), "0.2: rank 0 has funcnet.layers.dropout.Dropout, rank 1 has nothing"),
        ((NET, json.dumps, *start[2:]), "1: rank 0 has json.loads, rank 1 has json.dumps"),
        ((*start[:2], np.array([None, None]), *start[3:]), "2: rank 0 has object (1,) with SHA-256"),
        ((*start[:4], -0.5, *start[5:]), "4: rank 0 has 0.5, rank 1 has -0.5"),
        ((*start[:5], "b", *start[6:]), "5: rank 0 has 'a', rank 1 has 'b'"),
        (start[:6], "6: rank 0 has None, rank 1 has nothing"),
    ):
        texts = on_ranks(2, partial(compare, (start, state)))
        assert all(str(text).startswith(f"{VALUE}{message}") if message else text is None for text in texts), texts


# ------------------------------------------------------------------------------------------- the reducer as a value


def test_a_reducer_belongs_to_its_process() -> None:
    """It prints its rank, copies are the same object, and it does not pickle."""
    reducer = fn.MPIReducer()
    assert repr(reducer) == "MPIReducer(rank=0, size=1)"
    assert reducer.own(3) == range(3)
    assert copy.copy(reducer) is copy.deepcopy(reducer) is reducer
    step = fn.train_step(fn.softmax_cross_entropy, shard_size=2, reducer=reducer)
    assert copy.deepcopy(step).reducer is reducer
    with pytest.raises(fn.ConfigError, match=r"a reducer belongs to its process .* in each process"):
        pickle.dumps(step)


def test_it_is_no_part_of_a_steps_value() -> None:
    """Two steps that differ only in their reducers are equal, print alike, and have one fingerprint."""
    steps = [fn.train_step(fn.softmax_cross_entropy, shard_size=2, reducer=each) for each in (None, fn.MPIReducer())]
    assert steps[0] == steps[1]
    assert repr(steps[0]) == repr(steps[1])
    assert fn.fingerprint(steps[0]) == fn.fingerprint(steps[1])


@pytest.mark.parametrize("comm", [3, "world", MPI.COMM_NULL, MPI.Comm(MPI.COMM_SELF), MPI.Intracomm], ids=lambda _: "")
def test_only_a_communicator_is_accepted(comm: Any) -> None:
    """Neither the null communicator nor another value is one."""
    with pytest.raises(fn.ConfigError, match=r"MPIReducer: comm must be an mpi4py\.MPI\.Intracomm, got "):
        fn.MPIReducer(comm)


@pytest.mark.slow
def test_the_import_does_not_initialize_mpi() -> None:
    """A reducer does; without an MPI library, it says how to install one."""
    program = (
        "import sys, funcnet as fn; fn.MPIReducer; assert 'mpi4py.MPI' not in sys.modules\n"
        "sys.modules['mpi4py.MPI'] = None\n"
        "try: fn.MPIReducer()\n"
        "except ImportError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("mpi4py does not find an MPI library; use pip install mpich: ")


# ---------------------------------------------------------------------------------------------------- jobs of mpiexec


def result_of(ranks: int, *arguments: str) -> Any:
    """Return what a job prints as JSON."""
    status, output, errors = ended(started(ranks, *arguments))
    assert not status, errors
    return json.loads(output)


@needs_mpiexec
@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 5])
def test_mpi_adds_like_one_process(ranks: int) -> None:
    """Every sum has its bits, and MPI is given as many bytes as ``bytes_sent`` says."""
    results = result_of(ranks, "reduced")
    assert [wrong for wrong, _ in results] == [[]] * ranks
    assert max(most for _, sent in results for most in sent.values()) <= 5 * 8 * 1001
    assert {results[0][1][str(count)] for count in (2, 4, 8, 16) if ranks == 2} <= {8008}


@needs_mpiexec
@pytest.mark.slow
def test_one_fingerprint_for_any_number_of_processes(tmp_path: Path) -> None:
    """Runs have the fingerprint of one process without a reducer, native and portable.

    All runs have it with 3 ranks, and the first of them also with 2 and 4 ranks.
    """
    wanted = result_of(0, "compared", str(tmp_path), "serial")
    assert len(set(wanted.values())) > len(RUNS)
    assert result_of(3, "compared", str(tmp_path), "ranks") == wanted
    first = [*RUNS][:2]
    for ranks in (2, 4):
        found = result_of(ranks, "compared", str(tmp_path), "ranks", *first)
        assert len(found) == 4
        assert found.items() <= wanted.items()


@needs_mpiexec
@pytest.mark.slow
def test_processes_that_disagree_all_raise() -> None:
    """As in threads: no process waits for another one."""
    for name, texts in result_of(3, "disagreements", *DISAGREEMENTS).items():
        check_said(name, texts)


FAULTS: Final = {
    "raised": "OSError: the disk of a rank failed in epoch 2",
    "bad batch": "ShapeError",
    "interrupted": "KeyboardInterrupt",
    "killed": "",
    "waiting": "",
}
"""What a job prints for each fault of a rank."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the fingerprint of the run of one process."""
    fingerprint: str = result_of(0, "faulty", str(tmp_path_factory.mktemp("run")), "serial", "0")
    return fingerprint


@needs_mpiexec
@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "numbers"),
    [
        ("raised", (2, 1, 3)),
        ("bad batch", (2, 0, 1)),
        ("interrupted", (3, 1, 2)),
        ("killed", (2, 0, 0)),
        ("killed", (3, 2, 4)),
        ("waiting", (2, 1, 2)),
    ],
)
def test_a_fault_ends_the_job_and_the_run_resumes(
    tmp_path: Path, undisturbed: str, fault: str, numbers: tuple[int, int, int]
) -> None:
    """The job ends within seconds with the rank's own message, and the last file continues on other numbers of ranks.

    The numbers are those of the ranks, of the rank with the fault, and of the ranks that resume. A job in which a rank
    waits is interrupted from outside, as by Ctrl-C.
    """
    ranks, rank, resumed = numbers
    begun = time.monotonic()
    job = started(ranks, "faulty", str(tmp_path), fault, str(rank))
    if fault == "waiting":
        while not (tmp_path / "waiting").exists() and time.monotonic() < begun + 60:
            time.sleep(0.05)
        job.send_signal(signal.SIGINT)
    status, output, errors = ended(job, limit=60)
    assert status
    assert FAULTS[fault] in errors
    assert undisturbed not in output
    assert result_of(resumed, "faulty", str(tmp_path), "nothing" if resumed else "serial", "0") == undisturbed
