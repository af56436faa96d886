"""Flattened images: PyTorch's order of their numbers, (C, H, W), followed through a network that has (H, W, C)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, TypeAlias, cast

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.core.errors import ConfigError
from funcnet.core.records import fields_of
from funcnet.interop.layer_arrays import below, place
from funcnet.layers.attention import MultiHeadAttention
from funcnet.layers.batch_norm import BatchNorm
from funcnet.layers.conv1d import Conv1D
from funcnet.layers.dense import Dense
from funcnet.layers.dropout import Dropout
from funcnet.layers.frozen import Frozen
from funcnet.layers.gru import GRU
from funcnet.layers.lstm import LSTM
from funcnet.layers.masked import Masked
from funcnet.layers.normalization import LayerNorm, RMSNorm
from funcnet.layers.parallel import Parallel
from funcnet.layers.prelu import PReLU
from funcnet.layers.repeat import Repeat
from funcnet.layers.residual import Residual
from funcnet.layers.rnn import RNN
from funcnet.layers.shapes import Flatten, Reshape
from funcnet.network.layer import Layer, Network, Shape
from funcnet.network.passes import check_shape, forward, row_shape

Order: TypeAlias = NDArray[np.intp]
"""Number i of a row is number ``order[i]`` of the row in PyTorch. Shape (I,)."""

_FIX: Final = "convert the layers before it and after it separately"


@frozen(eq=False)
class Row:
    """A row between two layers: its shape, and the order of its numbers in PyTorch, or None if it is the same.

    ``convolved``: it is a sequence (T, C) after a Conv1D, which in PyTorch is (C, T), or (T, C) after a transposition.
    """

    shape: Shape
    order: Order | None = None
    convolved: bool = False


def flat_order(shape: Shape) -> Order | None:
    """The order of a flattened image (H, W, C), which PyTorch flattens as (C, H, W); None if both orders are equal.

    Vectors (I,) and sequences (T, C) have the same order in both. A sequence (C, T) of PyTorch is an image (1, T, C).

    Example:
        >>> flat_order((1, 3, 2))  # r, g, r, g, r, g in funcnet; r, r, r, g, g, g in PyTorch
        array([0, 3, 1, 4, 2, 5])
    """
    if len(shape) < 3:
        return None
    there = np.arange(math.prod(shape)).reshape(shape[-1], *shape[:-1])
    order: Order = np.moveaxis(there, 0, -1).ravel()
    return None if (order[:-1] < order[1:]).all() else order


def flat_orders(subject: str, params: Network, input_shape: Shape | None) -> dict[str, Order]:
    """Return the path and the order of each layer whose inputs are numbers of flattened images.

    Raises:
        ConfigError: If a layer flattens rows and input_shape is None, or if a layer does not allow another order.
        ShapeError: If a row of input_shape does not fit a layer.
    """
    if input_shape is None:
        for path in _reshaping(params, ""):
            reason = "the shape of its rows is not known, and PyTorch flattens images as (C, H, W) instead of (H, W, C)"
            fix = "pass input_shape, the shape of a row of x, such as input_shape=(28, 28, 1)"
            raise ConfigError(f"{reason}; {fix}", subject=place(subject, path))
        return {}
    shape = check_shape(input_shape)
    row_shape(params, shape)
    found: dict[str, Order] = {}
    if _follow(params, Row(shape), subject, "", found).order is not None:
        raise ConfigError(f"the network ends with flattened images in funcnet's order; {_FIX}", subject=subject)
    return found


def _reshaping(params: Network, path: str) -> Iterator[str]:
    """The paths of the layers that flatten or reshape rows."""
    if isinstance(params, tuple):
        for position, inner in enumerate(params):
            yield from _reshaping(inner, below(path, position))
    elif isinstance(params, Flatten | Reshape):
        yield path
    else:
        for name in fields_of(type(params)).every_network:
            yield from _reshaping(getattr(params, name), below(path, name))


def _follow(params: Network, row: Row, subject: str, path: str, found: dict[str, Order]) -> Row:
    """The row after a network; ``found`` gets the order of each layer whose arrays must follow it."""
    if isinstance(params, tuple):
        for position, inner in enumerate(params):
            row = _follow(inner, row, subject, below(path, position), found)
        return row
    shape, order, follows = row_shape(params, row.shape), row.order, True
    layer: Layer = params
    convolved = len(shape) == 2 and not isinstance(layer, _CHANNELS_LAST) and (row.convolved or type(layer) is Conv1D)
    inside: list[Network] = [getattr(layer, name) for name in fields_of(type(layer)).every_network]
    if isinstance(layer, Frozen | Masked | Residual | Repeat):
        after = _follow(inside[0], row, subject, below(path, "net"), found)
        order, convolved = after.order, after.convolved
        follows = isinstance(layer, Frozen | Masked) or _same(order, row.order)
    elif isinstance(layer, Parallel):
        nets = enumerate(cast("tuple[Network, ...]", inside[0]))
        rows = [_follow(net, row, subject, below(path, f"nets.{position}"), found) for position, net in nets]
        order, convolved = _joined(rows) if layer.combine == "concat" else rows[0].order, any(r.convolved for r in rows)
        follows = layer.combine == "concat" or all(_same(each.order, order) for each in rows)
    elif isinstance(layer, Flatten | Reshape) and row.convolved:
        reason = "PyTorch flattens a sequence after a Conv1d as (C, T) or, after a transposition, as (T, C)"
        fix = "convert the layers before it and after it separately; reorder_flat(dense, (1, T, C)) is for (C, T)"
        raise ConfigError(f"{reason}; {fix}", subject=place(subject, path))
    elif isinstance(layer, Flatten | Reshape):
        order = flat_order(row.shape) if order is None else order
        if len(shape) != 1:
            follows, order = _same(order, flat_order(shape)), None
    elif order is None:
        follows = _keeps_images(row.shape, shape) and not any(True for _ in _reshaping(layer, path))
    else:
        found[path] = order
        is_known, keeps = isinstance(layer, _FOLLOWING), not inside and shape == row.shape
        follows = is_known or (keeps and _is_elementwise(layer, order))
        order = None if isinstance(layer, Dense) else order
    if not follows:
        kind = type(params).__name__
        reason = f"PyTorch's order of flattened images, (C, H, W), cannot be followed through {kind}"
        raise ConfigError(f"{reason}; {_FIX}", subject=place(subject, path))
    return Row(shape, order, convolved)


_FOLLOWING: Final = (Dense, BatchNorm, LayerNorm, RMSNorm, PReLU, Dropout)
"""The layers that compute the same in every order, if their arrays follow it."""

_CHANNELS_LAST: Final = (Dense, LayerNorm, RMSNorm, RNN, GRU, LSTM, MultiHeadAttention)
"""The layers whose sequences are (T, C) in PyTorch, too."""


def _keeps_images(before: Shape, after: Shape) -> bool:
    """Whether a layer flattens no image: images remain images, or become vectors with a number for each channel."""
    return (len(before) >= 3) == (len(after) >= 3) or after == before[-1:]


def _is_elementwise(layer: Layer, order: Order) -> bool:
    """Whether the layer computes the same numbers in the other order, as every activation does."""
    x = np.linspace(-2, 2, len(order), dtype=np.float32)[None]
    return np.allclose(forward(layer, x)[:, order], forward(layer, x[:, order]), equal_nan=True)


def _joined(rows: list[Row]) -> Order | None:
    """The order of concatenated rows: numbers of a row come after all numbers of the rows before it."""
    if all(row.order is None for row in rows):
        return None
    sizes = [row.shape[-1] for row in rows]
    orders = [np.arange(size) if row.order is None else row.order for row, size in zip(rows, sizes, strict=True)]
    starts = accumulate(sizes[:-1], initial=0)
    return np.concatenate([start + order for start, order in zip(starts, orders, strict=True)])


def _same(a: Order | None, b: Order | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))
