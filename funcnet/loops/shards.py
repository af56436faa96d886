"""Shards: a batch's gradient as the sum of its shards' gradients, with the same bits on any number of workers.

The shard, not the worker, is the unit of arithmetic: shards have a fixed size, and their gradients are added as a fixed
binary tree (``reducers.tree_sum``). Serial, threaded and multi-process runs, and runs on many machines, therefore have
the same bits; a different shard size gives different bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import add
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

import numpy as np

from funcnet.arithmetic import Name, in_force, using
from funcnet.core.arrays import Array, Input, lock
from funcnet.core.checks import INFINITY, check_count, check_input, check_rows, check_weight
from funcnet.core.errors import ConfigError, FuncnetError, NonFiniteError, ShapeError, StructureError
from funcnet.core.trees import flat, map_parameters, trained_arrays, with_flat
from funcnet.inspection.nonfinite import diagnosed
from funcnet.loops.reducers import Reducer, tree_sum
from funcnet.network.layer import N, Network
from funcnet.network.loss import Loss, total_of
from funcnet.network.modes import training
from funcnet.network.passes import loss_and_grad
from funcnet.random.keys import Key
from funcnet.tracing import recording
from funcnet.tracing.replay import replayed_call

if TYPE_CHECKING:
    from concurrent.futures import Executor

T = TypeVar("T")

UNROLLED: Final = 32
"""A step of at most this many shards, computed in one thread, is traced as a whole; its trace has all its shards."""


class _Shard(NamedTuple):
    """Everything that a shard's loss and gradient depend on; a worker gets it as it is.

    ``share`` is the shard's part of the batch's total; the key of its training mode is ``key.child("shard", number)``.
    """

    params: Any
    x: Array
    y: Any
    loss: Loss[Any]
    weight: Array | None
    key: Key | None
    number: int
    share: float
    arithmetic: Name


def sharded_value_and_grad(
    params: N,
    x: Input,
    y: T,
    loss: Loss[T],
    weight: Array | None = None,
    *,
    shard_size: int,
    executor: Executor | None = None,
    reducer: Reducer | None = None,
    key: Key | None = None,
) -> tuple[float, N]:
    """Compute ``value_and_grad`` of a batch of N rows as a sum over shards, each scaled by its share n_s / N.

    With example weights, a shard's share is its share of the sum of the weights. A shard whose weights are all 0 is
    skipped. The gradients are added as a binary tree, ``((0 + 1) + (2 + 3)) + ...``, whatever computes them.

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
        reducer: Divides the shards among the processes that run this program, such as ``MPIReducer``; None computes all
            of them in this process. Each process gets the whole result. The executor computes a process's own shards.
        key: Puts shard i in training mode with ``key.child("shard", i)``; None uses the network unchanged.
            ``BatchNorm`` treats each shard as a separate batch with its own statistics ("ghost batch normalization",
            Hoffer, Hubara and Soudry, NeurIPS 2017), on any worker.

    Raises:
        ConfigError: If shard_size is not a positive int.
        NonFiniteError: If a shard's loss is NaN or infinite.
        StructureError: If the ranks of a reducer have different batches.
        FuncnetError: The errors of ``value_and_grad``, or if a shard failed on another rank.

    Example:
        >>> import numpy as np
        >>> import funcnet as fn
        >>> net, x, y = fn.mlp(fn.Key(0), (2, 3)), np.eye(2, dtype=np.float32), np.array([0, 1])
        >>> value, grad = sharded_value_and_grad(net, x, y, fn.softmax_cross_entropy, shard_size=1)
        >>> fn.equal(grad, sharded_value_and_grad(net, x, y, fn.softmax_cross_entropy, shard_size=1)[1])
        True
    """
    shard_size = check_count("sharded_value_and_grad", "shard_size", shard_size)
    reducer = None if reducer is None or reducer.size == 1 else reducer
    tape = recording()
    if tape is not None and not (executor is None and reducer is None and len(x) <= UNROLLED * shard_size):
        tape.refuse("its shards are computed one by one")  # and each rank must reduce the same number of times
    check_input("sharded_value_and_grad", "x", x, "N")
    check_targets("sharded_value_and_grad", y, len(x))
    if weight is not None:
        check_weight("sharded_value_and_grad", weight, len(x), cast("Array", y).shape)
    shards = _cut(params, x, y, loss, weight, shard_size, key)
    if reducer is None:
        value, grads = tree_sum((executor.map if executor else map)(_share_of, map(_taken, shards)), _added)
        return value, map_parameters(lambda _, g: g, params, grads)  # the rest, such as the mode, is that of params
    _check_same_batch(x, y, weight, reducer)
    own = [_taken(shards[place]) for place in reducer.own(len(shards))]
    return _reduced(params, _computed(own, executor), reducer, len(shards))


def _cut(  # noqa: PLR0917  # the parts of a batch
    params: Network, x: Input, y: T, loss: Loss[T], weight: Array | None, shard_size: int, key: Key | None
) -> list[_Shard]:
    """Return each shard whose total is not 0, with its share of the batch's total. Their arrays are views."""
    shards: list[_Shard] = []
    whole = 0.0
    for number, start in enumerate(range(0, max(len(x), 1), shard_size)):
        rows = slice(start, start + shard_size)
        part, target = cast("Array", x[rows]), cast("T", cast("Array", y)[rows])
        weights = None if weight is None else weight[rows]
        total = total_of(loss, len(part), target, weights)
        if total or not len(x):
            shards.append(_Shard(params, part, target, loss, weights, key, number, total, in_force()))
            whole += total
    if not shards:
        raise ConfigError("the sum of the weights of the batch must be positive", subject="sharded_value_and_grad")
    return [shard._replace(share=shard.share / whole if whole else 1.0) for shard in shards]


