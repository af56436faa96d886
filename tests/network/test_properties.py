"""Laws between calls: rows permuted, logits shifted, a rate split, a fold cut, over random networks and numbers."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from networks import CASES, VECTOR_CASES, inputs, networks, width

import funcnet as fn
from funcnet.arithmetic import using
from funcnet.core.trees import leaves, same_bits
from funcnet.data.batches import Minibatches
from funcnet.random import draws

KEY = fn.Key(31)
LABELS = np.arange(20) % 3
seeds = st.integers(0, 2**32 - 1)
both_arithmetics = pytest.mark.parametrize("arithmetic", ["native", "portable"])
Arithmetic = Literal["native", "portable"]


def computing(arithmetic: Arithmetic) -> AbstractContextManager[None]:
    """Inside of it, one of the two arithmetics."""
    return fn.portable() if arithmetic == "portable" else nullcontext()


def classifier(net: fn.Network, dtype: fn.FloatDType) -> tuple[fn.Network, ...]:
    """The network, brought to three classes."""
    with using("native"):  # the random network is a float64 one
        last = fn.dense(KEY.child("last"), width(net, 4), 3, dtype=np.float64)
    return fn.astype((net, last), dtype)


def dtype_of(arithmetic: Arithmetic) -> fn.FloatDType:
    """Portable arithmetic is for float32."""
    return np.float32 if arithmetic == "portable" else np.float64


# ----------------------------------------------------------------------------------------------- architectures


def test_random_architectures_differ() -> None:
    """The two hundred are not a few over and over: nearly all differ, and every layer of the table is among them."""
    seen: set[str] = set()

    @settings(max_examples=200)
    @given(net=networks())
    def collect(net: tuple[fn.Network, ...]) -> None:
        seen.add(repr(net))

    collect()
    assert len(seen) > 120
    everything = "".join(seen)
    assert all(type(case.layer()).__name__ in everything for case in VECTOR_CASES)


# -------------------------------------------------------------------------------------------------------- rows


@given(net=networks(), seed=seeds)
def test_permuted_rows_give_permuted_outputs(net: tuple[fn.Network, ...], seed: int) -> None:
    """Up to rounding, where nothing is drawn by position; and the parameters' gradients do not change."""
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


@pytest.mark.parametrize("case", [case for case in CASES if case.rowwise], ids=lambda case: case.name)
@given(seed=seeds)
def test_portable_rows_are_permuted_bit_for_bit(case: Any, seed: int) -> None:
    """A row's output has the same bits at every place, in every company."""
    order = draws.permutation(fn.Key(seed), 5)
    layer, x = fn.astype(case.layer(), np.float32), inputs(fn.Key(seed), 5, *case.shape, dtype=np.float32)
    with fn.portable():
        assert same_bits(fn.forward(layer, x[order]), fn.forward(layer, x)[order])
        assert same_bits(fn.forward(layer, x[order[:2]]), fn.forward(layer, x)[order[:2]])


# ------------------------------------------------------------------------------------------------------ softmax

whole_logits = arrays.arrays(np.float64, (4, 5), elements=st.integers(-50, 50).map(float))
any_logits = arrays.arrays(np.float64, (4, 5), elements=st.floats(-30, 30))


@both_arithmetics
@given(logits=whole_logits, shift=st.integers(-(2**20), 2**20))
def test_a_shift_without_rounding_changes_no_bit(arithmetic: Arithmetic, logits: fn.Array, shift: int) -> None:
    """The loss, its gradient and the probabilities of logits + c are those of the logits."""
    labels, logits = np.arange(4), logits.astype(dtype_of(arithmetic))
    moved = logits + logits.dtype.type(shift)
    with computing(arithmetic):
        value, grad = fn.softmax_cross_entropy(logits, labels)
        moved_value, moved_grad = fn.softmax_cross_entropy(moved, labels)
        proba = fn.predict_proba(fn.Identity(), logits)
        assert same_bits(proba, fn.predict_proba(fn.Identity(), moved))
    assert value == moved_value
    assert same_bits(grad, moved_grad)


