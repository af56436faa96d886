"""The facts about the machine that affect the figures: processor, threads, NumPy, and the kernels of its BLAS."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np


def processor() -> str:
    """Return the processor's name."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def blas() -> str:
    """Return the kernels of NumPy's BLAS, which only threadpoolctl can tell."""
    if find_spec("threadpoolctl") is None:
        return "unknown (threadpoolctl is not installed)"
    from threadpoolctl import threadpool_info  # noqa: PLC0415  # may be missing

    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    found = [pool for pool in found if "numpy" in pool["filepath"]] or found  # SciPy has a separate BLAS
    kernels = {f"{pool['internal_api']} {pool['version']}, {pool.get('architecture', 'unknown')}" for pool in found}
    forced = os.environ.get("OPENBLAS_CORETYPE")
    return "; ".join(sorted(kernels)) + (f" (OPENBLAS_CORETYPE={forced})" if forced else "")


def libraries() -> dict[str, str]:
    """Return the versions of the libraries compared; missing ones are omitted."""
    versions: dict[str, str] = {}
    for name in ("torch", "jax", "scikit-learn"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def facts(threads: int) -> dict[str, str]:
    """Return the facts to print above a table."""
    return {
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "threads": str(threads),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": blas(),
        **libraries(),
    }
