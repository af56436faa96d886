"""Translation: the lines of a program as operations of the interpreter, and as Python functions where it has none."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import pack
from textwrap import dedent
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from attrs import define, field

from funcnet.core.arrays import AnyArray
from funcnet.tracing.native import operations as ops
from funcnet.tracing.native.loaded import replay
from funcnet.tracing.native.operations import Operation, UnknownError, demand, is_plain
from funcnet.tracing.recorder import address, is_array

if TYPE_CHECKING:
    from funcnet.tracing.native.replay import Program  # pyright: ignore[reportMissingModuleSource]  # a stub

Row: TypeAlias = list[int]
"""The numbers of an operation, in the order of ``Op`` in ``replay.c``."""

_WIDTHS: Final = {
    **dict.fromkeys(("kind", "operands", "axes", "size", "flag"), 1),
    **dict.fromkeys(("slot", "data"), ops.OPERANDS),
    "shape": ops.AXES,
    "strides": ops.OPERANDS * ops.AXES,
    **dict.fromkeys(("loop", "closure", "order", "left_form", "right_form", "m", "n", "k"), 1),
    **dict.fromkeys(("left_stride", "right_stride", "out", "left", "right", "type"), 1),
    "initial": 2,
}
_STARTS: Final = dict(zip(_WIDTHS, np.cumsum([0, *_WIDTHS.values()]).tolist(), strict=False))
WORDS: Final = sum(_WIDTHS.values())
ARGUMENTS: Final = 32
"""The largest number of arguments of a program, and of its Python functions."""
_LONG: Final = 2**15
"""A program that computes more numbers releases the interpreter lock of Python."""

_ARITHMETIC: Final[Mapping[type[ast.operator], int]] = {ast.Add: 0, ast.Sub: 1, ast.Mult: 2, ast.Div: 3}
_DIVIDE: Final = 3
_NEGATE: Final = 4
_COMPARED: Final[Mapping[type[ast.cmpop], int]] = {
    ast.Lt: 5,
    ast.LtE: 6,
    ast.Gt: 7,
    ast.GtE: 8,
    ast.Eq: 9,
    ast.NotEq: 10,
}
REAL, INTEGER, TRUTH, OBJECT = "rzto"
"""The types of Python's numbers in registers, and of objects. NumPy's numbers have NumPy's letters."""
_KINDS: Final[dict[object, str]] = {float: REAL, int: INTEGER, bool: TRUTH}
_ITEMS: Final = {"f": REAL, "d": REAL, "l": INTEGER, "?": TRUTH}
"""What ``item()`` returns, by the letter of the dtype; ``[()]`` returns a number of NumPy."""
_NUMPY: Final = "fdLli?"
_PARSING: Final = Lock()
_LARGEST: Final = 2**53
"""Integers below are floats, too."""


class UnfitError(Exception):
    """Raised if a program as a whole cannot be translated."""


def _parsed(text: str) -> list[ast.stmt]:
    """Return the lines of a text: in one thread at a time, because the parser of Python 3.11 fails in several."""
    with _PARSING:
        return ast.parse(text).body


class Source:
    """The lines of a program's function ``run``, and what its names stand for.

    Args:
        run: The function.
        text: The source of the program.
    """

    def __init__(self, run: Callable[..., Any], text: str) -> None:
        function: Any = run
        cells = (each.cell_contents for each in function.__closure__ or ())
        self.names: dict[str, Any] = {
            **function.__globals__,
            **dict(zip(function.__code__.co_freevars, cells, strict=True)),
        }
        part = dedent(text[text.index("    def run(") : text.rindex("    return run")])
        self._text = part.splitlines()
        (made,) = _parsed(part)
        if not isinstance(made, ast.FunctionDef):
            raise UnfitError
        self.parameters = [each.arg for each in made.args.args]
        self.lines = made.body
        self.views: dict[str, ast.stmt] = {}  # arrays that show the memory of an argument
        while (name := _target(self.lines[0])).startswith("p") and name[1:].isdigit():
            self.views[name], *self.lines = self.lines

    def add(self, texts: Sequence[str]) -> list[ast.stmt]:
        """Add lines, and return them."""
        lines = _parsed("\n".join(texts))
        for line in lines:
            ast.increment_lineno(line, len(self._text))
        self._text += texts
        return lines

    def text(self, line: ast.stmt) -> str:
        """Return the text of a line."""
        return "\n".join(self._text[line.lineno - 1 : line.end_lineno]).strip()


def _target(line: ast.stmt) -> str:
    """Return the name that a line assigns to; "" for another line."""
    target = line.targets[0] if isinstance(line, ast.Assign) and len(line.targets) == 1 else None
    return target.id if isinstance(target, ast.Name) else ""


