"""The choice of rows on a command line: names with commas between them."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable


def chosen_names(parser: ArgumentParser, text: str, known: Iterable[str], *, kind: str) -> list[str]:
    """Return the names in a text such as ``"W1,W2"``; end the program with an error if one is not known.

    Args:
        parser: The parser of the command line, which reports the error.
        text: Names with commas between them.
        known: The names that there are.
        kind: What they name, for the error.
    """
    names = text.split(",")
    if unknown := set(names).difference(known):
        parser.error(f"no such {kind}: {', '.join(sorted(unknown))}")
    return names
