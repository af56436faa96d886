"""PyTorch: the arrays of a ``state_dict`` in a network, and the arrays of a network as a ``state_dict``.

A ``state_dict`` is a mapping of names to arrays; this file does not import PyTorch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias, cast

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike

from funcnet.core.arrays import AnyArray, Array, lock
from funcnet.core.checks import check_flag
from funcnet.core.errors import LISTED, ConfigError, ShapeError, StructureError, listed, plural, quoted
from funcnet.core.records import check_tree, evolve
from funcnet.interop.flattening import Order, flat_order, flat_orders
from funcnet.interop.layer_arrays import Wanted, as_floats, check_kinds, described, layers_with_arrays, with_layers
from funcnet.layers.batch_norm import BatchNorm
from funcnet.layers.conv import Conv2D
from funcnet.layers.dense import Dense
from funcnet.layers.normalization import LayerNorm, RMSNorm
from funcnet.layers.prelu import PReLU
from funcnet.network.layer import Layer, N, Network, Shape
from funcnet.network.passes import check_shape

Modules: TypeAlias = dict[str, dict[str, object]]
"""The arrays of each module by their own names, in the order of the ``state_dict``."""


@frozen
class Part:
    """An array of a layer: the field here, the name in PyTorch, and its number if PyTorch leaves the array out."""

    field: str
    name: str
    absent: float | None = None


_AFFINE: Final = (Part("scale", "weight"), Part("offset", "bias", 0.0))
_STATISTICS: Final = (Part("mean", "running_mean"), Part("variance", "running_var"))
_PARTS: Final[dict[type[Layer], tuple[Part, ...]]] = {
    Dense: (Part("weight", "weight"), Part("bias", "bias", 0.0)),
    Conv2D: (Part("weight", "weight"), Part("bias", "bias", 0.0)),
    BatchNorm: (Part("scale", "weight", 1.0), Part("offset", "bias", 0.0), *_STATISTICS),
    LayerNorm: _AFFINE,
    RMSNorm: _AFFINE[:1],
    PReLU: (Part("slope", "weight"),),
}
_AXES: Final[dict[type[Layer], tuple[int, ...]]] = {Dense: (1, 0), Conv2D: (3, 2, 0, 1)}
"""The axes of a weight in PyTorch's order: (I, O) is (O, I) there, and (KH, KW, C, O) is (O, C, KH, KW)."""

_COUNTER: Final = "num_batches_tracked"
_PARAMETRIZED: Final = re.compile(r"(^|\.)parametrizations\.|(^|\.)(weight|bias)_(g|v|orig|u|mask)$")
_TO_NUMPY: Final = "use {name: tensor.detach().cpu() for name, tensor in state.items()}, with .float() for bfloat16"


