"""The table: rows of figures and their ratios, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from benchmarks.contenders import FUNCNET
from benchmarks.timing import Timing


@dataclass(frozen=True)
class Row:
    """One contender in one workload.

    ``to_funcnet`` and ``to_floor`` are this figure divided by funcnet's (in float32) and by the floor's (in the row's
    own precision); ``spread`` is the middle half of the rounds, ``processors`` the number of busy processors.
    """

    workload: str
    contender: str
    value: float
    unit: str
    to_funcnet: float
    to_floor: float
    best: float
    spread: float
    processors: float | None


@dataclass(frozen=True)
class Figure:
    """The measurement of one contender, its floor, and the funcnet contender that it is compared with."""

    contender: str
    timing: Timing
    floor: str
    own: str = FUNCNET


@dataclass(frozen=True)
class ProgramRow:
    """The program of one contender's step: NumPy calls and megabytes per step, milliseconds to trace and compile it."""

    workload: str
    contender: str
    calls: int
    megabytes: float
    milliseconds: float


def rows(workload: str, figures: Sequence[Figure], *, scale: float, unit: str) -> list[Row]:
    """Return the figures and their ratios; ``scale`` converts the seconds of one run to the unit."""
    medians = {figure.contender: figure.timing.median for figure in figures}
    return [
        Row(
            workload=workload,
            contender=figure.contender,
            value=figure.timing.median * scale,
            unit=unit,
            to_funcnet=figure.timing.median / medians[figure.own],
            to_floor=figure.timing.median / medians[figure.floor],
            best=min(figure.timing.rounds) * scale,
            spread=figure.timing.spread,
            processors=figure.timing.processors,
        )
        for figure in figures
    ]


HEADINGS: Final = ("workload", "contender", "median", "unit", "x funcnet", "x floor", "best", "spread", "busy")


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as text."""
    ratios = f"{row.to_funcnet:.2f}", f"{row.to_floor:.2f}"
    busy = "" if row.processors is None else f"{row.processors:.2f}"
    return (
        *(row.workload, row.contender, f"{row.value:,.1f}", row.unit, *ratios),
        *(f"{row.best:,.1f}", f"{row.spread:.0%}", busy),
    )


PROGRAM_HEADINGS: Final = ("workload", "contender", "NumPy calls a step", "MB", "ms to trace and compile")


def program_cells(row: ProgramRow) -> tuple[str, ...]:
    """Return a row as text."""
    return row.workload, row.contender, str(row.calls), f"{row.megabytes:.3f}", f"{row.milliseconds:.1f}"


def text(found: Sequence[Row]) -> str:
    """Return the table of times."""
    return aligned([HEADINGS, *map(cells, found)])


def program_text(found: Sequence[ProgramRow]) -> str:
    """Return the table of programs."""
    return aligned([PROGRAM_HEADINGS, *map(program_cells, found)])


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    numbers = {position for position, name in enumerate(lines[0]) if name not in {"workload", "contender", "unit"}}

    def line(parts: Sequence[str]) -> str:
        padded = [
            part.rjust(width) if position in numbers else part.ljust(width)
            for position, (part, width) in enumerate(zip(parts, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * (width - 1) + (":" if position in numbers else "-") for position, width in enumerate(widths)]
    return "\n".join([line(lines[0]), line(rule), *map(line, lines[1:])])


def as_json(
    facts: dict[str, str], workloads: dict[str, str], found: Sequence[Row], programs: Sequence[ProgramRow]
) -> str:
    """Return the machine, workloads, rows and programs as JSON."""
    lists = {"rows": [asdict(row) for row in found], "programs": [asdict(row) for row in programs]}
    return json.dumps({"machine": facts, "workloads": workloads, **lists}, indent=2)
