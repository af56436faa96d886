"""Fitting: validation, early stopping, the best state, and resuming a fit as if it had never stopped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from networks import inputs
from optimizer_table import OPTIMIZERS
from surroundings import SEARCHED
from thread_ranks import Rank, errors_on, on_ranks

import funcnet as fn
from funcnet.data.batches import Minibatches
from funcnet.optimizers import Optimizer

KEY = fn.Key(51)
X = inputs(KEY.child("x"), 40, 4, dtype=np.float32)
LABELS = (X[:, 0] > X[:, 1]).astype(np.int64)
STEP = fn.train_step(fn.softmax_cross_entropy)
Net = tuple[fn.Dense, fn.ReLU, fn.Dropout, fn.Dense]
State = fn.TrainState[Net]


def start(optimizer: Optimizer = fn.Momentum(learning_rate=0.1)) -> fn.Fit[State]:
    """Return the initial fit of a small network with dropout."""
    net = (fn.dense(KEY.child(0), 4, 8), fn.ReLU(), fn.Dropout(0.2), fn.dense(KEY.child(1), 8, 2))
    return fn.Fit.create(fn.TrainState.create(net, optimizer, key=KEY.child("run")))


def data(epoch: int) -> Minibatches[Any]:
    """Return three batches of the first 30 rows."""
    return fn.minibatches(X[:30], LABELS[:30], 10, key=KEY.child("shuffle", epoch))


def held_out_loss(state: State) -> float:
    """Return the loss on the last ten rows."""
    return fn.evaluate(state.params, X[30:], LABELS[30:], fn.softmax_cross_entropy)


def scripted(values: list[float]) -> Callable[[State], float]:
    """Return a validation function with scripted values, one per epoch of the state."""

    def validate(state: State) -> float:
        return values[state.step // 3 - 1]

    return validate


def test_a_fit_trains_as_train_does() -> None:
    """``fit`` gives the same states and losses as ``train``, and the validation value of each state."""
    fits = list(fn.fit(STEP, start(), data, held_out_loss, epochs=4))
    plain = list(fn.train(STEP, start().state, data, epochs=range(4)))
    assert [fn.fingerprint(each.state) for each in fits] == [fn.fingerprint(state) for state, _ in plain]
    assert fits[-1].losses == tuple(log.mean_loss for _, log in plain)
    assert fits[-1].values == tuple(held_out_loss(state) for state, _ in plain)


def accuracy(state: State) -> np.floating[Any]:
    """Return the accuracy on the last ten rows, as a NumPy number."""
    return np.float64(fn.accuracy(fn.predict(state.params, X[30:], fn.Multiclass()), LABELS[30:]))


def test_metrics_are_kept_and_change_nothing(tmp_path: Path) -> None:
    """A fit with metrics has the states of a fit without; it saves, and resumes only with the same metrics."""
    metrics: dict[str, Any] = {"accuracy": accuracy, "loss again": held_out_loss}
    fits = list(fn.fit(STEP, start(), data, held_out_loss, epochs=3, metrics=metrics))
    (*_, bare) = fn.fit(STEP, start(), data, held_out_loss, epochs=3)
    assert fits[-1].metrics == tuple(
        (name, tuple(float(f(each.state)) for each in fits)) for name, f in metrics.items()
    )
    assert list(fits[-1].history) == ["epoch", "loss", "validation", "accuracy", "loss again"]
    assert fn.fingerprint(fits[-1].state) == fn.fingerprint(bare.state)
    fn.save(tmp_path / "fit", fits[1])
    loaded: Any = fn.load(tmp_path / "fit", like=fits[1])
    (resumed,) = fn.fit(STEP, loaded, data, held_out_loss, epochs=3, metrics=metrics)
    assert fn.fingerprint(resumed) == fn.fingerprint(fits[-1])
    with pytest.raises(
        fn.ConfigError, match=r"^fit: metrics must be those of the earlier epochs, .*'loss again'\), got \(\)$"
    ):
        fn.fit(STEP, loaded, data, held_out_loss, epochs=3)
    with pytest.raises(fn.ConfigError, match="a metric's name must be a string other than"):
        fn.fit(STEP, start(), data, held_out_loss, epochs=3, metrics={"loss": held_out_loss})


def test_batches_in_place_of_a_function_of_the_epoch() -> None:
    """The message has the function."""
    for call in (fit_on, train_on):
        with pytest.raises(
            fn.ConfigError, match=r"data must be a function of the epoch's number, .*lambda epoch: batches"
        ):
            call(data(0))


def fit_on(batches: Any) -> object:
    """Fit for one epoch."""
    return fn.fit(STEP, start(), batches, held_out_loss, epochs=1)


def train_on(batches: Any) -> object:
    """Train for one epoch."""
    return fn.train(STEP, start().state, batches, epochs=range(1))


@given(values=st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12), patience=st.integers(1, 4))
def test_it_stops_when_the_best_is_as_old_as_patience(values: list[float], patience: int) -> None:
    """A plain loop over the values agrees; the best state is that of the best epoch, the first among equals."""
    fits = list(fn.fit(STEP, start(), data, scripted(values), epochs=len(values), patience=patience))
    best, done = 0, 0
    for epoch, value in enumerate(values):
        done = epoch + 1
        best = epoch if value < values[best] else best
        if epoch - best >= patience:
            break
    assert (len(fits), fits[-1].best_epoch, fits[-1].waited) == (done, best, done - 1 - best)
    assert fits[-1].best.step == 3 * (best + 1)


def test_the_goal_and_the_least_step_are_settings() -> None:
    """The goal can be highest instead of lowest, and a better value must differ by more than ``min_delta``."""
    values = [1.0, 1.05, 2.0, 1.9, 1.8]
    *_, last = fn.fit(STEP, start(), data, scripted(values), epochs=5, goal="highest")
    assert last.best_epoch == 2
    *_, last = fn.fit(STEP, start(), data, scripted(values), epochs=2, goal="highest", min_delta=0.1)
    assert last.best_epoch == 0


@frozen
class Scripted:
    """A step that counts, with the scripted loss of the count."""

    losses: tuple[float, ...]

    def __call__(self, count: int, _: object) -> tuple[int, float]:
        """Return the next count and its loss."""
        return count + 1, self.losses[count]


def by_loss(losses: list[float], **settings: Any) -> list[fn.Fit[int]]:
    """Return the fits of a run without validation, whose epochs are one step each."""
    return list(fn.fit(Scripted((*losses,)), fn.Fit.create(0), lambda _: [None], epochs=len(losses), **settings))


@given(
    losses=st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=12),
    patience=st.integers(1, 4),
    goal=st.sampled_from(["lowest", "highest"]),
    min_delta=st.sampled_from([0.0, 1.0, 2.5]),
)
def test_without_validation_the_training_loss_is_the_value(
    losses: list[float], patience: int, goal: Any, min_delta: float
) -> None:
    """Best, waited and stopping are those of a run whose validation values are the training losses."""
    settings: dict[str, Any] = {"patience": patience, "goal": goal, "min_delta": min_delta}
    by_value = fn.fit(
        Scripted((*losses,)),
        fn.Fit.create(0),
        lambda _: [None],
        lambda count: losses[count - 1],
        epochs=len(losses),
        **settings,
    )
    for found, wanted in zip(by_loss(losses, **settings), by_value, strict=True):
        same = ("state", "best", "best_epoch", "waited", "losses", "metrics")
        assert all(getattr(found, name) == getattr(wanted, name) for name in same)
        assert found.values == ()
        assert list(found.history) == ["epoch", "loss"]


def test_a_fit_without_validation_resumes(tmp_path: Path) -> None:
    """It is saved, loaded and resumed with the same bits, and its metrics are in the history."""
    settings: dict[str, Any] = {"epochs": 6, "patience": 3, "metrics": {"held out": held_out_loss}}
    fits = list(fn.fit(STEP, start(), data, **settings))
    fn.save(tmp_path / "fit", fits[1])
    *_, resumed = fn.fit(STEP, fn.load(tmp_path / "fit", like=start()), data, **settings)
    assert fn.fingerprint(resumed) == fn.fingerprint(fits[-1])
    assert list(resumed.history) == ["epoch", "loss", "held out"]
    assert resumed.best_epoch == int(np.argmin(resumed.losses))
    plain = list(fn.train(STEP, start().state, data, epochs=range(6)))
    assert fn.fingerprint(resumed.state) == fn.fingerprint(plain[-1][0])


def test_a_fit_keeps_to_its_validation() -> None:
    """An epoch with a value and one without cannot be compared."""
    *_, with_values = fn.fit(STEP, start(), data, held_out_loss, epochs=2)
    *_, without = fn.fit(STEP, start(), data, epochs=2)
    fix = r"begin with Fit\.create\(start\.state\) to compare another value$"
    with pytest.raises(fn.ConfigError, match=rf"^fit: validate must be a function, as in .*start, got None; {fix}"):
        fn.fit(STEP, with_values, data, epochs=4)
    with pytest.raises(fn.ConfigError, match=rf"^fit: validate must be None, as in .* of start, got a function; {fix}"):
        fn.fit(STEP, without, data, held_out_loss, epochs=4)
    assert len(list(fn.fit(STEP, fn.Fit.create(with_values.state), data, epochs=1))) == 1


def test_a_mean_loss_that_is_not_finite_is_refused() -> None:
    """Each step's loss is finite, and their mean overflows."""
    wanted = r"^fit: the mean loss of epoch 0 is inf$"
    with np.errstate(over="ignore"), pytest.raises(fn.NonFiniteError, match=wanted):
        list(fn.fit(Scripted((1e308, 1e308)), fn.Fit.create(0), lambda _: [None, None], epochs=1))


