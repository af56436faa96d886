"""Replay: a fold's steps and repeated calls as programs, traced once a shape, with the bits of the plain functions.

A step is traced when a batch of its shape comes for the second time. Programs are kept between folds, for the step, the
structure of its state and the arithmetic in force. The plain step stays the measure: it runs whenever a condition of a
trace does not hold or something fails, and it runs beside each program's first replay in a fold.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import Any, Final, Generic, TypeAlias, TypeVar

import numpy as np
from attrs import field, frozen

from funcnet.arithmetic import in_force
from funcnet.arrays import lock
from funcnet.errors import NonFiniteError, ReplayWarning
from funcnet.settings import INFINITY, check_callable, check_count
from funcnet.tracing import NotTraceable, Opaque
from funcnet.tracing.functions import name_of, place_of
from funcnet.tracing.program import StateMemory
from funcnet.tracing.recorder import recording
from funcnet.tracing.structure import fields_of, is_array, leaves_of, skeleton_of, structure_of, with_leaves
from funcnet.tracing.traces import Trace, Varies

S = TypeVar("S")
B = TypeVar("B")
R = TypeVar("R")

Step: TypeAlias = Callable[[S, B], tuple[S, float]]

VERSIONS: Final = 4
"""The most programs for one shape, where conditions on numbers choose between them."""
SHAPES: Final = 8
"""The most shapes of batches for which one step's programs are kept."""
CALLS: Final = 4
"""The call of a function outside of a fold that is traced, where all have one shape: a trace takes the time of ten."""


# ------------------------------------------------------------------------------------------------ what is kept


class _Kept:
    """Programs between their uses, for each key; nobody else has them meanwhile. The oldest go when there are too many."""

    def __init__(self) -> None:
        self.programs, self.nbytes = 32, 2**28
        self._held: OrderedDict[object, Any] = OrderedDict()
        self._lock = Lock()

    def take(self, key: object) -> Any:
        """What is kept for a key, for its only user; None if there is nothing, or if it is in use."""
        with self._lock:
            return self._held.pop(key, None)

    def give(self, key: object, held: Any) -> None:
        """Keep something again."""
        with self._lock:
            self._held[key] = held
            while len(self._held) > self.programs or sum(each.nbytes for each in self._held.values()) > self.nbytes:
                self._held.popitem(last=False)

    def limit(self, programs: int, nbytes: int) -> None:
        """Keep at most this much."""
        with self._lock:
            self.programs, self.nbytes = programs, nbytes
            self._held.clear()


_kept: Final = _Kept()


def keep_programs(*, programs: int = 32, nbytes: int = 2**28) -> None:
    """Say how many programs are kept for later folds and calls, and how much memory they may take; forget those there are.

    ``train_epoch`` and ``value_and_grad`` trace what comes more than once and keep the programs. The settings hold for the
    process, for all threads.

    Args:
        programs: For how many different steps and functions at most. With 0 nothing is traced: every step is the plain one.
        nbytes: The bytes of all their memory at most; a program that takes more is freed with its fold.

    Raises:
        ConfigError: If a setting is negative or not an int.

    Example:
        >>> keep_programs(programs=8, nbytes=10_000_000)
        >>> keep_programs()
    """
    check_count("keep_programs", "programs", programs, low=0)
    check_count("keep_programs", "nbytes", nbytes, low=0)
    _kept.limit(int(programs), int(nbytes))


# -------------------------------------------------------------------------------------------------- one shape


class _Shape:
    """What is known of a step for batches of one shape: its traces, and which numbers vary.

    ``leaves_of(batch)`` is a list of a batch's arrays and numbers; None if the batch has another shape.
    """

    def __init__(self, batch: Any) -> None:
        self.traces: list[Trace] = []
        self.varying: set[int] = set()
        self.leaves_of = _matcher(batch)


