"""Keras' arrays in networks: the outputs are those of Keras' own formulas, and what may load wrongly is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import inputs

import funcnet as fn
from funcnet.interop.keras import from_keras

KEY = fn.Key(20)
Arrays = list[Any]
Stage = Callable[[Any, Arrays], Any]
Stages = list[tuple[Stage, Arrays]]

# ------------------------------------------------------------------------------------------------ formulas


def keras_dense(x: Any, arrays: Arrays) -> Any:
    """``dot(inputs, kernel) + bias`` with a kernel (I, O)."""
    kernel, bias = arrays
    return x @ kernel + bias


def keras_conv2d(x: Any, arrays: Arrays) -> Any:
    """A "valid" convolution with a kernel (KH, KW, C, O), one place of the kernel at a time."""
    kernel, bias = arrays
    rows, columns = x.shape[1] - kernel.shape[0] + 1, x.shape[2] - kernel.shape[1] + 1
    parts = [
        x[:, i : i + rows, j : j + columns] @ kernel[i, j]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    ]
    return sum(parts) + bias


def keras_batch_normalization(x: Any, arrays: Arrays) -> Any:
    """``gamma * (batch - moving_mean) / sqrt(moving_var + epsilon) + beta``."""
    gamma, beta, moving_mean, moving_variance = arrays
    return gamma * (x - moving_mean) / np.sqrt(moving_variance + 1e-3) + beta


def keras_layer_normalization(x: Any, arrays: Arrays) -> Any:
    """The row minus its mean, divided by ``sqrt(var + epsilon)``, times gamma, plus beta."""
    gamma, beta = arrays
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3) * gamma + beta


def keras_rms_normalization(x: Any, arrays: Arrays) -> Any:
    """``x * rsqrt(mean(square(x)) + epsilon) * scale``."""
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * arrays[0]


def keras_prelu(x: Any, arrays: Arrays) -> Any:
    """``relu(x) - alpha * relu(-x)``."""
    return np.maximum(x, 0) - arrays[0] * np.maximum(-x, 0)


def keras_embedding(x: Any, arrays: Arrays) -> Any:
    """The rows of the embeddings."""
    return arrays[0][x]


def keras_depthwise_conv2d(x: Any, arrays: Arrays) -> Any:
    """A "valid" convolution with a kernel (KH, KW, C, M): each channel has M outputs, next to each other."""
    kernel, bias = arrays
    rows, columns = x.shape[1] - kernel.shape[0] + 1, x.shape[2] - kernel.shape[1] + 1
    places = [(i, j) for i in range(kernel.shape[0]) for j in range(kernel.shape[1])]
    parts = [x[:, i : i + rows, j : j + columns, :, None] * kernel[i, j] for i, j in places]
    return np.reshape(sum(parts), (len(x), rows, columns, -1)) + bias


def logistic(x: Any) -> Any:
    """``1 / (1 + exp(-x))``."""
    return 1 / (1 + np.exp(-x))


def keras_simple_rnn(x: Any, arrays: Arrays) -> Any:
    """``tanh(x @ kernel + bias + h @ recurrent_kernel)``, all outputs."""
    kernel, recurrent_kernel, bias = arrays
    outputs: Arrays = []
    h: Any = np.zeros((len(x), len(recurrent_kernel)))
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ kernel + bias + h @ recurrent_kernel)
        outputs.append(h)
    return np.stack(outputs, axis=1)


def keras_gru(x: Any, arrays: Arrays) -> Any:
    """``reset_after=True``: gates z, r, and the candidate, with a bias for the inputs and one for the state."""
    kernel, recurrent_kernel, (bias, recurrent_bias) = arrays
    outputs: Arrays = []
    h: Any = np.zeros((len(x), len(recurrent_kernel)))
    for t in range(x.shape[1]):
        x_z, x_r, x_h = np.split(x[:, t] @ kernel + bias, 3, axis=1)
        inner_z, inner_r, inner_h = np.split(h @ recurrent_kernel + recurrent_bias, 3, axis=1)
        z, r = logistic(x_z + inner_z), logistic(x_r + inner_r)
        h = z * h + (1 - z) * np.tanh(x_h + r * inner_h)
        outputs.append(h)
    return np.stack(outputs, axis=1)


def keras_lstm(x: Any, arrays: Arrays) -> Any:
    """Gates i, f, the candidate c, and the gate o."""
    kernel, recurrent_kernel, bias = arrays
    outputs: Arrays = []
    h, c = np.zeros((2, len(x), len(recurrent_kernel)))
    for t in range(x.shape[1]):
        i, f, new, o = np.split(x[:, t] @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
        c = logistic(f) * c + logistic(i) * np.tanh(new)
        h = logistic(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, axis=1)


def keras_multi_head_attention(x: Any, arrays: Arrays) -> Any:
    """Einsum with kernels (C, H, D) for query, key and value, and a kernel (H, D, C) for the output."""
    q, k, v = (np.einsum("btc,chd->bthd", x, arrays[i]) + arrays[i + 1] for i in (0, 2, 4))
    scores = np.exp(np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1]))
    shares = scores / scores.sum(-1, keepdims=True)
    return np.einsum("bhqk,bkhd,hdc->bqc", shares, v, arrays[6]) + arrays[7]


def keras_flatten(x: Any, _: Arrays) -> Any:
    """Images with channels last, in C order."""
    return x.reshape(len(x), -1)


# ----------------------------------------------------------------------------------------------- networks


@st.composite
def models(draw: st.DrawFn) -> tuple[tuple[fn.Network, ...], Stages]:
    """A network for images (5, 4, 2) and the stages of a Keras model with other arrays than the network's."""
    net: list[fn.Network] = []
    stages: Stages = []
    shape: tuple[int, ...] = (5, 4, 2)
    before = draw(st.lists(st.sampled_from(["conv", "batch"]), max_size=2))
    after = draw(st.lists(st.sampled_from(["dense", "batch", "layer", "rms", "prelu"]), max_size=3))
    for kind in (*before, "flatten", *after):
        layer, stage = stage_of(kind, shape)
        arrays = [np.abs(inputs(KEY.child(len(net), i), *size)) for i, size in enumerate(sizes_of(kind, layer))]
        shape = fn.output_shape(layer, shape)
        net.append(layer)
        stages.append((stage, arrays))
    return tuple(net), stages


