"""The parts that a trace is made of: trees and their leaves, tapes and their constants, functions in one operation."""
# pyright: basic

from __future__ import annotations

import math
import re
import threading
import weakref
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, cast

import attrs
import numpy as np
import pytest
from attrs import frozen

import funcnet as fn
from funcnet.tracing import attempt
from funcnet.tracing.ducks import Traced
from funcnet.tracing.functions import copies, one_operation, place_of
from funcnet.tracing.program import StateMemory
from funcnet.tracing.recorder import (
    Const,
    NotTraceable,
    Storage,
    Tape,
    Value,
    address,
    byte_bounds,
    layout,
    map_parts,
    name_of,
    parts_of,
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
    (0.0, 0.0, True),
    (0.0, -0.0, False),
    (-0.0, -0.0, True),
    (0, 0, True),
    (NAN, NAN, True),
    (NAN, 1.0, False),
    (1.0, NAN, False),
    (1.5, 1.5, True),
    (1.5, 2.5, False),
    (10**400, 10**400, True),
    (10**400, 1.0, False),
    (W, W.copy(), True),
    (W, -W, False),
    (W * 0, W * 0.0, False),
    (W * NAN, W * NAN, True),
    (W[:1], 0.5, False),
    (0.5, W[:1], False),
    (np.zeros(1), 0.0, False),
    (0.0, np.zeros(1), False),
    (np.float64(0.0), np.float64(-0.0), False),
)


@pytest.mark.parametrize(("a", "b", "wanted"), ALIKE)
def test_same_leaf(a: Any, b: Any, wanted: bool) -> None:  # noqa: FBT001  # a parameter
    """Bit for bit."""
    found = same_leaf(a, np.copysign(b, 1.0) if b is ALIKE[13][1] else b)
    assert found is wanted


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


def test_parts_of_arguments() -> None:
    """Of tuples, lists and dicts, in order; a Ref is a tuple, and a part."""
    ref = Value(X, cast("Any", None)).whole
    tree = (1, [2, {"a": ref, "b": (X,)}], Pair(3, None), "word")
    parts = parts_of(tree)
    assert parts[:2] == [1, 2]
    assert parts[2] is ref
    assert parts[3] is X
    assert parts[4:] == [3, None, "word"]
    doubled = map_parts(lambda part: (part,), (1, [2, {"a": ref}], Pair(3, 4)))
    assert doubled == ((1,), [(2,), {"a": (ref,)}], ((3,), (4,)))
    assert ref.is_whole
    assert not ref._replace(offset=8).is_whole


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


def count(function: Callable[..., Any], *args: Any) -> int:
    """How many operations a function records."""
    tape, ducks = traced(*args)
    with recorded_on(tape), np.errstate(all="ignore"):
        function(*ducks)
    return len(tape.ops)


SAME: Final[dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], bool]]] = {
    "equal": (lambda x: x * 2, lambda x: x * 2, True),
    "an int and a float": (lambda x: x * 2, lambda x: x * 2.0, False),
    "two zeros": (lambda x: x * 0.0, lambda x: x * -0.0, False),
    "no numbers": (lambda x: x * math.nan, lambda x: x * math.nan, True),
    "a bool and an int": (lambda x: x * 1, lambda x: x * True, False),
    "two precisions": (lambda x: x * np.float32(2), lambda x: x * np.float64(2), False),
    "other operands": (lambda x: x - x.T[:, :3], lambda x: x.T[:, :3] - x, False),
    "another function": (lambda x: x * x, lambda x: x + x, False),
    "equal options": (lambda x: np.add.reduce(x, axis=0), lambda x: np.add.reduce(x, axis=0), True),
    "other options": (lambda x: np.add.reduce(x, axis=0), lambda x: np.add.reduce(x, axis=1), False),
    "other options of one shape": (lambda x: np.sort(x, kind="stable"), lambda x: np.sort(x, kind="quicksort"), False),
    "options in another order": (
        lambda x: np.add.reduce(x, axis=0, keepdims=True),
        lambda x: np.add.reduce(x, keepdims=True, axis=0),
        True,
    ),
    "equal constants": (lambda x: x * np.ones(3), lambda x: x * np.ones(3), True),
    "equal dtypes": (lambda x: np.cumsum(x, dtype=np.float32), lambda x: np.cumsum(x, dtype=np.float32), True),
    "other dtypes": (lambda x: np.cumsum(x, dtype=np.float32), lambda x: np.cumsum(x, dtype="f2"), False),
    "equal dtype objects": (
        lambda x: np.cumsum(x, dtype=np.dtype("f4")),
        lambda x: np.cumsum(x, dtype=np.dtype("f4")),
        True,
    ),
    "equal slices": (lambda x: x[[0], 1:2], lambda x: x[[0], 1:2], True),
    "other ends": (lambda x: x[[0, 0], 0:2], lambda x: x[[0, 0], 1:3], False),
    "other steps": (lambda x: x[[0, 0], 0:3:2], lambda x: x[[0, 0], 0:2:1], False),
    "a list and a tuple": (lambda x: np.concatenate([x, x]), lambda x: np.concatenate((x, x)), False),
    "lists": (lambda x: x[[0, 1]], lambda x: x[[0, 1]], True),
    "other lists": (lambda x: x[[0, 1]], lambda x: x[[1, 0]], False),
    "copies": (lambda x: x.copy(), lambda x: x.copy(), True),
    "copies in other orders": (lambda x: x.copy(), lambda x: x.copy("F"), False),
    "copies in other dtypes": (lambda x: x.astype(np.float32), lambda x: x.astype(np.float16), False),
    "equal functions as operands": (
        lambda x: np.apply_along_axis(np.sort, 1, x),
        lambda x: np.apply_along_axis(np.sort, 1, x),
        True,
    ),
    "other functions as operands": (
        lambda x: np.apply_along_axis(np.sort, 1, x),
        lambda x: np.apply_along_axis(np.flip, 1, x),
        False,
    ),
    "new memory": (np.empty_like, np.empty_like, False),
    "zeros": (np.zeros_like, np.zeros_like, False),
    "elements": (lambda x: x[0, 1], lambda x: x[0, 1], True),
    "other elements": (lambda x: x[0, 1], lambda x: x[1, 0], False),
}


