"""Fingerprints: equal for equal values, everywhere; different if a bit, a type or a name differs."""

from __future__ import annotations

import copy
import functools
import hashlib
import os
import pickle
import platform
import struct
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import CASES
from random_networks import networks
from surroundings import FOREIGN, SEARCHED

import funcnet as fn
from funcnet.core.names import named
from funcnet.runs.environment import system
from funcnet.runs.structure import DEPTH, INT_BITS, put_together, take_apart

KEY = fn.Key(3)
NET = (fn.dense(KEY, 4, 3), fn.ReLU(), fn.Residual((fn.Dropout(0.25), fn.Tanh())), (fn.dense(KEY.child(1), 3, 2),))
STATE: fn.TrainState[Any] = fn.TrainState.create(NET, fn.Momentum(learning_rate=0.1), key=KEY)
ONES: fn.Array = np.arange(1, 7, dtype=np.float32).reshape(2, 3)

GOLDENS: dict[str, tuple[object, str]] = {
    "None": (None, "fae0622d89b5d32633b87639ea7c033f99a57d64d1ec50c03138c4909538be65"),
    "an int": (-(2**70), "f9e18933eccc5aa1deae6e411477221e1d2b75e90454e1eac49679937b546edd"),
    "a float": (0.1, "42e81fe82c2dcb927780bc01feb307271daf73a7b63bc8810c22c66730350770"),
    "a string": ("Grüße", "052cf0b8b2332207357ecc39c8410b474d1b94e7439a433087421549907ad386"),
    "an array": (ONES, "89f087b75e868e74f5808ec406e603424e5b9e7984691bfd623b65cc7c6d1164"),
    "a key": (fn.Key(7).child("init", 0), "789926ea5e80beb1e9f3f8cd2186e73ab303b07c31e1d0c976f005fd1688e994"),
    "a function": (fn.softmax_cross_entropy, "e7eaee3a61f2a3536718dcaa495e707f3b2005e83c62b69bfd942044fa84c860"),
    "an optimizer": (
        fn.Momentum(learning_rate=0.1),
        "87484288c06b8ebd24c1ba3c54e8a80d1b82f985d559a03b94aa3c8c38755065",
    ),
    "a network": (NET, "51c9b362379a76618502191c7054b40cab72dbc517b4e76726f496e776901727"),
    "a state": (STATE, "8737e9475ece235d133a7a5576dc63ef2fe91bb820333ccd871e00f4201e63e2"),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens(name: str) -> None:
    """Changing any of these committed fingerprints would change every fingerprint that users have stored."""
    value, golden = GOLDENS[name]
    assert fn.fingerprint(value) == golden


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "1"])
def test_another_process_finds_the_same(seed: str) -> None:
    """The fingerprint does not depend on the hash seed."""
    program = f"import sys; sys.path[:0] = {SEARCHED!r}.splitlines(); import test_fingerprints as t\n"
    program += "import funcnet as fn; print(*(fn.fingerprint(value) for value, _ in t.GOLDENS.values()))"
    environment = os.environ | {"PYTHONHASHSEED": seed}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert result.stdout.split() == [golden for _, golden in GOLDENS.values()]


# ----------------------------------------------------------------------------------------------- sameness


SAME: list[fn.Array] = [
    ONES.copy(),
    np.asfortranarray(ONES),
    ONES.astype(FOREIGN),
    np.repeat(ONES, 2, axis=1)[:, ::2],
    ONES[::-1].copy()[::-1],
    np.frombuffer(ONES.tobytes(), np.float32).reshape(2, 3),
]


@pytest.mark.parametrize("array", SAME, ids=["copy", "columns", "big-endian", "strided", "backwards", "read-only"])
def test_memory_is_no_part_of_a_value(array: fn.Array) -> None:
    """The same elements have the same fingerprint, in any memory layout."""
    assert fn.fingerprint(array) == fn.fingerprint(ONES)


def test_the_form_by_hand() -> None:
    """Any program can compute it: a version, the length of the structure's JSON, the JSON, and the elements."""
    text = b'{"array":["float32",[2,3]]}'
    form = b"funcnet fingerprint 1\n" + struct.pack("<Q", len(text)) + text + struct.pack("<6f", 1, 2, 3, 4, 5, 6)
    assert fn.fingerprint(ONES) == hashlib.sha256(form).hexdigest()


