"""Training: the fold laws, steps as values, data as sequences, and reproducible runs."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import inputs
from surroundings import SEARCHED

import funcnet as fn
from funcnet.arithmetic import Name, using
from funcnet.core import records
from funcnet.core.arrays import is_canonical
from funcnet.core.trees import leaves, same_bits
from funcnet.data.batches import Minibatches

KEY = fn.Key(9)
X = inputs(KEY.child("x"), 50, 6, dtype=np.float32)
LABELS = (X[:, 0] > X[:, 1]).astype(np.int64) + (X[:, 2] > 1)
NET = (fn.dense(KEY.child(0), 6, 8), fn.ReLU(), fn.Dropout(0.3), fn.dense(KEY.child(1), 8, 3))
SGD_STEP = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
OPTIMIZERS: list[fn.SGD | fn.Momentum] = [
    fn.SGD(learning_rate=0.1),
    fn.Momentum(learning_rate=0.05),
    fn.Momentum(learning_rate=0.05, momentum=0),
]


def batches(epoch: int = 0) -> Minibatches[Any]:
    """Return seven batches, the last one smaller than the others."""
    return fn.minibatches(X, LABELS, 8, key=KEY.child("shuffle", epoch))


def state(optimizer: fn.SGD | fn.Momentum = fn.Momentum(learning_rate=0.05)) -> fn.TrainState[Any]:
    """Return the initial state of a run."""
    return fn.TrainState.create(NET, optimizer, key=KEY)


# ----------------------------------------------------------------------------------------------- the fold


@given(cut=st.integers(0, 7), which=st.sampled_from(OPTIMIZERS))
def test_an_epoch_is_a_fold(cut: int, which: fn.SGD | fn.Momentum) -> None:
    """A run stopped after any step and resumed has the same bits; without batches, the state is unchanged."""
    step = fn.train_step(fn.softmax_cross_entropy)
    whole, log = fn.train_epoch(step, state(which), batches())
    half, first = fn.train_epoch(step, state(which), batches()[:cut])
    half, second = fn.train_epoch(step, half, batches()[cut:])
    assert fn.equal((whole.params, *whole.moments.networks), (half.params, *half.moments.networks))
    assert (whole.step, whole.key) == (half.step, half.key)
    assert same_bits(log.losses, np.concatenate([first.losses, second.losses]))


def test_the_plain_fold_is_the_same() -> None:
    """train_epoch equals a for loop over its step."""
    step = fn.train_step(fn.softmax_cross_entropy)
    by_hand = state()
    losses: list[float] = []
    for batch in batches():
        by_hand, loss = step(by_hand, batch)
        losses.append(loss)
    folded, log = fn.train_epoch(step, state(), batches())
    assert fn.equal(by_hand.params, folded.params)
    assert log.losses.tolist() == losses
    assert log.totals.tolist() == [len(batch.x) for batch in batches()]
    assert log.mean_loss == pytest.approx(np.average(losses, weights=log.totals))


def test_training_changes_no_argument() -> None:
    """The initial state is unchanged."""
    before = state()
    bytes_before = [leaf.array.tobytes() for leaf in leaves((before.params, *before.moments.networks))]
    fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), before, batches())
    assert [leaf.array.tobytes() for leaf in leaves((before.params, *before.moments.networks))] == bytes_before
    assert before.step == 0


def test_sgd_step_is_value_and_grad_then_update() -> None:
    """The step equals the three public functions, called one after the other."""
    net, batch = NET[:2] + NET[3:], batches()[0]
    loss, grads = fn.value_and_grad(net, batch.x, batch.y, fn.softmax_cross_entropy)
    by_hand = fn.sgd_update(net, grads, learning_rate=0.1)
    stepped, step_loss = SGD_STEP(net, batch)
    assert fn.equal(by_hand, stepped)
    assert loss == step_loss


def test_sgd_as_an_optimizer_is_sgd_step() -> None:
    """Without random draws, both train to the same bits."""
    net = NET[:2] + NET[3:]
    run = fn.TrainState.create(net, fn.SGD(learning_rate=0.1), key=KEY)
    run, _ = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), run, batches())
    assert fn.equal(run.params, fn.train_epoch(SGD_STEP, net, batches())[0])


def test_momentum_in_closed_form() -> None:
    """Two steps agree with a computation by hand: v1 = g1, v2 = 0.9 v1 + g2."""
    optimizer = fn.Momentum(learning_rate=0.5)

    def record(weight: float, bias: float) -> fn.Dense:
        return fn.Dense(weight=np.array([[weight]], np.float64), bias=np.array([bias], np.float64))

    p1, moments = optimizer.update(record(1, 2), record(4, 1), optimizer.init(record(1, 2)), 0)
    p2, moments = optimizer.update(p1, record(2, 0), moments, 1)
    assert fn.equal(p1, record(1 - 0.5 * 4, 2 - 0.5 * 1))
    assert fn.equal(moments["velocity"], record(0.9 * 4 + 2, 0.9 * 1 + 0))
    assert fn.equal(p2, record(-1 - 0.5 * (0.9 * 4 + 2), 1.5 - 0.5 * 0.9))


def test_each_step_has_its_own_mask() -> None:
    """The key depends on the step's number: the same step has the same mask, another step has another mask."""
    step, batch = fn.train_step(fn.softmax_cross_entropy), batches()[0]
    first = state()
    later = fn.TrainState(first.params, first.optimizer, first.moments, 1, first.key)
    assert step(first, batch)[1] == step(first, batch)[1]
    assert step(first, batch)[1] != step(later, batch)[1]


