"""Masked: a combinator that makes the mask of padded steps from its own input."""

from __future__ import annotations

from typing import Generic

import numpy as np
from attrs import frozen

from funcnet.core.arrays import ARRAY_TYPES, Array, describe, lock
from funcnet.core.checks import INFINITY, check_number
from funcnet.core.errors import ConfigError, ShapeError
from funcnet.core.records import evolve
from funcnet.core.trees import leaves
from funcnet.network.layer import Layer, N, Shape, register_layer
from funcnet.network.masks import masks_of, with_mask
from funcnet.network.modes import calibrate
from funcnet.network.passes import backward, forward, output_shape


@frozen(eq=False)
class Masked(Layer, Generic[N]):
    """``y = masked(net, mask)(x)``, where the mask marks the padded steps of x. The output is net's.

    Shapes: ids (B, T), whose elements that equal ``padding`` are padded steps; or x (B, T, C), whose steps are padded
    if all their C features equal ``padding``. Layers without a mask compute padded steps like any others. A layer with
    a mask must come before the layers that change the number of steps. The numbers of padded steps must be finite and
    of ordinary size, such as 0.

    A padded step passes through net, too, so the id ``padding`` needs a row of the Embedding: it is not negative.

    ``Masked`` must get the ids or the raw features. Put the ``Embedding`` or the ``Standardize`` inside:
    ``Masked((embedding, gru))``. In ``(embedding, Masked(gru))``, it would mask nothing, because the features of an
    embedded padded step are not all 0.

    Example:
        >>> import funcnet as fn
        >>> net = Masked((fn.Embedding(np.array([[0.0], [1.0], [2.0]])), fn.MeanOverTime()))
        >>> fn.forward(net, np.array([[1, 2, 0, 0], [1, 2, 2, 2]]))  # the means of 1, 2 and of 1, 2, 2, 2
        array([[1.5 ],
               [1.75]])
    """

    net: N
    padding: float = 0

    def check(self) -> None:
        """Check that a layer in net has a mask, and that padding is a finite number."""
        if not any(True for _ in masks_of(self.net)):
            wanted = "net must have a layer with a mask, such as a GRU, a MultiHeadAttention or a MeanOverTime"
            raise ConfigError(f"{wanted}; without one, use net itself", subject="Masked")
        check_number("Masked", "padding", self.padding, low=-INFINITY, high=INFINITY)


def mask_of(params: Masked[N], x: Array) -> Array:
    """The mask of a batch, in the network's dtype: 1.0 for a valid step. Shapes: x (B, T) or (B, T, C), mask (B, T)."""
    is_ids = type(x) in ARRAY_TYPES and x.dtype.kind in "iu"
    if type(x) not in ARRAY_TYPES or x.ndim != (2 if is_ids else 3):
        got = describe(x) if type(x) in ARRAY_TYPES else type(x).__name__
        raise ShapeError(f"x must be integer ids (B, T), or have shape (B, T, C), got {got}", subject="Masked")
    differs = x != params.padding
    valid = differs if is_ids else differs.any(axis=-1)
    floats = np.dtype(np.float32) if is_ids else x.dtype
    return lock(valid.astype(next((leaf.array.dtype for leaf in leaves(params.net)), floats)))


def masked_forward(params: Masked[N], x: Array) -> Array:
    """``y = masked(net, mask)(x)``."""
    return forward(with_mask(params.net, mask_of(params, x)), x)


def masked_backward(params: Masked[N], x: Array, g: Array) -> tuple[Array, Masked[N]]:
    """The gradients of ``masked(net, mask)``; the mask is constant where x changes a little, so it has no gradient."""
    grad_x, grad_net = backward(with_mask(params.net, mask_of(params, x)), x, g)
    return grad_x, evolve(params, net=with_mask(grad_net, None))


def masked_calibrated(params: Masked[N], x: Array) -> Masked[N]:
    """Calibrate net with x, which is its input."""
    return evolve(params, net=with_mask(calibrate(with_mask(params.net, mask_of(params, x)), x), None))


def masked_output_shape(params: Masked[N], shape: Shape) -> Shape:
    """The output shape of net."""
    return output_shape(params.net, shape)


register_layer(
    Masked,
    forward=masked_forward,
    backward=masked_backward,
    calibrated=masked_calibrated,
    output_shape=masked_output_shape,
    name="funcnet.Masked",
)
