"""Argument checks for settings and arrays. All checks raise errors of the same form."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from funcnet.core.arrays import ARRAY_TYPES, FLOATS, AnyArray, Array, Labels
from funcnet.core.errors import ConfigError, DTypeError, LabelError, NonFiniteError, ShapeError

INFINITY: Final = float("inf")
LARGEST_FLOAT: Final = sys.float_info.max


def check_number(subject: str, name: str, value: object, *, low: float, high: float, closed: bool = False) -> None:
    """Check that a setting is a float or an int with ``low < value < high`` (``low <= value < high`` if ``closed``).

    Raises:
        ConfigError: If the value is outside the range. NaN is outside every range.

    Example:
        >>> check_number("SGD", "learning_rate", -0.1, low=0, high=float("inf"))
        Traceback (most recent call last):
        funcnet.ConfigError: SGD: learning_rate must be a number in (0, inf), got -0.1
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
        ConfigError: If it is not.

    Example:
        >>> check_count("dense", "out_size", 2.5)
        Traceback (most recent call last):
        funcnet.ConfigError: dense: out_size must be an int of at least 1, got 2.5
    """
    count = low - 1
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        count = value if isinstance(value, int) else int(cast("int", value))
    if count < low or (high is not None and count > high):
        span = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ConfigError(f"{name} must be an int {span}, got {value!r}", subject=subject)


MOST_ELEMENTS: Final = 2**58
"""The most elements that an array may have."""

MOST_PIXELS: Final = 2**20
"""The largest number of pixels in a setting: a window, a stride, a padding or a shift."""


def check_size(subject: str, name: str, value: object) -> None:
    """Check that a setting can be the number of elements of an array. The operating system checks the available memory.

    Raises:
        ConfigError: If it cannot.

    Example:
        >>> check_size("one_hot", "classes", 2**70)
        Traceback (most recent call last):
        funcnet.ConfigError: one_hot: classes must be an int from 1 to 2**58, got 1180591620717411303424
    """
    check_count(subject, name, value)
    if int(cast("int", value)) > MOST_ELEMENTS:
        raise ConfigError(f"{name} must be an int from 1 to 2**58, got {value!r}", subject=subject)


def check_callable(subject: str, name: str, value: object) -> None:
    """Check that a setting is a function or a callable record.

    Raises:
        ConfigError: If it is not callable.

    Example:
        >>> check_callable("sgd_step", "loss", None)
        Traceback (most recent call last):
        funcnet.ConfigError: sgd_step: loss must be a function, got None
    """
    if not callable(value):
        raise ConfigError(f"{name} must be a function, got {value!r:.80}", subject=subject)


def check_choice(subject: str, name: str, value: object, choices: tuple[str, ...]) -> None:
    """Check that a setting is one of the given words.

    Raises:
        ConfigError: If it is not.

    Example:
        >>> check_choice("fit", "goal", "best", ("lowest", "highest"))
        Traceback (most recent call last):
        funcnet.ConfigError: fit: goal must be 'lowest' or 'highest', got 'best'
    """
    if not isinstance(value, str) or value not in choices:
        wanted = " or ".join(map(repr, choices))
        raise ConfigError(f"{name} must be {wanted}, got {value!r:.80}", subject=subject)


def check_iterable(subject: str, name: str, value: object) -> None:
    """Check that a setting is iterable.

    Raises:
        ConfigError: If it is not.

    Example:
        >>> check_iterable("train_epoch", "batches", 3)
        Traceback (most recent call last):
        funcnet.ConfigError: train_epoch: batches must be a sequence or an iterator, got 3
    """
    if not isinstance(value, Iterable):
        raise ConfigError(f"{name} must be a sequence or an iterator, got {value!r:.80}", subject=subject)


Pattern: TypeAlias = Sequence["int | str"]
"""A shape in letters and numbers, such as ``("B", 784)``. One ``"..."`` matches any number of axes."""


def check_array(
    subject: str,
    name: str,
    value: object,
    pattern: Pattern,
    *,
    dtype: np.dtype[np.floating] | None = None,
    match: tuple[str, Array] | None = None,
) -> None:
    """Check an array's type, rank, shape and dtype, in this order.

    Args:
        subject: The layer or function that checks, such as ``"Dense"``.
        name: The argument's name, such as ``"x"``.
        value: The argument.
        pattern: The required shape. Letters match any size.
        dtype: The required dtype. None allows float32 and float64.
        match: The name and the array that determine the shape and the dtype, for the message.

    Raises:
        DTypeError: If the value is not a plain array or has a different dtype.
        ShapeError: If the array has a different shape.

    Example:
        >>> x, weight = np.zeros((32, 784)), np.zeros((100, 200))
        >>> check_array("Dense", "x", x, ("B", 100), match=("weight", weight))
        Traceback (most recent call last):
        funcnet.ShapeError: Dense: x must have shape (B, 100) to match weight (100, 200), got (32, 784)
    """
    if type(value) not in ARRAY_TYPES:
        raise _not_an_array(subject, name, value)
    array = cast("AnyArray", value)
    if not _fits(array.shape, pattern):
        raise _wrong_shape(subject, name, array.shape, pattern, match)
    if array.dtype not in FLOATS or (dtype is not None and array.dtype != dtype):
        raise _wrong_dtype(subject, name, array.dtype, dtype, match)


def check_batch(subject: str, x: Array, weight: Array | None = None) -> None:
    """Check a layer's input. Shapes: x (B, I) in the weight's dtype if a weight (I, ...) is given, else x (B, ...).

    Raises:
        DTypeError, ShapeError: Raised by ``check_array``.
    """
    if weight is None:
        if type(x) not in ARRAY_TYPES or x.ndim == 0 or x.dtype not in FLOATS:
            check_array(subject, "x", x, ("B", "..."))
    elif type(x) not in ARRAY_TYPES or x.ndim != 2 or x.shape[1] != weight.shape[0] or x.dtype != weight.dtype:
        check_array(subject, "x", x, ("B", weight.shape[0]), dtype=weight.dtype, match=("weight", weight))


def check_channels(subject: str, x: Array, name: str, per_channel: Array) -> None:
    """Check a layer's input against the array ``per_channel``. Shapes: x (B, ..., C), per_channel (C,), of equal dtype.

    Raises:
        DTypeError, ShapeError: Raised by ``check_array``.
    """
    if type(x) not in ARRAY_TYPES or x.ndim < 2 or x.shape[-1] != len(per_channel) or x.dtype != per_channel.dtype:
        pattern = ("B", "...", len(per_channel))
        check_array(subject, "x", x, pattern, dtype=per_channel.dtype, match=(name, per_channel))


def check_row_shape(
    subject: str, shape: tuple[int, ...], pattern: Pattern, match: tuple[str, Array] | None = None
) -> None:
    """Check the shape of a row in the same way as ``check_array`` checks the shape of a batch.

    Raises:
        ShapeError: If the row has a different shape.
    """
    if not _fits(shape, pattern):
        raise _wrong_shape(subject, "x", ("B", *shape), ("B", *pattern), match)


def _fits(shape: tuple[int, ...], pattern: Pattern) -> bool:
    if "..." in pattern:
        before = pattern.index("...")
        after = len(pattern) - before - 1
        pattern = (*pattern[:before], *pattern[before + 1 :])
        if len(shape) > before + after:
            shape = (*shape[:before], *shape[len(shape) - after :])
    if len(shape) != len(pattern):
        return False
    for size, wanted in zip(shape, pattern, strict=True):  # all() with a generator costs more than the comparisons
        if size != wanted and not isinstance(wanted, str):
            return False
    return True


def _wrong_shape(
    subject: str, name: str, shape: Pattern, pattern: Pattern, match: tuple[str, Array] | None
) -> ShapeError:
    wanted = _in_letters(pattern)
    reason = f" to match {match[0]} {match[1].shape}" if match else ""
    one_row = len(shape) == len(pattern) - 1 - ("..." in pattern) and pattern[0] == "B"
    fix = f"; for a batch of one, use {name}[None]" if one_row else ""
    if one_row and pattern[-1] == 1 and shape[-1] != 1 and len(pattern) > 2:
        fix = f"; for images of one channel, use {name}[..., None]"
    return ShapeError(f"{name} must have shape {wanted}{reason}, got {_in_letters(shape)}{fix}", subject=subject)


def _in_letters(pattern: Pattern) -> str:
    return f"({', '.join(map(str, pattern))}{',' if len(pattern) == 1 else ''})"


def _not_an_array(subject: str, name: str, value: object) -> DTypeError:
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    masked = hasattr(value, "filled")  # np.asarray would lose the mask
    fix = f"np.asarray({name})" if isinstance(value, np.ndarray) else f"np.asarray({name}, dtype=np.float32)"
    fix = f"{name}.filled(...)" if masked else fix
    return DTypeError(f"{name} must be a plain NumPy array, got {kind}; use {fix}", subject=subject)


def _wrong_dtype(
    subject: str,
    name: str,
    got: np.dtype[np.generic],
    wanted: np.dtype[np.floating] | None,
    match: tuple[str, Array] | None,
) -> DTypeError:
    target = "float32 or float64" if wanted is None else str(wanted)
    reason = f" to match {match[0]}" if match and wanted is not None else ""
    cast = "np.float32" if wanted is None else f"np.{wanted}"
    if got == np.uint8:
        fix = f"; for images divide by 255: {name}.astype({cast}) / 255"
    elif np.can_cast(got, np.float64, "same_kind"):
        fix = f"; use {name}.astype({cast})"
    else:
        fix = ""
    return DTypeError(f"{name} must be {target}{reason}, got {got}{fix}", subject=subject)


def check_labels(subject: str, name: str, labels: object, count: int, classes: int | None = None) -> None:
    """Check that labels are ``count`` class ids from 0 to ``classes`` - 1 (None allows any number of classes).

    Raises:
        DTypeError: If they are not a plain array of integers.
        ShapeError: If there is not one label per row.
        LabelError: If a label is out of range. The message names it.
    """
    if type(labels) not in ARRAY_TYPES:
        raise DTypeError(
            f"{name} must be a plain NumPy array of class ids, got {type(labels).__name__}; "
            f"use {f'{name}.filled(...)' if hasattr(labels, 'filled') else f'np.asarray({name})'}",
            subject=subject,
        )
    ids = cast("Labels", labels)
    if ids.shape != (count,):
        fix = f"; use {name}.argmax(axis=1) if its rows are one-hot" if ids.ndim == 2 else ""
        wanted = f"({count},), one class id per row"
        raise ShapeError(f"{name} must have shape {wanted}, got {ids.shape}{fix}", subject=subject)
    if ids.dtype.kind not in "iu":
        raise DTypeError(f"{name} must be integer class ids, got {ids.dtype}", subject=subject)
    # Viewed as unsigned, a negative label becomes a large number, so one pass checks both ends of the range.
    unsigned = ids.view(_unsigned(ids.dtype))
    if count and np.maximum.reduce(unsigned) >= (1 << (8 * ids.itemsize - 1) if classes is None else classes):
        bad = (ids < 0) | (ids >= (classes if classes is not None else np.inf))
        first = int(bad.argmax())
        span = f"in 0..{classes - 1}" if classes is not None else "0 or more"
        raise LabelError(f"{name} must be {span}, got {name}[{first}] = {ids[first]}", subject=subject)


def check_weight(subject: str, weight: Array, count: int) -> None:
    """Check that example weights are ``count`` finite floats that are 0 or more and not all 0.

    Raises:
        ShapeError, DTypeError, NonFiniteError, ConfigError: If they are not.
    """
    check_array(subject, "weight", weight, (count,))
    check_finite(subject, "weight", weight)
    if (weight < 0).any():
        first = int((weight < 0).argmax())
        raise ConfigError(f"weight must be 0 or more, got weight[{first}] = {weight[first]}", subject=subject)
    if not weight.any():
        raise ConfigError("at least one weight must be positive, got only zeros", subject=subject)


@lru_cache(maxsize=16)
def _unsigned(dtype: np.dtype[np.integer]) -> np.dtype[np.unsignedinteger]:
    """Return the unsigned integer dtype of the same size and byte order."""
    return np.dtype(dtype.str.replace("i", "u"))


def check_net_output(subject: str, x: Array, y: Array) -> None:
    """Check that the output y of a combinator's inner network has the shape and dtype of its input x.

    Raises:
        ShapeError, DTypeError: If it does not.
    """
    check_array(subject, "net(x)", y, x.shape, dtype=x.dtype, match=("x", x))


def check_finite(subject: str, name: str, array: NDArray[np.number]) -> None:
    """Check that no element is NaN or infinite.

    Raises:
        NonFiniteError: If one is. The message names the first.
    """
    for start in range(0, len(array), FINITE_ROWS):
        finite = np.isfinite(array[start : start + FINITE_ROWS])
        if not finite.all():
            row, *rest = np.unravel_index(int(finite.argmin()), finite.shape)
            index = (int(row) + start, *map(int, rest))
            where = ", ".join(map(str, index))
            raise NonFiniteError(f"{name} must be finite, got {name}[{where}] = {array[index]}", subject=subject)


FINITE_ROWS: Final = 256
