"""Shards: the gradient as a binary tree, the same for any worker, any rank and any replay."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from operator import add
from typing import Any

import numpy as np
import pytest
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st
from networks import inputs
from thread_ranks import Rank, errors_on, on_ranks

import funcnet as fn
from funcnet.core.trees import flat, map_parameters, with_flat
from funcnet.loops.reducers import joined, own_shards, subtrees, tree_sum
from funcnet.loops.shards import UNROLLED, sharded_value_and_grad
from funcnet.tracing.traces import Trace

KEY = fn.Key(57)
X = inputs(KEY.child("x"), 44, 6, dtype=np.float32)
LABELS = (X[:, 0] > X[:, 1]).astype(np.int64) + (X[:, 2] > 1)
CE = fn.softmax_cross_entropy
PLAIN = fn.mlp(KEY, (6, 16, 3))
NET = (*PLAIN[:2], fn.batch_norm(16), fn.Dropout(0.3), *PLAIN[2:])
ARITHMETICS = {"native": nullcontext, "portable": fn.portable}
GOLDEN = "1262440dfaa02d6a377bca5191fe45b25068d085b6319d4ab65b70d2df0d380d"


def pair(a: str, b: str) -> str:
    """Return a sum as text, which shows its order."""
    return f"({a}{b})"


# ---------------------------------------------------------------------------------------------------- the tree


def by_halves(terms: str) -> str:
    """Return the same tree by a definition of its own: split at the largest power of two below the number of terms."""
    if len(terms) == 1:
        return terms
    half = 1 << (len(terms) - 1).bit_length() - 1
    return f"({by_halves(terms[:half])}{by_halves(terms[half:])})"


LETTERS = "".join(map(chr, range(0x100, 0x100 + 200)))


@given(st.integers(1, 200), st.integers(1, 40))
def test_ranks_add_parts_of_one_tree(count: int, size: int) -> None:
    """The ranks divide the shards evenly, and the sums of their parts join to the tree of one process."""
    assert tree_sum(LETTERS[:count], pair) == by_halves(LETTERS[:count])
    own = [own_shards(rank, size, count) for rank in range(size)]
    assert [shard for shards in own for shard in shards] == list(range(count))
    assert max(map(len, own)) <= 1.5 * -(-count // size)
    parts = [subtrees(shards, count) for shards in own]
    assert all(len(each) <= 4 for each in parts)
    every = [part for each in parts for part in each]
    sums = [tree_sum(LETTERS[part.start : part.stop], pair) for part in every]
    assert joined(sums, every, pair) == tree_sum(LETTERS[:count], pair)


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16, 64, 1024])
def test_a_rank_of_a_power_of_two_sends_one_sum(count: int) -> None:
    """However many shards it computes."""
    for size in (size for size in (1, 2, 4, 8) if size <= count):
        assert all(len(subtrees(own_shards(rank, size, count), count)) == 1 for rank in range(size))


@frozen(eq=False)
class Scaled(fn.Layer):
    """A layer whose network comes before its own parameter."""

    net: fn.Network
    scale: fn.Array


def test_a_vector_holds_a_networks_parameters() -> None:
    """There and back, in any nesting; a network without parameters is an empty vector."""
    net = (
        fn.Residual((fn.dense(KEY, 6, 6), fn.ReLU())),
        fn.Frozen(PLAIN[0]),
        fn.batch_norm(16),
        (fn.PReLU(np.ones(1, np.float32)),),
    )
    assert fn.equal(with_flat(map_parameters(np.zeros_like, net), flat(net)), net)
    assert flat(net).size == 6 * 7 + 2 * 16 + 1
    assert flat((fn.ReLU(),)).size == 0
    after = Scaled((PLAIN[0],), np.array([7.0], np.float32))
    assert flat(after)[0] == 7
    assert fn.equal(with_flat(map_parameters(np.zeros_like, after), flat(after)), after)
    assert fn.equal(with_flat((fn.ReLU(),), flat((fn.ReLU(),))), (fn.ReLU(),))


# ------------------------------------------------------------------------------------------------- the gradient


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("size", [4, 7, 44])
def test_a_gradient_is_the_tree_of_its_shards(arithmetic: str, size: int) -> None:
    """Each shard's gradient times its share, added as a tree, bit for bit; a shard of weight 0 is left out."""
    weight = np.ones(len(X), np.float32)
    weight[8:16], weight[20] = 0.0, 2.5
    with ARITHMETICS[arithmetic]():
        value, grads = sharded_value_and_grad(NET, X, LABELS, CE, weight, shard_size=size, key=KEY)
        losses: list[float] = []
        vectors: list[fn.Array] = []
        for number, start in enumerate(range(0, len(X), size)):
            rows = slice(start, start + size)
            if weight[rows].any():
                share = float(weight[rows].astype(np.float64).sum()) / float(weight.astype(np.float64).sum())
                net = fn.training(NET, KEY.child("shard", number))
                loss, grad = fn.value_and_grad(net, X[rows], LABELS[rows], CE, weight[rows])
                losses.append(share * loss)
                vectors.append(flat(grad) * share)
    assert flat(grads).tobytes() == tree_sum(vectors, np.add).tobytes()
    assert value == tree_sum(losses, add)


