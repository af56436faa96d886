"""Arrays as funcnet uses them: their types, locking, and the one form of check and message.

Every array in a record is a locked (read-only), C-contiguous ``np.ndarray`` of float32 or float64 in native byte order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Final, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from funcnet.errors import ConfigError, DTypeError, LabelError, NonFiniteError, ShapeError

DECAYED: Final = "decayed"
FIXED: Final = "fixed"

Array: TypeAlias = NDArray[np.floating]
"""A float32 or float64 array; as the type of a record's field: a trained parameter."""

Weight: TypeAlias = Annotated[Array, DECAYED]
"""As the type of a record's field: a trained parameter that weight decay applies to."""

Statistic: TypeAlias = Annotated[Array, FIXED]
"""As the type of a record's field: rides along; never differentiated, updated or compared."""

Labels: TypeAlias = NDArray[np.integer]
"""Class ids, shape (B,), of any integer dtype."""

FloatDType: TypeAlias = type[np.float32] | type[np.float64]
"""The dtypes that a network can have."""

FLOATS: Final = (np.dtype(np.float32), np.dtype(np.float64))

ARRAY_TYPES: Final[set[type]] = {np.ndarray}
"""What counts as a plain array: NumPy's own, and what stands for one in a trace; no other subclass."""

AnyArray: TypeAlias = NDArray[np.generic]
"""An array of anything: what is looked at before it is known to be an ``Array``."""


def describe(array: AnyArray) -> str:
    """An array in a word: ``float32 (784, 100)``."""
    return f"{array.dtype} {array.shape}"


def lock(array: Array) -> Array:
    """Make an array that nobody else holds read-only, and return it."""
    array.flags.writeable = False
    return array


def adopt(array: Array) -> Array:
    """The array itself if it is locked and C-contiguous, else a locked C-contiguous copy.

    A read-only view of memory that somebody else can write is copied, too.
    """
    return array if is_canonical(array) else lock(array.copy("C"))


def is_canonical(array: Array) -> bool:
    """Whether an array can stand in a record as it is: read-only, and nobody can write its memory; C-contiguous."""
    flags = array.flags
    if flags.writeable or not flags.c_contiguous:
        return False
    base = array.base
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    return base is None or isinstance(base, bytes)


def contiguous(x: Array) -> Array:
    """``x`` in C order. Memory order changes bits in BLAS, so it is made canonical where arrays enter.

    Anything but an array passes unchanged: the layer that gets it knows what to say.
    """
    return x.copy("C") if type(x) in ARRAY_TYPES and not x.flags.c_contiguous else x


Pattern: TypeAlias = Sequence["int | str"]
"""A shape in letters and numbers: ``("B", 784)``; one ``"..."`` in it stands for any number of axes."""


def check_array(
    subject: str,
    name: str,
    value: object,
    pattern: Pattern,
    *,
    dtype: np.dtype[np.floating] | None = None,
    match: tuple[str, Array] | None = None,
) -> None:
    """Check type, rank, shape and dtype, in this order.

    Args:
        subject: Who asks, such as ``"Dense"``.
        name: The argument's name, such as ``"x"``.
        value: The argument.
        pattern: The shape that it must have; letters stand for any size.
        dtype: The dtype that it must have; None for float32 or float64.
        match: The name and the array that shape and dtype come from, for the message.

    Raises:
        DTypeError: If it is no plain array, or of another dtype.
        ShapeError: If it has another shape.

    Example:
        >>> x, weight = np.zeros((32, 784)), np.zeros((100, 200))
        >>> check_array("Dense", "x", x, ("B", 100), match=("weight", weight))
        Traceback (most recent call last):
        funcnet.errors.ShapeError: Dense: x must have shape (B, 100) to match weight (100, 200), got (32, 784)
    """
    if type(value) not in ARRAY_TYPES:
        raise _not_an_array(subject, name, value)
    array = cast("AnyArray", value)
    if not _fits(array.shape, pattern):
        raise _wrong_shape(subject, name, array.shape, pattern, match)
    if array.dtype not in FLOATS or (dtype is not None and array.dtype != dtype):
        raise _wrong_dtype(subject, name, array.dtype, dtype, match)


