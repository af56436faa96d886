"""Traces: pure functions recorded on given arguments and compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np

from funcnet.tracing.ducks import Number, Traced, recorded
from funcnet.tracing.program import Many, Program, StateMemory
from funcnet.tracing.recorder import Duck, NotTraceable, Storage, Tape, Value, is_array, kind_of, raw, recorded_on
from funcnet.tracing.structure import (
    fields_of,
    leaves_of,
    map_leaves,
    paths_of,
    same_leaf,
    skeleton_of,
    structure_of,
    with_leaves,
)

Function: TypeAlias = Callable[[Any, Any], tuple[Any, Any]]
"""``(state, arguments) -> (state, result)``; the new state has the structure of the old one."""


class Varies(NotTraceable):
    """Raised when a step changes numbers of the state that were taken as constants, at ``places`` among the leaves."""

    def __init__(self, places: set[int]) -> None:
        super().__init__("a number of the state changes in some steps and not in others")
        self.places = places


class Trace:
    """A function recorded once, for a state and arguments of one structure, and compiled.

    The state's arrays are in the program's memory. Numbers at ``varying`` places are passed in each call; all other
    numbers are constants. A place is a position among the leaves of ``(state, arguments)``.

    Args:
        function: The function to record.
        state: Its state, whose arrays are C-contiguous; ``()`` if it has no state.
        arguments: Its arguments.
        varying: The places of the numbers that vary.
        memory: The memory of another trace for this state; None allocates new memory.
        many: The number of states that the program computes at once, and the places of the numbers that differ between
            them, which are among the varying ones; None for one state. The state is then the first of these states.

    Raises:
        NotTraceable: If the function cannot be replayed, with the reason.
    """

    def __init__(  # noqa: PLR0917  # what a trace depends on
        self,
        function: Function,
        state: Any,
        arguments: Any,
        varying: set[int],
        memory: StateMemory | None = None,
        many: tuple[int, set[int]] | None = None,
    ) -> None:
        start = perf_counter()
        tape, leaves, own = Tape(), leaves_of((state, arguments)), len(leaves_of(state))
        is_input = [is_array(leaf) or place in varying for place, leaf in enumerate(leaves)]
        inputs: list[Any] = [tape.input(leaf) if is_in else None for leaf, is_in in zip(leaves, is_input, strict=True)]
        ducks = [leaf if made is None else _input(tape, made) for leaf, made in zip(leaves, inputs, strict=True)]
        after, made, result = _recorded(tape, function, state, with_leaves((state, arguments), iter(ducks)))
        self._sort(leaves, inputs, own, varying)
        fixed = [place for place in self.fixed if place < own]
        changing = {i for i in fixed if isinstance(after[i], Duck) or not same_leaf(after[i], leaves[i])}
        if changing:
            raise Varies(changing)
        self.skeleton, self.verified, self.replays = skeleton_of(result), False, 0
        is_tuple = self.skeleton.__class__ is tuple and self.skeleton == (0.0,) * len(made)
        self.is_flat = is_tuple and not any(map(is_array, made))
        self.count = 1 if many is None else many[0]
        self.outcome = raw(after), raw(made)
        self.changed = [place for place in self.arrays if _value(after[place]) is not inputs[place]]
        paths = paths_of((state, arguments))
        self.program = Program(
            tape,
            arguments=[inputs[place] for place in (*self.given, *self.counters)],
            results=[*map(_value, made), *(_value(after[place]) for place in self.counters)],
            state=[inputs[place] for place in self.arrays],
            new=[_value(after[place]) for place in self.arrays],
            names=[_named(paths[i], keep=i < own) for i in (*self.given, *self.counters, *self.arrays)],
            memory=memory,
            many=None if many is None else Many(many[0], frozenset(inputs[place] for place in many[1])),
        )
        of_counters = self.program.apart[len(made) :]
        self.apart = {place for place, is_apart in zip(self.counters, of_counters, strict=True) if is_apart}
        self.seconds = perf_counter() - start

    def _sort(self, leaves: list[Any], inputs: list[Any], own: int, varying: set[int]) -> None:
        """Divide the leaves into those in memory, those that are passed in each call, and constants."""
        self.arrays = [place for place in range(own) if is_array(leaves[place])]
        self.counters = [place for place in range(own) if place in varying]
        self.fixed = [place for place, made in enumerate(inputs) if made is None]
        self.constants = tuple(leaves[place] for place in self.fixed)
        self.given = [place for place in range(own, len(leaves)) if inputs[place] is not None]
        self._has_zeros = any(value == 0 and not isinstance(value, int) for value in self.constants)
        self._taken, self._held = _getter([*self.given, *self.counters]), _getter(self.fixed)

    def fits(self, leaves: Sequence[Any]) -> bool:
        """Return whether the trace's constants have the same values among these leaves of state and arguments."""
        held = self._held(leaves)
        same = held == self.constants and not self._has_zeros
        return same or all(map(same_leaf, held, self.constants))

    def run(self, leaves: Sequence[Any]) -> tuple[Any, ...] | None:
        """Return the result's leaves, then the state's numbers at ``counters``; None if the program does not fit."""
        return self.program.run(*self._taken(leaves)) if not self.fixed or self.fits(leaves) else None


