"""Folds on buffers: the bits of the plain fold, whatever the network, and nobody sees a buffer. What a step costs."""

from __future__ import annotations

import math
import re
import resource
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from networks import CASES, Case, inputs, layer_norm, networks, width
from optimizers import OPTIMIZERS

import funcnet as fn
from funcnet import arithmetic, folds, plans
from funcnet.data import Minibatches
from funcnet.layer import Operation, Plan, Shape
from funcnet.layers import activations, dense
from funcnet.layers.shapes import register_reshaping
from funcnet.losses import softmax
from funcnet.optimizers import is_planned
from funcnet.optimizers.protocol import Descent
from funcnet.plans import Memory
from funcnet.training import TrainStep
from funcnet.trees import is_trained, leaves, map_parameters, same_bits, trained_arrays

KEY = fn.Key(12)
LABELS = np.arange(35) % 3
MOMENTUM = OPTIMIZERS["Momentum"]


def data(rows: int = 30, size: int = 4, dtype: fn.FloatDType = np.float64) -> Minibatches[Any]:
    """Batches of seven rows, the last one smaller."""
    return fn.minibatches(inputs(KEY.child("x"), rows, size, dtype=dtype), LABELS[:rows], 7, key=KEY.child("order"))


def plain(step: fn.Step[Any, Any], state: Any, batches: Iterable[Any]) -> tuple[Any, list[float]]:
    """The for loop that a fold is."""
    values: list[float] = []
    for batch in batches:
        state, loss = step(state, batch)
        values.append(loss)
    return state, values


def classifier(net: fn.Network) -> tuple[fn.Network, ...]:
    """The network, brought to three classes."""
    return (net, fn.dense(KEY.child("last"), width(net, 4), 3, dtype=np.float64))


def check_fold(step: fn.Step[Any, Any], state: Any, batches: Minibatches[Any]) -> None:
    """train_epoch and the for loop end in the same bits, or in one error, and change nothing that went in."""
    before = [leaf.array.tobytes() for leaf in leaves(networks_of(state))]
    try:
        slow, values = plain(step, state, batches)
    except fn.NonFiniteError as error:
        with pytest.raises(fn.NonFiniteError, match=re.escape(error.message)):
            fn.train_epoch(step, state, batches)
        return
    fast, log = fn.train_epoch(step, state, batches)
    assert log.losses.tolist() == values
    assert [leaf.array.tobytes() for leaf in leaves(networks_of(state))] == before
    assert fn.equal(networks_of(slow), networks_of(fast))
    assert getattr(slow, "step", 0) == getattr(fast, "step", 0)
    assert not any(leaf.array.flags.writeable for leaf in leaves(networks_of(fast)))


def networks_of(state: Any) -> tuple[fn.Network, ...]:
    """A state's network and moments, or the network that is a state."""
    if isinstance(state, fn.TrainState):
        run = cast("fn.TrainState[fn.Network]", state)
        return (run.params, *run.moments)
    return (cast("fn.Network", state),)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("name", ["SGD", "Momentum", "AdamW"])
