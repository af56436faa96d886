"""Slabs: the writer of a program that computes one step of many states at once, with the bits of each of them alone.

The program of one state is given a leading axis by its memory alone. A block of n bytes becomes one *slab* for each of
R states, and every array in the block gets one axis in front, whose stride is the size of a slab. A NumPy call then
does in each slab what the call of the program of one state does in its block::

    t1 = np.ndarray((16, 32), '<f4', m0)      t1 = np.ndarray((64, 16, 32), '<f4', m0, 0, (2048, 128, 4))
    np.add(t1, bias, out=t1)                  np.add(t1, t2, out=t1)     t2 is bias with the shape (64, 1, 32)

Places in memory, their reuse and the merging of operations are those of one state. What differs is how an operation is
called:

- Elementwise: an operand of lower rank gets axes of length 1 behind the first one.
- A product of matrices or of a vector and a matrix without gaps, of more than one number each: ``np.matmul``, which
  calls BLAS for each state as ``np.dot`` does. Rows of several states are never merged into one product, because BLAS
  rounds that differently.
- A reduction and ``np.concatenate``: each axis + 1. ``take`` and ``put`` with flat indices: the indices of each
  state plus the position of its slab, after a check of their range.
- A number that is the same for all states remains one number. A number that differs between states ("apart") is a list,
  computed by a comprehension. Beside arrays, it is an array of shape (R, 1, ...) of their dtype.
- A guard must hold for all states.
- Everything else (functions that could not be traced, rare functions, operands with gaps): the call of one state, in a
  loop over the states.

Slabs are a multiple of 64 bytes apart, because BLAS and vectorized loops may round an element differently depending on
its alignment, and at least 128. Some of NumPy's loops over numbers that lie apart are wrong: in NumPy 2.4, those of
``np.negative`` for float64 with strides of 64 bytes, and of ``np.isfinite`` and ``np.signbit`` into booleans that lie
apart. A function of one number per state is therefore tried with its strides before it is used so (``is_sound``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from math import prod
from typing import Any, Final

import numpy as np
from attrs import evolve

from funcnet.tracing.fusion import ALIGNMENT, Flats, padded
from funcnet.tracing.recorder import Const, Op, Ref, Scalar, Value, c_strides, kind_of, layout, name_of, parts_of
from funcnet.tracing.writer import Buffer, Room, Writer

_TRIED: Final = 67
"""The number of elements of a trial of a loop: more than any vectorized loop takes at once."""
_SPECIAL: Final = (np.nan, np.inf, 0.0, -0.0, 0.0)
"""Floats that follow each other in a trial, so that neighbors are zeros of both signs in both orders."""


def slab_of(nbytes: int) -> int:
    """Return the size of a slab that holds a number of bytes."""
    return max(padded(nbytes), 2 * ALIGNMENT)


class SlabWriter(Writer):
    """Writes the source of a program for many states.

    Args:
        ops: The operations of one state, in order.
        flats: The columns that lie side by side.
        starts: The offset of each array of the state in the state's slab.
        names: The names in the source, first for each argument, then for each array of the state.
        many: The number of states, the size of the slab of a state, and the numbers that may differ between states.
    """

    def __init__(
        self,
        ops: list[Op],
        flats: Flats,
        starts: Mapping[int, int],
        names: Sequence[str],
        many: tuple[int, int, frozenset[Scalar]],
    ) -> None:
        super().__init__(ops, flats, starts, names)
        self._count, self._slab, apart = many
        self.apart = set(apart)
        self.room = Room(2 * ALIGNMENT)
        self._given: list[tuple[Value, str]] = []  # the arguments that are arrays, and their names
        self._rank = 0  # the rank that operands have at least, beside the axis of the states
        self._loop: dict[str, str] | None = None  # in a loop over states: each list, and the name of its item

    # ------------------------------------------------------------------------------------------ memory and names

    def _size(self, block: Buffer) -> str:
        return f"{self._count} * {block.nbytes}"

    def _place_argument(self, value: Value, name: str) -> None:
        """Give an argument slabs of its own; ``run`` gets an array for each state and copies it there."""
        self._given.append((value, name))
        self.room.take(value)

    def _place_state(self, state: list[tuple[Value, Value]]) -> None:
        super()._place_state(state)
        for value, name in self._given:
            if value in self._last:
                self._call("copyto", self._name(value.whole), name)

    def _axes(self, ref: Ref) -> tuple[tuple[int, ...], tuple[int, ...]]:
        block: Buffer = self._at(ref.value)[0]
        ones = max(self._rank - len(ref.shape), 0)
        shape = self._count, *[1] * ones, *ref.shape
        return shape, (self._slab_of(block), *[0] * ones, *ref.strides)

    def _slab_of(self, block: Buffer) -> int:
        return self._slab if block.is_state else block.nbytes

    def _name(self, ref: Ref) -> str:
        name = super()._name(ref)
        return name if self._loop is None else self._item(self._defined(f"each({name})"))

    def _expression(self, x: Any) -> str:
        if self._loop is not None and kind_of(x) is Scalar and x in self.apart:
            return self._item(self._scalars[x])
        return super()._expression(x)

    def _cell(self, scalar: Scalar, dtype: np.dtype[Any]) -> str:
        if scalar not in self.apart:
            return super()._cell(scalar, dtype)
        name, key = f"k{len(self._names)}", (scalar, dtype, self._loop is None)
        if self._loop is not None:
            name = self._define(key, name, f"np.zeros((), {dtype.str!r})")
            self._line(f"{name}.fill({self._expression(scalar)})")
            return name
        if key not in self._names:
            self._line(f"{name}[:] = {self._scalars[scalar]}")
        name = self._define(key, name, f"np.zeros({self._count}, {dtype.str!r})")
        return self._defined(f"{name}.reshape({(self._count, *[1] * self._rank)})") if self._rank else name

    # ------------------------------------------------------------------------------------------ state by state

    def _item(self, of: str) -> str:
        """Return the name of an item of a list in the loop over states."""
        assert self._loop is not None  # noqa: S101  # for the type checkers
        return self._loop.setdefault(of, f"i{len(self._loop)}")

    def _write_each(self, write: Callable[[Op], None], op: Op) -> None:
        """Write an operation as the program of one state does, in a loop over the states."""
        self._rank, self._loop = 0, {}
        place, self._place = self._place, op.place
        body, self._body = self._body, []
        calls = self.calls
        write(op)
        numbers = [out for out in op.outs if isinstance(out, Scalar)]
        lines, self._body, loop, self._loop = self._body, body, self._loop, None
        self._place = place
        for number in numbers:
            name = self._scalars[number]
            self._line(f"{name}s = []")
            lines.append(f"{name}s.append({name})")
            self._scalars[number] = f"{name}s"
            self.apart.add(number)
        self._line(f"for {_over(loop)}:", op.place)
        self._body += [f"    {line}" for line in lines]
        self.calls += (self._count - 1) * (self.calls - calls)
        self.looped.append(name_of(op.func) if op.func is not None else op.kind)

    # --------------------------------------------------------------------------------------------- operations

    def _write_ufunc(self, op: Op) -> None:
        self._rank = _rank_of(op)
        if op.func is np.matmul and not op.kwargs:
            is_one_call = all(len(_shape_of(x)) >= 2 for x in op.args)
        else:
            is_one_call = op.func.signature is None and self._is_aligned(op) and self._is_sound(op)
        if is_one_call:
            super()._write_ufunc(op)
        else:
            self._write_each(super()._write_ufunc, op)

    def _write_copy(self, op: Op) -> None:
        self._rank = _rank_of(op)
        if self._is_aligned(op) and not self._differing(op):
            super()._write_copy(op)
        else:
            self._write_each(super()._write_copy, op)

    def _is_aligned(self, op: Op) -> bool:
        """Return whether NumPy's broadcasting aligns the operands of an elementwise operation for all states."""
        if any(len(_shape_of(x)) > self._rank for x in parts_of((op.args, op.kwargs))):
            return False
        numbers = self._differing(op)
        if not numbers:
            return True
        dtype = self._common(op) if op.kind == "ufunc" else None
        is_common = dtype is not None and all(_is_of(kind_of(number.value), dtype) for number in numbers)
        return is_common and not self._differing(op, kwargs=True)

    def _common(self, op: Op) -> np.dtype[Any] | None:
        floats = all(type(x.value if type(x) is Scalar else x) is float for x in op.args)
        return np.dtype(np.float64) if floats and self._loop is None else super()._common(op)

    def _operand(self, x: Any, dtype: np.dtype[Any] | None) -> str:
        if dtype is not None and self._loop is None and kind_of(x) is Scalar and x in self.apart:
            return self._cell(x, dtype)
        return super()._operand(x, dtype)

    def _differing(self, op: Op, *, kwargs: bool = False) -> list[Scalar]:
        """Return the numbers that an operation reads and that differ between states."""
        return [
            x for x in parts_of(op.kwargs if kwargs else (op.args, op.kwargs)) if type(x) is Scalar and x in self.apart
        ]

    def _is_sound(self, op: Op) -> bool:
        """Return whether the loop of a ufunc over one number per state is right, and whether it is such a loop."""
        outs = [(op.into or out.whole)._replace(value=out) for out in op.outs if isinstance(out, Value)]
        if prod(outs[0].shape) != 1:
            return True
        common = self._common(op)
        operands = tuple(self._spaced(x, common) for x in op.args)
        made = tuple(self._spaced(out, None) for out in outs)
        return is_sound(op.func, operands, made, tuple(sorted(op.kwargs.items())) if _is_plain(op) else ())

    def _spaced(self, x: Any, common: np.dtype[Any] | None) -> tuple[np.dtype[Any], int]:
        """Return the dtype of an operand, and the distance between the numbers of two states."""
        if type(x) is Ref:
            return x.dtype, self._slab_of(self._at(x.value)[0])
        if type(x) is Const:
            return x.array.dtype, 0
        number = x.value if type(x) is Scalar else x
        dtype = np.asarray(number).dtype if common is None or isinstance(number, np.generic) else common
        return dtype, dtype.itemsize if type(x) is Scalar and x in self.apart else 0

    def _write_reduce(self, op: Op) -> None:
        x, self._rank = op.args[0], 0
        if type(x) is not Ref or len(op.args) > 1 or "where" in op.kwargs or self._differing(op):
            self._write_each(super()._write_reduce, op)
            return
        axis: Any = op.kwargs.get("axis", 0)
        axes: Iterable[int] = range(len(x.shape)) if axis is None else axis if kind_of(axis) is tuple else (axis,)
        moved = tuple(each % len(x.shape) + 1 for each in axes)
        super()._write_reduce(evolve(op, kwargs={**op.kwargs, "axis": moved[0] if len(moved) == 1 else moved}))

    def _write_mutate(self, op: Op) -> None:
        self._rank = 0
        if op.func is not np.ndarray.put or not self._put(op):
            self._write_each(super()._write_mutate, op)

    def _write_call(self, op: Op) -> None:
        self._rank = 0
        if not any(isinstance(x, Value) or x in self.apart for x in op.reads()):
            self._write_any_call(op, [self._expression(x) for x in op.args], self._options(op))
        elif not self._is_one_call(op):
            self._write_each(super()._write_call, op)

    def _is_one_call(self, op: Op) -> bool:
        """Write a call for all states; return False if there is none."""
        if self._differing(op):
            return False
        if op.func in (np.dot, np.ndarray.dot):
            return len(op.args) == 2 and not op.kwargs and self._dot(op)
        if op.func is np.ndarray.take:
            return self._take(op)
        if op.func is np.concatenate:
            return self._concatenate(op)
        if op.func is np.where and type(op.args[0]) is Ref and op.args[0].dtype == np.bool_:
            self._rank = len(op.out.array.shape)
            if self._is_aligned(op):
                super()._write_call(op)
                return True
        return False

    def _dot(self, op: Op) -> bool:
        """Write a product of matrices, or of a vector and a matrix; return False for other products."""
        a, b = op.args
        ranks = len(_shape_of(a)), len(_shape_of(b))
        dtypes = {x.dtype if type(x) is Ref else x.array.dtype for x in op.args}
        is_blas = len(dtypes) == 1 and dtypes <= {np.dtype(np.float32), np.dtype(np.float64)}
        if ranks not in ((2, 2), (1, 2), (2, 1)) or not is_blas or not (_is_dense(a) and _is_dense(b)):
            return False
        if 1 in (prod(_shape_of(a)), prod(_shape_of(b))):  # then np.dot multiplies by a number, and np.matmul does not
            return False
        out = op.out.whole
        names = [self._matrix(a, 0), self._matrix(b, 1)]
        into = self._matrix(out, 1) if ranks == (2, 1) else self._matrix(out, 0)
        self._call("np.matmul", *names, f"out={into}", place=op.place)
        return True

    def _matrix(self, x: Any, axis: int) -> str:
        """Return an operand of a product; a vector gets an axis of length 1 here, before or behind its own one."""
        if type(x) is Const:
            name = self._expression(x)
            return name if x.array.ndim == 2 else self._defined(f"{name}[{':, None' if axis else 'None'}]")
        if len(x.shape) == 1:
            x = x._replace(shape=(*x.shape, 1) if axis else (1, *x.shape), strides=x.strides * 2)
        return self._name(x)

    def _concatenate(self, op: Op) -> bool:
        parts, *rest = op.args
        axis = {**dict(zip(("axis",), rest, strict=False)), **op.kwargs}.get("axis", 0)
        if type(axis) is not int or set(op.kwargs) - {"axis"} or not all(type(part) is Ref for part in parts):
            return False
        moved = axis % len(op.out.array.shape) + 1
        self._call("np.concatenate", self._expression(parts), f"{moved}", self._into(op), place=op.place)
        return True

    def _take(self, op: Op) -> bool:
        """Write ``take`` with flat indices of all states; return False for another ``take``."""
        given = dict(zip(("indices", "axis", "out", "mode"), op.args[1:], strict=False)) | op.kwargs
        source, mode = op.args[0], given.get("mode", "raise")
        if given.get("axis") is not None or type(source) is not Ref or type(given["indices"]) is not Ref:
            return False
        indices = self._flat_indices(given["indices"], source, mode, op)
        if not indices:
            return False
        self._call(f"{self._all_of(source)}.take", indices, "None", self._into(op), "'clip'", place=op.place)
        return True

    def _put(self, op: Op) -> bool:
        """Write ``put`` with flat indices of all states; return False for another ``put``."""
        target = op.out.whole if op.into is None else op.into._replace(value=op.out)
        indices, values, mode = op.args
        if type(indices) is not Ref or type(values) is not Ref or values.shape != indices.shape:
            return False
        flat = self._flat_indices(indices, target, mode, op)
        if not flat:
            return False
        self._call("np.ndarray.put", self._all_of(target), flat, self._name(values), "'clip'", place=op.place)
        return True

    def _flat_indices(self, indices: Ref, source: Ref, mode: object, op: Op) -> str:
        """Return the indices into ``_all_of(source)``, limited to the range of each state; "" if there is no form."""
        size, slab = prod(source.shape), self._slab_of(self._at(source.value)[0])
        is_flat = source.strides == c_strides(source.shape, source.dtype) and not slab % source.dtype.itemsize
        if mode not in ("clip", "raise") or not is_flat or indices.dtype != np.intp or not size:
            return ""
        shape = self._count, *indices.shape
        key = self._key(indices), indices.value, size, slab // source.dtype.itemsize
        name = f"k{len(self._names)}"
        if key not in self._names:
            self._define(key, name, f"np.empty({shape}, '{np.dtype(np.intp).str}')")
            starts = f"np.arange({self._count}).reshape({(self._count, *[1] * len(indices.shape))})"
            starts = self._defined(f"{starts} * {key[-1]}")
            given = self._name(indices)
            if mode == "raise":
                self._line(f"if {given}.min() < 0 or {given}.max() >= {size}: return None", op.place)
                self._call("np.add", given, starts, f"out={name}")
            else:
                self._call("np.maximum", given, "0", f"out={name}", place=op.place)
                self._call("np.minimum", name, f"{size - 1}", f"out={name}")
                self._call("np.add", name, starts, f"out={name}")
        return self._names[key]

    def _all_of(self, ref: Ref) -> str:
        """Return the name of a row of all numbers in the slabs of all states, from an operand's first one on."""
        block, start = self._at(ref.value)
        offset = start + ref.offset
        count = (self._slab_of(block) * self._count - offset) // ref.dtype.itemsize
        return self._defined(f"np.ndarray({count}, {ref.dtype.str!r}, {block.name}, {offset})")

    # ------------------------------------------------------------------------------------------------ numbers

    def _write_scalar(self, op: Op) -> None:
        self._rank = 0
        if not any(isinstance(x, Value) or x in self.apart for x in op.reads()):
            super()._write_scalar(op)
        elif op.kind == "guard":
            x, of = op.args[0], "all" if op.func else "any"
            text = f"{self._name(x)}.{of}()" if type(x) is Ref else f"{of}({self._expression(x)})"
            self._line(f"if {'not ' if op.func else ''}{text}: return None", op.place)
        elif op.kind == "item" and type(op.args[0]) is Ref:
            name = self._name(op.args[0])
            self._write_apart(op, f"{name}.tolist()" if op.func is None else f"list({name})")
        else:
            self._loop = {}
            text = self._number(op)
            loop, self._loop = self._loop, None
            self._write_apart(op, f"[{text} for {_over(loop)}]")

    def _write_apart(self, op: Op, text: str) -> None:
        self._write_number(op, text)
        self.apart.update(out for out in op.outs if isinstance(out, Scalar))


