"""The structure of arguments and results: trees of records and tuples, whose leaves are arrays and numbers.

Records are frozen attrs classes of any kind. Whatever else stands in a tree (None, strings, functions, ...) is part of
its structure, as are bools.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import cache
from types import MethodType
from typing import Any, Final, TypeVar

import attrs
import numpy as np

from funcnet.tracing.ducks import TUPLE, Number, Traced
from funcnet.tracing.recorder import Duck, kind_of

T = TypeVar("T")

_ARRAYS: Final = (np.ndarray, Traced)
_NUMBERS: Final = {int, float, *(np.dtype(code).type for code in f"{np.typecodes['AllInteger']}efd")}
_LEAVES: Final = {np.ndarray, Traced, Number, *_NUMBERS}


BY_VALUE: Final = {str, bytes, bool, type(None), type, np.dtype}
"""What is told apart by its value. Anything else is by its identity: equal objects may compute other numbers."""


def identity_of(thing: object) -> tuple[object, ...]:
    """The objects that a thing is: itself, or a bound method's function and owner."""
    return (thing.__func__, thing.__self__) if isinstance(thing, MethodType) else (thing,)


class Same:
    """A thing as a key, known by its identity."""

    __slots__ = ("thing",)

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


@cache
def fields_of(kind: Any) -> tuple[str, ...]:
    """The names of a record's fields; empty for what is no record."""
    return tuple(a.name for a in attrs.fields(kind)) if attrs.has(kind) else ()


def map_leaves(f: Callable[[Any], Any], tree: T) -> T:
    """The tree with ``f`` of each leaf, in order; what holds no new leaf stays the object that it is."""
    kind = kind_of(tree)
    if kind in _LEAVES:
        result: T = f(tree)
        return result
    if issubclass(kind, TUPLE):
        parts: Any = tree
        new = [map_leaves(f, part) for part in parts]
        made: T = tree if all(a is b for a, b in zip(parts, new, strict=True)) else TUPLE.__new__(kind, new)
        return made
    names = fields_of(kind)
    if not names:
        return tree
    values = [getattr(tree, name) for name in names]
    new = [map_leaves(f, value) for value in values]
    if all(a is b for a, b in zip(values, new, strict=True)):
        return tree
    record: T = object.__new__(kind)
    for name, value in zip(names, new, strict=True):
        object.__setattr__(record, name, value)
    return record


def leaves_of(tree: object) -> list[Any]:
    """The arrays and numbers, in order."""
    found: list[Any] = []

    def keep(leaf: Any) -> Any:
        found.append(leaf)
        return leaf

    map_leaves(keep, tree)
    return found


def with_leaves(tree: T, leaves: Iterator[Any]) -> T:
    """The tree with these leaves in the place of its own."""
    return map_leaves(lambda _: next(leaves), tree)


def skeleton_of(tree: T) -> T:
    """The tree with a number in the place of each leaf: for ``with_leaves``, without holding any array."""
    return map_leaves(lambda _: 0.0, tree)


def is_array(leaf: object) -> bool:
    """Whether a leaf is an array."""
    return type(leaf) in _ARRAYS


def same_leaf(a: Any, b: Any) -> bool:
    """Whether two leaves of one structure are the same, bit for bit: 0.0 is not -0.0, and NaN is NaN."""
    if is_array(a) or is_array(b):
        return is_array(a) and is_array(b) and a.tobytes() == b.tobytes()
    if a == 0 == b:
        return bool(np.signbit(a) == np.signbit(b))
    return bool(a == b or (a != a and b != b))  # noqa: PLR0124  # np.isnan takes no large int


def structure_of(tree: Any) -> Hashable:
    """What a program depends on, of a tree: all but the elements of its arrays and its numbers; strides are part of it.

    Raises:
        TypeError: If something in it has no hash, or if a record keeps more than its fields.
    """
    kind = kind_of(tree)
    if kind in _ARRAYS:
        return tree.shape, tree.strides, tree.dtype
    if kind in _LEAVES:
        number: Hashable = kind_of(tree.raw() if isinstance(tree, Duck) else tree)
        return number
    if issubclass(kind, TUPLE):
        return kind, tuple(map(structure_of, tree))
    if attrs.has(kind):
        names = fields_of(kind)
        if not getattr(tree, "__dict__", {}).keys() <= set(names):
            raise TypeError("a record that keeps more than its fields")
        return kind, tuple(structure_of(getattr(tree, name)) for name in names)
    hash(tree)  # what can change has none
    return kind, tree if kind in BY_VALUE else tuple(map(Same, identity_of(tree)))


def paths_of(tree: Any, path: str = "") -> list[str]:
    """Where each leaf stands, such as ``params.0.weight``, in the order of ``leaves_of``."""
    kind = kind_of(tree)
    if kind in _LEAVES:
        return [path]
    if issubclass(kind, TUPLE):
        names = getattr(kind, "_fields", None) or map(str, range(len(tree)))
        parts = list(zip(names, tree, strict=True))
    else:
        parts = [(name, getattr(tree, name)) for name in fields_of(kind)]
    return [found for name, part in parts for found in paths_of(part, f"{path}.{name}" if path else name)]
