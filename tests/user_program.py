"""A typed program as users write it: mypy and pyright accept all of it and refuse every line of ``refused``.

The program also runs: ``test_types.py`` calls ``main``.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TypeAlias, assert_type

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

import funcnet as fn
from funcnet.core.arrays import Labels
from funcnet.loops.steps import SGDStep, TrainStep

Net: TypeAlias = tuple[fn.Dense, fn.ReLU, fn.Residual[tuple[fn.Dense, fn.Tanh]], tuple[fn.Dropout, fn.Dense]]


@frozen(eq=False)
class Scale(fn.Layer):
    """A custom layer: ``y = x * factor``."""

    factor: fn.Array


def scale_forward(params: Scale, x: fn.Array) -> fn.Array:
    """``y = x * factor``."""
    return x * params.factor


def scale_backward(params: Scale, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Scale]:
    """``grad_x = g * factor``; ``grad_factor`` is the sum of ``x * g`` over the batch."""
    ones = np.ones((1, len(x)), x.dtype)
    return g * params.factor, evolve(params, factor=fn.arithmetic.matmul(ones, x * g)[0])


fn.register_layer(Scale, forward=scale_forward, backward=scale_backward)


def network(key: fn.Key) -> Net:
    """A network of different kinds of layers."""
    inner = (fn.dense(key.child(1), 8, 8), fn.Tanh())
    net = (fn.dense(key.child(0), 6, 8), fn.ReLU(), fn.Residual(inner), (fn.Dropout(0.1), fn.dense(key.child(2), 8, 3)))
    assert_type(net, Net)
    return net


def gradients(net: Net, x: fn.Array, labels: NDArray[np.int64]) -> None:
    """The static type of a gradient is that of the network."""
    y, pull = fn.vjp(net, x)
    grad_x, grad = pull(y)
    assert_type(grad_x, fn.Array)
    assert_type(grad, Net)
    assert_type(fn.backward(net, x, y)[1], Net)
    loss, grad = fn.value_and_grad(net, x, labels, fn.softmax_cross_entropy)
    assert_type(loss, float)
    assert_type(grad, Net)
    assert_type(grad[0].bias, fn.Array | None)
    assert_type(fn.layer_norm((2, 3), offset=False).scale, fn.Array | None)
    assert_type(fn.sgd_update(net, grad, learning_rate=0.1), Net)
    assert_type(fn.astype(fn.training(net, fn.Key(0)), np.float64), Net)
    assert_type(fn.plain(fn.training(net, fn.Key(0))), Net)
    assert_type((*net[:2], Scale(np.ones(8, np.float32))), tuple[fn.Dense, fn.ReLU, Scale])
    assert_type(fn.mlp(fn.Key(0), (6, 3)), tuple[fn.Layer, ...])


@frozen
class Counts:
    """A custom task: the outputs are logarithms of rates, and the prediction is the nearest count."""

    def predictions(self, outputs: fn.Array, /) -> NDArray[np.int64]:
        """The counts."""
        return fn.arithmetic.exp(outputs).round().astype(np.int64)


def predictions(net: Net, x: fn.Array) -> None:
    """The task decides the type of a prediction."""
    one = (net, fn.dense(fn.Key(6), 3, 1))
    assert_type(fn.predict(net, x, fn.Multiclass()), NDArray[np.intp])
    assert_type(fn.predict(one, x, fn.Binary(threshold=0.3)), NDArray[np.bool_])
    assert_type(fn.predict(net, x, fn.Multilabel(threshold=(0.3, 0.5, 0.5)), rowwise=True), NDArray[np.bool_])
    assert_type(fn.predict(net, x, fn.Regression()), fn.Array)
    assert_type(fn.predict(net, x, Counts()), NDArray[np.int64])
    for task in (fn.Multiclass(), fn.Multilabel()):
        assert_type(fn.predict_proba(net, x, task), fn.Array)
    assert_type(fn.Multiclass().predictions(fn.outputs(net, x)), NDArray[np.intp])


def combined(net: Net, x: fn.Array, labels: NDArray[np.int64]) -> None:
    """Combinators keep the exact types of their networks, and so do gradients, updates, modes and unwrapping."""
    base = fn.Frozen((net[0], net[1]))
    assert_type(base, fn.Frozen[tuple[fn.Dense, fn.ReLU]])
    wide = fn.Parallel((fn.dense(fn.Key(1), 8, 8), (fn.ReLU(), net[2])), "concat")
    assert_type(wide, fn.Parallel[tuple[fn.Dense, tuple[fn.ReLU, fn.Residual[tuple[fn.Dense, fn.Tanh]]]]])
    deep = fn.Repeat((fn.dense(fn.Key(2), 16, 16), fn.Dropout(0.1)), 3)
    assert_type(deep, fn.Repeat[tuple[fn.Dense, fn.Dropout]])
    whole = (base, wide, deep, fn.dense(fn.Key(3), 16, 3))
    y, pull = fn.vjp(whole, x)
    assert_type(pull(y)[0], fn.Array)
    _, grad = fn.value_and_grad(whole, x, labels, fn.softmax_cross_entropy)
    whole = fn.sgd_update(whole, grad, learning_rate=0.1)
    assert_type(whole[0].net[0].weight, fn.Array)
    assert_type(whole[1].nets[1][1].net[0], fn.Dense)
    assert_type(fn.training(fn.calibrate(whole, x), fn.Key(4))[2].net, tuple[fn.Dense, fn.Dropout])
    assert_type(fn.Residual(fn.Repeat(fn.Frozen(net), 2)), fn.Residual[fn.Repeat[fn.Frozen[Net]]])
    state = fn.TrainState.create((base, net[3]), fn.Momentum(learning_rate=0.1), key=fn.Key(1))
    assert_type(state.params[0].net, tuple[fn.Dense, fn.ReLU])
    assert_type((*state.params[0].net, state.params[1]), tuple[fn.Dense, fn.ReLU, tuple[fn.Dropout, fn.Dense]])
    assert_type(fn.summary(whole, (6,)), fn.Summary)


def training(net: Net, x: fn.Array, labels: NDArray[np.int64]) -> None:
    """Steps in variables, folds, resumed folds, and runs."""
    batches = fn.minibatches(x, labels, 8, key=fn.Key(0))
    assert_type(batches, fn.Minibatches[NDArray[np.int64]])
    assert_type(batches[2:], fn.Minibatches[NDArray[np.int64]])
    assert_type(batches[0], fn.Batch[NDArray[np.int64]])

    plain = (net[0], net[1], net[3][1])
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
    assert_type(step, SGDStep[Labels])
    trained, log = fn.train_epoch(step, plain, batches)
    assert_type(trained, tuple[fn.Dense, fn.ReLU, fn.Dense])
    assert_type(log.mean_loss, float)

    keyed = fn.train_step(fn.softmax_cross_entropy)
    assert_type(keyed, TrainStep[Labels])
    state = fn.TrainState.create(net, fn.Momentum(learning_rate=0.1), key=fn.Key(1))
    assert_type(state, fn.TrainState[Net])
    for later, log in fn.train(keyed, state, lambda _: batches, epochs=range(2)):
        assert_type(later, fn.TrainState[Net])
        assert_type(later.moments, fn.Moments[Net])
        assert_type(later.moments["velocity"], Net)
        assert_type(log, fn.EpochLog)


def more_training(net: Net, x: fn.Array, labels: NDArray[np.int64]) -> None:
    """Nested optimizers, schedules, example weights, and losses with options."""
    optimizer = fn.ClipByGlobalNorm(fn.Averaging(fn.AdamW(learning_rate=fn.cosine_decay(0.1, steps=9))), max_norm=1.0)
    state = fn.TrainState.create(net, optimizer, key=fn.Key(1))
    batches = fn.minibatches(x, labels, 8, weight=np.ones(len(x)))
    for loss in (fn.SoftmaxCrossEntropy(label_smoothing=0.1), fn.softmax_cross_entropy):
        state, _ = fn.train_epoch(fn.train_step(loss), state, batches)
    assert_type(fn.averaged(state), Net)  # ty: ignore[type-assertion-failure]  # ty loses the type in the loop
    assert_type(fn.clip_by_global_norm(net, 1.0), Net)
    regression = fn.train_step(fn.Huber(delta=0.5))
    assert_type(regression, TrainStep[fn.Array])
    fn.train_epoch(regression, state, fn.minibatches(x, np.zeros((len(x), 3), np.float32), 8))


def several_inputs(x: fn.Array, labels: NDArray[np.int64]) -> None:
    """One array of inputs is the default; tuples of inputs and of targets keep their types, also in a split."""
    train, held_out = fn.split(x, labels, 8, key=fn.Key(0), stratify=labels)
    assert_type(train, fn.Batch[NDArray[np.int64]])
    assert_type(held_out.x, fn.Array)
    pairs = fn.minibatches((x, labels), (labels, x), 8)
    assert_type(pairs[1:], fn.Minibatches[tuple[NDArray[np.int64], fn.Array], tuple[fn.Array, NDArray[np.int64]]])
    assert_type(pairs[0].x, tuple[fn.Array, NDArray[np.int64]])
    assert_type(pairs[0].y[1], fn.Array)
    assert_type(fn.split((x, labels), x, 8, key=fn.Key(0))[0].x, tuple[fn.Array, NDArray[np.int64]])


def ids(text: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """Ids have their own type in the batches of a text; the built-in steps take them as they take floats."""
    net = (fn.embedding(fn.Key(7), 256, 4), fn.Flatten(), fn.dense(fn.Key(8), 12, 256))
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
    windows = fn.windows(text, 3, 2, key=fn.Key(9))
    assert_type(windows[1:], fn.Minibatches[NDArray[np.uint8], NDArray[np.uint8]])
    batches = [fn.Batch(batch.x, batch.y[:, -1]) for batch in windows]
    assert_type(batches, list[fn.Batch[NDArray[np.uint8], NDArray[np.uint8]]])
    net, _ = fn.train_epoch(step, net, batches)
    state = fn.TrainState.create(net, fn.Adam(learning_rate=0.1), key=fn.Key(1))
    state, _ = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), state, batches)
    net, _ = fn.train_epoch(step, state.params, fn.minibatches(text[:9].reshape(3, 3), labels[:3], 2))
    assert_type(fn.value_and_grad(net, batches[0].x, labels[:2], fn.softmax_cross_entropy)[1][0], fn.Embedding)
    assert_type(fn.evaluate(net, batches[0].x, labels[:2], fn.softmax_cross_entropy), float)


def small(key: fn.Key, inputs: int, outputs: int) -> tuple[fn.Dense, fn.Tanh, fn.Dense]:
    """A factory of networks, for an estimator."""
    return fn.dense(key.child(0), inputs, 4), fn.Tanh(), fn.dense(key.child(1), 4, outputs)


def estimators(x: fn.Array, labels: NDArray[np.int64]) -> None:
    """scikit-learn's methods return the estimator itself and arrays; parameters may be records and functions."""
    classifier = fn.estimators.Classifier(
        (8, 4), ("relu", fn.GELU()), max_iter=2, optimizer=fn.AdamW(learning_rate=0.1)
    )
    assert_type(classifier.fit(x.tolist(), ["a", "b"] * 20, np.ones(40)), fn.estimators.Classifier)
    assert_type(classifier.fit(x, labels), fn.estimators.Classifier)
    assert_type(classifier.predict_proba(x), fn.Array)
    assert_type(classifier.predict(x), NDArray[np.generic])
    assert_type(classifier.score(x, labels), float)
    assert_type(classifier.network_, fn.Network)
    assert_type(classifier.fit_.best_epoch, int | None)
    rate = fn.cosine_decay(0.1, steps=9)
    regressor = fn.estimators.Regressor(network=small, learning_rate=rate, loss=fn.Huber(delta=0.5), max_iter=2)
    assert_type(regressor.fit(x, x[:, 0], X_val=x, y_val=x[:, 0]), fn.estimators.Regressor)
    assert_type(regressor.predict(x), NDArray[np.float64])
    assert_type(regressor.validation_curve_, list[float] | None)
    assert_type(fn.estimators.Regressor(network=small).partial_fit(x, x), fn.estimators.Regressor)


