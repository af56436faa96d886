"""Law 9: a replay is the fold. The bits and the errors of the for loop, whatever is folded; what a replay costs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
import pytest
from networks import CASES, Case, inputs, width
from optimizers import OPTIMIZERS

import funcnet as fn
from funcnet.arithmetic import Name, using
from funcnet.data import Minibatches
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
    return [
        (f"{leaf.dtype} {leaf.shape}", leaf.tobytes())
        if isinstance(leaf, np.ndarray)
        else (type(leaf).__name__, repr(leaf))
        for leaf in leaves_of(tree)
    ]


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
    assert not any(isinstance(leaf, np.ndarray) and leaf.flags.writeable for leaf in leaves_of(state))
    return state, log.losses.tolist()


@contextmanager
def counted_replays() -> Generator[list[bool]]:
    """One truth for each time that a program ran: whether it ran to its end."""
    runs: list[bool] = []
    run = Trace.run

    def count(self: Trace, leaves: Sequence[Any]) -> Any:
        done = run(self, leaves)
        runs.append(done is not None)
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trace, "run", count)
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

    Args:
        step: The step.
        state: Where both begin; unchanged afterwards.
        batches: What both go over.
        opaque: What of the step is not traced, in words; None for whatever.
        fewer: How many steps beside the first two of each shape may be plain ones.
        error: How the error begins that both end in; None for no error, and all steps replayed.
    """
    before = bits((state, tuple(batches)))
    wanted = ended(plain, step, state, batches)
    assert wanted.error.startswith(error or "") and bool(wanted.error) == (error is not None), wanted.error  # noqa: PT018
    sizes = [str(bits(batch)[0][0]) for batch in batches]
    expected = [sum(max(sizes.count(size) - 2, 0) for size in set(sizes)), 0]
    expected[1] = sum(sizes.count(size) for size in set(sizes) if sizes.count(size) > 1)
    fn.keep_programs()
    for count in expected:
        with counted_replays() as replays:
            assert ended(folded, step, state, batches) == wanted
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
    return fn.cast((net, fn.dense(KEY.child("last"), width(net, 4), 3, dtype=np.float64)), dtype)


def run_of(net: fn.Network, optimizer: str = "Momentum") -> Any:
    """The state before the first step."""
    return fn.TrainState.create(net, OPTIMIZERS[optimizer], key=KEY)


FEW: Final = {"Accumulation": 3, "Averaging": 1, "all around AdamW": 3}
"""Optimizers that compute another thing in some steps, so that more than one program is made."""


@pytest.mark.parametrize(
    ("name", "dtype", "arithmetic"),
    [
        ("SGD", np.float64, "native"),
        ("AdamW", np.float32, "native"),
        ("Momentum", np.float32, "portable"),
    ],
)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_layer(case: Case, name: str, dtype: fn.FloatDType, arithmetic: Name) -> None:
    """First in a network, and behind a trained layer, where its input's gradient counts."""
    features = math.prod(case.shape)
    front = (fn.dense(KEY.child("front"), 4, features, dtype=np.float64), fn.Reshape(case.shape))
    inner = (case.layer(), fn.Flatten())
    out = fn.forward(inner, case.x(1)).shape[1]
    net = fn.cast((inner, fn.dense(KEY.child("last"), out, 3, dtype=np.float64)), dtype)
    with using(arithmetic):
        first = fn.minibatches(case.x(28, dtype), LABELS[:28], 7, key=KEY.child("order"))
        check_fold(fn.train_step(SOFTMAX), run_of(net, name), first)
        if name == "SGD":
            check_fold(fn.train_step(SOFTMAX), run_of((front, net), name), data(28))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name: str, dtype: fn.FloatDType) -> None:
    """Weights decay and biases do not; over two epochs, the second from the middle of a run."""
    net = (
        fn.dense(KEY, 4, 5, dtype=np.float64),
        fn.Tanh(),
        fn.Residual(fn.dense(KEY.child(1), 5, 5, dtype=np.float64)),
    )
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
