"""Frozen, Parallel, Repeat: the computations they are equal to, the state they keep, and the work they avoid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st
from networks import batch_norm, inputs
from random_networks import networks, returning, width

import funcnet as fn
from funcnet import arithmetic
from funcnet.core.trees import is_trained, leaves, map_parameters, same_bits
from funcnet.layers import dense
from funcnet.network.modes import repetition

KEY = fn.Key(71)
X = inputs(KEY.child("x"), 12, 4)
LABELS = np.arange(12) % 3
CE = fn.softmax_cross_entropy
seeds = st.integers(0, 2**16)


def square(name: str, size: int = 4) -> fn.Dense:
    """A Dense layer with equal input and output sizes."""
    return fn.dense(KEY.child(name), size, size, dtype=np.float64)


def head(size: int = 4) -> fn.Dense:
    """A Dense layer with three classes."""
    return fn.dense(KEY.child("head"), size, 3, dtype=np.float64)


def batches() -> Any:
    """Batches of five rows; the last batch is smaller."""
    return fn.minibatches(X, LABELS, 5, key=KEY.child("order"))


def g_of(net: fn.Network, x: fn.Array) -> fn.Array:
    """A random gradient with the shape of the output."""
    return inputs(KEY.child("g"), *fn.forward(net, x).shape)


def same_arrays(a: fn.Network, b: fn.Network) -> bool:
    """Whether the arrays of two networks, in order, have the same bits, regardless of the records."""
    return all(same_bits(one.array, two.array) for one, two in zip(leaves(a), leaves(b), strict=True))


# --------------------------------------------------------------------------------------------------- Frozen


@given(net=networks(plain=True), seed=seeds)
def test_frozen_is_its_network_without_parameters(net: tuple[fn.Network, ...], seed: int) -> None:
    """Output and ``grad_x`` are net's, bit for bit. Nothing is trained, and the gradient is the record itself."""
    x = inputs(fn.Key(seed), 3, 4)
    g = g_of(net, x)
    layer = fn.Frozen(net)
    assert not is_trained(layer)
    assert same_bits(fn.forward(layer, x), fn.forward(net, x))
    grad_x, grads = fn.backward(layer, x, g)
    assert grads is layer
    assert same_bits(grad_x, fn.backward(net, x, g)[0])
    assert map_parameters(lambda _: pytest.fail("a frozen array was visited"), layer) is layer


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("place", [0, 1])
def test_training_around_a_frozen_network(place: int, folded: bool) -> None:  # noqa: FBT001  # pytest parameter
    """The frozen network keeps its array objects. The layers around it get the gradients of the unfrozen network."""
    base = (square("base"), fn.batch_norm(4, dtype=np.float64), fn.Dropout(0.5))
    base = fn.calibrate(base, X)
    around: tuple[fn.Network, ...] = (square("before"), fn.Tanh()) if place else ()
    net = (*around, fn.Frozen(base), head())
    state, step = fn.TrainState.create(net, fn.Momentum(learning_rate=0.1), key=KEY), fn.train_step(CE)
    end, _ = fn.train_epoch(step, state, batches()) if folded else step(state, batches()[0])
    for new, old in zip(leaves(end.params), leaves(net), strict=True):
        assert (new.array is old.array) == (old.role in ("fixed", "statistic"))
        assert same_bits(new.array, old.array) == (not old.trained)
    assert repr(end.params) == repr(net)
    x, y = batches()[0].x, batches()[0].y
    loss, grads = fn.value_and_grad(net, x, y, CE)
    free_loss, free = fn.value_and_grad((*around, base, head()), x, y, CE)
    assert loss == free_loss
    assert same_arrays(grads[:place], free[:place])
    assert same_arrays(grads[-1:], free[-1:])


