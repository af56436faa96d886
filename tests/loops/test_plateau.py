"""Plateaus: the reduced rate against PyTorch's scheduler, in every optimizer, and in a fit that resumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st
from networks import inputs
from optimizer_table import OPTIMIZERS

import funcnet as fn
from funcnet.loops.plateau import with_multiplier
from funcnet.optimizers import Optimizer
from funcnet.optimizers.scaling import scaled
from funcnet.runs.structure import take_apart

KEY: Final = fn.Key(68)
X: Final = inputs(KEY.child("x"), 12, 3, dtype=np.float32)
LABELS: Final = np.arange(12) % 2
STEP: Final = fn.train_step(fn.softmax_cross_entropy)
NET: Final = (fn.dense(KEY, 3, 2), fn.Dropout(0.2))
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def start(optimizer: Optimizer = fn.SGD(learning_rate=0.1)) -> fn.Fit[Any]:
    """Return the initial fit."""
    return fn.Fit.create(fn.TrainState.create(NET, optimizer, key=KEY.child("run")))


def data(epoch: int) -> Any:
    """Return two batches."""
    return fn.minibatches(X, LABELS, 6, key=KEY.child("shuffle", epoch))


def scripted(values: list[float]) -> Callable[[Any], float]:
    """Return a validation function with a scripted value for each epoch."""

    def validate(state: fn.TrainState[Any]) -> float:
        return values[state.step // 2 - 1]

    return validate


@frozen
class Kept:
    """A step that leaves the state as it is but for the count, for runs in which only the rate matters."""

    def __call__(self, state: Any, _: object) -> tuple[Any, float]:
        """Return the state after one more step."""
        return evolve(state, step=state.step + 1), 0.0


def multipliers(values: list[float], plateau: fn.ReduceOnPlateau, **settings: Any) -> list[float]:
    """Return the multiplier after each epoch of a run with scripted values."""

    def validate(state: fn.TrainState[Any]) -> float:
        return values[state.step - 1]

    run = fn.fit(Kept(), start(), lambda _: [None], validate, epochs=len(values), plateau=plateau, **settings)
    return [each.multiplier for each in run]


PLATEAUS: Final = st.builds(
    fn.ReduceOnPlateau,
    factor=st.sampled_from([0.1, 0.5, 0.3]),
    patience=st.integers(1, 4),
    lowest=st.sampled_from([1e-6, 0.2]),
)
VALUES: Final = st.lists(st.integers(-8, 8).map(lambda n: n / 4), min_size=1, max_size=20)


@given(
    values=VALUES,
    plateau=PLATEAUS,
    goal=st.sampled_from(["lowest", "highest"]),
    min_delta=st.sampled_from([0, 0.25, 1]),
)
def test_the_rates_are_those_of_pytorch(
    values: list[float], plateau: fn.ReduceOnPlateau, goal: Any, min_delta: float
) -> None:
    """PyTorch's scheduler reduces after more than its patience, which is therefore one less."""
    torch: Any = pytest.importorskip("torch", reason="torch is not installed")
    sgd = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        sgd,
        mode={"lowest": "min", "highest": "max"}[goal],
        factor=plateau.factor,
        patience=plateau.patience - 1,
        threshold=min_delta,
        threshold_mode="abs",
        min_lr=0.5 * plateau.lowest,
        eps=0,
    )
    wanted = list[float]()
    for value in values:
        scheduler.step(value)
        wanted.append(sgd.param_groups[0]["lr"])
    found = multipliers(values, plateau, goal=goal, min_delta=min_delta)
    np.testing.assert_allclose(0.5 * np.array(found), wanted, rtol=1e-12)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([3, 3, 3, 3, 3, 3], [1, 1, 0.5, 0.5, 0.25, 0.25]),
        ([3, 2, 2, 1, 1, 1], [1, 1, 1, 1, 1, 0.5]),
        ([1, 2, 0.5, 2, 2, 0.25], [1, 1, 1, 1, 0.5, 0.5]),
        ([9, 8, 7, 6, 5, 4], [1] * 6),
    ],
)
def test_the_rate_is_reduced_after_patience_epochs(values: list[float], wanted: list[float]) -> None:
    """The wait begins anew after a better value and after a reduction."""
    assert multipliers(values, fn.ReduceOnPlateau(factor=0.5, patience=2)) == wanted


