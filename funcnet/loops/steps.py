"""Steps: records that compute one update of a network or of a training state from one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from attrs import field, frozen

from funcnet.arithmetic import Name, in_force
from funcnet.core.arrays import Input
from funcnet.core.checks import INFINITY, check_callable, check_count, check_number
from funcnet.core.errors import ConfigError, NonFiniteError, StructureError, quoted
from funcnet.core.html import network_table, table
from funcnet.core.names import register_name
from funcnet.core.records import Settings, check_tree, convert_settings, evolve
from funcnet.core.trees import map_parameters
from funcnet.inspection.nonfinite import diagnosed
from funcnet.loops.reducers import Reducer
from funcnet.loops.shards import sharded_value_and_grad
from funcnet.network.batch import Batch, check_is_batch
from funcnet.network.layer import N, Network
from funcnet.network.loss import Loss, is_loss, total_of
from funcnet.network.modes import check_training, has_modes, training
from funcnet.network.passes import loss_and_grad
from funcnet.optimizers.descent import sgd_update
from funcnet.optimizers.moments import Moments
from funcnet.optimizers.protocol import Optimizer, check_optimizer, initial, updated, zeros_like
from funcnet.optimizers.wrappers import average_in, window_of
from funcnet.random.keys import Key, check_key

if TYPE_CHECKING:
    from concurrent.futures import Executor

T = TypeVar("T")
M = TypeVar("M", bound=Network)


@frozen
class SGDStep(Settings, Generic[T]):
    """``(network, batch) -> (network, loss)``; see ``sgd_step``. It is a record: it prints, pickles and compares."""

    loss: Loss[T]
    learning_rate: float
    shard_size: int | None = None
    executor: Executor | None = field(default=None, eq=False, repr=False)
    reducer: Reducer | None = field(default=None, eq=False, repr=False)

    def __call__(self, params: N, batch: Batch[T, Input], /) -> tuple[N, float]:
        """Return the network after one update, and the loss before it."""
        if isinstance(params, TrainState):
            fix = "use train_step, or state.params"
            raise StructureError(f"params must be a network, got a TrainState; {fix}", subject="sgd_step")
        check_training(params, "sgd_step")
        with np.errstate(all="ignore"):  # NaN and infinity are refused, here or at the epoch's end
            if _counts_for_nothing(self.total(batch), batch):
                return params, 0.0
            loss, grads = _gradients(self, params, batch, None)
            return sgd_update(params, grads, learning_rate=self.learning_rate), loss

    def total(self, batch: Batch[T, Input], /) -> float:
        """Return the number that the batch's mean loss divides by; if it is 0, the batch counts for nothing."""
        return _total(self, batch)


def sgd_step(
    loss: Loss[T],
    *,
    learning_rate: float,
    shard_size: int | None = None,
    executor: Executor | None = None,
    reducer: Reducer | None = None,
) -> SGDStep[T]:
    """Return a step of plain gradient descent, whose state is the network itself.

    Args:
        loss: The loss to minimize.
        learning_rate: The learning rate, above 0.
        shard_size: The number of rows in a shard of a batch, see ``sharded_value_and_grad``; None does not shard.
        executor: Computes the shards; it changes no bit and is not part of the step's value.
        reducer: Divides the shards among processes, such as ``MPIReducer``; it changes no bit, either.

    Raises:
        ConfigError: If the learning rate is not above 0 and finite. The step raises it, too, if a layer is not in its
            training form.

    Example:
        >>> import funcnet as fn
        >>> sgd_step(fn.softmax_cross_entropy, learning_rate=0.1).learning_rate
        0.1
    """
    _check_loss("sgd_step", loss)
    learning_rate = check_number("sgd_step", "learning_rate", learning_rate, low=0, high=INFINITY)
    _check_shards("sgd_step", shard_size, executor, reducer)
    return SGDStep(loss, learning_rate, shard_size, executor, reducer)