def counting(monkeypatch: pytest.MonkeyPatch, counts: Counter[str]) -> None:
    """Count Dense's products by purpose."""

    def count(name: str, f: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            counts[name] += 1
            return f(*arguments)

        return counted

    monkeypatch.setattr(dense, "matmul_last", count("matmul", arithmetic.matmul_last))
    monkeypatch.setattr(dense, "sum_outer", count("sum_outer", arithmetic.sum_outer))


@pytest.mark.parametrize(
    ("net", "forward", "backward", "outer"),
    [
        ((fn.Frozen((square("a"), square("b"))), head()), 3, 1, 1),
        ((square("a"), fn.Frozen((square("b"), square("c"))), head()), 4, 2 + 4, 4),
        ((square("a"), fn.Residual(square("b")), head()), 3, 1 + 3, 3),
        ((fn.Parallel((square("a"), square("b"))), head()), 3, 2 + 3, 3),
        ((fn.Repeat(square("a"), 3), head()), 4, 3 + 4, 4),
    ],
    ids=repr,
)
def test_a_plain_step_goes_back_to_the_first_layer_that_trains(
    net: tuple[fn.Network, ...], forward: int, backward: int, outer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step has one forward product per use, plus one inside of combinators. Nested tuples add no products."""
    for nested in (net, (net[:1], net[1:]), ((net,),)):
        counts: Counter[str] = Counter()
        counting(monkeypatch, counts)
        fn.sgd_step(CE, learning_rate=0.1)(nested, batches()[0])
        assert counts == {"matmul": forward + backward, "sum_outer": outer}
        monkeypatch.undo()


def test_a_frozen_network_evaluates_for_good() -> None:
    """``training`` and ``calibrate`` leave it unchanged, and it needs no key. A net that cannot evaluate is refused."""
    ready = fn.calibrate((fn.batch_norm(4, dtype=np.float64), fn.Dropout(0.5)), X)
    net = (fn.Frozen(ready), head())
    assert fn.training(net, KEY) is net
    assert fn.calibrate(net, X + 1) is net
    fn.sgd_step(CE, learning_rate=0.1)(net, batches()[0])
    both = fn.calibrate((*net[:1], fn.batch_norm(4, dtype=np.float64)), X)
    assert both[0] is net[0]
    plain = "Frozen needs the layer in its plain form, got "
    refusals: list[tuple[fn.Network, str]] = [
        (fn.Dropout(0.5, key=KEY), rf"Dropout: {plain}Dropout\(.*; "),
        ((fn.ReLU(), (fn.training(ready, KEY),)), rf"BatchNorm \(layer 1\.0\.0\): {plain}"),
        (
            (fn.ReLU(), fn.batch_norm(4)),
            r"BatchNorm \(layer 1\): Frozen needs the layer's mean, got .*; pass calibrate",
        ),
    ]
    for inside, message in refusals:
        with pytest.raises(fn.ConfigError, match=message):
            fn.Frozen(inside)
    with pytest.raises(fn.StructureError, match="use a tuple"):
        fn.Frozen([fn.ReLU()])  # type: ignore[type-var]  # a list is not a network


def test_a_frozen_network_is_a_value() -> None:
    """Unwrapping returns the original network, and what is frozen is part of the fingerprint."""
    base = square("base"), fn.Tanh()
    layer = fn.Frozen(base)
    assert layer.net is base
    assert fn.fingerprint(layer) not in {fn.fingerprint(base), fn.fingerprint(fn.Frozen((square("b"), fn.Tanh())))}
    assert [leaf.role for leaf in leaves(layer)] == ["fixed", "fixed"]


# ------------------------------------------------------------------------------------------------- Parallel


@given(data=st.data(), seed=seeds, count=st.integers(1, 3))
def test_parallel_adds_or_concatenates(data: st.DataObject, seed: int, count: int) -> None:
    """Outputs are combined in order. ``grad_x`` is a sum; each network's gradient comes from its slice of g."""
    nets = tuple(data.draw(networks()) for _ in range(count))
    x = inputs(fn.Key(seed), 3, 4)
    wide = fn.Parallel(nets, "concat")
    assert same_bits(fn.forward(wide, x), np.concatenate([fn.forward(net, x) for net in nets], axis=1))
    g = g_of(wide, x)
    ends = np.cumsum([width(net, 4) for net in nets])
    parts = [fn.backward(net, x, part) for net, part in zip(nets, np.split(g, ends[:-1], axis=1), strict=True)]
    check_parts(fn.backward(wide, x, g), parts)
    same_size = tuple(returning(fn.Key(seed).child(i), net, 4, 2) for i, net in enumerate(nets))
    total = fn.Parallel(same_size)
    outputs = [fn.forward(net, x) for net in same_size]
    assert same_bits(fn.forward(total, x), in_order(outputs))
    g = g_of(total, x)
    check_parts(fn.backward(total, x, g), [fn.backward(net, x, g) for net in same_size])


@given(data=st.data(), seed=seeds, count=st.integers(1, 4))
def test_parallel_multiplies(data: st.DataObject, seed: int, count: int) -> None:
    """An output's gradient is g times the product of the others, also where an output is 0."""
    drawn = [data.draw(networks(depth=1)) for _ in range(count)]
    nets: tuple[fn.Network, ...] = tuple(returning(fn.Key(seed).child(i), net, 4, 2) for i, net in enumerate(drawn))
    zero = fn.Dense(np.zeros((4, 2)), np.array([0.0, 1.0]))
    nets = (*nets, zero) if data.draw(st.booleans()) else nets
    x, layer = inputs(fn.Key(seed), 3, 4), fn.Parallel(nets, "multiply")
    outputs = [fn.forward(net, x) for net in nets]
    g = g_of(layer, x)
    grad_x, grads = fn.backward(layer, x, g)
    assert same_bits(fn.forward(layer, x), np.multiply.reduce(outputs))
    wanted = np.zeros_like(x)
    for position, net in enumerate(nets):
        others = np.multiply.reduce([g, *outputs[:position], *outputs[position + 1 :]])
        by_x, by_net = fn.backward(net, x, others)
        wanted += by_x
        for got, leaf in zip(leaves(grads.nets[position]), leaves(by_net), strict=True):
            np.testing.assert_allclose(got.array, leaf.array, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(grad_x, wanted, rtol=1e-9, atol=1e-12)


def check_parts(got: tuple[fn.Array, fn.Parallel[Any]], parts: Sequence[tuple[fn.Array, fn.Network]]) -> None:
    """Check that ``grad_x`` is the sum of the networks' ``grad_x`` and that each network has its own gradient."""
    assert same_bits(got[0], in_order([grad_x for grad_x, _ in parts]))
    assert fn.equal(got[1].nets, tuple(grads for _, grads in parts))


def in_order(arrays: list[fn.Array]) -> fn.Array:
    """The sum of the arrays from the first to the last."""
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total


def test_the_order_of_a_sum_is_that_of_the_networks() -> None:
    """The bits of 1e16 + 1 - 1e16 show the order, for the outputs, for ``grad_x`` and in a replay."""
    scales = [fn.Dense(np.array([[size]]), np.zeros(1)) for size in (1e16, 1.0, -1e16)]
    one = np.ones((1, 1))
    for net, wanted in ((tuple(scales), 0.0), ((scales[0], scales[2], scales[1]), 1.0)):
        layer = fn.Parallel(net)
        assert fn.forward(layer, one).item() == wanted
        assert fn.backward(layer, one, one)[0].item() == wanted
        assert fn.outputs(layer, one, rowwise=True).item() == wanted


@frozen(eq=False)
class Single(fn.Layer):
    """A layer whose output is always float32."""


fn.register_layer(
    Single,
    forward=lambda _, x: x.astype(np.float32),
    backward=lambda params, x, g: (g.astype(x.dtype), params),
    output_shape=lambda _, shape: shape,
)


def refused_by_all(net: fn.Network, x: fn.Array, kind: type[fn.FuncnetError], message: str) -> None:
    """Check that forward, vjp and a step raise exactly this error."""
    step = fn.sgd_step(CE, learning_rate=0.1)
    batch = fn.Batch(x, np.zeros(len(x), np.int64))
    for call in (lambda: fn.forward(net, x), lambda: fn.vjp(net, x), lambda: step(net, batch)):
        with pytest.raises(kind) as caught:
            call()
        assert str(caught.value) == message


AXIS = "Parallel (layer 1): nets[0](x) must have an axis to concatenate along, got "
ROWS, IMAGES = "shape (5, 4) to match nets[0](x) (5, 4)", "shape (5, 3, 2, C) to match nets[0](x) (5, 3, 2, 4)"
TURNED = fn.Flatten(), fn.Reshape((2, 3, 4))
ID, FLAT = fn.Identity(), fn.Flatten()


@pytest.mark.parametrize(
    ("layer", "row", "wanted", "got"),
    [
        (fn.Parallel((square("a"), head())), (4,), ROWS, "(5, 3)"),
        (fn.Parallel(((), ID, head())), (4,), ROWS, "(5, 3)"),
        (fn.Parallel((square("a"), head()), "multiply"), (4,), ROWS, "(5, 3)"),
        (fn.Parallel((ID, TURNED), "concat"), (3, 2, 4), IMAGES, "(5, 2, 3, 4)"),
        (fn.Parallel((ID, FLAT, FLAT), "concat"), (3, 2, 4), IMAGES, "(5, 24)"),
        (fn.Parallel((ID, fn.Reshape(())), "concat"), (1,), "shape (5, C) to match nets[0](x) (5, 1)", "(5,)"),
    ],
    ids=["sum", "sum of three", "product", "images", "ranks", "no axis"],
)
def test_outputs_that_do_not_agree_are_refused(
    layer: fn.Parallel[Any], row: tuple[int, ...], wanted: str, got: str
) -> None:
    """The message has both shapes and the network's position. Concatenation may change the last axis only."""
    net, x = (fn.Tanh(), layer), inputs(KEY, 5, *row)
    position = 2 if layer.combine == "add" and len(layer.nets) == 3 else 1
    refused_by_all(net, x, fn.ShapeError, f"Parallel (layer 1): nets[{position}](x) must have {wanted}, got {got}")
    last = ", except for the last axis" if layer.combine == "concat" else ""
    rest = f"rows of shape {row}, as nets[0](x) has{last}, got {fn.output_shape(layer.nets[position], row)}"
    with pytest.raises(fn.ShapeError) as caught:
        fn.output_shape(net, row)
    assert str(caught.value) == f"Parallel (layer 1): nets[{position}](x) must have {rest}"


def test_outputs_of_two_dtypes_are_refused() -> None:
    """Adding or concatenating would widen the narrower dtype; each combinator reports the dtype that it got."""
    for combine in ("add", "concat", "multiply"):
        for x, nets, wanted, got in (
            (X, (fn.Tanh(), Single()), "float64", "float32"),
            (X, (Single(), fn.Tanh()), "float32", "float64"),
        ):
            message = f"nets[1](x) must be {wanted} to match nets[0](x), got {got}; use nets[1](x).astype(np.{wanted})"
            refused_by_all(fn.Parallel(nets, combine), x, fn.DTypeError, f"Parallel: {message}")
    for layer in (fn.Repeat(Single(), 2), fn.Residual(Single())):
        message = "net(x) must be float64 to match x, got float32; use net(x).astype(np.float64)"
        refused_by_all((fn.Tanh(), layer), X, fn.DTypeError, f"{type(layer).__name__} (layer 1): {message}")


def test_what_has_no_axis_is_not_concatenated() -> None:
    """A single network is refused, too, in forward, vjp and output_shape."""
    net = (fn.ReLU(), fn.Parallel((fn.Identity(),), "concat"))
    refused_by_all(net, inputs(KEY, 3), fn.ShapeError, f"{AXIS}(3,)")
    with pytest.raises(fn.ShapeError) as caught:
        fn.output_shape(net, ())
    assert str(caught.value) == f"{AXIS}rows of shape ()"
    assert fn.output_shape(fn.Parallel((fn.Identity(), fn.ReLU())), ()) == ()
    assert fn.forward(fn.Parallel((fn.Identity(), fn.ReLU())), -inputs(KEY, 3)).shape == (3,)


def test_an_error_inside_names_its_place() -> None:
    """The path has the network's position, then the position inside the network."""
    net = (fn.Tanh(), fn.Parallel((fn.Tanh(), (fn.Tanh(), fn.dense(KEY, 3, 3, dtype=np.float64)))))
    for call in (lambda: fn.forward(net, X), lambda: fn.output_shape(net, (4,)), lambda: fn.vjp(net, X)):
        with pytest.raises(fn.ShapeError, match=r"Dense \(layer 1\.1\.1\): x must have shape \(B, \.\.\., 3\)"):
            call()


CHOICES = "Parallel: combine must be 'add' or 'concat' or 'multiply', got 'mul'"
A_TUPLE = "Parallel: nets must be a tuple of at least one network"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fn.Parallel(()), f"{A_TUPLE}, got ()"),
        (lambda: fn.Parallel(fn.ReLU()), f"{A_TUPLE}, got ReLU(); use (net,)"),  # type: ignore[type-var]  # not a tuple
        (lambda: fn.Parallel((fn.ReLU(),), "mul"), CHOICES),  # type: ignore[arg-type]  # invalid choice
        (lambda: fn.Repeat(fn.ReLU(), 0), "Repeat: times must be an int of at least 1, got 0"),
        (lambda: fn.Repeat(fn.ReLU(), 2.0), "Repeat: times must be an int of at least 1, got 2.0"),  # type: ignore[arg-type]  # not an int
    ],
)
def test_bad_settings_are_refused(make: Callable[[], object], message: str) -> None:
    """Creating the record raises the error."""
    with pytest.raises(fn.ConfigError) as caught:
        make()
    assert str(caught.value) == message


