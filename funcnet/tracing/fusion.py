"""Fusion: what is done alike to every array of a state is done once, on memory that holds them all.

The arrays of a state whose new values come from one formula of exact elementwise operations are a family: in Adam,
every parameter's new value is the same formula of the parameter, its two moments and its gradient. The formula's
columns are then laid side by side in memory, and each of its operations becomes one NumPy call instead of one an array.
The elements are the same, so the bits are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

import numpy as np

from funcnet.tracing.ducks import CLIP
from funcnet.tracing.recorder import Const, Op, Ref, Scalar, Value, c_strides, kind_of

ALIGNMENT: Final = 64
"""Arrays in memory begin at multiples of this many bytes."""

EXACT: Final = {
    *(np.add, np.subtract, np.multiply, np.divide, np.sqrt, np.maximum, np.minimum, np.negative, np.abs, np.square),
    *(np.copysign, np.sign, CLIP),
}
"""Elementwise functions whose result for an element has the same bits wherever it stands in an array."""


def padded(nbytes: int) -> int:
    """A size in memory, up to where the next array begins."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


class Family(NamedTuple):
    """Members that have one formula: ``columns[k][i]`` is the k-th value of member i, ``calls`` what computes columns.

    A call is ``(column, function, operands)``; an operand is a column's number or a scalar operand.
    """

    columns: list[list[Value]]
    calls: list[tuple[int, np.ufunc, tuple[Any, ...]]]


class _Formula:
    """How a new value of the state comes from the old ones: its values numbered in order of their first use."""

    def __init__(self, new: Value, state: dict[Value, int], present: set[Op], rank: int) -> None:
        self.values: list[Value] = []
        self.calls: list[tuple[int, np.ufunc, tuple[Any, ...]]] = []
        self._numbers: dict[Value, int] = {}
        self._state, self._present, self._size, self._dtype = state, present, new.array.size, new.array.dtype
        self._number(new)
        kinds = tuple("state" if value in state else "made" for value in self.values)
        shown = tuple((k, func, tuple(map(_token, args))) for k, func, args in self.calls)
        self.key = shown, kinds, self._dtype, rank

    def _number(self, value: Value) -> int:
        if value in self._numbers:
            return self._numbers[value]
        args: list[Any] = []
        op = value.op
        if self._is_exact(op):
            for arg in op.args:
                args.append(_Column(self._number(arg.value)) if type(arg) is Ref else arg)  # noqa: PERF401  # recursive
        number = self._numbers[value] = len(self.values)
        self.values.append(value)
        if args:
            self.calls.append((number, op.func, tuple(args)))
        return number

    def _is_exact(self, op: Op) -> bool:
        if op.kind != "ufunc" or op.func not in EXACT or op not in self._present or op.base is not None or op.kwargs:
            return False
        refs = [arg for arg in op.args if type(arg) is Ref]
        scalars = all(type(arg) is Ref or not isinstance(arg, Const) or not arg.array.ndim for arg in op.args)
        return scalars and bool(refs) and all(self._fits(ref) for ref in refs) and self._fits(op.out.whole)

    def _fits(self, ref: Ref) -> bool:
        """Whether it is all of a value in C order, as large as the new value; a batch's array is none of a member's."""
        array = ref.value.array
        is_all = ref.offset == 0 and ref.dtype == array.dtype == self._dtype and array.flags.c_contiguous
        return is_all and ref.strides == c_strides(ref.shape, ref.dtype) and array.size == self._size


class _Column(int):
    """The number of a column, as an operand."""

    __slots__ = ()


def _token(operand: Any) -> object:
    """An operand, to be told from another."""
    if type(operand) is _Column:
        return operand
    if type(operand) is Const:
        return operand.array.dtype, operand.array.tobytes()
    kind = kind_of(operand)
    return id(operand) if kind is Scalar else (kind, repr(operand))


def families_of(ops: Sequence[Op], state: Sequence[Value], new: Sequence[Value]) -> list[Family]:
    """The families of a state, given its arrays' values before and after a step."""
    present, places, ranks = set(ops), {value: place for place, value in enumerate(state)}, _ranks(ops, set(new))
    alike: dict[object, list[_Formula]] = {}
    for before, after in zip(state, new, strict=True):
        if after is not before and after.array.size:
            formula = _Formula(after, places, present, ranks.get(after, 0))
            if formula.calls and not any(value.op.kind == "input" and value not in places for value in formula.values):
                alike.setdefault(formula.key, []).append(formula)
    found: list[Family] = []
    taken: set[Value] = set()
    for formulas in sorted(alike.values(), key=lambda group: -len(group[0].calls)):
        values = [value for formula in formulas for value in formula.values]
        if len(formulas) > 1 and len(set(values)) == len(values) and taken.isdisjoint(values):
            taken.update(values)
            columns = [list(column) for column in zip(*(formula.values for formula in formulas), strict=True)]
            found.append(Family(columns, formulas[0].calls))
    return found


def _ranks(ops: Sequence[Op], new: set[Value]) -> dict[Value | Scalar, int]:
    """How many new values of the state each value comes after: what needs a new value cannot be of its family."""
    ranks: dict[Value | Scalar, int] = {}
    for op in ops:
        rank = max((ranks.get(value, 0) for value in op.reads()), default=0)
        ranks |= {out: rank + (out in new) for out in op.outs}
    return ranks


class Flats:
    """Columns as flat arrays: ``owner`` and ``start`` say where a member lies, ``members`` is the other way round."""

    def __init__(self, families: Iterable[Family]) -> None:
        self.owner: dict[Value, Value] = {}
        self.start: dict[Value, int] = {}
        self.members: dict[Value, list[Value]] = {}
        self._ops: dict[Op, Op] = {}
        for family in families:
            flats = [self._flat(column) for column in family.columns]
            for number, func, args in family.calls:
                operands = tuple(flats[arg].whole if type(arg) is _Column else arg for arg in args)
                fused = Op("ufunc", func, operands, place=family.columns[number][0].op.place)
                fused.outs = [flats[number]]
                flats[number].op = fused
                self._ops |= {value.op: fused for value in family.columns[number]}

    def _flat(self, column: list[Value]) -> Value:
        starts = [0, *accumulate(padded(value.array.nbytes) for value in column)]
        dtype = column[0].array.dtype
        flat = Value(np.empty(starts[-1] // dtype.itemsize, dtype), column[0].op)
        self.members[flat] = column
        for value, start in zip(column, starts, strict=False):
            self.owner[value], self.start[value] = flat, start
        return flat

    def fused(self, ops: Sequence[Op]) -> list[Op]:
        """The operations in order, with one in place of each column's; empty if no order works."""
        maker = {out: self._ops.get(op, op) for op in ops for out in op.outs}
        waiting: dict[Op, set[Op]] = {}
        for op in ops:
            node = self._ops.get(op, op)
            needs = {maker[value] for value in op.reads() if value in maker} - {node}
            waiting[node] = waiting.pop(node, set()) | needs  # at the place of the last member
        ordered: dict[Op, None] = {}
        while waiting:
            later: dict[Op, set[Op]] = {}
            for op, needs in waiting.items():
                if ordered.keys() >= needs:
                    ordered[op] = None
                else:
                    later[op] = needs
            if len(later) == len(waiting):
                return []
            waiting = later
        return list(ordered)
