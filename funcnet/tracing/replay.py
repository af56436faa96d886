"""Replay: run the steps of a fold, and repeated calls, as programs that have the bits of the plain functions.

A step is traced when a batch of its shape arrives for the second time. Programs are kept between folds, under a key of
the step, the structure of its state and the context, such as the arithmetic in force. The plain function remains the
reference. It runs whenever a guard does not hold or an error occurs, and it checks each program's first replay in a
fold.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from types import MethodType
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

import attrs
import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from funcnet.core.checks import INFINITY, check_callable, check_count
from funcnet.core.errors import NonFiniteError, ReplayWarning
from funcnet.tracing import NotTraceable, Opaque
from funcnet.tracing.functions import place_of
from funcnet.tracing.native import NativeRun, is_built
from funcnet.tracing.program import StateMemory
from funcnet.tracing.recorder import is_array, kind_of, name_of, recording
from funcnet.tracing.structure import BY_VALUE, fields_of, is_leaf, leaves_of, same_leaf, structure_of, with_leaves
from funcnet.tracing.traces import Trace, Varies

S = TypeVar("S")
B = TypeVar("B")
R = TypeVar("R")

Step: TypeAlias = Callable[[S, B], tuple[S, float]]
"""``(state, batch) -> (state, loss)``, a pure function, which ``train_epoch`` folds over batches."""

VERSIONS: Final = 4
"""The maximum number of programs for one shape; guards and constants select the one that fits."""
SHAPES: Final = 8
"""The maximum number of shapes of batches, or of a function's arguments, for which programs are kept."""
SIGHTINGS: Final = 256
"""The maximum number of shapes that are counted; beyond it, counting starts again."""
MISSES: Final = 16
"""A shape is computed plainly once steps without a fitting program outnumber replayed steps by more than this."""
FEW, LONGEST_PAUSE = 4, 63
"""If the interpreter computes fewer steps in a call, the next ones are computed one by one: 1, 3, 7, ... up to this."""
CALLS: Final = 4
"""The call of a function outside a fold, counted by shape, that is traced: a trace costs as much as ten calls."""


# ----------------------------------------------------------------------------------------------- kept programs


class _Kept:
    """The programs that are not in use. A fold or call owns the programs that it takes: no two threads share them."""

    def __init__(self) -> None:
        self.programs, self.nbytes = 32, 2**28
        self._held: OrderedDict[Hashable, list[Programs]] = OrderedDict()
        self._lock = Lock()

    def take(self, key: Hashable) -> Programs:
        """Remove and return programs for a key; an empty ``Programs`` if none are kept."""
        with self._lock:
            held = self._held.get(key)
            return held.pop() if held else Programs()

    def give(self, key: Hashable, programs: Programs) -> None:
        """Keep programs for their next use; discard the oldest ones while the limits are exceeded."""
        with self._lock:
            self._held.setdefault(key, []).append(programs)
            self._held.move_to_end(key)
            while self._held and self._is_too_much():
                self._held.popitem(last=False)

    def _is_too_much(self) -> bool:
        held = [programs for each in self._held.values() for programs in each]
        return len(held) > self.programs or sum(programs.nbytes for programs in held) > self.nbytes

    def limit(self, programs: int, nbytes: int) -> None:
        """Set the limits and discard all programs."""
        with self._lock:
            self.programs, self.nbytes = programs, nbytes
            self._held.clear()


_kept: Final = _Kept()


def discard_programs() -> None:
    """Discard all kept programs, because a function that they recorded was replaced."""
    _kept.limit(_kept.programs, _kept.nbytes)


