"""Tracing: in which ways a pure function could be traced wrongly, and what happens then; the programs that come out."""

from __future__ import annotations

import copy
import math
import pickle
import random
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, ClassVar, Final, NamedTuple, cast

import attrs
import numpy as np
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from surroundings import HAS_TRAPS
from test_replay import Outcome, bits, counted_replays, ended, folded, plain

import funcnet as fn
from funcnet.core.arrays import ARRAY_TYPES
from funcnet.random.draws import normal, uniform
from funcnet.tracing import attempt
from funcnet.tracing.structure import leaves_of
from funcnet.tracing.traces import Trace

AnyArray = NDArray[Any]
KEY: Final = fn.Key(31)
STEPS: Final = 8
NUMPY_1: Final = int(np.__version__.partition(".")[0]) < 2
NUMPY: Final = tuple(map(int, np.__version__.split(".")[:2]))
REFUSED: Final = "error: OverflowError"
BEYOND: Final = "bits" if NUMPY_1 else REFUSED
"""An int beyond an array's dtype, computed with: NumPy 1 widens the result by the int's value."""
COPIED: Final = "traced" if np.lib.NumpyVersion(np.__version__) < "2.1.0" else REFUSED
"""The same int, copied into the array: NumPy before 2.1 wraps it."""
LARGE: Final = "bits" if NUMPY_1 else "traced"
"""An int beyond int64 times an array: NumPy 1 gives an array of Python objects, which is not traced."""
BY_VALUE: Final = "discarded" if NUMPY_1 else "traced"
"""10**9 and a float32 array: NumPy 1 adds in float64, which the replay, in float32, is seen not to do."""


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """No test finds the programs of another one."""
    fn.keep_programs()
    yield
    fn.keep_programs()


# ---------------------------------------------------------------------------------------------- the traps

X: Final = [scale * normal(KEY.child(i), (4, 3)) for i, scale in enumerate((1, 0.3, 3, 0.5, 2, 0.2, 4, 1))]
"""Batches of other sizes, so that a condition on them does not always hold."""
WIDE: Final = [normal(KEY.child("wide", i), (96, 96)).astype(np.float32) for i in range(STEPS)]
"""Of a size at which BLAS computes the product of an array by itself otherwise."""
SINGULAR: Final = [np.array([[1.0, 2.0, 0.0], [2.0, 4.0 - i % 3, 0.0]]) for i in range(STEPS)]
INTEGERS: Final = [(x * 3).astype(np.int64) for x in X]
COUNTS: Final = [np.arange(i, 12 + i).reshape(4, 3) for i in range(STEPS)]
BATCHES: Final[dict[str, Sequence[AnyArray]]] = {
    "": X,
    "wide": WIDE,
    "singular": SINGULAR,
    "int": INTEGERS,
    "counts": COUNTS,
    "bytes": [(count * 9).astype(np.uint8) for count in COUNTS],
    "bool": [x > 0 for x in X],
    "single": [x.astype(np.float32) for x in X],
    "half": [x.astype(np.float16) for x in X],
    "complex": [x + 1j for x in X],
    "columns": [np.asfortranarray(x) for x in X],
    "gaps": [np.repeat(x, 2, axis=1)[:, ::2] for x in X],
    "backwards": [np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1] for x in X],
    "one row": [np.broadcast_to(x[0], (4, 3)) for x in X],
    "unaligned": [np.frombuffer(b"x" + x.tobytes(), np.uint8)[1:].view(np.float64).reshape(4, 3) for x in X],
    "swapped bytes": [x.astype(x.dtype.newbyteorder()) for x in X],
    "no rows": [x[:0] for x in X],
}


class Pair(NamedTuple):
    """Two arrays."""

    a: Any
    b: Any


@fn.whole
def largest(x: AnyArray) -> float:
    """A function that looks at a number."""
    return float(x.max())


@fn.whole
def product(a: AnyArray, b: AnyArray) -> AnyArray:
    """A product in one operation."""
    made: AnyArray = a.T @ b
    return made


@fn.whole
def pair_product(pair: tuple[AnyArray, AnyArray]) -> AnyArray:
    """A product in one operation, of what stands in a tuple."""
    made: AnyArray = pair[0].T @ pair[1]
    return made


@fn.whole
def total(pair: tuple[AnyArray, float]) -> float:
    """A sum whose order depends on the memory's."""
    return float(pair[0].sum()) * pair[1]


@fn.whole
def in_columns(x: AnyArray) -> AnyArray:
    """An array in Fortran order."""
    return np.asfortranarray(x)


@fn.whole
def writing(x: AnyArray) -> AnyArray:
    """A function that writes into what it is given."""
    x += 1
    return x


@lru_cache
def cached(n: Any) -> float:
    """A function with a memory."""
    return 0.1 if n == 5 else 0.2


CACHE: Final[list[int]] = []
LOCKED: Final = normal(KEY.child("locked"), (4, 3))
LOCKED.flags.writeable = False
UNLOCKED: Final = np.arange(12.0).reshape(4, 3)
NAMES: Final[dict[str, Any]] = {
    each.__name__: each
    for each in (
        *(copy, math, pickle, random, warnings, ThreadPoolExecutor, normal, uniform, Pair),
        *(largest, product, pair_product, total, in_columns, writing, cached),
    )
} | {"np": np, "fn": fn, "CACHE": CACHE, "LOCKED": LOCKED, "UNLOCKED": UNLOCKED, "KEY": KEY}
"""What the functions of the traps refer to."""


class Trap(NamedTuple):
    """Lines of a pure function of a batch's x, the state's w (3,) and the step's number n; ``check`` has the ways."""

    name: str
    lines: str
    way: str = "traced"
    batches: str = ""

    def function(self) -> Callable[[AnyArray, AnyArray, int], Any]:
        """The function."""
        scope = dict(NAMES)
        exec("def trap(x, w, n):\n" + textwrap.indent(textwrap.dedent(self.lines), "    "), scope)  # noqa: S102
        function: Callable[[AnyArray, AnyArray, int], Any] = scope["trap"]
        return function


