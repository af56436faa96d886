"""Dropout: a layer that draws, with its key as a field."""

from __future__ import annotations

from functools import partial

import numpy as np
from attrs import frozen

from funcnet.arrays import Array, check_batch
from funcnet.draws import uniform
from funcnet.keys import Key, check_key
from funcnet.layer import Layer, Operation, Plan, Pullback, register_layer
from funcnet.records import evolve
from funcnet.settings import check_number


@frozen(eq=False)
class Dropout(Layer):
    """With a key, sets a share ``rate`` of the elements to 0 and divides the rest by ``1 - rate``; else the identity.

    ``rate`` is the share that is *dropped*. Shapes: x, y (B, ...). ``training(net, key)`` gives the layer its key; one
    key is one mask.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014);
    scaled in training instead of in evaluation ("inverted").

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
        """A rate in [0, 1), and a key or None."""
        check_number("Dropout", "rate", self.rate, low=0, high=1, closed=True)
        if self.key is not None:
            check_key("Dropout", self.key)


def dropout_forward(params: Dropout, x: Array) -> Array:
    """``y = x * scale``, scale being 0 or ``1 / (1 - rate)``."""
    return dropout_vjp(params, x)[0]


def dropout_backward(params: Dropout, x: Array, g: Array) -> tuple[Array, Dropout]:
    """``grad_x = g * scale``: y is linear in x."""
    return dropout_vjp(params, x)[1](g)


def dropout_vjp(params: Dropout, x: Array) -> tuple[Array, Pullback[Dropout]]:
    """Forward and backward, with the mask drawn once."""
    check_batch("Dropout", x)
    if params.key is None:
        return x, Pullback(lambda g: (g, params), lambda _: params)
    scale = np.empty_like(x)
    draw_scale(params, scale)
    return x * scale, Pullback(lambda g: (g * scale, params), lambda _: params)


def draw_scale(params: Dropout, scale: Array) -> None:
    """Fill ``scale`` with 0 and ``1 / (1 - rate)`` as the key says; with 1 if there is none."""
    if params.key is None:
        scale.fill(1)
    else:
        np.multiply(uniform(params.key, scale.shape) >= params.rate, scale.dtype.type(1 / (1 - params.rate)), scale)


def dropout_plan(params: Dropout, x: Array) -> Plan[Dropout]:
    """The same operations, on buffers; the mask is drawn as a step begins."""
    y, scale = np.empty_like(x), np.empty_like(x)
    draw_scale(params, scale)

    def backward(g: Array, _: Dropout, into: Array | None) -> list[Operation]:
        return [] if into is None else [partial(np.multiply, g, scale, into)]

    return Plan(y, [partial(np.multiply, x, scale, y)], backward, lambda params: draw_scale(params, scale))


def dropout_training(params: Dropout, key: Key) -> Dropout:
    """The layer in its training form: with a key."""
    return evolve(params, key=key)


register_layer(
    Dropout,
    forward=dropout_forward,
    backward=dropout_backward,
    vjp=dropout_vjp,
    plan=dropout_plan,
    training=dropout_training,
    is_training=lambda params: params.key is not None,
    output_shape=lambda _, shape: shape,
    name="funcnet.Dropout",
)
