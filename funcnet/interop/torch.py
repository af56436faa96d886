"""PyTorch: the arrays of a ``state_dict`` in a network, and the arrays of a network as a ``state_dict``.

A ``state_dict`` is a mapping of names to arrays; this file does not import PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Final, cast

import numpy as np
from numpy.typing import ArrayLike

from funcnet.core.arrays import AnyArray, Array
from funcnet.core.checks import check_flag
from funcnet.core.errors import LISTED, ConfigError, ShapeError, StructureError, listed, plural, quoted
from funcnet.core.records import check_tree, evolve, fields_of
from funcnet.interop.flattening import Order, flat_order, flat_orders
from funcnet.interop.layer_arrays import (
    Wanted,
    as_floats,
    check_kinds,
    described,
    dtype_of,
    layers_with_arrays,
    place,
    shape_of,
    with_layers,
)
from funcnet.interop.torch_layers import FORMS, STATISTICS, Arrays
from funcnet.interop.torch_state import (
    COUNTER,
    FROM,
    Modules,
    Part,
    all_quoted,
    array_names,
    differ_in_numbers,
    in_order,
    joined,
    modules_of,
    parts_of,
    texts,
)
from funcnet.layers.batch_norm import BatchNorm
from funcnet.layers.dense import Dense
from funcnet.layers.gru import GRU
from funcnet.layers.lstm import LSTM
from funcnet.layers.positions import LearnedPositions
from funcnet.layers.prelu import PReLU
from funcnet.layers.rnn import RNN
from funcnet.network.layer import Layer, N, Network, Shape
from funcnet.network.passes import check_shape

_TO_NUMPY: Final = "use {name: tensor.detach().cpu() for name, tensor in state.items()}, with .float() for bfloat16"


def from_torch(
    net: N, state: Mapping[str, ArrayLike], names: Sequence[str] | None = None, *, input_shape: Shape | None = None
) -> N:
    """Return the network with the arrays of a PyTorch ``state_dict``.

    Module by module, in order: Dense takes the arrays of ``Linear``, Conv1D and Conv2D those of ``Conv1d`` and
    ``Conv2d``, BatchNorm those of ``BatchNorm1d`` or ``BatchNorm2d`` including the running statistics, and LayerNorm,
    RMSNorm, PReLU, Embedding, RNN, GRU, LSTM and MultiHeadAttention those of the modules of the same names. Other
    layers have no arrays and are passed over. A module without a bias gives the bias 0 to a layer that has one, and a
    ``BatchNorm`` without an affine map gives scale 1 and offset 0, which compute the same numbers.

    **A recurrent module** with several levels or both directions has the arrays of several layers, in the order of its
    levels, each forward and then backward: ``(bidirectional(a, b), bidirectional(c, d))`` for two levels. The two
    biases of PyTorch are added. LearnedPositions takes the weight of an ``Embedding``, or a bare parameter (L, C) or
    (1, L, C), which is a module of its own here; PyTorch lists it before all modules, so pass ``names``.

    PyTorch has no module that reads backward only. A layer with ``reverse=True`` takes the arrays whose names end in
    ``_reverse``, or those of a module that the model applies to flipped steps: ``module(x.flip(1))[0].flip(1)``.

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
    * the arrays of a ``GroupNorm`` in a LayerNorm, or of an ``Embedding`` in a Dense;
    * the arrays of an ``RNN`` whose nonlinearity is another one.

    Therefore, compare the outputs on one batch::

        np.abs(fn.forward(net, x) - model.eval()(torch.tensor(x)).detach().numpy()).max()

    Images are ``torch.tensor(x).permute(0, 3, 1, 2)`` in PyTorch, and so are the scales of a LayerNorm over images.
    Sequences are (B, T, C) with ``batch_first=True``, and ``torch.tensor(x).mT`` for a ``Conv1d``.

    Args:
        net: The network with the layers of the model. It is not changed.
        state: ``model.state_dict()``, or ``fn.load_arrays("model.safetensors")``. The arrays are copied.
        names: The name of the module of each layer that has arrays, in the order of the network, such as
            ``("conv1", "bn1", "fc")``. The layers of one recurrent module have its name once, or once for each. An
            encoder layer with its norms first is ``("norm1", "self_attn", "norm2", "linear1", "linear2")``.
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
    check_tree(FROM, net)
    layers = dict(layers_with_arrays(net))
    check_kinds(FROM, "PyTorch", layers, FORMS)
    modules = modules_of(state)
    ordered = in_order(modules) if names is None else _named(names, modules)
    parts = [part for name in ordered for part in parts_of(name, modules[name])]
    is_certain = names is not None or differ_in_numbers(ordered)
    order = partial(_order, ordered, layers, [] if is_certain else parts)
    _check_fit(layers, modules, parts, order)
    orders, dtype = flat_orders(FROM, net, input_shape), dtype_of(net)
    pairs = zip(layers.items(), parts, strict=True)
    try:
        made = {path: _loaded(path, layer, part, orders.get(path), dtype) for (path, layer), part in pairs}
    except ShapeError as error:
        raise error if is_certain else ShapeError(f"{error.message}{order()}", subject=FROM) from None
    return with_layers(net, made)


