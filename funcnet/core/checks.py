"""Argument checks for settings and arrays. All checks raise errors of the same form."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from funcnet.core.arrays import ARRAY_TYPES, FLOATS, AnyArray, Array, Labels, counted, is_ids
from funcnet.core.errors import ConfigError, DTypeError, LabelError, NonFiniteError, ShapeError

S = TypeVar("S")

INFINITY: Final = float("inf")
LARGEST_FLOAT: Final = sys.float_info.max


def to_python(value: S) -> S:
    """Return a NumPy number as the Python number that it denotes, also inside tuples, and any other value unchanged.

    Settings, seeds and counts are converted, so that what is printed, compared, saved and fingerprinted does not depend
    on where a number came from. A Python number also never promotes a float32 array.

    Args:
        value: A NumPy scalar or an array without axes, of bools, integers, floats or text; a tuple; anything else.

    Example:
        >>> to_python((np.int64(3), np.float32(0.5), np.array(0.25), np.True_, "same"))
        (3, 0.5, 0.25, True, 'same')
    """
    given: object = value
    made: object = given
    if isinstance(given, np.generic | np.ndarray):
        array = cast("AnyArray", value)
        if array.ndim == 0 and array.dtype.kind in "biufU":
            made = cast("object", array.item())
            if array.dtype.kind == "f":
                made = float(cast("float", made))  # a long double is its own item
    elif type(given) is tuple:
        parts = cast("tuple[object, ...]", given)
        converted = tuple(to_python(part) for part in parts)
        made = parts if all(a is b for a, b in zip(converted, parts, strict=True)) else converted
    return cast("S", made)


def as_float(number: float) -> float:
    """Return an int or a float as a float. Unlike ``float(number)``, a trace records it for a number that varies.

    Example:
        >>> as_float(1)
        1.0
    """
    return 1.0 * to_python(number)


def check_number(subject: str, name: str, value: object, *, low: float, high: float, closed: bool = False) -> float:
    """Check that a setting is a float or an int with ``low < value < high`` (``low <= value < high`` if ``closed``).

    Returns:
        The setting as a Python number.

    Raises:
        ConfigError: If the value is outside the range. NaN is outside every range.

    Example:
        >>> check_number("SGD", "learning_rate", -0.1, low=0, high=float("inf"))
        Traceback (most recent call last):
        funcnet.ConfigError: SGD: learning_rate must be a number in (0, inf), got -0.1
    """
    given = to_python(value)
    number = given if isinstance(given, int | float) and not isinstance(given, bool) else math.nan
    size = math.inf if isinstance(number, int) and number > LARGEST_FLOAT else number
    if not ((low <= size if closed else low < size) and size < high):
        span = f"{'[' if closed else '('}{low}, {high})"
        raise ConfigError(f"{name} must be a number in {span}, got {value!r}", subject=subject)
    return number


def check_divisor(subject: str, name: str, value: float, dtype: np.dtype[np.floating]) -> None:
    """Check that a number which keeps a quotient finite is not rounded to 0 in the dtype of the arrays.

    Raises:
        ConfigError: If it is.

    Example:
        >>> check_divisor("Adam", "eps", 1e-50, np.dtype(np.float32))
        Traceback (most recent call last):
        funcnet.ConfigError: Adam: eps must be at least 1e-45 for float32 arrays, got 1e-50
    """
    smallest = np.finfo(dtype).smallest_subnormal
    if value <= float(smallest) / 2:
        raise ConfigError(f"{name} must be at least {smallest!s} for {dtype} arrays, got {value!r}", subject=subject)


def check_count(subject: str, name: str, value: object, *, low: int = 1, high: int | None = None) -> int:
    """Check that a setting is an int of at least ``low`` and at most ``high``.

    Returns:
        The setting as a Python int.

    Raises:
        ConfigError: If it is not.

    Example:
        >>> check_count("dense", "out_size", 2.5)
        Traceback (most recent call last):
        funcnet.ConfigError: dense: out_size must be an int of at least 1, got 2.5
    """
    given = to_python(value)
    count = given if isinstance(given, int) and not isinstance(given, bool) else low - 1
    if count < low or (high is not None and count > high):
        span = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ConfigError(f"{name} must be an int {span}, got {value!r}", subject=subject)
    return count


def check_flag(subject: str, name: str, value: object) -> bool:
    """Check that a setting is True or False.

    Returns:
        The setting as a Python bool.

    Raises:
        ConfigError: If it is neither.

    Example:
        >>> check_flag("BatchNorm", "training", 1)
        Traceback (most recent call last):
        funcnet.ConfigError: BatchNorm: training must be True or False, got 1
    """
    given = to_python(value)
    if not isinstance(given, bool):
        raise ConfigError(f"{name} must be True or False, got {value!r:.80}", subject=subject)
    return given


MOST_ELEMENTS: Final = 2**58
"""The most elements that an array may have."""

MOST_PIXELS: Final = 2**20
"""The largest number of pixels in a setting: a window, a stride, a padding or a shift."""


def check_size(subject: str, name: str, value: object) -> int:
    """Check that a setting can be the number of elements of an array. The operating system checks the available memory.

    Returns:
        The setting as a Python int.

    Raises:
        ConfigError: If it cannot.

    Example:
        >>> check_size("one_hot", "classes", 2**70)
        Traceback (most recent call last):
        funcnet.ConfigError: one_hot: classes must be an int from 1 to 2**58, got 1180591620717411303424
    """
    count = check_count(subject, name, value)
    if count > MOST_ELEMENTS:
        raise ConfigError(f"{name} must be an int from 1 to 2**58, got {count!r}", subject=subject)
    return count


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
        raise _not_an_array(subject, name, value, dtype)
    array = cast("AnyArray", value)
    if not _fits(array.shape, pattern):
        raise _wrong_shape(subject, name, array.shape, pattern, match, ids=is_ids(array))
    if array.dtype not in FLOATS or (dtype is not None and array.dtype != dtype):
        raise _wrong_dtype(subject, name, array.dtype, dtype, match)


def check_input(subject: str, name: str, value: object, rows: int | str = "B") -> None:
    """Check that a value can be the input of a network: an array (B, ...) of float32, float64 or integers.

    The layers check the rest, because only a layer knows whether it takes floats or ids.

    Raises:
        DTypeError, ShapeError: Raised by ``check_array``.

    Example:
        >>> check_input("predict", "x", np.zeros((2, 3), bool))
        Traceback (most recent call last):
        funcnet.DTypeError: predict: x must be float32 or float64, got bool; use x.astype(np.float32)
    """
    array, pattern = cast("AnyArray", value), (rows, "...")
    if not (type(value) in ARRAY_TYPES and is_ids(array) and _fits(array.shape, pattern)):
        check_array(subject, name, value, pattern)


def check_batch(subject: str, x: Array) -> None:
    """Check the input of a layer that takes any batch. Shape: x (B, ...).

    Raises:
        DTypeError, ShapeError: Raised by ``check_array``.
    """
    if type(x) not in ARRAY_TYPES or x.ndim == 0 or x.dtype not in FLOATS:
        check_array(subject, "x", x, ("B", "..."))


def check_channels(subject: str, x: Array, name: str, per_channel: Array) -> None:
    """Check a layer's input against the array ``per_channel``, such as a scale (C,) or a weight (C, O) of equal dtype.

    Shape: x (B, ..., C).

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


