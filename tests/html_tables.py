"""What a browser finds in HTML: the cells of tables, the text of paragraphs, and the names of tags."""

from __future__ import annotations

from html.parser import HTMLParser
from operator import methodcaller


class Parsed(HTMLParser):
    """The content of a piece of HTML: ``tables`` as lists of rows of cells, ``outside`` as paragraphs."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.outside: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self._open: list[str] = []  # the texts to which data is added
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a table, a row or a text."""
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td", "p"):
            self._open = self.tables[-1][-1] if tag in ("th", "td") else self.outside
            self._open.append("")

    def handle_data(self, data: str) -> None:
        """Add to the last text."""
        self._open[-1] += data


def shown(value: object) -> Parsed:
    """What a notebook shows for a value."""
    return Parsed(methodcaller("_repr_html_")(value))
