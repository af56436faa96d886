"""The reference runs that are the same everywhere, and the command that says what holds here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import funcnet as fn
from funcnet import contract
from funcnet.trees import leaves

MNIST = Path(os.environ.get("FUNCNET_DATA", "")) / "mnist"
MNIST_REFERENCE = "d63f4e244179a3783aa951a42803da79293febd869763f9d5508de890c4a746b"


def test_the_reference_run_is_golden() -> None:
    """300 portable steps with dropout and momentum, for ever."""
    assert contract.reference_run() == contract.REFERENCE


def test_native_arithmetic_has_other_bits() -> None:
    """The reference is of portable arithmetic, not of the training alone."""
    assert contract.reference_run("native", epochs=1) != contract.reference_run("portable", epochs=1)


@pytest.mark.skipif(
    "FUNCNET_DATA" not in os.environ or not MNIST.is_dir(), reason="FUNCNET_DATA has no mnist directory"
)
def test_a_run_on_mnist_is_golden() -> None:
    """100 portable steps on the genuine digits, for ever."""
    data = fn.datasets.load_mnist(MNIST)
    with fn.portable():
        state = fn.TrainState.create(fn.mlp(fn.Key(0), (784, 100, 200, 10)), fn.SGD(learning_rate=0.1), key=fn.Key(0))
        batches = fn.minibatches(data.train.x, data.train.y, 32, key=fn.Key(0).child("shuffle", 0))
        state, _ = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), state, batches[:100])
        accuracy = fn.accuracy(fn.predict(state.params, data.validation.x[:2000]), data.validation.y[:2000])
    assert accuracy > 0.8
    assert fn.fingerprint(state) == MNIST_REFERENCE


def test_every_level_holds_here() -> None:
    """The command prints the environment and six lines, of ``fn.selftest``."""
    assert fn.selftest is contract.selftest
    done = subprocess.run([sys.executable, "-m", "funcnet"], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Environment(")
    assert [line.split()[0] for line in lines[1:]] == ["D0", "D1", "D2", "D3", "D4", "D5"]
    assert all(" holds " in line for line in lines[1:]), done.stdout
    assert done.returncode == 0


def test_a_level_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another reference: D5 fails, and so does the whole; another copy of a row: D2."""

    def elsewhere(*_: object, **__: object) -> str:
        return contract.reference_run("portable", epochs=2)

    def batch_size(_: object, x: fn.Array, **__: object) -> fn.Array:
        return np.full((len(x), 10), len(x), np.float32)

    monkeypatch.setattr(contract, "REFERENCE", "0" * 64)
    monkeypatch.setattr(contract, "_elsewhere", elsewhere)
    machines = contract.machines_level()
    assert machines.outcome == "fails"
    assert not contract.SelfTest((machines,)).passed
    monkeypatch.setattr(contract, "outputs", batch_size)
    assert contract.rows_level().outcome == "fails"


def test_a_run_goes_on_in_its_own_arithmetic_only() -> None:
    """Begun in one, a run is refused in the other."""
    step = fn.train_step(fn.softmax_cross_entropy)
    batches = fn.minibatches(np.eye(4, dtype=np.float32), np.arange(4), 2)
    native = fn.TrainState.create(fn.mlp(fn.Key(0), (4, 4)), fn.SGD(learning_rate=0.1), key=fn.Key(0))
    with fn.portable():
        with pytest.raises(fn.ConfigError, match="began in native arithmetic, not in portable"):
            fn.train_epoch(step, native, batches)
        portable = fn.TrainState.create(native.params, native.optimizer, key=fn.Key(0))
    with pytest.raises(fn.ConfigError, match=r"funcnet\.arithmetic\.using\('portable'\)"):
        step(portable, batches[0])
    assert all(leaf.array.dtype == np.float32 for leaf in leaves(portable.params))
