"""The reference runs, which are the same on every machine, and the command that tests the contract on this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
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
    level = LEVELS[name]()
    assert level.outcome == "fails"
    assert not contract.SelfTest((level,)).passed


def test_a_program_that_fails_elsewhere_gives_nothing() -> None:
    """The output before the failure is not taken as a fingerprint."""
    assert contract.elsewhere("'a', 1 / 0") == contract.Elsewhere("")
    assert contract.elsewhere("'a'", OPENBLAS_NUM_THREADS="1").fingerprint == "a"


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
    level = LEVELS[name]()
    assert level.outcome == "not checked"
    assert "not seen to take effect" in str(level)
    assert contract.SelfTest((level,)).passed


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
