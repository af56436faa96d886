"""The parts that a trace is made of: trees and their leaves, tapes and their constants, functions in one operation."""
# pyright: basic

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import attrs
import numpy as np
import pytest
from attrs import frozen

import funcnet as fn
from funcnet.tracing import attempt
from funcnet.tracing.ducks import Traced
from funcnet.tracing.functions import copies, place_of
from funcnet.tracing.recorder import (
    Const,
    NotTraceable,
    Storage,
    Tape,
    address,
    byte_bounds,
    layout,
    name_of,
    recorded_on,
    recording,
)
from funcnet.tracing.structure import (
    children_of,
    fields_of,
    is_leaf,
    leaves_of,
    map_leaves,
    paths_of,
    same_leaf,
    skeleton_of,
    structure_of,
    with_leaves,
)
from funcnet.tracing.traces import Trace, Varies, _input

X: Final = np.sin(np.arange(12.0)).reshape(4, 3)
W: Final = np.array([0.5, 1.5, -2.5])


# ------------------------------------------------------------------------------------------------------ trees


class Pair(NamedTuple):
    """A named tuple."""

    first: Any
    second: Any


class Fields(tuple[Any, ...]):
    """A tuple of a type of its own."""

    __slots__ = ()


@frozen(eq=False)
class Record:
    """A record that refuses to be made anew."""

    a: Any
    b: Any = attrs.field(validator=lambda *_: None)


@attrs.frozen(eq=False, slots=False)
class Open:
    """A record that takes attributes that are not fields."""

    a: Any


class Unhashable:
    """A thing that can change."""

    __hash__: Any = None


LIST: Final = [W]
TREE: Final = (Record(X, (1, None, Fields((np.float32(2), True)))), Pair(2.5, "word"), (), Record(None, LIST), W)


def test_leaves_and_paths() -> None:
    """In order; bools, words, None and lists are part of the structure."""
    leaves = leaves_of(TREE)
    assert [type(leaf) for leaf in leaves] == [np.ndarray, int, np.float32, float, np.ndarray]
    assert leaves[0] is X
    assert leaves[4] is W
    assert paths_of(TREE) == ["0.a", "0.b.0", "0.b.2.0", "1.first", "4"]
    assert paths_of(TREE, "state") == [f"state.{path}" for path in paths_of(TREE)]
    assert (paths_of(X), paths_of(X, "x"), paths_of(None), paths_of(())) == ([""], ["x"], [], [])
    assert (fields_of(Record), fields_of(Pair), fields_of(int)) == (("a", "b"), (), ())
    assert children_of(TREE[1]) == [2.5, "word"]
    assert children_of(Record(1, 2)) == [1, 2]
    assert children_of(LIST) == children_of(3) == []
    assert [is_leaf(thing) for thing in (X, 1, 1.0, np.int8(1), np.float16(1), True, np.True_, 1j, None, "", LIST)] == [
        *[True] * 5,
        *[False] * 6,
    ]


def test_new_leaves_in_a_tree() -> None:
    """Types are kept, parts without a new leaf stay the same objects, and no validator or initializer runs."""
    new = with_leaves(TREE, iter([10, 11, 12, 13, 14]))
    assert leaves_of(new) == [10, 11, 12, 13, 14]
    assert [type(part) for part in new] == [Record, Pair, tuple, Record, int]
    assert (new[0].b[1], type(new[0].b[2]), new[0].b[2][1], new[1].second) == (None, Fields, True, "word")
    assert new[3] is TREE[3]
    assert leaves_of(TREE)[1:4] == [1, 2, 2.5]
    assert map_leaves(lambda leaf: leaf, TREE) is TREE
    partly = map_leaves(lambda leaf: leaf * 2 if type(leaf) is float else leaf, TREE)
    assert [a is b for a, b in zip(partly, TREE, strict=True)] == [True, False, True, True, True]
    skeleton = skeleton_of(TREE)
    assert leaves_of(skeleton) == [0.0] * 5
    assert {type(leaf) for leaf in leaves_of(skeleton)} == {float}
    assert structure_of(with_leaves(skeleton, iter(leaves_of(TREE)))[:3]) == structure_of(TREE[:3])