def _fits(shape: Pattern, pattern: Pattern) -> bool:
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
    subject: str, name: str, shape: Pattern, pattern: Pattern, match: tuple[str, Array] | None, *, ids: bool = False
) -> ShapeError:
    wanted = _in_letters(pattern)
    reason = f" to match {match[0]} {match[1].shape}" if match else ""
    fix = _shape_fix(name, shape, pattern, ids=ids)
    return ShapeError(f"{name} must have shape {wanted}{reason}, got {_in_letters(shape)}{fix}", subject=subject)


def _shape_fix(name: str, shape: Pattern, pattern: Pattern, *, ids: bool) -> str:
    """Return the advice for the usual mistakes: one row without a batch, rows in another layout or not flattened."""
    channels, images = pattern[-1], tuple(pattern[:3]) == ("B", "H", "W")
    sequences = len(pattern) == 3 and tuple(pattern[:2]) == ("B", "T")
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    if len(sizes) > 1 and "..." in pattern and math.prod(sizes) == channels != sizes[-1]:
        return "; to make each row a vector, put Flatten() before the layer"
    first = isinstance(channels, int) and len(shape) > 2 and shape[1] == channels != shape[-1]
    if first and (images or "..." in pattern or (sequences and len(shape) == 3)):
        return f"; for channels first, use np.moveaxis({name}, 1, -1)"
    if sequences and len(shape) == 2:
        return _sequence_fix(name, shape, channels, ids=ids)
    fix = _image_fix(name, shape, channels) if images else ""
    lacks_one = pattern[0] == "B" and len(shape) == len(pattern) - 1 - ("..." in pattern)
    return f"; for a batch of one, use {name}[None]" if not fix and lacks_one and _fits((1, *shape), pattern) else fix


