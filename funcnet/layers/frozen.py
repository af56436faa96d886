"""Frozen: a combinator that takes a network out of training."""

from __future__ import annotations

from typing import Annotated, Generic

from attrs import frozen

from funcnet.core.arrays import FIXED, Array
from funcnet.network.layer import Layer, N, Shape, register_layer
from funcnet.network.modes import check_evaluation
from funcnet.network.passes import backward, forward, output_shape


@frozen(eq=False)
class Frozen(Layer, Generic[N]):
    """``y = net(x)``, and nothing in net is trained, decayed or updated. Shapes: x (B, ...), y (B, ...) as net has it.

    Freezing is data: wrap the network to freeze it, take ``.net`` out again to train it. A gradient goes through to
    what stands before; nothing else is computed on net's account, and before the first layer that is trained nothing
    at all.

    It stays the evaluation network, in training too: ``training`` and ``calibrate`` leave net alone, so that Dropout
    is the identity and BatchNorm keeps the statistics that it was calibrated with, as Keras' BatchNormalization does
    under ``trainable = False``; PyTorch's ``requires_grad_(False)`` leaves both to ``eval()``. So net must be in its
    plain form and, with BatchNorm, calibrated before it is frozen.

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
        """The network is one that evaluates."""
        check_evaluation(self.net, "Frozen")


def frozen_forward(params: Frozen[N], x: Array) -> Array:
    """``y = net(x)``."""
    return forward(params.net, x)


def frozen_backward(params: Frozen[N], x: Array, g: Array) -> tuple[Array, Frozen[N]]:
    """``grad_x`` is net's; there is no other gradient."""
    return backward(params.net, x, g)[0], params


def frozen_output_shape(params: Frozen[N], shape: Shape) -> Shape:
    """The network's."""
    return output_shape(params.net, shape)


register_layer(
    Frozen, forward=frozen_forward, backward=frozen_backward, output_shape=frozen_output_shape, name="funcnet.Frozen"
)