def _names(nodes: Iterable[ast.AST], context: type[ast.expr_context]) -> list[str]:
    """Return the names that lines read or write, in order."""
    found = (node for line in nodes for node in ast.walk(line) if isinstance(node, ast.Name))
    return list(dict.fromkeys(node.id for node in found if isinstance(node.ctx, context)))


@define(eq=False)
class Registers:
    """The numbers of a program: the type and the first value of each register, and the register of each name."""

    kinds: list[str] = field(factory=list[str])
    values: list[float] = field(factory=list[float])
    places: dict[str, int] = field(factory=dict[str, int])

    def add(self, kind: str, value: float = 0, *, name: str = "") -> int:
        """Return a new register, for a name if there is one."""
        self.kinds.append(kind)
        self.values.append(value)
        if name:
            self.places[name] = len(self.kinds) - 1
        return len(self.kinds) - 1

    def row(self, name: str) -> tuple[int, int]:
        """Return the type and the register of a name, as the interpreter reads them."""
        place = self.places[name]
        return ord(self.kinds[place]), place

    def bytes(self) -> bytes:
        """Return the first values."""
        letters = "".join("d" if kind in {REAL, "f", "d"} else "q" for kind in self.kinds)
        return pack(f"={letters}", *self.values)


class Translator:
    """Translates a program for arguments of the layouts and types of ``given``.

    Args:
        run: The program as a Python function.
        text: Its source.
        given: Arguments of it.

    Raises:
        UnfitError: If the interpreter cannot run the program.
    """

    def __init__(self, run: Callable[..., Any], text: str, given: Sequence[Any]) -> None:
        source = self._source = Source(run, text)
        self.numbers, self.lines = Registers(), list[str]()  # the lines are those that Python runs
        seen = (each.view() if is_array(each) else each for each in given)  # each has an id of its own
        self._scope: dict[str, Any] = source.names | dict(zip(source.parameters, seen, strict=True))
        exec("\n".join(map(source.text, source.views.values())), self._scope)  # noqa: S102  # lines of a program
        self._boxes: dict[str, int] = {}  # the registers of arguments that are arrays
        self._left: list[ast.stmt] = []  # the lines of the next Python function
        self._pending: set[str] = set()  # the names that they write
        self._kept: list[Any] = [run]
        self._rows: list[Row] = []
        self._functions: list[Callable[..., Any]] = []
        self._tables: list[bytes] = []
        self._work = 0
        for name, value in zip(source.parameters, given, strict=True):
            if not is_array(value):
                self.numbers.add(_KINDS.get(value.__class__, OBJECT), name=name)
            elif not is_plain(self._scope[name]):
                raise UnfitError
        self._shown = self._views()
        for line in source.lines[:-1]:
            self._translate(line)
        self._made = self._results(source.lines[-1])

    def _views(self) -> dict[int, tuple[int, int]]:
        """The argument whose memory each array shows, by the array's id, and the offset in it."""
        found: dict[int, tuple[int, int]] = {}
        self._ranges: list[tuple[int, int]] = []
        arrays = {name: place for place, name in enumerate(self._source.parameters) if name not in self.numbers.places}
        for name in (*arrays, *self._source.views):
            array, view = self._scope[name], self._source.views.get(name)
            base = name if view is None else next(each for each in _names([view], ast.Load) if each in arrays)
            start = address(self._scope[base])
            found[id(array)] = arrays[base], address(array) - start
            if array.dtype.alignment > self._scope[base].dtype.alignment:
                raise UnfitError
            if view is None:
                reaches = ((size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True))
                self._ranges.append((start, start + sum(reaches) + array.itemsize))
        return found

    # --------------------------------------------------------------------------------------------- lines

    def _translate(self, line: ast.stmt) -> None:
        try:
            rows = self._operations(line)
        except UnknownError:
            self._left.append(line)
            self._pending.update(name for name in _names([line], ast.Store) if name != "made")
        else:
            self._close()
            self._rows += rows

    def _operations(self, line: ast.stmt) -> list[Row]:
        demand(not self._left or "made" not in _names([line], ast.Load))
        if isinstance(line, ast.Expr) and isinstance(line.value, ast.Call):
            return self._call(line.value)
        if isinstance(line, ast.If):
            return [self._guard(line)]
        name = _target(line)
        demand(isinstance(line, ast.Assign) and name)
        return [self._number(name, line.value)]  # type: ignore[attr-defined]  # an Assign

    def _guard(self, line: ast.If) -> Row:
        match line.test:
            case ast.UnaryOp(op=ast.Not(), operand=test):
                is_not = True
            case test:
                is_not = False
        (then,) = line.body
        is_none = isinstance(then, ast.Return) and isinstance(then.value, ast.Constant) and then.value.value is None
        demand(is_none and not line.orelse and self._kind_of(test) in {TRUTH, INTEGER, "?"})
        return _packed({"kind": ops.GUARD, "left": self._register(test), "flag": int(is_not)})

    def _call(self, call: ast.Call) -> list[Row]:
        function = self._value(call.func)
        if getattr(function, "__name__", "") == "fill" and is_array(getattr(function, "__self__", None)):
            return [self._fill(function.__self__, call.args[0])]
        rows: list[Row] = []
        options = {str(each.arg): self._value(each.value) for each in call.keywords}
        kinds = [self._kind_of(arg) for arg in call.args]
        args = [None if kind else self._value(arg) for kind, arg in zip(kinds, call.args, strict=True)]
        arrays = [each for each in (*args, *options.values()) if is_array(each)]
        for place, kind in enumerate(kinds):
            if kind:  # a number of Python has the dtype of the arrays
                demand(kind in {"f", "d", "i"} or (kind == REAL and all(each.dtype == np.float64 for each in arrays)))
                cell = args[place] = np.zeros((), "d" if kind == REAL else kind)
                rows.append(self._fill(cell, call.args[place]))
        found = ops.operations(function, tuple(args), options)
        return [*rows, *map(self._row, found)]

    def _fill(self, array: AnyArray, number: ast.expr) -> Row:
        kind = self._kind_of(number)
        demand(array.dtype.char == "i" if kind == "i" else kind in {REAL, "f", "d"} and array.dtype.char in "fd")
        demand(is_plain(array) and array.size == 1)
        fields = {"size": array.itemsize, "flag": int(kind != "i"), "left": self._register(number)}
        return self._row(Operation(ops.FILL, (array,), fields))

    def _value(self, node: ast.expr) -> Any:
        """Return the value of an expression without numbers that vary."""
        match node:
            case ast.Name(id=name):
                demand(name not in self.numbers.places and name not in self._pending and name != "made")
                return self._scope[name] if name in self._scope else getattr(builtins, name)
            case ast.Constant(value=value):
                return value
            case ast.Attribute(value=owner, attr=name):
                return getattr(self._value(owner), name)
            case ast.Tuple(elts=parts):
                return tuple(map(self._value, parts))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
            case _:
                raise UnknownError

    def _row(self, operation: Operation) -> Row:
        self._work += operation.work
        pairs = [self._place(each) for each in operation.operands]
        slots = [slot for slot, _ in pairs]
        self._kept += [each for each, slot in zip(operation.operands, slots, strict=True) if slot == -1]
        demand(operation.kind != ops.GEMM or -1 in slots[:2])  # BLAS has another product for an array by itself
        demand(slots[0 if operation.kind in {ops.REDUCE, ops.PUT} else -1] == -1 or operation.kind == ops.LOAD)
        own: dict[str, int | list[int] | tuple[int, ...]] = {
            "kind": operation.kind,
            "operands": len(pairs),
            "slot": slots,
            "data": [place for _, place in pairs],
        }
        return _packed({**own, **operation.fields})

    def _place(self, array: AnyArray) -> tuple[int, int]:
        """Return the argument whose memory an array shows and the offset in it, or -1 and an address."""
        if id(array) in self._shown:
            return self._shown[id(array)]
        place = address(array)
        demand(not any(start <= place < end for start, end in self._ranges))
        return -1, place

    # ------------------------------------------------------------------------------------------- numbers

    def _number(self, name: str, node: ast.expr) -> Row:
        match node:
            case ast.Call(func=ast.Attribute(value=array, attr="item"), args=[], keywords=[]):
                return self._load(name, self._value(array), _ITEMS)
            case ast.Subscript(value=array, slice=ast.Tuple(elts=[])):
                return self._load(name, self._value(array), dict(zip(_NUMPY, _NUMPY, strict=True)))
            case ast.Compare(left=left, ops=[operator], comparators=[right]):
                return self._compared(name, _COMPARED.get(type(operator)), left, right)
            case ast.BinOp(left=left, op=operator, right=right):
                return self._computed(name, _ARITHMETIC.get(type(operator)), left, right)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._computed(name, _NEGATE, operand, operand)
            case _:
                raise UnknownError

    def _load(self, name: str, array: Any, kinds: Mapping[str, str]) -> Row:
        demand(is_plain(array) and array.size == 1)
        kind = kinds.get(array.dtype.char, "")
        demand(kind and array.itemsize == {"f": 4, "i": 4, "?": 1}.get(array.dtype.char, 8))
        flag = int(array.dtype.kind == "f")
        place = len(self.numbers.kinds)
        row = self._row(Operation(ops.LOAD, (array,), {"size": array.itemsize, "flag": flag, "out": place}))
        self.numbers.add(kind, name=name)
        return row

    def _computed(self, name: str, flag: int | None, left: ast.expr, right: ast.expr) -> Row:
        (kind,) = self._common((left, right))
        demand(flag is not None and (kind == REAL or (flag != _DIVIDE and kind == INTEGER) or flag == _NEGATE))
        demand(kind in {REAL, INTEGER, "i"})
        return self._numbered(name, kind, kind, {"flag": flag or 0}, (left, right))

    def _compared(self, name: str, flag: int | None, left: ast.expr, right: ast.expr) -> Row:
        (kind,) = self._common((left, right))
        demand(flag is not None and kind in {REAL, INTEGER, *_NUMPY})
        made = TRUTH if kind in {REAL, INTEGER} else "?"
        return self._numbered(name, kind, made, {"flag": flag or 0}, (left, right))

    def _numbered(self, name: str, kind: str, made: str, fields: ops.Fields, nodes: Sequence[ast.expr]) -> Row:
        left, right = (self._operand(node, kind) for node in nodes)
        out = self.numbers.add(made, name=name)
        return _packed({**fields, "kind": ops.NUMBER, "type": ord(kind), "left": left, "right": right, "out": out})

    def _common(self, nodes: Sequence[ast.expr]) -> set[str]:
        """Return the type in which an operation computes, from those of the numbers that vary."""
        kinds = {kind for node in nodes if (kind := self._kind_of(node))}
        demand(len(kinds) == 1)
        for node in nodes:
            if not self._kind_of(node):
                demand(_is_exact(self._value(node), *kinds))
        return kinds

    def _kind_of(self, node: ast.AST) -> str:
        """Return the type of a number that varies; "" for another expression."""
        if not isinstance(node, ast.Name):
            return ""
        if node.id in self._pending:
            self._close()
        place = self.numbers.places.get(node.id)
        return "" if place is None else self.numbers.kinds[place]

    def _register(self, node: ast.expr) -> int:
        if not isinstance(node, ast.Name):
            raise UnknownError
        return self.numbers.places[node.id]

    def _operand(self, node: ast.expr, kind: str) -> int:
        if self._kind_of(node):
            return self._register(node)
        value = self._value(node)
        return self.numbers.add(kind, value if type(value) in {int, float} else value.item())

    # ---------------------------------------------------------------------------- lines that Python runs

    def _close(self) -> None:
        """Make a Python function of the lines that are left, from the names they read to the names they write."""
        lines, self._left = self._left, []
        self._pending.clear()
        if not lines:
            return
        reads = _names(lines, ast.Load)
        views = [view for name, view in self._source.views.items() if name in reads]
        reads += _names(views, ast.Load)
        for name in self._source.parameters:
            if name in reads and name not in self.numbers.places and name not in self._boxes:
                self._boxes[name] = self.numbers.add(OBJECT)
        inside = [name for name in (*self.numbers.places, *self._boxes) if name in reads]
        outside = [name for name in _names(lines, ast.Store) if name != "made"]
        rows = [(ord(OBJECT), self._boxes[name]) if name in self._boxes else self.numbers.row(name) for name in inside]
        checked = dict(map(_checked_kind, lines))
        for name in outside:
            self.numbers.add(checked.get(name, OBJECT), name=name)
        rows += map(self.numbers.row, outside)
        if len(rows) > ARGUMENTS:
            raise UnfitError
        texts = list(map(self._source.text, lines))
        self.lines += texts
        self._add(
            inside, [*map(self._source.text, views), *texts, f"return ({''.join(f'{each}, ' for each in outside)})"]
        )
        self._tables.append(np.array(rows, np.int64).tobytes())
        fields = {"kind": ops.CALL, "flag": len(self._functions) - 1, "m": len(inside), "n": len(outside)}
        self._rows.append(_packed(fields))

    def _add(self, parameters: Sequence[str], texts: Sequence[str]) -> None:
        """Add a function of these lines, whose other names are the program's."""
        scope = dict(self._source.names)
        body = "".join(f"\n    {line}" for text in texts for line in text.splitlines())
        exec(f"def call({', '.join(parameters)}):{body}", scope)  # noqa: S102  # lines of a program
        self._functions.append(scope.pop("call"))  # popped, so that there is no reference cycle

    def _results(self, line: ast.stmt) -> list[tuple[int, int]]:
        """Return the type and the register of each result."""
        if not isinstance(line, ast.Return) or not isinstance(line.value, ast.Tuple):
            raise UnfitError
        names: list[str] = []
        ends: list[tuple[str, ast.expr]] = []
        for number, node in enumerate(line.value.elts):
            name = node.id if isinstance(node, ast.Name) else ""
            names.append(name if name in self.numbers.places or name in self._pending else f"result{number}")
            kind = _KINDS.get(type(node.value)) if isinstance(node, ast.Constant) else None
            if isinstance(node, ast.Constant) and kind is not None and abs(node.value) < _LARGEST:  # type: ignore[arg-type]
                self.numbers.add(kind, node.value, name=names[-1])  # type: ignore[arg-type]  # a number
            elif names[-1] != name:
                ends.append((names[-1], node))
        self._end(ends)
        return [self.numbers.row(name) for name in names]

    def _end(self, ends: Sequence[tuple[str, ast.expr]]) -> None:
        """Let Python compute the results that are no numbers of the program."""
        self._left += self._source.add([f"{name} = {ast.unparse(node)}" for name, node in ends])
        self._close()

    # ------------------------------------------------------------------------------------- the program

    def _given(self) -> list[tuple[int, int]]:
        """The type and the register of each argument, 0 for none."""
        places = self.numbers.places | self._boxes
        known = [places.get(name) for name in self._source.parameters]
        return [(0, 0) if place is None else (ord(self.numbers.kinds[place]), place) for place in known]

    def can_fold(self) -> bool:
        """Return whether the program computes a step: of arrays and the state's numbers, two floats and new numbers."""
        kinds = [kind for kind, _ in self._made]
        given, parameters = self._given(), self._source.parameters
        is_number = [name in self.numbers.places for name in parameters]
        fed = [kind for (kind, _), is_fed in zip(given, is_number, strict=True) if is_fed]
        is_step = kinds == [ord(REAL)] * 2 + fed and ord(OBJECT) not in fed
        return is_step and is_number == sorted(is_number) and not all(is_number)

    def program(self) -> Program:
        """Return the program for the interpreter."""
        if len(self._source.parameters) > ARGUMENTS:
            raise UnfitError
        rows, given, made = (np.array(t, np.int64).tobytes() for t in (self._rows, self._given(), self._made))
        likes = tuple(
            None if name in self.numbers.places else _like(self._scope[name]) for name in self._source.parameters
        )
        kinds = "".join(self.numbers.kinds).encode()
        functions, tables = tuple(self._functions), tuple(self._tables)
        is_long = self._work > _LONG
        return replay.Program(
            rows, given, made, self.numbers.bytes(), kinds, likes, functions, tables, is_long, self._kept
        )