def _sequence_fix(name: str, shape: Pattern, channels: int | str, *, ids: bool) -> str:
    """Return the advice for an array of two axes where sequences (B, T, C) are required."""
    if ids:
        return "; for ids, put an Embedding before the layer"
    if channels == 1 != shape[-1]:
        return f"; for sequences of one channel, use {name}[..., None]"
    if channels not in (shape[-1], "C"):
        return ""
    one = "" if shape[0] == "B" else f"; for one sequence, use {name}[None]"
    return f"{one}; for the outputs of a recurrent layer, set its outputs='all'"


def _image_fix(name: str, shape: Pattern, channels: int | str) -> str:
    """Return the advice for flat images, and for images and sequences that lack an axis."""
    if isinstance(channels, int) and len(shape) == 2:
        return f"; for flat images, put Reshape((H, W, {channels})) before the layer"
    if len(shape) != 3 or (channels == "C" and shape[-1] in _CHANNELS) or channels not in (1, "C") or shape[-1] == 1:
        return ""
    row = f"; for sequences, put Reshape((1, {shape[1]}, {shape[2]})) before the layer" if channels == "C" else ""
    return f"; for images of one channel, use {name}[..., None]{row}"


_CHANNELS: Final = (1, 2, 3, 4)
"""The usual numbers of channels of an image; a larger last axis is the width of an image without channels."""


def _in_letters(pattern: Pattern) -> str:
    return f"({', '.join(map(str, pattern))}{',' if len(pattern) == 1 else ''})"


def _not_an_array(subject: str, name: str, value: object, dtype: np.dtype[np.floating] | None) -> DTypeError:
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    floats = "" if issubclass(type(value), np.ndarray) else f", dtype=np.{dtype or 'float32'}"
    fix = _fix_of_type(name, value, floats)
    return DTypeError(f"{name} must be a plain NumPy array, got {kind}; use {fix}", subject=subject)


def _fix_of_type(name: str, value: object, settings: str = "") -> str:
    """Return an expression for an array from a value that is not one."""
    if type(value).__name__ in _EXAMPLES:  # classes of later folders
        examples = _EXAMPLES[type(value).__name__]
        return f"{examples}.x and {examples}.y"
    if hasattr(value, "filled"):  # np.asarray would lose the mask
        return f"{name}.filled(...)"
    if isinstance(value, tuple) and any(isinstance(each, np.ndarray) for each in cast("tuple[object, ...]", value)):
        return f"{name}[0] or another of its arrays"
    return f"np.asarray({name}{settings})"


_EXAMPLES: Final = {"Batch": "batch", "Minibatches": "batches"}
"""The classes that hold inputs and targets, and the usual names of their objects."""


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
        may_be_ids = got.kind in "iu" and name == "x" and subject[:1].isupper()  # the subject is a layer
        fix = f"; use {name}.astype({cast})" + ("; for ids, put an Embedding first" if may_be_ids else "")
    else:
        fix = ""
    return DTypeError(f"{name} must be {target}{reason}, got {got}{fix}", subject=subject)


