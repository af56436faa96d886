"""Pickling and deep-copying: every public value comes back as the same value."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import attrs
import numpy as np
import pytest
from networks import CASES

import funcnet as fn
from funcnet.core.arrays import AnyArray
from funcnet.core.trees import leaves, same_bits
from funcnet.data.batches import Minibatches
from funcnet.optimizers.scaling import ScaledSchedule
from funcnet.runs.selftest import Level, SelfTest
from funcnet.testing.gradients import GradientReport

KEY: Final = fn.Key(5).child("copies", 3)
NET: Final = fn.mlp(KEY, (2, 3, 2))
X: Final = np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2)
LABELS: Final = np.arange(6) % 2
BATCHES: Final = fn.minibatches(X, LABELS, 3, key=KEY)
STEP: Final = fn.train_step(fn.softmax_cross_entropy)
STATE: Final = fn.TrainState.create((fn.Dropout(0.5), *NET), fn.Momentum(learning_rate=0.1), key=KEY)


def after(*, epochs: int) -> Any:
    """Train for the given number of epochs, and return the state and the log."""
    return list(fn.train(STEP, STATE, lambda _: BATCHES, epochs=range(epochs)))[-1]


def a_fit() -> object:
    """Make the result of fitting with validation."""
    start = fn.Fit.create(STATE)
    return list(fn.fit(STEP, start, lambda _: BATCHES, lambda state: float(state.step), epochs=2))[-1]


def a_run(folder: Path, batches: Minibatches[Any] = BATCHES) -> fn.Run:
    """Make an audited run."""
    list(fn.audited_train(folder, STEP, STATE, lambda _: batches, epochs=range(2)))
    return fn.load_run(folder)


def a_divergence(folder: Path) -> object:
    """Make the divergence of two runs with different labels."""
    other = fn.minibatches(X, 1 - LABELS, 3, key=KEY)
    runs = a_run(folder / "one"), a_run(folder / "two", other)
    return fn.first_divergence(*runs, step=STEP, data=(lambda _: BATCHES, lambda _: other))


VALUES: dict[str, Callable[[], object]] = {
    **{case.name: case.layer for case in CASES},
    "a network": lambda: (NET, (fn.ReLU(), ()), fn.Residual(NET)),
    "an empty network": lambda: (),
    "a transformer block": lambda: fn.transformer_block(KEY, 4, 2, dropout=0.5),
    "ReduceOnPlateau": lambda: fn.ReduceOnPlateau(factor=0.5, patience=3, lowest=0.01),
    "a reduced Fit": lambda: attrs.evolve(cast("fn.Fit[Any]", a_fit()), multiplier=0.5, multipliers=(1.0, 0.5)),
    "ScaledSchedule": lambda: ScaledSchedule(fn.step_decay(0.1, step_size=2), factor=0.5),
    "a gradient": lambda: fn.value_and_grad(NET, X, LABELS, fn.softmax_cross_entropy),
    "signed zeros and not numbers": lambda: fn.RMSNorm(np.array([0.0, -0.0, np.nan, np.inf, 5e-324])),
    "Key": lambda: KEY,
    "SGD": lambda: fn.SGD(learning_rate=0.1),
    "Momentum": lambda: fn.Momentum(learning_rate=0.1, momentum=0.8),
    "Nesterov": lambda: fn.Nesterov(learning_rate=0.1, momentum=0.8),
    "Adagrad": lambda: fn.Adagrad(learning_rate=0.1, lr_decay=0.5),
    "RMSprop": lambda: fn.RMSprop(learning_rate=0.1, momentum=0.5, centered=True),
    "Adam": lambda: fn.Adam(learning_rate=0.1, betas=(0.8, 0.9)),
    "AdamW": lambda: fn.AdamW(learning_rate=fn.cosine_decay(0.1, steps=10), weight_decay=0.5),
    "Adam with all": lambda: fn.Adam(learning_rate=0.1, amsgrad=True, eps_hat=True),
    "NAdam": lambda: fn.NAdam(learning_rate=0.1, momentum_decay=0.5),
    "Lion": lambda: fn.Lion(learning_rate=0.1, betas=(0.8, 0.9)),
    "ClipByValue": lambda: fn.ClipByValue(fn.SGD(0.1), limit=2.0),
    "ClipByGlobalNorm": lambda: fn.ClipByGlobalNorm(fn.SGD(0.1), max_norm=2.0),
    "WeightDecay": lambda: fn.WeightDecay(fn.SGD(0.1), weight_decay=0.5),
    "coupled WeightDecay": lambda: fn.WeightDecay(fn.SGD(0.1), weight_decay=0.5, coupled=True),
    "Accumulation": lambda: fn.Accumulation(fn.SGD(0.1), steps=3),
    "Averaging": lambda: fn.Averaging(fn.SGD(0.1), decay=0.5),
    "Moments": lambda: fn.Adam(learning_rate=0.1).init(NET),
    "Huber": lambda: fn.Huber(delta=2.0),
    "SoftmaxCrossEntropy": lambda: fn.SoftmaxCrossEntropy(label_smoothing=0.1, class_weight=(1.0, 0.5)),
    "Multiclass": fn.Multiclass,
    "Binary": lambda: fn.Binary(threshold=0.25),
    "Multilabel": lambda: fn.Multilabel(threshold=(0.25, 0.75)),
    "Regression": fn.Regression,
    "a schedule": lambda: fn.join_schedules([fn.linear_warmup(0.1, steps=2), fn.constant(0.1)], [2]),
    "other schedules": lambda: (fn.step_decay(0.1, step_size=2), fn.exponential_decay(0.1, gamma=0.5)),
    "further schedules": lambda: (
        fn.cosine_restarts(0.1, period=5, multiplier=2, final=0.01),
        fn.one_cycle(0.1, steps=9, pct_start=0.5, div_factor=4.0, final_div_factor=3.0),
        fn.polynomial_decay(0.1, steps=9, power=2.0, final=0.01),
        fn.piecewise_constant([0.1, 0.5], [2]),
    ),
    "Summary": lambda: fn.summary(NET, (2,)),
    "SummaryRow": lambda: fn.summary(NET, (2,)).rows[0],
    "Table": lambda: fn.table({"a": [1, 2]}, ["p", "q"]),
    "TrainState": lambda: after(epochs=1)[0],
    "EpochLog": lambda: after(epochs=1)[1],
    "StepProgram": lambda: fn.program(fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), NET, BATCHES[0]),
    "a step": lambda: STEP,
    "SerialReducer": fn.SerialReducer,
    "a step of SGD": lambda: fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1, shard_size=4),
    "a loss": lambda: fn.softmax_cross_entropy,
    "Batch": lambda: BATCHES[0],
    "Batch with weights": lambda: fn.Batch(X, LABELS, np.ones(6, np.float32)),
    "Minibatches": lambda: BATCHES[1:],
    "RandomShift": lambda: fn.RandomShift(2),
    "RandomFlip": fn.RandomFlip,
    "RandomNoise": lambda: fn.RandomNoise(0.5),
    "Environment": fn.environment,
    "Fit": a_fit,
    "GradientReport": lambda: fn.check_gradients(fn.astype(NET, np.float64), X.astype(np.float64)),
    "LayerReport": lambda: fn.check_layer(fn.astype(NET[0], np.float64), X.astype(np.float64)),
    "GradientStatistics": lambda: fn.gradient_statistics(NET, X, LABELS, fn.softmax_cross_entropy),
    "Explanation": lambda: fn.explain(NET, X[:1], LABELS[:1], fn.softmax_cross_entropy),
    "NonFinite": lambda: fn.first_nonfinite(NET, np.full_like(X, np.inf), LABELS, fn.softmax_cross_entropy),
    "SelfTest": lambda: SelfTest((Level("D0 repeat", "the same bits", "holds", "twice"),)),
}
NEED_FILES: dict[str, Callable[[Path], object]] = {
    "Run": a_run,
    "RunRow": lambda folder: a_run(folder).rows[0],
    "Recheck": lambda folder: fn.recheck(a_run(folder), range(1), step=STEP, data=lambda _: BATCHES),
    "Divergence": a_divergence,
}
NO_VALUES = {"Layer", "Pullback"}
"""The base class of layers, and the result of ``vjp``, which holds functions that are made for one call."""


def pickled(value: Any) -> Any:
    """Pickle and unpickle a value."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301  # the bytes were pickled here