def _order(ordered: list[str], layers: Mapping[str, Layer], uncertain: list[Part]) -> str:
    """The order of the modules, for a message, with an order of the uncertain ones in which their arrays fit."""
    taken = f"; the modules are taken in the order {all_quoted(ordered)}"
    if not uncertain:
        return taken
    left, names = list(uncertain), list[str]()
    for path, layer in layers.items():
        wanted = _shapes(_arrays_of(FROM, path, layer))
        first = next((part for part in left if _shapes(part.arrays) == wanted), None)
        if first is not None:
            left.remove(first)
            names.append(first.module)
    fits = not left and len({*names}) == len(layers)
    example = f"; the arrays would fit names={tuple(names)!r}" if fits else ""
    return f"{taken}; if the model applies them in another order, pass names={example}"


def _shapes(arrays: Mapping[str, object]) -> dict[str, Shape]:
    return {name: shape_of(array) for name, array in arrays.items() if name not in STATISTICS}


def _named(names: object, modules: Modules) -> list[str]:
    """The different names that the caller gives, after a check that they are names of modules."""
    given = {name: len([*same]) for name, same in groupby(texts(FROM, names))}
    unknown = [name for name in given if name not in modules]
    if unknown:
        reason = f"names must be modules of state, {all_quoted(modules)}, got {all_quoted(unknown)}"
        raise ConfigError(reason, subject=FROM)
    for name, count in given.items():
        if count > 1 and count != len(parts_of(name, modules[name])):
            wanted = "a sequence of the names of modules, all different"
            raise ConfigError(f"names must be {wanted}, got {quoted(names)}", subject=FROM)
    return list(given)


# ---------------------------------------------------------------------------------------------------- load


def _arrays_of(subject: str, path: str, layer: Layer) -> Arrays:
    """The arrays of the layer in PyTorch's layout."""
    try:
        return FORMS[type(layer)].there(layer)
    except ConfigError as error:
        raise ConfigError(error.message, subject=place(subject, path)) from None


def _check_fit(layers: Mapping[str, Layer], modules: Modules, parts: list[Part], order: Callable[[], str]) -> None:
    """Check that there is one module, or part of one, per layer, which has the arrays of its layer and no other."""
    faults: list[str] = []
    for (path, layer), part in zip(layers.items(), parts, strict=False):
        wanted = {*_arrays_of(FROM, path, layer), *(STATISTICS if isinstance(layer, BatchNorm) else ())}
        names = [name for name in FORMS[type(layer)].fields if name in wanted]
        missing = [name for name in names if name not in part.arrays and name not in FORMS[type(layer)].absent]
        others = [part.full[name] for name in part.arrays if name not in wanted]
        full = [joined(part.module, name + part.suffix) for name in missing]
        for what, found in (("missing", full), ("left over", others)):
            if found:
                faults.append(f"{what} for {described(path, layer)}: {all_quoted(found)}")
        if isinstance(layer, RNN | GRU | LSTM) and part.reverse and not layer.reverse:
            faults.append(f"{described(path, layer)} must have reverse=True for {all_quoted(part.full.values())}")
    alone = [described(path, layer) for path, layer in list(layers.items())[len(parts) :]]
    unused = array_names(modules, [name for name in modules if name not in {part.module for part in parts}])
    unused = [name for part in parts[len(layers) :] for name in part.full.values()] + unused
    faults[LISTED:] = [f"and {len(faults) - LISTED} more"] if len(faults) > LISTED else []
    faults += [f"missing: the arrays of {listed(alone)}"] if alone else []
    faults += [f"left over: {all_quoted(unused)}"] if unused else []
    if faults:
        counts = f"it has {plural(len(layers), 'layer')} with arrays, state has arrays of {len(modules)}"
        reason = "\n  ".join([f"state must fit the network: {counts}{order() if parts else ''}", *faults])
        raise StructureError(reason, subject=FROM)


def _loaded(path: str, layer: Layer, part: Part, order: Order | None, dtype: np.dtype[np.floating]) -> Layer:
    """The layer with the arrays of a module."""
    form, there = FORMS[type(layer)], _arrays_of(FROM, path, layer)
    arrays: Arrays = {}
    for name, field in form.fields.items():
        if name not in part.arrays:
            if name in there:
                arrays[name] = np.full(there[name].shape, form.absent[name], there[name].dtype)
            continue
        value = part.arrays[name]
        if isinstance(layer, LearnedPositions) and shape_of(value) == (1, *layer.weight.shape):  # for any batch
            value = cast("AnyArray", value)[0]
        own: Array | None = getattr(layer, field)
        first = next(iter(there.values()), None)  # the layer does not have all statistics yet
        shape = there[name].shape if name in there else shape_of(value)[:1] if first is None else first.shape
        wanted = Wanted(described(path, layer), shape, shape if own is None else own.shape, dtype)
        arrays[name] = as_floats(FROM, quoted(part.full[name]), value, wanted, _TO_NUMPY)
    try:
        changes = form.here(layer, arrays)
    except ConfigError as error:
        raise ConfigError(error.message, subject=place(FROM, path)) from None
    return _reordered(evolve(layer, **changes), order)


