"""The recorder: what a function computes from what, written down while it computes.

A ``Tape`` holds operations in order. An operation's operands are ``Ref`` (a value's memory in some layout), ``Scalar``
(a number), ``Const`` (an array from elsewhere) and plain Python values. A ``Value`` never changes: writing into an
array gives its ``Storage`` a new value, so two operations with equal operands compute the same, whatever was written
between.
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
"""Equal constants of at most this many bytes are one operand; a larger one is known by its identity if it is locked."""

_BY_VALUE: Final = {int, bool, str, type(None), type(Ellipsis)}


class NotTraceable(BaseException):  # a function that catches every Exception must not hide it
    """A function did something that cannot be replayed."""


def layout(array: AnyArray) -> Layout:
    """An array's shape, strides and dtype."""
    return array.shape, array.strides, array.dtype


def c_strides(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """The strides of an array in C order."""
    return np.empty(shape, dtype).strides


def is_array(x: object) -> TypeGuard[AnyArray]:
    """Whether it is an array, as ``isinstance`` says it."""
    return isinstance(x, np.ndarray)


def kind_of(x: object) -> Any:
    """Its type, of which the type checkers draw no conclusions."""
    return type(x)


def address(array: AnyArray) -> int:
    """Where an array's memory begins."""
    start: int = array.__array_interface__["data"][0]
    return start


def byte_bounds(array: AnyArray) -> tuple[int, int]:
    """Where an array's memory begins and ends, whatever its strides."""
    start = address(array)
    if not array.size:
        return start, start
    ways = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    return start + sum(min(way, 0) for way in ways), start + sum(max(way, 0) for way in ways) + array.itemsize


@define(eq=False)
class Value:
    """The content of an array's memory between two writes; ``array`` has its layout."""

    array: AnyArray
    op: Op

    @property
    def whole(self) -> Ref:
        """The operand that reads all of the value in its own layout."""
        return Ref(self, 0, *layout(self.array))


@define(eq=False)
class Scalar:
    """A Python number, or another value that is not an array, that each step computes again."""

    value: object
    op: Op


class Ref(NamedTuple):
    """An operand: the memory of a value, read as an array of this layout."""

    value: Value
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def is_whole(self) -> bool:
        """Whether it reads all of the value in the value's own layout."""
        return self == self.value.whole


@define(eq=False)
class Const:
    """An operand: an array from outside of the trace that nobody writes to."""

    array: AnyArray


@define(eq=False, repr=False)
class Op:
    """An operation. ``outs`` are its results; ``base`` is the value that it changes in part, at the layout ``into``.

    Kinds: ``input``; ``ufunc``, ``reduce``, ``copy``, ``alloc``, ``call``, ``mutate`` (a function that writes into its
    first argument); ``scalar`` (a function of numbers) and ``item``; ``guard`` (a condition whose truth is ``func``).
    ``many`` says that a call returns a tuple or a list.
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

    def reads(self) -> list[Value | Scalar]:
        """The values and numbers that it needs."""
        operands = [x.value if type(x) is Ref else x for x in parts_of((self.args, self.kwargs))]
        return [x for x in (self.base, *operands) if isinstance(x, (Value, Scalar))]

    @property
    def out(self) -> Value:
        """The result of an operation whose only result is an array."""
        (value,) = self.outs
        assert isinstance(value, Value)  # noqa: S101  # for the type checkers
        return value


@define(eq=False)
class Storage:
    """The memory of an array in a trace; ``value`` is its content now. No operation writes to an input's memory."""

    value: Value
    array: AnyArray
    is_input: bool = False


class Duck:
    """The base of what stands for an array, a number or another value in a trace."""

    __slots__ = ("tape",)

    tape: Tape

    def operand(self, apart: list[Storage] | None = None, /) -> Ref | Scalar:
        """The operand that it stands for; ``apart`` as for ``Tape.encode``."""
        raise NotImplementedError

    def raw(self) -> Any:
        """The array or number that it stands for, as it is in the step that is traced."""
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
    """Nested tuples, lists and dicts with ``f`` applied to everything in them."""
    kind = kind_of(tree)
    if kind is dict:
        return {name: map_parts(f, part) for name, part in tree.items()}
    if kind is list or (kind is not Ref and issubclass(kind, tuple)):
        return (list if kind is list else tuple)(map_parts(f, part) for part in tree)
    return f(tree)


def parts_of(tree: Any) -> list[Any]:
    """Everything in nested tuples, lists and dicts, in order."""
    found: list[Any] = []
    map_parts(found.append, tree)
    return found


def raw(x: Any) -> Any:
    """An argument as it is outside of the trace."""
    return map_parts(lambda part: part.raw() if isinstance(part, Duck) else part, x)


def name_of(function: Any) -> str:
    """A function's name, or the name of a record's type."""
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None) or type(function).__name__
    return str(name).rpartition("<locals>.")[2]


