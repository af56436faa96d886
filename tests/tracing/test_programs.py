"""The programs that tracing makes: their text, which updates are joined, and which operations may end a step.

``programs.txt`` has the whole text of some programs: what a change of tracing changes shows there. To write the file
again, run ``python tests/tracing/test_programs.py``.
"""
# pyright: basic
# ruff: noqa: ARG005  # the functions of a table have the same arguments

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pytest
from attrs import frozen

import funcnet as fn
from funcnet.tracing import attempt, fusion, passes, program
from funcnet.tracing.passes import _may_raise
from funcnet.tracing.recorder import Op, Tape, Value, recorded_on
from funcnet.tracing.traces import Trace, _input
from funcnet.tracing.writer import Room, _described, _identifiers

TEXT: Final = Path(__file__).with_name("programs.txt")
NUMPY_1: Final = int(np.__version__.partition(".")[0]) < 2
X: Final = np.sin(np.arange(12.0)).reshape(4, 3)
W: Final = np.array([0.5, 1.5, -2.5])
LOCKED: Final = np.cos(np.arange(12.0)).reshape(4, 3)
LOCKED.flags.writeable = False


# ------------------------------------------------------------------------------------------------ whole texts


class Params(NamedTuple):
    """A named tuple within a state."""

    weight: Any
    bias: Any


@frozen(eq=False)
class State:
    """A record whose fields have the names of arguments, of Python's words and of what the source has itself."""

    params: Params
    momentum: Params
    n: int
    rate: float


def hidden(x: Any, params: Params) -> Any:
    """A layer, called by ``attempt``, so its lines bear its name."""
    return np.maximum(x @ params.weight + params.bias, 0)


def looking(x: Any) -> Any:
    """A layer that cannot be traced."""
    return x * float(x[0, 0])


@fn.whole
def largest(x: Any, low: float = 0.0, high: float = 1.0) -> tuple[float, Any]:
    """A number and an array in one operation."""
    return float(np.clip(x, low, high).max()), x.T.copy()


def descent(state: State, x: Any) -> tuple[State, float]:
    """Forward, backward and an update with momentum of two parameters, whose rate falls with the step."""
    params = state.params
    h = attempt(hidden, x, params)
    g = h * (h > 0)
    grads = Params(x.T @ g, np.add.reduce(g))
    rate = state.rate / (state.n + 1)
    momentum = Params(*(0.9 * m + grad for m, grad in zip(state.momentum, grads, strict=True)))
    new = Params(*(w - rate * m for w, m in zip(params, momentum, strict=True)))
    return State(new, momentum, state.n + 1, state.rate), np.add.reduce(h, axis=None).item() / (state.n + 1)


