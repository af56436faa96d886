"""Laws between calls, over random networks: permuted rows, shifted logits, split rates, and folds that are cut."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from networks import CASES, VECTOR_CASES, inputs
from random_networks import networks, width

import funcnet as fn
from funcnet.arithmetic import using
from funcnet.core.arrays import lock
from funcnet.core.trees import leaves, same_bits
from funcnet.data.batches import Minibatches
from funcnet.random import draws

KEY = fn.Key(31)
LABELS = np.arange(20) % 3
seeds = st.integers(0, 2**32 - 1)
both_arithmetics = pytest.mark.parametrize("arithmetic", ["native", "portable"])
Arithmetic = Literal["native", "portable"]


def computing(arithmetic: Arithmetic) -> AbstractContextManager[None]:
    """A context in which the given arithmetic is in force."""
    return fn.portable() if arithmetic == "portable" else nullcontext()


def classifier(net: fn.Network, dtype: fn.FloatDType) -> tuple[fn.Network, ...]:
    """The network followed by a Dense layer with three classes."""
    with using("native"):  # The random network is float64.
        last = fn.dense(KEY.child("last"), width(net, 4), 3, dtype=np.float64)
    return fn.astype((net, last), dtype)


def dtype_of(arithmetic: Arithmetic) -> fn.FloatDType:
    """The dtype of the arithmetic's tests: float32 for portable arithmetic, else float64."""
    return np.float32 if arithmetic == "portable" else np.float64


# ----------------------------------------------------------------------------------------------- architectures


@pytest.mark.slow
def test_random_architectures_differ() -> None:
    """Of a thousand networks, most differ, and every layer of the table is among them."""
    seen: set[str] = set()

    @settings(max_examples=1000)
    @given(net=networks())
    def collect(net: tuple[fn.Network, ...]) -> None:
        seen.add(repr(net))

    collect()
    assert len(seen) > 600
    everything = "".join(seen)
    assert all(type(case.layer()).__name__ in everything for case in VECTOR_CASES)


# -------------------------------------------------------------------------------------------------------- rows


@given(net=networks(), seed=seeds)
def test_permuted_rows_give_permuted_outputs(net: tuple[fn.Network, ...], seed: int) -> None:
    """This holds up to rounding, unless masks are drawn by position. The parameters' gradients do not change."""
    if "key=Key" in repr(net):
        return
    order = draws.permutation(fn.Key(seed), 6)
    x = inputs(fn.Key(seed), 6, 4)
    y = fn.forward(net, x)
    g = inputs(KEY.child("g"), *y.shape)
    np.testing.assert_allclose(fn.forward(net, x[order]), y[order], rtol=1e-9, atol=1e-12)
    grad_x, grads = fn.backward(net, x, g)
    moved_x, moved = fn.backward(net, x[order], g[order])
    np.testing.assert_allclose(moved_x, grad_x[order], rtol=1e-9, atol=1e-12)
    for a, b in zip(leaves(moved), leaves(grads), strict=True):
        np.testing.assert_allclose(a.array, b.array, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case.rowwise], ids=lambda case: case.name)
@given(seed=seeds)
def test_portable_rows_are_permuted_bit_for_bit(case: Any, seed: int) -> None:
    """A row's output has the same bits at every position and in every batch."""
    order = draws.permutation(fn.Key(seed), 5)
    layer, x = fn.astype(case.layer(), np.float32), case.draw(fn.Key(seed), 5, np.float32)
    with fn.portable():
        assert same_bits(fn.forward(layer, x[order]), fn.forward(layer, x)[order])
        assert same_bits(fn.forward(layer, x[order[:2]]), fn.forward(layer, x)[order[:2]])


# ------------------------------------------------------------------------------------------------------ softmax

whole_logits = arrays.arrays(np.float64, (4, 5), elements=st.integers(-50, 50).map(float))
any_logits = arrays.arrays(np.float64, (4, 5), elements=st.floats(-30, 30))


@both_arithmetics
@given(logits=whole_logits, shift=st.integers(-(2**20), 2**20))
def test_a_shift_without_rounding_changes_no_bit(arithmetic: Arithmetic, logits: fn.Array, shift: int) -> None:
    """The loss, its gradient and the probabilities are the same for logits and logits + c."""
    labels, logits = np.arange(4), logits.astype(dtype_of(arithmetic))
    moved = logits + logits.dtype.type(shift)
    with computing(arithmetic):
        value, grad = fn.softmax_cross_entropy(logits, labels)
        moved_value, moved_grad = fn.softmax_cross_entropy(moved, labels)
        proba = fn.predict_proba(fn.Identity(), logits, fn.Multiclass())
        assert same_bits(proba, fn.predict_proba(fn.Identity(), moved, fn.Multiclass()))
    assert value == moved_value
    assert same_bits(grad, moved_grad)