def test_train_is_lazy_and_resumes() -> None:
    """It trains only when it is advanced; range(2, 4) resumes where range(2) ended."""
    asked: list[int] = []

    def data(epoch: int) -> Minibatches[Any]:
        asked.append(epoch)
        return batches(epoch)

    step = fn.train_step(fn.softmax_cross_entropy)
    run = fn.train(step, state(), data, epochs=range(4))
    assert asked == []
    half, _ = [next(run), next(run)][-1]
    assert asked == [0, 1]
    (*_, (whole, _)) = run
    (*_, (resumed, _)) = fn.train(step, half, data, epochs=range(2, 4))
    assert fn.equal(whole.params, resumed.params)
    assert list(fn.train(step, state(), data, epochs=range(0))) == []


def test_training_learns() -> None:
    """With each optimizer, a network nearly overfits fifty points in sixty epochs."""
    for optimizer in OPTIMIZERS:
        run = fn.TrainState.create(NET[:2] + NET[3:], optimizer, key=KEY)
        (*_, (run, log)) = fn.train(fn.train_step(fn.softmax_cross_entropy), run, batches, epochs=range(60))
        assert fn.accuracy(fn.predict(run.params, X, fn.Multiclass()), LABELS) >= 0.95
        assert log.mean_loss < 0.2


@pytest.mark.slow
def test_a_run_is_the_same_in_another_process() -> None:
    """The run does not depend on the hash seed."""
    program = (
        "import hashlib, sys; sys.path[:0] = sys.argv[1].splitlines()\n"
        "import test_training as t; import funcnet as fn\n"
        "run, _ = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), t.state(), t.batches())\n"
        "print(hashlib.sha256(b''.join(leaf.array.tobytes() for leaf in t.leaves(run.params))).hexdigest())"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program, SEARCHED],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": s},
        ).stdout
        for s in "01"
    }
    assert len(hashes) == 1


# ------------------------------------------------------------------------------------------- minibatches


