"""The self-test: checks which levels of the determinism contract hold on this machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.arithmetic import Name, using
from funcnet.core.arrays import Array, lock
from funcnet.core.html import as_printed, table
from funcnet.core.trees import same_bits
from funcnet.data.batches import Minibatches, minibatches
from funcnet.layers.activations import ReLU
from funcnet.layers.dense import Dense, dense
from funcnet.layers.dropout import Dropout
from funcnet.loops.epochs import train_epoch
from funcnet.loops.steps import TrainState, train_step
from funcnet.losses import softmax_cross_entropy
from funcnet.network.inference import outputs
from funcnet.network.passes import forward
from funcnet.optimizers import Momentum
from funcnet.random.draws import normal, words
from funcnet.random.keys import Key
from funcnet.runs.checkpoints import load, save
from funcnet.runs.environment import simd_features
from funcnet.runs.fingerprints import fingerprint

REFERENCE: Final = "8b93cfb41ec8e4450b2d6fe64c49d0f8c5cf29afa60977f388be214b2cfe4683"
"""The fingerprint of ``reference_run("portable")``, which is the same on every machine.

It was first computed on an x86-64 processor with the BLAS kernel Haswell.
"""

Net: TypeAlias = tuple[Dense, ReLU, Dropout, Dense, ReLU, Dense]
_KEY: Final = Key(2026)


@frozen
class Kernel:
    """A BLAS kernel: the processor feature that it needs, under NumPy's name, and OpenBLAS's names for the kernel."""

    needs: str
    names: tuple[str, ...]


_KERNELS: Final = {
    "Haswell": Kernel("AVX2", ("Haswell",)),
    "Sandybridge": Kernel("AVX", ("Sandybridge",)),
    "Prescott": Kernel("SSE3", ("Prescott", "Katmai")),
    "SkylakeX": Kernel("AVX512VL", ("SkylakeX",)),
    "ARMV8": Kernel("ASIMD", ("armv8",)),
    "CORTEXA53": Kernel("ASIMD", ("cortexa53",)),
    "NEOVERSEN1": Kernel("ASIMDDP", ("neoversen1",)),
    "NEOVERSEV1": Kernel("SVE", ("neoversev1",)),
}
"""The kernels of x86-64 and of ARM, by the names that ``OPENBLAS_CORETYPE`` takes."""


# ------------------------------------------------------------------------------------------- the reference


def reference_state() -> TrainState[Net]:
    """Return the start of the reference run: 784-100-200-10 with dropout and momentum."""
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
    """Return 20 batches of 32 synthetic examples, drawn from a fixed key."""
    x, labels = _reference_data()
    return minibatches(x, labels, 32, key=_KEY.child("shuffle", epoch))


def reference_run(arithmetic: Name = "portable", *, epochs: int = 15) -> str:
    """Train the reference network for 20 steps per epoch, and return the state's fingerprint."""
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
    """One level's promise, its outcome on this machine, and the test behind the outcome."""

    name: str
    promise: str
    outcome: Outcome
    tried: str

    def __str__(self) -> str:
        return f"{self.name:12} {self.outcome:11} {self.promise}: {self.tried}"


@frozen
class SelfTest:
    """The outcomes of all levels; prints as a table."""

    levels: tuple[Level, ...]

    _repr_pretty_ = as_printed

    @property
    def passed(self) -> bool:
        """Whether no level failed."""
        return all(level.outcome != "fails" for level in self.levels)

    def __str__(self) -> str:
        return "\n".join(map(str, self.levels))

    def _repr_html_(self) -> str:
        rows = [(level.name, level.outcome, level.promise, level.tried) for level in self.levels]
        return table(("level", "outcome", "promise", "tried"), rows, "lltt")


