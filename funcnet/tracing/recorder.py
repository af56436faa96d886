"""The recorder: a tape of the operations that a function performs, written while the function runs.

A ``Tape`` holds operations in order. The operands of an operation are ``Ref`` (a value's memory in some layout),
``Scalar`` (a number), ``Const`` (an array from outside the trace) and plain Python values. A ``Value`` never changes:
writing to an array gives its ``Storage`` a new value. Two operations with equal operands therefore have equal results,
whatever was written between them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias, TypeGuard, cast

import numpy as np
from attrs import define, field

from funcnet.core.arrays import AnyArray, Array, is_canonical

Layout: TypeAlias = "tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]]"
"""Shape, strides and dtype."""

SMALL: Final = 2**16
"""Constants of at most this many bytes are identified by their content, larger ones by their identity."""

_BY_VALUE: Final = {int, bool, str, type(None), type(Ellipsis)}


class NotTraceable(BaseException):  # a function that catches every Exception must not hide it
    """Raised when a function does something that cannot be replayed."""


def layout(array: AnyArray) -> Layout:
    """Return an array's shape, strides and dtype."""
    return array.shape, array.strides, array.dtype


def c_strides(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """Return the strides of an array of this shape and dtype in C order."""
    return np.empty(shape, dtype).strides


def is_array(x: object) -> TypeGuard[AnyArray]:
    """Return whether ``x`` is an array according to ``isinstance``; a traced array is one."""
    return isinstance(x, np.ndarray)


def kind_of(x: object) -> Any:
    """Return ``type(x)`` in a form that the type checkers do not narrow."""
    return type(x)


def address(array: AnyArray) -> int:
    """Return the address of an array's first element."""
    start: int = array.__array_interface__["data"][0]
    return start


def byte_bounds(array: AnyArray) -> tuple[int, int]:
    """Return the addresses at which an array's memory begins and ends, for any strides."""
    start = address(array)
    if not array.size:
        return start, start
    ways = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    return start + sum(min(way, 0) for way in ways), start + sum(max(way, 0) for way in ways) + array.itemsize


@define(eq=False)
class Value:
    """The content of an array's memory between two writes; ``array`` shows its layout."""

    array: AnyArray
    op: Op

    @property
    def whole(self) -> Ref:
        """The operand that reads the whole value in its own layout."""
        return Ref(self, 0, *layout(self.array))


@define(eq=False)
class Scalar:
    """A Python number, or another value that is not an array, that each step computes anew."""

    value: object
    op: Op


class Ref(NamedTuple):
    """An operand: the memory of a value, read as an array of the given layout."""

    value: Value
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def is_whole(self) -> bool:
        """Whether the operand reads the whole value in the value's own layout."""
        return self == self.value.whole


@define(eq=False)
class Const:
    """An operand: an array from outside the trace that is never written to."""

    array: AnyArray


@define(eq=False, repr=False)
class Op:
    """An operation on the tape.

    ``outs`` are its results. An operation that overwrites a part of a value has that value as ``base`` and the part as
    ``into``. ``place`` names the functions that it ran in. ``many`` is true if a call returns a tuple or a list.

    The kinds are ``input``; ``ufunc``, ``reduce``, ``copy``, ``alloc``, ``call``, ``mutate`` (a function that writes to
    its first argument); ``scalar`` (a function of numbers), ``item`` (a number taken from an array); and ``guard`` (a
    condition whose recorded truth value is ``func``).
    """

    kind: str
    func: Any = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(factory=dict[str, Any])
    base: Value | None = None
    into: Ref | None = None
    place: str = ""
    many: bool = False
    outs: list[Value | Scalar] = field(factory=list[Value | Scalar])
    _reads: list[Value | Scalar] | None = field(default=None, init=False)

    def reads(self) -> list[Value | Scalar]:
        """Return the values and numbers that the operation reads."""
        if self._reads is None:
            operands = [x.value if type(x) is Ref else x for x in parts_of((self.args, self.kwargs))]
            self._reads = [x for x in (self.base, *operands) if isinstance(x, (Value, Scalar))]
        return self._reads

    @property
    def out(self) -> Value:
        """The result of an operation that has one result, an array."""
        (value,) = self.outs
        assert isinstance(value, Value)  # noqa: S101  # for the type checkers
        return value


@define(eq=False)
class Storage:
    """The memory of an array in a trace; ``value`` is its current content. Inputs are never written to."""

    value: Value
    array: AnyArray
    is_input: bool = False


class Duck:
    """The base class of objects that represent an array, a number or another value in a trace."""

    __slots__ = ("tape",)

    tape: Tape

    def operand(self, apart: list[Storage] | None = None, /) -> Ref | Scalar:
        """Return the operand that this object represents; ``Tape.encode`` explains ``apart``."""
        raise NotImplementedError

    def raw(self) -> Any:
        """Return the array or number that this object represents, with its value in the traced step."""
        raise NotImplementedError

    def __repr__(self) -> str:
        if recording() is self.tape:
            self.tape.refuse("what varies was written as text")
        return f"{self.raw()!r} in a trace"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, _: str) -> str:
        return repr(self)


