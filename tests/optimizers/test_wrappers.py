"""Wrappers of optimizers: every pair by hand, large batches in parts, parts that count for nothing, large numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import numpy as np
import pytest
from networks import inputs

import funcnet as fn
from funcnet.core.arrays import Array
from funcnet.optimizers import Optimizer

KEY: Final = fn.Key(18)
SGD: Final = fn.SGD(learning_rate=0.1)
SCHEDULE: Final = fn.exponential_decay(0.1, gamma=0.7)
INNER: Final = fn.Momentum(learning_rate=SCHEDULE, momentum=0.5)
WRAPPERS: Final[dict[str, Callable[[Optimizer], Optimizer]]] = {
    "ClipByValue": lambda inner: fn.ClipByValue(inner, limit=0.8),
    "ClipByGlobalNorm": lambda inner: fn.ClipByGlobalNorm(inner, max_norm=1.1),
    "WeightDecay": lambda inner: fn.WeightDecay(inner, weight_decay=0.3),
    "coupled WeightDecay": lambda inner: fn.WeightDecay(inner, weight_decay=0.3, coupled=True),
    "Accumulation": lambda inner: fn.Accumulation(inner, steps=3),
    "Averaging": lambda inner: fn.Averaging(inner, decay=0.6),
}
GRADIENTS: Final = [(1.0, -0.5), (-2.0, 0.3), (0.4, 1.7), (0.9, 0.9), (-0.2, -1.5), (3.0, 0.1), (0.5, 0.6)]
TOTALS: Final = [4.0, 1.0, 0.0, 2.0, 2.5, 3.0, 4.0]
REFUSED: Final = {
    (
        "WeightDecay",
        "Accumulation",
    ): "^WeightDecay: put WeightDecay inside Accumulation; outside, it would decay in steps",
    (
        "Accumulation",
        "Accumulation",
    ): "^Accumulation: the inner optimizer must not .*; use one Accumulation with steps=9$",
}

Pair: TypeAlias = "list[float]"
ByHand: TypeAlias = "Callable[[Pair, Pair, float], tuple[Pair, bool]]"
"""``(parameters, gradient, total) -> (parameters, whether this was an update)``, with a state of its own."""


def by_hand(optimizer: Any, averages: list[Pair]) -> ByHand:
    """Return an optimizer in Python's floats that appends its averages, the outermost last."""
    if isinstance(optimizer, fn.Momentum):
        return momentum()
    inner = by_hand(optimizer.optimizer, averages)
    match optimizer:
        case fn.ClipByValue():
            return lambda p, g, t: inner(p, [min(max(x, -optimizer.limit), optimizer.limit) for x in g], t)
        case fn.ClipByGlobalNorm():
            most = optimizer.max_norm  # PyTorch adds 1e-6 to the norm
            return lambda p, g, t: inner(p, [x * min(1.0, most / (math.hypot(*g) + 1e-6)) for x in g], t)
        case fn.WeightDecay():
            return decay(inner, optimizer.weight_decay, coupled=optimizer.coupled)
        case fn.Accumulation():
            return accumulation(inner, optimizer.steps)
        case _:
            return averaging(inner, optimizer.decay, averages)


def momentum() -> ByHand:
    """``INNER`` by hand."""
    velocity, updates = [0.0, 0.0], 0

    def step(p: Pair, g: Pair, _: float) -> tuple[Pair, bool]:
        nonlocal velocity, updates
        velocity = [0.5 * v + x for v, x in zip(velocity, g, strict=True)]
        rate, updates = 0.1 * 0.7**updates, updates + 1
        return [a - rate * v for a, v in zip(p, velocity, strict=True)], True

    return step


def decay(inner: ByHand, weight_decay: float, *, coupled: bool) -> ByHand:
    """Weight decay by hand: only the first number is a weight."""
    updates = 0

    def step(p: Pair, g: Pair, total: float) -> tuple[Pair, bool]:
        nonlocal updates
        if coupled:
            return inner(p, [g[0] + weight_decay * p[0], g[1]], total)
        rate, updates = 0.1 * 0.7**updates, updates + 1
        return inner([p[0] * (1 - rate * weight_decay), p[1]], g, total)

    return step


