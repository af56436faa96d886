"""Frozen: a combinator that excludes a network from training."""

from __future__ import annotations

from typing import Annotated, Generic

from attrs import frozen

from funcnet.core.arrays import FIXED, Array
from funcnet.network.layer import Layer, N, Shape, register_layer
from funcnet.network.modes import check_evaluation
from funcnet.network.passes import backward, forward, output_shape


@frozen(eq=False)
class Frozen(Layer, Generic[N]):
    """``y = net(x)`` without training, decay or updates of net. Shapes: x (B, ...), y (B, ...) is net's output.

    Freezing is data: wrap the network to freeze it; unwrap ``.net`` to train it again. The gradient passes through net
    to the layers before it. No other gradient is computed for net. The backward pass stops at the first trained layer.

    The network is the evaluation network in training, too. ``training`` and ``calibrate`` do not change net: Dropout
    is the identity, and BatchNorm keeps its calibrated statistics. Keras' BatchNormalization does the same under
    ``trainable = False``; PyTorch's ``requires_grad_(False)`` leaves both to ``eval()``. Therefore net must be in its
    plain form, and a BatchNorm in it must be calibrated, before net is frozen.

    Source: Yosinski, Clune, Bengio and Lipson, "How transferable are features in deep neural networks?", NIPS 2014.

    Example:
        >>> import numpy as np
        >>> import funcnet as fn
        >>> base = fn.Dense(weight=np.eye(2), bias=np.zeros(2)), fn.ReLU()
        >>> net = Frozen(base), fn.Dense(weight=np.ones((2, 2)), bias=np.zeros(2))
        >>> x, y = np.array([[1.0, -1.0]]), np.array([1])
        >>> step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
        >>> tuned, loss = step(net, fn.Batch(x, y))
        >>> fn.equal(tuned[0], net[0]), fn.equal(tuned[1], net[1])
        (True, False)
    """

    net: Annotated[N, FIXED]

    def check(self) -> None:
        """Check that the network is in its plain form, with its statistics."""
        check_evaluation(self.net, "Frozen")


def frozen_forward(params: Frozen[N], x: Array) -> Array:
    """``y = net(x)``."""
    return forward(params.net, x)


def frozen_backward(params: Frozen[N], x: Array, g: Array) -> tuple[Array, Frozen[N]]:
    """``grad_x`` is net's, because ``y = net(x)``; net's parameters are constants without gradients."""
    return backward(params.net, x, g)[0], params


def frozen_output_shape(params: Frozen[N], shape: Shape) -> Shape:
    """The output shape of net."""
    return output_shape(params.net, shape)


register_layer(
    Frozen, forward=frozen_forward, backward=frozen_backward, output_shape=frozen_output_shape, name="funcnet.Frozen"
)
