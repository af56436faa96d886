"""Errors: what their texts say, and that they pickle."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import funcnet as fn
from funcnet.core.errors import printable, quoted


@pytest.mark.parametrize("kind", [fn.FuncnetError, *fn.FuncnetError.__subclasses__()])
def test_errors_pickle_with_all_they_say(kind: type[fn.FuncnetError]) -> None:
    """An error from another process is the same value: class, message, subject, path and step."""
    error = kind("x must be small, got 3", subject="Dense").enter(0).enter(2).at_step(4).within("state 3, epoch 1")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # its own bytes
    assert type(again) is kind
    assert isinstance(again, ValueError)
    assert str(again) == str(error) == "state 3, epoch 1: step 4: Dense (layer 2.0): x must be small, got 3"
    assert (again.message, again.subject, again.path, again.step) == ("x must be small, got 3", "Dense", (2, 0), 4)
    assert repr(again) == repr(error)


def test_an_error_without_a_place_is_its_message() -> None:
    """The subject, the path and the step appear only where they are known."""
    assert str(fn.ShapeError("no")) == "no"
    assert str(fn.ShapeError("no").enter(1)) == "layer 1: no"
    assert str(fn.ShapeError("no").at_step(0)) == "step 0: no"


class Unprintable:
    """A value whose repr fails."""

    def __repr__(self) -> str:
        raise AttributeError


@given(st.text(max_size=300), st.integers(3, 100))
def test_a_quoted_text_is_safe_to_print(text: str, most: int) -> None:
    """It is one line of printable characters that every terminal can encode, and is cut."""
    for shown in (printable(text, most), quoted([text], most), quoted(Unprintable(), most)):
        assert len(shown) <= most
        assert shown.isprintable()
        shown.encode()


def test_a_quoted_text_is_the_text_if_that_is_safe() -> None:
    """Letters of every script stay as they are, and a value without a repr is named by its type."""
    assert printable("größe 大 'a'") == "größe 大 'a'"
    assert quoted("a\n" * 3, 12) == r"'a\na\na\n'"
    assert quoted(Unprintable()) == "a Unprintable"
