"""Scaling: an optimizer with its learning rate multiplied, inside any wrappers."""

from __future__ import annotations

from typing import Any, cast

from attrs import evolve, fields_dict, frozen, has

from funcnet.core.checks import INFINITY, check_number
from funcnet.core.errors import ConfigError
from funcnet.core.names import register_name
from funcnet.core.records import Settings
from funcnet.optimizers.protocol import Optimizer, Wrapper
from funcnet.optimizers.schedules import Schedule, check_rate


@frozen
class ScaledSchedule(Settings):
    """``schedule(step) * factor``.

    Example:
        >>> import funcnet as fn
        >>> ScaledSchedule(fn.step_decay(0.8, step_size=2), factor=0.5)(0)
        0.4
    """

    schedule: Schedule
    factor: float

    def check(self) -> None:
        """Check the settings."""
        check_rate("ScaledSchedule", self.schedule)
        check_number("ScaledSchedule", "factor", self.factor, low=0, high=INFINITY)

    def __call__(self, step: int, /) -> float:
        """Return the rate at this step."""
        return self.schedule(step) * self.factor


def scaled(subject: str, optimizer: Optimizer, factor: float) -> Optimizer:
    """Return the optimizer with its learning rate, a number or a schedule, multiplied by a factor.

    The moments of a run remain valid: only the learning rate differs.

    Raises:
        ConfigError: If the innermost optimizer is not a record with a field ``learning_rate``, or the product of this
            number and the factor is rounded to 0.

    Example:
        >>> import funcnet as fn
        >>> scaled("fit", fn.Accumulation(fn.SGD(learning_rate=0.5), steps=4), 0.5)
        Accumulation(optimizer=SGD(learning_rate=0.25), steps=4)
    """
    if isinstance(optimizer, Wrapper):
        return evolve(optimizer, optimizer=scaled(subject, optimizer.optimizer, factor))
    kind = type(optimizer)
    if not has(kind) or "learning_rate" not in fields_dict(kind):
        fix = "make it a frozen attrs record with this field"
        got = f"got {optimizer!r:.80}; {fix}"
        raise ConfigError(f"the optimizer must have a field learning_rate, {got}", subject=subject)
    given: Any = optimizer
    rate = cast("float | Schedule", given.learning_rate)
    new = ScaledSchedule(rate, factor) if callable(rate) else rate * factor
    if not new:
        reason = f"the multiplied learning rate must be above 0, got {rate!r} * {factor!r} = 0"
        raise ConfigError(f"{reason}; use a larger rate, or a larger lowest in ReduceOnPlateau", subject=subject)
    return cast("Optimizer", evolve(given, learning_rate=new))


register_name(ScaledSchedule, "funcnet.ScaledSchedule")
