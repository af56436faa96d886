"""Folds together: one step folded over the batches of many states at once, with the bits of each fold alone.

A step of all states is one replay of a program that has the memory of all of them (``slabs.py``). It is traced from the
step of the first state. Numbers that are equal in all states remain one number; the others are passed as lists. Where
no program fits, the plain function computes the step of each state.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final, TypeAlias, TypeVar, overload

import numpy as np

from funcnet.core.errors import ReplayWarning, StructureError
from funcnet.tracing.ducks import is_dense
from funcnet.tracing.recorder import is_array, kind_of, name_of
from funcnet.tracing.replay import (
    VERSIONS,
    Fold,
    Programs,
    Shape,
    Step,
    borrowed,
    checked,
    key_of,
    matcher,
    replayed_fold,
    same_leaves,
    structure_or_none,
    traced_apart,
    varying_in,
)
from funcnet.tracing.structure import leaves_of, map_leaves, same_leaf, structure_of, with_leaves
from funcnet.tracing.traces import Trace

S = TypeVar("S")
B = TypeVar("B")
Result: TypeAlias = tuple[float, float]
"""The loss of a step, and the number that its mean divides by."""

Layout: TypeAlias = "tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]"
"""The shape and the dtype of each array of a batch."""

_END: Final[Any] = object()
FULL: Final = 2
"""The number of replays of a new program that are checked for all states. Each later fold checks one state."""


def folds_together(
    step: Step[S, B],
    states: Sequence[S],
    batches: Sequence[Iterable[B]],
    results: Sequence[list[Result]],
    *,
    stacked: Iterable[B] | None = None,
    context: Hashable = None,
) -> list[S]:
    """Fold a step over each state's own batches; append ``(loss, total)`` to each state's results; return the states.

    Entry i is ``replayed_fold(step, states[i], batches[i], results[i], context=context)``, bit for bit. The states take
    each step together, as long as a program computes them all; otherwise each of them is folded alone.

    ``stacked`` may have the same batches in a form that is faster to read: a batch for each step, whose arrays have one
    axis more, the first, for the states.

    Raises:
        StructureError: If the states differ in their structure, the batches of one step in the shape or dtype of an
            array, or the states in their number of batches. Folds of one state after the other do not notice it.
        FuncnetError: If a step of any state raises it. The results are then incomplete. Which one of several failing
            states raises is not defined; a caller that must know folds the states one by one.
    """
    given = tuple(states)
    iterators = [iter(each) for each in batches]
    if len(given) > 1:
        _check_states(given)
        rows = _rows(iterators) if stacked is None else (Stacked(batch, len(given)) for batch in stacked)
        with _folding(step, given, context) as fold:
            if _in_step(fold, rows, results):
                return list(fold.value())
            given = fold.value()
        if stacked is not None:
            iterators = [islice(each, len(results[0]), None) for each in iterators]
    layouts: list[Layout] = []
    rest = [_alike(own, layouts, i) for i, own in enumerate(iterators)]
    alone = zip(given, rest, results, strict=True)
    return [replayed_fold(step, state, own, made, context=context) for state, own, made in alone]


class Stacked(Sequence[B]):
    """The batches of all states in a step: slices of one batch whose arrays have one axis more, the first."""

    def __init__(self, whole: B, count: int) -> None:
        self.whole, self._count = whole, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> B: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[B, ...]: ...
    def __getitem__(self, place: int | slice) -> B | tuple[B, ...]:
        if isinstance(place, slice):
            return tuple(self[i] for i in range(*place.indices(self._count)))
        if place >= self._count:
            raise IndexError(place)
        return map_leaves(lambda leaf: leaf[place, ...] if is_array(leaf) else leaf, self.whole)


@contextmanager
def _folding(step: Step[S, B], states: tuple[S, ...], context: Hashable) -> Generator[FoldTogether]:
    """Enter a fold of many states, with the programs kept for them and without floating-point warnings."""
    with (
        borrowed(lambda: (*key_of(step), len(states), structure_of(states[0]), context)) as programs,
        np.errstate(all="ignore"),
    ):
        fold = FoldTogether(checked(step), states, programs)
        fold.start()
        yield fold


def _in_step(fold: FoldTogether, rows: Iterator[Sequence[object]], results: Sequence[list[Result]]) -> bool:
    """Fold as long as the states can be computed at once; return whether this was to the end."""
    made: list[list[Result]] = []
    try:
        while not fold.is_off:
            batches = next(rows, None)
            if batches is None:
                return True
            made.append(fold.advance(batches))
    finally:
        for number, result in enumerate(results):
            result.extend(row[number] for row in made)
    return False


def _rows(iterators: Sequence[Iterator[object]]) -> Iterator[Sequence[object]]:
    """Yield the batches of all states in each step."""
    steps = 0
    while True:
        batches = [next(each, _END) for each in iterators]
        if any(batch is _END for batch in batches):
            _check_ends(batches, steps)
            return
        yield batches
        steps += 1


# ------------------------------------------------------------------------------------------------------ checks


def _check_states(states: Sequence[object]) -> None:
    """Check that all states have one structure.

    Raises:
        StructureError: If they do not.
    """
    first = structure_or_none(states[0])
    for i, state in enumerate(states):
        if structure_or_none(state) != first:
            raise StructureError(
                f"all states must have one structure: state {i} differs from state 0 in more than numbers"
            )


def _layout(batch: object) -> Layout:
    """Return the shape and the dtype of each array of a batch."""
    return tuple((leaf.shape, leaf.dtype) for leaf in leaves_of(batch) if is_array(leaf))


def _check_layouts(layout: Layout, first: Layout, i: int) -> None:
    """Check that the batches that two states take in one step are alike.

    Raises:
        StructureError: If they are not.
    """
    if layout != first:
        sides = [", ".join(f"{dtype} {shape}" for shape, dtype in each) for each in (layout, first)]
        reason = f"({sides[0]}) in state {i} and ({sides[1]}) in state 0"
        raise StructureError(f"all states must have batches of the same shapes and dtypes: a batch has {reason}")


def _check_ends(batches: Sequence[object], steps: int) -> None:
    """Check that the batches of all states end at once.

    Raises:
        StructureError: If they do not.
    """
    for i, batch in enumerate(batches):
        if (batch is _END) != (batches[0] is _END):
            fewer, more = (i, 0) if batch is _END else (0, i)
            reason = f"state {fewer} has {steps}, and state {more} has more"
            raise StructureError(f"all states must have the same number of batches: {reason}")


def _alike(batches: Iterator[B], layouts: list[Layout], i: int) -> Iterator[B]:
    """Yield a state's batches, after checking that those of state 0, which are yielded first, are alike."""
    steps = 0
    for batch in batches:
        if i == 0:
            layouts.append(_layout(batch))
        elif steps == len(layouts):
            _check_ends((_END, *[batch] * i), steps)
        _check_layouts(_layout(batch), layouts[steps], i)
        steps += 1
        yield batch
    if steps < len(layouts):
        _check_ends((None, *[_END] * i), steps)


