"""The file of the compiled interpreter: what it must be built from, and how it is opened."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Final

import numpy as np

SOURCE: Final = Path(__file__).with_name("replay.c")
COMMAND: Final = "python -m funcnet.tracing.native"


def version() -> str:
    """Return what an interpreter must be built from: the source in this package and this version of NumPy."""
    text = SOURCE.read_bytes() + SOURCE.with_name("operations.h").read_bytes()
    return f"{sha256(text).hexdigest()[:16]}-numpy-{np.__version__}"


def opened(path: str) -> tuple[ModuleType | None, str]:
    """Return the interpreter in a file, or None if it does not fit, and what computes replays."""
    file = Path(path)
    reason = "was built from another version of funcnet or NumPy"
    with suppress(ImportError, OSError):
        if f"{version()}\0".encode() in file.read_bytes():  # NumPy prints errors if it is loaded into another
            reason = "cannot be loaded"
            return _module(file), "native"
    return None, f"python: {file.name} {reason}; run {COMMAND}"


def _module(path: Path) -> ModuleType:
    name = f"{__package__}.replay"
    loader = ExtensionFileLoader(name, str(path))
    spec = spec_from_loader(name, loader)
    if spec is None:
        raise ImportError(name)
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module
