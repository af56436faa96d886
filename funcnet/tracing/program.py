"""Programs: a tape without unused operations, compiled to one Python function of NumPy calls on reused memory.

A program computes the step of one state, or of many states at once (``slabs.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from attrs import frozen

from funcnet.core.arrays import AnyArray
from funcnet.tracing.fusion import Family, Flats, families_of, padded
from funcnet.tracing.native import NativeRun, is_built
from funcnet.tracing.passes import early, float_masks, live
from funcnet.tracing.recorder import Layout, Scalar, Tape, Value, layout
from funcnet.tracing.slabs import SlabWriter, slab_of
from funcnet.tracing.writer import HEADING, Writer


@frozen
class Many:
    """That a program computes ``count`` states at once; ``apart`` are the numbers that may differ between them.

    Such a number is a list in the arguments and in the results of the program, with one number for each state.
    """

    count: int
    apart: frozenset[Scalar]


class StateMemory:
    """The memory of a state's arrays while steps are replayed, with the members of each family side by side.

    The memory of many states has one slab for each of them, and its arrays have one axis more, the first.
    """

    def __init__(self, arrays: Sequence[AnyArray], families: Iterable[Sequence[int]], count: int | None = None) -> None:
        order = list(dict.fromkeys([*(place for family in families for place in family), *range(len(arrays))]))
        starts = [0, *accumulate(padded(arrays[place].nbytes) for place in order)]
        self.starts = dict(zip(order, starts, strict=False))
        scope: dict[str, Any] = {}
        exec(HEADING, scope)  # noqa: S102  # a constant of the writer
        self.slab = starts[-1] if count is None else slab_of(starts[-1])
        self.block: AnyArray = scope["memory"](self.slab * (1 if count is None else count))
        layouts = [_widened(layout(array), count, self.slab) for array in arrays]
        self.arrays = [array_in(self.block, self.starts[place], each) for place, each in enumerate(layouts)]
        self._sizes = [padded(array.nbytes) for array in arrays]

    def holds(self, family: Sequence[int]) -> bool:
        """Return whether these arrays lie side by side, in this order."""
        ends = [self.starts[place] + self._sizes[place] for place in family]
        return all(self.starts[place] == end for place, end in zip(family[1:], ends, strict=False))


def _widened(shape: Layout, count: int | None, slab: int) -> Layout:
    """Return the layout of the arrays of ``count`` states; the layout itself for None."""
    sizes, strides, dtype = shape
    return shape if count is None else ((count, *sizes), (slab, *strides), dtype)


def array_in(block: AnyArray, start: int, shape: Layout) -> AnyArray:
    """Return an array of a layout in a block of bytes."""
    sizes, strides, dtype = shape
    return np.empty(sizes, dtype) if 0 in sizes else np.ndarray(sizes, dtype, block.data, start, strides)


class Program:
    """A compiled tape.

    ``run(*arguments)`` computes one step on the state's memory and returns its results. It returns None if a guard does
    not hold. In that case, and after an error, the state's memory is unchanged. In a program for many states, ``apart``
    says of each result whether it is a list of numbers, and ``looped`` names what is called state by state.

    Args:
        tape: The recorded operations.
        arguments: The values of the arguments of ``run``, in order.
        state: The values of the state's arrays before the step.
        new: Their values after the step.
        results: The results of ``run``: copies of arrays, numbers, constants.
        names: The names in the source, first for each argument, then for each array of the state.
        memory: The memory of another program for this state; None allocates new memory.
        many: The states that are computed at once; None for one state.
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
        many: Many | None = None,
    ) -> None:
        ops = float_masks(early(live(tape.ops, {*new, *results})))
        found = families_of(ops, state, new)
        places = {value: place for place, value in enumerate(state)}
        if memory is None:
            count = None if many is None else many.count
            memory = StateMemory([value.array for value in state], _places(found, places), count)
        flats = Flats([each for each in found if all(map(memory.holds, _places([each], places)))])
        ordered = flats.fused(ops)
        if ops and not ordered:
            flats, ordered = Flats([]), ops
        if many is None:
            writer = Writer(ordered, flats, memory.starts, names)
        else:
            writer = SlabWriter(ordered, flats, memory.starts, names, (many.count, memory.slab, many.apart))
        self.source = writer.write(arguments, list(zip(state, new, strict=True)), results)
        self.memory, self.calls, self.opaque = memory, writer.calls, tuple(tape.opaque)
        self.constants, self.nbytes = writer.constants, writer.room.nbytes * (1 if many is None else many.count)
        self.apart, self.looped = [value in writer.apart for value in results], writer.looped
        scope: dict[str, Any] = {}
        exec(compile(self.source, "<program>", "exec"), scope)  # noqa: S102  # source written by this package
        for op in (*tape.ops, *ordered):  # breaks reference cycles that keep the trace's arrays
            op.outs.clear()
        self.run: Callable[..., tuple[Any, ...] | None] = scope["program"](memory.block, self.constants)
        if many is None and is_built():
            self.run = NativeRun(self.run, self.source)

    def use_python(self) -> bool:
        """Run the program in Python from now on; return whether the native interpreter ran it."""
        return isinstance(self.run, NativeRun) and self.run.turn_off()


def _places(families: Iterable[Family], places: dict[Value, int]) -> list[list[int]]:
    """Return the columns that consist of the state's arrays, as the arrays' positions in the state."""
    columns = [column for family in families for column in family.columns if column[0] in places]
    return [[places[value] for value in column] for column in columns]
