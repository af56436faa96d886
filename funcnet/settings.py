"""Checks of settings: numbers in a range, counts, booleans out of place. One message form for all of them."""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from funcnet.errors import ConfigError


def check_number(subject: str, name: str, value: object, *, low: float, high: float, closed: bool = False) -> None:
    """Check that a setting is a float or an int in ``low < value < high`` (``closed``: ``low <= value < high``).

    Raises:
        ConfigError: Says the range and what it got; NaN is in no range.

    Example:
        >>> check_number("SGD", "learning_rate", -0.1, low=0, high=float("inf"))
        Traceback (most recent call last):
        funcnet.errors.ConfigError: SGD: learning_rate must be a number in (0, inf), got -0.1
    """
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:  # an int beyond every float
        number = math.inf
    if not (low < number < high or (closed and number == low)):
        span = f"{'[' if closed else '('}{low}, {high})"
        raise ConfigError(f"{name} must be a number in {span}, got {value!r}", subject=subject)


def check_count(subject: str, name: str, value: object, *, low: int = 1, high: int | None = None) -> None:
    """Check that a setting is an int of at least ``low`` and at most ``high``.

    Raises:
        ConfigError: Says the range and what it got.

    Example:
        >>> check_count("dense", "out_size", 2.5)
        Traceback (most recent call last):
        funcnet.errors.ConfigError: dense: out_size must be an int of at least 1, got 2.5
    """
    count = low - 1
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        count = int(cast("int", value))
    if count < low or (high is not None and count > high):
        span = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ConfigError(f"{name} must be an int {span}, got {value!r}", subject=subject)
