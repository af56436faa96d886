"""Training: steps as records, an epoch as a fold of a step over batches, a run as a lazy sequence of epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, cast

import numpy as np
from attrs import evolve, field, frozen
from numpy.typing import NDArray

from funcnet.arithmetic import Name, in_force, mean, using
from funcnet.data import Batch, check_is_batch
from funcnet.diagnosis import diagnosed
from funcnet.errors import ConfigError, FuncnetError, NonFiniteError, StructureError
from funcnet.keys import Key, check_key
from funcnet.layer import N, Network
from funcnet.modes import check_training, has_modes, training
from funcnet.network import Loss, loss_and_grad
from funcnet.optimizers.descent import sgd_update
from funcnet.optimizers.moments import Moments
from funcnet.optimizers.protocol import Optimizer, check_optimizer, initial, updated
from funcnet.optimizers.wrappers import average_in
from funcnet.records import Record, Tree, check_tree, register_name
from funcnet.replay import replayed_fold
from funcnet.settings import INFINITY, check_callable, check_count, check_iterable, check_number
from funcnet.shards import sharded_value_and_grad
from funcnet.trees import check_finite_parameters, map_parameters

if TYPE_CHECKING:
    from concurrent.futures import Executor

S = TypeVar("S")
B = TypeVar("B")
T = TypeVar("T")
M = TypeVar("M", bound=Network)

Step: TypeAlias = Callable[[S, B], tuple[S, float]]
"""``(state, batch) -> (state, loss)``, a pure function: what ``train_epoch`` folds."""


# --------------------------------------------------------------------------------------------------- steps


@frozen
class SGDStep(Generic[T]):
    """``(network, batch) -> (network, loss)``; see ``sgd_step``. A record: it prints, pickles and compares."""

    loss: Loss[T]
    learning_rate: float
    shard_size: int | None = None
    executor: Executor | None = field(default=None, eq=False, repr=False)

    def __call__(self, params: N, batch: Batch[T], /) -> tuple[N, float]:
        """The network after one update, and the loss before it."""
        if isinstance(params, TrainState):
            fix = "use train_step, or state.params"
            raise StructureError(f"params must be a network, got a TrainState; {fix}", subject="sgd_step")
        check_training(params, "sgd_step")
        with np.errstate(all="ignore"):  # what is not finite is refused, here or at the epoch's end
            loss, grads = _gradients(self, params, batch, None)
            return sgd_update(params, grads, learning_rate=self.learning_rate), loss


def sgd_step(
    loss: Loss[T], *, learning_rate: float, shard_size: int | None = None, executor: Executor | None = None
) -> SGDStep[T]:
    """A step of plain gradient descent, whose state is the network itself.

    Args:
        loss: What is minimized.
        learning_rate: The step's length, above 0.
        shard_size: Compute each batch's gradient in shards of so many rows, see ``sharded_value_and_grad``.
        executor: Who computes the shards; it changes no bit and is no part of the step's value.

    Raises:
        ConfigError: If the learning rate is not above 0 and finite; and from the step, if a layer is not in training
            form.

    Example:
        >>> import funcnet as fn
        >>> sgd_step(fn.softmax_cross_entropy, learning_rate=0.1).learning_rate
        0.1
    """
    _check_loss("sgd_step", loss)
    check_number("sgd_step", "learning_rate", learning_rate, low=0, high=INFINITY)
    _check_shards("sgd_step", shard_size, executor)
    return SGDStep(loss, learning_rate, shard_size, executor)


def _check_loss(subject: str, loss: object) -> None:
    if isinstance(loss, type):
        got = f"got the class {loss.__name__}; use {loss.__name__}()"
        raise ConfigError(f"loss must be a function, {got}", subject=subject)
    check_callable(subject, "loss", loss)


@frozen(eq=False)
class TrainState(Generic[N]):
    """All that a run is, between two steps: network, optimizer and its moments, steps done, key, arithmetic.

    So it cannot go on under another optimizer or in another arithmetic.
    """

    params: N
    optimizer: Optimizer
    moments: Moments[N]
    step: int
    key: Key
    arithmetic: Name = "native"

    @staticmethod
    def create(params: M, optimizer: Optimizer, *, key: Key) -> TrainState[M]:
        """The state before the first step of a run in the arithmetic that is in force.

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


