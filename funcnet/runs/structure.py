"""Structures: a value split into a JSON structure and its arrays by path, for fingerprints and files.

A value is None, a bool, an int, a float, a string, a NumPy number, an array, a tuple of values, a registered record of
values, or a registered name. In a structure, None, bools, ints and strings appear unchanged, a tuple is a list, and
everything else is an object with one entry, whose key names the kind. A field declared with ``field(eq=False)`` is not
part of a value: an executor, for example, which changes no bit. A field that was added to a record after its release,
``field(default=..., metadata=LATER)``, appears only if it differs from its default, so the record's fingerprints do
not change and older files can be read. ``Moments`` appear as the tuple of their networks, followed by their total if
they have one; their optimizer, which is stored next to them, gives the names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import attrs
import numpy as np
from attrs import frozen

from funcnet.core.arrays import AnyArray
from funcnet.core.checks import to_python
from funcnet.core.errors import CheckpointError, ConfigError, FuncnetError, printable, quoted
from funcnet.core.names import LATER, Named, name_of, named
from funcnet.network.layer import Network
from funcnet.optimizers.moments import Moments
from funcnet.runs.places import allows_function, allows_record, annotations_in
from funcnet.runs.strict_json import is_list, is_object

if TYPE_CHECKING:
    from collections.abc import Sequence

Path: TypeAlias = "tuple[str, ...]"
Node: TypeAlias = "bool | int | str | Sequence[Node] | Mapping[str, Node] | None"

DEPTH: Final = 100
INT_BITS: Final = 4096
LONGEST_REASON: Final = 400
_FLOATS: Final = ("float16", "float32", "float64")
_INTS: Final = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
DTYPES: Final = frozenset({"bool", *_INTS, *_FLOATS})


def canonical(node: Node) -> bytes:
    """Return a structure as ASCII text: equal structures give equal text."""
    return json.dumps(node, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def raw(array: AnyArray) -> memoryview:
    """Return an array's elements as bytes, in C order, little-endian."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def take_apart(value: object, subject: str) -> tuple[Node, dict[str, AnyArray]]:
    """Split a value into its structure and its arrays by path, in the order of its tuples and fields.

    Raises:
        ConfigError: If something in it is not a value; the message says what, where, and how to fix it.

    Example:
        >>> import funcnet as fn
        >>> take_apart((fn.ReLU(), fn.Dropout(0.5)), "example")[0][1]
        {'record': ['funcnet.Dropout', {'rate': {'float': '0x1.0000000000000p-1'}, 'key': None}]}
    """
    arrays: dict[str, AnyArray] = {}
    try:
        return _take_apart(value, (), arrays), arrays
    except ConfigError as error:
        error.subject = subject
        raise


def place(path: Path) -> str:
    """Return the place of something in a value, for messages."""
    return ".".join(path) or "the value"


def _take_apart(value: object, path: Path, arrays: dict[str, AnyArray]) -> Node:
    if len(path) > DEPTH:
        raise ConfigError(f"a value must be at most {DEPTH} levels deep, got more")
    kind = type(value)
    if kind is tuple:
        parts = enumerate(cast("tuple[object, ...]", value))
        return [_take_apart(inner, (*path, str(position)), arrays) for position, inner in parts]
    if kind is Moments:
        moments = cast("Moments[Network]", value)
        total = () if moments.total is None else (float(moments.total),)
        return _take_apart((*moments.networks, *total), path, arrays)
    if kind in (np.ndarray, np.memmap):
        arrays[".".join(path)] = _checked(cast("AnyArray", value), path)
        array = arrays[".".join(path)]
        return {"array": [array.dtype.name, list(array.shape)]}
    if isinstance(value, type | FunctionType | BuiltinFunctionType):
        return {"name": _name(value, path)}
    if attrs.has(kind):
        inside: dict[str, Node] = {}
        for a in _fields(kind):
            here = getattr(value, a.name)
            if not (_is_later(a) and _is_default(here, a, (*path, a.name))):
                inside[a.name] = _take_apart(here, (*path, a.name), arrays)
        return {"record": [_name(kind, path), inside]}
    return _plain(value, path)


