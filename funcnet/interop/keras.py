"""Keras: the arrays of ``model.get_weights()`` in a network.

They are a list of arrays; this file does not import Keras.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from numpy.typing import ArrayLike

from funcnet.core.arrays import Array
from funcnet.core.errors import ConfigError, StructureError, listed, plural
from funcnet.core.records import check_tree, evolve
from funcnet.interop.keras_layers import FORMS, Shapes, depthwise_shape
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
from funcnet.network.layer import Layer, N, Shape

_FROM: Final = "from_keras"


def from_keras(net: N, arrays: Sequence[ArrayLike]) -> N:
    """Return the network with the arrays of a Keras model, ``model.get_weights()``.

    Layer by layer, in the order of both: Dense, Conv1D and Conv2D take kernel and bias, BatchNorm gamma, beta,
    moving_mean and moving_variance, LayerNorm gamma and beta, RMSNorm its scale, PReLU its alpha, Embedding and
    LearnedPositions their embeddings. Keras has funcnet's layouts: kernels (I, O) and (KH, KW, C, O), and images with
    the channels last, which Flatten flattens as (H, W, C). The kernel of a ``DepthwiseConv2D`` or ``DepthwiseConv1D``
    fits a convolution with ``groups=C``. The alpha of images with ``shared_axes=[1, 2]`` is (1, 1, C): pass
    ``alpha.ravel()``.

    RNN, GRU and LSTM take kernel, recurrent_kernel and bias of ``SimpleRNN``, ``GRU`` (with ``reset_after=True``, the
    default) and ``LSTM``. A ``Bidirectional`` is two layers, ``bidirectional(a, b)``. A layer with
    ``go_backwards=True`` is one with ``reverse=True``; with ``return_sequences=True``, Keras lists its outputs from the
    last step to the first, and funcnet leaves each output at its step. MultiHeadAttention takes the kernels and biases
    of query, key, value and output.

    The arrays have no names, so ``get_weights`` must list the layers in the order of the network: a model made of
    branches may not. A layer without a bias, a scale or an offset takes none. For a layer that has one, an array that
    Keras leaves out must be inserted: zeros for a bias with ``use_bias=False`` and for a beta with ``center=False``,
    ones for a gamma with ``scale=False``.

    Strides, paddings, activations and epsilons are those of ``net``. Keras' default epsilon is 1e-3 for
    ``BatchNormalization`` and ``LayerNormalization``, and 1e-6 for ``RMSNormalization``; funcnet's is 1e-5. Two layers
    of equal shapes in exchanged places load without an error, and so does a ``Conv2DTranspose`` in a Conv2D if it has
    as many input channels as output channels. Therefore, compare the outputs of both networks on one batch:
    ``np.abs(fn.forward(net, x) - model.predict(x)).max()``.

    Args:
        net: The network with the layers of the model. It is not changed.
        arrays: ``model.get_weights()``. The arrays are copied.

    Raises:
        StructureError: If arrays are missing or left over; the message lists them.
        ShapeError: If an array does not fit its layer.
        DTypeError: If an array's numbers may differ in the network's dtype. A narrower float, such as float16 in a
            network of float32, is accepted.
        ConfigError: If a layer with arrays is of another kind, or arrays is not a list of arrays.

    Source: https://keras.io/api/layers, where each layer documents its kernel; the order is that of ``Layer.weights``.

    Example:
        >>> import numpy as np
        >>> import funcnet as fn
        >>> net = fn.dense(fn.Key(0), 2, 1), fn.ReLU()
        >>> weights = [np.array([[2], [3]], np.float32), np.array([1], np.float32)]
        >>> fn.forward(from_keras(net, weights), np.array([[10, 100]], np.float32))  # 10 * 2 + 100 * 3 + 1
        array([[321.]], dtype=float32)
    """
    check_tree(_FROM, net)
    layers = dict(layers_with_arrays(net))
    check_kinds(_FROM, "Keras", layers, FORMS)
    given, dtype = _checked(arrays), dtype_of(net)
    needed = [(path, name, shape) for path, layer in layers.items() for name, shape in _shapes(path, layer).items()]
    wanted: list[Wanted] = []
    for i, (path, name, shape) in enumerate(needed):
        there = _there(layers[path], name, shape, shape_of(given[i] if i < len(given) else None))
        wanted.append(Wanted(f"the {name} of {described(path, layers[path])}", there, there, dtype))
    _check_count(given, wanted)
    found: dict[str, dict[str, Array]] = {path: {} for path in layers}
    for i, (path, name, _) in enumerate(needed):
        fix = "pass the list that model.get_weights() returns"
        found[path][name] = as_floats(_FROM, f"arrays[{i}]", given[i], wanted[i], fix)
    made = {path: evolve(layer, **FORMS[type(layer)].here(layer, found[path])) for path, layer in layers.items()}
    return with_layers(net, made)


def _shapes(path: str, layer: Layer) -> Shapes:
    try:
        return FORMS[type(layer)].shapes(layer)
    except ConfigError as error:
        raise ConfigError(error.message, subject=place(_FROM, path)) from None


def _there(layer: Layer, name: str, shape: Shape, given: Shape) -> Shape:
    """The shape that the array must have, which may be that of a depthwise kernel, or not be known yet."""
    depthwise = depthwise_shape(layer) if name == "weight" else None
    return given if shape == () or given == depthwise else shape


def _checked(arrays: object) -> list[object]:
    """The arrays as a list."""
    if not isinstance(arrays, Sequence) or isinstance(arrays, str | bytes):
        fix = "; use model.get_weights()" if hasattr(arrays, "get_weights") else ""
        raise ConfigError(f"arrays must be a list of arrays, got {type(arrays).__name__}{fix}", subject=_FROM)
    return list(cast("Sequence[object]", arrays))


def _check_count(given: list[object], wanted: list[Wanted]) -> None:
    """Check that there is one array for each of the network, and name the first that does not fit if there is not."""
    if len(given) == len(wanted):
        return
    missing = [f"arrays[{i}] for {wanted[i].layer}" for i in range(len(given), len(wanted))]
    others = [f"arrays[{i}] {_shape(given[i])}" for i in range(len(wanted), len(given))]
    faults = [f"missing: {listed(missing)}"] if missing else [f"left over: {listed(others)}"]
    pairs = enumerate(zip(given, wanted, strict=False))
    first = next((i for i, (array, want) in pairs if _shape(array) != want.there), None)
    if first is not None:
        fits = f"must have shape {wanted[first].there} for {wanted[first].layer}, got {_shape(given[first])}"
        faults.append(f"the first that does not fit: arrays[{first}] {fits}")
    fix = "insert the arrays that Keras leaves out: zeros for use_bias=False or center=False, ones for scale=False"
    counts = f"arrays must be the {plural(len(wanted), 'array')} of the network, got {len(given)}"
    raise StructureError("\n  ".join([counts, *faults, fix]), subject=_FROM)


def _shape(array: object) -> object:
    return getattr(array, "shape", None)
