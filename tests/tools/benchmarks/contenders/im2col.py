"""A LeNet in plain NumPy, as in tutorials: float32, patches by ``sliding_window_view``, their gradients by loops.

Layers store their inputs and update their own weights, as in the post.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.contenders.post import grad_softmax_crossentropy_with_logits, softmax_crossentropy_with_logits
from benchmarks.workloads import LEARNING_RATE, Floats, Problem


class Layer(Protocol):
    """A layer, whose forward stores what its backward needs."""

    def forward(self, x: Floats) -> Floats:
        """Return the output."""
        ...

    def backward(self, g: Floats) -> Floats:
        """Return the input gradient, and update the weights."""
        ...


class Affine:
    """A matrix and a bias."""

    def __init__(self, weight: Floats) -> None:
        self.weight: Floats = weight.astype(np.float32)
        self.bias: Floats = np.zeros(weight.shape[-1], np.float32)
        self.x: Floats = self.bias

    def forward(self, x: Floats) -> Floats:
        """Return ``x @ weight + bias``."""
        self.x = x
        y: Floats = x @ self.weight + self.bias
        return y

    def backward(self, g: Floats) -> Floats:
        """Return the input gradient, and update the weights as in the post."""
        grad_x: Floats = g @ self.weight.T
        self.weight -= np.float32(LEARNING_RATE) * (self.x.T @ g)
        self.bias -= np.float32(LEARNING_RATE) * g.sum(axis=0)
        return grad_x


class Convolution:
    """A convolution: all patches are rows of one matrix, which an affine layer maps."""

    def __init__(self, kernels: Floats, padding: int) -> None:
        self.size, self.padding, self.channels = kernels.shape[0], padding, kernels.shape[2]
        self.shape = kernels.shape
        self.affine = Affine(kernels.reshape(-1, kernels.shape[3]))
        self.images: tuple[int, ...] = ()

    def forward(self, x: Floats) -> Floats:
        """Return the patches, shape (B * OH * OW, KH * KW * C), times the kernels."""
        p = self.padding
        x = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
        self.images = x.shape
        windows = sliding_window_view(x, (self.size, self.size), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
        count, height, width = windows.shape[:3]
        y = self.affine.forward(windows.reshape(count * height * width, -1))
        return y.reshape(count, height, width, -1)

    def backward(self, g: Floats) -> Floats:
        """Add each patch's gradient at the place of the patch."""
        count, height, width = g.shape[:3]
        patches = self.affine.backward(g.reshape(count * height * width, -1))
        patches = patches.reshape(count, height, width, self.size, self.size, self.channels)
        grad_x = np.zeros(self.images, np.float32)
        for i in range(self.size):
            for j in range(self.size):
                grad_x[:, i : i + height, j : j + width] += patches[:, :, :, i, j]
        p = self.padding
        return grad_x[:, p : self.images[1] - p, p : self.images[2] - p]


class MaxPool:
    """The maximum over 2 x 2 windows, by a reshape."""

    def __init__(self) -> None:
        self.mask = np.zeros(0, np.bool_)

    def forward(self, x: Floats) -> Floats:
        """Put the four numbers of a window in one row, and store the place of the first maximum."""
        count, height, width, channels = x.shape
        windows = x.reshape(count, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 5, 2, 4)
        fours = windows.reshape(*windows.shape[:4], 4)
        self.mask = np.arange(4) == fours.argmax(axis=-1)[..., None]
        y: Floats = fours.max(axis=-1)
        return y

    def backward(self, g: Floats) -> Floats:
        """Return the image's gradient."""
        fours = g[..., None] * self.mask
        count, height, width, channels = g.shape
        windows = fours.reshape(count, height, width, channels, 2, 2).transpose(0, 1, 4, 2, 5, 3)
        return windows.reshape(count, height * 2, width * 2, channels)


class ReLU:
    """The post's ReLU."""

    def __init__(self) -> None:
        self.x: Floats = np.zeros(0)

    def forward(self, x: Floats) -> Floats:
        """Return the positive part."""
        self.x = x
        y: Floats = np.maximum(x, 0)
        return y

    def backward(self, g: Floats) -> Floats:
        """Return g where x was positive."""
        grad_x: Floats = g * (self.x > 0)
        return grad_x


class Flatten:
    """Images as rows."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()

    def forward(self, x: Floats) -> Floats:
        """Flatten in C order."""
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, g: Floats) -> Floats:
        """Restore the images' shape."""
        return g.reshape(self.shape)


class Training:
    """The post's training loop."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.start()

    def start(self) -> None:
        """Create a new network."""
        first, second, *dense = self.problem.weights
        self.trained: list[Convolution | Affine] = [Convolution(first, 2), Convolution(second, 0), *map(Affine, dense)]
        one, two, three, four, five = self.trained
        self.network: list[Layer] = [one, ReLU(), MaxPool(), two, ReLU(), MaxPool(), Flatten()]
        self.network += [three, ReLU(), four, ReLU(), five]

    def epoch(self) -> float:
        """Train on every batch once."""
        problem, losses = self.problem, list[float]()
        count = len(problem.labels)
        order = np.random.default_rng().permutation(count) if problem.shuffle else np.arange(count)
        for index in order.reshape(problem.steps, problem.batch_size):
            x, y = problem.x32[index], problem.labels[index]
            for layer in self.network:
                x = layer.forward(x)
            losses.append(float(softmax_crossentropy_with_logits(x, y).mean()))
            g = grad_softmax_crossentropy_with_logits(x, y)
            for layer in self.network[::-1]:
                g = layer.backward(g)
        return float(np.mean(losses))

    def weights(self) -> list[Floats]:
        """Return the weights, kernels as (KH, KW, C, O)."""
        return [
            layer.affine.weight.reshape(layer.shape) if isinstance(layer, Convolution) else layer.weight
            for layer in self.trained
        ]


def train(problem: Problem) -> Training:
    """Train with the post's loop."""
    return Training(problem)