def conditions(state: Any, x: Any) -> tuple[Any, Any]:
    """Numbers, and conditions on them before and after the update."""
    (w, i), n, s = state
    y = x * 2 if n > 3 else x + 1
    if not n % 2 and n < 10 and n >= 1 and n != 8:
        y = y - n
    w = w * 0.9 + y[0] * s
    i = i * 3 + n + 10**3
    if np.maximum.reduce(y, axis=None) >= 40 or w[0] == 1:
        w = w * 2
    loss = abs(-n + (n + 1) // 2) / 3 + 2**n - n * 0.5
    return ((w, i), n + 1, s * 0.5 + y[1, 1].item()), loss + np.float32(2) * n


def calls(state: Any, x: Any) -> tuple[Any, float]:
    """Functions that are no ufuncs, with one result or several, and a function in one operation."""
    w, v = state
    size, turned = largest(x, high=0.5)
    a, b = np.modf(x * 3)
    picked = x.take([0, 5, 11]) + np.take(x, [1, 1, 0], axis=1)[0] + x.take([0, 13, 7], mode="wrap")
    y = np.where(x > 0, x, w) + np.where(x[0], 0.5, turned.T) + np.concatenate((x[2:], x[:2]), axis=0)
    y = y + np.sort(x, axis=0) + LOCKED + np.full((4, 3), 0.25) + np.full((4, 3), -0.25) + attempt(looking, x)
    y = y + np.array([True, False, True]) + np.arange(3, dtype=np.uint8) + a.dot(b.T)[:, :3]
    y = y + np.linalg.qr(x)[0] + x[[0, 1, 2, 0], :] + np.dot(x, w)[:, None] + np.float64(0.5) + np.float32(3)
    v = np.linalg.matrix_power(v * 0.5, 2) * size
    return (w + picked + y[0], v), np.minimum.reduce(y, axis=None).item()


def writes(state: Any, x: Any) -> tuple[Any, float]:
    """Arrays that are written to, in part and as a whole, and views of them."""
    w, n = state
    y = x * 2
    y[0] -= 3
    y.T[1] *= w[0]
    y[1:, ::2] = w[:2]
    y.reshape(-1)[::5] += 1
    z = np.empty_like(y)
    np.add(y, 1, out=z, where=y > 0)
    np.copyto(z[1:], z[:-1], where=z[1:] < 0)
    z[[0, 1]] = y[[1, 0]]
    z.put([0, 7], y[0, 1:])
    np.add.at(z, 1, w)
    np.maximum.reduce(y, axis=0, out=z[3])
    counts = np.zeros_like(x, np.int64)
    counts[...] = n
    counts[0] = y[0] > 0
    np.copyto(counts, y, casting="unsafe", where=x > 0)
    z.fill(n) if n > 5 else z.T.fill(0.5)
    u = y.copy("F") + z.astype(np.float32) * counts
    return (w + u.sum(0), n + 1), u.T[0, 1].item()


def moves(state: Any, x: Any) -> tuple[Any, float]:
    """Arrays that change their places in the state, parts of the batch, an array without elements."""
    a, b, c, d, e, f = state
    return (b, a * 0.5, f, (d.T * 2).copy(), e * 2, x[:, 0].copy()), x.T[0, 1] + x[1:].view(np.int64)[0, 0] + c[0]


def products(state: Any, x: Any) -> tuple[Any, float]:
    """Products of equal arrays, which stay two, and products that need each other's results."""
    a, b = state
    a = a - 0.1 * (x @ x.T @ a)
    b = b - 0.1 * (np.tanh(x) @ np.tanh(x).T @ a)
    return (a, b), np.add.reduce(np.einsum("ij,ij->i", a, b)).item()


def root(x: Any) -> Any:
    """A formula in a function."""
    return np.sqrt(x * x + 1)


def masked(x: Any, mask: Any) -> Any:
    """A mask from elsewhere."""
    return x * mask


def two_kinds(state: Any, x: Any) -> tuple[Any, Any]:
    """Two families; masks in two dtypes; results that are an argument, arrays and a part of the new state."""
    a, b, c, d, e = state
    mask, wide = x[0] > 0, x > 1
    g, h = x[0] * mask - 0.5, np.exp(c) * (c > 0) + (c > 1)
    new = a - 0.5 * g, b - 0.5 * (g + a), c * np.float32(0.5) + h - mask, attempt(root, d), np.sqrt(e * e + 1)
    out = np.empty_like(x)
    np.add(x, x > 0, out=out, where=x < 1)
    return new, (x, new[0], np.add.reduce(out), out[1:], True, 2.5, attempt(masked, x, wide))


def named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of this name, which its lines bear."""
    function.__qualname__ = name
    return function


def places(state: Any, x: Any) -> tuple[Any, float]:
    """Each kind of operation in a function of its own."""
    w, n = state
    y = x * 1
    u = attempt(named("a copy", lambda x: x.T.copy()), x[:3] * 1)
    attempt(named("a mutation", lambda y: y.put([0], 5.0)), y)
    z = attempt(named("a product", lambda y: np.dot(y, y.T)), y)
    z = z + attempt(named("a take", lambda x: x.take([0, 1, 2, 0], 1)), x)
    z = z + attempt(named("a join", lambda x, y: np.concatenate((x, y), 1)), x, y)[:, 1:5]
    z = z + attempt(named("a choice", lambda m, x: np.where(m, 0.5, x)), x[:, :1] * y > 1, x)[:, :1]
    z = z * attempt(named("a number", lambda z: (z[0, 0] << 1 | 1) ^ ~n), z.astype(np.int64))
    s = attempt(named("a sum", lambda z: np.add.reduce(z, 0)), z)
    w = attempt(named("a condition", lambda s: w if s[0] > 0 else -w), s) * 0.5
    flag = s[2] > 0
    w = w + attempt(named("a flag", lambda flag: s[0] if flag else s[1]), flag)
    return (w, n + 1), s[1].item() + u[0, 1].item()


def numbers(state: Any, x: Any) -> tuple[Any, Any]:
    """Numbers and constants beside arrays of several dtypes."""
    w, n, s = state
    single, small, mask = x.astype(np.float32), np.abs(x * 9).astype(np.uint8), x > 0
    y = single * 1e300 + single * 0.1 + (mask * 2) * (mask + 1.5) + LOCKED * s + x * float("inf") - x * float("nan")
    y = y + ((small + 255) * (small + 0) - (small > -1) + (small < 300) * (small // 7)) + small * 0.5
    y = y + np.clip(single, x[0, 0], 2) + np.clip(single, x, 3) + np.multiply(x[0, 1], 3) + np.multiply(x[0, 1], n)
    y = y + np.full(3, 7) + np.full(1, 0.75) + np.full((4, 1), np.inf) + np.full((1, 3), 2.0**60) + np.zeros((4, 3))
    y[2:, 1:] += np.full(2, 0.25)
    y[:2, :2] += np.full(2, 0.25) + np.full(2, -0.0) + np.ones((2, 2), np.bool_)
    y = y + x.take([2, 0, 1], axis=1) + x.take(mode="clip", indices=[0, 1, 9, 2], axis=0) + x.take([[1], [2], [3], [4]])
    y = y + x.take([0, 13, 26], None, None, "wrap")
    return (w + y[0], n + 1, s), (y, x.view(np.int64).sum(), mask.any())


def memory(state: Any, x: Any) -> tuple[Any, Any]:
    """New values that are computed in the state, old ones that are still needed, parts that are written to."""
    a, b, c, d, e, f = state
    one, two = x * 2, x * 2
    one[0] = 1.0
    bits = one.view(np.int64)
    bits[1] = x[1]
    bits[2] = 7
    one[3] = LOCKED[3]
    g, h = np.zeros_like(c), np.zeros_like(d)
    g[1:] = x[0, 1:]
    h[1:] = x[1, 1:]
    old = np.add.reduce(a[:8]) + np.add.reduce(b[8:]) * np.add.reduce(b[:8]) + a[1]
    c, d = c - 0.5 * g, d - 0.5 * h
    g *= 2
    e, f = np.exp(x[2]) * 0.25, np.exp(x[3]) * 0.25
    a = np.exp(b[8:])
    return (a, np.exp(b[::-1]), c, d, e, f), (one * two, old, g, h)


def ending(i: Any, _: Any) -> tuple[Any, float]:
    """An operation that may raise an error, of which the new state is made."""
    return 2**i, 1.0


def twice(state: Any, x: Any) -> tuple[Any, Any]:
    """New values that are one array, or old ones of which one changes, too."""
    *_, c, d = state
    new = np.tanh(x[0])
    return (new, new, d, np.tanh(c)), x[0, 0]


def flat(state: Any, _: Any) -> tuple[Any, float]:
    """Two families, of which one can be computed in its own memory and one changes places."""
    a, b, c, d = state
    return (a * 0.5 - a, b * 0.5 - b, d * 0.25 - d, c * 0.25 - c), 1.0


def offsets(state: Any, _: Any) -> tuple[Any, Any]:
    """A part of an array whose offset is where the array begins."""
    a, b = state
    u, v = a * 0.5, b * 0.5
    return (u + 1, v + 1), np.add.reduce(a) + np.add.reduce(b[8:]) + np.add.reduce(u) + np.add.reduce(v[8:])


PARAMS: Final = Params(np.sin(np.arange(6.0)).reshape(3, 2), np.zeros(2))
MOVED: Final = (W, W + 1, np.zeros(4), np.eye(3), np.ones((0, 2)), np.arange(4.0))
PROGRAMS: Final[dict[str, tuple[Any, Any, Any]]] = {
    "descent": (descent, State(PARAMS, Params(np.zeros((3, 2)), np.zeros(2)), 3, 0.5), X),
    "conditions": (conditions, ((W, np.arange(3, dtype=np.int64)), 4, 0.5), X),
    "calls": (calls, (W, np.eye(3)), X),
    "writes": (writes, (W, 2), X),
    "moves": (moves, MOVED, X),
    "moves, by a batch with gaps": (moves, MOVED, np.repeat(X, 2, axis=1)[:, ::2]),
    "places": (places, (W, 5), X),
    "products": (products, (X, X + 1), X),
}


UNCHECKED: Final[dict[str, tuple[Any, Any, Any, set[int]]]] = {
    "descent, whose loss is not looked at": (*PROGRAMS["descent"], {4}),
    "moves, whose result is not looked at": (*PROGRAMS["moves"], set()),
    "numbers": (numbers, (W, 3, 0.5), X, {1, 2}),
    "memory": (memory, (np.arange(8.0), np.arange(16.0), W, W + 1, W + 2, W + 3), X, set()),
    "flat": (flat, (W, W + 1, W + 2, W + 3), X, set()),
    "offsets": (offsets, (np.arange(8.0), np.arange(16.0)), X, set()),
    "ending": (ending, np.arange(3, dtype=np.int64), X, set()),
    "twice": (twice, (W, W, W, W), X, set()),
    "arrays of two kinds": (two_kinds, (W, W + 1, W.astype(np.float32), X, X + 1), X, set()),
}


def texts() -> Iterator[str]:
    """The sections of programs.txt: steps as ``program`` prints them, and a step that ends with its update."""
    for name, (step, state, x) in PROGRAMS.items():
        report = fn.program(step, state, x)
        opaque = "".join(f"# not traced: {each.function}: {each.reason}\n" for each in report.opaque)
        yield f"# {name}: {report.calls} calls, {report.nbytes} bytes\n{opaque}{body(report.source)}"
    for name, (step, state, x, varying) in UNCHECKED.items():
        made = Trace(step, state, x, varying).program
        size = f"{made.calls} calls, {made.nbytes} bytes and the state's {len(made.memory.block)}"
        yield f"# {name}: {size}\n{body(made.source)}"


def body(source: str) -> str:
    """The text without its heading."""
    return source[source.index("    return block[") :].partition("\n")[2].strip() + "\n"


@pytest.mark.skipif(NUMPY_1, reason="some numbers have other types in NumPy 1")
@pytest.mark.skipif(np.dtype(np.intp).str != "<i8", reason="the text has dtypes of 64-bit little-endian machines")
def test_programs_are_those_of_the_text() -> None:
    """Line by line: an operation more, a buffer more, another order or another name is a change to be seen."""
    assert "\n\n".join(texts()) == TEXT.read_text()


def test_equal_traces_have_equal_programs() -> None:
    """Nothing but the time that it takes differs between two traces of a step."""
    first, second = (fn.program(*PROGRAMS["writes"]) for _ in range(2))
    assert (first.source, first.calls, first.nbytes) == (second.source, second.calls, second.nbytes)
    assert 0 < first.seconds < 60


# --------------------------------------------------------------------------------------------------- families

Joined = list[tuple[list[str], list[int]]]
"""For each family: the functions that it calls, and which arrays of the state it is for."""
HALVES: Final = np.array([0.5, 0.5, 0.5])


def _doubled(x: Any) -> Any:
    x[1:] *= 2
    return x


def _backwards(x: Any) -> Any:
    out = np.empty_like(x)
    np.multiply(x, 2, out=out[::-1])
    return out


@fn.whole
def two(x: Any) -> tuple[float, float]:
    """Two numbers, equal in the trace."""
    return float(abs(x[0, 0])), float(abs(x[0, 0]))


def _where(x: Any) -> Any:
    out = np.zeros_like(x)
    np.multiply(x, 2, out=out, where=x > 0)
    return out


# fmt: off
FAMILIES: Final[dict[str, tuple[Callable[..., Any], Joined]]] = {
    "one formula": (lambda a, b, x: (a * 0.5 + x[0].copy(), b * 0.5 + x[1].copy()), [(["multiply", "add"], [0, 1])]),
    "copies": (lambda a, b, x: (x[0].copy(), x[1].copy()), []),
    "one array alone": (lambda a, b, x: (a * 0.5 + x[0], b), []),
    "another function": (lambda a, b, x: (a * 0.5, b + 0.5), []),
    "another number": (lambda a, b, x: (a * 0.5, b * 0.25), []),
    "an int and a float": (lambda a, b, x: (a * 2, b * 2.0), []),
    "a number in two precisions": (lambda a, b, x: (a * np.float64(0.5), b * np.float32(0.5)), []),
    "constants without axes": (lambda a, b, x: (a * np.array(0.5), b * np.array(0.5)), [(["multiply"], [0, 1])]),
    "other constants without axes": (lambda a, b, x: (a * np.array(0.5), b * np.array(0.25)), []),
    "constants in two precisions": (lambda a, b, x: (a * np.array(0), b * np.array(0, np.float32)), []),
    "constants with axes": (lambda a, b, x: (a * HALVES, b * HALVES), []),
    "one number that varies": (lambda a, b, x: (a * x[0, 0].item(), b * x[0, 0].item()), [(["multiply"], [0, 1])]),
    "two numbers that vary": (lambda a, b, x: (a * x[0, 0].item(), b * x[0, 1].item()), []),
    "numbers alone": (lambda a, b, x: (np.add(x[0, 0].item(), np.zeros_like(a)),) * 2, []),
    "a function that rounds by its place": (lambda a, b, x: (np.exp(a), np.exp(b)), []),
    "inside of such a function": (lambda a, b, x: (np.exp(a * 2) * 3, np.exp(b * 2) * 3), [(["multiply"], [])]),
    "an operand used twice": (lambda a, b, x: (a * a, b * b), [(["multiply"], [0, 1])]),
    "two operands in another order": (lambda a, b, x: (a - np.exp(a), np.exp(b) - b), []),
    "each other": (lambda a, b, x: (a * b, b * a), []),
    "each other, apart": (lambda a, b, x: (a + np.exp(b), b + np.exp(a)), [(["add"], [0, 1])]),
    "one needs the other": (lambda a, b, x: (a * 0.5, b - np.exp(a * 0.5)), []),
    "one needs the other's new value": (lambda a, b, x: (a - np.exp(x[0]), b - np.exp(a - np.exp(x[0]))), []),
    "a part of the batch": (lambda a, b, x: (a + x[0], b + x[1]), []),
    "broadcast": (lambda a, b, x: (a + np.exp(x[0, :1]), b + np.exp(x[0, 1:2])), []),
    "a view backwards": (lambda a, b, x: (np.exp(a)[::-1] * 0.5, np.exp(b)[::-1] * 0.5), []),
    "a view at an offset": (lambda a, b, x: (np.exp(x)[1] * 0.5, np.exp(-x)[1] * 0.5), []),
    "a view of bits": (lambda a, b, x: (np.exp(a).view(np.int64) * 0.5, np.exp(b).view(np.int64) * 0.5), []),
    "another dtype":
        (lambda a, b, x: (a.astype(np.float32) * 0.5 + np.exp(a), b.astype(np.float32) * 0.5 + np.exp(b)), []),
    "another shape of as many elements":
        (lambda a, b, x: ((np.exp(a).reshape(3, 1) * 0.5).reshape(3), (np.exp(b).reshape(3, 1) * 0.5).reshape(3)), []),
    "options": (lambda a, b, x: (np.multiply(a, 2, dtype=np.float64), np.multiply(b, 2, dtype=np.float64)), []),
    "written in part": (lambda a, b, x: (_doubled(a + 1), _doubled(b + 1)), []),
    "written where": (lambda a, b, x: (_where(a), _where(b)), []),
    "one new array twice": (lambda a, b, x: (a * 0.5,) * 2, []),
    "swapped": (lambda a, b, x: (b * 0.5, a * 0.5), [(["multiply"], [1, 0])]),
    "gradients of other depths":
        (lambda a, b, x: (a - np.exp(x[0]), b - np.exp(np.exp(x[1]))), [(["subtract"], [0, 1])]),
    "made of nothing": (lambda a, b, x: (np.exp(np.zeros_like(a)) * 0.5, np.exp(b) * 0.5), [(["multiply"], [])]),
    "constants that differ in the last bits": (lambda a, b, x: (a * np.array(0.5), b * np.array(0.5 + 1e-16)), []),
    "numbers that are two objects": (lambda a, b, x: (a * float("0.7"), b * float("0.7")), [(["multiply"], [0, 1])]),
    "two equal numbers of one operation": (lambda a, b, x: (a * two(x)[0], b * two(x)[1]), []),
    "written backwards": (lambda a, b, x: (_backwards(a), _backwards(b)), []),
    "moved": (lambda a, b, x: (b, a), []),
}
# fmt: on
"""New values of two arrays of one shape, and what of them is joined."""


def joined(step: Any, state: Any, x: Any) -> tuple[Joined, Trace]:
    """The families of a step, and its trace."""
    seen: Joined = []

    def families_of(ops: Sequence[Op], olds: Sequence[Value], news: Sequence[Value]) -> list[fusion.Family]:
        found = fusion.families_of(ops, olds, news)
        for family in found:
            places = {value: place for place, value in enumerate(olds)}
            column = next((each for each in family.columns if each[0] in places), [])
            assert all(len(each) == len(family.columns[0]) for each in family.columns)
            seen.append(([func.__name__ for _, func, _ in family.calls], [places[value] for value in column]))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "families_of", families_of)
        return seen, Trace(step, state, x, set())


@pytest.mark.parametrize("name", FAMILIES)
def test_families(name: str) -> None:
    """What has one formula is joined, and nothing else."""
    formulas, wanted = FAMILIES[name]

    def step(state: Any, x: Any) -> tuple[Any, float]:
        return formulas(*state, x), 1.0

    found, trace = joined(step, (W, W + 1), X)
    assert found == wanted
    assert_replays(trace, step, (W + 3, W - 2), X + 1)


def assert_replays(trace: Trace, step: Any, state: tuple[Any, ...], x: Any) -> None:
    """A replay of other numbers has the bits of the step."""
    for array, leaf in zip(trace.program.memory.arrays, state, strict=True):
        array[...] = leaf
    with np.errstate(all="ignore"):
        (*wanted,), loss = step(state, x)
        assert trace.run([*state, *(x if isinstance(x, tuple) else [x])]) == (loss,)
    for array, leaf in zip(trace.program.memory.arrays, wanted, strict=True):
        assert (array.dtype, array.tobytes()) == (leaf.dtype, leaf.tobytes())


def test_families_of_several_kinds() -> None:
    """The longest formula comes first; arrays without elements, of other dtypes, or that do not change are left out."""
    single = W.astype(np.float32)
    state = (W, W + 1, X, X + 1, X + 2, np.ones((0, 3)), np.ones((0, 3)), single, W + 3, single + 1)

    def step(state: Any, x: Any) -> tuple[Any, float]:
        a, b, c, d, e, f, g, h, i, j = state
        scale = np.float32(0.5)
        new = a * 0.5, b * 0.5, c * 0.5 + 1, d * 0.5 + 1, e * 0.5 + 1, f * 0.5, g * 0.5, h * scale, i, j * scale
        return new, x[0, 0].item()

    found, trace = joined(step, state, X)
    assert found == [(["multiply", "add"], [2, 3, 4]), (["multiply"], [0, 1]), (["multiply"], [7, 9])]
    assert trace.program.calls == 6
    lines = trace.program.source.splitlines()
    assert sum(" state)" in line or " state, " in line for line in lines if "np.ndarray(" in line) >= 9
    assert sum("= np.ndarray((48,), '<f8', state" in line for line in lines) == 1  # of three arrays of 96 bytes
    assert sum("= np.ndarray((16,), '<f8', state" in line for line in lines) == 1
    assert list(trace.program.memory.starts) == [2, 3, 4, 0, 1, 7, 9, 5, 6, 8]
    assert list(trace.program.memory.starts.values()) == [0, 128, 256, 384, 448, 512, 576, 640, 640, 640]
    assert len(trace.program.memory.block) == 704
    assert [array.shape for array in trace.program.memory.arrays] == [leaf.shape for leaf in state]
    assert [array.dtype for array in trace.program.memory.arrays] == [leaf.dtype for leaf in state]


def test_a_memory_made_for_another_shape_is_kept() -> None:
    """A family whose arrays do not lie side by side there is computed array by array."""
    apart, _ = joined(lambda s, x: ((s[0] + x[0], s[1] * 0.5, s[2] * 0.5, s[3]), 1.0), (W, W, W, W), X)
    assert apart == [(["multiply"], [1, 2])]
    first = Trace(lambda s, x: ((s[0] * 2, s[1], s[2] * 2, s[3]), 1.0), (W, W, W, W), X, set())
    assert list(first.program.memory.starts) == [0, 2, 1, 3]
    for members, calls in (((0, 2), 1), ((0, 1), 2), ((1, 2), 2), ((1, 3), 1), ((0, 2, 3), 3), ((0, 1, 2), 3)):

        def step(state: Any, _: Any, members: Any = members) -> tuple[Any, float]:
            return tuple(leaf * 0.5 if i in members else leaf for i, leaf in enumerate(state)), 1.0

        second = Trace(step, (W, W, W, W), X, set(), first.program.memory)
        assert second.program.memory is first.program.memory
        assert second.program.calls == calls, members


def test_inputs_are_not_joined() -> None:
    """Arrays of a batch do not lie side by side."""

    def step(state: Any, given: Any) -> tuple[Any, float]:
        return (state[0] * 0.5 + given[0], state[1] * 0.5 + given[1]), 1.0

    found, trace = joined(step, (X, X + 1), (X - 1, X - 2))
    assert found == []
    assert_replays(trace, step, (X + 2, X + 3), (X, X - 3))


def test_families_that_need_each_other() -> None:
    """They are computed in an order that works for both; if there is none, each array has its own calls."""

    def ordered(state: Any, _: Any) -> tuple[Any, float]:
        a, b, c, d = state
        last = np.exp(d)
        first = a - np.exp(a)
        c, d = c - np.exp(first), d - last
        return (first + 1, b - np.exp(b) + 1, c, d), 1.0

    def circular(state: Any, _: Any) -> tuple[Any, float]:
        a, b, c, d = state
        first = a - np.exp(a)
        second = c - np.exp(c)
        other = b - np.exp(second)
        last = d - np.exp(first)
        return (first * 0.5, other * 0.5, second * 0.25, last * 0.25), 1.0

    state = (W, W + 1, W + 2, W + 3)
    found, trace = joined(ordered, state, X)
    assert found == [(["subtract", "add"], [0, 1]), (["subtract"], [2, 3])]
    assert trace.program.calls <= 3 + 2 + 4
    assert_replays(trace, ordered, state[::-1], X)
    found, trace = joined(circular, state, X)
    assert found == [(["subtract", "multiply"], [0, 1]), (["subtract", "multiply"], [2, 3])]
    assert trace.program.source.count("np.subtract(") == 4
    assert_replays(trace, circular, state[::-1], X)


# ------------------------------------------------------------------------------------- which operations may end


def recorded_ops(function: Callable[..., Any], *args: Any) -> list[Op]:
    """The operations of a function of these arguments, which vary."""
    tape = Tape()
    with recorded_on(tape), np.errstate(all="ignore"):
        function(*(_input(tape, tape.input(arg)) for arg in args))
    return tape.ops


foreign: Final = np.frompyfunc(lambda a, b: a * b + 1, 2, 1)
"""A ufunc that is not NumPy's."""
COUNTS: Final = np.arange(3)
ENDING: Final[dict[str, tuple[Callable[..., Any], str, bool, bool, bool]]] = {
    "a ufunc": (lambda x, i, n: x * 2.5, "ufunc", True, False, False),
    "a ufunc of ints": (lambda x, i, n: i * 2, "ufunc", True, False, False),
    "a ufunc with a number that varies": (lambda x, i, n: x * (n * 0.5), "ufunc", True, False, False),
    "a ufunc with an int that varies": (lambda x, i, n: x * n, "ufunc", True, True, True),
    "a power": (lambda x, i, n: np.power(x, 1.5), "ufunc", True, False, False),
    "a power of ints": (lambda x, i, n: 2**i, "ufunc", True, True, True),
    "a power of bytes": (lambda x, i, n: i.astype(np.uint8) ** np.uint8(2), "ufunc", True, True, True),
    "another ufunc": (lambda x, i, n: x * x, "ufunc", True, True, True),
    "a product": (lambda x, i, n: x[:3] @ x[:3], "ufunc", False, False, False),
    "a reduction": (lambda x, i, n: np.add.reduce(x), "reduce", False, False, False),
    "a reduction by another ufunc": (lambda x, i, n: np.multiply.reduce(x), "reduce", False, True, True),
    "a copy": (lambda x, i, n: x.copy(), "copy", True, False, False),
    "a copy of a number": (lambda x, i, n: x.copy().fill(0.5), "copy", True, False, False),
    "a copy of an int that varies": (lambda x, i, n: x.copy().fill(n), "copy", True, True, True),
    "new memory": (lambda x, i, n: np.empty_like(x), "alloc", False, False, False),
    "an element": (lambda x, i, n: x[0, 0], "item", False, False, False),
    "a condition": (lambda x, i, n: bool(n), "guard", False, True, False),
    "a sum of numbers": (lambda x, i, n: n + 1, "scalar", False, True, False),
    "a quotient of numbers": (lambda x, i, n: n / 2, "scalar", False, True, True),
    "a function that takes all numbers": (lambda x, i, n: np.sort(x), "call", False, True, False),
    "a function that may not": (lambda x, i, n: np.cumsum(x), "call", False, True, True),
    "take": (lambda x, i, n: x.take(i), "call", False, True, True),
    "take, wrapped": (lambda x, i, n: x.take(i, None, None, "wrap"), "call", False, True, False),
    "take, clipped by name": (lambda x, i, n: x.take(i, mode="clip"), "call", False, True, False),
    "take, raising by name": (lambda x, i, n: x.take(i, mode="raise"), "call", False, True, True),
    "put": (lambda x, i, n: x.copy().put([0], 2.0), "mutate", False, True, True),
    "put, clipped": (lambda x, i, n: x.copy().put([0], 2.0, "clip"), "mutate", False, True, False),
    "elements that are set": (lambda x, i, n: operator.setitem(x.copy(), [0], 2.0), "mutate", False, True, True),
}
"""The last operation of a function, its kind, and whether it is elementwise, can end a step, and counts unread."""


@pytest.mark.parametrize("name", ENDING)
def test_which_operations_may_end_a_step(name: str) -> None:
    """The state is written after the last of them; what may raise an error is computed though nobody reads it."""
    function, kind, *wanted = ENDING[name]
    ops = recorded_ops(function, X, COUNTS, 3)
    op = ops[-1]
    if "another ufunc" in name:  # those that Python makes give arrays of objects, which are not traced
        op.func = foreign
    assert op.kind == kind
    assert [passes.is_elementwise(op), passes.can_fail(op), _may_raise(op)] == wanted
    assert passes.live(ops, set())[-1:] == ([op] if wanted[-1] or kind == "guard" else [])


def test_what_is_left_out_and_what_comes_first() -> None:
    """What a wanted value needs is kept, in order; functions of numbers alone come before everything else."""

    def function(x: Any, n: Any) -> None:
        y = x * 0.5
        np.exp(y)
        m = n + 1
        z = y + m * 0.5
        if m > 2:
            np.tanh(z)
        if np.add.reduce(z, axis=None) > 100:
            np.sin(z)
        _ = (y[0, 0].item() + n) * 2

    ops = recorded_ops(function, X, 3)
    names = " ".join(str(getattr(op.func, "__name__", op.func)) for op in ops)
    assert names == "multiply exp add mul add gt True tanh add getitem gt False getitem None add mul"
    kept = passes.live(ops, {ops[7].out})
    assert [ops.index(op) for op in kept] == [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert [ops.index(op) for op in passes.early(ops)] == [2, 3, 5, 6, 0, 1, 4, 7, 8, 9, 10, 11, 12, 13, 14, 15]


def masks_of(formula: str, x: Any) -> str:
    """The copies that are made of masks in a formula of x, and the operands of its last operation afterwards."""
    names = {"np": np, "LOCKED": LOCKED, "m": LOCKED.astype(np.float32)}
    ops = passes.float_masks(recorded_ops(lambda x: eval(formula, {**names, "x": x}), x))  # noqa: S307
    assert all(out.op is op for op in ops for out in op.outs)
    copies = [f"{op.args[0].dtype.name} to {op.out.array.dtype.name}: " for op in ops if op.kind == "copy"]
    return "".join(copies) + ", ".join(
        arg.dtype.name if hasattr(arg, "dtype") else type(arg).__name__ for arg in ops[-1].args
    )


@pytest.mark.parametrize(
    ("formula", "dtype", "wanted"),
    [
        ("x * (x > 0)", np.float64, "bool to float64: float64, float64"),
        ("(x > 0) + x", np.float64, "bool to float64: float64, float64"),
        ("x * (x > 0) - (x > 0)", np.float64, "bool to float64: float64, float64"),
        ("x * (x > 0)", np.float32, "bool to float32: float32, float32"),
        ("(x > 0) * 0.5", np.float64, "bool to float64: float64, float"),
        ("(x > 0) * x[0, 0].item()", np.float64, "bool to float64: float64, Scalar"),
        ("(x > 0) * np.float64(2)", np.float64, "bool to float64: float64, float64"),
        ("(x > 0) * LOCKED", np.float64, "bool to float64: float64, Const"),
        ("(x > 0) * x[0, 0]", np.float32, "bool to float32: float32, Scalar"),
        ("(x > 0) * m", np.float32, "bool to float32: float32, Const"),
        ("np.multiply(x > 0, 2, out=np.empty_like(x, np.float32))", np.float64, "bool, int"),
        ("x / (x > 0)", np.float64, "float64, bool"),
        ("x * (x > 0)[0]", np.float64, "float64, bool"),
        ("x[:3] * (x[:3] > 0).T", np.float64, "float64, bool"),
        ("(x > 0) * 2", np.float64, "bool, int"),
        ("(x > 0) * (x < 1)", np.float64, "bool, bool"),
        ("np.add(x > 0, x < 1, out=np.empty_like(x))", np.float64, "bool, bool"),
        ("np.multiply(x, x > 0, out=np.empty_like(x, np.float32), casting='unsafe')", np.float64, "float64, bool"),
    ],
)
def test_masks_become_floats(formula: str, dtype: fn.FloatDType, wanted: str) -> None:
    """Only where NumPy would compute in floats, only whole ones, and each only once in a dtype."""
    assert masks_of(formula, X.astype(dtype)) == wanted


# ------------------------------------------------------------------------------------------- parts of a writer


def test_names_in_a_source() -> None:
    """Every path has a name of its own that is none of Python's and none of the source's own."""
    own = ["np", "copyto", "dot", "memory", "seen", "program", "state", "constants", "run", "made"]
    own += ["abs", "bool", "float", "int", "type", "getattr", "lambda", "None", "t1", "k22", "c3", "m4", "n5", "p6"]
    assert list(_identifiers(own)) == [f"{name}_" for name in own]
    paths = ["", "a.b", "0", "0.weight", "x", "x", "x_", "t", "t1a", "xt1", "T1", "a b", "1"]
    assert list(_identifiers(paths)) == [
        *("value", "a_b", "net_0", "net_0_weight", "x", "x_", "x__", "t", "t1a", "xt1", "T1", "a_b_", "net_1"),
    ]


def test_descriptions_of_constants() -> None:
    """A dtype and a shape, a name, or the beginning of a text, in one line."""
    assert _described(X) == "float64 (4, 3)"
    assert _described(np.sort) == "sort"
    assert _described(Room.release) == "Room.release"
    assert _described(slice(1, None)) == "slice(1, None, None)"
    assert _described(Params("a" * 50, Text())) == f"Params(weight='{'a' * 50}', bias=two lin"
    assert len(_described(Params("a" * 50, Text()))) == 80


class Text:
    """A thing whose text has two lines."""

    def __repr__(self) -> str:
        return "two\nlines of text"


def test_memory_that_is_free_again() -> None:
    """The smallest free block that holds the array, unless it is much too large; else a new one."""
    room = Room()

    def taken(nbytes: int) -> tuple[Value, int]:
        value = Value(np.zeros(nbytes, np.uint8), Op("alloc"))
        room.take(value)
        return value, room.blocks.index(room.places[value][0])

    sizes = (1, 64, 65, 512, 448, 1000)
    values = [taken(size) for size in sizes]
    assert [index for _, index in values] == [0, 1, 2, 3, 4, 5]
    assert [block.nbytes for block in room.blocks] == [64, 64, 128, 512, 448, 1024]
    assert room.nbytes == 2240
    assert [block.name for block in room.blocks] == ["m0", "m1", "m2", "m3", "m4", "m5"]
    for value, _ in values[3:]:
        room.release(value)
    assert [taken(size)[1] for size in (64, 128, 128, 384, 320)] == [6, 4, 3, 5, 7]
    shared = Value(np.zeros(1), Op("alloc"))
    (first, _), (second, _) = values[:2]
    room.put(shared, room.places[first][0], 0)
    assert not room.is_sole(first)
    room.release(first)
    assert room.is_sole(shared)
    assert taken(64)[1] == 8
    room.release(shared)
    assert taken(64)[1] == 0
    assert room.is_sole(second)


if __name__ == "__main__":
    TEXT.write_text("\n\n".join(texts()))
