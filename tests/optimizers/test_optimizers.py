"""Optimizers: closed forms, laws, weight decay, composition, serialization, resuming, golden values, refusals."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from attrs import frozen
from networks import inputs
from optimizer_table import GOLDENS, OPTIMIZERS, SCHEDULE

import funcnet as fn
from funcnet.core.trees import leaves
from funcnet.data.batches import Minibatches
from funcnet.optimizers import Optimizer
from funcnet.optimizers.protocol import zeros_like
from funcnet.runs.structure import put_together, take_apart

KEY: Final = fn.Key(62)
STEP: Final = fn.train_step(fn.softmax_cross_entropy)
NAN, INF = math.nan, math.inf
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def network(dtype: fn.FloatDType = np.float32) -> tuple[fn.Network, ...]:
    """Return a network with weights, biases, a normalization layer's scale and a layer that draws random numbers."""
    hidden = fn.dense(KEY.child(0), 5, 7, dtype=dtype)
    return (
        hidden,
        fn.layer_norm(7, dtype=dtype),
        fn.Tanh(),
        fn.Dropout(0.2),
        fn.Residual(fn.dense(KEY.child(1), 7, 7, dtype=dtype)),
    )


def data(epoch: int, dtype: fn.FloatDType = np.float32) -> Minibatches[Any]:
    """Return five batches of six rows with example weights."""
    x = inputs(KEY.child("x"), 30, 5, dtype=dtype)
    weight = np.abs(inputs(KEY.child("weight"), 30, dtype=dtype))
    return fn.minibatches(x, np.arange(30) % 7, 6, key=KEY.child("order", epoch), weight=weight)


def state(name: str) -> fn.TrainState[Any]:
    """Return the initial state of a run."""
    return fn.TrainState.create(network(), OPTIMIZERS[name], key=KEY.child("run"))


def record(weight: float, bias: float, dtype: fn.FloatDType = np.float64) -> fn.Dense:
    """Return a layer with two numbers."""
    return fn.Dense(weight=np.array([[weight]], dtype), bias=np.array([bias], dtype))


def numbers(net: fn.Dense) -> list[float]:
    """Return the two numbers of a layer."""
    return [array.item() for array in fn.trained_arrays(net)]


def two_steps(optimizer: Optimizer, *, start: float = 1.0, grads: tuple[float, float] = (0.5, -2.0)) -> list[float]:
    """Return a parameter without decay after one update and after two updates."""
    params, moments = record(0, start), optimizer.init(record(0, start))
    found: list[float] = []
    for step, g in enumerate(grads):
        params, moments = optimizer.update(params, record(0, g), moments, step)
        found.append(numbers(params)[1])
    return found


# ---------------------------------------------------------------------------------------------- closed forms

A, B = 0.5, -2.0
CLOSED: Final[dict[str, tuple[Optimizer, list[float]]]] = {
    "SGD": (fn.SGD(learning_rate=0.1), [1 - 0.1 * A, 1 - 0.1 * A - 0.1 * B]),
    "Momentum": (fn.Momentum(learning_rate=0.1), [0.95, 0.95 - 0.1 * (0.9 * A + B)]),
    "Nesterov": (
        fn.Nesterov(learning_rate=0.1),
        [1 - 0.1 * (A + 0.9 * A), 1 - 0.1 * (A + 0.9 * A) - 0.1 * (B + 0.9 * (0.9 * A + B))],
    ),
    "Adagrad": (
        fn.Adagrad(learning_rate=0.1, lr_decay=1.0),
        [0.9, 0.9 - 0.05 * B / math.sqrt(A * A + B * B)],
    ),
    "RMSprop": (
        fn.RMSprop(learning_rate=0.1, alpha=0.75),
        [1 - 0.1 / math.sqrt(0.25), 0.8 - 0.1 * B / math.sqrt(0.75 * 0.25 * A * A + 0.25 * B * B)],
    ),
    "Adam": (
        fn.Adam(learning_rate=0.1, betas=(0.5, 0.75)),
        [
            1 - 0.1,
            0.9
            - 0.1 * ((0.25 * A + 0.5 * B) / 0.75) / math.sqrt((0.75 * 0.25 * A * A + 0.25 * B * B) / (1 - 0.75 * 0.75)),
        ],
    ),
    "Adam, amsgrad": (
        fn.Adam(learning_rate=0.1, betas=(0.5, 0.0), amsgrad=True),
        [1 - 0.1, 0.9 - 0.1 * ((0.25 * A + 0.5 * B) / 0.75) / max(abs(A), abs(B))],
    ),
    "Adam, eps_hat": (
        fn.Adam(learning_rate=0.1, betas=(0.5, 0.75), eps=0.5, eps_hat=True),
        [
            1 - 0.1 * 0.5 * A / 0.5 * 0.5 / (0.5 * A + 0.5),
            (1 - 0.1 * 0.5 * A / 0.5 * 0.5 / (0.5 * A + 0.5))
            - 0.1
            * (0.25 * A + 0.5 * B)
            / 0.75
            * math.sqrt(1 - 0.75 * 0.75)
            / (math.sqrt(0.75 * 0.25 * A * A + 0.25 * B * B) + 0.5),
        ],
    ),
    "NAdam": (
        fn.NAdam(learning_rate=0.1, betas=(0.5, 0.75), momentum_decay=0.0),  # the momentum is 1/4
        [
            1 - 0.1 * (0.25 * 0.5 * A / (1 - 1 / 16) + 0.75 * A / (1 - 1 / 4)) / A,
            1
            - 0.1 * (0.25 * 0.5 * A / (1 - 1 / 16) + 0.75 * A / (1 - 1 / 4)) / A
            - 0.1
            * (0.25 * (0.25 * A + 0.5 * B) / (1 - 1 / 64) + 0.75 * B / (1 - 1 / 16))
            / math.sqrt((0.75 * 0.25 * A * A + 0.25 * B * B) / (1 - 0.75 * 0.75)),
        ],
    ),
    "Lion": (fn.Lion(learning_rate=0.1), [0.9, 1.0]),
    "ClipByValue": (fn.ClipByValue(fn.SGD(learning_rate=0.1), limit=1.0), [0.95, 1.05]),
    "ClipByGlobalNorm": (
        fn.ClipByGlobalNorm(fn.SGD(learning_rate=0.1), max_norm=1.0),
        [0.95, 1.05],
    ),
    "Accumulation": (fn.Accumulation(fn.SGD(learning_rate=0.1), steps=2), [1.0, 1 - 0.1 * (A + B) / 2]),
    "a schedule": (fn.SGD(learning_rate=fn.linear_warmup(0.1, steps=2)), [1.0, 1 - 0.05 * B]),
}


