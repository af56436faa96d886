"""Tables in HTML: any text is escaped, and the table of a network has the numbers of its summary."""

from __future__ import annotations

import pytest
from attrs import frozen
from html_tables import Parsed, shown
from hypothesis import given
from hypothesis import strategies as st
from networks import CASES, Case

import funcnet as fn
from funcnet.core.html import network_table, paragraphs, table
from funcnet.core.records import fields_of

TAGS = {"div", "table", "thead", "tbody", "tr", "th", "td", "code", "p"}
KEY = fn.Key(23)
texts = st.text(max_size=8) | st.sampled_from(["<script>", "</td>", "&amp;", "a\nb  c", '"><b x="', "\ud800"])


@given(rows=st.lists(st.tuples(texts, texts, texts, texts), max_size=3), text=texts)
def test_every_text_comes_back(rows: list[tuple[str, ...]], text: str) -> None:
    """The cells, the head and the paragraphs have the given text, and no tag comes from it."""
    made = Parsed(table([text] * 4, rows, "ltcr") + paragraphs([text, 3]))

    def plain(text: str) -> str:
        return text.encode("utf-8", "backslashreplace").decode()

    assert made.tables == [[[plain(text)] * 4, *([plain(cell) for cell in row] for row in rows)]]
    assert made.outside == [plain(text), "3"]
    assert made.tags <= TAGS
    assert made.attributes == {"style"}


@frozen(eq=False)
class Noted(fn.Layer):
    """A layer with text."""

    note: str
    net: fn.Network


def test_a_planted_script_is_text() -> None:
    """Neither the name of a class nor a setting can add a tag."""
    kind = type("<script>", (Noted,), {})
    found = shown(kind("<script>alert(1)</script>", fn.dense(KEY, 2, 3)))
    assert found.tags <= TAGS
    assert found.tables[0][1] == ["<script>", "note='<script>alert(1)</script>'", "0", "0"]
    assert found.tables[0][2] == ["  net Dense", "weight=float32 (2, 3), bias=float32 (3,)", "9", "0"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_network_has_the_rows_of_its_summary(case: Case) -> None:
    """Each layer has the same name, indented alike, and the same counts; the fields are those of its repr."""
    layer = case.layer()
    rows = shown(layer).tables[0]
    summary = fn.summary(layer, case.x(1).shape[1:])
    wanted = [[row[0], *row[2:4]] for row in shown(summary).tables[0] if row[0] != "input"]
    assert [[row[0], *row[2:]] for row in rows] == wanted
    if not fields_of(type(layer)).every_network:  # the layers inside have rows of their own
        assert repr(layer) == f"{type(layer).__name__}({rows[1][1]})"
    total = Parsed(network_table((layer, (layer,)))).tables[0][-1]
    assert total == ["total", "", f"{2 * summary.trained:,}", f"{2 * summary.fixed:,}"]