NAN: Final = math.nan
ALIKE: Final = (
    (0.0, 0.0),
    (-0.0, -0.0),
    (0, 0),
    (NAN, NAN),
    (1.5, 1.5),
    (10**400, 10**400),
    (W, W.copy()),
    (W * NAN, W * NAN),
)
DIFFERENT: Final = (
    *((0.0, -0.0), (NAN, 1.0), (1.0, NAN), (1.5, 2.5), (10**400, 1.0), (W, -W), (W * 0, np.copysign(W * 0, 1.0))),
    *((W[:1], 0.5), (0.5, W[:1]), (np.zeros(1), 0.0), (0.0, np.zeros(1)), (np.float64(0.0), np.float64(-0.0))),
)


def test_same_leaf() -> None:
    """Bit for bit."""
    assert all(same_leaf(a, b) for a, b in ALIKE)
    assert not any(same_leaf(a, b) for a, b in DIFFERENT)


def test_structures() -> None:
    """All but the elements of arrays and the values of numbers."""
    thing = Unhashable()
    hash_me, other = object(), object()
    different: list[Any] = [
        *(X, X.T, X[:3], X.astype(np.float32), X[:, ::-1], 1, 1.0, np.float32(1), np.float64(1), np.int64(1)),
        *(True, False, None, "a", "b", b"a", int, float, (), (1,), (1, 2), (1.0, 2), Pair(1, 2), Fields((1, 2))),
        *(Record(1, 2), Record(X, 2), Record(1, X), ((1,), 2), (1, (2,)), hash_me, other, len, hash_me.__hash__),
        *(other.__hash__, hash_me.__eq__),
    ]
    structures = [structure_of(each) for each in different]
    assert len({hash(each) for each in structures}) > 3
    assert all((a == b) == (i == k) for i, a in enumerate(structures) for k, b in enumerate(structures))
    for a, b in ((X, X + 1), (1, 2), (1.0, NAN), ("ab", str(b"ab", "ascii")), (Record(1, X), Record(5, X * 2))):
        assert structure_of(a) == structure_of(b)
        assert hash(structure_of(a)) == hash(structure_of(b))
    assert structure_of(hash_me) == structure_of(hash_me) != structure_of(other)
    case = attrs.make_class("case", ["x"], frozen=True)
    assert structure_of(case(1).__init__) != structure_of(case(1).__init__)
    assert structure_of(Decimal(1)) != structure_of(Decimal("1.0"))
    key = Key(1)
    assert structure_of(key.method) != structure_of(key.another)
    method = key.method
    assert structure_of(method) == structure_of(method) != structure_of(Key(1).method)
    for bad in ([1], {"a": 1}, thing, (1, [2]), Record(1, [2])):
        with pytest.raises(TypeError, match="unhashable"):
            structure_of(bad)
    kept = Open(1)
    assert structure_of(kept) == structure_of(Open(2))
    kept.__dict__["more"] = 1
    with pytest.raises(TypeError, match=r"^a record has attributes that are not fields$"):
        structure_of(kept)


@frozen
class Key:
    """Equal objects, which are two."""

    n: int

    def method(self) -> int:
        """A method, bound to one of them."""
        return self.n

    def another(self) -> int:
        """Another one."""
        return -self.n


def test_structures_of_what_is_traced() -> None:
    """Those of the arrays and numbers themselves."""
    tape = Tape()
    for leaf in (X, X.T, 1, 2.5, np.float32(1)):
        assert structure_of((_input(tape, tape.input(leaf)),)) == structure_of((leaf,))
        assert is_leaf(_input(tape, tape.input(leaf)))


def test_the_memory_of_arrays() -> None:
    """Where it begins and ends, and locked copies that are one memory where their originals are."""
    start = address(X)
    for array, low, high in (
        (X, 0, 96),
        (X[1:3], 24, 72),
        (X[::-1], 0, 96),
        (X[::2, 1:], 8, 72),
        (X.T[1:, ::-3], 8, 96),
        (X[:0], 0, 0),
        (X[2, 2, ...], 64, 72),
    ):
        assert tuple(bound - start for bound in byte_bounds(array)) == (low, high)
    first, turned, same, part, number, word, small = copies([X, X.T, X, X[1:], 2.5, "word", np.arange(3, dtype="i2")])
    assert (number, word) == (2.5, "word")
    for array, wanted in ((first, X), (turned, X.T), (same, X), (part, X[1:]), (small, np.arange(3, dtype="i2"))):
        assert layout(array) == layout(wanted)
        assert array.tobytes() == wanted.tobytes()
        assert not array.flags.writeable
        assert not np.shares_memory(array, X)
    assert address(first) == address(turned) == address(same)
    assert not np.shares_memory(first, part)