# fmt: off
NOT_TRACED: Final[dict[str, tuple[str, ...]]] = {
    "float": ("x * float(x[0, 0])", "x * math.exp(-abs(x[0, 0]))", "x * math.sqrt(n)",
              "x * np.fromiter(iter(x[0]), float).sum()"),
    "int": ("x * int(x[0, 0])",), "round": ("x * round(x[0, 0], 2)",), "index": ("x * [1, 2, 3][n % 3]",),
    "tolist": ("x * sum(x[0].tolist())", "x * (2 if hasattr(x, 'tolist') else 3)"),
    "tobytes": ("x * x.tobytes()[3]",), "ctypes": ("x * x.ctypes._arr[0, 0]",), "data": ("x * x.data[0, 0]",),
    "memoryview|TypeError": ("x * memoryview(x)[0, 0]",), "index|bytes": ("x * bytes(x[0] > 0)[0]",),
    "__array_interface__": ("x * np.asarray(x.__array_interface__['data'][0] > 0)",), "real": ("x + x.real",),
    "asarray": ("x + np.asarray(x)", "x + np.array(x)", "x + np.ascontiguousarray(x.T).T", "x + np.asfortranarray(x)"),
    "asarray|float": ("x + np.array([x[0, 0], x[1, 1], x[2, 2]])", "x * np.float32(x[0, 0])"),
    "text": ("x * float(f'{n}')", "x * len(str(x))", "x * float(f'{x[0, 0]:.2f}')", "x * float('%s' % n)",
             "x * {'5': 0.01}.get(f'{n}', 0.1)"),
    "dict": ("x * {5: 0.01}.get(n, 0.1)", "x * {2.0: 0.01}.get(x.max().round(), 0.1)", "x * (2 if n in {2, 5} else 3)",
             "x * cached(n)", "x * cached(KEY.child(n))"),
    "compared": ("x * (2 if KEY.child(n) == KEY.child(5) else 3)",), "path": ("x * KEY.child(n).path[0]",),
    "index|int|text": ("x + np.random.default_rng(n).normal(size=3)",), "gaps": ("x * np.where(x > 0)[0].sum()",),
    "pickled": ("x + pickle.loads(pickle.dumps(x))",), "raised|read-only": ("writing(x * 2)",),
}
"""Expressions that are not traced, by a word of the reason."""
TRAPS: Final = (
    # conditions
    Trap("if on a maximum", "return x * 2 if x.max() > 2 else x + 1", "versions: 2"),
    Trap("if on an element", "return x * 2 if x[1, 1] > 0 else x + 1", "versions: 2"),
    Trap("if on nearly equal", "return x * 2 if np.allclose(x[0], x[1], atol=1) else x + 1", "versions: 2"),
    Trap("if on equal", "return x * 2 if np.array_equal(x > 0, abs(x) > 0.4) else x + 1", "versions: 1"),
    Trap("if on any", "return x * 2 if (x > 2).any() else x + 1", "versions: 2"),
    Trap("not, and, or", "return x * 2 if not x.min() > -2 or (x.max() > 1 and n > 4) else x + 1", "versions"),
    Trap("a chain", "return x * 2 if 1 < x.max() < 3 else x + 1", "versions: 3"),
    Trap("while", "s = x.max()\nwhile s > 1: s = s / 2\nreturn x * s", "versions"),
    Trap("assert", "assert x.max() < 100\nreturn x * 2"),
    Trap("in", "return x * 2 if n in (2, 5) else x + 1", "versions: 3"),
    Trap("match", "match n:\n    case 2 | 5: return x * 2\nreturn x + 1", "versions: 3"),
    Trap("in an array", "return x * 2 if 0.0 in np.maximum(x, 0)[0] else x + 1", "versions: 2"),
    Trap("largest of numbers", "return x * max(n, 3)", "versions: 2"),
    Trap("smallest of array and number", "return x * min(x.max(), 1.0)", "versions: 2"),
    Trap("sorted numbers", "a, b = sorted([x[0, 0], x[0, 1]])\nreturn x * a - b", "versions: 2"),
    Trap("every third step", "return x * 2 if n % 3 == 0 else x + 1", "versions: 2"),
    Trap("a number's truth", "return x * 2 if n else x + 1", "versions: 2"),
    Trap("a minus zero", "z = x[0, 0] * 0\nreturn x * np.copysign(1.0, z)"),
    # numbers
    Trap("bool()", "return x * bool(x[0, 0] > 0)", "versions: 2"),
    Trap("range()", "for _ in range(n % 3): x = x + 1\nreturn x", "refused: index"),
    Trap("item", "return x * x[0, 0].item() + x.item(5) - x.item(1, 2) + x.item((2, 1))"),
    Trap("except Exception", "try: s = float(x[0, 0])\nexcept Exception: s = 2.0\nreturn x * s", "refused: float"),
    Trap("a bare except", "try: s = float(x[0, 0])\nexcept: s = 2.0\nreturn x * s", "refused: float"),
    Trap("finally", "try: return x * float(x[0, 0])\nfinally: x = None", "refused: float"),
    Trap("an element's fields",
        "s = x.sum()\nreturn x * s.astype(np.float32) + (s.ndim, s.size)[1] + s.dtype.itemsize"),
    Trap("divmod", "a, b = divmod(n, 3)\nreturn x * a + b"),
    Trap("divmod of a constant", "a, b = divmod(20, n + 1)\nreturn x * a + b"),
    Trap("arithmetic of numbers", "return x * (-n + (n + 1) // 2 - 7 % (n + 1) + 2 ** n + abs(1 - n) / 3)"),
    Trap("bits of numbers", "return x * ((n << 2 | 1) ^ (n & 3))"),
    Trap("a power of a number", "s = abs(x).sum()\nreturn x * (s ** 2 + s ** 0.5 + s ** -1 + 2.0 ** s / 1e9)"),
    Trap("a number changed in place", "s = x.sum()\nt = s\ns += 1\nreturn x * s + t"),
    Trap("a step's number changed in place", "m = n\nm += 1\nm *= 2\nreturn x * m + n"),
    Trap("numbers of NumPy", "s = np.float32(2) * n + np.int64(3) * x.max() + n * np.float64(0.5)\nreturn x * s"),
    Trap("a number in single precision", "s = x.sum()\nreturn x * s + x.max() * 0.1", "traced", "single"),
    Trap("an element's kind", "return x * (2 if isinstance(x.sum(), float) else 3)"),
    Trap("an array's kind", "return x * (2 if isinstance(x, np.ndarray) else 3)"),
    Trap("functions of numbers", "return x * np.sqrt(np.maximum(n, 2)) + np.exp(-n) + np.hypot(n, x.sum())"),
    Trap("a large int", "return x * (n * 10**30)", LARGE),
    Trap("arrays of objects",
        "return x * np.frompyfunc(abs, 1, 1)(x).astype(float)", "refused: an array of Python objects"),
    Trap("an int beyond floats", "return x * 10 ** (60 * n)", "error: OverflowError"),
    Trap("division by a number", "return x + 1 / (6 - n)", "error: ZeroDivisionError"),
    # errors and warnings as conditions
    Trap("try inv",
        "try: a = np.linalg.inv(x[:, :2])\nexcept np.linalg.LinAlgError: a = x[:, :2]\nreturn a", "bits", "singular"),
    Trap("try inv, unread",
        "try: np.linalg.inv(x[:, :2])\nexcept np.linalg.LinAlgError: return x * 2\nreturn x + 1", "bits", "singular"),
    Trap("try a power", "try: 2 ** (6 - x[0])\nexcept ValueError: return x * 2\nreturn x + 1", "bits", "counts"),
    Trap("try take", "try: x.take([x[0, 0] + 6])\nexcept IndexError: return x * 2\nreturn x + 1", "bits", "counts"),
    Trap("try get", "try: w[x[0] - 4]\nexcept IndexError: return x * 2\nreturn x + 1", "bits", "counts"),
    Trap("try one out of many", "try: (x > 0) and 1\nexcept ValueError: return x * 2\nreturn x + 1"),
    Trap(
        "warnings",
        """
        with warnings.catch_warnings(record=True) as seen, np.errstate(over="warn"):
            warnings.simplefilter("always")
            np.exp(x * 400)
        return x * (1 + len(seen))
        """,
        "refused: errstate",
    ),
    Trap(
        "errstate",
        """
        with np.errstate(over="raise"):
            try: np.exp(x * 400)
            except FloatingPointError: return x * 2
        return x + 1
        """,
        "refused: errstate",
    ),
    Trap("an error in some step", "return x @ np.ones((3 if n < 5 else 2, 2))", "error: ValueError"),
    Trap("a power of less than 0", "return 2 ** (9 - x)", "error: ValueError", "counts"),
    Trap("an index out of range", "return w[x[0] - 4]", "error: IndexError", "counts"),
    Trap("an int beyond a dtype", "return x + (250 + n)", BEYOND, "bytes"),
    # writing
    Trap("in place", "y = x * 2\ny += 1\ny -= w\ny *= y\ny /= 3\ny **= 2\ny //= 2\ny %= 5\nreturn y"),
    Trap("in place on bits", "y = x | 1\ny &= 14\ny ^= 3\ny <<= 1\ny >>= 2\nreturn y", "traced", "int"),
    Trap("through views", "y = x * 2\ny[0] -= 3\ny.T[1] *= 2\ny[1:, ::2] = w[:2]\ny.reshape(-1)[::5] += 1\nreturn y"),
    Trap("through a view of a view", "y = x * 2\nz = y[1:]\nz[0, 1] = 5\nz.ravel()[2:] += z[0, 1]\nreturn y + y[1]"),
    Trap("a view sees it", "y = x * 2\nz = y.T\ny += 1\nreturn z"),
    Trap("an element does not", "y = x * 2\ne = y[0, 0]\ny[0, 0] = 7\nreturn y * e"),
    Trap("swapped elements", "y = x.copy()\ny[0, 0], y[1, 1] = y[1, 1], y[0, 0]\nreturn y"),
    Trap("swapped rows", "y = x.copy()\ny[0], y[1] = y[1].copy(), y[0].copy()\nreturn y"),
    Trap("swapped rows without copies", "y = x.copy()\ny[0], y[1] = y[1], y[0]\nreturn y"),
    Trap("shifted", "y = x.copy()\ny[1:] = y[:-1]\ny[:, :2] += y[:, 1:]\ny[:3] *= y[:3].T\nreturn y"),
    Trap("shifted, the old one needed", "y = x.copy()\nz = y * 1\ny[1:] -= y[:-1]\nreturn y * z"),
    Trap("a mask", "y = x.copy()\ny[y < 0] = 0\nreturn y"),
    Trap("a mask in place", "y = x.copy()\ny[y < 0] *= 2\nreturn y", "versions"),
    Trap("a list", "y = x.copy()\ny[[0, 1]] = y[[1, 0]]\ny[[0, 2], [1, 1]] += 1\nreturn y"),
    Trap("at an index that varies", "y = x.copy()\ny[n % 4] = w\ny[x[0].argmax(), 1] -= 2\nreturn y"),
    Trap("out by name", "y = np.empty_like(x)\nnp.multiply(x, 2, out=y)\nnp.add(y, w, out=y)\nreturn y"),
    Trap("out by place", "y = np.zeros_like(x)\nnp.add(x, w, y)\nnp.exp(-abs(y), y)\nreturn y"),
    Trap("out of another dtype",
        "y = np.empty_like(x, np.float32)\nnp.add(x, w, out=y, casting='same_kind')\nreturn y"),
    Trap("out of clip", "y = x * 2\nnp.clip(y, -1, 1, y)\nnp.clip(y, -0.5, 0.5, out=y)\nreturn y.clip(-0.4, 0.4)"),
    Trap("out of matmul", "y = np.empty_like(x, shape=(4, 4))\nnp.matmul(x, x.T, out=y)\nnp.matmul(y, y, y)\nreturn y"),
    Trap("out of dot", "y = np.empty_like(x, shape=(4, 4))\nnp.dot(x, x.T, y)\nreturn y", "refused: wrote"),
    Trap("out of a sum", "y = np.empty_like(w)\nnp.sum(x, axis=0, out=y)\nx.max(0, out=y[:])\nreturn y"),
    Trap("out of a sum over itself", "y = x.copy()\nnp.add.reduce(y, axis=0, out=y[0])\nreturn y"),
    Trap("out of concatenate", "y = np.empty((8, 3))\nnp.concatenate((x, x + 1), 0, y)\nreturn y", "refused: wrote"),
    Trap("out of cumsum", "y = np.empty(x.shape)\nx.cumsum(0, None, y)\nreturn y", "refused: wrote"),
    Trap("out of take", "y = np.empty_like(w)\nx[0].take([2, 0, 1], None, y)\nreturn y", "refused: wrote"),
    Trap("out of two", "a, b = np.empty_like(x), np.empty_like(x)\nnp.modf(x, a, b)\nreturn a - b", "refused: several"),
    Trap("an output of its own", "y = np.zeros((4, 3))\nnp.add(x, 1, out=y)\nreturn y", "refused: plain array"),
    Trap("np.empty", "y = np.empty((4, 3))\ny[...] = x\nreturn y", "refused: asarray"),
    Trap("np.zeros filled by elements", "y = np.zeros(3)\ny[1] = x[0, 0]\nreturn y", "refused: asarray|float"),
    Trap("np.zeros, added to", "y = np.zeros((4, 3))\ny += x\nreturn y", "refused: plain array"),
    Trap("np.copyto into a plain array", "y = np.zeros((4, 3))\nnp.copyto(y, x)\nreturn y", "refused: plain array"),
    Trap("empty_like of a shape", "y = np.empty_like(x, shape=(2, 3))\ny[:] = x[::2]\nreturn y"),
    Trap("like", "y = np.empty((2, 3), like=x)\ny[:] = x[::2]\nz = np.zeros(3, like=x)\nz += y[0]\nreturn z"),
    Trap("full_like",
        "return x + np.full_like(x, 0.5) + np.full_like(x, fill_value=n) + np.full_like(a=x, fill_value=2)"),
    Trap("fill", "y = np.empty_like(x)\ny.fill(0.1)\ny[2].fill(n)\nreturn y * x"),
    Trap("where=", "y = np.zeros_like(x)\nnp.add(x, 1, out=y, where=x > 0)\nreturn y"),
    Trap("where= of a sum", "return np.sum(x, axis=0, where=x > 0) + x.max(where=x > -9, initial=0.5)"),
    Trap("copyto where",
        "y = x * 2\nnp.copyto(y, w, where=y > 0)\nnp.copyto(y[1:], y[:-1], where=y[1:] < 0)\nreturn y"),
    Trap("ufunc.at", "y = x.copy().reshape(-1)\nnp.add.at(y, [0, 0, 5], y[3:6])\nnp.multiply.at(y, [1], 2)\nreturn y"),
    Trap("put", "y = x.copy()\ny.put([0, 7], y[0, 1:])\nnp.put(y, [2, 3], 5.0)\nreturn y"),
    Trap("place", "y = x.copy()\nnp.place(y, y > 0, [1, 2])\nreturn y", "refused: wrote"),
    Trap("putmask", "y = x.copy()\nnp.putmask(y, y > 0, 2)\nreturn y", "refused: wrote"),
    Trap("fill_diagonal", "y = x.copy()\nnp.fill_diagonal(y, 2)\nreturn y", "refused: wrote"),
    Trap("sort in place", "y = x.copy()\ny.sort()\nreturn y", "refused: sort"),
    Trap("flat", "y = x.copy()\ny.flat[3] = 1\nreturn y", "refused: flat"),
    *(  # NumPy 2.5 warns of it
        [Trap("a shape set", "y = x * 1\ny.shape = (3, 4)\nreturn y", "refused: AttributeError|no setter")]
        if NUMPY < (2, 5)
        else []
    ),
    Trap("locked", "y = x * 2\ny.flags.writeable = False\nreturn y + 1"),
    Trap("two equal ones, one changed", "a = x * 2\nb = x * 2\na += 1\nreturn a * b"),
    Trap("an alias changed", "a = x * 2\nb = a\na += 1\nreturn b * (x * 2)"),
    Trap("zeros changed apart", "a, b = np.zeros_like(x), np.zeros_like(x)\na += x\nb -= x\nreturn a * b"),
    Trap("booleans added into floats", "y = np.empty_like(x)\nnp.add(x > 0, x < 1, out=y)\nreturn y"),
    Trap("a local constant changed", "m = np.tri(96)\na = x * m\nm += 1\nreturn a + x * m", "traced", "wide"),
    # products
    Trap("a product of two equal ones", "return np.tanh(x).T @ np.tanh(x)", "traced", "wide"),
    Trap("a product of two equal ones by dot", "return np.dot(np.tanh(x).T, np.tanh(x))", "traced", "wide"),
    Trap("an einsum of two equal ones", "return np.einsum('ij,ik', np.tanh(x), np.tanh(x))", "traced", "wide"),
    Trap("a tensordot of two equal ones", "return np.tensordot(np.tanh(x), np.tanh(x), (0, 0))", "traced", "wide"),
    Trap("an inner product of two equal ones", "return np.inner(np.tanh(x), np.tanh(x))", "traced", "wide"),
    Trap("linalg's product of two equal ones",
        "return np.linalg.multi_dot((np.tanh(x).T, np.tanh(x)))", "traced", "wide"),
    Trap("an array by itself", "y = np.tanh(x)\nreturn y.T @ y - y @ y.T", "traced", "wide"),
    Trap("an argument by itself", "return x.T @ x + np.dot(x, x.T)", "traced", "wide"),
    Trap("an argument by its copy", "return x.T @ x.copy()", "traced", "wide"),
    Trap("a copy that is changed back", "y = x.copy()\ny[0, 0] += 0\nreturn x.T @ y", "traced", "wide"),
    Trap("slices of one array",
        "y = np.tanh(x)\nreturn y[:48].T @ y[48:] - y[:, :40] @ y[:, 50:90].T", "traced", "wide"),
    Trap("one operation of two equal ones", "return product(np.tanh(x), np.tanh(x))", "traced", "wide"),
    Trap("one operation of one", "y = np.tanh(x)\nreturn product(y, y)", "traced", "wide"),
    Trap("one operation of a tuple of two", "return pair_product((np.tanh(x), np.tanh(x)))", "traced", "wide"),
    Trap("one operation of a tuple of one", "y = np.tanh(x)\nreturn pair_product((y, y))", "traced", "wide"),
    Trap("one operation of it and its transpose", "y = np.tanh(x)\nreturn pair_product((y, y.T))", "traced", "wide"),
    Trap("one operation of gaps", "return x[0] * total((np.tanh(x)[:, :33], 0.5))", "traced", "wide"),
    Trap("one operation of columns", "return x[0] * total((np.tanh(x).T[:40], 0.5))", "traced", "wide"),
    Trap("one operation that gives columns",
        "return in_columns(np.tanh(x)).sum(0) - in_columns(x) @ x[0]", "bits", "wide"),
    Trap("one operation that looks", "return x * largest(x)"),
    Trap("a product of ints", "return x @ x.T", "traced", "int"),
    Trap("products of vectors",
        "return (x[0] @ x[1]) * x + np.dot(x, w)[:, None] + np.vdot(x, x) + np.outer(x[0], x[1])[0]"),
    # what depends on something else
    Trap("another formula in a trace", "return x * 2 if type(x) is np.ndarray else x * 3", "discarded"),
    Trap("a constant that is locked", "return x + LOCKED"),
    Trap("a constant that is not", "return x * UNLOCKED + UNLOCKED[0]"),
    Trap("a generator made anew", "return x + np.random.default_rng(5).normal(size=3)"),
    Trap("a key", "return x + normal(KEY.child(n), (4, 3)) * uniform(KEY.child('u', n), ())"),
    Trap("a key that decides", "return x * 2 if uniform(KEY.child(n), ()) > 0.5 else x + 1", "versions: 2"),
    Trap("copies", "return x + copy.copy(x) * copy.deepcopy(x) + x.copy('F') + np.copy(x)"),
    Trap("promotion", "return x * 0.1 + np.float64(0.1) * x[0].sum() - 2", "traced", "single"),
    Trap("promotion by a Python number", "return (x * 3 + True) * 0.1 + 10**9", BY_VALUE, "single"),
    Trap("promotion by an array", "return x * np.array(0.1) + np.ones(3)", "traced", "single"),
    Trap("half precision", "return (x * 3 + 1).sum(0) + x.astype(np.float32) * w", "traced", "half"),
    Trap("complex numbers", "return (x * x.conj()).real.copy()", "refused: conj", "complex"),
    Trap("ints", "return x * 2 + x // 3 - x % 4 + x * 0.5 + (x > 0)", "traced", "int"),
    Trap("ints in an array", "return np.maximum(x, 2)[:, ::-1] ** 2 + x[x[0] % 4].sum(0)", "traced", "counts"),
    Trap("bytes that overflow", "return (x + x) * 2 + ~x", "traced", "bytes"),
    Trap("bytes compared with larger ints", "return (x < 300) * x + (x > -1)", "traced", "bytes"),
    Trap("masks", "return (x | ~x) * w + (x & x[0]) + x.sum(0) + (x * 0.5) - (x == x[1])", "traced", "bool"),
    Trap("a mask that multiplies", "return x * (x > 0) + (x < 0) - 0.5 * (x > 1) * w"),
    # functions
    Trap("a length that varies", "return x * len(x[x > 0])", "versions"),
    Trap("nonzero", "return x * np.nonzero(x[0] > 0)[0].size + np.flatnonzero(x > 0).sum()", "versions"),
    Trap("unique", "return np.unique(np.sign(x)).sum() * x", "bits"),
    Trap("indices", "return x[[0, 2]].sum() + x[:, [2, 0, 0]] + x[[1, 2], [0, 1]].sum() + x[x[0].argsort()[:1]]"),
    Trap("argmax", "return x[x.argmax(0), [0, 1, 2]] + x[np.argmax(x[:, 0])] + np.take(x, x.argmin())"),
    Trap("a row by number", "y = x * 2\nreturn y[n % 4] + x[n % 2, 1] + y[-1]"),
    Trap("a row by number, changed afterwards", "y = x * 2\nr = y[n % 4]\ny[0] = 1\nreturn r * y", "refused: written"),
    Trap("take", "return x.take([0, 5, 11]) + np.take(x, [1, 1, 0], axis=1) + x.take([0, 7], mode='wrap').sum()"),
    Trap("take along", "return np.take_along_axis(x, np.argsort(x, axis=1), axis=1)"),
    Trap("sorted", "return np.sort(x, axis=0) + np.median(x) + np.percentile(x, 30) + np.partition(x[0], 1)"),
    Trap("concatenate", "return np.concatenate((x, w[None], np.ones((1, 3)))) + np.append(x[0, :1], w[1:])"),
    Trap("stack", "return np.stack((x[0], w, x[1])) + np.vstack((w, w)).sum() + np.hstack((w, w)).sum()"),
    Trap("split", "a, b = np.split(x, 2)\nc, *_ = np.array_split(x, 3, axis=1)\nreturn a * b + c[:2]"),
    Trap("pad", "return np.pad(x, 1)[1:, 1:-1] + np.pad(x, ((0, 1), (0, 0)), mode='edge')"),
    Trap("einsum", "return np.einsum('ij,kj->ik', x, x) @ np.einsum('ij->i', x)"),
    Trap("where", "return np.where(x > 0, x, w) + np.where(x > 1, 0.5, x) + np.where(x[0] > 0, n, 2.0)"),
    Trap("select", "return np.select([x > 1, x > 0], [x, x * 2], 0.5)"),
    Trap("several results",
        "a, b = np.modf(x * 3)\nq, r = np.divmod(x, 0.7)\nm, e = np.frexp(x)\nreturn a * b + q - r * m + e"),
    Trap("in its own results", "y = x * 3\na, y = np.modf(y)\nreturn a - y"),
    Trap("reductions",
        "return x.sum() + x.mean(0) + x.std() + x.var(1).max() + x.prod(0) - x.min(axis=1, keepdims=True)"),
    Trap("reductions of functions",
        "return np.sum(x, 0) + np.mean(x) + np.prod(x, axis=0) + np.ptp(x) + np.any(x > 1)"),
    Trap("running sums",
        "return x.cumsum(0) + np.cumprod(x, 1) + np.add.accumulate(x) + np.diff(x, prepend=0, axis=0)"),
    Trap("reduceat and outer", "return np.add.reduceat(x, [0, 2])[1] + np.multiply.outer(w, w)"),
    Trap("linear algebra",
        "return np.linalg.norm(x) + np.linalg.solve(np.eye(3) * 9 + x.T @ x, w) + np.linalg.det(x[:3])"),
    Trap("decompositions",
        "q, r = np.linalg.qr(x)\ns = np.linalg.svd(x, compute_uv=False)\nreturn abs(q) @ abs(r) + s"),
    Trap("a named result", "sign, log = np.linalg.slogdet(x[:3])\nreturn x * sign + log"),
    Trap("views", "return x[None, ..., 0] + np.expand_dims(x, 0)[..., 1] + np.squeeze(x[:1])[2] + x.swapaxes(0, 1)[0]"),
    Trap(
        "shapes",
        "return x.reshape(3, 4).T + x.ravel()[:3] + np.transpose(x).flatten()[:3] + np.moveaxis(x, 0, 1).reshape(4, 3)",
    ),
    Trap("diagonals", "return np.diagonal(x) + x.diagonal(1).sum() + np.trace(x) + np.diag(x) + np.tril(x)[:3]"),
    Trap("windows",
        "return np.lib.stride_tricks.sliding_window_view(x, 2, axis=0).sum(-1) + np.broadcast_to(x[0], (3, 3))"),
    Trap("repeated", "return np.repeat(x, 2, axis=0)[1:5] + np.tile(x, 2)[:, 1:4] + np.roll(x, 1, 0) + np.flip(x)"),
    Trap("of bits", "return (x.view(np.int64) >> 52).sum() + x"),
    Trap("writing bits", "y = x * 2\ny.view(np.int64)[0] &= -16\nreturn y"),
    Trap("rounding", "return x.round(1) + np.around(x, 2) + np.floor(x) + np.trunc(x) + np.sign(x) + np.rint(x)"),
    Trap("special values",
        "return np.nan_to_num(np.log(np.maximum(x, 0)), neginf=-5.0) + np.isfinite(1 / np.floor(abs(x)))"),
    Trap("other functions", "return np.interp(x, [-1, 0, 1], [1, 0, 2])"),
    Trap("functions along an axis", "return np.apply_along_axis(lambda row: row * row.max(), 1, x)"),
    Trap("a named tuple of arrays",
        "pair = Pair(x[0], w)\nreturn np.concatenate(pair) @ np.stack(pair).ravel() * pair.a"),
    Trap("loops over rows", "for row in x:\n    w = w * 0.5 + row\nreturn w"),
    Trap("loops over elements", "s = 0.0\nfor e in x[0]: s = s + e * e\nreturn x * s + sum(x) + sum(w)"),
    Trap("zipped rows", "return sum(a * b for a, b in zip(x, x[::-1], strict=True))"),
    Trap("unpacked", "a, b, *_ = x\n(p, q, r), s = a, b\nreturn x * p - q * s + r"),
    Trap("recursion", "def f(y, k): return y if k == 0 else f(y * 0.5 + w, k - 1)\nreturn f(x, 5)"),
    Trap("0-d arrays", "s = np.zeros_like(x, shape=())\ns += x[0, 0]\nt = s\nt *= 2\ns[...] = s + 1\nreturn x * s + t"),
    Trap("empty arrays", "return np.concatenate((x[:0], x)) + x[:, :0].sum() + x[4:].sum(0)"),
    Trap("no columns", "y = x[:, :0] * 2\ny += 1\nreturn x @ np.ones((3, 0)) @ np.ones((0, 3)) + x + y.size"),
    Trap("a thread",
        "with ThreadPoolExecutor(1) as threads: return threads.submit(lambda: x * 2).result()", "refused: thread"),
    *(Trap(f"a batch: {name}", "return x[1:].sum(0) + x.T[:, 1:2] @ x[:1] + x.reshape(-1)[:3] + x[2] * x.max()",
        "traced", name) for name in ("columns", "gaps", "backwards", "one row", "unaligned", "swapped bytes")),
    Trap("a batch that is picked from",
        "return x[[0, 1]].sum(0) + x[x > 9].sum() + x[n % 4] + np.round(x, 2)", "bits", "one row"),
    Trap("a batch without rows", "return x.sum(0) + w", "traced", "no rows"),
    *(Trap(made, f"return {made}", f"refused: {why}") for why, each in NOT_TRACED.items() for made in each),
    # what is not pure
    Trap("a count of calls", "CACHE.append(n)\nreturn x * len(CACHE)", "impure"),
    Trap("a draw at random", "return x * random.random()", "impure"),
)
# fmt: on


