"""Law 9: a replay is the fold. The bits and the errors of the for loop, whatever is folded; what a replay costs."""

from __future__ import annotations

import gc
import math
import re
import sys
import tracemalloc
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from threading import Barrier
from typing import Any, Final, NamedTuple, cast

import numpy as np
import pytest
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CASES, Case, inputs
from optimizer_table import OPTIMIZERS
from random_networks import networks, width
from surroundings import meet

import funcnet as fn
from funcnet.arithmetic import Name, sum_rows, using
from funcnet.core.trees import map_parameters
from funcnet.data.batches import Minibatches
from funcnet.loops.steps import TrainStep
from funcnet.network.passes import loss_and_grad
from funcnet.tracing.native import NativeRun
from funcnet.tracing.structure import leaves_of
from funcnet.tracing.traces import Trace

KEY: Final = fn.Key(12)
LABELS: Final = np.arange(35) % 3
MOMENTUM: Final = OPTIMIZERS["Momentum"]
SOFTMAX: Final = fn.softmax_cross_entropy
Anything = Any


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """No test finds the programs of another one."""
    fn.keep_programs()
    yield
    fn.keep_programs()


# ------------------------------------------------------------------------------------------- what is compared


class Outcome(NamedTuple):
    """What a fold ends in: leaves of the state as bits and losses, or an error."""

    state: list[tuple[str, object]]
    losses: list[float]
    error: str


def bits(tree: object) -> list[tuple[str, object]]:
    """The leaves, to be compared: arrays with dtype, shape and bytes, numbers with their type and all digits."""
    return [_bits_of(leaf) for leaf in leaves_of(tree)]


def _bits_of(leaf: Any) -> tuple[str, object]:
    if type(leaf) is np.ndarray:
        return f"{leaf.dtype} {leaf.shape}", leaf.tobytes()
    return type(leaf).__name__, repr(leaf)


def arrays_of(tree: object) -> list[fn.Array]:
    """The arrays among the leaves."""
    return [leaf for leaf in leaves_of(tree) if isinstance(leaf, np.ndarray)]


def ended(fold: Callable[[Any, Any, Any], tuple[Any, list[float]]], *args: Any) -> Outcome:
    """The outcome of a fold."""
    try:
        state, losses = fold(*args)
    except Exception as error:  # noqa: BLE001  # whatever it is, both folds have it
        return Outcome([], [], f"{type(error).__name__}: {error}")
    return Outcome(bits(state), losses, "")


def plain(step: fn.Step[Any, Any], state: Any, batches: Iterable[Any]) -> tuple[Any, list[float]]:
    """The for loop that a fold is."""
    losses: list[float] = []
    with np.errstate(all="ignore"):
        for batch in batches:
            try:
                state, loss = step(state, batch)
            except fn.FuncnetError as error:
                raise error.at_step(len(losses)) from None
            losses.append(loss)
    return state, losses


def folded(step: fn.Step[Any, Any], state: Any, batches: Iterable[Any]) -> tuple[Any, list[float]]:
    """``train_epoch``."""
    state, log = fn.train_epoch(step, state, batches)
    return state, log.losses.tolist()


def locked(step: fn.Step[Any, Any], state: Any, batches: Iterable[Any]) -> tuple[Any, list[float]]:
    """``train_epoch``, whose new state is read-only."""
    state, losses = folded(step, state, batches)
    assert not any(leaf.flags.writeable for leaf in arrays_of(state))
    return state, losses


@contextmanager
def counted_replays() -> Generator[list[bool]]:
    """One truth for each time that a program ran: whether it ran to its end."""
    runs: list[bool] = []
    run, fold = Trace.run, NativeRun.fold

    def count(self: Trace, leaves: Sequence[Any]) -> Any:
        done = run(self, leaves)
        runs.append(done is not None)
        return done

    def count_all(self: NativeRun, *given: Any) -> Any:
        done = fold(self, *given)
        runs.extend([True] * len(done[0]))
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trace, "run", count)
        patch.setattr(NativeRun, "fold", count_all)
        yield runs


def check_fold(
    step: fn.Step[Any, Any],
    state: Any,
    batches: Sequence[Any],
    *,
    opaque: str | None = "",
    fewer: int = 0,
    error: str | None = None,
) -> None:
    """train_epoch and the for loop end alike, twice: with programs that are made, and with those that are kept.

    ``opaque``: what of the step is not traced, or None for whatever. ``fewer``: how many steps beside the first two of
    each shape may be plain ones. ``error``: how the error begins that both end in; without it, all steps are replayed.
    """
    before = bits((state, tuple(batches)))
    wanted = ended(plain, step, state, batches)
    assert wanted.error.startswith(error or "") and bool(wanted.error) == (error is not None), wanted.error  # noqa: PT018
    sizes = [str([leaf.shape for leaf in leaves_of(batch)]) for batch in batches]
    expected = [sum(max(sizes.count(size) - 2, 0) for size in set(sizes)), 0]
    expected[1] = sum(sizes.count(size) for size in set(sizes) if sizes.count(size) > 1)
    fn.keep_programs()
    for count in expected:
        with counted_replays() as replays:
            assert ended(locked, step, state, batches) == wanted
        if error is None:
            assert sum(replays) >= count - fewer
    assert bits((state, tuple(batches))) == before
    if opaque is not None and error is None:
        report = fn.program(step, state, batches[0])
        assert re.search(opaque, str(report.opaque)) if opaque else report.opaque == ()


