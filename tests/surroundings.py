"""The surroundings of the tests: the project's folders, and the folders of the tests' own modules."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Final

import numpy as np
import pytest

TESTS: Final = Path(__file__).resolve().parent
ROOT: Final = TESTS.parent
_FOLDERS = (TESTS, *sorted({path.parent for path in TESTS.glob("*/test_*.py")}))
SEARCHED: Final = "\n".join(map(str, _FOLDERS))
"""One folder per line, for a program in a separate process: ``sys.path[:0] = SEARCHED.splitlines()``."""

FOREIGN: Final = np.dtype(np.float32).newbyteorder()
"""float32 in the byte order that this machine does not have."""

OTHER_LIBM: Final = "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F"
"""A value of ``GLIBC_TUNABLES`` that makes the C library compute as on an older processor."""

x86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the BLAS kernels that it sets are those of x86-64"
)


def _has_traps() -> bool:
    """Whether NumPy can raise an error for an overflow. WebAssembly does not report one."""
    try:
        with np.errstate(over="raise"):
            np.multiply(np.float32(3e38), np.float32(2))
    except FloatingPointError:
        return True
    return False


IS_ROOT: Final = hasattr(os, "geteuid") and os.geteuid() == 0

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can make the link of another user")
needs_permissions = pytest.mark.skipif(
    IS_ROOT or not hasattr(os, "geteuid"), reason="root may write everything, and so may all where there are no users"
)
needs_users = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the system has no users, whom permissions concern")
needs_locks = pytest.mark.skipif(
    not (find_spec("fcntl") or find_spec("msvcrt")), reason="the system has no locks of files"
)
HAS_TRAPS: Final = _has_traps()
needs_traps = pytest.mark.skipif(not HAS_TRAPS, reason="the processor has no floating-point exceptions")
needs_blas = pytest.mark.skipif(
    not np.show_config(mode="dicts")["Build Dependencies"]["blas"].get("found"), reason="NumPy has no BLAS"
)
needs_large_files = pytest.mark.skipif(sys.maxsize < 2**42, reason="a 32-bit system has no file of 4 TiB")


def meet(barrier: Barrier) -> None:
    """Wait for the other threads, for 20 seconds at most: a thread that does not start must not stop the others."""
    with suppress(BrokenBarrierError):
        barrier.wait(timeout=20)