def stepped(function: Callable[..., Any], *, inside: bool) -> fn.Step[Any, AnyArray]:
    """A step around a function; ``inside``: as layers are called, so that it may become one operation."""

    def step(state: Any, x: AnyArray) -> tuple[Any, float]:
        w, n = state
        made = attempt(function, x, w, n) if inside else function(x, w, n)
        if isinstance(made, np.ndarray):
            made = made.sum() + made.reshape(-1)[:2].sum()
        w = w * 0.9 + made
        return (w, n + 1), w.sum().item()

    return step


class Seen(NamedTuple):
    """What happened in two folds, the second with programs of the first: replays, traces, whether it was given up."""

    replays: list[int]
    traces: int
    warned: bool


def watched(step: fn.Step[Any, Any], state: Any, batches: Sequence[Any], wanted: Outcome | None) -> Seen:
    """Both folds, compared with what is wanted."""
    made: list[Trace] = []
    init = Trace.__init__

    def remember(self: Trace, *args: Any) -> None:
        init(self, *args)
        made.append(self)

    replays: list[int] = []
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patch.setattr(Trace, "__init__", remember)
        for _ in range(2):
            with counted_replays() as runs:
                got = ended(folded, step, state, batches)
            assert wanted is None or got == wanted
            replays.append(sum(runs))
    return Seen(replays, len(made), any(issubclass(each.category, fn.ReplayWarning) for each in caught))