def from_torch(
    net: N, state: Mapping[str, ArrayLike], names: Sequence[str] | None = None, *, input_shape: Shape | None = None
) -> N:
    """Return the network with the arrays of a PyTorch ``state_dict``.

    Module by module, in order: Dense takes the arrays of ``Linear``, Conv2D those of ``Conv2d``, BatchNorm those of
    ``BatchNorm1d`` or ``BatchNorm2d`` including the running statistics, LayerNorm, RMSNorm and PReLU those of the
    modules of the same names. Other layers have no arrays and are passed over. A module without a bias gives the bias
    0, and a ``BatchNorm`` without an affine map gives scale 1 and offset 0, which compute the same numbers.

    **The order of the modules** is that of the numbers in their names if only numbers distinguish them, as in
    ``nn.Sequential`` ("2" comes before "10"). Otherwise it is that of ``state``, which is the order in which a model
    defines its modules; pass ``names`` if the model applies them in another order. A safetensors file lists names by
    the alphabet instead. A ``state`` in that order is refused unless ``names`` is given, because words do not show an
    order.

    **Flattened images** are (C, H, W) in PyTorch and (H, W, C) in funcnet. With ``input_shape``, the Dense after a
    Flatten gets its rows in funcnet's order. Without it, a network with a Flatten or a Reshape is refused. A layer of
    your own that flattens is noticed only with ``input_shape``.

    **What arrays do not show**: strides, paddings, activations and epsilons are those of ``net`` (the default epsilon
    of PyTorch's ``RMSNorm`` is 1.2e-7 in float32). Some wrong arrays load without an error, for example:

    * modules of equal shapes whose order of definition is not that of the network;
    * a square weight that has been transposed already, such as those in funcnet's own files: for a file of
      ``fn.save``, use ``with_named_arrays``;
    * the weight of a ``ConvTranspose2d`` with as many input channels as output channels, in a Conv2D;
    * the kernel of a ``Conv2d`` whose ``padding_mode`` is not "zeros";
    * the arrays of a ``GroupNorm`` in a LayerNorm, or of an ``Embedding`` in a Dense.

    Therefore, compare the outputs on one batch::

        np.abs(fn.forward(net, x) - model.eval()(torch.tensor(x)).detach().numpy()).max()

    Images are ``torch.tensor(x).permute(0, 3, 1, 2)`` in PyTorch.

    Args:
        net: The network with the layers of the model. It is not changed.
        state: ``model.state_dict()``, or ``fn.load_arrays("model.safetensors")``. The arrays are copied.
        names: The name of the module of each layer that has arrays, in the order of the network, such as
            ``("conv1", "bn1", "fc")``.
        input_shape: The shape of a row of funcnet's x, such as (28, 28, 1).

    Raises:
        StructureError: If arrays are missing or left over; the message names the first six.
        ShapeError: If an array does not fit its layer, or a row of input_shape does not fit the network.
        DTypeError: If an array's numbers may differ in the network's dtype. A narrower float, such as float16 in
            a network of float32, is accepted.
        ConfigError: If the order of the modules or of flattened images is unknown, if a layer has no counterpart in
            PyTorch, if a weight is parametrized, or if an argument is invalid.

    Example:
        >>> import funcnet as fn
        >>> net = fn.dense(fn.Key(0), 2, 1), fn.ReLU()
        >>> linear = {"0.weight": np.array([[2, 3]], np.float32), "0.bias": np.array([1], np.float32)}
        >>> fn.forward(from_torch(net, linear), np.array([[10, 100]], np.float32))  # 10 * 2 + 100 * 3 + 1
        array([[321.]], dtype=float32)
    """
    check_tree(_FROM, net)
    layers = dict(layers_with_arrays(net))
    check_kinds(_FROM, "PyTorch", layers, _PARTS)
    modules = _modules(state)
    ordered = _in_order(modules) if names is None else _named(names, modules)
    is_certain = names is not None or _differ_in_numbers(ordered)
    order = f"; the modules are taken in the order {_listed(ordered)}{'' if is_certain else _ANOTHER}"
    _check_fit(layers, modules, ordered, order)
    orders = flat_orders(_FROM, net, input_shape)
    pairs = zip(layers.items(), ordered, strict=True)
    try:
        made = {path: _loaded(path, layer, name, modules[name], orders.get(path)) for (path, layer), name in pairs}
    except ShapeError as error:
        raise error if is_certain else ShapeError(f"{error.message}{order}", subject=_FROM) from None
    return with_layers(net, made)


_FROM: Final = "from_torch"
_ANOTHER: Final = "; if the model applies them in another order, pass names="


def _modules(state: object) -> Modules:
    """The arrays of each module, without the counters of ``BatchNorm``."""
    if not isinstance(state, Mapping):
        fix = "; use model.state_dict()" if hasattr(state, "state_dict") else ""
        raise ConfigError(f"state must be a mapping of names to arrays, got {type(state).__name__}{fix}", subject=_FROM)
    modules: Modules = {}
    for name, value in cast("Mapping[object, object]", state).items():
        if not isinstance(name, str):
            raise ConfigError(f"state must map names to arrays, got the name {quoted(name)}", subject=_FROM)
        if isinstance(value, Mapping):
            fix = f"use state[{quoted(name)}] or another mapping in it"
            raise ConfigError(f"state must map names to arrays, got a mapping at {quoted(name)}; {fix}", subject=_FROM)
        module, _, own = name.rpartition(".")
        if own != _COUNTER:
            modules.setdefault(module, {})[own] = value
    _check_plain_weights(modules)
    return modules


