"""Embedding: the layer that turns ids into trained rows."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from funcnet.arithmetic import sum_by_id
from funcnet.core.arrays import Array, FloatDType, Weight
from funcnet.core.checks import check_array, check_count, check_ids
from funcnet.core.records import evolve, fields_of
from funcnet.core.trees import float_dtype
from funcnet.network.layer import Layer, Network, Shape, register_layer
from funcnet.random.initializers import Initializer, check_initializer, random_normal
from funcnet.random.keys import Key, check_key, keyed


@frozen(eq=False)
class Embedding(Layer):
    """``y = weight[x]``: one trained row for each id. Shapes: x (B, ...) of ids, weight (V, C), y (B, ..., C).

    The ids are integers of any dtype, from 0 to V - 1: x is (B,) for one id per row, or (B, T) for sequences. The layer
    is a Dense layer without bias whose input is one-hot, computed without the zeros. Weight decay applies to the
    weight, as it does there and in PyTorch. In a step, it also shrinks the rows of ids that do not occur in the batch.

    Source: Bengio, Ducharme, Vincent and Jauvin, "A neural probabilistic language model", JMLR 3 (2003).

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Embedding(weight=np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        >>> fn.forward(layer, np.array([[2, 0]]))
        array([[[5., 6.],
                [1., 2.]]])
        >>> grad_x, grad = fn.backward(layer, np.array([1, 0, 1]), np.array([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]]))
        >>> grad.weight  # id 1 occurs twice: 1 + 10 and 2 + 20; id 2 does not occur
        array([[ 3.,  4.],
               [11., 22.],
               [ 0.,  0.]])
        >>> grad_x  # ids are not differentiated
        array([0., 0., 0.])
    """

    weight: Weight

    def check(self) -> None:
        """Check that weight is a matrix with at least one id and one output."""
        check_array("Embedding", "weight", self.weight, ("V", "C"))
        check_count("Embedding", "weight's count", self.weight.shape[0])
        check_count("Embedding", "weight's size", self.weight.shape[1])


def embedding_forward(params: Embedding, x: Array) -> Array:
    """``y = weight[x]``: ``y[b, t, c] = weight[x[b, t], c]``."""
    ids = check_ids("Embedding", "x", x, len(params.weight))
    return params.weight.take(ids, axis=0, mode="clip")  # faster than "raise", and no id is out of range


def embedding_backward(params: Embedding, x: Array, g: Array) -> tuple[Array, Embedding]:
    """``dy[b, t, c] / dweight[v, c]`` is 1 where x[b, t] is v, else 0.

    Therefore ``grad_weight = sum_by_id(g, x, V)``: row v is the sum of the g[b, t] with x[b, t] = v. An id cannot move
    a little, so ``grad_x = 0``.
    """
    count, size = params.weight.shape
    ids = check_ids("Embedding", "x", x, count)
    return np.zeros(x.shape, g.dtype), evolve(params, weight=sum_by_id(g.reshape(-1, size), ids.reshape(-1), count))


def embedding_output_shape(params: Embedding, shape: Shape) -> Shape:
    """Map the row shape (...) to (..., C)."""
    return *shape, params.weight.shape[1]


register_layer(
    Embedding,
    forward=embedding_forward,
    backward=embedding_backward,
    output_shape=embedding_output_shape,
    name="funcnet.Embedding",
)


@keyed
def embedding(
    key: Key,
    count: int,
    size: int,
    *,
    init: Initializer = random_normal(1.0),  # noqa: B008  # a value
    dtype: FloatDType = np.float32,
) -> Embedding:
    """Create an Embedding with random rows.

    Args:
        key: The key of the draw.
        count: The number of ids, V.
        size: The number of outputs for each id, C.
        init: The initializer of the weight. The default is the standard normal distribution, as in PyTorch.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If a size is not a positive int, the initializer is not a function, or the dtype is invalid.

    Example:
        >>> embedding(Key(0), 27, 8)
        Embedding(weight=float32 (27, 8))
    """
    check_key("embedding", key)
    count, size = check_count("embedding", "count", count), check_count("embedding", "size", size)
    check_initializer("embedding", "init", init)
    return Embedding(weight=init(key, (count, size), float_dtype(dtype)))


def takes_ids(params: Network) -> bool:
    """Whether a network's input is ids: its first layer is an Embedding, also in a combinator."""
    if isinstance(params, tuple):
        return any(takes_ids(inner) for inner in [inner for inner in params if inner != ()][:1])
    networks = (getattr(params, name) for name in fields_of(type(params)).every_network)
    return isinstance(params, Embedding) or any(map(takes_ids, networks))
