"""Law 9 for many states: what they compute at once is what each of them computes alone, bit for bit."""

from __future__ import annotations

import itertools
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final, NamedTuple, cast

import numpy as np
import pytest
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CASES, Case, inputs
from optimizer_table import OPTIMIZERS
from random_networks import networks, width

import funcnet as fn
from funcnet.arithmetic import Name, in_force, using
from funcnet.data.stacking import stacked
from funcnet.tracing import together
from funcnet.tracing.replay import checked
from funcnet.tracing.slabs import SlabWriter, is_sound, slab_of
from funcnet.tracing.structure import leaves_of, map_leaves
from funcnet.tracing.together import folds_together
from funcnet.tracing.traces import Trace

KEY: Final = fn.Key(21)
SOFTMAX: Final = fn.softmax_cross_entropy
COUNT: Final = 3


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """No test finds the programs of another one."""
    fn.keep_programs()
    yield
    fn.keep_programs()


def bits(tree: object) -> list[tuple[str, object]]:
    """The leaves, to be compared: arrays with dtype, shape and bytes, numbers with their type and all digits."""
    return [_bits_of(leaf) for leaf in leaves_of(tree)]


def _bits_of(leaf: Any) -> tuple[str, object]:
    if type(leaf) is np.ndarray:
        return f"{leaf.dtype} {leaf.shape}", leaf.tobytes()
    return type(leaf).__name__, repr(leaf)


def alone(step: Any, states: Sequence[Any], batches: Sequence[Iterable[Any]]) -> tuple[list[Any], list[Any]]:
    """The for loop over the batches of each state."""
    results: list[list[tuple[float, float]]] = [[] for _ in states]
    ended: list[Any] = []
    run = checked(step)
    with np.errstate(all="ignore"):
        for state, own, made in zip(states, batches, results, strict=True):
            for batch in own:
                state, result = run(state, batch)  # noqa: PLW2901  # a fold
                made.append(result)
            ended.append(state)
    return ended, results


class Seen(NamedTuple):
    """The traces that ran to their end, and what they call state by state."""

    runs: list[Trace]

    @property
    def looped(self) -> set[str]:
        """The functions that a program calls state by state."""
        return {name for trace in self.runs for name in trace.program.looped}


@contextmanager
def counted_replays() -> Generator[Seen]:
    """The traces that ran to their end."""
    seen, run = Seen([]), Trace.run

    def count(self: Trace, leaves: Sequence[Any]) -> Any:
        done = run(self, leaves)
        if done is not None and self.count > 1:
            seen.runs.append(self)
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trace, "run", count)
        yield seen


def folded(step: Any, states: Sequence[Any], batches: Sequence[Iterable[Any]]) -> tuple[list[Any], list[Any]]:
    """The fold together."""
    results: list[list[tuple[float, float]]] = [[] for _ in states]
    return folds_together(step, states, batches, results, context=in_force()), results


def check_together(step: Any, states: Sequence[Any], batches: Sequence[Sequence[Any]], *, fewer: int = 0) -> Seen:
    """Together is alone, in a fold that makes programs and in one that finds them; all steps but the first replay."""
    wanted, losses = alone(step, states, batches)
    fn.keep_programs()
    with counted_replays() as seen:
        for number in range(2):
            ended, results = folded(step, states, batches)
            assert results == losses
            assert bits(tuple(ended)) == bits(tuple(wanted))
            assert len(seen.runs) >= (number + 1) * len(batches[0]) - 1 - fewer
    return seen


# ------------------------------------------------------------------------------------------ what is folded


def moved(tree: Any, i: float) -> Any:
    """A tree whose floats differ from those of the other states."""
    return map_leaves(lambda leaf: leaf * (1 + i / 8) if _is_floats(leaf) else leaf, tree)


def _is_floats(leaf: Any) -> bool:
    return type(leaf) is np.ndarray and bool(leaf.dtype.kind == "f")


def tuned(optimizer: Any, i: int) -> Any:
    """An optimizer whose settings differ from those of the other states."""
    return map_leaves(lambda leaf: leaf * (1 - i / 50) if type(leaf) is float else leaf, optimizer)


