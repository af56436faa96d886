"""Other machines: what a cell must show, the check of its report, and the table of the results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from subprocess import DEVNULL
from typing import Final

import bits
import crossing
from attrs import field, frozen
from machine_report import FINGERPRINTS, Report, Request

from funcnet.core.errors import FuncnetError

ROOT: Final = Path(__file__).resolve().parents[2]
PLACES: Final = (ROOT, ROOT / "tests", ROOT / "tests" / "tools")
"""What a cell has on its path, apart from NumPy and attrs."""

PROGRAM: Final = ROOT / "tests" / "tools" / "machine_report.py"

_PROGRAM: Final = re.compile(r"```python\n((?:(?!```).)*?)```\n\n```text\n([0-9a-f]{64})\n```", re.DOTALL)
HEADER: Final = """\
| machine | how | Python | NumPy | BLAS and its kernel | the guide's run | steps | hashes | differing | runs exchanged |
|---|---|---|---|---|---|---|---|---|---|"""


@frozen
class Cell:
    """Another machine, and the settings that its report must show.

    Args:
        machine: The machine's name, as Python gives it.
        how: What runs it, in words.
        byteorder: ``"little"`` or ``"big"``.
        kernel: OpenBLAS's kernel, empty for its own choice.
        threads: The number of BLAS threads.
        numpy: The version of NumPy, empty for any.
        without: Features of the processor that NumPy must not use.
        processor: qemu's name of the processor; empty for the one with all features, where the kernel and the features
            are set by environment variables.
        epochs: The number of epochs of the reference run: 2 or 15.
        subjects: The subjects of the hashes that are compared.
        hidden: Whether the number of threads cannot be seen, as in WebAssembly, where NumPy has no BLAS. Elsewhere, a
            setting that is not seen counts as one without effect.
    """

    machine: str
    how: str = field(default="qemu", kw_only=True)
    byteorder: str = field(default="little", kw_only=True)
    kernel: str = field(default="", kw_only=True)
    threads: int = field(default=1, kw_only=True)
    numpy: str = field(default="", kw_only=True)
    without: tuple[str, ...] = field(default=(), kw_only=True)
    processor: str = field(default="", kw_only=True)
    epochs: int = field(default=2, kw_only=True)
    subjects: tuple[str, ...] = field(default=tuple(bits.SUBJECTS), kw_only=True)
    hidden: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        settings = [self.kernel, f"NumPy {self.numpy}" if self.numpy else ""]
        settings += [f"{self.threads} threads" if self.threads > 1 else ""]
        settings += [self.processor, f"without {' '.join(self.without)}" if self.without else ""]
        return ", ".join(filter(None, (self.machine, *settings)))


Trial = tuple[Cell, Callable[[Request], Report]]
"""A cell, and the function that runs it."""


# ------------------------------------------------------------------------------------------------ what must hold


def faults(cell: Cell, report: Report, here: Report) -> list[str]:
    """Return what is wrong with a cell's report: bits that differ, or a setting without effect. Empty if all holds.

    Args:
        cell: The machine and the settings.
        report: The cell's report.
        here: The report of this machine, whose native bits must differ from the cell's.
    """
    return [*_without_effect(cell, report), *_other_bits(cell, report, here)]


def _without_effect(cell: Cell, report: Report) -> list[str]:
    blas, features = report["blas"].lower().split(), report["simd"].split()
    shown = {
        "machine": (cell.machine, report["machine"]),
        "byte order": (cell.byteorder, report["byteorder"]),
        "kernel": (cell.kernel, cell.kernel if cell.kernel.lower() in ["", *blas] else report["blas"]),
        "NumPy": (cell.numpy, cell.numpy and report["numpy"]),
        "threads": ("not checked" if cell.hidden else str(cell.threads), report["threads"]),
        "without": ("", " ".join(name for name in cell.without if name in features)),
    }
    if cell.without and report["simd"] == "not checked":
        shown["without"] = ("", "not checked")
    return [f"no effect: {name} {wanted!r}, got {got!r}" for name, (wanted, got) in shown.items() if wanted != got]


def _other_bits(cell: Cell, report: Report, here: Report) -> list[str]:
    runs = {
        "the guide's run": (report["guide"], guide()[1]),
        f"{20 * cell.epochs} steps": (report["portable"], FINGERPRINTS[cell.epochs]),
        "the resumed run": (report["crossed"], here["crossed"]),
    }
    found = [
        f"other bits: {name} ends in {got}, not in {wanted}" for name, (got, wanted) in runs.items() if got != wanted
    ]
    found += [f"other bits: {name}" for name in report["differing"]]
    if not report["hashes"]:
        found += ["no hash was compared"]
    if report["native"] == here["native"]:
        found += ["native bits are equal to this machine's: the cell cannot see a difference"]
    return found


@cache
def guide() -> tuple[str, str]:
    """Return the program of the guides or the README that prints one fingerprint, and the fingerprint in the text."""
    pages = [ROOT / "README.md", *sorted((ROOT / "examples" / "guides").glob("*.md"))]
    found = {match for page in pages for match in _PROGRAM.findall(page.read_text(encoding="utf-8"))}
    if len(found) != 1:
        raise RuntimeError(f"one program of the guides must print one fingerprint, found {len(found)}")
    program, fingerprint = found.pop()
    return program, fingerprint


# ------------------------------------------------------------------------------------------------ how it is run


def this_machine(folder: Path) -> Report:
    """Return the report of this machine, which the cells are compared with.

    Args:
        folder: Where the runs are kept.
    """
    return _crossed(Cell("this machine"), local, folder)[0]


def attempt(trial: Trial, this: Report, folder: Path) -> tuple[str, list[str]]:
    """Run a cell, and return its row of the table and what is wrong with it.

    Args:
        trial: The cell, and the function that runs it.
        this: The report of this machine.
        folder: Where the runs are kept.

    Raises:
        NotTriedError: If the cell's packages or programs are not available.
    """
    cell, compute = trial
    try:
        report, found = _crossed(cell, compute, folder)
    except (RuntimeError, OSError) as error:
        return f"| {cell} |", [str(error)]
    crossed = not found and report["crossed"] == this["crossed"]
    return row(cell, report, crossed=crossed), [*faults(cell, report, this), *found]


def _crossed(cell: Cell, compute: Callable[[Request], Report], folder: Path) -> tuple[Report, list[str]]:
    """Run a cell, which resumes a run written here; recheck that run here, and resume the one that the cell wrote."""
    received, sent = Path(tempfile.mkdtemp(dir=folder)), Path(tempfile.mkdtemp(dir=folder))
    crossing.write(received)
    report = compute(
        Request(
            program=guide()[0],
            epochs=cell.epochs,
            subjects=list(cell.subjects),
            received=str(received),
            sent=str(sent),
        )
    )
    try:
        crossing.recheck(received)
        back = crossing.resume(sent)
    except (RuntimeError, OSError, FuncnetError) as error:
        back = str(error)
    wrong = f"other bits: the run that comes back ends in {back}, not in {report['crossed']}"
    return report, [] if back == report["crossed"] else [wrong]


def local(request: Request) -> Report:
    """Compute a report in a process of this Python, with one BLAS thread."""
    path = os.pathsep.join(map(str, PLACES))
    return read([sys.executable, str(PROGRAM)], request, os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"})


def read(command: Sequence[str], request: Request, environment: Mapping[str, str]) -> Report:
    """Return the report that a command prints for a request, its last argument.

    Raises:
        RuntimeError: If the command fails, or the last line of its output is not a report.
    """
    done = subprocess.run(
        [*command, json.dumps(request)], env=environment, capture_output=True, text=True, check=False, stdin=DEVNULL
    )
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "without a message").splitlines()
        raise RuntimeError(f"the program fails ({done.returncode}): {lines[-1]:.300}")
    last = (done.stdout.splitlines() or [""])[-1]
    try:
        report: Report = json.loads(last)
    except ValueError:
        raise RuntimeError(f"the program must print a report, got {last!r:.80}") from None
    if not isinstance(report, dict) or report.keys() != Report.__annotations__.keys():
        raise RuntimeError(f"the program must print a report, got {last!r:.80}")
    return report


def row(cell: Cell, report: Report, *, crossed: bool) -> str:
    """Return the row of a cell in the table."""
    columns = (
        str(cell),
        cell.how,
        report["python"],
        report["numpy"],
        report["blas"],
        report["guide"][:8],
        f"{20 * cell.epochs}: {report['portable'][:8]}",
        str(report["hashes"]),
        str(len(report["differing"])),
        "both ways" if crossed else "no",
    )
    return f"| {' | '.join(columns)} |"
