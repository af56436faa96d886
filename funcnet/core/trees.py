"""The one walk over networks: map over parameters, list the arrays, compare, cast.

Updates, optimizers, saving and fingerprints all go through here, so that all agree on what a parameter is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias, TypeVar, cast, overload

import attrs
import numpy as np
from attrs import frozen

from funcnet.core.arrays import ARRAY_TYPES, AnyArray, Array, FloatDType, lock
from funcnet.core.checks import check_finite
from funcnet.core.errors import ConfigError, FuncnetError, StructureError
from funcnet.core.records import Record, Tree, check_tree, evolve, fields_of

T = TypeVar("T", bound=Tree)


class _Mismatch(Exception):  # noqa: N818  # never leaves this file
    pass


@overload
def map_parameters(f: Callable[[Array], Array], a: T, /) -> T: ...
@overload
def map_parameters(f: Callable[[Array, Array], Array], a: T, b: T, /) -> T: ...
@overload
def map_parameters(f: Callable[[Array, Array, Array], Array], a: T, b: T, c: T, /) -> T: ...
def map_parameters(f: Callable[..., Array], first: T, *rest: T) -> T:
    """The network whose every trained array is ``f`` of the arrays that stand there in all of the networks.

    Everything else is the first network's own. ``f`` returns a new array, which is locked then, or a locked one.

    Raises:
        StructureError: If record types, tuple lengths, shapes or dtypes differ; the message has both structures.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.ones((1, 2)), bias=np.zeros(2))
        >>> map_parameters(lambda a, b: a - b, layer, layer).weight
        array([[0., 0.]])
    """
    try:
        with np.errstate(all="ignore"):  # whoever must not have numbers that are not finite looks for them
            return cast("T", _map(f, first, *rest))
    except _Mismatch:
        raise _different(first, *rest) from None


def check_alike(first: T, other: T, /) -> None:
    """Check that two networks have one structure: record types, tuple lengths, shapes and dtypes of what is trained.

    Raises:
        StructureError: If they have not; the message has both.

    Example:
        >>> import funcnet as fn
        >>> check_alike(fn.mlp(fn.Key(0), (3, 2)), fn.mlp(fn.Key(1), (3, 2)))
    """
    map_parameters(lambda p, _: p, first, other)


def _map(f: Callable[..., Array], first: Tree, *rest: Tree) -> Tree:
    if isinstance(first, tuple):
        if any(not isinstance(other, tuple) or len(other) != len(first) for other in rest):
            raise _Mismatch
        return tuple(_map(f, *group) for group in zip(first, *rest, strict=True))
    if not isinstance(first, Record):
        raise _Mismatch
    for other in rest:
        if type(other) is not type(first):
            raise _Mismatch
    changes: dict[str, object] = {}
    fields = fields_of(type(first))
    for name in fields.trained:
        arrays = [getattr(record, name) for record in (first, *rest)]
        if not _alike(arrays):
            raise _Mismatch
        if arrays[0] is not None:
            changes[name] = _locked(f(*arrays))
    for name in fields.networks:
        changes[name] = _map(f, *(getattr(record, name) for record in (first, *rest)))
    return evolve(first, **changes) if changes else first


def _locked(array: Array) -> Array:
    """A new array as it is, locked: a copy would cost as much as what made it. A view is left to the record."""
    if type(array) in ARRAY_TYPES and array.base is None:
        array.flags.writeable = False
    return array


def map_decayed(f: Callable[[Array], Array], tree: T) -> T:
    """The network whose every array that weight decay applies to is ``f`` of it. ``f`` is as in ``map_parameters``.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.ones((1, 2)), bias=np.ones(2))
        >>> map_decayed(lambda w: w / 2, layer).weight, map_decayed(lambda w: w / 2, layer).bias
        (array([[0.5, 0.5]]), array([1., 1.]))
    """
    try:
        with np.errstate(all="ignore"):  # as in map_parameters
            return cast("T", _map_decayed(f, tree))
    except _Mismatch:
        raise _different(tree) from None


def _map_decayed(f: Callable[[Array], Array], tree: Tree) -> Tree:
    if isinstance(tree, tuple):
        return tuple(_map_decayed(f, inner) for inner in tree)
    if not isinstance(tree, Record):
        raise _Mismatch
    fields = fields_of(type(tree))
    arrays = {name: getattr(tree, name) for name in fields.trained if name in fields.decayed}
    changes: dict[str, object] = {name: _locked(f(array)) for name, array in arrays.items() if array is not None}
    for name in fields.networks:
        changes[name] = _map_decayed(f, getattr(tree, name))
    return evolve(tree, **changes) if changes else tree


def trained_arrays(tree: Tree) -> list[Array]:
    """The arrays that an update may change, in the order of a network's tuples and fields.

    Example:
        >>> import funcnet as fn
        >>> [array.shape for array in trained_arrays(fn.mlp(fn.Key(0), (3, 2)))]
        [(3, 2), (2,)]
    """
    check_tree("trained_arrays", tree)
    return [leaf.array for leaf in leaves(tree) if leaf.trained]


def _alike(arrays: list[Any]) -> bool:
    first = arrays[0]
    for other in arrays[1:]:
        if first is None or other is None:
            if first is not other:
                return False
        elif other.shape != first.shape or other.dtype != first.dtype:
            return False
    return True


def _different(first: Tree, *rest: Tree) -> FuncnetError:
    for tree in (first, *rest):
        try:
            check_tree("", tree)
        except StructureError as error:
            return error
    other = next((tree for tree in rest if repr(tree) != repr(first)), first)
    return StructureError(f"two networks must have one structure, got\n  {first!r}\nand\n  {other!r}")


# ------------------------------------------------------------------------------------------------- listing

Role: TypeAlias = Literal["trained", "decayed", "statistic", "fixed"]


@frozen(eq=False)
class Leaf:
    """An array of a network and where it stands: ``path`` is ``"2.net.0.weight"``."""

    path: str
    record: Record
    field: str
    role: Role
    array: Array

    @property
    def trained(self) -> bool:
        """Whether an update may change it."""
        return self.role in ("trained", "decayed")


def leaves(tree: Tree, path: str = "", *, fixed: bool = False) -> Iterator[Leaf]:
    """Every array of a network, in the order of its tuples and fields.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Residual((fn.ReLU(), fn.dense(fn.Key(0), 2, 2)))
        >>> [leaf.path for leaf in leaves(net)]
        ['net.1.weight', 'net.1.bias']
    """
    if isinstance(tree, tuple):
        for position, inner in enumerate(tree):
            yield from leaves(inner, f"{path}{position}.", fixed=fixed)
        return
    fields = fields_of(type(tree))
    for a in attrs.fields(type(tree)):
        value = getattr(tree, a.name)
        if value is None:
            continue
        if a.name in fields.arrays:
            role: Role = "decayed" if a.name in fields.decayed else "trained"
            role = "statistic" if a.name in fields.statistics else "fixed" if fixed else role
            yield Leaf(f"{path}{a.name}", tree, a.name, role, value)
        elif a.name in fields.networks or a.name in fields.fixed_networks:
            yield from leaves(value, f"{path}{a.name}.", fixed=fixed or a.name in fields.fixed_networks)


def is_trained(tree: Tree) -> bool:
    """Whether the network has something to train."""
    if isinstance(tree, tuple):
        return any(is_trained(inner) for inner in tree)
    fields = fields_of(type(tree))
    if any(getattr(tree, name) is not None for name in fields.trained):
        return True
    return any(is_trained(getattr(tree, name)) for name in fields.networks)


def first_trained(trees: tuple[Tree, ...]) -> int:
    """The position of the first network that has something to train; how many there are if none has."""
    return next((position for position, tree in enumerate(trees) if is_trained(tree)), len(trees))


# ------------------------------------------------------------------------------------- comparing and casting


def equal(a: Tree, b: Tree) -> bool:
    """Whether two networks are the same value: same records, same settings, same bits in every array.

    Example:
        >>> import funcnet as fn
        >>> fn.equal(fn.mlp(fn.Key(0), (3, 2)), fn.mlp(fn.Key(0), (3, 2)))
        True
        >>> fn.equal(fn.mlp(fn.Key(0), (3, 2)), fn.mlp(fn.Key(1), (3, 2)))
        False
    """
    check_tree("equal", a)
    check_tree("equal", b)
    return _equal(a, b)


def same_bits(a: AnyArray, b: AnyArray) -> bool:
    """Whether two arrays have one dtype, one shape and the same bits in every element."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _equal(a: object, b: object) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return same_bits(cast("AnyArray", a), cast("AnyArray", b))
    if isinstance(a, tuple) and isinstance(b, tuple):
        first, second = cast("tuple[object, ...]", a), cast("tuple[object, ...]", b)
        return len(first) == len(second) and all(_equal(x, y) for x, y in zip(first, second, strict=True))
    if isinstance(a, Record):
        return all(_equal(getattr(a, x.name), getattr(b, x.name)) for x in attrs.fields(type(a)))
    return a == b