@given(rows=st.integers(1, 30), size=st.integers(1, 30), drop_last=st.booleans(), shuffled=st.booleans())
def test_minibatches_are_a_partition(rows: int, size: int, drop_last: bool, shuffled: bool) -> None:  # noqa: FBT001
    """Every row occurs once, in a reproducible order; only the last batch may be smaller, or is dropped."""
    size = min(size, rows)
    x, y = np.arange(2.0 * rows).reshape(rows, 2), np.arange(rows)
    cut = fn.minibatches(x, y, size, key=KEY if shuffled else None, drop_last=drop_last)
    sizes = [len(batch.y) for batch in cut]
    order = [int(label) for batch in cut for label in batch.y]
    assert len(cut) == len(sizes) == (rows // size if drop_last else -(-rows // size))
    assert set(sizes[:-1]) <= {size}
    assert order == [int(label) for batch in cut for label in batch.y]
    assert len(set(order)) == len(order) == (rows - rows % size if drop_last else rows)
    assert all((batch.x[:, 0] == 2 * batch.y).all() for batch in cut)
    assert shuffled or order == sorted(order)


def test_minibatches_slice_like_a_list() -> None:
    """Any start and stop work, including negative ones."""
    whole = [batch.y.tolist() for batch in batches()]
    for start in (None, 0, 2, 7, 9, -2):
        for stop in (None, 0, 3, 7, 9, -1):
            cut = batches()[start:stop]
            assert [batch.y.tolist() for batch in cut] == whole[start:stop]
            assert len(cut) == len(whole[start:stop])
    assert batches()[-1].y.tolist() == whole[-1]
    assert batches()[2:][1:3][0].y.tolist() == whole[3]
    with pytest.raises(IndexError):
        batches()[7]


def test_a_transform_makes_floats_of_bytes() -> None:
    """Images stay bytes in memory and become floats one batch at a time."""
    images, labels = np.arange(12, dtype=np.uint8).reshape(4, 3), np.arange(4)

    def scale(batch: fn.Batch[Any]) -> fn.Batch[Any]:
        return fn.Batch(batch.x.astype(np.float32) / 255, batch.y)

    cut = fn.minibatches(images, labels, 2, transform=scale)
    assert cut[1].x.dtype == np.float32
    assert same_bits(cut[1].x, images[2:].astype(np.float32) / 255)


# -------------------------------------------------------------------------------------- values that travel


def test_records_copy_what_others_can_write_and_adopt_what_is_locked() -> None:
    """A record's arrays never change, even if the caller still holds the originals."""
    weight, bias = np.ones((2, 2)), np.zeros(2)
    layer = fn.Dense(weight=weight, bias=bias)
    weight[:] = 5
    assert layer.weight.max() == 1
    assert not layer.weight.flags.writeable
    assert fn.Dense(weight=layer.weight, bias=layer.bias).weight is layer.weight
    view = np.ones((4, 2))[:2]
    view.flags.writeable = False
    assert fn.Dense(weight=view, bias=bias).weight is not view


def test_a_step_copies_no_array_into_its_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients and new weights are locked where they are created, and the records adopt them."""
    net, batch = NET[:2] + NET[3:], batches()[0]

    def adopt(_: fn.Array) -> fn.Array:
        pytest.fail("a record copied an array")

    monkeypatch.setattr(records, "adopt", adopt)
    _, grads = fn.value_and_grad(net, batch.x, batch.y, fn.softmax_cross_entropy)
    assert all(is_canonical(leaf.array) for leaf in leaves(grads))


def test_a_step_makes_its_gradients_and_new_weights_and_little_else() -> None:
    """The traced peak above the state is two networks and at most 64 KB, apart from the batch's activations."""
    sizes, rows = (784, 100, 200, 10), 32
    net, step = fn.mlp(KEY, sizes), SGD_STEP
    batch = fn.Batch(inputs(KEY, rows, sizes[0], dtype=np.float32), np.arange(rows) % 10)
    step(net, batch)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    step(net, batch)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    parameters = sum(leaf.array.nbytes for leaf in leaves(net))
    assert peak <= 2 * parameters + 4 * rows * (sizes[0] + 2 * sum(sizes[1:])) + 65_536


# ----------------------------------------------------------------------------------------------- inference


def test_outputs_go_in_chunks() -> None:
    """Every chunk is the forward pass of its rows, and no chunk has more than 256 rows."""
    x = inputs(KEY, 600, 6, dtype=np.float32)
    whole = fn.outputs(NET, x)
    parts = [fn.forward(NET, x[start : start + 256]) for start in (0, 256, 512)]
    assert same_bits(whole, np.concatenate(parts))
    assert fn.outputs(NET, x[:0]).shape == (0, 3)


def test_predictions_are_of_the_logits() -> None:
    """predict returns the argmax of the logits, predict_proba their softmax."""
    logits = fn.outputs(NET, X)
    proba = fn.predict_proba(NET, X, fn.Multiclass())
    assert (fn.predict(NET, X, fn.Multiclass()) == logits.argmax(axis=1)).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)
    assert (proba.argmax(axis=1) == fn.predict(NET, X, fn.Multiclass())).all()


