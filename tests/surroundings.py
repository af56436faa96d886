"""The surroundings of the tests: the project's folders, and the folders of the tests' own modules."""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Final

import pytest

TESTS: Final = Path(__file__).resolve().parent
ROOT: Final = TESTS.parent
_FOLDERS = (TESTS, *sorted({path.parent for path in TESTS.glob("*/test_*.py")}))
SEARCHED: Final = "\n".join(map(str, _FOLDERS))
"""One folder per line, for a program in a separate process: ``sys.path[:0] = SEARCHED.splitlines()``."""

OTHER_LIBM: Final = "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F"
"""A value of ``GLIBC_TUNABLES`` that makes the C library compute as on an older processor."""

x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="portable means x86-64")


def meet(barrier: Barrier) -> None:
    """Wait for the other threads, for 20 seconds at most: a thread that does not start must not stop the others."""
    with suppress(BrokenBarrierError):
        barrier.wait(timeout=20)
