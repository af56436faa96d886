"""Records: frozen attrs classes whose fields have roles. Every layer is one: locked arrays, a short repr, pickling.

The annotation of a field states its role. An ``Array`` is trained, a ``Weight`` is trained and decayed, and a
``Statistic`` is neither. A ``Mask`` is the statistic that ``masked`` sets. A type variable or a layer type holds a
network, and ``Annotated[..., "fixed"]`` around it excludes that network from training. Every other field is structure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from types import FunctionType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs
import numpy as np
from attrs import frozen

from funcnet.core.arrays import ARRAY_TYPES, DECAYED, FIXED, MASK, AnyArray, Array, adopt, describe, is_canonical
from funcnet.core.checks import check_array, to_python
from funcnet.core.errors import ConfigError, DTypeError, ShapeError, StructureError, quoted


@frozen(eq=False)
class Settings:
    """The base class of every record with settings: converts NumPy numbers to Python numbers, then calls ``check``."""

    def __attrs_post_init__(self) -> None:
        convert_settings(self, (a.name for a in attrs.fields(type(self))))
        self.check()

    def check(self) -> None:
        """Raise if a setting is invalid."""


def convert_settings(record: object, names: Iterable[str]) -> None:
    """Convert the NumPy numbers in these fields of a new record to Python numbers; see ``to_python``."""
    for name in names:
        given: object = getattr(record, name)
        made = to_python(given)
        if made is not given:
            object.__setattr__(record, name, made)


@frozen(eq=False)
class Record(Settings):
    """The base class of every layer. It locks arrays, has a short repr, and pickles through the constructor.

    Its settings are the fields that hold neither an array nor a network.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()

        def short(self: Record) -> str:
            return _record_repr(self)

        if "__repr__" not in cls.__dict__:  # the repr that attrs would generate prints whole arrays
            type.__setattr__(cls, "__repr__", short)
        if "__attrs_attrs__" in cls.__dict__:  # attrs makes the class a second time, with slots and a constructor
            type.__setattr__(cls, "__init__", _refusing_sizes(cls, cls.__dict__["__init__"]))

    def __attrs_post_init__(self) -> None:
        fields = fields_of(type(self))
        dtype = None
        for name in fields.arrays:
            value = cast("Array", getattr(self, name))
            if value is None and name in fields.optional:
                continue
            check_array(type(self).__name__, name, value, ("...",), dtype=dtype, match=(fields.arrays[0], value))
            if value.ndim == 0:
                fix = "got a 0-d array; use shape (1,)"
                raise ShapeError(f"{name} must have at least one axis, {fix}", subject=type(self).__name__)
            dtype = value.dtype
            if not is_canonical(value):
                object.__setattr__(self, name, adopt(value))
        if fields.every_network:
            check_nesting(type(self).__name__, self)
        for name in fields.every_network:
            check_tree(type(self).__name__, getattr(self, name))
        convert_settings(self, fields.structure)
        self.check()

    def check(self) -> None:
        """Raise if the fields do not fit each other. Check ranks, shapes and structure, never the arrays' values."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return _rebuild, (type(self), {a.alias: getattr(self, a.name) for a in attrs.fields(type(self))})

    def __repr__(self) -> str:
        return _record_repr(self)


def _refusing_sizes(kind: type[Record], init: Callable[..., None]) -> Callable[..., None]:
    """Return the constructor with advice for sizes in place of arrays: ``Dense(64, 10)`` is ``dense(key, 64, 10)``."""

    @wraps(init)
    def checked(self: Record, *args: object, **fields: object) -> None:
        try:
            init(self, *args, **fields)
        except (TypeError, DTypeError):  # a TypeError if there are more or fewer sizes than arrays
            _check_are_no_sizes(kind, [*args, *fields.values()])
            raise

    return checked


def _check_are_no_sizes(kind: type[Record], given: list[object]) -> None:
    """Check that the first argument of a constructor is not a size where an array must be.

    Raises:
        DTypeError: If it is. The message names the function that creates such a record: ``dense`` for ``Dense``.
    """
    make, fields, values = _creator(kind), fields_of(kind), [to_python(value) for value in given]
    if make is None or fields.names[:1] != fields.arrays[:1] or not values or not isinstance(values[0], int):
        return
    names = required(make)
    sizes = [str(size) for size in values if isinstance(size, int)]
    if len(sizes) == len(values) == len(names) - names.count("key"):
        names = [name for name in names if name == "key"] + sizes
    fix = f"to create the layer, use {public_name(make)}({', '.join(names)})"
    wanted = f"{fields.arrays[0]} must be a plain NumPy array, got {values[0]}"
    raise DTypeError(f"{wanted}; {fix}", subject=kind.__name__) from None


def _creator(kind: type[Record]) -> Callable[..., object] | None:
    """Return the function of a record's module that has the record's name in lower case, such as ``layer_norm``."""
    functions = vars(sys.modules.get(kind.__module__, object)).items()
    spelled = (make for word, make in functions if word.replace("_", "") == kind.__name__.lower())
    return next((make for make in spelled if isinstance(make, FunctionType)), None)


def public_name(function: Callable[..., object]) -> str:
    """Return the name by which a caller calls a function: ``fn.dense`` for one of funcnet."""
    is_ours = function.__module__.startswith("funcnet.")
    return f"fn.{function.__name__}" if is_ours else function.__name__


def required(function: Callable[..., object]) -> list[str]:
    """Return the names of the parameters that have no default."""
    from inspect import signature  # noqa: PLC0415  # 8 ms of import time

    return [each.name for each in signature(function).parameters.values() if each.default is each.empty]


R = TypeVar("R", bound=Record)

Tree: TypeAlias = "Record | tuple[Tree, ...]"
"""A record or a tuple of trees: the type that every function in ``trees.py`` traverses."""


if TYPE_CHECKING:
    from attrs import evolve as evolve  # noqa: PLC0414  # re-exported
else:

    def evolve(record: Record, **changes: object) -> Record:
        """Do the same as ``attrs.evolve``, but faster if only arrays are replaced by arrays.

        The constructor checks types, ranks, shapes and dtypes. A canonical array with the shape and dtype of the array
        that it replaces needs no check, nor does a None that replaces None, and the unchanged fields have been checked
        before.
        """
        if not isinstance(record, Record):
            return attrs.evolve(record, **changes)
        fields = fields_of(type(record))
        for name, new in changes.items():
            old = getattr(record, name, None)
            if name in fields.optional and new is old is None:
                continue
            if name not in fields.arrays or type(new) not in ARRAY_TYPES or old is None:
                return attrs.evolve(record, **changes)
            if new.shape != old.shape or new.dtype != old.dtype or not is_canonical(new):
                return attrs.evolve(record, **changes)
        return replace_unchecked(record, changes)


def replace_unchecked(record: R, changes: dict[str, Any]) -> R:
    """Return the record with some fields replaced. The new values are not checked, adopted or locked."""
    clone = object.__new__(type(record))
    for name in fields_of(type(record)).names:
        object.__setattr__(clone, name, changes[name] if name in changes else getattr(record, name))
    return clone


def _rebuild(record: type[Record], values: dict[str, object]) -> Record:
    return record(**values)


def _record_repr(record: Record) -> str:
    values = ((a.name, getattr(record, a.name)) for a in attrs.fields(type(record)) if a.repr)
    inside = ", ".join(f"{name}={shown(value)}" for name, value in values)
    return f"{type(record).__name__}({inside})"


def shown(value: object) -> str:
    """Return the short repr of a field: an array is its dtype and shape."""
    return describe(cast("AnyArray", value)) if isinstance(value, np.ndarray) else repr(value)


NESTING: Final = 64
"""The largest number of levels of a network: each tuple, and each record that holds a network, adds one level."""


def check_nesting(subject: str, value: object) -> None:
    """Check that a network has at most ``NESTING`` levels, so that every recursive function can traverse it.

    Every public function that takes a network calls it, and every record that holds a network.

    Raises:
        StructureError: If it has more.

    Example:
        >>> import funcnet as fn
        >>> net = fn.ReLU()
        >>> for _ in range(65):
        ...     net = (net,)
        >>> check_nesting("forward", net)
        Traceback (most recent call last):
        funcnet.StructureError: forward: a network must have at most 64 levels of tuples and combinators, got more
    """
    level: list[Any] = [value]
    for _ in range(NESTING + 1):
        inside: list[Any] = []
        for outer in level:
            if isinstance(outer, tuple):
                inside += outer
            elif isinstance(outer, Record):
                for name in fields_of(type(outer)).every_network:
                    inside.append(getattr(outer, name))  # most layers hold no network
        if not inside:
            return
        level = inside
    wanted = f"a network must have at most {NESTING} levels of tuples and combinators, got more"
    raise StructureError(wanted, subject=subject)


def check_tree(subject: str, value: object) -> None:
    """Check that a value is a record or a (nested) tuple of records, with at most ``NESTING`` levels.

    Raises:
        StructureError: If it is not. The message states the path and the value that is not a layer.
    """
    check_nesting(subject, value)
    for path, stranger in _strangers(value):
        given = _given(stranger)
        fix = "; pass model.as_network() or model.network_" if hasattr(stranger, "network_") else ""  # an estimator
        is_state = hasattr(stranger, "params") and hasattr(stranger, "moments")
        fix = "; use state.params" if is_state else fix  # TrainState is in a later folder
        fix = "; use a tuple" if isinstance(stranger, list) else fix
        fix = f"; use {stranger.__name__}()" if isinstance(stranger, type) else fix
        if isinstance(stranger, np.ndarray) and not path:
            fix = "; the network comes before the data, as in forward(net, x)"
        wanted = f"a network is a layer or a tuple of networks, got {given}{fix}"
        error = StructureError(wanted, subject=subject)
        error.path = path
        raise error


def _given(value: object) -> str:
    return f"array of {describe(cast('AnyArray', value))}" if isinstance(value, np.ndarray) else quoted(value)


def _strangers(value: object, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], object]]:
    """Yield the path and the value of everything in a nested tuple that is not a record."""
    if isinstance(value, tuple):
        for position, inner in enumerate(cast("tuple[object, ...]", value)):
            yield from _strangers(inner, (*path, position))
    elif not isinstance(value, Record):
        yield path, value


# ---------------------------------------------------------------------------------------------------- roles


@frozen
class Fields:
    """The names of a record's fields: all of them, and those of each role."""

    names: tuple[str, ...]
    trained: tuple[str, ...]
    decayed: frozenset[str]
    statistics: tuple[str, ...]
    masks: tuple[str, ...]
    networks: tuple[str, ...]
    fixed_networks: tuple[str, ...]
    every_network: tuple[str, ...]
    structure: tuple[str, ...]
    arrays: tuple[str, ...]
    optional: frozenset[str]