@given(logits=any_logits, shifts=arrays.arrays(np.float64, (4, 1), elements=st.floats(-1000, 1000)))
def test_each_row_may_shift_by_its_own(logits: fn.Array, shifts: fn.Array) -> None:
    """Up to the rounding of the sum."""
    value, grad = fn.softmax_cross_entropy(logits, np.arange(4))
    moved_value, moved_grad = fn.softmax_cross_entropy(logits + shifts, np.arange(4))
    assert moved_value == pytest.approx(value, rel=1e-9, abs=1e-11)
    np.testing.assert_allclose(moved_grad, grad, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(grad.sum(axis=1), 0, atol=1e-15)


# --------------------------------------------------------------------------------------------------------- rates


@given(net=networks(), seed=seeds, a=st.floats(1e-6, 10), b=st.floats(1e-6, 10))
def test_a_rate_can_be_split(net: tuple[fn.Network, ...], seed: int, a: float, b: float) -> None:
    """Two updates along one gradient, at the rates a and b, are one at a + b, up to rounding."""
    grads = fn.map_parameters(lambda p: inputs(fn.Key(seed), *p.shape), net)
    split = fn.sgd_update(fn.sgd_update(net, grads, learning_rate=a), grads, learning_rate=b)
    whole = fn.sgd_update(net, grads, learning_rate=a + b)
    for first, second in zip(leaves(split), leaves(whole), strict=True):
        np.testing.assert_allclose(first.array, second.array, rtol=1e-12, atol=1e-12)


@given(weight=arrays.arrays(np.float32, (3, 2), elements=st.integers(-99, 99).map(float)), parts=st.integers(1, 8))
def test_a_rate_without_rounding_splits_bit_for_bit(weight: fn.Array, parts: int) -> None:
    """So many updates at 1/4 are one at so many quarters, where no sum is rounded."""
    net = fn.Dense(weight=weight, bias=weight[0])
    moved = net
    for _ in range(parts):
        moved = fn.sgd_update(moved, net, learning_rate=0.25)
    assert fn.equal(moved, fn.sgd_update(net, net, learning_rate=0.25 * parts))


# --------------------------------------------------------------------------------------------------------- folds


def begun(net: fn.Network, optimizer: Any, dtype: fn.FloatDType) -> fn.TrainState[tuple[fn.Network, ...]]:
    """A run's first state, in the arithmetic in force."""
    return fn.TrainState.create(classifier(net, dtype), optimizer, key=KEY.child("run"))


def cut(seed: int, size: int, dtype: fn.FloatDType) -> Minibatches[Any]:
    """Twenty rows in batches of a size, the last one smaller."""
    return fn.minibatches(inputs(fn.Key(seed), 20, 4, dtype=dtype), LABELS, size, key=fn.Key(seed).child("order"))


optimizers = st.sampled_from([fn.SGD(learning_rate=0.01), fn.Momentum(learning_rate=0.01, momentum=0.9)])


@both_arithmetics
@given(net=networks(), optimizer=optimizers, seed=seeds, sizes=st.tuples(st.integers(3, 7), st.integers(0, 7)))
@settings(max_examples=settings().max_examples // 2)
def test_a_fold_may_be_cut_anywhere(
    arithmetic: Arithmetic, net: tuple[fn.Network, ...], optimizer: Any, seed: int, sizes: tuple[int, int]
) -> None:
    """An epoch is its first batches and then its last ones, bit for bit: state, moments, step, losses."""
    size, at = sizes
    step = fn.train_step(fn.softmax_cross_entropy)
    with computing(arithmetic):
        state, batches = begun(net, optimizer, dtype_of(arithmetic)), cut(seed, size, dtype_of(arithmetic))
        whole, log = fn.train_epoch(step, state, batches)
        middle, first = fn.train_epoch(step, state, batches[:at])
        end, second = fn.train_epoch(step, middle, batches[at:])
    assert fn.fingerprint(end) == fn.fingerprint(whole)
    assert same_bits(np.concatenate([first.losses, second.losses]), log.losses)


@given(net=networks(), seed=seeds)
@settings(max_examples=settings().max_examples // 2)
def test_a_fold_over_nothing_is_the_identity(net: tuple[fn.Network, ...], seed: int) -> None:
    """No batch, no change; and a fold over lists, generators and sequences is one fold."""
    step = fn.train_step(fn.softmax_cross_entropy)
    state, batches = begun(net, fn.SGD(learning_rate=0.01), np.float64), cut(seed, 5, np.float64)
    same, log = fn.train_epoch(step, state, batches[:0])
    assert same is state
    assert len(log.losses) == 0
    ends = [fn.train_epoch(step, state, form)[0] for form in (batches, list(batches), iter(batches))]
    assert len({fn.fingerprint(end) for end in ends}) == 1


@pytest.mark.parametrize("stop", range(4))
def test_a_run_may_be_cut_at_any_epoch(stop: int) -> None:
    """Epochs 0 to 3 are those to the cut and those from it on."""
    step, net = fn.train_step(fn.softmax_cross_entropy), (fn.Dropout(0.2), fn.Tanh())
    state = begun(net, fn.Momentum(learning_rate=0.05), np.float64)

    def at_end(start: Any, epochs: range) -> Any:
        run = fn.train(step, start, lambda epoch: cut(epoch, 6, np.float64), epochs=epochs)
        return [start, *(state for state, _ in run)][-1]

    whole = at_end(state, range(3))
    assert fn.fingerprint(at_end(at_end(state, range(stop)), range(stop, 3))) == fn.fingerprint(whole)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_labels_of_any_integer_type_are_one_run(dtype: str) -> None:
    """In a fold, too, where they become positions."""
    step, x = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), inputs(KEY, 20, 4)
    net = (fn.dense(KEY, 4, 3, dtype=np.float64),)
    wanted, _ = fn.train_epoch(step, net, fn.minibatches(x, LABELS, 5))
    assert fn.equal(fn.train_epoch(step, net, fn.minibatches(x, LABELS.astype(dtype), 5))[0], wanted)