@pytest.mark.parametrize("value", [NET, STATE, fn.train_step(fn.softmax_cross_entropy), KEY, (1, 2.5, "a", None)])
def test_copies_keep_it(value: object) -> None:
    """Pickling, deep copying, and taking apart and putting together keep the fingerprint."""
    golden = fn.fingerprint(value)
    assert fn.fingerprint(pickle.loads(pickle.dumps(value))) == golden  # noqa: S301  # created in this test
    assert fn.fingerprint(copy.deepcopy(value)) == golden
    assert fn.fingerprint(put_together(*take_apart(value, "test"))) == golden


@pytest.mark.slow
@given(networks(), networks())
def test_equal_networks_and_only_they_have_one(a: fn.Network, b: fn.Network) -> None:
    """Two networks have equal fingerprints exactly if fn.equal holds."""
    assert (fn.fingerprint(a) == fn.fingerprint(b)) == fn.equal(a, b)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.integers(0, 2),
    st.sampled_from([0.0, -0.0, 1.0]),
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)


@given(VALUES, VALUES)
def test_another_value_has_another(a: object, b: object) -> None:
    """Python's repr distinguishes ints, floats and bools, and -0.0 from 0.0."""
    assert (fn.fingerprint(a) == fn.fingerprint(b)) == (repr(a) == repr(b))


LOOKALIKES: tuple[object, ...] = (
    *(None, False, True, 0, 1, 0.0, -0.0, 1.0, float("nan"), float("inf"), -float("inf"), 5e-324, "", "0", "None"),
    *("nan", "[]", '{"float":"nan"}', (), ((),), (0,), (0, 0), ((0,), 0), (0, (0,)), (None,), ("0",)),
    *("\ud800", "\\ud800", "a.b", ("a", "b")),
    *(np.float64(0), np.float32(0), np.float32(-0.0), np.int64(0), np.int32(0), np.uint8(0), np.bool_(False)),  # noqa: FBT003
    *(np.zeros(0), np.zeros(1), np.zeros(2), np.zeros((1, 1)), np.zeros((1, 2)), np.zeros((2, 1)), np.zeros(())),
    *(np.zeros(1, dtype) for dtype in (np.float16, np.float32, np.int8, np.int64, np.uint64, np.bool_)),
    *(np.zeros(8, np.uint8), -np.zeros(1), np.zeros((0, 1)), np.zeros((1, 0)), (np.zeros(1), np.zeros(1))),
    *(fn.Key(0), fn.Key(1), fn.Key(0, (0,)), fn.Key(0, (0, 0)), fn.ReLU(), fn.Tanh(), fn.ReLU, fn.Tanh),
    *(fn.softmax_cross_entropy, "funcnet.softmax_cross_entropy", "funcnet.ReLU", (fn.ReLU(),), ((fn.ReLU(),),)),
    *(fn.Dropout(0.5), fn.Dropout(0.25), fn.Dropout(0), fn.Dropout(0.0), fn.Dropout(0.5, fn.Key(0))),
    *(fn.SGD(0.1), fn.SGD(0.2), fn.Momentum(0.1), fn.Momentum(0.1, 0.5), fn.Momentum(0.5, 0.1)),
    *(fn.Dense(np.ones((1, 2)), np.zeros(2)), fn.Dense(np.ones((2, 2)), np.zeros(2))),
    *(fn.Dense(np.zeros((1, 2)), np.ones(2)), fn.Dense(np.ones((1, 2), np.float32), np.zeros(2, np.float32))),
    *(fn.Residual(()), fn.Residual(fn.ReLU()), fn.Residual((fn.ReLU(),))),
)  # fmt: skip


def test_lookalikes_differ() -> None:
    """Types, dtypes, shapes, nesting, signs of zero, and values that resemble another value's text all differ."""
    found = [fn.fingerprint(value) for value in LOOKALIKES]
    twice = [value for value, digest in zip(LOOKALIKES, found, strict=True) if found.count(digest) > 1]
    assert not twice
    assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in found)


