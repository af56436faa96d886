"""The table of layers: one row per layer under test, and the inputs of the rows. It needs no test library."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, cast

import numpy as np
from attrs import evolve, frozen

import funcnet as fn
from funcnet import layers as rooms
from funcnet.layers.conv1d import StepPadding
from funcnet.layers.windows import Padding, Pair
from funcnet.network.layer import L
from funcnet.network.modes import repetition
from funcnet.random.draws import normal, uniform


@frozen
class Case:
    """A layer under test: its constructor for rows of a shape, the shape, and whether the layer keeps the shape.

    ``rowwise``: the output of a row depends neither on other rows nor on its position. ``ids``: the inputs are ids from
    0 to this number - 1; 0 for inputs of floats.
    """

    name: str
    make: Callable[[fn.Key, tuple[int, ...]], fn.Layer]
    shape: tuple[int, ...] = (4,)
    keeps_shape: bool = True
    rowwise: bool = True
    ids: int = 0

    def layer(self) -> fn.Layer:
        """The layer in float64."""
        return self.make(KEY, self.shape)

    def x(self, batch: int, dtype: fn.FloatDType = np.float64) -> fn.Array:
        """A batch that fits the layer: floats of the dtype, or ids."""
        return self.draw(KEY.child("x"), batch, dtype)

    def draw(self, key: fn.Key, batch: int, dtype: fn.FloatDType = np.float64) -> fn.Array:
        """A batch for a key."""
        if self.ids:
            return cast("fn.Array", np.floor(uniform(key, (batch, *self.shape)) * self.ids).astype(np.int64))
        return inputs(key, batch, *self.shape, dtype=dtype)


def without(layer: L, *names: str) -> L:
    """The layer without some of its arrays."""
    return evolve(layer, **dict.fromkeys(names))


def layer_norm(key: fn.Key, shape: tuple[int, ...], epsilon: float, axes: int = 1) -> fn.LayerNorm:
    """A LayerNorm over the last axes, with random scale and offset."""
    sizes = shape[-axes:]
    return fn.LayerNorm(inputs(key.child("scale"), *sizes), inputs(key.child("offset"), *sizes), epsilon, axes)


def rms_norm(key: fn.Key, shape: tuple[int, ...], epsilon: float, axes: int = 1) -> fn.RMSNorm:
    """An RMSNorm over the last axes, with random scale."""
    return fn.RMSNorm(inputs(key.child("scale"), *shape[-axes:]), epsilon, axes)


def batch_norm(key: fn.Key, shape: tuple[int, ...], epsilon: float, *, training: bool = False) -> fn.BatchNorm:
    """A BatchNorm with random scale, offset and statistics."""
    scale, offset, mean, variance = (inputs(key.child(part), shape[-1]) for part in range(4))
    return fn.BatchNorm(scale, offset, mean, np.abs(variance), epsilon, training)


def standardize(key: fn.Key, shape: tuple[int, ...]) -> fn.Standardize:
    """A Standardize with random statistics."""
    return fn.Standardize(mean=inputs(key.child("mean"), *shape), scale=np.abs(inputs(key.child("scale"), *shape)))


def dense(key: fn.Key, in_size: int, out_size: int) -> fn.Dense:
    """A Dense layer with random weight and bias."""
    return fn.Dense(inputs(key.child("weight"), in_size, out_size), inputs(key.child("bias"), out_size))


def square(key: fn.Key, shape: tuple[int, ...]) -> fn.Dense:
    """A Dense layer with equal input and output sizes."""
    return fn.dense(key, shape[0], shape[0], dtype=np.float64)


def nested(key: fn.Key, shape: tuple[int, ...]) -> fn.Layer:
    """A network with each combinator inside of another one."""
    branches = fn.Frozen((square(key.child(0), shape), fn.Tanh())), (fn.Dropout(0.4), square(key.child(1), shape))
    return fn.Residual((fn.Repeat((fn.Parallel(branches), fn.Tanh()), 2), fn.Residual(square(key.child(2), shape))))


def embedding(key: fn.Key, _: tuple[int, ...]) -> fn.Embedding:
    """An Embedding of five ids."""
    return fn.embedding(key, 5, 3, dtype=np.float64)


def attention(heads: int, *, causal: bool = False) -> Callable[[fn.Key, tuple[int, ...]], fn.MultiHeadAttention]:
    """A constructor of attention with random weights and biases, for rows whose last size is C."""

    def make(key: fn.Key, shape: tuple[int, ...]) -> fn.MultiHeadAttention:
        size = shape[-1]
        inside, outside = dense(key.child("in"), size, 3 * size), dense(key.child("out"), size, size)
        return fn.MultiHeadAttention(inside.weight, inside.bias, outside.weight, outside.bias, heads, causal)

    return make


def padded(make: Callable[[fn.Key, tuple[int, ...]], fn.Layer]) -> Callable[[fn.Key, tuple[int, ...]], fn.Layer]:
    """A constructor of a network for ids, whose steps of the id 0 are padded: an Embedding, and a layer of its rows."""
    return lambda key, shape: fn.Masked((embedding(key.child("ids"), shape), make(key, (*shape, 3))))


def recurrent(
    layer: type[fn.RNN | fn.GRU | fn.LSTM], *vectors: str, size: int = 3, **settings: Any
) -> Callable[[fn.Key, tuple[int, ...]], fn.RNN | fn.GRU | fn.LSTM]:
    """A constructor of a recurrent layer for rows (T, I), with random weights and those of its vectors."""
    gates = {fn.RNN: 1, fn.GRU: 3, fn.LSTM: 4}[layer]

    def make(key: fn.Key, shape: tuple[int, ...]) -> fn.RNN | fn.GRU | fn.LSTM:
        rows = {"weight": shape[-1], "recurrent": size}
        fields: dict[str, Any] = {name: inputs(key.child(name), rows[name], gates * size) / 2 for name in rows}
        fields |= {name: inputs(key.child(name), gates * size if name == "bias" else size) for name in vectors}
        return layer(**fields, **settings)

    return make


def conv2d(
    shape: tuple[int, ...],
    kernel: tuple[int, int],
    *,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    outputs: int = 3,
    groups: int = 1,
    bias: bool = True,
) -> Case:
    """A case of convolution for images of a shape, with random weight and bias."""

    def make(key: fn.Key, shape: tuple[int, ...]) -> fn.Conv2D:
        weight = inputs(key.child("weight"), *kernel, shape[-1] // groups, outputs)
        drawn = inputs(key.child("bias"), outputs) if bias else None
        return fn.Conv2D(weight, drawn, stride, padding, dilation, groups)

    settings = f"kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}"
    settings += f", groups {groups}" * (groups > 1) + ", no bias" * (not bias)
    return Case(f"Conv2D of {shape}, {settings}", make, shape, keeps_shape=False)


def conv1d(shape: tuple[int, ...], kernel: int, padding: StepPadding = "valid", outputs: int = 3, **more: Any) -> Case:
    """A case of convolution for sequences of a shape, with random weight and bias."""

    def make(key: fn.Key, shape: tuple[int, ...]) -> fn.Conv1D:
        weight = inputs(key.child("weight"), kernel, shape[-1] // more.get("groups", 1), outputs)
        return fn.Conv1D(weight, inputs(key.child("bias"), outputs), padding=padding, **more)

    settings = "".join(f", {name} {value}" for name, value in more.items())
    return Case(f"Conv1D of {shape}, kernel {kernel}, padding {padding}{settings}", make, shape, keeps_shape=False)


def pool(
    layer: type[fn.MaxPool2D | fn.AvgPool2D],
    shape: tuple[int, ...],
    window: Pair,
    stride: Pair | None = None,
    padding: Padding = "valid",
    **more: Any,
) -> Case:
    """A case of pooling for images of a shape."""
    settings = "".join(f", {name} {value}" for name, value in more.items())
    name = f"{layer.__name__} of {shape}, window {window}, stride {stride}, padding {padding}{settings}"
    return Case(name, lambda _, __: layer(window, stride, padding, **more), shape, keeps_shape=False)


MILD = 0.1  # With this epsilon, differences of random networks are smooth enough even where a feature is constant.
KEY = fn.Key(20)
CASES = (
    Case("Dense", lambda key, shape: fn.dense(key, shape[0], 3, dtype=np.float64), keeps_shape=False),
    Case("Dense without bias", lambda key, _: fn.dense(key, 4, 3, bias=False, dtype=np.float64), keeps_shape=False),
    Case("Dense of sequences", lambda key, _: dense(key, 4, 3), (5, 4), keeps_shape=False),
    Case("Dense of images", lambda key, _: dense(key, 4, 3), (2, 3, 4), keeps_shape=False),
    Case("Identity", lambda _, __: fn.Identity()),
    Case("ReLU", lambda _, __: fn.ReLU()),
    Case("Sigmoid", lambda _, __: fn.Sigmoid()),
    Case("Tanh", lambda _, __: fn.Tanh()),
    Case("LeakyReLU", lambda _, __: fn.LeakyReLU()),
    Case("LeakyReLU of slope 0.3", lambda _, __: fn.LeakyReLU(0.3)),
    Case("ELU", lambda _, __: fn.ELU()),
    Case("ELU of alpha 0.5", lambda _, __: fn.ELU(0.5)),
    Case("SELU", lambda _, __: fn.SELU()),
    Case("Softplus", lambda _, __: fn.Softplus()),
    Case("Softsign", lambda _, __: fn.Softsign()),
    Case("SiLU", lambda _, __: fn.SiLU()),
    Case("HardSwish", lambda _, __: fn.HardSwish()),
    Case("Mish", lambda _, __: fn.Mish()),
    Case("GELU", lambda _, __: fn.GELU()),
    Case("GELUTanh", lambda _, __: fn.GELUTanh()),
    Case("PReLU of one slope", lambda key, _: fn.PReLU(inputs(key.child("slope"), 1))),
    Case("PReLU", lambda key, shape: fn.PReLU(inputs(key.child("slope"), shape[-1]))),
    Case("PReLU of images", lambda key, shape: fn.PReLU(inputs(key.child("slope"), shape[-1])), (3, 2, 4)),
    Case("Softmax", lambda _, __: fn.Softmax()),
    Case("Softmax of images", lambda _, __: fn.Softmax(), (3, 2, 4)),
    Case("Dropout", lambda _, __: fn.Dropout(0.4)),
    Case("Dropout in training", lambda key, _: fn.Dropout(0.4, key=key.child("mask")), rowwise=False),
    Case("Residual", lambda key, shape: fn.Residual((fn.Tanh(), fn.dense(key, shape[0], shape[0], dtype=np.float64)))),
    Case("Residual of nothing", lambda _, __: fn.Residual(())),
    Case("Frozen", lambda key, shape: fn.Frozen((square(key, shape), fn.Tanh()))),
    Case("Frozen statistics", lambda key, shape: fn.Frozen((batch_norm(key, shape, MILD), fn.Dropout(0.4)))),
    Case("Parallel", lambda key, shape: fn.Parallel((square(key, shape), (fn.Tanh(), square(key.child(1), shape))))),
    Case("Parallel of one", lambda key, shape: fn.Parallel((square(key, shape),))),
    Case("Parallel of three", lambda key, shape: fn.Parallel((fn.Tanh(), square(key, shape), ()))),
    Case(
        "Parallel that concatenates",
        lambda key, shape: fn.Parallel((fn.dense(key, shape[0], 3, dtype=np.float64), (), fn.Tanh()), "concat"),
        keeps_shape=False,
    ),
    Case(
        "Parallel that multiplies",
        lambda key, shape: fn.Parallel((square(key, shape), fn.Tanh(), square(key.child(1), shape)), "multiply"),
    ),
    Case(
        "Parallel of images",
        lambda key, shape: fn.Parallel((layer_norm(key, shape, 1e-5), fn.Tanh()), "concat"),
        (3, 2, 4),
        keeps_shape=False,
    ),
    Case("Repeat", lambda key, shape: fn.Repeat((square(key, shape), fn.Tanh()), 3)),
    Case("Repeat of once", lambda key, shape: fn.Repeat(square(key, shape), 1)),
    Case(
        "Repeat in training",
        lambda key, shape: fn.Repeat((square(key, shape), fn.Dropout(0.4, key=key.child("mask"))), 2),
        rowwise=False,
    ),
    Case("combinators in each other", nested),
    Case("Flatten", lambda _, __: fn.Flatten(), (2, 3, 2), keeps_shape=False),
    Case("LayerNorm", lambda key, shape: layer_norm(key, shape, MILD)),
    Case("LayerNorm without scale", lambda key, shape: without(layer_norm(key, shape, MILD), "scale")),
    Case("LayerNorm without offset", lambda key, shape: without(layer_norm(key, shape, MILD), "offset")),
    Case("LayerNorm without arrays", lambda _, __: fn.LayerNorm(None, None, MILD)),
    Case("LayerNorm of images", lambda key, shape: layer_norm(key, shape, 1e-5), (3, 2, 4)),
    Case("LayerNorm over two axes", lambda key, shape: layer_norm(key, shape, 1e-5, axes=2), (3, 2, 4)),
    Case("LayerNorm over three axes", lambda key, shape: layer_norm(key, shape, 1e-5, axes=3), (3, 2, 4)),
    Case("LayerNorm over two axes without arrays", lambda _, __: fn.LayerNorm(None, None, 1e-5, axes=2), (3, 2, 4)),
    Case("RMSNorm", lambda key, shape: rms_norm(key, shape, MILD)),
    Case("RMSNorm without scale", lambda _, __: fn.RMSNorm(None, MILD)),
    Case("RMSNorm of images", lambda key, shape: rms_norm(key, shape, 1e-5), (3, 2, 4)),
    Case("RMSNorm over two axes", lambda key, shape: rms_norm(key, shape, 1e-5, axes=2), (3, 2, 4)),
    Case("BatchNorm", lambda key, shape: batch_norm(key, shape, MILD)),
    Case("BatchNorm without scale", lambda key, shape: without(batch_norm(key, shape, MILD), "scale")),
    Case("BatchNorm without offset", lambda key, shape: without(batch_norm(key, shape, MILD), "offset")),
    Case("BatchNorm without both", lambda key, shape: without(batch_norm(key, shape, MILD), "scale", "offset")),
    Case("BatchNorm of images", lambda key, shape: batch_norm(key, shape, 1e-5), (3, 2, 4)),
    Case("BatchNorm in training", lambda key, shape: batch_norm(key, shape, MILD, training=True), rowwise=False),
    Case(
        "BatchNorm without scale in training",
        lambda key, shape: without(batch_norm(key, shape, MILD, training=True), "scale"),
        rowwise=False,
    ),
    Case(
        "BatchNorm of images without arrays in training",
        lambda _, __: fn.BatchNorm(None, None, training=True),
        (3, 2, 4),
        rowwise=False,
    ),
    Case(
        "BatchNorm of images in training",
        lambda key, shape: batch_norm(key, shape, 1e-5, training=True),
        (3, 2, 4),
        rowwise=False,
    ),
    Case("Standardize", standardize),
    Case("Standardize of images", standardize, (3, 2, 4)),
    Case("Reshape", lambda _, __: fn.Reshape((3, 2)), (6,), keeps_shape=False),
    conv2d((5, 4, 2), (3, 3)),
    conv2d((5, 4, 2), (3, 3), padding="same"),
    conv2d((6, 5, 1), (3, 2), padding="same", stride=2),
    conv2d((4, 5, 2), (2, 4), padding=((1, 0), (0, 2))),
    conv2d((7, 6, 1), (2, 3), stride=(3, 2), padding=1, dilation=(2, 1)),
    conv2d((5, 7, 2), (2, 2), dilation=(1, 3), padding=(0, 1)),
    conv2d((3, 4, 3), (1, 1), outputs=2),
    conv2d((5, 3, 2), (1, 1), stride=2),
    conv2d((3, 2, 2), (3, 2)),
    conv2d((2, 3, 1), (1, 2), stride=(1, 4), padding="same", outputs=1),
    conv2d((5, 4, 2), (2, 3), padding=1, bias=False),
    conv2d((5, 4, 6), (3, 2), padding="same", stride=(1, 2), outputs=4, groups=2),
    conv2d((5, 4, 3), (3, 3), padding="same", groups=3),
    conv2d((4, 7, 2), (2, 3), padding=1, stride=2, dilation=(1, 2), outputs=4, groups=2, bias=False),
    conv1d((6, 2), 3),
    conv1d((6, 2), 3, "same", stride=2),
    conv1d((5, 2), 3, "causal", dilation=2),
    conv1d((6, 4), 2, (2, 1), 6, groups=2, stride=3),
    conv1d((5, 3), 3, "causal", groups=3),
    pool(fn.MaxPool2D, (4, 6, 2), 2),
    pool(fn.MaxPool2D, (5, 5, 2), 3, 2),
    pool(fn.MaxPool2D, (5, 4, 1), (2, 3), (3, 1), "same"),
    pool(fn.MaxPool2D, (3, 5, 2), (2, 1), 4, ((1, 0), (0, 0))),
    pool(fn.AvgPool2D, (4, 6, 2), 2),
    pool(fn.AvgPool2D, (5, 5, 2), 3, 2, "same"),
    pool(fn.AvgPool2D, (5, 4, 1), (2, 3), (3, 1), 1),
    pool(fn.MaxPool2D, (6, 7, 2), (2, 3), 2, 1, dilation=(3, 1)),
    pool(fn.MaxPool2D, (4, 5, 2), 3, 2, 1, ceil_mode=True),
    pool(fn.AvgPool2D, (5, 4, 2), 3, 1, 1, count_padding=True),
    pool(fn.AvgPool2D, (4, 6, 2), 3, 2, ceil_mode=True),
    pool(fn.AvgPool2D, (4, 5, 2), 3, 2, 1, count_padding=True, ceil_mode=True),
    Case("GlobalAvgPool2D", lambda _, __: fn.GlobalAvgPool2D(), (3, 5, 2), keeps_shape=False),
    Case("GlobalMaxPool2D", lambda _, __: fn.GlobalMaxPool2D(), (3, 5, 2), keeps_shape=False),
    Case("Embedding", embedding, (), keeps_shape=False, ids=5),
    Case("Embedding of sequences", embedding, (4,), keeps_shape=False, ids=5),
    Case(
        "Embedding of many ids",
        lambda key, _: fn.embedding(key, 60, 3, dtype=np.float64),
        (4,),
        keeps_shape=False,
        ids=60,
    ),
    Case("MultiHeadAttention", attention(2), (5, 4)),
    Case("MultiHeadAttention of one head", attention(1), (3, 4)),
    Case("MultiHeadAttention of one step", attention(2), (1, 4)),
    Case("MultiHeadAttention that is causal", attention(2, causal=True), (5, 4)),
    Case(
        "MultiHeadAttention without biases",
        lambda key, shape: without(attention(4)(key, shape), "bias", "out_bias"),
        (5, 4),
    ),
    Case("MultiHeadAttention with padding", padded(attention(1)), (5,), keeps_shape=False, ids=3),
    Case("MultiHeadAttention with padding, causal", padded(attention(3, causal=True)), (5,), keeps_shape=False, ids=3),
    Case("RNN", recurrent(fn.RNN, "bias"), (4, 3)),
    Case("RNN of ReLU, last", recurrent(fn.RNN, "bias", activation="relu", outputs="last"), (4, 2), keeps_shape=False),
    Case("RNN without bias, reversed", recurrent(fn.RNN, "initial", reverse=True), (5, 2), keeps_shape=False),
    Case("RNN with padding", padded(recurrent(fn.RNN, "bias", "initial")), (4,), keeps_shape=False, ids=3),
    Case("GRU", recurrent(fn.GRU, "bias", "recurrent_bias"), (4, 3)),
    Case("GRU of one step and one unit", recurrent(fn.GRU, "bias", size=1), (1, 2), keeps_shape=False),
    Case("GRU without biases, reversed", recurrent(fn.GRU, reverse=True, outputs="last"), (5, 2), keeps_shape=False),
    Case("GRU with initial state", recurrent(fn.GRU, "bias", "recurrent_bias", "initial"), (4, 3)),
    Case("GRU with padding", padded(recurrent(fn.GRU, "bias", "recurrent_bias")), (4,), keeps_shape=False, ids=3),
    Case(
        "GRU with padding, reversed, last",
        padded(recurrent(fn.GRU, "bias", "initial", reverse=True, outputs="last")),
        (5,),
        keeps_shape=False,
        ids=2,
    ),
    Case("LSTM", recurrent(fn.LSTM, "bias"), (4, 3)),
    Case("LSTM without bias, last", recurrent(fn.LSTM, outputs="last"), (5, 2), keeps_shape=False),
    Case("LSTM with initial states, reversed", recurrent(fn.LSTM, "initial", "initial_cell", reverse=True), (4, 3)),
    Case("LSTM with initial cell", recurrent(fn.LSTM, "initial_cell", outputs="last"), (2, 3), keeps_shape=False),
    Case("LSTM with padding", padded(recurrent(fn.LSTM, "bias", "initial_cell")), (4,), keeps_shape=False, ids=3),
    Case(
        "LSTM with padding, reversed, last",
        padded(recurrent(fn.LSTM, "bias", "initial", reverse=True, outputs="last")),
        (5,),
        keeps_shape=False,
        ids=2,
    ),
    Case("LearnedPositions", lambda key, shape: fn.LearnedPositions(inputs(key, 7, shape[-1])), (5, 4)),
    Case("LearnedPositions, all", lambda key, shape: fn.LearnedPositions(inputs(key, *shape)), (5, 4)),
    Case("SinusoidalPositions", lambda _, __: fn.SinusoidalPositions(), (6, 5)),
    Case("LastStep", lambda _, __: fn.LastStep(), (5, 4), keeps_shape=False),
    Case("LastStep with padding", padded(lambda _, __: fn.LastStep()), (3,), keeps_shape=False, ids=2),
    Case("Conv1D with padding", padded(conv1d((4, 3), 3, "same").make), (4,), keeps_shape=False, ids=2),
    Case("MeanOverTime", lambda _, __: fn.MeanOverTime(), (5, 4), keeps_shape=False),
    Case("MeanOverTime with padding", padded(lambda _, __: fn.MeanOverTime()), (3,), keeps_shape=False, ids=2),
    Case("Masked floats", lambda _, __: fn.Masked(fn.MeanOverTime(), 0.5), (5, 4), keeps_shape=False),
)
VECTOR_CASES = tuple(case for case in CASES if case.keeps_shape and len(case.shape) == 1)


def inputs(key: fn.Key, *shape: int, dtype: fn.FloatDType = np.float64) -> fn.Array:
    """Locked normal numbers with a distance of at least 0.01 from 0, where some layers have a kink."""
    z = normal(key, shape)
    x: fn.Array = np.where(z < 0, z - 0.01, z + 0.01).astype(dtype)
    x.flags.writeable = False
    return x


def every_layer() -> set[type[fn.Layer]]:
    """Every layer class of funcnet, exported or not."""
    for module in iter_modules(rooms.__path__, "funcnet.layers."):
        import_module(module.name)
    kinds = list(fn.Layer.__subclasses__())
    for kind in kinds:
        kinds += kind.__subclasses__()
    names = {(kind.__module__, kind.__qualname__) for kind in kinds if kind.__module__.startswith("funcnet.layers.")}
    places = [(import_module(module), name) for module, name in names]
    return {getattr(module, name) for module, name in places if hasattr(module, name)}  # not docstring examples


def near_a_kink(net: fn.Network, x: fn.Array) -> bool:
    """Whether a layer with a kink, mostly at 0, gets an input so near to it that a difference would cross the kink."""
    if isinstance(net, tuple):
        points = [x, *fn.activations(net, x)[:-1]]
        return any(near_a_kink(layer, point) for layer, point in zip(net, points, strict=False))
    inner: Any = getattr(net, "nets", getattr(net, "net", None))
    times: int = getattr(net, "times", 1)
    if isinstance(net, fn.Parallel):
        return any(near_a_kink(branch, x) for branch in inner)
    if isinstance(net, fn.Repeat):
        return near_a_kink(tuple(repetition(inner, number) for number in range(times)), x)
    if inner is not None:
        return near_a_kink(inner, x)
    if isinstance(net, fn.HardSwish):
        return bool((np.abs(np.abs(x) - 3) < 1e-4).any())
    kinked = isinstance(net, fn.ReLU | fn.LeakyReLU | fn.PReLU | fn.SELU) or (
        isinstance(net, fn.ELU) and net.alpha != 1
    )
    return kinked and bool((np.abs(x) < 1e-4).any())
