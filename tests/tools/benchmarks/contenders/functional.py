"""funcnet through its public API: ``train_epoch`` over ``minibatches``, with a key for the order of every epoch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

import funcnet as fn
from benchmarks.contenders import Predictor
from benchmarks.workloads import LEARNING_RATE, Floats, Precision, Problem

S = TypeVar("S", tuple[fn.Layer, ...], fn.TrainState[tuple[fn.Layer, ...]])
Labels = NDArray[np.int64]


@frozen(eq=False)
class Rectifier(fn.Layer):
    """ReLU, registered like a user's activation."""


fn.register_elementwise(Rectifier, value=lambda _, x: np.maximum(x, 0), slope=lambda _, x, __: x > 0)


def network(
    problem: Problem, precision: Precision, activation: Callable[[int], tuple[fn.Layer, ...]] = lambda _: (fn.ReLU(),)
) -> tuple[fn.Layer, ...]:
    """Return the problem's initial network, with the layers for that width after each Dense except the last."""
    layers: list[fn.Layer] = []
    for weight in problem.weights:
        bias = np.zeros(weight.shape[1], precision)
        layers += [fn.Dense(weight=weight.astype(precision), bias=bias), *activation(len(bias))]
    return tuple(layers[: -len(activation(1))])


class Fold(Generic[S]):
    """An epoch as a fold of a step over batches, in an arithmetic."""

    def __init__(
        self,
        problem: Problem,
        precision: Precision,
        step: fn.Step[S, fn.Batch[Labels]],
        state: S,
        arithmetic: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.problem, self.x, self.arithmetic = problem, problem.x(precision), arithmetic
        self.step: fn.Step[S, fn.Batch[Labels]] = step
        self.initial: S = state
        self.state: S = state
        self.epochs = 0

    def start(self) -> None:
        """Return to the initial state, which still exists."""
        self.state = self.initial

    def epoch(self) -> float:
        """Train one epoch; each epoch has its own key."""
        key = fn.Key(0).child("shuffle", self.epochs) if self.problem.shuffle else None
        batches = fn.minibatches(self.x, self.problem.labels, self.problem.batch_size, key=key)
        with self.arithmetic():
            self.state, log = fn.train_epoch(self.step, self.state, batches)
        self.epochs += 1
        return log.mean_loss

    def program(self) -> fn.StepProgram:
        """Trace the step again, and return its program."""
        batch = fn.minibatches(self.x, self.problem.labels, self.problem.batch_size, key=fn.Key(0))[0]
        with self.arithmetic():
            return fn.program(self.step, self.initial, batch)

    def weights(self) -> list[Floats]:
        """Return the weights of the Dense and Conv2D layers."""
        net = self.state.params if isinstance(self.state, fn.TrainState) else self.state
        return [layer.weight for layer in net if isinstance(layer, fn.Dense | fn.Conv2D)]


def train(problem: Problem, precision: Precision) -> Fold[tuple[fn.Layer, ...]]:
    """Train with ``sgd_step``."""
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=LEARNING_RATE)
    return Fold(problem, precision, step, network(problem, precision))


def train32(problem: Problem) -> Fold[tuple[fn.Layer, ...]]:
    """Train with ``sgd_step`` in float32."""
    return train(problem, "float32")


def train64(problem: Problem) -> Fold[tuple[fn.Layer, ...]]:
    """Train with ``sgd_step`` in float64."""
    return train(problem, "float64")


def train_momentum(problem: Problem) -> Fold[fn.TrainState[tuple[fn.Layer, ...]]]:
    """Train with ``train_step`` and Momentum in float32, at a tenth of the learning rate."""
    optimizer = fn.Momentum(learning_rate=LEARNING_RATE / 10)
    state = fn.TrainState.create(network(problem, "float32"), optimizer, key=fn.Key(0))
    return Fold(problem, "float32", fn.train_step(fn.softmax_cross_entropy), state)


def train_adam(problem: Problem) -> Fold[fn.TrainState[tuple[fn.Layer, ...]]]:
    """Train with ``train_step`` and Adam in float32."""
    return adam(problem, network(problem, "float32"))


def adam(problem: Problem, net: tuple[fn.Layer, ...]) -> Fold[fn.TrainState[tuple[fn.Layer, ...]]]:
    """Train this network with ``train_step`` and Adam in float32."""
    state = fn.TrainState.create(net, fn.Adam(learning_rate=LEARNING_RATE / 100), key=fn.Key(0))
    return Fold(problem, "float32", fn.train_step(fn.softmax_cross_entropy), state)


def train_users(problem: Problem) -> Fold[tuple[fn.Layer, ...]]:
    """Train with ``sgd_step`` in float32, with an activation that this module registers."""
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=LEARNING_RATE)
    return Fold(problem, "float32", step, network(problem, "float32", lambda _: (Rectifier(),)))


def train_portable(problem: Problem) -> Fold[tuple[fn.Layer, ...]]:
    """Train with ``sgd_step`` in float32 and portable arithmetic."""
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=LEARNING_RATE)
    return Fold(problem, "float32", step, network(problem, "float32"), fn.portable)


def train_normalized(problem: Problem) -> Fold[fn.TrainState[tuple[fn.Layer, ...]]]:
    """Train with ``train_step`` and Adam in float32, with LayerNorm, GELU and Dropout."""
    net = network(problem, "float32", lambda units: (fn.layer_norm(units), fn.GELU(), fn.Dropout(0.1)))
    return adam(problem, net)


def train_images(problem: Problem) -> Fold[tuple[fn.Layer, ...]]:
    """Train a LeNet with ``sgd_step`` in float32."""
    kernels, matrices = problem.weights[:2], problem.weights[2:]
    zeros = [np.zeros(weight.shape[-1], np.float32) for weight in problem.weights]
    first, second = (
        fn.Conv2D(weight.astype(np.float32), bias, padding=padding)
        for weight, bias, padding in zip(kernels, zeros, (2, 0), strict=False)
    )
    dense = [fn.Dense(weight.astype(np.float32), bias) for weight, bias in zip(matrices, zeros[2:], strict=True)]
    net = (
        *(first, fn.ReLU(), fn.MaxPool2D(2), second, fn.ReLU(), fn.MaxPool2D(2), fn.Flatten()),
        *(dense[0], fn.ReLU(), dense[1], fn.ReLU(), dense[2]),
    )
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=LEARNING_RATE)
    return Fold(problem, "float32", step, net)


def predict(problem: Problem, precision: Precision) -> Predictor:
    """Predict with ``fn.predict``."""
    net, x = network(problem, precision), problem.x(precision)
    return lambda: fn.predict(net, x, fn.Multiclass())


def predict32(problem: Problem) -> Predictor:
    """Predict with ``fn.predict`` in float32."""
    return predict(problem, "float32")


def predict64(problem: Problem) -> Predictor:
    """Predict with ``fn.predict`` in float64."""
    return predict(problem, "float64")
