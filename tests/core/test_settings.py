"""Settings, seeds and counts: a NumPy number is the Python number that it denotes, in every record and function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, cast

import attrs
import numpy as np
import pytest
from attrs import evolve, frozen
from test_copies import BATCHES, KEY, LABELS, NET, STATE, STEP, VALUES, X, pickled, same

import funcnet as fn
from funcnet.core.checks import to_python
from funcnet.core.records import Record, Settings, fields_of
from funcnet.loops.shards import sharded_value_and_grad
from funcnet.metrics import confusion_matrix, precision, recall, top_k_accuracy
from funcnet.random.draws import normal, permutation, uniform, words
from funcnet.random.initializers import Constant, fans, glorot_normal, orthogonal, zeros

INTS: Final = (np.int8, np.uint8, np.int16, np.int64, np.uint64)
FLOATS: Final[tuple[Callable[[float], Any], ...]] = (np.float16, np.float32, np.float64, np.longdouble, np.array)


def numpy_forms(value: object) -> Iterator[Any]:
    """Yield a Python setting as NumPy numbers of every kind that can hold it; nothing for other values."""
    if type(value) is bool:
        yield from (np.bool_(value), np.array(value))
    elif type(value) is int:
        yield from (kind(value) for kind in INTS if value <= np.iinfo(kind).max)
        yield np.array(value)
    elif type(value) is float:
        yield from (made for kind in FLOATS if bool(made := kind(value)) == bool(value))  # 1e-10 is 0 in float16
    elif type(value) is tuple and value:
        forms = [list(numpy_forms(part)) for part in cast("tuple[object, ...]", value)]
        yield from zip(*forms, strict=False)


def python_form(value: Any) -> Any:
    """Return the Python number by another way than the library's: by the number's exact fraction."""
    if isinstance(value, tuple):
        return tuple(python_form(part) for part in cast("tuple[object, ...]", value))
    if value.dtype.kind == "f":
        return float(Fraction(*value[()].as_integer_ratio()))
    return bool(value) if value.dtype.kind == "b" else int(value)


def records_in(value: object) -> Iterator[Any]:
    """Yield all records with settings in a value."""
    if isinstance(value, tuple):
        for part in cast("tuple[object, ...]", value):
            yield from records_in(part)
    elif attrs.has(kind := cast("type[Any]", type(value))):
        if isinstance(value, Settings):
            yield value
        for field in attrs.fields(kind):
            yield from records_in(getattr(value, field.name))


def settings_of(record: Any) -> list[str]:
    """Return the names of a record's settings that are numbers or tuples of numbers."""
    if isinstance(record, Record):
        names = fields_of(type(record)).structure
    else:
        names = tuple(attrs.asdict(record, recurse=False))
    return [name for name in names if next(numpy_forms(getattr(record, name)), None) is not None]


TABLE: Final = {
    f"{type(r).__name__}.{name}": (r, name)
    for make in VALUES.values()
    for r in records_in(make())
    for name in settings_of(r)
}


@pytest.mark.parametrize("place", TABLE)
def test_a_record_keeps_the_python_number(place: str) -> None:
    """Type, repr, equality, hash, pickle and fingerprint are those of the record with the Python number."""
    record, name = TABLE[place]
    for given in numpy_forms(getattr(record, name)):
        made, wanted = evolve(record, **{name: given}), evolve(record, **{name: python_form(given)})
        assert same(made, wanted), given
        assert repr(made) == repr(wanted)
        assert same(pickled(made), wanted)
        assert fn.fingerprint(made) == fn.fingerprint(wanted)
        if wanted == evolve(wanted):  # it compares by value
            assert made == wanted
            assert hash(made) == hash(wanted)


def test_the_table_of_settings() -> None:
    """The table has the settings of layers, losses, optimizers, schedules, keys, steps and augmentations."""
    places = {"Dropout.rate", "Conv2D.stride", "Reshape.shape", "BatchNorm.training", "Repeat.times", "Adam.betas"}
    places |= {"Huber.delta", "SoftmaxCrossEntropy.class_weight", "JoinedSchedules.boundaries", "Key.seed", "Key.path"}
    assert places | {"SGDStep.shard_size", "RandomShift.pixels", "Averaging.decay"} <= TABLE.keys()


