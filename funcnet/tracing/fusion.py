"""Fusion: operations that are the same for every array of a state run once, on memory that holds all the arrays.

Arrays of a state form a family if the same formula of exact elementwise operations computes their new values. In Adam,
for example, every parameter's new value is the same formula of the parameter, its two moments and its gradient. Each
variable of the formula is a column, with one array per member of the family. The arrays of a column are placed side by
side in memory, and each operation of the formula becomes one NumPy call instead of one call per array. The operations
on each element do not change, so the bits do not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

import numpy as np

from funcnet.tracing.ducks import CLIP
from funcnet.tracing.recorder import Const, Op, Ref, Scalar, Value, c_strides, kind_of

ALIGNMENT: Final = 64
"""The alignment of arrays in memory, in bytes."""

EXACT: Final = {
    *(np.add, np.subtract, np.multiply, np.divide, np.sqrt, np.maximum, np.minimum, np.negative, np.abs, np.square),
    *(np.copysign, np.sign, CLIP),
}
"""Elementwise functions whose result for an element has the same bits at every position in an array."""


def padded(nbytes: int) -> int:
    """Return a size in bytes, rounded up to a multiple of the alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


class Family(NamedTuple):
    """Arrays of the state that share a formula: ``columns[k][i]`` is the k-th value of member i.

    ``calls`` are the operations of the formula. A call is ``(column, function, operands)``, where an operand is the
    number of a column or a scalar operand.
    """

    columns: list[list[Value]]
    calls: list[tuple[int, np.ufunc, tuple[Any, ...]]]


class _Formula:
    """The formula of a new value of the state, with its values numbered in the order in which they are computed."""

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
        """Return whether the operand is a whole value in C order, with the size and dtype of the new value."""
        array = ref.value.array
        is_all = ref.offset == 0 and ref.dtype == array.dtype == self._dtype and array.flags.c_contiguous
        return is_all and ref.strides == c_strides(ref.shape, ref.dtype) and array.size == self._size


class _Column(int):
    """The number of a column, used as an operand."""

    __slots__ = ()


def _token(operand: Any) -> object:
    """Return a token that equal operands of two formulas share."""
    if type(operand) is _Column:
        return operand
    if type(operand) is Const:
        return operand.array.dtype, operand.array.tobytes()
    kind = kind_of(operand)
    return id(operand) if kind is Scalar else (kind, repr(operand))


def families_of(ops: Sequence[Op], state: Sequence[Value], new: Sequence[Value]) -> list[Family]:
    """Return the families of a state, given the values of its arrays before and after a step."""
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
    """Return each value's rank: how many new values of the state it needs in sequence. A family shares one rank."""
    ranks: dict[Value | Scalar, int] = {}
    for op in ops:
        rank = max((ranks.get(value, 0) for value in op.reads()), default=0)
        ranks |= {out: rank + (out in new) for out in op.outs}
    return ranks


class Flats:
    """Columns as flat arrays: ``owner`` and ``start`` locate a value in a flat array; ``members`` lists its values."""

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
        """Return the operations with one for each column, in an order that works; an empty list if no order does."""
        maker = {out: self._ops.get(op, op) for op in ops for out in op.outs}
        waiting: dict[Op, set[Op]] = {}
        for op in ops:
            node = self._ops.get(op, op)
            needs = {maker[value] for value in op.reads() if value in maker} - {node}
            waiting[node] = waiting.pop(node, set()) | needs  # moves to the position of the last member
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