# ----------------------------------------------------------------------------------------------------- a tape


def reading(array: Any) -> Const:
    """The constant of an array."""
    made: Const = Tape().encode(array)
    return made


def test_constants() -> None:
    """Small ones are known by their elements and layout, large ones by identity if they are locked; none changes."""
    tape = Tape()
    large, locked = np.zeros(2**13 + 1), np.zeros(2**13 + 1)
    locked.flags.writeable = False
    small = np.zeros(2**13)
    assert tape.encode(small) is tape.encode(small.copy())
    assert tape.encode(small) is not tape.encode(small.reshape(2, -1))
    assert tape.encode(small) is not tape.encode(small.view(np.int64))
    assert tape.encode(locked) is tape.encode(locked)
    assert tape.encode(locked).array is locked
    assert tape.encode(large) is tape.encode(large) is not tape.encode(large.copy())
    made = tape.encode(large)
    large += 1
    assert tape.encode(large) is not made
    assert not made.array.any()
    other = locked + 1
    other.flags.writeable = False
    assert tape.encode(other) is not tape.encode(locked)
    kept = weakref.ref(large)
    del large
    assert kept() is not None  # its place is a key
    columns = np.asfortranarray(X)
    assert layout(tape.encode(columns).array) == layout(columns)
    with pytest.raises(NotTraceable, match=r"^an array of Python objects$"):
        tape.encode(np.array([None]))
    assert tape.refused == "an array of Python objects"


def traced(*arrays: Any) -> tuple[Tape, list[Any]]:
    """A tape and what represents arguments on it."""
    tape = Tape()
    return tape, [_input(tape, tape.input(array)) for array in arrays]


def count(*expressions: str) -> int:
    """How many operations expressions of an array x record."""
    tape, (x,) = traced(X[:3].copy())
    with recorded_on(tape), np.errstate(all="ignore"):
        for expression in expressions:
            eval(expression, {"np": np, "math": math, "x": x})  # noqa: S307  # of the tables below
    return len(tape.ops)


RECORDED_ONCE: Final = (
    *("x * 2", "x * math.nan", "np.add.reduce(x, axis=0)", "x * np.ones(3)", "np.cumsum(x, dtype=np.float32)"),
    *("np.cumsum(x, dtype=np.dtype('f4'))", "x[[0], 1:2]", "x[[0, 1]]", "x.copy()", "x[0, 1]"),
    "np.apply_along_axis(np.sort, 1, x)",
)
RECORDED_TWICE: Final = (
    *(("x * 2", "x * 2.0"), ("x * 0.0", "x * -0.0"), ("x * 1", "x * True"), ("x * np.float32(2)", "x * np.float64(2)")),
    *(("x - x.T[:, :3]", "x.T[:, :3] - x"), ("x * x", "x + x"), ("x[[0, 1]]", "x[[1, 0]]"), ("x[0, 1]", "x[1, 0]")),
    ("np.add.reduce(x, axis=0)", "np.add.reduce(x, axis=1)"),
    ("np.sort(x, kind='stable')", "np.sort(x, kind='quicksort')"),
    ("np.cumsum(x, dtype=np.float32)", "np.cumsum(x, dtype='f2')"),
    ("x[[0, 0], 0:2]", "x[[0, 0], 1:3]"),
    ("x[[0, 0], 0:3:2]", "x[[0, 0], 0:2:1]"),
    ("np.concatenate([x, x])", "np.concatenate((x, x))"),
    ("x.copy()", "x.copy('F')"),
    ("x.astype(np.float32)", "x.astype(np.float16)"),
    ("np.apply_along_axis(np.sort, 1, x)", "np.apply_along_axis(np.flip, 1, x)"),
    ("np.empty_like(x)", "np.empty_like(x)"),
    ("np.zeros_like(x)", "np.zeros_like(x)"),
)
"""Equal functions of operands that are not equal, unequal functions, and new memory."""


@pytest.mark.parametrize("expression", RECORDED_ONCE)
def test_what_is_recorded_once(expression: str) -> None:
    """The same function of the same operands, whatever stands between, and in whatever order its options are."""
    assert count(expression, "np.tanh(x)", expression) == count(expression) + 1
    reduced = ["np.add.reduce(x, axis=0, keepdims=True)", "np.add.reduce(x, keepdims=True, axis=0)"]
    assert count(*reduced) == 1