def test_every_layer_folds_to_the_plain_bits(case: Case, name: str) -> None:
    """On buffers and not, for one epoch with a smaller last batch."""
    net = (case.layer(), fn.Flatten())
    features = fn.forward(net, case.x(1)).shape[1]
    classes = (net, fn.dense(KEY.child("last"), features, 3, dtype=np.float64))
    batches = fn.minibatches(case.x(30), LABELS[:30], 7, key=KEY.child("order"))
    state = fn.TrainState.create(classes, OPTIMIZERS[name], key=KEY)
    check_fold(fn.train_step(fn.softmax_cross_entropy), state, batches)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_layer_folds_to_the_plain_bits_behind_another(case: Case) -> None:
    """Where its input's gradient counts: what is in front of it is trained, too."""
    features = int(np.prod(case.shape))
    front = (fn.dense(KEY.child("front"), 4, features, dtype=np.float64), fn.Reshape(case.shape))
    net = (*front, case.layer(), fn.Flatten())
    state = fn.TrainState.create(classifier(net), OPTIMIZERS["SGD"], key=KEY)
    check_fold(fn.train_step(fn.softmax_cross_entropy), state, data())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_folds_to_the_plain_bits(name: str, dtype: fn.FloatDType) -> None:
    """On buffers and not, over three epochs, in either dtype: weights decay and biases do not."""
    net = fn.cast((fn.dense(KEY, 4, 5), fn.Tanh(), fn.Residual(fn.dense(KEY.child(1), 5, 5))), dtype)
    state = fn.TrainState.create((*net, fn.dense(KEY.child(2), 5, 3, dtype=dtype)), OPTIMIZERS[name], key=KEY)
    assert is_planned(state.optimizer)
    check_fold(fn.train_step(fn.softmax_cross_entropy), state, data(dtype=dtype))
    middle, _ = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), state, data(dtype=dtype))
    check_fold(fn.train_step(fn.softmax_cross_entropy), middle, data(dtype=dtype)[1:])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("name", ["SGD", "Momentum", "AdamW"])
def test_every_layer_folds_to_the_plain_bits_portably(case: Case, name: str) -> None:
    """In portable arithmetic, too."""
    net = (fn.cast(case.layer(), np.float32), fn.Flatten())
    x = case.x(30, np.float32)
    classes = (net, fn.dense(KEY.child("last"), fn.forward(net, x[:1]).shape[1], 3))
    with fn.portable():
        state = fn.TrainState.create(classes, OPTIMIZERS[name], key=KEY)
        check_fold(
            fn.train_step(fn.softmax_cross_entropy), state, fn.minibatches(x, LABELS[:30], 7, key=KEY.child("order"))
        )


def of_layer_norm(layer: Callable[[fn.LayerNorm], fn.Layer], name: str) -> Case:
    """A combinator of a layer that has no operations for the input's gradient alone."""
    return Case(name, lambda key, shape: layer(layer_norm(key, shape, 1e-5)))


PLAIN = (
    *(case for case in CASES if "in training" not in case.name),
    of_layer_norm(fn.Residual, "Residual of a LayerNorm"),
    of_layer_norm(lambda norm: fn.Repeat(norm, 2), "Repeat of a LayerNorm"),
    of_layer_norm(lambda norm: fn.Repeat(fn.Residual(norm), 2), "Repeat of a Residual"),
    of_layer_norm(fn.Frozen, "Frozen LayerNorm"),
    of_layer_norm(lambda norm: fn.Parallel((norm, fn.Tanh())), "Parallel of a LayerNorm"),
    of_layer_norm(lambda norm: fn.Parallel((norm,), "concat"), "Parallel of one that concatenates"),
)


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_what_stands_before_a_frozen_layer_folds_to_the_plain_bits(case: Case) -> None:
    """Only the gradient by the input is computed there, on buffers and not."""
    net = (fn.rms_norm(case.shape[-1], dtype=np.float64), fn.Frozen(case.layer()), fn.Flatten())
    features = fn.forward(net, case.x(1)).shape[1]
    classes = (net, fn.dense(KEY.child("last"), features, 3, dtype=np.float64))
    batches = fn.minibatches(case.x(30), LABELS[:30], 7, key=KEY.child("order"))
    check_fold(fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), classes, batches)


@pytest.mark.parametrize("case", [case for case in CASES if not is_trained(case.layer())], ids=lambda case: case.name)
def test_nothing_is_done_where_nobody_needs_a_gradient(case: Case) -> None:
    """A layer without parameters has no operation that goes back, if nothing before it is trained."""
    layer = case.layer()
    plan = plans.plan_network(layer, np.array(case.x(3)))
    assert list(plan.backward(np.ones_like(plan.output), layer, None)) == []


