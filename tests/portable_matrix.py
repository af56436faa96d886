"""The whole matrix of machines that one machine can pretend to be, for the reference run of portable arithmetic.

Run: python tests/portable_matrix.py [--here]

Each cell is a new process: a BLAS kernel family, a number of BLAS threads, a SIMD level of NumPy, the C library's own
choice of CPU features or not, and a Python with a NumPy. Each checks that its setting took effect. All must end in the
committed fingerprint; the native run's must differ in some, so that the test can see. ``--here`` stays with this
Python.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from attrs import frozen

from funcnet.contract import REFERENCE

SOURCE = Path(__file__).parent.parent
KERNELS = {"Haswell": "Haswell", "SkylakeX": "SkylakeX", "Sandybridge": "Sandybridge", "Prescott": "Katmai|Prescott"}
SIMD_NEW = {"all": "", "no AVX-512": "X86_V4 AVX512_ICL", "no AVX2": "X86_V3 X86_V4 AVX512_ICL"}
_OLD_512 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL"
SIMD_OLD = {"all": "", "no AVX-512": _OLD_512, "no AVX2": f"AVX2 FMA3 {_OLD_512}"}
TUNABLES = {"all": "", "no AVX2": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F"}
PYTHONS = (("3.11", "numpy==1.26.4"), ("3.11", "numpy==2.0.2"), ("3.11", "numpy"), ("3.13", "numpy"))

CELL = """
import json, math, os, sys
from importlib import import_module
import numpy as np
from threadpoolctl import threadpool_info
from funcnet.contract import reference_run
core = "numpy._core" if int(np.__version__.split(".")[0]) >= 2 else "numpy.core"
features = import_module(core + "._multiarray_umath").__cpu_features__
blas = next(each for each in threadpool_info() if each["user_api"] == "blas")
epochs = int(sys.argv[1])
print(json.dumps({
    "portable": reference_run("portable", epochs=epochs),
    "native": reference_run("native", epochs=2),
    "kernel": blas["architecture"],
    "threads": blas["num_threads"],
    "avx2": bool(features.get("X86_V3", features.get("AVX2"))),
    "avx512": bool(features.get("X86_V4", features.get("AVX512_SKX"))),
    "libm": [f(i / 1000).hex() for f in (math.exp, math.cos, math.tanh) for i in range(1, 3000)],
    "numpy": np.__version__,
}))
"""


@frozen
class Cell:
    """One pretended machine."""

    kernel: str
    threads: int
    simd: str
    libm: str

    def environment(self, *, old_names: bool) -> dict[str, str]:
        """The variables that make it."""
        simd = (SIMD_OLD if old_names else SIMD_NEW)[self.simd]
        settings = {"OPENBLAS_CORETYPE": self.kernel, "OPENBLAS_NUM_THREADS": str(self.threads)}
        settings |= {"NPY_DISABLE_CPU_FEATURES": simd} if simd else {}
        return settings | ({"GLIBC_TUNABLES": TUNABLES[self.libm]} if TUNABLES[self.libm] else {})


def cpu_has(feature: str) -> bool:
    """Whether this CPU has a feature, by the name that Linux gives it."""
    return f" {feature} " in Path("/proc/cpuinfo").read_text()


def cells() -> Iterator[Cell]:
    """Every cell that this CPU can pretend to be."""
    kernels = [kernel for kernel in KERNELS if kernel != "SkylakeX" or cpu_has("avx512f")]
    simds = [simd for simd in SIMD_NEW if simd != "no AVX-512" or cpu_has("avx512f")]
    return (Cell(*values) for values in product(kernels, (1, 2), simds, TUNABLES))


def has_old_names(python: Path) -> bool:
    """Whether an interpreter's NumPy has the names of CPU features that it had before 2.4."""
    program = "import numpy; print(numpy.__version__)"
    version = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) < (2, 4)


def run_cell(python: Path, cell: Cell, *, old_names: bool = False, epochs: int = 15) -> dict[str, object]:
    """What a cell says, once its settings have been seen to be in effect."""
    names = {
        "OPENBLAS_CORETYPE",
        "OPENBLAS_NUM_THREADS",
        "NPY_DISABLE_CPU_FEATURES",
        "GLIBC_TUNABLES",
        "OMP_NUM_THREADS",
    }
    environment = {key: value for key, value in os.environ.items() if key not in names}
    environment |= cell.environment(old_names=old_names) | {"PYTHONPATH": str(SOURCE), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [python, "-c", CELL, str(epochs)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{cell}: {done.stderr}")
    said: dict[str, object] = json.loads(done.stdout)
    check_effect(cell, said)
    return said


def check_effect(cell: Cell, said: dict[str, object]) -> None:
    """A setting without effect makes the cell worthless: say so."""
    wrong = [
        said["kernel"] not in KERNELS[cell.kernel].split("|"),
        said["threads"] != min(cell.threads, os.cpu_count() or 1),
        cell.simd != "all" and said["avx512"],
        cell.simd == "no AVX2" and said["avx2"],
    ]
    if any(wrong):
        shown = {key: said[key] for key in ("kernel", "threads", "avx2", "avx512", "numpy")}
        raise RuntimeError(f"{cell}: the settings took no effect, it says {shown}")


def interpreters(directory: Path) -> Iterator[tuple[str, Path]]:
    """A fresh environment for each Python and NumPy that is found."""
    for version, numpy in PYTHONS:
        candidates = [
            shutil.which(f"python{version}"),
            *map(str, Path.home().glob(f".pyenv/versions/{version}*/bin/python")),
        ]
        working = (
            each for each in candidates if each and not subprocess.call([each, "-c", ""], stderr=subprocess.DEVNULL)
        )
        base = next(working, None)
        if base is None:
            print(f"Python {version} was not found; {numpy} on it not tried")
            continue
        home = directory / f"{version}-{numpy}"
        subprocess.run([base, "-m", "venv", home], check=True)
        install = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", numpy, "attrs", "threadpoolctl"]
        subprocess.run(install, check=True)
        yield f"Python {version}, {numpy}", home / "bin" / "python"


def run_all(name: str, python: Path, libm: dict[str, set[str]]) -> set[object]:
    """Every cell of one interpreter: the native fingerprints; raises at the first portable one that differs."""
    native: set[object] = set()
    count, old_names = 0, has_old_names(python)
    for cell in cells():
        said = run_cell(python, cell, old_names=old_names)
        if said["portable"] != REFERENCE:
            raise RuntimeError(f"{name}, {cell}: portable arithmetic differs: {said['portable']}")
        libm.setdefault(cell.libm, set()).add(json.dumps(said["libm"]))
        native.add(said["native"])
        count += 1
        print(f"\r{name}: {count} cells", end="", flush=True)
    print(f"\r{name}: {count} cells, one portable fingerprint, {len(native)} native ones")
    return native


def main() -> int:
    """Run the matrix."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--here", action="store_true", help="this Python and NumPy only")
    native: set[object] = set()
    libm: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory() as directory:
        here = [("this Python", Path(sys.executable))]
        for name, python in here if parser.parse_args().here else interpreters(Path(directory)):
            native |= run_all(name, python, libm)
    if len(native) < 2 or libm["all"] == libm["no AVX2"]:
        raise RuntimeError("no setting changed native arithmetic or the C library: the matrix cannot see")
    print(f"Every cell: {REFERENCE}; native arithmetic has {len(native)} results")
    return 0


if __name__ == "__main__":
    sys.exit(main())
