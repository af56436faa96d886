"""Operations: what the interpreter does for a NumPy call of a program, as the fields of its rows of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from math import prod
from typing import Any, Final, TypeAlias, TypeGuard

import numpy as np
from attrs import frozen

from funcnet.core.arrays import AnyArray
from funcnet.tracing.fusion import EXACT
from funcnet.tracing.native.blas import PRODUCTS
from funcnet.tracing.native.loaded import replay
from funcnet.tracing.recorder import address, is_array

LOOP, REDUCE, MATMUL, GEMM, GEMV, TAKE, PUT, LOAD, NUMBER, GUARD, FILL, CALL = range(12)
INITIAL, FIRST, AS_IT_IS = range(3)
AXES: Final = 6
OPERANDS: Final = 5
BUFFER: Final = 8192
"""NumPy converts this many numbers at a time; before 2.3, it also reduces no more of an axis at a time."""
_PIECES: Final = 64
_LIMIT: Final = 2**31
_ROWS, _COLUMNS, _PLAIN, _TRANSPOSED = 101, 102, 111, 112
_VERSION: Final = np.lib.NumpyVersion(np.__version__)
_UMATH: Final = import_module("numpy._core.umath" if _VERSION >= "2.0.0" else "numpy.core.umath")
_LONGEST: Final = BUFFER if _VERSION < "2.3.0" else _LIMIT
_COPYTO: Final = (np.copyto, getattr(np.copyto, "_implementation", np.copyto))
_DOT: Final = (np.dot, getattr(np.dot, "_implementation", np.dot))

Fields: TypeAlias = Mapping[str, "int | list[int] | tuple[int, ...]"]
"""The fields of an operation by name, as in ``Op`` of ``replay.c``; the others are 0."""


@frozen
class Operation:
    """A kind of operation, its operands, its other fields, and about how many numbers it computes."""

    kind: int
    operands: tuple[AnyArray, ...]
    fields: Fields
    work: int = 1


class UnknownError(Exception):
    """Raised for a line that the interpreter has no operation for."""


def demand(truth: object) -> None:
    """Raise UnknownError unless a condition holds."""
    if not truth:
        raise UnknownError


def operations(function: Any, args: tuple[Any, ...], options: dict[str, Any]) -> list[Operation]:
    """Return the operations for a call, such as ``np.add(a, b, out=c)``.

    Raises:
        UnknownError: If there are none.
    """
    name, owner = getattr(function, "__name__", ""), getattr(function, "__self__", None)
    if isinstance(function, np.ufunc):
        demand(options.keys() <= {"out", "dtype", "casting"})
        return [_elementwise(function, args, **options)]
    if isinstance(owner, np.ufunc) and name == "reduce" and len(args) == 1:
        demand({"out"} <= options.keys() <= {"out", "axis", "dtype", "keepdims", "initial"})
        return _reduction(owner, args[0], **options)
    if function in _DOT and len(args) == 3 and not options:
        return [_product(*args)]
    if function in _COPYTO and len(args) == 2:
        demand(options.keys() <= {"casting", "where"})
        return [_copying(*args, **options)]
    if is_array(owner) and name == "take" and len(args) == 4 and not options:
        demand(args[1] is None)
        return [_indexed(TAKE, owner, args[0], args[2], args[3])]
    if function is np.ndarray.put and len(args) == 4 and not options:
        return [_indexed(PUT, *args)]
    raise UnknownError


def is_plain(array: Any) -> TypeGuard[AnyArray]:
    """Return whether a value is an array of numbers that the interpreter can read."""
    return type(array) is np.ndarray and array.dtype.isnative and array.flags.aligned and array.dtype.kind in "biuf"


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if issubclass(type(value), tuple) else (value,)


def _check(arrays: Sequence[Any], outs: int = 1) -> None:
    """Check that the operands are plain arrays, and that no result lies across another operand."""
    for each in arrays:
        demand(is_plain(each) and each.size and min(each.strides, default=0) >= 0)
    for out in arrays[len(arrays) - outs :]:
        demand(out.flags.writeable and 0 not in out.strides)
        for each in arrays:
            demand(each is out or not np.may_share_memory(each, out) or _layout(each) == _layout(out))


def _layout(array: AnyArray) -> tuple[object, ...]:
    return address(array), array.shape, array.strides, array.dtype


def _loop(function: np.ufunc, arrays: Sequence[AnyArray]) -> dict[str, int]:
    demand(getattr(_UMATH, function.__name__, None) is function)  # others may need the interpreter lock
    demand(function is not np.power or arrays[0].dtype.kind == "f")  # it raises errors for integers
    found = replay.loop(function, bytes(each.dtype.num for each in arrays))
    if found is None:
        raise UnknownError
    return {"loop": found[0], "closure": found[1]}


def _shown(array: AnyArray, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of an array that is broadcast to a shape."""
    sizes, missing = array.shape, len(shape) - array.ndim
    demand(missing >= 0)
    for size, whole in zip(sizes, shape[missing:], strict=True):
        demand(size in {1, whole})
    return (*(0,) * missing, *(0 if size == 1 else stride for size, stride in zip(sizes, array.strides, strict=True)))


