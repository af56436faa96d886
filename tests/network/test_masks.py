"""Masks are data: which layers get them, in which combinators, and which masks are refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from attrs import evolve, frozen
from networks import batch_norm, inputs

import funcnet as fn
from funcnet.arithmetic import matmul_last
from funcnet.core.trees import leaves, same_bits
from funcnet.loops.shards import sharded_value_and_grad
from funcnet.random.draws import uniform

KEY = fn.Key(62)
IDS = np.array([[1, 2, 0, 0], [3, 0, 1, 2], [2, 2, 1, 3]], np.int64)
MASK = (IDS != 0).astype(np.float64)
G = inputs(KEY.child("g"), 3, 4)


def attention(name: str = "attention") -> fn.MultiHeadAttention:
    """A causal layer in float64."""
    return fn.multi_head_attention(KEY.child(name), 4, 2, causal=True, dtype=np.float64)


def ends(net: fn.Network) -> tuple[fn.Network, ...]:
    """The network between an Embedding and a mean over time."""
    return fn.embedding(KEY.child("ids"), 5, 4, dtype=np.float64), net, fn.MeanOverTime()


NETS: dict[str, fn.Network] = {
    "a layer": attention(),
    "a tuple": ((attention(), fn.Tanh()), attention("other")),
    "Residual": fn.Residual((fn.layer_norm(4, dtype=np.float64), attention())),
    "Frozen": fn.Frozen(attention()),
    "Repeat": fn.Repeat(attention(), 2),
    "Parallel": fn.Parallel((attention(), (attention("other"), fn.Sigmoid())), "multiply"),
    "combinators in each other": fn.Residual(fn.Repeat(fn.Parallel((fn.Frozen(attention()), fn.Residual(()))), 2)),
    "Masked": fn.Masked(fn.Residual(attention()), padding=99.0),
    "layers without masks": (fn.dense(KEY, 4, 4, dtype=np.float64), fn.Tanh()),
}
every_net = pytest.mark.parametrize("net", [*map(ends, NETS.values())], ids=NETS)


@every_net
def test_masked_makes_the_mask_of_its_ids(net: fn.Network) -> None:
    """``Masked(net)`` has the bits of ``masked(net, mask)``, and its gradient has no mask."""
    layer, by_hand = fn.Masked(net), fn.masked(net, MASK)
    (y, pull), (z, pull_by_hand) = fn.vjp(layer, IDS), fn.vjp(by_hand, IDS)
    grads, wanted = pull(G)[1], pull_by_hand(G)[1]
    assert same_bits(y, z)
    assert fn.equal(grads.net, fn.masked(wanted, None))
    assert [leaf.path for leaf in leaves(grads)] == [leaf.path for leaf in leaves(layer)]
    assert (y != fn.forward(net, IDS)).any()


@pytest.mark.parametrize("net", [ends(net) for name, net in NETS.items() if name != "Masked"])
def test_padded_steps_change_nothing(net: Any) -> None:
    """The output is the same for any vectors at padded steps, and it differs without the mask."""
    layer, table = fn.Masked(net), net[0].weight.copy()
    table[0] = 1e3
    other = fn.Masked((fn.Embedding(table), *net[1:]))
    assert same_bits(fn.forward(layer, IDS), fn.forward(other, IDS))
    assert (fn.forward(net, IDS) != fn.forward(other.net, IDS)).any()


@every_net
def test_a_network_without_masks_is_the_network(net: fn.Network) -> None:
    """Removing a mask is the inverse of setting it, and each layer with the field gets the mask itself."""
    masked = fn.masked(net, MASK)
    assert fn.equal(fn.masked(masked, None), net)
    masks = [leaf.array for leaf in leaves(masked) if leaf.field == "mask"]
    assert masks
    assert all(same_bits(mask, MASK) and not mask.flags.writeable for mask in masks)
    assert MASK.flags.writeable


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
@pytest.mark.parametrize("padding", [0, 2, -1, 300])
def test_ids_of_any_dtype_are_compared_with_the_padding(dtype: Any, padding: int) -> None:
    """A padding that the dtype cannot hold marks no step."""
    net = ends(attention())
    mask = np.not_equal(IDS, padding).astype(np.float64)
    assert same_bits(fn.forward(fn.Masked(net, padding), IDS.astype(dtype)), fn.forward(fn.masked(net, mask), IDS))


def test_a_step_of_floats_is_padded_if_all_its_features_are() -> None:
    """One feature that differs makes a step valid. The mask has the dtype of the network, or of x."""
    x = np.array([[[0.5, 0.5], [0.5, 1.0], [2.0, 3.0]]], np.float32)
    assert fn.forward(fn.Masked(fn.MeanOverTime(), 0.5), x).tolist() == [[1.25, 2.0]]
    assert fn.forward(fn.Masked(fn.LastStep(), 2.0), x[:, :, :1]).tolist() == [[0.5]]


def test_modes_go_into_the_network() -> None:
    """``training``, ``plain`` and ``calibrate`` reach the inner layers; only these layers change."""
    norm = batch_norm(KEY, (4,), 1e-5)
    net = fn.Masked(ends((attention(), fn.Dropout(0.5), norm)))
    trained: Any = fn.training(net, KEY)
    assert trained.net[1][1].key is not None
    assert trained.net[1][2].training
    assert fn.equal(fn.plain(trained), net)
    calibrated = fn.calibrate(net, IDS)
    assert fn.equal(fn.Masked(fn.masked(fn.calibrate(fn.masked(net.net, MASK), IDS), None)), calibrated)


def test_a_sequence_without_valid_steps_gives_zeros() -> None:
    """Its mean is 0, its last step is 0, and it has no gradient."""
    ids = np.array([[0, 0, 0], [1, 0, 2]])
    for last in (fn.MeanOverTime(), fn.LastStep()):
        net = fn.Masked((fn.embedding(KEY, 5, 4, dtype=np.float64), last))
        y, pull = fn.vjp(net, ids)
        assert not y[0].any()
        assert y[1].all()
        assert not pull(G[:2])[1].net[0].weight[0].any()


def test_the_last_valid_step_is_exact() -> None:
    """Its bits are those of x, in either arithmetic."""
    x, mask = inputs(KEY, 3, 4, 5, dtype=np.float32), MASK.astype(np.float32)
    wanted = x[np.arange(3), [1, 3, 3]]
    with fn.portable():
        assert same_bits(fn.forward(fn.masked(fn.LastStep(), mask), x), wanted)
    assert same_bits(fn.forward(fn.masked(fn.LastStep(), mask), x), wanted)


@frozen(eq=False)
class Pruned(fn.Layer):
    """``y = x @ (weight * mask)``, with a mask of weights. Shapes: x (B, T, I), weight and mask (I, O)."""

    weight: fn.Weight
    mask: fn.Statistic


@frozen(eq=False)
class Centered(fn.Layer):
    """``y = x - mean`` at valid steps, else 0. Shapes: x, y (B, T, C), mean (C,), valid (B, T)."""

    mean: fn.Statistic | None = None
    valid: fn.Mask | None = None


def centered(params: Centered, x: fn.Array) -> fn.Array:
    """Forward."""
    y = x if params.mean is None else x - params.mean
    return y if params.valid is None else y * params.valid[:, :, None]


fn.register_layer(
    Pruned,
    forward=lambda params, x: matmul_last(x, params.weight * params.mask),
    backward=lambda params, _, g: (matmul_last(g, (params.weight * params.mask).T), params),
)
fn.register_layer(
    Centered,
    forward=centered,
    backward=lambda params, _, g: (centered(evolve(params, mean=None), g), params),
    calibrated=lambda params, x: evolve(params, mean=x.mean(axis=(0, 1))),
)


def test_the_annotation_says_what_is_a_mask() -> None:
    """Layers of other modules get the mask in the field annotated as one, whatever its name is, and in no other."""
    pruned, layer = Pruned(np.ones((4, 4)), np.eye(4)), Centered(np.zeros(4))
    net = fn.masked((pruned, layer), MASK)
    assert fn.equal(net[0], pruned)
    assert net[1].valid is not None
    assert same_bits(net[1].valid, MASK)
    x = inputs(KEY, 3, 4, 4)
    assert same_bits(fn.forward(fn.Masked((pruned, layer), padding=9), x), x)
    assert not fn.forward(net, x)[MASK == 0].any()
    assert same_bits(fn.forward(fn.Frozen(layer), x), x)  # a mask that is None is not a missing statistic
    with pytest.raises(fn.ConfigError, match="needs the layer's mean"):
        fn.Frozen(fn.masked(Centered(), MASK))


MANY = np.floor(5 * uniform(KEY.child("many"), (300, 4))).astype(np.int64)


def same_batch(batch: fn.Batch[Any]) -> fn.Batch[Any]:
    """A transform that changes nothing."""
    return batch


@pytest.mark.parametrize("rowwise", [False, True])
@pytest.mark.parametrize("count", [3, 256, 300])
def test_inference_cuts_a_mask_with_the_rows(count: int, *, rowwise: bool) -> None:
    """``outputs`` and ``evaluate`` of ``masked(net, mask)`` have the bits of ``Masked(net)`` for any number of rows."""
    net, ids = ends(attention()), MANY[:count]
    one, other = fn.masked(net, (ids != 0).astype(np.float64)), fn.Masked(net)
    assert same_bits(fn.outputs(one, ids, rowwise=rowwise), fn.outputs(other, ids, rowwise=rowwise))
    for transform in (None, same_batch):
        loss = partial(fn.evaluate, x=ids, y=ids[:, 0] % 4, loss=fn.softmax_cross_entropy, transform=transform)
        assert loss(one) == loss(other)


def test_each_shard_makes_its_own_mask() -> None:
    """The gradient of a ``Masked`` network is the same with and without shards."""
    net, y = fn.Masked(ends(attention())), MANY[:20, 0] % 4
    whole, grads = fn.value_and_grad(net, MANY[:20], y, fn.softmax_cross_entropy)
    loss, sharded = sharded_value_and_grad(net, MANY[:20], y, fn.softmax_cross_entropy, shard_size=7)
    assert loss == pytest.approx(whole, abs=1e-14)
    for one, other in zip(leaves(sharded), leaves(grads), strict=True):
        assert np.abs(one.array - other.array).max() < 1e-14


NET = ends(attention())
REFUSED: dict[str, tuple[Callable[[], object], type[fn.FuncnetError], str]] = {
    "no network": (
        lambda: fn.masked(MASK, NET),  # type: ignore[arg-type]  # the wrong order
        fn.StructureError,
        (
            "masked: a network is a layer or a tuple of networks, got array of float64 (3, 4); "
            "the network comes before the data, as in forward(net, x)"
        ),
    ),
    "rank": (
        lambda: fn.masked(NET, MASK[0]),
        fn.ShapeError,
        "masked: mask must have shape (B, T), got (4,); for a batch of one, use mask[None]",
    ),
    "bools": (
        lambda: fn.masked(NET, MASK == 1),
        fn.DTypeError,
        "masked: mask must be float32 or float64, got bool; use mask.astype(np.float32)",
    ),
    "dtype": (
        lambda: fn.masked(NET, MASK.astype(np.float32)),
        fn.DTypeError,
        "masked: mask must be float64 to match 0.weight, got float32; use mask.astype(np.float64)",
    ),
    "lengths": (
        lambda: fn.masked(NET, np.where(IDS == 3, 3.0, MASK)),
        fn.ConfigError,
        "masked: mask must be 0.0 or 1.0, got mask[1, 0] = 3.0",
    ),
    "NaN": (
        lambda: fn.masked(NET, np.where(IDS == 3, np.nan, MASK)),
        fn.ConfigError,
        "masked: mask must be 0.0 or 1.0, got mask[1, 0] = nan",
    ),
    "other sequences": (
        lambda: fn.forward(fn.masked(NET, MASK), IDS[:, :3]),
        fn.ShapeError,
        (
            "MultiHeadAttention (layer 1): mask must have shape (3, 3) to match x (3, 3, 4), got (3, 4); "
            "use fn.masked(net, mask) with the mask of these sequences, "
            "and put layers that change the number of steps after this one"
        ),
    ),
    "rows of other sequences": (
        lambda: fn.outputs(fn.masked(NET, np.ones((256, 4))), np.zeros((512, 4), np.int64)),
        fn.ShapeError,
        (
            "outputs: mask must have a row for each of the 512 of x, got (256, 4); "
            "use fn.masked(net, mask) with the mask of x"
        ),
    ),
    "no layer with a mask": (
        lambda: fn.Masked((fn.Tanh(), fn.Residual(fn.dense(KEY, 4, 4)))),
        fn.ConfigError,
        (
            "Masked: net must have a layer with a mask, such as a GRU, a MultiHeadAttention or a MeanOverTime; "
            "without one, use net itself"
        ),
    ),
    "one id a row": (
        lambda: fn.forward(fn.Masked(NET), IDS[:, 0]),
        fn.ShapeError,
        "Masked: x must be integer ids (B, T), or have shape (B, T, C), got int64 (3,)",
    ),
    "float ids": (
        lambda: fn.forward(fn.Masked(NET), MASK),
        fn.ShapeError,
        "Masked: x must be integer ids (B, T), or have shape (B, T, C), got float64 (3, 4)",
    ),
    "padding": (
        lambda: fn.Masked(NET, padding="0"),  # type: ignore[arg-type]  # not a number
        fn.ConfigError,
        "Masked: padding must be a number in (-inf, inf), got '0'",
    ),
}


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_masks_that_do_not_fit_are_refused(
    call: Callable[[], object], kind: type[fn.FuncnetError], message: str
) -> None:
    """The message names the layer, what it expects and what it got."""
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
