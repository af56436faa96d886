"""Registered names: how files and fingerprints identify record types and functions, wherever these are defined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from funcnet.core.errors import ConfigError
from funcnet.core.records import Record

LATER: Final = {"funcnet": "later"}
"""Marks a field that is added to a registered record after release: ``attrs.field(default=..., metadata=LATER)``.

A field at its default is left out of the record's fingerprints and files. Existing fingerprints therefore stay valid,
and reading an older file fills in the default. The default is then as permanent as the record's name.
"""


Named: TypeAlias = Callable[..., object]
"""An object that can have a registered name: a record type, or a function such as a loss."""


_NAMES: Final[dict[Named, str]] = {}


_NAMED: Final[dict[str, Named]] = {}


def register_name(thing: Named, name: str | None = None) -> None:
    """Register the name that fingerprints and files use for a record type or a function.

    A name stands for one computation: if a function changes what it computes, give it a new name. ``register_layer``
    names layers; use this function for custom losses, optimizers and steps. Declare a field that you add to such a
    record later as ``attrs.field(default=..., metadata=funcnet.core.names.LATER)``. Fingerprints then stay the same and
    older files remain readable.

    Args:
        thing: A frozen attrs class or a function.
        name: The name; by default the module and the qualified name. An explicit name does not change when the thing
            moves to another module.

    Raises:
        ConfigError: If the thing already has a name, or if the name is already taken.

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
        raise ConfigError(f"{thing.__qualname__} is already registered as {_NAMES[thing]!r}")
    if name in _NAMED:
        raise ConfigError(f"the name {name!r} is taken by {_NAMED[name]!r}; pass a different name=")
    _NAMES[thing], _NAMED[name] = name, thing


def name_of(thing: Named) -> str:
    """Return the registered name of a record type or a function.

    Raises:
        ConfigError: If it is not registered.
    """
    if thing not in _NAMES:
        kind = thing.__qualname__
        fix = f"register_layer({kind}, ...)" if isinstance(thing, type) and issubclass(thing, Record) else ""
        raise ConfigError(f"{kind} is not registered; call {fix or f'register_name({kind})'}")
    return _NAMES[thing]


def named(name: str) -> Named:
    """Return the record type or function that is registered under a name.

    Raises:
        ConfigError: If the name is not registered.
    """
    if name not in _NAMED:
        raise ConfigError(f"the name {name!r} is not registered; import the module that registers it first")
    return _NAMED[name]