def merged(strides: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> dict[str, int | list[int] | tuple[int, ...]]:
    """Return the axes in the order of NumPy's iterator, from the inner one outward.

    It sorts them by strides, the smallest inside, and merges neighbors if it can. Axes of length 1 are left out.
    Strides of 0 do not count, and equal ones keep the order of C. The steps of the sort are NumPy's: operands that
    differ in their order may have no order that suits all.

    Source: https://github.com/numpy/numpy/blob/v2.4.0/numpy/_core/src/multiarray/nditer_constr.c, function
    npyiter_find_best_axis_ordering.
    """
    order: list[tuple[int, tuple[int, ...]]] = []  # the inner axis first
    for size, *strides_of in reversed(list(zip(shape, *strides, strict=True))):
        place, way = len(order), tuple(strides_of)
        for before in range(len(order) - 1, -1, -1):
            is_inside = _is_inside(way, order[before][1])
            if is_inside is False:
                break
            place = before if is_inside else place
        if size > 1:
            order.insert(place, (size, way))
    axes: list[tuple[int, tuple[int, ...]]] = []
    for size, way in order:
        if axes and way == tuple(axes[-1][0] * stride for stride in axes[-1][1]):
            axes[-1] = axes[-1][0] * size, axes[-1][1]
        else:
            axes.append((size, way))
    demand(len(axes) <= AXES and len(strides) <= OPERANDS)
    axes = axes or [(1, (0,) * len(strides))]
    table = [stride for _, way in axes for stride in (*way, *(0,) * (OPERANDS - len(way)))]
    return {"axes": len(axes), "shape": [size for size, _ in axes], "strides": table}


def _is_inside(strides: tuple[int, ...], others: tuple[int, ...]) -> bool | None:
    """Return whether an axis belongs inside another one by all strides; None if they tell nothing."""
    pairs = [a < b for a, b in zip(strides, others, strict=True) if a and b]
    return all(pairs) if pairs else None


# ------------------------------------------------------------------------------------------------ calls


def _elementwise(
    function: np.ufunc, args: tuple[Any, ...], *, out: Any = None, dtype: Any = None, casting: str = ""
) -> Operation:
    del casting  # all operands have the dtypes of the inner loop
    outs = _as_tuple(out)
    arrays = (*args, *outs)
    demand(len(args) == function.nin and len(outs) == function.nout)
    _check(arrays, len(outs))
    demand(dtype is None or all(each.dtype == dtype for each in arrays))
    if function is np.matmul:
        return _matrices(*arrays)
    shape: tuple[int, ...] = outs[0].shape
    demand(function.signature is None and all(each.shape == shape for each in outs))
    fields = merged([_shown(each, shape) for each in arrays], shape) | _loop(function, arrays)
    is_exact = function in EXACT or all(each.dtype.kind != "f" for each in outs)
    demand(is_exact or fields["axes"] == 1)  # the loop may round an element by its place, and NumPy may copy to buffers
    return Operation(LOOP, arrays, fields, prod(shape))


def _matrices(a: AnyArray, b: AnyArray, out: AnyArray) -> Operation:
    demand(a.ndim == b.ndim == 2 and not np.may_share_memory(a, out) and not np.may_share_memory(b, out))
    table = [0, 0, 0, *a.strides, *b.strides, *out.strides]
    fields = {"shape": [1, *a.shape, b.shape[1]], "strides": table} | _loop(np.matmul, (a, b, out))
    return Operation(MATMUL, (a, b, out), fields, a.size * b.shape[1])


def _reduction(
    function: np.ufunc,
    array: Any,
    *,
    out: Any,
    axis: Any = 0,
    dtype: Any = None,
    keepdims: bool = False,
    initial: Any = None,
) -> list[Operation]:
    demand(function.nin == 2 and function.signature is None)
    _check((array, out))
    demand(not np.may_share_memory(array, out))
    if dtype is not None and dtype != array.dtype:
        return _wide_sum(function, array, out, axis, dtype)
    given = tuple(range(array.ndim)) if axis is None else _as_tuple(axis)
    reduced = {each % array.ndim for each in given}
    left = [place for place in range(array.ndim) if place not in reduced]
    ways = {place: place if keepdims else k for k, place in enumerate(left)}
    demand(out.dtype == array.dtype and out.ndim == (array.ndim if keepdims else len(left)))
    demand(out.size == prod(array.shape[place] for place in left))
    strides = tuple(out.strides[ways[place]] if place in ways else 0 for place in range(array.ndim))
    found = merged((strides, array.strides), array.shape)
    demand(_keeps_order(found))
    found |= _loop(function, (array, array, array)) | {"size": array.itemsize, "flag": FIRST}
    if initial is None and function.identity is not None:
        initial = np.asarray(function.identity).astype(array.dtype)[()]
    if initial is not None:  # or else NumPy begins with the first element
        demand(isinstance(initial, (bool, int, float, np.generic)) and array.itemsize <= 16)
        with np.errstate(all="ignore"):
            raw = np.array(initial, array.dtype).tobytes().ljust(16, b"\0")
        found |= {"flag": INITIAL, "initial": np.frombuffer(raw, np.int64).tolist()}
    return [Operation(REDUCE, (out, array), found, array.size)]


def _keeps_order(fields: Fields) -> bool:
    """Return whether NumPy's buffers do not change the order of a reduction.

    They may join the inner axis with others, and cut it into pieces. The strides of the first operand, the result, are
    0 along the reduced axes.
    """
    shape, strides, axes = fields["shape"], fields["strides"], fields["axes"]
    assert not isinstance(shape, int)  # noqa: S101  # for the type checkers
    assert not isinstance(strides, int)  # noqa: S101
    assert isinstance(axes, int)  # noqa: S101
    of_result = strides[: axes * OPERANDS : OPERANDS]
    return of_result[0] != 0 or (list(of_result).count(0) == 1 and shape[0] <= _LONGEST)


def _wide_sum(function: np.ufunc, array: AnyArray, out: AnyArray, axis: Any, dtype: Any) -> list[Operation]:
    """The sum of all float32 numbers in float64, in the pieces in which NumPy converts them."""
    is_whole = array.flags.c_contiguous and (axis is None or array.ndim == 1) and out.size == 1
    demand(function is np.add and array.dtype == np.float32 and out.dtype == dtype == np.float64 and is_whole)
    demand(np.getbufsize() == BUFFER and array.size <= BUFFER * _PIECES)
    flat, made = array.reshape(-1), list[Operation]()
    buffer, total = np.empty(min(flat.size, BUFFER)), out.reshape(-1)
    for start in range(0, flat.size, BUFFER):
        piece = flat[start : start + BUFFER]
        into = buffer[: piece.size]
        (adding,) = _reduction(np.add, into, out=total, keepdims=True)
        fields = {**adding.fields, "flag": AS_IT_IS if start else INITIAL}
        made += [_copying(into, piece), Operation(REDUCE, adding.operands, fields, piece.size)]
    return made


def _product(a: Any, b: Any, out: Any) -> Operation:
    """Return ``np.dot`` of two matrices, or of a vector and a matrix, as NumPy passes it to BLAS."""
    _check((a, b, out))
    letter = {"f": "s", "d": "d"}.get(a.dtype.char)
    demand(PRODUCTS and letter and a.dtype == b.dtype == out.dtype and out.flags.c_contiguous)
    demand(not any(np.may_share_memory(x, y) for x, y in ((a, b), (a, out), (b, out))))
    demand(1 not in (*a.shape, *b.shape) and a.ndim + b.ndim > 2 and max(a.ndim, b.ndim) == 2)
    demand(a.shape[-1] == b.shape[0] and out.shape == (*a.shape[:-1], *b.shape[1:]))
    demand(PRODUCTS["wide"] or max(*a.shape, *b.shape) < _LIMIT)
    if a.ndim == 2 and b.ndim == 2:
        return _of_matrices(a, b, out, PRODUCTS[f"{letter}gemm"])
    vector, matrix, form = (a, b, _TRANSPOSED) if a.ndim == 1 else (b, a, _PLAIN)
    demand(vector.strides[0] > 0)
    stride, order = _stride_of(matrix), _ROWS if matrix.flags.c_contiguous else _COLUMNS
    sizes = {"m": len(matrix), "n": matrix.shape[1], "right_stride": stride}
    left = {"left_stride": vector.strides[0] // vector.itemsize, "loop": PRODUCTS[f"{letter}gemv"]}
    kind = {"size": a.itemsize, "flag": PRODUCTS["wide"], "order": order, "right_form": form}
    return Operation(GEMV, (vector, matrix, out), kind | sizes | left, matrix.size)


def _of_matrices(a: AnyArray, b: AnyArray, out: AnyArray, product: int) -> Operation:
    forms = [_PLAIN if each.flags.c_contiguous else _TRANSPOSED for each in (a, b)]
    left = {"left_form": forms[0], "left_stride": _stride_of(a)}
    right = {"right_form": forms[1], "right_stride": _stride_of(b)}
    sizes = {"size": a.itemsize, "flag": PRODUCTS["wide"], "m": len(a), "n": b.shape[1], "k": len(b)}
    fields = sizes | left | right | {"order": _ROWS, "loop": product}
    return Operation(GEMM, (a, b, out), fields, a.size * b.shape[1])


def _stride_of(matrix: AnyArray) -> int:
    """Return the distance between two rows, or two columns, of a matrix without gaps."""
    demand(matrix.ndim == 2 and matrix.flags.forc)
    return matrix.shape[1] if matrix.flags.c_contiguous else len(matrix)


def _copying(target: Any, source: Any, *, casting: str = "same_kind", where: Any = None) -> Operation:
    demand(casting in {"same_kind", "unsafe"} and is_plain(target))
    with np.errstate(all="ignore"):
        given: Any = np.array(source, target.dtype) if type(source) is float and target.dtype.kind == "f" else source
    arrays = (given, target) if where is None else (given, where, target)
    _check(arrays)
    name = f"{given.dtype.name}_{target.dtype.name}"
    if given.dtype == target.dtype:
        name = f"{'copy' if where is None else 'masked'}_{target.itemsize}"
    demand(name in replay.copies and (where is None or (where.dtype == np.bool_ and given.dtype == target.dtype)))
    shape: tuple[int, ...] = target.shape
    fields = merged([_shown(each, shape) for each in arrays], shape) | {"loop": replay.copies[name]}
    return Operation(LOOP, arrays, fields, target.size)


def _indexed(kind: int, inside: Any, indices: Any, other: Any, mode: Any) -> Operation:
    _check((indices, other, inside) if kind == PUT else (inside, indices, other))
    demand(mode == "clip" and all(each.flags.c_contiguous for each in (inside, indices, other)))
    demand(indices.dtype == np.int64 and inside.dtype == other.dtype and indices.size == other.size)
    demand(not any(np.may_share_memory(inside, each) for each in (indices, other)))
    fields = {"m": indices.size, "n": inside.size, "size": inside.itemsize}
    return Operation(kind, (inside, indices, other), fields, indices.size)