def _fields(kind: type[attrs.AttrsInstance]) -> list[attrs.Attribute[object]]:
    return [a for a in attrs.fields(kind) if a.eq]


def _is_later(field: attrs.Attribute[object]) -> bool:
    return all(field.metadata.get(key) == mark for key, mark in LATER.items())


def _is_default(value: object, field: attrs.Attribute[object], path: Path) -> bool:
    """Whether a later field has its default: None, a bool, an int, a float, a string or a tuple of them.

    Raises:
        ConfigError: If the field has no such default.
    """
    held: dict[str, AnyArray] = {}
    default = None if field.default is attrs.NOTHING else _take_apart(field.default, path, held)
    if held or field.default is attrs.NOTHING:
        raise ConfigError(f"{place(path)}: a field that was added later must have a default that is not an array")
    arrays: dict[str, AnyArray] = {}
    return canonical(_take_apart(value, path, arrays)) == canonical(default)


def _plain(value: object, path: Path) -> Node:
    if value is None or type(value) is bool or type(value) is str:
        return value
    if type(value) is int and value.bit_length() <= INT_BITS:
        return value
    if type(value) is float:
        return {"float": value.hex()}
    number: AnyArray | None = np.asarray(value) if _is_number(value) else None
    if number is not None and number.dtype.name in DTYPES:
        return {"scalar": [number.dtype.name, bytes(raw(number)).hex()]}
    raise _not_a_value(value, path)


def _is_number(value: object) -> bool:
    return isinstance(value, np.generic)


def _checked(array: AnyArray, path: Path) -> AnyArray:
    if array.dtype.name not in DTYPES:
        kinds = "bools, ints or floats of at most 64 bits"
        raise ConfigError(f"{place(path)} must be an array of {kinds}, got {array.dtype}")
    return array


def _name(thing: Named, path: Path) -> str:
    try:
        return name_of(thing)
    except ConfigError as error:
        raise ConfigError(f"{place(path)}: {error.message}") from None


def _not_a_value(value: object, path: Path) -> ConfigError:
    fixes: dict[type, str] = {
        list: "use a tuple",
        range: "use tuple(...)",
        dict: "use a frozen attrs class, named with register_name",
        set: "use a tuple, sorted",
        np.str_: "use str(...)",
        int: f"use one of at most {INT_BITS} bits",
        np.ma.MaskedArray: "use .filled(...)",
    }
    fix = fixes.get(type(value), "use a frozen attrs class, named with register_name")
    shown = "a larger int" if type(value) is int else f"{value!r:.80}"
    return ConfigError(f"{place(path)} must be an array, a number, a string, a record or a tuple, got {shown}; {fix}")


# ---------------------------------------------------------------------------------------- putting together


def put_together(node: Node, arrays: Mapping[str, AnyArray], wanted: Any = object) -> object:
    """Build the value from a structure and its arrays: the exact inverse of ``take_apart``.

    Only registered records are created, through their constructors, which check their arguments. A record or a function
    in a place whose annotation does not allow it is refused before its constructor runs.

    Args:
        node: The structure.
        arrays: The arrays by path.
        wanted: The annotation of the whole value.

    Raises:
        CheckpointError: If the structure is invalid, names something unregistered or not allowed in its place, or a
            constructor refuses it.

    Example:
        >>> import funcnet as fn
        >>> put_together(*take_apart((fn.ReLU(), fn.Dropout(0.5)), "example"))
        (ReLU(), Dropout(rate=0.5, key=None))
    """
    value = _put_together(node, _Place((), wanted, arrays))
    again, used = take_apart(value, "")
    if canonical(_converted(again)) != canonical(_converted(node)) or used.keys() != arrays.keys():
        raise CheckpointError("its structure does not match its arrays")
    return value


