"""The sign of a zero: portable bits do not depend on which zero a machine's maximum and minimum choose."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import numpy as np
import pytest
from attrs import evolve, frozen
from bits_data import arrays
from bits_networks import LOSSES
from networks import CASES, Case, recurrent
from numpy.typing import NDArray
from optimizer_table import OPTIMIZERS

import funcnet as fn
from funcnet import arithmetic
from funcnet.arithmetic import Name, using
from funcnet.core.trees import same_bits
from funcnet.random.draws import normal, uniform

AnyArray: TypeAlias = NDArray[Any]
KEY: Final = fn.Key(22)
ROWS: Final = 6

# ---------------------------------------------------------------------------------------------------- machines

Choice: TypeAlias = Callable[[AnyArray, AnyArray], AnyArray]
MACHINES: Final[dict[str, tuple[Choice, Choice]]] = {
    "the second operand": (lambda _, b: b, lambda _, b: b),
    "IEEE 754-2019": (lambda a, b: np.where(np.signbit(a), b, a), lambda a, b: np.where(np.signbit(a), a, b)),
    "the first operand": (lambda a, _: a, lambda a, _: a),
}
"""The rules that choose the maximum and the minimum of two zeros: x86-64 has the first rule, and ARM has the second."""


@frozen
class Chosen:
    """``np.maximum`` or ``np.minimum`` with a machine's choice of two zeros."""

    ufunc: Any
    choose: Choice

    def __call__(self, a: Any, b: Any, out: AnyArray | None = None) -> Any:
        """The larger or the smaller of two arrays."""
        made = self.ufunc(a, b)
        both = np.logical_and(np.equal(a, 0), np.equal(b, 0))
        if both.any():
            zeros = self.choose(*np.broadcast_arrays(np.asarray(a, made.dtype), np.asarray(b, made.dtype)))
            made = np.where(both, zeros, made)[()]
        if out is None:
            return made
        out[...] = made
        return out

    def reduce(self, a: AnyArray, axis: int | None = 0, **options: Any) -> Any:
        """The largest or smallest element along an axis."""
        made = self.ufunc.reduce(a, axis=axis, **options)
        if np.all(made):
            return made
        rows = list(a.reshape(-1) if axis is None else np.moveaxis(a, axis, 0))
        rows = [a.dtype.type(options["initial"]), *rows] if "initial" in options else rows
        return functools.reduce(self, rows).reshape(made.shape)


@contextmanager
def machine(name: str) -> Generator[None]:
    """Compute with the maximum, the minimum and the clip of a machine in the ``with`` block, without tracing."""
    larger, smaller = (Chosen(*each) for each in zip((np.maximum, np.minimum), MACHINES[name], strict=True))

    def clip(a: fn.Array, low: float, high: float) -> Any:
        return smaller(larger(a, low), high)

    fn.keep_programs(programs=0)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for replaced, function in {"maximum": larger, "minimum": smaller, "clip": clip}.items():
                patch.setattr(np, replaced, function)
            yield
    finally:
        fn.keep_programs()


def differing(compute: Callable[[], list[AnyArray]]) -> set[str]:
    """The machines on which a function's bits in portable arithmetic differ from those here."""
    found: set[str] = set()
    with fn.portable():
        here = compute()
        for name in MACHINES:
            with machine(name):
                there = compute()
            if not all(same_bits(a, b) for a, b in zip(here, there, strict=True)):
                found.add(name)
    return found


def signed(key: fn.Key, array: fn.Array, share: float = 0.0) -> fn.Array:
    """The array in float32, with a share of its elements set to 0, and a random sign for every zero."""
    zeros = (uniform(key.child("share"), array.shape) < share) | (array == 0)
    signs = np.where(uniform(key.child("sign"), array.shape) < 0.5, np.float32(0.0), np.float32(-0.0))
    return np.where(zeros, signs, array.astype(np.float32))


def drawn(key: fn.Key, *shape: int, share: float) -> fn.Array:
    """Normal numbers, of which a share is a zero of either sign."""
    return signed(key, normal(key, shape), share)


every_share = pytest.mark.parametrize("share", [1.0, 0.6], ids=["zeros", "zeros and others"])

# ------------------------------------------------------------------------------------------------- the property

LAYERS: Final = (
    *CASES,
    Case("RNN of ReLU", recurrent(fn.RNN, "bias", "initial", activation="relu"), (4, 3)),
    Case("LeakyReLU of slope 0", lambda _, __: fn.LeakyReLU(0)),
    Case("MaxPool2D of one pixel", lambda _, __: fn.MaxPool2D(1), (3, 2, 2)),
)


def passes(layer: fn.Layer, x: fn.Array, share: float) -> list[AnyArray]:
    """The output and all gradients."""
    y = fn.forward(layer, x)
    grad_x, grads = fn.backward(layer, x, drawn(KEY.child("g"), *y.shape, share=share))
    return [y, grad_x, *arrays(grads)]


