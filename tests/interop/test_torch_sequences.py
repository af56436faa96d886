"""PyTorch's modules of sequences: outputs equal PyTorch's after ``from_torch``, and after ``to_torch``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from attrs import evolve, frozen
from networks import inputs

import funcnet as fn
from funcnet.interop.torch import from_torch, to_torch
from funcnet.random.draws import uniform

torch: Any = pytest.importorskip("torch", exc_type=ImportError)
torch.set_num_threads(1)
NN: Any = torch.nn
KEY = fn.Key(23)
F64 = np.float64


def shaken(model: Any) -> Any:
    """The model in float64 and in evaluation, with arrays that no layer has by default; variances are positive."""
    with torch.no_grad():
        for position, tensor in enumerate([*model.parameters(), *model.buffers()]):
            if tensor.is_floating_point():
                noise = torch.tensor(inputs(KEY.child(position), *tensor.shape))
                tensor.copy_((0.5 + noise.abs() if tensor.min() > 0 else tensor + 0.1 * noise).to(tensor.dtype))
    return model.double().eval()


def module(layers: dict[str, Any], forward: Callable[[Any, Any], Any]) -> Any:
    """A module with these layers by name, in the order of their definition."""
    made = NN.Module()
    for name, layer in layers.items():
        setattr(made, name, layer)

    def call(x: Any) -> Any:
        return forward(made, x)

    made.forward = call
    return made


def sequence(*layers: Any) -> Any:
    """Layers one after the other; of a tuple of outputs, the first one is passed on."""

    def forward(model: Any, x: Any) -> Any:
        for layer in model.children():
            found: Any = layer(x, x, x) if isinstance(layer, NN.MultiheadAttention) else layer(x)
            x = found if torch.is_tensor(found) else found[0]
        return x

    return module({str(i): layer for i, layer in enumerate(layers)}, forward)


def on_channels(layer: Any) -> Any:
    """A layer that takes (B, C, ...) between two transpositions."""
    return module({"inner": layer}, lambda model, x: model.inner(x.movedim(-1, 1)).movedim(1, -1))


def flipped() -> Any:
    """A GRU that reads forward, between two flips."""
    inner = NN.GRU(4, 3, batch_first=True)
    return module({"inner": inner}, lambda model, x: model.inner(x.flip(1))[0].flip(1))


def both_ways(layer: fn.RNN | fn.GRU | fn.LSTM, other: Any) -> fn.Parallel[Any]:
    """A layer in both directions."""
    return fn.Parallel((layer, evolve(other, reverse=True)), "concat")


def rnn(position: int, size: int) -> fn.RNN:
    """An RNN of ReLU units."""
    return evolve(fn.rnn(KEY.child(position), size, 3, dtype=F64), activation="relu")


def gru(position: int, size: int, *, bias: bool = True) -> fn.GRU:
    """A GRU."""
    return fn.gru(KEY.child(position), size, 3, bias=bias, dtype=F64)


def lstm(position: int, size: int, *, bias: bool = True) -> fn.LSTM:
    """An LSTM."""
    return fn.lstm(KEY.child(position), size, 3, bias=bias, dtype=F64)


def with_positions(*shape: int) -> Any:
    """Positions as a bare parameter, which PyTorch lists before the modules."""
    layers = NN.Embedding(5, 4), NN.Parameter(torch.randn(*shape)), NN.Linear(4, 5, bias=False)

    def forward(model: Any, ids: Any) -> Any:
        return model.head(model.embed(ids) + model.positions[..., : ids.shape[1], :])

    return module(dict(zip(("embed", "positions", "head"), layers, strict=True)), forward)


def encoder() -> Any:
    """PyTorch's encoder layer, norms first, with a causal mask."""
    gelu = NN.GELU("tanh")
    layer = NN.TransformerEncoderLayer(4, 2, 8, 0.0, gelu, batch_first=True, norm_first=True)

    def forward(model: Any, x: Any) -> Any:
        return model.layer(x, src_mask=torch.triu(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool), 1))

    return module({"layer": layer}, forward)


@frozen
class Pair:
    """A network, PyTorch's model of the same layers, and the names of its modules, one per layer with arrays.

    The rows have a shape; they are ids below a number if it is not 0.
    """

    name: str
    net: Any
    model: Callable[[], Any]
    modules: str
    shape: tuple[int, ...] = (6, 4)
    ids: int = 0