def accumulation(inner: ByHand, steps: int) -> ByHand:
    """Accumulation by hand: the mean over all parts, each by its total."""
    parts: list[tuple[Pair, float]] = []

    def step(p: Pair, g: Pair, total: float) -> tuple[Pair, bool]:
        parts.append((g, total))
        if len(parts) < steps:
            return p, False
        whole = sum(t for _, t in parts)
        mean = [sum(x[i] * t for x, t in parts) / whole for i in (0, 1)]
        parts.clear()
        return inner(p, mean, whole)

    return step


def averaging(inner: ByHand, decay: float, averages: list[Pair]) -> ByHand:
    """Averaging by hand: an average of the parameters after each update."""
    average: Pair = []

    def step(p: Pair, g: Pair, total: float) -> tuple[Pair, bool]:
        nonlocal average
        p, is_update = inner(p, g, total)
        if is_update:
            average = [a + (1 - decay) * (b - a) for a, b in zip(average, p, strict=True)] if average else p
            averages.append(average)
        return p, is_update

    return step


@pytest.mark.parametrize(("outer", "inner"), list(product(WRAPPERS, WRAPPERS)))
def test_every_pair_of_wrappers_is_right_or_refused(outer: str, inner: str) -> None:
    """Uneven parts, one of which counts for nothing: parameters and averages are those by hand."""
    if (outer, inner) in REFUSED:
        with pytest.raises(fn.ConfigError, match=REFUSED[outer, inner]):
            WRAPPERS[outer](WRAPPERS[inner](INNER))
        return
    optimizer: Any = WRAPPERS[outer](WRAPPERS[inner](INNER))
    averages: list[Pair] = []
    step, expected = by_hand(optimizer, averages), [1.0, -1.0]
    net = record(*expected)
    moments = optimizer.init(net)
    for number, (gradient, total) in enumerate(zip(GRADIENTS, TOTALS, strict=True)):
        given = () if total == 1.0 else (total,)  # the default
        net, moments = optimizer.update(net, record(*gradient), moments, number, *given)
        expected, _ = step(expected, list(gradient), total)
        assert [net.weight.item(), net.bias.item()] == pytest.approx(expected, abs=1e-14)
    if averages:
        average: Any = fn.averaged(fn.TrainState(net, optimizer, moments, 7, KEY))
        assert [average.weight.item(), average.bias.item()] == pytest.approx(averages[-1], abs=1e-14)


def test_moments_show_their_names_networks_and_total() -> None:
    """The text has the total only where there is one. Messages about names begin with Moments."""
    layer = "Dense(weight=float64 (1, 1), bias=float64 (1,))"
    moments = fn.Accumulation(INNER, steps=2).init(record(1.0, 2.0))
    assert repr(moments) == f"Moments(sum={layer}, inner.velocity={layer}, total=0.0)"
    assert repr(INNER.init(record(1.0, 2.0))) == f"Moments(velocity={layer})"
    with pytest.raises(fn.StructureError, match=r"^Moments: there is no moment 'mean'; the names are \('sum', 'inner"):
        _ = moments["mean"]
    with pytest.raises(
        fn.StructureError, match=r"^Moments: there must be a name for each network, got \('a',\) and \(\)$"
    ):
        fn.Moments(("a",), ())
    with pytest.raises(fn.ConfigError, match=r"^WeightDecay: the optimizer must have a learning rate, got Unrated\(\)"):
        fn.WeightDecay(Unrated(), weight_decay=0.1)


@attrs.frozen
class Unrated:
    """An optimizer without a learning rate."""

    def init(self, _: Any, /) -> fn.Moments[Any]:
        """Return no moments."""
        return fn.Moments.of()

    def update(self, params: Any, _: Any, moments: fn.Moments[Any], __: int, /) -> tuple[Any, fn.Moments[Any]]:
        """Change nothing."""
        return params, moments


def record(weight: float, bias: float) -> fn.Dense:
    """Return a layer with two numbers."""
    return fn.Dense(weight=np.array([[weight]]), bias=np.array([bias]))


# ------------------------------------------------------------------------------------------- batches in parts

X: Final = inputs(KEY.child("x"), 12, 3, dtype=np.float64)
LABELS: Final = np.arange(12) % 4
WEIGHT: Final = np.array([0, 0, 0, 0, 0, 2.0, 1.0, 0.5, 3.0, 0, 1.0, 1.0])
LOSSES: Final[dict[str, tuple[Any, Any]]] = {
    "mean_squared_error": (fn.mean_squared_error, inputs(KEY.child("y"), 12, 4, dtype=np.float64)),
    "SoftmaxCrossEntropy": (fn.SoftmaxCrossEntropy(class_weight=(1.0, 2.0, 0.0, 3.0)), LABELS),
}


