"""Networks together: many small networks trained at once, each with the bits of its own run.

A step of one small network costs about as much as calling NumPy forty times. A program that has the memory of many
networks makes these calls once for all of them. Programs work on groups of networks, and executors compute groups.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar, cast

from attrs import evolve, field, frozen

from funcnet.arithmetic import Name, in_force, using
from funcnet.core.arrays import describe
from funcnet.core.checks import check_iterable
from funcnet.core.errors import ConfigError, FuncnetError, StructureError, quoted
from funcnet.data.stacking import stacked
from funcnet.loops.epochs import EpochLog, check_data, check_depth, check_epochs, completed, train_epoch
from funcnet.loops.steps import check_executor, check_step
from funcnet.tracing.recorder import is_array, kind_of
from funcnet.tracing.replay import Step
from funcnet.tracing.structure import BY_VALUE, children_of, fields_of, is_leaf, leaves_of, structure_of
from funcnet.tracing.together import folds_together

if TYPE_CHECKING:
    from concurrent.futures import Executor

S = TypeVar("S")
B = TypeVar("B")

GROUP: Final = 64
"""The maximum number of networks in a group."""
FEWEST: Final = 8
"""The minimum number of networks in a group that is made smaller so that all workers of an executor have one."""
MEMORY: Final = 2**20
"""The maximum size in bytes of the arrays in the states of a group: a program works on two to seven times as much."""

Layout: TypeAlias = tuple[str, ...]
"""The dtype and the shape of each array of a batch."""


def train_together(
    step: Step[S, B],
    states: Sequence[S],
    data: Callable[[int, int], Iterable[B]],
    *,
    epochs: Iterable[int],
    executor: Executor | None = None,
) -> Iterator[tuple[tuple[S, EpochLog], ...]]:
    """Train many states at once, lazily: yield the state and the log of each of them after each epoch.

    Entry i has the bits of ``train(step, states[i], lambda epoch: data(epoch, i), epochs=epochs)``, in native and in
    portable arithmetic. Small networks take a fraction of the time, because one NumPy call computes a group of them.

    The states must have one structure: the same records, and arrays of the same shapes and dtypes. Their numbers may
    differ, such as learning rates, a Dropout's rate, and keys, whose paths must have one length. In each epoch, all
    states must have the same number of batches, with arrays of the same shapes and dtypes. A step with ``shard_size``
    or a reducer trains the states one by one.

    A group has at most 64 states, and at most 1 MiB of arrays in them, so that its program fits the processor's cache.

    Args:
        step: The step that each epoch folds over the batches of each state.
        states: The initial states, such as those of an ensemble, of the folds of a cross-validation, or of a sweep.
        data: A pure function from an epoch's number and a state's position to the batches of that epoch and state. The
            batches of all states in a step exist at the same time, so a generator must not refill one buffer.
        epochs: The epochs' numbers, as in ``train``.
        executor: Computes the groups of an epoch, such as a ``ThreadPoolExecutor``, a ``ProcessPoolExecutor`` or an
            ``mpi4py.futures.MPIPoolExecutor``; it changes no bit. For processes, the step, the states and data must
            pickle, so data is a function of a module or a record, not a lambda. None computes the groups in this
            thread.

    Raises:
        ConfigError: If states is not a sequence or is empty, an epoch's number is not an int of at least 0, or a step
            that has a reducer or its own executor is used with an executor.
        StructureError: If the states, or their batches in one epoch, differ in structure; the message says where.
        FuncnetError: The error of a single run, if one fails. The message begins with the state's position and the
            epoch; if several fail in an epoch, it is that of the lowest position.

    Example:
        >>> import numpy as np
        >>> import funcnet as fn
        >>> x, y = np.eye(2, dtype=np.float32), np.array([0, 1])
        >>> net, key = fn.mlp(fn.Key(0), (2, 2)), fn.Key(1)
        >>> sweep = [fn.TrainState.create(net, fn.SGD(learning_rate=rate), key=key) for rate in (0.1, 1.0)]
        >>> step = fn.train_step(fn.softmax_cross_entropy)
        >>> for pairs in train_together(step, sweep, lambda epoch, i: fn.minibatches(x, y, 1), epochs=range(2)):
        ...     print([round(log.mean_loss, 3) for state, log in pairs])
        [0.312, 0.387]
        [0.298, 0.211]
    """
    check_step("train_together", step)
    check_data("train_together", data, of="the epoch's number and the state's position", names="epoch, i")
    numbers = check_epochs("train_together", epochs)
    check_executor("train_together", executor)
    if executor is not None:
        _check_alone(step)
    given = _checked(states)
    return _epochs(_Task(step, given, tuple(range(len(given))), data, 0, in_force()), numbers, executor)


def _check_alone(step: Step[S, B]) -> None:
    """Check that nothing but the executor of the groups divides the work of a step."""
    if getattr(step, "reducer", None) is not None:
        reason = "ranks must compute the states in one order"
        raise ConfigError(f"a step with a reducer needs executor=None: {reason}", subject="train_together")
    if getattr(step, "executor", None) is not None:
        reason = "if both are one pool, groups and shards wait for each other"
        raise ConfigError(f"a step with its own executor needs executor=None: {reason}", subject="train_together")


def _checked(states: Sequence[S]) -> tuple[S, ...]:
    """Return the states as a tuple, after checking that there are some and that they have one structure."""
    given: object = states
    if not isinstance(given, Sequence):
        fix = "use list(states)" if isinstance(given, Iterable) else "use [state]"
        raise ConfigError(f"states must be a sequence of states, got {given!r:.80}; {fix}", subject="train_together")
    if not states:
        raise ConfigError("states must have at least one state", subject="train_together")
    for position, state in enumerate(states):
        check_depth("train_together", state)
        found = _difference(states[0], state)
        if found is not None:
            path, wanted, got = found
            where = f"{path} is {got} in state {position} and {wanted} in state 0"
            raise StructureError(f"all states must have one structure: {where}", subject="train_together")
    return tuple(states)


def _difference(first: Any, other: Any, path: str = "") -> tuple[str, str, str] | None:
    """Return the first path at which two states differ in more than numbers, and what each of them has there."""
    kind, where, sides = kind_of(first), path or "the state", (_side(first), _side(other))
    if is_array(first) or is_array(other):
        return None if sides[0] == sides[1] else (where, *sides)
    if is_leaf(first) and is_leaf(other):
        return None
    if kind is not kind_of(other) or (kind in BY_VALUE and first != other):
        return where, *sides
    parts, others = children_of(first), children_of(other)
    if len(parts) != len(others):
        return where, f"a tuple of {len(parts)}", f"a tuple of {len(others)}"
    names = fields_of(kind) or map(str, range(len(parts)))
    for name, part, like in zip(names, parts, others, strict=True):
        found = _difference(part, like, f"{path}.{name}" if path else name)
        if found is not None:
            return found
    return None


def _side(part: Any) -> str:
    """Return what a part of a state is, for messages."""
    if is_array(part):
        return describe(part)
    return quoted(part) if kind_of(part) in BY_VALUE or is_leaf(part) else type(part).__name__


# ---------------------------------------------------------------------------------------------------- epochs


@frozen(eq=False)
class _Task(Generic[S, B]):
    """An epoch of some states: a value that an executor can send to another process."""

    step: Step[S, B]
    states: tuple[S, ...] = field(repr=False)
    positions: tuple[int, ...]
    data: Callable[[int, int], Iterable[B]]
    epoch: int
    arithmetic: Name

    def part(self, positions: tuple[int, ...]) -> _Task[S, B]:
        """Return the task of some of the states."""
        return evolve(self, states=tuple(self.states[position] for position in positions), positions=positions)

    def batches(self, position: int) -> Iterable[B]:
        """Return the batches of a state."""
        batches = self.data(self.epoch, position)
        check_iterable("train_together", "data's batches", batches)
        return batches


@frozen(eq=False)
class _Done(Generic[S]):
    """The result of a task: the pairs of its states, and the layouts of the batches of its first state."""

    pairs: list[tuple[S, EpochLog]]
    layouts: list[Layout]


def _epochs(
    whole: _Task[S, B], numbers: list[int], executor: Executor | None
) -> Iterator[tuple[tuple[S, EpochLog], ...]]:
    for number in numbers:
        whole = evolve(whole, epoch=number)
        groups = _groups(whole, executor)
        made: dict[int, tuple[S, EpochLog]] = {}
        layouts: list[Layout] | None = None
        for group, done in zip(groups, _computed(whole, groups, executor), strict=True):
            layouts = done.layouts if layouts is None else layouts
            _check_layouts(done.layouts, layouts, number, (group[0], 0))
            made.update(zip(group, done.pairs, strict=True))
        pairs = tuple(made[position] for position in whole.positions)
        whole = evolve(whole, states=tuple(state for state, _ in pairs))
        yield pairs


def _computed(
    whole: _Task[S, B], groups: list[tuple[int, ...]], executor: Executor | None
) -> Generator[_Done[S], None, None]:
    """Yield what each group becomes. An error is that of the lowest position, even if its group comes later."""

    def mapped(parts: Sequence[tuple[int, ...]]) -> Iterator[_Done[S]]:
        results = (executor.map if executor else map)(_trained, [whole.part(part) for part in parts])
        return iter(cast("Iterable[_Done[S]]", results))

    results = mapped(groups)
    for number, group in enumerate(groups):
        try:
            done = next(results)
        except Exception as error:  # noqa: BLE001  # raised below, unless a state at a lower position fails
            reason = error
        else:
            yield done
            continue
        later = [position for other in groups[number + 1 :] for position in other if position < group[-1]]
        if later:  # never with a reducer, whose exchanges cannot be repeated: its groups are in the order of positions
            deque(mapped([(position,) for position in sorted((*group, *later))]), maxlen=0)
        raise reason


def _groups(whole: _Task[S, B], executor: Executor | None) -> list[tuple[int, ...]]:
    """Return the positions of the states of each group: of states with equal structures, in order.

    If the step has a reducer, each state is alone: a group's order of steps depends on the programs that a rank keeps.
    """
    if any(getattr(whole.step, name, None) is not None for name in ("shard_size", "reducer")):
        return [(position,) for position in whole.positions]
    alike: dict[Hashable, list[int]] = {}
    for position, state in zip(whole.positions, whole.states, strict=True):
        alike.setdefault(_structure(state, position), []).append(position)
    most = _group_size(whole.states, executor)
    groups: list[tuple[int, ...]] = []
    for positions in alike.values():
        count = -(-len(positions) // most)
        cuts = [len(positions) * i // count for i in range(count + 1)]
        groups += (tuple(positions[start:stop]) for start, stop in pairwise(cuts))
    return groups


def _structure(state: object, position: int) -> Hashable:
    """Return a key of what the states of a program have in common; a unique key if a part of the state has no hash."""
    try:
        return structure_of(state)
    except TypeError:
        return position


def _group_size(states: tuple[S, ...], executor: Executor | None) -> int:
    """Return the maximum size of a group: what fits the cache, and for an executor, one group for each processor."""
    nbytes = sum(leaf.nbytes for leaf in leaves_of(states[0]) if is_array(leaf))
    size = min(GROUP, max(1, MEMORY // max(1, nbytes)))
    return size if executor is None else min(size, max(FEWEST, -(-len(states) // (os.cpu_count() or 1))))


def _trained(task: _Task[S, B]) -> _Done[S]:
    """Compute a task, in the arithmetic of the run. An error is that of the first state that fails alone."""
    with using(task.arithmetic):
        if len(task.states) == 1:
            return _one_by_one(task)
        try:
            return _together(task)
        except Exception as error:  # noqa: BLE001  # raised below, unless a state fails alone
            reason = error
        _one_by_one(task)
        raise reason


def _together(task: _Task[S, B]) -> _Done[S]:
    layouts: list[Layout] = []
    first, *others = map(task.batches, task.positions)
    results: list[list[tuple[float, float]]] = [[] for _ in task.states]
    whole = stacked((first, *others))
    if whole is None:
        first = _watched(first, layouts)
    else:  # the batches are read side by side, and those of the first state once more for their layouts
        deque(_watched(first, layouts), maxlen=0)
    batches = (first, *others)
    states = folds_together(task.step, task.states, batches, results, stacked=whole, context=in_force())
    return _Done([completed(*pair) for pair in zip(states, results, strict=True)], layouts)


def _one_by_one(task: _Task[S, B]) -> _Done[S]:
    pairs: list[tuple[S, EpochLog]] = []
    found: list[list[Layout]] = []
    for position, state in zip(task.positions, task.states, strict=True):
        place = f"state {position}, epoch {task.epoch}"
        found.append([])
        try:
            pairs.append(train_epoch(task.step, state, _watched(task.batches(position), found[-1])))
        except FuncnetError as error:
            error.within(place)
            raise
        except Exception as error:
            error.add_note(f"in {place}")
            raise
        _check_layouts(found[-1], found[0], task.epoch, (position, task.positions[0]))
    return _Done(pairs, found[0])


# --------------------------------------------------------------------------------------------------- batches


def _watched(batches: Iterable[B], layouts: list[Layout]) -> Iterator[B]:
    """Yield the batches, and append the layout of each one. Equal layouts are one object: they take less memory."""
    known: dict[Layout, Layout] = {}
    for batch in batches:
        layout = tuple(describe(leaf) for leaf in leaves_of(batch) if is_array(leaf))
        layouts.append(known.setdefault(layout, layout))
        yield batch


def _check_layouts(given: list[Layout], wanted: list[Layout], epoch: int, positions: tuple[int, int]) -> None:
    """Check that the batches of two states in an epoch are alike in number, and in the layout of each one."""
    if given == wanted:
        return
    same, (position, other) = "all states must have batches of the same", positions
    for number, (layout, like) in enumerate(zip(given, wanted, strict=False)):
        if layout != like:
            sides = f"({', '.join(layout)}) in state {position} and ({', '.join(like)}) in state {other}"
            reason = f"{same} shapes and dtypes: batch {number} of epoch {epoch} has {sides}"
            raise StructureError(reason, subject="train_together")
    counts = f"epoch {epoch} has {len(given)} in state {position} and {len(wanted)} in state {other}"
    raise StructureError(f"{same} number: {counts}", subject="train_together")