def test_the_multiplier_has_a_lowest_value() -> None:
    """It is reached and not passed, and a multiplier that is below it already is not raised."""
    assert multipliers([0.0] * 6, fn.ReduceOnPlateau(factor=0.1, patience=1, lowest=0.05)) == [1, 0.1, *[0.05] * 4]
    assert fn.ReduceOnPlateau(lowest=0.5).reduced(0.2, 10) == 0.2


@every_optimizer
def test_the_rate_is_multiplied_in_every_optimizer(name: str) -> None:
    """Inside wrappers too, for numbers and schedules; the settings that remain and the moments are those of before."""
    optimizer = OPTIMIZERS[name]
    reduced = scaled("test", optimizer, 0.25)
    np.testing.assert_array_equal(fn.learning_rates(reduced, 30), 0.25 * fn.learning_rates(optimizer, 30))
    again = scaled("test", reduced, 4.0)
    np.testing.assert_array_equal(fn.learning_rates(again, 30), fn.learning_rates(optimizer, 30))
    assert reduced.init(NET).names == optimizer.init(NET).names


@every_optimizer
def test_an_epoch_has_the_bits_of_its_reduced_optimizer(name: str) -> None:
    """Each epoch is ``train_epoch`` with the optimizer of the reduced rate; the state keeps its own."""
    optimizer = OPTIMIZERS[name]
    values = [1.0] * 5
    fits = list(fn.fit(STEP, start(optimizer), data, scripted(values), epochs=5, plateau=fn.ReduceOnPlateau(0.5, 2)))
    state = start(optimizer).state
    for epoch, factor in enumerate([1.0, 1.0, 1.0, 0.5, 0.5]):
        changed = state if factor == 1.0 else evolve(state, optimizer=scaled("test", optimizer, factor))
        state, log = fn.train_epoch(STEP, changed, data(epoch))
        state = evolve(state, optimizer=optimizer)
        assert fn.fingerprint(fits[epoch].state) == fn.fingerprint(state)
        assert fits[epoch].losses[-1] == log.mean_loss
    assert fits[-1].state.optimizer == optimizer == fits[-1].best.optimizer
    assert fits[-1].multiplier == 0.25


def test_a_fit_that_improves_has_the_bits_of_a_fit_without_a_plateau() -> None:
    """Only the column of the multiplier differs; a fit without a plateau has neither the column nor the fields."""
    settings: dict[str, Any] = {"validate": scripted([5.0, 4.0, 3.0]), "epochs": 3}
    *_, plain = fn.fit(STEP, start(), data, **settings)
    *_, watched = fn.fit(STEP, start(), data, plateau=fn.ReduceOnPlateau(patience=1), **settings)
    assert fn.fingerprint(watched.state) == fn.fingerprint(plain.state)
    assert list(watched.history) == ["epoch", "loss", "validation", "multiplier"]
    assert watched.history["multiplier"].tolist() == [1, 1, 1]
    assert list(plain.history) == ["epoch", "loss", "validation"]
    assert "multiplier" not in repr(take_apart(plain, "test"))
    assert repr(plain) == repr(watched) == "Fit(epoch=3, best_epoch=2, waited=0)"


FLAT: Final = [3.0, 4.0, 3.5, 2.0, 2.0, 2.0, 2.0, 2.0]


@pytest.mark.parametrize("stop", range(8))
def test_a_saved_fit_resumes_with_the_same_bits(stop: int, tmp_path: Path) -> None:
    """The fingerprint, which contains the multipliers, is the same wherever the fit was stopped."""
    settings: dict[str, Any] = {
        "validate": scripted(FLAT),
        "epochs": 8,
        "patience": 6,
        "plateau": fn.ReduceOnPlateau(factor=0.5, patience=2),
    }
    begin = start(fn.Accumulation(fn.AdamW(learning_rate=fn.step_decay(0.1, step_size=5)), steps=2))
    fits = [begin, *fn.fit(STEP, begin, data, **settings)]
    assert fits[-1].multipliers == (1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25)
    fn.save(tmp_path / "fit", fits[stop])
    *_, resumed = fn.fit(STEP, fn.load(tmp_path / "fit", like=begin), data, **settings)
    assert fn.fingerprint(resumed) == fn.fingerprint(fits[-1])
    assert fn.fingerprint(evolve(resumed, multiplier=1.0)) != fn.fingerprint(resumed)