def check_labels(
    subject: str,
    name: str,
    labels: object,
    shape: int | tuple[int, ...],
    classes: int | None = None,
    *,
    weight: Array | None = None,
    dtype: np.dtype[np.floating] | None = None,
) -> Labels:
    """Check that labels of a shape are class ids from 0 to ``classes`` - 1 (None allows any number of classes).

    Args:
        subject: The function that checks.
        name: The argument's name, such as ``"labels"``.
        labels: The argument.
        shape: The required shape, (B, ...). A number is the number of rows: one label per row.
        classes: The number of classes, or None.
        weight: Shape (B,), or the shape of the labels or its first axes, or None. A label of weight 0 may be any
            integer.
        dtype: The dtype of weights that can leave a negative label out, for the message. None adds no such advice.

    Returns:
        The labels, with 1 for each label that is out of range but has the weight 0.

    Raises:
        DTypeError: If they are not a plain array of integers.
        ShapeError: If there is not one label per row, or per position.
        LabelError: If a label is out of range. The message names it.

    Example:
        >>> check_labels("Embedding", "x", np.array([[0, 1, 2], [3, 4, 5]]), (2, 3), 5)
        Traceback (most recent call last):
        funcnet.LabelError: Embedding: x must be in 0..4, got x[1, 2] = 5
    """
    check_plain(subject, name, labels, " of class ids")
    ids = cast("Labels", labels)
    shape = shape if isinstance(shape, tuple) else (shape,)
    if ids.shape != shape:
        wanted = f"{shape}, one class id per {'row' if len(shape) == 1 else 'position'}"
        fix = _fix_of_rows(name, ids, shape)
        raise ShapeError(f"{name} must have shape {wanted}, got {ids.shape}{fix}", subject=subject)
    if ids.dtype.kind not in "iu":
        fix = fix_of_ids(name, ids)
        raise DTypeError(f"{name} must be integer class ids, got {ids.dtype}{fix}", subject=subject)
    unsigned, limit = _as_unsigned(ids.dtype, classes)
    if limit is None or not ids.size:
        return ids
    if weight is not None:
        ids = counted(ids, weight, ids.view(unsigned) < limit)
        unsigned = unsigned.newbyteorder("=")  # the byte order that ``counted`` returns
    if np.maximum.reduce(ids.view(unsigned), axis=None) >= limit:
        first, where = first_true(ids.view(unsigned) >= limit)
        span = f"in 0..{classes - 1}" if classes is not None else "0 or more"
        got = f"got {name}[{where}] = {ids[first]}{_fix_of_negative(name, int(ids[first]), dtype)}"
        raise LabelError(f"{name} must be {span}, {got}", subject=subject)
    return ids


def _fix_of_negative(name: str, label: int, dtype: np.dtype[np.floating] | None) -> str:
    """Return the advice for a negative label, which often marks a row or a position without a label."""
    if label >= 0 or dtype is None:
        return ""
    return f"; to leave a label out, use weight=({name} != {label}).astype(np.{dtype})"


def check_ids(subject: str, name: str, value: object, count: int) -> NDArray[np.intp]:
    """Check that a layer's input (B, ...) holds ids from 0 to ``count`` - 1, and return it as the dtype of an index.

    Raises:
        DTypeError: If it is not a plain array of integers.
        ShapeError: If it has no axis.
        LabelError: If an id is out of range. The message names it.

    Example:
        >>> check_ids("Embedding", "x", np.array([[0, 1, 2], [3, 4, 5]]), 5)
        Traceback (most recent call last):
        funcnet.LabelError: Embedding: x must be in 0..4, got x[1, 2] = 5
    """
    check_plain(subject, name, value, " of ids")
    ids = cast("Labels", value)
    if ids.ndim == 0:
        raise ShapeError(f"{name} must have shape (B, ...), got ()", subject=subject)
    if ids.dtype.kind not in "iu":
        layers = f"; put the {subject} before the layers of floats" if ids.dtype.kind == "f" else ""
        fix = layers + fix_of_ids(name, ids).replace("; use", ", or use" if layers else "; use")
        raise DTypeError(f"{name} must be integer ids from 0 to {count - 1}, got {ids.dtype}{fix}", subject=subject)
    try:
        return check_labels(subject, name, ids, ids.shape, count).astype(np.intp, copy=False)
    except LabelError as error:
        if (ids >= 0).all():
            raise
        raise LabelError(f"{error.message}; an id for padding needs a row, too, such as 0", subject=subject) from None


@lru_cache(maxsize=64)
def _as_unsigned(
    dtype: np.dtype[np.integer], classes: int | None
) -> tuple[np.dtype[np.unsignedinteger], np.unsignedinteger | None]:
    """Return the unsigned dtype of the same size and byte order, and the smallest number in it that is not a class id.

    Viewed as unsigned, a negative number becomes at least half of the range, so one comparison checks both ends. None
    means that every number of the dtype is a class id.
    """
    unsigned = np.dtype(dtype.str.replace("i", "u"))
    bits = 8 * dtype.itemsize
    largest = 1 << (bits - (dtype.kind == "i"))
    limit = largest if classes is None else min(int(classes), largest)
    return unsigned, None if limit == 1 << bits else unsigned.type(limit)


