"""What stands for arrays, numbers and other values in a trace, and how NumPy's functions of them are recorded.

``Traced`` is no subclass of ``np.ndarray``: ``np.asarray`` and C code would take such a thing's numbers without a word.
It computes as the array does, by NumPy's protocols, and refuses what it does not know.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from funcnet.arrays import ARRAY_TYPES, AnyArray
from funcnet.tracing.recorder import Duck, Ref, Scalar, Storage, Tape, Value, address, kind_of, layout, raw

_core: Any = getattr(np, "_core", None) or np.core
_CLIP: Final = _core.umath.clip

_STRUCTURE: Final = {np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.may_share_memory, np.shares_memory}
_NEW: Final[dict[Any, int | None]] = {
    np.empty_like: None,
    np.zeros_like: 0,
    np.ones_like: 1,
    np.empty: None,
    np.zeros: 0,
    np.ones: 1,
}
_BLAS: Final = {np.dot, np.vdot, np.inner, np.tensordot, np.einsum, np.linalg.multi_dot, np.ndarray.dot}
_WRITING: Final = {np.put, np.place, np.putmask, np.fill_diagonal, np.put_along_axis, np.resize}
_REDUCTIONS: Final[dict[Any, str]] = {
    np.sum: "sum",
    np.prod: "prod",
    np.max: "max",
    np.min: "min",
    np.all: "all",
    np.any: "any",
    np.amax: "max",
    np.amin: "min",
}
_NUMBERS: Final = (bool, int, float)


class Traced(NDArrayOperatorsMixin, Duck):
    """An array whose operations are recorded: ``isinstance(x, np.ndarray)``, but not ``type(x) is np.ndarray``."""

    __slots__ = ("array", "storage")

    def __init__(self, tape: Tape, storage: Storage, array: AnyArray) -> None:
        self.tape, self.storage, self.array = tape, storage, array

    __class__ = property(lambda _: np.ndarray)
    __hash__ = None  # type: ignore[assignment]  # as an array
    base = None

    def operand(self, apart: list[Storage] | None) -> Ref:
        """Its memory, in its layout."""
        return self.tape.ref(self.storage, self.array, apart)

    def raw(self) -> AnyArray:
        """The array of the step that is traced."""
        return self.array

    def __len__(self) -> int:
        return len(self.array)

    def __repr__(self) -> str:
        return f"an array {self.array.dtype} {self.array.shape} in a trace"

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return call_ufunc(self.tape, ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return call_function(self.tape, func, args, kwargs)

    def __array__(self, *_: Any, **__: Any) -> AnyArray:
        return self.tape.refuse("np.asarray, or another function, took the numbers out of an array")

    def __bool__(self) -> bool:
        return self.tape.guard(self.tape.ref(self.storage, self.array), bool(self.array))

    def __reduce_ex__(self, _: Any) -> Any:
        return self.tape.refuse("an array was pickled")

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and hasattr(np.ndarray, name):
            self.tape.refuse(f"ndarray.{name} cannot be replayed")
        raise AttributeError(name)

    def item(self, *place: int) -> Any:
        """A Python number that varies."""
        view = self.reshape(-1)[place[0]] if len(place) == 1 else self[place] if place else self
        value = view.array.item()
        return made_of(self.tape, self.tape.record("item", None, (view.operand(None),), (value,))[0])

    def __getitem__(self, index: Any) -> Traced:
        if _is_basic(index):
            parts = index if isinstance(index, tuple) else (index,)
            whole = parts if any(part is Ellipsis for part in parts) else (*parts, ...)  # never a NumPy scalar
            return Traced(self.tape, self.storage, self.array[whole])
        result: Traced = call(self.tape, operator.getitem, (self, index), {})
        return result

    def __setitem__(self, index: Any, new: Any) -> None:
        if _is_basic(index):
            copy_into(self.tape, self[index], new, casting="unsafe")
        else:
            self._mutated(operator.setitem, index, new)

    def _mutated(self, func: Callable[..., Any], *args: Any) -> None:
        """Let a function write into it."""
        operands = tuple(self.tape.encode(arg) for arg in args)
        self.tape.run(func, (self.array, *map(raw, args)), {})
        self.tape.write(self.storage, self.operand(None), ("mutate", func, operands), {})

    def __iter__(self) -> Iterator[Traced]:
        return (self[i] for i in range(len(self)))

    def __contains__(self, x: Any) -> bool:
        return bool((self == x).any())

    @property
    def T(self) -> Traced:  # noqa: N802  # as NumPy calls it
        """The transpose, a view."""
        return Traced(self.tape, self.storage, self.array.T)

    def fill(self, value: Any) -> None:
        """Write a number into all of it."""
        copy_into(self.tape, self, value, casting="unsafe")

    def put(self, index: Any, values: Any, mode: str = "raise") -> None:
        """Write numbers at flat indices."""
        self._mutated(np.ndarray.put, index, values, mode)

    def astype(self, dtype: Any, order: Any = "K", *_: Any, **options: Any) -> Traced:
        """It in another dtype."""
        same = not options.get("copy", True) and self.array.dtype == dtype
        return self if same else self._copied(self.array.astype(dtype, order))

    def copy(self, order: Any = "C") -> Traced:
        """A copy."""
        return self._copied(self.array.copy(order))

    def _copied(self, new: AnyArray) -> Traced:
        return _new(self.tape, new, self.tape.record("copy", None, (self.operand(None),), (new,))[0])

    def __copy__(self) -> Traced:
        return self.copy()

    def __deepcopy__(self, _: Any) -> Traced:
        return self.copy()

    def clip(self, low: Any = None, high: Any = None, out: Any = None) -> Any:
        """``np.clip``."""
        return call_function(self.tape, np.clip, (self, low, high), {} if out is None else {"out": out})


def _attribute(name: str) -> property:
    return property(lambda self: getattr(self.array, name))


for _name in ("shape", "dtype", "ndim", "size", "nbytes", "itemsize", "strides", "flags"):
    setattr(Traced, _name, _attribute(_name))


def _method(name: str) -> Callable[..., Any]:
    method = getattr(np.ndarray, name)

    def run(self: Traced, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("out") is not None:
            self.tape.refuse(f"out= of ndarray.{name} cannot be replayed")
        return call(self.tape, method, (self, *args), kwargs)

    return run


def _reduction(ufunc: np.ufunc) -> Callable[..., Any]:
    def run(self: Traced, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = 0, **kw: Any) -> Any:
        kw |= {} if dtype is None else {"dtype": dtype}
        return ufunc.reduce(self, axis=axis, out=out, keepdims=keepdims, **kw)

    def extreme(self: Traced, axis: Any = None, out: Any = None, keepdims: Any = 0, **kw: Any) -> Any:
        return ufunc.reduce(self, axis=axis, out=out, keepdims=keepdims, **kw)

    return run if ufunc in (np.add, np.multiply) else extreme


for _name in (
    *("reshape", "transpose", "ravel", "squeeze", "swapaxes", "view", "diagonal", "flatten", "round", "searchsorted"),
    *("dot", "take", "repeat", "argmax", "argmin", "argsort", "cumsum", "cumprod", "mean", "var", "std"),
    *("nonzero", "trace", "choose", "compress"),
):
    setattr(Traced, _name, _method(_name))
for _name, _ufunc in (
    *(("sum", np.add), ("prod", np.multiply), ("max", np.maximum), ("min", np.minimum)),
    *(("all", np.logical_and), ("any", np.logical_or)),
):
    setattr(Traced, _name, _reduction(_ufunc))


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(self: Duck, *_: object) -> Any:
        return self.tape.refuse(f"{name}() took a number out; write .item()")

    return refuse


for _name in ("float", "int", "index", "complex"):
    setattr(Traced, f"__{_name}__", _refusing(_name))
ARRAY_TYPES.add(Traced)


def _is_basic(index: Any) -> bool:
    """Whether indexing gives a view."""
    parts = index if isinstance(index, tuple) else (index,)
    basic = (int, slice, type(None), type(Ellipsis))
    return all(type(part) in basic or isinstance(part, np.integer) for part in parts)


# -------------------------------------------------------------------------------------------------- numbers


class Number(NDArrayOperatorsMixin, Duck):
    """A Python number that is another one in each step; or another value, such as a key, of ``whole`` methods alone."""

    __slots__ = ("scalar",)

    def __init__(self, tape: Tape, scalar: Scalar) -> None:
        self.tape, self.scalar = tape, scalar

    __class__ = property(lambda self: type(self.scalar.value))

    def operand(self, _: list[Storage] | None) -> Scalar:
        """The number."""
        return self.scalar

    def raw(self) -> Any:
        """The number in the step that is traced."""
        return self.scalar.value

    def item(self) -> Number:
        """Itself."""
        return self

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return call_ufunc(self.tape, ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return call_function(self.tape, func, args, kwargs)

    def __array__(self, *_: Any, **__: Any) -> AnyArray:
        return self.tape.refuse("np.asarray took a number that varies")

    def __bool__(self) -> bool:
        return self.tape.guard(self.scalar, bool(self.scalar.value))

    def __getattr__(self, name: str) -> Any:
        kind = type(self.scalar.value)
        method: Any = getattr(kind, name, None)
        if hasattr(method, "in_one_operation"):
            return partial(method, self)
        if kind not in _NUMBERS and not name.startswith("__"):
            self.tape.refuse(f"{kind.__name__}.{name} of a value that varies cannot be replayed")
        raise AttributeError(name)

    def __repr__(self) -> str:
        return f"a {type(self.scalar.value).__name__} of the step"

    def __format__(self, _: str) -> str:
        return repr(self)

    def __hash__(self) -> int:
        return self.tape.refuse("a number that varies was looked up in a dict, a set or a cache")

    def __reduce_ex__(self, _: Any) -> Any:
        return self.tape.refuse("a number that varies was pickled")


def call_scalar(tape: Tape, func: Callable[..., Any], *args: Any) -> Any:
    """Record a function of Python numbers."""
    value = tape.run(func, [raw(arg) for arg in args], {})
    return made_of(tape, tape.record("scalar", func, tape.encode(args), (value,))[0])


def _binary(name: str, func: Callable[..., Any], *, swapped: bool) -> Callable[..., Any]:
    def operate(self: Number, other: Any) -> Any:
        if not isinstance(self.scalar.value, _NUMBERS):
            self.tape.refuse("a value that varies was compared")
        if type(other) is Traced:
            return NotImplemented
        if not isinstance(other, Duck) and isinstance(other, np.ndarray | np.generic):
            return getattr(NDArrayOperatorsMixin, name)(self, other)
        if type(other) is not Number and not isinstance(other, _NUMBERS):
            return NotImplemented
        return call_scalar(self.tape, func, *((other, self) if swapped else (self, other)))

    return operate


def _unary(func: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self: call_scalar(self.tape, func, self)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor", "lshift", "rshift"):
    _function, _plain = getattr(operator, _name), _name.rstrip("_")
    setattr(Number, f"__{_plain}__", _binary(f"__{_plain}__", _function, swapped=False))
    setattr(Number, f"__r{_plain}__", _binary(f"__r{_plain}__", _function, swapped=True))
    setattr(Number, f"__i{_plain}__", getattr(Number, f"__{_plain}__"))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Number, f"__{_name}__", _binary(f"__{_name}__", getattr(operator, _name), swapped=False))
for _name in ("neg", "abs", "pos", "invert"):
    setattr(Number, f"__{_name}__", _unary(getattr(operator, _name)))
for _name in ("float", "int", "index", "complex", "round", "trunc", "floor", "ceil"):
    setattr(Number, f"__{_name}__", _refusing(_name))


def made_of(tape: Tape, made: Value | Scalar) -> Any:
    """What stands for a value of the tape."""
    if isinstance(made, Value):
        return _new(tape, made.array, made)
    return Number(tape, made)


def _new(tape: Tape, array: AnyArray, value: Value) -> Traced:
    return Traced(tape, Storage(value, array), array)


# ------------------------------------------------------------------------------------------------- functions


def call_ufunc(tape: Tape, ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Record a ufunc's call."""
    out = tuple(each for each in kwargs.pop("out", None) or () if each is not None)
    if any(type(each) is not Traced for each in out):
        tape.refuse(f"np.{ufunc.__name__} wrote into a plain array; make it with np.empty_like")
    if method == "at":
        inputs[0]._mutated(ufunc.at, *inputs[1:])  # noqa: SLF001  # its own kind
        return None
    if method not in ("__call__", "reduce"):
        return call(tape, getattr(ufunc, method), inputs, kwargs) if not out else tape.refuse(f"out= of ufunc.{method}")
    if len(out) > 1:
        tape.refuse("out= of several arrays")
    masked = kwargs.get("where", True) is not True
    if masked and method == "__call__" and not out:
        tape.refuse("where= without out=")
    if not masked:
        kwargs.pop("where", None)
    kind, function = ("ufunc", ufunc) if method == "__call__" else ("reduce", ufunc.reduce)
    operands, options = tape.encode(inputs, [] if ufunc.signature else None), tape.encode(kwargs)
    plain = {name: raw(each) for name, each in kwargs.items()} | ({"out": (out[0].array,)} if out else {})
    results = tape.run(function, raw(inputs), plain)
    if out:
        tape.write(out[0].storage, out[0].operand(None), (kind, ufunc, operands), options)
        return out[0]
    made = [np.asarray(each) for each in (results if isinstance(results, tuple) else (results,))]
    values = tape.record(kind, ufunc, operands, made, kwargs=options)
    ducks = tuple(_new(tape, array, value) for array, value in zip(made, values, strict=True))
    return ducks if len(ducks) > 1 else ducks[0]


