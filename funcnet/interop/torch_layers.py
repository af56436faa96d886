"""PyTorch's arrays of each layer: their names, their layouts, and the way there and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np
from attrs import field, frozen

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
from funcnet.network.layer import Layer

Arrays: TypeAlias = dict[str, Array]
"""Arrays of a layer by PyTorch's names, in PyTorch's layout."""


@frozen(eq=False)
class Form:
    """How PyTorch keeps the arrays of a layer class.

    Args:
        there: ``layer -> arrays``, the layer's arrays as PyTorch has them, without those that are None.
        here: ``(layer, arrays) -> fields``, the other way round.
        fields: The field that has the numbers of an array, by PyTorch's name, for messages about layouts.
        absent: The number of an array that a module may leave out, by its name.
    """

    there: Callable[[Any], Arrays]
    here: Callable[[Any, Arrays], Arrays]
    fields: Mapping[str, str]
    absent: Mapping[str, float] = field(factory=dict[str, float])


def _kernel(rank: int) -> tuple[int, ...]:
    """(I, O) is (O, I) in PyTorch, and (KH, KW, C, O) is (O, C, KH, KW)."""
    return (rank - 1, rank - 2, *range(rank - 2)) if rank > 1 else (0,)


def _channels_first(rank: int) -> tuple[int, ...]:
    """(H, W, C) is (C, H, W) in PyTorch; (C,) and (T, C) are the same."""
    return (rank - 1, *range(rank - 1)) if rank > 2 else tuple(range(rank))


def _form(fields: dict[str, str], axes: Callable[[int], tuple[int, ...]] = _channels_first, **absent: float) -> Form:
    """The form of a layer whose arrays have the same numbers in PyTorch, with their axes in another order."""

    def there(layer: Any) -> Arrays:
        pairs = ((name, getattr(layer, own, None)) for name, own in fields.items())
        return {name: array.transpose(axes(array.ndim)) for name, array in pairs if array is not None}

    def here(_: Any, arrays: Arrays) -> Arrays:
        return {fields[name]: array.transpose(np.argsort(axes(array.ndim))) for name, array in arrays.items()}

    return Form(there, here, fields, absent)


def _kept(layer: Layer, found: Arrays, neutral: Mapping[str, float]) -> Arrays:
    """The arrays of the fields that the layer has; an array of another field must have the number that changes nothing.

    Raises:
        ConfigError: If it does not.
    """
    absent = [name for name in neutral if name in found and getattr(layer, name) is None]
    for name in absent:
        if (found[name] != neutral[name]).any():
            kind = type(layer).__name__
            fix = f"create it with {name.removeprefix('recurrent_')}=True"
            raise ConfigError(f"the module's {name} must be {neutral[name]} for a {kind} without one; {fix}")
    return {name: array for name, array in found.items() if name not in absent}


# ----------------------------------------------------------------------------------------------------------- norms

_AFFINE: Final = {"weight": "scale", "bias": "offset"}
_STATISTICS: Final = {"running_mean": "mean", "running_var": "variance"}
_NORM: Final = _form({**_AFFINE, **_STATISTICS})


def _norm_there(layer: BatchNorm | LayerNorm) -> Arrays:
    """PyTorch's ``BatchNorm`` has both a scale and an offset or neither, and ``LayerNorm`` no offset alone."""
    found = _NORM.there(layer)
    first = next(iter(found.values()), None)
    if layer.offset is not None and layer.scale is None:
        found["weight"] = np.ones_like(first)
    if layer.scale is not None and layer.offset is None and isinstance(layer, BatchNorm):
        found["bias"] = np.zeros_like(first)
    return found


def _norm_here(layer: BatchNorm | LayerNorm, arrays: Arrays) -> Arrays:
    return _kept(layer, _NORM.here(layer, arrays), {"scale": 1.0, "offset": 0.0})


# ------------------------------------------------------------------------------------------------ recurrent layers


def _recurrent_there(layer: RNN | GRU | LSTM) -> Arrays:
    """Both biases of PyTorch are added, so one of them is 0, except for the recurrent bias of a GRU."""
    if layer.initial is not None or (isinstance(layer, LSTM) and layer.initial_cell is not None):
        fix = "give PyTorch's module the state as its second argument, and use evolve(layer, initial=None) here"
        raise ConfigError(f"{type(layer).__name__} has an initial state, which PyTorch does not store; {fix}")
    weights = {"weight_ih": layer.weight.T, "weight_hh": layer.recurrent.T}
    of_state = layer.recurrent_bias if isinstance(layer, GRU) else None
    if layer.bias is None and of_state is None:
        return weights
    zeros: Array = np.zeros_like(layer.recurrent[0])
    second = zeros if of_state is None else np.concatenate([zeros[len(of_state) :], of_state])
    return {**weights, "bias_ih": zeros if layer.bias is None else layer.bias, "bias_hh": second}


def _recurrent_here(layer: RNN | GRU | LSTM, arrays: Arrays) -> Arrays:
    found = {"weight": arrays["weight_ih"].T, "recurrent": arrays["weight_hh"].T}
    if "bias_ih" not in arrays:
        return found
    first, second = arrays["bias_ih"], arrays["bias_hh"]
    if isinstance(layer, GRU):
        gates = 2 * len(layer.recurrent)
        found |= {"bias": np.concatenate([(first + second)[:gates], first[gates:]]), "recurrent_bias": second[gates:]}
    else:
        found |= {"bias": first + second}
    return _kept(layer, found, {"bias": 0.0, "recurrent_bias": 0.0})


_RECURRENT: Final = Form(
    _recurrent_there,
    _recurrent_here,
    {"weight_ih": "weight", "weight_hh": "recurrent", "bias_ih": "bias", "bias_hh": "bias"},
    {"bias_ih": 0.0, "bias_hh": 0.0},
)

# -------------------------------------------------------------------------------------------------------- the table

_ATTENTION: Final = {
    "in_proj_weight": "weight",
    "in_proj_bias": "bias",
    "out_proj.weight": "out_weight",
    "out_proj.bias": "out_bias",
}
_LINEAR: Final = {"weight": "weight", "bias": "bias"}

FORMS: Final[dict[type[Layer], Form]] = {
    Dense: _form(_LINEAR, _kernel, bias=0.0),
    Conv2D: _form(_LINEAR, _kernel, bias=0.0),
    Conv1D: _form(_LINEAR, _kernel, bias=0.0),
    BatchNorm: Form(_norm_there, _norm_here, {**_AFFINE, **_STATISTICS}, {"weight": 1.0, "bias": 0.0}),
    LayerNorm: Form(_norm_there, _norm_here, _AFFINE, {"bias": 0.0}),
    RMSNorm: _form({"weight": "scale"}),
    PReLU: _form({"weight": "slope"}),
    Embedding: _form({"weight": "weight"}),
    LearnedPositions: _form({"weight": "weight"}),
    RNN: _RECURRENT,
    GRU: _RECURRENT,
    LSTM: _RECURRENT,
    MultiHeadAttention: _form(_ATTENTION, _kernel, **{"in_proj_bias": 0.0, "out_proj.bias": 0.0}),
}
"""The form of each layer class with arrays."""

STATISTICS: Final = tuple(_STATISTICS)
"""The arrays that a module has even if the layer does not have them yet."""
