"""JAX, compiled per step and per epoch: data on the device, parameters donated, one synchronization per epoch.

A batch is gathered inside the compiled step. NumPy draws the order, which is faster than JAX on a CPU.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import Predictor
from benchmarks.workloads import LEARNING_RATE, Floats, Problem

Parameters: TypeAlias = list[tuple[jax.Array, jax.Array]]


def initial(problem: Problem) -> Parameters:
    """Return the problem's initial network in new arrays, because the compiled functions consume them."""
    return [(jnp.array(w, jnp.float32), jnp.zeros(w.shape[1], jnp.float32)) for w in problem.weights]


def logits(params: Parameters, x: jax.Array) -> jax.Array:
    """Return the network's output."""
    for weight, bias in params[:-1]:
        x = jnp.maximum(x @ weight + bias, 0)
    return x @ params[-1][0] + params[-1][1]


def cross_entropy(params: Parameters, x: jax.Array, y: jax.Array) -> jax.Array:
    """Return the mean over the batch."""
    output = logits(params, x)
    shares = jax.nn.log_softmax(output) * jax.nn.one_hot(y, output.shape[1])
    return -jnp.mean(jnp.sum(shares, axis=1))


def step(params: Parameters, x: jax.Array, y: jax.Array, index: Any) -> tuple[Parameters, jax.Array]:
    """Make one update with the rows that the index selects."""
    loss, grads = jax.value_and_grad(cross_entropy)(params, x[index], y[index])
    new: Parameters = jax.tree.map(lambda p, g: p - LEARNING_RATE * g, params, grads)
    return new, loss


def scan(params: Parameters, x: jax.Array, y: jax.Array, order: Any) -> tuple[Parameters, jax.Array]:
    """Make one update per row of the order, shape (steps, B)."""
    result: tuple[Parameters, jax.Array] = jax.lax.scan(lambda p, index: step(p, x, y, index), params, order)
    return result


class Training:
    """The common part of both forms."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.params = initial(problem)
        self.x, self.y = jnp.array(problem.x32), jnp.array(problem.labels, jnp.int32)
        self.rng = np.random.default_rng(0)

    def start(self) -> None:
        """Create new arrays."""
        self.params = jax.block_until_ready(initial(self.problem))

    def order(self) -> NDArray[np.int32]:
        """Return the rows of every step, shape (steps, B)."""
        count = self.problem.steps * self.problem.batch_size
        order = self.rng.permutation(count) if self.problem.shuffle else np.arange(count)
        return order.astype(np.int32).reshape(-1, self.problem.batch_size)

    def weights(self) -> list[Floats]:
        """Return the weights as NumPy arrays."""
        return [np.asarray(weight) for weight, _ in self.params]


class Steps(Training):
    """A compiled step, called from Python."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.step: Any = jax.jit(step, donate_argnums=0)

    def epoch(self) -> float:
        """Train one epoch; losses stay on the device until its end."""
        losses: list[jax.Array] = []
        for index in self.order():
            self.params, loss = self.step(self.params, self.x, self.y, index)
            losses.append(loss)
        jax.block_until_ready(self.params)
        return float(np.mean(jax.device_get(losses)))


class Epochs(Training):
    """A compiled epoch."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.scan: Any = jax.jit(scan, donate_argnums=0)

    def epoch(self) -> float:
        """Train one epoch in one call."""
        self.params, losses = jax.block_until_ready(self.scan(self.params, self.x, self.y, self.order()))
        return float(losses.mean())


def train_steps(problem: Problem) -> Steps:
    """Train with a compiled step, called from Python."""
    return Steps(problem)


def train_epochs(problem: Problem) -> Epochs:
    """Train with a compiled epoch."""
    return Epochs(problem)


def predict(problem: Problem) -> Predictor:
    """Predict all rows at once, compiled."""
    params, x = initial(problem), jnp.array(problem.x32)
    classes: Any = jax.jit(lambda params, x: logits(params, x).argmax(axis=1))
    return lambda: np.asarray(classes(params, x))
