"""Schedules: values, the same bits on every machine, use in a run, serialization, refusals."""

from __future__ import annotations

import math
import pickle
from typing import Any, Final

import numpy as np
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from networks import inputs

import funcnet as fn
from funcnet.arithmetic.scalars import cos_pi, integer_power, power
from funcnet.core.checks import INFINITY
from funcnet.optimizers.schedules import Schedule, rate_at
from funcnet.runs.structure import put_together, take_apart

KEY: Final = fn.Key(63)
NAN: Final = math.nan
SCHEDULES: Final[dict[str, tuple[Schedule, str]]] = {
    "constant": (fn.constant(0.1), "8cc6bf7c3691c282af17aab3440ee8855e4653ec9059337cd2adf4745101ba0a"),
    "step": (
        fn.step_decay(0.3, step_size=7, gamma=0.7),
        "e304eebef6753a3f280ebda12e540c83190c5372fc980b646433155a3592a85b",
    ),
    "exponential": (
        fn.exponential_decay(0.3, gamma=0.97),
        "74b25dee7c69555f97fc7b3345e9e333d1ae99ebd9a30f3200510fab6592a7fd",
    ),
    "exponential over ten": (
        fn.exponential_decay(0.3, gamma=0.5, steps=10),
        "846078125655b658983af396efa58f4cf348ca0689e5ea2bad7c211c74ce4bcb",
    ),
    "cosine": (
        fn.cosine_decay(0.3, steps=50, final=0.01),
        "9cbb692068c86d70a5488883daa784384e370018cb3c133f3333eb162c26409a",
    ),
    "cosine with restarts": (
        fn.cosine_restarts(0.3, period=5, multiplier=3, final=0.01),
        "b7353df9af831b8bb0ef8c7924bbc242ce11c0e18a38a797b2c68dd687e0d74f",
    ),
    "cosine with a period": (
        fn.cosine_restarts(0.3, period=8),
        "18898dcf889614f5bcba4c90f7f8e772c49d4ca06e215ef4e6b650a8d6882452",
    ),
    "one cycle": (
        fn.one_cycle(0.3, steps=50),
        "3a353f19749e3541bb4e2e6ff1c6f8fbc91040aea9771c9e9a1f5a945dde4570",
    ),
    "one cycle without a rise": (
        fn.one_cycle(0.3, steps=7, pct_start=0.1, div_factor=4.0, final_div_factor=3.0),
        "b42e22f63387bf59d7db4889021e27a9b0506c849711dd432aad8d8bcfa94438",
    ),
    "polynomial": (
        fn.polynomial_decay(0.3, steps=50, power=2.5, final=0.01),
        "2e038f825c9168bf8ce46d79dfa4a9c4d9476bffe7f33b800e20fa396fb2ebac",
    ),
    "linear": (
        fn.polynomial_decay(0.3, steps=50),
        "bd014bb232e4444e40bc1c41f8a91b312057b412facd3a7a933526fe47109376",
    ),
    "piecewise": (
        fn.piecewise_constant([0.3, 0.1, 0, 0.2], [1, 9, 30]),
        "177054a9dc58b3b211c0faae6f0850c302b94fd3f38aa6934bdf86ed46c77ba5",
    ),
    "warm-up": (
        fn.linear_warmup(0.3, steps=9, initial=0.1),
        "eb4f3b70c523346cc9b91c4bfe1aa53af1d0b84c5be033c5377f239fd816085c",
    ),
    "joined": (
        fn.join_schedules(
            [fn.linear_warmup(0.3, steps=5), fn.constant(0.3), fn.cosine_decay(0.3, steps=30)], boundaries=(5, 20)
        ),
        "71b94369ba342d998edd144ffa0eccec7f64de156875c12335608f2c5ecfc4d5",
    ),
}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


def rates(schedule: Schedule, steps: int = 60) -> list[float]:
    """Return the first rates of a schedule."""
    return [schedule(step) for step in range(steps)]


