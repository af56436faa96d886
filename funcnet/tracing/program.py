"""Programs: a tape without what nobody reads, on memory that is used again, as one Python function of NumPy calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from funcnet.core.arrays import AnyArray
from funcnet.tracing.fusion import Family, Flats, families_of, padded
from funcnet.tracing.passes import early, float_masks, live
from funcnet.tracing.recorder import Layout, Scalar, Tape, Value, layout
from funcnet.tracing.writer import HEADING, Writer


class StateMemory:
    """Where the arrays of a state lie while steps are replayed: the members of a family side by side."""

    def __init__(self, arrays: Sequence[AnyArray], families: Iterable[Sequence[int]]) -> None:
        order = list(dict.fromkeys([*(place for family in families for place in family), *range(len(arrays))]))
        starts = [0, *accumulate(padded(arrays[place].nbytes) for place in order)]
        self.starts = dict(zip(order, starts, strict=False))
        scope: dict[str, Any] = {}
        exec(HEADING, scope)  # noqa: S102  # the text above
        self.block: AnyArray = scope["memory"](starts[-1])
        self.arrays = [array_in(self.block, self.starts[place], layout(array)) for place, array in enumerate(arrays)]

    def holds(self, family: Sequence[int]) -> bool:
        """Whether these arrays lie side by side, in this order."""
        ends = [self.starts[place] + padded(self.arrays[place].nbytes) for place in family]
        return all(self.starts[place] == end for place, end in zip(family[1:], ends, strict=False))


def array_in(block: AnyArray, start: int, shape: Layout) -> AnyArray:
    """An array of a layout in a block of bytes."""
    sizes, strides, dtype = shape
    return np.empty(sizes, dtype) if 0 in sizes else np.ndarray(sizes, dtype, block.data, start, strides)


class Program:
    """A compiled tape.

    ``run(*arguments)`` computes one step on the state's memory and returns its results; None if a condition of the
    trace does not hold, and then, as after an error, the state's memory is as it was.

    Args:
        tape: What was recorded.
        arguments: The values that ``run`` gets, in order.
        state: The values of the state's arrays before the step.
        new: Their values after it.
        results: What ``run`` returns: copies of arrays, numbers, constants.
        names: For each argument and then each array of the state, how the source calls it.
        memory: Of another program for this state; None makes one.
    """

    def __init__(
        self,
        tape: Tape,
        *,
        arguments: Sequence[Value | Scalar],
        results: Sequence[Any],
        state: Sequence[Value],
        new: Sequence[Value],
        names: Sequence[str],
        memory: StateMemory | None = None,
    ) -> None:
        ops = float_masks(early(live(tape.ops, {*new, *results})))
        found = families_of(ops, state, new)
        places = {value: place for place, value in enumerate(state)}
        if memory is None:
            memory = StateMemory([value.array for value in state], _places(found, places))
        flats = Flats([each for each in found if all(map(memory.holds, _places([each], places)))])
        ordered = flats.fused(ops)
        if ops and not ordered:
            flats, ordered = Flats([]), ops
        writer = Writer(ordered, flats, memory.starts)
        writer.write(arguments, list(zip(state, new, strict=True)), results, names)
        self.memory, self.calls, self.opaque = memory, writer.calls, tuple(tape.opaque)
        self.constants, self.nbytes = writer.constants, writer.room.nbytes
        self.source = writer.source(results)
        scope: dict[str, Any] = {}
        exec(compile(self.source, "<program>", "exec"), scope)  # noqa: S102  # the source that was written here
        for op in (*tape.ops, *ordered):  # values and operations hold each other, and the arrays of the trace
            op.outs.clear()
        self.run: Callable[..., tuple[Any, ...] | None] = scope["program"](memory.block, self.constants)


def _places(families: Iterable[Family], places: dict[Value, int]) -> list[list[int]]:
    """The columns of a state's own arrays, by their places."""
    columns = [column for family in families for column in family.columns if column[0] in places]
    return [[places[value] for value in column] for column in columns]
