"""Functions as operations of a trace: ``whole`` for those that are one, ``attempt`` for those that may become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np

from funcnet.core.arrays import AnyArray
from funcnet.tracing.ducks import call, is_dense, recorded
from funcnet.tracing.recorder import (
    Duck,
    NotTraceable,
    Opaque,
    Tape,
    address,
    byte_bounds,
    is_array,
    name_of,
    raw,
    recording,
)
from funcnet.tracing.structure import leaves_of, skeleton_of, structure_of, with_leaves

P = ParamSpec("P")
R = TypeVar("R")

_HERE: Final = __file__.removesuffix("functions.py"), __file__.replace("tracing/functions", "replay")
_NUMPY: Final = (np.__file__ or "").removesuffix("__init__.py")


class Changed(Exception):  # noqa: N818  # never leaves a replay
    """A function gave something of another structure than in the trace."""


def whole(function: Callable[P, R]) -> Callable[P, R]:
    """Make a pure function one operation of a trace: it gets plain arrays and numbers, and may look at them.

    Outside of a trace it is the function itself. Use it for a function of your own that asks for numbers
    (``float(x)``), or that calls code which is not NumPy's.

    Args:
        function: A pure function of arrays, numbers, and tuples and records of them, to the same.

    Example:
        >>> import funcnet as fn
        >>> @fn.whole
        ... def largest(x):
        ...     return float(x.max())
        >>> largest(np.array([1.0, 3.0]))
        3.0
    """

    @wraps(function)
    def of_copies(*args: P.args, **kwargs: P.kwargs) -> R:
        values: Any = copies([*args, *kwargs.values()])
        return function(*values[: len(args)], **dict(zip(kwargs, values[len(args) :], strict=True)))

    of_copies.of_copies = True  # type: ignore[attr-defined]  # what is equal stays apart
    made: Any = of_copies

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        tape = recording()
        given = (*args, *kwargs.values())
        ducks = 0 if tape is None else sum(isinstance(leaf, Duck) for leaf in leaves_of(given))
        if tape is None or not ducks:
            return function(*args, **kwargs)
        if sum(isinstance(arg, Duck) for arg in given) < ducks:  # some stand inside of records
            return one_operation(tape, function, (args, kwargs))
        result: R = call(tape, made, args, kwargs)
        return result

    run.in_one_operation = True  # type: ignore[attr-defined]  # what a value that varies asks its methods
    return run


def attempt(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a pure function; in a trace, record it as one operation if it cannot be traced."""
    tape = recording()
    if tape is None:
        return function(*args, **kwargs)
    mark = tape.mark()
    tape.path.append(name_of(function))
    try:
        try:
            result = function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # as one operation it raises its own error, or none
            tape.refused = tape.refused or f"it raised {type(error).__name__}: {error}"
            place = place_of(error)
        except NotTraceable as refusal:
            place = place_of(refusal)
        else:
            if not tape.refused:
                tape.refused = mark[2]
                return result
            place = ""
        tape.opaque.append(Opaque(" ".join(tape.path), tape.refused, place))
        tape.rewind(mark)
        return one_operation(tape, function, (args, kwargs))
    finally:
        tape.path.pop()


def place_of(error: BaseException) -> str:
    """The line outside of this folder where it was raised."""
    place, step = "", error.__traceback__
    while step is not None:
        name = step.tb_frame.f_code.co_filename
        if not name.startswith((*_HERE, _NUMPY)):
            place = f"{name}:{step.tb_lineno}"
        step = step.tb_next
    return place


def one_operation(tape: Tape, function: Callable[..., R], arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> R:
    """Record a function's call as one operation on copies of its arrays: it never sees a buffer."""
    args, kwargs = arguments
    given, names = (args, tuple(kwargs.values())), tuple(kwargs)
    ducks = [leaf for leaf in leaves_of(given) if isinstance(leaf, Duck)]
    leaves = [None if isinstance(leaf, Duck) else leaf for leaf in leaves_of(given)]
    skeleton = skeleton_of(given)
    expected: list[Any] = []
    results: list[R] = []

    def run(*values: Any) -> list[Any]:
        fresh = iter(copies(values))
        plain = with_leaves(skeleton, iter([next(fresh) if leaf is None else leaf for leaf in leaves]))
        result = function(*plain[0], **dict(zip(names, plain[1], strict=True)))
        if not expected:
            expected.append(structure_of(result))
            results.append(result)
        elif structure_of(result) != expected[0]:
            raise Changed
        return leaves_of(result)

    run.__qualname__ = name_of(function)
    values = [leaf.copy("K") if is_array(leaf) else leaf for leaf in tape.run(run, [raw(duck) for duck in ducks], {})]
    if any(is_array(leaf) and not is_dense(leaf) for leaf in values):
        tape.refuse("an array with gaps in its memory came out")
    made = recorded(tape, "call", run, tape.encode(tuple(ducks), []), values, unique=True, many=True)
    return with_leaves(results.pop(), iter(made))


def copies(values: Sequence[Any]) -> list[Any]:
    """The values, with locked copies of arrays: in the memory order that they have; what is one memory stays one."""
    blocks: dict[tuple[int, int], AnyArray] = {}
    return [_copied(value, blocks) if type(value) is np.ndarray else value for value in values]


def _copied(array: AnyArray, blocks: dict[tuple[int, int], AnyArray]) -> AnyArray:
    low, high = byte_bounds(array)
    if (low, high) not in blocks:
        blocks[low, high] = np.empty(high - low, np.uint8)
    made: AnyArray = np.ndarray(array.shape, array.dtype, blocks[low, high].data, address(array) - low, array.strides)
    made[...] = array
    made.flags.writeable = False
    return made
