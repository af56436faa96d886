"""Attention and positions: what an output depends on, bit for bit; sequences that are refused; numbers of any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from attrs import evolve
from networks import inputs

import funcnet as fn
from funcnet.core.trees import leaves, same_bits
from funcnet.layers.positions import waves

KEY = fn.Key(61)
BATCH, STEPS, SIZE = 3, 6, 8
MASK = np.ones((BATCH, STEPS), np.float32)
MASK[0, 4:], MASK[1, :2], MASK[2, 3] = 0, 0, 0
every_arithmetic = pytest.mark.parametrize("portable", [False, True], ids=["native", "portable"])


def attention(*, causal: bool = False, heads: int = 2, **more: Any) -> fn.MultiHeadAttention:
    """A float32 layer with random weights."""
    return fn.multi_head_attention(KEY, SIZE, heads, causal=causal, **more)


def sequences(name: str = "x") -> fn.Array:
    """Random sequences in float32."""
    return inputs(KEY.child(name), BATCH, STEPS, SIZE, dtype=np.float32)


def in_force(portable: bool) -> Any:  # noqa: FBT001  # pytest parameter
    """The context of an arithmetic."""
    return fn.portable() if portable else np.errstate()


@every_arithmetic
@pytest.mark.parametrize("step", range(STEPS - 1))
def test_a_causal_output_depends_on_no_later_step(step: int, portable: bool) -> None:  # noqa: FBT001  # pytest parameter
    """Outputs and gradients by inputs of earlier steps keep their bits if all later inputs change, also in a block."""
    x, other = sequences(), sequences().copy()
    other[:, step + 1 :] = 1e4 * sequences("other")[:, step + 1 :]
    block = fn.transformer_block(KEY, SIZE, 4)
    for net in (attention(causal=True), block):
        with in_force(portable):
            y, z = fn.forward(net, x), fn.forward(net, other)
        assert same_bits(y[:, : step + 1], z[:, : step + 1])
        assert (y[:, step + 1 :] != z[:, step + 1 :]).all()


@every_arithmetic
@pytest.mark.parametrize("causal", [False, True])
def test_padded_steps_change_nothing(causal: bool, portable: bool) -> None:  # noqa: FBT001  # pytest parameters
    """Outputs at valid steps, and all gradients of a loss over them, have the same bits for any padded inputs."""
    x, other, valid = sequences(), sequences().copy(), MASK[:, :, None] == 1
    other = np.where(valid, other, 1e4 * sequences("other"))
    net, g = fn.masked(attention(causal=causal), MASK), np.where(valid, sequences("g"), np.float32(0))
    with in_force(portable):
        (y, pull), (z, pull_other) = fn.vjp(net, x), fn.vjp(net, other)
        grad_x, other_x = pull(g)[0], pull_other(g)[0]
    assert same_bits(np.where(valid, y, 0), np.where(valid, z, 0))
    assert same_bits(np.where(valid, grad_x, 0), np.where(valid, other_x, 0))
    assert (y != fn.forward(attention(causal=causal), x)).any()


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_the_order_of_steps_only_permutes_outputs(heads: int) -> None:
    """Without positions and without a causal mask, attention is equivariant under permutations of the steps."""
    layer, x = attention(heads=heads, dtype=np.float64), sequences().astype(np.float64)
    order = np.argsort(inputs(KEY.child("order"), STEPS))
    np.testing.assert_allclose(fn.forward(layer, x[:, order]), fn.forward(layer, x)[:, order], rtol=1e-12, atol=1e-14)
    moved = (fn.SinusoidalPositions(), layer)
    assert not np.allclose(fn.forward(moved, x[:, order]), fn.forward(moved, x)[:, order])


@every_arithmetic
@pytest.mark.parametrize("size", [0.0, 1e-20, 1e4, 1e9])
def test_scores_of_any_size_are_finite(size: float, portable: bool) -> None:  # noqa: FBT001  # pytest parameter
    """Outputs and gradients are finite, and a step that may read from no step gets exactly 0."""
    net = fn.masked(attention(causal=True, bias=False), np.where(np.arange(STEPS) < 2, 0, MASK).astype(np.float32))
    x = np.float32(size) * sequences()
    with in_force(portable):
        y, pull = fn.vjp(net, x)
        grad_x, grads = pull(sequences("g"))
    assert not y[:, :2].any()
    assert all(np.isfinite(each).all() for each in (y, grad_x, *(leaf.array for leaf in leaves(grads))))


def test_large_scores_select_the_best_key() -> None:
    """The softmax of scores 1e4 apart is one value."""
    eye = np.eye(2)
    layer = fn.MultiHeadAttention(np.hstack((1e4 * eye, eye, eye)), None, eye, None, heads=1)
    x = np.array([[[1.0, 0.0], [0.0, 1.0], [0.5, 0.0]]])
    np.testing.assert_array_equal(fn.forward(layer, x), [[[1, 0], [0, 1], [1, 0]]])


@every_arithmetic
def test_the_mask_alone_hides_a_key(portable: bool) -> None:  # noqa: FBT001  # pytest parameter
    """A score of -1e38 counts. A larger score of a hidden key, padded or later, changes no bit."""
    one = np.ones((1, 1), np.float32)
    layer = fn.MultiHeadAttention(np.array([[1.0, -1.0, 1.0]], np.float32), None, one, None, heads=1)
    x, alone = np.array([1e19, 1, 0], np.float32).reshape(1, 3, 1), np.array([1, 0, 0], np.float32)[None]
    with in_force(portable):
        for net, steps in ((layer, x[:, :1]), (evolve(layer, causal=True), x), (fn.masked(layer, alone), x)):
            y, pull = fn.vjp(net, steps)
            assert np.isclose(y[0, 0, 0], 1e19)
            assert np.isfinite(pull(y / 1e19)[0]).all()


def test_a_block_in_training_drops_from_both_residuals() -> None:
    """The Dropout layers come last in both residuals, and the plain block is that without them."""
    block, without = (fn.transformer_block(KEY, SIZE, 2, dropout=rate) for rate in (0.5, 0.0))
    x = sequences()
    assert [type(layer.net[-1]) for layer in block] == [fn.Dropout, fn.Dropout]
    assert same_bits(fn.forward(block, x), fn.forward(without, x))
    for residual in fn.training(block, KEY):
        assert 0.3 < (fn.forward(residual, x) == x).mean() < 0.7


def test_a_language_model_is_traced() -> None:
    """No function of a step of a small language model is opaque, and the fold has the bits of the plain steps."""
    parts = [KEY.child(number) for number in range(4)]
    ids = np.arange(BATCH * STEPS).reshape(BATCH, STEPS) * 7 % 11
    blocks = fn.Masked(fn.transformer_block(parts[2], SIZE, 2, dropout=0.1), padding=0.5)
    net = (
        *(fn.embedding(parts[0], 11, SIZE), fn.learned_positions(parts[1], 9, SIZE), fn.SinusoidalPositions()),
        *(blocks, fn.layer_norm(SIZE), fn.MeanOverTime(), fn.dense(parts[3], SIZE, 11)),
    )
    state = fn.TrainState.create((fn.Masked(net, padding=3),), fn.Adam(learning_rate=0.01), key=KEY)
    step, batch = fn.train_step(fn.softmax_cross_entropy), fn.Batch(ids, ids[:, 0])
    assert fn.program(step, state, batch).opaque == ()
    plain = state
    for _ in range(3):
        plain, _ = step(plain, batch)
    assert fn.equal(fn.train_epoch(step, state, [batch] * 3)[0].params, plain.params)


YES: Any = "yes"
LAYER = fn.MultiHeadAttention(np.ones((4, 12)), np.ones(12), np.ones((4, 4)), np.ones(4), heads=2)
X = np.ones((2, 3, 4))
BIG = fn.LearnedPositions(np.ones((2, 4)))
REFUSED: dict[str, tuple[Callable[[], object], type[fn.FuncnetError], str]] = {
    "heads": (
        lambda: evolve(LAYER, heads=3, weight=np.ones((4, 12))),
        fn.ShapeError,
        "MultiHeadAttention: weight must have 3 * heads * D columns, with heads = 3, got (4, 12)",
    ),
    "out_weight": (
        lambda: evolve(LAYER, out_weight=np.ones((4, 3))),
        fn.ShapeError,
        "MultiHeadAttention: out_weight must have shape (4, 4) to match weight (4, 12), got (4, 3)",
    ),
    "bias": (
        lambda: evolve(LAYER, bias=np.ones(4)),
        fn.ShapeError,
        "MultiHeadAttention: bias must have shape (12,) to match weight (4, 12), got (4,)",
    ),
    "out_bias": (
        lambda: evolve(LAYER, out_bias=np.ones(12)),
        fn.ShapeError,
        "MultiHeadAttention: out_bias must have shape (4,) to match weight (4, 12), got (12,)",
    ),
    "causal": (
        lambda: evolve(LAYER, causal=YES),
        fn.ConfigError,
        "MultiHeadAttention: causal must be True or False, got 'yes'",
    ),
    "mask": (
        lambda: evolve(LAYER, mask=np.ones(3)),
        fn.ShapeError,
        "MultiHeadAttention: mask must have shape (B, T), got (3,); for a batch of one, use mask[None]",
    ),
    "mask of other sequences": (
        lambda: fn.forward(fn.masked(LAYER, np.ones((2, 5))), X),
        fn.ShapeError,
        (
            "MultiHeadAttention: mask must have shape (2, 3) to match x (2, 3, 4), got (2, 5); "
            "use fn.masked(net, mask) with the mask of these sequences, "
            "and put layers that change the number of steps after this one"
        ),
    ),
    "no steps": (
        lambda: fn.forward(LAYER, X[:, :0]),
        fn.ShapeError,
        "MultiHeadAttention: x must have at least one step, got (2, 0, 4)",
    ),
    "a row": (
        lambda: fn.forward(LAYER, X[0]),
        fn.ShapeError,
        (
            "MultiHeadAttention: x must have shape (B, T, 4) to match weight (4, 12), got (3, 4); "
            "for one sequence, use x[None]; for the outputs of a recurrent layer, set its outputs='all'"
        ),
    ),
    "heads that do not divide the size": (
        lambda: fn.multi_head_attention(KEY, 8, 3),
        fn.ConfigError,
        "multi_head_attention: heads must divide size, got size 8 and heads 3",
    ),
    "a sequence that is too long": (
        lambda: fn.forward((fn.ReLU(), BIG), X),
        fn.ShapeError,
        (
            "LearnedPositions (layer 1): x must have at most 2 steps, got 3; use shorter sequences, a layer with more "
            "positions, or SinusoidalPositions(), which has no limit"
        ),
    ),
    "a row shape that is too long": (
        lambda: fn.output_shape(BIG, (3, 4)),
        fn.ShapeError,
        (
            "LearnedPositions: x must have at most 2 steps, got 3; use shorter sequences, a layer with more "
            "positions, or SinusoidalPositions(), which has no limit"
        ),
    ),
    "dropout": (
        lambda: fn.transformer_block(KEY, 8, 2, dropout=1.0),
        fn.ConfigError,
        "transformer_block: dropout must be a number in [0, 1), got 1.0",
    ),
    "hidden": (
        lambda: fn.transformer_block(KEY, 8, 2, hidden=0),
        fn.ConfigError,
        "transformer_block: hidden must be an int of at least 1, got 0",
    ),
}


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(call: Callable[[], object], kind: type[fn.FuncnetError], message: str) -> None:
    """The message names the layer, what it expects and what it got."""
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_waves_of_long_sequences_are_sines_and_cosines() -> None:
    """The table agrees with the C library within the rounding of the angle, and a longer one begins with a shorter."""
    table, channels = waves(10_000, 7, np.dtype(np.float64)), np.arange(7)
    angle = np.arange(10_000)[:, None] / 10_000.0 ** ((channels - channels % 2) / 7)
    np.testing.assert_allclose(table, np.where(channels % 2 == 0, np.sin(angle), np.cos(angle)), rtol=0, atol=4e-12)
    assert same_bits(waves(50, 7, np.dtype(np.float64)), table[:50])
    assert waves(50, 7, np.dtype(np.float64)) is waves(50, 7, np.dtype(np.float64))


def test_unused_positions_have_no_gradient() -> None:
    """A position beyond the sequences has the gradient 0; the others add up their sequences."""
    g = inputs(KEY, 2, 3, 4)
    grad = fn.backward(fn.LearnedPositions(np.ones((5, 4))), X, g)[1]
    np.testing.assert_allclose(grad.weight, np.vstack((g.sum(axis=0), np.zeros((2, 4)))), rtol=1e-12)
