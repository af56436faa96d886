"""The tutorial: each part opens as a notebook, runs, prints the numbers of its text, and saves its figures.

Each exercise of a part has a solution in ``part_NN_solutions.py``, which passes the same check.
"""

from __future__ import annotations

import ast
import os
import re
import struct
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import frozen
from surroundings import ROOT

pytestmark = pytest.mark.slow

TUTORIAL = ROOT / "examples" / "tutorial"
SOLUTIONS = sorted(TUTORIAL.glob("part_*_solutions.py"))
PARTS = sorted(set(TUTORIAL.glob("part_*.py")) - set(SOLUTIONS))
if not TUTORIAL.exists():
    pytest.skip("the examples are not next to the tests", allow_module_level=True)

needs_extra = pytest.mark.skipif(
    not all(map(find_spec, ("matplotlib", "sklearn", "tqdm"))), reason="the extra 'examples' is not installed"
)
every_part = pytest.mark.parametrize("path", PARTS, ids=lambda path: path.stem)
SEPARATOR = "\x1e"
HEADING = re.compile(r'^# %%( \[markdown\]| Exercise \d+| tags=\["processes"\])?\n', re.MULTILINE)
EXERCISES = ("Exercise 1", "Exercise 2", "Exercise 3")
NUMBER = re.compile(r"(?<![\w.^])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w^])")


@frozen
class Cell:
    """A cell of a notebook: the text between two ``# %%`` lines, and what its own line says after ``# %%``."""

    mark: str
    source: str

    @property
    def kind(self) -> str:
        """Whether it is text or code."""
        return "markdown" if self.mark == "[markdown]" else "code"


def cells(path: Path) -> list[Cell]:
    """The cells of a part, in order."""
    before, *rest = HEADING.split(path.read_text())
    assert before == ""
    found = [Cell((mark or "").strip(), source) for mark, source in zip(rest[::2], rest[1::2], strict=True)]
    assert not [cell for cell in found if "\n# %%" in cell.source]
    return found


def exercises(found: Sequence[Cell]) -> dict[str, Cell]:
    """The exercise cells by title, in order."""
    return {cell.mark: cell for cell in found if cell.mark.startswith("Exercise")}


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


