"""Softmax: the layer that turns logits into probabilities."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from funcnet.arithmetic import exp, sum_last
from funcnet.core.arrays import Array
from funcnet.core.checks import check_array, check_count, check_row_shape
from funcnet.network.layer import Layer, Shape, register_layer


@frozen(eq=False)
class Softmax(Layer):
    """``y = exp(x) / sum(exp(x))`` over the last axis: positive numbers whose sum is 1. Shapes: x, y (B, ..., C).

    **Losses take logits**, so a classifier ends without this layer. ``softmax_cross_entropy`` after it is wrong: it
    would apply softmax a second time, and the loss could not come near 0. ``predict_proba(net, x, fn.Multiclass())``
    returns the probabilities of a network that ends with logits. This layer is for weights inside a network, such as
    those of attention or of a mixture.

    Source: Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(Softmax(), np.array([[0.0, 0.0], [1e4, -1e4]]))
        array([[0.5, 0.5],
               [1. , 0. ]])
    """


def softmax_forward(_: Softmax, x: Array) -> Array:
    """``y = exp(x - m) / sum(exp(x - m))``; with the maximum m of each row, no exponential overflows."""
    check_array("Softmax", "x", x, ("B", "...", "C"))
    check_count("Softmax", "the size of the last axis", x.shape[-1])
    shares = exp(x - np.maximum.reduce(x, axis=-1, keepdims=True))
    return shares / sum_last(shares)


def softmax_backward(params: Softmax, x: Array, g: Array) -> tuple[Array, Softmax]:
    """``dy[i] / dx[j] = y[i] (delta[i, j] - y[j])``, so ``grad_x = y * (g - sum(g * y))``.

    The sum of y is 1, so a number subtracted from all of g changes nothing. The g of the largest y is subtracted first:
    where that y rounds to 1, the difference would otherwise lose the digits of the others.
    """
    y = softmax_forward(params, x)
    largest = (y == np.maximum.reduce(y, axis=-1, keepdims=True)).astype(y.dtype)
    rest = g - sum_last(g * largest) / sum_last(largest)
    return y * (rest - sum_last(rest * y)), params


def softmax_output_shape(_: Softmax, shape: Shape) -> Shape:
    """The shape of y's rows, which is that of x's rows, (..., C)."""
    check_row_shape("Softmax", shape, ("...", "C"))
    return shape


register_layer(
    Softmax,
    forward=softmax_forward,
    backward=softmax_backward,
    output_shape=softmax_output_shape,
    name="funcnet.Softmax",
)