def _matcher(like: Any) -> Callable[[Any], list[Any] | None]:
    """A function that checks a tree's structure and lists its leaves, written for one structure: it runs in each step."""
    scope: dict[str, Any] = {"ndarray": np.ndarray}
    lines, leaves = ["def leaves_of(v0):"], list[str]()

    def bound(thing: object) -> str:
        scope[f"k{len(scope)}"] = thing
        return f"k{len(scope) - 1}"

    def check(condition: str) -> None:
        lines.append(f"    if {condition}: return None")

    def walk(tree: Any, name: str) -> None:
        kind = type(tree)
        if kind is np.ndarray:
            shape, strides, dtype = bound(tree.shape), bound(tree.strides), bound(tree.dtype)
            check(f"type({name}) is not ndarray or {name}.shape != {shape} or {name}.strides != {strides}")
            check(f"{name}.dtype is not {dtype} and {name}.dtype != {dtype}")
            leaves.append(name)
            return
        if tree is None:
            check(f"{name} is not None")
            return
        check(f"type({name}) is not {bound(kind)}")
        if leaves_of(tree) == [tree]:
            leaves.append(name)
            return
        fields = fields_of(kind)
        if not fields and not issubclass(kind, tuple):
            check(f"{name} != {bound(tree)}")
            return
        parts = [(f"{name}.{field}", getattr(tree, field)) for field in fields]
        if not fields:
            check(f"len({name}) != {len(tree)}")
            parts = [(f"{name}[{i}]", part) for i, part in enumerate(tree)]
        for text, part in parts:
            inner = f"v{len(lines)}"
            lines.append(f"    {inner} = {text}")
            walk(part, inner)

    walk(like, "v0")
    exec("\n".join([*lines, f"    return [{', '.join(leaves)}]"]), scope)  # noqa: S102  # the text above
    made: Callable[[Any], list[Any] | None] = scope["leaves_of"]
    return made


class _Programs:
    """The programs of a step for states of one structure: the state's memory, and the traces for each shape."""

    def __init__(self) -> None:
        self.memory: StateMemory | None = None
        self.places: list[int] = []  # of the state's arrays among its leaves
        self.shapes: dict[object, _Shape] = {}
        self.is_off = False

    @property
    def nbytes(self) -> int:
        """The bytes of their memory."""
        traces = [trace for shape in self.shapes.values() for trace in shape.traces]
        return sum(trace.program.nbytes for trace in traces)


# ------------------------------------------------------------------------------------------------------- folds


def replayed_fold(step: Step[S, B], state: S, batches: Iterable[B], losses: list[float]) -> S:
    """``for batch in batches: state, loss = step(state, batch)``, with each loss appended; steps of one shape replayed.

    NumPy's floating-point warnings are off inside: a loss that is not finite is refused.

    Raises:
        NonFiniteError: If a loss is NaN or infinite.
    """
    key = None
    programs = _Programs()
    if _kept.programs and recording() is None:
        try:
            key = step, structure_of(state), in_force()
            programs = _kept.take(key) or programs
        except TypeError:  # something in it has no hash
            key = None
    else:
        programs.is_off = True
    fold = _Fold(step, state, programs)
    try:
        with np.errstate(all="ignore"):
            for batch in batches:
                losses.append(fold.advance(batch))
        return fold.value()
    finally:
        if key is not None:
            _kept.give(key, programs)


def _checked(step: Step[S, B]) -> Step[S, B]:
    """The step, and a refusal of a loss that is not finite."""

    def run(state: S, batch: B) -> tuple[S, float]:
        state, loss = step(state, batch)
        if is_array(loss) and not loss.ndim:  # type: ignore[attr-defined]  # of a step of the user's own
            loss = loss.item()  # type: ignore[attr-defined]
        if not -INFINITY < loss < INFINITY:
            raise NonFiniteError(f"the loss is {loss}; the learning rate may be too high")
        return state, loss

    return run