def _over(loop: Mapping[str, str]) -> str:
    """Return the head of a loop over lists."""
    if len(loop) == 1:
        ((of, item),) = loop.items()
        return f"{item} in {of}"
    return f"{', '.join(loop.values())} in zip({', '.join(loop)})"


def _shape_of(x: Any) -> tuple[int, ...]:
    """Return the shape of an operand; () for a number."""
    return x.shape if type(x) is Ref else x.array.shape if type(x) is Const else ()


def _rank_of(op: Op) -> int:
    """Return the rank of what an operation writes."""
    out: Any = op.into or op.outs[0]
    return len(out.shape if type(out) is Ref else out.array.shape)


def _is_dense(x: Any) -> bool:
    """Return whether a vector or a matrix has elements, and no gaps between them."""
    shape, strides, dtype = x[2:] if type(x) is Ref else layout(x.array)
    return 0 not in shape and (strides == c_strides(shape, dtype) or strides[::-1] == c_strides(shape[::-1], dtype))


def _is_of(kind: Any, dtype: np.dtype[Any]) -> bool:
    """Return whether an array of a dtype beside others of this dtype computes as a number of this type does."""
    return dtype.kind == "f" if kind in (int, float) else kind is dtype.type


def _is_plain(op: Op) -> bool:
    return all(isinstance(x, (str, type, np.dtype)) for x in op.kwargs.values())