def _packed(fields: ops.Fields) -> Row:
    """Return the numbers of an operation; an operand that it does not have is at address 0."""
    row = [0] * WORDS
    row[_STARTS["slot"] : _STARTS["data"]] = [-1] * ops.OPERANDS
    for name, value in fields.items():
        part = (value,) if isinstance(value, int) else value
        row[_STARTS[name] : _STARTS[name] + len(part)] = part
    return row


def _like(array: AnyArray) -> AnyArray:
    """Return an array of the same layout and dtype that does not keep the memory of a batch."""
    made = np.lib.stride_tricks.as_strided(np.empty(1, array.dtype), array.shape, array.strides)
    made.flags.writeable = False
    return made


def _is_exact(value: Any, kind: str) -> bool:
    """Return whether a constant has the same value in the type of a number that it meets, in each NumPy."""
    if kind in _NUMPY and type(value) is np.dtype(kind).type:
        return kind in "fd" or value <= np.iinfo(np.int64).max
    if type(value) is int:
        return abs(value) < (2**24 if kind == "f" else _LARGEST) and (value >= 0 or kind != "L") and kind != "?"
    with np.errstate(all="ignore"):
        return type(value) is float and (kind in {REAL, "d"} or (kind == "f" and float(np.float32(value)) == value))


def _checked_kind(line: ast.stmt) -> tuple[str, str]:
    """The name of a number and its type, if a line checks it: ``if type(n3) is not float: return None``."""
    known = {"float": REAL, "int": INTEGER, "bool": TRUTH}
    match line:
        case ast.If(
            test=ast.Compare(
                left=ast.Call(func=ast.Name(id="type"), args=[ast.Name(id=name)]),
                ops=[ast.IsNot()],
                comparators=[ast.Name(id=kind)],
            )
        ):
            return (name, known[kind]) if kind in known else ("", "")
        case _:
            return "", ""