def call_function(tape: Tape, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: PLR0911  # one for each kind
    """Record a call of a NumPy function that is no ufunc."""
    if func in _NEW:
        return _made_new(tape, _NEW[func], func, args, kwargs)
    if func is np.full_like:
        new = call_function(tape, np.empty_like, args[:1], kwargs)
        new[...] = args[1]
        return new
    if func is np.copyto:
        return copy_into(tape, *args, **kwargs)
    if func is np.where and len(args) == 3:
        return _where(tape, *args)
    if func is np.clip and len(args) >= 3 and args[1] is not None and args[2] is not None:
        out = args[3] if len(args) > 3 else kwargs.get("out")
        return _CLIP(*args[:3], **({} if out is None else {"out": out}))
    if func in _REDUCTIONS:
        return getattr(args[0], _REDUCTIONS[func])(*args[1:], **kwargs)
    if func in _WRITING or kwargs.get("out") is not None or (func is np.dot and len(args) > 2):
        return tape.refuse(f"np.{func.__name__} wrote into an array")
    return call(tape, func, args, kwargs)


def _made_new(tape: Tape, value: int | None, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    array = tape.run(func, raw(args), raw(kwargs))
    if value is None:
        return _new(tape, array, tape.record("alloc", None, (), (array,), unique=True)[0])
    return _new(tape, array, tape.record("copy", None, (array.dtype.type(value),), (array,), unique=True)[0])


def copy_into(tape: Tape, dst: Any, src: Any, casting: Any = "same_kind", where: Any = True) -> None:  # noqa: FBT002  # np.copyto
    """Record ``np.copyto``."""
    if type(dst) is not Traced:
        tape.refuse("np.copyto wrote into a plain array; make it with np.empty_like")
    source, mask = tape.encode(src), tape.encode(where)
    same = type(src) is Traced and src.storage is dst.storage and layout(src.array) == layout(dst.array)
    if same and address(src.array) == address(dst.array):
        return  # x[i] += y writes back what is there already
    tape.run(np.copyto, (dst.array, raw(src)), {"casting": casting, "where": raw(where)})
    tape.write(dst.storage, dst.operand(None), ("copy", None, (source,)), {} if mask is True else {"where": mask})


def _where(tape: Tape, condition: Any, a: Any, b: Any) -> Traced:
    operands = tape.encode((condition, a, b))
    array = np.asarray(np.where(raw(condition), raw(a), raw(b)))
    return _new(tape, array, tape.record("call", np.where, operands, (array,))[0])


def call(tape: Tape, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Record a call of any pure function: its results are views of operands, or made by one operation."""
    apart: list[Storage] | None = [] if func in _BLAS else None
    operands, options = tape.encode(args, apart), tape.encode(dict(kwargs), apart)
    storages: list[Storage] = []
    _storages((args, dict(kwargs)), storages)
    before = [storage.array.tobytes() for storage in storages]
    result = tape.run(func, raw(args), raw(dict(kwargs)))
    if any(old != storage.array.tobytes() for old, storage in zip(before, storages, strict=True)):
        tape.refuse(f"{_text(func)} wrote into its argument")
    if func in _STRUCTURE:
        return result
    results = list(result) if type(result) in (tuple, list) else [result]
    viewed = [_viewed(each, storages) for each in results]
    if results and all(viewed):
        ducks = [Traced(tape, storage, each) for storage, each in zip(viewed, results, strict=True) if storage]
    elif any(viewed):
        return tape.refuse(f"{_text(func)} gave a view and something else")
    else:
        ducks = _made_by_call(tape, func, (operands, options), results, many=type(result) in (tuple, list))
    return type(result)(ducks) if type(result) in (tuple, list) else ducks[0]


def _made_by_call(tape: Tape, func: Any, given: tuple[Any, Any], results: list[Any], *, many: bool) -> list[Any]:
    made = [np.asarray(each) if isinstance(each, np.ndarray | np.generic) else each for each in results]
    for each in made:
        if isinstance(each, np.ndarray) and not _is_dense(each):
            tape.refuse(f"{_text(func)} gave an array with gaps in its memory")
    values = tape.record("call", func, given[0], made, kwargs=given[1], many=many)
    pairs = zip(made, values, strict=True)
    return [_new(tape, a, value) if isinstance(value, Value) else made_of(tape, value) for a, value in pairs]


def _text(func: Any) -> str:
    return getattr(func, "__qualname__", None) or getattr(func, "__name__", None) or repr(func)


def _storages(tree: Any, found: list[Storage]) -> None:
    kind = kind_of(tree)
    if kind is Traced:
        found.append(tree.storage)
    elif kind is tuple or kind is list:
        for part in tree:
            _storages(part, found)
    elif kind is dict:
        _storages(tuple(tree.values()), found)


def _viewed(result: Any, storages: list[Storage]) -> Storage | None:
    """The storage that an array lies in."""
    if not isinstance(result, np.ndarray) or not result.size:
        return None
    start = address(result)
    return next((each for each in storages if each.start <= start < each.stop), None)


def _is_dense(array: AnyArray) -> bool:
    """Whether it fills its memory, in some order of its axes."""
    unit = array.itemsize
    for stride, size in sorted((s, n) for s, n in zip(array.strides, array.shape, strict=True) if n != 1):
        if stride != unit:
            return array.size == 0
        unit *= size
    return True
