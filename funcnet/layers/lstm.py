"""LSTM: the recurrent layer with a memory cell that an input, a forget and an output gate control."""

from __future__ import annotations

from typing import Final

import numpy as np
from attrs import frozen

from funcnet.arithmetic import sigmoid, tanh
from funcnet.core.arrays import Array, FloatDType, Mask, Weight, lock
from funcnet.core.checks import check_number
from funcnet.core.records import evolve
from funcnet.layers.recurrence import Cell, Slopes, State, recurrence_backward, recurrence_forward, sum_if
from funcnet.layers.recurrent_records import Outputs, check_recurrence, drawn, recurrence_output_shape, zeros_if
from funcnet.network.layer import Layer, register_layer
from funcnet.random.initializers import Initializer, glorot_normal, orthogonal
from funcnet.random.keys import Key, keyed


@frozen(eq=False)
class LSTM(Layer):
    """Long short-term memory: the state is the output h and a cell c. The cell keeps f * c and adds i * n.

    With the input projection ``d = x[t] @ weight + bias``, the product ``p = h @ recurrent`` and their parts for the
    input gate i, the forget gate f, the output gate o and the candidate n::

        i, f, o = sigmoid(d + p)                            c' = f * c + i * n
        n = tanh(d + p)                                     h' = o * tanh(c')

    Shapes: x (B, T, I), weight (I, 4 * H), recurrent (H, 4 * H), bias (4 * H,) or None; y (B, T, H), or, with
    ``outputs="last"``, only the h after the step that is read last, (B, H). The parts are side by side in the order i,
    f, n, o (PyTorch writes g for n). ``initial`` and ``initial_cell``, (H,), are the trained h and c before the first
    step; None means zeros. ``reverse`` and ``mask`` are those of ``RNN``.

    Source: Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9 (1997); Gers, Schmidhuber and
    Cummins, "Learning to forget", Neural Computation 12 (2000), for the forget gate. PyTorch stores the transposed
    weights in the same order and two biases, of which only the sum matters.

    Example:
        >>> import funcnet as fn
        >>> zeros = np.zeros((1, 4))
        >>> layer = fn.LSTM(zeros, zeros, bias=np.array([0.0, 0.0, 10.0, 10.0]))  # i = f = 1/2, n and o are near 1
        >>> fn.forward(layer, np.zeros((1, 3, 1))).round(3).ravel()  # tanh of 0.5, 0.75, 0.875
        array([0.462, 0.635, 0.704])
    """

    weight: Weight
    recurrent: Weight
    bias: Array | None = None
    initial: Array | None = None
    initial_cell: Array | None = None
    outputs: Outputs = "all"
    reverse: bool = False
    mask: Mask | None = None

    def check(self) -> None:
        """Check that the arrays fit each other and that the settings are valid."""
        check_recurrence("LSTM", self, 4, initial=self.initial, initial_cell=self.initial_cell)


def lstm_step(_: LSTM, drive: Array, product: Array, state: State) -> tuple[State, tuple[Array, ...]]:
    """The formulas of ``LSTM``, with the parts in the order i, f, o, n. Backward needs the gates, n and tanh(c')."""
    total = drive + product
    gates = sigmoid(total[:3])
    i, f, o = gates
    n = tanh(total[3])
    c = f * state[1] + i * n
    s = tanh(c)
    return (o * s, c), (gates, n, s)


def lstm_step_backward(_: LSTM, state: State, kept: tuple[Array, ...], g: State) -> Slopes:
    """The chain rule, with ``sigmoid' = s * (1 - s)`` and ``tanh' = 1 - s * s``; g has the gradients by h' and c'.

    ``h' = o * s`` with ``s = tanh(c')`` gives ``do = g_h * s`` and ``ds = g_h * o``, so the gradient by c' is
    ``d = g_c + ds * (1 - s * s)``. ``c' = f * c + i * n`` gives ``df = d * c``, ``dc = d * f``, ``di = d * n`` and
    ``dn = d * i``. The arguments of the sigmoids get ``di * i * (1 - i)`` and so on, that of tanh ``dn * (1 - n * n)``.
    The products ``g_h * o * s`` and ``d * i * n`` occur twice and are computed once.
    """
    gates, n, s = kept
    i, f, o = gates
    rest = 1 - gates
    by_s = g[0] * o
    g_o_s = by_s * s
    d = g[1] + by_s - g_o_s * s
    by_n, by_c = d * i, d * f
    d_i_n = by_n * n
    drives = d_i_n * rest[0], by_c * state[1] * rest[1], by_n - d_i_n * n, g_o_s * rest[2]
    return Slopes(None, (by_c,), drives)


