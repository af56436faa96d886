"""Epochs: an epoch as a fold of a step over batches, and a run as a lazy sequence of epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar, cast

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from funcnet.arithmetic import Name, in_force, mean, using
from funcnet.core.checks import check_callable, check_count, check_iterable
from funcnet.core.errors import ConfigError, FuncnetError, NonFiniteError, StructureError
from funcnet.core.names import register_name
from funcnet.core.records import Record, Tree, check_tree
from funcnet.core.trees import check_finite_parameters
from funcnet.loops.steps import TrainState
from funcnet.network.layer import Network
from funcnet.tracing.replay import Step, replayed_fold

S = TypeVar("S")
B = TypeVar("B")


@frozen(eq=False)
class EpochLog:
    """The record of an epoch. Shapes: losses (steps,), float64, each computed before its step's update."""

    losses: NDArray[np.float64] = field(repr=lambda losses: f"{losses.dtype} {losses.shape}")

    @property
    def mean_loss(self) -> float:
        """The mean of the losses over the steps.

        Raises:
            ConfigError: If the epoch had no step.
        """
        check_count("EpochLog", "the number of steps", len(self.losses))
        return mean(self.losses)


def train_epoch(step: Step[S, B], state: S, batches: Iterable[B]) -> tuple[S, EpochLog]:
    """Fold a step over batches: ``for batch in batches: state, loss = step(state, batch)``.

    ``train_epoch(step, s, a + b)`` has the bits of training on a and then, from the resulting state, on b. Without
    batches, the state is unchanged.

    The step must be pure. When batches of one shape come for the second time, the step is traced; from then on a replay
    computes the same bits, errors and messages without calling the step, so what the step prints or appends to a list
    is lost. ``program`` shows the traced program, ``ReplayWarning`` reports a step that is not pure, and
    ``keep_programs(programs=0)`` calls the step every time. NumPy's floating-point warnings are off during the epoch.

    Raises:
        NonFiniteError: If a loss, or a parameter after the last step, is NaN or infinite; the message has the step.

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
        state = replayed_fold(step, state, batches, losses, context=in_force())
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
        except StructureError:  # the state belongs to a user's step
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
    """Train lazily: yield the state and the log after each epoch. An epoch is computed only when it is requested.

    The run uses the arithmetic that is in force when ``train`` is called, wherever the sequence is then advanced.

    Args:
        step: The step that each epoch folds over its batches.
        state: The initial state.
        data: A function from an epoch's number to its batches.
        epochs: The epochs' numbers: ``range(25)``; ``range(3, 25)`` resumes after three epochs.

    Raises:
        ConfigError: If an epoch's number is not an int of at least 0.

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
        fix = f"use range({epochs})"
        raise ConfigError(f"epochs must be a sequence of epoch numbers, got {epochs!r}; {fix}", subject="train")
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


register_name(EpochLog, "funcnet.EpochLog")