@pytest.mark.parametrize("name", SAME)
def test_what_is_recorded_once(name: str) -> None:
    """The same function of the same operands, whatever stands between."""
    first, second, wanted = SAME[name]
    alone = count(first, X[:3].copy())
    both = count(lambda x: (first(x), np.tanh(x), second(x)), X[:3].copy())
    assert both == alone + 1 + (0 if wanted else count(second, X[:3].copy()))


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


def test_what_a_tape_refuses_to_record() -> None:
    """Another thread, a handling of errors that may be seen, an argument that is written to."""
    tape, (x, n) = traced(X, 3)
    reasons: list[str] = []

    def attempted(function: Callable[[], Any]) -> None:
        tape.refused = ""
        with recorded_on(tape), np.errstate(all="ignore"), pytest.raises(BaseException):  # noqa: B017, PT011
            function()
        reasons.append(tape.refused)

    def in_a_thread() -> None:
        errors: list[BaseException] = []

        def run() -> None:
            try:
                with np.errstate(all="ignore"):
                    _ = x * 2
            except BaseException as error:  # noqa: BLE001  # raised again
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        raise errors[0]

    def with_a_warning() -> None:
        with np.errstate(divide="warn"):
            _ = x * 2

    def written() -> None:
        y = x.copy()
        _ = y[n % 4]
        y[0] = 1.0

    attempted(in_a_thread)
    attempted(with_a_warning)
    attempted(written)
    attempted(lambda: x.copy().reshape(7))
    attempted(lambda: str(x))
    attempted(lambda: f"{n:3}")
    assert reasons == [
        "another thread took part",
        "np.errstate that does not ignore",
        "an argument was written to",
        "ndarray.reshape raised ValueError",
        "what varies was written as text",
        "what varies was written as text",
    ]
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


def test_what_is_written_makes_a_new_value() -> None:
    """In part, the old value is an operand; as a whole, it is not."""
    tape, (x,) = traced(X)
    with recorded_on(tape), np.errstate(all="ignore"):
        y = x * 2
        values = [y.storage.value]
        writes: list[Callable[[], Any]] = [
            lambda: y.__setitem__(0, 1.0),
            lambda: y.__setitem__(..., x),
            lambda: np.add(y, 1, out=y, where=y > 0),
            lambda: y.put([1], 2.0),
            lambda: np.add(y, 1, out=y),
            lambda: np.add(y.T, 1, out=y.T),
        ]
        for write in writes:
            write()
            values.append(y.storage.value)
    assert len(set(values)) == 7
    bases = [value.op.base for value in values[1:]]
    assert [base is old for base, old in zip(bases, values[:-1], strict=True)] == [True, False, True, True, False, True]
    assert [base is None for base in bases] == [False, True, False, False, True, False]
    intos: list[Any] = [value.op.into for value in values[1:]]
    assert [None if into is None else (into.offset, into.shape) for into in intos] == [
        (0, (3,)),
        None,
        (0, (4, 3)),
        (0, (4, 3)),
        None,
        (0, (3, 4)),
    ]
    assert all(into is None or into.value is base for into, base in zip(intos, bases, strict=True))


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


@fn.whole
def gaps(x: Any) -> Any:
    """An array with gaps, alone or in a tuple."""
    return x[:, ::2]


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


def test_results_with_gaps_are_refused() -> None:
    """Their memory order could not be that of a buffer."""
    assert refused(lambda w, x: (w, gaps(x)[0, 0].item())) == "gaps gave an array with gaps in its memory"


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


