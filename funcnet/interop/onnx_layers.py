"""ONNX forms: affine layers, norms, activations, and the combinators."""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np

from funcnet.core.arrays import Array
from funcnet.interop.onnx_graph import Emit, OnnxGraph
from funcnet.layers.activations import (
    ELU,
    GELU,
    SELU,
    GELUTanh,
    HardSwish,
    Identity,
    LeakyReLU,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Softsign,
    Tanh,
)
from funcnet.layers.batch_norm import BatchNorm
from funcnet.layers.dense import Dense
from funcnet.layers.dropout import Dropout
from funcnet.layers.frozen import Frozen
from funcnet.layers.normalization import LayerNorm, RMSNorm
from funcnet.layers.parallel import Parallel
from funcnet.layers.prelu import PReLU
from funcnet.layers.repeat import Repeat
from funcnet.layers.residual import Residual
from funcnet.layers.shapes import Flatten, Reshape
from funcnet.layers.softmax import Softmax
from funcnet.layers.standardize import Standardize
from funcnet.network.layer import Layer, Shape

# ------------------------------------------------------------------------------------------- affine layers, norms


def affine(
    graph: OnnxGraph, x: str, weight: Array, bias: Array | None, names: tuple[str, str] = ("weight", "bias")
) -> str:
    """``x @ weight + bias`` for x with any number of axes."""
    y = graph.op("MatMul", x, graph.constant(weight, names[0]))
    return y if bias is None else graph.op("Add", y, graph.constant(bias, names[1]))


def _emit_dense(graph: OnnxGraph, params: Dense, x: str, shape: Shape) -> str:
    if len(shape) > 1 or params.bias is None:
        return affine(graph, x, params.weight, params.bias)
    return graph.op("Gemm", x, graph.constant(params.weight, "weight"), graph.constant(params.bias, "bias"))


def _emit_standardize(graph: OnnxGraph, params: Standardize, x: str, _: Shape) -> str:
    centered = graph.op("Sub", x, graph.constant(params.mean, "mean"))
    return graph.op("Div", centered, graph.constant(params.scale, "scale"))


def _scaled(graph: OnnxGraph, x: str, scale: Array | None, offset: Array | None = None) -> str:
    y = x if scale is None else graph.op("Mul", x, graph.constant(scale, "scale"))
    return y if offset is None else graph.op("Add", y, graph.constant(offset, "offset"))


def _emit_batch_norm(graph: OnnxGraph, params: BatchNorm, x: str, _: Shape) -> str:
    mean, variance = cast("tuple[Array, Array]", (params.mean, params.variance))  # to_onnx checks that they are set
    centered = graph.op("Sub", x, graph.constant(mean, "mean"))
    normal = graph.op("Div", centered, graph.constant(np.sqrt(variance + params.epsilon), "root"))
    return _scaled(graph, normal, params.scale, params.offset)


def _mean_last(graph: OnnxGraph, x: str, axes: int) -> str:
    return graph.op("ReduceMean", x, graph.constant(tuple(range(-axes, 0)), "axes"), keepdims=1)


def _normalized(graph: OnnxGraph, x: str, epsilon: float, axes: int) -> str:
    square = graph.op("Add", _mean_last(graph, graph.op("Mul", x, x), axes), graph.constant(epsilon, "epsilon"))
    return graph.op("Div", x, graph.op("Sqrt", square))


def _emit_rms_norm(graph: OnnxGraph, params: RMSNorm, x: str, _: Shape) -> str:
    return _scaled(graph, _normalized(graph, x, params.epsilon, params.axes), params.scale)


def _emit_layer_norm(graph: OnnxGraph, params: LayerNorm, x: str, _: Shape) -> str:
    """Up to onnxruntime 1.26, its operator LayerNormalization loses the digits of rows far from 0."""
    for __ in range(2):
        x = graph.op("Sub", x, _mean_last(graph, x, params.axes))
    return _scaled(graph, _normalized(graph, x, params.epsilon, params.axes), params.scale, params.offset)


# --------------------------------------------------------------------------------------------- activations


def _emit_leaky_relu(graph: OnnxGraph, params: LeakyReLU, x: str, _: Shape) -> str:
    if graph.dtype == np.float32:
        return graph.op("LeakyRelu", x, alpha=params.slope)
    return graph.op("Max", x, graph.op("Mul", x, graph.constant(params.slope, "slope")))


def _emit_elu(graph: OnnxGraph, params: ELU, x: str, _: Shape) -> str:
    if graph.dtype == np.float32:
        return graph.op("Elu", x, alpha=params.alpha)
    return _elu(graph, x, params.alpha)


def _elu(graph: OnnxGraph, x: str, alpha: float) -> str:
    zero = graph.constant(0.0, "zero")
    small = graph.op("Sub", graph.op("Exp", graph.op("Min", x, zero)), graph.constant(1.0, "one"))
    below = graph.op("Mul", small, graph.constant(alpha, "alpha"))
    return graph.op("Add", graph.op("Max", x, zero), below)


_SCALE: Final = 1.0507009873554805
_ALPHA: Final = 1.6732632423543772


def _emit_selu(graph: OnnxGraph, _: SELU, x: str, __: Shape) -> str:
    """A node's settings are float32, so the two constants of the operator have too few digits for float64."""
    if graph.dtype == np.float32:
        return graph.op("Selu", x)
    return graph.op("Mul", _elu(graph, x, _ALPHA), graph.constant(_SCALE, "scale"))


def _emit_prelu(graph: OnnxGraph, params: PReLU, x: str, _: Shape) -> str:
    return graph.op("PRelu", x, graph.constant(params.slope, "slope"))