@pytest.mark.parametrize("on_buffers", [False, True])
def test_an_elementwise_layer_of_ones_own_computes_nothing_twice(on_buffers: bool) -> None:  # noqa: FBT001  # a parameter
    """Its value and its slope once a step; in a fold by its own operations on buffers, if it has them."""
    counts: Counter[str] = Counter()

    @frozen(eq=False)
    class Bowl(fn.Layer):
        """``y = size * x * x``; the slope is ``size * x + y / x``."""

        size: float = 0.5

    def value(params: Bowl, x: fn.Array) -> fn.Array:
        counts["value"] += 1
        return params.size * x * x

    def slope(params: Bowl, x: fn.Array, y: fn.Array) -> fn.Array:
        counts["slope"] += 1
        return params.size * x + y / x

    def value_into(params: Bowl, x: fn.Array, y: fn.Array) -> list[Operation]:
        counts["value_into"] += 1
        return [lambda: np.multiply(params.size * x, x, y)]

    def slope_into(params: Bowl, x: fn.Array, y: fn.Array, s: fn.Array) -> list[Operation]:
        counts["slope_into"] += 1
        return [lambda: np.divide(y, x, s), lambda: np.add(params.size * x, s, s)]

    name = f"tests.Bowl, on buffers: {on_buffers}"
    operations = {"value_into": value_into, "slope_into": slope_into} if on_buffers else {}
    fn.register_elementwise(Bowl, value=value, slope=slope, name=name, **cast("Any", operations))
    check_registered(Bowl(), name)
    assert fn.output_shape(Bowl(), (2**70, 3)) == (2**70, 3)
    counts.clear()
    net, batches = (fn.dense(KEY, 4, 3, dtype=np.float64), Bowl()), data(35)
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
    plain(step, net, batches)
    assert counts == {"value": 5, "slope": 5}
    counts.clear()
    fn.train_epoch(step, net, batches)
    assert counts == (
        dict.fromkeys(["value", "slope", "value_into", "slope_into"], 1) if on_buffers else {"value": 5, "slope": 5}
    )
    check_fold(step, net, batches)


def check_registered(layer: fn.Layer, name: str) -> None:
    """A layer of one's own keeps the laws, says its name, and has nothing to do where nobody needs a gradient."""
    x = np.array(inputs(KEY.child("x"), 3, 2, 4))
    fn.check_layer(layer, x)
    plan = plans.plan_network(layer, x)
    assert list(plan.backward(np.ones_like(plan.output), layer, None)) == []
    kind = type(layer)
    with pytest.raises(fn.ShapeError) as wrong:
        fn.forward(layer, np.array(1.0))
    assert str(wrong.value) == f"{kind.__name__}: x must have shape (B, ...), got (); for a batch of one, use x[None]"
    with pytest.raises(fn.ConfigError) as twice:
        fn.register_layer(kind, forward=lambda _, x: x, backward=lambda params, _, g: (g, params))
    assert str(twice.value) == f"{kind.__qualname__} is registered already, as '{name}'"


def test_a_reshaping_layer_of_ones_own_copies_nothing_forward() -> None:
    """On buffers its output is the input's memory; the gradient goes back in the input's shape."""

    @frozen(eq=False)
    class Columns(fn.Layer):
        """Rows as matrices of ``count`` columns."""

        count: int

    def shape(params: Columns, shape: Shape) -> Shape:
        return math.prod(shape) // params.count, params.count

    register_reshaping(Columns, shape=shape, name="tests.Columns")
    check_registered(Columns(2), "tests.Columns")
    assert fn.output_shape(Columns(2), (2**70,)) == (2**69, 2)
    x = np.array(inputs(KEY, 3, 4))
    plan = plans.plan_network(Columns(2), x)
    assert np.shares_memory(plan.output, x)
    assert list(plan.forward) == []
    net = (fn.dense(KEY, 4, 6, dtype=np.float64), Columns(2), fn.Flatten(), fn.dense(KEY, 6, 3, dtype=np.float64))
    check_fold(fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), net, data())


