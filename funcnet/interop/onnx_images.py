"""ONNX forms: convolution and pooling.

Images and sequences remain channels last: a convolution or a pool is between two transpositions, which onnxruntime
cancels between neighbors.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from funcnet.interop.onnx_graph import Attribute, Emit, OnnxGraph
from funcnet.interop.onnx_sequences import mask_of
from funcnet.layers.conv import Conv2D, conv2d_axes
from funcnet.layers.conv1d import Conv1D, conv1d_axis
from funcnet.layers.global_pooling import GlobalAvgPool2D, GlobalMaxPool2D
from funcnet.layers.pooling import AvgPool2D, MaxPool2D, pool_axes
from funcnet.layers.windows import Axis
from funcnet.network.layer import Layer, Shape


def _windowed(
    graph: OnnxGraph, kind: str, x: str, axes: tuple[Axis, ...], *arrays: str, **attributes: Attribute
) -> str:
    """An operator with windows along each axis; all padding is explicit, also that beyond it of ``ceil_mode``."""
    count = len(axes) + 1
    settings: dict[str, Any] = {
        "kernel_shape": [axis.size for axis in axes],
        "strides": [axis.stride for axis in axes],
        "pads": [axis.before for axis in axes] + [axis.after + axis.beyond for axis in axes],
        **({"dilations": [axis.dilation for axis in axes]} if any(axis.dilation > 1 for axis in axes) else {}),
        **attributes,
    }
    y = graph.op(kind, graph.op("Transpose", x, perm=(0, count, *range(1, count))), *arrays, **settings)
    return graph.op("Transpose", y, perm=(0, *range(2, count + 1), 1))


def _convolved(graph: OnnxGraph, params: Conv2D | Conv1D, x: str, axes: tuple[Axis, ...]) -> str:
    """A kernel (..., C // groups, O) is (O, C // groups, ...) in ONNX."""
    rank = params.weight.ndim
    weight = graph.constant(params.weight.transpose(rank - 1, rank - 2, *range(rank - 2)), "weight")
    bias = [] if params.bias is None else [graph.constant(params.bias, "bias")]
    return _windowed(graph, "Conv", x, axes, weight, *bias, group=params.groups)


def _emit_conv2d(graph: OnnxGraph, params: Conv2D, x: str, shape: Shape) -> str:
    return _convolved(graph, params, x, conv2d_axes(params, shape))


def _emit_conv1d(graph: OnnxGraph, params: Conv1D, x: str, shape: Shape) -> str:
    mask = mask_of(graph, params)
    read = graph.op("Mul", x, graph.op("Unsqueeze", mask, graph.constant((2,), "axes"))) if mask else x
    return _convolved(graph, params, read, (conv1d_axis(params, shape[0]),))


def _emit_max_pool(graph: OnnxGraph, params: MaxPool2D, x: str, shape: Shape) -> str:
    return _windowed(graph, "MaxPool", x, pool_axes(params, shape))


def _emit_avg_pool(graph: OnnxGraph, params: AvgPool2D, x: str, shape: Shape) -> str:
    """The mean of all pixels of a window, or of the image's own; pixels beyond the padding do not count."""
    axes = pool_axes(params, shape)
    if not params.count_padding:
        return _windowed(graph, "AveragePool", x, axes, count_include_pad=0)
    y = _windowed(graph, "AveragePool", x, axes, count_include_pad=1)
    if not any(axis.beyond for axis in axes):
        return y
    rows, columns = (axis.size / np.array(axis.counts(padding=True), graph.dtype) for axis in axes)
    return graph.op("Mul", y, graph.constant((rows[:, None] * columns)[:, :, None].astype(graph.dtype), "factors"))


def _over_pixels(kind: str) -> Emit[Layer]:
    """A reduction over the pixels of each image."""
    return lambda graph, _, x, __: graph.op(kind, x, graph.constant((1, 2), "axes"), keepdims=0)


FORMS: Final[dict[type[Layer], Emit[Any]]] = {
    Conv2D: _emit_conv2d,
    Conv1D: _emit_conv1d,
    MaxPool2D: _emit_max_pool,
    AvgPool2D: _emit_avg_pool,
    GlobalAvgPool2D: _over_pixels("ReduceMean"),
    GlobalMaxPool2D: _over_pixels("ReduceMax"),
}
"""The form of each layer."""
