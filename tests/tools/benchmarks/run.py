"""The command: set the number of threads before any library loads, then run ``benchmarks.main`` in a new process.

Run: python tests/tools/benchmarks/run.py --threads 1 [--workloads W1,W4] [--rounds 7] [--against NAME]
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent


def environment(threads: int) -> dict[str, str]:
    """Return the environment in which BLAS, OpenMP and XLA start with this number of threads."""
    count = str(threads)
    variables = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NPROC")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen={str(threads > 1).lower()}"
    folders = map(str, (TOOLS, TOOLS.parent, TOOLS.parent.parent))
    paths = os.pathsep.join(filter(None, (*folders, os.environ.get("PYTHONPATH"))))
    fixed = {"XLA_FLAGS": flags.strip(), "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths}
    return os.environ | dict.fromkeys(variables, count) | fixed


def limit_processors(threads: int) -> None:
    """Restrict this process, and every thread that a library starts, to this number of processors: the last ones."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def main() -> None:
    """Read the thread count, and leave the rest to ``benchmarks.main``."""
    parser = argparse.ArgumentParser(prog="run.py", add_help=False)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_known_args()[0].threads
    if not 1 <= threads <= (os.cpu_count() or 1):
        parser.error(f"--threads must be from 1 to {os.cpu_count()}, got {threads}")
    limit_processors(threads)
    command = [sys.executable, "-P", "-m", "benchmarks.main", *sys.argv[1:]]
    os.execve(sys.executable, command, environment(threads))  # noqa: S606  # this program


if __name__ == "__main__":
    main()
