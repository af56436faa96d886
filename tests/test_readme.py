"""The README: its programs run and print what it says; its commands are single lines."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from surroundings import ROOT

README = ROOT / "README.md"
if not README.exists():
    pytest.skip("the README is not beside the tests", allow_module_level=True)

TEXT = README.read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", TEXT, re.DOTALL)


@pytest.mark.parametrize(("program", "output"), PROGRAMS)
def test_programs_print_what_the_readme_says(program: str, output: str, tmp_path: Path) -> None:
    """Each Python block runs as a program of its own, without a warning; where output follows, it is that."""
    command = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not output or result.stdout == output


def test_the_first_program_has_its_output() -> None:
    """The first screen shows what it prints."""
    assert PROGRAMS[0][1]


def test_the_commands_are_single_lines() -> None:
    """Two commands, each with its own set-up."""
    section = TEXT[TEXT.index("## Two commands") : TEXT.index("## MNIST")]
    commands = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert len(commands) == 2
    assert all(command.count("\n") == 1 and "venv" in command for command in commands)


def test_every_name_in_the_readme_exists() -> None:
    """What the README spells, the package has."""
    import funcnet as fn  # noqa: PLC0415  # the package of the environment

    for name in set(re.findall(r"\bfn\.(\w+)", TEXT)):
        assert hasattr(fn, name), name