def selftest() -> SelfTest:
    """Check the levels of the determinism contract on this machine, in less than 20 seconds.

    A level fails if bits differ. It is "not checked", with the reason, if no bits differ but not all of the test can
    run here: on a system without processes or threads, such as WebAssembly, or if a setting under test cannot be seen
    to take effect, without threadpoolctl, which ``pip install funcnet[audit]`` installs, or with a BLAS other than
    OpenBLAS. D5 compares this machine with the one that computed the committed fingerprint, an x86-64 processor. On
    x86-64, at least one other kernel must be seen as well.

    Returns:
        One outcome per level, D0 to D5; ``print`` shows them.

    Example:
        ``python -m funcnet`` prints the result, with lines such as

        >>> print(Level("D0 repeat", "the same bits in every run", "holds", "twice here and once in a new process"))
        D0 repeat    holds       the same bits in every run: twice here and once in a new process
    """
    checks = (repeat_level, resume_level, rows_level, workers_level, threads_level, machines_level)
    return SelfTest(tuple(check() for check in checks))


def _outcome(*, same: bool, seen: bool = True) -> Outcome:
    if not same:
        return "fails"
    return "holds" if seen else "not checked"


@frozen
class Elsewhere:
    """The result of a new process: the run's fingerprint, empty if it failed, and the settings in force there.

    ``missing`` is the reason why no process could be started, ``failure`` the last line of a process that failed. Both
    are empty otherwise.
    """

    fingerprint: str
    blas: str = ""
    threads: str = ""
    simd: str = ""
    missing: str = ""
    failure: str = ""

    def agrees(self, fingerprint: str) -> bool:
        """Whether the process found this fingerprint, or could not be started."""
        return bool(self.missing) or self.fingerprint == fingerprint


