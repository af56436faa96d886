"""Shards: a batch's gradient as the sum of its shards' gradients, the same whoever computes them.

The shard, not the worker, is the unit of arithmetic: shards have a fixed size, and their gradients are added in their
order. So serial, threaded and multi-process runs have the same bits; another shard size is another run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np

from funcnet.arithmetic import Name, in_force, sum_all, using
from funcnet.core.arrays import Array, lock
from funcnet.core.checks import check_array, check_count, check_weight
from funcnet.core.errors import ConfigError, DTypeError, NonFiniteError, ShapeError
from funcnet.core.trees import map_parameters
from funcnet.inspection.nonfinite import diagnosed
from funcnet.network.layer import N
from funcnet.network.loss import Loss
from funcnet.network.modes import training
from funcnet.network.passes import value_and_grad
from funcnet.random.keys import Key

if TYPE_CHECKING:
    from concurrent.futures import Executor

T = TypeVar("T")


@runtime_checkable
class Totalled(Protocol):
    """A loss that says what its mean over a batch divides by, if that is not the rows' number or their weights' sum."""

    def total(self, target: Any, weight: Array | None, /) -> float:
        """The sum of what the rows count for."""
        ...


def sharded_value_and_grad(
    params: N,
    x: Array,
    y: T,
    loss: Loss[T],
    weight: Array | None = None,
    *,
    shard_size: int,
    executor: Executor | None = None,
    key: Key | None = None,
) -> tuple[float, N]:
    """``value_and_grad`` of a batch of N rows, as the sum over shards of n_s / N times the shard's.

    With weights of examples, a shard's share is that of its weights' sum. A shard whose weights are all 0 is left out.

    Args:
        params: The network.
        x: Inputs, shape (N, ...).
        y: Targets, an array of N rows.
        loss: A mean over the batch. For processes, a function or record that pickles. One whose mean divides by
            something else than the rows' number or weights says so by a method ``total(target, weight)``.
        weight: How much each row counts, shape (N,), or None.
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
    check_targets("sharded_value_and_grad", y, len(x))
    shards, shares = _shards(params, x, y, loss, weight, shard_size, key)
    results = (executor.map if executor else map)(_shard, *zip(*shards, strict=True))
    total: N | None = None
    value = 0.0
    for share, (shard_value, grads) in zip(shares, results, strict=True):
        value += share * shard_value
        scaled = _scaled(grads, share)
        total = scaled if total is None else map_parameters(lambda a, b: lock(a + b), total, scaled)
    return value, cast("N", total)


def _shards(  # noqa: PLR0917  # what a batch is
    params: N, x: Array, y: T, loss: Loss[T], weight: Array | None, shard_size: int, key: Key | None
) -> tuple[list[tuple[N, Array, T, Loss[T], Array | None, Name]], list[float]]:
    """What each shard that counts is computed from, and its share in the whole."""
    if weight is not None:
        check_weight("sharded_value_and_grad", weight, len(x))
    shards: list[tuple[N, Array, T, Loss[T], Array | None, Name]] = []
    totals: list[float] = []
    whole = 0.0
    for number, start in enumerate(range(0, max(len(x), 1), shard_size)):
        rows = slice(start, start + shard_size)
        part, target = lock(x[rows].copy()), cast("T", cast("Array", y)[rows])
        weights = None if weight is None else lock(weight[rows].copy())
        total = _total(loss, part, target, weights)
        if total or not len(x):
            net = params if key is None else training(params, key.child("shard", number))
            shards.append((net, part, target, loss, weights, in_force()))
            totals.append(total)
            whole += total
    if not shards:
        raise ConfigError("the weights of the batch's rows must have a sum above 0", subject="sharded_value_and_grad")
    return shards, [total / whole if whole else 1.0 for total in totals]


def _total(loss: Loss[T], x: Array, y: T, weight: Array | None) -> float:
    """What a shard counts for: what the loss's mean over it divides by."""
    if isinstance(loss, Totalled):
        return loss.total(y, weight)
    return float(len(x)) if weight is None else sum_all(weight.astype(np.float64))


def check_targets(subject: str, y: object, count: int) -> None:
    """Check that targets are an array of so many rows, which can be cut.

    Raises:
        DTypeError, ShapeError: Says what they are.
    """
    if type(y) is not np.ndarray:
        raise DTypeError(f"y must be a plain NumPy array, got {type(y).__name__}", subject=subject)
    if y.ndim == 0:
        raise ShapeError("y must have shape (N, ...), got ()", subject=subject)
    if len(y) != count:
        raise ShapeError(f"y must have as many rows as x, {count}, got {y.shape}", subject=subject)


def _scaled(grads: N, share: float) -> N:
    return map_parameters(lambda g: lock(g * share), grads)


def _shard(  # noqa: PLR0917  # what an executor maps over
    params: N, x: Array, y: T, loss: Loss[T], weight: Array | None, arithmetic: Name
) -> tuple[float, N]:
    with using(arithmetic):
        try:
            return value_and_grad(params, x, y, loss, weight)
        except NonFiniteError as error:
            raise diagnosed(error, params, x, y, loss, weight=weight) from None
