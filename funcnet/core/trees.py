"""All traversals of networks: map over parameters, list the arrays, compare and cast networks.

Updates, optimizers, saving and fingerprints all use these functions, so they agree on what a parameter is.
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
from funcnet.core.records import Record, Tree, check_nesting, check_tree, evolve, fields_of

T = TypeVar("T", bound=Tree)


class _Mismatch(Exception):  # noqa: N818  # never escapes this file
    pass


@overload
def map_parameters(f: Callable[[Array], Array], a: T, /) -> T: ...
@overload
def map_parameters(f: Callable[[Array, Array], Array], a: T, b: T, /) -> T: ...
@overload
def map_parameters(f: Callable[[Array, Array, Array], Array], a: T, b: T, c: T, /) -> T: ...
def map_parameters(f: Callable[..., Array], first: T, *rest: T) -> T:
    """Apply ``f`` to the corresponding trained arrays of the networks, and return a network of the results.

    Everything else comes from the first network. ``f`` returns a new array, which is then locked, or a locked array.

    Raises:
        StructureError: If record types, tuple lengths, shapes or dtypes differ. The message shows both structures.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.ones((1, 2)), bias=np.zeros(2))
        >>> map_parameters(lambda a, b: a - b, layer, layer).weight
        array([[0., 0.]])
    """
    check_nesting("map_parameters", first)
    try:
        with np.errstate(all="ignore"):  # callers that need finite numbers check for them
            return cast("T", _map(f, first, *rest))
    except _Mismatch:
        raise _different(first, *rest) from None


def check_alike(first: T, other: T, /) -> None:
    """Check that record types and tuple lengths of two networks agree, and shapes and dtypes of their trained arrays.

    Raises:
        StructureError: If they differ. The message shows both structures.

    Example:
        >>> import funcnet as fn
        >>> check_alike(fn.mlp(fn.Key(0), (3, 2)), fn.mlp(fn.Key(1), (3, 2)))
    """
    map_parameters(lambda p, _: p, first, other)


def _map(f: Callable[..., Array], first: Tree, *rest: Tree, decayed: bool = False) -> Tree:
    if isinstance(first, tuple):
        if any(not isinstance(other, tuple) or len(other) != len(first) for other in rest):
            raise _Mismatch
        return tuple(_map(f, *group, decayed=decayed) for group in zip(first, *rest, strict=True))
    if not isinstance(first, Record):
        raise _Mismatch
    for other in rest:
        if type(other) is not type(first):
            raise _Mismatch
    changes: dict[str, object] = {}
    fields = fields_of(type(first))
    for name in (name for name in fields.trained if not decayed or name in fields.decayed):
        arrays = [getattr(record, name) for record in (first, *rest)]
        if not _alike(arrays):
            raise _Mismatch
        if arrays[0] is not None:
            changes[name] = _locked(f(*arrays))
    for name in fields.networks:
        changes[name] = _map(f, *(getattr(record, name) for record in (first, *rest)), decayed=decayed)
    return evolve(first, **changes) if changes else first


def _locked(array: Array) -> Array:
    """Lock a new array without a copy, which would cost as much as computing it. The record copies a view if needed."""
    if type(array) in ARRAY_TYPES and array.base is None:
        array.flags.writeable = False
    return array


@overload
def map_decayed(f: Callable[[Array], Array], a: T, /) -> T: ...
@overload
def map_decayed(f: Callable[[Array, Array], Array], a: T, b: T, /) -> T: ...
def map_decayed(f: Callable[..., Array], first: T, *rest: T) -> T:
    """Apply ``f``, as in ``map_parameters``, to the arrays that weight decay applies to, and return the new network.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.ones((1, 2)), bias=np.ones(2))
        >>> map_decayed(lambda w: w / 2, layer).weight, map_decayed(lambda w: w / 2, layer).bias
        (array([[0.5, 0.5]]), array([1., 1.]))
    """
    check_nesting("map_decayed", first)
    try:
        with np.errstate(all="ignore"):  # for the reason given in map_parameters
            return cast("T", _map(f, first, *rest, decayed=True))
    except _Mismatch:
        raise _different(first, *rest) from None


def trained_arrays(tree: Tree) -> list[Array]:
    """List the arrays that an update may change, in the order of the network's tuples and fields.

    Example:
        >>> import funcnet as fn
        >>> [array.shape for array in trained_arrays(fn.mlp(fn.Key(0), (3, 2)))]
        [(3, 2), (2,)]
    """
    check_tree("trained_arrays", tree)
    return [leaf.array for leaf in leaves(tree) if leaf.trained]


def flat(tree: Tree) -> Array:
    """Return the trained arrays of a network side by side in one new vector, in the order of ``map_parameters``.

    Example:
        >>> import funcnet as fn
        >>> flat(fn.Dense(weight=np.array([[1.0, 2.0]]), bias=np.array([3.0, 4.0])))
        array([1., 2., 3., 4.])
    """
    check_tree("flat", tree)
    arrays = [array.reshape(-1) for array in _in_order(tree)]
    return np.concatenate(arrays) if arrays else np.zeros(0, np.float32)


def _in_order(tree: Tree) -> Iterator[Array]:
    """Yield the trained arrays in the order of ``map_parameters``: those of a record before those of its networks."""
    if isinstance(tree, tuple):
        for inner in tree:
            yield from _in_order(inner)
        return
    fields = fields_of(type(tree))
    for name in fields.trained:
        array: Array | None = getattr(tree, name)
        if array is not None:
            yield array
    for name in fields.networks:
        yield from _in_order(getattr(tree, name))


def with_flat(tree: T, vector: Array) -> T:
    """Return the network whose trained arrays have the elements of a vector, in the order of ``flat``.

    The network keeps its own dtype.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0, 2.0]]), bias=np.array([3.0, 4.0]))
        >>> with_flat(layer, np.array([0.0, 1.0, 2.0, 3.0])).bias
        array([2., 3.])
    """
    start = 0

    def taken(array: Array) -> Array:
        nonlocal start
        start += array.size
        return vector[start - array.size : start].reshape(array.shape).astype(array.dtype)

    return map_parameters(taken, tree)


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
    same = "; their classes have the same names but were defined twice: create both networks from one definition"
    fix = same if other is first else ""
    return StructureError(f"two networks must have the same structure, got\n  {first!r}\nand\n  {other!r}{fix}")


# ------------------------------------------------------------------------------------------------- listing

Role: TypeAlias = Literal["trained", "decayed", "statistic", "fixed"]


@frozen(eq=False)
class Leaf:
    """An array of a network with its position: ``path`` is, for example, ``"2.net.0.weight"``."""

    path: str
    record: Record
    field: str
    role: Role
    array: Array

    @property
    def trained(self) -> bool:
        """Whether an update may change the array."""
        return self.role in ("trained", "decayed")


def leaves(tree: Tree, path: str = "", *, fixed: bool = False) -> Iterator[Leaf]:
    """Yield every array of a network, in the order of its tuples and fields.

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
    """Whether the network has a trained array."""
    if isinstance(tree, tuple):
        return any(is_trained(inner) for inner in tree)
    fields = fields_of(type(tree))
    if any(getattr(tree, name) is not None for name in fields.trained):
        return True
    return any(is_trained(getattr(tree, name)) for name in fields.networks)