_FIELDS: Final[dict[type[Record], Fields]] = {}


def fields_of(record: type[Record]) -> Fields:
    """Read the roles of a record's fields from their annotations, once per record type.

    Raises:
        ConfigError: If an annotation cannot be read at run time, is ``np.ndarray``, which does not state a role, or is
            a ``Mask`` that cannot be None.
    """
    fields = _FIELDS.get(record)
    if fields is None:
        fields = _FIELDS[record] = _read_fields(record)
    return fields


def _read_fields(record: type[Record]) -> Fields:
    hints = _hints(record)
    for a in attrs.fields(record):
        if _says_no_role(hints[a.name]):
            fix = "annotate it as fn.Array (trained), fn.Weight (trained, decayed) or fn.Statistic (not trained)"
            raise ConfigError(f"{a.name} is a np.ndarray, which does not state a role; {fix}", subject=record.__name__)
    kinds = {a.name: _kind(hints[a.name]) for a in attrs.fields(record)}
    for name, kind in kinds.items():
        if kind == ("array", MASK) and not _may_be_none(hints[name]):
            fix = "annotate it as fn.Mask | None, since a network without masks has None there"
            raise ConfigError(f"{name} is a fn.Mask that must not be None; {fix}", subject=record.__name__)

    def names(*wanted: tuple[str, str]) -> tuple[str, ...]:
        return tuple(name for name, kind in kinds.items() if kind in wanted)

    return Fields(
        names=tuple(kinds),
        trained=names(("array", ""), ("array", DECAYED)),
        decayed=frozenset(names(("array", DECAYED))),
        statistics=names(("array", FIXED), ("array", MASK)),
        masks=names(("array", MASK)),
        networks=names(("network", "")),
        fixed_networks=names(("network", FIXED)),
        every_network=names(("network", ""), ("network", FIXED)),
        structure=tuple(name for name, kind in kinds.items() if kind[0] == "structure"),
        arrays=tuple(name for name, kind in kinds.items() if kind[0] == "array"),
        optional=frozenset(name for name in kinds if _may_be_none(hints[name])),
    )