# --------------------------------------------------------------------------------------------------- Repeat


@given(inner=networks(), seed=seeds, times=st.integers(1, 4), key=st.sampled_from([None, KEY]))
def test_repeat_is_the_tuple_of_its_repetitions(
    inner: tuple[fn.Network, ...], seed: int, times: int, key: fn.Key | None
) -> None:
    """Output and ``grad_x`` are the tuple's. The parameters' gradient is the sum from the last copy to the first."""
    net = returning(fn.Key(seed), inner, 4, 4)
    layer = fn.Repeat(net, times)
    if key is not None:
        layer = fn.training(layer, key)
    copies = tuple(repetition(layer.net, number) for number in range(times))
    x = inputs(fn.Key(seed), 3, 4)
    assert same_bits(fn.forward(layer, x), fn.forward(copies, x))
    g = g_of(layer, x)
    grad_x, grads = fn.backward(layer, x, g)
    each_x, each = fn.backward(copies, x, g)
    assert same_bits(grad_x, each_x)
    total: fn.Network = each[-1]
    for grad in each[-2::-1]:
        total = map_parameters(lambda a, b: a + b, total, grad)
    assert same_arrays(grads.net, total)
    assert repr(grads) == repr(layer)


def test_each_repetition_draws_by_itself() -> None:
    """Each repetition has its own mask, nested or not. The same key gives the same masks, and the mean is preserved."""
    layer = fn.training(fn.Repeat(fn.Dropout(0.5), 4), KEY)
    x = np.ones((1, 100_000))
    y = fn.forward(layer, x)
    assert set(np.unique(y)) == {0.0, 16.0}
    assert (y > 0).mean() == pytest.approx(1 / 16, abs=0.003)
    assert same_bits(y, fn.forward(layer, x))
    nested = fn.training(
        fn.Repeat((fn.Repeat((fn.Dropout(0.5), fn.Identity()), 2), fn.Residual(fn.Dropout(0.5))), 2), KEY
    )
    inner = [repetition(repetition(nested.net, i)[0].net, j)[0].key for i in range(2) for j in range(2)]
    outer = [repetition(nested.net, i)[1].net.key for i in range(2)]
    assert len({*inner, *outer}) == 6
    plain = fn.Repeat((square("a"), fn.Tanh()), 2)
    assert fn.training(plain, KEY) is plain
    assert repetition(plain.net, 1) is plain.net


