"""The network of the post "Neural networks from scratch", as the post writes it: float64, layers that train themselves.

The progress bar is omitted, and the layers take their initial weights as arguments.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import Predictor
from benchmarks.workloads import LEARNING_RATE, Floats, Problem

Labels = NDArray[np.int64]


class ReLU:
    """The post's ReLU."""

    def forward(self, x: Floats) -> Floats:
        """Apply elementwise ReLU."""
        out: Floats = np.maximum(0, x)
        return out

    def backward(self, x: Floats, grad_output: Floats) -> Floats:
        """Compute gradient of loss w.r.t. ReLU input."""
        relu_grad = x > 0
        return grad_output * relu_grad


class Dense:
    """The post's Dense: each call of backward updates the weights."""

    def __init__(self, weights: Floats, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self.weights: Floats = weights.copy()
        self.biases: Floats = np.zeros(weights.shape[1])

    def forward(self, x: Floats) -> Floats:
        """Perform an affine transformation."""
        out: Floats = x @ self.weights + self.biases
        return out

    def backward(self, x: Floats, grad_output: Floats) -> Floats:
        """Compute gradient of loss w.r.t. dense input, and update the weights."""
        grad_input: Floats = grad_output @ self.weights.T
        grad_weights: Floats = x.T @ grad_output
        grad_biases: Floats = grad_output.sum(axis=0)
        assert grad_weights.shape == self.weights.shape
        assert grad_biases.shape == self.biases.shape
        self.weights = self.weights - self.learning_rate * grad_weights
        self.biases = self.biases - self.learning_rate * grad_biases
        return grad_input


def softmax_crossentropy_with_logits(logits: Floats, reference_answers: Labels) -> Floats:
    """Compute crossentropy from logits[batch,n_classes] and ids of correct answers."""
    logits_for_answers = logits[np.arange(len(logits)), reference_answers]
    xentropy: Floats = -logits_for_answers + np.log(np.sum(np.exp(logits), axis=-1))
    return xentropy


def grad_softmax_crossentropy_with_logits(logits: Floats, reference_answers: Labels) -> Floats:
    """Compute crossentropy gradient from logits[batch,n_classes] and ids of correct answers."""
    ones_for_answers = np.zeros_like(logits)
    ones_for_answers[np.arange(len(logits)), reference_answers] = 1
    softmax = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    grad: Floats = (-ones_for_answers + softmax) / logits.shape[0]
    return grad


class Network:
    """The post's Network, for any sizes."""

    def __init__(self, weights: list[Floats]) -> None:
        network: list[Dense | ReLU] = []
        for weight in weights:
            network += [Dense(weight, LEARNING_RATE), ReLU()]
        self.network = network[:-1]

    def forward(self, x: Floats) -> list[Floats]:
        """Return a list of activations for each layer."""
        activations: list[Floats] = []
        for layer in self.network:
            activations.append(layer.forward(x))
            x = activations[-1]
        assert len(activations) == len(self.network)
        return activations

    def predict(self, x: Floats) -> NDArray[np.intp]:
        """Compute network predictions."""
        logits = self.forward(x)[-1]
        ids: NDArray[np.intp] = logits.argmax(axis=-1)
        return ids

    def fit(self, x: Floats, y: Labels) -> float:
        """Train the network on a given batch."""
        layer_activations = self.forward(x)
        layer_inputs = [x, *layer_activations]
        logits = layer_activations[-1]
        loss = softmax_crossentropy_with_logits(logits, y)
        loss_grad = grad_softmax_crossentropy_with_logits(logits, y)
        for layer_i in range(len(self.network))[::-1]:
            layer = self.network[layer_i]
            loss_grad = layer.backward(layer_inputs[layer_i], loss_grad)
        return float(np.mean(loss))


def iterate_minibatches(
    inputs: Floats, targets: Labels, batchsize: int, *, shuffle: bool = False
) -> Iterator[tuple[Floats, Labels]]:
    """Cut the examples into batches; an incomplete last batch is dropped."""
    assert len(inputs) == len(targets)
    indices = np.random.permutation(len(inputs)) if shuffle else np.arange(0)
    for start_idx in range(0, len(inputs) - batchsize + 1, batchsize):
        excerpt = indices[start_idx : start_idx + batchsize] if shuffle else slice(start_idx, start_idx + batchsize)
        yield inputs[excerpt], targets[excerpt]


class Training:
    """The post's training loop."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.x = problem, problem.x64
        self.network = Network(problem.weights)

    def start(self) -> None:
        """Create a new network."""
        self.network = Network(self.problem.weights)

    def epoch(self) -> float:
        """Fit every batch."""
        problem = self.problem
        batches = iterate_minibatches(self.x, problem.labels, problem.batch_size, shuffle=problem.shuffle)
        return float(np.mean([self.network.fit(x_batch, y_batch) for x_batch, y_batch in batches]))

    def weights(self) -> list[Floats]:
        """Return the weights of the Dense layers."""
        return [layer.weights for layer in self.network.network if isinstance(layer, Dense)]


def train(problem: Problem) -> Training:
    """Train with the post's loop."""
    return Training(problem)


def predict(problem: Problem) -> Predictor:
    """Predict with the post's predict."""
    network, x = Network(problem.weights), problem.x64
    return lambda: network.predict(x)
