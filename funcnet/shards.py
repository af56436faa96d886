"""Shards: a batch's gradient as the sum of its shards' gradients, the same whoever computes them.

The shard, not the worker, is the unit of arithmetic: shards have a fixed size, and their gradients are added in their
order. So serial, threaded and multi-process runs have the same bits; another shard size is another run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from funcnet.arithmetic import Name, in_force, using
from funcnet.arrays import Array, check_array, lock
from funcnet.errors import DTypeError, ShapeError
from funcnet.keys import Key
from funcnet.layer import N
from funcnet.modes import training
from funcnet.network import Loss, value_and_grad
from funcnet.settings import check_count
from funcnet.trees import map_parameters

if TYPE_CHECKING:
    from concurrent.futures import Executor

T = TypeVar("T")


def sharded_value_and_grad(
    params: N,
    x: Array,
    y: T,
    loss: Loss[T],
    *,
    shard_size: int,
    executor: Executor | None = None,
    key: Key | None = None,
) -> tuple[float, N]:
    """``value_and_grad`` of a batch of N rows, as the sum over shards of n_s / N times the shard's.

    Args:
        params: The network.
        x: Inputs, shape (N, ...).
        y: Targets, an array of N rows.
        loss: A mean over the batch. For processes, a function or record that pickles.
        shard_size: Rows a shard; the last one may have fewer.
        executor: Computes the shards, such as a ``ThreadPoolExecutor`` or a ``ProcessPoolExecutor``; None computes them
            here, one after the other.
        key: Puts shard i in training mode with ``key.child("shard", i)``; None computes with the network as it is.
            A shard is a batch of its own to ``BatchNorm``: it has its own statistics ("ghost batch normalization",
            Hoffer, Hubara and Soudry, NeurIPS 2017), whoever computes it.

    Raises:
        ConfigError: If shard_size is no positive int.
        FuncnetError: What ``value_and_grad`` raises.

    Example:
        >>> import numpy as np
        >>> import funcnet as fn
        >>> net, x, y = fn.mlp(fn.Key(0), (2, 3)), np.eye(2, dtype=np.float32), np.array([0, 1])
        >>> value, grad = sharded_value_and_grad(net, x, y, fn.softmax_cross_entropy, shard_size=1)
        >>> fn.equal(grad, sharded_value_and_grad(net, x, y, fn.softmax_cross_entropy, shard_size=1)[1])
        True
    """
    check_count("sharded_value_and_grad", "shard_size", shard_size)
    check_array("sharded_value_and_grad", "x", x, ("N", "..."))
    check_targets("sharded_value_and_grad", y)
    targets = cast("Array", y)
    starts = range(0, max(len(x), 1), shard_size)
    nets = [params if key is None else training(params, key.child("shard", i)) for i in range(len(starts))]
    xs = [lock(x[start : start + shard_size].copy()) for start in starts]
    ys = [cast("T", targets[start : start + shard_size]) for start in starts]
    arithmetic: list[Name] = [in_force()] * len(starts)
    results = (executor.map if executor else map)(_shard, nets, xs, ys, [loss] * len(starts), arithmetic)
    total: N | None = None
    value = 0.0
    for part, (shard_value, grads) in zip(xs, results, strict=True):
        share = len(part) / len(x) if len(x) else 1.0
        value += share * shard_value
        scaled = _scaled(grads, share)
        total = scaled if total is None else map_parameters(lambda a, b: lock(a + b), total, scaled)
    return value, cast("N", total)


def check_targets(subject: str, y: object) -> None:
    """Check that targets are an array of rows, which can be cut.

    Raises:
        DTypeError, ShapeError: Says what they are.
    """
    if type(y) is not np.ndarray:
        raise DTypeError(f"y must be a plain NumPy array, got {type(y).__name__}", subject=subject)
    if y.ndim == 0:
        raise ShapeError("y must have shape (N, ...), got ()", subject=subject)


def _scaled(grads: N, share: float) -> N:
    return map_parameters(lambda g: lock(g * share), grads)


def _shard(params: N, x: Array, y: T, loss: Loss[T], arithmetic: Name) -> tuple[float, N]:
    with using(arithmetic):
        return value_and_grad(params, x, y, loss)