@every_schedule
def test_bits_are_committed(name: str) -> None:
    """One fingerprint covers sixty rates, and is the same in native and portable arithmetic."""
    schedule, golden = SCHEDULES[name]
    assert fn.fingerprint(tuple(rates(schedule))) == golden
    with fn.portable():
        assert fn.fingerprint(tuple(rates(schedule))) == golden


@every_schedule
def test_a_schedule_is_a_value(name: str) -> None:
    """It can be printed, compared, pickled, and rebuilt from the contents of a file."""
    schedule, _ = SCHEDULES[name]
    for again in (pickle.loads(pickle.dumps(schedule)), put_together(*take_apart(schedule, "test"))):  # noqa: S301
        assert again == schedule
        assert repr(again) == repr(schedule)
        assert fn.fingerprint(again) == fn.fingerprint(schedule)


def test_values_by_their_formulas() -> None:
    """The rates agree with formulas that use the C library's functions."""
    steps = range(60)
    wanted = {
        "constant": [0.1 for _ in steps],
        "step": [0.3 * 0.7 ** (step // 7) for step in steps],
        "exponential": [0.3 * 0.97**step for step in steps],
        "exponential over ten": [0.3 * 0.5 ** (step / 10) for step in steps],
        "cosine": [0.01 + 0.29 * (1 + math.cos(math.pi * min(step, 50) / 50)) / 2 for step in steps],
        "cosine with restarts": [
            0.01 + 0.29 * (1 + math.cos(math.pi * since / period)) / 2
            for period in (5, 15, 45)
            for since in range(period)
        ][:60],
        "cosine with a period": [0.15 * (1 + math.cos(math.pi * (step % 8) / 8)) for step in steps],
        "one cycle": [0.156 - 0.144 * math.cos(math.pi * step / 14) for step in range(15)]
        + [1.2e-6 + (0.3 - 1.2e-6) * (1 + math.cos(math.pi * step / 35)) / 2 for step in range(1, 36)]
        + [1.2e-6] * 10,
        "one cycle without a rise": [0.1625 + 0.1375 * math.cos(math.pi * (step + 0.3) / 6.3) for step in range(7)]
        + [0.025] * 53,
        "polynomial": [0.01 + 0.29 * (1 - min(step / 50, 1)) ** 2.5 for step in steps],
        "linear": [0.3 * (1 - min(step / 50, 1)) for step in steps],
        "piecewise": [0.3] + [0.1] * 8 + [0.0] * 21 + [0.2] * 30,
        "warm-up": [0.1 + 0.2 * min(step / 9, 1) for step in steps],
        "joined": [0.06 * step for step in range(5)]
        + [0.3] * 15
        + [0.15 * (1 + math.cos(math.pi * min(step, 30) / 30)) for step in range(40)],
    }
    for name, values in wanted.items():
        assert rates(SCHEDULES[name][0]) == pytest.approx(values, rel=1e-13, abs=1e-17), name


@given(st.integers(1, 10**6), st.integers(0, 2 * 10**6), st.floats(1e-6, 10), st.floats(0, 1))
def test_a_cosine_falls_between_its_ends(steps: int, step: int, peak: float, share: float) -> None:
    """It goes from the peak to the final rate, never leaves that range and never rises."""
    schedule = fn.cosine_decay(peak, steps=steps, final=share * peak)
    low, high = sorted((schedule(step), schedule(step + 1)))
    assert schedule(0) == pytest.approx(peak, rel=1e-15)
    assert schedule(steps) == schedule(10 * steps) == share * peak
    assert share * peak * (1 - 1e-15) <= low <= high <= peak * (1 + 1e-15)
    assert schedule(step + 1) <= schedule(step) * (1 + 1e-15)


@given(st.integers(1, 10**6), st.integers(0, 2 * 10**6), st.floats(0, 1, exclude_max=True), st.floats(0.01, 100))
def test_a_cycle_rises_and_falls(steps: int, step: int, start: float, factor: float) -> None:
    """The rate is between its ends and its peak, rises and then falls, and stays at its end."""
    schedule = fn.one_cycle(1.0, steps=steps, pct_start=start, div_factor=1 + factor, final_div_factor=2.0)
    first, last = 1 / (1 + factor), 1 / (1 + factor) / 2
    now, after = schedule(step), schedule(step + 1)
    assert last * (1 - 1e-15) <= now <= 1
    assert schedule(steps - 1) == schedule(10 * steps) == last
    if step + 1 <= start * steps - 1:
        assert first * (1 - 1e-14) <= now <= after * (1 + 1e-14)
    elif step > start * steps - 1:
        assert after <= now * (1 + 1e-15)


@given(st.integers(1, 10**9), st.integers(1, 5), st.integers(0, 40))
def test_restarts_begin_anew(period: int, multiplier: int, number: int) -> None:
    """Each period, which is longer by the multiplier, begins at the peak and has the rates of a single decay."""
    schedule = fn.cosine_restarts(0.5, period=period, multiplier=multiplier, final=0.1)
    start = sum(period * multiplier**k for k in range(number))
    long = period * multiplier**number
    single = fn.cosine_decay(0.5, steps=long, final=0.1)
    assert schedule(start) == 0.5
    for since in {0, long // 3, long - 1}:
        assert schedule(start + since) == single(since)


# -------------------------------------------------------------------------------------------- arithmetic


@given(st.floats(0, 1))
def test_cosines(x: float) -> None:
    """They are within two units in the last place of 1 of the C library's, and antisymmetric about a half."""
    assert cos_pi(x) == pytest.approx(math.cos(math.pi * x), abs=5e-16)
    assert cos_pi(1 - x) == pytest.approx(-cos_pi(x), abs=5e-16)
    assert (cos_pi(0.0), cos_pi(0.5), cos_pi(1.0)) == (1, 0, -1)


@pytest.mark.parametrize("x", [0.125, 0.25, 0.375])
def test_cosines_are_symmetric_about_a_half(x: float) -> None:
    """The two halves have the same bits up to the sign, even at the boundary between the polynomials."""
    assert cos_pi(1 - x) == -cos_pi(x)


@given(st.floats(0.5, 1), st.integers(0, 10**4))
def test_powers(base: float, exponent: int) -> None:
    """Powers by squaring are as accurate as the products allow; powers by logarithm are closer."""
    exact = base**exponent
    assert integer_power(base, exponent) == pytest.approx(exact, rel=1e-15 + exponent * 2.0**-52, abs=1e-300)
    assert integer_power(base, 1) == base
    assert power(base, exponent) == pytest.approx(exact, rel=1e-12, abs=1e-300)


def test_arithmetic_is_committed() -> None:
    """Powers and cosines at 200 points have the same bits on every machine."""
    places = [(2 * i + 1) / 401 for i in range(200)]
    found = tuple((cos_pi(x), integer_power(x, 7 * i), power(x, 7 * x)) for i, x in enumerate(places))
    assert fn.fingerprint(found) == "7ee7ee4e254aabbf97ee8b19fc3c6b2666661e94268a13cfde69157666da6d3a"


# ------------------------------------------------------------------------------------------------- in a run


def test_a_run_follows_its_schedule() -> None:
    """Each update uses the rate of its step, also in a fold; a rate of 0 leaves the parameters unchanged."""
    schedule = fn.join_schedules([fn.constant(0.5), fn.linear_warmup(0.1, steps=3)], [2])
    net, batch = fn.dense(KEY, 3, 2), fn.Batch(inputs(KEY, 4, 3, dtype=np.float32), np.array([0, 1, 1, 0]))
    run = fn.TrainState.create(net, fn.SGD(learning_rate=schedule), key=KEY)
    by_hand = net
    for step in range(5):
        _, grads = fn.value_and_grad(by_hand, batch.x, batch.y, fn.softmax_cross_entropy)
        after, _ = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), run, [batch] * (step + 1))
        by_hand = by_hand if step == 2 else fn.sgd_update(by_hand, grads, learning_rate=schedule(step))
        assert fn.equal(after.params, by_hand), step


@frozen
class Negative:
    """A user's schedule that returns an invalid rate at step 3."""

    value: Any

    def __call__(self, step: int) -> float:
        """Return the rate at this step."""
        return self.value if step == 3 else 0.1


@pytest.mark.parametrize("value", [-0.1, NAN, INFINITY, None, "0.1", True])
def test_what_a_schedule_gives_is_checked(value: Any) -> None:
    """It must be finite and 0 or more, also in a fold; the message has the number of the step."""
    fact = r"Negative\(value=.*\): the rate at step 3 must be a number in \[0, inf\), got"
    with pytest.raises(fn.ConfigError, match=fact):
        rate_at(Negative(value), 3)
    batch = fn.Batch(np.ones((1, 3), np.float32), np.array([0]))
    run = fn.TrainState.create(fn.dense(KEY, 3, 2), fn.AdamW(learning_rate=Negative(value)), key=KEY)
    with pytest.raises(fn.ConfigError, match="^step 3: " + fact):
        fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), run, [batch] * 5)


