"""The project's English: no word of an idiom that only its authors would understand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from surroundings import ROOT

IDIOM = (
    r"[Ii]f (?:a|an|the) [\w ]+ is none\b",
    r"\bis none of these\b",
    r"\bso many\b",
    r"\bof (?:one's|your|a user's|the user's|its author's) own\b(?! (?:type|layer))",
    r"\bones? of one's own\b",
    r"\bwhat (?:is|stands) there\b",
    r"\bthat (?:is|are) there\b",
    r"\b(?:goes|go|going|went|gone) on (?:as|from|in|with|after|inside|over|under|until|where)\b",
    r"\bbehind your back\b",
    r"\bwho(?:ever)? must not\b",
    r"\bwhoever\b",
    r"\b[Ww]hat became of\b",
    r"\bruns part\b",
    r"\bas it is said\b",
    r"\b[Oo]ptimis",
    r"\b[Bb]ehaviour",
    r"\bneighbour",
)
"""Regular expressions; the tests of their own file are left out."""

ENDINGS = {".py", ".md", ".toml", ".yml"}
FOLDERS = ("funcnet", "tests", "examples", ".github")
FILES = [
    *(path for path in (ROOT / "README.md", ROOT / "CHANGELOG.md") if path.exists()),
    *sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in ENDINGS),
]
FILES.remove(Path(__file__).resolve())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_idiom(path: Path) -> None:
    """Each pattern has a plain form, such as "invalid" for "none" and "resumes" for "goes on"."""
    lines = enumerate(path.read_text().splitlines(), 1)
    found = [f"{number}: {line.strip()}" for number, line in lines if any(re.search(each, line) for each in IDIOM)]
    assert not found


def test_the_test_sees_idiom() -> None:
    """Each pattern is found in a line that has it."""
    lines = ("If a setting is none.", "so many rows", "a layer of one's own", "what is there", "goes on from there")
    assert all(any(re.search(each, line) for each in IDIOM) for line in lines)
