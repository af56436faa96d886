"""Passes over the operations of a tape before a program is written: remove, reorder, convert masks to floats."""

from __future__ import annotations

import operator
from typing import Any, Final

import numpy as np
from attrs import evolve

from funcnet.tracing.recorder import Op, Ref, Scalar, Value, parts_of

_TOTAL: Final = {
    *(np.ndarray.dot, np.dot, np.matmul, np.where, np.concatenate, np.stack, np.sort, np.einsum),
    *(np.mean, np.std, np.var, np.ndarray.mean, np.ndarray.std, np.ndarray.var),
    *(np.ndarray.reshape, np.ndarray.ravel, np.ndarray.flatten),
    *(operator.add, operator.sub, operator.mul, operator.neg, operator.abs),
    *(operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne),
}
"""Functions that raise no error for different numbers in arrays of the same shapes."""
_FORGIVING: Final = ("clip", "wrap")


def refs_in(operands: Any) -> list[Ref]:
    """Return the arrays among the operands."""
    return [part for part in parts_of(operands) if type(part) is Ref]


def is_elementwise(op: Op) -> bool:
    """Return whether each element of the result depends only on the operands' elements at the same position."""
    return op.kind == "copy" or (op.kind == "ufunc" and op.func.signature is None)


def can_fail(op: Op) -> bool:
    """Return whether a step may end at this operation, by a guard or by an error."""
    return op.kind in ("guard", "call", "scalar", "mutate") or _depends_on_integers(op)


def _depends_on_integers(op: Op) -> bool:
    """Return whether a ufunc or a copy raises an error for some integers: a negative power, or a number out of range.

    A ufunc from outside NumPy may raise any error.
    """
    if op.kind not in ("ufunc", "reduce", "copy"):
        return False
    if op.func is not None and not hasattr(np, op.func.__name__):
        return True
    is_power = op.func is np.power and op.out.array.dtype.kind in "iu"
    return is_power or any(isinstance(x, Scalar) and isinstance(x.value, int) for x in op.args)


def _may_raise(op: Op) -> bool:
    """Return whether different numbers may raise an error, which a caller may see even if the result is not read."""
    if op.func in (np.ndarray.take, np.ndarray.put):
        return not any(type(x) is str and x in _FORGIVING for x in (*op.args[1:], *op.kwargs.values()))
    return _depends_on_integers(op) or (op.kind in ("call", "scalar", "mutate") and op.func not in _TOTAL)


def live(ops: list[Op], wanted: set[Value | Scalar]) -> list[Op]:
    """Return the operations that ``wanted``, the guards and the operations that may raise an error depend on."""
    needed, kept = set(wanted), list[Op]()
    for op in reversed(ops):
        if op.kind == "guard" or _may_raise(op) or not needed.isdisjoint(op.outs):
            needed.update(op.reads())
            kept.append(op)
    return kept[::-1]


def early(ops: list[Op]) -> list[Op]:
    """Put first the operations and guards that need only the step's numbers: a failing guard then stops early."""
    known: set[Value | Scalar] = set()
    first, rest = list[Op](), list[Op]()
    for op in ops:
        needs = {value for value in op.reads() if isinstance(value, Value) or value.op.kind != "input"}
        if op.kind in ("scalar", "guard") and known.issuperset(needs):
            known.update(op.outs)
            first.append(op)
        else:
            rest.append(op)
    return first + rest


def float_masks(ops: list[Op]) -> list[Op]:
    """Convert boolean operands to float first: within a float operation, NumPy would convert them in small pieces."""
    made: dict[object, Ref] = {}
    result: list[Op] = []
    for op in ops:
        if op.kind == "ufunc" and op.func in (np.add, np.subtract, np.multiply):
            args = tuple(_as_float(arg, op, made, result) for arg in op.args)
            if args != op.args:
                op = evolve(op, args=args)  # noqa: PLW2901  # replaces the operation
                for out in op.outs:
                    out.op = op
        result.append(op)
    return result


def _computes_in(x: Any, dtype: np.dtype[Any]) -> bool:
    """Return whether an operand is a float that makes an operation with booleans compute in this dtype."""
    x = x.value if type(x) is Scalar else getattr(x, "array", x)
    return dtype == (np.float64 if type(x) is float else getattr(x, "dtype", None))


def _as_float(arg: Any, op: Op, made: dict[object, Ref], ops: list[Op]) -> Any:
    dtype, shape = op.out.array.dtype, op.out.array.shape
    mask = type(arg) is Ref and arg.dtype == np.bool_ and arg.is_whole and arg.shape == shape and dtype.kind == "f"
    if not mask or not any(_computes_in(x, dtype) for x in op.args):
        return arg
    if (arg, dtype) not in made:
        copy = Op("copy", None, (arg,), place=op.place)
        copy.outs = [Value(np.empty_like(arg.value.array, dtype), copy)]
        ops.append(copy)
        made[arg, dtype] = copy.out.whole
    return made[arg, dtype]