def _hints(record: type[Record]) -> dict[str, Any]:
    # The alias Network refers to itself and to Layer by name, which the record's own module may not define.
    for names in ({}, {"Layer": Record, "Network": Record}):
        try:
            return get_type_hints(record, localns=names, include_extras=True)
        except NameError as error:
            missing = error.name
    raise ConfigError(f"import {missing} at run time; roles are read from annotations", subject=record.__name__)


def _says_no_role(hint: Any) -> bool:
    """Whether an annotation is ``np.ndarray`` without a dtype, or a union that contains it."""
    if get_origin(hint) in (Union, UnionType, Annotated):
        return any(_says_no_role(part) for part in get_args(hint))
    return hint is np.ndarray


def _may_be_none(hint: Any) -> bool:
    """Whether an annotation is ``... | None``."""
    hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return get_origin(hint) in (Union, UnionType) and type(None) in get_args(hint)


def _kind(hint: Any) -> tuple[str, str]:
    """Return what a field holds ("array", "network" or "structure") and its role ("" or one of the marks)."""
    role = ""
    if get_origin(hint) is Annotated:
        hint, *marks = get_args(hint)
        role = next((mark for mark in marks if mark in (DECAYED, FIXED, MASK)), "")
    hint = getattr(
        get_origin(hint) or hint, "__value__", hint
    )  # since NumPy 2.5, NDArray is an alias made by a "type" statement
    if get_origin(hint) in (Union, UnionType):
        inner = [_kind(part) for part in get_args(hint) if part is not type(None)]
        kind, inner_role = next((found for found in inner if found[0] != "structure"), ("structure", ""))
        return kind, role or inner_role
    if get_origin(hint) is np.ndarray:
        return "array", role
    return ("network" if _holds_network(hint) else "structure"), role


def _holds_network(hint: Any) -> bool:
    if isinstance(hint, TypeVar):
        return True
    if get_origin(hint) is tuple:
        return any(_holds_network(part) for part in get_args(hint))
    kind = get_origin(hint) or hint
    return isinstance(kind, type) and issubclass(kind, Record)
