"""Tracing: how a pure function becomes a program that is replayed on buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def recording() -> Any:
    """The tape of the trace that this thread is in; None outside of one."""
    return None


def whole(function: Callable[P, R]) -> Callable[P, R]:
    """Make a pure function one operation of a trace: it gets plain arrays and numbers, and may look at them."""
    return function


def attempt(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a pure function; in a trace, record it as one operation if it cannot be traced."""
    return function(*args, **kwargs)