@pytest.mark.parametrize(("first", "second"), RECORDED_TWICE)
def test_what_is_recorded_twice(first: str, second: str) -> None:
    """What may differ in a bit or in its memory."""
    assert count(first, "np.tanh(x)", second) == count(first) + 1 + count(second)


def test_a_tape_is_rewound() -> None:
    """What was recorded since the mark is forgotten: also what was known, and what was refused."""
    tape, (x,) = traced(X)
    with recorded_on(tape), np.errstate(all="ignore"):
        y = x * 2
        np.zeros_like(y)
        np.zeros_like(y)
        tape.refused = "before"
        mark = tape.mark()
        assert mark[::2] == (3, "before")
        assert tape.refused == ""
        np.tanh(x * 3)
        with pytest.raises(NotTraceable, match=r"^first$"):
            tape.refuse("first")
        with pytest.raises(NotTraceable, match=r"^second$"):
            tape.refuse("second")
        assert tape.refused == "first"
        assert len(tape.ops) == 5
        tape.rewind(mark)
        assert tape.refused == "before"
        assert len(tape.ops) == 3
        assert (x * 2).storage.value is y.storage.value
        assert len(tape.ops) == 3
        np.tanh(x * 3)
        assert len(tape.ops) == 5


def test_what_a_trace_shows_afterwards() -> None:
    """An array or a number that somebody kept shows its value."""
    _, (x, n) = traced(X, 3)
    assert recording() is None
    assert repr(x) == f"{X!r} in a trace"
    assert f"{n}" == str(n) == "3 in a trace"


def test_names_of_functions() -> None:
    """Methods with their class, records with their type, and no places where functions are made."""
    local: Any = lambda: None  # noqa: E731  # it has a name like this

    def inner() -> None:
        """A function in a function."""

    assert [name_of(each) for each in (inner, local, Key(1).method, Key(1), Key, np.sort, np.add, np.ndarray.take)] == [
        "inner",
        "<lambda>",
        "Key.method",
        "Key",
        "Key",
        "sort",
        "add",
        "ndarray.take",
    ]
    assert name_of(SimpleNamespace(__name__="plain")) == "plain"
    assert name_of(SimpleNamespace()) == "SimpleNamespace"


def test_operands_that_are_equal_stay_apart_in_products() -> None:
    """With a list of the storages so far; one array twice stays one."""
    tape, (x,) = traced(X)
    with recorded_on(tape), np.errstate(all="ignore"):
        a, b = np.tanh(x), np.tanh(x)
        assert tape.encode(a).value is tape.encode(b).value
        apart: list[Storage] = []
        first, third, second = (tape.encode(each, apart) for each in (a, a.T, b))
        assert first.value is third.value is a.storage.value
        assert second.value is not first.value
        assert [each is storage for each, storage in zip(apart, (a.storage, a.storage, b.storage), strict=True)] == [
            True
        ] * 3
        assert second.value.op.kind == "copy"
        equal: list[Storage] = []
        assert len({tape.encode(each, equal).value for each in (a, np.tanh(x), np.tanh(x))}) == 3
        assert third.strides == X.T.strides
        assert tape.encode(a[1:]).offset == 24
        assert tape.encode(a[4:]).offset == 0
        view = Traced(tape, Storage(x.storage.value, X), X)
        with pytest.raises(NotTraceable, match=r"^two arrays of the state are one$"):
            tape.encode((Traced(tape, Storage(b.storage.value, X), X), view), [])


# -------------------------------------------------------------------------------------------------- functions


def is_here(place: str) -> bool:
    """Whether a place is a line of this file; a fault that is planted by mutmut has a place of its own."""
    return place.startswith(f"{__file__}:") or "/mutmut/mutation/trampoline.py:" in place


def looks(x: Any, *, scale: float = 1.0) -> Any:
    """A function that cannot be traced."""
    return x * (float(x[1, 1]) * scale)


def raises_first(x: Any) -> Any:
    """A function that raises an error of its own in a trace alone."""
    if type(x) is not np.ndarray:
        raise KeyError("a trace")
    return x * 3, Pair(x[0], "word")


def hides(x: Any) -> Any:
    """A function that continues after a refusal."""
    try:
        return x * float(x[0, 0])
    except BaseException:  # noqa: BLE001  # that is what is tested
        return x * 2


@frozen
class Layer:
    """A function that is a record, and that attempts two others."""

    weight: Any

    def __call__(self, x: Any) -> Any:
        """All of them."""
        return attempt(looks, x, scale=2.0) + attempt(raises_first, x)[0] * self.weight