@given(net=networks())
def test_random_networks_fold_to_the_plain_bits_portably(net: tuple[fn.Network, ...]) -> None:
    """Nested, empty, residual, with masks."""
    single = fn.cast(classifier(net), np.float32)
    with fn.portable():
        state = fn.TrainState.create(single, MOMENTUM, key=KEY)
        check_fold(fn.train_step(fn.softmax_cross_entropy), state, data(dtype=np.float32))


def steps_on_buffers(monkeypatch: pytest.MonkeyPatch, net: fn.Network) -> int:
    """How many of five batches' steps a fold takes on buffers; it ends in the plain fold's bits."""
    counts: Counter[str] = Counter()
    run = cast("Callable[..., Any]", folds.PlannedSteps.run)  # pyright: ignore[reportUnknownMemberType]  # generic

    def count(*arguments: Any) -> Any:
        counts["run"] += 1
        return run(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(folds.PlannedSteps, "run", count)
        batches = data(35, dtype=np.float32)
        check_fold(fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), net, batches)
    return counts["run"]


def test_a_portable_fold_runs_on_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second batch on; but for a network with a layer whose plan has products of plain buffers."""

    @frozen(eq=False)
    class Mixed(fn.Layer):
        weight: fn.Weight

    def vjp(params: Mixed, x: fn.Array) -> tuple[fn.Array, fn.Pullback[Mixed]]:
        def both(g: fn.Array) -> tuple[fn.Array, Mixed]:
            return arithmetic.matmul(g, params.weight.T), Mixed(arithmetic.sum_outer(x, g))

        return arithmetic.matmul(x, params.weight), fn.Pullback(both, lambda g: both(g)[1])

    def plan(params: Mixed, x: fn.Array) -> Plan[Mixed]:
        y = np.empty((len(x), params.weight.shape[1]), x.dtype)

        def backward(g: fn.Array, grads: Mixed, into: fn.Array | None) -> list[Operation]:
            operations = [arithmetic.planned_matmul(x.T, g, grads.weight)]
            return operations if into is None else [*operations, arithmetic.planned_matmul(g, params.weight.T, into)]

        return Plan(y, [arithmetic.planned_matmul(x, params.weight, y)], backward)

    fn.register_layer(
        Mixed,
        forward=lambda params, x: vjp(params, x)[0],
        backward=lambda params, x, g: vjp(params, x)[1](g),
        vjp=vjp,
        plan=plan,
    )
    plain_net = (fn.dense(KEY, 4, 5), fn.Tanh(), fn.dense(KEY.child(1), 5, 3))
    mixed = (Mixed(fn.dense(KEY, 4, 5).weight), *plain_net[1:])
    labelled = len(data(35, dtype=np.float32)) - 1
    assert steps_on_buffers(monkeypatch, plain_net) == labelled
    assert steps_on_buffers(monkeypatch, mixed) == labelled
    with fn.portable():
        assert steps_on_buffers(monkeypatch, plain_net) == labelled
        assert steps_on_buffers(monkeypatch, mixed) == 0


def test_a_portable_fold_says_where_it_is_not_finite() -> None:
    """As the plain step does: a rate that is far too high."""
    net = (fn.dense(KEY, 4, 5), fn.dense(KEY.child(1), 5, 3))
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=1e30)
    messages: list[str] = []
    with fn.portable():
        for fold in (fn.train_epoch, plain):
            with pytest.raises(fn.NonFiniteError) as caught:
                fold(step, net, data(35, dtype=np.float32))
            messages.append(caught.value.message)
    assert messages[0] == messages[1]


@given(net=networks())
def test_random_networks_fold_to_the_plain_bits(net: tuple[fn.Network, ...]) -> None:
    """Nested, empty, residual; with a mask a step, and with the one that sgd_step is given."""
    state = fn.TrainState.create(classifier(net), MOMENTUM, key=KEY)
    check_fold(fn.train_step(fn.softmax_cross_entropy), state, data())
    keyed = fn.training(classifier(net), KEY)
    check_fold(fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), keyed, data())


@given(cuts=st.lists(st.integers(0, 5), max_size=3))
def test_a_fold_in_pieces_is_the_fold(cuts: list[int]) -> None:
    """Wherever it is cut, with momentum."""
    step = fn.train_step(fn.softmax_cross_entropy)
    whole = fn.TrainState.create(classifier((fn.Tanh(),)), MOMENTUM, key=KEY)
    pieces = whole
    bounds = [0, *sorted(cuts), 5]
    for start, stop in pairwise(bounds):
        pieces, _ = fn.train_epoch(step, pieces, data()[start:stop])
    whole, _ = fn.train_epoch(step, whole, data())
    assert fn.equal((whole.params, *whole.moments), (pieces.params, *pieces.moments))


def test_batches_of_changing_shapes_fold_to_the_plain_bits() -> None:
    """Buffers are left for a batch that does not fit, and taken up again."""
    x = inputs(KEY, 40, 4)
    sizes = [5, 5, 5, 3, 5, 5, 1, 1, 5, 2, 2]
    starts = np.cumsum([0, *sizes])
    batches = [fn.Batch(x[a : a + n], LABELS[:n]) for a, n in zip(starts, sizes, strict=False)]
    step = fn.train_step(fn.softmax_cross_entropy)
    state = fn.TrainState.create(classifier(()), MOMENTUM, key=KEY)
    slow, values = plain(step, state, batches)
    fast, log = fn.train_epoch(step, state, batches)
    assert fn.equal(slow.params, fast.params)
    assert log.losses.tolist() == values


def half_square(prediction: fn.Array, target: fn.Array) -> tuple[float, fn.Array]:
    """A user's loss, which gives back the prediction's own memory where the target is 0."""
    difference = prediction - target if target.any() else prediction
    return float((difference * difference).sum() / 2), difference


def test_a_users_loss_and_optimizer_fold_to_the_plain_bits() -> None:
    """Without forms on buffers of their own."""

    @frozen
    class Halving:
        def init(self, _: Any, /) -> tuple[Any, ...]:
            return ()

        def update(
            self, params: Any, grads: Any, moments: tuple[Any, ...], step: int, /
        ) -> tuple[Any, tuple[Any, ...]]:
            return fn.sgd_update(params, grads, learning_rate=0.01 / (step + 1)), moments

    net = (fn.dense(KEY, 4, 4, dtype=np.float64), fn.Tanh(), fn.Residual((fn.dense(KEY, 4, 4, dtype=np.float64),)))
    x = inputs(KEY, 30, 4)
    for target in (np.zeros((30, 4)), inputs(KEY.child("y"), 30, 4)):
        check_fold(fn.sgd_step(half_square, learning_rate=0.001), net, fn.minibatches(x, target, 5))
        step: TrainStep[Any] = fn.train_step(half_square)
        for optimizer in (Halving(), fn.ClipByValue(fn.Accumulation(Halving(), steps=2), limit=0.1)):
            check_fold(step, fn.TrainState.create(net, optimizer, key=KEY), fn.minibatches(x, target, 5))
    with pytest.raises(fn.ConfigError, match=r"WeightDecay: the optimizer must say its learning rate, got .*Halving"):
        fn.WeightDecay(Halving(), weight_decay=0.1)


def test_a_subclass_with_another_update_is_not_planned() -> None:
    """It inherits the plan of another update: the fold does what the step does."""

    @frozen
    class Faster(fn.Momentum):
        def update(
            self, params: Any, grads: Any, moments: tuple[Any, ...], step: int, /
        ) -> tuple[Any, tuple[Any, ...]]:
            params, moments = fn.Momentum.update(self, params, grads, moments, step)
            return fn.sgd_update(params, grads, learning_rate=0.01), moments

    @frozen
    class Twice(TrainStep[Any]):
        def __call__(self, state: Any, batch: Any, /) -> tuple[Any, float]:
            once = fn.train_step(self.loss)
            return once(once(state, batch)[0], batch)

    state = fn.TrainState.create(classifier((fn.Tanh(),)), Faster(learning_rate=0.1), key=KEY)
    check_fold(fn.train_step(fn.softmax_cross_entropy), state, data())
    check_fold(Twice(fn.softmax_cross_entropy), state, data())


def test_what_a_user_keeps_never_changes() -> None:
    """A layer and a loss that keep what passes by keep it as it was: they are given copies, not buffers."""
    kept: list[tuple[fn.Array, bytes]] = []

    def keep(*arrays: fn.Array) -> None:
        kept.extend((array, array.tobytes()) for array in arrays)

    @frozen(eq=False)
    class Spy(fn.Layer):
        scale: fn.Array

    def forward(params: Spy, x: fn.Array) -> fn.Array:
        keep(x, params.scale)
        return x * params.scale

    def backward(params: Spy, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Spy]:
        keep(x, g, params.scale)
        return g * params.scale, Spy(arithmetic.sum_rows(x * g))

    def loss(prediction: fn.Array, target: Any) -> tuple[float, fn.Array]:
        keep(prediction)
        return fn.softmax_cross_entropy(prediction, target)

    fn.register_layer(Spy, forward=forward, backward=backward)
    net = (fn.dense(KEY, 4, 4, dtype=np.float64), Spy(np.ones(4)), fn.dense(KEY, 4, 3, dtype=np.float64))
    fn.train_epoch(fn.sgd_step(loss, learning_rate=0.1), net, data())
    assert len(kept) > 5 * 6
    assert all(array.tobytes() == then for array, then in kept)


# ------------------------------------------------------------------------------------------- what a step costs


SIZES, BATCH = (784, 100, 200, 10), 32
PARAMETERS = sum(i * o + o for i, o in pairwise(SIZES))


def post_network() -> tuple[fn.Network, Minibatches[Any]]:
    """The post's network and 20 batches."""
    x = inputs(KEY, 20 * BATCH, SIZES[0], dtype=np.float32)
    return fn.mlp(KEY, SIZES), fn.minibatches(x, np.arange(len(x)) % 10, BATCH)


