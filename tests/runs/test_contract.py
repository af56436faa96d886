"""The reference runs, which are the same on every machine, and the command that tests the contract on this one."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from threading import Thread
from typing import Any

import attrs
import mnist_run
import numpy as np
import pytest
import text_run

import funcnet as fn
from funcnet.core.trees import leaves
from funcnet.runs import selftest as contract

pytestmark = pytest.mark.slow


def test_the_reference_run_is_golden() -> None:
    """The fingerprint after 300 portable steps with dropout and momentum never changes."""
    assert contract.reference_run() == contract.REFERENCE


def test_a_run_on_a_text_is_golden() -> None:
    """200 portable steps of a language model with attention, a GRU and an LSTM are golden, and it learns."""
    fingerprint, loss = text_run.text_run()
    assert fingerprint == text_run.REFERENCE
    assert loss < 1
    assert text_run.text_run("native", steps=5)[0] != text_run.text_run(steps=5)[0]


def test_native_arithmetic_has_other_bits() -> None:
    """The reference depends on portable arithmetic, not only on the training."""
    assert contract.reference_run("native", epochs=1) != contract.reference_run("portable", epochs=1)


@pytest.mark.skipif(mnist_run.directory() is None, reason="FUNCNET_DATA has no mnist directory")
def test_a_run_on_mnist_is_golden() -> None:
    """300 portable steps on real digits, with dropout and momentum, are golden; native steps have different bits."""
    home = mnist_run.directory()
    assert home is not None
    fingerprint, accuracy = mnist_run.mnist_run(home)
    assert fingerprint == mnist_run.REFERENCE
    assert accuracy > 0.9
    assert mnist_run.mnist_run(home, "native", steps=20)[0] != mnist_run.mnist_run(home, steps=20)[0]


def test_every_level_holds_here() -> None:
    """The command prints the environment and the six lines of ``fn.selftest``."""
    assert fn.selftest is contract.selftest
    done = subprocess.run([sys.executable, "-m", "funcnet"], capture_output=True, text=True, check=False)
    environment, levels, end = done.stdout.split("\n\n")
    assert environment.startswith("funcnet ")
    assert fn.environment().blas in environment
    lines = levels.splitlines()
    assert [line.split()[0] for line in lines] == ["D0", "D1", "D2", "D3", "D4", "D5"]
    known = "openblas" in fn.environment().blas and fn.environment().blas_threads != "1"
    assert all(" holds " in line for line in (lines if known else lines[:4])), done.stdout
    assert "README" in end
    assert done.returncode == 0


Level = Callable[[], contract.Level]
LEVELS: dict[str, Level] = {
    "D0": contract.repeat_level,
    "D1": contract.resume_level,
    "D4": contract.threads_level,
    "D5": contract.machines_level,
}


@pytest.mark.parametrize("name", LEVELS)
@pytest.mark.parametrize("said", ["", "0" * 64], ids=["no run", "other bits"])
def test_a_level_that_fails_is_said(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a process cannot run, or ends with another fingerprint, the level fails, and the whole self-test fails."""

    def elsewhere(*_: object, **__: object) -> contract.Elsewhere:
        return contract.Elsewhere(said, "openblas Haswell", "1")

    monkeypatch.setattr(contract, "elsewhere", elsewhere)
    monkeypatch.setattr(contract, "simd_features", lambda: {"AVX2"})
    level = LEVELS[name]()
    assert level.outcome == "fails"
    assert not contract.SelfTest((level,)).passed


def test_a_program_that_fails_elsewhere_gives_nothing() -> None:
    """The output before the failure is not taken as a fingerprint; the reason is kept."""
    failed = contract.Elsewhere("", failure="ZeroDivisionError: division by zero")
    assert contract.elsewhere("'a', print('b'), 1 / 0") == failed
    assert contract.elsewhere("__import__('os')._exit(3)") == contract.Elsewhere("", failure="exit code 3")
    assert contract.elsewhere("'a'", OPENBLAS_NUM_THREADS="1").fingerprint == "a"


