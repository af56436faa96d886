"""Inference: a network's outputs over many rows, in chunks, so that memory stays bounded."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from funcnet.arithmetic import softmax
from funcnet.arrays import Array, check_array
from funcnet.layer import Network
from funcnet.network import forward

CHUNK: Final = 256


def outputs(params: Network, x: Array) -> Array:
    """The network's output for every row, 256 rows at a time. Shapes: x (N, ...), result (N, ...).

    Raises:
        FuncnetError: If x does not fit; the message says which layer.

    Example:
        >>> import funcnet as fn
        >>> outputs(fn.ReLU(), np.array([[-1.0, 2.0]]))
        array([[0., 2.]])
    """
    check_array("outputs", "x", x, ("N", "..."))
    first = forward(params, x[:CHUNK])
    if len(x) <= CHUNK:
        return first
    result = np.empty((len(x), *first.shape[1:]), first.dtype)
    result[:CHUNK] = first
    for start in range(CHUNK, len(x), CHUNK):
        result[start : start + CHUNK] = forward(params, x[start : start + CHUNK])
    return result


def predict(params: Network, x: Array) -> NDArray[np.intp]:
    """The class of every row: the position of its largest logit, the first of equals. Shapes: x (N, ...), result (N,).

    Example:
        >>> import funcnet as fn
        >>> predict(fn.Identity(), np.array([[0.1, 0.9], [0.8, 0.2]]))
        array([1, 0])
    """
    logits = outputs(params, x)
    check_array("predict", "the output", logits, ("N", "O"))
    ids: NDArray[np.intp] = logits.argmax(axis=1)
    return ids


def predict_proba(params: Network, x: Array) -> Array:
    """The probability of every class: softmax of the logits. Shapes: x (N, ...), result (N, O).

    Example:
        >>> import funcnet as fn
        >>> predict_proba(fn.Identity(), np.array([[0.0, 0.0]]))
        array([[0.5, 0.5]])
    """
    logits = outputs(params, x)
    check_array("predict_proba", "the output", logits, ("N", "O"))
    return softmax(logits)
