"""ONNX forms: RNN, GRU and LSTM are the operators of the same names, with the gates in ONNX's order.

The operators know no mask but the lengths of sequences that are padded at their end. With a mask, the valid steps are
therefore moved to the front, in the order of reading. A step depends on no later one, so what follows them does not
matter: the outputs are moved back and multiplied by the mask, and the last state is the one after the valid steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from funcnet.core.arrays import Array
from funcnet.interop.onnx_graph import Emit, OnnxGraph
from funcnet.interop.onnx_sequences import mask_of, number, steps_of, times_of
from funcnet.layers.gru import GRU
from funcnet.layers.lstm import LSTM
from funcnet.layers.rnn import RNN
from funcnet.network.layer import Layer, Shape


def _gates(array: Array, order: Sequence[int]) -> Array:
    """The gates of an array (..., G * H) in another order, as the first axis, which ONNX has: (G * H, ...)."""
    parts = np.split(array, len(order), axis=-1)
    return np.concatenate([parts[gate] for gate in order], axis=-1).T


def _bias_of(params: RNN | GRU | LSTM, order: Sequence[int]) -> Array | None:
    """Both biases of ONNX's operators, (2 * G * H,): that of the inputs and that of the state; None for zeros."""
    of_state = params.recurrent_bias if isinstance(params, GRU) else None
    if params.bias is None and of_state is None:
        return None
    zeros: Array = np.zeros_like(params.recurrent[0])
    first = zeros if params.bias is None else _gates(params.bias, order)
    second = zeros if of_state is None else np.concatenate([zeros[len(of_state) :], of_state])
    return np.concatenate([first, second])


def _initial(graph: OnnxGraph, params: RNN | GRU | LSTM, x: str) -> list[str]:
    """The states before the first step of x (B, T, I): (1, B, H) each."""
    given = [params.initial, params.initial_cell] if isinstance(params, LSTM) else [params.initial]
    batch = graph.op("Shape", x, start=0, end=1)
    one, size = graph.constant((1,), "one"), graph.constant((len(params.recurrent),), "size")
    shape = graph.op("Concat", one, batch, size, axis=0)
    zeros: Array = np.zeros_like(params.recurrent[:, 0])
    names = zip(given, ("initial", "initial_cell"), strict=False)
    return [graph.op("Expand", graph.constant(zeros if each is None else each, name), shape) for each, name in names]


def _operator(
    graph: OnnxGraph, params: RNN | GRU | LSTM, x: str, starts: list[str], order: Sequence[int], **settings: Any
) -> str:
    """All outputs of the operator, between two transpositions: ONNX's sequences are (T, B, C)."""
    bias = _bias_of(params, order)
    weights = (
        graph.constant(_gates(params.weight, order)[None], "weight"),
        graph.constant(_gates(params.recurrent, order)[None], "recurrent"),
        "" if bias is None else graph.constant(bias[None], "bias"),
    )
    read, size = graph.op("Transpose", x, perm=(1, 0, 2)), len(params.recurrent)
    y = graph.op(type(params).__name__, read, *weights, "", *starts, hidden_size=size, **settings)
    return graph.op("Squeeze", graph.op("Transpose", y, perm=(2, 0, 1, 3)), graph.constant((2,), "axes"))


def _recurrent(graph: OnnxGraph, params: RNN | GRU | LSTM, x: str, order: Sequence[int], **settings: Any) -> str:
    """The layer, whose gates have this order in ONNX."""
    mask = mask_of(graph, params)
    if mask:
        return _of_valid_steps(graph, params, x, mask, order, **settings)
    is_zero = params.initial is None and not (isinstance(params, LSTM) and params.initial_cell is not None)
    direction = {"direction": "reverse"} if params.reverse else {}
    y = _operator(graph, params, x, [] if is_zero else _initial(graph, params, x), order, **settings, **direction)
    last = 0 if params.reverse else -1
    return y if params.outputs == "all" else graph.op("Gather", y, number(graph, last), axis=1)


def _of_valid_steps(
    graph: OnnxGraph, params: RNN | GRU | LSTM, x: str, mask: str, order: Sequence[int], **settings: Any
) -> str:
    places, starts = _valid_first(graph, x, mask, reverse=params.reverse), _initial(graph, params, x)
    y = _operator(graph, params, _at(graph, x, places), starts, order, **settings)
    if params.outputs == "last":
        return _after_valid(graph, y, mask, starts[0])
    back = _at(graph, y, _order(graph, places, steps_of(graph, x)))
    return graph.op("Mul", back, graph.op("Unsqueeze", mask, graph.constant((2,), "axes")))


def _valid_first(graph: OnnxGraph, x: str, mask: str, *, reverse: bool) -> str:
    """The places of the valid steps in the order of reading, then those of the others. Shapes: mask, result (B, T)."""
    steps, keys = steps_of(graph, x), times_of(graph, x)
    if reverse:
        keys = graph.op("Sub", steps, keys)
    padded = graph.op("Sub", number(graph, 1), graph.cast(mask, np.int64))
    return _order(graph, graph.op("Add", keys, graph.op("Mul", padded, graph.op("Add", steps, steps))), steps)


def _order(graph: OnnxGraph, keys: str, steps: str) -> str:
    """The places of different keys in rising order; for a permutation, its inverse. Shapes: keys, result (B, T)."""
    return graph.op("TopK", keys, steps, axis=1, largest=0, outputs=2)


def _at(graph: OnnxGraph, x: str, places: str) -> str:
    """The steps at some places. Shapes: x (B, T, C), places (B, S), result (B, S, C)."""
    return graph.op("GatherND", x, graph.op("Unsqueeze", places, graph.constant((2,), "axes")), batch_dims=1)


def _after_valid(graph: OnnxGraph, y: str, mask: str, start: str) -> str:
    """The state after the valid steps, which are the first of y: the state before them if there is none."""
    axes = graph.constant((1,), "axes")
    valid = graph.cast(graph.op("ReduceSum", mask, axes, keepdims=1), np.int64)
    states = graph.op("Concat", graph.op("Transpose", start, perm=(1, 0, 2)), y, axis=1)
    return graph.op("Squeeze", _at(graph, states, valid), axes)


def _emit_rnn(graph: OnnxGraph, params: RNN, x: str, _: Shape) -> str:
    return _recurrent(graph, params, x, (0,), activations=["Relu" if params.activation == "relu" else "Tanh"])


def _emit_gru(graph: OnnxGraph, params: GRU, x: str, _: Shape) -> str:
    """The gates are r, z, n here and z, r, h in ONNX."""
    return _recurrent(graph, params, x, (1, 0, 2), linear_before_reset=1)


def _emit_lstm(graph: OnnxGraph, params: LSTM, x: str, _: Shape) -> str:
    """The gates are i, f, n, o here and i, o, f, c in ONNX."""
    return _recurrent(graph, params, x, (0, 3, 1, 2))


FORMS: Final[dict[type[Layer], Emit[Any]]] = {RNN: _emit_rnn, GRU: _emit_gru, LSTM: _emit_lstm}
"""The form of each layer."""
