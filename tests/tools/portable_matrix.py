"""Run the reference runs of portable arithmetic on every kind of machine that this machine can imitate.

Run: python tests/tools/portable_matrix.py [--here]
     python tests/tools/portable_matrix.py [--emulate aarch64 riscv64 s390x ppc64le] [--wasm] [--quick | --all]
                                           [--folder FOLDER] [--required]

Without ``--emulate`` and ``--wasm``, each cell is a new process: a BLAS kernel family, a number of BLAS threads, a SIMD
level of NumPy, the C library with or without its own choice of CPU features, and a Python with a NumPy. Each cell
checks that its settings took effect. All must end with the committed fingerprints, of synthetic data, of a language
model's text and, where ``FUNCNET_DATA`` has it, of MNIST, and must have all hashes of ``tests/bits.json``.
Native runs must differ between the cells of each Python, which shows that the matrix can detect differences. A cell
that cannot run here is reported with the reason. ``--here`` uses only this Python.

``--emulate`` runs other processors under qemu, and ``--wasm`` runs WebAssembly under node. Each cell trains the guide's
example and the reference run, compares every hash of ``tests/bits.json``, and resumes a run that this machine wrote;
this machine resumes the cell's. The cell must show its settings, and its native bits must differ from those of this
machine. The packages come from Debian and PyPI into a temporary folder, or into ``--folder`` for the next time; nothing
is installed. Where they are not available, the command says "not tried" with the reason, which is a failure only with
``--required``. Debian testing has the packages of all processors but aarch64. For any other program,
``PYTHONPATH=FOLDER/aarch64/numpy FOLDER/aarch64/python`` is the emulated interpreter.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TypedDict

import emulated
import machines
import mnist_run
import text_run
import wasm
from attrs import frozen
from machines import Trial
from packages import NotTriedError

from funcnet.runs.selftest import REFERENCE

SOURCE = Path(__file__).parent.parent.parent
KERNELS = {"Haswell": "Haswell", "SkylakeX": "SkylakeX", "Sandybridge": "Sandybridge", "Prescott": "Katmai|Prescott"}
NEEDS = {"Haswell": "avx2", "SkylakeX": "avx512vl", "Sandybridge": "avx", "Prescott": "sse3|pni"}
SIMD_NEW = {"all": "", "no AVX-512": "X86_V4 AVX512_ICL", "no AVX2": "X86_V3 X86_V4 AVX512_ICL"}
_OLD_512 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL"
SIMD_OLD = {"all": "", "no AVX-512": _OLD_512, "no AVX2": f"AVX2 FMA3 {_OLD_512}"}
TUNABLES = {"all": "", "no AVX2": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F"}
PYTHONS = (("3.11", "numpy==1.26.4"), ("3.11", "numpy==2.0.2"), ("3.11", "numpy"), ("3.13", "numpy"))
VARIABLES = frozenset({
    *("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"),
    *("OPENBLAS_DEFAULT_NUM_THREADS", "NPY_DISABLE_CPU_FEATURES", "GLIBC_TUNABLES", "PYTHONPATH"),
})  # fmt: skip

CELL = """
import hashlib, json, math, sys
from importlib import import_module
import bits
import numpy as np
from threadpoolctl import threadpool_info
from funcnet.runs.selftest import reference_run
import mnist_run
import text_run
core = "numpy._core" if int(np.__version__.split(".")[0]) >= 2 else "numpy.core"
features = import_module(core + "._multiarray_umath").__cpu_features__
blas = next(each for each in threadpool_info() if each["user_api"] == "blas")
home = mnist_run.directory()
libm = [f(i / 1000).hex() for f in (math.exp, math.cos, math.tanh) for i in range(1, 3000)]
print(json.dumps({
    "portable": reference_run("portable", epochs=int(sys.argv[1])),
    "text": text_run.text_run()[0],
    "mnist": home and mnist_run.mnist_run(home)[0],
    "native": reference_run("native", epochs=2),
    "differing": bits.differing(bits.bits()) if int(sys.argv[2]) else [],
    "kernel": blas["architecture"],
    "threads": blas["num_threads"],
    "avx2": bool(features.get("X86_V3", features.get("AVX2"))),
    "avx512": bool(features.get("X86_V4", features.get("AVX512_SKX"))),
    "libm": hashlib.sha256(" ".join(libm).encode()).hexdigest(),
    "numpy": np.__version__,
}))
"""


class Said(TypedDict):
    """The output of a cell's process: fingerprints, and the settings in force."""

    portable: str
    text: str
    mnist: str | None
    native: str
    differing: list[str]
    kernel: str
    threads: int
    avx2: bool
    avx512: bool
    libm: str
    numpy: str