def trained(net: Any, *, epochs: int = 2, optimizer: Any = None, **settings: Any) -> str:
    """Return the fingerprint after epochs of batches with ragged last shards and a ragged last batch."""
    step = fn.train_step(CE, shard_size=3, **settings)
    state = fn.TrainState.create(net, optimizer or fn.Adam(learning_rate=1e-2), key=KEY)
    for epoch in range(epochs):
        state, _ = fn.train_epoch(step, state, fn.minibatches(X, LABELS, 8, key=KEY.child(epoch)))
    return fn.fingerprint(state)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_who_computes_the_shards_changes_no_bit(arithmetic: str) -> None:
    """One trace of all shards, no trace, threads, a single rank, many ranks, ranks with threads."""
    with ARITHMETICS[arithmetic]():
        alone = trained(NET)
        assert trained(NET, reducer=fn.SerialReducer()) == alone
        with ThreadPoolExecutor(2) as threads:
            assert trained(NET, executor=threads) == alone
            assert trained(NET, executor=threads, reducer=fn.SerialReducer()) == alone
    for size in (2, 3, 5):

        def on_rank(rank: Rank) -> str:
            with ARITHMETICS[arithmetic]():
                return trained(NET, reducer=rank)

        assert on_ranks(size, on_rank) == [alone] * size
    fn.keep_programs(programs=0)
    try:
        with ARITHMETICS[arithmetic]():
            assert trained(NET) == alone
    finally:
        fn.keep_programs()


def test_a_portable_run_has_these_bits_everywhere() -> None:
    """The order of the sum is part of the contract."""
    with fn.portable():
        assert trained(NET, optimizer=fn.Momentum(learning_rate=0.1)) == GOLDEN


# --------------------------------------------------------------------------------------------------- programs


@frozen
class Busy(fn.SerialReducer):
    """The reducer of a rank that has all shards, while the other rank has none."""

    size: int = field(init=False, default=2)


def test_a_gradient_has_the_form_of_its_network() -> None:
    """It is plain, although the shards are in training mode, on one rank and on many."""
    one = sharded_value_and_grad(NET, X, LABELS, CE, shard_size=9, key=KEY)
    many = on_ranks(2, lambda rank: sharded_value_and_grad(NET, X, LABELS, CE, shard_size=9, key=KEY, reducer=rank))
    assert all(value == one[0] and fn.equal(grads, one[1]) for value, grads in many)
    assert fn.equal(map_parameters(lambda p, _: p, one[1], NET), one[1])
    assert repr(one[1]) == repr(NET)