@given(logits=any_logits, shifts=arrays.arrays(np.float64, (4, 1), elements=st.floats(-1000, 1000)))
def test_each_row_may_shift_by_its_own(logits: fn.Array, shifts: fn.Array) -> None:
    """Different shifts for the rows change the results only by the rounding of the sum."""
    value, grad = fn.softmax_cross_entropy(logits, np.arange(4))
    moved_value, moved_grad = fn.softmax_cross_entropy(logits + shifts, np.arange(4))
    assert moved_value == pytest.approx(value, rel=1e-9, abs=1e-11)
    np.testing.assert_allclose(moved_grad, grad, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(grad.sum(axis=1), 0, atol=1e-15)


# --------------------------------------------------------------------------------------------------------- rates


@pytest.mark.slow
@given(net=networks(), seed=seeds, a=st.floats(1e-6, 10), b=st.floats(1e-6, 10))
def test_a_rate_can_be_split(net: tuple[fn.Network, ...], seed: int, a: float, b: float) -> None:
    """Two updates along one gradient with the rates a and b equal one update with a + b, up to rounding."""
    grads = fn.map_parameters(lambda p: inputs(fn.Key(seed), *p.shape), net)
    split = fn.sgd_update(fn.sgd_update(net, grads, learning_rate=a), grads, learning_rate=b)
    whole = fn.sgd_update(net, grads, learning_rate=a + b)
    for first, second in zip(leaves(split), leaves(whole), strict=True):
        np.testing.assert_allclose(first.array, second.array, rtol=1e-12, atol=1e-12)


@given(weight=arrays.arrays(np.float32, (3, 2), elements=st.integers(-99, 99).map(float)), parts=st.integers(1, 8))
def test_a_rate_without_rounding_splits_bit_for_bit(weight: fn.Array, parts: int) -> None:
    """n updates with the rate 1/4 equal one update with the rate n/4 if no sum is rounded."""
    net = fn.Dense(weight=weight, bias=weight[0])
    moved = net
    for _ in range(parts):
        moved = fn.sgd_update(moved, net, learning_rate=0.25)
    assert fn.equal(moved, fn.sgd_update(net, net, learning_rate=0.25 * parts))


# --------------------------------------------------------------------------------------------------------- folds


def begun(net: fn.Network, optimizer: Any, dtype: fn.FloatDType) -> fn.TrainState[tuple[fn.Network, ...]]:
    """The first state of a run, in the arithmetic in force."""
    return fn.TrainState.create(classifier(net, dtype), optimizer, key=KEY.child("run"))


def cut(seed: int, size: int, dtype: fn.FloatDType) -> Minibatches[Any]:
    """Twenty rows in batches of the given size; the last batch may be smaller."""
    return fn.minibatches(inputs(fn.Key(seed), 20, 4, dtype=dtype), LABELS, size, key=fn.Key(seed).child("order"))


optimizers = st.sampled_from([fn.SGD(learning_rate=0.01), fn.Momentum(learning_rate=0.01, momentum=0.9)])


@pytest.mark.slow
@both_arithmetics
@given(net=networks(), optimizer=optimizers, seed=seeds, sizes=st.tuples(st.integers(3, 7), st.integers(0, 7)))
@settings(max_examples=settings().max_examples // 2)
def test_a_fold_may_be_cut_anywhere(
    arithmetic: Arithmetic, net: tuple[fn.Network, ...], optimizer: Any, seed: int, sizes: tuple[int, int]
) -> None:
    """An epoch equals its first batches followed by the others, bit for bit: state, moments, step, losses."""
    size, at = sizes
    step = fn.train_step(fn.softmax_cross_entropy)
    with computing(arithmetic):
        state, batches = begun(net, optimizer, dtype_of(arithmetic)), cut(seed, size, dtype_of(arithmetic))
        whole, log = fn.train_epoch(step, state, batches)
        middle, first = fn.train_epoch(step, state, batches[:at])
        end, second = fn.train_epoch(step, middle, batches[at:])
    assert fn.fingerprint(end) == fn.fingerprint(whole)
    assert same_bits(np.concatenate([first.losses, second.losses]), log.losses)


@pytest.mark.slow
@given(net=networks(), seed=seeds)
@settings(max_examples=settings().max_examples // 2)
def test_a_fold_over_nothing_is_the_identity(net: tuple[fn.Network, ...], seed: int) -> None:
    """Without a batch, the state does not change. Lists, generators and sequences give the same result."""
    step = fn.train_step(fn.softmax_cross_entropy)
    state, batches = begun(net, fn.SGD(learning_rate=0.01), np.float64), cut(seed, 5, np.float64)
    same, log = fn.train_epoch(step, state, batches[:0])
    assert same is state
    assert len(log.losses) == 0
    ends = [fn.train_epoch(step, state, form)[0] for form in (batches, list(batches), iter(batches))]
    assert len({fn.fingerprint(end) for end in ends}) == 1


@pytest.mark.parametrize("stop", range(4))
def test_a_run_may_be_cut_at_any_epoch(stop: int) -> None:
    """A run equals its epochs before the cut followed by the epochs after it."""
    step, net = fn.train_step(fn.softmax_cross_entropy), (fn.Dropout(0.2), fn.Tanh())
    state = begun(net, fn.Momentum(learning_rate=0.05), np.float64)

    def at_end(start: Any, epochs: range) -> Any:
        run = fn.train(step, start, lambda epoch: cut(epoch, 6, np.float64), epochs=epochs)
        return [start, *(state for state, _ in run)][-1]

    whole = at_end(state, range(3))
    assert fn.fingerprint(at_end(at_end(state, range(stop)), range(stop, 3))) == fn.fingerprint(whole)


LAYOUTS: dict[str, Callable[[fn.Array], fn.Array]] = {
    "read-only": lock,
    "Fortran order": np.asfortranarray,
    "negative strides": lambda array: np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1],
    "gaps": lambda array: np.repeat(array, 2, axis=1)[:, ::2],
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_memory_order_never_changes_bits(name: str) -> None:
    """Any layout of the same numbers gives the bits of the C-ordered copy."""
    net, layout = (fn.dense(KEY, 8, 5), fn.ReLU(), fn.dense(KEY.child(1), 5, 3)), LAYOUTS[name]
    x, g, y = inputs(KEY, 4, 8, dtype=np.float32), inputs(KEY.child("g"), 4, 3, dtype=np.float32), LABELS[:4]
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
    functions: list[Callable[[fn.Array, fn.Array], object]] = [
        lambda x, _: fn.forward(net, x),
        lambda x, g: fn.backward(net, x, g)[0],
        lambda x, g: fn.backward(net, x, g)[1],
        lambda x, _: fn.predict_proba(net, x, fn.Multiclass()),
        lambda x, _: fn.outputs(fn.Identity(), x),
        lambda x, _: step(net, fn.Batch(x, y)),
        lambda _, g: fn.softmax_cross_entropy(g, y),
        lambda x, _: fn.Dense(weight=x, bias=x[0]),
        lambda x, _: fn.standardize(x),
    ]
    for function in functions:
        assert fn.fingerprint(function(layout(x.copy()), layout(g.copy()))) == fn.fingerprint(function(x, g))


def test_an_empty_batch_maps_to_an_empty_batch() -> None:
    """Forward and backward are maps over rows, of which there may be none."""
    net, empty = (fn.dense(KEY, 8, 3),), np.zeros((0, 8), np.float32)
    assert fn.forward(net, empty).shape == fn.outputs(net, empty).shape == (0, 3)
    assert fn.predict(net, empty, fn.Multiclass()).shape == (0,)
    assert fn.predict_proba(net, empty, fn.Multiclass()).shape == (0, 3)
    grad_x, grads = fn.backward(net, empty, np.zeros((0, 3), np.float32))
    assert grad_x.shape == (0, 8)
    assert not grads[0].weight.any()


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_labels_of_any_integer_type_are_one_run(dtype: str) -> None:
    """This holds in a replay, too, in which labels become positions."""
    step, x = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), inputs(KEY, 20, 4)
    net = (fn.dense(KEY, 4, 3, dtype=np.float64),)
    wanted, _ = fn.train_epoch(step, net, fn.minibatches(x, LABELS, 5))
    assert fn.equal(fn.train_epoch(step, net, fn.minibatches(x, LABELS.astype(dtype), 5))[0], wanted)
