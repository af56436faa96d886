"""Compare the bits of everything that portable arithmetic computes with the hashes in ``tests/bits.json``.

Run: python tests/tools/bits.py [--write | --native]

The command prints each computation whose bits differ from those in the file. ``--write`` regenerates the file: its
diff is part of a change of bits, which needs a new minor version and a line in ``CHANGELOG.md``. ``--native`` computes
in native arithmetic, whose bits must differ: that shows that the hashes can detect a difference. The command needs
NumPy and attrs alone, and starts no thread and no process.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import numpy as np

TESTS: Final = Path(__file__).parent.parent
FILE: Final = TESTS / "bits.json"
sys.path[:0] = [str(TESTS.parent), str(TESTS)]  # this checkout, even if another funcnet is installed

import bits_arithmetic  # noqa: E402
import bits_networks  # noqa: E402
import bits_training  # noqa: E402
from bits_data import Hashes  # noqa: E402

from funcnet.arithmetic import Name, using  # noqa: E402

SUBJECTS: Final[dict[str, Callable[[], Hashes]]] = {
    "draws": bits_arithmetic.draws,
    "initializers": bits_arithmetic.initializers,
    "functions": bits_arithmetic.functions,
    "scalars": bits_arithmetic.scalars,
    "products": bits_arithmetic.products,
    "sums": bits_arithmetic.sums,
    "layers": bits_networks.layers,
    "losses": bits_networks.losses,
    "optimizers": bits_training.optimizers,
    "schedules": bits_training.schedules,
    "data": bits_training.data,
    "metrics": bits_training.metrics,
    "runs": bits_training.runs,
}
"""The computations of each subject, in the order of the file: a later subject uses the earlier ones."""


COMMAND: Final = "python tests/tools/bits.py --write"
MEANING: Final = f"""
Portable arithmetic promises the same bits on the machines that examples/guides/reproducibility.md lists. If you did not
change the code, this machine breaks the promise: please report these lines and the output of python -m funcnet. If only
subnormal numbers differ, this machine flushes them to zero, which is not promised. A wrong elementary function changes
the functions, layers and losses that use it. If your change of these bits is intended, {COMMAND}
regenerates tests/bits.json. Its diff is part of the change, which needs a new minor version and a line in CHANGELOG.md.
A new computation needs neither."""


def bits_of(subject: str, arithmetic: Name = "portable") -> dict[str, str]:
    """Return the hash of each computation of a subject, by name.

    Raises:
        ValueError: If two of them have the same name.
    """
    with using(arithmetic), np.errstate(all="ignore"):
        pairs = [(f"{subject}: {name}", value) for name, value in SUBJECTS[subject]()]
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"two computations of {subject} have the same name")
    return found


def bits(arithmetic: Name = "portable") -> dict[str, str]:
    """Return the hash of each computation of all subjects, by name."""
    return {name: value for subject in SUBJECTS for name, value in bits_of(subject, arithmetic).items()}


def committed() -> dict[str, str]:
    """Return the hashes in the file, by name."""
    content: dict[str, dict[str, str]] = json.loads(FILE.read_text(encoding="utf-8"))
    return {f"{subject}: {name}": value for subject, values in content.items() for name, value in values.items()}


def differing(found: dict[str, str], subjects: Iterable[str] = tuple(SUBJECTS)) -> list[str]:
    """Return the names of the computations of these subjects whose hash is not the committed one.

    A computation that is only in the file, or only in the code, differs.
    """
    wanted = _wanted(subjects)
    return [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]


def differences(found: dict[str, str], subjects: Iterable[str] = tuple(SUBJECTS)) -> list[str]:
    """Return a line for each computation of these subjects whose hash is not the committed one."""
    subjects = tuple(subjects)
    wanted, names = _wanted(subjects), differing(found, subjects)
    return [f"{name}: {found.get(name, 'none')} instead of {wanted.get(name, 'none')}" for name in names]


def _wanted(subjects: Iterable[str]) -> dict[str, str]:
    """Return the committed hashes of these subjects."""
    chosen = set(subjects)
    return {name: value for name, value in committed().items() if name.split(": ")[0] in chosen}


def text_of(found: dict[str, str]) -> str:
    """Return the content of the file: the hashes by subject and name, one a line."""
    content: dict[str, dict[str, str]] = {}
    for name, value in found.items():
        subject, rest = name.split(": ", 1)
        content.setdefault(subject, {})[rest] = value
    return json.dumps(content, indent=1) + "\n"


def main() -> int:
    """Run the command and return its exit code: 1 if bits differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--write", action="store_true", help="regenerate the file")
    choice.add_argument("--native", action="store_true", help="compute in native arithmetic")
    settings = parser.parse_args()
    found = bits("native" if settings.native else "portable")
    lines = differences(found, SUBJECTS)
    print(*lines, f"{len(found)} hashes, {len(lines)} of which differ from {FILE.name}", sep="\n")  # noqa: T201  # a command prints
    if settings.write:
        FILE.write_text(text_of(found), encoding="utf-8", newline="\n")
        print(f"{FILE.name} is regenerated")  # noqa: T201
    elif lines:
        print("They must differ: native bits depend on the machine." if settings.native else MEANING)  # noqa: T201
    return 1 if lines and not settings.write else 0


if __name__ == "__main__":
    sys.exit(main())