class _Fold(Generic[S, B]):
    """A fold between two steps: its state is a value, or lies in the programs' memory."""

    def __init__(self, step: Step[S, B], state: S, programs: _Programs) -> None:
        self._named, self._step, self._programs = step, _checked(step), programs
        self._state = state
        self._leaves: list[Any] | None = None  # of the state, if it lies in memory; for an array, what it was
        self._ran: set[Trace] = set()  # since the state has lain there
        self._seen: set[object] = set()
        self._shape: _Shape | None = None
        for shape in programs.shapes.values():
            for trace in shape.traces:
                trace.verified = False

    def advance(self, batch: B) -> float:
        """One step."""
        given = None if self._shape is None else self._shape.leaves_of(batch)
        structure: object = None
        if given is None and not self._programs.is_off:
            try:
                structure = structure_of(batch)
            except TypeError:
                structure = None
            self._shape = self._programs.shapes.get(structure)
            given = None if self._shape is None else self._shape.leaves_of(batch)
        if self._shape is not None and given is not None:
            for trace in self._shape.traces:
                done = self._replayed(trace, given, batch)
                if done is not None:
                    return done
        return self._plain(batch, structure, given)

    def value(self) -> S:
        """The state as a value."""
        if self._leaves is None or self._programs.memory is None:
            return self._state
        leaves, changed = list(self._leaves), {place for trace in self._ran for place in trace.changed}
        for place, array in zip(self._programs.places, self._programs.memory.arrays, strict=True):
            if place in changed:
                leaves[place] = lock(array.copy())
        return with_leaves(self._state, iter(leaves))

    def _replayed(self, trace: Trace, given: list[Any], batch: B) -> float | None:
        """The loss of one step as a program; None if it does not fit, or if it fails: the plain step then says why."""
        if self._leaves is None:
            self._enter(trace)
        assert self._leaves is not None  # noqa: S101  # for the type checkers
        leaves = self._leaves + given
        if not trace.fits(leaves):
            return None
        before = None if trace.verified else self.value()
        try:
            done = trace.run(leaves)
        except Exception:  # noqa: BLE001  # whatever it was, the plain step has it, too
            return None
        if done is None:
            return None
        (loss,), numbers = done
        for place, number in zip(trace.counters, numbers, strict=True):
            self._leaves[place] = number
        self._ran.add(trace)
        return float(loss) if before is None else self._verified(trace, before, batch, loss)

    def _verified(self, trace: Trace, before: S, batch: B, loss: float) -> float:
        """Compare a program's first replay with the plain step, whose result counts."""
        state, wanted = self._step(before, batch)
        if wanted == loss and _same(leaves_of(state), leaves_of(self.value())):
            trace.verified = True
        else:
            self._discard()
            self._leave(state)
        return wanted

    def _discard(self) -> None:
        """Go on plainly: what differs between two computations is not pure."""
        self._programs.is_off, self._shape = True, None
        self._programs.shapes.clear()
        reason = "computed again, it gave other numbers: something in it keeps a state or draws at random"
        fix = "check_layer(layer, x) names a layer that does"
        text = f"the steps of {name_of(self._named)} are not replayed: {reason}; {fix}"
        warnings.warn(text, ReplayWarning, stacklevel=6)

    def _enter(self, trace: Trace) -> None:
        """Copy the state into the programs' memory."""
        self._leaves = leaves_of(self._state)
        self._ran = set()
        for place, array in zip(trace.arrays, trace.program.memory.arrays, strict=True):
            array[...] = self._leaves[place]

    def _leave(self, state: S) -> None:
        self._state, self._leaves = state, None

    def _plain(self, batch: B, structure: object, given: list[Any] | None) -> float:
        """One step by the pure functions; it is traced, too, if its shape has come before."""
        state = self.value()
        self._leave(state)
        new, loss = self._step(state, batch)
        if structure is None and given is not None:
            structure = structure_of(batch)
        if not self._programs.is_off and structure is not None and (given is not None or structure in self._seen):
            self._trace(state, batch, structure, (new, loss))
        self._seen.add(structure)
        self._leave(new)
        return loss

    def _trace(self, state: S, batch: B, structure: object, done: tuple[S, float]) -> None:
        """Make a program of a step of which the plain result is known."""
        programs = self._programs
        if structure not in programs.shapes:
            if len(programs.shapes) >= SHAPES:
                return
            programs.shapes[structure] = _Shape(batch)
        shape, leaves = programs.shapes[structure], leaves_of((state, batch))
        if len(shape.traces) >= VERSIONS:
            stale = [trace for trace in shape.traces if not trace.fits(leaves)]
            if not stale:
                return
            shape.traces.remove(stale[-1])
        shape.varying |= _varying(leaves, leaves_of(done[0]), shape.traces)
        trace = traced_apart(self._step, state, batch, shape.varying, programs.memory)
        if not isinstance(trace, Trace):
            programs.is_off = True
            return
        programs.memory, programs.places = trace.program.memory, trace.arrays
        outcome, trace.outcome = trace.outcome, ([], [])
        if outcome[1] == [done[1]] and _same(outcome[0], leaves_of(done[0])):
            shape.traces.insert(0, trace)
        else:
            self._discard()


def _varying(leaves: list[Any], new: list[Any], traces: Sequence[Trace]) -> set[int]:
    """The places of numbers that a step changes, or that differ from what a trace took for a constant."""
    found = {i for i, (old, leaf) in enumerate(zip(leaves, new, strict=False)) if not is_array(old) and old != leaf}
    for trace in traces:
        found |= {i for i, value in zip(trace.fixed, trace.constants, strict=True) if leaves[i] != value}
    return found