def check(step: fn.Step[Any, Any], state: Any, batches: Sequence[Any], way: str, *, inside: bool) -> None:
    """Two folds have the bits, or the error, of the for loop, and this way was taken.

    traced: every step but two, and nothing is opaque. versions: n: by n programs. refused: reason: not traced; if
    it stands inside of something, the rest is. error: both raise it. discarded: pure, but given up with a warning.
    impure: given up with a warning, and the for loop is not the same twice either. bits: no more than that.
    """
    kind, _, what = way.partition(": ")
    wanted = ended(plain, step, state, batches)
    assert wanted.error.startswith(what) if kind == "error" else not wanted.error, wanted.error
    seen = watched(step, state, batches, None if kind == "impure" else wanted)
    assert seen.warned == (kind in ("discarded", "impure")), way
    if kind in ("discarded", "impure", "bits", "error"):
        return
    report = fn.program(step, state, batches[0])
    if kind == "refused":
        reasons = [each.reason for each in report.opaque]
        assert len(reasons) == 1
        assert any(part in reasons[0] for part in what.replace(".", "").split("|")), reasons
        assert seen.replays == ([STEPS - 2, STEPS] if inside else [0, 0])
        return
    assert report.opaque == ()
    if kind == "versions":
        assert seen.traces == int(what) if what else seen.traces >= 2
        assert seen.replays[1] > 0
    else:
        assert seen == ([STEPS - 2, STEPS], 1, False)