def _converted(node: Any) -> Any:
    """Return a structure with Python numbers: a file may hold a NumPy number as a setting, which records convert."""
    if isinstance(node, list):
        return [_converted(inner) for inner in cast("list[object]", node)]
    if not isinstance(node, dict):
        return node
    entries = cast("dict[str, Any]", node)
    if entries.keys() == {"scalar"}:
        return _plain(to_python(_make_scalar(entries["scalar"], _Place((), object, {}))), ())
    return {key: _converted(inner) for key, inner in entries.items()}


@frozen
class _Place:
    """A place in a value that is being built: its path, the annotation that limits it, and the arrays of the value."""

    path: Path
    wanted: Any
    arrays: Mapping[str, AnyArray]

    def inner(self, part: str, wanted: Any) -> _Place:
        return _Place((*self.path, part), wanted, self.arrays)

    def __str__(self) -> str:
        return place(self.path)


def _put_together(node: object, at: _Place) -> object:
    if len(at.path) > DEPTH:
        raise CheckpointError(f"its structure is more than {DEPTH} levels deep")
    if node is None or type(node) in (bool, int, str):
        return node
    if is_list(node):
        inside: list[object] = []
        for position, inner in enumerate(node):
            inside.append(_put_together(inner, at.inner(str(position), at.wanted)))
        return tuple(inside)
    entries = list(node.items()) if is_object(node) else []
    if len(entries) != 1 or entries[0][0] not in _MAKERS:
        raise CheckpointError(f"{at} has an unknown form, got {quoted(node)}")
    tag, content = entries[0]
    try:
        return _MAKERS[tag](content, at)
    except (CheckpointError, MemoryError):
        raise
    except FuncnetError as error:
        raise CheckpointError(f"{at}: {printable(error, LONGEST_REASON)}") from error
    except Exception as error:  # a constructor can raise anything
        raise CheckpointError(f"{at} is not a valid {tag}: {printable(error, LONGEST_REASON)}") from error


def _make_record(content: Any, at: _Place) -> object:
    name, inside = content
    kind = named(name)
    if not isinstance(kind, type) or not attrs.has(kind):
        raise CheckpointError(f"{at}: the name {quoted(name)} does not belong to a record")
    fields = [a for a in _fields(kind) if a.name in inside or not _is_later(a)]
    if list(inside) != [a.name for a in fields]:
        wanted = ", ".join(a.name for a in _fields(kind))
        got = printable(", ".join(inside))
        raise CheckpointError(f"{at}: {name} must have the fields ({wanted}), got ({got})")
    if not allows_record(at.wanted, kind):
        raise CheckpointError(f"{at}: a {name} cannot be in this place")
    limits, made = annotations_in(kind), dict[str, object]()
    for a in fields:
        made[a.alias or a.name] = _put_together(inside[a.name], at.inner(a.name, limits[a.name]))
    return kind(**made)


def _make_name(content: Any, at: _Place) -> object:
    thing = named(content)
    if not allows_function(at.wanted, thing):
        raise CheckpointError(f"{at}: {content} cannot be in this place, because it is not a function of that kind")
    return thing


def _make_array(_: Any, at: _Place) -> object:
    if ".".join(at.path) not in at.arrays:
        raise CheckpointError(f"there is no array {'.'.join(at.path)!r}")
    return at.arrays[".".join(at.path)]


def _make_scalar(content: Any, at: _Place) -> object:
    name, digits = content
    if name not in DTYPES:
        raise CheckpointError(f"{at} is not a scalar: unknown dtype {quoted(name)}")
    (number,) = np.frombuffer(bytes.fromhex(digits), np.dtype(name).newbyteorder("<"))
    return number


_MAKERS: Final[dict[str, Callable[[Any, _Place], object]]] = {
    "float": lambda content, _: float.fromhex(content),
    "scalar": _make_scalar,
    "array": _make_array,
    "record": _make_record,
    "name": _make_name,
}
