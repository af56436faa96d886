"""Schedules: learning rates as functions of the number of completed updates.

Schedules are records: they can be printed, pickled and saved. ``schedule(0)`` is the rate of the first update. The
``learning_rate`` of any optimizer is a number or a schedule. Any frozen record with such a ``__call__`` is a schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from types import FunctionType
from typing import TypeAlias, cast

from attrs import frozen

from funcnet.arithmetic.scalars import cos_pi, power
from funcnet.core.checks import INFINITY, check_count, check_iterable, check_number
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
    makers = (constant, step_decay, exponential_decay, cosine_decay, linear_warmup, join_schedules)
    if any(schedule is maker for maker in makers):
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
        return float(learning_rate)
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
        share = 0.5 * (1.0 + cos_pi(min(step, self.steps) / self.steps))
        return self.final + (self.learning_rate - self.final) * share


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
        if not self.schedules or len(self.boundaries) != len(self.schedules) - 1:
            wanted = "one boundary between consecutive schedules"
            got = f"got {len(self.schedules)} schedules and {len(self.boundaries)} boundaries"
            raise ConfigError(f"there must be {wanted}, {got}", subject="join_schedules")
        for boundary in self.boundaries:
            check_count("join_schedules", "a boundary", boundary)
        if any(a >= b for a, b in pairwise(self.boundaries)):
            raise ConfigError(f"boundaries must increase, got {self.boundaries}", subject="join_schedules")

    def __call__(self, step: int, /) -> float:
        """Return the rate at this step."""
        step = check_count("join_schedules", "step", step, low=0)
        number = sum(1 for boundary in self.boundaries if step >= boundary)
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


for _schedule in (ConstantRate, StepDecay, ExponentialDecay, CosineDecay, LinearWarmup, JoinedSchedules):
    register_name(_schedule, f"funcnet.{_schedule.__name__}")
