"""The determinism contract on one machine: rows, shards, workers, threads, contexts. For machines: test_portable.py."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
from networks import CASES, Case, inputs
from surroundings import needs_blas

import funcnet as fn
from funcnet.arithmetic import in_force, using
from funcnet.core.trees import leaves, same_bits
from funcnet.loops.shards import sharded_value_and_grad

KEY = fn.Key(31)
X = inputs(KEY.child("x"), 50, 6, dtype=np.float32)
LABELS = (X[:, 0] > X[:, 1]).astype(np.int64) + (X[:, 2] > 1)
NET = (fn.dense(KEY.child(0), 6, 16), fn.ReLU(), fn.Dropout(0.3), fn.dense(KEY.child(1), 16, 3))
PLAIN = NET[:2] + NET[3:]
ARITHMETICS = {"native": nullcontext, "portable": fn.portable}
every_arithmetic = pytest.mark.parametrize("name", ARITHMETICS)


def arithmetic(name: str) -> AbstractContextManager[None]:
    """Return the context of an arithmetic."""
    return ARITHMETICS[name]()


def state_bytes(state: fn.TrainState[Any]) -> bytes:
    """Return every bit of a state."""
    return b"".join(leaf.array.tobytes() for leaf in leaves((state.params, *state.moments.networks)))


def trained(shard_size: int | None, executor: Executor | None = None) -> bytes:
    """Return the state's bytes after an epoch with momentum and dropout."""
    step = fn.train_step(fn.softmax_cross_entropy, shard_size=shard_size, executor=executor)
    state = fn.TrainState.create(NET, fn.Momentum(learning_rate=0.1), key=KEY)
    return state_bytes(fn.train_epoch(step, state, fn.minibatches(X, LABELS, 20, key=KEY))[0])


# ----------------------------------------------------------------------------------------------------- rows


WIDE = fn.mlp(KEY, (784, 100, 200, 10))
ROWS = inputs(KEY.child("rows"), 70, 784, dtype=np.float32)


def test_a_row_alone_is_the_row_in_any_batch() -> None:
    """With rowwise=True, a row has the same bits at any position, in any batch, with any other rows or none."""
    whole = fn.outputs(WIDE, ROWS, rowwise=True)
    for rows in (slice(0, 1), slice(69, 70), slice(3, 20), slice(0, 69), slice(13, 14), slice(0, 0)):
        assert same_bits(fn.outputs(WIDE, ROWS[rows], rowwise=True), whole[rows])
    assert same_bits(fn.outputs(WIDE, ROWS[::-1], rowwise=True)[::-1].copy(), whole)
    assert same_bits(
        fn.predict_proba(WIDE, ROWS[5:6], fn.Multiclass(), rowwise=True),
        fn.predict_proba(WIDE, ROWS, fn.Multiclass(), rowwise=True)[5:6],
    )
    assert (fn.predict(WIDE, ROWS, fn.Multiclass(), rowwise=True) == whole.argmax(axis=1)).all()
    np.testing.assert_allclose(whole, fn.outputs(WIDE, ROWS), rtol=1e-4, atol=1e-5)


@needs_blas
def test_without_it_some_row_differs() -> None:
    """The test can detect a difference: in ordinary chunks, a row's bits depend on the other rows."""
    whole = fn.outputs(WIDE, ROWS)
    assert not all(same_bits(fn.outputs(WIDE, ROWS[i : i + 1]), whole[i : i + 1]) for i in range(70))


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case.rowwise], ids=lambda case: case.name)
def test_every_layer_is_row_independent(case: Case) -> None:
    """One row at a time or all at once; layers in their training form are exceptions and say so."""
    layer, x = fn.astype(case.layer(), np.float32), case.x(50, np.float32)
    parts = [fn.outputs(layer, x[i : i + 1], rowwise=True) for i in range(len(x))]
    assert same_bits(fn.outputs(layer, x, rowwise=True), np.concatenate(parts))


# ------------------------------------------------------------------------------------------------ shards


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Return a pool of two fresh worker processes."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


@every_arithmetic
def test_who_computes_the_shards_changes_no_bit(name: str, processes: ProcessPoolExecutor) -> None:
    """Serial, threaded and multi-process runs have one hash; a different shard size has a different hash."""
    with arithmetic(name):
        serial = trained(8)
        with ThreadPoolExecutor(3) as threads:
            assert trained(8, threads) == serial
        assert trained(8, processes) == serial
        assert trained(7) != serial
        assert trained(None) != serial