def any_step(step: fn.Step[int, str], words: Iterable[str]) -> int:
    """The fold does not depend on networks."""
    return fn.train_epoch(step, 0, words)[0]


def main() -> None:
    """Run all functions on a few numbers."""
    x = fn.random.normal(fn.Key(5), (40, 6)).astype(np.float32)
    labels = np.arange(40) % 3
    net = network(fn.Key(0))
    gradients(net, x, labels)
    predictions(net, x)
    combined(net, x, labels)
    training(net, x, labels)
    more_training(net, x, labels)
    several_inputs(x, labels)
    ids(np.frombuffer(b"a text that is long enough", np.uint8), labels)
    if find_spec("sklearn") is not None:
        estimators(x, labels)
    assert any_step(lambda total, word: (total + len(word), 0.0), ["ab", "cde"]) == 5


def refused(net: Net, x: fn.Array, labels: Labels, batches: fn.Minibatches[Labels]) -> None:
    """No marked line may type-check; an unneeded ignore is an error in both checkers."""

    def wrong_backward(params: fn.Dense, x: fn.Array, g: fn.Array) -> tuple[fn.Array, fn.ReLU]:  # noqa: ARG001
        return g, fn.ReLU()

    def mean_squared_error(prediction: fn.Array, target: fn.Array) -> tuple[float, fn.Array]:
        return 0.0, prediction - target

    def relu_forward(params: fn.ReLU, x: fn.Array) -> fn.Array:  # noqa: ARG001
        return x

    step = fn.sgd_step(mean_squared_error, learning_rate=0.1)
    fn.forward((fn.ReLU(), 4), x)  # type: ignore[arg-type]  # an int is not a layer
    fn.backward((fn.ReLU(), 4), x, x)  # type: ignore[type-var]  # an int is not a layer
    fn.register_layer(Scale, forward=scale_forward, backward=wrong_backward)  # type: ignore[arg-type]  # different record
    fn.register_layer(Scale, forward=relu_forward, backward=scale_backward)  # type: ignore[arg-type]  # ReLU's forward
    fn.softmax_cross_entropy(x, x)  # type: ignore[arg-type]  # logits instead of labels
    fn.softmax_cross_entropy(labels, labels)  # type: ignore[arg-type]  # labels instead of logits
    fn.mean_squared_error(x, labels)  # type: ignore[arg-type]  # labels instead of float targets
    fn.Adam(learning_rate="0.1")  # type: ignore[arg-type]  # a string is not a rate
    fn.averaged(net)  # type: ignore[arg-type]  # a network is not a TrainState
    fn.value_and_grad(net, x, x, fn.softmax_cross_entropy)  # type: ignore[misc]  # float targets, but the loss takes labels
    fn.train_epoch(step, net, batches)  # type: ignore[arg-type]  # labels, but the loss takes float targets
    fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), net, batches)  # type: ignore[arg-type]  # not a TrainState
    step(net, fn.minibatches((x, x), x, 8)[0])  # type: ignore[arg-type]  # a built-in step takes one array of inputs
    fn.Batch([1.0], x)  # type: ignore[type-var]  # a list is not an array
    fn.Residual(4)  # type: ignore[type-var]  # an int is not a network
    fn.Frozen(4)  # type: ignore[type-var]  # an int is not a network
    fn.Parallel(net[0])  # type: ignore[type-var]  # one layer is not a tuple of branches
    fn.Parallel((net[0], 4))  # type: ignore[type-var]  # an int is not a branch
    fn.Parallel(net, "subtract")  # type: ignore[arg-type]  # invalid choice
    fn.Repeat(net, "2")  # type: ignore[arg-type]  # a string is not a number
    fn.Dense(weight="w", bias=x)  # type: ignore[arg-type]  # no converter accepts strings
    fn.mlp(4, (2, 3))  # type: ignore[arg-type]  # a seed is not a key
    fn.sgd_update(net, net, 0.1)  # type: ignore[call-arg]  # the learning rate is keyword-only
    fn.predict(net, x)  # type: ignore[call-arg]  # a network does not know its task
    fn.predict(net, x, fn.Multiclass)  # type: ignore[arg-type]  # a class is not a record
    fn.predict_proba(net, x, fn.Regression())  # type: ignore[arg-type]  # numbers have no probabilities
    fn.estimators.Classifier(activation="rleu")  # type: ignore[arg-type]  # misspelled
    fn.estimators.Regressor(loss="log_loss")  # type: ignore[arg-type]  # a loss of classes
    fn.estimators.Regressor(class_weight="balanced")  # type: ignore[call-arg]  # numbers have no classes
