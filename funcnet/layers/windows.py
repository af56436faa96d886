"""Windows over images: the geometry that convolution and pooling share, and the views of what lies in the windows."""

from __future__ import annotations

from typing import Literal, TypeAlias, TypeVar, cast

import numpy as np
from attrs import frozen

from funcnet.core.arrays import Array
from funcnet.core.checks import MOST_PIXELS
from funcnet.core.errors import ConfigError, ShapeError

S = TypeVar("S")

Pair: TypeAlias = int | tuple[int, int]
"""A number for rows and one for columns; an int stands for both."""

Sides: TypeAlias = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]
"""How many pixels are added on an image's sides."""

Padding: TypeAlias = Literal["same", "valid"] | Sides
"""What is added around an image: ``"valid"`` nothing, an int on every side, a pair (rows, columns) on both sides of
each, ``((top, bottom), (left, right))``; ``"same"`` so much that there is a window for every ``stride`` pixels."""


@frozen(eq=False)
class Axis:
    """How windows lie along an image's rows or columns: so many, each of ``size`` pixels ``dilation`` apart.

    They begin ``stride`` pixels apart, in an axis of ``length`` pixels with ``before`` and ``after`` added.
    """

    size: int
    stride: int
    dilation: int
    length: int
    before: int
    after: int
    count: int

    @property
    def padded(self) -> int:
        """The axis' length with what is added."""
        return self.before + self.length + self.after

    @property
    def inside(self) -> slice:
        """Where the image's own pixels lie in the padded axis."""
        return slice(self.before, self.before + self.length)

    def at(self, position: int) -> slice:
        """Which pixels of the padded axis stand at this position in their windows."""
        first = position * self.dilation
        return slice(first, first + self.stride * (self.count - 1) + 1, self.stride)

    def own(self) -> list[int]:
        """How many of each window's pixels are the image's own."""
        starts = (window * self.stride - self.before for window in range(self.count))
        reach = range(0, self.size * self.dilation, self.dilation)
        return [sum(0 <= start + offset < self.length for offset in reach) for start in starts]


"""The most pixels that a setting may count: beyond it, the size of a padded batch could be beyond what NumPy counts."""

Axes: TypeAlias = tuple[Axis, Axis]
"""Rows and columns."""


