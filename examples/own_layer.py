"""Your own layer (PReLU), loss, optimizer and step: pure functions, which funcnet traces like its built-in ones.

Run: python examples/own_layer.py
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from attrs import evolve, frozen

import funcnet as fn
from funcnet.arithmetic import maximum, mean, minimum, sum_rows

N = TypeVar("N", bound=fn.Network)


@frozen(eq=False)
class PReLU(fn.Layer):
    """``y = max(x, 0) + slope * min(x, 0)``. Shapes: x (B, I), slope (I,), y (B, I). Source: He et al., ICCV 2015."""

    slope: fn.Array


def prelu_forward(params: PReLU, x: fn.Array) -> fn.Array:
    """Multiply the negative part of each feature by the slope of that feature."""
    return maximum(x, 0) + params.slope * minimum(x, 0)


def prelu_backward(params: PReLU, x: fn.Array, g: fn.Array) -> tuple[fn.Array, PReLU]:
    """``dy/dx`` is 1 or the slope; ``dy/dslope`` is the negative part of x, summed over the batch."""
    return g * np.where(x > 0, 1, params.slope), evolve(params, slope=sum_rows(g * minimum(x, 0)))


fn.register_layer(PReLU, forward=prelu_forward, backward=prelu_backward)


def squared_hinge(prediction: fn.Array, target: fn.Array) -> tuple[float, fn.Array]:
    """The mean of ``max(0, 1 - t y)²`` for targets t of -1 or 1, and its gradient with respect to y. Shapes: (B, 1)."""
    gap = maximum(1 - target * prediction, 0)
    return mean(gap * gap), gap * target * (-2 / len(gap))


@frozen
class HeavyBall:
    """``v' = 0.9 v + g``, ``p - rate * v'``, with a learning rate that falls with the number of updates."""

    rate: float

    def init(self, params: N, /) -> fn.Moments[N]:
        """The initial moments: a velocity of zero."""
        return fn.Moments.of(velocity=fn.map_parameters(np.zeros_like, params))

    def update(self, params: N, grads: N, moments: fn.Moments[N], step: int, /) -> tuple[N, fn.Moments[N]]:
        """The parameters and moments after one update."""
        rate = self.rate / (1 + step / 100)
        velocity = fn.map_parameters(lambda v, g: 0.9 * v + g, moments["velocity"], grads)
        return fn.map_parameters(lambda p, v: p - rate * v, params, velocity), fn.Moments.of(velocity=velocity)


OPTIMIZER: fn.Optimizer = HeavyBall(rate=0.05)


class State(NamedTuple):
    """The state of a run between two steps."""

    net: tuple[fn.Dense, PReLU, fn.Dense]
    moments: fn.Moments[tuple[fn.Dense, PReLU, fn.Dense]]
    step: int


def learn(state: State, batch: fn.Batch[fn.Array]) -> tuple[State, float]:
    """Update the network on a batch and return the loss before the update."""
    loss, grads = fn.value_and_grad(state.net, batch.x, batch.y, squared_hinge)
    net, moments = OPTIMIZER.update(state.net, grads, state.moments, state.step)
    return State(net, moments, state.step + 1), loss


def main() -> None:
    """Check the gradients, train a classifier of points on two half circles, and print a report of the traced step."""
    key = fn.Key(0)
    net = (fn.dense(key.child(0), 2, 16), PReLU(np.full(16, 0.25, np.float32)), fn.dense(key.child(1), 16, 1))
    angle = np.linspace(0, np.pi, 100)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x = np.concatenate([upper, [1, 0.5] - upper]).astype(np.float32)
    y = np.repeat(np.array([[-1], [1]], np.float32), 100, axis=0)
    print(fn.check_gradients(net, x[::40]))
    state = State(net, OPTIMIZER.init(net), 0)
    for epoch in range(200):
        state, _ = fn.train_epoch(learn, state, fn.minibatches(x, y, 10, key=key.child("shuffle", epoch)))
    print(f"Accuracy: {np.mean(np.sign(fn.forward(state.net, x)) == y):.4f}")
    print(f"Slopes, from 0.25 each: {np.array2string(state.net[1].slope, precision=2, suppress_small=True)}")
    report = fn.program(learn, state, fn.Batch(x[:10], y[:10]))
    print(f"A step: {report.calls} NumPy calls; untraced: {report.opaque or 'nothing'}")


if __name__ == "__main__":
    main()
