"""The command: run random programs by the interpreter and by Python, and compare all bits that they leave in memory.

Run: python tests/tools/fuzz_programs.py --operations 1000000 --seed 0

A program consists of the calls that a writer of programs writes: ufuncs, reductions, products, copies, indexed reads
and writes, numbers and guards. Shapes, strides, overlaps, dtypes and values are random. All arrays of a program lie in
one block with guard bytes between them, so a write beyond an array is a difference, too. Arguments are allocated apart,
with their exact size, so a sanitizer notices a read beyond them. A program on which the two differ is reduced and
printed. Under the sanitizers of gcc: ``python -m funcnet.tracing.native --folder build/checked --sanitize``, and this
command with ``FUNCNET_NATIVE=build/checked LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from random import Random
from typing import Any, Final, cast

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from attrs import evolve, field, frozen

from funcnet.tracing.native import NativeRun, is_built
from funcnet.tracing.recorder import is_array
from funcnet.tracing.writer import HEADING

LETTERS: Final = "?ilLfd"
SIZES: Final = (1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33)
LARGE: Final = (64, 127, 128, 129, 1000, 8191, 8192, 8193, 16384, 16385, 20000)
NUMBERS: Final = (0.0, -0.0, 1.0, -1.5, 0.1, 3e38, 1e-45, 1e300, 5e-324, np.inf, -np.inf, np.nan)
SMALL_ROOM, LARGE_ROOM, GUARD = 2**14, 2**18, 64
RUNS: Final = 24
"""How often each program runs, each time on other values."""
OFTEN: Final = (
    "add",
    "subtract",
    "multiply",
    "divide",
    "maximum",
    "minimum",
    "greater",
    "exp",
    "tanh",
    "sqrt",
    "negative",
)
REDUCED: Final = (
    "add",
    "add",
    "add",
    "maximum",
    "minimum",
    "multiply",
    "logical_or",
    "logical_and",
    "bitwise_or",
    "bitwise_and",
    "logaddexp",
    "hypot",
    "gcd",
    "subtract",
)
ODD: Final = ("isnan", "isinf", "isfinite", "negative", "signbit")
"""NumPy's loops of these functions are wrong for some strides of their results; no program has such results."""
SIGNS: Final = ("<", "<=", ">", ">=", "==", "!=")


def _signatures() -> dict[str, list[str]]:
    """Return the types of the loops of each elementwise ufunc of NumPy, by name."""
    found: dict[str, list[str]] = {}
    for name in sorted(vars(np)):
        function = getattr(np, name)
        if isinstance(function, np.ufunc) and function.signature is None and function.__name__ == name:
            types = [each for each in function.types if set(each) - set("->") <= set(LETTERS)]
            if types:
                found[name] = types
    found["power"] = [each for each in found["power"] if each[0] in "fd"]  # an integer's error leaves memory as it was
    return found


SIGNATURES: Final = _signatures()


# ------------------------------------------------------------------------------------------------- programs


@frozen
class Operand:
    """An array of a program: its name, dtype, shape, and whether a line may write to it."""

    name: str
    letter: str
    shape: tuple[int, ...]
    is_out: bool = False


@frozen
class Written:
    """A program: the definitions of its arrays, its lines, its arguments, and the size of the room of each dtype.

    ``given`` has for each argument a name and an array, or a type of numbers. A fold returns ``results``; its arrays
    are rows of larger arrays.
    """

    head: tuple[str, ...]
    lines: tuple[str, ...]
    given: tuple[tuple[str, Any], ...]
    room: int
    results: tuple[str, ...] = ()
    constants: tuple[Any, ...] = field(default=(np.uint64(2**63), np.uint64(7)))

    @property
    def source(self) -> str:
        """The program's module."""
        written = "\n".join(self.lines)
        used = [line for line in self.head if re.search(rf"\b{line.split(' ')[0]}\b", written)]
        views = [line for line in used if line.startswith("p")]
        head = [line for line in used if not line.startswith("p")]
        made = [line.split(" ")[0] for line in self.lines if re.match(r"n\d+ = ", line)]
        results = "".join(f"{name}, " for name in self.results or made)
        run = [f"def run({', '.join(name for name, _ in self.given)}):"]
        run += [f"    {line}" for line in (*views, *self.lines, f"return ({results})")]
        body = [f"    {line}" for line in (*head, *run, "return run")]
        return "\n".join([HEADING, "def program(state, constants):", *body, ""])