def keep_programs(*, programs: int = 32, nbytes: int = 2**28) -> None:
    """Limit the number and the memory of the programs kept for later folds and calls; discard the current ones.

    ``train_epoch`` and ``value_and_grad`` trace steps and functions that run more than once, and keep their programs.
    The limits apply to all threads of the process.

    Args:
        programs: The maximum number of different steps and functions. With 0, nothing is traced: every step is plain.
        nbytes: The maximum size of their memory in bytes. A program that needs more is freed after its fold.

    Raises:
        ConfigError: If a setting is negative or not an int.

    Example:
        >>> keep_programs(programs=8, nbytes=10_000_000)
        >>> keep_programs()
    """
    check_count("keep_programs", "programs", programs, low=0)
    check_count("keep_programs", "nbytes", nbytes, low=0)
    _kept.limit(int(programs), int(nbytes))


class Shape:
    """A function's traces for arguments of one structure, and the places of the numbers that vary.

    ``leaves_of(x)`` lists the arrays and numbers of x. It returns None if x has a different structure.
    """

    def __init__(self, leaves_of: Callable[[Any], list[Any] | None]) -> None:
        self.traces: list[Trace] = []
        self.varying: set[int] = set()
        self.is_off = False
        self.misses = 0
        self.leaves_of = leaves_of


def matcher(like: Any) -> Callable[[Any], list[Any] | None]:
    """Return a function that checks a tree's structure and lists its leaves, compiled for one structure for speed."""
    text = _MatcherText()
    text.walk(like, "v0")
    lines = ["def leaves_of(v0):", *text.lines, f"    return [{', '.join(text.leaves)}]"]
    exec("\n".join(lines), text.scope)  # noqa: S102  # source written by this module
    made: Callable[[Any], list[Any] | None] = text.scope["leaves_of"]
    return made


class _MatcherText:
    """The source lines of a matcher: a check for each part of a tree."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.leaves: list[str] = []
        self.scope: dict[str, Any] = {"ndarray": np.ndarray}

    def walk(self, tree: Any, name: str) -> None:
        """Add the checks for a tree in a variable of this name."""
        kind = kind_of(tree)
        if kind is np.ndarray:
            shape, strides, dtype = map(self._bound, (tree.shape, tree.strides, tree.dtype))
            self._check(f"type({name}) is not ndarray or {name}.shape != {shape} or {name}.strides != {strides}")
            self._check(f"{name}.dtype is not {dtype} and {name}.dtype != {dtype}")
            self.leaves.append(name)
            return
        self._check(f"type({name}) is not {self._bound(kind)}")
        if is_leaf(tree):
            self.leaves.append(name)
            return
        fields = fields_of(kind)
        parts = [(f"{name}.{field}", getattr(tree, field)) for field in fields]
        if not fields and issubclass(kind, tuple):
            self._check(f"len({name}) != {len(tree)}")
            parts = [(f"{name}[{i}]", part) for i, part in enumerate(tree)]
        elif kind in BY_VALUE and tree is not None:
            self._check(f"{name} != {self._bound(tree)}")
        elif isinstance(tree, MethodType):
            self._check(f"{name}.__func__ is not {self._bound(tree.__func__)}")
            self._check(f"{name}.__self__ is not {self._bound(tree.__self__)}")
        elif not fields and tree is not None and not attrs.has(kind):
            self._check(f"{name} is not {self._bound(tree)}")
        for text, part in parts:
            inner = f"v{len(self.lines) + 1}"
            self.lines.append(f"    {inner} = {text}")
            self.walk(part, inner)

    def _bound(self, thing: object) -> str:
        self.scope[f"k{len(self.scope)}"] = thing
        return f"k{len(self.scope) - 1}"

    def _check(self, condition: str) -> None:
        self.lines.append(f"    if {condition}: return None")


class Programs:
    """The programs of a function for states of one structure: the state's memory, and the traces for each shape."""

    def __init__(self) -> None:
        self.memory: StateMemory | None = None
        self.structure: Hashable = None  # the structure of the states that fit the memory
        self.leaves_of: Callable[[Any], list[Any] | None] | None = None  # lists the leaves of one of many such states
        self.places: list[int] = []  # the places of the state's arrays among its leaves
        self.apart: set[int] = set()  # the places of the numbers that differ between states that are folded together
        self.shapes: dict[Hashable, Shape] = {}
        self.seen: dict[Hashable, int] = {}
        self.evicted = 0
        self.last: Shape | None = None
        self.failures, self.waits = 0, 0  # of folds of many states: how many failed, and how many are not tried

    @property
    def nbytes(self) -> int:
        """The size of their memory in bytes."""
        traces = [trace for shape in self.shapes.values() for trace in shape.traces]
        return sum(trace.program.nbytes for trace in traces) + (0 if self.memory is None else len(self.memory.block))

    def is_due(self, structure: Hashable, traced_at: int) -> bool:
        """Count a batch of a shape; return whether the shape has arrived often enough to be traced.

        Each eviction raises the required number. Otherwise, more than ``SHAPES`` shapes would be traced all the time.
        """
        if len(self.seen) > SIGHTINGS:
            self.seen.clear()
        self.seen[structure] = self.seen.get(structure, 0) + 1
        return self.seen[structure] >= traced_at * (1 + self.evicted)

    def add(self, structure: Hashable, leaves_of: Callable[[Any], list[Any] | None]) -> Shape:
        """Add and return a new shape, after evicting the least recently used one if there are too many."""
        while len(self.shapes) >= SHAPES:
            oldest = next(iter(self.shapes))
            del self.shapes[oldest]
            self.seen.pop(oldest, None)  # the shape may be from an earlier fold, whose counts are gone
            self.evicted += 1
        shape = self.shapes[structure] = self.last = Shape(leaves_of)
        return shape

    def put_apart(self, places: set[int]) -> None:
        """Note numbers that differ between states folded together, and discard the programs that take one number."""
        self.apart |= places
        for shape in self.shapes.values():
            shape.traces.clear()


