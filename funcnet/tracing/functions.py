"""Functions that become single operations of a trace: always (``whole``), or if they cannot be traced (``attempt``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from types import MethodType
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np
from attrs import frozen

from funcnet.core.arrays import AnyArray
from funcnet.tracing.ducks import call, recorded
from funcnet.tracing.recorder import (
    Duck,
    NotTraceable,
    Opaque,
    Tape,
    address,
    byte_bounds,
    is_array,
    kind_of,
    name_of,
    raw,
    recording,
)
from funcnet.tracing.structure import fields_of, leaves_of, skeleton_of, structure_of, with_leaves

P = ParamSpec("P")
R = TypeVar("R")

_HERE: Final = __file__.removesuffix("functions.py"), __file__.replace("tracing/functions", "replay")
_NUMPY: Final = (np.__file__ or "").removesuffix("__init__.py")


class Changed(Exception):  # noqa: N818  # never leaves a replay
    """Raised in a replay when a function returns a result whose structure differs from the trace's."""


def whole(function: Callable[P, R]) -> Callable[P, R]:
    """Make a pure function a single operation of a trace. It receives plain arrays and numbers and may read them.

    Outside a trace, the result behaves exactly as ``function``. Use it for a function that converts arrays to numbers
    (``float(x)``) or that calls code outside NumPy.

    Args:
        function: A pure function. Its arguments and its result are arrays, numbers, or tuples and records of them.

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

    of_copies.of_copies = True  # type: ignore[attr-defined]  # keeps equal arguments apart
    made: Any = of_copies

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        tape = recording()
        if tape is None or not _has_ducks((*args, *kwargs.values())):
            return function(*args, **kwargs)
        values, named = (
            tuple(_as_number(tape, x) for x in args),
            {name: _as_number(tape, x) for name, x in kwargs.items()},
        )
        if any(not isinstance(x, Duck) and _has_ducks(x) for x in (*values, *named.values())):  # in tuples or records
            return one_operation(tape, function, (args, kwargs))
        result: R = call(tape, made, values, named)
        return result

    run.in_one_operation = True  # type: ignore[attr-defined]  # Number.__getattr__ looks for it
    return run


def _has_ducks(tree: object) -> bool:
    return any(isinstance(leaf, Duck) for leaf in leaves_of(tree))


def _as_number(tape: Tape, x: Any) -> Any:
    """Return a record of numbers, some of which vary, as one number: a key whose seed varies is a key that varies."""
    leaves = leaves_of(x)
    if not fields_of(kind_of(x)) or not _has_ducks(x) or any(map(is_array, leaves)):
        return x
    value = with_leaves(x, iter(raw(leaves)))
    return recorded(tape, "scalar", _Filled(skeleton_of(x)), tape.encode(tuple(leaves)), [value])[0]


@frozen
class _Filled:
    """The function that returns a record with the given numbers."""

    skeleton: Any

    def __call__(self, *leaves: object) -> Any:
        return with_leaves(self.skeleton, iter(leaves))


def attempt(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a pure function. In a trace, record the call as a single operation if the function cannot be traced."""
    tape = recording()
    if tape is None:
        return function(*args, **kwargs)
    mark = tape.mark()
    tape.path.append(name_of(function))
    try:
        try:
            result = function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # as a single operation, it may raise no error
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
        return one_operation(tape, *_unbound(function, args, kwargs))
    finally:
        tape.path.pop()


def _unbound(
    function: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., R], tuple[tuple[Any, ...], dict[str, Any]]]:
    """Return a function and its arguments; a method's object, which may have numbers that vary, is its first one."""
    if isinstance(function, MethodType):
        return function.__func__, ((function.__self__, *args), kwargs)
    return function, (args, kwargs)


def place_of(error: BaseException) -> str:
    """Return the file and line where an error was raised: the innermost one outside this folder and NumPy."""
    place, step = "", error.__traceback__
    while step is not None:
        name = step.tb_frame.f_code.co_filename
        if not name.startswith((*_HERE, _NUMPY)):
            place = f"{name}:{step.tb_lineno}"
        step = step.tb_next
    return place


def one_operation(tape: Tape, function: Callable[..., R], arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> R:
    """Call a function and record it as one operation on copies of its arrays, so it never sees a buffer."""
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
    made = recorded(tape, "call", run, tape.encode(tuple(ducks), []), values, unique=True, many=True)
    return with_leaves(results.pop(), iter(made))


def copies(values: Sequence[Any]) -> list[Any]:
    """Return the values with locked copies of arrays. Strides are kept; arrays on the same memory remain so."""
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
