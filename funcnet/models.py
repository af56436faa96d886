"""Models: functions that make complete networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from funcnet.core.arrays import FloatDType
from funcnet.core.errors import ConfigError
from funcnet.core.records import check_tree
from funcnet.layers.activations import ReLU
from funcnet.layers.dense import dense
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