def stage_of(kind: str, shape: tuple[int, ...]) -> tuple[Any, Stage]:
    """A layer for rows of a shape, with Keras' epsilon, and Keras' formula."""
    size, dtype = shape[-1], np.float64
    match kind:
        case "conv":
            return fn.conv2d(KEY, size, 3, (2, 1), dtype=dtype), keras_conv2d
        case "dense":
            return fn.dense(KEY, size, 3, dtype=dtype), keras_dense
        case "batch":
            return fn.batch_norm(size, epsilon=1e-3, dtype=dtype), keras_batch_normalization
        case "layer":
            return fn.layer_norm(size, epsilon=1e-3, dtype=dtype), keras_layer_normalization
        case "rms":
            return fn.rms_norm(size, epsilon=1e-6, dtype=dtype), keras_rms_normalization
        case _:
            return (fn.prelu(size, dtype=dtype), keras_prelu) if kind == "prelu" else (fn.Flatten(), keras_flatten)


def sizes_of(kind: str, layer: Any) -> list[tuple[int, ...]]:
    """The shapes of a Keras layer's arrays."""
    if kind in ("conv", "dense"):
        return [layer.weight.shape, layer.bias.shape]
    if kind == "prelu":
        return [layer.slope.shape]
    return [(layer.scale.size,)] * {"batch": 4, "layer": 2, "rms": 1}[kind] if kind != "flatten" else []


@given(model=models())
def test_loaded_networks_compute_keras_formulas(
    model: tuple[tuple[fn.Network, ...], Stages],
) -> None:
    """The arrays come as ``get_weights`` lists them."""
    net, stages = model
    x = inputs(KEY.child("x"), 3, 5, 4, 2)
    weights = [array for _, arrays in stages for array in arrays]
    wanted: Any = x
    for stage, arrays in stages:
        wanted = stage(wanted, arrays)
    np.testing.assert_allclose(fn.forward(from_keras(net, weights), x), wanted, rtol=1e-9, atol=1e-12)