def averaged(state: TrainState[N]) -> N:
    """The network with its parameters' moving average, which an optimizer ``Averaging`` in the state keeps.

    What is not trained, such as statistics, is that of the state's own network: calibrate again where there are any.

    Raises:
        ConfigError: If no ``Averaging`` is in the state's optimizer.

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


@frozen
class TrainStep(Generic[T]):
    """``(state, batch) -> (state, loss)`` for a ``TrainState``; see ``train_step``."""

    loss: Loss[T]
    shard_size: int | None = None
    executor: Executor | None = field(default=None, eq=False, repr=False)

    def __call__(self, state: TrainState[N], batch: Batch[T], /) -> tuple[TrainState[N], float]:
        """The state after one update by its own optimizer, and the loss before it."""
        _check_run(state)
        if state.arithmetic != in_force():
            fix = f"go on inside funcnet.arithmetic.using({state.arithmetic!r})"
            raise ConfigError(f"the run began in {state.arithmetic} arithmetic, not in {in_force()}; {fix}")
        key = state.key.child("step", state.step) if has_modes(state.params) else None
        with np.errstate(all="ignore"):  # what is not finite is refused, here or at the epoch's end
            loss, grads = _gradients(self, state.params, batch, key)
            params, moments = updated(state.optimizer, state.params, grads, state.moments, state.step)
        return evolve(state, params=params, moments=moments, step=state.step + 1), loss


def _check_run(state: object, subject: str = "TrainStep") -> None:
    if not isinstance(state, TrainState):
        fix = "use TrainState.create(net, optimizer, key=...)"
        raise StructureError(f"state must be a TrainState, got {state!r:.80}; {fix}", subject=subject)


def train_step(loss: Loss[T], *, shard_size: int | None = None, executor: Executor | None = None) -> TrainStep[T]:
    """A step for a ``TrainState``: the network in training mode, keyed by the step's number; the state's own optimizer.

    Example:
        >>> import funcnet as fn
        >>> state = TrainState.create(fn.mlp(fn.Key(0), (2, 3)), fn.SGD(learning_rate=0.1), key=fn.Key(0))
        >>> batch = fn.Batch(np.zeros((1, 2), np.float32), np.array([1]))
        >>> state, loss = train_step(fn.softmax_cross_entropy)(state, batch)
        >>> state.step, round(loss, 4)
        (1, 1.0986)
    """
    _check_loss("train_step", loss)
    _check_shards("train_step", shard_size, executor)
    return TrainStep(loss, shard_size, executor)


def _check_shards(subject: str, shard_size: int | None, executor: Executor | None) -> None:
    if shard_size is not None:
        check_count(subject, "shard_size", shard_size)
    elif executor is not None:
        raise ConfigError("an executor computes shards; give shard_size, too", subject=subject)


def _gradients(step: SGDStep[T] | TrainStep[T], params: N, batch: Batch[T], key: Key | None) -> tuple[float, N]:
    check_is_batch(type(step).__name__, batch)
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
        key=key,
    )


# --------------------------------------------------------------------------------------------------- folds


@frozen(eq=False)
class EpochLog:
    """What an epoch leaves beside its state. Shapes: losses (steps,), float64, each before its step's update."""

    losses: NDArray[np.float64] = field(repr=lambda losses: f"{losses.dtype} {losses.shape}")

    @property
    def mean_loss(self) -> float:
        """The mean over the steps.

        Raises:
            ConfigError: If there was no step.
        """
        check_count("EpochLog", "the number of steps", len(self.losses))
        return mean(self.losses)