def test_a_plateau_may_begin_and_end_between_epochs() -> None:
    """Earlier epochs have the multiplier 1, and without a plateau the last multiplier remains in force."""
    first, last = list(fn.fit(STEP, start(), data, scripted(FLAT), epochs=3)), fn.ReduceOnPlateau(0.5, 2)
    *_, reduced = fn.fit(STEP, first[-1], data, scripted(FLAT), epochs=6, plateau=last)
    *_, kept = fn.fit(STEP, reduced, data, scripted(FLAT), epochs=8)
    assert kept.history["multiplier"].tolist() == [1, 1, 1, 1, 1, 1, 0.5, 0.5]
    wanted, _ = fn.train_epoch(STEP, with_multiplier(reduced.state, 0.5), data(6))
    (after, *_) = fn.fit(STEP, reduced, data, scripted(FLAT), epochs=8)
    assert fn.fingerprint(after.state.params) == fn.fingerprint(wanted.params)


def test_early_stopping_counts_from_the_best_epoch() -> None:
    """A reduction does not begin its patience anew."""
    plateau = fn.ReduceOnPlateau(0.5, patience=2)
    *_, last = fn.fit(STEP, start(), data, scripted([1.0] * 9), epochs=9, patience=5, plateau=plateau)
    assert (last.epoch, last.multiplier, repr(last)) == (
        6,
        0.25,
        "Fit(epoch=6, best_epoch=0, waited=5, multiplier=0.25)",
    )
    *_, by_loss = fn.fit(Kept(), start(), lambda _: [None], epochs=5, plateau=plateau)
    assert by_loss.multipliers == (1, 1, 1, 0.5, 0.5)


@frozen
class Own:
    """An optimizer without a field of this name."""

    rate: float

    def init(self, params: Any, /) -> Any:
        """Return no moments."""
        return fn.SGD(learning_rate=self.rate).init(params)

    def update(self, params: Any, grads: Any, moments: Any, step: int, /) -> Any:
        """Apply plain descent."""
        return fn.SGD(learning_rate=self.rate).update(params, grads, moments, step)


REFUSED: Final[dict[str, tuple[Any, dict[str, Any], str]]] = {
    "a network": (
        fn.Fit.create(NET),
        {},
        "the state must be a TrainState: its optimizer has the learning rate that plateau reduces, got (Dense(",
    ),
    "an optimizer without a rate": (
        start(fn.ClipByValue(Own(0.1), limit=1.0)),
        {},
        "the optimizer must have a field learning_rate, got Own(rate=0.1); make it a frozen attrs record with",
    ),
    "a rate that vanishes": (
        start(fn.SGD(learning_rate=1e-320)),
        {"plateau": fn.ReduceOnPlateau(factor=0.5, lowest=1e-10)},
        "the multiplied learning rate must be above 0, got 1e-320 * 1e-10 = 0; use a larger rate, or a larger lowest",
    ),
    "a number": (
        start(),
        {"plateau": 0.1},
        "plateau must be a ReduceOnPlateau, got 0.1; use ReduceOnPlateau(factor=0.1, patience=10)",
    ),
    "the class": (start(), {"plateau": fn.ReduceOnPlateau}, "plateau must be a ReduceOnPlateau, got"),
    "no reduced epoch": (
        start(),
        {"patience": 10},
        "patience must be more than the patience of plateau, 10, got 10: training would stop before a reduced rate",
    ),
    "a metric": (start(), {"metrics": {"multiplier": len}}, "a metric's name must be a string other than"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rate_to_reduce_is_refused_when_called(name: str) -> None:
    """No epoch is computed, and the message has the fix."""
    begin, settings, fact = REFUSED[name]
    keywords: dict[str, Any] = {"epochs": 1, "plateau": fn.ReduceOnPlateau(), **settings}
    with pytest.raises(fn.ConfigError) as caught:
        fn.fit(STEP, begin, data, scripted([1.0]), **keywords)
    assert str(caught.value).startswith(f"fit: {fact}")


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"factor": 1}, r"factor must be a number in \(0, 1\), got 1"),
        ({"factor": 0.0}, r"factor must be a number in \(0, 1\), got 0.0"),
        ({"patience": 0}, "patience must be an int of at least 1, got 0"),
        ({"lowest": 0}, r"lowest must be a number in \(0, 1\), got 0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], fact: str) -> None:
    """The record refuses them, and makes NumPy's numbers Python's."""
    with pytest.raises(fn.ConfigError, match=f"^ReduceOnPlateau: {fact}$"):
        fn.ReduceOnPlateau(**settings)
    numbers: Any = np.float64(0.5), np.int64(3)
    assert repr(fn.ReduceOnPlateau(*numbers)) == "ReduceOnPlateau(factor=0.5, patience=3, lowest=1e-06)"