@frozen
class Cell:
    """One imitated machine."""

    kernel: str
    threads: int
    simd: str
    libm: str

    def environment(self, *, old_names: bool) -> dict[str, str]:
        """Return the environment variables that imitate it."""
        simd = (SIMD_OLD if old_names else SIMD_NEW)[self.simd]
        settings = {"OPENBLAS_CORETYPE": self.kernel, "OPENBLAS_NUM_THREADS": str(self.threads)}
        settings |= {"NPY_DISABLE_CPU_FEATURES": simd} if simd else {}
        return settings | ({"GLIBC_TUNABLES": TUNABLES[self.libm]} if TUNABLES[self.libm] else {})

    def missing(self) -> str:
        """The reason why this machine cannot imitate that one; empty if it can."""
        needed = [NEEDS[self.kernel]]
        needed += ["avx512vl"] if self.simd == "no AVX-512" else []
        needed += ["avx2"] if "no AVX2" in (self.simd, self.libm) else []
        for feature in needed:
            if not any(map(cpu_has, feature.split("|"))):
                return f"the processor has no {feature}"
        return "" if self.threads <= processors() else f"{self.threads} threads need as many processors"


def cpu_has(feature: str) -> bool:
    """Whether this CPU has a feature, by its Linux name."""
    return feature in Path("/proc/cpuinfo").read_text().split()


def processors() -> int:
    """Return the number of processors available to this process, which is the maximum number of BLAS threads."""
    return len(os.sched_getaffinity(0))


def cells() -> list[Cell]:
    """Return all cells of one Python, the simplest ones first."""
    return [Cell(*values) for values in product(KERNELS, (1, 2), SIMD_NEW, TUNABLES)]


def has_old_names(python: Path) -> bool:
    """Whether an interpreter's NumPy uses the names of CPU features from before NumPy 2.4."""
    program = "import numpy; print(numpy.__version__)"
    version = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) < (2, 4)


