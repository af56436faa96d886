"""RNN: the simple recurrent layer."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from attrs import frozen

from funcnet.arithmetic import maximum, tanh
from funcnet.core.arrays import Array, FloatDType, Mask, Weight
from funcnet.core.checks import check_choice
from funcnet.core.records import evolve
from funcnet.layers.recurrence import Cell, Slopes, State, recurrence_backward, recurrence_forward, sum_if
from funcnet.layers.recurrent_records import Outputs, check_recurrence, drawn, recurrence_output_shape, zeros_if
from funcnet.network.layer import Layer, register_layer
from funcnet.random.initializers import Initializer, glorot_normal, orthogonal
from funcnet.random.keys import Key, keyed

Activation: TypeAlias = Literal["tanh", "relu"]


@frozen(eq=False)
class RNN(Layer):
    """``h[t] = tanh(x[t] @ weight + bias + h[t - 1] @ recurrent)``, the output of step t; or ReLU instead of tanh.

    Shapes: x (B, T, I), weight (I, H), recurrent (H, H), bias (H,) or None; y (B, T, H), or, with ``outputs="last"``,
    only the h after the step that is read last, (B, H).

    ``initial``, (H,), is the trained state before the first step; None means zeros. With ``reverse``, the layer reads
    from the last step to the first, and each output stays at its step. ``mask``, (B, T), is 1.0 for a valid step and
    0.0 for a padded one: a padded step keeps the state, and its output is 0. ``Masked`` makes it from the inputs.

    Source: Elman, "Finding structure in time", Cognitive Science 14 (1990). PyTorch's ``RNN`` stores the transposed
    weights and two biases, of which only the sum matters.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.RNN(weight=np.array([[1.0]]), recurrent=np.array([[0.5]]), activation="relu")
        >>> x = np.array([[[1.0], [2.0], [3.0]]])
        >>> fn.forward(layer, x).ravel()  # 1, 2 + 0.5 * 1, 3 + 0.5 * 2.5
        array([1.  , 2.5 , 4.25])
        >>> grad_x, grad = fn.backward(layer, x, np.array([[[0.0], [0.0], [1.0]]]))
        >>> grad_x.ravel(), grad.recurrent  # 0.5 * 0.5, 0.5 and 1; 2.5 + 0.5 * 1
        (array([0.25, 0.5 , 1.  ]), array([[3.]]))
    """

    weight: Weight
    recurrent: Weight
    bias: Array | None = None
    initial: Array | None = None
    activation: Activation = "tanh"
    outputs: Outputs = "all"
    reverse: bool = False
    mask: Mask | None = None

    def check(self) -> None:
        """Check that the arrays fit each other and that the settings are valid."""
        check_recurrence("RNN", self, 1, initial=self.initial)
        check_choice("RNN", "activation", self.activation, get_args(Activation))


def rnn_step(params: RNN, drive: Array, product: Array, _: State) -> tuple[State, Array]:
    """``h' = tanh(drive + product)``. Backward needs h' alone."""
    total = drive[0] + product[0]
    h = maximum(total, 0) if params.activation == "relu" else tanh(total)
    return (h,), h


def rnn_step_backward(params: RNN, _: State, h: Array, g: State) -> Slopes:
    """``dh'/dtotal`` is ``1 - h' * h'`` for tanh; for ReLU, it is 1 where h' > 0, else 0.

    Drive and product are summands of the total, so the gradient by each is that by the total.
    """
    total = g[0] * ((h > 0) if params.activation == "relu" else 1 - h * h)
    return Slopes(None, (), (total,))


CELL: Final = Cell(
    name="RNN",
    order=(0,),
    adds=True,
    initial=lambda params: (params.initial,),
    step=rnn_step,
    backward=rnn_step_backward,
)


def rnn_forward(params: RNN, x: Array) -> Array:
    """The steps one after the other; see ``recurrence``."""
    return recurrence_forward(CELL, params, x)


def rnn_backward(params: RNN, x: Array, g: Array) -> tuple[Array, RNN]:
    """Backward through time, derived in ``recurrence``: bias and initial are added to every row."""
    found = recurrence_backward(CELL, params, x, g)
    bias, initial = sum_if(params.bias, found.drives), sum_if(params.initial, found.initial[0])
    return found.x, evolve(params, weight=found.weight, recurrent=found.recurrent, bias=bias, initial=initial)


register_layer(
    RNN,
    forward=rnn_forward,
    backward=rnn_backward,
    output_shape=lambda params, shape: recurrence_output_shape("RNN", params, shape),
    name="funcnet.RNN",
)


@keyed
def rnn(
    key: Key,
    in_size: int,
    size: int,
    *,
    activation: Activation = "tanh",
    outputs: Outputs = "all",
    reverse: bool = False,
    bias: bool = True,
    initial: bool = False,
    init: Initializer = glorot_normal,
    recurrent_init: Initializer = orthogonal,
    dtype: FloatDType = np.float32,
) -> RNN:
    """Create an RNN with random weights and a bias of zeros.

    Args:
        key: The key of the draws.
        in_size: The number of inputs of a step, I.
        size: The number of outputs of a step, H.
        activation: ``"tanh"`` or ``"relu"``.
        outputs: ``"all"`` for the outputs of all steps, ``"last"`` for the last state.
        reverse: Whether the layer reads from the last step to the first.
        bias: Whether the layer has a bias.
        initial: Whether the state before the first step is trained. It begins as zeros.
        init: The initializer of the weight.
        recurrent_init: The initializer of the recurrent weight. With orthogonal columns, the product neither shrinks
            nor grows the state.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If a size is not a positive int, or another setting is invalid.

    Example:
        >>> rnn(Key(0), 8, 16).recurrent.shape
        (16, 16)
    """
    weight, recurrent = drawn("rnn", key, 1, (in_size, size), inits=(init, recurrent_init), dtype=dtype)
    size = len(recurrent)
    return RNN(
        weight,
        recurrent,
        bias=zeros_if("rnn", "bias", bias, size, weight),
        initial=zeros_if("rnn", "initial", initial, size, weight),
        activation=activation,
        outputs=outputs,
        reverse=reverse,
    )
