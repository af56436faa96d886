"""Shards: a batch's gradient as the sum of its shards' gradients, with the same bits on any number of workers.

The shard, not the worker, is the unit of arithmetic: shards have a fixed size, and their gradients are added in a
fixed order. Serial, threaded and multi-process runs therefore have the same bits; a different shard size gives
different bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from funcnet.arithmetic import Name, in_force, using
from funcnet.core.arrays import Array, Input, lock
from funcnet.core.checks import check_count, check_input, check_rows, check_weight
from funcnet.core.errors import ConfigError, NonFiniteError, ShapeError
from funcnet.core.trees import map_parameters
from funcnet.inspection.nonfinite import diagnosed
from funcnet.network.layer import N
from funcnet.network.loss import Loss, total_of
from funcnet.network.modes import training
from funcnet.network.passes import value_and_grad
from funcnet.random.keys import Key
from funcnet.tracing import recording

if TYPE_CHECKING:
    from concurrent.futures import Executor

T = TypeVar("T")


def sharded_value_and_grad(
    params: N,
    x: Input,
    y: T,
    loss: Loss[T],
    weight: Array | None = None,
    *,
    shard_size: int,
    executor: Executor | None = None,
    key: Key | None = None,
) -> tuple[float, N]:
    """Compute ``value_and_grad`` of a batch of N rows as a sum over shards, each scaled by its share n_s / N.

    With example weights, a shard's share is its share of the sum of the weights. A shard whose weights are all 0 is
    skipped.

    Args:
        params: The network.
        x: Inputs, shape (N, ...), floats or ids.
        y: Targets, an array of N rows.
        loss: A mean over the batch. For processes, it must be a function or record that pickles. If its mean divides by
            something other than the number of positions or the sum of the weights, it needs a method
            ``total(target, weight)``.
        weight: The weight of each row, shape (N,), or of each position, the shape of y or its first axes, or None.
        shard_size: The number of rows in a shard; the last shard may have fewer.
        executor: Computes the shards, such as a ``ThreadPoolExecutor`` or a ``ProcessPoolExecutor``; None computes them
            in this thread, one after the other.
        key: Puts shard i in training mode with ``key.child("shard", i)``; None uses the network unchanged.
            ``BatchNorm`` treats each shard as a separate batch with its own statistics ("ghost batch normalization",
            Hoffer, Hubara and Soudry, NeurIPS 2017), on any worker.

    Raises:
        ConfigError: If shard_size is not a positive int.
        FuncnetError: The errors of ``value_and_grad``.

    Example:
        >>> import numpy as np
        >>> import funcnet as fn
        >>> net, x, y = fn.mlp(fn.Key(0), (2, 3)), np.eye(2, dtype=np.float32), np.array([0, 1])
        >>> value, grad = sharded_value_and_grad(net, x, y, fn.softmax_cross_entropy, shard_size=1)
        >>> fn.equal(grad, sharded_value_and_grad(net, x, y, fn.softmax_cross_entropy, shard_size=1)[1])
        True
    """
    shard_size = check_count("sharded_value_and_grad", "shard_size", shard_size)
    tape = recording()
    if tape is not None:  # an executor must get plain arrays; each shard has its own program
        tape.refuse("its shards are computed one by one")
    check_input("sharded_value_and_grad", "x", x, "N")
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


def _shards(  # noqa: PLR0917  # the parts of a batch
    params: N, x: Input, y: T, loss: Loss[T], weight: Array | None, shard_size: int, key: Key | None
) -> tuple[list[tuple[N, Array, T, Loss[T], Array | None, Name]], list[float]]:
    """Return the arguments for each shard whose total is not 0, and its share of the batch's total."""
    if weight is not None:
        check_weight("sharded_value_and_grad", weight, len(x), cast("Array", y).shape)
    shards: list[tuple[N, Array, T, Loss[T], Array | None, Name]] = []
    totals: list[float] = []
    whole = 0.0
    for number, start in enumerate(range(0, max(len(x), 1), shard_size)):
        rows = slice(start, start + shard_size)
        part, target = lock(cast("Array", x[rows].copy())), cast("T", cast("Array", y)[rows])
        weights = None if weight is None else lock(weight[rows].copy())
        total = total_of(loss, len(part), target, weights)
        if total or not len(x):
            net = params if key is None else training(params, key.child("shard", number))
            shards.append((net, part, target, loss, weights, in_force()))
            totals.append(total)
            whole += total
    if not shards:
        raise ConfigError("the sum of the weights of the batch must be positive", subject="sharded_value_and_grad")
    return shards, [total / whole if whole else 1.0 for total in totals]


def check_targets(subject: str, y: object, count: int) -> None:
    """Check that the targets are an array of ``count`` rows that can be sliced.

    Raises:
        DTypeError, ShapeError: If they are not; the message describes them.
    """
    rows = check_rows(subject, "y", y)
    if len(rows) != count:
        raise ShapeError(f"y must have as many rows as x, {count}, got {rows.shape}", subject=subject)


def _scaled(grads: N, share: float) -> N:
    return map_parameters(lambda g: lock(g * share), grads)


def _shard(  # noqa: PLR0917  # the arguments that an executor maps over
    params: N, x: Array, y: T, loss: Loss[T], weight: Array | None, arithmetic: Name
) -> tuple[float, N]:
    with using(arithmetic):
        try:
            return value_and_grad(params, x, y, loss, weight)
        except NonFiniteError as error:
            raise diagnosed(error, params, x, y, loss, weight=weight) from None
