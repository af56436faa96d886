"""Runs the cells of a tutorial part: the printed output, the error and the figures of each.

``worker.js`` calls ``room`` once for each part, and ``run`` for each cell.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import linecache
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Final

Say = Callable[[str, str], object]
"""Receives what a running cell writes: the kind, ``printed`` or ``progress``, and the text."""

PAUSE: Final = 0.1
"""The seconds between two lines of progress."""

os.environ["MPLBACKEND"] = "agg"  # before matplotlib is imported: a worker has no window


class Printed(io.StringIO):
    """Standard output: keeps all that is written, and says it at once."""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self.say = say

    def write(self, text: str) -> int:
        """Keep a text, and say it."""
        self.say("printed", text)
        return super().write(text)


class Progress(io.TextIOBase):
    """Standard error as a terminal shows it, where a line after a carriage return takes the place of its line.

    It is said at most every ``PAUSE`` seconds.
    """

    def __init__(self, say: Say) -> None:
        super().__init__()
        self.say = say
        self.lines = [""]
        self.back = False
        self.said = ""
        self.last = -PAUSE

    def write(self, text: str) -> int:
        """Add a text, and say what there is, unless it was said just now."""
        for piece in re.split(r"([\r\n])", text):
            if piece == "\n":
                self.lines.append("")
            elif piece and piece != "\r":
                self.lines[-1] = piece if self.back else self.lines[-1] + piece
            self.back = piece == "\r" or (self.back and not piece)
        if time.perf_counter() - self.last >= PAUSE:
            self.finish()
        return len(text)

    def finish(self) -> None:
        """Say the last lines."""
        text = "\n".join(self.lines[-20:]).rstrip()
        if text != self.said:
            self.say("progress", text)
        self.said, self.last = text, time.perf_counter()


def room() -> ModuleType:
    """Return an empty namespace for the cells of a part: a module that stands in for ``__main__`` while they run."""
    return ModuleType("__main__")


def run(module: ModuleType, number: int, source: str, say: Say) -> str:
    """Run a cell in the namespace of its part.

    Args:
        module: The namespace, of ``room``.
        number: The number of the cell, which a traceback names.
        source: The program.
        say: Called with the output while the cell runs.

    Returns:
        JSON with ``printed``, ``error`` (a traceback, or an empty text), and ``figures`` (each with ``png`` in base64
        and the text of its titles).
    """
    name = f"<cell {number}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)  # for the traceback
    printed, progress = Printed(say), Progress(say)
    before, error = sys.modules["__main__"], ""
    sys.modules["__main__"] = module
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(progress):
            exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # the reader's program
    except BaseException as caught:  # noqa: BLE001  # whatever it is, the reader sees it
        error = report(caught)
    finally:
        sys.modules["__main__"] = before
        progress.finish()
    return json.dumps({"printed": printed.getvalue(), "error": error, "figures": figures()})


def report(caught: BaseException) -> str:
    """Return the traceback of an error in a cell, without the frame of ``run``."""
    inner: TracebackType | None = caught.__traceback__ and caught.__traceback__.tb_next
    return "".join(traceback.format_exception(type(caught), caught, inner))


def figures() -> list[dict[str, str]]:
    """Return pyplot's open figures as PNG, and close them."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return []
    found: list[dict[str, str]] = []
    for number in pyplot.get_fignums():
        figure, image = pyplot.figure(number), io.BytesIO()
        figure.savefig(image, format="png", dpi=120)
        titles = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
        text = "; ".join(" ".join(title.split()) for title in titles if title)
        found.append({"png": base64.b64encode(image.getvalue()).decode(), "titles": text})
    pyplot.close("all")
    return found