def check_step(subject: str, step: Callable[..., object]) -> None:
    """Check that a step is a function, and that it is not a loss.

    Raises:
        ConfigError: If it is not a function, or if its parameters have the names of those of a loss.

    Example:
        >>> import funcnet as fn
        >>> check_step("fit", fn.huber)
        Traceback (most recent call last):
        funcnet.ConfigError: fit: step must be a function (state, batch), got the loss huber; use train_step(loss)
    """
    check_callable(subject, "step", step)
    if not isinstance(step, SGDStep | TrainStep) and is_loss(step):
        got = f"got the loss {getattr(step, '__name__', None) or quoted(step)}"
        raise ConfigError(f"step must be a function (state, batch), {got}; use train_step(loss)", subject=subject)


def _check_loss(subject: str, loss: object) -> None:
    if isinstance(loss, type):
        got = f"got the class {loss.__name__}; use {loss.__name__}()"
        raise ConfigError(f"loss must be a function, {got}", subject=subject)
    check_callable(subject, "loss", loss)


def _names(moments: object) -> str:
    return f"Moments({', '.join(moments.names)})" if isinstance(moments, Moments) else repr(moments)


@frozen(eq=False)
class TrainState(Generic[N]):
    """The complete state of a run between two steps: network, optimizer, moments, step count, key and arithmetic.

    Because the state holds them, a run cannot continue under another optimizer or in another arithmetic.
    """

    params: N
    optimizer: Optimizer
    moments: Moments[N] = field(repr=_names)
    step: int
    key: Key
    arithmetic: Name = "native"

    def __attrs_post_init__(self) -> None:
        convert_settings(self, ("step",))

    def _repr_html_(self) -> str:
        facts = {"step": self.step, "optimizer": self.optimizer, "moments": _names(self.moments), "key": self.key}
        rows = {**facts, "arithmetic": self.arithmetic}.items()
        return table(("state", ""), rows, "lt") + network_table(self.params)

    @staticmethod
    def create(params: M, optimizer: Optimizer, *, key: Key) -> TrainState[M]:
        """Return the state before the first step of a run in the arithmetic in force.

        Example:
            >>> import funcnet as fn
            >>> state = TrainState.create(fn.mlp(fn.Key(0), (2, 3)), fn.Momentum(learning_rate=0.1), key=fn.Key(0))
            >>> state.step, state.moments
            (0, Moments(velocity=(Dense(weight=float32 (2, 3), bias=float32 (3,)),)))
        """
        check_tree("TrainState", params)
        check_key("TrainState", key)
        check_optimizer("TrainState", optimizer)
        return TrainState(params, optimizer, initial(optimizer, params), 0, key, in_force())

    def in_training(self) -> N:
        """Return the network in its training form for the next step: ``training(params, key.child("step", step))``.

        Example:
            >>> import funcnet as fn
            >>> state = TrainState.create((fn.ReLU(), fn.Dropout(0.5)), fn.SGD(learning_rate=0.1), key=fn.Key(0))
            >>> state.in_training()
            (ReLU(), Dropout(rate=0.5, key=Key(0, 1046793281, 0, 1)))
        """
        return training(self.params, self.step_key())

    def step_key(self) -> Key:
        """Return the key of the next step."""
        return self.key.child("step", self.step)

    def apply(self, grads: N, total: float = 1.0) -> TrainState[N]:
        """Return the state after one step of the optimizer with these gradients, for your own training step.

        Args:
            grads: The gradient of a mean over a batch, such as the second result of ``value_and_grad``.
            total: The number that this mean divides by, such as the number of rows, for ``Accumulation``.

        Raises:
            ConfigError: If the arithmetic in force is not the arithmetic in which the run began.
            StructureError: If the gradients have a different structure from the network.

        Example:
            >>> import funcnet as fn
            >>> def step(state, batch):
            ...     loss, grads = fn.value_and_grad(state.in_training(), batch.x, batch.y, fn.softmax_cross_entropy)
            ...     return state.apply(grads, total=len(batch.x)), loss
            >>> net = (*fn.mlp(fn.Key(0), (2, 3)), fn.Dropout(0.5))
            >>> state = TrainState.create(net, fn.Adam(learning_rate=0.1), key=fn.Key(1))
            >>> batches = fn.minibatches(np.eye(2, dtype=np.float32), np.array([0, 1]), 1)
            >>> fn.train_epoch(step, state, batches)[0].step
            2
        """
        _check_arithmetic(self)
        with np.errstate(all="ignore"):  # NaN and infinity are refused at the epoch's end
            params, moments = updated(self.optimizer, self.params, grads, self.moments, self.step, total)
        return evolve(self, params=params, moments=moments, step=self.step + 1)

    def skip(self) -> TrainState[N]:
        """Return the state after a batch whose total is 0: unchanged, except that ``Accumulation`` counts a part."""
        if window_of(self.optimizer) == 1:
            return self
        return self.apply(zeros_like(self.params), 0.0)


