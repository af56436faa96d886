"""The README and the guides: their programs run and print what the text says, and their links lead to files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from surroundings import ROOT

import funcnet as fn

pytestmark = pytest.mark.slow

README = ROOT / "README.md"
if not README.exists():
    pytest.skip("the README is not beside the tests", allow_module_level=True)

PAGES = [
    *(README, ROOT / "tests" / "README.md", ROOT / "examples" / "browser" / "README.md"),
    ROOT / "examples" / "tutorial" / "glossary.md",
    *sorted((ROOT / "examples" / "guides").glob("*.md")),
    *sorted((ROOT / "examples" / "site").glob("*.md")),
]
PROGRAMS = [
    pytest.param(*found, id=f"{page.stem} {number}")
    for page in PAGES
    for number, found in enumerate(
        re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", page.read_text(), re.DOTALL)
    )
]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.mark.parametrize(("program", "output"), PROGRAMS)
def test_programs_print_what_the_text_says(program: str, output: str, tmp_path: Path) -> None:
    """Each Python block runs as a program without a warning, and prints the output that follows it, if any."""
    command = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not output or result.stdout == output


def test_the_guide_counts_the_hashes() -> None:
    """Each row of its table of machines has the number of hashes in the file."""
    guide = (ROOT / "examples" / "guides" / "reproducibility.md").read_text(encoding="utf-8")
    count = sum(map(len, json.loads((ROOT / "tests" / "bits.json").read_text(encoding="utf-8")).values()))
    assert guide.count(f"| the same | {count:,} | 0 |") == guide.count("| the same |") > 10
    assert f"with {count:,} committed hashes" in guide


def test_the_first_screen_trains_and_shows_its_output() -> None:
    """The first program of the README is followed by its output."""
    assert PROGRAMS[0].values[1]


def test_the_readme_is_short() -> None:
    """At most 7 KB."""
    assert README.stat().st_size <= 7000


def test_the_commands_are_single_lines() -> None:
    """The README has two commands, each with its own setup."""
    text = README.read_text()
    section = text[text.index("## Two commands") : text.index("## The idea")]
    commands = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert len(commands) == 2
    assert all(command.count("\n") == 1 and "venv" in command for command in commands)


@every_page
def test_every_link_leads_to_a_file(page: Path) -> None:
    """Links are relative to the page; links to other sites are not followed."""
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    for target in targets:
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


@every_page
def test_every_name_exists(page: Path) -> None:
    """Each ``fn.name`` in the text is in the package."""
    for name in set(re.findall(r"\bfn\.(\w+)", page.read_text())):
        assert hasattr(fn, name), name