@pytest.mark.parametrize("stop", range(8))
def test_a_saved_fit_goes_on_with_the_same_bits(stop: int, tmp_path: Path) -> None:
    """The fingerprint, with counters, best state and history, is the same wherever the fit was stopped."""
    settings: dict[str, Any] = {"epochs": 8, "patience": 3}
    whole = start()
    for whole in fn.fit(STEP, whole, data, held_out_loss, **settings):  # noqa: B020
        if whole.epoch == stop:
            fn.save(tmp_path / "fit.safetensors", whole)
    if stop == 0:
        fn.save(tmp_path / "fit.safetensors", start())
    if not (tmp_path / "fit.safetensors").exists():
        assert whole.epoch < stop
        return
    half = fn.load(tmp_path / "fit.safetensors", like=start())
    *_, resumed = [half, *fn.fit(STEP, half, data, held_out_loss, **settings)]
    assert fn.fingerprint(resumed) == fn.fingerprint(whole)


def a_step(epoch: int) -> Minibatches[Any]:
    """Return an epoch of one batch."""
    return data(epoch)[epoch % 3 :][:1]


def best_after_21(state: State) -> float:
    """Return values that improve occasionally, are best at step 21, and never improve after it."""
    return abs(state.step - 21) + state.step % 3


def ended(fitted: fn.Fit[State]) -> fn.Fit[State]:
    """Return the last fit: the run ends after 30 steps, nine epochs after step 21."""
    *_, last = [fitted, *fn.fit(STEP, fitted, a_step, best_after_21, epochs=40, patience=9)]
    return last


