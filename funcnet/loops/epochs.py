"""Epochs: an epoch as a fold of a step over batches, and a run as a lazy sequence of epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar, cast

import numpy as np
from attrs import Factory, field, frozen
from numpy.typing import NDArray

from funcnet.arithmetic import Name, in_force, mean, sum_all, using
from funcnet.core.arrays import lock
from funcnet.core.checks import check_callable, check_count, check_iterable
from funcnet.core.errors import ConfigError, FuncnetError, NonFiniteError, StructureError
from funcnet.core.html import table
from funcnet.core.names import register_name
from funcnet.core.records import Record, Tree, check_nesting, check_tree
from funcnet.core.trees import check_finite_tree
from funcnet.loops.reducers import reducer_of
from funcnet.loops.steps import TrainState, check_step
from funcnet.network.layer import Network
from funcnet.tracing.replay import Step, replayed_fold

S = TypeVar("S")
B = TypeVar("B")


def _ones(log: EpochLog) -> NDArray[np.float64]:
    return np.ones_like(log.losses)


@frozen(eq=False)
class EpochLog:
    """The record of an epoch. Shapes: losses (steps,) and totals (steps,), float64.

    Args:
        losses: The mean loss of each step's batch, before its update. A batch whose total is 0 has the loss 0.
        totals: The number that each of these means divides by, such as the number of rows, or of steps in sequences. It
            is 1 for your own step, unless that has a method ``total(batch)``.
    """

    losses: NDArray[np.float64] = field(repr=lambda losses: f"{losses.dtype} {losses.shape}")
    totals: NDArray[np.float64] = field(default=Factory(_ones, takes_self=True), repr=False)

    @property
    def mean_loss(self) -> float:
        """The mean loss of the epoch's examples, each of which counts once, or by its weight.

        Raises:
            ConfigError: If the epoch had no step, or no step whose total is above 0.
        """
        check_count("EpochLog", "the number of steps", len(self.losses))
        if (self.totals == self.totals[0]).all() and self.totals[0]:
            return mean(self.losses)
        whole = sum_all(self.totals)
        if not whole:
            raise ConfigError("the totals must not all be 0: the epoch had no example that counts", subject="EpochLog")
        return sum_all(self.losses * self.totals) / whole

    def _repr_html_(self) -> str:
        losses = self.losses
        numbers = [self.mean_loss, losses[0], losses[-1], losses.min(), losses.max()] if self.totals.any() else []
        cells = [f"{number:.6g}" for number in numbers] or [""] * 5
        head = ("steps", "mean loss", "first", "last", "lowest", "highest")
        return table(head, [(len(losses), *cells)], "rrrrrr")


def train_epoch(step: Step[S, B], state: S, batches: Iterable[B]) -> tuple[S, EpochLog]:
    """Fold a step over batches: ``for batch in batches: state, loss = step(state, batch)``.

    ``train_epoch(step, s, a + b)`` has the bits of training on a and then, from the resulting state, on b. Without
    batches, the state is unchanged.

    The step must be pure. When batches of one shape come for the second time, the step is traced; from then on a replay
    computes the same bits, errors and messages without calling the step, so what the step prints or appends to a list
    is lost. ``program`` shows the traced program, ``ReplayWarning`` reports a step that is not pure, and
    ``keep_programs(programs=0)`` calls the step every time. NumPy's floating-point warnings are off during the epoch.

    If the step has a reducer, all its ranks must begin with the same step and state, and end with the same state and
    log; see ``Reducer.check``.

    Raises:
        NonFiniteError: If a loss, or a parameter, statistic or moment after the last step, is NaN or infinite; the
            message has the step.

    Example:
        >>> import funcnet as fn
        >>> net = fn.mlp(fn.Key(0), (2, 3))
        >>> batches = fn.minibatches(np.eye(2, dtype=np.float32), np.array([0, 1]), 1)
        >>> net, log = train_epoch(fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), net, batches)
        >>> log
        EpochLog(losses=float64 (2,))
    """
    check_step("train_epoch", step)
    check_iterable("train_epoch", "batches", batches)
    check_depth("train_epoch", state)
    results: list[tuple[float, float]] = []
    reducer = reducer_of(step)
    reducer.check(step)
    reducer.check(state)
    try:
        state = replayed_fold(step, state, batches, results, context=in_force())
    except FuncnetError as error:
        if error.step is None:
            error.at_step(len(results))
        raise
    state, log = completed(state, results)
    reducer.check(state)
    reducer.check(log)
    return state, log


def check_depth(subject: str, state: object) -> None:
    """Check that the network in a state is not nested too deeply; see ``check_nesting``."""
    check_nesting(subject, cast("TrainState[Network]", state).params if isinstance(state, TrainState) else state)


def completed(state: S, results: Sequence[tuple[float, float]]) -> tuple[S, EpochLog]:
    """Return the state after an epoch, once it is known to be finite, and the log of each step's ``(loss, total)``.

    Raises:
        NonFiniteError: If a parameter, statistic or moment is NaN or infinite.
    """
    _check_state(state, len(results))
    losses, totals = lock(np.array(results, np.float64).reshape(-1, 2).T.copy())
    return state, EpochLog(losses, totals)


def _check_state(state: object, steps: int) -> None:
    for path, tree, cause in _trees(state):
        try:
            check_finite_tree(tree, path)
        except NonFiniteError as error:
            if not steps:
                raise
            raise NonFiniteError(f"{error.message}; {cause}").at_step(steps - 1) from None


def _trees(state: object) -> Iterator[tuple[str, Tree, str]]:
    """The networks in a state, each with its path and what makes it infinite."""
    cause = "the learning rate may be too high"
    if isinstance(state, TrainState):
        run = cast("TrainState[Network]", state)
        yield "", run.params, cause
        for name in run.moments:
            cause = f"the gradients may be too large for {type(run.optimizer).__name__}: scale the data or the loss"
            yield f"moments.{name}.", run.moments[name], cause
    elif isinstance(state, Record | tuple):
        try:
            check_tree("", cast("object", state))
        except StructureError:  # the state of a custom step: each of its items may be a state
            for position, inner in enumerate(cast("tuple[object, ...]", state) if isinstance(state, tuple) else ()):
                yield from ((f"{position}.{path}", tree, cause) for path, tree, cause in _trees(inner))
        else:
            yield "", cast("Tree", state), cause


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
        StructureError: If the ranks of a reducer have different epochs.

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
    check_step("train", step)
    check_data("train", data)
    return _epochs(step, state, data, check_epochs("train", epochs), in_force())


def check_epochs(subject: str, epochs: Iterable[int]) -> list[int]:
    """Check the numbers of the epochs of a run, and return them as Python ints.

    Raises:
        ConfigError: If they are not a sequence of ints of at least 0.
    """
    if not isinstance(epochs, Iterable):
        fix = f"use range({epochs})"
        raise ConfigError(f"epochs must be a sequence of epoch numbers, got {epochs!r}; {fix}", subject=subject)
    return [check_count(subject, "an epoch's number", number, low=0) for number in epochs]


def check_data(subject: str, data: object, *, of: str = "the epoch's number", names: str = "epoch") -> None:
    """Check that ``data`` is a function from an epoch's number to its batches, or from what ``of`` and ``names`` say.

    Raises:
        ConfigError: If it is not; the message shows the function that always returns the given batches.
    """
    if not callable(data) and isinstance(data, Iterable):
        got, fix = f"{cast('object', data)!r:.80}", f"use lambda {names}: batches"
        raise ConfigError(f"data must be a function of {of}, got {got}; {fix}", subject=subject)
    check_callable(subject, "data", data)


@frozen
class _Plan:
    """What the ranks of a run must agree on: a rank with fewer epochs would leave the others waiting."""

    epochs: tuple[int, ...]


def _epochs(
    step: Step[S, B], state: S, data: Callable[[int], Iterable[B]], numbers: list[int], arithmetic: Name
) -> Iterator[tuple[S, EpochLog]]:
    with using(arithmetic):
        reducer_of(step).check(_Plan(tuple(numbers)))
    for number in numbers:
        with using(arithmetic):
            state, log = train_epoch(step, state, data(number))
        yield state, log


register_name(EpochLog, "funcnet.EpochLog")
