"""The floor: only a step's matrix products, into preallocated arrays, each by the faster of NumPy's two functions.

There are three products per layer (output, weight gradient, input gradient) and two for the first layer.
The operands do not change: there is no shuffling, no loss and no update.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import Predictor
from benchmarks.workloads import Floats, Precision, Problem

Product: TypeAlias = "partial[object]"


def quickest(a: Floats, b: Floats, out: Floats) -> Product:
    """Return ``out = a @ b`` by ``np.matmul`` or by ``np.dot``, whichever is faster."""

    def seconds(product: Product) -> float:
        start = perf_counter()
        product()
        return perf_counter() - start

    candidates = [partial(np.matmul, a, b, out), partial(np.dot, a, b, out)]
    times = [[seconds(product) for product in candidates] for _ in range(11)]
    return candidates[int(np.argmin(np.median(times, axis=0)))]


class Products:
    """The products of one batch, repeated."""

    def __init__(self, problem: Problem, precision: Precision) -> None:
        self.steps = problem.steps
        self.initial = [weight.astype(precision) for weight in problem.weights]
        rng = np.random.default_rng(1)
        values = [rng.standard_normal((problem.batch_size, size)).astype(precision) for size in problem.sizes]
        values[0] = problem.x(precision)[: problem.batch_size].copy()
        self.products: list[Product] = []
        for layer, weight in enumerate(self.initial):
            x, g = values[layer], values[layer + 1]
            self.products.append(quickest(x, weight, np.empty_like(g)))
            self.products.append(quickest(x.T, g, np.empty_like(weight)))
            if layer:
                self.products.append(quickest(g, weight.T, np.empty_like(x)))

    def start(self) -> None:
        """Do nothing, because nothing changes."""

    def epoch(self) -> float:
        """Run as many steps as an epoch of the other contenders has."""
        for _ in range(self.steps):
            for product in self.products:
                product()
        return 0.0

    def weights(self) -> list[Floats]:
        """Return the initial weights."""
        return self.initial


class ImageProducts(Products):
    """The products of a LeNet: its patches exist beforehand, one row for each position of a kernel."""

    def __init__(self, problem: Problem) -> None:
        self.steps, self.initial = problem.steps, [weight.astype("float32") for weight in problem.weights]
        self.products = []
        rng = np.random.default_rng(1)
        places = (28 * 28, 10 * 10, 1, 1, 1)
        for position, (weight, each) in enumerate(zip(self.initial, places, strict=True)):
            matrix = weight.reshape(-1, weight.shape[-1])
            x = rng.standard_normal((problem.batch_size * each, len(matrix)), np.float32)
            g = rng.standard_normal((len(x), matrix.shape[1]), np.float32)
            self.products.append(quickest(x, matrix, np.empty_like(g)))
            self.products.append(quickest(x.T, g, np.empty_like(matrix)))
            if position:
                self.products.append(quickest(g, matrix.T, np.empty_like(x)))


def train_images(problem: Problem) -> ImageProducts:
    """Return the products of a LeNet in float32."""
    return ImageProducts(problem)


def chain(problem: Problem, precision: Precision) -> Predictor:
    """Return the forward products over all rows at once."""
    value = problem.x(precision)
    products: list[Product] = []
    for weight in problem.weights:
        out = np.empty((len(value), weight.shape[1]), precision)
        products.append(partial(np.matmul, value, weight.astype(precision), out))
        value = out
    nobody = np.zeros(len(value), np.intp)

    def predict() -> NDArray[np.integer]:
        for product in products:
            product()
        return nobody

    return predict


def train32(problem: Problem) -> Products:
    """Return the training products in float32."""
    return Products(problem, "float32")


def train64(problem: Problem) -> Products:
    """Return the training products in float64."""
    return Products(problem, "float64")


def predict32(problem: Problem) -> Predictor:
    """Return the prediction products in float32."""
    return chain(problem, "float32")


def predict64(problem: Problem) -> Predictor:
    """Return the prediction products in float64."""
    return chain(problem, "float64")