def check_plain(subject: str, name: str, value: object, of: str = "") -> None:
    """Check that a value is a plain NumPy array, of any dtype.

    Raises:
        DTypeError: If it is not. The message describes the value.

    Example:
        >>> check_plain("split", "y", [0, 1])
        Traceback (most recent call last):
        funcnet.DTypeError: split: y must be a plain NumPy array, got list; use np.asarray(y)
    """
    if type(value) not in ARRAY_TYPES:
        got, fix = type(value).__name__, _fix_of_type(name, value)
        raise DTypeError(f"{name} must be a plain NumPy array{of}, got {got}; use {fix}", subject=subject)


def check_rows(subject: str, name: str, value: object) -> AnyArray:
    """Check that a value is a plain NumPy array, of any dtype, with at least one axis, and return it.

    Raises:
        DTypeError, ShapeError: If it is not.
    """
    check_plain(subject, name, value)
    array = cast("AnyArray", value)
    if array.ndim == 0:
        raise ShapeError(f"{name} must have shape (N, ...), got ()", subject=subject)
    return array


def fix_of_ids(name: str, array: NDArray[Any]) -> str:
    """Return the advice for an array that should hold integer class ids."""
    kind, values = array.dtype.kind, array.ravel().tolist()
    if kind in "OUS" and values and all(isinstance(value, str | bytes) for value in values):
        return f"; for the names of classes, use np.unique({name}, return_inverse=True)[1]"
    if kind in "bfO" and all(isinstance(value, int | float) and value == value // 1 for value in values):
        return f"; use {name}.astype(np.int64)"
    return ""


def _fix_of_rows(name: str, rows: NDArray[np.number], shape: tuple[int, ...]) -> str:
    """Return the advice for an array that should hold one class id per row but has a row per example."""
    if len(shape) > 1 and rows.shape == (*shape, 1):
        return f"; use {name}[..., 0]"
    if len(shape) > 1 or rows.ndim != 2 or rows.dtype.kind not in "biuf":
        return ""
    if rows.shape[1] == 1:
        return f"; use {name}[:, 0]" if rows.dtype.kind in "iu" else ""
    if not ((rows == 0) | (rows == 1)).all():
        return f"; if it has a score for each class, use {name}.argmax(axis=1)" if rows.dtype.kind == "f" else ""
    if (np.count_nonzero(rows, axis=1) == 1).all():
        return f"; its rows are one-hot, so use {name}.argmax(axis=1)"
    fix = "use binary_cross_entropy as the loss, and predict(net, x, Multilabel()), which the metrics take, too"
    return f"; its rows have several labels or none, so {fix}"


def check_weight(
    subject: str, weight: Array, count: int, shape: tuple[int, ...] | None = None, *, zeros: bool = False
) -> None:
    """Check that weights are finite floats that are 0 or more, one for each row, position or element.

    Args:
        subject: The function that checks.
        weight: The weights.
        count: The number of rows.
        shape: A shape (count, ...), such as that of the target: the weights may have this shape, or its first axes.
            None allows one weight per row.
        zeros: Allow weights that are all 0.

    Raises:
        ShapeError, DTypeError, NonFiniteError, ConfigError: If they are not.
    """
    if type(weight) not in ARRAY_TYPES or shape is None or weight.shape != shape[: weight.ndim] or weight.ndim == 0:
        if type(weight) in ARRAY_TYPES and weight.shape != (count,) and shape is not None and len(shape) > 1:
            wanted = ", ".join(str((count, *shape[1:end])) for end in range(1, len(shape))) + f" or {shape}"
            raise ShapeError(f"weight must have shape {wanted}, got {weight.shape}", subject=subject)
        check_array(subject, "weight", weight, (count,))
    check_array(subject, "weight", weight, weight.shape)
    check_finite(subject, "weight", weight)
    if (weight < 0).any():
        first, where = first_true(weight < 0)
        raise ConfigError(f"weight must be 0 or more, got weight[{where}] = {weight[first]}", subject=subject)
    if not zeros and not weight.any():
        raise ConfigError("at least one weight must be positive, got only zeros", subject=subject)


def first_true(bad: NDArray[np.bool_]) -> tuple[tuple[int, ...], str]:
    """Return the index of the first true element, and the index as text for a message."""
    index = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
    return index, ", ".join(map(str, index))


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