def test_functions_that_cannot_be_traced() -> None:
    """Each is one operation, with its reason, its place, and the names of what called it; the rest is traced."""

    def step(w: Any, x: Any) -> tuple[Any, float]:
        made = attempt(Layer(0.5), x) + attempt(hides, x)
        return w + made[0] + attempt(np.tanh, x)[1], made[1, 1].item()

    report = fn.program(step, W, X)
    assert [each[:2] for each in report.opaque] == [
        ("Layer looks", "float() took a number out; mark the function with @fn.whole"),
        ("Layer raises_first", "it raised KeyError: 'a trace'"),
        ("hides", "float() took a number out; mark the function with @fn.whole"),
    ]
    assert [is_here(each.place) for each in report.opaque] == [True, True, False]
    assert report.opaque[2].place == ""
    names = [getattr(each, "__qualname__", "") for each in report.constants]
    assert names == ["looks", "raises_first", "hides"]
    assert "        # Layer looks\n" in report.source
    assert "        # hides\n" in report.source
    assert "        # tanh\n" in report.source
    check_replay(step)
    assert attempt(looks, X, scale=2.0).tobytes() == looks(X, scale=2.0).tobytes()
    assert place_of(ValueError()) == ""


def check_replay(step: fn.Step[Any, Any]) -> None:
    """The replay of a step on W and X has the loss and the new state of the plain step, bit for bit."""
    with np.errstate(all="ignore"):
        wanted, loss = step(W, X)
    trace = Trace(step, W, X, set())
    trace.program.memory.arrays[0][...] = W
    assert trace.run([None, X]) == (loss,)
    assert trace.program.memory.arrays[0].tobytes() == wanted.tobytes()


def every_other(x: Any) -> Any:
    """A view with gaps."""
    return x[:, ::2] if float(x[1, 1]) else None


def uneven(a: Any, b: Any) -> Any:
    """A product whose last bits tell whether its operands are one array."""
    return a.T @ b * float(a[1, 1])


def test_operands_and_results_of_untraced_functions_are_apart() -> None:
    """Equal operands are two arrays, results have no gaps, and arguments by name are given by name."""

    def step(w: Any, x: Any) -> tuple[Any, float]:
        made = attempt(uneven, np.tanh(x), np.tanh(x))[0]
        return w + made + attempt(np.add.reduce, x, axis=0, initial=0.5), 1.0

    report = fn.program(step, W, X)
    assert [each.function for each in report.opaque] == ["uneven"]
    (pair,) = re.findall(r"made = c0\((\w+), (\w+)\)", report.source)
    assert pair[0] != pair[1]
    check_replay(step)
    assert np.array_equal(attempt(np.add.reduce, X, axis=0, initial=0.5), np.add.reduce(X, axis=0, initial=0.5))
    report = fn.program(lambda w, x: (w, attempt(every_other, x)[1, 1].item()), W, X)
    assert [each.function for each in report.opaque] == ["every_other"]


def test_a_function_that_was_refused_before_stays_so() -> None:
    """A function within that works does not hide it."""

    def step(w: Any, x: Any) -> tuple[Any, float]:
        hides(x)
        return w + attempt(np.tanh, x)[0] + attempt(looks, x)[0], 1.0

    report = fn.program(step, W, X)
    (opaque,) = report.opaque
    assert opaque.function == name_of(step)
    assert opaque.reason == "float() took a number out; mark the function with @fn.whole"


def scaled_(x: Any, pair: Any = None, *, scale: Any = 1.0) -> Any:
    """A function in one operation, of what stands in a tuple as well."""
    return Pair(x * scale + (0 if pair is None else pair[0]), float(x.max()))


def test_functions_in_one_operation() -> None:
    """Arguments by place and by name, alone and inside tuples; a call outside the trace stays outside."""
    scaled = fn.whole(scaled_)
    assert scaled.__name__ == "scaled_"

    def step(w: Any, x: Any) -> tuple[Any, float]:
        a, b = scaled(x), scaled(x=x, scale=2.0)
        c, d = scaled(x, (w, 2), scale=x[0, 0].item()), scaled(x, pair=(w, 2))
        e = scaled(np.ones(2))
        return w + a.first[0] * b.second + c.first[1] * d.second + e.first[0], a.second

    report = fn.program(step, W, X)
    assert report.opaque == ()
    assert report.source.count("made = ") == 4
    for call in ("c0(x)", "c0(x=x, scale=2.0)", "c1(x, state_, n2)", "c2(x, state_)"):
        assert f"made = {call}\n" in report.source
    check_replay(step)


