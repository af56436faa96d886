"""``python -m funcnet``: the environment, and which levels of the determinism contract hold here."""

from __future__ import annotations

import sys

import funcnet as fn


def main() -> int:
    """Print the environment and the self-test; 1 if a level fails."""
    print(fn.environment())  # noqa: T201  # it is what the command is for
    result = fn.selftest()
    print(result)  # noqa: T201
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