def _taken(shard: _Shard) -> _Shard:
    """Return the shard with copies of its rows: the bits of some products depend on where an array lies in memory."""
    x, weight = lock(shard.x.copy()), shard.weight
    return shard._replace(x=x, weight=None if weight is None else lock(weight.copy()))


def check_targets(subject: str, y: object, count: int) -> None:
    """Check that the targets are an array of ``count`` rows that can be sliced.

    Raises:
        DTypeError, ShapeError: If they are not; the message describes them.
    """
    rows = check_rows(subject, "y", y)
    if len(rows) != count:
        raise ShapeError(f"y must have as many rows as x, {count}, got {rows.shape}", subject=subject)


# --------------------------------------------------------------------------------------------------- one shard


def _share_of(shard: _Shard) -> tuple[float, Any]:
    """Return a shard's loss and its gradient, both scaled by its share."""
    given = shard.params, shard.x, shard.y, shard.loss, shard.weight
    with using(shard.arithmetic):
        try:
            value, grads = replayed_call(
                _loss_and_grad, shard.key, shard.number, *given, context=shard.arithmetic, varying=2
            )
        except NonFiniteError as error:
            net = _in_training(shard.key, shard.number, shard.params)
            raise diagnosed(error, net, *given[1:4], weight=shard.weight) from None
    return shard.share * value, map_parameters(lambda g: g * shard.share, grads)


def _loss_and_grad(  # noqa: PLR0917  # positions, as replayed_call passes them
    key: Key | None, number: int, params: N, x: Array, y: T, loss: Loss[T], weight: Array | None
) -> tuple[float, N]:
    return loss_and_grad(_in_training(key, number, params), x, y, loss, weight)


def _in_training(key: Key | None, number: int, params: N) -> N:
    return params if key is None else training(params, key.child("shard", number))


def _added(a: tuple[float, N], b: tuple[float, N]) -> tuple[float, N]:
    return a[0] + b[0], map_parameters(lambda p, q: p + q, a[1], b[1])


# ------------------------------------------------------------------------------------------------- many ranks


def _computed(
    shards: list[_Shard], executor: Executor | None
) -> tuple[tuple[float, ...], tuple[Array, ...], Exception | None]:
    """Return the losses and flat gradients of this rank's shards. After an error, which is returned, losses are NaN."""
    try:
        if executor is not None or not 0 < len(shards) <= UNROLLED:
            return *_listed((executor.map if executor else map)(_share_of, shards)), None
        first = shards[0]
        varying = first.key, tuple(shard.number for shard in shards), tuple(shard.share for shard in shards)
        rows = tuple((shard.x, shard.y, shard.weight) for shard in shards)
        given = first.params, rows, first.loss, first.arithmetic
        return *replayed_call(_of_own_shards, *varying, *given, context=first.arithmetic, varying=3), None
    except Exception as error:  # noqa: BLE001  # raised after ``gather``, for which the other ranks wait
        return (np.nan,) * len(shards), (), error


def _check_same_batch(x: Input, y: object, weight: Array | None, reducer: Reducer) -> None:
    """Check that all ranks cut the same batch: otherwise, they would agree on the gradient of no batch at all."""
    from zlib import crc32  # noqa: PLC0415  # importing funcnet stays cheap

    checksum = 0
    for part in (x, y, weight):
        checksum = crc32(b"" if part is None else np.ascontiguousarray(part).data, checksum)
    found = reducer.gather([float(checksum)] * len(reducer.own(reducer.size)), reducer.size)
    if len(set(found)) > 1:
        fix = "give each rank the same data, in the same order, by the same keys"
        raise StructureError(f"all ranks must have the same batch; {fix}", subject="sharded_value_and_grad")


def _of_own_shards(  # noqa: PLR0917  # positions, as replayed_call passes them
    key: Key | None,
    numbers: tuple[int, ...],
    shares: tuple[float, ...],
    params: Network,
    rows: tuple[tuple[Array, Any, Array | None], ...],
    loss: Loss[Any],
    arithmetic: Name,
) -> tuple[tuple[float, ...], tuple[Array, ...]]:
    """Compute all shards of a rank, as one program."""
    shards = (
        _Shard(params, x, y, loss, weight, key, number, share, arithmetic)
        for (x, y, weight), number, share in zip(rows, numbers, shares, strict=True)
    )
    return _listed(map(_share_of, shards))


def _listed(results: Iterable[tuple[float, Any]]) -> tuple[tuple[float, ...], tuple[Array, ...]]:
    pairs = [(loss, flat(grads)) for loss, grads in results]
    return tuple(loss for loss, _ in pairs), tuple(vector for _, vector in pairs)


def _reduced(
    params: N, computed: tuple[tuple[float, ...], tuple[Array, ...], Exception | None], reducer: Reducer, count: int
) -> tuple[float, N]:
    """Return the loss and the gradient of all ranks' shards. If a rank failed, all ranks raise an error."""
    losses, vectors, problem = computed
    every = reducer.gather(losses, count)
    if problem is not None:
        raise problem
    failed = [place for place, loss in enumerate(every) if not -INFINITY < loss < INFINITY]
    if failed:
        reason = f"shard {failed[0]} of {count} failed on another rank, whose own error says why"
        raise FuncnetError(reason, subject="sharded_value_and_grad")
    arrays = trained_arrays(params)
    size, dtype = sum(array.size for array in arrays), arrays[0].dtype if arrays else np.dtype(np.float32)
    return tree_sum(every, add), with_flat(params, reducer.reduce(vectors, size, count, dtype))