@pytest.mark.parametrize("name", LEVELS)
def test_a_program_that_fails_gives_the_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The level fails, and its text has the last line of the new process, even if only the last process fails."""
    good = contract.Elsewhere(contract.reference_run(epochs=2), "openblas Haswell", "1")
    runs = iter([good] if name in ("D4", "D5") else [])
    failed = contract.Elsewhere("", failure="MemoryError: too large")

    def elsewhere(*_: object, **__: object) -> contract.Elsewhere:
        return next(runs, failed)

    monkeypatch.setattr(contract, "elsewhere", elsewhere)
    monkeypatch.setattr(contract, "simd_features", lambda: {"AVX2", "SSE3"})
    level = LEVELS[name]()
    assert level.outcome == "fails"
    assert level.tried.endswith("; a new process fails: MemoryError: too large")


def test_another_reference_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """D5 fails if the kernels agree with each other but not with the reference."""
    monkeypatch.setattr(contract, "REFERENCE", "0" * 64)
    assert contract.machines_level().outcome == "fails"


def test_rows_and_workers_that_fail_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """D2 fails if the output depends on the batch size; D3 fails if a shard depends on its worker."""

    def batch_size(_: object, x: fn.Array, **__: object) -> fn.Array:
        return np.full((len(x), 10), len(x), np.float32)

    def other_with_workers(*_: Any, executor: object = None, **__: Any) -> Any:
        return fn.train_step(fn.softmax_cross_entropy, shard_size=8 if executor is None else 4)

    monkeypatch.setattr(contract, "outputs", batch_size)
    assert contract.rows_level().outcome == "fails"
    monkeypatch.setattr(contract, "train_step", other_with_workers)
    assert contract.workers_level().outcome == "fails"


@pytest.mark.parametrize("name", ["D4", "D5"])
def test_a_setting_that_is_not_seen_is_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal bits under settings without effect prove nothing: the level is not checked."""
    real: Callable[..., contract.Elsewhere] = contract.elsewhere

    def blind(call: str, **environment: str) -> contract.Elsewhere:
        return contract.Elsewhere(real(call, **environment).fingerprint, "not checked", "not checked")

    monkeypatch.setattr(contract, "elsewhere", blind)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    level = LEVELS[name]()
    assert level.outcome == "not checked"
    assert "not seen to take effect" in str(level)
    assert contract.SelfTest((level,)).passed


ARM = {"NEON", "ASIMD", "ASIMDDP"}
MACHINES: dict[str, tuple[str, set[str], str, contract.Outcome, str]] = {
    "one kernel of x86-64": ("x86_64", {"SSE3", "AVX2"}, "openblas Haswell", "not checked", "BLAS kernels Haswell"),
    "two of x86-64": ("AMD64", {"SSE3", "AVX2"}, "openblas {}", "holds", "BLAS kernels Haswell, Prescott"),
    "an old x86-64": ("x86_64", {"SSE3"}, "openblas Katmai", "holds", "BLAS kernels Prescott"),
    "ARM": ("aarch64", ARM, "openblas {}", "holds", "BLAS kernels ARMV8, CORTEXA53, NEOVERSEN1"),
    "ARM with SVE": ("arm64", ARM | {"SVE"}, "openblas {}", "holds", "ARMV8, CORTEXA53, NEOVERSEN1, NEOVERSEV1"),
    "ARM without OpenBLAS": ("arm64", ARM, "not checked", "holds", "on arm64 has the committed fingerprint"),
    "WebAssembly": ("wasm32", set(), "", "holds", "on wasm32 has the committed fingerprint"),
    "a machine without a name": ("", set(), "", "holds", f"on {sys.platform} has the committed fingerprint"),
}


