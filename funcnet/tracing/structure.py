"""The structure of arguments and results: trees of records and tuples whose leaves are arrays and numbers.

A record is an instance of any frozen attrs class. Everything else in a tree (None, bools, strings, functions, ...) is
part of its structure.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import cache
from types import MethodType
from typing import Any, Final, TypeVar

import attrs
import numpy as np
from attrs import field, frozen

from funcnet.tracing.ducks import TUPLE, Number, Traced
from funcnet.tracing.recorder import is_array, kind_of, layout, raw

T = TypeVar("T")

_ARRAYS: Final = (np.ndarray, Traced)
_NUMBERS: Final = {int, float, *(np.dtype(code).type for code in f"{np.typecodes['AllInteger']}efd")}
_LEAVES: Final = {np.ndarray, Traced, Number, *_NUMBERS}
BY_VALUE: Final = {str, bytes, bool, type(None), type}
"""Types whose objects are compared by value. Equal objects of other types may compute different numbers."""


@frozen
class Same:
    """A key that equals only a key of the same object."""

    thing: object = field(eq=id)


@cache
def fields_of(kind: Any) -> tuple[str, ...]:
    """Return the names of a record type's fields; an empty tuple for other types."""
    return tuple(a.name for a in attrs.fields(kind)) if attrs.has(kind) else ()


def children_of(tree: Any) -> list[Any]:
    """Return the parts of a tuple or a record, in order; an empty list for anything else."""
    kind = kind_of(tree)
    return list(tree) if issubclass(kind, TUPLE) else [getattr(tree, name) for name in fields_of(kind)]


def is_leaf(thing: object) -> bool:
    """Return whether a part of a tree is an array or a number."""
    return type(thing) in _LEAVES


def map_leaves(f: Callable[[Any], Any], tree: T) -> T:
    """Return the tree with ``f`` applied to each leaf, in order; a part without a new leaf remains the same object."""
    if is_leaf(tree):
        result: T = f(tree)
        return result
    kind, parts = kind_of(tree), children_of(tree)
    new = [map_leaves(f, part) for part in parts]
    if all(a is b for a, b in zip(parts, new, strict=True)):
        return tree
    if issubclass(kind, TUPLE):
        made: T = TUPLE.__new__(kind, new)
        return made
    record: T = object.__new__(kind)
    for name, value in zip(fields_of(kind), new, strict=True):
        object.__setattr__(record, name, value)
    return record


def leaves_of(tree: object) -> list[Any]:
    """Return the arrays and numbers of a tree, in order."""
    found: list[Any] = []

    def keep(leaf: Any) -> Any:
        found.append(leaf)
        return leaf

    map_leaves(keep, tree)
    return found


def with_leaves(tree: T, leaves: Iterator[Any]) -> T:
    """Return the tree with these leaves instead of its own."""
    return map_leaves(lambda _: next(leaves), tree)


def skeleton_of(tree: T) -> T:
    """Return the tree with 0.0 for each leaf: ``with_leaves`` can fill it, and it keeps no array alive."""
    return map_leaves(lambda _: 0.0, tree)


def same_leaf(a: Any, b: Any) -> bool:
    """Return whether two leaves of one structure have the same bits; 0.0 differs from -0.0, and NaN equals NaN."""
    if is_array(a) or is_array(b):
        return is_array(a) and is_array(b) and a.tobytes() == b.tobytes()
    if a == 0 == b:
        return bool(np.signbit(a) == np.signbit(b))
    return bool(a == b or (a != a and b != b))  # noqa: PLR0124  # np.isnan refuses large ints


def structure_of(tree: Any) -> Hashable:
    """Return a key of everything in a tree except the elements of its arrays and its numbers.

    A program depends on all of it, including the strides of the arrays.

    Raises:
        TypeError: If a part has no hash, or if a record or tuple has attributes that are not fields.
    """
    kind = kind_of(tree)
    if kind in _ARRAYS:
        return layout(tree)
    if kind in _LEAVES:
        number: Hashable = kind_of(raw(tree))
        return number
    if issubclass(kind, TUPLE) or attrs.has(kind):
        if not getattr(tree, "__dict__", {}).keys() <= set(fields_of(kind)):
            raise TypeError("a record has attributes that are not fields")
        return kind, tuple(map(structure_of, children_of(tree)))
    hash(tree)  # raises TypeError for a mutable object
    if isinstance(tree, MethodType):
        return kind, Same(tree.__func__), Same(tree.__self__)
    return kind, tree if kind in BY_VALUE else Same(tree)


def paths_of(tree: Any, path: str = "") -> list[str]:
    """Return the path of each leaf, such as ``params.0.weight``, in the order of ``leaves_of``."""
    if is_leaf(tree):
        return [path]
    kind, parts = kind_of(tree), children_of(tree)
    names = fields_of(kind) or getattr(kind, "_fields", None) or map(str, range(len(parts)))
    pairs = zip(names, parts, strict=True)
    return [found for name, part in pairs for found in paths_of(part, f"{path}.{name}" if path else name)]