STOPS = {name: range(0, 31, 1 if place == 0 else 5) for place, name in enumerate(OPTIMIZERS)}
"""The steps from which a run resumes: every step with the first optimizer, and every fifth with the others."""

GO_ON = """
import sys; sys.path[:0] = sys.argv[2].splitlines()
from test_fitting import *
for name, stops in STOPS.items():
    for number in stops:
        half = fn.load(f"{sys.argv[1]}/{name}-{number}.safetensors", like=start(OPTIMIZERS[name]))
        print(name, fn.fingerprint(ended(half)), sep=": ")
"""


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the output of a process that resumes from each stop under each optimizer: one fingerprint per line."""
    directory = tmp_path_factory.mktemp("fits")
    for name, optimizer in OPTIMIZERS.items():
        first = start(optimizer)
        fits = [first, *fn.fit(STEP, first, a_step, best_after_21, epochs=40, patience=9)]
        assert [each.waited for each in fits[21:]] == list(range(10))
        assert fits[-1].best.step == 21
        for number in STOPS[name]:
            fn.save(directory / f"{name}-{number}.safetensors", fits[number])
    command = [sys.executable, "-c", GO_ON, str(directory), SEARCHED]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_fit_resumes_in_another_process(name: str, resumed: str) -> None:
    """A run of 30 steps, with any optimizer, its schedule and early stopping, has one fingerprint."""
    whole = fn.fingerprint(ended(start(OPTIMIZERS[name])))
    lines = [line for line in resumed.splitlines() if line.startswith(f"{name}: ")]
    assert lines == len(STOPS[name]) * [f"{name}: {whole}"]


def test_a_fit_that_has_ended_stays_ended() -> None:
    """Passed to ``fit`` again, it yields nothing."""
    *_, last = fn.fit(STEP, start(), data, scripted([1.0, 2.0, 3.0]), epochs=3, patience=2)
    assert list(fn.fit(STEP, last, data, held_out_loss, epochs=3, patience=2)) == []
    assert list(fn.fit(STEP, last, data, held_out_loss, epochs=9, patience=2)) == []


def test_the_history_is_a_plain_table() -> None:
    """The history has one column per quantity and one row per epoch; changing it does not change the fit."""
    assert [len(column) for column in start().history.values()] == [0, 0, 0]
    *_, last = fn.fit(STEP, start(), data, held_out_loss, epochs=3)
    history = last.history
    assert {name: (column.dtype.name, column.shape) for name, column in history.items()} == {
        "epoch": ("int64", (3,)),
        "loss": ("float64", (3,)),
        "validation": ("float64", (3,)),
    }
    assert history["epoch"].tolist() == [0, 1, 2]
    assert tuple(history["loss"].tolist()) == last.losses
    assert tuple(history["validation"].tolist()) == last.values
    history["validation"][:] = 0
    assert tuple(last.history["validation"].tolist()) == last.values


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("matplotlib"), reason="matplotlib is not installed")
def test_matplotlib_takes_the_history_by_its_columns_names() -> None:
    """matplotlib accepts the history as ``data`` and draws the marks at its numbers."""
    figure: Any = import_module("matplotlib.figure").Figure()
    *_, last = fn.fit(STEP, start(), data, held_out_loss, epochs=3)
    axes = figure.subplots()
    axes.plot("epoch", "loss", data=last.history)
    axes.plot("epoch", "validation", data=last.history)
    assert [tuple(line.get_ydata()) for line in axes.lines] == [last.losses, last.values]
    assert [line.get_label() for line in axes.lines] == ["loss", "validation"]


def test_the_arithmetic_is_bound_when_called() -> None:
    """The behavior is that of ``train``."""
    with fn.portable():
        portable = start()
        run = fn.fit(STEP, portable, data, held_out_loss, epochs=2)
    first = list(run)[-1]
    with fn.portable():
        second = list(fn.fit(STEP, portable, data, held_out_loss, epochs=2))[-1]
    assert fn.fingerprint(first) == fn.fingerprint(second)
    assert first.state.arithmetic == "portable"


def test_bad_settings_are_refused_when_called() -> None:
    """They are refused before the first epoch is trained."""
    for settings, message in (
        ({"epochs": -1}, "epochs must be"),
        ({"epochs": 2, "patience": 0}, "patience must be"),
        ({"epochs": 2, "goal": "best"}, "goal must be 'lowest' or 'highest', got 'best'"),
        ({"epochs": 2, "goal": np.ones(3)}, "goal must be 'lowest' or 'highest', got array"),
        ({"epochs": 2, "min_delta": -0.1}, "min_delta must be"),
    ):
        keywords: dict[str, Any] = settings
        with pytest.raises(fn.ConfigError, match=message):
            fn.fit(STEP, start(), data, held_out_loss, **keywords)
    bare: Any = start().state
    with pytest.raises(fn.ConfigError, match=r"start must be a Fit, .*; use Fit.create\(state\)"):
        fn.fit(STEP, bare, data, held_out_loss, epochs=1)


def test_a_validation_that_is_not_finite_is_refused() -> None:
    """The error has the epoch's number."""
    with pytest.raises(fn.NonFiniteError, match="the validation value after epoch 1 is nan"):
        list(fn.fit(STEP, start(), data, scripted([1.0, float("nan")]), epochs=2))