@every_arithmetic
def test_the_shards_gradient_is_the_batches(name: str) -> None:
    """They agree up to rounding, with a smaller last shard, too; a single shard agrees bit for bit."""
    with arithmetic(name):
        value, grads = fn.value_and_grad(PLAIN, X, LABELS, fn.softmax_cross_entropy)
        for size in (50, 64):
            one = sharded_value_and_grad(PLAIN, X, LABELS, fn.softmax_cross_entropy, shard_size=size)
            assert one[0] == value
            assert fn.equal(one[1], grads)
        sharded_value, sharded = sharded_value_and_grad(PLAIN, X, LABELS, fn.softmax_cross_entropy, shard_size=8)
    assert sharded_value == pytest.approx(value, rel=1e-6)
    for a, b in zip(leaves(sharded), leaves(grads), strict=True):
        np.testing.assert_allclose(a.array, b.array, rtol=1e-4, atol=1e-6)


def test_shards_draw_masks_of_their_own() -> None:
    """Two shards of the same rows have different masks; without dropout they have the same gradient."""
    x, labels = np.concatenate([X[:8], X[:8]]), np.concatenate([LABELS[:8], LABELS[:8]])
    loss = fn.softmax_cross_entropy
    keyed = sharded_value_and_grad(NET, x, labels, loss, shard_size=8, key=KEY)[0]
    assert keyed != sharded_value_and_grad(NET, x[:8], labels[:8], loss, shard_size=8, key=KEY)[0]
    assert sharded_value_and_grad(NET, x, labels, loss, shard_size=8)[0] == pytest.approx(loss_of(x[:8], labels[:8]))


def loss_of(x: fn.Array, labels: Any) -> float:
    """Return the loss of the plain network."""
    return fn.softmax_cross_entropy(fn.forward(NET, x), labels)[0]


def test_an_executor_without_shards_is_refused() -> None:
    """Without shards, an executor has nothing to compute."""
    with ThreadPoolExecutor(1) as executor, pytest.raises(fn.ConfigError, match="shard_size"):
        fn.train_step(fn.softmax_cross_entropy, executor=executor)


def test_a_steps_executor_is_no_part_of_its_value() -> None:
    """Two steps that differ only in their executors are equal."""
    with ThreadPoolExecutor(1) as executor:
        parallel = fn.train_step(fn.softmax_cross_entropy, shard_size=8, executor=executor)
        assert parallel == fn.train_step(fn.softmax_cross_entropy, shard_size=8)


# ---------------------------------------------------------------------------------------- contexts and threads


def test_portable_and_native_differ_and_are_close() -> None:
    """The context has an effect, and only inside its block."""
    native = fn.forward(WIDE, ROWS)
    with fn.portable():
        assert in_force() == "portable"
        exact = fn.forward(WIDE, ROWS)
    assert in_force() == "native"
    assert not same_bits(native, exact)
    np.testing.assert_allclose(native, exact, rtol=1e-3, atol=1e-4)
    assert same_bits(native, fn.forward(WIDE, ROWS))


def test_a_pullback_keeps_its_arithmetic() -> None:
    """A pullback created inside a context and called outside keeps its arithmetic, and vice versa."""
    with fn.portable():
        y, exact_pull = fn.vjp(WIDE, ROWS)
        exact = exact_pull(y)
        y, _ = fn.vjp(WIDE, ROWS)
    native_pull = fn.vjp(WIDE, ROWS)[1]
    native = native_pull(y)
    assert fn.equal(exact_pull(y)[1], exact[1])
    with fn.portable():
        assert fn.equal(native_pull(y)[1], native[1])
    assert not fn.equal(native[1], exact[1])


def test_a_run_keeps_its_arithmetic() -> None:
    """``train`` called inside a context computes portably wherever it is advanced, and affects nothing else."""
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)

    def run() -> Iterator[tuple[Any, fn.EpochLog]]:
        return fn.train(step, PLAIN, lambda _: fn.minibatches(X, LABELS, 20, key=KEY), epochs=range(2))

    with fn.portable():
        inside = [net for net, _ in run()]
        lazy = run()
    outside = [net for net, _ in lazy]
    assert in_force() == "native"
    assert fn.equal(tuple(inside), tuple(outside))
    assert not fn.equal(inside[0], next(run())[0])


def test_a_new_thread_begins_native_and_a_copied_context_does_not() -> None:
    """The behavior is as documented for the ``with`` block."""
    with ThreadPoolExecutor(1) as executor, fn.portable():
        assert executor.submit(in_force).result() == "native"
        assert executor.submit(contextvars.copy_context().run, in_force).result() == "portable"


def test_there_are_two_arithmetics() -> None:
    """Any other name is refused."""
    with pytest.raises(fn.ConfigError, match="must be 'native' or 'portable', got 'exact'"), using("exact"):  # type: ignore[arg-type]  # no such name
        pass