@pytest.mark.parametrize("name", CLOSED)
def test_two_steps_in_closed_form(name: str) -> None:
    """The parameters agree with formulas written by hand; eps affects only the seventh digit."""
    optimizer, wanted = CLOSED[name]
    assert two_steps(optimizer) == pytest.approx(wanted, rel=1e-6)


def test_weight_decay_in_closed_form() -> None:
    """The decay is a fraction of the weight times the rate, and applies only to weights."""
    for optimizer in (
        fn.AdamW(learning_rate=0.1, weight_decay=0.5),
        fn.WeightDecay(fn.Adam(learning_rate=0.1), weight_decay=0.5),
        fn.WeightDecay(fn.Momentum(learning_rate=0.1), weight_decay=0.5),
    ):
        params, moments = optimizer.update(record(4, 4), record(0, 0), optimizer.init(record(4, 4)), 0)
        assert numbers(params) == [4 * (1 - 0.05), 4]
        assert all(not leaf.array.any() for moment in moments.networks for leaf in leaves(moment))


def test_coupled_decay_is_part_of_the_gradient() -> None:
    """The inner optimizer gets the gradient of the weights plus the decay, also around accumulation."""
    net, grads, more = record(4, 4), record(1, -2), record(1 + 0.5 * 4, -2)
    for inner in (fn.Adam(learning_rate=0.1), fn.Momentum(learning_rate=0.1)):
        coupled = fn.WeightDecay(inner, weight_decay=0.5, coupled=True)
        for optimizer in (
            coupled,
            fn.Accumulation(coupled, steps=1),
            fn.WeightDecay(fn.Accumulation(inner, steps=1), weight_decay=0.5, coupled=True),
        ):
            params, _ = optimizer.update(net, grads, optimizer.init(net), 0)
            assert fn.equal(params, inner.update(net, more, inner.init(net), 0)[0])
    assert fn.WeightDecay(Silent(), weight_decay=0.5, coupled=True).update(net, grads, fn.Moments.of(), 0)[0] is net


def test_epsilon_hat_is_that_of_scikit_learn() -> None:
    """The parameters agree over fifty steps, with an eps that matters; without eps_hat, they do not."""
    reason = "scikit-learn is not installed"
    theirs: Any = pytest.importorskip("sklearn.neural_network._stochastic_optimizers", reason=reason)
    gradients = inputs(KEY.child("gradients"), 50, 3, 2)
    for is_hat in (True, False):
        array = np.ones((3, 2))
        rule = theirs.AdamOptimizer([array], 0.1, 0.8, 0.9, 0.2)
        optimizer = fn.Adam(learning_rate=0.1, betas=(0.8, 0.9), eps=0.2, eps_hat=is_hat)
        params = fn.Dense(weight=np.ones((3, 2)), bias=np.zeros(2))
        moments = optimizer.init(params)
        for step, gradient in enumerate(gradients):
            rule.update_params([array], [gradient])
            grads = fn.Dense(weight=gradient, bias=np.zeros(2))
            params, moments = optimizer.update(params, grads, moments, step)
            assert np.allclose(params.weight, array, rtol=1e-9, atol=1e-12) == is_hat


def test_lion_with_decay_is_that_of_the_paper() -> None:
    """The parameters agree with algorithm 2 over fifty steps."""
    array, mean = np.ones((3, 2)), np.zeros((3, 2))
    optimizer = fn.WeightDecay(fn.Lion(learning_rate=0.01, betas=(0.8, 0.95)), weight_decay=0.3)
    params = fn.Dense(weight=np.ones((3, 2)), bias=np.zeros(2))
    moments = optimizer.init(params)
    for step, gradient in enumerate(inputs(KEY.child("gradients"), 50, 3, 2)):
        array = array - 0.01 * (np.sign(0.8 * mean + 0.2 * gradient) + 0.3 * array)
        mean = 0.95 * mean + 0.05 * gradient
        params, moments = optimizer.update(params, fn.Dense(weight=gradient, bias=np.zeros(2)), moments, step)
        np.testing.assert_allclose(params.weight, array, rtol=1e-12)
        assert not fn.trained_arrays(params)[1].any()


@pytest.mark.parametrize("step", [0, 3, 60, 400, 10**5])
@pytest.mark.parametrize(("a", "decay"), [(0.9, 0.004), (0.9, 10.0), (0.99, 0.1), (0.0, 0.004), (0.5, 0.0)])
def test_nadam_knows_its_momentum_at_every_step(step: int, a: float, decay: float) -> None:
    """The product of all momenta so far agrees with the whole product, also far into a run."""
    momenta = [a * (1 - 0.5 * 0.96 ** (t * decay)) for t in range(1, step + 3)]
    product = math.prod(momenta[: step + 1])
    optimizer = fn.NAdam(learning_rate=0.1, betas=(a, 0.0), momentum_decay=decay)
    params, moments = optimizer.update(record(0, 0), record(0, 2), optimizer.init(record(0, 0)), step)
    mean = (1 - a) * 2
    wanted = momenta[-1] * mean / (1 - product * momenta[-1]) + (1 - momenta[-2]) * 2 / (1 - product)
    assert numbers(params)[1] == pytest.approx(-0.1 * wanted / 2, rel=1e-7)
    assert numbers(moments["mean"])[1] == pytest.approx(mean)


