"""``python -m funcnet``: print the environment and the levels of the determinism contract that hold in it."""

from __future__ import annotations

import sys

import funcnet as fn


def main() -> int:
    """Print the environment and the self-test. Return 1 if a level fails, or else 0."""
    here = fn.environment()
    print(f"funcnet {here.funcnet}: {here.python}, NumPy {here.numpy}, attrs {here.attrs}, {here.platform}")  # noqa: T201  # the output of the command
    print(f"BLAS {here.blas}, threads {here.blas_threads}; SIMD {here.simd}\n")  # noqa: T201
    result = fn.selftest()
    print(result)  # noqa: T201
    print('\nConditions: "Reproducibility" in the README; details: examples/guides/reproducibility.md.')  # noqa: T201
    print("D5 tried one run. In a clone, python tests/tools/bits.py compares every function with its committed hash.")  # noqa: T201
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