def pictures(path: Path) -> list[str]:
    """The files that a part saves as its figures."""
    return re.findall(r'savefig\(FIGURES / "([^"]+)", dpi=120\)', path.read_text())


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

    The output of each cell that prints must follow it, and no other output. An exercise prints that it is not solved
    yet, which no text repeats. Each number in the text must be printed by the part, be an integer in its code, or be in
    the code of an exercise. Numbers of parts do not count.
    """
    wrong: list[str] = []
    for position, (cell, output) in enumerate(zip(found, printed, strict=True)):
        below = found[position + 1] if position + 1 < len(found) else Cell("", "")
        shown = said(below) if below.kind == "markdown" else None
        if cell.mark.startswith("Exercise"):
            if shown or not re.fullmatch(f"{cell.mark}: not solved yet.*\n", output):
                wrong.append(f"{cell.mark} prints\n{output}and not that it is not solved yet")
        elif cell.kind == "code" and shown != (output or None):
            wrong.append(f"{cell.source}\nprints\n{output}and not\n{shown}")
    known = numbers("".join(printed)) | {float(each) for each in range(10)}
    code = numbers("".join(cell.source for cell in found if cell.kind == "code"))
    known |= {each for each in code if each % 1 == 0}
    known |= numbers("".join(cell.source for cell in exercises(found).values()))
    for cell in found:
        if cell.kind == "markdown":
            words = re.sub(r"```.*?```|\b[Pp]art \d+", "", prose(cell), flags=re.DOTALL)
            wrong += [f"{strange:g} is not printed: {words}" for strange in numbers(words) - known]
    return wrong


def test_the_comparison_finds_planted_faults() -> None:
    """The comparison finds wrong, missing and superfluous output, and numbers that no cell prints."""

    def of(text: str, output: str) -> list[str]:
        found = [Cell("", "print(0.5 + 12)\n"), Cell("[markdown]", f'"""{text}"""\n')]
        return complaints(found, [output, ""])

    def exercise(output: str) -> list[str]:
        return complaints([Cell("Exercise 1", "")], [output])

    assert not of("```text\n12.5\n```\n\nHalf of 12 and 12.5.", "12.5\n")
    assert of("```text\n12.4\n```\n", "12.5\n")
    assert of("It is 12.5.", "12.5\n")
    assert of("```text\n12.5\n```\n", "")
    assert of("```text\n12.5\n```\n\nIt is 0.5.", "12.5\n")
    assert of("```text\n12.5\n```\n\nIt is -12.5.", "12.5\n")
    assert of("```text\n12.5\n```\n\nIt is 13.", "12.5\n")
    assert not exercise("Exercise 1: not solved yet (2 is not 3)\n")
    assert exercise("Exercise 1: solved\n")
    assert exercise("Exercise 2: not solved yet\n")
    assert exercise("Exercise 1: not solved yet\nExercise 1: not solved yet\n")


@needs_extra
@every_part
def test_a_part_prints_what_its_text_says(path: Path, tmp_path: Path) -> None:
    """Each output and number of the text is printed, and the figures are at least 800 by 300 pixels."""
    printed = outputs(path, tmp_path)
    assert complaints(cells(path), printed) == []
    for name in pictures(path):
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
    """Each figure has the number of its part in its name and is saved at one resolution, and its cell sets a title."""
    saved = pictures(path)
    assert all(name.startswith(path.stem[:7]) for name in saved)
    assert path.read_text().count("savefig") == len(saved)
    for cell in cells(path):
        assert "savefig" not in cell.source or "title" in cell.source


def test_the_parts_are_numbered() -> None:
    """The parts are numbered from 1, and each part names the next one."""
    assert [int(path.stem.split("_")[1]) for path in PARTS] == list(range(1, len(PARTS) + 1))
    for path in PARTS[:-1]:
        assert f"Next, part {int(path.stem.split('_')[1]) + 1}:" in path.read_text()


# --------------------------------------------------------------------------------------------- exercises and solutions


def check_of(title: str, cell: Cell) -> str:
    """The lines of an exercise cell that say whether it is solved."""
    _, line, check = cell.source.partition(f"# The check of {title.lower()}.\n")
    assert line, f"{title} has no check"
    return check.strip()


def gaps(part: Sequence[Cell], solutions: Sequence[Cell], printed: str) -> list[str]:
    """What keeps the solutions from being those of the part's exercises."""
    wanted, given = exercises(part), exercises(solutions)
    if list(wanted) != list(given):
        return [f"the exercises are {list(wanted)}, and the solutions {list(given)}"]
    checks = [title for title in wanted if check_of(title, wanted[title]) != check_of(title, given[title])]
    wrong = [f"{title} has another check" for title in checks]
    return wrong if printed == "".join(f"{title}: solved\n" for title in wanted) else [*wrong, f"printed:\n{printed}"]


@every_part
def test_a_part_ends_with_three_exercises(path: Path) -> None:
    """The heading, then for each exercise its task and its cell, and at most one more cell, the last sentence."""
    found = cells(path)
    assert tuple(exercises(found)) == EXERCISES
    begin = found.index(exercises(found)["Exercise 1"]) - 1
    assert "## Exercises" in prose(found[begin]).splitlines()
    assert f"`part_{path.stem[5:7]}_solutions.py`" in prose(found[begin])
    for place, title in enumerate(EXERCISES):
        task, cell = found[begin + 2 * place : begin + 2 * place + 2]
        assert f"**{title}.** " in prose(task)
        assert cell.mark == title
        assert check_of(title, cell)
    assert len(found) <= begin + 2 * len(EXERCISES) + 1