def test_averages_in_closed_form() -> None:
    """The average equals the parameters after the first update, and then moves a fraction of the way to them."""
    optimizer = fn.Averaging(fn.SGD(learning_rate=1.0), decay=0.75)
    run = fn.TrainState.create(record(0, 0), optimizer, key=KEY)
    params, moments = optimizer.update(run.params, record(-4, 1), run.moments, 0)
    assert fn.equal(moments["average"], params)
    params, moments = optimizer.update(params, record(-4, 1), moments, 1)
    assert numbers(params) == [8, -2]
    assert numbers(fn.averaged(fn.TrainState(params, optimizer, moments, 2, KEY))) == [5, -1.25]


def test_the_wrapper_of_adam_is_adamw() -> None:
    """Both give the same bits in a run."""
    runs = [
        fn.TrainState.create(network(), optimizer, key=KEY)
        for optimizer in (
            fn.AdamW(learning_rate=SCHEDULE, weight_decay=0.1),
            fn.WeightDecay(fn.Adam(learning_rate=SCHEDULE), weight_decay=0.1),
        )
    ]
    first, second = (fn.train_epoch(STEP, run, data(0))[0] for run in runs)
    assert fn.equal((first.params, *first.moments.networks), (second.params, *second.moments.networks))


def test_accumulated_batches_are_one_large_batch() -> None:
    """Two halves of a batch, with one update every two steps, give the update of the whole batch."""
    net = fn.dense(KEY, 5, 7, dtype=np.float64)
    halves = fn.minibatches(inputs(KEY.child("x"), 24, 5), np.arange(24) % 7, 6)
    large = fn.minibatches(inputs(KEY.child("x"), 24, 5), np.arange(24) % 7, 12)
    inner = fn.Adam(learning_rate=0.01)
    parts, _ = fn.train_epoch(STEP, fn.TrainState.create(net, fn.Accumulation(inner, steps=2), key=KEY), halves)
    whole, _ = fn.train_epoch(STEP, fn.TrainState.create(net, inner, key=KEY), large)
    np.testing.assert_allclose(parts.params.weight, whole.params.weight, rtol=1e-9, atol=1e-12)
    middle, _ = fn.train_epoch(STEP, fn.TrainState.create(net, fn.Accumulation(inner, steps=2), key=KEY), halves[:1])
    assert fn.equal(middle.params, net)


def test_averaging_changes_no_update() -> None:
    """The parameters equal those of the run without averaging; the average is a separate network of the same type."""
    plain, _ = fn.train_epoch(STEP, state("SGD"), data(0))
    kept, _ = fn.train_epoch(STEP, state("Averaging"), data(0))
    assert fn.equal(plain.params, kept.params)
    assert not fn.equal(fn.averaged(kept), kept.params)
    assert repr(fn.averaged(kept)) == repr(kept.params)
    assert fn.outputs(fn.averaged(kept), data(0)[0].x).shape == (6, 7)


def test_an_average_is_found_in_any_composition() -> None:
    """It is found inside clipping and accumulation, and around weight decay."""
    inner = fn.Averaging(fn.WeightDecay(fn.Momentum(learning_rate=0.1), weight_decay=0.1), decay=0.5)
    for optimizer in (inner, fn.ClipByValue(inner, limit=1.0), fn.Accumulation(inner, steps=1)):
        run = fn.TrainState.create(record(1, 1), optimizer, key=KEY)
        params, moments = optimizer.update(run.params, record(1, 1), run.moments, 0)
        assert fn.equal(fn.averaged(fn.TrainState(params, optimizer, moments, 1, KEY)), params)
    with pytest.raises(fn.ConfigError, match=r"averaged: the optimizer must keep an average; use Averaging\(SGD"):
        fn.averaged(state("SGD"))


# ----------------------------------------------------------------------------------------------------- laws


@every_optimizer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_gradients_change_nothing(name: str, dtype: fn.FloatDType) -> None:
    """Except for weight decay, every bit stays the same, and so do the structure and the dtype."""
    net = network(dtype)
    zeros = zeros_like(net)
    optimizer = OPTIMIZERS[name]
    params, moments = net, optimizer.init(net)
    for step in range(4):
        params, moments = optimizer.update(params, zeros, moments, step)
    for before, after in zip(leaves(net), leaves(params), strict=True):
        assert after.array.dtype == dtype
        if (before.role == "decayed" and "AdamW" in repr(optimizer)) or "Decay(optimizer" in repr(optimizer):
            assert np.abs(after.array).sum() <= np.abs(before.array).sum()
        else:
            assert after.array.tobytes() == before.array.tobytes()


@pytest.mark.slow
@every_optimizer
def test_an_update_is_pure(name: str) -> None:
    """No argument changes, a repeated call gives the same result, and the results are locked."""
    run, _ = fn.train_epoch(STEP, state(name), data(0))
    _, grads = fn.value_and_grad(fn.training(run.params, KEY), data(1)[0].x, data(1)[0].y, fn.softmax_cross_entropy)
    trees = (run.params, grads, *run.moments.networks)
    before = fn.fingerprint(trees)
    first = run.optimizer.update(run.params, grads, run.moments, run.step)
    again = run.optimizer.update(run.params, grads, run.moments, run.step)
    assert fn.fingerprint(trees) == before
    assert fn.fingerprint(first) == fn.fingerprint(again)
    assert first[1].names == run.moments.names
    for tree in (first[0], *first[1].networks):
        assert not any(leaf.array.flags.writeable for leaf in leaves(tree))


@every_optimizer
def test_a_layer_without_parameters_stays_itself(name: str) -> None:
    """A layer without parameters is returned itself, in the network and in the moments."""
    net = network()
    new, moments = OPTIMIZERS[name].update(net, zeros_like(net), OPTIMIZERS[name].init(net), 0)
    assert all(tree[2] is net[2] for tree in (new, *moments.networks))