copied = pytest.mark.parametrize("again", [pickled, copy.deepcopy], ids=["pickled", "deep-copied"])


def same(a: object, b: object) -> bool:
    """Whether two values of any kind are the same, including every bit of every array."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return same_bits(cast("AnyArray", a), cast("AnyArray", b))
    if isinstance(a, tuple | list):
        first, second = cast("list[object]", a), cast("list[object]", b)
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(a, dict):
        pairs, others = cast("dict[str, object]", a), cast("dict[str, object]", b)
        return pairs.keys() == others.keys() and all(same(pairs[key], others[key]) for key in pairs)
    if attrs.has(cast("type[Any]", type(a))):
        names = [field.name for field in attrs.fields(cast("type[Any]", type(a)))]
        return all(same(getattr(a, name), getattr(b, name)) for name in names)
    return bool(a == b) or (a != a and b != b)  # NaN does not equal itself


def check_copy(value: Any, again: Callable[[Any], Any]) -> None:
    """Check that a copy has the same fields, the same fingerprint if it has one, and locked arrays in its layers."""
    other = again(value)
    assert same(other, value)
    try:
        golden = fn.fingerprint(value)
    except fn.FuncnetError:
        return
    assert fn.fingerprint(other) == golden
    if isinstance(value, fn.Layer):
        assert not any(leaf.array.flags.writeable for leaf in leaves(other))


@pytest.mark.parametrize("name", VALUES)
@copied
def test_a_copy_is_the_value(name: str, again: Callable[[Any], Any]) -> None:
    """Every value in the table survives a copy."""
    check_copy(VALUES[name](), again)


@pytest.mark.parametrize("name", NEED_FILES)
@copied
def test_a_copy_of_what_stands_in_files(name: str, again: Callable[[Any], Any], tmp_path: Path) -> None:
    """Runs and the results of checking them survive a copy."""
    check_copy(NEED_FILES[name](tmp_path), again)


def test_every_public_record_is_in_the_table() -> None:
    """No attrs class of the public page is missing."""
    public = {name for name in fn.__all__ if inspect.isclass(getattr(fn, name)) and attrs.has(getattr(fn, name))}
    assert public - NO_VALUES <= {name.split(" ")[0] for name in (*VALUES, *NEED_FILES)} | {"Reshape"}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.float32(1), 1.0),
        (np.array([0.0]), np.array([-0.0])),
        ((1, 2), (1,)),
        (fn.Dropout(0.5), fn.Dropout(0.25)),
        ({"a": 1}, {"b": 1}),
        (BATCHES, BATCHES[1:]),
    ],
)
def test_the_comparison_sees(a: object, b: object) -> None:
    """The comparison detects a different type, bit, length or setting."""
    assert same(a, a)
    assert not same(a, b)


def test_the_types_of_the_table() -> None:
    """Each value has the type that its name states."""
    kinds = {"Minibatches": Minibatches, "GradientReport": GradientReport, "SelfTest": SelfTest}
    assert isinstance(VALUES["StepProgram"](), fn.StepProgram)
    for name, make in VALUES.items():
        kind = kinds.get(name, getattr(fn, name, None))
        assert kind is None or isinstance(make(), kind), name
