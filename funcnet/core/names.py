"""Names: how files and fingerprints call record types and functions, wherever these are defined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from funcnet.core.errors import ConfigError
from funcnet.core.records import Record

LATER: Final = {"funcnet": "later"}
"""Marks a field that a registered record gains after its release: ``attrs.field(default=..., metadata=LATER)``.

At its default the field is no part of the record's fingerprints and files: those stay, and older files are read, with
the default in its place. The default is then as permanent as the record's name.
"""


Named: TypeAlias = Callable[..., object]
"""What can have a name: a record type, or a function such as a loss."""


_NAMES: Final[dict[Named, str]] = {}


_NAMED: Final[dict[str, Named]] = {}


def register_name(thing: Named, name: str | None = None) -> None:
    """Give a record type or a function the name by which fingerprints and files know it.

    A name stands for what it names: give a function that computes something else another name. ``register_layer``
    names layers; this is for losses, optimizers and steps of your own. A field that such a record gains later is
    declared ``attrs.field(default=..., metadata=funcnet.core.names.LATER)``: fingerprints stay, older files are read.

    Args:
        thing: A frozen attrs class or a function.
        name: Default module and qualified name. With a name of its own, it can move to another module.

    Raises:
        ConfigError: If it has a name already, or another has this one.

    Example:
        >>> import funcnet as fn
        >>> from attrs import frozen
        >>> @frozen
        ... class Halving:
        ...     rate: float
        >>> fn.register_name(Halving, "example.Halving")
        >>> fn.fingerprint(Halving(0.5))[:8]
        '5d4abbeb'
    """
    name = name or f"{thing.__module__}.{thing.__qualname__}"
    if thing in _NAMES:
        raise ConfigError(f"{thing.__qualname__} is registered already, as {_NAMES[thing]!r}")
    if name in _NAMED:
        raise ConfigError(f"the name {name!r} is taken by {_NAMED[name]!r}; give another with name=")
    _NAMES[thing], _NAMED[name] = name, thing


def name_of(thing: Named) -> str:
    """The registered name of a record type or a function.

    Raises:
        ConfigError: If it has none.
    """
    if thing not in _NAMES:
        kind = thing.__qualname__
        fix = f"register_layer({kind}, ...)" if isinstance(thing, type) and issubclass(thing, Record) else ""
        raise ConfigError(f"{kind} is not registered; call {fix or f'register_name({kind})'}")
    return _NAMES[thing]


def named(name: str) -> Named:
    """The record type or function of a registered name.

    Raises:
        ConfigError: If there is none.
    """
    if name not in _NAMED:
        raise ConfigError(f"the name {name!r} is not registered; import the module that registers it first")
    return _NAMED[name]