def astype(tree: T, dtype: FloatDType) -> T:
    """The network with every array in another dtype: ``np.float32`` or ``np.float64``.

    Raises:
        ConfigError: If the dtype is neither.

    Example:
        >>> import funcnet as fn
        >>> fn.astype(fn.mlp(fn.Key(0), (3, 2)), np.float64)
        (Dense(weight=float64 (3, 2), bias=float64 (2,)),)
    """
    check_tree("astype", tree)
    with np.errstate(all="ignore"):
        return cast("T", _astype(tree, float_dtype(dtype)))


def _astype(tree: Tree, dtype: np.dtype[np.floating]) -> Tree:
    if isinstance(tree, tuple):
        return tuple(_astype(inner, dtype) for inner in tree)
    fields = fields_of(type(tree))
    changes: dict[str, object] = {}
    for name in fields.arrays:
        array = getattr(tree, name)
        if array is not None and array.dtype != dtype:
            changes[name] = lock(array.astype(dtype))
    for name in fields.networks + fields.fixed_networks:
        changes[name] = _astype(getattr(tree, name), dtype)
    return evolve(tree, **changes) if changes else tree


def float_dtype(dtype: FloatDType) -> np.dtype[np.floating]:
    """The dtype of a network as NumPy has it.

    Raises:
        ConfigError: If it is neither float32 nor float64.
    """
    for known in (np.float32, np.float64):
        if isinstance(dtype, type | np.dtype) and dtype in (known, np.dtype(known)):  # NumPy takes None for float64
            return np.dtype(known)
    raise ConfigError(f"dtype must be np.float32 or np.float64, got {dtype!r}")


def check_finite_parameters(tree: Tree) -> None:
    """Check that every trained array is finite.

    Raises:
        NonFiniteError: Names the first that is not.
    """
    for leaf in leaves(tree):
        if leaf.trained:
            check_finite("", leaf.path, leaf.array)
