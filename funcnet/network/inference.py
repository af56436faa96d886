"""Inference: a network's outputs over many rows, computed in chunks to bound the memory."""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from funcnet.arithmetic import in_force, softmax
from funcnet.core.arrays import Array
from funcnet.core.checks import check_array, check_callable, check_count, check_finite
from funcnet.core.errors import ShapeError, StructureError
from funcnet.network.layer import Network
from funcnet.network.loss import Loss, weighted_loss
from funcnet.network.passes import forward
from funcnet.tracing.replay import replayed_map

T = TypeVar("T")

CHUNK: Final = 256
TILE: Final = 8


def outputs(params: Network, x: Array, *, rowwise: bool = False) -> Array:
    """The network's output for every row, computed 256 rows at a time. Shapes: x (N, ...), result (N, ...).

    Args:
        params: The network.
        x: The inputs.
        rowwise: Compute 8 rows at a time, and pad the last ones with zeros. BLAS then rounds a row independently of the
            rows around it, which it does not do in larger batches. Portable arithmetic always does.

    Raises:
        FuncnetError: If x does not fit a layer; the message names the layer.

    Example:
        >>> import funcnet as fn
        >>> outputs(fn.ReLU(), np.array([[-1.0, 2.0]]))
        array([[0., 2.]])
    """
    _check_network("outputs", params)
    check_array("outputs", "x", x, ("N", "..."))
    with np.errstate(all="ignore"):  # Overflow gives inf here, as in forward.
        return _outputs(params, x, rowwise=rowwise)


def _check_network(subject: str, params: object) -> None:
    if hasattr(params, "moments") and hasattr(params, "params"):  # TrainState is in a later folder.
        fix = "use state.params"
        raise StructureError(f"params must be a network, got a {type(params).__name__}; {fix}", subject=subject)


def _outputs(params: Network, x: Array, *, rowwise: bool) -> Array:
    first = forward(params, x[:1] if rowwise else x[:CHUNK])
    result = np.empty((len(x), *first.shape[1:]), first.dtype)
    if rowwise and in_force() == "native":
        _tiles(params, x, result)
        return result
    for start in range(0, len(x), CHUNK):
        result[start : start + CHUNK] = forward(params, x[start : start + CHUNK])
    return result


def _tiles(params: Network, x: Array, result: Array) -> None:
    tiles = (_tile(x[start : start + TILE]) for start in range(0, len(x), TILE))
    outputs = replayed_map(forward, params, tiles, context=in_force())
    for start, output in zip(range(0, len(x), TILE), outputs, strict=True):
        result[start : start + TILE] = output[: len(x) - start]


def _tile(rows: Array) -> Array:
    """The rows, padded with zeros to TILE rows."""
    tile = np.zeros((TILE, *rows.shape[1:]), rows.dtype)
    tile[: len(rows)] = rows
    return tile


def predict(params: Network, x: Array, *, rowwise: bool = False) -> NDArray[np.intp]:
    """The class of every row: the position of its (first) largest logit. Shapes: x (N, ...), result (N,).

    Raises:
        NonFiniteError: If a logit is NaN or infinite; the message says which one.

    Example:
        >>> import funcnet as fn
        >>> predict(fn.Identity(), np.array([[0.1, 0.9], [0.8, 0.2]]))
        array([1, 0])
    """
    ids: NDArray[np.intp] = _logits("predict", params, x, rowwise=rowwise).argmax(axis=1)
    return ids


def predict_proba(params: Network, x: Array, *, rowwise: bool = False) -> Array:
    """The probability of every class: the softmax of the logits. Shapes: x (N, ...), result (N, O).

    Raises:
        NonFiniteError: If a logit is NaN or infinite; the message says which one.

    Example:
        >>> import funcnet as fn
        >>> predict_proba(fn.Identity(), np.array([[0.0, 0.0]]))
        array([[0.5, 0.5]])
    """
    logits = _logits("predict_proba", params, x, rowwise=rowwise)
    with np.errstate(all="ignore"):  # A probability below the dtype's range is 0.
        return softmax(logits)


def _logits(subject: str, params: Network, x: Array, *, rowwise: bool) -> Array:
    _check_network(subject, params)
    with np.errstate(all="ignore"):  # A nonfinite output is refused below.
        logits = outputs(params, x, rowwise=rowwise)
    check_array(subject, "the output", logits, ("N", "O"))
    check_count(subject, "the number of classes", logits.shape[1])
    if logits.shape[1] == 1:
        fix = "for two classes with one logit, use outputs(net, x)[:, 0] > 0"
        raise ShapeError(f"the output must have one column per class, got {logits.shape}; {fix}", subject=subject)
    check_finite(subject, "the output", logits)
    return logits


def evaluate(params: Network, x: Array, y: T, loss: Loss[T], weight: Array | None = None) -> float:
    """The loss of the plain network over all rows. The outputs are computed 256 rows at a time.

    Shapes: x (N, ...), weight (N,) or None.

    Example:
        >>> import funcnet as fn
        >>> evaluate(fn.Identity(), np.array([[0.0, 0.0]]), np.array([1]), fn.softmax_cross_entropy)
        0.6931471805599453
    """
    check_callable("evaluate", "loss", loss)
    return weighted_loss(loss, outputs(params, x), y, weight)[0]
