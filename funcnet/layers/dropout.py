"""Dropout: a layer that draws random numbers; its key is a field."""

from __future__ import annotations

from attrs import frozen

from funcnet.core.arrays import Array
from funcnet.core.checks import check_batch, check_number
from funcnet.core.records import evolve
from funcnet.network.layer import Layer, register_layer
from funcnet.random.draws import uniform
from funcnet.random.keys import Key, check_key


@frozen(eq=False)
class Dropout(Layer):
    """Set a share ``rate`` of the elements to 0 and divide the rest by ``1 - rate``; without a key, the identity.

    ``rate`` is the share that is *dropped*. Shapes: x, y (B, ...). ``training(net, key)`` gives the layer its key. The
    same key gives the same mask.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014),
    in the "inverted" form, which scales in training instead of in evaluation.

    Example:
        >>> import numpy as np
        >>> import funcnet as fn
        >>> x = np.ones((1, 6))
        >>> fn.forward(Dropout(0.5), x)
        array([[1., 1., 1., 1., 1., 1.]])
        >>> fn.forward(Dropout(0.5, key=Key(0)), x)
        array([[0., 0., 0., 0., 2., 0.]])
    """

    rate: float
    key: Key | None = None

    def check(self) -> None:
        """Check that the rate is in [0, 1) and that the key is a Key or None."""
        check_number("Dropout", "rate", self.rate, low=0, high=1, closed=True)
        if self.key is not None:
            check_key("Dropout", self.key)


def mask(key: Key, rate: float, x: Array) -> Array:
    """The random mask of 0 (dropped) and ``1 / (1 - rate)`` (kept), with the shape and dtype of x."""
    kept = uniform(key, x.shape) >= rate
    scale: Array = kept * x.dtype.type(1 / (1 - rate))
    return scale


def dropout_forward(params: Dropout, x: Array) -> Array:
    """``y = x * scale``, where scale is 0 or ``1 / (1 - rate)``; without a key, ``y = x``."""
    check_batch("Dropout", x)
    return x if params.key is None else x * mask(params.key, params.rate, x)


def dropout_backward(params: Dropout, x: Array, g: Array) -> tuple[Array, Dropout]:
    """``grad_x = g * scale``, because ``dy/dx = scale``; without a key, ``grad_x = g``."""
    return g if params.key is None else g * mask(params.key, params.rate, x), params


def dropout_training(params: Dropout, key: Key) -> Dropout:
    """The layer in its training form, which has a key."""
    return evolve(params, key=key)


register_layer(
    Dropout,
    forward=dropout_forward,
    backward=dropout_backward,
    training=dropout_training,
    is_training=lambda params: params.key is not None,
    output_shape=lambda _, shape: shape,
    name="funcnet.Dropout",
)