def _reordered(layer: Layer, order: Order | None) -> Layer:
    """The layer with the arrays that have a number for each input in another order."""
    if order is None:
        return layer
    names = ("weight",) if isinstance(layer, Dense) else fields_of(type(layer)).arrays
    if isinstance(layer, PReLU) and layer.slope.size == 1:
        return layer
    arrays: dict[str, Array | None] = {name: getattr(layer, name) for name in names}
    return evolve(layer, **{name: array[order] for name, array in arrays.items() if array is not None})


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

    A recurrent layer with ``reverse=True`` that follows a layer of the same name without it is the second direction of
    that module, and the names of its arrays end in ``_reverse``. Under a name of its own, it is a module that reads
    forward, as PyTorch has no other: apply this module to flipped steps, ``module(x.flip(1))[0].flip(1)``.

    Args:
        net: The network; its layers with arrays are those that ``from_torch`` lists.
        names: The name of the module of each layer that has arrays, in the order of the network. The default is
            funcnet's own path, which is the name in an ``nn.Sequential`` of the same layers: "0", or "2.net.0" in
            a Residual whose module keeps its network as ``net``. A Frozen adds ``.net``; pass ``names`` if the model
            has no such module. Layers next to each other with the same name are the levels and directions of one
            recurrent module.
        input_shape: The shape of a row of funcnet's x, such as (28, 28, 1). It is needed for a network with a Flatten
            or a Reshape: PyTorch flattens images as (C, H, W).

    Returns:
        New arrays that are contiguous and writable. A BatchNorm has ``num_batches_tracked`` 0, an int64 array, which
        ``load_state_dict`` requires.

    Raises:
        ConfigError: If a layer has no counterpart in PyTorch, if a recurrent layer has an initial state, if a BatchNorm
            has no statistics, if the order of flattened images is unknown, or if an argument is invalid.
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
    check_kinds(_TO, "PyTorch", layers, FORMS)
    modules = list(layers) if names is None else _one_per_layer(names, layers)
    orders = flat_orders(_TO, net, input_shape)
    suffixes = _suffixes(list(layers.values()), modules)
    state: dict[str, AnyArray] = {}
    for (path, layer), module, suffix in zip(layers.items(), modules, suffixes, strict=True):
        if isinstance(layer, BatchNorm) and layer.mean is None:
            fix = "use calibrate(net, x)"
            raise ConfigError(f"{described(path, layer)} has no mean to export; {fix}", subject=_TO)
        order = orders.get(path)
        arrays = _arrays_of(_TO, path, _reordered(layer, None if order is None else np.argsort(order)))
        state |= {joined(module, name + suffix): array.copy("C") for name, array in arrays.items()}
        if isinstance(layer, BatchNorm):
            state[joined(module, COUNTER)] = np.zeros((), np.int64)
    return state


_TO: Final = "to_torch"


def _one_per_layer(names: object, layers: Mapping[str, Layer]) -> list[str]:
    given, kinds = texts(_TO, names), [*layers.values()]
    if len(given) != len(layers):
        each = listed(described(*item) for item in layers.items())
        wanted = f"{plural(len(layers), 'module')}, one for each of {each}"
        raise ConfigError(f"names must be of {wanted}, got {len(given)}", subject=_TO)
    for layer, name in zip(kinds, given, strict=True):
        if given.count(name) > 1 and not isinstance(layer, RNN | GRU | LSTM):
            wanted = "a sequence of the names of modules, all different"
            raise ConfigError(f"names must be {wanted}, got {quoted(names)}", subject=_TO)
    return given


def _suffixes(layers: list[Layer], modules: list[str]) -> list[str]:
    """The ends of the names of each layer's arrays: ``_l1_reverse`` for the second level of a recurrent module.

    A layer of the same module as the one before is its other direction if it is the first with ``reverse``.
    """
    suffixes: list[str] = []
    level, was_reversed = 0, False
    for i, layer in enumerate(layers):
        if not isinstance(layer, RNN | GRU | LSTM):
            suffixes.append("")
            continue
        follows = i > 0 and modules[i - 1] == modules[i]
        is_other = follows and layer.reverse and not was_reversed
        level = 0 if not follows else level if is_other else level + 1
        was_reversed = layer.reverse
        suffixes.append(f"_l{level}{'_reverse' if is_other else ''}")
    return suffixes


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
