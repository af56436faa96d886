"""Every assertion of the post "Neural networks from scratch", restated for funcnet with the post's numbers.

The post's Sigmoid is ``Tanh`` in funcnet. Run: python examples/from_the_post.py
"""

from __future__ import annotations

import numpy as np

import funcnet as fn

RTOL = 1e-3  # the post's tolerance, with atol=0


def check_elementwise() -> None:
    """The gradient of the mean of an activation agrees with central differences."""
    x = np.linspace(-1, 1, 10 * 32).reshape([10, 32])

    def check(layer: fn.Layer) -> None:
        grads = fn.backward(layer, x, np.ones([10, 32]) / (32 * 10))[0]
        numeric = fn.numerical_gradient(lambda x: float(fn.forward(layer, x).mean()), x)
        assert np.allclose(grads, numeric, rtol=RTOL, atol=0), f"{layer}: the gradient does not match the numerical one"

    check(fn.ReLU())
    check(fn.Tanh())


def check_initial_weights() -> None:
    """Initial weights have zero mean and small variance, initial biases have zero mean."""
    weight, bias = fn.trained_arrays(fn.dense(fn.Key(42), 128, 150))
    assert -0.05 < weight.mean() < 0.05
    assert 1e-3 < weight.std() < 1e-1
    assert -0.05 < bias.mean() < 0.05


def check_dense_forward() -> None:
    """Dense with fixed weights returns the post's outputs."""
    x = np.linspace(-1, 1, 2 * 3).reshape([2, 3])
    layer = fn.Dense(weight=np.linspace(-1, 1, 3 * 4).reshape([3, 4]), bias=np.linspace(-1, 1, 4))
    wanted = [[0.07272727, 0.41212121, 0.75151515, 1.09090909], [-0.90909091, 0.08484848, 1.07878788, 2.07272727]]
    assert np.allclose(fn.forward(layer, x), wanted)


def check_dense_backward() -> None:
    """All gradients of Dense agree with central differences; the post reads two of them off changed weights."""
    x = np.linspace(-1, 1, 10 * 32).reshape([10, 32])
    layer = fn.dense(fn.Key(42), 32, 64, dtype=np.float64)
    grads = fn.backward(layer, x, np.ones([10, 64]))[0]
    numeric = fn.numerical_gradient(lambda x: float(fn.forward(layer, x).sum()), x)
    assert np.allclose(grads, numeric, rtol=RTOL, atol=0), "the input gradient does not match the numerical one"

    def output(weight: fn.Array, bias: fn.Array) -> float:
        return float(fn.forward(fn.Dense(weight=weight, bias=bias), x).mean(0).sum())

    weight, bias = np.asarray(layer.weight), np.linspace(-1, 1, 64)
    before = fn.Dense(weight=weight, bias=bias)
    grad = fn.backward(before, x, np.ones([10, 64]) / 10.0)[1]
    assert [array.shape for array in fn.trained_arrays(grad)] == [weight.shape, bias.shape]
    after_weight, after_bias = fn.trained_arrays(fn.sgd_update(before, grad, learning_rate=1.0))
    numeric_dw = fn.numerical_gradient(lambda weight: output(weight, bias), weight)
    numeric_db = fn.numerical_gradient(lambda bias: output(weight, bias), bias)
    assert np.allclose(numeric_dw, weight - after_weight, rtol=RTOL, atol=0), "the weight gradient is wrong"
    assert np.allclose(numeric_db, bias - after_bias, rtol=RTOL, atol=0), "the bias gradient is wrong"


def check_loss() -> None:
    """The gradient of the mean cross-entropy with respect to the logits agrees with central differences."""
    logits = np.linspace(-1, 1, 500).reshape([50, 10])
    answers = np.arange(50) % 10
    grads = fn.softmax_cross_entropy(logits, answers)[1]
    numeric = fn.numerical_gradient(lambda logits: fn.softmax_cross_entropy(logits, answers)[0], logits)
    assert np.allclose(numeric, grads, rtol=RTOL, atol=0)


def check_network() -> None:
    """A network returns one activation per layer; the last one is the logits."""
    net = fn.mlp(fn.Key(42), (784, 100, 200, 10))
    assert len(fn.activations(net, np.zeros((32, 784), np.float32))) == len(net)


def check_minibatches() -> None:
    """Different numbers of inputs and targets raise an error; the post has an assertion."""
    try:
        fn.minibatches(np.zeros((10, 2)), np.zeros(9, np.int64), 5)
    except fn.ShapeError:
        return
    raise AssertionError("minibatches must refuse 10 inputs with 9 targets")


def main() -> None:
    """Run every check."""
    dense = (check_initial_weights, check_dense_forward, check_dense_backward)
    for check in (check_elementwise, *dense, check_loss, check_network, check_minibatches):
        check()
        print(f"holds: {check.__doc__}")


if __name__ == "__main__":
    main()
