"""Cells of other processors: qemu runs their Python, from Debian, with their NumPy, from PyPI or from Debian."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from attrs import evolve, frozen
from machine_report import Report, Request
from machines import PLACES, PROGRAM, Cell, Trial, read
from packages import debian, emulators, wheels

_TAGS: Final = tuple(
    part for tag in ("_2_28", "_2_27", "_2_17", "2014") for part in ("--platform", f"manylinux{tag}_aarch64")
)


@frozen
class Architecture:
    """A processor's architecture: Debian's names of it, and the release that has its packages."""

    debian: str
    triplet: str
    suite: str
    byteorder: str = "little"


ARCHITECTURES: Final = {
    "aarch64": Architecture("arm64", "aarch64-linux-gnu", "bookworm"),
    "riscv64": Architecture("riscv64", "riscv64-linux-gnu", "testing"),
    "s390x": Architecture("s390x", "s390x-linux-gnu", "testing", "big"),
    "ppc64le": Architecture("ppc64el", "powerpc64le-linux-gnu", "testing"),
}
_SUBJECTS: Final = ("functions", "scalars", "products")
"""What depends on the kernels of BLAS and NumPy most directly."""

_PLAIN: Final = ("ASIMDHP", "ASIMDDP", "ASIMDFHM", "SVE")
_KERNELS: Final = (
    *("CORTEXA53", "CORTEXA57", "THUNDERX", "THUNDERX2T99", "THUNDERX3T110", "TSV110", "EMAG8180"),
    *("NEOVERSEN1", "NEOVERSEN2", "A64FX", "ARMV8SVE"),
)


def cells(name: str, *, quick: bool = False, everything: bool = False) -> list[Cell]:
    """Return the cells of an architecture: the first one, the usual ones, or all.

    The usual ones take three processor minutes: only the first compares all hashes.

    Args:
        name: The architecture.
        quick: The first cell alone.
        everything: More BLAS kernels, older processors, NumPy without its SIMD loops, two threads, 300 steps, and all
            hashes in each cell.
    """
    if name != "aarch64":
        return [Cell(name, byteorder=ARCHITECTURES[name].byteorder, epochs=15 if everything else 2)]
    first, *others = [Cell(name, kernel=kernel) for kernel in ("NEOVERSEV1", "ARMV8", "ARMV9SME")]
    others += [Cell(name, numpy="1.26.4")]
    if not everything:
        return [first, *(evolve(cell, subjects=_SUBJECTS) for cell in others)][: 1 if quick else None]
    return [
        *(first, *others),
        Cell(name, kernel="ARMV9SME", epochs=15),
        Cell(name, kernel="NEOVERSEV1", threads=2),
        Cell(name, kernel="ARMV8", without=_PLAIN),
        Cell(name, kernel="CORTEXA57", processor="cortex-a57", without=_PLAIN),
        *(Cell(name, kernel=kernel) for kernel in _KERNELS),
    ]


def trials(name: str, folder: Path, *, quick: bool = False, everything: bool = False) -> Iterator[Trial]:
    """Yield the cells of an architecture with the function that runs each; the packages are downloaded at the first.

    Args:
        name: The architecture.
        folder: Where packages are kept.
        quick: See ``cells``.
        everything: See ``cells``.

    Raises:
        NotTriedError: If the packages are not available.
    """
    for cell in cells(name, quick=quick, everything=everything):
        python, path = interpreter(name, folder, cell.numpy)
        yield cell, partial(_report, cell, python, path)


def interpreter(name: str, folder: Path, numpy: str = "") -> tuple[Path, Path]:
    """Return a command that is an architecture's Python, and the folder with its NumPy, attrs and threadpoolctl.

    Args:
        name: The architecture.
        folder: Where packages are kept.
        numpy: The version of NumPy; empty for the newest on PyPI, or for Debian's.

    Raises:
        NotTriedError: If the packages are not available.
    """
    known, home = ARCHITECTURES[name], folder / name
    qemu = emulators(folder / "qemu") / f"qemu-{name}-static"
    if name == "aarch64":
        root = debian(home / "root", known.debian, known.suite, "python3", "libstdc++6")
    else:
        root = debian(home / "root", known.debian, known.suite, "python3-numpy", "libopenblas0-pthread")
    python = max((root / "usr" / "bin").glob("python3.*[0-9]"), key=lambda path: int(path.name.split(".")[1]))
    command = home / "python"
    command.write_text(_COMMAND.format(*map(shlex.quote, map(str, (root / "usr", home / "hook", qemu, root, python)))))
    command.chmod(0o755)
    (home / "hook").mkdir(exist_ok=True)
    (home / "hook" / "sitecustomize.py").write_text(
        f"import sys\nsys.executable = {str(command)!r}  # for processes that a program starts\n"
    )
    if name != "aarch64":
        return command, wheels(home / "pure", (), "attrs", "threadpoolctl")
    version = ("--implementation", "cp", "--python-version", python.name.removeprefix("python"))
    wanted = f"numpy=={numpy}" if numpy else "numpy"
    return command, wheels(home / f"numpy{numpy}", (*_TAGS, *version), wanted, "attrs", "threadpoolctl")


_COMMAND: Final = """\
#!/bin/sh
exec env PYTHONHOME={} PYTHONPATH={}"${{PYTHONPATH:+:$PYTHONPATH}}" {} -L {} {} "$@"
"""


def _report(cell: Cell, python: Path, packages: Path, request: Request) -> Report:
    """Run the request in a cell."""
    known = ARCHITECTURES[cell.machine]
    modules = python.parent / "root" / "usr" / "lib" / "python3" / "dist-packages"
    settings = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (packages, *PLACES, modules))),
        "OPENBLAS_NUM_THREADS": str(cell.threads),
        "LD_LIBRARY_PATH": f"/usr/lib/{known.triplet}/openblas-pthread",
    }
    if cell.processor:
        return read([str(python), str(PROGRAM)], request, settings | {"QEMU_CPU": cell.processor})
    settings |= {"OPENBLAS_CORETYPE": cell.kernel} if cell.kernel else {}
    settings |= {"NPY_DISABLE_CPU_FEATURES": " ".join(cell.without)} if cell.without else {}
    return read([str(python), str(PROGRAM)], request, settings)