def first_trained(trees: tuple[Tree, ...]) -> int:
    """Return the position of the first network that has a trained array, or the number of networks if none has one."""
    return next((position for position, tree in enumerate(trees) if is_trained(tree)), len(trees))


# ------------------------------------------------------------------------------------- comparing and casting


def equal(a: Tree, b: Tree) -> bool:
    """Whether two networks are the same value: the same records, the same settings, the same bits in every array.

    Example:
        >>> import funcnet as fn
        >>> fn.equal(fn.mlp(fn.Key(0), (3, 2)), fn.mlp(fn.Key(0), (3, 2)))
        True
        >>> fn.equal(fn.mlp(fn.Key(0), (3, 2)), fn.mlp(fn.Key(1), (3, 2)))
        False
    """
    check_tree("equal", a)
    check_tree("equal", b)
    return same_values(a, b)


def same_bits(a: AnyArray, b: AnyArray) -> bool:
    """Whether two arrays have the same dtype, the same shape and the same bits in every element."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def same_values(a: object, b: object) -> bool:
    """Whether two values have the same type, and equal settings and the same bits in the records and tuples in them."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return same_bits(cast("AnyArray", a), cast("AnyArray", b))
    if isinstance(a, tuple) and isinstance(b, tuple):
        first, second = cast("tuple[object, ...]", a), cast("tuple[object, ...]", b)
        return len(first) == len(second) and all(same_values(x, y) for x, y in zip(first, second, strict=True))
    if isinstance(a, Record):
        return all(same_values(getattr(a, x.name), getattr(b, x.name)) for x in attrs.fields(type(a)))
    return a == b


def astype(tree: T, dtype: FloatDType) -> T:
    """Return the network with every array cast to ``np.float32`` or ``np.float64``.

    Raises:
        ConfigError: If the dtype is neither of them.

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
    """Return a network's dtype as an ``np.dtype``.

    Raises:
        ConfigError: If it is neither float32 nor float64.
    """
    for known in (np.float32, np.float64):
        if isinstance(dtype, type | np.dtype) and dtype in (known, np.dtype(known)):  # NumPy interprets None as float64
            return np.dtype(known)
    raise ConfigError(f"dtype must be np.float32 or np.float64, got {dtype!r}")


def check_finite_tree(tree: Tree, path: str = "") -> None:
    """Check that every array that training can change is finite: parameters and statistics.

    Raises:
        NonFiniteError: If one is not. The message names the first.
    """
    for leaf in leaves(tree, path):
        if leaf.role != "fixed":
            check_finite("", leaf.path, leaf.array)
