"""The objects that represent arrays, numbers and other values in a trace, and the functions that record NumPy calls.

``Traced`` is not a subclass of ``np.ndarray``, because ``np.asarray`` and C code would read the numbers of a subclass
unnoticed. It computes what the array computes, through NumPy's protocols, and refuses every operation that it does not
know.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from funcnet.core.arrays import ARRAY_TYPES, AnyArray
from funcnet.tracing.recorder import (
    Duck,
    Ref,
    Scalar,
    Storage,
    Tape,
    Value,
    address,
    is_array,
    kind_of,
    layout,
    name_of,
    parts_of,
    raw,
    recording,
)

_NUMPY_1: Final = int(np.__version__.partition(".")[0]) < 2
_core: Any = getattr(np, "core" if _NUMPY_1 else "_core")  # NumPy 1.26 may have an empty _core, too
CLIP: Final[np.ufunc] = _core.umath.clip
TUPLE: Final[Any] = tuple  # the type checkers do not narrow x after isinstance(x, TUPLE)

_STRUCTURE: Final = {np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.may_share_memory, np.shares_memory}
_NEW: Final[dict[Any, int | None]] = {
    **dict.fromkeys((np.empty, np.empty_like)),
    **dict.fromkeys((np.zeros, np.zeros_like), 0),
    **dict.fromkeys((np.ones, np.ones_like), 1),
}
_BLAS: Final = {
    *(np.dot, np.vdot, np.inner, np.tensordot, np.einsum, np.linalg.multi_dot, np.ndarray.dot),
    *(getattr(np.linalg, name) for name in ("matmul", "tensordot", "vecdot") if hasattr(np.linalg, name)),
}
_WRITING: Final = {np.place, np.putmask, np.fill_diagonal, np.put_along_axis, np.resize}
_METHODS: Final = (
    *("reshape", "transpose", "ravel", "squeeze", "swapaxes", "view", "diagonal", "flatten", "round", "searchsorted"),
    *("dot", "take", "repeat", "argmax", "argmin", "argsort", "cumsum", "cumprod", "mean", "var", "std"),
    *("nonzero", "trace", "choose", "compress"),
)
_REDUCTIONS: Final[dict[str, np.ufunc]] = {
    "sum": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "all": np.logical_and,
    "any": np.logical_or,
}
_REDUCERS: Final[dict[Any, str]] = {np.amax: "max", np.amin: "min"} | {getattr(np, name): name for name in _REDUCTIONS}
_NUMBERS: Final = (bool, int, float, np.number, np.bool_)
_POWERS: Final[dict[float, np.ufunc]] = {2: np.square, 0.5: np.sqrt, -1: np.reciprocal}
"""The ufuncs that compute ``x ** n`` for an array of floats, in every version of NumPy."""
_OF_KIND: Final = {"dtype", "shape", "ndim", "size", "itemsize", "nbytes", "strides"}


class _Operand(NDArrayOperatorsMixin, Duck):
    """The base class of traced arrays and numbers: NumPy's protocols, and the refusals that both share."""

    __slots__ = ()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return call_ufunc(self.tape, ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return call_function(self.tape, func, args, kwargs)

    def __array__(self, *_: Any, **__: Any) -> AnyArray:
        if recording() is not self.tape:  # the trace has ended, and the function kept the object
            return np.asarray(self.raw())
        return self.tape.refuse("np.asarray, or another function, took the numbers out of an array")

    def __bool__(self) -> bool:
        return self.tape.guard(self.operand(), bool(self.raw()))

    def __reduce_ex__(self, _: Any) -> Any:
        return self.tape.refuse("a value that varies was pickled")


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(self: Duck, *_: object) -> Any:
        return self.tape.refuse(f"{name}() took a number out; mark the function with @fn.whole")

    return refuse


for _name in ("float", "int", "index", "complex", "round", "trunc", "floor", "ceil"):
    setattr(_Operand, f"__{_name}__", _refusing(_name))


class Traced(_Operand):
    """An array whose operations are recorded. It passes ``isinstance(x, np.ndarray)``; its type is ``Traced``."""

    __slots__ = ("array", "storage")

    def __init__(self, tape: Tape, storage: Storage, array: AnyArray) -> None:
        self.tape, self.storage, self.array = tape, storage, array

    __class__ = property(lambda _: np.ndarray)  # pyright: ignore[reportIncompatibleMethodOverride]  # for isinstance
    __hash__: Any = None  # arrays have no hash
    base = None

    def operand(self, apart: list[Storage] | None = None) -> Ref:
        """Return the operand that reads this array's memory in its layout."""
        return self.tape.ref(self.storage, self.array, apart)

    def raw(self) -> AnyArray:
        """Return the array, with its elements in the traced step."""
        return self.array

    def __len__(self) -> int:
        return len(self.array)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and hasattr(np.ndarray, name):
            self.tape.refuse(f"ndarray.{name} cannot be replayed")
        raise AttributeError(name)

    def item(self, *place: int) -> Any:
        """Return one element as a Python number that varies."""
        index: Any = place[0] if len(place) == 1 else place or (0,) * self.ndim
        flat: Traced = self.reshape(-1) if isinstance(index, int) else self
        view = flat._view(index)
        return _item(self.tape, None, view.operand(), self.array.item(*place))

    def __getitem__(self, index: Any) -> Any:
        if _is_basic(index):
            view, made = self._view(index), self.array[index]
            number = isinstance(made, np.generic)
            return _item(self.tape, operator.getitem, view.operand(), made) if number else view
        if any(isinstance(part, Number) for part in (index if isinstance(index, TUPLE) else (index,))):
            made = call(self.tape, _picked, (self, index), {})
            if type(made) is Traced:  # a copy instead of a view: neither array may be written to afterwards
                self.storage.is_input = made.storage.is_input = True
            return made
        return call(self.tape, operator.getitem, (self, index), {})

    def _view(self, index: Any) -> Traced:
        """Return a view by basic indexing, even if the index has a number for every axis."""
        parts = index if isinstance(index, TUPLE) else (index,)
        whole = parts if any(part is Ellipsis for part in parts) else (*parts, ...)  # with ..., NumPy returns an array
        return Traced(self.tape, self.storage, self.array[whole])

    def __setitem__(self, index: Any, new: Any) -> None:
        if _is_basic(index):
            copy_into(self.tape, self._view(index), new, casting="unsafe")
        else:
            self._mutated(operator.setitem, index, new)

    def _mutated(self, func: Callable[..., Any], *args: Any) -> None:
        """Call and record a function that writes to this array."""
        operands = tuple(self.tape.encode(arg) for arg in args)
        self.tape.run(func, (self.array, *map(raw, args)), {})
        self.tape.write(self.storage, self.operand(), ("mutate", func, operands), {})

    def __pow__(self, other: Any) -> Any:
        return _power(self, other)

    def __ipow__(self, other: Any) -> Any:
        return _power(self, other, out=self)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __contains__(self, x: Any) -> bool:
        return bool((self == x).any())

    @property
    def T(self) -> Traced:  # noqa: N802  # NumPy's name
        """The transpose, a view."""
        return Traced(self.tape, self.storage, self.array.T)

    def fill(self, value: Any) -> None:
        """Set every element to a number."""
        copy_into(self.tape, self, value, casting="unsafe")

    def put(self, index: Any, values: Any, mode: str = "raise") -> None:
        """Set the elements at flat indices."""
        self._mutated(np.ndarray.put, index, values, mode)

    def astype(self, dtype: Any, order: Any = "K", *_: Any, **options: Any) -> Traced:
        """Return the array converted to a dtype."""
        same = not options.get("copy", True) and self.array.dtype == dtype
        return self if same else self._copied(self.array.astype(dtype, order))

    def copy(self, order: Any = "C") -> Traced:
        """Return a copy."""
        return self._copied(self.array.copy(order))

    def _copied(self, new: AnyArray) -> Traced:
        made: Traced = recorded(self.tape, "copy", None, (self.operand(),), [new])[0]
        return made

    def __copy__(self) -> Traced:
        return self.copy()

    def __deepcopy__(self, _: Any) -> Traced:
        return self.copy()

    def clip(self, low: Any = None, high: Any = None, out: Any = None) -> Any:
        """Return the array limited to an interval, as ``np.clip`` does."""
        return call_function(self.tape, np.clip, (self, low, high), {} if out is None else {"out": out})


def _power(x: Any, exponent: Any, **out: Any) -> Any:
    """Return ``x ** exponent`` for an array."""
    ufunc = _POWERS.get(exponent) if type(exponent) in (int, float) and x.dtype.kind == "f" else None
    return np.power(x, exponent, **out) if ufunc is None else ufunc(x, **out)


def _attribute(name: str) -> property:
    return property(lambda self: getattr(self.array, name))


for _name in ("shape", "dtype", "ndim", "size", "nbytes", "itemsize", "strides", "flags"):
    setattr(Traced, _name, _attribute(_name))


def _method(method: Callable[..., Any]) -> Callable[..., Any]:
    def run(self: Duck, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("out") is not None:
            self.tape.refuse(f"out= of {name_of(method)} cannot be replayed")
        return call(self.tape, method, (self, *args), kwargs)

    return run


def _reduction(ufunc: np.ufunc) -> Callable[..., Any]:
    names = ("axis", "dtype", "out", "keepdims") if ufunc in (np.add, np.multiply) else ("axis", "out", "keepdims")

    def run(self: Traced, *args: Any, **kwargs: Any) -> Any:
        given = dict(zip(names, args, strict=False)) | kwargs
        return ufunc.reduce(self, axis=given.pop("axis", None), **{k: x for k, x in given.items() if x is not None})

    return run


for _name in _METHODS:
    setattr(Traced, _name, _method(getattr(np.ndarray, _name)))
for _name, _ufunc in _REDUCTIONS.items():
    setattr(Traced, _name, _reduction(_ufunc))
ARRAY_TYPES.add(Traced)


def _is_basic(index: Any) -> bool:
    """Return whether indexing by ``index`` gives a view."""
    parts = index if isinstance(index, TUPLE) else (index,)
    basic = (int, slice, type(None), type(Ellipsis))
    return all(type(part) in basic or (isinstance(part, np.integer) and not isinstance(part, Duck)) for part in parts)


def _picked(x: AnyArray, index: Any) -> Any:
    """Return the elements at an index that contains numbers that vary."""
    made = x[index]
    if not isinstance(made, np.ndarray):
        return made
    copy = made.copy()
    if copy.strides != made.strides:
        raise IndexError("an index that varies gives an array with gaps in its memory")
    return copy


# -------------------------------------------------------------------------------------------------- numbers


class Number(_Operand):
    """A Python or NumPy number that varies, or another value, such as a key, that has only its ``whole`` methods."""

    __slots__ = ("scalar",)

    def __init__(self, tape: Tape, scalar: Scalar) -> None:
        self.tape, self.scalar = tape, scalar

    __class__ = property(lambda self: kind_of(self.scalar.value))  # pyright: ignore[reportIncompatibleMethodOverride]  # for isinstance

    def operand(self, _: list[Storage] | None = None) -> Scalar:
        """Return the number as an operand."""
        return self.scalar

    def raw(self) -> Any:
        """Return the number, with its value in the traced step."""
        return self.scalar.value

    def item(self) -> Any:
        """Return the number as a Python number."""
        made, op = self.scalar.value, self.scalar.op
        if not isinstance(made, np.generic):
            return self
        return _item(self.tape, None, op.args[0] if op.kind == "item" else self.scalar, made.item())

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Any, Any]:
        return other // self, other % self

    def __getattr__(self, name: str) -> Any:
        kind = type(self.scalar.value)
        method: Any = getattr(kind, name, None)
        if hasattr(method, "in_one_operation"):
            return partial(method, self)
        if issubclass(kind, np.generic) and name in _OF_KIND:
            return getattr(self.scalar.value, name)
        if issubclass(kind, np.generic) and callable(method) and not name.startswith("__"):
            return partial(_method(method), self)
        if kind not in (bool, int, float) and not name.startswith("__"):
            self.tape.refuse(f"{kind.__name__}.{name} of a value that varies cannot be replayed")
        raise AttributeError(name)

    def __hash__(self) -> int:
        return self.tape.refuse("a number that varies was looked up in a dict, a set or a cache")


def call_scalar(tape: Tape, func: Callable[..., Any], *args: Any) -> Any:
    """Call and record a function of Python numbers."""
    value = tape.run(func, [raw(arg) for arg in args], {})
    return recorded(tape, "scalar", func, tape.encode(args), [value])[0]


def _binary(name: str, func: Callable[..., Any], *, swapped: bool) -> Callable[..., Any]:
    def operate(self: Number, other: Any) -> Any:
        if not isinstance(self.scalar.value, _NUMBERS):
            self.tape.refuse("a value that varies was compared")
        if type(other) is Traced:
            return NotImplemented
        if not isinstance(other, Duck) and isinstance(other, np.ndarray):
            return getattr(NDArrayOperatorsMixin, name)(self, other)
        if type(other) is not Number and not isinstance(other, _NUMBERS):
            return NotImplemented
        return call_scalar(self.tape, func, *((other, self) if swapped else (self, other)))

    return operate


def _unary(func: Callable[..., Any]) -> Callable[[Any], Any]:
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


def recorded(tape: Tape, kind: str, func: Any, args: tuple[Any, ...], made: list[Any], **options: Any) -> list[Any]:
    """Record an operation with these results; return the objects that represent the results in the trace."""
    values = tape.record(kind, func, args, made, **options)
    return [
        Traced(tape, Storage(value, each), each) if isinstance(value, Value) else Number(tape, value)
        for value, each in zip(values, made, strict=True)
    ]


def _item(tape: Tape, func: Any, operand: Ref | Scalar, made: Any) -> Any:
    """Record an element of an array as a number: a Python number, or a NumPy number if ``func`` is ``getitem``."""
    return recorded(tape, "item", func, (operand,), [made])[0]


# ------------------------------------------------------------------------------------------------- functions


def call_ufunc(tape: Tape, ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call and record a ufunc."""
    out = tuple(each for each in kwargs.pop("out", None) or () if each is not None)
    if any(type(each) is not Traced for each in out):
        tape.refuse(f"np.{ufunc.__name__} wrote into a plain array; make it with np.empty_like")
    by_value = _NUMPY_1 and any(type(each) is Number and isinstance(raw(each), int) for each in inputs)
    if by_value and any(is_array(raw(each)) and raw(each).dtype.kind in "iu" for each in inputs):
        tape.refuse("NumPy 1 takes a dtype by an int's value")
    if method == "at":
        inputs[0]._mutated(ufunc.at, *inputs[1:])  # noqa: SLF001  # a Traced array
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
    results = results if isinstance(results, TUPLE) else (results,)
    made = [np.asarray(each) for each in results]
    ducks = recorded(tape, kind, ufunc, operands, made, kwargs=options)
    ducks = [
        _item(tape, operator.getitem, duck.operand(), each) if isinstance(each, np.generic) else duck
        for duck, each in zip(ducks, results, strict=True)
    ]
    return tuple(ducks) if len(ducks) > 1 else ducks[0]


def call_function(tape: Tape, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: PLR0911  # one return for each kind
    """Call and record a NumPy function that is not a ufunc."""
    if func in _NEW:
        return _made_new(tape, _NEW[func], func, args, kwargs)
    if func is np.full_like:
        like, value = (*args, *(kwargs.pop(name) for name in ("a", "fill_value") if name in kwargs))
        new = call_function(tape, np.empty_like, (like,), kwargs)
        new[...] = value
        return new
    if func is np.copyto:
        return copy_into(tape, *args, **kwargs)
    if func is np.put:
        return args[0].put(*args[1:], **kwargs) if type(args[0]) is Traced else tape.refuse("np.put into a plain array")
    if func in _REDUCERS:
        return getattr(args[0], _REDUCERS[func])(*args[1:], **kwargs)
    if func is np.clip and len(args) >= 3 and args[1] is not None and args[2] is not None:
        out = args[3] if len(args) > 3 else kwargs.get("out")
        return CLIP(*args[:3], **({} if out is None else {"out": out}))
    if func in _WRITING or kwargs.get("out") is not None or (func is np.dot and len(args) > 2):
        return tape.refuse(f"np.{func.__name__} wrote into an array")
    return call(tape, func, args, kwargs)


def _made_new(tape: Tape, value: int | None, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    if has_numbers(tape.encode((args, kwargs))):
        return tape.refuse(f"the shape of the result of {name_of(func)} depends on numbers")
    array = tape.run(func, raw(args), raw(kwargs))
    kind, operands = ("alloc", ()) if value is None else ("copy", (array.dtype.type(value),))
    made: Traced = recorded(tape, kind, None, operands, [array], unique=True)[0]
    return made


def copy_into(tape: Tape, dst: Any, src: Any, casting: Any = "same_kind", where: Any = True) -> None:  # noqa: FBT002  # as in np.copyto
    """Call and record ``np.copyto``."""
    if type(dst) is not Traced:
        tape.refuse("np.copyto wrote into a plain array; make it with np.empty_like")
    source, mask = tape.encode(src), tape.encode(where)
    same = type(src) is Traced and src.storage is dst.storage and layout(src.array) == layout(dst.array)
    if same and address(src.array) == address(dst.array):
        return  # in x[i] += y, the addition has written the elements already
    tape.run(np.copyto, (dst.array, raw(src)), {"casting": casting, "where": raw(where)})
    tape.write(dst.storage, dst.operand(None), ("copy", None, (source,)), {} if mask is True else {"where": mask})


def call(tape: Tape, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call and record any pure function. Its results are views of operands, or the results of one operation."""
    apart: list[Storage] | None = [] if func in _BLAS or hasattr(func, "of_copies") else None
    operands, options = tape.encode(args, apart), tape.encode(dict(kwargs), apart)
    parts = parts_of((args, dict(kwargs)))
    storages = [part.storage for part in parts if type(part) is Traced]
    plain = [part for part in parts if type(part) is np.ndarray and part.flags.writeable]
    arrays = [*(storage.array for storage in storages), *plain]
    before = [array.tobytes() for array in arrays]
    result = tape.run(func, raw(args), raw(dict(kwargs)))
    written = any(old != array.tobytes() for old, array in zip(before, arrays, strict=True))
    outs = [*plain, *(raw(arg) for arg in args[1:] if type(arg) is Traced)]  # out= may have had the same bytes before
    if written or any(result is out for out in outs):
        tape.refuse(f"{name_of(func)} wrote into its argument")
    if func in _STRUCTURE:
        return result
    many = isinstance(result, TUPLE | list)
    results = list(result) if many else [result]
    viewed = [_viewed(each, storages) for each in results]
    if any(viewed) and (func in (np.trim_zeros, np.real_if_close) or has_numbers((operands, options))):
        return tape.refuse(f"{name_of(func)} gave a view that depends on numbers")
    if results and all(viewed):
        ducks = [Traced(tape, storage, each) for storage, each in zip(viewed, results, strict=True) if storage]
    elif any(viewed):
        return tape.refuse(f"{name_of(func)} gave a view and something else")
    else:
        ducks = _made_by_call(tape, func, (operands, options), results, many=many)
    if not many:
        return ducks[0]
    return type(result)(*ducks) if hasattr(result, "_fields") else type(result)(ducks)


def has_numbers(operands: Any) -> bool:
    """Return whether a number that varies is among the operands."""
    return any(type(part) is Scalar for part in parts_of(operands))


def _made_by_call(tape: Tape, func: Any, given: tuple[Any, Any], results: list[Any], *, many: bool) -> list[Any]:
    for each in results:
        if is_array(each) and not is_dense(each):
            tape.refuse(f"{name_of(func)} gave an array with gaps in its memory")
        if each is None or isinstance(each, str):
            tape.refuse(f"{name_of(func)} gave {each!r}, which may differ in another step")
    return recorded(tape, "call", func, given[0], results, kwargs=given[1], many=many)


def _viewed(result: Any, storages: list[Storage]) -> Storage | None:
    """Return the storage that contains an array; None if no storage does."""
    if not is_array(result) or not result.size:
        return None
    return next((each for each in storages if np.shares_memory(result, each.array)), None)


def is_dense(array: AnyArray) -> bool:
    """Return whether an array fills its memory without gaps, in some order of its axes."""
    unit = array.itemsize
    for stride, size in sorted((s, n) for s, n in zip(array.strides, array.shape, strict=True) if n != 1):
        if stride != unit:
            return array.size == 0
        unit *= size
    return True
