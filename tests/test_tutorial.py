"""The tutorial: each part opens as a notebook, runs, prints the numbers of its text, and saves its figures."""

from __future__ import annotations

import ast
import os
import re
import struct
import subprocess
import sys
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

import pytest
from attrs import frozen
from surroundings import ROOT

pytestmark = pytest.mark.slow

TUTORIAL = ROOT / "examples" / "tutorial"
PARTS = sorted(TUTORIAL.glob("part_*.py"))
if not TUTORIAL.exists():
    pytest.skip("the examples are not next to the tests", allow_module_level=True)

needs_extra = pytest.mark.skipif(
    not all(map(find_spec, ("matplotlib", "sklearn"))), reason="the extra 'examples' is not installed"
)
every_part = pytest.mark.parametrize("path", PARTS, ids=lambda path: path.stem)
PICTURES = {
    "part_1_neuron": ("part_1_slope.png",),
    "part_3_checking": ("part_3_steps.png",),
    "part_4_digits": ("part_4_curves.png", "part_4_weights.png", "part_4_misread.png"),
    "part_5_update": ("part_5_surface.png",),
    "part_6_bits": ("part_6_apart.png",),
    "part_7_own_layer": ("part_7_border.png",),
    "part_8_recurrent": ("part_8_reach.png",),
    "part_9_attention": ("part_9_weights.png",),
}
SEPARATOR = "\x1e"
NUMBER = re.compile(r"(?<![\w.^])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w^])")


@frozen
class Cell:
    """A cell of a notebook: the text between two ``# %%`` lines."""

    kind: str
    source: str


def cells(path: Path) -> list[Cell]:
    """The cells of a part, in order."""
    heading, *rest = re.split(r"^# %%( \[markdown\])?\n", path.read_text(), flags=re.MULTILINE)
    assert heading == ""
    return [Cell("markdown" if mark else "code", source) for mark, source in zip(rest[::2], rest[1::2], strict=True)]


def prose(cell: Cell) -> str:
    """The text of a markdown cell."""
    return str(ast.literal_eval(cell.source.strip()))


def said(cell: Cell) -> str | None:
    """The output block at the start of a markdown cell, or None if it starts with text."""
    found = re.match(r"```text\n(.*?)```", prose(cell), re.DOTALL)
    return found[1] if found else None


def outputs(path: Path, directory: Path) -> list[str]:
    """Run a part in a new process and return the output of each cell."""
    source = re.sub(
        r"^# %%.*$", lambda _: f"print({SEPARATOR!r}, end='', flush=True)", path.read_text(), flags=re.MULTILINE
    )
    script = directory / path.name
    script.write_text(source)
    environment = os.environ | {"MPLBACKEND": "agg", "PYTHONWARNINGS": "error::RuntimeWarning"}
    result = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, cwd=directory, env=environment
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split(SEPARATOR)[1:]


def numbers(text: str) -> set[float]:
    """The numbers in a text."""
    return {float(found) for found in NUMBER.findall(text)}


@every_part
def test_a_part_is_a_notebook(path: Path) -> None:
    """A part begins with its title and its command; a markdown cell is one string, and a code cell has none."""
    found = cells(path)
    number = int(path.stem.split("_")[1])
    assert found[0].kind == "markdown"
    assert prose(found[0]).startswith(f"# Part {number}. ")
    assert f"`python examples/tutorial/{path.name}`" in prose(found[0])
    for cell in found:
        tree = ast.parse(cell.source)
        strings = [isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in tree.body]
        assert strings == [True] if cell.kind == "markdown" else strings and not any(strings)


def complaints(found: list[Cell], printed: list[str]) -> list[str]:
    """The differences between text and output.

    The output of each cell that prints must follow it, and no other output. Each number in the text must be printed
    by the part, or be an integer in its code.
    """
    wrong: list[str] = []
    for position, (cell, output) in enumerate(zip(found, printed, strict=True)):
        below = found[position + 1] if position + 1 < len(found) else Cell("code", "")
        shown = said(below) if below.kind == "markdown" else None
        if cell.kind == "code" and shown != (output or None):
            wrong.append(f"{cell.source}\nprints\n{output}and not\n{shown}")
    known = numbers("".join(printed)) | {float(each) for each in range(10)}
    code = numbers("".join(cell.source for cell in found if cell.kind == "code"))
    known |= {each for each in code if each % 1 == 0}
    for cell in found:
        if cell.kind == "markdown":
            words = re.sub(r"```.*?```", "", prose(cell), flags=re.DOTALL)
            wrong += [f"{strange:g} is not printed: {words}" for strange in numbers(words) - known]
    return wrong


def test_the_comparison_finds_planted_faults() -> None:
    """The comparison finds wrong, missing and superfluous output, and numbers that no cell prints."""

    def of(text: str, output: str) -> list[str]:
        found = [Cell("code", "print(0.5 + 12)\n"), Cell("markdown", f'"""{text}"""\n')]
        return complaints(found, [output, ""])

    assert not of("```text\n12.5\n```\n\nHalf of 12 and 12.5.", "12.5\n")
    assert of("```text\n12.4\n```\n", "12.5\n")
    assert of("It is 12.5.", "12.5\n")
    assert of("```text\n12.5\n```\n", "")
    assert of("```text\n12.5\n```\n\nIt is 0.5.", "12.5\n")
    assert of("```text\n12.5\n```\n\nIt is -12.5.", "12.5\n")
    assert of("```text\n12.5\n```\n\nIt is 13.", "12.5\n")


@needs_extra
@every_part
def test_a_part_prints_what_its_text_says(path: Path, tmp_path: Path) -> None:
    """Each output and number of the text is printed, and the figures are at least 800 by 300 pixels."""
    printed = outputs(path, tmp_path)
    assert complaints(cells(path), printed) == []
    for name in PICTURES.get(path.stem, ()):
        header = (tmp_path / "figures" / name).read_bytes()[:24]
        width, height = struct.unpack(">II", header[16:24])
        assert header[1:4] == b"PNG"
        assert width >= 800
        assert height >= 300


@needs_extra
@pytest.mark.parametrize("path", PARTS[:2], ids=lambda path: path.stem)
def test_the_first_parts_can_be_redone_on_paper(path: Path, tmp_path: Path) -> None:
    """Each printed number is exact, not rounded, and has at most five decimals."""
    found = NUMBER.findall("".join(outputs(path, tmp_path)))
    assert len(found) > 20
    for text in found:
        assert Decimal(text) == Decimal(float(text)), text
        assert len(text.partition(".")[2]) <= 5, text


@every_part
def test_pictures_are_labelled(path: Path) -> None:
    """Each figure that a part saves is listed in PICTURES, and its cell sets a title."""
    saved = re.findall(r'savefig\(FIGURES / "([^"]+)", dpi=120\)', path.read_text())
    assert sorted(saved) == sorted(PICTURES.get(path.stem, ()))
    assert path.read_text().count("savefig") == len(saved)
    for cell in cells(path):
        assert "savefig" not in cell.source or re.search(r"title", cell.source)


def test_the_parts_are_numbered() -> None:
    """The parts are numbered from 1, and each part names the next one."""
    assert [int(path.stem.split("_")[1]) for path in PARTS] == list(range(1, len(PARTS) + 1))
    for path in PARTS[:-1]:
        assert f"Next, part {int(path.stem.split('_')[1]) + 1}:" in path.read_text()