# ------------------------------------------------------------------------------------------------------- folds


class FoldTogether(Fold[Any, Any, Any]):
    """A fold of many states: its state is the tuple of the states, and a batch is the tuple of their batches.

    While the states are in memory, ``_leaves`` has a column for each leaf of a state: a number, or a list of the
    numbers of all states if they differ. The leaves of a batch are columns, too; that of an array has all arrays.
    """

    def __init__(self, function: Callable[[Any, Any], Any], states: tuple[Any, ...], programs: Programs | None) -> None:
        super().__init__(function, states, programs, traced_at=1)
        self._rows: list[list[Any]] = []  # the leaves of each state when the states were copied into memory
        self._is_alone = programs is None

    @property
    def is_off(self) -> bool:
        """Whether each state should be folded alone, because no program computes them all."""
        programs = self._programs
        return self._is_alone or programs is None or (programs.last is not None and programs.last.is_off)

    def start(self) -> None:
        """Check a replay of each program against the plain function."""
        programs = self._programs
        if programs is None:
            return
        self._is_alone, programs.waits = programs.waits > 0, max(programs.waits - 1, 0)
        for shape in programs.shapes.values():
            for trace in shape.traces:
                trace.verified = False

    def value(self) -> Any:
        """Return the tuple of the states."""
        programs = self._programs
        if self._leaves is None or programs is None or programs.memory is None:
            return self._state
        changed = {place for trace in self._ran for place in trace.changed}
        rows = [list(row) for row in self._rows]
        for place, arrays in zip(programs.places, programs.memory.arrays, strict=True):
            for i, row in enumerate(rows if place in changed else ()):
                writeable, row[place] = row[place].flags.writeable, arrays[i, ...].copy()
                row[place].flags.writeable = writeable
        for place in {place for trace in self._ran for place in trace.counters}:
            for row, number in zip(rows, _spread(self._leaves[place], len(rows)), strict=True):
                row[place] = number
        return tuple(with_leaves(state, iter(row)) for state, row in zip(self._state, rows, strict=True))

    # ------------------------------------------------------------------------------------------------ a replay

    def _structure(self, batch: Any) -> Hashable | None:
        first, layout = structure_or_none(batch[0]), _layout(batch[0])
        shape = None if self._programs is None else self._programs.shapes.get(first)
        if shape is not None and shape.leaves_of(batch) is not None:
            return first
        for i, own in enumerate(batch):
            _check_layouts(_layout(own), layout, i)
            self._is_alone |= first is None or structure_or_none(own) != first  # such as other strides
        return None if self._is_alone else first

    def _matcher(self, batch: Any) -> Callable[[Any], list[Any] | None]:
        programs, leaves, own = self._programs, matcher(batch[0]), len(leaves_of(self._state[0]))
        assert programs is not None  # noqa: S101  # for the type checkers

        def columns_of(batches: Any) -> list[Any] | None:
            if kind_of(batches) is Stacked:
                whole = None if leaves(batches[0]) is None else leaves_of(batches.whole)
                return whole if programs.apart.isdisjoint(range(own, own + len(whole or ()))) else None
            rows: list[Any] = [leaves(each) for each in batches]
            return None if None in rows else _columns(programs, rows, own)

        return columns_of

    def _enter(self, programs: Programs) -> None:
        rows = None if programs.memory is None else self._listed(self._state)
        if programs.memory is None or rows is None:
            return
        self._rows = rows
        self._leaves = _columns(programs, self._rows, 0)
        self._ran = set()
        for place, arrays in zip(programs.places, programs.memory.arrays, strict=True):
            for i, row in enumerate(self._rows):
                arrays[i] = row[place]

    def _listed(self, states: Any) -> list[list[Any]] | None:
        """Return the leaves of each state; None if the programs are made for states of another structure."""
        match = None if self._programs is None else self._programs.leaves_of
        rows: list[Any] = [None if match is None else match(state) for state in states]
        return None if None in rows else rows

    def _taken(self, trace: Trace, made: tuple[Any, ...], leaves: Sequence[Any]) -> Any:
        return _pairs(super()._taken(trace, made, leaves), len(self._rows))

    def _verified(self, trace: Trace, shape: Shape, made: tuple[Any, ...], before: Any, batch: Any) -> Any:
        """Check a replay against the plain function: of all states if the program is new, otherwise of one of them."""
        count, results, after = len(before), _pairs(made[:2], len(before)), self.value()
        numbers = range(count) if trace.replays < FULL else (trace.replays % count,)
        trace.replays += 1
        for i in numbers:
            state, result = self._function(before[i], batch[i])
            if not same_leaves(result, results[i]) or not same_leaves(leaves_of(state), leaves_of(after[i])):
                self._leave(before)
                self._discard(shape)
                return self._plain(batch)[1]
        trace.verified = trace.replays >= FULL
        programs = self._programs
        assert programs is not None  # noqa: S101  # for the type checkers
        programs.failures = 0
        return results

    def _discard(self, shape: Shape) -> None:
        """Fold each state alone from now on, with a warning: the program gave different numbers."""
        shape.is_off = True
        shape.traces.clear()
        reason = "the step is not pure, or NumPy computes many states at once differently"
        found = f"the program of all states gave different numbers: {reason}"
        text = f"{name_of(self._function)} is computed for one state after the other: {found}"
        warnings.warn(text, ReplayWarning, stacklevel=2)

    # ------------------------------------------------------------------------------------------- a plain step

    def _plain(self, batch: Any) -> tuple[Any, Any]:
        states = self.value()
        self._leave(states)
        done = [self._function(state, own) for state, own in zip(states, batch, strict=True)]
        self._leave(tuple(state for state, _ in done))
        return states, [result for _, result in done]

    def _trace(self, state: Any, batch: Any, shape: Shape, result: Any) -> None:
        """Make a program from the step of the first state."""
        programs, rows = self._programs, [leaves_of(pair) for pair in zip(state, batch, strict=True)]
        assert programs is not None  # noqa: S101  # for the type checkers
        if programs.memory is None:
            programs.leaves_of = matcher(state[0])
        columns = _columns(programs, rows, 0)
        moved = _moved(shape, columns, len(leaves_of(state[0])))
        if moved:  # such as the rate of each group of a sweep: one program for all values instead of one for each
            programs.put_apart(moved)
            columns = _columns(programs, rows, 0)
        stale = [trace for trace in shape.traces if not trace.fits(columns)] if len(shape.traces) >= VERSIONS else []
        for last in stale[-1:]:
            shape.traces.remove(last)
        if len(shape.traces) >= VERSIONS or self._listed(state) is None:
            self._give_up(shape, programs)
            return
        for i, row in enumerate(rows):
            shape.varying |= varying_in(row, leaves_of(self._state[i]), () if i else shape.traces)
        trace = self._traced_for_all(state[0], batch[0], shape, programs)
        if trace is None:
            shape.is_off = True
            return
        programs.memory, programs.places = trace.program.memory, trace.arrays
        outcome, trace.outcome = trace.outcome, ([], [])
        if same_leaves(outcome[0], leaves_of(self._state[0])) and same_leaves(outcome[1], result[0]):
            shape.traces.insert(0, trace)
        else:
            self._discard(shape)

    def _give_up(self, shape: Shape, programs: Programs) -> None:
        """Fold each state alone until this fold ends, and in more and more later folds after each such failure.

        Conditions of the step then differ between the states, such as those on a rate that is 0 in one of them.
        """
        self._is_alone = True
        shape.traces[:] = [trace for trace in shape.traces if trace.replays]
        programs.failures += 1
        programs.waits = 2**programs.failures - 1

    def _traced_for_all(self, state: Any, batch: Any, shape: Shape, programs: Programs) -> Trace | None:
        """Return a trace whose program computes all states; None if there is no such program."""
        leaves, count = leaves_of((state, batch)), len(self._state)
        if not all(is_dense(leaf) for leaf in leaves_of(batch) if is_array(leaf)):
            return None
        while True:
            apart = {place for place in programs.apart if place < len(leaves) and not is_array(leaves[place])}
            shape.varying |= apart
            trace = traced_apart(self._function, state, batch, shape.varying, programs.memory, many=(count, apart))
            if not isinstance(trace, Trace) or not trace.is_flat:
                return None
            if trace.apart <= programs.apart:
                return trace
            programs.put_apart(trace.apart)  # numbers that are equal now, and will differ after the step


def _columns(programs: Programs, rows: Sequence[list[Any]], start: int) -> list[Any]:
    """Return the columns of rows of leaves, whose places begin at ``start``. Numbers that differ are put apart."""
    columns: list[Any] = list(zip(*rows, strict=True))
    for place, column in enumerate(columns, start):
        first = column[0]
        if is_array(first):
            continue
        if place not in programs.apart and not all(same_leaf(first, number) for number in column):
            programs.put_apart({place})
        columns[place - start] = list(column) if place in programs.apart else first
    return columns


def _moved(shape: Shape, columns: list[Any], own: int) -> set[int]:
    """Return the places of the state's floats that are constants of a program, and now have another value."""
    constants = [pair for trace in shape.traces for pair in zip(trace.fixed, trace.constants, strict=True)]
    floats = [(place, value) for place, value in constants if place < own and type(value) is float]
    return {place for place, value in floats if not same_leaf(columns[place], value)}


def _spread(column: Any, count: int) -> list[Any]:
    """Return the number of each state."""
    return column if kind_of(column) is list else [column] * count


def _pairs(made: Sequence[Any], count: int) -> list[Result]:
    losses, totals = made
    return list(zip(_spread(losses, count), _spread(totals, count), strict=True))
