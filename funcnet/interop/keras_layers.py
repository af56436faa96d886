"""Keras' arrays of each layer, in the order of ``get_weights``: their shapes, and what funcnet makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
from attrs import frozen

from funcnet.core.arrays import Array
from funcnet.core.errors import ConfigError
from funcnet.layers.attention import MultiHeadAttention
from funcnet.layers.batch_norm import BatchNorm
from funcnet.layers.conv import Conv2D
from funcnet.layers.conv1d import Conv1D
from funcnet.layers.dense import Dense
from funcnet.layers.embedding import Embedding
from funcnet.layers.gru import GRU
from funcnet.layers.lstm import LSTM
from funcnet.layers.normalization import LayerNorm, RMSNorm
from funcnet.layers.positions import LearnedPositions
from funcnet.layers.prelu import PReLU
from funcnet.layers.rnn import RNN
from funcnet.network.layer import Layer, Shape

Shapes: TypeAlias = dict[str, Shape]
"""The shape of each array of a layer in Keras, by a name for messages. An empty shape is one that is not known yet."""


@frozen(eq=False)
class Form:
    """How Keras keeps the arrays of a layer class.

    Args:
        shapes: ``layer -> shapes``, in Keras' order.
        here: ``(layer, arrays) -> fields``, given the arrays by the same names.
    """

    shapes: Callable[[Any], Shapes]
    here: Callable[[Any, dict[str, Array]], dict[str, Array]]


def _form(*fields: str, statistics: tuple[str, ...] = ()) -> Form:
    """The form of a layer whose arrays are the same in Keras. It has the statistics before funcnet has them."""

    def shapes(layer: Any) -> Shapes:
        found: Shapes = {name: array.shape for name in fields if (array := getattr(layer, name)) is not None}
        known = next(iter(found.values()), ())
        return found | dict.fromkeys(statistics, known)

    return Form(shapes, lambda _, arrays: arrays)


def _convolution_here(layer: Conv1D | Conv2D, arrays: dict[str, Array]) -> dict[str, Array]:
    """A depthwise kernel (..., C, M) has the outputs of a channel next to each other, as groups have."""
    return {**arrays, "weight": arrays["weight"].reshape(layer.weight.shape)}


def depthwise_shape(layer: Layer) -> Shape | None:
    """The shape of the kernel in a depthwise layer of Keras, (..., C, M); None for another layer.

    Example:
        >>> import funcnet as fn
        >>> depthwise_shape(fn.conv2d(fn.Key(0), 3, 6, 5, groups=3))
        (5, 5, 3, 2)
    """
    if not isinstance(layer, Conv1D | Conv2D) or layer.groups == 1 or layer.weight.shape[-2] > 1:
        return None
    return (*layer.weight.shape[:-2], layer.groups, layer.weight.shape[-1] // layer.groups)


def _check_no_initial(layer: RNN | GRU | LSTM) -> None:
    if layer.initial is not None or (isinstance(layer, LSTM) and layer.initial_cell is not None):
        raise ConfigError(f"{type(layer).__name__} has an initial state, which Keras does not store; use None")


def _recurrent_shapes(layer: RNN | LSTM) -> Shapes:
    _check_no_initial(layer)
    bias = {} if layer.bias is None else {"bias": layer.bias.shape}
    return {"weight": layer.weight.shape, "recurrent": layer.recurrent.shape, **bias}


def _gru_shapes(layer: GRU) -> Shapes:
    """With ``reset_after=True``, the default, the two rows of the bias are those of the inputs and of the state."""
    _check_no_initial(layer)
    if (layer.bias is None) != (layer.recurrent_bias is None):
        wanted = "a bias and a recurrent_bias, or neither"
        raise ConfigError(f"a GRU of Keras has {wanted}; create the layer with both or neither")
    bias = {} if layer.bias is None else {"bias": (2, *layer.bias.shape)}
    return {"weight": layer.weight.shape, "recurrent": layer.recurrent.shape, **bias}


def _gru_here(layer: GRU, arrays: dict[str, Array]) -> dict[str, Array]:
    """The gates are z, r, h in Keras and r, z, n here."""
    size = len(layer.recurrent)
    gates = {name: np.split(array, 3, axis=-1) for name, array in arrays.items()}
    found = {name: np.concatenate([r, z, n], axis=-1) for name, (z, r, n) in gates.items()}
    if "bias" in found:
        of_inputs, of_state = found.pop("bias")
        found["bias"] = np.concatenate([(of_inputs + of_state)[: 2 * size], of_inputs[2 * size :]])
        found["recurrent_bias"] = of_state[2 * size :]
    return found


def _attention_shapes(layer: MultiHeadAttention) -> Shapes:
    """Queries, keys and values have a kernel (C, H, D) each."""
    size, columns = layer.weight.shape
    parts = layer.heads, columns // 3 // layer.heads
    found: Shapes = {}
    for name in ("query", "key", "value"):
        found[f"{name} kernel"] = (size, *parts)
        if layer.bias is not None:
            found[f"{name} bias"] = parts
    found["out_weight"] = (*parts, size)
    return found if layer.out_bias is None else {**found, "out_bias": (size,)}


def _attention_here(layer: MultiHeadAttention, arrays: dict[str, Array]) -> dict[str, Array]:
    def joined(part: str, rows: tuple[int, ...]) -> Array:
        arrays_of = [arrays[f"{name} {part}"].reshape(*rows, -1) for name in ("query", "key", "value")]
        return np.concatenate(arrays_of, axis=-1)

    found = {"weight": joined("kernel", layer.weight.shape[:1])}
    found["out_weight"] = arrays["out_weight"].reshape(layer.out_weight.shape)
    if layer.bias is not None:
        found["bias"] = joined("bias", ())
    return found if layer.out_bias is None else {**found, "out_bias": arrays["out_bias"]}


FORMS: Final[dict[type[Layer], Form]] = {
    Dense: _form("weight", "bias"),
    Conv2D: Form(_form("weight", "bias").shapes, _convolution_here),
    Conv1D: Form(_form("weight", "bias").shapes, _convolution_here),
    BatchNorm: _form("scale", "offset", statistics=("mean", "variance")),
    LayerNorm: _form("scale", "offset"),
    RMSNorm: _form("scale"),
    PReLU: _form("slope"),
    Embedding: _form("weight"),
    LearnedPositions: _form("weight"),
    RNN: Form(_recurrent_shapes, lambda _, arrays: arrays),
    GRU: Form(_gru_shapes, _gru_here),
    LSTM: Form(_recurrent_shapes, lambda _, arrays: arrays),
    MultiHeadAttention: Form(_attention_shapes, _attention_here),
}
"""The form of each layer class with arrays: kernel and bias; gamma, beta, moving_mean and moving_variance; ..."""
