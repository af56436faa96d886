"""Tables in HTML, which notebooks show in place of text: no script, no color, and all text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

import attrs

from funcnet.core.arrays import AnyArray
from funcnet.core.records import Tree, fields_of, shown

_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
_WORDS: Final = "left; white-space: pre"
_ALIGNED: Final = {"l": _WORDS, "c": _WORDS, "t": "left; white-space: pre-wrap", "r": "right; white-space: pre"}
_STYLES: Final = {
    kind: f' style="text-align: {aligned}; vertical-align: top; padding: 0.2em 0.6em"'
    for kind, aligned in _ALIGNED.items()
}


class _Printer(Protocol):
    def text(self, text: str, /) -> None: ...


def as_printed(report: object, printer: _Printer, cycle: bool) -> None:  # noqa: ARG001, FBT001  # IPython passes it
    """Show a report in IPython as ``print`` does, as its ``_repr_pretty_``."""
    printer.text(str(report))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], kinds: str) -> str:
    """Return a table in HTML.

    Args:
        head: The text above each column.
        rows: The cells of each row, one per column. A cell that is not text is converted by ``str``.
        kinds: One letter per column: ``l`` for words, ``t`` for text that may wrap, ``c`` for code, and ``r`` for
            numbers, which are aligned to the right.

    Example:
        >>> "&lt;b&gt;" in table(("name", "count"), [("<b>", 3)], "lr")
        True
    """
    body = "".join(_row("td", cells, kinds) for cells in rows)
    made = f"<table><thead>{_row('th', head, kinds)}</thead><tbody>{body}</tbody></table>"
    return f'<div style="overflow-x: auto">{made}</div>'


def _row(tag: str, cells: Sequence[object], kinds: str) -> str:
    made: list[str] = []
    for cell, kind in zip(cells, kinds, strict=True):
        text = escaped(cell)
        text = f"<code>{text}</code>" if kind == "c" and tag == "td" and text else text
        made.append(f"<{tag}{_STYLES[kind]}>{text}</{tag}>")
    return f"<tr>{''.join(made)}</tr>"


def paragraphs(texts: Iterable[object]) -> str:
    """Return a paragraph for each text.

    Example:
        >>> paragraphs(["a < b"])
        '<p style="white-space: pre-wrap">a &lt; b</p>'
    """
    return "".join(f'<p style="white-space: pre-wrap">{escaped(text)}</p>' for text in texts)


def escaped(value: object) -> str:
    r"""Return the text of a value with the characters of HTML's markup, and lone surrogates, escaped.

    Example:
        >>> escaped("a<b & \ud800")
        'a&lt;b &amp; \\ud800'
    """
    return str(value).encode("utf-8", "backslashreplace").decode().translate(_ESCAPES)


# ------------------------------------------------------------------------------------------------- networks


def network_table(params: Tree) -> str:
    """Return a table of the layers of a network: their fields, and the number of trained and fixed numbers."""
    rows = list(_layers(params, "", 0, fixed=False))
    total = ("total", "", sum(trained for *_, trained, _ in rows), sum(fixed for *_, fixed in rows))
    cells = [(name, inside, f"{trained:,}", f"{fixed:,}") for name, inside, trained, fixed in (*rows, total)]
    return table(("layer", "fields", "trained", "fixed"), cells, "ltrr")


def _layers(params: Tree, path: str, depth: int, *, fixed: bool) -> Iterator[tuple[str, str, int, int]]:
    """Each layer of a network, a combinator before the layers inside it."""
    if isinstance(params, tuple):
        for position, inner in enumerate(params):
            yield from _layers(inner, _below(path, position), depth, fixed=fixed)
        return
    fields = fields_of(type(params))
    inside = [
        f"{a.name}={shown(getattr(params, a.name))}"
        for a in attrs.fields(type(params))
        if a.repr and a.name not in fields.every_network
    ]
    arrays: dict[str, AnyArray | None] = {name: getattr(params, name) for name in fields.arrays}
    sizes = {name: 0 if array is None else array.size for name, array in arrays.items()}
    still = sum(size for name, size in sizes.items() if fixed or name in fields.statistics)
    name = f"{'  ' * depth}{path} {type(params).__name__}" if path else type(params).__name__
    yield name, ", ".join(inside), sum(sizes.values()) - still, still
    for field in fields.every_network:
        is_fixed = fixed or field in fields.fixed_networks
        yield from _layers(getattr(params, field), _below(path, field), depth + 1, fixed=is_fixed)


def _below(path: str, step: object) -> str:
    return f"{path}.{step}" if path else str(step)