F64 = np.float64
SEQUENCES: Final[dict[str, tuple[Any, Stage, tuple[tuple[int, ...], ...]]]] = {
    "Embedding": (fn.embedding(KEY, 5, 4, dtype=F64), keras_embedding, ((5, 4),)),
    "SimpleRNN": (fn.rnn(KEY, 4, 3, dtype=F64), keras_simple_rnn, ((4, 3), (3, 3), (3,))),
    "GRU": (fn.gru(KEY, 4, 3, dtype=F64), keras_gru, ((4, 9), (3, 9), (2, 9))),
    "LSTM": (fn.lstm(KEY, 4, 3, dtype=F64), keras_lstm, ((4, 12), (3, 12), (12,))),
    "MultiHeadAttention": (
        fn.multi_head_attention(KEY, 4, 2, dtype=F64),
        keras_multi_head_attention,
        (*((4, 2, 2), (2, 2)) * 3, (2, 2, 4), (4,)),
    ),
    "DepthwiseConv2D": (
        fn.conv2d(KEY, 4, 8, (3, 2), groups=4, dtype=F64),
        keras_depthwise_conv2d,
        ((3, 2, 4, 2), (8,)),
    ),
}


@pytest.mark.parametrize(("layer", "formula", "shapes"), SEQUENCES.values(), ids=SEQUENCES)
def test_layers_of_sequences(layer: Any, formula: Stage, shapes: tuple[tuple[int, ...], ...]) -> None:
    """Gates, heads and channels are in funcnet's order after the load."""
    arrays = [inputs(KEY.child(i), *shape) for i, shape in enumerate(shapes)]
    shape = (3, 5, 6, 4) if isinstance(layer, fn.Conv2D) else (3, 5, 4)
    x: Any = np.array([[0, 4, 2]]) if isinstance(layer, fn.Embedding) else inputs(KEY.child("x"), *shape)
    found = fn.forward(from_keras((layer,), arrays), x)
    np.testing.assert_allclose(found, formula(x, arrays), rtol=1e-9, atol=1e-12)


def test_layers_without_arrays() -> None:
    """A layer without a bias, a scale or an offset takes one array less, and a BatchNorm always its statistics."""
    net = (
        *(fn.conv1d(KEY, 4, 6, 3, groups=2, bias=False), fn.batch_norm(6, scale=False, offset=False), fn.Flatten()),
        *(fn.dense(KEY, 24, 2, bias=False), fn.layer_norm(2, offset=False), fn.LayerNorm(None, None)),
    )
    shapes = (3, 2, 6), (6,), (6,), (24, 2), (2,)
    arrays = [np.abs(inputs(KEY.child(i), *shape, dtype=np.float32)) for i, shape in enumerate(shapes)]
    loaded: Any = from_keras(net, arrays)
    found = loaded[0].weight, loaded[1].mean, loaded[1].variance, loaded[3].weight, loaded[4].scale
    for array, wanted in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(array, wanted)


def test_combinators_take_arrays_in_order() -> None:
    """The layers of a combinator are at its place."""
    first, second, third = (fn.dense(KEY.child(i), 2, 2) for i in range(3))
    net = first, fn.Frozen(fn.Residual((fn.ReLU(), second))), third
    other = tuple(fn.dense(KEY.child(9), 2, 2) for _ in range(3))
    weights = fn.trained_arrays((first, second, third))
    assert fn.equal(from_keras((other[0], fn.Frozen(fn.Residual((fn.ReLU(), other[1]))), other[2]), weights), net)


# --------------------------------------------------------------------------------------------------- traps

CONV, LAST = fn.conv2d(KEY, 1, 2, 3), fn.dense(KEY, 8, 2)
NET = (CONV, fn.batch_norm(2), fn.Flatten(), LAST)
WEIGHTS: Final[Arrays] = [CONV.weight, CONV.bias, *[np.ones(2, np.float32)] * 4, LAST.weight, LAST.bias]


class Model:
    """An object with the method of a Keras model."""

    def get_weights(self) -> Arrays:
        """The arrays."""
        return WEIGHTS


def changed(position: int, *arrays: Any) -> Arrays:
    """The weights with other arrays at one position."""
    return [*WEIGHTS[:position], *arrays, *WEIGHTS[position + 1 :]]


TRAPS: Final[list[tuple[str, Any, Any, type[fn.FuncnetError], str]]] = []


def trap(name: str, net: Any, arrays: Any, error: type[fn.FuncnetError], message: str) -> None:
    """Add what must be refused; in the message, ``...`` stands for any text."""
    TRAPS.append((name, net, arrays, error, message))