def elsewhere(call: str, *, inherit: bool = False, **environment: str) -> Elsewhere:
    """Call a function of this module in a new process.

    Args:
        call: The call, such as ``"reference_run('native')"``, which must give a fingerprint.
        inherit: Whether the new process inherits all of OpenBLAS's settings; it always inherits the cache size.
        environment: Further environment variables of the new process.
    """
    program = (
        f"from funcnet.runs.selftest import *; from funcnet.runs.environment import environment; print({call})\n"
        "here = environment(); print(here.blas, here.blas_threads, here.simd, sep='\\n')"
    )
    chosen = {key for key in os.environ if key.startswith("OPENBLAS_") and key != "OPENBLAS_L2_SIZE"}
    settings = {key: value for key, value in os.environ.items() if inherit or key not in chosen}
    path = os.pathsep.join(part for part in sys.path if part)
    if not sys.executable:
        return Elsewhere("", missing="the path of Python's interpreter is not known")
    try:
        done = subprocess.run(  # noqa: S603  # this Python, a program written here
            [sys.executable, "-c", program],
            env=settings | {"PYTHONPATH": path} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        return Elsewhere("", missing=str(error))
    if done.returncode:
        return Elsewhere("", failure=(done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    return Elsewhere(*done.stdout.split("\n")[:4])


def described(text: str, *runs: Elsewhere) -> str:
    """Return the text, which describes new processes, with the reason if one of them could not be started or failed."""
    for run in runs:
        if run.missing:
            return f"; no new process can be started: {run.missing}"
        if run.failure:
            return f"{text}; a new process fails: {run.failure}"
    return text


def repeat_level() -> Level:
    """Check D0 on two epochs of the reference run."""
    here, again = (reference_run("native", epochs=2) for _ in range(2))
    there = elsewhere("reference_run('native', epochs=2)", inherit=True)
    outcome = _outcome(same=here == again and there.agrees(here), seen=not there.missing)
    tried = f"native run twice here{described(', once in a new process', there)}"
    return Level("D0 repeat", "the same bits in every run", outcome, tried)


def resumed_run(path: str, steps: int) -> str:
    """Resume the reference run's first epoch from a file, after the given number of steps."""
    state = load(path, like=reference_state())
    return fingerprint(train_epoch(train_step(softmax_cross_entropy), state, reference_batches(0)[steps:])[0])


def resume_level() -> Level:
    """Check D1 on the reference run's first epoch."""
    steps, step = 7, train_step(softmax_cross_entropy)
    name, promise = "D1 resume", "a run that stops and resumes is the same run"
    part, _ = train_epoch(step, reference_state(), reference_batches(0)[:steps])
    try:
        with tempfile.TemporaryDirectory() as directory:
            path = os.fspath(Path(directory) / "part.safetensors")
            save(path, part)
            there = elsewhere(f"resumed_run({path!r}, {steps})", inherit=True)
            here = resumed_run(path, steps)
    except OSError as error:
        return Level(name, promise, "not checked", f"no temporary file can be written: {error}")
    same = here == reference_run("native", epochs=1) and there.agrees(here)
    tried = f"native run saved after {steps} steps, resumed here{described(' and in a new process', there)}"
    return Level(name, promise, _outcome(same=same, seen=not there.missing), tried)


def rows_level() -> Level:
    """Check D2 on a batch of the reference run."""
    net, x = reference_state().params, reference_batches(0)[0].x
    whole = outputs(net, x, rowwise=True)
    alone = np.concatenate([outputs(net, x[i : i + 1], rowwise=True) for i in range(len(x))])
    with using("portable"):
        exact = forward(net, x)
        alone_exact = np.concatenate([forward(net, x[i : i + 1]) for i in range(len(x))])
    outcome = _outcome(same=same_bits(whole, alone) and same_bits(exact, alone_exact))
    tried = f"{len(x)} rows alone and together, row-wise native and portable"
    return Level("D2 batch", "a row's output does not depend on other rows", outcome, tried)


def workers_level() -> Level:
    """Check D3 on four steps of the reference run."""

    def run(executor: ThreadPoolExecutor | None, arithmetic: Name) -> str:
        step = train_step(softmax_cross_entropy, shard_size=8, executor=executor)
        with using(arithmetic):
            return fingerprint(train_epoch(step, reference_state(), reference_batches(0)[:4])[0])

    arithmetics: tuple[Name, ...] = ("native", "portable")
    alone = [run(None, name) for name in arithmetics]
    try:
        with ThreadPoolExecutor(4) as executor:
            outcome = _outcome(same=alone == [run(executor, name) for name in arithmetics])
        tried = "shards of 8 rows on 1 and 4 workers, native and portable"
    except RuntimeError as error:
        outcome, tried = "not checked", f"4 threads cannot be started: {error}"
    return Level("D3 workers", "gradients do not depend on who computes them", outcome, tried)


_PORTABLE: Final = "reference_run('portable', epochs=2)"


def threads_level() -> Level:
    """Check D4 on two epochs of the portable reference run."""
    counts = [str(count) for count in (1, 2)]
    runs = [elsewhere(_PORTABLE, OPENBLAS_NUM_THREADS=count) for count in counts]
    here = reference_run("portable", epochs=2)
    same = all(run.agrees(here) for run in runs)
    seen = [run.threads for run in runs] == counts
    threads = " with 1 and 2 BLAS threads" + ("" if seen else ", which are not seen to take effect")
    tried = f"portable run{described(threads, *runs)}"
    return Level("D4 threads", "the same bits for any number of threads", _outcome(same=same, seen=seen), tried)


def machines_level() -> Level:
    """Check D5 on this machine, and on the BLAS kernels that its processor can run."""
    found = simd_features()
    kernels = [name for name, kernel in _KERNELS.items() if kernel.needs in found]
    runs = [elsewhere(_PORTABLE, OPENBLAS_CORETYPE=kernel, OPENBLAS_NUM_THREADS="1") for kernel in kernels]
    here = reference_run("portable", epochs=2)
    whole = reference_run()
    same = all(run.agrees(here) for run in runs) and whole == REFERENCE
    seen = [
        kernel
        for kernel, run in zip(kernels, runs, strict=True)
        if any(name in run.blas for name in _KERNELS[kernel].names)
    ]
    machine = platform.machine() or sys.platform
    found_it = "has the committed fingerprint" if whole == REFERENCE else f"has {whole[:8]}, not {REFERENCE[:8]}"
    tried = f"portable run of 300 steps on {machine} {found_it}"
    tried += described(f"; BLAS kernels {', '.join(seen) or 'not seen to take effect'}", *runs)
    another = machine not in {"x86_64", "AMD64"} or any(kernel != "Haswell" for kernel in seen)
    return Level("D5 machines", "the same bits everywhere", _outcome(same=same, seen=another), tried)