def counted(monkeypatch: pytest.MonkeyPatch, counts: Counter[str]) -> None:
    """Count calls of arithmetic's door, where the layers and the loss have it."""

    def counting(name: str, f: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any) -> Any:
            counts[name] += 1
            return f(*arguments)

        return count

    def planning(name: str, f: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: counting(name, f(*arguments))

    for room in (dense, activations, softmax):
        for name in ("matmul", "exp", "log", "tanh"):
            monkeypatch.setattr(room, name, counting(name, getattr(arithmetic, name)), raising=False)
    monkeypatch.setattr(dense, "sum_outer", counting("matmul", arithmetic.sum_outer))
    for name in ("planned_matmul", "planned_sum_outer"):
        monkeypatch.setattr(dense, name, planning("matmul", getattr(arithmetic, name)))


def test_a_step_takes_eight_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three forward, three for the weights, two for the inputs: none for the first layer's. One exp, one log."""
    net, batches = post_network()
    counts: Counter[str] = Counter()
    counted(monkeypatch, counts)
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
    step(net, batches[0])
    assert counts == {"matmul": 8, "exp": 1, "log": 1}
    counts.clear()
    fn.train_epoch(step, net, batches)
    assert counts == {"matmul": 8 * 20, "exp": 20, "log": 20}


def test_a_step_makes_its_gradients_and_new_weights_and_little_else() -> None:
    """The traced peak above the state is two networks of memory and at most 64 KB beside the batch's activations."""
    net, batches = post_network()
    step, batch = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), batches[0]
    step(net, batch)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    step(net, batch)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    activations_of_a_batch = 2 * 4 * BATCH * sum(SIZES[1:])
    assert peak <= 2 * 4 * PARAMETERS + activations_of_a_batch + 65_536