def axes_of(
    subject: str,
    shape: tuple[int, ...],
    size: Pair,
    *,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
) -> Axes:
    """The windows of a size over images of a shape (H, W, ...).

    Raises:
        ShapeError: If a window is larger than the padded image.

    Example:
        >>> rows, columns = axes_of("Conv2D", (28, 14), 5, stride=(1, 2), padding="same")
        >>> rows.count, rows.before, rows.after, columns.count, columns.before, columns.after
        (28, 2, 2, 7, 1, 2)
    """
    axes: list[Axis] = []
    for i, name in enumerate("HW"):
        length, pixels, step, apart = shape[i], pair(size)[i], pair(stride)[i], pair(dilation)[i]
        reach = (pixels - 1) * apart + 1
        if padding == "same":
            added = max((-(-length // step) - 1) * step + reach - length, 0)
            before, after = added // 2, added - added // 2
        else:
            before, after = (0, 0) if padding == "valid" else _sides(padding)[i]
        count = (before + length + after - reach) // step + 1
        if length < 1 or count < 1:
            raise _too_small(subject, f"{name} = {length}", before + after, reach)
        axes.append(Axis(pixels, step, apart, length, before, after, count))
    return axes[0], axes[1]


def _too_small(subject: str, given: str, added: int, reach: int) -> ShapeError:
    padding = f" and {added} of padding" if added else ""
    fix = "use a smaller window, or padding='same'"
    message = f"x must have room for a window that reaches over {reach}, got {given}{padding}; {fix}"
    return ShapeError(message, subject=subject)


def pair(value: Pair) -> tuple[int, int]:
    """The number for rows and the one for columns."""
    rows, columns = value if isinstance(value, tuple) else (value, value)
    return int(rows), int(columns)  # NumPy's small ints would overflow


def plain(value: S) -> S:
    """A setting with Python's ints where it has NumPy's, which have another fingerprint."""
    if isinstance(value, tuple):
        return cast("S", tuple(plain(part) for part in cast("tuple[object, ...]", value)))
    return cast("S", int(cast("int", value))) if isinstance(value, np.integer) else value


def _sides(padding: Sides) -> tuple[tuple[int, int], tuple[int, int]]:
    """Those of rows and those of columns."""
    rows, columns = padding if isinstance(padding, tuple) else (padding, padding)
    return pair(rows), pair(columns)


# ------------------------------------------------------------------------------------------------- settings


def check_pair(subject: str, name: str, value: object) -> None:
    """Check that a setting is an int of at least 1 or a pair of them.

    Raises:
        ConfigError: Says what it got; a number above MOST_PIXELS is refused, too.

    Example:
        >>> check_pair("MaxPool2D", "window", 0)
        Traceback (most recent call last):
        funcnet.ConfigError: MaxPool2D: window must be an int of at least 1 or a pair of them, got 0
    """
    if not (_is_count(value, 1) or _is_pair(value, 1)):
        raise ConfigError(f"{name} must be an int of at least 1 or a pair of them, got {value!r}", subject=subject)
    _check_size(subject, name, value)


def check_padding(subject: str, padding: object, *, below: Pair | None = None) -> None:
    """Check that a padding has one of its forms, and is below the numbers of a pair, if there is one.

    Raises:
        ConfigError: Says the forms and what it got; a number above MOST_PIXELS is refused, too.

    Example:
        >>> check_padding("MaxPool2D", 2, below=2)
        Traceback (most recent call last):
        funcnet.ConfigError: MaxPool2D: padding must be smaller than the window, got 2
    """
    if isinstance(padding, str) and padding in ("same", "valid"):
        return
    parts = cast("tuple[object, ...]", padding) if isinstance(padding, tuple) else (padding, padding)
    if len(parts) != 2 or not (all(_is_count(part, 0) for part in parts) or all(_is_pair(part, 0) for part in parts)):
        forms = "'same', 'valid', an int of at least 0, a pair (rows, columns) or ((top, bottom), (left, right))"
        raise ConfigError(f"padding must be {forms}, got {padding!r}", subject=subject)
    for part in parts:
        _check_size(subject, "padding", part)
    if below is not None:
        (rows, columns), (height, width) = _sides(cast("Sides", padding)), pair(below)
        if max(rows) >= height or max(columns) >= width:
            raise ConfigError(f"padding must be smaller than the window, got {padding!r}", subject=subject)


def _check_size(subject: str, name: str, value: object) -> None:
    """Check that no number, of one or of a pair, is larger than any image."""
    numbers = cast("tuple[int, ...]", value if isinstance(value, tuple) else (value,))
    if max(numbers) > MOST_PIXELS:
        raise ConfigError(f"{name} must be at most {MOST_PIXELS}, got {value!r}", subject=subject)


def _is_pair(value: object, low: int) -> bool:
    parts = cast("tuple[object, ...]", value) if isinstance(value, tuple) else ()
    return len(parts) == 2 and all(_is_count(part, low) for part in parts)


def _is_count(value: object, low: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(cast("int", value)) >= low


# ---------------------------------------------------------------------------------------------------- views


def is_padded(axes: Axes) -> bool:
    """Whether anything is added to the images."""
    return any(axis.before or axis.after for axis in axes)


def padded(x: Array, axes: Axes, fill: float = 0.0) -> Array:
    """The images with what is added; x itself if nothing is. Shapes: (B, H, W, C)."""
    if not is_padded(axes):
        return x
    image = np.full_like(x, fill, shape=(len(x), axes[0].padded, axes[1].padded, x.shape[3]))
    inside(image, axes)[...] = x
    return image


def inside(image: Array, axes: Axes) -> Array:
    """The images' own pixels. Shapes: (N, H, W, N) with padding and without."""
    return image[:, axes[0].inside, axes[1].inside]


def in_windows(image: Array, axes: Axes) -> list[Array]:
    """For each position in a window, by rows, the pixels of all windows there. Shapes: (N, H, W, N), (N, OH, OW, N)."""
    rows, columns = axes
    return [image[:, rows.at(i), columns.at(j)] for i in range(rows.size) for j in range(columns.size)]