def _getter(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Return a function that picks the leaves at these places, as a tuple."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda leaves: tuple(leaves[place] for place in places)


def _recorded(tape: Tape, function: Function, state: Any, given: Any) -> tuple[list[Any], list[Any], Any]:
    """Run a function on traced arguments; return the leaves of its new state and of its result, and the result."""
    with recorded_on(tape), np.errstate(all="ignore"):
        new, result = map_leaves(partial(_unpacked, tape), function(*given))
        _check_state(tape, state, new)
        after, made = ([_settled(tape, leaf) for leaf in leaves_of(tree)] for tree in (new, result))
    if tape.refused:
        raise NotTraceable(tape.refused)
    return after, made, result


def _unpacked(tape: Tape, leaf: Any) -> Any:
    """Return a record that varies as a whole, such as a key, with numbers that vary."""
    record = raw(leaf)
    if not isinstance(leaf, Number) or not fields_of(kind_of(record)):
        return leaf
    numbers = recorded(tape, "call", leaves_of, (leaf.operand(),), leaves_of(record), many=True)
    return with_leaves(record, iter(numbers))


def _input(tape: Tape, made: Any) -> Any:
    if isinstance(made, Value):
        seen = made.array.view()
        seen.flags.writeable = False  # a function that writes to its argument fails before it changes anything
        return Traced(tape, Storage(made, seen, is_input=True), seen)
    return Number(tape, made)


def _check_state(tape: Tape, state: Any, new: Any) -> None:
    if structure_of(new) != structure_of(state):
        tape.refuse("the state after the step has another structure than before")
    for leaf in leaves_of(state):
        if is_array(leaf) and not leaf.flags.c_contiguous:
            tape.refuse("an array of the state is not C-contiguous")


def _settled(tape: Tape, leaf: Any) -> Any:
    """Return a leaf of a result, with an array as a whole value of the tape in C order."""
    if not is_array(leaf):
        return leaf
    if not isinstance(leaf, Duck):
        return recorded(tape, "copy", None, (tape.encode(leaf),), [leaf.copy()], unique=True)[0]
    array: Any = leaf
    return leaf if array.operand().is_whole and array.flags.c_contiguous else array.copy()


def _value(leaf: Any) -> Any:
    """Return what a program computes for a leaf: a value, a number, or a constant number."""
    if isinstance(leaf, Traced):
        return leaf.storage.value
    return leaf.operand() if isinstance(leaf, Duck) else leaf


def _named(path: str, *, keep: bool) -> str:
    """Return a leaf's path without the leading position of the state or the arguments."""
    return path.partition(".")[2] or ("state" if keep else "x")