def test_a_fold_makes_its_buffers_once() -> None:
    """The traced peak of an epoch does not grow with its steps: four networks of memory, and the batches' own."""
    net, batches = post_network()
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
    fn.train_epoch(step, net, batches)
    peaks: list[int] = []
    for part in (batches[:4], batches):
        tracemalloc.start()
        fn.train_epoch(step, net, part)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] <= 5 * 4 * PARAMETERS + 65_536 * 4
    assert peaks[1] <= peaks[0] + 65_536


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_layer_of_float32_makes_arrays_of_float32(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results, buffers and what it computes with: float64, or ints, would take NumPy longer to the same bits."""
    layer, x = fn.cast(case.layer(), np.float32), case.x(3, np.float32)
    g, grads, into = fn.forward(layer, x), plans.scratch_like(layer), np.empty_like(x)
    made: set[np.dtype[Any]] = set()

    def noted(make: Callable[..., Any]) -> Callable[..., Any]:
        def make_and_note(*arguments: Any, **settings: Any) -> Any:
            array = make(*arguments, **settings)
            made.add(array.dtype)
            return array

        return make_and_note

    for name in ("array", "empty", "full", "ones", "zeros"):
        monkeypatch.setattr(np, name, noted(getattr(np, name)))
    with np.errstate(all="ignore"):
        fn.backward(layer, x, g)
        plan = plans.plan_network(layer, x)
        for operation in (*plan.forward, *plan.backward(g, grads, into), *plans.plan_grad_x(plan, layer, g, into)):
            operation()
    assert {dtype for dtype in made if dtype.kind in "if"} <= {np.dtype(np.float32)}


@pytest.mark.skipif(sys.platform != "linux", reason="minor page faults are counted on Linux")
def test_a_step_takes_few_page_faults() -> None:
    """A fold touches memory that it has: under five new pages a step, where fresh arrays would take two hundred."""
    net, batches = post_network()
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
    fn.train_epoch(step, net, batches)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        net, _log = fn.train_epoch(step, net, batches)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults / (5 * len(batches)) < 5


def test_a_loss_plan_is_found_by_its_function() -> None:
    """The registered form and the loss itself have one value and one gradient, bit for bit."""
    logits, labels = inputs(KEY, 6, 4), np.array([0, 1, 2, 3, 0, 1], np.uint8)
    g = np.empty_like(logits)
    value = plans.plan_loss(fn.softmax_cross_entropy, logits, g)(labels)
    wanted, gradient = fn.softmax_cross_entropy(logits, labels)
    assert value == wanted
    assert same_bits(g, gradient)
    assert trained_arrays(fn.ReLU()) == []


class Halved(fn.SGD):
    """Another update, and the plan of its parent."""

    def update(self, params: Any, grads: Any, moments: Any, step: int, /) -> Any:
        """Half of a step."""
        return super().update(params, map_parameters(lambda g: g / 2, grads), moments, step)


def test_a_plan_belongs_to_the_update_beside_it() -> None:
    """Ours have one; a subclass with another update has not, and its fold is the plain one."""
    assert all(is_planned(optimizer) for optimizer in OPTIMIZERS.values())
    halved = Halved(learning_rate=0.1)
    assert not is_planned(halved)
    net = classifier(fn.Tanh())
    check_fold(fn.train_step(fn.softmax_cross_entropy), fn.TrainState.create(net, halved, key=KEY), data())


def test_moments_of_another_optimizer_are_refused() -> None:
    """With what was expected, what came, and why; in plans, too."""
    net = classifier(fn.Tanh())
    memory = Memory(np.ones(3), (np.ones(3),), ())
    few: list[Any] = [None, [net], (net,) * 3]
    sgd = fn.SGD(learning_rate=0.1)
    refused: list[tuple[Any, str, list[Any]]] = [
        (sgd, "0 networks", [(net,), None]),
        (fn.Momentum(learning_rate=0.1), "1 networks", [(), *few]),
        (fn.Adam(learning_rate=0.1), "2 networks", [(net,), *few]),
        (fn.RMSprop(learning_rate=0.1, momentum=0.5, centered=True), "3 networks", [(net,), (net,) * 4]),
        (fn.Accumulation(sgd, steps=2), "1 networks or more", [(), None, [net]]),
        (fn.Averaging(sgd), "1 networks or more", [(), None, [net]]),
    ]
    for optimizer, wanted, wrong in refused:
        for moments in wrong:
            with pytest.raises(fn.StructureError) as caught:
                optimizer.update(net, net, moments, 0)
            reason = "a run goes on under the optimizer that it began with"
            message = f"moments must be a tuple of {wanted}, got {moments!r}; {reason}"
            assert str(caught.value) == f"{type(optimizer).__name__}: {message}"
        if "more" not in wanted:
            with pytest.raises(fn.StructureError, match=f"^{type(optimizer).__name__}: moments must be .* {wanted}, "):
                optimizer.plan(memory, memory, (memory,) * 4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_planned_update_makes_no_array(name: str) -> None:
    """But for the norm's, in float64; and it writes nothing but what it may: the gradients' numbers are its room."""
    optimizer: Any = OPTIMIZERS[name]
    net = fn.Dense(weight=np.ones((500, 99), np.float32), bias=np.ones(99, np.float32))
    p, g, *moments = [planned_memory(tree) for tree in (net, net, *optimizer.init(net))]
    update = optimizer.plan(p, g, tuple(moments))
    tracemalloc.start()
    try:
        for step in range(6):
            update(step)
        networks = 2.5 if "GlobalNorm" in repr(optimizer) else 0.1
        assert tracemalloc.get_traced_memory()[1] < networks * p.flat.nbytes
    finally:
        tracemalloc.stop()


def planned_memory(net: fn.Dense) -> Memory:
    """A layer's arrays in one memory."""
    flat = np.concatenate([net.weight.ravel(), net.bias])
    weight, bias = flat[: net.weight.size].reshape(net.weight.shape), flat[net.weight.size :]
    return Memory(flat, (weight, bias), (weight,))


@frozen
class Counting(Descent):
    """A plan that looks at all that it has."""

    seen: list[tuple[int, int, bool]]

    def plan(self, p: Memory, g: Memory, moments: tuple[Memory, ...], /) -> Callable[[int], None]:
        """Only look."""
        for memory in (p, g, *moments):
            assert all(np.shares_memory(part, memory.flat) for part in (*memory.parts, *memory.decayed))
            self.seen.append((len(memory.parts), len(memory.decayed), p.flat.flags.writeable))
        return lambda _: None


def test_a_plan_of_ones_own_gets_whole_memories() -> None:
    """Outside of a fold, too: every array by itself, with its parts and with what decays."""
    net = fn.dense(KEY, 4, 3)
    counting = Counting(0.1, [])
    new, _ = counting.update(net, net, counting.init(net), 0)
    assert fn.equal(new, net)
    assert counting.seen == [(1, 1, True)] * 3 + [(1, 0, True)] * 3


def test_a_planned_loss_makes_no_array_of_the_batch() -> None:
    """Not even a column: what a step of a fold needs is there before its first."""
    logits = inputs(KEY.child("logits"), 50_000, 3, dtype=np.float32)
    run, labels = plans.plan_loss(fn.softmax_cross_entropy, logits, np.empty_like(logits)), np.arange(50_000) % 3
    wanted = run(labels)
    tracemalloc.start()
    try:
        assert run(labels) == wanted
        assert tracemalloc.get_traced_memory()[1] < logits.nbytes // 4
    finally:
        tracemalloc.stop()