def test_steps_draw_other_masks() -> None:
    """Two steps on the same batch have different losses."""
    state = fn.TrainState.create((fn.Repeat(fn.Dropout(0.5), 2), head()), fn.SGD(learning_rate=1e-9), key=KEY)
    after, first = fn.train_step(CE)(state, batches()[0])
    assert fn.train_step(CE)(after, batches()[0])[1] != pytest.approx(first, rel=1e-3)


def test_a_mode_layer_of_ones_own_draws_by_repetition() -> None:
    """A custom layer with parameters and a key draws per repetition, in steps and in a fold."""

    @frozen(eq=False)
    class Noisy(fn.Layer):
        scale: fn.Array
        fixed: int = 3
        key: fn.Key | None = None

    def noise(params: Noisy, x: fn.Array) -> fn.Array:
        draw = inputs(params.key, *x.shape) * params.fixed if params.key is not None else np.ones_like(x)
        return draw.astype(x.dtype)

    def backward(params: Noisy, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Noisy]:
        drawn = g * noise(params, x)
        return drawn * params.scale, evolve(params, scale=arithmetic.sum_rows(drawn * x))

    fn.register_layer(
        Noisy,
        forward=lambda params, x: x * noise(params, x) * params.scale,
        backward=backward,
        training=lambda params, key: evolve(params, key=key),
        is_training=lambda params: params.key is not None,
    )
    net = (fn.Repeat((Noisy(np.ones(4)), fn.Tanh()), 3), head())
    state = fn.TrainState.create(net, fn.Momentum(learning_rate=0.1), key=KEY)
    step = fn.train_step(CE)
    slow = state
    for batch in batches():
        slow, _ = step(slow, batch)
    fast, _ = fn.train_epoch(step, state, batches())
    assert fn.equal(slow.params, fast.params)
    copies = [repetition(fn.training(net, KEY)[0].net, i)[0] for i in range(2)]
    assert copies[0].key != copies[1].key
    assert copies[0].scale is copies[1].scale is net[0].net[0].scale


