"""Layers with arrays: each with its path, with arrays of other libraries in the place of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import cast

import numpy as np
from attrs import frozen

from funcnet.core.arrays import AnyArray, Array
from funcnet.core.checks import check_plain
from funcnet.core.errors import ConfigError, DTypeError, ShapeError, printable
from funcnet.core.named_arrays import named_arrays, with_named_arrays
from funcnet.core.records import fields_of
from funcnet.core.trees import leaves
from funcnet.layers.batch_norm import BatchNorm
from funcnet.network.layer import Layer, N, Network, Shape


def below(path: str, step: int | str) -> str:
    """Return the path of something inside the network at a path.

    Example:
        >>> below(below("", 2), "net")
        '2.net'
    """
    return f"{path}.{step}" if path else str(step)


def layers_with_arrays(params: Network, path: str = "") -> Iterator[tuple[str, Layer]]:
    """Yield every layer that has arrays, also inside combinators, with its path, in the order of the network.

    A mask is data of a batch and does not count. A ``BatchNorm`` always has statistics in other libraries.

    Example:
        >>> import funcnet as fn
        >>> net = fn.dense(fn.Key(0), 2, 2), fn.Residual((fn.Tanh(), fn.dense(fn.Key(1), 2, 2)))
        >>> [path for path, _ in layers_with_arrays(net)]
        ['0', '1.net.1']
    """
    if isinstance(params, tuple):
        for position, inner in enumerate(params):
            yield from layers_with_arrays(inner, below(path, position))
        return
    fields = fields_of(type(params))
    own = [name for name in fields.arrays if name not in fields.masks]
    if isinstance(params, BatchNorm) or any(getattr(params, name) is not None for name in own):
        yield path, params
    for name in fields.every_network:
        yield from layers_with_arrays(getattr(params, name), below(path, name))


def check_kinds(subject: str, library: str, layers: Mapping[str, Layer], known: Collection[type[Layer]]) -> None:
    """Check that another library has a counterpart of every layer with arrays.

    Raises:
        ConfigError: If it has none of one of them; the message names the first.
    """
    for path, layer in layers.items():
        if type(layer) not in known:
            kind, wanted = type(layer).__name__, ", ".join(each.__name__ for each in known)
            fix = "convert the layers before and after it, and put it between them"
            reason = f"{kind} has no counterpart in {library}; layers with arrays must be {wanted}; {fix}"
            raise ConfigError(reason, subject=place(subject, path))


def with_layers(params: N, layers: Mapping[str, Layer]) -> N:
    """Return the network with the arrays of the layer at each path; ``layers`` has every layer with arrays."""
    arrays: dict[str, Array | None] = dict(named_arrays(params))
    for path, layer in layers.items():
        arrays |= {below(path, name): getattr(layer, name) for name in fields_of(type(layer)).arrays}
    return with_named_arrays(params, {name: array for name, array in arrays.items() if array is not None})


def dtype_of(params: Network) -> np.dtype[np.floating]:
    """Return the dtype of the network's arrays; float32 for a network without arrays."""
    return next((leaf.array.dtype for leaf in leaves(params)), np.dtype(np.float32))


def described(path: str, layer: Layer) -> str:
    """Describe a layer in an error message by its path and type: ``layer 2.net.0 (Dense)``."""
    kind = type(layer).__name__
    return f"layer {path} ({kind})" if path else kind


def place(subject: str, path: str) -> str:
    """Return the subject of an error at a path: ``from_torch (layer 2.net.0)``."""
    return f"{subject} (layer {path})" if path else subject


def shape_of(value: object) -> Shape:
    """Return the shape of an array or a tensor, and () for any other value.

    Example:
        >>> shape_of(np.zeros((2, 3))), shape_of("kernel")
        ((2, 3), ())
    """
    return tuple(getattr(value, "shape", ()))


@frozen(eq=False)
class Wanted:
    """What an array of another library must be: its layer, its shape there, its shape here, and the dtype here."""

    layer: str
    there: Shape
    here: Shape
    dtype: np.dtype[np.floating]


def as_floats(subject: str, name: str, value: object, wanted: Wanted, fix: str) -> Array:
    """Return an array of another library as a NumPy array of the network's dtype, in which it has the same numbers.

    Args:
        subject: The function that converts.
        name: The array's name for the messages.
        value: A NumPy array, or what ``np.asarray`` takes.
        wanted: The layer, and the shape and the dtype that it needs.
        fix: The advice for values that ``np.asarray`` does not take.

    Raises:
        ShapeError: If the array has another shape.
        DTypeError: If NumPy cannot read the value, or if its numbers may differ in the network's dtype.
    """
    array = _as_array(subject, name, value, fix)
    if array.shape != wanted.there:
        is_here = array.shape == wanted.here
        swapped = "; it has funcnet's layout already: use with_named_arrays for such arrays" if is_here else ""
        reason = f"{name} must have shape {wanted.there} for {wanted.layer}, got {array.shape}{swapped}"
        raise ShapeError(reason, subject=subject)
    kind = array.dtype
    is_float = kind.kind == "f" or kind.name.startswith(("bfloat", "float"))  # NumPy itself has no bfloat16
    if is_float and np.can_cast(kind, wanted.dtype, "safe"):
        return array.astype(wanted.dtype, copy=False)
    reason = f"{name} must be {wanted.dtype}, or a narrower float, for {wanted.layer}, got {kind}"
    wider = "use fn.astype(net, np.float64), or " if kind == np.float64 else ""
    raise DTypeError(f"{reason}; {wider}cast the array: .astype(np.{wanted.dtype})", subject=subject)


def _as_array(subject: str, name: str, value: object, fix: str) -> AnyArray:
    if isinstance(value, np.ndarray):
        array = cast("AnyArray", value)
        check_plain(subject, name, array)
        return array
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor with a gradient, on a GPU, or of bfloat16
        raise DTypeError(f"NumPy cannot read {name}: {printable(error)}; {fix}", subject=subject) from error
