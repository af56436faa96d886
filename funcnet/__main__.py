"""``python -m funcnet``: the environment, and which levels of the determinism contract hold here."""

from __future__ import annotations

import sys

import funcnet as fn


def main() -> int:
    """Print the environment and the self-test; 1 if a level fails."""
    here = fn.environment()
    print(f"funcnet {here.funcnet}: {here.python}, NumPy {here.numpy}, attrs {here.attrs}, {here.platform}")  # noqa: T201  # it is what the command is for
    print(f"BLAS {here.blas}, threads {here.blas_threads}; SIMD {here.simd}\n")  # noqa: T201
    result = fn.selftest()
    print(result)  # noqa: T201
    print('\nConditions and what is not promised: "The same bits" in the README.')  # noqa: T201
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