def _check_plain_weights(modules: Modules) -> None:
    strange = [name for name in _array_names(modules) if _PARAMETRIZED.search(name)]
    if strange:
        reason = f"the weights of {_listed(strange)} are parametrized (weight or spectral normalization, pruning)"
        fix = "make them plain in PyTorch, with torch.nn.utils.parametrize.remove_parametrizations for example"
        raise ConfigError(f"{reason}; {fix}", subject=_FROM)


def _array_names(modules: Modules, chosen: Iterable[str] | None = None) -> list[str]:
    """The full names of the arrays of some modules."""
    return [_joined(name, own) for name in (modules if chosen is None else chosen) for own in modules[name]]


def _joined(module: str, own: str) -> str:
    return f"{module}.{own}" if module else own


def _listed(names: Iterable[str]) -> str:
    return listed(map(quoted, names))


# --------------------------------------------------------------------------------------------------- order


def _in_order(modules: Modules) -> list[str]:
    """The names of the modules in the order of numbers if only numbers distinguish them, or as they are listed."""
    if _differ_in_numbers(modules):
        return sorted(modules, key=_natural)
    if _may_be_alphabetical(modules):
        reason = "state lists its names by the alphabet, as a safetensors file does, and words do not show an order"
        order = f"which may differ from {_listed(sorted(modules, key=_natural))}"
        fix = f"pass names=, the modules in the order in which the model applies them, {order}"
        raise ConfigError(f"{reason}; {fix}", subject=_FROM)
    return list(modules)


def _differ_in_numbers(names: Iterable[str]) -> bool:
    """Whether the parts in which dotted names first differ are all numbers."""
    inside: dict[tuple[str, ...], set[str]] = {}
    for name in names:
        parts = tuple(name.split("."))
        for depth, part in enumerate(parts):
            inside.setdefault(parts[:depth], set()).add(part)
    return all(len(parts) == 1 or all(part.isdecimal() for part in parts) for parts in inside.values())


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts "fc10" behind "fc2": numbers by their length, then by their digits."""
    parts: list[str] = re.findall(r"\d+|\D+", name)
    return [(len(part) if part.isdecimal() else -1, part) for part in parts]


def _may_be_alphabetical(modules: Modules) -> bool:
    """Whether the names may have been sorted: PyTorch lists a weight before its bias, the alphabet after it."""
    pairs = [list(own) for own in modules.values() if {"weight", "bias"} <= own.keys()]
    if pairs:
        return any(own.index("bias") < own.index("weight") for own in pairs)
    return list(modules) == sorted(modules)


def _named(names: object, modules: Modules) -> list[str]:
    """The names that the caller gives, after a check that they are different names of modules."""
    given = _texts(_FROM, names)
    unknown = [name for name in given if name not in modules]
    if unknown:
        raise ConfigError(f"names must be modules of state, {_listed(modules)}, got {_listed(unknown)}", subject=_FROM)
    return given


def _texts(subject: str, names: object) -> list[str]:
    """The names that the caller gives, after a check that they are a sequence of different texts."""
    shown, is_sequence = names, isinstance(names, Sequence) and not isinstance(names, str | bytes)
    given = [*cast("Sequence[object]", names)] if is_sequence else []
    texts = [name for name in given if isinstance(name, str)]
    if not is_sequence or len(set(texts)) < len(given):
        wanted = "a sequence of the names of modules, all different"
        raise ConfigError(f"names must be {wanted}, got {quoted(shown)}", subject=subject)
    return texts


# ---------------------------------------------------------------------------------------------------- load


def _check_fit(layers: Mapping[str, Layer], modules: Modules, ordered: list[str], order: str) -> None:
    """Check that there is one module per layer, and that each module has the arrays of its layer and no other."""
    faults: list[str] = []
    for (path, layer), name in zip(layers.items(), ordered, strict=False):
        parts, own = _PARTS[type(layer)], modules[name]
        missing = [part.name for part in parts if part.absent is None and part.name not in own]
        others = [each for each in own if each not in {part.name for part in parts}]
        for what, found in (("missing", missing), ("left over", others)):
            if found:
                full = _listed(_joined(name, each) for each in found)
                faults.append(f"{what} for {described(path, layer)}: {full}")
    alone = [described(path, layer) for path, layer in list(layers.items())[len(ordered) :]]
    unused = _array_names(modules, [name for name in modules if name not in ordered[: len(layers)]])
    faults[LISTED:] = [f"and {len(faults) - LISTED} more"] if len(faults) > LISTED else []
    faults += [f"missing: the arrays of {listed(alone)}"] if alone else []
    faults += [f"left over: {_listed(unused)}"] if unused else []
    if faults:
        counts = f"it has {plural(len(layers), 'layer')} with arrays, state has arrays of {len(modules)}"
        reason = "\n  ".join([f"state must fit the network: {counts}{order if ordered else ''}", *faults])
        raise StructureError(reason, subject=_FROM)


def _loaded(path: str, layer: Layer, module: str, arrays: Mapping[str, object], order: Order | None) -> Layer:
    """The layer with the arrays of a module."""
    first: Array = getattr(layer, _PARTS[type(layer)][0].field)
    changes: dict[str, Array] = {}
    for part in _PARTS[type(layer)]:
        here = first.shape if part.name == "weight" else first.shape[-1:]
        if part.absent is not None and part.name not in arrays:
            changes[part.field] = lock(np.full(here, part.absent, first.dtype))
            continue
        axes = _axes(layer, part)
        wanted = Wanted(described(path, layer), tuple(here[axis] for axis in axes), here, first.dtype)
        array = as_floats(_FROM, quoted(_joined(module, part.name)), arrays[part.name], wanted, _TO_NUMPY)
        array = array.transpose(np.argsort(axes))
        changes[part.field] = array[order] if order is not None and _is_by_input(layer, part) else array
    return evolve(layer, **changes)


def _axes(layer: Layer, part: Part) -> tuple[int, ...]:
    """The axes of an array in PyTorch's order."""
    return _AXES.get(type(layer), (0,)) if part.name == "weight" else (0,)