# ------------------------------------------------------------------------------------------ what is folded


def data(rows: int = 30, size: int = 4, dtype: fn.FloatDType = np.float64, batch: int = 7) -> Minibatches[Any]:
    """Batches of seven rows, the last one smaller."""
    x = inputs(KEY.child("x"), rows, size, dtype=dtype)
    return fn.minibatches(x, np.arange(rows) % 3, batch, key=KEY.child("order"))


def classifier(net: fn.Network, dtype: fn.FloatDType = np.float64) -> tuple[fn.Network, ...]:
    """The network, brought to three classes."""
    return fn.astype((net, fn.dense(KEY.child("last"), width(net, 4), 3, dtype=np.float64)), dtype)


def with_classes(case: Case, dtype: fn.FloatDType) -> tuple[fn.Network, ...]:
    """The layer of a row, brought to three classes."""
    inner = (case.layer(), fn.Flatten())
    out = fn.forward(inner, case.x(1)).shape[1]
    return fn.astype((inner, fn.dense(KEY.child("last"), out, 3, dtype=np.float64)), dtype)


def run_of(net: fn.Network, optimizer: str = "Momentum") -> Any:
    """The state before the first step."""
    return fn.TrainState.create(net, OPTIMIZERS[optimizer], key=KEY)


FEW: Final = {"Accumulation": 3, "Averaging": 1, "all around AdamW": 3, "all around NAdam": 3}
"""Optimizers that compute another thing in some steps, so that more than one program is made."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype", "arithmetic"),
    [("SGD", np.float64, "native"), ("AdamW", np.float32, "native"), ("Momentum", np.float32, "portable")],
)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_layer(case: Case, name: str, dtype: fn.FloatDType, arithmetic: Name) -> None:
    """First in a network, and behind a trained layer, where its input's gradient counts."""
    net = with_classes(case, dtype)
    with using(arithmetic):
        first = fn.minibatches(case.x(28, dtype), LABELS[:28], 7, key=KEY.child("order"))
        check_fold(fn.train_step(SOFTMAX), run_of(net, name), first)
        if name == "SGD" and not case.ids:
            front = (fn.dense(KEY.child("front"), 4, math.prod(case.shape), dtype=np.float64), fn.Reshape(case.shape))
            check_fold(fn.train_step(SOFTMAX), run_of((front, net), name), data(28))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name: str, dtype: fn.FloatDType) -> None:
    """Weights decay and biases do not; over two epochs, the second from the middle of a run."""
    first, second = fn.dense(KEY, 4, 5, dtype=np.float64), fn.dense(KEY.child(1), 5, 5, dtype=np.float64)
    net = (first, fn.Tanh(), fn.Residual(second))
    state, step, batches = run_of(classifier(net, dtype), name), fn.train_step(SOFTMAX), data(56, dtype=dtype)
    check_fold(step, state, batches, fewer=FEW.get(name, 0))
    middle, _ = fn.train_epoch(step, state, batches[:5])
    check_fold(step, middle, batches, fewer=FEW.get(name, 0))


SHARES: Final = np.abs(inputs(KEY.child("shares"), 28, 3)) / 9
NUMBERS: Final = inputs(KEY.child("numbers"), 28, 3)
LOSSES: Final[dict[str, tuple[Any, Any]]] = {
    "softmax": (fn.softmax_cross_entropy, LABELS[:28]),
    "softmax of bytes": (fn.softmax_cross_entropy, LABELS[:28].astype(np.uint8)),
    "softmax, smoothed": (fn.SoftmaxCrossEntropy(label_smoothing=0.1), LABELS[:28]),
    "softmax of shares": (fn.SoftmaxCrossEntropy(), SHARES),
    "softmax with class weights": (fn.SoftmaxCrossEntropy(class_weight=(1.0, 0.5, 2.0)), LABELS[:28]),
    "binary": (fn.binary_cross_entropy, (NUMBERS > 0).astype(np.float64)),
    "hinge": (fn.hinge, np.sign(NUMBERS)),
    "Huber": (fn.Huber(0.7), NUMBERS),
    "huber": (fn.huber, NUMBERS),
    "absolute": (fn.mean_absolute_error, NUMBERS),
    "squared": (fn.mean_squared_error, NUMBERS),
    "poisson": (fn.poisson, np.abs(NUMBERS).round()),
}