def run(optimizer: Optimizer, loss: Any, batches: Any) -> tuple[fn.TrainState[Any], fn.EpochLog]:
    """Train a small network on batches."""
    net = fn.mlp(KEY.child("net"), (3, 5, 4), dtype=np.float64)
    return fn.train_epoch(fn.train_step(loss), fn.TrainState.create(net, optimizer, key=KEY), batches)


def close(a: Any, b: Any) -> bool:
    """Whether the parameters of two states agree to rounding."""
    pairs = zip(fn.trained_arrays(a.params), fn.trained_arrays(b.params), strict=True)
    return all(np.allclose(x, y, rtol=1e-12, atol=1e-14) for x, y in pairs)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["rows", "weights"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "inner", [SGD, fn.AdamW(learning_rate=0.01), fn.ClipByGlobalNorm(INNER, max_norm=0.1)], ids=repr
)
def test_uneven_parts_equal_the_large_batch(inner: Optimizer, loss: str, weight: Array | None) -> None:
    """Parts of 5, 5 and 2 rows; the first has only weights of 0. The last window waits for ``flushed``."""
    function, y = LOSSES[loss]
    whole, log = run(inner, function, fn.minibatches(X, y, 12, weight=weight))
    parts, logs = run(fn.Accumulation(inner, steps=3), function, fn.minibatches(X, y, 5, weight=weight))
    assert close(parts, whole)
    assert parts.step == 3
    assert logs.mean_loss == pytest.approx(log.mean_loss, rel=1e-12)
    waiting, _ = run(fn.Accumulation(inner, steps=4), function, fn.minibatches(X, y, 5, weight=weight))
    assert not close(waiting, whole)
    assert close(fn.flushed(waiting), whole)
    assert fn.flushed(waiting).step == 4
    assert fn.flushed(whole) is whole


@pytest.mark.parametrize("optimizer", [SGD, fn.Adam(learning_rate=0.01)], ids=repr)
def test_a_batch_whose_total_is_0_counts_for_nothing(optimizer: Optimizer) -> None:
    """The run has the bits of the run without the batch, and so has the step of plain gradient descent."""
    batches = list(fn.minibatches(X, LABELS, 3, weight=np.array([1.0, 2, 3, 0, 0, 0, 1, 0, 0, 1, 1, 1])))
    for loss in (fn.softmax_cross_entropy, fn.SoftmaxCrossEntropy(label_smoothing=0.1)):
        state, log = run(optimizer, loss, batches * 3)
        without, shorter = run(optimizer, loss, [batches[i] for i in (0, 2, 3)] * 3)
        assert fn.fingerprint(state) == fn.fingerprint(without)
        assert log.totals.tolist() == [6.0, 0.0, 1.0, 3.0] * 3
        assert log.mean_loss == pytest.approx(shorter.mean_loss, rel=1e-15)
        net, step = fn.mlp(KEY, (3, 4), dtype=np.float64), fn.sgd_step(loss, learning_rate=0.1)
        assert step(net, batches[1]) == (net, 0.0)
    log = run(SGD, fn.softmax_cross_entropy, batches[1:2])[1]
    with pytest.raises(fn.ConfigError, match=r"^EpochLog: the totals must not all be 0"):
        _ = log.mean_loss


def test_a_custom_step_may_have_a_total() -> None:
    """Without a method ``total``, each step counts once."""

    def step(state: int, batch: float) -> tuple[int, float]:
        return state + 1, batch

    @attrs.frozen
    class Step:
        def __call__(self, state: int, batch: float) -> tuple[int, float]:
            return state + 1, batch

        def total(self, batch: float) -> float:
            return 1.0 if batch == 2.0 else 3.0

    assert fn.train_epoch(step, 0, [2.0, 4.0])[1].mean_loss == 3.0
    assert fn.train_epoch(Step(), 0, [2.0, 4.0])[1].mean_loss == 3.5
    assert fn.EpochLog(np.array([2.0, 4.0])).mean_loss == 3.0