# ----------------------------------------------------------------------------------------------- refusals

BAD: Final[list[Any]] = [0, -0.1, NAN, INFINITY, True, "0.1", None]


@pytest.mark.parametrize("value", BAD, ids=repr)
def test_settings_are_checked(value: Any) -> None:
    """Each message has the name of the function and the valid range."""
    makers: dict[str, list[tuple[str, Any]]] = {
        "constant": [("learning_rate", lambda: fn.constant(value))],
        "step_decay": [
            ("learning_rate", lambda: fn.step_decay(value, step_size=2)),
            ("gamma", lambda: fn.step_decay(0.1, step_size=2, gamma=value)),
            ("step_size", lambda: fn.step_decay(0.1, step_size=value)),
        ],
        "exponential_decay": [
            ("learning_rate", lambda: fn.exponential_decay(value, gamma=0.5)),
            ("gamma", lambda: fn.exponential_decay(0.1, gamma=value)),
            ("steps", lambda: fn.exponential_decay(0.1, gamma=0.5, steps=value)),
        ],
        "cosine_decay": [
            ("learning_rate", lambda: fn.cosine_decay(value, steps=2)),
            ("steps", lambda: fn.cosine_decay(0.1, steps=value)),
        ],
        "cosine_restarts": [
            ("learning_rate", lambda: fn.cosine_restarts(value, period=2)),
            ("period", lambda: fn.cosine_restarts(0.1, period=value)),
            ("multiplier", lambda: fn.cosine_restarts(0.1, period=2, multiplier=value)),
        ],
        "one_cycle": [
            ("learning_rate", lambda: fn.one_cycle(value, steps=2)),
            ("steps", lambda: fn.one_cycle(0.1, steps=value)),
            ("div_factor", lambda: fn.one_cycle(0.1, steps=2, div_factor=value)),
            ("final_div_factor", lambda: fn.one_cycle(0.1, steps=2, final_div_factor=value)),
        ],
        "polynomial_decay": [
            ("learning_rate", lambda: fn.polynomial_decay(value, steps=2)),
            ("steps", lambda: fn.polynomial_decay(0.1, steps=value)),
            ("power", lambda: fn.polynomial_decay(0.1, steps=2, power=value)),
        ],
        "piecewise_constant": [],
        "linear_warmup": [
            ("learning_rate", lambda: fn.linear_warmup(value, steps=2)),
            ("steps", lambda: fn.linear_warmup(0.1, steps=value)),
        ],
    }
    if value != 0:  # a schedule may begin and end at 0
        makers["cosine_decay"].append(("final", lambda: fn.cosine_decay(0.1, steps=2, final=value)))
        makers["cosine_restarts"].append(("final", lambda: fn.cosine_restarts(0.1, period=2, final=value)))
        makers["one_cycle"].append(("pct_start", lambda: fn.one_cycle(0.1, steps=2, pct_start=value)))
        makers["polynomial_decay"].append(("final", lambda: fn.polynomial_decay(0.1, steps=2, final=value)))
        makers["piecewise_constant"].append(("each of values", lambda: fn.piecewise_constant([0.1, value], [2])))
        makers["linear_warmup"].append(("initial", lambda: fn.linear_warmup(0.1, steps=2, initial=value)))
    for name, calls in makers.items():
        for setting, call in calls:
            with pytest.raises(fn.ConfigError, match=rf"^{name}: {setting} must be a"):
                call()