def runs_of(net: fn.Network, optimizer: Any, count: int = COUNT) -> list[Any]:
    """States with other parameters, settings and keys."""
    return [fn.TrainState.create(moved(net, i), tuned(optimizer, i), key=KEY.child(i)) for i in range(count)]


def with_classes(case: Case, dtype: fn.FloatDType) -> tuple[fn.Network, ...]:
    """The layer of a row, brought to three classes."""
    inner = (case.layer(), fn.Flatten())
    out = fn.forward(inner, case.x(1)).shape[1]
    return fn.astype((inner, fn.dense(KEY.child("last"), out, 3, dtype=np.float64)), dtype)


def batches_of(size: int, rows: int, steps: int, dtype: fn.FloatDType = np.float64, count: int = COUNT) -> list[Any]:
    """The batches of each state."""
    return [
        [fn.Batch(inputs(KEY.child("x", i, k), rows, size, dtype=dtype), labels(rows, i, k)) for k in range(steps)]
        for i in range(count)
    ]


def labels(rows: int, i: int, k: int) -> Any:
    """Labels of three classes."""
    return (np.arange(rows) * (i + 1) + k) % 3


NET: Final = (
    fn.dense(KEY, 4, 5, dtype=np.float64),
    fn.Tanh(),
    fn.Residual(fn.dense(KEY.child(1), 5, 5, dtype=np.float64)),
    fn.dense(KEY.child(2), 5, 3, dtype=np.float64),
)
FEW: Final = {"Accumulation": 3, "Averaging": 1, "all around AdamW": 3, "all around NAdam": 3}
"""Optimizers that compute another thing in some steps, so that more than one program is made."""
LOOPED: Final = {
    *("words", "Key.child", "_scheduled", "integer_power", "power", "_nesterov_factors", "ClipByValue.update"),
    *("repeat", "argmax", "bincount", "ndarray.take", "getitem", "setitem", "concatenate", "dot"),
    *("ldexp", "_of_classes", "ndarray.put"),
}
"""All that the programs of funcnet's layers, losses and optimizers call state by state."""
IN_NATIVE: Final = LOOPED - {"ldexp"}


# ------------------------------------------------------------------------------------------------- the law

slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("dtype", "arithmetic"),
    [
        (np.float64, "native"),
        pytest.param(np.float32, "native", marks=slow),
        pytest.param(np.float32, "portable", marks=slow),
    ],
)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_layer(case: Case, dtype: fn.FloatDType, arithmetic: Name) -> None:
    """With other parameters, keys and batches in each state, and with the momentum that each of them has."""
    net = with_classes(case, dtype)
    with using(arithmetic):
        states = runs_of(net, OPTIMIZERS["Momentum"])
        batches = [
            [fn.Batch(case.draw(KEY.child(i, k), 7, dtype), labels(7, i, k)) for k in range(5)] for i in range(COUNT)
        ]
        seen = check_together(fn.train_step(SOFTMAX), states, batches)
        assert seen.looped <= (IN_NATIVE if arithmetic == "native" else LOOPED)


@pytest.mark.parametrize(
    ("dtype", "arithmetic"),
    [
        (np.float32, "native"),
        pytest.param(np.float64, "native", marks=slow),
        pytest.param(np.float32, "portable", marks=slow),
    ],
)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name: str, dtype: fn.FloatDType, arithmetic: Name) -> None:
    """All their settings may differ between the states."""
    with using(arithmetic):
        states = runs_of(fn.astype(NET, dtype), OPTIMIZERS[name])
        seen = check_together(fn.train_step(SOFTMAX), states, batches_of(4, 7, 7, dtype), fewer=FEW.get(name, 0))
        assert seen.looped <= (IN_NATIVE if arithmetic == "native" else LOOPED)