class Maker:
    """Writes one random program."""

    def __init__(self, seed: str) -> None:
        self.random = Random(seed)  # noqa: S311  # no secret
        self.is_large = self.random.random() < 0.1
        self.room = LARGE_ROOM if self.is_large else SMALL_ROOM
        self.head: list[str] = []
        self.lines: list[str] = []
        self.arrays: list[Operand] = []
        self.given: list[tuple[str, Any]] = []
        self.floats: list[str] = []
        self.ints: list[str] = []
        self.count = 0

    def chance(self, share: float) -> bool:
        """Return True in this share of the calls."""
        return self.random.random() < share

    def pick(self, choices: Sequence[Any]) -> Any:
        """Return one of the choices."""
        return self.random.choice(choices)

    def name(self, letter: str) -> str:
        """Return a new name."""
        self.count += 1
        return f"{letter}{self.count}"

    def write(self, *, is_fold: bool) -> Written:
        """Return a program. That of a fold returns two floats and the numbers of the next step."""
        self._arguments(is_fold=is_fold)
        for _ in range(self.random.randint(0, 6)):
            self._number()
        kinds = (*[self._ufunc] * 10, *[self._reduction] * 6, *[self._copy] * 5, self._dot, self._dot, self._matmul)
        kinds = (*kinds, *[self._take, self._put, self._fill, self._scalar, self._load] * 2, self._python)
        for _ in range(self.random.randint(3, 24)):
            self.pick(kinds)()
        results: list[str] = []
        if is_fold:
            results = [self.pick(self.floats), self.pick(["1.0", *self.floats])]
            results += [
                self.pick(self.ints if kind is int else self.floats) for _, kind in self.given if type(kind) is type
            ]
        given, lines = tuple(self.given), tuple(self.lines)
        return Written(tuple(self.head), lines, given, self.room, tuple(results))

    def _arguments(self, *, is_fold: bool) -> None:
        rows = self.random.randint(1, 9)
        for _ in range(self.random.randint(is_fold, 2)):
            shape = (rows, *self.shape()[:3]) if is_fold else self.shape()
            letter = self.pick(LETTERS)
            is_fortran = self.chance(0.2) and not is_fold and len(shape) > 1
            array = np.asfortranarray(np.zeros(shape, letter)) if is_fortran else np.zeros(shape, letter)
            if self.chance(0.15) and not is_fold and array.ndim:
                array = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), letter)[..., ::2]
            self.given.append((self.name("x"), array))
            self.arrays.append(Operand(self.given[-1][0], letter, shape))
            if array.ndim > 1 and self.chance(0.5):
                self.head.append(f"{(name := self.name('p'))} = {self.given[-1][0]}.T")
                self.arrays.append(Operand(name, letter, shape[::-1]))
        for kind in (float, int):
            for _ in range(self.random.randint(1, 2)):
                self.given.append((self.name("r"), kind))
                (self.floats if kind is float else self.ints).append(self.given[-1][0])

    # ------------------------------------------------------------------------------------------- arrays

    def shape(self, ndim: int | None = None) -> tuple[int, ...]:
        """Return a random shape that fits the room."""
        count: int = self.pick((0, 1, 1, 2, 2, 2, 3, 3, 4)) if ndim is None else ndim
        while True:
            sizes = [self.pick(LARGE if self.is_large and self.chance(0.3) else SIZES) for _ in range(count)]
            if 8 * prod(sizes) * 2 <= self.room:
                return tuple(sizes)

    def under(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return a shape that broadcasts to this one."""
        if self.chance(0.6):
            return shape
        kept = shape[self.random.randint(0, len(shape)) :]
        return tuple(1 if self.chance(0.3) else size for size in kept)

    def array(self, letter: str, shape: tuple[int, ...], *, is_out: bool = False) -> str:
        """Return the name of an array of a dtype and shape: a new view of the memory, or one in use."""
        same = [each for each in self.arrays if (each.letter, each.shape) == (letter, shape) and each.is_out >= is_out]
        if same and self.chance(0.6):
            return str(self.pick(same).name)
        item = np.dtype(letter).itemsize
        extents = [size + (self.chance(0.15) and self.chance(0.5)) for size in shape]
        order = list(range(len(shape)))
        if self.chance(0.35):
            self.random.shuffle(order)
        strides, step = [0] * len(shape), item * (1 if self.chance(0.93) else 2)
        for axis in reversed(order):
            strides[axis], step = step, step * extents[axis]
        start, last = 0, step
        if last > self.room:
            return self._contiguous(letter, shape, is_out=is_out)
        for axis in range(0 if is_out else len(shape)):
            if self.chance(0.03):
                strides[axis] = 0
            elif self.chance(0.03):
                start, strides[axis] = start + strides[axis] * (shape[axis] - 1), -strides[axis]
        start += self.pick((0, 64, self.random.randint(0, self.room))) % (self.room - last + 1) // item * item
        return self._view(letter, shape, start, tuple(strides), is_out=is_out)

    def _contiguous(self, letter: str, shape: tuple[int, ...], *, is_out: bool) -> str:
        strides = tuple(np.empty(shape, letter).strides)
        return self._view(letter, shape, 0, strides, is_out=is_out)

    def _view(self, letter: str, shape: tuple[int, ...], start: int, strides: tuple[int, ...], *, is_out: bool) -> str:
        name, offset = self.name("t"), LETTERS.index(letter) * (self.room + GUARD) + GUARD + start
        self.head.append(f"{name} = np.ndarray({shape}, {np.dtype(letter).str!r}, state, {offset}, {strides})")
        no_overlap = all(strides) and all(each > 0 for each in strides)
        self.arrays.append(Operand(name, letter, shape, is_out or no_overlap))
        return name

    def head_of(self, name: str) -> str:
        """Return the definition of an array."""
        return next((line.partition(" = ")[2] for line in self.head if line.startswith(f"{name} = ")), name)

    def constant(self, letter: str) -> str:
        """Return the name of a 0-d array with a constant."""
        value = self.pick((0, 1)) if letter in "?ilL" else self.pick(NUMBERS[:7])
        self.head.append(f"{(name := self.name('k'))} = np.array({value}, {np.dtype(letter).str!r})")
        return name

    # -------------------------------------------------------------------------------------------- lines

    def _ufunc(self) -> None:
        function = self.pick([each for each in OFTEN if each in SIGNATURES] if self.chance(0.6) else list(SIGNATURES))
        types = [each for each in SIGNATURES[function] if "f" in each or "d" in each]
        inside, outside = self.pick(types if types and self.chance(0.8) else SIGNATURES[function]).split("->")
        shape = self.shape()
        args = [self.constant(each) if self.chance(0.15) else self.array(each, self.under(shape)) for each in inside]
        if self.chance(0.04):  # a cast on the way in
            args[0] = self.array(self.pick(LETTERS), self.under(shape))
        outs = [self.array(each, shape, is_out=True) for each in outside]
        if function in ODD or len(set(outs)) < len(outs):
            outs = [self._contiguous(each, shape, is_out=True) for each in outside]
        if len({self.head_of(each) for each in outs}) < len(outs):
            return  # two results at one place
        out = outs[0] if len(outs) == 1 else f"({', '.join(outs)})"
        options = [", casting='unsafe'"] if self.chance(0.1) else [""]
        if self.chance(0.05) and len(set(inside + outside)) == 1:
            options.append(f", dtype={np.dtype(inside[0]).str!r}")
        self.lines.append(f"np.{function}({', '.join(args)}, out={out}{''.join(options)})")

    def _reduction(self) -> None:
        shape, function, letter = self.shape(), self.pick(REDUCED), self.pick("fffddd?lLi")
        types = {each[0] for each in SIGNATURES[function]}
        if letter not in types or (letter == "?" and function == "subtract"):
            function = "add"
        if not shape or function == "subtract" or (self.is_large and self.chance(0.3)):
            shape = self.shape(1)
        axes = tuple(self.random.sample(range(len(shape)), self.random.randint(1, len(shape))))
        gone, text = self.pick([(range(len(shape)), "None"), (axes, str(axes)), (axes[:1], str(axes[0]))])
        if self.chance(0.2):
            gone, text = axes[:1], str(axes[0] - len(shape))
        options = "" if text == "0" and self.chance(0.5) else f", axis={text}"
        keeps = self.chance(0.3)
        left = tuple(1 if place in gone else size for place, size in enumerate(shape) if keeps or place not in gone)
        options += ", keepdims=True" * keeps
        if self.chance(0.2):
            options += f", initial={self.pick((0, 1, 2.5, -1.0)) if letter in 'fd' else self.pick((0, 1))}"
        out = "?" if function.startswith("logical") else letter
        if letter == "f" and self.chance(0.4) and out == "f":
            options, out = f"{options}, dtype='<f8'", "d"
        array, into = self.array(letter, shape), self.array(out, left, is_out=True)
        self.lines.append(f"np.{function}.reduce({array}, out={into}{options})")

    def _dot(self) -> None:
        m, k, n = (self.pick(SIZES) for _ in range(3))
        letter = self.pick("ffffddddli")
        a, b, out = self.pick([((m, k), (k, n), (m, n)), ((k,), (k, n), (n,)), ((m, k), (k,), (m,)), ((k,), (k,), ())])
        into = self._contiguous(letter, out, is_out=True)
        self.lines.append(f"dot({self.array(letter, a)}, {self.array(letter, b)}, {into})")

    def _matmul(self) -> None:
        m, k, n = (self.pick(SIZES[:11]) for _ in range(3))
        letter, stack = self.pick("ffffddddli"), self.pick([(), (), (), (3,), (2, 2)])
        a, b = self.array(letter, (*stack, m, k)), self.array(letter, (*stack[: self.pick((0, 2))], k, n))
        self.lines.append(f"np.matmul({a}, {b}, out={self.array(letter, (*stack, m, n), is_out=True)})")

    def _copy(self) -> None:
        shape, letter = self.shape(), self.pick(LETTERS)
        source = letter if self.chance(0.5) else self.pick(LETTERS)
        given = self.array(source, self.under(shape))
        if self.chance(0.1):
            given = self.pick(("0.5", "float('nan')", "-0.0", "7", self.pick(self.floats)))
        options = ", casting='unsafe'" if self.chance(0.9) else ""
        options += f", where={self.array('?', self.under(shape))}" if self.chance(0.25) else ""
        self.lines.append(f"copyto({self.array(letter, shape, is_out=True)}, {given}{options})")

    def _take(self) -> None:
        letter, shape = self.pick(LETTERS), self.shape()
        inside = self.array(letter, self.shape())
        arguments = [each for each in self.arrays if each.name.startswith("x")]
        if arguments and self.chance(0.5):
            argument = self.pick(arguments)
            letter, inside = argument.letter, argument.name
        into = self._contiguous(letter, shape, is_out=True)
        mode = "'clip'" if self.chance(0.9) else "'raise'"
        self.lines.append(f"{inside}.take({self.array(self.pick('lllli'), shape)}, None, {into}, {mode})")

    def _put(self) -> None:
        letter, shape = self.pick(LETTERS), self.shape()
        inside = self._contiguous(letter, self.shape(), is_out=True)
        values = self.array(letter, shape)
        self.lines.append(f"np.ndarray.put({inside}, {self.array('l', shape)}, {values}, 'clip')")

    def _fill(self) -> None:
        letter = self.pick("fd")
        self.head.append(f"{(name := self.name('k'))} = np.zeros((), {np.dtype(letter).str!r})")
        self.lines.append(f"{name}.fill({self.pick(self.floats)})")
        shape = self.shape()
        out = self.array(letter, shape, is_out=True)
        self.lines.append(f"np.multiply({name}, {self.array(letter, self.under(shape))}, out={out})")

    def _scalar(self) -> None:
        letter, shape = self.pick("dddf"), self.shape()
        out = self.array(letter, shape, is_out=True)
        number = self.pick([*self.floats, *self.ints, "2.5"])
        self.lines.append(
            f"np.{self.pick(('add', 'multiply'))}({self.array(letter, self.under(shape))}, {number}, out={out})"
        )

    def _load(self) -> None:
        letter, name = self.pick("?lfdL"), self.name("n")
        if self.chance(0.3):
            name, test = self.name("g"), self.name("g")  # numbers of NumPy, which only guards may read
            constant = "constants[0]" if letter == "L" else "0"
            self.lines += [f"{name} = {self.array(letter, ())}[()]", f"{test} = {name} {self.pick(SIGNS)} {constant}"]
            if self.chance(0.1):
                self.lines.append(f"if {self.pick(('', 'not '))}{test}: return None")
            return
        self.lines.append(f"{name} = {self.array(letter, self.pick(((), (1,), (1, 1))))}.item()")
        if letter in "fd":
            self.floats.append(name)
            self.lines.append(
                f"{(more := self.name('n'))} = {name} {self.pick('+-*')} {self.pick([*self.floats, '0.5'])}"
            )
            self.floats.append(more)

    def _number(self) -> None:
        """A number of numbers. These lines come first, so a program that begins again computes the same."""
        name, is_float = self.name("n"), self.chance(0.6)
        known = self.floats if is_float else self.ints
        left, right = self.pick(known), self.pick([*known, "3", "0.5" if is_float else "1", "-7"])
        if self.chance(0.25):
            self.lines.append(f"{name} = {left} {self.pick(SIGNS)} {right}")
            if self.chance(0.15):
                self.lines.append(f"if {self.pick(('', 'not '))}{name}: return None")
            return
        sign = self.pick("+-*/" if is_float else "+-*+-*+-*/")
        text = f"-{left}" if self.chance(0.1) else f"{left} {sign} {right}"
        self.lines.append(f"{name} = {text}")
        if sign != "/" or is_float:
            known.append(name)

    def _python(self) -> None:
        """A line that the interpreter hands back to Python."""
        shape, letter = self.shape(1), self.pick("fd")
        source, into = self.array(letter, shape), self.array(letter, shape, is_out=True)
        check = f"if made.shape != {shape} or made.dtype != {np.dtype(letter).str!r}: return None"
        self.lines.append(f"made = np.sort({source})")
        self.lines += [check, f"copyto({into}, made)"]


# ----------------------------------------------------------------------------------------------- comparison


class Values:
    """Values for memory and arguments: of each dtype, ordinary ones and extreme ones."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self._blocks = {room: [self._block(room) for _ in range(6)] for room in (SMALL_ROOM, LARGE_ROOM)}

    def of(self, letter: str, count: int) -> Any:
        """Return random numbers of a dtype."""
        if letter == "?":
            return self.random.integers(0, 2, count).astype(np.bool_)
        if letter in "fd":
            made = self.random.standard_normal(count) * 10.0 ** self.random.integers(-3, 3, count)
            if self.random.random() < 0.5:
                places = self.random.random(count) < 0.1
                made[places] = self.random.choice(NUMBERS, int(places.sum()))
            with np.errstate(all="ignore"):
                return made.astype(letter)
        high = self.random.choice([5, 40, 2**31 - 1])
        return self.random.integers(0 if letter == "L" else -high, high, count).astype(letter)

    def _block(self, room: int) -> Any:
        guard = np.full(GUARD, 0xA5, np.uint8)
        parts = [self.of(letter, room // np.dtype(letter).itemsize).view(np.uint8) for letter in LETTERS]
        return np.concatenate([each for part in parts for each in (guard, part)] + [guard])

    def block(self, room: int) -> Any:
        """Return the bytes of a program's memory."""
        return self._blocks[room][self.random.integers(6)]

    def like(self, each: Any, rows: int = 0) -> Any:
        """Return an argument of the same layout, or of the same type. ``rows``: how many rows it has instead."""
        if each is float:
            return (
                float(self.random.choice(NUMBERS))
                if self.random.random() < 0.2
                else float(self.random.standard_normal())
            )
        if each is int:
            return (
                int(self.random.integers(-9, 9))
                if self.random.random() < 0.9
                else 2**62 + int(self.random.integers(2**62))
            )
        if rows:
            return self.of(each.dtype.char, rows * prod(each.shape[1:])).reshape(rows, *each.shape[1:])
        made = np.empty_like(each)
        if made.strides != each.strides:
            made = np.empty((*each.shape[:-1], 2 * each.shape[-1]), each.dtype)[..., ::2]
        made[...] = self.of(each.dtype.char, each.size).reshape(each.shape)
        return made


def bits(made: Any) -> Any:
    """Return a result to be compared: numbers with their type and all digits."""
    if type(made) is not tuple:
        return made
    return [(type(each).__name__, repr(each)) for each in cast("tuple[object, ...]", made)]


def ended(run: Callable[..., Any], *args: Any) -> Any:
    """Return the result of a call, or its error."""
    try:
        return bits(run(*args))
    except Exception as error:  # noqa: BLE001  # both sides have it
        return f"{type(error).__name__}: {error}"


class Pair:
    """One program, on memory for Python and on memory for the interpreter."""

    def __init__(self, written: Written) -> None:
        self.written, scope = written, dict[str, Any]()
        exec(compile(written.source, "<program>", "exec"), scope)  # noqa: S102  # written by this module
        nbytes = len(LETTERS) * (written.room + GUARD) + GUARD
        self.blocks = [scope["memory"](nbytes) for _ in range(2)]
        constants = list(written.constants)
        self.plain, other = (scope["program"](block, constants) for block in self.blocks)
        self.wanted: Any = None  # what Python returned last
        self.folded = 0  # the number of steps that were folded
        self.native = NativeRun(other, written.source)

    def differs(self, values: Values) -> str:
        """Run both once on the same values; return what differs, or ""."""
        given = [values.like(each) for _, each in self.written.given]
        first = values.block(self.written.room)
        for block in self.blocks:
            block[...] = first
        self.wanted = ended(self.plain, *given)
        return self._compared(self.wanted, ended(self.native, *given))

    def _compared(self, wanted: Any, made: Any) -> str:
        if made != wanted:
            return f"Python: {wanted}, interpreter: {made}"
        if np.array_equal(*self.blocks):
            return ""
        for block in self.blocks:  # the sign of a NaN depends on which of two NaNs a loop returns
            self._make_nans_equal(block)
        if np.array_equal(*self.blocks):
            return ""
        place = int(np.flatnonzero(self.blocks[0] != self.blocks[1])[0])
        letter, inside = divmod(place, self.written.room + GUARD)
        kind = LETTERS[letter] if letter < len(LETTERS) and inside >= GUARD else "no array"
        starts = range(place - (inside - GUARD) % 8, place + 8, 8)[:1]
        raw = [block[start : start + 8].tobytes().hex() for block in self.blocks for start in starts]
        return f"memory at {place} ({kind}, offset {inside - GUARD}): {' and '.join(raw)}"

    def _make_nans_equal(self, block: Any) -> None:
        for place, letter in enumerate(LETTERS):
            start = place * (self.written.room + GUARD) + GUARD
            if letter in "fd":
                numbers = block[start : start + self.written.room].view(letter)
                numbers[np.isnan(numbers)] = np.nan

    def fold_differs(self, values: Values, steps: int = 5) -> str:
        """Fold a few batches by both; return what differs, or ""."""
        arrays = [each for _, each in self.written.given if is_array(each)]
        rows = len(arrays[0])
        sources = [values.like(each, rows * steps + 3) for each in arrays]
        order = values.random.permutation(rows * steps + 3) if values.random.random() < 0.7 else None
        numbers = tuple(values.like(kind) for _, kind in self.written.given if isinstance(kind, type))
        first = values.block(self.written.room)
        for block in self.blocks:
            block[...] = first
        batch = [np.ascontiguousarray(each[:rows]) for each in sources]
        made, after = self.native.fold(batch, sources, order, range(3, 3 + rows * steps), numbers)
        self.folded += len(made)
        results, numbers = self._folded(sources, order, rows, numbers, len(made))
        if len(made) < steps:  # the next step fails, or has a number beyond 64 bits; its arrays are scratch
            self.blocks[1][...] = self.blocks[0]
        return self._compared((bits(results), bits(numbers)), (bits(tuple(made)), bits(tuple(after))))

    def _folded(self, sources: Sequence[Any], order: Any, rows: int, numbers: Any, steps: int) -> tuple[Any, Any]:
        """Fold in Python: return the result of each step, and the last numbers."""
        results: list[Any] = []
        for step in range(steps):
            chosen = slice(3 + step * rows, 3 + (step + 1) * rows)
            made = self.plain(*(source[chosen if order is None else order[chosen]] for source in sources), *numbers)
            results.append(made[:2])
            numbers = made[2:]
        return tuple(results), numbers


def difference(written: Written, seed: int) -> tuple[str, Pair]:
    """Return how the two sides of a program differ, or "", and the program that ran."""
    pair = Pair(written)
    return _difference(pair, Values(seed)), pair


def _difference(pair: Pair, values: Values) -> str:
    for _ in range(RUNS):
        found = pair.differs(values)
        if not found and pair.written.results and pair.native.can_fold:
            found = pair.fold_differs(values)
        if found:
            return found
    return ""


def _mistake(pair: Pair) -> str:
    """Return why the translation failed, if it did not refuse the program as one that the interpreter cannot run."""
    return "" if pair.native.reason in {"", "UnfitError()"} else pair.native.reason


def reduced(written: Written, seed: int) -> Written:
    """Remove each line without which the two sides still differ."""
    lines = list(written.lines)
    for line in reversed(written.lines):
        fewer = [each for each in lines if each is not line]
        smaller = evolve(written, lines=tuple(fewer))
        try:
            found, pair = difference(smaller, seed)
            found = found or _mistake(pair)
        except Exception:  # noqa: BLE001, S112  # not a program
            continue
        if found and "NameError" not in str(pair.wanted):
            lines = fewer
    return evolve(written, lines=tuple(lines))


def programs(seed: int) -> Iterator[Written]:
    """Yield random programs."""
    number = 0
    while True:
        maker = Maker(f"{seed} {number}")
        yield maker.write(is_fold=maker.chance(0.25))
        number += 1


def fuzz(
    operations: int, seed: int, report: Callable[[str], object] = print, trail: Path | None = None, limit: int = 20
) -> tuple[Counter[str], list[str]]:
    """Run random programs until the interpreter has run a number of operations; return counts and differences.

    Args:
        operations: The number of lines that the interpreter runs, without those that it hands back to Python.
        seed: What programs and values depend on.
        report: What is called with each difference.
        trail: A file that holds the program that runs, for the case that the process crashes.
        limit: The number of differences after which it ends.
    """
    counts, found, values = Counter[str](), list[str](), Values(seed)
    with np.errstate(all="ignore"):
        for written in programs(seed):
            if counts["operations"] >= operations or len(found) >= limit:
                return counts, found
            if trail is not None:
                trail.write_text(written.source)
            pair = Pair(written)
            text = _difference(pair, values) or _mistake(pair)
            native = len(written.lines) - len(pair.native.lines)
            counts["programs"] += 1
            counts["programs that fold"] += pair.native.can_fold
            counts["programs left to Python"] += not pair.native.is_native
            counts["lines"] += len(written.lines)
            counts["lines of the interpreter"] += native if pair.native.is_native else 0
            counts["steps folded"] += pair.folded
            counts["operations"] += native * (RUNS + pair.folded) if pair.native.is_native else 0
            if text:
                small = reduced(written, seed)
                found.append(f"program {counts['programs'] - 1}: {text}\n{small.source[len(HEADING) :]}")
                report(found[-1])
    return counts, found


def main() -> int:
    """Read the arguments, fuzz, and print what was done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--operations", type=int, default=1_000_000, help="how many operations run")
    parser.add_argument("--seed", type=int, default=0, help="which programs and values")
    parser.add_argument("--trail", type=Path, help="a file for the program that runs, in case the process crashes")
    settings = parser.parse_args()
    if not is_built():
        parser.error("the interpreter is not built; run: python -m funcnet.tracing.native")
    counts, found = fuzz(settings.operations, settings.seed, trail=settings.trail)
    parts = [*(f"{count:,} {name}" for name, count in counts.items()), f"{len(found)} differences"]
    print(", ".join(parts))  # noqa: T201  # the output of the command
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