@every_share
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_layers(case: Case, share: float) -> None:
    """The output and the gradients are the same on every machine, for zeros of both signs in all arrays."""
    layer = fn.astype(case.layer(), np.float32)
    layer = fn.map_parameters(lambda a: signed(KEY.child("layer", a.size), a, share), layer)
    x = case.draw(KEY, ROWS) if case.ids else drawn(KEY.child("x"), ROWS, *case.shape, share=share)
    assert not differing(lambda: passes(layer, x, share))


@every_share
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, share: float) -> None:
    """So are the values and the gradients of losses."""
    loss, target = LOSSES[name]
    prediction = drawn(KEY.child("prediction"), ROWS, 4, share=share)
    y = target(KEY.child("target"), prediction.shape)
    y = signed(KEY.child("signs"), y) if y.dtype.kind == "f" else y

    def compute() -> list[AnyArray]:
        value, gradient = loss(prediction, y, None)
        return [np.array(value), gradient]

    assert not differing(compute)


@every_share
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str, share: float) -> None:
    """So are the parameters and the moments after updates."""
    rule, layer = OPTIMIZERS[name], fn.dense(KEY, 4, 3)

    def signs(*path: str | int) -> Callable[[fn.Array], fn.Array]:
        return lambda a: signed(KEY.child(*path, a.size), a, share)

    def compute() -> list[AnyArray]:
        params = fn.map_parameters(signs("params"), layer)
        made = rule.init(params)
        moments = evolve(made, networks=tuple(fn.map_parameters(signs(name), made[name]) for name in made))
        for step in range(3):
            grads = fn.map_parameters(signs("grads", step), layer)
            params, moments = rule.update(params, grads, moments, step)
        return [*arrays(params), *arrays(moments.networks)]

    assert not differing(compute)


@pytest.mark.parametrize("limit", [0.5, 1e-60])
def test_clipping(limit: float) -> None:
    """So are gradients that are clipped, also to a limit that is 0 in float32."""
    grads = fn.map_parameters(lambda a: signed(KEY, a, 0.6), fn.dense(KEY, 4, 3))
    clipped = (fn.clip_by_value, fn.clip_by_global_norm)
    assert not differing(lambda: [array for clip in clipped for array in arrays(clip(grads, limit))])


# -------------------------------------------------------------------------------------------------- the checker


