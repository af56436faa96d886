"""Models: functions that make complete networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from funcnet.core.arrays import FloatDType
from funcnet.core.checks import check_count, check_number
from funcnet.core.errors import ConfigError
from funcnet.core.records import check_tree
from funcnet.layers.activations import GELUTanh, ReLU
from funcnet.layers.attention import multi_head_attention
from funcnet.layers.dense import dense
from funcnet.layers.dropout import Dropout
from funcnet.layers.normalization import layer_norm
from funcnet.layers.residual import Residual
from funcnet.network.layer import Layer
from funcnet.random.initializers import Initializer, glorot_normal
from funcnet.random.keys import Key, check_key, keyed


@keyed
def mlp(
    key: Key,
    sizes: Sequence[int],
    *,
    activation: Layer = ReLU(),  # noqa: B008  # immutable
    init: Initializer = glorot_normal,
    bias_init: Initializer | None = None,
    dtype: FloatDType = np.float32,
) -> tuple[Layer, ...]:
    """Make a multilayer perceptron: Dense layers with an activation between them and no activation after the last.

    Layer i is drawn from ``key.child("init", i)``; the static type is ``tuple[Layer, ...]``.

    Args:
        key: The random key of the weights.
        sizes: The input size, the size of every hidden layer, and the output size.
        activation: The layer between two Dense layers.
        init: The initializer of every weight.
        bias_init: The initializer of every bias, see ``dense``. None makes the biases 0.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If there are fewer than two sizes, a size is not a positive int, or an initializer is not a
            function.

    Example:
        >>> mlp(Key(42), (784, 100, 10))  # doctest: +NORMALIZE_WHITESPACE
        (Dense(weight=float32 (784, 100), bias=float32 (100,)),
         ReLU(),
         Dense(weight=float32 (100, 10), bias=float32 (10,)))
    """
    check_key("mlp", key)
    if not isinstance(sizes, Sequence | np.ndarray) or len(sizes) < 2:
        raise ConfigError(f"sizes must have at least the input size and the output size, got {sizes!r}", subject="mlp")
    check_tree("mlp's activation", activation)
    layers: list[Layer] = []
    for position, (in_size, out_size) in enumerate(pairwise(sizes)):
        place = key.child("init", position)
        layers += [dense(place, in_size, out_size, init=init, bias_init=bias_init, dtype=dtype), activation]
    return tuple(layers[:-1])


@keyed
def transformer_block(
    key: Key,
    size: int,
    heads: int,
    *,
    hidden: int | None = None,
    causal: bool = True,
    dropout: float = 0.0,
    activation: Layer = GELUTanh(),  # noqa: B008  # immutable
    init: Initializer = glorot_normal,
    dtype: FloatDType = np.float32,
) -> tuple[Residual[tuple[Layer, ...]], Residual[tuple[Layer, ...]]]:
    """Make a block of a transformer: attention, then two Dense layers at each step, each with a norm and a residual.

    The norms come first in each residual, as in GPT-2 and in PyTorch's ``TransformerEncoderLayer(norm_first=True)``. A
    network of such blocks ends with a ``layer_norm``. Shapes: x, y (B, T, C).

    Args:
        key: The random key. The attention and the Dense layers are drawn from ``key.child("init", i)`` for i from 0.
        size: The size C of x and y.
        heads: The number of heads of the attention, which must divide the size.
        hidden: The number of outputs of the first Dense layer. None means ``4 * size``.
        causal: Whether a step reads from itself and earlier steps only.
        dropout: The share of each residual's outputs that is dropped in training. 0 leaves out the Dropout layers.
        activation: The layer between the Dense layers. The default is that of GPT-2. ``GELU()`` computes erf in
            float64, which doubles the time of a training step; PyTorch's layer has ReLU.
        init: The initializer of every weight.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If a size is not a positive int, heads does not divide size, or the dropout is not in [0, 1).

    Source: Vaswani et al., "Attention is all you need", NIPS 2017; Xiong et al., "On layer normalization in the
    transformer architecture", ICML 2020, for the place of the norms.

    Example:
        >>> attention, dense_layers = transformer_block(Key(0), 8, 2)
        >>> attention  # doctest: +NORMALIZE_WHITESPACE
        Residual(net=(LayerNorm(scale=float32 (8,), offset=float32 (8,), epsilon=1e-05, axes=1),
            MultiHeadAttention(weight=float32 (8, 24), bias=float32 (24,), out_weight=float32 (8, 8),
                out_bias=float32 (8,), heads=2, causal=True, mask=None)))
        >>> dense_layers.net[1:]  # doctest: +NORMALIZE_WHITESPACE
        (Dense(weight=float32 (8, 32), bias=float32 (32,)), GELUTanh(),
         Dense(weight=float32 (32, 8), bias=float32 (8,)))
    """
    name = "transformer_block"
    check_key(name, key)
    size = check_count(name, "size", size)
    hidden = 4 * size if hidden is None else check_count(name, "hidden", hidden)
    check_number(name, "dropout", dropout, low=0, high=1, closed=True)
    check_tree(f"{name}'s activation", activation)
    places = [key.child("init", position) for position in range(3)]
    last = (Dropout(dropout),) if dropout else ()
    attention = multi_head_attention(places[0], size, heads, causal=causal, init=init, dtype=dtype)
    first = dense(places[1], size, hidden, init=init, dtype=dtype)
    second = dense(places[2], hidden, size, init=init, dtype=dtype)
    norm, other_norm = layer_norm(size, dtype=dtype), layer_norm(size, dtype=dtype)
    return Residual((norm, attention, *last)), Residual((other_norm, first, activation, second, *last))