def _is_by_input(layer: Layer, part: Part) -> bool:
    """Whether the first axis of an array is that of the layer's inputs."""
    if isinstance(layer, PReLU):
        return layer.slope.size > 1
    return not isinstance(layer, Dense) or part.field == "weight"


# -------------------------------------------------------------------------------------------------- export


def to_torch(
    net: Network, names: Sequence[str] | None = None, *, input_shape: Shape | None = None
) -> dict[str, AnyArray]:
    """Return the arrays of a network as a PyTorch ``state_dict`` holds them: the inverse of ``from_torch``.

    This loads them into a model, with names such as ``("conv1", "fc")``, or without names into an ``nn.Sequential``::

        arrays = fn.to_torch(net, names=...)
        model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})

    The model needs the strides, paddings, activations and epsilons of the network, ``padding_mode="zeros"``, and
    ``count_include_pad=False`` in its average pools.

    Args:
        net: The network, whose layers with arrays are Dense, Conv2D, BatchNorm, LayerNorm, RMSNorm and PReLU.
        names: The name of the module of each layer that has arrays, in the order of the network. The default is
            funcnet's own path, which is the name in an ``nn.Sequential`` of the same layers: "0", or "2.net.0" in
            a Residual whose module keeps its network as ``net``. A Frozen adds ``.net``; pass ``names`` if the model
            has no such module.
        input_shape: The shape of a row of funcnet's x, such as (28, 28, 1). It is needed for a network with a Flatten
            or a Reshape: PyTorch flattens images as (C, H, W).

    Returns:
        New arrays that are contiguous and writable. A BatchNorm has ``num_batches_tracked`` 0, an int64 array, which
        ``load_state_dict`` requires.

    Raises:
        ConfigError: If a layer has no counterpart in PyTorch, if a BatchNorm has no statistics, if the order of
            flattened images is unknown, or if an argument is invalid.
        ShapeError: If a row of input_shape does not fit the network.

    Example:
        >>> import funcnet as fn
        >>> net = fn.dense(fn.Key(0), 3, 2), fn.ReLU(), fn.dense(fn.Key(1), 2, 1)
        >>> {name: array.shape for name, array in to_torch(net).items()}
        {'0.weight': (2, 3), '0.bias': (2,), '2.weight': (1, 2), '2.bias': (1,)}
        >>> fn.equal(from_torch(net, to_torch(net)), net)
        True
    """
    check_tree(_TO, net)
    layers = dict(layers_with_arrays(net))
    check_kinds(_TO, "PyTorch", layers, _PARTS)
    modules = list(layers) if names is None else _one_per_layer(names, layers)
    orders = flat_orders(_TO, net, input_shape)
    state: dict[str, AnyArray] = {}
    for (path, layer), module in zip(layers.items(), modules, strict=True):
        for part in _PARTS[type(layer)]:
            state[_joined(module, part.name)] = _exported(path, layer, part, orders.get(path))
        if isinstance(layer, BatchNorm):
            state[_joined(module, _COUNTER)] = np.zeros((), np.int64)
    return state


