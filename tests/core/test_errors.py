"""Errors: what their texts say, and that they pickle."""

from __future__ import annotations

import pickle

import pytest

import funcnet as fn


@pytest.mark.parametrize("kind", [fn.FuncnetError, *fn.FuncnetError.__subclasses__()])
def test_errors_pickle_with_all_they_say(kind: type[fn.FuncnetError]) -> None:
    """An error from another process is the same value: class, message, subject, path and step."""
    error = kind("x must be small, got 3", subject="Dense").enter(0).enter(2).at_step(4)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # its own bytes
    assert type(again) is kind
    assert isinstance(again, ValueError)
    assert str(again) == str(error) == "step 4: Dense (layer 2.0): x must be small, got 3"
    assert (again.message, again.subject, again.path, again.step) == ("x must be small, got 3", "Dense", (2, 0), 4)
    assert repr(again) == repr(error)


def test_an_error_without_a_place_is_its_message() -> None:
    """The subject, the path and the step appear only where they are known."""
    assert str(fn.ShapeError("no")) == "no"
    assert str(fn.ShapeError("no").enter(1)) == "layer 1: no"
    assert str(fn.ShapeError("no").at_step(0)) == "step 0: no"
