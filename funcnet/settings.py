"""Checks of settings: numbers in a range, counts, functions, sequences. One message form for all of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import Final, cast

import numpy as np

from funcnet.errors import ConfigError

INFINITY: Final = float("inf")
LARGEST_FLOAT: Final = sys.float_info.max


def check_number(subject: str, name: str, value: object, *, low: float, high: float, closed: bool = False) -> None:
    """Check that a setting is a float or an int in ``low < value < high`` (``closed``: ``low <= value < high``).

    Raises:
        ConfigError: Says the range and what it got; NaN is in no range.

    Example:
        >>> check_number("SGD", "learning_rate", -0.1, low=0, high=float("inf"))
        Traceback (most recent call last):
        funcnet.errors.ConfigError: SGD: learning_rate must be a number in (0, inf), got -0.1
    """
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if isinstance(number, int) and number > LARGEST_FLOAT:
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
        count = value if isinstance(value, int) else int(cast("int", value))
    if count < low or (high is not None and count > high):
        span = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ConfigError(f"{name} must be an int {span}, got {value!r}", subject=subject)


LARGEST: Final = 2**58


def check_size(subject: str, name: str, value: object) -> None:
    """Check that a setting can be the number of an array's elements: whether there is memory for it, the system says.

    Raises:
        ConfigError: Says what it got.

    Example:
        >>> check_size("one_hot", "classes", 2**70)
        Traceback (most recent call last):
        funcnet.errors.ConfigError: one_hot: classes must be an int from 1 to 2**58, got 1180591620717411303424
    """
    check_count(subject, name, value)
    if int(cast("int", value)) > LARGEST:
        raise ConfigError(f"{name} must be an int from 1 to 2**58, got {value!r}", subject=subject)


def check_callable(subject: str, name: str, value: object) -> None:
    """Check that a setting is a function, or a record that can be called.

    Raises:
        ConfigError: Says what it got.

    Example:
        >>> check_callable("sgd_step", "loss", None)
        Traceback (most recent call last):
        funcnet.errors.ConfigError: sgd_step: loss must be a function, got None
    """
    if not callable(value):
        raise ConfigError(f"{name} must be a function, got {value!r:.80}", subject=subject)


def check_choice(subject: str, name: str, value: object, choices: tuple[str, ...]) -> None:
    """Check that a setting is one of a few words.

    Raises:
        ConfigError: Says the words and what it got.

    Example:
        >>> check_choice("fit", "goal", "best", ("lowest", "highest"))
        Traceback (most recent call last):
        funcnet.errors.ConfigError: fit: goal must be 'lowest' or 'highest', got 'best'
    """
    if not isinstance(value, str) or value not in choices:
        wanted = " or ".join(map(repr, choices))
        raise ConfigError(f"{name} must be {wanted}, got {value!r:.80}", subject=subject)


def check_iterable(subject: str, name: str, value: object) -> None:
    """Check that a setting can be walked over.

    Raises:
        ConfigError: Says what it got.

    Example:
        >>> check_iterable("train_epoch", "batches", 3)
        Traceback (most recent call last):
        funcnet.errors.ConfigError: train_epoch: batches must be a sequence or an iterator, got 3
    """
    if not isinstance(value, Iterable):
        raise ConfigError(f"{name} must be a sequence or an iterator, got {value!r:.80}", subject=subject)
