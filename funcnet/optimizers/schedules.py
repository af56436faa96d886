"""Schedules: learning rates as functions of the number of completed updates.

Schedules are records: they can be printed, pickled and saved. ``schedule(0)`` is the rate of the first update. The
``learning_rate`` of any optimizer is a number or a schedule. Any frozen record with such a ``__call__`` is a schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from types import FunctionType
from typing import Final, TypeAlias, cast

from attrs import frozen

from funcnet.arithmetic.scalars import cos_pi, power
from funcnet.core.checks import INFINITY, as_float, check_count, check_iterable, check_number
from funcnet.core.errors import ConfigError
from funcnet.core.names import register_name
from funcnet.core.records import Settings
from funcnet.tracing import whole

Schedule: TypeAlias = Callable[[int], float]
"""``completed updates -> learning rate``, which is finite and 0 or more."""


def check_rate(subject: str, learning_rate: object) -> None:
    """Check that a learning rate is a finite number above 0, or a schedule.

    Raises:
        ConfigError: If it is neither.
    """
    _check_called(subject, learning_rate)
    if isinstance(learning_rate, type) or not callable(learning_rate):
        check_number(subject, "learning_rate", learning_rate, low=0, high=INFINITY)


def _check_called(subject: str, schedule: object) -> None:
    if any(schedule is maker for maker in _MAKERS):
        name = cast("FunctionType", schedule).__name__
        reason = f"got the function {name}, which makes one; call it: {name}(...)"
        raise ConfigError(f"a learning rate must be a number or a schedule, {reason}", subject=subject)


def rate_at(learning_rate: float | Schedule, step: int) -> float:
    """Return the learning rate after ``step`` updates.

    Raises:
        ConfigError: If step is not an int of at least 0, or a schedule does not return a finite number of at least 0.

    Example:
        >>> rate_at(0.1, 7), rate_at(step_decay(0.1, step_size=5, gamma=0.5), 7)
        (0.1, 0.05)
    """
    step = check_count("an optimizer", "step", step, low=0)
    if not callable(learning_rate):
        return as_float(learning_rate)
    return _scheduled(learning_rate, step)


@whole
def _scheduled(learning_rate: Schedule, step: int) -> float:
    value = learning_rate(step)
    subject, name = f"{learning_rate!r:.80}", f"the rate at step {step}"
    return float(check_number(subject, name, value, low=0, high=INFINITY, closed=True))


@frozen
class ConstantRate(Settings):
    """A constant rate; see ``constant``."""

    learning_rate: float

    def check(self) -> None:
        """Check the settings."""
        check_number("constant", "learning_rate", self.learning_rate, low=0, high=INFINITY)

    def __call__(self, step: int, /) -> float:
        """Return the rate at this step."""
        check_count("constant", "step", step, low=0)
        return float(self.learning_rate)


def constant(learning_rate: float) -> ConstantRate:
    """The same rate at every step, for use in ``join_schedules``.

    Example:
        >>> constant(0.1)(1000)
        0.1
    """
    return ConstantRate(learning_rate)


@frozen
class StepDecay(Settings):
    """``learning_rate * gamma**(step // step_size)``; see ``step_decay``."""

    learning_rate: float
    step_size: int
    gamma: float

    def check(self) -> None:
        """Check the settings."""
        check_number("step_decay", "learning_rate", self.learning_rate, low=0, high=INFINITY)
        check_count("step_decay", "step_size", self.step_size)
        check_number("step_decay", "gamma", self.gamma, low=0, high=INFINITY)

    def __call__(self, step: int, /) -> float:
        """Return the rate at this step."""
        step = check_count("step_decay", "step", step, low=0)
        return self.learning_rate * power(float(self.gamma), step // self.step_size)


def step_decay(learning_rate: float, *, step_size: int, gamma: float = 0.1) -> StepDecay:
    """A rate that is multiplied by ``gamma`` after every ``step_size`` steps, as in PyTorch's ``StepLR``.

    Example:
        >>> schedule = step_decay(0.8, step_size=10, gamma=0.5)
        >>> [schedule(step) for step in (0, 9, 10, 20)]
        [0.8, 0.8, 0.4, 0.2]
    """
    return StepDecay(learning_rate, step_size, gamma)


@frozen
class ExponentialDecay(Settings):
    """``learning_rate * gamma**(step / steps)``; see ``exponential_decay``."""

    learning_rate: float
    gamma: float
    steps: int

    def check(self) -> None:
        """Check the settings."""
        check_number("exponential_decay", "learning_rate", self.learning_rate, low=0, high=INFINITY)
        check_number("exponential_decay", "gamma", self.gamma, low=0, high=INFINITY)
        check_count("exponential_decay", "steps", self.steps)

    def __call__(self, step: int, /) -> float:
        """Return the rate at this step."""
        step = check_count("exponential_decay", "step", step, low=0)
        return self.learning_rate * power(float(self.gamma), step / self.steps)


def exponential_decay(learning_rate: float, *, gamma: float, steps: int = 1) -> ExponentialDecay:
    """A rate that decays smoothly by a factor of ``gamma`` every ``steps`` steps, as in PyTorch's ``ExponentialLR``.

    Example:
        >>> schedule = exponential_decay(0.1, gamma=0.25, steps=100)
        >>> [round(schedule(step), 6) for step in (0, 50, 100)]
        [0.1, 0.05, 0.025]
    """
    return ExponentialDecay(learning_rate, gamma, steps)


def _half_wave(start: float, end: float, progress: float) -> float:
    """Return the value between two numbers along half a cosine wave, for a progress from 0 to 1."""
    share = 0.5 * (1.0 + cos_pi(progress))
    return end + (start - end) * share


@frozen
class CosineDecay(Settings):
    """Half a cosine wave from ``learning_rate`` to ``final``; see ``cosine_decay``."""

    learning_rate: float
    steps: int
    final: float

    def check(self) -> None:
        """Check the settings."""
        check_number("cosine_decay", "learning_rate", self.learning_rate, low=0, high=INFINITY)
        check_count("cosine_decay", "steps", self.steps)
        check_number("cosine_decay", "final", self.final, low=0, high=INFINITY, closed=True)

    def __call__(self, step: int, /) -> float:
        """Return the rate at this step."""
        step = check_count("cosine_decay", "step", step, low=0)
        return _half_wave(self.learning_rate, self.final, min(step, self.steps) / self.steps)


def cosine_decay(learning_rate: float, *, steps: int, final: float = 0.0) -> CosineDecay:
    """A rate that falls to ``final`` over ``steps`` steps along half a cosine wave, and stays there.

    In contrast, the rate of PyTorch's ``CosineAnnealingLR`` rises again.

    Source: Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", ICLR 2017, without restarts.

    Example:
        >>> schedule = cosine_decay(0.1, steps=100)
        >>> [round(schedule(step), 6) for step in (0, 25, 50, 100, 1000)]
        [0.1, 0.085355, 0.05, 0.0, 0.0]
    """
    return CosineDecay(learning_rate, steps, final)


@frozen
class CosineRestarts(Settings):
    """A cosine wave that restarts; see ``cosine_restarts``."""

    learning_rate: float
    period: int
    multiplier: int
    final: float

    def check(self) -> None:
        """Check the settings."""
        check_number("cosine_restarts", "learning_rate", self.learning_rate, low=0, high=INFINITY)
        check_count("cosine_restarts", "period", self.period)
        check_count("cosine_restarts", "multiplier", self.multiplier)
        check_number("cosine_restarts", "final", self.final, low=0, high=INFINITY, closed=True)

    def __call__(self, step: int, /) -> float:
        """Return the rate at this step."""
        since, period = check_count("cosine_restarts", "step", step, low=0), self.period
        while self.multiplier > 1 and since >= period:
            since, period = since - period, period * self.multiplier
        return _half_wave(self.learning_rate, self.final, since % period / period)


def cosine_restarts(learning_rate: float, *, period: int, multiplier: int = 1, final: float = 0.0) -> CosineRestarts:
    """A rate that falls along half a cosine wave again and again: SGDR, PyTorch's ``CosineAnnealingWarmRestarts``.

    Args:
        learning_rate: The rate at the first step and after each restart.
        period: The number of steps before the first restart.
        multiplier: The factor by which each period is longer than the one before.
        final: The rate that each period falls towards. The restart comes one step before the rate reaches it.

    Source: Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", ICLR 2017, equation 5.

    Example:
        >>> schedule = cosine_restarts(0.1, period=2, multiplier=2)
        >>> [round(schedule(step), 6) for step in range(7)]  # periods of 2, 4 and 8 steps
        [0.1, 0.05, 0.1, 0.085355, 0.05, 0.014645, 0.1]
    """
    return CosineRestarts(learning_rate, period, multiplier, final)


@frozen
class OneCycle(Settings):
    """A rise and a fall, each along half a cosine wave; see ``one_cycle``."""

    learning_rate: float
    steps: int
    pct_start: float
    div_factor: float
    final_div_factor: float

    def check(self) -> None:
        """Check the settings."""
        check_number("one_cycle", "learning_rate", self.learning_rate, low=0, high=INFINITY)
        check_count("one_cycle", "steps", self.steps)
        check_number("one_cycle", "pct_start", self.pct_start, low=0, high=1, closed=True)
        check_number("one_cycle", "div_factor", self.div_factor, low=0, high=INFINITY)
        check_number("one_cycle", "final_div_factor", self.final_div_factor, low=0, high=INFINITY)

    def __call__(self, step: int, /) -> float:
        """Return the rate at this step."""
        last = self.steps - 1
        step = min(check_count("one_cycle", "step", step, low=0), last)
        initial, top = self.learning_rate / self.div_factor, self.pct_start * self.steps - 1.0
        if step <= top and top > 0:
            return _half_wave(initial, self.learning_rate, step / top)
        return _half_wave(self.learning_rate, initial / self.final_div_factor, (step - top) / (last - top))


def one_cycle(
    learning_rate: float,
    *,
    steps: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> OneCycle:
    """A rate that rises to ``learning_rate`` and then falls almost to 0: PyTorch's ``OneCycleLR`` with its defaults.

    The rise and the fall are half cosine waves. The rate stays at its last value after ``steps`` steps. The momentum
    does not change, as with PyTorch's ``cycle_momentum=False``.

    Args:
        learning_rate: The highest rate.
        steps: The number of steps of the cycle.
        pct_start: The fraction of the steps in which the rate rises.
        div_factor: The first rate is ``learning_rate / div_factor``.
        final_div_factor: The last rate is the first rate divided by this number.

    Source: Smith and Topin, "Super-convergence: Very fast training of neural networks using large learning rates",
    2017.

    Example:
        >>> schedule = one_cycle(0.1, steps=10, pct_start=0.5, div_factor=10.0)
        >>> [round(schedule(step), 6) for step in (0, 2, 4, 9, 100)]
        [0.01, 0.055, 0.1, 1e-06, 1e-06]
    """
    return OneCycle(learning_rate, steps, pct_start, div_factor, final_div_factor)


@frozen
class PolynomialDecay(Settings):
    """``final + (learning_rate - final) * (1 - step / steps)**power``; see ``polynomial_decay``."""

    learning_rate: float
    steps: int
    power: float
    final: float

    def check(self) -> None:
        """Check the settings."""
        check_number("polynomial_decay", "learning_rate", self.learning_rate, low=0, high=INFINITY)
        check_count("polynomial_decay", "steps", self.steps)
        check_number("polynomial_decay", "power", self.power, low=0, high=INFINITY)
        check_number("polynomial_decay", "final", self.final, low=0, high=INFINITY, closed=True)

    def __call__(self, step: int, /) -> float:
        """Return the rate at this step."""
        step = check_count("polynomial_decay", "step", step, low=0)
        if step >= self.steps:
            return float(self.final)
        share = power((self.steps - step) / self.steps, float(self.power))
        return self.final + (self.learning_rate - self.final) * share


def polynomial_decay(learning_rate: float, *, steps: int, power: float = 1.0, final: float = 0.0) -> PolynomialDecay:
    """A rate that falls to ``final`` over ``steps`` steps along a power of the remaining steps, and stays there.

    A power of 1 is a linear decay. With ``final=0``, this is PyTorch's ``PolynomialLR``.

    Source: Liu, Rabinovich and Berg, "ParseNet: Looking wider to see better", 2015, for the "poly" policy.

    Example:
        >>> schedule = polynomial_decay(0.1, steps=100, power=2.0)
        >>> [round(schedule(step), 6) for step in (0, 50, 100, 1000)]
        [0.1, 0.025, 0.0, 0.0]
    """
    return PolynomialDecay(learning_rate, steps, power, final)


@frozen
class LinearWarmup(Settings):
    """A linear increase from ``initial`` to ``learning_rate``; see ``linear_warmup``."""

    learning_rate: float
    steps: int
    initial: float

    def check(self) -> None:
        """Check the settings."""
        check_number("linear_warmup", "learning_rate", self.learning_rate, low=0, high=INFINITY)
        check_count("linear_warmup", "steps", self.steps)
        check_number("linear_warmup", "initial", self.initial, low=0, high=INFINITY, closed=True)

    def __call__(self, step: int, /) -> float:
        """Return the rate at this step."""
        step = check_count("linear_warmup", "step", step, low=0)
        if step >= self.steps:
            return float(self.learning_rate)
        return self.initial + (self.learning_rate - self.initial) * (step / self.steps)


def linear_warmup(learning_rate: float, *, steps: int, initial: float = 0.0) -> LinearWarmup:
    """A rate that grows linearly from ``initial`` to ``learning_rate`` over ``steps`` steps, and stays there.

    With ``initial=0``, the first update does not change the parameters, as in Optax. PyTorch's ``LinearLR`` begins at a
    third of the rate.

    Example:
        >>> schedule = linear_warmup(0.1, steps=4)
        >>> [schedule(step) for step in (0, 2, 4, 100)]
        [0.0, 0.05, 0.1, 0.1]
    """
    return LinearWarmup(learning_rate, steps, initial)


@frozen
class PiecewiseConstant(Settings):
    """A sequence of constant rates; see ``piecewise_constant``."""

    values: tuple[float, ...]
    boundaries: tuple[int, ...]

    def check(self) -> None:
        """Check the settings."""
        for value in self.values:
            check_number("piecewise_constant", "each of values", value, low=0, high=INFINITY, closed=True)
        _check_boundaries("piecewise_constant", "values", self.values, self.boundaries)

    def __call__(self, step: int, /) -> float:
        """Return the rate at this step."""
        step = check_count("piecewise_constant", "step", step, low=0)
        return float(self.values[_piece_at(self.boundaries, step)])


def piecewise_constant(values: Sequence[float], boundaries: Sequence[int]) -> PiecewiseConstant:
    """Constant rates in sequence: at each boundary, the next of the ``values`` begins, as in ``join_schedules``.

    PyTorch's ``MultiStepLR`` has the same boundaries, its milestones, and multiplies the rate by one factor at each.

    Example:
        >>> schedule = piecewise_constant([0.1, 0.05, 0.001], [1000, 2000])
        >>> [schedule(step) for step in (0, 999, 1000, 1999, 2000)]
        [0.1, 0.1, 0.05, 0.05, 0.001]
    """
    check_iterable("piecewise_constant", "values", values)
    check_iterable("piecewise_constant", "boundaries", boundaries)
    return PiecewiseConstant(tuple(values), tuple(boundaries))


def _check_boundaries(subject: str, name: str, pieces: tuple[object, ...], boundaries: tuple[int, ...]) -> None:
    if not pieces or len(boundaries) != len(pieces) - 1:
        got = f"got {len(pieces)} {name} and {len(boundaries)} boundaries"
        raise ConfigError(f"there must be one boundary between consecutive {name}, {got}", subject=subject)
    for boundary in boundaries:
        check_count(subject, "a boundary", boundary)
    if any(a >= b for a, b in pairwise(boundaries)):
        raise ConfigError(f"boundaries must increase, got {boundaries}", subject=subject)


def _piece_at(boundaries: tuple[int, ...], step: int) -> int:
    """Return the number of boundaries that a step has reached, which is the index of its piece."""
    return sum(1 for boundary in boundaries if step >= boundary)


@frozen
class JoinedSchedules(Settings):
    """A sequence of schedules; see ``join_schedules``."""

    schedules: tuple[Schedule, ...]
    boundaries: tuple[int, ...]

    def check(self) -> None:
        """Check the settings."""
        for schedule in self.schedules:
            _check_called("join_schedules", schedule)
            if isinstance(schedule, type) or not callable(schedule):
                fix = f"use constant({schedule})"
                raise ConfigError(f"schedules must be schedules, got {schedule!r}; {fix}", subject="join_schedules")
        _check_boundaries("join_schedules", "schedules", self.schedules, self.boundaries)

    def __call__(self, step: int, /) -> float:
        """Return the rate at this step."""
        step = check_count("join_schedules", "step", step, low=0)
        number = _piece_at(self.boundaries, step)
        return self.schedules[number](step - (self.boundaries[number - 1] if number else 0))


def join_schedules(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> JoinedSchedules:
    """Schedules in sequence, as in Optax: at each boundary, the next schedule begins, at its own step 0.

    Example:
        >>> schedule = join_schedules([linear_warmup(0.1, steps=10), cosine_decay(0.1, steps=90)], [10])
        >>> [round(schedule(step), 6) for step in (0, 5, 10, 55, 100)]
        [0.0, 0.05, 0.1, 0.05, 0.0]
    """
    check_iterable("join_schedules", "schedules", schedules)
    check_iterable("join_schedules", "boundaries", boundaries)
    return JoinedSchedules(tuple(schedules), tuple(boundaries))


_MAKERS: Final[tuple[Callable[..., Schedule], ...]] = (
    constant,
    step_decay,
    exponential_decay,
    cosine_decay,
    cosine_restarts,
    one_cycle,
    polynomial_decay,
    linear_warmup,
    piecewise_constant,
    join_schedules,
)
"""The functions that make schedules, which are easily passed in place of a schedule."""

_RECORDS: Final = (
    ConstantRate,
    StepDecay,
    ExponentialDecay,
    CosineDecay,
    CosineRestarts,
    OneCycle,
    PolynomialDecay,
    LinearWarmup,
    PiecewiseConstant,
    JoinedSchedules,
)
for _schedule in _RECORDS:
    register_name(_schedule, f"funcnet.{_schedule.__name__}")