@every_optimizer
def test_an_update_warns_of_no_number(name: str) -> None:
    """It gives the same bits when NumPy is set to raise on overflow and underflow."""
    optimizer, ends = OPTIMIZERS[name], list[str]()
    for mode in ("raise", "ignore"):
        params = record(1e-45, 3e38, np.float32)
        moments = optimizer.init(params)
        with np.errstate(all=mode):
            for step in range(3):
                params, moments = optimizer.update(params, record(0, 3e38, np.float32), moments, step)
        ends.append(fn.fingerprint((params, *moments.networks)))
    assert ends[0] == ends[1]


@every_optimizer
def test_a_numpy_rate_promotes_nothing(name: str) -> None:
    """With a NumPy float64 rate, float32 parameters and moments stay float32."""
    kind: Any = type(OPTIMIZERS[name])
    optimizer: Optimizer = (
        kind(learning_rate=np.float64(0.01)) if hasattr(OPTIMIZERS[name], "learning_rate") else OPTIMIZERS[name]
    )
    params, moments = record(1, 2, np.float32), optimizer.init(record(1, 2, np.float32))
    for step in range(2):
        params, moments = optimizer.update(params, record(1, -1, np.float32), moments, step)
    assert {leaf.array.dtype for tree in (params, *moments.networks) for leaf in leaves(tree)} == {np.dtype(np.float32)}


CONVERGING: Final[list[Optimizer]] = [
    *(kind(learning_rate=0.3) for kind in (fn.SGD, fn.Adagrad)),
    *(kind(learning_rate=0.1) for kind in (fn.Momentum, fn.Nesterov, fn.Adam, fn.AdamW, fn.NAdam)),
    fn.Adam(learning_rate=0.1, amsgrad=True, eps_hat=True),
    fn.Lion(learning_rate=fn.exponential_decay(0.1, gamma=0.98)),
    fn.WeightDecay(fn.NAdam(learning_rate=0.1), weight_decay=0.1, coupled=True),
    fn.RMSprop(learning_rate=fn.exponential_decay(0.1, gamma=0.99)),
    fn.RMSprop(learning_rate=fn.exponential_decay(0.03, gamma=0.99), momentum=0.5, centered=True),
    fn.SGD(learning_rate=fn.join_schedules([fn.linear_warmup(0.3, steps=9), fn.cosine_decay(0.3, steps=99)], [9])),
    fn.ClipByValue(fn.SGD(learning_rate=0.3), limit=0.1),
    fn.ClipByGlobalNorm(fn.Momentum(learning_rate=0.1), max_norm=0.1),
    fn.WeightDecay(fn.Nesterov(learning_rate=0.1), weight_decay=0.1),
    fn.Accumulation(fn.Adam(learning_rate=0.1), steps=2),
    fn.Averaging(fn.SGD(learning_rate=0.3)),
]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", CONVERGING, ids=lambda optimizer: repr(optimizer)[:60])
def test_it_finds_the_lowest_point_of_a_parabola(optimizer: Optimizer) -> None:
    """It minimizes ``w² / 2 + b²`` from 1 and -1; weight decay has the same minimum, and standing still would fail."""
    params, moments = record(1, -1), optimizer.init(record(1, -1))
    for step in range(600):
        weight, bias = numbers(params)
        grads = record(weight, 2 * bias)
        params, moments = optimizer.update(params, grads, moments, step)
    assert max(map(abs, numbers(params))) < 0.001


# ------------------------------------------------------------------------------------------- serialization


@pytest.mark.slow
@every_optimizer
def test_a_run_resumes_at_every_step(name: str, tmp_path: Path) -> None:
    """A run of 30 steps that is saved, loaded and resumed at any step has the fingerprint of the whole run."""
    batches = [batch for epoch in range(6) for batch in data(epoch)]
    run = state(name)
    states = [run]
    for batch in batches:
        run, _ = STEP(run, batch)
        states.append(run)
    whole, _ = fn.train_epoch(STEP, state(name), batches)
    wanted = fn.fingerprint(whole)
    assert fn.fingerprint(run) == wanted
    for step, middle in enumerate(states):
        fn.save(tmp_path / "run.funcnet", middle)
        loaded: Any = fn.load(tmp_path / "run.funcnet")
        assert fn.fingerprint(loaded) == fn.fingerprint(middle)
        resumed, _ = fn.train_epoch(STEP, loaded, batches[step:])
        assert fn.fingerprint(resumed) == wanted, step


@every_optimizer
def test_an_optimizer_is_a_value(name: str) -> None:
    """It can be printed, compared, pickled, and rebuilt from the contents of a file."""
    optimizer = OPTIMIZERS[name]
    for again in (pickle.loads(pickle.dumps(optimizer)), put_together(*take_apart(optimizer, "test"))):  # noqa: S301
        assert again == optimizer
        assert repr(again) == repr(optimizer)
        assert fn.fingerprint(again) == fn.fingerprint(optimizer)


ADDED: Final[dict[str, tuple[Optimizer, str]]] = {
    "Adam": (fn.Adam(0.1, betas=(0.8, 0.9)), "893fe1d449af574de3d0278b8af7f4c8a006bd2f0554ae6abba97530a8af8a7e"),
    "AdamW": (fn.AdamW(0.1), "64bcec39d3c31543960b1dfde6d20f8435ae30b37e0042c0cf9bf9482f4783e4"),
    "WeightDecay": (
        fn.WeightDecay(fn.SGD(0.1), 0.5),
        "4149a21b2722c9ecc512bacf40d15a5f03e0e7b623875a13ebf6a66e14717bbe",
    ),
}