def averaged(state: TrainState[N]) -> N:
    """Return the network with the moving average of its parameters, kept by an ``Averaging`` in the state's optimizer.

    Everything untrained, such as statistics, comes from the state's own network; recalibrate statistics if it has any.

    Raises:
        ConfigError: If the state's optimizer does not contain an ``Averaging``.

    Example:
        >>> import funcnet as fn
        >>> optimizer = fn.Averaging(fn.AdamW(learning_rate=1e-3), decay=0.99)
        >>> state = TrainState.create(fn.mlp(fn.Key(0), (2, 3)), optimizer, key=fn.Key(0))
        >>> averaged(state)
        (Dense(weight=float32 (2, 3), bias=float32 (3,)),)
    """
    _check_run(state, "averaged")
    average = average_in(state.optimizer, state.moments, "averaged")
    if average is None:
        fix = f"use Averaging({state.optimizer!r:.80})"
        raise ConfigError(f"the optimizer must keep an average; {fix}", subject="averaged")
    return map_parameters(lambda _, average: average, state.params, average)


def flushed(state: TrainState[N]) -> TrainState[N]:
    """Return the state after an update with the gradients that ``Accumulation`` has added since its last update.

    Without such gradients, the state is unchanged. Otherwise, the step count continues at the next update's first step.

    Example:
        >>> import funcnet as fn
        >>> optimizer = fn.Accumulation(fn.SGD(learning_rate=0.1), steps=4)
        >>> state = TrainState.create(fn.mlp(fn.Key(0), (2, 2)), optimizer, key=fn.Key(0))
        >>> batches = fn.minibatches(np.eye(2, dtype=np.float32), np.array([0, 1]), 1)
        >>> state, log = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), state, batches)
        >>> state.step, flushed(state).step
        (2, 4)
    """
    _check_run(state, "flushed")
    while state.step % window_of(state.optimizer):
        state = state.skip()
    return state


@frozen
class TrainStep(Settings, Generic[T]):
    """``(state, batch) -> (state, loss)`` for a ``TrainState``; see ``train_step``."""

    loss: Loss[T]
    shard_size: int | None = None
    executor: Executor | None = field(default=None, eq=False, repr=False)
    reducer: Reducer | None = field(default=None, eq=False, repr=False)

    def __call__(self, state: TrainState[N], batch: Batch[T, Input], /) -> tuple[TrainState[N], float]:
        """Return the state after one update by its own optimizer, and the loss before it."""
        _check_run(state)
        _check_arithmetic(state)  # before anything is computed in the wrong one
        with np.errstate(all="ignore"):  # NaN and infinity are refused, here or at the epoch's end
            total = self.total(batch)
            if _counts_for_nothing(total, batch):
                return state.skip(), 0.0
            loss, grads = _gradients(self, state.params, batch, state.step_key() if has_modes(state.params) else None)
            return state.apply(grads, total), loss

    def total(self, batch: Batch[T, Input], /) -> float:
        """Return the number that the batch's mean loss divides by; if it is 0, the batch counts for nothing."""
        return _total(self, batch)


