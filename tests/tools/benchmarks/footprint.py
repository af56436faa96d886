"""The footprint of a library: the time of its import in a new process, and the size of its installed files."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from benchmarks.timing import Timing


@dataclass(frozen=True)
class Library:
    """A library, the module that its users import, and the distributions that it cannot run without."""

    name: str
    module: str
    roots: tuple[str, ...]

    @property
    def installed(self) -> bool:
        """Whether the module can be imported."""
        return find_spec(self.module.partition(".")[0]) is not None


LIBRARIES: Final = (
    Library("NumPy alone", "numpy", ("numpy",)),
    Library("funcnet", "funcnet", ("numpy", "attrs")),
    Library("PyTorch", "torch", ("torch",)),
    Library("JAX", "jax", ("jax",)),
    Library("scikit-learn", "sklearn.neural_network", ("scikit-learn",)),
)


def seconds_to_import(module: str) -> float:
    """Return the time of the import alone, in a new process."""
    program = f"from time import perf_counter as now; t = now(); import {module}; print(now() - t)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(result.stdout)


def import_times(libraries: list[Library], rounds: int) -> list[Timing]:
    """Time the imports in turns, after one untimed import of each, which reads and compiles the files."""
    for library in libraries:
        seconds_to_import(library.module)
    times = [[seconds_to_import(library.module) for library in libraries] for _ in range(rounds)]
    return [Timing(column) for column in zip(*times, strict=True)]


def requirements(found: Distribution) -> list[str]:
    """Return the names of a distribution's requirements, without extras."""
    needed = [line for line in found.requires or [] if not re.search(r";.*\bextra\s*==", line)]
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in needed]


def distributions(roots: tuple[str, ...]) -> dict[str, Distribution]:
    """Return the distributions with these names and all their requirements, as far as they are installed."""
    waiting, seen = list(roots), dict[str, Distribution]()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        try:
            seen[name] = distribution(name)
        except PackageNotFoundError:  # needed only on another platform or Python
            continue
        waiting += requirements(seen[name])
    return seen


def installed_bytes(library: Library) -> int:
    """Return the size of all files, including the byte code that an install creates."""
    files = [path for found in distributions(library.roots).values() for path in found.files or []]
    paths = {Path(str(path.locate())) for path in files}
    if library.name == "funcnet":
        paths |= own_files()
    return sum(path.stat().st_size for path in paths if path.is_file())


def own_files() -> set[Path]:
    """Return funcnet's files at its import location: an editable install does not list them."""
    spec = find_spec("funcnet")
    assert spec is not None
    assert spec.origin is not None
    tag = sys.implementation.cache_tag
    found = Path(spec.origin).parent.rglob("*")
    return {path for path in found if path.suffix != ".pyc" or f".{tag}." in path.name}
