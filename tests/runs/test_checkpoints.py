"""Checkpoints: loading gives the saved value or an error, a path has the old or the new file, and no byte is trusted.

``FUNCNET_KILLS=20`` kills 20 writers instead of 200.
"""

from __future__ import annotations

import copy
import errno
import functools
import hashlib
import json
import math
import os
import random
import re
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any, Final, TypeAlias, assert_type

import attrs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import CASES, inputs
from optimizer_table import OPTIMIZERS
from random_networks import networks
from surroundings import (
    IS_ROOT,
    SEARCHED,
    needs_large_files,
    needs_locks,
    needs_permissions,
    needs_root,
    needs_users,
)

import funcnet as fn
from funcnet.core.arrays import is_canonical
from funcnet.core.names import _NAMES as NAMES_OF  # pyright: ignore[reportPrivateUsage]  # every registered record
from funcnet.core.names import LATER
from funcnet.core.records import NESTING
from funcnet.core.trees import leaves, map_parameters
from funcnet.data.batches import Minibatches
from funcnet.runs import checkpoints
from funcnet.runs.checkpoints import read_notes
from funcnet.runs.strict_json import check_depth

KEY = fn.Key(3)
Net: TypeAlias = tuple[fn.Dense, fn.ReLU, fn.Residual[tuple[fn.Dropout, fn.Tanh]], tuple[fn.Dense]]
NET: Net = (fn.dense(KEY, 4, 3), fn.ReLU(), fn.Residual((fn.Dropout(0.25), fn.Tanh())), (fn.dense(KEY.child(1), 3, 2),))
MOMENTUM = fn.Momentum(learning_rate=0.1)
STATE = fn.TrainState.create(NET, MOMENTUM, key=KEY.child("run"))
KILLS = int(os.environ.get("FUNCNET_KILLS", "200"))
X = inputs(KEY.child("x"), 40, 4, dtype=np.float32)
LABELS = (X[:, 0] > X[:, 1]).astype(np.int64)
NO_MOMENTS: fn.Moments[Any] = fn.Moments.of()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a test's checkpoint."""
    return tmp_path / "run.safetensors"


def saved(path: Path, value: Any = STATE, *, allow_nonfinite: bool = False) -> bytes:
    """Return the bytes of a value's checkpoint."""
    fn.save(path, value, allow_nonfinite=allow_nonfinite)
    return path.read_bytes()


def saved_at(path: Path, value: Any) -> Path:
    """Save the value at the path, and return the path."""
    fn.save(path, value)
    return path


def changed(**changes: object) -> Any:
    """Return the state with changed fields, unseen by the type checkers."""
    evolve: Callable[..., object] = attrs.evolve
    return evolve(STATE, **changes)


def refuse(path: Path, content: bytes, *facts: str) -> None:
    """Check that a file with this content is refused, by an error that has the path and the facts."""
    path.write_bytes(content)
    with pytest.raises(fn.CheckpointError) as caught:
        fn.load(path)
    assert type(caught.value) is fn.CheckpointError
    for fact in (str(path), *facts):
        assert fact in str(caught.value)


def refuse_by(path: Path, content: bytes, message: str) -> None:
    """Check that a file with this content is refused by exactly this error."""
    path.write_bytes(content)
    with pytest.raises(fn.CheckpointError) as caught:
        fn.load(path)
    assert str(caught.value) == f"{path}: {message}"


# --------------------------------------------------------------------------------------------- round trips


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_layer_comes_back(case: Any, dtype: fn.FloatDType, path: Path) -> None:
    """A single layer comes back with its settings, key and bits, and it is locked."""
    layer: fn.Layer = fn.astype(case.layer(), dtype)
    fn.save(path, layer)
    loaded = fn.load(path, like=layer)
    assert fn.equal(loaded, layer)
    assert fn.fingerprint(loaded) == fn.fingerprint(layer)
    assert all(is_canonical(leaf.array) for leaf in leaves(loaded))


@pytest.mark.parametrize(
    "optimizer", [fn.SGD(0.1), MOMENTUM, fn.Momentum(1, 0), fn.Momentum(np.float64(0.1)), fn.SGD(5e-324)], ids=repr
)
def test_every_optimizer_comes_back(optimizer: fn.SGD | fn.Momentum, path: Path) -> None:
    """The optimizer comes back with a state's moments, step and key; a number keeps its type."""
    state = fn.TrainState.create(NET, optimizer, key=KEY)
    state, _ = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), state, batches())
    fn.save(path, state)
    loaded = fn.load(path, like=state)
    assert fn.fingerprint(loaded) == fn.fingerprint(state)
    assert repr(loaded) == repr(state)
    assert type(getattr(loaded.optimizer, "learning_rate")) is type(optimizer.learning_rate)  # noqa: B009
    assert all(is_canonical(leaf.array) for leaf in leaves((loaded.params, *loaded.moments.networks)))


OPTIMIZER_FILES: Final = "35db8e678c01af4f2ab61daf0c2b13e32dbb5b14ca6ac1d0a12d8a339fedbf65"
"""The SHA-256 of one file per optimizer, written when moments were a tuple of networks without names."""

NEWER: Final = {
    "Adam, amsgrad",
    "AdamW with all",
    "NAdam",
    "NAdam, scheduled",
    "Lion",
    "WeightDecay, coupled",
    "WeightDecay of Lion",
    "all around NAdam",
}
"""The optimizers that did not exist then."""


