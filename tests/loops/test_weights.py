"""Weights of 0: rows, batches and epochs that count for nothing, with every loss and every step."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pytest
from attrs import frozen
from networks import inputs

import funcnet as fn
from funcnet import losses
from funcnet.arithmetic import Name, using
from funcnet.network.loss import total_of

KEY: Final = fn.Key(62)
X: Final = inputs(KEY.child("x"), 12, 4, dtype=np.float32)
IDS: Final = np.arange(12) % 3
SHARES: Final[fn.Array] = np.abs(inputs(KEY.child("shares"), 12, 3, dtype=np.float32)) / 8
LOSSES: Final[dict[str, tuple[Any, Any]]] = {
    "softmax_cross_entropy": (fn.softmax_cross_entropy, IDS),
    "SoftmaxCrossEntropy": (fn.SoftmaxCrossEntropy(label_smoothing=0.1, class_weight=(1.0, 2.0, 0.5)), IDS),
    "binary_cross_entropy": (fn.binary_cross_entropy, SHARES),
    "mean_squared_error": (fn.mean_squared_error, SHARES),
    "mean_absolute_error": (fn.mean_absolute_error, SHARES),
    "huber": (fn.huber, SHARES),
    "Huber": (fn.Huber(delta=0.3), SHARES),
    "hinge": (fn.hinge, np.where(SHARES < 0.05, np.float32(-1), np.float32(1))),
    "poisson": (fn.poisson, SHARES),
}
NET: Final = (fn.dense(KEY.child(0), 4, 5), fn.Tanh(), fn.Dropout(0.25), fn.dense(KEY.child(1), 5, 3))
every_loss = pytest.mark.parametrize("name", LOSSES)


@frozen
class Own:
    """A step as a user writes it: it leaves out a batch whose total is 0, and reports the totals."""

    loss: Any

    def __call__(self, net: Any, batch: fn.Batch[Any]) -> tuple[Any, float]:
        """Return the network after one update, and the loss before it."""
        if not self.total(batch):
            return net, 0.0
        loss, grads = fn.value_and_grad(fn.plain(net), batch.x, batch.y, self.loss, batch.weight)
        return fn.sgd_update(net, grads, learning_rate=0.1), loss

    def total(self, batch: fn.Batch[Any]) -> float:
        """Return the number that the mean loss divides by."""
        return total_of(self.loss, len(batch.x), batch.y, batch.weight)


def runs(loss: Any) -> dict[str, tuple[Any, Any]]:
    """Return each kind of step, with its initial state."""
    state = fn.TrainState.create(NET, fn.Momentum(learning_rate=0.1), key=KEY.child("run"))
    plain = NET[0], NET[1], NET[3]
    return {
        "sgd_step": (fn.sgd_step(loss, learning_rate=0.1), plain),
        "sgd_step in shards": (fn.sgd_step(loss, learning_rate=0.1, shard_size=2), plain),
        "train_step": (fn.train_step(loss), state),
        "train_step in shards": (fn.train_step(loss, shard_size=2), state),
        "a step of the user": (Own(loss), plain),
    }


def batch(loss: str, number: int, weight: fn.Array) -> fn.Batch[Any]:
    """Return three rows with weights; a float target of weight 0 is NaN."""
    rows = slice(3 * number, 3 * number + 3)
    y = LOSSES[loss][1][rows].copy()
    y[weight == 0] = np.nan if y.dtype.kind == "f" else -100
    return fn.Batch(X[rows], y, weight)


@every_loss
@pytest.mark.parametrize(
    ("kind", "arithmetic"), [*((kind, "native") for kind in runs(fn.huber)), ("train_step", "portable")]
)
def test_a_batch_of_weight_0_counts_for_nothing(name: str, kind: str, arithmetic: Name) -> None:
    """The epoch has the bits of the epoch without it, plain and replayed, and its mean loss ignores the batch."""
    weight: fn.Array = np.array([1, 0.5, 0], np.float32)
    parts = [batch(name, number, weight) for number in range(4)]
    nothing = [batch(name, number, np.zeros(3, np.float32)) for number in range(4)]
    with using(arithmetic):
        step, state = runs(LOSSES[name][0])[kind]
        wanted, log = fn.train_epoch(step, state, parts)
        mixed = [each for pair in zip(nothing, parts, strict=True) for each in pair]
        found, whole = fn.train_epoch(step, state, mixed)
        same, empty = fn.train_epoch(step, state, nothing)
    assert fn.fingerprint(found) == fn.fingerprint(wanted)
    assert fn.fingerprint(same) == fn.fingerprint(state)
    assert whole.losses[1::2].tolist() == log.losses.tolist()
    assert not whole.totals[::2].any()
    assert whole.mean_loss == pytest.approx(log.mean_loss, rel=1e-14)
    with pytest.raises(fn.ConfigError, match=r"^EpochLog: the totals must not all be 0: the epoch had no example that"):
        _ = empty.mean_loss


def test_every_loss_is_here() -> None:
    """The table has each loss of the package."""
    assert {name for name in dir(losses) if callable(getattr(fn, name, None))} == {*LOSSES}


@every_loss
def test_a_row_of_weight_0_counts_for_nothing(name: str) -> None:
    """``evaluate`` and a gradient are, up to rounding, those of the other rows."""
    loss, y = LOSSES[name]
    weight: fn.Array = np.array([2, 0, 1] * 4, np.float32)
    net, rows, bad = (NET[0], NET[1], NET[3]), weight > 0, y.copy()
    bad[~rows] = np.nan if y.dtype.kind == "f" else 10**6
    value, grads = fn.value_and_grad(net, X, bad, loss, weight)
    wanted, others = fn.value_and_grad(net, X[rows], y[rows], loss, weight[rows])
    assert value == pytest.approx(wanted, rel=1e-6)
    for one, other in zip(fn.named_arrays(grads).values(), fn.named_arrays(others).values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)
    everything = fn.evaluate(net, X, bad, loss, weight)
    assert everything == pytest.approx(fn.evaluate(net, X[rows], y[rows], loss, weight[rows]), rel=1e-6)


def test_an_epoch_of_weight_0_has_no_loss_to_fit() -> None:
    """``minibatches`` refuses weights that are all 0; ``fit`` refuses an epoch of batches that have no weight."""
    with pytest.raises(fn.ConfigError, match=r"^minibatches: at least one weight must be positive, got only zeros$"):
        fn.minibatches(X, IDS, 3, weight=np.zeros(12, np.float32))
    batches = fn.minibatches(X, IDS, 3, weight=np.array([0.0] * 6 + [1.0] * 6))[:2]
    step, state = runs(fn.softmax_cross_entropy)["train_step"]
    with pytest.raises(fn.ConfigError, match="the epoch had no example that counts"):
        list(fn.fit(step, fn.Fit.create(state), lambda _: batches, epochs=1))