@pytest.mark.parametrize("times", [1, 3])
def test_calibration_pools_what_enters_each_repetition(times: int) -> None:
    """The inputs are x and the output of each repetition, normalized by its own statistics as in training."""
    net = (batch_norm(KEY, (4,), 1e-3), square("a"), fn.Tanh())
    layer = fn.calibrate((fn.Tanh(), fn.Repeat(net, times)), X)[1]
    reached = [fn.forward(fn.Tanh(), X)]
    for _ in range(times - 1):
        reached.append(fn.forward(fn.training(net, KEY), reached[-1]))
    pooled = np.concatenate(reached)
    assert layer.net[0].mean is not None
    assert layer.net[0].variance is not None
    np.testing.assert_allclose(layer.net[0].mean, pooled.mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(layer.net[0].variance, pooled.var(axis=0), rtol=1e-9, atol=1e-12)
    assert fn.equal(fn.calibrate(fn.training((fn.Tanh(), fn.Repeat(net, times)), KEY), X)[1], layer)


def test_calibration_goes_into_branches() -> None:
    """Each branch is calibrated on x, in nested combinators, too. An error names the position of its branch."""
    norm = fn.batch_norm(4, dtype=np.float64)
    alone = fn.calibrate(norm, X)
    found = fn.calibrate(fn.Parallel((fn.Repeat(norm, 1), (fn.Residual(norm), fn.Tanh()))), X)
    assert fn.equal(found, fn.Parallel((fn.Repeat(alone, 1), (fn.Residual(alone), fn.Tanh()))))
    with pytest.raises(fn.ShapeError, match=r"BatchNorm \(layer 0\.1\): x must have shape \(B, \.\.\., 5\)"):
        fn.calibrate((fn.Parallel((norm, fn.batch_norm(5, dtype=np.float64))),), X)


@pytest.mark.parametrize("times", [None, 1, 2])
def test_a_network_that_changes_the_shape_is_not_repeated_or_added(times: int | None) -> None:
    """Repeat, even with one repetition, and Residual refuse it in forward, vjp, calibrate and output_shape."""
    inner = (fn.batch_norm(4, dtype=np.float64), head())
    layer = fn.Residual(inner) if times is None else fn.Repeat(inner, times)
    net, name = (fn.Tanh(), layer), type(layer).__name__
    message = f"{name} (layer 1): net(x) must have shape (12, 4) to match x (12, 4), got (12, 3)"
    refused_by_all(fn.training(net, KEY), X, fn.ShapeError, message)
    with pytest.raises(fn.ShapeError) as caught:
        fn.calibrate(net, X)
    assert str(caught.value) == message
    with pytest.raises(fn.ShapeError) as caught:
        fn.output_shape(net, (4,))
    assert str(caught.value) == f"{name} (layer 1): net(x) must have the shape of x, (4,), got (3,)"