FAULTS: Final[dict[str, Callable[[fn.Array], fn.Array]]] = {
    "maximum": lambda x: np.maximum(x, 0),
    "maximum, swapped": lambda x: np.maximum(0, x),
    "minimum": lambda x: np.minimum(x, -x),
    "largest": lambda x: np.maximum.reduce(x, axis=1),
    "smallest": lambda x: np.minimum.reduce(x, axis=0, keepdims=True),
    "clip": lambda x: np.asarray(np.clip(x, 0, 6)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checker_sees_a_plain_maximum(fault: str) -> None:
    """A function of NumPy alone has other bits on some machine, unless its zero is added to a number."""
    x = drawn(KEY, 9, 5, share=0.8)
    assert differing(lambda: [FAULTS[fault](x)])
    assert not differing(lambda: [FAULTS[fault](x) + 1])


def test_the_machines_have_numpy_s_numbers() -> None:
    """One of them chooses as NumPy does here; all have its numbers, shapes and dtypes."""
    a, b = drawn(KEY, 9, 5, share=0.7), drawn(KEY.child("b"), 9, 5, share=0.7)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: np.maximum(a, b),
        lambda: np.minimum(a, b[0]),
        lambda: np.maximum(a, 0.5),
        lambda: np.maximum.reduce(a, axis=1, keepdims=True),
        lambda: np.minimum.reduce(a, axis=None, initial=0.0),
        lambda: np.maximum.reduce(a),
    )
    wanted, seen = [call() for call in calls], set[str]()
    for name in MACHINES:
        with machine(name):
            found = [call() for call in calls]
        for x, y in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(x, y, strict=True)
        seen |= {name} if same_bits(found[0], wanted[0]) else set()
    assert len(seen) == 1


# ------------------------------------------------------------------------------------------------------ the door

OfTwo: TypeAlias = Callable[[fn.Array, fn.Array], Any]
PLAIN: Final[dict[str, tuple[OfTwo, OfTwo]]] = {
    "maximum": (arithmetic.maximum, np.maximum),
    "maximum of three": (
        lambda a, b: arithmetic.maximum(a, b, b[::-1]),
        lambda a, b: np.maximum(np.maximum(a, b), b[::-1]),
    ),
    "maximum of a number": (lambda a, _: arithmetic.maximum(a, 0), lambda a, _: np.maximum(a, 0)),
    "maximum of rows": (lambda a, b: arithmetic.maximum(a[0], b), lambda a, b: np.maximum(a[0], b)),
    "maximum of two numbers": (lambda _, __: arithmetic.maximum(-0.0, 0.0), lambda _, __: np.maximum(-0.0, 0.0)),
    "minimum": (arithmetic.minimum, np.minimum),
    "clip": (lambda a, _: arithmetic.clip(a, 0, 0.5), lambda a, _: np.clip(a, 0, 0.5)),
    "largest": (lambda a, _: arithmetic.largest(-a * a), lambda a, _: np.maximum.reduce(-a * a, axis=-1)),
    "largest row": (lambda a, _: arithmetic.largest(-a * a, axis=0), lambda a, _: np.maximum.reduce(-a * a, axis=0)),
}


@pytest.mark.parametrize("name", ["native", "portable"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", PLAIN)
def test_the_door(function: str, dtype: fn.FloatDType, name: Name) -> None:
    """It has NumPy's bits in native arithmetic; in portable arithmetic, NumPy's numbers and zeros of one sign."""
    own, numpy = PLAIN[function]
    a: fn.Array = drawn(KEY.child("a"), 9, 7, share=0.6).astype(dtype)
    b: fn.Array = drawn(KEY.child("b"), 9, 7, share=0.6).astype(dtype)
    a[2, 3] = b[3, 4] = np.nan
    before = a.tobytes(), b.tobytes()
    with using(name):
        got = own(a, b)
    wanted = numpy(a, b)
    assert (a.tobytes(), b.tobytes()) == before
    assert type(got) is type(wanted)
    np.testing.assert_array_equal(got, wanted, strict=True)
    assert same_bits(got, wanted) if name == "native" else not np.signbit(got[got == 0]).any()


MIXES: Final[dict[str, tuple[Any, ...]]] = {
    "equal": (np.zeros((2, 3)), np.ones((2, 3)), np.ones((2, 3))),
    "a larger third": (np.zeros(3), np.zeros(3), np.ones((2, 3))),
    "a smaller third": (np.zeros((2, 3)), np.zeros(3), np.ones(3)),
    "one element": (np.zeros(1), np.zeros(1), np.ones((1, 1))),
    "rows and columns": (np.zeros((2, 1)), np.zeros((2, 1)), np.ones((1, 3)), np.ones((4, 1, 1))),
    "none": (np.zeros((0, 3)), np.zeros(3), np.ones((0, 3))),
    "numbers": (-1.0, 2, 0.5),
    "NumPy's numbers": (np.float32(-1), np.float32(2), np.float32(0.5)),
    "0-d": (np.array(-1.0), np.array(2.0), np.array(0.5)),
    "a number third": (np.zeros(3, np.float32), np.zeros(3, np.float32), 0.5),
    "a number first": (0.5, np.float32(1), np.zeros(3, np.float32)),
    "float64 third": (np.zeros(3, np.float32), np.zeros(3, np.float32), np.full(3, 0.1)),
    "float32 third": (np.zeros(3), np.zeros(3), np.full(3, 0.1, np.float32)),
    "integers": (np.zeros(3, np.int64), np.zeros(3, np.int64), np.full(3, 0.1, np.float32)),
    "booleans": (np.zeros(3, np.bool_), np.zeros(3, np.bool_), np.ones(3, np.bool_)),
}


@pytest.mark.parametrize("name", ["native", "portable"])
@pytest.mark.parametrize("mix", MIXES)
def test_a_maximum_of_any_mix(mix: str, name: Name) -> None:
    """It has the type, the shape, the dtype and the numbers of NumPy's, and leaves its arguments unchanged."""
    operands = MIXES[mix]
    before = [np.asarray(each).tobytes() for each in operands]
    with using(name):
        got = arithmetic.maximum(*operands)
    wanted: Any = functools.reduce(np.maximum, operands)
    assert type(got) is type(wanted)
    np.testing.assert_array_equal(got, wanted, strict=True)
    assert [np.asarray(each).tobytes() for each in operands] == before


@pytest.mark.parametrize(("name", "maxima", "added"), [("native", 3, 0), ("portable", 5, 4)])
def test_a_replay_adds_the_zero_in_place(name: Name, maxima: int, added: int) -> None:
    """In portable arithmetic alone, an addition follows each maximum, except those of products and exponentials."""
    net = (fn.ReLU(), fn.dense(KEY, 8, 3), fn.ReLU(), fn.dense(KEY, 3, 3))
    batches = [fn.Batch(drawn(KEY.child(i), ROWS, 8, share=0.7), np.arange(ROWS) % 3) for i in range(4)]
    step = fn.train_step(fn.softmax_cross_entropy)
    with using(name):
        state = fn.TrainState.create(net, fn.Adam(learning_rate=0.01, amsgrad=True), key=KEY)
        source = fn.program(step, state, batches[0]).source
        folded, _ = fn.train_epoch(step, state, batches)
        for batch in batches:
            state, _ = step(state, batch)
    assert fn.fingerprint(folded) == fn.fingerprint(state)
    pairs = re.findall(r"np\.maximum\(.*, out=(\w+)\)\n *np\.add\(\1, c\d+, out=\1\)", source)
    assert len(pairs) == added
    assert source.count("np.maximum(") == maxima
