"""The matrix of imitated machines: four of its cells run, and it detects the differences that it is for."""

from __future__ import annotations

import json
import platform
import sys
from functools import cache
from pathlib import Path
from typing import cast

import mnist_run
import portable_matrix as matrix
import pytest
import text_run
from portable_matrix import Cell, Said

from funcnet.runs.selftest import REFERENCE

pytest.importorskip("threadpoolctl", reason="what shows which kernel is in force")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "AMD64") or not Path("/proc/cpuinfo").exists(),
        reason="the imitated machines are x86-64, and Linux says what a processor has",
    ),
]

PLAIN = Cell("Haswell", 1, "all", "all")
FAR = Cell("Prescott", 2, "no AVX2", "no AVX2")
SMALL = (PLAIN, FAR, Cell("Sandybridge", 1, "no AVX-512", "all"), Cell("SkylakeX", 2, "all", "no AVX2"))


@cache
def said(cell: Cell) -> Said:
    """Return the output of a cell on this machine."""
    python = Path(sys.executable)
    return matrix.run_cell(python, cell, old_names=matrix.has_old_names(python))


def runnable(*cells: Cell) -> None:
    """Skip the test if a cell cannot run."""
    for reason in filter(None, (cell.missing() for cell in cells)):
        pytest.skip(reason)


@pytest.mark.parametrize("cell", SMALL, ids=str)
def test_a_cell_ends_in_the_committed_fingerprints(cell: Cell) -> None:
    """300 steps on synthetic data, 200 on a text, and 300 on MNIST if present, with settings seen to be in effect."""
    runnable(PLAIN, cell)
    matrix.check_effect(cell, said(cell), said(PLAIN)["libm"])
    matrix.check_bits("here", cell, said(cell))


def test_native_arithmetic_differs_between_cells() -> None:
    """The matrix can therefore detect a difference."""
    runnable(PLAIN, FAR)
    assert said(PLAIN)["native"] != said(FAR)["native"]
    assert said(PLAIN)["portable"] == said(FAR)["portable"] == REFERENCE


LAYERS = """
import json
import numpy as np
import funcnet as fn
from funcnet.arithmetic import using
from networks import CASES, KEY

def run(case):
    net = (fn.astype(case.layer(), np.float32), fn.Flatten())
    x = case.x(64, np.float32)
    last = fn.dense(KEY.child("last"), fn.forward(net, x[:1]).shape[1], 3)
    state = fn.TrainState.create((net, last), fn.Momentum(learning_rate=0.05), key=KEY)
    batches = fn.minibatches(x, np.arange(64) % 3, 32, key=KEY)
    return fn.fingerprint(fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), state, batches)[0])

said = {}
for name in ("native", "portable"):
    with using(name):
        said[name] = {case.name: run(case) for case in CASES}
print(json.dumps(said))
"""


def test_every_layer_trains_to_the_same_bits() -> None:
    """Portable bits agree under the simplest and the most distant settings; most native bits do not."""
    runnable(PLAIN, FAR)
    python = Path(sys.executable)
    old_names = matrix.has_old_names(python)
    plain, far = (json.loads(matrix.run_program(python, LAYERS, cell, old_names=old_names)) for cell in (PLAIN, FAR))
    differing = [name for name, fingerprint in plain["portable"].items() if far["portable"][name] != fingerprint]
    assert not differing
    same = [name for name, fingerprint in plain["native"].items() if far["native"][name] == fingerprint]
    assert len(same) < len(plain["native"]) / 2


@pytest.mark.parametrize(
    ("setting", "other"),
    [
        ("kernel", Cell("SkylakeX", 2, "no AVX2", "no AVX2")),
        ("threads", Cell("Prescott", 1, "no AVX2", "no AVX2")),
        ("avx512, avx2", Cell("Prescott", 2, "all", "no AVX2")),
        ("avx2", Cell("Prescott", 2, "no AVX-512", "no AVX2")),
        ("libm", Cell("Prescott", 2, "no AVX2", "all")),
    ],
)
def test_a_setting_without_effect_is_seen(setting: str, other: Cell) -> None:
    """The output of one cell is refused as that of another, with the setting's name."""
    runnable(PLAIN, FAR, Cell("SkylakeX", 1, "no AVX-512", "all"))
    with pytest.raises(RuntimeError, match=rf"a setting took no effect \({setting}\)"):
        matrix.check_effect(other, said(FAR), said(PLAIN)["libm"])


def test_other_bits_are_seen() -> None:
    """A difference in any run is detected."""
    here = {"kernel": "Haswell", "threads": 1, "avx2": True, "avx512": True, "libm": "", "numpy": "", "native": ""}
    runs = {"portable": REFERENCE, "text": text_run.REFERENCE, "mnist": mnist_run.REFERENCE}
    whole = cast("Said", {**here, **runs, "differing": []})
    matrix.check_bits("here", PLAIN, whole)
    for name in runs:
        other = cast("Said", {**whole, name: "0" * 64})
        with pytest.raises(RuntimeError, match="portable arithmetic differs"):
            matrix.check_bits("here", PLAIN, other)
    with pytest.raises(RuntimeError, match="portable arithmetic differs: sums: mean"):
        matrix.check_bits("here", PLAIN, cast("Said", {**whole, "differing": ["sums: mean"]}))


def test_the_matrix_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are 48 cells per Python; on a processor with fewer features, a cell says what is missing."""
    assert len(set(matrix.cells())) == 4 * 2 * 3 * 2
    assert len(matrix.PYTHONS) == 4

    def cpu_has(feature: str) -> bool:
        return "avx" not in feature

    monkeypatch.setattr(matrix, "cpu_has", cpu_has)
    monkeypatch.setattr(matrix, "processors", lambda: 1)
    reasons = [cell.missing() for cell in matrix.cells()]
    assert reasons.count("") == 1 * 1 * 1 * 1
    lacking = {f"the processor has no {feature}" for feature in ("avx", "avx2", "avx512vl")}
    assert {*reasons} - {""} == {*lacking, "2 threads need as many processors"}