def test_evaluate_is_the_loss_over_all_rows() -> None:
    """``evaluate`` computes the loss in chunks with the plain network: Dropout has no effect."""
    net, x = start().state.params, np.tile(X, (20, 1))
    whole = fn.softmax_cross_entropy(fn.forward(net, x), np.tile(LABELS, 20))[0]
    assert fn.evaluate(net, x, np.tile(LABELS, 20), fn.softmax_cross_entropy) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("value", [None, "0.5", (0.5,), True, 1j, np.array([0.5])])
def test_validation_gives_a_number(value: Any) -> None:
    """Any other result is refused, and the message shows it."""
    with pytest.raises(fn.ConfigError, match="fit: validate and metrics must return a number, got"):
        list(fn.fit(STEP, start(), data, lambda _: value, epochs=1))


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(2), np.float64(0.25)])
def test_validation_gives_any_number(value: Any) -> None:
    """Real numbers of Python and NumPy are accepted."""
    assert next(fn.fit(STEP, start(), data, lambda _: value, epochs=1)).values == (float(value),)


# ------------------------------------------------------------------------------------------------- many ranks


def test_each_rank_yields_the_fits_of_one_process() -> None:
    """Each rank has the fits of a step without a reducer, and stops early after the same epoch."""

    def fits(rank: Rank | None) -> list[str]:
        step = fn.train_step(fn.softmax_cross_entropy, shard_size=3, reducer=rank)
        values = scripted([3.0, 1.0, 2.0, 2.0, 2.0])
        return [fn.fingerprint(fit) for fit in fn.fit(step, start(), data, values, epochs=5, patience=2)]

    alone = fits(None)
    assert len(alone) == 4
    assert on_ranks(3, fits) == [alone] * 3