def check_batch(subject: str, x: Array, weight: Array | None = None) -> None:
    """Check a layer's input: (B, I) of the weight's dtype for a weight (I, ...), else (B, ...) of floats.

    Raises:
        DTypeError, ShapeError: As ``check_array`` says it.
    """
    if weight is None:
        if type(x) not in ARRAY_TYPES or x.ndim == 0 or x.dtype not in FLOATS:
            check_array(subject, "x", x, ("B", "..."))
    elif type(x) not in ARRAY_TYPES or x.ndim != 2 or x.shape[1] != weight.shape[0] or x.dtype != weight.dtype:
        check_array(subject, "x", x, ("B", weight.shape[0]), dtype=weight.dtype, match=("weight", weight))


def check_channels(subject: str, x: Array, name: str, per_channel: Array) -> None:
    """Check a layer's input: (B, ..., C) of the dtype of an array (C,), whose name is given, too.

    Raises:
        DTypeError, ShapeError: As ``check_array`` says it.
    """
    if type(x) not in ARRAY_TYPES or x.ndim < 2 or x.shape[-1] != len(per_channel) or x.dtype != per_channel.dtype:
        pattern = ("B", "...", len(per_channel))
        check_array(subject, "x", x, pattern, dtype=per_channel.dtype, match=(name, per_channel))


def check_row_shape(
    subject: str, shape: tuple[int, ...], pattern: Pattern, match: tuple[str, Array] | None = None
) -> None:
    """Check the shape of a row, as ``check_array`` checks the batch.

    Raises:
        ShapeError: If the row has another shape.
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
    for size, wanted in zip(shape, pattern, strict=True):  # all() would cost more than the check
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
    masked = hasattr(value, "filled")  # asarray would lose the mask
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
    """Check that labels are ``count`` class ids from 0 to ``classes`` - 1 (None: any number of classes).

    Raises:
        DTypeError: If they are no plain array of integers.
        ShapeError: If they are not one label a row.
        LabelError: If one is out of range; says which.
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
        wanted = f"({count},), one class id a row"
        raise ShapeError(f"{name} must have shape {wanted}, got {ids.shape}{fix}", subject=subject)
    if ids.dtype.kind not in "iu":
        raise DTypeError(f"{name} must be integer class ids, got {ids.dtype}", subject=subject)
    # As an unsigned number a negative label is a large one: one pass finds both ends.
    unsigned = ids.view(_unsigned(ids.dtype))
    if count and np.maximum.reduce(unsigned) >= (1 << (8 * ids.itemsize - 1) if classes is None else classes):
        bad = (ids < 0) | (ids >= (classes if classes is not None else np.inf))
        first = int(bad.argmax())
        span = f"in 0..{classes - 1}" if classes is not None else "0 or more"
        raise LabelError(f"{name} must be {span}, got {name}[{first}] = {ids[first]}", subject=subject)


def check_weight(subject: str, weight: Array, count: int) -> None:
    """Check that weights of examples are ``count`` floats, finite, 0 or more, and not all 0.

    Raises:
        ShapeError, DTypeError, NonFiniteError, ConfigError: Says which and where.
    """
    check_array(subject, "weight", weight, (count,))
    check_finite(subject, "weight", weight)
    if (weight < 0).any():
        first = int((weight < 0).argmax())
        raise ConfigError(f"weight must be 0 or more, got weight[{first}] = {weight[first]}", subject=subject)
    if not weight.any():
        raise ConfigError("weight must have a number above 0, got only 0", subject=subject)


@lru_cache(maxsize=16)
def _unsigned(dtype: np.dtype[np.integer]) -> np.dtype[np.unsignedinteger]:
    """The unsigned integers of this size and byte order."""
    return np.dtype(dtype.str.replace("i", "u"))


def check_net_output(subject: str, x: Array, y: Array) -> None:
    """Check that what a combinator's inner network makes of x has x's shape and dtype.

    Raises:
        ShapeError, DTypeError: If it has not.
    """
    check_array(subject, "net(x)", y, x.shape, dtype=x.dtype, match=("x", x))


def check_finite(subject: str, name: str, array: NDArray[np.number]) -> None:
    """Check that no element is NaN or infinite.

    Raises:
        NonFiniteError: Names the first such element.
    """
    for start in range(0, len(array), FINITE_ROWS):
        finite = np.isfinite(array[start : start + FINITE_ROWS])
        if not finite.all():
            row, *rest = np.unravel_index(int(finite.argmin()), finite.shape)
            index = (int(row) + start, *map(int, rest))
            where = ", ".join(map(str, index))
            raise NonFiniteError(f"{name} must be finite, got {name}[{where}] = {array[index]}", subject=subject)


FINITE_ROWS: Final = 256
