"""The extension for IPython, ``%load_ext funcnet``: a notebook shows a network as a table."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import Any, Protocol, cast

from funcnet.core.errors import StructureError
from funcnet.core.html import network_table
from funcnet.core.records import check_tree
from funcnet.network.layer import Network


class _Formatter(Protocol):
    def for_type(self, kind: type[Any], show: Callable[[Any], str | None], /) -> object: ...


class _Formatters(Protocol):
    @property
    def formatters(self) -> dict[str, Any]: ...


class _Shell(Protocol):
    @property
    def display_formatter(self) -> _Formatters: ...


def load_ipython_extension(shell: _Shell) -> None:
    """Show tuples of layers as tables, in the notebook of this shell; ``%load_ext funcnet`` calls it.

    A network is a tuple, and cannot have a method that makes a table, as a layer has. Other tuples are left to IPython.
    """
    formatter: _Formatter = shell.display_formatter.formatters["text/html"]
    formatter.for_type(tuple, show_tuple)


def show_tuple(value: tuple[object, ...]) -> str | None:
    """Return the table of a network; None for another tuple, or what its own type makes.

    Example:
        >>> import funcnet as fn
        >>> show_tuple(()), show_tuple((fn.ReLU(), 1)), "ReLU" in show_tuple((fn.ReLU(),))
        (None, None, True)
    """
    if hasattr(type(value), "_repr_html_"):  # a subclass, such as a named tuple
        return cast("str | None", methodcaller("_repr_html_")(value))
    if not value:
        return None
    try:
        check_tree("load_ipython_extension", value)
    except StructureError:
        return None
    return network_table(cast("Network", value))