def test_files_are_what_they_were_before_moments_had_names(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are equal byte for byte, so each version reads the other's; the file's optimizer gives the names."""

    def record(number: float) -> fn.Dense:
        return fn.Dense(weight=np.array([[number]], np.float32), bias=np.array([-number], np.float32))

    monkeypatch.setattr(checkpoints, "environment", lambda: fn.Environment(*["a"] * 9))
    digest = hashlib.sha256()
    for name, optimizer in OPTIMIZERS.items():
        names = optimizer.init(record(0)).names
        moments = fn.Moments(names, tuple(record(number) for number in range(len(names))))
        state = fn.TrainState(record(9), optimizer, moments, 3, fn.Key(7))
        content = saved(path, state)
        if name not in NEWER:
            digest.update(content)
        for loaded in (
            fn.load(path, like=state),
            fn.load(saved_at(path, fn.Fit(state, state)), like=fn.Fit(state, state)),
        ):
            run = loaded if isinstance(loaded, fn.TrainState) else loaded.best
            assert repr(run) == repr(state)
            assert fn.equal(run.moments.networks, moments.networks)
    assert digest.hexdigest() == OPTIMIZER_FILES


def test_a_file_has_the_moments_in_the_optimizers_order(path: Path) -> None:
    """Adam's mean is ``moments.0`` and its square is ``moments.1``; reading alone could undo another order."""
    mean, square = (fn.Dense(np.full((1, 1), number), np.full(1, number)) for number in (2.0, 3.0))
    state = fn.TrainState.create(mean, fn.Adam(0.1), key=KEY)
    header, data = taken(saved(path, attrs.evolve(state, moments=fn.Moments.of(mean=mean, square=square))))
    for name, number in (("moments.0.weight", 2.0), ("moments.1.weight", 3.0)):
        start, end = header[name]["data_offsets"]
        assert np.frombuffer(data[start:end]).item() == number


def test_the_deepest_state_that_trains_can_be_saved(path: Path) -> None:
    """A deeper network is refused at the start of a run, not at its first checkpoint."""
    deepest: fn.Network = fn.dense(KEY, 2, 2)
    for _ in range(NESTING // 2):
        deepest = fn.Residual((deepest,))
    with pytest.raises(fn.StructureError, match=f"a network must have at most {NESTING} levels"):
        fn.TrainState.create((deepest,), fn.Adam(0.1), key=KEY)
    fitted = fn.Fit.create(fn.TrainState.create(deepest, fn.Averaging(fn.Adam(0.1)), key=KEY))
    fn.save(path, fitted)
    assert fn.fingerprint(fn.load(path, like=fitted)) == fn.fingerprint(fitted)


@pytest.mark.slow
def test_a_state_of_many_layers_can_be_saved(path: Path) -> None:
    """Its header has more than 1 MiB."""
    state = fn.TrainState.create((fn.Dense(np.ones((1, 1)), np.ones(1)),) * 1500, fn.Adam(0.1), key=KEY)
    assert fn.load(saved_at(path, state), like=state).moments.names == state.moments.names


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(net=networks())
def test_random_networks_come_back(net: tuple[fn.Network, ...], path: Path) -> None:
    """Nested and empty networks come back, and states of them."""
    fn.save(path, net)
    assert fn.equal(fn.load(path, like=net), net)
    state = fn.TrainState.create(net, MOMENTUM, key=KEY)
    fn.save(path, state)
    assert fn.fingerprint(fn.load(path)) == fn.fingerprint(state)


def test_extreme_numbers_come_back(path: Path) -> None:
    """Signed zeros, subnormals and the largest numbers come back bit for bit."""
    extremes = np.array([0.0, -0.0, 5e-324, -5e-324, 1e308, np.pi, math.nextafter(1, 2)])
    layer = fn.Dense(weight=extremes[:, None], bias=np.array([-0.0]))
    fn.save(path, layer)
    assert fn.equal(fn.load(path, like=layer), layer)


def test_one_value_is_one_file(path: Path, tmp_path: Path) -> None:
    """Saving a value twice gives the same bytes; a path may be a string."""
    other = str(tmp_path / "other")
    fn.save(other, copy.deepcopy(STATE))
    assert saved(path) == Path(other).read_bytes()
    assert fn.fingerprint(fn.load(other)) == fn.fingerprint(STATE)


def test_users_records_come_back(path: Path) -> None:
    """A user's registered layer and registered optimizer come back, with settings of every kind."""

    @attrs.frozen(eq=False)
    class Everything(fn.Layer):
        W: fn.Weight
        _hidden: fn.Array | None = None
        settings: tuple[object, ...] = ()
        mean: fn.Statistic | None = None

    @attrs.frozen
    class Halved:
        inner: fn.SGD
        loss: Callable[..., object] = fn.softmax_cross_entropy

        def init(self, params: Any, /) -> fn.Moments[Any]:
            return self.inner.init(params)

        def update(self, *arguments: Any) -> tuple[Any, fn.Moments[Any]]:
            return self.inner.update(*arguments)

    fn.register_layer(Everything, forward=lambda _, x: x, backward=lambda p, _, g: (g, p), name="tests.Everything")
    odd = (None, True, -(2**80), 1e-310, math.inf, math.nan, "a\n\ud800é", KEY, np.float32(0.1), (), fn.ReLU)
    layer = Everything(np.ones((2, 3), np.float32), np.ones(1, np.float32), odd, mean=np.ones(2, np.float32))
    state = fn.TrainState.create((layer, fn.ReLU()), Halved(fn.SGD(0.1)), key=KEY)
    with pytest.raises(fn.ConfigError, match=r"save: optimizer: .*Halved is not registered; call register_name\("):
        fn.save(path, state)
    fn.register_name(Halved, "tests.Halved")
    fn.save(path, state)
    loaded = fn.load(path, like=state)
    assert fn.fingerprint(loaded) == fn.fingerprint(state)
    assert repr(loaded) == repr(state)
    assert '"params.0._hidden"' in path.read_bytes().decode("latin-1")


def test_the_static_types(path: Path) -> None:
    """Without ``like``, the type is one of the four that save accepts; with it, the type is that of ``like``."""
    fn.save(path, STATE)
    loaded = fn.load(path)
    assert_type(loaded, fn.Network | fn.TrainState[fn.Network] | fn.Fit[fn.Network] | fn.Fit[fn.TrainState[fn.Network]])
    fn.save(path, loaded)
    assert_type(fn.load(path, like=STATE), fn.TrainState[Net])
    fn.save(path, NET)
    assert_type(fn.load(path, like=NET), Net)


# ------------------------------------------------------------------------------------- fields that came later

GAINING = """
import sys
import attrs
import funcnet as fn
from funcnet.core.names import LATER

@attrs.frozen(eq=False)
class Gaining(fn.Layer):
    rate: float
    #FIELD

fn.register_layer(Gaining, forward=lambda _, x: x, backward=lambda p, x, g: (g, p), name="tests.Gaining")
value = (fn.ReLU(), #VALUE)
print(fn.fingerprint(value))
if sys.argv[2] == "save":
    fn.save(sys.argv[1], value)
else:
    print(repr(fn.load(sys.argv[1])))
"""
LATER_FIELD = "steps: int | None = attrs.field(default=None, metadata=LATER)"
OTHER_DEFAULTS = {
    "True": "flag: object = attrs.field(default=True, metadata=LATER)",
    "-0.0": "shift: float = attrs.field(default=-0.0, metadata=LATER)",
    "tuple": "sizes: tuple[int, ...] = attrs.field(default=(1, 2), metadata=LATER)",
}


def gaining(path: Path, action: str, field: str, value: str) -> tuple[str, str]:
    """Return the fingerprint, and the other output or error of a program with such a record."""
    program = GAINING.replace("#FIELD", field).replace("#VALUE", value)
    done = subprocess.run([sys.executable, "-c", program, path, action], capture_output=True, text=True, check=False)
    fingerprint, _, rest = done.stdout.partition("\n")
    return fingerprint, rest + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("field", [LATER_FIELD, *OTHER_DEFAULTS.values()])
def test_a_field_that_came_later_changes_nothing_at_its_default(field: str, path: Path) -> None:
    """The record's fingerprint does not change, the older file is read, and a new file has the same bytes."""
    before, _ = gaining(path, "save", "", "Gaining(0.5)")
    old = path.read_bytes()
    after, loaded = gaining(path, "load", field, "Gaining(0.5)")
    assert len(before) == 64
    assert after == before
    assert loaded.startswith("(ReLU(), Gaining(rate=0.5, ")
    gaining(path, "save", field, "Gaining(0.5)")
    assert path.read_bytes() == old


@pytest.mark.slow
def test_a_field_that_came_later_counts_at_another_value(path: Path) -> None:
    """The value has a different fingerprint, comes back, and is refused by a program without the field."""
    before, _ = gaining(path, "save", LATER_FIELD, "Gaining(0.5)")
    after, _ = gaining(path, "save", LATER_FIELD, "Gaining(0.5, steps=3)")
    assert after != before
    assert gaining(path, "load", LATER_FIELD, "Gaining(0.5, 3)") == (after, "(ReLU(), Gaining(rate=0.5, steps=3))\n")
    said = gaining(path, "load", "", "Gaining(0.5)")[1]
    assert "CheckpointError" in said
    assert "tests.Gaining must have the fields (rate), got (rate, steps)" in said


@pytest.mark.slow
def test_a_field_without_the_mark_is_asked_for(path: Path) -> None:
    """A plain default, the planted fault, changes the fingerprint, and the older file is refused."""
    before, _ = gaining(path, "save", "", "Gaining(0.5)")
    after, said = gaining(path, "load", "steps: int | None = None", "Gaining(0.5)")
    assert after != before
    assert "tests.Gaining must have the fields (rate, steps), got (rate)" in said


@attrs.frozen(eq=False)
class Gained(fn.Layer):
    """A layer with a field that was added later."""

    steps: object = attrs.field(default=1, metadata=LATER)
    rate: float = attrs.field(default=0.5, metadata=LATER)


@attrs.frozen(eq=False)
class NoDefault(fn.Layer):
    """A layer whose later field has no default."""

    rate: float = attrs.field(metadata=LATER)


for kind in (Gained, NoDefault):
    fn.register_layer(kind, forward=lambda _, x: x, backward=lambda p, _, g: (g, p), name=f"tests.{kind.__name__}")


def test_a_file_leaves_defaults_out(path: Path) -> None:
    """A value has exactly one file: a later field stored with its default is refused, and so is another order."""
    fn.save(path, Gained(2, 0.25))
    for old, new, fact in (
        ('"steps":2', '"steps":1', "not match its arrays"),
        ('"rate":{"float":"0x1.0000000000000p-2"}', '"rate":{"float":"0x1.0000000000000p-1"}', "not match its arrays"),
        ('{"steps":2,"rate":{"float":"0x1.0000000000000p-2"}}', '{"rate":true,"steps":2}', "must have the fields"),
        ('"steps":2', '"stops":2', "must have the fields (steps, rate), got (stops, rate)"),
    ):
        header, data = taken(saved(path, Gained(2, 0.25)))
        structure(old, new)(header)
        refuse(path, forged(header, data), fact)
    values = (1, 1.0, True, np.ones(1, np.float32), (1,))
    assert len({fn.fingerprint(Gained(value)) for value in values}) == len(values)
    with pytest.raises(fn.ConfigError, match="rate: a field that was added later must have a default that is not an"):
        fn.fingerprint(NoDefault(0.5))


# ------------------------------------------------------------------------------------------- what is asked for


OTHERS: dict[str, tuple[fn.Network, str]] = {
    "one layer less": (NET[:3], "the value must be a tuple of 3 as in like, got a tuple of 4"),
    "another layer": ((NET[0], fn.Tanh(), *NET[2:]), "the value at 1 must be Tanh as in like, got ReLU"),
    "another shape": (
        (fn.dense(KEY, 5, 3), *NET[1:]),
        "the value at 0.weight must be float32 (5, 3) as in like, got float32 (4, 3)",
    ),
    "another dtype": (
        fn.astype(NET, np.float64),
        "the value at 0.weight must be float64 (4, 3) as in like, got float32 (4, 3)",
    ),
    "another nesting": (
        (NET[0], (NET[1],), *NET[2:]),
        "the value at 1 must be a tuple of 1 as in like, got ReLU",
    ),
    "another network inside": (
        (*NET[:2], fn.Residual(fn.Tanh()), NET[3]),
        "the value at 2.net must be Tanh as in like, got a tuple of 2",
    ),
    "no bias": (
        (fn.Dense(NET[0].weight), *NET[1:]),
        "the value at 0.bias must be None as in like, got float32 (3,)",
    ),
    "a layer": (fn.ReLU(), "the value must be ReLU as in like, got a tuple of 4"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_structure_is_refused(name: str, path: Path) -> None:
    """The error has the path, the first difference and both structures, which are cut if they are long."""
    fn.save(path, NET)
    like, difference = OTHERS[name]
    with pytest.raises(fn.StructureError) as caught:
        fn.load(path, like=like)
    shown = [text if len(text) <= 320 else f"{text[:317]}..." for text in (repr(like), repr(NET))]
    assert str(caught.value) == f"{path}: {difference}; like is\n  {shown[0]}\nthe file has\n  {shown[1]}"


def test_another_optimizer_is_refused(path: Path) -> None:
    """A state is refused where a network is expected, and vice versa; different settings are read from the file."""
    other = fn.TrainState.create(NET, fn.SGD(0.1), key=KEY)
    fn.save(path, STATE)
    for like, difference in (
        (other, "the value at optimizer must be SGD as in like, got Momentum"),
        (NET, "the value must be a tuple of 4 as in like, got TrainState"),
        (changed(moments=NO_MOMENTS), "the value at moments.networks must be a tuple of 0 as in like, got a tuple of"),
        (changed(params=NET[:2]), "the value at params must be a tuple of 2 as in like, got a tuple of 4"),
    ):
        with pytest.raises(fn.StructureError, match=re.escape(f": {difference}")):
            fn.load(path, like=like)
    loaded = fn.load(path, like=fn.TrainState.create(NET, fn.Momentum(0.5), key=fn.Key(9)))
    assert loaded.optimizer == MOMENTUM
    assert loaded.key == STATE.key


def test_another_optimizer_inside_is_refused(path: Path) -> None:
    """It is refused at any depth; different settings inside are read from the file."""
    inner: tuple[fn.Optimizer, ...] = (fn.Momentum(0.1), fn.Nesterov(0.1), fn.Momentum(0.5))
    made, other, same = (
        fn.TrainState.create(NET, fn.ClipByValue(fn.ClipByGlobalNorm(each, 1.0), 1.0), key=KEY) for each in inner
    )
    fn.save(path, made)
    with pytest.raises(fn.StructureError):
        fn.load(path, like=other)
    assert fn.load(path, like=same).optimizer == made.optimizer


def unchecked(value: object, _: str) -> object:
    """Return the value unchanged."""
    return value


FITS: dict[str, tuple[dict[str, Any], str]] = {
    "a word": ({"losses": (0.5,), "values": ("a",), "best_epoch": 0}, "values must be a tuple of numbers"),
    "a list": ({"losses": (0.5,), "values": 3, "best_epoch": 0}, "values must be a tuple of numbers, got 3"),
    "a loss that is a word": (
        {"losses": ("a",), "values": (0.5,), "best_epoch": 0},
        "losses must be a tuple of numbers",
    ),
    "a best too high": (
        {"losses": (1,), "values": (1,), "best_epoch": 1},
        "best_epoch must be an int from 0 to 0, got 1",
    ),
    "a value less": (
        {"losses": (1, 2), "values": (1,), "best_epoch": 0},
        "values must have length 2, one per loss, got",
    ),
    "a metric that has no name": ({"metrics": ((0.5,),)}, r"metrics must be a tuple of \(name, values\), got \("),
    "a metric without numbers": ({"metrics": (("accuracy", 3),)}, "accuracy must be a tuple of numbers, got 3"),
    "a metric too long": ({"metrics": (("accuracy", (0.5,)),)}, "accuracy must have length 0, one per loss, got 1"),
    "no best": ({"losses": (0.5,), "values": (0.5,)}, "best_epoch must be an int from 0 to 0, got None"),
    "a best to come": ({"best_epoch": 0}, "best_epoch must be None before the first epoch, got 0"),
    "waited": ({"waited": "long"}, "waited must be an int of at least 0, got 'long'"),
}


@pytest.mark.parametrize("name", FITS)
def test_a_fit_whose_parts_do_not_fit_is_refused(name: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save refuses it, and load refuses it if it was written without the check."""
    fields, fact = FITS[name]
    fitted = fn.Fit(NET, NET, **fields)
    with pytest.raises(fn.ConfigError, match=f"^save: {fact}"):
        fn.save(path, fitted)
    with monkeypatch.context() as patched:
        patched.setattr("funcnet.runs.checkpoints._check_value", unchecked)
        fn.save(path, fitted)
    with pytest.raises(fn.CheckpointError, match=f"^{path}: load: {fact}"):
        fn.load(path)


BROKEN: Final[dict[str, tuple[Any, str]]] = {
    "the state": (fn.Fit(changed(step=-1), STATE), "step must be an int of at least 0, got -1"),
    "the best": (fn.Fit(STATE, changed(key=4)), "key must be a Key, got 4"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_fit_of_something_broken_is_refused(name: str, path: Path) -> None:
    """Both of its states are checked."""
    fitted, fact = BROKEN[name]
    with pytest.raises(fn.ConfigError, match=f"^save: {fact}"):
        fn.save(path, fitted)


def test_a_fit_is_asked_for(path: Path) -> None:
    """``like`` checks both of its states: a fit of different networks is refused."""
    fitted = fn.Fit(STATE, STATE, 1, 0, (0.5, 0.25), (0.5, 0.75))
    fn.save(path, fitted)
    loaded = fn.load(path, like=fn.Fit(STATE, STATE))
    assert (loaded.best_epoch, loaded.losses, loaded.values) == (1, (0.5, 0.25), (0.5, 0.75))
    other = fn.TrainState.create(NET[:2], MOMENTUM, key=KEY)
    for like in (fn.Fit(other, STATE), fn.Fit(STATE, other)):
        with pytest.raises(fn.StructureError):
            fn.load(path, like=like)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite(number: float, path: Path) -> None:
    """Writing and reading refuse them, with their place; ``allow_nonfinite`` accepts them, bit for bit."""
    broken = (NET[0], attrs.evolve(NET[0], weight=np.where(np.eye(4, 3) > 0, number, NET[0].weight).astype(np.float32)))
    with pytest.raises(fn.NonFiniteError, match=r"^save: 1\.weight must be finite, got 1\.weight\[0, 0\]"):
        fn.save(path, broken)
    assert not path.exists()
    refuse(path, saved(path, broken, allow_nonfinite=True), f"{path}: 1.weight must be finite", "1.weight[0, 0]")
    assert fn.equal(fn.load(path, like=broken, allow_nonfinite=True), broken)
    bad = changed(moments=fn.Moments.of(velocity=map_parameters(lambda p: p + np.float32(number), NET)))
    refuse(path, saved(path, bad, allow_nonfinite=True), "moments.0.0.bias must be finite")


UNSAVED: dict[str, tuple[object, type[fn.FuncnetError], str]] = {
    "an int": (4, fn.StructureError, "a network is a layer or a tuple of networks, got 4"),
    "a list": ([fn.ReLU()], fn.StructureError, "use a tuple"),
    "a step": (fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), fn.StructureError, "got SGDStep"),
    "no optimizer": (changed(optimizer=KEY), fn.ConfigError, "optimizer must have init and update"),
    "other moments": (changed(moments=fn.Moments.of(velocity=NET[:2])), fn.StructureError, "the same structure"),
    "a list of moments": (
        changed(moments=[NET]),
        fn.StructureError,
        "moments must have the names ('velocity',), got [(",
    ),
    "a tuple of moments": (changed(moments=(NET,)), fn.StructureError, "which is not Moments.of(velocity=...)"),
    "more moments": (changed(moments=fn.Moments.of(mean=NET, square=NET)), fn.StructureError, "got ('mean', 'square')"),
    "a negative step": (changed(step=-1), fn.ConfigError, "step must be an int of at least 0, got -1"),
    "a seed": (changed(key=4), fn.ConfigError, "key must be a Key, got 4"),
    "an arithmetic": (changed(arithmetic="fast"), fn.ConfigError, "arithmetic must be 'native' or 'portable'"),
    "no network": (changed(params=4), fn.StructureError, "got 4"),
}


@pytest.mark.parametrize("name", UNSAVED)
def test_what_cannot_be_saved(name: str, path: Path) -> None:
    """Each value is refused with the right error, before a byte is written."""
    value, kind, fact = UNSAVED[name]
    save: Callable[..., None] = fn.save
    with pytest.raises(fn.FuncnetError) as caught:
        save(path, value)
    assert type(caught.value) is kind
    assert str(caught.value).startswith("save: ") or name == "other moments"  # the comparison of two networks raises it
    assert fact in str(caught.value)
    assert not any(path.parent.iterdir())


@attrs.frozen(eq=False)
class Holder(fn.Layer):
    """A layer that can hold anything."""

    inside: object


fn.register_layer(Holder, forward=lambda _, x: x, backward=lambda p, _, g: (g, p), name="tests.Holder")


def test_the_limits_are_the_last_that_are_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The maximum number of axes, the longest int and the longest header come back; one more is refused."""
    most = Holder(np.ones((1,) * 32))
    assert fn.equal(fn.load(saved_at(path, most), like=most), most)
    long = changed(step=2**4096 - 1)
    assert fn.load(saved_at(path, long), like=STATE).step == long.step
    content = saved(path)
    length = len(content[8 : 8 + int.from_bytes(content[:8], "little")].rstrip(b" "))
    with monkeypatch.context() as patch:
        patch.setattr("funcnet.runs.checkpoints.HEADER_LIMIT", length + 8)
        patch.setattr("funcnet.runs.safetensors.HEADER_LIMIT", length + 8)
        assert fn.load(saved_at(path, STATE), like=STATE).step == 0
        patch.setattr("funcnet.runs.checkpoints.HEADER_LIMIT", length + 7)
        with pytest.raises(
            fn.CheckpointError, match=f"^save: a header must have at most {length + 7} bytes, got {length}"
        ):
            fn.save(path, STATE)


@attrs.frozen(eq=False)
class Size(fn.Layer):
    """A layer with a field whose name is not ASCII."""

    größe: fn.Array  # noqa: PLC2401  # a name that is not ASCII, on purpose


fn.register_layer(Size, forward=lambda _, x: x, backward=lambda p, _, g: (g, p), name="tests.Groesse")

UNSAVED_LAYERS: dict[str, tuple[fn.Layer, type[fn.FuncnetError], str]] = {
    "an empty array": (Holder(np.zeros((0, 3))), fn.CheckpointError, "save: inside must have 1 to 32 axes of size"),
    "ints": (Holder(np.zeros(3, np.int64)), fn.CheckpointError, "inside must be float32 or float64, got int64"),
    "a lambda": (Holder((lambda: 0,)), fn.ConfigError, "save: inside.0: <lambda> is not registered"),
    "a dict": (Holder({"a": 1}), fn.ConfigError, "save: inside must be an array, a number"),
    "a name": (Size(np.ones(2)), fn.CheckpointError, "letters, digits, _ and dots; rename fields"),
}


@pytest.mark.parametrize("name", UNSAVED_LAYERS)
def test_what_a_layer_cannot_hold(name: str, path: Path) -> None:
    """The value is refused, with its place."""
    value, kind, fact = UNSAVED_LAYERS[name]
    with pytest.raises(fn.FuncnetError) as caught:
        fn.save(path, value)
    assert type(caught.value) is kind
    assert fact in str(caught.value)


# ------------------------------------------------------------------------------------- the official library


def test_the_official_library_opens_it(path: Path) -> None:
    """The library finds each aligned array under its path, and reads the arrays that were saved."""
    official = pytest.importorskip("safetensors")
    numpy_api = pytest.importorskip("safetensors.numpy")
    wide = fn.dense(KEY, 3, 5, dtype=np.float64)
    values: list[Any] = [STATE, NET, (*NET, wide), wide]
    for value in values:
        fn.save(path, value)
        tensors = numpy_api.load_file(path)
        tree: Any = (value.params, *value.moments.networks) if value is STATE else value
        prefix = {"0": "params", "1": "moments.0"}
        for leaf in leaves(tree):
            first, _, rest = leaf.path.partition(".")
            name = f"{prefix[first]}.{rest}" if value is STATE else leaf.path
            loaded = tensors.pop(name)
            assert loaded.dtype == leaf.array.dtype
            np.testing.assert_array_equal(loaded, leaf.array, strict=True)
        assert not tensors
        with official.safe_open(path, "np") as file:
            assert file.metadata()["funcnet_format"] == "1"
        header, data = taken(path.read_bytes())
        start = path.stat().st_size - len(data)
        sizes = {"F32": 4, "F64": 8}
        for entry in header.values():
            assert "dtype" not in entry or (start + entry["data_offsets"][0]) % sizes[entry["dtype"]] == 0


def test_memory_order_is_no_part_of_a_file(path: Path) -> None:
    """Transposed and strided arrays, which the official library itself writes wrongly, are written correctly."""
    numpy_api = pytest.importorskip("safetensors.numpy")
    base = inputs(KEY, 12, 8, dtype=np.float32)
    for array in (base.T, base[::2, ::3], base[::-1], np.asfortranarray(base)):
        content = saved(path, Holder(array))
        np.testing.assert_array_equal(numpy_api.load(content)["inside"], array, strict=True)
        loaded = fn.load(path)
        assert isinstance(loaded, Holder)
        np.testing.assert_array_equal(np.asarray(loaded.inside), array, strict=True)


def test_what_the_official_library_writes_again(path: Path) -> None:
    """A file that it read and rewrote is the same value, or is refused; a file with a changed number is refused."""
    official = pytest.importorskip("safetensors")
    numpy_api = pytest.importorskip("safetensors.numpy")
    content = saved(path)
    with official.safe_open(path, "np") as file:
        metadata = file.metadata()
    tensors = numpy_api.load(content)
    for _ in range(5):
        path.write_bytes(numpy_api.save(tensors, metadata))
        try:
            again = fn.load(path)
        except fn.CheckpointError as error:
            assert "not in the form" in str(error) or "its metadata must be" in str(error)  # noqa: PT017
        else:
            assert fn.fingerprint(again) == fn.fingerprint(STATE)
    tensors["params.0.bias"] = tensors["params.0.bias"] + 1
    refuse(path, numpy_api.save(tensors, metadata))


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}], ids=["no metadata", "others' metadata"])
def test_others_files_are_refused(metadata: dict[str, str] | None, path: Path) -> None:
    """A file that the official library wrote has arrays, but no information about layers."""
    numpy_api = pytest.importorskip("safetensors.numpy")
    refuse(path, numpy_api.save({"weight": np.ones((2, 2))}, metadata), "it was not written by funcnet's save")


# ------------------------------------------------------------------------------------------------- damage


@pytest.mark.slow
def test_every_truncation_and_every_flipped_byte(path: Path) -> None:
    """Every truncation and every flipped byte of a whole checkpoint is refused."""
    net = (fn.dense(KEY, 3, 2), fn.Dropout(0.5), fn.dense(KEY, 2, 3), fn.Tanh())
    content = saved(path, fn.TrainState.create(net, MOMENTUM, key=KEY))
    assert 1500 < len(content) < 3000
    for size in range(len(content)):
        refuse(path, content[:size])
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        refuse(path, bytes(flipped))


def taken(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return a file's header and data."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def compact(value: object) -> bytes:
    """Return JSON without spaces."""
    return json.dumps(value, separators=(",", ":")).encode()


def forged(header: dict[str, Any], data: bytes) -> bytes:
    """Return a file with a correct SHA-256, whatever its content, so that only the content can reveal the forgery."""
    header["__metadata__"]["sha256"] = "0" * 64
    text = compact(header)
    text += b" " * (-len(text) % 8)
    text = text.replace(b"0" * 64, hashlib.sha256(text + data).hexdigest().encode())
    return len(text).to_bytes(8, "little") + text + data


def raw_file(text: bytes, data: bytes = b"") -> bytes:
    """Return a file with any text as its header."""
    return len(text).to_bytes(8, "little") + text + data


def test_a_forged_file_can_be_right(path: Path) -> None:
    """A forgery without a change is the original file."""
    content = saved(path)
    assert forged(*taken(content)) == content


Edit = Callable[[dict[str, Any]], object]


def entry(**changes: object) -> Edit:
    """Return a change of the first array's entry."""
    return lambda header: header["moments.0.0.bias"].update(changes)


def meta(**changes: object) -> Edit:
    """Return a change of the metadata."""
    return lambda header: header["__metadata__"].update(changes)


def structure(old: str, new: str) -> Edit:
    """Return a change of the structure's text."""

    def edit(header: dict[str, Any]) -> None:
        text = header["__metadata__"]["structure"]
        assert old in text
        header["__metadata__"]["structure"] = text.replace(old, new)

    return edit


def test_a_file_must_have_its_optimizer_s_moments(path: Path) -> None:
    """A file with too few moments is refused."""
    header, data = taken(saved(path, fn.TrainState.create(NET, fn.SGD(0.5), key=KEY)))
    rate, momentum = '"learning_rate":{"float":"0x1.0000000000000p-1"}', '"momentum":{"float":"0x0.0p+0"}'
    structure(f'"funcnet.SGD",{{{rate}}}', f'"funcnet.Momentum",{{{rate},{momentum}}}')(header)
    reason = "a run must continue with the optimizer that it began with"
    refuse(path, forged(header, data), f"load: moments must be 1 networks, ('velocity',), got 0; {reason}")


def renamed(new: str) -> Edit:
    """Return a change of the last array's name."""
    return lambda header: header.update({new: header.pop("params.3.0.weight")})


def swapped(header: dict[str, Any]) -> None:
    """Swap two arrays of the same size."""
    first = header.pop("moments.0.0.bias")
    header["moments.0.0.bias"] = first


RATE = '"learning_rate":{"float":"0x1.999999999999ap-4"}'
DENSE = '{"record":["funcnet.Dense",{"weight":'
FORGERIES: dict[str, tuple[Edit, str]] = {
    "a newer version": (meta(funcnet_format="3"), "it has format '3', and this funcnet reads '1' and '2'"),
    "a version without its notes": (meta(funcnet_format="2"), "environment, notes, sha256, got funcnet_format"),
    "no version": (lambda header: header["__metadata__"].pop("funcnet_format"), "not written by funcnet's save"),
    "a version that is an int": (meta(funcnet_format=1), "it has format 1"),
    "a string too many": (meta(more=""), "its metadata must be the strings"),
    "an environment that is none": (meta(environment={}), "its metadata must be the strings"),
    "no structure": (lambda header: header["__metadata__"].pop("structure"), "its metadata must be the strings"),
    "an unknown type": (structure("funcnet.Tanh", "funcnet.Tarn"), "'funcnet.Tarn' is not registered; import the"),
    "a function as a record": (structure("funcnet.Tanh", "funcnet.softmax_cross_entropy"), "not belong to a record"),
    "a type as a value": (structure('{"record":["funcnet.Tanh",{}]}', '{"name":"funcnet.Tanh"}'), "got <class"),
    "an unknown name": (structure('{"record":["funcnet.Tanh",{}]}', '{"name":"os.system"}'), "not registered"),
    "an unknown form": (structure('{"float":', '{"pickle":'), "has an unknown form, got {'pickle'"),
    "two forms": (structure('{"float":"0x1.999999999999ap-4"}', '{"float":"0x1p+0","name":"a"}'), "an unknown form"),
    "a float in JSON": (structure('{"float":"0x1.999999999999ap-4"}', "0.1"), "the number 0.1, which is not an int"),
    "NaN in JSON": (structure('{"float":"0x1.999999999999ap-4"}', "NaN"), "the number NaN, which is not an int"),
    "an unusual float": (structure("0x1.999999999999ap-4", "0x1.999999999999Ap-4"), "not match its arrays"),
    "no float": (structure("0x1.999999999999ap-4", "xyz"), "is not a valid float"),
    "a float too large": (structure("0x1.999999999999ap-4", "0x1p+5000"), "is not a valid float"),
    "a float of None": (structure('"0x1.999999999999ap-4"', "null"), "is not a valid float"),
    "a rate out of range": (structure("0x1.999999999999ap-4", "-0x1.0000000000000p+0"), "optimizer: Momentum: "),
    "a rate that is a string": (structure(RATE, '"learning_rate":"fast"'), "learning_rate must be a number"),
    "a field less": (structure(RATE + ",", ""), "must have the fields (learning_rate, momentum), got (momentum)"),
    "a field more": (structure(RATE, RATE + ',"nesterov":true'), "must have the fields"),
    "fields that are a list": (structure('["funcnet.Tanh",{}]', '["funcnet.Tanh",[1]]'), "is not a valid record"),
    "a record of nothing": (structure('["funcnet.Tanh",{}]', "[]"), "is not a valid record"),
    "a name that is a list": (structure('["funcnet.Tanh",{}]', "[[],{}]"), "is not a valid record"),
    "a duplicate field": (structure(RATE, f"{RATE},{RATE}"), "the key 'learning_rate' twice"),
    "a scalar of objects": (structure('{"float":"0x1.999999999999ap-4"}', '{"scalar":["object","00"]}'), "a scalar"),
    "a scalar too short": (structure('{"float":"0x1.999999999999ap-4"}', '{"scalar":["float64","00"]}'), "scalar"),
    "a negative step": (structure('"step":0', '"step":-1'), "step must be an int of at least 0, got -1"),
    "a step that is true": (structure('"step":0', '"step":true'), "step must be an int of at least 0, got True"),
    "a step just too long": (structure('"step":0', '"step":' + "9" * 1300), "got a larger int"),
    "a step of more digits": (structure('"step":0', '"step":' + "9" * 1301), "an int of 1301 digits"),
    "a step too long": (structure('"step":0', '"step":' + "9" * 5000), "an int of 5000 digits"),
    "a step as -0": (structure('"step":0', '"step":-0'), "its structure is not in the form"),
    "a seed out of range": (structure('"seed":3', f'"seed":{2**64}'), "seed must be an int from 0 to 2**64 - 1"),
    "no key": (structure('"key":{"record"', '"kez":{"record"'), "must have the fields (params, optimizer, moments"),
    "an optimizer that is a layer": (structure("funcnet.Momentum", "funcnet.ReLU"), "must have the fields ()"),
    "moments of nothing": (structure('"moments":[[', '"moments":[[[],'), "no array 'moments.0.1.weight'"),
    "an array that is not there": (structure('{"array":["float32",[4,3]]}', "null"), "0: Dense: weight must be"),
    "a bias that is not there": (structure('{"array":["float32",[3]]}', "null"), "not match its arrays"),
    "a shape that differs": (structure("[4,3]", "[3,4]"), "not match its arrays"),
    "a dtype that differs": (structure('["float32",[4,3]]', '["float64",[4,3]]'), "not match its arrays"),
    "a place deep inside": (structure('"rate":', '"rate":' + "[" * 90 + "]" * 90 + ',"rat":'), "must have the fields"),
    "a structure too deep": (structure('"step":0', '"step":' + "[" * 200 + "]" * 200), "more than 100 levels deep"),
    "a structure far too deep": (structure('"step":0', '"step":' + "[" * 90000 + "]" * 90000), "nested too deeply"),
    "a structure that is cut": (structure('"step":0', '"step":'), "its header is not JSON"),
    "a network in a state": (structure('"net":[', '"net":["a",'), "params.2: Residual (layer 0): a network is a layer"),
    "no array at all": (lambda header: header.pop("params.3.0.weight"), "it must have"),
    "an array of another name": (renamed("params.3.0.zeight"), "there is no array 'params.3.0.weight'"),
    "a name with a slash": (renamed("../../etc/passwd"), "an array's name must have at most 4096 letters"),
    "an empty name": (renamed(""), "an array's name must have"),
    "a name too long": (renamed("z" * 4097), "an array's name must have"),
    "a name with a null": (renamed("params\0"), "an array's name must have"),
    "a name that is not ASCII": (renamed("größe"), "an array's name must have"),
    "a name with a line break": (renamed("weight\n"), "an array's name must have"),
    "arrays not sorted": (swapped, "must have the data_offsets"),
    "an unknown dtype": (entry(dtype="BF16"), "must have the dtype F32 or F64, got 'BF16'"),
    "a dtype that is a list": (entry(dtype=["F32"]), "must have the dtype"),
    "another dtype": (entry(dtype="F64"), "must have the data_offsets [0, 24]"),
    "no shape": (lambda header: header["moments.0.0.bias"].pop("shape"), "must have dtype, shape and data_offsets"),
    "an entry that is a list": (lambda header: header.update({"moments.0.0.bias": []}), "must have dtype, shape and"),
    "an entry that lists what it must have": (
        lambda header: header.update({"moments.0.0.bias": ["dtype", "shape", "data_offsets"]}),
        "must have dtype, shape and data_offsets",
    ),
    "an entry too many": (entry(strides=[4]), "must have dtype, shape and data_offsets"),
    "an axis of zero": (entry(shape=[0], data_offsets=[0, 0]), "1 to 32 axes of size at least 1, got [0]"),
    "no axis": (entry(shape=[], data_offsets=[0, 4]), "1 to 32 axes of size at least 1, got []"),
    "too many axes": (entry(shape=[1] * 33), "must have at most 32 axes"),
    "an entry in another order": (
        lambda header: header["moments.0.0.bias"].update(dtype=header["moments.0.0.bias"].pop("dtype")),
        "moments.0.0.bias must have dtype, shape, data_offsets in this order, got {'shape'",
    ),
    "a negative axis": (entry(shape=[-3]), ".bias must be a list of ints in [0, 2**63), got [-3]"),
    "an axis of 2**63": (entry(shape=[2**63]), "a list of ints in [0, 2**63)"),
    "an offset that is a string": (entry(data_offsets=["0", 12]), "data_offsets of moments.0.0.bias must be a list"),
    "two negative axes": (entry(shape=[-1, -3]), "a list of ints in [0, 2**63)"),
    "an axis that is true": (entry(shape=[True, 3]), "a list of ints in [0, 2**63)"),
    "an axis that is a string": (entry(shape=["3"]), "a list of ints in [0, 2**63)"),
    "a shape that is an int": (entry(shape=3), "a list of ints in [0, 2**63), got 3"),
    "a huge axis": (entry(shape=[2**64]), "a list of ints in [0, 2**63)"),
    "a huge size": (entry(shape=[2**62], data_offsets=[0, 2**64]), "a list of ints in [0, 2**63)"),
    "a size that wraps": (entry(shape=[2**62, 4], data_offsets=[0, 0]), "must have the data_offsets"),
    "a large size": (entry(shape=[2**40], data_offsets=[0, 2**42]), "must have the data_offsets"),
    "a hole": (entry(data_offsets=[4, 16]), "without gaps and for the shape [3], got [4, 16]"),
    "an overlap": (lambda header: header["moments.0.0.weight"].update(data_offsets=[8, 56]), "must have the data_"),
    "offsets backwards": (entry(data_offsets=[12, 0]), "must have the data_offsets [0, 12]"),
    "three offsets": (entry(data_offsets=[0, 12, 12]), "must have the data_offsets [0, 12]"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries_are_refused(name: str, path: Path) -> None:
    """Files with a correct SHA-256 and wrong content are refused, each with its reason, using little memory."""
    edit, fact = FORGERIES[name]
    header, data = taken(saved(path))
    edit(header)
    content = forged(header, data)
    refuse(path, content, fact)  # what only the first refusal of a process loads does not count
    tracemalloc.start()
    try:
        refuse(path, content, fact)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(content) + 2**20
    finally:
        tracemalloc.stop()


def test_what_the_metadata_must_be_is_said(path: Path) -> None:
    """The whole message is checked, including the fix for a newer file."""
    four = "funcnet_format, structure, environment, sha256"
    said: list[tuple[Edit, str]] = [
        (
            meta(funcnet_format="3"),
            "it has format '3', and this funcnet reads '1' and '2'; a newer funcnet may read it",
        ),
        (meta(more=""), f"its metadata must be the strings {four}, got {four}, more"),
    ]
    for edit, message in said:
        header, data = taken(saved(path))
        edit(header)
        refuse_by(path, forged(header, data), message)
    no_version = (
        "it was not written by funcnet's save: its header has no funcnet_format; to put its arrays into a network, "
        "use load_arrays(path), then with_named_arrays or from_torch"
    )
    refuse_by(path, raw_file(b"{}"), no_version)


def test_larger_elements_come_first(path: Path) -> None:
    """Larger elements come first so that each array is aligned; by name, the float32 layer would come first."""
    mixed = (fn.dense(KEY, 3, 1), fn.dense(KEY, 3, 1, dtype=np.float64))
    header, _ = taken(saved(path, mixed))
    assert list(header) == ["__metadata__", "1.bias", "1.weight", "0.bias", "0.weight"]
    assert fn.equal(fn.load(path, like=mixed), mixed)


def test_a_file_says_where_it_was_made(path: Path) -> None:
    """The metadata contain the environment."""
    header, _ = taken(saved(path))
    assert json.loads(header["__metadata__"]["environment"]) == fn.environment().entries()


def test_a_file_cut_while_it_is_read_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's size was correct when it was checked."""
    content = saved(path)

    def before(_: int) -> SimpleNamespace:
        return SimpleNamespace(st_size=len(content), st_mode=stat.S_IFREG)

    monkeypatch.setattr("funcnet.runs.checkpoints.os.fstat", before)
    refuse_by(path, content[:-4], "it was cut while it was being read")
    length = int.from_bytes(content[:8], "little")
    refuse_by(path, content[:40], f"its header must have {length} bytes, got 32")


def test_the_order_of_arrays_is_one(path: Path) -> None:
    """A file in which the bytes of two arrays are in a different order is refused."""
    order = "its arrays must be sorted, larger elements first, then by name"
    header, data = taken(saved(path, NET))
    first, second = header["0.bias"], header["0.weight"]
    meta_only = {"__metadata__": header["__metadata__"]}
    rest = {name: said for name, said in header.items() if name not in ("__metadata__", "0.bias", "0.weight")}
    first_size, end = first["data_offsets"][1], second["data_offsets"][1]
    second["data_offsets"], first["data_offsets"] = [0, end - first_size], [end - first_size, end]
    moved = data[first_size:end] + data[:first_size] + data[end:]
    refuse(path, forged({**meta_only, "0.weight": second, "0.bias": first, **rest}, moved), f"{path}: {order}")
    header, data = taken(saved(path, NET))
    last = {**{name: said for name, said in header.items() if name != "__metadata__"}, **meta_only}
    refuse(path, forged(last, data), f"{path}: {order}")


FILES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "got a file of 0"),
    "seven bytes": (b"\x08" + bytes(6), "got a file of 7"),
    "no header": (raw_file(b""), "its header must have"),
    "a pickle": (b"\x80\x05\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os.", "it is not a safetensors file, or"),
    "an archive": (b"PK\x03\x04" + bytes(200), "safetensors file, but a zip archive, as torch.save and np.savez"),
    "a file of Keras": (b"\x89HDF\r\n\x1a\n" + bytes(200), "safetensors file, but an HDF5 file, as Keras writes it"),
    "a header a byte beyond the end": ((3).to_bytes(8, "little") + b"{}", "got 3 in a file of 10"),
    "a header beyond the end": ((100).to_bytes(8, "little") + b"{}", "got 100 in a file of 10"),
    "the longest length": (b"\xff" * 8 + b"{}", f"got {2**64 - 1} in a file of 10"),
    "spaces": (raw_file(b" " * 2**20), "its header is not JSON"),
    "no JSON": (raw_file(b"{]"), "its header is not JSON"),
    "no object": (raw_file(b"[]"), "it was not written by funcnet's save"),
    "an empty object": (raw_file(b"{}"), "it was not written by funcnet's save"),
    "metadata that are none": (raw_file(b'{"__metadata__":[]}'), "it was not written by funcnet's save"),
    "a version alone": (raw_file(b'{"__metadata__":{"funcnet_format":"1"}}'), "its metadata must be the strings"),
    "not ASCII": (raw_file('{"a":"ö"}'.encode()), "it was not written by funcnet's save"),
    "not UTF-8": (raw_file('{"a":"ö"}'.encode("latin-1")), "its header is not JSON"),
    "UTF-16": (raw_file('{"a":"b"}'.encode("utf-16")), "its header is not JSON"),
    "deep lists": (raw_file(b"[" * 2**20), "its header is nested too deeply"),
    "deep objects": (raw_file(b'{"a":' * 2**17), "its header is nested too deeply"),
    "a long number": (raw_file(b"9" * 2**20), f"an int of {2**20} digits"),
    "infinity": (raw_file(b"-Infinity"), "the number -Infinity, which is not an int"),
    "twice the same key": (raw_file(b'{"a":1,"a":1}'), "the key 'a' twice"),
    "twice, written otherwise": (raw_file(rb'{"a":1,"\u0061":1}'), "the key 'a' twice"),
    "twice, after another": (raw_file(b'{"b":1,"a":1,"a":1}'), "the key 'a' twice"),
    "twice, inside": (raw_file(b'{"b":{"a":1,"a":1}}'), "the key 'a' twice"),
    "twice, after very many": (
        raw_file(
            b"{" + b"".join(b'"%x":0,' % key for key in range(60_000)) + b'"ea5f":0}'
        ),  # minutes if each is compared
        "the key 'ea5f' twice",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_none_are_refused(name: str, path: Path) -> None:
    """Files that are not checkpoints are refused, using little memory."""
    content, fact = FILES[name]
    tracemalloc.start()
    try:
        refuse(path, content, fact)
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


def test_the_form_of_the_text_is_one(path: Path) -> None:
    """Extra spaces, different escapes and trailing bytes are refused."""
    content = saved(path)
    header, data = taken(content)
    refuse(path, content + b"\0", "it was cut or extended")
    form = "is not in the form that funcnet writes"
    refuse_by(path, raw_file(json.dumps(header).encode(), data), f"its header {form}")
    refuse(path, raw_file(compact(header).replace(b"moments", rb"\u006doments") + b" " * 3, data), "not in the form")
    refuse(path, raw_file(compact(header) + b" " * 16, data), "not in the form")
    changed = bytes([data[0] ^ 1]) + data[1:]
    damaged = "its content does not match its SHA-256; the file is damaged"
    refuse_by(path, raw_file(content[8 : -len(data)], changed), damaged)
    refuse_by(path, raw_file(b"[" * 2**20), "its header is nested too deeply")
    structure('"step":0', '"step":-0')(header)
    refuse_by(path, forged(header, data), f"its structure {form}")


def test_brackets_in_text_are_not_nested(path: Path) -> None:
    """A file is refused if more than 1000 lists and objects are open at one place; text may hold any brackets."""
    lists: list[dict[str, int]] = [{}] * 2000
    notes: Any = {"text": '"[{' * 2000, "key": '\\"' + "]" * 2000, "list": lists}
    fn.save(path, NET, notes=notes)
    assert read_notes(path) == notes
    for deepest in (
        "[" * 1000 + "]" * 1000,
        '["[' + "[" * 1000 + '"]',
        '["]", ' + '{"[": ' * 999 + "0" + "}" * 999 + "]",
    ):
        check_depth(deepest.encode())
    for deeper in ("[" * 1001, "[]" * 9 + '{"]": [' * 501, '["\\"]", ' + "[" * 1000):
        with pytest.raises(fn.CheckpointError, match="nested too deeply"):
            check_depth(deeper.encode())
    check_depth(b'"' + rb"\"" * 10**5 + b"[" * 2000)  # an open string, in linear time


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(content=st.binary(max_size=300), framed=st.booleans())
def test_random_bytes_are_refused(content: bytes, framed: bool, path: Path) -> None:  # noqa: FBT001
    """The error is always a CheckpointError."""
    refuse(path, raw_file(content, b"1234") if framed else content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["funcnet.Dense", "funcnet.TrainState", "funcnet.Key", "funcnet.Residual", "funcnet.SGD", "a"])
TAGGED = st.recursive(
    JSON,
    lambda inner: st.one_of(
        st.tuples(NAMES, inner).map(lambda pair: {"record": list(pair)}),
        st.sampled_from(["float", "array", "scalar", "name", "record"]).flatmap(
            lambda tag: inner.map(lambda node: {tag: node})
        ),
        inner.map(lambda node: {"record": ["funcnet.Residual", {"net": node}]}),
        inner.map(lambda node: {"record": ["funcnet.Dropout", {"rate": node, "key": None}]}),
        st.lists(inner, max_size=3),
    ),
    max_leaves=6,
)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(node=TAGGED)
def test_random_structures_are_refused_or_come_back(node: object, path: Path) -> None:
    """A sealed file of any structure gives a CheckpointError, or a value that saves to the same file.

    Records convert a NumPy number to a Python number, so a value with one saves to another file of an equal value.
    """
    header, _ = taken(saved(path, ()))
    header["__metadata__"]["structure"] = compact(node).decode()
    path.write_bytes(forged(header, b""))
    content = path.read_bytes()
    try:
        value = fn.load(path)
    except fn.CheckpointError:
        return
    again = saved(path, value)
    assert again == content or (b"scalar" in content and fn.fingerprint(fn.load(path)) == fn.fingerprint(value))


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(said=JSON, name=st.sampled_from(["0.bias", "0.weight", "a", "__metadata__"]))
def test_random_entries_are_refused(said: object, name: str, path: Path) -> None:
    """A header may contain anything as the entry of an array."""
    header, data = taken(saved(path, NET))
    header[name] = said
    text = compact(header)
    refuse(path, raw_file(text + b" " * (-len(text) % 8), data))


# --------------------------------------------------------------------------------------- what a file may name


MADE: Final = list[str]()


@attrs.frozen
class Acting:
    """A record whose constructor acts: it counts. It is no layer, optimizer, schedule or key."""

    rate: object = None

    def __attrs_post_init__(self) -> None:
        MADE.append(type(self).__name__)


@attrs.frozen
class ActingSchedule(Acting):
    """A record that can be a schedule."""

    def __call__(self, step: int, /) -> float:
        """Return the rate at this step."""
        return falling(step)


def acting(first: object, second: object) -> float:
    """A function that acts, with the arguments of a loss."""
    raise AssertionError((first, second))


def falling(step: int) -> float:
    """A schedule that is a function."""
    return 1 / (step + 1)


for _thing in (Acting, ActingSchedule, acting, falling):
    fn.register_name(_thing, f"tests.{_thing.__name__}")

RECORD, SCHEDULE = (f'{{"record":["tests.{name}",{{"rate":null}}]}}' for name in ("Acting", "ActingSchedule"))
TANH: Final = '{"record":["funcnet.Tanh",{}]}'
OPTIMIZER: Final = f'{{"record":["funcnet.Momentum",{{{RATE},"momentum":{{"float":"0x1.ccccccccccccdp-1"}}}}]}}'
OUT_OF_PLACE: Final[dict[str, tuple[Edit, str]]] = {
    "a value": (meta(structure=RECORD), "the value: a tests.Acting cannot be in this place"),
    "a layer": (structure(TANH, RECORD), "params.2.net.1: a tests.Acting cannot be in this place"),
    "a layer that is a schedule": (structure(TANH, SCHEDULE), "params.2.net.1: a tests.ActingSchedule cannot be"),
    "a layer that is an optimizer": (structure(TANH, OPTIMIZER), "params.2.net.1: a funcnet.Momentum cannot be"),
    "a layer's key": (structure('"key":null', f'"key":{RECORD}'), "params.2.net.0.key: a tests.Acting cannot be"),
    "a layer's rate": (structure('"rate":{"float":"0x1.0000000000000p-2"}', f'"rate":{SCHEDULE}'), "cannot be in this"),
    "an array": (structure('{"array":["float32",[4,3]]}', RECORD), ".weight: a tests.Acting cannot be in this place"),
    "an optimizer": (structure(OPTIMIZER, RECORD), "optimizer: a tests.Acting cannot be in this place"),
    "a layer as the optimizer": (structure(OPTIMIZER, TANH), "optimizer: a funcnet.Tanh cannot be in this place"),
    "a learning rate": (structure(RATE, f'"learning_rate":{RECORD}'), "learning_rate: a tests.Acting cannot be"),
    "a learning rate that is a layer": (structure(RATE, f'"learning_rate":{TANH}'), "a funcnet.Tanh cannot be in this"),
    "a learning rate that is a loss": (
        structure(RATE, '"learning_rate":{"name":"funcnet.softmax_cross_entropy"}'),
        "optimizer.learning_rate: funcnet.softmax_cross_entropy cannot be in this place",
    ),
    "a learning rate that scales images": (
        structure(RATE, '"learning_rate":{"name":"funcnet.scale_images"}'),
        "funcnet.scale_images cannot be in this place",
    ),
    "a learning rate that acts": (structure(RATE, '"learning_rate":{"name":"tests.acting"}'), "tests.acting cannot be"),
    "a step": (structure('"step":0', f'"step":{RECORD}'), "step: a tests.Acting cannot be in this place"),
    "a moment": (structure('"moments":[', f'"moments":[{RECORD},'), "moments.0: a tests.Acting cannot be"),
}


@pytest.mark.parametrize("name", OUT_OF_PLACE)
def test_a_record_or_function_out_of_place_is_refused(name: str, path: Path) -> None:
    """No constructor of a registered class runs where the annotation of the field does not allow the class."""
    edit, fact = OUT_OF_PLACE[name]
    header, data = taken(saved(path))
    edit(header)
    MADE.clear()
    refuse(path, forged(header, data), fact)
    assert not MADE


def test_schedules_of_all_kinds_come_back(path: Path) -> None:
    """A learning rate may be any registered schedule, a user's record or a function."""
    for rate in (
        0.1,
        fn.constant(0.1),
        fn.join_schedules((fn.constant(0.1), falling), (2,)),
        ActingSchedule(),
        falling,
    ):
        state = fn.TrainState.create(NET, fn.Averaging(fn.SGD(rate)), key=KEY)
        loaded = fn.load(saved_at(path, state), like=state)
        assert loaded.optimizer == state.optimizer


def test_a_users_record_may_hold_every_registered_value(path: Path) -> None:
    """The annotation of a field of a user's record limits nothing, unless the field holds a network."""
    layer = Holder((Acting(), acting, KEY, fn.Adam(0.1), fn.ReLU, TANH))
    loaded = fn.load(saved_at(path, layer), like=layer)
    assert loaded.inside == layer.inside


# ------------------------------------------------------------------------------------------- only one error


def only_one_error(path: Path, content: bytes) -> None:
    """Check that a file is read, or refused by a CheckpointError that can be printed on one line."""
    path.write_bytes(content)
    for read in (fn.load, read_notes):
        try:
            read(path)
        except fn.CheckpointError as error:
            assert str(error).isprintable()  # noqa: PT017
            assert len(str(error)) < 1200  # noqa: PT017
            assert error.__cause__ is None  # noqa: PT017  # a traceback prints no other message
            assert error.__suppress_context__  # noqa: PT017


PLACES: Final[dict[str, Callable[[str], Edit]]] = {
    "whole": lambda node: meta(structure=node),
    "layer": lambda node: structure(TANH, node),
    "optimizer": lambda node: structure(OPTIMIZER, node),
    "rate": lambda node: structure(RATE, f'"learning_rate":{node}'),
    "key": lambda node: structure('"key":null', f'"key":{node}'),
}
CONTENTS: Final = (
    "null",
    "-1",
    '"\\u001b[31m\\ud800"',
    "[]",
    '[[1],"a"]',
    '{"float":"nan"}',
    '{"scalar":["bool","01"]}',
)


@pytest.mark.parametrize("place", PLACES)
def test_every_registered_record_in_a_forged_file(place: str, path: Path) -> None:
    """Each record is refused or read, wherever it is and whatever its fields hold."""
    content = saved(path)
    records = {kind: name for kind, name in NAMES_OF.items() if isinstance(kind, type) and attrs.has(kind)}
    for number, (kind, name) in enumerate(records.items()):
        for shift in (number, number + 3):
            fields = [a.name for a in attrs.fields(kind) if a.eq]
            said = ",".join(f'"{field}":{CONTENTS[(shift + i) % len(CONTENTS)]}' for i, field in enumerate(fields))
            header, data = taken(content)
            PLACES[place](f'{{"record":["{name}",{{{said}}}]}}')(header)
            only_one_error(path, forged(header, data))


def test_random_changes_of_a_forged_file(path: Path) -> None:
    """Hundreds of files with one changed, removed or doubled part, and a correct SHA-256."""
    content = saved(path, attrs.evolve(STATE, optimizer=fn.AdamW(0.1), moments=fn.Moments.of(mean=NET, square=NET)))
    draw = random.Random(0)  # noqa: S311  # examples
    for _ in range(200):
        header, data = taken(content)
        name = draw.choice(["structure", "structure", "environment"])
        text = header["__metadata__"][name]
        start = draw.randrange(len(text))
        end = start + draw.randrange(12)
        new = draw.choice(
            ["", text[start:end] * 2, *CONTENTS, "funcnet.Fit", "funcnet.EpochLog", "\x1b", "\n", "9" * 30]
        )
        header["__metadata__"][name] = text[:start] + new + text[end:]
        only_one_error(path, forged(header, data))


def test_every_depth_of_nesting_is_refused(path: Path) -> None:
    """At one depth, the parser still succeeds, and the next recursive function does not."""
    text = compact(taken(saved(path, NET))[0])
    for depth in (50, *range(880, 1010), 5000):
        refuse(path, raw_file(text[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}"))


def test_whatever_a_users_optimizer_raises(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimizer's own functions run with the file's parameters, and their errors become the file's."""
    saved(path)

    def fail(*_: object) -> None:
        raise RuntimeError(RED)

    monkeypatch.setattr("funcnet.Momentum.init", fail)
    refuse_by(path, path.read_bytes(), r"it is invalid (RuntimeError: \x1b[31m\r\n\ud800\u202e)")


RED: Final = "\x1b[31m\r\n\ud800\u202e"
PRINTED: Final[dict[str, Edit]] = {
    "a field": structure('"rate":', f"{json.dumps(RED)}:"),
    "a record": structure('"funcnet.Tanh"', json.dumps(RED)),
    "a string": structure(RATE, f'"learning_rate":{json.dumps(RED)}'),
    "a form": structure('{"float":', f"{{{json.dumps(RED)}:"),
    "a long string": structure(RATE, f'"learning_rate":"{"z" * 469_000}"'),
    "a long name": structure("funcnet.Tanh", "z" * 469_000),
    "a long int": structure('"seed":3', f'"seed":{"9" * 1200}'),
    "metadata": meta(**{RED: ""}),
    "a version": meta(funcnet_format=RED * 1000),
    "an array": lambda header: header.update({RED: header["params.3.0.weight"]}),
    "a dtype": lambda header: header["params.3.0.weight"].update(dtype=RED * 1000),
}


@pytest.mark.parametrize("name", PRINTED)
def test_a_message_shows_a_files_text_safely(name: str, path: Path) -> None:
    """Control characters, lone surrogates and long text are escaped and cut."""
    header, data = taken(saved(path))
    PRINTED[name](header)
    only_one_error(path, forged(header, data))
    with pytest.raises(fn.CheckpointError) as caught:
        fn.load(path)
    assert len(str(caught.value).removeprefix(str(path))) < 500


# ---------------------------------------------------------------------------------------------------- notes

NOTES: Final[dict[str, Any]] = {
    "classes": ["cat", "dog\n\ud800"],
    "scale": 1 / 255,
    "sizes": [1, -(2**80), True, None, -0.0, 5e-324],
    "more": {"mean": [[0.5], []], "": {}},
}


def test_notes_travel_with_a_value(path: Path) -> None:
    """They come back as they were, do not change the value, and are covered by the hash."""
    fn.save(path, STATE, notes=NOTES)
    assert repr(read_notes(path)) == repr(NOTES)
    assert fn.fingerprint(fn.load(path)) == fn.fingerprint(STATE)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"cat", b"rat"))
    with pytest.raises(fn.CheckpointError, match="does not match its SHA-256"):
        read_notes(path)
    numbers: dict[str, Any] = {"rate": np.float32(0.5), "count": np.int64(3), "pair": (1, "a")}
    fn.save(path, NET, notes=numbers)
    assert repr(read_notes(path)) == "{'rate': 0.5, 'count': 3, 'pair': [1, 'a']}"


def test_a_file_without_notes_is_what_it_was(path: Path) -> None:
    """Its format is still 1, which older versions read; a file with notes has format 2, which they refuse."""
    plain = saved(path)
    assert read_notes(path) == {}
    fn.save(path, STATE, notes={})
    assert path.read_bytes() == plain
    assert taken(plain)[0]["__metadata__"]["funcnet_format"] == "1"
    fn.save(path, STATE, notes=NOTES)
    metadata = taken(path.read_bytes())[0]["__metadata__"]
    assert (metadata["funcnet_format"], json.loads(metadata["notes"])) == ("2", NOTES)


DEEP_NOTES: Final = functools.reduce(lambda inner, _: [inner], range(3000), list[Any]())
NOT_NOTES: Final[dict[str, tuple[object, str]]] = {
    "a string": ("cat", "notes must be a dictionary, got 'cat'"),
    "an int as a name": ({1: "a"}, "the names in notes must be strings, got 1"),
    "an inner name": ({"a": {None: 1}}, "the names in notes['a'] must be strings, got None"),
    "an array": ({"a": np.ones(2)}, "list or a dictionary, got array([1., 1.]); use .tolist()"),
    "an array in a list": ({"a": [0, np.ones(2)]}, "notes['a'][1] must be a string, a finite number, a bool, None, a"),
    "nan": ({"a": math.nan}, "None, a list or a dictionary, got nan"),
    "a huge int": ({"a": 2**5000}, "notes['a'] must be a string, a finite number"),
    "a set": ({"a": {1}}, "None, a list or a dictionary, got {1}"),
    "too much": ({"a": "é" * 11_000}, "notes must take at most 65536 bytes of JSON, got 66008; keep the rest in"),
    "too deep": ({"a": DEEP_NOTES}, "notes must be at most 20 levels deep, got more"),
}


@pytest.mark.parametrize("name", NOT_NOTES)
def test_what_is_no_note_is_refused(name: str, path: Path) -> None:
    """The message has the place, and nothing is written."""
    notes, fact = NOT_NOTES[name]
    save: Callable[..., None] = fn.save
    with pytest.raises(fn.ConfigError, match=f"^save: .*{re.escape(fact)}"):
        save(path, NET, notes=notes)
    assert not path.exists()


FORGED_NOTES: Final = ("", "{}", "[1]", '{"a": 1}', '{"a":1e400}', '{"a":1E5}', '{"a":NaN}', '{"a":1,"a":1}', "7")


@pytest.mark.parametrize("notes", FORGED_NOTES)
def test_forged_notes_are_refused(notes: str, path: Path) -> None:
    """Only the text that save writes is read, by load and by read_notes."""
    fn.save(path, NET, notes=NOTES)
    header, data = taken(path.read_bytes())
    meta(notes=notes)(header)
    refuse(path, forged(header, data))
    with pytest.raises(fn.CheckpointError, match=f"^{path}: "):
        read_notes(path)


# --------------------------------------------------------------------------------------- files and systems


def test_the_systems_errors_pass(path: Path, tmp_path: Path) -> None:
    """Missing files and directories raise the system's errors; funcnet refuses a path that cannot name a file."""
    anything: Any = 3
    with pytest.raises(fn.ConfigError, match=r"^save: path must be a string or a Path that can name a file, got 3$"):
        fn.save(anything, NET)
    with pytest.raises(fn.ConfigError, match=r"^load: path must be a string or a Path that can name a file, got 3$"):
        fn.load(anything)
    with pytest.raises(FileNotFoundError):
        fn.load(path)
    with pytest.raises(IsADirectoryError):
        fn.load(tmp_path)
    with pytest.raises(IsADirectoryError):
        fn.save(tmp_path, NET)
    with pytest.raises(FileNotFoundError):
        fn.save(tmp_path / "no" / "directory", NET)
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_a_pipe_is_not_replaced(path: Path) -> None:
    """Anything that is not a regular file, such as a pipe or a device, is left unchanged."""
    os.mkfifo(path)
    with pytest.raises(fn.CheckpointError, match=f"^save: {path} is not a regular file$"):
        fn.save(path, NET)
    assert path.is_fifo()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
@pytest.mark.parametrize("read", [fn.load, read_notes])
def test_only_regular_files_are_read(read: Callable[[Path], object], path: Path) -> None:
    """A named pipe without a writer and a device are refused at once."""
    os.mkfifo(path)
    for irregular in (path, Path("/dev/zero")):
        with pytest.raises(fn.CheckpointError, match=f"^{irregular} is not a regular file$"):
            read(irregular)


@needs_large_files
def test_a_sparse_file_takes_no_memory(path: Path) -> None:
    """A size that takes no disk is compared with the machine's memory, and its hash is checked before it is read."""
    for size, fact in ((2**26, "does not match its SHA-256"), (2**42, "more than this machine's memory")):
        header, _ = taken(saved(path, (Holder(np.ones(1, np.float32)),)))
        header["0.inside"].update(shape=[size // 4], data_offsets=[0, size])
        structure("[1]", f"[{size // 4}]")(header)
        content = forged(header, b"")
        path.write_bytes(content)
        os.truncate(path, len(content) + size)
        tracemalloc.start()
        try:
            with pytest.raises(fn.CheckpointError, match=fact):
                fn.load(path)
            assert tracemalloc.get_traced_memory()[1] < 2**23
        finally:
            tracemalloc.stop()


class Interrupted(BaseException):
    """An exception that no error handler catches."""


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space left"), Interrupted(), MemoryError()], ids=repr)
@pytest.mark.parametrize("place", ["os.fsync", "pathlib.Path.replace", "os.fchmod", "os.fdopen"])
def test_an_error_leaves_the_old_file(
    place: str, error: BaseException, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No temporary file remains, and the error passes unchanged."""
    old = saved(path)

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(place, fail)
        with pytest.raises(type(error)) as caught:
            fn.save(path, NET)
    assert caught.value is error
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


def test_a_file_limit_is_a_systems_error(path: Path) -> None:
    """The system refuses in the middle of a write; the old file remains, and no other file."""
    pytest.importorskip("resource")
    old = saved(path, NET)
    program = (
        "import resource, sys, funcnet as fn\n"
        "state = fn.TrainState.create(fn.mlp(fn.Key(0), (100, 100)), fn.Momentum(0.1), key=fn.Key(0))\n"
        "fn.environment()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try: fn.save(sys.argv[1], state)\n"
        "except OSError as error: print(error.errno)\n"
    )
    result = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert result.stdout == f"{errno.EFBIG}\n"
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


def test_a_temporary_file_that_is_gone_hides_no_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is the one that identifies the temporary file of a killed writer."""
    error, names = OSError(errno.EIO, "no input, no output"), list[str]()

    def lose(self: Path, _: Path) -> None:
        names.append(self.name)
        self.unlink()
        raise error

    monkeypatch.setattr("pathlib.Path.replace", lose)
    with pytest.raises(OSError, match="no input") as caught:
        fn.save(path, NET)
    assert caught.value is error
    assert re.fullmatch(r"\.funcnet-[0-9a-f]{16}\.tmp", names[0])


@pytest.mark.skipif(not hasattr(os, "O_DIRECTORY"), reason="a directory cannot be opened here")
def test_the_file_and_its_directory_are_synchronized(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole file comes first, then the directory: the new name and all bytes are on disk when save returns."""
    sizes = list[int | None]()

    def note(descriptor: int) -> None:
        about = os.fstat(descriptor)
        sizes.append(None if stat.S_ISDIR(about.st_mode) else about.st_size)

    monkeypatch.setattr("os.fsync", note)
    fn.save(path, NET)
    assert sizes == [path.stat().st_size, None]


@pytest.mark.parametrize(("reason", "refused"), [(errno.EINVAL, False), (errno.EBADF, False), (errno.EIO, True)])
def test_a_directory_that_cannot_be_synced(
    reason: int,
    refused: bool,  # noqa: FBT001
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A system that can only sync files, such as WebAssembly, saves as well; an error of the disk is raised."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(reason, os.strerror(reason))
        real(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(OSError, match=os.strerror(reason)) if refused else nullcontext():
        fn.save(path, NET)
    assert fn.equal(fn.load(path, like=NET), NET)


@needs_users
def test_permissions(path: Path) -> None:
    """A new file has the permissions that a plain open gives it; a replaced file keeps its own."""
    before = os.umask(0o026)
    try:
        fn.save(path, NET)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        for mode in (0o600, 0o666, 0o444 if IS_ROOT else 0o644):
            path.chmod(mode)
            fn.save(path, NET)
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


@pytest.mark.skipif(not hasattr(os, "fchmod"), reason="permissions are POSIX's")
def test_a_private_file_stays_private_while_it_is_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary file is private from the start, and its permissions are set by its descriptor, not by its name."""
    fn.save(path, NET)
    path.chmod(0o600)
    begun, written = list[int](), list[int]()
    set_permissions, fsync = os.fchmod, os.fsync

    def note(descriptor: int, mode: int) -> None:
        begun.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        set_permissions(descriptor, mode)

    def note_written(descriptor: int) -> None:
        written.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr("os.fchmod", note)
    monkeypatch.setattr("os.fsync", note_written)
    monkeypatch.delattr("pathlib.Path.chmod")
    before = os.umask(0)
    try:
        fn.save(path, STATE)
    finally:
        os.umask(before)
    assert (begun, written[0], stat.S_IMODE(path.stat().st_mode)) == ([0o600], 0o600, 0o600)


@needs_permissions
def test_a_protected_file_is_not_replaced(path: Path) -> None:
    """Where a plain open would be refused, save is refused."""
    old = saved(path)
    path.chmod(0o444)
    with pytest.raises(PermissionError):
        fn.save(path, NET)
    assert path.read_bytes() == old


def test_a_link_is_followed(path: Path, tmp_path: Path) -> None:
    """A plain open follows the link, too: the link remains, and its target is replaced."""
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "target")
    fn.save(link, NET)
    fn.save(link, STATE)
    assert link.is_symlink()
    assert fn.fingerprint(fn.load(tmp_path / "there" / "target")) == fn.fingerprint(STATE)
    assert len(list((tmp_path / "there").iterdir())) == 1
    fn.save(path, NET)


@pytest.mark.parametrize(
    ("mode", "owner", "safe"), [(0o1777, 1, False), (0o775, 1, False), (0o755, 1, True), (0o1777, 0, True)]
)
@needs_root
def test_a_link_of_another_user_is_not_followed(mode: int, owner: int, safe: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """A link that another user could have made is refused, and its target is unchanged; so is a link to this link."""
    shared, target = tmp_path / "shared", tmp_path / "target"
    shared.mkdir()
    shared.chmod(mode)
    for name, to in (("link", target), ("first", shared / "link")):
        (shared / name).symlink_to(to)
    os.chown(shared / "link", owner, owner, follow_symlinks=False)
    fn.save(target, STATE)
    for name in ("link", "first"):
        if safe:
            fn.save(shared / name, NET)
            assert fn.equal(fn.load(target, like=NET), NET)
        else:
            with pytest.raises(fn.CheckpointError, match=f"^save: {shared}/link is a link .* itself, {target}$"):
                fn.save(shared / name, NET)
            assert fn.load(target, like=STATE).step == 0


def test_a_circle_of_links_is_a_systems_error(path: Path) -> None:
    """A plain open fails with the same error."""
    path.symlink_to(path)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        fn.save(path, NET)


def test_a_directory_that_cannot_be_listed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is saved where the caller may create files but not list them."""
    system_open = os.open

    def no_list(*_: object) -> None:
        raise PermissionError

    def no_directory(name: Any, flags: int, *rest: int) -> int:
        if flags & getattr(os, "O_DIRECTORY", 0):
            raise PermissionError
        return system_open(name, flags, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("os.scandir", no_list)
        patch.setattr("os.open", no_directory)
        fn.save(path, NET)
    assert fn.equal(fn.load(path, like=NET), NET)


@needs_locks
def test_a_living_writer_keeps_its_temporary_file(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that takes more than an hour finishes, although another one removes stale files beside it."""
    replace = Path.replace

    def slowly(self: Path, target: Path) -> Path:
        monkeypatch.setattr("pathlib.Path.replace", replace)
        os.utime(self, (0, 0))
        fn.save(tmp_path / "beside", STATE)
        return self.replace(target)

    monkeypatch.setattr("pathlib.Path.replace", slowly)
    fn.save(path, NET)
    assert {each.name for each in tmp_path.iterdir()} == {path.name, "beside"}


def test_what_killed_writers_left_is_removed(path: Path, tmp_path: Path) -> None:
    """Temporary files are removed after an hour; fresh ones may be in use, and other names belong to others."""
    names = (".funcnet-0123456789abcdef.tmp", ".funcnet-fedcba9876543210.tmp", ".funcnet-mine.tmp", "x.tmp")
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    for name in (names[0], *names[2:]):
        os.utime(tmp_path / name, (0, 0))
    fn.save(path, NET)
    assert {each.name for each in tmp_path.iterdir()} == {*names[1:], path.name}


def test_writers_and_readers_at_once(path: Path) -> None:
    """Four threads save to one path, and every load gives one of the saved values."""
    values = [fn.mlp(fn.Key(seed), (6, 5)) for seed in range(4)]
    known = {fn.fingerprint(value) for value in values}
    fn.save(path, values[0])

    def write(value: fn.Network) -> None:
        for _ in range(10):
            fn.save(path, value)

    writers = [Thread(target=write, args=(value,)) for value in values]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert fn.fingerprint(fn.load(path)) in known
    assert list(path.parent.iterdir()) == [path]


KILLER = """
import os, random, signal, sys, time
import funcnet as fn

path, count = sys.argv[1], int(sys.argv[2])
old, new = (fn.mlp(fn.Key(seed), (300, 300)) for seed in (0, 1))
known = {fn.fingerprint(old): "old", fn.fingerprint(new): "new"}
fn.save(path, old)
for _ in range(count):
    child = os.fork()
    if not child:
        while True:
            fn.save(path, new)
            fn.save(path, old)
    time.sleep(random.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(known[fn.fingerprint(fn.load(path))])
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_a_killed_writer_leaves_the_old_file_or_the_new(path: Path) -> None:
    """After SIGKILL at random moments, the path always loads as one of the two; some writers died inside a write."""
    command = [sys.executable, "-c", KILLER, str(path), str(KILLS)]
    settings = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=settings)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) == KILLS
    assert len(list(path.parent.glob(".funcnet-*.tmp"))) > KILLS // 10


# -------------------------------------------------------------------------------------------- resuming

STEPS = 30
STEP = fn.train_step(fn.softmax_cross_entropy)


def batches() -> Minibatches[Any]:
    """Return thirty batches of eight rows each."""
    rows = np.arange(8 * STEPS) % len(X)
    return fn.minibatches(X[rows], LABELS[rows], 8, key=KEY.child("shuffle"))


def go_on(state: Any, start: int) -> str:
    """Return the fingerprint at the end of the run, resumed from the given step."""
    return fn.fingerprint(fn.train_epoch(STEP, state, batches()[start:])[0])


@pytest.mark.slow
def test_resuming_at_every_step_is_one_run(path: Path) -> None:
    """A run with momentum and dropout, saved and loaded after each of thirty steps, has one fingerprint."""
    whole = go_on(STATE, 0)
    state = STATE
    for start in range(STEPS + 1):
        fn.save(path, state)
        assert go_on(fn.load(path, like=STATE), start) == whole
        state = fn.train_epoch(STEP, state, batches()[start : start + 1])[0]
    assert fn.fingerprint(STATE) != whole


@pytest.mark.slow
@pytest.mark.parametrize("start", [0, 11, STEPS])
def test_resuming_in_another_process_is_the_same_run(start: int, path: Path) -> None:
    """The new process needs only the file."""
    fn.save(path, fn.train_epoch(STEP, STATE, batches()[:start])[0])
    program = f"import sys; sys.path[:0] = {SEARCHED!r}.splitlines(); import funcnet as fn\n"
    program += f"import test_checkpoints as t; print(t.go_on(fn.load({str(path)!r}), {start}))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == go_on(STATE, 0)