def test_joined_schedules_fit_their_boundaries() -> None:
    """One boundary is needed between consecutive schedules, boundaries must increase, and items must be schedules."""
    one = fn.constant(0.1)
    with pytest.raises(fn.ConfigError, match="got 2 schedules and 0 boundaries"):
        fn.join_schedules([one, one], [])
    with pytest.raises(fn.ConfigError, match="got 0 schedules and 0 boundaries"):
        fn.join_schedules([], [])
    with pytest.raises(fn.ConfigError, match=r"boundaries must increase, got \(5, 5\)"):
        fn.join_schedules([one, one, one], [5, 5])
    with pytest.raises(fn.ConfigError, match="a boundary must be an int of at least 1, got 0"):
        fn.join_schedules([one, one], [0])
    with pytest.raises(fn.ConfigError, match=r"schedules must be schedules, got 0.1; use constant\(0.1\)"):
        fn.join_schedules([0.1], [])  # type: ignore[list-item]  # a number is not a schedule
    with pytest.raises(fn.ConfigError, match=r"join_schedules: .* call it: constant\("):
        fn.join_schedules([fn.constant], [])  # type: ignore[list-item]  # a function that makes schedules
    with pytest.raises(fn.ConfigError, match=r"SGD: .* got the function linear_warmup, .* call it: linear_warmup\("):
        fn.SGD(learning_rate=fn.linear_warmup)  # type: ignore[arg-type]  # another such function