def map_parts(f: Callable[[Any], Any], tree: Any) -> Any:
    """Apply ``f`` to every item of nested tuples, lists and dicts; return them with the results."""
    kind = kind_of(tree)
    if kind is dict:
        return {name: map_parts(f, part) for name, part in tree.items()}
    if kind is list:
        return [map_parts(f, part) for part in tree]
    if kind is not Ref and issubclass(kind, tuple):
        return tuple([map_parts(f, part) for part in tree])
    return f(tree)


def parts_of(tree: Any) -> list[Any]:
    """Return the items of nested tuples, lists and dicts, in order."""
    found: list[Any] = []
    map_parts(found.append, tree)
    return found


def raw(x: Any) -> Any:
    """Return an argument with plain arrays and numbers instead of traced ones."""
    return map_parts(lambda part: part.raw() if isinstance(part, Duck) else part, x)


def name_of(function: Any) -> str:
    """Return a function's name, or the name of a record's type."""
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None) or type(function).__name__
    return str(name).rpartition("<locals>.")[2]


class Opaque(NamedTuple):
    """A function that could not be traced and became one operation, with the reason and the source line."""

    function: str
    reason: str
    place: str


class Tape:
    """The operations of a trace, in the order in which they ran."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.path: list[str] = []
        self.opaque: list[Opaque] = []
        self.refused = ""
        self._known: dict[object, Op] = {}
        self._constants: dict[object, Const] = {}
        self._alive: list[object] = []
        self._thread = threading.get_ident()

    def refuse(self, why: str) -> NoReturn:
        """Raise ``NotTraceable``. The reason is kept, so a function that catches the exception is refused, too."""
        self.refused = self.refused or why
        raise NotTraceable(why)

    def mark(self) -> tuple[int, int, str]:
        """Return the current position, for ``rewind``, and clear the reason of a refusal."""
        mark = len(self.ops), len(self._known), self.refused
        self.refused = ""
        return mark

    def rewind(self, mark: tuple[int, int, str]) -> None:
        """Delete what was recorded since the mark."""
        del self.ops[mark[0] :]
        for key in list(self._known)[mark[1] :]:
            del self._known[key]
        self.refused = mark[2]

    # -------------------------------------------------------------------------------------------- operands

    def input(self, value: object) -> Value | Scalar:
        """Return the value of an array or number that differs from step to step."""
        op, array = Op("input"), cast("AnyArray", value)
        out = Value(array, op) if isinstance(value, np.ndarray) else Scalar(value, op)
        op.outs = [out]
        return out

    def encode(self, x: Any, apart: list[Storage] | None = None) -> Any:
        """Return an argument as an operand.

        BLAS uses a different kernel for the product of an array and itself. With a list ``apart``, arrays that were two
        when the function ran therefore remain two, even if they are equal.
        """

        def operand(part: Any) -> Any:
            if isinstance(part, Duck):
                return part.operand(apart)
            return self._constant(part) if is_array(part) else part

        return map_parts(operand, x)

    def ref(self, storage: Storage, array: AnyArray, apart: list[Storage] | None = None) -> Ref:
        """Return an array in a storage as an operand; ``encode`` explains ``apart``."""
        value = storage.value
        if apart is not None:
            if any(other is not storage and other.value is value for other in apart):
                (value,) = self.record("copy", None, (value.whole,), (storage.array,), unique=True)
            if any(other is not storage and np.may_share_memory(other.array, storage.array) for other in apart):
                self.refuse("two arrays of the state are one")
            apart.append(storage)
        return Ref(value, address(array) - address(storage.array) if array.size else 0, *layout(array))

    def _constant(self, array: AnyArray) -> Const:
        if array.dtype.hasobject:
            self.refuse("an array of Python objects")
        locked = is_canonical(cast("Array", array))
        key: object = id(array)
        if array.nbytes <= SMALL:
            key = array.tobytes(), layout(array)
        elif not locked:  # the array may be written to before its next use
            key = id(array), hash(array.tobytes())
        if key not in self._constants:
            self._constants[key] = Const(array if locked else array.copy(order="K"))
            self._alive.append(array)
        return self._constants[key]

    def _key(self, x: Any) -> object:  # noqa: PLR0911  # one return for each kind
        """Return a key that equal operands share."""
        kind = kind_of(x)
        if kind is tuple or kind is list:
            return kind, tuple(map(self._key, x))
        if kind is dict:
            return kind, tuple((name, self._key(part)) for name, part in sorted(x.items()))
        if kind is slice:
            return kind, x.start, x.stop, x.step
        if isinstance(x, (float, complex, np.generic)):
            return kind, np.asarray(x).tobytes()
        if kind in (*_BY_VALUE, Ref, Scalar, Const):
            return kind, x
        if issubclass(kind, np.dtype | type):
            return x
        self._alive.append(x)
        return kind, id(x)

    # ------------------------------------------------------------------------------------------- recording

    def record(
        self,
        kind: str,
        func: Any,
        args: tuple[Any, ...],
        made: Sequence[object],
        *,
        kwargs: Mapping[str, Any] | None = None,
        base: Value | None = None,
        into: Ref | None = None,
        unique: bool = False,
        many: bool = False,
    ) -> list[Any]:
        """Record an operation, unless an equal one is on the tape already; return the values of its results."""
        if threading.get_ident() != self._thread:
            self.refuse("another thread took part")
        if any(how != "ignore" for how in np.geterr().values()):
            self.refuse("np.errstate that does not ignore")
        if any(is_array(out) and out.dtype.hasobject for out in made):
            self.refuse("an array of Python objects")  # a program keeps its arrays in blocks of bytes
        shapes = tuple(layout(out) if is_array(out) else type(out) for out in made)
        key = (kind, func, self._key(args), self._key(kwargs or {}), base, into, shapes)
        op = None if unique else self._known.get(key)
        if op is None:
            op = Op(kind, func, args, dict(kwargs or {}), base, into, " ".join(self.path), many)
            op.outs = [Value(out, op) if is_array(out) else Scalar(out, op) for out in made]
            self.ops.append(op)
            self._known.setdefault(key, op)
        return op.outs

    def run(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call a function. An error refuses the trace: code that catches it would take a branch without a guard."""
        try:
            return func(*args, **kwargs)
        except Exception as error:
            self.refused = self.refused or f"{name_of(func)} raised {type(error).__name__}"
            raise

    def guard(self, operand: Ref | Scalar, truth: bool) -> bool:  # noqa: FBT001  # a truth value is its subject
        """Record a condition that must have the same truth value in a replay; return that value."""
        self.record("guard", truth, (operand,), (truth,))
        return truth

    def write(
        self, storage: Storage, into: Ref, op: tuple[str, Any, tuple[Any, ...]], kwargs: Mapping[str, Any]
    ) -> None:
        """Record that an operation ``(kind, func, args)`` wrote to an array; its storage then holds a new value."""
        if storage.is_input:
            self.refuse("an argument was written to")
        partial = op[0] == "mutate" or "where" in kwargs or into[1:] != (0, *layout(storage.array))
        base, place = (storage.value, into._replace(value=storage.value)) if partial else (None, None)
        (storage.value,) = self.record(*op, (storage.array,), kwargs=kwargs, base=base, into=place)


_tape: Final[ContextVar[Tape | None]] = ContextVar("funcnet.tracing.tape", default=None)


def recording() -> Tape | None:
    """Return the tape of the current trace of this thread or task; None outside a trace."""
    return _tape.get()


@contextmanager
def recorded_on(tape: Tape) -> Generator[None]:
    """Record what runs in the ``with`` block on a tape."""
    token = _tape.set(tape)
    try:
        yield
    finally:
        _tape.reset(token)