@pytest.mark.parametrize("name", ADDED)
def test_settings_that_were_added_change_no_fingerprint(name: str) -> None:
    """At their defaults, they appear neither in fingerprints nor in files, which are those of earlier versions."""
    optimizer, golden = ADDED[name]
    assert fn.fingerprint(optimizer) == golden
    content, _ = take_apart(optimizer, "test")
    assert not any(word in str(content) for word in ("amsgrad", "eps_hat", "coupled"))


def test_fingerprints_tell_optimizers_apart() -> None:
    """Each optimizer in the table has a different fingerprint."""
    assert len({fn.fingerprint(optimizer) for optimizer in OPTIMIZERS.values()}) == len(OPTIMIZERS)


@pytest.mark.slow
@every_optimizer
def test_portable_bits_are_committed(name: str) -> None:
    """One fingerprint covers the network and the moments after ten steps in portable arithmetic."""
    with fn.portable():
        run = state(name)
        for epoch in range(2):
            run, _ = fn.train_epoch(STEP, run, data(epoch))
    assert fn.fingerprint((run.params, *run.moments.networks)) == GOLDENS[name]


@frozen
class Silent:
    """An optimizer without moments and without a method for its rate."""

    def init(self, _: Any, /) -> fn.Moments[Any]:
        """Return no moments."""
        return fn.Moments.of()

    def update(self, params: Any, _: Any, moments: fn.Moments[Any], __: int, /) -> tuple[Any, fn.Moments[Any]]:
        """Return the parameters unchanged."""
        return params, moments


@frozen
class Growing(Silent):
    """An optimizer whose rate is an int."""

    def rate(self, step: int, /) -> float:
        """Return the number of the step."""
        return step


# ---------------------------------------------------------------------------------------------- gradients


def test_norms_and_clipping() -> None:
    """The norm covers all arrays together; a clipped gradient has the largest allowed norm."""
    grads = fn.astype(network(np.float64), np.float64)
    flat = np.concatenate([leaf.array.ravel() for leaf in leaves(grads) if leaf.trained])
    norm = fn.global_norm(grads)
    assert norm == pytest.approx(np.linalg.norm(flat), rel=1e-14)
    assert fn.global_norm(()) == 0
    clipped = fn.clip_by_global_norm(grads, norm / 2)
    assert norm / 2 * (1 - 1e-6) < fn.global_norm(clipped) <= norm / 2
    assert fn.equal(fn.clip_by_global_norm(grads, 2 * norm), grads)
    five = record(3, 4)
    assert fn.equal(fn.clip_by_global_norm(five, 5 + 1e-6), five)  # a factor of 1
    limited = fn.clip_by_value(grads, 0.1)
    assert max(np.abs(leaf.array).max() for leaf in leaves(limited)) == 0.1
    assert fn.equal(fn.clip_by_value(grads, 100.0), grads)


def test_a_norm_that_is_not_finite_is_refused() -> None:
    """The error prevents an update of every parameter to NaN; a large finite norm is accepted."""
    assert fn.global_norm(record(1e30, 0, np.float32)) == pytest.approx(1e30)
    for value, norm in ((NAN, "nan"), (INF, "inf"), (1e200, "inf")):
        message = f"global_norm: the gradients' norm is {norm}; the learning rate may be too high"
        with pytest.raises(fn.NonFiniteError, match=f"^{message}$"):
            fn.clip_by_global_norm(record(value, 0), 1.0)


def test_learning_rates_are_those_of_the_steps() -> None:
    """They are correct through every wrapper; steps that only accumulate have the rate of the next update."""
    wanted = [SCHEDULE(step) for step in range(6)]
    for optimizer in (fn.AdamW(learning_rate=SCHEDULE), fn.ClipByValue(fn.SGD(learning_rate=SCHEDULE), limit=1.0)):
        assert fn.learning_rates(optimizer, 6).tolist() == wanted
    accumulated = fn.Accumulation(fn.SGD(learning_rate=SCHEDULE), steps=3)
    assert fn.learning_rates(accumulated, 6).tolist() == [wanted[0]] * 3 + [wanted[1]] * 3
    assert fn.learning_rates(fn.Adagrad(learning_rate=1.0, lr_decay=1.0), 2).tolist() == [1.0, 0.5]
    assert fn.learning_rates(fn.SGD(learning_rate=0.1), 0).shape == (0,)
    assert fn.learning_rates(Growing(), 3).dtype == np.float64
    with pytest.raises(fn.ConfigError, match=r"^learning_rates: steps must be an int of at least 0, got -1$"):
        fn.learning_rates(fn.SGD(learning_rate=0.1), -1)
    with pytest.raises(fn.ConfigError, match=r"^Accumulation: step must be an int of at least 0, got -1$"):
        accumulated.rate(-1)


def test_an_optimizer_without_a_rate_says_so() -> None:
    """A class is not an optimizer, and a wrapper of an optimizer without a rate does not have a rate either."""
    silent, reason = Silent(), r"the optimizer must have a learning rate, got .*; give it a method rate\(step\)"
    asked: list[tuple[str, Any]] = [
        ("learning_rates", fn.SGD),
        ("learning_rates", silent),
        ("Averaging", fn.Averaging(silent)),
        ("ClipByValue", fn.ClipByValue(silent, limit=1.0)),
    ]
    for subject, optimizer in asked:
        with pytest.raises(fn.ConfigError, match=f"^{subject}: {reason}$"):
            fn.learning_rates(optimizer, 1)


# ----------------------------------------------------------------------------------------------- refusals