def test_a_step_of_few_shards_is_one_program() -> None:
    """It has every shard; more shards, an executor or a reducer leave a program for each shard."""
    state = fn.TrainState.create(NET, fn.SGD(learning_rate=0.1), key=KEY)
    batch = fn.Batch(X, LABELS)
    size = -(-len(X) // UNROLLED)
    few = fn.program(fn.train_step(CE, shard_size=size), state, batch)
    assert not few.opaque
    assert few.source.count("# 4 dense_forward") == -(-len(X) // size)
    for step in (fn.train_step(CE, shard_size=size - 1), fn.train_step(CE, shard_size=size, reducer=Busy())):
        (refused,) = fn.program(step, state, batch).opaque
        assert refused.reason == "its shards are computed one by one"


def test_shards_share_a_program_whatever_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one trace for a shard, which the first steps use, and one for all shards of a rank."""
    made: list[Trace] = []
    trace = Trace.__init__

    def counted(self: Trace, *args: Any, **settings: Any) -> None:
        trace(self, *args, **settings)
        made.append(self)

    monkeypatch.setattr(Trace, "__init__", counted)
    fn.keep_programs()
    step = fn.train_step(CE, shard_size=4, reducer=Busy())
    state = fn.TrainState.create(NET, fn.Adam(learning_rate=1e-2), key=KEY)
    for epoch in range(3):
        state, _ = fn.train_epoch(step, state, fn.minibatches(X[:40], LABELS[:40], 20, key=KEY.child(epoch)))
    assert len(made) == 2


# --------------------------------------------------------------------------------------------------- failures


def failing_on(rank: Rank, at: int) -> fn.Step[Any, Any]:
    """Return a step whose loss fails on one rank at its third shard or later."""
    seen: list[int] = []

    def loss(logits: fn.Array, labels: Any) -> tuple[float, fn.Array]:
        seen.append(1)
        if rank.rank == at and len(seen) > 2:
            raise ZeroDivisionError("this rank is broken")
        return CE(logits, labels)

    return fn.train_step(loss, shard_size=3, reducer=rank)


def test_a_failing_shard_ends_every_rank() -> None:
    """The rank itself says what happened, and the others which shard failed."""

    def work(rank: Rank) -> object:
        state = fn.TrainState.create(PLAIN, fn.SGD(learning_rate=0.1), key=KEY)
        return fn.train_epoch(failing_on(rank, 1), state, fn.minibatches(X, LABELS, 22))

    first, second, third = errors_on(3, work)
    assert isinstance(second, ZeroDivisionError)
    for other in (first, third):
        assert type(other) is fn.FuncnetError
        assert "failed on another rank, whose own error says why" in str(other)


def test_bad_input_is_refused_before_the_ranks_meet() -> None:
    """A rank with a bad batch raises without waiting for a rank that is not there."""
    alone = Rank(0, [None, None], None)  # type: ignore[arg-type]  # it must not meet anybody
    wrong: list[dict[str, Any]] = [
        {"x": X.astype(np.float16)},
        {"y": LABELS[:3]},
        {"y": 3},
        {"weight": np.zeros(len(X), np.float32)},
        {"weight": np.ones(3, np.float32)},
        {"shard_size": 0},
    ]
    right: dict[str, Any] = {"params": PLAIN, "x": X, "y": LABELS, "loss": CE, "shard_size": 7, "reducer": alone}
    for change in wrong:
        with pytest.raises(fn.FuncnetError):
            sharded_value_and_grad(**(right | change))


def test_states_that_differ_are_refused_around_an_epoch() -> None:
    """Before the first step, on every rank."""

    def work(rank: Rank) -> object:
        net = fn.mlp(KEY.child(int(rank.rank == 2)), (6, 3))
        step = fn.sgd_step(CE, learning_rate=0.1, shard_size=3, reducer=rank)
        return fn.train_epoch(step, net, fn.minibatches(X, LABELS, 22))

    assert all(isinstance(found, fn.StructureError) for found in errors_on(3, work))


def test_a_reducer_without_shards_is_refused() -> None:
    """It has nothing to divide, and it is not part of a step's value."""
    with pytest.raises(fn.ConfigError, match="a reducer divides shards; give shard_size, too"):
        fn.sgd_step(CE, learning_rate=0.1, reducer=fn.SerialReducer())
    one, other = (fn.train_step(CE, shard_size=8, reducer=r) for r in (fn.SerialReducer(), None))
    assert one == other
    assert fn.fingerprint(one) == fn.fingerprint(other)
    assert repr(one) == repr(other)
