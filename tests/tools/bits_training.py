"""Hashes of optimizers, schedules, data, metrics and whole runs, in portable arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final, TypeAlias, cast

import numpy as np
from attrs import frozen
from bits_data import KEY, AnyArray, Hashes, arrays, hashed, scaled
from optimizer_table import OPTIMIZERS

import funcnet as fn
from funcnet.random import permutation, uniform

# ----------------------------------------------------------------------------------- optimizers and schedules


def optimizers() -> Hashes:
    """Yield the fingerprints of the state after steps of each optimizer."""
    step = fn.train_step(fn.mean_squared_error)
    net = fn.dense(KEY.child("optimizer"), 5, 6), fn.LeakyReLU(), fn.dense(KEY.child("optimizer", 2), 6, 3)
    batches = [fn.Batch(scaled(KEY.child("x", b), 8, 5), scaled(KEY.child("y", b), 8, 3)) for b in range(12)]
    for name, optimizer in OPTIMIZERS.items():
        state = fn.TrainState.create(net, optimizer, key=KEY)
        for batch in batches:
            state, _ = step(state, batch)
        yield name, fn.fingerprint(state)[:16]
    yield "global_norm", hashed([fn.global_norm(net)])
    yield "clip_by_global_norm", hashed(arrays(fn.clip_by_global_norm(net, 0.5)))
    yield "clip_by_value", hashed(arrays(fn.clip_by_value(net, 0.1)))
    yield "sgd_update", hashed(arrays(fn.sgd_update(net, net, learning_rate=0.3)))


SCHEDULES: Final[dict[str, fn.Schedule]] = {
    "constant": fn.constant(0.1),
    "cosine_decay": fn.cosine_decay(0.3, steps=297, final=0.01),
    "cosine_restarts": fn.cosine_restarts(0.3, period=5, multiplier=3, final=0.01),
    "exponential_decay": fn.exponential_decay(0.3, gamma=0.97),
    "exponential_decay, over ten steps": fn.exponential_decay(0.3, gamma=0.5, steps=10),
    "join_schedules": fn.join_schedules([fn.linear_warmup(0.1, steps=30), fn.one_cycle(0.1, steps=200)], [30]),
    "linear_warmup": fn.linear_warmup(0.05, steps=131, initial=0.01),
    "one_cycle": fn.one_cycle(0.3, steps=297),
    "piecewise_constant": fn.piecewise_constant([0.3, 0.1], [99]),
    "polynomial_decay": fn.polynomial_decay(0.3, steps=297, power=2.5, final=0.01),
    "step_decay": fn.step_decay(0.3, step_size=7, gamma=0.7),
}


def schedules() -> Hashes:
    """Yield the hashes of the rates of each schedule."""
    for name, schedule in SCHEDULES.items():
        yield name, hashed([[schedule(step) for step in range(400)]])


# ------------------------------------------------------------------------------------------------------ data

ROWS: Final = 40


@cache
def images() -> fn.Batch[AnyArray]:
    """Return images with class ids."""
    pixels = (256 * uniform(KEY.child("images"), (ROWS, 8, 8, 2))).astype(np.uint8)
    return fn.Batch(fn.scale_images(pixels), np.arange(ROWS, dtype=np.int64) % 3)


def _both(batches: Iterable[fn.Batch[Any, Any] | fn.Table]) -> list[AnyArray]:
    return [array for batch in batches for array in (batch.x, batch.y)]


DATA: Final[dict[str, Callable[[], Iterable[object]]]] = {
    "RandomShift": lambda: [fn.RandomShift(2)(KEY, images()).x],
    "RandomFlip": lambda: [fn.RandomFlip()(KEY, images()).x],
    "RandomNoise": lambda: [fn.RandomNoise(0.1)(KEY, images()).x],
    "scale_images": lambda: [images().x],
    "one_hot": lambda: [fn.one_hot(images().y, 3)],
    "minibatches": lambda: _both(fn.minibatches(images().x, images().y, 16, key=KEY)),
    "split": lambda: _both(fn.split(images().x, images().y, 0.3, key=KEY)),
    "split, stratified": lambda: _both(fn.split(images().x, images().y, 0.3, key=KEY, stratify=True)),
    "standardize": lambda: arrays(fn.standardize(images().x)),
    "table": lambda: _both([fn.table({"a": [1, 2.5, -1e30], "b": [True, False, True]}, ["x", "y", "x"])]),
    "windows": lambda: _both(fn.windows(permutation(KEY, 500).astype(np.int64), 7, 4, key=KEY)),
}


def data() -> Hashes:
    """Yield the hashes of prepared data."""
    for name, compute in DATA.items():
        yield name, hashed(compute())


# ---------------------------------------------------------------------------------------------------- metrics


@frozen
class Answers:
    """Predictions and targets in the forms that metrics take. Shapes: (B,) or (B, 4)."""

    probabilities: fn.Array
    labels: AnyArray
    scores: fn.Array
    truths: AnyArray
    numbers: fn.Array
    targets: fn.Array

    @property
    def classes(self) -> AnyArray:
        """The class ids with the highest probability."""
        classes: AnyArray = self.probabilities.argmax(axis=1)
        return classes


def answers() -> Answers:
    """Return random predictions, some of which are equal, and random targets."""
    key = KEY.child("answers")
    return Answers(
        fn.arithmetic.softmax(np.rint(scaled(key, 60, 4))),
        (4 * uniform(key.child("labels"), (60,))).astype(np.int64),
        np.rint(8 * scaled(key.child("scores"), 60, 4)),
        uniform(key.child("truths"), (60, 4)) < 0.4,
        scaled(key.child("numbers"), 60, 3),
        scaled(key.child("targets"), 60, 3),
    )


Metric: TypeAlias = Callable[[Answers, "fn.Array | None"], object]
m = fn.metrics
METRICS: Final[dict[str, Metric]] = {
    "accuracy": lambda a, w: m.accuracy(a.classes, a.labels, weight=w),
    "accuracy of labels": lambda a, w: m.accuracy(a.scores > 0, a.truths, weight=w),
    "average_precision": lambda a, w: m.average_precision(a.scores, a.truths, weight=w),
    "balanced_accuracy": lambda a, w: m.balanced_accuracy(a.classes, a.labels, weight=w),
    "brier_score": lambda a, w: m.brier_score(a.probabilities, a.labels, weight=w),
    "confusion_matrix": lambda a, w: m.confusion_matrix(a.classes, a.labels, weight=w),
    "f1": lambda a, w: m.f1(a.classes, a.labels, weight=w),
    "f1, weighted": lambda a, w: m.f1(a.classes, a.labels, average="weighted", weight=w),
    "f1 of labels": lambda a, w: m.f1(a.scores > 0, a.truths, average=None, weight=w),
    "hamming_loss": lambda a, w: m.hamming_loss(a.scores > 0, a.truths, weight=w),
    "log_loss": lambda a, w: m.log_loss(a.probabilities, a.labels, weight=w),
    "mae": lambda a, w: m.mae(a.numbers, a.targets, weight=w),
    "matthews": lambda a, w: m.matthews(a.classes, a.labels, weight=w),
    "mse": lambda a, w: m.mse(a.numbers, a.targets, weight=w),
    "multilabel_confusion_matrix": lambda a, w: m.multilabel_confusion_matrix(a.scores > 0, a.truths, weight=w),
    "precision": lambda a, w: m.precision(a.classes, a.labels, weight=w),
    "precision_recall_curve": lambda a, w: m.precision_recall_curve(a.scores[:, 0], a.truths[:, 0], weight=w),
    "r2": lambda a, w: m.r2(a.numbers, a.targets, weight=w),
    "recall": lambda a, w: m.recall(a.classes, a.labels, weight=w),
    "roc_auc": lambda a, w: m.roc_auc(a.scores[:, 0], a.truths[:, 0], weight=w),
    "roc_auc of classes": lambda a, w: m.roc_auc(a.probabilities, a.labels, weight=w),
    "roc_curve": lambda a, w: m.roc_curve(a.scores[:, 0], a.truths[:, 0], weight=w),
    "top_k_accuracy": lambda a, w: m.top_k_accuracy(a.probabilities, a.labels, k=2, weight=w),
}


def metrics() -> Hashes:
    """Yield the hashes of each metric, without and with weights."""
    given = answers()
    weight = uniform(KEY.child("weight"), (60,)).astype(np.float32)
    for name, metric in METRICS.items():
        for form, w in (("", None), (", weighted rows", weight)):
            value = metric(given, w)
            yield f"{name}{form}", hashed(cast("tuple[object, ...]", value) if isinstance(value, tuple) else [value])


# ------------------------------------------------------------------------------------------------------- runs


@frozen
class Run:
    """A network, and the data and settings that it is trained with."""

    net: fn.Network
    x: AnyArray
    optimizer: fn.Optimizer = fn.Momentum(learning_rate=0.05)  # noqa: RUF009  # immutable
    shard_size: int | None = None


def _dense(number: int, in_size: int, out_size: int) -> fn.Dense:
    return fn.dense(KEY.child("dense", number), in_size, out_size)


def _runs() -> dict[str, Run]:
    """Return the runs by name: each trains on replayed programs, for three classes."""
    first, last = _dense(0, 6, 12), _dense(1, 12, 3)
    kernel, end = fn.conv2d(KEY.child("kernel"), 2, 4, 3), _dense(2, 36, 3)
    rows, ids = scaled(KEY.child("rows"), ROWS, 6), (9 * uniform(KEY.child("ids"), (ROWS, 3))).astype(np.int64)
    words, steps = fn.embedding(KEY.child("words"), 9, 6), scaled(KEY.child("steps"), ROWS, 3, 6)
    norms = (first, fn.layer_norm(12), fn.GELU(), _dense(3, 12, 12), fn.batch_norm(12), fn.SiLU(), fn.rms_norm(12))
    inner = (_dense(4, 6, 6), fn.Tanh(), _dense(5, 6, 6), fn.Dropout(0.3))
    block = fn.transformer_block(KEY.child("block"), 6, 2, dropout=0.1)
    adam, rms = fn.AdamW(learning_rate=0.01), fn.RMSprop(learning_rate=0.01, centered=True, momentum=0.5)
    return {
        "Dropout before ReLU": Run((first, fn.Dropout(0.5), fn.ReLU(), last, fn.Dropout(0.5), fn.ReLU()), rows),
        "Dropout before pooling": Run(
            (kernel, fn.Dropout(0.5), fn.MaxPool2D(2), fn.ELU(), fn.Flatten(), end), images().x
        ),
        "norms": Run((*norms, fn.Softplus(), last), rows, adam),
        "Residual": Run((fn.Residual(inner), fn.GELUTanh(), _dense(6, 6, 3)), rows, rms),
        "sharded steps": Run((fn.Residual(inner), fn.Sigmoid(), _dense(6, 6, 3)), rows, adam, 5),
        "RNN": Run((fn.rnn(KEY, 6, 12), fn.LastStep(), last), steps),
        "GRU": Run((fn.gru(KEY, 6, 12), fn.MeanOverTime(), last), steps, adam),
        "LSTM with padding": Run((fn.Masked((words, fn.lstm(KEY, 6, 12), fn.LastStep())), last), ids, adam),
        "attention": Run((words, block, fn.MeanOverTime(), _dense(6, 6, 3)), ids, adam),
    }


def _batches(x: AnyArray, epoch: int, member: int = 0) -> fn.Minibatches[AnyArray]:
    return fn.minibatches(x, np.arange(ROWS) % 3, 8, key=KEY.child("shuffle", epoch, member))


def runs() -> Hashes:
    """Yield the fingerprint of the state after two epochs of each run, and of networks that are trained together."""
    for name, run in _runs().items():
        state = fn.TrainState.create(run.net, run.optimizer, key=KEY)
        step = fn.train_step(fn.softmax_cross_entropy, shard_size=run.shard_size)
        for epoch in range(2):
            state, _ = fn.train_epoch(step, state, _batches(run.x, epoch))
        yield name, fn.fingerprint(state)[:16]
        yield f"{name}, predictions", hashed(_predictions(state.params, run.x))
    yield "train_together", fn.fingerprint(_together())[:16]


def _predictions(net: fn.Network, x: AnyArray) -> list[object]:
    net = fn.calibrate(net, x)
    value = fn.evaluate(net, x, np.arange(ROWS) % 3, fn.softmax_cross_entropy)
    return [fn.outputs(net, x), fn.predict_proba(net, x, fn.Multiclass()), value]


def _together() -> tuple[object, ...]:
    """Return three states, whose networks and batches differ, after two epochs."""
    x = scaled(KEY.child("together"), ROWS, 6)
    states = [
        fn.TrainState.create(fn.mlp(KEY.child(i), (6, 9, 3)), fn.Adam(learning_rate=0.01 * (i + 1)), key=KEY.child(i))
        for i in range(3)
    ]
    step = fn.train_step(fn.softmax_cross_entropy)
    *_, last = fn.train_together(step, states, lambda epoch, i: _batches(x, epoch, i), epochs=range(2))
    return tuple(state for state, _ in last)
