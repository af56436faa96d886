"""Reads the parts of the tutorial as cells: text as HTML, and programs with the output that the text prints.

A part is a file of cells that begin with ``# %%``. The printed output of a program stands as a block of the language
``text`` at the beginning of the next text. The cell of an exercise begins with ``# %% Exercise 1``, and a cell that
starts processes or threads with ``# %% tags=["processes"]``.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, Final, TypedDict

HEADING: Final = re.compile(r"^# %%(.*)\n", re.MULTILINE)
OUTPUT: Final = re.compile(r"\s*```text\n(.*?)```\s*", re.DOTALL)


class Cell(TypedDict, total=False):
    """A cell: ``html`` of a text; or the ``source`` of a program and what belongs to it.

    Attributes:
        output: What the program prints, according to the text.
        exercise: The number of the exercise.
        solution: The program that solves the exercise, up to its check.
        processes: Whether the cell starts processes or threads, which a browser does not have.
    """

    html: str
    source: str
    output: str
    exercise: int
    solution: str
    processes: bool


class Part(TypedDict):
    """A part of the tutorial: its name, which is that of its file, its title, and its cells."""

    name: str
    title: str
    cells: list[Cell]


def textbook(folder: Path) -> list[Part]:
    """Return the parts in a folder, in order.

    Raises:
        ModuleNotFoundError: If markdown-it-py, which renders the text, is not installed.
        ValueError: If a cell has no right form.
    """
    return [part(path) for path in sorted(folder.glob("part_*.py")) if not path.stem.endswith("_solutions")]


def part(path: Path) -> Part:
    """Return a part, with the solutions that a file beside it has."""
    found: list[Cell] = []
    solved = solutions(path.with_stem(f"{path.stem}_solutions"))
    for mark, source in blocks(path):
        if mark == "[markdown]":
            text = str(ast.literal_eval(source.strip()))
            block = OUTPUT.match(text)
            if block and found:
                found[-1]["output"] = block[1]
                text = text[block.end() :]
            if text.strip():
                found.append({"html": html(text)})
            continue
        number = exercise(mark)
        found.append({"source": source.strip("\n")})
        if "processes" in mark:
            found[-1]["processes"] = True
        if number:
            found[-1] |= {"exercise": number, "solution": solved.get(number, "")}
    title = re.search(r'^"""# (.*?)\.?$', path.read_text(encoding="utf-8"), re.MULTILINE)
    if title is None:
        raise ValueError(f"{path}: the first cell must begin with a title")
    return {"name": path.stem, "title": title[1], "cells": found}


def blocks(path: Path) -> list[tuple[str, str]]:
    """Return the cells of a file: what follows ``# %%`` on its line, and the lines up to the next cell."""
    _, *rest = HEADING.split(path.read_text(encoding="utf-8"))
    return [(mark.strip(), source) for mark, source in zip(rest[::2], rest[1::2], strict=True)]


def exercise(mark: str) -> int:
    """Return the number of the exercise that a cell belongs to, or 0."""
    found = re.fullmatch(r"Exercise (\d+)", mark)
    return int(found[1]) if found else 0


def solutions(path: Path) -> dict[int, str]:
    """Return the solutions in a file by the number of the exercise, each without the check; none without a file."""
    cells = blocks(path) if path.exists() else []
    return {
        number: source.partition("# The check of exercise")[0].strip("\n")
        for mark, source in cells
        if (number := exercise(mark))
    }


def html(text: str) -> str:
    """Return a text in Markdown as HTML. Headings begin at the second level; only links to parts and the web stay."""
    from markdown_it import MarkdownIt  # noqa: PLC0415  # an extra, which only this function needs

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{int(token.tag[1]) + 1}"
        links(token.children or [])
    return str(markdown.renderer.render(tokens, markdown.options, {}))


def links(tokens: list[Any]) -> None:
    """Let a link to another part open it on the page, and turn a link to another file into plain text."""
    plain = False
    for token in tokens:
        if token.type == "link_open":
            target = str(token.attrs["href"])
            name = re.fullmatch(r"(?:.*/)?(part_\d+_\w+)\.(?:py|md|ipynb)", target)
            plain = not name and not re.match(r"https?:", target)
            token.attrs = {} if plain else {"href": f"#{name[1]}" if name else target}
        if token.type in ("link_open", "link_close") and plain:
            token.tag = "span"
