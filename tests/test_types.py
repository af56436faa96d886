"""Types as a product: the checkers accept a user's program, and refuse what they must."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import pytest
import user_program
from surroundings import ROOT, TESTS

Checker: TypeAlias = Callable[[Path, Path], subprocess.CompletedProcess[str]]
PROGRAM = TESTS / "user_program.py"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A command's output and exit status."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, cwd=ROOT)


def mypy(program: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """mypy --strict, with unused ignores as errors, on one program."""
    return run(sys.executable, "-m", "mypy", "--config-file=", "--strict", f"--cache-dir={cache}", program)


def pyright(program: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    """pyright in its strict mode, with unused ignores as errors, on one program."""
    settings = '{"typeCheckingMode": "strict", "reportUnnecessaryTypeIgnoreComment": true}'
    (directory / "pyrightconfig.json").write_text(settings)
    copy = shutil.copy(program, directory / "user_program.py")
    return run(sys.executable, "-m", "pyright", "--project", directory, "--pythonpath", sys.executable, copy)


CHECKERS = [
    pytest.param(checker, id=name, marks=pytest.mark.skipif(not find_spec(name), reason=f"{name} is not installed"))
    for name, checker in {"mypy": mypy, "pyright": pyright}.items()
]


def test_the_program_runs() -> None:
    """What type-checks also computes."""
    user_program.main()


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_checkers_accept_the_program_and_refuse_the_refused(checker: Checker, tmp_path: Path) -> None:
    """Every ignore in it is needed: an unused one is an error."""
    result = checker(PROGRAM, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_checkers_see_a_planted_error(checker: Checker, tmp_path: Path) -> None:
    """Without its ignores, each refused line is an error."""
    source = PROGRAM.read_text()
    lines = source[source.index("def refused") :].count("# type: ignore")
    planted = tmp_path / "planted.py"
    planted.write_text(source.replace("  # type: ignore", "  # was: ignore"))
    result = checker(planted, tmp_path)
    assert result.returncode == 1
    assert (
        len({line.split(":")[1] for line in result.stdout.splitlines() if "error" in line and ".py:" in line}) == lines
    )