@pytest.mark.slow
@pytest.mark.parametrize("arithmetic", ["native", "portable"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss(name: str, weighted: bool, arithmetic: Name) -> None:  # noqa: FBT001  # a parameter
    """With weights of examples and without, in float32."""
    loss, y = LOSSES[name]
    y = y.astype(np.float32) if y.dtype.kind == "f" else y
    x = inputs(KEY, 28, 4, dtype=np.float32)
    weight = np.abs(inputs(KEY.child("weight"), 28, dtype=np.float32)) if weighted else None
    rows = [slice(start, start + 7) for start in range(0, 28, 7)]
    batches = [fn.Batch(x[part], y[part], None if weight is None else weight[part]) for part in rows]
    net = classifier((fn.Tanh(),), np.float32)
    with using(arithmetic):
        check_fold(fn.sgd_step(loss, learning_rate=0.1), net, batches)


# ---------------------------------------------------------------------------------------- random networks


@pytest.mark.slow
@given(net=networks(), kind=st.sampled_from(["a mask for each step", "one mask", "portable"]))
@settings(max_examples=settings().max_examples // 3)
def test_random_networks(net: tuple[fn.Network, ...], kind: str) -> None:
    """Nested, empty, residual; with a mask for each step, and with the one that sgd_step is given."""
    if kind == "one mask":
        check_fold(fn.sgd_step(SOFTMAX, learning_rate=0.1), fn.training(classifier(net), KEY), data(28))
        return
    dtype = np.float32 if kind == "portable" else np.float64
    whole = classifier(net, dtype)
    with using("portable" if kind == "portable" else "native"):
        check_fold(fn.train_step(SOFTMAX), run_of(whole), data(28, dtype=dtype))


sizes, names = st.integers(1, 70), st.sampled_from(["SGD", "Adam"])


@pytest.mark.slow
@given(rows=sizes, size=sizes, hidden=sizes, dtype=st.sampled_from([np.float32, np.float64]), name=names)
@settings(max_examples=settings().max_examples // 3)
def test_random_shapes(rows: int, size: int, hidden: int, dtype: fn.FloatDType, name: str) -> None:
    """Products, sums and updates of other sizes take other ways through BLAS and NumPy."""
    first = (fn.dense(KEY, size, hidden, dtype=dtype), fn.GELU(), fn.layer_norm(hidden, dtype=dtype))
    net = (*first, fn.dense(KEY.child(1), hidden, 3, dtype=dtype))
    check_fold(fn.train_step(SOFTMAX), run_of(net, name), data(4 * rows, size, dtype, batch=rows))


# ------------------------------------------------------------------------------------ shapes, cuts, threads


def test_batches_of_changing_shapes() -> None:
    """A program for each shape that comes twice; all on one memory of the state."""
    x = inputs(KEY, 60, 4)
    lengths = [5, 5, 5, 3, 5, 3, 5, 1, 1, 5, 3, 1, 2, 5]
    starts = np.cumsum([0, *lengths])
    batches = [fn.Batch(x[a : a + n], LABELS[:n]) for a, n in zip(starts, lengths, strict=False)]
    for name in ("Momentum", "Accumulation"):
        check_fold(fn.train_step(SOFTMAX), run_of(classifier(()), name), batches, fewer=2 * FEW.get(name, 0))


def test_a_ninth_shape_replaces_a_shape_of_an_earlier_fold() -> None:
    """Programs of eight shapes are kept; the shape that this fold meets was not seen in the fold that kept them."""

    def step(w: fn.Array, x: fn.Array) -> tuple[fn.Array, float]:
        moved: fn.Array = w * 0.5 + x.max()
        return moved, 1.0

    first: fn.Array = np.ones(3)
    many: list[fn.Array] = [np.ones(n) for n in range(1, 9) for _ in range(3)]
    last: list[fn.Array] = [np.ones(20)] * 3
    state, _ = fn.train_epoch(step, first, many)
    after, _ = fn.train_epoch(step, state, last)
    for x in last:
        state, _ = step(state, x)
    assert after.tobytes() == state.tobytes()


def test_a_shape_that_comes_once_is_never_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes between."""
    monkeypatch.setattr(Trace, "__init__", None)
    x = inputs(KEY, 60, 4)
    batches = [fn.Batch(x[:n], LABELS[:n]) for n in range(1, 12)]
    check_fold(fn.train_step(SOFTMAX), run_of(classifier(())), batches, opaque=None)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_blas_threads(threads: int) -> None:
    """Products that are large enough for them."""
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="sets the number of BLAS's threads")
    net = fn.mlp(KEY, (300, 200, 3))
    batches = fn.minibatches(inputs(KEY, 512, 300, dtype=np.float32), np.arange(512) % 3, 128)
    with threadpoolctl.threadpool_limits(threads, "blas"):
        check_fold(fn.train_step(SOFTMAX), run_of(net, "Adam"), batches)


# ------------------------------------------------------------------------------------------- users' own


def half_square(prediction: fn.Array, target: fn.Array) -> tuple[float, fn.Array]:
    """A user's loss, which gives back the prediction's own memory where the target is 0."""
    difference = prediction - target if target.any() else prediction
    return (difference * difference).sum().item() / 2, difference


def looking(prediction: fn.Array, target: fn.Array) -> tuple[float, fn.Array]:
    """A loss that takes its number out."""
    return float(((prediction - target) ** 2).sum()), 2 * (prediction - target)


@frozen
class Halving:
    """A user's optimizer: a rate that falls with the step."""

    def init(self, _: Any, /) -> Any:
        """Nothing."""
        moments: fn.Moments[Any] = fn.Moments.of()
        return moments

    def update(self, params: Any, grads: Any, moments: Any, step: int, /) -> Any:
        """A step of descent."""
        return map_parameters(lambda p, g: p - 0.01 / (step + 1) * g, params, grads), moments


@frozen
class Twice(TrainStep[Any]):
    """A step that is two."""

    def __call__(self, state: Any, batch: Any, /) -> tuple[Any, float]:
        """The second one from where the first one ended."""
        once = fn.train_step(self.loss)
        return once(once(state, batch)[0], batch)


TARGETS: Final = inputs(KEY.child("targets"), 28, 4)
NET: Final = (fn.dense(KEY, 4, 4, dtype=np.float64), fn.Tanh(), fn.Residual((fn.dense(KEY, 4, 4, dtype=np.float64),)))


def run(optimizer: Any) -> Any:
    """The state before the first step of NET."""
    return fn.TrainState.create(NET, optimizer, key=KEY)


OWN: Final[dict[str, tuple[Any, Any, Any, str]]] = {
    "loss": (fn.sgd_step(half_square, learning_rate=0.01), NET, TARGETS, ""),
    "loss that gives back the prediction": (fn.sgd_step(half_square, learning_rate=0.001), NET, np.zeros((28, 4)), ""),
    "loss that looks": (fn.sgd_step(looking, learning_rate=0.01), NET, TARGETS, "looking.*float"),
    "optimizer": (fn.train_step(half_square), run(Halving()), TARGETS, ""),
    "optimizer around it": (fn.train_step(half_square), run(fn.ClipByValue(Halving(), limit=0.1)), TARGETS, ""),
    "step": (Twice(half_square), run(fn.Adam(learning_rate=0.01)), TARGETS, ""),
    "network that goes to its input": (fn.sgd_step(half_square, learning_rate=0.01), (NET[0],), None, ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_losses_optimizers_and_steps_of_users(name: str) -> None:
    """Traced as ours are."""
    step, state, target, opaque = OWN[name]
    x = inputs(KEY, 28, 4)
    batches = fn.minibatches(x, x if target is None else target, 7)
    check_fold(step, state, batches, opaque=opaque)
    assert fn.program(step, state, batches[0]).calls > 5


@frozen(eq=False)
class Game:
    """Two networks that learn in turn, and whose turn it is."""

    first: fn.Network
    second: fn.Network
    turns: int = 0
    name: str = "game"


def game_step(state: Game, batch: Any) -> tuple[Game, float]:
    """The second one learns from what the first one has just become."""
    loss, grads = fn.value_and_grad(state.first, batch.x, batch.y, SOFTMAX)
    first = fn.sgd_update(state.first, grads, learning_rate=0.1)
    y, pull = fn.vjp(first, batch.x)
    g = pull(y * 0.1)[0]
    second_loss, grads = fn.value_and_grad(state.second, batch.x + g, batch.y, SOFTMAX)
    second = fn.sgd_update(state.second, grads, learning_rate=0.1)
    return evolve(state, first=first, second=second, turns=state.turns + 1), loss + 0.5 * second_loss


def alternating_step(state: Game, batch: Any) -> tuple[Game, float]:
    """One in even turns, the other one in odd turns."""
    name = "second" if state.turns % 2 else "first"
    loss, grads = fn.value_and_grad(getattr(state, name), batch.x, batch.y, SOFTMAX)
    new = fn.sgd_update(getattr(state, name), grads, learning_rate=0.1 / (state.turns + 1))
    return evolve(state, turns=state.turns + 1, **{name: new}), loss


def tied(state: Any, batch: Any) -> tuple[Any, float]:
    """One layer at two places: its gradients add up."""
    layer, last = state
    net = (layer, fn.Tanh(), layer, fn.Tanh(), last)
    loss, grads = fn.value_and_grad(net, batch.x, batch.y, SOFTMAX)
    both = map_parameters(lambda _, a, b: a + b, layer, grads[0], grads[2])
    return fn.sgd_update((layer, last), (both, grads[4]), learning_rate=0.1), loss


class Pair(NamedTuple):
    """A state that is a NamedTuple."""

    net: Any
    average: Any
    best: float
    words: tuple[str, None]


def averaging(state: Pair, batch: Any) -> tuple[Pair, float]:
    """A moving mean of the gradient's size, and the lowest loss."""
    loss, grads = fn.value_and_grad(state.net, batch.x, batch.y, SOFTMAX)
    size = np.float64(0)
    for leaf in leaves_of(grads):
        size = size + (leaf * leaf).sum()
    net = fn.sgd_update(state.net, grads, learning_rate=0.1)
    return Pair(net, 0.9 * state.average + 0.1 * size, min(loss, state.best), state.words), loss


def square(n: int) -> fn.Network:
    """A layer of four."""
    return fn.dense(KEY.child("square", n), 4, 4, dtype=np.float64)


STEPS: Final[dict[str, tuple[Any, Any, int]]] = {
    "two networks that learn in turn": (game_step, Game(classifier(square(0)), classifier(square(1))), 0),
    "one network in a turn": (alternating_step, Game(classifier(square(0)), classifier(square(1))), 2),
    "a layer used twice": (tied, (square(0), classifier(())[1]), 0),
    "a NamedTuple of numbers and words": (averaging, Pair(classifier(()), np.float64(0), math.inf, ("a", None)), 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_steps_of_users(name: str) -> None:
    """Any pure function of any state; the second time through as well."""
    step, state, fewer = STEPS[name]
    check_fold(step, state, data(56), fewer=fewer)


# --------------------------------------------------------------------------------------------- no Python


CALLS: Final[list[str]] = []


@frozen(eq=False)
class Bowl(fn.Layer):
    """``y = size * x * x`` with a trained size."""

    size: fn.Array


def bowl_forward(params: Bowl, x: fn.Array) -> fn.Array:
    """The value."""
    CALLS.append("forward")
    return params.size * x * x


def bowl_backward(params: Bowl, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Bowl]:
    """The gradients."""
    CALLS.append("backward")
    return 2 * params.size * x * g, Bowl(sum_rows(x * x * g))


fn.register_layer(Bowl, forward=bowl_forward, backward=bowl_backward, name="tests.ReplayedBowl")


def test_a_replay_runs_no_function_of_the_network() -> None:
    """Two plain steps, of which one is traced, and one that is compared; after that, none."""
    net = (fn.dense(KEY, 4, 4, dtype=np.float64), Bowl(np.ones(4)), fn.dense(KEY, 4, 3, dtype=np.float64))
    step = fn.sgd_step(SOFTMAX, learning_rate=0.01)
    counts: list[int] = []
    for rows in (28, 70):
        fn.keep_programs()
        CALLS.clear()
        fn.train_epoch(step, net, data(rows))
        counts.append(len(CALLS))
    assert counts == [2 * 4] * 2
    CALLS.clear()
    fn.train_epoch(step, net, data(70))
    assert len(CALLS) == 2
    check_fold(step, net, data(28))


# ------------------------------------------------------------------------------------------------ errors


def with_labels(batches: Sequence[Any], place: int, label: int) -> list[Any]:
    """The batches, with this label in one."""
    made = list(batches)
    y = made[place].y.copy()
    y[2] = label
    made[place] = evolve(made[place], y=y)
    return made


def with_number(batches: Sequence[Any], place: int, number: float) -> list[Any]:
    """The batches, with this number in the inputs of one."""
    made = list(batches)
    x = made[place].x.copy()
    x[2, 1] = number
    made[place] = evolve(made[place], x=x)
    return made


FAR: Final = fn.sgd_step(SOFTMAX, learning_rate=1e30)
# fmt: off
ERRORS: Final[dict[str, tuple[Any, Sequence[Any], Name, str]]] = {
    "a label that is too large": (None, with_labels(data(56), 5, 3), "native", "LabelError"),
    "a label below 0": (None, with_labels(data(56), 5, -1), "native", "LabelError"),
    "a label, with kept programs, in the first batch": (None, with_labels(data(56), 0, 3), "native", "LabelError"),
    "an infinite input": (None, with_number(data(56), 5, math.inf), "native", "NonFiniteError"),
    "no number": (None, with_number(data(56), 5, math.nan), "native", "NonFiniteError"),
    "a rate that is too high": (FAR, data(56), "native", "NonFiniteError"),
    "a portable rate that is too high": (FAR, data(56, dtype=np.float32), "portable", "NonFiniteError"),
    "a portable infinite input":
        (None, with_number(data(56, dtype=np.float32), 5, math.inf), "portable", "NonFiniteError"),
    "an input of another width": (None, [*data(49), *data(7, 5)], "native", "ShapeError"),
    "something else than a batch": (None, [*data(49), "batch"], "native", "ConfigError"),
    "no row": (None, [*data(49), fn.Batch(np.ones((0, 4)), LABELS[:0])], "native", "ConfigError"),
}
# fmt: on


@pytest.mark.slow
@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    """In the middle of an epoch: of the same class, with the same text, for the same layer and step."""
    step, batches, arithmetic, error = ERRORS[name]
    dtype = batches[0].x.dtype.type
    net = classifier((square(0), fn.Tanh(), square(1)), dtype)
    with using(arithmetic):
        if step is None:
            check_fold(fn.train_step(SOFTMAX), run_of(net), batches, error=error)
        else:
            check_fold(step, net, batches, error=error)


def unstable(state: Any, _: Any) -> tuple[Any, float]:
    """A step of a user whose loss is no number after a while."""
    w, n = state
    return (w * 0.9, n + 1), (w.sum() * (math.inf if n > 4 else 1.0)).item()


def raising(state: Any, batch: Any) -> tuple[Any, float]:
    """A step that raises an error of its own after a while."""
    w, n = state
    w = w * 0.9 + batch.x[0]
    if n == 5:
        raise RuntimeError(f"enough after {n}")
    return (w, n + 1), 1.0


@pytest.mark.parametrize(("step", "error"), [(unstable, "NonFinite"), (raising, "RuntimeError: enough after 5")])
def test_errors_of_users_steps(step: Any, error: str) -> None:
    """The plain function raises them."""
    wanted = ended(plain, step, (np.ones(4), 0), data(56)) if step is raising else None
    for _ in range(2):
        got = ended(folded, step, (np.ones(4), 0), data(56))
        assert got.error.startswith(error)
        assert wanted is None or got == wanted


def test_the_programs_outlive_an_error() -> None:
    """Of a step, of the batches, or of somebody who stops the run: the next fold is right, and still replayed."""
    step, state, batches = fn.train_step(SOFTMAX), run_of(classifier(())), data(56)
    wanted = ended(plain, step, state, batches)

    def broken(error: BaseException) -> Iterator[Any]:
        yield from batches[:5]
        raise error

    for error in (RuntimeError("batches"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fn.train_epoch(step, state, broken(error))
        with counted_replays() as replays:
            assert ended(folded, step, state, batches) == wanted
        assert sum(replays) == 8


def test_a_replay_that_is_stopped_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """KeyboardInterrupt in the middle of a program."""
    step, state, batches = fn.train_step(SOFTMAX), run_of(classifier(())), data(56)
    wanted = ended(plain, step, state, batches)
    run = Trace.run

    def stopped(self: Trace, leaves: Sequence[Any]) -> Any:
        run(self, leaves)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trace, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        fn.train_epoch(step, state, batches)
    monkeypatch.setattr(Trace, "run", run)
    assert ended(folded, step, state, batches) == wanted


# -------------------------------------------------------------------------------- value_and_grad's programs


@pytest.mark.slow
@pytest.mark.parametrize("arithmetic", ["native", "portable"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_value_and_grad_replays(case: Case, arithmetic: Name) -> None:
    """The bits of the plain function in each call, for each layer; results are locked, arguments unchanged."""
    dtype = np.float32 if arithmetic == "portable" else np.float64
    net = with_classes(case, dtype)
    xs: list[fn.Array] = [case.draw(KEY.child("x", number), 7, dtype) for number in range(7)]
    with using(arithmetic), counted_replays() as replays:
        before = bits((net, tuple(xs)))
        for x in xs:
            wanted = loss_and_grad(net, x, LABELS[:7], SOFTMAX)
            got = fn.value_and_grad(net, x, LABELS[:7], SOFTMAX)
            assert bits(got) == bits(wanted)
            assert not any(leaf.flags.writeable for leaf in arrays_of(got[1]))
        assert bits((net, tuple(xs))) == before
    assert replays == [True] * 3


def test_results_never_share_memory() -> None:
    """Not with later results, not with arguments, not with what a program computes on."""
    net, (x, y) = classifier((fn.Tanh(), square(0))), (inputs(KEY, 7, 4), LABELS[:7])
    kept = [fn.value_and_grad(net, x * scale, y, SOFTMAX)[1] for scale in np.linspace(0.5, 2, 12)]
    copies = [[leaf.copy() for leaf in leaves_of(grads)] for grads in kept]
    fn.value_and_grad(net, x * 9, y, SOFTMAX)
    arrays = [leaf for grads in kept for leaf in leaves_of(grads)]
    assert all(np.array_equal(a, b) for a, b in zip(arrays, [c for each in copies for c in each], strict=True))
    owners = [a if a.base is None else a.base for a in arrays]
    assert len({id(owner) for owner in owners}) == len(arrays)
    assert not any(np.may_share_memory(a, leaf) for a in arrays for leaf in (x, *leaves_of(net)))


def test_errors_of_value_and_grad() -> None:
    """Those of the plain function, whatever program there is."""
    net, x = classifier((square(0),)), inputs(KEY, 7, 4)
    for _ in range(6):
        fn.value_and_grad(net, x, LABELS[:7], SOFTMAX)
    for bad, y in ((x, LABELS[:7] + 1), (x * math.inf, LABELS[:7])):
        with pytest.raises(fn.FuncnetError) as wanted, np.errstate(all="ignore"):
            loss_and_grad(net, bad, y, SOFTMAX)
        with pytest.raises(type(wanted.value), match=re.escape(str(wanted.value))):
            fn.value_and_grad(net, bad, y, SOFTMAX)


THREADS: Final = 4


def at_once(job: Callable[[int], Any]) -> list[Any]:
    """A job in some threads that begin together and are switched between often."""
    begin, interval = Barrier(THREADS), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(THREADS, initializer=meet, initargs=(begin,)) as executor:
            return list(executor.map(job, range(THREADS)))
    finally:
        sys.setswitchinterval(interval)


def test_threads_fold_with_programs_of_their_own() -> None:
    """One step, one state, different batches, at the same time."""
    step, state = fn.train_step(SOFTMAX), run_of(classifier((square(0), fn.Dropout(0.4))), "Adam")
    batches = [fn.minibatches(inputs(KEY.child(i), 70, 4), LABELS[np.arange(70) % 35], 7) for i in range(THREADS)]
    wanted = [ended(plain, step, state, each) for each in batches]
    for _ in range(3):
        assert at_once(lambda i: ended(folded, step, state, batches[i])) == wanted


def test_threads_differentiate_with_programs_of_their_own() -> None:
    """One network, different inputs, many calls at the same time."""
    net = classifier((square(0), fn.Tanh()))
    xs = [inputs(KEY.child(i), 7, 4) for i in range(THREADS)]
    wanted = [bits(loss_and_grad(net, x, LABELS[:7], SOFTMAX)) for x in xs]

    def job(i: int) -> bool:
        return all(bits(fn.value_and_grad(net, xs[i], LABELS[:7], SOFTMAX)) == wanted[i] for _ in range(60))

    assert at_once(job) == [True] * THREADS


# ------------------------------------------------------------------------------------------------- bounds


def replays_of(step: Any, state: Any, batches: Sequence[Any]) -> int:
    """How many steps of a fold are replayed."""
    with counted_replays() as replays:
        fn.train_epoch(step, state, batches)
    return sum(replays)


def test_programs_are_kept_up_to_a_number() -> None:
    """The ones used last."""
    state, batches = classifier(()), data(28)
    steps = [fn.sgd_step(SOFTMAX, learning_rate=rate) for rate in (0.1, 0.2, 0.3)]
    fn.keep_programs(programs=2)
    assert [replays_of(step, state, batches) for step in steps] == [2, 2, 2]
    assert [replays_of(step, state, batches) for step in reversed(steps)] == [4, 4, 2]


def test_programs_are_kept_up_to_a_size() -> None:
    """What is larger is freed with its fold."""
    step, state, batches = fn.sgd_step(SOFTMAX, learning_rate=0.1), classifier(()), data(28)
    nbytes = fn.program(step, state, batches[0]).nbytes
    for size, replays in ((nbytes, 4), (nbytes - 1, 2)):
        fn.keep_programs(nbytes=size)
        assert replays_of(step, state, batches) == 2
        assert replays_of(step, state, batches) == replays


def test_with_no_programs_every_step_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is traced."""
    monkeypatch.setattr(Trace, "__init__", None)
    fn.keep_programs(programs=0)
    step, state, batches = fn.train_step(SOFTMAX), run_of(classifier(())), data(56)
    assert ended(folded, step, state, batches) == ended(plain, step, state, batches)
    for _ in range(6):
        fn.value_and_grad(state.params, batches[0].x, batches[0].y, SOFTMAX)


@pytest.mark.parametrize("name", ["programs", "nbytes"])
@pytest.mark.parametrize("value", [-1, 1.5, True, "2"])
def test_wrong_limits_are_refused(name: str, value: object) -> None:
    """By name."""
    with pytest.raises(fn.ConfigError, match=f"^keep_programs: {name} must be an int of at least 0, got "):
        fn.keep_programs(**cast("Any", {name: value}))


@pytest.mark.slow
def test_forgotten_programs_are_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that belongs to them, and what was traced is freed before."""
    made: list[weakref.ref[Trace]] = []
    traced: list[weakref.ref[Any]] = []
    init = Trace.__init__

    def remember(self: Trace, *args: Any) -> None:
        init(self, *args)
        made.append(weakref.ref(self))
        traced.extend(map(weakref.ref, arrays_of(args[1:3])))

    monkeypatch.setattr(Trace, "__init__", remember)
    fn.train_epoch(fn.train_step(SOFTMAX), run_of(fn.astype(classifier(()), np.float64)), list(data(28)))
    gc.collect()
    assert [each() is None for each in made] == [False]
    assert traced
    assert all(each() is None for each in traced)
    fn.keep_programs()
    gc.collect()
    assert [each() is None for each in made] == [True]


@pytest.mark.slow
def test_a_kept_program_holds_its_buffers_and_little_else() -> None:
    """No array of the trace: what stays in memory is what the program says it has."""
    net = fn.mlp(KEY, (300, 200, 3))
    batches = fn.minibatches(inputs(KEY, 512, 300, dtype=np.float32), np.arange(512) % 3, 128)
    step = fn.sgd_step(SOFTMAX, learning_rate=0.1)
    nbytes = fn.program(step, net, batches[0]).nbytes
    gc.collect()
    tracemalloc.start()
    fn.train_epoch(step, net, batches)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert nbytes <= held <= nbytes + 200_000


def test_a_trace_grows_with_the_network_and_not_faster() -> None:
    """Each layer adds as many calls as the one before it, but for the update, which all share."""
    counts: list[int] = []
    for depth in (2, 4, 6):
        net = (*(layer for i in range(depth) for layer in (square(i), fn.ReLU())), classifier(())[1])
        state = run_of(net, "Adam")
        counts.append(fn.program(fn.train_step(SOFTMAX), state, data(7)[0]).calls)
    assert counts[1] - counts[0] == counts[2] - counts[1] == 2 * 9


# -------------------------------------------------------------------------------- what a user sees and keeps


def test_what_a_user_keeps_never_changes() -> None:
    """A layer and a loss that keep what passes by keep it as it was: they are given copies, not buffers."""
    kept: list[tuple[Any, bytes]] = []

    def keep(*arrays: Any) -> None:
        kept.extend((array, array.tobytes()) for array in arrays)

    @frozen(eq=False)
    class Spy(fn.Layer):
        scale: fn.Array

    def forward(params: Spy, x: fn.Array) -> fn.Array:
        keep(x, params.scale)
        return x * params.scale

    def backward(params: Spy, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Spy]:
        keep(x, g, params.scale)
        return g * params.scale, Spy(sum_rows(x * g))

    def loss(prediction: fn.Array, target: Any) -> tuple[float, fn.Array]:
        keep(prediction)
        return fn.softmax_cross_entropy(prediction, target)

    fn.register_layer(Spy, forward=forward, backward=backward, name="tests.ReplaySpy")
    net = (square(0), Spy(np.ones(4)), fn.dense(KEY, 4, 3, dtype=np.float64))
    check_fold(fn.sgd_step(loss, learning_rate=0.1), net, data(56), opaque="pickled|tobytes")
    assert len(kept) > 6 * 6
    assert all(array.tobytes() == then for array, then in kept)


def test_states_between_epochs_never_change() -> None:
    """Each epoch's state is a value of its own."""
    step, states = fn.train_step(SOFTMAX), [run_of(classifier((square(0),)), "Adam")]
    seen: list[Any] = []
    for _ in range(5):
        states.append(fn.train_epoch(step, states[-1], data(28))[0])
        seen.append(bits(tuple(states)))
    assert bits(tuple(states[:-1])) == seen[-2]


# ------------------------------------------------------------------------------------------- what it costs


SIZES, BATCH = (784, 100, 200, 10), 32
PARAMETERS = sum(i * o + o for i, o in pairwise(SIZES))


def post_network() -> tuple[fn.Network, Minibatches[Any]]:
    """The post's network and 20 batches."""
    x = inputs(KEY, 20 * BATCH, SIZES[0], dtype=np.float32)
    return fn.mlp(KEY, SIZES), fn.minibatches(x, np.arange(len(x)) % 10, BATCH)


def test_a_step_takes_eight_products() -> None:
    """Three forward, three for the weights, two for the inputs, and the sums for the biases; one exp, one log."""
    net, batches = post_network()
    report = fn.program(fn.sgd_step(SOFTMAX, learning_rate=0.1), net, batches[0])
    lines = [line.strip() for line in report.source.splitlines()]
    products = [line for line in lines if re.match(r"dot\(|np\.matmul\(", line)]
    sums = [line for line in products if re.match(r"dot\(k\d+, ", line)]
    assert len(products) - len(sums) == 8
    assert len(sums) == 3
    assert [sum(line.startswith(f"np.{name}(") for line in lines) for name in ("exp", "log")] == [1, 1]
    assert report.calls <= 39


PER_ARRAY: Final = ("Lion", "WeightDecay of Lion", "ClipByGlobalNorm", "all around AdamW", "all around NAdam")
"""A norm is a sum over each array. Of two formulas that share arrays, such as those of Lion, one is fused."""


@pytest.mark.slow
def test_an_update_costs_the_same_for_any_number_of_layers() -> None:
    """One call for all parameters and moments."""
    nets = [tuple(square(i) for i in range(depth)) for depth in (2, 3)]
    batch = fn.Batch(inputs(KEY, 7, 4), TARGETS[:7])
    without = [fn.program(fn.sgd_step(half_square, learning_rate=0.1), net, batch).calls for net in nets]
    for name in OPTIMIZERS:
        if name in PER_ARRAY:
            continue
        states = [fn.train_epoch(fn.train_step(half_square), run_of(net, name), [batch] * 3)[0] for net in nets]
        calls = [fn.program(fn.train_step(half_square), state, batch).calls for state in states]
        assert calls[0] - without[0] == calls[1] - without[1], name


def test_a_fold_makes_its_buffers_once() -> None:
    """The traced peak of an epoch does not grow with its steps: a few networks of memory, and the batches' own."""
    net, batches = post_network()
    step = fn.sgd_step(SOFTMAX, learning_rate=0.1)
    fn.train_epoch(step, net, batches)
    peaks: list[int] = []
    for part in (batches[:4], batches):
        tracemalloc.start()
        fn.train_epoch(step, net, part)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] <= 5 * 4 * PARAMETERS + 65_536 * 4
    assert peaks[1] <= peaks[0] + 65_536


@pytest.mark.skipif(sys.platform != "linux", reason="minor page faults are counted on Linux")
def test_a_step_takes_few_page_faults() -> None:
    """A fold touches memory that it has: under five new pages a step, where fresh arrays would take two hundred."""
    resource: Any = pytest.importorskip("resource", reason="the system does not count page faults")
    net, batches = post_network()
    step = fn.sgd_step(SOFTMAX, learning_rate=0.1)
    fn.train_epoch(step, net, batches)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        net, _log = fn.train_epoch(step, net, batches)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults / (5 * len(batches)) < 5


def descent(net: fn.Network, batch: Any) -> tuple[fn.Network, float]:
    """A step with a loss that computes nothing of its own, in whatever form the layers are."""
    loss, grads = fn.value_and_grad(net, batch.x, batch.y, lambda prediction, _: (1.0, np.ones_like(prediction)))
    return fn.sgd_update(net, grads, learning_rate=0.5), loss


WIDE: Final = re.compile("GELU|BatchNorm .*in training")
"""Layers that compute in float64: the error function, and what remains of a batch's mean. Layers of ids do, too."""


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_layer_of_float32_makes_arrays_of_float32(case: Case) -> None:
    """Buffers and what is computed with: float64, or ints, would take NumPy longer to the same bits."""
    net: fn.Network = with_classes(case, np.float32)
    report = fn.program(descent, net, fn.Batch(case.x(7, np.float32), np.zeros((7, 3), np.float32)))
    dtypes = set(re.findall(r"'[<|]([fiu]\d)'", report.source))
    wide = {"f8", "i8", "u8"} if case.ids else {"f8", "i8"} if WIDE.fullmatch(case.name) else set[str]()
    assert dtypes <= {"f4"} | wide