RATE = fn.step_decay(0.5, step_size=2)
PIXELS = np.zeros((1, 6, 6, 1), np.float32)
FUNCTIONS: Final[dict[str, tuple[Callable[[Any], object], object]]] = {
    "Key": (fn.Key, 2),
    "Key.child": (lambda part: KEY.child("a", part), 2),
    "words": (lambda count: words(KEY, count), 3),
    "uniform": (lambda shape: uniform(KEY, shape), (2, 100)),
    "normal": (lambda shape: normal(KEY, shape), (2, 100)),
    "permutation": (lambda count: permutation(KEY, count), 3),
    "fans": (fans, (5, 5, 100, 100)),
    "glorot_normal": (lambda shape: glorot_normal(KEY, shape, np.dtype(np.float32)), (100, 100)),
    "orthogonal": (lambda shape: orthogonal(KEY, shape, np.dtype(np.float32)), (2, 3)),
    "zeros": (lambda shape: zeros(KEY, shape, np.dtype(np.float32)), (100, 100)),
    "Constant": (lambda value: Constant(value)(KEY, (2,), np.dtype(np.float32)), 0.5),
    "RandomNormal": (lambda value: fn.initializers.random_normal(value)(KEY, (2,), np.dtype(np.float32)), 0.5),
    "dense in_size": (lambda size: fn.dense(KEY, size, 100), 100),
    "dense out_size": (lambda size: fn.dense(KEY, 2, size), 3),
    "conv2d channels": (lambda size: fn.conv2d(KEY, size, size, 2), 100),
    "conv2d kernel_size": (lambda size: fn.conv2d(KEY, 1, 1, size), 2),
    "conv2d kernel sizes": (lambda size: fn.conv2d(KEY, 1, 1, size), (2, 3)),
    "conv2d stride": (lambda size: fn.forward(fn.conv2d(KEY, 1, 1, 3, stride=size), PIXELS), 2),
    "conv2d padding": (lambda size: fn.conv2d(KEY, 1, 1, 3, padding=size), ((1, 2), (3, 4))),
    "conv2d dilation": (lambda size: fn.conv2d(KEY, 1, 1, 3, dilation=size), (1, 2)),
    "layer_norm": (fn.layer_norm, 3),
    "layer_norm epsilon": (lambda epsilon: fn.layer_norm(3, epsilon=epsilon), 0.5),
    "rms_norm": (fn.rms_norm, 3),
    "prelu": (fn.prelu, 3),
    "prelu slope": (lambda slope: fn.prelu(3, slope=slope), 0.5),
    "batch_norm": (fn.batch_norm, 3),
    "mlp": (lambda sizes: fn.mlp(KEY, sizes), (2, 100, 3)),
    "output_shape": (lambda shape: fn.output_shape(NET, shape), (2,)),
    "summary": (lambda shape: fn.summary(NET, shape), (2,)),
    "a shape in one number": (lambda size: fn.output_shape((fn.Reshape((size,)), fn.ReLU()), (size,)), 2),
    "sgd_update": (lambda rate: fn.sgd_update(NET, NET, learning_rate=rate), 0.5),
    "sgd_update, 1": (lambda rate: fn.sgd_update(NET, NET, learning_rate=rate), 1),
    "sgd_step": (lambda rate: fn.sgd_step(fn.softmax_cross_entropy, learning_rate=rate), 0.5),
    "shard_size": (lambda size: fn.train_step(fn.softmax_cross_entropy, shard_size=size), 3),
    "shards": (lambda size: sharded_value_and_grad(NET, X, LABELS, fn.softmax_cross_entropy, shard_size=size), 3),
    "clip_by_value": (lambda limit: fn.clip_by_value(NET, limit), 0.25),
    "clip_by_global_norm": (lambda limit: fn.clip_by_global_norm(NET, limit), 0.25),
    "learning_rates": (lambda steps: fn.learning_rates(fn.SGD(RATE), steps), 3),
    "rate": (fn.Adagrad(RATE, lr_decay=0.5).rate, 3),
    "constant": (fn.constant, 0.5),
    "cosine_decay": (lambda steps: fn.cosine_decay(0.5, steps=steps), 3),
    "boundaries": (lambda step: fn.join_schedules([fn.constant(0.5), RATE], [step]), 3),
    **{
        f"the step of {schedule!r}": (schedule, 3)
        for schedule in (
            fn.constant(0.5),
            RATE,
            fn.exponential_decay(0.5, gamma=0.5, steps=2),
            fn.cosine_decay(0.5, steps=9),
            fn.linear_warmup(0.5, steps=9),
            fn.cosine_restarts(0.5, period=2, multiplier=2),
            fn.one_cycle(0.5, steps=9),
            fn.polynomial_decay(0.5, steps=9),
            fn.piecewise_constant([0.5, 0.25], [2]),
            fn.join_schedules([fn.constant(0.5), RATE], [2]),
        )
    },
    "minibatches": (lambda size: fn.minibatches(X, LABELS, size, key=KEY), 2),
    "split, a count": (lambda count: fn.split(X, LABELS, count, key=KEY), 2),
    "split, a fraction": (lambda share: fn.split(X, LABELS, share, key=KEY), 0.5),
    "one_hot": (lambda classes: fn.one_hot(LABELS, classes), 100),
    "confusion_matrix": (lambda classes: confusion_matrix(LABELS, LABELS, classes=classes), 3),
    "precision": (lambda classes: precision(LABELS, LABELS, average="macro", classes=classes), 3),
    "zero_division": (lambda value: recall(LABELS, LABELS, average="macro", classes=3, zero_division=value), 1.0),
    "top_k_accuracy": (lambda k: top_k_accuracy(X, LABELS, k=k), 1),
    "gradient_statistics": (
        lambda rate: fn.gradient_statistics(NET, X, LABELS, fn.softmax_cross_entropy, learning_rate=rate),
        0.5,
    ),
    "numerical_gradient": (lambda h: fn.numerical_gradient(lambda x: float(x.sum()), X, h), 0.5),
    "train": (lambda epoch: next(iter(fn.train(STEP, STATE, lambda _: BATCHES, epochs=[epoch])))[0], 2),
    "fit epochs": (
        lambda epochs: list(fn.fit(STEP, fn.Fit.create(STATE), lambda _: BATCHES, lambda _: 0.5, epochs=epochs)),
        2,
    ),
    "fit patience": (
        lambda epochs: list(
            fn.fit(STEP, fn.Fit.create(STATE), lambda _: BATCHES, lambda _: 0.5, epochs=4, patience=epochs)
        ),
        2,
    ),
    "fit min_delta": (
        lambda delta: list(
            fn.fit(STEP, fn.Fit.create(STATE), lambda _: BATCHES, lambda _: 0.5, epochs=2, min_delta=delta)
        ),
        0.5,
    ),
    "validate": (
        lambda value: list(fn.fit(STEP, fn.Fit.create(STATE), lambda _: BATCHES, lambda _: value, epochs=1)),
        0.5,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_takes_numpy_numbers(name: str) -> None:
    """The result has the bits and the types of the result for the Python number."""
    function, value = FUNCTIONS[name]
    wanted = function(value)
    for given in numpy_forms(value):
        made = function(given)
        assert same(made, wanted), given
        assert repr(made) == repr(wanted)


def test_the_epochs_of_an_audited_run(tmp_path: Path) -> None:
    """Epoch numbers and the distance of checkpoints from NumPy give the same rows and files."""
    rows: list[object] = []
    kinds: tuple[tuple[str, Any], ...] = (("one", int), ("two", np.int64))
    for folder, number in kinds:
        epochs: Any = map(number, range(3))
        list(
            fn.audited_train(
                tmp_path / folder, STEP, STATE, lambda _: BATCHES, epochs=epochs, every=cast("int", number(2))
            )
        )
        files = sorted(path.name for path in (tmp_path / folder).iterdir())
        rows.append((fn.load_run(tmp_path / folder).rows, files))
    assert rows[0] == rows[1]


@frozen(eq=False)
class Scaled(fn.Layer):
    """A layer of a user, with a setting."""

    factor: float


def test_a_layer_of_your_own() -> None:
    """The settings of a user's record are converted, so that a float32 batch stays float32."""
    layer = Scaled(np.float64(0.1))
    assert repr(layer) == "Scaled(factor=0.1)"
    assert (X * layer.factor).dtype == np.float32


@pytest.mark.parametrize(
    "value", [np.array([0.5]), np.array(["a"]), np.complex128(1j), np.datetime64("2000"), [0.5], None]
)
def test_other_values_are_unchanged(value: object) -> None:
    """Only numbers, flags and text are converted; a tuple without them is the same object."""
    assert to_python(value) is value
    pair = (value, value)
    assert to_python(pair) is pair


def test_a_file_with_a_numpy_setting(tmp_path: Path) -> None:
    """A file of an earlier version, which kept the NumPy number, can be read; the setting is converted."""
    rule: Any = fn.SGD(0.1)
    object.__setattr__(rule, "learning_rate", np.float32(0.1))
    fn.save(tmp_path / "old", fn.TrainState.create(NET, rule, key=KEY))
    assert b"scalar" in (tmp_path / "old").read_bytes()
    state: Any = fn.load(tmp_path / "old")
    assert state.optimizer == fn.SGD(float(np.float32(0.1)))
