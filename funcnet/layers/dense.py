"""Dense: the fully connected layer."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from funcnet.arithmetic import matmul_last, sum_outer, sum_rows
from funcnet.core.arrays import Array, FloatDType, Weight
from funcnet.core.checks import check_array, check_channels, check_count, check_row_shape
from funcnet.core.records import evolve
from funcnet.core.trees import float_dtype
from funcnet.layers.channels import per_channel
from funcnet.network.layer import Layer, Shape, register_layer
from funcnet.random.initializers import Initializer, check_initializer, first_bias, glorot_normal
from funcnet.random.keys import Key, check_key, keyed


@frozen(eq=False)
class Dense(Layer):
    """Affine map ``y = x @ weight + bias``. Shapes: x (B, I), weight (I, O), bias (O,) or None, y (B, O).

    Without a bias, the map is linear. A Dense layer also maps each position of x (B, ..., I), such as the steps of a
    sequence (B, T, I), to y (B, ..., O).

    PyTorch's ``Linear`` stores the transposed weight, (O, I). Keras' ``Dense`` stores (I, O), as funcnet does.

    Source: Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors", Nature 323 (1986).

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0, 2.0]]), bias=np.array([0.0, 1.0]))
        >>> fn.forward(layer, np.array([[3.0]]))  # 3 * 1 + 0 and 3 * 2 + 1
        array([[3., 7.]])
        >>> grad_x, grad = fn.backward(layer, np.array([[3.0]]), np.array([[1.0, 10.0]]))
        >>> grad_x, grad.weight, grad.bias  # 1 * 1 + 10 * 2; 3 * 1 and 3 * 10; 1 and 10
        (array([[21.]]), array([[ 3., 30.]]), array([ 1., 10.]))
        >>> fn.forward(layer, np.ones((4, 7, 1))).shape  # seven positions in each of four rows
        (4, 7, 2)
    """

    weight: Weight
    bias: Array | None = None

    def check(self) -> None:
        """Check that weight is a matrix with at least one input and one output, and that a bias fits it."""
        check_array("Dense", "weight", self.weight, ("I", "O"))
        check_count("Dense", "weight's in_size", self.weight.shape[0])
        check_count("Dense", "weight's out_size", self.weight.shape[1])
        if self.bias is not None:
            check_array("Dense", "bias", self.bias, (self.weight.shape[1],), match=("weight", self.weight))


def dense_forward(params: Dense, x: Array) -> Array:
    """``y = x @ weight + bias``: y[b, o] is the sum over i of x[b, i] weight[i, o], plus bias[o]."""
    check_channels("Dense", x, "weight", params.weight)
    y = matmul_last(x, params.weight)
    return y if params.bias is None else y + params.bias


def dense_backward(params: Dense, x: Array, g: Array) -> tuple[Array, Dense]:
    """The gradients of ``L = <g, y>``.

    ``dL/dx[b, i]`` is the sum over o of g[b, o] weight[i, o], so ``grad_x = g @ weight.T``. ``dL/dweight[i, o]`` is the
    sum over b of x[b, i] g[b, o], so ``grad_weight = x.T @ g``, the sum of the rows' outer products. ``dL/dbias[o]`` is
    the sum over b of g[b, o], so ``grad_bias = g.sum(axis=0)``. With positions, these sums are over all of them, too.
    """
    grad_x, rows = matmul_last(g, params.weight.T), per_channel(g)
    weight = sum_outer(per_channel(x), rows)
    return grad_x, evolve(params, weight=weight, bias=None if params.bias is None else sum_rows(rows))


def dense_output_shape(params: Dense, shape: Shape) -> Shape:
    """Map the row shape (..., I) to (..., O)."""
    in_size, out_size = params.weight.shape
    check_row_shape("Dense", shape, ("...", in_size), ("weight", params.weight))
    return (*shape[:-1], out_size)


register_layer(
    Dense, forward=dense_forward, backward=dense_backward, output_shape=dense_output_shape, name="funcnet.Dense"
)


@keyed
def dense(
    key: Key,
    in_size: int,
    out_size: int,
    *,
    bias: bool = True,
    init: Initializer = glorot_normal,
    bias_init: Initializer | None = None,
    dtype: FloatDType = np.float32,
) -> Dense:
    """Create a Dense layer with a random weight, and a bias that is zero or random, or no bias.

    Args:
        key: The key of the draw.
        in_size: The number of inputs, I.
        out_size: The number of outputs, O.
        bias: Whether the layer has a bias. The weight is the same with and without it.
        init: The initializer of the weight. The default is Glorot's normal, as in the post.
        bias_init: The initializer of the bias. It draws an array of the weight's shape from ``key.child("bias")``, and
            the first row is the bias. None makes the bias 0.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If a size is not a positive int, an initializer is not a function, the dtype is invalid, or an
            initializer is given for a bias that the layer does not have.

    Example:
        >>> dense(Key(0), 784, 100)
        Dense(weight=float32 (784, 100), bias=float32 (100,))
        >>> dense(Key(0), 784, 100, bias=False)
        Dense(weight=float32 (784, 100), bias=None)
        >>> import funcnet as fn
        >>> uniform = fn.initializers.glorot_uniform
        >>> dense(Key(0), 8, 2, init=uniform, bias_init=uniform).bias  # as in scikit-learn
        array([-0.654151  ,  0.13155887], dtype=float32)
    """
    check_key("dense", key)
    in_size, out_size = check_count("dense", "in_size", in_size), check_count("dense", "out_size", out_size)
    check_initializer("dense", "init", init)
    kind = float_dtype(dtype)
    weight = init(key, (in_size, out_size), kind)  # before the bias: it refuses sizes that are too large
    return Dense(weight, first_bias("dense", key, (in_size, out_size), kind, bias_init, bias=bias))