def test_every_bit_counts() -> None:
    """Flipping any bit of an array changes the fingerprint."""
    seen = {fn.fingerprint(ONES)}
    for position in range(8 * ONES.nbytes):
        changed = bytearray(ONES.tobytes())
        changed[position // 8] ^= 1 << position % 8
        seen.add(fn.fingerprint(np.frombuffer(bytes(changed), np.float32).reshape(2, 3)))
    assert len(seen) == 1 + 8 * ONES.nbytes


def test_every_field_of_a_state_counts() -> None:
    """Parameters, optimizer, moments, step and key count, and so does the network's place in a tuple."""
    other = fn.sgd_update(NET, NET, learning_rate=0.5)
    states = [
        STATE,
        attrs.evolve(STATE, params=other),
        attrs.evolve(STATE, optimizer=fn.Momentum(learning_rate=0.1, momentum=0.8)),
        attrs.evolve(STATE, moments=fn.Moments.of(velocity=other)),
        attrs.evolve(STATE, step=1),
        attrs.evolve(STATE, key=KEY.child(0)),
        attrs.evolve(STATE, params=NET[::-1]),
    ]
    assert len({fn.fingerprint(state) for state in states}) == len(states)


def test_a_nan_in_a_setting_has_one_form() -> None:
    """The sign and payload of a NaN setting do not count; the bits of an array do."""
    quiet, other = np.array([0x7FF8000000000000, 0xFFF8000000000001], np.uint64).view(np.float64)
    assert fn.fingerprint(float(quiet)) == fn.fingerprint(float(other))
    assert fn.fingerprint(np.array([quiet])) != fn.fingerprint(np.array([other]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_layer_has_one(case: Any) -> None:
    """Every layer has a fingerprint, and a different one after a cast to another dtype, if it has arrays."""
    layer = case.layer()
    assert fn.fingerprint(layer) == fn.fingerprint(case.layer())
    cast = fn.astype(layer, np.float32)
    assert (fn.fingerprint(cast) == fn.fingerprint(layer)) == fn.equal(cast, layer)


# ----------------------------------------------------------------------------------------------- refusals


@attrs.frozen(eq=False)
class Unregistered(fn.Layer):
    """A layer without a rule."""


@attrs.frozen
class Schedule:
    """A record without a registered name."""

    rate: float


class Thing:
    """A class that is not a record."""


def unnamed(prediction: fn.Array, target: fn.Array) -> tuple[float, fn.Array]:
    """A loss without a registered name."""
    return 0.0, prediction - target


LAMBDA: Callable[[int], int] = lambda x: x  # noqa: E731


def nested(depth: int) -> tuple[object, ...]:
    """Return nested tuples of the given depth."""
    return functools.reduce(lambda inner, _: (inner,), range(depth), ())


NOT_VALUES: dict[str, tuple[object, tuple[str, ...]]] = {
    "a lambda": (LAMBDA, ("the value", "lambda", "is not registered", "register_name(")),
    "a function": (fn.train_step(unnamed), ("loss: unnamed is not registered; call register_name(unnamed)",)),
    "a layer": ((fn.ReLU(), Unregistered()), ("1: Unregistered is not registered; call register_layer(Unregistered,",)),
    "a record": (Schedule(0.1), ("Schedule is not registered; call register_name(Schedule)",)),
    "a class": (Thing, ("Thing is not registered",)),
    "an object": ((0, Thing()), ("1 must be an array, a number", "Thing object", "frozen attrs class")),
    "a bound method": (ONES.dot, ("is not registered",)),
    "a partial": (functools.partial(unnamed), ("functools.partial",)),
    "a list": ([1], ("got [1]; use a tuple",)),
    "a dict": ({"a": 1}, ("got {'a': 1}; use a frozen attrs class, named with register_name",)),
    "a set": ({1}, ("use a tuple, sorted",)),
    "a range": (range(3), ("use tuple(...)",)),
    "bytes": (b"ab", ("got b'ab'",)),
    "a complex number": (1j, ("got 1j",)),
    "a masked array": (np.ma.masked_array([1.0], [True]), ("use .filled(...)",)),
    "an array of objects": (np.array([None]), ("must be an array of bools, ints or floats", "got object")),
    "an array of strings": (np.array(["a"]), (f"got {np.dtype('U1')}",)),
    "an array of records": (np.zeros(1, [("a", np.float32)]), ("bools, ints or floats",)),
    "an array of times": (np.zeros(1, "M8[s]"), ("got datetime64[s]",)),
    "a string of NumPy's": (np.str_("a"), ("use str(...)",)),
    "a huge int": (1 << INT_BITS, (f"use one of at most {INT_BITS} bits",)),
    "too deep": (nested(DEPTH + 1), (f"at most {DEPTH} levels deep",)),
    "far too deep": (nested(100_000), (f"at most {DEPTH} levels deep",)),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_VALUES)
def test_what_is_no_value_is_refused(name: str) -> None:
    """The message says what is wrong, where, and how to fix it."""
    value, facts = NOT_VALUES[name]
    with pytest.raises(fn.ConfigError, match=r"^fingerprint: ") as caught:
        fn.fingerprint(value)
    for fact in facts:
        assert fact in str(caught.value)


def test_the_deepest_and_the_largest_pass() -> None:
    """Values at the limits are accepted."""
    assert fn.fingerprint(nested(DEPTH)) != fn.fingerprint(nested(DEPTH - 1))
    assert fn.fingerprint((1 << INT_BITS) - 1) != fn.fingerprint(1 - (1 << INT_BITS))


# ------------------------------------------------------------------------------------------------- names


def test_a_name_makes_a_value() -> None:
    """A user's loss and record have a fingerprint once they are named; a name belongs to one thing only."""

    def loss(prediction: fn.Array, target: fn.Array) -> tuple[float, fn.Array]:
        return unnamed(prediction, target)

    @attrs.frozen
    class Rate:
        value: float

    fn.register_name(loss, "test_fingerprints.loss")
    fn.register_name(Rate)
    assert named("test_fingerprints.loss") is loss
    assert fn.fingerprint(fn.train_step(loss)) != fn.fingerprint(fn.train_step(fn.softmax_cross_entropy))
    assert fn.fingerprint(Rate(0.5)) != fn.fingerprint(Rate(0.25))
    with pytest.raises(fn.ConfigError, match=r"already registered as 'test_fingerprints\.loss'"):
        fn.register_name(loss, "another")
    with pytest.raises(fn.ConfigError, match=r"the name 'funcnet\.SGD' is taken"):
        fn.register_name(unnamed, "funcnet.SGD")
    with pytest.raises(fn.ConfigError, match=r"'no\.such' is not registered; import the module"):
        named("no.such")


def test_what_does_not_compare_is_no_part_of_a_value() -> None:
    """A field that its record excludes from comparison does not count and may hold anything."""

    @attrs.frozen
    class Worker:
        rate: float
        who: object = attrs.field(default=None, eq=False)

    fn.register_name(Worker, "test_fingerprints.Worker")
    worker = Worker(0.5, who=LAMBDA)
    assert fn.fingerprint(worker) == fn.fingerprint(Worker(0.5)) != fn.fingerprint(Worker(0.25))
    assert put_together(*take_apart(worker, "test")) == worker


# ------------------------------------------------------------------------------------------- environment


def test_the_environment_says_what_computes() -> None:
    """Every entry is text, and the known entries are present."""
    here = fn.environment()
    assert isinstance(here, fn.Environment)
    assert all(isinstance(entry, str) and entry for entry in attrs.astuple(here))
    assert here.numpy == np.__version__
    assert here.attrs == attrs.__version__
    assert here.arithmetic == "native"
    assert ".".join(map(str, sys.version_info[:3])) in here.python
    assert here == fn.environment()
    assert len(fn.fingerprint(here)) == 64


def test_what_cannot_be_checked_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without threadpoolctl, the environment says that BLAS was not checked."""
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert fn.environment().blas == fn.environment().blas_threads == "not checked"


def test_a_system_without_an_interpreters_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the C library and the libraries of the process cannot be found, the rest of the environment is complete."""

    def missing(*_: object) -> None:
        raise FileNotFoundError(44, "No such file or directory")

    complete = fn.environment()
    monkeypatch.setattr("platform.libc_ver", missing)
    monkeypatch.setitem(sys.modules, "threadpoolctl", SimpleNamespace(threadpool_info=missing))
    system.cache_clear()
    here = fn.environment()
    system.cache_clear()
    assert here.platform == f"{platform.system()} {platform.machine()}"
    assert here == attrs.evolve(complete, platform=here.platform, blas="not checked", blas_threads="not checked")


def test_the_arithmetic_in_force_is_named() -> None:
    """The environment names the arithmetic in force."""
    with fn.portable():
        assert fn.environment().arithmetic == "portable"
    assert fn.environment().arithmetic == "native"


def test_the_environment_sees_threads_and_kernels() -> None:
    """Settings of BLAS and of NumPy's SIMD level appear in the environment."""
    pytest.importorskip("threadpoolctl")
    program = "import funcnet as fn; e = fn.environment(); print(e.blas_threads, e.blas, e.simd, sep='|')"
    settings = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Sandybridge"}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=settings)
    threads, blas, simd = result.stdout.strip().split("|")
    assert threads == "1"
    assert "openblas" not in blas or "Sandybridge" in blas or "x86_64" not in fn.environment().platform
    assert simd == fn.environment().simd
