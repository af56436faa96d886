"""ONNX forms: ids, positions, attention and summaries of sequences (B, T, C), and the mask of padded steps.

No form depends on the number of steps T, so a model may take sequences of any length.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from funcnet.core.errors import ConfigError
from funcnet.core.records import fields_of
from funcnet.interop.onnx_graph import Emit, OnnxGraph
from funcnet.interop.onnx_layers import affine
from funcnet.layers.attention import MultiHeadAttention
from funcnet.layers.embedding import Embedding
from funcnet.layers.masked import Masked
from funcnet.layers.positions import LearnedPositions, SinusoidalPositions
from funcnet.layers.steps import LastStep, MeanOverTime
from funcnet.network.layer import Layer, Shape


def number(graph: OnnxGraph, value: int) -> str:
    """An int64 without axes, such as the place of a step."""
    return graph.constant(np.array(value, np.int64), "number")


def steps_of(graph: OnnxGraph, x: str) -> str:
    """The number of steps of x (B, T, ...), as a vector of one number."""
    return graph.op("Shape", x, start=1, end=2)


def times_of(graph: OnnxGraph, x: str) -> str:
    """The numbers from 0 to T - 1 for x (B, T, ...), as int64."""
    end = graph.op("Squeeze", steps_of(graph, x), graph.constant((0,), "axes"))
    return graph.op("Range", number(graph, 0), end, number(graph, 1))


# ----------------------------------------------------------------------------------------------- ids, positions


def _emit_embedding(graph: OnnxGraph, params: Embedding, x: str, _: Shape) -> str:
    return graph.op("Gather", graph.constant(params.weight, "weight"), x)


def _emit_learned_positions(graph: OnnxGraph, params: LearnedPositions, x: str, _: Shape) -> str:
    weight, start = graph.constant(params.weight, "weight"), graph.constant((0,), "start")
    return graph.op("Add", x, graph.op("Slice", weight, start, steps_of(graph, x)))


def _emit_sinusoidal_positions(graph: OnnxGraph, _: SinusoidalPositions, x: str, shape: Shape) -> str:
    """The waves are computed in float64: in float32, the angle of a late step has few digits."""
    channels = np.arange(shape[1])
    rates = graph.constant(10000.0 ** -(channels // 2 * 2 / shape[1]), "rates")
    column = graph.op("Unsqueeze", times_of(graph, x), graph.constant((1,), "axes"))
    angles = graph.op("Mul", graph.cast(column, np.float64), rates)
    waves = graph.op("Sin", graph.op("Add", angles, graph.constant(channels % 2 * (np.pi / 2), "phases")))
    return graph.op("Add", x, waves if graph.dtype == np.float64 else graph.cast(waves))


# ---------------------------------------------------------------------------------------------------------- masks


def _emit_masked(graph: OnnxGraph, params: Masked[Any], x: str, shape: Shape) -> str:
    """The network inside with the mask of the steps that differ from the padding."""
    outer = graph.mask
    if len(shape) == 1:
        padding = int(params.padding) if params.padding == int(params.padding) else -1  # no id
        graph.mask = graph.cast(graph.op("Not", graph.op("Equal", x, number(graph, padding))))
    else:
        differs = graph.op("Not", graph.op("Equal", x, graph.constant(params.padding, "padding")))
        valid = graph.cast(differs)
        graph.mask = graph.op("ReduceMax", valid, graph.constant((2,), "axes"), keepdims=0)
    y = graph.network(params.net, x, shape, "net")
    graph.mask = outer
    return y


def mask_of(graph: OnnxGraph, params: Layer) -> str:
    """The name of the mask for a layer, or an empty name.

    Raises:
        ConfigError: If the layer has a mask of its own.
    """
    masks = fields_of(type(params)).masks
    if not graph.mask and any(getattr(params, name) is not None for name in masks):
        fix = "use fn.Masked(net), which makes the mask from x, or fn.masked(net, None)"
        reason = f"a mask is data of one batch, which a model cannot have; {fix}"
        raise ConfigError(reason, subject=type(params).__name__)
    return graph.mask


def _emit_last_step(graph: OnnxGraph, params: LastStep, x: str, _: Shape) -> str:
    """``x[:, -1]``, or the product with the flags of the last valid steps."""
    mask = mask_of(graph, params)
    if not mask:
        return graph.op("Gather", x, number(graph, -1), axis=1)
    numbers = graph.cast(graph.op("Add", times_of(graph, x), number(graph, 1)))
    valid = graph.op("Mul", numbers, mask)
    largest = graph.op("ReduceMax", valid, graph.constant((1,), "axes"), keepdims=1)
    is_last = graph.cast(graph.op("Equal", valid, largest))
    return _sum_of_steps(graph, x, graph.op("Mul", mask, is_last))


def _sum_of_steps(graph: OnnxGraph, x: str, counts: str) -> str:
    """The sum over the steps, each times its count. Shapes: x (B, T, C), counts (B, T), result (B, C)."""
    row = graph.op("Unsqueeze", counts, graph.constant((1,), "axes"))
    return graph.op("Squeeze", graph.op("MatMul", row, x), graph.constant((1,), "axes"))


def _emit_mean_over_time(graph: OnnxGraph, params: MeanOverTime, x: str, _: Shape) -> str:
    mask, axes = mask_of(graph, params), graph.constant((1,), "axes")
    if not mask:
        return graph.op("ReduceMean", x, axes, keepdims=0)
    valid = graph.op("Max", graph.op("ReduceSum", mask, axes, keepdims=1), graph.constant(1.0, "one"))
    return graph.op("Div", _sum_of_steps(graph, x, mask), valid)


# ------------------------------------------------------------------------------------------------------ attention


def _emit_attention(graph: OnnxGraph, params: MultiHeadAttention, x: str, _: Shape) -> str:
    """``softmax(q k.T / sqrt(D)) v`` for each head, between two affine maps.

    k is not transposed alone: onnxruntime 1.18 merges that into the product, for which it has no float64.
    """
    mask, size = mask_of(graph, params), params.out_weight.shape[0] // params.heads
    sides = graph.constant((0, 0, 3, params.heads, size), "sides")
    projected = graph.op("Reshape", affine(graph, x, params.weight, params.bias), sides)
    by_side, keys_last = (graph.op("Transpose", projected, perm=perm) for perm in ((2, 0, 3, 1, 4), (2, 0, 3, 4, 1)))
    sides_of = zip((by_side, keys_last, by_side), range(3), strict=True)
    q, k, v = (graph.op("Gather", each, number(graph, side), axis=0) for each, side in sides_of)
    scores = graph.op("MatMul", graph.op("Mul", q, graph.constant(1 / np.sqrt(size).item(), "scale")), k)
    hidden = _hidden(graph, x, mask, causal=params.causal)
    if hidden:
        low = graph.constant(float(np.finfo(graph.dtype).min) / 2, "low")
        scores = graph.op("Where", hidden, low, scores)
    shares = graph.op("Softmax", scores, axis=-1)
    if mask:  # a step that may read from no step reads zeros
        shares = graph.op("Where", hidden, graph.constant(0.0, "zero"), shares)
    read = graph.op("Transpose", graph.op("MatMul", shares, v), perm=(0, 2, 1, 3))
    together = graph.op("Reshape", read, graph.constant((0, 0, params.heads * size), "shape"))
    return affine(graph, together, params.out_weight, params.out_bias, ("out_weight", "out_bias"))


def _hidden(graph: OnnxGraph, x: str, mask: str, *, causal: bool) -> str:
    """True where a query must not read a key: (T, T), (B, 1, 1, T) or (B, 1, T, T); an empty name for nowhere."""
    later = padded = ""
    if causal:
        times, axes = times_of(graph, x), (graph.constant((axis,), "axes") for axis in range(2))
        keys, queries = (graph.op("Unsqueeze", times, each) for each in axes)
        later = graph.op("Greater", keys, queries)
    if mask:
        is_padded = graph.op("Equal", mask, graph.constant(0.0, "zero"))
        padded = graph.op("Unsqueeze", is_padded, graph.constant((1, 2), "axes"))
    return graph.op("Or", later, padded) if later and padded else later or padded


FORMS: Final[dict[type[Layer], Emit[Any]]] = {
    Embedding: _emit_embedding,
    LearnedPositions: _emit_learned_positions,
    SinusoidalPositions: _emit_sinusoidal_positions,
    Masked: _emit_masked,
    LastStep: _emit_last_step,
    MeanOverTime: _emit_mean_over_time,
    MultiHeadAttention: _emit_attention,
}
"""The form of each layer."""