_TO: Final = "to_torch"


def _one_per_layer(names: object, layers: Mapping[str, Layer]) -> list[str]:
    given = _texts(_TO, names)
    if len(given) != len(layers):
        each = listed(described(*item) for item in layers.items())
        wanted = f"{plural(len(layers), 'module')}, one for each of {each}"
        raise ConfigError(f"names must be of {wanted}, got {len(given)}", subject=_TO)
    return given


def _exported(path: str, layer: Layer, part: Part, order: Order | None) -> Array:
    """A copy of an array of a layer in PyTorch's layout."""
    array: Array | None = getattr(layer, part.field)
    if array is None:
        fix = "use calibrate(net, x)"
        raise ConfigError(f"{described(path, layer)} has no {part.field} to export; {fix}", subject=_TO)
    if order is not None and _is_by_input(layer, part):
        array = array[np.argsort(order)]
    return array.transpose(_axes(layer, part)).copy("C")


# ------------------------------------------------------------------------------------------------- flatten


def reorder_flat(dense: Dense, shape: tuple[int, int, int], *, inverse: bool = False) -> Dense:
    """Return the layer for images flattened as (H, W, C), given the layer for images flattened as (C, H, W).

    PyTorch flattens an image as (C, H, W), funcnet as (H, W, C); the weight's rows change places accordingly.
    ``from_torch`` does this itself if it gets an ``input_shape``.

    Args:
        dense: The Dense layer after the Flatten.
        shape: The shape of the image in funcnet, (H, W, C).
        inverse: Return the layer for (C, H, W), given that for (H, W, C).

    Raises:
        ConfigError: If dense is not a Dense layer, the shape is not three positive sizes, or inverse is not a bool.
        ShapeError: If the layer does not have H * W * C inputs.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.arange(4.0)[:, None], bias=np.zeros(1))
        >>> reorder_flat(layer, (1, 2, 2)).weight.ravel()
        array([0., 2., 1., 3.])
        >>> fn.equal(reorder_flat(reorder_flat(layer, (1, 2, 2)), (1, 2, 2), inverse=True), layer)
        True
    """
    if not isinstance(dense, Dense):
        raise ConfigError(f"dense must be a Dense layer, got {quoted(dense)}", subject=_REORDER)
    sizes, inverse = check_shape(shape), check_flag(_REORDER, "inverse", inverse)
    if len(sizes) != 3:
        raise ConfigError(f"shape must be (H, W, C), got {quoted(shape)}", subject=_REORDER)
    if math.prod(sizes) != len(dense.weight):
        wanted = f"{plural(math.prod(sizes), 'input')}, one per number of an image of shape {sizes}"
        raise ShapeError(f"dense must have {wanted}, got {len(dense.weight)}", subject=_REORDER)
    order = flat_order(sizes)
    if order is None:
        return dense
    return evolve(dense, weight=dense.weight[np.argsort(order) if inverse else order])


_REORDER: Final = "reorder_flat"