# ------------------------------------------------------------------------------------------------------- folds


@frozen(eq=False)
class Gather(Generic[B]):
    """Batches that are rows of some arrays: batch k has the rows ``order[places(k)]``, or ``places(k)`` without order.

    Args:
        sources: All examples, as one batch.
        order: The row at each place; None if it is the place.
        used: The places that the batches use, in order.
        size: The number of places of each batch. The last batch may have fewer.
    """

    sources: B
    order: NDArray[np.intp] | None
    used: range
    size: int

    def places(self, position: int) -> range:
        """Return the places of the whole batches from a position on."""
        return self.used[position * self.size : len(self.used) // self.size * self.size]


class Gathered:
    """Batches that may be nothing but rows of some arrays. Several steps then need no batch of their own.

    Other batches, such as those of a progress bar, are read one by one.
    """

    __slots__ = ()

    def gathered(self) -> Gather[Any] | None:
        """Return where the rows are; None if a batch is computed from its rows."""
        raise NotImplementedError


@contextmanager
def borrowed(key: Callable[[], Hashable]) -> Generator[Programs | None]:
    """Take kept programs for a key and give them back; None inside a trace, if nothing is kept, or without a hash."""
    if not _kept.programs or recording() is not None:
        yield None
        return
    programs: Programs | None = None
    known: Hashable = None
    with suppress(TypeError):  # a yield in an except block would become the context of each error
        known = key()
        programs = _kept.take(known)
    try:
        yield programs
    finally:
        if programs is not None:
            _kept.give(known, programs)


def structure_or_none(tree: object) -> Hashable | None:
    """Return a tree's structure; None if a part has no hash."""
    try:
        return structure_of(tree)
    except TypeError:
        return None


def key_of(function: object) -> tuple[Hashable, ...]:
    """Return a function's key. Equal records have different keys if their numbers differ in sign (-0.0) or type."""
    numbers = tuple((kind_of(leaf), repr(leaf)) for leaf in leaves_of(function) if not is_array(leaf))
    return function, structure_of(function), numbers


@contextmanager
def _folding(
    name: Callable[[S, B], object], function: Callable[[S, B], tuple[S, R]], state: S, context: Hashable
) -> Generator[Fold[S, B, R]]:
    """Enter a fold of ``function``, with the programs kept for ``name`` and without floating-point warnings."""
    with (
        borrowed(lambda: (*key_of(name), structure_of(state), context)) as programs,
        np.errstate(all="ignore"),
    ):
        yield Fold(function, state, programs)


def replayed_fold(
    step: Step[S, B], state: S, batches: Iterable[B], results: list[tuple[float, float]], *, context: Hashable = None
) -> S:
    """Run ``for batch in batches: state, loss = step(state, batch)``, append ``(loss, total)``, return the last state.

    The total is ``step.total(batch)``, the number that the mean loss divides by, or 1 if the step has no such method.

    Steps whose batches have one shape are replayed. ``context`` is anything else that a result depends on, such as the
    arithmetic in force; each context has its own programs. NumPy's floating-point warnings are off, because a loss that
    is not finite is refused.

    Raises:
        NonFiniteError: If a loss is NaN or infinite.
    """
    with _folding(step, checked(step), state, context) as fold:
        fold.start()
        whole: Gather[Any] | None = batches.gathered() if is_built() and isinstance(batches, Gathered) else None
        if whole is None:
            for batch in batches:
                results.append(fold.advance(batch))  # noqa: PERF401  # after an error, their number is the failing step
            return fold.value()
        given, before = cast("Sequence[B]", batches), len(results)
        while (position := len(results) - before) < len(given):
            batch = given[position]
            results += fold.advance_many(batch, whole, position) or [fold.advance(batch)]
        return fold.value()


def checked(step: Step[S, B]) -> Callable[[S, B], tuple[S, tuple[float, float]]]:
    """Return the step with a check that refuses a loss that is not finite, and with the loss's total."""
    total: Callable[[B], float] = getattr(step, "total", lambda _: 1.0)

    def run(state: S, batch: B) -> tuple[S, tuple[float, float]]:
        state, loss = step(state, batch)
        given: Any = loss  # a user's step may return a 0-d array
        number: Any = given.item() if is_array(given) and not given.ndim else given
        if not -INFINITY < number < INFINITY:
            raise NonFiniteError(f"the loss is {number}; the learning rate may be too high")
        return state, (number, total(batch))

    run.__qualname__ = name_of(step)
    return run


def replayed_map(
    function: Callable[[S, B], R], fixed: S, batches: Iterable[B], *, context: Hashable = None
) -> Iterator[R]:
    """Yield ``function(fixed, batch)`` for each batch, replayed: a fold whose state does not change."""
    with _folding(function, lambda state, batch: (state, function(state, batch)), fixed, context) as fold:
        for batch in batches:
            yield fold.advance(batch)


def replayed_call(function: Callable[..., R], *args: Any, context: Hashable = None, varying: int = 0) -> R:
    """Return a pure function's result. Calls whose arguments have one structure are replayed, with the same bits.

    The numbers in the first ``varying`` arguments may differ from call to call; each value of any other number has its
    own program. NumPy's floating-point warnings are off. Inside a trace, the function is called and becomes a part of
    that trace.
    """
    with borrowed(lambda: (*key_of(function), context)) as programs, np.errstate(all="ignore"):
        if programs is None:
            return function(*args)
        fold: Fold[Any, Any, R] = Fold(lambda _, given: ((), function(*given)), (), programs, CALLS)
        fold.varying = (
            {i for i, leaf in enumerate(leaves_of(args[:varying])) if not is_array(leaf)} if varying else set()
        )
        return fold.advance(args)


class Fold(Generic[S, B, R]):
    """A fold of ``(state, batch) -> (state, result)``, whose state is a value or lies in the programs' memory."""

    def __init__(
        self, function: Callable[[S, B], tuple[S, R]], state: S, programs: Programs | None, traced_at: int = 2
    ) -> None:
        self._function, self._state, self._programs, self._traced_at = function, state, programs, traced_at
        self._leaves: list[Any] | None = None  # if the state is in memory: its current numbers, its first arrays
        self._ran: set[Trace] = set()  # the traces replayed since then
        self._pause = self._waiting = 0  # the steps for which the interpreter is not asked for many, and those to come
        self.varying: set[int] = set()  # the places of numbers that are known to vary

    def start(self) -> None:
        """Count shapes from 0, and check each program's next replay against the plain function."""
        if self._programs is None:
            return
        self._programs.seen.clear()
        for shape in self._programs.shapes.values():
            for trace in shape.traces:
                trace.verified = False

    def advance(self, batch: B) -> R:
        """Compute one step and return its result."""
        programs = self._programs
        shape = None if programs is None else programs.last
        given = None if shape is None else shape.leaves_of(batch)
        if programs is None or shape is None or given is None:
            return self._in_another_shape(batch)
        if shape.is_off:
            return self._plain(batch)[1]
        if self._leaves is None:
            self._enter(programs)
        leaves: list[Any] = [] if self._leaves is None else self._leaves + given
        for trace in shape.traces if leaves else ():
            is_verified = trace.verified
            before: Any = None if is_verified or not trace.fits(leaves) else self.value()
            try:
                made = trace.run(leaves)
            except Exception:  # noqa: BLE001, S112  # the plain function raises the error, too
                continue
            if made is None:
                continue
            result = self._taken(trace, made, leaves)
            if not is_verified:
                return self._verified(trace, shape, made, before, batch)
            shape.misses = max(shape.misses - 1, 0)
            return result
        shape.misses += 1
        return self._traced(batch, shape)

    def advance_many(self, batch: B, rows: Gather[B], position: int) -> list[R]:
        """Compute the steps from a position on in one call of the interpreter, as far as they fit.

        Args:
            batch: The batch at the position.
            rows: Where the rows of all batches are.
            position: The number of the step.

        Returns:
            The results; [] if no step was computed. In each fold, every program has first been compared with the plain
            function. After a call that computes few steps, some steps are left to ``advance``.
        """
        if self._waiting:
            self._waiting -= 1
            return []
        shape = None if self._programs is None else self._programs.last
        traces = [] if shape is None else [each for each in shape.traces if each.verified and each.is_flat]
        given = None if shape is None or self._leaves is None or not traces else shape.leaves_of(batch)
        places = rows.places(position)
        if shape is None or self._leaves is None or given is None or not places:
            return []
        own, leaves, sources = len(self._leaves), self._leaves + given, leaves_of(rows.sources)
        for trace in traces if len(sources) == len(given) else ():
            run: Any = trace.program.run
            if not isinstance(run, NativeRun) or not trace.fits(leaves):
                continue
            given = [leaves[place] for place in trace.given]
            wholes = [sources[place - own] for place in trace.given]
            counters = tuple(leaves[place] for place in trace.counters)
            made, numbers = run.fold(given, wholes, rows.order, places, counters)
            self._pause = min(2 * self._pause + 1, LONGEST_PAUSE) if len(made) < FEW else 0
            self._waiting = self._pause
            if made:
                self._ran.add(trace)
                shape.misses = max(shape.misses - len(made), 0)
                for place, number in zip(trace.counters, numbers, strict=True):
                    self._leaves[place] = number
                return cast("list[R]", made)
        return []

    def _in_another_shape(self, batch: B) -> R:
        """Compute a step whose batch does not have the shape of the last one."""
        structure = None if self._programs is None else self._structure(batch)
        if self._programs is None or structure is None:
            return self._plain(batch)[1]
        shape = self._programs.last = self._programs.shapes.get(structure)
        if shape is None or shape.leaves_of(batch) is None:
            return self._seen(batch, structure)
        self._programs.shapes[structure] = self._programs.shapes.pop(structure)  # in order of last use
        return self.advance(batch)

    def _structure(self, batch: B) -> Hashable | None:
        """Return a batch's structure; None if it cannot be replayed."""
        return structure_or_none(batch)

    def _matcher(self, batch: B) -> Callable[[B], list[Any] | None]:
        """Return a function that checks the structure of a batch and lists its leaves."""
        return matcher(batch)

    def value(self) -> S:
        """Return the state as a value."""
        programs = self._programs
        if self._leaves is None or programs is None or programs.memory is None:
            return self._state
        leaves, changed = list(self._leaves), {place for trace in self._ran for place in trace.changed}
        for place, array in zip(programs.places, programs.memory.arrays, strict=True):
            if place in changed:
                writeable = leaves[place].flags.writeable
                leaves[place] = array.copy()
                leaves[place].flags.writeable = writeable
        return with_leaves(self._state, iter(leaves))

    # ------------------------------------------------------------------------------------------- a replay

    def _taken(self, trace: Trace, made: tuple[Any, ...], leaves: Sequence[Any]) -> R:
        """Take over the state's numbers of a replayed step and return its result."""
        self._ran.add(trace)
        if self._traced_at == CALLS:  # a fold checks one replay; calls check replays 1, 3, 5, 9, 17, ...
            trace.replays += 1
            trace.verified = bool(trace.replays & (trace.replays - 1))
        if trace.counters and self._leaves is not None:
            for place, number in zip(trace.counters, made[len(made) - len(trace.counters) :], strict=True):
                self._leaves[place] = number
        result: Any
        if trace.is_flat:  # a tuple of numbers, such as a loss and its total
            result = made[: len(made) - len(trace.counters)]
        else:
            result = made[0] if type(trace.skeleton) is float else _built(trace, made, leaves)
        return cast("R", result)

    def _verified(self, trace: Trace, shape: Shape, made: tuple[Any, ...], before: S, batch: B) -> R:
        """Check a replayed step against the plain function, and return the plain result."""
        state, result = self._function(before, batch)
        trace.verified = self._agrees(trace, made, (state, result))
        if not trace.verified and trace.program.use_python():
            self._recomputed(trace, before, batch, (state, result))
        if not trace.verified:
            self._leave(state)
            self._discard(shape)
        return result

    def _agrees(self, trace: Trace, made: tuple[Any, ...], plain: tuple[S, R]) -> bool:
        """Return whether a replay has the bits of the plain function's state and result."""
        state, result = map(leaves_of, plain)
        return same_leaves(result, made[: len(made) - len(trace.counters)]) and same_leaves(
            state, leaves_of(self.value())
        )

    def _recomputed(self, trace: Trace, before: S, batch: B, plain: tuple[S, R]) -> None:
        """Repeat a replay that differed, in Python: if that one is right, it runs from now on, with a warning."""
        programs = self._programs
        assert programs is not None  # noqa: S101  # for the type checkers
        self._leave(before)
        self._enter(programs)
        leaves = [] if self._leaves is None else self._leaves + leaves_of(batch)
        with suppress(Exception):
            made = trace.run(leaves)
            if made is not None:
                self._taken(trace, made, leaves)
                trace.verified = self._agrees(trace, made, plain)
        if trace.verified:
            fix = "report it with the output of python -m funcnet"
            name = name_of(self._function)
            text = f"the native replay of {name} gave different numbers; its replays run in Python from now on; {fix}"
            warnings.warn(text, ReplayWarning, stacklevel=2)

    def _discard(self, shape: Shape) -> None:
        """Compute a shape plainly from now on, with a warning: two computations of one step differed."""
        shape.is_off = True
        shape.traces.clear()
        reason = "its replay gave different numbers: it keeps a state, draws at random, or asks for type(x)"
        fix = "check_layer(layer, x) names a layer that does"
        text = f"{name_of(self._function)} is called in each step instead of being replayed: {reason}; {fix}"
        warnings.warn(text, ReplayWarning, stacklevel=2)

    def _enter(self, programs: Programs) -> None:
        """Copy the state into the programs' memory, unless its structure does not fit."""
        if programs.memory is None or not self._has_structure(self._state):
            return
        self._leaves = leaves_of(self._state)
        self._ran = set()
        for place, array in zip(programs.places, programs.memory.arrays, strict=True):
            array[...] = self._leaves[place]

    def _has_structure(self, state: S) -> bool:
        """Return whether a state has the structure that the programs were made for."""
        return self._programs is not None and structure_or_none(state) == self._programs.structure

    def _leave(self, state: S) -> None:
        self._state, self._leaves = state, None

    # --------------------------------------------------------------------------------------- a plain step

    def _plain(self, batch: B) -> tuple[S, R]:
        """Compute a step by the plain function; return the state before the step and the result."""
        state = self.value()
        self._leave(state)
        new, result = self._function(state, batch)
        self._leave(new)
        return state, result

    def _seen(self, batch: B, structure: Hashable) -> R:
        """Compute a step of a shape without traces; trace it, too, if the shape has arrived often enough."""
        state, result = self._plain(batch)
        programs = self._programs
        assert programs is not None  # noqa: S101  # for the type checkers
        if programs.is_due(structure, self._traced_at):
            self._trace(state, batch, programs.add(structure, self._matcher(batch)), result)
        return result

    def _traced(self, batch: B, shape: Shape) -> R:
        """Compute a step that no trace fits; trace it, too, unless there were too many such steps."""
        state, result = self._plain(batch)
        if shape.misses > MISSES:
            shape.is_off = True
            shape.traces.clear()
        else:
            self._trace(state, batch, shape, result)
        return result

    def _trace(self, state: S, batch: B, shape: Shape, result: R) -> None:
        """Make a program from a step whose plain result is known; it may replace one whose constants do not fit."""
        programs, leaves, new = self._programs, leaves_of((state, batch)), leaves_of(self._state)
        assert programs is not None  # noqa: S101  # for the type checkers
        stale = [trace for trace in shape.traces if not trace.fits(leaves)] if len(shape.traces) >= VERSIONS else []
        for last in stale[-1:]:
            shape.traces.remove(last)
        if programs.memory is None:
            programs.structure = structure_of(state)
        if len(shape.traces) >= VERSIONS or not self._has_structure(state):
            return
        shape.varying |= self.varying | varying_in(leaves, new, shape.traces if self._traced_at != CALLS else ())
        trace = traced_apart(self._function, state, batch, shape.varying, programs.memory)
        if not isinstance(trace, Trace):
            shape.is_off = True
            return
        programs.memory, programs.places = trace.program.memory, trace.arrays
        outcome, trace.outcome = trace.outcome, ([], [])
        if same_leaves(outcome[0], new) and same_leaves(outcome[1], leaves_of(result)):
            shape.traces.insert(0, trace)
        else:
            self._discard(shape)


def _built(trace: Trace, made: Sequence[Any], given: Sequence[Any]) -> Any:
    """Return a result from its leaves, after locking all arrays except those that are arguments."""
    passed = set(map(id, given))
    for leaf in made:
        if is_array(leaf) and id(leaf) not in passed:
            leaf.flags.writeable = False
    return with_leaves(trace.skeleton, iter(made))


def varying_in(leaves: list[Any], new: list[Any], traces: Sequence[Trace] = ()) -> set[int]:
    """Return the places of the numbers that a step changes, or that differed in an earlier batch.

    A number of the state that no step changes is a setting. Each value of a setting has its own program.
    """
    pairs = enumerate(zip(leaves, new, strict=False))
    found = {i for i, (old, leaf) in pairs if not is_array(old) and not same_leaf(old, leaf)}
    for trace in traces:
        given = [(i, value) for i, value in zip(trace.fixed, trace.constants, strict=True) if i >= len(new)]
        found |= {i for i, value in given if not same_leaf(leaves[i], value)}
    return found


def traced_apart(
    function: Callable[[Any, Any], Any],
    state: Any,
    arguments: Any,
    varying: set[int],
    memory: StateMemory | None,
    *,
    many: tuple[int, set[int]] | None = None,
) -> Trace | Opaque:
    """Return a function's trace, or the reason why there is none. Numbers found to vary are added to ``varying``."""
    while True:
        try:
            structure_of(arguments)  # raises TypeError for arguments that cannot be replayed
            return Trace(function, state, arguments, varying, memory, many)
        except Varies as found:
            varying |= found.places
        except (NotTraceable, Exception) as error:  # noqa: BLE001  # the plain function raised no error
            return Opaque(name_of(function), str(error), place_of(error))


def same_leaves(leaves: Sequence[Any], others: Sequence[Any]) -> bool:
    """Return whether two lists of leaves have the same bits."""
    return len(leaves) == len(others) and all(map(same_leaf, leaves, others))


# ------------------------------------------------------------------------------------------------------ reports


@frozen(eq=False)
class StepProgram:
    """The program that a step becomes; it prints as its source.

    Args:
        source: The step as a module of NumPy calls. Its function ``program(state, constants)`` takes a block of bytes
            and returns ``run``, which computes one step on them. Empty if the step cannot be traced.
        calls: The number of NumPy calls in a step.
        nbytes: The size in bytes of the memory that a step works on, including the state.
        seconds: The time that tracing and compiling took.
        opaque: The functions that could not be traced and are called unchanged, each with the reason and the line. If
            the step as a whole cannot be traced, the step is the last of them.
        constants: The objects that the source refers to but cannot spell: arrays, and functions called unchanged.
    """

    source: str = field(repr=False)
    calls: int
    nbytes: int
    seconds: float
    opaque: tuple[Opaque, ...]
    constants: tuple[Any, ...] = field(repr=False)

    def __str__(self) -> str:
        lines = [f"# {self.calls} calls, {self.nbytes} bytes"]
        lines += [f"# not traced: {each.function}: {each.reason} ({each.place})" for each in self.opaque]
        return "\n".join([*lines, "", self.source])


def program(step: Step[S, B], state: S, batch: B) -> StepProgram:
    """Return the program that ``train_epoch`` compiles from a step, for such a state and batch, and what it costs.

    The step is computed twice, once plainly and once traced. The program is not kept.

    Raises:
        FuncnetError: If the step raises it.

    Example:
        >>> import numpy as np
        >>> import funcnet as fn
        >>> batch = fn.Batch(np.ones((3, 2), np.float32), np.array([0, 1, 1]))
        >>> report = fn.program(
        ...     fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), fn.mlp(fn.Key(0), (2, 2)), batch
        ... )
        >>> report.calls, report.opaque
        (21, ())
        >>> [line.strip() for line in report.source.splitlines() if line.strip().startswith("dot(")]
        ['dot(x, net_0_weight, t2)', 'dot(p1, t8, t17)', 'dot(k18, t8, t19)']
    """
    check_callable("program", "step", step)
    with np.errstate(all="ignore"):
        new, result = checked(step)(state, batch)
        varying = varying_in(leaves_of((state, batch)), leaves_of(new))
        trace = traced_apart(checked(step), state, batch, varying, None)
    if isinstance(trace, Trace) and not all(map(same_leaves, trace.outcome, (leaves_of(new), leaves_of(result)))):
        trace = Opaque(name_of(step), "a second computation gave different numbers", "")
    if not isinstance(trace, Trace):
        return StepProgram("", 0, 0, 0.0, (trace,), ())
    made = trace.program
    nbytes = made.nbytes + len(made.memory.block)
    return StepProgram(made.source, made.calls, nbytes, trace.seconds, made.opaque, tuple(made.constants))