@pytest.mark.parametrize("inside", [False, True], ids=["a step", "inside"])
@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_traps(trap: Trap, inside: bool) -> None:  # noqa: FBT001  # a parameter
    """No trap catches a replay."""
    if trap.batches == "singular" and not HAS_TRAPS:
        pytest.skip("NumPy finds a singular matrix by floating-point exceptions, which the processor does not have")
    cached.cache_clear()
    batches = BATCHES[trap.batches]
    check(stepped(trap.function(), inside=inside), (np.array([0.5, 1.5, -2.5]), 0), batches, trap.way, inside=inside)


# ------------------------------------------------------------------------------------------- traps of states

W: Final = np.array([0.5, 1.5, -2.5])
CONSTANT: Final = np.arange(3.0)


@frozen(eq=False)
class Record:
    """A state that is a record."""

    w: Any
    n: Any = 0
    word: str = "a"
    inner: Any = ()


def _grows(state: Any, x: AnyArray) -> tuple[Any, float]:
    return ((*state, x[0]) if len(state) < 3 else state), x[0, 0].item()


def _flag(state: Any, x: AnyArray) -> tuple[Any, float]:
    w, warm = state
    return (w * (0.9 if warm else 0.5) + x[0], w.sum() < 0), 1.0


def _warms(state: Record, x: AnyArray) -> tuple[Record, float]:
    word = "b" if state.n == 4 else state.word
    return Record(state.w * (0.9 if word == "a" else 0.5) + x[0], state.n + 1, word), 1.0


def _cools(state: Record, x: AnyArray) -> tuple[Record, float]:
    word = "a" if state.n % 4 else "b"
    return Record(state.w * (0.9 if state.word == "a" else 0.5) + x[0], state.n + 1, word), 1.0


def _widens(state: Any, x: AnyArray) -> tuple[Any, float]:
    w, n = state
    return (w.astype(np.float64) if n == 4 else w * 2, n + 1), x[0, 0].item()


def _counts(state: Any, _: AnyArray) -> tuple[Any, float]:
    w, n, m = state
    return (w * 0.9, n + 1, m + 1 if n % 3 == 2 else m), w.sum() * m


def _squared_matrix(a: AnyArray) -> Any:
    """A matrix that is computed twice, multiplied by itself."""
    function = getattr(np.linalg, "matmul", np.matmul)
    return function(a * 2, (a * 2).T)