def test_piecewise_rates_fit_their_boundaries() -> None:
    """The refusals are those of joined schedules, with this function's name; exchanged arguments do not fit."""
    with pytest.raises(fn.ConfigError, match=r"^piecewise_constant: there must be .* got 1 values and 2 boundaries$"):
        fn.piecewise_constant([100], [1, 2])
    with pytest.raises(fn.ConfigError, match=r"^piecewise_constant: boundaries must increase, got \(5, 5\)$"):
        fn.piecewise_constant([0.1, 0.2, 0.3], [5, 5])
    with pytest.raises(fn.ConfigError, match=r"^piecewise_constant: a boundary must be an int of at least 1, got 0.5$"):
        fn.piecewise_constant([0.1, 0.2], [0.5])  # type: ignore[list-item]  # not an int
    with pytest.raises(fn.ConfigError, match=r"^SGD: .* got the function one_cycle, .* call it: one_cycle\("):
        fn.SGD(learning_rate=fn.one_cycle)  # type: ignore[arg-type]  # a function that makes schedules


def test_powers_beyond_every_float_are_infinite_or_0() -> None:
    """They are not limited to the range of the exponential function, and a rate that is not finite is refused."""
    assert power(1e300, 5) == power(2.0, 5000) == power(1e-300, -5) == INFINITY
    assert power(0.5, 5000) == power(1e-300, 5) == 0
    assert fn.polynomial_decay(0.1, steps=9, power=1.7e308)(8) == 0
    last = 1021.4280889493862  # times the logarithm of 2, this is 708
    beyond = math.nextafter(last, INFINITY)
    for sign, end in ((1, INFINITY), (-1, 0)):
        assert power(2.0, sign * last) == pytest.approx(2.0 ** (sign * last), rel=1e-12, abs=0)
        assert power(2.0, sign * beyond) == end
    schedules: list[Schedule] = [
        fn.step_decay(0.1, step_size=1, gamma=1e300),
        fn.exponential_decay(0.1, gamma=2.0),
    ]
    for schedule in schedules:
        with pytest.raises(fn.ConfigError, match=r"the rate at step 5000 must be a number in \[0, inf\), got inf"):
            rate_at(schedule, 5000)
