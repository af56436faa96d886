"""The writer: the source of a program, line by line, with a place in memory for each value."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from keyword import iskeyword
from typing import Any, Final

import numpy as np
from attrs import define, field

from funcnet.core.arrays import AnyArray
from funcnet.tracing.fusion import Flats, padded
from funcnet.tracing.passes import can_fail, is_elementwise, refs_in
from funcnet.tracing.recorder import Const, Op, Ref, Scalar, Value, c_strides, is_array, kind_of, layout

HEADING: Final = '''\
import numpy as np

copyto = getattr(np.copyto, "_implementation", np.copyto)  # skips the dispatch on __array_function__
dot = getattr(np.dot, "_implementation", np.dot)


def memory(nbytes):
    """Return a block of zeros whose address is a multiple of 64."""
    block = np.zeros(nbytes + 64, np.uint8)
    start = -block.__array_interface__["data"][0] % 64
    return block[start : start + nbytes]
'''
_HELPERS: Final = {
    "seen": '''

def seen(array, shape, dtype, offset, strides):
    """The memory of an array with gaps, as another array."""
    view = type("View", (), {"array": array})()
    place = array.__array_interface__["data"][0] + offset, True
    view.__array_interface__ = {"version": 3, "data": place, "shape": shape, "typestr": dtype, "strides": strides}
    return np.asarray(view)
''',
    "each": '''

def each(arrays):
    """The array of each state."""
    return [arrays[i, ...] for i in range(len(arrays))]
''',
}
_OPERATORS: Final[dict[Any, str]] = {
    operator.add: "{} + {}",
    operator.sub: "{} - {}",
    operator.mul: "{} * {}",
    operator.truediv: "{} / {}",  # pyright: ignore[reportUnknownMemberType]  # typeshed has no types
    operator.floordiv: "{} // {}",  # pyright: ignore[reportUnknownMemberType]  # typeshed has no types
    operator.mod: "{} % {}",
    operator.pow: "{} ** {}",  # pyright: ignore[reportUnknownMemberType]  # typeshed has no types
    operator.neg: "-{}",
    operator.lt: "{} < {}",
    operator.le: "{} <= {}",
    operator.gt: "{} > {}",
    operator.ge: "{} >= {}",
    operator.eq: "{} == {}",
    operator.ne: "{} != {}",
    operator.abs: "abs({})",
}
_LAST: Final = 1 << 60


@define(eq=False)
class Buffer:
    """A piece of memory; ``values`` are the values in it that are still needed."""

    name: str
    nbytes: int
    is_state: bool = False
    values: set[Value] = field(factory=set[Value])


class Room:
    """The memory of the values that a step computes: the place of each value, and the free blocks."""

    def __init__(self, least: int = 0) -> None:
        self.places: dict[Value, tuple[Buffer, int]] = {}
        self._least = least  # the size of the smallest block
        self.blocks: list[Buffer] = []
        self._free: list[Buffer] = []

    @property
    def nbytes(self) -> int:
        """The size of all blocks."""
        return sum(block.nbytes for block in self.blocks)

    def take(self, value: Value) -> None:
        """Give a value a block: the smallest free one that is large enough but not wasteful, or a new one."""
        nbytes = max(padded(value.array.nbytes), self._least)
        fits = [block for block in self._free if nbytes <= block.nbytes <= 2 * nbytes + 256]
        if fits:
            block = min(fits, key=lambda block: block.nbytes)
            self._free.remove(block)
        else:
            block = Buffer(f"m{len(self.blocks)}", nbytes)
            self.blocks.append(block)
        self.put(value, block, 0)

    def put(self, value: Value, block: Buffer, start: int) -> None:
        """Place a value in a block."""
        self.places[value] = block, start
        block.values.add(value)

    def release(self, value: Value) -> None:
        """Remove a value that is no longer needed; a block without values becomes free."""
        block, _ = self.places[value]
        block.values.discard(value)
        if not block.is_state and not block.values:
            self._free.append(block)

    def is_sole(self, value: Value) -> bool:
        """Return whether a value is alone in its block, so that another value may replace it."""
        return self.places[value][0].values == {value}


class Writer:
    """Writes the source of a program: gives each result a place in memory and each operation a line.

    Args:
        ops: The operations, in order.
        flats: The columns that lie side by side.
        starts: The offset of each array of the state in the state's block.
        names: The names in the source, first for each argument, then for each array of the state.
    """

    def __init__(self, ops: list[Op], flats: Flats, starts: Mapping[int, int], names: Sequence[str]) -> None:
        self.ops, self.flats, self._starts, self._identifiers = ops, flats, starts, _identifiers(names)
        self.room = Room()
        self.constants: list[Any] = []
        self.calls = 0
        self.apart: set[Scalar] = set()  # the numbers that differ between the states of a program for many
        self.looped: list[str] = []  # the functions that such a program calls state by state
        self._head: list[str] = []
        self._prologue: dict[str, str] = {}
        self._body: list[str] = []
        self._names: dict[object, str] = {}
        self._scalars: dict[Scalar, str] = {}
        self._arguments: dict[Value, str] = {}
        self._targets: dict[Value, Value] = {}
        self._last: dict[Value | Scalar, int] = {}
        self._parameters: list[str] = []
        self._place = ""
        self._safe = max((place for place, op in enumerate(ops) if can_fail(op)), default=-1)

    # ------------------------------------------------------------------------------------------ the module

    def write(self, arguments: Sequence[Any], state: list[tuple[Value, Value]], results: Sequence[Any]) -> str:
        """Return the source of a module whose function ``program(state, constants)`` returns ``run``.

        ``state`` has the value of each array before and after the step.
        """
        for value in arguments:
            name = next(self._identifiers)
            self._parameters.append(name)
            if isinstance(value, Value):
                self._place_argument(value, name)
            else:
                self._scalars[value] = name
        self._find_last([*results, *(new for _, new in state)])
        self._place_state(state)
        for position, op in enumerate(self.ops):
            self._write_op(position, op)
            touched = (value for value in (*op.reads(), *op.outs) if isinstance(value, Value))
            for value in dict.fromkeys(map(self._own, touched)):  # ordered: a set would print other names each time
                if self._last.get(value, -1) <= position and value in self.room.places:
                    self.room.release(value)
        self._store_state(state)
        return self._module(results)

    def _place_argument(self, value: Value, name: str) -> None:
        self._arguments[value] = name

    def _size(self, block: Buffer) -> str:
        return f"{block.nbytes}"

    def _module(self, results: Sequence[Any]) -> str:
        returned = "".join(f"{self._result(value)}, " for value in results)
        blocks = [f"{block.name} = memory({self._size(block)})" for block in self.room.blocks]
        prologue = [f"{name} = {text}" for text, name in self._prologue.items()]
        inner = [*prologue, *self._body, f"return ({returned})"]
        outer = [
            *blocks,
            *self._head,
            "",
            f"def run({', '.join(self._parameters)}):",
            *(f"    {line}" for line in inner),
        ]
        lines = ["def program(state, constants):", *(f"    {line}".rstrip() for line in (*outer, "return run"))]
        used = "\n".join(lines)
        heading = HEADING + "".join(text for name, text in _HELPERS.items() if f" = {name}(" in used)
        return "\n".join([heading, "", *lines, ""])

    def _find_last(self, kept: Sequence[Any]) -> None:
        """Find the last operation that needs each value."""
        for position, op in enumerate(self.ops):
            for value in op.reads():
                self._last[self._own(value)] = position
        self._last |= {self._own(value): _LAST for value in kept}

    def _place_state(self, state: list[tuple[Value, Value]]) -> None:
        """Place the state's arrays, and find the array whose memory each new value belongs in."""
        old_values = {old for old, _ in state}
        for place, (old, _) in enumerate(state):
            self.room.places[old] = Buffer("state", 0, is_state=True), self._starts[place]
        for flat, members in self.flats.members.items():
            if members[0] in self.room.places:
                self.room.places[flat] = self.room.places[members[0]]
        for (old, new), name in zip(state, self._identifiers, strict=True):
            self._define(self._key(old.whole), name, self._view(old.whole))
            if new is not old and new not in self._targets and new not in old_values:
                self._targets[new] = old
        self._target_flats()
        for value, (block, _) in self.room.places.items():
            if value in self._last:
                block.values.add(value)

    def _target_flats(self) -> None:
        for flat, members in self.flats.members.items():
            old: list[Any] = [self._targets.get(member) for member in members]
            target = self.flats.owner.get(old[0])
            if target is not None and self.flats.members[target] == old:
                self._targets[flat] = target

    def _store_state(self, state: list[tuple[Value, Value]]) -> None:
        """Copy new values that lie elsewhere into the state, after saving those that lie in another state array."""
        moved = [(old, new) for old, new in state if new is not old and self._at(new) != self._at(old)]
        self._place = ""
        for position, (old, new) in enumerate(moved):
            block = self._at(new)[0]
            if isinstance(block, Buffer) and block.is_state:
                aside = Value(new.array, new.op)
                self.room.take(aside)
                self._call("copyto", self._name(aside.whole), self._name(new.whole))
                moved[position] = old, aside
        for old, new in moved:
            self._call("copyto", self._name(old.whole), self._name(new.whole))

    def _result(self, value: Any) -> str:
        if not isinstance(value, Value):
            return self._expression(value)
        return self._arguments.get(value) or f"{self._name(value.whole)}.copy()"

    # ---------------------------------------------------------------------------------------------- places

    def _own(self, value: Any) -> Any:
        """Return the flat array that contains a value; the value itself if none does."""
        return self.flats.owner.get(value, value)

    def _at(self, value: Value) -> tuple[Any, int]:
        if value in self._arguments:
            return self._arguments[value], 0
        if value in self.flats.owner:
            block, start = self.room.places[self.flats.owner[value]]
            return block, start + self.flats.start[value]
        return self.room.places[value]

    def _make_room(self, position: int, op: Op, value: Value) -> None:
        """Give a result a place: that of the state, that of an operand that is no longer needed, or a free block."""
        if value in self.flats.owner:
            if self._own(value) not in self.room.places:
                self.room.take(self._own(value))
            if op.base is not None:
                self._call("copyto", self._name(value.whole), self._name(op.base.whole))
            return
        target = self._targets.get(value)
        if target is not None and op.base is None and self._may_store(position, op, target, value):
            self.room.put(value, *self.room.places[target])
            return
        for old in self._replaced(op):
            if self._may_replace(position, old, value):
                self.room.put(value, *self.room.places[old])
                return
        self.room.take(value)
        if op.base is not None:
            self._call("copyto", self._name(value.whole), self._name(op.base.whole))

    def _replaced(self, op: Op) -> list[Value]:
        """Return the operands whose memory the result may overwrite."""
        if op.base is not None:
            return [op.base]
        refs = refs_in(op.args) if is_elementwise(op) else []
        partly = {ref.value for ref in refs if not ref.is_whole}
        return [ref.value for ref in refs if ref.value not in partly]

    def _may_replace(self, position: int, old: Value, value: Value) -> bool:
        if layout(old.array) != layout(value.array) or self._last[self._own(old)] != position:
            return False
        if value.array.size == 1:  # NumPy is slower at writing one element over its operand
            return False
        if old in self.flats.owner or old in self._arguments:
            return False
        is_early = self.room.places[old][0].is_state and position <= self._safe
        return self.room.is_sole(old) and not is_early

    def _may_store(self, position: int, op: Op, target: Value, value: Value) -> bool:
        """Return whether a new value of the state can be computed in the state's memory."""
        if position <= self._safe or layout(target.array) != layout(value.array) or target in self.flats.owner:
            return False
        ending = {old for old in self._replaced(op) if self._last[self._own(old)] == position}
        return self.room.places[target][0].values <= ending

    # ----------------------------------------------------------------------------------------------- names

    def _axes(self, ref: Ref) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shape and the strides of an operand in the program's memory."""
        return ref.shape, ref.strides

    def _key(self, ref: Ref) -> object:
        block, start = self._at(ref.value)
        return block, start + ref.offset, *self._axes(ref), ref.dtype

    def _define(self, key: object, name: str, definition: str) -> str:
        """Return the name for a key; the first use defines it, ahead of ``run``."""
        if key not in self._names:
            self._names[key] = name
            self._head.append(f"{name} = {definition}")
        return self._names[key]

    def _view(self, ref: Ref) -> str:
        """Return the definition of an operand as an array."""
        block, start = self._at(ref.value)
        shape, strides = self._axes(ref)
        if 0 in shape:
            return f"np.empty({shape}, {ref.dtype.str!r})"
        tail = "" if strides == c_strides(shape, ref.dtype) else f", {strides}"
        offset = f", {start + ref.offset}" if start + ref.offset or tail else ""
        return f"np.ndarray({shape}, {ref.dtype.str!r}, {block.name}{offset}{tail})"

    def _name(self, ref: Ref) -> str:
        """Return the name of an operand."""
        if ref.value in self._arguments:
            return self._argument_view(self._arguments[ref.value], ref)
        return self._define(self._key(ref), f"t{len(self._names)}", self._view(ref))

    def _argument_view(self, name: str, ref: Ref) -> str:
        array: Any = ref.value.array
        if ref.is_whole:
            return name
        if (ref.offset, *ref[2:]) == (0, *layout(array.T)):
            text = f"{name}.T"
        elif (ref.offset, ref.shape, ref.strides) == (0, array.shape, array.strides):
            text = f"{name}.view({ref.dtype.str!r})"
        elif not array.flags.forc:
            text = f"seen({name}, {ref.shape}, {ref.dtype.str!r}, {ref.offset}, {ref.strides})"
        else:
            text = f"np.ndarray({ref.shape}, {ref.dtype.str!r}, {name}, {ref.offset}, {ref.strides})"
        return self._prologue.setdefault(text, f"p{len(self._prologue)}")

    def _bind(self, thing: Any) -> str:
        """Return the name of a constant."""
        known = getattr(thing, "__name__", "")
        if isinstance(thing, type) and thing.__module__ == "builtins":
            return known
        if known and getattr(np, known, None) is thing:
            return f"np.{known}"
        key, place = ("constant", id(thing)), len(self.constants)
        if key not in self._names:
            self.constants.append(thing)
        return self._define(key, f"c{place}", f"constants[{place}]  # {_described(thing)}")

    def _expression(self, x: Any) -> str:  # noqa: PLR0911  # one return for each kind
        """Return the source of an argument."""
        kind = kind_of(x)
        if kind is Ref:
            return self._name(x)
        if kind is Scalar:
            return self._scalars[x]
        if kind is Const:
            return self._constant(x.array)
        if kind is tuple:
            return f"({''.join(f'{self._expression(part)}, ' for part in x)})"
        if kind is list:
            return f"[{', '.join(map(self._expression, x))}]"
        if kind is float:
            return repr(x) if np.isfinite(x) else self._defined(f"float('{x}')")
        if kind in (int, bool, str, type(None)):
            return repr(x)
        return self._bind(x)

    def _constant(self, array: AnyArray) -> str:
        first = array.reshape(-1)[:1]
        if array.flags.c_contiguous and array.size > 1 and array.dtype.kind in "fi" and (array == first).all():
            text = f"np.full({array.shape}, {first.item()!r}, {array.dtype.str!r})"
            if np.isfinite(first).all() and not np.signbit(first).any():
                return self._defined(text)
        return self._bind(array)

    def _defined(self, text: str) -> str:
        """Return the name of an expression that is computed once, ahead of ``run``."""
        return self._define(text, f"k{len(self._names)}", text)

    # ------------------------------------------------------------------------------------------ operations

    def _line(self, text: str, place: str = "") -> None:
        if place and place != self._place:
            self._place = place
            self._body.append(f"# {place}")
        self._body.append(text)

    def _call(self, function: str, *args: str, result: str = "", place: str = "") -> None:
        self.calls += 1
        self._line(f"{result}{function}({', '.join(args)})", place)

    def _write_op(self, position: int, op: Op) -> None:
        if op.kind in ("scalar", "item", "guard"):
            self._write_scalar(op)
            return
        for value in op.outs:
            if isinstance(value, Value):
                self._make_room(position, op, value)
        if op.kind != "alloc":
            getattr(self, f"_write_{op.kind}")(op)

    def _into(self, op: Op) -> str:
        """Return the name of the array that an operation writes to."""
        return self._name(op.out.whole if op.into is None else op.into._replace(value=op.out))

    def _options(self, op: Op) -> list[str]:
        return [f"{name}={self._expression(x)}" for name, x in op.kwargs.items()]

    def _write_ufunc(self, op: Op) -> None:
        args, options = self._operands(op), self._options(op)
        outs = [self._name(value.whole) for value in op.outs if isinstance(value, Value)]
        out = f"({', '.join(outs)})" if len(outs) > 1 else self._into(op)
        self._call(self._bind(op.func), *args, f"out={out}", *options, place=op.place)

    def _write_reduce(self, op: Op) -> None:
        args = map(self._expression, op.args)
        self._call(f"{self._bind(op.func)}.reduce", *args, f"out={self._into(op)}", *self._options(op), place=op.place)

    def _write_copy(self, op: Op) -> None:
        out, source = self._into(op), self._expression(op.args[0])
        if out != source:
            casting = [] if self._casts_safely(op) else ["casting='unsafe'"]
            self._call("copyto", out, source, *casting, *self._options(op), place=op.place)

    def _casts_safely(self, op: Op) -> bool:
        source, target = op.args[0], (op.out.array.dtype if op.into is None else op.into.dtype)
        if type(source) in (int, float):
            return target.kind == "f"
        dtype = getattr(getattr(source, "array", source), "dtype", None)
        return dtype is not None and np.can_cast(dtype, target, "same_kind")

    def _write_mutate(self, op: Op) -> None:
        self._call(self._method(op.func), self._into(op), *map(self._expression, op.args), place=op.place)

    def _method(self, func: Any) -> str:
        owner = getattr(func, "__objclass__", None)
        return f"np.ndarray.{func.__name__}" if owner is np.ndarray else self._bind(func)

    def _write_call(self, op: Op) -> None:
        args, options = [self._expression(x) for x in op.args], self._options(op)
        func = op.func
        if func in (np.dot, np.ndarray.dot) and not options and op.out.array.ndim:
            self._call("dot", *args, self._into(op), place=op.place)
        elif func is np.ndarray.take:
            given = dict(zip(("indices", "axis", "out", "mode"), op.args[1:], strict=False)) | op.kwargs
            indices, axis = self._expression(given["indices"]), self._expression(given.get("axis"))
            mode = self._expression(given.get("mode", "raise"))
            self._call(f"{args[0]}.take", indices, axis, self._into(op), mode, place=op.place)
        elif func is np.concatenate:
            self._call("np.concatenate", *args, f"out={self._into(op)}", *options, place=op.place)
        elif func is np.where and type(op.args[0]) is Ref and op.args[0].dtype == np.bool_:
            self._call("copyto", self._into(op), args[2], place=op.place)
            self._call("copyto", self._into(op), args[1], f"where={args[0]}")
        else:
            self._write_any_call(op, args, options)

    def _write_any_call(self, op: Op, args: list[str], options: list[str]) -> None:
        """Write the call of a function that allocates its results. They are checked against the trace and copied."""
        self._call(self._method(op.func), *args, *options, result="made = ", place=op.place)
        for number, value in enumerate(op.outs):
            made = f"made[{number}]" if op.many else "made"
            if isinstance(value, Scalar):
                self._scalars[value] = name = self._new_number()
                self._line(f"{name} = {made}")
                self._line(f"if type({name}) is not {self._bind(type(value.value))}: return None")
                continue
            shape, strides, dtype = layout(value.array)
            check = f"{made}.shape != {shape} or {made}.dtype != {dtype.str!r}"
            check += f" or {made}.strides != {strides}" if len(shape) > 1 else ""
            self._line(f"if {check}: return None")
            self._call("copyto", self._name(value.whole), made)

    def _write_scalar(self, op: Op) -> None:
        if op.kind == "guard":
            self._line(f"if {'not ' if op.func else ''}{self._expression(op.args[0])}: return None", op.place)
            return
        self._write_number(op, self._number(op))

    def _number(self, op: Op) -> str:
        """Return the expression of a number."""
        if op.kind == "item":
            return f"{self._expression(op.args[0])}{'.item()' if op.func is None else '[()]'}"
        if op.func in _OPERATORS:
            return _OPERATORS[op.func].format(*map(self._expression, op.args))
        return f"{self._bind(op.func)}({', '.join([*map(self._expression, op.args), *self._options(op)])})"

    def _write_number(self, op: Op, text: str) -> None:
        (value,) = op.outs
        self._scalars[value] = name = self._new_number()  # type: ignore[index]  # a Scalar
        self._line(f"{name} = {text}", op.place)

    def _new_number(self) -> str:
        return f"n{len(self._scalars)}"

    def _operands(self, op: Op) -> list[str]:
        """Return a ufunc's operands. Numbers become 0-d arrays of the other operands' dtype, which is fastest."""
        dtype = self._common(op)
        return [self._operand(x, dtype) for x in op.args]

    def _common(self, op: Op) -> np.dtype[Any] | None:
        """Return the dtype of all of a ufunc's operands that have one; None if it is not one dtype of numbers."""
        dtypes = {ref.dtype for ref in refs_in(op.args)} | {x.array.dtype for x in op.args if type(x) is Const}
        numbers: list[Any] = [x.value if type(x) is Scalar else x for x in op.args]
        dtypes |= {x.dtype for x in numbers if issubclass(kind_of(x), np.generic)}
        dtype = dtypes.pop() if len(dtypes) == 1 else None
        return dtype if dtype is not None and dtype.kind in "fiu" else None

    def _operand(self, x: Any, dtype: np.dtype[Any] | None) -> str:
        kind = kind_of(x.value if kind_of(x) is Scalar else x)
        if issubclass(kind_of(x), np.generic):
            return self._bind_array(np.array(x))
        if dtype is None or kind not in (int, float) or (dtype.kind != "f" and kind is float):
            return self._expression(x)
        if type(x) is Scalar:
            return self._cell(x, dtype) if dtype.kind == "f" else self._expression(x)
        if dtype.kind != "f" and not np.iinfo(dtype).min <= x <= np.iinfo(dtype).max:
            return self._expression(x)
        with np.errstate(all="ignore"):
            value = np.array(x, dtype)
        return self._defined(f"np.array({x!r}, {dtype.str!r})") if np.isfinite(value) else self._bind_array(value)

    def _bind_array(self, array: AnyArray) -> str:
        key = array.tobytes(), array.dtype
        if key not in self._names:
            self._names[key] = self._bind(array)
        return self._names[key]

    def _cell(self, scalar: Scalar, dtype: np.dtype[Any]) -> str:
        """Return the name of a 0-d array that ``run`` fills with a number that varies."""
        key, name = (scalar, dtype), f"k{len(self._names)}"
        if key not in self._names:
            self._line(f"{name}.fill({self._expression(scalar)})")
        return self._define(key, name, f"np.zeros((), {dtype.str!r})")


def _identifiers(paths: Iterable[str]) -> Iterator[str]:
    """Return an identifier for each path that differs from all names in the source."""
    taken = {
        *("np", "copyto", "dot", "memory", *_HELPERS, "program", "state", "constants", "run", "made"),
        *("abs", "all", "any", "bool", "float", "int", "list", "type", "getattr", "range", "zip"),
    }
    for path in paths:
        name = re.sub(r"\W", "_", path) or "value"
        name = f"net_{name}" if name[0].isdigit() else name
        while name in taken or iskeyword(name) or re.fullmatch(r"[tkcmnpi]\d+|n\d+s", name):
            name += "_"
        taken.add(name)
        yield name


def _described(thing: Any) -> str:
    if is_array(thing):
        return f"{thing.dtype} {thing.shape}"
    return getattr(thing, "__qualname__", None) or repr(thing).replace("\n", " ")[:80]