def _check_run(state: object, subject: str = "TrainStep") -> None:
    if not isinstance(state, TrainState):
        fix = "use TrainState.create(net, optimizer, key=...)"
        raise StructureError(f"state must be a TrainState, got {state!r:.80}; {fix}", subject=subject)


def _check_arithmetic(state: TrainState[N]) -> None:
    if state.arithmetic != in_force():
        fix = f"{'create the state' if state.arithmetic == 'native' else 'train'} inside `with fn.portable():`"
        raise ConfigError(f"the run began in {state.arithmetic} arithmetic, not in {in_force()}; {fix}")


def train_step(
    loss: Loss[T], *, shard_size: int | None = None, executor: Executor | None = None, reducer: Reducer | None = None
) -> TrainStep[T]:
    """Return a step for a ``TrainState``: training mode, keyed by the step's number, and the state's own optimizer.

    ``shard_size``, ``executor`` and ``reducer`` are those of ``sgd_step``.

    Example:
        >>> import funcnet as fn
        >>> state = TrainState.create(fn.mlp(fn.Key(0), (2, 3)), fn.SGD(learning_rate=0.1), key=fn.Key(0))
        >>> batch = fn.Batch(np.zeros((1, 2), np.float32), np.array([1]))
        >>> state, loss = train_step(fn.softmax_cross_entropy)(state, batch)
        >>> state.step, round(loss, 4)
        (1, 1.0986)
    """
    _check_loss("train_step", loss)
    _check_shards("train_step", shard_size, executor, reducer)
    return TrainStep(loss, shard_size, executor, reducer)


def check_executor(subject: str, executor: object) -> None:
    """Check that an executor is None or has a method ``map``, and is not a class.

    Raises:
        ConfigError: If it is something else.
    """
    if executor is not None and (isinstance(executor, type) or not callable(getattr(executor, "map", None))):
        wanted = "executor must be a concurrent.futures.Executor or None"
        raise ConfigError(f"{wanted}, got {quoted(executor)}", subject=subject)


def _check_shards(subject: str, shard_size: int | None, executor: Executor | None, reducer: Reducer | None) -> None:
    check_executor(subject, executor)
    given: object = reducer
    if given is not None and (isinstance(given, type) or not isinstance(given, Reducer)):
        fix = f"; use {given.__name__}()" if isinstance(given, type) else ""
        raise ConfigError(f"reducer must be a Reducer or None, got {quoted(given)}{fix}", subject=subject)
    if shard_size is not None:
        check_count(subject, "shard_size", shard_size)
    elif executor is not None or reducer is not None:
        what = "an executor computes" if reducer is None else "a reducer divides"
        raise ConfigError(f"{what} shards; give shard_size, too", subject=subject)


def _total(step: SGDStep[T] | TrainStep[T], batch: Batch[T, Input]) -> float:
    check_is_batch(type(step).__name__, batch)
    return total_of(step.loss, _rows(batch), batch.y, batch.weight)


def _counts_for_nothing(total: float, batch: Batch[T, Input]) -> bool:
    return not total and _rows(batch) > 0  # the loss refuses a batch without rows


def _rows(batch: Batch[T, Input]) -> int:
    return len(batch.x) if np.ndim(batch.x) else 0


def _gradients(step: SGDStep[T] | TrainStep[T], params: N, batch: Batch[T, Input], key: Key | None) -> tuple[float, N]:
    if step.shard_size is None:
        net = params if key is None else training(params, key)
        try:
            return loss_and_grad(net, batch.x, batch.y, step.loss, batch.weight)
        except NonFiniteError as error:
            raise diagnosed(error, net, batch.x, batch.y, step.loss, weight=batch.weight) from None
    return sharded_value_and_grad(
        params,
        batch.x,
        batch.y,
        step.loss,
        batch.weight,
        shard_size=step.shard_size,
        executor=step.executor,
        reducer=step.reducer,
        key=key,
    )


register_name(SGDStep, "funcnet.SGDStep")


register_name(TrainStep, "funcnet.TrainStep")


register_name(TrainState, "funcnet.TrainState")