@needs_extra
@every_part
def test_the_solutions_solve_the_exercises(path: Path, tmp_path: Path) -> None:
    """The checks are those of the part, and each says "solved"; nothing else is printed."""
    solutions = path.with_name(f"{path.stem[:7]}_solutions.py")
    assert prose(cells(solutions)[0]).startswith(f"# Solutions of part {int(path.stem[5:7])}")
    assert gaps(cells(path), cells(solutions), "".join(outputs(solutions, tmp_path))) == []


def test_the_comparison_of_solutions_finds_planted_faults(tmp_path: Path) -> None:
    """Cells without a solution, a changed check, a missing exercise and other output are found."""

    def file(name: str, *answers: int, tolerance: int = 0) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text("".join(f"""# %% Exercise {number}
answer = {answer}

# The check of exercise {number}.
print("Exercise {number}:", "solved" if abs(answer - {number}) <= {tolerance} else "not solved yet")
""" for number, answer in enumerate(answers, 1)))  # fmt: skip
        return path

    def found(solutions: Path) -> list[str]:
        place = tmp_path / "run"
        place.mkdir(exist_ok=True)
        return gaps(cells(part), cells(solutions), "".join(outputs(solutions, place)))

    part = file("part", 0, 0, 0)
    assert found(file("right", 1, 2, 3)) == []
    assert found(part)
    assert found(file("half", 1, 2, 0))
    assert found(file("lenient", 1, 2, 3, tolerance=1)) == [f"{title} has another check" for title in EXERCISES]
    talkative = file("talkative", 1, 2, 3)
    talkative.write_text(talkative.read_text() + "print(1)\n")
    assert found(talkative)
    assert found(file("short", 1, 2))


def test_no_solutions_without_a_part() -> None:
    """Each file of solutions belongs to a part."""
    assert [path.stem[:7] for path in SOLUTIONS] == [path.stem[:7] for path in PARTS]


# ------------------------------------------------------------------------------------------------------- as notebooks


@pytest.fixture
def notebooks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program that writes notebooks."""
    for name in ("jupytext", "nbclient", "ipykernel"):
        pytest.importorskip(name, reason="the extra 'docs' is not installed")
    monkeypatch.setattr(sys, "path", [str(TUTORIAL), *sys.path])
    return import_module("notebooks")


def content(cell: Cell) -> tuple[str, str]:
    """The kind of a cell, and its code, or its text without the output of the cell before."""
    if cell.kind == "code":
        return cell.kind, cell.source.strip()
    return cell.kind, prose(cell).removeprefix(f"```text\n{said(cell)}```").strip()


def shown(cell: Any) -> str:
    """What a cell of a notebook that ran shows as text."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")


@pytest.mark.parametrize("path", [*PARTS, *SOLUTIONS], ids=lambda path: path.stem)
def test_a_notebook_has_the_cells_without_their_outputs(path: Path, notebooks: ModuleType) -> None:
    """The notebook is valid, and has each text and each code once, but no output, neither as text nor below a cell."""
    found = notebooks.notebook(path)
    nbformat: Any = import_module("nbformat")
    nbformat.validate(found)
    wanted = [content(cell) for cell in cells(path) if content(cell)[1]]
    assert [(cell.cell_type, cell.source.strip()) for cell in found.cells] == wanted
    assert not any(cell.get("outputs") for cell in found.cells)


def test_a_notebook_runs_and_shows_what_the_text_says(notebooks: ModuleType) -> None:
    """The outputs of the cells are those of the text's blocks, in order."""
    found = notebooks.notebook(PARTS[1])
    notebooks.run(found)
    blocks = [said(cell) for cell in cells(PARTS[1]) if cell.kind == "markdown"]
    printed = [shown(cell) for cell in found.cells if cell.cell_type == "code" and "title" not in cell.metadata]
    assert [each for each in printed if each] == [each for each in blocks if each]