def train_epoch(step: Step[S, B], state: S, batches: Iterable[B]) -> tuple[S, EpochLog]:
    """Fold a step over batches: ``for batch in batches: state, loss = step(state, batch)``.

    ``train_epoch(step, s, a + b)`` equals going on over b from where a ended, bit for bit; no batch, no change.

    The step must be pure. When a shape of batches comes for the second time, the step is traced, and then replayed
    without being called, with the same bits, errors and messages: what it prints or appends to a list is lost.
    ``program`` shows what became of it, ``ReplayWarning`` says that it is not pure, ``keep_programs(programs=0)`` calls
    it in each step. NumPy's floating-point warnings are off while it runs.

    Raises:
        NonFiniteError: If a loss, or a parameter at the end, is NaN or infinite; says which step.

    Example:
        >>> import funcnet as fn
        >>> net = fn.mlp(fn.Key(0), (2, 3))
        >>> batches = fn.minibatches(np.eye(2, dtype=np.float32), np.array([0, 1]), 1)
        >>> net, log = train_epoch(fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), net, batches)
        >>> log
        EpochLog(losses=float64 (2,))
    """
    check_callable("train_epoch", "step", step)
    check_iterable("train_epoch", "batches", batches)
    losses: list[float] = []
    try:
        state = replayed_fold(step, state, batches, losses)
    except FuncnetError as error:
        if error.step is None:
            error.at_step(len(losses))
        raise
    _check_state(state, len(losses))
    array = np.array(losses, np.float64)
    array.flags.writeable = False
    return state, EpochLog(array)


def _check_state(state: object, steps: int) -> None:
    params = cast("TrainState[Network]", state).params if isinstance(state, TrainState) else state
    if isinstance(params, Record | tuple):
        try:
            check_tree("", cast("object", params))
        except StructureError:  # a state of a step of one's own
            return
        try:
            check_finite_parameters(cast("Tree", params))
        except NonFiniteError as error:
            if not steps:
                raise
            reason = f"{error.message}; the learning rate may be too high"
            raise NonFiniteError(reason).at_step(steps - 1) from None


def train(
    step: Step[S, B], state: S, data: Callable[[int], Iterable[B]], *, epochs: Iterable[int]
) -> Iterator[tuple[S, EpochLog]]:
    """A run as a lazy sequence: after each epoch its state and log. It trains as far as it is asked for.

    It computes in the arithmetic that is in force when ``train`` is called, wherever the sequence is then advanced.

    Args:
        step: What an epoch folds.
        state: Where the run begins.
        data: The batches of an epoch, by its number.
        epochs: The epochs' numbers: ``range(25)``; ``range(3, 25)`` goes on after three.

    Raises:
        ConfigError: If an epoch's number is no int of at least 0.

    Example:
        >>> import funcnet as fn
        >>> x, y = np.eye(2, dtype=np.float32), np.array([0, 1])
        >>> run = train(
        ...     fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1),
        ...     fn.mlp(fn.Key(0), (2, 2)),
        ...     lambda epoch: fn.minibatches(x, y, 1, key=fn.Key(0).child("shuffle", epoch)),
        ...     epochs=range(3),
        ... )
        >>> len([round(log.mean_loss, 2) for net, log in run])
        3
    """
    if not isinstance(epochs, Iterable):
        raise ConfigError(f"epochs must be numbers of epochs, got {epochs!r}; use range({epochs})", subject="train")
    check_callable("train", "data", data)
    numbers = list(epochs)
    for number in numbers:
        check_count("train", "an epoch's number", number, low=0)
    return _epochs(step, state, data, numbers, in_force())


def _epochs(
    step: Step[S, B], state: S, data: Callable[[int], Iterable[B]], numbers: list[int], arithmetic: Name
) -> Iterator[tuple[S, EpochLog]]:
    for number in numbers:
        with using(arithmetic):
            state, log = train_epoch(step, state, data(number))
        yield state, log


register_name(SGDStep, "funcnet.SGDStep")
register_name(TrainStep, "funcnet.TrainStep")
register_name(TrainState, "funcnet.TrainState")
register_name(EpochLog, "funcnet.EpochLog")
