"""Structures: a value split into a JSON structure and its arrays by path, for fingerprints and files.

A value is None, a bool, an int, a float, a string, a NumPy number, an array, a tuple of values, a registered record of
values, or a registered name. In a structure, None, bools, ints and strings appear unchanged, a tuple is a list, and
everything else is an object with one entry, whose key names the kind. A field declared with ``field(eq=False)`` is not
part of a value: an executor, for example, which changes no bit. A field that was added to a record after its release,
``field(default=..., metadata=LATER)``, appears only if it differs from its default, so the record's fingerprints do
not change and older files can be read. ``Moments`` appear as the tuple of their networks; their optimizer, which is
stored next to them, gives the names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import attrs
import numpy as np

from funcnet.core.arrays import AnyArray
from funcnet.core.errors import CheckpointError, ConfigError, FuncnetError
from funcnet.core.names import LATER, Named, name_of, named
from funcnet.network.layer import Network
from funcnet.optimizers.moments import Moments

if TYPE_CHECKING:
    from collections.abc import Sequence

Path: TypeAlias = "tuple[str, ...]"
Node: TypeAlias = "bool | int | str | Sequence[Node] | Mapping[str, Node] | None"

DEPTH: Final = 100
INT_BITS: Final = 4096
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
        return _take_apart(cast("Moments[Network]", value).networks, path, arrays)
    if kind is np.ndarray:
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


def put_together(node: Node, arrays: Mapping[str, AnyArray]) -> object:
    """Build the value from a structure and its arrays: the exact inverse of ``take_apart``.

    Only registered records are created, through their constructors, which check their arguments.

    Raises:
        CheckpointError: If the structure is invalid, names something unregistered, or a constructor refuses it.

    Example:
        >>> import funcnet as fn
        >>> put_together(*take_apart((fn.ReLU(), fn.Dropout(0.5)), "example"))
        (ReLU(), Dropout(rate=0.5, key=None))
    """
    value = _put_together(node, (), arrays)
    again, used = take_apart(value, "")
    if canonical(again) != canonical(node) or used.keys() != arrays.keys():
        raise CheckpointError("its structure does not match its arrays")
    return value


def _put_together(node: object, path: Path, arrays: Mapping[str, AnyArray]) -> object:
    if len(path) > DEPTH:
        raise CheckpointError(f"its structure is more than {DEPTH} levels deep")
    if node is None or type(node) in (bool, int, str):
        return node
    if isinstance(node, list):
        parts = enumerate(cast("list[object]", node))
        return tuple(_put_together(inner, (*path, str(position)), arrays) for position, inner in parts)
    entries = list(cast("dict[str, object]", node).items()) if isinstance(node, dict) else []
    if len(entries) != 1 or entries[0][0] not in _MAKERS:
        raise CheckpointError(f"{place(path)} has an unknown form, got {node!r:.80}")
    tag, content = entries[0]
    try:
        return _MAKERS[tag](content, path, arrays)
    except CheckpointError:
        raise
    except FuncnetError as error:
        raise CheckpointError(f"{place(path)}: {error}") from error
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{place(path)} is not a valid {tag}: {error}") from error


def _make_record(content: Any, path: Path, arrays: Mapping[str, AnyArray]) -> object:
    name, inside = content
    kind = named(name)
    if not isinstance(kind, type) or not attrs.has(kind):
        raise CheckpointError(f"{place(path)}: the name {name!r} does not belong to a record")
    fields = [a for a in _fields(kind) if a.name in inside or not _is_later(a)]
    if list(inside) != [a.name for a in fields]:
        wanted = ", ".join(a.name for a in _fields(kind))
        raise CheckpointError(f"{place(path)}: {name} must have the fields ({wanted}), got ({', '.join(inside)})")
    made = {a.alias or a.name: _put_together(inside[a.name], (*path, a.name), arrays) for a in fields}
    return kind(**made)


def _make_array(_: Any, path: Path, arrays: Mapping[str, AnyArray]) -> object:
    if ".".join(path) not in arrays:
        raise CheckpointError(f"there is no array {'.'.join(path)!r}")
    return arrays[".".join(path)]


def _make_scalar(content: Any, path: Path, __: Mapping[str, AnyArray]) -> object:
    name, digits = content
    if name not in DTYPES:
        raise CheckpointError(f"{place(path)} is not a scalar: unknown dtype {name!r:.80}")
    (number,) = np.frombuffer(bytes.fromhex(digits), np.dtype(name).newbyteorder("<"))
    return number


_MAKERS: Final[dict[str, Callable[[Any, Path, Mapping[str, AnyArray]], object]]] = {
    "float": lambda content, _, __: float.fromhex(content),
    "scalar": _make_scalar,
    "array": _make_array,
    "record": _make_record,
    "name": lambda content, _, __: named(content),
}
