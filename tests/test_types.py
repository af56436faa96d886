"""Types as a feature: the checkers accept a user's program and refuse its wrong lines."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import user_program
from surroundings import ROOT, TESTS

pytestmark = pytest.mark.slow

Checker: TypeAlias = Callable[[Path, Path], subprocess.CompletedProcess[str]]
PROGRAM = TESTS / "user_program.py"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command; return its output and exit status."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, cwd=ROOT)


def mypy(program: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy --strict, with unused ignores as errors, on one program."""
    return run(sys.executable, "-m", "mypy", "--config-file=", "--strict", f"--cache-dir={cache}", program)


def pyright(program: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run pyright in its strict mode, with unused ignores as errors, on one program."""
    settings = '{"typeCheckingMode": "strict", "reportUnnecessaryTypeIgnoreComment": true}'
    (directory / "pyrightconfig.json").write_text(settings)
    copy = shutil.copy(program, directory / "user_program.py")
    return run(sys.executable, "-m", "pyright", "--project", directory, "--pythonpath", sys.executable, copy)


def ty(program: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run ty on one program; it does not read mypy's ignores."""
    settings = ("--project", directory, "--extra-search-path", ROOT, "--python", sys.prefix)
    return run(sys.executable, "-m", "ty", "check", program, *settings, "--output-format=concise")


def pyrefly(program: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run pyrefly in its strict mode on one program."""
    settings = f'preset = "strict"\nsearch-path = ["{ROOT}"]\npython-interpreter-path = "{sys.executable}"\n'
    (directory / "pyrefly.toml").write_text(settings)
    settled = ("--config", directory / "pyrefly.toml", "--output-format=min-text")
    return run(sys.executable, "-m", "pyrefly", "check", program, *settled)


CHECKERS: dict[str, Checker] = {"mypy": mypy, "pyright": pyright, "ty": ty, "pyrefly": pyrefly}


def installed(*names: str) -> list[Any]:
    """The given checkers as parameters; a checker that is not installed is skipped."""
    skip = pytest.mark.skipif
    return [
        pytest.param(CHECKERS[name], id=name, marks=skip(not find_spec(name), reason=f"{name} is not installed"))
        for name in names
    ]


def test_the_program_runs() -> None:
    """The program type-checks and also computes."""
    user_program.main()


@pytest.mark.parametrize("checker", installed("mypy", "pyright"))
def test_the_checkers_accept_the_program_with_its_ignores(checker: Checker, tmp_path: Path) -> None:
    """Every ignore in the program is needed, because an unused one is an error."""
    result = checker(PROGRAM, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("checker", installed(*CHECKERS))
def test_without_ignores_exactly_the_refused_lines_are_errors(checker: Checker, tmp_path: Path) -> None:
    """Each checker infers the types of the other lines, including that of the gradient."""
    source = PROGRAM.read_text()
    marked = {number for number, line in enumerate(source.splitlines(), 1) if "# type: ignore" in line}
    planted = tmp_path / "planted.py"
    planted.write_text(source.replace("  # type: ignore", "  # was: ignore"))
    result = checker(planted, tmp_path)
    assert result.returncode == 1
    errors = [line for line in result.stdout.splitlines() if "error" in line.lower()]
    found = {int(line) for line in re.findall(r"\.py:(\d+):", "\n".join(errors))}
    assert found == marked, result.stdout