def run_program(python: Path, program: str, cell: Cell, *arguments: str, old_names: bool = False) -> str:
    """Return the output of a program in a cell.

    Raises:
        RuntimeError: If the program fails.
    """
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    path = os.pathsep.join((str(SOURCE), str(SOURCE / "tests"), str(SOURCE / "tests" / "tools")))
    environment |= cell.environment(old_names=old_names) | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    command = [str(python), "-c", program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{cell}: {done.stderr}")
    return done.stdout


def run_cell(python: Path, cell: Cell, *, old_names: bool = False, epochs: int = 15, hashes: bool = False) -> Said:
    """Return the output of a cell, with or without a comparison of all hashes."""
    said: Said = json.loads(run_program(python, CELL, cell, str(epochs), str(int(hashes)), old_names=old_names))
    return said


def check_effect(cell: Cell, said: Said, plain_libm: str) -> None:
    """Check that the cell's settings took effect: without effect, the cell proves nothing.

    Args:
        cell: The settings.
        said: The output of the cell's process.
        plain_libm: The C library's choice for this Python without settings.

    Raises:
        RuntimeError: If a setting had no effect.
    """
    wrong = {
        "kernel": said["kernel"] not in KERNELS[cell.kernel].split("|"),
        "threads": said["threads"] != cell.threads,
        "avx512": said["avx512"] != (cell.simd == "all" and cpu_has("avx512vl")),
        "avx2": said["avx2"] != (cell.simd != "no AVX2" and cpu_has("avx2")),
        "libm": (said["libm"] == plain_libm) != (cell.libm == "all"),
    }
    if any(wrong.values()):
        names = ", ".join(name for name, is_wrong in wrong.items() if is_wrong)
        raise RuntimeError(f"{cell}: a setting took no effect ({names}); it says {said}")


def interpreters(directory: Path) -> Iterator[tuple[str, Path | None]]:
    """Create a fresh environment for each Python and NumPy; None for a Python that is not found."""
    for version, numpy in PYTHONS:
        candidates = [
            shutil.which(f"python{version}"),
            *map(str, Path.home().glob(f".pyenv/versions/{version}*/bin/python")),
        ]
        working = (
            each for each in candidates if each and not subprocess.call([each, "-c", ""], stderr=subprocess.DEVNULL)
        )
        base = next(working, None)
        home = directory / f"{version}-{numpy}"
        if base is not None:
            subprocess.run([base, "-m", "venv", home], check=True)
            install = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", numpy, "attrs", "threadpoolctl"]
            subprocess.run(install, check=True)
        yield f"Python {version}, {numpy}", None if base is None else home / "bin" / "python"


def check_bits(name: str, cell: Cell, said: Said) -> None:
    """Check that the portable runs have the committed fingerprints, and that no compared hash differs.

    Raises:
        RuntimeError: If one of them differs.
    """
    wanted = {"portable": REFERENCE, "text": text_run.REFERENCE, "mnist": mnist_run.REFERENCE}
    got = {"portable": said["portable"], "text": said["text"], "mnist": said["mnist"] or wanted["mnist"]}
    if got != wanted:
        raise RuntimeError(f"{name}, {cell}: portable arithmetic differs: {got} instead of {wanted}")
    if said["differing"]:
        raise RuntimeError(f"{name}, {cell}: portable arithmetic differs: {', '.join(said['differing'])}")


def run_all(name: str, python: Path) -> tuple[int, set[str], Counter[str]]:
    """Run every cell of one interpreter; return the number that ran, native fingerprints, and reasons for skipping.

    Raises:
        RuntimeError: At the first portable run that differs, at the first setting without effect, or if all native
            fingerprints are equal.
    """
    native: set[str] = set()
    unrun: Counter[str] = Counter()
    count, old_names, plain_libm, said = 0, has_old_names(python), "", None
    for cell in cells():
        reason = cell.missing()
        if reason:
            unrun[reason] += 1
            continue
        said = run_cell(python, cell, old_names=old_names, hashes=True)
        plain_libm = plain_libm or said["libm"]
        check_effect(cell, said, plain_libm)
        check_bits(name, cell, said)
        native.add(said["native"])
        count += 1
        print(f"\r{name}: {count} cells", end="", flush=True)
    numpy = said["numpy"] if said else "none"
    print(f"\r{name} (NumPy {numpy}): {count} cells, one portable fingerprint, {len(native)} native ones")
    for reason, cells_without in unrun.items():
        print(f"{name}: {cells_without} cells cannot run here: {reason}")
    if len(native) < 2:
        raise RuntimeError(f"{name}: no setting changed native arithmetic: the matrix cannot see")
    return count, native, unrun


def imitated(*, here: bool) -> int:
    """Run the cells that this machine imitates, of this Python alone or of all; return 1 if part could not run."""
    total, native, unrun = 0, set[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as directory:
        this = [("this Python", Path(sys.executable))]
        for name, python in this if here else interpreters(Path(directory)):
            if python is None:
                unrun[f"{name} was not found"] += len(cells())
                continue
            count, fingerprints, without = run_all(name, python)
            total, native, unrun = total + count, native | fingerprints, unrun + without
    print(f"{total} cells: portable arithmetic has one result, native arithmetic {len(native)}")
    print(f"synthetic data: {REFERENCE}")
    print(f"text: {text_run.REFERENCE}")
    print(f"MNIST: {mnist_run.REFERENCE if mnist_run.directory() else 'not run, FUNCNET_DATA has no mnist directory'}")
    for reason, cells_without in unrun.items():
        print(f"not run: {cells_without} cells, {reason}")
    return 1 if unrun else 0


def other_machines(sets: dict[str, Iterator[Trial]], folder: Path, *, required: bool = False) -> int:
    """Run cells of other machines and print their table; return 1 if one fails.

    Args:
        sets: The cells by the name of the machine.
        folder: Where the cells keep their runs.
        required: Whether a machine that cannot be tried is a failure, too.
    """
    this, bad = machines.this_machine(folder), 0
    print(machines.HEADER)
    print(machines.row(machines.Cell(this["machine"], how="this machine"), this, crossed=True), flush=True)
    for name, trials in sets.items():
        begin = time.monotonic(), _used()
        try:
            for trial in trials:
                text, faults = machines.attempt(trial, this, folder)
                print("\n    ".join((text, *faults)), flush=True)
                bad += bool(faults)
        except NotTriedError as error:
            print(f"not tried: {name}: {error}", flush=True)
            bad += required
        except (OSError, RuntimeError) as error:
            print(f"fails: {name}: {error}", flush=True)
            bad += 1
        now = time.monotonic(), _used()
        print(
            f"{name}: {now[0] - begin[0]:.0f} s, {now[1] - begin[1]:.0f} s of processor time",
            file=sys.stderr,
            flush=True,
        )
    return 1 if bad else 0


def _used() -> float:
    """Return the processor time of the child processes, in seconds."""
    times = os.times()
    return times.children_user + times.children_system


def arguments() -> argparse.Namespace:
    """Return the arguments of the command, and refuse combinations without effect before anything runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--here", action="store_true", help="this Python and NumPy only")
    parser.add_argument("--emulate", nargs="+", choices=emulated.ARCHITECTURES, default=[], help="other processors")
    parser.add_argument("--wasm", action="store_true", help="WebAssembly")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="one cell of each, with 40 steps")
    extent.add_argument("--all", action="store_true", help="all kernels and processors, and 300 steps")
    parser.add_argument("--folder", type=Path, help="keep the packages in this folder, and use those that it has")
    parser.add_argument("--required", action="store_true", help="fail if a machine cannot be tried")
    settings = parser.parse_args()
    others = settings.emulate or settings.wasm
    if others and settings.here:
        parser.error("--here does not go with --emulate or --wasm")
    for name in ("quick", "all", "folder", "required"):
        if getattr(settings, name) and not others:
            parser.error(f"--{name} needs --emulate or --wasm")
    if settings.folder and settings.folder.exists() and not settings.folder.is_dir():
        parser.error(f"--folder must be a folder, got the file {settings.folder}")
    return settings


def main() -> int:
    """Run the command; return 1 if a cell fails, or if an imitated one could not run."""
    settings = arguments()
    if not settings.emulate and not settings.wasm:
        return imitated(here=settings.here)
    with tempfile.TemporaryDirectory() as temporary:
        kept = (settings.folder or Path(temporary)).absolute()
        sets = {
            name: emulated.trials(name, kept, quick=settings.quick, everything=settings.all)
            for name in settings.emulate
        }
        sets |= {"wasm32": wasm.trials(kept, quick=settings.quick)} if settings.wasm else {}
        return other_machines(sets, Path(temporary), required=settings.required)


if __name__ == "__main__":
    sys.exit(main())
