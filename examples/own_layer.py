"""A layer of your own: a trained slope for each feature's negative side (PReLU), registered, checked, trained.

Run: python examples/own_layer.py
"""

from __future__ import annotations

import numpy as np
from attrs import evolve, frozen

import funcnet as fn
from funcnet.arithmetic import sum_rows


@frozen(eq=False)
class PReLU(fn.Layer):
    """``y = max(x, 0) + slope * min(x, 0)``. Shapes: x (B, I), slope (I,), y (B, I). Source: He et al., ICCV 2015."""

    slope: fn.Array


def prelu_forward(params: PReLU, x: fn.Array) -> fn.Array:
    """Each feature's negative side by its own slope."""
    return np.maximum(x, 0) + params.slope * np.minimum(x, 0)


def prelu_backward(params: PReLU, x: fn.Array, g: fn.Array) -> tuple[fn.Array, PReLU]:
    """``dy/dx`` is 1 or the slope; ``dy/dslope`` is the negative part of x, summed over the batch."""
    return g * np.where(x > 0, 1, params.slope), evolve(params, slope=sum_rows(g * np.minimum(x, 0)))


fn.register_layer(PReLU, forward=prelu_forward, backward=prelu_backward)


def main() -> None:
    """Check the layer's gradients, then learn which of two interleaved half circles a point is on."""
    slope = np.full(16, 0.25, np.float32)
    key = fn.Key(0)
    net = (fn.dense(key.child(0), 2, 16), PReLU(slope), fn.dense(key.child(1), 16, 2))
    angle = np.linspace(0, np.pi, 100)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x = np.concatenate([upper, [1, 0.5] - upper]).astype(np.float32)
    y = np.repeat([0, 1], 100)

    print(fn.check_gradients(net, x[::40]))
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
    run = fn.train(
        step, net, lambda epoch: fn.minibatches(x, y, 10, key=key.child("shuffle", epoch)), epochs=range(200)
    )
    *_, (trained, log) = run
    print(f"Mean loss of the last epoch: {log.mean_loss:.4f}")
    print(f"Accuracy: {fn.accuracy(fn.predict(trained, x), y):.4f}")
    print(f"Slopes, from 0.25 each: {np.array2string(trained[1].slope, precision=2, suppress_small=True)}")


if __name__ == "__main__":
    main()