KINDS: Final[list[Any]] = [
    fn.SGD,
    fn.Momentum,
    fn.Nesterov,
    fn.Adagrad,
    fn.RMSprop,
    fn.Adam,
    fn.AdamW,
    fn.NAdam,
    fn.Lion,
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
NO_RATES: Final = [0, 0.0, -0.1, NAN, INF, -INF, True, "0.1", None, np.array([0.1]), fn.constant]


@every_kind
@pytest.mark.parametrize("rate", NO_RATES[:-1], ids=repr)
def test_a_rate_is_above_0_and_finite(kind: Any, rate: Any) -> None:
    """Every optimizer checks its rate; the message has the optimizer's name."""
    with pytest.raises(fn.ConfigError, match=rf"^{kind.__name__}: learning_rate must be a number in \(0, inf\), got "):
        kind(learning_rate=rate)


@every_kind
def test_a_rate_that_ruins_the_network_is_noticed(kind: Any) -> None:
    """The message has the number of the step, and the initial state is unchanged."""
    net = (fn.dense(KEY, 5, 7), fn.ReLU(), fn.dense(KEY.child(1), 7, 7))
    run = fn.TrainState.create(net, kind(learning_rate=1e30), key=KEY)
    with pytest.raises(fn.NonFiniteError, match=r"^step "):
        fn.train_epoch(STEP, run, data(0))
    assert fn.equal(run.params, net)


@every_kind
def test_a_class_is_no_schedule(kind: Any) -> None:
    """The class of a schedule is refused; an instance is accepted."""
    with pytest.raises(fn.ConfigError, match="learning_rate must be a number"):
        kind(learning_rate=type(SCHEDULE))
    assert kind(learning_rate=SCHEDULE).rate(1) == SCHEDULE(1)


SHARE: Final[list[Any]] = [-0.1, 1, 1.5, NAN, INF, True, "0.9", None]
ABOVE_0: Final[list[Any]] = [0, -1e-8, NAN, INF, True, "1", None]
AT_LEAST_0: Final[list[Any]] = [-0.1, NAN, INF, True, "1", None]
COUNT: Final[list[Any]] = [0, -1, 1.0, True, "1", None]
RATE, INNER, GRADS = 0.1, fn.SGD(learning_rate=0.1), record(1, 1)
SETTINGS: Final[list[tuple[Any, Any, str, str, list[Any]]]] = [
    (fn.Momentum, RATE, "momentum", "a number in [0, 1)", SHARE),
    (fn.Nesterov, RATE, "momentum", "a number in [0, 1)", SHARE),
    (fn.RMSprop, RATE, "alpha", "a number in [0, 1)", SHARE),
    (fn.RMSprop, RATE, "momentum", "a number in [0, 1)", SHARE),
    (fn.RMSprop, RATE, "eps", "a number in (0, inf)", ABOVE_0),
    (fn.RMSprop, RATE, "centered", "True or False", [1, 0, None, "True"]),
    (fn.Adam, RATE, "betas", "a tuple of two numbers", [0.9, (0.9,), (0.9, 0.99, 0.999), [0.9, 0.999], None]),
    (fn.Adam, RATE, "eps", "a number in (0, inf)", ABOVE_0),
    (fn.Adam, RATE, "amsgrad", "True or False", [1, 0, None, "True"]),
    (fn.AdamW, RATE, "eps_hat", "True or False", [1, 0, None, 1e-8]),
    (fn.AdamW, RATE, "weight_decay", "a number in [0, inf)", AT_LEAST_0),
    (fn.NAdam, RATE, "betas", "a tuple of two numbers", [0.9, (0.9,), (0.9, 0.99, 0.999), [0.9, 0.999], None]),
    (fn.NAdam, RATE, "eps", "a number in (0, inf)", ABOVE_0),
    (fn.NAdam, RATE, "momentum_decay", "a number in [0, inf)", AT_LEAST_0),
    (fn.Lion, RATE, "betas", "a tuple of two numbers", [0.9, (0.9,), (0.9, 0.99, 0.999), [0.9, 0.999], None]),
    (fn.Adagrad, RATE, "lr_decay", "a number in [0, inf)", AT_LEAST_0),
    (fn.Adagrad, RATE, "initial_accumulator_value", "a number in [0, inf)", AT_LEAST_0),
    (fn.Adagrad, RATE, "eps", "a number in (0, inf)", ABOVE_0),
    (fn.ClipByValue, INNER, "limit", "a number in (0, inf)", ABOVE_0),
    (fn.ClipByGlobalNorm, INNER, "max_norm", "a number in (0, inf)", ABOVE_0),
    (fn.clip_by_value, GRADS, "limit", "a number in (0, inf)", ABOVE_0),
    (fn.clip_by_global_norm, GRADS, "max_norm", "a number in (0, inf)", ABOVE_0),
    (fn.WeightDecay, INNER, "weight_decay", "a number in [0, inf)", AT_LEAST_0),
    (fn.Accumulation, INNER, "steps", "an int of at least 1", COUNT),
    (fn.Averaging, INNER, "decay", "a number in [0, 1)", SHARE),
]


@pytest.mark.parametrize(
    ("kind", "first", "setting", "wanted", "values"), SETTINGS, ids=lambda part: getattr(part, "__name__", None)
)
def test_settings_are_in_their_range(kind: Any, first: Any, setting: str, wanted: str, values: list[Any]) -> None:
    """Each message has the range and the value; a lower bound is accepted if the range includes it."""
    for value in values:
        with pytest.raises(fn.ConfigError) as caught:
            kind(first, **{setting: value})
        assert str(caught.value) == f"{kind.__name__}: {setting} must be {wanted}, got {value!r}"
    if "[0" in wanted:
        assert getattr(kind(first, **{setting: 0}), setting) == 0


def test_betas_are_two_shares() -> None:
    """Both are checked, 0 is accepted, and the message has the name of the subclass."""
    for value in SHARE:
        for betas in ((0.9, value), (value, 0.9)):
            with pytest.raises(fn.ConfigError) as caught:
                fn.AdamW(learning_rate=0.1, betas=betas)
            assert str(caught.value) == f"AdamW: each of betas must be a number in [0, 1), got {value!r}"
            with pytest.raises(fn.ConfigError, match=r"^Lion: each of betas must be a number in \[0, 1\)"):
                fn.Lion(learning_rate=0.1, betas=betas)
    assert fn.Adam(learning_rate=0.1, betas=(0, 0)).betas == (0, 0)


def test_wrappers_check_what_they_hold() -> None:
    """They refuse a class or a number as optimizer, and weight decay outside accumulation."""
    wrong: list[Any] = [fn.SGD, 0.1, None]
    for inner in wrong:
        with pytest.raises(fn.ConfigError) as caught:
            fn.Averaging(inner)
        assert str(caught.value) == f"Averaging: optimizer must have init and update, got {inner!r:.80}"
    with pytest.raises(fn.ConfigError, match=r"^WeightDecay: coupled must be True or False, got 1$"):
        fn.WeightDecay(INNER, weight_decay=0.1, coupled=1)  # type: ignore[arg-type]  # not a bool
    reason = "put WeightDecay inside Accumulation; outside, it would decay in steps without an update"
    with pytest.raises(fn.ConfigError, match=f"^WeightDecay: {reason}$"):
        fn.WeightDecay(fn.ClipByValue(fn.Accumulation(INNER, steps=2), limit=1.0), weight_decay=0.1)


@pytest.mark.parametrize("kind", [fn.Accumulation, fn.Averaging])
def test_wrappers_that_look_at_the_step_check_it(kind: Any) -> None:
    """The step must be an int of at least 0."""
    optimizer: Any = kind(INNER, 2) if kind is fn.Accumulation else kind(INNER)
    for step in (-1, 0.5, True, None):
        with pytest.raises(fn.ConfigError) as caught:
            optimizer.update(GRADS, GRADS, optimizer.init(GRADS), step)
        assert str(caught.value) == f"{kind.__name__}: step must be an int of at least 0, got {step!r}"


def test_what_works_on_gradients_or_weights_wants_a_network() -> None:
    """Each message begins with the name of the function or optimizer."""
    found = "a network is a layer or a tuple of networks, got 3"
    calls: dict[str, Callable[[Any], object]] = {
        "global_norm": fn.global_norm,
        "clip_by_global_norm": lambda grads: fn.clip_by_global_norm(grads, 1.0),
        "WeightDecay": lambda net: fn.WeightDecay(INNER, weight_decay=0.1).update(net, GRADS, fn.Moments.of(), 0),
    }
    for subject, call in calls.items():
        with pytest.raises(fn.StructureError, match=f"^{subject}: {found}$"):
            call(3)


def three_steps(optimizer: Optimizer, net: fn.Dense, grads: fn.Dense, moments: fn.Moments[fn.Dense]) -> None:
    """Apply the same update at three steps; an optimizer that accumulates uses its inner moments in the last step."""
    for step in range(3):
        optimizer.update(net, grads, moments, step)


@every_optimizer
def test_structures_and_moments_belong_together(name: str) -> None:
    """Gradients or moments with a different structure are refused, and so is a different number of moments."""
    optimizer = OPTIMIZERS[name]
    net, other = record(1, 1), fn.Dense(weight=np.ones((1, 2)), bias=np.ones(2))
    with pytest.raises(fn.StructureError, match=r"float64 \(1, 1\)(.|\n)*float64 \(1, 2\)"):
        three_steps(optimizer, net, other, optimizer.init(net))
    moments = optimizer.init(net)
    with pytest.raises(fn.StructureError, match="a run must continue with the optimizer that it began with"):
        three_steps(optimizer, net, net, fn.Moments((*moments.names, "more"), (*moments.networks, net)))
    for wrong in moments.names:
        networks = tuple(other if each == wrong else moments[each] for each in moments.names)
        changed: Any = fn.Moments(moments.names, networks)
        with pytest.raises(fn.StructureError, match="two networks must have the same structure"):
            three_steps(optimizer, net, net, changed)


def test_moments_of_another_optimizer_are_refused() -> None:
    """The message has the expected names, the received names and the reason."""
    net = record(1, 1)
    sgd, velocity = fn.SGD(learning_rate=0.1), fn.Moments.of(velocity=net)
    mean = fn.Moments.of(mean=net)
    refused: list[tuple[Any, str, list[Any]]] = [
        (sgd, "()", [velocity]),
        (fn.Momentum(learning_rate=0.1), "('velocity',)", [fn.Moments.of(), mean]),
        (fn.Adam(0.1, amsgrad=True), "('mean', 'square', 'largest')", [fn.Moments.of(mean=net, square=net)]),
        (fn.Lion(learning_rate=0.1), "('mean',)", [fn.Moments.of(), velocity]),
        (fn.Adam(learning_rate=0.1), "('mean', 'square')", [mean, fn.Moments.of(square=net, mean=net)]),
        (fn.RMSprop(0.1, momentum=0.5, centered=True), "('square', 'velocity', 'mean')", [fn.Moments.of(square=net)]),
        (fn.Accumulation(sgd, steps=2), "('sum', 'inner.*')", [mean, fn.Moments.of(sum=net).around(mean).inner()]),
        (fn.Averaging(sgd), "('average', 'inner.*')", [fn.Moments.of(), fn.Moments.of(average=net, velocity=net)]),
    ]
    reason = "a run must continue with the optimizer that it began with"
    for optimizer, wanted, wrong in refused:
        name = type(optimizer).__name__
        for moments in wrong:
            with pytest.raises(fn.StructureError) as caught:
                optimizer.update(net, net, moments, 0)
            message = f"moments must have the names {wanted}, got {moments.names}; {reason}"
            assert str(caught.value) == f"{name}: {message}"
        for other in (None, (), [net]):
            with pytest.raises(
                fn.StructureError, match=f"^{name}: moments must have the names .* which is not Moments"
            ):
                optimizer.update(net, net, other, 0)
    with pytest.raises(
        fn.StructureError, match=rf"got \(\), which is not Moments.of\(mean=..., square=...\); {reason}$"
    ):
        fn.Adam(learning_rate=0.1).update(net, net, (), 0)  # type: ignore[arg-type]  # not Moments
    inner = fn.Averaging(fn.Momentum(learning_rate=0.1))
    with pytest.raises(
        fn.StructureError, match=r"^Momentum: moments must have the names \('velocity',\), got \('mean',\)"
    ):
        inner.update(net, net, fn.Moments.of(average=net).around(mean), 0)


@frozen
class Tuples:
    """An optimizer of an earlier version, in which moments were a tuple."""

    first: Any = ()

    def init(self, _: Any, /) -> Any:
        """Return the field, which is a tuple by default."""
        return self.first

    def update(self, params: Any, _: Any, __: Any, ___: int, /) -> Any:
        """Return a tuple instead of moments."""
        return params, ()


def test_an_optimizer_that_returns_no_moments_is_told_what_to_return() -> None:
    """The message appears in the first state, in the first step, and inside a wrapper."""
    net, last = record(1, 1), data(0)[0]
    message = r"^Tuples: init must return Moments.of\(name=network, ...\), got \(\)$"
    asked: list[Optimizer] = [Tuples(), fn.Averaging(Tuples()), fn.ClipByValue(Tuples(), limit=1.0)]
    for optimizer in asked:
        with pytest.raises(fn.StructureError, match=message):
            fn.TrainState.create(net, optimizer, key=KEY)
    message = r"^Tuples: update must return \(params, Moments.of\(name=network, ...\)\), got \(\("
    kept: Any = Tuples(fn.Moments.of())
    for optimizer in [kept, fn.Averaging(kept), fn.Accumulation(kept, steps=1), fn.ClipByValue(kept, limit=1.0)]:
        with pytest.raises(fn.StructureError, match=message):
            STEP(fn.TrainState.create(network(), optimizer, key=KEY), last)


def test_moments_are_networks_by_name() -> None:
    """The order is kept, and the message about a wrong name lists the names."""
    mean, square, average = record(1, 2), record(3, 4), record(5, 6)
    moments = fn.Moments.of(mean=mean, square=square)
    assert moments.names == ("mean", "square")
    assert moments["square"] is square
    assert list(moments) == ["mean", "square"]
    assert "mean" in moments
    assert "velocity" not in moments
    assert mean not in moments
    assert len(moments) == 2
    nothing: fn.Moments[Any] = fn.Moments.of()
    assert len(nothing) == 0
    with pytest.raises(fn.StructureError, match=r"there is no moment 'velocity'; the names are \('mean', 'square'\)$"):
        moments["velocity"]
    outer = fn.Moments.of(average=average).around(moments)
    assert outer.names == ("average", "inner.mean", "inner.square")
    assert outer.networks == (average, mean, square)
    assert outer.inner().names == moments.names
    assert outer.inner().networks == moments.networks
    assert fn.fingerprint(outer) == fn.fingerprint((average, mean, square))
    kind: Any = fn.Moments
    wrong: list[tuple[Any, Any, str]] = [
        (("mean",), (), "a name for each network"),
        (["mean"], (mean,), "a name for each network"),
        (("mean",), [mean], "a name for each network"),
        (("mean", "mean"), (mean, mean), "names must be distinct strings"),
        ((1,), (mean,), "names must be distinct strings"),
        (("mean",), (1,), "a network is a layer or a tuple of networks, got 1"),
    ]
    for names, networks, fact in wrong:
        with pytest.raises(fn.StructureError, match=f"^Moments: .*{fact}"):
            kind(names, networks)


@every_optimizer
def test_a_run_goes_on_in_its_own_network(name: str) -> None:
    """A state with the moments of a different optimizer is refused in training."""
    run = state(name)
    more = fn.Moments((*run.moments.names, "more"), (*run.moments.networks, run.params))
    changed = fn.TrainState(run.params, run.optimizer, more, 0, KEY)
    with pytest.raises(fn.StructureError, match="a run must continue with the optimizer"):
        fn.train_epoch(STEP, changed, [data(0)[0]] * 3)


@frozen
class Halved(fn.SGD):
    """SGD with a custom rate."""

    def rate(self, step: int, /) -> float:
        """Return half the rate."""
        return 0.5 * super().rate(step)


@frozen
class HalvedNesterov(fn.Nesterov):
    """Nesterov momentum with a custom rate."""

    def rate(self, step: int, /) -> float:
        """Return half the rate."""
        return 0.5 * super().rate(step)


@frozen
class Rooted(fn.Adam):
    """Adam with a custom rate, which NumPy computes."""

    def rate(self, step: int, /) -> float:
        """Return a NumPy scalar."""
        rate: float = np.float64(super().rate(step)) / np.sqrt(step + 1.0)
        return rate


def test_a_rate_of_ones_own_promotes_nothing() -> None:
    """Neither a custom NumPy rate nor a NumPy decay promotes the float32 arrays."""
    inner = Rooted(learning_rate=0.1)
    for optimizer in (inner, fn.WeightDecay(inner, weight_decay=0.1), fn.Averaging(inner, decay=np.float64(0.5))):
        run, _ = fn.train_epoch(STEP, fn.TrainState.create(network(), optimizer, key=KEY), data(0))
        assert {leaf.array.dtype for leaf in leaves((run.params, *run.moments.networks))} == {np.dtype(np.float32)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [(Halved, fn.SGD), (HalvedNesterov, fn.Nesterov)])
def test_a_rate_of_ones_own_counts_in_every_form(kind: tuple[Any, Any]) -> None:
    """An epoch has the bits of its single steps, and of the base optimizer at the custom rate."""
    own, base = kind[0](learning_rate=0.25), kind[1](learning_rate=0.125)
    run = fn.TrainState.create(network(), own, key=KEY)
    plain = run
    for batch in data(0):
        plain, _ = STEP(plain, batch)
    epoch, _ = fn.train_epoch(STEP, run, data(0))
    half, _ = fn.train_epoch(STEP, fn.TrainState.create(network(), base, key=KEY), data(0))
    assert fn.equal(epoch.params, plain.params)
    assert fn.equal(epoch.params, half.params)