@attrs.frozen(eq=False, slots=False)
class Keeping:
    """A state that computes something of itself when it is made."""

    w: AnyArray

    def __attrs_post_init__(self) -> None:
        self.__dict__["size"] = float(self.w[0])

    size: ClassVar[float]


@frozen(eq=False)
class Odd:
    """A state whose fields have the names of what the program's source has itself, and of Python's words."""

    np: Any
    lambda_: Any
    run: Any
    t1: Any
    state: Any


@fn.whole
def _found(x: AnyArray) -> float | None:
    """A number, or nothing."""
    return None if x.max() > 3 else float(x.max())


def _looked(x: AnyArray) -> AnyArray | tuple[AnyArray]:
    """An array, or a tuple of it."""
    return (x.copy(),) if float(x.max()) > 3 else x.copy()


# fmt: off
STATES: Final[dict[str, tuple[Any, Callable[[Any, Any], tuple[Any, Any]], str]]] = {
    "swap": ((W, W + 1), lambda s, x: ((s[1], s[0]), x[0].sum()), "traced"),
    "swap and change": ((W, W + 1), lambda s, x: ((s[1] * 0.9, s[0] + x[0]), s[0].sum()), "traced"),
    "rotate": ((W, W + 1, W + 2), lambda s, x: ((s[1] + x[0], s[2], s[0]), s[2].sum()), "traced"),
    "the same array twice": ((W, W), lambda s, x: ((s[0] * 0.9, s[1] + x[0]), s[1].sum()), "traced"),
    "one new array twice": ((W, W), lambda s, x: ((s[0] * 0.9 + x[0],) * 2, s[1].sum()), "traced"),
    "the old one at another place": ((W, W + 1), lambda s, x: ((s[0] + x[0], s[0]), s[1].sum()), "traced"),
    "chained": ((W, W + 1), lambda s, x: ((s[0] * 0.9 + x[0], s[1] - (s[0] * 0.9 + x[0])), s[1].sum()), "traced"),
    "nothing changes": ((W, W + 1), lambda s, x: (s, x[0].sum()), "traced"),
    "one of two changes": ((W, W + 1), lambda s, x: ((s[0], s[1] * 0.9 + x[0] * s[0]), s[1].sum()), "traced"),
    "replaced by the batch": (X[0], lambda s, x: (x, s.sum()), "traced"),
    "replaced by a part of the batch": ((W, W), lambda s, x: ((x[0], s[0]), s[1].sum()), "traced"),
    "replaced by a constant": (W, lambda s, x: (CONSTANT, s.sum() + x[0, 0]), "traced"),
    "replaced by a view of another": ((W, np.ones(2)), lambda s, x: ((s[0] + x[0], s[0][1:]), s[1].sum()), "traced"),
    "replaced by a transpose": (np.ones((3, 3)), lambda s, x: ((s * 0.5 + x[:3]).T.copy(), s[0, 1]), "traced"),
    "in another order": (np.ones((3, 3)), lambda s, x: ((s * 0.5 + x[:3]).T, s[0, 1]), "bits"),
    "in the batch as well": (X[0], lambda s, x: (s * 0.5 + x, (s - x).sum()), "traced"),
    "added to itself": (X[0], lambda s, x: (s + s * x + s, s.sum()), "traced"),
    "times itself": (np.eye(4), lambda s, x: (s @ s.T * 0.5 + x @ x.T * 0.1, s.sum()), "traced"),
    "by its rows": (X[0], lambda s, x: (np.stack([s[1] * 0.5, s[0], x[0], s[2]]), s.sum()), "traced"),
    "reversed": (W, lambda s, x: (s[::-1].copy() + x[0] * 0.1, s[0].item()), "traced"),
    "0-d": (np.ones(()), lambda s, x: (np.add(s, x[0, 0], out=np.empty_like(s)), s.item()), "traced"),
    "empty": ((np.ones((0, 3)), W), lambda s, x: ((s[0] * 2, s[1] + x[0]), s[1].sum()), "traced"),
    "nothing": ((), lambda s, x: (s, x.sum()), "traced"),
    "ints": (np.arange(3), lambda s, x: (s * 2 + (x[0] > 0), s.sum().item()), "traced"),
    "booleans": (W > 0, lambda s, x: (s ^ (x[0] > 0), s.sum().item()), "traced"),
    "bytes": (np.arange(3).astype(np.uint8), lambda s, x: (s + (x[0] > 0), s.sum().item()), "traced"),
    "float32": (W.astype(np.float32), lambda s, x: (s * 0.5 + x[0].astype(np.float32), s.sum()), "traced"),
    "a NumPy number": ((W, np.float64(0)), lambda s, x: ((s[0] * 0.9, s[1] * 0.9 + x.mean()), s[1]), "traced"),
    "a number in single precision":
        ((W, np.float32(0)), lambda s, _: ((s[0] + s[1], s[1] + np.float32(0.1)), s[1]), "traced"),
    "an int of NumPy": ((W, np.int64(0)), lambda s, _: ((s[0] + s[1], s[1] + 1), s[1]), "traced"),
    "a number that becomes one of NumPy": ((W, 0.0), lambda s, x: ((s[0] * 0.9, s[1] + x.mean()), 1.0), "bits"),
    "a number that is constant": ((W, 0.25), lambda s, x: ((s[0] * s[1] + x[0], s[1]), s[0].sum()), "traced"),
    "a number that sometimes changes": ((W, 0, 1), _counts, "bits"),
    "no number": ((W, math.nan), lambda s, _: ((s[0] * 0.9, s[1]), s[0].sum()), "traced"),
    "no number, computed":
        ((W, math.nan), lambda s, x: ((s[0] * 0.9, s[1] * 2 + x[0, 0].item()), s[0].sum()), "traced"),
    "infinite": ((W, math.inf), lambda s, x: ((s[0] * 0.9, s[1] - x[0, 0].item()), s[0].sum()), "traced"),
    "a zero that changes its sign":
        ((W, 0.0), lambda s, x: ((np.copysign(s[0], s[1]) + x[0], -s[1]), s[0].sum()), "traced"),
    "a zero that becomes another":
        ((W, 0.0), lambda s, x: ((np.copysign(s[0], s[1]), s[1] * -0.0 if x[0, 0] > 0 else s[1]), 1.0), "bits"),
    "a large int": ((W, 1), lambda s, _: ((s[0] * 0.5 + s[1] * 1e-40, s[1] * 10**5), s[0].sum()), "traced"),
    "an int beyond floats": ((W, 1), lambda s, _: ((s[0] + s[1] * 1e-300, s[1] * 10**60), 1.0), "error: OverflowError"),
    "a view that a number turns":
        ((W, 0), lambda s, x: ((s[0], s[1] + 1), np.rot90(x, s[1] // 4)[0, 0].item()), "bits"),
    "a view that a number shapes":
        ((W, 0), lambda s, x: ((s[0], s[1] + 1), np.add.reduce(x.reshape(2 + s[1] // 4 * 2, -1)[0]).item()), "bits"),
    "a part that a number cuts":
        ((W, 0), lambda s, x: ((s[0], s[1] + 1), np.add.reduce(np.split(x[:, 0], [1 + s[1] // 5])[0]).item()), "bits"),
    "axes that a number swaps":
        ((W, 0), lambda s, x: ((s[0], s[1] + 1), np.swapaxes(x, 0, s[1] // 4)[0, 1].item()), "bits"),
    "zeros that a number shapes": ((W, 0),
        lambda s, x: ((s[0], s[1] + 1), np.add.reduce(np.zeros_like(x, shape=(1 + s[1] // 5,)) + 1).item()), "bits"),
    "zeros that are trimmed":
        (W, lambda w, x: (w, np.add.reduce(np.trim_zeros(np.maximum(x[:, 0], 0))).item()), "bits"),
    "two arrays of a state that become one":
        ((WIDE[0], WIDE[1]),
        lambda s, x: ((s[0] * 0.9 + x[0, 0].astype(np.float32),) * 2, np.add.reduce(np.dot(s[0], s[1].T), None).item()),
        "bits"),
    "a product by np.linalg":
        (WIDE[0],
        lambda w, x: (w * 1, np.add.reduce(_squared_matrix(w * x[0, 0].astype(np.float32)), axis=None).item()),
        "bits"),
    "a whole function that gives a number or nothing":
        (W, lambda w, x: (w, 2.0 if _found(x) is None else 0.5), "bits"),
    "an opaque function that gives an array or a tuple":
        (W, lambda w, x: (w, 2.0 if isinstance(attempt(_looked, x), tuple) else 0.5), "bits"),
    "a record that keeps more than its fields": (Keeping(W), lambda s, x: (Keeping(s.w + x[0]), s.size), "bits"),
    "an int beyond a dtype": ((np.ones(3, np.uint8), 1), lambda s, _: ((s[0] * 0 + s[1], s[1] * 3), 1.0), BEYOND),
    "an int beyond a dtype, copied":
        ((np.ones(3, np.uint8), 1), lambda s, _: ((np.full_like(s[0], s[1]) | s[0], s[1] * 3), 1.0), COPIED),
    "words": (Record(W, 0, "a", (None, "b", Record)),
        lambda s, x: (attrs.evolve(s, w=s.w + x[0], n=s.n + 1), s.n), "traced"),
    "a word that changes": (Record(W), _warms, "bits"),
    "a word that changes and changes back": (Record(W), _cools, "bits"),
    "a flag that changes": ((W, True), _flag, "bits"),
    "a state that grows": ((W,), _grows, "bits"),
    "a state of another dtype": ((W.astype(np.float32), 0), _widens, "bits"),
    "a list inside": ([W], lambda s, x: ([s[0] * 0.9 + x[0]], s[0].sum()), "bits"),
    "an array of Python objects": ((W, np.array([1, None])), lambda s, x: ((s[0] * 0.9 + x[0], s[1]), 1.0), "bits"),
    "a loss that is an int": (W, lambda s, x: (s * 0.9 + x[0], 3), "traced"),
    "a loss without axes": (W, lambda s, x: (s * 0.9 + x[0], np.add.reduce(x[0], keepdims=True).reshape(())), "traced"),
    "a loss that is an element": (W, lambda s, x: (s * 0.9 + x[0], x[0, 1]), "traced"),
    "written to": (W, lambda s, x: (s + x[0] + np.add(s, 0, out=s), 1.0), "bits"),
    "fields with the names of the program's": (Odd(*(W * i for i in range(5))),
        lambda s, x: (Odd(*(w * 0.9 + x[0] * w for w in leaves_of(s))), 1.0), "traced"),
}
# fmt: on


@pytest.mark.parametrize("name", STATES)
def test_traps_of_states(name: str) -> None:
    """Arrays that move, numbers that vary, structures that change."""
    state, step, way = STATES[name]
    check(step, state, X, way, inside=False)


def test_equal_steps_whose_numbers_are_of_other_kinds() -> None:
    """``Step(0.5) == Step(np.float64(0.5))``, but one of them promotes."""

    @frozen
    class Scaling:
        factor: Any

        def __call__(self, w: AnyArray, x: AnyArray, /) -> tuple[AnyArray, float]:
            made = (w * self.factor).sum() + x[0].astype(np.float32)
            return made.astype(np.float32), made.sum().item()

    assert Scaling(0.1) == Scaling(np.float64(0.1))
    for factor in (0.1, np.float64(0.1), 0.1, 1, 1.0, True):
        check(Scaling(factor), W.astype(np.float32), X, "bits", inside=False)


# -------------------------------------------------------------------------------------------- random programs

Instruction = tuple[str, int, int]
UNARY: Final[dict[str, Callable[[Any], Any]]] = {
    "tanh": np.tanh,
    "negative": np.negative,
    "sqrt": lambda a: np.sqrt(abs(a)),
    "cumsum": lambda a: np.tanh(np.cumsum(a, axis=0)),
    "sort": lambda a: np.sort(a, axis=-1),
    "mask": lambda a: a > 0.1,
    "copy": np.copy,
    "zeros": np.zeros_like,
    "sum of rows": lambda a: np.tanh(a.sum(axis=0)),
    "largest": lambda a: a.max(axis=-1, keepdims=True),
    "mean": lambda a: a.mean(axis=-1) if a.size else a,
    "single": lambda a: a.astype(np.float32),
    "double": lambda a: a.astype(np.float64),
}
VIEWS: Final[dict[str, Callable[[Any], Any]]] = {
    "transpose": lambda a: a.T,
    "rows": lambda a: a[1:],
    "columns": lambda a: a[..., :2],
    "every other": lambda a: a[::2],
    "backwards": lambda a: a[::-1],
    "flat": lambda a: a.reshape(-1),
    "all": lambda a: a[...],
    "last": lambda a: a[-1:],
}


def _larger(a: Any, b: Any) -> Any:
    return cast("AnyArray", np.where(a > b, a, b * 0.5))


BINARY: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "add": lambda a, b: a * 0.5 + b,
    "subtract": lambda a, b: a - b * 0.5,
    "multiply": np.multiply,
    "divide": lambda a, b: a / (b * b + 1),
    "maximum": np.maximum,
    "product": lambda a, b: np.tanh(a @ b),
    "product of a transpose": lambda a, b: np.tanh(a.T @ b),
    "where": _larger,
    "concatenate": lambda a, b: np.concatenate((a, b)),
    "guard": lambda a, b: a * 0.5 if a.sum() > b.sum() else a * 0.25,
    "number": lambda a, b: a * np.tanh(b.sum()).item(),
    "element": lambda a, b: a * 0.5 + b.reshape(-1)[0],
}
WRITES: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+=": lambda a, b: np.add(a, b, out=a),
    "*=": lambda a, b: np.multiply(a, b, out=a),
    "set": np.copyto,
    "set where": lambda a, b: np.copyto(a, b, where=a > 0),
    "add where": lambda a, b: np.add(a, b * 0.5, out=a, where=b > 0),
    "add rows": lambda a, b: np.subtract(a[1:], b[:-1], out=a[1:]),
    "sum into": lambda a, b: np.add.reduce(b * 0.5, axis=0, out=a[-1]),
    "swap": lambda a, b: a.__setitem__((0,), b[-1]),
    "clamp": lambda a, _: a.__setitem__(a > 0.9, 0.9),
    "put": lambda a, b: a.put([0, 1], b.reshape(-1)[:2]),
    "tanh": lambda a, _: np.tanh(a, out=a),
}
NAMES_OF_OPERATIONS: Final = (*UNARY, *VIEWS, *BINARY, *(f"write {name}" for name in WRITES))


def operation(name: str) -> Callable[[Any, Any], Any]:
    """An operation of two arrays, of which it may take one."""
    if name.startswith("write "):
        return WRITES[name[6:]]
    both = BINARY.get(name)
    return partial(_of_first, VIEWS.get(name) or UNARY[name]) if both is None else both


def _of_first(function: Callable[[Any], Any], a: AnyArray, _: AnyArray) -> Any:
    return function(a)


def applies(name: str, a: AnyArray, b: AnyArray) -> bool:
    """Whether an operation takes arrays of these shapes and dtypes, and does not make large ones."""
    try:
        made = operation(name)(np.zeros(a.shape, a.dtype), np.zeros(b.shape, b.dtype))
    except (ValueError, TypeError, IndexError):
        return False
    return not isinstance(made, np.ndarray) or made.size <= 100


def interpreted(program: Sequence[Instruction], state: tuple[Any, ...], x: AnyArray) -> tuple[tuple[Any, ...], float]:
    """Run a random program: what does not fit its operands is left out. The newest fitting arrays are the new state."""
    pool, owned = [*state, x], [False] * (len(state) + 1)
    for name, i, j in program:
        a, b, own = pool[i % len(pool)], [LOCKED, *pool][j % (len(pool) + 1)], owned[i % len(pool)]
        if not applies(name, a, b) or (name.startswith("write ") and not own):
            continue
        made: Any = operation(name)(a, b)
        if type(made) in ARRAY_TYPES and not name.startswith("write "):
            pool.append(made)
            owned.append(name not in VIEWS or own)
    new: list[Any] = []
    for old in state:
        alike = [a for a in pool if a.shape == old.shape and a.dtype == old.dtype and a.flags.c_contiguous]
        new.append(next((a for a in reversed(alike) if not any(a is b for b in new)), old))
    return tuple(new), 1.0


instructions = st.tuples(st.sampled_from(NAMES_OF_OPERATIONS), st.integers(0, 60), st.integers(0, 60))


@pytest.mark.slow
@given(program=st.lists(instructions, min_size=4, max_size=30))
@settings(max_examples=4 * settings().max_examples)
def test_random_programs(program: list[Instruction]) -> None:
    """Views, writes, products, conditions: the bits of the plain functions, and arguments as they were."""
    state = (LOCKED * 0.5, W / 3, LOCKED[:3].copy())
    batches = [np.tanh(x) for x in X[:6]]
    before = bits((state, tuple(batches), LOCKED))

    def step(state: Any, x: AnyArray) -> tuple[Any, float]:
        return interpreted(program, state, x)

    fn.keep_programs()
    wanted = ended(plain, step, state, batches)
    for _ in range(2):
        assert ended(folded, step, state, batches) == wanted
    assert bits((state, tuple(batches), LOCKED)) == before
    assert fn.program(step, state, batches[0]).opaque == ()


# ------------------------------------------------------------------------------------------------- programs


def chained(state: Any, x: AnyArray) -> tuple[Any, float]:
    """Two updates of one formula; the second gradient comes from the first new value."""
    a, b = state
    a = a - 0.1 * (x @ x.T @ a)
    b = b - 0.1 * (x @ x.T @ a)
    return (a, b), a[0, 0].item()


def other_sizes(state: Any, x: AnyArray) -> tuple[Any, float]:
    """One formula for arrays of other sizes, with numbers that vary and one gradient for two of them."""
    a, b, c, d, n = state
    g = x[0] * n
    return (a * 0.9 + g, b * 0.9 + g, c * 0.9 + (x * n), d * 0.9 + n, n + 1), a.sum()


STEPS_TO_PRINT: Final[dict[str, tuple[fn.Step[Any, Any], Any, AnyArray]]] = {
    "arrays that move": (STATES["rotate"][1], STATES["rotate"][0], X[1]),
    "a number": (STATES["a NumPy number"][1], STATES["a NumPy number"][0], X[1]),
    "joined": (other_sizes, (W, W + 1, X[0], np.ones((2, 2)), 3), X[1]),
    "gaps": (lambda w, x: (w + x[1:].sum(0), x[0, 0].item()), W, BATCHES["gaps"][0]),
    "products": (chained, (X[0], X[1]), X[2]),
}


@pytest.mark.parametrize("name", STEPS_TO_PRINT)
def test_a_printed_program_runs_by_itself(name: str) -> None:
    """With NumPy alone: a block of bytes for the state, and what the source refers to."""
    step, state, x = STEPS_TO_PRINT[name]
    varying = {i for i, leaf in enumerate(leaves_of(state)) if not isinstance(leaf, np.ndarray)}
    trace = Trace(step, state, x, varying)
    report = fn.program(step, state, x)
    assert str(report).endswith(report.source)
    scope: dict[str, Any] = {}
    exec(report.source, scope)  # noqa: S102  # that is what is tested
    block = scope["memory"](len(trace.program.memory.block))
    leaves = leaves_of(state)
    places = [(start, trace.arrays[place]) for place, start in trace.program.memory.starts.items()]
    for start, place in places:
        block[start : start + leaves[place].nbytes] = np.frombuffer(leaves[place].tobytes(), np.uint8)
    with np.errstate(all="ignore"):
        returned = scope["program"](block, report.constants)(x, *(leaves[place] for place in trace.counters))
        new, loss = step(state, x)
    wanted = leaves_of(new)
    for start, place in places:
        assert block[start : start + leaves[place].nbytes].tobytes() == wanted[place].tobytes()
    assert returned == (loss, 1.0, *(wanted[place] for place in trace.counters))  # 1.0 is the total of the loss


def test_a_report_of_a_step_that_is_not_traced() -> None:
    """Nothing but the reason, and the line."""

    def step(w: AnyArray, x: AnyArray) -> tuple[AnyArray, float]:
        return w * float(x[0, 0]), 1.0

    report = fn.program(step, W, X[0])
    (opaque,) = report.opaque
    assert (report.source, report.calls, report.nbytes, report.constants) == ("", 0, 0, ())
    assert opaque.reason == "float() took a number out; mark the function with @fn.whole"
    assert f"{__file__}:" in opaque.place
    assert "# not traced: " in str(report)


def test_what_a_whole_function_keeps_never_changes() -> None:
    """It is given copies, in the memory order of the plain call."""
    kept: list[tuple[AnyArray, bytes, bool]] = []

    @fn.whole
    def keep(x: AnyArray, pair: Any, n: int) -> AnyArray:
        kept.extend((array, array.tobytes(), bool(array.flags.f_contiguous)) for array in (x, *pair))
        assert type(n) is int
        made: AnyArray = x * n
        return made

    def step(state: Any, x: AnyArray) -> tuple[Any, float]:
        w, n = state
        y = np.tanh(x)
        return (w + keep(y.T, (y, y[:, 1]), n)[0, :3] + y[1], n + 1), 1.0

    check(step, (W, 0), X, "traced", inside=False)
    assert len(kept) > 3 * STEPS
    assert all(array.tobytes() == then for array, then, _ in kept)
    assert [columns for *_, columns in kept] == [True, False, False] * (len(kept) // 3)


# -------------------------------------------------------------------------------------------- wrong replays

IN_PLACE: Final = next(trap for trap in TRAPS if trap.name == "in place").function()
WRITING: Final = (stepped(IN_PLACE, inside=False), (W, 0), X)


@pytest.mark.parametrize("kept", [False, True])
def test_a_wrong_bit_is_found_at_the_first_replay(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """The program, of this fold or a kept one, is discarded with a warning, and the fold has the plain bits."""
    run = Trace.run

    def faulty(self: Trace, leaves: Sequence[Any]) -> Any:
        done = run(self, leaves)
        self.program.memory.arrays[0].view(np.uint8)[0] ^= 1
        return done

    wanted = ended(plain, *WRITING)
    if kept:
        assert ended(folded, *WRITING) == wanted
    monkeypatch.setattr(Trace, "run", faulty)
    with pytest.warns(fn.ReplayWarning, match="is called in each step .* its replay gave different numbers") as caught:
        assert ended(folded, *WRITING) == wanted
    assert len(caught) == 1
    monkeypatch.undo()
    with counted_replays() as runs:
        assert ended(folded, *WRITING) == wanted
    assert runs == []


def test_a_wrong_bit_is_found_at_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any replay."""
    init = Trace.__init__

    def faulty(self: Trace, *args: Any) -> None:
        init(self, *args)
        array = self.outcome[0][0].copy()
        array.view(np.uint8)[0] ^= 1
        self.outcome[0][0] = array

    wanted = ended(plain, *WRITING)
    monkeypatch.setattr(Trace, "__init__", faulty)
    with pytest.warns(fn.ReplayWarning), counted_replays() as runs:
        assert ended(folded, *WRITING) == wanted
    assert runs == []


@frozen(eq=False)
class Noisy(fn.Layer):
    """A layer that is not pure."""


def noisy_forward(_: Noisy, x: fn.Array) -> fn.Array:
    """Another result each time."""
    CACHE.append(1)
    return x * len(CACHE)


fn.register_layer(Noisy, forward=noisy_forward, backward=lambda params, _, g: (g, params), name="tests.Noisy")


def test_an_impure_layer_is_named_by_check_layer() -> None:
    """The warning says how to find it, and that finds it."""
    net = (fn.dense(KEY, 3, 2, dtype=np.float64), Noisy())
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.01)
    with pytest.warns(fn.ReplayWarning, match=r"check_layer\(layer, x\) names a layer"):
        fn.train_epoch(step, net, [fn.Batch(x, np.array([0, 1, 0, 1])) for x in X])
    with pytest.raises(fn.LawError, match="determinism: forward called twice gives two different results"):
        fn.check_layer(net[1], X[0])
    fn.check_layer(net[0], X[0])