def refused(function: Callable[[Any, Any], Any], state: Any = W, x: Any = X) -> str:
    """Why a step is not traced."""
    (opaque,) = fn.program(function, state, x).opaque
    assert opaque.function == name_of(function)
    return opaque.reason


def test_results_in_columns_are_copied_as_they_are() -> None:
    """The memory order is part of what a function gives."""

    def turned(x: Any) -> Any:
        return np.asarray(x).T

    def step(w: Any, x: Any) -> tuple[Any, float]:
        made = attempt(turned, x)
        assert made.flags.f_contiguous
        return w + made.sum(1), 1.0

    report = fn.program(step, W, X)
    assert [each.function for each in report.opaque] == ["turned"]
    assert "made[0].strides != (8, 24)" in report.source


# ----------------------------------------------------------------------------------------------------- traces


def test_reasons_why_a_step_is_not_traced() -> None:
    """A state of another structure, in another memory order; an argument that is written to."""
    assert refused(lambda w, _: (w.astype(np.float32), 1.0)) == (
        "the state after the step has another structure than before"
    )
    assert refused(lambda s, _: ((*s, 1), 1.0), (W,)) == "the state after the step has another structure than before"
    assert refused(lambda w, x: (w * x[0, 0], 1.0), np.asfortranarray(X)) == (
        "an array of the state is not C-contiguous"
    )
    assert refused(lambda s, _: ((s[0], s[1] * 2), 1.0), (W, X.T.copy().T)) == (
        "an array of the state is not C-contiguous"
    )
    assert refused(lambda w, x: (w, x.__setitem__(0, 1.0) or 1.0), W, X.copy()) == "assignment destination is read-only"


def test_numbers_that_vary() -> None:
    """A number of the state that a step changes must be among those that vary; the error says which."""

    def step(state: Any, x: Any) -> tuple[Any, Any]:
        w, n, m, _, z = state
        return (w * m, n + 1, m, x[0][0, 0].item(), z), n

    state = (W, 3, 0.5, 1.5, -0.0)
    with pytest.raises(Varies, match=r"^a number of the state changes in some steps and not in others$") as caught:
        Trace(step, state, (X, 7), set())
    assert caught.value.places == {1, 3}


def test_which_numbers_a_trace_fits() -> None:
    """Constants are compared bit for bit; numbers that vary are given."""

    def step(state: Any, given: Any) -> tuple[Any, Any]:
        w, n, zero, fixed = state
        scale, x, zero_too, whole = given
        return (w * scale + x[0] * zero, n + 1, zero, fixed), (n * 2, x, zero_too, whole)

    state, given = (W, 3, -0.0, W), (0.25, X, 0.0, 0)
    trace = Trace(step, state, given, {1})
    assert (trace.arrays, trace.counters, trace.given, trace.fixed, trace.changed) == (
        [0, 3],
        [1],
        [5],
        [2, 4, 6, 7],
        [0],
    )
    assert trace.constants == (-0.0, 0.25, 0.0, 0)
    assert trace.replays == 0
    assert not trace.verified
    assert 0 < trace.seconds < 60
    assert leaves_of(trace.skeleton) == [0.0] * 4
    after, made = trace.outcome
    assert [type(leaf) for leaf in (*after, *made)] == [np.ndarray, int, float, np.ndarray, int, np.ndarray, float, int]
    assert after[1:3] == [4, -0.0]
    assert made[0] == 6
    leaves = leaves_of((state, given))
    assert trace.fits(leaves)
    for place, other, wanted in ((1, 9, True), (2, 0.0, False), (4, 0.5, False), (6, -0.0, False), (7, 1, False)):
        changed = [*leaves[:place], other, *leaves[place + 1 :]]
        assert trace.fits(changed) is wanted
        trace.program.memory.arrays[0][...] = W
        done = trace.run(changed)
        assert (done is not None) is wanted
        if done is not None:
            assert (done[0], done[1] is X, *done[2:]) == (18, True, 0.0, 0, 10)
            assert trace.program.memory.arrays[0].tobytes() == (W * 0.25 + X[0] * -0.0).tobytes()
    assert "def run(x, n):" not in trace.program.source
    assert "def run(net_1, net_1_):" in trace.program.source