NUMBERS: Final = inputs(KEY.child("numbers"), 7, 3)
LOSSES: Final[dict[str, tuple[Any, Any]]] = {
    "softmax of bytes": (fn.softmax_cross_entropy, labels(7, 0, 0).astype(np.uint8)),
    "softmax, smoothed": (fn.SoftmaxCrossEntropy(label_smoothing=0.1), labels(7, 0, 0)),
    "softmax of shares": (fn.SoftmaxCrossEntropy(), np.abs(NUMBERS) / 9),
    "softmax with class weights": (fn.SoftmaxCrossEntropy(class_weight=(1.0, 0.5, 2.0)), labels(7, 0, 0)),
    "binary": (fn.binary_cross_entropy, (NUMBERS > 0).astype(np.float64)),
    "hinge": (fn.hinge, np.sign(NUMBERS)),
    "Huber": (fn.Huber(0.7), NUMBERS),
    "absolute": (fn.mean_absolute_error, NUMBERS),
    "squared": (fn.mean_squared_error, NUMBERS),
    "poisson": (fn.poisson, np.abs(NUMBERS).round()),
}


@pytest.mark.parametrize("arithmetic", ["native", pytest.param("portable", marks=slow)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss(name: str, weighted: bool, arithmetic: Name) -> None:  # noqa: FBT001  # a parameter
    """With weights of examples and without, in float32."""
    loss, y = LOSSES[name]
    y = y.astype(np.float32) if y.dtype.kind == "f" else y
    weight = np.abs(inputs(KEY.child("weight"), 7, dtype=np.float32)) if weighted else None
    batches = [
        [fn.Batch(batch.x, np.roll(y, i + k, axis=0), weight) for k, batch in enumerate(own)]
        for i, own in enumerate(batches_of(4, 7, 4, np.float32))
    ]
    net = fn.astype((fn.Tanh(), fn.dense(KEY, 4, 3, dtype=np.float64)), np.float32)
    with using(arithmetic):
        states = [moved(net, i) for i in range(COUNT)]
        assert check_together(fn.sgd_step(loss, learning_rate=0.1), states, batches).looped <= LOOPED


@given(net=networks(), count=st.sampled_from([2, 3, 9]), dtype=st.sampled_from([np.float32, np.float64]))
@settings(max_examples=max(settings().max_examples // 12, 5), deadline=None)
def test_random_networks(net: tuple[fn.Network, ...], count: int, dtype: fn.FloatDType) -> None:
    """Nested, empty, residual."""
    whole = fn.astype((net, fn.dense(KEY.child("last"), width(net, 4), 3, dtype=np.float64)), dtype)
    states = runs_of(whole, OPTIMIZERS["AdamW"], count)
    check_together(fn.train_step(SOFTMAX), states, batches_of(4, 6, 4, dtype, count))


sizes = st.integers(1, 70)


@given(
    rows=sizes,
    size=sizes,
    hidden=sizes,
    count=st.sampled_from([2, 8, 65]),
    dtype=st.sampled_from([np.float32, np.float64]),
    arithmetic=st.sampled_from(["native", "native", "portable"]),
)
@settings(max_examples=max(settings().max_examples // 12, 5), deadline=None)
def test_random_shapes(  # noqa: PLR0917  # drawn
    rows: int, size: int, hidden: int, count: int, dtype: fn.FloatDType, arithmetic: Name
) -> None:
    """Products, sums and updates of other sizes take other ways through BLAS and NumPy."""
    kind = np.float32 if arithmetic == "portable" else dtype
    first = (fn.dense(KEY, size, hidden, dtype=kind), fn.GELU(), fn.layer_norm(hidden, dtype=kind))
    with using(arithmetic):
        states = runs_of((*first, fn.dense(KEY.child(1), hidden, 3, dtype=kind)), OPTIMIZERS["Momentum"], count)
        check_together(fn.train_step(SOFTMAX), states, batches_of(size, rows, 4, kind, count))


def test_many_states() -> None:
    """More than any vectorized loop takes at once, with a ragged last batch, from sequences and from one gather."""
    x, y = inputs(KEY, 40, 4, dtype=np.float32), np.arange(40) % 3
    states = [moved(fn.mlp(KEY, (4, 6, 3)), i / 16) for i in range(130)]
    batches = [fn.minibatches(x, y, 12, key=KEY.child(i)) for i in range(130)]
    step = fn.sgd_step(SOFTMAX, learning_rate=0.1)
    wanted, losses = alone(step, states, batches)
    with counted_replays() as seen:
        for number in range(4):
            whole = stacked(batches) if number % 2 else None
            results: list[list[tuple[float, float]]] = [[] for _ in states]
            ended = folds_together(step, states, batches, results, stacked=whole)
            assert bits(tuple(ended)) == bits(tuple(wanted))
            assert results == losses
    assert len(seen.runs) == 4 * 4 - 2


# ----------------------------------------------------------------------------------------------- users' own


def swinging(state: tuple[fn.Array, int], batch: Any) -> tuple[tuple[fn.Array, int], float]:
    """A step whose second number is equal in all states at first, and later is not."""
    w, turns = state
    change = (batch.x * w).sum(axis=0)
    return (w - 0.01 * change / (turns + 1), turns + int_of(change)), change.sum().item()


@fn.whole
def int_of(x: fn.Array) -> int:
    """A number that depends on the elements."""
    return int(x[0] > 0)


def test_numbers_that_become_different() -> None:
    """A number that is equal in all states at first is a list as soon as it may differ."""
    states = [(moved(inputs(KEY, 4), i), 0) for i in range(5)]
    assert check_together(swinging, states, batches_of(4, 7, 6, count=5)).looped == {"int_of"}


def test_a_setting_that_all_states_of_a_fold_share() -> None:
    """Folds with other rates have one program, not one for each rate."""
    step, batches = fn.train_step(SOFTMAX), batches_of(4, 7, 4)
    for number, rate in enumerate((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.1)):
        states = [fn.TrainState.create(moved(NET, i), fn.SGD(learning_rate=rate), key=KEY) for i in range(COUNT)]
        wanted = alone(step, states, batches)
        with counted_replays() as seen:
            ended, results = folded(step, states, batches)
        assert (bits(tuple(ended)), results) == (bits(tuple(wanted[0])), wanted[1])
        assert len(seen.runs) == (3 if number < 2 else 4)


def weighing(w: fn.Array, batch: tuple[fn.Array, float]) -> tuple[fn.Array, float]:
    """A step whose batch has a number."""
    x, weight = batch
    return w - weight * x.mean(axis=0), weight * x.sum().item()


def test_the_only_element_of_a_matrix() -> None:
    """``item()`` is one number for each state, whatever the rank of the array."""

    def step(w: fn.Array, batch: Any) -> tuple[fn.Array, float]:
        top = np.maximum.reduce(np.abs(batch.x), axis=None, keepdims=True)
        return w - 0.1 * top.item() * w, top.item() + top.reshape(1).item()

    states = [inputs(KEY.child("w", i), 4) for i in range(COUNT)]
    check_together(step, states, batches_of(COUNT, 5, 4, np.float64))


def test_numbers_of_batches() -> None:
    """One number for all states, then one for each of them, then one for all again."""
    states = [moved(inputs(KEY, 4), i) for i in range(COUNT)]
    weights = [[0.5] * 4, [0.5] * 4 + [0.25, 0.5, 0.5, 0.5], [0.5] * 4 + [1.0, 2.0, 0.5, 0.5]]
    rows = [weights[0] + [0.5] * 4, *weights[1:]]
    batches = [[(inputs(KEY.child(i, k), 7, 4), rows[i][k]) for k in range(8)] for i in range(COUNT)]
    check_together(weighing, states, batches, fewer=8)


@frozen(eq=False)
class Looking(fn.Layer):
    """A layer that cannot be traced, because it takes a number out."""

    bias: fn.Array

    def forward(self, x: fn.Array) -> fn.Array:
        """Add the bias, or more if the mean is positive."""
        y: fn.Array = x + self.bias * (2 if float(x.mean()) > 0 else 1)
        return y


def looking_backward(params: Looking, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Looking]:
    """Its gradient."""
    return g, evolve(params, bias=g.sum(axis=0) * (2 if float(x.mean()) > 0 else 1))


fn.register_layer(
    Looking, forward=Looking.forward, backward=looking_backward, output_shape=lambda _, s: s, name="tests.Looking"
)


def test_a_layer_that_cannot_be_traced() -> None:
    """It is called state by state, within the program."""
    net = (fn.dense(KEY, 4, 3, dtype=np.float64), Looking(inputs(KEY, 3)))
    seen = check_together(fn.train_step(SOFTMAX), runs_of(net, OPTIMIZERS["Adam"]), batches_of(4, 7, 5))
    assert {"forward", "looking_backward"} <= {name.rpartition(".")[2] for name in seen.looped}


# ------------------------------------------------------------------------------------------------ fall-backs


def branching(w: fn.Array, batch: Any) -> tuple[fn.Array, float]:
    """A step that depends on a number, which differs between states."""
    if batch.x.max() > 1.5:
        return w * 0.5, 1.0
    return w - 0.1 * batch.x.mean(axis=0), 2.0


def test_a_guard_that_holds_for_some_states() -> None:
    """Those steps are plain; if there are too many, each state is folded alone."""
    batches = batches_of(4, 3, 60)
    states = [moved(inputs(KEY, 4), i) for i in range(COUNT)]
    signs = [{bool(batch.x.max() > 1.5) for batch in row} for row in zip(*batches, strict=True)]
    assert any(len(sign) > 1 for sign in signs)
    wanted = alone(branching, states, batches)
    for _ in range(3):
        ended, results = folded(branching, states, batches)
        assert bits(tuple(ended)) == bits(tuple(wanted[0]))
        assert results == wanted[1]


def test_a_step_that_is_not_pure() -> None:
    """A difference is reported, and every state ends with plain numbers."""
    calls: list[int] = []

    def step(w: fn.Array, batch: Any) -> tuple[fn.Array, float]:
        calls.append(1)
        return w + len(calls) + batch.x[0], 1.0

    states = [moved(inputs(KEY, 4), i) for i in range(COUNT)]
    with pytest.warns(fn.ReplayWarning) as found:
        folded(step, states, batches_of(4, 3, 5))
    text = str(found[0].message)
    assert "is computed for one state after the other" in text
    assert text.endswith(": the step is not pure, or NumPy computes many states at once differently")


def test_without_programs() -> None:
    """``keep_programs(programs=0)`` computes plain steps."""
    fn.keep_programs(programs=0)
    states, batches = runs_of(NET, OPTIMIZERS["Adam"]), batches_of(4, 7, 3)
    wanted = alone(fn.train_step(SOFTMAX), states, batches)
    with counted_replays() as seen:
        ended, results = folded(fn.train_step(SOFTMAX), states, batches)
    assert (bits(tuple(ended)), results) == (bits(tuple(wanted[0])), wanted[1])
    assert not seen.runs


def test_batches_with_gaps() -> None:
    """Arrays with gaps, or with other strides in some states, are folded state by state."""
    states = runs_of(NET, OPTIMIZERS["Adam"])
    wide = batches_of(8, 7, 4)
    gaps = [[fn.Batch(batch.x[:, ::2], batch.y) for batch in own] for own in wide]
    turned = [[fn.Batch(np.asfortranarray(b.x) if i else b.x.copy(), b.y) for b in own] for i, own in enumerate(gaps)]
    for batches in (gaps, turned):
        wanted = alone(fn.train_step(SOFTMAX), states, batches)
        ended, results = folded(fn.train_step(SOFTMAX), states, batches)
        assert (bits(tuple(ended)), results) == (bits(tuple(wanted[0])), wanted[1])


def test_errors_are_those_of_the_state() -> None:
    """An invalid label, or a rate that is too high, in one state."""
    batches = batches_of(4, 7, 6)
    batches[1][4] = evolve(batches[1][4], y=batches[1][4].y + 1)
    step = fn.train_step(SOFTMAX)
    with pytest.raises(fn.LabelError) as wanted:
        alone(step, runs_of(NET, OPTIMIZERS["Adam"]), batches)
    for _ in range(2):
        with pytest.raises(fn.LabelError, match=re.escape(str(wanted.value))):
            folded(step, runs_of(NET, OPTIMIZERS["Adam"]), batches)
    states = runs_of(NET, fn.SGD(learning_rate=0.1))
    states[2] = evolve(states[2], optimizer=fn.SGD(learning_rate=1e160))
    for _ in range(2):
        with pytest.raises(fn.NonFiniteError, match="loss is nan"):
            folded(step, states, batches_of(4, 7, 9))


def test_what_must_be_equal() -> None:
    """Structures, shapes and numbers of batches; with programs and without."""
    step, states, batches = (
        fn.sgd_step(SOFTMAX, learning_rate=0.1),
        [moved(NET, i) for i in range(2)],
        batches_of(4, 7, 5),
    )
    for programs in (32, 0):
        fn.keep_programs(programs=programs)
        with pytest.raises(fn.StructureError, match="state 1 differs from state 0"):
            folded(step, [NET, NET[:1]], batches[:2])
        with pytest.raises(fn.StructureError, match="state 1 has 3, and state 0 has more"):
            folded(step, states, [batches[0], batches[1][:3]])
        with pytest.raises(fn.StructureError, match="state 0 has 4, and state 1 has more"):
            folded(step, states, [batches[0][:4], batches[1]])
        with pytest.raises(fn.StructureError, match=r"float64 \(6, 4\).* in state 1 and .*float64 \(7, 4\)"):
            folded(step, states, [batches[0], batches_of(4, 6, 5)[1]])


# --------------------------------------------------------------------------------------------- planted faults


def check_that_it_is_noticed(*, warns: bool = True) -> None:
    """The self-check reports a difference, or no program runs to its end; the bits are those of each state alone."""
    states, batches = runs_of(NET, OPTIMIZERS["Adam"]), batches_of(4, 7, 6)
    wanted = alone(fn.train_step(SOFTMAX), states, batches)
    with pytest.warns(fn.ReplayWarning, match="one state after the other") if warns else nullcontext():
        ended, results = folded(fn.train_step(SOFTMAX), states, batches)
    assert (bits(tuple(ended)), results) == (bits(tuple(wanted[0])), wanted[1])


def test_a_slab_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """By eight bytes, for matrices."""
    right: Any = vars(SlabWriter)["_axes"]

    def off(self: SlabWriter, ref: Any) -> Any:
        shape, strides = right(self, ref)
        return shape, (strides[0] - 8 * (len(ref.shape) == 2), *strides[1:])

    monkeypatch.setattr(SlabWriter, "_axes", off)
    check_that_it_is_noticed(warns=False)  # what lies there is no finite number


def test_a_number_that_is_taken_as_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rates of the states differ, but the program gets the first one."""

    def is_same(_: object, __: object) -> bool:
        return True

    monkeypatch.setattr(together, "same_leaf", is_same)
    check_that_it_is_noticed()


def test_a_form_that_ignores_a_stride(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each state reads the vectors of the first one."""
    right: Any = vars(SlabWriter)["_axes"]

    def first(self: SlabWriter, ref: Any) -> Any:
        shape, strides = right(self, ref)
        return shape, (0 if ref.dtype == np.float64 and len(ref.shape) == 1 else strides[0], *strides[1:])

    monkeypatch.setattr(SlabWriter, "_axes", first)
    check_that_it_is_noticed()


# ---------------------------------------------------------------------------------------- NumPy's own loops


@given(st.integers(0, 10**6))
def test_slabs(nbytes: int) -> None:
    """They hold the bytes, and lie a multiple of 64 bytes apart, at least 128."""
    assert slab_of(nbytes) >= max(nbytes, 128)
    assert slab_of(nbytes) % 64 == 0 and slab_of(nbytes) < nbytes + 192  # noqa: PT018  # one fact


def test_programs_lie_in_slabs() -> None:
    """Every block of a program is a multiple of 64 bytes for each state, and so is the stride of each view."""
    with counted_replays() as seen:
        folded(fn.train_step(SOFTMAX), runs_of(NET, OPTIMIZERS["Adam"]), batches_of(4, 7, 3))
    source = seen.runs[0].program.source
    for found in (rf"memory\({COUNT} \* (\d+)\)", rf"np.ndarray\(\({COUNT}, .*, \((\d+), .*\)\)"):
        sizes = re.findall(found, source)
        assert len(sizes) > 5
        assert all(slab_of(int(size)) == int(size) for size in sizes)


DISTANCES: Final = (8, 16, 24, 64, 128, 192, 256, 2048)
FUNCTIONS: Final = sorted(
    {
        func
        for func in vars(np).values()
        if isinstance(func, np.ufunc)
        and func.signature is None
        and func.nin <= 2
        and any(set(t) <= set("fd?->") for t in func.types)
    },
    key=lambda func: func.__name__,
)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_loops_over_slabs(function: np.ufunc) -> None:
    """Rows of several numbers have the bits of each row alone; single numbers, if ``is_sound`` says so."""
    rng = np.random.default_rng(3)
    for code in "fd":
        types = [each for each in function.types if each.startswith(code * function.nin + "->")]
        pairs = [(n, d) for n in (1, 2, 5, 32) for d in (128, 192, 2048) if n * np.dtype(code).itemsize <= d]
        for numbers, distance in pairs if types else ():
            results = [np.dtype(kind) for kind in types[0].partition("->")[2]]
            ins = [(np.dtype(code), distance)] * function.nin
            if numbers == 1 and not is_sound(function, tuple(ins), tuple((dtype, distance) for dtype in results)):
                continue
            shape = (37, numbers)
            args = [_slabs(np.dtype(code), distance, shape) for _ in ins]
            for arg in args:
                arg[...] = rng.normal(size=shape)
                arg[::5, 0], arg[3::11, 0], arg[4::13, 0] = np.nan, np.inf, -0.0
            outs = tuple(_slabs(dtype, distance, shape) for dtype in results)
            with np.errstate(all="ignore"):
                function(*args, out=outs)
                for row in range(37):
                    wanted: Any = tuple(np.empty(numbers, dtype) for dtype in results)
                    function(*(arg[row].copy() for arg in args), out=wanted)
                    assert [out[row].tobytes() for out in outs] == [each.tobytes() for each in wanted]


def _slabs(dtype: np.dtype[Any], distance: int, shape: tuple[int, ...]) -> Any:
    """An array of zeros with one slab for each row."""
    block = np.zeros(distance * shape[0] + 64, np.uint8)
    start = -block.__array_interface__["data"][0] % 64
    inner = np.empty(shape[1:], dtype).strides
    return np.ndarray(shape, dtype, block.data, start, (distance, *inner))


def _numbers(dtype: np.dtype[Any], distance: int) -> Any:
    made = _slabs(dtype, distance, (67,))
    made[...] = (np.arange(67) % 7 - 3) if dtype.kind == "f" else 0
    made[::5] = np.nan if dtype.kind == "f" else 0
    return made


def test_is_sound_notices_a_wrong_loop() -> None:
    """Whatever is wrong in the NumPy that is installed: numbers that lie apart are compared with each of them alone."""
    is_sound.cache_clear()
    f8, b1 = np.dtype(np.float64), np.dtype(np.bool_)
    for function, results in ((np.negative, f8), (np.isfinite, b1), (np.signbit, b1)):
        for distance in DISTANCES:
            x, out = _numbers(f8, distance), _numbers(results, distance)
            function(x, out=out)
            right = out.tobytes() == np.array([function(number) for number in x]).tobytes()
            assert is_sound(function, ((f8, distance),), ((results, distance),)) == right
    assert is_sound(np.add, ((f8, 128), (f8, 0)), ((f8, 128),))
    assert not is_sound(np.add, ((f8, 128), (np.dtype("U1"), 0)), ((f8, 128),))


@pytest.mark.parametrize("distances", [(128, 128), (128, 0), (0, 128)])
@pytest.mark.parametrize("function", [np.fmax, np.fmin, np.maximum, np.copysign], ids=lambda each: each.__name__)
def test_zeros_of_two_signs(function: Any, distances: tuple[int, int]) -> None:
    """A loop that returns the other one of two zeros, as that of ``np.fmax`` may, is not used."""
    f8 = np.dtype(np.float64)
    if is_sound(function, tuple((f8, distance) for distance in distances), ((f8, 128),)):
        for zeros in itertools.product((0.0, -0.0), repeat=2):
            out, *pair = (_slabs(f8, distance, (67,)) for distance in (128, *distances))
            for operand, zero in zip(pair, zeros, strict=True):
                operand[...] = zero
            function(*pair, out=out)
            assert set(np.signbit(out).tolist()) == {bool(np.signbit(function(*map(np.array, zeros))))}


def test_pairs_of_other_numbers_are_tried() -> None:
    """A loop that is wrong for zeros of two signs, or for a shared NaN, is noticed."""
    f8 = np.dtype(np.float64)
    tried: list[tuple[Any, ...]] = []

    def noted(*args: Any, out: Any) -> None:
        tried.append(args)
        out[0][...] = 0.0

    for distances in ((128, 128), (128, 0), (0, 128)):
        tried.clear()
        assert is_sound(cast("Any", noted), tuple((f8, distance) for distance in distances), ((f8, 128),))
        pairs = {(str(x), str(y)) for x, y in tried if not x.shape}
        assert {("0.0", "-0.0"), ("-0.0", "0.0")} <= pairs
        assert {"nan", "inf", "0.0", "-0.0"} <= {x for x, _ in pairs} & {y for _, y in pairs}
        assert len(pairs) >= 67


def multiplied(state: tuple[fn.Array, fn.Array], x: fn.Array) -> tuple[tuple[fn.Array, fn.Array], float]:
    """A step that keeps a product."""
    return (state[0] * 1.0, np.dot(x, state[0])), 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("left", "right"),
    [((1, 1), (1, 1)), ((1,), (1, 1)), ((1, 1), (1,)), ((2, 1), (1, 1)), ((2, 1), (1,)), ((1, 1), (1, 2))],
)
def test_products_with_one_number(left: tuple[int, ...], right: tuple[int, ...], dtype: fn.FloatDType) -> None:
    """``np.dot`` multiplies by one number: -1 * 0 is -0.0, and inf * 0 may be 0. ``np.matmul`` does not."""
    out = np.dot(np.zeros(left, dtype), np.zeros(right, dtype))
    states = [(np.full(right, number, dtype), out) for number in (0.0, -0.0, -1.0, 0.0, np.inf)]
    batches = [[np.full(left, number, dtype) for number in (1.0, 0.0, -0.0, -1.0, np.inf)]] * len(states)
    for count in range(2, 6):
        check_together(multiplied, states, [own[:count] for own in batches])


def test_networks_of_one_number() -> None:
    """Weights are zeros of either sign, the last batch has one row, and a second fold finds the programs."""
    x = inputs(KEY, 33, 1, dtype=np.float32) * 0
    net = fn.mlp(KEY, (1, 1, 1))
    nets = [map_leaves(lambda leaf: leaf * 0, net), map_leaves(lambda leaf: leaf * -0.0, net), net]
    batches = [[*fn.minibatches(x, -x, 8, key=KEY.child(i))] * 2 for i in range(len(nets))]
    check_together(fn.sgd_step(fn.mean_squared_error, learning_rate=0.01), nets, batches, fewer=1)


@pytest.mark.parametrize("code", ["f", "d"])
def test_products_and_sums_of_slabs(code: str) -> None:
    """One call for all states has the bits of a call for each of them, for sizes on both sides of BLAS's kernels."""
    rng, dtype = np.random.default_rng(4), np.dtype(code)
    for sizes in rng.integers(1, 40, (60, 3)).tolist():
        rows, inner, outs = sizes
        count = int(rng.integers(2, 70))
        a, b = _filled(rng, dtype, (count, rows, inner)), _filled(rng, dtype, (count, inner, outs))
        for left, right in (
            (a, b),
            (a, _filled(rng, dtype, (count, outs, inner)).transpose(0, 2, 1)),
            (a[:, :1], b),
            (a, b[:, :, :1].copy()),
        ):
            made = np.matmul(left, right)
            for row in range(count):
                assert made[row].tobytes() == np.dot(left[row], right[row]).tobytes()
        for axis in (0, 1, None):
            for function in (np.add, np.maximum):
                axes = (1, 2) if axis is None else axis + 1
                made = function.reduce(a, axis=axes)
                assert all(made[row].tobytes() == function.reduce(a[row], axis=axis).tobytes() for row in range(count))
                wide = np.add.reduce(a, axis=axes, dtype=np.float64)
                assert all(
                    wide[i].tobytes() == np.add.reduce(a[i], axis=axis, dtype=np.float64).tobytes()
                    for i in range(count)
                )


def _filled(rng: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    made = _slabs(dtype, slab_of(int(np.prod(shape[1:])) * dtype.itemsize), shape)
    made[...] = rng.normal(size=shape)
    return made
