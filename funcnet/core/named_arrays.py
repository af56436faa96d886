"""The arrays of a network by name: out of a network, and into another network of the same structure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from funcnet.core.arrays import ARRAY_TYPES, AnyArray, Array
from funcnet.core.checks import check_array
from funcnet.core.errors import ConfigError, FuncnetError, ShapeError, StructureError, listed, quoted
from funcnet.core.records import Tree, check_tree, evolve, fields_of
from funcnet.core.trees import leaves

T = TypeVar("T", bound=Tree)


def named_arrays(params: Tree) -> dict[str, Array]:
    """Return every array of a network, parameters and statistics, by its name, in the order of the network.

    The name is the path of the array: positions in tuples and names of fields, with dots between them. Files written by
    ``save`` hold a network's arrays under the same names. The arrays are those of the network, which are locked.

    Raises:
        StructureError: If the value is not a network.

    Example:
        >>> import funcnet as fn
        >>> net = fn.dense(fn.Key(0), 3, 2), fn.Residual((fn.Tanh(), fn.dense(fn.Key(1), 2, 2)))
        >>> {name: array.shape for name, array in named_arrays(net).items()}
        {'0.weight': (3, 2), '0.bias': (2,), '1.net.1.weight': (2, 2), '1.net.1.bias': (2,)}
    """
    check_tree("named_arrays", params)
    return {leaf.path: leaf.array for leaf in leaves(params)}


def with_named_arrays(params: T, arrays: Mapping[str, NDArray[np.floating]]) -> T:
    """Return the network with other arrays, which have the names, shapes and dtypes of its own.

    The inverse of ``named_arrays``: for two networks of the same structure,
    ``with_named_arrays(other, named_arrays(net))`` equals ``net``. No array is converted: cast the arrays, or cast the
    network with ``astype``. A statistic that the network does not have yet, such as the mean of a ``BatchNorm`` before
    ``calibrate``, may be among the arrays.

    The arrays have funcnet's layout. PyTorch keeps weights transposed, which the shape does not show if a layer has as
    many inputs as outputs: use ``from_torch`` for a PyTorch ``state_dict``.

    Args:
        params: The network.
        arrays: The arrays by name. They are copied, unless they are read-only as those of a network are.

    Raises:
        StructureError: If a name is missing or left over; the message lists the first six of each.
        ShapeError, DTypeError: If an array has another shape or dtype than that of the network.
        ConfigError: If the arrays are not a mapping.

    Example:
        >>> import funcnet as fn
        >>> net, other = fn.mlp(fn.Key(0), (3, 2)), fn.mlp(fn.Key(1), (3, 2))
        >>> fn.equal(with_named_arrays(other, named_arrays(net)), net)
        True
    """
    check_tree("with_named_arrays", params)
    if not isinstance(arrays, Mapping):
        raise ConfigError(f"arrays must be a mapping by name, got {arrays!r:.80}", subject="with_named_arrays")
    given, present = dict(arrays), named_arrays(params)
    _check_names(given, present, set(_absent_statistics(params)))
    for name, old in present.items():
        _check_array(name, given[name], old)
    return cast("T", _put(params, "", given))


def _absent_statistics(tree: Tree, path: str = "") -> Iterator[str]:
    """The names of the statistics that are None."""
    if isinstance(tree, tuple):
        for position, inner in enumerate(tree):
            yield from _absent_statistics(inner, f"{path}{position}.")
        return
    fields = fields_of(type(tree))
    yield from (path + name for name in fields.statistics if getattr(tree, name) is None)
    for name in fields.every_network:
        yield from _absent_statistics(getattr(tree, name), f"{path}{name}.")


def _check_names(given: dict[str, Array], present: dict[str, Array], absent: set[str]) -> None:
    missing = [name for name in present if name not in given]
    others = [name for name in given if name not in present and name not in absent]
    if missing or others:
        faults = ("missing", missing), ("left over", others)
        parts = [f"{what} {listed(map(quoted, names))}" for what, names in faults if names]
        wanted = "arrays must have the names of the network's arrays"
        fix = "named_arrays(net) shows them, and from_torch takes the state_dict of a PyTorch model"
        raise StructureError(f"{wanted}: {'; '.join(parts)}; {fix}", subject="with_named_arrays")


def _check_array(name: str, value: object, old: Array) -> None:
    place, shape = f"arrays[{name!r}]", old.shape
    got = cast("AnyArray", value).shape if type(value) in ARRAY_TYPES else shape
    if got != shape:
        fix = "; PyTorch keeps weights as (O, I) and kernels as (O, C, KH, KW): use from_torch(net, state)"
        fix = fix if len(shape) > 1 and got == (shape[-1], shape[-2], *shape[:-2]) else ""
        raise ShapeError(f"{place} must have shape {shape}, got {got}{fix}", subject="with_named_arrays")
    check_array("with_named_arrays", place, value, shape, dtype=old.dtype, match=("the network", old))


def _put(tree: Tree, path: str, arrays: dict[str, Array]) -> Tree:
    if isinstance(tree, tuple):
        return tuple(_put(inner, f"{path}{position}.", arrays) for position, inner in enumerate(tree))
    fields = fields_of(type(tree))
    changes: dict[str, object] = {name: arrays[path + name] for name in fields.arrays if path + name in arrays}
    for name in fields.every_network:
        changes[name] = _put(getattr(tree, name), f"{path}{name}.", arrays)
    try:
        return evolve(tree, **changes) if changes else tree
    except FuncnetError as error:  # statistics that the layer did not have, and that do not fit it
        error.path = tuple(int(part) for part in path.split(".") if part.isdigit())
        raise