# fmt: off
def dense(inputs: int, outputs: int, *, bias: bool = True) -> fn.Dense:
    """A Dense layer."""
    return fn.dense(KEY.child("dense"), inputs, outputs, bias=bias, dtype=F64)


def conv1d(**settings: Any) -> fn.Conv1D:
    """A Conv1D layer of 4 channels."""
    return fn.conv1d(KEY, 4, 6, 3, dtype=F64, **settings)


def conv2d(channels: int, **settings: Any) -> fn.Conv2D:
    """A Conv2D layer."""
    return fn.conv2d(KEY, channels, 6, (3, 2), dtype=F64, **settings)


ATTENTION = fn.multi_head_attention(KEY, 4, 2, dtype=F64)
BLOCK: Any = fn.transformer_block(KEY, 4, 2, hidden=8, dtype=F64)
PAIRS = (
    Pair("Embedding", (fn.embedding(KEY, 5, 4, dtype=F64), dense(4, 3, bias=False)),
         lambda: sequence(NN.Embedding(5, 4), NN.Linear(4, 3, bias=False)), "0 1", (6,), 5),
    Pair("Conv1d of groups", conv1d(stride=2, padding=1, dilation=2, groups=2, bias=False),
         lambda: on_channels(NN.Conv1d(4, 6, 3, 2, 1, 2, groups=2, bias=False)), "inner"),
    Pair("Conv2d of groups", conv2d(4, groups=2), lambda: on_channels(NN.Conv2d(4, 6, (3, 2), groups=2)), "inner",
         (5, 4, 4)),
    Pair("Conv2d, depthwise", conv2d(3, groups=3, bias=False),
         lambda: on_channels(NN.Conv2d(3, 6, (3, 2), groups=3, bias=False)), "inner", (5, 4, 3)),
    Pair("LayerNorm of two axes", fn.layer_norm((6, 4), dtype=F64), lambda: sequence(NN.LayerNorm((6, 4))), "0"),
    Pair("LayerNorm of images", fn.layer_norm((3, 2, 4), dtype=F64), lambda: on_channels(NN.LayerNorm((4, 3, 2))),
         "inner", (3, 2, 4)),
    Pair("norms without arrays",
         (fn.LayerNorm(None, None), fn.RMSNorm(None), fn.layer_norm(4, offset=False, dtype=F64)),
         lambda: sequence(NN.LayerNorm(4, elementwise_affine=False), NN.RMSNorm(4, 1e-5, elementwise_affine=False),
                          NN.LayerNorm(4, bias=False)), "2"),
    Pair("BatchNorm without arrays", (dense(4, 3), fn.batch_norm(3, scale=False, offset=False, dtype=F64)),
         lambda: sequence(NN.Linear(4, 3), NN.BatchNorm1d(3, affine=False)), "0 1", (4,)),
    Pair("RNN", (rnn(0, 4),), lambda: sequence(NN.RNN(4, 3, nonlinearity="relu", batch_first=True)), "0"),
    Pair("GRU without biases", gru(0, 4, bias=False),
         lambda: sequence(NN.GRU(4, 3, bias=False, batch_first=True)), "0"),
    Pair("GRU", (gru(0, 4), dense(3, 2)), lambda: sequence(NN.GRU(4, 3, batch_first=True), NN.Linear(3, 2)), "0 1"),
    Pair("GRU, levels", (gru(0, 4), gru(1, 3)), lambda: sequence(NN.GRU(4, 3, 2, batch_first=True)), "0 0"),
    Pair("GRU of flipped steps", evolve(gru(0, 4), reverse=True), flipped, "inner"),
    Pair("LSTM", lstm(0, 4), lambda: sequence(NN.LSTM(4, 3, batch_first=True)), "0"),
    Pair("LSTM, levels, both directions",
         (both_ways(lstm(0, 4), lstm(1, 4)), both_ways(lstm(2, 6), lstm(3, 6)), dense(6, 2)),
         lambda: sequence(NN.LSTM(4, 3, 2, batch_first=True, bidirectional=True), NN.Linear(6, 2)), "0 0 0 0 1"),
    Pair("MultiheadAttention", (ATTENTION, dense(4, 4)),
         lambda: sequence(NN.MultiheadAttention(4, 2, batch_first=True), NN.Linear(4, 4)), "0 1"),
    Pair("MultiheadAttention without biases", fn.multi_head_attention(KEY, 4, 1, bias=False, dtype=F64),
         lambda: sequence(NN.MultiheadAttention(4, 1, bias=False, batch_first=True)), "0"),
    Pair("TransformerEncoderLayer", BLOCK, encoder,
         "layer.norm1 layer.self_attn layer.norm2 layer.linear1 layer.linear2"),
)
# fmt: on


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_outputs_are_equal_both_ways(pair: Pair) -> None:
    """PyTorch's arrays in the network, the network's arrays in PyTorch, and the way there and back."""
    torch.manual_seed(0)
    key, names = KEY.child("x"), pair.modules.split()
    ids = np.floor(uniform(key, (5, *pair.shape)) * pair.ids).astype(np.int64)
    x: Any = ids if pair.ids else inputs(key, 5, *pair.shape)
    model, other = (shaken(pair.model()) for _ in range(2))
    loaded = from_torch(pair.net, model.state_dict(), names)
    wanted = model(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(fn.forward(loaded, x), wanted, rtol=1e-9, atol=1e-12)
    assert fn.equal(from_torch(pair.net, model.state_dict(), list(dict.fromkeys(names))), loaded)
    state = {name: torch.tensor(array) for name, array in to_torch(loaded, names).items()}
    assert described(state) == described(other.state_dict())
    other.load_state_dict(state)
    np.testing.assert_allclose(other(torch.tensor(x)).detach().numpy(), wanted, rtol=1e-9, atol=1e-12)
    assert fn.equal(from_torch(pair.net, state, names), loaded)


def described(state: Any) -> set[tuple[Any, ...]]:
    """The name, the shape and the dtype of each tensor."""
    return {(name, tensor.shape, tensor.dtype) for name, tensor in state.items()}


@pytest.mark.parametrize("shape", [(7, 4), (1, 7, 4)])
def test_positions_as_a_bare_parameter(shape: tuple[int, ...]) -> None:
    """A parameter without a module has its own name, and may have an axis for the batch."""
    model = shaken(with_positions(*shape))
    positions = fn.learned_positions(KEY, 7, 4, dtype=F64)
    net = fn.embedding(KEY, 5, 4, dtype=F64), positions, dense(4, 5, bias=False)
    loaded = from_torch(net, model.state_dict(), ("embed", "positions", "head"))
    x = np.array([[0, 4, 2], [1, 1, 3]])
    wanted = model(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(fn.forward(loaded, x), wanted, rtol=1e-9)
    embedded = {name.replace("positions", "positions.weight"): array for name, array in model.state_dict().items()}
    squeezed = {name: array.squeeze(0) if array.ndim == 3 else array for name, array in embedded.items()}
    for name, array in to_torch(loaded, ("embed", "positions", "head")).items():
        np.testing.assert_array_equal(array, squeezed[name])


@pytest.mark.parametrize("batch", [0, 2])
def test_positions_of_several_rows_are_refused(batch: int) -> None:
    """A layer has one array of positions for all rows."""
    message = f"must have shape (3, 2) for LearnedPositions, got ({batch}, 3, 2)"
    with pytest.raises(fn.ShapeError, match=re.escape(message)):
        from_torch(fn.learned_positions(KEY, 3, 2, dtype=F64), {"weight": np.zeros((batch, 3, 2))})


def test_a_norm_with_one_array() -> None:
    """PyTorch has the other one, with the number that changes nothing."""
    scale, offset = inputs(KEY.child(0), 4), inputs(KEY.child(1), 4)
    net = (
        fn.LayerNorm(None, offset),
        fn.BatchNorm(scale, None, offset, scale**2),
        fn.BatchNorm(None, offset, scale, scale**2),
    )
    model = NN.Sequential(NN.LayerNorm(4), NN.BatchNorm1d(4), NN.BatchNorm1d(4)).double().eval()
    model.load_state_dict({name: torch.tensor(array) for name, array in to_torch(net).items()})
    x = inputs(KEY, 5, 4)
    np.testing.assert_allclose(fn.forward(net, x), model(torch.tensor(x)).detach().numpy(), rtol=1e-9, atol=1e-12)
    assert fn.equal(from_torch(net, model.state_dict()), net)


GRU = gru(0, 4)
STATE = to_torch(GRU)
BIDIRECTIONAL = to_torch(both_ways(GRU, gru(1, 4)), ("g", "g"))
TWO = fn.Parallel((GRU, GRU), "concat")
FAULTS: dict[str, tuple[Callable[[], object], str]] = {
    "no reverse": (
        lambda: from_torch(TWO, BIDIRECTIONAL),
        "from_torch: ...layer nets.1 (GRU) must have reverse=True for 'g.weight_ih_l0_reverse', ...",
    ),
    "one direction": (
        lambda: from_torch(GRU, BIDIRECTIONAL),
        "...it has 1 layer with arrays, state has arrays of 1; ...left over: 'g.weight_ih_l0_reverse', ...",
    ),
    "missing": (
        lambda: from_torch((GRU,), {name: array for name, array in STATE.items() if "weight_hh" not in name}),
        "...missing for layer 0 (GRU): 'weight_hh_l0'",
    ),
    "a projection": (
        lambda: from_torch(lstm(0, 4), {**to_torch(lstm(0, 4)), "weight_hr_l0": np.ones((3, 3))}),
        "...left over for LSTM: 'weight_hr_l0'",
    ),
    "initial state": (
        lambda: to_torch((fn.Tanh(), evolve(GRU, initial=np.zeros(3)))),
        "to_torch (layer 1): GRU has an initial state, which PyTorch does not store; give ...",
    ),
    "recurrent bias": (
        lambda: from_torch(evolve(GRU, recurrent_bias=None), {**STATE, "bias_hh_l0": np.ones(9)}),
        "from_torch: the module's recurrent_bias must be 0.0 for a GRU without one; create it with bias=True",
    ),
    "a scale": (
        lambda: from_torch(fn.LayerNorm(None, np.zeros(2)), {"weight": np.full(2, 2.0), "bias": np.zeros(2)}),
        "from_torch: the module's scale must be 1.0 for a LayerNorm without one; create it with scale=True",
    ),
    "equal names": (
        lambda: to_torch((dense(4, 4), dense(4, 4)), ("a", "a")),
        "to_torch: names must be a sequence of the names of modules, all different, got ('a', 'a')",
    ),
    "apart": (
        lambda: to_torch((GRU, dense(3, 4), GRU), ("a", "b", "a")),
        "to_torch: names must be a sequence of the names of modules, all different, got ('a', 'b', 'a')",
    ),
    "flattened after a Conv1D": (
        lambda: to_torch((conv1d(), fn.Tanh(), fn.Flatten(), dense(24, 2)), input_shape=(6, 4)),
        "to_torch (layer 2): PyTorch flattens a sequence after a Conv1d as (C, T) or, ... as (T, C); convert ...",
    ),
    "the alphabet": (
        lambda: from_torch(
            (GRU, dense(3, 2)),
            {
                "a.bias_hh_l0": 1,
                "a.bias_ih_l0": 1,
                "a.weight_hh_l0": 1,
                "a.weight_ih_l0": 1,
                "b.bias": 1,
                "b.weight": 1,
            },
        ),
        "from_torch: state lists its names by the alphabet, ...",
    ),
}


@pytest.mark.parametrize(("call", "message"), FAULTS.values(), ids=FAULTS)
def test_what_may_be_wrong_is_refused(call: Callable[[], object], message: str) -> None:
    """The message says what, where, and what to do."""
    with pytest.raises(fn.FuncnetError) as refusal:
        call()
    pattern = ".*".join(map(re.escape, message.split("...")))
    assert re.fullmatch(pattern, str(refusal.value), re.DOTALL), refusal.value


def test_flattened_sequences() -> None:
    """Those of a GRU are (T, C) in both, also inside ``Masked``; those of a Conv1d are (C, T) in PyTorch."""
    embedded = fn.embedding(KEY, 5, 4, dtype=F64), gru(0, 4), fn.Flatten(), dense(18, 2)
    net = fn.Masked(embedded)
    assert fn.equal(from_torch(net, to_torch(embedded, input_shape=(6,)), input_shape=(6,)), net)
    x = inputs(KEY, 5, 6, 4)
    convolution, last = conv1d(), dense(24, 2)
    model = NN.Sequential(NN.Conv1d(4, 6, 3), NN.Flatten(), NN.Linear(24, 2)).double()
    turned = fn.reorder_flat(last, (1, 4, 6), inverse=True)
    arrays = {**to_torch((convolution,), ["0"]), **to_torch((turned,), ["2"])}
    model.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    wanted = fn.forward((convolution, fn.Flatten(), last), x)
    np.testing.assert_allclose(model(torch.tensor(x).mT).detach().numpy(), wanted, rtol=1e-9)


def test_a_mask_is_no_array_of_pytorchs() -> None:
    """It is data of a batch, and remains in the network."""
    mask = np.array([[1.0, 0.0]])
    net = fn.masked((GRU, fn.LastStep()), mask)
    assert fn.equal(from_torch(net, to_torch(net)), net)
