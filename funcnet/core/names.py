"""Registered names: how files and fingerprints identify record types and functions, wherever these are defined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias
from weakref import WeakSet

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


_REPLACED: Final[WeakSet[Named]] = WeakSet()
"""The earlier definitions of what was defined again in ``__main__``."""


def register_name(thing: Named, name: str | None = None) -> None:
    """Register the name that fingerprints and files use for a record type or a function.

    A name stands for one computation: if a function changes what it computes, give it a new name. ``register_layer``
    names layers; use this function for custom losses, optimizers and steps. Declare a field that you add to such a
    record later as ``attrs.field(default=..., metadata=funcnet.core.names.LATER)``. Fingerprints then stay the same and
    older files remain readable.

    In ``__main__``, as in a notebook or at the prompt, a new definition of the same qualified name replaces the old
    one, so that a cell can run again. The old definition then has no name.

    Args:
        thing: A frozen attrs class or a function.
        name: The name; by default the module and the qualified name. An explicit name does not change when the thing
            moves to another module.

    Raises:
        ConfigError: If the thing already has a name, or if the name is already taken, by another definition than an
            earlier one in ``__main__``.

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
    give_name(thing, name)


def give_name(thing: Named, name: str | None) -> Named | None:
    """Do what ``register_name`` does; return the earlier definition that the thing replaces, which may be itself."""
    name = name or f"{thing.__module__}.{thing.__qualname__}"
    old = _NAMED.get(name)
    if old is None or not _is_again(thing, old):
        if thing in _NAMES:
            raise ConfigError(f"{thing.__qualname__} is already registered as {_NAMES[thing]!r}")
        if old is not None:
            raise ConfigError(f"the name {name!r} is taken by {old!r}; pass a different name=")
    elif old is not thing:
        del _NAMES[old]
        _REPLACED.add(old)
    _NAMES[thing], _NAMED[name] = name, thing
    return old


def _is_again(thing: Named, old: Named) -> bool:
    """Whether the thing is a further definition of ``old`` in ``__main__``."""
    places = ((each.__module__, each.__qualname__) for each in (thing, old))
    return set(places) == {("__main__", thing.__qualname__)}


def is_replaced(thing: Named) -> bool:
    """Whether the thing was registered, and then defined and registered again in ``__main__``."""
    return thing in _REPLACED


def name_of(thing: Named) -> str:
    """Return the registered name of a record type or a function.

    Raises:
        ConfigError: If it is not registered.
    """
    if thing not in _NAMES:
        kind = thing.__qualname__
        if is_replaced(thing):
            raise ConfigError(f"{kind} is an earlier definition of {kind}; create the value again with the new one")
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
