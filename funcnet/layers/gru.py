"""GRU: the recurrent layer whose gates reset and update the state."""

from __future__ import annotations

from typing import Final

import numpy as np
from attrs import frozen

from funcnet.arithmetic import sigmoid, tanh
from funcnet.core.arrays import Array, FloatDType, Mask, Weight
from funcnet.core.records import evolve
from funcnet.layers.recurrence import Cell, Slopes, State, recurrence_backward, recurrence_forward, sum_if
from funcnet.layers.recurrent_records import Outputs, check_recurrence, drawn, recurrence_output_shape, zeros_if
from funcnet.network.layer import Layer, register_layer
from funcnet.random.initializers import Initializer, glorot_normal, orthogonal
from funcnet.random.keys import Key, keyed


@frozen(eq=False)
class GRU(Layer):
    """The gated recurrent unit: an update gate z mixes the old state with a candidate n, which a reset gate r limits.

    With the input projection ``d = x[t] @ weight + bias``, the product ``p = h @ recurrent`` and their parts for r, z
    and n::

        r = sigmoid(d_r + p_r)                              n = tanh(d_n + r * (p_n + recurrent_bias))
        z = sigmoid(d_z + p_z)                              h' = n + z * (h - n)

    Shapes: x (B, T, I), weight (I, 3 * H), recurrent (H, 3 * H), bias (3 * H,) or None, recurrent_bias (H,) or None; y
    (B, T, H), or, with ``outputs="last"``, only the h after the step that is read last, (B, H). The parts are side by
    side in the order r, z, n. ``initial``, ``reverse`` and ``mask`` are those of ``RNN``.

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation",
    EMNLP 2014. As in PyTorch and in Keras' default, r multiplies the product instead of the state, and z is the share
    of the old state. PyTorch stores the transposed weights in the same order and two biases; only for n do both matter.

    Example:
        >>> import funcnet as fn
        >>> zeros = np.zeros((1, 3))
        >>> layer = fn.GRU(zeros, zeros, bias=np.array([0.0, 0.0, 10.0]))  # r = z = 1/2 and n is near 1
        >>> fn.forward(layer, np.zeros((1, 3, 1))).round(3).ravel()
        array([0.5  , 0.75 , 0.875])
    """

    weight: Weight
    recurrent: Weight
    bias: Array | None = None
    recurrent_bias: Array | None = None
    initial: Array | None = None
    outputs: Outputs = "all"
    reverse: bool = False
    mask: Mask | None = None

    def check(self) -> None:
        """Check that the arrays fit each other and that the settings are valid."""
        check_recurrence("GRU", self, 3, recurrent_bias=self.recurrent_bias, initial=self.initial)


def gru_step(params: GRU, drive: Array, product: Array, state: State) -> tuple[State, tuple[Array, ...]]:
    """The formulas of ``GRU``. Backward needs both gates, the inner sum of n, and n."""
    gates = sigmoid(drive[:2] + product[:2])
    r, z = gates
    inner = product[2] if params.recurrent_bias is None else product[2] + params.recurrent_bias
    n = tanh(drive[2] + r * inner)
    return (n + z * (state[0] - n),), (gates, inner, n)


def gru_step_backward(_: GRU, state: State, kept: tuple[Array, ...], g: State) -> Slopes:
    """The chain rule, with ``sigmoid' = s * (1 - s)`` and ``tanh' = 1 - n * n``.

    ``h' = n + z * (h - n)`` gives ``dh = g * z``, ``dz = g * (h - n)`` and ``dn = g * (1 - z)``. The gradient by the
    argument of tanh is ``d_n = dn * (1 - n * n)``; it passes ``r * d_n`` to the inner sum and ``inner * d_n`` to r. The
    arguments of the sigmoids then get ``dz * z * (1 - z)`` and ``dr * r * (1 - r)``.
    """
    gates, inner, n = kept
    r, z = gates
    rest = 1 - gates
    by_h = g[0] * z
    by_n = g[0] * rest[1] * (1 - n * n)
    by_inner = by_n * r
    by_r, by_z = by_inner * inner * rest[0], by_h * (state[0] - n) * rest[1]
    return Slopes(by_h, (), (by_r, by_z, by_n), (by_r, by_z, by_inner))


CELL: Final = Cell(
    name="GRU",
    order=(0, 1, 2),
    adds=False,
    initial=lambda params: (params.initial,),
    step=gru_step,
    backward=gru_step_backward,
)


def gru_forward(params: GRU, x: Array) -> Array:
    """The steps one after the other; see ``recurrence``."""
    return recurrence_forward(CELL, params, x)


def gru_backward(params: GRU, x: Array, g: Array) -> tuple[Array, GRU]:
    """Backward through time, derived in ``recurrence``; ``recurrent_bias`` is added to the product of n."""
    found, size = recurrence_backward(CELL, params, x, g), len(params.recurrent)
    return found.x, evolve(
        params,
        weight=found.weight,
        recurrent=found.recurrent,
        bias=sum_if(params.bias, found.drives),
        recurrent_bias=sum_if(params.recurrent_bias, found.products[:, 2 * size :]),
        initial=sum_if(params.initial, found.initial[0]),
    )


register_layer(
    GRU,
    forward=gru_forward,
    backward=gru_backward,
    output_shape=lambda params, shape: recurrence_output_shape("GRU", params, shape),
    name="funcnet.GRU",
)


@keyed
def gru(
    key: Key,
    in_size: int,
    size: int,
    *,
    outputs: Outputs = "all",
    reverse: bool = False,
    bias: bool = True,
    initial: bool = False,
    init: Initializer = glorot_normal,
    recurrent_init: Initializer = orthogonal,
    dtype: FloatDType = np.float32,
) -> GRU:
    """Create a GRU with random weights and biases of zeros.

    Args:
        key: The key of the draws; each gate has its own children of it.
        in_size: The number of inputs of a step, I.
        size: The number of outputs of a step, H.
        outputs: ``"all"`` for the outputs of all steps, ``"last"`` for the last state.
        reverse: Whether the layer reads from the last step to the first.
        bias: Whether the layer has ``bias`` and ``recurrent_bias``.
        initial: Whether the state before the first step is trained. It begins as zeros.
        init: The initializer of the weight, for each gate.
        recurrent_init: The initializer of the recurrent weight, for each gate.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If a size is not a positive int, or another setting is invalid.

    Example:
        >>> gru(Key(0), 8, 16).recurrent.shape
        (16, 48)
    """
    weight, recurrent = drawn("gru", key, 3, (in_size, size), inits=(init, recurrent_init), dtype=dtype)
    size = len(recurrent)
    return GRU(
        weight,
        recurrent,
        bias=zeros_if("gru", "bias", bias, 3 * size, weight),
        recurrent_bias=zeros_if("gru", "bias", bias, size, weight),
        initial=zeros_if("gru", "initial", initial, size, weight),
        outputs=outputs,
        reverse=reverse,
    )