def test_a_function_that_gives_another_structure_ends_a_replay() -> None:
    """Its result cannot be taken apart as the trace's was."""
    seen: list[int] = []

    def growing(x: Any) -> Any:
        seen.append(1)
        return tuple(np.asarray(x)[: len(seen)])

    tape, (x,) = traced(X)
    with recorded_on(tape), np.errstate(all="ignore"):
        (row,) = one_operation(tape, growing, ((x,), {}))
    assert row.array.tobytes() == X[0].tobytes()
    with pytest.raises(Exception) as caught:  # noqa: PT011  # of a class that is not public
        tape.ops[-1].func(X)
    assert type(caught.value).__name__ == "Changed"
    seen.clear()
    assert [leaf.tobytes() for leaf in tape.ops[-1].func(X)] == [X[0].tobytes()]


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


CONSTANTS: Final[tuple[tuple[Any, ...], ...]] = ((0.0,), (0,), (0.5,), (0.5, 1.5), (NAN, 1.0), (np.float64(0), 1), ())


@pytest.mark.parametrize("given", CONSTANTS, ids=str)
def test_constants_are_compared_bit_for_bit(given: tuple[Any, ...]) -> None:
    """0.0 and -0.0 make two programs, and NaN makes one."""
    trace = Trace(lambda state, _: (state, 1.0), (), (X, *given), set())
    assert trace.fits([X, *given])
    for place, number in enumerate(given):
        for other in (number + 1, *([] if isinstance(number, int) or number else [-number])):
            if number == number or other == other:  # two NaNs are one
                assert not trace.fits([X, *given[:place], other, *given[place + 1 :]])


NAMED: Final[dict[str, tuple[Any, Any, str, str]]] = {
    "arrays": (W, X, "state_ = np.ndarray", "def run(x)"),
    "tuples": ((W, (W, 1)), (X, X), "net_1_0 = np.ndarray", "def run(net_0, net_1, net_1_1)"),
    "records": (Record(W, Pair(W, 1)), Record(X, X), "b_first = np.ndarray", "def run(a, b, b_second)"),
    "nothing": ((), X, "def program", "def run(x)"),
}


@pytest.mark.parametrize("name", NAMED)
def test_names_of_arguments_and_states(name: str) -> None:
    """Their paths, made to names; what has no path is the state or x."""
    state, given, wanted, parameters = NAMED[name]
    counters = {i for i, leaf in enumerate(leaves_of(state)) if isinstance(leaf, int)}
    trace = Trace(
        lambda s, x: (map_leaves(lambda leaf: leaf + 1, s), leaves_of(x)[0][0, 0].item()), state, given, counters
    )
    assert wanted in trace.program.source
    assert parameters in trace.program.source


def test_a_state_that_a_step_takes_from_elsewhere() -> None:
    """Two arrays of a result that are one constant, or one view, become two."""

    def step(state: Any, x: Any) -> tuple[Any, Any]:
        a, *_ = state
        return (W, W, x[0], x[0]), (x.T, LIST[0], a[::-1], 1.5)

    trace = Trace(step, (W + 1, W + 2, W + 3, W + 4), X, set())
    assert trace.changed == [0, 1, 2, 3]
    for array in trace.program.memory.arrays:
        array[...] = -1.0
    done = trace.run([None, None, None, None, X])
    assert done is not None
    assert [array.tolist() for array in trace.program.memory.arrays] == [W.tolist(), W.tolist(), *[X[0].tolist()] * 2]
    assert [made.flags.c_contiguous for made in done[:3]] == [True] * 3
    assert done[0].tolist() == X.T.tolist()
    assert done[2].tolist() == [-1.0] * 3
    assert len({address(made) for made in done[:3]}) == 3


def test_an_array_without_elements_has_memory_of_its_own() -> None:
    """And the layout that it had."""
    memory = StateMemory([np.ones((0, 3), np.float32), X, np.ones(1)[:, None], X.T], [[1, 3]])
    assert list(memory.starts.items()) == [(1, 0), (3, 128), (0, 256), (2, 256)]
    assert [layout(array)[0::2] for array in memory.arrays] == [
        ((0, 3), np.dtype(np.float32)),
        ((4, 3), np.dtype(np.float64)),
        ((1, 1), np.dtype(np.float64)),
        ((3, 4), np.dtype(np.float64)),
    ]
    assert memory.arrays[3].strides == (8, 24)
    assert np.shares_memory(memory.arrays[2], memory.block)
    assert memory.holds([1, 3])
    assert memory.holds([1, 3, 0])
    assert not memory.holds([1, 0])
    assert not memory.holds([1, 3, 1])
    assert not memory.holds([3, 1])
    assert memory.holds([2])
    assert address(memory.block) % 64 == 0
