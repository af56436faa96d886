"""Recurrent layers: pieces of a sequence, directions, padding, limits, and what a traced step becomes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attrs import evolve
from networks import inputs, recurrent

import funcnet as fn
from funcnet import arithmetic
from funcnet.core.trees import leaves

KEY = fn.Key(60)
LAYERS: dict[str, Any] = {
    "RNN": recurrent(fn.RNN, "bias", "initial"),
    "ReLU": recurrent(fn.RNN, activation="relu"),
    "GRU": recurrent(fn.GRU, "bias", "recurrent_bias", "initial"),
    "LSTM": recurrent(fn.LSTM, "bias", "initial", "initial_cell"),
}
X = inputs(KEY.child("x"), 5, 6, 2, dtype=np.float32)
unroll: Any = fn.unroll  # the tests call it with any layer
every_layer = pytest.mark.parametrize("name", LAYERS)
both = pytest.mark.parametrize("name_of_bits", ["native", "portable"])


def made(name: str, **settings: Any) -> Any:
    """The layer in float32, with settings."""
    return evolve(fn.astype(LAYERS[name](KEY, X.shape[1:]), np.float32), **settings)


def bits(net: fn.Network, x: fn.Array, g: fn.Array | None = None) -> list[bytes]:
    """The bytes of the output, and of the gradients for a g."""
    y, pull = fn.vjp(net, x)
    grad_x, grads = pull(inputs(KEY.child("g"), *y.shape, dtype=np.float32) if g is None else g)
    return [array.tobytes() for array in (y, grad_x, *(leaf.array for leaf in leaves(grads) if leaf.trained))]


@both
@every_layer
def test_pieces_have_the_outputs_of_the_whole(name: str, name_of_bits: Any) -> None:
    """Split anywhere, a sequence has the same outputs and last state, bit for bit; so it has step by step."""
    layer = made(name)
    with arithmetic.using(name_of_bits):
        whole, last = unroll(layer, X)
        assert whole.tobytes() == fn.forward(layer, X).tobytes()
        for sizes in ([2, 4], [5, 1], [1] * 6):
            state: Any = None
            parts: list[fn.Array] = []
            for end, size in zip(np.cumsum(sizes), sizes, strict=True):
                part, state = unroll(layer, X[:, end - size : end], state)
                parts.append(part)
            assert np.concatenate(parts, axis=1).tobytes() == whole.tobytes()
            assert np.array(state).tobytes() == np.array(last).tobytes()


@both
@every_layer
def test_reverse_is_flip_forward_flip(name: str, name_of_bits: Any) -> None:
    """Outputs and, in portable arithmetic, gradients by x have the bits of the flipped sequence."""
    g = inputs(KEY.child("g"), 5, 6, 3, dtype=np.float32)
    layer = made(name)
    with arithmetic.using(name_of_bits):
        for outputs, slope in (("all", g), ("last", g[:, 0].copy())):
            one, flipped = (evolve(layer, outputs=outputs, reverse=way) for way in (True, False))
            y, also = fn.forward(one, X), fn.forward(flipped, X[:, ::-1].copy())
            assert y.tobytes() == (also if outputs == "last" else also[:, ::-1]).tobytes()
            by_x, _ = fn.backward(one, X, slope)
            also_by_x, _ = fn.backward(flipped, X[:, ::-1].copy(), slope if outputs == "last" else g[:, ::-1].copy())
            np.testing.assert_allclose(by_x, also_by_x[:, ::-1], rtol=1e-4, atol=1e-5)
            assert name_of_bits == "native" or by_x.tobytes() == also_by_x[:, ::-1].tobytes()


@every_layer
@pytest.mark.parametrize("settings", [{}, {"reverse": True}, {"outputs": "last"}])
def test_a_mask_of_ones_changes_no_bit(name: str, settings: dict[str, Any]) -> None:
    """Neither outputs nor gradients change."""
    layer = made(name, **settings)
    assert bits(fn.masked(layer, np.ones((5, 6), np.float32)), X) == bits(layer, X)


@every_layer
@pytest.mark.parametrize("reverse", [False, True])
def test_padded_steps_count_for_nothing(name: str, reverse: bool) -> None:  # noqa: FBT001  # pytest parameter
    """Valid steps have the outputs of the sequence without the padded ones, whose outputs and gradients are 0."""
    layer = made(name, reverse=reverse)
    valid = np.array([True, False, True, True, False, False])
    x = np.where(valid[:, None], X, np.float32(1e30))
    masked = fn.masked(layer, np.tile(valid.astype(np.float32), (5, 1)))
    g = inputs(KEY.child("g"), 5, 6, 3, dtype=np.float32)
    (y, pull), (few, pull_few) = fn.vjp(masked, x), fn.vjp(layer, x[:, valid].copy())
    (by_x, grads), (few_by_x, few_grads) = pull(g), pull_few(g[:, valid].copy())
    assert y[:, valid].tobytes() == few.tobytes()
    assert not y[:, ~valid].any()
    assert not by_x[:, ~valid].any()
    pairs = zip(fn.trained_arrays(grads), fn.trained_arrays(few_grads), strict=True)
    for one, other in ((by_x[:, valid], few_by_x), *pairs):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    ends = [fn.forward(evolve(each, outputs="last"), z) for each, z in ((masked, x), (layer, x[:, valid].copy()))]
    assert ends[0].tobytes() == ends[1].tobytes()


@every_layer
def test_a_sequence_without_valid_steps_has_the_initial_state(name: str) -> None:
    """The gradient by h of the last step goes to the trained initial state alone."""
    layer = fn.masked(made(name, outputs="last"), np.zeros((5, 6), np.float32))
    y, pull = fn.vjp(layer, X)
    g = inputs(KEY.child("g"), 5, 3, dtype=np.float32)
    by_x, grads = pull(g)
    start = np.zeros(3, np.float32) if layer.initial is None else layer.initial
    assert y.tobytes() == np.tile(start, (5, 1)).tobytes()
    assert not by_x.any()
    found = {leaf.field: leaf.array for leaf in leaves(grads) if leaf.trained and leaf.array.any()}
    assert found.keys() <= {"initial"}
    if layer.initial is not None:
        np.testing.assert_allclose(found["initial"], g.sum(axis=0), rtol=1e-5)


@both
@every_layer
@pytest.mark.parametrize("shape", [(0, 4, 2), (3, 1, 2), (1, 1, 2), (20, 2, 2)])
def test_every_size_works(name: str, shape: tuple[int, int, int], name_of_bits: Any) -> None:
    """No rows, one step and one row work; the last output is the one at the end."""
    x = inputs(KEY.child("x"), *shape, dtype=np.float32)
    with arithmetic.using(name_of_bits):
        y, last = fn.forward(made(name), x), fn.forward(made(name, outputs="last"), x)
        assert y.shape == (*shape[:2], 3)
        assert last.tobytes() == y[:, -1].tobytes()
        by_x, grads = fn.backward(made(name), x, y)
    assert by_x.shape == shape
    assert all(np.isfinite(array).all() for array in fn.trained_arrays(grads))
    assert fn.output_shape(made(name), shape[1:]) == (shape[1], 3)
    assert fn.output_shape(made(name, outputs="last"), shape[1:]) == (3,)


@every_layer
def test_bad_sequences_are_refused(name: str) -> None:
    """No steps, another size, another dtype, and a mask of another shape."""
    layer = made(name)
    with pytest.raises(fn.ShapeError, match=r"x must have at least one step, got \(5, 0, 2\)"):
        fn.forward(layer, X[:, :0])
    with pytest.raises(fn.ShapeError, match=r"x must have shape \(B, T, 2\) to match weight"):
        fn.forward(layer, X[:, :, :1].copy())
    with pytest.raises(fn.DTypeError, match="x must be float32 to match weight, got float64"):
        fn.forward(layer, X.astype(np.float64))
    with pytest.raises(fn.ShapeError, match=r"\(5, 6\) to match x \(5, 6, 2\), got \(4, 6\); use fn\.masked"):
        fn.forward(fn.masked(layer, np.ones((4, 6), np.float32)), X)


def test_bad_states_and_layers_are_refused() -> None:
    """The state of an LSTM is a pair, and only recurrent layers have one."""
    good = np.zeros((5, 3), np.float32)
    with pytest.raises(fn.ConfigError, match=r"unroll: the state of an LSTM must be a pair \(h, c\), got ndarray"):
        unroll(made("LSTM"), X, good)
    with pytest.raises(fn.ShapeError, match=r"unroll: state must have shape \(5, 3\)"):
        unroll(made("GRU"), X, good[:4])
    with pytest.raises(fn.DTypeError, match="unroll: state must be a plain NumPy array, got tuple"):
        unroll(made("RNN"), X, (good, good))
    both_ways: Any = fn.bidirectional
    for function, *args in ((unroll, fn.ReLU(), X), (both_ways, made("GRU"), fn.ReLU())):
        with pytest.raises(fn.StructureError, match="the layer must be an RNN, a GRU or an LSTM, got ReLU"):
            function(*args)


def test_overflow_gives_infinity_and_portable_arithmetic_refuses_it() -> None:
    """As in the other layers, no warning appears."""
    weight = np.full((1, 1), 1e30, np.float32)
    layer, x = fn.RNN(weight, weight, activation="relu"), np.ones((1, 3, 1), np.float32)
    assert fn.forward(layer, x).ravel().tolist() == [float(np.float32(1e30)), np.inf, np.inf]
    with fn.portable(), pytest.raises(fn.NonFiniteError, match="needs finite numbers, got a"):
        fn.forward(layer, x)


@pytest.mark.parametrize("make", [fn.rnn, fn.gru, fn.lstm])
def test_new_layers_have_orthogonal_gates_and_the_chosen_fields(make: Any) -> None:
    """Each gate is drawn on its own. Flags decide which vectors exist; NumPy's numbers are numbers."""
    layer = make(KEY, np.int64(5), 4, initial=True, dtype=np.float64)
    for gate in np.split(layer.recurrent, layer.recurrent.shape[1] // 4, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(4), atol=1e-12)
    assert layer.weight.shape == (5, layer.recurrent.shape[1])
    assert not np.array(layer.initial).any()
    bare = make(KEY, 5, 4, bias=False, outputs="last", reverse=True, dtype=np.float64)
    assert bare.weight.tobytes() == layer.weight.tobytes()
    assert [leaf.field for leaf in leaves(bare)] == ["weight", "recurrent"]
    assert (bare.outputs, bare.reverse) == ("last", True)


def test_the_forget_gate_of_a_new_lstm_is_open() -> None:
    """Its bias is 1, or what the caller chooses."""
    half: Any = np.float32(0.5)
    blocks = [fn.lstm(KEY, 2, 2, forget_bias=bias).bias for bias in (1.0, half)]
    assert [block.tolist() for block in blocks if block is not None] == [[0, 0, b, b, 0, 0, 0, 0] for b in (1, 0.5)]
    assert fn.lstm(KEY, 2, 2, bias=False).bias is None
    with pytest.raises(fn.ConfigError, match="lstm: forget_bias must be"):
        fn.lstm(KEY, 2, 2, forget_bias=np.inf)


# -------------------------------------------------------------------------------------------------- tracing


def program(name: str, batch: int, steps: int, size: int, *, masked: bool = False) -> fn.StepProgram:
    """The program of a training step."""
    layer = fn.astype(recurrent(LAYERS_OF[name], "bias", size=size)(KEY, (steps, 2)), np.float32)
    x = inputs(KEY.child("x"), batch, steps, 2, dtype=np.float32)
    net = fn.Masked(layer) if masked else layer
    step = fn.sgd_step(fn.mean_squared_error, learning_rate=0.1)
    return fn.program(step, net, fn.Batch(x, inputs(KEY.child("y"), batch, steps, size, dtype=np.float32)))


LAYERS_OF: dict[str, Any] = {"RNN": fn.RNN, "GRU": fn.GRU, "LSTM": fn.LSTM}


@pytest.mark.parametrize("name", LAYERS_OF)
@pytest.mark.parametrize("masked", [False, True])
def test_a_step_is_traced_and_no_work_is_done_by_element(name: str, masked: bool) -> None:  # noqa: FBT001  # pytest parameter
    """The number of calls depends on the number of time steps alone, and grows in proportion to it."""
    calls = [program(name, *sizes, masked=masked) for sizes in ((9, 4, 3), (40, 4, 8), (9, 7, 3), (9, 10, 3))]
    assert not any(each.opaque for each in calls)
    few, large, more, most = (each.calls for each in calls)
    assert few == large
    assert most - more == more - few > 0


def test_a_mask_costs_the_same_calls_for_any_number_of_gates() -> None:
    """It chooses between states; the gradients by all gates of all steps are set to 0 in one call."""
    extra: dict[str, int] = {}
    for name in ("RNN", "GRU"):
        masked, plain = ([program(name, 9, steps, 3, masked=mask).calls for steps in (4, 10)] for mask in (True, False))
        extra[name] = (masked[1] - masked[0]) - (plain[1] - plain[0])
    assert extra["RNN"] == extra["GRU"] > 0


@pytest.mark.parametrize("name", LAYERS_OF)
def test_forward_and_backward_share_the_states(name: str) -> None:
    """The loop of forward occurs once: two products a time step, one of each direction, and one for all inputs."""
    products = [
        sum(program(name, 9, steps, 3).source.count(call) for call in ("np.matmul(", " dot(")) for steps in (4, 10)
    ]
    assert products[1] - products[0] == 2 * 6