def test_a_window_without_totals_counts_its_parts_equally(tmp_path: Path) -> None:
    """Files of version 0.1 have no total: a window that began there ends as it would have ended there."""
    optimizer = fn.Accumulation(SGD, steps=3)
    net = record(0.0, 0.0)
    moments: Any = attrs.evolve(optimizer.init(net), total=None)
    for number, (weight, total) in enumerate([(1.0, 5.0), (2.0, 1.0)]):
        net, moments = optimizer.update(net, record(weight, 0.0), moments, number, total)
    fn.save(tmp_path / "run", fn.TrainState(net, optimizer, moments, 2, KEY))
    loaded: Any = fn.load(tmp_path / "run")
    assert loaded.moments.total is None
    after = loaded.apply(record(6.0, 0.0), 9.0)
    assert after.params.weight.item() == pytest.approx(-0.1 * (1 + 2 + 6) / 3)
    assert after.moments.total == 0.0


def test_a_run_resumes_within_a_window(tmp_path: Path) -> None:
    """The total is a part of the state, in files and fingerprints."""
    optimizer, batches = fn.Averaging(fn.Accumulation(SGD, steps=3)), list(fn.minibatches(X, LABELS, 5))
    whole, _ = run(optimizer, fn.softmax_cross_entropy, batches)
    state, _ = run(optimizer, fn.softmax_cross_entropy, batches[:2])
    fn.save(tmp_path / "run", state)
    loaded: Any = fn.load(tmp_path / "run", like=state)
    assert loaded.moments.total == 10.0
    assert fn.fingerprint(loaded) == fn.fingerprint(state)
    resumed, _ = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), loaded, batches[2:])
    assert fn.fingerprint(resumed) == fn.fingerprint(whole)
    lost = attrs.evolve(state, moments=attrs.evolve(state.moments, total=9.0))
    assert fn.fingerprint(lost) != fn.fingerprint(state)


# ------------------------------------------------------------------------------------------ numbers too large


@pytest.mark.parametrize("kind", [fn.Adam, fn.AdamW, fn.RMSprop, fn.Adagrad])
def test_an_infinite_moment_is_refused(kind: Any) -> None:
    """A square above float32's range ends the epoch with an error, also in the state of a custom step."""
    net = fn.Dense(weight=np.zeros((1, 1), np.float32), bias=np.zeros(1, np.float32))
    batch = fn.Batch(np.array([[1e10]], np.float32), np.array([[1e10]], np.float32))
    state = fn.TrainState.create(net, kind(learning_rate=0.1), key=KEY)
    step = fn.train_step(fn.mean_squared_error)
    with pytest.raises(
        fn.NonFiniteError, match=r"step 2: moments\.squares?\.weight must be finite, .*gradients may be"
    ):
        fn.train_epoch(step, state, [batch] * 3)

    def both(pair: Any, batch: Any) -> tuple[Any, float]:
        first, loss = step(pair[0], batch)
        return (first, pair[1]), loss

    with pytest.raises(fn.NonFiniteError, match=r"step 0: 0\.moments\.squares?\.weight must be finite"):
        fn.train_epoch(both, (state, state), [batch])
    wide = fn.TrainState.create(fn.astype(net, np.float64), kind(learning_rate=0.1), key=KEY)
    batch64 = fn.Batch(batch.x.astype(np.float64), batch.y.astype(np.float64))
    weight = fn.train_epoch(step, wide, [batch64] * 3)[0].params.weight.item()
    assert 0.1 < weight < 1.2


@pytest.mark.parametrize("kind", [fn.Adam, fn.AdamW, fn.RMSprop, fn.Adagrad])
def test_a_divisor_must_not_round_to_0(kind: Any) -> None:
    """The smallest float32 is accepted: a gradient of 0 leaves the parameters as they are."""
    net = fn.Dense(weight=np.ones((1, 1), np.float32), bias=np.zeros(1, np.float32))
    zeros = fn.map_parameters(lambda p: p * 0, net)
    with pytest.raises(fn.ConfigError, match=rf"^{kind.__name__}: eps must be at least 1e-45 for float32 arrays, got"):
        kind(learning_rate=0.1, eps=1e-50).init(net)
    rule = fn.Averaging(kind(learning_rate=0.1, eps=2e-45))
    assert rule.update(net, zeros, rule.init(net), 0)[0].weight.item() == pytest.approx(1.0, abs=0.002)
    kind(learning_rate=0.1, eps=1e-50).init(fn.astype(net, np.float64))