CELL: Final = Cell(
    name="LSTM",
    order=(0, 1, 3, 2),
    adds=True,
    initial=lambda params: (params.initial, params.initial_cell),
    step=lstm_step,
    backward=lstm_step_backward,
)


def lstm_forward(params: LSTM, x: Array) -> Array:
    """The steps one after the other; see ``recurrence``."""
    return recurrence_forward(CELL, params, x)


def lstm_backward(params: LSTM, x: Array, g: Array) -> tuple[Array, LSTM]:
    """Backward through time, derived in ``recurrence``: bias and the initial states are added to every row."""
    found = recurrence_backward(CELL, params, x, g)
    return found.x, evolve(
        params,
        weight=found.weight,
        recurrent=found.recurrent,
        bias=sum_if(params.bias, found.drives),
        initial=sum_if(params.initial, found.initial[0]),
        initial_cell=sum_if(params.initial_cell, found.initial[1]),
    )


register_layer(
    LSTM,
    forward=lstm_forward,
    backward=lstm_backward,
    output_shape=lambda params, shape: recurrence_output_shape("LSTM", params, shape),
    name="funcnet.LSTM",
)


@keyed
def lstm(
    key: Key,
    in_size: int,
    size: int,
    *,
    outputs: Outputs = "all",
    reverse: bool = False,
    bias: bool = True,
    forget_bias: float = 1.0,
    initial: bool = False,
    init: Initializer = glorot_normal,
    recurrent_init: Initializer = orthogonal,
    dtype: FloatDType = np.float32,
) -> LSTM:
    """Create an LSTM with random weights. The bias is 0, and ``forget_bias`` for the forget gate.

    Args:
        key: The key of the draws; each gate has its own children of it.
        in_size: The number of inputs of a step, I.
        size: The number of outputs of a step, H.
        outputs: ``"all"`` for the outputs of all steps, ``"last"`` for the last state.
        reverse: Whether the layer reads from the last step to the first.
        bias: Whether the layer has a bias.
        forget_bias: The bias of the forget gate before the training. With 1, as in Keras, the cell keeps most of what
            it holds; PyTorch's is near 0. Without a bias, it has no effect.
        initial: Whether h and c before the first step are trained. They begin as zeros.
        init: The initializer of the weight, for each gate.
        recurrent_init: The initializer of the recurrent weight, for each gate.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If a size is not a positive int, or another setting is invalid.

    Source: Jozefowicz, Zaremba and Sutskever, "An empirical exploration of recurrent network architectures", ICML 2015,
    for the bias of 1.

    Example:
        >>> lstm(Key(0), 8, 2).bias
        array([0., 0., 1., 1., 0., 0., 0., 0.], dtype=float32)
    """
    weight, recurrent = drawn("lstm", key, 4, (in_size, size), inits=(init, recurrent_init), dtype=dtype)
    size, largest = len(recurrent), float(np.finfo(weight.dtype).max)
    check_number("lstm", "forget_bias", forget_bias, low=-largest, high=largest)
    vector = zeros_if("lstm", "bias", bias, 4 * size, weight)
    if vector is not None:
        vector = lock(np.concatenate([vector[:size], np.full(size, forget_bias, weight.dtype), vector[2 * size :]]))
    return LSTM(
        weight,
        recurrent,
        bias=vector,
        initial=zeros_if("lstm", "initial", initial, size, weight),
        initial_cell=zeros_if("lstm", "initial", initial, size, weight),
        outputs=outputs,
        reverse=reverse,
    )
