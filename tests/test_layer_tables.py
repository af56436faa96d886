"""What each layer of the table has beside the laws: portable goldens, on pretended machines too; a resumed run."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from networks import CASES, Case, inputs

import funcnet as fn
from funcnet.trees import leaves

KEY: Final = fn.Key(41)
HERE: Final = Path(__file__).parent
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

# ---------------------------------------------------------------------------------------------------- goldens

GOLDENS: Final[dict[str, str]] = json.loads((HERE / "portable_goldens.json").read_text())
"""A hash a layer. A new layer's is in the message of the test that misses it; no other ever changes."""


def portable_hash(case: Case) -> str:
    """Of the output, the input's gradient and every parameter's, in portable arithmetic."""
    layer, x = fn.cast(case.layer(), np.float32), case.x(5, np.float32)
    with fn.portable():
        y, pull = fn.vjp(layer, x)
        grad_x, grads = pull(inputs(KEY.child("g"), *y.shape, dtype=np.float32))
    digest = hashlib.sha256()
    for array in (y, grad_x, *(leaf.array for leaf in leaves(grads) if leaf.trained)):
        digest.update(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()[:16]


@every_case
def test_a_layers_portable_bits_are_golden(case: Case) -> None:
    """Forward and backward; a layer without a golden gets one."""
    found = portable_hash(case)
    assert GOLDENS.get(case.name) == found, f'the line of portable_goldens.json would be "{case.name}": "{found}"'


def test_every_golden_has_a_layer() -> None:
    """No line outlives its layer."""
    assert set(GOLDENS) <= {case.name for case in CASES}


PROGRAM: Final = """
import json
from networks import CASES
from test_layer_tables import portable_hash
print(json.dumps({case.name: portable_hash(case) for case in CASES}))
"""
MACHINES: Final = {
    "an old kernel, two threads": {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "2"},
    "another kernel, no SIMD, another libm": {
        "OPENBLAS_CORETYPE": "Sandybridge",
        "OPENBLAS_NUM_THREADS": "1",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F",
    },
}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="portable means x86-64")
@pytest.mark.parametrize("machine", MACHINES)
def test_a_layers_portable_bits_are_the_same_everywhere(machine: str) -> None:
    """Each layer's, under other BLAS kernels, thread counts, SIMD levels and C libraries."""
    said = json.loads(in_a_new_process(PROGRAM, **MACHINES[machine]))
    assert said == {case.name: portable_hash(case) for case in CASES}


def in_a_new_process(program: str, *arguments: str, **environment: str) -> str:
    """What it prints."""
    paths = os.pathsep.join((str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


# --------------------------------------------------------------------------------------------------- resuming


def start(case: Case) -> fn.TrainState[tuple[fn.Network, ...]]:
    """The layer in a classifier, with momentum."""
    layer = case.layer()
    features = fn.forward((layer, fn.Flatten()), case.x(3)).shape[1]
    net = (layer, fn.Flatten(), fn.dense(KEY.child("last"), features, 3, dtype=np.float64))
    return fn.TrainState.create(net, fn.Momentum(learning_rate=0.01), key=KEY)


def batches(case: Case, epoch: int) -> Any:
    """Ten rows in batches of three."""
    return fn.minibatches(case.x(10), np.arange(10) % 3, 3, key=KEY.child("order", epoch))


def epochs(case: Case, state: Any, numbers: range) -> Any:
    """The state after these epochs."""
    for number in numbers:
        state, _ = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), state, batches(case, number))
    return state


RESUME: Final = """
import sys
from pathlib import Path
import funcnet as fn
from networks import CASES
from test_layer_tables import epochs, start
for number, case in enumerate(CASES):
    half = fn.load(Path(sys.argv[1]) / f"{number}", like=start(case))
    fn.save(Path(sys.argv[1]) / f"{number}.whole", epochs(case, half, range(1, 3)))
"""


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every layer's run, saved after its first epoch, and gone on with by another process."""
    directory = tmp_path_factory.mktemp("resumed")
    for number, case in enumerate(CASES):
        fn.save(directory / f"{number}", epochs(case, start(case), range(1)))
    in_a_new_process(RESUME, str(directory))
    return directory


@every_case
def test_a_run_with_the_layer_goes_on_in_another_process(case: Case, resumed: Path) -> None:
    """Saved after an epoch of three: the bits of the run that was never stopped."""
    whole = epochs(case, start(case), range(3))
    ended = fn.load(resumed / f"{CASES.index(case)}.whole", like=whole)
    assert fn.fingerprint(ended) == fn.fingerprint(whole)