# fmt: off
trap("no bias", NET, changed(1), fn.StructureError,
    "from_keras: arrays must be the 8 arrays of the network, got 7\n  missing: arrays[7] for the bias of layer 3 "
    "(Dense)\n  the first that does not fit: arrays[5] must have shape (2,) for the variance of layer 1 "
    "(BatchNorm), got (8, 2)\n  insert the arrays that Keras leaves out: zeros for use_bias=False or center=False, "
    "ones for scale=False")
trap("more", NET, [*WEIGHTS, np.ones((2, 2)), np.ones(2)], fn.StructureError,
    "from_keras: arrays must be the 8 arrays of the network, got 10\n  left over: arrays[8] (2, 2), "
    "arrays[9] (2,)\n...")
trap("more, no array", NET, [*WEIGHTS, 3], fn.StructureError, "...left over: arrays[8] None...")
trap("nothing", NET, [], fn.StructureError,
    "...got 0\n  missing: arrays[0] for the weight of layer 0 (Conv2D), arrays[1]... and 2 more...")
trap("one array", fn.rms_norm(2), [], fn.StructureError, "...the 1 array of the network, got 0\n...")
trap("shape", NET, changed(6, np.ones((2, 8))), fn.ShapeError,
    "from_keras: arrays[6] must have shape (8, 2) for the weight of layer 3 (Dense), got (2, 8)")
trap("dtype", NET, changed(6, np.ones((8, 2))), fn.DTypeError,
    "from_keras: arrays[6] must be float32, or a narrower float, for the weight of layer 3 (Dense), got float64; use "
    "fn.astype(net, np.float64), or cast the array: .astype(np.float32)")
trap("ragged", NET, changed(0, [[1.0], [1.0, 2.0]]), fn.DTypeError,
    "from_keras: NumPy cannot read arrays[0]: ...; pass the list that model.get_weights() returns")
trap("a model", NET, Model(), fn.ConfigError,
    "from_keras: arrays must be a list of arrays, got Model; use model.get_weights()")
trap("a mapping", NET, {"kernel": 1}, fn.ConfigError, "from_keras: arrays must be a list of arrays, got dict")
trap("a word", NET, "kernel", fn.ConfigError, "from_keras: arrays must be a list of arrays, got str")
trap("Standardize", (fn.Standardize(np.ones(1), np.ones(1)),), [], fn.ConfigError,
    "from_keras (layer 0): Standardize has no counterpart in Keras; layers with arrays must be Dense, ...")
trap("reset_after=False", fn.gru(KEY, 2, 1), [np.ones((2, 3), np.float32), np.ones((1, 3), np.float32), np.ones(3)],
    fn.ShapeError, "from_keras: arrays[2] must have shape (2, 3) for the bias of GRU, got (3,)")
trap("one bias", (fn.GRU(np.ones((2, 3)), np.ones((1, 3)), np.ones(3)),), [], fn.ConfigError,
    "from_keras (layer 0): a GRU of Keras has a bias and a recurrent_bias, or neither; create the layer with both ...")
trap("an initial state", fn.rnn(KEY, 2, 1, initial=True), [], fn.ConfigError,
    "from_keras: RNN has an initial state, which Keras does not store; use None")
trap("no network", list(NET), WEIGHTS, fn.StructureError, "from_keras: a network is ...; use a tuple")
# fmt: on


@pytest.mark.parametrize("case", TRAPS, ids=lambda case: case[0])
def test_what_may_be_wrong_is_refused(case: tuple[str, Any, Any, type[fn.FuncnetError], str]) -> None:
    """The message says which array, which layer, and what to do."""
    _, net, arrays, error, message = case
    pattern = ".*".join(map(re.escape, message.split("...")))
    with pytest.raises(error) as refusal:
        from_keras(net, arrays)
    assert re.fullmatch(pattern, str(refusal.value), re.DOTALL), refusal.value


def test_the_good_arrays_load_as_copies() -> None:
    """The traps differ from these in one thing; a later change of an array does not reach the network."""
    loaded: Any = from_keras(NET, [array.copy() for array in WEIGHTS])
    given_arrays = [array.copy() for array in WEIGHTS]
    again: Any = from_keras(NET, given_arrays)
    for array in given_arrays:
        array[...] = 0
    assert fn.equal(loaded, again)
    assert (again[1].variance == 1).all()
