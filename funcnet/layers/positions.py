"""Positions: layers that add to each step of a sequence a row that depends on its position."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from attrs import frozen

from funcnet.arithmetic import sum_rows
from funcnet.arithmetic.elementary import exp, sin_pi
from funcnet.core.arrays import Array, FloatDType, Weight, lock
from funcnet.core.checks import check_array, check_count, check_row_shape
from funcnet.core.errors import ShapeError
from funcnet.core.records import evolve
from funcnet.core.trees import float_dtype
from funcnet.network.layer import Layer, Shape, register_layer
from funcnet.random.initializers import Initializer, check_initializer, random_normal
from funcnet.random.keys import Key, check_key, keyed

_INIT: Final = random_normal(0.02)
_LOG_10000: Final = 9.21034037197618273607
_PI: Final = 3.14159265358979323846


@frozen(eq=False)
class LearnedPositions(Layer):
    """``y = x + weight[:T]``: a trained row for each position. Shapes: x, y (B, T, C), weight (L, C) with T up to L.

    Source: Gehring, Auli, Grangier, Yarats and Dauphin, "Convolutional sequence to sequence learning", ICML 2017.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.LearnedPositions(weight=np.array([[1.0], [2.0], [3.0]]))
        >>> fn.forward(layer, np.array([[[10.0], [10.0]]]))
        array([[[11.],
                [12.]]])
    """

    weight: Weight

    def check(self) -> None:
        """Check that weight is a matrix with at least one position and one channel."""
        check_array("LearnedPositions", "weight", self.weight, ("L", "C"))
        check_count("LearnedPositions", "weight's length", self.weight.shape[0])
        check_count("LearnedPositions", "weight's size", self.weight.shape[1])


def _check_length(params: LearnedPositions, steps: int) -> None:
    length = len(params.weight)
    if steps > length:
        fix = "use shorter sequences, a layer with more positions, or SinusoidalPositions(), which has no limit"
        raise ShapeError(f"x must have at most {length} steps, got {steps}; {fix}", subject="LearnedPositions")


def learned_forward(params: LearnedPositions, x: Array) -> Array:
    """``y[b, t] = x[b, t] + weight[t]``."""
    weight = params.weight
    check_array("LearnedPositions", "x", x, ("B", "T", weight.shape[1]), dtype=weight.dtype, match=("weight", weight))
    _check_length(params, x.shape[1])
    return x + weight[: x.shape[1]]


def learned_backward(params: LearnedPositions, _: Array, g: Array) -> tuple[Array, LearnedPositions]:
    """``grad_x = g``, and ``grad_weight[t] = sum(g[:, t])``: a row serves its position in every sequence."""
    length, size = params.weight.shape
    unused = np.zeros((length - g.shape[1], size), g.dtype)
    return g, evolve(params, weight=np.concatenate((sum_rows(g), unused)))


def learned_output_shape(params: LearnedPositions, shape: Shape) -> Shape:
    """The shape of y's rows, which is that of x's rows, (T, C)."""
    check_row_shape("LearnedPositions", shape, ("T", params.weight.shape[1]), ("weight", params.weight))
    _check_length(params, shape[0])
    return shape


register_layer(
    LearnedPositions,
    forward=learned_forward,
    backward=learned_backward,
    output_shape=learned_output_shape,
    name="funcnet.LearnedPositions",
)


@keyed
def learned_positions(
    key: Key, length: int, size: int, *, init: Initializer = _INIT, dtype: FloatDType = np.float32
) -> LearnedPositions:
    """Create a LearnedPositions layer with random rows.

    Args:
        key: The key of the draw.
        length: The number of positions, L: the length of the longest sequence.
        size: The number of channels, C.
        init: The initializer of the weight. The default is a normal distribution of deviation 0.02, as in GPT-2.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If a size is not a positive int, the initializer is not a function, or the dtype is invalid.

    Example:
        >>> learned_positions(Key(0), 64, 8)
        LearnedPositions(weight=float32 (64, 8))
    """
    name = "learned_positions"
    check_key(name, key)
    length, size = check_count(name, "length", length), check_count(name, "size", size)
    check_initializer(name, "init", init)
    return LearnedPositions(weight=init(key, (length, size), float_dtype(dtype)))


@frozen(eq=False)
class SinusoidalPositions(Layer):
    """``y = x + waves``: channels 2i and 2i + 1 get the sine and the cosine of ``t / 10000**(2i / C)`` at position t.

    Shapes: x, y (B, T, C), of any length. The table of waves has the same bits on every machine, in either arithmetic.
    The source multiplies an embedding by ``sqrt(C)`` before it adds the waves.

    Source: Vaswani et al., "Attention is all you need", NIPS 2017, section 3.5.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(fn.SinusoidalPositions(), np.zeros((1, 3, 4))).round(3)  # t and t / 100
        array([[[ 0.   ,  1.   ,  0.   ,  1.   ],
                [ 0.841,  0.54 ,  0.01 ,  1.   ],
                [ 0.909, -0.416,  0.02 ,  1.   ]]])
    """


@lru_cache(maxsize=16)
def waves(steps: int, size: int, dtype: np.dtype[np.floating]) -> Array:
    """The rows that SinusoidalPositions adds, computed in float64. Shape: (T, C).

    Example:
        >>> waves(2, 2, np.dtype(np.float64)).round(6)
        array([[0.      , 1.      ],
               [0.841471, 0.540302]])
    """
    channels = np.arange(size)
    pairs = (channels - channels % 2).astype(np.float64)
    half_turns = np.arange(steps)[:, None] * (exp(pairs * (-_LOG_10000 / size)) / _PI)
    return lock(sin_pi(half_turns + 0.5 * (channels % 2)).astype(dtype))  # a cosine is a sine a quarter turn later


def sinusoidal_forward(_: SinusoidalPositions, x: Array) -> Array:
    """``y[b, t] = x[b, t] + waves[t]``."""
    check_array("SinusoidalPositions", "x", x, ("B", "T", "C"))
    return x + waves(*x.shape[1:], x.dtype)


def sinusoidal_backward(params: SinusoidalPositions, _: Array, g: Array) -> tuple[Array, SinusoidalPositions]:
    """``grad_x = g``: the waves are constants."""
    return g, params


def sinusoidal_output_shape(_: SinusoidalPositions, shape: Shape) -> Shape:
    """The shape of y's rows, which is that of x's rows, (T, C)."""
    check_row_shape("SinusoidalPositions", shape, ("T", "C"))
    return shape


register_layer(
    SinusoidalPositions,
    forward=sinusoidal_forward,
    backward=sinusoidal_backward,
    output_shape=sinusoidal_output_shape,
    name="funcnet.SinusoidalPositions",
)