# ----------------------------------------------------------------------------------------------------- trials


@cache
def is_sound(
    function: np.ufunc,
    operands: tuple[tuple[np.dtype[Any], int], ...],
    results: tuple[tuple[np.dtype[Any], int], ...],
    options: tuple[tuple[str, Any], ...] = (),
) -> bool:
    """Return whether a ufunc computes numbers that lie apart as it computes each of them alone.

    Args:
        function: The ufunc, which is tried on a few numbers. Each operand has those of the operand before it, moved by
            one place. An operand that all states share is one number in each trial.
        operands: The dtype of each operand, and the distance in bytes between its numbers.
        results: The same for each result.
        options: The ufunc's options, such as its dtype.
    """
    outs = tuple(_apart(dtype, distance) for dtype, distance in results)
    alone = tuple(np.empty(_TRIED, dtype) for dtype, _ in results)
    for turn in range(len(_SPECIAL) + 1):
        inputs = [_apart(*operand) for operand in operands]
        for place, x in enumerate(inputs):
            x[...] = np.roll(_numbers(x.dtype), turn + place)
        try:
            with np.errstate(all="ignore"):
                function(*inputs, out=outs, **dict(options))
                for i in range(_TRIED):
                    function(*(x[i, ...] for x in inputs), out=tuple(each[i, ...] for each in alone), **dict(options))
        except Exception:  # noqa: BLE001  # what cannot be tried is not used
            return False
        if any(made.tobytes() != each.tobytes() for made, each in zip(outs, alone, strict=True)):
            return False
    return True


def _apart(dtype: np.dtype[Any], distance: int) -> np.ndarray[Any, Any]:
    """Return an array of zeros that lie apart, as they do in slabs."""
    block = np.zeros(_TRIED * max(distance, dtype.itemsize) + ALIGNMENT, np.uint8)
    start = -block.__array_interface__["data"][0] % ALIGNMENT
    return np.ndarray((_TRIED,), dtype, block.data, start, (distance,))


def _numbers(dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return different numbers of both signs; the last ones, which a shared operand takes in turn, are special."""
    numbers = (np.arange(_TRIED) * 29 % _TRIED - _TRIED // 2) * (0.75 if dtype.kind == "f" else 1)
    if dtype.kind == "f":
        numbers[-len(_SPECIAL) :] = _SPECIAL
    with np.errstate(all="ignore"):
        return (numbers % 2 if dtype.kind == "b" else numbers).astype(dtype)