def traced_apart(
    function: Callable[[Any, Any], Any], state: Any, arguments: Any, varying: set[int], memory: StateMemory | None
) -> Trace | Opaque:
    """A function's trace, or why there is none; the numbers that turn out to vary are added to ``varying``."""
    while True:
        try:
            return Trace(function, state, arguments, varying, memory)
        except Varies as found:
            varying |= found.places
        except (NotTraceable, Exception) as error:  # noqa: BLE001  # the plain function gave no error
            return Opaque(name_of(function), str(error), place_of(error))


def _same(leaves: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether leaves are the same values, bit for bit."""
    return len(leaves) == len(others) and all(
        a.tobytes() == b.tobytes() if is_array(a) else a == b for a, b in zip(leaves, others, strict=True)
    )


# ------------------------------------------------------------------------------------------------------- calls


class _Call:
    """A function that was called with arguments of one structure: how often, and its program."""

    def __init__(self) -> None:
        self.count = 0
        self.trace: Trace | None = None

    @property
    def nbytes(self) -> int:
        """The bytes of the program's memory."""
        return self.trace.program.nbytes if self.trace is not None else 0


def replayed_call(function: Callable[..., R], *args: Any) -> R:
    """A pure function's result; calls whose arguments have one structure are replayed, with the same bits.

    It is ``whole`` to no trace: inside of one, the function is traced with it.
    """
    if not _kept.programs or recording() is not None:
        return function(*args)
    try:
        key = function, structure_of(args), in_force()
        call = _kept.take(key) or _Call()
    except TypeError:
        return function(*args)
    try:
        call.count += 1
        done = _run_call(call.trace, args)
        if done is not None and call.trace is not None and call.trace.verified:
            return done[0]
        result = function(*args)
        if done is not None and call.trace is not None:
            call.trace.verified = _same(leaves_of(done[0]), leaves_of(result))
            call.trace = call.trace if call.trace.verified else None
        elif call.count == CALLS:
            trace = traced_apart(lambda _, given: ((), function(*given)), (), args, set(), None)
            call.trace = trace if isinstance(trace, Trace) else None
            if call.trace is not None:
                call.trace.outcome = ([], [])
        return result
    finally:
        _kept.give(key, call)


def _run_call(trace: Trace | None, args: tuple[Any, ...]) -> tuple[Any] | None:
    leaves = leaves_of(args)
    if trace is None or not trace.fits(leaves):
        return None
    try:
        with np.errstate(all="ignore"):
            done = trace.run(leaves)
    except Exception:  # noqa: BLE001  # the plain function says what it is
        return None
    if done is None:
        return None
    passed = set(map(id, leaves))  # an argument that comes back is the caller's
    made = [lock(leaf) if is_array(leaf) and id(leaf) not in passed else leaf for leaf in done[0]]
    return (with_leaves(trace.skeleton, iter(made)),)


# ------------------------------------------------------------------------------------------------------ reports


@frozen(eq=False)
class StepProgram:
    """What a step became; prints as its source.

    Args:
        source: The step as a module of NumPy calls. Its function ``program(state, constants)`` takes a block of bytes and
            returns ``run``, which computes one step on them. Empty if the step cannot be traced.
        calls: How many NumPy calls a step takes.
        nbytes: The bytes of memory that it works on, the state's included.
        seconds: How long tracing and compiling took.
        opaque: The functions that could not be traced and are called as they are, each with the reason and the line. If
            the whole step is not traced, it is the last of them.
        constants: What the source refers to and cannot spell: arrays, and functions that are called as they are.
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
    """What ``train_epoch`` makes of a step for a state and batches like this one: its source, its cost, what is untraced.

    The step is computed twice, once plainly and once traced. Nothing is kept.

    Raises:
        FuncnetError: What the step raises.

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
        ['dot(x, net_0_weight, t2)', 'dot(p1, t7, t16)', 'dot(k17, t7, t18)']
    """
    check_callable("program", "step", step)
    with np.errstate(all="ignore"):
        new, _ = _checked(step)(state, batch)
        varying = _varying(leaves_of((state, batch)), leaves_of(new), ())
        trace = traced_apart(_checked(step), state, batch, varying, None)
    if not isinstance(trace, Trace):
        return StepProgram("", 0, 0, 0.0, (trace._replace(function=name_of(step)),), ())
    made = trace.program
    return StepProgram(made.source, made.calls, made.nbytes, trace.seconds, made.opaque, tuple(made.constants))