def test_ranks_with_other_values_are_refused() -> None:
    """Otherwise, they could stop after different epochs and wait for each other."""

    def fits(rank: Rank) -> list[object]:
        step = fn.train_step(fn.softmax_cross_entropy, shard_size=3, reducer=rank)
        return list(fn.fit(step, start(), data, lambda _: float(rank.rank), epochs=1))

    assert all(isinstance(found, fn.StructureError) for found in errors_on(2, fits))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("epochs", (2, 3)),
        ("patience", (None, 1)),
        ("goal", ("lowest", "highest")),
        ("min_delta", (0.0, 0.5)),
        ("plateau", (fn.ReduceOnPlateau(factor=0.5, patience=1), fn.ReduceOnPlateau(factor=0.1, patience=1))),
    ],
)
def test_ranks_with_other_settings_are_refused(name: str, values: tuple[Any, Any]) -> None:
    """They are compared before the first epoch: a rank with fewer epochs would leave the others waiting."""

    def fits(rank: Rank) -> object:
        step = fn.train_step(fn.softmax_cross_entropy, shard_size=3, reducer=rank)
        given: dict[str, Any] = {"epochs": 2, name: values[rank.rank]}
        return next(fn.fit(step, start(), data, held_out_loss, **given))

    for found in errors_on(2, fits):
        assert isinstance(found, fn.StructureError)
        assert all(f"{name}={value!r}" in str(found) for value in values)


def test_ranks_that_resume_from_other_fits_are_refused() -> None:
    """A rank whose fit is complete would train no epoch."""
    (done,) = fn.fit(STEP, start(), data, epochs=1)

    def fits(rank: Rank) -> list[object]:
        step = fn.train_step(fn.softmax_cross_entropy, shard_size=3, reducer=rank)
        return list(fn.fit(step, done if rank.rank else start(), data, epochs=1))

    assert all(isinstance(found, fn.StructureError) for found in errors_on(2, fits))