class Opaque(NamedTuple):
    """A function that could not be traced and became one operation: why, and where it did what cannot be replayed."""

    function: str
    reason: str
    place: str


class Tape:
    """What was computed from what, in order."""

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
        """Say that this cannot be replayed; a function that goes on all the same is refused, too."""
        self.refused = self.refused or why
        raise NotTraceable(why)

    def mark(self) -> tuple[int, int, str]:
        """Where the tape is, to ``rewind`` to."""
        mark = len(self.ops), len(self._known), self.refused
        self.refused = ""
        return mark

    def rewind(self, mark: tuple[int, int, str]) -> None:
        """Forget what was recorded since."""
        del self.ops[mark[0] :]
        for key in list(self._known)[mark[1] :]:
            del self._known[key]
        self.refused = mark[2]

    # -------------------------------------------------------------------------------------------- operands

    def input(self, value: object) -> Value | Scalar:
        """An array or a number that is another one in each step."""
        op, array = Op("input"), cast("AnyArray", value)
        out = Value(array, op) if isinstance(value, np.ndarray) else Scalar(value, op)
        op.outs = [out]
        return out

    def encode(self, x: Any, apart: list[Storage] | None = None) -> Any:
        """An argument as an operand.

        BLAS takes another kernel for the product of an array by itself: with a list ``apart``, arrays that were two
        when the function ran stay two, even if they are equal.
        """

        def operand(part: Any) -> Any:
            if isinstance(part, Duck):
                return part.operand(apart)
            return self._constant(part) if is_array(part) else part

        return map_parts(operand, x)

    def ref(self, storage: Storage, array: AnyArray, apart: list[Storage] | None = None) -> Ref:
        """An array in a storage as an operand."""
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
        elif not locked:  # it may be written to before it is met again
            key = id(array), hash(array.tobytes())
        if key not in self._constants:
            self._constants[key] = Const(array if locked else array.copy(order="K"))
            self._alive.append(array)
        return self._constants[key]

    def _key(self, x: Any) -> object:  # noqa: PLR0911  # one for each kind
        """A key that equal operands share."""
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
        """Write an operation down, or find that it is there already; returns the values of what it made."""
        if threading.get_ident() != self._thread:
            self.refuse("another thread took part")
        if any(how != "ignore" for how in np.geterr().values()):
            self.refuse("np.errstate that does not ignore")
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
        """Compute. Whoever catches an error goes another way that no condition shows, so it refuses."""
        try:
            return func(*args, **kwargs)
        except Exception as error:
            self.refused = self.refused or f"{name_of(func)} raised {type(error).__name__}"
            raise

    def guard(self, operand: Ref | Scalar, truth: bool) -> bool:  # noqa: FBT001  # a truth is what it records
        """A condition that a replay must find as it was."""
        self.record("guard", truth, (operand,), (truth,))
        return truth

    def write(
        self, storage: Storage, into: Ref, op: tuple[str, Any, tuple[Any, ...]], kwargs: Mapping[str, Any]
    ) -> None:
        """An operation ``(kind, func, args)`` wrote into an array: its storage holds a new value."""
        if storage.is_input:
            self.refuse("an argument was written to")
        partial = op[0] == "mutate" or "where" in kwargs or into[1:] != (0, *layout(storage.array))
        base, place = (storage.value, into._replace(value=storage.value)) if partial else (None, None)
        (storage.value,) = self.record(*op, (storage.array,), kwargs=kwargs, base=base, into=place)


_tape: Final[ContextVar[Tape | None]] = ContextVar("funcnet.tracing.tape", default=None)


def recording() -> Tape | None:
    """The tape of the trace that this thread or task is in; None outside of one."""
    return _tape.get()


@contextmanager
def recorded_on(tape: Tape) -> Generator[None]:
    """Trace what runs in the ``with`` block."""
    token = _tape.set(tape)
    try:
        yield
    finally:
        _tape.reset(token)