def test_softmax_cross_entropy_against_its_formula() -> None:
    """They agree in float64, at ordinary and at large logits; adding a constant to a row changes only the rounding."""
    logits, labels = inputs(KEY, 8, 4), np.arange(8) % 4
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    value, grad = fn.softmax_cross_entropy(logits, labels)
    assert value == pytest.approx(-np.log(shares[np.arange(8), labels]).mean(), rel=1e-12)
    np.testing.assert_allclose(grad, (shares - np.eye(4)[labels]) / 8, rtol=1e-12, atol=1e-16)
    shifted, shifted_grad = fn.softmax_cross_entropy(logits + 1e4, labels)
    assert shifted == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(shifted_grad, grad, rtol=1e-9)
    assert fn.softmax_cross_entropy(np.array([[1e4, -1e4]]), np.array([1]))[0] == 20000


ROWS = np.array([[1e-30, 1], [3, -4], [200, -900], [-900, 500]], np.float32)


@pytest.mark.parametrize("arithmetic", ["native", "portable"])
@pytest.mark.parametrize(
    "optimizer",
    [
        fn.SGD(learning_rate=1e-40),
        fn.AdamW(learning_rate=0.1),
        fn.ClipByGlobalNorm(fn.Adagrad(learning_rate=0.1), max_norm=1e-30),
    ],
)
def test_no_number_warns(arithmetic: Name, optimizer: Any) -> None:
    """Even where NumPy raises for overflow and underflow, training, losses and predictions compute as usual."""
    net, y = fn.mlp(KEY, (2, 3, 2)), np.array([0, 1, 0, 1])
    start = fn.TrainState.create(net, optimizer, key=KEY)
    prediction, target = np.array([[-150.0], [2e-30]], np.float32), np.array([[1e-30], [0.5]], np.float32)
    with using(arithmetic), np.errstate(all="raise"):
        begun = attrs.evolve(start, arithmetic=arithmetic)
        run, _ = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), begun, [fn.Batch(ROWS, y)] * 3)
        fn.train_epoch(fn.sgd_step(fn.SoftmaxCrossEntropy(0.1), learning_rate=0.1), net, [fn.Batch(ROWS, y)] * 3)
        assert fn.predict_proba(run.params, ROWS, fn.Multiclass()).sum() == pytest.approx(4)
        assert fn.evaluate(net, ROWS, y, fn.softmax_cross_entropy) > 0
        for loss in (fn.mean_squared_error, fn.huber, fn.binary_cross_entropy, fn.poisson):
            loss(prediction, target, np.array([1e-30, 1], np.float32))
        assert fn.global_norm(fn.Dense(weight=np.array([[1e-200]]), bias=np.array([3.0]))) == 3


def test_shards_have_a_target_a_row() -> None:
    """More or fewer targets than rows are refused, as without shards."""
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1, shard_size=2)
    for count in (2, 6):
        with pytest.raises(fn.ShapeError, match=rf"y must have as many rows as x, 4, got \({count},\)"):
            step(fn.mlp(KEY, (2, 2)), fn.Batch(ROWS, np.zeros(count, np.int64)))
    labels: Any = [0, 1, 0, 1]
    with pytest.raises(fn.DTypeError, match="y must be a plain NumPy array, got list"):
        step(fn.mlp(KEY, (2, 2)), fn.Batch(ROWS, labels))


def test_an_epoch_of_shards_is_the_plain_fold() -> None:
    """An epoch of a step that computes shards has the bits of its steps."""
    step, net = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1, shard_size=3), fn.mlp(KEY, (2, 2))
    batch = fn.Batch(ROWS, np.array([0, 1, 0, 1]))
    assert fn.equal(fn.train_epoch(step, net, [batch, batch])[0], step(step(net, batch)[0], batch)[0])


def test_an_average_is_among_the_moments() -> None:
    """A state that lost its moments has no average, and the error says so."""
    run = fn.TrainState.create(NET, fn.Averaging(fn.SGD(learning_rate=0.1)), key=KEY)
    with pytest.raises(
        fn.StructureError, match=r"averaged: moments must have the names \('average', 'inner\.\*'\), got \(\)"
    ):
        fn.averaged(attrs.evolve(run, moments=fn.Moments.of()))