@pytest.mark.parametrize("name", MACHINES)
def test_the_fingerprint_and_the_kernels_of_each_architecture(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """D5 holds with the committed fingerprint on another architecture, or on another kernel than that of the commit."""
    machine, features, blas, outcome, text = MACHINES[name]
    case = str.lower if machine in ("aarch64", "arm64") else str  # OpenBLAS's own names of its kernels

    def elsewhere(*_: object, OPENBLAS_CORETYPE: str, **__: object) -> contract.Elsewhere:  # noqa: N803
        return contract.Elsewhere("the same", blas.format(case(OPENBLAS_CORETYPE)), "1")

    def same(*_: object, **__: object) -> str:
        return "the same"

    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(contract, "simd_features", lambda: features)
    monkeypatch.setattr(contract, "elsewhere", elsewhere)
    monkeypatch.setattr(contract, "REFERENCE", "the same")
    monkeypatch.setattr(contract, "reference_run", same)
    level = contract.machines_level()
    assert level.outcome == outcome
    assert text in level.tried
    assert ("not seen to take effect" in level.tried) == ("{" not in blas and "openblas" not in blas)


# ------------------------------------------------------------------------- systems without processes or threads


def refused(*_: object, **__: object) -> None:
    """Refuse a process or a file."""
    raise OSError(138, "this system does not support processes")


MISSING: dict[str, tuple[str, object, str]] = {
    "no processes": ("subprocess.run", refused, "this system does not support processes"),
    "no interpreter": ("sys.executable", "", "the path of Python's interpreter is not known"),
    "None for it": ("sys.executable", None, "the path of Python's interpreter is not known"),
}


@pytest.mark.parametrize("missing", MISSING)
def test_without_processes_a_level_is_not_checked(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outcome has the reason. A fault that is seen without a process is still a failure."""
    target, value, reason = MISSING[missing]
    monkeypatch.setattr(target, value)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(contract, "simd_features", lambda: {"AVX2"})
    for name, check in LEVELS.items():
        level = check()
        assert (name, level.outcome) == (name, "not checked")
        assert "; no new process can be started: " in level.tried
        assert level.tried.endswith(reason)
    bits = iter("abcdef")

    def other(*_: object, **__: object) -> str:
        return next(bits)

    monkeypatch.setattr(contract, "reference_run", other)
    assert [LEVELS[name]().outcome for name in ("D0", "D1", "D5")] == ["fails"] * 3


def test_without_a_temporary_directory_a_level_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outcome has the reason."""
    monkeypatch.setattr("tempfile.TemporaryDirectory", refused)
    level = contract.resume_level()
    assert level.outcome == "not checked"
    assert level.tried.startswith("no temporary file can be written: [Errno 138] this system")


@pytest.mark.parametrize("limit", [0, 2, 3])
def test_without_threads_a_level_is_not_checked(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outcome has the reason, also if some of the threads can be started."""
    start, count = Thread.start, itertools.count()

    def limited(thread: Thread) -> None:
        if next(count) >= limit:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr("threading.Thread.start", limited)
    level = contract.workers_level()
    assert (level.outcome, level.tried) == ("not checked", "4 threads cannot be started: can't start new thread")
    monkeypatch.undo()
    assert contract.workers_level().outcome == "holds"


def test_a_run_goes_on_in_its_own_arithmetic_only() -> None:
    """A run that began in one arithmetic is refused in the other; the advice leads to portable arithmetic."""
    step = fn.train_step(fn.softmax_cross_entropy)
    batches = fn.minibatches(np.eye(4, dtype=np.float32), np.arange(4), 2)
    native = fn.TrainState.create(fn.mlp(fn.Key(0), (4, 4)), fn.SGD(learning_rate=0.1), key=fn.Key(0))
    with fn.portable():
        with pytest.raises(fn.ConfigError, match=r"not in portable; create the state inside `with fn\.portable\(\):`$"):
            fn.train_epoch(step, native, batches)
        wide = attrs.evolve(native, params=fn.astype(native.params, np.float64))
        with pytest.raises(fn.ConfigError, match="the run began in native arithmetic"):
            step(wide, batches[0])  # before the inputs, which do not fit either, are looked at
        portable = fn.TrainState.create(native.params, native.optimizer, key=fn.Key(0))
    with pytest.raises(fn.ConfigError, match=r"not in native; train inside `with fn\.portable\(\):`$"):
        step(portable, batches[0])
    assert all(leaf.array.dtype == np.float32 for leaf in leaves(portable.params))