def _emit_hard_swish(graph: OnnxGraph, _: HardSwish, x: str, __: Shape) -> str:
    """``x * (min(max(x + 3, 0), 6) / 6)`` in float64; the operator has 1/6 as a float32."""
    if graph.dtype == np.float32:
        return graph.op("HardSwish", x)
    zero, six = graph.constant(0.0, "zero"), graph.constant(6.0, "six")
    clipped = graph.op("Clip", graph.op("Add", x, graph.constant(3.0, "three")), zero, six)
    return graph.op("Mul", x, graph.op("Div", clipped, six))


def _emit_softplus(graph: OnnxGraph, _: Softplus, x: str, __: Shape) -> str:
    """``max(x, 0) + log(1 + exp(-|x|))`` in float64."""
    if graph.dtype == np.float32:
        return graph.op("Softplus", x)
    small = graph.op("Exp", graph.op("Neg", graph.op("Abs", x)))
    rest = graph.op("Log", graph.op("Add", small, graph.constant(1.0, "one")))
    return graph.op("Add", graph.op("Max", x, graph.constant(0.0, "zero")), rest)


def _divisor(graph: OnnxGraph, u: str) -> str:
    """``1 + exp(-u)``. Far below 0, onnxruntime's Sigmoid loses the digits of its reciprocal in float32."""
    return graph.op("Add", graph.op("Exp", graph.op("Neg", u)), graph.constant(1.0, "one"))


def logistic(graph: OnnxGraph, x: str) -> str:
    """``1 / (1 + exp(-x))``."""
    return graph.op("Reciprocal", _divisor(graph, x))


def _times_logistic(graph: OnnxGraph, x: str, u: str) -> str:
    """``x / (1 + exp(-u))``."""
    return graph.op("Div", x, _divisor(graph, u))


_ROOT_2: Final = 1.4142135623730951
_2_SQRT_2_BY_PI: Final = 1.5957691216057308


def _emit_gelu(graph: OnnxGraph, _: GELU, x: str, __: Shape) -> str:
    """``x * (erf(x / sqrt 2) + 1) * 0.5``, which onnxruntime fuses; the operator Gelu is of operator set 20."""
    erf = graph.op("Erf", graph.op("Div", x, graph.constant(_ROOT_2, "root_2")))
    twice = graph.op("Mul", x, graph.op("Add", erf, graph.constant(1.0, "one")))
    return graph.op("Mul", twice, graph.constant(0.5, "half"))


def _emit_gelu_tanh(graph: OnnxGraph, _: GELUTanh, x: str, __: Shape) -> str:
    """``x s(2u)`` with ``2u = 2 sqrt(2 / pi) (x + 0.044715 x**3)``, as in ``GELUTanh``."""
    cube = graph.op("Mul", graph.op("Mul", x, x), x)
    inner = graph.op("Add", x, graph.op("Mul", cube, graph.constant(0.044715, "cubic")))
    return _times_logistic(graph, x, graph.op("Mul", inner, graph.constant(_2_SQRT_2_BY_PI, "steepness")))


def _node(kind: str) -> Emit[Layer]:
    """The ONNX form of a layer that is one node without settings."""
    return lambda graph, _, x, __: graph.op(kind, x)


# --------------------------------------------------------------------------------- shapes and combinators


def _emit_reshape(graph: OnnxGraph, params: Reshape, x: str, _: Shape) -> str:
    """The 0 in the shape keeps the size of the batch."""
    return graph.op("Reshape", x, graph.constant((0, *params.shape), "shape"))


def _emit_residual(graph: OnnxGraph, params: Residual[Any], x: str, shape: Shape) -> str:
    return graph.op("Add", x, graph.network(params.net, x, shape, "net"))


def _emit_parallel(graph: OnnxGraph, params: Parallel[Any], x: str, shape: Shape) -> str:
    y, *others = (graph.network(net, x, shape, "nets", position) for position, net in enumerate(params.nets))
    if params.combine == "concat":
        return graph.op("Concat", y, *others, axis=-1)
    for other in others:
        y = graph.op("Mul" if params.combine == "multiply" else "Add", y, other)
    return y


def _emit_repeat(graph: OnnxGraph, params: Repeat[Any], x: str, shape: Shape) -> str:
    """The repetitions one after the other, with the same constants."""
    for __ in range(params.times):
        x = graph.network(params.net, x, shape, "net")
    return x


def _emit_frozen(graph: OnnxGraph, params: Frozen[Any], x: str, shape: Shape) -> str:
    return graph.network(params.net, x, shape, "net")


FORMS: Final[dict[type[Layer], Emit[Any]]] = {
    Dense: _emit_dense,
    Standardize: _emit_standardize,
    BatchNorm: _emit_batch_norm,
    RMSNorm: _emit_rms_norm,
    LayerNorm: _emit_layer_norm,
    Identity: lambda _, __, x, ___: x,
    Dropout: lambda _, __, x, ___: x,
    ReLU: _node("Relu"),
    LeakyReLU: _emit_leaky_relu,
    ELU: _emit_elu,
    SELU: _emit_selu,
    PReLU: _emit_prelu,
    Sigmoid: lambda graph, _, x, __: logistic(graph, x),
    Tanh: _node("Tanh"),
    Softplus: _emit_softplus,
    Softsign: _node("Softsign"),
    SiLU: lambda graph, _, x, __: _times_logistic(graph, x, x),
    HardSwish: _emit_hard_swish,
    Mish: _node("Mish"),
    GELU: _emit_gelu,
    GELUTanh: _emit_gelu_tanh,
    Softmax: _node("Softmax"),
    Flatten: lambda graph, _, x, __: graph.op("Flatten", x, axis=1),
    Reshape: _emit_reshape,
    Residual: _emit_residual,
    Parallel: _emit_parallel,
    Repeat: _emit_repeat,
    Frozen: _emit_frozen,
}
"""The form of each layer."""
