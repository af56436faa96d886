"""How a weight begins: functions ``(key, shape, dtype) -> array``.

A weight of shape (..., I, O) has ``fan_in`` = I and ``fan_out`` = O, each times the sizes in front (a kernel's window).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from funcnet.arrays import Array, lock
from funcnet.draws import normal
from funcnet.keys import Key

Initializer: TypeAlias = Callable[[Key, tuple[int, ...], np.dtype[np.floating]], Array]
"""``(key, shape, dtype) -> array``, a pure function."""


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many inputs an output sees, and how many outputs an input reaches.

    Example:
        >>> fans((784, 100)), fans((5, 5, 1, 6))
        ((784, 100), (25, 150))
    """
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def glorot_normal(key: Key, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
    """Normal with variance ``2 / (fan_in + fan_out)``: Glorot's, also called Xavier's, as in the post.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010.

    Example:
        >>> float(glorot_normal(Key(0), (784, 100), np.dtype(np.float64)).std().round(3))
        0.048
    """
    deviation = np.sqrt(2 / sum(fans(shape)))
    return lock((normal(key, shape) * deviation).astype(dtype))
