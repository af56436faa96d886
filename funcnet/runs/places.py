"""Places: the registered records and functions that a file may name at each place of a value.

The annotation of a built-in record's field decides. A file that names anything else there is refused before a
constructor runs. A field of a user's record that holds no network may contain everything that is registered.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from inspect import signature
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs
import numpy as np

from funcnet.core.names import Named
from funcnet.core.records import Record, fields_of
from funcnet.loops.steps import TrainState
from funcnet.optimizers.moments import Moments
from funcnet.optimizers.protocol import Optimizer


def allows_record(hint: Any, kind: type) -> bool:
    """Whether a place with this annotation may hold a record of this class.

    Example:
        >>> import funcnet as fn
        >>> allows_record(float | Callable[[int], float], type(fn.constant(0.1)))
        True
        >>> allows_record(float | Callable[[int], float], fn.ReLU)
        False
    """
    origin = get_origin(hint)
    if hint in (Any, object):
        return True
    if isinstance(hint, TypeVar):  # bound to Network, or the state of a Fit
        return issubclass(kind, Record) or (hint.__bound__ is None and kind is TrainState)
    if origin in (Union, UnionType, Annotated, tuple):
        return any(allows_record(part, kind) for part in get_args(hint))
    if origin is Callable:
        call = next((vars(base)["__call__"] for base in kind.__mro__ if "__call__" in vars(base)), None)
        return call is not None and not issubclass(kind, Record) and _fits(hint, call, bound=1)
    wanted = origin or hint
    if wanted is Optimizer:
        fields = [a.name for a in attrs.fields(cast("Any", kind))]
        return all(name in fields or callable(getattr(kind, name, None)) for name in ("init", "update"))
    return isinstance(wanted, type) and issubclass(kind, Record if wanted is Moments else wanted)


def allows_function(hint: Any, function: Named) -> bool:
    """Whether a place with this annotation may name this function. Constructors refuse functions in other places.

    Example:
        >>> import funcnet as fn
        >>> allows_function(float | Callable[[int], float], fn.softmax_cross_entropy)
        False
    """
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType, tuple) else (hint,)
    wanted = [part for part in parts if get_origin(part) is Callable]
    return not wanted or any(not isinstance(function, type) and _fits(part, function) for part in wanted)


def _fits(hint: Any, function: Named, bound: int = 0) -> bool:
    """Whether a function takes the arguments of a ``Callable[...]`` and can return its result."""
    arguments, result = get_args(hint)
    if arguments is ...:
        return True
    try:
        signature(function).bind(*[None] * (len(arguments) + bound))
    except TypeError:
        return False
    except ValueError:  # a function in C that does not state its signature
        return True
    return result is not float or _can_be_number(_hints(function).get("return", object))


def _can_be_number(hint: Any) -> bool:
    if hint in (Any, object):
        return True
    if get_origin(hint) in (Union, UnionType):
        return any(_can_be_number(part) for part in get_args(hint))
    return isinstance(hint, type) and issubclass(hint, int | float | np.number)


def annotations_in(kind: type) -> dict[str, Any]:
    """Return the annotations of a record's fields that limit what a file may name there.

    Example:
        >>> import funcnet as fn
        >>> annotations_in(fn.Dropout)
        {'rate': <class 'float'>, 'key': funcnet.random.keys.Key | None}
    """
    hints = _hints(kind)
    names = [a.name for a in attrs.fields(cast("Any", kind))]
    if f"{kind.__module__}.".startswith("funcnet."):
        return {name: hints.get(name, object) for name in names}
    limits: dict[str, Any] = dict.fromkeys(names, object)
    if issubclass(kind, Record):
        fields = fields_of(kind)
        limits |= dict.fromkeys(fields.networks + fields.fixed_networks, Record)
        limits |= dict.fromkeys(fields.arrays, np.ndarray)
    return limits


@lru_cache(maxsize=256)
def _hints(thing: Named) -> dict[str, Any]:
    try:
        return get_type_hints(thing)
    except (NameError, TypeError, AttributeError):  # names that are imported for type checkers alone
        return {}
